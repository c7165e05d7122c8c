package jsonschema

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// value writes a decoded value as if it had been scanned, under the same bounds.
func (r *run) value(v any) *Error {
	if len(r.cells) >= r.prog.limits.MaxValues {
		return malformed("size", "at most "+strconv.Itoa(r.prog.limits.MaxValues)+" values are taken")
	}
	start := len(r.out)
	switch t := v.(type) {
	case nil:
		r.out = append(r.out, "null"...)
		r.scalar(kindNull, 0, start, len(r.out))
	case bool:
		r.out = strconv.AppendBool(r.out, t)
		r.scalar(kindBool, map[bool]uint8{true: flagTrue}[t], start, len(r.out))
	case string:
		return r.stringValue(t)
	case int:
		return r.intValue(int64(t))
	case int64:
		return r.intValue(t)
	case float64:
		if math.IsNaN(t) || math.IsInf(t, 0) {
			return malformed("number", "must be a number")
		}
		if t == math.Trunc(t) && math.Abs(t) < 1<<53 {
			return r.intValue(int64(t)) // 100, not 1e+02: draft 4 goes by the literal
		}
		return r.numberValue(strconv.FormatFloat(t, 'g', -1, 64))
	case []any:
		return r.arrayValue(t)
	case map[string]any:
		return r.objectValue(t)
	default:
		lit, err := numberLiteral(v)
		if err != nil {
			return malformed("number", "must be a JSON value")
		}
		return r.numberValue(lit)
	}
	return nil
}

func (r *run) intValue(v int64) *Error {
	start := len(r.out)
	r.out = strconv.AppendInt(r.out, v, 10)
	r.scalar(kindNumber, flagInteger, start, len(r.out))
	return nil
}

func (r *run) numberValue(lit string) *Error {
	src := []byte(lit)
	r.from = 0
	i, fault := r.scanNumber(src, 0)
	r.flush(src, i)
	if fault == nil && i != len(lit) {
		fault = malformed("number", "must be a number")
	}
	return fault
}

func (r *run) stringValue(s string) *Error {
	if !utf8.ValidString(s) {
		return malformed("invalid_utf8", "must be UTF-8 (RFC 3629)")
	}
	start := len(r.out)
	r.out = appendString(r.out, s)
	flag := flagASCII
	for i := range len(s) {
		switch c := s[i]; {
		case c >= utf8.RuneSelf:
			flag &^= flagASCII
		case c < 0x20 || c == '"' || c == '\\':
			flag |= flagEscaped
		}
	}
	r.scalar(kindString, flag, start+1, len(r.out)-1)
	return nil
}

func (r *run) arrayValue(items []any) *Error {
	lim := &r.prog.limits
	if len(r.stack) >= lim.MaxDepth || len(items) > lim.MaxItems {
		return malformed("size", "the value is nested too deep or too long")
	}
	r.open(kindArray, len(r.out))
	top := len(r.cells) - 1
	r.out = append(r.out, '[')
	for i, it := range items {
		if i > 0 {
			r.out = append(r.out, ',')
		}
		if fault := r.value(it); fault != nil {
			return fault
		}
	}
	r.cells[top].n = int32(len(items))
	r.out = append(r.out, ']')
	return r.seal(len(r.out))
}

func (r *run) objectValue(m map[string]any) *Error {
	lim := &r.prog.limits
	if len(r.stack) >= lim.MaxDepth || len(m) > lim.MaxMembers {
		return malformed("size", "the value is nested too deep or too long")
	}
	r.open(kindObject, len(r.out))
	top := len(r.cells) - 1
	r.out = append(r.out, '{')
	for i, name := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			r.out = append(r.out, ',')
		}
		if fault := r.stringValue(name); fault != nil {
			return fault
		}
		r.named()
		r.out = append(r.out, ':')
		if fault := r.value(m[name]); fault != nil {
			return fault
		}
	}
	r.cells[top].n = int32(len(m))
	r.out = append(r.out, '}')
	return r.seal(len(r.out))
}

// appendString writes s canonically, with its quotes.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, rn := range s {
		b = appendEscaped(b, rn)
	}
	return append(b, '"')
}

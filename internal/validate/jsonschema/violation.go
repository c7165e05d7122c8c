package jsonschema

import (
	"strings"
)

// An Error refuses a value.
type Error struct {
	Malformed  bool        // not JSON as this package takes it; false: JSON, but not what the schema takes
	Violations []Violation // at least one, in the order they were met
}

// A Violation is one fault. Detail says what was expected and never holds the
// value; Pointer holds the names of members as the caller sent them.
type Violation struct {
	Pointer string // JSON Pointer (RFC 6901) to the value; "" is the whole
	Keyword string // the schema's keyword, or "syntax", "duplicate_key", "invalid_utf8", "depth", "number", "size", "too_complex"
	Detail  string // one sentence
}

// Error lists the faults.
func (e *Error) Error() string {
	var b strings.Builder
	for i, v := range e.Violations {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteByte('"')
		b.WriteString(v.Pointer)
		b.WriteString(`": `)
		b.WriteString(v.Keyword)
		b.WriteString(": ")
		b.WriteString(v.Detail)
	}
	return b.String()
}

// maxPointer cuts the names a caller can make us repeat.
const maxPointer = 256

// pointer finds the way to cell i from the root. It runs for refusals only, so
// that the way of a good value carries no path.
func (r *run) pointer(i int32) string {
	var b []byte
	defer func(n int) { r.text = r.text[:n] }(len(r.text))
	at := int32(0)
	for at != i && len(b) < maxPointer {
		c := &r.cells[at]
		child, found := at+1, false
		for k := range int(c.n) {
			val := child
			if c.kind == kindObject {
				val++
			}
			if int(val) >= len(r.cells) {
				break // a member that was still being read
			}
			end := r.cells[val].next
			if i < end {
				b = append(b, '/')
				if c.kind == kindObject {
					b = appendPointerToken(b, r.textOf(child))
				} else {
					b = appendInt(b, k)
				}
				at, found = val, true
				if i < val {
					at = i // the member's name itself: point at the member
				}
				break
			}
			child = end
		}
		if !found {
			break
		}
	}
	if len(b) > maxPointer {
		b = append(b[:maxPointer], "..."...)
	}
	return strings.ToValidUTF8(string(b), "")
}

func appendPointerToken(b, name []byte) []byte {
	for _, c := range name {
		switch c {
		case '~':
			b = append(b, "~0"...)
		case '/':
			b = append(b, "~1"...)
		default:
			b = append(b, c)
		}
	}
	return b
}

func appendInt(b []byte, n int) []byte {
	if n >= 10 {
		b = appendInt(b, n/10)
	}
	return append(b, byte('0'+n%10))
}

package validate

import (
	"strings"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/validate/jsonschema"
)

// plainly checks what is most common and right: strings, integers and arrays of
// them. Where it is not ok the whole check says what is wrong, if anything is.
func (p *param) plainly(r *raw, wanted bool) (value any, ok bool) {
	switch p.Shape.Kind {
	case gatehouse.StringShape, gatehouse.IntegerShape:
		return takesPlainly(p.schema.compiled, p.Shape.Kind, r.text, wanted)
	case gatehouse.ArrayShape:
		return p.plainList(r, wanted)
	case gatehouse.AnyShape, gatehouse.NumberShape, gatehouse.BooleanShape, gatehouse.ObjectShape:
	}
	return nil, false
}

func takesPlainly(s *jsonschema.Schema, kind gatehouse.ShapeKind, text string, wanted bool) (value any, ok bool) {
	if kind == gatehouse.StringShape {
		if ok = s.TakesString(text); ok && wanted {
			value = text
		}
		return value, ok
	}
	i, ok := parseInteger(text)
	if ok = ok && s.TakesInteger(i); ok && wanted {
		value = i
	}
	return value, ok
}

func (p *param) plainList(r *raw, wanted bool) (value any, ok bool) {
	kind := itemsOf(p.Shape).Kind
	if kind != gatehouse.StringShape && kind != gatehouse.IntegerShape {
		return nil, false
	}
	count := len(r.list)
	if r.joined {
		count = strings.Count(r.text, string(p.separator())) + 1
	}
	items, ok := p.schema.compiled.TakesItems(count)
	if !ok {
		return nil, false
	}
	var values []any
	if wanted {
		values = make([]any, count)
	}
	rest := r.text
	for i := range count {
		var one string
		if !r.joined {
			one = r.list[i]
		} else if one, rest, _ = strings.Cut(rest, string(p.separator())); p.In == inHeader {
			one = strings.Trim(one, " \t") // RFC 9110 §5.6.1
		}
		v, ok := takesPlainly(&items, kind, one, wanted)
		if !ok {
			return nil, false
		}
		if wanted {
			values[i] = v
		}
	}
	if !wanted {
		return nil, true
	}
	return values, true
}

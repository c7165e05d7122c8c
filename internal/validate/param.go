package validate

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"

	gatehouse "github.com/gatehouse-api/gatehouse"
)

// A style is how a value is written in a parameter (OpenAPI 3.1 §4.8.12.3).
type style uint8

const (
	styleSimple style = iota // a,b
	styleLabel               // .a.b
	styleForm                // name=a&name=b, or name=a,b
	styleSpace               // name=a%20b
	stylePipe                // name=a%7Cb
	styleDeep                // name[field]=a
)

// maxElements bounds the elements of one array or object parameter.
const maxElements = 256

// A param is one compiled parameter. It is shared by all operations that refer
// to it and read-only.
type param struct {
	gatehouse.Param
	header     string // canonical name of a header parameter
	style      style
	explode    bool
	allowEmpty bool // allowEmptyValue
	json       bool // content: application/json
	schema     *schema
}

// separator is what stands between the elements of a value that is not exploded.
func (p *param) separator() byte {
	switch p.style {
	case styleSpace:
		return ' '
	case stylePipe:
		return '|'
	case styleLabel:
		if p.explode {
			return '.'
		}
	case styleSimple, styleForm, styleDeep:
	}
	return ','
}

// appendValue writes a decoded query value back so that it has one reading: its
// separators are the only ones, whether the service splits before it decodes or
// after. The separator of an array can therefore not be part of an element.
func (p *param) appendValue(dst []byte, s string) []byte {
	if p.json || p.style != styleForm || p.explode || p.Shape.Kind != gatehouse.ArrayShape && p.Shape.Kind != gatehouse.ObjectShape {
		return appendQuery(dst, s)
	}
	for i := 0; ; i++ {
		one, rest, more := strings.Cut(s, ",")
		dst = appendQuery(dst, one)
		if !more {
			return dst
		}
		dst, s = append(dst, ','), rest
	}
}

// A raw is what a request gives for one parameter, before types.
type raw struct {
	set    bool
	joined bool     // text is an array, which nobody has split
	text   string   // of a scalar
	list   []string // of an array
	fields []pair   // of an object
}

// gather splits one occurrence of a parameter. It reports false for a second
// occurrence of what may come once.
func (p *param) gather(r *raw, s string) bool {
	if p.Shape.Kind == gatehouse.ArrayShape && !p.json && p.style == styleForm && p.explode && p.In == inQuery {
		r.set = true
		if len(r.list) >= maxElements {
			return false
		}
		r.list = append(r.list, s)
		return true
	}
	if r.set {
		return false
	}
	r.set = true
	switch {
	case p.json:
		r.text = s
	case p.Shape.Kind == gatehouse.ArrayShape:
		if strings.Count(s, string(p.separator())) >= maxElements {
			return false
		}
		r.text, r.joined = s, true
	case p.Shape.Kind == gatehouse.ObjectShape:
		return p.gatherObject(r, s)
	default:
		r.text = s
	}
	return true
}

func (p *param) split(s string) []string {
	list := strings.Split(s, string(p.separator()))
	if p.In == inHeader {
		for i := range list {
			list[i] = strings.Trim(list[i], " \t") // RFC 9110 §5.6.1
		}
	}
	return list
}

// gatherObject reads "role,admin,name,Alex", or "role=admin,name=Alex" if exploded.
func (p *param) gatherObject(r *raw, s string) bool {
	if strings.Count(s, string(p.separator())) >= 2*maxElements {
		return false
	}
	list := p.split(s)
	if p.explode {
		for _, e := range list {
			name, value, ok := strings.Cut(e, "=")
			if !ok {
				return false
			}
			r.fields = append(r.fields, pair{name: name, value: value})
		}
		return true
	}
	if len(list)%2 != 0 {
		return false
	}
	for c := range slices.Chunk(list, 2) {
		r.fields = append(r.fields, pair{name: c[0], value: c[1]})
	}
	return true
}

// check types and validates what was gathered and notes what is wrong. It gives
// the value if it is wanted.
func (p *param) check(r *raw, wanted bool, f *faults) any {
	if !r.set {
		if p.Required {
			f.add(p.In, p.Name, ruleRequired, "The parameter is required.")
		}
		return nil
	}
	if p.allowEmpty && r.text == "" && !r.joined && r.list == nil && r.fields == nil {
		return nil
	}
	if p.json {
		return p.checkJSON(r, f)
	}
	if value, ok := p.plainly(r, wanted); ok {
		return value
	}
	if r.joined {
		r.list = p.split(r.text)
	}
	var err error
	// A schema without one type takes the text as it is; only if it refuses that,
	// as the number or boolean it spells.
	for _, guess := range [...]bool{false, true} {
		c := coercion{guess: guess}
		value, plain, ok := c.value(p.Shape, r)
		if !ok {
			f.addSyntax(p.In, p.Name, c.rule, c.detail)
			return nil
		}
		if err = p.schema.validateValue(plain); err == nil {
			return value
		}
		if !c.any {
			break
		}
	}
	f.schema(p.In, p.Name, err)
	return nil
}

// checkJSON validates a parameter whose content is JSON. Its value is the
// canonical text: what is checked, what rules see and what goes on are one.
func (p *param) checkJSON(r *raw, f *faults) any {
	out, err := p.schema.appendJSON(nil, []byte(r.text))
	if err != nil {
		f.schema(p.In, p.Name, err)
		return nil
	}
	r.text = string(out)
	return r.text
}

// A coercion turns text into the types of a shape: strictly, with one spelling
// for each value. net/http-style leniency ("1e0", "+1", "007", "TRUE") is read
// differently by the next parser.
type coercion struct {
	guess        bool
	any          bool // some part had no type of its own
	rule, detail string
	name         string // the object's field at fault
}

// value returns the value as rules see it and as the schema compiler reads it;
// the two differ in numbers, which the schema checks exactly.
func (c *coercion) value(s *gatehouse.Shape, r *raw) (value, plain any, ok bool) {
	switch s.Kind {
	case gatehouse.ArrayShape:
		items := itemsOf(s)
		values := make([]any, len(r.list))
		plains := values
		if items.Kind == gatehouse.NumberShape || items.Kind == gatehouse.AnyShape { // nothing else is two different things
			plains = make([]any, len(r.list))
		}
		for i, text := range r.list {
			if values[i], plains[i], ok = c.scalar(items, text); !ok {
				return nil, nil, false
			}
		}
		return values, plains, true
	case gatehouse.ObjectShape:
		return c.object(s, r.fields)
	case gatehouse.AnyShape, gatehouse.StringShape, gatehouse.IntegerShape, gatehouse.NumberShape, gatehouse.BooleanShape:
	}
	return c.scalar(s, r.text)
}

func (c *coercion) object(s *gatehouse.Shape, fields []pair) (value, plain any, ok bool) {
	values, plains := make(map[string]any, len(fields)), make(map[string]any, len(fields))
	for _, p := range fields {
		c.name = p.name
		field := s.Field(p.name)
		if field == nil {
			field = &gatehouse.Shape{}
		}
		old, twice := plains[p.name].([]any)
		list := field.Kind == gatehouse.ArrayShape
		if _, have := plains[p.name]; have && !(list && twice) {
			c.rule, c.detail = ruleDuplicate, "A field is given twice."
			return nil, nil, false
		}
		if list {
			field = itemsOf(field)
		}
		v, q, ok := c.scalar(field, p.value)
		if !ok {
			return nil, nil, false
		}
		if list {
			oldValues, _ := values[p.name].([]any)
			v, q = append(oldValues, v), append(old, q)
		}
		values[p.name], plains[p.name] = v, q
	}
	return values, plains, true
}

func itemsOf(s *gatehouse.Shape) *gatehouse.Shape {
	if s.Items == nil {
		return &gatehouse.Shape{}
	}
	return s.Items
}

func (c *coercion) scalar(s *gatehouse.Shape, text string) (value, plain any, ok bool) {
	switch s.Kind {
	case gatehouse.IntegerShape:
		if i, ok := parseInteger(text); ok {
			return i, i, true
		}
		c.rule, c.detail = ruleType, "Expected an integer in plain decimal digits, within 64 bits."
		return nil, nil, false
	case gatehouse.NumberShape:
		if x, n, ok := parseNumber(text); ok {
			return x, n, true
		}
		c.rule, c.detail = ruleType, "Expected a number as JSON writes it."
		return nil, nil, false
	case gatehouse.BooleanShape:
		if text == "true" || text == "false" {
			return text == "true", text == "true", true
		}
		c.rule, c.detail = ruleType, "Expected true or false."
		return nil, nil, false
	case gatehouse.ArrayShape, gatehouse.ObjectShape:
		c.rule, c.detail = ruleType, "A value inside a value cannot be written in a parameter."
		return nil, nil, false
	case gatehouse.AnyShape:
		c.any = true
		if c.guess {
			return guess(text)
		}
	case gatehouse.StringShape:
	}
	var v any = text
	return v, v, true
}

func guess(text string) (value, plain any, ok bool) {
	if text == "true" || text == "false" {
		return text == "true", text == "true", true
	}
	if i, ok := parseInteger(text); ok {
		return i, i, true
	}
	if x, n, ok := parseNumber(text); ok {
		return x, n, true
	}
	return text, text, true
}

// parseInteger takes -?(0|[1-9][0-9]*) within 64 bits, and no "-0".
func parseInteger(s string) (int64, bool) {
	digits := strings.TrimPrefix(s, "-")
	if digits == "" || len(s) > 20 || digits[0] == '0' && s != "0" {
		return 0, false
	}
	for i := range len(digits) {
		if digits[i] < '0' || digits[i] > '9' {
			return 0, false
		}
	}
	i, err := strconv.ParseInt(s, 10, 64)
	return i, err == nil
}

// parseNumber takes a JSON number of at most 40 characters that a float64 can
// hold. The bound comes first: `1e1000000` costs exact arithmetic 47 ms.
func parseNumber(s string) (float64, json.Number, bool) {
	if s == "" || len(s) > 40 || s[0] != '-' && (s[0] < '0' || s[0] > '9') || !json.Valid([]byte(s)) {
		return 0, "", false
	}
	x, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsInf(x, 0) || x == 0 && strings.Trim(s, "-0.eE+") != "" && !zeroMantissa(s) {
		return 0, "", false
	}
	return x, json.Number(s), true
}

// zeroMantissa tells 0e5 from 1e-999, which only looks like zero.
func zeroMantissa(s string) bool {
	mantissa, _, _ := strings.Cut(strings.ToLower(s), "e")
	return strings.Trim(mantissa, "-0.") == ""
}

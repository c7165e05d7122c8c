package scim

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxFilter = 8 << 10 // bytes
	maxDepth  = 16      // brackets within brackets
	maxTerms  = 64      // comparisons
)

// A filter decides about a resource, or one value of a multi-valued attribute
// (RFC 7644 §3.4.2.2).
type filter interface {
	match(resource map[string]any) bool
}

type (
	both   struct{ a, b filter }
	either struct{ a, b filter }
	not    struct{ f filter }
)

func (f both) match(r map[string]any) bool   { return f.a.match(r) && f.b.match(r) }
func (f either) match(r map[string]any) bool { return f.a.match(r) || f.b.match(r) }
func (f not) match(r map[string]any) bool    { return !f.f.match(r) }

// A comparison is of one attribute; where is set when only the values that match
// it count: emails[type eq "work"].value.
type comparison struct {
	at    place
	where filter
	op    string // lower-case; "pr" compares with nothing
	value any    // nil, bool, string or time.Time
}

// A valuePath matches when one value of a multi-valued attribute does.
type valuePath struct {
	at    place
	where filter
}

func (f valuePath) match(r map[string]any) bool {
	for _, v := range f.at.values(r) {
		if m, ok := v.(map[string]any); ok && f.where.match(m) {
			return true
		}
	}
	return false
}

// values returns what lies at the attribute of p: one, several or no value.
func (p place) values(r map[string]any) []any {
	switch v := p.in(r)[p.attr.name].(type) {
	case nil:
		return nil
	case []any:
		return v
	default:
		return []any{v}
	}
}

func (f comparison) match(r map[string]any) bool {
	leaf, sub := f.at.leaf(), f.at.sub
	assigned := false
	for _, v := range f.at.values(r) {
		if m, ok := v.(map[string]any); ok {
			if f.where != nil && !f.where.match(m) {
				continue
			}
			if sub != nil {
				v = m[sub.name]
			} else if leaf.kind == complexKind {
				if f.op == "pr" {
					return true
				}
				v = m["value"] // RFC 7643 §2.4: the value of a multi-valued attribute
			}
		}
		if v == nil {
			continue
		}
		assigned = true
		if f.compare(leaf, v) {
			return true
		}
	}
	if assigned {
		return false
	}
	return f.op == "eq" && f.value == nil || f.op == "ne" && f.value != nil // nothing is not something
}

func (f comparison) compare(leaf *attribute, v any) bool {
	if f.op == "pr" {
		return true
	}
	switch want := f.value.(type) {
	case nil:
		return f.op == "ne"
	case bool:
		return (v == want) == (f.op == "eq")
	case time.Time:
		s, _ := v.(string)
		t, err := time.Parse(time.RFC3339Nano, s)
		return err == nil && ordered(f.op, t.Compare(want))
	case string:
		s, ok := v.(string)
		if !ok {
			return false
		}
		if !leaf.exact {
			s, want = strings.ToLower(s), strings.ToLower(want)
		}
		switch f.op {
		case "co":
			return strings.Contains(s, want)
		case "sw":
			return strings.HasPrefix(s, want)
		case "ew":
			return strings.HasSuffix(s, want)
		}
		return ordered(f.op, strings.Compare(s, want))
	}
	return false
}

func ordered(op string, c int) bool {
	switch op {
	case "eq":
		return c == 0
	case "ne":
		return c != 0
	case "gt":
		return c > 0
	case "ge":
		return c >= 0
	case "lt":
		return c < 0
	case "le":
		return c <= 0
	}
	return false
}

// equals returns the text that f wants place name to be equal to, for all that it
// matches: the database is asked for that first.
func equals(f filter, name string) (string, bool) {
	switch f := f.(type) {
	case both:
		if v, ok := equals(f.a, name); ok {
			return v, true
		}
		return equals(f.b, name)
	case comparison:
		at := f.at.attr.name
		if f.at.sub != nil {
			at += "." + f.at.sub.name
		}
		if s, ok := f.value.(string); ok && f.op == "eq" && f.where == nil && f.at.extension == "" && at == name {
			return s, true
		}
	}
	return "", false
}

// A parser reads filters and paths, which strangers write.
type parser struct {
	rt    *resourceType
	in    string
	pos   int
	depth int
	terms int
	sub   *attribute // inside value brackets: names are of its sub-attributes
}

// parseFilter reads a whole filter, or returns an invalidFilter fault.
func (rt *resourceType) parseFilter(s string) (filter, error) {
	if len(s) > maxFilter || !utf8.ValidString(s) {
		return nil, bad("invalidFilter", "A filter is a text of at most %d bytes.", maxFilter)
	}
	p := &parser{rt: rt, in: s}
	f, err := p.or()
	if err != nil {
		return nil, err
	}
	if p.space(); p.pos != len(p.in) {
		return nil, p.fail("an operator or the end")
	}
	return f, nil
}

func (p *parser) fail(want string) error {
	return bad("invalidFilter", "Position %d of the filter or path: %s was expected.", p.pos+1, want)
}

func (p *parser) space() {
	for p.pos < len(p.in) && p.in[p.pos] == ' ' {
		p.pos++
	}
}

// word reads a keyword, whatever its case, when it comes next.
func (p *parser) word(w string) bool {
	p.space()
	end := p.pos + len(w)
	if end > len(p.in) || !strings.EqualFold(p.in[p.pos:end], w) || end < len(p.in) && nameByte(p.in[end]) {
		return false
	}
	p.pos = end
	return true
}

func (p *parser) sign(c byte) bool {
	p.space()
	if p.pos < len(p.in) && p.in[p.pos] == c {
		p.pos++
		return true
	}
	return false
}

func (p *parser) or() (filter, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, bad("invalidFilter", "A filter has at most %d levels.", maxDepth)
	}
	defer func() { p.depth-- }()
	f, err := p.and()
	for err == nil && p.word("or") {
		var g filter
		if g, err = p.and(); err == nil {
			f = either{f, g}
		}
	}
	return f, err
}

func (p *parser) and() (filter, error) {
	f, err := p.term()
	for err == nil && p.word("and") {
		var g filter
		if g, err = p.term(); err == nil {
			f = both{f, g}
		}
	}
	return f, err
}

func (p *parser) term() (filter, error) {
	if p.terms++; p.terms > maxTerms {
		return nil, bad("invalidFilter", "A filter has at most %d terms.", maxTerms)
	}
	before := p.pos
	negated := p.word("not")
	if negated && !p.sign('(') {
		p.pos = before // an attribute of that name, which there is not
	} else if negated || p.sign('(') {
		f, err := p.or()
		if err != nil {
			return nil, err
		}
		if !p.sign(')') {
			return nil, p.fail("a closing bracket")
		}
		if negated {
			f = not{f}
		}
		return f, nil
	}
	at, err := p.place()
	if err != nil {
		return nil, err
	}
	if p.pos < len(p.in) && p.in[p.pos] == '[' {
		where, sub, err := p.brackets(at)
		if err != nil || sub == nil {
			return valuePath{at, where}, err
		}
		at.sub = sub
		return p.comparison(at, where)
	}
	return p.comparison(at, nil)
}

// brackets reads [filter] and, after it, .sub.
func (p *parser) brackets(at place) (where filter, sub *attribute, err error) {
	if p.sub != nil || at.attr == nil || at.sub != nil || !at.attr.many || at.attr.kind != complexKind {
		return nil, nil, p.fail("no value filter") // of something that has no values, or in another one
	}
	p.pos++
	p.sub = at.attr
	where, err = p.or()
	p.sub = nil
	if err != nil {
		return nil, nil, err
	}
	if !p.sign(']') {
		return nil, nil, p.fail("]")
	}
	if p.pos < len(p.in) && p.in[p.pos] == '.' {
		p.pos++
		if sub = find(at.attr.sub, p.name()); sub == nil {
			return nil, nil, p.fail("a sub-attribute")
		}
	}
	return where, sub, nil
}

func nameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '$' || c == '.' || c == ':'
}

func (p *parser) name() string {
	p.space()
	start := p.pos
	for p.pos < len(p.in) && nameByte(p.in[p.pos]) {
		p.pos++
	}
	return p.in[start:p.pos]
}

// place reads the name of an attribute. A password can not be asked for: the
// answers would tell it letter by letter.
func (p *parser) place() (place, error) {
	name := p.name()
	if p.sub != nil {
		if a := find(p.sub.sub, name); a != nil {
			return place{attr: a}, nil
		}
		return place{}, p.fail("a sub-attribute of " + p.sub.name)
	}
	at, ok := p.rt.place(name)
	if !ok || at.attr != nil && at.attr.writeOnly {
		return place{}, p.fail("an attribute of " + p.rt.name)
	}
	return at, nil
}

var operators = []string{"eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le"}

func (p *parser) comparison(at place, where filter) (filter, error) {
	if at.attr == nil {
		return nil, p.fail("an attribute, not a whole schema")
	}
	f := comparison{at: at, where: where}
	if p.word("pr") {
		f.op = "pr"
		return f, nil
	}
	i := slices.IndexFunc(operators, p.word)
	if i < 0 {
		return nil, p.fail("an operator")
	}
	f.op = operators[i]
	var err error
	if f.value, err = p.literal(); err != nil {
		return nil, err
	}
	return f, p.fits(&f)
}

// fits brings the value to the attribute's type, and refuses what can not be compared.
func (p *parser) fits(f *comparison) error {
	leaf := f.at.leaf()
	if leaf.kind == complexKind {
		if leaf = find(leaf.sub, "value"); leaf == nil {
			return p.fail("a sub-attribute of " + f.at.leaf().name)
		}
	}
	order := f.op != "eq" && f.op != "ne"
	switch want := f.value.(type) {
	case nil:
		if !order {
			return nil
		}
	case bool:
		if leaf.kind == boolean && !order {
			return nil
		}
	case string:
		switch leaf.kind {
		case boolean:
			if v, err := leaf.one(want); err == nil && !order {
				f.value = v
				return nil
			}
		case moment:
			t, err := time.Parse(time.RFC3339Nano, want)
			if err == nil && f.op != "co" && f.op != "sw" && f.op != "ew" {
				f.value = t
				return nil
			}
		default:
			return nil
		}
	}
	return p.fail("a value that " + leaf.name + " can be compared with by " + f.op)
}

// literal reads null, true, false or a JSON string.
func (p *parser) literal() (any, error) {
	switch {
	case p.word("null"):
		return nil, nil
	case p.word("true"):
		return true, nil
	case p.word("false"):
		return false, nil
	case !p.sign('"'):
		return nil, p.fail("a value")
	}
	start := p.pos - 1
	for p.pos < len(p.in) && p.in[p.pos] != '"' {
		if p.in[p.pos] == '\\' {
			p.pos++
		}
		p.pos++
	}
	if p.pos >= len(p.in) {
		return nil, p.fail("the end of the text")
	}
	p.pos++
	var s string
	if err := json.Unmarshal([]byte(p.in[start:p.pos]), &s); err != nil {
		return nil, p.fail("a JSON text")
	}
	return s, nil
}

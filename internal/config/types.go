package config

import (
	"iter"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	gatehouse "github.com/gatehouse-api/gatehouse"
)

// A node is a type that reads itself from YAML, and describes itself in the schema.
type node interface {
	decode(d *decoder, n *yaml.Node, at spot)
	schema(s *schemer, at spot) schema
}

// A Size is a number of bytes, written like 512B, 32KiB, 1MiB or 2GiB.
type Size int64

var sizeUnits = [...]struct {
	name string
	of   int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

const sizePattern = `^(0|[1-9][0-9]{0,15})(B|KiB|MiB|GiB)$`

func parseSize(s string) (Size, bool) {
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		v, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || v < 0 || v > math.MaxInt64/u.of || strconv.FormatInt(v, 10) != digits {
			return 0, false
		}
		return Size(v * u.of), true
	}
	return 0, false
}

// String writes s in its largest whole unit.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s != 0 && int64(s)%u.of == 0 {
			return strconv.FormatInt(int64(s)/u.of, 10) + u.name
		}
	}
	return "0B"
}

// A Path names a file or folder. Relative ones are relative to the file that
// names them.
type Path struct {
	Value string // absolute, cleaned
	Place Place
}

// String gives the path.
func (p Path) String() string { return p.Value }

// Name gives the path, "" where the config names none.
func (p *Path) Name() string {
	if p == nil {
		return ""
	}
	return p.Value
}

func (p *Path) decode(d *decoder, n *yaml.Node, at spot) {
	s, ok := d.text(n, at)
	if !ok {
		return
	}
	if strings.ContainsFunc(s, isControl) {
		d.errorf(n, "%s: a path holds no control characters", at)
		return
	}
	if !filepath.IsAbs(s) {
		s = filepath.Join(d.dir, s)
		switch {
		case !d.pushed:
		case at.tag.Get("carried") == "":
			d.stays(n, at, "what it names")
		default:
			d.carried = append(d.carried, s)
		}
	}
	*p = Path{filepath.Clean(s), d.place(n)}
}

// A Secret is read from the file it names, written ${file:/path}: the config
// itself may be shown, compared and committed.
type Secret struct {
	gatehouse.Secret

	File  string // where it was read
	Place Place
}

func (s *Secret) decode(d *decoder, n *yaml.Node, at spot) {
	if n.Kind != yaml.ScalarNode || !strings.HasPrefix(n.Value, "${file:") || !strings.HasSuffix(n.Value, "}") {
		// What stands here may be the secret itself: it is not repeated.
		d.errorf(n, "%s: a secret is not written here; put it into a file of its own and write ${file:/path/to/it}", at)
		return
	}
	name := strings.TrimSuffix(strings.TrimPrefix(n.Value, "${file:"), "}")
	if !filepath.IsAbs(name) {
		if d.pushed {
			d.stays(n, at, "a secret")
			return
		}
		name = filepath.Join(d.dir, name)
	}
	value, err := d.disk.secret(name)
	if err != nil {
		d.errorf(n, "%s: cannot read the secret: %v", at, err)
		return
	}
	*s = Secret{gatehouse.NewSecret(value), name, d.place(n)}
}

// same reports whether two secrets are the same; nil is none.
func (s *Secret) same(o *Secret) bool {
	return s == o || s != nil && o != nil && s.Equal(o.Reveal())
}

// OneOrMany is a list that may be written as a single text.
type OneOrMany []Text

func (o *OneOrMany) decode(d *decoder, n *yaml.Node, at spot) {
	for here, item := range d.oneOrMany(n, at) {
		if s, ok := d.text(item, here); ok {
			*o = append(*o, Text{s, d.place(item)})
		}
	}
	d.distinct(*o, at)
}

// oneOrMany gives the elements of a list, or what is written in its place.
func (d *decoder) oneOrMany(n *yaml.Node, at spot) iter.Seq2[spot, *yaml.Node] {
	return func(yield func(spot, *yaml.Node) bool) {
		if n.Kind != yaml.SequenceNode {
			yield(at, n)
			return
		}
		d.bounds(n, at, float64(len(n.Content)))
		for i, item := range n.Content {
			if !yield(at.index(i), item) {
				return
			}
		}
	}
}

// RuleNames names rules of the WAF: ids, which are written as numbers, ranges and tags.
type RuleNames OneOrMany

func (r *RuleNames) decode(d *decoder, n *yaml.Node, at spot) {
	named := *n
	items := []*yaml.Node{&named}
	if n.Kind == yaml.SequenceNode {
		named.Content, items = slices.Clone(n.Content), items[:0]
		for i := range named.Content {
			item := *named.Content[i]
			named.Content[i] = &item
			items = append(items, &item)
		}
	}
	for _, item := range items {
		if item.ShortTag() == "!!int" {
			item.Tag = "!!str"
		}
	}
	(*OneOrMany)(r).decode(d, &named, at)
}

// A Role is what it grants and the roles it inherits. A list is short for its grants.
type Role struct {
	Inherits OneOrMany `yaml:"inherits" doc:"Roles whose grants it has too."`
	Grants   OneOrMany `yaml:"grants" format:"grant" doc:"What it may do: noun:verb, noun:* or *."`
	Place    Place     `yaml:"-"`
}

func (r *Role) decode(d *decoder, n *yaml.Node, at spot) {
	if n.Kind == yaml.MappingNode {
		type plain Role
		d.fields((*plain)(r), n, at)
		return
	}
	at.tag = `format:"grant"`
	r.Grants.decode(d, n, at)
}

// AuthnWith is who serves a security scheme of the document: issuers by name,
// the gateway's API keys, client certificates.
type AuthnWith struct {
	Issuers      []Text
	Keys         bool
	Certificates bool
	Place        Place
}

// The words of authenticate that name no issuer.
const (
	withKeys         = "keys"
	withCertificates = "mtls"
)

func (a *AuthnWith) decode(d *decoder, n *yaml.Node, at spot) {
	at.tag = `format:"name" min:"1"`
	var words OneOrMany
	words.decode(d, n, at)
	for _, w := range words {
		switch w.Value {
		case withKeys:
			a.Keys = true
		case withCertificates:
			a.Certificates = true
		default:
			a.Issuers = append(a.Issuers, w)
		}
	}
}

// A Rule is a named CEL expression. Written {id: expression}, or
// {id: {rule: expression, because: sentence}}.
type Rule struct {
	ID      string
	Expr    Text
	Because string
}

// Rules are in the order of the file.
type Rules []Rule

func (r *Rules) decode(d *decoder, n *yaml.Node, at spot) {
	for key, value := range d.entries(n, at, "{id: CEL expression}") {
		here := at.key(key.Value)
		here.tag = ""
		if !d.checkFormat(key, here, "name", key.Value) {
			continue
		}
		rule := Rule{ID: key.Value}
		if value.Kind == yaml.MappingNode {
			var long longRule
			d.fields(&long, value, here)
			rule.Expr, rule.Because = long.Rule, long.Because
		} else if s, ok := d.text(value, here); ok {
			rule.Expr = Text{s, d.place(value)}
		}
		if rule.Expr.Value != "" {
			*r = append(*r, rule)
		}
	}
}

type longRule struct {
	Rule    Text   `yaml:"rule" required:"true" doc:"CEL expression."`
	Because string `yaml:"because" doc:"The reason, in a sentence for the operator."`
}

// An Own says that two values are of the same owner: {path.customerId: claims.sub}.
type Own struct {
	Object Text // of the request: path.customerId
	Owner  Text // of the caller: claims.sub
}

// Owns are in the order of the file; all must hold.
type Owns []Own

func (o *Owns) decode(d *decoder, n *yaml.Node, at spot) {
	for key, value := range d.entries(n, at, "{path.customerId: claims.sub}") {
		here := at.key(key.Value)
		here.tag = ""
		okKey := d.checkFormat(key, here, "object", key.Value)
		s, ok := d.text(value, here)
		if ok && okKey && d.checkFormat(value, here, "owner", s) {
			*o = append(*o, Own{Text{key.Value, d.place(key)}, Text{s, d.place(value)}})
		}
	}
}

// Expect is what a [Test] expects. The zero Expect is nothing and does not load.
type Expect struct {
	Allow  bool // Status is 0
	Deny   bool // Status is 0
	Status int  // HTTP status, when a number was given
}

func (e *Expect) decode(d *decoder, n *yaml.Node, at spot) {
	if n.Kind == yaml.ScalarNode {
		switch n.Value {
		case "allow":
			e.Allow = true
			return
		case "deny":
			e.Deny = true
			return
		}
		if v, ok := decimal(n); ok && v >= 200 && v <= 599 {
			e.Status = int(v)
			return
		}
	}
	d.errorf(n, "%s: expected allow, deny or an HTTP status, found %s", at, describe(n))
}

// A Claim is the type of a claim, as the issuer promises it.
type Claim struct {
	Shape *gatehouse.Shape
	Place Place
}

var claimKinds = map[string]gatehouse.ShapeKind{
	"any": gatehouse.AnyShape, "string": gatehouse.StringShape, "integer": gatehouse.IntegerShape,
	"number": gatehouse.NumberShape, "boolean": gatehouse.BooleanShape,
}

func (c *Claim) decode(d *decoder, n *yaml.Node, at spot) { c.Shape = claimShape(d, n, at) }

func claimShape(d *decoder, n *yaml.Node, at spot) *gatehouse.Shape {
	switch n.Kind {
	case yaml.ScalarNode:
		if kind, ok := claimKinds[n.Value]; ok {
			return &gatehouse.Shape{Kind: kind}
		}
	case yaml.SequenceNode:
		if len(n.Content) == 1 {
			return &gatehouse.Shape{Kind: gatehouse.ArrayShape, Items: claimShape(d, n.Content[0], at.index(0))}
		}
	case yaml.MappingNode:
		s := &gatehouse.Shape{Kind: gatehouse.ObjectShape, Open: true} // issuers add claims as they like
		for key, value := range d.entries(n, at, "{name: type}") {
			s.Fields = append(s.Fields, gatehouse.Field{Name: key.Value, Shape: claimShape(d, value, at.key(key.Value))})
		}
		sortFields(s.Fields)
		return s
	}
	suggestion := ""
	if n.Kind == yaml.ScalarNode {
		suggestion = DidYouMean(n.Value, []string{"any", "string", "integer", "number", "boolean"})
	}
	d.errorf(n, "%s: expected string, integer, number, boolean, any, [type] or {name: type}, found %s%s", at, describe(n), suggestion)
	return &gatehouse.Shape{}
}

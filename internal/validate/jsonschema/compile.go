package jsonschema

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// A Compiler turns documents into schemas. Documents are added first, then any
// number of schemas compiled; schemas reached from several places are shared.
// It is not safe for use by many goroutines at once; its Schemas are.
type Compiler struct {
	opts      Options
	prog      *program
	resources map[string]*resource
	roots     map[place]*resource
	indexed   map[place]bool
	nodes     map[place]*node
	fresh     []*node // compiled by the Compile under way
	warnings  []string
}

// NewCompiler returns an empty Compiler.
func NewCompiler(opts Options) *Compiler {
	if opts.MaxViolations <= 0 {
		opts.MaxViolations = 10
	}
	return &Compiler{
		opts: opts,
		prog: &program{
			limits: opts.Limits.withDefaults(), direction: opts.Direction,
			formats: opts.AssertFormats, max: opts.MaxViolations,
		},
		resources: map[string]*resource{},
		roots:     map[place]*resource{},
		indexed:   map[place]bool{},
		nodes:     map[place]*node{},
	}
}

// Warnings lists, each with its place, what the schemas compiled so far ask for
// and do not get: patterns skipped under SkipUnsupportedPatterns, and formats
// that are not known while AssertFormats is set.
func (c *Compiler) Warnings() []string { return slices.Clone(c.warnings) }

// Compile compiles the schema at ref: the URI of a document given to
// AddResource or of a schema's $id, with an optional fragment, a JSON Pointer
// (percent-encoded as in any URI, RFC 6901 §6) or an anchor. The error names the place and what is wrong there.
func (c *Compiler) Compile(ref string) (*Schema, error) {
	c.fresh = c.fresh[:0]
	pl, _, err := c.locate(&resource{}, ref)
	if err != nil {
		return nil, fmt.Errorf("jsonschema: %w", err)
	}
	n, err := c.node(pl)
	if err == nil {
		err = c.finish()
	}
	if err != nil {
		for _, f := range c.fresh { // half-made nodes must not be found by the next Compile
			delete(c.nodes, f.place)
		}
		return nil, err
	}
	return &Schema{node: n.target(), prog: c.prog}, nil
}

func (n *node) target() *node {
	for n.alias != nil {
		n = n.alias
	}
	return n
}

// node returns the compiled schema at pl, compiling it at the first call.
func (c *Compiler) node(pl place) (*node, error) {
	if n, ok := c.nodes[pl]; ok {
		return n, nil
	}
	v, res, err := c.lookup(pl)
	if err != nil {
		return nil, fmt.Errorf("jsonschema: %w", err)
	}
	return c.nodeOf(pl, v, res)
}

// nodeOf is node for a schema already at hand: v at pl, inside resource res.
func (c *Compiler) nodeOf(pl place, v any, res *resource) (*node, error) {
	if n, ok := c.nodes[pl]; ok {
		return n, nil
	}
	if err := c.index(v, pl, res); err != nil {
		return nil, err
	}
	if own, ok := c.roots[pl]; ok {
		res = own
	}
	if err := c.settle(res); err != nil {
		return nil, err
	}
	n := &node{
		place: pl, res: res, minLength: -1, maxLength: -1, minItems: -1, maxItems: -1,
		minContains: -1, maxContains: -1, minProps: -1, maxProps: -1,
	}
	c.nodes[pl] = n
	c.fresh = append(c.fresh, n)
	switch s := v.(type) {
	case bool:
		n.never = !s
		return n, nil
	case map[string]any:
		b := &builder{c: c, n: n, m: s, dialect: res.dialect, validation: res.ignore&vocabularyValidation == 0}
		b.build()
		return n, b.err
	}
	return nil, fmt.Errorf("jsonschema: %s: a schema is an object or a boolean, not %s", pl, typeName(v))
}

func typeName(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case string:
		return "a string"
	case []any:
		return "an array"
	case map[string]any:
		return "an object"
	}
	return "a number"
}

// finish links what can be linked only when all nodes exist, and refuses a
// schema that refers to itself without going down into the value.
func (c *Compiler) finish() error {
	for _, n := range c.fresh {
		n.parts, n.integers = n.groups(), n.wholes()
	}
	const active, done = 1, 2
	mark := map[*node]int{}
	var visit func(n *node) error
	visit = func(n *node) error {
		switch mark[n] {
		case active:
			return fmt.Errorf("jsonschema: %s: infinite recursion: the schema refers to itself without descending into the value", n.place)
		case done:
			return nil
		}
		mark[n] = active
		for _, next := range n.inPlace() {
			if err := visit(next); err != nil {
				return err
			}
		}
		mark[n] = done
		return nil
	}
	for _, n := range c.fresh {
		if err := visit(n); err != nil {
			return err
		}
	}
	for _, n := range c.fresh {
		if n.ref != nil && n.onlyRef() && n.ref.res == n.res {
			n.alias = n.ref
		}
	}
	for _, n := range c.fresh {
		n.readOnly = n.refused(0)
	}
	for _, n := range c.fresh {
		n.dropRequired()
	}
	return nil
}

func (n *node) inPlace() []*node {
	all := slices.Concat(n.allOf, n.anyOf, n.oneOf)
	for _, o := range []*node{n.ref, n.not, n.cond, n.then, n.other} {
		if o != nil {
			all = append(all, o)
		}
	}
	for _, d := range n.dependents {
		if d.node != nil {
			all = append(all, d.node)
		}
	}
	return all
}

func (n *node) onlyRef() bool {
	return n.parts == partApply && len(n.inPlace()) == 1 && n.dynamic == nil
}

func (n *node) groups() (p uint16) {
	set := func(on bool, bit uint16) {
		if on {
			p |= bit
		}
	}
	set(n.constant != nil, partConst)
	set(n.minimum != nil || n.maximum != nil || n.multiple != nil, partNumber)
	set(n.minLength >= 0 || n.maxLength >= 0 || n.pattern != nil, partString)
	set(n.format != nil, partFormat)
	set(n.minItems >= 0 || n.maxItems >= 0 || n.unique || n.prefix != nil || n.items != nil || n.contains != nil, partArray)
	set(n.members != nil || n.patterns != nil || n.additional != nil || n.names != nil || n.minProps >= 0 || n.maxProps >= 0 ||
		n.dependentNames != nil || n.dependents != nil, partObject)
	set(n.ref != nil || n.dynamic != nil || n.allOf != nil || n.anyOf != nil || n.oneOf != nil || n.not != nil || n.cond != nil, partApply)
	set(n.unevalItems != nil || n.unevalProps != nil, partUneval)
	return p
}

// refused reports whether a member with this schema may not travel: readOnly or
// writeOnly, by direction, here or in what it always includes.
func (n *node) refused(depth int) bool {
	switch {
	case n.hidden:
		return true
	case depth > 32:
		return false
	}
	return n.ref != nil && n.ref.refused(depth+1) ||
		slices.ContainsFunc(n.allOf, func(s *node) bool { return s.refused(depth + 1) })
}

// dropRequired frees members that may not travel in this direction from being
// required (OpenAPI 3.1.1 §4.8.24: required then holds for the other direction).
func (n *node) dropRequired() {
	if n.members == nil {
		return
	}
	for i := range n.members.list {
		m := &n.members.list[i]
		if m.required && m.node != nil && m.node.readOnly {
			m.required = false
			n.members.required[i/64] &^= 1 << (i % 64)
		}
	}
}

// A builder reads the keywords of one schema object. The first error sticks.
type builder struct {
	c          *Compiler
	n          *node
	m          map[string]any
	dialect    Dialect
	validation bool
	err        error
}

func (b *builder) fail(keyword, format string, args ...any) {
	if b.err == nil {
		b.err = fmt.Errorf("jsonschema: %s: %w", b.n.place.child(keyword), fmt.Errorf(format, args...))
	}
}

// sub compiles the subschema v found under the given tokens.
func (b *builder) sub(v any, tokens ...string) *node {
	if b.err != nil {
		return nil
	}
	pl := b.n.place
	for _, t := range tokens {
		pl = pl.child(t)
	}
	n, err := b.c.nodeOf(pl, v, b.n.res)
	if err != nil {
		b.err = err
	}
	return n
}

// one compiles the schema under keyword k, nil when there is none.
func (b *builder) one(k string) *node {
	v, ok := b.m[k]
	if !ok {
		return nil
	}
	return b.sub(v, k)
}

func (b *builder) list(k string) []*node {
	v, ok := b.m[k]
	if !ok {
		return nil
	}
	items, ok := v.([]any)
	if !ok || len(items) == 0 {
		b.fail(k, "must be an array of schemas, at least one")
		return nil
	}
	out := make([]*node, 0, len(items))
	for i, it := range items {
		out = append(out, b.sub(it, k, strconv.Itoa(i)))
	}
	return out
}

func (b *builder) object(k string) map[string]any {
	v, ok := b.m[k]
	if !ok {
		return nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		b.fail(k, "must be an object, not %s", typeName(v))
	}
	return m
}

func (b *builder) boolean(k string) bool {
	v, ok := b.m[k]
	if !ok {
		return false
	}
	on, ok := v.(bool)
	if !ok {
		b.fail(k, "must be true or false, not %s", typeName(v))
	}
	return on
}

func (b *builder) text(k string) (string, bool) {
	v, ok := b.m[k]
	if !ok {
		return "", false
	}
	s, ok := v.(string)
	if !ok {
		b.fail(k, "must be a string, not %s", typeName(v))
	}
	return s, ok
}

func (b *builder) names(k string, v any) []string {
	items, ok := v.([]any)
	if !ok {
		b.fail(k, "must be an array of names, not %s", typeName(v))
		return nil
	}
	out := make([]string, 0, len(items))
	for _, it := range items {
		s, ok := it.(string)
		if !ok {
			b.fail(k, "must hold names only, not %s", typeName(it))
			return nil
		}
		out = append(out, s)
	}
	return out
}

func (b *builder) number(k string) *bound {
	v, ok := b.m[k]
	if !ok {
		return nil
	}
	lit, err := numberLiteral(v)
	if err != nil {
		b.fail(k, "must be a number: %w", err)
		return nil
	}
	return &bound{dec: parseDecimal([]byte(lit)), literal: lit}
}

// count reads a keyword that is a whole number of zero or more; -1 when absent.
func (b *builder) count(k string) int {
	num := b.number(k)
	if num == nil {
		return -1
	}
	v, ok := num.dec.int64()
	if !ok || v < 0 {
		b.fail(k, "must be a whole number of zero or more")
		return -1
	}
	return int(min(v, 1<<40))
}

var errNotNumber = errors.New("not a number")

// numberLiteral writes a decoded number as JSON.
func numberLiteral(v any) (string, error) {
	var lit string
	switch t := v.(type) {
	case json.Number:
		lit = t.String()
	case int:
		return strconv.Itoa(t), nil
	case int64:
		return strconv.FormatInt(t, 10), nil
	case uint64:
		return strconv.FormatUint(t, 10), nil
	case float64:
		lit = strconv.FormatFloat(t, 'g', -1, 64)
	default:
		return "", fmt.Errorf("%w: %s", errNotNumber, typeName(v))
	}
	if numberLength([]byte(lit)) != len(lit) || lit == "" {
		return "", errNotNumber
	}
	if p := splitNumber([]byte(lit)); p.literalExp > 10000 || p.literalExp < -10000 {
		return "", fmt.Errorf("%w that can be computed with: the exponent is too large", errNotNumber)
	}
	return lit, nil
}

// fixedValue makes the tape of a constant of the schema.
func (b *builder) fixedValue(k string, v any) fixed {
	r := &run{prog: &program{limits: Limits{MaxDepth: 1000, MaxNumberLength: 10000, MaxExponent: 10000, MaxMembers: 1 << 20}.withDefaults()}}
	if err := r.value(v); err != nil {
		b.fail(k, "%s", err.Error())
	}
	return fixed{out: r.out, cells: r.cells}
}

func canonicalName(s string) string {
	return string(appendString(nil, s))
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

func lastSegment(ref string) string { return ref[strings.LastIndexByte(ref, '/')+1:] }

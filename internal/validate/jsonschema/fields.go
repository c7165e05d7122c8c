package jsonschema

import (
	"maps"
	"slices"
	"strings"
)

// A Tree is what a schema says about each place in a value: one Field for each
// member and for the items of each array, unfolded from the root, Fields[0].
type Tree struct {
	Fields []Field
	free   int32 // the field of any value
	spare  bool  // which no place has
}

// Spare reports whether field f stands for no place in a value that the schema takes.
func (t *Tree) Spare(f int) bool { return t.spare && int32(f) == t.free }

// A Field is a place in a value and the leaves that can stand there.
type Field struct {
	Pointer string // "/items/*/note": an array's items are *, members without a name in the schema {}
	Text    Text   // the strings
	Number  bool   // a number can stand there
	Integer bool   // numbers are whole
	Bool    bool
	Null    bool
	Array   bool // an array can stand there: its length is a value to some readers
	Secret  bool // format password, or writeOnly: never shown
	Named   bool // the names on the way here are all in the schema, or indices

	names   nameTable // of members, canonical and without quotes
	members []int32   // their fields
	items   int32
	rest    int32 // members without a field of their own; none: there can be none
}

const none = int32(-1)

// maxFields and maxFieldDepth bound a tree as they do a shape. What lies deeper
// is any value.
const (
	maxFields     = 4096
	maxFieldDepth = 16
	maxGrowth     = 1 << 17
)

// Fields unfolds the schema. A field errs only on the side of more values: it
// knows nothing of not, if and dependencies, and of alternatives it takes all.
func (s *Schema) Fields() *Tree {
	if s == nil || s.node == nil {
		return &Tree{Fields: []Field{{Number: true, Bool: true, Null: true, Array: true}}} // nothing passes it
	}
	for depth := maxFieldDepth; ; depth-- {
		g := grower{tree: new(Tree), left: maxGrowth}
		g.grow(expr{nodes: []*node{s.node}}, "", true, depth)
		if len(g.tree.Fields) <= maxFields || depth == 0 {
			g.tree.spare = g.any == 0
			g.tree.free = g.anything("/{}", false)
			return g.tree
		}
	}
}

// An expr is the schemas one place is held to: all of nodes, with what they
// always include, and of each list of alternatives at least one.
type expr struct {
	nodes []*node
	alts  [][]expr
}

func (e *expr) free() bool { return len(e.nodes) == 0 && len(e.alts) == 0 }

// never reports whether nothing can stand where e holds.
func (e *expr) never() bool {
	return slices.ContainsFunc(e.nodes, func(n *node) bool { return n.target().never }) ||
		slices.ContainsFunc(e.alts, func(alts []expr) bool { return len(alts) == 0 })
}

func (e *expr) equal(o *expr) bool {
	return slices.Equal(e.nodes, o.nodes) && slices.EqualFunc(e.alts, o.alts, func(a, b []expr) bool {
		return slices.EqualFunc(a, b, func(x, y expr) bool { return x.equal(&y) })
	})
}

// refused is the schema of a member that may not travel.
func refused() *node { return &node{never: true} }

// A grower unfolds one tree. Alternatives within alternatives multiply: when its
// work is spent, what is left is any value.
type grower struct {
	tree *Tree
	any  int32 // the field of any value, once it is needed
	left int
}

func (g *grower) spend() bool {
	g.left--
	return g.left > 0
}

// grow adds the field of e and all below it.
func (g *grower) grow(e expr, pointer string, named bool, depth int) int32 {
	e = g.spread(e)
	if e.free() || depth < 0 || g.left <= 0 {
		return g.anything(pointer, named && depth >= 0)
	}
	at := int32(len(g.tree.Fields))
	if at > maxFields {
		return 0 // too many: all of it is made again, shallower
	}
	types := g.types(e)
	g.tree.Fields = append(g.tree.Fields, Field{})
	f := Field{
		Pointer: pointer, Named: named, items: none, rest: none,
		Text: g.text(e), Secret: g.secret(e), Bool: types&typeBool != 0, Null: types&typeNull != 0, Array: types&typeArray != 0,
		Number: types&(typeNumber|typeInteger) != 0, Integer: types&(typeNumber|typeInteger) == typeInteger,
	}
	if types&typeString == 0 {
		f.Text = Text{None: true}
	}
	if types&typeArray != 0 {
		if sub := g.descend(e, typeArray, (*node).itemExpr); !sub.never() {
			f.items = g.grow(sub, pointer+"/*", named, depth-1)
		}
	}
	if types&typeObject != 0 {
		g.members(&f, e, depth)
	}
	g.tree.Fields[at] = f
	return at
}

func (g *grower) members(f *Field, e expr, depth int) {
	names := map[string]string{}
	collectNames(e, names, map[*node]bool{})
	var canonical []string
	for _, plain := range slices.Sorted(maps.Keys(names)) {
		sub := g.descend(e, typeObject, func(n *node) expr { return n.memberExpr(plain, names[plain]) })
		if !sub.never() {
			canonical = append(canonical, names[plain])
			f.members = append(f.members, g.grow(sub, f.Pointer+"/"+token(plain), f.Named, depth-1))
		}
	}
	f.names = newNameTable(canonical)
	if sub := g.descend(e, typeObject, (*node).restExpr); !sub.never() && !sealed(e) {
		f.rest = g.grow(sub, f.Pointer+"/{}", false, depth-1)
	}
}

// anything is the field of any value, and of any value in it.
func (g *grower) anything(pointer string, named bool) int32 {
	if named { // the name of this one is known; not of what is in it
		at := int32(len(g.tree.Fields))
		g.tree.Fields = append(g.tree.Fields, Field{})
		below := g.anything(pointer+"/{}", false)
		g.tree.Fields[at] = Field{
			Pointer: pointer, Number: true, Bool: true, Null: true, Array: true, Named: true, items: below, rest: below,
		}
		return at
	}
	if g.any == 0 {
		g.any = int32(len(g.tree.Fields))
		g.tree.Fields = append(g.tree.Fields, Field{Pointer: "/{}", Number: true, Bool: true, Null: true, Array: true, items: g.any, rest: g.any})
	}
	return g.any
}

func token(name string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

// spread brings what nodes always include into nodes, and their alternatives into alts.
func (g *grower) spread(e expr) expr {
	var all []*node
	for _, n := range e.nodes {
		all = includes(n, all, 0)
	}
	out := expr{alts: e.alts}
	for _, n := range all {
		if n.never || n.types != 0 || n.secret || n.parts&^partApply != 0 {
			out.nodes = append(out.nodes, n)
		}
		for _, list := range [][]*node{n.anyOf, n.oneOf} {
			if list == nil {
				continue
			}
			if n.discriminator != nil { // what it names need not be listed
				list = slices.Clone(list)
				for _, name := range slices.Sorted(maps.Keys(n.discriminator.branch)) {
					if alt := n.discriminator.branch[name]; !slices.Contains(list, alt) {
						list = append(list, alt)
					}
				}
			}
			alts := make([]expr, len(list))
			for i, alt := range list {
				alts[i] = expr{nodes: []*node{alt}}
			}
			out.alts = append(out.alts, alts)
		}
	}
	return out
}

func (g *grower) types(e expr) uint8 {
	types := anyType
	for _, n := range e.nodes {
		own := n.types
		switch {
		case n.never:
			return 0
		case own == 0:
			own = constantTypes(n)
		}
		if own&typeNumber != 0 {
			own |= typeInteger
		}
		types &= own
	}
	for _, alts := range e.alts {
		var union uint8
		for _, alt := range alts {
			if !g.spend() {
				return types
			}
			union |= g.types(g.spread(alt))
		}
		types &= union
	}
	return types
}

func (g *grower) text(e expr) Text {
	var all []Text
	for _, n := range e.nodes {
		all = append(all, n.text())
	}
	for _, alts := range e.alts {
		var some []Text
		for _, alt := range alts {
			if !g.spend() {
				return allOf(all)
			}
			some = append(some, g.text(g.spread(alt)))
		}
		all = append(all, anyOf(some))
	}
	return allOf(all)
}

func (g *grower) secret(e expr) bool {
	return slices.ContainsFunc(e.nodes, func(n *node) bool { return n.secret }) ||
		slices.ContainsFunc(e.alts, func(alts []expr) bool {
			return slices.ContainsFunc(alts, func(alt expr) bool { return !g.spend() || g.secret(g.spread(alt)) })
		})
}

// descend is what e says about values inside: step's of each node, and those of
// the alternatives that can be of that type at all.
func (g *grower) descend(e expr, kind uint8, step func(n *node) expr) expr {
	var out expr
	for _, n := range e.nodes {
		sub := step(n)
		for _, n := range sub.nodes {
			if !slices.Contains(out.nodes, n) {
				out.nodes = append(out.nodes, n)
			}
		}
		out.alts = append(out.alts, sub.alts...)
	}
	for _, alts := range e.alts {
		some, free := g.descendAny(alts, kind, step)
		switch {
		case free:
		case len(some) == 1: // no alternative: it holds
			for _, n := range some[0].nodes {
				if !slices.Contains(out.nodes, n) {
					out.nodes = append(out.nodes, n)
				}
			}
			out.alts = append(out.alts, some[0].alts...)
		default:
			out.alts = append(out.alts, some)
		}
	}
	return out
}

// descendAny is descend of alternatives; free when one of them takes any value.
func (g *grower) descendAny(alts []expr, kind uint8, step func(n *node) expr) (some []expr, free bool) {
	for _, alt := range alts {
		if !g.spend() {
			return nil, true
		}
		alt = g.spread(alt)
		if g.types(alt)&kind == 0 {
			continue
		}
		sub := g.descend(alt, kind, step)
		switch {
		case sub.free():
			return nil, true
		case sub.never():
		case len(sub.nodes) == 0 && len(sub.alts) == 1: // alternatives of an alternative
			for _, s := range sub.alts[0] {
				some = addExpr(some, s)
			}
		default:
			some = addExpr(some, sub)
		}
	}
	return some, false
}

func addExpr(list []expr, e expr) []expr {
	if slices.ContainsFunc(list, func(o expr) bool { return o.equal(&e) }) {
		return list
	}
	return append(list, e)
}

// memberExpr is what n says about its member of that name.
func (n *node) memberExpr(plain, canonical string) (out expr) {
	evaluated := false
	take := func(sub *node) {
		evaluated = true
		if sub.readOnly {
			sub = refused()
		}
		out.nodes = append(out.nodes, sub)
	}
	if n.members != nil {
		if k := n.members.named(canonical); k >= 0 && n.members.list[k].node != nil {
			take(n.members.list[k].node)
		}
	}
	for i := range n.patterns {
		if n.patterns[i].pattern.match([]byte(plain)) {
			take(n.patterns[i].node)
		}
	}
	if n.additional != nil && !evaluated {
		out.nodes = append(out.nodes, n.additional)
	}
	return out
}

// restExpr is what n says about a member it does not name.
func (n *node) restExpr() expr {
	switch {
	case n.additional == nil:
		return expr{}
	case n.patterns == nil:
		return expr{nodes: []*node{n.additional}}
	}
	alts := []expr{{nodes: []*node{n.additional}}}
	for i := range n.patterns {
		alts = append(alts, expr{nodes: []*node{n.patterns[i].node}})
	}
	return expr{alts: [][]expr{alts}}
}

func (n *node) itemExpr() expr {
	switch {
	case n.items == nil:
		return expr{}
	case len(n.prefix) == 0:
		return expr{nodes: []*node{n.items}}
	}
	alts := []expr{{nodes: []*node{n.items}}}
	for _, p := range n.prefix {
		alts = append(alts, expr{nodes: []*node{p}})
	}
	return expr{alts: [][]expr{alts}}
}

// collectNames finds the members that any schema on this very value names, plain
// to canonical.
func collectNames(e expr, into map[string]string, seen map[*node]bool) {
	var visit func(n *node)
	visit = func(n *node) {
		n = n.target()
		if seen[n] {
			return
		}
		seen[n] = true
		if n.members != nil {
			for i := range n.members.list {
				into[n.members.list[i].plain] = n.members.list[i].name
			}
		}
		if n.discriminator != nil {
			for _, alt := range n.discriminator.branch {
				visit(alt)
			}
		}
		for _, next := range n.inPlace() {
			visit(next)
		}
	}
	for _, n := range e.nodes {
		visit(n)
	}
	for _, alts := range e.alts {
		for _, alt := range alts {
			collectNames(alt, into, seen)
		}
	}
}

// sealed reports whether unevaluatedProperties refuses every member that no
// schema on the same value names.
func sealed(e expr) bool {
	return slices.ContainsFunc(e.nodes, func(n *node) bool {
		return n.unevalProps != nil && n.unevalProps.target().never && !n.evaluates(n, map[*node]bool{})
	})
}

// evaluates reports whether n, or a schema on the same value, may look at
// members it does not name, so that top's unevaluatedProperties lets them pass.
func (n *node) evaluates(top *node, seen map[*node]bool) bool {
	n = n.target()
	if seen[n] {
		return false
	}
	seen[n] = true
	if n.patterns != nil || n.additional != nil || n.dynamic != nil || n != top && n.unevalProps != nil {
		return true
	}
	if n.discriminator != nil {
		for _, alt := range n.discriminator.branch {
			if alt.evaluates(top, seen) {
				return true
			}
		}
	}
	return slices.ContainsFunc(n.inPlace(), func(next *node) bool { return next.evaluates(top, seen) })
}

// Items returns the field of an array's items, and whether there can be any.
func (t *Tree) Items(f int32) (int32, bool) { i := t.Fields[f].items; return i, i != none }

// Member returns the field of the member of f with that name, and whether there
// can be one.
func (t *Tree) Member(f int32, name string) (int32, bool) {
	canonical := []byte(unquoted(name))
	i := t.Fields[f].member(canonical, nameKey(canonical))
	return i, i != none
}

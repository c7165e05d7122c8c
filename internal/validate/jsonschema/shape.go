package jsonschema

import (
	"maps"
	"slices"

	gatehouse "github.com/gatehouse-api/gatehouse"
)

func required(parts []*node, name string) bool {
	return slices.ContainsFunc(parts, func(n *node) bool {
		if n.members == nil {
			return false
		}
		i := n.members.named(unquoted(name))
		return i >= 0 && n.members.list[i].required
	})
}

// includes lists n and all it always includes: $ref and allOf.
func includes(n *node, into []*node, depth int) []*node {
	n = n.target()
	if depth > 32 || slices.Contains(into, n) {
		return into
	}
	into = append(into, n)
	if n.ref != nil {
		into = includes(n.ref, into, depth+1)
	}
	for _, s := range n.allOf {
		into = includes(s, into, depth+1)
	}
	return into
}

const anyType = typeNull | typeBool | typeNumber | typeString | typeArray | typeObject | typeInteger

// typesOf intersects the types of all that n includes; alternatives add up.
func typesOf(n *node, depth int) uint8 {
	types := anyType
	for _, p := range includes(n, nil, 0) {
		own := p.types
		if own == 0 {
			own = constantTypes(p)
		}
		if own&typeNumber != 0 {
			own |= typeInteger
		}
		types &= own
		for _, list := range [][]*node{p.anyOf, p.oneOf} {
			if list == nil || depth > 8 {
				continue
			}
			var union uint8
			for _, alt := range list {
				union |= typesOf(alt, depth+1)
			}
			types &= union
		}
	}
	return types
}

func constantTypes(n *node) uint8 {
	if n.constant == nil {
		return anyType
	}
	var types uint8
	for _, f := range n.constant {
		types |= [...]uint8{
			kindNull: typeNull, kindBool: typeBool, kindNumber: typeNumber, kindString: typeString,
			kindArray: typeArray, kindObject: typeObject,
		}[f.cells[0].kind]
	}
	return types
}

func kindOf(types uint8) gatehouse.ShapeKind {
	switch types &^ typeNull {
	case typeBool:
		return gatehouse.BooleanShape
	case typeNumber, typeNumber | typeInteger:
		return gatehouse.NumberShape
	case typeInteger:
		return gatehouse.IntegerShape
	case typeString:
		return gatehouse.StringShape
	case typeArray:
		return gatehouse.ArrayShape
	case typeObject:
		return gatehouse.ObjectShape
	}
	return gatehouse.AnyShape
}

// A shape of more parts than maxShapes is made shallower until it has fewer:
// rules name members near the top, and a document's schemas unfold without end.
const (
	maxShapes     = 4096
	maxShapeDepth = 16
)

// Shape returns what the schema promises about a value, for typed rules: kinds
// and member names, allOf merged, the members of alternatives as optional ones.
// A schema inside itself, and what lies too deep, is AnyShape.
func (s *Schema) Shape() *gatehouse.Shape {
	for depth := maxShapeDepth; ; depth-- {
		sh := shaper{left: maxShapes}
		if out := sh.shape([]*node{s.node}, depth); sh.left > 0 || depth == 1 {
			return out
		}
	}
}

type shaper struct {
	left int
	open []*node // being unfolded
}

func (sh *shaper) shape(roots []*node, depth int) *gatehouse.Shape {
	var parts []*node
	types := anyType
	for _, n := range roots {
		parts = includes(n, parts, 0)
		types &= typesOf(n, 0)
	}
	sh.left--
	out := &gatehouse.Shape{Kind: kindOf(types)}
	if depth == 0 || sh.left <= 0 || slices.Contains(sh.open, parts[0]) {
		return &gatehouse.Shape{}
	}
	sh.open = append(sh.open, parts[0])
	defer func() { sh.open = sh.open[:len(sh.open)-1] }()
	if out.Kind == gatehouse.StringShape {
		out.Enum = enumOf(parts)
	}
	if out.Kind == gatehouse.ArrayShape {
		out.Items = &gatehouse.Shape{}
		for _, p := range parts {
			if p.items != nil && len(p.prefix) == 0 {
				out.Items = sh.shape([]*node{p.items}, depth-1)
				break
			}
		}
	}
	if out.Kind == gatehouse.ObjectShape {
		sh.object(out, parts, depth)
	}
	return out
}

func enumOf(parts []*node) []string {
	for _, p := range parts {
		if p.words == nil && p.constant == nil {
			continue
		}
		var out []string
		for _, f := range p.constant {
			if f.cells[0].kind == kindString {
				r := run{out: f.out, cells: f.cells}
				out = append(out, string(r.textOf(0)))
			}
		}
		return out
	}
	return nil
}

func (sh *shaper) object(out *gatehouse.Shape, parts []*node, depth int) {
	members := map[string][]*node{}
	out.Open = true
	collect := func(parts []*node) {
		for _, p := range parts {
			if p.additional != nil && p.additional.target().never && p.patterns == nil ||
				p.unevalProps != nil && p.unevalProps.target().never {
				out.Open = false
			}
			if p.members == nil {
				continue
			}
			for i := range p.members.list {
				m := &p.members.list[i]
				if m.node != nil {
					members[m.plain] = append(members[m.plain], m.node.target())
				} else if _, ok := members[m.plain]; !ok {
					members[m.plain] = nil
				}
			}
		}
	}
	collect(parts)
	for _, p := range parts {
		for _, alt := range slices.Concat(p.anyOf, p.oneOf) {
			before := maps.Clone(members)
			open := out.Open
			collect(includes(alt, nil, 0))
			out.Open = open // one alternative cannot close the others
			for name, list := range members {
				// A member two alternatives describe differently is promised by neither.
				if old, ok := before[name]; ok && !slices.Equal(old, list) {
					members[name] = nil
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		f := gatehouse.Field{Name: name, Required: required(parts, name), Shape: &gatehouse.Shape{}}
		if list := members[name]; len(list) > 0 {
			f.Shape = sh.shape(list, depth-1)
		}
		out.Fields = append(out.Fields, f)
	}
}

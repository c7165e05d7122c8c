package jsonschema

import (
	"strconv"
	"strings"
)

// A Tape is what [Schema.AppendTape] learned of one value: where its names and
// leaves lie in the canonical bytes. Keep one and pass it again: it keeps its room.
type Tape struct {
	cells []cell
	name  []byte
	text  []byte
	leaf  Leaf
}

// Reset empties t. Of a giant value it gives the room back.
func (t *Tape) Reset() {
	if cap(t.cells) > 1<<14 || cap(t.text) > 1<<16 {
		*t = Tape{}
	}
	t.cells = t.cells[:0]
}

// AppendTape is [Schema.Append] that fills t, too, unless it is nil. The places in
// t are those of the slice it returns, so dst is empty as a rule. It costs nothing
// beyond Append.
func (s *Schema) AppendTape(dst, src []byte, t *Tape) ([]byte, error) {
	if t != nil {
		t.cells = t.cells[:0]
	}
	if s == nil || s.node == nil {
		return dst, errNoSchema()
	}
	r := s.prog.get()
	defer s.prog.put(r)
	n := len(dst)
	r.out = dst
	if err := r.scan(src); err != nil {
		return dst[:n], err
	}
	if err := r.validate(s.node); err != nil {
		return dst[:n], err
	}
	if t != nil {
		t.cells, r.cells = r.cells, t.cells
	}
	return r.out, nil
}

// A Kind is the type of a [Leaf].
type Kind uint8

// The kinds of leaves.
const (
	String  Kind = iota
	Integer      // a number of digits alone, and perhaps a minus
	Number       // another number
	Bool
	Null
	Length // of an array that is not empty, after its items: their number
)

// A Leaf is one scalar of a value, or the length of an array.
type Leaf struct {
	Field int32 // its place in [Tree.Fields]
	Kind  Kind
	Name  []byte // the way to it, joined by dots behind a prefix: "json.items.0.note"; overwritten by the next leaf
	Text  []byte // of a string, unescaped: a piece of out where Start is not -1; of the others as written
	Start int    // where Text begins in the canonical bytes; -1: it does not stand there as it is
}

// A Visitor takes the leaves of a value.
type Visitor interface {
	Leaf(l *Leaf)
}

// Walk shows v every leaf of the value on t, in order. out is what AppendTape
// returned, prefix what the names begin with.
func (t *Tape) Walk(tree *Tree, out []byte, prefix string, v Visitor) {
	if len(t.cells) == 0 {
		return
	}
	w := walker{tree: tree, tape: t, out: out, visitor: v}
	t.name = append(t.name[:0], prefix...)
	if k := t.cells[0].kind; k != kindArray && k != kindObject {
		w.scalar(0, 0)
		return
	}
	w.value(0, 0)
}

type walker struct {
	tree    *Tree
	tape    *Tape
	out     []byte
	visitor Visitor
}

// value walks the value of cell i, whose name stands in tape.name.
func (w *walker) value(i, field int32) {
	t := w.tape
	c := &t.cells[i]
	if field == none { // cannot be: the schema has taken the value
		field = w.tree.free
	}
	f := &w.tree.Fields[field]
	length := len(t.name)
	switch c.kind {
	case kindArray:
		at := i + 1
		for k := range c.n {
			t.name = strconv.AppendInt(append(t.name, '.'), int64(k), 10)
			w.value(at, f.items)
			t.name = t.name[:length]
			at = t.cells[at].next
		}
		if c.n > 0 {
			t.text = strconv.AppendInt(t.text[:0], int64(c.n), 10)
			t.leaf = Leaf{Field: field, Kind: Length, Name: t.name, Text: t.text, Start: -1}
			w.visitor.Leaf(&t.leaf)
		}
	case kindObject:
		at := i + 1
		for range c.n {
			name := &t.cells[at]
			canonical := w.out[name.start:name.end]
			t.name = append(t.name, '.')
			if name.flag&flagEscaped == 0 {
				t.name = append(t.name, canonical...)
			} else {
				t.name = appendUnescaped(t.name, canonical)
			}
			w.value(at+1, f.member(canonical, uint32(name.n)))
			t.name = t.name[:length]
			at = t.cells[at+1].next
		}
	default:
		w.scalar(i, field)
	}
}

func (w *walker) scalar(i, field int32) {
	t := w.tape
	c := &t.cells[i]
	l := &t.leaf
	l.Field, l.Name, l.Text, l.Start = field, t.name, w.out[c.start:c.end], int(c.start)
	switch c.kind {
	case kindString:
		l.Kind = String
		if c.flag&flagEscaped != 0 {
			t.text = appendUnescaped(t.text[:0], l.Text)
			l.Text, l.Start = t.text, -1
		}
	case kindNumber:
		l.Kind = Number
		if c.flag&flagInteger != 0 {
			l.Kind = Integer
		}
	case kindBool:
		l.Kind = Bool
	default:
		l.Kind = Null
	}
	w.visitor.Leaf(l)
}

// member is the field of the member with that canonical name, and its nameKey.
func (f *Field) member(name []byte, key uint32) int32 {
	if k := f.names.find(name, key); k >= 0 {
		return f.members[k]
	}
	return f.rest
}

// Pointer finds the leaf that [Tape.Walk] names so, and returns its JSON Pointer
// (RFC 6901). Of leaves of one name it is the first. It is for what is rare.
func (t *Tape) Pointer(out []byte, prefix, name string) (string, bool) {
	if len(t.cells) == 0 {
		return "", false
	}
	rest, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return "", false
	}
	return t.pointer(out, 0, rest, "")
}

func (t *Tape) pointer(out []byte, i int32, rest, pointer string) (string, bool) {
	c := &t.cells[i]
	if rest == "" && c.kind != kindObject {
		return pointer, true
	}
	if c.kind != kindArray && c.kind != kindObject || rest == "" || rest[0] != '.' {
		return "", false
	}
	at := i + 1
	for k := range c.n {
		step := strconv.Itoa(int(k))
		val := at
		if c.kind == kindObject {
			step = string(appendUnescaped(nil, out[t.cells[at].start:t.cells[at].end]))
			val++
		}
		if below, ok := strings.CutPrefix(rest[1:], step); ok && (below == "" || below[0] == '.') {
			if found, ok := t.pointer(out, val, below, pointer+"/"+token(step)); ok {
				return found, true
			}
		}
		at = t.cells[val].next
	}
	return "", false
}

package jsonschema

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// A Text is a set of strings: those a schema takes, or more, never fewer. What
// holds for all strings of a Text holds for every value the schema lets through.
// The zero Text is all strings.
type Text struct {
	None      bool     // no string at all
	Literals  []string // just these; nil: not restricted
	Pattern   string   // in Go's syntax, found anywhere in the string; "" none
	MaxLength int      // code points; 0 none
	Source    string   // the keywords, for people: "pattern ^[a-z]+$", "format uuid"
	All       []Text   // and in each of these
	Any       []Text   // and in one of these, if there are any
}

// Free reports whether t is all strings.
func (t *Text) Free() bool {
	return !t.None && t.Literals == nil && t.Pattern == "" && t.MaxLength == 0 && len(t.All) == 0 && len(t.Any) == 0
}

// String says in words what t is: "one of \"a\", \"b\"", "pattern ^[a-z]+$, at
// most 20 characters". Texts of the same words and pattern are equal.
func (t *Text) String() string {
	var parts []string
	switch {
	case t.None:
		return "no string"
	case len(t.Literals) == 1:
		parts = append(parts, strconv.Quote(t.Literals[0]))
	case len(t.Literals) > 8:
		parts = append(parts, "one of "+strconv.Itoa(len(t.Literals))+" words")
	case t.Literals != nil:
		quoted := make([]string, len(t.Literals))
		for i, s := range t.Literals {
			quoted[i] = strconv.Quote(s)
		}
		parts = append(parts, "one of "+strings.Join(quoted, ", "))
	}
	if t.Source != "" {
		parts = append(parts, t.Source)
	}
	if t.MaxLength > 0 {
		parts = append(parts, "at most "+strconv.Itoa(t.MaxLength)+" characters")
	}
	for i := range t.All {
		parts = append(parts, t.All[i].String())
	}
	if len(t.Any) > 0 {
		alternatives := make([]string, len(t.Any))
		for i := range t.Any {
			alternatives[i] = t.Any[i].String()
		}
		parts = append(parts, "either "+strings.Join(alternatives, " or "))
	}
	if len(parts) == 0 {
		return "any string"
	}
	return strings.Join(parts, ", ")
}

// Key is the same for two Texts only if they are the same set, written alike.
func (t *Text) Key() string {
	var b strings.Builder
	t.key(&b)
	return b.String()
}

func (t *Text) key(b *strings.Builder) {
	b.WriteByte('(')
	if t.None {
		b.WriteByte('0')
	}
	if t.Literals != nil {
		b.WriteByte('l')
		for _, s := range t.Literals {
			b.WriteString(strconv.Quote(s))
		}
	}
	if t.Pattern != "" {
		b.WriteByte('p')
		b.WriteString(strconv.Quote(t.Pattern))
	}
	if t.MaxLength > 0 {
		b.WriteByte('m')
		b.WriteString(strconv.Itoa(t.MaxLength))
	}
	for i := range t.All {
		b.WriteByte('&')
		t.All[i].key(b)
	}
	for i := range t.Any {
		b.WriteByte('|')
		t.Any[i].key(b)
	}
	b.WriteByte(')')
}

// allOf is the strings that are in each of list.
func allOf(list []Text) Text {
	var kept []Text
	for i := range list {
		switch t := &list[i]; {
		case t.None:
			return Text{None: true}
		case t.Free() && t.Source == "":
		case slices.ContainsFunc(kept, func(k Text) bool { return k.Key() == t.Key() }):
		default:
			kept = append(kept, *t)
		}
	}
	switch len(kept) {
	case 0:
		return Text{}
	case 1:
		return kept[0]
	}
	return Text{All: kept}
}

// anyOf is the strings that are in one of list; of an empty list there are none.
func anyOf(list []Text) Text {
	var kept []Text
	literals := map[string]bool{}
	for i := range list {
		switch t := &list[i]; {
		case t.None:
		case t.Free():
			return Text{Source: t.Source}
		case t.onlyLiterals():
			for _, s := range t.Literals {
				literals[s] = true
			}
		case slices.ContainsFunc(kept, func(k Text) bool { return k.Key() == t.Key() }):
		default:
			kept = append(kept, *t)
		}
	}
	if len(literals) > 0 {
		kept = append(kept, Text{Literals: slices.Sorted(maps.Keys(literals))})
	}
	switch len(kept) {
	case 0:
		return Text{None: true}
	case 1:
		return kept[0]
	}
	return Text{Any: kept}
}

func (t *Text) onlyLiterals() bool {
	return t.Literals != nil && t.Pattern == "" && t.MaxLength == 0 && len(t.All) == 0 && len(t.Any) == 0
}

// text is the strings n takes by its own keywords.
func (n *node) text() Text {
	var list []Text
	if n.types != 0 && n.types&typeString == 0 || n.never {
		return Text{None: true}
	}
	if n.constant != nil {
		list = append(list, literals(n.constant))
		if n.both != nil {
			list = append(list, literals(n.both))
		}
	}
	if n.pattern != nil {
		list = append(list, Text{Pattern: n.pattern.expr, Source: "pattern " + n.pattern.source})
	}
	if n.format != nil && n.format.text != nil {
		list = append(list, Text{Pattern: n.format.expr, Source: "format " + n.format.keyword})
	}
	if n.maxLength >= 0 {
		t := Text{MaxLength: n.maxLength}
		if n.maxLength == 0 {
			t = Text{Literals: []string{""}}
		}
		if len(list) == 1 && list[0].Literals == nil { // read as one: "pattern ^a, at most 3 characters"
			list[0].MaxLength = n.maxLength
		} else {
			list = append(list, t)
		}
	}
	return allOf(list)
}

func literals(list []fixed) Text {
	t := Text{Literals: []string{}}
	for _, f := range list {
		if f.cells[0].kind == kindString {
			r := run{out: f.out, cells: f.cells}
			t.Literals = append(t.Literals, string(r.textOf(0)))
		}
	}
	if len(t.Literals) == 0 {
		return Text{None: true}
	}
	slices.Sort(t.Literals)
	t.Literals = slices.Compact(t.Literals)
	return t
}

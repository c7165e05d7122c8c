package waf

import (
	"regexp/syntax"
	"unicode/utf8"
)

// A need is which bytes a text must have for an expression to match it: one of
// any, what each of all needs, and what one of some needs.
type need struct {
	any  *byteSet
	all  []need
	some []need
}

// met reports whether a text of such bytes may match.
func (n *need) met(bytes byteSet) bool {
	if n.any != nil && !n.any.meets(bytes) {
		return false
	}
	for i := range n.all {
		if !n.all[i].met(bytes) {
			return false
		}
	}
	for i := range n.some {
		if n.some[i].met(bytes) {
			return true
		}
	}
	return len(n.some) == 0
}

func (n *need) none() bool { return n.any == nil && len(n.all) == 0 && len(n.some) == 0 }

// needOf reads an expression. What it does not understand needs nothing.
func needOf(expr string) need {
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return need{}
	}
	return needOfTree(tree)
}

func needOfTree(r *syntax.Regexp) need {
	switch r.Op {
	case syntax.OpLiteral:
		var out need
		for _, c := range r.Rune {
			out.all = append(out.all, oneByte(r.Flags&syntax.FoldCase != 0, c))
		}
		return out
	case syntax.OpCharClass:
		return classBytes(r.Rune)
	case syntax.OpConcat:
		var out need
		for _, sub := range r.Sub {
			if n := needOfTree(sub); !n.none() {
				out.all = append(out.all, n)
			}
		}
		return out
	case syntax.OpAlternate:
		var out need
		for _, sub := range r.Sub {
			n := needOfTree(sub)
			if n.none() {
				return need{}
			}
			out.some = append(out.some, n)
		}
		return out
	case syntax.OpCapture, syntax.OpPlus:
		return needOfTree(r.Sub[0])
	case syntax.OpRepeat:
		if r.Min > 0 {
			return needOfTree(r.Sub[0])
		}
	case syntax.OpNoMatch:
		return need{any: new(byteSet)}
	default: // may take the empty text, or any
	}
	return need{}
}

// beyond are the bytes of characters that are not ASCII. Which of them an
// expression takes is not told apart.
func beyond() byteSet { return byteSet{0, 0, ^uint64(0), ^uint64(0)} }

func oneByte(fold bool, c rune) need {
	if fold { // a Kelvin sign is a k
		s := beyond()
		if c < utf8.RuneSelf {
			s = s.with(byte(c))
			if c|0x20 >= 'a' && c|0x20 <= 'z' {
				s = s.with(byte(c) ^ 0x20)
			}
		}
		return need{any: &s}
	}
	s := beyond()
	if c < utf8.RuneSelf {
		s = byteSet{}.with(byte(c))
	}
	return need{any: &s}
}

func classBytes(ranges []rune) need {
	var s byteSet
	for i := 0; i+1 < len(ranges); i += 2 {
		for c := ranges[i]; c <= ranges[i+1] && c < utf8.RuneSelf; c++ {
			s = s.with(byte(c))
		}
		if ranges[i+1] >= utf8.RuneSelf {
			s = s.or(beyond())
		}
	}
	return need{any: &s}
}

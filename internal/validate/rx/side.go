package rx

import "regexp/syntax"

// A side is expressions and the dfas that answer for them.
type side struct {
	nfa     *nfa
	members [][]int // expression → patterns of the set
	twin    []int   // expression → the same on the side for bytes; -1: it is over characters
	rest    *table  // for lanes without a dfa
	first   []*dfa  // who match, and who stay open
	second  []*dfa  // of those that stay open, who match
	of      []int   // expression → its dfa in second
}

func (s *side) build(progs []*syntax.Prog, binary bool, r *room) {
	if len(progs) == 0 {
		return
	}
	n := newNFA(progs, binary)
	s.nfa, s.rest = n, newRest(n.stride)
	all := make([]uint32, len(progs))
	for e := range all {
		all[e] = uint32(e)
	}
	for _, exprs := range n.spread(all, lanes, first) {
		s.first = append(s.first, newDFA(n, exprs, first, r))
	}
	var open []uint32
	for _, o := range n.openings {
		if len(open) == 0 || open[len(open)-1] != o.expr { // they come in order
			open = append(open, o.expr)
		}
	}
	s.of = make([]int, len(progs))
	for _, exprs := range n.pair(open, second) {
		for _, e := range exprs {
			s.of[e] = len(s.second)
		}
		s.second = append(s.second, newDFA(n, exprs, second, r))
	}
}

// words is how many numbers fit into a set on the stack.
const words = 16

// scan asks the dfas; with noBytes not for the expressions over bytes.
func (s *side) scan(text string, hits, only Bits, left *int64, noBytes bool) bool {
	n := len(s.members)
	var few, fewer [words]uint64
	found, todo := Bits(few[:]), Bits(fewer[:])
	if n+len(s.nfa.openings) > words*64 {
		found, todo = NewBits(n+len(s.nfa.openings)), NewBits(n)
	}
	if !s.nfa.scan(s.first, s.rest, text, found, left) {
		return false
	}
	if k := found.Next(n); k >= 0 {
		var has [words]uint64
		classes := Bits(has[:])
		if s.nfa.stride > words*64 {
			classes = NewBits(s.nfa.stride)
		}
		s.nfa.classesOf(text, classes)
		*left -= int64(len(text))
		for ; k >= 0; k = found.Next(k + 1) {
			o := &s.nfa.openings[k-n]
			if e := int(o.expr); !found.Has(e) && s.wanted(e, only, noBytes) && meet(classes, o.exits) {
				todo.Set(s.of[e])
			}
		}
		var run [lanes]*dfa
		count := 0
		for k := todo.Next(0); k >= 0; {
			run[count] = s.second[k]
			count++
			k = todo.Next(k + 1)
			if k >= 0 && count < lanes {
				continue
			}
			if !s.nfa.scan(run[:count], s.rest, text, found, left) {
				return false
			}
			count = 0
		}
	}
	for e := found.Next(0); e >= 0 && e < n; e = found.Next(e + 1) {
		if noBytes && s.twin[e] >= 0 {
			continue
		}
		for _, i := range s.members[e] {
			if only == nil || only.Has(i) {
				hits.Set(i)
			}
		}
	}
	return true
}

// wanted reports whether somebody asks for expression e.
func (s *side) wanted(e int, only Bits, noBytes bool) bool {
	if noBytes && s.twin[e] >= 0 {
		return false
	}
	if only == nil {
		return true
	}
	for _, i := range s.members[e] {
		if only.Has(i) {
			return true
		}
	}
	return false
}

// classesOf puts the classes of the characters of text into set.
func (n *nfa) classesOf(text string, set Bits) {
	for i := 0; i < len(text); {
		class, width := n.classAt(text, i)
		set.Set(int(class))
		i += width
	}
}

func meet(a, b Bits) bool {
	for k := range b {
		if a[k]&b[k] != 0 {
			return true
		}
	}
	return false
}

package rx

import (
	"regexp/syntax"
	"slices"
	"sync/atomic"
)

// A side is expressions and the dfas that answer for them.
type side struct {
	nfa     *nfa
	members [][]int // expression → patterns of the set
	twin    []int   // expression → the same on the side for bytes; -1: it is over characters
	rest    *table  // for lanes without a dfa
	whole   []*dfa  // everything in one pass: quickest, while the states that a text needs are there
	first   []*dfa  // who match, and who stay open
	second  []*dfa  // of those that stay open, who match
	rooms   []*room
	shy     atomic.Int32 // so many long texts are not tried with whole
	of      []int        // expression → its dfa in second
}

func (s *side) build(progs []*syntax.Prog, binary bool, maxBytes int) {
	if len(progs) == 0 {
		return
	}
	n := newNFA(progs, binary)
	s.nfa, s.rest = n, newRest(n.stride)
	all := make([]uint32, len(progs))
	for e := range all {
		all[e] = uint32(e)
	}
	quick, r := &room{max: int64(maxBytes) * 3 / 8}, &room{max: int64(maxBytes) * 5 / 8}
	s.rooms = []*room{quick, r}
	w := newScratch(n, whole)
	for _, exprs := range n.spread(all, lanes, w) {
		s.whole = append(s.whole, newDFA(n, exprs, w, quick))
	}
	w.mode = first
	for _, exprs := range n.spread(all, lanes, w) {
		s.first = append(s.first, newDFA(n, exprs, w, r))
	}
	w.mode = second
	var open []uint32
	for _, o := range n.openings {
		if len(open) == 0 || open[len(open)-1] != o.expr { // they come in order
			open = append(open, o.expr)
		}
	}
	s.of = make([]int, len(progs))
	for _, exprs := range n.pair(open, w) {
		for _, e := range exprs {
			s.of[e] = len(s.second)
		}
		s.second = append(s.second, newDFA(n, exprs, w, r))
	}
}

// words is how many numbers fit into a set on the stack, by 64.
const words = 16

const (
	// A text may make minTries states in whole, and one for each tryBytes, until it
	// is given to the two passes: enough to learn what comes again, cheap for what
	// does not.
	minTries = 32
	tryBytes = 32
	// A text from longText on that was given up keeps the next shyness from being
	// tried.
	longText = 1 << 10
	shyness  = 4
)

// scan asks the dfas; with noBytes not for the expressions over bytes.
func (s *side) scan(text string, hits, only Bits, left *int64, noBytes bool) bool {
	if s.nfa == nil {
		return true
	}
	n := len(s.members)
	var few [words]uint64
	found := Bits(few[:])
	if n+len(s.nfa.openings) > words*64 {
		found = NewBits(n + len(s.nfa.openings))
	}
	if !s.shuns(text) {
		switch s.nfa.scan(s.whole, s.rest, text, found, left, minTries+len(text)/tryBytes) {
		case ended:
			return false
		case complete:
			s.report(found, hits, only, noBytes)
			return true
		case givenUp:
			if len(text) >= longText {
				s.shy.Store(shyness)
			}
		}
	}
	if s.nfa.scan(s.first, s.rest, text, found, left, -1) == ended || !s.follow(text, found, only, left, noBytes) {
		return false
	}
	s.report(found, hits, only, noBytes)
	return true
}

// shuns reports whether text had better not be tried with whole.
func (s *side) shuns(text string) bool {
	return len(text) >= longText && s.shy.Load() > 0 && s.shy.Add(-1) >= 0
}

// follow asks about the expressions that stay open somewhere in text.
func (s *side) follow(text string, found, only Bits, left *int64, noBytes bool) bool {
	n := len(s.members)
	var few, fewer [words]uint64
	classes, todo := Bits(few[:]), Bits(fewer[:])
	if n > words*64 || s.nfa.stride > words*64 {
		classes, todo = NewBits(s.nfa.stride), NewBits(n)
	}
	k := found.Next(n)
	if k < 0 {
		return true
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
		if s.nfa.scan(run[:count], s.rest, text, found, left, -1) == ended {
			return false
		}
		count = 0
	}
	return true
}

// report passes on which expressions were found.
func (s *side) report(found, hits, only Bits, noBytes bool) {
	n := len(s.members)
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
}

// wanted reports whether somebody asks for expression e.
func (s *side) wanted(e int, only Bits, noBytes bool) bool {
	if noBytes && s.twin[e] >= 0 {
		return false
	}
	if only == nil {
		return true
	}
	return slices.ContainsFunc(s.members[e], only.Has)
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

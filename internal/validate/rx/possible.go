package rx

import (
	"slices"
)

// Possible says which patterns can match at least one text of l. What is not in
// it is proven impossible; where the proof would take too long it is possible.
func (s *Set) Possible(l *Language) Bits { return s.PossibleAmong(l, nil) }

// PossibleAmong is Possible of the patterns in only, nil: of all. The bits of
// others are not set.
func (s *Set) PossibleAmong(l *Language, only Bits) Bits {
	out := NewBits(s.n)
	if s.text.nfa == nil {
		return out
	}
	p := newProof(s.text.nfa, l)
	for e, members := range s.text.members {
		if only != nil && !slices.ContainsFunc(members, only.Has) {
			continue
		}
		_, found, certain := p.find(e, s.text.twin[e] >= 0)
		if found || !certain {
			for _, i := range members {
				if only == nil || only.Has(i) {
					out.Set(i)
				}
			}
		}
	}
	return out
}

// Example returns a text of l that pattern i matches, if one was found.
func (s *Set) Example(i int, l *Language) (string, bool) {
	for e, members := range s.text.members {
		if slices.Contains(members, i) {
			text, found, _ := newProof(s.text.nfa, l).find(e, s.text.twin[e] >= 0)
			return text, found
		}
	}
	return "", false
}

// A proof is that no text of a language matches an expression.
type proof struct {
	l            *Language
	loose, exact *walk // the loose language is small: most proofs need no other
}

func newProof(n *nfa, l *Language) *proof {
	if l.Empty() {
		return &proof{l: l}
	}
	return &proof{l, newWalk(n, l.loose()), newWalk(n, l)}
}

func (p *proof) find(e int, binary bool) (text string, found, certain bool) {
	switch {
	case p.l.Empty():
		return "", false, true
	case binary && p.l.Alphabet()[2] != 0: // the bytes of longer characters are not looked into
		return "", false, false
	}
	text, found, certain = p.loose.find(uint32(e))
	if certain && !found || found && p.l.has(text) {
		return text, found, true
	}
	return p.exact.find(uint32(e))
}

// A walk goes through a language and an expression side by side.
type walk struct {
	n *nfa
	l *Language
	w *scratch

	// The characters that differ for one of them: of each such class the first,
	// where it leads in the language and what it is to the expression.
	char     []rune
	interval []int
	class    []int
}

func newWalk(n *nfa, l *Language) *walk {
	x := &walk{n: n, l: l, w: newScratch(n, whole)}
	cuts := slices.Concat(l.cuts, n.cuts())
	if l.fold {
		cuts = append(cuts, 'A', 'Z'+1)
		for r := 'A'; r <= 'Z'; r++ {
			cuts = append(cuts, r)
		}
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	column := l.columns()
	type both struct{ column, class int }
	seen := map[both]bool{}
	for _, r := range cuts {
		b := both{column[l.interval(r)], n.classOf(l.folded(r))}
		if !seen[b] {
			seen[b] = true
			x.char = append(x.char, r)
			x.interval = append(x.interval, l.interval(r))
			x.class = append(x.class, b.class)
		}
	}
	return x
}

// A place is where a walk stands.
type place struct {
	lang int
	s    *state
	from int  // the place before
	char rune // and the character that led here
}

// find looks for a text of the language that expression e matches. It is not
// certain when it ended before it had seen all places.
func (x *walk) find(e uint32) (text string, found, certain bool) {
	first := x.n.newStarts([]uint32{e}, x.w)
	begin := &state{prev: atBegin}
	begin.hash = hashOf(begin)
	places := []place{{s: begin, from: none}}
	known := map[uint64][]int{begin.hash: {0}}
	width := len(x.l.cuts)
	steps := 0
	for k := 0; k < len(places); k++ {
		p := places[k]
		if x.l.accept[p.lang] {
			if x.n.step(p.s, x.n.classes.n, &first, x.w); len(x.w.s.hits) > 0 {
				return x.text(places, k), true, true
			}
		}
		for c, r := range x.char {
			to := x.l.next[p.lang*width+x.interval[c]]
			if to == none {
				continue
			}
			if steps++; steps > maxSteps {
				return "", false, false
			}
			x.n.step(p.s, x.class[c], &first, x.w)
			if len(x.w.s.hits) > 0 {
				places = append(places, place{to, nil, k, r})
				return x.text(places, len(places)-1), true, true
			}
			key := x.w.s.hash + uint64(to)*0x9e3779b97f4a7c15
			if slices.ContainsFunc(known[key], func(i int) bool { return places[i].lang == to && x.w.is(places[i].s) }) {
				continue
			}
			known[key] = append(known[key], len(places))
			s := x.w.s
			s.at, s.hits = slices.Clone(s.at), nil
			places = append(places, place{to, &s, k, r})
		}
	}
	return "", false, true
}

// maxSteps bounds the work for one expression and one language: a few
// milliseconds.
const maxSteps = 10_000

// text returns a text of the language that begins as the walk to place k did.
func (x *walk) text(places []place, k int) string {
	var back []rune
	lang := places[k].lang
	for ; places[k].from != none; k = places[k].from {
		back = append(back, x.l.folded(places[k].char))
	}
	slices.Reverse(back)
	return string(append(back, x.l.shortest(lang)...))
}

// shortest returns how a text that stands at state s can end.
func (l *Language) shortest(s int) []rune {
	type step struct {
		from int
		char rune
	}
	width := len(l.cuts)
	came := map[int]step{s: {none, 0}}
	for queue := []int{s}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		if l.accept[at] {
			var back []rune
			for ; came[at].from != none; at = came[at].from {
				back = append(back, came[at].char)
			}
			slices.Reverse(back)
			return back
		}
		for k, to := range l.next[at*width : (at+1)*width] {
			if _, ok := came[to]; to != none && !ok {
				came[to] = step{at, l.folded(l.cuts[k])}
				queue = append(queue, to)
			}
		}
	}
	return nil
}

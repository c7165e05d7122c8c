package rx

import (
	"regexp/syntax"
	"slices"
)

// A state is a set of positions, what kind of character was read last, and which
// expressions are known to have matched once it is reached. It never changes.
type state struct {
	at   []uint32 // in no order
	hits []uint32
	prev uint8
	hash uint64
}

// starts are where expressions stand after the first character of a match, by
// kind before and class. A match may begin at any place of a text: every state
// holds them, and none needs to.
type starts struct {
	from []uint32 // prev*stride + class → offset into list
	list []uint32 // positions, and hits with startHit
}

const startHit = 1 << 31

func (n *nfa) newStarts(exprs []uint32, w *scratch) starts {
	var s starts
	s.from = make([]uint32, 0, 4*n.stride+1)
	for prev := range uint8(4) {
		for class := range n.stride {
			s.from = append(s.from, uint32(len(s.list)))
			if class > n.classes.n {
				continue
			}
			flags := n.flags(prev, class)
			w.begin()
			for _, e := range exprs {
				c := &n.begin[e]
				if c.matches(flags) {
					w.hit(e)
				} else if class < n.classes.n {
					w.follow(n, c, class, flags)
				}
			}
			w.end(n)
			for _, e := range w.s.hits {
				s.list = append(s.list, e|startHit)
			}
			s.list = append(s.list, w.s.at...)
		}
	}
	s.from = append(s.from, uint32(len(s.list)))
	return s
}

// A scratch is what one step needs. It serves one scan at a time.
type scratch struct {
	mode  mode
	s     state    // the result of the last step
	lone  state    // where a scan stands when its state was not kept
	seen  []uint32 // position → the last round in which it was added
	gone  []uint32 // hit → the last round in which it was found
	best  []uint32 // chain → the position of it that was added with the lowest rank
	round uint32
	stale bool // a position was added that another of its chain makes needless
	work  int  // positions looked at since it was set to 0
}

func newScratch(n *nfa, m mode) *scratch {
	return &scratch{
		mode: m,
		seen: make([]uint32, len(n.closures)),
		gone: make([]uint32, len(n.begin)+len(n.openings)),
		best: make([]uint32, n.nChains+1),
	}
}

func (w *scratch) begin() {
	w.s.at, w.s.hits = w.s.at[:0], w.s.hits[:0]
	if w.round++; w.round == 0 {
		clear(w.seen)
		clear(w.gone)
		w.round = 1
	}
}

func (w *scratch) hit(h uint32) {
	if w.gone[h] != w.round {
		w.gone[h] = w.round
		w.s.hits = append(w.s.hits, h)
	}
}

func (w *scratch) add(n *nfa, to uint32) {
	if w.mode == second && n.heads[n.chains[to].id] != noHead && n.open[to] != 0 {
		to = n.heads[n.chains[to].id]
	}
	if w.seen[to] == w.round {
		return
	}
	switch w.mode {
	case first:
		if k := n.open[to]; k != 0 {
			w.hit(uint32(len(n.begin)) + k - 1)
			return
		}
	case second:
		if !n.past[to] {
			return
		}
	case whole:
	}
	if n.closures[to].accept {
		w.hit(n.expr[to])
		return
	}
	if c := n.chains[to]; c.id != 0 {
		if b := w.best[c.id]; w.seen[b] == w.round && n.chains[b].id == c.id {
			if n.chains[b].rank < c.rank {
				return
			}
			w.stale = true
		}
		w.best[c.id] = to
	}
	w.seen[to] = w.round
	w.s.at = append(w.s.at, to)
}

// follow adds what c leads to with a class.
func (w *scratch) follow(n *nfa, c *closure, class int, flags syntax.EmptyOp) {
	if c.byClass != nil {
		for _, to := range c.targets[c.byClass[class]:c.byClass[class+1]] {
			w.add(n, to)
		}
	}
	w.work += 1 + len(c.leaves)
	for _, l := range c.leaves {
		if l.cond&^flags == 0 && n.member[l.set].Has(class) {
			w.add(n, l.to)
		}
	}
}

// end takes out the positions that nobody needs.
func (w *scratch) end(n *nfa) {
	w.work += len(w.s.at)
	if len(w.s.hits) == 0 && !w.stale {
		return
	}
	w.stale = false
	w.s.at = slices.DeleteFunc(w.s.at, func(p uint32) bool {
		c := n.chains[p]
		// Who gets here with a hit has matched: nothing is left to find.
		drop := w.gone[n.expr[p]] == w.round || c.id != 0 && w.best[c.id] != p
		if drop {
			w.seen[p] = 0
		}
		return drop
	})
	slices.Sort(w.s.hits)
}

// step computes into w.s the state that follows s with a class, or with the end
// of the text (class n.classes.n).
func (n *nfa) step(s *state, class int, first *starts, w *scratch) {
	w.begin()
	flags := n.flags(s.prev, class)
	end := class == n.classes.n
	for _, p := range s.at {
		c := &n.closures[p]
		if len(c.ends) > 0 && c.matches(flags) {
			w.hit(n.expr[p])
		} else if !end {
			w.follow(n, c, class, flags)
		}
	}
	k := int(s.prev)*n.stride + class
	for _, p := range first.list[first.from[k]:first.from[k+1]] {
		if p&startHit != 0 {
			w.hit(p &^ startHit)
		} else {
			w.add(n, p)
		}
	}
	w.end(n)
	w.s.prev = atEnd
	if !end {
		w.s.prev = n.kind[class]
	}
	w.s.hash = hashOf(&w.s)
}

// is reports whether s is what the last step computed.
func (w *scratch) is(s *state) bool {
	if s.hash != w.s.hash || s.prev != w.s.prev || len(s.at) != len(w.s.at) || !slices.Equal(s.hits, w.s.hits) {
		return false
	}
	for _, p := range s.at {
		if w.seen[p] != w.round {
			return false
		}
	}
	return true
}

func mix(x uint64) uint64 {
	x *= 0x9e3779b97f4a7c15
	x ^= x >> 29
	return x * 0xbf58476d1ce4e5b9
}

// hashOf does not depend on the order of positions.
func hashOf(s *state) uint64 {
	h := uint64(s.prev) + 1
	for _, p := range s.at {
		h += mix(uint64(p) + 8)
	}
	for _, p := range s.hits {
		h += mix(uint64(p)<<32 + 7)
	}
	return h ^ h>>32
}

package rx

import "slices"

// In x{0,100}y it is enough to follow the match that has used up the fewest x:
// whatever completes a later one completes it too. Without that a text makes a
// state for each subset of the hundred positions.
//
// A chain is such a row of positions; each can do what the next can.
type chain struct {
	id   uint32 // 0: none
	rank uint32
}

// findChains finds the chains among the positions, before closures are indexed.
func (n *nfa) findChains() {
	const unknown, none = ^uint32(0), ^uint32(0) - 1
	next := make([]uint32, len(n.closures))
	for p := range next {
		next[p] = unknown
	}
	// after finds the position whose texts p can complete, too.
	var after func(p uint32) uint32
	after = func(p uint32) uint32 {
		if next[p] != unknown {
			return next[p]
		}
		next[p] = none // while it is looked for
		c := &n.closures[p]
		for k, l := range c.leaves {
			q := l.to
			d := &n.closures[q]
			if q == p || l.cond != 0 || d.accept || !slices.Equal(c.ends, d.ends) {
				continue
			}
			switch len(d.leaves) {
			case len(c.leaves) - 1: // the last: the same without the repeat
				if slices.Equal(c.leaves[:k], d.leaves[:k]) && slices.Equal(c.leaves[k+1:], d.leaves[k:]) {
					next[p] = q
					return q
				}
			case len(c.leaves):
				m := d.leaves[k]
				if m.set == l.set && m.cond == 0 && slices.Equal(c.leaves[:k], d.leaves[:k]) &&
					slices.Equal(c.leaves[k+1:], d.leaves[k+1:]) && after(q) == m.to {
					next[p] = q
					return q
				}
			}
		}
		return none
	}
	inside := make([]bool, len(next))
	for p := range next {
		if q := after(uint32(p)); q < none {
			inside[q] = true
		}
	}
	n.chains = make([]chain, len(next))
	for p := range next {
		if inside[p] || next[p] >= none {
			continue
		}
		n.nChains++
		rank := uint32(0)
		for q := uint32(p); q < none && n.chains[q].id == 0; q = next[q] {
			n.chains[q] = chain{uint32(n.nChains), rank}
			rank++
		}
	}
}

package rx

// Expressions like union.*?select stay open for as long as the text goes on, each
// from another place on, and so multiply the states of all that is followed with
// them: 84 expressions of the Core Rule Set made 45,000 states of 64 KB of prose.
// Therefore there are two passes. The first stops where an expression stays open,
// and asks only: does it match, or does it come that far? It needs few states,
// whatever the text. The second follows those expressions that came that far, and
// of the others nothing.

// Of x{1,100} in such a place the second pass makes x+, since a hundred positions
// would meet every word that follows. What it says of these few expressions is
// not exact.

// An opening is a place where an expression stays open.
type opening struct {
	expr  uint32
	exits Bits // classes: a text without any of them does not get out again
}

// findOpenings fills in open, openings and past, before closures are indexed.
func (n *nfa) findOpenings() {
	n.open = make([]uint32, len(n.closures))
	n.heads = make([]uint32, n.nChains+1)
	for id := range n.heads {
		n.heads[id] = noHead
	}
	n.loose = make([]bool, len(n.begin))
	n.past = make([]bool, len(n.closures))
	into := make([][]uint32, len(n.closures))
	var ahead, behind []uint32
	for p := range n.closures {
		for _, l := range n.closures[p].leaves {
			into[l.to] = append(into[l.to], uint32(p))
		}
		if !n.stays(uint32(p)) {
			continue
		}
		exits := n.exits(uint32(p))
		id := -1
		for k, o := range n.openings {
			if o.expr == n.expr[p] && same(o.exits, exits) {
				id = k
			}
		}
		if id < 0 {
			id = len(n.openings)
			n.openings = append(n.openings, opening{n.expr[p], exits})
		}
		n.open[p] = uint32(id) + 1
		if c := n.chains[p]; c.id != 0 {
			n.loose[n.expr[p]] = true
			if c.rank == 0 {
				n.heads[c.id] = uint32(p)
			}
		}
		ahead, behind = append(ahead, uint32(p)), append(behind, uint32(p))
	}
	// What leads to an opening and what it leads to concerns the second pass.
	seen := make([]bool, len(n.closures))
	walk := func(todo []uint32, each func(p uint32, f func(q uint32))) {
		clear(seen)
		for _, p := range todo {
			seen[p], n.past[p] = true, true
		}
		for len(todo) > 0 {
			p := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			each(p, func(q uint32) {
				if !seen[q] {
					seen[q], n.past[q] = true, true
					todo = append(todo, q)
				}
			})
		}
	}
	walk(ahead, func(p uint32, f func(uint32)) {
		for _, l := range n.closures[p].leaves {
			f(l.to)
		}
	})
	walk(behind, func(p uint32, f func(uint32)) {
		for _, q := range into[p] {
			f(q)
		}
	})
}

const noHead = ^uint32(0)

// stays reports whether p lasts through ordinary words: it reads a letter and a
// blank and is, or is as good as, where it was.
func (n *nfa) stays(p uint32) bool {
	for _, l := range n.closures[p].leaves {
		loop := l.to == p || n.chains[p].id != 0 && n.chains[p].id == n.chains[l.to].id
		if loop && n.member[l.set].Has(int(n.ascii['e'])) && n.member[l.set].Has(int(n.ascii[' '])) {
			return true
		}
	}
	return false
}

// exits returns the classes that lead out of the loop at p.
func (n *nfa) exits(p uint32) Bits {
	out := NewBits(n.classes.n)
	c := &n.closures[p]
	for _, l := range c.leaves {
		if l.to != p && (n.chains[p].id == 0 || n.chains[p].id != n.chains[l.to].id) {
			for k, w := range n.member[l.set] {
				out[k] |= w
			}
		}
	}
	if len(c.ends) > 0 { // it can match where it stands
		for class := range n.classes.n {
			out.Set(class)
		}
	}
	return out
}

func same(a, b Bits) bool {
	for k := range a {
		if a[k] != b[k] {
			return false
		}
	}
	return true
}

// A mode is how far expressions are followed.
type mode uint8

const (
	whole  mode = iota // all the way
	first              // until they match or stay open
	second             // only on ways that stay open somewhere, and there without counting
)

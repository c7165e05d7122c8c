package waf

import (
	"slices"
	"sync/atomic"

	"github.com/gatehouse-api/gatehouse/internal/validate/rx"
)

// A class is the rules that look at a value, and in which forms of it.
type class struct {
	*bundle
	salt   uint64
	nodes  []node
	mask   uint64 // transformations of nodes
	leaps  []leap
	least  int     // no text with fewer bytes matches
	direct []ask   // of operators that are asked one by one
	ofRx   [][]ask // by pattern
	ofPM   [][]ask // by list of phrases
	sqli   []ask
	xss    []ask
	rules  Mask

	plans [64]atomic.Pointer[forming]
}

// A node is a form of a value: a transformation of another form.
type node struct {
	from int
	t    *transform
	bit  int // of signatures
	work work
}

// A work is what is asked about a form.
type work struct {
	rx, not   rx.Bits // patterns; those of which a rule wants that they do not match
	pm, pmNot []uint64
	sqli, xss bool

	set      *subset // the smallest that has all of rx; nil: none is asked
	shortest int     // texts with fewer bytes match none of rx
}

// An ask is a rule that asks about a form.
type ask struct {
	rule *rule
	node int
}

// A forming is what is to be done to make the forms of a text of a signature:
// nodes whose transformation leaves it as it is are one.
type forming struct {
	sig   uint64
	of    []int32 // by node of the class
	nodes []node
}

func (p *place) compile(apply []byte) *class {
	c := newClass(p.bundle)
	c.salt = p.scan.salts.Add(1) * 0x9e3779b97f4a7c15
	seen := map[*rule]bool{}
	for i := range p.entries {
		x, n := p.entries[i].rule, p.entries[i].choice
		if apply[n>>3]>>(n&7)&1 == 0 || seen[x] {
			continue
		}
		seen[x] = true
		for len(c.rules) <= x.n>>6 {
			c.rules = append(c.rules, 0)
		}
		c.rules[x.n>>6] |= 1 << (x.n & 63)
		c.enter(x, x.links[0].chain, p.scan.steps)
	}
	for i := range c.leaps {
		c.leaps[i].to.bound()
	}
	return c
}

func newClass(b *bundle) *class {
	c := &class{bundle: b, ofRx: make([][]ask, len(b.patterns)), ofPM: make([][]ask, len(b.phrases))}
	c.nodes = []node{{work: c.newWork()}}
	return c
}

// enter adds the forms that a rule asks about, and the asks.
func (c *class) enter(x *rule, chain []transform, steps map[string]int) {
	multi := x.links[0].multi
	at := 0
	if multi {
		c.put(x, at)
	}
	for k := range chain {
		t := &chain[k]
		if t.fills || t.trigger == setRange(0, 255) {
			c.leap(at, t).enter(x, chain[k+1:], steps)
			return
		}
		at = c.child(at, t, steps)
		if multi {
			c.put(x, at)
		}
	}
	if !multi {
		c.put(x, at)
	}
}

// A leap is a transformation that makes something else of every text: what comes
// then is looked at as a value of its own.
type leap struct {
	from int
	t    *transform
	to   *class
}

func (c *class) leap(from int, t *transform) *class {
	for i := range c.leaps {
		if c.leaps[i].from == from && c.leaps[i].t.name == t.name {
			return c.leaps[i].to
		}
	}
	to := newClass(c.bundle)
	c.leaps = append(c.leaps, leap{from, t, to})
	return to
}

// bound finds the length below which no text has to be looked at.
func (c *class) bound() {
	for i := range c.leaps {
		c.leaps[i].to.bound()
	}
	if len(c.direct)+len(c.leaps)+len(c.sqli)+len(c.xss) > 0 {
		return
	}
	least := 1 << 30
	for i := range c.nodes {
		w := &c.nodes[i].work
		if w.not.Any() || rx.Bits(w.pm).Any() {
			return
		}
		for n := w.rx.Next(0); n >= 0; n = w.rx.Next(n + 1) {
			least = min(least, c.bundle.shortest[n])
		}
	}
	c.least = least
}

func (c *class) newWork() work {
	bits, lists := len(rx.NewBits(len(c.patterns))), (len(c.phrases)+63)/64
	room := make([]uint64, 2*(bits+lists))
	take := func(n int) []uint64 {
		b := room[:n:n]
		room = room[n:]
		return b
	}
	return work{rx: take(bits), not: take(bits), pm: take(lists), pmNot: take(lists)}
}

// child returns the node that a transformation makes of another.
func (c *class) child(from int, t *transform, steps map[string]int) int {
	for i := 1; i < len(c.nodes); i++ {
		if c.nodes[i].from == from && c.nodes[i].t.name == t.name {
			return i
		}
	}
	bit := steps[t.name]
	c.mask |= 1 << bit
	c.nodes = append(c.nodes, node{from: from, t: t, bit: bit, work: c.newWork()})
	return len(c.nodes) - 1
}

// put notes that a rule asks about a form.
func (c *class) put(x *rule, at int) {
	l := &x.links[0]
	a := ask{x, at}
	w := &c.nodes[at].work
	switch op := l.op.(type) {
	case *regex:
		n := c.number[op.pattern]
		c.ofRx[n] = append(c.ofRx[n], a)
		w.rx.Set(n)
		if l.negate {
			w.not.Set(n)
		}
	case *phrases:
		n := slices.Index(c.phrases, op)
		c.ofPM[n] = append(c.ofPM[n], a)
		w.pm[n>>6] |= 1 << (n & 63)
		if l.negate {
			w.pmNot[n>>6] |= 1 << (n & 63)
		}
	case detectSQLi:
		c.sqli = append(c.sqli, a)
		w.sqli = true
	case detectXSS:
		c.xss = append(c.xss, a)
		w.xss = true
	default:
		c.direct = append(c.direct, a)
	}
}

// add adds what another form is asked.
func (w *work) add(o *work) {
	for i := range o.rx {
		w.rx[i] |= o.rx[i]
		w.not[i] |= o.not[i]
	}
	for i := range o.pm {
		w.pm[i] |= o.pm[i]
		w.pmNot[i] |= o.pmNot[i]
	}
	w.sqli, w.xss = w.sqli || o.sqli, w.xss || o.xss
}

// choose finds the set to scan with.
func (c *class) choose(w *work) {
	w.set, w.shortest = nil, 0
	if !w.rx.Any() {
		return
	}
	fewest := 0
	for i := range c.sets {
		s := &c.sets[i]
		covers := true
		for k := range w.rx {
			covers = covers && w.rx[k]&^s.bits[k] == 0
		}
		if n := s.set.Len(); covers && (w.set == nil || n < fewest) {
			w.set, fewest = s, n
		}
	}
	if w.not.Any() {
		return
	}
	w.shortest = 1 << 30
	for n := w.rx.Next(0); n >= 0; n = w.rx.Next(n + 1) {
		w.shortest = min(w.shortest, c.shortest[n])
	}
}

// plan returns what is to be done with texts of that signature.
func (c *class) plan(sig uint64) *forming {
	slot := &c.plans[(sig*0x9e3779b97f4a7c15)>>58]
	if f := slot.Load(); f != nil && f.sig == sig {
		return f
	}
	f := &forming{sig: sig, of: make([]int32, len(c.nodes)), nodes: []node{{work: c.newWork()}}}
	for i := range c.nodes {
		n := &c.nodes[i]
		at := int32(0)
		if i > 0 {
			at = f.of[n.from]
			if sig>>n.bit&1 != 0 {
				at = f.child(c, at, n)
			}
		}
		f.of[i] = at
		f.nodes[at].work.add(&n.work)
	}
	for i := range f.nodes {
		c.choose(&f.nodes[i].work)
	}
	slot.Store(f)
	return f
}

func (f *forming) child(c *class, from int32, n *node) int32 {
	for i := 1; i < len(f.nodes); i++ {
		if m := &f.nodes[i]; m.from == int(from) && m.bit == n.bit {
			return int32(i)
		}
	}
	f.nodes = append(f.nodes, node{from: int(from), t: n.t, bit: n.bit, work: c.newWork()})
	return int32(len(f.nodes) - 1)
}

package rx

import (
	"regexp/syntax"
	"slices"
)

// An nfa holds expressions side by side. Its positions are the places between two
// characters where an expression can stand; each belongs to one expression.
type nfa struct {
	*classes
	binary   bool
	expr     []uint32  // position → expression
	closures []closure // position → where it goes on
	begin    []closure // expression → where it begins
	chains   []chain   // position → its chain
	nChains  int
	open     []uint32 // position → its opening + 1, 0: none
	past     []bool   // position → it leads to an opening, or one leads to it
	openings []opening
	heads    []uint32 // chain → its first position, if the second pass does not count it; or noHead
	loose    []bool   // expression → it has such chains
	member   []Bits   // set of characters → its classes
	stride   int      // of a row of transitions: the classes and one for the end of the text
}

// A closure is what can follow a position before more is read.
type closure struct {
	accept bool             // the expression has matched
	ends   []syntax.EmptyOp // it has matched where all of one of these hold
	leaves []leaf

	// The leaves without condition, when they are many: those of a class are
	// targets[byClass[class]:byClass[class+1]].
	byClass []uint32
	targets []uint32
}

// A leaf reads one character of a set where cond holds.
type leaf struct {
	cond syntax.EmptyOp
	set  uint32
	to   uint32 // position
}

// manyLeaves is from where on a table by class is quicker than asking each.
const manyLeaves = 8

// never can not hold: where one of them does, the other does not.
const never = syntax.EmptyWordBoundary | syntax.EmptyNoWordBoundary

// A builder turns programs into positions.
type builder struct {
	n       *nfa
	sets    []ranges
	setIDs  map[string]uint32
	prog    *syntax.Prog
	number  uint32   // of the expression
	at      []uint32 // pc → position + 1, 0: it has none yet
	setAt   []uint32 // pc → set + 1, 0: not looked up yet
	queue   []uint32 // pcs of positions that have no closure yet
	seen    []uint64 // pc → the conditions it was reached under, as bits
	touched []uint32 // where seen is not 0
}

func newNFA(progs []*syntax.Prog, binary bool) *nfa {
	b := &builder{n: &nfa{binary: binary}, setIDs: map[string]uint32{}}
	n := b.n
	most := 0 // positions
	for _, p := range progs {
		for i := range p.Inst {
			if p.Inst[i].Op >= syntax.InstRune {
				most++
			}
		}
	}
	n.closures, n.expr = make([]closure, 0, most), make([]uint32, 0, most)
	for i, p := range progs {
		b.prog, b.number = p, uint32(i)
		b.at, b.setAt = make([]uint32, len(p.Inst)), make([]uint32, len(p.Inst))
		b.seen, b.touched = make([]uint64, len(p.Inst)), b.touched[:0]
		n.begin = append(n.begin, b.closure(uint32(p.Start)))
		for len(b.queue) > 0 {
			pc := b.queue[len(b.queue)-1]
			b.queue = b.queue[:len(b.queue)-1]
			c := b.closure(pc) // may add positions
			n.closures[b.at[pc]-1] = c
		}
	}
	n.classes, n.member = newClasses(b.sets, binary)
	n.findChains()
	n.findOpenings()
	n.stride = (n.classes.n + 16) &^ 15 // whole cache lines
	for i := range n.closures {
		n.closures[i].index(n)
	}
	return n
}

// flags says which assertions hold between a character of kind prev and one of a
// class, or the end.
func (n *nfa) flags(prev uint8, class int) syntax.EmptyOp {
	if class == n.classes.n {
		return flagsBetween[prev][atEnd]
	}
	return flagsBetween[prev][n.kind[class]]
}

// matches reports whether the expression has matched where flags hold.
func (c *closure) matches(flags syntax.EmptyOp) bool {
	return c.accept || slices.ContainsFunc(c.ends, func(e syntax.EmptyOp) bool { return e&^flags == 0 })
}

// index makes the table of many leaves.
func (c *closure) index(n *nfa) {
	if len(c.leaves) < manyLeaves {
		return
	}
	c.byClass = make([]uint32, n.classes.n+1)
	for class := range n.classes.n {
		c.byClass[class] = uint32(len(c.targets))
		for _, l := range c.leaves {
			if l.cond == 0 && n.member[l.set].Has(class) {
				c.targets = append(c.targets, l.to)
			}
		}
	}
	c.byClass[n.classes.n] = uint32(len(c.targets))
	c.targets = slices.Clip(c.targets)
	var rest []leaf
	for _, l := range c.leaves {
		if l.cond != 0 {
			rest = append(rest, l)
		}
	}
	c.leaves = rest
}

// position returns the position before instruction pc.
func (b *builder) position(pc uint32) uint32 {
	for {
		in := &b.prog.Inst[pc]
		if in.Op != syntax.InstNop && in.Op != syntax.InstCapture {
			break
		}
		pc = in.Out
	}
	if at := b.at[pc]; at != 0 {
		return at - 1
	}
	at := uint32(len(b.n.closures))
	b.at[pc] = at + 1
	b.n.closures = append(b.n.closures, closure{})
	b.n.expr = append(b.n.expr, b.number)
	b.queue = append(b.queue, pc)
	return at
}

// closure follows the instructions from pc to those that read.
func (b *builder) closure(pc uint32) closure {
	var c closure
	type place struct {
		pc   uint32
		cond syntax.EmptyOp
	}
	for _, t := range b.touched {
		b.seen[t] = 0
	}
	b.touched = b.touched[:0]
	stack := []place{{pc, 0}}
	for len(stack) > 0 {
		p := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		// What was reached under fewer conditions was reached.
		if p.cond&never == never || b.seen[p.pc]&subsets[p.cond] != 0 {
			continue
		}
		b.seen[p.pc] |= 1 << p.cond
		b.touched = append(b.touched, p.pc)
		in := &b.prog.Inst[p.pc]
		switch in.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			stack = append(stack, place{in.Arg, p.cond}, place{in.Out, p.cond})
		case syntax.InstNop, syntax.InstCapture:
			stack = append(stack, place{in.Out, p.cond})
		case syntax.InstEmptyWidth:
			stack = append(stack, place{in.Out, p.cond | syntax.EmptyOp(in.Arg)})
		case syntax.InstMatch:
			if p.cond == 0 {
				return closure{accept: true}
			}
			c.ends = append(c.ends, p.cond)
		case syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
			c.leaves = append(c.leaves, leaf{p.cond, b.set(p.pc), b.position(in.Out)})
		case syntax.InstFail:
		}
	}
	return c
}

// set returns the number of the set of characters that instruction pc takes.
func (b *builder) set(pc uint32) uint32 {
	if id := b.setAt[pc]; id != 0 {
		return id - 1
	}
	x := rangesOf(&b.prog.Inst[pc])
	key := make([]byte, 0, 3*len(x))
	for _, r := range x {
		key = append(key, byte(r>>16), byte(r>>8), byte(r))
	}
	id, ok := b.setIDs[string(key)]
	if !ok {
		id = uint32(len(b.sets))
		b.setIDs[string(key)] = id
		b.sets = append(b.sets, x)
	}
	b.setAt[pc] = id + 1
	return id
}

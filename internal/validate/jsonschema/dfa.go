package jsonschema

import (
	"regexp/syntax"
	"slices"
	"unicode"
	"unicode/utf8"
)

// maxStates bounds the table of one pattern: 256 states are 64 KB at most.
const maxStates = 256

// A dfa decides a pattern with one table look-up a byte. It knows ASCII; text
// beyond it is left to RE2, which also serves as its oracle in the tests.
type dfa struct {
	next   []uint16 // by 128*state + byte: 128*state, where dead is 0, or doneState
	accept []bool   // when the text ends here
	done   []bool   // matched whatever follows
}

// doneState stands for all states that have matched whatever follows.
const doneState = maxStates << 7

// decide reports whether text matches, or that it cannot tell.
func decide[T string | []byte](d *dfa, text T) (ok, decided bool) {
	const first = 1
	if d.done[first] {
		return true, true
	}
	next, state := d.next, uint16(first<<7)
	for i := range len(text) {
		c := text[i]
		if c >= utf8.RuneSelf {
			return false, false
		}
		state = next[state|uint16(c)]
		if state-1 >= doneState-1 { // dead: no continuation matches, whatever its characters; or done
			return state == doneState, true
		}
	}
	return d.accept[state>>7], true
}

// newDFA builds the table by subset construction, nil when the pattern needs
// more than it offers: word boundaries, line anchors, too many states.
func newDFA(tree *syntax.Regexp) *dfa {
	prog, err := syntax.Compile(tree.Simplify())
	if err != nil || len(prog.Inst) > 1024 {
		return nil
	}
	b := &subset{prog: prog, ids: map[string]uint16{}, sets: [][]uint32{nil}} // state 0 is dead
	b.d = &dfa{next: make([]uint16, 128), accept: []bool{false}, done: []bool{false}}
	start := b.closure([]uint32{uint32(prog.Start)}, true)
	if b.bad {
		return nil
	}
	if b.add(start) == 0 {
		return nil // matches nothing at all: RE2 may say so
	}
	first := classes(prog)
	for i := 1; i < len(b.sets); i++ {
		if b.d.done[i] {
			continue
		}
		for k, c := range first {
			var to []uint32
			for _, pc := range b.sets[i] {
				if in := &prog.Inst[pc]; takesRune(in.Op) && in.MatchRune(rune(c)) {
					to = append(to, in.Out)
				}
			}
			to = append(to, uint32(prog.Start)) // a match may begin at any byte
			id := b.add(b.closure(to, false))
			if b.bad || len(b.sets) > maxStates {
				return nil
			}
			end := 128
			if k+1 < len(first) {
				end = first[k+1]
			}
			for ; c < end; c++ {
				b.d.next[i<<7|c] = id
			}
		}
	}
	for i, state := range b.d.next {
		if b.d.done[state] {
			b.d.next[i] = doneState
		} else {
			b.d.next[i] = state << 7
		}
	}
	return b.d
}

func takesRune(op syntax.InstOp) bool {
	return op == syntax.InstRune || op == syntax.InstRune1 || op == syntax.InstRuneAny || op == syntax.InstRuneAnyNotNL
}

// classes returns the first byte of each run of bytes no instruction tells apart.
func classes(prog *syntax.Prog) []int {
	var cut [129]bool
	cut[0] = true
	mark := func(r rune) {
		if r >= 0 && r < 128 {
			cut[r] = true
		}
	}
	for i := range prog.Inst {
		in := &prog.Inst[i]
		if in.Op == syntax.InstRuneAnyNotNL {
			mark('\n')
			mark('\n' + 1)
		}
		if in.Op == syntax.InstRune || in.Op == syntax.InstRune1 {
			if len(in.Rune) == 1 { // one character, perhaps in both cases
				mark(in.Rune[0])
				mark(in.Rune[0] + 1)
				for r := unicode.SimpleFold(in.Rune[0]); r != in.Rune[0]; r = unicode.SimpleFold(r) {
					mark(r)
					mark(r + 1)
				}
				continue
			}
			for k := 0; k+1 < len(in.Rune); k += 2 {
				mark(in.Rune[k])
				mark(in.Rune[k+1] + 1)
			}
		}
	}
	var first []int
	for c := range 128 {
		if cut[c] {
			first = append(first, c)
		}
	}
	return first
}

type subset struct {
	prog *syntax.Prog
	d    *dfa
	ids  map[string]uint16
	sets [][]uint32
	bad  bool
}

// closure follows everything that takes no byte. What waits for the end of the
// text stays in the set as its own instruction.
func (b *subset) closure(from []uint32, begin bool) []uint32 {
	seen := map[uint32]bool{}
	var out []uint32
	stack := slices.Clone(from)
	for len(stack) > 0 {
		pc := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if seen[pc] {
			continue
		}
		seen[pc] = true
		in := &b.prog.Inst[pc]
		switch in.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			stack = append(stack, in.Out, in.Arg)
		case syntax.InstCapture, syntax.InstNop:
			stack = append(stack, in.Out)
		case syntax.InstEmptyWidth:
			switch op := syntax.EmptyOp(in.Arg); {
			case op == syntax.EmptyBeginText && begin:
				stack = append(stack, in.Out)
			case op == syntax.EmptyEndText:
				out = append(out, pc)
			case op != syntax.EmptyBeginText:
				b.bad = true
			}
		case syntax.InstFail:
		case syntax.InstMatch, syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
			out = append(out, pc)
		}
	}
	slices.Sort(out)
	return out
}

// add returns the number of the state with this set, making it when it is new.
func (b *subset) add(set []uint32) uint16 {
	if len(set) == 0 {
		return 0
	}
	key := make([]byte, 0, len(set)*2)
	for _, pc := range set {
		key = append(key, byte(pc), byte(pc>>8))
	}
	if id, ok := b.ids[string(key)]; ok {
		return id
	}
	id := uint16(len(b.sets))
	b.ids[string(key)] = id
	b.sets = append(b.sets, set)
	done, accept := b.ends(set)
	b.d.done = append(b.d.done, done)
	b.d.accept = append(b.d.accept, accept)
	b.d.next = append(b.d.next, make([]uint16, 128)...)
	return id
}

// ends reports whether the set has matched already, and whether it matches if
// the text ends here.
func (b *subset) ends(set []uint32) (done, accept bool) {
	var after []uint32
	for _, pc := range set {
		in := &b.prog.Inst[pc]
		done = done || in.Op == syntax.InstMatch
		if in.Op == syntax.InstEmptyWidth {
			after = append(after, in.Out)
		}
	}
	seen := map[uint32]bool{}
	for len(after) > 0 && !done && !accept {
		pc := after[len(after)-1]
		after = after[:len(after)-1]
		if seen[pc] {
			continue
		}
		seen[pc] = true
		switch in := &b.prog.Inst[pc]; in.Op {
		case syntax.InstMatch:
			accept = true
		case syntax.InstAlt, syntax.InstAltMatch:
			after = append(after, in.Out, in.Arg)
		case syntax.InstCapture, syntax.InstNop:
			after = append(after, in.Out)
		case syntax.InstEmptyWidth:
			if syntax.EmptyOp(in.Arg) == syntax.EmptyEndText {
				after = append(after, in.Out)
			} else {
				b.bad = true
			}
		case syntax.InstFail, syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
		}
	}
	return done, accept
}

package rx

import (
	"sync/atomic"
	"unicode/utf8"
)

// What is charged, in nanoseconds as measured (rounded up).
const (
	scanCost = 40  // a scan
	byteCost = 5   // a byte, for dfas that go together
	stepCost = 200 // a transition that is not known
	workCost = 10  // and each position looked at for it
	keepCost = 700 // and a state made
)

// lanes is how many dfas go over a text together: their look-ups do not wait for
// each other.
const lanes = 4

// A lane is one dfa on its way over a text.
type lane struct {
	d    *dfa
	t    *table
	at   uint32 // row*stride
	done bool   // it has gone ahead alone
}

// rest is a table for lanes that no dfa is on: one state without an exit.
func newRest(stride int) *table {
	t := &table{next: make([]atomic.Uint32, 2*stride)}
	for i := range t.next {
		t.next[i].Store(uint32(stride))
	}
	return t
}

// classAt returns the class of the character at i and its width; at the end of
// the text the class of the end.
func (n *nfa) classAt(text string, i int) (class uint32, width int) {
	if i >= len(text) {
		return uint32(n.classes.n), 1
	}
	b := text[i]
	if b < utf8.RuneSelf || n.binary {
		return uint32(n.ascii[b]), 1
	}
	r, width := utf8.DecodeRuneInString(text[i:])
	return uint32(n.of(r)), width
}

// An outcome is how a scan ended.
type outcome uint8

const (
	ended    outcome = iota // the budget did not suffice
	complete                // all hits are known
	givenUp                 // it would need too many new states
)

// scan puts into hits the expressions of up to four dfas of n that match text.
// It gives up after so many new transitions as tries, unless that is negative.
func (n *nfa) scan(dfas []*dfa, rest *table, text string, hits Bits, left *int64, tries int) outcome {
	if *left -= scanCost + byteCost*int64(len(text)); *left < 0 {
		return ended
	}
	var run [lanes]lane
	for k := range run {
		run[k] = lane{t: rest, at: uint32(n.stride), done: true}
		if k < len(dfas) {
			run[k] = lane{d: dfas[k], t: dfas[k].table.Load(), at: uint32(startRow * n.stride)}
		}
	}
	for i := 0; ; {
		t0, t1, t2, t3 := run[0].t.next, run[1].t.next, run[2].t.next, run[3].t.next
		a0, a1, a2, a3 := run[0].at, run[1].at, run[2].at, run[3].at
		var class uint32
		var width int
		for {
			if i < len(text) && text[i] < utf8.RuneSelf {
				class, width = uint32(n.ascii[text[i]]), 1
			} else {
				class, width = n.classAt(text, i)
			}
			v0, v1, v2, v3 := t0[a0+class].Load(), t1[a1+class].Load(), t2[a2+class].Load(), t3[a3+class].Load()
			if ((v0-1)|(v1-1)|(v2-1)|(v3-1))&hitFlag != 0 {
				break
			}
			if i >= len(text) {
				return complete
			}
			a0, a1, a2, a3 = v0, v1, v2, v3
			i += width
		}
		run[0].at, run[1].at, run[2].at, run[3].at = a0, a1, a2, a3
		for k := range run {
			l := &run[k]
			v := l.t.next[l.at+class].Load()
			switch {
			case l.done:
			case v != 0:
				l.move(v, hits)
			case tries == 0:
				return givenUp
			default:
				tries--
				if o := l.miss(text, i, class, hits, left, tries < 0); o != complete {
					return o
				}
				if l.done {
					l.t, l.at = rest, uint32(n.stride)
				}
			}
		}
		if i >= len(text) {
			return complete
		}
		i += width
	}
}

// miss makes the transition with the class at i, which is not known. If the new
// state finds no room the lane goes on to the end of the text alone, or gives up.
func (l *lane) miss(text string, i int, class uint32, hits Bits, left *int64, alone bool) outcome {
	d, w := l.d, l.d.scratch()
	defer d.pool.Put(w)
	end := uint32(d.classes.n)
	from := l.t.state[l.at/uint32(d.stride)]
	lone := false // from is no state of the table
	for {
		w.work = 0
		d.step(from, int(class), &d.starts, w)
		*left -= stepCost + workCost*int64(w.work)
		t := l.t
		row := t.find(w)
		if row == 0 {
			*left -= keepCost
			t, row = d.keep(w)
		}
		if *left < 0 {
			return ended
		}
		if row == 0 && !alone {
			return givenUp
		}
		if row == 0 {
			for _, e := range w.s.hits {
				hits.Set(int(e))
			}
			w.s, w.lone = w.lone, w.s
			from, lone, l.done = &w.lone, true, true
		} else {
			v := row * uint32(d.stride)
			if len(w.s.hits) > 0 {
				v |= hitFlag
			}
			if !lone && t.life == l.t.life {
				t.next[l.at+class].Store(v)
			}
			l.t, lone = t, false
			l.move(v, hits)
			if !l.done {
				return complete
			}
		}
		// Alone: as far as the table knows the way, then round again.
		for {
			if class == end {
				return complete
			}
			_, width := d.classAt(text, i)
			i += width
			class, _ = d.classAt(text, i)
			if lone {
				break
			}
			v := l.t.next[l.at+class].Load()
			if v == 0 {
				from = l.t.state[l.at/uint32(d.stride)]
				break
			}
			l.move(v, hits)
		}
	}
}

// move follows a known transition.
func (l *lane) move(v uint32, hits Bits) {
	l.at = v & rowMask
	if v&hitFlag != 0 {
		for _, e := range l.t.state[l.at/uint32(l.d.stride)].hits {
			hits.Set(int(e))
		}
	}
}

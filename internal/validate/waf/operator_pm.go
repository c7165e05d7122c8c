package waf

import (
	"cmp"
	"slices"
	"strings"
	"sync"
)

// denseBytes is how much room the rows of the states near the root may take.
const denseBytes = 256 << 10

// An automaton finds many phrases in one pass, whatever their case in ASCII. It
// is Aho and Corasick's: a state is the longest end of what was read that some
// phrase starts with. Its states are numbered breadth first, so the children of a
// state stand in a row, and the states near the root, where a text nearly always
// is, come first: those have a row with the next state for every byte class. The
// others have their children only, and the way to a shorter state. A byte costs
// two steps at most on average, whatever the text is.
type automaton struct {
	class   [256]uint8 // of a byte, A as a; 0: in no phrase
	classes int

	rows  []uint32 // by state and class, of the first states
	dense uint32   // how many have one

	child []uint32 // by state: its first child; its last is before the next's first
	label []uint8  // by state: the class that leads to it from its parent
	fail  []uint32 // by state: the longest shorter one
	depth []uint32 // by state: how many bytes it is
	ends  []bool   // by state: a phrase ends here as a whole, not only a shorter one
	out   []uint32 // by state: what ends here and in shorter ones, in outs; 0: nothing

	outs  []uint64 // by number: the lists whose phrases end here, words words each
	words int

	always []uint64 // lists with an empty phrase
}

// newAutomaton makes the automaton of up to any number of lists.
func newAutomaton(lists [][]string) *automaton {
	type phrase struct {
		text string
		list int
	}
	a := &automaton{words: (len(lists) + 63) / 64, classes: 1}
	a.always = make([]uint64, a.words)
	var all []phrase
	for i, list := range lists {
		for _, text := range list {
			text = strings.ToLower(text)
			if text == "" {
				a.always[i>>6] |= 1 << (i & 63)
				continue
			}
			all = append(all, phrase{text, i})
			for j := range len(text) {
				if c := text[j]; a.class[c] == 0 {
					a.class[c] = uint8(a.classes)
					a.classes++
				}
			}
		}
	}
	for c := byte('a'); c <= 'z'; c++ {
		a.class[c&^0x20] = a.class[c]
	}
	slices.SortFunc(all, func(x, y phrase) int {
		return cmp.Or(strings.Compare(x.text, y.text), cmp.Compare(x.list, y.list))
	})

	// Breadth first: a state is the range of sorted phrases that share its bytes.
	type span struct{ from, to int }
	states := []span{{0, len(all)}}
	own := [][]int{nil} // by state: lists with a phrase that is this state
	a.label, a.depth, a.ends = []uint8{0}, []uint32{0}, []bool{false}
	for s := 0; s < len(states); s++ {
		a.child = append(a.child, uint32(len(states)))
		d := int(a.depth[s])
		for i := states[s].from; i < states[s].to; {
			if len(all[i].text) == d {
				own[s] = append(own[s], all[i].list)
				a.ends[s] = true
				i++
				continue
			}
			c := all[i].text[d]
			j := i + 1
			for j < states[s].to && all[j].text[d] == c {
				j++
			}
			states = append(states, span{i, j})
			own = append(own, nil)
			a.label = append(a.label, a.class[c])
			a.depth = append(a.depth, uint32(d+1))
			a.ends = append(a.ends, false)
			i = j
		}
	}
	n := len(states)
	a.child = append(a.child, uint32(n))

	a.link(own)
	return a
}

// link finds for each state the shorter one, what ends there, and fills the rows.
func (a *automaton) link(own [][]int) {
	n := len(a.label)
	a.fail, a.out = make([]uint32, n), make([]uint32, n)
	a.outs = make([]uint64, a.words) // number 0: nothing
	known := map[string]uint32{}
	sum := make([]uint64, a.words)
	key := make([]byte, 0, 8*a.words)
	for s := range uint32(n) {
		for t := a.child[s]; t < a.child[s+1]; t++ {
			if s == 0 {
				continue
			}
			f := a.fail[s]
			for {
				if u := a.goes(f, a.label[t]); u != 0 {
					a.fail[t] = u
					break
				}
				if f == 0 {
					break
				}
				f = a.fail[f]
			}
		}
		copy(sum, a.outs[int(a.out[a.fail[s]])*a.words:][:a.words])
		for _, list := range own[s] {
			sum[list>>6] |= 1 << (list & 63)
		}
		if len(own[s]) == 0 {
			a.out[s] = a.out[a.fail[s]]
			continue
		}
		key = key[:0]
		for _, w := range sum {
			for shift := 0; shift < 64; shift += 8 {
				key = append(key, byte(w>>shift))
			}
		}
		number, ok := known[string(key)]
		if !ok {
			number = uint32(len(a.outs) / a.words)
			known[string(key)] = number
			a.outs = append(a.outs, sum...)
		}
		a.out[s] = number
	}
	a.dense = uint32(min(n, max(1, denseBytes/4/a.classes)))
	a.rows = make([]uint32, int(a.dense)*a.classes)
	for s := range a.dense {
		row := a.rows[int(s)*a.classes:][:a.classes]
		if s > 0 { // the shorter state's row is there already
			copy(row, a.rows[int(a.fail[s])*a.classes:])
		}
		for t := a.child[s]; t < a.child[s+1]; t++ {
			row[a.label[t]] = t
		}
	}
}

// goes is the child of s at class c, 0: there is none.
func (a *automaton) goes(s uint32, c uint8) uint32 {
	for t := a.child[s]; t < a.child[s+1]; t++ {
		if a.label[t] == c {
			return t
		}
	}
	return 0
}

// next is the state behind s and a byte of class c.
func (a *automaton) next(s uint32, c uint8) uint32 {
	for s >= a.dense {
		if t := a.goes(s, c); t != 0 {
			return t
		}
		s = a.fail[s]
	}
	return a.rows[int(s)*a.classes+int(c)]
}

// scan sets the bits of the lists of which text has a phrase.
func (a *automaton) scan(text string, hits []uint64) {
	for w, bits := range a.always {
		hits[w] |= bits
	}
	var s uint32
	last := uint32(0)
	for i := range len(text) {
		c := a.class[text[i]]
		if s < a.dense {
			s = a.rows[int(s)*a.classes+int(c)]
		} else {
			s = a.next(s, c)
		}
		if o := a.out[s]; o != 0 && o != last {
			for w, bits := range a.outs[int(o)*a.words:][:a.words] {
				hits[w] |= bits
			}
			last = o
		}
	}
}

// first is the state in which text, read from its byte at on, ends a phrase for
// the first time, and the place behind it; ok false: never.
func (a *automaton) first(text string, at int) (s uint32, end int, ok bool) {
	for i := at; i < len(text); i++ {
		if s = a.next(s, a.class[text[i]]); a.out[s] != 0 {
			return s, i + 1, true
		}
	}
	return 0, 0, false
}

// leftmost is the phrase of text that starts first from the byte at on, of those
// the longest.
func (a *automaton) leftmost(text string, at int) (from, to int, ok bool) {
	if a.always[0] != 0 {
		from, to = at, at // the empty phrase is everywhere
		ok = at <= len(text)
		if end, found := a.longest(text, at); found {
			to = end
		}
		return from, to, ok
	}
	s, end, ok := a.first(text, at)
	if !ok {
		return 0, 0, false
	}
	// One that starts before the phrase found ends behind it, so it is what the
	// state is, or a part of that.
	for from = end - int(a.depth[s]); ; from++ {
		if to, ok := a.longest(text, from); ok {
			return from, to, true
		}
	}
}

// longest is the end of the longest phrase that starts at the byte from.
func (a *automaton) longest(text string, from int) (to int, ok bool) {
	var s uint32
	for i := from; i < len(text); i++ {
		c := a.class[text[i]]
		if c == 0 {
			break
		}
		if s = a.goes(s, c); s == 0 {
			break
		}
		if a.ends[s] {
			to, ok = i+1, true
		}
	}
	return to, ok
}

// phrases is the operator pm and pmFromFile. Its automaton is made when it is
// first needed: where many lists are asked in one pass, one alone is asked only
// for what it captures.
type phrases struct {
	list []string
	auto func() *automaton
}

func newPhrases(list []string) *phrases {
	return &phrases{list: list, auto: sync.OnceValue(func() *automaton { return newAutomaton([][]string{list}) })}
}

// phraseLines are the phrases of a file.
func phraseLines(data []byte) []string { return lines(data) }

func (p *phrases) match(text string, caps *captures) bool {
	auto := p.auto()
	if caps == nil {
		if auto.always[0] != 0 {
			return true
		}
		_, _, ok := auto.first(text, 0)
		return ok
	}
	at, found := 0, false
	for {
		from, to, ok := auto.leftmost(text, at)
		if !ok {
			return found
		}
		found = true
		if !caps.add(text[from:to]) {
			return true
		}
		at = from + 1 // the next may start inside this one
	}
}

func (p *phrases) cost(text string) int64 { return 20 + 5*int64(len(text)) }

// A multiPM asks many pm and pmFromFile operators about a text in one pass.
type multiPM struct{ auto *automaton }

func newMultiPM(ops []*phrases) *multiPM {
	lists := make([][]string, len(ops))
	for i, op := range ops {
		lists[i] = op.list
	}
	return &multiPM{auto: newAutomaton(lists)}
}

// scan sets in hits the bit of each operator that matches text; hits has room for
// all of them.
func (m *multiPM) scan(text string, hits []uint64) { m.auto.scan(text, hits) }

func (m *multiPM) cost(text string) int64 { return 20 + 5*int64(len(text)) }

package rx

import (
	"regexp/syntax"
	"slices"
	"unicode"
	"unicode/utf8"
)

// A Language is a regular set of texts: what is known about a value before it is
// seen. Its texts are valid UTF-8. It errs on the side of too many texts only: a
// language that would take too much room becomes a larger, simpler one.
type Language struct {
	cuts   []rune // intervals of characters begin here; the first at 0
	next   []int  // state*len(cuts) + interval → state; none when no text goes on so
	accept []bool // by state; every state leads to an accepted one; 0 is the start
	fold   bool   // its texts are these, with ASCII letters lower-cased
}

const (
	none        = -1
	maxLanguage = 1 << 13 // states
)

// Any returns the language of all texts.
func Any() *Language {
	return &Language{cuts: []rune{0}, next: []int{0}, accept: []bool{true}}
}

// LanguageOf returns the texts that an expression in Go's syntax matches,
// anywhere in them where it is not anchored (JSON Schema pattern), of at most
// maxLen characters; 0: of any length. The empty expression matches all texts.
func LanguageOf(expr string, maxLen int) (*Language, error) {
	prog, err := compile(expr)
	if err != nil {
		return nil, err
	}
	l := explore(newNFA([]*syntax.Prog{prog}, false))
	if l == nil {
		l = Any()
	}
	return l.atMost(maxLen), nil
}

// explore makes the language of the one expression of n, nil when it is too large.
func explore(n *nfa) *Language {
	l := &Language{cuts: n.cuts()}
	w := newScratch(n, whole)
	first := n.newStarts([]uint32{0}, w)
	var states []*state
	known := map[uint64][]int{}
	add := func() int {
		for _, k := range known[w.s.hash] {
			if w.is(states[k]) {
				return k
			}
		}
		k := len(states)
		known[w.s.hash] = append(known[w.s.hash], k)
		s := w.s
		s.at, s.hits = slices.Clone(s.at), slices.Clone(s.hits)
		states = append(states, &s)
		return k
	}
	w.begin()
	w.s.prev = atBegin
	w.s.hash = hashOf(&w.s)
	add()
	for k := 0; k < len(states); k++ {
		s := states[k]
		if len(s.hits) > 0 { // whatever follows
			for range l.cuts {
				l.next = append(l.next, k)
			}
			l.accept = append(l.accept, true)
			continue
		}
		to := make([]int, n.classes.n)
		for class := range to {
			n.step(s, class, &first, w)
			if len(w.s.hits) > 0 { // one state for all that has matched
				w.s.at, w.s.prev = w.s.at[:0], atOther
				w.s.hash = hashOf(&w.s)
			}
			to[class] = add()
		}
		for _, r := range l.cuts {
			to := to[n.classOf(r)]
			l.next = append(l.next, to)
		}
		n.step(s, n.classes.n, &first, w)
		l.accept = append(l.accept, len(w.s.hits) > 0)
		if len(states) > maxLanguage {
			return nil
		}
	}
	return l.trim()
}

// cuts returns where the classes of characters change.
func (n *nfa) cuts() []rune {
	cuts := []rune{0}
	for r := rune(1); r < utf8.RuneSelf; r++ {
		if n.ascii[r] != n.ascii[r-1] {
			cuts = append(cuts, r)
		}
	}
	return append(cuts, n.start...)
}

func (n *nfa) classOf(r rune) int {
	if r < utf8.RuneSelf {
		return int(n.ascii[r])
	}
	return int(n.of(r))
}

// trim takes out the states from which no text of the language is reached, and
// those that are not reached.
func (l *Language) trim() *Language {
	into := make([][]int, len(l.accept))
	width := len(l.cuts)
	for at, to := range l.next {
		if to != none {
			into[to] = append(into[to], at/width)
		}
	}
	live := slices.Clone(l.accept)
	var todo []int
	for s, a := range live {
		if a {
			todo = append(todo, s)
		}
	}
	for len(todo) > 0 {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, from := range into[s] {
			if !live[from] {
				live[from] = true
				todo = append(todo, from)
			}
		}
	}
	out := &Language{cuts: l.cuts, fold: l.fold}
	if len(live) == 0 || !live[0] {
		return out // no text at all
	}
	number := make([]int, len(live))
	for i := range number {
		number[i] = none
	}
	number[0] = 0
	order := []int{0}
	for k := 0; k < len(order); k++ {
		for _, to := range l.next[order[k]*width : (order[k]+1)*width] {
			if to != none && live[to] && number[to] == none {
				number[to] = len(order)
				order = append(order, to)
			}
			if to == none || !live[to] {
				out.next = append(out.next, none)
			} else {
				out.next = append(out.next, number[to])
			}
		}
		out.accept = append(out.accept, l.accept[order[k]])
	}
	return out
}

// atMost returns the texts of at most n characters.
func (l *Language) atMost(n int) *Language {
	if n <= 0 || len(l.accept)*(n+1) > maxLanguage {
		return l
	}
	width := len(l.cuts)
	out := &Language{cuts: l.cuts, fold: l.fold}
	for used := range n + 1 {
		for s, a := range l.accept {
			out.accept = append(out.accept, a)
			for _, to := range l.next[s*width : (s+1)*width] {
				if to == none || used == n {
					out.next = append(out.next, none)
				} else {
					out.next = append(out.next, (used+1)*len(l.accept)+to)
				}
			}
		}
	}
	return out.trim()
}

// Texts returns the language of just these texts: an enum, a constant.
func Texts(texts ...string) *Language {
	var cuts []rune
	cuts = append(cuts, 0)
	total := 1
	for _, t := range texts {
		total += len(t)
		for _, r := range t {
			cuts = append(cuts, r, r+1)
		}
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	l := &Language{cuts: cuts}
	width := len(cuts)
	add := func() int {
		for range width {
			l.next = append(l.next, none)
		}
		l.accept = append(l.accept, false)
		return len(l.accept) - 1
	}
	add()
	if total*width > 1<<20 { // their characters, in any order
		l.accept[0] = true
		for _, t := range texts {
			for _, r := range t {
				l.next[l.interval(r)] = 0
			}
		}
		return l
	}
	for _, t := range texts {
		s := 0
		for _, r := range t {
			at := s*width + l.interval(r)
			if l.next[at] == none {
				to := add()
				l.next[at] = to
			}
			s = l.next[at]
		}
		l.accept[s] = true
	}
	return l.trim()
}

// Number returns the language of JSON numbers (RFC 8259 §6).
func Number() *Language {
	l, err := LanguageOf(`\A-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+\-]?[0-9]+)?\z`, 0)
	if err != nil {
		return Any()
	}
	return l
}

func (l *Language) interval(r rune) int {
	k, found := slices.BinarySearch(l.cuts, r)
	if !found {
		k--
	}
	return k
}

// loose returns a small language that holds l: the same characters in any order
// and number.
func (l *Language) loose() *Language {
	out := &Language{cuts: l.cuts, next: make([]int, len(l.cuts)), accept: []bool{true}, fold: l.fold}
	for k := range out.next {
		out.next[k] = none
	}
	for at, to := range l.next {
		if to != none {
			out.next[at%len(l.cuts)] = 0
		}
	}
	return out
}

// has reports whether text is in l, as far as that is quick to tell.
func (l *Language) has(text string) bool {
	if l.fold || l.Empty() {
		return false
	}
	s := 0
	for _, r := range text {
		if s = l.next[s*len(l.cuts)+l.interval(r)]; s == none {
			return false
		}
	}
	return l.accept[s]
}

// columns numbers the intervals so that those of one number lead to the same
// states everywhere.
func (l *Language) columns() []int {
	out := make([]int, len(l.cuts))
	known := map[string]int{}
	var key []byte
	for k := range out {
		key = key[:0]
		for at := k; at < len(l.next); at += len(l.cuts) {
			to := l.next[at] + 1
			key = append(key, byte(to), byte(to>>8), byte(to>>16))
		}
		id, ok := known[string(key)]
		if !ok {
			id = len(known)
			known[string(key)] = id
		}
		out[k] = id
	}
	return out
}

// Empty reports whether no text is in l.
func (l *Language) Empty() bool { return len(l.accept) == 0 }

// And returns the texts that are in both languages. Of a folded one that is the
// folded one alone: too many, but not too few.
func (l *Language) And(m *Language) *Language {
	if l.fold || m.fold {
		if l.fold {
			return l
		}
		return m
	}
	if p := product(l, m, true); p != nil {
		return p
	}
	return l
}

// Or returns the texts that are in one of the languages.
func (l *Language) Or(m *Language) *Language {
	switch {
	case l.Empty():
		return m
	case m.Empty():
		return l
	case l.fold == m.fold:
		if p := product(l, m, false); p != nil {
			return p
		}
	}
	return Any()
}

// Fold returns the texts of l with ASCII letters lower-cased.
func (l *Language) Fold() *Language {
	out := *l
	out.fold = true
	return &out
}

// product runs two languages side by side, nil when that takes too much.
func product(l, m *Language, both bool) *Language {
	cuts := slices.Concat(l.cuts, m.cuts)
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	out := &Language{cuts: cuts, fold: l.fold}
	type pair struct{ l, m int }
	start := pair{0, 0}
	if l.Empty() {
		start.l = none
	}
	if m.Empty() {
		start.m = none
	}
	if both && (start.l == none || start.m == none) {
		return out
	}
	known, order := map[pair]int{start: 0}, []pair{start}
	go1 := func(x *Language, s int, r rune) int {
		if s == none {
			return none
		}
		return x.next[s*len(x.cuts)+x.interval(r)]
	}
	for k := 0; k < len(order); k++ {
		at := order[k]
		la, ma := at.l != none && l.accept[at.l], at.m != none && m.accept[at.m]
		out.accept = append(out.accept, la && ma || !both && (la || ma))
		for _, r := range cuts {
			to := pair{go1(l, at.l, r), go1(m, at.m, r)}
			if to.l == none && to.m == none || both && (to.l == none || to.m == none) {
				out.next = append(out.next, none)
				continue
			}
			id, ok := known[to]
			if !ok {
				id = len(order)
				known[to] = id
				order = append(order, to)
			}
			out.next = append(out.next, id)
		}
		if len(order) > maxLanguage {
			return nil
		}
	}
	return out.trim()
}

// Alphabet says which bytes the texts of l can hold.
func (l *Language) Alphabet() (bytes [4]uint64) {
	width := len(l.cuts)
	for at, to := range l.next {
		if to == none {
			continue
		}
		k := at % width
		lo, hi := l.cuts[k], rune(unicode.MaxRune)
		if k+1 < width {
			hi = l.cuts[k+1] - 1
		}
		for r := lo; r <= hi && r < utf8.RuneSelf; r++ {
			b := l.folded(r)
			bytes[b>>6] |= 1 << (b & 63)
		}
		if hi >= utf8.RuneSelf {
			bytes[2], bytes[3] = ^uint64(0), ^uint64(0)
		}
	}
	return bytes
}

// folded is what becomes of a character of l's states in a text of l.
func (l *Language) folded(r rune) rune {
	if l.fold && r >= 'A' && r <= 'Z' {
		return r + 'a' - 'A'
	}
	return r
}

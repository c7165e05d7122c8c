package waf

import (
	"fmt"
	"maps"
	"regexp/syntax"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/gatehouse-api/gatehouse/internal/validate/rx"
)

// A scan finds which rules can match a message, of phases 1 and 2 or 3 and 4,
// before any rule runs: most messages end here.
type scan struct {
	members [Line]*place // what looks at texts of values, by place
	names   [Line]*place // and at their names
	singles []*place     // by number in singles

	probes []*rule // what can not be found so: counts, and more
	clean  *memory
	first  []atomic.Pointer[learned] // by single: the first text of it that was learned
	known  *members

	steps map[string]int // transformations, each a bit of a signature
	sigs  [256]uint64    // by byte: those that may change a text with it
	fills uint64         // those that may change any text
	salts atomic.Uint64  // of classes
	marks map[mark]int   // members whose absence or presence decides about rules
}

// A mark is a member that rules ask for by name.
type mark struct {
	in  In
	key string
}

// A place is the rules that look at the values of one place.
type place struct {
	*bundle
	scan    *scan
	in      In
	entries []entry
	choices []*aim // targets that differ in which names they take: one of each kind
	all     []byte // the bits of all choices
	one     *class // of all members, when none is treated differently from others

	mu      sync.Mutex                        // who adds a class
	classes atomic.Pointer[map[string]*class] // by the bits of the choices that apply; never changed, replaced
}

// An entry is a rule whose first link looks at a place.
type entry struct {
	rule   *rule
	aim    *aim
	choice int // in place.choices
}

// A bundle is the expressions and phrases that are asked about together.
type bundle struct {
	patterns []rx.Pattern
	number   map[rx.Pattern]int
	under    map[string][]int // patterns asked behind a transformation
	sets     []subset         // the first is of all patterns
	shortest []int            // by pattern: no text with fewer bytes matches
	phrases  []*phrases
	pm       *multiPM
}

// A subset is some of a bundle's patterns, for forms of a text about which few are
// asked.
type subset struct {
	set  *rx.Set
	bits rx.Bits
	may  rx.Bits // those of which a hit is none for sure
	ids  []int   // of its patterns in the bundle; nil: the same
}

func (b *bundle) pattern(op *regex) int {
	n, ok := b.number[op.pattern]
	if !ok {
		n = len(b.patterns)
		b.number[op.pattern], b.patterns, b.shortest = n, append(b.patterns, op.pattern), append(b.shortest, op.shortest)
	}
	return n
}

func (b *bundle) list(p *phrases) int {
	if n := slices.Index(b.phrases, p); n >= 0 {
		return n
	}
	b.phrases = append(b.phrases, p)
	return len(b.phrases) - 1
}

// scans makes the scans of requests and answers.
func (r *Rules) scans() (err error) {
	var progs rx.Programs
	if r.request, err = r.scan(&progs, 1, 2); err != nil {
		return err
	}
	r.answer, err = r.scan(&progs, 3, 4)
	return err
}

func (r *Rules) scan(progs *rx.Programs, phases ...int) (*scan, error) {
	s := &scan{singles: make([]*place, len(singles)), first: make([]atomic.Pointer[learned], len(singles)), clean: newMemory(), known: newMembers(), steps: map[string]int{}, marks: map[mark]int{}}
	bundles := map[string]*bundle{}
	for _, phase := range phases {
		for _, x := range r.phases[phase] {
			if !x.wakes {
				continue
			}
			if x.scanned = x.findable(); !x.scanned {
				s.probes = append(s.probes, x)
				continue
			}
			s.learn(x)
			for i := range x.links[0].targets {
				s.add(bundles, x, &x.links[0].targets[i])
			}
		}
	}
	for _, phase := range phases {
		for _, x := range r.phases[phase] {
			if x.wakes && (!x.scanned || len(x.links) > 1) {
				s.mark(x)
			}
		}
	}
	for _, b := range bundles {
		if err := b.make(progs); err != nil {
			return nil, err
		}
	}
	for _, places := range [][]*place{s.members[:], s.names[:], s.singles} {
		for _, p := range places {
			if p != nil {
				p.unify()
			}
		}
	}
	return s, nil
}

// fewPatterns is from how many patterns on a bundle has subsets.
const fewPatterns = 20

func (b *bundle) make(progs *rx.Programs) error {
	all := make([]int, len(b.patterns))
	for i := range all {
		all[i] = i
	}
	if err := b.subset(all, progs); err != nil {
		return err
	}
	b.sets[0].ids = nil
	for _, step := range slices.Sorted(maps.Keys(b.under)) {
		some := b.under[step]
		slices.Sort(some)
		if some = slices.Compact(some); len(all) < fewPatterns || len(some) > len(all)/3 {
			continue
		}
		if err := b.subset(some, progs); err != nil {
			return err
		}
	}
	if len(b.phrases) > 0 {
		b.pm = newMultiPM(b.phrases)
	}
	return nil
}

func (b *bundle) subset(ids []int, progs *rx.Programs) error {
	s := subset{bits: rx.NewBits(len(b.patterns)), ids: ids}
	patterns := make([]rx.Pattern, len(ids))
	for i, id := range ids {
		patterns[i] = b.patterns[id]
		s.bits.Set(id)
	}
	for i := range b.sets {
		if slices.Equal(b.sets[i].bits, s.bits) {
			return nil
		}
	}
	var err error
	if s.set, err = rx.NewSet(patterns, rx.Options{MaxBytes: setBytes, Programs: progs}); err != nil {
		return fmt.Errorf("rules: %w", err)
	}
	s.may = rx.NewBits(len(b.patterns))
	for i, id := range ids {
		if !s.set.Exact(i) {
			s.may.Set(id)
		}
	}
	b.sets = append(b.sets, s)
	return nil
}

// setBytes bounds what a set of expressions takes for states.
const setBytes = 8 << 20

// shortestOf is a length below which no text matches the expression.
func shortestOf(re *syntax.Regexp) int {
	switch re.Op {
	case syntax.OpLiteral:
		return len(re.Rune)
	case syntax.OpCharClass, syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return 1
	case syntax.OpCapture, syntax.OpPlus:
		return shortestOf(re.Sub[0])
	case syntax.OpRepeat:
		return re.Min * shortestOf(re.Sub[0])
	case syntax.OpConcat:
		n := 0
		for _, sub := range re.Sub {
			n += shortestOf(sub)
		}
		return n
	case syntax.OpAlternate:
		n := shortestOf(re.Sub[0])
		for _, sub := range re.Sub[1:] {
			n = min(n, shortestOf(sub))
		}
		return n
	default:
		return 0
	}
}

// mark finds out which members must be there, or not, for a rule to match.
func (s *scan) mark(x *rule) {
	for i := range x.links {
		if i > 0 && !x.probe {
			break // what the first link sets is looked at, even when the chain fails
		}
		l := &x.links[i]
		var present, absent uint64
		known := len(l.targets) > 0 && l.op != nil
		for j := range l.targets {
			a := &l.targets[j]
			m := s.marksOf(a)
			if m == 0 || a.count && l.matches("0") {
				known = false
			}
			if n, ok := l.op.(numeric); ok && a.count && m != 0 && len(l.targets) == 1 && len(a.except) == 0 &&
				!l.negate && len(l.chain) == 0 && n == (numeric{sets: relation{same: true}}) {
				absent = m
			}
			present |= m
		}
		if known {
			x.present = append(x.present, present)
		}
		x.absent |= absent
	}
}

// marksOf returns the marks of a target of one member, 0: it has none.
func (s *scan) marksOf(a *aim) (m uint64) {
	if a.kind != ofMembers || a.key == "" || a.listed {
		return 0
	}
	for in := ArgGet; in < Line; in++ {
		if !a.in.has(in) {
			continue
		}
		k := mark{in, a.key}
		bit, ok := s.marks[k]
		if !ok {
			if bit = len(s.marks); bit == 64 {
				return 0
			}
			s.marks[k] = bit
		}
		m |= 1 << bit
	}
	return m
}

// findable reports whether a scan of single values finds all that the rule's first
// link can match.
func (x *rule) findable() bool {
	l := &x.links[0]
	if l.always || l.op == nil || l.multi && l.negate {
		return false
	}
	for i := range l.targets {
		switch s := &l.targets[i]; {
		case s.count:
			return false
		case s.kind == ofMembers, s.kind == ofNames:
		case s.kind != ofSingle || singles[s.single].phase > x.phase:
			return false
		}
	}
	return true
}

// add notes that the rule looks at what the target says.
func (s *scan) add(bundles map[string]*bundle, x *rule, a *aim) {
	put := func(at **place, in In, family string) {
		b := bundles[family]
		if b == nil {
			b = &bundle{number: map[rx.Pattern]int{}, under: map[string][]int{}}
			bundles[family] = b
		}
		if *at == nil {
			*at = &place{scan: s, bundle: b, in: in}
			(*at).classes.Store(&map[string]*class{})
		}
		(*at).entries = append((*at).entries, entry{rule: x, aim: a})
		switch op := x.links[0].op.(type) {
		case *regex:
			n := b.pattern(op)
			for i := range x.links[0].chain {
				name := x.links[0].chain[i].name
				b.under[name] = append(b.under[name], n)
			}
		case *phrases:
			b.list(op)
		}
	}
	if a.kind == ofSingle {
		put(&s.singles[a.single], Line, familyOf(Line, singles[a.single].name))
		return
	}
	for in := ArgGet; in < Line; in++ {
		if !a.in.has(in) || phaseOf(in) > x.phase {
			continue
		}
		if a.kind == ofNames {
			put(&s.names[in], in, familyOf(in, ""))
		} else {
			put(&s.members[in], in, familyOf(in, ""))
		}
	}
}

// familyOf says which places share a bundle: those that many rules look at
// together, so that few states are made twice and few are walked for nothing.
func familyOf(in In, single string) string {
	switch in {
	case Header, AnswerHeader:
		return "headers"
	case Line:
		return single
	default:
		return "values"
	}
}

// unify groups the entries by what names they take, and finds out whether all
// members of the place are alike.
func (p *place) unify() {
	numbers := map[string]int{}
	for i := range p.entries {
		a := p.entries[i].aim
		key := ""
		if a.kind != ofSingle {
			key = a.choice()
		}
		n, ok := numbers[key]
		if !ok {
			n = len(p.choices)
			numbers[key] = n
			p.choices = append(p.choices, a)
		}
		p.entries[i].choice = n
	}
	p.all = make([]byte, len(p.choices)/8+1)
	for n := range p.choices {
		p.all[n>>3] |= 1 << (n & 7)
	}
	if _, plain := numbers[""]; plain && len(numbers) == 1 {
		p.one = p.class(p.all)
	}
}

// choice is the same of targets that take the same names, "" of one that takes
// all. Most rules about cookies leave out the same few.
func (s *aim) choice() string {
	if s.key == "" && s.keyRx == nil && len(s.except) == 0 {
		return ""
	}
	b := fmt.Appendf(nil, "%t %q %v", s.listed, s.key, s.keyRx)
	for i := range s.except {
		e := &s.except[i]
		b = fmt.Appendf(b, " !%d %q %v %t", e.in, e.key, e.rx, e.pre)
	}
	return string(b)
}

// of returns the class of a member of that name.
func (p *place) of(name string) *class {
	if p.one != nil {
		return p.one
	}
	var room [32]byte
	apply := room[:]
	if len(p.all) > len(room) {
		apply = make([]byte, len(p.all))
	}
	apply = apply[:len(p.all)]
	for n, a := range p.choices {
		if a.takes(p.in, name) {
			apply[n>>3] |= 1 << (n & 7)
		}
	}
	return p.class(apply)
}

// nameCost is what [place.of] takes of the budget.
func (p *place) nameCost(name string) int64 {
	if p == nil || p.one != nil {
		return 0
	}
	return 200 + int64(len(p.choices))*(20+int64(len(name)))
}

// maxClasses bounds how many kinds of members a place has. There are as many as
// rules tell apart, but no sender of names shall make one for each.
const maxClasses = 256

// class returns the class in which the entries of these choices apply.
func (p *place) class(apply []byte) *class {
	if c := (*p.classes.Load())[string(apply)]; c != nil {
		return c
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	known := *p.classes.Load()
	if len(known) >= maxClasses {
		// Too many entries find too much, which is found out when the rule runs.
		apply = p.all
	}
	c := known[string(apply)]
	if c == nil {
		c = p.compile(apply)
		more := maps.Clone(known)
		more[string(apply)] = c
		p.classes.Store(&more)
	}
	return c
}

// sign returns the transformations that may change text.
func (s *scan) sign(text string) uint64 {
	var sig uint64
	for i := range len(text) {
		sig |= s.sigs[text[i]]
	}
	return sig | s.fills
}

// learn makes bits of signatures of the transformations of a rule.
func (s *scan) learn(x *rule) {
	chain := x.links[0].chain
	for i := range chain {
		t := &chain[i]
		if _, ok := s.steps[t.name]; ok {
			continue
		}
		bit := len(s.steps)
		s.steps[t.name] = bit
		for b := range s.sigs {
			if t.trigger.has(byte(b)) {
				s.sigs[b] |= 1 << bit
			}
		}
		if t.fills {
			s.fills |= 1 << bit
		}
	}
}

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
	known  *members

	steps map[string]int // transformations, each a bit of a signature
	sigs  [256]uint64    // by byte: those that may change a text with it
	fills uint64         // those that may change any text
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
	one     *class // of all members, when none is treated differently from others

	mu      sync.Mutex
	classes map[string]*class // by which entries apply
}

// An entry is a rule whose first link looks at a place.
type entry struct {
	rule *rule
	aim  *aim
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
	ids  []int // of its patterns in the bundle; nil: the same
}

func (b *bundle) pattern(p rx.Pattern) int {
	n, ok := b.number[p]
	if !ok {
		n = len(b.patterns)
		b.number[p], b.patterns = n, append(b.patterns, p)
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
	if r.request, err = r.scan(1, 2); err != nil {
		return err
	}
	r.answer, err = r.scan(3, 4)
	return err
}

func (r *Rules) scan(phases ...int) (*scan, error) {
	s := &scan{singles: make([]*place, len(singles)), clean: newMemory(), known: newMembers(), steps: map[string]int{}, marks: map[mark]int{}}
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
		if err := b.make(); err != nil {
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

func (b *bundle) make() error {
	all := make([]int, len(b.patterns))
	for i, p := range b.patterns {
		all[i] = i
		b.shortest = append(b.shortest, shortest(p))
	}
	if err := b.subset(all); err != nil {
		return err
	}
	b.sets[0].ids = nil
	for _, step := range slices.Sorted(maps.Keys(b.under)) {
		some := b.under[step]
		slices.Sort(some)
		if some = slices.Compact(some); len(all) < fewPatterns || len(some) > len(all)/3 {
			continue
		}
		if err := b.subset(some); err != nil {
			return err
		}
	}
	if len(b.phrases) > 0 {
		b.pm = newMultiPM(b.phrases)
	}
	return nil
}

func (b *bundle) subset(ids []int) error {
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
	if s.set, err = rx.NewSet(patterns, rx.Options{MaxBytes: setBytes}); err != nil {
		return fmt.Errorf("rules: %w", err)
	}
	b.sets = append(b.sets, s)
	return nil
}

// setBytes bounds what a set of expressions takes for states.
const setBytes = 8 << 20

// shortest is a length below which no text matches the pattern.
func shortest(p rx.Pattern) int {
	re, err := syntax.Parse(p.Expr, syntax.Perl)
	if err != nil {
		return 0
	}
	return shortestOf(re)
}

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
			*at = &place{scan: s, bundle: b, in: in, classes: map[string]*class{}}
		}
		(*at).entries = append((*at).entries, entry{x, a})
		switch op := x.links[0].op.(type) {
		case *regex:
			arg, _ := x.links[0].arg.constant()
			n := b.pattern(patternOf(arg))
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
	switch {
	case in == Header || in == AnswerHeader:
		return "headers"
	case in == Line:
		return single
	default:
		return "values"
	}
}

// unify finds out whether all members of the place are alike.
func (p *place) unify() {
	all := make([]bool, len(p.entries))
	for i := range p.entries {
		a := p.entries[i].aim
		if a.kind != ofSingle && (a.key != "" || a.keyRx != nil || len(a.except) > 0) {
			return
		}
		all[i] = true
	}
	p.one = p.class(all)
}

// of returns the class of a member of that name.
func (p *place) of(name string) *class {
	if p.one != nil {
		return p.one
	}
	apply := make([]bool, len(p.entries))
	for i := range p.entries {
		apply[i] = p.entries[i].aim.takes(p.in, name)
	}
	return p.class(apply)
}

// maxClasses bounds how many kinds of members a place has. There are as many as
// rules tell apart, but no sender of names shall make one for each.
const maxClasses = 256

// class returns the class in which these entries apply.
func (p *place) class(apply []bool) *class {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := fmt.Sprint(apply)
	c := p.classes[key]
	if c == nil && len(p.classes) >= maxClasses {
		// Too many entries find too much, which is found out when the rule runs.
		for i := range apply {
			apply[i] = true
		}
		key = fmt.Sprint(apply)
		c = p.classes[key]
	}
	if c == nil {
		c = p.compile(apply)
		p.classes[key] = c
	}
	return c
}

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

func (p *place) compile(apply []bool) *class {
	c := newClass(p.bundle)
	c.salt = (uint64(len(p.classes)) + uint64(p.in)<<32) * 0x9e3779b97f4a7c15
	seen := map[*rule]bool{}
	for i := range p.entries {
		x := p.entries[i].rule
		if !apply[i] || seen[x] {
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
		arg, _ := l.arg.constant()
		n := c.number[patternOf(arg)]
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
			return int32(i) //nolint:gosec // fewer than nodes
		}
	}
	f.nodes = append(f.nodes, node{from: int(from), t: n.t, bit: n.bit, work: c.newWork()})
	return int32(len(f.nodes) - 1) //nolint:gosec // fewer than nodes
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
			if t.trigger.has(byte(b)) { //nolint:gosec // 0 to 255
				s.sigs[b] |= 1 << bit
			}
		}
		if t.fills {
			s.fills |= 1 << bit
		}
	}
}

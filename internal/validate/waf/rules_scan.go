package waf

import (
	"fmt"
	"slices"
	"sync"

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
}

// A place is the rules that look at the values of one place.
type place struct {
	*bundle
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
	set      *rx.Set
	phrases  []*phrases
	pm       *multiPM
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
	s := &scan{singles: make([]*place, len(singles)), clean: newMemory(), known: newMembers()}
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
			for i := range x.links[0].targets {
				s.add(bundles, x, &x.links[0].targets[i])
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

func (b *bundle) make() (err error) {
	if b.set, err = rx.NewSet(b.patterns, rx.Options{}); err != nil {
		return fmt.Errorf("rules: %w", err)
	}
	if len(b.phrases) > 0 {
		b.pm = newMultiPM(b.phrases)
	}
	return nil
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
			b = &bundle{number: map[rx.Pattern]int{}}
			bundles[family] = b
		}
		if *at == nil {
			*at = &place{bundle: b, in: in, classes: map[string]*class{}}
		}
		(*at).entries = append((*at).entries, entry{x, a})
		switch op := x.links[0].op.(type) {
		case *regex:
			arg, _ := x.links[0].arg.constant()
			b.pattern(patternOf(arg))
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
	case in == Line && single == "RESPONSE_BODY":
		return "answer"
	case in == Line:
		return "line"
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
	salt    uint64
	nodes   []node
	changes byteSet // a text with none of these bytes has one form only
	fills   bool
	steps   int // how many transformations there are
	sum     work
	direct  []ask   // of operators that are asked one by one
	ofRx    [][]ask // by pattern
	ofPM    [][]ask // by list of phrases
	sqli    []ask
	xss     []ask
	rules   Mask
}

// A node is a form of a value: a transformation of another form.
type node struct {
	from int
	t    *transform
	step int // number of the transformation
	work work
}

// A work is what is asked about a form.
type work struct {
	rx, not   rx.Bits // patterns; those of which a rule wants that they do not match
	pm, pmNot []uint64
	sqli, xss bool
}

// An ask is a rule that asks about a form.
type ask struct {
	rule *rule
	node int
}

func (p *place) compile(apply []bool) *class {
	c := &class{bundle: p.bundle, nodes: []node{{}}, salt: (uint64(len(p.classes)) + uint64(p.in)<<32) * 0x9e3779b97f4a7c15}
	c.ofRx, c.ofPM = make([][]ask, len(p.patterns)), make([][]ask, len(p.phrases))
	c.sum = c.newWork()
	c.nodes[0].work = c.newWork()
	steps := map[string]int{}
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
		l := &x.links[0]
		at := 0
		if l.multi {
			c.put(x, at)
		}
		for k := range l.chain {
			at = c.child(at, &l.chain[k], steps)
			if l.multi {
				c.put(x, at)
			}
		}
		if !l.multi {
			c.put(x, at)
		}
	}
	c.steps = len(steps)
	return c
}

func (c *class) newWork() work {
	return work{
		rx: rx.NewBits(len(c.patterns)), not: rx.NewBits(len(c.patterns)),
		pm: make([]uint64, (len(c.phrases)+63)/64), pmNot: make([]uint64, (len(c.phrases)+63)/64),
	}
}

// child returns the node that a transformation makes of another.
func (c *class) child(from int, t *transform, steps map[string]int) int {
	for i := 1; i < len(c.nodes); i++ {
		if c.nodes[i].from == from && c.nodes[i].t.name == t.name {
			return i
		}
	}
	step, ok := steps[t.name]
	if !ok {
		step = len(steps)
		steps[t.name] = step
	}
	c.changes, c.fills = c.changes.or(t.trigger), c.fills || t.fills
	c.nodes = append(c.nodes, node{from: from, t: t, step: step, work: c.newWork()})
	return len(c.nodes) - 1
}

// put notes that a rule asks about a form.
func (c *class) put(x *rule, at int) {
	l := &x.links[0]
	a := ask{x, at}
	switch op := l.op.(type) {
	case *regex:
		arg, _ := l.arg.constant()
		n := c.number[patternOf(arg)]
		c.ofRx[n] = append(c.ofRx[n], a)
		for _, w := range []*work{&c.nodes[at].work, &c.sum} {
			w.rx.Set(n)
			if l.negate {
				w.not.Set(n)
			}
		}
	case *phrases:
		n := slices.Index(c.phrases, op)
		c.ofPM[n] = append(c.ofPM[n], a)
		for _, w := range []*work{&c.nodes[at].work, &c.sum} {
			w.pm[n>>6] |= 1 << (n & 63)
			if l.negate {
				w.pmNot[n>>6] |= 1 << (n & 63)
			}
		}
	case detectSQLi:
		c.sqli = append(c.sqli, a)
		c.nodes[at].work.sqli, c.sum.sqli = true, true
	case detectXSS:
		c.xss = append(c.xss, a)
		c.nodes[at].work.xss, c.sum.xss = true, true
	default:
		c.direct = append(c.direct, a)
	}
}

package waf

import (
	"math/bits"
	"strings"

	"github.com/gatehouse-api/gatehouse/internal/validate/rx"
)

// found is what a scan found: for each rule the values that it may match.
type found struct {
	on   bool
	by   []span32    // of each rule the first and last of its candidates, 0: none
	list []candidate // from 1 on
	wake bool
	some []int32 // rules with candidates

	forms []form
	form  []int32 // by node of the plan: its form
	hits  rx.Bits
	one   rx.Bits
	only  rx.Bits
	pm    []uint64
	room  []uint64 // of works that were put together
	raw   []hit    // of the value that is scanned, those that a mask takes out among them
	marks uint64   // members that are there
}

type span32 struct{ first, last int32 }

// A candidate is a value that a rule may match.
type candidate struct {
	value int32 // in Facts.Values, or -1 less the number of a single variable
	name  bool  // its name
	sure  bool  // it does match
	next  int32
}

// A form is a value as some transformations make it.
type form struct {
	text string
	work *work
	many bool // nodes have this form, of which work is the last's
	own  work
}

func (f *found) begin(rules int) {
	if len(f.by) < rules {
		f.by = make([]span32, rules)
	}
	for _, n := range f.some {
		f.by[n] = span32{}
	}
	f.some, f.wake = f.some[:0], false
	if len(f.list) == 0 {
		f.list = append(f.list, candidate{})
	}
	f.list = f.list[:1]
}

func (f *found) none(x *rule) bool { return f.by[x.n].first == 0 }

// has reports whether a single variable is one that the rule may match, and
// whether it does.
func (f *found) has(x *rule, s *aim) (may, sure bool) {
	for i := f.by[x.n].first; i != 0; i = f.list[i].next {
		if f.list[i].value == int32(-1-s.single) {
			return true, f.list[i].sure
		}
	}
	return false, false
}

// candidates asks a rule's first link about the values of a target that it may match.
func (t *turn) candidates(x *rule, s *aim) {
	for i := t.found.by[x.n].first; i != 0; i = t.found.list[i].next {
		c := t.found.list[i]
		if c.value < 0 || c.name != (s.kind == ofNames) {
			continue
		}
		if v := &t.facts.Values[c.value]; t.selects(x, s, v) {
			t.sure = c.sure
			t.member(x, 0, s, v)
			t.sure = false
		}
	}
}

// look scans the message and reports whether rules have to run.
func (t *turn) look(s *scan, first int) bool {
	f := &t.found
	f.on = true
	f.begin(len(t.rules))
	f.wake, f.marks = t.noisy[first/2], 0
	t.first, t.halfway, t.cut = first, false, false
	t.begun, t.stirs = false, false
	for i := range t.facts.Values {
		if t.left < 0 {
			return true
		}
		t.value(s, i)
	}
	for n, p := range s.singles {
		if p == nil {
			continue
		}
		rules := t.facts.singleRules(n)
		if !meets(p.one.rules, rules, t.facts.Rules) {
			continue
		}
		t.phase = first + 1
		text := t.single(n)
		if first := s.first[n].Load(); first != nil && first.text == text {
			t.replay(first, int32(-1-n), false, rules)
			continue
		}
		t.scan(s, p.one, text, int32(-1-n), false, rules)
	}
	if t.cut {
		return false
	}
	if f.wake || t.left < 0 {
		return true
	}
	// Rules with a chain, and those a scan does not find, are tried alone: most of
	// them look at a header and do not match.
	for _, n := range f.some {
		if x := t.rules[n]; !x.ruledOut(f.marks) && t.tries(x) {
			return true
		}
	}
	for _, x := range s.probes {
		if !x.ruledOut(f.marks) && t.facts.Rules.Has(x.n) && t.tries(x) {
			return true
		}
	}
	return false
}

// ruledOut reports whether a rule can not match as some members are there, and
// others are not.
func (x *rule) ruledOut(marks uint64) bool {
	if x.absent&marks != 0 {
		return true
	}
	for _, one := range x.present {
		if one&marks == 0 {
			return true
		}
	}
	return false
}

// affords pays for work, or reports that there is not enough left for it. When
// half of the budget is gone it asks first whether what was found so far blocks the
// message: then the rest needs no answer.
func (t *turn) affords(cost int64) bool {
	if t.left-cost < t.budget/2 && !t.halfway {
		t.halfway = true
		out, quiet, left, short := t.out, t.quiet, t.left, t.short
		var sum Verdict
		t.out = &sum
		t.run(t.first)
		t.out, t.quiet, t.short = out, quiet, short
		t.left = max(t.left, left/2)
		if t.cut = sum.Block; t.cut {
			out.Hits, out.Score, out.Block, out.Cut = append(out.Hits, sum.Hits...), out.Score+sum.Score, true, true
		}
		t.begin()
		t.quiet = true
	}
	if t.cut {
		return false
	}
	if t.left < cost {
		t.short = true
		return false
	}
	t.left -= cost
	return true
}

// tries reports whether a rule wakes the others.
func (t *turn) tries(x *rule) bool {
	if !t.begun {
		t.begin()
	}
	t.quiet = true
	t.phase, t.rule = x.phase, x
	t.matches, t.heads = t.matches[:0], t.heads[:0]
	if !x.probe {
		return t.link(x, 0)
	}
	before := t.hits
	if t.eval(x) || t.stirs {
		return true
	}
	if t.hits != before {
		t.begin() // a link has set something
		t.quiet = true
	}
	return false
}

// triesOne reports whether a rule matches one value alone.
func (t *turn) triesOne(x *rule, value int32, name bool) bool {
	if !t.begun {
		t.begin()
	}
	t.quiet, t.phase, t.rule = true, x.phase, x
	t.matches, t.heads = t.matches[:0], t.heads[:0]
	hits := t.hits
	kind := ofMembers
	if name {
		kind = ofNames
	}
	for j := range x.links[0].targets {
		s := &x.links[0].targets[j]
		switch {
		case value < 0 && s.kind == ofSingle && int32(-1-s.single) == value:
			t.ask(x, 0, s, "", t.single(s.single))
		case value >= 0 && s.kind == kind:
			if v := &t.facts.Values[value]; s.in.has(v.In) && s.takes(v.In, v.Name) {
				t.member(x, 0, s, v)
			}
		}
	}
	return t.stirs || t.hits != hits && t.link(x, 1)
}

// value scans one value and its name.
func (t *turn) value(s *scan, i int) {
	v := &t.facts.Values[i]
	if v.Name == "" && v.TextRules != nil && v.NameRules != nil && len(v.TextRules)+len(v.NameRules) == 0 {
		return // it is there to be counted
	}
	texts, names := s.members[v.In], s.names[v.In]
	if texts == nil && names == nil {
		return
	}
	m := v.Member
	if m == nil || m.scan != s {
		m = s.known.get(v.In, v.Name)
	}
	if m == nil {
		t.left -= 100 + texts.nameCost(v.Name) + names.nameCost(v.Name)
		m = s.member(v.In, v.Name)
		s.known.add(m)
	}
	f := &t.found
	f.marks |= m.marks
	if m.names != nil && !m.clean.Load() && meets(m.names.rules, v.NameRules, t.facts.Rules) {
		f.raw = f.raw[:0]
		t.forming(s, m.names, v.Name, int32(i), true, v.NameRules)
		if len(f.raw) == 0 && t.whole() {
			m.clean.Store(true)
		}
	}
	if m.text != nil && meets(m.text.rules, v.TextRules, t.facts.Rules) {
		t.scan(s, m.text, v.Text, int32(i), false, v.TextRules)
	}
}

// meets reports whether a rule is in all three, of which a is not nil.
func meets(a, b, c Mask) bool {
	if b == nil {
		b = a
	}
	if c == nil {
		c = a
	}
	for i := range min(len(a), len(b), len(c)) {
		if a[i]&b[i]&c[i] != 0 {
			return true
		}
	}
	return false
}

// scan asks the rules of a class about a value, which becomes a candidate of those
// that may match.
func (t *turn) scan(s *scan, c *class, text string, value int32, name bool, rules Mask) {
	if known := s.clean.get(c, text); known != nil {
		t.replay(known, value, name, rules)
		if value < 0 && s.first[-1-value].Load() == nil { // never changed again: all processors read it
			s.first[-1-value].CompareAndSwap(nil, known)
		}
		return
	}
	t.found.raw = t.found.raw[:0]
	t.forming(s, c, text, value, name, rules)
	if t.whole() { // whatever rules says
		s.clean.add(c, text, t.found.raw)
	}
}

// replay makes a value a candidate of the rules it is known to be one of.
func (t *turn) replay(known *learned, value int32, name bool, rules Mask) {
	t.left -= 20
	for _, h := range known.hits {
		t.note(h.rule, value, name, rules, h.sure)
	}
}

// whole reports whether all was asked so far. What was not must never be
// remembered as clean.
func (t *turn) whole() bool { return t.left >= 0 && !t.short && !t.cut }

func (t *turn) forming(s *scan, c *class, text string, value int32, name bool, rules Mask) {
	f := &t.found
	if !t.affords(20 + int64(len(text))) {
		return
	}
	p := c.plan(s.sign(text) & c.mask)
	if !t.forms(s, c, p, text) {
		p = c.plan(c.mask)
		t.forms(s, c, p, text)
	}
	for i := range f.forms {
		if t.asks(c, p, int32(i), value, name, rules); t.left < 0 || t.cut {
			return
		}
	}
	for _, a := range c.direct {
		g := &f.forms[f.form[p.of[a.node]]]
		l := &a.rule.links[0]
		t.left -= l.cost(g.text)
		if l.op.match(g.text, nil) != l.negate {
			t.may(a.rule, value, name, rules, true)
		}
	}
	if len(c.leaps) == 0 {
		return
	}
	var few [4]string
	from := append(few[:0], make([]string, max(0, len(c.leaps)-len(few)))...)[:0]
	for i := range c.leaps {
		from = append(from, f.forms[f.form[p.of[c.leaps[i].from]]].text)
	}
	for i := range c.leaps {
		l := &c.leaps[i]
		if strings.HasPrefix(l.t.name, "base64decode") && len(from[i])/4*3+3 < l.to.least {
			continue
		}
		if made := t.apply(l.t, from[i]); len(made) >= l.to.least && t.left >= 0 {
			t.forming(s, l.to, made, value, name, rules)
		}
	}
}

// forms makes the forms of a text. Nodes with the same text share one. False: the
// plan does not fit, as a transformation has made a text that others change which
// left the first as it was.
func (t *turn) forms(s *scan, c *class, p *forming, text string) bool {
	f := &t.found
	f.form, f.forms = append(f.form[:0], 0), append(f.forms[:0], form{text: text, work: &p.nodes[0].work})
	merged := false
	for i := 1; i < len(p.nodes); i++ {
		n := &p.nodes[i]
		from := f.form[n.from]
		to := int32(-1)
		for k := 1; k < i; k++ {
			if p.nodes[k].bit == n.bit && f.form[p.nodes[k].from] == from {
				to = f.form[k]
				break
			}
		}
		if to < 0 {
			made := t.apply(n.t, f.forms[from].text)
			if to = f.find(made); to < 0 {
				t.left -= int64(len(made))
				if s.sign(made)&c.mask&^p.sig != 0 {
					return false
				}
				to = int32(len(f.forms))
				f.forms = append(f.forms, form{text: made, work: &n.work})
				f.form = append(f.form, to)
				continue
			}
		}
		f.forms[to].many, merged = true, true
		f.form = append(f.form, to)
	}
	if merged {
		f.merge(c, p)
	}
	return true
}

func (f *found) find(text string) int32 {
	for i := range f.forms {
		if g := f.forms[i].text; len(g) == len(text) && g == text {
			return int32(i)
		}
	}
	return -1
}

// merge puts together what is asked about forms that several nodes have.
func (f *found) merge(c *class, p *forming) {
	bits, lists := len(p.nodes[0].work.rx), len(p.nodes[0].work.pm)
	f.room = room(f.room, len(f.forms)*2*(bits+lists))
	rest := f.room
	take := func(n int) []uint64 {
		b := rest[:n:n]
		rest = rest[n:]
		return b
	}
	for i := range f.forms {
		if g := &f.forms[i]; g.many {
			g.own = work{rx: take(bits), not: take(bits), pm: take(lists), pmNot: take(lists)}
			g.work = &g.own
		}
	}
	for i := range p.nodes {
		if g := &f.forms[f.form[i]]; g.many {
			g.own.add(&p.nodes[i].work)
		}
	}
	for i := range f.forms {
		if g := &f.forms[i]; g.many {
			c.choose(&g.own)
		}
	}
}

// asks asks what is to be asked about one form.
func (t *turn) asks(c *class, p *forming, at, value int32, name bool, rules Mask) {
	f := &t.found
	g := &f.forms[at]
	w := g.work
	if w.set != nil && len(g.text) >= w.shortest {
		if !t.expressions(c, p, at, value, name, rules) {
			return
		}
	}
	for k := range w.pm {
		if w.pm[k] == 0 {
			continue
		}
		f.pm = room(f.pm, len(w.pm))
		t.left -= c.pm.cost(g.text)
		c.pm.scan(g.text, f.pm)
		for k := range w.pm {
			for b := (f.pm[k] | w.pmNot[k]) & w.pm[k]; b != 0; b &= b - 1 {
				hit := f.pm[k]&(b&-b) != 0
				for _, a := range c.ofPM[k<<6+bits.TrailingZeros64(b)] {
					if f.form[p.of[a.node]] == at && hit != a.rule.links[0].negate {
						t.may(a.rule, value, name, rules, true)
					}
				}
			}
		}
		break
	}
	if w.sqli {
		t.inject(p, c.sqli, detectSQLi{}, at, value, name, rules)
	}
	if w.xss {
		t.inject(p, c.xss, detectXSS{}, at, value, name, rules)
	}
}

// expressions scans one form for all expressions it is asked.
func (t *turn) expressions(c *class, p *forming, at, value int32, name bool, rules Mask) bool {
	f := &t.found
	g := &f.forms[at]
	w := g.work
	set := w.set
	f.hits = room(f.hits, len(w.rx))
	if !set.set.Scan(g.text, f.hits, nil, &t.left) {
		t.left = min(t.left, -1)
		return false
	}
	hits := f.hits
	if set.ids != nil {
		f.only = room(f.only, len(w.rx))
		for n := hits.Next(0); n >= 0; n = hits.Next(n + 1) {
			f.only.Set(set.ids[n])
		}
		hits = f.only
	}
	for k := range w.rx {
		for b := (hits[k] | w.not[k]) & w.rx[k]; b != 0; b &= b - 1 {
			n := k<<6 + bits.TrailingZeros64(b)
			hit := hits[k]&(b&-b) != 0
			fuzzy := hit && set.may.Has(n)
			for _, a := range c.ofRx[n] {
				if f.form[p.of[a.node]] == at && (hit != a.rule.links[0].negate || fuzzy) {
					t.may(a.rule, value, name, rules, !fuzzy)
				}
			}
		}
	}
	return true
}

// inject asks libinjection, once for all rules.
func (t *turn) inject(p *forming, asks []ask, op operator, at, value int32, name bool, rules Mask) {
	text := t.found.forms[at].text
	if !t.affords(op.cost(text)) {
		return
	}
	hit := op.match(text, nil)
	for _, a := range asks {
		if t.found.form[p.of[a.node]] == at && hit != a.rule.links[0].negate {
			t.may(a.rule, value, name, rules, true)
		}
	}
}

func room(b []uint64, n int) []uint64 {
	if cap(b) < n {
		return make([]uint64, n)
	}
	b = b[:n]
	clear(b)
	return b
}

// may makes a value a candidate of a rule.
func (t *turn) may(x *rule, value int32, name bool, rules Mask, sure bool) {
	if x.single && !t.triesOne(x, value, name) {
		return
	}
	t.found.raw = append(t.found.raw, hit{x, sure})
	t.note(x, value, name, rules, sure)
}

func (t *turn) note(x *rule, value int32, name bool, rules Mask, sure bool) {
	f := &t.found
	if !rules.Has(x.n) || !t.facts.Rules.Has(x.n) {
		return
	}
	s := &f.by[x.n]
	if s.last != 0 {
		if c := &f.list[s.last]; c.value == value && c.name == name {
			return
		}
	} else {
		f.some = append(f.some, int32(x.n))
	}
	f.list = append(f.list, candidate{value: value, name: name, sure: sure && !x.links[0].multi})
	n := int32(len(f.list) - 1)
	if s.last == 0 {
		s.first = n
	} else {
		f.list[s.last].next = n
	}
	s.last = n
	f.wake = f.wake || len(x.links) == 1 || x.single
}

package waf

import (
	"math/bits"

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
	form  []int32 // by node: its form
	made  []int32 // by form and transformation: what it makes
	hits  rx.Bits
	only  rx.Bits
	pm    []uint64
	raw   int
}

type span32 struct{ first, last int32 }

// A candidate is a value that a rule may match.
type candidate struct {
	value int32 // in Facts.Values, or -1 less the number of a single variable
	name  bool  // its name
	next  int32
}

// A form is a value as some transformations make it.
type form struct {
	text  string
	bytes byteSet
	work  work
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

// has reports whether a single variable is one that the rule may match.
func (f *found) has(x *rule, s *aim) bool {
	for i := f.by[x.n].first; i != 0; i = f.list[i].next {
		if f.list[i].value == int32(-1-s.single) { //nolint:gosec // a small number
			return true
		}
	}
	return false
}

// candidates asks a rule's first link about the values of a target that it may match.
func (t *turn) candidates(x *rule, s *aim) {
	for i := t.found.by[x.n].first; i != 0; i = t.found.list[i].next {
		c := t.found.list[i]
		if c.value < 0 || c.name != (s.kind == ofNames) {
			continue
		}
		if v := &t.facts.Values[c.value]; t.selects(x, s, v) {
			t.member(x, 0, s, v)
		}
	}
}

// look scans the message and reports whether rules have to run.
func (t *turn) look(s *scan, first int) bool {
	f := &t.found
	f.on = true
	f.begin(len(t.rules))
	f.wake = t.noisy[first/2]
	t.begun, t.stirs = false, false
	for i := range t.facts.Values {
		t.value(s, i)
	}
	for n, p := range s.singles {
		if p == nil {
			continue
		}
		var rules Mask
		if n < madeOfLine {
			rules = t.facts.LineRules
		}
		t.phase = first + 1
		t.scan(p.one, t.single(n), int32(-1-n), false, rules) //nolint:gosec // a small number
	}
	if f.wake || t.left < 0 {
		return true
	}
	// Rules with a chain, and those a scan does not find, are tried alone: most of
	// them look at a header and do not match.
	if !t.begun {
		t.begin()
	}
	t.quiet = true
	for _, n := range f.some {
		if x := t.rules[n]; x.wakes && t.tries(x) {
			return true
		}
	}
	for _, x := range s.probes {
		if t.facts.Rules.Has(x.n) && t.tries(x) {
			return true
		}
	}
	return false
}

// tries reports whether a rule wakes the others.
func (t *turn) tries(x *rule) bool {
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
		case value < 0 && s.kind == ofSingle && int32(-1-s.single) == value: //nolint:gosec // a small number
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
	texts, names := s.members[v.In], s.names[v.In]
	if texts == nil && names == nil {
		return
	}
	var m member
	known := s.known.get(v.In, v.Name)
	if known != nil {
		m = *known
	} else {
		m = member{in: v.In, name: v.Name}
		if texts != nil {
			m.text = texts.of(v.Name)
		}
		if names != nil {
			m.names = names.of(v.Name)
		}
	}
	if m.names != nil && !m.clean && meets(m.names.rules, v.NameRules) {
		m.clean = t.scan(m.names, v.Name, int32(i), true, v.NameRules) //nolint:gosec // a count of values
	}
	if known == nil {
		s.known.add(m)
	}
	if c := m.text; c != nil && meets(c.rules, v.TextRules) {
		keep := v.In == Header || v.In == Cookie || v.In == AnswerHeader
		if keep && s.clean.has(c, v.Text) {
			return
		}
		if t.scan(c, v.Text, int32(i), false, v.TextRules) && keep { //nolint:gosec // a count of values
			s.clean.add(c, v.Text)
		}
	}
}

// meets reports whether a rule is in both.
func meets(a, b Mask) bool {
	if b == nil {
		return true
	}
	for i := range min(len(a), len(b)) {
		if a[i]&b[i] != 0 {
			return true
		}
	}
	return false
}

// scan asks the rules of a class about a value, which becomes a candidate of those
// that may match. It reports whether there is none, whatever rules says.
func (t *turn) scan(c *class, text string, value int32, name bool, rules Mask) (clean bool) {
	f := &t.found
	f.raw = 0
	t.left -= 20 + int64(len(text))
	all := bytesOf(text)
	if !c.fills && !c.changes.meets(all) {
		f.forms = append(f.forms[:0], form{text: text, bytes: all, work: c.sum})
		f.form = f.form[:0]
	} else {
		t.transform(c, text, all)
	}
	for i := range f.forms {
		t.asks(c, i, value, name, rules)
		if t.left < 0 {
			break
		}
	}
	for _, a := range c.direct {
		g := &f.forms[f.formOf(a.node)]
		l := &a.rule.links[0]
		t.left -= l.cost(g.text)
		if l.op.match(g.text, nil) != l.negate {
			t.may(a.rule, value, name, rules)
		}
	}
	clean = f.raw == 0 && t.left >= 0
	clear(f.forms)
	return clean
}

func (f *found) formOf(node int) int32 {
	if len(f.form) == 0 {
		return 0
	}
	return f.form[node]
}

// transform makes the forms of a text. Nodes with the same text share one.
func (t *turn) transform(c *class, text string, all byteSet) {
	f := &t.found
	f.forms = append(f.forms[:0], form{text: text, bytes: all})
	f.form, f.made = append(f.form[:0], 0), f.made[:0]
	for range c.steps {
		f.made = append(f.made, -1)
	}
	for i := 1; i < len(c.nodes); i++ {
		n := &c.nodes[i]
		from := f.form[n.from]
		to := f.made[int(from)*c.steps+n.step]
		if to < 0 {
			to = t.makes(c, from, n.t)
			f.made[int(from)*c.steps+n.step] = to
		}
		f.form = append(f.form, to)
	}
	width, lists := len(c.sum.rx), len(c.sum.pm)
	need := len(f.forms) * (2*width + 2*lists)
	if cap(f.only) < need {
		f.only = make(rx.Bits, need)
	}
	room := f.only[:need]
	clear(room)
	take := func(n int) []uint64 {
		b := room[:n:n]
		room = room[n:]
		return b
	}
	for i := range f.forms {
		f.forms[i].work = work{rx: take(width), not: take(width), pm: take(lists), pmNot: take(lists)}
	}
	for i := range c.nodes {
		w, n := &f.forms[f.form[i]].work, &c.nodes[i].work
		for k := range n.rx {
			w.rx[k] |= n.rx[k]
			w.not[k] |= n.not[k]
		}
		for k := range n.pm {
			w.pm[k] |= n.pm[k]
			w.pmNot[k] |= n.pmNot[k]
		}
		w.sqli, w.xss = w.sqli || n.sqli, w.xss || n.xss
	}
}

// makes returns the form that a transformation makes of another.
func (t *turn) makes(c *class, from int32, by *transform) int32 {
	f := &t.found
	g := &f.forms[from]
	if by.idle(g.bytes) {
		return from
	}
	text := t.apply(by, g.text)
	if text == g.text {
		return from
	}
	for i := range f.forms {
		if f.forms[i].text == text {
			return int32(i) //nolint:gosec // fewer than nodes
		}
	}
	t.left -= int64(len(text))
	f.forms = append(f.forms, form{text: text, bytes: bytesOf(text)})
	for range c.steps {
		f.made = append(f.made, -1)
	}
	return int32(len(f.forms) - 1) //nolint:gosec // fewer than nodes
}

// asks asks what is to be asked about one form.
func (t *turn) asks(c *class, i int, value int32, name bool, rules Mask) {
	f := &t.found
	g := &f.forms[i]
	w := &g.work
	at := int32(i) //nolint:gosec // fewer than nodes
	if rx.Bits(w.rx).Any() {
		f.hits = room(f.hits, len(w.rx))
		if !c.set.Scan(g.text, f.hits, w.rx, &t.left) {
			t.left = min(t.left, -1)
			return
		}
		for k := range w.rx {
			for b := (f.hits[k] | w.not[k]) & w.rx[k]; b != 0; b &= b - 1 {
				n := k<<6 + bits.TrailingZeros64(b)
				hit := f.hits[k]&(b&-b) != 0
				for _, a := range c.ofRx[n] {
					if f.formOf(a.node) == at && (hit != a.rule.links[0].negate || hit && !c.set.Exact(n)) {
						t.may(a.rule, value, name, rules)
					}
				}
			}
		}
	}
	if rx.Bits(w.pm).Any() {
		f.pm = room(f.pm, len(w.pm))
		t.left -= c.pm.cost(g.text)
		c.pm.scan(g.text, f.pm)
		for k := range w.pm {
			for b := (f.pm[k] | w.pmNot[k]) & w.pm[k]; b != 0; b &= b - 1 {
				hit := f.pm[k]&(b&-b) != 0
				for _, a := range c.ofPM[k<<6+bits.TrailingZeros64(b)] {
					if f.formOf(a.node) == at && hit != a.rule.links[0].negate {
						t.may(a.rule, value, name, rules)
					}
				}
			}
		}
	}
	if w.sqli {
		t.inject(c.sqli, detectSQLi{}, g.text, at, value, name, rules)
	}
	if w.xss {
		t.inject(c.xss, detectXSS{}, g.text, at, value, name, rules)
	}
}

// inject asks libinjection, once for all rules.
func (t *turn) inject(asks []ask, op operator, text string, at, value int32, name bool, rules Mask) {
	if t.left -= op.cost(text); t.left < 0 {
		return
	}
	hit := op.match(text, nil)
	for _, a := range asks {
		if t.found.formOf(a.node) == at && hit != a.rule.links[0].negate {
			t.may(a.rule, value, name, rules)
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
func (t *turn) may(x *rule, value int32, name bool, rules Mask) {
	f := &t.found
	if x.single && !t.triesOne(x, value, name) {
		return
	}
	f.raw++
	if !rules.Has(x.n) || !t.facts.Rules.Has(x.n) {
		return
	}
	s := &f.by[x.n]
	if s.last != 0 {
		if c := &f.list[s.last]; c.value == value && c.name == name {
			return
		}
	} else {
		f.some = append(f.some, int32(x.n)) //nolint:gosec // a number of a rule
	}
	f.list = append(f.list, candidate{value: value, name: name})
	n := int32(len(f.list) - 1) //nolint:gosec // bounded by the budget
	if s.last == 0 {
		s.first = n
	} else {
		f.list[s.last].next = n
	}
	s.last = n
	f.wake = f.wake || len(x.links) == 1 || x.single
}

package waf

import (
	"strconv"
	"strings"
)

// eval runs a rule with its chain and reports whether all of it matched. What is
// done for each value that matches (setvar, ctl) is done at once, as Coraza does,
// even when the chain does not match in the end.
func (t *turn) eval(x *rule) bool {
	t.rule = x
	t.matches, t.heads = t.matches[:0], t.heads[:0]
	for i := range x.links {
		if !t.link(x, i) {
			return false
		}
	}
	return true
}

func (t *turn) link(x *rule, i int) bool {
	l := &x.links[i]
	if l.always {
		t.hit(x, i, match{name: "UNKNOWN"})
		return true
	}
	before := t.hits
	for j := range l.targets {
		t.target(x, i, &l.targets[j])
	}
	return t.hits != before
}

// target asks a link's operator about all values of one of its targets.
func (t *turn) target(x *rule, i int, s *aim) {
	if s.count {
		t.ask(x, i, s, s.key, strconv.Itoa(t.count(x, s)))
		return
	}
	switch s.kind {
	case ofMembers, ofNames:
		if i == 0 && x.scanned && t.found.on && !x.single {
			t.candidates(x, s)
			return
		}
		for k := range t.facts.Values {
			v := &t.facts.Values[k]
			if !t.selects(x, s, v) {
				continue
			}
			t.member(x, i, s, v)
		}
	case ofSingle:
		if t.drops(x, s, "", 0) || !t.facts.singleRules(s.single).Has(x.n) {
			return
		}
		if i == 0 && x.scanned && t.found.on && !x.single {
			may, sure := t.found.has(x, s)
			if !may {
				return
			}
			t.sure = sure
		}
		t.ask(x, i, s, "", t.single(s.single))
		t.sure = false
	case ofTX:
		for _, v := range t.variables(s) {
			if !t.drops(x, s, v.name, 0) {
				t.ask(x, i, s, v.name, v.text)
			}
		}
	case ofMatched, ofMatchedNames:
		for k := range len(t.matches) { // those that this target adds are not asked about
			m := &t.matches[k]
			if !s.selectsName(m.name) || t.drops(x, s, m.name, 0) {
				continue
			}
			text := m.text
			if s.kind == ofMatchedNames {
				text = m.name
			}
			t.ask(x, i, s, m.name, text)
		}
	case ofMatchedVar:
		t.ask(x, i, s, "", t.matched.text)
	case ofMatchedName:
		t.ask(x, i, s, "", t.matched.name)
	}
}

// member asks about one value of a target.
func (t *turn) member(x *rule, i int, s *aim, v *Value) {
	key, text := v.Name, v.Text
	if s.listed {
		key = ""
	}
	if s.kind == ofNames {
		text = v.Name
	}
	t.ask(x, i, s, key, text)
}

// count is the number of values of a target.
func (t *turn) count(x *rule, s *aim) (n int) {
	switch s.kind {
	case ofMembers, ofNames:
		for k := range t.facts.Values {
			if t.selects(x, s, &t.facts.Values[k]) {
				n++
			}
		}
		return n
	case ofTX:
		for _, v := range t.variables(s) {
			if !t.drops(x, s, v.name, 0) {
				n++
			}
		}
		return n
	case ofMatched, ofMatchedNames:
		for k := range t.matches {
			if s.selectsName(t.matches[k].name) && !t.drops(x, s, t.matches[k].name, 0) {
				n++
			}
		}
		return n
	default:
		if t.drops(x, s, "", 0) {
			return 0
		}
		return 1
	}
}

// visible reports whether values of that place are known in the phase that runs.
func (t *turn) visible(in In) bool { return phaseOf(in) <= t.phase }

// selects reports whether a target of a rule looks at a value.
func (t *turn) selects(x *rule, s *aim, v *Value) bool {
	if !s.in.has(v.In) || !t.visible(v.In) {
		return false
	}
	// An empty mask of names is a value that stands twice for the sake of its text.
	if rules := v.rules(s.kind); rules != nil && !rules.Has(x.n) && (!s.count || len(rules) == 0 && s.kind == ofNames) {
		return false
	}
	return s.takes(v.In, v.Name) && !t.drops(x, s, v.Name, v.In)
}

func (v *Value) rules(kind aimKind) Mask {
	if kind == ofNames {
		return v.NameRules
	}
	return v.TextRules
}

// takes reports whether a target looks at the member of that place and name. It
// depends on nothing else of a message.
func (s *aim) takes(in In, name string) bool {
	given := name
	if s.listed {
		name = ""
	}
	if s.key != "" && (s.listed || !sameName(name, s.key)) || s.keyRx != nil && !s.keyRx.MatchString(strings.ToLower(name)) {
		return false
	}
	for i := range s.except {
		if e := &s.except[i]; e.takes(in, name) || e.in != 0 && s.listed && e.takes(in, given) {
			return false
		}
	}
	return true
}

// selectsName is takes for what has no place.
func (s *aim) selectsName(name string) bool { return s.takes(0, name) }

// takes reports whether a member is one of those left out.
func (e *except) takes(in In, name string) bool {
	switch {
	case e.in != 0 && !e.in.has(in):
		return false
	case e.rx != nil:
		return e.rx.MatchString(strings.ToLower(name))
	case e.pre:
		return len(e.key) == 0 || strings.HasPrefix(strings.ToLower(name), e.key)
	default:
		return e.key == "" || sameName(name, e.key)
	}
}

// drops reports whether a ctl took this member from the rule.
func (t *turn) drops(x *rule, s *aim, name string, in In) bool {
	for i := range t.excluded {
		e := &t.excluded[i]
		if e.rule == x.n && e.target == s.name && e.except.takes(in, name) {
			return true
		}
	}
	return false
}

// single is a single variable in the phase that runs.
func (t *turn) single(n int) string {
	switch s := &singles[n]; {
	case t.phase < s.phase:
		return s.early
	case s.name == "REQBODY_PROCESSOR":
		return t.facts.processorIn(t.phase)
	default:
		return t.Rules.read[n](t.facts)
	}
}

// variables are those of TX that a target selects.
func (t *turn) variables(s *aim) []pair {
	t.members = t.members[:0]
	if s.tx < captured {
		t.settle()
	}
	switch {
	case s.tx >= 0:
		if v := &t.tx.fixed[s.tx]; v.set {
			t.members = append(t.members, pair{t.names.list[s.tx], v.text})
		}
	case s.keyRx != nil:
		t.members = t.tx.match(t.names, s.keyRx, t.members)
	default:
		t.members = t.tx.all(t.names, t.members)
	}
	kept := t.members[:0]
	for _, v := range t.members {
		if s.tx >= 0 && len(s.except) == 0 || s.selectsName(v.name) {
			kept = append(kept, v)
		}
	}
	return kept
}

// ask asks the link's operator about a text.
func (t *turn) ask(x *rule, i int, s *aim, key, text string) {
	l := &x.links[i]
	if !l.multi {
		for k := range l.chain {
			text = t.apply(&l.chain[k], text)
		}
		t.question(x, i, s, key, text)
		return
	}
	// The raw text, and each that a transformation says it has changed. Answers can
	// run other rules' macros, not this loop again: texts stay.
	t.question(x, i, s, key, text)
	for k := range l.chain {
		to := t.apply(&l.chain[k], text)
		if !l.chain[k].changes(text, to) {
			continue
		}
		text = to
		t.question(x, i, s, key, text)
	}
}

// apply is one transformation, paid for.
func (t *turn) apply(f *transform, text string) string {
	t.left -= 10 + int64(len(text))*costTransform
	if t.left < 0 {
		return text
	}
	return f.apply(text)
}

// costTransform is what a transformation takes for a byte, in about nanoseconds.
const costTransform = 4

func (t *turn) question(x *rule, i int, s *aim, key, text string) {
	l := &x.links[i]
	sure := t.sure && !t.stales
	yes := !l.negate
	if !sure && len(text) >= shortText && l.one != nil && !t.stales {
		// An automaton takes a tenth of what Go's regexp does.
		if set := l.one(); set != nil {
			t.found.one = room(t.found.one, 1)
			if !set.Scan(text, t.found.one, nil, &t.left) {
				t.left = min(t.left, -1)
			}
			sure, yes = true, t.found.one[0] != 0
		}
	}
	if !sure && !t.pays(l, text) {
		return
	}
	if t.left < 0 {
		return
	}
	switch {
	case sure:
		if l.capture && yes {
			t.stale = capture{l, text}
		}
	case l.op == nil:
		yes = l.equals(text, t.expand(l.arg))
	case l.capture:
		t.stale = capture{}
		yes = t.captures(l, text)
	default:
		yes = l.op.match(text, nil)
	}
	if yes == l.negate {
		return
	}
	name := s.name
	if key != "" {
		name += ":" + key
	}
	m := match{name: name, text: text, target: s.name, member: key}
	if i == 0 && x.log && !t.quiet {
		m.part = t.part(l, text)
	}
	t.hit(x, i, m)
}

// pays takes the cost of an operator from the budget. Of one that captures it is
// taken afterwards, by how far it had to read; it must be there before.
func (t *turn) pays(l *link, text string) bool {
	cost := l.cost(text)
	if t.left < cost {
		t.short = true
		return false
	}
	if !l.capture {
		t.left -= cost
	}
	return true
}

// captures asks an operator and puts what it captured into TX:0 to TX:9.
func (t *turn) captures(l *link, text string) bool {
	t.caps.n = 0
	yes := l.op.match(text, &t.caps)
	for k := range t.caps.n {
		t.tx.fixed[k] = variable{true, t.caps.field[k]}
	}
	t.left -= t.readCost(l, text)
	return yes
}

// readCost is what an operator took that left its captures in t.caps.
func (t *turn) readCost(l *link, text string) int64 {
	if t.caps.n > 0 && l.name == "rx" {
		part := t.caps.field[0]
		return 500 + 100*int64(strings.Index(text, part)+len(part))
	}
	return l.cost(text)
}

// settle captures what nobody had asked for.
func (t *turn) settle() {
	if c := t.stale; c.link != nil {
		t.stale = capture{}
		t.captures(c.link, c.text)
	}
}

// part is what of the text an operator matched, for who reads about it.
func (t *turn) part(l *link, text string) string {
	if l.negate || l.op == nil {
		return ""
	}
	if t.stale.link == nil && l.capture {
		return t.tx.fixed[0].text
	}
	cost := l.cost(text)
	if t.left < 4*cost {
		return "" // a verdict is worth more
	}
	if l.capture { // left over by another link, it is not this one's
		t.settle()
		return t.tx.fixed[0].text
	}
	t.caps.n = 0
	found := l.op.match(text, &t.caps)
	t.left -= t.readCost(l, text)
	if found && t.caps.n > 0 {
		return t.caps.field[0]
	}
	return ""
}

// cost is what the operator takes, in about nanoseconds.
func (l *link) cost(text string) int64 {
	if l.op == nil {
		return 50 + int64(len(text))
	}
	return l.op.cost(text)
}

// hit does what a link does for each value that it matches.
func (t *turn) hit(x *rule, i int, m match) {
	t.hits++
	t.matched = m
	t.matches = append(t.matches, m)
	if i == 0 && x.log && !t.quiet {
		if len(x.links) == 1 {
			m.msg = t.expand(x.msg)
		}
		t.heads = append(t.heads, m)
	}
	l := &x.links[i]
	for k := range l.sets {
		t.set(&l.sets[k])
	}
	for k := range l.ctl {
		t.control(&l.ctl[k])
	}
}

func (t *turn) set(s *setting) {
	if s.n < 0 {
		name := strings.ToLower(t.expand(s.name))
		if s.remove {
			t.tx.remove(t.names, name)
			return
		}
		for _, rx := range t.rule.watch {
			t.stirs = t.stirs || rx.MatchString(name)
		}
		old, _ := t.tx.get(t.names, name)
		if text, ok := change(old, t.expand(s.value)); ok {
			t.tx.put(t.names, name, text)
		}
		return
	}
	v := &t.tx.fixed[s.n]
	if s.remove {
		*v = variable{}
		return
	}
	value := ""
	if len(s.value) > 0 {
		value = t.expand(s.value)
	}
	if text, ok := change(v.text, value); ok {
		*v = variable{true, text}
	}
}

func (t *turn) control(c *effect) {
	t.off = t.off || c.off
	for _, n := range c.removes {
		if c.target == "" {
			t.removed[n>>6] |= 1 << (n & 63)
			continue
		}
		t.excluded = append(t.excluded, exclusion{n, c.target, c.except})
	}
}

// report writes what a rule matched into the verdict.
func (t *turn) report(x *rule) {
	for i := range t.heads {
		m := &t.heads[i]
		if len(x.links) > 1 {
			m.msg = t.expand(x.msg)
		}
		t.out.Hits = append(t.out.Hits, Hit{
			Rule: x.src.ID, Msg: m.msg, Severity: x.src.Severity, Level: x.level,
			Target: m.target, Name: m.member, Text: m.text, Match: m.part,
		})
	}
}

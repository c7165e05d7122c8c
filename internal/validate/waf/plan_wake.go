package waf

import (
	"regexp"
	"slices"
	"strings"
)

// wakers finds the rules whose match changes a verdict: those that report or deny,
// and those that set a variable another one looks at. All others only take away:
// they skip rules, or exclude a value. While nothing matches that wakes, they do
// not need to run.
func (p *plan) wakers(r *Rules) {
	w := &waking{plan: p, looked: map[int]bool{}, stale: p.staleCaptures()}
	for grown := true; grown; {
		grown = false
		for _, x := range r.rules {
			if !x.onTX() || slices.Contains(w.rules, x) || !(x.log || x.denies || x.resume > 0 || w.sets(x)) {
				continue
			}
			w.looks(x)
			w.rules, grown = append(w.rules, x), true
		}
	}
	for _, x := range r.rules {
		x.watch = w.watched(x)
		x.wakes = !x.onTX() && (x.log || x.denies || w.sets(x) || x.watch != nil)
		x.probe = x.wakes && w.alone(x)
		x.single = x.probe && w.single(x)
	}
	r.stales = w.stale
	for i := range r.noisy {
		r.noisy[i] = r.noise(1 + 2*i)
	}
}

// A waking knows which variables of TX rules look at that can report.
type waking struct {
	*plan
	stale  bool // a rule looks at captures of another
	rules  []*rule
	looked map[int]bool
	rx     []*regexp.Regexp // nil: at all
}

func (w *waking) looks(x *rule) {
	macros := func(m macro) {
		for i := range m {
			if m[i].kind == txVariable {
				w.looked[m[i].n] = true
			}
		}
	}
	for i := range x.links {
		l := &x.links[i]
		for j := range l.targets {
			if s := &l.targets[j]; s.tx >= 0 {
				w.looked[s.tx] = true
			} else if s.kind == ofTX {
				w.rx = append(w.rx, s.keyRx)
			}
		}
		macros(l.arg)
		for k := range l.sets {
			macros(l.sets[k].value)
			macros(l.sets[k].name)
		}
	}
}

// sets reports whether a link of the rule sets a variable that was looked at.
func (w *waking) sets(x *rule) bool {
	for i := range x.links {
		if w.linkSets(x, i) {
			return true
		}
	}
	return false
}

func (w *waking) linkSets(x *rule, i int) bool {
	for _, s := range x.links[i].sets {
		if s.n >= 0 && (w.looked[s.n] || w.matches(s.n)) || s.n < 0 && slices.Contains(w.rx, nil) {
			return true // a name made at run time is looked at then: [rule.watch]
		}
	}
	return false
}

func (w *waking) matches(n int) bool {
	return slices.ContainsFunc(w.rx, func(rx *regexp.Regexp) bool { return rx == nil || rx.MatchString(w.names.list[n]) })
}

// onTX reports whether the rule looks at nothing of a message.
func (x *rule) onTX() bool {
	for i := range x.links {
		for j := range x.links[i].targets {
			switch x.links[i].targets[j].kind {
			case ofTX, ofMatched, ofMatchedNames, ofMatchedVar, ofMatchedName:
			default:
				return false
			}
		}
	}
	return true
}

// alone reports whether the rule, run before all others, matches whenever it would
// match in its turn: whether what its chain looks at is the message, constants, or
// what the chain itself has set.
func (w *waking) alone(x *rule) bool {
	o := own{waking: w, fixed: map[int]bool{}}
	for i := range x.links {
		l := &x.links[i]
		if i < len(x.links)-1 && w.linkSets(x, i) || !o.knows(l.arg) {
			return false
		}
		for j := range l.targets {
			if s := &l.targets[j]; s.kind == ofTX && !o.target(s) {
				return false
			}
		}
		o.after(l)
	}
	return true
}

// own are the variables that a chain has set in any case, up to a link.
type own struct {
	*waking
	fixed    map[int]bool
	families []string
}

func (o *own) after(l *link) {
	if l.capture && !l.negate {
		for n := range l.groups() {
			o.fixed[n] = true
		}
	}
	for _, s := range l.sets {
		if first := s.value; len(first) > 0 && first[0].kind == ofText && (first[0].text[0] == '+' || first[0].text[0] == '-') || s.remove {
			continue
		}
		if !o.knows(s.value) || !o.knows(s.name) {
			continue
		}
		if s.n >= 0 {
			o.fixed[s.n] = true
		} else if f := s.family(); f != "" {
			o.families = append(o.families, f)
		}
	}
}

// knows reports whether a macro holds no variable of other rules.
func (o *own) knows(m macro) bool {
	for i := range m {
		if m[i].kind == txVariable && !o.fixed[m[i].n] && o.varies[m[i].n] {
			return false
		}
	}
	return true
}

// target reports whether a target in TX selects constants and own variables only.
func (o *own) target(s *aim) bool {
	if s.tx >= 0 {
		return o.fixed[s.tx] || !o.varies[s.tx]
	}
	begin := begins(s.keyRx)
	if !slices.Contains(o.families, begin) || begin == "" {
		return false
	}
	for _, f := range o.plan.families {
		if f != begin && (strings.HasPrefix(f, begin) || strings.HasPrefix(begin, f)) {
			return false
		}
	}
	for n := range o.varies {
		if s.keyRx.MatchString(o.names.list[n]) {
			return false
		}
	}
	// Rules in front of this one may be of the same family.
	count := 0
	for _, x := range o.all {
		if x == nil {
			continue
		}
		for i := range x.links {
			if slices.ContainsFunc(x.links[i].sets, func(s setting) bool { return s.n < 0 && s.family() == begin }) {
				count++
			}
		}
	}
	return count == 1
}

// begins is the text that each match of an expression begins with.
func begins(rx *regexp.Regexp) string {
	if rx == nil {
		return ""
	}
	rest, anchored := strings.CutPrefix(rx.String(), "^")
	if !anchored || regexp.QuoteMeta(rest) != rest {
		return ""
	}
	return rest
}

// family is how the name of a variable begins that is made at run time.
func (s *setting) family() string {
	if len(s.name) > 0 && s.name[0].kind == ofText {
		return strings.ToLower(s.name[0].text)
	}
	return ""
}

// single reports whether the rule matches a message exactly when it matches one of
// its first link's values alone, and leaves no trace when it does not: then a value
// can be tried alone, and the answer remembered.
func (w *waking) single(x *rule) bool {
	if !x.probe || len(x.links) != 2 || !x.findable() || w.stale && x.links[0].capture {
		return false
	}
	head, l := &x.links[0], &x.links[1]
	if len(head.ctl) > 0 || l.always || !w.hidden(x) {
		return false
	}
	o := own{waking: w, fixed: map[int]bool{}}
	o.after(head)
	last, constant := true, true
	for j := range l.targets {
		s := &l.targets[j]
		switch {
		case s.count:
			return false
		case s.kind == ofMatchedVar, s.kind == ofMatchedName, s.kind == ofTX && s.tx >= 0:
		case s.kind == ofTX, s.kind == ofMatched, s.kind == ofMatchedNames:
			last = false
		default:
			return false
		}
	}
	for i := range l.arg {
		switch k := l.arg[i].kind; {
		case k == ofText, k == txVariable && !w.varies[l.arg[i].n]:
		case k == txVariable, k == matchedVar, k == matchedName:
			constant = false
		default:
			return false
		}
	}
	for i := range head.sets {
		for _, k := range slices.Concat(head.sets[i].value, head.sets[i].name) {
			if k.kind == single || k.kind == memberText || k.kind == memberName {
				return false
			}
		}
	}
	return last || constant
}

// watched returns the expressions by which other rules look at variables, when x
// makes names of variables from a message: a sender can choose one they match.
func (w *waking) watched(x *rule) (watch []*regexp.Regexp) {
	makes := false
	for i := range x.links {
		makes = makes || slices.ContainsFunc(x.links[i].sets, func(s setting) bool { return s.n < 0 })
	}
	if !makes {
		return nil
	}
	for _, y := range w.all {
		if y == nil || y == x {
			continue
		}
		for i := range y.links {
			for j := range y.links[i].targets {
				if s := &y.links[i].targets[j]; s.kind == ofTX && s.tx < 0 && s.keyRx != nil {
					watch = append(watch, s.keyRx)
				}
			}
		}
	}
	return watch
}

// hidden reports whether no other rule looks at what the first link sets.
func (w *waking) hidden(x *rule) bool {
	for _, s := range x.links[0].sets {
		for _, y := range w.all {
			if y != nil && y != x && y.reads(&s, w.names) {
				return false
			}
		}
	}
	return true
}

// reads reports whether the rule looks at a variable that s sets.
func (x *rule) reads(s *setting, n *names) bool {
	family := s.family()
	is := func(k int) bool {
		return s.n >= 0 && k == s.n || s.n < 0 && strings.HasPrefix(n.list[k], family)
	}
	in := func(m macro) bool {
		return slices.ContainsFunc(m, func(k token) bool { return k.kind == txVariable && is(k.n) })
	}
	for i := range x.links {
		l := &x.links[i]
		for j := range l.targets {
			switch t := &l.targets[j]; {
			case t.kind != ofTX:
			case t.tx >= 0 && is(t.tx):
				return true
			case t.tx < 0 && s.n >= 0 && (t.keyRx == nil || t.keyRx.MatchString(n.list[s.n])):
				return true
			case t.tx < 0 && t.keyRx == nil:
				return true // others by expression: see [rule.watch]
			}
		}
		if in(l.arg) {
			return true
		}
		for _, k := range l.sets {
			if in(k.value) || in(k.name) {
				return true
			}
		}
	}
	return in(x.msg)
}

// staleCaptures reports whether a rule looks at a capture that its own chain did not make.
func (p *plan) staleCaptures() bool {
	for _, x := range p.all {
		if x == nil {
			continue
		}
		made := 0
		in := func(m macro) bool {
			return slices.ContainsFunc(m, func(k token) bool { return k.kind == txVariable && k.n < captured && k.n >= made })
		}
		for i := range x.links {
			l := &x.links[i]
			for j := range l.targets {
				if s := &l.targets[j]; s.kind == ofTX && s.tx < captured && s.tx >= made ||
					s.kind == ofTX && s.tx < 0 && (s.keyRx == nil || s.keyRx.MatchString("0") || s.keyRx.MatchString("1")) {
					return true
				}
			}
			if in(l.arg) {
				return true
			}
			if l.capture && !l.negate {
				made = max(made, l.groups())
			}
			for _, k := range l.sets {
				if in(k.value) || in(k.name) {
					return true
				}
			}
		}
		if in(x.msg) {
			return true
		}
	}
	return false
}

// groups is how many of TX:0, TX:1 … a match of the link sets in any case.
func (l *link) groups() int {
	switch l.name {
	case "detectSQLi", "pm", "pmFromFile", "pmf":
		return 1
	case "rx":
		if op, ok := l.op.(*regex); ok {
			return op.groups
		}
	}
	return 0
}

// noise reports whether something comes of a message that no rule matches.
func (r *Rules) noise(first int) bool {
	t := newTurn(r)
	t.facts, t.out, t.left = &Facts{}, &Verdict{}, 1<<60
	t.found.on = true
	t.found.begin(len(r.rules))
	t.onTX = true
	t.run(first)
	return len(t.out.Hits) > 0 || t.out.Block || t.out.Score != 0
}

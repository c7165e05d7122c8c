package waf

import (
	"regexp"
	"regexp/syntax"
	"slices"
)

// wakers finds the rules whose match changes a verdict: those that report or deny,
// and those that set a variable another one looks at. All others only take away:
// they skip rules, or exclude a value. While nothing matches that wakes, they do
// not need to run.
func (p *plan) wakers(r *Rules) {
	w := &waking{names: p.names, looked: map[int]bool{}}
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
		x.wakes = !x.onTX() && (x.log || x.denies || w.sets(x))
		x.probe = x.wakes && x.alone(p, w)
	}
	for i := range r.noisy {
		r.noisy[i] = r.noise(1 + 2*i)
	}
}

// A waking knows which variables of TX rules look at that can report.
type waking struct {
	names  *names
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
		if s.n < 0 && len(w.rx) > 0 || s.n >= 0 && (w.looked[s.n] || w.matches(s.n)) {
			return true
		}
	}
	return false
}

func (w *waking) matches(n int) bool {
	return slices.ContainsFunc(w.rx, func(rx *regexp.Regexp) bool { return rx == nil || rx.MatchString(w.names.list[n]) })
}

// onTX reports whether the rule's first link looks at nothing of a message.
func (x *rule) onTX() bool {
	for j := range x.links[0].targets {
		switch x.links[0].targets[j].kind {
		case ofTX, ofMatched, ofMatchedNames, ofMatchedVar, ofMatchedName:
		default:
			return false
		}
	}
	return true
}

// alone reports whether the rule, run before all others, matches whenever it would
// match in its turn: whether what its chain looks at is the message, constants, or
// what the chain itself has set.
func (x *rule) alone(p *plan, w *waking) bool {
	made := map[int]bool{}
	knows := func(m macro) bool {
		for i := range m {
			if m[i].kind == txVariable && !made[m[i].n] && p.varies[m[i].n] {
				return false
			}
		}
		return true
	}
	for i := range x.links {
		l := &x.links[i]
		if i < len(x.links)-1 && w.linkSets(x, i) || !knows(l.arg) {
			return false
		}
		for j := range l.targets {
			if s := &l.targets[j]; s.kind == ofTX && (s.tx < 0 || !made[s.tx] && p.varies[s.tx]) {
				return false
			}
		}
		if l.capture && !l.negate {
			for n := range l.groups() {
				made[n] = true
			}
		}
		for _, s := range l.sets {
			if s.n < 0 || !knows(s.value) {
				continue
			}
			made[s.n] = true
		}
	}
	return true
}

// groups is how many of TX:0, TX:1 … a match of the link sets in any case.
func (l *link) groups() int {
	if l.name == "rx" {
		if arg, ok := l.arg.constant(); ok {
			if re, err := syntax.Parse(arg, syntax.Perl); err == nil {
				return min(re.MaxCap()+1, maxGroups)
			}
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

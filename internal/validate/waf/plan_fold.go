package waf

import (
	"regexp"
	"slices"
	"strings"

	"github.com/gatehouse-api/gatehouse/internal/validate/seclang"
)

// Folding runs the rules once, without a message. A rule that looks at nothing but
// constants of TX is decided then: the paranoia level's gates, the settings and
// their defaults. What it sets stands in the template that each message begins
// with, what it skips is gone.
//
// Which variables are constants is found by going through the rules until nothing
// changes: a variable that a rule depending on messages sets is none, nor is one
// whose value is made of such a variable.
type folding struct {
	*plan
	varies   map[int]bool // variables that messages can change; the plan's when folding is done
	families []string     // and how the names begin of those that get their name at run time
	grown    bool         // either did, in this round

	// Of one round, what the rules that are left for run time do up to here.
	read    map[int]bool // variables they look at
	readRx  []*regexp.Regexp
	written map[int]bool // variables they set
	skips   []int        // positions at which their skips may end
	fates   []fate
	t       *turn
}

// A fate is what folding does with a rule.
type fate struct {
	dropped bool
	acts    bool        // its conditions hold: it only acts
	sets    [][]setting // of each link, those left for run time
}

func (p *plan) fold() {
	f := &folding{plan: p, varies: map[int]bool{}}
	for f.round(); f.grown; {
		f.round()
	}
	p.template, p.varies, p.families = f.t.tx.fixed, f.varies, f.families
	for _, x := range slices.Clone(p.all) {
		if x == nil {
			continue
		}
		fate := f.fates[x.n]
		if fate.dropped {
			p.drop(x)
			continue
		}
		for i := range x.links {
			x.links[i].sets = fate.sets[i]
		}
		if fate.acts && !x.log {
			act := link{always: true}
			for i := range x.links {
				act.sets, act.ctl = append(act.sets, x.links[i].sets...), append(act.ctl, x.links[i].ctl...)
			}
			x.links = []link{act}
		}
		if x.inert() {
			p.drop(x)
		}
		f.arguments(x)
	}
}

// arguments puts constants into the arguments of operators.
func (f *folding) arguments(x *rule) {
	for i := range x.links {
		l := &x.links[i]
		if l.op != nil || l.always || !f.known(l.arg) {
			continue
		}
		text := f.t.expand(l.arg)
		if op, err := newOperator(seclang.Operator{Name: l.name, Arg: text}); err == nil {
			l.op, l.arg = op, macro{{text: text}}
		}
	}
}

// inert reports whether nothing follows from a match of the rule.
func (x *rule) inert() bool {
	if x.log || x.denies || x.ends != goesOn || x.resume > 0 {
		return false
	}
	for i := range x.links {
		if len(x.links[i].sets)+len(x.links[i].ctl) > 0 || x.links[i].capture {
			return false
		}
	}
	return true
}

func (f *folding) round() {
	f.grown, f.read, f.readRx, f.written = false, map[int]bool{}, nil, map[int]bool{}
	f.fates = make([]fate, len(f.all))
	f.t = newTurn(&Rules{names: f.names, rules: f.all})
	f.t.out, f.t.facts, f.t.left = &Verdict{}, &Facts{}, 1<<60
	f.t.template = make([]variable, len(f.names.list))
	for i := range captured {
		f.t.template[i].set = true
	}
	f.t.begin()
	f.t.quiet = true
	at, early := 0, 0
	for phase := 1; phase <= 4; phase++ {
		carry := 0
		f.skips = f.skips[:0]
		if early > 0 {
			f.skips = append(f.skips, early)
		}
		early = 0
		f.t.phase = phase
		for _, x := range f.phases[phase] {
			fate := &f.fates[x.n]
			for i := range x.links {
				fate.sets = append(fate.sets, x.links[i].sets)
			}
			if x.pos < at || f.t.removed[x.n>>6]>>(x.n&63)&1 != 0 {
				fate.dropped = true
				continue
			}
			switch f.decide(x, fate) {
			case skipsForGood:
				at, carry = x.resume, x.carry
			case maySkip:
				f.skips = append(f.skips, x.resume)
				early = max(early, x.carry)
			case noSkip:
			}
		}
		at = carry
	}
}

type skipping uint8

const (
	noSkip skipping = iota
	maySkip
	skipsForGood
)

// decide finds the fate of one rule, and whether those behind it are skipped.
func (f *folding) decide(x *rule, fate *fate) skipping {
	nearest, conditional := never, false
	for _, s := range f.skips {
		if s > x.pos {
			nearest, conditional = min(nearest, s), true
		}
	}
	if f.fails(x) {
		fate.dropped = true
		return noSkip
	}
	acts := x.acts()
	if !f.constant(x) || conditional && acts || len(x.links) > 1 && f.setsVarying(x) || x.ends != goesOn {
		return f.later(x)
	}
	before := slices.Clone(f.t.tx.fixed)
	if !f.t.eval(x) {
		fate.dropped = true // what links in front of the one that failed have set stays set
		return noSkip
	}
	keep := x.log || x.denies
	for i := range x.links {
		fate.sets[i] = nil
		for _, s := range x.links[i].sets {
			if f.carriedOut(s, before) {
				continue
			}
			fate.sets[i], keep = append(fate.sets[i], s), true
			f.looks(s.value)
			f.writes(s)
		}
		keep = keep || slices.ContainsFunc(x.links[i].ctl, func(c effect) bool { return c.target != "" || c.off })
	}
	fate.acts, fate.dropped = true, !keep
	switch {
	case x.resume == 0:
		return noSkip
	case x.resume <= nearest:
		return skipsForGood
	default:
		// A skip at run time can end before this one does, and then the rules behind
		// its end run that this one would have skipped.
		fate.dropped = false
		return maySkip
	}
}

// fails reports whether the conditions that are constants keep the rule from
// matching, before a link has done anything.
func (f *folding) fails(x *rule) bool {
	if len(x.links) == 1 {
		return false
	}
	for i := range x.links {
		l := &x.links[i]
		if f.constantLink(l) && len(l.sets)+len(l.ctl) == 0 {
			f.t.rule = x
			f.t.matches = f.t.matches[:0]
			if !f.t.link(x, i) {
				return true
			}
		}
		if len(l.sets)+len(l.ctl) > 0 || l.capture {
			return false
		}
	}
	return false
}

// acts reports whether a match of the rule changes what others see.
func (x *rule) acts() bool {
	for i := range x.links {
		if len(x.links[i].sets)+len(x.links[i].ctl) > 0 {
			return true
		}
	}
	return x.log || x.denies
}

// later leaves a rule for run time.
func (f *folding) later(x *rule) skipping {
	for i := range x.links {
		l := &x.links[i]
		for j := range l.targets {
			if s := &l.targets[j]; s.kind == ofTX {
				if s.tx >= 0 {
					f.read[s.tx] = true
				} else {
					f.readRx = append(f.readRx, s.keyRx)
				}
			}
		}
		f.looks(l.arg)
		for _, s := range l.sets {
			f.looks(s.value)
			f.looks(s.name)
			f.vary(s)
			f.writes(s)
		}
		if l.capture {
			for n := range captured {
				f.varyNumber(n)
			}
		}
	}
	f.looks(x.msg)
	if x.resume > 0 {
		return maySkip
	}
	return noSkip
}

func (f *folding) looks(m macro) {
	for i := range m {
		if m[i].kind == txVariable {
			f.read[m[i].n] = true
		}
	}
}

func (f *folding) writes(s setting) {
	if s.n >= 0 {
		f.written[s.n] = true
	}
}

// vary says that messages can change what s sets.
func (f *folding) vary(s setting) {
	if s.n >= 0 {
		f.varyNumber(s.n)
		return
	}
	family := s.family()
	if !slices.Contains(f.families, family) {
		f.families, f.grown = append(f.families, family), true
	}
	for n, name := range f.names.list {
		if strings.HasPrefix(name, family) {
			f.varyNumber(n)
		}
	}
}

func (f *folding) varyNumber(n int) {
	if !f.varies[n] {
		f.varies[n], f.grown = true, true
	}
}

// setsVarying reports whether the rule sets a variable that messages can change.
func (f *folding) setsVarying(x *rule) bool {
	for i := range x.links {
		for _, s := range x.links[i].sets {
			if s.n < 0 || f.varies[s.n] || !f.known(s.value) {
				return true
			}
		}
	}
	return false
}

// carriedOut reports whether a setvar of a rule that matched while loading is done
// with: what it set stands in the template. Else it is undone there.
func (f *folding) carriedOut(s setting, before []variable) bool {
	if s.n < 0 {
		f.vary(s) // the name is made of constants, which CRS does nowhere
		return false
	}
	if !f.known(s.value) {
		f.varyNumber(s.n)
	}
	now, old := f.t.tx.fixed[s.n], before[s.n]
	seen := f.read[s.n] || slices.ContainsFunc(f.readRx, func(rx *regexp.Regexp) bool { return rx == nil || rx.MatchString(f.names.list[s.n]) })
	if now != old && (seen || f.written[s.n]) {
		f.varyNumber(s.n) // a rule in front of this one sees, or makes, another value
	}
	if !f.varies[s.n] || !seen && !f.written[s.n] && f.known(s.value) {
		return true
	}
	f.t.tx.fixed[s.n] = old
	return false
}

// known reports whether a macro is made of constants.
func (f *folding) known(m macro) bool {
	for i := range m {
		if k := m[i].kind; k != ofText && (k != txVariable || f.varies[m[i].n]) {
			return false
		}
	}
	return true
}

// constant reports whether no message can change what the rule's conditions say.
func (f *folding) constant(x *rule) bool {
	for i := range x.links {
		if !f.constantLink(&x.links[i]) {
			return false
		}
	}
	return true
}

func (f *folding) constantLink(l *link) bool {
	if l.capture || !f.known(l.arg) {
		return false
	}
	for j := range l.targets {
		s := &l.targets[j]
		switch {
		case s.kind != ofTX:
			return false
		case s.tx >= 0:
			if f.varies[s.tx] {
				return false
			}
		default:
			for n := range f.varies {
				if s.keyRx == nil || s.keyRx.MatchString(f.names.list[n]) {
					return false
				}
			}
			if len(f.families) > 0 {
				return false
			}
		}
	}
	return true
}

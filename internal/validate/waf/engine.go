package waf

import "strconv"

// A turn is one message going through the rules. Turns are pooled.
type turn struct {
	*Rules
	facts *Facts
	out   *Verdict
	left  int64 // of the budget; below 0 it has ended

	phase int
	tx    state
	rule  *rule  // that runs
	allow ending // of a rule that matched
	off   bool   // nothing blocks any more
	quiet bool   // hits are not reported
	ended bool   // a rule denied
	begun bool   // tx is there
	sure  bool   // the value that a rule is asked about is known to match
	stale capture

	first   int  // phase
	halfway bool // half of the budget is gone, and it was asked whether that is enough
	cut     bool // it was
	short   bool // something was not asked, as it would have cost more than there is
	stirs   bool // a variable was made that other rules look at
	onTX    bool // only rules that look at nothing of a message run

	matched  match   // MATCHED_VAR and its name
	matches  []match // MATCHED_VARS of the rule that runs
	heads    []match // what its first link matched
	hits     int     // counts all that matched
	removed  []uint64
	excluded []exclusion // by ctl:ruleRemoveTarget

	found   found
	members []pair // scratch of targets
	caps    captures
	scratch []byte
}

// A match is a value that matched: the name and text rules see, and where it is from.
type match struct {
	name, text string // ARGS:q
	target     string // ARGS
	member     string // q
	part       string // that matched
	msg        string
}

// A capture is a match whose groups nobody has asked for yet.
type capture struct {
	link *link
	text string
}

// An exclusion is a target that a ctl took from a rule.
type exclusion struct {
	rule   int
	target string
	except except
}

func newTurn(r *Rules) *turn {
	return &turn{Rules: r, removed: make([]uint64, (len(r.rules)+63)/64)}
}

// Request judges the request in f: phases 1 and 2. v is empty.
func (r *Rules) Request(f *Facts, v *Verdict) { r.judge(f, v, r.request, 1) }

// Answer judges the answer in f: phases 3 and 4. What the rules of phase 1 set is
// set for them, too; those of phase 2 do not run.
func (r *Rules) Answer(f *Facts, v *Verdict) { r.judge(f, v, r.answer, 3) }

func (r *Rules) judge(f *Facts, v *Verdict, s *scan, first int) {
	t := r.turns.Get().(*turn) //nolint:forcetypeassert,errcheck // New makes nothing else
	t.facts, t.out, t.left = f, v, r.budget
	t.short = false
	spent := int64(0)
	if t.look(s, first) {
		if t.left < 0 { // a reserve, for what was found
			spent, t.short = r.budget-t.left, true
			t.left = r.budget / reserve
			spent += t.left - r.budget
		}
		t.run(first)
	}
	v.Cost += spent + r.budget - t.left
	v.Over = v.Over || !t.cut && (t.short || t.left < 0)
	t.release()
	r.turns.Put(t)
}

// reserve is the share of the budget that is left for the rules when looking for
// those that match has taken all of it.
const reserve = 4

// release lets go of the message: a pooled turn holds no text of it.
func (t *turn) release() {
	t.facts, t.out, t.rule = nil, nil, nil
	if len(t.tx.fixed) == 0 {
		return // no rule ran
	}
	clear(t.tx.fixed)
	clear(t.tx.other)
	clear(t.matches[:cap(t.matches)])
	clear(t.heads[:cap(t.heads)])
	clear(t.members[:cap(t.members)])
	clear(t.excluded[:cap(t.excluded)])
	t.tx.fixed, t.tx.other = t.tx.fixed[:0], t.tx.other[:0]
	t.matched, t.caps, t.stale = match{}, captures{}, capture{}
	t.matches, t.heads, t.members, t.excluded = t.matches[:0], t.heads[:0], t.members[:0], t.excluded[:0]
}

// run runs the rules in their order.
func (t *turn) run(first int) {
	t.begin()
	at := 0
	if first > 2 {
		t.quiet = true
		at = t.runPhase(1, at)
		t.quiet = false
	}
	for phase := first; phase < first+2 && !t.ended; phase++ {
		at = t.runPhase(phase, at)
	}
	t.judged(first)
}

func (t *turn) begin() {
	t.tx.begin(t.template)
	t.begun = true
	clear(t.removed)
	t.excluded, t.matched = t.excluded[:0], match{}
	t.off, t.ended, t.allow, t.quiet = false, false, goesOn, false
}

// runPhase runs the rules of one phase that stand at a position of at or behind
// it, and returns at for the next phase.
func (t *turn) runPhase(phase, at int) (carry int) {
	if t.allow == endsAll || t.allow == endsRequest && phase <= 2 {
		return at
	}
	t.phase = phase
	for _, x := range t.phases[phase] {
		if x.pos < at || t.removed[x.n>>6]>>(x.n&63)&1 != 0 || !t.facts.Rules.Has(x.n) || x.scanned && t.found.on && t.found.none(x) || t.onTX && !x.onTX() {
			continue
		}
		if !t.eval(x) {
			continue
		}
		if x.resume > 0 {
			at, carry = x.resume, x.carry
		}
		if x.log && !t.quiet {
			t.report(x)
		}
		if x.denies && !t.off {
			t.ended, t.out.Block = true, true
			return 0
		}
		if x.ends != goesOn && !t.off {
			t.allow = x.ends
			if t.allow == endsPhase {
				t.allow = goesOn
			}
			return carry
		}
		if t.left < 0 {
			return carry
		}
	}
	return carry
}

// judged writes the score into the verdict.
func (t *turn) judged(first int) {
	for _, n := range t.scores[first/2] {
		points, _ := strconv.Atoi(t.tx.fixed[n].text)
		t.out.Score += points
	}
}

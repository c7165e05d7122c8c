package waf

import (
	"regexp"
	"sync"

	"github.com/gatehouse-api/gatehouse/internal/validate/rx"
	"github.com/gatehouse-api/gatehouse/internal/validate/seclang"
)

// Rules are rules that were loaded. They do not change; their methods are safe for
// concurrent use.
type Rules struct {
	rules  []*rule // what is left to do at run time, by number, in the order of the program
	phases [5][]*rule
	names  *names

	template []variable // TX as it is when the first message-dependent rule runs
	scores   [2][]int   // variables of TX whose sum is Verdict.Score, of requests and answers
	read     []func(*Facts) string
	budget   int64

	stales          bool    // a rule looks at what another one captured
	noisy           [2]bool // something comes of a request, an answer, that no rule matches
	request, answer *scan
	turns           sync.Pool // of *turn
	provers         provers
}

// A rule is one rule with its chain, ready to run.
type rule struct {
	n     int // number, of [Mask]
	src   *seclang.Rule
	pos   int // in the program
	phase int
	level int // paranoia level, 0 when it has none
	links []link
	msg   macro

	resume int // position at which the phase goes on after a match; 0: at the next rule
	carry  int // position at which the next phase begins after a match of skipAfter to a marker that stands before the rule; 0: its first rule
	ends   ending
	denies bool
	log    bool

	wakes   bool // a match changes the verdict
	scanned bool // the values that its first link can match are found by a scan
	probe   bool // to run it alone, before all others, tells whether it wakes
	single  bool // and so does each value of its first link, alone

	// Marks: one of each of present is there when the rule matches, none of absent.
	present []uint64
	absent  uint64

	watch []*regexp.Regexp // by which other rules look at variables whose name this one makes
}

// An ending is how much of a message a rule of action allow lets through unseen.
type ending uint8

const (
	goesOn ending = iota
	endsPhase
	endsRequest
	endsAll
)

// A link is one rule of a chain.
type link struct {
	always  bool // there is no operator
	targets []aim
	chain   []transform
	multi   bool
	capture bool

	op     operator                    // nil when arg holds macros or there is none
	equals func(text, arg string) bool // with arg
	arg    macro
	negate bool
	name   string         // of the operator
	one    func() *rx.Set // of rx: its expression alone, for long texts

	sets []setting
	ctl  []effect
}

// ins are places of values, a bit each.
type ins uint16

func (s ins) has(in In) bool { return s>>in&1 != 0 }

func places(in ...In) (s ins) {
	for _, i := range in {
		s |= 1 << i
	}
	return s
}

// What a target looks at.
type aimKind uint8

const (
	ofMembers aimKind = iota // values by place and name
	ofNames                  // and their names
	ofSingle                 // a single variable
	ofTX
	ofMatched      // MATCHED_VARS
	ofMatchedNames // MATCHED_VARS_NAMES
	ofMatchedVar   // MATCHED_VAR
	ofMatchedName  // MATCHED_VAR_NAME
)

// An aim is what of a message a link looks at.
type aim struct {
	kind   aimKind
	name   string // of the collection, as rules write it
	in     ins
	single int // number in singles
	tx     int // number of TX:key, -1: all or by expression
	key    string
	keyRx  *regexp.Regexp
	count  bool
	except []except
	listed bool // members have no name of their own: FILES
}

// An except is a member that a target leaves out.
type except struct {
	in  ins // 0: any place of the target
	key string
	rx  *regexp.Regexp // instead of key
	pre bool           // key is how the name begins
}

// A setting is a setvar.
type setting struct {
	n      int   // number of the variable, -1: the name holds macros
	name   macro // then
	value  macro
	remove bool
}

// An effect is a ctl that changes which rules run, and on what.
type effect struct {
	removes []int  // numbers of rules, ascending
	target  string // the collection they do not look at; "": they do not run
	except  except
	off     bool // ruleEngine=Off or DetectionOnly: nothing blocks any more
}

// Len is how many rules there are: those that can still match. What no message can
// change was decided while loading.
func (r *Rules) Len() int { return len(r.rules) }

// Rule returns rule n, 0 to Len()-1, as it was read.
func (r *Rules) Rule(n int) *seclang.Rule { return r.rules[n].src }

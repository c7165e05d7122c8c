package posture

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse"
)

// A Tuner learns from recorded requests which rules of the WAF match what is
// harmless: where they match, for whom, and how often. It proposes, with the
// evidence and the risk; an operator decides.
type Tuner struct {
	LeastRequests int // that must show a match before it is proposed; 0: 20
	LeastCallers  int // different ones, proven or by address; 0: 3

	totals  map[string]int // requests of an operation
	callers map[string]*behaviour
	matches map[matchKey]map[string]*sample // by caller
}

type matchKey struct {
	operation, parameter string
	rule                 int
}

// behaviour is what is known of a caller, to tell attackers from users.
type behaviour struct {
	requests, matched int
	rules             map[int]bool
	kinds             map[string]bool // operation and family of rules: 942 is SQL
}

type sample struct {
	requests, refused int
	first, last       time.Time
	text              string
	proven            bool
	parts             []string
}

// A Proposal is an exclusion that would let what looks harmless pass, with what
// speaks for it and what is lost by it.
type Proposal struct {
	Operation string    `json:"operation"` // api.operation
	Parameter string    `json:"parameter"` // as waf.exclude writes it; "" the whole request
	Rules     []int     `json:"rules"`
	Texts     []string  `json:"texts"`    // the rules' sentences, in their order
	Requests  int       `json:"requests"` // that matched
	Of        int       `json:"of"`       // requests of the operation at all
	Refused   int       `json:"refused"`
	Callers   int       `json:"callers"` // different ones
	Proven    int       `json:"proven"`  // of them, who had authenticated
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
	Parts     []string  `json:"parts"`              // what matched, masked
	LeftOut   int       `json:"left_out,omitempty"` // matching requests of callers who look like attackers
	Doubt     string    `json:"doubt,omitempty"`    // why it is not proposed
	Risk      string    `json:"risk"`               // what is lost by it
	Config    string    `json:"config,omitempty"`   // what to write under apis.X.operations.Y; "" when in doubt
}

const (
	mostParts       = 4
	attackerKinds   = 3 // families of rules one caller meets at one operation: users do not, scanners do
	mostTunedTables = 1 << 20
)

// Note takes one recorded request into account.
func (t *Tuner) Note(e *gatehouse.Event) {
	if e.Operation == "" {
		return
	}
	if t.totals == nil {
		t.totals, t.callers, t.matches = map[string]int{}, map[string]*behaviour{}, map[matchKey]map[string]*sample{}
	}
	operation := e.API + "." + e.Operation
	t.totals[operation]++
	who, proven := e.Issuer+" "+e.Subject, e.Subject != ""
	if !proven {
		who = e.Address
	}
	b := t.callers[who]
	if b == nil {
		if len(t.callers) >= mostTunedTables {
			return
		}
		b = &behaviour{rules: map[int]bool{}, kinds: map[string]bool{}}
		t.callers[who] = b
	}
	b.requests++
	if len(e.Matches) == 0 {
		return
	}
	b.matched++
	for i := range e.Matches {
		m := &e.Matches[i]
		b.rules[m.Rule] = true
		b.kinds[operation+" "+strconv.Itoa(m.Rule/1000)] = true
		key := matchKey{operation, parameterOf(m), m.Rule}
		if t.matches[key] == nil {
			t.matches[key] = map[string]*sample{}
		}
		s := t.matches[key][who]
		if s == nil {
			s = &sample{first: e.Time, last: e.Time, text: m.Text, proven: proven}
			t.matches[key][who] = s
		}
		s.requests++
		if e.Reason != "" {
			s.refused++
		}
		if e.Time.Before(s.first) {
			s.first = e.Time
		}
		if e.Time.After(s.last) {
			s.last = e.Time
		}
		if len(s.parts) < mostParts && m.Part != "" && !slices.Contains(s.parts, m.Part) {
			s.parts = append(s.parts, m.Part)
		}
	}
}

// parameterOf writes where a rule matched as waf.exclude takes it.
func parameterOf(m *gatehouse.Match) string {
	switch {
	case m.In == "body" && m.Pointer != "":
		segments := strings.Split(m.Pointer, "/")
		for i, s := range segments {
			if _, err := strconv.Atoi(s); err == nil {
				segments[i] = "*"
			}
		}
		return "body" + strings.Join(segments, "/")
	case m.In == "body" && m.Name == "":
		return "body"
	case m.Name != "" && (m.In == "query" || m.In == "path" || m.In == "header" || m.In == "cookie" || m.In == "body"):
		return m.In + "." + m.Name
	}
	return ""
}

// attacker reports whether a caller's requests look like a scan: several kinds of
// attack at one operation, or nothing but matches over many requests.
func (b *behaviour) attacker() bool {
	perOperation := map[string]int{}
	for k := range b.kinds {
		operation, _, _ := strings.Cut(k, " ")
		if perOperation[operation]++; perOperation[operation] >= attackerKinds {
			return true
		}
	}
	return b.requests >= 20 && b.matched*10 >= b.requests*9 && len(b.rules) >= 5
}

// Proposals gives what was learned: rules that meet the same value of the same
// operation are one proposal; those with more callers come first, doubtful ones last.
func (t *Tuner) Proposals() []Proposal {
	type place struct{ operation, parameter string }
	merged := map[place]*Proposal{}
	callers := map[place]map[string]*sample{}
	for _, key := range slices.SortedFunc(maps.Keys(t.matches), func(a, b matchKey) int {
		return cmp.Or(cmp.Compare(a.operation, b.operation), cmp.Compare(a.parameter, b.parameter), cmp.Compare(a.rule, b.rule))
	}) {
		at := place{key.operation, key.parameter}
		p := merged[at]
		if p == nil {
			p = &Proposal{Operation: key.operation, Parameter: key.parameter, Of: t.totals[key.operation]}
			merged[at], callers[at] = p, map[string]*sample{}
		}
		text := ""
		for who, s := range t.matches[key] {
			if text = s.text; t.callers[who].attacker() {
				p.LeftOut += s.requests
				continue
			}
			have := callers[at][who]
			if have == nil || s.requests > have.requests {
				callers[at][who] = s // requests that met several rules count once, by the rule met most
			}
		}
		p.Rules, p.Texts = append(p.Rules, key.rule), append(p.Texts, text)
	}
	out := make([]Proposal, 0, len(merged))
	for at, p := range merged {
		for _, s := range callers[at] {
			p.Requests += s.requests
			p.Refused += s.refused
			p.Callers++
			if s.proven {
				p.Proven++
			}
			if p.First.IsZero() || s.first.Before(p.First) {
				p.First = s.first
			}
			if s.last.After(p.Last) {
				p.Last = s.last
			}
			for _, part := range s.parts {
				if len(p.Parts) < mostParts && !slices.Contains(p.Parts, part) {
					p.Parts = append(p.Parts, part)
				}
			}
		}
		slices.Sort(p.Parts)
		t.judge(p)
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b Proposal) int {
		return cmp.Or(strings.Compare(doubtful(a), doubtful(b)), cmp.Compare(b.Callers, a.Callers), cmp.Compare(b.Requests, a.Requests),
			strings.Compare(a.Operation, b.Operation), strings.Compare(a.Parameter, b.Parameter))
	})
	return out
}

func doubtful(p Proposal) string {
	if p.Doubt != "" {
		return "1"
	}
	return "0"
}

// judge says what speaks against a proposal, what is lost by it, and writes it down.
func (t *Tuner) judge(p *Proposal) {
	least, people := cmp.Or(t.LeastRequests, 20), cmp.Or(t.LeastCallers, 3)
	switch {
	case p.Requests == 0:
		p.Doubt = "only callers who try several kinds of attack met it"
	case p.Requests < least:
		p.Doubt = fmt.Sprintf("seen in %d requests; %d are needed to judge", p.Requests, least)
	case p.Callers < people:
		p.Doubt = fmt.Sprintf("only %d callers met it; one who attacks looks the same", p.Callers)
	case p.Parameter == "":
		p.Doubt = "the rule is about the whole request, not about one value: see whether the client can be mended, or lower the paranoia level"
	}
	where := p.Parameter
	if where == "" {
		where = "the request"
	}
	p.Risk = fmt.Sprintf("%s in %s of this operation would no longer be seen by %s; all other rules and values stay. A pattern or a maxLength in the document, where the field allows it, removes rules with a proof instead.",
		kindsOf(p.Rules), where, plural(len(p.Rules), "this rule", "these rules"))
	if p.Doubt != "" {
		return
	}
	var b strings.Builder
	b.WriteString("waf:\n  exclude:\n    - rules: [")
	for i, r := range p.Rules {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "\"%d\"", r)
	}
	fmt.Fprintf(&b, "]\n      parameter: %q\n      because: %q\n", p.Parameter,
		fmt.Sprintf("%d of %d requests from %d callers met it by %s: reviewed, harmless", p.Requests, p.Of, p.Callers, p.Last.UTC().Format(time.DateOnly)))
	p.Config = b.String()
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// kindsOf names the attacks a set of rules is about, by the families of the Core
// Rule Set.
func kindsOf(rules []int) string {
	names := map[int]string{
		911: "a forbidden method", 913: "a scanner", 920: "a fault of the protocol", 921: "an attack on the protocol", 922: "an attack in multipart",
		930: "a local file", 931: "a remote file", 932: "a system command", 933: "PHP", 934: "generic injection", 941: "XSS", 942: "SQL injection",
		943: "session fixation", 944: "Java injection",
	}
	var out []string
	for _, r := range rules {
		name := names[r/1000]
		if name == "" {
			name = "what your own rule looks for"
		}
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return strings.Join(out, ", ")
}

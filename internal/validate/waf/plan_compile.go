package waf

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/gatehouse-api/gatehouse/internal/validate/rx"
	"github.com/gatehouse-api/gatehouse/internal/validate/seclang"
)

// compile makes rules of the program, in its order, for the phases in which a
// message is judged.
func (p *plan) compile() error {
	p.markers = map[string][]int{}
	for pos, item := range p.program.Items {
		if item.Rule == nil {
			p.markers[item.Marker] = append(p.markers[item.Marker], pos)
			continue
		}
		if item.Rule.Phase < 1 || item.Rule.Phase > 4 {
			continue // logging: there is nothing left to judge
		}
		x, err := p.rule(item.Rule)
		if err != nil {
			return err
		}
		x.pos, x.n = pos, len(p.all)
		p.all = append(p.all, x)
		p.phases[x.phase] = append(p.phases[x.phase], x)
	}
	// Controls and skips name rules that may stand behind them.
	for _, x := range p.all {
		if err := p.controls(x); err != nil {
			return err
		}
		p.jumps(x)
	}
	return nil
}

func (p *plan) rule(src *seclang.Rule) (*rule, error) {
	x := &rule{src: src, phase: src.Phase, level: levelOf(src.Tags), log: src.Log, msg: newMacro(src.Msg, p.names)}
	action := src.Action
	if action == "block" {
		action = src.Blocks
	}
	switch action {
	case "deny", "drop":
		x.denies = true
	case "allow":
		x.ends = endsAll
	case "allow:phase":
		x.ends = endsPhase
	case "allow:request":
		x.ends = endsRequest
	}
	for _, s := range slices.Concat([]*seclang.Rule{src}, src.Chain) {
		l, err := p.link(s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Place, err)
		}
		x.links = append(x.links, l)
	}
	return x, nil
}

func (p *plan) link(s *seclang.Rule) (l link, err error) {
	l = link{multi: s.MultiMatch, capture: s.Capture, name: s.Op.Name, negate: s.Op.Negate, always: s.Op.Name == ""}
	for _, name := range s.Transforms {
		t, ok := transformOf(name)
		if !ok {
			return l, fmt.Errorf("transformation %q is not supported", name)
		}
		if t.name != "none" {
			l.chain = append(l.chain, t)
		}
	}
	for i := range s.Targets {
		t, err := p.target(&s.Targets[i])
		if err != nil {
			return l, err
		}
		l.targets = append(l.targets, t)
	}
	if equals, ok := compare(s.Op.Name); ok {
		l.equals, l.arg = equals, newMacro(s.Op.Arg, p.names)
		if text, ok := l.arg.constant(); ok {
			op := s.Op
			op.Arg = text
			if l.op, err = newOperator(op); err != nil {
				return l, err
			}
		}
	} else if !l.always {
		l.arg = macro{{text: s.Op.Arg}}
		if s.Op.Name == "rx" {
			l.one = sync.OnceValue(func() *rx.Set { return onlySet(s.Op.Arg) })
		}
		if l.op, err = newOperator(s.Op); err != nil {
			return l, err
		}
	}
	for _, v := range s.SetVars {
		l.sets = append(l.sets, p.setting(v))
	}
	return l, nil
}

// onlySet is one expression as a set, nil when a set does not answer for sure.
func onlySet(arg string) *rx.Set {
	set, err := rx.NewSet([]rx.Pattern{patternOf(arg)}, rx.Options{MaxBytes: 1 << 20})
	if err != nil || !set.Exact(0) {
		return nil
	}
	return set
}

// setting of '+' and '-' have their sign in the value, where a macro can put one, too.
func (p *plan) setting(v seclang.SetVar) setting {
	value := v.Value
	if v.Op == '+' || v.Op == '-' {
		value = string(v.Op) + value
	}
	s := setting{n: -1, name: newMacro(v.Name, p.names), value: newMacro(value, p.names), remove: v.Delete}
	if name, ok := s.name.constant(); ok {
		s.n = p.names.of(strings.ToLower(name))
	}
	return s
}

// membersOf returns the places that a collection of pair values is about.
func membersOf(collection string) (in ins, byName, ok bool) {
	collection, byName = strings.CutSuffix(collection, "_NAMES")
	switch collection {
	case "ARGS":
		in = places(ArgGet, ArgPost, ArgPath)
	case "ARGS_GET":
		in = places(ArgGet)
	case "ARGS_POST":
		in = places(ArgPost)
	case "ARGS_PATH":
		in = places(ArgPath)
	case "REQUEST_COOKIES":
		in = places(Cookie)
	case "REQUEST_HEADERS":
		in = places(Header)
	case "RESPONSE_HEADERS":
		in = places(AnswerHeader)
	case "FILES":
		in = places(File)
	case "MULTIPART_PART_HEADERS":
		in = places(PartHeader)
	case "XML":
		in = places(XMLText, XMLAttr)
	default:
		return 0, false, false
	}
	return in, byName, true
}

func (p *plan) target(s *seclang.Target) (aim, error) {
	t := aim{name: s.Collection, key: s.Key, keyRx: s.KeyRx, count: s.Count, tx: -1}
	for _, e := range s.Except {
		t.except = append(t.except, except{key: strings.ToLower(e.Key), rx: e.KeyRx})
	}
	switch s.Collection {
	case "TX":
		t.kind, t.key = ofTX, strings.ToLower(s.Key)
		if t.key != "" {
			t.tx = p.names.of(t.key)
		}
		return t, nil
	case "MATCHED_VARS":
		t.kind, t.key = ofMatched, strings.ToLower(s.Key)
		return t, nil
	case "MATCHED_VARS_NAMES":
		t.kind, t.key = ofMatchedNames, strings.ToLower(s.Key)
		return t, nil
	case "MATCHED_VAR":
		t.kind = ofMatchedVar
		return t, nil
	case "MATCHED_VAR_NAME":
		t.kind = ofMatchedName
		return t, nil
	}
	if n := singleNumber(s.Collection); n >= 0 {
		t.kind, t.single = ofSingle, n
		return t, nil
	}
	in, byName, ok := membersOf(s.Collection)
	if !ok {
		return t, fmt.Errorf("the variable %s is not supported here; take the rule out, or use `waf: {engine: coraza}`", s.Collection)
	}
	t.in = in
	t.listed = in == places(File)
	if byName {
		t.kind = ofNames
		if t.key != strings.ToLower(t.key) {
			t.key = "\x00" // Coraza keeps these names in lower case and looks for the key as written: there is none
		}
	}
	t.key = strings.ToLower(t.key)
	if s.Collection == "XML" {
		switch s.Key {
		case "/*":
			t.in = places(XMLText)
		case "//@*":
			t.in = places(XMLAttr)
		}
		t.key = ""
	}
	return t, nil
}

// singles are the single variables rules can ask for, and the phase from which on
// they are known; what they are before.
// The first are those of [Line].
var singles = []struct { //nolint:gochecknoglobals // a table
	name  string
	phase int
	early string
}{
	{"REQUEST_LINE", 1, ""},
	{"REQUEST_URI", 1, ""},
	{"REQUEST_URI_RAW", 1, ""},
	{"REQUEST_FILENAME", 1, ""},
	{"REQUEST_BASENAME", 1, ""},
	{"QUERY_STRING", 1, ""},
	{"REQUEST_METHOD", 1, ""},
	{"REQUEST_PROTOCOL", 1, ""},
	{"REMOTE_ADDR", 1, ""},
	{"UNIQUE_ID", 1, ""},
	{"URI_PARSE_ERROR", 1, "0"},
	{"ARGUMENTS_LIMIT_REACHED", 1, "0"},
	{"ARGS_COMBINED_SIZE", 1, "0"},
	{"REQBODY_PROCESSOR", 1, ""},
	{"REQUEST_BODY", 2, ""},
	{"REQUEST_BODY_LENGTH", 2, "0"},
	{"REQBODY_ERROR", 2, "0"},
	{"REQBODY_ERROR_MSG", 2, ""},
	{"MULTIPART_STRICT_ERROR", 2, ""},
	{"FILES_COMBINED_SIZE", 2, "0"},
	{"RESPONSE_STATUS", 3, ""},
	{"RESPONSE_PROTOCOL", 3, ""},
	{"RESPONSE_CONTENT_TYPE", 3, ""},
	{"RESPONSE_CONTENT_LENGTH", 4, ""},
	{"RESPONSE_BODY", 4, ""},
}

// madeOfLine is how many of them are the request line or made of it.
const madeOfLine = 6

// singleRules are the rules that can match a single variable.
func (f *Facts) singleRules(n int) Mask {
	switch {
	case n >= madeOfLine:
		return nil
	case f.PathRules != nil && (singles[n].name == "REQUEST_FILENAME" || singles[n].name == "REQUEST_BASENAME"):
		return f.PathRules
	}
	return f.LineRules
}

func singleNumber(name string) int {
	for i := range singles {
		if singles[i].name == name {
			return i
		}
	}
	return -1
}

// phaseOf is the phase from which on values of that place are known.
func phaseOf(in In) int {
	switch in {
	case ArgPost, File, PartHeader, XMLText, XMLAttr:
		return 2
	case AnswerHeader:
		return 3
	default:
		return 1
	}
}

// controls compiles the ctl actions of a rule.
func (p *plan) controls(x *rule) error {
	for i, s := range slices.Concat([]*seclang.Rule{x.src}, x.src.Chain) {
		for _, c := range s.Controls {
			made, needed, err := p.control(c)
			if err != nil {
				return fmt.Errorf("%s: ctl:%s: %w", s.Place, c.Name, err)
			}
			if needed {
				x.links[i].ctl = append(x.links[i].ctl, made)
			}
		}
	}
	return nil
}

// control compiles a ctl. It is not needed when nothing follows from it here:
// what is written to which log is not the engine's, and a body that has no reader
// of its own is always looked at (forceRequestBodyVariable).
func (p *plan) control(c seclang.Control) (made effect, needed bool, err error) {
	switch {
	case c.Name == "ruleEngine":
		made.off = !strings.EqualFold(c.Value, "On")
		return made, made.off, nil
	case c.Name == "requestBodyProcessor":
		// CRS has it in a rule that a setting turns on. The reader is chosen before rules run.
		return made, false, nil
	case !strings.HasPrefix(c.Name, "ruleRemove"):
		return made, false, nil
	}
	switch {
	case strings.HasSuffix(c.Name, "ById"):
		made.removes, err = p.byID(c.Value)
	case strings.HasSuffix(c.Name, "ByTag"):
		made.removes = p.those(func(r *seclang.Rule) bool { return slices.Contains(r.Tags, c.Value) })
	default:
		made.removes = p.those(func(r *seclang.Rule) bool { return r.Msg == c.Value })
	}
	if strings.HasPrefix(c.Name, "ruleRemoveTarget") {
		made.target = c.Target.Collection
		made.except = except{key: strings.ToLower(c.Target.Key), rx: c.Target.KeyRx}
	}
	return made, len(made.removes) > 0, err
}

// byID returns the rules of ids and ranges of ids.
func (p *plan) byID(text string) (numbers []int, err error) {
	for word := range strings.FieldsFuncSeq(text, func(c rune) bool { return c == ' ' || c == ',' }) {
		from, to, isRange := strings.Cut(word, "-")
		first, err := strconv.Atoi(from)
		last := first
		if err == nil && isRange {
			last, err = strconv.Atoi(to)
		}
		if err != nil {
			return nil, fmt.Errorf("%q is neither the id of a rule nor a range of ids", word)
		}
		numbers = append(numbers, p.those(func(r *seclang.Rule) bool { return r.ID >= first && r.ID <= last })...)
	}
	return numbers, nil
}

func (p *plan) those(which func(*seclang.Rule) bool) (n []int) {
	for _, x := range p.all {
		if x != nil && which(x.src) {
			n = append(n, x.n)
		}
	}
	return n
}

// never is a position behind all rules.
const never = 1 << 30

// jumps finds where a rule's skip and skipAfter go.
func (p *plan) jumps(x *rule) {
	if x.src.SkipAfter != "" {
		x.resume, x.carry = never, never
		for i, pos := range p.markers[x.src.SkipAfter] {
			if i == 0 {
				x.carry = pos // when none follows in this phase, the next one looks for it from the start
			}
			if pos > x.pos {
				x.resume, x.carry = pos, 0
				break
			}
		}
	}
	if left := x.src.Skip; left > 0 && x.resume == 0 {
		x.resume = never
		for pos := x.pos + 1; pos < len(p.program.Items); pos++ {
			if r := p.program.Items[pos].Rule; r != nil && r.Phase != x.phase {
				continue // markers count, rules of other phases do not
			}
			if left == 0 {
				x.resume = pos
				break
			}
			left--
		}
	}
}

// exclude takes values from the rules that c's owner does not want to look there.
func (p *plan) exclude(without []Exclusion) error {
	found := make([][]int, len(without)) // before one of them takes a rule away that another names, too
	for i, e := range without {
		for _, which := range e.Rules {
			var numbers []int
			if which != "" && strings.Trim(which, "0123456789-") == "" {
				var err error
				if numbers, err = p.byID(which); err != nil {
					return fmt.Errorf("exclusion: %w", err)
				}
			} else {
				numbers = p.those(func(r *seclang.Rule) bool { return slices.Contains(r.Tags, which) })
			}
			if len(numbers) == 0 {
				return fmt.Errorf("exclusion: no rule has the id or tag %q", which)
			}
			found[i] = append(found[i], numbers...)
		}
	}
	for i := range without {
		for _, n := range found[i] {
			p.without(n, &without[i])
		}
	}
	return nil
}

func (p *plan) without(n int, e *Exclusion) {
	x := p.all[n]
	if x == nil {
		return
	}
	if e.In == 0 {
		p.drop(x)
		return
	}
	made := newExcept(e)
	for i := range x.links {
		for j := range x.links[i].targets {
			if t := &x.links[i].targets[j]; t.in.has(e.In) && t.kind == ofMembers {
				t.except = append(slices.Clip(t.except), made)
			}
		}
	}
}

// newExcept is what an exclusion by name takes from a target.
func newExcept(e *Exclusion) except {
	made := except{in: places(e.In), key: strings.ToLower(e.Name)}
	if stem, ok := strings.CutSuffix(made.key, "*"); ok {
		made.key, made.pre = stem, true
	}
	if e.Name == "" {
		made.key, made.pre = "", true
	}
	return made
}

// drop takes a rule out of the plan.
func (p *plan) drop(x *rule) {
	p.all[x.n] = nil
	p.phases[x.phase] = slices.DeleteFunc(p.phases[x.phase], func(r *rule) bool { return r == x })
}

package seclang

import (
	"errors"
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gatehouse-api/gatehouse/internal/config"
)

// maxFaults is how many faults one error tells: who has more fixes these first.
const maxFaults = 20

// A parser reads sources one after the other into one program.
type parser struct {
	source *Source
	items  []Item
	byID   map[int]*Rule
	faults []error

	defaults map[int]*defaultActions // by phase
	open     *Rule                   // whose chain goes on with the next rule
	openAt   Place

	collections vocabulary[collection]
	ops         vocabulary[operand]
	transforms  vocabulary[string]
	verbs       vocabulary[kind]
	controls    vocabulary[bool]
	refused     vocabulary[string]
}

// defaultActions are what SecDefaultAction says for one phase.
type defaultActions struct {
	line    *line
	actions []action // but for the one that decides
	decides string
}

// Parse reads sources, in their order, as one program: what a later one says
// about rules, the rules of the ones before are changed by. All faults are found,
// up to twenty, and told with their places; then there is no program.
func Parse(sources []Source) (*Program, error) {
	p := &parser{
		byID: map[int]*Rule{}, defaults: map[int]*defaultActions{},
		collections: collections(), ops: operators(), transforms: transformations(), verbs: actions(), controls: controls(), refused: refused(),
	}
	// Without SecDefaultAction the rules of phase 2 log and pass, and those of
	// other phases do nothing by default.
	p.defaults[2] = &defaultActions{actions: []action{{key: "log", kind: kindMatch}}, decides: "pass"}
	for i := range sources {
		p.source = &sources[i]
		p.fault(lines(p.source, func(l *line) bool {
			p.fault(p.directive(l))
			return len(p.faults) < maxFaults
		}))
		p.fault(p.closed())
	}
	p.markers()
	if len(p.faults) > 0 {
		return nil, errors.Join(p.faults[:min(len(p.faults), maxFaults)]...)
	}
	return &Program{Items: p.items}, nil
}

func (p *parser) fault(err error) {
	if err != nil {
		p.faults = append(p.faults, err)
	}
}

// closed reports a chain that goes on where no rule follows. Taken as it is it
// would match without the conditions that were meant.
func (p *parser) closed() error {
	if p.open == nil {
		return nil
	}
	p.open = nil
	return &fault{p.openAt, "the chain goes on, but no rule follows"}
}

// markers reports rules that skip to where nothing is. They would skip the rest.
func (p *parser) markers() {
	behind := vocabulary[bool]{}
	for i := len(p.items) - 1; i >= 0 && len(p.faults) < maxFaults; i-- {
		item := p.items[i]
		if item.Rule == nil {
			behind[item.Marker] = true
		} else if s := item.Rule.SkipAfter; s != "" && !behind[s] {
			p.fault(&fault{item.Rule.Place, fmt.Sprintf("rule %d skips to the marker %q, which does not follow%s", item.Rule.ID, s, behind.meant(s))})
		}
	}
}

func (p *parser) directive(l *line) error {
	n := strings.IndexAny(l.text, spaces)
	if n < 0 {
		n = len(l.text)
	}
	name, rest := l.text[:n], word{l.text[n:], n}.trim()
	lower := strings.ToLower(name)
	if lower != "secrule" && lower != "secaction" {
		p.fault(p.closed())
	}
	if hint, ok := p.refused[lower]; ok {
		return l.fault(0, "%s is not supported: %s", name, hint)
	}
	known := strings.Fields(directives)
	if !slices.ContainsFunc(known, func(k string) bool { return strings.EqualFold(k, name) }) {
		return l.fault(0, "unknown directive %q%s", name, config.DidYouMean(name, known))
	}
	if rest.text == "" {
		return l.fault(0, "%s needs an argument", name)
	}
	switch lower {
	case "secrule":
		return p.rule(l, rest)
	case "secaction":
		return p.finish(l, &draft{Rule: p.start(l)}, rest.unquote())
	case "secmarker":
		p.items = append(p.items, Item{Marker: rest.unquote().text})
	case "secdefaultaction":
		return p.defaultAction(l, rest.unquote())
	case "secruleremovebyid":
		return p.removeByID(l, rest.unquote())
	case "secruleremovebytag":
		return p.remove(l, rest.unquote(), "tag", func(r *Rule, s string) bool { return hasTag(r, s) })
	case "secruleremovebymsg":
		return p.remove(l, rest.unquote(), "msg", func(r *Rule, s string) bool { return r.Msg == s })
	case "secruleupdatetargetbyid", "secruleupdatetargetbytag":
		return p.updateTarget(l, rest, lower == "secruleupdatetargetbytag")
	case "secruleupdateactionbyid":
		return p.updateAction(l, rest)
	}
	return nil // SecComponentSignature and SecCollectionTimeout change no verdict
}

func (p *parser) start(l *line) *Rule { return &Rule{Phase: 2, Place: l.at(0)} }

// rule reads TARGETS "OPERATOR" "ACTIONS".
func (p *parser) rule(l *line, w word) error {
	d := &draft{Rule: p.start(l)}
	n := strings.IndexAny(w.text, spaces)
	if n < 0 {
		return l.fault(w.off, "a rule is written SecRule TARGETS \"OPERATOR\" \"ACTIONS\"")
	}
	targets, rest := word{w.text[:n], w.off}, w.from(n).trim()
	list, err := p.targets(l, targets)
	p.fault(err)
	d.apply(list)
	op, rest, err := l.quoted(rest, "the operator")
	if err != nil {
		return err
	}
	p.fault(p.operator(l, d, op))
	rest = rest.trim()
	if rest.text != "" {
		if len(rest.text) < 2 || rest.text[0] != '"' || rest.text[len(rest.text)-1] != '"' {
			return l.fault(rest.off, "the actions must stand in double quotes, and nothing behind them")
		}
		rest = rest.unquote()
	}
	return p.finish(l, d, rest)
}

// finish reads the actions of a rule and puts it into the program or into the
// chain that waits for it.
func (p *parser) finish(l *line, d *draft, w word) error {
	first := p.open
	d.link = first != nil
	var list []action
	var err error
	if w.text != "" {
		if list, err = p.actions(l, w); err == nil {
			err = p.act(l, d, list)
		}
	}
	if err != nil {
		p.open = nil
		if strings.Contains(w.text, "chain") {
			p.open, p.openAt = &Rule{}, d.Place // what follows is not the fault
		}
		return err
	}
	if d.link {
		d.Phase = first.Phase
		first.Chain = append(first.Chain, d.Rule)
	} else {
		if err := p.add(l, d.Rule); err != nil {
			p.fault(err)
		}
		first = d.Rule
	}
	p.open = nil
	if d.chain {
		p.open, p.openAt = first, d.Place
	}
	return nil
}

func (p *parser) add(l *line, r *Rule) error {
	if r.ID == 0 {
		return l.fault(0, "the rule has no id: every rule that is no link of a chain needs one")
	}
	if other := p.byID[r.ID]; other != nil {
		return l.fault(0, "the id %d is taken by the rule at %s", r.ID, other.Place)
	}
	p.byID[r.ID] = r
	p.items = append(p.items, Item{Rule: r})
	return nil
}

// operator reads @rx pattern, !@streq text, or a pattern alone.
func (p *parser) operator(l *line, d *draft, w word) error {
	op := Operator{}
	if strings.HasPrefix(w.text, "!") {
		op.Negate, w = true, w.from(1)
	}
	arg := w
	if strings.HasPrefix(w.text, "@") {
		n := strings.IndexByte(w.text, ' ')
		if n < 0 {
			n = len(w.text)
		}
		op.Name, arg = w.text[1:n], w.from(n)
	} else {
		op.Name = "rx"
	}
	arg.text, arg.off = strings.TrimSpace(arg.text), arg.off+len(arg.text)-len(strings.TrimLeft(arg.text, " \t\r\n\f\v"))
	how, ok := p.ops[op.Name]
	if !ok {
		return l.fault(w.off, "unknown operator %q or one that is not supported%s", "@"+op.Name, p.ops.meant(op.Name))
	}
	op.Arg = strings.ReplaceAll(arg.text, `\"`, `"`)
	switch how {
	case operandNone, operandText:
	case operandRx:
		if !utf8.ValidString(op.Arg) {
			return l.fault(arg.off, "the expression is no UTF-8: write other bytes as \\xff")
		}
		if _, err := syntax.Parse("(?sm)"+op.Arg, syntax.Perl); err != nil {
			return l.badRx(arg, err)
		}
	case operandMacro:
		if op.Arg == "" {
			return l.fault(w.off, "@%s needs an argument", op.Name)
		}
		if err := p.macros(l, arg); err != nil {
			return err
		}
	case operandFile:
		if op.Arg == "" {
			return l.fault(w.off, "@%s needs the name of a file", op.Name)
		}
		if p.source.Data == nil {
			return l.fault(arg.off, "%s: there are no data files beside these rules", op.Arg)
		}
		b, err := p.source.Data(op.Arg)
		if err != nil {
			return l.fault(arg.off, "%v", err)
		}
		op.Data = b
	}
	d.Op = op
	return nil
}

// macros reports %{...} that are not closed or name nothing: expanded they would
// be text nobody meant.
func (p *parser) macros(l *line, w word) error {
	for i := strings.Index(w.text, "%{"); i >= 0; {
		inner, _, closed := strings.Cut(w.text[i+2:], "}")
		off := w.off + i
		if !closed {
			return l.fault(off, "the macro that begins here is not closed: %s", w.text[i:min(len(w.text), i+40)])
		}
		if bad := strings.IndexFunc(inner, func(r rune) bool {
			return !('0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || strings.ContainsRune("[]._-", r))
		}); bad >= 0 {
			return l.fault(off+2+bad, "%q can not be part of the macro that begins in column %d", inner[bad:bad+1], l.at(off).Col)
		}
		name, _, dotted := strings.Cut(inner, ".")
		if dotted && strings.HasSuffix(inner, ".") {
			return l.fault(off, "%%{%s}: the member is missing behind the dot", inner)
		}
		if _, ok := p.collections[strings.ToUpper(name)]; !ok {
			return l.fault(off+2, "%%{%s}: unknown variable %q%s", inner, name, p.collections.meant(name))
		}
		skip := i + 2 + len(inner) + 1
		next := strings.Index(w.text[skip:], "%{")
		if next < 0 {
			return nil
		}
		i = skip + next
	}
	return nil
}

func (p *parser) defaultAction(l *line, w word) error {
	list, err := p.actions(l, w)
	if err != nil {
		return err
	}
	var d defaultActions
	var r Rule
	d.line = l
	for _, a := range list {
		switch {
		case a.key == "phase":
			if err := l.phase(&r, a.value); err != nil {
				return err
			}
		case a.kind == kindDecides && a.key != "block":
			if d.decides, err = l.decision(a); err != nil {
				return err
			}
		case a.kind != kindMatch || a.key == "t":
			return l.fault(a.off, "%s can not be a default action", a.key)
		default:
			if err := p.match(l, &draft{Rule: &Rule{}}, a); err != nil {
				return err
			}
			d.actions = append(d.actions, a)
		}
	}
	switch {
	case r.Phase == 0:
		return l.fault(w.off, "default actions need a phase")
	case d.decides == "":
		return l.fault(w.off, "default actions need one that decides: pass or deny")
	case p.defaults[r.Phase] != nil && p.defaults[r.Phase].line != nil:
		return l.fault(0, "the default actions of phase %d are set at %s already; remove one", r.Phase, p.defaults[r.Phase].line.at(0))
	}
	p.defaults[r.Phase] = &d
	return nil
}

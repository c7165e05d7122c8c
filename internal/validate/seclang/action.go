package seclang

import (
	"strconv"
	"strings"
)

// An action is one word of a rule's list of actions: key or key:value.
type action struct {
	key   string // lower case
	kind  kind
	off   int
	value word
}

// actions reads a list of actions: id:1,phase:2,msg:'a, b',t:none. A comma in
// single quotes separates nothing, and what follows a backslash is no quote. Of
// several actions that decide the last counts, in the place of the first.
func (p *parser) actions(l *line, w word) ([]action, error) {
	var list []action
	decides := -1
	for _, one := range splitActions(w) {
		if one.open >= 0 {
			return nil, l.fault(one.open, "the quote that opens here is not closed")
		}
		key, value := one.key.trim(), one.value.trim().unquote()
		name := strings.ToLower(key.text)
		k, ok := p.verbs[name]
		switch {
		case name == "":
			return nil, l.fault(key.off, "an action is missing: is there a comma too many?")
		case !ok:
			return nil, l.fault(key.off, "unknown action %q%s", key.text, p.verbs.meant(name))
		case k == kindNo:
			return nil, l.fault(key.off, "the action %s is not supported; %s", name, insteadOf(name))
		}
		a := action{name, k, key.off, value}
		if k != kindDecides {
			list = append(list, a)
		} else if decides < 0 {
			decides, list = len(list), append(list, a)
		} else {
			list[decides] = a
		}
	}
	return list, nil
}

func insteadOf(verb string) string {
	switch verb {
	case "redirect", "proxy":
		return "use deny"
	case "exec", "setenv":
		return "rules run no programs"
	}
	return "remove it"
}

// A pair is the key and the value of an action as written.
type pair struct {
	key, value word
	open       int // offset of a quote that is not closed; -1: none
}

func splitActions(w word) []pair {
	var list []pair
	begin, colon, open := 0, -1, -1
	end := func(i int) {
		one := pair{key: word{w.text[begin:i], w.off + begin}, value: word{"", w.off + i}, open: -1}
		if colon >= 0 {
			one.key.text = w.text[begin:colon]
			one.value = word{w.text[colon+1 : i], w.off + colon + 1}
		}
		if open >= 0 {
			one.open = w.off + open
		}
		list = append(list, one)
		begin, colon = i+1, -1
	}
	for i := range len(w.text) {
		if i > 0 && w.text[i-1] == '\\' {
			continue
		}
		switch c := w.text[i]; {
		case c == '\'' && open < 0:
			open = i
		case c == '\'':
			open = -1
		case open >= 0:
		case c == ':' && colon < 0:
			colon = i
		case c == ',':
			end(i)
		}
	}
	end(len(w.text))
	return list
}

// A draft is a rule while its actions are read.
type draft struct {
	*Rule
	chain bool // another rule must follow
	link  bool // it is one that follows
	edit  bool // it was read before and is changed now
}

// act does to the rule what its actions say: first what says what it is, which
// tells the phase, then the default actions of that phase, then its own.
func (p *parser) act(l *line, d *draft, list []action) error {
	for _, a := range list {
		if a.kind == kindMeta {
			if err := p.meta(l, d, a); err != nil {
				return err
			}
		}
	}
	decides := ""
	for _, a := range list {
		if a.kind == kindDecides {
			if d.link {
				return l.fault(a.off, "%s stands in a rule of a chain; only the first rule decides", a.key)
			}
			var err error
			if decides, err = l.decision(a); err != nil {
				return err
			}
		}
	}
	if d.edit {
		if decides != "" {
			d.Action, d.Blocks = decides, "" // block without default actions does nothing
		}
	} else if def := p.defaults[d.Phase]; def != nil {
		for _, a := range def.actions {
			if err := p.match(def.line, d, a); err != nil {
				return err
			}
		}
		switch decides {
		case "":
			decides = def.decides
		case "block":
			d.Blocks = def.decides
		}
		d.Action = decides
	} else {
		d.Action = decides
	}
	if d.link {
		d.Action, d.Blocks = "", ""
	}
	for _, a := range list {
		if a.kind == kindMatch || a.kind == kindFlow {
			if err := p.match(l, d, a); err != nil {
				return err
			}
		}
	}
	return nil
}

// decision reads an action that decides, with its argument.
func (l *line) decision(a action) (string, error) {
	switch {
	case a.value.text == "":
		return a.key, nil
	case a.key == "allow" && (a.value.text == "phase" || a.value.text == "request"):
		return a.key + ":" + a.value.text, nil
	case a.key == "allow":
		return "", l.fault(a.value.off, "allow takes phase or request or nothing, not %q", a.value.text)
	}
	return "", l.fault(a.value.off, "%s takes no argument", a.key)
}

// meta does an action that says what the rule is.
func (p *parser) meta(l *line, d *draft, a action) error {
	v := a.value.text
	if v == "" {
		return l.fault(a.off, "the action %s needs a value", a.key)
	}
	switch a.key {
	case "id", "phase":
		if d.link || d.edit {
			what := "stands in a rule of a chain; the first rule has it for all"
			if d.edit {
				what = "of a rule can not be changed"
			}
			return l.fault(a.off, "the action %s %s", a.key, what)
		}
		if a.key == "phase" {
			return l.phase(d.Rule, a.value)
		}
		n, err := strconv.Atoi(v)
		if err != nil || n <= 0 {
			return l.fault(a.value.off, "%q is no id: a positive number", v)
		}
		d.ID = n
	case "msg":
		d.Msg = a.value.unquote().text
		return p.macros(l, a.value)
	case "severity":
		s, ok := severity(v)
		if !ok {
			return l.fault(a.value.off, "%q is no severity: EMERGENCY, ALERT, CRITICAL, ERROR, WARNING, NOTICE, INFO, DEBUG or 0 to 7", v)
		}
		d.Severity = s
	case "tag":
		d.Tags = append(d.Tags, v)
	case "ver":
		d.Version = v
	case "maturity", "accuracy":
		if n, err := strconv.Atoi(v); err != nil || n < 1 || n > 9 {
			return l.fault(a.value.off, "%s is a number from 1 to 9, not %q", a.key, v)
		}
	}
	return nil
}

func (l *line) phase(r *Rule, w word) error {
	switch w.text {
	case "request":
		r.Phase = 2
	case "response":
		r.Phase = 4
	case "logging":
		r.Phase = 5
	default:
		n, err := strconv.Atoi(w.text)
		if err != nil || n < 1 || n > 5 {
			return l.fault(w.off, "%q is no phase: 1 to 5, request, response or logging", w.text)
		}
		r.Phase = n
	}
	return nil
}

// severities are the names of RFC 5424 as rules write them, by their number.
const severities = "EMERGENCY ALERT CRITICAL ERROR WARNING NOTICE INFO DEBUG"

func severity(s string) (string, bool) {
	for i, name := range strings.Fields(severities) {
		if strings.EqualFold(s, name) || s == strconv.Itoa(i) {
			return name, true
		}
	}
	return "", false
}

// match does an action that is done for each value or when the chain matched.
func (p *parser) match(l *line, d *draft, a action) error {
	v := a.value.text
	switch a.key {
	case "setvar", "ctl", "logdata", "t", "status", "skip", "skipafter", "initcol":
		if v == "" {
			return l.fault(a.off, "the action %s needs a value", a.key)
		}
	default:
		if v != "" {
			return l.fault(a.value.off, "the action %s takes no value", a.key)
		}
	}
	switch a.key {
	case "log":
		d.Log = true
	case "nolog":
		d.Log = false
	case "logdata":
		d.LogData = v
		return p.macros(l, a.value)
	case "capture":
		d.Capture = true
	case "multimatch":
		d.MultiMatch = true
	case "t":
		if v == "none" {
			d.Transforms = nil
			return nil
		}
		name, ok := p.transforms[strings.ToLower(v)]
		if !ok {
			return l.fault(a.value.off, "unknown transformation %q%s", v, p.transforms.meant(v))
		}
		d.Transforms = append(d.Transforms, name)
	case "status":
		n, err := strconv.Atoi(v)
		if err != nil || n < 100 || n > 599 {
			return l.fault(a.value.off, "%q is no status: 100 to 599", v)
		}
		d.Status = n
	case "setvar":
		return p.setVar(l, d, a.value)
	case "ctl":
		return p.control(l, d, a.value)
	case "chain":
		if d.edit {
			return l.fault(a.off, "the chain of a rule can not be changed")
		}
		d.chain = true
	case "skip", "skipafter":
		return l.skip(d, a)
	}
	return nil // auditlog, noauditlog, initcol: nothing is kept here beyond one message
}

func (l *line) skip(d *draft, a action) error {
	if d.link {
		return l.fault(a.off, "%s stands in a rule of a chain, where it is never done; write it into the first", a.key)
	}
	if a.key == "skipafter" {
		d.SkipAfter = a.value.unquote().text
		return nil
	}
	n, err := strconv.Atoi(a.value.text)
	if err != nil || n < 1 {
		return l.fault(a.value.off, "%q is no number of rules to skip", a.value.text)
	}
	d.Skip = n
	return nil
}

// setVar reads tx.name=value, tx.name=+1, tx.name=-1 and !tx.name.
func (p *parser) setVar(l *line, d *draft, w word) error {
	s := SetVar{Op: '='}
	if strings.HasPrefix(w.text, "!") {
		s.Delete, w = true, w.from(1)
	}
	name, value, assigned := strings.Cut(w.text, "=")
	col, key, _ := strings.Cut(name, ".")
	switch {
	case !strings.EqualFold(col, "tx"):
		return l.fault(w.off, "%q can not be set: only tx.name can, and it lives as long as the message", name)
	case strings.TrimSpace(key) == "":
		return l.fault(w.off, "the name is missing: setvar:tx.name=value")
	case !assigned && !s.Delete:
		return l.fault(w.off, "%s has no value: write %s=1 or !%s", name, name, name)
	case assigned && s.Delete:
		return l.fault(w.off, "%s is removed: it takes no value", name)
	case assigned && value == "":
		return l.fault(w.off, "the value is missing: setvar:%s=value", name)
	}
	if err := p.macros(l, w); err != nil {
		return err
	}
	s.Name = strings.ToLower(key)
	if assigned && (value[0] == '+' || value[0] == '-') {
		s.Op, value = value[0], value[1:]
	}
	s.Value = value
	d.SetVars = append(d.SetVars, s)
	return nil
}

// control reads name=value and name=value;TARGET.
func (p *parser) control(l *line, d *draft, w word) error {
	name, value, ok := strings.Cut(w.text, "=")
	takes, known := p.controls[name]
	switch {
	case !ok:
		return l.fault(w.off, "%q: ctl is written name=value", w.text)
	case !known:
		return l.fault(w.off, "ctl:%s is unknown or not supported%s", name, p.controls.meant(name))
	}
	value, target, ok := strings.Cut(value, ";")
	c := Control{Name: name, Value: strings.TrimSpace(value)}
	if ok != takes {
		if takes {
			return l.fault(w.off, "ctl:%s needs a target: ctl:%s=%s;ARGS:name", name, name, value)
		}
		return l.fault(w.off, "ctl:%s takes no target", name)
	}
	if takes {
		at := word{target, w.off + len(w.text) - len(target)}.trim()
		one, rest, err := p.target(l, at, true)
		switch {
		case err != nil:
			return err
		case rest.text != "" || one.except || one.target.Count:
			return l.fault(at.off, "%q: ctl:%s takes one target", at.text, name)
		}
		c.Target = one.target
		c.Target.Key = strings.ToLower(c.Target.Key) // compared in lower case
	}
	off := w.off + len(name) + 1
	switch name {
	case "ruleRemoveById", "ruleRemoveTargetById":
		if list, err := l.ids(word{c.Value, off}); err != nil {
			return err
		} else if len(list) > 1 {
			return l.fault(off, "ctl:%s takes one id or one range; write it once for each", name)
		}
	case "ruleEngine", "forceRequestBodyVariable":
		on := strings.EqualFold(c.Value, "on") || strings.EqualFold(c.Value, "off")
		if !on && (name != "ruleEngine" || !strings.EqualFold(c.Value, "detectiononly")) {
			return l.fault(off, "%q: ctl:%s takes On or Off", c.Value, name)
		}
	case "requestBodyProcessor":
		c.Value = strings.ToUpper(c.Value)
		switch c.Value {
		case "URLENCODED", "MULTIPART", "XML", "JSON":
		default:
			return l.fault(off, "%q is no body processor: URLENCODED, MULTIPART, XML or JSON", c.Value)
		}
	default:
		if c.Value == "" {
			return l.fault(off, "ctl:%s needs a value", name)
		}
	}
	d.Controls = append(d.Controls, c)
	return nil
}

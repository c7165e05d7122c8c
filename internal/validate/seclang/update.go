package seclang

import (
	"errors"
	"slices"
	"strconv"
	"strings"
)

// A span is ids from one to another.
type span struct{ from, to int }

// ids reads ids and ranges: 942100 942200-942299.
func (l *line) ids(w word) ([]span, error) {
	var list []span
	for f := range fields(w) {
		a, b, isRange := strings.Cut(f.text, "-")
		from, err := strconv.Atoi(a)
		to := from
		if isRange && err == nil {
			to, err = strconv.Atoi(b)
		}
		if err != nil || from <= 0 || to < from {
			return nil, l.fault(f.off, "%q is no id and no range of ids: 942100 or 942100-942199", f.text)
		}
		list = append(list, span{from, to})
	}
	if list == nil {
		return nil, l.fault(w.off, "an id is missing")
	}
	return list, nil
}

// fields gives the words of w that spaces separate.
func fields(w word) func(func(word) bool) {
	return func(do func(word) bool) {
		for w = w.trim(); w.text != ""; w = w.trim() {
			n := strings.IndexAny(w.text, spaces)
			if n < 0 {
				n = len(w.text)
			}
			if !do(word{w.text[:n], w.off}) {
				return
			}
			w = w.from(n)
		}
	}
}

// matching returns the rules of a span. There must be one: a change of no rule
// is a change somebody believes in.
func (p *parser) matching(l *line, off int, s span) ([]*Rule, error) {
	if s.from == s.to {
		if r := p.byID[s.from]; r != nil {
			return []*Rule{r}, nil
		}
		return nil, l.fault(off, "there is no rule %d above this line", s.from)
	}
	var list []*Rule
	for _, item := range p.items {
		if r := item.Rule; r != nil && s.from <= r.ID && r.ID <= s.to {
			list = append(list, r)
		}
	}
	if list == nil {
		return nil, l.fault(off, "there is no rule from %d to %d above this line", s.from, s.to)
	}
	return list, nil
}

func (p *parser) drop(list []*Rule) {
	p.items = slices.DeleteFunc(p.items, func(i Item) bool { return i.Rule != nil && slices.Contains(list, i.Rule) })
	for _, r := range list {
		delete(p.byID, r.ID)
	}
}

func (p *parser) removeByID(l *line, w word) error {
	spans, err := l.ids(w)
	if err != nil {
		return err
	}
	var faults []error
	for _, s := range spans {
		list, err := p.matching(l, w.off, s)
		if err != nil {
			faults = append(faults, err)
		}
		p.drop(list)
	}
	return errors.Join(faults...)
}

func (p *parser) remove(l *line, w word, what string, is func(*Rule, string) bool) error {
	list := p.that(func(r *Rule) bool { return is(r, w.text) })
	if list == nil {
		return l.fault(w.off, "no rule above this line has the %s %q%s", what, w.text, p.meantTag(what, w.text))
	}
	p.drop(list)
	return nil
}

func (p *parser) that(is func(*Rule) bool) []*Rule {
	var list []*Rule
	for _, item := range p.items {
		if item.Rule != nil && is(item.Rule) {
			list = append(list, item.Rule)
		}
	}
	return list
}

func hasTag(r *Rule, tag string) bool { return slices.Contains(r.Tags, tag) }

// last cuts off the last argument, which may be quoted.
func (l *line) last(w word, what string) (before, last word, err error) {
	n := strings.LastIndexAny(w.text, spaces)
	if strings.HasSuffix(w.text, `"`) {
		n = strings.Index(w.text, ` "`)
		for first := n; n >= 0; n = first { // of two quoted arguments the second
			next := strings.Index(w.text[first+2:], `" "`)
			if next < 0 {
				break
			}
			first += 2 + next + 1
		}
	}
	if n <= 0 {
		return w, w, l.fault(w.off, "two arguments are needed: %s", what)
	}
	return word{w.text[:n], w.off}.trim(), w.from(n).trim().unquote(), nil
}

func (p *parser) updateTarget(l *line, w word, byTag bool) error {
	before, last, err := l.last(w, `rules and "TARGETS"`)
	if err != nil {
		return err
	}
	list, err := p.targets(l, last)
	if err != nil {
		return err
	}
	var rules []*Rule
	if byTag {
		tag := before.unquote()
		if rules = p.that(func(r *Rule) bool { return hasTag(r, tag.text) }); rules == nil {
			return l.fault(tag.off, "no rule above this line has the tag %q%s", tag.text, p.meantTag("tag", tag.text))
		}
	} else if rules, err = p.named(l, before); err != nil {
		return err
	}
	for _, r := range rules {
		r.apply(list)
	}
	return nil
}

// named returns the rules of a list of ids and ranges. Coraza 3.8.1 stops behind
// the first id that is no range; here all are meant.
func (p *parser) named(l *line, w word) ([]*Rule, error) {
	spans, err := l.ids(w)
	if err != nil {
		return nil, err
	}
	var rules []*Rule
	for _, s := range spans {
		list, err := p.matching(l, w.off, s)
		if err != nil {
			return nil, err
		}
		for _, r := range list {
			if !slices.Contains(rules, r) {
				rules = append(rules, r)
			}
		}
	}
	return rules, nil
}

func (p *parser) updateAction(l *line, w word) error {
	before, last, err := l.last(w, `ids and "ACTIONS"`)
	if err != nil {
		return err
	}
	rules, err := p.named(l, before)
	if err != nil {
		return err
	}
	list, err := p.actions(l, last)
	if err != nil {
		return err
	}
	for _, r := range rules {
		if err := p.act(l, &draft{Rule: r, edit: true}, list); err != nil {
			return err
		}
	}
	return nil
}

// meantTag is the tail of an error about a tag no rule has.
func (p *parser) meantTag(what, tag string) string {
	if what != "tag" {
		return ""
	}
	tags := vocabulary[bool]{}
	for _, item := range p.items {
		if item.Rule != nil {
			for _, t := range item.Rule.Tags {
				tags[t] = true
			}
		}
	}
	return tags.meant(tag)
}

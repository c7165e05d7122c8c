package waf

import (
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-api/gatehouse/internal/validate/seclang"
)

// Mask returns what is left of the rules for each place and name when the
// exclusions of an operation are taken away: nil, all, where none is about it. The
// place 0 asks which rules run at all.
func (r *Rules) Mask(without []Exclusion) func(in In, name string) Mask {
	type taken struct {
		rules  []int
		in     In
		except except
	}
	all := make([]taken, 0, len(without))
	for i := range without {
		all = append(all, taken{r.chosen(without[i].Rules), without[i].In, newExcept(&without[i])})
	}
	return func(in In, name string) Mask {
		var left Mask
		for i := range all {
			if e := &all[i]; e.in != in || in != 0 && !e.except.takes(in, name) {
				continue
			}
			if left == nil {
				left = r.full()
			}
			for _, n := range all[i].rules {
				left[n>>6] &^= 1 << (n & 63)
			}
		}
		return left
	}
}

func (r *Rules) full() Mask {
	m := make(Mask, (len(r.rules)+63)/64)
	for n := range r.rules {
		m[n>>6] |= 1 << (n & 63)
	}
	return m
}

// chosen are the rules of ids, ranges of ids and tags.
func (r *Rules) chosen(words []string) (numbers []int) {
	for n, x := range r.rules {
		if slices.ContainsFunc(words, func(word string) bool { return means(x.src, word) }) {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// means reports whether an id, a range of ids or a tag means the rule.
func means(s *seclang.Rule, word string) bool {
	if word == "" || strings.Trim(word, "0123456789-") != "" {
		return slices.Contains(s.Tags, word)
	}
	from, to, isRange := strings.Cut(word, "-")
	first, err := strconv.Atoi(from)
	if err != nil {
		return false
	}
	last := first
	if isRange {
		if last, err = strconv.Atoi(to); err != nil {
			return false
		}
	}
	return s.ID >= first && s.ID <= last
}

// Names returns the rules that can match this very name of a value: those that
// look at names of that place and whose operator matches it, alone or as a link of
// their chain.
func (r *Rules) Names(in In, name string) Mask {
	m := make(Mask, (len(r.rules)+63)/64)
	r.each(in, name, ofNames, func(x *rule, l *link) {
		if m.Has(x.n) {
			return
		}
		if l.always || l.op == nil || l.matches(name) {
			m[x.n>>6] |= 1 << (x.n & 63)
		}
	})
	return m
}

// matches reports whether the link's operator matches text, transformed.
func (l *link) matches(text string) bool {
	if l.multi && l.op.match(text, nil) != l.negate {
		return true
	}
	for i := range l.chain {
		text = l.chain[i].apply(text)
		if l.multi && l.op.match(text, nil) != l.negate {
			return true
		}
	}
	return l.op.match(text, nil) != l.negate
}

// each calls do with the links that look at a value of that place and name, or
// with kind ofNames at its name.
func (r *Rules) each(in In, name string, kind aimKind, do func(*rule, *link)) {
	for _, x := range r.rules {
		for i := range x.links {
			l := &x.links[i]
			if slices.ContainsFunc(l.targets, func(s aim) bool { return s.sees(in, name, kind) }) {
				do(x, l)
			}
		}
	}
}

// sees reports whether a target looks at a value of that place and name.
func (s *aim) sees(in In, name string, kind aimKind) bool {
	switch {
	case s.count:
		return false
	case in == Line:
		return s.kind == ofSingle && kind == ofMembers && singles[s.single].name == name
	default:
		return s.kind == kind && s.in.has(in) && s.takes(in, name)
	}
}

package seclang

import (
	"errors"
	"regexp"
	"regexp/syntax"
	"strings"
)

// A change is one word of a list of targets: a target that is added, or members
// that are left out of those there are.
type change struct {
	target Target
	except bool
}

// targets reads a list of targets: ARGS|!ARGS:password|&REQUEST_HEADERS:Host.
func (p *parser) targets(l *line, w word) ([]change, error) {
	var list []change
	for {
		c, rest, err := p.target(l, w, false)
		if err != nil {
			return nil, err
		}
		list = append(list, c)
		if rest.text == "" {
			return list, nil
		}
		w = rest.from(1) // the bar
	}
}

// target reads the target at the begin of w; the rest is "" or begins with a bar.
// The expression about names stays as written for actions, see [parser.control].
func (p *parser) target(l *line, w word, asWritten bool) (c change, rest word, err error) {
	start := w
	if strings.HasPrefix(w.text, "!") {
		c.except, w = true, w.from(1)
	} else if strings.HasPrefix(w.text, "&") {
		c.target.Count, w = true, w.from(1)
	}
	n := strings.IndexAny(w.text, ":|")
	if n < 0 {
		n = len(w.text)
	}
	name := strings.ToUpper(w.text[:n])
	info, ok := p.collections[name]
	switch {
	case name == "":
		return c, w, l.fault(start.off, "a target has no name")
	case !ok:
		return c, w, l.fault(w.off, "unknown variable %q%s", w.text[:n], p.collections.meant(name))
	}
	c.target.Collection = name
	w = w.from(n)
	if w.text == "" || w.text[0] == '|' {
		return c, w, nil
	}
	w = w.from(1) // the colon
	if !info.selectable {
		return c, w, l.fault(w.off, "%s has no members to choose from", c.target.Collection)
	}
	key, rx, rest, err := l.selector(w, name == "XML")
	if err != nil {
		return c, w, err
	}
	c.target.Key = key
	if !info.exactCase {
		c.target.Key = strings.ToLower(key)
	}
	if rx.text == "" {
		return c, rest, nil
	}
	// Names are compared in lower case, and so are the expressions about them:
	// as Coraza does it, though that makes \S of them \s.
	expr := rx.text
	if !info.exactCase && !asWritten {
		expr = strings.ToLower(expr)
	}
	if c.target.KeyRx, err = regexp.Compile(expr); err != nil {
		return c, w, l.badRx(rx, err)
	}
	c.target.Key = ""
	return c, rest, nil
}

// selector reads what stands behind the colon of a target: the name of a member,
// /an expression/, '/an expression/', or the path of XML.
func (l *line) selector(w word, xml bool) (key string, rx, rest word, err error) {
	quote := !xml && strings.HasPrefix(w.text, "'")
	if xml || !quote && !strings.HasPrefix(w.text, "/") {
		n := strings.IndexByte(w.text, '|')
		if n < 0 {
			n = len(w.text)
		}
		key = w.text[:n]
		switch {
		case key == "":
			err = l.fault(w.off, "the name of the member is missing behind the colon")
		case xml && key != "/*" && key != "//@*":
			err = l.fault(w.off, "the path %q is not supported: XML:/* is all text of a document and XML://@* the values of its attributes", key)
		}
		return key, word{}, w.from(n), err
	}
	start := w.off
	if quote {
		w = w.from(1)
		if !strings.HasPrefix(w.text, "/") {
			return "", word{}, w, l.fault(start, "a quoted member must be an expression: '/.../'")
		}
	}
	escaped := false
	for i := 1; i < len(w.text); i++ {
		if w.text[i] == '/' && !escaped {
			rx, rest = word{w.text[1:i], w.off + 1}, w.from(i+1)
			switch {
			case quote && !strings.HasPrefix(rest.text, "'"):
				return "", rx, rest, l.fault(start, "the quote around the member is not closed")
			case quote:
				rest = rest.from(1)
			}
			if rest.text != "" && rest.text[0] != '|' {
				return "", rx, rest, l.fault(rest.off, "a bar and the next target must follow the expression, not %q", rest.text)
			}
			if rx.text == "" {
				return "", rx, rest, l.fault(start, "the expression is empty")
			}
			return "", rx, rest, nil
		}
		escaped = w.text[i] == '\\' && !escaped
	}
	return "", word{}, w, l.fault(start, "the expression that begins here is not closed with a slash")
}

// apply adds the targets of a list to a rule. What is left out is left out of the
// targets that are there by then, so order counts, as in Coraza.
func (r *Rule) apply(list []change) {
	for _, c := range list {
		if !c.except {
			r.Targets = append(r.Targets, c.target)
			continue
		}
		for i, t := range r.Targets {
			if t.Collection == c.target.Collection {
				r.Targets[i].Except = append(t.Except, Except{Key: strings.ToLower(c.target.Key), KeyRx: c.target.KeyRx})
			}
		}
	}
}

// badRx says where in the file an expression is wrong.
func (l *line) badRx(rx word, err error) error {
	off := rx.off
	if se, ok := errors.AsType[*syntax.Error](err); ok {
		if i := strings.Index(strings.ToLower(rx.text), strings.ToLower(se.Expr)); i > 0 {
			off += i
		}
		return l.fault(off, "regular expression: %s: %q", se.Code, se.Expr)
	}
	return l.fault(off, "regular expression: %v", err)
}

package validate

import (
	"regexp/syntax"
	"slices"
	"strings"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/validate/jsonschema"
	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

// line proves what can match the request line and what is made of it.
func (b *planner) line() {
	expr, plain := "^", true
	n := 0
	for _, segment := range b.op.segments {
		expr += "/"
		for i, text := range segment {
			if expr += quoteMeta(text); string(appendSegment(nil, text)) != text {
				plain = false
			}
			if i == len(segment)-1 {
				continue
			}
			q := b.op.params[b.op.pathParams[n]].text()
			n++
			part, ok := whole(&q)
			if !ok {
				b.plan.line, b.plan.queried = nil, nil
				return
			}
			expr += part
		}
	}
	// Rules see the path decoded and encoded: the same, or nothing is proven.
	path := jsonschema.Text{Pattern: expr + "$"}
	if !plain || !b.waf.spelledWith(&path, func(c byte) bool { return byteClass[c]&bytePath != 0 || c == '/' }) {
		return
	}
	base := jsonschema.Text{Pattern: expr[max(strings.LastIndexByte(expr, '/'), 0)+1:] + "$"}
	if !strings.HasPrefix(base.Pattern, "^") {
		base.Pattern = "^" + base.Pattern
	}
	request := jsonschema.Text{Pattern: "^" + b.op.op.Method + " " + expr[1:] + ` HTTP/[0-9.]{1,3}$`}
	query := [4]jsonschema.Text{} // every text
	if b.plainQuery() && b.waf.spelledWith(&path, func(c byte) bool { return byteClass[c]&byteUnreserved != 0 || c == '/' }) {
		query = plainLines
	}
	line := nothing()
	for name, text := range map[string]*jsonschema.Text{"REQUEST_FILENAME": &path, "REQUEST_BASENAME": &base} {
		line = either(line, b.waf.can(waf.Line, name, text))
	}
	b.plan.line, b.plan.queried, b.plan.base = line, line, line
	without := [...]*jsonschema.Text{&path, &path, &request, &nullText}
	for i, name := range [...]string{"REQUEST_URI", "REQUEST_URI_RAW", "REQUEST_LINE", "QUERY_STRING"} {
		b.plan.line = either(b.plan.line, b.waf.can(waf.Line, name, without[i]))
		b.plan.queried = either(b.plan.queried, b.waf.can(waf.Line, name, &query[i]))
	}
}

// plainLines are target, target, request line and query of all requests in which
// nothing needs an escape. They are the same for all operations: a language for
// each would make loading slow.
var plainLines = func() (out [4]jsonschema.Text) {
	const (
		query  = `[0-9A-Za-z\-._~,&=]*`
		target = `/[0-9A-Za-z\-._~/]*\?` + query
	)
	for i, expr := range []string{target, target, `[A-Z]{3,8} ` + target + ` HTTP/[0-9.]{1,3}`, query} {
		out[i].Pattern = "^" + expr + "$"
	}
	return out
}()

// plainQuery reports whether no query that goes on has an escape in it.
func (b *planner) plainQuery() bool {
	for _, q := range b.op.names {
		p := b.op.params[q.param]
		text, _ := p.fieldText(q.field)
		commas := p.style == styleForm && !p.explode && p.Shape.Kind == gatehouse.ArrayShape // which it writes as they are
		plain := func(c byte) bool { return byteClass[c]&byteUnreserved != 0 || commas && c == ',' }
		if q.name == "" || p.json || string(appendQuery(nil, q.name)) != q.name || !b.waf.spelledWith(&text, plain) {
			return false
		}
	}
	return true
}

// spelledWith reports whether the texts of t have only such bytes.
func (w *WAF) spelledWith(t *jsonschema.Text, plain func(c byte) bool) bool {
	w.proofs.mu.Lock()
	l := w.language(t)
	w.proofs.mu.Unlock()
	if l == nil {
		return false
	}
	alphabet := l.Alphabet()
	for c := range 256 {
		if alphabet[c>>6]>>(c&63)&1 != 0 && !plain(byte(c)) {
			return false
		}
	}
	return true
}

// whole writes t as an expression for a part of a text, if it can be one.
func whole(t *jsonschema.Text) (string, bool) {
	switch {
	case t.None, t.Free(), len(t.All) > 0:
		return "", false
	case len(t.Any) > 0:
		parts := make([]string, len(t.Any))
		for i := range t.Any {
			var ok bool
			if parts[i], ok = whole(&t.Any[i]); !ok {
				return "", false
			}
		}
		return "(?:" + strings.Join(parts, "|") + ")", true
	case t.Literals != nil:
		parts := make([]string, len(t.Literals))
		for i, s := range t.Literals {
			parts[i] = quoteMeta(s)
		}
		return "(?:" + strings.Join(parts, "|") + ")", true
	}
	return unanchored(t.Pattern)
}

// unanchored takes ^ and $ off an expression that is held at both ends.
func unanchored(expr string) (string, bool) {
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil || tree.Op != syntax.OpConcat || len(tree.Sub) < 2 {
		return "", false
	}
	last := len(tree.Sub) - 1
	if tree.Sub[0].Op != syntax.OpBeginText || tree.Sub[last].Op != syntax.OpEndText {
		return "", false
	}
	inner := &syntax.Regexp{Op: syntax.OpConcat, Flags: tree.Flags, Sub: tree.Sub[1:last]}
	if slices.ContainsFunc(inner.Sub, looks) {
		return "", false
	}
	return "(?:" + inner.String() + ")", true
}

// looks reports whether an expression asks what stands around a place.
func looks(r *syntax.Regexp) bool {
	asks := [...]syntax.Op{syntax.OpBeginLine, syntax.OpEndLine, syntax.OpBeginText, syntax.OpEndText, syntax.OpWordBoundary, syntax.OpNoWordBoundary}
	if slices.Contains(asks[:], r.Op) {
		return true
	}
	return slices.ContainsFunc(r.Sub, looks)
}

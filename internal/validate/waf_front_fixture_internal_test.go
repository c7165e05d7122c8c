package validate

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/http1"
	"github.com/gatehouse-api/gatehouse/internal/validate/coraza"
	"github.com/gatehouse-api/gatehouse/internal/validate/seclang"
	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

// A front is the listener, the router and the checks of one document, and what
// becomes of each request that passes them.
type front struct {
	rules *coraza.Engine
	addr  string

	mu     sync.Mutex
	doc    *Document
	router *Router
	asked  *waf.Message // what the rules were asked about; nil: the request did not get there
	late   []byte       // of the body
	op     *Operation
}

func newFront(t testing.TB, e *coraza.Engine) *front {
	t.Helper()
	f := &front{rules: e}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.addr = l.Addr().String()
	s := http1.NewServer(http1.Config{MaxConns: 64, BodyIdle: 2 * time.Second, HeadTimeout: 2 * time.Second}, f)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l, nil) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
	return f
}

// ServeHTTP does what the gateway does before it asks the rules.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := f.pass(r); err != nil {
		w.WriteHeader(gatehouse.AsProblem(err).Kind.Status())
	}
}

func (f *front) pass(r *http.Request) error {
	if err := http1.CheckRequest(r); err != nil {
		return err
	}
	at, _, _ := strings.Cut(r.RequestURI, "?")
	if !strings.HasPrefix(at, "/") {
		at = r.URL.EscapedPath()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n, params, err := f.router.Match(r.Host, r.Method, at, nil)
	if err != nil {
		return err
	}
	op := f.doc.Operations()[n]
	var head Head
	if _, err := op.Head(r, params, nil, &head); err != nil {
		return err
	}
	var body Body
	if err := op.Body(r, &body); err != nil {
		return err
	}
	// Bytes that stream are shown to the rules, too, though nobody does so yet.
	if body.Stream != nil {
		b, err := io.ReadAll(body.Stream)
		if err != nil {
			return err
		}
		f.late = b
	}
	f.op = op
	return op.Inspect(r, "127.0.0.1", params, &head, &body, new(Inspection))
}

// Request is what the operation asks the rules.
func (f *front) Request(in *waf.Facts, v *waf.Verdict) {
	m := in.Message
	m.Header, m.Body = slices.Clone(m.Header), bytes.Clone(m.Body)
	if f.late != nil {
		m.Body = f.late
	}
	for i := range m.Header { // what goes to the rules is not kept
		m.Header[i] = waf.Field{Name: strings.Clone(m.Header[i].Name), Value: strings.Clone(m.Header[i].Value)}
	}
	m.Target = strings.Clone(m.Target)
	f.asked = &m
}

// Answer is not asked.
func (f *front) Answer(*waf.Facts, *waf.Verdict) {}

// open is a document that takes as much as a document can: the path and query of
// this very target, any text in each value, any field, any body (or JSON and forms
// alone, and none of GET).
func (f *front) open(target string, wide bool) error {
	at, query, _ := strings.Cut(target, "?")
	if i := strings.Index(at, "://"); i >= 0 {
		at = at[i+3:]
		at = at[max(0, strings.IndexByte(at, '/')):]
	}
	type object = map[string]any
	template, params := "", []object{}
	for i, segment := range strings.Split(strings.TrimPrefix(at, "/"), "/") {
		if segment == "" {
			template += "/"
			continue
		}
		template += fmt.Sprintf("/{p%d}", i)
		params = append(params, object{"name": fmt.Sprintf("p%d", i), "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	if strings.Contains(template, "//") {
		template, params = "/", nil
	}
	seen := map[string]bool{"": true}
	query, _, _ = strings.Cut(query, "#")
	for p := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(p, "=")
		if plain, err := url.QueryUnescape(name); err == nil {
			name = plain
		}
		if !seen[name] && json.Valid([]byte(strconv.Quote(name))) {
			params = append(params, object{"name": name, "in": "query", "allowEmptyValue": true, "schema": object{"type": "array", "items": object{"type": "string"}}})
		}
		seen[name] = true
	}
	content := object{
		"application/json":                  object{"schema": object{}},
		"application/x-www-form-urlencoded": object{"schema": object{"type": "object", "additionalProperties": true}},
	}
	if wide {
		content = object{"*/*": object{}}
	}
	item := object{}
	for key, method := range httpMethods {
		o := object{"parameters": params, "responses": object{}}
		if wide || method == "POST" || method == "PUT" || method == "PATCH" {
			o["requestBody"] = object{"content": content}
		}
		item[key] = o
	}
	text, err := json.Marshal(object{"openapi": "3.1.0", "info": object{"title": "t", "version": "1"}, "paths": object{template: item}})
	if err != nil {
		return err
	}
	doc, err := Load(fstest.MapFS{"t.json": {Data: text}}, "t.json", Options{API: "t", WAF: newWAF(f), Settings: Settings{DropUnknownQuery: true, Rules: Enforce}})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, text)
	}
	router := new(Router)
	for i, op := range doc.Operations() {
		if err := router.Add("", op.Op().Method, op.Op().Path, i); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.doc, f.router = doc, router
	return nil
}

// send sends raw and returns what the rules were asked, with the operation; nil
// when the front refused.
func (f *front) send(t testing.TB, raw string) (*waf.Message, *Operation) {
	t.Helper()
	f.mu.Lock()
	f.asked, f.late, f.op = nil, nil, nil
	f.mu.Unlock()
	c, err := net.Dial("tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, raw); err == nil {
		_ = c.(*net.TCPConn).CloseWrite()
	}
	in := bufio.NewReader(c)
	res, err := http.ReadResponse(in, nil)
	for err == nil && res.StatusCode < 200 {
		res, err = http.ReadResponse(in, nil)
	}
	if err != nil {
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			t.Fatalf("no answer to %q", raw)
		}
		return nil, nil // turned away without a word
	}
	_ = res.Body.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.asked == nil && res.StatusCode < 400 {
		t.Fatalf("status %d, but the request did not pass: %q", res.StatusCode, raw)
	}
	return f.asked, f.op
}

// holds fails when a rule matched that the table says can not.
func (f *front) holds(t *testing.T, what string, m *waf.Message, op *Operation) {
	t.Helper()
	for _, id := range hitIDs(f.rules, m) {
		if why, ok := op.impossible(coreRule(t, id)); ok {
			t.Errorf("%s: rule %d matched, though %s\n%+v\n%s", what, id, why, m.Header, m.Method+" "+m.Target+" "+m.Protocol+" "+string(m.Body[:min(len(m.Body), 300)]))
		}
	}
}

// core are the rules as they are without a user's own, read once.
var core = sync.OnceValues(func() (map[int]*seclang.Rule, error) {
	sources, err := (&waf.Config{}).Sources()
	if err != nil {
		return nil, err
	}
	p, err := seclang.Parse(sources)
	if err != nil {
		return nil, err
	}
	rules := map[int]*seclang.Rule{}
	for _, item := range p.Items {
		if item.Rule != nil {
			rules[item.Rule.ID] = item.Rule
		}
	}
	return rules, nil
})

func coreRule(t testing.TB, id int) *seclang.Rule {
	t.Helper()
	rules, err := core()
	if err != nil {
		t.Fatal(err)
	}
	if rules[id] == nil {
		t.Fatalf("there is no rule %d", id)
	}
	return rules[id]
}

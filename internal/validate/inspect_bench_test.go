package validate_test

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/validate"
	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

// The POST of bench/post.lua, 430 bytes, and a document for it.
const (
	posted    = `{"id":"9b2f","name":"Ada Lovelace","email":"ada@example.org","roles":["reader","editor"],"address":{"street":"12 St James Square","city":"London","zip":"SW1Y 4JH","country":"GB"},"orders":[{"id":1001,"total":"12.50","currency":"GBP","items":[{"sku":"A-1","qty":2},{"sku":"B-7","qty":1}]},{"id":1002,"total":"99.00","currency":"GBP","items":[{"sku":"C-3","qty":5}]}],"preferences":{"newsletter":true,"theme":"dark","language":"en-GB"},"created_at":"2024-01-01T00:00:00Z"}`
	postedDoc = `openapi: 3.1.0
info: {title: People, version: "1"}
paths:
  /people:
    post:
      operationId: addPerson
      requestBody:
        required: true
        content:
          application/json:
            schema:
              type: object
              additionalProperties: false
              properties:
                id: {type: string, pattern: '^[0-9a-f]{4,32}$'}
                name: {type: string, maxLength: 80}
                email: {type: string, format: email}
                roles: {type: array, items: {type: string, enum: [reader, editor, owner]}}
                address:
                  type: object
                  additionalProperties: false
                  properties:
                    street: {type: string, maxLength: 80}
                    city: {type: string, maxLength: 60}
                    zip: {type: string, pattern: '^[0-9A-Z -]{3,10}$'}
                    country: {type: string, pattern: '^[A-Z]{2}$'}
                orders:
                  type: array
                  items:
                    type: object
                    additionalProperties: false
                    properties:
                      id: {type: integer}
                      total: {type: string, pattern: '^[0-9]+\.[0-9]{2}$'}
                      currency: {type: string, enum: [EUR, GBP, USD]}
                      items:
                        type: array
                        items:
                          type: object
                          additionalProperties: false
                          properties:
                            sku: {type: string, pattern: '^[A-Z]-[0-9]{1,6}$'}
                            qty: {type: integer}
                preferences:
                  type: object
                  additionalProperties: false
                  properties:
                    newsletter: {type: boolean}
                    theme: {type: string, enum: [dark, light]}
                    language: {type: string, pattern: '^[a-z]{2}-[A-Z]{2}$'}
                created_at: {type: string, format: date-time}
      responses: {'201': {description: made}}
`
)

// A passing is one request after head and body, to be looked at again and again.
type passing struct {
	op   *validate.Operation
	r    *http.Request
	path []string
	head validate.Head
	body validate.Body
	out  validate.Inspection
}

func pass(t testing.TB, doc *validate.Document, r *http.Request) *passing {
	t.Helper()
	a := route(t, doc)
	n, path, err := a.router.Match(r.Host, r.Method, r.URL.EscapedPath(), nil)
	if err != nil {
		t.Fatal(err)
	}
	p := &passing{op: doc.Operations()[n], r: r, path: path}
	if _, err = p.op.Head(r, path, nil, &p.head); err == nil {
		err = p.op.Body(r, &p.body)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *passing) inspect(t testing.TB) {
	if err := p.op.Inspect(p.r, "192.0.2.1", p.path, &p.head, &p.body, &p.out); err != nil || p.out.Score != 0 {
		t.Fatalf("%v %+v", err, p.out)
	}
}

func passings(t testing.TB, w *validate.WAF) map[string]*passing {
	t.Helper()
	file := filepath.Join(t.TempDir(), "people.yaml")
	if err := os.WriteFile(file, []byte(postedDoc), 0o600); err != nil {
		t.Fatal(err)
	}
	load := func(file string) *validate.Document {
		doc, err := validate.LoadFile(file, validate.Options{Settings: validate.Settings{Rules: validate.Enforce}, WAF: w})
		if err != nil {
			t.Fatal(err)
		}
		return doc
	}
	demo := load("../demo/orders.openapi.yaml")
	return map[string]*passing{
		"GET, closed":    pass(t, demo, request(t, "GET /orders/ord_1001", "", browser...)),
		"GET, 4 values":  pass(t, demo, request(t, "GET /orders?q=lamp&status=open&limit=20&offset=0", "", browser...)),
		"POST 430 bytes": pass(t, load(file), request(t, "POST /people", posted, append([]string{asJSON}, browser...)...)),
	}
}

func compiled(t testing.TB) *validate.WAF {
	t.Helper()
	w, err := validate.LoadWAF("compiled", validate.RulesConfig{Paranoia: 1})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func BenchmarkInspect(b *testing.B)     { benchmarkInspect(b, compiled(b)) }
func BenchmarkInspectOurs(b *testing.B) { benchmarkInspect(b, validate.NewWAF(mute{listen(b).Rules})) }

func benchmarkInspect(b *testing.B, w *validate.WAF) {
	for name, p := range passings(b, w) {
		b.Run(name, func(b *testing.B) {
			p.inspect(b)
			b.ReportAllocs()
			for b.Loop() {
				p.inspect(b)
			}
		})
	}
}

func BenchmarkBody(b *testing.B) {
	p := passings(b, validate.NewWAF(mute{listen(b).Rules}))["POST 430 bytes"]
	body := bytes.NewReader(nil)
	p.r.Body = readCloser{body}
	b.ReportAllocs()
	for b.Loop() {
		body.Reset([]byte(posted))
		if err := p.op.Body(p.r, &p.body); err != nil {
			b.Fatal(err)
		}
	}
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }

func TestAllocsOfAQuietInspection(t *testing.T) {
	if raceEnabled {
		t.Skip("left out: the race detector allocates")
	}
	for name, p := range passings(t, validate.NewWAF(mute{listen(t).Rules})) {
		p.inspect(t)
		if n := testing.AllocsPerRun(200, func() { p.inspect(t) }); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// mute proves what the rules prove and asks them nothing: what is left is the work
// of showing them the message.
type mute struct{ *waf.Rules }

func (mute) Request(*waf.Facts, *waf.Verdict) {}

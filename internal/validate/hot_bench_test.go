package validate_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/validate"
)

// customersDoc is the document of the load tests under bench/, and what they send.
const customersDoc = `openapi: 3.1.0
info: {title: customers, version: "1"}
paths:
  /v1/customers/{customerId}:
    parameters:
      - {name: customerId, in: path, required: true, schema: {type: string, pattern: "^[0-9]{1,12}$"}}
      - {name: fields, in: query, explode: false, schema: {type: array, maxItems: 10, items: {type: string, pattern: "^[a-z_]{1,20}$"}}}
      - {name: limit, in: query, schema: {type: integer, minimum: 1, maximum: 100}}
      - {name: X-Request-Id, in: header, schema: {type: string, pattern: "^[0-9a-f]{32}$"}}
    get:
      operationId: getCustomer
      responses: {"200": {description: ok}}
    post:
      operationId: updateCustomer
      requestBody:
        required: true
        content:
          application/json:
            schema:
              type: object
              additionalProperties: false
              required: [id, name, email]
              properties:
                id: {type: string, maxLength: 32}
                name: {type: string, maxLength: 100}
                email: {type: string, format: email}
                roles: {type: array, items: {enum: [reader, editor, admin]}}
                address:
                  type: object
                  additionalProperties: false
                  properties: {street: {type: string, maxLength: 100}, city: {type: string, maxLength: 60}, zip: {type: string, maxLength: 12}, country: {type: string, pattern: "^[A-Z]{2}$"}}
                orders:
                  type: array
                  maxItems: 50
                  items:
                    type: object
                    additionalProperties: false
                    properties:
                      id: {type: integer}
                      total: {type: string, pattern: "^[0-9]+\\.[0-9]{2}$"}
                      currency: {enum: [GBP, EUR, USD]}
                      items: {type: array, items: {type: object, additionalProperties: false, properties: {sku: {type: string, maxLength: 20}, qty: {type: integer, minimum: 1}}}}
                preferences: {type: object, additionalProperties: false, properties: {newsletter: {type: boolean}, theme: {enum: [dark, light]}, language: {type: string, pattern: "^[a-z]{2}-[A-Z]{2}$"}}}
                created_at: {type: string, format: date-time}
      responses: {"200": {description: ok}}
`

// customer is one request of the load tests after head and body, to be checked
// again and again.
func customer(t testing.TB, w *validate.WAF, method string) *passing {
	t.Helper()
	file := filepath.Join(t.TempDir(), "customers.yaml")
	if err := os.WriteFile(file, []byte(customersDoc), 0o600); err != nil {
		t.Fatal(err)
	}
	doc, err := validate.LoadFile(file, validate.Options{Settings: validate.Settings{Rules: validate.Enforce}, WAF: w})
	if err != nil {
		t.Fatal(err)
	}
	fields := []string{
		"Authorization: Bearer eyJhbGciOiJFUzI1NiJ9." + strings.Repeat("eyJzdWIiOiJhbGljZSJ9", 30) + ".c2lnbmF0dXJl", "Accept: application/json",
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64) bench/1.0", "X-Request-Id: 0123456789abcdef0123456789abcdef",
	}
	body := ""
	if method == "POST" {
		fields, body = append(fields, asJSON), posted
	}
	return pass(t, doc, request(t, method+" /v1/customers/42?fields=name,email&limit=20", body, fields...))
}

// wanted are the parameters that the rules of the load tests name: the id and the limit.
var wanted = []bool{true, false, true, false}

func (p *passing) checkHead(t testing.TB, values []any, wanted []bool) []any {
	p.head.Wanted = wanted
	values, err := p.op.Head(p.r, p.path, values, &p.head)
	if err != nil {
		t.Fatal(err)
	}
	clear(values)
	p.head = p.head.Reset()
	return values
}

func BenchmarkCustomerHead(b *testing.B) {
	for name, wanted := range map[string][]bool{"all values": nil, "2 values": wanted} {
		b.Run(name, func(b *testing.B) {
			p := customer(b, compiled(b), "GET")
			var values []any
			b.ReportAllocs()
			for b.Loop() {
				values = p.checkHead(b, values, wanted)
			}
		})
	}
}

func (p *passing) checkBody(t testing.TB, from *bytes.Reader, body []byte) {
	from.Reset(body)
	if err := p.op.Body(p.r, &p.body); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkCustomerBody(b *testing.B) {
	p := customer(b, compiled(b), "POST")
	from, body := bytes.NewReader(nil), []byte(posted)
	p.r.Body = readCloser{from}
	b.ReportAllocs()
	for b.Loop() {
		p.checkBody(b, from, body)
	}
}

func TestAllocationsOfOneRequest(t *testing.T) {
	if raceEnabled {
		t.Skip("left out: the race detector allocates")
	}
	w := compiled(t)
	get, post := customer(t, w, "GET"), customer(t, w, "POST")
	var values []any
	from, body := bytes.NewReader(nil), []byte(posted)
	post.r.Body = readCloser{from}
	for _, tc := range []struct {
		name string
		do   func()
		most float64
	}{
		{"a head, all values: three texts, a list and the two in it", func() { values = get.checkHead(t, values, nil) }, 6},
		{"a head, two values: a text", func() { values = get.checkHead(t, values, wanted) }, 1},
		{"a body", func() { post.checkBody(t, from, body) }, 0},
	} {
		tc.do()
		if n := testing.AllocsPerRun(200, tc.do); n > tc.most {
			t.Errorf("%s: %v allocations, %v expected", tc.name, n, tc.most)
		}
	}
}

func TestAValueThatIsNotWantedIsCheckedAllTheSame(t *testing.T) {
	p := customer(t, nil, "GET")
	for _, query := range []string{"fields=name,E!", "fields=name&limit=101", "fields=,", "limit=x", "fields=" + strings.Repeat("a,", 10) + "a"} {
		p.r.URL.RawQuery = query
		p.head.Wanted = make([]bool, 4)
		if _, err := p.op.Head(p.r, p.path, nil, &p.head); err == nil {
			t.Errorf("%s passes", query)
		}
	}
	p.r.URL.RawQuery = "fields=name,email&limit=20"
	p.head.Wanted = wanted
	values, err := p.op.Head(p.r, p.path, nil, &p.head)
	if err != nil || values[0] != "42" || values[1] != nil || values[2] != int64(20) || values[3] != nil {
		t.Errorf("%v, %v", values, err)
	}
}

func BenchmarkCustomerInspect(b *testing.B) {
	for _, method := range []string{"GET", "POST"} {
		b.Run(method, func(b *testing.B) {
			p := customer(b, compiled(b), method)
			p.inspect(b)
			b.ReportAllocs()
			for b.Loop() {
				p.inspect(b)
			}
		})
	}
}

func TestAListOfWordsIsNoPlaceForAttacks(t *testing.T) {
	languages := map[string]string{"fields": "a list of: pattern ^[a-z_]{1,20}$", "limit": "an integer"}
	for _, f := range customer(t, compiled(t), "GET").op.Remaining() {
		if want, ok := languages[f.Name]; ok && (f.Language != want || len(f.Left) > 40 || slices.Contains(f.Left, 941100)) {
			t.Errorf("%s: %s, %d left", f.Name, f.Language, len(f.Left))
		}
		delete(languages, f.Name)
	}
	if len(languages) > 0 {
		t.Errorf("nothing is said of %v", languages)
	}
}

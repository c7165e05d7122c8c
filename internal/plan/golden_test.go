package plan_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/plan"
)

const ordersConfig = `gatehouse: 1
issuers:
  main: {issuer: "https://auth.example", audience: orders, jwks: ./jwks.json, claims: {tenant: string}, roles: roles}
api_keys: {enabled: true}
roles:
  support: [orders:read, orders:refund]
  manager: {inherits: [support], grants: [customers:any]}
guardrails:
  - {id: tenant, deny: 'has(claims.tenant) && claims.tenant == "frozen"', because: Frozen tenants may do nothing}
apis:
  orders:
    openapi: ./orders.yaml
    upstreams: [http://127.0.0.1:9001, "http://127.0.0.1:9002"]
    base: /v1
    hosts: [api.example]
    authenticate: {oauth2: [main, keys]}
    responses: report
    limits: [{per: address, rate: 20/s}, {id: user, per: principal, rate: 100/min, burst: 20}]
    operations:
      health: {public: true, priority: critical}
      listOrders: {grant: orders:read}
      refundOrder:
        grant: orders:refund
        require: {amount: {rule: 'body.amount <= 500 || role("manager")', because: Support refunds up to 500}}
        deny: {closed: 'has(body.status) && body.status == "closed"'}
        limits: [{id: refunds, per: principal, rate: 5/min}]
        max_body: 4KiB
        responses: enforce
      getCustomer: {own: {path.customerId: claims.sub}, unless: customers:any}
tests:
  - {name: support refunds 500, as: {roles: [support], scopes: ["orders:read"]}, call: orders.refundOrder, path: {orderId: 7}, body: {amount: 500}, expect: allow}
  - {name: support does not refund 501, as: {roles: [support], scopes: ["orders:read"]}, call: orders.refundOrder, path: {orderId: 7}, body: {amount: 501}, expect: deny, rule: amount}
  - {name: the wrong rule is named, as: {roles: [support], scopes: ["orders:read"]}, call: orders.refundOrder, path: {orderId: 7}, body: {amount: 501}, expect: deny, rule: closed}
  - {name: this expects too much, as: {roles: [support], scopes: ["orders:read"]}, call: orders.getCustomer, path: {customerId: bob}, expect: allow}
  - {name: this expects too little, as: {roles: [manager], scopes: ["orders:read"]}, call: orders.getCustomer, path: {customerId: bob}, expect: deny}
  - {name: a list in the query, as: {roles: [support], scopes: ["orders:read"]}, call: orders.listOrders, query: {tag: [a, b], limit: 5}, header: {X-Region: eu}, expect: allow}
  - {name: a limit out of bounds, as: {roles: [support], scopes: ["orders:read"]}, call: orders.listOrders, query: {limit: 500}, expect: 422, reason: invalid_query, rule: maximum}
  - {name: nobody lists, call: orders.listOrders, expect: 401}
  - {name: a parameter is missing, as: {roles: [support]}, call: orders.getCustomer, expect: deny}
  - {name: a parameter too many, as: {roles: [support]}, call: orders.getCustomer, path: {customerId: a, id: b}, expect: deny}
  - {name: no such operation, call: orders.getCustomers, expect: deny}
`

func golden(t *testing.T, name string, v any) {
	t.Helper()
	got, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(name, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s differs; got\n%s", name, got)
	}
}

func ordersFolder(t testing.TB) string {
	t.Helper()
	dir := folder(t)
	write(t, dir, "gatehouse.yaml", ordersConfig)
	return dir
}

func TestEffectiveTellsEverythingWithItsPlace(t *testing.T) {
	dir := ordersFolder(t)
	p := compile(t, dir)
	var all []*plan.Effective
	for _, name := range []string{"refundOrder", "orders.getCustomer", "health"} {
		e, err := p.Effective(name)
		if err != nil {
			t.Fatal(err)
		}
		e.Place = strings.TrimPrefix(e.Place, dir+"/")
		for i := range e.Lines {
			e.Lines[i].Place = strings.TrimPrefix(e.Lines[i].Place, dir+"/")
		}
		all = append(all, e)
	}
	golden(t, "testdata/effective.golden", all)
	for name, want := range map[string]string{
		"refundOrders": `there is no operation "refundOrders"; did you mean "refundOrder"?`,
		"":             `there is no operation ""`,
	} {
		if _, err := p.Effective(name); err == nil || err.Error() != want {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestAnOperationOfTwoAPIsNeedsItsAPI(t *testing.T) {
	dir := folder(t)
	write(t, dir, "gatehouse.yaml", "gatehouse: 1\nissuers: {main: {issuer: \"https://auth.example\", audience: a, jwks: ./j.json}}\napis:\n"+
		"  a: {openapi: ./orders.yaml, upstreams: [\"http://127.0.0.1:1\"], hosts: [a.example], operations: {health: {public: true}}}\n"+
		"  b: {openapi: ./orders.yaml, upstreams: [\"http://127.0.0.1:1\"], hosts: [b.example], operations: {health: {public: true}}}\n")
	p := compile(t, dir)
	if _, err := p.Effective("health"); err == nil || err.Error() != `"health" is in several APIs; write a.health or b.health` {
		t.Fatal(err)
	}
	if e, err := p.Effective("b.health"); err != nil || e.Operation != "b.health" {
		t.Fatal(e, err)
	}
}

// A test's caller is what a real one would be: an API key has no claims, so a
// config's test cannot pass by a claim that no such caller brings.
func TestACallerOfATestIsAsARealOne(t *testing.T) {
	dir := folder(t)
	write(t, dir, "gatehouse.yaml", `gatehouse: 1
issuers:
  main: {issuer: "https://auth.example", audience: orders, jwks: ./jwks.json}
api_keys: {enabled: true}
apis:
  orders:
    openapi: ./orders.yaml
    upstreams: [http://127.0.0.1:9001]
    authenticate: {oauth2: [main, keys]}
    operations: {health: {public: true}, getCustomer: {own: {path.customerId: claims.sub}}}
tests:
  - {name: a token, as: {scopes: ["orders:read"], subject: ann}, call: orders.getCustomer, path: {customerId: ann}, expect: allow}
  - {name: a token of nobody special, as: {scopes: ["orders:read"]}, call: orders.getCustomer, path: {customerId: test}, expect: allow}
  - {name: a key of hers, as: {scopes: ["orders:read"], subject: ann, method: apikey, claims: {sub: ann}}, call: orders.getCustomer, path: {customerId: ann}, expect: deny}
`)
	if err := compile(t, dir).SelfTest(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestRunTests(t *testing.T) {
	dir := ordersFolder(t)
	p := compile(t, dir)
	results := p.RunTests(t.Context())
	for i := range results {
		results[i].Place = strings.TrimPrefix(results[i].Place, dir+"/")
	}
	golden(t, "testdata/tests.golden", results)
	passed := 0
	for _, r := range results {
		if r.Passed {
			passed++
		}
	}
	if passed != 5 {
		t.Errorf("%d pass, want 5", passed)
	}
	err := p.SelfTest(t.Context())
	if err == nil || strings.Count(err.Error(), "\n")+1 != len(results)-passed {
		t.Fatalf("%v", err)
	}
	for line := range strings.Lines(err.Error()) {
		if !strings.HasPrefix(line, dir+"/gatehouse.yaml:") || !strings.Contains(line, "fails: wanted ") {
			t.Errorf("says %s", line)
		}
	}
}

func TestTheDigestIsOfTheConfigAndItsDocuments(t *testing.T) {
	dir := ordersFolder(t)
	first := compile(t, dir)
	if again := compile(t, dir); again.Digest != first.Digest || first.Snapshot.Digest != first.Digest || len(first.Digest) != 64 {
		t.Fatalf("%s, then %s", first.Digest, again.Digest)
	}
	if i := slices.IndexFunc(first.Watch, func(f string) bool { return f == filepath.Join(dir, "orders.yaml") }); i < 0 {
		t.Fatalf("watches %q", first.Watch)
	}
	for _, name := range []string{"gatehouse.yaml", "orders.yaml"} {
		before := compile(t, dir).Digest
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir, name, string(b)+"# a word\n")
		if compile(t, dir).Digest == before {
			t.Errorf("%s does not count", name)
		}
	}
}

// A document in several files: each of them decides, so each is watched.
func TestEveryFileOfADocumentCounts(t *testing.T) {
	dir := ordersFolder(t)
	b, err := os.ReadFile(filepath.Join(dir, "orders.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "orders.yaml", strings.Replace(string(b), `{type: integer, minimum: 1, maximum: 100}`, `{$ref: "limit.yaml"}`, 1))
	write(t, dir, "limit.yaml", "{type: integer, minimum: 1, maximum: 100}\n")
	p := compile(t, dir)
	if !slices.Contains(p.Watch, filepath.Join(dir, "limit.yaml")) {
		t.Errorf("watches only %q", p.Watch)
	}
	write(t, dir, "limit.yaml", "{type: integer, minimum: 1, maximum: 10}\n")
	if compile(t, dir).Digest == p.Digest {
		t.Error("a referenced file does not count")
	}
}

func TestMatrixHasEveryRoleAndOperation(t *testing.T) {
	p := compile(t, ordersFolder(t))
	verdicts := map[string]string{}
	for _, row := range p.Matrix() {
		for _, c := range row.Cells {
			verdicts[row.Operation+" "+c.Role] = string(c.Verdict)
		}
	}
	if len(verdicts) != 4*4 {
		t.Fatalf("%v", verdicts)
	}
	for cell, want := range map[string]string{
		"listOrders (anonymous)": "deny", "listOrders support": "allow-if", "refundOrder manager": "allow-if", "health (anonymous)": "allow",
	} {
		if verdicts[cell] != want {
			t.Errorf("%s: %q, want %q", cell, verdicts[cell], want)
		}
	}
}

// A document of ten thousand operations compiles, and its cost does not explode.
func TestALargeDocument(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	const n = 10_000
	var doc strings.Builder
	doc.WriteString("openapi: 3.1.0\ninfo: {title: Large, version: \"1\"}\nsecurity: [oauth2: [x]]\npaths:\n")
	for i := range n {
		fmt.Fprintf(&doc, "  /r%d/{id}: {get: {operationId: op%d, parameters: [{name: id, in: path, required: true, schema: {type: integer}}], responses: {\"200\": {description: ok}}}}\n", i, i)
	}
	doc.WriteString("components: {securitySchemes: {oauth2: {type: oauth2, flows: {}}}}\n")
	dir := folder(t)
	write(t, dir, "large.yaml", doc.String())
	write(t, dir, "gatehouse.yaml", "gatehouse: 1\nissuers: {main: {issuer: \"https://auth.example\", audience: a, jwks: ./j.json}}\napis: {large: {openapi: ./large.yaml, upstreams: [\"http://127.0.0.1:1\"]}}\n")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	p := compile(t, dir)
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	allocated := after.TotalAlloc - before.TotalAlloc
	t.Logf("%d operations in %v, %d KiB and %d allocations each", n, took, allocated/n>>10, (after.Mallocs-before.Mallocs)/n)
	if len(p.Operations()) != n {
		t.Fatalf("%d operations", len(p.Operations()))
	}
	if perOperation := allocated / n; perOperation > 512<<10 {
		t.Errorf("%d bytes for each operation", perOperation)
	}
}

package plan_test

import (
	"io"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/plan"
)

const editedConfig = `gatehouse: 1
issuers: {main: {issuer: "https://auth.example", audience: shop, jwks: ./jwks.json}}
roles: {writer: [shop:write]}
apis:
  shop:
    openapi: ./shop.yaml
    upstreams: ["http://127.0.0.1:9001"]
    limits: [{per: address, rate: 1/s}]
    operations: {write: {grant: shop:write, require: {small: body.n < 10}}}
tests:
  - {name: nobody writes, call: shop.write, path: {id: 3}, body: {n: 3}, expect: deny}
  - {name: a writer writes little, as: {roles: [writer]}, call: shop.write, path: {id: 7}, query: {q: a b}, body: {n: 3}, expect: allow}
`

const editedDocument = `openapi: 3.1.0
info: {title: Shop, version: "1"}
security: [any: []]
paths:
  /things/{id}:
    post:
      operationId: write
      parameters: [{name: id, in: path, required: true, schema: {type: integer}}, {name: q, in: query, schema: {type: string, maxLength: 9}}]
      requestBody: {required: true, content: {application/json: {schema: {type: object, required: [n], properties: {n: {type: integer}}}}}}
      responses: {"201": {description: ok}}
components: {securitySchemes: {any: {type: http, scheme: bearer}}}
`

// What is edited is compiled, and the next who asks has what is written again.
func TestEditedCompilesWhatItIsTold(t *testing.T) {
	dir := folder(t, txtar.File{Name: "gatehouse.yaml", Data: []byte(editedConfig)}, txtar.File{Name: "shop.yaml", Data: []byte(editedDocument)})
	whole := compile(t, dir)
	less, err := plan.Edited(filepath.Join(dir, "gatehouse.yaml"), whole, func(f *config.File) {
		f.APIs["shop"].Limits, f.WAF.Mode = nil, "off"
	})
	if err != nil {
		t.Fatal(err)
	}
	again := compile(t, dir)
	for _, c := range []struct {
		name   string
		p      *plan.Plan
		limits int
		rules  bool
	}{{"as it is written", whole, 1, true}, {"edited", less, 0, false}, {"as it is written, again", again, 1, true}} {
		r := c.p.Snapshot.Routes[0]
		if len(r.Limits()) != c.limits || r.Op.Inspects() != c.rules {
			t.Errorf("%s: %d limits, rules asked %t", c.name, len(r.Limits()), r.Op.Inspects())
		}
	}
	if _, err := plan.Edited(filepath.Join(dir, "gatehouse.yaml"), whole, func(f *config.File) { f.APIs["shop"].OpenAPI.Value = "none.yaml" }); err == nil {
		t.Error("an edit that leaves a config which does not compile is taken")
	}
}

func TestExampleIsTheFirstTestThatAllows(t *testing.T) {
	p := compile(t, folder(t, txtar.File{Name: "gatehouse.yaml", Data: []byte(editedConfig)}, txtar.File{Name: "shop.yaml", Data: []byte(editedDocument)}))
	r, as, err := p.Example(t.Context(), "shop.write")
	if err != nil || r == nil || as == nil {
		t.Fatal(r, as, err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Method != "POST" || r.RequestURI != "/things/7?q=a%20b" || string(body) != `{"n":3}` || as.Roles[0].Value != "writer" {
		t.Errorf("%s %s %s by %v, %v", r.Method, r.RequestURI, body, as.Roles, err)
	}
	if r, _, err := p.Example(t.Context(), "shop.read"); r != nil || err != nil {
		t.Errorf("an operation without a test has the example %v, %v", r, err)
	}
}

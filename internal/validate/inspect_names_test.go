package validate_test

import (
	"strings"
	"testing"
	"testing/fstest"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/validate"
)

func TestALongNameBeforeALongArrayIsRefusedAndTakesNoGigabytes(t *testing.T) {
	const document = "openapi: 3.1.0\ninfo: {title: t, version: '1'}\npaths: {/a: {post: {operationId: a, requestBody: {content: {application/json: {schema: {}}}}}}}"
	w, err := validate.LoadWAF("compiled", validate.RulesConfig{})
	if err != nil {
		t.Fatal(err)
	}
	doc, err := validate.Load(fstest.MapFS{"a.yaml": {Data: []byte(document)}}, "a.yaml", validate.Options{API: "a", Settings: validate.Settings{Rules: validate.Enforce}, WAF: w})
	if err != nil {
		t.Fatal(err)
	}
	var head validate.Head
	var body validate.Body
	var found validate.Inspection
	r := request(t, "POST /a", `{"`+strings.Repeat("k", 500_000)+`":[`+strings.Repeat(`"",`, 60_000)+`1]}`, asJSON)
	if err := doc.Operations()[0].Body(r, &body); err != nil {
		t.Fatal(err)
	}
	err = doc.Operations()[0].Inspect(r, "192.0.2.1", nil, &head, &body, &found) // 30 GB, unbounded
	if p := gatehouse.AsProblem(err); p == nil || p.Kind != gatehouse.Forbidden || !found.Over {
		t.Errorf("%v, %+v", err, found)
	}
}

package authz_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/authz"
)

// FuzzInput decides about any claims and any body, as no validator would let
// them through, and compares with the same rule written in Go: what is not
// exactly what the schema promised denies.
func FuzzInput(f *testing.F) {
	for _, seed := range [][2]string{
		{`{"tenant":"t1"}`, `{"amount":500,"tenant":"t1"}`},
		{`{"tenant":""}`, `{"amount":1,"tenant":""}`},
		{`{"tenant":null}`, `{"amount":1,"tenant":null}`},
		{`{"tenant":["t1"]}`, `{"amount":1,"tenant":"t1"}`},
		{`{"tenant":"t1"}`, `{"amount":1.5,"tenant":"t1"}`},
		{`{"tenant":"t1"}`, `{"amount":-1e300,"tenant":"t1"}`},
		{`{"tenant":"t1"}`, `{"amount":"1","tenant":"t1"}`},
		{`{"tenant":"t1"}`, `{"amount":-9007199254740993,"tenant":"t1"}`},
		{`{}`, `[]`},
		{`null`, `null`},
		{`{"tenant":"t1"}`, `{"amount":true,"tenant":{}}`},
		{`{"tenant":"t1"}`, `{"tenant":"t1"}`},
	} {
		f.Add(seed[0], seed[1], true)
		f.Add(seed[0], seed[1], false)
	}
	p := compile(f, refund(), require("body.amount <= 500 && claims.tenant == body.tenant"))
	f.Fuzz(func(t *testing.T, claims, body string, numbers bool) {
		who := caller()
		who.Claims, _ = decodeJSON(claims, numbers).(map[string]any)
		in := input(who)
		in.Body = decodeJSON(body, numbers)
		d := p.Decide(authz.Body, in)
		if want := mayRefund(who.Claims, in.Body); d.Allow != want {
			t.Fatalf("claims %s body %s: allow = %v: %+v", claims, body, d.Allow, d.Reasons)
		}
		if !d.Allow && len(d.Reasons) == 0 {
			t.Fatal("denied without a reason")
		}
	})
}

func decodeJSON(s string, numbers bool) any {
	d := json.NewDecoder(strings.NewReader(s))
	if numbers {
		d.UseNumber()
	}
	var v any
	if d.Decode(&v) != nil {
		return nil
	}
	return v
}

// mayRefund is the rule of FuzzInput in Go.
func mayRefund(claims map[string]any, body any) bool {
	m, ok := body.(map[string]any)
	if !ok {
		return false
	}
	switch n := m["amount"].(type) {
	case float64:
		if n != math.Trunc(n) || math.Abs(n) > 1<<53 || n > 500 {
			return false
		}
	case json.Number:
		if i, err := n.Int64(); err != nil || i > 500 {
			return false
		}
	default:
		return false
	}
	mine, ok := claims["tenant"].(string)
	theirs, alsoOK := m["tenant"].(string)
	return ok && alsoOK && mine != "" && mine == theirs
}

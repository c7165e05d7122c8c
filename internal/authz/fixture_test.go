package authz_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/authz"
)

func shape(kind gatehouse.ShapeKind) *gatehouse.Shape { return &gatehouse.Shape{Kind: kind} }

func object(fields ...gatehouse.Field) *gatehouse.Shape {
	return &gatehouse.Shape{Kind: gatehouse.ObjectShape, Fields: fields}
}

func listOf(items *gatehouse.Shape) *gatehouse.Shape {
	return &gatehouse.Shape{Kind: gatehouse.ArrayShape, Items: items}
}

// refund is an operation with something of everything.
func refund() *gatehouse.Operation {
	return &gatehouse.Operation{
		API: "orders", ID: "refundOrder", Method: "POST", Path: "/v1/customers/{customerId}/refunds",
		Params: []gatehouse.Param{
			{In: "path", Name: "customerId", Required: true, Shape: shape(gatehouse.StringShape)},
			{In: "query", Name: "limit", Shape: shape(gatehouse.IntegerShape)},
			{In: "query", Name: "tags", Shape: listOf(shape(gatehouse.StringShape))},
			{In: "header", Name: "X-Region", Shape: &gatehouse.Shape{Kind: gatehouse.StringShape, Enum: []string{"eu", "us"}}},
			{In: "cookie", Name: "session", Shape: shape(gatehouse.StringShape)},
		},
		Body: object(
			gatehouse.Field{Name: "amount", Required: true, Shape: shape(gatehouse.IntegerShape)},
			gatehouse.Field{Name: "card", Shape: object(gatehouse.Field{Name: "pan", Shape: shape(gatehouse.StringShape)})},
			gatehouse.Field{Name: "extra", Shape: shape(gatehouse.AnyShape)},
			gatehouse.Field{Name: "items", Shape: listOf(object(gatehouse.Field{Name: "qty", Required: true, Shape: shape(gatehouse.IntegerShape)}))},
			gatehouse.Field{Name: "rate", Shape: shape(gatehouse.NumberShape)},
			gatehouse.Field{Name: "status", Shape: &gatehouse.Shape{Kind: gatehouse.StringShape, Enum: []string{"open", "paid"}}},
			gatehouse.Field{Name: "tenant", Shape: shape(gatehouse.StringShape)},
		),
	}
}

func config() authz.Config {
	return authz.Config{
		Roles: map[string]authz.Role{
			"support": {Grants: []string{"orders:read", "orders:refund"}},
			"manager": {Inherits: []string{"support"}, Grants: []string{"orders:*"}},
			"clerk":   {Grants: []string{"orders:read"}},
		},
		Claims: map[string]string{"tenant": "string", "suspended": "bool", "level": "int", "teams": "[string]", "meta": "object", "free": "any"},
	}
}

func compiler(t testing.TB, cfg authz.Config) *authz.Compiler {
	t.Helper()
	c, err := authz.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func compile(t testing.TB, op *gatehouse.Operation, a authz.Access) *authz.Policy {
	t.Helper()
	p, err := compiler(t, config()).Compile(op, a)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func require(expr string) authz.Access {
	return authz.Access{Rules: authz.Rules{Require: []authz.Rule{{ID: "r", Expr: expr, Place: "gatehouse.yaml:7:9"}}}}
}

func denyIf(expr string) authz.Access {
	return authz.Access{
		Grant: []string{"orders:read"},
		Rules: authz.Rules{Deny: []authz.Rule{{ID: "d", Expr: expr, Place: "gatehouse.yaml:7:9"}}},
	}
}

func caller(roles ...string) *gatehouse.Principal {
	return &gatehouse.Principal{
		Subject: "u1", Issuer: "main", Method: gatehouse.MethodJWT, Roles: roles, Tenant: "t1",
		Claims: map[string]any{"sub": "u1", "tenant": "t1", "level": int64(3), "teams": []any{"a", "b"}},
	}
}

func input(p *gatehouse.Principal) *authz.Input {
	return &authz.Input{
		Principal: p, Method: "POST", Path: "/v1/customers/u1/refunds", Host: "api.example",
		Address: netip.MustParseAddr("10.1.2.3"), TLS: true, Time: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC),
		Params: []any{"u1", int64(10), []any{"x"}, "eu", "s3cr3t-session"},
		Body:   map[string]any{"amount": int64(700), "status": "open", "tenant": "t1"},
	}
}

// fields gives the fields of the body.
func fields(in *authz.Input) map[string]any {
	m, _ := in.Body.(map[string]any)
	return m
}

// decide walks the phases as the gateway does.
func decide(p *authz.Policy, in *authz.Input) gatehouse.Decision {
	var d gatehouse.Decision
	for _, phase := range []authz.Phase{authz.Caller, authz.Head, authz.Body} {
		if !p.Has(phase) {
			continue
		}
		if d = p.Decide(phase, in); !d.Allow {
			return d
		}
	}
	return d
}

func reason(t testing.TB, d gatehouse.Decision, id string) gatehouse.Reason {
	t.Helper()
	var ids []string
	for _, r := range d.Reasons {
		if r.Rule == id {
			return r
		}
		ids = append(ids, r.Rule)
	}
	t.Fatalf("no reason %q, there are %s", id, strings.Join(ids, ", "))
	return gatehouse.Reason{}
}

package authz_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/authz"
)

func TestCompileRefuses(t *testing.T) {
	tests := map[string]struct {
		access authz.Access
		want   []string
	}{
		"an operation without access":              {authz.Access{Place: "gatehouse.yaml:3:5"}, []string{"gatehouse.yaml:3:5: operation refundOrder: operation without access"}},
		"API rules are no access of the operation": {authz.Access{API: authz.Rules{Require: []authz.Rule{{ID: "a", Expr: "true"}}}}, []string{"operation without access"}},
		"deny rules are no access":                 {authz.Access{Rules: authz.Rules{Deny: []authz.Rule{{ID: "a", Expr: "true"}}}}, []string{"operation without access"}},
		"public with a grant":                      {authz.Access{Public: true, Grant: []string{"a:b"}}, []string{"only one of them"}},
		"unless without own":                       {authz.Access{Grant: []string{"a:b"}, Unless: []string{"a:c"}}, []string{"no `own` to soften"}},
		"a grant with a star":                      {authz.Access{Grant: []string{"orders:*"}}, []string{`"orders:*" is not noun:verb`}},
		"a field that is not in the body":          {require("body.amuont > 1"), []string{"gatehouse.yaml:7:9: rule \"r\": body of operation refundOrder has no field \"amuont\"; did you mean \"amount\"?", "column 5"}},
		"a nested field that is not there":         {require("body.card.pam == ''"), []string{`body.card of operation refundOrder has no field "pam"; did you mean "pan"?`}},
		"a parameter that is not there":            {require("path.customer == ''"), []string{"operation refundOrder has no path parameter \"customer\""}},
		"a claim nobody declares":                  {require("claims.tennant == ''"), []string{`no issuer declares the claim "tennant"; did you mean "tenant"?`}},
		"a role nobody configured":                 {require(`role("suppor")`), []string{`role "suppor" is not configured; did you mean "support"?`}},
		"a role of an expression":                  {require(`role(claims.sub)`), []string{"takes a name in quotes"}},
		"a grant nobody has":                       {require(`grant("invoices:read")`), []string{`no role has the grant "invoices:read"`}},
		"an unless nobody has":                     {authz.Access{Own: map[string]string{"path.customerId": "claims.sub"}, Unless: []string{"invoices:any"}}, []string{`no role has the grant "invoices:any"`}},
		"an int against a string":                  {require(`body.amount == "700"`), []string{"cannot write int == string"}},
		"an owner of another type":                 {authz.Access{Own: map[string]string{"query.limit": "claims.sub"}}, []string{"cannot write int == string"}},
		"a rule that is no condition":              {require("body.amount"), []string{"gives int, not true or false"}},
		"a pattern out of the request":             {require("claims.sub.matches(claims.tenant)"), []string{"pattern in quotes"}},
		"a loop variable that hides the request":   {require("body.items.all(path, path.qty > 0)"), []string{"a loop variable cannot be named path"}},
		"an int against a string says what to do":  {authz.Access{Own: map[string]string{"query.limit": "claims.sub"}}, []string{"string(…) makes text of a number"}},
		"a pattern that is none":                   {require("claims.sub.matches('(')"), []string{"gatehouse.yaml:7:9", "invalid matches argument"}},
		"text that two inputs multiply":            {require("claims.sub.replace('a', claims.tenant) == 'x'"), []string{"replace() is not for rules"}},
		"a prefix that is none":                    {require("request.address.in_cidr('10.0.0.0/99')"), []string{"prefix in quotes"}},
		"three loops within each other":            {require("body.items.all(i, body.items.all(j, body.items.all(k, i.qty + j.qty + k.qty > 0)))"), []string{"gatehouse.yaml:7:9", "comprehension"}},
		"the line at fault of several":             {require("body.amount > 1 &&\n  claims.tennant == 'x'"), []string{"(at column 9 of \"  claims.tennant == 'x'\")"}},
		"an unknown name":                          {require("boddy.x == 1"), []string{`unknown name "boddy"; did you mean "body"?`}},
		"broken syntax":                            {require("body.amount >"), []string{"gatehouse.yaml:7:9", "Syntax error"}},
		"an empty rule":                            {require("  "), []string{"is empty"}},
		"the hidden variables":                     {require("@roles.support"), []string{"Syntax error"}},
		"an object made in a rule":                 {require("Claims{sub: 'x'} == claims"), []string{"rules do not make objects"}},
		"a rule without id":                        {authz.Access{Grant: []string{"a:b"}, Rules: authz.Rules{Deny: []authz.Rule{{Expr: "true", Place: "f:1:1"}}}}, []string{"f:1:1", "without an id"}},
		"a rule twice": {
			authz.Access{Rules: authz.Rules{Require: []authz.Rule{{ID: "a", Expr: "true"}, {ID: "a", Expr: "false"}}}},
			[]string{"stands twice"},
		},
		"a rule past its length": {require(strings.Repeat("true && ", 2000) + "true"), []string{"gatehouse.yaml:7:9"}},
		"all errors at once": {
			authz.Access{Rules: authz.Rules{Require: []authz.Rule{{ID: "a", Expr: "claims.x", Place: "f:1:1"}, {ID: "b", Expr: "body.x", Place: "f:2:1"}}}},
			[]string{"f:1:1", "f:2:1"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p, err := compiler(t, config()).Compile(refund(), test.access)
			if err == nil || p != nil {
				t.Fatal("it compiles")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got  %v\nwant %s", err, want)
				}
			}
		})
	}

	t.Run("a body rule where there is no body", func(t *testing.T) {
		op := refund()
		op.Body = nil
		_, err := compiler(t, config()).Compile(op, require("body.amount > 1"))
		if err == nil || !strings.Contains(err.Error(), "operation refundOrder has no JSON or form body") {
			t.Fatal(err)
		}
	})
	t.Run("public against a document that names security", func(t *testing.T) {
		op := refund()
		op.Security = []gatehouse.Requirement{{{Scheme: "oauth", Kind: "oauth2"}}}
		_, err := compiler(t, config()).Compile(op, authz.Access{Public: true})
		if err == nil || !strings.Contains(err.Error(), "the OpenAPI document asks for oauth") {
			t.Fatal(err)
		}
	})
	t.Run("an optional security requirement is no access", func(t *testing.T) {
		op := refund()
		op.Security = []gatehouse.Requirement{{{Scheme: "oauth", Kind: "oauth2"}}, {}}
		if _, err := compiler(t, config()).Compile(op, authz.Access{}); err == nil || !strings.Contains(err.Error(), "without access") {
			t.Fatal(err)
		}
	})
	t.Run("security that no method serves", func(t *testing.T) {
		op := refund()
		op.Security = []gatehouse.Requirement{{{Scheme: "basic", Kind: "http:basic"}}, {{Scheme: "o", Kind: "oauth2"}, {Scheme: "k", Kind: "apiKey"}}}
		_, err := compiler(t, config()).Compile(op, authz.Access{})
		if err == nil || !strings.Contains(err.Error(), `no method of authentication serves scheme "basic"`) || !strings.Contains(err.Error(), "jwt and apikey at once") {
			t.Fatal(err)
		}
	})
	t.Run("a guardrail about a field not every operation has", func(t *testing.T) {
		cfg := config()
		cfg.Guardrails.Require = []authz.Rule{{ID: "g", Expr: `path.tenant == claims.tenant`, Place: "gatehouse.yaml:2:2"}}
		_, err := compiler(t, cfg).Compile(refund(), authz.Access{Grant: []string{"orders:read"}})
		if err == nil || !strings.Contains(err.Error(), "gatehouse.yaml:2:2") {
			t.Fatal(err)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	tests := map[string]struct {
		cfg  authz.Config
		want string
	}{
		"an unknown parent":       {authz.Config{Roles: map[string]authz.Role{"support": {}, "manager": {Inherits: []string{"suppor"}}}}, `roles.manager: inherits "suppor", which is no role; did you mean "support"?`},
		"a role that is its own":  {authz.Config{Roles: map[string]authz.Role{"a": {Inherits: []string{"a"}}}}, "roles.a: inherits itself: a → a"},
		"a longer cycle":          {authz.Config{Roles: map[string]authz.Role{"a": {Inherits: []string{"b"}}, "b": {Inherits: []string{"c"}}, "c": {Inherits: []string{"a"}}}}, "inherits itself: a → b → c → a"},
		"a grant that is a word":  {authz.Config{Roles: map[string]authz.Role{"a": {Grants: []string{"orders"}}}}, `grant "orders" is not noun:verb`},
		"a star within":           {authz.Config{Roles: map[string]authz.Role{"a": {Grants: []string{"*:read"}}}}, `grant "*:read"`},
		"an unknown claim type":   {authz.Config{Claims: map[string]string{"x": "text"}}, `claims.x: unknown type "text"`},
		"a guardrail with a typo": {authz.Config{Guardrails: authz.Rules{Deny: []authz.Rule{{ID: "g", Expr: "claims.suspnded", Place: "gatehouse.yaml:4:4"}}}}, "gatehouse.yaml:4:4"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := authz.New(test.cfg); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

// Deep diamonds of roles are closed over in one pass, not one path at a time.
func TestManyRolesLoad(t *testing.T) {
	roles := map[string]authz.Role{"a0": {}, "b0": {}}
	for i := range 60 {
		parents := []string{name("a", i), name("b", i)}
		roles[name("a", i+1)], roles[name("b", i+1)] = authz.Role{Inherits: parents}, authz.Role{Inherits: parents}
	}
	compiler(t, authz.Config{Roles: roles})
}

func name(prefix string, i int) string {
	return prefix + strconv.Itoa(i)
}

func FuzzRule(f *testing.F) {
	for _, seed := range []string{
		`body.amount <= 500 || (role("manager") && claims.acr == "mfa")`, "path.customerId == claims.sub", "has(query.limit)", "body.items.all(i, i.qty < 3)",
		"claims.sub.matches('^a+$')", "request.address.in_cidr('10.0.0.0/8')", "role(", "@roles", "'\\xff'", "1/0", "[1,2,3].map(x, x*x)[0] == 1", "{'a': 1}.a == 1", "header.`x-region`",
		"a ? b : c", "!!!!true", "((((((((true))))))))", "claims == claims", "dyn(body) == 1", "timestamp('x') < request.time", "body.extra.a.b[3].c", "type(body) == type(claims)",
		`claims.tenant in ["a", "b"] && !(claims.tenant in ["a"])`, "size(body.items) > 3 ? body.rate < 1.5 : has(body.card.pan)", ".claims.sub == 'x'", "body.amount > 5 && body.amount < 3",
	} {
		f.Add(seed)
	}
	c := compiler(f, config())
	f.Fuzz(func(t *testing.T, expr string) {
		p, err := c.Compile(refund(), require(expr))
		if (p == nil) == (err == nil) {
			t.Fatal("neither a policy nor an error, or both")
		}
		if err != nil {
			if !strings.HasPrefix(err.Error(), "gatehouse.yaml:7:9: ") {
				t.Fatalf("an error without a place: %v", err)
			}
			return
		}
		authz.Analyse(p)
		authz.Matrix([]*authz.Policy{p})
		p.Effective()
		for _, in := range []*authz.Input{input(caller("manager")), {}, {Principal: caller()}} {
			if d := decide(p, in); !d.Allow && len(d.Reasons) == 0 {
				t.Fatalf("%q denies without a reason", expr)
			}
		}
	})
}

package authz_test

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/authz"
	"github.com/gatehouse-api/gatehouse/internal/networks"
)

// What gateways in the field have let through (each name is one of their
// defaults), and what may never be let through here.
func TestNeverFailsOpen(t *testing.T) {
	policyOf := func(a authz.Access) *authz.Policy { return compile(t, refund(), a) }
	for name, d := range map[string]gatehouse.Decision{
		"the zero policy denies":                          (&authz.Policy{}).Decide(authz.Caller, input(caller("manager"))),
		"no policy at all denies":                         (*authz.Policy)(nil).Decide(authz.Caller, input(caller("manager"))),
		"no input denies":                                 policyOf(require("true")).Decide(authz.Caller, nil),
		"an unknown phase denies":                         policyOf(require("true")).Decide(authz.Phase(9), input(caller())),
		"a deny rule that cannot be evaluated denies":     decide(policyOf(denyIf("claims.suspended == true")), input(caller("manager"))),
		"a require rule that cannot be evaluated denies":  decide(policyOf(require("claims.suspended == false")), input(caller("manager"))),
		"only deny rules and none true still needs grant": decide(policyOf(denyIf("false")), input(caller())),
		"a role nobody configured gives nothing":          decide(policyOf(authz.Access{Grant: []string{"orders:read"}}), input(caller("admin", "root", "*"))),
		"an anonymous caller with roles is still nobody": decide(policyOf(authz.Access{Grant: []string{"orders:read"}}),
			input(&gatehouse.Principal{Roles: []string{"manager"}})),
		"two empty tenants are not the same tenant": decide(policyOf(require("claims.tenant == body.tenant")), func() *authz.Input {
			in := input(caller())
			in.Principal.Claims["tenant"] = ""
			fields(in)["tenant"] = ""
			return in
		}()),
		"an absent subject owns nothing": decide(policyOf(require("path.customerId == principal.subject")), func() *authz.Input {
			in := input(caller())
			in.Principal.Subject, in.Params[0] = "", ""
			return in
		}()),
		"a missing claim is not equal to a missing claim": decide(policyOf(require("claims.acr == claims.azp")), input(caller())),
	} {
		t.Run(name, func(t *testing.T) {
			if d.Allow {
				t.Fatal("let through")
			}
			if len(d.Reasons) == 0 {
				t.Fatal("denied without a reason")
			}
		})
	}
}

func TestErrorDenies(t *testing.T) {
	tests := map[string]struct {
		expr   string
		change func(*authz.Input)
	}{
		"an absent claim":                        {expr: "claims.acr == 'mfa'"},
		"a null claim":                           {"claims.tenant == 't1'", func(in *authz.Input) { in.Principal.Claims["tenant"] = nil }},
		"a claim of another type":                {"claims.level != 5", func(in *authz.Input) { in.Principal.Claims["level"] = "3" }},
		"a claim list with another type inside":  {"!('c' in claims.teams)", func(in *authz.Input) { in.Principal.Claims["teams"] = []any{"a", int64(1)} }},
		"a claim number that is no integer":      {"claims.level != 5", func(in *authz.Input) { in.Principal.Claims["level"] = 3.5 }},
		"a claim number past what is exact":      {"claims.level != 5", func(in *authz.Input) { in.Principal.Claims["level"] = 1e300 }},
		"an absent parameter":                    {"query.limit < 100", func(in *authz.Input) { in.Params[1] = nil }},
		"a parameter of another type":            {"query.limit != 1", func(in *authz.Input) { in.Params[1] = "1" }},
		"too few parameters":                     {"path.customerId != 'x'", func(in *authz.Input) { in.Params = nil }},
		"an absent body field":                   {"body.rate < 0.5", nil},
		"a null body field":                      {"!has(body.rate) || body.rate < 0.5", func(in *authz.Input) { fields(in)["rate"] = nil }},
		"no body":                                {"body.amount != 0", func(in *authz.Input) { in.Body = nil }},
		"a body that is a list":                  {"body.amount != 0", func(in *authz.Input) { in.Body = []any{int64(1)} }},
		"a body field of another type":           {"body.amount != 0", func(in *authz.Input) { fields(in)["amount"] = "700" }},
		"a nested object that is a string":       {"body.card.pan != '4'", func(in *authz.Input) { fields(in)["card"] = "x" }},
		"no address":                             {"!request.address.in_cidr('192.0.2.0/24')", func(in *authz.Input) { in.Address = noAddress }},
		"no time":                                {"request.time > timestamp('2020-01-01T00:00:00Z')", func(in *authz.Input) { in.Time = noTime }},
		"division by zero":                       {"10 / (body.amount - 700) >= 0 || true == false", nil},
		"integer overflow":                       {"body.amount + 9223372036854775807 != 0", nil},
		"a conversion of text that is no number": {"int(path.customerId) >= 0", nil},
		"an index out of range":                  {"query.tags[5] != 'x'", nil},
		"an untyped value of another type":       {"body.extra > 3", func(in *authz.Input) { fields(in)["extra"] = "4" }},
		"a loop past its cost": {"body.items.all(i, body.items.all(j, i.qty + j.qty > 0))", func(in *authz.Input) {
			items := make([]any, 2000)
			for i := range items {
				items[i] = map[string]any{"qty": int64(1)}
			}
			fields(in)["items"] = items
		}},
		"a value of a Go type no decoder makes": {"body.extra != 1", func(in *authz.Input) { fields(in)["extra"] = struct{ X chan int }{} }},
	}
	for name, test := range tests {
		t.Run(name+" denies", func(t *testing.T) {
			for kind, access := range map[string]authz.Access{"require": require(test.expr), "deny": denyIf("!(" + test.expr + ")")} {
				in := input(caller("support"))
				if test.change != nil {
					test.change(in)
				}
				d := decide(compile(t, refund(), access), in)
				if d.Allow {
					t.Fatalf("%s: let through", kind)
				}
				if last := d.Reasons[len(d.Reasons)-1]; last.Effect != gatehouse.EffectError {
					t.Errorf("%s: effect %q, want error: %+v", kind, last.Effect, last)
				}
			}
		})
	}
}

func TestDecide(t *testing.T) {
	tests := map[string]struct {
		access authz.Access
		change func(*authz.Input)
		roles  []string
		allow  bool
	}{
		"a granted role is let through":               {authz.Access{Grant: []string{"orders:refund"}}, nil, []string{"support"}, true},
		"another role is not":                         {authz.Access{Grant: []string{"orders:refund"}}, nil, []string{"clerk"}, false},
		"an inherited grant counts":                   {authz.Access{Grant: []string{"orders:read"}}, nil, []string{"manager"}, true},
		"a star grants what begins like it":           {authz.Access{Grant: []string{"orders:delete"}}, nil, []string{"manager"}, true},
		"a star does not grant another noun":          {authz.Access{Grant: []string{"invoices:read"}}, nil, []string{"manager"}, false},
		"all grants are needed":                       {authz.Access{Grant: []string{"orders:read", "orders:refund"}}, nil, []string{"clerk"}, false},
		"two roles may share the grants":              {authz.Access{Grant: []string{"orders:read", "orders:refund"}}, nil, []string{"clerk", "support"}, true},
		"the owner is let through":                    {authz.Access{Own: map[string]string{"path.customerId": "claims.sub"}}, nil, nil, true},
		"another owner is not":                        {authz.Access{Own: map[string]string{"path.customerId": "claims.sub"}}, func(in *authz.Input) { in.Params[0] = "u2" }, nil, false},
		"unless lets its holders past the owner":      {authz.Access{Own: map[string]string{"path.customerId": "claims.sub"}, Unless: []string{"orders:any"}}, func(in *authz.Input) { in.Params[0] = "u2" }, []string{"manager"}, true},
		"any of several unless is enough":             {authz.Access{Own: map[string]string{"path.customerId": "claims.sub"}, Unless: []string{"orders:any", "orders:refund"}}, func(in *authz.Input) { in.Params[0] = "u2" }, []string{"support"}, true},
		"unless lets nobody else past":                {authz.Access{Own: map[string]string{"path.customerId": "claims.sub"}, Unless: []string{"orders:any"}}, func(in *authz.Input) { in.Params[0] = "u2" }, []string{"support"}, false},
		"role() knows inheritance":                    {require(`role("support")`), nil, []string{"manager"}, true},
		"role() does not inherit downwards":           {require(`role("manager")`), nil, []string{"support"}, false},
		"a v4-mapped address is the v4 address":       {require(`request.address.in_cidr("10.0.0.0/8")`), func(in *authz.Input) { in.Address = mappedAddress }, nil, true},
		"an optional parameter is tested with has":    {require(`!has(query.limit) || query.limit <= 10`), func(in *authz.Input) { in.Params[1] = nil }, nil, true},
		"a header is named with underscores":          {require(`header.x_region == "eu"`), nil, nil, true},
		"a header is named as it is, in backticks":    {require("header.`X-Region` == \"eu\""), nil, nil, true},
		"items of a list are typed":                   {require(`body.items.all(i, i.qty < 3)`), func(in *authz.Input) { fields(in)["items"] = []any{map[string]any{"qty": 2.0}} }, nil, true},
		"a number is compared with an integer":        {require(`body.rate < 3 && body.amount > 1.5`), func(in *authz.Input) { fields(in)["rate"] = 2.5 }, nil, true},
		"a number field takes integers":               {require(`body.rate < 2.5`), func(in *authz.Input) { fields(in)["rate"] = int64(2) }, nil, true},
		"a deny rule that is true wins over grants":   {denyIf(`body.amount > 500`), nil, []string{"manager"}, false},
		"a deny rule that is false changes nothing":   {denyIf(`body.amount > 900`), nil, []string{"manager"}, true},
		"time is a timestamp":                         {require(`request.time.getHours() < 13`), nil, nil, true},
		"a free-form claim object is read with index": {require(`claims.meta["k"] == "v"`), func(in *authz.Input) { in.Principal.Claims["meta"] = map[string]any{"k": "v"} }, nil, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			in := input(caller(test.roles...))
			if test.change != nil {
				test.change(in)
			}
			if d := decide(compile(t, refund(), test.access), in); d.Allow != test.allow {
				t.Fatalf("allow = %v, want %v: %+v", d.Allow, test.allow, d.Reasons)
			}
		})
	}
}

func TestAnAddressDoesNotLeaveAListByBeingInAnother(t *testing.T) {
	known, err := networks.Load(networks.Config{Lists: []networks.List{
		{Name: "bad", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
		{Name: "harmless", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	p := compile(t, refund(), denyIf(`"bad" in request.networks`))
	narrow := compile(t, refund(), require(`!has(request.network) || request.network == "harmless"`))
	for address, want := range map[string][2]bool{
		"10.2.0.1": {false, false}, "10.1.0.1": {false, true}, "::ffff:10.1.0.1": {false, true}, "192.0.2.1": {true, true},
	} {
		in := input(caller("manager"))
		in.Networks, in.Address = known, netip.MustParseAddr(address)
		if got := [2]bool{decide(p, in).Allow, decide(narrow, in).Allow}; got != want {
			t.Errorf("%s: %v, want %v", address, got, want)
		}
	}
	in := input(caller("manager"))
	if !decide(p, in).Allow {
		t.Error("where no networks are known, nobody is in one")
	}
}

func TestDocumentSecurity(t *testing.T) {
	oauth := func(scopes ...string) gatehouse.Requirement {
		return gatehouse.Requirement{{Scheme: "oauth", Kind: "oauth2", Scopes: scopes}}
	}
	key := gatehouse.Requirement{{Scheme: "key", Kind: "apiKey"}}
	tests := map[string]struct {
		security []gatehouse.Requirement
		who      *gatehouse.Principal
		allow    bool
	}{
		"the scope is there":                       {[]gatehouse.Requirement{oauth("orders:write")}, &gatehouse.Principal{Method: gatehouse.MethodJWT, Scopes: []string{"orders:write"}}, true},
		"the scope is missing":                     {[]gatehouse.Requirement{oauth("orders:write")}, &gatehouse.Principal{Method: gatehouse.MethodJWT, Scopes: []string{"orders:read"}}, false},
		"all scopes of a requirement are needed":   {[]gatehouse.Requirement{oauth("a", "b")}, &gatehouse.Principal{Method: gatehouse.MethodJWT, Scopes: []string{"a"}}, false},
		"scopes of two alternatives do not add up": {[]gatehouse.Requirement{oauth("a", "b"), oauth("c", "d")}, &gatehouse.Principal{Method: gatehouse.MethodJWT, Scopes: []string{"a", "d"}}, false},
		"a key does not serve oauth2":              {[]gatehouse.Requirement{oauth("a")}, &gatehouse.Principal{Method: gatehouse.MethodAPIKey, Scopes: []string{"a"}}, false},
		"the second alternative serves":            {[]gatehouse.Requirement{oauth("a"), key}, &gatehouse.Principal{Method: gatehouse.MethodAPIKey}, true},
		"nobody is refused":                        {[]gatehouse.Requirement{key}, nil, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			op := refund()
			op.Security = test.security
			p := compile(t, op, authz.Access{})
			d := decide(p, &authz.Input{Principal: test.who})
			if d.Allow != test.allow {
				t.Fatalf("allow = %v: %+v", d.Allow, d.Reasons)
			}
		})
	}

	t.Run("the config says which method serves a scheme", func(t *testing.T) {
		op := refund()
		op.Security = []gatehouse.Requirement{oauth("a")}
		p := compile(t, op, authz.Access{Schemes: map[string][]gatehouse.Method{"oauth": {gatehouse.MethodMTLS}}})
		for method, allow := range map[gatehouse.Method]bool{gatehouse.MethodMTLS: true, gatehouse.MethodJWT: false} {
			if d := decide(p, &authz.Input{Principal: &gatehouse.Principal{Method: method, Scopes: []string{"a"}}}); d.Allow != allow {
				t.Errorf("%s: allow = %v", method, d.Allow)
			}
		}
	})
	t.Run("an issuer serves its own scheme's scopes only", func(t *testing.T) {
		op := refund()
		partner := gatehouse.Requirement{{Scheme: "partner", Kind: "oauth2", Scopes: []string{"partner:refund"}}}
		op.Security = []gatehouse.Requirement{oauth("admin"), partner, slices.Concat(oauth("admin"), partner)}
		p := compile(t, op, authz.Access{Issuers: map[string][]string{"oauth": {"staff"}, "partner": {"shops", "banks"}}})
		for _, c := range []struct {
			issuer, scope string
			allow         bool
		}{
			{"staff", "admin", true},
			{"shops", "partner:refund", true},
			{"banks", "partner:refund", true},
			{"shops", "admin", false},
			{"staff", "partner:refund", false},
			{"other", "admin", false},
		} {
			who := &gatehouse.Principal{Method: gatehouse.MethodJWT, Issuer: c.issuer, Scopes: []string{c.scope}}
			if d := decide(p, &authz.Input{Principal: who}); d.Allow != c.allow {
				t.Errorf("%s with %s: allow = %v: %+v", c.issuer, c.scope, d.Allow, d.Reasons)
			}
		}
		unbound := compile(t, op, authz.Access{Issuers: map[string][]string{"partner": {"shops"}}})
		if d := decide(unbound, &authz.Input{Principal: &gatehouse.Principal{Method: gatehouse.MethodJWT, Issuer: "any", Scopes: []string{"admin"}}}); !d.Allow {
			t.Errorf("a scheme that names no issuer takes any: %+v", d.Reasons)
		}
	})
	t.Run("the problem names the scopes of the challenge", func(t *testing.T) {
		op := refund()
		op.Security = []gatehouse.Requirement{oauth("orders:write")}
		p := compile(t, op, authz.Access{})
		who := &gatehouse.Principal{Method: gatehouse.MethodJWT}
		problem := p.Problem(p.Decide(authz.Caller, &authz.Input{Principal: who}), who)
		if problem.Kind != gatehouse.Forbidden || problem.Reason != "insufficient_scope" || len(problem.Challenges) != 1 ||
			problem.Challenges[0] != `Bearer error="insufficient_scope", scope="orders:write"` {
			t.Fatalf("%+v", problem)
		}
	})
}

func TestPublic(t *testing.T) {
	cfg := config()
	cfg.Guardrails.Deny = []authz.Rule{{ID: "office", Expr: `!request.address.in_cidr("10.0.0.0/8")`, Because: "Only from the office."}}
	p, err := compiler(t, cfg).Compile(refund(), authz.Access{Public: true})
	if err != nil {
		t.Fatal(err)
	}
	if d := decide(p, input(nil)); !d.Allow {
		t.Fatalf("nobody is refused at a public operation: %+v", d.Reasons)
	}
	in := input(nil)
	in.Address = outsideAddress
	if d := decide(p, in); d.Allow {
		t.Fatal("a public operation slips past a guardrail")
	}
}

func TestExplanation(t *testing.T) {
	a := authz.Access{
		Grant: []string{"orders:refund"},
		Rules: authz.Rules{Require: []authz.Rule{
			{ID: "amount", Expr: `body.amount <= 500 || (role("manager") && claims.acr == "mfa")`, Because: "Large refunds need a manager."},
			{ID: "open", Expr: `body.status == "paid"`, Because: "Only paid orders."},
			{ID: "card", Expr: `body.card.pan.startsWith("4")`},
			{ID: "session", Expr: `cookie.session == "x" || body.amount < 0`},
		}},
	}
	in := input(caller("support"))
	in.Principal.Claims["acr"] = "mfa"
	fields(in)["card"] = map[string]any{"pan": "5500000000000004"}
	d := decide(compile(t, refund(), a), in)

	amount := reason(t, d, "orders/refundOrder/require/amount")
	want := gatehouse.Reason{
		Rule: "orders/refundOrder/require/amount", Effect: gatehouse.EffectDeny, Text: "Large refunds need a manager.",
		Saw: `body.amount = 700, claims.acr = "mfa"`, Needed: `body.amount <= 500 or role("manager")`,
	}
	if amount != want {
		t.Errorf("got  %+v\nwant %+v", amount, want)
	}
	reason(t, d, "orders/refundOrder/require/open")
	for _, r := range d.Reasons {
		if strings.Contains(r.Saw+r.Text+r.Needed, "5500000000000004") || strings.Contains(r.Saw+r.Text+r.Needed, "s3cr3t") {
			t.Errorf("a secret is shown: %+v", r)
		}
	}

	t.Run("an error about a secret does not quote it", func(t *testing.T) {
		d := decide(compile(t, refund(), require(`int(body.card.pan) > 0`)), func() *authz.Input {
			in := input(caller())
			fields(in)["card"] = map[string]any{"pan": "hunter2"}
			return in
		}())
		if text := reason(t, d, "orders/refundOrder/require/r"); strings.Contains(text.Text+text.Saw, "hunter2") || text.Effect != gatehouse.EffectError {
			t.Fatalf("%+v", text)
		}
	})
	t.Run("names that tell of secrets", func(t *testing.T) {
		op := refund()
		op.Params[3] = gatehouse.Param{In: "header", Name: "X-Api-Key", Shape: shape(gatehouse.StringShape)}
		op.Params[0].Name = "companyId"
		in := input(caller())
		in.Params[3] = "k-12345"
		p, err := compiler(t, config()).Compile(op, require("header.x_api_key == 'x' && path.companyId == 'x'"))
		if err != nil {
			t.Fatal(err)
		}
		if saw := reason(t, decide(p, in), "orders/refundOrder/require/r").Saw; saw != `header.x_api_key = [secret], path.companyId = "u1"` {
			t.Fatal(saw)
		}
	})
	t.Run("a long value is cut", func(t *testing.T) {
		in := input(caller())
		in.Params[0] = strings.Repeat("x", 5000)
		d := decide(compile(t, refund(), require(`path.customerId == claims.sub`)), in)
		if saw := reason(t, d, "orders/refundOrder/require/r").Saw; len(saw) > 200 {
			t.Fatalf("%d bytes", len(saw))
		}
	})
	t.Run("the caller is told nothing of it", func(t *testing.T) {
		problem := compile(t, refund(), a).Problem(d, in.Principal)
		if problem.Kind != gatehouse.Forbidden || problem.Reason != "forbidden" || strings.Contains(problem.Detail, "amount") {
			t.Fatalf("%+v", problem)
		}
	})
}

// Whatever is added to a policy, it never lets through what the smaller one refused.
func TestAddingNeverWidens(t *testing.T) {
	exprs := []string{
		"true", "false", `role("manager")`, `role("support")`, "body.amount <= 500", "body.amount > 100", "claims.suspended",
		`claims.tenant == "t1"`, "path.customerId == claims.sub", "query.limit > 5", `claims.acr == "mfa"`, "has(body.rate)",
	}
	var inputs []*authz.Input
	for _, roles := range [][]string{nil, {"support"}, {"manager"}, {"clerk", "nobody"}} {
		for _, amount := range []int64{50, 300, 700} {
			for _, owner := range []string{"u1", "u2"} {
				in := input(caller(roles...))
				in.Params = []any{owner, nil, nil, nil, nil}
				in.Body = map[string]any{"amount": amount}
				inputs = append(inputs, in)
				suspended := *in
				who := *in.Principal
				who.Claims = maps.Clone(who.Claims)
				who.Claims["suspended"] = true
				suspended.Principal = &who
				inputs = append(inputs, &suspended)
			}
		}
	}
	random := newRandom(7)
	pick := func() authz.Rule { return authz.Rule{ID: "x", Expr: exprs[random.next(len(exprs))]} }
	for range 60 {
		base := authz.Access{Rules: authz.Rules{Require: []authz.Rule{pick()}}}
		if random.next(2) == 0 {
			base.Grant = []string{"orders:read"}
		}
		more, cfg := base, config()
		switch random.next(6) {
		case 0:
			more.Deny = []authz.Rule{pick()}
		case 1:
			more.API.Require = []authz.Rule{pick()}
		case 2:
			more.API.Deny = []authz.Rule{pick()}
		case 3:
			more.Grant = append([]string{"orders:refund"}, more.Grant...)
		case 4:
			more.Own = map[string]string{"path.customerId": "claims.sub"}
		case 5:
			cfg.Guardrails.Require = []authz.Rule{pick()}
		}
		small := compile(t, refund(), base)
		large, err := compiler(t, cfg).Compile(refund(), more)
		if err != nil {
			t.Fatal(err)
		}
		for _, in := range inputs {
			if !decide(small, in).Allow && decide(large, in).Allow {
				t.Fatalf("%+v widened %+v for %+v", more, base, in)
			}
		}
	}
}

func TestPhases(t *testing.T) {
	p := compile(t, refund(), authz.Access{Rules: authz.Rules{Require: []authz.Rule{{ID: "a", Expr: `path.customerId == claims.sub`}}}})
	if !p.Has(authz.Head) || p.Has(authz.Body) || !p.Has(authz.Caller) {
		t.Error("a rule about the path belongs to the head")
	}
	if !compile(t, refund(), require(`body.amount > 1`)).Has(authz.Body) {
		t.Error("a rule about the body needs it")
	}
	if d := p.Decide(authz.Body, input(caller())); !d.Allow {
		t.Error("a phase without rules denies")
	}
}

// Explanations are planned at the first denial, while other requests run.
func TestConcurrentDenialsExplainAlike(t *testing.T) {
	p := compile(t, refund(), authz.Access{Rules: authz.Rules{Require: []authz.Rule{
		{ID: "a", Expr: `body.card.pan == "1" || body.amount < 0`}, {ID: "b", Expr: `body.items.all(i, i.qty < 0)`}, {ID: "c", Expr: `claims.level > 5`},
	}}})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				d := p.Decide(authz.Body, input(caller()))
				if d.Allow || len(d.Reasons) != 2 || d.Reasons[1].Effect != gatehouse.EffectError {
					t.Errorf("%+v", d)
				}
			}
		})
	}
	wg.Wait()
}

func TestLoopsOfOrdinarySizeAreAffordable(t *testing.T) {
	items := make([]any, 2000)
	for i := range items {
		items[i] = map[string]any{"qty": int64(1)}
	}
	in := input(caller())
	fields(in)["items"] = items
	if d := decide(compile(t, refund(), require("body.items.all(i, i.qty < 3)")), in); !d.Allow {
		t.Fatalf("%+v", d.Reasons)
	}
}

func TestBodyFieldsAreThoseTheRulesName(t *testing.T) {
	for expr, want := range map[string][]string{
		`body.amount > 1`:                                  {"amount"},
		`body.amount > 1 && has(body.status)`:              {"amount", "status"},
		`body.status == "open" || body.status == "closed"`: {"status"},
		`claims.sub != ""`:                                 {},
	} {
		got := compile(t, refund(), authz.Access{Rules: authz.Rules{Require: []authz.Rule{{ID: "r", Expr: expr}}}}).BodyFields()
		if !slices.Equal(got, want) || got == nil {
			t.Errorf("%s: %v, want %v", expr, got, want)
		}
	}
	var none *authz.Policy
	if none.BodyFields() != nil {
		t.Error("no policy names no fields: all of them it must be")
	}
}

// A parameter that is left out by mistake is absent to a rule that denies by it.
func TestParamsAreThoseAnyRuleLooksAt(t *testing.T) {
	names := []string{"path.customerId", "query.limit", "query.tags", "header.X-Region", "cookie.session"}
	for _, c := range []struct {
		access authz.Access
		want   []string
	}{
		{require(`claims.sub != ""`), nil},
		{authz.Access{Own: map[string]string{"path.customerId": "claims.sub"}}, names[:1]},
		{require(`!has(query.limit) || query.limit <= 50`), names[1:2]},
		{require(`!has(query.limit)`), names[1:2]},
		{require(`query.tags.all(t, t != "x")`), names[2:3]},
		{require(`header.x_region == "eu"`), names[3:4]},
		{require(`cookie.session != ""`), names[4:]},
		{require(`path.customerId == "7" && body.amount > query.limit`), names[:2]},
		{authz.Access{Grant: []string{"orders:refund"}, Rules: authz.Rules{Deny: []authz.Rule{{ID: "d", Expr: `has(query.limit) && body.amount > 1`, Because: "b"}}}}, names[1:2]},
	} {
		var got []string
		for i, looked := range compile(t, refund(), c.access).Params() {
			if looked {
				got = append(got, names[i])
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.access, got, c.want)
		}
	}
	var none *authz.Policy
	if none.Params() != nil || (&authz.Policy{}).Params() != nil {
		t.Error("no policy names no parameters: all of them it must be")
	}
}

package authz_test

import (
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"testing"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/authz"
)

func (r *random) one(of ...string) string { return of[r.next(len(of))] }

// rule makes a rule of every construct that has a quick way, and of some that have
// none, nested so deep.
func (r *random) rule(deep int) string {
	if deep > 0 && r.next(3) > 0 {
		a, b := r.rule(deep-1), r.rule(deep-1)
		switch r.next(6) {
		case 0, 1:
			return fmt.Sprintf("(%s && %s)", a, b)
		case 2, 3:
			return fmt.Sprintf("(%s || %s)", a, b)
		case 4:
			return "!" + "(" + a + ")"
		}
		return fmt.Sprintf("(%s %s %s)", a, r.one("==", "!="), b)
	}
	order := r.one("==", "!=", "<", "<=", ">", ">=")
	switch r.next(10) {
	case 0, 1:
		return fmt.Sprintf("%s %s %s", r.text(), order, r.text())
	case 2:
		return fmt.Sprintf("%s %s %s", r.number(), order, r.number())
	case 3:
		return fmt.Sprintf("%s %s %s", r.one("query.limit", "body.amount", "claims.level"), order, r.number())
	case 4:
		return fmt.Sprintf("%s in %s", r.text(), r.one(`["u1", "t1", "eu"]`, "[]", "principal.roles", "principal.scopes", "claims.teams", "claims.amr", "query.tags", `["u1", claims.sub]`))
	case 5:
		return fmt.Sprintf("%s.%s(%s)", r.text(), r.one("startsWith", "endsWith", "contains"), r.text())
	case 6:
		return "has(" + r.one("query.limit", "claims.acr", "claims.sub", "claims.suspended", "body.rate", "body.card", "body.card.pan", "body.items", "principal.tenant", "header.x_region", "request.address", "principal.roles", "body.extra") + ")"
	case 7:
		return r.one(`role("support")`, `role("manager")`, `grant("orders:refund")`, "claims.suspended", "request.tls", "principal.anonymous", "true", "false",
			`request.address.in_cidr("10.0.0.0/8")`, `request.address.in_cidr("::ffff:0:0/96")`, `request.address.in_cidr("2001:db8::/32")`)
	case 8:
		return r.one("claims.suspended", "request.tls", "principal.anonymous", "true") + r.one(" == ", " != ") + r.one("claims.suspended", "true", "false", `role("clerk")`)
	}
	return r.one("body.extra == 3", "claims.free == claims.sub", `claims.teams.exists(t, t == "a")`, "body.items.all(i, i.qty < 3)", "size(query.tags) > 1",
		`(claims.suspended ? path.customerId : claims.sub) == "u1"`, `claims.meta["k"] == "v"`, "query.limit + 1 < 12", `request.time.getHours() < 13`, `body.tenant.matches("^t")`)
}

func (r *random) text() string {
	return r.one(`"u1"`, `"t1"`, `""`, `"e"`, `"10.1.2.3"`, "path.customerId", "path.customerId", "claims.sub", "claims.sub", "claims.tenant", "claims.acr", "claims.scope",
		"principal.subject", "principal.tenant", "principal.client", "principal.method", "header.x_region", "cookie.session", "body.tenant", "body.status",
		"body.card.pan", "request.method", "request.host", "request.path", "request.address")
}

func (r *random) number() string {
	return r.one("query.limit", "body.amount", "claims.level", "body.rate", "claims.exp", "0", "10", "700", "-1", "0.5", "10.0", "1e300", "9007199254740993", "9007199254740992.0", "9223372036854775807")
}

// value is one that a decoder makes, rightly or not, or any other.
func (r *random) value() any {
	return []any{
		nil, nil, "u1", "u1", "t1", "eu", "", "a", "e", int64(10), int64(700), int64(-1), int64(1<<53 + 1), int64(math.MaxInt64), 10, 10.0, 0.5, 1e300, float64(1 << 53),
		math.NaN(), math.Inf(1), json.Number("10"), json.Number("0.5"), json.Number("1e999"), json.Number("x"), json.Number("9007199254740993"), true, false,
		[]any{},
		[]any{"a", "u1"},
		[]any{"a", int64(1)},
		[]any{nil},
		[]string{"t1"},
		[]string(nil),
		map[string]any{},
		map[string]any{"pan": "u1"},
		map[string]any{"pan": int64(4)},
		map[string]any{"k": "v"},
		struct{ X int }{1},
	}[r.next(39)]
}

func (r *random) request() *authz.Input {
	in := input(caller("support"))
	if r.next(8) == 0 {
		in.Principal = []*gatehouse.Principal{nil, {}, {Method: gatehouse.MethodAPIKey, Subject: "u1", Roles: []string{"manager"}}}[r.next(3)]
	} else {
		in.Principal.Client, in.Principal.Scopes = r.one("", "u1"), [][]string{nil, {"u1"}, {"a", "t1"}}[r.next(3)]
		for range r.next(6) {
			in.Principal.Claims[r.one("sub", "tenant", "acr", "scope", "level", "exp", "suspended", "teams", "amr", "meta", "free")] = r.value()
		}
	}
	for range r.next(3) {
		in.Params[r.next(len(in.Params))] = r.value()
	}
	for range r.next(5) {
		fields(in)[r.one("amount", "card", "extra", "items", "rate", "status", "tenant")] = r.value()
	}
	switch r.next(8) {
	case 0:
		in.Params = in.Params[:r.next(len(in.Params))]
	case 1:
		in.Body = r.value()
	case 2:
		in.Method, in.Host, in.Path, in.TLS, in.Time = "", "", "", false, noTime
	}
	in.Address = []netip.Addr{in.Address, in.Address, noAddress, mappedAddress, outsideAddress, netip.MustParseAddr("2001:db8::1%eth0"), netip.MustParseAddr("fe80::1%10.1.2.3")}[r.next(7)]
	return in
}

// agree asks one random rule about random requests in both ways, and gives how
// often the quick way was sure.
func agree(t testing.TB, seed uint64) (asked, sure int) {
	t.Helper()
	r := newRandom(seed)
	expr := r.rule(3)
	p, err := compiler(t, config()).Compile(refund(), require(expr))
	if err != nil {
		return 0, 0 // too long, or a comparison of what cannot be compared
	}
	for range 20 {
		in := r.request()
		for _, a := range authz.Answers(p, in) {
			if asked++; a.Sure {
				sure++
			}
			if a.Sure && !a.Agrees {
				t.Fatalf("%s is said to be %v, the evaluator says otherwise, about %+v of %+v", a.Rule, a.Value, in, in.Principal)
			}
		}
	}
	return asked, sure
}

// The quick way must be sure of nothing but what the evaluator says: an error, or
// a value that is missing or of another type, is the evaluator's, and denies.
func TestTheQuickWayAgreesWithTheEvaluator(t *testing.T) {
	asked, sure := 0, 0
	for seed := range uint64(1500) {
		a, s := agree(t, seed)
		asked, sure = asked+a, sure+s
	}
	if asked < 15_000 || sure < asked/4 {
		t.Errorf("of %d questions only %d were answered quickly: this test shows nothing", asked, sure)
	}
}

func FuzzTheQuickWay(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { agree(t, seed) })
}

func TestAllocsOfRulesAsPeopleWriteThem(t *testing.T) {
	for _, expr := range []string{
		`path.customerId == claims.sub`, `query.limit <= 50`, `!has(query.limit) || query.limit <= 50`, `principal.tenant == "t1"`, `body.tenant == claims.tenant`,
		`"support" in principal.roles`, `claims.tenant in ["t1", "t2"]`, `request.address.in_cidr("10.0.0.0/8")`, `body.amount <= 700 || (role("manager") && claims.acr == "mfa")`,
		`request.path.startsWith("/v1/") && request.tls`, `body.rate < 3 || body.amount > 1.5`, `claims.level >= 3 && !principal.anonymous`, `header.x_region != "us"`,
	} {
		p := compile(t, refund(), require(expr))
		in := input(caller("support"))
		fields(in)["rate"] = 2.5
		for _, a := range authz.Answers(p, in) {
			if !a.Sure || !a.Agrees {
				t.Errorf("%s: %+v", a.Rule, a)
			}
		}
		if raceEnabled {
			continue
		}
		if n := testing.AllocsPerRun(100, func() { decide(p, in) }); n > 0 {
			t.Errorf("%s: %v allocations", expr, n)
		}
	}
}

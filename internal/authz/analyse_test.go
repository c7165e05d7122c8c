package authz_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/authz"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestAnalyse(t *testing.T) {
	const never, always = "can never be true", "is always true"
	tests := map[string]struct{ expr, want string }{
		"a constant that is true":                       {"1 < 2", always},
		"a constant that is false":                      {"false", never},
		"a range without anything in it":                {"body.amount > 5 && body.amount < 3", never},
		"a range without an integer in it":              {"body.amount > 2 && body.amount < 3", never},
		"the same range has numbers in it":              {"body.rate > 2.0 && body.rate < 3.0", ""},
		"a range that covers everything":                {"body.amount > 5 || body.amount <= 5", always},
		"a range with a hole is fine":                   {"body.amount > 5 || body.amount < 5", ""},
		"literals may stand on the left":                {"5 < body.amount && 3 > body.amount", never},
		"two values at once":                            {`claims.tenant == "a" && claims.tenant == "b"`, never},
		"a value that is none of them":                  {`claims.tenant == "a" && !(claims.tenant in ["a", "b"])`, never},
		"something and its opposite":                    {`claims.suspended && !claims.suspended`, never},
		"something or its opposite":                     {`role("clerk") || !role("clerk")`, always},
		"a manager who is no support":                   {`role("manager") && !role("support")`, never},
		"a support who is no manager":                   {`role("support") && !role("manager")`, ""},
		"a value the enum does not have":                {`body.status == "refunded"`, never},
		"every value the enum has":                      {`body.status == "open" || body.status == "paid"`, always},
		"none of the values the enum has":               {`body.status != "open" && body.status != "paid"`, never},
		"a required field that is tested for":           {`has(body.amount) || claims.suspended`, always},
		"an optional field that is tested for":          {`has(body.rate)`, ""},
		"a condition inside a choice":                   {`claims.suspended ? body.amount > 5 && body.amount < 3 : false`, never},
		"an empty list":                                 {`claims.tenant in []`, never},
		"not in an empty list":                          {`!(claims.tenant in [])`, always},
		"an ordinary rule":                              {`body.amount <= 500 || (role("manager") && claims.acr == "mfa")`, ""},
		"a bool against a literal and its opposite":     {`claims.suspended == true && claims.suspended == false`, never},
		"huge integers are left alone":                  {`body.amount == 9007199254740993 && body.amount != 9007199254740992`, ""},
		"too many alternatives are left alone":          {strings.Repeat("(body.amount > 1 || body.amount < 0) && ", 12) + "body.amount == 7", ""},
		"a header's value that the enum does not have":  {`header.x_region == "asia" || body.amount > 1`, `header.x_region is never "asia"; the schema has "eu", "us"`},
		"a header's value in a list, not in the schema": {`header.x_region in ["eu", "apac"]`, `is never "apac"`},
		"a range over the length of a list":             {`size(body.items) > 3 && size(body.items) < 2`, never},
		"equality of different fields is left alone":    {`body.tenant == claims.tenant && body.tenant != principal.tenant`, ""},
		"an order of strings is left alone":             {`claims.tenant > "b" && claims.tenant < "a"`, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var texts []string
			for _, w := range authz.Analyse(compile(t, refund(), require(test.expr))) {
				if w.Place != "gatehouse.yaml:7:9" || w.Rule != "orders/refundOrder/require/r" {
					t.Errorf("%+v", w)
				}
				texts = append(texts, w.Text)
			}
			got := strings.Join(texts, "; ")
			if (test.want == "") != (got == "") || !strings.Contains(got, test.want) {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
	t.Run("a deny rule that never denies", func(t *testing.T) {
		w := authz.Analyse(compile(t, refund(), denyIf(`body.status == "refunded"`)))
		if len(w) != 2 || !strings.Contains(w[1].Text, "so it never denies") {
			t.Fatalf("%+v", w)
		}
	})
	t.Run("a grant that no role gives", func(t *testing.T) {
		w := authz.Analyse(compile(t, refund(), authz.Access{Grant: []string{"invoices:read"}, Place: "gatehouse.yaml:3:3"}))
		if len(w) != 1 || w[0].Place != "gatehouse.yaml:3:3" || !strings.Contains(w[0].Text, "nobody may call refundOrder") {
			t.Fatalf("%+v", w)
		}
	})
}

func TestAnalyseNamesUnservedSecurity(t *testing.T) {
	op := refund()
	op.Security = []gatehouse.Requirement{{{Scheme: "basic", Kind: "http:basic"}}, {{Scheme: "oauth", Kind: "oauth2"}}}
	w := authz.Analyse(compile(t, op, authz.Access{}))
	if len(w) != 1 || w[0].Rule != "scope" || !strings.Contains(w[0].Text, `serves scheme "basic"`) {
		t.Fatalf("%+v", w)
	}
}

// What analysis calls never true is never true, and so on: it is tried with
// every combination of a few values.
func TestAnalysisIsRight(t *testing.T) {
	atoms := []string{
		"body.amount > 1", "body.amount < 1", "body.amount == 1", "body.amount != 1", "body.amount >= 2", `body.status == "open"`, `body.status != "paid"`,
		`body.status in ["open"]`, `role("manager")`, `role("support")`, `claims.suspended`, "claims.suspended == false", "body.rate > 0.5", "body.rate <= 0.5",
	}
	var inputs []*authz.Input
	for _, amount := range []int64{-1, 0, 1, 2, 3} {
		for _, status := range []string{"open", "paid"} {
			for _, roles := range [][]string{nil, {"support"}, {"manager"}} {
				for _, suspended := range []bool{true, false} {
					for _, rate := range []float64{0.4, 0.5, 0.6} {
						in := input(caller(roles...))
						in.Principal.Claims["suspended"] = suspended
						in.Body = map[string]any{"amount": amount, "status": status, "rate": rate}
						inputs = append(inputs, in)
					}
				}
			}
		}
	}
	r := newRandom(11)
	var build func(depth int) string
	build = func(depth int) string {
		if depth == 0 || r.next(4) == 0 {
			return atoms[r.next(len(atoms))]
		}
		switch r.next(4) {
		case 0:
			return "!(" + build(depth-1) + ")"
		case 1:
			return "(" + build(depth-1) + " || " + build(depth-1) + ")"
		case 2:
			return "(" + build(depth-1) + " ? " + build(depth-1) + " : " + build(depth-1) + ")"
		}
		return "(" + build(depth-1) + " && " + build(depth-1) + ")"
	}
	claimed, c := 0, compiler(t, config())
	for range 300 {
		expr := build(3)
		p, err := c.Compile(refund(), require(expr))
		if err != nil {
			t.Fatal(err)
		}
		trueSeen, falseSeen := false, false
		for _, in := range inputs {
			if decide(p, in).Allow {
				trueSeen = true
			} else {
				falseSeen = true
			}
		}
		for _, w := range authz.Analyse(p) {
			claimed++
			if strings.Contains(w.Text, "never be true") && trueSeen || strings.Contains(w.Text, "always true") && falseSeen {
				t.Errorf("%s: %s", expr, w.Text)
			}
		}
	}
	if claimed < 10 {
		t.Errorf("only %d claims: the test shows nothing", claimed)
	}
}

// A cell of the matrix is a claim about every request of that role.
func TestMatrixIsRight(t *testing.T) {
	atoms := []string{
		`role("manager")`, `role("support")`, `grant("orders:delete")`, "principal.anonymous", "claims.suspended", "claims.level > 2",
		"body.amount > 1", `path.customerId == claims.sub`, `"clerk" in principal.roles`, "has(claims.acr)", "true", "false", `principal.subject == "u1"`,
	}
	r := newRandom(23)
	var build func(depth int) string
	build = func(depth int) string {
		if depth == 0 {
			return atoms[r.next(len(atoms))]
		}
		switch r.next(5) {
		case 0:
			return "!(" + build(depth-1) + ")"
		case 1:
			return "(" + build(depth-1) + " || " + build(depth-1) + ")"
		case 2:
			return "(" + build(depth-1) + " ? " + build(depth-1) + " : " + build(depth-1) + ")"
		case 3:
			return atoms[r.next(len(atoms))]
		}
		return "(" + build(depth-1) + " && " + build(depth-1) + ")"
	}
	verdicts, c := map[authz.Verdict]int{}, compiler(t, config())
	for i := range 150 {
		access := authz.Access{Rules: authz.Rules{Require: []authz.Rule{{ID: "r", Expr: build(2)}}, Deny: []authz.Rule{{ID: "d", Expr: build(1)}}}}
		access.Public = i%3 == 0
		p, err := c.Compile(refund(), access)
		if err != nil {
			t.Fatal(err)
		}
		for _, cell := range authz.Matrix([]*authz.Policy{p})[0].Cells {
			verdicts[cell.Verdict]++
			for variant := range 16 {
				in := input(nil)
				if cell.Role != authz.Anonymous {
					in.Principal = caller()
					if cell.Role != authz.NoRole {
						in.Principal.Roles = []string{cell.Role}
					}
					if variant&8 == 0 {
						in.Principal.Claims["suspended"] = variant&1 == 0
					}
					in.Principal.Claims["level"] = int64(variant & 3)
				}
				fields(in)["amount"] = int64(variant & 2)
				if variant&4 == 0 {
					in.Params[0] = "u2"
				}
				d := decide(p, in)
				if cell.Verdict == authz.Deny && d.Allow || cell.Verdict == authz.Allow && !d.Allow {
					t.Fatalf("%+v\n%s says %s (%s), but allow is %v: %+v", access, cell.Role, cell.Verdict, cell.If, d.Allow, d.Reasons)
				}
			}
		}
	}
	for _, v := range []authz.Verdict{authz.Allow, authz.Deny, authz.AllowIf} {
		if verdicts[v] < 20 {
			t.Errorf("only %d cells say %s: the test shows little", verdicts[v], v)
		}
	}
}

// shop is a small API for the golden files.
func shop(t *testing.T) []*authz.Policy {
	t.Helper()
	cfg := config()
	cfg.Guardrails = authz.Rules{
		Deny:    []authz.Rule{{ID: "suspended", Expr: "has(claims.suspended) && claims.suspended", Because: "The account is suspended.", Place: "gatehouse.yaml:9:5"}},
		Require: []authz.Rule{{ID: "support-inside", Expr: `!role("support") || request.address.in_cidr("10.0.0.0/8")`, Because: "Support works from the office.", Place: "gatehouse.yaml:10:5"}},
	}
	c := compiler(t, cfg)
	oauth := []gatehouse.Requirement{{{Scheme: "oauth", Kind: "oauth2", Scopes: []string{"orders:write"}}}}
	either := append(oauth[:1:1], gatehouse.Requirement{{Scheme: "key", Kind: "apiKey"}})
	var out []*authz.Policy
	for _, o := range []struct {
		id       string
		security []gatehouse.Requirement
		access   authz.Access
	}{
		{"health", nil, authz.Access{Public: true}},
		{"listOrders", nil, authz.Access{Grant: []string{"orders:read"}}},
		{"getCustomer", nil, authz.Access{Own: map[string]string{"path.customerId": "claims.sub"}, Unless: []string{"orders:any"}}},
		{"deleteOrder", oauth, authz.Access{Grant: []string{"orders:delete"}}},
		{"putOrder", either, authz.Access{}},
		{"refundOrder", oauth, authz.Access{
			Grant: []string{"orders:refund"},
			Rules: authz.Rules{
				Require: []authz.Rule{{ID: "amount", Expr: `body.amount <= 500 || (role("manager") && claims.acr == "mfa")`, Because: "Large refunds need a manager.", Place: "gatehouse.yaml:30:7"}},
				Deny:    []authz.Rule{{ID: "clerks", Expr: `role("clerk")`, Place: "gatehouse.yaml:31:7"}},
			},
			API: authz.Rules{Require: []authz.Rule{{ID: "tenant", Expr: `claims.tenant == body.tenant`, Because: "Own tenant only.", Place: "gatehouse.yaml:20:3"}}},
		}},
	} {
		op := refund()
		op.ID, op.Security, o.access.Place = o.id, o.security, "gatehouse.yaml:"+o.id
		p, err := c.Compile(op, o.access)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

func TestMatrix(t *testing.T) {
	var b bytes.Buffer
	for _, row := range authz.Matrix(shop(t)) {
		fmt.Fprintf(&b, "%s.%s\n", row.API, row.Operation)
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		for _, c := range row.Cells {
			fmt.Fprintf(w, "  %s\t%s\t%s\n", c.Role, c.Verdict, c.If)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "matrix.golden", b.Bytes())
}

func TestEffective(t *testing.T) {
	var b bytes.Buffer
	policies := shop(t)
	for _, l := range policies[len(policies)-1].Effective() {
		fmt.Fprintf(&b, "%s | %s | %s | %s | %s | %s | %s\n", l.Layer, l.Kind, l.ID, []string{"caller", "head", "body"}[l.Phase], l.Text, l.Because, l.Place)
	}
	golden(t, "effective.golden", b.Bytes())
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (run with -update to accept):\n%s", path, got)
	}
}

package authz_test

import (
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/authz"
)

var benched = map[string]authz.Access{
	"grant":      {Grant: []string{"orders:refund"}},
	"own":        {Own: map[string]string{"path.customerId": "claims.sub"}},
	"own_unless": {Own: map[string]string{"path.customerId": "claims.sub"}, Unless: []string{"orders:any"}},
	"body":       require(`body.amount <= 700 || (role("manager") && claims.acr == "mfa")`),
}

func BenchmarkDecide(b *testing.B) {
	for name, access := range benched {
		b.Run(name, func(b *testing.B) {
			p := compile(b, refund(), access)
			in := input(caller("support"))
			b.ReportAllocs()
			for b.Loop() {
				if d := decide(p, in); !d.Allow {
					b.Fatal("denied")
				}
			}
		})
	}
}

// A loop up to its cost is the most a request can make a rule do.
func BenchmarkLoopPastItsCost(b *testing.B) {
	p := compile(b, refund(), require("body.items.all(i, i.qty < 3)"))
	items := make([]any, 100_000)
	for i := range items {
		items[i] = map[string]any{"qty": int64(1)}
	}
	in := input(caller())
	fields(in)["items"] = items
	b.ReportAllocs()
	for b.Loop() {
		if decide(p, in).Allow {
			b.Fatal("let through")
		}
	}
}

func BenchmarkDeny(b *testing.B) {
	p := compile(b, refund(), require(`body.amount <= 500 || (role("manager") && claims.acr == "mfa")`))
	in := input(caller("support"))
	b.ReportAllocs()
	for b.Loop() {
		decide(p, in)
	}
}

func BenchmarkCompile(b *testing.B) {
	c := compiler(b, config())
	op := refund()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Compile(op, benched["own"]); err != nil {
			b.Fatal(err)
		}
	}
}

func TestAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for name, budget := range map[string]float64{"grant": 0, "own": 0, "own_unless": 0, "body": 0} {
		p := compile(t, refund(), benched[name])
		in := input(caller("support"))
		if got := testing.AllocsPerRun(200, func() { decide(p, in) }); got > budget {
			t.Errorf("%s: %v allocations, budget %v", name, got, budget)
		}
	}
}

package ddos_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/ddos"
	"github.com/gatehouse-api/gatehouse/internal/networks"
)

func TestNetworksByName(t *testing.T) {
	known := must[*networks.Set](t)(networks.Load(networks.Config{Lists: []networks.List{
		{Name: "partners", Prefixes: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/28")}},
		{Name: "tor", Prefixes: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}},
		{Name: "hosting", Prefixes: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}},
		{Name: "harmless", Prefixes: []netip.Prefix{
			netip.MustParsePrefix("203.0.113.64/26"), netip.MustParsePrefix("203.0.113.8/32"), netip.MustParsePrefix("198.51.100.64/26"),
		}},
	}}))
	g := must[*ddos.Guard](t)(ddos.NewGuard(ddos.GuardConfig{Key: someKey}))
	rules := ddos.NetworkRules{
		Of: known, Allow: ddos.Names{Lists: []string{"partners"}}, Deny: ddos.Names{Lists: []string{"tor"}}, Challenge: ddos.Names{Lists: []string{"hosting"}},
	}
	g.Configure(ddos.Settings{Networks: rules})
	now := time.Now()
	for _, c := range []struct {
		address string
		step    ddos.Step
		arrives bool
	}{
		{"203.0.113.77", ddos.Deny, false},
		{"203.0.113.7", ddos.Pass, true},
		{"203.0.113.8", ddos.Pass, true},
		{"203.0.113.200", ddos.Deny, false},
		{"198.51.100.7", ddos.Challenge, true},
		{"198.51.100.77", ddos.Challenge, true},
		{"192.0.2.1", ddos.Pass, true},
	} {
		a := netip.MustParseAddr(c.address)
		if got := g.Admit(a, now).Step; got != c.step {
			t.Errorf("%s: %s, want %s", c.address, got, c.step)
		}
		if got := g.Arrive(a, true, now); got != c.arrives {
			t.Errorf("a connection of %s is accepted: %t", c.address, got)
		}
	}
	if p := g.Judge(g.Admit(netip.MustParseAddr("203.0.113.77"), now), &ddos.Caller{Claims: true, Now: now}); p == nil || p.Reason != "network_denied" {
		t.Errorf("with credentials: %v", p)
	}
	g.Switch(true)
	if got := g.Admit(netip.MustParseAddr("203.0.113.7"), now).Step; got != ddos.Pass {
		t.Errorf("who is allowed, under attack: %s", got)
	}
	g.Stand([]ddos.Entry{{Prefix: netip.MustParsePrefix("203.0.113.7/32"), Hand: true, Accept: true}})
	if got := g.Admit(netip.MustParseAddr("203.0.113.7"), now).Step; got != ddos.Ban {
		t.Errorf("who is allowed and banned by hand: %s", got)
	}
	g.Configure(ddos.Settings{Mode: ddos.Off, Networks: rules})
	if got := g.Admit(netip.MustParseAddr("203.0.113.77"), now).Step; got != ddos.Pass {
		t.Errorf("off: %s", got)
	}
}

func TestTheZeroVerdictRefuses(t *testing.T) {
	g := must[*ddos.Guard](t)(ddos.NewGuard(ddos.GuardConfig{Key: someKey}))
	if p := g.Judge(ddos.Verdict{}, &ddos.Caller{Claims: true}); p == nil {
		t.Error("let through")
	}
}

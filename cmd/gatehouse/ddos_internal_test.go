package main

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/ddos"
)

func TestBansAtTheCommandLine(t *testing.T) {
	config := shop(t)
	status := func() (s ddosStatus) {
		t.Helper()
		out, _ := good(t, "ddos", "status", "-c", config, "-o", "json")
		return decode[ddosStatus](t, out)
	}
	_, errs := good(t, "ddos", "ban", "203.0.113.9", "2001:db8::1", "10.1.2.3", "--for", "24h", "--reason", "scrapes", "-c", config)
	for _, want := range []string{"203.0.113.9/32 is banned", "2001:db8::/64 is banned", "ddos.allow has 10.0.0.0/8 in it"} {
		if !strings.Contains(errs, want) {
			t.Errorf("does not say %q: %s", want, errs)
		}
	}
	s := status()
	if len(s.Bans) != 3 || s.Bans[0].Reason != "scrapes" || !strings.HasPrefix(s.Bans[0].By, "os:") || s.Bans[0].Until.IsZero() || !s.Bans[0].Accept {
		t.Errorf("%+v", s)
	}
	good(t, "ddos", "unban", "2001:db8::77", "10.1.2.3", "-c", config)
	if s := status(); len(s.Bans) != 1 || s.Bans[0].Prefix.String() != "203.0.113.9/32" {
		t.Errorf("%+v", s.Bans)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"unban", "198.51.100.1"}, "there is no such ban"},
		{[]string{"ban", "0.0.0.0/0"}, "so large"},
		{[]string{"ban", "everyone"}, "not an address"},
		{[]string{"attack", "off", "--for", "1h"}, "hint: gatehouse ddos attack on"},
		{[]string{"solve", "x"}, "not a challenge"},
	} {
		if _, errs, code := do(t, append([]string{"ddos", "-c", config}, c.args...)...); code != exitUsage || !strings.Contains(errs, c.want) {
			t.Errorf("%q: %d %s", c.args, code, errs)
		}
	}
	good(t, "ddos", "attack", "on", "--for", "1h", "-c", config)
	if s := status(); !s.Attack.On || time.Until(s.Attack.Until) > time.Hour || s.Attack.By == "" {
		t.Errorf("%+v", s.Attack)
	}
	if out, _ := good(t, "ddos", "status", "-c", config); !strings.Contains(out, "everyone without credentials is challenged") || !strings.Contains(out, "203.0.113.9/32") {
		t.Errorf("%s", out)
	}
	good(t, "ddos", "attack", "off", "-c", config)
	if s := status(); s.Attack.On {
		t.Errorf("%+v", s.Attack)
	}
}

func TestSolveAtTheCommandLine(t *testing.T) {
	g, err := ddos.NewGuard(ddos.GuardConfig{Key: []byte(strings.Repeat("k", 32))})
	if err != nil {
		t.Fatal(err)
	}
	g.Configure(ddos.Settings{Difficulty: 8})
	a := netip.MustParseAddr("203.0.113.9")
	out, _ := good(t, "ddos", "solve", g.Challenge(a, ddos.Verdict{}, time.Now()))
	if err := g.CheckPass(strings.TrimSpace(out), a, time.Now()); err != nil {
		t.Errorf("%q: %v", out, err)
	}
}

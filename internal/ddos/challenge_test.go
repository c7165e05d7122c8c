package ddos_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/ddos"
)

func never() bool { return false }

func TestAPassOpensForItsAddressUntilItExpires(t *testing.T) {
	g := must[*ddos.Guard](t)(ddos.NewGuard(ddos.GuardConfig{Key: someKey}))
	g.Configure(ddos.Settings{Difficulty: 8, PassLife: 10 * time.Minute})
	other := must[*ddos.Guard](t)(ddos.NewGuard(ddos.GuardConfig{Key: []byte("another key, also of thirty-two b")}))
	now := time.Now()
	a := netip.MustParseAddr("203.0.113.9")
	text := g.Challenge(a, ddos.Verdict{}, now)
	pass := must[string](t)(ddos.Solve(text, never))
	if err := g.CheckPass(pass, a, now); err != nil {
		t.Fatal(err)
	}
	six := netip.MustParseAddr("2001:db8::1")
	passSix := must[string](t)(ddos.Solve(g.Challenge(six, ddos.Verdict{}, now), never))
	if err := g.CheckPass(passSix, netip.MustParseAddr("2001:db8::ffff:2"), now); err != nil {
		t.Errorf("another address of its /64: %v", err)
	}
	if g.CheckPass(passSix, netip.MustParseAddr("2001:db8:0:1::1"), now) == nil {
		t.Error("opens for another /64")
	}
	easier := strings.Replace(text, ".8.", ".4.", 1)
	parts := strings.Split(text, ".")
	for name, c := range map[string]struct {
		pass string
		of   netip.Addr
		at   time.Time
	}{
		"another address":         {pass, netip.MustParseAddr("203.0.113.8"), now},
		"after its end":           {pass, a, now.Add(11 * time.Minute)},
		"the challenge alone":     {text, a, now},
		"an unsolved one":         {unsolved(t, g, a, text, now), a, now},
		"a lower difficulty":      {easier + ".0", a, now},
		"a later end":             {strings.Replace(pass, parts[1], parts[1]+"0", 1), a, now},
		"a number with zeros":     {text + ".007", a, now},
		"a number with a sign":    {text + ".+7", a, now},
		"what is too long":        {pass + strings.Repeat("0", 200), a, now},
		"nothing":                 {"", a, now},
		"one of another key":      {must[string](t)(ddos.Solve(other.Challenge(a, ddos.Verdict{}, now), never)), a, now},
		"one more character":      {pass + " ", a, now},
		"a mac with other base64": {strings.Replace(pass, parts[4], parts[4]+"=", 1), a, now},
	} {
		if g.CheckPass(c.pass, c.of, c.at) == nil {
			t.Errorf("%s opens: %q", name, c.pass)
		}
	}
	if _, err := ddos.Solve("1.2.3", never); err == nil {
		t.Error("solved what is no challenge")
	}
	if _, err := ddos.Solve(g.Challenge(a, ddos.Verdict{Why: ddos.WhyLadder}, now.Add(-time.Hour)), never); err == nil {
		t.Error("solved what has expired")
	}
}

// unsolved is a pass with a number that does not solve it.
func unsolved(t *testing.T, g *ddos.Guard, a netip.Addr, text string, now time.Time) string {
	t.Helper()
	for _, n := range []string{"0", "1", "2", "3", "4", "5", "6", "7"} {
		if g.CheckPass(text+"."+n, a, now) != nil {
			return text + "." + n
		}
	}
	t.Fatal("every number solves it")
	return ""
}

func TestAChallengeIsHarderForWhoStandsOut(t *testing.T) {
	g := must[*ddos.Guard](t)(ddos.NewGuard(ddos.GuardConfig{Key: someKey}))
	g.Configure(ddos.Settings{Difficulty: 10})
	a := netip.MustParseAddr("203.0.113.9")
	bits := func(v ddos.Verdict) string { return strings.Split(g.Challenge(a, v, time.Now()), ".")[2] }
	if got := bits(ddos.Verdict{Why: ddos.WhyAttack}); got != "10" {
		t.Errorf("%s bits, want 10", got)
	}
	if got := bits(ddos.Verdict{Why: ddos.WhyLadder}); got != "12" {
		t.Errorf("%s bits for who stands out, want 12", got)
	}
	g.Switch(true)
	if got := bits(ddos.Verdict{Why: ddos.WhyAttack}); got != "12" {
		t.Errorf("%s bits under attack, want 12", got)
	}
}

func FuzzCheckPass(f *testing.F) {
	g := must[*ddos.Guard](f)(ddos.NewGuard(ddos.GuardConfig{Key: someKey}))
	g.Configure(ddos.Settings{Difficulty: 8})
	a := netip.MustParseAddr("203.0.113.9")
	now := time.Now()
	text := g.Challenge(a, ddos.Verdict{}, now)
	f.Add(text)
	f.Add(text + ".12")
	f.Add("1.99999999999.8.AAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAA.1")
	f.Fuzz(func(t *testing.T, pass string) {
		if g.CheckPass(pass, a, now) == nil && !strings.HasPrefix(pass, text+".") {
			t.Errorf("%q opens", pass)
		}
	})
}

func FuzzParsePrefix(f *testing.F) {
	for _, s := range []string{"203.0.113.9", "2001:db8::/32", "::ffff:1.2.3.4/120", "0.0.0.0/0", "fe80::1%x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ddos.ParsePrefix(text)
		if err != nil {
			return
		}
		if again, err := ddos.ParsePrefix(p.String()); err != nil || again != p || p.Masked() != p {
			t.Errorf("%q: %v, and once more %v %v", text, p, again, err)
		}
	})
}

package ddos_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/ddos"
)

// crowdOf is addresses that differ.
func crowdOf(n int) []netip.Addr {
	out := make([]netip.Addr, n)
	for i := range out {
		out[i] = netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)})
	}
	return out
}

func benchGuard(b testing.TB, bans int, s ddos.Settings) *ddos.Guard {
	g := must[*ddos.Guard](b)(ddos.NewGuard(ddos.GuardConfig{Key: someKey}))
	g.Configure(s)
	var list []ddos.Entry
	for i := range bans {
		list = append(list, ddos.Entry{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{12, byte(i >> 16), byte(i >> 8), byte(i)}), 32), Hand: true, Accept: true})
	}
	g.Stand(list)
	return g
}

func BenchmarkGuard(b *testing.B) {
	private := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16")}
	all := crowdOf(1 << 12)
	now := time.Now()
	for _, c := range []struct {
		name string
		bans int
	}{{"nobody is banned", 0}, {"100,000 are banned", 100_000}} {
		g := benchGuard(b, c.bans, ddos.Settings{Allow: private})
		b.Run("Admit/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if v := g.Admit(all[i&(len(all)-1)], now); v.Step != ddos.Pass {
					b.Fatal(v)
				}
			}
		})
	}
	for name, o := range map[string]ddos.Outcome{"proven": {Proven: true}, "anonymous": {}, "refused": {Refused: true}} {
		g := benchGuard(b, 0, ddos.Settings{Allow: private})
		b.Run("Observe/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				g.Observe(all[i&(len(all)-1)], o, now)
			}
		})
	}
	b.Run("Observe/side by side", func(b *testing.B) {
		g := benchGuard(b, 0, ddos.Settings{Allow: private})
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				g.Observe(all[i&(len(all)-1)], ddos.Outcome{}, now)
			}
		})
	})
	b.Run("Tick/10,000 stand out", func(b *testing.B) {
		g := benchGuard(b, 0, ddos.Settings{})
		at := now
		many := crowdOf(10_000)
		g.Tick(at)
		for range 100 {
			for _, a := range many {
				g.Observe(a, ddos.Outcome{Refused: true}, at)
			}
		}
		b.ReportAllocs()
		for b.Loop() {
			at = at.Add(time.Millisecond)
			g.Tick(at)
		}
	})
	b.Run("CheckPass", func(b *testing.B) {
		g := benchGuard(b, 0, ddos.Settings{Difficulty: 8})
		pass := must[string](b)(ddos.Solve(g.Challenge(all[0], ddos.Verdict{}, now), never))
		b.ReportAllocs()
		for b.Loop() {
			if err := g.CheckPass(pass, all[0], now); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func TestTheHotPathOfTheGuardDoesNotAllocate(t *testing.T) {
	if underRace {
		t.Skip("the race detector allocates")
	}
	g := benchGuard(t, 1000, ddos.Settings{Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	a, now := netip.MustParseAddr("203.0.113.9"), time.Now()
	for name, f := range map[string]func(){
		"Admit":              func() { _ = g.Admit(a, now) },
		"Arrive":             func() { _ = g.Arrive(a, true, now) },
		"Observe, anonymous": func() { g.Observe(a, ddos.Outcome{Refused: true, Cost: time.Second}, now) },
		"Observe, proven":    func() { g.Observe(a, ddos.Outcome{Proven: true}, now) },
	} {
		if n := testing.AllocsPerRun(100, f); n > 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

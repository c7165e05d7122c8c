package ddos

import (
	"net/netip"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
)

func TestABotnetThatWasBannedDoesNotKeepTheLadderClosed(t *testing.T) {
	g, err := NewGuard(GuardConfig{Key: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	fill := func(step Step) {
		for i := range mostRungs {
			of := source{hi: uint64(i) << 32, bits: 32, v4: true}
			g.ladder.rungs[of] = &rung{source: of, step: step, times: 1}
		}
	}
	a := netip.MustParseAddr("203.0.113.9")
	list, _ := sources(a)
	g.ladder.forgot = false
	fill(Pass) // their bans are over, and remembered
	if g.heat(list[0], 40, countRequests, 1000); g.ladder.rungs[list[0]] == nil {
		t.Error("there is no room for who stands out now")
	}
	clear(g.ladder.rungs)
	g.ladder.forgot = false
	fill(Ban)
	late, start := storetest.Late(t), time.Now()
	for i := range mostRungs { // as many stand out in one look
		g.heat(source{hi: uint64(i+mostRungs) << 32, bits: 32, v4: true}, 40, countRequests, 1000)
	}
	if len(g.ladder.rungs) != mostRungs || g.tally.full.Load() != mostRungs {
		t.Errorf("%d on the ladder, %d told of", len(g.ladder.rungs), g.tally.full.Load())
	}
	if took := time.Since(start); took > time.Second+late() {
		t.Errorf("a look takes %s when the ladder is full", took)
	}
}

func TestWhoIsForgivenIsNotBannedAgainForWhatHeDid(t *testing.T) {
	addresses := func(from string, n int) (out []netip.Addr) {
		a := netip.MustParseAddr(from)
		for range n {
			out = append(out, a)
			a = a.Next()
		}
		return out
	}
	site := []netip.Addr{} // /64s of a /56
	for i := range 8 {
		site = append(site, netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 7: byte(i), 15: 1}))
	}
	for name, c := range map[string]struct {
		from []netip.Addr
		lift string
	}{
		"an address": {addresses("203.0.113.9", 1), "203.0.113.9/32"},
		"a network whose addresses are all at it":    {addresses("203.0.113.1", 16), "203.0.113.0/24"},
		"a part of a network that is not looked at":  {addresses("203.0.113.1", 6), "203.0.113.0/29"},
		"more than a network that is looked at":      {addresses("203.0.112.250", 20), "203.0.112.0/20"},
		"a site of IPv6, and networks it is part of": {site, "2001:db8::/56"},
	} {
		t.Run(name, func(t *testing.T) {
			g, err := NewGuard(GuardConfig{Key: make([]byte, 32)})
			if err != nil {
				t.Fatal(err)
			}
			now := time.UnixMilli(1_800_000_000_000)
			pass := func(d time.Duration, each int) (bans int) {
				for end := now.Add(d); now.Before(end); now = now.Add(lookEvery) {
					for n := range each {
						g.Observe(c.from[n%len(c.from)], Outcome{Refused: true}, now)
					}
					g.Tick(now)
					bans += len(g.Fresh())
				}
				return bans
			}
			flood := 100 * len(c.from)
			if pass(12*time.Second, flood) == 0 {
				t.Fatal("the flood is not banned")
			}
			p := netip.MustParsePrefix(c.lift)
			g.Forgive(p, now)
			g.Forgive(p, now) // as when its ban was lifted twice
			if n := pass(30*time.Second, 0); n > 0 || len(g.ladder.rungs) > 0 {
				t.Errorf("banned again %d times for what was forgiven; on the ladder: %v", n, g.ladder.rungs)
			}
			if len(g.census.pardons) > 0 {
				t.Errorf("still remembered: %v", g.census.pardons)
			}
			if pass(8*time.Second, flood) == 0 {
				t.Fatal("the flood goes on and is not banned again")
			}
			g.Forgive(p, now)
			if pass(12*time.Second, flood) == 0 {
				t.Error("the flood goes on and has a pardon for ever")
			}
		})
	}
}

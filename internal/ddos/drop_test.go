package ddos_test

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/ddos"
	"github.com/gatehouse-api/gatehouse/internal/ddos/nft"
)

// A table stands in for the kernel's: entries end by themselves.
type table struct {
	mu sync.Mutex
	in map[netip.Prefix]time.Time
}

func (k *table) Ban(list []nft.Entry) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range list {
		k.in[e.Prefix] = time.Now().Add(min(e.For, nft.Longest))
	}
	return nil
}

func (k *table) Lift(list []netip.Prefix) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range list {
		delete(k.in, p)
	}
	return nil
}

func (k *table) has(text string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return time.Now().Before(k.in[netip.MustParsePrefix(text)])
}

func TestTheKernelGetsTheBansThatRefuseNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := must[*ddos.Guard](t)(ddos.NewGuard(ddos.GuardConfig{Key: someKey}))
		g.Configure(ddos.Settings{Allow: []netip.Prefix{netip.MustParsePrefix("203.0.113.200/32")}})
		k := &table{in: map[netip.Prefix]time.Time{}}
		var hops atomic.Pointer[[]netip.Prefix]
		hops.Store(&[]netip.Prefix{netip.MustParsePrefix("192.0.2.0/28")})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			g.Drop(ctx, k, func() []netip.Prefix { return *hops.Load() }, slog.New(slog.DiscardHandler))
		}()
		ban := func(text string, accept bool, life time.Duration) ddos.Entry {
			e := ddos.Entry{Prefix: netip.MustParsePrefix(text), Hand: true, Accept: accept}
			if life > 0 {
				e.Until = time.Now().Add(life)
			}
			return e
		}
		bans := []ddos.Entry{
			ban("198.51.100.9/32", true, 0), ban("198.51.100.8/32", true, time.Minute), ban("2001:db8::/48", true, time.Hour),
			ban("198.51.100.7/32", false, 0), ban("203.0.113.0/24", true, 0), ban("192.0.2.0/24", true, 0),
		}
		g.Stand(bans)
		check := func(when string, want map[string]bool) {
			t.Helper()
			for p, in := range want {
				if got := k.has(p); got != in {
					t.Errorf("%s: %s in the kernel: %t, want %t", when, p, got, in)
				}
			}
		}
		time.Sleep(time.Second)
		check("at first", map[string]bool{
			"198.51.100.9/32": true, "198.51.100.8/32": true, "2001:db8::/48": true,
			"198.51.100.7/32": false, // only requests are refused
			"203.0.113.0/24":  false, // somebody in it is allowed
			"192.0.2.0/24":    false, // trusted hops are in it
		})
		time.Sleep(30 * time.Minute)
		check("half an hour later", map[string]bool{"198.51.100.9/32": true, "198.51.100.8/32": false, "2001:db8::/48": true})
		hops.Store(&[]netip.Prefix{netip.MustParsePrefix("198.51.100.0/28")})
		time.Sleep(time.Second)
		check("when the addresses of the CDN are other ones", map[string]bool{"198.51.100.9/32": false, "192.0.2.0/24": true, "2001:db8::/48": true})
		g.Configure(ddos.Settings{Allow: []netip.Prefix{netip.MustParsePrefix("2001:db8:0:7::/64")}})
		time.Sleep(time.Second)
		check("when others are allowed", map[string]bool{"203.0.113.0/24": true, "2001:db8::/48": false})
		g.Configure(ddos.Settings{})
		hops.Store(&[]netip.Prefix{})
		time.Sleep(time.Second)
		check("when nobody is", map[string]bool{"198.51.100.9/32": true, "2001:db8::/48": true})
		g.Stand(bans[2:])
		time.Sleep(time.Second)
		check("when one was lifted", map[string]bool{"198.51.100.9/32": false, "2001:db8::/48": true})
		g.Configure(ddos.Settings{Mode: ddos.Off})
		time.Sleep(time.Second)
		check("when it is off", map[string]bool{"2001:db8::/48": false})
		stop()
		<-done
	})
}

package ratelimit_test

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/ratelimit"
	"github.com/gatehouse-api/gatehouse/internal/store"
)

// A lease in hand: what a request costs when nothing is asked.
func BenchmarkTakeOfALease(b *testing.B) {
	n := enter(b, store.SharedConfig{Memory: &store.SharedMemory{}, Node: "a"}, 0)
	lim, keys := limit(b, "principal", "1000000/s", 1_000_000), make([]ratelimit.Key, 64)
	<-time.After(2 * time.Second) // until it lends
	for i := range keys {
		keys[i] = user(fmt.Sprint(i))
		n.Take(lim, keys[i], 1, n.Now())
	}
	b.ReportAllocs()
	refused, i := 0, 0
	for b.Loop() {
		if i++; !n.Take(lim, keys[i%len(keys)], 1, n.Now()).OK {
			refused++
		}
	}
	b.ReportMetric(float64(refused)/float64(b.N), "refused/op")
}

// Every processor at one key that has no lease: each request waits for an answer.
func BenchmarkTakeAsking(b *testing.B) {
	n := enter(b, store.SharedConfig{Memory: &store.SharedMemory{}, Node: "a"}, 0)
	lim := strict(b, "1000000/s", 1_000_000)
	var i atomic.Uint32
	b.ReportAllocs()
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		key := user("u")
		key.Address = netip.AddrFrom4([4]byte{192, 0, 2, byte(i.Add(1))})
		for pb.Next() {
			n.Take(lim, key, 1, n.Now())
		}
	})
	b.ReportMetric(float64(n.engine.count())/float64(b.N), "calls/op")
}

func BenchmarkTakeOfAQuota(b *testing.B) {
	n := ledgerAt(b, filepath.Join(b.TempDir(), "quotas.db"), 1)
	lim, key := quota(b, "1000000000000/year", "Europe/Berlin", false), user("u")
	n.Take(lim, key, 1, n.Now())
	b.ReportAllocs()
	for b.Loop() {
		n.Take(lim, key, 1, n.Now())
	}
}

func TestAllocsOfALease(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	n := enter(t, store.SharedConfig{Memory: &store.SharedMemory{}, Node: "a"}, 0)
	q := ledgerAt(t, filepath.Join(t.TempDir(), "quotas.db"), 1)
	lim, lots := limit(t, "principal+operation", "1000000/s", 1_000_000), quota(t, "1000000000000/year", "", false)
	key := user("u")
	key.API, key.Operation = "orders", "listOrders"
	<-time.After(2 * time.Second) // until it lends
	for l, lim := range map[*ratelimit.Limiter]*ratelimit.Limit{n.Limiter: lim, q.Limiter: lots} {
		for end := time.Now().Add(100 * time.Millisecond); time.Now().Before(end); { // until the lease is large
			l.Take(lim, key, 1, l.Now())
		}
		if got := testing.AllocsPerRun(200, func() { l.Take(lim, key, 1, l.Now()) }); got != 0 {
			t.Errorf("%s: %v allocations", lim, got)
		}
	}
}

package ratelimit_test

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/ratelimit"
)

func BenchmarkTake(b *testing.B) {
	for _, by := range []string{"address", "principal", "principal+operation"} {
		b.Run(by, func(b *testing.B) {
			l, lim := limiter(b, 0), limit(b, by, "1000000/s", 0)
			key := user("3f0c2d3e-1111-4222-8333-944455556666")
			key.API, key.Operation = "orders", "listOrders"
			now := l.Now()
			b.ReportAllocs()
			for b.Loop() {
				l.Take(lim, key, 1, now)
			}
		})
	}
}

// What processors wait for each other is in the time they spend.
func BenchmarkTakeParallel(b *testing.B) {
	for _, by := range []string{"address", "all"} {
		b.Run(by, func(b *testing.B) {
			l, lim := limiter(b, 0), limit(b, by, "1000000/s", 0)
			var n atomic.Uint32
			b.ReportAllocs()
			before := spent(b)
			b.RunParallel(func(pb *testing.PB) {
				i := n.Add(1)
				key := ratelimit.Key{Address: netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})}
				for pb.Next() {
					l.Take(lim, key, 1, 1)
				}
			})
			b.ReportMetric(float64(spent(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

func spent(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkTakeManyKeys(b *testing.B) {
	l, lim := limiter(b, 0), limit(b, "principal", "10/h", 0)
	keys := make([]ratelimit.Key, 100_000)
	for i := range keys {
		keys[i] = user(fmt.Sprint("user-", i))
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		l.Take(lim, keys[i%len(keys)], 1, 1)
		i++
	}
}

func TestAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	l, lim := limiter(t, 0), limit(t, "principal+operation", "10/s", 5)
	key := user("u")
	key.Operation = "x"
	header := make([]byte, 0, 128)
	if n := testing.AllocsPerRun(100, func() {
		r := l.Take(lim, key, 1, l.Now())
		header = ratelimit.AppendResult(ratelimit.AppendPolicy(header[:0], lim), r)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

package ratelimit_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/ratelimit"
)

func quotaBy(t testing.TB, name, by, text string) *ratelimit.Limit {
	t.Helper()
	l, err := ratelimit.Compile(ratelimit.Spec{Name: name, By: by, Quota: text})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func bound(each, all int64) func(*ratelimit.Config) {
	return func(c *ratelimit.Config) { c.Quotas.Bound(each, all) }
}

// from is the n-th network of an IPv6 /32.
func from(wide uint16, n int) ratelimit.Key {
	return ratelimit.Key{Address: netip.AddrFrom16([16]byte{0x20, 0x01, byte(wide >> 8), byte(wide), byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n), 15: 1})}
}

// flood has so many keys take a token each, and gives how many got one.
func (n *ledger) flood(t testing.TB, lim *ratelimit.Limit, key func(n int) ratelimit.Key, from, to int) int64 {
	t.Helper()
	var next, got atomic.Int64
	next.Store(int64(from))
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(to); i = next.Add(1) - 1 {
				for {
					r := n.Take(lim, key(int(i)), 1, n.Now())
					if r.Unavailable { // the machine is busy
						<-time.After(5 * time.Millisecond)
						continue
					}
					if r.OK {
						got.Add(1)
					}
					break
				}
			}
		})
	}
	wg.Wait()
	return got.Load()
}

func (n *ledger) takes(t testing.TB, lim *ratelimit.Limit, key ratelimit.Key, want int) {
	t.Helper()
	if got, last := n.spend(lim, key, want+1); got != want || last.Unavailable {
		t.Errorf("%v has %d and not %d, then %+v", key, got, want, last)
	}
}

func TestStrangersMakeABoundedNumberOfRows(t *testing.T) {
	t.Run("by address, and who is known or lives elsewhere does not feel it", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "quotas.db")
		lim := quotaBy(t, "free", "address", "10/day")
		n := ledgerAt(t, path, 2, bound(200, 1000))
		known := from(0xdb8, 1<<30)
		if got, last := n.spend(lim, known, 4); got != 4 {
			t.Fatalf("%+v", last)
		}
		ours := func(i int) ratelimit.Key { return from(0xdb8, i) }
		if got := n.flood(t, lim, ours, 0, 3000); got != 199+10 {
			t.Errorf("%d of a crowd got something; 199 had room, and the others share 10", got)
		}
		if _, rows := n.used(t); rows != 200+1 {
			t.Errorf("%d rows", rows)
		}
		if n.Overflowed() < 2000 {
			t.Errorf("%d are said to have found no room", n.Overflowed())
		}
		n.takes(t, lim, known, 6)
		n.takes(t, lim, from(0xdb9, 5), 10)
		n.takes(t, lim, ratelimit.Key{Address: netip.MustParseAddr("198.51.100.7")}, 10)
		n.leave()

		other := ledgerAt(t, path, 2, bound(200, 1000))
		other.takes(t, lim, known, 0)
		other.takes(t, lim, from(0xdb8, 1<<29), 0)
		other.takes(t, lim, from(0xdb9, 5), 0)
		other.takes(t, lim, from(0xdba, 5), 10)
	})
	t.Run("from many networks, together", func(t *testing.T) {
		n := ledgerAt(t, filepath.Join(t.TempDir(), "quotas.db"), 1, bound(200, 1000))
		lim := quotaBy(t, "free", "address", "10/day")
		known := from(0xffff, 7)
		n.takes(t, lim, known, 10)
		n.flood(t, lim, func(i int) ratelimit.Key { return from(uint16(i%20), i) }, 0, 4000)
		if _, rows := n.used(t); rows > 1000+21 {
			t.Errorf("%d rows", rows)
		}
		n.takes(t, lim, known, 0)
		n.takes(t, lim, from(0xfffe, 7), 10) // of its network nobody else is there
	})
	t.Run("by two nodes at once", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "quotas.db")
		lim := quotaBy(t, "free", "address", "10/day")
		var wg sync.WaitGroup
		var got atomic.Int64
		for i := range 2 {
			n := ledgerAt(t, path, 2, bound(300, 1000))
			wg.Go(func() {
				got.Add(n.flood(t, lim, func(i int) ratelimit.Key { return from(0xdb8, i) }, i*1500, i*1500+1500))
			})
		}
		wg.Wait()
		n := ledgerAt(t, path, 2)
		if _, rows := n.used(t); rows != 300+1 || got.Load() != 300+10 {
			t.Errorf("%d rows, %d got something", rows, got.Load())
		}
	})
	t.Run("by what an expression gives, each principal for itself", func(t *testing.T) {
		n := ledgerAt(t, filepath.Join(t.TempDir(), "quotas.db"), 1, bound(50, 1000))
		lim := quotaBy(t, "shop", "tenant+custom", "10/day")
		key := func(tenant string, i int) ratelimit.Key {
			k := from(0xdb8, 1)
			k.Tenant, k.Custom = tenant, fmt.Sprint("shop", i)
			return k
		}
		if got := n.flood(t, lim, func(i int) ratelimit.Key { return key("evil", i) }, 0, 500); got != 50+10 {
			t.Errorf("%d", got)
		}
		n.takes(t, lim, key("good", 1), 10)
		if _, rows := n.used(t); rows != 50+1+1+1 {
			t.Errorf("%d rows", rows)
		}
	})
	t.Run("and nobody's who was given his name", func(t *testing.T) {
		n := ledgerAt(t, filepath.Join(t.TempDir(), "quotas.db"), 1, bound(10, 20))
		lim := quotaBy(t, "plan", "principal", "10/day")
		n.flood(t, lim, func(i int) ratelimit.Key { return from(0xdb8, i) }, 0, 100) // without a name
		if got := n.flood(t, lim, func(i int) ratelimit.Key { return user(fmt.Sprint("u", i)) }, 0, 100); got != 100 {
			t.Errorf("%d of 100 principals have a quota", got)
		}
	})
	t.Run("in memory they leave room for who was given his name", func(t *testing.T) {
		n := ledgerAt(t, filepath.Join(t.TempDir(), "quotas.db"), 1, func(c *ratelimit.Config) { c.Entries = 6144 })
		lim := quotaBy(t, "plan", "principal", "10/day")
		n.flood(t, lim, func(i int) ratelimit.Key { return from(uint16(i%4), i) }, 0, 9000)
		n.takes(t, lim, user("u"), 10)
		if r := n.Take(lim, from(0xdb8, 1<<30), 1, n.Now()); !r.OK {
			t.Errorf("a stranger from where the crowd is not: %+v", r)
		}
	})
}

func TestPeriodsThatAreOverAreDeletedByOneNodeALittleAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "quotas.db")
	n := ledgerAt(t, path, 1)
	over := time.Now().Add(-25 * time.Hour).UnixMilli()
	err := n.db.Write(t.Context(), func(tx *sql.Tx) error {
		for i := range 2500 {
			if _, err := tx.ExecContext(t.Context(), `INSERT INTO limit_quotas (name, counted, since, until, used, got) VALUES ('free', $1, $2, $3, 1, 1)`,
				fmt.Sprint(i), over-1000, over+int64(i%2)*int64(2*time.Hour/time.Millisecond)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{})
	ledgerAt(t, path, 2, func(c *ratelimit.Config) {
		c.Quotas.Only(func(context.Context, func(context.Context) error) error { close(asked); return nil })
	})
	<-asked
	if _, rows := n.used(t); rows != 2500 {
		t.Errorf("a node that does not lead leaves %d", rows)
	}
	done := make(chan error)
	ledgerAt(t, path, 2, func(c *ratelimit.Config) {
		c.Quotas.Only(func(ctx context.Context, work func(context.Context) error) error { done <- work(ctx); return nil })
	})
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, rows := n.used(t); rows != 1250 {
		t.Errorf("%d are left; of 1250 the day is not over", rows)
	}
}

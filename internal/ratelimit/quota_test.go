package ratelimit_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/ratelimit"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
)

func quota(t testing.TB, text, zone string, strict bool) *ratelimit.Limit {
	t.Helper()
	l, err := ratelimit.Compile(ratelimit.Spec{Name: "monthly", By: "principal", Quota: text, Timezone: zone, Strict: strict})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A ledger is a node with a database of quotas.
type ledger struct {
	*ratelimit.Limiter

	db    *store.DB
	fault *atomic.Bool
	slow  *atomic.Int64 // how long a commit takes
	leave func()        // in peace
	die   func()        // as by kill -9: what is in hand is lost
}

// open makes a node of so many on the database at path.
func ledgerAt(t testing.TB, path string, nodes int, set ...func(*ratelimit.Config)) *ledger {
	t.Helper()
	n := &ledger{fault: new(atomic.Bool), slow: new(atomic.Int64)}
	var dead atomic.Bool
	at := storetest.At(path)
	at.Fault = func(point string) error {
		if point == store.PointCommit {
			<-time.After(time.Duration(n.slow.Load()))
		}
		if n.fault.Load() || dead.Load() {
			return errors.New("the disk is gone")
		}
		return nil
	}
	db, err := store.Open(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	q, err := ratelimit.OpenQuotas(t.Context(), db, func() int { return nodes }, nil)
	if err != nil {
		t.Fatal(err)
	}
	n.db = db
	cfg := ratelimit.Config{Quotas: q}
	for _, f := range set {
		f(&cfg)
	}
	if n.Limiter, err = ratelimit.New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { n.Run(ctx) })
	n.leave = sync.OnceFunc(func() {
		cancel()
		done.Wait()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	n.die = func() {
		dead.Store(true)
		n.leave()
	}
	t.Cleanup(n.leave)
	return n
}

func (n *ledger) used(t testing.TB) (used, rows int64) {
	t.Helper()
	err := n.db.Read(t.Context(), func(tx *sql.Tx) error {
		return tx.QueryRowContext(t.Context(), `SELECT COALESCE(SUM(used), 0), COUNT(*) FROM limit_quotas`).Scan(&used, &rows)
	})
	if err != nil {
		t.Fatal(err)
	}
	return used, rows
}

// spend takes until it is refused, and gives what it got. That the database is slow,
// and not away, is no refusal.
func (n *ledger) spend(lim *ratelimit.Limit, key ratelimit.Key, most int) (got int, last ratelimit.Result) {
	for slow := 0; got < most; {
		last = n.Take(lim, key, 1, n.Now())
		switch {
		case last.OK:
			got++
		case last.Unavailable && n.QuotaErr() == nil && slow < 50:
			slow++
		default:
			return got, last
		}
	}
	return got, last
}

func TestQuotasOfManyNodes(t *testing.T) {
	for _, c := range []struct {
		name   string
		quota  string
		limit  int
		strict bool
		least  int // of the quota that must be to be had
	}{
		{"a large one", "4000/day", 4000, false, 3800},
		{"a small one", "50/month", 50, false, 50},
		{"a strict one", "200/month", 200, true, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "quotas.db")
			lim := quota(t, c.quota, "", c.strict)
			var got, unavailable atomic.Int64
			var wg sync.WaitGroup
			for range 4 {
				n := ledgerAt(t, path, 4)
				for range 4 {
					wg.Go(func() {
						for refused := 0; refused < 3; {
							switch r := n.Take(lim, user("u"), 1, n.Now()); {
							case r.OK:
								got.Add(1)
							case r.Unavailable: // the database is busy: what comes now finds nobody
								unavailable.Add(1)
								<-time.After(5 * time.Millisecond)
							default:
								refused++
							}
						}
					})
				}
			}
			wg.Wait()
			if n := int(got.Load()); n > c.limit || n < c.least-int(unavailable.Load()) {
				t.Errorf("%d of %d were to be had", n, c.limit)
			}
		})
	}
}

func TestAQuotaSurvives(t *testing.T) {
	t.Run("a restart gives back what was in hand, and nothing twice", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "quotas.db")
		lim := quota(t, "1000/month", "", false)
		total := 0
		for range 5 {
			n := ledgerAt(t, path, 1)
			got, last := n.spend(lim, user("u"), 150)
			if got != 150 {
				t.Fatalf("%d: %+v", got, last)
			}
			total += got
			n.leave()
			if used, _ := ledgerAt(t, path, 1).used(t); used != int64(total) {
				t.Fatalf("%d are counted, %d were spent", used, total)
			}
		}
		n := ledgerAt(t, path, 1)
		got, last := n.spend(lim, user("u"), 10_000)
		if total+got != 1000 || last.Unavailable || last.Remaining != 0 || last.RetryAfter <= 0 {
			t.Errorf("%d after %d, then %+v", got, total, last)
		}
	})
	t.Run("kill -9 loses what was in hand and gives nothing twice", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "quotas.db")
		lim := quota(t, "1000/month", "", false)
		total, lost := 0, 0
		for range 3 {
			n := ledgerAt(t, path, 1)
			got, _ := n.spend(lim, user("u"), 100)
			total += got
			n.die()
			used, _ := ledgerAt(t, path, 1).used(t)
			lost = int(used) - total
			if lost < 0 || lost > 3*50 {
				t.Fatalf("%d are counted, %d were spent", used, total)
			}
		}
		got, _ := ledgerAt(t, path, 1).spend(lim, user("u"), 10_000)
		if total+got+lost != 1000 {
			t.Errorf("%d and %d were given, %d lost", total, got, lost)
		}
	})
	t.Run("without the database what is in hand is spent, then it cannot be counted", func(t *testing.T) {
		n := ledgerAt(t, filepath.Join(t.TempDir(), "quotas.db"), 1)
		lim, sharp := quota(t, "10000/month", "", false), quota(t, "10000/month", "", true)
		if got, last := n.spend(lim, user("u"), 60); got != 60 {
			t.Fatalf("%+v", last)
		}
		before, _ := n.used(t)
		n.fault.Store(true)
		got, last := n.spend(lim, user("u"), 10_000)
		if got > int(before)-60 || !last.Unavailable {
			t.Errorf("%d more with %d in hand, then %+v", got, before-60, last)
		}
		if r := n.Take(sharp, user("v"), 1, n.Now()); r.OK || !r.Unavailable {
			t.Errorf("strict: %+v", r)
		}
		if p := ratelimit.Problem(last); p.Reason != "limit_unavailable" || p.Kind.Status() != 503 || p.RetryAfter <= 0 {
			t.Errorf("%+v", p)
		}
		if n.QuotaErr() == nil {
			t.Error("nobody is told")
		}
		n.fault.Store(false)
		deadline := time.Now().Add(time.Minute)
		for n.QuotaErr() != nil || !n.Take(lim, user("u"), 1, n.Now()).OK {
			if time.Now().After(deadline) {
				t.Fatal("it did not come back")
			}
			<-time.After(10 * time.Millisecond)
		}
	})
	t.Run("one that is slow is waited for", func(t *testing.T) {
		n := ledgerAt(t, filepath.Join(t.TempDir(), "quotas.db"), 1)
		n.slow.Store(int64(400 * time.Millisecond))
		if r := n.Take(quota(t, "10/month", "", true), user("u"), 1, n.Now()); !r.OK || r.Remaining != 9 {
			t.Errorf("%+v", r)
		}
	})
	t.Run("without quotas nothing is given", func(t *testing.T) {
		if r := limiter(t, 0).Take(quota(t, "10/day", "", false), user("u"), 1, 1); r.OK || !r.Unavailable {
			t.Errorf("%+v", r)
		}
	})
}

func TestAQuotaIsChargedForWhatARequestTurnedOutToBe(t *testing.T) {
	n := ledgerAt(t, filepath.Join(t.TempDir(), "quotas.db"), 1)
	lim := quota(t, "100/day", "", true)
	if r := n.Take(lim, user("u"), 1, n.Now()); !r.OK || r.Remaining != 99 {
		t.Fatalf("%+v", r)
	}
	n.Charge(lim, user("u"), 59, n.Now())
	if r := n.Take(lim, user("u"), 1, n.Now()); !r.OK || r.Remaining != 39 {
		t.Errorf("%+v", r)
	}
	if r := n.Take(lim, user("u"), 40, n.Now()); r.OK || r.RetryAfter <= 0 {
		t.Errorf("more than there is: %+v", r)
	}
	if r := n.Take(lim, user("u"), 39, n.Now()); !r.OK || r.Remaining != 0 {
		t.Errorf("%+v", r)
	}
}

func TestQuotaPeriods(t *testing.T) {
	berlin := "Europe/Berlin"
	for _, c := range []struct {
		name, quota, zone string
		now, end          string // RFC 3339
		before            string // the last moment of the period before
	}{
		{"a day in UTC", "5/day", "", "2026-11-24T10:00:00Z", "2026-11-25T00:00:00Z", "2026-11-23T23:59:59.999Z"},
		{"a day in Berlin begins an hour earlier", "5/day", berlin, "2026-11-24T23:30:00Z", "2026-11-25T23:00:00Z", "2026-11-24T22:59:59Z"},
		{"a day of 23 hours", "5/day", berlin, "2026-03-29T10:00:00Z", "2026-03-29T22:00:00Z", "2026-03-28T22:59:59Z"},
		{"a day of 25 hours", "5/day", berlin, "2026-10-25T10:00:00Z", "2026-10-25T23:00:00Z", "2026-10-24T21:59:59Z"},
		{"a day that begins at one, for there is no midnight", "5/day", "America/Santiago", "2026-09-06T12:00:00Z", "2026-09-07T03:00:00Z", "2026-09-06T03:59:59Z"},
		{"a week begins on Monday", "5/week", berlin, "2026-11-29T12:00:00Z", "2026-11-29T23:00:00Z", "2026-11-22T22:59:59Z"},
		{"a week over the change of clocks", "5/week", berlin, "2026-10-25T21:00:00Z", "2026-10-25T23:00:00Z", "2026-10-18T21:59:59Z"},
		{"a month of 30 days", "5/month", "", "2026-11-30T23:00:00Z", "2026-12-01T00:00:00Z", "2026-10-31T23:59:59Z"},
		{"February", "5/month", "", "2026-02-28T23:00:00Z", "2026-03-01T00:00:00Z", "2026-01-31T23:59:59Z"},
		{"February of a leap year", "5/month", "", "2028-02-29T23:00:00Z", "2028-03-01T00:00:00Z", "2028-01-31T23:59:59Z"},
		{"December, in Berlin", "5/month", berlin, "2026-12-15T00:00:00Z", "2026-12-31T23:00:00Z", "2026-11-30T22:59:59Z"},
		{"a year", "5/year", berlin, "2026-06-01T00:00:00Z", "2026-12-31T23:00:00Z", "2025-12-31T22:59:59Z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			lim := quota(t, c.quota, c.zone, true)
			at := func(s string) time.Time {
				v, err := time.Parse(time.RFC3339Nano, s)
				if err != nil {
					t.Fatal(err)
				}
				return v
			}
			since, until := ratelimit.Period(lim, at(c.now))
			if !until.Equal(at(c.end)) {
				t.Errorf("it ends at %v", until.UTC())
			}
			if _, end := ratelimit.Period(lim, at(c.before)); !end.Equal(since) {
				t.Errorf("it begins at %v, the one before ends at %v", since.UTC(), end.UTC())
			}
			if again, _ := ratelimit.Period(lim, since); !again.Equal(since) {
				t.Errorf("its first moment is in the one of %v", again.UTC())
			}
			if next, _ := ratelimit.Period(lim, until); !next.Equal(until) {
				t.Errorf("its end is in the one of %v", next.UTC())
			}
		})
	}
}

func TestAQuotaBeginsAnew(t *testing.T) {
	storetest.OnlyAFile(t, "a server has its own clock")
	synctest.Test(t, func(t *testing.T) { // it is midnight, 2000-01-01
		n := ledgerAt(t, filepath.Join(t.TempDir(), "quotas.db"), 1)
		lim := quota(t, "40/day", "", false)
		for day := range 2 {
			got, last := n.spend(lim, user("u"), 100)
			if got != 40 {
				t.Fatalf("day %d: %d, then %+v", day, got, last)
			}
			midnight := time.Until(time.Now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour))
			if wait := time.Duration(last.RetryAfter); wait > midnight+time.Millisecond || wait < midnight-time.Minute {
				t.Errorf("day %d: come back in %v, midnight is in %v", day, wait, midnight)
			}
			header := string(ratelimit.AppendResult(ratelimit.AppendPolicy(nil, lim), last))
			if day == 0 && header != `"monthly";q=40;w=86400, "monthly";r=0;t=86400` {
				t.Error(header)
			}
			<-time.After(midnight - time.Millisecond)
			if r := n.Take(lim, user("u"), 1, n.Now()); r.OK {
				t.Fatalf("day %d: a millisecond early", day)
			}
			<-time.After(time.Millisecond)
		}
		<-time.After(49 * time.Hour)
		if _, rows := n.used(t); rows != 0 {
			t.Errorf("%d periods that are over are kept", rows)
		}
	})
}

func TestQuotasThatAreNone(t *testing.T) {
	for name, s := range map[string]ratelimit.Spec{
		"no number":        {Name: "a", By: "all", Quota: "/day"},
		"none at all":      {Name: "a", By: "all", Quota: "0/day"},
		"a sign":           {Name: "a", By: "all", Quota: "+5/day"},
		"too many":         {Name: "a", By: "all", Quota: "1000000000001/day"},
		"an hour":          {Name: "a", By: "all", Quota: "5/h"},
		"two months":       {Name: "a", By: "all", Quota: "5/2month"},
		"no such zone":     {Name: "a", By: "all", Quota: "5/day", Timezone: "Europe/Atlantis"},
		"the machine's":    {Name: "a", By: "all", Quota: "5/day", Timezone: "Local"},
		"a path":           {Name: "a", By: "all", Quota: "5/day", Timezone: "../../etc/passwd"},
		"a rate, too":      {Name: "a", By: "all", Quota: "5/day", Rate: "1/s"},
		"a burst":          {Name: "a", By: "all", Quota: "5/day", Burst: 3},
		"failures":         {Name: "a", By: "all", Quota: "5/day", Failures: true},
		"more than it has": {Name: "a", By: "all", Quota: "5/day", Cost: 6},
		"strict failures":  {Name: "a", By: "all", Rate: "5/s", Failures: true, Strict: true},
	} {
		if l, err := ratelimit.Compile(s); err == nil {
			t.Errorf("%s: %s", name, l)
		}
	}
}

package ratelimit_test

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/ratelimit"
)

const second = int64(time.Second)

func limit(t testing.TB, by, rate string, burst int) *ratelimit.Limit {
	t.Helper()
	l, err := ratelimit.NewLimit("test", by, rate, burst)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func limiter(t testing.TB, entries int) *ratelimit.Limiter {
	t.Helper()
	l, err := ratelimit.New(ratelimit.Config{Entries: entries})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func user(name string) ratelimit.Key {
	return ratelimit.Key{Address: netip.MustParseAddr("192.0.2.1"), Issuer: "main", Subject: name}
}

// Every pattern of arrivals over twelve ticks, for several limits: no window
// ever has more than burst + rate × window.
func TestNoWindowHasMoreThanItsLimit(t *testing.T) {
	const ticks = 12
	tick := second / 4
	for _, c := range []struct {
		rate  string
		burst int
	}{{"1/s", 1}, {"2/s", 1}, {"2/s", 3}, {"3/s", 2}, {"4/s", 4}, {"5/2s", 2}} {
		lim := limit(t, "all", c.rate, c.burst)
		count, window, err := ratelimit.Parse(c.rate)
		if err != nil {
			t.Fatal(err)
		}
		l := limiter(t, 0)
		for pattern := range 1 << ticks {
			// Each pattern starts where the one before has been forgotten.
			start := int64(pattern+1) * 1000 * second
			var admitted [ticks]int64
			for i := range ticks {
				if pattern&(1<<i) == 0 {
					continue
				}
				for range 3 {
					if l.Take(lim, ratelimit.Key{}, 1, start+int64(i)*tick).OK {
						admitted[i]++
					}
				}
			}
			for from := range ticks {
				sum := int64(0)
				for to := from; to < ticks; to++ {
					sum += admitted[to]
					allowed := int64(c.burst) + int64(to-from)*tick*int64(count)/int64(window)
					if sum > allowed {
						t.Fatalf("%s burst %d pattern %b: %d admitted in ticks %d..%d, %d allowed", c.rate, c.burst, pattern, sum, from, to, allowed)
					}
				}
			}
		}
	}
}

func TestTake(t *testing.T) {
	t.Run("a burst, then the rate, then the burst again", func(t *testing.T) {
		l, lim := limiter(t, 0), limit(t, "principal", "60/min", 3)
		now := l.Now()
		for i := range 3 {
			if r := l.Take(lim, user("u"), 1, now); !r.OK || r.Remaining != int64(2-i) || r.RetryAfter != 0 {
				t.Fatalf("%d: %+v", i, r)
			}
		}
		r := l.Take(lim, user("u"), 1, now)
		if r.OK || r.Remaining != 0 || r.RetryAfter != second || r.Reset != 3*second {
			t.Fatalf("%+v", r)
		}
		if l.Take(lim, user("u"), 1, now+second-1).OK {
			t.Fatal("a nanosecond early")
		}
		if !l.Take(lim, user("u"), 1, now+second).OK {
			t.Fatal("refused when told to come")
		}
		if r := l.Take(lim, user("u"), 3, now+100*second); !r.OK {
			t.Fatalf("the burst is not back: %+v", r)
		}
	})
	t.Run("a refusal costs nothing", func(t *testing.T) {
		l, lim := limiter(t, 0), limit(t, "principal", "1/s", 1)
		now := l.Now()
		l.Take(lim, user("u"), 1, now)
		for range 100 {
			l.Take(lim, user("u"), 1, now)
		}
		if !l.Take(lim, user("u"), 1, now+second).OK {
			t.Fatal("refused")
		}
	})
	t.Run("others are not affected", func(t *testing.T) {
		l, lim := limiter(t, 0), limit(t, "principal", "1/h", 1)
		now := l.Now()
		if !l.Take(lim, user("a"), 1, now).OK || l.Take(lim, user("a"), 1, now).OK || !l.Take(lim, user("b"), 1, now).OK {
			t.Fatal("keys are mixed up")
		}
	})
	t.Run("a clock that goes back locks nobody out for longer than the limit would", func(t *testing.T) {
		l, lim := limiter(t, 0), limit(t, "principal", "1/s", 2)
		l.Take(lim, user("u"), 2, 1_000_000*second)
		if !l.Take(lim, user("u"), 1, 10*second+4*second).OK && !l.Take(lim, user("u"), 1, 10*second+8*second).OK {
			t.Fatal("locked out")
		}
	})
}

func TestRefused(t *testing.T) {
	l := limiter(t, 0)
	now := l.Now()
	lim := limit(t, "principal", "10/s", 5)
	for name, r := range map[string]ratelimit.Result{
		"no limit":                       l.Take(nil, user("u"), 1, now),
		"the zero limit":                 l.Take(&ratelimit.Limit{}, user("u"), 1, now),
		"a cost of zero":                 l.Take(lim, user("u"), 0, now),
		"a negative cost":                l.Take(lim, user("u"), -5, now),
		"a cost above the burst":         l.Take(lim, user("u"), 6, now),
		"a cost that would overflow":     l.Take(lim, user("u"), 1<<62, now),
		"a key that says nothing":        l.Take(lim, ratelimit.Key{}, 1, now),
		"an operation limit without one": l.Take(limit(t, "principal+operation", "1/s", 1), user("u"), 1, now),
	} {
		if r.OK || r.RetryAfter <= 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r := l.Take(lim, user("u"), 5, now); !r.OK {
		t.Errorf("what was refused has been charged: %+v", r)
	}
}

func TestKeys(t *testing.T) {
	addr := func(s string) ratelimit.Key { return ratelimit.Key{Address: netip.MustParseAddr(s)} }
	tests := map[string]struct {
		by   string
		a, b ratelimit.Key
		same bool
	}{
		"one IPv6 /64 is one caller":                {"address", addr("2001:db8::1"), addr("2001:db8::ffff:1"), true},
		"another /64 is another":                    {"address", addr("2001:db8::1"), addr("2001:db8:0:1::1"), false},
		"an IPv4 address is one caller":             {"address", addr("192.0.2.1"), addr("192.0.2.2"), false},
		"a mapped address is the IPv4 one":          {"address", addr("192.0.2.1"), addr("::ffff:192.0.2.1"), true},
		"a zone does not make another caller":       {"address", addr("fe80::1%a"), addr("fe80::1%b"), true},
		"the subject of another issuer is another":  {"principal", ratelimit.Key{Issuer: "a", Subject: "u"}, ratelimit.Key{Issuer: "b", Subject: "u"}, false},
		"parts are not joined":                      {"principal", ratelimit.Key{Issuer: "ab", Subject: "c"}, ratelimit.Key{Issuer: "a", Subject: "bc"}, false},
		"a principal is counted from any address":   {"principal", ratelimit.Key{Address: netip.MustParseAddr("192.0.2.1"), Subject: "u"}, ratelimit.Key{Address: netip.MustParseAddr("192.0.2.9"), Subject: "u"}, true},
		"nobody is counted by address":              {"principal", addr("192.0.2.1"), addr("192.0.2.1"), true},
		"two nobodies are two":                      {"principal", addr("192.0.2.1"), addr("192.0.2.2"), false},
		"a tenant is shared by its users":           {"tenant", ratelimit.Key{Tenant: "t", Subject: "a"}, ratelimit.Key{Tenant: "t", Subject: "b"}, true},
		"a combination tells operations apart":      {"principal+operation", ratelimit.Key{Subject: "a", Operation: "x"}, ratelimit.Key{Subject: "a", Operation: "y"}, false},
		"a combination tells principals apart":      {"principal+operation", ratelimit.Key{Subject: "a", Operation: "x"}, ratelimit.Key{Subject: "b", Operation: "x"}, false},
		"all is one count":                          {"all", ratelimit.Key{Subject: "a"}, addr("192.0.2.1"), true},
		"an API key is not the client of that name": {"key", ratelimit.Key{KeyID: "x"}, ratelimit.Key{Client: "x", Address: netip.MustParseAddr("192.0.2.1")}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			l, lim := limiter(t, 0), limit(t, test.by, "1/h", 1)
			now := l.Now()
			if !l.Take(lim, test.a, 1, now).OK {
				t.Fatal("the first is refused")
			}
			if same := !l.Take(lim, test.b, 1, now).OK; same != test.same {
				t.Fatalf("counted as one: %v", same)
			}
		})
	}
	t.Run("two limits do not share a count", func(t *testing.T) {
		l, now := limiter(t, 0), second
		a, _ := ratelimit.NewLimit("a", "all", "1/h", 1)
		b, _ := ratelimit.NewLimit("b", "all", "1/h", 1)
		if !l.Take(a, ratelimit.Key{}, 1, now).OK || !l.Take(b, ratelimit.Key{}, 1, now).OK {
			t.Fatal("they do")
		}
	})
	t.Run("a reload keeps the count", func(t *testing.T) {
		l := limiter(t, 0)
		l.Take(limit(t, "all", "1/h", 1), ratelimit.Key{}, 1, second)
		if l.Take(limit(t, "all", "1/h", 1), ratelimit.Key{}, 1, second).OK {
			t.Fatal("a reload gives a new burst")
		}
	})
}

// N goroutines at one moment: exactly the burst, whatever the order.
func TestConcurrentTakesAreExact(t *testing.T) {
	l, lim := limiter(t, 0), limit(t, "principal", "1/h", 1000)
	now := l.Now()
	var admitted atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 500 {
				if l.Take(lim, user("u"), 1, now).OK {
					admitted.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if admitted.Load() != 1000 {
		t.Fatalf("%d admitted", admitted.Load())
	}
}

// An attacker with a fresh key for each request fills the table, and neither
// gets past the limit that newcomers share nor resets one that is already known.
func TestFullTable(t *testing.T) {
	l, lim := limiter(t, 256*24), limit(t, "principal", "10/h", 10)
	now := l.Now()
	for range 10 {
		l.Take(lim, user("known"), 1, now)
	}
	admitted := 0
	for i := range 100_000 {
		if l.Take(lim, user(fmt.Sprint("flood", i)), 1, now).OK {
			admitted++
		}
	}
	if l.Overflowed() == 0 {
		t.Fatal("the table did not fill")
	}
	if room := 256 * 32; admitted > room+10 {
		t.Errorf("%d fresh keys let through, the table has room for %d", admitted, room)
	}
	if l.Take(lim, user("known"), 1, now).OK {
		t.Error("the flood reset a limit")
	}
	if again := limit(t, "principal", "10/h", 10); l.Take(again, user("fresh after a reload"), 1, now).OK {
		t.Error("a reload gives the newcomers another burst")
	}
	if !l.Take(lim, user("late"), 1, now+2*3600*second).OK {
		t.Error("the table does not empty")
	}
}

func TestOverflowIsExact(t *testing.T) {
	l, lim := limiter(t, 256*24), limit(t, "principal", "1/h", 50)
	now := l.Now()
	for i := range 40_000 {
		l.Take(lim, user(fmt.Sprint("flood", i)), 1, now)
	}
	var admitted atomic.Int64
	before := l.Overflowed()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 2000 {
				if l.Take(lim, user(fmt.Sprint("late", g, "-", i)), 1, now).OK {
					admitted.Add(1)
				}
			}
		})
	}
	wg.Wait()
	fresh := 8000 - int64(l.Overflowed()-before)
	if got := admitted.Load(); got > fresh+50 {
		t.Fatalf("%d admitted of which only %d found room", got, fresh)
	}
}

func TestHeaders(t *testing.T) {
	l := limiter(t, 0)
	a, err := ratelimit.NewLimit("per-user", "all", "100/min", 50)
	if err != nil {
		t.Fatal(err)
	}
	b, err := ratelimit.NewLimit("burst", "all", "1/s", 1)
	if err != nil {
		t.Fatal(err)
	}
	now := l.Now()
	ra, rb := l.Take(a, ratelimit.Key{}, 1, now), l.Take(b, ratelimit.Key{}, 1, now)
	if got := string(ratelimit.AppendPolicy(ratelimit.AppendPolicy(nil, a), b)); got != `"per-user";q=100;w=60, "burst";q=1;w=1` {
		t.Error(got)
	}
	if got := string(ratelimit.AppendResult(ratelimit.AppendResult(nil, ra), rb)); got != `"per-user";r=49;t=1, "burst";r=0;t=1` {
		t.Error(got)
	}
	refused := l.Take(b, ratelimit.Key{}, 1, now+second/2)
	p := ratelimit.Problem(refused)
	if p.Kind != gatehouse.RateLimited || p.Reason != "rate_limited" || p.RetryAfter != time.Second || p.Kind.Status() != 429 {
		t.Errorf("%+v", p)
	}
	if p := ratelimit.Problem(ratelimit.Result{}); p.RetryAfter < time.Second {
		t.Errorf("%+v", p)
	}
}

func TestParse(t *testing.T) {
	for rate, want := range map[string]struct {
		count  int
		window time.Duration
	}{
		"100/min": {100, time.Minute}, "10/s": {10, time.Second}, "1000/h": {1000, time.Hour}, "5/15min": {5, 15 * time.Minute}, "1/d": {1, 24 * time.Hour},
		"1000000/s": {1_000_000, time.Second},
	} {
		if count, window, err := ratelimit.Parse(rate); err != nil || count != want.count || window != want.window {
			t.Errorf("%s: %d %v %v", rate, count, window, err)
		}
	}
	for _, rate := range []string{"", "100", "/min", "0/s", "-1/s", "+1/s", "1.5/s", "1/", "1/fortnight", "1/0s", "1/-1s", "1/40d", "1/107000d", "99999999/s", "1 / s", "1/ s", "1/s ", "١/s", "1/1s1"} {
		if _, _, err := ratelimit.Parse(rate); err == nil || !strings.Contains(err.Error(), "like 100/min") {
			t.Errorf("%q: %v", rate, err)
		}
	}
}

func TestLimitDescribesItself(t *testing.T) {
	for want, l := range map[string]*ratelimit.Limit{
		"100 in 1m0s, 20 at once, by principal+operation": limit(t, "principal+operation", "100/min", 20),
		"5 in 1s, 5 at once, by all":                      limit(t, "all", "5/s", 0),
	} {
		if got := l.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if limit(t, "address+operation", "1/s", 0).NeedsPrincipal() || !limit(t, "tenant", "1/s", 0).NeedsPrincipal() {
		t.Error("NeedsPrincipal is wrong")
	}
}

func TestNewLimitRefuses(t *testing.T) {
	for name, f := range map[string]func() (*ratelimit.Limit, error){
		"a name that breaks out of the header": func() (*ratelimit.Limit, error) { return ratelimit.NewLimit("a\"\r\n", "all", "1/s", 0) },
		"no name":                              func() (*ratelimit.Limit, error) { return ratelimit.NewLimit("", "all", "1/s", 0) },
		"a negative burst":                     func() (*ratelimit.Limit, error) { return ratelimit.NewLimit("a", "all", "1/s", -1) },
		"an unknown dimension":                 func() (*ratelimit.Limit, error) { return ratelimit.NewLimit("a", "user", "1/s", 0) },
		"a dimension twice":                    func() (*ratelimit.Limit, error) { return ratelimit.NewLimit("a", "key+key", "1/s", 0) },
		"no dimension":                         func() (*ratelimit.Limit, error) { return ratelimit.NewLimit("a", "", "1/s", 0) },
		"a burst that lasts for years":         func() (*ratelimit.Limit, error) { return ratelimit.NewLimit("a", "all", "1/31d", 1000) },
	} {
		if l, err := f(); err == nil || l != nil {
			t.Errorf("%s is taken", name)
		}
	}
	for _, entries := range []int{-1, 1, 1 << 30} {
		if _, err := ratelimit.New(ratelimit.Config{Entries: entries}); err == nil {
			t.Errorf("%d entries are taken", entries)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"100/min", "5/15min", "1/", "/", "0/s", "9999999/9999999d", "1/s/s"} {
		f.Add(s)
	}
	shared := limiter(f, 0)
	f.Fuzz(func(t *testing.T, s string) {
		count, window, err := ratelimit.Parse(s)
		if err == nil && (count < 1 || window < time.Second || window > ratelimit.MaxWindow) {
			t.Fatalf("%q: %d in %v", s, count, window)
		}
		if l, err := ratelimit.NewLimit("n", "all", s, 0); err == nil {
			r := shared.Take(l, ratelimit.Key{}, 1, second)
			if r.Remaining < 0 || r.Reset < 0 || r.RetryAfter < 0 {
				t.Fatalf("%q: %+v", s, r)
			}
		}
	})
}

// FuzzTake drives one count with any sequence: what is left never leaves its
// bounds, and who waits as told is let in.
func FuzzTake(f *testing.F) {
	f.Add(uint16(10), uint16(3), []byte{1, 2, 3, 200, 0, 255})
	f.Fuzz(func(t *testing.T, rate, burst uint16, steps []byte) {
		lim, err := ratelimit.NewLimit("n", "all", fmt.Sprintf("%d/min", rate), int(burst))
		if err != nil {
			return
		}
		l := limiter(t, 256*24)
		now := int64(1)
		for _, s := range steps {
			now += int64(s) * second / 16
			cost := int64(s%5) - 1
			r := l.Take(lim, ratelimit.Key{}, cost, now)
			if r.OK && cost < 1 {
				t.Fatal("a cost below one is taken")
			}
			if r.Remaining < 0 || r.Reset < 0 || (r.RetryAfter > 0) == r.OK {
				t.Fatalf("%+v", r)
			}
			if one := l.Take(lim, ratelimit.Key{}, 1, now); !one.OK {
				now += one.RetryAfter
				if !l.Take(lim, ratelimit.Key{}, 1, now).OK {
					t.Fatalf("refused after waiting as told: %+v", one)
				}
			}
		}
	})
}

func TestWorkDoneIsChargedToTheNextRequests(t *testing.T) {
	l, limit := limiter(t, 0), limit(t, "address", "1/s", 10)
	key := ratelimit.Key{Address: netip.MustParseAddr("192.0.2.1")}
	now := l.Now()
	left := func() int64 { return l.Take(limit, key, 1, now).Remaining }
	if got := left(); got != 9 {
		t.Fatalf("%d left, want 9", got)
	}
	if l.Charge(limit, key, 4, now); left() != 4 {
		t.Error("4 tokens were not charged")
	}
	l.Charge(limit, key, 1_000_000, now) // more than there is
	r := l.Take(limit, key, 1, now)
	if r.OK || r.RetryAfter > int64(time.Second) {
		t.Errorf("after all is spent the next request is %+v; want it refused for one second, not for ever", r)
	}
	l.Charge(limit, ratelimit.Key{}, 5, now)
	l.Charge(nil, key, 5, now)
	l.Charge(limit, key, -5, now)
	if l.Take(limit, key, 1, now).OK {
		t.Error("a negative charge gave tokens back")
	}
}

package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
)

// everyCall makes each call of the door once and gives the longest of them.
func everyCall(t *testing.T, s *store.Shared) (failed int, longest time.Duration) {
	t.Helper()
	for name, call := range map[string]func() error{
		"Once": func() error { _, err := s.Once(t.Context(), "space", t.Name(), time.Minute); return err },
		"Take": func() error {
			_, err := s.Take(t.Context(), []store.Ask{{Key: [16]byte{1}, Interval: time.Second, Burst: 1, Want: 1}}, nil)
			return err
		},
		"Lead":    func() error { _, _, err := s.Lead(t.Context(), "lease", time.Minute); return err },
		"Resign":  func() error { return s.Resign(t.Context(), "lease") },
		"Publish": func() error { return s.Publish(t.Context(), "topic", []byte("x")) },
		"Nodes":   func() error { _, err := s.Nodes(t.Context()); return err },
	} {
		start := time.Now()
		err := call()
		longest = max(longest, time.Since(start))
		if err != nil {
			failed++
			if !errors.Is(err, store.ErrAway) {
				t.Errorf("%s: %v is not ErrAway", name, err)
			}
		}
	}
	return failed, longest
}

// TestSharedEngineThatGoesAway ill-treats a server in each way a server is, and asks:
// no call is longer than its bound, the ones after the first few fail at once, and all
// work again by themselves afterwards, subscribers being told of the gap.
func TestSharedEngineThatGoesAway(t *testing.T) {
	for name, c := range map[string]struct {
		away func(*storetest.RedisServer, *storetest.Proxy)
		back func(*storetest.RedisServer, *storetest.Proxy)
		lost bool // so is every connection
	}{
		"it is killed and started again": {
			func(s *storetest.RedisServer, _ *storetest.Proxy) { s.Kill() },
			func(s *storetest.RedisServer, _ *storetest.Proxy) { s.Restart() },
			true,
		},
		"it hangs": {
			func(s *storetest.RedisServer, _ *storetest.Proxy) { s.Stop() },
			func(s *storetest.RedisServer, _ *storetest.Proxy) { s.Cont() },
			false,
		},
		"the network lets nothing through": {
			func(_ *storetest.RedisServer, p *storetest.Proxy) { p.Cut() },
			func(_ *storetest.RedisServer, p *storetest.Proxy) { p.Heal() },
			false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, server := storetest.Redis(t)
			proxy := storetest.NewProxy(t, server.Address)
			s := shareAt(t, "redis://"+proxy.Address, "a")
			var gaps, messages atomic.Int64
			var heard atomic.Bool
			s.Subscribe(t.Context(), "topic", func(m []byte) {
				if m == nil {
					gaps.Add(1)
				} else {
					messages.Add(1)
				}
				if string(m) == "meanwhile" {
					heard.Store(true)
				}
			})
			storetest.Within(t, 30*time.Second, "the subscription begins", func() bool { return gaps.Load() == 1 })
			late := storetest.Late(t)
			storetest.Within(t, 10*time.Second, "every call works before", func() bool { failed, _ := everyCall(t, s); return failed == 0 })

			direct := shareAt(t, "redis://"+server.Address, "b")
			c.away(server, proxy)
			sent := direct.Publish(t.Context(), "topic", []byte("meanwhile"))
			var all sync.WaitGroup
			for i := range 200 { // many callers, just when it goes
				all.Go(func() {
					start := time.Now()
					if _, err := s.Once(t.Context(), "space", fmt.Sprint(name, i), time.Minute); err == nil {
						t.Error("an answer from nobody")
					}
					if d := time.Since(start); d > bound+late() {
						t.Errorf("a call took %s", d)
					}
				})
			}
			all.Wait()
			storetest.Within(t, 3*time.Second, "it is told to be away", func() bool { return errors.Is(s.Err(), store.ErrAway) })
			var sum, worst time.Duration
			failed := 0
			for range 40 {
				start := time.Now()
				n, longest := everyCall(t, s)
				sum, worst, failed = sum+time.Since(start), max(worst, longest), failed+n
			}
			if worst > bound+late() || failed != 240 {
				t.Errorf("a call took %s; %d of 240 failed", worst, failed)
			}
			t.Logf("while away: 240 calls in %s, the longest %s", sum, worst)
			if sum > 3*time.Second+late() {
				t.Errorf("240 calls took %s: they wait one after the other", sum)
			}
			if s.Count() < 1 {
				t.Error("nobody is left")
			}

			c.back(server, proxy)
			back := time.Now()
			storetest.Within(t, 5*time.Second, "every call works again", func() bool {
				failed, _ := everyCall(t, s)
				return failed == 0 && s.Err() == nil
			})
			t.Logf("back after %s", time.Since(back))
			if sent == nil || c.lost { // what could not be sent nobody misses
				storetest.Within(t, 5*time.Second, "what was sent meanwhile is delivered, or a gap is told", func() bool { return gaps.Load() >= 2 || heard.Load() })
			}
			before := messages.Load()
			storetest.Within(t, 5*time.Second, "messages come", func() bool {
				return s.Publish(t.Context(), "topic", []byte("x")) == nil && messages.Load() > before
			})
		})
	}
}

func TestSharedStartsWithoutItsEngine(t *testing.T) {
	url, server := storetest.Redis(t)
	server.Kill()
	late, start := storetest.Late(t), time.Now()
	s := shareAt(t, url, "a")
	if since := time.Since(start); since > 4*time.Second+late() {
		t.Errorf("it opened after %s", since)
	}
	if failed, longest := everyCall(t, s); failed != 6 || longest > bound+late() || !errors.Is(s.Err(), store.ErrAway) {
		t.Errorf("%d of 6 failed, %s, %v", failed, longest, s.Err())
	}
	server.Restart()
	storetest.Within(t, 10*time.Second, "every call works", func() bool { failed, _ := everyCall(t, s); return failed == 0 && s.Err() == nil })
}

func TestSharedFenceOutlivesTheServersMemory(t *testing.T) {
	url, server := storetest.Redis(t)
	a, b := shareAt(t, url, "a"), shareAt(t, url, "b")
	var held bool
	var first int64
	var err error
	storetest.Within(t, 10*time.Second, "one leads", func() bool {
		held, first, err = a.Lead(t.Context(), "lease", time.Minute)
		return err == nil && held
	})
	server.Restart() // and everything in it is lost
	var second int64
	storetest.Within(t, 5*time.Second, "another one leads", func() bool {
		held, second, err = b.Lead(t.Context(), "lease", time.Minute)
		return err == nil && held
	})
	if second <= first {
		t.Errorf("fence %d after %d", second, first)
	}
	storetest.Within(t, 5*time.Second, "the one before is told", func() bool {
		held, _, err = a.Lead(t.Context(), "lease", time.Minute)
		return err == nil && !held
	})
}

func TestSharedClusterWithoutOneShard(t *testing.T) {
	url, servers := storetest.RedisCluster(t)
	s := shareAt(t, url, "a")
	asks := make([]store.Ask, 256)
	for i := range asks {
		asks[i] = store.Ask{Key: [16]byte{byte(i)}, Interval: time.Hour, Burst: 1000, Want: 1}
	}
	count := func() (got int, took time.Duration) {
		t.Helper()
		start := time.Now()
		out, err := s.Take(t.Context(), asks, nil)
		if err != nil {
			return 0, time.Since(start)
		}
		for _, g := range out {
			if (g.Err == nil) != (g.Tokens == 1) {
				t.Fatalf("%+v", g)
			}
			if g.Err == nil {
				got++
			}
		}
		return got, time.Since(start)
	}
	storetest.Within(t, 10*time.Second, "all shards answer at first", func() bool { got, _ := count(); return got == len(asks) })
	servers[2].Stop()
	late := storetest.Late(t)
	var got int
	var took time.Duration
	storetest.Within(t, 10*time.Second, "the other shards answer, and at once", func() bool {
		if got, took = count(); took > bound+late() {
			t.Errorf("a call took %s", took)
		}
		return got > len(asks)/3 && got < len(asks) && took < 100*time.Millisecond+late()
	})
	if !errors.Is(s.Err(), store.ErrAway) {
		t.Errorf("a shard that is away is told: %v", s.Err())
	}
	servers[2].Cont()
	storetest.Within(t, 15*time.Second, "all shards answer", func() bool { got, _ = count(); return got == len(asks) && s.Err() == nil })
}

func TestSharedFailover(t *testing.T) {
	url, master, _, _ := storetest.RedisSentinel(t)
	s := shareAt(t, url, "a")
	var gaps atomic.Int64
	s.Subscribe(t.Context(), "topic", func(m []byte) {
		if m == nil {
			gaps.Add(1)
		}
	})
	storetest.Within(t, 30*time.Second, "the subscription begins", func() bool { return gaps.Load() == 1 })
	master.Kill()
	late, start := storetest.Late(t), time.Now()
	storetest.Within(t, 30*time.Second, "the replica has taken over", func() bool {
		failed, longest := everyCall(t, s)
		if longest > bound+late() {
			t.Errorf("a call took %s", longest)
		}
		return failed == 0
	})
	t.Logf("after %s", time.Since(start))
	storetest.Within(t, 10*time.Second, "the subscriber is told of the gap", func() bool { return gaps.Load() >= 2 })
}

func TestSharedPassword(t *testing.T) {
	const password = "pa55-w0rd-%-@"
	_, server := storetest.Redis(t, "--requirepass", password)
	if err := share(t, store.SharedConfig{URL: gatehouse.NewSecret("redis://:pa55-w0rd-%25-%40@" + server.Address)}).Publish(t.Context(), "topic", []byte("x")); err != nil {
		t.Error(err)
	}
	for name, url := range map[string]string{
		"no password":        "redis://" + server.Address,
		"the wrong password": "redis://:wr0ng-w0rd@" + server.Address,
	} {
		_, err := store.OpenShared(t.Context(), store.SharedConfig{URL: gatehouse.NewSecret(url)})
		if err == nil || strings.Contains(err.Error(), "wr0ng-w0rd") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSharedNeedsFewRights: the user as docs/operations.md writes it.
func TestSharedNeedsFewRights(t *testing.T) {
	doc, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, line, ok := strings.Cut(string(doc), "`user gatehouse ")
	if !ok {
		t.Fatal("docs/operations.md writes no user")
	}
	line, _, _ = strings.Cut(line, "`")
	_, server := storetest.Redis(t, append([]string{"--user", "gatehouse"}, strings.Fields(line)...)...)
	s := patient(t, "redis://gatehouse:PASSWORD@"+server.Address, "a")
	var begun atomic.Bool
	s.Subscribe(t.Context(), "topic", func([]byte) { begun.Store(true) })
	if failed, _ := everyCall(t, s); failed != 0 {
		t.Errorf("%d calls are refused", failed)
	}
	storetest.Within(t, 30*time.Second, "the subscription begins", begun.Load)
}

func TestSharedURLs(t *testing.T) {
	for name, url := range map[string]string{
		"no scheme":                          "s3cret@host",
		"another scheme":                     "http://:s3cret@localhost",
		"no TLS beyond this machine":         "redis://:s3cret@engine.example:6379",
		"no TLS beyond it for one of many":   "redis://:s3cret@localhost,10.0.0.1",
		"no TLS for a Sentinel elsewhere":    "redis-sentinel://:s3cret@10.0.0.1/house",
		"a name that looks like loopback":    "redis://:s3cret@127.0.0.1.example",
		"no host":                            "rediss://:s3cret@",
		"a port that is none":                "rediss://:s3cret@host:99999",
		"a database that is none":            "rediss://:s3cret@host/-1",
		"a parameter nobody reads":           "rediss://:s3cret@host?insecure=true",
		"a user without password":            "rediss://s3cret@host",
		"a password that is not encoded":     "rediss://:s3cret%zz@host",
		"Sentinels that watch nothing named": "rediss-sentinel://:s3cret@host",
		"a socket without a path":            "unix://:s3cret@",
	} {
		_, err := store.OpenShared(t.Context(), store.SharedConfig{URL: gatehouse.NewSecret(url)})
		if err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func BenchmarkSharedTake(b *testing.B) {
	redis, _ := storetest.Redis(b)
	for name, cfg := range map[string]store.SharedConfig{
		"memory": {Memory: &store.SharedMemory{}}, "redis": {URL: gatehouse.NewSecret(redis)},
	} {
		s := share(b, cfg)
		for _, n := range []int{1, 100, 1000} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				asks, out := make([]store.Ask, n), []store.Grant(nil)
				for i := range asks {
					asks[i] = store.Ask{Key: [16]byte{byte(i), byte(i >> 8)}, Interval: time.Microsecond, Burst: 1 << 30, Want: 1}
				}
				b.ReportAllocs()
				for b.Loop() {
					var err error
					if out, err = s.Take(context.Background(), asks, out); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "keys/s")
			})
		}
	}
}

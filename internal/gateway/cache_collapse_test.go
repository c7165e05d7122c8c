package gateway_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/cache"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
)

// crowd sends n equal requests at once and gives their answers when all are there.
func crowd(h *house, n int, target string, header ...string) []*httptest.ResponseRecorder {
	out := make([]*httptest.ResponseRecorder, n)
	var wg sync.WaitGroup
	for i := range n {
		r := h.request("GET", target, "", header...)
		out[i] = httptest.NewRecorder()
		wg.Go(func() { h.entry.ServeHTTP(out[i], r) })
	}
	wg.Wait()
	return out
}

func TestAThousandAskAndOneGoes(t *testing.T) {
	for _, c := range []struct {
		name    string
		header  []string // of the answer
		status  int
		body    int
		atLeast int // requests the service gets
		atMost  int
	}{
		{"what may be kept is asked for once", nil, 200, 5, 1, 1},
		{"a long answer, too", nil, 200, 800 << 10, 1, 1},
		{"what may not be is asked for by each", []string{"Cache-Control", "no-store"}, 200, 5, 100, 1000},
		{"what is too long as well", nil, 200, 2 << 20, 100, 1000},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := 1000
			if c.body > 1<<20 || underRace {
				n = 100 // each has its own
			}
			url, service := counting(t, func(i int64, w http.ResponseWriter, r *http.Request) {
				if i == 1 {
					select { // so that the others come meanwhile
					case <-time.After(300 * time.Millisecond):
					case <-r.Context().Done():
					}
				}
				for i := 0; i < len(c.header); i += 2 {
					w.Header().Set(c.header[i], c.header[i+1])
				}
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, strings.Repeat("x", c.body))
			})
			h := cachedHouse(t, url, func(c *houseConfig) {
				c.upstream = func(u *gateway.UpstreamConfig) {
					u.MaxInFlight, u.FirstLimit, u.MaxLimit = 2000, 2000, 2000
					u.QueueWait = time.Minute
				}
			})
			for _, w := range crowd(h, n, "/things") {
				if w.Code != c.status || w.Body.Len() != c.body {
					t.Fatalf("%d, %d bytes: %.200s", w.Code, w.Body.Len(), w.Body)
				}
			}
			if got := len(service.all()); got < c.atLeast || got > c.atMost {
				t.Errorf("the service was asked %d times for %d requests", got, n)
			}
		})
	}
}

func TestTheLeaderLeaves(t *testing.T) {
	reached, release := make(chan struct{}), make(chan struct{})
	url, service := counting(t, func(n int64, w http.ResponseWriter, r *http.Request) {
		if n == 1 {
			close(reached)
			<-r.Context().Done()
			return
		}
		<-release
		_, _ = fmt.Fprintf(w, `{"n":%d}`, n)
	})
	h := cachedHouse(t, url)
	ctx, leave := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		h.entry.ServeHTTP(httptest.NewRecorder(), h.request("GET", "/things", "").WithContext(ctx))
	})
	<-reached
	wg.Go(func() {
		for _, w := range crowd(h, 50, "/things") {
			if w.Code != 200 || w.Body.String() != `{"n":2}` {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		}
	})
	leave()
	until(t, "another to lead", func() bool { return len(service.all()) == 2 })
	close(release)
	wg.Wait()
	if n := len(service.all()); n != 2 {
		t.Errorf("the service was asked %d times, want once for who left and once for the rest", n)
	}
}

// A caller who takes its answer slowly keeps nobody waiting who asked the same.
func TestTheLeaderReadsSlowly(t *testing.T) {
	reached, release := make(chan struct{}), make(chan struct{})
	url, _ := counting(t, func(_ int64, w http.ResponseWriter, _ *http.Request) {
		close(reached)
		<-release
		_, _ = io.WriteString(w, strings.Repeat("x", 900<<10))
	})
	h := cachedHouse(t, url)
	stuck := &stuckWriter{ResponseRecorder: httptest.NewRecorder(), free: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() { h.entry.ServeHTTP(stuck, h.request("GET", "/things", "")) })
	<-reached
	wg.Go(func() {
		for _, w := range crowd(h, 20, "/things") {
			if w.Code != 200 || w.Body.Len() != 900<<10 {
				t.Errorf("%d, %d bytes", w.Code, w.Body.Len())
			}
		}
		close(stuck.free) // only now
	})
	close(release)
	wg.Wait()
}

type stuckWriter struct {
	*httptest.ResponseRecorder

	free chan struct{}
}

func (s *stuckWriter) Write(b []byte) (int, error) {
	<-s.free
	return s.ResponseRecorder.Write(b)
}

func TestAStaleAnswerBridgesTheRefresh(t *testing.T) {
	reached, release := make(chan struct{}), make(chan struct{})
	url, service := counting(t, func(n int64, w http.ResponseWriter, _ *http.Request) {
		if n == 2 {
			close(reached)
			<-release
		}
		w.Header().Set("Cache-Control", "max-age=0, stale-while-revalidate=60")
		_, _ = fmt.Fprintf(w, `{"n":%d}`, n)
	})
	h := cachedHouse(t, url)
	_ = h.ask("GET", "/things", "")
	var wg sync.WaitGroup
	wg.Go(func() {
		if w := h.ask("GET", "/things", ""); w.Body.String() != `{"n":2}` {
			t.Errorf("who fetches it anew gets %s", w.Body)
		}
	})
	<-reached
	for range 3 {
		if w := h.ask("GET", "/things", ""); w.Body.String() != `{"n":1}` || !strings.HasSuffix(strings.Split(w.Header().Get("Cache-Status"), "; ttl")[0], "detail=stale-while-revalidate") {
			t.Errorf("%s %v", w.Body, w.Header())
		}
	}
	if n := len(service.all()); n != 2 {
		t.Errorf("the service was asked %d times", n)
	}
	close(release)
	wg.Wait()
}

// A cache must not change what callers get: a mixed workload through a gateway with
// it and one without, in front of services that do the same.
func TestCachedOrNotTheAnswersAreEqual(t *testing.T) {
	house := func(with bool) *house {
		var version atomic.Int64
		url, _ := counting(t, func(_ int64, w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			switch r.Method {
			case http.MethodPost:
				version.Add(1)
				w.WriteHeader(201)
				return
			}
			switch r.URL.Query().Get("q") {
			case "1":
				h.Set("Cache-Control", "no-store")
			case "2":
				h.Set("Etag", fmt.Sprintf(`"%d"`, version.Load()))
				h.Set("Cache-Control", "no-cache")
				if r.Header.Get("If-None-Match") == h.Get("Etag") {
					w.WriteHeader(304)
					return
				}
			case "3":
				h.Set("Set-Cookie", "a=b")
			case "4":
				w.WriteHeader(404)
			}
			_, _ = fmt.Fprintf(w, `{"version":%d,"who":%t,"lang":%q,"q":%q}`, version.Load(), r.Header.Get("Authorization") != "", r.Header.Get("Accept-Language"), r.URL.RawQuery)
		})
		return cachedHouse(t, url, func(c *houseConfig) {
			if !with {
				routes := c.routes
				c.routes = func(r map[string]*gateway.Route) {
					routes(r)
					for _, one := range r {
						one.Cache = nil
					}
				}
			}
		})
	}
	a, b := house(true), house(false)
	random := rand.New(rand.NewPCG(1, 2))
	hits := 0
	for i := range 1500 {
		method, target := "GET", fmt.Sprintf("/things?q=%d", random.IntN(7))
		var header []string
		switch random.IntN(12) {
		case 0:
			method, target = "POST", "/things"
		case 1:
			method = "HEAD"
		case 2, 3:
			header = append(header, "Accept-Language", []string{"de", "en"}[random.IntN(2)])
		case 4:
			header = append(header, "If-None-Match", fmt.Sprintf(`"%d"`, random.IntN(50)))
		}
		x, y := a.ask(method, target, "", header...), b.ask(method, target, "", header...)
		if x.Header().Get("Cache-Status") != "" && strings.Contains(x.Header().Get("Cache-Status"), "hit") {
			hits++
		}
		if x.Code != y.Code || x.Body.String() != y.Body.String() || x.Header().Get("Content-Type") != y.Header().Get("Content-Type") || x.Header().Get("Etag") != y.Header().Get("Etag") || x.Header().Get("Set-Cookie") != y.Header().Get("Set-Cookie") {
			t.Fatalf("request %d, %s %s %v: %d %v %s\nwithout a cache: %d %v %s", i, method, target, header, x.Code, x.Header(), x.Body, y.Code, y.Header(), y.Body)
		}
	}
	if hits < 200 {
		t.Errorf("%d hits: the workload shows little", hits)
	}
}

// hitting is a request that is answered from the cache, with all its checks, the
// record and the metrics.
func hitting(tb testing.TB) *replay {
	url, _ := counting(tb, nil)
	h := busyHouse(tb, url)
	h.routes["listOrders"].Cache = &gateway.Caching{Policy: cache.Policy{TTL: time.Hour}}
	h.snap.CacheMemory = 64 << 20
	h.gate.Swap(h.snap)
	p := h.replay("GET", "/orders?limit=5&q=ham", "", "User-Agent", "curl/8.5", "Accept", "application/json", "Authorization", h.token("ann"))
	if first, second := p.send(), p.send(); first != 200 || second != 200 {
		tb.Fatal(p.w.status)
	}
	return p
}

func BenchmarkAHit(b *testing.B) {
	p := hitting(b)
	b.ReportAllocs()
	for b.Loop() {
		p.send()
	}
}

func TestAllocsOfAHit(t *testing.T) {
	if underRace {
		t.Skip("the race detector allocates")
	}
	p := hitting(t)
	if n := testing.AllocsPerRun(200, func() { p.send() }); n > 3 {
		t.Errorf("%v allocations, budget 3", n)
	}
}

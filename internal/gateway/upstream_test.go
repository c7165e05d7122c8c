package gateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
)

// until waits for something that other goroutines bring about.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// deadAddress is one where nobody listens.
func deadAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

func forward(t testing.TB, u *gateway.Upstreams, method, body string) (*httptest.ResponseRecorder, gateway.Result, *gatehouse.Problem) {
	t.Helper()
	w := httptest.NewRecorder()
	x := &gateway.Outbound{Request: httptest.NewRequestWithContext(t.Context(), method, "/", nil), Path: "/"}
	if body != "" {
		x.Body = []byte(body)
	}
	res, err := u.Forward(w, x)
	if err == nil {
		return w, res, nil
	}
	return w, res, gatehouse.AsProblem(err)
}

func open(t testing.TB, cfg gateway.UpstreamConfig) *gateway.Upstreams {
	t.Helper()
	u, err := gateway.NewUpstreams(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Release)
	return u
}

const okAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func TestRetries(t *testing.T) {
	for _, c := range []struct {
		name     string
		method   string
		retries  int
		firstUse string // what the service says to the n-th request; "" closes without a word
		attempts int
		requests int
		reason   string
	}{
		{"a GET without answer is tried again", "GET", 1, "", 2, 2, ""},
		{"a PUT too", "PUT", 1, "", 2, 2, ""},
		{"a POST is not: it may have been carried out", "POST", 1, "", 1, 1, "upstream_failed"},
		{"nor a PATCH", "PATCH", 3, "", 1, 1, "upstream_failed"},
		{"nor anything without retries", "GET", 0, "", 1, 1, "upstream_failed"},
		{"nor what was answered in part", "GET", 3, "HTTP/1.1 200 OK\r\nContent-", 1, 1, "upstream_failed"},
		{"nor what was answered wrongly", "GET", 3, "HTTP/3 nonsense\r\n\r\n", 1, 1, "upstream_failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var requests atomic.Int32
			url := rawUpstream(t, func(n int, _ string, br *bufio.Reader, nc net.Conn) {
				requests.Add(1)
				if n == 1 {
					_, _ = io.WriteString(nc, c.firstUse)
					_ = nc.Close()
					return
				}
				_, _ = io.WriteString(nc, okAnswer)
			})
			cfg := none(url)
			cfg.Retries = c.retries
			_, res, p := forward(t, open(t, cfg), c.method, "")
			if (p == nil) != (c.reason == "") || p != nil && p.Reason != c.reason {
				t.Fatalf("got %v", p)
			}
			if res.Attempts != c.attempts || int(requests.Load()) != c.requests {
				t.Fatalf("%d attempts, %d requests", res.Attempts, requests.Load())
			}
		})
	}
}

func TestWhatWasNeverSentMayGoElsewhere(t *testing.T) {
	good := rawUpstream(t, func(_ int, _ string, br *bufio.Reader, c net.Conn) {
		_, _ = br.Discard(5)
		_, _ = io.WriteString(c, okAnswer)
	})
	cfg := none(deadAddress(t), good)
	cfg.Retries = 1
	u := open(t, cfg)
	for range 20 {
		if w, _, p := forward(t, u, "POST", "hello"); p != nil || w.Code != 200 {
			t.Fatal(p)
		}
	}
}

func TestRetriesAreBounded(t *testing.T) {
	var requests atomic.Int32
	cfg := none(rawUpstream(t, func(_ int, _ string, _ *bufio.Reader, c net.Conn) { requests.Add(1); _ = c.Close() }))
	cfg.Retries, cfg.Failures = 5, 1<<20
	u := open(t, cfg)
	const n = 200
	for range n {
		if _, _, p := forward(t, u, "GET", ""); p == nil {
			t.Fatal("an answer")
		}
	}
	if extra := requests.Load() - n; extra > 10+n/5 || extra < n/5 {
		t.Fatalf("%d requests for %d: a failing service must not get much more work", requests.Load(), n)
	}
}

func TestBreaker(t *testing.T) {
	var well atomic.Bool
	var requests atomic.Int32
	cfg := none(rawUpstream(t, func(_ int, _ string, _ *bufio.Reader, c net.Conn) {
		requests.Add(1)
		if !well.Load() {
			_ = c.Close()
			return
		}
		_, _ = io.WriteString(c, okAnswer)
	}))
	cfg.Failures, cfg.Open = 3, 100*time.Millisecond
	u := open(t, cfg)
	for range 3 {
		if _, _, p := forward(t, u, "GET", ""); p == nil || p.Reason != "upstream_failed" {
			t.Fatal(p)
		}
	}
	for range 10 {
		_, res, p := forward(t, u, "GET", "")
		if p == nil || p.Reason != "upstream_unavailable" || p.Kind.Status() != 503 || p.RetryAfter <= 0 || res.Upstream != "" {
			t.Fatalf("%v, %+v", p, res)
		}
	}
	if n := requests.Load(); n != 3 {
		t.Fatalf("%d requests reached a service whose breaker is open", n-3)
	}
	if s := u.Status(); len(s) != 1 || !s[0].Open {
		t.Fatalf("%+v", s)
	}
	well.Store(true)
	until(t, "the breaker to close", func() bool { _, _, p := forward(t, u, "GET", ""); return p == nil })
	if s := u.Status(); s[0].Open {
		t.Fatalf("%+v", s)
	}
}

func TestAStatusDoesNotOpenTheBreaker(t *testing.T) {
	cfg := none(rawUpstream(t, say("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")))
	cfg.Failures = 1
	u := open(t, cfg)
	for range 5 {
		if w, _, p := forward(t, u, "GET", ""); p != nil || w.Code != 500 {
			t.Fatal(p)
		}
	}
}

func TestACallerCannotChooseTheLaneAndOpenTheBreaker(t *testing.T) {
	cfg := none(rawUpstream(t, say(okAnswer)))
	cfg.Failures = 1
	u := open(t, cfg)
	for _, method := range []string{"GET", "DELETE", "POST"} {
		r := httptest.NewRequestWithContext(t.Context(), method, "/", nil)
		r.Header.Set("Content-Type", "application/grpc")
		x := &gateway.Outbound{Request: r, Path: "/"}
		if method == "POST" {
			x.Body = []byte("{}")
		}
		if _, err := u.Forward(httptest.NewRecorder(), x); err != nil {
			t.Fatalf("%s: %v", method, err)
		}
	}
}

func TestACallerWhoLeavesDoesNotOpenTheBreaker(t *testing.T) {
	begun := make(chan struct{}, 1)
	cfg := none(rawUpstream(t, func(n int, _ string, _ *bufio.Reader, c net.Conn) {
		if n == 1 {
			begun <- struct{}{}
			return
		}
		_, _ = io.WriteString(c, okAnswer)
	}))
	cfg.Failures = 1
	u := open(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-begun; cancel() }()
	_, err := u.Forward(httptest.NewRecorder(), &gateway.Outbound{Request: httptest.NewRequestWithContext(ctx, "GET", "/", nil), Path: "/"})
	if p := gatehouse.AsProblem(err); p == nil || p.Reason != "client_gone" {
		t.Fatal(err)
	}
	if _, _, p := forward(t, u, "GET", ""); p != nil {
		t.Fatal(p)
	}
}

func TestHealthChecks(t *testing.T) {
	var well atomic.Bool
	var checks atomic.Int32
	for _, h2c := range []bool{false, true} {
		t.Run(fmt.Sprintf("h2c %v", h2c), func(t *testing.T) {
			well.Store(false)
			url := service(t, h2c, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/base/healthz" {
					checks.Add(1)
					if !well.Load() {
						w.WriteHeader(500)
					}
				}
			})
			cfg := none(url + "/base")
			cfg.Health = &gateway.HealthCheck{Path: "/healthz", Interval: 5 * time.Millisecond, Unhealthy: 2, Healthy: 2}
			u := open(t, cfg)
			until(t, "the service to be left out", func() bool { return !u.Status()[0].Healthy })
			if _, _, p := forward(t, u, "GET", ""); p == nil || p.Reason != "upstream_unavailable" {
				t.Fatal(p)
			}
			well.Store(true)
			until(t, "the service to be used again", func() bool { return u.Status()[0].Healthy })
			if _, _, p := forward(t, u, "GET", ""); p != nil {
				t.Fatal(p)
			}
		})
	}
}

func TestInFlightIsBounded(t *testing.T) {
	release := make(chan struct{})
	var at, most atomic.Int32
	cfg := none(service(t, false, func(http.ResponseWriter, *http.Request) {
		most.Store(max(most.Load(), at.Add(1)))
		<-release
		at.Add(-1)
	}))
	cfg.MaxInFlight, cfg.MaxQueue, cfg.QueueWait = 2, 3, 10*time.Second
	u := open(t, cfg)
	var wg sync.WaitGroup
	var ok, busy atomic.Int32
	for range 10 {
		wg.Go(func() {
			switch _, _, p := forward(t, u, "GET", ""); {
			case p == nil:
				ok.Add(1)
			case p.Reason == "overloaded" && p.Kind.Status() == 503:
				busy.Add(1)
			}
		})
	}
	until(t, "the line to be full", func() bool { return busy.Load() == 5 })
	close(release)
	wg.Wait()
	if ok.Load() != 5 || most.Load() > 2 {
		t.Fatalf("%d answered, %d refused, %d at once", ok.Load(), busy.Load(), most.Load())
	}
	if n := u.Status()[0].InFlight; n != 0 {
		t.Fatalf("%d slots were lost", n)
	}
}

func TestTheLineMovesWhateverHappens(t *testing.T) {
	cfg := none(service(t, false, func(http.ResponseWriter, *http.Request) {}))
	cfg.MaxInFlight, cfg.MaxQueue, cfg.QueueWait = 2, 100, 10*time.Second
	u := open(t, cfg)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 50 {
				if _, _, p := forward(t, u, "GET", ""); p != nil {
					t.Error(p)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestLoadIsSpread(t *testing.T) {
	var hits [3]atomic.Int32
	var urls []string
	for i := range hits {
		urls = append(urls, service(t, false, func(http.ResponseWriter, *http.Request) { hits[i].Add(1) }))
	}
	u := open(t, none(urls...))
	for range 300 {
		if _, _, p := forward(t, u, "GET", ""); p != nil {
			t.Fatal(p)
		}
	}
	for i := range hits {
		if n := hits[i].Load(); n < 30 {
			t.Errorf("service %d got %d of 300 requests", i, n)
		}
	}
}

func TestConfigIsRefused(t *testing.T) {
	empty := t.TempDir() + "/empty.pem"
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]gateway.UpstreamConfig{
		"without a service":             {Token: "none"},
		"another scheme":                none("ftp://a"),
		"no host":                       none("http://"),
		"user information":              none("http://u:p@a"),
		"a query":                       none("http://a/?x=1"),
		"no scheme":                     none("localhost:80"),
		"an unknown token mode":         {URLs: []string{"http://a"}, Token: "both"},
		"internal tokens without a key": {URLs: []string{"http://a"}},
		"a negative timeout":            {URLs: []string{"http://a"}, Token: "none", Timeout: -1},
		"a missing CA file":             {URLs: []string{"https://a"}, Token: "none", CAFile: empty + "x"},
		"an empty CA file":              {URLs: []string{"https://a"}, Token: "none", CAFile: empty},
		"a certificate without key":     {URLs: []string{"https://a"}, Token: "none", CertFile: empty},
		"a health path without slash":   {URLs: []string{"http://a"}, Token: "none", Health: &gateway.HealthCheck{Path: "health"}},
		"a health path with a line":     {URLs: []string{"http://a"}, Token: "none", Health: &gateway.HealthCheck{Path: "/a\r\nX: y"}},
	} {
		if u, err := gateway.NewUpstreams(c, nil); err == nil {
			u.Release()
			t.Errorf("%s is taken", name)
		}
	}
}

func openFiles(t testing.TB) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc")
	}
	return len(d)
}

func TestReloadsLeaveNothingBehind(t *testing.T) {
	url := service(t, false, func(http.ResponseWriter, *http.Request) {})
	pools := gateway.NewPools(nil)
	cfg := none(url)
	cfg.Health = &gateway.HealthCheck{Path: "/", Interval: time.Hour}
	current, err := pools.Acquire(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, p := forward(t, current, "GET", ""); p != nil {
		t.Fatal(p)
	}
	idle := current.Status()[0].Idle
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	for i := range 1000 {
		next := cfg
		next.URLs = []string{url}
		if i%10 == 0 {
			next.Retries = 1 + i // a real change
		}
		u, err := pools.Acquire(next)
		if err != nil {
			t.Fatal(err)
		}
		if same := u == current; same != (i%10 != 0) {
			t.Fatalf("reload %d: the same services %v", i, same)
		}
		if _, _, p := forward(t, u, "GET", ""); p != nil {
			t.Fatal(p)
		}
		u.Release()
	}
	if current.Status()[0].Idle < idle {
		t.Fatal("a reload without change dropped connections")
	}
	until(t, "goroutines to end", func() bool { return runtime.NumGoroutine() <= goroutines+2 })
	until(t, "connections to end", func() bool { return openFiles(t) <= files+2 })
	current.Release()
}

func TestRequestsUnderWayOutliveARelease(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	pools := gateway.NewPools(nil)
	u, err := pools.Acquire(none(service(t, false, func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-release
		_, _ = io.WriteString(w, strings.Repeat("x", 100<<10))
	})))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan *gatehouse.Problem)
	go func() { _, _, p := forward(t, u, "GET", ""); done <- p }()
	<-begun
	u.Release()
	close(release)
	if p := <-done; p != nil {
		t.Fatal(p)
	}
	if n := u.Status()[0].Idle; n != 0 {
		t.Fatalf("%d connections kept after the end", n)
	}
}

// A connection may die at the very moment it is used again.
func TestAConnectionThatDiesWhenReused(t *testing.T) {
	for method, want := range map[string]string{"GET": "", "DELETE": "", "POST": "upstream_failed"} {
		t.Run(method, func(t *testing.T) {
			var mu sync.Mutex
			uses := map[net.Conn]int{}
			u := open(t, none(rawUpstream(t, func(_ int, _ string, _ *bufio.Reader, c net.Conn) {
				mu.Lock()
				uses[c]++
				n := uses[c]
				mu.Unlock()
				if n == 2 {
					_ = c.Close()
					return
				}
				_, _ = io.WriteString(c, okAnswer)
			})))
			if _, _, p := forward(t, u, "GET", ""); p != nil {
				t.Fatal(p)
			}
			_, _, p := forward(t, u, method, "")
			if (p == nil) != (want == "") || p != nil && p.Reason != want {
				t.Fatalf("got %v", p)
			}
		})
	}
}

func TestClientCertificate(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.TLS.PeerCertificates[0].Subject.Organization[0])
	}))
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	cfg := none(s.URL)
	cfg.CAFile = caFile(t, s)
	if _, _, p := forward(t, open(t, cfg), "GET", ""); p == nil || p.Reason != "upstream_failed" {
		t.Fatalf("without certificate: %v", p)
	}
	key, err := x509.MarshalPKCS8PrivateKey(s.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cfg.CertFile, cfg.KeyFile = cfg.CAFile, t.TempDir()+"/key.pem"
	if err := os.WriteFile(cfg.KeyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600); err != nil {
		t.Fatal(err)
	}
	if w, _, p := forward(t, open(t, cfg), "GET", ""); p != nil || w.Body.String() != "Acme Co" {
		t.Fatalf("with certificate: %v, %q", p, w.Body)
	}

	pools := gateway.NewPools(nil)
	first, err := pools.Acquire(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Release()
	ca, err := os.ReadFile(cfg.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cfg.CAFile, append(ca, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	second, err := pools.Acquire(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Release()
	if first == second {
		t.Fatal("a renewed certificate file was not noticed")
	}
}

func TestWaitingInLineHasAnEnd(t *testing.T) {
	release, begun := make(chan struct{}), make(chan struct{}, 10)
	cfg := none(service(t, false, func(http.ResponseWriter, *http.Request) { begun <- struct{}{}; <-release }))
	cfg.MaxInFlight, cfg.QueueWait = 1, 20*time.Millisecond
	u := open(t, cfg)
	var wg sync.WaitGroup
	wg.Go(func() { forward(t, u, "GET", "") })
	<-begun
	if _, _, p := forward(t, u, "GET", ""); p == nil || p.Reason != "overloaded" {
		t.Errorf("got %v", p)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := u.Forward(httptest.NewRecorder(), &gateway.Outbound{Request: httptest.NewRequestWithContext(ctx, "GET", "/", nil), Path: "/"})
	if p := gatehouse.AsProblem(err); p == nil || p.Reason != "client_gone" {
		t.Errorf("got %v", err)
	}
	close(release)
	wg.Wait()
	if _, _, p := forward(t, u, "GET", ""); p != nil {
		t.Errorf("the slot was lost: %v", p)
	}
}

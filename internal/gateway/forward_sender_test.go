package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/gateway"
	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// startLane serves h as the gateway's own front does.
func startLane(t testing.TB, h http.Handler) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := http1.NewServer(http1.Config{}, h)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l, nil) }()
	t.Cleanup(func() {
		_ = s.Close()
		<-ended
	})
	return l.Addr().String()
}

func TestAConnectionIsKeptWhoseServiceAnswersBeforeTheSenderHasEnded(t *testing.T) {
	body := strings.Repeat("x", 40<<10) // sent beside the reading
	var conns atomic.Int64
	seen := map[net.Conn]bool{}
	url := rawUpstream(t, func(n int, _ string, br *bufio.Reader, c net.Conn) {
		if !seen[c] { // one at a time
			seen[c] = true
			conns.Add(1)
		}
		if _, err := io.CopyN(io.Discard, br, int64(len(body))); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	f := newFront(t, none(url), nil)
	address := startLane(t, f)
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	br := bufio.NewReader(c)
	for i := range 500 {
		_, _ = fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		if res.StatusCode != 200 || res.Close {
			t.Fatalf("request %d: %d, close %v", i, res.StatusCode, res.Close)
		}
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("the service saw %d connections, not one", n)
	}
}

func TestAServiceThatFailsDuringAnUploadIsToBlameForIt(t *testing.T) {
	url := rawUpstream(t, func(_ int, _ string, _ *bufio.Reader, c net.Conn) { _ = c.Close() })
	f := newFront(t, none(url), nil)
	c, err := net.Dial("tcp", startLane(t, f))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nhalf") // the caller is there, and waits
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != 502 || res.Header.Get("Problem") != "upstream_failed" {
		t.Errorf("got %d %v", res.StatusCode, res.Header)
	}
}

// reading tells how many are reading.
type reading struct {
	io.Reader
	now *atomic.Int64
}

func (r reading) Read(p []byte) (int, error) {
	r.now.Add(1)
	defer r.now.Add(-1)
	return r.Reader.Read(p)
}

// faulty panics on what it reads.
type faulty struct{ io.Reader }

func (f faulty) Read(p []byte) (int, error) {
	_, _ = f.Reader.Read(p)
	panic("a fault of ours")
}

func TestAPanicOverAStreamEndsThatRequestAlone(t *testing.T) {
	for _, h2c := range []bool{false, true} {
		url := service(t, h2c, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
		f := newFront(t, none(url), func(x *gateway.Outbound) {
			if x.Request.URL.Path == "/faulty" {
				x.Stream = faulty{x.Stream}
			}
		})
		address := startLane(t, f)
		if status, h, _, err := do(t, "POST", "http://"+address+"/faulty", strings.NewReader("x")); err != nil || status != 500 || h.Get("Problem") != "internal" {
			t.Errorf("HTTP/2 behind %v: got %d %v, %v", h2c, status, h, err)
		}
		if status, _, b, err := do(t, "POST", "http://"+address+"/", strings.NewReader("x")); err != nil || status != 200 || b != "x" {
			t.Errorf("HTTP/2 behind %v: the next one gets %d %q, %v", h2c, status, b, err)
		}
	}
}

func TestACheckThatPanicsLeavesNobodyReadingTheBody(t *testing.T) {
	url := rawUpstream(t, say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
	var now atomic.Int64
	f := newFront(t, none(url), func(x *gateway.Outbound) {
		x.Stream = reading{x.Stream, &now}
		x.CheckResponse = func(int, http.Header, []byte) error { panic("a fault of ours") }
	})
	left := make(chan int64, 1)
	address := startLane(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			_ = recover()
			left <- now.Load()
		}()
		f.ServeHTTP(w, r)
	}))
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nhalf")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	select {
	case n := <-left:
		if n != 0 {
			t.Errorf("%d still read the body", n)
		}
	case <-ctx.Done():
		t.Error("the request did not end")
	}
}

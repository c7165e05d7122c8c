package http1_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// upService speaks script on each connection it accepts.
func upService(t testing.TB, script func(n int, c net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	wg.Go(func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); script(n, c) })
		}
	})
	return l.Addr().String()
}

func upPool(t testing.TB, address string, edit func(*http1.PoolConfig)) *http1.Pool {
	t.Helper()
	cfg := http1.PoolConfig{
		Dial: func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		},
		MaxIdle: 4, IdleTimeout: time.Minute, HeadTimeout: 10 * time.Second, BodyTimeout: 10 * time.Second,
	}
	if edit != nil {
		edit(&cfg)
	}
	p := http1.NewPool(cfg)
	t.Cleanup(p.Close)
	return p
}

const upGet = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

// upExchange makes one request and reads its answer.
func upExchange(t testing.TB, p *http1.Pool) (body string, reused bool, err error) {
	t.Helper()
	c, err := p.Get(t.Context(), false)
	if err != nil {
		return "", false, err
	}
	defer c.Release()
	reused = c.Reused()
	if _, err := c.Send([]byte(upGet), 0); err != nil {
		return "", reused, err
	}
	if _, err := c.ReadHead(t.Context(), "GET"); err != nil {
		return "", reused, err
	}
	var b strings.Builder
	for {
		piece, err := c.Next(t.Context())
		b.Write(piece)
		if errors.Is(err, io.EOF) {
			return b.String(), reused, nil
		}
		if err != nil {
			return b.String(), reused, err
		}
	}
}

// upRequests answers each request on c with the next of answers.
func upRequests(c net.Conn, answers ...string) {
	br := bufio.NewReader(c)
	for _, a := range answers {
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(c, a)
	}
	_, _ = br.ReadByte() // until the other side closes
}

const upOK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func TestReuse(t *testing.T) {
	for _, c := range []struct {
		name, first string
		reuse       bool
	}{
		{"a body read to its end leaves the connection usable", upOK, true},
		{"so does a chunked one", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", true},
		{"Connection: close does not", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x, Close\r\n\r\nok", false},
		{"HTTP/1.0 does not", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", false},
		{"bytes behind the body do not: they would answer the next caller", upOK + upOK, false},
		{"nor does a single byte", upOK + "\n", false},
		{"nor bytes behind the last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", false},
		{"nor a body behind 304", "HTTP/1.1 304 Not Modified\r\n\r\nok", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := upPool(t, upService(t, func(n int, nc net.Conn) {
				if n == 0 {
					upRequests(nc, c.first, upOK)
				} else {
					upRequests(nc, upOK)
				}
			}), nil)
			if _, _, err := upExchange(t, p); err != nil {
				t.Fatal(err)
			}
			if _, reused, err := upExchange(t, p); err != nil || reused != c.reuse {
				t.Fatalf("reused %v, %v", reused, err)
			}
		})
	}
}

func TestAnIdleConnectionThatSpokeIsNotUsed(t *testing.T) {
	spoken := make(chan bool)
	var speak sync.Once
	p := upPool(t, upService(t, func(n int, c net.Conn) {
		br := bufio.NewReader(c)
		for {
			if _, err := http.ReadRequest(br); err != nil {
				return
			}
			_, _ = io.WriteString(c, upOK)
			speak.Do(func() {
				<-spoken // the exchange is over
				_, _ = io.WriteString(c, strings.Replace(upOK, "ok", "NO", 1))
				spoken <- true
			})
		}
	}), nil)
	if _, _, err := upExchange(t, p); err != nil {
		t.Fatal(err)
	}
	spoken <- true
	<-spoken
	body, reused, err := upExchange(t, p)
	if err != nil || reused || body != "ok" {
		t.Fatalf("got %q, reused %v, %v", body, reused, err)
	}
}

func TestAnIdleConnectionThatWasClosedIsNotUsed(t *testing.T) {
	closed := make(chan bool)
	p := upPool(t, upService(t, func(n int, c net.Conn) {
		br := bufio.NewReader(c)
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		_, _ = io.WriteString(c, upOK)
		if n == 0 {
			<-closed
			_ = c.Close()
			closed <- true
		}
	}), nil)
	if _, _, err := upExchange(t, p); err != nil {
		t.Fatal(err)
	}
	closed <- true
	<-closed
	if _, reused, err := upExchange(t, p); err != nil || reused {
		t.Fatalf("reused %v, %v", reused, err)
	}
}

func TestPoolKeepsNoMoreThanItMayAndNothingAfterClose(t *testing.T) {
	p := upPool(t, upService(t, func(_ int, c net.Conn) { upRequests(c, upOK) }), func(c *http1.PoolConfig) { c.MaxIdle = 2 })
	var held []*http1.Conn
	for range 5 {
		c, err := p.Get(t.Context(), true)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Send([]byte(upGet), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := c.ReadHead(t.Context(), "GET"); err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = c.Next(t.Context())
		}
		held = append(held, c)
	}
	for _, c := range held[:4] {
		c.Release()
	}
	if n := p.Idle(); n != 2 {
		t.Fatalf("%d idle connections, want 2", n)
	}
	p.Sweep(time.Now())
	if n := p.Idle(); n != 2 {
		t.Fatalf("%d idle connections after an early sweep, want 2", n)
	}
	p.Sweep(time.Now().Add(time.Hour))
	if n := p.Idle(); n != 0 {
		t.Fatalf("%d idle connections after a late sweep, want 0", n)
	}
	p.Close()
	held[4].Release()
	if n := p.Idle(); n != 0 {
		t.Fatalf("%d idle connections after Close", n)
	}
}

func TestAHeadThatTricklesEndsInErrTimeout(t *testing.T) {
	p := upPool(t, upService(t, func(_ int, nc net.Conn) {
		_, err := io.WriteString(nc, "HTTP/1.1 200 OK\r\nX: ")
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for range 1000 { // then it would be an answer
			if err != nil {
				return
			}
			<-tick.C
			_, err = io.WriteString(nc, "a")
		}
		_, _ = io.WriteString(nc, "\r\nContent-Length: 0\r\n\r\n")
	}), func(c *http1.PoolConfig) { c.HeadTimeout = 50 * time.Millisecond })
	if _, _, err := upExchange(t, p); !errors.Is(err, http1.ErrTimeout) {
		t.Fatalf("got %v", err)
	}
}

func TestSilence(t *testing.T) {
	for _, c := range []struct{ name, says string }{
		{"before the head", ""},
		{"in the head", "HTTP/1.1 200"},
		{"in the body", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"},
		{"in a chunk size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"},
	} {
		t.Run(c.name+" ends in ErrTimeout", func(t *testing.T) {
			t.Parallel()
			p := upPool(t, upService(t, func(_ int, nc net.Conn) { upRequests(nc, c.says) }), func(c *http1.PoolConfig) {
				c.HeadTimeout, c.BodyTimeout = 50*time.Millisecond, 50*time.Millisecond
			})
			if _, _, err := upExchange(t, p); !errors.Is(err, http1.ErrTimeout) {
				t.Fatalf("got %v", err)
			}
		})
		t.Run(c.name+" ends when the caller leaves", func(t *testing.T) {
			t.Parallel()
			p := upPool(t, upService(t, func(_ int, nc net.Conn) { upRequests(nc, c.says) }), nil)
			conn, err := p.Get(t.Context(), false)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Release()
			gone := errors.New("gone")
			ctx, cancel := context.WithCancelCause(t.Context())
			if _, err := conn.Send([]byte(upGet), 0); err != nil {
				t.Fatal(err)
			}
			cancel(gone)
			if _, err = conn.ReadHead(ctx, "GET"); err == nil {
				for err == nil {
					_, err = conn.Next(ctx)
				}
			}
			if !errors.Is(err, gone) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestTLSConnectionsAreReusedAndProbed(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	defer s.Close()
	tc := s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	tc.NextProtos, tc.ServerName = []string{"http/1.1"}, "example.com"
	p := upPool(t, s.Listener.Addr().String(), func(c *http1.PoolConfig) {
		c.Dial = func(ctx context.Context) (net.Conn, error) {
			return (&tls.Dialer{Config: tc}).DialContext(ctx, "tcp", s.Listener.Addr().String())
		}
	})
	for i := range 3 {
		if body, reused, err := upExchange(t, p); err != nil || body != "ok" || reused != (i > 0) {
			t.Fatalf("%d: %q, reused %v, %v", i, body, reused, err)
		}
	}
	s.CloseClientConnections()
	if _, reused, err := upExchange(t, p); err != nil || reused {
		t.Fatalf("reused %v, %v", reused, err)
	}
}

func TestSendStream(t *testing.T) {
	for _, c := range []struct {
		name    string
		length  int64
		body    string
		trailer http.Header
		fails   bool
	}{
		{"a body of known length", 5, "hello", nil, false},
		{"one that is too short fails", 6, "hello", nil, true},
		{"chunks", -1, strings.Repeat("hello", 20000), nil, false},
		{"chunks and a trailer", -1, "hello", http.Header{"X-Sum": {"1"}}, false},
		{"a trailer that would break its line fails", -1, "hello", http.Header{"X-Sum": {"1\r\nX: y"}}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			type seen struct {
				body    string
				trailer http.Header
				err     error
			}
			got := make(chan seen, 1)
			p := upPool(t, upService(t, func(_ int, nc net.Conn) {
				r, err := http.ReadRequest(bufio.NewReader(nc))
				if err != nil {
					got <- seen{err: err}
					return
				}
				b, err := io.ReadAll(r.Body)
				got <- seen{string(b), r.Trailer, err}
			}), nil)
			conn, err := p.Get(t.Context(), false)
			if err != nil {
				t.Fatal(err)
			}
			head := "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
			if c.length >= 0 {
				head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + map[int64]string{5: "5", 6: "6"}[c.length] + "\r\n\r\n"
			}
			if _, err := conn.Send([]byte(head), 0); err != nil {
				t.Fatal(err)
			}
			err = conn.SendStream(strings.NewReader(c.body), c.length, func() http.Header { return c.trailer })
			conn.Close()
			s := <-got
			if c.fails {
				if _, ok := errors.AsType[*http1.BodyError](err); !ok || s.err == nil {
					t.Fatalf("got %v; the service saw %q, %v", err, s.body, s.err)
				}
				return
			}
			if err != nil || s.err != nil || s.body != c.body || s.trailer.Get("X-Sum") != c.trailer.Get("X-Sum") {
				t.Fatalf("got %v; the service saw %.40q %v %v", err, s.body, s.trailer, s.err)
			}
		})
	}
}

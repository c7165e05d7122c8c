package http1

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// laneAlone is a lane without a connection, and a connection of it that reads nothing.
func laneAlone(tb testing.TB, h http.HandlerFunc) (*lane, *laneConn) {
	tb.Helper()
	s := NewServer(Config{}, h)
	tb.Cleanup(func() { _ = s.Close() })
	l := newLane(s, h)
	c := &laneConn{lane: l, remote: "192.0.2.1:4711"}
	c.fresh()
	return l, c
}

// FuzzLaneRequest compares the request the lane makes of a head with net/http's.
func FuzzLaneRequest(f *testing.F) {
	for _, s := range []string{
		headTypical,
		"POST /a%20b/!c'(d)*?x=%41&y HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nEXPECT: 100-continue\r\npragma: no-cache\r\n\r\n",
		"GET /? HTTP/1.0\r\nHost: a:80\r\nconnection: Keep-Alive , close\r\nX: 1\r\nx: 2\r\nX:\t\t3 \t\r\n\r\n",
		"PUT http://A/b?c? HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nPragma: no-cache\r\nCache-Control: x\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close\r\nX-\xe9: a\r\nA: \xff\r\n\r\n",
		"GET /a,b;=@$&+:~_-. HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X-A: b\r\n", 90) + "\r\n",
	} {
		f.Add([]byte(s))
	}
	_, c := laneAlone(f, nil)
	f.Fuzz(func(t *testing.T, b []byte) {
		w := c.lane.take()
		defer c.lane.give(w)
		if end, _ := headEnd(b, 0); end != len(b) || headCheck(b, &w.frame) != headOK {
			return
		}
		body, ok := w.fill(c, string(b))
		want, err := http.ReadRequest(bufio.NewReader(strings.NewReader(string(b))))
		if err != nil {
			t.Fatalf("net/http refuses what passed: %v", err)
		}
		if !ok {
			if want.Header["Upgrade"] == nil {
				t.Fatal("not served, though nobody asks for another protocol")
			}
			return
		}
		delete(want.Header, "Host") // as net/http's server does
		got := &w.req
		if (body == nil) != (want.Body == http.NoBody) {
			t.Fatalf("a body: %v, net/http: %v", body != nil, want.Body)
		}
		type parts struct {
			Method, URI, Host, Proto string
			Major, Minor             int
			Length                   int64
			Coding                   []string
			Close                    bool
			URL                      url.URL
			Header, Trailer          http.Header
		}
		of := func(r *http.Request) parts {
			return parts{
				r.Method, r.RequestURI, r.Host, r.Proto, r.ProtoMajor, r.ProtoMinor, r.ContentLength, r.TransferEncoding, r.Close, *r.URL,
				r.Header, r.Trailer,
			}
		}
		if g, n := of(got), of(want); !reflect.DeepEqual(g, n) {
			t.Fatalf("\nthe lane %#v\nnet/http %#v", g, n)
		}
		if got.RemoteAddr != c.remote || got.Context() != context.Context(c.ctx) {
			t.Fatal("the request is not the connection's")
		}
	})
}

func TestNamesAreAsNetTextprotoHasThem(t *testing.T) {
	const letters = "azAZ09-_!"
	var try func(name string, more int)
	try = func(name string, more int) {
		if got, want := laneName(name), textproto.CanonicalMIMEHeaderKey(name); got != want {
			t.Errorf("%q becomes %q, in net/textproto %q", name, got, want)
		}
		for i := 0; more > 0 && i < len(letters); i++ {
			try(name+letters[i:i+1], more-1)
		}
	}
	try("", 4)
}

func TestAnIdleConnectionHoldsNoBuffer(t *testing.T) {
	s := NewServer(Config{}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l, nil) }()
	defer func() {
		_ = s.Close()
		<-served
	}()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	br := bufio.NewReader(nc)
	for range 3 {
		_, _ = io.WriteString(nc, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
		if _, err := http.ReadResponse(br, nil); err != nil {
			t.Fatal(err)
		}
	}
	var c *laneConn
	for deadline := time.Now().Add(10 * time.Second); ; {
		s.lane.mu.Lock()
		for c = range s.lane.conns {
		}
		s.lane.mu.Unlock()
		if c != nil && c.state.Load() == laneIdle {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the connection is not idle")
		}
	}
	if c.work != nil { // written before the state was
		t.Fatal("an idle connection holds what a request needs")
	}
}

func TestWhoIsAcceptedWhileTheServerClosesIsClosedToo(t *testing.T) {
	s := NewServer(Config{HeadTimeout: time.Hour}, http.NotFoundHandler())
	_ = s.Close()
	c, theirs := net.Pipe()
	defer c.Close()
	base, err := s.table.admit(theirs, &s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	go s.lane.serve(nil, base, nil)
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read gives %v", err)
	}
}

// Nobody tells the poller of every deadline. What that must not change is when a
// connection is closed.
func TestLaneDeadlines(t *testing.T) {
	cfg := Config{HeadTimeout: 5 * time.Second, IdleTimeout: time.Minute, BodyIdle: 10 * time.Second}
	for _, tt := range []struct {
		name string
		sent []string // one second passes before each but the first
		end  time.Duration
	}{
		{"a connection nobody uses lives as long as a head may take", nil, 5 * time.Second},
		{"a kept one lives as long as may be between requests", []string{laneGet}, time.Minute},
		{"and so it does after many requests", []string{laneGet, laneGet, laneGet, laneGet}, 3*time.Second + time.Minute},
		{"and after a body that took a while", []string{lanePost, "a", "bc"}, 2*time.Second + time.Minute},
		{"half a head has its own time", []string{laneGet, laneGet, "GET / HTTP/1.1\r\n"}, 2*time.Second + 5*time.Second},
		{"which does not begin again with each byte", []string{"G", "E", "T"}, 5 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := NewServer(cfg, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
				far, near := net.Pipe()
				c, err := s.table.admit(far, &s.cfg)
				if err != nil {
					t.Fatal(err)
				}
				go s.lane.serve(nil, c, nil)
				ended := make(chan time.Duration)
				start := time.Now()
				go func() {
					_, _ = io.Copy(io.Discard, near)
					ended <- time.Since(start)
				}()
				for i, b := range tt.sent {
					if i > 0 {
						<-time.After(time.Second)
					}
					_, _ = io.WriteString(near, b)
				}
				if got := <-ended; got != tt.end {
					t.Errorf("closed after %v, want %v", got, tt.end)
				}
			})
		})
	}
}

// A connection that rests is in the hands of another goroutine; nobody outside
// may notice.
func TestAConnectionThatRestsGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewServer(Config{}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		far, near := net.Pipe()
		c, err := s.table.admit(far, &s.cfg)
		if err != nil {
			t.Fatal(err)
		}
		go s.lane.serve(nil, c, nil)
		answers := bufio.NewReader(near)
		for i := range 3 {
			if _, err := io.WriteString(near, laneGet); err != nil {
				t.Fatal(err)
			}
			r, err := http.ReadResponse(answers, nil)
			if err != nil || r.StatusCode != http.StatusOK {
				t.Fatalf("%v, %v", r, err)
			}
			_ = r.Body.Close()
			<-time.After(30 * time.Second)
			if rested := s.lane.stacks.Load(); rested != int64(i+1) {
				t.Fatalf("%d goroutines have left their stacks behind, want %d", rested, i+1)
			}
		}
		<-time.After(31 * time.Second)
		if _, err := near.Write([]byte{'G'}); err == nil {
			t.Error("it is still open a minute after the last request")
		}
	})
}

const (
	laneGet  = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	lanePost = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
)

func TestTheDateIsOfNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l lane
		for range 3 {
			want := "Date: " + time.Now().UTC().Format(http.TimeFormat) + "\r\n"
			if got := l.dateLine(); got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
			<-time.After(700 * time.Millisecond)
		}
		if l.dateLine() == "" || testing.AllocsPerRun(10, func() { l.dateLine() }) != 0 {
			t.Error("the date of the same second is made anew")
		}
	})
}

// A plain connection with bytes left to read has not ended; a contextual look
// must never take any of them.
func TestLookingTakesNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	raw, err := far.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	look := func(secure bool) (left bool) {
		_ = raw.Control(func(fd uintptr) { left = laneLeft(fd, secure) })
		return left
	}
	if look(false) || look(true) {
		t.Fatal("left, though it is there")
	}
	_, _ = io.WriteString(near, "next")
	_ = near.(*net.TCPConn).CloseWrite()
	b := make([]byte, 4)
	for deadline := time.Now().Add(10 * time.Second); !look(true); { // the end of TLS is bytes, too
		if time.Now().After(deadline) {
			t.Fatal("the end is not seen through what is before it")
		}
	}
	if look(false) {
		t.Fatal("left, though the next request is there")
	}
	if _, err := io.ReadFull(far, b); err != nil || string(b) != "next" {
		t.Fatalf("read %q, %v", b, err)
	}
	if !look(false) {
		t.Fatal("the end is not seen")
	}
}

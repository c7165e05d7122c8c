package gateway_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/gateway"
	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// A dying service says the first n bytes of its answer and breaks off.
type dying struct {
	says  string
	n     int
	reset bool // by RST; else by FIN
}

// dyingService does what now says, on every connection.
func dyingService(t testing.TB, now *atomic.Pointer[dying]) (url string) {
	t.Helper()
	return rawUpstream(t, func(_ int, _ string, _ *bufio.Reader, c net.Conn) {
		d := now.Load()
		_, _ = io.WriteString(c, d.says[:d.n])
		if d.reset {
			_ = c.(*net.TCPConn).SetLinger(0)
		}
		_ = c.Close()
	})
}

// A received answer is what a caller can know of it.
type received struct {
	status  int
	body    string
	trailer string // X-Sum
	whole   bool   // as far as its framing tells
}

// receive asks for /health by a connection of its own and reads until its end.
func receive(t testing.TB, address, version string) (r received) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(c, "GET /health HTTP/"+version+"\r\nHost: api.example\r\nConnection: close\r\n\r\n")
	stream, end := io.ReadAll(c)
	if errors.Is(end, os.ErrDeadlineExceeded) {
		t.Fatal("the caller was left waiting")
	}
	head, body, ok := strings.Cut(string(stream), "\r\n\r\n")
	for ok && strings.HasPrefix(head, "HTTP/1.1 1") {
		head, body, ok = strings.Cut(body, "\r\n\r\n")
	}
	if !ok {
		return received{}
	}
	_, _ = fmt.Sscanf(head, "HTTP/1."+version[2:]+" %d", &r.status)
	if r.status == 0 {
		t.Fatalf("the answer begins %q", head)
	}
	_, length, byLength := strings.Cut(head, "\r\nContent-Length: ")
	switch {
	case strings.Contains(head, "\r\nTransfer-Encoding: chunked"):
		if version == "1.0" || byLength {
			t.Fatalf("framing of %q", head)
		}
		r.body, r.trailer, r.whole = unchunk(body)
	case byLength:
		length, _, _ = strings.Cut(length, "\r\n")
		n, err := strconv.Atoi(length)
		if err != nil || len(body) > n {
			t.Fatalf("%d bytes follow %q", len(body), head)
		}
		r.body, r.whole = body, len(body) == n
	default:
		r.body, r.whole = body, end == nil
	}
	return r
}

// unchunk reads a chunked body to its end.
func unchunk(s string) (body, trailer string, whole bool) {
	for {
		size, rest, ok := strings.Cut(s, "\r\n")
		n, err := strconv.ParseUint(size, 16, 31)
		if !ok || err != nil {
			return body, "", false
		}
		if n == 0 {
			section, behind, ok := strings.Cut("\r\n"+rest, "\r\n\r\n")
			_, trailer, _ = strings.Cut(section, "\r\nX-Sum: ")
			return body, trailer, ok && behind == ""
		}
		if len(rest) < int(n)+2 || rest[n:n+2] != "\r\n" {
			return body + rest[:min(len(rest), int(n))], "", false
		}
		body, s = body+rest[:n], rest[n+2:]
	}
}

// A service that dies at any byte of its answer leaves a caller who knows: with
// an error, or cut off, and never with half an answer that looks whole.
func TestAnAnswerCutAnywhereNeverLooksWhole(t *testing.T) {
	const body = "0123456789abcdef"
	long := strings.Repeat(body, 5000) // more than any buffer on the way holds
	shapes := []struct {
		name    string
		says    string
		body    string
		trailer string
		closes  bool // the end of the connection is that of the answer
		step    int  // bytes between the places where it is cut; 0: every byte
	}{
		{name: "a length", says: "HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n" + body, body: body},
		{name: "a length in HTTP/1.0", says: "HTTP/1.0 200 OK\r\nContent-Length: 16\r\n\r\n" + body, body: body},
		{name: "chunks", says: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n01234567\r\n8\r\n89abcdef\r\n0\r\n\r\n", body: body},
		{
			name: "chunks and a trailer", says: "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n" + body + "\r\n0\r\nX-Sum: 42\r\n\r\n",
			body: body, trailer: "42",
		},
		{name: "100 and then a length", says: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n" + body, body: body},
		{name: "103 and then chunks", says: "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n" + body + "\r\n0\r\n\r\n", body: body},
		{name: "the end of the connection", says: "HTTP/1.1 200 OK\r\nX: 1\r\n\r\n" + body, body: body, closes: true},
		{name: "a long length", says: "HTTP/1.1 200 OK\r\nContent-Length: 80000\r\n\r\n" + long, body: long, step: 7919},
		{name: "a long chunk", says: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n13880\r\n" + long + "\r\n0\r\n\r\n", body: long, step: 7919},
		{name: "a long way to the end of the connection", says: "HTTP/1.1 200 OK\r\n\r\n" + long, body: long, closes: true, step: 7919},
	}
	for _, way := range []struct {
		name string
		open func(t *testing.T, h *house) func(t *testing.T) received
	}{
		{"HTTP/1.1 by our listener", func(t *testing.T, h *house) func(*testing.T) received {
			address := strings.TrimPrefix(h.start(), "http://")
			return func(t *testing.T) received { return receive(t, address, "1.1") }
		}},
		{"HTTP/1.0 by our listener", func(t *testing.T, h *house) func(*testing.T) received {
			address := strings.TrimPrefix(h.start(), "http://")
			return func(t *testing.T) received { return receive(t, address, "1.0") }
		}},
		{"HTTP/1.1 by net/http", func(t *testing.T, h *house) func(*testing.T) received {
			s := httptest.NewServer(h.entry)
			t.Cleanup(s.Close)
			return func(t *testing.T) received { return receive(t, s.Listener.Addr().String(), "1.1") }
		}},
		{"HTTP/1.0 by net/http", func(t *testing.T, h *house) func(*testing.T) received {
			s := httptest.NewServer(h.entry)
			t.Cleanup(s.Close)
			return func(t *testing.T) received { return receive(t, s.Listener.Addr().String(), "1.0") }
		}},
		{"HTTP/2 by our listener", openHTTP2},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			var now atomic.Pointer[dying]
			h := newHouse(t, houseConfig{service: dyingService(t, &now), upstream: func(c *gateway.UpstreamConfig) { c.Failures = 1 << 30 }})
			ask := way.open(t, h)
			for _, shape := range shapes {
				for n := 0; ; n = min(n+max(shape.step, 1), len(shape.says)) {
					for _, reset := range []bool{false, true} {
						now.Store(&dying{shape.says, n, reset})
						got := ask(t)
						where := fmt.Sprintf("%s, cut after %d of %d bytes, by RST %v", shape.name, n, len(shape.says), reset)
						// A body that the end of its connection ends has no other end: when
						// that comes too early by FIN, nobody can know. By RST it shows.
						_, sent, headSent := strings.Cut(shape.says[:n], "\r\n\r\n")
						unknowable := shape.closes && !reset && headSent
						complete := n == len(shape.says) && !(shape.closes && reset)
						switch {
						case unknowable && (got.status != 200 || !got.whole || got.body != sent):
							t.Fatalf("%s: got %d, whole %v, %d bytes", where, got.status, got.whole, len(got.body))
						case unknowable:
						case complete && (got.status != 200 || !got.whole || got.body != shape.body || got.trailer != shape.trailer && !strings.Contains(way.name, "1.0")):
							t.Fatalf("%s: the whole answer came as %d, whole %v, %d bytes, trailer %q", where, got.status, got.whole, len(got.body), got.trailer)
						case complete:
						case got.status == 200 && got.whole:
							t.Fatalf("%s: it looks whole: %d bytes %.40q", where, len(got.body), got.body)
						case got.status == 200 && !strings.HasPrefix(shape.body, got.body):
							t.Fatalf("%s: got other bytes: %.60q", where, got.body)
						case got.status != 0 && got.status != 200 && (got.status != http.StatusBadGateway || !got.whole || !strings.Contains(got.body, "upstream_failed")):
							t.Fatalf("%s: got %d, whole %v, %q", where, got.status, got.whole, got.body)
						}
					}
					if n == len(shape.says) {
						break
					}
				}
			}
		})
	}
}

func openHTTP2(t *testing.T, h *house) func(*testing.T) received {
	t.Helper()
	known := httptest.NewTLSServer(nil) // for its certificate
	known.Close()
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	s := http1.NewServer(http1.Config{OnRefuse: h.gate.Refused, Log: slog.New(slog.DiscardHandler)}, h.entry)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l, &tls.Config{Certificates: known.TLS.Certificates})
	}()
	t.Cleanup(func() { _ = s.Close(); <-done })
	tr := known.Client().Transport.(*http.Transport).Clone()
	tr.ForceAttemptHTTP2, tr.DisableCompression = true, true
	tr.TLSClientConfig.ServerName = "example.com"
	t.Cleanup(tr.CloseIdleConnections)
	return func(t *testing.T) (r received) {
		t.Helper()
		req := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), "GET", "https://"+l.Addr().String()+"/health", nil))
		res, err := tr.RoundTrip(req)
		if err != nil {
			return received{}
		}
		defer res.Body.Close()
		if res.ProtoMajor != 2 {
			t.Fatalf("came by %s", res.Proto)
		}
		b, err := io.ReadAll(res.Body)
		return received{res.StatusCode, string(b), res.Trailer.Get("X-Sum"), err == nil}
	}
}

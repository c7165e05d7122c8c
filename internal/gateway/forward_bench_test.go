package gateway_test

import (
	"bytes"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// sink is an http.ResponseWriter that costs nothing of its own.
type sink struct {
	h      http.Header
	status int
	n      int64
}

func (s *sink) Header() http.Header { return s.h }
func (s *sink) WriteHeader(status int) {
	if status >= 200 {
		s.status = status
	}
}
func (s *sink) WriteHead(status int, _ []http1.Field, _ int64) { s.status = status }
func (s *sink) Write(p []byte) (int, error)                    { s.n += int64(len(p)); return len(p), nil }

// benchUpstream answers with 802 bytes of JSON and the fields nginx sends.
func benchUpstream(tb testing.TB) string {
	answer := []byte("HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\nContent-Type: application/json\r\nContent-Length: 802\r\n" +
		"Connection: keep-alive\r\nETag: \"5f3c\"\r\nCache-Control: private\r\n\r\n" + strings.Repeat("x", 802))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // without garbage of its own: a request comes in one piece
				defer c.Close()
				buf := make([]byte, 8<<10)
				for {
					if n, err := c.Read(buf); err != nil || !bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
						return
					}
					if _, err := c.Write(answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

func benchRequest(tb testing.TB) *gateway.Outbound {
	r := httptest.NewRequestWithContext(tb.Context(), "GET", "/v1/orders/17?expand=items", nil)
	r.Header = http.Header{
		"User-Agent": {"curl/8.5"}, "Accept": {"application/json"}, "Authorization": {"Bearer " + strings.Repeat("t", 650)},
		"Accept-Encoding": {"gzip"}, "X-Tenant": {"t1"},
	}
	return &gateway.Outbound{
		Request: r, Path: "/v1/orders/17", RawQuery: "expand=items", Audience: "orders", Decision: "01JD7Z0000000000000000000",
		Principal: &gatehouse.Principal{Subject: "alice", Method: gatehouse.MethodJWT}, Proto: "https", Host: "api.example.com",
		ClientAddr: netip.MustParseAddr("192.0.2.7"),
	}
}

type fixedMinter string

func (m fixedMinter) Mint(*gatehouse.Principal, string) (string, error) { return string(m), nil }

func forwardOnce(tb testing.TB, u *gateway.Upstreams, x *gateway.Outbound, w *sink) {
	clear(w.h)
	if res, err := u.Forward(w, x); err != nil || res.Status != 200 {
		tb.Fatalf("%+v, %v", res, err)
	}
}

func BenchmarkForward(b *testing.B) {
	url := benchUpstream(b)
	token := fixedMinter(strings.Repeat("i", 500))
	b.Run("lane", func(b *testing.B) {
		u, err := gateway.NewUpstreams(gateway.UpstreamConfig{URLs: []string{url}}, token)
		if err != nil {
			b.Fatal(err)
		}
		defer u.Release()
		x, w := benchRequest(b), &sink{h: http.Header{}}
		b.ReportAllocs()
		for b.Loop() {
			forwardOnce(b, u, x, w)
		}
	})
	b.Run("transport", func(b *testing.B) { // what net/http's client would cost in its place
		tr := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100}
		defer tr.CloseIdleConnections()
		x, w := benchRequest(b), &sink{h: http.Header{}}
		buf := make([]byte, 32<<10)
		b.ReportAllocs()
		for b.Loop() {
			clear(w.h)
			r := x.Request.Clone(b.Context())
			r.URL.Scheme, r.URL.Host, r.RequestURI = "http", strings.TrimPrefix(url, "http://"), ""
			res, err := tr.RoundTrip(r)
			if err != nil {
				b.Fatal(err)
			}
			maps.Copy(w.h, res.Header)
			_, _ = io.CopyBuffer(struct{ io.Writer }{w}, res.Body, buf)
			_ = res.Body.Close()
		}
	})
	b.Run("raw", func(b *testing.B) { // the floor: one write and one read
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		buf := make([]byte, 32<<10)
		head := []byte("GET /v1/orders/17?expand=items HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + string(token) + "\r\n\r\n")
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Write(head); err != nil {
				b.Fatal(err)
			}
			if _, err := c.Read(buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// The fast lane's budget: what a request costs in garbage.
func TestAllocsForward(t *testing.T) {
	if underRace {
		t.Skip("the race detector allocates")
	}
	url := benchUpstream(t)
	u, err := gateway.NewUpstreams(gateway.UpstreamConfig{URLs: []string{url}}, fixedMinter("token"))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Release()
	x, w := benchRequest(t), &sink{h: http.Header{}}
	if n := testing.AllocsPerRun(200, func() { forwardOnce(t, u, x, w) }); n > 3 {
		t.Fatalf("%v allocations a request, want at most 3", n)
	}
}

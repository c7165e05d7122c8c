package http1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
)

// A wireConn plays recorded bytes, in pieces, and swallows what is written.
type wireConn struct {
	net.Conn
	b     []byte
	piece int
}

func (w *wireConn) Read(p []byte) (int, error) {
	if len(w.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, w.b[:min(len(w.b), w.piece)])
	w.b = w.b[n:]
	return n, nil
}
func (w *wireConn) Write(p []byte) (int, error)     { return len(p), nil }
func (w *wireConn) SetReadDeadline(time.Time) error { return nil }

func newWire(b []byte, piece int) *headConn {
	cfg := Config{}.withDefaults()
	return &headConn{
		Conn: &wireConn{b: b, piece: piece}, cfg: &cfg,
		buffers: &sync.Pool{},
		refuser: func(net.Conn, *gatehouse.Problem, string) string { return "" },
	}
}

const headTypical = "GET /v1/customers/8f14e45f/orders?status=open&limit=50 HTTP/1.1\r\n" +
	"Host: api.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n" +
	"Accept: application/json\r\nAccept-Encoding: gzip, deflate, br\r\nX-Request-Id: 6ba7b810-9dad-11d1-80b4-00c04fd430c8\r\n" +
	"Authorization: Bearer eyJhbGciOiJFUzI1NiIsImtpZCI6IjEifQ.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUuY29tIn0.c2lnbmF0dXJl\r\n" +
	"Connection: keep-alive\r\n\r\n"

func BenchmarkHeadCheck(b *testing.B) {
	head := []byte(headTypical)
	var f headFrame
	b.ReportAllocs()
	b.SetBytes(int64(len(head)))
	for b.Loop() {
		if v := headCheck(head, &f); v != headOK {
			b.Fatal(v.problem())
		}
	}
}

func BenchmarkChunks(b *testing.B) {
	body := []byte(strings.Repeat("400\r\n"+strings.Repeat("x", 1024)+"\r\n", 4) + "0\r\n\r\n")
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		var c headChunks
		if _, done, v := c.next(body); !done || v != headOK {
			b.Fatal(v.problem())
		}
	}
}

func BenchmarkCheckRequest(b *testing.B) {
	r := headRequest(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := CheckRequest(r); err != nil {
			b.Fatal(err)
		}
	}
}

func headRequest(tb testing.TB) *http.Request {
	tb.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(headTypical)))
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func TestAllocsOfTheChecksAreNone(t *testing.T) {
	head := []byte(headTypical)
	var f headFrame
	if n := testing.AllocsPerRun(100, func() { headCheck(head, &f) }); n != 0 {
		t.Errorf("the check of a head allocates %v times", n)
	}
	r := headRequest(t)
	if n := testing.AllocsPerRun(100, func() { _ = CheckRequest(r) }); n != 0 {
		t.Errorf("CheckRequest allocates %v times", n)
	}
	wire := &wireConn{piece: 1 << 20}
	c := newWire(nil, 0)
	c.Conn = wire
	p := make([]byte, 4096)
	if n := testing.AllocsPerRun(100, func() {
		wire.b = head
		if n, err := c.Read(p); n != len(head) || err != nil {
			t.Fatal(n, err)
		}
	}); n != 0 {
		t.Errorf("reading a request through the check allocates %v times", n)
	}
}

func TestAnUncheckedMessageIsRefused(t *testing.T) {
	var v headVerdict
	if p := v.problem(); p.Reason == "" || p.Kind != gatehouse.Malformed {
		t.Fatalf("the zero verdict gives %+v", p)
	}
	for v := headBadLine; int(v) < len(headProblems); v++ {
		if p := v.problem(); p.Reason == "" || p.Detail == "" {
			t.Errorf("verdict %d has no reason or no detail", v)
		}
	}
}

// FuzzHead lets net/http read what the check let through: it must find the same
// requests, or fail; it must never find another message than the check did.
func FuzzHead(f *testing.F) {
	for _, s := range []string{
		headTypical,
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET /2 HTTP/1.1\r\nHost: b\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET /2 HTTP/1.1\r\nHost: b\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n00\r\nA: b\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
		"GET http://a/%41?b=%20 HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nX: \t a\xff \r\n\r\n",
		"GET /\xc3\xa9 HTTP/1.1\nHost: a\n\n", "OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
		"GET /a;b/../%2e%2f HTTP/1.1\r\nHost: a\r\nhost: b\r\n x\r\n\r\n",
		"PUT /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\nCookie: a\r\n\r\n!",
	} {
		f.Add([]byte(s), uint8(0))
		f.Add([]byte(s), uint8(1))
		f.Add([]byte(s), uint8(9))
	}
	f.Fuzz(func(t *testing.T, b []byte, piece uint8) {
		size := int(piece)
		if size == 0 {
			size = 1 << 20
		}
		c := newWire(bytes.Clone(b), size)
		br := bufio.NewReader(c)
		at := 0 // in b, where the next message begins
		for range 8 {
			r, err := http.ReadRequest(br)
			if err != nil {
				if c.err == nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatalf("net/http refuses what passed: %v", err)
				}
				return
			}
			end := bytes.Index(b[at:], []byte("\r\n\r\n"))
			if end < 0 {
				t.Fatal("net/http found a head where there is none")
			}
			var h headFrame
			if v := headCheck(b[at:at+end+4], &h); v != headOK {
				t.Fatalf("net/http was given a refused head: %v", v.problem())
			}
			if string(h.method) != r.Method || string(h.target) != r.RequestURI || !headSame(h.host, r.Host) {
				t.Fatalf("read as %q %q %q, by net/http as %q %q %q", h.method, h.target, h.host, r.Method, r.RequestURI, r.Host)
			}
			if err := CheckRequest(r); err != nil {
				t.Fatalf("the two checks disagree: %v", err)
			}
			want := h.fields - 1 // net/http takes Host out
			if h.chunked {
				want-- // and Transfer-Encoding
			}
			have := 0
			for _, v := range r.Header {
				have += len(v)
			}
			if have != want {
				t.Fatalf("%d fields, net/http has %d: %v", want, have, r.Header)
			}
			switch {
			case h.chunked && (r.ContentLength != -1 || len(r.TransferEncoding) != 1):
				t.Fatal("chunked here, not in net/http")
			case !h.chunked && (r.ContentLength != h.length || r.TransferEncoding != nil):
				t.Fatalf("length %d, in net/http %d", h.length, r.ContentLength)
			}
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return // refused here or there: nothing follows on this connection
			}
			at += end + 4
			if h.chunked {
				var k headChunks
				n, done, v := k.next(b[at:])
				if !done || v != headOK {
					t.Fatalf("net/http read a chunked body that is refused: %v", v.problem())
				}
				at += n
			} else {
				if !bytes.Equal(body, b[at:at+int(h.length)]) {
					t.Fatalf("body %q, net/http has %q", b[at:at+int(h.length)], body)
				}
				at += int(h.length)
			}
			if br.Buffered() != 0 || c.inBody {
				t.Fatalf("net/http ends the message elsewhere: %d bytes over, in body %v", br.Buffered(), c.inBody)
			}
		}
	})
}

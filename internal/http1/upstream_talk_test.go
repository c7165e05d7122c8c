package http1_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// upAsk makes one exchange by Ask.
func upAsk(t testing.TB, p *http1.Pool, request string) (body string, n int, err error) {
	t.Helper()
	c, err := p.Get(t.Context(), false)
	if err != nil {
		return "", 0, err
	}
	defer c.Release()
	n, err = c.Ask([]byte(request), 0)
	if err != nil && n == 0 || errors.Is(err, http1.ErrTimeout) {
		return "", n, err
	}
	if _, err := c.ReadHead(t.Context(), "GET"); err != nil {
		return "", n, err
	}
	var b strings.Builder
	for {
		piece, err := c.Next(t.Context())
		b.Write(piece)
		if errors.Is(err, io.EOF) {
			return b.String(), n, nil
		}
		if err != nil {
			return b.String(), n, err
		}
	}
}

func TestAsk(t *testing.T) {
	long := "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8388608\r\n\r\n" + strings.Repeat("x", 8<<20)
	for _, c := range []struct {
		name, request string
		serve         func(nc net.Conn)
		body          string
		fails         error
	}{
		{"an answer that is there at once", upGet, func(nc net.Conn) { upRequests(nc, upOK, upOK) }, "ok", nil},
		{"an answer that comes byte by byte", upGet, func(nc net.Conn) {
			if _, err := http.ReadRequest(bufio.NewReader(nc)); err != nil {
				return
			}
			for i := range len(upOK) {
				_, _ = io.WriteString(nc, upOK[i:i+1])
				<-time.After(time.Millisecond)
			}
		}, "ok", nil},
		{"an answer for which the poller is asked more than once", upGet, func(nc net.Conn) {
			if _, err := http.ReadRequest(bufio.NewReader(nc)); err != nil {
				return
			}
			<-time.After(700 * time.Millisecond)
			_, _ = io.WriteString(nc, upOK)
		}, "ok", nil},
		{"a service that closes says nothing", upGet, func(nc net.Conn) { _, _ = http.ReadRequest(bufio.NewReader(nc)) }, "", io.EOF},
		{"a service that never answers is late", upGet, func(nc net.Conn) { upRequests(nc, "") }, "", http1.ErrTimeout},
		{"a request longer than the service's buffers goes out whole", long, func(nc net.Conn) {
			<-time.After(50 * time.Millisecond) // until they are full
			upRequests(nc, upOK)
		}, "ok", nil},
		{"a service that takes no bytes is late", long, func(net.Conn) { <-time.After(6 * time.Second) }, "", http1.ErrTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := upPool(t, upService(t, func(_ int, nc net.Conn) { c.serve(nc) }), func(p *http1.PoolConfig) {
				p.HeadTimeout, p.BodyTimeout = 2*time.Second, 2*time.Second
			})
			body, n, err := upAsk(t, p, c.request)
			if !errors.Is(err, c.fails) || body != c.body {
				t.Fatalf("%q, %v; want %q, %v", body, err, c.body, c.fails)
			}
			if c.fails == nil && n != len(c.request) {
				t.Fatalf("%d bytes were sent of %d", n, len(c.request))
			}
		})
	}
}

// What is known about one exchange must not end the next.
func TestAskAfterAsk(t *testing.T) {
	p := upPool(t, upService(t, func(_ int, nc net.Conn) { upRequests(nc, upOK, upOK, upOK) }), nil)
	for range 3 {
		if body, _, err := upAsk(t, p, upGet); err != nil || body != "ok" {
			t.Fatalf("%q, %v", body, err)
		}
	}
	if p.Idle() != 1 {
		t.Fatalf("%d idle connections, want the one that carried all", p.Idle())
	}
}

// A service may refuse a long request, and close, before it has read it: what it
// said is still to be read.
func TestAskOfAServiceThatRefusesEarly(t *testing.T) {
	p := upPool(t, upService(t, func(_ int, nc net.Conn) {
		var some [1]byte
		_, _ = nc.Read(some[:])
		_, _ = io.WriteString(nc, strings.Replace(upOK, "200 OK", "413 Content Too Large", 1))
		_ = nc.(*net.TCPConn).CloseWrite()
		_, _ = io.CopyN(io.Discard, nc, 1<<20)
	}), nil)
	request := append([]byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 262144\r\n\r\n"), bytes.Repeat([]byte("x"), 256<<10)...)
	if body, _, err := upAsk(t, p, string(request)); err != nil || body != "ok" {
		t.Fatalf("%q, %v", body, err)
	}
}

func BenchmarkExchange(b *testing.B) {
	p := upPool(b, upService(b, func(_ int, nc net.Conn) {
		buf, answer := make([]byte, 4096), []byte(upOK)
		for {
			if _, err := nc.Read(buf); err != nil {
				return
			}
			if _, err := nc.Write(answer); err != nil {
				return
			}
		}
	}), nil)
	for _, way := range []struct {
		name string
		send func(*http1.Conn, []byte) (int, error)
	}{
		{"ask", func(c *http1.Conn, r []byte) (int, error) { return c.Ask(r, 0) }},
		{"send", func(c *http1.Conn, r []byte) (int, error) { return c.Send(r, 0) }},
	} {
		b.Run(way.name, func(b *testing.B) {
			request := []byte(upGet)
			b.ReportAllocs()
			for b.Loop() {
				c, err := p.Get(b.Context(), false)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := way.send(c, request); err != nil {
					b.Fatal(err)
				}
				if _, err := c.ReadHead(b.Context(), "GET"); err != nil {
					b.Fatal(err)
				}
				for err == nil {
					_, err = c.Next(b.Context())
				}
				c.Release()
			}
		})
	}
}

func TestALongBody(t *testing.T) {
	whole := strings.Repeat("0123456789abcde\n", 128<<10) // 2 MiB
	head := "HTTP/1.1 200 OK\r\nContent-Length: 2097152\r\n\r\n"
	for _, c := range []struct {
		name, body string
		fails      error
		idle       int
	}{
		{"comes whole, in pieces nobody needs long for", whole, nil, 1},
		{"that breaks off is never whole", whole[:len(whole)-1], io.ErrUnexpectedEOF, 0},
		{"with a byte behind it spoils the connection", whole + "x", nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := upPool(t, upService(t, func(_ int, nc net.Conn) {
				if _, err := http.ReadRequest(bufio.NewReader(nc)); err == nil {
					_, _ = io.WriteString(nc, head+c.body)
				}
				if c.fails == nil {
					_, _ = nc.Read(make([]byte, 1)) // until the other side closes
				}
			}), nil)
			conn, err := p.Get(t.Context(), false)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Ask([]byte(upGet), 0); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.ReadHead(t.Context(), "GET"); err != nil {
				t.Fatal(err)
			}
			var got []byte
			for err == nil {
				var piece []byte
				if piece, err = conn.Next(t.Context()); len(piece) > 32<<10 {
					t.Fatalf("a piece of %d bytes", len(piece))
				}
				got = append(got, piece...)
			}
			if c.fails == nil && (!errors.Is(err, io.EOF) || string(got) != whole) || c.fails != nil && !errors.Is(err, c.fails) {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			if c.fails == nil && c.idle == 0 { // the byte may come after the rest
				<-time.After(50 * time.Millisecond)
			}
			conn.Release()
			if next, err := p.Get(t.Context(), false); err == nil {
				if next.Reused() != (c.idle == 1) {
					t.Errorf("reused: %v", next.Reused())
				}
				next.Close()
			}
		})
	}
}

package http1_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// upBytes is a connection to a service that has said its last word already, in
// pieces of the given size.
type upBytes struct {
	r     *bytes.Reader
	piece int
}

func (c *upBytes) Read(p []byte) (int, error)       { return c.r.Read(p[:min(len(p), c.piece)]) }
func (c *upBytes) Write(p []byte) (int, error)      { return len(p), nil }
func (c *upBytes) Close() error                     { return nil }
func (c *upBytes) LocalAddr() net.Addr              { return nil }
func (c *upBytes) RemoteAddr() net.Addr             { return nil }
func (c *upBytes) SetDeadline(time.Time) error      { return nil }
func (c *upBytes) SetReadDeadline(time.Time) error  { return nil }
func (c *upBytes) SetWriteDeadline(time.Time) error { return nil }

type upRead struct {
	status  int
	header  http.Header
	trailer http.Header
	body    string
}

// upReadOurs reads one response as the gateway does.
func upReadOurs(data []byte, method string, piece int) (*upRead, error) {
	p := http1.NewPool(http1.PoolConfig{
		Dial:        func(context.Context) (net.Conn, error) { return &upBytes{bytes.NewReader(data), piece}, nil },
		IdleTimeout: time.Minute, HeadTimeout: time.Minute, BodyTimeout: time.Minute,
	})
	ctx := context.Background()
	c, err := p.Get(ctx, false)
	if err != nil {
		return nil, err
	}
	defer c.Release()
	if _, err := c.Send([]byte("x"), 0); err != nil {
		return nil, err
	}
	r, err := c.ReadHead(ctx, method)
	if err != nil {
		return nil, err
	}
	out := &upRead{status: r.Status, header: upHeader(r.Fields)}
	for {
		b, err := c.Next(ctx)
		out.body += string(b)
		if errors.Is(err, io.EOF) {
			out.trailer = upHeader(c.Trailer())
			return out, nil
		}
		if err != nil {
			return out, err
		}
	}
}

func upHeader(fields []http1.Field) http.Header {
	h := http.Header{}
	for _, f := range fields {
		h.Add(f.Name, f.Value)
	}
	return h
}

// FuzzResponse: what our reader takes, net/http must read as the same message.
// We may refuse more; we may never understand something else. However the bytes
// come in pieces, we must read the same.
func FuzzResponse(f *testing.F) {
	for _, s := range []string{
		upOK,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nTrailer: X-Sum\r\n\r\nA\r\n0123456789\r\n00\r\nX-Sum: 1\r\n\r\n",
		"HTTP/1.0 200 OK\r\n\r\nuntil the end",
		"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end",
		"HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: \"a\"\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n", "HTTP/1.1 200\r\nx-lower: \t v \t\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", "HTTP/1.1 200 OK\nX: a\n\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
		"HTTP/1.1 200 \xff\xfe\r\nX: \xe4\xf6\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n", "HTTP/1.1 404 Not Found\r\nContent-Length: 007\r\n\r\n1234567",
	} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, head bool) {
		method := http.MethodGet
		if head {
			method = http.MethodHead
		}
		ours, err := upReadOurs(data, method, 1<<20)
		slow, serr := upReadOurs(data, method, 1)
		if (err == nil) != (serr == nil) {
			t.Fatalf("whole: %v; in pieces: %v", err, serr)
		}
		if err != nil {
			return
		}
		if !upSame(ours, slow) {
			t.Fatalf("whole: %+v; in pieces: %+v", ours, slow)
		}
		res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(data)), &http.Request{Method: method})
		if err != nil {
			t.Fatalf("we took %+v, net/http says %v", ours, err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatalf("we took %+v, net/http says of the body %v", ours, err)
		}
		theirs := &upRead{status: res.StatusCode, header: res.Header, trailer: res.Trailer, body: string(body)}
		// net/http takes some fields out of the header.
		for _, h := range []http.Header{ours.header, theirs.header} {
			for _, name := range []string{"Transfer-Encoding", "Content-Length", "Connection", "Trailer"} {
				h.Del(name)
			}
		}
		if ours.status != theirs.status || ours.body != theirs.body || !maps.EqualFunc(ours.header, theirs.header, slices.Equal) {
			t.Fatalf("ours %+v\ntheirs %+v", ours, theirs)
		}
		for name, v := range ours.trailer {
			if th := theirs.trailer[name]; th != nil && !slices.Equal(v, th) {
				t.Fatalf("trailer %s: ours %q, theirs %q", name, v, th)
			}
		}
	})
}

func upSame(a, b *upRead) bool {
	return a.status == b.status && a.body == b.body &&
		maps.EqualFunc(a.header, b.header, slices.Equal) && maps.EqualFunc(a.trailer, b.trailer, slices.Equal)
}

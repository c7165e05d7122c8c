package http1

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// http2Piece is how much of an answer is given to net/http at once: a DATA frame
// of it fills one TLS record.
const http2Piece = http2FrameMost - http2FrameHead

// listenPaced holds the requests of HTTP/2 to the pace that headConn and
// listenConn hold those of HTTP/1.1 to.
type listenPaced struct {
	http.Handler
	cfg *Config
}

// connContext lets the handler find an http2Conn.
func (p listenPaced) connContext(ctx context.Context, c net.Conn) context.Context {
	if c, ok := c.(*http2Conn); ok {
		return context.WithValue(ctx, http2Key{}, c)
	}
	return ctx
}

func (p listenPaced) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 2 {
		p.Handler.ServeHTTP(w, r)
		return
	}
	c := http2Of(r)
	if c == nil {
		panic(http.ErrAbortHandler) // HTTP/2 that nobody counts
	}
	r.TLS = c.tls
	x := &http2Exchange{ResponseWriter: w, conn: c, cfg: p.cfg}
	if !x.takeTurn(r.Context()) {
		return // the stream was reset meanwhile
	}
	defer x.giveTurn()
	switch {
	case r.ContentLength == 0 && r.Header["Content-Length"] == nil:
		r.Body = http.NoBody // the head ended the stream
	case !http2Streams(r.Header.Get("Content-Type")):
		x.read = http2Timer(x.stalled)
		body := &http2Body{ReadCloser: r.Body, x: x, length: r.ContentLength}
		waits := r.Header["Expect"] != nil // for a word that it may send the body
		defer x.end()
		r.Body = body
		p.Handler.ServeHTTP(x, r)
		if !waits {
			body.drain()
		}
		return
	default:
		r.Body = http2Stream{r.Body, x}
	}
	defer x.end()
	p.Handler.ServeHTTP(x, r)
}

// takeTurn waits until the request may be worked on; false: it is not wanted any more.
func (x *http2Exchange) takeTurn(ctx context.Context) bool {
	l := x.conn.line
	if l == nil {
		return true
	}
	if !l.take(ctx.Done()) {
		return false
	}
	x.turn.Store(true)
	if ctx.Err() != nil { // both came at once
		x.giveTurn()
		return false
	}
	return true
}

// giveTurn lets the next one of the caller's requests be worked on.
func (x *http2Exchange) giveTurn() {
	if x.turn.CompareAndSwap(true, false) {
		x.conn.line.give()
	}
}

// Waits tells that the handler has done its own work for the request w answers and
// goes on to wait for others. Until then it counts as one of those the processors
// work on for the caller's address, of which there are not many at a time.
func Waits(w http.ResponseWriter) {
	if x, ok := w.(interface{ Waits() }); ok {
		x.Waits()
	}
}

// Waits gives the turn back.
func (x *http2Exchange) Waits() { x.giveTurn() }

// http2Streams reports whether a body of that type is a gRPC stream, which may be
// silent for hours; pings tell whether its peer lives. An operation that is not gRPC
// refuses this type before it reads, and gRPC-Web sends its one message at once.
func http2Streams(contentType string) bool {
	return strings.HasPrefix(contentType, "application/grpc") && !strings.HasPrefix(contentType, "application/grpc-web")
}

// An http2Exchange is the ResponseWriter of one stream. In HTTP/2 a peer that
// gives no room for DATA holds a handler, and the service's connection behind
// it, while everything written to the socket leaves at once: so it is the
// handler's writes that are timed.
type http2Exchange struct {
	http.ResponseWriter
	conn *http2Conn
	cfg  *Config
	sent int64 // bytes of the body
	turn atomic.Bool

	read  *time.Timer // of the body; nil when that is not timed
	write *time.Timer // nil until there may be no room

	mu   sync.Mutex
	over bool // net/http's response may not be touched once the handler has returned
}

// Unwrap is for http.ResponseController.
func (x *http2Exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// Write sends p, or fails when the peer does not take it in time.
func (x *http2Exchange) Write(p []byte) (n int, err error) {
	for {
		piece := p[n:min(len(p), n+http2Piece)]
		roomy := x.roomy(len(piece))
		if !roomy {
			x.giveTurn()
			x.hurry()
		}
		m, err := x.ResponseWriter.Write(piece)
		if !roomy {
			x.write.Stop()
		}
		x.sent += int64(m)
		if n += m; err != nil || n == len(p) {
			return n, err
		}
	}
}

// roomy reports that n bytes more cannot wait for room in the stream; whether
// there is any on the connection is watched there.
func (x *http2Exchange) roomy(n int) bool {
	return x.sent+int64(n) <= http2FirstWindow && !x.conn.tight.Load()
}

// Flush sends what is held.
func (x *http2Exchange) Flush() { _ = x.FlushError() }

// FlushError sends what is held.
func (x *http2Exchange) FlushError() error {
	x.giveTurn() // more may be long in coming
	x.conn.eager.Store(true)
	rc := http.NewResponseController(x.ResponseWriter)
	if x.roomy(0) {
		return rc.Flush()
	}
	x.hurry()
	defer x.write.Stop()
	return rc.Flush()
}

// hurry gives the peer some time for what is written next.
func (x *http2Exchange) hurry() {
	if x.write == nil {
		x.write = http2Timer(x.tooSlow)
	}
	x.write.Reset(x.cfg.WriteIdle)
}

// tooSlow resets the stream.
func (x *http2Exchange) tooSlow() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.over {
		_ = http.NewResponseController(x.ResponseWriter).SetWriteDeadline(time.Unix(1, 0))
	}
}

// stalled ends the request's body.
func (x *http2Exchange) stalled() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.over {
		_ = http.NewResponseController(x.ResponseWriter).SetReadDeadline(time.Unix(1, 0))
	}
}

// http2Timer gives a stopped timer.
func http2Timer(f func()) *time.Timer {
	t := time.AfterFunc(time.Hour, f)
	t.Stop()
	return t
}

// end is called when the handler has returned. What it left to be sent is under
// a deadline of net/http's, unless it is sure to have room.
func (x *http2Exchange) end() {
	if !x.roomy(0) {
		_ = http.NewResponseController(x.ResponseWriter).SetWriteDeadline(time.Now().Add(x.cfg.WriteIdle))
	}
	if x.read == nil && x.write == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.over = true
	for _, t := range []*time.Timer{x.read, x.write} {
		if t != nil {
			t.Stop()
		}
	}
}

// An http2Stream is a body that may be silent for hours.
type http2Stream struct {
	io.ReadCloser
	x *http2Exchange
}

func (b http2Stream) Read(p []byte) (int, error) {
	b.x.giveTurn()
	return b.ReadCloser.Read(p)
}

// An http2Body is a request's body that must keep pace.
type http2Body struct {
	io.ReadCloser
	x      *http2Exchange
	length int64 // -1: not told
	pace   headPace
	got    atomic.Int64
	ended  atomic.Bool
}

func (b *http2Body) Read(p []byte) (int, error) {
	x, start := b.x, time.Now()
	x.giveTurn()
	x.read.Reset(x.cfg.BodyIdle)
	n, err := b.ReadCloser.Read(p)
	stopped := x.read.Stop()
	b.got.Add(int64(n))
	b.ended.Store(err != nil)
	if !b.pace.fits(x.cfg, n, time.Since(start)) && err == nil || !stopped && err != nil && err != io.EOF {
		return 0, headSlowBody.problem()
	}
	return n, err
}

// drain takes what is left of a body that nobody read, if it comes at once. net/http
// resets a stream whose request has not ended when its answer has, and a client
// that is about to send then never sees the answer (curl 7.88).
func (b *http2Body) drain() {
	b.x.giveTurn()
	if b.ended.Load() || b.got.Load() == b.length {
		return
	}
	_ = http.NewResponseController(b.x.ResponseWriter).SetReadDeadline(time.Now().Add(b.x.cfg.drain))
	_, _ = io.CopyN(io.Discard, b.ReadCloser, laneDrain)
}

package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// newTransport2 speaks HTTP/2 only, over TLS or in the clear.
func newTransport2(c *UpstreamConfig, secure bool, dial func(context.Context, string, string) (net.Conn, error)) *http.Transport {
	t := &http.Transport{
		DisableCompression:     true,
		IdleConnTimeout:        c.Idle,
		MaxIdleConnsPerHost:    c.MaxIdle,
		MaxResponseHeaderBytes: 64 << 10,
		// gRPC's servers end a connection that pings more often than every five minutes
		// and sends nothing else (too_many_pings), and all its silent streams with it.
		// A service that is gone is found sooner, by the kernel.
		HTTP2:     &http.HTTP2Config{SendPingTimeout: 5*time.Minute + 10*time.Second, PingTimeout: 10 * time.Second},
		Protocols: new(http.Protocols),
	}
	patient := dial
	dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		nc, err := patient(ctx, network, address)
		if err == nil {
			http1.GiveUpAfter(nc, c.BodyIdle)
		}
		return nc, err
	}
	if secure {
		t.DialTLSContext = dial
		t.Protocols.SetHTTP2(true)
	} else {
		t.DialContext = dial
		t.Protocols.SetUnencryptedHTTP2(true)
	}
	return t
}

// isGRPC reports whether the request can only be carried over HTTP/2.
func isGRPC(h http.Header) bool {
	v := h["Content-Type"]
	return len(v) == 1 && strings.HasPrefix(v[0], "application/grpc") && !strings.HasPrefix(v[0], "application/grpc-web")
}

func (e *endpoint) url2(path, query string) string {
	s := e.scheme2() + "://" + e.host + path
	if query != "" {
		s += "?" + query
	}
	return s
}

func (e *endpoint) scheme2() string {
	if strings.HasPrefix(e.name, "https:") || strings.HasPrefix(e.name, "h2:") {
		return "https"
	}
	return "http"
}

// over2 carries the request over HTTP/2: gRPC, and services that speak nothing else.
func (f *flight) over2(e *endpoint) (again, heard bool, err error) {
	x := f.x
	if f.upgrade {
		return false, false, f.problem(errors.New("WebSocket needs a service that speaks HTTP/1.1"))
	}
	ctx, cancel := context.WithCancelCause(f.ctx)
	defer cancel(nil)
	// The transport calls from a goroutine of its own, and may do so when we have
	// given up already and w is no longer ours.
	var turn sync.Mutex
	over := false
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(status int, h textproto.MIMEHeader) error {
		turn.Lock()
		defer turn.Unlock()
		if status != http.StatusContinue && !over {
			f.interim(status, fieldsOf(http.Header(h)))
		}
		return nil
	}})
	path := e.base + x.Path
	opaque := path // sent as it is, never encoded anew
	if strings.HasPrefix(path, "//") {
		opaque = "//" + e.host + path
	}
	r := (&http.Request{
		Method: x.Request.Method, Host: f.host(e), Header: http.Header{}, ContentLength: f.length(),
		URL: &url.URL{Scheme: e.scheme2(), Host: e.host, Opaque: opaque, RawQuery: x.RawQuery},
	}).WithContext(ctx)
	ok := true
	f.eachField(func(name, value string) {
		ok = ok && http1.ValidField(name, value)
		r.Header[name] = append(r.Header[name], value)
	})
	if !ok {
		return false, false, &gatehouse.Problem{Reason: "internal", Err: errors.New("forward: a field would break its line")}
	}
	if f.token != "" {
		r.Header["Authorization"] = []string{"Bearer " + f.token}
	}
	if x.Narrow == nil && isListed(x.Request.Header["Te"], "trailers") {
		r.Header["Te"] = []string{"trailers"}
	}
	if r.Header["User-Agent"] == nil {
		r.Header["User-Agent"] = []string{""} // or the transport would name itself
	}
	// As over HTTP/1.1 the answer is due from the request's end on: a caller who
	// streams is not late.
	due := time.AfterFunc(time.Hour, func() { cancel(http1.ErrTimeout) })
	defer due.Stop()
	wait := x.Timeout
	if wait == 0 {
		wait = f.u.cfg.Timeout
	}
	body := &body2{from: guardedBody{x.Stream}, sent: func() { due.Reset(wait) }}
	switch {
	case x.Stream != nil:
		r.Body = body
		due.Stop()
		if from := x.Request; len(from.Trailer) > 0 { // x is not ours any more at the body's end
			r.Trailer = http.Header{}
			for name := range from.Trailer {
				if trailerStays(name) && !f.u.removed[name] {
					r.Trailer[name] = nil
				}
			}
			body.atEnd = func() {
				for name := range r.Trailer {
					r.Trailer[name] = from.Trailer[name]
				}
			}
		}
	case len(x.Body) == 0:
		due.Reset(wait)
	default:
		due.Reset(wait)
		// The transport may read on after RoundTrip has returned, and by then the
		// room of x.Body may hold another caller's body: it gets its own copy.
		b := bytes.Clone(x.Body)
		r.Body = io.NopCloser(bytes.NewReader(b))
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
	}
	start := time.Now()
	res, err := e.over2.RoundTrip(r)
	turn.Lock()
	over = true
	turn.Unlock()
	body.answered()
	due.Stop()
	if err != nil {
		if berr := body.failed(); berr != nil {
			err = berr
		} else if cause := context.Cause(ctx); errors.Is(cause, http1.ErrTimeout) {
			err = cause
		}
		// The transport repeats by itself what the service has not begun.
		safe := f.ctx.Err() == nil && (body.untouched() && isDial(err) || f.repeatable() && !errors.Is(err, http1.ErrTimeout) && !isTimeout(err))
		return safe, false, f.problem(err)
	}
	defer func() { _ = res.Body.Close() }()
	f.heard(res.StatusCode, time.Since(start))
	b := &answer2{res: res, idle: f.u.cfg.BodyIdle, cancel: cancel}
	defer b.end()
	fields := fieldsOf(res.Header)
	for name := range res.Trailer { // where the transport put the Trailer field
		fields = append(fields, http1.Field{Name: "Trailer", Value: name})
	}
	return false, true, f.answer(answer{status: res.StatusCode, fields: fields, length: knownLength(res), body: b})
}

// knownLength is what the service said; of an answer without body the transport says 0.
func knownLength(res *http.Response) int64 {
	if res.ContentLength == 0 && len(res.Header["Content-Length"]) == 0 && len(res.Trailer) > 0 {
		return -1
	}
	return res.ContentLength
}

func isDial(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

func isTimeout(err error) bool {
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout()
}

func fieldsOf(h http.Header) []http1.Field {
	out := make([]http1.Field, 0, len(h))
	for name, values := range h {
		for _, v := range values {
			out = append(out, http1.Field{Name: name, Value: v})
		}
	}
	return out
}

// body2 is the caller's body on its way into the transport. It remembers a
// failure to read it, which is not the service's.
type body2 struct {
	from  io.Reader
	atEnd func() // before the end is told
	sent  func() // after it, unless the answer has come

	mu   sync.Mutex
	read bool
	done bool // nobody waits for the answer any more
	err  error
}

func (b *body2) Read(p []byte) (int, error) {
	n, err := b.from.Read(p)
	if errors.Is(err, io.EOF) && b.atEnd != nil {
		b.atEnd()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.read = true
	if errors.Is(err, io.EOF) && !b.done {
		b.sent()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = &http1.BodyError{Err: err}
		return n, b.err
	}
	return n, err
}

// Close does nothing: the server owns the caller's body.
func (b *body2) Close() error { return nil }

func (b *body2) answered() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done = true
}

func (b *body2) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

func (b *body2) untouched() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.read
}

var buffers2 = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// answer2 is an answer's body on an HTTP/2 stream.
type answer2 struct {
	res    *http.Response
	idle   time.Duration
	cancel context.CancelCauseFunc
	timer  *time.Timer
	buf    *[32 << 10]byte
}

func (a *answer2) next(context.Context) ([]byte, error) {
	if a.buf == nil {
		a.buf = buffers2.Get().(*[32 << 10]byte)
		a.timer = time.AfterFunc(a.idle, func() { a.cancel(http1.ErrTimeout) })
	}
	a.timer.Reset(a.idle)
	n, err := a.res.Body.Read(a.buf[:])
	a.timer.Stop()
	if err != nil && !errors.Is(err, io.EOF) {
		if cause := context.Cause(a.res.Request.Context()); errors.Is(cause, http1.ErrTimeout) {
			err = http1.ErrTimeout
		}
	}
	return a.buf[:n], err
}

func (a *answer2) waiting() bool { return true }

func (a *answer2) trailer() []http1.Field { return fieldsOf(a.res.Trailer) }

func (a *answer2) end() {
	if a.buf != nil {
		a.timer.Stop()
		buffers2.Put(a.buf)
	}
}

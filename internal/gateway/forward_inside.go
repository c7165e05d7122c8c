package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/http1"
)

const (
	insideName = "inside" // of a service in this process, in events
	insideHeld = 64 << 10 // of an answer, until its head is sent without its length

	insideSmall = 16 << 10 // so much fits the socket, and needs no deadline
)

// inside stands among the upstreams for every service in this process: what it
// gets and what of its answer stays is decided by the same rules.
var inside = &Upstreams{cfg: UpstreamConfig{Token: TokenPass}.withDefaults()}

var (
	errLate       = errors.New("the service did not answer in time")
	errUncheckedW = errors.New("the answer cannot be checked, so it is not sent")
	errServiceEnd = errors.New("the service has returned already")
)

// forwardInside has a service in this process answer, on the caller's own
// goroutine. It sees the request as a service elsewhere would, and its answer
// goes the same way: what a check, the record or the metrics do for one they do
// for the other.
func (x *exchange) forwardInside() (err error) {
	out, own := &x.out, x.event             // a copy: what the service leaves running must not write into the next caller's record
	f := &flight{u: inside, w: x.w, x: out} // not the exchange's: the service may keep its writer
	defer func() {
		x.hear(&own)
		x.note(&f.res) // also when the service panics
	}()
	f.res = Result{Upstream: insideName, Attempts: 1}
	f.res.TraceID = out.computed.traceID

	ctx, cancel := context.WithCancelCause(out.Request.Context())
	defer cancel(nil)
	f.ctx = ctx
	wait := out.Timeout
	if wait == 0 {
		wait = inside.cfg.Timeout
	}
	late := time.AfterFunc(wait, func() { cancel(errLate) })
	defer late.Stop()
	ctx = gatehouse.WithEvent(ctx, &own)
	if !x.who.Anonymous() {
		ctx = gatehouse.WithPrincipal(ctx, x.who)
	}
	body := &insideBody{}
	r := f.insideRequest(ctx, body)
	if judged := x.route.Accept.CredentialHeaders(); len(judged) > 0 || !x.route.Raw {
		delete(r.Header, "Authorization")
		delete(r.Header, "Dpop")
		for _, name := range judged {
			delete(r.Header, name)
		}
	}
	w := &insideWriter{f: f, h: http.Header{}, declared: -1, late: late, start: time.Now()}
	defer func() { w.over, body.from = true, ended{} }()
	x.route.Service.ServeHTTP(w, r)
	return w.end(body, &x.answer)
}

// hear takes from own what a service inside may add to the record: who was
// proven, where the gateway had proven nobody; that it refused, and why.
func (x *exchange) hear(own *gatehouse.Event) {
	e := &x.event
	if x.who.Anonymous() {
		e.Subject, e.Issuer, e.Client, e.Auth, e.KeyID = own.Subject, own.Issuer, own.Client, own.Auth, own.KeyID
	}
	e.Allow = e.Allow && own.Allow
	e.Reason, e.Cause = own.Reason, own.Cause
}

// insideRequest is the request as a service elsewhere would receive it.
func (f *flight) insideRequest(ctx context.Context, body *insideBody) *http.Request {
	x := f.x
	r := x.Request.WithContext(ctx)
	r.Header = make(http.Header, len(x.Request.Header)+8)
	values := make([]string, 0, len(x.Request.Header)+8) // of most fields, in one piece
	f.eachField(func(name, value string) {
		if have, again := r.Header[name]; again {
			r.Header[name] = append(have, value)
			return
		}
		values = append(values, value)
		r.Header[name] = values[len(values)-1 : len(values) : len(values)]
	})
	r.URL = &url.URL{Path: x.Path, RawQuery: x.RawQuery}
	if strings.IndexByte(x.Path, '%') >= 0 {
		if plain, err := url.PathUnescape(x.Path); err == nil { // it was checked when it was matched
			r.URL.Path, r.URL.RawPath = plain, x.Path
		}
	}
	r.RequestURI = x.Path
	if x.RawQuery != "" {
		r.RequestURI += "?" + x.RawQuery
	}
	r.RemoteAddr = ""
	if x.ClientAddr.IsValid() {
		r.RemoteAddr = netip.AddrPortFrom(x.ClientAddr, 0).String()
	}
	r.Body, r.ContentLength, r.TransferEncoding, r.Close = http.NoBody, f.length(), nil, false
	switch {
	case x.Stream != nil:
		body.from, r.Body = x.Stream, body
	case len(x.Body) > 0:
		body.from, r.Body = bytes.NewReader(x.Body), body
	}
	return r
}

// insideBody is the caller's body as a service inside reads it. It remembers
// what ended it: too long a body is the gateway's to refuse.
type insideBody struct {
	from io.Reader
	err  error
}

func (b *insideBody) Read(p []byte) (int, error) {
	n, err := b.from.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	return n, err
}

// Close does nothing: the server owns the caller's body.
func (b *insideBody) Close() error { return nil }

// ended is the body once the service has returned: its room may hold another
// caller's by then.
type ended struct{}

func (ended) Read([]byte) (int, error) { return 0, errServiceEnd }

// insideWriter is what a service inside answers to. It holds a short answer
// until the service has returned and the record is written: a fault of either
// then still becomes a problem, and nobody has a token nothing is known about.
type insideWriter struct {
	f        *flight
	h        http.Header // the service's own; what is in the caller's is ours
	status   int         // 0: not said yet
	head     []http1.Field
	declared int64 // length the service promised; -1: none
	held     []byte
	begun    bool // the head is on its way, the rest is passed on as it comes
	over     bool // the service has returned
	err      error
	pace     pacer
	late     *time.Timer
	start    time.Time
}

func (w *insideWriter) Header() http.Header { return w.h }

func (w *insideWriter) WriteHeader(status int) {
	switch {
	case w.over || w.status != 0:
	case status == http.StatusSwitchingProtocols || status < 100 || status > 999:
		w.fail(fmt.Errorf("inside: a service answers with the status %d", status))
	case status < 200:
		if fields, err := w.fields(); err == nil {
			w.f.interim(status, fields)
		}
	default:
		w.status = status
		var err error
		if w.head, err = w.fields(); err != nil { // what is set later comes too late
			w.fail(err)
		}
		if v := w.h["Content-Length"]; len(v) == 1 {
			if n, err := strconv.ParseInt(v[0], 10, 64); err == nil && n >= 0 {
				w.declared = n
			}
		}
	}
}

func (w *insideWriter) Write(b []byte) (int, error) {
	switch {
	case w.over:
		return 0, errServiceEnd
	case w.err != nil:
		return 0, w.err
	case w.status == 0:
		w.WriteHeader(http.StatusOK)
	}
	x := w.f.x
	switch {
	case w.err != nil:
		return 0, w.err
	case w.status == http.StatusNoContent || w.status == http.StatusNotModified:
		return 0, http.ErrBodyNotAllowed
	case !w.begun && int64(len(w.held)+len(b)) <= w.room():
		w.held = append(w.held, b...)
		return len(b), nil
	case !w.begun && !w.begin():
		return 0, w.err
	case x.Request.Method == http.MethodHead:
		return len(b), nil
	}
	return w.pass(b)
}

// Flush sends what is held, unless it has to be checked whole.
func (w *insideWriter) Flush() {
	if w.over || w.err != nil {
		return
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.err != nil {
		return
	}
	if !w.begun && (w.f.x.CheckResponse != nil && !isEventStream(w.h) || !w.begin()) {
		return
	}
	if f, ok := w.f.w.(http.Flusher); ok {
		f.Flush()
	}
}

// room is how much of an answer is held before its head is sent.
func (w *insideWriter) room() int64 {
	if w.f.x.CheckResponse == nil {
		return insideHeld
	}
	if w.f.x.CheckLimit > 0 {
		return w.f.x.CheckLimit
	}
	return defaultCheckLimit
}

// begin sends the head before the answer is whole.
func (w *insideWriter) begin() bool {
	f := w.f
	if f.x.CheckResponse != nil && !f.x.CheckReport {
		w.fail(&gatehouse.Problem{
			Kind: gatehouse.BadUpstream, Reason: "upstream_unchecked", Detail: "The service's answer could not be checked.", Err: errUncheckedW,
		})
		return false
	}
	w.begun = true
	w.late.Stop()
	f.res.Service, f.res.Status = time.Since(w.start), w.status
	a := answer{status: w.status, fields: w.head, length: w.declared}
	f.writeFields(f.w.Header(), &a)
	f.res.Committed, f.x.begun = true, true
	f.w.WriteHeader(w.status)
	if len(w.held) > 0 && f.x.Request.Method != http.MethodHead {
		_, _ = w.pass(w.held)
	}
	w.held = nil
	return w.err == nil
}

func (w *insideWriter) pass(b []byte) (int, error) {
	w.pace.before(w.f, len(b))
	n, err := w.f.w.Write(b)
	w.f.res.Bytes += int64(n)
	if err != nil {
		w.fail(callerLeft(err))
	}
	return n, w.err
}

// Refuse ends the request with a problem of the service's: what it has written is
// not sent, unless some of it has been; then the answer is cut off.
func (w *insideWriter) Refuse(p *gatehouse.Problem) {
	if !w.over {
		w.fail(p)
	}
}

func (w *insideWriter) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// fields lists the head of the answer. A value from the caller that would end
// its line must not begin another one (response splitting). Trailers are not taken.
func (w *insideWriter) fields() ([]http1.Field, error) {
	out := make([]http1.Field, 0, len(w.h))
	for name, values := range w.h {
		if name == "Trailer" || strings.HasPrefix(name, http.TrailerPrefix) {
			continue
		}
		for _, v := range values {
			if http.CanonicalHeaderKey(name) != name || !http1.ValidField(name, v) {
				return nil, fmt.Errorf("inside: the service's field %.40q would break its line", name)
			}
			out = append(out, http1.Field{Name: name, Value: v})
		}
	}
	return out, nil
}

// end is called when the service has returned: what is held becomes the answer
// to give, or it says why there is none.
func (w *insideWriter) end(body *insideBody, give *heldAnswer) error {
	f := w.f
	w.late.Stop()
	if w.begun {
		w.pace.end(f)
		if w.err == nil && w.declared >= 0 && w.declared != f.res.Bytes && f.x.Request.Method != http.MethodHead {
			w.fail(fmt.Errorf("inside: the service sent %d bytes of %d", f.res.Bytes, w.declared))
		}
		return w.err
	}
	f.res.Service = time.Since(w.start)
	switch {
	case body.err != nil: // too long, or gone: not the service's to answer
		return f.problem(&http1.BodyError{Err: body.err})
	case w.err != nil:
		return w.err
	case w.status == 0 && errors.Is(context.Cause(f.ctx), errLate):
		return lateProblem(errLate)
	case w.status == 0 && f.ctx.Err() != nil:
		return f.problem(f.ctx.Err())
	case w.status == 0:
		w.WriteHeader(http.StatusOK)
		if w.err != nil {
			return w.err
		}
	}
	a := answer{status: w.status, fields: w.head, length: int64(len(w.held)), body: &heldBody{w.held}}
	if f.x.Request.Method == http.MethodHead {
		if a.body = new(heldBody); len(w.held) == 0 && w.declared > 0 {
			a.length = w.declared
		}
	}
	give.w, f.w = f.w, give
	if err := f.answer(a); err != nil {
		return err
	}
	f.res.Committed, f.x.begun, give.ready = false, false, true // close sends it, once the record is written
	return nil
}

// heldAnswer is an answer whose head and body wait for the record. Its fields
// are in the caller's already.
type heldAnswer struct {
	w      http.ResponseWriter
	status int
	body   []byte
	ready  bool
}

func (h *heldAnswer) Header() http.Header    { return h.w.Header() }
func (h *heldAnswer) WriteHeader(status int) { h.status = status }

// Write is called once at most: an answer that is held is in one piece.
func (h *heldAnswer) Write(b []byte) (int, error) {
	h.body = b
	return len(b), nil
}

// send gives the answer to the caller, who may have left: the record says what
// was meant.
func (h *heldAnswer) send() {
	if len(h.body) > insideSmall {
		_ = http.NewResponseController(h.w).SetWriteDeadline(time.Now().Add(inside.cfg.BodyIdle))
	}
	h.w.WriteHeader(h.status)
	if len(h.body) > 0 {
		_, _ = h.w.Write(h.body)
	}
	if len(h.body) > insideSmall {
		_ = http.NewResponseController(h.w).SetWriteDeadline(time.Time{})
	}
}

// heldBody is an answer that is there whole.
type heldBody struct{ rest []byte }

func (h *heldBody) next(context.Context) ([]byte, error) {
	b := h.rest
	h.rest = nil
	return b, io.EOF
}

func (h *heldBody) waiting() bool          { return false }
func (h *heldBody) trailer() []http1.Field { return nil }

package gateway

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/authz"
	"github.com/gatehouse-api/gatehouse/internal/ddos"
	"github.com/gatehouse-api/gatehouse/internal/http1"
	"github.com/gatehouse-api/gatehouse/internal/validate"
)

// checkHead holds the parameters to the document. What goes on is the query
// that was checked, not the one that came.
func (x *exchange) checkHead() (err error) {
	if x.route.Raw {
		x.passHead()
		return nil
	}
	x.head.Wanted = x.route.Params
	x.vals, err = x.route.Op.Head(x.r, x.params, x.vals, &x.head)
	x.facts.Params = x.vals
	return err
}

// passHead takes the head as it came, for a service that judges it itself. That
// it can be read in one way only has been checked. Rules on parameters find none.
func (x *exchange) passHead() {
	x.head.Path = append(x.head.Path[:0], x.facts.Path...)
	x.head.Query = append(x.head.Query[:0], x.r.URL.RawQuery...)
	x.vals = x.vals[:0]
	for range x.route.Op.Op().Params {
		x.vals = append(x.vals, nil)
	}
	x.facts.Params = x.vals
}

// checkBody holds the body to the document. What goes on is the body that was
// checked, written afresh.
func (x *exchange) checkBody() error {
	if x.w != nil && x.r.Body != nil && x.r.Body != http.NoBody {
		x.read = &counted{ReadCloser: x.r.Body, hold: x.hold}
		x.r.Body = x.read
	}
	x.body.Hold = nil
	if x.read != nil && x.r.Header["Content-Encoding"] != nil {
		x.body.Hold = x.read.hold.upTo // it holds more than it received
	}
	check := x.route.Op.Body
	if x.route.Raw {
		check = x.route.Op.Bound
	}
	if err := check(x.r, &x.body); err != nil {
		return err
	}
	if x.body.Stream != nil && x.read != nil && x.route.Service == nil {
		x.read.hold.end() // it is passed on, not held
	}
	if !x.route.Policy.Has(authz.Body) {
		return nil
	}
	v, err := x.body.Value(x.route.Fields)
	if err != nil { // it was checked a moment ago
		return &gatehouse.Problem{Kind: gatehouse.Internal, Reason: "internal", Err: err}
	}
	x.facts.Body = v
	return nil
}

// inspect asks the WAF's rules about what was checked.
func (x *exchange) inspect() error {
	op := x.route.Op
	if x.route.Raw || !op.Inspects() {
		return nil
	}
	err := op.Inspect(x.r, x.event.Address, x.params, &x.head, &x.body, &x.found)
	x.noteFound()
	return err
}

// noteFound puts what the rules found into the record.
func (x *exchange) noteFound() {
	x.event.Score, x.event.Matches, x.event.Reported = x.found.Score, x.found.Matches, x.found.Reported
}

// checkAnswer looks at an answer that is held back, and says why it must not go on.
func (x *exchange) checkAnswer(status int, h http.Header, body []byte) error {
	op := x.route.Op
	faults := op.Response(status, h, body)
	if len(faults) > 0 && op.CheckResponses() == validate.Enforce {
		return validate.BadResponse(faults)
	}
	x.found.Reported = append(x.found.Reported, faults...)
	return x.watchAnswer(status, h, body)
}

// watchAnswer looks at an answer, or the beginning of one that has gone on.
func (x *exchange) watchAnswer(status int, h http.Header, body []byte) error {
	err := x.route.Op.InspectAnswer(status, h, body, &x.found)
	x.noteFound()
	return err
}

// counted counts what a caller really sent, for the record. It is not pooled:
// an HTTP/2 service's writer may still read when the exchange is over.
type counted struct {
	io.ReadCloser

	n    atomic.Int64
	hold hold
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	if full := c.hold.upTo(c.n.Add(int64(n))); full != nil {
		return 0, full
	}
	return n, err
}

// forward carries what was checked to the service.
func (x *exchange) forward() error {
	http1.Waits(x.w)
	route, e := x.route, &x.event
	e.Allow = true
	if route.Upgrade && x.who != nil && !x.who.Expires.IsZero() {
		// An upgraded connection must not outlive the proof it was opened with.
		ctx, cancel := context.WithDeadline(x.r.Context(), x.who.Expires)
		defer cancel()
		x.r = x.r.WithContext(ctx)
	}
	out := &x.out // all zero: see retire
	out.Request, out.Cookie, out.Stream, out.Length, out.Header = x.r, x.cookie(), x.body.Stream, x.body.Length, x.body.Header
	out.Principal, out.Audience, out.Decision = x.who, route.Audience, e.ID
	out.ClientAddr, out.Proto, out.Host, out.Upgrade, out.Timeout = x.facts.Address, x.proto, x.r.Host, route.Upgrade, route.Timeout
	if out.Stream == nil {
		out.Body = x.body.Bytes
	}
	switch check, watch := route.Op.CheckResponses(), route.Op.WatchesAnswers(); {
	case check != validate.Off, watch == validate.Enforce:
		out.CheckResponse, out.CheckReport = x.check, max(check, watch) == validate.Report
	case watch == validate.Report:
		out.Watch, out.Seen = x.watch, x.seen[:0]
	}
	cached := x.narrows()
	limits := x.write()
	f := &x.flight
	f.w, f.x, f.own = x.w, out, x.own[:0]
	if limits != "" {
		f.own = append(f.own, http1.Field{Name: "Ratelimit-Policy", Value: x.policies()[0]}, http1.Field{Name: "Ratelimit", Value: limits})
		if x.snap.tell == TellBoth {
			limit, remaining, reset := x.legacy()
			f.own = append(f.own, http1.Field{Name: legacyLimit, Value: limit}, http1.Field{Name: legacyRemaining, Value: remaining}, http1.Field{Name: legacyReset, Value: reset})
		}
	}
	f.own = append(f.own, http1.Field{Name: headerDecision, Value: e.ID})
	if route.Service != nil {
		f.tell()
		return x.forwardInside()
	}
	if cached {
		return x.throughCache(f)
	}
	if route.Forgets && x.gate != nil {
		x.cached = x.appendGroup(x.cached[:0])
		f.changed, f.group = x.gate.cache, x.cached
	}
	err := x.carry(f)
	if err != nil && f.changed != nil && f.res.Attempts > 0 { // the service may have done it
		f.changed.Forget(f.group)
	}
	return err
}

// carry takes f to the service and notes what became of it.
func (x *exchange) carry(f *flight) error {
	out, route := &x.out, x.route
	out.Room = x.claim()
	err := route.Upstreams.carry(f)
	if f.res.Status/100 == 2 && !x.who.Anonymous() {
		route.Upstreams.known.Saw(out.Room.Who, x.start)
	}
	if cap(out.Seen) <= 8<<10 { // one large answer must not pin its room for ever
		x.seen = out.Seen
	}
	x.note(&f.res)
	return err
}

// claim says who wants room at the service, and how good a claim that is.
func (x *exchange) claim() ddos.Request {
	known := x.route.Upstreams.known
	r := ddos.Request{Priority: x.route.Priority, Streamed: x.out.Stream != nil}
	if x.who.Anonymous() {
		r.Who = known.Address(x.facts.Address)
		return r
	}
	name := x.who.Subject
	if name == "" {
		name = x.who.KeyID
	}
	r.Who, r.Claim = known.Principal(x.who.Issuer, name), ddos.Newcomer
	if known.Is(r.Who, x.start) {
		r.Claim = ddos.Regular
	}
	return r
}

// write gives out its strings, and returns the RateLimit field. They all are parts
// of one, which is one allocation.
func (x *exchange) write() (limits string) {
	path := x.head.Path
	b := x.text[:0]
	if route := x.route; route.Strip > 0 || route.Prefix != "" {
		b = append(b, route.Prefix...)
		path = path[route.Strip:]
	}
	b = append(b, path...)
	endPath := len(b)
	b = append(b, x.head.Query...)
	endQuery := len(b)
	b = append(b, x.limits...)
	endLimits := len(b)
	b, s := x.out.computed.make(&x.out, b)
	x.text = b
	x.out.Path, x.out.RawQuery = s[:endPath], s[endPath:endQuery]
	return s[endQuery:endLimits]
}

// note puts what became of the request into its record.
func (x *exchange) note(res *Result) {
	x.result = *res
	e := &x.event
	e.Upstream, e.Status, e.Out, e.Service, e.TraceID = res.Upstream, res.Status, res.Bytes, res.Service, res.TraceID
}

// cookie gives the service its cookies. None of them is a credential for the
// gateway, which takes none from a cookie.
func (x *exchange) cookie() string {
	lines := x.r.Header["Cookie"]
	if len(lines) == 1 {
		return withoutPass(lines[0])
	}
	return withoutPass(strings.Join(lines, "; "))
}

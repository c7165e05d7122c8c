package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/cache"
	"github.com/gatehouse-api/gatehouse/internal/ddos"
	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// An Outbound is one request on its way to a service: what the checks let
// through, not what the caller sent.
type Outbound struct {
	Request  *http.Request // as received; its fields are copied by rule and never changed
	Path     string        // canonical, escaped, beginning with /; put behind the upstream's own path
	RawQuery string        // canonical, without ?

	// Narrow, when it is not nil, are the only fields of the caller's that are sent:
	// of two requests that agree in them, in host and path, and in who calls, the
	// service sees no difference.
	Narrow []http1.Field

	Header http.Header // end-to-end fields that replace the caller's; a name with no value removes it
	Cookie string      // the Cookie field, unless the token mode is pass; "" sends none

	Body   []byte    // as validated; used when Stream is nil
	Stream io.Reader // a body nobody buffers
	Length int64     // of Stream; -1 when unknown

	Principal *gatehouse.Principal
	Audience  string // of the internal token
	Decision  string // decision id

	ClientAddr netip.Addr // trusted hops resolved
	Proto      string     // "http" or "https", as the caller used it
	Host       string     // as the caller asked for it, checked

	Room ddos.Request // who waits, where there is not room for all

	Upgrade bool          // the operation permits WebSocket
	Timeout time.Duration // until the answer's head has come; 0: the upstreams' own

	// CheckResponse, when set, has the answer read whole before any of it is
	// sent: up to CheckLimit bytes, 1 MiB if 0. Its error ends the request.
	CheckResponse answerCheck
	CheckLimit    int64
	CheckReport   bool // pass an answer too long to check, or an event stream, unchecked

	// Watch, when set and CheckResponse is not, gets the beginning of the answer's
	// body, up to 64 KiB, after it has gone on. Its error changes nothing.
	Watch answerCheck
	Seen  []byte // room for it, empty

	computed computed // made by whoever fills the rest
	begun    bool     // the answer's head is on its way, for whoever recovers from a panic
}

// An answerCheck looks at an answer.
type answerCheck func(status int, h http.Header, body []byte) error

// A Result tells what became of an [Outbound].
type Result struct {
	Upstream  string        // scheme://host; "" when none was asked
	Status    int           // of the service's answer; 0 when there was none
	Bytes     int64         // of the body sent to the caller
	Service   time.Duration // from sending the request to the answer's head, in the last attempt
	Attempts  int
	TraceID   string // of the traceparent sent
	Committed bool   // the answer's head is on its way to the caller: an error can no longer be told, only the connection cut
}

// flight is an Outbound on its way: what it works with, and what all attempts share.
type flight struct {
	u   *Upstreams
	w   http.ResponseWriter
	x   *Outbound
	ctx context.Context //nolint:containedctx // it is the request's and dies with this call
	res Result

	room ddos.Token // at the service tried

	own     []http1.Field // fields of ours the answer gets, and w's header does not hold yet
	token   string        // the internal token
	upgrade bool
	grpc    bool

	fill    *fill        // nil: nothing of this is kept
	changed *cache.Cache // in which group is wrong once the service has done this; nil: none is
	group   []byte
	given   []http1.Field // room for the fields of an answer that is kept
	whole   heldBody      // its body

	fields []http1.Field // room for an answer's
	buf    []byte        // room for the request
}

// carry takes f, which has its w, its x with everything in it, and its room, to one
// of the services and the answer to w. An error is a [*gatehouse.Problem]. With
// Committed false nothing was sent to w, so that the problem can be; with Committed
// true the caller holds the start of an answer that has no end, and must be cut off
// (http.ErrAbortHandler) lest it looks whole.
//
// When it returns nobody looks at x or at what it refers to any more, but for
// Request and Stream: a service's connection may still read from those.
func (u *Upstreams) carry(f *flight) error {
	f.u, f.ctx = u, f.x.Request.Context()
	if err := f.prepare(); err != nil {
		return err
	}
	u.budget.pay()
	var tried *endpoint
	for {
		e := u.choose(tried)
		if e == nil {
			return u.unavailable()
		}
		f.res.Attempts++
		f.res.Upstream = e.name
		again, err := f.attempt(e)
		if err == nil || !again || f.res.Attempts > u.cfg.Retries || f.ctx.Err() != nil || !u.budget.spend() {
			return err
		}
		tried = e
	}
}

// prepare does what is the same for every attempt, the token before all: no
// request goes to a service without the credential it was promised.
func (f *flight) prepare() error {
	x, u := f.x, f.u
	switch {
	case len(x.Path) == 0 || x.Path[0] != '/' || !targetSafe(x.Path) || !targetSafe(x.RawQuery) || !targetSafe(x.Host) ||
		!http1.ValidField(x.Request.Method, ""):
		return &gatehouse.Problem{Reason: "internal", Err: errors.New("forward: path, query or host is not canonical")}
	case x.Stream != nil && x.Body != nil:
		return &gatehouse.Problem{Reason: "internal", Err: errors.New("forward: two bodies")}
	}
	for name := range x.Header {
		if http.CanonicalHeaderKey(name) != name || !http1.ValidField(name, "") || !requestFieldStays(name) {
			return &gatehouse.Problem{Reason: "internal", Err: fmt.Errorf("forward: field %q is not to be set so", name)}
		}
	}
	f.upgrade = x.Upgrade && wantsWebSocket(x.Request)
	// Only a body that was declared and streams is gRPC. The word of the caller alone
	// would choose the lane: three GETs over HTTP/2 to a service that does not
	// speak it would open its breaker for everybody.
	f.grpc = x.Stream != nil && isGRPC(x.Request.Header)
	if u.cfg.Token == TokenInternal && !x.Principal.Anonymous() {
		token, err := u.minter.Mint(x.Principal, x.Audience)
		if err == nil && (token == "" || !lineSafe(token)) {
			err = errors.New("forward: the minter gave no token")
		}
		if err != nil {
			return &gatehouse.Problem{
				Kind: gatehouse.Overloaded, Reason: "internal_token_failed", Detail: "The request could not be prepared for the service.",
				RetryAfter: time.Second, Err: err,
			}
		}
		f.token = token
	}
	f.res.TraceID = x.computed.traceID
	return nil
}

// attempt tries e once. again says that the failure leaves it certain that
// trying once more does no harm.
func (f *flight) attempt(e *endpoint) (again bool, err error) {
	if f.room, err = e.room.Acquire(f.ctx, f.x.Room); err != nil {
		return len(f.u.endpoints) > 1, f.problem(err) // another may have room
	}
	defer f.room.Release()
	var heard bool // the service answered, whatever it was
	if e.h2 || f.grpc {
		again, heard, err = f.over2(e)
	} else {
		again, heard, err = f.over1(e)
	}
	if heard {
		e.breaker.succeed()
	} else if p := gatehouse.AsProblem(err); p.Kind == gatehouse.BadUpstream || p.Kind == gatehouse.UpstreamTimeout {
		e.breaker.fail()
		f.room.Heard(ddos.Dropped, 0)
	}
	return again, err
}

// heard notes that the head of the service's answer has come.
func (f *flight) heard(status int, took time.Duration) {
	f.res.Service = took
	outcome := ddos.Answered
	if status == http.StatusServiceUnavailable {
		outcome = ddos.Dropped
	}
	f.room.Heard(outcome, took)
}

// repeatable reports whether the whole request can be sent again and may be:
// its method is idempotent (RFC 9110 §9.2.2) and its body still here.
func (f *flight) repeatable() bool {
	if f.x.Stream != nil {
		return false
	}
	switch f.x.Request.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// problem says what a failure means to the caller.
func (f *flight) problem(err error) *gatehouse.Problem {
	if p, ok := errors.AsType[*gatehouse.Problem](err); ok {
		return p
	}
	gone := &gatehouse.Problem{Kind: gatehouse.Malformed, Reason: "client_gone", Detail: "The request ended before it was complete.", Err: err}
	late := lateProblem(err)
	if _, ok := errors.AsType[*http1.BodyError](err); ok {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return &gatehouse.Problem{Kind: gatehouse.TooLarge, Reason: "body_too_large", Detail: "The request's body is longer than is allowed.", Err: err}
		}
		return gone
	}
	switch cause := f.ctx.Err(); {
	case errors.Is(cause, context.DeadlineExceeded):
		return late
	case cause != nil:
		return gone
	}
	if ne, ok := errors.AsType[net.Error](err); errors.Is(err, http1.ErrTimeout) || ok && ne.Timeout() {
		return late
	}
	return &gatehouse.Problem{Kind: gatehouse.BadUpstream, Reason: "upstream_failed", Detail: "The service failed to answer.", Err: err}
}

func lateProblem(err error) *gatehouse.Problem {
	return &gatehouse.Problem{Kind: gatehouse.UpstreamTimeout, Reason: "upstream_timeout", Detail: "The service did not answer in time.", Err: err}
}

// callerLeft is the problem of an answer that could not be delivered.
func callerLeft(err error) *gatehouse.Problem {
	return &gatehouse.Problem{Kind: gatehouse.Malformed, Reason: "client_gone", Detail: "The caller left before the answer was complete.", Err: err}
}

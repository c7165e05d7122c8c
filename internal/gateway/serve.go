package gateway

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/authz"
	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// serve takes x through every check in order; the first error ends the walk.
// The order is the policy: cheap before costly, who before what, what before how.
func (g *Gateway) serve(ctx context.Context, x *exchange) error {
	if err := g.ready(x); err != nil { // 7: what cannot be recorded does not happen
		return err
	}
	if x.direct != nil { // 10: past the edge in front of us
		return x.direct
	}
	if err := g.limit(x, x.snap.limits.at[early]); err != nil { // 9: by address, whatever is asked for
		x.event.Path = cutPath(x.path())
		return err
	}
	if err := http1.CheckRequest(x.r); err != nil { // 8: one reading of the head
		return err
	}
	err := x.matchRoute()
	if kept := g.guard(x); kept != nil { // 10: who stands out, before anything costs
		return kept
	}
	if err != nil { // 5, 12: no operation, no way
		return err
	}
	if err := g.limit(x, x.route.limits.at[before]); err != nil { // 9: by address and operation, before anything costs
		return err
	}
	if err := x.authenticate(ctx); err != nil { // 1
		return err
	}
	if err := g.guardCaller(x); err != nil { // 10: credentials that prove nobody
		return err
	}
	if err := g.limit(x, x.route.limits.at[after]); err != nil { // 9: by who calls
		return err
	}
	err = x.decide() // 2, 8, 12
	g.charge(x)      // 9: what a body cost to look through, refused or not
	if err != nil {
		return err
	}
	return x.forward() // 12: the service gets our token, not the caller's
}

// decide asks what the caller may do with this very input: each rule as soon as
// what it names is known, so that a caller without the role is refused before a
// parameter is read, and one that is not the owner before the body is. Whether
// what fits the schema is an attack all the same is asked of those alone who may
// do what they ask for.
func (x *exchange) decide() error {
	if err := x.authorize(authz.Caller); err != nil {
		return err
	}
	if err := x.checkHead(); err != nil {
		return err
	}
	if err := x.late(); err != nil { // 9: by what is asked for
		return err
	}
	if err := x.authorize(authz.Head); err != nil {
		return err
	}
	if err := x.checkBody(); err != nil {
		return err
	}
	if err := x.authorize(authz.Body); err != nil {
		return err
	}
	return x.inspect()
}

// open begins the record of one request.
func (g *Gateway) open(w http.ResponseWriter, r *http.Request, entry *Entry) *exchange {
	g.Meter.Begin()
	x := g.pool.Get().(*exchange)
	x.w, x.r, x.start, x.gate = w, r, time.Now(), g
	x.snap = g.snapshot.Load()
	e := &x.event
	x.facts.Address, e.Address, x.proto, x.direct = entry.caller(r, x.snap)
	x.hold = hold{in: &g.held, limit: cmp.Or(g.MaxHeld, defaultHeld), who: x.facts.Address}
	e.ID = g.NewID(x.start)
	e.Time, e.Node = x.start, g.Node
	e.Host, e.Method, e.Protocol = r.Host, r.Method, r.Proto
	if r.TLS != nil {
		e.TLS = tlsName(r.TLS)
	}
	if x.snap != nil {
		e.Config = x.snap.Digest
	}
	return x
}

// guarded is serve, with a panic of ours turned into an error: a fault in a
// check must end in a refusal that is recorded.
func (g *Gateway) guarded(ctx context.Context, x *exchange) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &gatehouse.Problem{Kind: gatehouse.Internal, Reason: "internal", Err: fmt.Errorf("panic: %v\n%s", p, debug.Stack())}
			x.result.Committed = x.out.begun // a problem behind half an answer could pass for part of it
		}
	}()
	return g.serve(ctx, x)
}

// close ends the record: it alone writes problems, events and metrics.
func (g *Gateway) close(x *exchange, err error) {
	e := &x.event
	var p *gatehouse.Problem
	var answer []byte
	var own http.Header // of the answer, where it is no plain problem
	committed := x.result.Committed
	if err != nil {
		p = gatehouse.AsProblem(err)
		e.Reason, e.Fields = p.Reason, p.Fields
		if p.Err != nil {
			e.Cause = p.Err.Error()
		}
		if p.Decision != nil {
			e.Reasons = p.Decision.Reasons
		}
		if !committed {
			e.Status = p.Kind.Status()
			if x.challenge != "" {
				answer, own = x.tellChallenge(e.ID)
			}
			if answer == nil {
				answer = renderProblem(p, e.ID)
			}
			if x.r.Method != http.MethodHead {
				e.Out = int64(len(answer))
			}
		}
	}
	if len(x.took) > 0 {
		g.chargeFailure(x)
	}
	if len(x.reported) > 0 {
		e.Reported = slices.Concat(e.Reported, x.reported)
	}
	e.Duration = time.Since(x.start)
	if x.read != nil {
		e.In = x.read.n.Load()
		defer x.read.hold.end()
	}
	if recErr := g.Record.Append(e); recErr != nil {
		// The request has no record. An answer not begun is not given; one under
		// way is cut off, so that it cannot pass for a whole one.
		p = unrecorded(recErr)
		e.Status, e.Reason, e.Cause = p.Kind.Status(), p.Reason, recErr.Error()
		answer, own = renderProblem(p, e.ID), nil
		err = p
	}
	g.Meter.Observe(e)
	g.guardObserve(x, err != nil && e.Status < 500 && e.Status >= 400)
	switch {
	case p != nil && !committed:
		x.tellLimits()
		sendProblem(x.w, x.r, p, e.ID, answer, own)
	case p == nil && x.answer.ready:
		x.answer.send()
	}
	abort := err != nil && committed
	g.retire(x)
	if abort {
		panic(http.ErrAbortHandler) // the caller must see that the answer has no end
	}
}

// retire makes x ready for another request. Nothing of one caller's is left for
// the next one.
func (g *Gateway) retire(x *exchange) {
	if poisoned {
		x.poison()
		return
	}
	clear(x.vals)
	x.found.Reset()
	clear(x.took)
	vals, head, body, found, limits, text, took := x.vals[:0], x.head.Reset(), x.body.Reset(), x.found, x.limits[:0], x.text[:0], x.took[:0]
	check, watch, seen, buf, fields := x.check, x.watch, x.seen, x.flight.spare(), x.flight.fields[:0]
	cached, everybody, status, given := x.cached[:0], x.everybody[:0], x.status[:0], x.flight.given[:0]
	*x = exchange{} // in place: a literal with what stays would be made elsewhere and copied
	x.vals, x.head, x.body, x.found, x.limits, x.text, x.took = vals, head, body, found, limits, text, took
	x.check, x.watch, x.seen, x.flight.buf, x.flight.fields = check, watch, seen, buf, fields
	x.cached, x.everybody, x.status, x.flight.given = cached, everybody, status, given
	g.pool.Put(x)
}

// ready refuses while there is no config or no record.
func (g *Gateway) ready(x *exchange) error {
	if x.snap == nil {
		return &gatehouse.Problem{Kind: gatehouse.Overloaded, Reason: "starting", Detail: "The gateway is not ready yet.", RetryAfter: time.Second}
	}
	if err := g.Record.Err(); err != nil {
		return unrecorded(err)
	}
	return nil
}

func unrecorded(err error) *gatehouse.Problem {
	return &gatehouse.Problem{
		Kind: gatehouse.Overloaded, Reason: "record_unavailable", RetryAfter: 5 * time.Second,
		Detail: "The request cannot be recorded, so it is not carried out.", Err: err,
	}
}

// matchRoute finds the operation. What the documents do not name is not there.
func (x *exchange) matchRoute() error {
	path := x.path()
	x.event.Path = cutPath(path)
	n, params, err := x.snap.Router.Match(x.r.Host, x.r.Method, path, x.match[:0])
	if err != nil {
		return err
	}
	x.route, x.params = x.snap.Routes[n], params
	op := x.route.Op.Op()
	x.event.API, x.event.Operation, x.event.Path = op.API, op.ID, op.Path
	x.facts.Path = path
	return nil
}

// path is the path as received; URL.Path would be decoded and encoded again.
func (x *exchange) path() string {
	if path, _, _ := strings.Cut(x.r.RequestURI, "?"); strings.HasPrefix(path, "/") {
		return path
	}
	return x.r.URL.EscapedPath() // absolute-form, its authority checked already, or no request of a listener's
}

// introduce gives the rules what needs no reading.
func (x *exchange) introduce() {
	in := &x.facts
	in.Principal, in.Method, in.Host = x.who, x.r.Method, hostOnly(x.r.Host)
	in.TLS, in.Time, in.Networks = x.r.TLS != nil, x.start, x.snap.Networks
	if in.Path == "" {
		in.Path = x.path()
	}
}

// authenticate finds out who calls.
func (x *exchange) authenticate(ctx context.Context) error {
	who, err := x.snap.Authn.AuthenticateAt(ctx, x.start, x.r, x.proto, x.route.Accept)
	if err != nil {
		return err
	}
	x.who = who
	if who != nil {
		e := &x.event
		e.Subject, e.Issuer, e.Client, e.Auth, e.KeyID = who.Subject, who.Issuer, who.Client, who.Method, who.KeyID
	}
	return nil
}

// authorize asks the rules of one phase.
func (x *exchange) authorize(phase authz.Phase) error {
	policy := x.route.Policy
	if !policy.Has(phase) {
		return nil
	}
	in := &x.facts
	if phase == authz.Caller {
		x.introduce()
	}
	if d := policy.Decide(phase, in); !d.Allow {
		p := policy.Problem(d, x.who)
		x.route.Accept.Challenge(x.r, p)
		return p
	}
	return nil
}

// tlsNames has every pair of version and suite this binary can speak, so that
// an event's TLS costs no allocation.
var tlsNames = func() map[uint32]string {
	out := map[uint32]string{}
	for _, s := range tls.CipherSuites() {
		for _, v := range s.SupportedVersions {
			out[uint32(v)<<16|uint32(s.ID)] = tls.VersionName(v) + " " + s.Name
		}
	}
	return out
}()

func tlsName(s *tls.ConnectionState) string {
	if name, ok := tlsNames[uint32(s.Version)<<16|uint32(s.CipherSuite)]; ok {
		return name
	}
	return tls.VersionName(s.Version)
}

// cutPath keeps a stranger's path short in the record.
func cutPath(path string) string {
	const most = 256
	if len(path) > most {
		return path[:most]
	}
	return path
}

// hostOnly takes the port off a Host that http1 has checked.
func hostOnly(host string) string {
	if i := strings.LastIndexByte(host, ':'); i > 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	return strings.ToLower(host)
}

// Refused records a request that the front turned away before it became one,
// and returns its decision id.
func (g *Gateway) Refused(f http1.Refusal) string {
	now := time.Now()
	e := gatehouse.Event{
		ID: g.NewID(now), Time: now, Node: g.Node, Address: hostOnly(f.Address), Reason: f.Problem.Reason, Status: f.Problem.Kind.Status(),
	}
	if f.TLS {
		e.TLS = "TLS"
	}
	method, rest, _ := strings.Cut(f.Line, " ")
	path, proto, _ := strings.Cut(rest, " ")
	e.Method, e.Path, e.Protocol = method, cutPath(path), proto
	if f.Problem.Err != nil {
		e.Cause = f.Problem.Err.Error()
	}
	if s := g.snapshot.Load(); s != nil {
		e.Config = s.Digest
	}
	if err := g.Record.Append(&e); err != nil {
		e.Cause = errors.Join(f.Problem.Err, err).Error() // refused it stays; readiness says that the record fails
	}
	g.Meter.Refused(&e)
	return e.ID
}

package cost

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/authz"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
	"github.com/gatehouse-api/gatehouse/internal/http1"
	"github.com/gatehouse-api/gatehouse/internal/ratelimit"
	"github.com/gatehouse-api/gatehouse/internal/validate"
)

// A walk is one request taken through the gateway's checks one by one, without a
// network, each again and again.
type walk struct {
	g      *rig
	r      *http.Request
	text   []byte // of the body
	body   replayed
	path   string
	route  *gateway.Route
	params []string
	who    *gatehouse.Principal
	from   netip.Addr
	came   time.Time // the gateway asks the clock once for a request, not for each check

	vals    []any
	head    validate.Head
	checked validate.Body
	found   validate.Inspection
	facts   authz.Input
	limits  []byte
	event   gatehouse.Event
}

// replayed is a body that can be read again.
type replayed struct{ bytes.Reader }

func (*replayed) Close() error { return nil }

// newWalk goes once through everything, and says why it could not.
func newWalk(ctx context.Context, g *rig, l *line) (*walk, error) {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(l.request)))
	if err != nil {
		return nil, err
	}
	w := &walk{g: g, r: r, from: netip.MustParseAddr("127.0.0.1"), came: time.Now()}
	if w.text, err = io.ReadAll(r.Body); err != nil {
		return nil, err
	}
	r.RemoteAddr = "127.0.0.1:1"
	w.path, _, _ = strings.Cut(r.RequestURI, "?")
	if err := w.match(); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{w.authenticate, w.caller, w.schema, w.rules, w.content} {
		if err := step(ctx); err != nil {
			return nil, w.explained(err)
		}
	}
	op := w.route.Op.Op()
	w.event = gatehouse.Event{
		ID: auditlog.NewID(w.came), Time: w.came, Node: "bench", Address: w.from.String(), Host: r.Host, Method: r.Method, Path: op.Path, API: op.API, Operation: op.ID,
		Protocol: r.Proto, Config: g.full.Digest, Allow: true, Status: http.StatusOK, Upstream: "http://" + g.service, Out: 802, In: int64(len(w.text)),
		Duration: 100 * time.Microsecond, Service: 50 * time.Microsecond, TraceID: "0af7651916cd43dd8448eb211c80319c",
	}
	if w.who != nil {
		w.event.Subject, w.event.Issuer, w.event.Client, w.event.Auth = w.who.Subject, w.who.Issuer, w.who.Client, w.who.Method
	}
	return w, nil
}

// explained tells what the operator would read in the event.
func (w *walk) explained(err error) error {
	p := gatehouse.AsProblem(err)
	said := []string{p.Reason}
	for _, f := range p.Fields {
		said = append(said, strings.TrimSpace(f.In+" "+f.Name+f.Pointer)+": "+f.Detail)
	}
	if p.Decision != nil {
		for _, why := range p.Decision.Reasons {
			said = append(said, why.Rule+": "+why.Text)
			if why.Needed != "" {
				said = append(said, "needed "+why.Needed)
			}
		}
	}
	if p.Err != nil {
		said = append(said, p.Err.Error())
	}
	op := w.route.Op.Op()
	return fmt.Errorf("%s.%s %w: %s", op.API, op.ID, ErrNotAllowed, strings.Join(said, "; "))
}

func (w *walk) match() error {
	if err := http1.CheckRequest(w.r); err != nil {
		return err
	}
	n, params, err := w.g.full.Router.Match(w.r.Host, w.r.Method, w.path, w.params[:0])
	if err != nil {
		return err
	}
	w.route, w.params = w.g.full.Routes[n], params
	return nil
}

func (w *walk) authenticate(ctx context.Context) (err error) {
	w.who, err = w.g.authn.AuthenticateAt(ctx, w.came, w.r, "http", w.route.Accept)
	return err
}

// caller asks the rules that need to know who calls, and nothing else.
func (w *walk) caller(context.Context) error {
	w.facts = authz.Input{Principal: w.who, Method: w.r.Method, Path: w.path, Host: w.r.Host, Address: w.from, Time: w.came, Params: w.vals}
	return w.decide(authz.Caller)
}

// rules asks the others; parameters and body have been checked before.
func (w *walk) rules(context.Context) error {
	w.facts.Params = w.vals
	if err := w.decide(authz.Head); err != nil || !w.route.Policy.Has(authz.Body) {
		return err
	}
	v, err := w.checked.Value(w.route.Fields)
	if err != nil {
		return err
	}
	w.facts.Body = v
	return w.decide(authz.Body)
}

func (w *walk) decide(phase authz.Phase) error {
	if !w.route.Policy.Has(phase) {
		return nil
	}
	if d := w.route.Policy.Decide(phase, &w.facts); !d.Allow {
		return w.route.Policy.Problem(d, w.who)
	}
	return nil
}

func (w *walk) schema(context.Context) (err error) {
	w.head, w.checked = w.head.Reset(), w.checked.Reset()
	w.head.Wanted = w.route.Params
	w.r.Body, w.r.ContentLength = http.NoBody, int64(len(w.text))
	if len(w.text) > 0 {
		w.body.Reset(w.text)
		w.r.Body = &w.body
	}
	if w.vals, err = w.route.Op.Head(w.r, w.params, w.vals[:0], &w.head); err != nil {
		return err
	}
	return w.route.Op.Body(w.r, &w.checked)
}

func (w *walk) content(context.Context) error {
	if !w.route.Op.Inspects() {
		return nil
	}
	w.found.Reset()
	return w.route.Op.Inspect(w.r, w.from.String(), w.params, &w.head, &w.checked, &w.found)
}

func (w *walk) take(context.Context) error {
	key := ratelimit.KeyOf(w.from, w.who, w.route.Op.Op())
	now := w.g.limiter.Now() // not when w came: buckets that nothing is added to run dry
	w.limits = w.limits[:0]
	for _, l := range w.route.Limits() {
		w.limits = ratelimit.AppendResult(w.limits, w.g.limiter.Take(l.Limit, key, l.Cost(), now))
	}
	return nil
}

// alone measures each check by itself.
func (w *walk) alone(ctx context.Context) (map[string]*Alone, error) {
	op := w.route.Op
	answered, header := serviceAnswer[bytes.Index(serviceAnswer, []byte("\r\n\r\n"))+4:], http.Header{"Content-Type": {"application/json"}}
	limited := w.route.Limits()
	out := map[string]*Alone{}
	for _, c := range []struct {
		id   string
		asks bool
		do   func(context.Context) error
	}{
		{"proxy", true, func(context.Context) error { return w.match() }},
		{"limits", len(limited) > 0, w.take},
		{"authentication", w.who != nil && !w.who.Anonymous(), func(ctx context.Context) error {
			if err := w.authenticate(ctx); err != nil || w.g.whole.File.APIs[w.g.api].Upstream.Token != string(gateway.TokenInternal) {
				return err
			}
			_, err := w.g.mint.Mint(w.who, w.route.Audience)
			return err
		}},
		{"access", slices.ContainsFunc([]authz.Phase{authz.Caller, authz.Head, authz.Body}, w.route.Policy.Has), func(ctx context.Context) error {
			if err := w.caller(ctx); err != nil {
				return err
			}
			return w.rules(ctx)
		}},
		{"schema", true, w.schema},
		{"content", op.Inspects() || op.WatchesAnswers() != validate.Off, func(ctx context.Context) error {
			if err := w.content(ctx); err != nil || op.WatchesAnswers() == validate.Off {
				return err
			}
			return op.InspectAnswer(http.StatusOK, header, answered, &w.found)
		}},
		{"record", true, func(context.Context) error {
			w.event.Time = time.Now()
			w.event.ID = auditlog.NewID(w.event.Time)
			return w.g.record.Append(&w.event)
		}},
		{"metrics", true, func(context.Context) error { w.g.meter.Begin(); w.g.meter.Observe(&w.event); return nil }},
	} {
		if !c.asks {
			continue
		}
		a, err := timed(ctx, c.do)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.id, err)
		}
		out[c.id] = a
	}
	return out, nil
}

const (
	sampleTime = 10 * time.Millisecond // each of them
	samples    = 5
)

// timed runs do so often that it can be measured: CPU of the process, which does
// nothing else meanwhile, and so the collector's part as well.
func timed(ctx context.Context, do func(context.Context) error) (*Alone, error) {
	times := func(n int) (used spent, err error) {
		before, err := spentNow()
		for range n {
			if err == nil {
				err = do(ctx)
			}
		}
		if err != nil {
			return used, err
		}
		after, err := spentNow()
		return spent{after.cpu - before.cpu, after.pieces - before.pieces, after.bytes - before.bytes}, err
	}
	n := 64
	for {
		used, err := times(n)
		if err != nil {
			return nil, err
		}
		if used.cpu >= sampleTime/4 || n >= 1<<20 {
			n = max(64, int(float64(n)*float64(sampleTime)/float64(max(used.cpu, 1))))
			break
		}
		n *= 4
	}
	var cpu, pieces, size []float64
	for range samples {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		used, err := times(n)
		if err != nil {
			return nil, err
		}
		each := float64(n)
		cpu = append(cpu, float64(used.cpu.Nanoseconds())/1e3/each)
		pieces, size = append(pieces, float64(used.pieces)/each), append(size, float64(used.bytes)/each)
	}
	return &Alone{CPU: figure(cpu), Allocations: round(median(pieces), 1), Bytes: round(median(size), 0)}, nil
}

package gateway

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/authz"
	"github.com/gatehouse-api/gatehouse/internal/ratelimit"
)

// A Limit is a limit of a route, and what it asks about each request. The zero
// Limit refuses.
type Limit struct {
	*ratelimit.Limit // of callers without a tier

	Only  *authz.Expr // the requests it is for; nil: all. One that fails is for this request, too.
	Key   *authz.Expr // a text it counts by, as custom; nil: none
	Price *authz.Expr // tokens a request costs; nil: what the limit says. A request of which it fails is refused.
	By    *authz.Expr // names the caller's tier; nil: there are none
	Tiers []Tier
	Place string // where it was written

	plain   bool // asks nothing, is enforced and told: set by SetLimits, as is
	located bool // whether it counts by where the address is
}

// A Tier is the share of some callers.
type Tier struct {
	Name  string
	Limit *ratelimit.Limit
}

// A stage is the moment at which a limit can be taken.
type stage uint8

const (
	early  stage = iota // before the request is matched
	before              // before its caller is known
	after               // once the caller is
	late                // once the parameters are
)

func (l *Limit) exprs() []*authz.Expr {
	return slices.DeleteFunc([]*authz.Expr{l.Only, l.Key, l.Price, l.By}, func(e *authz.Expr) bool { return e == nil })
}

func (l *Limit) stage() stage {
	at := early
	if l.Limit == nil {
		return at
	}
	if l.Counts("operation") {
		at = before
	}
	if l.NeedsPrincipal() {
		at = after
	}
	for _, e := range l.exprs() {
		if e.NeedsCaller() {
			at = max(at, after)
		}
		if e.Phase() > authz.Caller {
			at = late
		}
	}
	return at
}

// width is 0 for a limit of one caller's own, and 1 for one that callers share.
func (l *Limit) width() int {
	if l.Counts("address") || l.Counts("principal") || l.Counts("key") {
		return 0
	}
	return 1
}

// Early reports whether the limit can be taken before the request is matched: by
// where it comes from, whatever it asks for.
func (l *Limit) Early() bool { return l.stage() == early }

// NeedsCaller reports whether the limit is taken after authentication.
func (l *Limit) NeedsCaller() bool { return l.stage() >= after }

// NeedsParams reports whether it is taken after the parameters have been read.
func (l *Limit) NeedsParams() bool { return l.stage() == late }

// A Telling is how callers learn about limits.
type Telling uint8

// The ways to tell. The zero Telling is the draft's two fields.
const (
	TellFields Telling = iota // RateLimit and RateLimit-Policy
	TellBoth                  // and X-RateLimit-Limit, -Remaining and -Reset, of the limit nearest to its end
	TellNobody                // nothing but Retry-After
)

// A limiting is limits compiled for their place.
type limiting struct {
	at     [late + 1][]Limit
	policy []string // the RateLimit-Policy field of all that callers are told of
	varies bool     // which these are depends on the request
}

// newLimiting sorts limits, none of them before the stage from; whole has those
// taken already.
func newLimiting(whole limiting, from stage, limits []Limit) limiting {
	out := limiting{at: [...][]Limit{early: whole.at[early], late: nil}, varies: whole.varies}
	var policy []byte
	for _, l := range limits {
		if l.Limit == nil {
			l.Limit = new(ratelimit.Limit) // refuses
		}
		told := !l.Shadow() && !l.Failures()
		varies := l.Only != nil || l.By != nil
		l.located = l.NeedsNetwork()
		l.plain = told && !varies && !l.located && l.Key == nil && l.Price == nil
		out.varies = out.varies || told && varies
		at := max(from, l.stage())
		out.at[at] = append(out.at[at], l)
	}
	for at := range out.at {
		slices.SortStableFunc(out.at[at], func(a, b Limit) int { return cmp.Compare(a.width(), b.width()) })
	}
	for _, l := range slices.Concat(out.at[:]...) {
		if !l.Shadow() && !l.Failures() {
			policy = ratelimit.AppendPolicy(policy, l.Limit)
		}
	}
	if len(policy) > 0 {
		out.policy = []string{string(policy)}
	}
	return out
}

// SetLimits gives the snapshot the limits of every request that comes, matched or
// not: those that are [Limit.Early]. It is called before routes get theirs.
func (s *Snapshot) SetLimits(limits []Limit, tell Telling) {
	s.limits, s.tell = newLimiting(limiting{}, early, limits), tell
}

// SetLimits gives the route its limits beside those of its snapshot. What needs
// no caller is taken before anything else costs.
func (r *Route) SetLimits(s *Snapshot, limits []Limit) {
	r.limits = newLimiting(s.limits, before, limits)
	for _, l := range limits { // the values of parameters nobody names are not made
		for _, e := range l.exprs() {
			for i, named := range e.Params() {
				if named && i < len(r.Params) {
					r.Params[i] = true
				}
			}
		}
	}
}

// Limits lists the route's limits in the order in which they are taken, the
// snapshot's among them.
func (r *Route) Limits() []Limit { return slices.Concat(r.limits.at[:]...) }

// took is a limit that was asked for a request, and by what.
type took struct {
	limit  *ratelimit.Limit
	custom string
	told   bool
}

// limit takes each limit of one stage, those of one caller before those that many
// share, until one refuses. Nothing more is taken then: who is over a limit of its
// own would use up with refused requests what is left for all the others.
func (g *Gateway) limit(x *exchange, limits []Limit) error {
	if len(limits) == 0 {
		return nil
	}
	key := x.key()
	now := g.Limiter.At(x.start)
	for i := range limits {
		l := &limits[i]
		limit, cost := l.Limit, l.Cost()
		if !l.plain {
			var asked bool
			if limit, cost, asked = l.ask(x, &key); !asked {
				continue
			}
			if cost == 0 && l.Price != nil {
				g.Limiter.Refused(limit)
				if !limit.Shadow() {
					return priceless(limit, l.Price)
				}
				x.reported = append(x.reported, gatehouse.FieldError{In: "request", Name: limit.Name(), Rule: "limit_cost", Detail: "the cost cannot be worked out: " + l.Price.String()})
				continue
			}
		}
		r := g.Limiter.Take(limit, key, cost, now)
		told := l.plain || l.tells(r)
		x.took = append(x.took, took{limit, key.Custom, told})
		if !r.OK {
			if g.Limiter.Refused(limit); limit.Shadow() {
				x.reported = append(x.reported, gatehouse.FieldError{In: "request", Name: limit.Name(), Rule: "rate_limited", Detail: "the limit is used up: " + limit.String()})
				continue
			}
			x.varied = x.varied || limit.Failures()
		}
		if told && x.snap.tell != TellNobody {
			x.limits = ratelimit.AppendResult(x.limits, r)
			if x.tight.Limit == nil || !r.OK || x.tight.OK && r.Remaining < x.tight.Remaining {
				x.tight = r
			}
		}
		if !r.OK {
			return ratelimit.Problem(r)
		}
	}
	return nil
}

// tells reports whether the caller reads of r: never of a shadow, and of failures
// when there are too many.
func (l *Limit) tells(r ratelimit.Result) bool {
	return !l.Shadow() && (!l.Failures() || !r.OK)
}

// key collects who is asking.
func (x *exchange) key() ratelimit.Key {
	var op *gatehouse.Operation
	if x.route != nil {
		op = x.route.Op.Op()
	}
	return ratelimit.KeyOf(x.facts.Address, x.who, op)
}

// locate adds where the address is.
func (x *exchange) locate(key *ratelimit.Key) {
	of := x.snap.Networks.Of(x.facts.Address)
	key.Network, key.ASN, key.Country = of.List, of.ASN, of.Country
}

// ask finds out what the limit asks about a request: whether it is for it, which
// share the caller has, by what it is counted and what it costs; 0 where nobody can
// tell.
func (l *Limit) ask(x *exchange, key *ratelimit.Key) (limit *ratelimit.Limit, cost int64, asked bool) {
	x.introduce()
	if l.Only != nil {
		if only, ok := l.Only.True(&x.facts); ok && !only {
			return nil, 0, false
		}
	}
	limit = l.Limit
	if l.By != nil {
		name, _ := l.By.Text(&x.facts)
		for i := range l.Tiers {
			if l.Tiers[i].Name == name {
				limit = l.Tiers[i].Limit
			}
		}
	}
	key.Custom = ""
	if l.Key != nil {
		key.Custom, _ = l.Key.Text(&x.facts)
	}
	if l.located {
		x.locate(key)
	}
	cost = limit.Cost()
	if l.Price != nil {
		n, ok := l.Price.Number(&x.facts)
		if !ok {
			return limit, 0, true
		}
		cost = min(max(n, 1), limit.Burst())
	}
	return limit, cost, true
}

// priceless refuses a request whose cost cannot be worked out, and charges nobody:
// whatever was taken for it, of a limit that many share one stranger could take all.
func priceless(limit *ratelimit.Limit, price *authz.Expr) *gatehouse.Problem {
	return &gatehouse.Problem{
		Kind: gatehouse.Malformed, Reason: "limit_cost", Detail: "What the request costs cannot be worked out from what is in it.",
		Err: fmt.Errorf("limit %s: the cost fails: %s", limit.Name(), price),
	}
}

// late takes the limits that name parameters. Nobody is asked when a snapshot is
// only tried.
func (x *exchange) late() error {
	if x.gate == nil {
		return nil
	}
	return x.gate.limit(x, x.route.limits.at[late])
}

// charge counts what a body turned out to cost against the limits that were
// taken: who sends what is costly to look through, or asks for much at once, may
// do so less often.
func (g *Gateway) charge(x *exchange) {
	var cost int64
	if step := x.route.Charge; step > 0 {
		cost = max(0, int64(x.found.Cost/step)-1)
	}
	if step := x.route.ChargeFields; step > 0 {
		cost += max(0, int64(x.body.Cost/step)-1)
	}
	if cost > 0 {
		g.chargeTaken(x, cost, false)
	}
}

// chargeFailure counts a request that failed where failures are counted: what
// guesses and looks for doors ends like this.
func (g *Gateway) chargeFailure(x *exchange) {
	switch x.event.Status {
	case 401, 403, 404:
		g.chargeTaken(x, 0, true)
	}
}

func (g *Gateway) chargeTaken(x *exchange, cost int64, failures bool) {
	key, located := x.key(), false
	now := g.Limiter.Now()
	for _, t := range x.took {
		if t.limit.Failures() != failures {
			continue
		}
		if !located && t.limit.NeedsNetwork() {
			x.locate(&key)
			located = true
		}
		n := cost
		if failures {
			n = t.limit.Cost()
		}
		key.Custom = t.custom
		g.Limiter.Charge(t.limit, key, n, now)
	}
}

// policies is the RateLimit-Policy field of the limits told.
func (x *exchange) policies() []string {
	in := &x.snap.limits
	if x.route != nil {
		in = &x.route.limits
	}
	if !in.varies && !x.varied {
		return in.policy
	}
	var policy []byte
	for _, t := range x.took {
		if t.told {
			policy = ratelimit.AppendPolicy(policy, t.limit)
		}
	}
	return []string{string(policy)}
}

// names of the fields that many clients read and no standard has.
const (
	legacyLimit     = "X-Ratelimit-Limit"
	legacyRemaining = "X-Ratelimit-Remaining"
	legacyReset     = "X-Ratelimit-Reset"
)

// legacy gives the limit nearest to its end in the fields of old; what they count
// in is not agreed, here it is requests and seconds from now.
func (x *exchange) legacy() (limit, remaining, reset string) {
	q, r, t := ratelimit.Told(x.tight)
	return strconv.FormatInt(q, 10), strconv.FormatInt(r, 10), strconv.FormatInt(t, 10)
}

// tellLimits puts the limits taken into the answer's fields.
func (x *exchange) tellLimits() {
	if len(x.limits) == 0 {
		return
	}
	h := x.w.Header()
	h["Ratelimit-Policy"] = x.policies()
	h["Ratelimit"] = []string{string(x.limits)}
	if x.snap.tell == TellBoth {
		limit, remaining, reset := x.legacy()
		h[legacyLimit], h[legacyRemaining], h[legacyReset] = []string{limit}, []string{remaining}, []string{reset}
	}
}

package gateway

import (
	"errors"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/authz"
	"github.com/gatehouse-api/gatehouse/internal/cache"
	"github.com/gatehouse-api/gatehouse/internal/ddos"
	"github.com/gatehouse-api/gatehouse/internal/http1"
	"github.com/gatehouse-api/gatehouse/internal/networks"
	"github.com/gatehouse-api/gatehouse/internal/ratelimit"
	"github.com/gatehouse-api/gatehouse/internal/validate"
)

// A Recorder keeps events. What it accepted must survive the process.
type Recorder interface {
	Append(*gatehouse.Event) error // an error: the event is not recorded
	Err() error                    // why it cannot record now; nil when it can
}

// A Meter counts events.
type Meter interface {
	Observe(*gatehouse.Event)
	Begin()                   // a request came in; Observe ends it
	Refused(*gatehouse.Event) // one that never began
}

// Deps is what a Gateway works with for as long as it lives.
type Deps struct {
	Record  Recorder
	Meter   Meter
	Limiter *ratelimit.Limiter
	Guard   *ddos.Guard            // nil: nobody is kept out for what others of its address did
	NewID   func(time.Time) string // decision ids
	Node    string                 // name of this gateway, in events
	MaxHeld int64                  // bytes of bodies held at once to be checked; 0: 256 MiB. One address may have a fourth of it.
}

// A Gateway is the policy enforcement point. Without a snapshot it refuses
// every request.
type Gateway struct {
	Deps

	snapshot atomic.Pointer[Snapshot]
	pool     sync.Pool
	held     ledger
	cache    *cache.Cache
}

// New makes a Gateway that refuses everything until the first [Gateway.Swap].
// Every part of d is required: a gateway that cannot record must not run.
func New(d Deps) (*Gateway, error) {
	if d.Record == nil || d.Meter == nil || d.Limiter == nil || d.NewID == nil {
		return nil, errors.New("gateway: record, meter, limiter and ids are required")
	}
	g := &Gateway{Deps: d, cache: cache.New(0)}
	g.pool.New = func() any {
		x := new(exchange)
		x.check, x.watch = x.checkAnswer, x.watchAnswer
		return x
	}
	return g, nil
}

// Swap puts s to work for requests that come from now on and returns the
// snapshot they no longer use, which is nil the first time. Answers that were kept
// and checked under another config are forgotten.
func (g *Gateway) Swap(s *Snapshot) *Snapshot {
	g.introduce(s)
	old := g.snapshot.Swap(s)
	if s != nil {
		g.cache.Resize(s.CacheMemory)
	}
	if old == nil || s == nil || old.Digest != s.Digest {
		g.cache.Clear()
	}
	return old
}

// CacheFigures tells how full the cache is.
func (g *Gateway) CacheFigures() cache.Figures { return g.cache.Figures() }

// Current returns the snapshot at work, or nil.
func (g *Gateway) Current() *Snapshot { return g.snapshot.Load() }

// A Snapshot is everything a config says about requests, compiled. It is
// read-only and owns no goroutine.
type Snapshot struct {
	Digest string // of the config and the documents it names
	Router *validate.Router
	Routes []*Route // by the router's route numbers
	Authn  *authn.Authenticator

	Networks *networks.Set    // what is known about addresses
	Edges    map[string]*Edge // the CDNs in front of listeners, by the name in [Gateway.OnEdge]

	CacheMemory int64 // bytes of answers kept

	limits limiting // of all requests: see SetLimits
	tell   Telling
	held   []Held
}

// A Route is the gateway's way from one operation to its service.
type Route struct {
	Op        *validate.Operation
	Policy    *authz.Policy
	Accept    *authn.Accept
	Upstreams *Upstreams    // nil where there is a Service, and in a snapshot made to be asked
	Service   http.Handler  // in this process, instead of Upstreams: see docs/decisions/0005
	Raw       bool          // the service judges parameters and body itself; and credentials, where Accept has no way
	Audience  string        // of the internal token
	Strip     int           // bytes of the path that are ours, not the service's
	Prefix    string        // put in their place
	Timeout   time.Duration // until the answer's head; 0: the upstreams' own
	Upgrade   bool          // WebSocket is permitted
	Fields    []string      // members of the body the rules name; nil: all
	Params    []bool        // the parameters the rules name; nil: all
	Priority  ddos.Priority // where there is not room for all
	Charge    time.Duration // work of the WAF that counts as one request more; 0: none does

	ChargeFields int // fields of a GraphQL request that do; 0: none do

	Cache   *Caching // nil: no answer is kept
	Forgets bool     // what it changes may be kept, as the answer to GET of the same path

	limits  limiting
	guarded *ddos.Service // its API; nil: there is no guard
}

// An Entry is one listener's way into the gateway.
type Entry struct {
	g     *Gateway
	trust *Trust
	edge  string // "": there is none in front
}

// On makes the handler of a listener whose trusted hops are trust; nil trusts
// nobody.
func (g *Gateway) On(trust *Trust) *Entry { return &Entry{g: g, trust: trust} }

// ServeHTTP takes one request through the gateway.
func (e *Entry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := e.g.open(w, r, e)
	e.g.close(x, e.g.guarded(r.Context(), x))
}

// exchange is one request on its way through the gateway, and the record of it.
// It is pooled, with its flight and its Outbound: after close nothing of it may be
// kept by anybody, neither the slices in it nor pointers into it. Strings may, they
// are never written again. What has to live longer, because a goroutine that
// outlives the request might look at it, is made for each request: a [counted]
// body, what a service inside gets. Under the race detector no exchange is used
// twice, and one that is over holds nonsense: see poison.
type exchange struct {
	w      http.ResponseWriter
	r      *http.Request
	snap   *Snapshot
	route  *Route
	who    *gatehouse.Principal
	event  gatehouse.Event
	facts  authz.Input
	proto  string    // "https" or "http", as the caller speaks it
	direct error     // it did not come from the edge in front
	match  [8]string // path parameters, while they are few
	params []string
	vals   []any
	head   validate.Head
	body   validate.Body
	found  validate.Inspection
	read   *counted         // nil: no body was looked at
	limits []byte           // the RateLimit field so far
	took   []took           // the limits asked so far
	tight  ratelimit.Result // the one told that is nearest to its end
	varied bool             // which limits are told is not what the route says
	hold   hold             // what the body, once it comes, is counted by
	out    Outbound
	flight flight // of out
	result Result
	answer heldAnswer // of a service inside
	start  time.Time
	gate   *Gateway // nil: a snapshot is only tried

	reported []gatehouse.FieldError // by limits, for the record

	fill      fill            // of a cached operation
	narrow    [12]http1.Field // room for out.Narrow
	cached    []byte          // room for the key of what is kept
	everybody []byte          // and for that of what is everybody's
	status    []byte          // and for the fields that tell of it

	verdict   ddos.Verdict // of the guard
	claims    bool         // the verdict is one that makes it matter, and there are credentials
	challenge string       // that goes out with a refusal

	check, watch answerCheck    // checkAnswer and watchAnswer, made once
	seen         []byte         // room for what watch gets
	text         []byte         // room for what becomes out's strings
	own          [6]http1.Field // room for flight.own
}

// Try asks a snapshot what it would do with r from who, without limits,
// authentication and service: for `gatehouse test` and for the tests a config
// brings with itself. It returns nil when the request would be forwarded.
func (s *Snapshot) Try(r *http.Request, who *gatehouse.Principal, address netip.Addr) (*Route, error) {
	x := &exchange{r: r, snap: s, who: who, start: time.Now()}
	x.event.Address = address.String()
	x.facts.Address = address
	if err := x.matchRoute(); err != nil {
		return nil, err
	}
	return x.route, x.decide()
}

// A Held is what a snapshot took from [Pools], and for which API.
type Held struct {
	*Upstreams

	API string
}

// Hold makes u the snapshot's until it is given back: see [Snapshot.Held].
func (s *Snapshot) Hold(api string, u *Upstreams) { s.held = append(s.held, Held{u, api}) }

// Held lists what must be released when the snapshot is no longer used.
func (s *Snapshot) Held() []Held { return s.held }

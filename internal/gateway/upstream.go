package gateway

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/ddos"
	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// A TokenMode says what a service gets in place of the caller's credential.
type TokenMode string

// The token modes. The zero TokenMode is TokenInternal.
const (
	TokenInternal TokenMode = "internal" // a fresh short JWT of ours (RFC 9068); the caller's credential is removed
	TokenNone     TokenMode = "none"     // nothing; the caller's credential is removed
	TokenPass     TokenMode = "pass"     // the caller's own, which the service could then use elsewhere
)

// UpstreamConfig describes one API's services. Every duration and count that is
// 0 gets the default given here. Two equal configs share one [Upstreams].
type UpstreamConfig struct {
	URLs []string // http, https (HTTP/1.1; gRPC goes by HTTP/2), h2c or h2; a path is put before every request's

	Connect     time.Duration // until a connection is made, TLS included; 2 s
	Timeout     time.Duration // until the answer's head has come; 30 s
	BodyIdle    time.Duration // silence within a body or an upgraded connection; 60 s
	Idle        time.Duration // an unused connection is kept; 90 s
	MaxIdle     int           // unused connections kept to one service; 128
	MaxInFlight int           // requests at once to one service, answers under way included; 1000
	MinLimit    int           // what is let to it at once, until its answers' heads, is never below; see ddos.CapacityConfig
	MaxLimit    int           // nor above
	FirstLimit  int           // and begins at
	Critical    bool          // some operations are: a fifth is kept for them
	MaxQueue    int           // requests waiting for room; as many as MaxInFlight, -1: none
	QueueWait   time.Duration // for how long; 1 s
	Retries     int           // of requests that are safe to repeat; 0
	Failures    int           // in a row until a service is left alone; 5
	Open        time.Duration // until one request may try it again; 10 s

	Health *HealthCheck // nil: services are judged by their answers only

	OriginalHost bool // send the caller's Host instead of the URL's

	CAFile     string // PEM; the system's roots when empty
	CertFile   string // PEM; the certificate shown to the services
	KeyFile    string // PEM; its key
	ServerName string // the services' certificates must carry it; the URL's host when empty

	Token       TokenMode
	Credentials []string // header fields in which callers bring API keys: removed unless Token is pass
}

// A HealthCheck asks a service by GET whether it is well: 2xx is.
type HealthCheck struct {
	Path      string
	Interval  time.Duration // 5 s
	Timeout   time.Duration // of one check; 1 s
	Healthy   int           // good answers in a row until it is used again; 1
	Unhealthy int           // bad answers in a row until it is left out; 3
}

// A Minter makes the internal token a service gets instead of the caller's
// credential: a short-lived JWT for audience that speaks of who. It is called
// for every request and may hand out the same token until it gets old.
type Minter interface {
	Mint(who *gatehouse.Principal, audience string) (string, error)
}

// Upstreams carries requests to one API's services and their answers back. It
// outlives reloads that leave its config as it was: see [Pools].
type Upstreams struct {
	cfg       UpstreamConfig
	minter    Minter
	known     *ddos.Known
	endpoints []*endpoint
	budget    retryBudget
	removed   map[string]bool // request fields that hold credentials

	stop    context.CancelFunc
	workers sync.WaitGroup

	pools *Pools // who counts the users
	key   string
	users int // guarded by pools.mu
}

// endpoint is one service.
type endpoint struct {
	name    string // scheme://host, for events and metrics
	host    string // authority for the Host field
	base    string // path prefix, without a slash at its end
	h2      bool   // HTTP/2 only
	pool    *http1.Pool
	over2   *http.Transport
	room    *ddos.Capacity
	breaker breaker
	unwell  atomic.Bool // by active checks
}

// newUpstreams checks cfg, reads its files and starts the health checks. close
// ends them. minter may be nil unless cfg wants internal tokens.
func newUpstreams(cfg UpstreamConfig, minter Minter, known *ddos.Known) (*Upstreams, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(minter); err != nil {
		return nil, err
	}
	tc, err := cfg.tls()
	if err != nil {
		return nil, err
	}
	u := &Upstreams{cfg: cfg, minter: minter, known: known, removed: map[string]bool{}}
	u.budget.coins.Store(retryFull)
	if cfg.Token != TokenPass {
		for _, name := range append([]string{"Authorization", "Cookie", "Dpop"}, cfg.Credentials...) {
			u.removed[http.CanonicalHeaderKey(name)] = true
		}
	}
	for _, raw := range cfg.URLs {
		e, err := u.newEndpoint(raw, tc)
		if err != nil {
			return nil, err
		}
		u.endpoints = append(u.endpoints, e)
	}
	ctx, stop := context.WithCancel(context.Background())
	u.stop = stop
	for _, e := range u.endpoints {
		u.workers.Go(func() { u.tend(ctx, e) })
	}
	return u, nil
}

// close ends the health checks and closes idle connections. Requests under way
// are finished.
func (u *Upstreams) close() {
	u.stop()
	u.workers.Wait()
	for _, e := range u.endpoints {
		e.pool.Close()
		e.over2.CloseIdleConnections()
	}
}

func (c UpstreamConfig) withDefaults() UpstreamConfig {
	duration := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	count := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	duration(&c.Connect, 2*time.Second)
	duration(&c.Timeout, 30*time.Second)
	duration(&c.BodyIdle, time.Minute)
	duration(&c.Idle, 90*time.Second)
	duration(&c.QueueWait, time.Second)
	duration(&c.Open, 10*time.Second)
	count(&c.MaxIdle, 128)
	count(&c.MaxInFlight, 1000)
	count(&c.MaxQueue, c.MaxInFlight)
	count(&c.Failures, 5)
	if c.Token == "" {
		c.Token = TokenInternal
	}
	if c.Health != nil {
		h := *c.Health
		duration(&h.Interval, 5*time.Second)
		duration(&h.Timeout, time.Second)
		count(&h.Healthy, 1)
		count(&h.Unhealthy, 3)
		c.Health = &h
	}
	return c
}

func (c *UpstreamConfig) check(minter Minter) error {
	switch {
	case len(c.URLs) == 0:
		return errors.New("an API needs at least one upstream")
	case min(c.Connect, c.Timeout, c.BodyIdle, c.Idle, c.QueueWait, c.Open) < 0 ||
		min(c.MaxIdle, c.MaxInFlight, c.MinLimit, c.MaxLimit, c.FirstLimit, c.Retries, c.Failures) < 0:
		return errors.New("upstream: a duration or count is negative")
	case c.Token != TokenInternal && c.Token != TokenNone && c.Token != TokenPass:
		return fmt.Errorf("upstream: token %q is none of internal, none, pass", c.Token)
	case c.Token == TokenInternal && minter == nil:
		return errors.New("upstream: token internal needs a signing key; configure one or write token: none")
	case (c.CertFile == "") != (c.KeyFile == ""):
		return errors.New("upstream: certificate and key go together")
	case c.Health != nil && (!strings.HasPrefix(c.Health.Path, "/") || !http1.ValidField("x", c.Health.Path) || strings.Contains(c.Health.Path, " ")):
		return fmt.Errorf("upstream: health path %q does not begin with / or holds blanks", c.Health.Path)
	case c.Health != nil && (min(c.Health.Interval, c.Health.Timeout) < 0 || min(c.Health.Healthy, c.Health.Unhealthy) < 0):
		return errors.New("upstream: a duration or count of the health check is negative")
	}
	return nil
}

func (c *UpstreamConfig) tls() (*tls.Config, error) {
	tc := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName, ClientSessionCache: tls.NewLRUClientSessionCache(0)}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("upstream: ca: %w", err)
		}
		tc.RootCAs = x509.NewCertPool()
		if !tc.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("upstream: ca: %s holds no PEM certificate", c.CAFile)
		}
	}
	if c.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("upstream: certificate: %w", err)
		}
		tc.Certificates = []tls.Certificate{cert}
	}
	return tc, nil
}

func (u *Upstreams) newEndpoint(raw string, tc *tls.Config) (*endpoint, error) {
	at, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("upstream %q: %w", raw, err)
	}
	base := strings.TrimSuffix(at.EscapedPath(), "/")
	switch {
	case at.Scheme != "http" && at.Scheme != "https" && at.Scheme != "h2c" && at.Scheme != "h2":
		return nil, fmt.Errorf("upstream %q: the scheme is none of http, https, h2c, h2", raw)
	case at.Hostname() == "" || at.User != nil || at.RawQuery != "" || at.Fragment != "" || at.Opaque != "":
		return nil, fmt.Errorf("upstream %q: write scheme://host[:port][/path] and nothing more", raw)
	case !http1.ValidField("x", base) || !http1.ValidField("x", at.Host):
		return nil, fmt.Errorf("upstream %q: control byte", raw)
	}
	secure := at.Scheme == "https" || at.Scheme == "h2"
	port := at.Port()
	if port == "" {
		port = "80"
		if secure {
			port = "443"
		}
	}
	address := net.JoinHostPort(at.Hostname(), port)
	c := &u.cfg
	dialer := &net.Dialer{KeepAlive: 30 * time.Second}
	dial := func(ctx context.Context, h2 bool) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, c.Connect)
		defer cancel()
		nc, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil || !secure {
			return nc, err
		}
		own := tc.Clone()
		if own.ServerName == "" {
			own.ServerName = at.Hostname()
		}
		own.NextProtos = []string{"http/1.1"}
		if h2 {
			own.NextProtos = []string{"h2"}
		}
		t := tls.Client(nc, own)
		if err := t.HandshakeContext(ctx); err != nil {
			_ = nc.Close()
			return nil, err
		}
		if h2 && t.ConnectionState().NegotiatedProtocol != "h2" {
			_ = nc.Close()
			return nil, errors.New("the service does not speak HTTP/2")
		}
		return t, nil
	}
	room, err := ddos.NewCapacity(ddos.CapacityConfig{
		Ceiling: c.MaxInFlight, Min: c.MinLimit, Max: c.MaxLimit, Initial: c.FirstLimit,
		Line: max(c.MaxQueue, 0), Wait: c.QueueWait, Reserve: c.Critical, Known: u.known,
	})
	if err != nil {
		return nil, fmt.Errorf("upstream %q: %w", raw, err)
	}
	e := &endpoint{
		room: room,
		name: at.Scheme + "://" + at.Host,
		host: at.Host,
		base: base,
		h2:   at.Scheme == "h2" || at.Scheme == "h2c",
		pool: http1.NewPool(http1.PoolConfig{
			Dial:    func(ctx context.Context) (net.Conn, error) { return dial(ctx, false) },
			MaxIdle: c.MaxIdle, IdleTimeout: c.Idle, HeadTimeout: c.Timeout, BodyTimeout: c.BodyIdle,
		}),
		breaker: breaker{limit: int32(min(c.Failures, 1<<20)), pause: c.Open},
	}
	e.over2 = newTransport2(c, secure, func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, true) })
	return e, nil
}

// choose picks of two services drawn at random the one with less to do: nearly
// as good as the best of all, without everybody running to the same one
// (Mitzenmacher, The Power of Two Choices, 2001). Those that failed, tried, are
// left out.
func (u *Upstreams) choose(tried *endpoint) *endpoint {
	if len(u.endpoints) == 1 {
		if e := u.endpoints[0]; !e.unwell.Load() && e.breaker.enter() {
			return e
		}
		return nil
	}
	var best *endpoint
	seen, start := 0, int(rand.Uint32()%uint32(len(u.endpoints)))
	step := 1 + int(rand.Uint32()%uint32(len(u.endpoints)-1)) // a second place that is not the first
	for i := range 2 * len(u.endpoints) {
		at := start + i
		if i == 1 {
			at = start + step
		}
		e := u.endpoints[at%len(u.endpoints)]
		if e == best || e == tried || e.unwell.Load() || !e.breaker.usable() {
			continue
		}
		if best == nil || e.room.InFlight() < best.room.InFlight() {
			best = e
		}
		if seen++; seen == 2 {
			break
		}
	}
	if best != nil && best.breaker.enter() {
		return best
	}
	if best == nil && tried != nil && !tried.unwell.Load() && tried.breaker.enter() {
		return tried
	}
	for _, e := range u.endpoints { // we lost the race for a probe
		if e != tried && !e.unwell.Load() && e.breaker.enter() {
			return e
		}
	}
	return nil
}

// unavailable is the answer when no service may be asked.
func (u *Upstreams) unavailable() *gatehouse.Problem {
	wait := u.cfg.Open
	for _, e := range u.endpoints {
		if w := e.breaker.wait(); w < wait && !e.unwell.Load() {
			wait = w
		}
	}
	return &gatehouse.Problem{
		Kind: gatehouse.Overloaded, Reason: "upstream_unavailable", Detail: "The service is not available at the moment.",
		RetryAfter: max(wait, time.Second), Err: errors.New("every upstream is unhealthy or its breaker is open"),
	}
}

// UpstreamStatus is how one service looks from here.
type UpstreamStatus struct {
	Name    string // scheme://host
	Healthy bool   // by the active checks
	Open    bool   // its breaker
	Idle    int    // HTTP/1.1 connections without work

	ddos.CapacityStatus
}

// Status tells how the services are, for health and metrics.
func (u *Upstreams) Status() []UpstreamStatus {
	out := make([]UpstreamStatus, 0, len(u.endpoints))
	for _, e := range u.endpoints {
		out = append(out, UpstreamStatus{
			Name: e.name, Healthy: !e.unwell.Load(), Open: e.breaker.openUntil.Load() != 0,
			Idle: e.pool.Idle(), CapacityStatus: e.room.Status(),
		})
	}
	return out
}

// Pools shares Upstreams between the snapshots of a config, so that a reload
// that leaves an API's services alone leaves its connections, breakers and health
// checks alone too, and a thousand reloads leave nothing behind.
type Pools struct {
	minter Minter
	known  *ddos.Known
	mu     sync.Mutex
	byKey  map[string]*Upstreams
}

// NewPools makes an empty Pools whose Upstreams mint by minter, which may be nil
// when no config wants internal tokens.
func NewPools(minter Minter) *Pools {
	return &Pools{minter: minter, known: ddos.NewKnown(), byKey: map[string]*Upstreams{}}
}

// Acquire gives the Upstreams for cfg, making them if nobody uses such a one. The
// contents of its files count as part of cfg: new certificates make a new one.
// Release gives them back.
func (p *Pools) Acquire(cfg UpstreamConfig) (*Upstreams, error) {
	key, err := cfg.key()
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.byKey[key]
	if u == nil {
		if u, err = newUpstreams(cfg, p.minter, p.known); err != nil {
			return nil, err
		}
		u.pools, u.key = p, key
		p.byKey[key] = u
	}
	u.users++
	return u, nil
}

// Pressure is that of the service that is shortest of room, 0 to 1.
func (u *Upstreams) Pressure() (most float64) {
	for _, e := range u.endpoints {
		st := e.room.Status()
		most = max(most, st.Pressure())
	}
	return most
}

// Release gives back what [Pools.Acquire] gave. The last user's release closes
// it; requests under way are finished.
func (u *Upstreams) Release() {
	u.pools.mu.Lock()
	u.users--
	last := u.users == 0
	if last {
		delete(u.pools.byKey, u.key)
	}
	u.pools.mu.Unlock()
	if last {
		u.close()
	}
}

func (c *UpstreamConfig) key() (string, error) {
	h := sha256.New()
	if err := json.NewEncoder(h).Encode(c.withDefaults()); err != nil {
		return "", fmt.Errorf("upstream: %w", err)
	}
	for _, name := range []string{c.CAFile, c.CertFile, c.KeyFile} {
		if name == "" {
			continue
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return "", fmt.Errorf("upstream: %w", err)
		}
		sum := sha256.Sum256(content)
		h.Write(sum[:])
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

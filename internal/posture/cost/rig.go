package cost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/authz"
	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
	"github.com/gatehouse-api/gatehouse/internal/http1"
	"github.com/gatehouse-api/gatehouse/internal/monitor"
	"github.com/gatehouse-api/gatehouse/internal/plan"
	"github.com/gatehouse-api/gatehouse/internal/ratelimit"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// A rig is gateways of one config side by side, each with one check less than the
// one before it. They share what a gateway's reloads share: pools, record, limits.
type rig struct {
	dir     string // goes away
	path    string // of the config
	api     string // that is measured
	sample  bool
	service string // host:port

	tested  *plan.Plan // as it is written, for its tests; nil for the sample
	whole   *plan.Plan
	signer  *token.Signer
	authn   *authn.Authenticator
	accept  []*authn.Accept // by route
	keys    *authn.Keys     // nil unless an operation wants one
	pools   *gateway.Pools
	mint    *token.Minter
	limiter *ratelimit.Limiter
	record  *auditlog.Log
	meter   *monitor.Monitor
	behind  *gateway.Upstreams
	full    *gateway.Snapshot
	gates   []string // address of each gateway: everything on, then by checks
	close   []func() error
}

// A check is one that is left out, and everything that was left out before it.
type check struct {
	id, name string
	practice []int
}

// checks are in the order in which they are left out: what looks at another's work
// goes before it.
var checks = []check{
	{"content", "rules for content", []int{8}},
	{"access", "access: grants, ownership, rules", []int{2}},
	{"authentication", "caller and the service's own token", []int{1, 12}},
	{"limits", "limits", []int{9}},
	{"record", "event on its way to the disk", []int{7}},
	{"metrics", "metrics", []int{10}},
	{"schema", "OpenAPI: parameters and body", []int{8}}, // the last, see line.gates
}

// rest is what is left when nothing is checked: it is a proxy, and no gateway.
var rest = check{"proxy", "HTTP, route, to the service and back", []int{5}}

// nothing records and counts nothing.
type nothing struct{}

func (nothing) Append(*gatehouse.Event) error { return nil }
func (nothing) Err() error                    { return nil }
func (nothing) Observe(*gatehouse.Event)      {}
func (nothing) Begin()                        {}
func (nothing) Refused(*gatehouse.Event)      {}

// newRig builds them. What it opened is in close, also where it fails.
func newRig(ctx context.Context, g *rig) (err error) {
	if g.signer, err = token.NewSigner(token.ES256); err != nil {
		return err
	}
	if g.whole, err = plan.Edited(g.path, nil, g.edit(false)); err != nil {
		return err
	}
	f := g.whole.File
	if g.record, err = auditlog.Open(auditlog.Config{Dir: filepath.Join(g.dir, "events"), RotateBytes: 16 << 20, Keep: 2, Sync: f.Events.Sync}); err != nil {
		return err
	}
	g.close = append(g.close, g.record.Close)
	if g.mint, err = token.NewMinter(token.MinterConfig{Issuer: "gatehouse"}, g.signer); err != nil {
		return err
	}
	g.pools = gateway.NewPools(g.mint)
	if g.limiter, err = ratelimit.New(ratelimit.Config{}); err != nil {
		return err
	}
	g.meter = monitor.New(monitor.Sources{})
	g.meter.Configure(g.whole.Digest, g.whole.Operations())
	if err := g.wireAuthn(ctx); err != nil {
		return err
	}
	without, err := plan.Edited(g.path, g.whole, g.edit(true)) // rules for content
	if err != nil {
		return err
	}
	rules, err := authz.New(authz.Config{})
	if err != nil {
		return err
	}
	anybody, err := g.authn.Accept(authn.Ways{Anonymous: true})
	if err != nil {
		return err
	}
	for left := range len(checks) + 1 {
		p := []*plan.Plan{g.whole, without}[min(left, 1)]
		s := &gateway.Snapshot{Digest: p.Digest, Router: p.Snapshot.Router, Authn: g.authn}
		for n, route := range p.Snapshot.Routes {
			r := *route
			r.Accept, r.Upstreams = g.accept[n], g.behind
			if left >= 2 {
				op := *r.Op.Op()
				op.Security = nil
				if r.Policy, err = rules.Compile(&op, authz.Access{Public: true}); err != nil {
					return err
				}
				r.Fields = nil
			}
			if left >= 3 {
				r.Accept = anybody
			}
			if left >= 4 {
				r.SetLimits(new(gateway.Snapshot), nil)
			}
			r.Raw = r.Raw || left >= 7
			s.Routes = append(s.Routes, &r)
		}
		if left == 0 {
			g.full = s
		}
		d := gateway.Deps{Record: g.record, Meter: g.meter, Limiter: g.limiter, NewID: auditlog.NewID, Node: "bench"}
		if left >= 5 {
			d.Record = nothing{}
		}
		if left >= 6 {
			d.Meter = nothing{}
		}
		if err := g.serve(ctx, d, s); err != nil {
			return err
		}
	}
	return nil
}

// serve lets a gateway listen.
func (g *rig) serve(ctx context.Context, d gateway.Deps, s *gateway.Snapshot) error {
	gate, err := gateway.New(d)
	if err != nil {
		return err
	}
	gate.Swap(s)
	trust, err := gateway.NewTrust(nil, "x-forwarded-for")
	if err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	front := http1.NewServer(http1.Config{
		MaxConnsPerAddress: maxConnections + 1, IdleTimeout: time.Hour, OnRefuse: gate.Refused, Log: slog.New(slog.DiscardHandler),
	}, gate.On(trust))
	done := make(chan error, 1)
	go func() { done <- front.Serve(l, nil) }()
	g.gates = append(g.gates, l.Addr().String())
	g.close = append(g.close, func() error {
		err := front.Close()
		if end := <-done; !errors.Is(end, net.ErrClosed) && !errors.Is(end, http.ErrServerClosed) {
			err = errors.Join(err, end)
		}
		return err
	})
	return nil
}

// edit changes a config to what is measured: its services, issuers' keys and rates
// are ours, and without says that no rules for content are asked.
func (g *rig) edit(without bool) func(*config.File) {
	return func(f *config.File) {
		maps.DeleteFunc(f.APIs, func(name string, _ *config.API) bool { return name != g.api })
		f.Tests = nil
		api := f.APIs[g.api]
		if api == nil {
			return // said by who looks for the operation
		}
		u := &api.Upstream
		api.Upstreams, u.Health, u.CA, u.Certificate, u.Key = []config.Text{{Value: "http://" + g.service}}, nil, nil, nil, nil
		api.Responses = "off" // the answers are not the API's
		if !g.sample {
			unlimited(f.Limits)
			unlimited(api.Limits)
		}
		for _, op := range api.Operations {
			op.Responses = ""
			if !g.sample {
				unlimited(op.Limits)
			}
		}
		if without {
			f.WAF.Mode, f.WAF.Leaks, api.WAF = "off", "off", config.WAFHere{}
			for _, op := range api.Operations {
				op.WAF = config.WAFHere{}
			}
		}
	}
}

// unlimited lets the load through limits, which cost what they cost at any rate.
func unlimited(limits []config.Limit) {
	for i := range limits {
		limits[i].Rate, limits[i].Burst, limits[i].Quota, limits[i].Timezone = &config.Text{Value: "1000000/s"}, 1000000, nil, ""
		if t := limits[i].Tiers; t != nil {
			for k := range t.Each {
				t.Each[k].Rate.Value, t.Each[k].Burst = "1000000/s", 1000000
			}
		}
	}
}

// wireAuthn makes the authenticator of the config, with our keys for its issuers,
// and the pool to the service.
func (g *rig) wireAuthn(ctx context.Context) (err error) {
	f := g.whole.File
	cfg := authn.Config{Realm: f.Environment, KeyHeader: f.APIKeys.Header, Roles: slices.Sorted(maps.Keys(f.Roles)), Certificates: map[string]authn.Identity{}}
	for name, s := range f.ClientCertificates.Subjects {
		cfg.Certificates[name] = authn.Identity{Tenant: s.Tenant, Roles: config.Values(s.Roles), Scopes: config.Values(s.Scopes)}
	}
	for _, name := range slices.Sorted(maps.Keys(f.Issuers)) {
		i := f.Issuers[name]
		set, err := token.NewKeySet(token.KeySetConfig{Issuer: i.Issuer.Value, Static: g.signer.JWKS()}, nil)
		if err != nil {
			return err
		}
		is := authn.Issuer{Name: name, Keys: set, RolesClaim: i.Roles, TenantClaim: i.Tenant, Token: token.VerifierConfig{Issuer: i.Issuer.Value, Audiences: g.audiences(i)}}
		if len(i.RoleMap) > 0 {
			is.RoleMap = map[string][]string{}
			for theirs, ours := range i.RoleMap {
				is.RoleMap[theirs] = config.Values(ours)
			}
		}
		cfg.Issuers = append(cfg.Issuers, is)
	}
	if f.APIKeys.Enabled {
		if err := g.openKeys(ctx); err != nil {
			return err
		}
		cfg.Keys = g.keys
	}
	if g.authn, err = authn.New(cfg); err != nil {
		return err
	}
	var credentials []string
	for n := range g.whole.Snapshot.Routes {
		accept, err := g.authn.Accept(g.whole.Access(n).Ways)
		if err != nil {
			return fmt.Errorf("%s: %w", g.whole.Access(n).Place(), err)
		}
		g.accept = append(g.accept, accept)
		credentials = append(credentials, accept.CredentialHeaders()...)
	}
	u := f.APIs[g.api].Upstream
	slices.Sort(credentials)
	g.behind, err = g.pools.Acquire(gateway.UpstreamConfig{
		URLs: []string{"http://" + g.service}, Timeout: u.Timeout, MaxInFlight: max(u.MaxInFlight, maxConnections), Retries: u.Retries,
		OriginalHost: u.Host == "original", Token: gateway.TokenMode(u.Token), Credentials: slices.Compact(credentials),
	})
	if err == nil {
		g.close = append(g.close, func() error { g.behind.Release(); return nil })
	}
	return err
}

// audiences are what a token of i may be for.
func (g *rig) audiences(i *config.Issuer) []string {
	out := config.Values(i.Audience)
	for _, r := range g.whole.Resources() {
		if i.Own && r.Own {
			out = append(out, r.ID)
		}
	}
	if len(out) == 0 {
		out = []string{i.Issuer.Value}
	}
	return out
}

// openKeys opens a database of API keys in the folder that goes away.
func (g *rig) openKeys(ctx context.Context) error {
	changes, err := auditlog.OpenChanges(filepath.Join(g.dir, "changes"))
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, store.Config{Path: filepath.Join(g.dir, "keys.db")})
	if err != nil {
		return err
	}
	g.close = append(g.close, db.Close)
	if g.keys, err = authn.NewKeys(ctx, authn.KeysConfig{DB: db, Environment: g.whole.File.Environment, Log: changes}); err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		g.keys.Run(watching, func(error) {})
	}()
	g.close = append(g.close, func() error { stop(); <-ended; return nil })
	return nil
}

// end closes everything, the last first, and takes the folder away.
func (g *rig) end() error {
	var errs []error
	for _, c := range slices.Backward(g.close) {
		errs = append(errs, c())
	}
	return errors.Join(append(errs, os.RemoveAll(g.dir))...)
}

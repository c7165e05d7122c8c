package server

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
	"github.com/gatehouse-api/gatehouse/internal/plan"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// A wiring is what a snapshot works with that the one before may not have.
type wiring struct {
	snapshot  *gateway.Snapshot
	keysets   map[string]bool // in use, by what they are
	authority *authority      // nil: none
	services  map[string]http.Handler
}

// service is what answers an API of the house itself.
func (w *wiring) service(api string, p *plan.Plan) (http.Handler, error) {
	if h := w.services[api]; h != nil {
		return h, nil
	}
	h, err := w.authority.service(api, p)
	if err == nil {
		w.services[api] = h
	}
	return h, err
}

// wire makes a plan's snapshot ready to serve with what the house has. On error
// everything it took is given back.
func (h *House) wire(p *plan.Plan) (_ *wiring, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := p.Snapshot
	w := &wiring{snapshot: s, keysets: map[string]bool{}, services: map[string]http.Handler{}}
	defer func() {
		if err != nil {
			h.drop(w)
		}
	}()
	if w.authority, err = h.authorityFor(p); err != nil {
		return nil, err
	}
	if w.authority != nil && p.File.Admin.API.Base != "" {
		if w.services[plan.AdminAPI], err = h.adminAPI(p, w.authority); err != nil {
			return nil, err
		}
	}
	if s.Authn, err = h.authenticator(p, w); err != nil {
		return nil, err
	}
	services := map[string]*gateway.Upstreams{}
	var errs []error
	credentials := map[string][]string{} // header fields, by API
	for n, route := range s.Routes {
		a := p.Access(n)
		if route.Accept, err = s.Authn.Accept(a.Ways); err != nil {
			errs = append(errs, config.Errorf(a.Place(), "apis.%s: operation %s: %v", a.API, route.Op.Op().ID, err))
			continue
		}
		if a.House() {
			if route.Service == nil {
				if route.Service, err = w.service(a.API, p); err != nil {
					errs = append(errs, err)
				}
			}
			continue
		}
		credentials[a.API] = append(credentials[a.API], route.Accept.CredentialHeaders()...)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for n, route := range s.Routes {
		name := p.Access(n).API
		if route.Service != nil {
			continue
		}
		if services[name] == nil {
			u, err := h.pools.Acquire(upstreamConfig(p.File, p.File.APIs[name], credentials[name]))
			if err != nil {
				return nil, config.Errorf(p.File.APIs[name].Place, "apis.%s: %v", name, err)
			}
			services[name] = u
			s.Hold(name, u)
		}
		route.Upstreams = services[name]
	}
	return w, nil
}

// settle ends what only the wiring before w used.
func (h *House) settle(w *wiring) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, k := range h.keysets {
		if !w.keysets[id] {
			k.stop()
			delete(h.keysets, id)
		}
	}
	old := h.authority
	if old != nil && old != w.authority {
		old.stop()
	}
	h.authority = w.authority
	switch {
	case w.authority == nil && old != nil:
		h.keys.Follow(h.ctx, nil) // without users nobody may act as one
	case w.authority != nil && old == nil:
		h.keys.Follow(h.ctx, w.authority.owners)
	}
}

// drop gives back what a wiring took that will not serve.
func (h *House) drop(w *wiring) {
	release(w.snapshot)
	if w.authority != nil && w.authority != h.authority {
		w.authority.stop()
	}
}

// release gives back what wire took.
func release(s *gateway.Snapshot) {
	for _, u := range s.Held() {
		u.Release()
	}
}

func (h *House) authenticator(p *plan.Plan, w *wiring) (*authn.Authenticator, error) {
	f := p.File
	cfg := authn.Config{
		Realm: f.Environment, KeyHeader: f.APIKeys.Header, Roles: slices.Sorted(maps.Keys(f.Roles)), Certificates: map[string]authn.Identity{},
	}
	if f.APIKeys.Enabled {
		cfg.Keys = h.keys
	}
	nonce := false
	if a := w.authority; a != nil {
		nonce = f.OAuth.DPoP.Nonce
		cfg.Opaque, cfg.Decrypter, cfg.Revocations = a.as, h.secrets.decrypter, a.people
	}
	var err error
	if cfg.Proofs, err = h.proofsFor(proofs{at: "gate", nonce: nonce}); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(f.Issuers)) {
		i := f.Issuers[name]
		var set *token.KeySet
		if i.Own {
			set = h.secrets.keys.KeySet()
		} else {
			var id string
			if set, id, err = h.keySetFor(i); err != nil {
				return nil, err
			}
			w.keysets[id] = true
		}
		is := authn.Issuer{
			Name: name, Keys: set, RolesClaim: i.Roles, TenantClaim: i.Tenant, Own: i.Own,
			Token: token.VerifierConfig{
				Issuer: i.Issuer.Value, Audiences: config.Values(i.Audience), TypAny: i.Type == "any", Leeway: i.Leeway,
			},
		}
		for _, r := range p.Resources() {
			if i.Own && r.Own {
				is.Token.Audiences = append(is.Token.Audiences, r.ID)
			}
		}
		if i.Own && is.Token.Audiences == nil { // no API of ours takes its tokens
			is.Token.Audiences = []string{i.Issuer.Value}
		}
		if i.Leeway == 0 {
			is.Token.Leeway = -1 // 0s was written: none
		}
		for _, a := range i.Algorithms {
			is.Token.Algorithms = append(is.Token.Algorithms, token.Algorithm(a))
		}
		if len(i.RoleMap) > 0 {
			is.RoleMap = map[string][]string{}
			for theirs, ours := range i.RoleMap {
				is.RoleMap[theirs] = config.Values(ours)
			}
		}
		cfg.Issuers = append(cfg.Issuers, is)
	}
	for name, s := range f.ClientCertificates.Subjects {
		cfg.Certificates[name] = authn.Identity{Tenant: s.Tenant, Roles: config.Values(s.Roles), Scopes: config.Values(s.Scopes)}
	}
	a, err := authn.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Place, err)
	}
	return a, nil
}

func upstreamConfig(f *config.File, api *config.API, credentials []string) gateway.UpstreamConfig {
	u := api.Upstream
	credentials = append(credentials, f.APIKeys.Header)
	slices.Sort(credentials)
	out := gateway.UpstreamConfig{
		URLs: config.Values(api.Upstreams), Connect: u.Connect, Timeout: u.Timeout, BodyIdle: u.StreamIdle, Idle: u.Idle, MaxInFlight: u.MaxInFlight,
		MinLimit: *u.Concurrency.Min, FirstLimit: *u.Concurrency.Initial, MaxLimit: *u.Concurrency.Max, Critical: api.HasCritical(),
		Retries: u.Retries, Failures: u.Breaker.Failures, Open: u.Breaker.Open, OriginalHost: u.Host == "original",
		CAFile: u.CA.Name(), CertFile: u.Certificate.Name(), KeyFile: u.Key.Name(), ServerName: u.ServerName,
		Token: gateway.TokenMode(u.Token), Credentials: slices.Compact(credentials),
	}
	if u.Health != nil {
		out.Health = &gateway.HealthCheck{
			Path: u.Health.Path, Interval: u.Health.Interval, Timeout: u.Health.Timeout, Healthy: u.Health.Healthy, Unhealthy: u.Health.Unhealthy,
		}
	}
	return out
}

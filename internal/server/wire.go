package server

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
	"github.com/gatehouse-api/gatehouse/internal/plan"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// wire makes a plan's snapshot ready to serve with what the house has, and tells
// which key sets it uses. On error everything it took is given back.
func (h *House) wire(p *plan.Plan) (inUse map[string]bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := p.Snapshot
	defer func() {
		if err != nil {
			release(s)
		}
	}()
	inUse = map[string]bool{}
	if s.Authn, err = h.authenticator(p.File, inUse); err != nil {
		return nil, err
	}
	services := map[string]*gateway.Upstreams{}
	var errs []error
	credentials := map[string][]string{} // header fields, by API
	for n, route := range s.Routes {
		a := p.Access(n)
		api := p.File.APIs[a.API]
		if route.Accept, err = s.Authn.Accept(a.Ways); err != nil {
			errs = append(errs, config.Errorf(api.Place, "apis.%s: operation %s: %v", a.API, route.Op.Op().ID, err))
			continue
		}
		credentials[a.API] = append(credentials[a.API], route.Accept.CredentialHeaders()...)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for n, route := range s.Routes {
		name := p.Access(n).API
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
	return inUse, nil
}

// forget ends the key sets that no issuer of the new config uses.
func (h *House) forget(inUse map[string]bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, k := range h.keysets {
		if !inUse[id] {
			k.stop()
			delete(h.keysets, id)
		}
	}
}

// release gives back what wire took.
func release(s *gateway.Snapshot) {
	for _, u := range s.Held() {
		u.Release()
	}
}

func (h *House) authenticator(f *config.File, inUse map[string]bool) (*authn.Authenticator, error) {
	cfg := authn.Config{
		Realm: f.Environment, KeyHeader: f.APIKeys.Header, Roles: slices.Sorted(maps.Keys(f.Roles)), Certificates: map[string]authn.Identity{},
	}
	if f.APIKeys.Enabled {
		cfg.Keys = h.keys
	}
	for _, name := range slices.Sorted(maps.Keys(f.Issuers)) {
		i := f.Issuers[name]
		set, id, err := h.keySetFor(i)
		if err != nil {
			return nil, err
		}
		inUse[id] = true
		is := authn.Issuer{
			Name: name, Keys: set, RolesClaim: i.Roles, TenantClaim: i.Tenant,
			Token: token.VerifierConfig{
				Issuer: i.Issuer.Value, Audiences: config.Values(i.Audience), TypAny: i.Type == "any", Leeway: i.Leeway,
			},
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
		Retries: u.Retries, Failures: u.Breaker.Failures, Open: u.Breaker.Open, OriginalHost: u.Host == "original",
		CAFile: pathOf(u.CA), CertFile: pathOf(u.Certificate), KeyFile: pathOf(u.Key), ServerName: u.ServerName,
		Token: gateway.TokenMode(u.Token), Credentials: slices.Compact(credentials),
	}
	if u.Health != nil {
		out.Health = &gateway.HealthCheck{
			Path: u.Health.Path, Interval: u.Health.Interval, Timeout: u.Health.Timeout, Healthy: u.Health.Healthy, Unhealthy: u.Health.Unhealthy,
		}
	}
	return out
}

func pathOf(p *config.Path) string {
	if p == nil {
		return ""
	}
	return p.Value
}

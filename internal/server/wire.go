package server

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// wire makes a plan's snapshot ready to serve with what the house has. On error
// everything it took is given back.
func (h *House) wire(p *Plan) (err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := p.Snapshot
	defer func() {
		if err != nil {
			release(s)
		}
	}()
	inUse := map[string]bool{}
	if s.Authn, err = h.authenticator(p.File, inUse); err != nil {
		return err
	}
	services := map[string]*gateway.Upstreams{}
	var errs []error
	for n, route := range s.Routes {
		a := &p.access[n]
		if route.Accept, err = s.Authn.Accept(a.ways); err != nil {
			errs = append(errs, config.Errorf(a.api.cfg.Place, "apis.%s: operation %s: %v", a.api.name, a.op.ID, err))
			continue
		}
		if services[a.api.name] == nil {
			u, err := h.pools.Acquire(upstreamConfig(p.File, a.api.cfg))
			if err != nil {
				return config.Errorf(a.api.cfg.Place, "apis.%s: %v", a.api.name, err)
			}
			services[a.api.name] = u
			s.Hold(a.api.name, u)
		}
		route.Upstreams = services[a.api.name]
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	h.forget(inUse)
	return nil
}

// forget ends the key sets that no issuer of the new config uses.
func (h *House) forget(inUse map[string]bool) {
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
		Realm: f.Environment, Roles: slices.Sorted(maps.Keys(f.Roles)), Certificates: map[string]authn.Identity{},
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

func upstreamConfig(f *config.File, api *config.API) gateway.UpstreamConfig {
	u := api.Upstream
	out := gateway.UpstreamConfig{
		URLs: config.Values(api.Upstreams), Connect: u.Connect, Timeout: u.Timeout, Idle: u.Idle, MaxInFlight: u.MaxInFlight,
		Retries: u.Retries, Failures: u.Breaker.Failures, Open: u.Breaker.Open, OriginalHost: u.Host == "original",
		CAFile: pathOf(u.CA), CertFile: pathOf(u.Certificate), KeyFile: pathOf(u.Key), ServerName: u.ServerName,
		Token: gateway.TokenMode(u.Token), Credentials: []string{f.APIKeys.Header},
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

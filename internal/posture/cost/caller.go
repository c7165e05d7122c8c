package cost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/config"
)

// An identity is who calls, as a token says it or a key stands for it.
type identity struct {
	issuer  string // as the config calls it; "" for the only one
	subject string
	client  string
	tenant  string
	roles   []string
	scopes  []string
	claims  map[string]any
	ways    *authn.Ways // what an operation wants of the token besides
}

// token makes a token of one of the config's issuers, by our key.
func (g *rig) token(c *identity) (string, error) {
	f := g.whole.File
	name := c.issuer
	if name == "" {
		name = slices.Sorted(maps.Keys(f.Issuers))[0]
	}
	i := f.Issuers[name]
	if i == nil {
		return "", fmt.Errorf("there is no issuer %q", name)
	}
	now := time.Now()
	claims := map[string]any{
		"iss": i.Issuer.Value, "sub": c.subject, "aud": g.audiences(i)[0], "client_id": "bench", "jti": "bench",
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "auth_time": now.Unix(),
	}
	maps.Copy(claims, c.claims)
	if c.client != "" {
		claims["client_id"] = c.client
	}
	if len(c.scopes) > 0 {
		claims["scope"] = strings.Join(c.scopes, " ")
	}
	if c.tenant != "" && i.Tenant != "" {
		put(claims, i.Tenant, c.tenant)
	}
	if len(c.roles) > 0 && i.Roles != "" {
		put(claims, i.Roles, theirs(i, c.roles))
	}
	if w := c.ways; w != nil {
		if len(w.Audience) > 0 {
			claims["aud"] = append([]string{g.audiences(i)[0]}, w.Audience...)
		}
		if len(w.ACR) > 0 {
			claims["acr"] = w.ACR[0]
		}
		if len(w.Details) > 0 {
			claims["authorization_details"] = []any{map[string]any{"type": w.Details[0]}}
		}
	}
	b, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	return g.signer.Sign("at+jwt", b)
}

// put sets a claim, or one within others: realm_access.roles. A URL is one claim.
func put(claims map[string]any, path string, v any) {
	if at, rest, ok := strings.Cut(path, "."); ok && !strings.Contains(path, "://") {
		inner, _ := claims[at].(map[string]any)
		if inner == nil {
			inner = map[string]any{}
			claims[at] = inner
		}
		put(inner, rest, v)
		return
	}
	claims[path] = v
}

// theirs are the issuer's names of our roles.
func theirs(i *config.Issuer, ours []string) []string {
	if len(i.RoleMap) == 0 {
		return ours
	}
	var out []string
	for name, to := range i.RoleMap {
		if slices.ContainsFunc(config.Values(to), func(r string) bool { return slices.Contains(ours, r) }) {
			out = append(out, name)
		}
	}
	return out
}

// credential is a header line that lets c in at a route; "" where nobody is asked.
func (g *rig) credential(ctx context.Context, route int, c *identity) (string, error) {
	w := g.whole.Access(route).Ways
	if w.Anonymous || len(w.Any) == 0 {
		return "", nil
	}
	if w.Bound {
		return "", errors.New("it takes only tokens bound to the caller's key, which a load cannot use twice: it cannot be measured")
	}
	for _, way := range w.Any {
		switch {
		case way.Certificate: // the listeners here are plain
		case len(way.Issuers) > 0:
			c.ways = &w
			if !slices.Contains(way.Issuers, c.issuer) {
				c.issuer = way.Issuers[0]
			}
			raw, err := g.token(c)
			return "Authorization: Bearer " + raw, err
		case way.Key && g.keys != nil:
			secret, _, err := g.keys.Create(ctx, "bench", authn.NewKey{Owner: c.subject, Tenant: c.tenant, Roles: c.roles, Scopes: c.scopes, Life: time.Hour})
			if err != nil {
				return "", err
			}
			header := w.KeyHeader
			if header == "" {
				header = g.whole.File.APIKeys.Header
			}
			return header + ": " + secret.Reveal(), nil
		}
	}
	return "", errors.New("it takes client certificates only: it cannot be measured over loopback without TLS")
}

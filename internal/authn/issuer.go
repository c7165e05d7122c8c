package authn

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// An Issuer says whose tokens are believed and how their claims become a
// principal.
type Issuer struct {
	Name        string               // as the config calls it; becomes Principal.Issuer
	Token       token.VerifierConfig // Issuer and Audiences are required
	Keys        *token.KeySet        // run by the caller
	RolesClaim  string               // "roles", "realm_access.roles", "https://example.org/roles"; "": tokens give no roles
	RoleMap     map[string][]string  // from the issuer's roles to ours; nil: they have the same names
	TenantClaim string               // likewise a claim or a path; "": none
	Own         bool                 // our own authorization server: its tokens may be opaque or encrypted, and revocations are asked; at most one
}

type issuer struct {
	name, iss     string
	verifier      *token.Verifier
	cache         *token.Cache[*checkedToken]
	roles, tenant string
	roleMap       map[string][]string
	known         map[string]bool
	own           bool
}

// A checkedToken is what the cache keeps of a token: what becomes of it, and what
// the checks need that depend on the request and not on the token alone.
type checkedToken struct {
	principal *gatehouse.Principal
	claims    *token.Claims
}

func (a *Authenticator) addIssuer(c *Issuer, cacheEntries int) error {
	switch {
	case c.Name == "" || c.Name == keysIssuer || c.Name == mtlsIssuer:
		return fmt.Errorf("an issuer can not be named %q", c.Name)
	case a.issuers[c.Name] != nil:
		return fmt.Errorf("issuer %s is there twice", c.Name)
	case c.Own && a.revocations == nil:
		return fmt.Errorf("issuer %s is our own, and nobody knows which of its tokens are revoked", c.Name)
	}
	for _, have := range a.issuers {
		if c.Own && have.own {
			return fmt.Errorf("issuers %s and %s can not both be our own", have.name, c.Name)
		}
	}
	v, err := token.NewVerifier(c.Token, c.Keys)
	if err != nil {
		return fmt.Errorf("issuer %s: %w", c.Name, err)
	}
	for theirs, mapped := range c.RoleMap {
		for _, ours := range mapped {
			if !a.roles[ours] {
				return fmt.Errorf("issuer %s: its role %q is mapped to %q, which is not configured", c.Name, theirs, ours)
			}
		}
	}
	a.issuers[c.Name] = &issuer{
		name: c.Name, iss: c.Token.Issuer, verifier: v, cache: token.NewCache[*checkedToken](cacheEntries),
		roles: c.RolesClaim, tenant: c.TenantClaim, roleMap: c.RoleMap, known: a.roles, own: c.Own,
	}
	return nil
}

// principal maps the claims of a verified token.
func (is *issuer) principal(c *token.Claims) *gatehouse.Principal {
	p := &gatehouse.Principal{
		Subject: c.Subject, Issuer: is.name, Client: c.ClientID, Scopes: c.Scopes, Claims: c.Raw,
		Method: gatehouse.MethodJWT, KeyID: cmp.Or(c.Cnf.X5T, c.Cnf.JKT), AuthTime: c.AuthTime, Expires: c.Expires,
	}
	for _, theirs := range words(claim(c.Raw, is.roles)) {
		mapped := []string{theirs}
		if is.roleMap != nil {
			mapped = is.roleMap[theirs]
		}
		for _, ours := range mapped {
			// A role the config does not know grants nothing today; dropped, it also
			// grants nothing the day somebody configures a role of that name by chance.
			if is.known[ours] && !slices.Contains(p.Roles, ours) {
				p.Roles = append(p.Roles, ours)
			}
		}
	}
	switch t := claim(c.Raw, is.tenant).(type) {
	case string:
		p.Tenant = t
	case int64:
		p.Tenant = strconv.FormatInt(t, 10)
	}
	return p
}

// claim finds a claim by its name, dots and all, or else by its path.
func claim(claims map[string]any, path string) any {
	if path == "" {
		return nil
	}
	if v, ok := claims[path]; ok {
		return v
	}
	first, rest, nested := strings.Cut(path, ".")
	if !nested {
		return nil
	}
	inner, ok := claims[first].(map[string]any)
	if !ok {
		return nil
	}
	return claim(inner, rest)
}

// words reads a list of strings, or the one string that issuers send for a list
// of one. Anything else, even in part, gives nothing: half a list may be the
// half that allows.
func words(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		out := make([]string, 0, len(v))
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil
			}
			out = append(out, s)
		}
		return out
	}
	return nil
}

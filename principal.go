package gatehouse

import (
	"context"
	"slices"
	"time"
)

// A Method names how a caller proved who it is.
type Method string

// The methods of authentication. The zero Method is an anonymous caller.
const (
	MethodNone   Method = ""
	MethodJWT    Method = "jwt"
	MethodAPIKey Method = "apikey"
	MethodMTLS   Method = "mtls"
)

// A Principal is who a request acts for, as authenticated. The zero Principal
// is nobody. A Principal may be shared by many requests at once (the
// verified-token cache hands out the same one): it is read-only.
type Principal struct {
	Subject  string         // the token's sub, the key's owner, the certificate's name
	Issuer   string         // the configured issuer's name; "keys" or "mtls" for the others
	Client   string         // OAuth client_id, when the token says it
	Tenant   string         // the claim the issuer's config names as tenant
	Roles    []string       // roles as the gateway's own config knows them
	Scopes   []string       // OAuth scopes (RFC 6749 §3.3), or the scopes of the key
	Claims   map[string]any // every claim of the token as decoded; nil for keys and certificates
	Method   Method         // how it was authenticated
	KeyID    string         // the API key's id, or what the proof is bound to: the certificate's SHA-256 (RFC 8705 x5t#S256), the DPoP key's (RFC 9449 jkt)
	AuthTime time.Time      // when the user authenticated, if known
	Expires  time.Time      // when the proof stops being valid; zero if never
}

// Anonymous reports whether nobody was authenticated.
func (p *Principal) Anonymous() bool { return p == nil || p.Method == MethodNone }

// HasScope reports whether s is among the granted scopes.
func (p *Principal) HasScope(s string) bool {
	return slices.Contains(p.Scopes, s)
}

type principalKey struct{}

// WithPrincipal gives ctx who the request it belongs to acts for, so that a
// service inside this process need not prove it again.
func WithPrincipal(ctx context.Context, p *Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// PrincipalOf returns who ctx's request acts for; nil, which is nobody, when that
// was not proven.
func PrincipalOf(ctx context.Context) *Principal {
	p, _ := ctx.Value(principalKey{}).(*Principal)
	return p
}

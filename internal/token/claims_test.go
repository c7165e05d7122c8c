package token_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/token"
)

func TestClaims(t *testing.T) {
	v := newVerifier(t, staticKeys(t, jwks(t, token.ES256)), nil)
	verify := func(t *testing.T, changes map[string]any) *token.Claims {
		t.Helper()
		c, err := v.Verify(t.Context(), sign(t, token.ES256, privateKeys()[token.ES256], head(token.ES256), claims(changes)))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	exp := time.Now().Add(time.Minute).Truncate(time.Second)
	for _, tt := range []struct {
		name    string
		changes map[string]any
		got     func(*token.Claims) any
		want    any
	}{
		{"azp stands in for client_id", map[string]any{"client_id": nil, "azp": "spa"}, func(c *token.Claims) any { return c.ClientID }, "spa"},
		{"client_id goes before azp", map[string]any{"azp": "spa"}, func(c *token.Claims) any { return c.ClientID }, "web"},
		{"scp as a list stands in for scope", map[string]any{"scope": nil, "scp": []string{"a", "b"}}, func(c *token.Claims) any { return c.Scopes }, []string{"a", "b"}},
		{"scp as a string stands in for scope", map[string]any{"scope": nil, "scp": "a b"}, func(c *token.Claims) any { return c.Scopes }, []string{"a", "b"}},
		{"scp adds nothing to scope", map[string]any{"scope": "a", "scp": "admin"}, func(c *token.Claims) any { return c.Scopes }, []string{"a"}},
		{"scp adds nothing to an empty scope", map[string]any{"scope": "", "scp": "admin"}, func(c *token.Claims) any { return len(c.Scopes) }, 0},
		{"only a space separates scopes", map[string]any{"scope": "a\tadmin\u00a0b  c"}, func(c *token.Claims) any { return c.Scopes }, []string{"a\tadmin\u00a0b", "c"}},
		{"an audience becomes a list", nil, func(c *token.Claims) any { return c.Audience }, []string{audience}},
		{"exp is a time", map[string]any{"exp": exp.Unix()}, func(c *token.Claims) any { return c.Expires.Equal(exp) }, true},
		{"auth_time is a time", map[string]any{"auth_time": exp.Unix()}, func(c *token.Claims) any { return c.AuthTime.Equal(exp) }, true},
		{"absent dates are zero", nil, func(c *token.Claims) any { return c.NotBefore.IsZero() && c.AuthTime.IsZero() }, true},
		{"a bearer token is not bound", nil, func(c *token.Claims) any { return c.Cnf.Bound() }, false},
		{"a DPoP thumbprint binds", map[string]any{"cnf": map[string]any{"jkt": "x"}}, func(c *token.Claims) any { return c.Cnf }, token.Confirmation{JKT: "x"}},
		{"a certificate thumbprint binds", map[string]any{"cnf": map[string]any{"x5t#S256": "x"}}, func(c *token.Claims) any { return c.Cnf }, token.Confirmation{X5T: "x"}},
		{"an unknown method binds", map[string]any{"cnf": map[string]any{"jwk": map[string]any{}}}, func(c *token.Claims) any { return c.Cnf.Unknown && c.Cnf.Bound() }, true},
		{"an empty cnf binds", map[string]any{"cnf": map[string]any{}}, func(c *token.Claims) any { return c.Cnf.Bound() }, true},
		{"large integers stay exact", map[string]any{"org": int64(9007199254740993)}, func(c *token.Claims) any { return c.Raw["org"] }, int64(9007199254740993)},
		{"fractions are floats", map[string]any{"n": 1.5}, func(c *token.Claims) any { return c.Raw["n"] }, 1.5},
		{"claims nest", map[string]any{"realm_access": map[string]any{"roles": []string{"a"}}}, func(c *token.Claims) any { return c.Raw["realm_access"] }, map[string]any{"roles": []any{"a"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.got(verify(t, tt.changes)); !reflect.DeepEqual(got, tt.want) {
				t.Fatalf("got %#v, want %#v", got, tt.want)
			}
		})
	}
}

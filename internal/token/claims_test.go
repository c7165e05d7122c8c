package token_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
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

func TestParseClaims(t *testing.T) {
	details := []any{map[string]any{"type": "payment", "amount": int64(5)}}
	c, err := token.ParseClaims([]byte(claims(map[string]any{"sid": "s", "grant_id": "g", "acr": "aal2", "amr": []string{"pwd", "otp"}, "authorization_details": details})))
	if err != nil {
		t.Fatal(err)
	}
	if c.Subject != "alice" || c.SID != "s" || c.GrantID != "g" || c.ACR != "aal2" || !slices.Equal(c.AMR, []string{"pwd", "otp"}) || !reflect.DeepEqual(c.AuthorizationDetails, details) {
		t.Fatalf("claims %+v", c)
	}
	v := newVerifier(t, staticKeys(t, jwks(t, token.ES256)), nil)
	for name, changes := range map[string]map[string]any{
		"sid a number":               {"sid": 1},
		"sid null":                   {"sid": json.RawMessage("null")},
		"grant_id a list":            {"grant_id": []string{"g"}},
		"acr a list":                 {"acr": []string{"aal2"}},
		"amr a string":               {"amr": "pwd"},
		"amr with a number":          {"amr": []any{"pwd", 1}},
		"details an object":          {"authorization_details": map[string]any{"type": "a"}},
		"details as text":            {"authorization_details": `[{"type":"a"}]`},
		"a detail that is no object": {"authorization_details": []any{"a"}},
		"a detail without a type":    {"authorization_details": []any{map[string]any{"type": "a"}, map[string]any{}}},
		"a detail with no text type": {"authorization_details": []any{map[string]any{"type": []string{"a"}}}},
		"sub a number":               {"sub": 7},
		"exp a text":                 {"exp": "9"},
		"cnf a text":                 {"cnf": "x"},
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			object := claims(changes)
			if c, err := token.ParseClaims([]byte(object)); err == nil || c != nil {
				t.Errorf("parsed: %+v", c)
			}
			c, err := v.Verify(t.Context(), sign(t, token.ES256, privateKeys()[token.ES256], head(token.ES256), object))
			refused(t, c, err, "token_invalid", "the claim")
		})
	}
	for name, object := range map[string]string{
		"nothing": "", "a list": "[]", "a claim twice": `{"sub":"a","sub":"b"}`, "something behind it": `{} {}`,
		"too much": `{"x":"` + strings.Repeat("x", 64<<10) + `"}`, "text that is not UTF-8": "{\"sub\":\"\xff\"}",
	} {
		if c, err := token.ParseClaims([]byte(object)); err == nil || c != nil {
			t.Errorf("%s: parsed: %+v", name, c)
		}
	}
}

package oauth_test

import (
	"crypto/rand"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/oauth"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// registering sends metadata to the registration endpoint.
func (p *provider) registering(t *testing.T, metadata map[string]any) *reply {
	t.Helper()
	m := map[string]any{"client_name": "The app", "redirect_uris": []string{callback}}
	maps.Copy(m, metadata)
	b, err := json.Marshal(m)
	ok(t, err)
	endpoint, _ := p.metadata(t)["registration_endpoint"].(string)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoint, strings.NewReader(string(b)))
	ok(t, err)
	r.Header.Set("Content-Type", "application/json")
	return wire(t, p.http(), r)
}

// registers makes a client by dynamic registration (RFC 7591, OpenID Connect
// Dynamic Client Registration).
func (p *provider) registers(t *testing.T, metadata map[string]any) *party {
	t.Helper()
	a := p.registering(t, metadata)
	if a.Code != http.StatusCreated || a.text("client_id") == "" {
		t.Fatal(a.Code, a.Body)
	}
	for name, want := range metadata {
		if a.json[name] == nil && name != "sector_identifier_uri" {
			t.Errorf("registered without %s %v", name, want)
		}
	}
	return &party{t: t, p: p, id: a.text("client_id"), secret: a.text("client_secret"), method: a.text("token_endpoint_auth_method"), http: p.http(), uri: lists(a.json, "redirect_uris")[0], scope: "openid"}
}

// TestDynamicModules are those of the plan for the Dynamic OP profile of OpenID
// Connect, as far as they are about the code flow, and the one of the Config OP
// profile.
func TestDynamicModules(t *testing.T) {
	web := &fetcher{}
	p := newProvider(t, func(c *oauth.Config) { open(c); c.Fetch = web })
	conform(t, "Config OP", []module{{name: "OIDCCDiscoveryEndpointVerification", run: func(t *testing.T) { openIDMetadata(t, p.metadata(t)) }}})
	list := []module{
		{name: "OIDCCIdTokenRS256", run: func(t *testing.T) {
			// Also for who names no algorithm.
			for _, m := range []map[string]any{{"id_token_signed_response_alg": "RS256"}, nil} {
				c := p.registers(t, m)
				tokens := c.tokens(c.code(p.agent(t)))
				c.identity(tokens)
				if _, head := c.signed(tokens.text("id_token")); head.Algorithm != "RS256" {
					t.Error(head.Algorithm)
				}
			}
		}},
		{name: "OIDCCIdTokenUnsigned", run: func(t *testing.T) {
			wantError(t, p.registering(t, map[string]any{"id_token_signed_response_alg": "none"}), 400, "invalid_client_metadata")
		}},
		{name: "OIDCCUserInfoRS256", not: "userinfo answers over TLS and is not signed"},
		{name: "OIDCCEnsureRedirectUriInAuthorizationRequest", run: func(t *testing.T) {
			c, a := p.registers(t, map[string]any{"redirect_uris": []string{callback, callback + "/2"}}), p.agent(t)
			a.stays(c.begin(a, "redirect_uri", ""))
		}},
		{name: "OIDCCRedirectUriQueryOK", run: func(t *testing.T) {
			c := p.registers(t, map[string]any{"redirect_uris": []string{callback + "?foo=bar"}})
			back := c.authorize(p.agent(t))
			if back.Get("foo") != "bar" {
				t.Error(back)
			}
			c.identity(c.tokens(back.Get("code")))
		}},
		{name: "OIDCCRedirectUriQueryMismatch", run: func(t *testing.T) {
			c, a := p.registers(t, map[string]any{"redirect_uris": []string{callback + "?foo=bar"}}), p.agent(t)
			a.stays(c.begin(a, "redirect_uri", callback+"?bar=foo"))
		}},
		{name: "OIDCCRedirectUriQueryAdded", run: func(t *testing.T) {
			c, a := p.registers(t, nil), p.agent(t)
			a.stays(c.begin(a, "redirect_uri", callback+"?foo=bar"))
		}},
		{name: "OIDCCRedirectUriRegFrag", run: func(t *testing.T) {
			wantError(t, p.registering(t, map[string]any{"redirect_uris": []string{callback + "#foo=bar"}}), 400, "invalid_redirect_uri")
		}},
		{name: "OIDCCDiscoveryEndpointVerification", not: "of a dynamic provider it wants the implicit response types; without them it is above, as Config OP"},
		{name: "OIDCCServerTest", run: func(t *testing.T) {
			c, a := p.registers(t, nil), p.agent(t)
			tokens := c.tokens(c.code(a))
			a.sees("signin", "consent")
			c.identity(tokens)
			if who := c.userinfo(tokens.text("access_token")); who.Code != http.StatusOK {
				t.Error(who.Code, who.Body)
			}
		}},
		{name: "OIDCCRegistrationLogoUri", not: "the logo of a stranger is neither fetched nor shown: it is what a fake would borrow, and its host would see who signs in"},
		{name: "OIDCCRegistrationPolicyUri", run: func(t *testing.T) { links(t, p, "policy_uri", "https://app.example/policy") }},
		{name: "OIDCCRegistrationTosUri", run: func(t *testing.T) { links(t, p, "tos_uri", "https://app.example/terms") }},
		{name: "OIDCCRegistrationJwksUri", run: func(t *testing.T) {
			key := newSigningKey(t)
			web.set("https://app.example/jwks.json", string(key.jwks()))
			c := p.registers(t, map[string]any{"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://app.example/jwks.json"})
			c.key = key
			c.identity(c.tokens(c.code(p.agent(t))))
		}},
		{name: "OIDCCRegistrationSectorUri", run: func(t *testing.T) {
			web.set("https://app.example/sector.json", `["`+callback+`"]`)
			p.registers(t, map[string]any{"sector_identifier_uri": "https://app.example/sector.json"})
		}},
		{name: "OIDCCRegistrationSectorBad", run: func(t *testing.T) {
			web.set("https://app.example/bad.json", `["https://app.example/other"]`)
			wantError(t, p.registering(t, map[string]any{"sector_identifier_uri": "https://app.example/bad.json"}), 400, "invalid_client_metadata")
		}},
		{name: "OIDCCServerRotateKeys", run: rotatedKeys},
		{name: "OIDCCRefreshTokenRPKeyRotation", run: func(t *testing.T) {
			storetest.OnlyAFile(t, "a server has its own clock")
			synctest.Test(t, clientsKeyRotates)
		}},
		{name: "OIDCCRequestUriUnsigned", not: "request objects by reference would make this server fetch what a browser names; requests are pushed instead (RFC 9126)"},
		{name: "OIDCCRequestUriSignedRS256", not: "request objects by reference would make this server fetch what a browser names; requests are pushed instead (RFC 9126)"},
		{name: "OIDCCEnsureRequestObjectWithRedirectUri", run: func(t *testing.T) {
			c, a := p.registers(t, nil), p.agent(t)
			object := base64url(`{"alg":"none"}`) + "." + base64url(`{"redirect_uri":"`+callback+`"}`) + "."
			a.stays(c.begin(a, "request", object, "redirect_uri", "https://elsewhere.example/callback"))
		}},
		{name: "OIDCCRefreshToken", run: func(t *testing.T) {
			grants := map[string]any{"grant_types": []string{"authorization_code", "refresh_token"}}
			refreshModule(t, p.registers(t, grants), p.registers(t, grants), p.agent(t))
		}},
		{name: "OIDCCEnsureClientAssertionWithIssAudSucceeds", run: func(t *testing.T) {
			key := newSigningKey(t)
			c := p.registers(t, map[string]any{"token_endpoint_auth_method": "private_key_jwt", "jwks": key.jwks()})
			c.key = key
			c.identity(c.tokens(c.code(p.agent(t))))
		}},
	}
	conform(t, "Dynamic OP", list)
}

// links wants that people can read what a client says of itself before they allow
// it anything.
func links(t *testing.T, p *provider, field, target string) {
	t.Helper()
	c, a := p.registers(t, map[string]any{field: target}), p.agent(t)
	s := c.begin(a)
	if s.to != "/auth/signin" || !strings.Contains(s.Body.String(), "The app") {
		t.Error("the sign-in page does not say for whom")
	}
	if s = a.submit(s, "name", "ada", "password", password); s.to != "/auth/consent" || !strings.Contains(s.Body.String(), `href="`+target+`"`) {
		t.Error(s.Code, s.Body)
	}
}

func openIDMetadata(t *testing.T, m map[string]any) {
	t.Helper()
	for name, want := range map[string]string{
		"response_types_supported": "code", "subject_types_supported": "public", "id_token_signing_alg_values_supported": "RS256",
		"claims_supported": "sub", "grant_types_supported": "authorization_code", "scopes_supported": "openid", "code_challenge_methods_supported": "S256",
	} {
		if !slices.Contains(lists(m, name), want) {
			t.Errorf("%s: %v", name, m[name])
		}
	}
	for name, v := range m {
		if target, _ := v.(string); (strings.HasSuffix(name, "_endpoint") || name == "jwks_uri") && !strings.HasPrefix(target, "https://") {
			t.Errorf("%s: %v", name, v)
		}
	}
	for _, name := range []string{"authorization_endpoint", "token_endpoint", "userinfo_endpoint", "registration_endpoint", "jwks_uri"} {
		if m[name] == nil {
			t.Error(name, "is missing")
		}
	}
	for name, want := range map[string]any{"issuer": issuer, "request_parameter_supported": false, "request_uri_parameter_supported": false, "claims_parameter_supported": true} {
		if m[name] != want {
			t.Errorf("%s: %v", name, m[name])
		}
	}
}

// rotatedKeys: the new key is published beside the old one, and what the old one
// has signed holds.
func rotatedKeys(t *testing.T) {
	keys, err := token.NewKeyring(token.ES256)
	ok(t, err)
	p := newProvider(t, func(c *oauth.Config) { open(c); c.Keys = keys })
	ids := func() (list []string) {
		var set struct {
			Keys []struct {
				ID string `json:"kid"`
			} `json:"keys"`
		}
		ok(t, json.Unmarshal(wire(t, p.http(), wants(t, http.MethodGet, issuer+"/jwks.json", nil)).Body.Bytes(), &set))
		for _, k := range set.Keys {
			list = append(list, k.ID)
		}
		return list
	}
	c, a := p.registers(t, nil), p.agent(t)
	before, tokens := ids(), c.tokens(c.code(a))
	if rotated, err := keys.Rotate(0); err != nil || !rotated {
		t.Fatal(rotated, err)
	}
	after := ids()
	if len(after) <= len(before) || slices.ContainsFunc(before, func(id string) bool { return !slices.Contains(after, id) }) {
		t.Error(before, after)
	}
	c.identity(tokens)
	c.identity(c.tokens(c.code(a)))
	if who := c.userinfo(tokens.text("access_token")); who.Code != http.StatusOK {
		t.Error(who.Code, who.Body)
	}
}

// clientsKeyRotates refreshes with a key that the client has put in the place of
// the first one a minute ago.
func clientsKeyRotates(t *testing.T) {
	web := &fetcher{}
	p := newDirectProvider(t, func(c *oauth.Config) { open(c); c.Fetch = web })
	key, next := newSigningKey(t), newSigningKey(t)
	web.set("https://app.example/jwks.json", string(key.jwks()))
	c := p.registers(t, map[string]any{
		"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://app.example/jwks.json", "grant_types": []string{"authorization_code", "refresh_token"},
	})
	c.key, c.scope = key, "openid offline_access"
	raw := c.tokens(c.code(p.agent(t), "prompt", "consent")).text("refresh_token")
	web.set("https://app.example/jwks.json", strings.ReplaceAll(string(next.jwks()), `"k1"`, `"k2"`))
	time.Sleep(time.Minute)
	by := func(k *signingKey, kid string) func(url.Values, http.Header) {
		return func(v url.Values, _ http.Header) {
			now := time.Now().Unix()
			v.Set("client_assertion", k.sign(map[string]any{"alg": "ES256", "kid": kid}, map[string]any{
				"iss": c.id, "sub": c.id, "aud": issuer, "jti": rand.Text(), "iat": now, "exp": now + 30,
			}))
		}
	}
	a := c.call("/token", refresh(raw), by(next, "k2"))
	if a.Code != http.StatusOK || a.text("access_token") == "" {
		t.Fatal(a.Code, a.Body)
	}
	wantError(t, c.call("/token", refresh(a.text("refresh_token")), by(key, "k1")), 401, "invalid_client")
}

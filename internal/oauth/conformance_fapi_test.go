package oauth_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

// fapi registers a client as FAPI 2.0 wants it: it proves itself by assertions,
// pushes its requests, and its tokens are bound to a DPoP key.
func (p *provider) fapi(t *testing.T) *party {
	t.Helper()
	key := newSigningKey(t)
	c := p.party(t, func(m *oauth.Metadata) {
		m.TokenEndpointAuthMethod, m.JWKS, m.DPoPBoundTokens = "private_key_jwt", key.jwks(), true
		m.RedirectURIs = []string{callback, callback + "?dummy1=lorem&dummy2=ipsum"}
	})
	c.key, c.proofs, c.push, c.scope = key, newSigningKey(t), true, "openid orders:read"
	return c
}

// refused wants an error of an endpoint, with no tokens in it.
func (c *party) refused(a *reply, codes ...string) {
	c.t.Helper()
	if a.Code != http.StatusBadRequest && a.Code != http.StatusUnauthorized || !slices.Contains(codes, a.text("error")) ||
		a.json["access_token"] != nil || a.json["request_uri"] != nil {
		c.t.Errorf("%d %s, want %v", a.Code, a.Body, codes)
	}
}

// claims makes the client's assertion anew with other claims; nil takes one away.
func (c *party) claims(changes map[string]any) func(url.Values, http.Header) {
	return func(v url.Values, _ http.Header) {
		now := time.Now().Unix()
		claims := map[string]any{"iss": c.id, "sub": c.id, "aud": issuer, "jti": rand.Text(), "iat": now, "exp": now + 30}
		for name, value := range changes {
			if claims[name] = value; value == nil {
				delete(claims, name)
			}
		}
		v.Set("client_assertion", c.key.sign(map[string]any{"alg": "ES256", "kid": "k1"}, claims))
	}
}

// without takes parameters out of a request.
func without(names ...string) func(url.Values, http.Header) {
	return func(v url.Values, _ http.Header) {
		for _, name := range names {
			v.Del(name)
		}
	}
}

func setting(pairs ...string) func(url.Values, http.Header) {
	return func(v url.Values, _ http.Header) {
		for i := 0; i < len(pairs); i += 2 {
			v.Set(pairs[i], pairs[i+1])
		}
	}
}

// proving puts another DPoP proof into a request for an endpoint.
func proving(k *signingKey, path string, changes map[string]any) func(url.Values, http.Header) {
	return func(_ url.Values, h http.Header) {
		h.Set("DPoP", k.proofOf(http.MethodPost, issuer+path, changes))
	}
}

// proofOf is a proof with other claims.
func (k *signingKey) proofOf(method, target string, changes map[string]any) string {
	claims := map[string]any{"jti": rand.Text(), "htm": method, "htu": target, "iat": time.Now().Unix()}
	for name, value := range changes {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
	return k.sign(map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": k.jwk}, claims)
}

const (
	noRequestObjects = "request objects (RFC 9101) are of the Message Signing profile; requests are pushed here (RFC 9126)"
	anotherCountry   = "it is of a national profile"
)

// TestFAPI2Modules are those of the plan for servers of the FAPI 2.0 Security
// Profile, with private_key_jwt, DPoP, unsigned pushed requests and plain answers,
// and those that plan shares with Message Signing.
func TestFAPI2Modules(t *testing.T) {
	p := newProvider(t, func(c *oauth.Config) { c.Profile = oauth.FAPI2 })
	list := slices.Concat(fapiRequests(p), fapiProofs(p), fapiRefusals(p), fapiClients(p), fapiPushed(p))
	for _, name := range []string{
		"EnsureServerAcceptsRequestObjectWithMultipleAud", "EnsureRequestObjectWithNbf8SecondsInTheFutureIsAccepted", "EnsureRequestObjectWithoutExpFails",
		"EnsureRequestObjectWithoutNbfFails", "EnsureExpiredRequestObjectFails", "EnsureRequestObjectWithBadAudFails", "EnsureRequestObjectWithExpOver60Fails",
		"EnsureRequestObjectWithNbfOver60Fails", "EnsureSignedRequestObjectWithRS256Fails", "EnsureRequestObjectSignatureAlgorithmIsNotNone",
		"EnsureRequestObjectWithInvalidSignatureFails", "EnsureMatchingKeyInAuthorizationRequest", "EnsureUnsignedRequestAtParEndpointFails",
		"PARRejectRequestUriInParAuthorizationRequest",
	} {
		list = append(list, module{name: "FAPI2SPFinal" + name, not: noRequestObjects})
	}
	for _, name := range []string{
		"AustraliaConnectIdRequestObjectWithExpOver10Fails", "AustraliaConnectIdEnsureRequestObjectWithNbfOver15Fails", "AustraliaConnectIdEnsureInvalidPurposeFails",
		"AustraliaConnectIdTestClaimsParameterIdTokenIdentityClaims", "BrazilEnsureBadPaymentSignatureFails", "EnsureServerHandlesNonMatchingIntentId", "TestEssentialAcrScaClaim",
	} {
		list = append(list, module{name: "FAPI2SPFinal" + name, not: anotherCountry})
	}
	for i := range list {
		if !strings.HasPrefix(list[i].name, "FAPI2SPFinal") {
			list[i].name = "FAPI2SPFinal" + list[i].name
		}
	}
	conform(t, "FAPI 2.0 Security Profile Final", list)
}

// works is a module in which everything goes well with these parameters.
func works(p *provider, name string, check func(t *testing.T, back url.Values, claims map[string]any), pairs ...string) module {
	return module{name: name, run: func(t *testing.T) {
		c, a := p.fapi(t), p.agent(t)
		back := c.authorize(a, pairs...)
		tokens := c.tokens(back.Get("code"))
		check(t, back, c.identity(tokens))
		if who := c.userinfo(tokens.text("access_token")); who.Code != http.StatusOK {
			t.Error(who.Code, who.Body)
		}
	}}
}

func fapiRequests(p *provider) []module {
	long := strings.Repeat("n0nce-", 64) // 384
	has := func(name, want string) func(*testing.T, url.Values, map[string]any) {
		return func(t *testing.T, back url.Values, claims map[string]any) {
			if got, _ := claims[name].(string); name == "nonce" && got != want || name == "state" && (back.Get("state") != want || back.Has("state") != (want != "") || claims["s_hash"] != nil) {
				t.Errorf("%s: %v %v, want %q", name, back, claims, want)
			}
		}
	}
	// outside puts a parameter beside the request_uri, where it counts for nothing.
	outside := func(t *testing.T, name, value string, inside ...string) (*party, url.Values) {
		c, a := p.fapi(t), p.agent(t)
		v := byReference(c.id, c.call("/par", c.request(inside...)).text("request_uri"))
		v.Set(name, value)
		return c, a.back(a.answer(a.visit(issuer + "/authorize?" + v.Encode())))
	}
	return []module{
		{name: "DiscoveryEndpointVerification", run: func(t *testing.T) { fapiMetadata(t, p.metadata(t)) }},
		{name: "HappyFlow", run: func(t *testing.T) {
			a := p.agent(t)
			first, second := p.fapi(t), p.fapi(t)
			second.uri = callback + "?dummy1=lorem&dummy2=ipsum"
			var theirs []string
			for _, c := range []*party{first, second} {
				back := c.authorize(a)
				if back.Get("iss") != issuer || back.Get("state") != "s t&a=te" || back.Get("dummy1") != "" && c == first || back.Get("dummy1") != "lorem" && c == second {
					t.Error(back)
				}
				tokens := c.tokens(back.Get("code"))
				claims, access := c.identity(tokens), p.claims(tokens.text("access_token"), "at+jwt")
				if claims["nonce"] != "n-1" || claims["at_hash"] == nil {
					t.Error(claims)
				}
				if cnf, _ := access["cnf"].(map[string]any); cnf["jkt"] != c.proofs.thumbprint() {
					t.Error(access)
				}
				if who := c.userinfo(tokens.text("access_token")); who.Code != http.StatusOK {
					t.Error(who.Code, who.Body)
				}
				theirs = append(theirs, tokens.text("access_token"))
			}
			if who := first.userinfo(theirs[1]); who.Code != http.StatusUnauthorized {
				t.Error("another client's token:", who.Code, who.Body)
			}
		}},
		{name: "UserRejectsAuthentication", run: func(t *testing.T) {
			c, a := p.fapi(t), p.agent(t)
			a.refuse = true
			if back := c.authorize(a); back.Get("error") != "access_denied" || back.Get("state") != "s t&a=te" || back.Get("iss") != issuer || back.Has("code") {
				t.Error(back)
			}
		}},
		works(p, "EnsureAuthorizationRequestWithoutStateSuccess", has("state", ""), "state", ""),
		works(p, "EnsureAuthorizationRequestWithoutNonceSuccess", has("nonce", ""), "nonce", ""),
		works(p, "EnsureAuthorizationRequestWith64CharNonceSuccess", has("nonce", long[:64]), "nonce", long[:64]),
		works(p, "EnsureAuthorizationRequestWithLongNonce", has("nonce", long), "nonce", long),
		works(p, "EnsureAuthorizationRequestWithLongState", has("state", long+long+long), "state", long+long+long),
		works(p, "EnsureOtherScopeOrderSucceeds", has("nonce", "n-1"), "scope", "orders:read openid"),
		{name: "TestClaimsParameterIdentityClaims", run: func(t *testing.T) {
			c := p.fapi(t)
			asked := map[string]any{"a_claim_nobody_knows": map[string]any{"essential": true}}
			for i, name := range lists(p.metadata(t), "claims_supported") {
				if everyClaim[name] != nil {
					asked[name] = []any{nil, map[string]any{"essential": true}, map[string]any{"essential": false}}[i%3]
				}
			}
			if len(asked) != len(everyClaim)+1 {
				t.Fatal(asked)
			}
			text, err := json.Marshal(map[string]any{"id_token": asked, "userinfo": asked})
			ok(t, err)
			tokens := c.tokens(c.code(p.agent(t), "claims", string(text)))
			claims, who := c.identity(tokens), c.userinfo(tokens.text("access_token")).json
			for name := range everyClaim {
				if claims[name] == nil || who[name] == nil {
					t.Errorf("%s: %v %v", name, claims[name], who[name])
				}
			}
			if claims["a_claim_nobody_knows"] != nil || who["a_claim_nobody_knows"] != nil {
				t.Error("a claim out of nothing")
			}
		}},
		{name: "AccessTokenTypeHeaderCaseSensitivity", run: func(t *testing.T) {
			c := p.fapi(t)
			tokens := c.tokens(c.code(p.agent(t)))
			if a := c.userinfo(tokens.text("access_token"), func(h http.Header) { h.Set("Authorization", "dpOp "+tokens.text("access_token")) }); a.Code != http.StatusOK {
				t.Error(a.Code, a.Body)
			}
		}},
		{name: "EnsureDifferentNonceInsideAndOutsideRequestObject", run: func(t *testing.T) {
			c, back := outside(t, "nonce", "outside")
			if claims := c.identity(c.tokens(back.Get("code"))); claims["nonce"] != "n-1" {
				t.Error(claims)
			}
		}},
		{name: "EnsureDifferentStateInsideAndOutsideRequestObject", run: func(t *testing.T) {
			c, back := outside(t, "state", "outside")
			c.identity(c.tokens(back.Get("code")))
			if back.Get("state") != "s t&a=te" {
				t.Error(back)
			}
		}},
		{name: "StateOnlyOutsideRequestObjectNotUsed", run: func(t *testing.T) {
			c, back := outside(t, "state", "outside", "state", "")
			if claims := c.identity(c.tokens(back.Get("code"))); back.Has("state") || claims["s_hash"] != nil {
				t.Error(back, claims)
			}
		}},
	}
}

func fapiMetadata(t *testing.T, m map[string]any) {
	t.Helper()
	allowed := []string{"PS256", "ES256", "EdDSA"}
	for _, name := range []string{"token_endpoint_auth_signing_alg_values_supported", "dpop_signing_alg_values_supported", "id_token_signing_alg_values_supported"} {
		if list := lists(m, name); len(list) == 0 || slices.ContainsFunc(list, func(alg string) bool { return !slices.Contains(allowed, alg) }) {
			t.Errorf("%s: %v", name, list)
		}
	}
	for _, name := range []string{"authorization_endpoint", "token_endpoint", "jwks_uri", "pushed_authorization_request_endpoint"} {
		if s, _ := m[name].(string); !strings.HasPrefix(s, "https://") {
			t.Errorf("%s: %q", name, s)
		}
	}
	if m["issuer"] != issuer || m["authorization_response_iss_parameter_supported"] != true || m["tls_client_certificate_bound_access_tokens"] != true {
		t.Error(m)
	}
	for name, want := range map[string]string{"response_types_supported": "code", "code_challenge_methods_supported": "S256", "token_endpoint_auth_methods_supported": "private_key_jwt", "grant_types_supported": "authorization_code"} {
		if !slices.Contains(lists(m, name), want) {
			t.Errorf("%s: %v", name, m[name])
		}
	}
	for _, method := range lists(m, "token_endpoint_auth_methods_supported") {
		if !slices.Contains([]string{"private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth"}, method) {
			t.Error(method)
		}
	}
}

func fapiRefusals(p *provider) []module {
	// atPAR is a request that the PAR endpoint refuses.
	atPAR := func(name string, codes []string, pairs ...string) module {
		return module{name: name, run: func(t *testing.T) {
			c := p.fapi(t)
			c.refused(c.call("/par", c.request(pairs...)), codes...)
		}}
	}
	invalid, kind := []string{"invalid_request"}, []string{"unsupported_response_type", "invalid_request"}
	return []module{
		atPAR("EnsureRequestObjectWithoutRedirectUriFails", invalid, "redirect_uri", ""),
		atPAR("EnsureRedirectUriInAuthorizationRequest", invalid, "redirect_uri", ""),
		atPAR("EnsureRegisteredRedirectUri", invalid, "redirect_uri", callback+"/unregistered"),
		atPAR("TolerateUnregisteredRedirectUri", invalid, "redirect_uri", callback+"/random"),
		atPAR("EnsureResponseTypeCodeIdTokenFails", kind, "response_type", "code id_token"),
		atPAR("EnsureResponseTypeTokenFails", kind, "response_type", "token"),
		atPAR("PAREnsurePKCERequired", invalid, "code_challenge", "", "code_challenge_method", ""),
		atPAR("PAREnsurePlainPKCERejected", invalid, "code_challenge", verifier, "code_challenge_method", "plain"),
		atPAR("PARRejectRequestUriInParAuthorizationFormParams", invalid, "request_uri", pushedURN+strings.Repeat("A", 43)),
		{name: "EnsureUnsignedAuthorizationRequestWithoutUsingParFails", run: func(t *testing.T) {
			c, a := p.fapi(t), p.agent(t)
			c.push = false
			if back := c.authorize(a); back.Get("error") != "invalid_request" || back.Has("code") {
				t.Error(back)
			}
			a.sees()
		}},
	}
}

// fapiClients are about who shows a code.
func fapiClients(p *provider) []module {
	// atToken shows a good code in a spoiled request.
	atToken := func(name string, codes []string, spoil func(t *testing.T, c *party) func(url.Values, http.Header)) module {
		return module{name: name, run: func(t *testing.T) {
			c := p.fapi(t)
			code := c.code(p.agent(t))
			c.refused(c.redeem(code, spoil(t, c)), codes...)
		}}
	}
	client := []string{"invalid_client"}
	asserting := func(changes map[string]any) func(*testing.T, *party) func(url.Values, http.Header) {
		return func(_ *testing.T, c *party) func(url.Values, http.Header) { return c.claims(changes) }
	}
	doing := func(f func(url.Values, http.Header)) func(*testing.T, *party) func(url.Values, http.Header) {
		return func(*testing.T, *party) func(url.Values, http.Header) { return f }
	}
	grant := []string{"invalid_grant"}
	return []module{
		atToken("EnsureClientIdInTokenEndpoint", client, func(t *testing.T, _ *party) func(url.Values, http.Header) { return setting("client_id", p.fapi(t).id) }),
		atToken("EnsureHolderOfKeyRequired", []string{"invalid_dpop_proof", "invalid_request", "invalid_grant"}, doing(func(_ url.Values, h http.Header) { h.Del("DPoP") })),
		{name: "EnsureAuthorizationCodeIsBoundToClient", run: func(t *testing.T) {
			c, other := p.fapi(t), p.fapi(t)
			code := c.code(p.agent(t))
			other.proofs = c.proofs
			other.refused(other.redeem(code), "invalid_grant")
			c.tokens(code) // a stranger's attempt does not burn it
		}},
		{name: "AttemptReuseAuthorizationCodeAfterOneSecond", run: func(t *testing.T) {
			c := p.fapi(t)
			code := c.code(p.agent(t))
			tokens := c.tokens(code)
			p.exec(`UPDATE authorization_codes SET expires = expires - 1000, consumed = CASE WHEN consumed = 0 THEN 0 ELSE consumed - 1000 END`)
			c.refused(c.redeem(code), "invalid_grant")
			eventually(t, "its access token lives on", func() bool { return c.userinfo(tokens.text("access_token")).Code == http.StatusUnauthorized })
		}},
		{name: "AttemptToUseExpiredAuthCode", run: func(t *testing.T) {
			c := p.fapi(t)
			code := c.code(p.agent(t))
			p.exec(`UPDATE authorization_codes SET expires = expires - 60000 WHERE consumed = 0`)
			c.refused(c.redeem(code), "invalid_grant")
		}},
		{name: "EnsureSignedClientAssertionWithRS256Fails", run: func(t *testing.T) {
			c := p.fapi(t)
			key, err := rsa.GenerateKey(rand.Reader, 2048)
			ok(t, err)
			keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "rsa"}}})
			ok(t, err)
			known, err := p.Client(t.Context(), c.id)
			ok(t, err)
			m := known.Metadata
			m.JWKS = keys
			_, err = p.UpdateClient(t.Context(), "test", c.id, 0, m)
			ok(t, err)
			signed := func(alg jose.SignatureAlgorithm) func(url.Values, http.Header) {
				return func(v url.Values, _ http.Header) {
					s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: "rsa"}}, nil)
					ok(t, err)
					now := time.Now().Unix()
					body, err := json.Marshal(map[string]any{"iss": c.id, "sub": c.id, "aud": issuer, "jti": rand.Text(), "iat": now, "exp": now + 30})
					ok(t, err)
					jws, err := s.Sign(body)
					ok(t, err)
					raw, err := jws.CompactSerialize()
					ok(t, err)
					v.Set("client_assertion", raw)
				}
			}
			c.refused(c.call("/par", c.request(), signed(jose.RS256)), "invalid_client")
			if a := c.call("/par", c.request(), signed(jose.PS256)); a.Code != http.StatusCreated {
				t.Errorf("the same key with PS256: %d %s", a.Code, a.Body)
			}
			c.refused(c.redeem("ghc_x", signed(jose.RS256)), "invalid_client")
		}},
		atToken("EnsureClientAssertionInTokenEndpoint", []string{"invalid_client", "invalid_request"}, doing(without("client_assertion", "client_assertion_type"))),
		atToken("EnsureClientAssertionWithExpIs5MinutesInPastFails", client, asserting(map[string]any{"exp": time.Now().Unix() - 300, "iat": time.Now().Unix() - 330})),
		atToken("EnsureClientAssertionWithWrongAudFails", client, asserting(map[string]any{"aud": "https://other.example/"})),
		atToken("EnsureClientAssertionWithNoSubFails", client, asserting(map[string]any{"sub": nil})),
		atToken("PAREnsurePKCECodeVerifierRequired", grant, doing(without("code_verifier"))),
		atToken("PARIncorrectPKCECodeVerifierRejected", grant, doing(setting("code_verifier", strings.Repeat("x", 43)))),
		{name: "RefreshToken", run: func(t *testing.T) {
			c, other, a := p.fapi(t), p.fapi(t), p.agent(t)
			refreshModule(t, c, other, a)
			tokens := c.tokens(c.code(a))
			raw := tokens.text("refresh_token")
			c.refused(c.call("/token", refresh(raw), without("client_assertion", "client_assertion_type")), "invalid_client", "invalid_request")
			c.refused(c.call("/token", refresh(raw), func(_ url.Values, h http.Header) { h.Del("DPoP") }), "invalid_request", "invalid_grant", "invalid_dpop_proof")
			if next := c.call("/token", refresh(raw)); next.Code != http.StatusOK {
				t.Error("a failed attempt ended it:", next.Body)
			}
		}},
	}
}

// fapiPushed are about the endpoint of pushed requests, and what it gives.
func fapiPushed(p *provider) []module {
	push := func(t *testing.T, c *party) string {
		t.Helper()
		a := c.call("/par", c.request())
		if a.Code != http.StatusCreated || a.text("request_uri") == "" || a.json["expires_in"] == nil {
			t.Fatal(a.Code, a.Body)
		}
		return a.text("request_uri")
	}
	visit := func(a *agent, client, uri string) *screen {
		return a.visit(issuer + "/authorize?" + byReference(client, uri).Encode())
	}
	// asserted is a push whose assertion is another one.
	asserted := func(name string, good bool, changes func() map[string]any) module {
		return module{name: name, run: func(t *testing.T) {
			c := p.fapi(t)
			a := c.call("/par", c.request(), c.claims(changes()))
			if good && a.Code != http.StatusCreated {
				t.Error(a.Code, a.Body)
			} else if !good {
				c.refused(a, "invalid_client", "invalid_request")
			}
		}}
	}
	aud := func(v any) func() map[string]any { return func() map[string]any { return map[string]any{"aud": v} } }
	ahead := func(seconds int64) func() map[string]any {
		return func() map[string]any {
			at := time.Now().Unix() + seconds
			return map[string]any{"iat": at, "nbf": at, "exp": at + 30}
		}
	}
	return []module{
		{name: "PAREnsureServerAcceptsReusedRequestUriBeforeAuthenticationCompletion", run: func(t *testing.T) {
			c, a := p.fapi(t), p.agent(t)
			uri := push(t, c)
			first := visit(a, c.id, uri)
			if first.to != "/auth/signin" {
				t.Fatal(first.Code, first.Body)
			}
			c.identity(c.tokens(a.back(a.answer(visit(a, c.id, uri))).Get("code")))
			// What waited since the first visit has been answered with that.
			a.stays(a.visit(issuer + "/authorize/continue?request=" + first.form.Get("request")))
		}},
		{name: "PARAttemptReuseRequestUri", run: func(t *testing.T) {
			c, a := p.fapi(t), p.agent(t)
			uri := push(t, c)
			c.tokens(a.back(a.answer(visit(a, c.id, uri))).Get("code"))
			a.stays(visit(a, c.id, uri))
		}},
		{name: "PARAttemptToUseExpiredRequestUri", run: func(t *testing.T) {
			c, a := p.fapi(t), p.agent(t)
			uri := push(t, c)
			p.exec(`UPDATE requests SET expires = expires - 60000 WHERE kind = 'pushed' AND client = $1`, c.id)
			a.stays(visit(a, c.id, uri))
		}},
		asserted("PAREnsureJWTClientAssertionWithIatNbf8SecondsInTheFutureIsAccepted", true, ahead(8)),
		asserted("PAREnsureJWTClientAssertionWithIatNbfOver60SecondsInTheFutureFails", false, ahead(65)),
		{name: "PAREnsureRequestUriIsBoundToClient", run: func(t *testing.T) {
			c, other, a := p.fapi(t), p.fapi(t), p.agent(t)
			uri := push(t, c)
			a.stays(visit(a, other.id, uri))
			c.tokens(a.back(a.answer(visit(a, c.id, uri))).Get("code"))
		}},
		{name: "PARRejectInvalidHttpVerb", run: func(t *testing.T) {
			c := p.fapi(t)
			if a := wire(t, c.http, wants(t, http.MethodPut, issuer+"/par", c.request())); a.Code != http.StatusMethodNotAllowed || a.json["request_uri"] != nil {
				t.Error(a.Code, a.Body)
			}
		}},
		{name: "ParWithoutDuplicateParameters", run: func(t *testing.T) {
			c, a := p.fapi(t), p.agent(t)
			c.identity(c.tokens(a.back(a.answer(visit(a, c.id, push(t, c)))).Get("code")))
		}},
		asserted("PAREndpointAsArrayAudienceFails", false, aud([]string{issuer, issuer + "/par"})),
		asserted("PAREndpointAsAudienceFails", false, aud(issuer+"/par")),
		asserted("PARTokenEndpointAsAudienceFails", false, aud(issuer+"/token")),
	}
}

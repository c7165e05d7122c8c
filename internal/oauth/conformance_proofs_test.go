package oauth_test

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

// fapiProofs are about DPoP (RFC 9449).
func fapiProofs(p *provider) []module {
	// throughout makes every proof of a flow with other claims.
	throughout := func(name string, changes func() map[string]any) module {
		return module{name: name, run: func(t *testing.T) {
			c, a := p.fapi(t), p.agent(t)
			pushed := c.call("/par", c.request(), proving(c.proofs, "/par", changes()))
			if pushed.Code != http.StatusCreated {
				t.Fatal(pushed.Code, pushed.Body)
			}
			code := a.back(a.answer(a.visit(issuer + "/authorize?" + byReference(c.id, pushed.text("request_uri")).Encode()))).Get("code")
			tokens := c.redeem(code, proving(c.proofs, "/token", changes()))
			if tokens.Code != http.StatusOK {
				t.Fatal(tokens.Code, tokens.Body)
			}
			more := changes()
			more["ath"] = hashOf(tokens.text("access_token"))
			who := c.userinfo(tokens.text("access_token"), func(h http.Header) {
				h.Set("DPoP", c.proofs.proofOf(http.MethodGet, issuer+"/userinfo", more))
			})
			if who.Code != http.StatusOK {
				t.Error(who.Code, who.Body)
			}
		}}
	}
	at := func(seconds int64) func() map[string]any {
		return func() map[string]any { return map[string]any{"iat": time.Now().Unix() + seconds} }
	}
	// bound gets a code after a push that is changed, and redeems it with a key.
	bound := func(name string, change func(t *testing.T, c *party) (jkt string, atPAR, atToken *signingKey), codes ...string) module {
		return module{name: name, run: func(t *testing.T) {
			c, a := p.fapi(t), p.agent(t)
			jkt, first, second := change(t, c)
			c.proofs = first
			v := c.request("dpop_jkt", jkt)
			pushed := c.call("/par", v)
			code := a.back(a.answer(a.visit(issuer + "/authorize?" + byReference(c.id, pushed.text("request_uri")).Encode()))).Get("code")
			if c.proofs = second; len(codes) > 0 {
				c.refused(c.redeem(code), codes...)
				return
			}
			c.identity(c.tokens(code))
		}}
	}
	return []module{
		throughout("CheckDpopProofNbfExp", func() map[string]any {
			return map[string]any{"nbf": time.Now().Unix(), "exp": time.Now().Unix() + 300}
		}),
		throughout("EnsureDpopProofWithIat10SecondsBeforeSucceeds", at(-10)),
		throughout("EnsureDpopProofWithIat10SecondsAfterSucceeds", at(10)),
		{name: "EnsureMismatchedDpopJktFails", run: func(t *testing.T) {
			c := p.fapi(t)
			c.refused(c.call("/par", c.request("dpop_jkt", newSigningKey(t).thumbprint())), "invalid_dpop_proof", "invalid_request")
		}},
		bound("EnsureTokenEndpointFailsWithMismatchedDpopProofJkt", func(t *testing.T, c *party) (string, *signingKey, *signingKey) {
			return "", c.proofs, newSigningKey(t)
		}, "invalid_grant", "invalid_dpop_proof"),
		bound("EnsureTokenEndpointFailsWithMismatchedDpopJkt", func(t *testing.T, c *party) (string, *signingKey, *signingKey) {
			return newSigningKey(t).thumbprint(), nil, c.proofs
		}, "invalid_grant", "invalid_dpop_proof"),
		bound("EnsureDpopProofAtParEndpointBindingSuccess", func(_ *testing.T, c *party) (string, *signingKey, *signingKey) {
			return "", c.proofs, c.proofs
		}),
		bound("EnsureDpopAuthCodeBindingSuccess", func(_ *testing.T, c *party) (string, *signingKey, *signingKey) {
			return c.proofs.thumbprint(), c.proofs, c.proofs
		}),
		{name: "DpopNegativeTests", run: func(t *testing.T) { dpopNegative(t, p) }},
	}
}

func hashOf(access string) string {
	sum := sha256.Sum256([]byte(access))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// dpopNegative takes one good token to userinfo with proofs that are wrong in one
// way each.
func dpopNegative(t *testing.T, p *provider) {
	t.Helper()
	c := p.fapi(t)
	access := c.tokens(c.code(p.agent(t))).text("access_token")
	target, key := issuer+"/userinfo", c.proofs
	send := func(change func(h http.Header)) *reply { return c.userinfo(access, change) }
	type part = map[string]any
	made := func(sign *signingKey, change func(head, claims part)) string {
		head := part{"typ": "dpop+jwt", "alg": "ES256", "jwk": key.jwk}
		claims := part{"jti": rand.Text(), "htm": "GET", "htu": target, "iat": time.Now().Unix(), "ath": hashOf(access)}
		change(head, claims)
		return sign.sign(head, claims)
	}
	good := func(part, part) {}
	for _, tt := range []struct {
		name   string
		good   bool
		change func(head, claims part)
	}{
		{"no typ", false, func(h, _ part) { delete(h, "typ") }},
		{"no alg", false, func(h, _ part) { delete(h, "alg") }},
		{"no jwk", false, func(h, _ part) { delete(h, "jwk") }},
		{"no jti", false, func(_, c part) { delete(c, "jti") }},
		{"no htm", false, func(_, c part) { delete(c, "htm") }},
		{"no htu", false, func(_, c part) { delete(c, "htu") }},
		{"no iat", false, func(_, c part) { delete(c, "iat") }},
		{"no ath", false, func(_, c part) { delete(c, "ath") }},
		{"another typ", false, func(h, _ part) { h["typ"] = "jwt" }},
		{"an algorithm that is not allowed", false, func(h, _ part) { h["alg"] = "RS256" }},
		{"no signature at all", false, func(h, _ part) { h["alg"] = "none" }},
		{"a private key", false, func(h, _ part) {
			h["jwk"] = part{"kty": "EC", "crv": "P-256", "x": key.jwk["x"], "y": key.jwk["y"], "d": key.jwk["x"]}
		}},
		{"another method", false, func(_, c part) { c["htm"] = "PUT" }},
		{"a query and a fragment, which do not count", true, func(_, c part) { c["htu"] = target + "?a=b#c" }},
		{"another URL", false, func(_, c part) { c["htu"] = "https://www.example.com/userinfo" }},
		{"an hour ahead", false, func(_, c part) { c["iat"] = time.Now().Unix() + 3600 }},
		{"an hour old", false, func(_, c part) { c["iat"] = time.Now().Unix() - 3600 }},
		{"the hash of another token", false, func(_, c part) { c["ath"] = hashOf("another") }},
		{"what nobody knows, which does not count", true, func(h, c part) { h["extra"], c["extra"] = "1", "2" }},
		{"scheme and host in capitals", true, func(_, c part) { c["htu"] = strings.Replace(target, "https://id.example", "HTTPS://ID.EXAMPLE", 1) }},
		{"the port that https has anyway", true, func(_, c part) { c["htu"] = strings.Replace(target, "id.example", "id.example:443", 1) }},
	} {
		a := send(func(h http.Header) { h.Set("DPoP", made(key, tt.change)) })
		if tt.good != (a.Code == http.StatusOK) || !tt.good && a.Code != http.StatusUnauthorized && a.Code != http.StatusBadRequest {
			t.Errorf("a proof with %s: %d %s", tt.name, a.Code, a.Body)
		}
	}
	twice := made(key, good)
	signature := made(key, good)
	signature = signature[:len(signature)-8] + "AAAAAAAA"
	for _, tt := range []struct {
		name   string
		good   bool
		change func(h http.Header)
	}{
		{"a header in capitals", true, func(h http.Header) { h["DPOP"] = h["Dpop"]; delete(h, "Dpop") }},
		{"two proofs", false, func(h http.Header) { h.Add("DPoP", made(key, good)) }},
		{"no JWT", false, func(h http.Header) { h.Set("DPoP", "notajwt") }},
		{"a spoiled signature", false, func(h http.Header) { h.Set("DPoP", signature) }},
		{"another key's signature", false, func(h http.Header) { h.Set("DPoP", made(newSigningKey(t), good)) }},
		{"another key", false, func(h http.Header) {
			other := newSigningKey(t)
			h.Set("DPoP", made(other, func(head, _ part) { head["jwk"] = other.jwk }))
		}},
		{"a proof for the first time", true, func(h http.Header) { h.Set("DPoP", twice) }},
		{"a proof for the second time", false, func(h http.Header) { h.Set("DPoP", twice) }},
		{"no proof", false, func(h http.Header) { h.Del("DPoP") }},
		{"no proof, as Bearer", false, func(h http.Header) { h.Del("DPoP"); h.Set("Authorization", "Bearer "+access) }},
		{"a good proof, at last", true, func(http.Header) {}},
	} {
		if a := send(tt.change); tt.good != (a.Code == http.StatusOK) || !tt.good && a.Code != http.StatusUnauthorized && a.Code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", tt.name, a.Code, a.Body)
		}
	}
}

// withCertificates registers a client that proves itself, and binds its tokens, by
// a self-signed certificate on its connections (RFC 8705).
func (p *provider) withCertificates(t *testing.T) *party {
	t.Helper()
	key := newSigningKey(t)
	made := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "rp"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, made, made, &key.private.PublicKey, key.private)
	ok(t, err)
	jwks, err := json.Marshal(map[string]any{"keys": []any{map[string]any{
		"kty": "EC", "crv": "P-256", "x": key.jwk["x"], "y": key.jwk["y"], "x5c": []string{base64.StdEncoding.EncodeToString(der)},
	}}})
	ok(t, err)
	c := p.party(t, func(m *oauth.Metadata) {
		m.TokenEndpointAuthMethod, m.JWKS, m.TLSBoundTokens = "self_signed_tls_client_auth", jwks, true
	})
	c.http, c.push = p.http(tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key.private}), true
	return c
}

// TestFAPI2ModulesOverMTLS are the modules of the same plan that are not the same
// with certificates: client_auth_type mtls, sender_constrain mtls.
func TestFAPI2ModulesOverMTLS(t *testing.T) {
	p := newProvider(t, func(c *oauth.Config) { c.Profile = oauth.FAPI2 })
	conform(t, "FAPI 2.0 Security Profile Final with certificates", []module{
		{name: "FAPI2SPFinalHappyFlow", run: func(t *testing.T) {
			c, other := p.withCertificates(t), p.withCertificates(t)
			tokens := c.tokens(c.code(p.agent(t)))
			c.identity(tokens)
			access := p.claims(tokens.text("access_token"), "at+jwt")
			if cnf, _ := access["cnf"].(map[string]any); cnf["x5t#S256"] == nil {
				t.Error(access)
			}
			if who := c.userinfo(tokens.text("access_token")); who.Code != http.StatusOK {
				t.Error(who.Code, who.Body)
			}
			for name, thief := range map[string]*http.Client{"another certificate": other.http, "no certificate": p.http()} {
				c := *c
				c.http = thief
				if who := c.userinfo(tokens.text("access_token")); who.Code != http.StatusUnauthorized {
					t.Errorf("%s: %d %s", name, who.Code, who.Body)
				}
			}
		}},
		{name: "FAPI2SPFinalEnsureHolderOfKeyRequired", run: func(t *testing.T) {
			c := p.withCertificates(t)
			code := c.code(p.agent(t))
			c.http = p.http()
			c.refused(c.redeem(code), "invalid_client", "invalid_request")
		}},
		{name: "FAPI2SPFinalEnsureAuthorizationCodeIsBoundToClient", run: func(t *testing.T) {
			c, other := p.withCertificates(t), p.withCertificates(t)
			code := c.code(p.agent(t))
			other.refused(other.redeem(code), "invalid_grant")
			other.refused(other.redeem(code, func(v url.Values, _ http.Header) { v.Set("client_id", c.id) }), "invalid_client")
		}},
		{name: "FAPI2SPFinalRefreshToken", run: func(t *testing.T) {
			c, other, a := p.withCertificates(t), p.withCertificates(t), p.agent(t)
			refreshModule(t, c, other, a)
			raw := c.tokens(c.code(a)).text("refresh_token")
			c.http = p.http()
			c.refused(c.call("/token", refresh(raw)), "invalid_client", "invalid_request")
		}},
	})
}

package interop_test

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// A malformed request, and where we mean to answer it otherwise than the peer:
// what we answer then, and why.
type malformed struct {
	name  string
	at    string
	edits []edit
	ours  string // "": like the peer
	why   string
}

func rows() []malformed {
	const (
		page   = "4xx page"
		device = "urn:ietf:params:oauth:grant-type:device_code"
	)
	const ( // reasons given more than once
		gateway    = "the gateway refuses it before the endpoint, as for every API: RFC 9457, not RFC 6749"
		oneMethod  = "a client proves itself by the one method it is registered for"
		notProven  = "RFC 6749 §5.2: authentication that is missing, malformed or unknown is invalid_client"
		strict     = "what no form has is refused, not repaired: another reader may repair it differently"
		scopes     = "RFC 6749 §5.2: an unknown scope is invalid_scope; a client that is given less than it asked for finds out too late"
		registered = "RFC 6749 §5.2: a client that is not registered for a grant type is unauthorized_client"
	)
	long := strings.Repeat("x", 70_000)
	now := time.Now().Unix()
	e := func(edits ...edit) []edit { return edits }
	return []malformed{
		// The authorization endpoint.
		{"a good request", "authorize", nil, "", ""},
		{"a good request, posted", "authorize", e(method(http.MethodPost)), "", ""},
		{"no client_id", "authorize", e(without("client_id")), "", ""},
		{"an unknown client", "authorize", e(set("client_id", "nobody")), "", ""},
		{"client_id twice", "authorize", e(twice("client_id")), "", ""},
		{"another redirect_uri", "authorize", e(set("redirect_uri", "https://evil.example/")), "", ""},
		{"redirect_uri with a longer path", "authorize", e(set("redirect_uri", app+"/more")), "", ""},
		{"redirect_uri with a query", "authorize", e(set("redirect_uri", app+"?x=1")), "", ""},
		{"redirect_uri with a fragment", "authorize", e(set("redirect_uri", app+"#x")), "", ""},
		{"redirect_uri in capitals", "authorize", e(set("redirect_uri", "https://APP.example/callback")), "", ""},
		{"redirect_uri with a user", "authorize", e(set("redirect_uri", "https://app.example@evil.example/callback")), "", ""},
		{"redirect_uri with dots", "authorize", e(set("redirect_uri", "https://app.example/x/../callback")), "", ""},
		{"redirect_uri is a script", "authorize", e(set("redirect_uri", "javascript:alert(1)")), "", ""},
		{"redirect_uri twice", "authorize", e(twice("redirect_uri")), page, "of two nobody knows which is the client: no redirect (RFC 9700 §4.11)"},
		{"no redirect_uri", "authorize", e(without("redirect_uri")), page, "OpenID Connect Core §3.1.2.1 requires it"},
		{"no response_type", "authorize", e(without("response_type")), "", ""},
		{"response_type token", "authorize", e(set("response_type", "token")), "", ""},
		{"response_type code id_token", "authorize", e(set("response_type", "code id_token")), "", ""},
		{"response_type none", "authorize", e(set("response_type", "none")), "", ""},
		{"response_type twice", "authorize", e(twice("response_type")), "", ""},
		{"response_mode unknown", "authorize", e(set("response_mode", "smoke")), "redirects with invalid_request", "unsupported_response_mode is no registered code"},
		{"response_mode fragment", "authorize", e(set("response_mode", "fragment")), "redirects with invalid_request", "query and form_post is what our metadata offers: fragments stay in histories and reach scripts"},
		{"scope unknown", "authorize", e(set("scope", "openid nonsense")), "redirects with invalid_scope", scopes},
		{"scope of others", "authorize", e(set("client_id", "pub"), set("scope", "openid email")), "", ""},
		{"scope twice", "authorize", e(twice("scope")), "", ""},
		{"state twice", "authorize", e(twice("state")), "", ""},
		{"no PKCE", "authorize", e(without("code_challenge", "code_challenge_method")), "", ""},
		{"PKCE plain", "authorize", e(set("code_challenge_method", "plain")), "", ""},
		{"PKCE without a method", "authorize", e(without("code_challenge_method")), "", ""},
		{"PKCE unknown method", "authorize", e(set("code_challenge_method", "S512")), "", ""},
		{"a short code_challenge", "authorize", e(set("code_challenge", "abc")), "", ""},
		{"a code_challenge with other letters", "authorize", e(set("code_challenge", strings.Repeat("+", 43))), "", ""},
		{"prompt none, nobody signed in", "authorize", e(set("prompt", "none")), "", ""},
		{"prompt none and login", "authorize", e(set("prompt", "none login")), "", ""},
		{"prompt unknown", "authorize", e(set("prompt", "dance")), "", ""},
		{"max_age negative", "authorize", e(set("max_age", "-1")), "", ""},
		{"max_age a word", "authorize", e(set("max_age", "soon")), "", ""},
		{"a request object", "authorize", e(set("request", "eyJhbGciOiJub25lIn0.e30.")), "", ""},
		{"a request_uri of others", "authorize", e(set("request_uri", "https://evil.example/request")), "", ""},
		{"a request_uri never given", "authorize", e(set("request_uri", "urn:ietf:params:oauth:request_uri:unknown")), page, "RFC 9126 §4: with a request_uri of ours, what else is in the query counts for nothing, its redirect_uri neither"},
		{"registration", "authorize", e(set("registration", "{}")), "", ""},
		{"claims that are no JSON", "authorize", e(set("claims", "{")), "", ""},
		{"claims that are a list", "authorize", e(set("claims", "[]")), "", ""},
		{"an id_token_hint that is none", "authorize", e(set("id_token_hint", "x.y.z")), "", ""},
		{"a resource with fragment", "authorize", e(set("resource", "https://api.example/#x")), "", ""},
		{"an unknown resource", "authorize", e(set("resource", "https://elsewhere.example/")), "", ""},
		{"a relative resource", "authorize", e(set("resource", "/api")), "", ""},
		{"a dpop_jkt that is none", "authorize", e(set("dpop_jkt", "x")), "redirects with invalid_request", "no key could ever redeem the code"},
		{"parameters that are no form", "authorize", e(func(_ *testing.T, _ *peer, a *ask) { a.raw = a.form.Encode() + "&x=%zz" }), "4xx", gateway},
		{"by PUT", "authorize", e(method(http.MethodPut)), "4xx", gateway},

		// Pushed requests.
		{"a good pushed request", "par", nil, "", ""},
		{"a pushed request without authentication", "par", e(header("Authorization")), "", ""},
		{"a pushed request with a wrong secret", "par", e(basic("web", "wrong")), "", ""},
		{"a pushed request of another client", "par", e(set("client_id", "poster")), "4xx invalid_client", notProven},
		{"a pushed request with request_uri", "par", e(set("request_uri", "urn:ietf:params:oauth:request_uri:x")), "4xx invalid_request", "RFC 9126 §2.1"},
		{"a pushed request with another redirect_uri", "par", e(set("redirect_uri", "https://evil.example/")), "", ""},
		{"a pushed request without PKCE", "par", e(without("code_challenge", "code_challenge_method")), "", ""},
		{"a pushed request with response_type token", "par", e(set("response_type", "token")), "", ""},
		{"a pushed request with unknown scope", "par", e(set("scope", "openid nonsense")), "4xx invalid_scope", scopes},
		{"a pushed request with a parameter twice", "par", e(twice("scope")), "", ""},
		{"a pushed request in JSON", "par", e(body(`{"client_id":"web"}`, "application/json")), "", ""},
		{"a pushed request by GET", "par", e(method(http.MethodGet)), "", ""},
		{"a pushed request that is too long", "par", e(set("state", long)), "4xx", gateway},

		// The token endpoint: the code.
		{"a good code", "code", nil, "", ""},
		{"a code without redirect_uri", "code", e(without("redirect_uri")), "", ""},
		{"a code with another redirect_uri", "code", e(set("redirect_uri", "https://evil.example/")), "", ""},
		{"a code with another verifier", "code", e(set("code_verifier", strings.Repeat("x", 43))), "", ""},
		{"a code with a short verifier", "code", e(set("code_verifier", "x")), "4xx invalid_grant", "RFC 7636 §4.6: a verifier that is not the one is invalid_grant, however it is wrong"},
		{"a code with a long verifier", "code", e(set("code_verifier", strings.Repeat("x", 129))), "4xx invalid_grant", "RFC 7636 §4.6: a verifier that is not the one is invalid_grant, however it is wrong"},
		{"a code without verifier", "code", e(without("code_verifier")), "", ""},
		{"no code", "code", e(without("code")), "", ""},
		{"an unknown code", "code", e(set("code", "unknown")), "", ""},
		{"a code twice in a request", "code", e(twice("code")), "", ""},
		{"another client's code", "code", e(func(t *testing.T, p *peer, a *ask) { a.form.Set("code", p.mint(t, "pub")) }), "", ""},
		{"a code by a client that is not registered for codes", "code", e(as("poster")), "4xx unauthorized_client", registered},
		{"a code with an unknown resource", "code", e(set("resource", "https://elsewhere.example/")), "", ""},

		// The token endpoint: the rest.
		{"good client credentials", "client", nil, "", ""},
		{"no grant_type", "client", e(without("grant_type")), "", ""},
		{"grant_type unknown", "client", e(set("grant_type", "wish")), "", ""},
		{"grant_type password", "client", e(set("grant_type", "password"), set("username", "u"), set("password", "p")), "", ""},
		{"grant_type implicit", "client", e(set("grant_type", "implicit")), "", ""},
		{"grant_type twice", "client", e(twice("grant_type")), "", ""},
		{"a grant type of other clients", "client", e(set("grant_type", device), set("device_code", "x")), "4xx unauthorized_client", registered},
		{"scope unknown to a client", "client", e(set("scope", "nonsense")), "4xx invalid_scope", scopes},
		{"a scope of users for a client", "client", e(set("scope", "openid")), "4xx invalid_scope", scopes},
		{"a scope with quotes", "client", e(set("scope", `a"b`)), "", ""},
		{"client credentials of a public client", "client", e(header("Authorization"), set("client_id", "pub")), "4xx unauthorized_client", registered},
		{"an unknown refresh token", "refresh", nil, "", ""},
		{"no refresh token", "refresh", e(without("refresh_token")), "", ""},
		{"an access token as refresh token", "refresh", e(func(_ *testing.T, p *peer, a *ask) { a.form.Set("refresh_token", p.token) }), "", ""},
		{"token by GET", "client", e(method(http.MethodGet)), "", ""},
		{"token by PUT", "client", e(method(http.MethodPut)), "", ""},
		{"a body in JSON", "client", e(body(`{"grant_type":"client_credentials"}`, "application/json")), "", ""},
		{"a body in multipart", "client", e(body("--x\r\n\r\n--x--", "multipart/form-data; boundary=x")), "", ""},
		{"a body without a type", "client", e(body("grant_type=client_credentials", "")), "", ""},
		{"a body that is no form", "client", e(tail("&x=%zz")), "4xx invalid_request", strict},
		{"a body with a byte that is no UTF-8", "client", e(tail("&x=%ff")), "4xx invalid_request", strict},
		{"a body that is too long", "client", e(set("x", long)), "4xx", gateway},
		{"an empty body", "client", e(body("", "application/x-www-form-urlencoded"), func(_ *testing.T, _ *peer, a *ask) { clear(a.form) }), "", ""},
		{"parameters in the URL", "client", e(func(_ *testing.T, _ *peer, a *ask) { a.query, a.raw = a.form.Encode(), "x=1" }), "", ""},

		// Who the client is.
		{"no authentication at all", "client", e(header("Authorization")), "4xx invalid_client", notProven},
		{"a wrong secret", "client", e(basic("web", "wrong")), "", ""},
		{"an empty secret", "client", e(basic("web", "")), "4xx invalid_client", notProven},
		{"an unknown client's secret", "client", e(basic("nobody", "secret")), "", ""},
		{"two Authorization headers", "client", e(header("Authorization", "Basic eDp5", "Basic eDp5")), "4xx", gateway},
		{"Basic that is no base64", "client", e(header("Authorization", "Basic !!!")), "4xx invalid_client", notProven},
		{"Basic without a colon", "client", e(header("Authorization", "Basic eHl6")), "4xx invalid_client", notProven},
		{"Bearer instead of Basic", "client", e(header("Authorization", "Bearer x")), "4xx invalid_client", notProven},
		{"Basic and the secret in the body", "client", e(func(_ *testing.T, p *peer, a *ask) { a.form.Set("client_secret", p.secrets["web"]) }), "", ""},
		{"Basic and another client_id", "client", e(set("client_id", "poster")), "4xx invalid_client", notProven},
		{"the secret in the body of a client that uses Basic", "client", e(header("Authorization"), func(_ *testing.T, p *peer, a *ask) {
			a.form.Set("client_id", "web")
			a.form.Set("client_secret", p.secrets["web"])
		}), "4xx invalid_client", oneMethod},
		{"Basic of a client that sends its secret in the body", "client", e(basic("poster")), "4xx invalid_client", oneMethod},
		{"a secret for a public client", "client", e(basic("pub", "x")), "", ""},
		{"a secret for a client with a key", "client", e(basic("signer", "x")), "", ""},

		// Client assertions.
		{"a good assertion", "assertion", nil, "", ""},
		{"an expired assertion", "assertion", e(signed("ES256", map[string]any{"exp": now - 120, "iat": now - 180}, nil)), "", ""},
		{"an assertion without exp", "assertion", e(signed("ES256", map[string]any{"exp": nil}, nil)), "", ""},
		{"an assertion without jti", "assertion", e(signed("ES256", map[string]any{"jti": nil}, nil)), "", ""},
		{"an assertion for another server", "assertion", e(signed("ES256", map[string]any{"aud": "https://evil.example"}, nil)), "", ""},
		{"an assertion for a list of servers", "assertion", e(func(t *testing.T, p *peer, a *ask) {
			signed("ES256", map[string]any{"aud": []string{p.issuer, "https://evil.example"}}, nil)(t, p, a)
		}), "4xx invalid_client", "another server of the list could use it here (RFC 7523bis)"},
		{"an assertion for the token endpoint", "assertion", e(func(t *testing.T, p *peer, a *ask) {
			signed("ES256", map[string]any{"aud": p.issuer + "/token"}, nil)(t, p, a)
		}), "4xx invalid_client", "the issuer is the one name of this server that no other can claim in its metadata (RFC 7523bis)"},
		{"an assertion without aud", "assertion", e(signed("ES256", map[string]any{"aud": nil}, nil)), "", ""},
		{"an assertion of another client", "assertion", e(signed("ES256", map[string]any{"iss": "web", "sub": "web"}, nil)), "", ""},
		{"an assertion whose sub is another", "assertion", e(signed("ES256", map[string]any{"sub": "web"}, nil)), "", ""},
		{"an assertion not valid yet", "assertion", e(signed("ES256", map[string]any{"nbf": now + 3600}, nil)), "", ""},
		{"an assertion good for a year", "assertion", e(signed("ES256", map[string]any{"exp": now + 365*86400}, nil)), "4xx invalid_client", "five minutes are enough, and bound what must be remembered of replays"},
		{"an assertion with alg none", "assertion", e(signed("none", nil, nil)), "", ""},
		{"an assertion with alg HS256", "assertion", e(signed("HS256", nil, nil)), "", ""},
		{"an assertion that is a proof", "assertion", e(signed("ES256", nil, map[string]any{"typ": "dpop+jwt"})), "4xx invalid_client", "RFC 8725 §3.11: a JWT of one kind is not taken for another"},
		{"an assertion with crit", "assertion", e(signed("ES256", nil, map[string]any{"crit": []string{"x"}, "x": 1})), "", ""},
		{"an assertion that is no JWT", "assertion", e(set("client_assertion", "x")), "4xx invalid_client", notProven},
		{"an assertion of another type", "assertion", e(set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer")), "4xx invalid_client", notProven},
		{"an assertion without its type", "assertion", e(without("client_assertion_type")), "4xx invalid_client", notProven},
		{"a type without its assertion", "assertion", e(without("client_assertion")), "4xx invalid_client", notProven},
		{"an assertion and another client_id", "assertion", e(set("client_id", "web")), "4xx invalid_client", notProven},
		{"an assertion and Basic", "assertion", e(basic("web")), "", ""},

		// DPoP.
		{"a good proof", "client", e(proof(nil, nil)), "", ""},
		{"a proof without nonce", "client", e(proof(map[string]any{"nonce": nil}, nil)), "", ""},
		{"a proof with a nonce of others", "client", e(proof(map[string]any{"nonce": "x"}, nil)), "", ""},
		{"a proof for another method", "client", e(proof(map[string]any{"htm": "GET"}, nil)), "", ""},
		{"a proof for another URL", "client", e(proof(map[string]any{"htu": "https://evil.example/token"}, nil)), "", ""},
		{"a proof without jti", "client", e(proof(map[string]any{"jti": nil}, nil)), "", ""},
		{"a proof without iat", "client", e(proof(map[string]any{"iat": nil}, nil)), "", ""},
		{"a proof of another type", "client", e(proof(nil, map[string]any{"typ": "JWT"})), "", ""},
		{"a proof with a private key in it", "client", e(proof(nil, map[string]any{"jwk": "private"})), "", ""},
		{"a proof with another key in it", "client", e(proof(nil, map[string]any{"jwk": map[string]any{"kty": "oct", "k": "AAAA"}})), "", ""},
		{"a proof that is no JWT", "client", e(header("DPoP", "x")), "", ""},
		{"an empty proof", "client", e(header("DPoP", "")), "4xx invalid_dpop_proof", "a client that sends the header wants a bound token, and must not get a bearer token instead"},
		{"two proofs", "client", e(header("DPoP", "x", "y")), "4xx", gateway},

		// The device flow.
		{"a good device", "device_authorization", nil, "", ""},
		{"a device of an unknown client", "device_authorization", e(set("client_id", "nobody")), "", ""},
		{"a device of a client without that grant", "device_authorization", e(set("client_id", "pub")), "4xx unauthorized_client", registered},
		{"a device without client_id", "device_authorization", e(without("client_id")), "", ""},
		{"a device with unknown scope", "device_authorization", e(set("scope", "nonsense")), "4xx invalid_scope", scopes},
		{"a device by GET", "device_authorization", e(method(http.MethodGet)), "", ""},
		{"an unknown device_code", "device", nil, "", ""},
		{"no device_code", "device", e(without("device_code")), "", ""},

		// Introspection, revocation, userinfo.
		{"introspection of what is no token", "introspect", nil, "", ""},
		{"introspection of nothing", "introspect", e(without("token")), "", ""},
		{"introspection without authentication", "introspect", e(header("Authorization")), "4xx invalid_client", notProven},
		{"introspection by a public client", "introspect", e(header("Authorization"), set("client_id", "pub")), "4xx invalid_client", "anybody could try out what was found somewhere (RFC 7662 §2.1)"},
		{"introspection with a wrong secret", "introspect", e(basic("web", "wrong")), "", ""},
		{"introspection of two tokens", "introspect", e(twice("token")), "", ""},
		{"introspection with an unknown hint", "introspect", e(set("token_type_hint", "wish")), "", ""},
		{"introspection by GET", "introspect", e(method(http.MethodGet)), "", ""},
		{"introspection in JSON", "introspect", e(body(`{"token":"x"}`, "application/json")), "", ""},
		{"revocation of what is no token", "revoke", nil, "", ""},
		{"revocation of nothing", "revoke", e(without("token")), "", ""},
		{"revocation without authentication", "revoke", e(header("Authorization")), "4xx invalid_client", notProven},
		{"revocation with a wrong secret", "revoke", e(basic("web", "wrong")), "", ""},
		{"revocation with an unknown hint", "revoke", e(set("token_type_hint", "wish")), "", ""},
		{"revocation of two tokens", "revoke", e(twice("token")), "", ""},
		{"revocation by GET", "revoke", e(method(http.MethodGet)), "", ""},
		{"a good token at userinfo", "userinfo", nil, "", ""},
		{"userinfo without a token", "userinfo", e(header("Authorization")), "", ""},
		{"userinfo with what is no token", "userinfo", e(header("Authorization", "Bearer x")), "", ""},
		{"userinfo with an empty token", "userinfo", e(header("Authorization", "Bearer ")), "", ""},
		{"userinfo with Basic", "userinfo", e(basic("web")), "4xx invalid_token", "a scheme that is not ours is no token (RFC 6750 §3.1)"},
		{"userinfo with two Authorization headers", "userinfo", e(header("Authorization", "Bearer x", "Bearer y")), "4xx", gateway},
		{"userinfo with the token in the URL", "userinfo", e(header("Authorization"), func(_ *testing.T, p *peer, a *ask) { a.form.Set("access_token", p.token) }), "", ""},
		{"userinfo with the token in header and form", "userinfo", e(method(http.MethodPost), func(_ *testing.T, p *peer, a *ask) { a.form.Set("access_token", p.token) }), "", ""},
		{"userinfo with the token as DPoP", "userinfo", e(func(_ *testing.T, p *peer, a *ask) { a.header.Set("Authorization", "DPoP "+p.token) }), "4xx invalid_token", "RFC 9449 §7.1: a token that is not bound is invalid under that scheme, with a proof or without"},
	}
}

// TestPeerRefusesWhatWeRefuse sends each request to this server and to npm
// oidc-provider, a certified one: whether the client, the user or nobody is told,
// with which code and class of status, and whether there are tokens, is the same,
// or is a choice of ours that the table gives a reason for.
func TestPeerRefusesWhatWeRefuse(t *testing.T) {
	ours, theirs := peers(t)
	for _, p := range []*peer{ours, theirs} { // the answers bring a nonce
		path, a := p.good(t, "client")
		proof(map[string]any{"nonce": nil}, nil)(t, p, a)
		p.send(t, path, a)
	}
	table := rows()
	if len(table) < 80 {
		t.Fatalf("only %d requests", len(table))
	}
	for _, row := range table {
		t.Run(row.name, func(t *testing.T) {
			var got [2]string
			for i, p := range []*peer{ours, theirs} {
				path, a := p.good(t, row.at)
				for _, e := range row.edits {
					e(t, p, a)
				}
				got[i] = p.send(t, path, a)
			}
			switch {
			case row.ours == "" && got[0] != got[1]:
				t.Errorf("we: %s; the peer: %s", got[0], got[1])
			case row.ours != "" && got[0] != row.ours:
				t.Errorf("we: %s, not %s; the peer: %s", got[0], row.ours, got[1])
			case row.ours != "" && got[0] == got[1]:
				t.Errorf("both: %s; there is nothing to explain (%s)", got[0], row.why)
			}
		})
	}
}

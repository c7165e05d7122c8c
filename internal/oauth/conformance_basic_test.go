package oauth_test

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

// TestBasicModules are those of the plan for the Basic OP profile of OpenID
// Connect, with response_type code and client_secret_basic.
func TestBasicModules(t *testing.T) {
	p := newProvider(t, func(c *oauth.Config) { c.Registration = "open" })
	list := []module{
		{name: "OIDCCServerTest", run: func(t *testing.T) {
			c, a := p.party(t, nil), p.agent(t)
			back := c.authorize(a)
			a.sees("signin", "consent")
			if back.Get("state") != "s t&a=te" || back.Get("iss") != issuer {
				t.Error(back)
			}
			tokens := c.tokens(back.Get("code"))
			claims := c.identity(tokens)
			if claims["nonce"] != "n-1" || claims["at_hash"] == nil || claims["azp"] != c.id || claims["auth_time"] == nil {
				t.Error(claims)
			}
			who := c.userinfo(tokens.text("access_token"))
			if who.Code != 200 || who.json["sub"] != claims["sub"] {
				t.Error(who.Code, who.Body)
			}
		}},
		{name: "OIDCCResponseTypeMissing", run: func(t *testing.T) {
			c, a := p.party(t, nil), p.agent(t)
			if back := c.authorize(a, "response_type", ""); back.Get("error") != "invalid_request" || back.Get("state") != "s t&a=te" || back.Has("code") {
				t.Error(back)
			}
		}},
		{name: "OIDCCIdTokenSignature", run: func(t *testing.T) {
			// The suite wants RS256 where no algorithm is named. A client that an operator
			// makes has ES256 then; who needs the other says so.
			for want, change := range map[string]func(*oauth.Metadata){"ES256": nil, "RS256": func(m *oauth.Metadata) { m.IDTokenAlg = "RS256" }} {
				c := p.party(t, change)
				if _, head := c.signed(c.tokens(c.code(p.agent(t))).text("id_token")); head.Algorithm != want {
					t.Errorf("%s, want %s", head.Algorithm, want)
				}
			}
		}},
		{name: "OIDCCIdTokenUnsigned", run: func(t *testing.T) {
			if slices.Contains(lists(p.metadata(t), "id_token_signing_alg_values_supported"), "none") {
				t.Error("none is offered")
			}
			a := p.register(`{"redirect_uris":["` + callback + `"],"id_token_signed_response_alg":"none"}`)
			wantError(t, a, 400, "invalid_client_metadata")
		}},
		{name: "OIDCCUserInfoGet", run: func(t *testing.T) { userInfo(t, p, http.MethodGet, false) }},
		{name: "OIDCCUserInfoPostHeader", run: func(t *testing.T) { userInfo(t, p, http.MethodPost, false) }},
		{name: "OIDCCUserInfoPostBody", run: func(t *testing.T) { userInfo(t, p, http.MethodPost, true) }},
		{name: "OIDCCEnsureRequestWithoutNonceSucceedsForCodeFlow", run: func(t *testing.T) {
			c := p.party(t, nil)
			if claims := c.identity(c.tokens(c.code(p.agent(t), "nonce", ""))); claims["nonce"] != nil {
				t.Error(claims)
			}
		}},
	}
	for scope, claims := range map[string][]string{
		"profile": {"name", "given_name", "family_name", "middle_name", "nickname", "preferred_username", "profile", "picture", "website", "gender", "birthdate", "zoneinfo", "locale", "updated_at"},
		"email":   {"email", "email_verified"},
		"address": {"address"},
		"phone":   {"phone_number", "phone_number_verified"},
	} {
		list = append(list, module{name: "OIDCCScope" + strings.ToUpper(scope[:1]) + scope[1:], run: func(t *testing.T) {
			who := scoped(t, p, "openid "+scope)
			for _, name := range claims {
				if who[name] == nil {
					t.Error(name, "is missing")
				}
			}
			for name := range everyClaim {
				if who[name] != nil && !slices.Contains(claims, name) {
					t.Error(name, "was not asked for")
				}
			}
		}})
	}
	slices.SortFunc(list[8:], func(a, b module) int { return strings.Compare(a.name, b.name) })
	list = append(list, module{name: "OIDCCScopeAll", run: func(t *testing.T) {
		who := scoped(t, p, "openid profile email address phone")
		want := maps.Clone(everyClaim)
		want["email"], want["email_verified"] = "ada@example.org", true
		for name := range want {
			if who[name] == nil {
				t.Error(name, "is missing")
			}
		}
	}})
	list = append(list, basicRequests(p)...)
	list = append(list, basicCodes(p)...)
	conform(t, "Basic OP", list)
}

// scoped is what userinfo says to a client with that scope.
func scoped(t *testing.T, p *provider, scope string) map[string]any {
	t.Helper()
	c := p.party(t, nil)
	c.scope = scope
	tokens := c.tokens(c.code(p.agent(t)))
	c.identity(tokens)
	who := c.userinfo(tokens.text("access_token"))
	if who.Code != http.StatusOK {
		t.Fatal(who.Code, who.Body)
	}
	return who.json
}

func userInfo(t *testing.T, p *provider, method string, inBody bool) {
	t.Helper()
	c := p.party(t, nil)
	tokens := c.tokens(c.code(p.agent(t)))
	var body url.Values
	if inBody {
		body = form("access_token", tokens.text("access_token"))
	}
	r := wants(t, method, issuer+"/userinfo", body)
	if !inBody {
		r.Header.Set("Authorization", "Bearer "+tokens.text("access_token"))
	}
	a := wire(t, c.http, r)
	if a.Code != http.StatusOK || a.json["sub"] != p.user.ID || !strings.HasPrefix(a.Header().Get("Content-Type"), "application/json") {
		t.Error(a.Code, a.Body)
	}
}

// succeeds is a module that only wants a parameter not to be in the way.
func succeeds(p *provider, name string, pairs ...string) module {
	return module{name: name, run: func(t *testing.T) {
		c, a := p.party(t, nil), p.agent(t)
		c.identity(c.tokens(c.code(a, pairs...)))
		a.sees("signin", "consent")
	}}
}

// twice authorizes two times in one browser and returns both ID tokens; pairs are
// of the second request, and what is asked for then must be pages. aged: the
// sign-in lies two seconds back by then.
func twice(t *testing.T, p *provider, aged bool, first []string, pairs func(idToken string) []string, pages ...string) (was, is map[string]any) {
	t.Helper()
	c, a := p.party(t, nil), p.agent(t)
	if aged {
		c.code(a, first...)
		p.exec(`UPDATE sessions SET auth_time = auth_time - 2000, created = created - 2000`)
	}
	tokens := c.tokens(c.code(a, first...))
	a.sees("signin", "consent")
	is = c.identity(c.tokens(c.code(a, pairs(tokens.text("id_token"))...)))
	a.sees(pages...)
	return c.identity(tokens), is
}

func basicRequests(p *provider) []module {
	with := func(pairs ...string) func(string) []string { return func(string) []string { return pairs } }
	return []module{
		{name: "OIDCCAlternateHappyFlow", run: func(t *testing.T) {
			c, a := p.party(t, nil), p.agent(t)
			v := c.request("scope", "email openid")
			names := slices.Sorted(maps.Keys(v))
			slices.Reverse(names)
			query := make([]string, 0, len(names))
			for _, name := range names {
				query = append(query, name+"="+url.QueryEscape(v.Get(name)))
			}
			back := a.back(a.answer(a.visit(issuer + "/authorize?" + strings.Join(query, "&"))))
			c.identity(c.tokens(back.Get("code")))
		}},
		succeeds(p, "OIDCCDisplayPage", "display", "page"),
		succeeds(p, "OIDCCDisplayPopup", "display", "popup"),
		{name: "OIDCCPromptLogin", run: func(t *testing.T) {
			was, is := twice(t, p, true, nil, with("prompt", "login"), "signin")
			if is["auth_time"].(float64) <= was["auth_time"].(float64) || was["sub"] != is["sub"] {
				t.Error(was, is)
			}
		}},
		{name: "OIDCCPromptNoneNotLoggedIn", run: func(t *testing.T) {
			c, a := p.party(t, nil), p.agent(t)
			if back := c.authorize(a, "prompt", "none"); back.Get("error") != "login_required" || back.Has("code") || back.Get("state") == "" {
				t.Error(back)
			}
			a.sees()
		}},
		{name: "OIDCCPromptNoneLoggedIn", run: func(t *testing.T) {
			was, is := twice(t, p, false, nil, with("prompt", "none"))
			if was["auth_time"] != is["auth_time"] || was["sub"] != is["sub"] {
				t.Error(was, is)
			}
		}},
		{name: "OIDCCMaxAge1", run: func(t *testing.T) {
			_, is := twice(t, p, true, nil, with("max_age", "1"), "signin")
			if is["auth_time"] == nil || is["iat"].(float64)-is["auth_time"].(float64) > 1 {
				t.Error(is)
			}
		}},
		{name: "OIDCCMaxAge10000", run: func(t *testing.T) {
			was, is := twice(t, p, false, []string{"max_age", "15000"}, with("max_age", "10000"))
			if was["auth_time"] == nil || was["auth_time"] != is["auth_time"] || was["sub"] != is["sub"] {
				t.Error(was, is)
			}
		}},
		succeeds(p, "OIDCCEnsureRequestWithUnknownParameterSucceeds", "extra", "foobar"),
		{name: "OIDCCIdTokenHint", run: func(t *testing.T) {
			was, is := twice(t, p, false, nil, func(hint string) []string { return []string{"prompt", "none", "id_token_hint", hint} })
			if was["auth_time"] != is["auth_time"] || was["sub"] != is["sub"] {
				t.Error(was, is)
			}
		}},
		succeeds(p, "OIDCCLoginHint", "login_hint", "buffy@id.example"),
		succeeds(p, "OIDCCUiLocales", "ui_locales", "se"),
		succeeds(p, "OIDCCClaimsLocales", "claims_locales", "se"),
		{name: "OIDCCEnsureRequestWithAcrValuesSucceeds", run: func(t *testing.T) {
			c := p.party(t, nil)
			asked := lists(p.metadata(t), "acr_values_supported")
			claims := c.identity(c.tokens(c.code(p.agent(t), "acr_values", strings.Join(asked, " "))))
			if acr, _ := claims["acr"].(string); !slices.Contains(asked, acr) {
				t.Errorf("acr %v, asked for %v", claims["acr"], asked)
			}
		}},
	}
}

func basicCodes(p *provider) []module {
	reuse := func(t *testing.T, between func()) {
		c := p.party(t, nil)
		code := c.code(p.agent(t))
		tokens := c.tokens(code)
		if between != nil {
			between()
		}
		wantError(t, c.redeem(code), 400, "invalid_grant")
		eventually(t, "its access token lives on", func() bool { return c.userinfo(tokens.text("access_token")).Code == http.StatusUnauthorized })
	}
	requestObject := "eyJhbGciOiJub25lIn0." + base64url(`{"iss":"rp","aud":"`+issuer+`","state":"of the object","redirect_uri":"`+callback+`"}`) + "."
	return []module{
		{name: "OIDCCAuthCodeReuse", run: func(t *testing.T) { reuse(t, nil) }},
		{name: "OIDCCAuthCodeReuseAfter30Seconds", run: func(t *testing.T) {
			reuse(t, func() {
				p.exec(`UPDATE authorization_codes SET expires = expires - 30000, consumed = CASE WHEN consumed = 0 THEN 0 ELSE consumed - 30000 END`)
			})
		}},
		{name: "OIDCCEnsureRegisteredRedirectUri", run: func(t *testing.T) {
			c, a := p.party(t, nil), p.agent(t)
			a.stays(c.begin(a, "redirect_uri", callback+"/unregistered"))
		}},
		{name: "OIDCCEnsurePostRequestSucceeds", run: func(t *testing.T) {
			c, a := p.party(t, nil), p.agent(t)
			r := wants(t, http.MethodPost, issuer+"/authorize", c.request())
			r.Header.Set("Origin", "https://app.example")
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			c.identity(c.tokens(a.back(a.answer(a.open(r))).Get("code")))
		}},
		{name: "OIDCCServerTestClientSecretPost", run: func(t *testing.T) {
			c := p.party(t, func(m *oauth.Metadata) { m.TokenEndpointAuthMethod = "client_secret_post" })
			c.identity(c.tokens(c.code(p.agent(t))))
		}},
		{name: "OIDCCRequestUriUnsignedSupportedCorrectlyOrRejectedAsUnsupported", run: func(t *testing.T) {
			c, a := p.party(t, nil), p.agent(t)
			if back := c.authorize(a, "request_uri", "https://app.example/request.jwt"); back.Get("error") != "request_uri_not_supported" || back.Get("state") == "" {
				t.Error(back)
			}
		}},
		{name: "OIDCCUnsignedRequestObjectSupportedCorrectlyOrRejectedAsUnsupported", run: func(t *testing.T) {
			c, a := p.party(t, nil), p.agent(t)
			if back := c.authorize(a, "request", requestObject); back.Get("error") != "request_not_supported" || back.Get("state") != "s t&a=te" {
				t.Error(back)
			}
		}},
		{name: "OIDCCClaimsEssential", run: func(t *testing.T) {
			c := p.party(t, nil)
			tokens := c.tokens(c.code(p.agent(t), "claims", `{"userinfo":{"name":{"essential":true}}}`))
			c.identity(tokens)
			if who := c.userinfo(tokens.text("access_token")); who.text("name") != "Ada Lovelace" {
				t.Error(who.Body)
			}
		}},
		{name: "OIDCCEnsureRequestObjectWithRedirectUri", run: func(t *testing.T) {
			c, a := p.party(t, nil), p.agent(t)
			a.stays(c.begin(a, "request", requestObject, "redirect_uri", "https://elsewhere.example/callback"))
		}},
		{name: "OIDCCRefreshToken", run: func(t *testing.T) { refreshModule(t, p.party(t, nil), p.party(t, nil), p.agent(t)) }},
		succeeds(p, "OIDCCEnsureRequestWithValidPkceSucceeds"),
	}
}

// refreshModule refreshes as c, and then tries c's refresh token as other.
func refreshModule(t *testing.T, c, other *party, a *agent) {
	t.Helper()
	c.scope = "openid offline_access"
	tokens := c.tokens(c.code(a, "prompt", "consent"))
	was := c.identity(tokens)
	raw := tokens.text("refresh_token")
	if raw == "" || !slices.Contains(lists(c.p.metadata(t), "grant_types_supported"), "refresh_token") {
		t.Fatal(tokens.Body)
	}
	next := c.call("/token", refresh(raw))
	if next.Code != http.StatusOK || next.text("access_token") == tokens.text("access_token") {
		t.Fatal(next.Code, next.Body)
	}
	// OpenID Connect Core §12.2
	if is := c.identity(next); is["auth_time"] != was["auth_time"] || is["azp"] != was["azp"] || is["nonce"] != nil && is["nonce"] != was["nonce"] {
		t.Error(was, is)
	}
	if who := c.userinfo(next.text("access_token")); who.Code != http.StatusOK {
		t.Error(who.Code, who.Body)
	}
	if again := c.call("/token", refresh(raw)); again.Code != http.StatusOK {
		t.Errorf("an answer that was lost cannot be asked for again: %d %s", again.Code, again.Body)
	}
	wantError(t, other.call("/token", refresh(next.text("refresh_token"))), 400, "invalid_grant")
	if last := c.call("/token", refresh(next.text("refresh_token"))); last.Code != http.StatusOK {
		t.Errorf("another client's attempt ended it: %d %s", last.Code, last.Body)
	}
}

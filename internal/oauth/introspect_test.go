package oauth_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

func TestIntrospection(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", nil)
	h.client("spa", public)
	h.client("orders-api", machine)
	h.client("mail-api", machine)
	h.client("robot", machine)
	jwt, opaque := h.tokens("app", "resource", orders), h.tokens("app", "scope", "openid mail", "resource", mail)
	look := func(client, tok string) *reply { return h.post("/introspect", client, form("token", tok)) }
	t.Run("the service a token is for, and its client, read it; others read nothing", func(t *testing.T) {
		for _, c := range []struct {
			client, tok string
			active      bool
		}{
			{"orders-api", jwt.text("access_token"), true},
			{"app", jwt.text("access_token"), true},
			{"mail-api", jwt.text("access_token"), false},
			{"robot", jwt.text("access_token"), false},
			{"mail-api", opaque.text("access_token"), true},
			{"app", opaque.text("access_token"), true},
			{"orders-api", opaque.text("access_token"), false},
			{"app", jwt.text("refresh_token"), true},
			{"orders-api", jwt.text("refresh_token"), false},
			{"app", jwt.text("id_token"), false},
			{"app", "nonsense", false},
			{"app", "gha_", false},
			{"app", "ghr_", false},
		} {
			a := look(c.client, c.tok)
			if a.Code != http.StatusOK || a.json["active"] != c.active || !c.active && len(a.json) != 1 {
				t.Errorf("%s about %.12s: %d %s, want %v", c.client, c.tok, a.Code, a.Body, c.active)
			}
		}
	})
	t.Run("it says what the token says", func(t *testing.T) {
		a := look("mail-api", opaque.text("access_token"))
		for name, want := range map[string]any{
			"sub": h.user.ID, "client_id": "app", "iss": issuer, "aud": mail, "token_type": "Bearer", "scope": "openid mail", "acr": "aal1",
		} {
			if a.json[name] != want {
				t.Errorf("%s is %v, want %v", name, a.json[name], want)
			}
		}
		for _, name := range []string{"exp", "iat", "jti", "roles", "auth_time"} {
			if a.json[name] == nil {
				t.Errorf("%s is missing", name)
			}
		}
	})
	t.Run("a public client may not ask, nor nobody, nor one with a wrong secret", func(t *testing.T) {
		wantError(t, look("spa", jwt.text("access_token")), 401, "invalid_client")
		wantError(t, h.post("/introspect", "", form("token", jwt.text("access_token"))), 401, "invalid_client")
		a := h.post("/introspect", "", form("token", "x"), func(r *http.Request) { r.SetBasicAuth("app", "wrong") })
		wantError(t, a, 401, "invalid_client")
	})
	t.Run("no part of an opaque token can be changed or left out", func(t *testing.T) {
		tok := opaque.text("access_token")
		for i := range len(tok) {
			b := []byte(tok)
			b[i] ^= 1
			if a := look("app", string(b)); a.json["active"] != false {
				t.Fatalf("with byte %d changed: %s", i, a.Body)
			}
			if a := look("app", tok[:i]); i > 0 && a.json["active"] != false {
				t.Fatalf("cut at %d: %s", i, a.Body)
			}
		}
	})
	t.Run("a signed token with another signature is not one, though the right one was just seen", func(t *testing.T) {
		tok := jwt.text("access_token")
		last := strings.LastIndexByte(tok, '.')
		for i := last + 1; i < len(tok); i++ {
			b := []byte(tok)
			if b[i] == 'A' {
				b[i] = 'B'
			} else {
				b[i] = 'A'
			}
			if a := look("app", string(b)); a.json["active"] != false {
				t.Fatalf("with byte %d changed: %s", i, a.Body)
			}
		}
	})
	t.Run("a refresh token that was used is not active", func(t *testing.T) {
		tokens := h.tokens("app")
		h.token("app", refresh(tokens.text("refresh_token")))
		if h.active("app", tokens.text("refresh_token")) {
			t.Error("active")
		}
	})
}

func TestExpiredTokensAreNotActive(t *testing.T) {
	h := newHouse(t, func(c *oauth.Config) { c.AccessLife = time.Second })
	h.client("robot", machine)
	for _, resource := range []string{orders, mail} {
		tok := h.token("robot", form("grant_type", "client_credentials", "resource", resource)).text("access_token")
		eventually(t, "it lives on", func() bool { return !h.active("robot", tok) })
	}
}

func TestRevocation(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", nil)
	h.client("other", nil)
	revoke := func(client, tok string) {
		t.Helper()
		if a := h.post("/revoke", client, form("token", tok, "token_type_hint", "nonsense")); a.Code != http.StatusOK {
			t.Errorf("%d %s", a.Code, a.Body)
		}
	}
	t.Run("an access token ends alone", func(t *testing.T) {
		for _, resource := range []string{orders, mail} {
			tokens := h.tokens("app", "scope", "openid orders:read mail", "resource", resource)
			revoke("other", tokens.text("access_token"))
			if !h.active("app", tokens.text("access_token")) {
				t.Error("another client ended it")
			}
			revoke("app", tokens.text("access_token"))
			if h.active("app", tokens.text("access_token")) {
				t.Error("it lives on")
			}
			if !h.active("app", tokens.text("refresh_token")) {
				t.Error("its refresh token ended with it")
			}
		}
	})
	t.Run("a refresh token ends with all that came of it", func(t *testing.T) {
		tokens := h.tokens("app")
		revoke("other", tokens.text("refresh_token"))
		if !h.active("app", tokens.text("refresh_token")) {
			t.Error("another client ended it")
		}
		revoke("app", tokens.text("refresh_token"))
		if h.active("app", tokens.text("refresh_token")) || h.active("app", tokens.text("access_token")) {
			t.Error("tokens live on")
		}
		wantError(t, h.token("app", refresh(tokens.text("refresh_token"))), 400, "invalid_grant")
		revoke("app", tokens.text("refresh_token"))
	})
	t.Run("what is no token is answered like one", func(t *testing.T) { revoke("app", "nonsense") })
	t.Run("nobody revokes nothing", func(t *testing.T) {
		wantError(t, h.post("/revoke", "app", form()), 400, "invalid_request")
		wantError(t, h.post("/revoke", "", form("token", "x")), 401, "invalid_client")
	})
}

func TestUserInfo(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", nil)
	h.client("spa", public)
	tokens := h.tokens("app", "scope", "openid email", "claims", `{"userinfo":{"given_name":null}}`)
	raw := tokens.text("access_token")
	call := func(method, target, body string, headers ...string) *reply {
		r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
		if body != "" {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Add(headers[i], headers[i+1])
		}
		return h.do(r)
	}
	for name, a := range map[string]*reply{
		"by GET with the header":  call("GET", issuer+"/userinfo", "", "Authorization", "Bearer "+raw),
		"by POST with the header": call("POST", issuer+"/userinfo", "", "Authorization", "bearer "+raw),
		"by POST with a form":     call("POST", issuer+"/userinfo", "access_token="+raw),
	} {
		if a.Code != http.StatusOK || a.json["sub"] != h.user.ID || a.json["email"] != "ada@example.org" || a.json["email_verified"] != true || a.json["given_name"] != "Ada" {
			t.Errorf("%s: %d %s", name, a.Code, a.Body)
		}
		if a.json["name"] != nil || a.json["roles"] != nil {
			t.Errorf("%s: more than was asked for: %s", name, a.Body)
		}
		if a.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: may be kept", name)
		}
	}
	key := newSigningKey(t)
	bound := h.token("spa", redeem(h.code("spa")), key.proving).text("access_token")
	prove := func(access string) []string {
		return []string{"Authorization", "DPoP " + bound, "DPoP", key.proof("GET", issuer+"/userinfo", access)}
	}
	if a := call("GET", issuer+"/userinfo", "", prove(bound)...); a.Code != http.StatusOK {
		t.Errorf("with its proof: %d %s", a.Code, a.Body)
	}
	plain := h.tokens("app", "scope", "orders:read").text("access_token")
	proof := prove(bound)
	call("GET", issuer+"/userinfo", "", proof...)
	for _, c := range []struct {
		name    string
		a       *reply
		status  int
		problem string
	}{
		{"no token", call("GET", issuer+"/userinfo", ""), 401, ""},
		{"a token in the URL", call("GET", issuer+"/userinfo?access_token="+raw, ""), 400, "invalid_request"},
		{"two tokens", call("POST", issuer+"/userinfo", "access_token="+raw, "Authorization", "Bearer "+raw), 400, "invalid_request"},
		{"two headers", call("GET", issuer+"/userinfo", "", "Authorization", "Bearer "+raw, "Authorization", "Bearer "+raw), 400, "invalid_request"},
		{"an ID token", call("GET", issuer+"/userinfo", "", "Authorization", "Bearer "+tokens.text("id_token")), 401, "invalid_token"},
		{"a refresh token", call("GET", issuer+"/userinfo", "", "Authorization", "Bearer "+tokens.text("refresh_token")), 401, "invalid_token"},
		{"a token without openid", call("GET", issuer+"/userinfo", "", "Authorization", "Bearer "+plain), 403, "insufficient_scope"},
		{"a bound token as Bearer", call("GET", issuer+"/userinfo", "", "Authorization", "Bearer "+bound), 401, "invalid_token"},
		{"a bearer token as DPoP", call("GET", issuer+"/userinfo", "", "Authorization", "DPoP "+raw, "DPoP", key.proof("GET", issuer+"/userinfo", raw)), 401, "invalid_token"},
		{"a bound token without its proof", call("GET", issuer+"/userinfo", "", "Authorization", "DPoP "+bound), 401, "invalid_dpop_proof"},
		{"a proof for another token", call("GET", issuer+"/userinfo", "", prove(raw)...), 401, "invalid_dpop_proof"},
		{"a proof that was used", call("GET", issuer+"/userinfo", "", proof...), 401, "invalid_dpop_proof"},
		{"a proof of another key", call("GET", issuer+"/userinfo", "", "Authorization", "DPoP "+bound, "DPoP", newSigningKey(t).proof("GET", issuer+"/userinfo", bound)), 401, "invalid_token"},
		{"a proof for another host, named by the request", call("GET", "https://evil.example/auth/userinfo", "", "Authorization", "DPoP "+bound, "DPoP", key.proof("GET", "https://evil.example/auth/userinfo", bound)), 401, "invalid_dpop_proof"},
	} {
		challenge := c.a.Header().Get("WWW-Authenticate")
		if c.a.Code != c.status || c.problem != "" && !strings.Contains(challenge, `error="`+c.problem+`"`) || challenge == "" || c.a.json["sub"] != nil {
			t.Errorf("%s: %d %s %s", c.name, c.a.Code, challenge, c.a.Body)
		}
	}
	ok(t, h.people.Lock(t.Context(), "test", h.user.ID, "test"))
	eventually(t, "a locked user's claims are told", func() bool {
		return call("GET", issuer+"/userinfo", "", "Authorization", "Bearer "+raw).Code == http.StatusUnauthorized
	})
}

func TestLogout(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", func(m *oauth.Metadata) { m.PostLogoutRedirectURIs = []string{"https://app.example/bye"} })
	start := func(t *testing.T) (*browser, *reply) {
		t.Helper()
		b := h.browser()
		b.signIn(h.user.ID, identity.ACRPassword)
		return b, h.token("app", redeem(b.authorize(request("app")).back().Get("code")))
	}
	signedIn := func(b *browser) bool { return b.authorize(request("app", "prompt", "none")).back().Get("code") != "" }
	t.Run("with the ID token of the session it happens at once and goes back with state", func(t *testing.T) {
		b, tokens := start(t)
		a := b.get(issuer + "/logout?" + form("id_token_hint", tokens.text("id_token"), "post_logout_redirect_uri", "https://app.example/bye", "state", "s&1").Encode())
		if a.Code != http.StatusSeeOther || a.Header().Get("Location") != "https://app.example/bye?state=s%261" {
			t.Fatalf("%d %s %s", a.Code, a.Header().Get("Location"), a.Body)
		}
		if signedIn(b) || h.active("app", tokens.text("refresh_token")) {
			t.Error("the session lives on")
		}
		wantError(t, h.token("app", refresh(tokens.text("refresh_token"))), 400, "invalid_grant")
	})
	t.Run("without a hint the user is asked, and may stay", func(t *testing.T) {
		b, _ := start(t)
		page := b.get(issuer + "/logout?client_id=app&post_logout_redirect_uri=https://app.example/bye")
		if page.Code != http.StatusOK || !signedIn(b) {
			t.Fatalf("%d: signed out by a link", page.Code)
		}
		v := fields(page.Body.String())
		v.Set("decision", "stay")
		b.post(issuer+"/logout", v)
		if !signedIn(b) {
			t.Fatal("signed out though the answer was no")
		}
		v.Set("decision", "logout")
		for _, headers := range [][]string{{"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}, {"X-Nothing", "1"}} {
			if b.post(issuer+"/logout", v, headers...); !signedIn(b) {
				t.Fatal("signed out by another site")
			}
		}
		if a := b.post(issuer+"/logout", v); a.Header().Get("Location") != "https://app.example/bye" || signedIn(b) {
			t.Errorf("%d %s", a.Code, a.Header().Get("Location"))
		}
	})
	t.Run("the hint of another session asks as well", func(t *testing.T) {
		b, _ := start(t)
		_, tokens := start(t)
		if a := b.get(issuer + "/logout?id_token_hint=" + tokens.text("id_token")); a.Code != http.StatusOK || !signedIn(b) {
			t.Errorf("%d", a.Code)
		}
	})
	t.Run("a POST from the client's site goes on as a GET", func(t *testing.T) {
		b, tokens := start(t)
		a := h.browser().post(issuer+"/logout", form("id_token_hint", tokens.text("id_token")), "Origin", "https://app.example", "Sec-Fetch-Site", "cross-site")
		if a.Code != http.StatusSeeOther {
			t.Fatalf("%d %s", a.Code, a.Body)
		}
		if b.get(a.Header().Get("Location")); signedIn(b) {
			t.Error("still signed in")
		}
	})
	for name, query := range map[string]string{
		"a redirect that is not registered":  "client_id=app&post_logout_redirect_uri=https://evil.example/",
		"a redirect of nobody":               "post_logout_redirect_uri=https://app.example/bye",
		"a redirect with a query of its own": "client_id=app&post_logout_redirect_uri=https://app.example/bye?x=1",
		"a hint that is none":                "id_token_hint=x",
		"a client that does not exist":       "client_id=nobody",
		"a parameter twice":                  "client_id=app&client_id=app",
	} {
		t.Run(name+" is a page", func(t *testing.T) {
			b, _ := start(t)
			if a := b.get(issuer + "/logout?" + query); a.Code != http.StatusBadRequest || a.Header().Get("Location") != "" || !signedIn(b) {
				t.Errorf("%d %s", a.Code, a.Header().Get("Location"))
			}
		})
	}
	t.Run("a hint of another client than client_id is refused", func(t *testing.T) {
		h.client("second", nil)
		b, tokens := start(t)
		if a := b.get(issuer + "/logout?client_id=second&id_token_hint=" + tokens.text("id_token")); a.Code != http.StatusBadRequest {
			t.Errorf("%d", a.Code)
		}
	})
}

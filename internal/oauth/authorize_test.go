package oauth_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

func TestAuthorizationRequestsAreJudged(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", nil)
	h.client("par", func(m *oauth.Metadata) { m.RequirePAR = true })
	h.client("robot", machine)
	h.client("narrow", func(m *oauth.Metadata) { m.Scope, m.Resources = "openid orders:read", []string{orders} })
	long := strings.Repeat("x", 5000)
	for _, c := range []struct {
		name   string
		client string
		pairs  []string
		want   string // code, page, or the error at the client
	}{
		{"a good request has its code", "app", nil, "code"},
		{"an unknown parameter is nothing", "app", []string{"colour", "blue"}, "code"},
		{"an empty parameter is left out", "app", []string{"nonce", ""}, "code"},
		{"a request without nonce is one of the code flow", "app", []string{"nonce", ""}, "code"},
		{"a long state comes back", "app", []string{"state", strings.Repeat("s", 1000)}, "code"},
		{"a state without end is refused", "app", []string{"state", long}, "invalid_request"},
		{"a nonce without end is refused", "app", []string{"nonce", long}, "invalid_request"},

		{"an unknown client sees a page", "nobody", nil, "page"},
		{"no client sees a page", "app", []string{"client_id", ""}, "page"},
		{"a redirect_uri of somebody else sees a page", "app", []string{"redirect_uri", "https://evil.example/callback"}, "page"},
		{"a redirect_uri missing from an OpenID request sees a page", "app", []string{"redirect_uri", ""}, "page"},
		{"a redirect_uri may be left out by a plain client that has one", "app", []string{"redirect_uri", "", "scope", "orders:read"}, "code"},

		{"a missing response_type is refused", "app", []string{"response_type", ""}, "invalid_request"},
		{"the implicit flow does not exist", "app", []string{"response_type", "token"}, "unsupported_response_type"},
		{"the hybrid flow does not exist", "app", []string{"response_type", "code id_token"}, "unsupported_response_type"},
		{"id_token token does not exist", "app", []string{"response_type", "id_token token"}, "unsupported_response_type"},
		{"a fragment is no response_mode", "app", []string{"response_mode", "fragment"}, "invalid_request"},
		{"a client of another grant type is refused before it has a redirect", "robot", nil, "page"},
		{"a client that must push may not do without", "par", nil, "invalid_request"},

		{"a request object is refused", "app", []string{"request", "eyJhbGciOiJub25lIn0.e30."}, "request_not_supported"},
		{"a request_uri of others is never fetched", "app", []string{"request_uri", "https://evil.example/r"}, "request_uri_not_supported"},
		{"a request_uri of ours that is not there sees a page", "app", []string{"request_uri", "urn:ietf:params:oauth:request_uri:none"}, "page"},
		{"registration in a request is refused", "app", []string{"registration", "{}"}, "registration_not_supported"},

		{"PKCE is required of confidential clients too", "app", []string{"code_challenge", "", "code_challenge_method", ""}, "invalid_request"},
		{"a plain challenge is refused", "app", []string{"code_challenge_method", "plain"}, "invalid_request"},
		{"a challenge without method would be plain", "app", []string{"code_challenge_method", ""}, "invalid_request"},
		{"a challenge that is no SHA-256 is refused", "app", []string{"code_challenge", "short"}, "invalid_request"},
		{"a dpop_jkt that is no thumbprint is refused", "app", []string{"dpop_jkt", "x"}, "invalid_request"},

		{"a scope the client may not have is refused", "narrow", []string{"scope", "openid orders:write"}, "invalid_scope"},
		{"a scope nobody knows is refused", "app", []string{"scope", "openid root"}, "invalid_scope"},
		{"a scope with a quote is refused", "app", []string{"scope", `openid "`}, "invalid_scope"},
		{"no scope is the client's own without identity", "app", []string{"scope", ""}, "code"},

		{"a resource that is configured is good", "app", []string{"resource", orders}, "code"},
		{"a resource nobody knows is refused", "app", []string{"resource", "https://api.example/other"}, "invalid_target"},
		{"a resource that is no URI is refused", "app", []string{"resource", "orders"}, "invalid_target"},
		{"a resource with a fragment is refused", "app", []string{"resource", orders + "#x"}, "invalid_target"},
		{"a resource of other clients is refused", "narrow", []string{"resource", mail}, "invalid_target"},

		{"an unknown prompt is refused", "app", []string{"prompt", "maybe"}, "invalid_request"},
		{"prompt=none goes alone", "app", []string{"prompt", "none login"}, "invalid_request"},
		{"prompt=none with a session has its code", "app", []string{"prompt", "none"}, "code"},
		{"max_age that is no number is refused", "app", []string{"max_age", "old"}, "invalid_request"},
		{"a negative max_age is refused", "app", []string{"max_age", "-1"}, "invalid_request"},
		{"a max_age with room has its code", "app", []string{"max_age", "10000"}, "code"},
		{"ui_locales are taken and ignored", "app", []string{"ui_locales", "de-DE en", "claims_locales", "fr", "display", "popup"}, "code"},
		{"an id_token_hint of others is refused", "app", []string{"id_token_hint", "eyJhbGciOiJub25lIn0.e30."}, "invalid_request"},
		{"claims that is no JSON is refused", "app", []string{"claims", "{"}, "invalid_request"},
		{"claims with something behind it is refused", "app", []string{"claims", `{}{}`}, "invalid_request"},
		{"claims for userinfo is good", "app", []string{"claims", `{"userinfo":{"email":null}}`}, "code"},
		{"an acr that nobody knows is a wish", "app", []string{"acr_values", "urn:gold"}, "code"},
		{"an acr that is demanded and cannot be had is an error", "app", []string{"claims", `{"id_token":{"acr":{"essential":true,"values":["urn:gold"]}}}`}, "unmet_authentication_requirements"},
		{"authorization_details of no known type are refused", "app", []string{"authorization_details", `[{"type":"payment"}]`}, "invalid_authorization_details"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := h.browser()
			b.signIn(h.user.ID, identity.ACRPassword)
			v := request(c.client, c.pairs...)
			a := b.authorize(v)
			back := a.back()
			switch {
			case c.want == "page":
				if back != nil || a.Header().Get("Location") != "" || a.Code < 400 || a.Code >= 500 {
					t.Errorf("%d to %q, want a page of the user's", a.Code, a.Header().Get("Location"))
				}
				return
			case back == nil:
				t.Fatalf("%d %s: nothing for the client", a.Code, a.Body)
			case back.Get("iss") != issuer:
				t.Errorf("iss is %q", back.Get("iss"))
			}
			if c.want == "code" {
				if back.Get("code") == "" || back.Has("error") {
					t.Errorf("got %v, want a code", back)
				}
			} else if back.Get("error") != c.want || back.Has("code") {
				t.Errorf("got %v, want %s", back, c.want)
			}
			if back.Get("state") != v.Get("state") {
				t.Errorf("state %q came back as %q", v.Get("state"), back.Get("state"))
			}
			if a.Header().Get("Cache-Control") != "no-store" || a.Header().Get("Referrer-Policy") != "no-referrer" {
				t.Error("the answer may be kept, or its URL told to the next site")
			}
			if a.Header().Get("Access-Control-Allow-Origin") != "" {
				t.Error("CORS at the authorization endpoint")
			}
		})
	}
}

func TestRedirectURIsAreComparedByteByByte(t *testing.T) {
	h := newHouse(t, nil)
	h.client("web", func(m *oauth.Metadata) { m.RedirectURIs = []string{callback, "https://app.example/cb?x=1"} })
	h.client("native", func(m *oauth.Metadata) {
		public(m)
		m.ApplicationType, m.RedirectURIs = "native", []string{"http://127.0.0.1/cb", "http://[::1]:1000/cb", "com.example.app:/cb"}
	})
	for _, c := range []struct {
		client, uri string
		good        bool
	}{
		{"web", callback, true},
		{"web", "https://app.example/cb?x=1", true},
		{"web", "https://app.example/callback/", false},
		{"web", "https://app.example/Callback", false},
		{"web", "https://APP.example/callback", false},
		{"web", "HTTPS://app.example/callback", false},
		{"web", "https://app.example:443/callback", false},
		{"web", "https://app.example/callback?x=1", false},
		{"web", "https://app.example/callback#x", false},
		{"web", "https://app.example/%63allback", false},
		{"web", "https://app.example/a/../callback", false},
		{"web", "https://app.example//callback", false},
		{"web", "https://app.example@evil.example/callback", false},
		{"web", "https://evil.example/https://app.example/callback", false},
		{"web", "https://app.example\\@evil.example/callback", false},
		{"web", "https://app.example.evil.example/callback", false},
		{"web", "http://app.example/callback", false},
		{"web", " " + callback, false},
		{"web", callback + "\n", false},
		{"web", callback + "\x00", false},
		{"web", "https://app.example/cb?x=1&y=2", false},
		{"web", "//app.example/callback", false},
		{"web", "javascript:alert(1)//https://app.example/callback", false},
		{"native", "http://127.0.0.1/cb", true},
		{"native", "http://127.0.0.1:49152/cb", true},
		{"native", "http://[::1]:5/cb", true},
		{"native", "com.example.app:/cb", true},
		{"native", "http://127.0.0.1:49152/cb/", false},
		{"native", "http://127.0.0.1:49152/other", false},
		{"native", "http://127.0.0.1:x/cb", false},
		{"native", "http://127.0.0.1:80@evil.example/cb", false},
		{"native", "http://127.0.0.1.evil.example/cb", false},
		{"native", "http://127.0.0.2:80/cb", false},
		{"native", "http://localhost:80/cb", false},
		{"native", "https://127.0.0.1:80/cb", false},
	} {
		b := h.browser()
		b.signIn(h.user.ID, identity.ACRPassword)
		// prompt=none: an error at the client shows that the URI was taken.
		a := b.authorize(request(c.client, "redirect_uri", c.uri, "response_type", "token"))
		taken := strings.HasPrefix(a.Header().Get("Location"), c.uri) && a.Code == http.StatusSeeOther
		if taken != c.good || !c.good && a.Header().Get("Location") != "" {
			t.Errorf("%s %q: redirected to %q with %d, want good=%v", c.client, c.uri, a.Header().Get("Location"), a.Code, c.good)
		}
	}
}

func TestARepeatedParameterIsRefused(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", nil)
	for name := range request("app") {
		b := h.browser()
		b.signIn(h.user.ID, identity.ACRPassword)
		v := request("app")
		v.Add(name, v.Get(name))
		a := b.authorize(v)
		switch back := a.back(); {
		case name == "client_id" || name == "redirect_uri":
			if a.Header().Get("Location") != "" || a.Code != http.StatusBadRequest {
				t.Errorf("%s twice: %d to %q", name, a.Code, a.Header().Get("Location"))
			}
		case back.Get("error") != "invalid_request":
			t.Errorf("%s twice: %v", name, back)
		}
	}
	b := h.browser()
	b.signIn(h.user.ID, identity.ACRPassword)
	v := request("app", "scope", "openid orders:read mail")
	v["resource"] = []string{orders, mail}
	if b.authorize(v).back().Get("code") == "" {
		t.Error("resource may be there more than once (RFC 8707 §2)")
	}
}

func TestSigningIn(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", nil)
	t.Run("a browser without session goes to the sign-in page and has its code afterwards", func(t *testing.T) {
		b := h.browser()
		a := b.authorize(request("app"))
		id := waitingID(t, a, "/auth/signin")
		if b.cookies["__Host-gatehouse-flow"] == "" {
			t.Fatal("the request waits for no browser in particular")
		}
		b.signIn(h.user.ID, identity.ACRPassword)
		a = b.get(h.Continue(id))
		if a.back().Get("code") == "" {
			t.Fatalf("%d %s", a.Code, a.Header().Get("Location"))
		}
		if again := b.get(h.Continue(id)); again.back() != nil || again.Code != http.StatusBadRequest {
			t.Errorf("a request that was answered goes on: %d", again.Code)
		}
	})
	t.Run("another browser cannot go on with it (login CSRF)", func(t *testing.T) {
		attacker, victim := h.browser(), h.browser()
		id := waitingID(t, attacker.authorize(request("app")), "/auth/signin")
		victim.signIn(h.user.ID, identity.ACRPassword)
		if a := victim.get(h.Continue(id)); a.back() != nil || a.Code != http.StatusBadRequest {
			t.Errorf("%d to %q", a.Code, a.Header().Get("Location"))
		}
	})
	t.Run("a POST from the client's site goes on as a GET, in the browser that follows", func(t *testing.T) {
		b := h.browser()
		session := b.signIn(h.user.ID, identity.ACRPassword)
		_ = session
		a := h.browser().post(issuer+"/authorize", request("app"), "Origin", "https://app.example", "Sec-Fetch-Site", "cross-site")
		if a.Code != http.StatusSeeOther || !strings.HasPrefix(a.Header().Get("Location"), "/auth/authorize/continue?") {
			t.Fatalf("%d %s", a.Code, a.Header().Get("Location"))
		}
		next := a.Header().Get("Location")
		if b.get(next).back().Get("code") == "" {
			t.Error("no code")
		}
		other := h.browser()
		other.signIn(h.user.ID, identity.ACRPassword)
		if other.get(next).back() != nil {
			t.Error("a second browser went on with the same request")
		}
	})
	t.Run("prompt=none without session is login_required", func(t *testing.T) {
		if back := h.browser().authorize(request("app", "prompt", "none")).back(); back.Get("error") != "login_required" {
			t.Errorf("%v", back)
		}
	})
	for _, prompt := range []string{"login", "select_account"} {
		t.Run("prompt="+prompt+" wants a proof that is newer than the request", func(t *testing.T) {
			b := h.browser()
			b.signIn(h.user.ID, identity.ACRPassword)
			id := waitingID(t, b.authorize(request("app", "prompt", prompt)), "/auth/signin")
			waitingID(t, b.get(h.Continue(id)), "/auth/signin")
			b.signIn(h.user.ID, identity.ACRPassword)
			if b.get(h.Continue(id)).back().Get("code") == "" {
				t.Error("no code after signing in again")
			}
		})
	}
	t.Run("max_age=0 wants a fresh proof", func(t *testing.T) {
		b := h.browser()
		b.signIn(h.user.ID, identity.ACRPassword)
		id := waitingID(t, b.authorize(request("app", "max_age", "0")), "/auth/signin")
		b.signIn(h.user.ID, identity.ACRPassword)
		if b.get(h.Continue(id)).back().Get("code") == "" {
			t.Error("no code after signing in again")
		}
		if back := b.authorize(request("app", "max_age", "0", "prompt", "none")).back(); back.Get("error") != "login_required" {
			t.Errorf("%v", back)
		}
	})
	t.Run("an id_token_hint of another user never gives this one's code", func(t *testing.T) {
		hint := h.tokens("app").text("id_token")
		eve, err := h.people.Create(t.Context(), "test", identity.NewUser{Name: "eve"})
		ok(t, err)
		b := h.browser()
		b.signIn(eve.ID, identity.ACRPassword)
		if back := b.authorize(request("app", "id_token_hint", hint, "prompt", "none")).back(); back.Get("error") != "login_required" {
			t.Errorf("%v", back)
		}
		id := waitingID(t, b.authorize(request("app", "id_token_hint", hint)), "/auth/signin")
		b.signIn(eve.ID, identity.ACRPassword)
		if back := b.get(h.Continue(id)).back(); back.Get("error") != "login_required" {
			t.Errorf("%v", back)
		}
		b.signIn(h.user.ID, identity.ACRPassword)
		if b.authorize(request("app", "id_token_hint", hint, "prompt", "none")).back().Get("code") == "" {
			t.Error("the right user has no code")
		}
	})
	t.Run("a session of a stronger class gives the class that was asked for", func(t *testing.T) {
		b := h.browser()
		b.signIn(h.user.ID, identity.ACRPhishing, "hwk", "user")
		code := b.authorize(request("app", "claims", `{"id_token":{"acr":{"essential":true,"value":"aal2"}}}`)).back().Get("code")
		a := h.token("app", redeem(code))
		if got := h.claims(a.text("id_token"), "JWT")["acr"]; got != "aal2" {
			t.Errorf("acr %v", got)
		}
	})
}

func waitingID(t *testing.T, a *reply, page string) string {
	t.Helper()
	u, err := url.Parse(a.Header().Get("Location"))
	if err != nil || a.Code != http.StatusSeeOther || u.Path != page || u.Query().Get("request") == "" {
		t.Fatalf("%d to %q, want %s", a.Code, a.Header().Get("Location"), page)
	}
	return u.Query().Get("request")
}

func TestConsent(t *testing.T) {
	h := newHouse(t, nil)
	untrusted := func(m *oauth.Metadata) { m.Trusted = false }
	h.client("app", untrusted)
	h.client("native", func(m *oauth.Metadata) {
		public(m)
		m.Trusted, m.ApplicationType, m.RedirectURIs = false, "native", []string{"com.example.app:/cb"}
	})
	ask := func(t *testing.T, b *browser, pairs ...string) (page *reply, id string) {
		t.Helper()
		id = waitingID(t, b.authorize(request("app", pairs...)), "/auth/authorize/continue")
		page = b.get(h.Continue(id))
		if page.Code != http.StatusOK || !strings.Contains(page.Body.String(), "The app") {
			t.Fatalf("no question: %d %s", page.Code, page.Body)
		}
		return page, id
	}
	t.Run("a no is access_denied, and the request is over", func(t *testing.T) {
		b := h.browser()
		b.signIn(h.user.ID, identity.ACRPassword)
		page, id := ask(t, b)
		v := fields(page.Body.String())
		v.Set("decision", "deny")
		if back := b.post(issuer+"/consent", v).back(); back.Get("error") != "access_denied" || back.Get("iss") != issuer {
			t.Errorf("%v", back)
		}
		v.Set("decision", "allow")
		if a := b.post(issuer+"/consent", v); a.back() != nil || b.get(h.Continue(id)).back() != nil {
			t.Error("a yes after the no")
		}
	})
	t.Run("a yes is remembered for the same scopes, and for no others", func(t *testing.T) {
		b := h.browser()
		b.signIn(h.user.ID, identity.ACRPassword)
		if back := b.authorize(request("app", "prompt", "none")).back(); back.Get("error") != "consent_required" {
			t.Errorf("%v", back)
		}
		page, _ := ask(t, b)
		v := fields(page.Body.String())
		v.Set("decision", "allow")
		if b.post(issuer+"/consent", v).back().Get("code") == "" {
			t.Fatal("no code")
		}
		if b.post(issuer+"/consent", v).back() != nil {
			t.Error("the same yes gave a second code")
		}
		if b.authorize(request("app", "prompt", "none")).back().Get("code") == "" {
			t.Error("asked twice")
		}
		ask(t, b, "prompt", "consent")
		ask(t, b, "scope", "openid orders:read orders:write")
		ask(t, b, "scope", "openid orders:read offline_access")
	})
	t.Run("a yes counts only in the session it was asked in, and from our own page", func(t *testing.T) {
		b := h.browser()
		b.signIn(h.user.ID, identity.ACRPassword)
		page, _ := ask(t, b, "prompt", "consent")
		v := fields(page.Body.String())
		v.Set("decision", "allow")
		for name, headers := range map[string][]string{
			"of another site":  {"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"},
			"of nobody":        {"X-Nothing", "1"},
			"of a sister site": {"Origin", "https://www.id.example", "Sec-Fetch-Site", "same-site"},
		} {
			if a := b.post(issuer+"/consent", v, headers...); a.Code != http.StatusForbidden || a.back() != nil {
				t.Errorf("%s: %d", name, a.Code)
			}
		}
		eve, err := h.people.Create(t.Context(), "test", identity.NewUser{Name: "eve"})
		ok(t, err)
		b.signIn(eve.ID, identity.ACRPassword)
		if a := b.post(issuer+"/consent", v); a.back() != nil {
			t.Errorf("a yes of ada's counted for eve: %s", a.Header().Get("Location"))
		}
	})
	t.Run("a native app that anybody can be is asked for every time", func(t *testing.T) {
		b := h.browser()
		b.signIn(h.user.ID, identity.ACRPassword)
		for range 2 {
			id := waitingID(t, b.authorize(request("native", "redirect_uri", "com.example.app:/cb")), "/auth/authorize/continue")
			v := fields(b.get(h.Continue(id)).Body.String())
			v.Set("decision", "allow")
			if a := b.post(issuer+"/consent", v); !strings.HasPrefix(a.Header().Get("Location"), "com.example.app:/cb?code=") {
				t.Fatalf("%d %s", a.Code, a.Header().Get("Location"))
			}
		}
	})
	t.Run("to take an app's access away forgets the yes", func(t *testing.T) {
		list, err := h.Grants(t.Context(), h.user.ID)
		ok(t, err)
		if len(list) != 0 {
			t.Fatalf("codes nobody redeemed are grants: %v", list)
		}
		b := h.browser()
		b.signIn(h.user.ID, identity.ACRPassword)
		a := h.token("app", redeem(b.authorize(request("app")).back().Get("code")))
		list, err = h.Grants(t.Context(), h.user.ID)
		ok(t, err)
		if len(list) != 1 {
			t.Fatalf("%v", list)
		}
		ok(t, h.RevokeGrant(t.Context(), h.user.ID, list[0].ID))
		ask(t, b)
		wantError(t, h.token("app", refresh(a.text("refresh_token"))), 400, "invalid_grant")
		if h.active("app", a.text("access_token")) {
			t.Error("the access token lives on")
		}
	})
}

func TestStrangersAreNotRedirectedTo(t *testing.T) {
	h := newHouse(t, func(c *oauth.Config) { c.Registration = "open" })
	a := h.register(`{"redirect_uris":["https://app.example/callback"],"client_name":"Stranger","token_endpoint_auth_method":"none","scope":"openid"}`)
	if a.Code != http.StatusCreated {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	id := a.text("client_id")
	for _, pairs := range [][]string{{"prompt", "none"}, {"response_type", "token"}, {"scope", "root"}} {
		v := request(id, append([]string{"scope", "openid"}, pairs...)...)
		if a := h.browser().authorize(v); a.Header().Get("Location") != "" || a.Code != http.StatusBadRequest {
			t.Errorf("%v: %d to %q before anybody signed in", pairs, a.Code, a.Header().Get("Location"))
		}
		b := h.browser()
		b.signIn(h.user.ID, identity.ACRPassword)
		if back := b.authorize(v).back(); back.Get("error") == "" {
			t.Errorf("%v: no error for the client of a user who is signed in", pairs)
		}
	}
}

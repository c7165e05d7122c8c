package oauth_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

func untrusted(m *oauth.Metadata) { m.Trusted = false }

// agree says yes to a request.
func (b *browser) agree(pairs ...string) url.Values {
	b.h.t.Helper()
	page := b.follow(b.authorize(request("shop", pairs...)))
	back := b.submit(page, "/consent", "decision", "allow").back()
	if back.Get("code") == "" {
		b.h.t.Fatalf("no code: %d %s", page.Code, page.Body)
	}
	return back
}

// TestAConsentIsToWhatWasShown asks silently for more than a user has agreed to.
func TestAConsentIsToWhatWasShown(t *testing.T) {
	h := newHouse(t, func(c *oauth.Config) {
		c.Resources[0].Scopes, c.Resources[1].Scopes, c.Resources[1].Format = nil, nil, "jwt"
	})
	h.client("shop", untrusted)
	h.client("narrow", func(m *oauth.Metadata) { m.Scope = "openid orders:read" })
	silent := func(b *browser, pairs ...string) url.Values {
		return b.authorize(request("shop", append([]string{"prompt", "none"}, pairs...)...)).back()
	}
	t.Run("a scope allowed at one API is not allowed at another one", func(t *testing.T) {
		b := h.browser()
		b.signIn(h.user.ID, identity.ACRPassword)
		b.agree("scope", "orders:write", "resource", orders)
		b.agree("scope", "orders:read", "resource", mail)
		for _, again := range [][]string{{"scope", "orders:write", "resource", orders}, {"scope", "orders:read", "resource", mail}} {
			if back := silent(b, again...); back.Get("code") == "" {
				t.Errorf("asked again for %v: %v", again, back)
			}
		}
		if back := silent(b, "scope", "orders:write", "resource", mail); back.Get("error") != "consent_required" {
			t.Errorf("to write at the second API nobody has allowed: %v", back)
		}
	})
	const wanted = `{"userinfo":{"email":null,"groups":{"essential":true}},"id_token":{"email":null,"given_name":null}}`
	t.Run("claims by name are parts of scopes that were not agreed to", func(t *testing.T) {
		b := h.browser()
		b.signIn(h.user.ID, identity.ACRPassword)
		b.agree("scope", "openid", "resource", orders)
		if back := silent(b, "scope", "openid", "resource", orders, "claims", wanted); back.Get("error") != "consent_required" {
			t.Errorf("%v", back)
		}
		page := b.follow(b.authorize(request("shop", "scope", "openid", "resource", orders, "claims", wanted)))
		if !strings.Contains(page.Body.String(), "See your e-mail address") || !strings.Contains(page.Body.String(), "See your profile") {
			t.Errorf("the question does not say it: %s", page.Body)
		}
		if b.submit(page, "/consent", "decision", "allow").back().Get("code") == "" {
			t.Fatal("no code")
		}
		if back := silent(b, "scope", "openid", "resource", orders, "claims", wanted); back.Get("code") == "" {
			t.Errorf("asked again: %v", back)
		}
	})
	t.Run("claims by name are not more than the client's scope", func(t *testing.T) {
		h.client("lean", func(m *oauth.Metadata) { m.Scope = "openid" })
		a := h.tokens("lean", "scope", "openid", "claims", wanted)
		id := h.claims(a.text("id_token"), "JWT")
		r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, issuer+"/userinfo", nil)
		r.Header.Set("Authorization", "Bearer "+a.text("access_token"))
		info := h.do(r)
		if info.Code != http.StatusOK || len(info.json) != 1 || id["email"] != nil || id["given_name"] != nil {
			t.Errorf("%d %s %v", info.Code, info.Body, id)
		}
	})
}

func TestWhatAnOperatorTakesFromAClientIsInNoNewToken(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", nil)
	a := h.tokens("app", "scope", "openid offline_access orders:read orders:write", "resource", orders)
	code := h.code("app", "scope", "openid orders:read orders:write", "resource", orders)
	b := h.browser()
	waits := b.authorize(request("app"))
	c, err := h.Client(t.Context(), "app")
	ok(t, err)
	m := c.Metadata
	m.Scope, m.RedirectURIs = "offline_access orders:read", []string{"https://app.example/new"}
	_, err = h.UpdateClient(t.Context(), "test", "app", 0, m)
	ok(t, err)
	for name, a := range map[string]*reply{"refreshed": h.token("app", refresh(a.text("refresh_token"))), "by a code": h.token("app", redeem(code))} {
		if scope := h.claims(a.text("access_token"), "at+jwt")["scope"]; strings.Contains(scope.(string), "orders:write") || a.text("id_token") != "" {
			t.Errorf("%s: scope %q, ID token %q", name, scope, a.text("id_token"))
		}
	}
	b.signIn(h.user.ID, identity.ACRPassword)
	u, err := url.Parse(waits.Header().Get("Location"))
	ok(t, err)
	if a := b.get(issuer + "/authorize/continue?" + u.RawQuery); a.back() != nil || a.Code != http.StatusBadRequest {
		t.Errorf("a code to a redirect URI that is no more: %d %s", a.Code, a.Header().Get("Location"))
	}
}

func TestARegisteredClientDoesNotLiftItsBounds(t *testing.T) {
	h := newHouse(t, func(c *oauth.Config) { c.Registration = "open" })
	const doc = `"redirect_uris":["https://app.example/callback"],"token_endpoint_auth_method":"none","scope":"openid orders:read"}`
	a := h.register(`{` + doc)
	id := a.text("client_id")
	c, err := h.Client(t.Context(), id)
	ok(t, err)
	m := c.Metadata
	m.Resources, m.Tenant = []string{orders}, "acme"
	_, err = h.UpdateClient(t.Context(), "test", id, 0, m)
	ok(t, err)
	r := httptest.NewRequestWithContext(context.Background(), http.MethodPut, issuer+"/register/"+id, strings.NewReader(`{"client_id":"`+id+`",`+doc))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+a.text("registration_access_token"))
	if a := h.do(r); a.Code != http.StatusOK {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	c, err = h.Client(t.Context(), id)
	ok(t, err)
	if len(c.Resources) != 1 || c.Tenant != "acme" {
		t.Errorf("resources %v, tenant %q", c.Resources, c.Tenant)
	}
}

func TestStrangersDoNotFillTheTables(t *testing.T) {
	h := newHouse(t, func(c *oauth.Config) { c.Registration = "open" })
	h.client("app", nil)
	now := time.Now().UnixMilli()
	t.Run("authorization requests that wait", func(t *testing.T) {
		h.exec(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000)
			INSERT INTO requests (sha256, kind, client, browser, request, created, expires, consumed) SELECT 'x' || i, 'waiting', 'app', '', '{}', $1, $2, 0 FROM n`, now, now+60_000)
		if a := h.browser().authorize(request("app")); a.Code != http.StatusServiceUnavailable {
			t.Errorf("%d", a.Code)
		}
		if a := h.post("/par", "app", request("app")); a.Code != http.StatusServiceUnavailable {
			t.Errorf("%d %s", a.Code, a.Body)
		}
		h.exec(`UPDATE requests SET expires = $1`, now-1)
		if a := h.browser().authorize(request("app")); a.Code != http.StatusSeeOther {
			t.Errorf("and still when they have expired: %d", a.Code)
		}
	})
	t.Run("clients that are registered and deleted in turn", func(t *testing.T) {
		const doc = `{"redirect_uris":["https://app.example/callback"],"token_endpoint_auth_method":"none"}`
		h.exec(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20001)
			INSERT INTO clients (id, metadata, origin, registration, disabled, created, created_by, updated, fetched, last_used, version)
			SELECT 'dyn_' || i, '{}', 'deleted', '', $1, $1, 'registration', $1, 0, 0, 2 FROM n`, now)
		if a := h.register(doc); a.Code == http.StatusCreated {
			t.Errorf("%d %s", a.Code, a.Body)
		}
		h.exec(`UPDATE clients SET updated = $1 WHERE origin = 'deleted'`, now-25*3600*1000)
		if a := h.register(doc); a.Code != http.StatusCreated {
			t.Errorf("and still on the next day: %d %s", a.Code, a.Body)
		}
	})
}

func TestStrangersDoNotMakeARedirectorOfSignOut(t *testing.T) {
	h := newHouse(t, func(c *oauth.Config) { c.Registration = "open" })
	const away = "https://evil.example/fake"
	a := h.register(`{"redirect_uris":["https://evil.example/cb"],"post_logout_redirect_uris":["` + away + `"],"token_endpoint_auth_method":"none"}`)
	link := issuer + "/logout?" + form("client_id", a.text("client_id"), "post_logout_redirect_uri", away).Encode()
	if a := h.browser().get(link); a.back() != nil || a.Code != http.StatusOK {
		t.Errorf("nobody saw a page: %d %q", a.Code, a.Header().Get("Location"))
	}
	b := h.browser()
	b.signIn(h.user.ID, identity.ACRPassword)
	if a := b.submit(b.get(link), "/logout", "decision", "logout"); a.Header().Get("Location") != away {
		t.Errorf("who said yes stays: %d %q", a.Code, a.Header().Get("Location"))
	}
}

// TestAGrantOfASessionThatEndedMeanwhile is the race of a thief with the owner's
// new password: his request has read the session before, and writes after.
func TestAGrantOfASessionThatEndedMeanwhile(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", nil)
	code := h.code("app", "scope", "openid offline_access")
	ok(t, h.people.SetPassword(t.Context(), "test", h.user.ID, gatehouse.NewSecret(password)))
	h.exec(`UPDATE grants SET created = created + 60000`)
	wantError(t, h.token("app", redeem(code)), 400, "invalid_grant")
}

func TestASignInIsNotFreshForEver(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", nil)
	for _, pairs := range [][]string{{"prompt", "login"}, {"max_age", "60"}} {
		b := h.browser()
		next := b.authorize(request("app", pairs...)).Header().Get("Location")
		u, err := url.Parse(next)
		ok(t, err)
		b.signIn(h.user.ID, identity.ACRPassword)
		past := time.Now().Add(-25 * time.Minute).UnixMilli()
		h.exec(`UPDATE requests SET created = $1`, past-1000)
		h.exec(`UPDATE sessions SET auth_time = $1`, past)
		h.exec(`UPDATE users SET valid_from = 0`)
		if a := b.get(issuer + "/authorize/continue?" + u.RawQuery); a.back() != nil {
			t.Errorf("%v is met by a sign-in of 25 minutes ago: %v", pairs, a.back())
		}
	}
}

func TestDetailsAreShownAsTheyAre(t *testing.T) {
	h := newHouse(t, func(c *oauth.Config) { c.DetailTypes = []string{"payment"} })
	h.client("shop", func(m *oauth.Metadata) { m.Trusted, m.DetailTypes = false, []string{"payment"} })
	b := h.browser()
	b.signIn(h.user.ID, identity.ACRPassword)
	page := b.follow(b.authorize(request("shop", "authorization_details", "[{\"type\":\"payment\",\"amount\":9007199254740993,\"to\":\"\u202egro.knab\"}]")))
	if text := page.Body.String(); !strings.Contains(text, "9007199254740993") || strings.Contains(text, "\u202e") || !strings.Contains(text, `\u202egro.knab`) {
		t.Errorf("%d %s", page.Code, text)
	}
}

// Who is not signed in here may still be at an upstream, which would say so without
// asking: whose browser it is proves nothing then.
func TestADemandForAFreshProofHoldsAlsoWithoutASession(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", nil)
	for _, c := range []struct {
		pairs []string
		want  bool
	}{{nil, false}, {[]string{"prompt", "login"}, true}, {[]string{"max_age", "60"}, true}, {[]string{"max_age", "0"}, true}} {
		a := h.browser().authorize(request("app", c.pairs...))
		r := httptest.NewRequest("GET", issuer+"/signin", nil)
		for _, cookie := range a.Result().Cookies() {
			r.AddCookie(cookie)
		}
		w, err := h.Waiting(t.Context(), r, waitingID(t, a, "/auth/signin"))
		ok(t, err)
		if w.Reauth != c.want {
			t.Errorf("%v: the sign-in must be a new one: %t", c.pairs, w.Reauth)
		}
	}
}

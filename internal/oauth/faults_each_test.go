package oauth_test

import (
	"database/sql"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

// A fuse makes the n-th thing that is asked of the database fail, once.
type fuse struct {
	left  atomic.Int64 // until it burns; ≤ 0: it does not
	burnt atomic.Bool
}

var errFull = errors.New("the disk is full")

func (f *fuse) fault(string) error {
	if f.left.Load() > 0 && f.left.Add(-1) == 0 {
		f.burnt.Store(true)
		return errFull
	}
	return nil
}

func (f *fuse) set(n int64) {
	f.burnt.Store(false)
	f.left.Store(n)
}

// count asks the database itself.
func (h *house) count(query string, args ...any) (n int64) {
	h.t.Helper()
	ok(h.t, h.db.Read(h.t.Context(), func(tx *sql.Tx) error { return tx.QueryRowContext(h.t.Context(), query, args...).Scan(&n) }))
	return n
}

// gone wants an access token of app's to end within a second: what was revoked is
// on disk at once, and in the memory of each process at its next look there.
func gone(t *testing.T, h *house, tok string) {
	t.Helper()
	for end := time.Now().Add(time.Second); h.active("app", tok); <-time.After(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Error("what was revoked lives on")
			return
		}
	}
}

// TestAFaultAtEachStatement has every endpoint do its work with the first, the
// second, the third … thing failing that it asks of the database, beginning and
// committing among them, until it asks no more. What it answers then is 503 without
// anything to use, or the truth with all of it on disk.
func TestAFaultAtEachStatement(t *testing.T) {
	var f fuse
	h := newFaultyHouse(t, f.fault, func(c *oauth.Config) { c.Registration = "open" })
	key := newSigningKey(t)
	h.client("app", nil)
	h.client("tv", tv)
	h.client("service", service)
	_, _, err := h.CreateClient(t.Context(), "test", "robot", oauth.Metadata{
		GrantTypes: []string{"client_credentials"}, Scope: "orders:read", TokenEndpointAuthMethod: "private_key_jwt", TokenEndpointAuthAlg: "ES256", JWKS: key.jwks(),
	})
	ok(t, err)
	signedIn := func() *browser {
		b := h.browser()
		b.signIn(h.user.ID, identity.ACRPassword)
		return b
	}
	for _, c := range []struct {
		name string
		// prepare returns the request, and what must be true when it was answered
		// well and when it was not.
		prepare func(t *testing.T) (ask func() *reply, good func(*reply), bad func())
		refused string // the error that is the right answer, "" when success is
	}{
		{"a code for who is signed in", func(t *testing.T) (func() *reply, func(*reply), func()) {
			b := signedIn()
			return func() *reply { return b.authorize(request("app")) }, func(a *reply) {
				if got := h.token("app", redeem(a.back().Get("code"))); got.Code != http.StatusOK {
					t.Errorf("its code gives %d %s", got.Code, got.Body)
				}
			}, func() {}
		}, ""},
		{"a request that waits for a sign-in", func(t *testing.T) (func() *reply, func(*reply), func()) {
			before := h.count(`SELECT COUNT(*) FROM requests WHERE kind = 'waiting'`)
			return func() *reply { return h.browser().authorize(request("app")) }, func(*reply) {
				if h.count(`SELECT COUNT(*) FROM requests WHERE kind = 'waiting'`) != before+1 {
					t.Error("it was not kept")
				}
			}, func() {}
		}, ""},
		{"tokens for a code", func(t *testing.T) (func() *reply, func(*reply), func()) {
			code := h.code("app")
			redeemed := func() *reply { return h.token("app", redeem(code)) }
			return redeemed, func(a *reply) {
					if next := h.token("app", refresh(a.text("refresh_token"))); next.Code != http.StatusOK {
						t.Errorf("they cannot be refreshed: %s", next.Body)
					}
					wantError(t, redeemed(), 400, "invalid_grant")
				}, func() {
					// It may be used up, if only the word of it was lost; then nothing comes of it.
					if a := redeemed(); a.Code != http.StatusOK {
						wantError(t, a, 400, "invalid_grant")
					}
				}
		}, ""},
		{"a refresh", func(t *testing.T) (func() *reply, func(*reply), func()) {
			tok := h.tokens("app").text("refresh_token")
			return func() *reply { return h.token("app", refresh(tok)) }, func(a *reply) {
					if next := h.token("app", refresh(a.text("refresh_token"))); next.Code != http.StatusOK {
						t.Errorf("the successor is not good: %s", next.Body)
					}
				}, func() {
					if a := h.token("app", refresh(tok)); a.Code != http.StatusOK {
						t.Errorf("a fault of ours cost the client its token: %s", a.Body)
					}
				}
		}, ""},
		{"a refresh token shown again when it is too old", func(t *testing.T) (func() *reply, func(*reply), func()) {
			old := h.tokens("app").text("refresh_token")
			tok := h.token("app", refresh(old)).text("refresh_token")
			last := h.token("app", refresh(tok))
			return func() *reply { return h.token("app", refresh(old)) }, func(*reply) { t.Error("it was refreshed") }, func() {
				wantError(t, h.token("app", refresh(old)), 400, "invalid_grant") // again, if it could not be ended
				wantError(t, h.token("app", refresh(last.text("refresh_token"))), 400, "invalid_grant")
				gone(t, h, last.text("access_token"))
			}
		}, "invalid_grant"},
		{"a client that signs an assertion", func(t *testing.T) (func() *reply, func(*reply), func()) {
			v := form("grant_type", "client_credentials", "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", "client_assertion", key.assertion("robot"))
			return func() *reply { return h.post("/token", "", v) }, func(*reply) {
				wantError(t, h.post("/token", "", v), 401, "invalid_client")
			}, func() {}
		}, ""},
		{"an exchange", func(t *testing.T) (func() *reply, func(*reply), func()) {
			subject := h.tokens("app", "scope", "openid orders:read", "resource", orders).text("access_token")
			return func() *reply { return h.token("service", exchangeForm(subject)) }, func(a *reply) {
				if !h.active("service", a.text("access_token")) {
					t.Error("its token is not good")
				}
			}, func() {}
		}, ""},
		{"a revocation", func(t *testing.T) (func() *reply, func(*reply), func()) {
			tokens := h.tokens("app")
			return func() *reply { return h.post("/revoke", "app", form("token", tokens.text("refresh_token"))) }, func(*reply) {
				if h.active("app", tokens.text("refresh_token")) {
					t.Error("what was revoked lives")
				}
				gone(t, h, tokens.text("access_token"))
			}, func() {}
		}, ""},
		{"a revocation of an access token", func(t *testing.T) (func() *reply, func(*reply), func()) {
			tok := h.tokens("app").text("access_token")
			return func() *reply { return h.post("/revoke", "app", form("token", tok)) }, func(*reply) {
				gone(t, h, tok)
			}, func() {}
		}, ""},
		{"introspection of a live refresh token", func(t *testing.T) (func() *reply, func(*reply), func()) {
			tok := h.tokens("app").text("refresh_token")
			return func() *reply { return h.post("/introspect", "app", form("token", tok)) }, func(a *reply) {
				if a.json["active"] != true {
					t.Error("what could not be known was answered")
				}
			}, func() {}
		}, ""},
		{"introspection of a revoked refresh token", func(t *testing.T) (func() *reply, func(*reply), func()) {
			tok := h.tokens("app").text("refresh_token")
			h.post("/revoke", "app", form("token", tok))
			return func() *reply { return h.post("/introspect", "app", form("token", tok)) }, func(a *reply) {
				if a.json["active"] != false {
					t.Error("it is said to live")
				}
			}, func() {}
		}, ""},
		{"userinfo", func(t *testing.T) (func() *reply, func(*reply), func()) {
			tok := h.tokens("app", "scope", "openid profile").text("access_token")
			return func() *reply {
					return h.post("/userinfo", "", nil, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+tok) })
				}, func(a *reply) {
					if a.text("sub") != h.user.ID {
						t.Error(a.Body)
					}
				}, func() {}
		}, ""},
		{"a pushed request", func(t *testing.T) (func() *reply, func(*reply), func()) {
			return func() *reply { return h.post("/par", "app", request("app")) }, func(a *reply) {
				if got := signedIn().authorize(form("client_id", "app", "request_uri", a.text("request_uri"))).back(); got.Get("code") == "" {
					t.Errorf("%v", got)
				}
			}, func() {}
		}, ""},
		{"what was pushed", func(t *testing.T) (func() *reply, func(*reply), func()) {
			v := form("client_id", "app", "request_uri", h.post("/par", "app", request("app")).text("request_uri"))
			b := signedIn()
			return func() *reply { return b.authorize(v) }, func(a *reply) {
				if a.back().Get("code") == "" {
					t.Errorf("%d %s", a.Code, a.Body)
				}
				if again := signedIn().authorize(v); again.back().Get("code") != "" {
					t.Error("it was taken twice")
				}
			}, func() {}
		}, ""},
		{"a device begins", func(t *testing.T) (func() *reply, func(*reply), func()) {
			return func() *reply { return h.post("/device_authorization", "tv", form("scope", "openid orders:read")) }, func(a *reply) {
				wantError(t, h.poll("tv", a), 400, "authorization_pending")
			}, func() {}
		}, ""},
		{"a device gets its tokens", func(t *testing.T) (func() *reply, func(*reply), func()) {
			begun := h.start("tv")
			signedIn().allow(begun.text("user_code"))
			return func() *reply { return h.poll("tv", begun) }, func(a *reply) {
					if next := h.token("tv", refresh(a.text("refresh_token"))); next.Code != http.StatusOK {
						t.Errorf("they cannot be refreshed: %s", next.Body)
					}
					wantError(t, h.poll("tv", begun), 400, "invalid_grant")
				}, func() {
					if a := h.poll("tv", begun); a.Code != http.StatusOK && a.text("error") != "slow_down" {
						wantError(t, a, 400, "invalid_grant")
					}
				}
		}, ""},
		{"a registration", func(t *testing.T) (func() *reply, func(*reply), func()) {
			h.active("app", h.tokens("app").text("access_token")) // all clients there were before are known
			before := h.count(`SELECT COUNT(*) FROM clients`)
			return func() *reply { return h.register(`{"redirect_uris":["https://app.example/cb"]}`) }, func(a *reply) {
				if a.text("client_id") == "" || h.count(`SELECT COUNT(*) FROM clients`) != before+1 {
					t.Error(a.Body)
				}
			}, func() {}
		}, ""},
		{"a sign-out", func(t *testing.T) (func() *reply, func(*reply), func()) {
			b := signedIn()
			tokens := h.token("app", redeem(b.authorize(request("app")).back().Get("code")))
			cookies := map[string]string{"__Host-gatehouse": b.cookies["__Host-gatehouse"]}
			return func() *reply { return b.get(issuer + "/logout?id_token_hint=" + tokens.text("id_token")) }, func(*reply) {
				if still := (&browser{h, cookies}).authorize(request("app", "prompt", "none")).back(); still.Get("code") != "" {
					t.Error("the session lives")
				}
			}, func() {}
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.t = t
			refused := 0
			for n := int64(1); ; n++ {
				if n > 60 {
					t.Fatal("it never ends")
				}
				f.set(0)
				ask, good, bad := c.prepare(t)
				f.set(n)
				a := ask()
				burnt := f.burnt.Load()
				f.set(0)
				switch {
				case a.Code < 400:
					good(a)
				case a.Code == http.StatusServiceUnavailable:
					refused++
					for _, name := range []string{"access_token", "refresh_token", "id_token", "active", "request_uri", "device_code", "client_id", "client_secret", "sub"} {
						if a.json[name] != nil {
							t.Errorf("point %d: an error with %s in it", n, name)
						}
					}
					if a.Header().Get("Location") != "" {
						t.Errorf("point %d: an error that goes on at %s", n, a.Header().Get("Location"))
					}
					bad()
				case a.text("error") == c.refused:
					bad()
				default:
					t.Errorf("point %d: %d %s, want 503", n, a.Code, a.Body)
				}
				if !burnt {
					break
				}
			}
			t.Logf("%d faults were answered 503", refused)
			if refused == 0 {
				t.Error("no fault was ever noticed")
			}
		})
	}
}

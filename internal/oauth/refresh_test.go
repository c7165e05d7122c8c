package oauth_test

import (
	"database/sql"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

func TestRefreshTokensRotate(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", nil)
	h.client("other", nil)
	first := h.tokens("app")
	t.Run("a refresh gives new tokens of the same user", func(t *testing.T) {
		a := h.token("app", refresh(first.text("refresh_token")))
		if a.Code != http.StatusOK || a.text("refresh_token") == first.text("refresh_token") {
			t.Fatalf("%s", a.Body)
		}
		was, is := h.claims(first.text("access_token"), "at+jwt"), h.claims(a.text("access_token"), "at+jwt")
		for _, name := range []string{"sub", "aud", "scope", "grant_id", "sid", "auth_time"} {
			if was[name] != is[name] {
				t.Errorf("%s was %v, is %v", name, was[name], is[name])
			}
		}
		id := h.claims(a.text("id_token"), "JWT")
		if id["auth_time"] != was["auth_time"] || id["nonce"] != nil {
			t.Errorf("%v (OpenID Connect Core §12.2)", id)
		}
	})
	t.Run("who asks again at once gets the same successor", func(t *testing.T) {
		a, b := h.token("app", refresh(first.text("refresh_token"))), h.token("app", refresh(first.text("refresh_token")))
		if a.text("refresh_token") == "" || a.text("refresh_token") != b.text("refresh_token") {
			t.Errorf("%s\n%s", a.Body, b.Body)
		}
	})
	t.Run("another client's is refused and kills nothing", func(t *testing.T) {
		tokens := h.tokens("app")
		wantError(t, h.token("other", refresh(tokens.text("refresh_token"))), 400, "invalid_grant")
		if a := h.token("app", refresh(tokens.text("refresh_token"))); a.Code != http.StatusOK {
			t.Errorf("%s", a.Body)
		}
	})
	t.Run("no part of it can be changed or left out", func(t *testing.T) {
		tok := h.tokens("app").text("refresh_token")
		for i := range len(tok) {
			b := []byte(tok)
			if b[i]++; b[i] == '/' || b[i] == ':' || b[i] == '[' || b[i] == '{' || b[i] == '.' {
				b[i] = '_'
			}
			wantError(t, h.token("app", refresh(string(b))), 400, "invalid_grant")
			if i > 0 {
				wantError(t, h.token("app", refresh(tok[:i])), 400, "invalid_grant")
				wantError(t, h.token("app", refresh(tok[i:])), 400, "invalid_grant")
			}
		}
		for _, more := range []string{tok + "A", tok + "=", tok + "\n", " " + tok, strings.Repeat(tok, 100)} {
			wantError(t, h.token("app", refresh(more)), 400, "invalid_grant")
		}
		if a := h.token("app", refresh(tok)); a.Code != http.StatusOK {
			t.Errorf("guesses killed a family: %s", a.Body)
		}
	})
	t.Run("a scope is never more than was granted, and less for one token only", func(t *testing.T) {
		tok := h.tokens("app", "scope", "openid orders:read orders:write").text("refresh_token")
		wantError(t, h.token("app", refresh(tok, "scope", "openid mail")), 400, "invalid_scope")
		a := h.token("app", refresh(tok, "scope", "orders:read"))
		if a.text("scope") != "orders:read" || a.text("id_token") != "" {
			t.Fatalf("%s", a.Body)
		}
		if a = h.token("app", refresh(a.text("refresh_token"))); a.text("scope") != "openid orders:read orders:write" {
			t.Errorf("%s", a.Body)
		}
	})
	t.Run("a resource is one of those granted", func(t *testing.T) {
		tok := h.tokens("app", "resource", orders).text("refresh_token")
		wantError(t, h.token("app", refresh(tok, "resource", mail)), 400, "invalid_target")
		if a := h.token("app", refresh(tok, "resource", orders)); a.Code != http.StatusOK {
			t.Errorf("a mistake of the client's cost it the token: %s", a.Body)
		}
	})
}

func TestFiftyRefreshesOfOneToken(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", nil)
	tok := h.tokens("app").text("refresh_token")
	next := ""
	for _, a := range inParallel(50, func() *reply { return h.token("app", refresh(tok)) }) {
		if a.Code != http.StatusOK {
			t.Fatalf("%d %s", a.Code, a.Body)
		}
		if next == "" {
			next = a.text("refresh_token")
		}
		if a.text("refresh_token") != next {
			t.Fatal("two successors")
		}
	}
	var gen, rows int64
	ok(t, h.db.Read(t.Context(), func(tx *sql.Tx) error {
		return tx.QueryRowContext(t.Context(), `SELECT MAX(gen), COUNT(*) FROM grants`).Scan(&gen, &rows)
	}))
	if gen != 2 || rows != 1 {
		t.Errorf("generation %d in %d rows, want 2 in 1", gen, rows)
	}
	if a := h.token("app", refresh(next)); a.Code != http.StatusOK {
		t.Errorf("%s", a.Body)
	}
}

func TestAUsedRefreshTokenEndsItsFamily(t *testing.T) {
	for _, c := range []struct {
		name  string
		grace time.Duration
		uses  int // after the first token's
	}{
		{"without grace, the last but one is enough", -1, 1},
		{"within grace, any older one", 0, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t, func(cfg *oauth.Config) { cfg.RefreshGrace = c.grace })
			h.client("app", nil)
			first := h.tokens("app")
			last := first
			for range c.uses {
				if last = h.token("app", refresh(last.text("refresh_token"))); last.Code != http.StatusOK {
					t.Fatalf("%s", last.Body)
				}
			}
			wantError(t, h.token("app", refresh(first.text("refresh_token"))), 400, "invalid_grant")
			wantError(t, h.token("app", refresh(last.text("refresh_token"))), 400, "invalid_grant")
			if h.active("app", last.text("access_token")) || h.active("app", first.text("access_token")) || h.active("app", last.text("refresh_token")) {
				t.Error("tokens of a stolen family live")
			}
		})
	}
}

func TestRefreshTokensEnd(t *testing.T) {
	for _, c := range []struct {
		name    string
		offline bool // does an offline grant end as well?
		end     func(h *house, sid string) error
	}{
		{"when the user is locked", true, func(h *house, _ string) error { return h.people.Lock(h.t.Context(), "test", h.user.ID, "test") }},
		{"when the user was locked and is free again", true, func(h *house, _ string) error {
			if err := h.people.Lock(h.t.Context(), "test", h.user.ID, "test"); err != nil {
				return err
			}
			return h.people.Unlock(h.t.Context(), "test", h.user.ID)
		}},
		{"when the user is deleted", true, func(h *house, _ string) error { return h.people.Delete(h.t.Context(), "test", h.user.ID) }},
		{"when the client is disabled", true, func(h *house, _ string) error { return h.DisableClient(h.t.Context(), "test", "app") }},
		{"when the client was disabled and is enabled again", true, func(h *house, _ string) error {
			if err := h.DisableClient(h.t.Context(), "test", "app"); err != nil {
				return err
			}
			return h.EnableClient(h.t.Context(), "test", "app")
		}},
		{"when the session is ended by somebody else", false, func(h *house, sid string) error { return h.people.End(h.t.Context(), "test", sid) }},
		{"when the session is ended here", false, func(h *house, sid string) error { return h.EndSession(h.t.Context(), "test", sid) }},
		{"when the grant is taken back", true, func(h *house, _ string) error {
			list, err := h.Grants(h.t.Context(), h.user.ID)
			if err != nil {
				return err
			}
			return h.RevokeGrant(h.t.Context(), h.user.ID, list[0].ID)
		}},
	} {
		for _, offline := range []bool{false, true} {
			name, scope := c.name, "openid orders:read"
			if offline {
				name, scope = name+", offline", scope+" offline_access"
			}
			t.Run(name, func(t *testing.T) {
				h := newHouse(t, nil)
				h.client("app", nil)
				h.client("orders-api", machine)
				b := h.browser()
				session := b.signIn(h.user.ID, identity.ACRPassword)
				a := h.token("app", redeem(b.authorize(request("app", "scope", scope)).back().Get("code")))
				if got := h.post("/introspect", "orders-api", form("token", a.text("access_token"))); got.json["active"] != true {
					t.Fatalf("%s", got.Body)
				}
				ok(t, c.end(h, session.ID))
				lives := offline && !c.offline
				eventually(t, "the access token outlives its end", func() bool {
					got := h.post("/introspect", "orders-api", form("token", a.text("access_token")))
					return (got.json["active"] == true) == lives
				})
				next := h.token("app", refresh(a.text("refresh_token")))
				if lives {
					if next.Code != http.StatusOK {
						t.Errorf("an offline grant ended with its session: %s", next.Body)
					}
				} else if next.Code == http.StatusOK || next.text("access_token") != "" {
					t.Errorf("refreshed: %s", next.Body)
				}
			})
		}
	}
}

func TestRolesAreThoseOfNow(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", nil)
	a := h.tokens("app")
	_, err := h.people.Update(t.Context(), "test", h.user.ID, 0, func(u *identity.User) error { u.Roles = nil; return nil })
	ok(t, err)
	// To lose a role ends what was issued with it; if it does not, the next token is without.
	if next := h.token("app", refresh(a.text("refresh_token"))); next.Code == http.StatusOK && h.claims(next.text("access_token"), "at+jwt")["roles"] != nil {
		t.Errorf("%s", next.Body)
	}
}

func TestIdleAndAbsoluteEnds(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*oauth.Config)
		every  time.Duration // it is used
	}{
		{"a refresh token that was not used ends", func(c *oauth.Config) { c.RefreshIdle = 2 * time.Second }, 2100 * time.Millisecond},
		{"a family ends, however much it was used", func(c *oauth.Config) { c.RefreshLife = 2 * time.Second }, 40 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, c.change)
			h.client("app", nil)
			tok := h.tokens("app").text("refresh_token")
			eventually(t, "it lives on", func() bool {
				<-time.After(c.every)
				a := h.token("app", refresh(tok))
				if a.Code == http.StatusOK {
					tok = a.text("refresh_token")
				}
				return a.Code == http.StatusBadRequest && a.text("error") == "invalid_grant"
			})
		})
	}
}

func TestBoundClientsOfFAPIDoNotRotate(t *testing.T) {
	key := newSigningKey(t)
	h := newHouse(t, func(c *oauth.Config) { c.Profile = oauth.FAPI2 })
	_, _, err := h.CreateClient(t.Context(), "test", "bank", oauth.Metadata{
		RedirectURIs: []string{callback}, GrantTypes: []string{"authorization_code", "refresh_token"}, Scope: "openid orders:read", Trusted: true,
		TokenEndpointAuthMethod: "private_key_jwt", TokenEndpointAuthAlg: "ES256", JWKS: key.jwks(), DPoPBoundTokens: true, RequirePAR: true,
	})
	ok(t, err)
	prove := func(path string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("DPoP", key.proof(http.MethodPost, issuer+path, "")) }
	}
	as := func(pairs ...string) []string {
		return append([]string{"client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", "client_assertion", key.assertion("bank")}, pairs...)
	}
	v := request("bank", as()...)
	pushed := h.post("/par", "", v, prove("/par"))
	if pushed.Code != http.StatusCreated {
		t.Fatalf("%s", pushed.Body)
	}
	b := h.browser()
	b.signIn(h.user.ID, identity.ACRPassword)
	if back := b.authorize(request("bank")).back(); back.Get("error") != "invalid_request" {
		t.Errorf("a request that was not pushed: %v", back)
	}
	uri := form("client_id", "bank", "request_uri", pushed.text("request_uri"))
	code := b.authorize(uri).back().Get("code")
	if again := b.authorize(uri); again.back() != nil || again.Code != http.StatusBadRequest {
		t.Errorf("a request_uri was taken twice: %d", again.Code)
	}
	wantError(t, h.post("/token", "", redeem(code, as()...)), 400, "invalid_dpop_proof")
	a := h.post("/token", "", redeem(code, as()...), key.proving)
	if a.Code != http.StatusOK {
		t.Fatalf("%s", a.Body)
	}
	for range 3 {
		next := h.post("/token", "", refresh(a.text("refresh_token"), as()...), key.proving)
		if next.Code != http.StatusOK || next.text("refresh_token") != a.text("refresh_token") {
			t.Errorf("%s", next.Body)
		}
	}
}

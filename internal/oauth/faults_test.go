package oauth_test

import (
	"database/sql"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// broken makes one kind of statement on one table fail, as a full disk or a bad
// page would, until the function it returns is called.
func (h *house) broken(statement, table string) (mend func()) {
	h.t.Helper()
	run := func(text string) {
		h.t.Helper()
		ok(h.t, h.db.Write(h.t.Context(), func(tx *sql.Tx) error { _, err := tx.ExecContext(h.t.Context(), text); return err }))
	}
	run(`CREATE TRIGGER broken BEFORE ` + statement + ` ON ` + table + ` BEGIN SELECT RAISE(ABORT, 'the disk is full'); END`)
	return func() { run(`DROP TRIGGER broken`) }
}

func TestWhatCannotBeWrittenIsNotAnswered(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", nil)
	for _, fault := range [][2]string{{"INSERT", "grants"}, {"INSERT", "authorization_codes"}} {
		t.Run("no code without its row: "+fault[1], func(t *testing.T) {
			b := h.browser()
			b.signIn(h.user.ID, identity.ACRPassword)
			mend := h.broken(fault[0], fault[1])
			if a := b.authorize(request("app")); a.Code != http.StatusServiceUnavailable || a.Header().Get("Location") != "" {
				t.Errorf("%d %s", a.Code, a.Header().Get("Location"))
			}
			mend()
			if b.authorize(request("app")).back().Get("code") == "" {
				t.Error("it does not mend")
			}
		})
	}
	t.Run("no sign-in page for a request that was not kept", func(t *testing.T) {
		mend := h.broken("INSERT", "requests")
		defer mend()
		if a := h.browser().authorize(request("app")); a.Code != http.StatusServiceUnavailable || a.Header().Get("Location") != "" {
			t.Errorf("%d %s", a.Code, a.Header().Get("Location"))
		}
	})
	for _, table := range []string{"authorization_codes", "grants"} {
		t.Run("no token for a code that was not used up: "+table, func(t *testing.T) {
			code := h.code("app")
			mend := h.broken("UPDATE", table)
			wantError(t, h.token("app", redeem(code)), 503, "server_error")
			mend()
			if a := h.token("app", redeem(code)); a.Code != http.StatusOK {
				t.Errorf("a fault of ours cost the client its code: %s", a.Body)
			}
		})
	}
	t.Run("no token for a family that was not advanced", func(t *testing.T) {
		tok := h.tokens("app").text("refresh_token")
		mend := h.broken("UPDATE", "grants")
		for _, a := range inParallel(10, func() *reply { return h.token("app", refresh(tok)) }) {
			wantError(t, a, 503, "server_error")
		}
		mend()
		if a := h.token("app", refresh(tok)); a.Code != http.StatusOK {
			t.Errorf("a fault of ours cost the client its token: %s", a.Body)
		}
	})
	t.Run("a family that could not be ended is not said to have ended", func(t *testing.T) {
		tokens := h.tokens("app")
		for _, fault := range [][2]string{{"UPDATE", "grants"}, {"INSERT", "revocations"}} {
			mend := h.broken(fault[0], fault[1])
			wantError(t, h.post("/revoke", "app", form("token", tokens.text("refresh_token"))), 503, "server_error")
			mend()
			if !h.active("app", tokens.text("refresh_token")) {
				t.Errorf("%v: half of it was done", fault)
			}
		}
		mend := h.broken("INSERT", "revocations")
		wantError(t, h.post("/revoke", "app", form("token", tokens.text("access_token"))), 503, "server_error")
		mend()
		if !h.active("app", tokens.text("access_token")) {
			t.Error("half of it was done")
		}
	})
	t.Run("a code shown again is not forgiven because its grant could not be ended", func(t *testing.T) {
		code := h.code("app")
		first := h.token("app", redeem(code))
		mend := h.broken("UPDATE", "grants")
		wantError(t, h.token("app", redeem(code)), 503, "server_error")
		mend()
		wantError(t, h.token("app", redeem(code)), 400, "invalid_grant")
		if h.active("app", first.text("access_token")) {
			t.Error("its tokens live")
		}
	})
	t.Run("nobody is signed out who could not be", func(t *testing.T) {
		b := h.browser()
		b.signIn(h.user.ID, identity.ACRPassword)
		tokens := h.token("app", redeem(b.authorize(request("app")).back().Get("code")))
		mend := h.broken("DELETE", "sessions")
		a := b.get(issuer + "/logout?id_token_hint=" + tokens.text("id_token"))
		mend()
		if a.Code != http.StatusServiceUnavailable || b.authorize(request("app", "prompt", "none")).back().Get("code") == "" {
			t.Errorf("%d", a.Code)
		}
	})
}

func TestWithoutADatabaseNothingIsMinted(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", nil)
	h.client("robot", machine)
	b := h.browser()
	b.signIn(h.user.ID, identity.ACRPassword)
	code, tokens := h.code("app"), h.tokens("app")
	ok(t, h.db.Close())
	wantError(t, h.token("app", redeem(code)), 503, "server_error")
	wantError(t, h.token("app", refresh(tokens.text("refresh_token"))), 503, "server_error")
	wantError(t, h.post("/revoke", "app", form("token", tokens.text("refresh_token"))), 503, "server_error")
	wantError(t, h.post("/introspect", "app", form("token", tokens.text("refresh_token"))), 503, "server_error")
	if a := b.authorize(request("app")); a.Code != http.StatusServiceUnavailable || a.back() != nil {
		t.Errorf("%d %s", a.Code, a.Header().Get("Location"))
	}
	// What is known in memory is believed for some seconds, and then no more: a
	// revocation may have been missed.
	eventually(t, "a token is minted or believed though nobody knows what was revoked", func() bool {
		<-time.After(100 * time.Millisecond)
		return h.token("robot", form("grant_type", "client_credentials")).Code == http.StatusServiceUnavailable &&
			h.post("/introspect", "app", form("token", tokens.text("access_token"))).Code == http.StatusServiceUnavailable
	})
}

// brokenKeys sign nothing.
type brokenKeys struct{ oauth.Keyring }

func (k *brokenKeys) Sign(alg token.Algorithm, typ string, claims []byte) (string, error) {
	return "", errors.New("the key is gone")
}

func TestWithoutKeysNothingIsMinted(t *testing.T) {
	keys := &brokenKeys{}
	h := newHouse(t, func(c *oauth.Config) { keys.Keyring, c.Keys = c.Keys, keys })
	h.client("app", nil)
	h.client("robot", machine)
	wantError(t, h.token("robot", form("grant_type", "client_credentials")), 503, "server_error")
	wantError(t, h.token("app", redeem(h.code("app"))), 503, "server_error")
	list, err := h.Grants(t.Context(), h.user.ID)
	if err != nil || len(list) != 0 {
		t.Errorf("a grant whose tokens nobody has: %v %v", list, err)
	}
}

package oauth_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// A lockdown by another process is known here a moment later. What this process
// issues in that moment must not outlive it, whichever of client and revocation is
// known first, and on whichever side of a second's end.
func TestWhatIsIssuedWhileALockdownIsOnItsWayIsDead(t *testing.T) {
	h := newHouse(t, nil)
	h.client("robot", machine)
	db, err := store.Open(t.Context(), storetest.At(h.path))
	ok(t, err)
	defer func() { _ = db.Close() }()
	changes, err := auditlog.OpenChanges(t.TempDir())
	ok(t, err)
	people, err := identity.Open(t.Context(), identity.Config{DB: db, Seal: h.seal, Log: changes, Issuer: issuer})
	ok(t, err)
	elsewhere, err := oauth.New(t.Context(), oauth.Config{
		Issuer: issuer, DB: db, Keys: h.keys, Seal: h.seal, People: people, Log: changes, Resources: []oauth.Resource{{ID: orders}, {ID: mail}},
		Scopes: map[string]string{"orders:read": "", "orders:write": "", "mail": ""},
	})
	ok(t, err)
	ask := form("grant_type", "client_credentials", "resource", orders, "scope", "orders:read")
	got := 0
	for range 4 {
		ok(t, elsewhere.EnableClient(t.Context(), "test", "robot"))
		eventually(t, "the client is not known to be back", func() bool { return h.token("robot", ask).Code == http.StatusOK })
		ok(t, elsewhere.DisableClient(t.Context(), "test", "robot"))
		locked := time.Now()
		var issued []*token.Claims
		for time.Since(locked) < time.Second {
			if a := h.token("robot", ask); a.Code == http.StatusOK {
				c := h.claims(a.text("access_token"), "at+jwt")
				issued = append(issued, &token.Claims{Subject: "robot", ClientID: "robot", IssuedAt: time.Unix(c["iat"].(int64), 0)})
			}
		}
		got += len(issued)
		for _, c := range issued { // a second is over: every gateway knows
			if !h.people.Revoked(c) {
				t.Fatalf("a token dated %v lives on after the lockdown at %v", c.IssuedAt, locked)
			}
		}
	}
	if got == 0 {
		t.Skip("the lockdown was known at once, each time: nothing was tried")
	}
}

// A client that is locked down, freed and locked down again within a second: what
// it got in between, dated behind the first, is behind the second, too.
func TestASecondLockdownWithinASecondTakesWhatCameBetween(t *testing.T) {
	h := newHouse(t, nil)
	h.client("robot", machine)
	ask := form("grant_type", "client_credentials", "resource", orders, "scope", "orders:read")
	for range 3 {
		ok(t, h.DisableClient(t.Context(), "test", "robot"))
		ok(t, h.EnableClient(t.Context(), "test", "robot"))
		var between *reply
		eventually(t, "no token after the client was freed", func() bool {
			between = h.token("robot", ask)
			return between.Code == http.StatusOK
		})
		c := h.claims(between.text("access_token"), "at+jwt")
		claims := &token.Claims{Subject: "robot", ClientID: "robot", IssuedAt: time.Unix(c["iat"].(int64), 0)}
		if h.people.Revoked(claims) {
			t.Fatal("a token of a client that was freed is dead")
		}
		ok(t, h.DisableClient(t.Context(), "test", "robot"))
		eventually(t, "a token from between two lockdowns lives on", func() bool { return h.people.Revoked(claims) })
		ok(t, h.EnableClient(t.Context(), "test", "robot"))
	}
}

// Who was locked and freed a moment ago is looked at again whenever something is
// issued, and gets all that anybody else does.
func TestWhoWasFreedAMomentAgoIsServed(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", nil)
	h.client("service", service)
	ok(t, h.people.Lock(t.Context(), "test", h.user.ID, "by mistake"))
	ok(t, h.people.Unlock(t.Context(), "test", h.user.ID))
	<-time.After(2 * time.Millisecond) // what is proven in the millisecond of the lockdown is taken for older
	given := h.tokens("app", "scope", "openid orders:read", "resource", orders)
	if a := h.token("app", refresh(given.text("refresh_token"))); a.Code != http.StatusOK {
		t.Errorf("a refresh: %d %s", a.Code, a.Body)
	}
	if a := h.token("service", exchangeForm(given.text("access_token"))); a.Code != http.StatusOK {
		t.Errorf("an exchange: %d %s", a.Code, a.Body)
	}
}

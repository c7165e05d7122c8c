package oauth_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
)

// works reports what the token endpoint says to a client with that secret.
func (s *shop) works(id, secret string) (int, string) {
	s.t.Helper()
	a := s.post("/token", asRobot(), basic(id, secret))
	return a.Status, a.code()
}

func wantStatus(t testing.TB, what string, got, want int) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: status %d, want %d", what, got, want)
	}
}

func TestClientsAreKept(t *testing.T) {
	s := newShop(t, nil)
	ctx := t.Context()
	t.Run("a secret is made, shown once, and recognisable where it leaks", func(t *testing.T) {
		secret, c := s.client("robot", robot())
		if !regexp.MustCompile(`^gcs_[0-9A-Za-z]{49}$`).MatchString(secret.Reveal()) {
			t.Fatal("the secret has another form")
		}
		if len(c.Secrets) != 1 || c.Origin != "operator" || c.CreatedBy != "test" || c.Version != 1 {
			t.Fatalf("made %+v", c)
		}
		status, _ := s.works("robot", secret.Reveal())
		wantStatus(t, "with its secret", status, http.StatusOK)
	})
	t.Run("an id is made when none is given, and never looks like a user's", func(t *testing.T) {
		_, c := s.client("", robot())
		if !strings.HasPrefix(c.ID, "cli_") {
			t.Fatal(c.ID)
		}
		for _, id := range []string{"usr_x", "grp_x", "a b", "a/b", "", strings.Repeat("a", 65), "https://app.example/c"} {
			if id == "" {
				continue
			}
			if _, _, err := s.CreateClient(ctx, "test", id, robot()); !errors.Is(err, oauth.ErrClient) {
				t.Errorf("%q: %v", id, err)
			}
		}
	})
	t.Run("an id is taken once", func(t *testing.T) {
		s.client("twice", robot())
		if _, _, err := s.CreateClient(ctx, "test", "twice", robot()); !errors.Is(err, oauth.ErrClientTaken) {
			t.Fatal(err)
		}
	})
	t.Run("a deleted client's id is nobody's for ever", func(t *testing.T) {
		secret, _ := s.client("gone", robot())
		if err := s.DeleteClient(ctx, "test", "gone"); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.CreateClient(ctx, "test", "gone", robot()); !errors.Is(err, oauth.ErrClientTaken) {
			t.Fatal(err)
		}
		if _, err := s.Client(ctx, "gone"); !errors.Is(err, oauth.ErrClientUnknown) {
			t.Fatal(err)
		}
		for name, err := range map[string]error{
			"delete": s.DeleteClient(ctx, "test", "gone"), "enable": s.EnableClient(ctx, "test", "gone"), "disable": s.DisableClient(ctx, "test", "gone"),
		} {
			if !errors.Is(err, oauth.ErrClientUnknown) {
				t.Errorf("%s: %v", name, err)
			}
		}
		status, code := s.works("gone", secret.Reveal())
		if status != http.StatusUnauthorized || code != "invalid_client" {
			t.Fatal(status, code)
		}
		all, err := s.Clients(ctx)
		if err != nil || slices.ContainsFunc(all, func(c oauth.Client) bool { return c.ID == "gone" }) {
			t.Fatal("it is listed", err)
		}
	})
	t.Run("what the config does not have is refused", func(t *testing.T) {
		for _, change := range []func(*oauth.Metadata){
			func(m *oauth.Metadata) { m.Scope = "nothing.read" },
			func(m *oauth.Metadata) { m.Resources = []string{"https://other.example"} },
			func(m *oauth.Metadata) { m.DetailTypes = []string{"payment"} },
		} {
			m := robot()
			change(&m)
			if _, _, err := s.CreateClient(ctx, "test", "", m); !errors.Is(err, oauth.ErrClient) {
				t.Errorf("%+v: %v", m, err)
			}
		}
	})
	t.Run("an update wants the version that was read", func(t *testing.T) {
		_, c := s.client("edited", robot())
		m := c.Metadata
		m.ClientName = "Edited"
		changed, err := s.UpdateClient(ctx, "test", c.ID, c.Version, m)
		if err != nil || changed.ClientName != "Edited" || changed.Version != 2 {
			t.Fatal(changed, err)
		}
		if _, err := s.UpdateClient(ctx, "test", c.ID, c.Version, m); !errors.Is(err, oauth.ErrClientChanged) {
			t.Fatal(err)
		}
		if _, err := s.UpdateClient(ctx, "test", "nobody", 0, m); !errors.Is(err, oauth.ErrClientUnknown) {
			t.Fatal(err)
		}
	})
	t.Run("secrets end with the method that used them", func(t *testing.T) {
		secret, c := s.client("method", robot())
		m := c.Metadata
		m.TokenEndpointAuthMethod, m.JWKS = "private_key_jwt", publicKeys(t)
		if _, err := s.UpdateClient(ctx, "test", c.ID, 0, m); err != nil {
			t.Fatal(err)
		}
		if _, err := s.UpdateClient(ctx, "test", c.ID, 0, robot()); err != nil {
			t.Fatal(err)
		}
		status, _ := s.works(c.ID, secret.Reveal())
		wantStatus(t, "the old secret", status, http.StatusUnauthorized)
	})
	t.Run("every change is in the log, with its actor and without a secret", func(t *testing.T) {
		secret, _ := s.client("logged", robot())
		all, err := s.changes.All(ctx)
		if err != nil {
			t.Fatal(err)
		}
		last := all[len(all)-1]
		if last.Actor != "test" || last.Action != "clients.create" || last.Object != "logged" {
			t.Fatal(last)
		}
		for _, v := range last.Detail {
			if strings.Contains(v, secret.Reveal()) {
				t.Fatal("the secret is in the log")
			}
		}
		if _, _, err := s.CreateClient(ctx, "", "", robot()); !errors.Is(err, oauth.ErrClient) {
			t.Fatal("nobody may create clients", err)
		}
	})
}

func TestSecretsOverlap(t *testing.T) {
	s := newShop(t, nil)
	ctx := t.Context()
	first, c := s.client("robot", robot())
	second, sec, err := s.AddSecret(ctx, "test", c.ID, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for name, secret := range map[string]string{"the first": first.Reveal(), "the second": second.Reveal()} {
		status, _ := s.works(c.ID, secret)
		wantStatus(t, name, status, http.StatusOK)
	}
	if _, _, err := s.AddSecret(ctx, "test", c.ID, time.Hour); !errors.Is(err, oauth.ErrSecretTwoLive) {
		t.Fatal("a third is made:", err)
	}
	if _, _, err := s.AddSecret(ctx, "test", c.ID, 91*24*time.Hour); !errors.Is(err, oauth.ErrClient) {
		t.Fatal("an overlap without end:", err)
	}
	if err := s.RevokeSecret(ctx, "test", c.ID, sec.ID); err != nil {
		t.Fatal(err)
	}
	status, _ := s.works(c.ID, second.Reveal())
	wantStatus(t, "the revoked one", status, http.StatusUnauthorized)
	if err := s.RevokeSecret(ctx, "test", c.ID, sec.ID); !errors.Is(err, oauth.ErrSecretUnknown) {
		t.Fatal(err)
	}
	third, _, err := s.AddSecret(ctx, "test", c.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	status, _ = s.works(c.ID, first.Reveal())
	wantStatus(t, "the first, without overlap", status, http.StatusUnauthorized)
	status, _ = s.works(c.ID, third.Reveal())
	wantStatus(t, "the third", status, http.StatusOK)
	if _, _, err := s.AddSecret(ctx, "test", "nobody", 0); !errors.Is(err, oauth.ErrClientUnknown) {
		t.Fatal(err)
	}
}

func TestLockdownOfAClient(t *testing.T) {
	s := newShop(t, nil)
	ctx := t.Context()
	secret, c := s.client("robot", robot())
	if err := s.DisableClient(ctx, "test", c.ID); err != nil {
		t.Fatal(err)
	}
	status, code := s.works(c.ID, secret.Reveal())
	if status != http.StatusUnauthorized || code != "invalid_client" {
		t.Fatal("a disabled client gets tokens:", status, code)
	}
	within(t, "what was issued is revoked", time.Second, func() bool { return !s.people.RevokedAt("client", c.ID).IsZero() })
	if err := s.EnableClient(ctx, "test", c.ID); err != nil {
		t.Fatal(err)
	}
	status, _ = s.works(c.ID, secret.Reveal())
	wantStatus(t, "enabled again", status, http.StatusOK)
}

// within polls until ok, and fails after the deadline.
func within(t testing.TB, what string, limit time.Duration, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, limit)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func TestAnotherProcessChangesClients(t *testing.T) {
	t.Parallel() // it waits most of the time
	s := newShop(t, nil)
	db, err := store.Open(t.Context(), storetest.At(s.path))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	people, err := identity.Open(t.Context(), identity.Config{DB: db, Seal: s.seal, Log: s.changes, Issuer: shopIssuer})
	if err != nil {
		t.Fatal(err)
	}
	other, err := oauth.New(t.Context(), oauth.Config{
		Issuer: shopIssuer, DB: db, Keys: s.keys, Seal: s.seal, People: people, Log: s.changes,
		Scopes: map[string]string{"orders.read": ""}, Resources: []oauth.Resource{{ID: shopOrders}},
	})
	if err != nil {
		t.Fatal(err)
	}
	secret, c, err := other.CreateClient(t.Context(), "cli", "robot", robot())
	if err != nil {
		t.Fatal(err)
	}
	within(t, "a client made elsewhere works", time.Second, func() bool { status, _ := s.works(c.ID, secret.Reveal()); return status == http.StatusOK })
	if err := other.DisableClient(t.Context(), "cli", c.ID); err != nil {
		t.Fatal(err)
	}
	within(t, "a client disabled elsewhere is refused", time.Second, func() bool { status, _ := s.works(c.ID, secret.Reveal()); return status == http.StatusUnauthorized })
}

type brokenLog struct{}

func (brokenLog) Append(context.Context, auditlog.Change) error {
	return errors.New("the disk is full")
}

func TestWhatCannotBeLoggedDoesNotHappen(t *testing.T) {
	s := newShop(t, func(c *oauth.Config) { c.Log = brokenLog{} })
	if _, _, err := s.CreateClient(t.Context(), "test", "robot", robot()); err == nil {
		t.Fatal("made without a record")
	}
	if _, err := s.Client(t.Context(), "robot"); !errors.Is(err, oauth.ErrClientUnknown) {
		t.Fatal(err)
	}
}

func TestWithoutADatabaseNobodyIsProven(t *testing.T) {
	t.Parallel() // it waits most of the time
	s := newShop(t, nil)
	secret, c := s.client("robot", robot())
	status, _ := s.works(c.ID, secret.Reveal())
	wantStatus(t, "before", status, http.StatusOK)
	if err := s.db.Close(); err != nil {
		t.Fatal(err)
	}
	// For two seconds what was known may be used; then nobody knows who was disabled.
	within(t, "clients are not believed any more", 8*time.Second, func() bool {
		status, _ := s.works(c.ID, secret.Reveal())
		return status == http.StatusServiceUnavailable
	})
	status, code := s.works("nobody", "x")
	if status != http.StatusServiceUnavailable || code != "server_error" {
		t.Fatal("an unknown client:", status, code)
	}
	if _, _, err := s.CreateClient(t.Context(), "test", "", robot()); err == nil {
		t.Fatal("made without a database")
	}
}

func TestMetadataNamesWhatClientsMayUse(t *testing.T) {
	web := &fetcher{}
	for _, tt := range []struct {
		name   string
		change func(*oauth.Config)
		want   map[string]bool // whether a member is there
	}{
		{"what is off is not named", nil, map[string]bool{
			"pushed_authorization_request_endpoint": true, "device_authorization_endpoint": true, "registration_endpoint": false,
			"client_id_metadata_document_supported": false, "backchannel_logout_supported": false,
		}},
		{"what is on is named", func(c *oauth.Config) { c.Registration, c.MetadataDocs, c.Fetch = "open", []string{"*"}, web }, map[string]bool{
			"registration_endpoint": true, "client_id_metadata_document_supported": true,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newShop(t, tt.change)
			a := s.do(httptest.NewRequestWithContext(t.Context(), http.MethodGet, shopIssuer+"/.well-known/oauth-authorization-server", nil))
			for name, want := range tt.want {
				if _, has := a.JSON[name]; has != want {
					t.Errorf("%s: %v", name, a.JSON[name])
				}
			}
			if grants, _ := a.JSON["grant_types_supported"].([]any); !slices.Contains(grants, any(deviceGrant)) || !slices.Contains(grants, any(exchangeGrant)) {
				t.Error(grants)
			}
		})
	}
}

package oauth_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

const (
	shopIssuer = "https://login.example"
	shopOrders = "https://orders.example"
	shopStock  = "https://stock.example"
)

// A shop is a Server with a real database, people, keys and log.
type shop struct {
	*oauth.Server
	t       testing.TB
	path    string
	db      *store.DB
	people  *identity.Directory
	keys    *token.Keyring
	seal    *token.Sealer
	changes *auditlog.Changes
	web     http.Handler
}

func newShop(t testing.TB, change func(*oauth.Config)) *shop {
	t.Helper()
	dir := t.TempDir()
	s := &shop{t: t, path: filepath.Join(dir, "gatehouse.db")}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	s.db, err = store.Open(t.Context(), storetest.At(s.path))
	ok(err)
	t.Cleanup(func() { _ = s.db.Close() })
	s.seal, err = token.NewSealer()
	ok(err)
	s.keys, err = shopKeys()
	ok(err)
	s.changes, err = auditlog.OpenChanges(filepath.Join(dir, "log"))
	ok(err)
	s.people, err = identity.Open(t.Context(), identity.Config{DB: s.db, Seal: s.seal, Log: s.changes, Issuer: shopIssuer})
	ok(err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); s.people.Run(ctx, func(error) {}) }()
	t.Cleanup(func() { stop(); <-ended })
	cfg := oauth.Config{
		Issuer: shopIssuer, DB: s.db, Keys: s.keys, Seal: s.seal, People: s.people, Log: s.changes,
		Scopes:    map[string]string{"orders.read": "See your orders", "orders.write": "Change your orders", "stock.read": "See the stock"},
		Resources: []oauth.Resource{{ID: shopOrders, Scopes: []string{"orders.read", "orders.write"}}, {ID: shopStock, Scopes: []string{"stock.read"}}},
	}
	if change != nil {
		change(&cfg)
	}
	s.Server, err = oauth.New(t.Context(), cfg)
	ok(err)
	s.web = s.Handler()
	return s
}

// shopKeys are the same for all: an RSA key takes a second to make.
var shopKeys = sync.OnceValues(func() (*token.Keyring, error) {
	return token.NewKeyring(token.ES256, token.RS256, token.EdDSA)
})

// robot is a client that acts for itself.
func robot() oauth.Metadata {
	return oauth.Metadata{ClientName: "Robot", GrantTypes: []string{"client_credentials"}, Scope: "orders.read", Resources: []string{shopOrders}}
}

func (s *shop) client(id string, m oauth.Metadata) (gatehouse.Secret, *oauth.Client) {
	s.t.Helper()
	secret, c, err := s.CreateClient(s.t.Context(), "test", id, m)
	if err != nil {
		s.t.Fatal(err)
	}
	return secret, c
}

// An answer is what a request got.
type answer struct {
	Status int
	Header http.Header
	Text   string
	JSON   map[string]any
}

func (a *answer) code() string {
	e, _ := a.JSON["error"].(string)
	return e
}

func (a *answer) text(name string) string {
	v, _ := a.JSON[name].(string)
	return v
}

func (s *shop) do(r *http.Request) *answer {
	rec := httptest.NewRecorder()
	s.web.ServeHTTP(rec, r)
	a := &answer{Status: rec.Code, Header: rec.Header(), Text: rec.Body.String()}
	_ = json.Unmarshal(rec.Body.Bytes(), &a.JSON)
	return a
}

func formRequest(t testing.TB, path string, form url.Values) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, shopIssuer+path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

// post sends a form; with is done to the request before.
func (s *shop) post(path string, form url.Values, with ...func(*http.Request)) *answer {
	s.t.Helper()
	r := formRequest(s.t, path, form)
	for _, f := range with {
		f(r)
	}
	return s.do(r)
}

func basic(id, secret string) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret)) }
}

// values makes a form of pairs.
func values(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return v
}

func with(v url.Values, pairs ...string) url.Values {
	out := maps.Clone(v)
	for i := 0; i+1 < len(pairs); i += 2 {
		out.Set(pairs[i], pairs[i+1])
	}
	return out
}

func asRobot() url.Values { return values("grant_type", "client_credentials") }

// exec changes the tables behind the server's back, as time would.
func (h *house) exec(statement string, args ...any) {
	h.t.Helper()
	err := h.db.Write(h.t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(h.t.Context(), statement, args...)
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

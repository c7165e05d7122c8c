package admin_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/admin"
	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/authz"
	"github.com/gatehouse-api/gatehouse/internal/ddos"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// A house is a real desk on a real database, behind the API.
type house struct {
	admin.Desk

	t       testing.TB
	db      *store.DB
	changes *auditlog.Changes
	api     http.Handler
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newHouse(t testing.TB) *house {
	t.Helper()
	ctx, dir := t.Context(), t.TempDir()
	h := &house{t: t}
	var err error
	h.db, err = store.Open(ctx, storetest.At(filepath.Join(dir, "gatehouse.db")))
	ok(t, err)
	t.Cleanup(func() { _ = h.db.Close() })
	h.Seal, err = token.NewSealer()
	ok(t, err)
	h.changes, err = auditlog.OpenChanges(filepath.Join(dir, "log"))
	ok(t, err)
	h.Keyring, err = token.OpenKeyring(token.Files(dir), "keys", token.ES256)
	ok(t, err)
	mail, err := identity.NewOutbox(filepath.Join(dir, "outbox"))
	ok(t, err)
	h.Log = h.changes
	h.People, err = identity.Open(ctx, identity.Config{DB: h.db, Seal: h.Seal, Log: h.changes, Issuer: "https://id.example", Mail: mail})
	ok(t, err)
	var running sync.WaitGroup
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	running.Go(func() { h.People.Run(run, func(error) {}) })
	t.Cleanup(func() { stop(); running.Wait() })
	h.OAuth, err = oauth.New(ctx, oauth.Config{Issuer: "https://id.example", DB: h.db, Keys: h.Keyring, Seal: h.Seal, People: h.People, Log: h.changes})
	ok(t, err)
	h.Keys, err = authn.NewKeys(ctx, authn.KeysConfig{DB: h.db, Environment: "test", Log: h.changes})
	ok(t, err)
	h.Guard, err = ddos.OpenBook(ctx, h.db, h.changes)
	ok(t, err)
	roles, err := authz.NewRoles(map[string]authz.Role{
		"helpdesk": {Grants: []string{"gatehouse.users:*"}}, "lead": {Inherits: []string{"helpdesk"}}, "billing": {Grants: []string{"bills:read"}},
		"root": {Grants: []string{"*"}},
	})
	ok(t, err)
	h.api, err = admin.New(admin.Config{Desk: h.Desk, Roles: roles, Base: "/gatehouse/v1"})
	ok(t, err)
	return h
}

func as(roles ...string) *gatehouse.Principal {
	return &gatehouse.Principal{Subject: "ann", Issuer: "main", Roles: roles, Method: gatehouse.MethodJWT}
}

// An answer is what the API said; Problem is what it told the gateway to say.
type answer struct {
	*httptest.ResponseRecorder

	t       testing.TB
	Problem *gatehouse.Problem
}

// Refuse stands in for the gateway.
func (a *answer) Refuse(p *gatehouse.Problem) { a.Problem, a.Code = p, p.Kind.Status() }

func (a *answer) json() map[string]any {
	a.t.Helper()
	var v map[string]any
	if err := json.Unmarshal(a.Body.Bytes(), &v); err != nil {
		a.t.Fatalf("%d %q %v: %v", a.Code, a.Body, err, a.Problem)
	}
	return v
}

func (a *answer) text(name string) string { s, _ := a.json()[name].(string); return s }

func (a *answer) items() (out []map[string]any) {
	a.t.Helper()
	list, _ := a.json()["items"].([]any)
	for _, v := range list {
		out = append(out, v.(map[string]any))
	}
	return out
}

// ask sends one request by who, as the gateway hands it over.
func (h *house) ask(who *gatehouse.Principal, method, target, body string, header ...string) *answer {
	h.t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r = r.WithContext(gatehouse.WithPrincipal(h.t.Context(), who))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	a := &answer{httptest.NewRecorder(), h.t, nil}
	h.api.ServeHTTP(a, r)
	return a
}

// must sends one that has to succeed.
func (h *house) must(status int, who *gatehouse.Principal, method, target, body string, header ...string) *answer {
	h.t.Helper()
	a := h.ask(who, method, target, body, header...)
	if a.Code != status {
		h.t.Fatalf("%s %s: %d %s %v", method, target, a.Code, a.Body, a.Problem)
	}
	return a
}

func (h *house) refused(what string, status int, reason string, a *answer) {
	h.t.Helper()
	if a.Problem == nil || a.Code != status || a.Problem.Reason != reason {
		h.t.Errorf("%s: %d %s %v, want %d %s", what, a.Code, a.Body, a.Problem, status, reason)
	}
}

// last is the newest change in the log.
func (h *house) last() auditlog.Change {
	h.t.Helper()
	all, err := h.changes.All(h.t.Context())
	ok(h.t, err)
	return all[len(all)-1]
}

var local = netip.MustParseAddr("127.0.0.1")

func secret(text string) gatehouse.Secret { return gatehouse.NewSecret(text) }

package identity_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// A house is a directory with what it works with.
type house struct {
	*identity.Directory
	db   *store.DB
	log  *auditlog.Changes
	seal *token.Sealer
	dir  string
}

func newHouse(t testing.TB, set func(*identity.Config)) *house {
	t.Helper()
	dir := t.TempDir()
	h := &house{dir: dir}
	var err error
	if h.db, err = store.Open(t.Context(), storetest.At(filepath.Join(dir, "gatehouse.db"))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.db.Close() })
	if h.log, err = auditlog.OpenChanges(filepath.Join(dir, "events")); err != nil {
		t.Fatal(err)
	}
	if h.seal, err = token.OpenSealer(token.Files(dir), "seal.json"); err != nil {
		t.Fatal(err)
	}
	h.Directory = h.open(t, set)
	return h
}

// open opens the same people again, as another process would.
func (h *house) open(t testing.TB, set func(*identity.Config)) *identity.Directory {
	t.Helper()
	cfg := identity.Config{DB: h.db, Seal: h.seal, Log: h.log, Issuer: "https://id.example.com"}
	if set != nil {
		set(&cfg)
	}
	d, err := identity.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// run runs the directory until the test ends.
func run(t testing.TB, d *identity.Directory, report func(error)) {
	t.Helper()
	if report == nil {
		report = func(err error) { t.Logf("reported: %v", err) }
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.Run(ctx, report)
	}()
	t.Cleanup(func() { cancel(); <-done })
}

func (h *house) create(t testing.TB, n identity.NewUser) *identity.User {
	t.Helper()
	u, err := h.Create(t.Context(), "root", n)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

const goodPassword = "correct horse battery staple"

func (h *house) alice(t testing.TB) *identity.User {
	t.Helper()
	return h.create(t, identity.NewUser{
		Name: "alice", Email: "alice@example.com", EmailVerified: true,
		Roles: []string{"editor"}, Password: gatehouse.NewSecret(goodPassword),
	})
}

func (h *house) changes(t testing.TB) []auditlog.Change {
	t.Helper()
	all, err := h.log.All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
}

// until polls f, for what happens in another goroutine or process.
func until(t testing.TB, what string, limit time.Duration, f func() bool) {
	t.Helper()
	storetest.Within(t, limit, what, f)
}

package identity_test

import (
	"database/sql"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

func claims(issued time.Time) *token.Claims {
	return &token.Claims{
		Subject: "usr_1", ClientID: "cli_1", JTI: "jti_1", IssuedAt: issued,
		SID: "ses_1", GrantID: "gra_1",
	}
}

func TestRevocations(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name     string
		kind, id string
		issued   time.Time
		revoked  bool
	}{
		{"a token of the user issued before is dead", "user", "usr_1", now.Add(-time.Minute), true},
		{"a token of the user issued in the same second is dead", "user", "usr_1", now, true},
		{"a token of the user issued two seconds later lives", "user", "usr_1", now.Add(2 * time.Second), false},
		{"a token of the user without iat is dead", "user", "usr_1", time.Time{}, true},
		{"a token of the client issued before is dead", "client", "cli_1", now.Add(-time.Minute), true},
		{"a token of the client issued two seconds later lives", "client", "cli_1", now.Add(2 * time.Second), false},
		{"a token of the grant is dead whenever it was issued", "grant", "gra_1", now.Add(time.Hour), true},
		{"a token of the session is dead whenever it was issued", "session", "ses_1", now.Add(time.Hour), true},
		{"the token itself is dead", "token", "jti_1", now.Add(time.Hour), true},
		{"a token of another user lives", "user", "usr_2", now.Add(-time.Minute), false},
		{"a user's id revoked as a client's kills no user", "client", "usr_1", now.Add(-time.Minute), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t, nil)
			if h.Revoked(claims(c.issued)) {
				t.Fatal("it is dead before anything was revoked")
			}
			if err := h.Revoke(t.Context(), c.kind, c.id); err != nil {
				t.Fatal(err)
			}
			if got := h.Revoked(claims(c.issued)); got != c.revoked {
				t.Errorf("got %v", got)
			}
			if at := h.RevokedAt(c.kind, c.id); time.Since(at) > time.Minute {
				t.Errorf("revoked at %v", at)
			}
			if at := h.RevokedAt(c.kind, "another"); !at.IsZero() {
				t.Errorf("another was revoked at %v", at)
			}
			if got := h.open(t, nil).Revoked(claims(c.issued)); got != c.revoked {
				t.Errorf("after a restart: %v", got)
			}
		})
	}
}

func TestWhatCannotBeJudgedIsDead(t *testing.T) {
	if !new(identity.Directory).Revoked(claims(time.Now())) {
		t.Error("the zero Directory lets a token pass")
	}
	if !newHouse(t, nil).Revoked(nil) {
		t.Error("no claims pass")
	}
}

func TestWhatCannotBeRevokedIsAnError(t *testing.T) {
	h := newHouse(t, nil)
	wantErr(t, h.Revoke(t.Context(), "planet", "x"), identity.ErrInvalid)
	wantErr(t, h.Revoke(t.Context(), "user", ""), identity.ErrInvalid)
	if err := h.db.Close(); err != nil {
		t.Fatal(err)
	}
	if h.Revoke(t.Context(), "user", "usr_1") == nil {
		t.Error("a revocation that was not kept is acknowledged")
	}
}

func TestAnotherProcessKnowsARevocationWithinASecond(t *testing.T) {
	h := newHouse(t, nil)
	other := h.open(t, nil)
	run(t, other, nil)
	for i := range 3 {
		id := fmt.Sprint("ses_", i)
		c := claims(time.Now())
		c.SID = id
		if err := h.Revoke(t.Context(), "session", id); err != nil {
			t.Fatal(err)
		}
		until(t, "the other process refuses", time.Second, func() bool { return other.Revoked(c) })
	}
}

func TestWithoutALookAtTheDatabaseNothingIsBelieved(t *testing.T) {
	h := newHouse(t, nil)
	reported := make(chan error, 4)
	run(t, h.Directory, func(err error) { reported <- err })
	if err := h.RevocationsErr(); err != nil {
		t.Fatal(err)
	}
	if err := h.db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-reported; err == nil {
		t.Error("the outage is not reported")
	}
	until(t, "the directory says that it does not know", 7*time.Second, func() bool { return h.RevocationsErr() != nil })
}

func TestManyRevocationsAreAllKnown(t *testing.T) {
	h := newHouse(t, nil)
	other := h.open(t, nil)
	run(t, other, nil)
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			for i := range 30 {
				err := h.db.Write(t.Context(), func(tx *sql.Tx) error {
					for j := range 20 {
						if err := h.RevokeTx(t.Context(), tx, "token", fmt.Sprint(w, "-", i, "-", j), time.Now()); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	until(t, "all are known", 2*time.Second, func() bool {
		for w := range 4 {
			for i := range 30 {
				for j := range 20 {
					if other.RevokedAt("token", fmt.Sprint(w, "-", i, "-", j)).IsZero() {
						return false
					}
				}
			}
		}
		return true
	})
}

func TestRevokedAllocatesNothing(t *testing.T) {
	h := newHouse(t, nil)
	for _, kind := range []string{"user", "client", "grant", "session", "token"} {
		if err := h.Revoke(t.Context(), kind, "other"); err != nil {
			t.Fatal(err)
		}
	}
	c := claims(time.Now())
	if n := testing.AllocsPerRun(100, func() { h.Revoked(c) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRevoked(b *testing.B) {
	h := newHouse(b, nil)
	err := h.db.Write(b.Context(), func(tx *sql.Tx) error {
		for _, kind := range []string{"user", "client", "grant", "session", "token"} {
			for i := range 5000 {
				if err := h.RevokeTx(b.Context(), tx, kind, fmt.Sprint("other_", i), time.Now()); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	d := h.open(b, nil)
	run(b, d, nil)
	c := claims(time.Now())
	b.ReportAllocs()
	for b.Loop() {
		if d.Revoked(c) || d.RevocationsErr() != nil {
			b.Fatal("revoked")
		}
	}
}

package identity_test

import (
	"context"
	"database/sql"
	"errors"
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
	const never = time.Duration(-1 << 62)
	for _, c := range []struct {
		name     string
		kind, id string
		issued   time.Duration // after the revocation
		revoked  bool
	}{
		{"a token of the user issued before is dead", "user", "usr_1", -time.Minute, true},
		{"a token of the user issued in the same second is dead", "user", "usr_1", 0, true},
		{"a token of the user issued two seconds later lives", "user", "usr_1", 2 * time.Second, false},
		{"a token of the user without iat is dead", "user", "usr_1", never, true},
		{"a token of the client issued before is dead", "client", "cli_1", -time.Minute, true},
		{"a token of the client issued two seconds later lives", "client", "cli_1", 2 * time.Second, false},
		{"a token of the grant is dead whenever it was issued", "grant", "gra_1", time.Hour, true},
		{"a token of the session is dead whenever it was issued", "session", "ses_1", time.Hour, true},
		{"the token itself is dead", "token", "jti_1", time.Hour, true},
		{"a token of another user lives", "user", "usr_2", -time.Minute, false},
		{"a user's id revoked as a client's kills no user", "client", "usr_1", -time.Minute, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t, nil)
			if h.Revoked(claims(time.Now())) {
				t.Fatal("it is dead before anything was revoked")
			}
			if err := h.Revoke(t.Context(), c.kind, c.id); err != nil {
				t.Fatal(err)
			}
			var issued time.Time
			if c.issued != never {
				issued = h.RevokedAt(c.kind, c.id).Add(c.issued)
			}
			if got := h.Revoked(claims(issued)); got != c.revoked {
				t.Errorf("got %v", got)
			}
			if at := h.RevokedAt(c.kind, c.id); time.Since(at) > time.Minute {
				t.Errorf("revoked at %v", at)
			}
			if at := h.RevokedAt(c.kind, "another"); !at.IsZero() {
				t.Errorf("another was revoked at %v", at)
			}
			if got := h.open(t, nil).Revoked(claims(issued)); got != c.revoked {
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

// A backup that is put back has lower numbers than a running gateway has seen.
func TestWhatIsRevokedAfterABackupWasPutBackIsDead(t *testing.T) {
	h := newHouse(t, nil)
	first, second := time.Now().Add(-time.Minute), time.Now()
	session := func(id string) *token.Claims {
		c := claims(time.Now())
		c.SID, c.Subject = id, "usr_2"
		return c
	}
	for i := range 5 {
		wantErr(t, h.Revoke(t.Context(), "session", fmt.Sprint("ses_", i)), nil)
	}
	wantErr(t, h.db.Write(t.Context(), func(tx *sql.Tx) error { return h.RevokeTx(t.Context(), tx, "user", "usr_1", second) }), nil)
	other := h.open(t, nil)
	run(t, other, nil)
	wantErr(t, h.db.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), `DELETE FROM revocations`)
		_, err2 := tx.ExecContext(t.Context(), `UPDATE revocations_last SET seq = 0`)
		return errors.Join(err, err2, h.RevokeTx(t.Context(), tx, "user", "usr_1", first))
	}), nil)
	wantErr(t, h.Revoke(t.Context(), "session", "ses_new"), nil)
	until(t, "a running gateway refuses it", time.Second, func() bool { return other.Revoked(session("ses_new")) })
	if !other.Revoked(session("ses_0")) || !other.Revoked(claims(second)) {
		t.Error("what was dead before the backup lives again")
	}
}

func TestAnotherProcessKnowsThatARevocationIsRenewed(t *testing.T) {
	h := newHouse(t, nil)
	first, second := time.Now().Add(-time.Minute), time.Now()
	revoke := func(at time.Time) {
		wantErr(t, h.db.Write(t.Context(), func(tx *sql.Tx) error { return h.RevokeTx(t.Context(), tx, "user", "usr_1", at) }), nil)
	}
	revoke(first)
	other := h.open(t, nil)
	run(t, other, nil)
	between := claims(first.Add(30 * time.Second))
	if other.Revoked(between) {
		t.Fatal("a token issued since is dead")
	}
	revoke(second)
	until(t, "the other process refuses what was issued between", time.Second, func() bool { return other.Revoked(between) })
	revoke(first) // late, as a clock may say: it takes nothing back
	last := claims(second)
	if d := h.open(t, nil); !d.Revoked(last) || !d.Revoked(between) {
		t.Error("an older time takes the place of a newer one")
	}
}

func TestWhatIsOverIsRemovedAndNothingElse(t *testing.T) {
	h := newHouse(t, func(c *identity.Config) { c.Mail = &letterbox{} })
	now := time.Now().UnixMilli()
	const hour, day = 3_600_000, 24 * 3_600_000
	h.exec(t, `INSERT INTO revocations (kind, id, at, until, seq) VALUES ('token', 'over', 0, $1, 1), ('token', 'kept', 0, $2, 2)`, now-1, now+hour)
	h.exec(t, `INSERT INTO codes (kind, user_id, sha256, email, expires) VALUES ('verify', 'over', 'a', '', $1), ('verify', 'kept', 'b', '', $2)`, now-1, now+hour)
	h.exec(t, `INSERT INTO familiar (user_id, source, seen) VALUES ('over', '', $1), ('kept', '', $2)`, now-61*day, now-59*day)
	h.exec(t, `INSERT INTO throttles (kind, id, failures, since, seen, free) VALUES
		('account', 'over', 9, 0, $1, $1), ('account', 'kept', 9, 0, $2, $2), ('login', 'over', 3, 0, $3, 0), ('login', 'kept', 3, 0, $4, 0)`,
		now-25*hour, now-23*hour, now-hour-1000, now-hour/2)
	run(t, h.Directory, nil)
	for table, kept := range map[string]int{
		`revocations WHERE id = `: 1, `codes WHERE user_id = `: 1, `familiar WHERE user_id = `: 1, `throttles WHERE id = `: 2,
	} {
		until(t, "what is over is removed from "+table, 5*time.Second, func() bool { return h.count(t, `SELECT COUNT(*) FROM `+table+`'over'`) == 0 })
		if n := h.count(t, `SELECT COUNT(*) FROM `+table+`'kept'`); n != kept {
			t.Errorf("%s: %d of %d are kept", table, n, kept)
		}
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

func TestOnlyTheLeadingProcessRemovesWhatIsOver(t *testing.T) {
	asked := make(chan bool, 1)
	h := newHouse(t, func(c *identity.Config) {
		c.OnlyOne = func(context.Context, func(context.Context) error) error {
			select {
			case asked <- true:
			default:
			}
			return nil
		}
	})
	h.exec(t, `INSERT INTO familiar (user_id, source, seen) VALUES ('over', '', 1)`)
	run(t, h.Directory, nil)
	<-asked
	if h.count(t, `SELECT COUNT(*) FROM familiar`) != 1 {
		t.Error("a process that does not lead removed a row")
	}
	run(t, h.open(t, nil), nil)
	until(t, "one that leads removes it", 5*time.Second, func() bool { return h.count(t, `SELECT COUNT(*) FROM familiar`) == 0 })
}

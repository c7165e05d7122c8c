package identity_test

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/identity"
)

var laptop = identity.Origin{Address: "192.0.2.7", Agent: "Firefox"}

// byPassword is the login that a right password makes.
func byPassword(u *identity.User) *identity.Login {
	return &identity.Login{User: u.ID, AMR: []string{"pwd"}, ACR: identity.ACRPassword, AuthTime: time.Now()}
}

func start(t testing.TB, d *identity.Directory, l *identity.Login) (string, *identity.Session) {
	t.Helper()
	cookie, s, err := d.Start(t.Context(), l, laptop)
	if err != nil {
		t.Fatal(err)
	}
	return cookie.Reveal(), s
}

func (h *house) exec(t testing.TB, statement string, args ...any) {
	t.Helper()
	err := h.db.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), statement, args...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (h *house) count(t testing.TB, query string, args ...any) (n int) {
	t.Helper()
	err := h.db.Read(t.Context(), func(tx *sql.Tx) error {
		return tx.QueryRowContext(t.Context(), query, args...).Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestASessionIsFoundByItsCookieAndNothingElse(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	cookie, s := start(t, h.Directory, byPassword(alice))
	got, user, err := h.Session(t.Context(), cookie)
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != s.ID || user.ID != alice.ID || got.ACR != "aal1" || !slices.Equal(got.AMR, []string{"pwd"}) || got.Address != laptop.Address {
		t.Errorf("session %+v of user %+v", got, user)
	}
	if !got.AuthTime.Equal(s.AuthTime) || !got.Expires.Equal(s.Expires) || !got.Idle.Equal(s.Idle) {
		t.Errorf("Session says %+v, Start said %+v", got, s)
	}
	if n := h.count(t, `SELECT COUNT(*) FROM sessions WHERE cookie = $1 OR id = $1`, cookie); n != 0 {
		t.Error("the cookie's value is in the database")
	}
	var sum string
	err = h.db.Read(t.Context(), func(tx *sql.Tx) error {
		return tx.QueryRowContext(t.Context(), `SELECT cookie FROM sessions`).Scan(&sum)
	})
	if err != nil {
		t.Fatal(err)
	}
	guesses := []string{"", s.ID, sum, sum[:43], cookie + "A", cookie[:42], cookie[1:], strings.ToUpper(cookie), "' OR 1=1 --" + cookie[11:]}
	for i := range cookie {
		flipped := []byte(cookie)
		flipped[i] ^= 1
		guesses = append(guesses, string(flipped), cookie[:i])
	}
	for _, guess := range guesses {
		if guess == cookie {
			continue
		}
		if _, _, err := h.Session(t.Context(), guess); !errors.Is(err, identity.ErrSession) {
			t.Errorf("cookie %q: %v", guess, err)
		}
	}
}

func TestALoginThatIsNotCompleteStartsNoSession(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	now := time.Now()
	for name, change := range map[string]func(*identity.Login){
		"the zero login":                func(l *identity.Login) { *l = identity.Login{} },
		"of nobody":                     func(l *identity.Login) { l.User = "" },
		"of a user who does not exist":  func(l *identity.Login) { l.User = "usr_0" },
		"waiting for its second factor": func(l *identity.Login) { l.Second = true },
		"a code alone":                  func(l *identity.Login) { l.AMR, l.ACR = []string{"otp"}, "" },
		"of an ACR that nobody knows":   func(l *identity.Login) { l.ACR = "urn:strong" },
		"without a time":                func(l *identity.Login) { l.AuthTime = time.Time{} },
		"of eleven minutes ago":         func(l *identity.Login) { l.AuthTime = now.Add(-11 * time.Minute) },
		"of the future":                 func(l *identity.Login) { l.AuthTime = now.Add(2 * time.Minute) },
	} {
		l := byPassword(alice)
		change(l)
		if _, _, err := h.Start(t.Context(), l, laptop); !errors.Is(err, identity.ErrCredentials) {
			t.Errorf("a login %s: %v", name, err)
		}
	}
	if _, _, err := h.Start(t.Context(), nil, laptop); !errors.Is(err, identity.ErrCredentials) {
		t.Errorf("no login: %v", err)
	}
	if n := h.count(t, `SELECT COUNT(*) FROM sessions`); n != 0 {
		t.Errorf("%d sessions", n)
	}
}

func TestALockedUserHasNoSessionsAndStartsNone(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	before := byPassword(alice)
	cookie, s := start(t, h.Directory, byPassword(alice))
	if err := h.Lock(t.Context(), "root", alice.ID, "stolen laptop"); err != nil {
		t.Fatal(err)
	}
	dead := func(when string) {
		t.Helper()
		if _, _, err := h.Session(t.Context(), cookie); !errors.Is(err, identity.ErrSession) {
			t.Errorf("%s: Session: %v", when, err)
		}
		wantErr(t, h.SessionAlive(t.Context(), s.ID), identity.ErrSession)
		if _, _, err := h.Raise(t.Context(), cookie, byPassword(alice)); !errors.Is(err, identity.ErrSession) {
			t.Errorf("%s: Raise: %v", when, err)
		}
		if _, _, err := h.Rotate(t.Context(), cookie); !errors.Is(err, identity.ErrSession) {
			t.Errorf("%s: Rotate: %v", when, err)
		}
		if _, _, err := h.Start(t.Context(), before, laptop); !errors.Is(err, identity.ErrCredentials) {
			t.Errorf("%s: a login proven before the lock: %v", when, err)
		}
		if list, err := h.SessionsOf(t.Context(), alice.ID); err != nil || len(list) != 0 {
			t.Errorf("%s: sessions %v, %v", when, list, err)
		}
	}
	dead("locked")
	if _, _, err := h.Start(t.Context(), byPassword(alice), laptop); !errors.Is(err, identity.ErrCredentials) {
		t.Errorf("a locked user starts a session: %v", err)
	}
	if h.RevokedAt("session", s.ID).IsZero() {
		t.Error("tokens of the session are not revoked")
	}
	if err := h.Unlock(t.Context(), "root", alice.ID); err != nil {
		t.Fatal(err)
	}
	dead("unlocked again")
}

// The row may still be there, as when another room wrote the user: then the times decide.
func TestWhatWasProvenBeforeValidFromCountsNoMore(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	for name, set := range map[string]string{
		"ValidFrom is later":     `UPDATE users SET valid_from = $1`,
		"the user is not active": `UPDATE users SET active = 0 WHERE valid_from < $1`,
	} {
		cookie, s := start(t, h.Directory, byPassword(alice))
		h.exec(t, set, time.Now().Add(time.Second).UnixMilli())
		if _, _, err := h.Session(t.Context(), cookie); !errors.Is(err, identity.ErrSession) {
			t.Errorf("%s: Session: %v", name, err)
		}
		wantErr(t, h.SessionAlive(t.Context(), s.ID), identity.ErrSession)
		if _, _, err := h.Raise(t.Context(), cookie, byPassword(alice)); !errors.Is(err, identity.ErrSession) {
			t.Errorf("%s: Raise: %v", name, err)
		}
		if _, _, err := h.Start(t.Context(), byPassword(alice), laptop); !errors.Is(err, identity.ErrCredentials) {
			t.Errorf("%s: Start: %v", name, err)
		}
		h.exec(t, `UPDATE users SET active = 1, valid_from = 0`)
	}
}

func TestASessionEndsWhenItIdlesAndAtTheLatestAfterItsLife(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	cookie, s := start(t, h.Directory, byPassword(alice))
	if idle, life := s.Idle.Sub(s.Created), s.Expires.Sub(s.Created); idle != 30*time.Minute || life != 12*time.Hour {
		t.Errorf("idle %v, life %v", idle, life)
	}
	// As if the last request had been so long ago.
	age := func(idle, life time.Duration) {
		now := time.Now()
		h.exec(t, `UPDATE sessions SET seen = $1, idle = $2, expires = $3`, now.Add(idle-30*time.Minute).UnixMilli(), now.Add(idle).UnixMilli(), now.Add(life).UnixMilli())
	}
	age(time.Minute, 10*time.Minute)
	got, _, err := h.Session(t.Context(), cookie)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Idle.Equal(got.Expires) {
		t.Errorf("a request puts the idle end off to %v, beyond the end of its life %v", got.Idle, got.Expires)
	}
	if again, _, err := h.Session(t.Context(), cookie); err != nil || again.Seen.UnixMilli() != got.Seen.UnixMilli() || again.Idle.UnixMilli() != got.Idle.UnixMilli() {
		t.Errorf("the next request finds %+v (%v), not what the one before wrote: %+v", again, err, got)
	}
	age(10*time.Minute, time.Hour)
	if got, _, err := h.Session(t.Context(), cookie); err != nil || time.Until(got.Idle) < 29*time.Minute {
		t.Errorf("a request did not put the idle end off: %+v, %v", got, err)
	}
	// A client that acts for the user keeps the session in use; a look at it does not.
	idle := func() time.Duration {
		list, err := h.SessionsOf(t.Context(), alice.ID)
		if err != nil || len(list) != 1 {
			t.Fatalf("%d sessions, %v", len(list), err)
		}
		return time.Until(list[0].Idle)
	}
	age(10*time.Minute, time.Hour)
	wantErr(t, h.SessionAlive(t.Context(), s.ID), nil)
	if left := idle(); left > 11*time.Minute {
		t.Errorf("a look put the idle end off to %v from now", left)
	}
	wantErr(t, h.SessionUsed(t.Context(), s.ID), nil)
	if left := idle(); left < 29*time.Minute {
		t.Errorf("its use did not put the idle end off: %v from now", left)
	}
	age(-time.Millisecond, time.Hour)
	if _, _, err := h.Session(t.Context(), cookie); !errors.Is(err, identity.ErrSession) {
		t.Errorf("an idle session: %v", err)
	}
	wantErr(t, h.SessionUsed(t.Context(), s.ID), identity.ErrSession)
	wantErr(t, h.SessionAlive(t.Context(), s.ID), identity.ErrSession)
	if _, _, err := h.Raise(t.Context(), cookie, byPassword(alice)); !errors.Is(err, identity.ErrSession) {
		t.Errorf("an idle session was raised: %v", err)
	}
}

func TestRaisingASessionGivesItAnotherCookie(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	cookie, s := start(t, h.Directory, byPassword(alice))
	strong := &identity.Login{User: alice.ID, AMR: []string{"hwk", "user", "mfa"}, ACR: identity.ACRPhishing, AuthTime: time.Now()}
	fresh, raised, err := h.Raise(t.Context(), cookie, strong)
	if err != nil {
		t.Fatal(err)
	}
	if raised.ID != s.ID || raised.ACR != "phr" || !slices.Equal(raised.AMR, []string{"pwd", "hwk", "user", "mfa"}) || !raised.Expires.Equal(s.Expires) {
		t.Errorf("raised: %+v", raised)
	}
	if _, _, err := h.Session(t.Context(), cookie); !errors.Is(err, identity.ErrSession) {
		t.Errorf("the cookie of before: %v", err)
	}
	got, _, err := h.Session(t.Context(), fresh.Reveal())
	if err != nil || got.ACR != "phr" || !got.AuthTime.Equal(raised.AuthTime) {
		t.Errorf("the new cookie: %+v, %v", got, err)
	}
	rotated, _, err := h.Rotate(t.Context(), fresh.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.Session(t.Context(), fresh.Reveal()); !errors.Is(err, identity.ErrSession) {
		t.Errorf("the cookie before Rotate: %v", err)
	}
	if _, _, err := h.Session(t.Context(), rotated.Reveal()); err != nil {
		t.Error(err)
	}
}

func TestAProofOlderThanValidFromRaisesNoNewerSession(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	old := byPassword(alice)
	old.AuthTime = old.AuthTime.Add(-time.Minute)
	h.exec(t, `UPDATE users SET valid_from = $1`, time.Now().Add(-time.Second).UnixMilli())
	cookie, s := start(t, h.Directory, byPassword(alice))
	if _, _, err := h.Raise(t.Context(), cookie, old); !errors.Is(err, identity.ErrCredentials) {
		t.Errorf("raised: %v", err)
	}
	if got, _, err := h.Session(t.Context(), cookie); err != nil || !got.AuthTime.Equal(s.AuthTime) {
		t.Errorf("after it: %+v, %v", got, err)
	}
}

func TestNobodyElsesLoginGetsIntoASession(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	mallory := h.create(t, identity.NewUser{Name: "mallory", Password: gatehouse.NewSecret(goodPassword)})
	cookie, _ := start(t, h.Directory, byPassword(alice))
	strong := &identity.Login{User: mallory.ID, AMR: []string{"hwk", "user", "mfa"}, ACR: identity.ACRPhishing, AuthTime: time.Now()}
	if _, _, err := h.Raise(t.Context(), cookie, strong); !errors.Is(err, identity.ErrCredentials) {
		t.Errorf("raised by another user's login: %v", err)
	}
	got, user, err := h.Session(t.Context(), cookie)
	if err != nil || user.ID != alice.ID || got.ACR != "aal1" {
		t.Errorf("after it: %+v of %v, %v", got, user, err)
	}
}

func TestOneOfFiftyParallelRaisesWins(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	cookie, _ := start(t, h.Directory, byPassword(alice))
	var mu sync.Mutex
	var won []string
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			fresh, _, err := h.Raise(t.Context(), cookie, byPassword(alice))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won = append(won, fresh.Reveal())
			} else if !errors.Is(err, identity.ErrSession) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(won) != 1 {
		t.Fatalf("%d of 50 got a cookie", len(won))
	}
	if _, _, err := h.Session(t.Context(), won[0]); err != nil {
		t.Error(err)
	}
}

func TestEndingASessionRevokesItsTokensAndIsLogged(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	cookie, s := start(t, h.Directory, byPassword(alice))
	other, o := start(t, h.Directory, byPassword(alice))
	third, x := start(t, h.Directory, byPassword(alice))
	if list, err := h.SessionsOf(t.Context(), alice.ID); err != nil || len(list) != 3 {
		t.Fatalf("sessions %v, %v", list, err)
	}
	if err := h.End(t.Context(), alice.ID, s.ID); err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.Session(t.Context(), cookie); !errors.Is(err, identity.ErrSession) {
		t.Errorf("the ended session: %v", err)
	}
	wantErr(t, h.End(t.Context(), alice.ID, s.ID), identity.ErrSession)
	if err := h.EndOthers(t.Context(), alice.ID, alice.ID, o.ID); err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.Session(t.Context(), third); !errors.Is(err, identity.ErrSession) {
		t.Errorf("the other session: %v", err)
	}
	if _, _, err := h.Session(t.Context(), other); err != nil {
		t.Errorf("the session to keep: %v", err)
	}
	if err := h.EndOthers(t.Context(), alice.ID, alice.ID, o.ID); err != nil {
		t.Errorf("no others to end: %v", err)
	}
	for sid, want := range map[string]bool{s.ID: true, x.ID: true, o.ID: false} {
		if got := !h.RevokedAt("session", sid).IsZero(); got != want {
			t.Errorf("%s revoked: %v", sid, got)
		}
	}
	var logged []string
	for _, c := range h.changes(t) {
		if strings.HasPrefix(c.Action, "sessions.") {
			logged = append(logged, c.Actor+" "+c.Action+" "+c.Object)
		}
	}
	if want := []string{alice.ID + " sessions.end " + s.ID, alice.ID + " sessions.end_others " + alice.ID}; !slices.Equal(logged, want) {
		t.Errorf("logged %q, want %q", logged, want)
	}
}

// A log that keeps nothing.
type fullLog struct{}

func (fullLog) Append(context.Context, auditlog.Change) error { return errors.New("no space left") }

func TestWhatCanNotBeKeptIsNotDone(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	cookie, s := start(t, h.Directory, byPassword(alice))
	full := h.open(t, func(c *identity.Config) { c.Log = fullLog{} })
	if err := full.End(t.Context(), "root", s.ID); err == nil || errors.Is(err, identity.ErrSession) {
		t.Errorf("ended without a log: %v", err)
	}
	if _, _, err := h.Session(t.Context(), cookie); err != nil {
		t.Errorf("the session whose end could not be logged: %v", err)
	}
	if !h.RevokedAt("session", s.ID).IsZero() {
		t.Error("its tokens are revoked")
	}

	if err := h.db.Close(); err != nil {
		t.Fatal(err)
	}
	broken := func(what string, err error) {
		t.Helper()
		if err == nil || errors.Is(err, identity.ErrSession) || errors.Is(err, identity.ErrCredentials) {
			t.Errorf("without a database %s answers %v, as if it knew", what, err)
		}
	}
	_, _, err := h.Session(t.Context(), cookie)
	broken("Session", err)
	broken("SessionAlive", h.SessionAlive(t.Context(), s.ID))
	_, _, err = h.Start(t.Context(), byPassword(alice), laptop)
	broken("Start", err)
	_, _, err = h.Raise(t.Context(), cookie, byPassword(alice))
	broken("Raise", err)
	_, err = h.SessionsOf(t.Context(), alice.ID)
	broken("SessionsOf", err)
	_, err = h.Factors(t.Context(), alice.ID)
	broken("Factors", err)
}

func TestNoSessionOutlivesALock(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	cookie, _ := start(t, h.Directory, byPassword(alice))
	var mu sync.Mutex
	cookies := []string{cookie}
	var all sync.WaitGroup
	for i := range 30 {
		all.Go(func() {
			var c gatehouse.Secret
			var err error
			switch {
			case i == 15:
				if err := h.Lock(t.Context(), "root", alice.ID, ""); err != nil {
					t.Error(err)
				}
				return
			case i%2 == 0:
				c, _, err = h.Raise(t.Context(), cookie, byPassword(alice))
			default:
				c, _, err = h.Start(t.Context(), byPassword(alice), laptop)
			}
			if err == nil {
				mu.Lock()
				defer mu.Unlock()
				cookies = append(cookies, c.Reveal())
			} else if !errors.Is(err, identity.ErrSession) && !errors.Is(err, identity.ErrCredentials) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err := h.Unlock(t.Context(), "root", alice.ID); err != nil {
		t.Fatal(err)
	}
	for _, c := range cookies {
		if _, _, err := h.Session(t.Context(), c); !errors.Is(err, identity.ErrSession) {
			t.Errorf("a session that began around the lock lives: %v", err)
		}
	}
}

func TestWhatIsOverIsRemoved(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	start(t, h.Directory, byPassword(alice))
	h.exec(t, `UPDATE sessions SET idle = $1`, time.Now().Add(-time.Minute).UnixMilli())
	cookie, _ := start(t, h.Directory, byPassword(alice))
	h.enrol(t, alice) // ends the session, and is a ceremony
	h.exec(t, `INSERT INTO ceremonies (sha256, until) VALUES ('00', 1)`)
	start(t, h.Directory, &identity.Login{User: alice.ID, AMR: []string{"hwk", "user", "mfa"}, ACR: phr, AuthTime: time.Now()})
	if err := h.Prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := h.count(t, `SELECT COUNT(*) FROM sessions`); n != 1 {
		t.Errorf("%d sessions are left", n)
	}
	if n := h.count(t, `SELECT COUNT(*) FROM ceremonies`); n != 1 {
		t.Errorf("%d ceremonies are left; one could still be repeated", n)
	}
	if _, _, err := h.Session(t.Context(), cookie); !errors.Is(err, identity.ErrSession) {
		t.Error(err)
	}
}

func TestABrowserMayNotDrawInTheListOfSessions(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	_, s, err := h.Start(t.Context(), byPassword(alice), identity.Origin{Address: "::1", Agent: "Evil\x1b[2J\u202egnp\xff" + strings.Repeat("a", 1000)})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(s.Agent, "Evil[2Jgnpaaa") || len(s.Agent) > 256 {
		t.Errorf("agent %q", s.Agent)
	}
}

func BenchmarkSession(b *testing.B) {
	h := newHouse(b, nil)
	cookie, _ := start(b, h.Directory, byPassword(h.alice(b)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := h.Session(b.Context(), cookie); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSessionAlive(b *testing.B) {
	h := newHouse(b, nil)
	_, s := start(b, h.Directory, byPassword(h.alice(b)))
	b.ReportAllocs()
	for b.Loop() {
		if err := h.SessionAlive(b.Context(), s.ID); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStart(b *testing.B) {
	h := newHouse(b, nil)
	alice := h.alice(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := h.Start(b.Context(), byPassword(alice), laptop); err != nil {
			b.Fatal(err)
		}
	}
}

package identity_test

import (
	"encoding/base32"
	"encoding/hex"
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
)

var somewhere = netip.MustParseAddr("192.0.2.7")

// An app is an authenticator app.
type app struct{ key []byte }

func newApp(t testing.TB, secret string) app {
	t.Helper()
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret)
	if err != nil {
		t.Fatal(err)
	}
	return app{key}
}

// code is what the app shows so many steps from now.
func (a app) code(steps int64) string { return identity.HOTP(a.key, time.Now().Unix()/30+steps) }

// settle waits out the end of a step, so that a test's codes are all of one.
func settle(t testing.TB) {
	t.Helper()
	until(t, "a new step", 10*time.Second, func() bool { return time.Now().Unix()%30 < 25 })
}

// enrol gives the user an authenticator app, whose code of the step before was used.
func (h *house) enrol(t testing.TB, u *identity.User) (app, []gatehouse.Secret) {
	t.Helper()
	settle(t)
	secret, _, state, err := h.NewTOTP(t.Context(), u.ID)
	if err != nil {
		t.Fatal(err)
	}
	a := newApp(t, secret.Reveal())
	codes, err := h.ConfirmTOTP(t.Context(), identity.By{Actor: u.ID, User: u.ID}, state, a.code(-1))
	if err != nil {
		t.Fatal(err)
	}
	return a, codes
}

func waiting(u *identity.User) *identity.Login {
	l := byPassword(u)
	l.Second = true
	return l
}

// forgetting makes the database forget each attempt, so that a test of one guard
// is not passed by another.
func (h *house) forgetting(t testing.TB) {
	if storetest.OnPostgres() {
		h.exec(t, `CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM throttles; RETURN NULL; END'`)
		h.exec(t, `CREATE TRIGGER forget AFTER INSERT OR UPDATE ON throttles EXECUTE FUNCTION forget()`)
		return
	}
	h.exec(t, `CREATE TRIGGER forget_new AFTER INSERT ON throttles BEGIN DELETE FROM throttles; END`)
	h.exec(t, `CREATE TRIGGER forget_old AFTER UPDATE ON throttles BEGIN DELETE FROM throttles; END`)
}

// RFC 4226 appendix D and RFC 6238 appendix B (SHA-1, its last six digits).
func TestCodesAreThoseOfTheRFCs(t *testing.T) {
	key := []byte("12345678901234567890")
	for step, want := range []string{"755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"} {
		if got := identity.HOTP(key, int64(step)); got != want {
			t.Errorf("RFC 4226: step %d: %s, want %s", step, got, want)
		}
	}
	for at, want := range map[int64]string{
		59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130",
	} {
		for _, off := range []int64{-30, 0, 30} {
			step, ok := identity.TOTPStep(key, want, time.Unix(at+off, 0), 0)
			if !ok || step != at/30 {
				t.Errorf("RFC 6238: code of %d at %d: step %d, %v", at, at+off, step, ok)
			}
		}
		for _, off := range []int64{-90, -60, 60, 90} {
			if _, ok := identity.TOTPStep(key, want, time.Unix(at+off, 0), 0); ok && at+off >= 0 {
				t.Errorf("code of %d taken at %d", at, at+off)
			}
		}
		if _, ok := identity.TOTPStep(key, want, time.Unix(at, 0), at/30); ok {
			t.Errorf("code of %d taken again", at)
		}
		if _, ok := identity.TOTPStep(key, "", time.Unix(at, 0), 0); ok {
			t.Error("the empty code is taken")
		}
	}
}

func TestAnAuthenticatorAppCountsOnceItIsConfirmed(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	settle(t)
	secret, uri, state, err := h.NewTOTP(t.Context(), alice.ID)
	if err != nil {
		t.Fatal(err)
	}
	link, err := url.Parse(uri.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	if link.Scheme != "otpauth" || link.Host != "totp" || link.Path != "/id.example.com:alice" || link.Query().Get("secret") != secret.Reveal() ||
		link.Query().Get("issuer") != "id.example.com" || link.Query().Get("digits") != "6" || link.Query().Get("period") != "30" {
		t.Errorf("URI %s", uri.Reveal())
	}
	if f, err := h.Factors(t.Context(), alice.ID); err != nil || f.TOTP || f.Recovery != 0 || !f.Password {
		t.Errorf("before it is confirmed: %+v, %v", f, err)
	}
	if _, _, err := h.Start(t.Context(), byPassword(alice), laptop); err != nil {
		t.Errorf("a scan that was not confirmed locks its user out: %v", err)
	}
	a := newApp(t, secret.Reveal())
	by := identity.By{Actor: alice.ID, User: alice.ID}
	bob := h.create(t, identity.NewUser{Name: "bob"})
	for name, call := range map[string]func() error{
		"a wrong code":    func() error { _, err := h.ConfirmTOTP(t.Context(), by, state, wrong(a)); return err },
		"no code":         func() error { _, err := h.ConfirmTOTP(t.Context(), by, state, ""); return err },
		"state of nobody": func() error { _, err := h.ConfirmTOTP(t.Context(), by, "", a.code(0)); return err },
		"state of another": func() error {
			_, err := h.ConfirmTOTP(t.Context(), identity.By{Actor: bob.ID, User: bob.ID}, state, a.code(0))
			return err
		},
	} {
		if err := call(); !errors.Is(err, identity.ErrCode) {
			t.Errorf("%s: %v", name, err)
		}
	}
	codes, err := h.ConfirmTOTP(t.Context(), by, state, a.code(0)[:3]+" "+a.code(0)[3:])
	if err != nil || len(codes) != 10 {
		t.Fatalf("%d codes, %v", len(codes), err)
	}
	if f, err := h.Factors(t.Context(), alice.ID); err != nil || !f.TOTP || f.Recovery != 10 {
		t.Errorf("confirmed: %+v, %v", f, err)
	}
	if _, err := h.ConfirmTOTP(t.Context(), by, state, a.code(1)); !errors.Is(err, identity.ErrCode) {
		t.Errorf("confirmed twice: %v", err)
	}
	if _, err := h.TOTP(t.Context(), waiting(alice), a.code(0), somewhere); !errors.Is(err, identity.ErrCredentials) {
		t.Errorf("the code that confirmed signs in: %v", err)
	}
	if n := h.count(t, `SELECT COUNT(*) FROM totp WHERE secret LIKE $1 OR secret LIKE $2`, "%"+secret.Reveal()+"%", "%"+hex.EncodeToString(a.key)+"%"); n != 0 {
		t.Error("the secret is in the database as it is")
	}
}

func TestAnEnrolmentWaitsTenMinutes(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	settle(t)
	for left, want := range map[time.Duration]bool{time.Minute: true, -time.Millisecond: false} {
		secret, _, state, err := h.NewTOTP(t.Context(), alice.ID)
		if err != nil {
			t.Fatal(err)
		}
		_, err = h.ConfirmTOTP(t.Context(), self(alice), h.reseal(t, "identity totp enrolment", state, left), newApp(t, secret.Reveal()).code(0))
		if (err == nil) != want || err != nil && !errors.Is(err, identity.ErrCode) {
			t.Errorf("with %v left: %v", left, err)
		}
	}
}

func wrong(a app) string {
	for i := range 10 {
		if c := strings.Repeat(string(rune('0'+i)), 6); c != a.code(-1) && c != a.code(0) && c != a.code(1) {
			return c
		}
	}
	panic("three codes are not ten")
}

func TestAPasswordAndACodeAreASessionOfTwoFactors(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	a, _ := h.enrol(t, alice)
	if _, _, err := h.Start(t.Context(), byPassword(alice), laptop); !errors.Is(err, identity.ErrCredentials) {
		t.Errorf("a password alone, taken before the app was added, starts a session: %v", err)
	}
	l, err := h.TOTP(t.Context(), waiting(alice), a.code(0), somewhere)
	if err != nil {
		t.Fatal(err)
	}
	if l.Second || l.ACR != aal2 || !slices.Equal(l.AMR, []string{"pwd", "otp", "mfa"}) {
		t.Errorf("login %+v", l)
	}
	if _, _, err := h.Start(t.Context(), l, laptop); err != nil {
		t.Error(err)
	}
	for name, code := range map[string]string{
		"used before": a.code(0), "of the step before": a.code(-1), "wrong": wrong(a), "empty": "", "letters": "abcdef", "long": a.code(1) + "0", "signed": "+" + a.code(1)[1:],
	} {
		if _, err := h.TOTP(t.Context(), waiting(alice), code, somewhere); !errors.Is(err, identity.ErrCredentials) && !errors.Is(err, identity.ErrThrottled) {
			t.Errorf("a code %s: %v", name, err)
		}
	}
	stale := waiting(alice)
	stale.AuthTime = stale.AuthTime.Add(-time.Hour)
	for name, l := range map[string]*identity.Login{"no login": nil, "the zero login": {}, "a password of an hour ago": stale} {
		if _, err := h.TOTP(t.Context(), l, a.code(1), somewhere); !errors.Is(err, identity.ErrCredentials) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheWholeWayIn(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	a, _ := h.enrol(t, alice)
	l, err := h.Password(t.Context(), "Alice", gatehouse.NewSecret(goodPassword), somewhere)
	if err != nil || !l.Second {
		t.Fatalf("%+v, %v", l, err)
	}
	if _, _, err := h.Start(t.Context(), l, laptop); !errors.Is(err, identity.ErrCredentials) {
		t.Errorf("after the password alone: %v", err)
	}
	text, err := h.SealLogin(l)
	if err != nil {
		t.Fatal(err)
	}
	if l, err = h.OpenLogin(text); err != nil {
		t.Fatal(err)
	}
	if l, err = h.TOTP(t.Context(), l, a.code(0), somewhere); err != nil {
		t.Fatal(err)
	}
	cookie, s := start(t, h.Directory, l)
	if s.ACR != aal2 {
		t.Errorf("session %+v", s)
	}
	// A new password ends it, whoever sets it.
	if err := h.SetPassword(t.Context(), "root", alice.ID, gatehouse.NewSecret("another horse, another battery")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.Session(t.Context(), cookie); !errors.Is(err, identity.ErrSession) {
		t.Errorf("after a new password: %v", err)
	}
	if _, _, err := h.Start(t.Context(), l, laptop); !errors.Is(err, identity.ErrCredentials) {
		t.Errorf("a proof by the old password: %v", err)
	}
}

// A reset by mail while the thief of the password looks for the code.
func TestAPasswordProvenBeforeValidFromGetsNoSessionByACode(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	a, _ := h.enrol(t, alice)
	thief := waiting(alice)
	h.exec(t, `UPDATE users SET valid_from = $1`, time.Now().Add(5*time.Millisecond).UnixMilli())
	until(t, "a later millisecond", time.Second, func() bool { return time.Since(thief.AuthTime) > 10*time.Millisecond })
	l, err := h.TOTP(t.Context(), thief, a.code(0), somewhere)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.Start(t.Context(), l, laptop); !errors.Is(err, identity.ErrCredentials) {
		t.Errorf("a session: %v", err)
	}
}

func TestACodeAloneRaisesASessionButIsNone(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	cookie, s := start(t, h.Directory, byPassword(alice))
	secret, _, state, err := h.NewTOTP(t.Context(), alice.ID)
	if err != nil {
		t.Fatal(err)
	}
	settle(t)
	a := newApp(t, secret.Reveal())
	if _, err := h.ConfirmTOTP(t.Context(), identity.By{Actor: alice.ID, User: alice.ID, Keep: s.ID}, state, a.code(-1)); err != nil {
		t.Fatal(err)
	}
	l, err := h.TOTP(t.Context(), &identity.Login{User: alice.ID}, a.code(0), somewhere)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.Start(t.Context(), l, laptop); !errors.Is(err, identity.ErrCredentials) {
		t.Errorf("a code alone is a session: %v", err)
	}
	fresh, raised, err := h.Raise(t.Context(), cookie, l)
	if err != nil || raised.ACR != aal2 {
		t.Fatalf("%+v, %v", raised, err)
	}
	again, err := h.TOTP(t.Context(), &identity.Login{User: alice.ID}, a.code(1), somewhere)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.Raise(t.Context(), fresh.Reveal(), again); !errors.Is(err, identity.ErrWeaker) {
		t.Errorf("the phone alone renews what needed a password as well: %v", err)
	}
	if got, _, err := h.Session(t.Context(), fresh.Reveal()); err != nil || !got.AuthTime.Equal(raised.AuthTime) {
		t.Errorf("after the refusal: %+v, %v", got, err)
	}
}

func TestOfFiftyParallelUsesOfACodeOneCounts(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	a, codes := h.enrol(t, alice)
	h.forgetting(t)
	other := h.open(t, nil)
	for name, use := range map[string]func(*identity.Directory) error{
		"app": func(d *identity.Directory) error {
			_, err := d.TOTP(t.Context(), waiting(alice), a.code(0), somewhere)
			return err
		},
		"recovery": func(d *identity.Directory) error {
			_, err := d.Recovery(t.Context(), waiting(alice), codes[3].Reveal(), somewhere)
			return err
		},
	} {
		settle(t)
		var won atomic.Int32
		var all sync.WaitGroup
		for i := range 50 {
			d := h.Directory
			if i%2 == 1 {
				d = other
			}
			all.Go(func() {
				if err := use(d); err == nil {
					won.Add(1)
				} else if !errors.Is(err, identity.ErrCredentials) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := won.Load(); n != 1 {
			t.Errorf("%s: %d of 50 uses of one code counted", name, n)
		}
	}
}

func TestWhoGuessesCodesMustWait(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	a, codes := h.enrol(t, alice)
	var refused, throttled atomic.Int32
	var all sync.WaitGroup
	for i := range 50 {
		source := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
		all.Go(func() {
			_, err := h.TOTP(t.Context(), waiting(alice), wrong(a), source)
			switch {
			case errors.Is(err, identity.ErrThrottled):
				throttled.Add(1)
			case errors.Is(err, identity.ErrCredentials):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := refused.Load(); n < 1 || n > 6 {
		t.Errorf("%d guesses at once were looked at, %d had to wait", n, throttled.Load())
	}
	// Also the right one, and the other kind of code.
	if _, err := h.TOTP(t.Context(), waiting(alice), a.code(0), somewhere); !errors.Is(err, identity.ErrThrottled) {
		t.Errorf("the right code: %v", err)
	}
	if _, err := h.Recovery(t.Context(), waiting(alice), codes[0].Reveal(), somewhere); !errors.Is(err, identity.ErrThrottled) {
		t.Errorf("a recovery code: %v", err)
	}
	h.exec(t, `UPDATE throttles SET free = 0`)
	if _, err := h.TOTP(t.Context(), waiting(alice), a.code(0), somewhere); err != nil {
		t.Errorf("after the wait: %v", err)
	}
	if _, err := h.TOTP(t.Context(), waiting(alice), a.code(1), somewhere); err != nil {
		t.Errorf("after a success nobody must wait: %v", err)
	}
}

func TestRecoveryCodesCountOnceEach(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	by := identity.By{Actor: alice.ID, User: alice.ID}
	if _, err := h.NewRecoveryCodes(t.Context(), by); !errors.Is(err, identity.ErrInvalid) {
		t.Errorf("codes that stand in for nothing: %v", err)
	}
	_, codes := h.enrol(t, alice)
	for i, c := range codes {
		text := c.Reveal()
		if len(text) != 19 || strings.Count(text, "-") != 3 || slices.ContainsFunc(codes[:i], func(o gatehouse.Secret) bool { return o.Reveal() == text }) {
			t.Errorf("code %q", text)
		}
		if n := h.count(t, `SELECT COUNT(*) FROM recovery_codes WHERE sha256 LIKE $1`, "%"+text+"%"); n != 0 {
			t.Error("it is in the database as it is")
		}
	}
	l, err := h.Recovery(t.Context(), waiting(alice), strings.ToLower(strings.ReplaceAll(codes[0].Reveal(), "-", " ")), somewhere)
	if err != nil || l.ACR != aal2 || !slices.Equal(l.AMR, []string{"pwd", "otp", "mfa"}) {
		t.Fatalf("%+v, %v", l, err)
	}
	if n, err := h.RecoveryLeft(t.Context(), alice.ID); err != nil || n != 9 {
		t.Errorf("%d left, %v", n, err)
	}
	bob := h.create(t, identity.NewUser{Name: "bob", Password: gatehouse.NewSecret(goodPassword)})
	for name, call := range map[string]func() error{
		"a code that was used": func() error {
			_, err := h.Recovery(t.Context(), waiting(alice), codes[0].Reveal(), somewhere)
			return err
		},
		"no code": func() error { _, err := h.Recovery(t.Context(), waiting(alice), "", somewhere); return err },
		"another user's code": func() error {
			_, err := h.Recovery(t.Context(), waiting(bob), codes[1].Reveal(), somewhere)
			return err
		},
		"a code cut at its end": func() error {
			_, err := h.Recovery(t.Context(), waiting(alice), codes[1].Reveal()[:18], somewhere)
			return err
		},
	} {
		if err := call(); !errors.Is(err, identity.ErrCredentials) {
			t.Errorf("%s: %v", name, err)
		}
	}
	fresh, err := h.NewRecoveryCodes(t.Context(), by)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Recovery(t.Context(), waiting(alice), codes[1].Reveal(), somewhere); !errors.Is(err, identity.ErrCredentials) {
		t.Errorf("a code of the old set: %v", err)
	}
	if _, err := h.Recovery(t.Context(), waiting(alice), fresh[9].Reveal(), somewhere); err != nil {
		t.Errorf("a code of the new set: %v", err)
	}
}

func TestAChangeOfFactorsIsLoggedAndEndsTheOtherSessions(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	a, _ := h.enrol(t, alice)
	full := h.open(t, func(c *identity.Config) { c.Log = fullLog{} })
	l, err := h.TOTP(t.Context(), waiting(alice), a.code(0), somewhere)
	if err != nil {
		t.Fatal(err)
	}
	cookie, s := start(t, h.Directory, l)
	other, o := start(t, h.Directory, l)
	by := identity.By{Actor: alice.ID, User: alice.ID, Keep: s.ID}
	if err := full.RemoveTOTP(t.Context(), by); err == nil {
		t.Error("removed without a log")
	}
	if _, err := full.NewRecoveryCodes(t.Context(), by); err == nil {
		t.Error("new recovery codes without a log")
	}
	if f, err := h.Factors(t.Context(), alice.ID); err != nil || !f.TOTP || f.Recovery != 10 {
		t.Errorf("after what was not logged: %+v, %v", f, err)
	}
	if _, _, err := h.Session(t.Context(), other); err != nil {
		t.Errorf("after what was not logged: %v", err)
	}
	if err := h.RemoveTOTP(t.Context(), by); err != nil {
		t.Fatal(err)
	}
	if f, err := h.Factors(t.Context(), alice.ID); err != nil || f.TOTP || f.Recovery != 0 {
		t.Errorf("removed: %+v, %v", f, err)
	}
	if _, _, err := h.Session(t.Context(), other); !errors.Is(err, identity.ErrSession) {
		t.Errorf("the other session: %v", err)
	}
	if h.RevokedAt("session", o.ID).IsZero() {
		t.Error("the other session's tokens live")
	}
	if _, _, err := h.Session(t.Context(), cookie); err != nil {
		t.Errorf("the session it was done in: %v", err)
	}
	wantErr(t, h.RemoveTOTP(t.Context(), by), identity.ErrInvalid)
	wantErr(t, h.RemoveTOTP(t.Context(), identity.By{Actor: "root", User: "usr_0"}), identity.ErrUnknown)
	wantErr(t, h.RemoveTOTP(t.Context(), identity.By{User: alice.ID}), identity.ErrInvalid)
	var logged []string
	for _, c := range h.changes(t) {
		if strings.HasPrefix(c.Action, "users.") && c.Action != "users.create" {
			logged = append(logged, c.Actor+" "+c.Action+" "+c.Object)
		}
	}
	if want := []string{alice.ID + " users.totp.add " + alice.ID, alice.ID + " users.totp.remove " + alice.ID}; !slices.Equal(logged, want) {
		t.Errorf("logged %q, want %q", logged, want)
	}
}

func TestADeletedUserLeavesNoFactorsAndNoSessions(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	a, _ := h.enrol(t, alice)
	l, err := h.TOTP(t.Context(), waiting(alice), a.code(0), somewhere)
	if err != nil {
		t.Fatal(err)
	}
	_, s := start(t, h.Directory, l)
	if err := h.Delete(t.Context(), "root", alice.ID); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"sessions", "totp", "recovery_codes", "passkeys"} {
		if n := h.count(t, `SELECT COUNT(*) FROM `+table); n != 0 {
			t.Errorf("%d rows in %s", n, table)
		}
	}
	if h.RevokedAt("session", s.ID).IsZero() {
		t.Error("the session's tokens live")
	}
	if _, err := h.Factors(t.Context(), alice.ID); !errors.Is(err, identity.ErrUnknown) {
		t.Error(err)
	}
}

func TestACodeIsNoSuccessWhenTheSecretCanNotBeRead(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	a, _ := h.enrol(t, alice)
	h.exec(t, `UPDATE totp SET secret = 'x' || secret`)
	if _, err := h.TOTP(t.Context(), waiting(alice), a.code(0), somewhere); err == nil || errors.Is(err, identity.ErrCredentials) {
		t.Errorf("with other sealing keys: %v", err)
	}
	if err := h.db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := h.TOTP(t.Context(), waiting(alice), a.code(0), somewhere); err == nil || errors.Is(err, identity.ErrCredentials) {
		t.Errorf("without a database: %v", err)
	}
	if _, err := h.Recovery(t.Context(), waiting(alice), "AAAA", somewhere); err == nil || errors.Is(err, identity.ErrCredentials) {
		t.Errorf("without a database: %v", err)
	}
}

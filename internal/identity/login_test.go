package identity_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/identity"
)

const (
	aal1 = identity.ACRPassword
	aal2 = identity.ACRTwo
	phr  = identity.ACRPhishing
)

var order = []string{aal1, aal2, phr}

// A proof is something a user can do at the sign-in page, as a login of that moment.
type proof struct {
	name  string
	login identity.Login
	// What it is, told without the code under test:
	known, held, phr bool
}

var proofs = []proof{
	{"password", identity.Login{User: "usr_a", AMR: []string{"pwd"}, ACR: aal1}, true, false, false},
	{"password and code", identity.Login{User: "usr_a", AMR: []string{"pwd", "otp", "mfa"}, ACR: aal2}, true, true, false},
	{"code alone", identity.Login{User: "usr_a", AMR: []string{"otp"}}, false, true, false},
	{"key without a PIN", identity.Login{User: "usr_a", AMR: []string{"hwk"}, ACR: aal1}, false, true, false},
	{"passkey", identity.Login{User: "usr_a", AMR: []string{"swk", "user", "mfa"}, ACR: phr}, false, true, true},
	{"upstream", identity.Login{User: "usr_a", AMR: []string{"hwk"}, ACR: aal1, Source: "corp"}, true, false, false},
	{"upstream with two factors", identity.Login{User: "usr_a", AMR: []string{"pwd", "otp", "mfa"}, ACR: aal2, Source: "corp"}, true, true, false},
	{"password that waits for a code", identity.Login{User: "usr_a", AMR: []string{"pwd"}, ACR: aal1, Second: true}, true, false, false},
	{"another user's passkey", identity.Login{User: "usr_b", AMR: []string{"hwk", "user", "mfa"}, ACR: phr}, false, true, true},
	{"nothing", identity.Login{}, false, false, false},
}

// TestLevels walks every sequence of four proofs and holds the session against
// what the factors really proven allow.
func TestLevels(t *testing.T) {
	start := time.Now()
	steps := 0
	var walk func(s identity.Session, known, held, phrSeen bool, path []string)
	walk = func(s identity.Session, known, held, phrSeen bool, path []string) {
		if len(path) == 4 {
			return
		}
		for _, p := range proofs {
			steps++
			at := start.Add(time.Duration(len(path)) * time.Hour)
			l := p.login
			l.AuthTime = at
			path := append(slices.Clone(path), p.name)
			fail := func(format string, args ...any) {
				t.Helper()
				t.Fatalf(strings.Join(path, ", then ")+": "+format, args...)
			}
			next, err := s.RaiseAt(&l, at)
			switch {
			case l.User != s.User || l.Second:
				if !errors.Is(err, identity.ErrCredentials) {
					fail("taken: %v", err)
				}
				continue
			case errors.Is(err, identity.ErrWeaker):
				// Refused only when it adds no factor and is weaker by itself.
				if slices.Index(order, l.ACR) >= slices.Index(order, s.ACR) {
					fail("refused, though it is as strong as %s", s.ACR)
				}
				if s.ACR == aal1 && (known || p.known) && (held || p.held) {
					fail("refused, though it is the second factor")
				}
				continue
			case err != nil:
				fail("%v", err)
			}
			known, held, phrSeen := known || p.known, held || p.held, phrSeen || p.phr
			if slices.Index(order, next.ACR) < slices.Index(order, s.ACR) {
				fail("fell from %s to %s", s.ACR, next.ACR)
			}
			if next.ACR == phr != phrSeen {
				fail("is %s, and a passkey that verified its user was seen: %v", next.ACR, phrSeen)
			}
			if slices.Index(order, next.ACR) >= 1 && !(known && held) && !phrSeen {
				fail("is %s of one factor", next.ACR)
			}
			if slices.Contains(next.AMR, "mfa") != (next.ACR != aal1) {
				fail("is %s with methods %v", next.ACR, next.AMR)
			}
			if next.ID != s.ID || next.User != s.User {
				fail("became another session: %+v", next)
			}
			for i, m := range next.AMR {
				if slices.Contains(next.AMR[:i], m) {
					fail("has %s twice", m)
				}
			}
			// The time of a strong authentication is moved only by one as strong, or by
			// the factor that makes it strong.
			if next.AuthTime.After(s.AuthTime) && next.ACR == s.ACR && slices.Index(order, l.ACR) < slices.Index(order, s.ACR) {
				fail("%s counts as signing in again at %s", p.name, s.ACR)
			}
			walk(next, known, held, phrSeen, path)
		}
	}
	for _, p := range proofs {
		l := p.login
		l.AuthTime = start
		complete := slices.Contains(order, l.ACR) && !l.Second
		if l.Complete(start) != complete {
			t.Errorf("%s is a sign-in: %v", p.name, !complete)
		}
		if complete {
			s := identity.Session{ID: "ses_1", User: l.User, AMR: l.AMR, ACR: l.ACR, Source: l.Source, AuthTime: start}
			walk(s, p.known, p.held, p.phr, []string{p.name})
		}
	}
	if steps < 1000 {
		t.Fatalf("only %d steps", steps)
	}
}

func TestCombine(t *testing.T) {
	early, late := time.Now().Add(-3*time.Minute), time.Now()
	of := func(acr, source string, second bool, at time.Time, amr ...string) *identity.Login {
		return &identity.Login{User: "usr_a", AMR: amr, ACR: acr, Source: source, Second: second, AuthTime: at}
	}
	for _, c := range []struct {
		name    string
		a, b    *identity.Login
		acr     string
		amr     string
		waiting bool
		at      time.Time
	}{
		{"a password and a code are two factors, as old as the password", of(aal1, "", true, early, "pwd"), of("", "", false, late, "otp"), aal2, "pwd otp mfa", false, early},
		{"a code before its password is the same", of("", "", false, early, "otp"), of(aal1, "", true, late, "pwd"), aal2, "otp pwd mfa", false, early},
		{"a new code and a password of before are as old as the password", of("", "", false, late, "otp"), of(aal1, "", true, early, "pwd"), aal2, "otp pwd mfa", false, early},
		{"a password and a key without a PIN are two factors", of(aal1, "", true, early, "pwd"), of(aal1, "", true, late, "hwk"), aal2, "pwd hwk mfa", false, early},
		{"a key without a PIN and a code are both held: one factor, but what was asked for was given", of(aal1, "", true, early, "hwk"), of("", "", false, late, "otp"), aal1, "hwk otp", false, early},
		{"the same password twice is one factor and still waits", of(aal1, "", true, early, "pwd"), of(aal1, "", true, late, "pwd"), aal1, "pwd", true, early},
		{"an upstream and a code are two factors", of(aal1, "corp", true, early), of("", "", false, late, "otp"), aal2, "otp mfa", false, early},
		{"a code said by an upstream is no factor of ours", of(aal1, "corp", true, early, "otp"), of(aal1, "", true, late, "pwd"), aal1, "otp pwd", false, early},
		{"a user alone and a code are the code", &identity.Login{User: "usr_a"}, of("", "", false, late, "otp"), "", "otp", false, late},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := identity.Combine(c.a, c.b)
			if err != nil {
				t.Fatal(err)
			}
			if l.ACR != c.acr || strings.Join(l.AMR, " ") != c.amr || l.Second != c.waiting || !l.AuthTime.Equal(c.at) {
				t.Errorf("got %+v", l)
			}
		})
	}
	a := of(aal1, "", true, early, "pwd")
	b := of("", "", false, late, "otp")
	b.User = "usr_b"
	for name, pair := range map[string][2]*identity.Login{
		"of two users": {a, b}, "of nobody": {a, nil}, "of the zero login": {{}, {}},
	} {
		if l, err := identity.Combine(pair[0], pair[1]); !errors.Is(err, identity.ErrCredentials) {
			t.Errorf("a login %s: %+v, %v", name, l, err)
		}
	}
}

func TestALoginTravelsSealed(t *testing.T) {
	h := newHouse(t, nil)
	waiting := byPassword(h.alice(t))
	waiting.Second = true
	text, err := h.SealLogin(waiting)
	if err != nil {
		t.Fatal(err)
	}
	got, err := h.OpenLogin(text)
	if err != nil || got.User != waiting.User || !got.Second || !got.AuthTime.Equal(waiting.AuthTime) {
		t.Errorf("got %+v, %v", got, err)
	}
	forged, err := json.Marshal(map[string]any{"login": waiting, "until": time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	other, err := h.seal.Seal("another purpose", forged)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"nothing": "", "cut": text[:len(text)-1], "longer": text + "A", "of another purpose": other,
		"not sealed": string(forged), "huge": strings.Repeat("A", 1<<20),
	} {
		if l, err := h.OpenLogin(bad); !errors.Is(err, identity.ErrCredentials) {
			t.Errorf("text %s: %+v, %v", name, l, err)
		}
	}
	// Such text would start sessions as often as somebody likes.
	for name, change := range map[string]func(*identity.Login){
		"that is complete":  func(l *identity.Login) { l.Second = false },
		"of nobody":         func(l *identity.Login) { l.User = "" },
		"of an hour before": func(l *identity.Login) { l.AuthTime = l.AuthTime.Add(-time.Hour) },
	} {
		l := *waiting
		change(&l)
		if _, err := h.SealLogin(&l); !errors.Is(err, identity.ErrInvalid) {
			t.Errorf("a login %s is sealed: %v", name, err)
		}
	}
}

func TestASealedLoginIsGoodForFiveMinutes(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	synctest.Test(t, func(t *testing.T) {
		waiting := byPassword(alice)
		waiting.Second = true
		text, err := h.SealLogin(waiting)
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(5*time.Minute - time.Second)
		if _, err := h.OpenLogin(text); err != nil {
			t.Errorf("after 4:59: %v", err)
		}
		<-time.After(time.Second)
		if _, err := h.OpenLogin(text); !errors.Is(err, identity.ErrCredentials) {
			t.Errorf("after 5:00: %v", err)
		}
	})
}

func TestUpstreamLogin(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	l, err := h.UpstreamLogin(t.Context(), alice.ID, "corp", "", nil)
	if err != nil || l.ACR != aal1 || l.Second || l.Source != "corp" {
		t.Fatalf("%+v, %v", l, err)
	}
	if _, s, err := h.Start(t.Context(), l, laptop); err != nil || s.Source != "corp" {
		t.Errorf("%+v, %v", s, err)
	}
	h.enrol(t, alice)
	if l, err = h.UpstreamLogin(t.Context(), alice.ID, "corp", "", []string{"pwd"}); err != nil || !l.Second {
		t.Errorf("who has an authenticator app is not asked for it after one factor elsewhere: %+v, %v", l, err)
	}
	if l, err = h.UpstreamLogin(t.Context(), alice.ID, "corp", aal2, []string{"pwd", "otp"}); err != nil || l.Second || l.ACR != aal2 || !slices.Contains(l.AMR, "mfa") {
		t.Errorf("two factors elsewhere: %+v, %v", l, err)
	}
	for name, call := range map[string][3]string{
		"of nobody": {"", "corp", ""}, "of no upstream": {alice.ID, "", ""}, "of an ACR of the upstream's": {alice.ID, "corp", "urn:mace:silver"},
	} {
		if _, err := h.UpstreamLogin(t.Context(), call[0], call[1], call[2], nil); !errors.Is(err, identity.ErrInvalid) {
			t.Errorf("a login %s: %v", name, err)
		}
	}
}

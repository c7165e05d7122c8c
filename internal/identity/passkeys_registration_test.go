package identity_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/descope/virtualwebauthn"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
)

func TestRegistration(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	bob := h.create(t, identity.NewUser{Name: "bob", Password: gatehouse.NewSecret(goodPassword)})
	d := newDevice(alice)
	h.register(t, alice, d)
	options, state, err := h.BeginPasskey(t.Context(), alice.ID, "second")
	if err != nil {
		t.Fatal(err)
	}
	o, err := virtualwebauthn.ParseAttestationOptions(string(options))
	if err != nil || !d.credential.IsExcludedForAttestation(*o) {
		t.Errorf("an authenticator that has one is not told: %s, %v", options, err)
	}
	if o.RelyingPartyID != "id.example.com" || o.UserID != alice.ID || o.UserName != "alice" {
		t.Errorf("options %+v", o)
	}
	second := newDevice(alice)
	foreign := *second
	foreign.rp.Origin = "https://evil.example"
	other := *second
	other.rp.ID = "evil.example"
	absent := *second
	absent.auth.Options.UserNotPresent = true
	answer := func(d *device) func() ([]byte, string, identity.By) {
		return func() ([]byte, string, identity.By) { return d.make(t, options), state, self(alice) }
	}
	for name, call := range map[string]func() ([]byte, string, identity.By){
		"from another origin":          answer(&foreign),
		"for another RP":               answer(&other),
		"of a device nobody touched":   answer(&absent),
		"with a passkey that is known": answer(d),
		"for another user":             func() ([]byte, string, identity.By) { return second.make(t, options), state, self(bob) },
		"to forged state":              func() ([]byte, string, identity.By) { return second.make(t, options), "AAAA", self(alice) },
		"to another ceremony": func() ([]byte, string, identity.By) {
			_, state, err := h.BeginPasskey(t.Context(), alice.ID, "")
			if err != nil {
				t.Fatal(err)
			}
			return second.make(t, options), state, self(alice)
		},
		"to a sign-in": func() ([]byte, string, identity.By) {
			_, state := h.begin(t, "alice")
			return second.make(t, options), state, self(alice)
		},
		"that is huge": func() ([]byte, string, identity.By) {
			return append(second.make(t, options), strings.Repeat(" ", 64<<10)...), state, self(alice)
		},
		"that is empty": func() ([]byte, string, identity.By) { return nil, state, self(alice) },
		"with a passkey that another user has": func() ([]byte, string, identity.By) {
			options, state, err := h.BeginPasskey(t.Context(), bob.ID, "")
			if err != nil {
				t.Fatal(err)
			}
			return d.make(t, options), state, self(bob)
		},
	} {
		response, state, by := call()
		if _, err := h.FinishPasskey(t.Context(), by, state, response); !errors.Is(err, identity.ErrPasskey) {
			t.Errorf("an answer %s: %v", name, err)
		}
	}
	if list, err := h.Passkeys(t.Context(), alice.ID); err != nil || len(list) != 1 {
		t.Fatalf("after the refusals: %+v, %v", list, err)
	}
	full := h.open(t, func(c *identity.Config) { c.Log = fullLog{} })
	if _, err := full.FinishPasskey(t.Context(), self(alice), state, second.make(t, options)); err == nil {
		t.Error("registered without a log")
	}
	cookie, s := start(t, h.Directory, byPassword(alice))
	elsewhere, _ := start(t, h.Directory, byPassword(alice))
	by := self(alice)
	by.Keep = s.ID
	if _, err := h.FinishPasskey(t.Context(), by, state, second.make(t, options)); err != nil {
		t.Fatal(err)
	}
	if _, err := h.FinishPasskey(t.Context(), by, state, newDevice(alice).make(t, options)); !errors.Is(err, identity.ErrPasskey) {
		t.Errorf("two passkeys for one asking: %v", err)
	}
	if _, _, err := h.Session(t.Context(), elsewhere); !errors.Is(err, identity.ErrSession) {
		t.Errorf("another session, after a passkey was added: %v", err)
	}
	if _, _, err := h.Session(t.Context(), cookie); err != nil {
		t.Error(err)
	}
	if _, _, err := h.BeginPasskey(t.Context(), alice.ID, "my\x00phone"); !errors.Is(err, identity.ErrPasskey) {
		t.Errorf("a name with a NUL: %v", err)
	}
	if _, _, err := h.BeginPasskey(t.Context(), "usr_0", ""); !errors.Is(err, identity.ErrUnknown) {
		t.Errorf("for nobody: %v", err)
	}
}

func TestTheLastWayToSignInStays(t *testing.T) {
	h := newHouse(t, nil)
	bob := h.create(t, identity.NewUser{Name: "bob"}) // no password
	first := h.register(t, bob, newDevice(bob))
	wantErr(t, h.RemovePasskey(t.Context(), self(bob), first.ID), identity.ErrLast)
	second := h.register(t, bob, newDevice(bob))
	third := h.register(t, bob, newDevice(bob))
	var won atomic.Int32
	var all sync.WaitGroup
	for _, p := range []*identity.Passkey{first, second, third} {
		all.Go(func() {
			if err := h.RemovePasskey(t.Context(), self(bob), p.ID); err == nil {
				won.Add(1)
			} else if !errors.Is(err, identity.ErrLast) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if list, err := h.Passkeys(t.Context(), bob.ID); err != nil || len(list) != 1 || won.Load() != 2 {
		t.Errorf("%d removed, %v left, %v", won.Load(), list, err)
	}

	alice := h.alice(t)
	d := newDevice(alice)
	p := h.register(t, alice, d)
	wantErr(t, h.RemovePasskey(t.Context(), self(bob), p.ID), identity.ErrInvalid)
	left, err := h.Passkeys(t.Context(), bob.ID)
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, h.RemovePasskey(t.Context(), self(alice), left[0].ID), identity.ErrInvalid)
	if left, err = h.Passkeys(t.Context(), bob.ID); err != nil || len(left) != 1 {
		t.Errorf("another user's passkey was removed: %v, %v", left, err)
	}
	options, state := h.begin(t, "alice")
	response := d.sign(t, options)
	if err := h.RemovePasskey(t.Context(), self(alice), p.ID); err != nil {
		t.Errorf("who has a password may remove it: %v", err)
	}
	if _, err := h.FinishSignIn(t.Context(), state, response, somewhere); !errors.Is(err, identity.ErrCredentials) {
		t.Errorf("a passkey removed since it was asked for: %v", err)
	}
	wantErr(t, h.RemovePasskey(t.Context(), self(alice), p.ID), identity.ErrInvalid)
}

func TestOriginsOfPasskeys(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	for issuer, origin := range map[string]string{
		"https://id.example.com/auth":    "https://id.example.com",
		"https://login.example.com:8443": "https://login.example.com:8443",
		"http://localhost:8080":          "http://localhost:8080",
	} {
		d := h.open(t, func(c *identity.Config) { c.Issuer = issuer })
		dev := newDevice(alice)
		dev.rp.Origin = origin
		dev.rp.ID, _, _ = strings.Cut(strings.TrimPrefix(strings.TrimPrefix(origin, "https://"), "http://"), ":")
		options, state, err := d.BeginPasskey(t.Context(), alice.ID, "")
		if err != nil {
			t.Errorf("%s: %v", issuer, err)
			continue
		}
		if _, err := d.FinishPasskey(t.Context(), self(alice), state, dev.make(t, options)); err != nil {
			t.Errorf("%s: %v", issuer, err)
		}
	}
	for _, issuer := range []string{"https://192.0.2.1", "http://127.0.0.1:8080", "https://[2001:db8::1]"} {
		d := h.open(t, func(c *identity.Config) { c.Issuer = issuer })
		if _, _, err := d.BeginSignIn(t.Context(), ""); !errors.Is(err, identity.ErrNoPasskeys) {
			t.Errorf("%s: %v", issuer, err)
		}
	}
}

func TestTwentyPasskeysAreEnough(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	for range 20 {
		h.register(t, alice, newDevice(alice))
	}
	if _, _, err := h.BeginPasskey(t.Context(), alice.ID, ""); !errors.Is(err, identity.ErrPasskey) {
		t.Errorf("the 21st: %v", err)
	}
}

package identity_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/descope/virtualwebauthn"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
)

var here = virtualwebauthn.RelyingParty{ID: "id.example.com", Name: "id.example.com", Origin: "https://id.example.com"}

// A device is a phone or a stick with one passkey.
type device struct {
	rp         virtualwebauthn.RelyingParty
	auth       virtualwebauthn.Authenticator
	credential virtualwebauthn.Credential
}

func newDevice(u *identity.User) *device {
	d := &device{here, virtualwebauthn.NewAuthenticator(), newKey()}
	d.auth.Options.UserHandle = []byte(u.ID)
	d.credential.Counter = 1
	return d
}

// newKey leaves out the one key of 128 that virtualwebauthn writes without its
// leading zeros, which RFC 9053 §7.1.1 forbids.
func newKey() virtualwebauthn.Credential {
	for {
		c := virtualwebauthn.NewCredential(virtualwebauthn.KeyTypeEC2)
		if len(c.Key.AttestationData()) == 77 {
			return c
		}
	}
}

// make answers options of BeginPasskey.
func (d *device) make(t testing.TB, options []byte) []byte {
	t.Helper()
	o, err := virtualwebauthn.ParseAttestationOptions(string(options))
	if err != nil {
		t.Fatal(err)
	}
	return []byte(virtualwebauthn.CreateAttestationResponse(d.rp, d.auth, d.credential, *o))
}

// sign answers options of BeginSignIn and counts.
func (d *device) sign(t testing.TB, options []byte) []byte {
	t.Helper()
	o, err := virtualwebauthn.ParseAssertionOptions(string(options))
	if err != nil {
		t.Fatal(err)
	}
	d.credential.Counter++
	return []byte(virtualwebauthn.CreateAssertionResponse(d.rp, d.auth, d.credential, *o))
}

func self(u *identity.User) identity.By { return identity.By{Actor: u.ID, User: u.ID} }

func (h *house) register(t testing.TB, u *identity.User, d *device) *identity.Passkey {
	t.Helper()
	options, state, err := h.BeginPasskey(t.Context(), u.ID, "my phone")
	if err != nil {
		t.Fatal(err)
	}
	p, err := h.FinishPasskey(t.Context(), self(u), state, d.make(t, options))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (h *house) begin(t testing.TB, login string) (options []byte, state string) {
	t.Helper()
	options, state, err := h.BeginSignIn(t.Context(), login)
	if err != nil {
		t.Fatal(err)
	}
	return options, state
}

// reseal makes sealed state one that is good for so long.
func (h *house) reseal(t testing.TB, purpose, state string, left time.Duration) string {
	t.Helper()
	plain, err := h.seal.Open(purpose, state)
	if err != nil {
		t.Fatal(err)
	}
	var s map[string]any
	if err := json.Unmarshal(plain, &s); err != nil {
		t.Fatal(err)
	}
	end, ok := s["until"].(float64)
	if !ok || time.Until(time.UnixMilli(int64(end))) > 10*time.Minute {
		t.Errorf("%s: state is good until %v", purpose, s["until"])
	}
	s["until"] = time.Now().Add(left).UnixMilli()
	if plain, err = json.Marshal(s); err != nil {
		t.Fatal(err)
	}
	if state, err = h.seal.Seal(purpose, plain); err != nil {
		t.Fatal(err)
	}
	return state
}

func (h *house) signIn(t testing.TB, login string, d *device) (*identity.Login, error) {
	t.Helper()
	options, state := h.begin(t, login)
	return h.FinishSignIn(t.Context(), state, d.sign(t, options), somewhere)
}

func TestAPasskeySignsIn(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	d := newDevice(alice)
	p := h.register(t, alice, d)
	if p.Name != "my phone" || p.Synced || !p.Used.IsZero() {
		t.Errorf("registered %+v", p)
	}
	for name, login := range map[string]string{"offered by the browser": "", "for a name": "alice", "for another spelling": "ALICE", "for an address": "Alice@example.com"} {
		l, err := h.signIn(t, login, d)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if l.User != alice.ID || l.ACR != phr || l.Second || !slices.Equal(l.AMR, []string{"hwk", "user", "mfa"}) {
			t.Errorf("%s: login %+v", name, l)
		}
		if _, s, err := h.Start(t.Context(), l, laptop); err != nil || s.ACR != phr {
			t.Errorf("%s: session %+v, %v", name, s, err)
		}
	}
	if n := h.count(t, `SELECT COUNT(*) FROM familiar WHERE user_id = $1 AND source = '192.0.2.7/32'`, alice.ID); n != 1 {
		t.Error("the address is not known as the user's")
	}
	list, err := h.Passkeys(t.Context(), alice.ID)
	if err != nil || len(list) != 1 || list[0].ID != p.ID || list[0].Used.IsZero() || !list[0].Copied.IsZero() {
		t.Errorf("passkeys %+v, %v", list, err)
	}
	if f, err := h.Factors(t.Context(), alice.ID); err != nil || f.Passkeys != 1 {
		t.Errorf("factors %+v, %v", f, err)
	}
}

func TestWhatAPasskeySaysOfItselfIsTheLevel(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	synced := newDevice(alice)
	synced.auth.Options.BackupEligible, synced.auth.Options.BackupState = true, true
	if p := h.register(t, alice, synced); !p.Synced {
		t.Errorf("a synced passkey: %+v", p)
	}
	if l, err := h.signIn(t, "", synced); err != nil || !slices.Equal(l.AMR, []string{"swk", "user", "mfa"}) || l.ACR != phr {
		t.Errorf("a synced passkey: %+v, %v", l, err)
	}
	plain := newDevice(alice)
	h.register(t, alice, plain)
	plain.auth.Options.UserNotVerified = true
	l, err := h.signIn(t, "alice", plain)
	if err != nil || l.ACR != aal1 || !slices.Equal(l.AMR, []string{"hwk"}) || l.Second {
		t.Fatalf("a key that asked for no PIN: %+v, %v", l, err)
	}
	h.exec(t, `DELETE FROM familiar`)
	if _, err := h.signIn(t, "", plain); err != nil || h.count(t, `SELECT COUNT(*) FROM familiar`) != 0 {
		t.Errorf("where a stick is plugged in its finder is at home: %v", err)
	}
	// With the password it is two factors.
	both, err := identity.Combine(byPassword(alice), l)
	if err != nil || both.ACR != aal2 {
		t.Errorf("a password and a key: %+v, %v", both, err)
	}
	h.enrol(t, alice)
	l, err = h.signIn(t, "alice", plain)
	if err != nil || !l.Second {
		t.Fatalf("of a user with an authenticator app: %+v, %v", l, err)
	}
	l.Second = false
	if _, _, err := h.Start(t.Context(), l, laptop); !errors.Is(err, identity.ErrCredentials) {
		t.Errorf("and started without it: %v", err)
	}
	if l, err := h.signIn(t, "alice", synced); err != nil || l.Second {
		t.Errorf("a passkey that verified its user needs no second factor: %+v, %v", l, err)
	}
}

func TestWrongAnswersSignNobodyIn(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	bob := h.create(t, identity.NewUser{Name: "bob", Password: gatehouse.NewSecret(goodPassword)})
	mallory := h.create(t, identity.NewUser{Name: "mallory", Password: gatehouse.NewSecret(goodPassword)})
	d, bobs, mallorys := newDevice(alice), newDevice(bob), newDevice(mallory)
	h.register(t, alice, d)
	h.register(t, bob, bobs)
	h.register(t, mallory, mallorys)
	answer := func(login string, by device, change func(*device)) (string, []byte) {
		options, state := h.begin(t, login)
		change(&by)
		return state, by.sign(t, options)
	}
	same := func(*device) {}
	edit := func(b []byte, field, text string) []byte {
		var v map[string]any
		if err := json.Unmarshal(b, &v); err != nil {
			t.Fatal(err)
		}
		v["response"].(map[string]any)[field] = text //nolint:forcetypeassert // as virtualwebauthn writes it
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, call := range map[string]func() (string, []byte){
		"from another origin": func() (string, []byte) {
			return answer("", *d, func(d *device) { d.rp.Origin = "https://id.example.com.evil.example" })
		},
		"from a subdomain": func() (string, []byte) {
			return answer("", *d, func(d *device) { d.rp.Origin = "https://blog.id.example.com" })
		},
		"from another port": func() (string, []byte) {
			return answer("", *d, func(d *device) { d.rp.Origin = "https://id.example.com:8443" })
		},
		"without TLS": func() (string, []byte) {
			return answer("", *d, func(d *device) { d.rp.Origin = "http://id.example.com" })
		},
		"for another RP": func() (string, []byte) { return answer("", *d, func(d *device) { d.rp.ID = "evil.example" }) },
		"of a passkey nobody touched": func() (string, []byte) {
			return answer("", *d, func(d *device) { d.auth.Options.UserNotPresent = true })
		},
		"with another key": func() (string, []byte) {
			return answer("", *d, func(d *device) { d.credential.Key = newKey().Key })
		},
		"with a passkey nobody registered":     func() (string, []byte) { return answer("", *newDevice(alice), same) },
		"of another user's passkey for a name": func() (string, []byte) { return answer("alice", *mallorys, same) },
		"of another user's passkey with the handle": func() (string, []byte) {
			return answer("", *mallorys, func(d *device) { d.auth.Options.UserHandle = []byte(alice.ID) })
		},
		"of another user's passkey for a name, with the handle": func() (string, []byte) {
			return answer("alice", *mallorys, func(d *device) { d.auth.Options.UserHandle = []byte(alice.ID) })
		},
		"with a handle of nobody": func() (string, []byte) {
			return answer("", *d, func(d *device) { d.auth.Options.UserHandle = []byte("usr_0") })
		},
		"without a handle": func() (string, []byte) { return answer("", *d, func(d *device) { d.auth.Options.UserHandle = nil }) },
		"that became synced": func() (string, []byte) {
			return answer("", *d, func(d *device) { d.auth.Options.BackupEligible = true })
		},
		"for a name that nobody has": func() (string, []byte) { return answer("nobody", *d, same) },
		"to another ceremony": func() (string, []byte) {
			_, b := answer("", *d, same)
			_, state := h.begin(t, "")
			return state, b
		},
		"with a changed signature": func() (string, []byte) {
			state, b := answer("", *d, same)
			return state, edit(b, "signature", base64.RawURLEncoding.EncodeToString(make([]byte, 70)))
		},
		"to a registration": func() (string, []byte) {
			options, state, err := h.BeginPasskey(t.Context(), alice.ID, "")
			if err != nil {
				t.Fatal(err)
			}
			return state, newDevice(alice).make(t, options)
		},
		"that is a registration": func() (string, []byte) {
			options, _, err := h.BeginPasskey(t.Context(), alice.ID, "")
			if err != nil {
				t.Fatal(err)
			}
			_, state := h.begin(t, "")
			return state, d.make(t, options)
		},
		"with forged state": func() (string, []byte) { _, b := answer("", *d, same); return "AAAA", b },
		"that is no JSON":   func() (string, []byte) { _, state := h.begin(t, ""); return state, []byte("{") },
		"that is empty":     func() (string, []byte) { _, state := h.begin(t, ""); return state, nil },
		"that is huge": func() (string, []byte) {
			state, b := answer("", *d, same)
			return state, append(b, strings.Repeat(" ", 64<<10)...)
		},
	} {
		state, response := call()
		if l, err := h.FinishSignIn(t.Context(), state, response, somewhere); !errors.Is(err, identity.ErrCredentials) {
			t.Errorf("an answer %s: %+v, %v", name, l, err)
		}
	}
	// The device is in order, it was the answers that were wrong.
	if _, err := h.signIn(t, "", d); err != nil {
		t.Error(err)
	}
	if err := h.Lock(t.Context(), "root", alice.ID, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := h.signIn(t, "", d); !errors.Is(err, identity.ErrCredentials) {
		t.Errorf("of a locked user: %v", err)
	}
}

func TestAnAnswerCountsOnceAndNotForLong(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	d := newDevice(alice)
	h.register(t, alice, d)
	d.credential.Counter = 0
	h.exec(t, `UPDATE passkeys SET sign_count = 0`) // an authenticator without a counter, so that it is the ceremony that counts
	options, state := h.begin(t, "")
	o, err := virtualwebauthn.ParseAssertionOptions(string(options))
	if err != nil {
		t.Fatal(err)
	}
	response := []byte(virtualwebauthn.CreateAssertionResponse(d.rp, d.auth, d.credential, *o))
	var won atomic.Int32
	var all sync.WaitGroup
	other := h.open(t, nil)
	for i := range 50 {
		dir := h.Directory
		if i%2 == 1 {
			dir = other
		}
		all.Go(func() {
			if _, err := dir.FinishSignIn(t.Context(), state, response, somewhere); err == nil {
				won.Add(1)
			} else if !errors.Is(err, identity.ErrCredentials) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := won.Load(); n != 1 {
		t.Errorf("%d of 50 uses of one answer signed in", n)
	}
	for age, want := range map[time.Duration]bool{time.Minute: true, -time.Millisecond: false} {
		options, state := h.begin(t, "")
		state = h.reseal(t, "identity passkey sign-in", state, age)
		o, err := virtualwebauthn.ParseAssertionOptions(string(options))
		if err != nil {
			t.Fatal(err)
		}
		_, err = h.FinishSignIn(t.Context(), state, []byte(virtualwebauthn.CreateAssertionResponse(d.rp, d.auth, d.credential, *o)), somewhere)
		if (err == nil) != want || err != nil && !errors.Is(err, identity.ErrCredentials) {
			t.Errorf("state that ends in %v: %v", age, err)
		}
	}
}

func TestACounterThatGoesBackIsRefusedAndRecorded(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	d := newDevice(alice)
	h.register(t, alice, d)
	d.credential.Counter = 10
	if _, err := h.signIn(t, "", d); err != nil {
		t.Fatal(err)
	}
	for _, counter := range []uint32{0, 5, 10} { // the copy's next answer says one more
		d.credential.Counter = counter
		if _, err := h.signIn(t, "", d); !errors.Is(err, identity.ErrCredentials) {
			t.Errorf("counter %d after 11: %v", counter+1, err)
		}
	}
	list, err := h.Passkeys(t.Context(), alice.ID)
	if err != nil || list[0].Copied.IsZero() {
		t.Errorf("not recorded: %+v, %v", list, err)
	}
	last := h.changes(t)[len(h.changes(t))-1]
	if last.Action != "users.passkeys.copied" || last.Object != alice.ID || last.Detail["passkey"] != list[0].ID || last.Detail["counter"] != "11" {
		t.Errorf("logged last: %+v", last)
	}
	d.credential.Counter = 3
	options, state := h.begin(t, "")
	full := h.open(t, func(c *identity.Config) { c.Log = fullLog{} })
	if l, err := full.FinishSignIn(t.Context(), state, d.sign(t, options), somewhere); err == nil {
		t.Errorf("what could not be logged signs in: %+v", l)
	}
	d.credential.Counter = 11
	if _, err := h.signIn(t, "", d); err != nil {
		t.Errorf("counter 12 after 11: %v", err)
	}
}

func TestANameThatNobodyHasLooksLikeAnyOther(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	h.register(t, alice, newDevice(alice))
	h.create(t, identity.NewUser{Name: "bob", Password: gatehouse.NewSecret(goodPassword)}) // without a passkey
	type descriptor struct {
		ID   string `json:"id"`
		Type string `json:"type"`
	}
	parse := func(options []byte) (list []descriptor, keys []string) {
		var o struct {
			PublicKey map[string]json.RawMessage `json:"publicKey"`
		}
		if err := json.Unmarshal(options, &o); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(o.PublicKey["allowCredentials"], &list); err != nil {
			t.Fatal(err)
		}
		for k := range o.PublicKey {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		return list, keys
	}
	options, state := h.begin(t, "alice")
	known, wantKeys := parse(options)
	if len(known) != 1 {
		t.Fatalf("alice: %s", options)
	}
	seen := map[string]string{}
	shapes := map[string]bool{}
	elsewhere := h.open(t, nil)
	for i := range 40 {
		name := fmt.Sprint("nobody", i)
		switch i {
		case 0:
			name = "bob"
		case 1:
			name = "not a name \x00"
		}
		options, madeUp := h.begin(t, name)
		list, keys := parse(options)
		if !slices.Equal(keys, wantKeys) || len(list) < 1 || len(list) > 2 || len(madeUp) != len(state) {
			t.Errorf("%s: %s with state of %d bytes; alice's has %d", name, options, len(madeUp), len(state))
		}
		shapes[fmt.Sprint(len(list), len(list[0].ID))] = true
		for _, c := range list {
			if c.Type != "public-key" || seen[c.ID] != "" {
				t.Errorf("%s and %s have the credential %+v", name, seen[c.ID], c)
			}
			seen[c.ID] = name
		}
		options, _, err := elsewhere.BeginSignIn(t.Context(), strings.ToUpper(name))
		if err != nil {
			t.Fatal(err)
		}
		if twice, _ := parse(options); i > 1 && !slices.Equal(twice, list) {
			t.Errorf("%s is given other credentials in another process and spelling: %v and %v", name, list, twice)
		}
	}
	if len(shapes) < 4 {
		t.Errorf("what is made up has only the shapes %v", shapes)
	}
}

func TestAPasskeyIsNoSuccessWithoutADatabase(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	d := newDevice(alice)
	h.register(t, alice, d)
	options, state := h.begin(t, "alice")
	h.exec(t, `UPDATE passkeys SET public_key = '***'`)
	if _, err := h.FinishSignIn(t.Context(), state, d.sign(t, options), somewhere); err == nil || errors.Is(err, identity.ErrCredentials) {
		t.Errorf("with a damaged row: %v", err)
	}
	if err := h.db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := h.FinishSignIn(t.Context(), state, d.sign(t, options), somewhere); err == nil || errors.Is(err, identity.ErrCredentials) {
		t.Errorf("FinishSignIn: %v", err)
	}
	if _, _, err := h.BeginSignIn(t.Context(), "alice"); err == nil {
		t.Error("BeginSignIn asks nobody")
	}
}

func FuzzFinishSignIn(f *testing.F) {
	h := newHouse(f, nil)
	alice := h.alice(f)
	d := newDevice(alice)
	h.register(f, alice, d)
	options, _ := h.begin(f, "")
	good := d.sign(f, options)
	f.Add("", good)
	f.Add("alice", []byte(`{"id":"AA","rawId":"AA","type":"public-key","response":{}}`))
	sum := sha256.Sum256(good)
	f.Add("nobody", sum[:])
	f.Fuzz(func(t *testing.T, login string, response []byte) {
		_, state, err := h.BeginSignIn(t.Context(), login)
		if err != nil {
			t.Fatal(err)
		}
		if l, err := h.FinishSignIn(t.Context(), state, response, netip.Addr{}); !errors.Is(err, identity.ErrCredentials) {
			t.Fatalf("%+v, %v", l, err)
		}
	})
}

func BenchmarkPasskeySignIn(b *testing.B) {
	h := newHouse(b, nil)
	alice := h.alice(b)
	d := newDevice(alice)
	h.register(b, alice, d)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.signIn(b, "", d); err != nil {
			b.Fatal(err)
		}
	}
}

package pages_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/descope/virtualwebauthn"

	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth/pages"
)

// A device is a phone with one passkey; what the script does in a browser is done
// here by hand, so that it can also be done wrongly.
type device struct {
	rp         virtualwebauthn.RelyingParty
	auth       virtualwebauthn.Authenticator
	credential virtualwebauthn.Credential
}

func newDevice(u *identity.User) *device {
	d := &device{rp: virtualwebauthn.RelyingParty{ID: host, Name: host, Origin: origin}, auth: virtualwebauthn.NewAuthenticator()}
	for { // RFC 9053 §7.1.1 forbids the keys it writes without leading zeros
		if d.credential = virtualwebauthn.NewCredential(virtualwebauthn.KeyTypeEC2); len(d.credential.Key.AttestationData()) == 77 {
			break
		}
	}
	d.auth.Options.UserHandle = []byte(u.ID)
	d.credential.Counter = 1
	return d
}

type begun struct {
	Options  json.RawMessage
	State    string
	Location string
	Error    string
}

func (b *browser) begin(path string, form url.Values) begun {
	b.t.Helper()
	v := b.post(path, form)
	var out begun
	if err := json.Unmarshal([]byte(v.body), &out); err != nil || v.status != 200 {
		b.t.Fatalf("%d %s", v.status, v.body)
	}
	return out
}

// add registers the device's passkey for who is signed in in b.
func (d *device) add(t testing.TB, b *browser) *view {
	t.Helper()
	v := b.get("/account/security")
	token := fieldsOf(find(v.doc, "form", "action", "/account/passkeys")).Get("csrf")
	o := b.begin("/account/passkeys/options", url.Values{"csrf": {token}, "name": {"Phone"}})
	asked, err := virtualwebauthn.ParseAttestationOptions(string(o.Options))
	if err != nil {
		t.Fatal(err)
	}
	return b.submit(v, "/account/passkeys", url.Values{"state": {o.State}, "response": {virtualwebauthn.CreateAttestationResponse(d.rp, d.auth, d.credential, *asked)}})
}

// sign answers the ceremony of the passkey form of v, begun as step says.
func (d *device) sign(t testing.TB, b *browser, v *view, step string) url.Values {
	t.Helper()
	token := fieldsOf(find(v.doc, "form", "data-passkey", "get")).Get("csrf")
	o := b.begin("/signin/passkey/options", url.Values{"csrf": {token}, "step": {step}})
	asked, err := virtualwebauthn.ParseAssertionOptions(string(o.Options))
	if err != nil {
		t.Fatal(err)
	}
	d.credential.Counter++
	return url.Values{"state": {o.State}, "response": {virtualwebauthn.CreateAssertionResponse(d.rp, d.auth, d.credential, *asked)}}
}

func TestPasskeys(t *testing.T) {
	s := newSite(t, nil)
	alice := s.alice(t)
	bob := s.create(t, identity.NewUser{Name: "bob", Password: secret(goodPassword)})
	phone, bobs := newDevice(alice), newDevice(bob)
	b, other := s.browser(t), s.browser(t)
	other.signIn("bob", goodPassword)
	bobs.add(t, other).leads(t, "/account/security?done=passkey")
	b.signIn("alice", goodPassword)
	before := b.cookie("__Host-gatehouse")
	b.follow(phone.add(t, b).leads(t, "/account/security?done=passkey")).says(t, 200, "Your passkey is added.", "Phone")
	if b.cookie("__Host-gatehouse") == before {
		t.Error("the cookie is as before")
	}

	t.Run("a passkey signs in, once for each ceremony", func(t *testing.T) {
		b := s.browser(t)
		v := b.get("/signin")
		answer := phone.sign(t, b, v, "")
		b.submit(v, "/signin/passkey", answer).leads(t, "/account")
		replayed := s.browser(t)
		replayed.submit(replayed.get("/signin"), "/signin/passkey", answer).says(t, 403, "The passkey was not accepted.")
		b.get("/account").says(t, 200, "alice")
	})
	t.Run("a passkey raises a session to what is resistant to phishing", func(t *testing.T) {
		b := s.browser(t)
		b.signIn("alice", goodPassword)
		s.wait(b, "r1", pages.Waiting{ACR: []string{identity.ACRPhishing}})
		v := b.get("/signin?request=r1").says(t, 200, "One more step")
		b.submit(v, "/signin/passkey", phone.sign(t, b, v, "up")).leads(t, "/continue?request=r1")
		b.get("/signin?request=r1").leads(t, "/continue?request=r1")
	})
	t.Run("a password does not renew a session that a passkey made: it makes another, of its own level", func(t *testing.T) {
		b := s.browser(t)
		v := b.get("/signin")
		b.submit(v, "/signin/passkey", phone.sign(t, b, v, ""))
		strong := b.cookie("__Host-gatehouse")
		s.wait(b, "r3", pages.Waiting{Reauth: true})
		b.submit(b.get("/signin?request=r3"), "/signin", url.Values{"password": {goodPassword}}).leads(t, "/continue?request=r3")
		if _, _, err := s.Session(t.Context(), strong); err == nil {
			t.Error("the strong session lives on")
		}
		if weak, _, err := s.Session(t.Context(), b.cookie("__Host-gatehouse")); err != nil || weak.ACR != identity.ACRPassword {
			t.Errorf("%+v, %v", weak, err)
		}
	})
	t.Run("another user's passkey does not raise the session, nor take it over", func(t *testing.T) {
		b := s.browser(t)
		b.signIn("alice", goodPassword)
		s.wait(b, "r2", pages.Waiting{ACR: []string{identity.ACRPhishing}})
		v := b.get("/signin?request=r2")
		b.submit(v, "/signin/passkey", bobs.sign(t, b, v, "")).says(t, 403) // a ceremony for anybody, brought to the step of alice
		b.get("/account").says(t, 200, "alice")
		b.get("/signin?request=r2").says(t, 200, "One more step")
	})
	t.Run("a passkey of eleven minutes ago is renewed before another is added", func(t *testing.T) {
		s.age(t, 11*time.Minute)
		v := b.get("/account/security")
		token := fieldsOf(find(v.doc, "form", "action", "/account/passkeys")).Get("csrf")
		o := b.begin("/account/passkeys/options", url.Values{"csrf": {token}, "name": {"Second"}})
		if o.Options != nil || !strings.HasPrefix(o.Location, "/signin?to=") {
			t.Fatalf("%+v", o)
		}
		v = b.get(o.Location).says(t, 200, "Confirm that it is you")
		b.submit(v, "/signin/passkey", phone.sign(t, b, v, "up")).leads(t, "/account/security")
	})
	t.Run("a passkey is removed", func(t *testing.T) {
		v := b.follow(b.submit(b.get("/account/security"), "/account/passkeys/remove", nil))
		if strings.Contains(text(v.says(t, 200, "Removed.").doc), "Phone") {
			t.Error("it is still there")
		}
	})

	enrol(t, b)
	t.Run("a key that asks for no PIN is a second factor after the password, and none without", func(t *testing.T) {
		stick := newDevice(alice)
		stick.auth.Options.UserNotVerified = true
		stick.add(t, b).leads(t, "/account/security")
		browser := s.browser(t)
		v := browser.follow(browser.signIn("alice", goodPassword).leads(t, "/signin/second"))
		browser.submit(v, "/signin/passkey", stick.sign(t, browser, v, "second")).leads(t, "/account")
		session, _, err := s.Session(t.Context(), browser.cookie("__Host-gatehouse"))
		if err != nil || session.ACR != identity.ACRTwo {
			t.Errorf("%+v, %v", session, err)
		}
		alone := s.browser(t)
		v = alone.get("/signin")
		alone.submit(v, "/signin/passkey", stick.sign(t, alone, v, "")).leads(t, "/signin/second")
		if alone.cookie("__Host-gatehouse") != "" {
			t.Error("signed in by one factor")
		}
	})
	t.Run("another user's passkey is no second factor", func(t *testing.T) {
		s.forget(t)
		b := s.browser(t)
		v := b.follow(b.signIn("alice", goodPassword).leads(t, "/signin/second"))
		form := bobs.sign(t, b, b.get("/signin"), "")
		form.Set("csrf", fieldsOf(find(v.doc, "form", "action", "/signin/second")).Get("csrf"))
		form.Set("step", "second")
		b.post("/signin/passkey", form).says(t, 403, "The passkey was not accepted.")
		if b.cookie("__Host-gatehouse") != "" {
			t.Error("signed in")
		}
	})
	t.Run("the only way to sign in is not removed", func(t *testing.T) {
		pia := s.create(t, identity.NewUser{Name: "pia", Password: secret(goodPassword)})
		d, b := newDevice(pia), s.browser(t)
		b.signIn("pia", goodPassword)
		d.add(t, b)
		s.exec(t, `UPDATE users SET password = '' WHERE id = $1`, pia.ID)
		b.submit(b.get("/account/security"), "/account/passkeys/remove", nil).says(t, 409, "your only way to sign in")
	})
}

package pages_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth/pages"
)

func TestSignIn(t *testing.T) {
	s := newSite(t, nil)
	u := s.alice(t)

	t.Run("a password signs in, the answer is 303, and the session's cookie is nobody else's to read or set", func(t *testing.T) {
		b := s.browser(t)
		v := b.signIn("alice", goodPassword).leads(t, "/account")
		var found bool
		for _, c := range (&http.Response{Header: v.header}).Cookies() {
			if c.Name == "__Host-gatehouse" {
				found = true
				if !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" {
					t.Errorf("cookie %+v", c)
				}
			}
		}
		if !found {
			t.Fatal("no session cookie")
		}
		b.follow(v).says(t, 200, "Your account", "alice@example.com", "Alice Liddell")
		if got := s.events.last().Subject; got != u.ID {
			t.Errorf("the event says %q", got)
		}
	})
	t.Run("the mail address and another spelling sign in as the same user", func(t *testing.T) {
		for _, name := range []string{"Alice", "ALICE@example.com", "  alice "} {
			s.browser(t).signIn(name, goodPassword).leads(t, "/account")
		}
	})
	t.Run("who asks for a page of the account comes back to it", func(t *testing.T) {
		b := s.browser(t)
		v := b.get("/account/sessions").leads(t, "/signin?to=")
		v = b.submit(b.follow(v), "/signin", url.Values{"name": {"alice"}, "password": {goodPassword}}).leads(t, "/account/sessions")
		b.follow(v).says(t, 200, "Where you are signed in", "Firefox on Linux", "this browser")
	})
	t.Run("an application's request goes on where it waited", func(t *testing.T) {
		b := s.browser(t)
		s.wait(b, "r1", pages.Waiting{LoginHint: "alice"})
		v := b.get("/signin?request=r1").says(t, 200, "To continue to Orders")
		if got := attr(find(v.doc, "input", "id", "name"), "value"); got != "alice" {
			t.Errorf("the hint is %q", got)
		}
		v = b.submit(v, "/signin", url.Values{"password": {goodPassword}}).leads(t, "/continue?request=r1")
		b.get(v.to()).leads(t, appRedirect)
		b.get("/signin?request=r1").leads(t, "/continue?request=r1")
	})
	t.Run("signing out ends the session, and the cookie opens nothing", func(t *testing.T) {
		b := s.browser(t)
		b.follow(b.signIn("alice", goodPassword))
		kept := b.cookie("__Host-gatehouse")
		v := b.submit(b.get("/account"), "/account/signout", nil).leads(t, "/signin?done=signout")
		b.follow(v).says(t, 200, "You are signed out.")
		b.header.Set("Cookie", "__Host-gatehouse="+kept)
		b.get("/account").leads(t, "/signin?to=")
	})
	t.Run("another user's sign-in ends the session there was", func(t *testing.T) {
		s.create(t, identity.NewUser{Name: "bob", Password: secret(goodPassword)})
		b := s.browser(t)
		b.signIn("alice", goodPassword)
		kept := b.cookie("__Host-gatehouse")
		b.submit(b.get("/signin?as=other"), "/signin", url.Values{"name": {"bob"}, "password": {goodPassword}}).leads(t, "/account")
		b.get("/account").says(t, 200, "bob")
		if _, _, err := s.Session(t.Context(), kept); err == nil {
			t.Error("alice's session lives on behind bob's")
		}
	})
}

func TestSecondFactor(t *testing.T) {
	s := newSite(t, nil)
	s.alice(t)
	b := s.browser(t)
	b.signIn("alice", goodPassword)
	key, codes := enrol(t, b)

	first := func(t *testing.T, b *browser) *view {
		t.Helper()
		v := b.signIn("alice", goodPassword).leads(t, "/signin/second")
		if b.cookie("__Host-gatehouse") != "" {
			t.Fatal("a session before the second factor")
		}
		return b.follow(v).says(t, 200, "Code from your authenticator app")
	}
	t.Run("a password alone leads to the code, and the code to the session", func(t *testing.T) {
		b := s.browser(t)
		v := first(t, b)
		s.forget(t) // the enrolment used this step's code
		v = b.submit(v, "/signin/second", url.Values{"code": {totp(t, key, time.Now())}}).leads(t, "/account")
		b.follow(v).says(t, 200, "Your account")
	})
	t.Run("a wrong code is 403, says so at the field, and the page can be used again", func(t *testing.T) {
		b := s.browser(t)
		v := b.submit(first(t, b), "/signin/second", url.Values{"code": {"000000"}}).says(t, 403, "The code is not right")
		field := find(v.doc, "input", "id", "code")
		if attr(field, "aria-invalid") != "true" || !strings.Contains(attr(field, "aria-describedby"), "error") || find(v.doc, "p", "id", "error") == nil {
			t.Error("the error is not tied to its field")
		}
		s.forget(t)
		b.submit(v, "/signin/second", url.Values{"code": {totp(t, key, time.Now())}}).leads(t, "/account")
	})
	t.Run("a recovery code stands in, once", func(t *testing.T) {
		for i, want := range []int{303, 403} {
			b := s.browser(t)
			v := b.submit(first(t, b), "/signin/second", url.Values{"code": {codes[0]}, "kind": {"recovery"}})
			if v.status != want {
				t.Fatalf("use %d: %d\n%s", i+1, v.status, v.body)
			}
		}
	})
	t.Run("without the cookie of the first factor there is no second", func(t *testing.T) {
		b := s.browser(t)
		v := first(t, b)
		other := s.browser(t)
		other.get("/signin/second").leads(t, "/signin?done=expired")
		form := fieldsOf(find(v.doc, "form", "action", "/signin/second"))
		form.Set("csrf", fieldsOf(find(other.get("/signin").doc, "form", "action", "/signin")).Get("csrf"))
		form.Set("code", totp(t, key, time.Now()))
		other.post("/signin/second", form).leads(t, "/signin?done=expired")
	})
	t.Run("who was deleted since the password starts again", func(t *testing.T) {
		s.forget(t)
		gone := s.create(t, identity.NewUser{Name: "gone", Password: secret(goodPassword)})
		b := s.browser(t)
		b.signIn("gone", goodPassword)
		enrol(t, b)
		other := s.browser(t)
		v := other.follow(other.signIn("gone", goodPassword).leads(t, "/signin/second"))
		if err := s.Delete(t.Context(), "root", gone.ID); err != nil {
			t.Fatal(err)
		}
		other.get("/signin/second").leads(t, "/signin?done=expired")
		other.submit(v, "/signin/second", url.Values{"code": {"123456"}}).leads(t, "/signin?done=expired")
		b.get("/account").leads(t, "/signin?to=")
	})
	t.Run("a step that asks to skip the first factor is refused", func(t *testing.T) {
		b := s.browser(t)
		v := first(t, b)
		form := fieldsOf(find(v.doc, "form", "action", "/signin/second"))
		form.Set("step", "up")
		form.Set("code", totp(t, key, time.Now()))
		b.post("/signin/second", form).leads(t, "/signin?done=expired")
		form.Set("step", "")
		b.post("/signin/second", form).says(t, 400)
	})
}

func TestStepUp(t *testing.T) {
	s := newSite(t, nil)
	s.alice(t)
	b := s.browser(t)
	b.signIn("alice", goodPassword)

	t.Run("a session that lacks nothing goes on", func(t *testing.T) {
		s.wait(b, "r1", pages.Waiting{ACR: []string{identity.ACRPassword}})
		b.get("/signin?request=r1").leads(t, "/continue?request=r1")
	})
	t.Run("who has nothing to prove more with is told where to set it up", func(t *testing.T) {
		s.wait(b, "r2", pages.Waiting{ACR: []string{identity.ACRTwo}})
		b.get("/signin?request=r2").says(t, 200, "One more step", "Orders asks for a stronger proof", "Set it up in your account")
	})
	t.Run("a class nobody knows is reached by nothing", func(t *testing.T) {
		s.wait(b, "r3", pages.Waiting{ACR: []string{"urn:gold"}})
		b.get("/signin?request=r3").says(t, 200, "You have nothing set up")
	})
	key, _ := enrol(t, b)
	t.Run("the code of the app raises the session, which gets another cookie", func(t *testing.T) {
		s.forget(t)
		before := b.cookie("__Host-gatehouse")
		v := b.get("/signin?request=r2").says(t, 200, "One more step")
		b.submit(v, "/signin/second", url.Values{"code": {totp(t, key, time.Now())}}).leads(t, "/continue?request=r2")
		if after := b.cookie("__Host-gatehouse"); after == before || after == "" {
			t.Error("the cookie did not change")
		}
		if _, _, err := s.Session(t.Context(), before); err == nil {
			t.Error("the cookie from before has the raised session")
		}
		b.get("/signin?request=r2").leads(t, "/continue?request=r2")
	})
	t.Run("a passkey is asked for where nothing less will do", func(t *testing.T) {
		s.wait(b, "r4", pages.Waiting{ACR: []string{identity.ACRPhishing}})
		v := b.get("/signin?request=r4").says(t, 200, "You have nothing set up")
		if find(v.doc, "input", "id", "code") != nil {
			t.Error("a code is offered that cannot reach it")
		}
	})
	t.Run("a request that wants a new sign-in gets the password asked for, and the same user", func(t *testing.T) {
		s.wait(b, "r5", pages.Waiting{Reauth: true})
		v := b.get("/signin?request=r5").says(t, 200, "Confirm that it is you", "Use another account")
		name := find(v.doc, "input", "id", "name")
		if attr(name, "value") != "alice" || !has(name, "readonly") {
			t.Error("the name is not alice's, or can be changed by accident")
		}
		b.submit(v, "/signin", url.Values{"password": {"wrong"}}).says(t, 403, "Confirm that it is you")
	})
}

func TestReset(t *testing.T) {
	s := newSite(t, nil)
	s.alice(t)
	s.run(t)
	b := s.browser(t)
	ask := func(name string) *view {
		return b.submit(b.get("/reset"), "/reset", url.Values{"name": {name}}).leads(t, "/reset?sent")
	}
	known := b.follow(ask("alice"))
	if unknown := b.follow(ask("nobody")); withoutToken(unknown.body) != withoutToken(known.body) {
		t.Error("the answer tells who exists")
	}
	known.says(t, 200, "If there is such an account, a mail is on its way.")
	link := s.mailed(t, "/reset?code=")
	if !strings.HasPrefix(link, origin+"/") {
		t.Fatalf("the link is %s", link)
	}
	link = strings.TrimPrefix(link, origin)
	session := s.browser(t)
	session.signIn("alice", goodPassword)

	b.signIn("alice", goodPassword)
	b.get(link).says(t, 200, "Choose a new password")
	v := b.get(link).says(t, 200)
	b.submit(v, "/reset/new", url.Values{"password": {"short"}}).says(t, 422, "This password is not good enough", "characters")
	v = b.submit(v, "/reset/new", url.Values{"password": {"a new long password of mine"}}).leads(t, "/signin?done=reset")
	b.follow(v).says(t, 200, "Your new password is set")
	session.get("/account").leads(t, "/signin") // ended
	if b.cookie("__Host-gatehouse") != "" {
		t.Error("the cookie of a session that has ended stays")
	}
	b.submit(b.get(link), "/reset/new", url.Values{"password": {"yet another long password"}}).says(t, 404, "used already or is too old", "01TESTDECISION")
	s.browser(t).signIn("alice", goodPassword).says(t, 403)
	s.browser(t).signIn("alice", "a new long password of mine").leads(t, "/account")
}

func TestVerify(t *testing.T) {
	s := newSite(t, nil)
	s.create(t, identity.NewUser{Name: "carol", Email: "carol@example.com", Password: secret(goodPassword)})
	s.run(t)
	b := s.browser(t)
	v := b.follow(b.signIn("carol", goodPassword)).says(t, 200, "not confirmed")
	b.follow(b.submit(v, "/account/verify", nil)).says(t, 200, "A mail is on its way")
	link := strings.TrimPrefix(s.mailed(t, "/verify?code="), origin)
	stranger := s.browser(t) // a phone, where nobody is signed in
	v = stranger.get(link).says(t, 200, "Confirm your e-mail address")
	b.get("/account").says(t, 200, "not confirmed") // looking at the link is not using it
	stranger.follow(stranger.submit(v, "/verify", nil)).says(t, 200, "Your e-mail address is confirmed")
	if v := b.get("/account").says(t, 200, "confirmed"); strings.Contains(text(v.doc), "not confirmed") {
		t.Error("still not confirmed")
	}
	stranger.submit(v, "/verify", nil).says(t, 404)
}

// enrol sets up an authenticator app in b, and returns its key and the recovery codes.
func enrol(t testing.TB, b *browser) (key []byte, codes []string) {
	t.Helper()
	v := b.get("/account/totp").says(t, 200, "Scan this")
	plain := text(find(v.doc, "p", "class", "secret"))
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ReplaceAll(plain, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	v = b.submit(v, "/account/totp", url.Values{"code": {totp(t, key, time.Now())}}).says(t, 200, "Your recovery codes")
	for n := range find(v.doc, "ul", "class", "codes").Descendants() {
		if n.Data == "li" {
			codes = append(codes, text(n))
		}
	}
	if len(codes) != 10 {
		t.Fatalf("%d recovery codes", len(codes))
	}
	return key, codes
}

// totp is RFC 6238, written a second time.
func totp(t testing.TB, key []byte, at time.Time) string {
	t.Helper()
	m := hmac.New(sha1.New, key)
	if err := binary.Write(m, binary.BigEndian, at.Unix()/30); err != nil {
		t.Fatal(err)
	}
	sum := m.Sum(nil)
	from := sum[19] & 15
	return fmt.Sprintf("%06d", (binary.BigEndian.Uint32(sum[from:])&0x7fffffff)%1_000_000)
}

package pages_test

import (
	"context"
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth/pages"
)

// TestChangesNeedARecentSignIn tries every form of the account with a sign-in that
// is eleven minutes old.
func TestChangesNeedARecentSignIn(t *testing.T) {
	s := newSite(t, nil)
	alice := s.alice(t)
	s.flow.owner, s.flow.grants = alice.ID, []pages.Grant{{ID: "g1"}}
	b := s.browser(t)
	b.signIn("alice", goodPassword)
	s.browser(t).signIn("alice", goodPassword)
	token := fieldsOf(find(b.get("/account").doc, "form", "action", "/account/signout")).Get("csrf")
	s.age(t, 11*time.Minute)
	before := s.changes(t)

	forms := map[string]url.Values{
		"/account/password":            {"password": {"another long password here"}},
		"/account/passkeys":            {"state": {"x"}, "response": {"{}"}},
		"/account/passkeys/remove":     {"id": {"key_x"}},
		"/account/totp":                {"code": {"123456"}, "enrolment": {"x"}},
		"/account/totp/remove":         {},
		"/account/recovery":            {},
		"/account/sessions/end":        {"id": {"ses_x"}},
		"/account/sessions/end-others": {},
		"/account/apps/revoke":         {"id": {"g1"}},
		"/account/keys":                {"note": {"x"}, "life": {"30"}},
		"/account/keys/rotate":         {"id": {"x"}, "overlap": {"now"}},
		"/account/keys/revoke":         {"id": {"x"}},
	}
	free := []string{"/account/signout", "/account/verify", "/account/passkeys/options"} // the last one is looked at below
	for _, path := range s.posts() {
		form, ok := forms[path]
		if !ok {
			if strings.HasPrefix(path, "/account/") && !slices.Contains(free, path) {
				t.Errorf("%s is not tried", path)
			}
			continue
		}
		form.Set("csrf", token)
		v := b.post(path, form).leads(t, "/signin?to=")
		b.get(v.to()).says(t, 200, "Confirm that it is you")
	}
	if v := b.post("/account/passkeys/options", url.Values{"csrf": {token}}); !strings.Contains(v.body, `"location":"/signin?to=`) || strings.Contains(v.body, "challenge") {
		t.Errorf("a passkey can be added: %s", v.body)
	}
	for _, path := range []string{"/account/totp", "/account/password"} {
		b.get(path).leads(t, "/signin?to=")
	}
	if len(s.flow.revoked) > 0 || len(s.changes(t)) != len(before) {
		t.Error("something was changed")
	}
	t.Run("who proves again who it is comes back, and can", func(t *testing.T) {
		v := b.get(b.get("/account/password").to()).says(t, 200, "You are about to do something that needs a recent sign-in.")
		v = b.submit(v, "/signin", url.Values{"password": {goodPassword}}).leads(t, "/account/password")
		b.follow(v).says(t, 200, "Change your password")
	})
	t.Run("another user's password does not refresh the session", func(t *testing.T) {
		s.create(t, identity.NewUser{Name: "mallory", Password: secret(goodPassword)})
		s.age(t, 11*time.Minute)
		v := b.get(b.get("/account/password").to())
		b.follow(b.submit(v, "/signin", url.Values{"name": {"mallory"}, "password": {goodPassword}}))
		if _, u, err := s.Session(t.Context(), b.cookie("__Host-gatehouse")); err != nil || u.Name != "mallory" {
			t.Errorf("the session is %v's, %v", u, err)
		}
	})
}

func (s *site) changes(t testing.TB) []string {
	t.Helper()
	all, err := s.log.All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var actions []string
	for _, c := range all {
		actions = append(actions, c.Action)
	}
	return actions
}

func TestChangeOfPassword(t *testing.T) {
	s := newSite(t, nil)
	s.alice(t)
	b, other := s.browser(t), s.browser(t)
	b.signIn("alice", goodPassword)
	other.signIn("alice", goodPassword)
	v := b.submit(b.get("/account/password"), "/account/password", url.Values{"password": {"alice"}}).says(t, 422, "This password is not good enough.")
	if field := find(v.doc, "input", "id", "password"); attr(field, "aria-invalid") != "true" || !strings.Contains(attr(field, "aria-describedby"), "password-error") || attr(field, "autocomplete") != "new-password" || attr(field, "value") != "" {
		t.Errorf("the field is %v", field.Attr)
	}
	v = b.submit(v, "/account/password", url.Values{"password": {"another long password here"}}).leads(t, "/signin?done=password")
	b.follow(v).says(t, 200, "Your password is changed")
	other.get("/account").leads(t, "/signin")
	other.signIn("alice", goodPassword).says(t, 403)
	other.signIn("alice", "another long password here").leads(t, "/account")
}

func TestSecurityPage(t *testing.T) {
	s := newSite(t, nil)
	s.alice(t)
	b, other := s.browser(t), s.browser(t)
	b.signIn("alice", goodPassword)
	other.signIn("alice", goodPassword)

	t.Run("a mistyped code shows the same secret again", func(t *testing.T) {
		v := b.get("/account/totp")
		was := text(find(v.doc, "p", "class", "secret"))
		v = b.submit(v, "/account/totp", url.Values{"code": {"000000"}}).says(t, 422, "The code is not right.")
		if got := text(find(v.doc, "p", "class", "secret")); got != was || was == "" {
			t.Errorf("%q became %q", was, got)
		}
	})
	before := b.cookie("__Host-gatehouse")
	_, codes := enrol(t, b)
	t.Run("a new factor ends the other sessions and changes this one's cookie", func(t *testing.T) {
		other.get("/account").leads(t, "/signin")
		if b.cookie("__Host-gatehouse") == before {
			t.Error("the cookie is as before")
		}
		b.get("/account/security").says(t, 200, "10 recovery codes are left")
	})
	t.Run("new recovery codes are shown once, and end the old", func(t *testing.T) {
		v := b.submit(b.get("/account/security"), "/account/recovery", nil).says(t, 200, "The codes you had before count no more.")
		if strings.Contains(v.body, codes[0]) || len(v.header.Values("Set-Cookie")) == 0 {
			t.Error("the old codes are shown, or the cookie stays")
		}
	})
	t.Run("the secret of an enrolment that was not confirmed by this user is refused", func(t *testing.T) {
		s.create(t, identity.NewUser{Name: "bob", Password: secret(goodPassword)})
		bob := s.browser(t)
		bob.signIn("bob", goodPassword)
		v := b.get("/account/totp")
		form := fieldsOf(find(v.doc, "form", "action", "/account/totp"))
		form.Set("csrf", fieldsOf(find(bob.get("/account").doc, "form", "action", "/account/signout")).Get("csrf"))
		form.Set("code", "123456")
		bob.post("/account/totp", form).says(t, 422)
	})
	t.Run("the app can be removed", func(t *testing.T) {
		b.follow(b.submit(b.get("/account/security"), "/account/totp/remove", nil)).says(t, 200, "The authenticator app is removed.", "Set up an authenticator app")
	})
	t.Run("a passkey that is none is not added", func(t *testing.T) {
		b.submit(b.get("/account/security"), "/account/passkeys", url.Values{"state": {"x"}, "response": {`{"id":"x"}`}}).says(t, 422, "The passkey was not added.")
	})
	t.Run("and does not sign in", func(t *testing.T) {
		other := s.browser(t)
		other.submit(other.get("/signin"), "/signin/passkey", url.Values{"state": {"x"}, "response": {`{"id":"x"}`}}).says(t, 403, "The passkey was not accepted.")
	})
}

func TestSessionsPage(t *testing.T) {
	s := newSite(t, nil)
	s.alice(t)
	s.create(t, identity.NewUser{Name: "bob", Password: secret(goodPassword)})
	b, phone, bob := s.browser(t), s.browser(t), s.browser(t)
	phone.header.Set("User-Agent", "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.0 Mobile/15E148 Safari/604.1")
	b.signIn("alice", goodPassword)
	phone.signIn("alice", goodPassword)
	bob.signIn("bob", goodPassword)
	bobs, _, err := s.Session(t.Context(), bob.cookie("__Host-gatehouse"))
	if err != nil {
		t.Fatal(err)
	}
	v := b.get("/account/sessions").says(t, 200, "Safari on iPhone", "Firefox on Linux", "127.0.0.1")
	if strings.Contains(v.body, bobs.ID) {
		t.Fatal("bob's session is shown to alice")
	}
	t.Run("the id of another user's session ends nothing", func(t *testing.T) {
		b.submit(v, "/account/sessions/end", url.Values{"id": {bobs.ID}}).leads(t, "/account/sessions")
		bob.get("/account").says(t, 200)
	})
	t.Run("one is ended, the others go on", func(t *testing.T) {
		on, _, err := s.Session(t.Context(), phone.cookie("__Host-gatehouse"))
		if err != nil {
			t.Fatal(err)
		}
		b.submit(v, "/account/sessions/end", url.Values{"id": {on.ID}}).leads(t, "/account/sessions?done=ended")
		phone.get("/account").leads(t, "/signin")
		b.get("/account").says(t, 200)
	})
	t.Run("all others are ended", func(t *testing.T) {
		phone.signIn("alice", goodPassword)
		b.submit(b.get("/account/sessions"), "/account/sessions/end-others", nil).leads(t, "/account/sessions?done=others")
		phone.get("/account").leads(t, "/signin")
		b.get("/account").says(t, 200)
		bob.get("/account").says(t, 200)
	})
}

func TestAppsPage(t *testing.T) {
	s := newSite(t, nil)
	alice := s.alice(t)
	s.flow.owner, s.flow.grants = alice.ID, []pages.Grant{{ID: "g1", Client: pages.Client{Name: "Orders"}, Scopes: []pages.Item{{Name: "x", Text: "See your orders"}}}}
	s.create(t, identity.NewUser{Name: "bob", Password: secret(goodPassword)})
	b, bob := s.browser(t), s.browser(t)
	b.signIn("alice", goodPassword)
	bob.signIn("bob", goodPassword)
	bob.get("/account/apps").says(t, 200, "No app has access")
	token := fieldsOf(find(bob.get("/account").doc, "form", "action", "/account/signout")).Get("csrf")
	bob.post("/account/apps/revoke", url.Values{"csrf": {token}, "id": {"g1"}}).says(t, 404)
	if len(s.flow.revoked) != 0 {
		t.Fatal("bob took back what alice granted")
	}
	v := b.get("/account/apps").says(t, 200, "Orders", "See your orders")
	b.follow(b.submit(v, "/account/apps/revoke", nil)).says(t, 200, "Its access is taken back.", "No app has access")
}

func TestKeysPage(t *testing.T) {
	s := newSite(t, nil)
	alice := s.alice(t)
	bob := s.create(t, identity.NewUser{Name: "bob", Roles: []string{"root"}, Password: secret(goodPassword)})
	_, bobs, err := s.keys.Create(t.Context(), bob.ID, authn.NewKey{Owner: bob.ID, Roles: []string{"root"}, Note: "of bob"})
	if err != nil {
		t.Fatal(err)
	}
	b := s.browser(t)
	b.signIn("alice", goodPassword)
	v := b.get("/account/keys").says(t, 200, "editor", "viewer", "orders:read")
	if strings.Contains(v.body, bobs.ID) {
		t.Fatal("bob's key is shown to alice")
	}
	made := b.submit(v, "/account/keys", url.Values{"note": {"Nightly report"}, "roles[]": {"viewer"}, "scopes[]": {"orders:read"}}).says(t, 200, "It is shown only now.", "Nightly report")
	plain := text(find(made.doc, "p", "class", "secret"))
	if !authn.WellFormedKey(plain) {
		t.Fatalf("the key is %q", plain)
	}
	list := func() []authn.Key {
		all, err := s.keys.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(all, func(k authn.Key) bool { return k.Owner != alice.ID })
	}
	key := list()[0]
	if key.CreatedBy != alice.ID || !slices.Equal(key.Roles, []string{"viewer"}) || !slices.Equal(key.Scopes, []string{"orders:read"}) || key.Expires.IsZero() {
		t.Errorf("%+v", key)
	}
	if strings.Contains(b.get("/account/keys").body, plain) {
		t.Error("the key is shown twice")
	}
	token := fieldsOf(find(v.doc, "form", "action", "/account/keys")).Get("csrf")
	refused := []struct {
		name, path string
		form       url.Values
		want       int
	}{
		{"a role that the maker does not have is refused", "/account/keys", url.Values{"note": {"x"}, "life": {"30"}, "roles[]": {"viewer", "root"}}, 403},
		{"a role twice is refused", "/account/keys", url.Values{"note": {"x"}, "life": {"30"}, "roles[]": {"viewer", "viewer"}}, 403},
		{"a scope that is not offered is refused", "/account/keys", url.Values{"note": {"x"}, "life": {"30"}, "scopes[]": {"admin"}}, 403},
		{"an empty role is refused", "/account/keys", url.Values{"note": {"x"}, "life": {"30"}, "roles[]": {""}}, 403},
		{"a life that is not offered is refused", "/account/keys", url.Values{"note": {"x"}, "life": {"100000"}}, 400},
		{"no life is refused", "/account/keys", url.Values{"note": {"x"}}, 400},
		{"a key nobody knows the purpose of is refused", "/account/keys", url.Values{"note": {"  "}, "life": {"30"}}, 422},
		{"another owner cannot be named", "/account/keys", url.Values{"note": {"x"}, "life": {"30"}, "owner": {bob.ID}}, 400},
		{"another's key is not revoked", "/account/keys/revoke", url.Values{"id": {bobs.ID}}, 404},
		{"another's key is not rotated", "/account/keys/rotate", url.Values{"id": {bobs.ID}, "overlap": {"now"}}, 404},
		{"an overlap that is not offered is refused", "/account/keys/rotate", url.Values{"id": {key.ID}, "overlap": {"999h"}}, 400},
	}
	for _, tt := range refused {
		t.Run(tt.name, func(t *testing.T) {
			tt.form.Set("csrf", token)
			b.post(tt.path, tt.form).says(t, tt.want)
			if n := len(list()); n != 1 {
				t.Errorf("alice has %d keys", n)
			}
		})
	}
	t.Run("a key is replaced, and both live for a while", func(t *testing.T) {
		v := b.submit(b.get("/account/keys"), "/account/keys/rotate", nil).says(t, 200, "Your new API key")
		if next := text(find(v.doc, "p", "class", "secret")); next == plain || !authn.WellFormedKey(next) {
			t.Errorf("the new key is %q", next)
		}
		b.submit(b.get("/account/keys"), "/account/keys/rotate", nil).says(t, 409, "Revoke the old one first.")
	})
	t.Run("a role that was lost is not carried on", func(t *testing.T) {
		if err := s.keys.Revoke(t.Context(), "root", key.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Update(t.Context(), "root", alice.ID, 0, func(u *identity.User) error { u.Roles = []string{"editor"}; return nil }); err != nil {
			t.Fatal(err)
		}
		b.submit(b.get("/account/keys"), "/account/keys/rotate", nil).says(t, 409, "a role that you no longer have")
	})
	t.Run("a key is revoked", func(t *testing.T) {
		v := b.submit(b.get("/account/keys"), "/account/keys/revoke", nil).leads(t, "/account/keys?done=revoked")
		b.follow(v).says(t, 200, "The key is revoked.")
		for _, k := range list() {
			if k.Live(time.Now()) {
				t.Errorf("%s lives", k.ID)
			}
		}
	})
	t.Run("without keys there is no page of them", func(t *testing.T) {
		none := newSite(t, func(c *pages.Config) { c.Keys = nil })
		none.alice(t)
		b := none.browser(t)
		if v := b.follow(b.signIn("alice", goodPassword)).says(t, 200); strings.Contains(v.body, "/account/keys") {
			t.Error("a link to it")
		}
		if v := b.get("/account/keys"); v.status != 404 {
			t.Errorf("status %d", v.status)
		}
	})
}

// office is a directory in which nobody is found.
func office(name string) pages.Upstream {
	return pages.Upstream{Name: name, Check: func(context.Context, string, gatehouse.Secret, netip.Addr) (*identity.External, error) {
		return nil, identity.ErrCredentials
	}}
}

func TestUpstreams(t *testing.T) {
	var s *site
	asked, down := 0, false
	partner := pages.Upstream{
		Name: "partner", Title: "Partner",
		Begin: func(_ context.Context, a pages.Ask) (string, string, error) {
			return "https://idp.example.org/authorize?then=" + url.QueryEscape(a.Then), "state|" + a.Then, nil
		},
		Finish: func(_ context.Context, q url.Values, cookie string) (*identity.External, string, error) {
			then, ok := strings.CutPrefix(cookie, "state|")
			if !ok || q.Get("code") != "good" {
				return nil, "", errors.New("the answer is not for this browser")
			}
			return &identity.External{Source: "partner", Subject: "s1", Name: "pat", Create: true}, then, nil
		},
	}
	office := pages.Upstream{Name: "office", Check: func(_ context.Context, login string, password gatehouse.Secret, _ netip.Addr) (*identity.External, error) {
		asked++
		switch {
		case down:
			return nil, errors.New("connection refused")
		case login == "olga" && password.Reveal() == "office password":
			return &identity.External{Source: "office", Subject: "cn=olga", Name: "olga", Create: true}, nil
		}
		return nil, identity.ErrCredentials
	}}
	s = newSite(t, func(c *pages.Config) { c.Upstreams = []pages.Upstream{partner, office} })
	s.alice(t)

	t.Run("who is sent elsewhere comes back signed in, to what waited", func(t *testing.T) {
		b := s.browser(t)
		s.wait(b, "r1", pages.Waiting{})
		v := b.get("/signin?request=r1").says(t, 200, "Continue with Partner")
		if strings.Contains(v.body, "upstream/office") {
			t.Error("a button for what has no page")
		}
		b.get("/signin/upstream/partner?request=r1").leads(t, "https://idp.example.org/authorize")
		b.get("/signin/upstream/partner/callback?code=good").leads(t, "/continue?request=r1")
		b.get("/account").says(t, 200, "pat")
	})
	t.Run("an answer that this browser did not ask for signs nobody in", func(t *testing.T) {
		b := s.browser(t)
		b.get("/signin/upstream/partner/callback?code=good").says(t, 403, "did not succeed")
		b.get("/signin/upstream/partner")
		b.get("/signin/upstream/partner/callback?code=bad").says(t, 403, "did not succeed")
		b.get("/signin/upstream/partner/callback?code=good").says(t, 403) // the state is used up
		if b.cookie("__Host-gatehouse") != "" {
			t.Error("signed in")
		}
		b.get("/signin/upstream/other").says(t, 404)
		b.get("/signin/upstream/office").says(t, 404)
	})
	t.Run("a directory's people sign in by our form, as often as they like", func(t *testing.T) {
		for range 8 {
			s.browser(t).signIn("olga", "office password").leads(t, "/account")
		}
	})
	t.Run("a local user is not made known to the directory by signing in", func(t *testing.T) {
		asked = 0
		s.browser(t).signIn("alice", goodPassword).leads(t, "/account")
		if asked != 0 {
			t.Error("the directory was asked about alice")
		}
	})
	t.Run("who is refused was refused by all, known or not", func(t *testing.T) {
		for _, name := range []string{"alice", "olga", "nobody"} {
			s.exec(t, `DELETE FROM throttles`)
			asked = 0
			s.browser(t).signIn(name, "wrong").says(t, 403, "The name or the password is not right.")
			var counted int
			if err := s.read(t, `SELECT COUNT(*) FROM throttles WHERE kind = 'account'`, &counted); err != nil {
				t.Fatal(err)
			}
			if asked != 1 || counted != 1 {
				t.Errorf("%s: the directory was asked %d times, %d accounts counted here", name, asked, counted)
			}
		}
	})
	t.Run("a directory that is down keeps nobody of ours out, and lets nobody in", func(t *testing.T) {
		down = true
		s.browser(t).signIn("alice", goodPassword).leads(t, "/account")
		for _, name := range []string{"alice", "olga", "nobody"} {
			s.browser(t).signIn(name, "wrong").says(t, 503)
		}
	})
}

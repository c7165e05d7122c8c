package identity_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
)

// outside is somebody of an upstream that makes accounts and has verified addresses.
func outside(set func(*identity.External)) *identity.External {
	e := &identity.External{
		Source: "corp", Subject: "00u1", Name: "Alice", Email: "alice@example.com", EmailVerified: true,
		Claims: map[string]any{"name": "Alice Liddell"}, Roles: []string{"reader"}, Create: true,
	}
	if set != nil {
		set(e)
	}
	return e
}

func (h *house) link(t testing.TB, e *identity.External) *identity.User {
	t.Helper()
	u, err := h.Link(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestWhoSignsInElsewhere(t *testing.T) {
	t.Run("gets an account without password, the same one each time", func(t *testing.T) {
		h := newHouse(t, nil)
		u := h.link(t, outside(nil))
		if u.Name != "alice" || u.Email != "alice@example.com" || u.EmailVerified.IsZero() || u.Source != "corp" || u.HasPassword || !u.Active ||
			!slices.Equal(u.Effective, []string{"reader"}) || u.Claims["name"] != "Alice Liddell" {
			t.Errorf("got %+v", u)
		}
		if again := h.link(t, outside(nil)); again.ID != u.ID || again.Version != u.Version {
			t.Errorf("got %+v", again)
		}
		if c := h.changes(t); len(c) != 1 || c[0].Action != "users.create" || c[0].Actor != "upstream corp" || c[0].Object != u.ID {
			t.Errorf("changes %+v", c)
		}
		if _, err := h.Password(t.Context(), "alice", gatehouse.NewSecret(""), netip.Addr{}); !errors.Is(err, identity.ErrCredentials) {
			t.Errorf("an empty password: %v", err)
		}
		if err := h.SetPassword(t.Context(), "root", u.ID, gatehouse.NewSecret(goodPassword)); err == nil {
			t.Error("a password beside the upstream is taken")
		}
	})
	t.Run("is refused when the config makes no accounts", func(t *testing.T) {
		h := newHouse(t, nil)
		_, err := h.Link(t.Context(), outside(func(e *identity.External) { e.Create = false }))
		wantErr(t, err, identity.ErrCredentials)
		if c := h.changes(t); len(c) != 0 {
			t.Errorf("changes %+v", c)
		}
	})
	t.Run("is somebody else under another subject or at another upstream", func(t *testing.T) {
		h := newHouse(t, nil)
		u := h.link(t, outside(nil))
		for _, set := range []func(*identity.External){
			func(e *identity.External) { e.Subject = "00u2" },
			func(e *identity.External) { e.Subject = "00U1" },
			func(e *identity.External) { e.Source = "other" },
		} {
			other := h.link(t, outside(func(e *identity.External) { set(e); e.Email = "" }))
			if other.ID == u.ID || other.Name == u.Name {
				t.Errorf("got %+v", other)
			}
		}
	})
	t.Run("does not get an address as a name that the upstream has not verified", func(t *testing.T) {
		h := newHouse(t, nil)
		u := h.link(t, outside(func(e *identity.External) { e.Name, e.EmailVerified = "victim@example.com", false }))
		if u.Name == "victim@example.com" || u.Email != "" {
			t.Errorf("got %+v", u)
		}
		if u = h.link(t, outside(func(e *identity.External) { e.Name, e.Subject = "alice@example.com", "00u2" })); u.Name != "alice@example.com" {
			t.Errorf("got %+v", u)
		}
	})
	t.Run("stays out while locked here", func(t *testing.T) {
		h := newHouse(t, nil)
		u := h.link(t, outside(nil))
		if err := h.Lock(t.Context(), "root", u.ID, "left"); err != nil {
			t.Fatal(err)
		}
		_, err := h.Link(t.Context(), outside(func(e *identity.External) { e.Roles = []string{"reader", "operator"}; e.LinkEmail = true }))
		wantErr(t, err, identity.ErrCredentials)
		if u, err := h.User(t.Context(), u.ID); err != nil || u.Active || !slices.Equal(u.Roles, []string{"reader"}) {
			t.Errorf("got %+v, %v", u, err)
		}
	})
	t.Run("gets a new account after the old one was deleted", func(t *testing.T) {
		h := newHouse(t, nil)
		u := h.link(t, outside(nil))
		if err := h.Delete(t.Context(), "root", u.ID); err != nil {
			t.Fatal(err)
		}
		if again := h.link(t, outside(nil)); again.ID == u.ID {
			t.Error("the id is used again")
		}
	})
}

func TestRolesFromUpstream(t *testing.T) {
	h := newHouse(t, nil)
	u := h.link(t, outside(nil))
	if _, err := h.Update(t.Context(), "root", u.ID, 0, func(u *identity.User) error { u.Roles = append(u.Roles, "local"); return nil }); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name        string
		given, want []string
	}{
		{"one more is added, and what was given here stays", []string{"operator", "reader"}, []string{"local", "operator", "reader"}},
		{"what is given no more is taken back", []string{"operator"}, []string{"local", "operator"}},
		{"with none left there are those given here", nil, []string{"local"}},
		{"and back again", []string{"reader"}, []string{"local", "reader"}},
	} {
		if u = h.link(t, outside(func(e *identity.External) { e.Roles = step.given })); !slices.Equal(u.Roles, step.want) {
			t.Fatalf("%s: got %q", step.name, u.Roles)
		}
	}
	if _, err := h.Link(t.Context(), outside(func(e *identity.External) { e.Roles = []string{"two words"} })); err == nil {
		t.Error("a role of two words is taken")
	}
}

func TestAddressesOfUpstreams(t *testing.T) {
	linking := func(e *identity.External) { e.LinkEmail = true }
	t.Run("an address leads to a local account when both sides have verified it and the config says so", func(t *testing.T) {
		h := newHouse(t, nil)
		alice := h.alice(t)
		u := h.link(t, outside(linking))
		if u.ID != alice.ID || u.Source != "" || !u.HasPassword || !slices.Equal(u.Roles, []string{"editor", "reader"}) || u.Claims["name"] != nil {
			t.Errorf("got %+v", u)
		}
		if c := h.changes(t); c[len(c)-1].Action != "users.link" || c[len(c)-1].Object != alice.ID || c[len(c)-1].Detail["source"] != "corp" {
			t.Errorf("changes %+v", c)
		}
		if again := h.link(t, outside(nil)); again.ID != alice.ID || again.Claims["name"] != nil { // linked for good
			t.Errorf("got %+v", again)
		}
		_, err := h.Link(t.Context(), outside(func(e *identity.External) { linking(e); e.Subject = "00u2" }))
		wantErr(t, err, identity.ErrTaken) // somebody new, who was given a departed one's address
	})
	for name, tt := range map[string]struct {
		local func(*testing.T, *house) *identity.User
		set   func(*identity.External)
		want  error // nil: another account is made
	}{
		"not without the config's word":             {set: func(*identity.External) {}, want: identity.ErrTaken},
		"not when the upstream has not verified it": {set: func(e *identity.External) { linking(e); e.EmailVerified = false }},
		"not when we have not verified it": {set: linking, want: identity.ErrTaken, local: func(t *testing.T, h *house) *identity.User {
			return h.create(t, identity.NewUser{Name: "mallory", Email: "alice@example.com", Password: gatehouse.NewSecret(goodPassword)})
		}},
		"not when another upstream has vouched for it": {set: linking, want: identity.ErrTaken, local: func(t *testing.T, h *house) *identity.User {
			return h.link(t, outside(func(e *identity.External) { e.Source = "careless" }))
		}},
		"not when the account is locked": {set: linking, want: identity.ErrCredentials, local: func(t *testing.T, h *house) *identity.User {
			return h.create(t, identity.NewUser{Name: "alice", Email: "alice@example.com", EmailVerified: true, Inactive: true})
		}},
		"not by another address":             {set: func(e *identity.External) { linking(e); e.Email = "alice@example.org" }},
		"not by none":                        {set: func(e *identity.External) { linking(e); e.Email = "" }},
		"not by a name that is the address":  {set: func(e *identity.External) { linking(e); e.Email, e.Name = "", "alice@example.com" }},
		"not by letters that look like it":   {set: func(e *identity.External) { linking(e); e.Email = "аlice@example.com" }},
		"not by an address inside a display": {set: func(e *identity.External) { linking(e); e.Email = `"Alice" <alice@example.com>` }},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, nil)
			if tt.local == nil {
				tt.local = func(t *testing.T, h *house) *identity.User { return h.alice(t) }
			}
			alice := tt.local(t, h)
			u, err := h.Link(t.Context(), outside(tt.set))
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %+v, %v", u, err)
			}
			if err == nil && (u.ID == alice.ID || u.Name == alice.Name || u.Email == alice.Email) {
				t.Errorf("got %+v", u)
			}
		})
	}
	t.Run("a new verified address is taken over, one that is another's is not", func(t *testing.T) {
		h := newHouse(t, nil)
		bob := h.create(t, identity.NewUser{Name: "bob", Email: "bob@example.com", EmailVerified: true})
		h.link(t, outside(nil))
		for _, tt := range []struct{ email, want string }{
			{"a.liddell@example.com", "a.liddell@example.com"},
			{bob.Email, "a.liddell@example.com"},
			{"bob", "a.liddell@example.com"},
		} {
			if u := h.link(t, outside(func(e *identity.External) { e.Email = tt.email })); u.Email != tt.want || u.EmailVerified.IsZero() {
				t.Errorf("%s: got %+v", tt.email, u)
			}
		}
	})
}

func TestWhatLinkRefuses(t *testing.T) {
	h := newHouse(t, nil)
	for name, e := range map[string]*identity.External{
		"nobody":                         nil,
		"no source":                      outside(func(e *identity.External) { e.Source = "" }),
		"no subject":                     outside(func(e *identity.External) { e.Subject = "" }),
		"a subject without an end":       outside(func(e *identity.External) { e.Subject = string(make([]byte, 600)) }),
		"an acr that is none of ours":    outside(func(e *identity.External) { e.ACR = "gold" }),
		"a profile that claims to be us": outside(func(e *identity.External) { e.Claims = map[string]any{"iss": "x"} }),
	} {
		if u, err := h.Link(t.Context(), e); !errors.Is(err, identity.ErrInvalid) {
			t.Errorf("%s: got %+v, %v", name, u, err)
		}
	}
}

func TestLinksMadeByHand(t *testing.T) {
	h := newHouse(t, nil)
	alice := h.alice(t)
	who := outside(func(e *identity.External) { e.Create = false })
	_, err := h.Link(t.Context(), who)
	wantErr(t, err, identity.ErrCredentials)
	if err := h.AddLink(t.Context(), "root", alice.ID, "corp", "00u1"); err != nil {
		t.Fatal(err)
	}
	if u := h.link(t, who); u.ID != alice.ID || !slices.Equal(u.Roles, []string{"editor", "reader"}) {
		t.Errorf("got %+v", u)
	}
	bob := h.create(t, identity.NewUser{Name: "bob"})
	wantErr(t, h.AddLink(t.Context(), "root", bob.ID, "corp", "00u1"), identity.ErrTaken)
	wantErr(t, h.AddLink(t.Context(), "root", "usr_none", "corp", "00u2"), identity.ErrUnknown)
	wantErr(t, h.AddLink(t.Context(), "root", bob.ID, "corp", ""), identity.ErrInvalid)
	if links, err := h.Links(t.Context(), alice.ID); err != nil || len(links) != 1 || links[0].Subject != "00u1" {
		t.Errorf("got %+v, %v", links, err)
	}
	wantErr(t, h.RemoveLink(t.Context(), "root", bob.ID, "corp", "00u1"), identity.ErrUnknown)
	cookie, _ := start(t, h.Directory, byPassword(alice))
	if err := h.RemoveLink(t.Context(), "root", alice.ID, "corp", "00u1"); err != nil {
		t.Fatal(err)
	}
	_, err = h.Link(t.Context(), who)
	wantErr(t, err, identity.ErrCredentials)
	_, _, err = h.Session(t.Context(), cookie)
	wantErr(t, err, identity.ErrSession)
	if u, err := h.User(t.Context(), alice.ID); err != nil || !slices.Equal(u.Roles, []string{"editor"}) {
		t.Errorf("got %+v, %v", u, err)
	}
}

func TestManySignInsAtOnceMakeOneAccount(t *testing.T) {
	h := newHouse(t, nil)
	var all sync.WaitGroup
	ids := make([]string, 20)
	for i := range ids {
		all.Go(func() {
			u, err := h.Link(t.Context(), outside(nil))
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = u.ID
		})
	}
	all.Wait()
	if len(slices.Compact(ids)) != 1 {
		t.Errorf("accounts %q", ids)
	}
	if c := h.changes(t); len(c) != 1 {
		t.Errorf("changes %+v", c)
	}
}

func TestALinkThatCanNotBeLoggedIsNotMade(t *testing.T) {
	h := newHouse(t, func(c *identity.Config) { c.Log = fullLog{} })
	if _, err := h.Link(t.Context(), outside(nil)); err == nil {
		t.Fatal("linked")
	}
	if _, total, err := h.Users(t.Context(), identity.Query{}); err != nil || total != 0 {
		t.Errorf("%d users, %v", total, err)
	}
	if err := h.db.Close(); err != nil {
		t.Fatal(err)
	}
	if u, err := h.Link(t.Context(), outside(nil)); err == nil || errors.Is(err, identity.ErrCredentials) {
		t.Errorf("without a database: %+v, %v", u, err)
	}
}

func TestGuessesAtAnUpstreamAreCounted(t *testing.T) {
	h := newHouse(t, nil)
	from := func(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", i)) }
	guess := func(subject string, from netip.Addr, proven bool) error {
		done, err := h.Attempt(t.Context(), "ldap", subject, from)
		if err != nil {
			return err
		}
		return done(t.Context(), proven)
	}
	var alice, bob error
	for i := range 10 {
		if alice == nil {
			alice = guess("alice", from(i), false)
		}
		if bob == nil {
			bob = errors.Join(guess("bob", from(i), false), guess("bob", from(i), true))
		}
	}
	if !errors.Is(alice, identity.ErrThrottled) || bob != nil {
		t.Errorf("who only fails: %v, who succeeds in between: %v", alice, bob)
	}
	var stranger error
	for i := range 30 {
		if stranger == nil {
			stranger = guess(fmt.Sprint("name", i), from(100), false)
		}
	}
	if !errors.Is(stranger, identity.ErrThrottled) {
		t.Errorf("an address that tries many names: %v", stranger)
	}
	if err := h.db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := guess("carol", from(99), false); err == nil || errors.Is(err, identity.ErrThrottled) {
		t.Errorf("without a database: %v", err)
	}
}

package identity_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

func TestAUserIsFoundByEverySpelling(t *testing.T) {
	h := newHouse(t, nil)
	h.create(t, identity.NewUser{Name: "Ｚoë", Email: "Zoe@BÜCHER.example", Claims: map[string]any{"name": "Zoë"}})
	for _, c := range []struct {
		login string
		found bool
	}{
		{"zoë", true},
		{"ZOË", true},
		{"Zoe\u0308", true}, // decomposed
		{"Ｚoë", true},       // full width
		{"zoe", false},
		{"zoë ", false},
		{"", false},
		{"ZOE@bücher.example", true},
		{"zoe@xn--bcher-kva.example", true},
		{"zoe@example", false},
	} {
		_, err := h.FindUser(t.Context(), c.login)
		if c.found && err != nil {
			t.Errorf("%q: %v", c.login, err)
		}
		if !c.found && !errors.Is(err, identity.ErrUnknown) {
			t.Errorf("%q: got %v", c.login, err)
		}
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct {
		name     string
		as       string // the canonical one; "" when it is refused
		email    string
		address  string
		sentence string
	}{
		{"Alice", "alice", "Alice@Example.COM", "alice@example.com", "names and addresses are lower-case"},
		{"bob@Example.com", "bob@example.com", "bob@example.com", "bob@example.com", "a name may be the user's own address"},
		{"o'hara", "o'hara", "O'Hara+x@bücher.example", "o'hara+x@xn--bcher-kva.example", "domains are in ASCII"},
		{"山田太郎", "山田太郎", "", "", "a name may be in any one script"},
		{"やまだ太郎", "やまだ太郎", "", "", "Japanese is written in three"},
		{"аlice", "", "", "", "a Cyrillic а among Latin letters is refused"},
		{"al ice", "", "", "", "a name has no spaces"},
		{"alice\x00", "", "", "", "a name has no control characters"},
		{"alice\u202e", "", "", "", "a name does not turn the writing around"},
		{"alice\u200b", "", "", "", "a name has nothing invisible"},
		{"\xff", "", "", "", "a name is UTF-8"},
		{strings.Repeat("a", 129), "", "", "", "a name has an end"},
		{"carol", "", "carol", "", "an address has an @"},
		{"carol", "", "carol@localhost", "", "an address has a domain with a dot"},
		{"carol", "", "carol@example.com\r\nBcc: x@example.org", "", "an address is one line"},
		{"carol", "", "ca rol@example.com", "", "an address has no spaces"},
		{"carol", "", `"carol"@example.com`, "", "an address has no quotes"},
		{"carol", "", "carol@example.com@example.org", "", "an address has one @"},
		{"carol", "", "carol@[127.0.0.1]", "", "an address has a name for a domain"},
		{"carol", "", ".carol@example.com", "", "a local part does not begin with a dot"},
		{"carol", "", "gıthub@example.com", "", "a Turkish ı is not an i, and is refused"},
		{"carol", "", strings.Repeat("a", 65) + "@example.com", "", "a local part has an end"},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			h := newHouse(t, nil)
			u, err := h.Create(t.Context(), "root", identity.NewUser{Name: c.name, Email: c.email})
			if c.as == "" {
				wantErr(t, err, identity.ErrInvalid)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if u.Name != c.as || u.Email != c.address {
				t.Errorf("got %q and %q", u.Name, u.Email)
			}
			if found, err := h.FindUser(t.Context(), c.name); err != nil || found.ID != u.ID {
				t.Errorf("by name: %v, %v", found, err)
			}
			if c.email != "" {
				if found, err := h.FindUser(t.Context(), c.email); err != nil || found.ID != u.ID {
					t.Errorf("by address: %v, %v", found, err)
				}
			}
		})
	}
}

func TestNobodyTakesAnothersNameOrAddress(t *testing.T) {
	h := newHouse(t, nil)
	h.alice(t)
	bob := h.create(t, identity.NewUser{Name: "bob", Email: "bob@example.com"})
	for name, n := range map[string]identity.NewUser{
		"the same name in another spelling":    {Name: "ALICE"},
		"the same address in another spelling": {Name: "eve", Email: "Alice@EXAMPLE.com"},
		"another one's address as a name":      {Name: "alice@example.com"},
	} {
		_, err := h.Create(t.Context(), "root", n)
		if !errors.Is(err, identity.ErrTaken) {
			t.Errorf("%s: got %v", name, err)
		}
		_, err = h.Update(t.Context(), "root", bob.ID, 0, func(u *identity.User) error {
			u.Name = n.Name
			if n.Email != "" {
				u.Email = n.Email
			}
			return nil
		})
		if !errors.Is(err, identity.ErrTaken) {
			t.Errorf("%s, by update: got %v", name, err)
		}
	}
	if _, err := h.Update(t.Context(), "root", bob.ID, 0, func(u *identity.User) error { u.Name, u.Email = "robert", ""; return nil }); err != nil {
		t.Fatal(err)
	}
	h.create(t, identity.NewUser{Name: "bob", Email: "bob@example.com"}) // both are free again
}

func TestOneOfManyGetsTheName(t *testing.T) {
	h := newHouse(t, nil)
	var won atomic.Int64
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			_, err := h.Create(t.Context(), "root", identity.NewUser{Name: "alice", Email: "alice@example.com"})
			if err == nil {
				won.Add(1)
			} else if !errors.Is(err, identity.ErrTaken) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if won.Load() != 1 {
		t.Errorf("%d got it", won.Load())
	}
}

func TestWhatAUserMayNotHave(t *testing.T) {
	h := newHouse(t, nil)
	for sentence, n := range map[string]identity.NewUser{
		"a role of two words":         {Name: "eve", Roles: []string{"admin editor"}},
		"an empty role":               {Name: "eve", Roles: []string{""}},
		"a claim that says who it is": {Name: "eve", Claims: map[string]any{"sub": "usr_1"}},
		"a claim of roles":            {Name: "eve", Claims: map[string]any{"roles": []string{"admin"}}},
		"claims without end":          {Name: "eve", Claims: map[string]any{"name": strings.Repeat("x", 20_000)}},
		"claims that are no JSON":     {Name: "eve", Claims: map[string]any{"name": func() {}}},
		"a tenant of two lines":       {Name: "eve", Tenant: "a\nb"},
		"a password and an upstream":  {Name: "eve", Source: "google", Password: gatehouse.NewSecret(goodPassword)},
	} {
		if _, err := h.Create(t.Context(), "root", n); !errors.Is(err, identity.ErrInvalid) {
			t.Errorf("%s: got %v", sentence, err)
		}
	}
	_, err := h.Create(t.Context(), "root", identity.NewUser{Name: "eve", Groups: []string{"nobody made it"}})
	wantErr(t, err, identity.ErrUnknown)
	_, err = h.Create(t.Context(), "", identity.NewUser{Name: "eve"})
	wantErr(t, err, identity.ErrInvalid)
	if _, total, err := h.Users(t.Context(), identity.Query{}); err != nil || total != 0 {
		t.Errorf("%d users, %v", total, err)
	}
}

func TestUpdate(t *testing.T) {
	h := newHouse(t, nil)
	u := h.alice(t)
	changed, err := h.Update(t.Context(), "root", u.ID, u.Version, func(u *identity.User) error {
		u.ID, u.Effective, u.HasPassword = "usr_other", []string{"admin"}, false // which it must ignore
		u.Email = "alice@example.org"
		u.Claims = map[string]any{"name": "Alice", "address": map[string]any{"country": "AT"}}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if changed.ID != u.ID || changed.Version != u.Version+1 || !changed.HasPassword || slices.Contains(changed.Effective, "admin") {
		t.Errorf("got %+v", changed)
	}
	if !changed.EmailVerified.IsZero() {
		t.Error("a new address is verified by the old one")
	}
	if _, err := h.FindUser(t.Context(), "alice@example.com"); !errors.Is(err, identity.ErrUnknown) {
		t.Errorf("the old address still signs in: %v", err)
	}
	_, err = h.Update(t.Context(), "root", u.ID, u.Version, func(*identity.User) error { t.Error("called for another version"); return nil })
	wantErr(t, err, identity.ErrChanged)
	before := len(h.changes(t))
	same, err := h.Update(t.Context(), "root", u.ID, 0, func(*identity.User) error { return nil })
	if err != nil || same.Version != changed.Version || len(h.changes(t)) != before {
		t.Errorf("an update without a change is one: %+v, %v", same, err)
	}
	mine := errors.New("mine")
	_, err = h.Update(t.Context(), "root", u.ID, 0, func(u *identity.User) error { u.Name = "eve"; return mine })
	wantErr(t, err, mine)
	_, err = h.Update(t.Context(), "root", "usr_none", 0, func(*identity.User) error { return nil })
	wantErr(t, err, identity.ErrUnknown)
	if got, err := h.User(t.Context(), u.ID); err != nil || got.Name != "alice" {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestWhatEndsAUsersTokens: of a token issued before, and of the user's sessions
// (by ValidFrom, see the tests of sessions).
func TestWhatEndsAUsersTokens(t *testing.T) {
	for _, c := range []struct {
		sentence         string
		do               func(h *house, u *identity.User, g *identity.Group) error
		tokens, sessions bool
	}{
		{"a lock ends both", func(h *house, u *identity.User, _ *identity.Group) error {
			return h.Lock(context.Background(), "root", u.ID, "stolen laptop")
		}, true, true},
		{"making the user inactive ends both", func(h *house, u *identity.User, _ *identity.Group) error {
			_, err := h.Update(context.Background(), "root", u.ID, 0, func(u *identity.User) error { u.Active = false; return nil })
			return err
		}, true, true},
		{"a new password ends both", func(h *house, u *identity.User, _ *identity.Group) error {
			return h.SetPassword(context.Background(), u.ID, u.ID, gatehouse.NewSecret("another horse battery staple"))
		}, true, true},
		{"a role taken away ends tokens", func(h *house, u *identity.User, _ *identity.Group) error {
			_, err := h.Update(context.Background(), "root", u.ID, 0, func(u *identity.User) error { u.Roles = nil; return nil })
			return err
		}, true, false},
		{"a group left ends tokens", func(h *house, u *identity.User, _ *identity.Group) error {
			_, err := h.Update(context.Background(), "root", u.ID, 0, func(u *identity.User) error { u.Groups = nil; return nil })
			return err
		}, true, false},
		{"a member taken out ends tokens", func(h *house, _ *identity.User, g *identity.Group) error {
			_, err := h.UpdateGroup(context.Background(), "root", g.ID, 0, func(g *identity.Group) error { g.Members = nil; return nil })
			return err
		}, true, false},
		{"a group's role taken away ends tokens", func(h *house, _ *identity.User, g *identity.Group) error {
			_, err := h.UpdateGroup(context.Background(), "root", g.ID, 0, func(g *identity.Group) error { g.Roles = nil; return nil })
			return err
		}, true, false},
		{"a deleted group ends tokens", func(h *house, _ *identity.User, g *identity.Group) error {
			return h.DeleteGroup(context.Background(), "root", g.ID)
		}, true, false},
		{"another tenant ends tokens", func(h *house, u *identity.User, _ *identity.Group) error {
			_, err := h.Update(context.Background(), "root", u.ID, 0, func(u *identity.User) error { u.Tenant = "other"; return nil })
			return err
		}, true, false},
		{"one more role ends nothing", func(h *house, u *identity.User, _ *identity.Group) error {
			_, err := h.Update(context.Background(), "root", u.ID, 0, func(u *identity.User) error { u.Roles = append(u.Roles, "more"); return nil })
			return err
		}, false, false},
		{"a role taken away that a group gives too ends nothing", func(h *house, u *identity.User, g *identity.Group) error {
			_, err := h.UpdateGroup(context.Background(), "root", g.ID, 0, func(g *identity.Group) error { g.Roles = append(g.Roles, "editor"); return nil })
			if err != nil {
				return err
			}
			_, err = h.Update(context.Background(), "root", u.ID, 0, func(u *identity.User) error { u.Roles = nil; return nil })
			return err
		}, false, false},
		{"a new name of the group ends nothing", func(h *house, _ *identity.User, g *identity.Group) error {
			_, err := h.UpdateGroup(context.Background(), "root", g.ID, 0, func(g *identity.Group) error { g.Name = "writers"; return nil })
			return err
		}, false, false},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			h := newHouse(t, nil)
			u := h.alice(t)
			g, err := h.CreateGroup(t.Context(), "root", identity.NewGroup{Name: "authors", Roles: []string{"author"}, Members: []string{u.ID}})
			if err != nil {
				t.Fatal(err)
			}
			issued := &token.Claims{Subject: u.ID, IssuedAt: time.Now()}
			if err := c.do(h, u, g); err != nil {
				t.Fatal(err)
			}
			if got := h.Revoked(issued); got != c.tokens {
				t.Errorf("tokens dead: %v", got)
			}
			after, err := h.User(t.Context(), u.ID)
			if err != nil {
				t.Fatal(err)
			}
			if got := !after.ValidFrom.IsZero(); got != c.sessions {
				t.Errorf("sessions dead: %v", got)
			}
		})
	}
}

func TestALockedUserStaysOutUntilUnlocked(t *testing.T) {
	h := newHouse(t, nil)
	u := h.alice(t)
	if err := h.Lock(t.Context(), "root", u.ID, "stolen laptop"); err != nil {
		t.Fatal(err)
	}
	_, err := h.Password(t.Context(), "alice", gatehouse.NewSecret(goodPassword), home)
	wantErr(t, err, identity.ErrCredentials)
	if err := h.Unlock(t.Context(), "root", u.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Password(t.Context(), "alice", gatehouse.NewSecret(goodPassword), home); err != nil {
		t.Error(err)
	}
	if !h.Revoked(&token.Claims{Subject: u.ID, IssuedAt: time.Now().Add(-time.Second)}) {
		t.Error("what was issued before the lock lives again")
	}
	wantErr(t, h.Lock(t.Context(), "root", "usr_none", ""), identity.ErrUnknown)
	wantErr(t, h.Unlock(t.Context(), "root", "usr_none"), identity.ErrUnknown)
	wantErr(t, h.Lock(t.Context(), "root", u.ID, "two\nlines"), identity.ErrInvalid)
	var locks []auditlog.Change
	for _, c := range h.changes(t) {
		if c.Action == "users.lock" {
			locks = append(locks, c)
		}
	}
	if len(locks) != 1 || locks[0].Detail["why"] != "stolen laptop" || locks[0].Actor != "root" || locks[0].Object != u.ID {
		t.Errorf("logged %+v", locks)
	}
}

func TestADeletedUserIsGone(t *testing.T) {
	h := newHouse(t, nil)
	u := h.alice(t)
	if err := h.Delete(t.Context(), "root", u.ID); err != nil {
		t.Fatal(err)
	}
	_, err := h.User(t.Context(), u.ID)
	wantErr(t, err, identity.ErrUnknown)
	_, err = h.Password(t.Context(), "alice", gatehouse.NewSecret(goodPassword), home)
	wantErr(t, err, identity.ErrCredentials)
	wantErr(t, h.Delete(t.Context(), "root", u.ID), identity.ErrUnknown)
	again := h.alice(t)
	if again.ID == u.ID {
		t.Error("the id is used again")
	}
	later := h.open(t, nil)
	if !later.Revoked(&token.Claims{Subject: u.ID, IssuedAt: u.Created}) {
		t.Error("a token of the deleted user lives")
	}
	if later.Revoked(&token.Claims{Subject: again.ID, IssuedAt: time.Now()}) {
		t.Error("who has the name now is refused")
	}
}

func TestPagesOfUsers(t *testing.T) {
	h := newHouse(t, nil)
	var ids []string
	for i := range 7 {
		ids = append(ids, h.create(t, identity.NewUser{Name: fmt.Sprintf("user%d", i), Email: fmt.Sprintf("u_%d@example.com", i), ExternalID: fmt.Sprint("ext", i%2)}).ID)
	}
	if _, err := h.CreateGroup(t.Context(), "root", identity.NewGroup{Name: "A & B", Members: ids[:3]}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		sentence string
		q        identity.Query
		names    string
		total    int
	}{
		{"everybody", identity.Query{}, "user0 user1 user2 user3 user4 user5 user6", 7},
		{"the first page", identity.Query{Limit: 3}, "user0 user1 user2", 7},
		{"the next page by the last name", identity.Query{After: "user2", Limit: 3}, "user3 user4 user5", 7},
		{"the next page by number", identity.Query{Offset: 5, Limit: 3}, "user5 user6", 7},
		{"a part of the name in any case", identity.Query{Search: "SER3"}, "user3", 1},
		{"a part of the address, _ being one", identity.Query{Search: "u_4"}, "user4", 1},
		{"a percent sign is one", identity.Query{Search: "%"}, "", 0},
		{"one name in any case", identity.Query{Name: "USER5"}, "user5", 1},
		{"an impossible name", identity.Query{Name: "no such"}, "", 0},
		{"one address", identity.Query{Email: "U_6@example.com"}, "user6", 1},
		{"an impossible address", identity.Query{Email: "x"}, "", 0},
		{"an external id", identity.Query{ExternalID: "ext1"}, "user1 user3 user5", 3},
		{"a group", identity.Query{Group: "A & B"}, "user0 user1 user2", 3},
		{"a group and an external id", identity.Query{Group: "A & B", ExternalID: "ext0"}, "user0 user2", 2},
		{"a quote is no SQL", identity.Query{Group: "' OR '1'='1"}, "", 0},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			users, total, err := h.Users(t.Context(), c.q)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, u := range users {
				names = append(names, u.Name)
			}
			if got := strings.Join(names, " "); got != c.names || total != c.total {
				t.Errorf("got %q of %d", got, total)
			}
		})
	}
	_, _, err := h.Users(t.Context(), identity.Query{Offset: -1})
	wantErr(t, err, identity.ErrInvalid)
}

func TestGroups(t *testing.T) {
	h := newHouse(t, nil)
	u := h.alice(t)
	g, err := h.CreateGroup(t.Context(), "root", identity.NewGroup{Name: "Admins", Roles: []string{"b", "a", "a"}, Members: []string{u.ID, u.ID}, ExternalID: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(g.Roles, []string{"a", "b"}) || !slices.Equal(g.Members, []string{u.ID}) {
		t.Errorf("got %+v", g)
	}
	alice, err := h.User(t.Context(), u.ID)
	if err != nil || !slices.Equal(alice.Effective, []string{"a", "b", "editor"}) || !slices.Equal(alice.Groups, []string{"Admins"}) || alice.Version == u.Version {
		t.Errorf("got %+v, %v", alice, err)
	}
	_, err = h.CreateGroup(t.Context(), "root", identity.NewGroup{Name: "Admins"})
	wantErr(t, err, identity.ErrTaken)
	_, err = h.CreateGroup(t.Context(), "root", identity.NewGroup{Name: "More", Members: []string{"usr_none"}})
	wantErr(t, err, identity.ErrUnknown)
	for _, name := range []string{"", " a", "a\nb", strings.Repeat("a", 257)} {
		_, err = h.CreateGroup(t.Context(), "root", identity.NewGroup{Name: name})
		wantErr(t, err, identity.ErrInvalid)
	}
	_, err = h.UpdateGroup(t.Context(), "root", g.ID, g.Version+1, func(*identity.Group) error { return nil })
	wantErr(t, err, identity.ErrChanged)
	other, err := h.CreateGroup(t.Context(), "root", identity.NewGroup{Name: "Other"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.UpdateGroup(t.Context(), "root", other.ID, 0, func(g *identity.Group) error { g.Name = "Admins"; return nil })
	wantErr(t, err, identity.ErrTaken)
	changed, err := h.UpdateGroup(t.Context(), "root", g.ID, g.Version, func(g *identity.Group) error { g.Members = nil; return nil })
	if err != nil || len(changed.Members) != 0 || changed.Version != g.Version+1 {
		t.Errorf("got %+v, %v", changed, err)
	}
	last := h.changes(t)[len(h.changes(t))-1]
	if last.Action != "groups.update" || last.Detail["removed"] != u.ID || last.Detail["added"] != "" {
		t.Errorf("logged %+v", last)
	}
	found, total, err := h.Groups(t.Context(), identity.Query{Search: "ADM"})
	if err != nil || total != 1 || len(found) != 1 || found[0].ID != g.ID {
		t.Errorf("got %v of %d, %v", found, total, err)
	}
	if one, err := h.FindGroup(t.Context(), "Admins"); err != nil || one.ID != g.ID {
		t.Errorf("got %v, %v", one, err)
	}
	if err := h.DeleteGroup(t.Context(), "root", g.ID); err != nil {
		t.Fatal(err)
	}
	_, err = h.Group(t.Context(), g.ID)
	wantErr(t, err, identity.ErrUnknown)
	wantErr(t, h.DeleteGroup(t.Context(), "root", g.ID), identity.ErrUnknown)
}

// brokenLog can not keep anything.
type brokenLog struct{ *auditlog.Changes }

var errDiskFull = errors.New("disk full")

func (brokenLog) Append(context.Context, auditlog.Change) error { return errDiskFull }

func TestWhatCannotBeLoggedIsNotDone(t *testing.T) {
	h := newHouse(t, nil)
	u := h.alice(t)
	g, err := h.CreateGroup(t.Context(), "root", identity.NewGroup{Name: "g", Members: []string{u.ID}})
	if err != nil {
		t.Fatal(err)
	}
	broken := h.open(t, func(c *identity.Config) { c.Log = brokenLog{} })
	for name, do := range map[string]func() error{
		"create": func() error {
			_, err := broken.Create(t.Context(), "root", identity.NewUser{Name: "bob"})
			return err
		},
		"update": func() error {
			_, err := broken.Update(t.Context(), "root", u.ID, 0, func(u *identity.User) error { u.Roles = []string{"admin"}; return nil })
			return err
		},
		"lock":   func() error { return broken.Lock(t.Context(), "root", u.ID, "") },
		"unlock": func() error { return broken.Unlock(t.Context(), "root", u.ID) },
		"delete": func() error { return broken.Delete(t.Context(), "root", u.ID) },
		"password": func() error {
			return broken.SetPassword(t.Context(), "root", u.ID, gatehouse.NewSecret("another horse battery staple"))
		},
		"create group": func() error {
			_, err := broken.CreateGroup(t.Context(), "root", identity.NewGroup{Name: "h"})
			return err
		},
		"update group": func() error {
			_, err := broken.UpdateGroup(t.Context(), "root", g.ID, 0, func(g *identity.Group) error { g.Roles = []string{"admin"}; return nil })
			return err
		},
		"delete group": func() error { return broken.DeleteGroup(t.Context(), "root", g.ID) },
		"export hashes": func() error {
			return broken.Export(t.Context(), &bytes.Buffer{}, identity.ExportOptions{Hashes: true, Actor: "root"})
		},
	} {
		if err := do(); !errors.Is(err, errDiskFull) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	after, err := h.User(t.Context(), u.ID)
	if err != nil || !slices.Equal(after.Roles, u.Roles) || !after.Active || !after.ValidFrom.IsZero() {
		t.Errorf("got %+v, %v", after, err)
	}
	if _, total, err := h.Users(t.Context(), identity.Query{}); err != nil || total != 1 {
		t.Errorf("%d users, %v", total, err)
	}
	if h.Revoked(&token.Claims{Subject: u.ID, IssuedAt: time.Now().Add(-time.Minute)}) {
		t.Error("tokens are revoked")
	}
	if _, err := h.Password(t.Context(), "alice", gatehouse.NewSecret(goodPassword), home); err != nil {
		t.Errorf("the old password: %v", err)
	}
}

// FuzzLogin looks for a spelling that is not one: whatever can be a name is found
// again as itself, and two different names stay two.
func FuzzLogin(f *testing.F) {
	for _, s := range []string{"alice", "Alice", "Zoë", "a@b.example", "аlice", "ﬁ", "İ", "ǅ", "ß", "a\u0301", "٣", "x@xn--a.example", "K@x.example"} {
		f.Add(s)
	}
	h := newHouse(f, nil)
	f.Fuzz(func(t *testing.T, name string) {
		u, err := h.Create(t.Context(), "root", identity.NewUser{Name: name})
		switch {
		case errors.Is(err, identity.ErrInvalid):
			if _, err := h.FindUser(t.Context(), name); !errors.Is(err, identity.ErrUnknown) {
				t.Fatalf("%q can not be a name but is found: %v", name, err)
			}
			return
		case errors.Is(err, identity.ErrTaken):
			return
		case err != nil:
			t.Fatal(err)
		}
		for _, spelling := range []string{name, u.Name} {
			found, err := h.FindUser(t.Context(), spelling)
			if err != nil || found.ID != u.ID {
				t.Fatalf("%q is called %q and not found by %q: %v", name, u.Name, spelling, err)
			}
		}
		if strings.ContainsAny(u.Name, " \r\n\x00") {
			t.Fatalf("%q became %q", name, u.Name)
		}
	})
}

func BenchmarkUser(b *testing.B) {
	h := newHouse(b, nil)
	u := h.alice(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.User(b.Context(), u.ID); err != nil {
			b.Fatal(err)
		}
	}
}

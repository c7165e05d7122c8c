package identity_test

import (
	"database/sql"
	"fmt"
	"slices"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/identity"
)

func TestStandings(t *testing.T) {
	h := newHouse(t, nil)
	s, err := identity.OpenStandings(t.Context(), h.db)
	if err != nil {
		t.Fatal(err)
	}
	u := h.create(t, identity.NewUser{Name: "ann", Roles: []string{"support"}, Tenant: "t1"})
	other := h.create(t, identity.NewUser{Name: "ben"})
	var group *identity.Group
	update := func(f func(*identity.User)) error {
		_, err := h.Update(t.Context(), "tester", u.ID, 0, func(u *identity.User) error { f(u); return nil })
		return err
	}
	regroup := func(f func(*identity.Group)) error {
		_, err := h.UpdateGroup(t.Context(), "tester", group.ID, 0, func(g *identity.Group) error { f(g); return nil })
		return err
	}
	for _, c := range []struct {
		name   string
		do     func() error
		active bool
		roles  []string
		tenant string
	}{
		{"a group gives its roles", func() (err error) {
			group, err = h.CreateGroup(t.Context(), "tester", identity.NewGroup{Name: "staff", Roles: []string{"manager", "support"}, Members: []string{u.ID}})
			return err
		}, true, []string{"manager", "support"}, "t1"},
		{"a group that lost a role does not", func() error { return regroup(func(g *identity.Group) { g.Roles = []string{"boss"} }) }, true, []string{"boss", "support"}, "t1"},
		{"a direct role is lost", func() error { return update(func(u *identity.User) { u.Roles = nil }) }, true, []string{"boss"}, "t1"},
		{"who is no member has nothing of the group", func() error { return regroup(func(g *identity.Group) { g.Members = nil }) }, true, nil, "t1"},
		{"a member again", func() error { return update(func(u *identity.User) { u.Groups = []string{"staff"} }) }, true, []string{"boss"}, "t1"},
		{"a deleted group gives nothing", func() error { return h.DeleteGroup(t.Context(), "tester", group.ID) }, true, nil, "t1"},
		{"another tenant", func() error { return update(func(u *identity.User) { u.Tenant = "t2" }) }, true, nil, "t2"},
		{"a role given back", func() error { return update(func(u *identity.User) { u.Roles = []string{"support"} }) }, true, []string{"support"}, "t2"},
		{"locked", func() error { return h.Lock(t.Context(), "tester", u.ID, "") }, false, []string{"support"}, "t2"},
		{"unlocked", func() error { return h.Unlock(t.Context(), "tester", u.ID) }, true, []string{"support"}, "t2"},
		{"made inactive", func() error { return update(func(u *identity.User) { u.Active = false }) }, false, []string{"support"}, "t2"},
	} {
		before := version(t, s)
		if err := c.do(); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if version(t, s) == before {
			t.Errorf("%s: whoever follows users is not told", c.name)
		}
		all, err := s.Of(t.Context(), []string{u.ID, other.ID, "usr_nobody"})
		if err != nil {
			t.Fatal(err)
		}
		if got := all[u.ID]; got.Active != c.active || !slices.Equal(got.Roles, c.roles) || got.Tenant != c.tenant || len(all) != 2 || !all[other.ID].Active {
			t.Errorf("%s: %+v", c.name, all)
		}
		// It says the same as the directory.
		if is, err := h.User(t.Context(), u.ID); err != nil || !slices.Equal(is.Effective, all[u.ID].Roles) || is.Active != all[u.ID].Active {
			t.Errorf("%s: the directory says %+v, %v", c.name, is, err)
		}
	}
	before := version(t, s)
	if err := h.Delete(t.Context(), "tester", u.ID); err != nil {
		t.Fatal(err)
	}
	if all, err := s.Of(t.Context(), []string{u.ID}); err != nil || len(all) != 0 || version(t, s) == before {
		t.Errorf("a deleted user: %+v, %v", all, err)
	}
	if err := h.db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Of(t.Context(), []string{other.ID}); err == nil {
		t.Error("a database that can not be read says that everybody is gone")
	}
	if _, err := s.Version(t.Context()); err == nil {
		t.Error("a database that can not be read has a version")
	}
}

func version(t *testing.T, s *identity.Standings) int64 {
	t.Helper()
	v, err := s.Version(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestStandingsOfMoreThanOneStatementTakes(t *testing.T) {
	h := newHouse(t, nil)
	s, err := identity.OpenStandings(t.Context(), h.db)
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]string, 1201)
	for i := range ids {
		ids[i] = fmt.Sprint("usr_", i)
	}
	ids[0], ids[1200] = h.create(t, identity.NewUser{Name: "ann"}).ID, h.create(t, identity.NewUser{Name: "ben"}).ID
	if all, err := s.Of(t.Context(), ids); err != nil || len(all) != 2 {
		t.Errorf("%d, %v", len(all), err)
	}
}

// What is asked after a change of any user, when 10,000 of them own keys.
func BenchmarkStandings(b *testing.B) {
	h := newHouse(b, nil)
	s, err := identity.OpenStandings(b.Context(), h.db)
	if err != nil {
		b.Fatal(err)
	}
	ids := make([]string, 10_000)
	err = h.db.Write(b.Context(), func(tx *sql.Tx) error {
		for i := range ids {
			ids[i] = fmt.Sprintf("usr_%032x", i*7919)
			_, err := tx.ExecContext(b.Context(), `INSERT INTO users (id, name, email, email_verified, claims, roles, tenant, external_id, source, active, password,
				password_changed, valid_from, created, updated, version) VALUES ($1, $1, '', 0, '{}', 'support', '', '', '', 1, '', 0, 0, 1, 1, 1)`, ids[i])
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if all, err := s.Of(b.Context(), ids); err != nil || len(all) != len(ids) {
			b.Fatal(len(all), err)
		}
	}
}

package server_test

import (
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/server"
)

func TestAKeyFollowsItsOwnerWithinASecondThroughTheGateway(t *testing.T) {
	s := newSite(t, nil)
	withOAuth := s.config("\noauth: {issuer: \"https://localhost\"}\n")
	s.write("gatehouse.yaml", withOAuth)
	r := s.run(s.path())
	office := must[*server.Office](t)(server.OpenOffice(t.Context(), s.path()))
	defer office.Close()
	ctx, people := t.Context(), office.People
	user := must[*identity.User](t)(people.Create(ctx, "tester", identity.NewUser{Name: "ann", Roles: []string{"support"}}))
	ring := must[*server.KeyRing](t)(server.OpenKeyRing(ctx, s.path()))
	defer ring.Close()
	secret, key, err := ring.Create(ctx, "ann", authn.NewKey{Owner: user.ID, Roles: []string{"support"}})
	if err != nil {
		t.Fatal(err)
	}
	ask := func() int {
		status, _, _ := fetch(t, r.url+"/orders", "X-API-Key", secret.Reveal())
		return status
	}
	becomes := func(what string, status int) {
		t.Helper()
		start := time.Now()
		until(t, what, time.Second, func() bool { return ask() == status })
		t.Logf("%s: %d after %v", what, status, time.Since(start).Round(time.Millisecond))
	}
	roles := func(roles ...string) {
		t.Helper()
		must[*identity.User](t)(people.Update(ctx, "tester", user.ID, 0, func(u *identity.User) error { u.Roles = roles; return nil }))
	}
	becomes("the new key", 200)
	if err := people.Lock(ctx, "tester", user.ID, "stolen laptop"); err != nil {
		t.Fatal(err)
	}
	becomes("the key of a locked user", 401)
	if err := people.Unlock(ctx, "tester", user.ID); err != nil {
		t.Fatal(err)
	}
	becomes("unlocked", 200)
	roles()
	becomes("the role lost", 403)
	roles("support")
	becomes("the role regained", 200)

	// A reload that makes another authorization server, and one that takes it away.
	s.write("gatehouse.yaml", s.config("\noauth: {issuer: \"https://localhost\", scopes: {a: A}}\n", "health: {public: true}", "health: {closed: true}"))
	r.shut()
	if got := ask(); got != 200 {
		t.Errorf("after a reload: %d", got)
	}
	s.write("gatehouse.yaml", s.config(""))
	r.open()
	until(t, "without people the key is refused", time.Second, func() bool { return ask() == 401 })
	s.write("gatehouse.yaml", withOAuth)
	until(t, "people again", 10*time.Second, func() bool { return ask() == 200 })

	if err := people.Delete(ctx, "tester", user.ID); err != nil {
		t.Fatal(err)
	}
	becomes("the key of a deleted user", 401)
	listing := must[*server.KeyRing](t)(server.OpenKeyRing(ctx, s.path()))
	defer listing.Close()
	if listed := must[[]authn.Key](t)(listing.List(ctx)); len(listed) != 1 || listed[0].ID != key.ID || !listed[0].Suspended {
		t.Errorf("listed as %+v", listed)
	}
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	r = s.run(s.path())
	if got := ask(); got != 401 {
		t.Errorf("the key of a deleted user after a restart: %d", got)
	}
}

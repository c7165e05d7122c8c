package scim_test

import (
	"slices"
	"testing"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
)

// Who provisions people could be warden otherwise: by its group, its password, or its
// address, which gets the mail for a new one.
func TestProvisioningDoesNotLeadToAdministration(t *testing.T) {
	h := newHouse(t, nil)
	user := func(n identity.NewUser) string {
		u, err := h.Create(t.Context(), "test", n)
		if err != nil {
			t.Fatal(err)
		}
		return u.ID
	}
	admins, err := h.CreateGroup(t.Context(), "test", identity.NewGroup{Name: "Admins", Roles: []string{"warden"}})
	if err != nil {
		t.Fatal(err)
	}
	clerk := user(identity.NewUser{Name: "clerk", Roles: []string{"editor"}})
	boss := user(identity.NewUser{Name: "boss", Email: "boss@example.com", Groups: []string{"Admins"}, Password: gatehouse.NewSecret("nobody else can say this")})
	const patch = `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[`
	for _, c := range []struct{ name, method, path, body string }{
		{"membership", "PATCH", "/Groups/" + admins.ID, patch + `{"op":"add","path":"members","value":[{"value":"` + clerk + `"}]}]}`},
		{"membership in a new list", "PUT", "/Groups/" + admins.ID, `{"displayName":"Admins","members":[{"value":"` + boss + `"},{"value":"` + clerk + `"}]}`},
		{"another name for the group", "PATCH", "/Groups/" + admins.ID, patch + `{"op":"replace","path":"displayName","value":"Guests"}]}`},
		{"the end of the group", "DELETE", "/Groups/" + admins.ID, ``},
		{"a password", "PATCH", "/Users/" + boss, patch + `{"op":"replace","path":"password","value":"a sentence I know myself"}]}`},
		{"a password behind an end", "PATCH", "/Users/" + boss, patch + `{"op":"replace","value":{"active":false,"password":"a sentence I know myself"}}]}`},
		{"an address", "PATCH", "/Users/" + boss, patch + `{"op":"replace","path":"emails","value":[{"value":"eve@example.org"}]}]}`},
		{"the whole user", "PUT", "/Users/" + boss, `{"userName":"eve","active":true}`},
		{"the end of the user", "DELETE", "/Users/" + boss, ``},
	} {
		if a := h.do(t, c.method, c.path, c.body); a.status != 403 {
			t.Errorf("%s: %d %s", c.name, a.status, a.raw)
		}
	}
	if u, err := h.User(t.Context(), boss); err != nil || u.Name != "boss" || u.Email != "boss@example.com" || !u.Active || !u.ValidFrom.IsZero() {
		t.Fatalf("%+v %v", u, err)
	}

	t.Run("who has other roles is provisioned", func(t *testing.T) {
		h.ok(t, 200, "PATCH", "/Users/"+clerk, patch+`{"op":"replace","path":"emails","value":[{"value":"clerk@example.org"}]}]}`)
	})
	t.Run("to shut somebody out is always allowed, and nothing else comes along", func(t *testing.T) {
		h.ok(t, 200, "PATCH", "/Users/"+boss, patch+`{"op":"replace","value":{"active":false,"emails":[{"value":"eve@example.org"}]}}]}`)
		u, err := h.User(t.Context(), boss)
		if err != nil || u.Active || u.Email != "boss@example.com" {
			t.Fatalf("%+v %v", u, err)
		}
		if a := h.do(t, "PATCH", "/Users/"+boss, patch+`{"op":"replace","path":"active","value":true}]}`); a.status != 403 {
			t.Errorf("life again: %d %s", a.status, a.raw)
		}
		h.ok(t, 200, "PATCH", "/Groups/"+admins.ID, patch+`{"op":"remove","path":"members[value eq \"`+boss+`\"]"}]}`)
		if g, err := h.Group(t.Context(), admins.ID); err != nil || slices.Contains(g.Members, boss) {
			t.Errorf("%+v %v", g, err)
		}
	})
}

func TestALockdownIsNotUndoneByTheNextChange(t *testing.T) {
	h := newHouse(t, nil)
	id, _ := h.ok(t, 201, "POST", "/Users", `{"userName":"ada","active":true}`).at("id").(string)
	put := func(active string, want bool) {
		t.Helper()
		if got := h.ok(t, 200, "PUT", "/Users/"+id, `{"userName":"ada","displayName":"Ada","active":`+active+`}`).at("active"); got != want {
			t.Errorf("active is %v after a PUT of %s", got, active)
		}
	}
	put("false", false)
	put("true", true) // what was done here is undone here
	if err := h.Lock(t.Context(), "root", id, "stolen"); err != nil {
		t.Fatal(err)
	}
	put("true", false)
	put("false", false)
	put("true", false)
	if err := h.Unlock(t.Context(), "root", id); err != nil {
		t.Fatal(err)
	}
	put("true", true)
}

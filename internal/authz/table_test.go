package authz_test

import (
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/authz"
)

func TestRolesAreHeldByNameAndByInheritance(t *testing.T) {
	r, err := authz.NewRoles(map[string]authz.Role{
		"reader": {Grants: []string{"shop:read"}}, "writer": {Inherits: []string{"reader"}, Grants: []string{"shop:write"}}, "root": {Grants: []string{"*"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		held  []string
		role  string
		grant string
		want  [2]bool
	}{
		{"a role holds itself", []string{"reader"}, "reader", "shop:read", [2]bool{true, true}},
		{"and what it inherits", []string{"writer"}, "reader", "shop:read", [2]bool{true, true}},
		{"but not who inherits it", []string{"reader"}, "writer", "shop:write", [2]bool{false, false}},
		{"a star grants everything and is no other role", []string{"root"}, "reader", "shop:read", [2]bool{false, true}},
		{"no role holds nothing", nil, "reader", "shop:read", [2]bool{false, false}},
		{"nor does one there is not", []string{"boss"}, "boss", "shop:read", [2]bool{false, false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := [2]bool{r.Hold(c.held, c.role), r.Grant(c.held, c.grant)}; got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
	var none authz.Roles
	if none.Hold([]string{"reader"}, "reader") || none.Grant([]string{"root"}, "shop:read") || none.Names() != nil {
		t.Error("the zero value holds something")
	}
	if _, err := authz.NewRoles(map[string]authz.Role{"a": {Inherits: []string{"a"}}}); err == nil {
		t.Error("a role inherits itself")
	}
}

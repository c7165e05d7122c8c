package plan_test

import (
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/plan"
)

func TestEveryOperationOfTheAdminAPIWantsAGrant(t *testing.T) {
	p := compiled(t, strings.Replace(withOAuth, "identity:", "admin: {api: {base: /gatehouse/v1}}\nidentity:", 1))
	n := 0
	for i, route := range p.Snapshot.Routes {
		if p.Access(i).API != plan.AdminAPI {
			continue
		}
		n++
		op := route.Op.Op()
		grants := 0
		for _, l := range route.Policy.Effective() {
			if l.Kind == "grant" && strings.HasPrefix(l.Text, "gatehouse.") {
				grants++
			}
		}
		if w := p.Access(i).Ways; len(w.Audience) != 1 || w.Audience[0] != "https://auth.example.com/gatehouse/v1" {
			t.Errorf("%s takes tokens for %v", op.ID, w.Audience)
		}
		if route.Policy.Public() || route.Raw || grants != 1 {
			t.Errorf("%s %s: public %t, raw %t, %d grants", op.Method, op.Path, route.Policy.Public(), route.Raw, grants)
		}
		if unchecked := route.Op.Unchecked(); len(unchecked) > 0 && op.ID != "createUser" && op.ID != "updateUser" && op.ID != "createClient" && op.ID != "replaceClient" {
			t.Errorf("%s takes what nobody looks into: %v", op.ID, unchecked)
		}
	}
	if n < 40 {
		t.Errorf("only %d operations", n)
	}
	for _, w := range p.Warnings {
		if strings.Contains(w.Place, "admin.openapi") {
			t.Errorf("%s: %s", w.Place, w.Text)
		}
	}
}

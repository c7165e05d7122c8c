package gateway_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/gateway"
	"github.com/gatehouse-api/gatehouse/internal/ratelimit"
)

// The house of the tests has no database of quotas: none of them can be counted.
func TestWhatCannotBeCountedIsNotCarriedOut(t *testing.T) {
	for _, c := range []struct {
		name   string
		shadow bool
		status int
	}{
		{"a quota that cannot be counted refuses", false, 503},
		{"one in shadow lets through", true, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			quota := must[*ratelimit.Limit](t)(ratelimit.Compile(ratelimit.Spec{Name: "plan", By: "address", Quota: "5/day", Shadow: c.shadow}))
			asked := 0
			h := newInside(t, func(w http.ResponseWriter, _ *http.Request) { asked++; _, _ = w.Write([]byte("[]")) }, func(h *houseConfig) {
				h.limits = map[string][]gateway.Limit{"listOrders": {{Limit: quota}}}
			})
			w := h.ask("GET", "/orders", "", "Authorization", h.token("ann"))
			if w.Code != c.status || asked != map[bool]int{true: 1}[c.shadow] {
				t.Fatalf("%d %s, the service was asked %d times", w.Code, w.Body, asked)
			}
			if c.shadow {
				return
			}
			if w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), `"limit_unavailable"`) || strings.Contains(w.Body.String(), "quota-exceeded") {
				t.Errorf("%v %s", w.Header(), w.Body)
			}
		})
	}
}

package gateway_test

import (
	"fmt"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/authz"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
	"github.com/gatehouse-api/gatehouse/internal/networks"
	"github.com/gatehouse-api/gatehouse/internal/ratelimit"
)

func spec(t testing.TB, s ratelimit.Spec) *ratelimit.Limit {
	t.Helper()
	return must[*ratelimit.Limit](t)(ratelimit.Compile(s))
}

// limitedHouse has a service that answers, and what make gives for listOrders.
func limitedHouse(t *testing.T, early []gateway.Limit, tell gateway.Telling, own func(expr func(text string, want authz.Want) *authz.Expr) []gateway.Limit) *house {
	t.Helper()
	url, _ := listening(t, nil)
	h := newHouse(t, houseConfig{service: url})
	r := h.routes["listOrders"]
	c := must[*authz.Compiler](t)(authz.New(authz.Config{Claims: map[string]string{"plan": "string"}}))
	h.snap.SetLimits(early, tell)
	for _, other := range h.routes {
		other.SetLimits(h.snap, nil)
	}
	if own != nil {
		r.SetLimits(h.snap, own(func(text string, want authz.Want) *authz.Expr {
			return must[*authz.Expr](t)(c.CompileExpr(r.Op.Op(), authz.Rule{ID: "l", Expr: text}, want))
		}))
	}
	return h
}

func statuses(n int, ask func(int) *httptest.ResponseRecorder) (out []int) {
	for i := range n {
		out = append(out, ask(i).Code)
	}
	return out
}

func TestWhatALimitAsks(t *testing.T) {
	once := func(by string) ratelimit.Spec { return ratelimit.Spec{Name: "l", By: by, Rate: "1/h"} }
	type compile = func(string, authz.Want) *authz.Expr
	for name, c := range map[string]struct {
		limits func(compile) []gateway.Limit
		ask    func(h *house, n int) *httptest.ResponseRecorder
		want   []int
	}{
		"an expression counts those it gives the same together": {
			func(expr compile) []gateway.Limit {
				return []gateway.Limit{{Limit: spec(t, once("custom")), Key: expr(`principal.tenant + "/" + claims.plan`, authz.WantText)}}
			},
			func(h *house, n int) *httptest.ResponseRecorder {
				return h.ask("GET", "/orders", "", "Authorization", h.token(fmt.Sprint("u", n), "plan", []string{"a", "a", "b"}[n]))
			},
			[]int{200, 429, 200},
		},
		"who has nothing the expression names is counted by address": {
			func(expr compile) []gateway.Limit {
				return []gateway.Limit{{Limit: spec(t, once("custom")), Key: expr(`claims.plan`, authz.WantText)}}
			},
			func(h *house, n int) *httptest.ResponseRecorder {
				return h.ask("GET", "/orders", "", "Authorization", h.token(fmt.Sprint("u", n)))
			},
			[]int{200, 429, 429},
		},
		"a tier has its own share, and who is in none the limit's": {
			func(expr compile) []gateway.Limit {
				gold := gateway.Tier{Name: "gold", Limit: spec(t, ratelimit.Spec{Name: "l:gold", By: "principal", Rate: "2/h"})}
				return []gateway.Limit{{Limit: spec(t, once("principal")), By: expr(`claims.plan`, authz.WantText), Tiers: []gateway.Tier{gold}}}
			},
			func(h *house, n int) *httptest.ResponseRecorder {
				who, plan := "rich", "gold"
				if n > 2 {
					who, plan = "poor", "none"
				}
				return h.ask("GET", "/orders", "", "Authorization", h.token(who, "plan", plan))
			},
			[]int{200, 200, 429, 200, 429},
		},
		"only the requests it is for": {
			func(expr compile) []gateway.Limit {
				return []gateway.Limit{{Limit: spec(t, once("principal")), Only: expr(`claims.plan == "free"`, authz.WantTruth)}}
			},
			func(h *house, n int) *httptest.ResponseRecorder {
				return h.ask("GET", "/orders", "", "Authorization", h.token("ann", "plan", []string{"free", "paid", "paid", "free"}[n]))
			},
			[]int{200, 200, 200, 429},
		},
		"where only fails, the limit is for the request": {
			func(expr compile) []gateway.Limit {
				return []gateway.Limit{{Limit: spec(t, once("principal")), Only: expr(`claims.plan == "free"`, authz.WantTruth)}}
			},
			func(h *house, _ int) *httptest.ResponseRecorder {
				return h.ask("GET", "/orders", "", "Authorization", h.token("ann"))
			},
			[]int{200, 429},
		},
		"a price by a parameter": {
			func(expr compile) []gateway.Limit {
				return []gateway.Limit{{Limit: spec(t, ratelimit.Spec{Name: "l", By: "principal", Rate: "10/h"}), Price: expr(`query.limit / 10`, authz.WantNumber)}}
			},
			func(h *house, n int) *httptest.ResponseRecorder {
				return h.ask("GET", "/orders?limit="+[]string{"5", "50", "50", "40", "5"}[n], "", "Authorization", h.token("ann"))
			},
			[]int{200, 200, 429, 200, 429}, // 1, 5, no 5 more, 4, none left
		},
		"a price that fails refuses the request, and charges nobody": {
			func(expr compile) []gateway.Limit {
				return []gateway.Limit{{Limit: spec(t, ratelimit.Spec{Name: "l", By: "all", Rate: "10/h"}), Price: expr(`100 / (query.limit - 50)`, authz.WantNumber)}}
			},
			func(h *house, n int) *httptest.ResponseRecorder {
				who := []string{"eve", "eve", "eve", "ann", "ann"}[n]
				return h.ask("GET", "/orders"+[]string{"?limit=50", "", "?limit=50", "?limit=60", "?limit=60"}[n], "", "Authorization", h.token(who))
			},
			[]int{400, 400, 400, 200, 429},
		},
		"a price that fails of a shadow refuses nobody": {
			func(expr compile) []gateway.Limit {
				return []gateway.Limit{{Limit: spec(t, ratelimit.Spec{Name: "l", By: "all", Rate: "10/h", Shadow: true}), Price: expr(`query.limit / 10`, authz.WantNumber)}}
			},
			func(h *house, _ int) *httptest.ResponseRecorder {
				return h.ask("GET", "/orders", "", "Authorization", h.token("ann"))
			},
			[]int{200, 200},
		},
		"a fixed price": {
			func(compile) []gateway.Limit {
				return []gateway.Limit{{Limit: spec(t, ratelimit.Spec{Name: "l", By: "principal", Rate: "10/h", Cost: 5})}}
			},
			func(h *house, _ int) *httptest.ResponseRecorder {
				return h.ask("GET", "/orders", "", "Authorization", h.token("ann"))
			},
			[]int{200, 200, 429},
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := limitedHouse(t, nil, gateway.TellFields, c.limits)
			got := statuses(len(c.want), func(n int) *httptest.ResponseRecorder { return c.ask(h, n) })
			if !slices.Equal(got, c.want) {
				t.Fatalf("answered %v, want %v", got, c.want)
			}
		})
	}
}

func TestWhoseCostCannotBeWorkedOutIsToldSo(t *testing.T) {
	h := limitedHouse(t, nil, gateway.TellFields, func(expr func(string, authz.Want) *authz.Expr) []gateway.Limit {
		return []gateway.Limit{{Limit: spec(t, ratelimit.Spec{Name: "lines", By: "all", Rate: "10/h"}), Price: expr(`query.limit / 10`, authz.WantNumber)}}
	})
	w := h.ask("GET", "/orders", "", "Authorization", h.token("ann"))
	if p := problemOf(t, w); w.Code != 400 || p.Reason != "limit_cost" || strings.Contains(w.Body.String(), "query.limit") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if all := h.record.all(); !strings.Contains(all[0].Cause, "lines") || !strings.Contains(all[0].Cause, "query.limit / 10") {
		t.Errorf("the operator reads %+v", all[0])
	}
	if got := h.gate.Limiter.Refusals(); len(got) != 1 || got[0] != (ratelimit.Refusals{Limit: "lines", Number: 1}) {
		t.Errorf("counted %+v", got)
	}
}

func TestAShadowRefusesNobodyAndTellsTheOperator(t *testing.T) {
	h := limitedHouse(t, nil, gateway.TellFields, func(func(string, authz.Want) *authz.Expr) []gateway.Limit {
		return []gateway.Limit{{Limit: spec(t, ratelimit.Spec{Name: "soon", By: "address", Rate: "1/h", Shadow: true})}}
	})
	ask := func(int) *httptest.ResponseRecorder {
		return h.ask("GET", "/orders", "", "Authorization", h.token("ann"))
	}
	if got := statuses(2, ask); !slices.Equal(got, []int{200, 200}) {
		t.Fatalf("answered %v", got)
	}
	w := ask(0)
	if w.Header().Get("Ratelimit") != "" || w.Header().Get("Ratelimit-Policy") != "" {
		t.Errorf("the caller reads of it: %v", w.Header())
	}
	all := h.record.all()
	if r := all[0].Reported; len(r) != 0 {
		t.Errorf("the first was reported: %+v", r)
	}
	if r := all[1].Reported; len(r) != 1 || r[0].Name != "soon" || r[0].Rule != "rate_limited" {
		t.Errorf("reported %+v", r)
	}
	if got := h.gate.Limiter.Refusals(); len(got) != 1 || got[0] != (ratelimit.Refusals{Limit: "soon", Shadow: true, Number: 2}) {
		t.Errorf("counted %+v", got)
	}
}

func TestWhoLooksForDoorsIsCountedBeforeThereIsOne(t *testing.T) {
	h := limitedHouse(t, []gateway.Limit{limit(t, "whole", "address", "2/h", 2)}, gateway.TellFields, nil)
	got := statuses(3, func(n int) *httptest.ResponseRecorder { return h.ask("GET", fmt.Sprint("/.git/", n), "") })
	if !slices.Equal(got, []int{404, 404, 429}) {
		t.Fatalf("answered %v", got)
	}
	w := h.ask("GET", "/orders", "")
	if p := problemOf(t, w); p.Reason != "rate_limited" || !slices.Equal(p.Violated, []string{"whole"}) || !strings.HasSuffix(p.Type, "#quota-exceeded") || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%+v %v", p, w.Header())
	}
	if all := h.record.all(); all[2].Path != "/.git/2" || !strings.Contains(all[2].Cause, "whole") {
		t.Errorf("%+v", all[2])
	}
}

func TestWhoIsOverItsOwnLimitDoesNotUseUpWhatIsForAll(t *testing.T) {
	for name, order := range map[string][]int{"its own first": {0, 1}, "the shared one first": {1, 0}} {
		t.Run(name, func(t *testing.T) {
			both := []gateway.Limit{limit(t, "own", "address", "2/h", 2), limit(t, "whole", "all", "10/h", 10)}
			h := limitedHouse(t, []gateway.Limit{both[order[0]], both[order[1]]}, gateway.TellFields, nil)
			for range 40 {
				h.ask("GET", "/nowhere", "")
			}
			r := h.request("GET", "/nowhere", "")
			r.RemoteAddr = "203.0.113.77:5000"
			w := httptest.NewRecorder()
			h.entry.ServeHTTP(w, r)
			if w.Code != 404 {
				t.Errorf("another caller is answered %d %s", w.Code, w.Body)
			}
		})
	}
}

func TestFailuresAloneAreCounted(t *testing.T) {
	guesses := gateway.Limit{Limit: spec(t, ratelimit.Spec{Name: "guesses", By: "address", Rate: "2/h", Failures: true})}
	h := limitedHouse(t, []gateway.Limit{guesses}, gateway.TellFields, nil)
	good := h.token("ann")
	for range 5 {
		if w := h.ask("GET", "/orders", "", "Authorization", good); w.Code != 200 || w.Header().Get("Ratelimit") != "" {
			t.Fatalf("%d %v", w.Code, w.Header())
		}
	}
	got := statuses(4, func(int) *httptest.ResponseRecorder {
		return h.ask("GET", "/orders", "", "Authorization", "Bearer guess")
	})
	if !slices.Equal(got, []int{401, 401, 429, 429}) {
		t.Fatalf("answered %v", got)
	}
	w := h.ask("GET", "/orders", "", "Authorization", good)
	if w.Code != 429 || w.Header().Get("Ratelimit-Policy") != `"guesses";q=2;w=3600` {
		t.Errorf("%d %v: who guesses at the same address is told why", w.Code, w.Header())
	}
}

func TestFailuresAreCountedByNetworkToo(t *testing.T) {
	h := limitedHouse(t, []gateway.Limit{
		{Limit: spec(t, ratelimit.Spec{Name: "mine", By: "address", Rate: "100/h", Failures: true})},
		{Limit: spec(t, ratelimit.Spec{Name: "ours", By: "network", Rate: "2/h", Failures: true})},
	}, gateway.TellFields, nil)
	h.snap.Networks = must[*networks.Set](t)(networks.Load(networks.Config{Lists: []networks.List{
		{Name: "office", Prefixes: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}},
	}}))
	got := statuses(4, func(n int) *httptest.ResponseRecorder {
		r := h.request("GET", "/orders", "", "Authorization", "Bearer guess")
		r.RemoteAddr = fmt.Sprintf("198.51.100.%d:1234", n+1)
		w := httptest.NewRecorder()
		h.entry.ServeHTTP(w, r)
		return w
	})
	if !slices.Equal(got, []int{401, 401, 429, 429}) {
		t.Fatalf("answered %v: another address of the same network guesses on", got)
	}
}

func TestFailuresByCallerAreNotThoseOfAuthentication(t *testing.T) { // docs/limits.md says so
	h := limitedHouse(t, nil, gateway.TellFields, func(func(string, authz.Want) *authz.Expr) []gateway.Limit {
		return []gateway.Limit{{Limit: spec(t, ratelimit.Spec{Name: "guesses", By: "principal", Rate: "1/h", Failures: true})}}
	})
	got := statuses(3, func(int) *httptest.ResponseRecorder {
		return h.ask("GET", "/orders", "", "Authorization", "Bearer guess")
	})
	if !slices.Equal(got, []int{401, 401, 401}) {
		t.Fatalf("answered %v: correct docs/limits.md", got)
	}
}

func TestHowLimitsAreTold(t *testing.T) {
	for tell, want := range map[gateway.Telling][3]string{
		gateway.TellFields: {`"a";q=9;w=1, "b";q=5;w=60`, "", ""},
		gateway.TellBoth:   {`"a";q=9;w=1, "b";q=5;w=60`, "5", "4"},
		gateway.TellNobody: {},
	} {
		h := limitedHouse(t, []gateway.Limit{limit(t, "a", "address", "9/s", 9)}, tell, func(func(string, authz.Want) *authz.Expr) []gateway.Limit {
			return []gateway.Limit{limit(t, "b", "principal", "5/min", 5)}
		})
		got := h.ask("GET", "/orders", "", "Authorization", h.token("ann")).Header()
		if g := [3]string{got.Get("Ratelimit-Policy"), got.Get("X-Ratelimit-Limit"), got.Get("X-Ratelimit-Remaining")}; g != want {
			t.Errorf("%d: %q, want %q", tell, g, want)
		}
	}
}

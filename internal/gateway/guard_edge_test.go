package gateway_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/ddos"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// standsOut reports whether what was counted until now makes an address climb.
func standsOut(g *ddos.Guard, address string) bool {
	now, a := time.Now(), netip.MustParseAddr(address)
	for range 30 {
		now = now.Add(time.Second)
		if g.Tick(now); g.Admit(a, now).Step <= ddos.Watch {
			return true
		}
	}
	return false
}

func TestTheGuardNeverTakesTheEdgeForACaller(t *testing.T) {
	const edge, stranger, many = "198.51.100.9", "203.0.113.9", 20_000
	url, _ := listening(t, nil)
	behind := func(t *testing.T) (*house, *ddos.Guard, *gateway.Entry) {
		h, g := guarded(t, ddos.Settings{}, houseConfig{service: url, prepare: func(s *gateway.Snapshot) { s.Edges = map[string]*gateway.Edge{"front": edges(t)["cloudflare"]} }})
		return h, g, h.gate.OnEdge("front")
	}
	refuse := func(e *gateway.Entry, address, reason string) {
		for range many {
			e.Refused(http1.Refusal{Address: address + ":5000", Problem: &gatehouse.Problem{Kind: gatehouse.Malformed, Reason: reason}})
		}
	}
	ask := func(h *house, e *gateway.Entry, header ...string) string {
		r := h.request("GET", "/orders", "", header...)
		r.RemoteAddr = edge + ":5000"
		w := httptest.NewRecorder()
		e.ServeHTTP(w, r)
		return problemOf(t, w).Reason
	}
	for name, tt := range map[string]struct {
		attack func(*house, *gateway.Entry)
		stands string // who stands out after it; "": nobody
	}{
		"its handshakes that fail":               {func(_ *house, e *gateway.Entry) { refuse(e, edge, "tls_handshake_failed") }, ""},
		"a stranger's do":                        {func(_ *house, e *gateway.Entry) { refuse(e, stranger, "not_from_edge") }, stranger},
		"connections a proxy does not introduce": {func(h *house, _ *gateway.Entry) { refuse(h.gate.On(nil), edge, "bad_proxy_header") }, ""},
		"requests from its addresses, which are not its own": {func(h *house, e *gateway.Entry) {
			for range 2000 {
				if reason := ask(h, e, "Cf-Connecting-Ip", stranger, "X-Edge", "guess"); reason != "not_from_edge" {
					t.Fatal(reason)
				}
			}
		}, ""},
		"requests that it passes on": {func(h *house, e *gateway.Entry) {
			for range 4000 {
				ask(h, e, "Cf-Connecting-Ip", stranger, "X-Edge", edgeSecret)
			}
		}, stranger},
	} {
		t.Run(name, func(t *testing.T) {
			h, g, e := behind(t)
			tt.attack(h, e)
			if tt.stands != "" && !standsOut(g, tt.stands) {
				t.Errorf("%s does not stand out: the test tells nothing", tt.stands)
			}
			if standsOut(g, edge) {
				t.Error("the edge stands out")
			}
			if reason := ask(h, e, "Cf-Connecting-Ip", "192.0.2.200", "X-Edge", edgeSecret); reason != "credentials_missing" {
				t.Errorf("another caller behind it: %s", reason)
			}
		})
	}
	// Even a ban of its addresses does not close the door to it, and holds for all others.
	_, g, e := behind(t)
	flood(t, g, edge)
	flood(t, g, stranger)
	door := e.Refuse(true)
	if door(netip.MustParseAddr(edge)) || !door(netip.MustParseAddr(stranger)) {
		t.Error("the door is closed to the edge, or open to who is banned")
	}
	if !e.Trusts(netip.MustParseAddr(edge)) || e.Trusts(netip.MustParseAddr(stranger)) || e.From(netip.MustParseAddr(stranger)) {
		t.Error("who is the edge is not known")
	}
}

// Whatever a header says, without the secret it is nobody, and with it one address or none.
func FuzzEdge(f *testing.F) {
	f.Add("203.0.113.7", edgeSecret)
	f.Add("2001:db8:1::7:46532", edgeSecret)
	f.Add("[::1]:80, ::ffff:1.2.3.4", "x")
	f.Add("fe80::1%eth0", edgeSecret)
	f.Add("198.51.100.3", edgeSecret)
	f.Fuzz(func(t *testing.T, node, secret string) {
		for name, e := range edges(t) {
			r := &http.Request{RemoteAddr: "198.51.100.9:5", Header: http.Header{"X-Edge": {secret}}}
			for _, header := range []string{"Cf-Connecting-Ip", "Fastly-Client-Ip", "Cloudfront-Viewer-Address", "X-Forwarded-For"} {
				r.Header.Set(header, node)
			}
			a, _, err := e.Caller(r)
			switch proven := secret == edgeSecret || secret == "the one before it"; {
			case err == nil && (!proven || name == "certificate" || name == "both"):
				t.Fatalf("%s: %q proves something", name, secret)
			case err == nil && (!a.IsValid() || a.Zone() != "" || a.Is4In6()):
				t.Fatalf("%s: %q is %v", name, node, a)
			case r.Header["X-Edge"] != nil && name != "certificate":
				t.Fatalf("%s: the secret is left in the request", name)
			}
		}
	})
}

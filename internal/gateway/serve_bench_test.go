package gateway_test

import (
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
	"github.com/gatehouse-api/gatehouse/internal/monitor"
)

// busyHouse is what a busy gateway does for each request, with its real record
// and metrics: cached token, guardrail, grant, ownership, limits, typed input.
func busyHouse(tb testing.TB, service string) *house {
	record := must[*auditlog.Log](tb)(auditlog.Open(auditlog.Config{Dir: tb.TempDir()}))
	tb.Cleanup(func() { _ = record.Close() })
	meter := monitor.New(monitor.Sources{})
	h := newHouse(tb, houseConfig{
		service: service, record: record, meter: meter,
		limits: map[string][]gateway.Limit{
			"listOrders": {limit(tb, "burst", "address", "1000000/s", 1000000), limit(tb, "user", "principal", "1000000/s", 1000000)},
			"refund":     {limit(tb, "burst", "address", "1000000/s", 1000000), limit(tb, "user", "principal", "1000000/s", 1000000)},
		},
	})
	var ops []*gatehouse.Operation
	for _, r := range h.snap.Routes {
		ops = append(ops, r.Op.Op())
	}
	meter.Configure("d1", ops)
	return h
}

// A replay is one request that can be sent again and again without cost of its own.
type replay struct {
	h    *house
	r    *http.Request
	body *strings.Reader
	text string
	w    *sink
}

func (h *house) replay(method, target, body string, header ...string) *replay {
	p := &replay{h: h, r: h.request(method, target, body, header...), text: body, w: &sink{h: http.Header{}}}
	p.body = strings.NewReader(body)
	return p
}

func (p *replay) send() int {
	p.body.Reset(p.text)
	p.r.Body = http.NoBody
	if p.text != "" {
		p.r.Body = io.NopCloser(p.body)
	}
	clear(p.w.h)
	p.w.status = 0
	p.h.entry.ServeHTTP(p.w, p.r)
	return p.w.status
}

// walks are requests that end at each stage, so that the difference between two
// is the cost of what lies between them; all but the last two never leave the
// gateway. allocs is what a walk may allocate.
var walks = []struct {
	name, method, target, body string
	caller                     string
	status                     int
	allocs                     float64
}{
	{"refused: no operation", "GET", "/nowhere", "", "", 404, 11},
	{"refused: nobody", "GET", "/orders", "", "", 401, 15},
	{"refused: no grant", "GET", "/orders?limit=5", "", "stranger", 403, 28},
	{"refused: a parameter", "GET", "/orders?limit=5000", "", "ann", 422, 25},
	{"refused: not the owner", "POST", "/customers/bob/refunds", `{"amount":7,"reason":"late"}`, "ann", 403, 43},
	{"refused: a rule on the body", "POST", "/customers/ann/refunds", `{"amount":700,"reason":"late"}`, "ann", 403, 60},
	{"let through: GET", "GET", "/orders?limit=5&q=ham", "", "ann", 200, 4},
	{"let through: POST", "POST", "/customers/ann/refunds", `{"amount":7,"reason":"late"}`, "ann", 200, 19},
}

func (h *house) walk(n int) *replay {
	c := walks[n]
	header := []string{"User-Agent", "curl/8.5", "Accept", "application/json"}
	switch c.caller {
	case "":
	case "stranger":
		header = append(header, "Authorization", h.token(c.caller, "roles", []string{}))
	default:
		header = append(header, "Authorization", h.token(c.caller))
	}
	return h.replay(c.method, c.target, c.body, header...)
}

func BenchmarkServe(b *testing.B) {
	loopback := service(b, false, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"count":1}`)
	})
	for _, s := range []struct{ name, url string }{{"stub", answering(b)}, {"net-http", loopback}} {
		h := busyHouse(b, s.url)
		for n, c := range walks {
			if s.name == "net-http" && c.status != 200 {
				continue // no service is asked
			}
			name := c.name
			if c.status == 200 {
				name += " to " + s.name
			}
			b.Run(name, func(b *testing.B) {
				p := h.walk(n)
				b.ReportAllocs()
				for b.Loop() {
					if got := p.send(); got != c.status {
						b.Fatalf("answered %d, want %d", got, c.status)
					}
				}
			})
		}
	}
	b.Run("side by side to stub", func(b *testing.B) {
		h := busyHouse(b, answering(b))
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			p := h.walk(len(walks) - 2)
			for pb.Next() {
				if got := p.send(); got != 200 {
					b.Errorf("answered %d", got)
				}
			}
		})
	})
}

// TestAllocsServe holds the walk to a budget: what a check allocates for each
// request, the collector takes from every request.
func TestAllocsServe(t *testing.T) {
	if underRace {
		t.Skip("the race detector allocates")
	}
	h := busyHouse(t, answering(t))
	for n, c := range walks {
		t.Run(c.name, func(t *testing.T) {
			p := h.walk(n)
			if got := p.send(); got != c.status {
				t.Fatalf("answered %d, want %d", got, c.status)
			}
			got := testing.AllocsPerRun(200, func() { p.send() })
			t.Logf("%v allocations, budget %v", got, c.allocs)
			if got > c.allocs {
				t.Errorf("%v allocations, budget %v", got, c.allocs)
			}
		})
	}
}

// A Gateway can be asked, too, without serving: the same walk without a network.
func TestTryDecidesAsServingDoes(t *testing.T) {
	url, asked := listening(t, nil)
	h := newHouse(t, houseConfig{service: url})
	ann := &gatehouse.Principal{Subject: "ann", Method: gatehouse.MethodJWT, Roles: []string{"support"}, Claims: map[string]any{"sub": "ann"}}
	for _, c := range []struct {
		name, method, target, body string
		who                        *gatehouse.Principal
		reason                     string
	}{
		{"the owner refunds a little", "POST", "/customers/ann/refunds", `{"amount":7,"reason":"late"}`, ann, ""},
		{"not a lot", "POST", "/customers/ann/refunds", `{"amount":700,"reason":"late"}`, ann, "forbidden"},
		{"nor for others", "POST", "/customers/bob/refunds", `{"amount":7,"reason":"late"}`, ann, "forbidden"},
		{"nor in a wrong form", "POST", "/customers/ann/refunds", `{"amount":"7"}`, ann, "invalid_body"},
		{"nobody does", "POST", "/customers/ann/refunds", `{"amount":7,"reason":"late"}`, nil, "authentication_required"},
		{"where there is nothing", "GET", "/nowhere", "", ann, "operation_not_found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := h.request(c.method, c.target, c.body)
			_, err := h.snap.Try(r, c.who, netip.MustParseAddr("192.0.2.1"))
			if p := gatehouse.AsProblem(err); (p == nil) != (c.reason == "") || p != nil && p.Reason != c.reason {
				t.Fatalf("%v, want %s", err, c.reason)
			}
		})
	}
	if len(asked.all()) != 0 || len(h.record.all()) != 0 {
		t.Fatal("asking reached the service, or the record")
	}
}

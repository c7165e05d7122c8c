package gateway_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/gateway"
	"github.com/gatehouse-api/gatehouse/internal/ratelimit"
)

// TestTheOrderOfChecksIsThePolicy breaks a request in every later way at once:
// the answer must be that of the earliest fault, lest a check run, or tell
// something, before the one that would have refused.
func TestTheOrderOfChecksIsThePolicy(t *testing.T) {
	type call struct {
		method, path, query, body, address string
		subject                            string
		claims                             []any
		header                             []string
		forged                             bool
	}
	steps := []struct {
		name   string
		reason string
		rule   string // of the event's reasons; "" for none
		spoil  func(h *house, c *call)
	}{
		{"a record that fails", "record_unavailable", "", func(h *house, _ *call) { h.record.fail(errors.New("disk gone"), nil) }},
		{"a head that can be read in two ways", "duplicate_header", "", func(_ *house, c *call) { c.header = append(c.header, "Content-Type", "text/plain") }},
		{"an operation that is not there", "operation_not_found", "", func(_ *house, c *call) { c.path += "/more" }},
		{"a limit by address", "rate_limited", "", func(_ *house, c *call) { c.address = "192.0.2.66:1" }},
		{"a token nobody signed", "token_invalid", "", func(_ *house, c *call) { c.forged = true }},
		{"a limit by caller", "rate_limited", "", func(_ *house, c *call) { c.subject = "busy" }},
		{"a guardrail on the caller", "forbidden", "guardrail/suspended", func(_ *house, c *call) { c.claims = append(c.claims, "suspended", true) }},
		{"an undeclared parameter", "unknown_parameter", "", func(_ *house, c *call) { c.query = "?debug=1" }},
		{"a customer that is not the caller's", "forbidden", "own", func(_ *house, c *call) {
			c.path = strings.Replace(c.path, "/ann/", "/bob/", 1)
			c.path = strings.Replace(c.path, "/busy/", "/bob/", 1)
		}},
		{"a body without a required field", "invalid_body", "", func(_ *house, c *call) { c.body = strings.Replace(c.body, `,"reason":"late"`, "", 1) }},
		{"a rule on the body", "forbidden", "amount", func(_ *house, c *call) { c.body = strings.Replace(c.body, "100", "700", 1) }},
		{"a service that is not there", "upstream_failed", "", func(*house, *call) {}},
	}
	for first := range steps {
		t.Run(steps[first].name, func(t *testing.T) {
			h := newHouse(t, houseConfig{limits: map[string][]gateway.Limit{"refund": {
				limit(t, "address", "address", "1/h", 1), limit(t, "user", "principal", "1/h", 1),
			}}})
			send := func(c call) (reason string) {
				r := h.request(c.method, c.path+c.query, c.body, c.header...)
				r.RemoteAddr = c.address
				auth := h.token(c.subject, c.claims...)
				if c.forged {
					auth = auth[:len(auth)-8] + "AAAAAAAA"
				}
				r.Header.Set("Authorization", auth)
				w := newRecorder()
				h.entry.ServeHTTP(w, r)
				return problemOf(t, w).Reason
			}
			good := call{method: "POST", path: "/customers/ann/refunds", body: `{"amount":100,"reason":"late"}`, address: "192.0.2.1:1", subject: "ann"}
			used := good
			used.subject, used.address, used.path = "busy", "192.0.2.66:1", "/customers/busy/refunds"
			if got := send(used); got != "upstream_failed" {
				t.Fatalf("the good request is refused: %s", got)
			}
			bad := good
			for _, later := range slices.Backward(steps[first:]) {
				later.spoil(h, &bad)
			}
			if got := send(bad); got != steps[first].reason {
				t.Fatalf("got %s, want %s", got, steps[first].reason)
			}
			last := h.meter.last()
			if last.Reason != steps[first].reason {
				t.Fatalf("the event says %q", last.Reason)
			}
			rule := steps[first].rule
			if (rule != "") != (len(last.Reasons) > 0) || rule != "" && !strings.Contains(last.Reasons[0].Rule, rule) {
				t.Fatalf("decided by %+v, want %q", last.Reasons, rule)
			}
		})
	}
}

func TestWithoutASnapshotNothingIsServed(t *testing.T) {
	h := newHouse(t, houseConfig{})
	h.gate.Swap(nil)
	w := h.ask("GET", "/health", "")
	if p := problemOf(t, w); w.Code != 503 || p.Reason != "starting" || w.Header().Get("Retry-After") == "" {
		t.Fatalf("%d %+v", w.Code, p)
	}
	if e := h.event(); e.Reason != "starting" || e.Status != 503 || e.Config != "" || e.Allow {
		t.Fatalf("%+v", e)
	}
}

func TestAGatewayWithoutItsPartsIsNotMade(t *testing.T) {
	h := newHouse(t, houseConfig{})
	for name, without := range map[string]func(*gateway.Deps){
		"a record":  func(d *gateway.Deps) { d.Record = nil },
		"a meter":   func(d *gateway.Deps) { d.Meter = nil },
		"a limiter": func(d *gateway.Deps) { d.Limiter = nil },
		"ids":       func(d *gateway.Deps) { d.NewID = nil },
	} {
		d := h.gate.Deps
		without(&d)
		if g, err := gateway.New(d); err == nil || g != nil {
			t.Errorf("made without %s", name)
		}
	}
}

func TestWhatCannotBeRecordedIsNotCarriedOut(t *testing.T) {
	broken := errors.New("no space left on device")
	url, asked := listening(t, nil)
	h := newHouse(t, houseConfig{service: url})

	h.record.fail(broken, nil)
	w := h.ask("GET", "/health", "")
	if p := problemOf(t, w); w.Code != 503 || p.Reason != "record_unavailable" || strings.Contains(w.Body.String(), "device") {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if n := len(asked.all()); n != 0 {
		t.Fatalf("the service was asked %d times", n)
	}

	// Full only when the answer is there already: what was not begun is not given.
	h.record.fail(nil, broken)
	w = h.ask("GET", "/nowhere", "")
	if p := problemOf(t, w); w.Code != 503 || p.Reason != "record_unavailable" {
		t.Fatalf("%d %+v: the refusal has no record either", w.Code, p)
	}
	// One that was begun is cut off.
	if status, _, body, err := get(t, h.start()+"/health"); err == nil {
		t.Fatalf("an answer without a record looks whole: %d %s", status, body)
	}
	if e := h.meter.last(); e.Reason != "record_unavailable" || !strings.Contains(e.Cause, "device") {
		t.Fatalf("the metrics say %+v", e)
	}
}

// TestEveryPartFailsClosed takes out each part a route depends on: none of them
// may be missed by letting the request through.
func TestEveryPartFailsClosed(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		reason string
		spoil  func(*houseConfig)
	}{
		{"no checks", 500, "internal", onRoute(func(r *gateway.Route) { r.Op = nil })},
		{"no policy", 503, "policy_unavailable", onRoute(func(r *gateway.Route) { r.Policy = nil })},
		{"a policy nobody compiled", 503, "policy_unavailable", onRoute(func(r *gateway.Route) { r.Policy = zeroPolicy() })},
		{"nobody is accepted", 500, "internal", onRoute(func(r *gateway.Route) { r.Accept = nil })},
		{"no authenticator", 500, "internal", func(c *houseConfig) { c.prepare = func(s *gateway.Snapshot) { s.Authn = nil } }},
		{"a limit nobody made", 429, "rate_limited", onRoute(func(r *gateway.Route) {
			r.SetLimits(new(gateway.Snapshot), []gateway.Limit{{Limit: new(ratelimit.Limit)}})
		})},
		{"no services", 500, "internal", onRoute(func(r *gateway.Route) { r.Upstreams = nil })},
		{"a router that knows nothing", 404, "operation_not_found", func(c *houseConfig) { c.prepare = func(s *gateway.Snapshot) { *s.Router = emptyRouter() } }},
		{"a router that knows too much", 500, "internal", func(c *houseConfig) { c.prepare = func(s *gateway.Snapshot) { s.Routes = s.Routes[:0] } }},
		{"an issuer whose keys cannot be had", 503, "issuer_unavailable", func(c *houseConfig) { c.keys = keysOfNobody(t) }},
		{"a minter that fails", 503, "internal_token_failed", func(c *houseConfig) { c.minter = failingMinter }},
		{"a service that is not there", 502, "upstream_failed", func(c *houseConfig) { c.service = "" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			url, asked := listening(t, nil)
			hc := houseConfig{service: url}
			c.spoil(&hc)
			h := newHouse(t, hc)
			w := h.ask("GET", "/orders", "", "Authorization", h.token("ann"))
			if p := problemOf(t, w); w.Code != c.status || p.Reason != c.reason {
				t.Fatalf("%d %s, want %d %s; event %+v", w.Code, w.Body, c.status, c.reason, h.event())
			}
			if n := len(asked.all()); n != 0 {
				t.Fatalf("the service was asked %d times", n)
			}
			if e := h.event(); e.Reason != c.reason || e.Status != c.status || e.Cause == "" && len(e.Reasons) == 0 && c.status >= 500 {
				t.Fatalf("event %+v", e)
			}
		})
	}
}

func TestAPanicIsABlandRefusalWithARecord(t *testing.T) {
	h := newHouse(t, houseConfig{routes: func(r map[string]*gateway.Route) { r["listOrders"].Upstreams = nil }})
	w := h.ask("GET", "/orders", "", "Authorization", h.token("ann"))
	p := problemOf(t, w)
	if w.Code != 500 || p.Reason != "internal" || p.Type != "urn:gatehouse:problem:internal" || p.Detail != "" || p.Errors != nil {
		t.Fatalf("%+v", p)
	}
	for _, inner := range []string{"panic", "nil pointer", ".go", "runtime"} {
		if strings.Contains(w.Body.String(), inner) {
			t.Errorf("the caller reads %q: %s", inner, w.Body)
		}
	}
	e := h.event()
	if e.ID != p.Decision || !strings.Contains(e.Cause, "panic: ") || !strings.Contains(e.Cause, "serve_io.go") || e.Subject != "ann" {
		t.Fatalf("%+v", e)
	}
	if begun, observed, _ := h.meter.counts(); begun != 1 || observed != 1 {
		t.Fatalf("%d begun, %d observed", begun, observed)
	}
}

// A panic behind the answer's head must cut the answer off: a problem written
// there would pass for the end of it.
func TestAPanicBehindTheHeadCutsTheAnswerOff(t *testing.T) {
	url, _ := listening(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"half":`)
	})
	h := newHouse(t, houseConfig{service: url})
	w := &panicsOnWrite{httptest.NewRecorder()}
	func() {
		defer func() {
			if p := recover(); p != http.ErrAbortHandler { //nolint:errorlint // net/http compares so
				t.Errorf("ended with %v", p)
			}
		}()
		h.entry.ServeHTTP(w, h.request("GET", "/orders", "", "Authorization", h.token("ann")))
	}()
	if b := w.Body.String(); strings.Contains(b, "urn:gatehouse") {
		t.Errorf("the caller got a problem for an answer: %q", b)
	}
	if e := h.event(); e.Reason != "internal" || !strings.Contains(e.Cause, "panic") {
		t.Errorf("%+v", e)
	}
}

type panicsOnWrite struct{ *httptest.ResponseRecorder }

func (p *panicsOnWrite) Write(b []byte) (int, error) {
	if strings.Contains(string(b), "half") {
		panic("the writer broke")
	}
	return p.ResponseRecorder.Write(b)
}

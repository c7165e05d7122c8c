package gateway_test

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/gateway"

	"github.com/gatehouse-api/gatehouse/internal/validate"
)

func TestProblems(t *testing.T) {
	for _, c := range []struct {
		name   string
		method string
		target string
		body   string
		claims []any // nil: no token
		header []string
		status int
		reason string
		want   http.Header // fields the answer must have
		fields []string    // in, name or pointer, and rule of each fault
	}{
		{
			name: "nobody is told how to become somebody", method: "GET", target: "/orders", status: 401, reason: "credentials_missing",
			want: http.Header{"Www-Authenticate": {`Bearer realm="test"`}},
		},
		{name: "what no document names is not there", method: "GET", target: "/admin", status: 404, reason: "operation_not_found"},
		{
			name: "another method is told which there are", method: "DELETE", target: "/orders", status: 405, reason: "method_not_allowed",
			want: http.Header{"Allow": {"GET, HEAD"}},
		},
		{
			name: "OPTIONS too: the gateway answers no preflight of its own", method: "OPTIONS", target: "/orders", status: 405, reason: "method_not_allowed",
			want: http.Header{"Allow": {"GET, HEAD"}}, header: []string{"Origin", "https://evil.example", "Access-Control-Request-Method", "GET"},
		},
		{
			name: "each fault of the input is named, none is repeated", method: "POST", target: "/customers/ann/refunds", body: `{"amount":-7,"reason":"</script><script>"}`, claims: []any{},
			status: 422, reason: "invalid_body", fields: []string{"body /amount minimum"},
		},
		{
			name: "a scope the token lacks", method: "GET", target: "/orders", claims: []any{"suspended", true}, status: 403, reason: "forbidden",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t, houseConfig{})
			header := c.header
			if c.claims != nil {
				header = append(header, "Authorization", h.token("ann", c.claims...))
			}
			w := h.ask(c.method, c.target, c.body, header...)
			p := problemOf(t, w)
			if w.Code != c.status || p.Reason != c.reason || p.Type != "urn:gatehouse:problem:"+c.reason || p.Title != http.StatusText(c.status) {
				t.Fatalf("%d %+v", w.Code, p)
			}
			for name, want := range c.want {
				if got := w.Header()[name]; !slices.Equal(got, want) {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			var fields []string
			for _, f := range p.Errors {
				fields = append(fields, f.In+" "+f.Name+f.Pointer+" "+f.Rule)
			}
			if !slices.Equal(fields, c.fields) {
				t.Errorf("faults %q, want %q", fields, c.fields)
			}
			for _, leak := range []string{"guardrail", "review", "house.yaml", "suspended", "script", "-7"} {
				if strings.Contains(w.Body.String(), leak) {
					t.Errorf("the caller reads %q in %s", leak, w.Body)
				}
			}
			if got := w.Header().Get("Gatehouse-Decision"); got == "" || got != p.Decision {
				t.Errorf("decision %q, %q", got, p.Decision)
			}
			if w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("X-Content-Type-Options") != "nosniff" ||
				w.Header().Get("Content-Length") != strconv.Itoa(w.Body.Len()) {
				t.Errorf("header %v", w.Header())
			}
		})
	}
}

func TestAProblemForHEADHasNoBody(t *testing.T) {
	h := newHouse(t, houseConfig{})
	r := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), http.MethodHead, h.start()+"/orders", nil))
	res := must[*http.Response](t)(http.DefaultTransport.RoundTrip(r))
	defer res.Body.Close()
	b := make([]byte, 1)
	if n, _ := res.Body.Read(b); res.StatusCode != 401 || n != 0 || res.ContentLength <= 0 || res.Header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("%d, %d bytes, length %d, %v", res.StatusCode, n, res.ContentLength, res.Header)
	}
	if e := h.event(); e.Out != 0 || e.Method != "HEAD" || e.Operation != "listOrders" {
		t.Fatalf("%+v", e)
	}
}

// TestAWithheldAnswerTakesItsFieldsAlong: the service's fields describe an answer
// the caller does not get, and may be the very leak that withheld it.
func TestAWithheldAnswerTakesItsFieldsAlong(t *testing.T) {
	url, _ := listening(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Set-Cookie", "session=s3cret")
		w.Header().Set("X-Debug", "select * from users")
		w.Header().Set("Etag", `"1"`)
		_, _ = w.Write([]byte(`{"password":"hunter2"}`))
	})
	h := newHouse(t, houseConfig{
		service: url, responses: validate.Enforce,
		limits: map[string][]gateway.Limit{"listOrders": {limit(t, "burst", "address", "10/s", 10), limit(t, "user", "principal", "5/min", 5)}},
	})
	w := h.ask("GET", "/orders", "", "Authorization", h.token("ann"))
	if p := problemOf(t, w); w.Code != 502 || p.Reason != "bad_response" || p.Errors != nil {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	for _, name := range []string{"Set-Cookie", "X-Debug", "Etag"} {
		if w.Header().Get(name) != "" {
			t.Errorf("%s: %s", name, w.Header().Get(name))
		}
	}
	if got := w.Header()["Ratelimit-Policy"]; len(got) != 1 || got[0] != `"burst";q=10;w=1, "user";q=5;w=60` {
		t.Errorf("RateLimit-Policy %q", got)
	}
	if got := w.Header().Get("Ratelimit"); !strings.HasPrefix(got, `"burst";r=9;t=`) || !strings.Contains(got, `, "user";r=4;t=`) {
		t.Errorf("RateLimit %q", got)
	}
	e := h.event()
	if !strings.Contains(e.Cause, "required") || strings.Contains(e.Cause, "hunter2") || e.Status != 502 || e.Reason != "bad_response" {
		t.Errorf("%+v", e)
	}
}

func TestALimitSaysWhenToComeBack(t *testing.T) {
	h := newHouse(t, houseConfig{limits: map[string][]gateway.Limit{"health": {limit(t, "slow", "address", "1/min", 1)}}})
	h.ask("GET", "/health", "")
	w := h.ask("GET", "/health", "")
	p := problemOf(t, w)
	again, err := strconv.Atoi(w.Header().Get("Retry-After"))
	if w.Code != 429 || p.Reason != "rate_limited" || err != nil || again < 50 || again > 60 {
		t.Fatalf("%d %+v, Retry-After %q", w.Code, p, w.Header().Get("Retry-After"))
	}
	if got := w.Header().Get("Ratelimit"); !strings.HasPrefix(got, `"slow";r=0;t=`) {
		t.Errorf("RateLimit %q", got)
	}
}

func TestWhatTheFrontRefusesIsRecordedToo(t *testing.T) {
	h := newHouse(t, houseConfig{})
	answer := rawAsk(t, h.start(), "GET /orders?token=1 HTTP/1.1\r\nHost: api.example\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n")
	until(t, "the event", func() bool { return len(h.record.all()) == 1 })
	e := h.event()
	if !strings.HasPrefix(answer, "HTTP/1.1 400 ") || !strings.Contains(answer, e.ID) {
		t.Fatalf("answer %q, event %+v", answer, e)
	}
	if e.Reason == "" || e.Status != 400 || e.Method != "GET" || e.Config != "d1" || e.Node != "n1" || e.Address != "127.0.0.1" || e.Path != "/orders" || e.Allow {
		t.Fatalf("%+v", e)
	}
	if _, observed, refused := h.meter.counts(); observed != 0 || refused != 1 {
		t.Fatalf("%d observed, %d refused", observed, refused)
	}
	// A record that fails does not turn a refusal into anything else.
	h.record.fail(nil, http.ErrBodyNotAllowed)
	if answer := rawAsk(t, h.start(), "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"); !strings.HasPrefix(answer, "HTTP/1.1 400 ") {
		t.Fatalf("answer %q", answer)
	}
}

// A path is a stranger's text: the record keeps the start of it only.
func TestALongPathIsCutInTheRecord(t *testing.T) {
	h := newHouse(t, houseConfig{})
	h.ask("GET", "/"+strings.Repeat("a", 5000), "")
	if e := h.event(); len(e.Path) != 256 || e.Operation != "" {
		t.Fatalf("path of %d bytes, operation %q", len(e.Path), e.Operation)
	}
}

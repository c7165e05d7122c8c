package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
	"github.com/gatehouse-api/gatehouse/internal/validate"
)

// call sends a request over the network.
func (h *house) call(url, method, target, body string, header ...string) (status int, answer http.Header, got string, err error) {
	h.t.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	r := must[*http.Request](h.t)(http.NewRequestWithContext(h.t.Context(), method, url+target, in))
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return 0, nil, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, res.Header, string(b), err
}

func TestOneEventTellsAllOfARequest(t *testing.T) {
	url, asked := listening(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, "made it")
	})
	h := newHouse(t, houseConfig{service: url})
	body := "{\n  \"reason\": \"late\",\n  \"amount\": 100\n}"
	before := time.Now()
	status, header, got, err := h.call(h.start(), "POST", "/customers/ann/refunds", body, "Authorization", h.token("ann"),
		"Content-Type", "application/json", "Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	if err != nil || status != 201 || got != "made it" {
		t.Fatalf("%d %q %v", status, got, err)
	}
	e := h.event()
	if e.ID == "" || e.ID != header.Get("Gatehouse-Decision") {
		t.Errorf("id %q, answer %q", e.ID, header.Get("Gatehouse-Decision"))
	}
	if e.Time.Before(before) || e.Duration <= 0 || e.Service <= 0 || e.Service > e.Duration {
		t.Errorf("at %v, %v, of it %v", e.Time, e.Duration, e.Service)
	}
	want := gatehouse.Event{
		ID: e.ID, Time: e.Time, Duration: e.Duration, Service: e.Service, Host: e.Host,
		Node: "n1", Config: "d1", Address: "127.0.0.1", Method: "POST", Path: "/customers/{customerId}/refunds", Protocol: "HTTP/1.1",
		API: "orders", Operation: "refund", Subject: "ann", Issuer: "main", Client: "shop", Auth: gatehouse.MethodJWT,
		Allow: true, Status: 201, Upstream: url, In: int64(len(body)), Out: 7, TraceID: "0af7651916cd43dd8448eb211c80319c",
	}
	if fmt.Sprintf("%+v", e) != fmt.Sprintf("%+v", want) {
		t.Errorf("got  %+v\nwant %+v", e, want)
	}
	if n := len(asked.all()); n != 1 {
		t.Errorf("the service was asked %d times", n)
	}
	if begun, observed, refused := h.meter.counts(); begun != 1 || observed != 1 || refused != 0 {
		t.Errorf("%d begun, %d observed, %d refused", begun, observed, refused)
	}
}

// TestTheServiceGetsWhatWasChecked: two readings of one request are how a check
// is walked around, so the service gets ours, and not the caller's token.
func TestTheServiceGetsWhatWasChecked(t *testing.T) {
	url, asked := listening(t, nil)
	h := newHouse(t, houseConfig{service: url})
	auth := h.token("ann")
	front := h.start()
	for _, c := range []struct{ name, method, target, body, uri, received string }{
		{"a query in another spelling", "GET", "/orders?q=%61%2Fb%20c&limit=%35", "", "/orders?q=a%2Fb%20c&limit=5", ""},
		{"a body with room and escapes", "POST", "/customers/ann/refunds", "{ \"reason\" :\n\"l\\u0061te\", \"amount\":7 }\n", "/customers/ann/refunds", `{"reason":"late","amount":7}`},
		{"a path in another spelling is refused", "POST", "/customers/%61nn/refunds", `{"amount":7,"reason":"late"}`, "", ""},
		{"so are two values for one name", "POST", "/customers/ann/refunds", `{"amount":7,"reason":"late","amount":7000}`, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(asked.all())
			status, _, answer, err := h.call(front, c.method, c.target, c.body, "Authorization", auth, "Content-Type", "application/json", "X-Forwarded-For", "6.6.6.6")
			all := asked.all()[before:]
			if c.uri == "" {
				if err != nil || status != 400 || len(all) != 0 {
					t.Fatalf("%d %s %v; the service got %+v", status, answer, err, all)
				}
				return
			}
			if err != nil || status != 200 || len(all) != 1 {
				t.Fatalf("%d %s %v; the service got %+v", status, answer, err, all)
			}
			got := all[0]
			if got.uri != c.uri || got.body != c.received {
				t.Errorf("the service got %s %s", got.uri, got.body)
			}
			if a := got.header.Get("Authorization"); a == auth || !strings.HasPrefix(a, "Bearer ") {
				t.Errorf("Authorization: %s", a)
			}
			if f := got.header.Get("X-Forwarded-For"); strings.Contains(f, "6.6.6.6") {
				t.Errorf("X-Forwarded-For: %s", f)
			}
		})
	}
}

func TestTheBasePathIsOurs(t *testing.T) {
	for _, c := range []struct{ name, base, prefix, want string }{
		{"a base that the service shares", "/v1", "/v1", "/v1/orders"},
		{"a base of ours alone", "/v1", "", "/orders"},
		{"another base", "/public/v1", "/internal", "/internal/orders"},
	} {
		t.Run(c.name, func(t *testing.T) {
			url, asked := listening(t, nil)
			h := newHouse(t, houseConfig{service: url, base: c.base, routes: func(r map[string]*gateway.Route) {
				for _, r := range r {
					r.Strip, r.Prefix = len(c.base), c.prefix
				}
			}})
			if w := h.ask("GET", c.base+"/orders", "", "Authorization", h.token("ann")); w.Code != 200 {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			if got := asked.all()[0].uri; got != c.want {
				t.Errorf("the service was asked for %s, want %s", got, c.want)
			}
			if w := h.ask("GET", "/orders", ""); w.Code != 404 {
				t.Errorf("without the base: %d", w.Code)
			}
		})
	}
}

func TestAnswersAreHeldToTheDocument(t *testing.T) {
	for _, c := range []struct {
		name     string
		mode     validate.Mode
		method   string
		answer   string
		status   int
		reason   string
		reported int
	}{
		{"off: anything goes", validate.Off, "GET", `{"password":"x"}`, 200, "", 0},
		{"report: it goes, and is written down", validate.Report, "GET", `{"password":"x"}`, 200, "", 1},
		{"report: what is right is not", validate.Report, "GET", `{"count":1}`, 200, "", 0},
		{"enforce: it is withheld", validate.Enforce, "GET", `{"password":"x"}`, 502, "bad_response", 0},
		{"enforce: what is right goes", validate.Enforce, "GET", `{"count":1}`, 200, "", 0},
		{"enforce: HEAD has no body to be wrong", validate.Enforce, "HEAD", "", 200, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			url, _ := listening(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, c.answer)
			})
			h := newHouse(t, houseConfig{service: url, responses: c.mode})
			status, _, got, err := h.call(h.start(), c.method, "/orders", "", "Authorization", h.token("ann"))
			if err != nil || status != c.status || status == 200 && got != c.answer {
				t.Fatalf("%d %q %v", status, got, err)
			}
			if e := h.event(); e.Reason != c.reason || len(e.Reported) != c.reported || !e.Allow {
				t.Fatalf("%+v", e)
			}
		})
	}
}

func TestAServiceThatDiesInTheAnswerIsSeenToDie(t *testing.T) {
	long := strings.Repeat("x", 64<<10)
	url := rawUpstream(t, sayAndClose(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", 2*len(long), long)))
	h := newHouse(t, houseConfig{service: url})
	status, _, got, err := h.call(h.start(), "GET", "/orders", "", "Authorization", h.token("ann"))
	if err == nil {
		t.Fatalf("an answer cut in two looks whole: %d, %d bytes", status, len(got))
	}
	if strings.Contains(got, "urn:gatehouse") {
		t.Fatal("a problem was written into the service's answer")
	}
	if e := h.event(); e.Reason != "upstream_failed" || e.Status != 200 || e.Out == 0 || e.Out > int64(len(long)) || !e.Allow {
		t.Fatalf("%+v", e)
	}
}

func TestEventStreamsComeAsTheyAreSent(t *testing.T) {
	next := make(chan string)
	url := service(t, false, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for e := range next {
			_, _ = io.WriteString(w, e)
			w.(http.Flusher).Flush()
		}
	})
	h := newHouse(t, houseConfig{service: url})
	r := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), "GET", h.start()+"/events", nil))
	r.Header.Set("Authorization", h.token("ann"))
	go func() { next <- "data: 1\n\n" }()
	res := must[*http.Response](t)(http.DefaultTransport.RoundTrip(r))
	defer res.Body.Close()
	lines := bufio.NewReader(res.Body)
	for n := 1; n <= 3; n++ {
		if line, err := lines.ReadString('\n'); err != nil || line != fmt.Sprintf("data: %d\n", n) {
			t.Fatalf("%q %v", line, err)
		}
		_, _ = lines.ReadString('\n')
		if len(h.record.all()) != 0 {
			t.Fatal("recorded before its end")
		}
		if n < 3 {
			next <- fmt.Sprintf("data: %d\n\n", n+1)
		}
	}
	close(next)
	if rest, err := io.ReadAll(lines); err != nil || len(rest) != 0 {
		t.Fatalf("%q %v", rest, err)
	}
	if e := h.event(); e.Out != 27 || e.Status != 200 || e.Operation != "events" {
		t.Fatalf("%+v", e)
	}
}

func TestWebSocketsGoThroughTheChecks(t *testing.T) {
	h := newHouse(t, houseConfig{service: webSocketService(t), routes: func(r map[string]*gateway.Route) { r["chat"].Upgrade = true }})
	front := h.start()
	if _, res, err := websocket.Dial(t.Context(), front+"/chat", nil); err == nil || res.StatusCode != 401 {
		t.Fatalf("nobody: %v", err)
	}
	with := &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {h.token("ann")}}}
	if _, res, err := websocket.Dial(t.Context(), front+"/events", with); err == nil || res.StatusCode == 101 {
		t.Fatalf("where it is not permitted: %v", err)
	}
	c, _, err := websocket.Dial(t.Context(), front+"/chat", with)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if err := c.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, b, err := c.Read(t.Context()); err != nil || string(b) != "echo hello" {
		t.Fatalf("%q %v", b, err)
	}
	if n := len(h.record.all()); n != 2 {
		t.Fatalf("%d events before the end", n)
	}
	_ = c.Write(t.Context(), websocket.MessageText, []byte("bye"))
	_, _, _ = c.Read(t.Context())
	until(t, "the event", func() bool { return len(h.record.all()) == 3 })
	if e := h.record.all()[2]; e.Status != 101 || e.Subject != "ann" || e.Operation != "chat" || e.Out == 0 {
		t.Fatalf("%+v", e)
	}
}

// An open WebSocket must not be a token that never expires.
func TestAWebSocketEndsWithTheProofItWasOpenedWith(t *testing.T) {
	h := newHouse(t, houseConfig{service: webSocketService(t), routes: func(r map[string]*gateway.Route) { r["chat"].Upgrade = true }})
	token := h.token("ann", "exp", time.Now().Add(2*time.Second).Unix())
	c, _, err := websocket.Dial(t.Context(), h.start()+"/chat", &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {token}}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, _, err := c.Read(ctx); err == nil || ctx.Err() != nil {
		t.Fatalf("the connection is open long after its token has expired: %v", err)
	}
}

// TestNothingOfOneCallerReachesTheNext sends two very different requests through
// the same pool of exchanges, again and again and side by side.
func TestNothingOfOneCallerReachesTheNext(t *testing.T) {
	url, asked := listening(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) })
	h := newHouse(t, houseConfig{service: url})
	ann, bob := h.token("ann"), h.token("bob")
	const rounds = 1000
	var wg sync.WaitGroup
	for worker := range 2 {
		wg.Go(func() {
			for range rounds / 2 {
				for _, even := range []bool{worker == 0, worker != 0} {
					if even {
						if w := h.ask("POST", "/customers/ann/refunds", `{"amount":7,"reason":"anns"}`, "Authorization", ann, "Cookie", "s=ann"); w.Code != 204 {
							t.Errorf("ann: %d %s", w.Code, w.Body)
						}
						continue
					}
					if w := h.ask("GET", "/orders?q=bobs", "", "Authorization", bob); w.Code != 204 {
						t.Errorf("bob: %d %s", w.Code, w.Body)
					}
				}
			}
			h.ask("GET", "/health", "")
		})
	}
	wg.Wait()
	subjects := map[string]int{}
	for _, e := range h.record.all() {
		subjects[e.Subject+" "+e.Operation]++
		if e.Subject == "ann" && (e.In != 28 || e.Path != "/customers/{customerId}/refunds") || e.Subject != "ann" && e.In != 0 || e.Subject == "" && (e.Issuer != "" || e.Auth != "") {
			t.Fatalf("%+v", e)
		}
	}
	if subjects["ann refund"] != rounds || subjects["bob listOrders"] != rounds || subjects[" health"] != 2 || len(subjects) != 3 {
		t.Fatalf("%v", subjects)
	}
	for _, r := range asked.all() {
		switch all := r.uri + r.body + strings.Join(r.header["Cookie"], ""); r.method {
		case "POST":
			if r.uri != "/customers/ann/refunds" || r.body != `{"amount":7,"reason":"anns"}` || strings.Contains(all, "bob") {
				t.Fatalf("%+v", r)
			}
		default:
			if strings.Contains(all, "ann") || r.body != "" || r.uri != "/health" && r.uri != "/orders?q=bobs" || r.uri == "/health" && r.header["Authorization"] != nil {
				t.Fatalf("%+v", r)
			}
		}
	}
}

// A caller who leaves while its upload is under way is recorded as that.
func TestAnUploadIsCountedAsItFlows(t *testing.T) {
	url := service(t, false, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Read", fmt.Sprint(n, err))
		w.WriteHeader(http.StatusNoContent)
	})
	h := newHouse(t, houseConfig{service: url})
	r := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), "PUT", h.start()+"/uploads", io.LimitReader(bytes.NewReader(make([]byte, 300<<10)), 300<<10)))
	r.Header.Set("Authorization", h.token("ann"))
	r.Header.Set("Content-Type", "application/octet-stream")
	res := must[*http.Response](t)(http.DefaultTransport.RoundTrip(r))
	_ = res.Body.Close()
	if e := h.event(); res.StatusCode != 204 || e.In != 300<<10 || e.Status != 204 {
		t.Fatalf("%d, %+v", res.StatusCode, e)
	}
}

func TestACallerWhoLeavesIsRecorded(t *testing.T) {
	came, leave := make(chan struct{}), make(chan struct{})
	url := service(t, false, func(_ http.ResponseWriter, r *http.Request) {
		close(came)
		select {
		case <-r.Context().Done():
		case <-leave:
		}
	})
	defer close(leave)
	h := newHouse(t, houseConfig{service: url})
	ctx, cancel := context.WithCancel(t.Context())
	r := must[*http.Request](t)(http.NewRequestWithContext(ctx, "GET", h.start()+"/health", nil))
	go func() { <-came; cancel() }()
	if res, err := http.DefaultTransport.RoundTrip(r); err == nil {
		_ = res.Body.Close()
		t.Fatal("answered")
	}
	if e := h.event(); e.Reason != "client_gone" || e.Operation != "health" {
		t.Fatalf("%+v", e)
	}
}

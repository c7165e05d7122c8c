package gateway_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/authz"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
	"github.com/gatehouse-api/gatehouse/internal/validate"
)

// newInside is a house whose listOrders and refund are served in this process,
// and whose health and upload are raw: taken as they come, open to everybody,
// with credentials that nobody has judged.
func newInside(t testing.TB, service http.HandlerFunc, edit func(*houseConfig)) *house {
	t.Helper()
	c := houseConfig{
		document: strings.Replace(houseDocument, "operationId: upload\n", "operationId: upload\n      security: []\n", 1),
		access:   func(a map[string]authz.Access) { a["upload"] = authz.Access{Public: true} },
		routes: func(r map[string]*gateway.Route) {
			for _, id := range []string{"listOrders", "refund", "health", "upload"} {
				r[id].Service, r[id].Upstreams = service, nil
			}
		},
		prepare: func(s *gateway.Snapshot) {
			for _, r := range s.Routes {
				if id := r.Op.Op().ID; id == "health" || id == "upload" {
					r.Raw, r.Accept = true, must[*authn.Accept](t)(s.Authn.Accept(authn.Ways{Anonymous: true}))
				}
			}
		},
	}
	if edit != nil {
		edit(&c)
	}
	return newHouse(t, c)
}

// seen is what a service in this process was asked.
type seen struct {
	mu   sync.Mutex
	last *http.Request
	body string
	who  *gatehouse.Principal
}

func (s *seen) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.last, s.body, s.who = r, string(b), gatehouse.PrincipalOf(r.Context())
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"count":1}`)
}

func TestAServiceInsideSeesWhatOneElsewhereWould(t *testing.T) {
	s := &seen{}
	h := newInside(t, s.ServeHTTP, nil)
	elsewhere, asked := listening(t, nil)
	away := newHouse(t, houseConfig{service: elsewhere})
	header := []string{
		"X-Forwarded-For", "6.6.6.6", "X-Real-Ip", "6.6.6.6", "Forwarded", "for=6.6.6.6", "Gatehouse-Decision", "mine", "Remote-User", "root",
		"X-Consumer-Id", "root", "Connection", "close", "User-Agent", "curl", "Cookie", "session=1", "Dpop", "x", "X-Request-Id", "abc",
	}
	here := h.ask("GET", "/orders?q=%68am&limit=5", "", append(header, "Authorization", h.token("ann"))...)
	there := away.ask("GET", "/orders?q=%68am&limit=5", "", append(header, "Authorization", away.token("ann"))...)
	if here.Code != 200 || there.Code != 200 || here.Body.String() != there.Body.String() {
		t.Fatalf("%d %s, %d %s", here.Code, here.Body, there.Code, there.Body)
	}
	got, want := s.last, asked.all()[0]
	want.header.Del("Authorization") // the internal token, which is for who cannot be told otherwise
	if got.RequestURI != want.uri || got.URL.RequestURI() != want.uri || got.Method != want.method || got.Host != "api.example" {
		t.Errorf("%s %s %s, elsewhere %s %s", got.Method, got.RequestURI, got.Host, want.method, want.uri)
	}
	for name := range want.header {
		same := got.Header.Get(name) == want.header.Get(name)
		if name == "Traceparent" || name == "Gatehouse-Decision" {
			same = len(got.Header.Get(name)) == len(want.header.Get(name))
		}
		if !same {
			t.Errorf("%s: %q, elsewhere %q", name, got.Header.Get(name), want.header.Get(name))
		}
	}
	for name := range got.Header {
		if want.header[name] == nil {
			t.Errorf("only inside: %s %q", name, got.Header[name])
		}
	}
	if got.RemoteAddr != "192.0.2.1:0" || s.who == nil || s.who.Subject != "ann" {
		t.Errorf("%s, %+v", got.RemoteAddr, s.who)
	}
	for name := range there.Header() {
		if name != "Gatehouse-Decision" && name != "Date" && here.Header().Get(name) != there.Header().Get(name) {
			t.Errorf("answer's %s: %q, from elsewhere %q", name, here.Header().Get(name), there.Header().Get(name))
		}
	}
	e := h.event()
	if e.Status != 200 || e.Out != 11 || e.Upstream != "inside" || !e.Allow || e.Subject != "ann" || e.TraceID == "" || e.Operation != "listOrders" {
		t.Errorf("%+v", e)
	}
}

func TestChecksComeBeforeAServiceInside(t *testing.T) {
	s := &seen{}
	h := newInside(t, s.ServeHTTP, func(c *houseConfig) {
		c.limits = map[string][]gateway.Limit{"listOrders": {limit(t, "burst", "address", "1/h", 1)}}
	})
	ann := h.token("ann")
	for _, c := range []struct {
		name, method, target, body, auth string
		status                           int
	}{
		{"nobody", "GET", "/orders", "", "", 401}, // which takes the one token of the limit
		{"too often", "GET", "/orders", "", ann, 429},
		{"not the owner", "POST", "/customers/bob/refunds", `{"amount":7,"reason":"late"}`, ann, 403},
		{"a wrong body", "POST", "/customers/ann/refunds", `{"amount":"7"}`, ann, 422},
		{"a rule on the body", "POST", "/customers/ann/refunds", `{"amount":700,"reason":"late"}`, ann, 403},
	} {
		header := []string{}
		if c.auth != "" {
			header = append(header, "Authorization", c.auth)
		}
		if w := h.ask(c.method, c.target, c.body, header...); w.Code != c.status || s.last != nil {
			t.Errorf("%s: %d %s; asked: %v", c.name, w.Code, w.Body, s.last != nil)
		}
	}
	h.record.fail(errors.New("disk full"), nil)
	if w := h.ask("POST", "/customers/ann/refunds", `{"amount":7,"reason":"late"}`, "Authorization", ann); w.Code != 503 || s.last != nil {
		t.Errorf("without a record: %d; asked: %v", w.Code, s.last != nil)
	}
	h.record.fail(nil, nil)
	if w := h.ask("POST", "/customers/ann/refunds", `{ "reason":"late", "amount":7 }`, "Authorization", ann); w.Code != 200 || s.body != `{"reason":"late","amount":7}` {
		t.Errorf("%d %q is not the body that was checked", w.Code, s.body)
	}
}

func TestARawServiceInsideJudgesForItself(t *testing.T) {
	s := &seen{}
	h := newInside(t, s.ServeHTTP, func(c *houseConfig) { c.settings = map[string]validate.Settings{"upload": {MaxBody: 20}} })
	w := h.ask("PUT", "/uploads?any=thing&a=%2F", `code=1&grant=%41`, "Content-Type", "x", "Authorization", "Basic YTpi", "Dpop", "proof", "X-Api-Key", "k")
	if w.Code != 400 { // two Content-Type lines
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	w = h.ask("PUT", "/uploads?any=thing&a=%2F", `code=1&grant=%41`, "Authorization", "Basic YTpi", "Dpop", "proof", "X-Api-Key", "k", "X-Forwarded-For", "6.6.6.6")
	if w.Code != 200 || s.body != `code=1&grant=%41` || s.last.URL.RawQuery != "any=thing&a=%2F" || s.last.RequestURI != "/uploads?any=thing&a=%2F" {
		t.Fatalf("%d %s: %q %q", w.Code, w.Body, s.body, s.last.RequestURI)
	}
	for name, want := range map[string]string{"Authorization": "Basic YTpi", "Dpop": "proof", "X-Api-Key": "k", "X-Forwarded-For": "192.0.2.1"} {
		if got := s.last.Header.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	s.last = nil
	if w = h.ask("PUT", "/uploads", strings.Repeat("x", 21)); w.Code != 413 || s.last != nil {
		t.Errorf("a body that says it is too long: %d", w.Code)
	}
	r := h.request("PUT", "/uploads", strings.Repeat("x", 21))
	r.ContentLength = -1
	w = newRecorder()
	h.entry.ServeHTTP(w, r)
	if p := problemOf(t, w); w.Code != 413 || p.Reason != "body_too_large" || s.body != "" && len(s.body) > 20 {
		t.Errorf("a body that turns out too long: %d %s", w.Code, w.Body)
	}
}

// What was judged must not be judged again: a raw service behind ways gets no
// credential, nor does one that is not raw.
func TestCredentialsThatWereJudgedStayBehind(t *testing.T) {
	s := &seen{}
	h := newInside(t, s.ServeHTTP, func(c *houseConfig) {
		c.prepare = func(snap *gateway.Snapshot) {
			for _, r := range snap.Routes {
				switch r.Op.Op().ID {
				case "listOrders":
					r.Raw = true
				case "health": // open, and not raw: nothing has judged them, nothing gets them
					r.Accept = must[*authn.Accept](t)(snap.Authn.Accept(authn.Ways{Anonymous: true}))
				}
			}
		}
	})
	for _, c := range []struct{ target, auth string }{{"/orders", h.token("ann")}, {"/health", "Basic YTpi"}} {
		if w := h.ask("GET", c.target, "", "Authorization", c.auth, "Dpop", "p"); w.Code != 200 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		for _, name := range []string{"Authorization", "Dpop"} {
			if v := s.last.Header[name]; v != nil {
				t.Errorf("%s: the service got %s %q", c.target, name, v)
			}
		}
	}
}

func TestAServiceInsideAddsToTheRecord(t *testing.T) {
	h := newInside(t, func(w http.ResponseWriter, r *http.Request) {
		e := gatehouse.EventOf(r.Context())
		e.Subject, e.Client, e.Auth, e.Reason, e.Cause, e.Allow = "bob", "shop", gatehouse.MethodJWT, "invalid_grant", "the code was used", false
		e.Status, e.ID, e.Address, e.Path, e.Operation = 777, "x", "x", "x", "x" // not its to say
		w.WriteHeader(400)
	}, nil)
	h.ask("GET", "/health", "")
	if e := h.event(); e.Subject != "bob" || e.Client != "shop" || e.Reason != "invalid_grant" || e.Cause != "the code was used" || e.Allow ||
		e.Status != 400 || e.ID == "x" || e.Address != "192.0.2.1" || e.Path != "/health" || e.Operation != "health" {
		t.Errorf("%+v", e)
	}
	h.ask("GET", "/orders", "", "Authorization", h.token("ann"))
	if e := h.meter.last(); e.Subject != "ann" || e.Issuer != "main" || e.Reason != "invalid_grant" {
		t.Errorf("the service renamed who the gateway has proven: %+v", e)
	}
}

// A service that leaves a goroutine behind must not write into the record, the
// answer or the body of whoever comes next.
func TestWhatAServiceInsideLeavesRunningReachesNobody(t *testing.T) {
	var event *gatehouse.Event
	var old http.ResponseWriter
	var body io.Reader
	h := newInside(t, func(w http.ResponseWriter, r *http.Request) {
		if old == nil {
			event, old, body = gatehouse.EventOf(r.Context()), w, r.Body
			return
		}
		event.Subject, event.Reason = "mallory", "stale"
		if _, err := io.WriteString(old, "stale"); err == nil {
			t.Error("an answer was written to after its end")
		}
		old.WriteHeader(500)
		old.(http.Flusher).Flush()
		if n, err := body.Read(make([]byte, 64)); n > 0 || err == nil {
			t.Error("a body was read after its request's end")
		}
		_, _ = io.WriteString(w, "mine")
	}, nil)
	h.ask("POST", "/customers/ann/refunds", `{"amount":7,"reason":"late"}`, "Authorization", h.token("ann"))
	w := h.ask("POST", "/customers/bob/refunds", `{"amount":8,"reason":"none"}`, "Authorization", h.token("bob"))
	if w.Code != 200 || w.Body.String() != "mine" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if e := h.meter.last(); e.Subject != "bob" || e.Reason != "" {
		t.Errorf("%+v", e)
	}
}

// serveBoth starts the gateway for HTTP/1.1 and, over TLS, for HTTP/2.
func (h *house) serveBoth() map[string]func(method, path, body string) (*http.Response, string, error) {
	h.t.Helper()
	s2 := httptest.NewUnstartedServer(h.entry)
	s2.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s2.EnableHTTP2 = true
	s2.StartTLS()
	h.t.Cleanup(s2.Close)
	one := &http.Client{Transport: &http.Transport{}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	two := *s2.Client()
	two.CheckRedirect = one.CheckRedirect
	h.t.Cleanup(one.CloseIdleConnections)
	ask := func(c *http.Client, base string) func(method, path, body string) (*http.Response, string, error) {
		return func(method, path, body string) (*http.Response, string, error) {
			r := must[*http.Request](h.t)(http.NewRequestWithContext(h.t.Context(), method, base+path, strings.NewReader(body)))
			res, err := c.Do(r)
			if err != nil {
				return nil, "", err
			}
			defer res.Body.Close()
			b, err := io.ReadAll(res.Body)
			return res, string(b), err
		}
	}
	return map[string]func(string, string, string) (*http.Response, string, error){"HTTP/1.1": ask(one, h.start()), "HTTP/2.0": ask(&two, s2.URL)}
}

func TestAnswersOfServicesInside(t *testing.T) {
	long := strings.Repeat("0123456789", 20<<10)
	for _, c := range []struct {
		name   string
		method string
		answer http.HandlerFunc
		status int
		body   string
		want   map[string]string // "": must be missing
		reason string            // of the event
		cut    bool
	}{
		{name: "nothing said is an empty 200", answer: func(http.ResponseWriter, *http.Request) {}, status: 200, want: map[string]string{"Content-Length": "0", "X-Content-Type-Options": "nosniff", "Content-Type": ""}},
		{name: "a short answer has its length", answer: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "ab")
			_, _ = io.WriteString(w, "c")
		}, status: 200, body: "abc", want: map[string]string{"Content-Length": "3", "Content-Type": ""}},
		{name: "a long one comes whole", answer: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, long) }, status: 200, body: long},
		{name: "a redirect and its cookies pass", answer: func(w http.ResponseWriter, r *http.Request) {
			http.SetCookie(w, &http.Cookie{Name: "__Host-a", Value: "1"})
			http.SetCookie(w, &http.Cookie{Name: "b", Value: "2"})
			http.Redirect(w, r, "https://app.example/cb?code=x", http.StatusSeeOther)
		}, method: "POST", status: 303, want: map[string]string{"Location": "https://app.example/cb?code=x", "Set-Cookie": "__Host-a=1,b=2"}},
		{name: "fields of the connection and ours stay behind", answer: func(w http.ResponseWriter, _ *http.Request) {
			for _, n := range []string{"Connection", "Keep-Alive", "Transfer-Encoding", "Server", "X-Powered-By", "Alt-Svc", "Gatehouse-Decision", "Upgrade", "Trailer", "Trailer:X"} {
				w.Header()[n] = []string{"evil"}
			}
			w.Header().Set("Content-Length", "2")
			w.Header().Set("Ratelimit", "evil")
			_, _ = io.WriteString(w, "ok")
		}, status: 200, body: "ok", want: map[string]string{
			"Connection": "", "Keep-Alive": "", "Server": "", "X-Powered-By": "", "Alt-Svc": "", "Upgrade": "", "Trailer": "", "Content-Length": "2",
		}},
		{name: "a panic is a bland 500", answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Secret", "x")
			w.WriteHeader(200)
			_, _ = io.WriteString(w, "half")
			panic("the database password is hunter2")
		}, status: 500, want: map[string]string{"Content-Type": "application/problem+json", "Secret": ""}, reason: "internal"},
		{name: "a panic behind a long answer's head cuts it off", answer: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, long)
			panic("late")
		}, cut: true, reason: "internal"},
		{name: "a field that would break its line is a 500", answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/\r\nSet-Cookie: evil=1")
		}, status: 500, want: map[string]string{"Set-Cookie": "", "Location": ""}, reason: "internal"},
		{name: "a field with a strange name is a 500", answer: func(w http.ResponseWriter, _ *http.Request) { w.Header()["x y"] = []string{"1"} }, status: 500, reason: "internal"},
		{name: "another protocol is a 500", answer: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(101) }, status: 500, reason: "internal"},
		{name: "no status is a 500", answer: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(0) }, status: 500, reason: "internal"},
		{name: "204 has no body", answer: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(204)
			if _, err := io.WriteString(w, "x"); !errors.Is(err, http.ErrBodyNotAllowed) {
				panic(err)
			}
		}, status: 204, want: map[string]string{"Content-Length": ""}},
		{name: "half of what was promised is cut off", answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "300000")
			_, _ = io.WriteString(w, long)
		}, cut: true, reason: "internal"},
		{name: "the status said first counts", answer: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404); w.WriteHeader(200) }, status: 404},
		{name: "hints pass before the answer", answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "</a.css>; rel=preload")
			w.WriteHeader(103)
			w.Header().Del("Link")
			_, _ = io.WriteString(w, "ok")
		}, status: 200, body: "ok", want: map[string]string{"Link": ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newInside(t, c.answer, nil)
			for proto, ask := range h.serveBoth() {
				method, path := "GET", "/health"
				if c.method != "" {
					method, path = "PUT", "/uploads"
				}
				res, body, err := ask(method, path, "")
				if c.cut {
					if err == nil {
						t.Errorf("%s: %d with %d bytes looks whole", proto, res.StatusCode, len(body))
					}
				} else {
					if err != nil {
						t.Fatalf("%s: %v", proto, err)
					}
					if res.Proto != proto || res.StatusCode != c.status || c.status < 500 && body != c.body {
						t.Errorf("%s: %s %d %.100q", proto, res.Proto, res.StatusCode, body)
					}
					if strings.Contains(body, "hunter2") || res.Header.Get("Gatehouse-Decision") == "evil" || len(res.Header.Get("Gatehouse-Decision")) == 0 {
						t.Errorf("%s: %v %s", proto, res.Header, body)
					}
				}
				for name, want := range c.want {
					if got := strings.Join(res.Header[name], ","); got != want {
						t.Errorf("%s: %s is %q, want %q", proto, name, got, want)
					}
				}
				until(t, "an event", func() bool { _, n, _ := h.meter.counts(); return n > 0 })
				if e := h.meter.last(); e.Reason != c.reason || c.reason != "" && e.Cause == "" {
					t.Errorf("%s: %+v", proto, e)
				}
			}
		})
	}
}

func TestAServiceInsideStreams(t *testing.T) {
	more := make(chan struct{})
	h := newInside(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: 1\n\n")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-more:
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(w, "data: 2\n\n")
	}, nil)
	url := h.start()
	res := must[*http.Response](t)(http.Get(url + "/health"))
	defer res.Body.Close()
	buf := make([]byte, 64)
	n, err := res.Body.Read(buf)
	if string(buf[:n]) != "data: 1\n\n" || err != nil {
		t.Fatalf("%q %v", buf[:n], err)
	}
	close(more)
	if rest, err := io.ReadAll(res.Body); string(rest) != "data: 2\n\n" || err != nil {
		t.Fatalf("%q %v", rest, err)
	}
	if e := h.event(); e.Out != 18 || e.Status != 200 {
		t.Errorf("%+v", e)
	}
}

func TestAnswersOfServicesInsideAreChecked(t *testing.T) {
	answer := `{"count":"many"}`
	service := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, answer)
		w.(http.Flusher).Flush()
	}
	for _, c := range []struct {
		name, answer string
		mode         validate.Mode
		status       int
		reason       string
	}{
		{"what the document allows passes", `{"count":1}`, validate.Enforce, 200, ""},
		{"what it does not is withheld", `{"count":"many"}`, validate.Enforce, 502, "bad_response"},
		{"or reported", `{"count":"many"}`, validate.Report, 200, ""},
		{"what is too long to check is withheld", `{"count":1,"x":"` + strings.Repeat("x", 1<<20) + `"}`, validate.Enforce, 502, "upstream_unchecked"},
		{"or passed where faults are reported", `{"count":1,"x":"` + strings.Repeat("x", 1<<20) + `"}`, validate.Report, 200, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newInside(t, service, func(hc *houseConfig) { hc.settings = map[string]validate.Settings{"listOrders": {Responses: c.mode}} })
			answer = c.answer
			w := h.ask("GET", "/orders", "", "Authorization", h.token("ann"))
			if e := h.event(); w.Code != c.status || e.Reason != c.reason || c.status == 200 && w.Body.String() != answer {
				t.Fatalf("%d %.200s, %s", w.Code, w.Body, e.Reason)
			}
		})
	}
}

// What is held is given after its record is written; what was begun without one
// is cut off.
func TestAnAnswerInsideWithoutARecordIsNotGiven(t *testing.T) {
	answer := ""
	h := newInside(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Set-Cookie", "session=1")
		_, _ = io.WriteString(w, answer)
	}, nil)
	h.record.fail(nil, errors.New("disk full"))
	for proto, ask := range h.serveBoth() {
		for _, answer = range []string{"token", strings.Repeat("token", 10<<10)} {
			res, body, err := ask("GET", "/health", "")
			if err != nil || res.StatusCode != 503 || !strings.Contains(body, "record_unavailable") || strings.Contains(body, "token") || res.Header["Set-Cookie"] != nil {
				t.Errorf("%s: %d bytes without a record: %v %v %.100q", proto, len(answer), res, err, body)
			}
		}
		answer = strings.Repeat("token", 100<<10)
		if res, _, err := ask("GET", "/health", ""); err == nil {
			t.Errorf("%s: a long answer without a record looks whole: %d", proto, res.StatusCode)
		}
	}
	h.record.fail(nil, nil)
	answer = strings.Repeat("token", 10<<10)
	for proto, ask := range h.serveBoth() {
		before := len(h.record.all())
		if _, body, err := ask("GET", "/health", ""); err != nil || body != answer {
			t.Errorf("%s: %d bytes, %v", proto, len(body), err)
		}
		if all := h.record.all(); len(all) != before+1 || all[before].Out != int64(len(answer)) {
			t.Errorf("%s: who has the answer must find its record there", proto)
		}
	}
}

func TestAServiceInsideIsToldWhenItIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInside(t, func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-time.After(time.Hour):
			}
		}, func(c *houseConfig) {
			routes := c.routes
			c.routes = func(r map[string]*gateway.Route) { routes(r); r["listOrders"].Timeout = 3 * time.Second }
		})
		for target, want := range map[string]time.Duration{"/orders": 3 * time.Second, "/health": 30 * time.Second} {
			begun := time.Now()
			w := h.ask("GET", target, "", "Authorization", h.token("ann"))
			if p := problemOf(t, w); w.Code != 504 || p.Reason != "upstream_timeout" || time.Since(begun) != want {
				t.Errorf("%s: %d %s after %v", target, w.Code, w.Body, time.Since(begun))
			}
		}
	})
}

func TestAServiceInsideSeesThatTheCallerLeft(t *testing.T) {
	h := newInside(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, nil)
	ctx, cancel := context.WithCancel(t.Context())
	r := h.request("GET", "/health", "").WithContext(ctx)
	cancel()
	h.entry.ServeHTTP(newRecorder(), r)
	if e := h.event(); e.Reason != "client_gone" {
		t.Errorf("%+v", e)
	}
}

func TestAServiceInsideSeesTheConnection(t *testing.T) {
	s := &seen{}
	h := newInside(t, s.ServeHTTP, nil)
	r := h.request("GET", "/health", "")
	r.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true}
	h.entry.ServeHTTP(newRecorder(), r)
	if s.last.TLS != r.TLS || s.last.Header.Get("X-Forwarded-Proto") != "https" {
		t.Errorf("%v %v", s.last.TLS, s.last.Header)
	}
}

// Rules are asked of a raw route too; what they name and nobody has read denies.
func TestRulesOnARawRouteDeny(t *testing.T) {
	s := &seen{}
	h := newInside(t, s.ServeHTTP, func(c *houseConfig) {
		c.prepare = func(snap *gateway.Snapshot) {
			for _, r := range snap.Routes {
				r.Raw = true
			}
		}
	})
	for _, c := range []struct{ method, target, body string }{
		{"POST", "/customers/ann/refunds", `{"amount":7,"reason":"late"}`}, // own names path.customerId, a rule names body.amount
		{"GET", "/orders?limit=5000", ""},
	} {
		s.last = nil
		w := h.ask(c.method, c.target, c.body, "Authorization", h.token("ann"))
		if allowed := c.method == "GET"; w.Code == 200 != allowed || s.last != nil != allowed {
			t.Errorf("%s: %d %s", c.target, w.Code, w.Body)
		}
		r := h.request(c.method, c.target, c.body)
		ann := &gatehouse.Principal{Subject: "ann", Method: gatehouse.MethodJWT, Roles: []string{"support"}, Claims: map[string]any{"sub": "ann"}}
		if _, err := h.snap.Try(r, ann, netip.MustParseAddr("192.0.2.1")); (err == nil) != (c.method == "GET") {
			t.Errorf("asked: %v", err)
		}
	}
}

func TestHeadInside(t *testing.T) {
	doc := strings.NewReplacer("get: {operationId: health", "head: {operationId: health", "operationId: upload\n", "operationId: upload\n      security: []\n").Replace(houseDocument)
	for name, write := range map[string]string{"short": "abc", "long": strings.Repeat("x", 100<<10)} {
		h := newInside(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(write)))
			_, _ = io.WriteString(w, write)
		}, func(c *houseConfig) { c.document = doc })
		res, body, err := h.serveBoth()["HTTP/1.1"]("HEAD", "/health", "")
		if err != nil || res.StatusCode != 200 || res.ContentLength != int64(len(write)) || body != "" {
			t.Errorf("%s: %v %v", name, res, err)
		}
	}
}

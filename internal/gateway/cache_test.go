package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/authz"
	"github.com/gatehouse-api/gatehouse/internal/cache"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
	"github.com/gatehouse-api/gatehouse/internal/validate"
)

const cachedDocument = `
openapi: 3.1.0
info: {title: Shop, version: "1"}
security: [oauth2: []]
paths:
  /things:
    get:
      operationId: things
      security: []
      parameters:
        - {name: q, in: query, schema: {type: string, maxLength: 20}}
        - {name: X-Shop, in: header, schema: {type: string, maxLength: 20}}
      responses: {"200": {description: ok, headers: {X-Stock: {schema: {type: integer}}}, content: {application/json: {schema: {type: object, required: [n], properties: {n: {type: integer}}}}}}}
    post: {operationId: addThing, security: [], responses: {"201": {description: ok}}}
  /mine:
    get: {operationId: mine, responses: {"200": {description: ok}}}
  /prices:
    get: {operationId: prices, responses: {"200": {description: ok}}}
components:
  securitySchemes:
    oauth2: {type: oauth2, flows: {}}
`

// cachedHouse keeps answers of all three operations.
func cachedHouse(t testing.TB, service string, more ...func(*houseConfig)) *house {
	t.Helper()
	c := houseConfig{
		service: service, document: cachedDocument,
		access: func(a map[string]authz.Access) {
			a["things"], a["addThing"] = authz.Access{Public: true}, authz.Access{Public: true}
			a["mine"], a["prices"] = authz.Access{Grant: []string{"orders:read"}}, authz.Access{Grant: []string{"orders:read"}}
		},
		routes: func(r map[string]*gateway.Route) {
			p := cache.Policy{TTL: time.Minute, StaleIfError: time.Minute}
			r["things"].Cache = &gateway.Caching{Policy: p, Vary: []string{"Accept-Language", "X-Shop"}}
			r["mine"].Cache = &gateway.Caching{Policy: p}
			r["prices"].Cache = &gateway.Caching{Policy: p, Shared: true}
			r["addThing"].Forgets = true
		},
		prepare: func(s *gateway.Snapshot) { s.CacheMemory = 64 << 20 },
	}
	for _, f := range more {
		f(&c)
	}
	return newHouse(t, c)
}

// counting is a service whose answers are numbered, so that a kept one shows.
func counting(t testing.TB, answer func(n int64, w http.ResponseWriter, r *http.Request)) (string, *asks) {
	var n atomic.Int64
	return listening(t, func(w http.ResponseWriter, r *http.Request) {
		i := n.Add(1)
		w.Header().Set("Content-Type", "application/json")
		if answer != nil {
			answer(i, w, r)
			return
		}
		fmt.Fprintf(w, `{"n":%d}`, i)
	})
}

func TestWhatComesFromTheCache(t *testing.T) {
	url, service := counting(t, nil)
	h := cachedHouse(t, url)
	first := h.ask("GET", "/things?q=a", "")
	for _, c := range []struct {
		name, method, target string
		header               []string
		body                 string
		status               int
		asked                int // requests the service has had after it
	}{
		{"the same again is given from the cache", "GET", "/things?q=a", nil, `{"n":1}`, 200, 1},
		{"HEAD has the head of what GET got", "HEAD", "/things?q=a", nil, "", 200, 1},
		{"a field the service does not get changes nothing", "GET", "/things?q=a", []string{"X-Forwarded-Host", "evil", "User-Agent", "x", "Cookie", "a=b", "X-Evil", "y"}, `{"n":1}`, 200, 1},
		{"a caller does not order the service to work", "GET", "/things?q=a", []string{"Cache-Control", "no-cache, max-age=0", "Pragma", "no-cache"}, `{"n":1}`, 200, 1},
		{"a range is answered whole", "GET", "/things?q=a", []string{"Range", "bytes=0-1"}, `{"n":1}`, 200, 1},
		{"another query is another answer", "GET", "/things?q=b", nil, `{"n":2}`, 200, 2},
		{"a header parameter is in the key", "GET", "/things?q=a", []string{"X-Shop", "7"}, `{"n":3}`, 200, 3},
		{"a field of vary is in the key", "GET", "/things?q=a", []string{"Accept-Language", "de"}, `{"n":4}`, 200, 4},
		{"what is accepted is in the key", "GET", "/things?q=a", []string{"Accept", "text/plain"}, `{"n":5}`, 200, 5},
		{"codings are cut down to what matters", "GET", "/things?q=a", []string{"Accept-Encoding", "zstd;q=0.1, deflate"}, `{"n":1}`, 200, 5},
		{"another coding is another answer", "GET", "/things?q=a", []string{"Accept-Encoding", "gzip"}, `{"n":6}`, 200, 6},
		{"a condition only the service can judge goes to it", "GET", "/things?q=a", []string{"If-Match", `"x"`}, `{"n":7}`, 200, 7},
		{"and changes nothing for others", "GET", "/things?q=a", nil, `{"n":1}`, 200, 7},
		{"a refused parameter is refused whatever is kept", "GET", "/things?q=a&evil=1", nil, "", 400, 7},
		{"a caller known by name does not get what nobody got", "GET", "/things?q=a", []string{"Authorization", h.token("ann")}, `{"n":8}`, 200, 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := h.ask(c.method, c.target, "", c.header...)
			if w.Code/100 != c.status/100 || c.status == 200 && w.Body.String() != c.body {
				t.Errorf("%d %s, want %d %s", w.Code, w.Body, c.status, c.body)
			}
			if n := len(service.all()); n != c.asked {
				t.Errorf("the service was asked %d times, want %d", n, c.asked)
			}
		})
	}
	hit := h.ask("GET", "/things?q=a", "")
	for _, name := range []string{"Content-Type", "Date", "Content-Length", "X-Content-Type-Options"} {
		if hit.Header().Get(name) != first.Header().Get(name) {
			t.Errorf("%s: %q first, %q from the cache", name, first.Header().Get(name), hit.Header().Get(name))
		}
	}
	if a, b := first.Header().Get("Gatehouse-Decision"), hit.Header().Get("Gatehouse-Decision"); a == "" || b == "" || a == b {
		t.Errorf("decisions %q and %q: each answer has its own", a, b)
	}
	if s := hit.Header().Get("Cache-Status"); !strings.HasPrefix(s, "gatehouse; hit; ttl=") || hit.Header().Get("Age") == "" {
		t.Errorf("Cache-Status %q, Age %q", s, hit.Header().Get("Age"))
	}
	if s := first.Header().Get("Cache-Status"); s != "gatehouse; fwd=uri-miss; stored" {
		t.Errorf("Cache-Status of the first: %q", s)
	}
	all := h.record.all()
	if e := all[len(all)-1]; e.Cache != "hit" || e.Upstream != "" || e.Status != 200 || e.Out != 7 || !e.Allow {
		t.Errorf("event %+v", e)
	}
	if e := all[0]; e.Cache != "miss" || e.Upstream == "" {
		t.Errorf("event of the first %+v", e)
	}
}

// What the service sees of a request whose answer is kept must be in the key.
func TestACachedServiceSeesNothingUnkeyed(t *testing.T) {
	url, service := counting(t, nil)
	h := cachedHouse(t, url)
	evil := []string{
		"X-Forwarded-Host", "evil", "X-Forwarded-For", "6.6.6.6", "Forwarded", "for=6.6.6.6", "Via", "1.1 evil", "User-Agent", "evil", "Cookie", "evil=1",
		"X-Request-Id", "evil", "Tracestate", "evil=1", "Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Baggage", "evil=1", "Te", "trailers",
		"Origin", "https://evil", "Referer", "https://evil/", "Range", "bytes=0-1", "If-None-Match", `"evil"`,
	}
	w := h.ask("GET", "/things", "", evil...)
	all := service.all()
	if len(all) != 1 {
		t.Fatalf("the service was asked %d times: %d %s", len(all), w.Code, w.Body)
	}
	for name, values := range all[0].header {
		text := strings.Join(values, ",")
		switch name {
		case "Traceparent", "Gatehouse-Decision", "X-Request-Id", "Via", "Accept-Encoding", "X-Forwarded-Host", "X-Forwarded-Proto":
		default:
			t.Errorf("the service got %s: %q", name, text)
		}
		if strings.Contains(text, "evil") || strings.Contains(text, "6.6.6.6") || strings.Contains(text, "192.0.2.1") || strings.Contains(text, "0af7651916cd43dd8448eb211c80319c") && name != "Traceparent" {
			t.Errorf("the service got %s: %q", name, text)
		}
	}
}

func TestWhoseAnswerItIs(t *testing.T) {
	url, service := counting(t, func(n int64, w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/prices") && r.Header.Get("Accept") != "application/mine" {
			w.Header().Set("Cache-Control", "public, max-age=60")
		}
		fmt.Fprintf(w, `{"n":%d}`, n)
	})
	h := cachedHouse(t, url)
	ann, bob := h.token("ann"), h.token("bob")
	for _, c := range []struct {
		name, target, caller, accept, body string
		status, asked                      int
	}{
		{"ann's answer", "/mine", ann, "", `{"n":1}`, 200, 1},
		{"is hers again", "/mine", ann, "", `{"n":1}`, 200, 1},
		{"and not bob's", "/mine", bob, "", `{"n":2}`, 200, 2},
		{"nor anybody's", "/mine", "", "", "", 401, 2},
		{"nor that of one without the grant", "/mine", h.token("eve", "roles", []string{}), "", "", 403, 2},
		{"ann with other roles is somebody else to the service", "/mine", h.token("ann", "roles", []string{"manager"}), "", `{"n":3}`, 200, 3},
		{"ann of another tenant, too", "/mine", h.token("ann", "tenant", "t2"), "", `{"n":4}`, 200, 4},
		{"what the service says is public", "/prices", ann, "", `{"n":5}`, 200, 5},
		{"is bob's as well", "/prices", bob, "", `{"n":5}`, 200, 5},
		{"but not that of one without the grant", "/prices", h.token("eve", "roles", []string{}), "", "", 403, 5},
		{"what it does not call public", "/prices", ann, "application/mine", `{"n":6}`, 200, 6},
		{"is not bob's", "/prices", bob, "application/mine", `{"n":7}`, 200, 7},
		{"but ann's", "/prices", ann, "application/mine", `{"n":6}`, 200, 7},
	} {
		t.Run(c.name, func(t *testing.T) {
			var header []string
			if c.caller != "" {
				header = append(header, "Authorization", c.caller)
			}
			if c.accept != "" {
				header = append(header, "Accept", c.accept)
			}
			w := h.ask("GET", c.target, "", header...)
			if w.Code != c.status || c.status == 200 && w.Body.String() != c.body {
				t.Errorf("%d %s, want %d %s", w.Code, w.Body, c.status, c.body)
			}
			if n := len(service.all()); n != c.asked {
				t.Errorf("the service was asked %d times, want %d", n, c.asked)
			}
		})
	}
}

func TestWhatTheServiceSaysAboutKeeping(t *testing.T) {
	old := time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)
	for _, c := range []struct {
		name   string
		status int
		header []string
		kept   bool
	}{
		{"silence is kept for the operation's time", 200, nil, true},
		{"no-store", 200, []string{"Cache-Control", "no-store"}, false},
		{"private", 200, []string{"Cache-Control", "private, max-age=60"}, false},
		{"private for a field", 200, []string{"Cache-Control", `private="X-User", max-age=60`}, false},
		{"a cookie is one caller's", 200, []string{"Set-Cookie", "s=1", "Cache-Control", "public, max-age=60"}, false},
		{"a nonce for one caller's proofs", 200, []string{"Dpop-Nonce", "n1", "Cache-Control", "public, max-age=60"}, false},
		{"varies by everything", 200, []string{"Vary", "Accept, *"}, false},
		{"varies by what it does not get", 200, []string{"Vary", "Cookie"}, true},
		{"no-cache without a validator", 200, []string{"Cache-Control", "no-cache"}, false},
		{"max-age=0", 200, []string{"Cache-Control", "max-age=0, must-revalidate"}, false},
		{"two max-age: the shorter", 200, []string{"Cache-Control", "max-age=60, max-age=0, must-revalidate"}, false},
		{"a max-age that is no number", 200, []string{"Cache-Control", "max-age=1h, must-revalidate"}, false},
		{"s-maxage before max-age", 200, []string{"Cache-Control", "max-age=0, s-maxage=60"}, true},
		{"a max-age beyond all numbers", 200, []string{"Cache-Control", "max-age=99999999999999999999"}, true},
		{"no-store within quotes is none", 200, []string{"Cache-Control", `x="no-store, private", max-age=60`}, true},
		{"older than it may be", 200, []string{"Age", "61", "Cache-Control", "max-age=60, must-revalidate"}, false},
		{"made longer ago than it may be", 200, []string{"Date", old, "Cache-Control", "max-age=60, must-revalidate"}, false},
		{"expired", 200, []string{"Expires", old, "Cache-Control", "must-revalidate"}, false},
		{"Expires: 0", 200, []string{"Expires", "0", "Cache-Control", "must-revalidate"}, false},
		{"404 for a time it says", 404, []string{"Cache-Control", "max-age=60"}, true},
		{"404 that says nothing", 404, nil, false},
		{"301 that says nothing", 301, []string{"Location", "/x"}, true},
		{"302 that says nothing", 302, []string{"Location", "/x"}, false},
		{"a part", 206, []string{"Content-Range", "bytes 0-1/7", "Cache-Control", "max-age=60"}, false},
		{"a refusal", 403, []string{"Cache-Control", "max-age=60"}, false},
		{"a failure", 500, []string{"Cache-Control", "max-age=60"}, false},
		{"events", 200, []string{"Content-Type", "text/event-stream", "Cache-Control", "max-age=60"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			url, service := counting(t, func(n int64, w http.ResponseWriter, _ *http.Request) {
				for i := 0; i < len(c.header); i += 2 {
					w.Header().Set(c.header[i], c.header[i+1])
				}
				w.WriteHeader(c.status)
				fmt.Fprintf(w, `{"n":%d}`, n)
			})
			h := cachedHouse(t, url)
			for i := range 3 {
				if w := h.ask("GET", "/things", ""); w.Code != c.status || !c.kept && w.Body.String() != fmt.Sprintf(`{"n":%d}`, i+1) {
					t.Errorf("%d %s", w.Code, w.Body)
				}
			}
			if n := len(service.all()); n == 1 != c.kept || n != 1 && n != 3 {
				t.Errorf("the service was asked %d times of 3", n)
			}
		})
	}
}

func TestAnAnswerIsConfirmed(t *testing.T) {
	url, service := counting(t, func(n int64, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-cache")
		w.Header().Set("Etag", `"v1"`)
		w.Header().Set("X-Turn", fmt.Sprint(n))
		if r.Header.Get("If-None-Match") == `"v1"` {
			w.WriteHeader(304)
			return
		}
		_, _ = io.WriteString(w, `{"n":1}`)
	})
	h := cachedHouse(t, url)
	_ = h.ask("GET", "/things", "")
	w := h.ask("GET", "/things", "")
	if w.Code != 200 || w.Body.String() != `{"n":1}` || w.Header().Get("X-Turn") != "2" || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	if s := w.Header().Get("Cache-Status"); !strings.HasPrefix(s, "gatehouse; fwd=stale; fwd-status=304") {
		t.Errorf("Cache-Status %q", s)
	}
	for _, tags := range []string{`"v1"`, `"x", W/"v1"`, "*"} {
		if w := h.ask("GET", "/things", "", "If-None-Match", tags); w.Code != 304 || w.Body.Len() != 0 || w.Header().Get("Etag") != `"v1"` || w.Header().Get("Content-Type") != "" {
			t.Errorf("%s: %d %v %s", tags, w.Code, w.Header(), w.Body)
		}
	}
	if w := h.ask("GET", "/things", "", "If-None-Match", `"other"`); w.Code != 200 {
		t.Errorf("%d for another tag", w.Code)
	}
	if all := service.all(); all[0].header.Get("If-None-Match") != "" || all[1].header.Get("If-None-Match") != `"v1"` {
		t.Errorf("%v then %v", all[0].header, all[1].header)
	}
}

func TestWhatConfirmsAnAnswerIsCheckedAsTheAnswerWas(t *testing.T) {
	for _, c := range []struct {
		name, control string
		mode          validate.Mode
		status        int
		stock         string
		reported      bool
	}{
		{"a field the document does not allow is withheld", "no-cache", validate.Enforce, 502, "", false},
		{"then the answer before may stand in", "max-age=0", validate.Enforce, 200, "1", false},
		{"or it is reported", "no-cache", validate.Report, 200, "many", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			url, _ := counting(t, func(n int64, w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Cache-Control", c.control)
				w.Header().Set("Etag", `"v1"`)
				w.Header().Set("X-Stock", []string{"1", "2", "many"}[min(n, 3)-1])
				if r.Header.Get("If-None-Match") == `"v1"` {
					w.WriteHeader(304)
					return
				}
				_, _ = io.WriteString(w, `{"n":1}`)
			})
			h := cachedHouse(t, url, func(hc *houseConfig) {
				hc.settings = map[string]validate.Settings{"things": {Responses: c.mode}}
			})
			_ = h.ask("GET", "/things", "")
			if w := h.ask("GET", "/things", ""); w.Code != 200 || w.Header().Get("X-Stock") != "2" {
				t.Fatalf("%d %v", w.Code, w.Header())
			}
			if w := h.ask("GET", "/things", ""); w.Code != c.status || c.stock == "many" && w.Header().Get("X-Stock") != c.stock || c.stock != "many" && w.Header().Get("X-Stock") == "many" {
				t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
			}
			all := h.record.all()
			if got := len(all[len(all)-1].Reported) > 0; got != c.reported {
				t.Errorf("reported %t", got)
			}
		})
	}
}

func TestAServiceThatFailsIsStoodInFor(t *testing.T) {
	var failing atomic.Int64
	url, _ := counting(t, func(_ int64, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=0")
		switch failing.Load() {
		case 1:
			w.WriteHeader(503)
		case 2:
			nc, _, _ := http.NewResponseController(w).Hijack()
			_ = nc.Close()
		case 3:
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"n":`)
			panic(http.ErrAbortHandler)
		case 4:
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"secret":"not what the document says"}`)
		default:
			_, _ = io.WriteString(w, `{"n":1}`)
		}
	})
	h := cachedHouse(t, url, func(c *houseConfig) {
		c.settings = map[string]validate.Settings{"things": {Responses: validate.Enforce}}
	})
	_ = h.ask("GET", "/things", "")
	for n, name := range []string{"503", "a closed connection", "an answer that breaks off", "an answer that is not what the document says"} {
		failing.Store(int64(n + 1))
		w := h.ask("GET", "/things", "")
		if w.Code != 200 || w.Body.String() != `{"n":1}` || !strings.Contains(w.Header().Get("Cache-Status"), "stale-if-error") {
			t.Errorf("%s: %d %s %v", name, w.Code, w.Body, w.Header())
		}
		all := h.record.all()
		if e := all[len(all)-1]; e.Cache != "stale" || e.Cause == "" || e.Reason != "" {
			t.Errorf("%s: event %+v", name, e)
		}
		if w := h.ask("GET", "/things?q=new", ""); w.Code < 500 {
			t.Errorf("%s: %d for what is not kept", name, w.Code)
		}
	}
}

func TestAChangeIsSeenAtOnce(t *testing.T) {
	var version, hold atomic.Int64
	release, reached := make(chan struct{}), make(chan struct{})
	url, service := counting(t, func(_ int64, w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			version.Add(1)
			w.WriteHeader(201)
			return
		}
		v := version.Load()
		if hold.CompareAndSwap(1, 0) {
			close(reached)
			<-release
		}
		fmt.Fprintf(w, `{"n":%d}`, v)
	})
	h := cachedHouse(t, url)
	_, _ = h.ask("GET", "/things?q=a", ""), h.ask("GET", "/things?q=b", "")
	if w := h.ask("POST", "/things", ""); w.Code != 201 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	for _, target := range []string{"/things?q=a", "/things?q=b"} {
		if w := h.ask("GET", target, ""); w.Body.String() != `{"n":1}` {
			t.Errorf("%s: %s after the change", target, w.Body)
		}
	}
	// One that was asked for before the change, and comes after it, is not kept.
	hold.Store(1)
	var wg sync.WaitGroup
	wg.Go(func() { _ = h.ask("GET", "/things?q=c", "") })
	<-reached
	_ = h.ask("POST", "/things", "")
	close(release)
	wg.Wait()
	before := len(service.all())
	if w := h.ask("GET", "/things?q=c", ""); w.Body.String() != `{"n":2}` || len(service.all()) != before+1 {
		t.Errorf("%s after a change that overtook the answer", w.Body)
	}
}

func TestWhatTheServiceTakesBackIsGivenToNobody(t *testing.T) {
	for _, c := range []struct {
		name, control string
		status        int
	}{
		{"it is private now", "private, max-age=60", 200},
		{"it is kept for one caller only now", "max-age=60", 200},
		{"it must not be kept any more", "no-store", 200},
		{"it is gone", "no-store", 404},
	} {
		t.Run(c.name, func(t *testing.T) {
			url, _ := counting(t, func(n int64, w http.ResponseWriter, _ *http.Request) {
				switch n {
				case 1:
					w.Header().Set("Cache-Control", "public, max-age=0, stale-if-error=3600, stale-while-revalidate=3600")
				case 2:
					w.Header().Set("Cache-Control", c.control)
					w.WriteHeader(c.status)
				default:
					w.WriteHeader(503)
				}
				_, _ = fmt.Fprintf(w, `{"n":%d}`, n)
			})
			h := cachedHouse(t, url)
			for i, who := range []string{"ann", "bob"} {
				if w := h.ask("GET", "/prices", "", "Authorization", h.token(who)); w.Body.String() != fmt.Sprintf(`{"n":%d}`, i+1) {
					t.Fatalf("%s: %d %s", who, w.Code, w.Body)
				}
			}
			if w := h.ask("GET", "/prices", "", "Authorization", h.token("eve")); w.Code != 503 {
				t.Errorf("eve gets what was taken back: %d %s", w.Code, w.Body)
			}
		})
	}
}

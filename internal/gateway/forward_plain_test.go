package gateway_test

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/authz"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// headRecorder takes heads without a map, as http1's own lane does.
type headRecorder struct {
	*httptest.ResponseRecorder

	heads  int
	fields []http1.Field // kept, which nobody may
}

func (h *headRecorder) WriteHead(status int, fields []http1.Field, length int64) {
	h.heads++
	h.fields = fields
	for _, f := range fields {
		h.Header().Add(f.Name, f.Value)
	}
	if length >= 0 {
		h.Header().Set("Content-Length", strconv.FormatInt(length, 10))
	}
	h.WriteHeader(status)
}

// WriteHeader takes the final status.
func (h *headRecorder) WriteHeader(status int) {
	if status >= 200 {
		h.ResponseRecorder.WriteHeader(status)
	}
}

// Whatever the writer takes, the caller gets the same answer.
func TestAPlainAnswerIsTheSameWithoutAMap(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
	for _, c := range []struct {
		name, method, says string
		slow               bool // by the map, even if the writer takes heads
	}{
		{"one with a length", "GET", ok + "Content-Type: text/plain\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\nEtag: \"1\"\r\n\r\nok", false},
		{"one in chunks", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", false},
		{"one until the connection's end", "GET", "HTTP/1.1 200 OK\r\n\r\nok", false},
		{"fields that stay behind", "GET", ok + "Server: x\r\nX-Powered-By: y\r\nAlt-Svc: h3=\":1\"\r\nKeep-Alive: timeout=5\r\nConnection: keep-alive\r\n\r\nok", false},
		{"fields that are ours", "GET", ok + "Ratelimit: no\r\nRatelimit-Policy: no\r\nGatehouse-Decision: no\r\nGatehouse-X: no\r\n\r\nok", false},
		{"fields that come twice", "GET", ok + "Set-Cookie: a=1\r\nVary: A\r\nSet-Cookie: b=2\r\nVary: B\r\nX-A: 1\r\nX-A: 2\r\n\r\nok", false},
		{"a service that says nosniff itself", "GET", ok + "X-Content-Type-Options: nosniff\r\n\r\nok", false},
		{"a field Connection names", "GET", ok + "Connection: X-Hop\r\nX-Hop: 1\r\nX-Stay: 1\r\n\r\nok", true},
		{"trailers", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n", true},
		{"trailers nobody announced", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n", false},
		{"events", "GET", ok + "Content-Type: text/event-stream; charset=utf-8\r\n\r\nok", true},
		{"early hints before it", "GET", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok + "\r\nok", true},
		{"one without content", "GET", "HTTP/1.1 204 No Content\r\n\r\n", false},
		{"one not modified", "GET", "HTTP/1.1 304 Not Modified\r\nEtag: \"1\"\r\n\r\n", false},
		{"one not modified that tells the length", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", false},
		{"one to HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", false},
		{"one to HEAD without a length", "HEAD", "HTTP/1.1 200 OK\r\n\r\n", false},
		{"a failure", "GET", "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 3\r\n\r\n", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t, houseConfig{
				service: rawUpstream(t, sayAndClose(c.says)), document: strings.Replace(houseDocument, "  /health:\n    get:", "  /health:\n    head: {operationId: head, security: [], responses: {\"200\": {description: ok}}}\n    get:", 1),
				limits: map[string][]gateway.Limit{"health": {limit(t, "burst", "address", "10/s", 10)}},
				access: func(a map[string]authz.Access) { a["head"] = a["health"] },
			})
			mapped, plain := &headRecorder{ResponseRecorder: httptest.NewRecorder()}, &headRecorder{ResponseRecorder: httptest.NewRecorder()}
			h.entry.ServeHTTP(struct{ http.ResponseWriter }{mapped}, h.request(c.method, "/health", ""))
			h.entry.ServeHTTP(plain, h.request(c.method, "/health", ""))
			if (plain.heads == 0) != c.slow {
				t.Errorf("%d heads were written without a map", plain.heads)
			}
			want, got := told(t, mapped.Header()), told(t, plain.Header())
			if mapped.Code != plain.Code || mapped.Body.String() != plain.Body.String() || !maps.EqualFunc(want, got, slices.Equal) {
				t.Errorf("by map   %d %q %v\nwithout %d %q %v", mapped.Code, mapped.Body, want, plain.Code, plain.Body, got)
			}
			if e := h.record.all(); len(e) != 2 || e[0].Status != e[1].Status || e[0].Out != e[1].Out {
				t.Errorf("recorded: %+v", e)
			}
		})
	}
}

// told is what the fields tell that must be alike in both.
func told(t *testing.T, h http.Header) http.Header {
	t.Helper()
	h = h.Clone()
	if len(h["Gatehouse-Decision"]) != 1 || len(h["Gatehouse-Decision"][0]) != 26 {
		t.Errorf("decision %q", h["Gatehouse-Decision"])
	}
	delete(h, "Gatehouse-Decision")
	if limits := h["Ratelimit"]; len(limits) > 0 && limits[0] != "no" {
		h.Set("Ratelimit", strconv.Itoa(len(limits))) // it is one less each time
	}
	maps.DeleteFunc(h, func(_ string, v []string) bool { return len(v) == 0 })
	return h
}

// keeper is a Recorder that keeps what it must not.
type keeper struct{ kept *gatehouse.Event }

func (k *keeper) Append(e *gatehouse.Event) error { k.kept = e; return nil }
func (k *keeper) Err() error                      { return nil }

// Under the race detector whoever keeps what is pooled finds nonsense in it.
func TestWhatIsPooledIsPoisoned(t *testing.T) {
	if !underRace {
		t.Skip("only under the race detector")
	}
	k := &keeper{}
	h := newHouse(t, houseConfig{service: answering(t), record: k})
	for range 2 {
		w := &headRecorder{ResponseRecorder: httptest.NewRecorder()}
		h.entry.ServeHTTP(w, h.request("GET", "/health", ""))
		if seen := w.Header().Get("Gatehouse-Decision"); len(seen) != 26 {
			t.Fatalf("decision %q", seen) // a string lives for ever
		}
		if w.heads != 1 || w.fields[0].Name != "POISONED" {
			t.Errorf("the fields are still there: %v", w.fields)
		}
		if k.kept.ID != "POISONED" || k.kept.Host != "" {
			t.Errorf("the event is still there: %+v", k.kept)
		}
	}
}

var _ gateway.Recorder = (*keeper)(nil)

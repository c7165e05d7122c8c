package attack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"
)

// told is the word the owner is told, while it is read.
type told struct {
	mu   sync.Mutex
	last string
}

func (w *told) ask(_, word string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = word
}

func (w *told) word() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// localhost may be two addresses, of which a server has one.
func TestOpenIsTheAddressSomebodyListensAt(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	has := netip.MustParseAddrPort(s.Listener.Addr().String())
	none := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), has.Port())
	for _, c := range []struct {
		places []netip.AddrPort
		want   netip.AddrPort
	}{{[]netip.AddrPort{none, has}, has}, {[]netip.AddrPort{has, none}, has}, {[]netip.AddrPort{none}, none}} {
		if got := open(t.Context(), c.places); got != c.want {
			t.Errorf("of %v %v is taken, want %v", c.places, got, c.want)
		}
	}
}

func TestATargetElsewhereProvesWhoseItIs(t *testing.T) {
	for name, tt := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request, word string)
		want   bool
	}{
		"the word": {func(w http.ResponseWriter, _ *http.Request, word string) { _, _ = fmt.Fprintln(w, word) }, true},
		"another word": {func(w http.ResponseWriter, _ *http.Request, _ string) {
			_, _ = fmt.Fprintln(w, "gatehouse-attack-aaaaaaaaaaaaaaaaaaaaaaaaaa")
		}, false},
		"a page for everything": {func(w http.ResponseWriter, _ *http.Request, _ string) { _, _ = fmt.Fprintln(w, "<h1>Welcome</h1>") }, false},
		"a page with the word":  {func(w http.ResponseWriter, _ *http.Request, word string) { _, _ = fmt.Fprintln(w, "you sent", word) }, false},
		"an error with the word": {func(w http.ResponseWriter, _ *http.Request, word string) {
			w.WriteHeader(http.StatusNotFound)
			_, _ = fmt.Fprintln(w, word)
		}, false},
		"a redirect to who has the word": {func(w http.ResponseWriter, r *http.Request, word string) {
			if r.URL.Path == "/word" {
				_, _ = fmt.Fprintln(w, word)
				return
			}
			http.Redirect(w, r, "/word", http.StatusFound)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			out := &told{}
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { tt.answer(w, r, out.word()) }))
			defer srv.Close()
			left := 100
			target, own, err := newTarget(t.Context(), srv.URL, "", nil, &left)
			if err != nil || !own {
				t.Fatal(own, err)
			}
			err = target.owned(t.Context(), out.ask, 300*time.Millisecond)
			if (err == nil) != tt.want {
				t.Errorf("got %v", err)
			}
			if err != nil && !errors.Is(err, ErrNotProved) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A name that leads to an address elsewhere, or to both, is not this machine's.
func TestOnlyLoopbackIsOnThisMachine(t *testing.T) {
	left := 1
	for target, want := range map[string]bool{"http://127.0.0.1:1": true, "http://[::1]:1": true, "https://localhost:1": true, "http://192.0.2.1:1": false, "http://[2001:db8::1]:1": false} {
		if _, own, err := newTarget(t.Context(), target, "", nil, &left); own != want || err != nil && target != "https://localhost:1" {
			t.Errorf("%s: %v %v", target, own, err)
		}
	}
	for _, target := range []string{"file:///etc/passwd", "http://", "ftp://127.0.0.1", "127.0.0.1:80"} {
		if _, _, err := newTarget(t.Context(), target, "", nil, &left); err == nil {
			t.Errorf("%s is taken", target)
		}
	}
	if _, own, err := newTarget(t.Context(), "https://api.example:443", "192.0.2.1:443", nil, &left); own || err != nil {
		t.Errorf("the address that is connected to decides: %v %v", own, err)
	}
}

func TestSamplesFitTheirSchemas(t *testing.T) {
	for schema, want := range map[string]string{
		`{type: string, pattern: "^ord_[0-9]{4,8}$"}`:           `^ord_[0-9]{4}$`,
		`{type: string, pattern: "^[a-z][a-z0-9-]*$"}`:          `^a$`,
		`{type: string, minLength: 3}`:                          `^aaa$`,
		`{type: string, format: uuid}`:                          `^[0-9a-f-]{36}$`,
		`{type: string, enum: [open, shipped]}`:                 `^open$`,
		`{type: integer, minimum: 7}`:                           `^7$`,
		`{$ref: "#/components/schemas/Name"}`:                   `^Ann$`,
		`{$ref: "#/components/schemas/Loop"}`:                   `.*`,
		`{type: object, properties: {a: {const: b}}}`:           `^map\[a:b\]$`,
		`{type: array, items: {type: boolean}}`:                 `^\[true\]$`,
		`{allOf: [{$ref: "#/components/schemas/Name"}]}`:        `^Ann$`,
		`{type: [string, "null"], pattern: "^(?:x|y){2,}z+$"}`:  `^xxz$`,
		`{type: string, pattern: "^(?=never valid in RE2).*$"}`: `^a$`,
	} {
		d := document{}
		if err := yaml.Unmarshal([]byte(`{components: {schemas: {Name: {type: string, example: Ann}, Loop: {type: object, properties: {l: {$ref: "#/components/schemas/Loop"}}}}}}`), &d.root); err != nil {
			t.Fatal(err)
		}
		var s any
		if err := yaml.Unmarshal([]byte(schema), &s); err != nil {
			t.Fatal(schema, err)
		}
		if got := fmt.Sprint(d.sample(d.object(s), 0)); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s: %q, want %s", schema, got, want)
		}
	}
}

func TestPayloadsAreWrittenWhereTheyBelong(t *testing.T) {
	file := filepath.Join(t.TempDir(), "openapi.yaml")
	err := os.WriteFile(file, []byte(`openapi: 3.1.0
servers: [{url: https://example.com/v1/}]
paths:
  /a/{id}:
    parameters: [{name: id, in: path, required: true, schema: {type: string, example: x}}]
    post:
      parameters: [{name: q, in: query, schema: {type: string}}, {name: X-T, in: header, schema: {type: string}}]
      requestBody: {content: {application/json: {schema: {type: object, properties: {n: {type: object, properties: {m: {type: string, example: y}}}}}}}}
    delete: {}
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	ops, err := readDocument(file, "")
	if err != nil || len(ops) != 1 {
		t.Fatal(len(ops), err)
	}
	o := ops[0]
	var got []string
	for _, p := range o.places() {
		r := o.request(&p, `' "/`, "")
		got = append(got, strings.Join([]string{p.String(), r.target, r.header.Get("X-T"), r.body}, " "))
	}
	want := []string{
		`query q /v1/a/x?q=%27%20%22%2F  {"n":{"m":"y"}}`,
		`header X-T /v1/a/x ' "/ {"n":{"m":"y"}}`,
		`path id /v1/a/%27%20%22%2F  {"n":{"m":"y"}}`,
		`header Referer /v1/a/x  {"n":{"m":"y"}}`,
		`header User-Agent /v1/a/x  {"n":{"m":"y"}}`,
		`body /n/m /v1/a/x  {"n":{"m":"' \"/"}}`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if r := o.request(&place{in: "body", at: []string{"n", "m"}}, `<"`, "escapes"); r.body != `{"n":{"m":"\u003c\u0022"}}` {
		t.Errorf("got %s", r.body)
	}
	if r := o.request(&place{in: "query", name: "q"}, `<`, "twice"); r.target != "/v1/a/x?q=%253C" {
		t.Errorf("got %s", r.target)
	}
}

// What decides nothing must not count as protection.
func TestADeadServiceIsNoProtection(t *testing.T) {
	for _, reason := range []string{"upstream_failed", "upstream_timeout", "overloaded", "starting", "internal", "record_unavailable", "policy_unavailable", "tokens_unavailable", "too_many_bodies"} {
		if p := practiceOf(reason); p != "" {
			t.Errorf("%s counts as %s", reason, p)
		}
	}
	for reason, want := range map[string]string{
		"credentials_missing": "1", "token_audience": "1", "forbidden": "2", "insufficient_scope": "2", "rate_limited": "9", "banned": "10", "harmful_input": "8", "invalid_query": "8",
		"bad_response": "8", "operation_not_found": "5", "ambiguous_path": "5", "method_unknown": "5",
	} {
		if p := practiceOf(reason); !strings.HasPrefix(p, want+" ") {
			t.Errorf("%s counts as %q", reason, p)
		}
	}
}

// A try that could not be made at the gateway is undecided, not stopped.
func TestWhatCannotBeTriedIsUndecided(t *testing.T) {
	bare := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer bare.Close()
	dead := httptest.NewServer(nil)
	dead.Close()
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"no gateway":       {nil, Undecided},
		"a dead service":   {problemOf("upstream_failed", 502), Undecided},
		"a refusal":        {problemOf("forbidden", 403), Refused},
		"the same as bare": {func(http.ResponseWriter, *http.Request) {}, GotThrough},
		"something else":   {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, Harmless},
	} {
		t.Run(name, func(t *testing.T) {
			through := dead.URL
			if tt.answer != nil {
				srv := httptest.NewServer(tt.answer)
				defer srv.Close()
				through = srv.URL
			}
			left := 100
			r := &runner{progress: func(string, int) {}}
			var err1, err2 error
			r.bare, _, err1 = newTarget(t.Context(), bare.URL, "", nil, &left)
			r.through, _, err2 = newTarget(t.Context(), through, "", nil, &left)
			if err1 != nil || err2 != nil {
				t.Fatal(err1, err2)
			}
			r.try(t.Context(), rowAccess, "x", "y", func(ctx context.Context, s *session) (string, error) {
				a, err := s.raw(ctx, request{method: "GET", target: "/"})
				if err != nil || !a.ok() {
					return "", err
				}
				return "opened", nil
			})
			if len(r.tries) != 1 || r.tries[0].Verdict != tt.want {
				t.Fatalf("got %+v", r.tries[0])
			}
			report := newReport(r, 2, 0)
			if err := report.consult(t.Context(), r, nil, time.Time{}); err != nil {
				t.Fatal(err)
			}
			if want := tt.want != Refused && tt.want != Harmless; report.Failed() != want {
				t.Errorf("failed is %v", !want)
			}
		})
	}
}

func problemOf(reason string, status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"reason":%q,"decision":"01ZZ"}`, reason)
	}
}

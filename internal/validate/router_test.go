package validate_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/validate"
)

func newRouter(t testing.TB, routes ...string) *validate.Router {
	t.Helper()
	r := new(validate.Router)
	for i, route := range routes {
		host, rest, _ := strings.Cut(route, " ")
		method, path, _ := strings.Cut(rest, " ")
		if err := r.Add(strings.Trim(host, "*"), method, path, i); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func TestRouter(t *testing.T) {
	r := newRouter(t,
		"* GET /orders",                          // 0
		"* POST /orders",                         // 1
		"* GET /orders/{id}",                     // 2
		"* GET /orders/mine",                     // 3
		"* DELETE /orders/{id}",                  // 4
		"* GET /orders/{id}/items/{item}",        // 5
		"* GET /orders/mine/summary",             // 6
		"* GET /files/{name}.json",               // 7
		"* GET /files/{name}",                    // 8
		"* GET /repos/{owner}/compare/{a}...{b}", // 9
		"api.example GET /orders/{id}",           // 10
		"* GET /",                                // 11
		"* GET /dir/",                            // 12
		"* GET /caf%C3%A9/{x}",                   // 13
		"* GET /dates/{y}-{m}-{d}",               // 14
		"* HEAD /files/{name}",                   // 15
		"* GET /{any}/tail",                      // 16
		"* GET /things/{id}:cancel",              // 17
	)
	tests := []struct {
		name, host, method, path string
		route                    int // -1: 404, -2: 405, -3: 400
		params                   string
	}{
		{"a literal path", "h", "GET", "/orders", 0, ""},
		{"the method chooses", "h", "POST", "/orders", 1, ""},
		{"a parameter", "h", "GET", "/orders/17", 2, "17"},
		{"a literal beats a parameter", "h", "GET", "/orders/mine", 3, ""},
		{"a literal keeps its path even when only the parameter has the method", "h", "DELETE", "/orders/mine", -2, "GET,HEAD"},
		{"two parameters", "h", "GET", "/orders/1/items/2", 5, "1|2"},
		{"a literal branch that ends nowhere is left again", "h", "GET", "/orders/mine/items/2", 5, "mine|2"},
		{"a literal branch that ends is kept", "h", "GET", "/orders/mine/summary", 6, ""},
		{"a suffix", "h", "GET", "/files/a.json", 7, "a"},
		{"a suffix alone is no value", "h", "GET", "/files/.json", 8, ".json"},
		{"two parameters in one segment", "h", "GET", "/repos/o/compare/main...dev", 9, "o|main|dev"},
		{"a segment that can be cut in two ways is refused", "h", "GET", "/repos/o/compare/a....b", -1, ""},
		{"three parameters in one segment", "h", "GET", "/dates/2026-11-23", 14, "2026|11|23"},
		{"four parts for three parameters are refused", "h", "GET", "/dates/2026-11-23-4", -1, ""},
		{"a verb after a colon", "h", "GET", "/things/5:cancel", 17, "5"},
		{"a host of its own wins", "api.example", "GET", "/orders/17", 10, "17"},
		{"a host is compared without case and port", "API.Example:8443", "GET", "/orders/17", 10, "17"},
		{"a host falls back to the routes of every host", "api.example", "GET", "/orders", 0, ""},
		{"the root", "h", "GET", "/", 11, ""},
		{"a trailing slash is another path", "h", "GET", "/orders/", -1, ""},
		{"a trailing slash that is declared", "h", "GET", "/dir/", 12, ""},
		{"the same without it is not", "h", "GET", "/dir", -1, ""},
		{"a parameter is never empty", "h", "GET", "/orders//items/2", -3, "empty_segment"},
		{"a value is decoded", "h", "GET", "/orders/a%20b", 2, "a b"},
		{"a literal is compared decoded", "h", "GET", "/caf%c3%a9/1", 13, "1"},
		{"HEAD is answered by GET", "h", "HEAD", "/orders", 0, ""},
		{"a HEAD of its own wins", "h", "HEAD", "/files/a", 15, "a"},
		{"OPTIONS is refused unless declared", "h", "OPTIONS", "/orders", -2, "GET,HEAD,POST"},
		{"an unknown path", "h", "GET", "/nope", -1, ""},
		{"a path is compared with case", "h", "GET", "/Orders", -1, ""},
		{"a parameter in front", "h", "GET", "/x/tail", 16, "x"},

		{"an encoded slash is refused", "h", "GET", "/orders/a%2fb", -3, "percent_encoding"},
		{"an encoded backslash is refused", "h", "GET", "/orders/a%5Cb", -3, "percent_encoding"},
		{"a backslash is refused", "h", "GET", `/orders\1`, -3, "syntax"},
		{"dot segments are refused", "h", "GET", "/orders/../admin", -3, "dot_segment"},
		{"a single dot is refused", "h", "GET", "/orders/.", -3, "dot_segment"},
		{"encoded dot segments are refused", "h", "GET", "/orders/%2e%2e/admin", -3, "percent_encoding"},
		{"an encoded letter is refused", "h", "GET", "/%6frders", -3, "percent_encoding"},
		{"double encoding is refused", "h", "GET", "/orders/%252e%252e", -3, "percent_encoding"},
		{"a lone percent value passes", "h", "GET", "/orders/100%25", 2, "100%"},
		{"NUL is refused", "h", "GET", "/orders/a%00", -3, "control_character"},
		{"an encoded line break is refused", "h", "GET", "/orders/a%0d%0ab", -3, "control_character"},
		{"DEL is refused", "h", "GET", "/orders/a%7f", -3, "control_character"},
		{"an invalid escape is refused", "h", "GET", "/orders/%zz", -3, "percent_encoding"},
		{"a cut escape is refused", "h", "GET", "/orders/a%2", -3, "percent_encoding"},
		{"overlong UTF-8 is refused", "h", "GET", "/orders/%c0%af", -3, "utf8"},
		{"a surrogate in UTF-8 is refused", "h", "GET", "/orders/%ed%a0%80", -3, "utf8"},
		{"bare non-ASCII is refused", "h", "GET", "/orders/\xe9", -3, "syntax"},
		{"a semicolon is refused", "h", "GET", "/orders;x=1", -3, "syntax"},
		{"an encoded semicolon is refused", "h", "GET", "/orders/1%3bx", -3, "percent_encoding"},
		{"a space is refused", "h", "GET", "/orders/a b", -3, "syntax"},
		{"a relative path is refused", "h", "GET", "orders", -3, "syntax"},
		{"an empty path is refused", "h", "GET", "", -3, "syntax"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			route, params, err := r.Match(tt.host, tt.method, tt.path, nil)
			if tt.route >= 0 {
				if err != nil || route != tt.route || strings.Join(params, "|") != tt.params {
					t.Fatalf("got route %d params %q err %v, want route %d params %q", route, params, err, tt.route, tt.params)
				}
				return
			}
			p, ok := errors.AsType[*gatehouse.Problem](err)
			if !ok {
				t.Fatalf("got route %d err %v, want a problem", route, err)
			}
			switch want := [...]gatehouse.Kind{gatehouse.NotFound, gatehouse.MethodNotAllowed, gatehouse.Malformed}[-1-tt.route]; {
			case p.Kind != want:
				t.Fatalf("got %v (%d), want status %d", p, p.Kind.Status(), want.Status())
			case want == gatehouse.MethodNotAllowed && strings.Join(p.Allow, ",") != tt.params:
				t.Fatalf("Allow %q, want %q", p.Allow, tt.params)
			case want == gatehouse.Malformed && p.Fields[0].Rule != tt.params:
				t.Fatalf("rule %q, want %q", p.Fields[0].Rule, tt.params)
			}
		})
	}
}

func TestZeroRouterRefuses(t *testing.T) {
	_, _, err := new(validate.Router).Match("h", "GET", "/", nil)
	if p := gatehouse.AsProblem(err); p == nil || p.Kind != gatehouse.NotFound {
		t.Fatalf("got %v, want operation_not_found", err)
	}
}

func TestRouterRefusesTemplates(t *testing.T) {
	for _, template := range []string{"", "orders", "/a//b", "/{a}{b}", "/{}", "/{a", "/a/../b", "/%zz", "/a;b", "/a b", "/%2e"} {
		if err := new(validate.Router).Add("", "GET", template, 0); err == nil {
			t.Errorf("template %q was taken", template)
		}
	}
	if err := new(validate.Router).Add("", "GET", "/a", -1); err == nil {
		t.Error("a negative route was taken")
	}
}

func TestRouterNamesConflicts(t *testing.T) {
	r := newRouter(t, "* GET /a/{x}", "* GET /{kind}/me", "* GET /b/{x}")
	err := r.Add("", "GET", "/a/{y}", 9)
	c, ok := errors.AsType[*validate.Conflict](err)
	if !ok || c.First != 0 || c.Second != 9 || c.FirstPath != "/a/{x}" || c.SecondPath != "/a/{y}" {
		t.Fatalf("got %v, want a conflict of routes 0 and 9", err)
	}
	if err := r.Add("other.example", "GET", "/a/{y}", 9); err != nil {
		t.Fatalf("the same template on another host: %v", err)
	}
	var got []string
	for _, c := range r.Overlaps() {
		got = append(got, c.FirstPath+" "+c.SecondPath)
	}
	if want := []string{"/a/{x} /{kind}/me", "/b/{x} /{kind}/me"}; !slices.Equal(got, want) {
		t.Fatalf("overlaps %q, want %q", got, want)
	}
	if o := newRouter(t, "* GET /a/me", "* GET /a/{x}", "* GET /{k}/{x}").Overlaps(); len(o) != 0 {
		t.Fatalf("templates of which one is more specific are no overlap: %v", o)
	}
}

// naive is the specification of the matcher in its shortest form: the segments of
// every template are compared one by one, the most specific template wins.
func naive(templates []string, path string) (best int, params []string) {
	best = -1
	bestRank := ""
	got := strings.Split(path[1:], "/")
	for i, tpl := range templates {
		want := strings.Split(tpl[1:], "/")
		if len(want) != len(got) {
			continue
		}
		var values []string
		rank, ok := "", true
		for k := range want {
			value, err := url.PathUnescape(got[k])
			if err != nil {
				return -1, nil
			}
			if strings.HasPrefix(want[k], "{") {
				rank += "1"
				values = append(values, value)
				ok = ok && value != ""
			} else {
				rank += "2"
				ok = ok && value == want[k]
			}
		}
		if ok && rank > bestRank {
			best, params, bestRank = i, values, rank
		}
	}
	return best, params
}

func FuzzRouter(f *testing.F) {
	f.Add(uint64(1), "/a/b/c")
	f.Add(uint64(2), "/a/%20/c")
	f.Add(uint64(3), "/b/a/b/a")
	f.Fuzz(func(t *testing.T, seed uint64, path string) {
		rng := rand.New(rand.NewPCG(seed, 0))
		words := []string{"a", "b", "c", "{p}"}
		r := new(validate.Router)
		var templates []string
		for range 1 + rng.IntN(12) {
			segments := make([]string, 1+rng.IntN(4))
			for i := range segments {
				segments[i] = words[rng.IntN(len(words))]
			}
			tpl := "/" + strings.Join(segments, "/")
			if err := r.Add("", "GET", tpl, len(templates)); err == nil {
				templates = append(templates, tpl)
			}
		}
		for _, p := range []string{path, "/" + words[rng.IntN(3)] + "/" + words[rng.IntN(3)] + "/" + words[rng.IntN(3)]} {
			if validate.CheckPath(p) != nil {
				continue
			}
			route, params, err := r.Match("h", "GET", p, nil)
			want, wantParams := naive(templates, p)
			if (err == nil) != (want >= 0) || err == nil && (route != want || !slices.Equal(params, wantParams)) {
				t.Fatalf("%q in %q: got %d %q (%v), want %d %q", p, templates, route, params, err, want, wantParams)
			}
		}
	})
}

func FuzzPath(f *testing.F) {
	for _, s := range []string{"/", "/a%20b", "/%c3%a9", "/%2e%2e/", "/a%00", "/%252e", "/a;b", "//", "/a/./b", "/%e2%82%ac", "/a%2", `/\`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if validate.CheckPath(s) != nil {
			return
		}
		u, err := url.Parse(s)
		if err != nil || u.Host != "" || u.EscapedPath() != s && u.Path == "" {
			t.Fatalf("%q passed, net/url reads %+v (%v)", s, u, err)
		}
		plain := u.Path
		if strings.Count(plain, "/") != strings.Count(s, "/") || strings.ContainsAny(plain, "\\;\x00\r\n") {
			t.Fatalf("%q passed and decodes to %q", s, plain)
		}
		for seg := range strings.SplitSeq(plain, "/") {
			if seg == "." || seg == ".." {
				t.Fatalf("%q passed with a dot segment", s)
			}
		}
	})
}

// tenThousand fills a router like an organisation with many APIs.
func tenThousand(tb testing.TB) (*validate.Router, []string) {
	tb.Helper()
	r := new(validate.Router)
	var paths []string
	n := 0
	add := func(method, tpl, path string) {
		if err := r.Add("", method, tpl, n); err != nil {
			tb.Fatal(err)
		}
		n++
		paths = append(paths, path)
	}
	for api := range 50 {
		for res := range 40 {
			base := fmt.Sprintf("/v1/api%d/resource%d", api, res)
			add("GET", base, base)
			add("POST", base, base)
			add("GET", base+"/{id}", base+"/0c1f7f43-5bd2-4b0e-9d5b-6a6f0a3f9b11")
			add("PUT", base+"/{id}", base+"/17")
			add("GET", base+"/{id}/children/{child}", base+"/17/children/4711")
		}
	}
	if n != 10_000 {
		tb.Fatal(n)
	}
	return r, paths
}

func TestAllocsRouter(t *testing.T) {
	r, paths := tenThousand(t)
	params := make([]string, 0, 8)
	for _, p := range paths[:5] {
		if n := testing.AllocsPerRun(100, func() {
			if _, _, err := r.Match("api.example", "GET", p, params); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations, want none", p, n)
		}
	}
}

func BenchmarkRouter10k(b *testing.B) {
	r, paths := tenThousand(b)
	params := make([]string, 0, 8)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i = (i + 7919) % len(paths)
		if _, _, err := r.Match("api.example", "GET", paths[i], params); err != nil {
			b.Fatal(err)
		}
	}
}

func TestWhatIsClosedIsNotReachedByAnotherRoute(t *testing.T) {
	r := newRouter(t, "* GET /users/{id}", "* POST /users/{id}", "* GET /a/{x}", "* POST /a/b", "* GET /both", "* GET /{kind}/{id}/log")
	for _, c := range []string{"GET /users/export", "GET /a/b", "GET /both", "HEAD /users/{id}", "GET /users/{id}/log", "PUT /users/{id}"} {
		method, path, _ := strings.Cut(c, " ")
		if err := r.Close("", method, path); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Close("h", "GET", "/late"); err != nil {
		t.Fatal(err)
	}
	if err := r.Add("h", "GET", "/late", 7); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, method, path string
		route              int
		reason             string
	}{
		{"a closed literal is not the parameter's", "GET", "/users/export", -1, "operation_not_found"},
		{"nor by HEAD", "HEAD", "/users/export", -1, "operation_not_found"},
		{"nor by another method", "POST", "/users/export", -1, "operation_not_found"},
		{"beside a method that is open it is a method not taken", "GET", "/a/b", -1, "method_not_allowed"},
		{"the open method is served", "POST", "/a/b", 3, ""},
		{"the parameter is served", "GET", "/users/1", 0, ""},
		{"a closed HEAD is not answered by GET", "HEAD", "/users/1", -1, "method_not_allowed"},
		{"a closed branch is not another's", "GET", "/users/1/log", -1, "operation_not_found"},
		{"that other is served", "GET", "/groups/1/log", 5, ""},
		{"a route of the same template is served", "GET", "/both", 4, ""},
		{"in either order", "GET", "/late", 7, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			route, _, err := r.Match("h", tt.method, tt.path, nil)
			if p, _ := errors.AsType[*gatehouse.Problem](err); route != tt.route || tt.reason != "" && (p == nil || p.Reason != tt.reason) {
				t.Fatalf("got %d %v, want %d %s", route, err, tt.route, tt.reason)
			}
			if p, ok := errors.AsType[*gatehouse.Problem](err); ok && (slices.Contains(p.Allow, "PUT") || tt.path == "/a/b" && len(p.Allow) != 1) {
				t.Fatalf("closed methods are told: %v", p.Allow)
			}
		})
	}
	for _, c := range r.Overlaps() {
		if c.First < 0 || c.Second < 0 {
			t.Errorf("a closed route among the overlaps: %v", c)
		}
	}
}

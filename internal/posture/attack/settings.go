package attack

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

var (
	stackTrace = regexp.MustCompile(`goroutine \d+ \[\w+|\S+\.go:\d+|Traceback \(most recent call last\)|\bat [\w.$]+\([\w.]+\.java:\d+\)|\bin /[\w/.-]+\.php on line \d+`)
	listing    = regexp.MustCompile(`<pre>\s*<a href|<title>Index of /|Directory listing for`)
	named      = regexp.MustCompile(`[0-9]+\.[0-9]+|(?i)express|php|asp|go net`)
)

// defaultPages are what frameworks and developers leave behind.
var defaultPages = []string{
	"/debug/env", "/debug/pprof/", "/debug/vars", "/actuator/env", "/actuator/heapdump", "/server-status", "/.env", "/.git/config", "/phpinfo.php", "/metrics",
	"/swagger.json", "/console", "/admin/", "/graphql", "/wp-login.php",
}

var folders = []string{"/files/", "/static/", "/uploads/", "/backup/", "/assets/", "/public/"}

// settings: what a server tells that should not, and leaves open that it should not.
func (r *runner) settings(ctx context.Context) {
	shows := func(re *regexp.Regexp, what string) func(*answer) string {
		return func(a *answer) string {
			if m := re.FindString(a.body); m != "" && !a.refused() {
				return what + cut(m, 60)
			}
			return ""
		}
	}
	once := func(name, variant string, req request, judge func(*answer) string) {
		r.try(ctx, rowSettings, name, variant, func(ctx context.Context, s *session) (string, error) {
			a, err := s.send(ctx, req)
			if err != nil {
				return "", err
			}
			return judge(a), nil
		})
	}
	for _, o := range r.ops {
		if o.bodyType == "application/json" {
			req := o.request(nil, "", "")
			req.body = "{"
			once(fmt.Sprintf("%s %s: a stack trace", o.method, o.path), "a body cut short", req, shows(stackTrace, "a line of the program: "))
		}
		for _, p := range o.places() {
			if p.in != "path" && (p.in != "header" || !slices.Contains(commonHeaders, p.name)) {
				once(o.called(p, "the database's error in the answer"), "a quote", o.request(&p, o.at(p)+"'", ""), shows(databaseError, ""))
			}
		}
	}
	missing := request{method: http.MethodGet, target: "/zq-there-is-no-such-page"}
	none, err := r.bare.send(ctx, request{method: missing.method, target: missing.target, header: http.Header{}})
	if r.ended(ctx, err) || err != nil {
		return
	}
	for _, path := range defaultPages {
		once("a page that frameworks leave behind", path, request{method: http.MethodGet, target: path}, func(a *answer) string {
			if a.ok() && a.body != none.body {
				return "200: " + cut(a.body, 60)
			}
			return ""
		})
	}
	for _, path := range folders {
		once("the list of a folder", path, request{method: http.MethodGet, target: path}, shows(listing, "a list: "))
	}
	once("TRACE tells headers", "TRACE", request{method: http.MethodTrace, target: "/", header: http.Header{"X-Planted": {"zq-secret-of-a-browser"}}}, func(a *answer) string {
		if a.ok() && strings.Contains(a.body, "zq-secret-of-a-browser") {
			return "the answer repeats the request's headers"
		}
		return ""
	})
	for _, o := range r.ops {
		if o.method != http.MethodGet || strings.HasSuffix(o.path, "/events") {
			continue
		}
		right := o.request(nil, "", "")
		once("name and version of the software", o.method+" "+o.path, right, func(a *answer) string {
			for _, h := range []string{"Server", "X-Powered-By", "X-Aspnet-Version", "X-Runtime"} {
				if v := a.header.Get(h); named.MatchString(v) {
					return h + ": " + v
				}
			}
			return ""
		})
		if o.html {
			once("a page whose type browsers may guess", o.method+" "+o.path, right, func(a *answer) string {
				if a.ok() && a.header.Get("X-Content-Type-Options") == "" {
					return "no X-Content-Type-Options"
				}
				return ""
			})
		}
		r.crossOrigin(ctx, o)
	}
}

// crossOrigin: a page of any site reads answers with its visitor's cookie (CORS).
func (r *runner) crossOrigin(ctx context.Context, o *operation) {
	const evil = "https://evil.example"
	r.try(ctx, rowSettings, "pages of other origins read answers, with cookies", o.method+" "+o.path, func(ctx context.Context, s *session) (string, error) {
		req := o.request(nil, "", "")
		req.header.Set("Origin", evil)
		req.header.Set("Cookie", cookieOf("alice"))
		a, err := s.raw(ctx, req)
		if err != nil || !a.ok() {
			return "", err
		}
		if a.header.Get("Access-Control-Allow-Origin") == evil && a.header.Get("Access-Control-Allow-Credentials") == "true" {
			return "Access-Control-Allow-Origin: " + evil + ", with credentials", nil
		}
		return "", nil
	})
}

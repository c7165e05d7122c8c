package plan

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/config"
)

// A TestResult is what one of the config's tests came to.
type TestResult struct {
	Name   string `json:"name"`
	Place  string `json:"place"`
	Passed bool   `json:"passed"`
	Want   string `json:"want"`
	Got    string `json:"got"`
	// Why tells what decided, for people.
	Why []gatehouse.Reason `json:"why,omitempty"`
}

// SelfTest is an error when one of the config's own tests fails.
func (p *Plan) SelfTest(ctx context.Context) error {
	var errs []error
	for _, r := range p.RunTests(ctx) {
		if !r.Passed {
			errs = append(errs, fmt.Errorf("%s: the test %q fails: wanted %s, got %s", r.Place, r.Name, r.Want, r.Got))
		}
	}
	return errors.Join(errs...)
}

// RunTests asks the compiled config its own tests. Nothing is sent anywhere.
func (p *Plan) RunTests(ctx context.Context) []TestResult {
	out := make([]TestResult, 0, len(p.File.Tests))
	for i := range p.File.Tests {
		out = append(out, p.runTest(ctx, &p.File.Tests[i]))
	}
	return out
}

func (p *Plan) runTest(ctx context.Context, t *config.Test) TestResult {
	r := TestResult{Name: t.Name, Place: t.Place.String(), Want: want(t)}
	q, err := p.testRequest(ctx, t)
	if err != nil {
		r.Got = err.Error()
		return r
	}
	from, err := netip.ParseAddr(orElse(t.From, "127.0.0.1"))
	if err != nil {
		r.Got = err.Error()
		return r
	}
	_, err = p.Snapshot.Try(q, p.testCaller(t.As), from)
	if err == nil {
		r.Got = "allow"
		r.Passed = t.Expect.Allow
		return r
	}
	problem := gatehouse.AsProblem(err)
	r.Got = fmt.Sprintf("%d %s", problem.Kind.Status(), problem.Reason)
	if problem.Decision != nil {
		r.Why = problem.Decision.Reasons
	}
	for _, f := range problem.Fields {
		r.Why = append(r.Why, gatehouse.Reason{Rule: f.Rule, Effect: gatehouse.EffectDeny, Text: strings.TrimSpace(f.In + " " + f.Name + f.Pointer + ": " + f.Detail)})
	}
	denied := t.Expect.Deny || t.Expect.Status == problem.Kind.Status()
	rule := t.Rule == "" || slices.ContainsFunc(r.Why, func(w gatehouse.Reason) bool {
		return w.Rule == t.Rule || strings.HasSuffix(w.Rule, "/"+t.Rule)
	})
	r.Passed = denied && rule && (t.Reason == "" || t.Reason == problem.Reason)
	if !rule {
		var names []string
		for _, w := range r.Why {
			names = append(names, w.Rule)
		}
		r.Got += " by " + orElse(strings.Join(names, ", "), "no rule")
	}
	return r
}

func want(t *config.Test) string {
	s := "allow"
	if t.Expect.Deny {
		s = "deny"
	} else if t.Expect.Status != 0 {
		s = fmt.Sprint(t.Expect.Status)
	}
	if t.Reason != "" {
		s += " " + t.Reason
	}
	if t.Rule != "" {
		s += " by " + t.Rule
	}
	return s
}

func (p *Plan) testCaller(c *config.Caller) *gatehouse.Principal {
	if c == nil {
		return &gatehouse.Principal{}
	}
	issuer := c.Issuer
	if issuer == "" {
		switch {
		case c.Method == string(gatehouse.MethodAPIKey):
			issuer = "keys"
		case c.Method == string(gatehouse.MethodMTLS):
			issuer = "mtls"
		case len(p.File.Issuers) == 1:
			issuer = slices.Collect(maps.Keys(p.File.Issuers))[0]
		}
	}
	who := &gatehouse.Principal{
		Subject: orElse(c.Subject, "test"), Issuer: issuer, Client: c.Client, Tenant: c.Tenant, Roles: config.Values(c.Roles),
		Scopes: config.Values(c.Scopes), Method: gatehouse.Method(orElse(c.Method, string(gatehouse.MethodJWT))),
	}
	if who.Method == gatehouse.MethodJWT { // only a token has claims, and it has sub
		who.Claims = map[string]any{"sub": who.Subject}
		maps.Copy(who.Claims, c.Claims)
	}
	return who
}

// Example finds, among the config's own tests, a request that operation ("api.id")
// allows, and who sends it: nil for nobody. Without such a test r is nil.
func (p *Plan) Example(ctx context.Context, operation string) (r *http.Request, as *config.Caller, err error) {
	for i := range p.File.Tests {
		if t := &p.File.Tests[i]; t.Call.Value == operation && t.Expect.Allow {
			r, err = p.testRequest(ctx, t)
			return r, t.As, err
		}
	}
	return nil, nil, nil
}

// testRequest writes the request a test describes.
func (p *Plan) testRequest(ctx context.Context, t *config.Test) (*http.Request, error) {
	api, id, ok := strings.Cut(t.Call.Value, ".")
	if !ok {
		return nil, fmt.Errorf("call is %q; expected api.operation", t.Call)
	}
	at := slices.IndexFunc(p.access, func(a Access) bool { return a.API == api && a.op.ID == id })
	if at < 0 {
		var known []string
		for _, a := range p.access {
			known = append(known, a.API+"."+a.op.ID)
		}
		return nil, fmt.Errorf("there is no operation %s%s", t.Call, config.DidYouMean(t.Call.Value, known))
	}
	op := p.access[at].op
	path := op.Path
	for name, v := range t.Path {
		if !strings.Contains(path, "{"+name+"}") {
			return nil, fmt.Errorf("%s has no path parameter %q", op.Path, name)
		}
		path = strings.ReplaceAll(path, "{"+name+"}", url.PathEscape(fmt.Sprint(v)))
	}
	if strings.ContainsAny(path, "{}") {
		return nil, fmt.Errorf("the path parameters of %s are not all given", op.Path)
	}
	target := path
	if q := testValues(t.Query).Encode(); q != "" {
		target += "?" + strings.ReplaceAll(q, "+", "%20")
	}
	host := "localhost"
	if hosts := p.access[at].api.Hosts; len(hosts) > 0 {
		host = hosts[0]
	}
	var body []byte
	if t.Body != nil {
		var err error
		if body, err = json.Marshal(t.Body); err != nil {
			return nil, fmt.Errorf("body: %w", err)
		}
	}
	r, err := http.NewRequestWithContext(ctx, op.Method, "https://"+host+target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.RequestURI = target
	if t.Body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for name, values := range testValues(t.Header) {
		r.Header[http.CanonicalHeaderKey(name)] = values
	}
	for name, v := range t.Cookie {
		r.AddCookie(&http.Cookie{Name: name, Value: fmt.Sprint(v)}) //nolint:gosec // a request's cookie has no attributes
	}
	return r, nil
}

// testValues writes parameters as a form does: a list is the name again and again.
func testValues(in map[string]any) url.Values {
	out := url.Values{}
	for name, v := range in {
		if list, ok := v.([]any); ok {
			for _, item := range list {
				out.Add(name, fmt.Sprint(item))
			}
			continue
		}
		out.Set(name, fmt.Sprint(v))
	}
	return out
}

package pages_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth/pages"
)

// posts are the paths of all forms there are, so that a new one is tested, too.
func (s *site) posts() []string {
	paths := []string{"/consent"} // not a route of the pages, but read by Form
	for pattern := range s.pages.Routes() {
		if path, ok := strings.CutPrefix(pattern, "POST "); ok {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}

func TestFormsOfOthers(t *testing.T) {
	s := newSite(t, nil)
	s.alice(t)
	b := s.browser(t)
	b.signIn("alice", goodPassword)
	token := fieldsOf(find(b.get("/account").doc, "form", "action", "/account/signout")).Get("csrf")
	stranger := s.browser(t)
	theirs := fieldsOf(find(stranger.get("/signin").doc, "form", "action", "/signin")).Get("csrf")

	tests := []struct {
		name   string
		header http.Header
		form   url.Values
		query  string
		want   int
	}{
		{"a form of another site is refused", http.Header{"Sec-Fetch-Site": {"cross-site"}, "Origin": {"https://evil.example.org"}}, url.Values{"csrf": {token}}, "", 403},
		{"a form of a neighbour's subdomain is refused", http.Header{"Sec-Fetch-Site": {"same-site"}, "Origin": {"https://blog.example.com"}}, url.Values{"csrf": {token}}, "", 403},
		{"a browser without Sec-Fetch-Site is judged by Origin", http.Header{"Sec-Fetch-Site": {""}, "Origin": {"https://evil.example.org"}}, url.Values{"csrf": {token}}, "", 403},
		{"another port of this host is another origin", http.Header{"Sec-Fetch-Site": {""}, "Origin": {origin + ":8443"}}, url.Values{"csrf": {token}}, "", 403},
		{"the same host without TLS is another origin", http.Header{"Sec-Fetch-Site": {""}, "Origin": {"http://" + host}}, url.Values{"csrf": {token}}, "", 403},
		{"an origin that hides itself is refused", http.Header{"Sec-Fetch-Site": {""}, "Origin": {"null"}}, url.Values{"csrf": {token}}, "", 403},
		{"who says nothing of where the form came from is refused", http.Header{"Sec-Fetch-Site": {""}, "Origin": {""}}, url.Values{"csrf": {token}}, "", 403},
		{"two origins are refused", http.Header{"Origin": {origin, "https://evil.example.org"}}, url.Values{"csrf": {token}}, "", 403},
		{"Sec-Fetch-Site does not excuse another Origin", http.Header{"Sec-Fetch-Site": {"same-origin"}, "Origin": {"https://evil.example.org"}}, url.Values{"csrf": {token}}, "", 403},
		{"a form without our token is refused", nil, url.Values{}, "", 403},
		{"the token of another browser is refused", nil, url.Values{"csrf": {theirs}}, "", 403},
		{"a token that is cut is refused", nil, url.Values{"csrf": {token[:len(token)-2]}}, "", 403},
		{"a field the page does not have is refused", nil, url.Values{"csrf": {token}, "admin": {"1"}}, "", 400},
		{"a field given twice is refused", nil, url.Values{"csrf": {token, token}}, "", 400},
		{"a field in the query is refused", nil, url.Values{"csrf": {token}}, "?name=x", 400},
		{"another media type is refused", http.Header{"Content-Type": {"text/plain"}}, url.Values{"csrf": {token}}, "", 400},
		{"JSON is refused", http.Header{"Content-Type": {"application/json"}}, url.Values{"csrf": {token}}, "", 400},
		{"a form without end is refused", nil, url.Values{"csrf": {strings.Repeat("x", 70<<10)}}, "", 413},
		{"what is not text is refused", nil, url.Values{"csrf": {"\xff\xfe"}}, "", 400},
	}
	for _, path := range s.posts() {
		for _, tt := range tests {
			t.Run(path+": "+tt.name, func(t *testing.T) {
				b.header = tt.header
				defer func() { b.header = http.Header{} }()
				v := b.post(path+tt.query, tt.form)
				if v.status != tt.want {
					t.Fatalf("status %d, want %d\n%s", v.status, tt.want, v.body)
				}
				if v.header.Get("Set-Cookie") != "" {
					t.Error("it set a cookie")
				}
				v.says(t, tt.want, "01TESTDECISION")
			})
		}
	}
	b.get("/account").says(t, 200, "alice") // none of it did anything
}

// Somebody else's browser must not be signed in as the attacker, nor go on with
// what the attacker began.
func TestLoginCSRF(t *testing.T) {
	s := newSite(t, nil)
	s.alice(t)
	mallory, victim := s.browser(t), s.browser(t)
	s.wait(mallory, "r1", pages.Waiting{})
	form := fieldsOf(find(mallory.get("/signin?request=r1").doc, "form", "action", "/signin"))
	form.Set("name", "alice")
	form.Set("password", goodPassword)

	victim.post("/signin", form).says(t, 403, "does not belong to this browser") // no cookie at all
	victim.get("/signin")
	victim.post("/signin", form).says(t, 403, "does not belong to this browser")
	victim.get("/signin?request=r1").says(t, 404, "was started in another browser")
	form.Set("csrf", fieldsOf(find(victim.get("/signin").doc, "form", "action", "/signin")).Get("csrf"))
	victim.post("/signin", form).says(t, 404)
	if victim.cookie("__Host-gatehouse") != "" {
		t.Error("signed in")
	}
}

func TestSessionFixation(t *testing.T) {
	s := newSite(t, nil)
	s.alice(t)
	planted := base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	b := s.browser(t)
	b.get("/signin")
	u, _ := url.Parse(origin)
	b.jar.SetCookies(u, []*http.Cookie{{Name: "__Host-gatehouse", Value: planted, Path: "/", Secure: true}})
	b.signIn("alice", goodPassword).leads(t, "/account")
	if got := b.cookie("__Host-gatehouse"); got == planted || got == "" {
		t.Errorf("the session has the cookie %q", got)
	}
	if _, _, err := s.Session(t.Context(), planted); err == nil {
		t.Error("the planted cookie has a session")
	}
	t.Run("of two cookies of one name neither is taken", func(t *testing.T) {
		own := b.cookie("__Host-gatehouse")
		other := s.browser(t)
		for _, order := range [][2]string{{planted, own}, {own, planted}, {own, own}} {
			other.header.Set("Cookie", "__Host-gatehouse="+order[0]+"; __Host-gatehouse="+order[1])
			other.get("/account").leads(t, "/signin?to=")
		}
		other.header.Set("Cookie", "__Host-gatehouse="+own)
		other.get("/account").says(t, 200)
	})
	t.Run("a session's value in the query or a header opens nothing", func(t *testing.T) {
		own := b.cookie("__Host-gatehouse")
		other := s.browser(t)
		other.get("/account?__Host-gatehouse="+own).leads(t, "/signin?to=")
		other.header.Set("Authorization", "Bearer "+own)
		other.get("/account").leads(t, "/signin?to=")
	})
	t.Run("to sign in again changes the cookie", func(t *testing.T) {
		own := b.cookie("__Host-gatehouse")
		s.wait(b, "again", pages.Waiting{Reauth: true})
		b.submit(b.get("/signin?request=again"), "/signin", url.Values{"password": {goodPassword}}).leads(t, "/continue")
		if b.cookie("__Host-gatehouse") == own {
			t.Error("the cookie is as before")
		}
	})
}

func TestNoEnumeration(t *testing.T) {
	s := newSite(t, nil)
	s.alice(t)
	locked := s.create(t, identity.NewUser{Name: "larry", Password: secret(goodPassword)})
	if err := s.Lock(t.Context(), "root", locked.ID, "test"); err != nil {
		t.Fatal(err)
	}
	s.create(t, identity.NewUser{Name: "nopassword"})
	answer := func(name, password string) string {
		s.exec(t, `DELETE FROM throttles`)
		b := s.browser(t)
		v := b.submit(b.get("/signin"), "/signin", url.Values{"name": {name}, "password": {password}})
		v.header.Del("Date")
		v.header.Del("Content-Length") // the name stands in the page
		if ev := s.events.last(); ev.Reason != "sign_in_refused" || ev.Subject != "" {
			t.Errorf("%s: the event says %q of %q", name, ev.Reason, ev.Subject)
		}
		return fmt.Sprint(v.status, v.header, strings.ReplaceAll(withoutToken(v.body), name, "NAME"))
	}
	want := answer("nobody", "wrong")
	for name, password := range map[string]string{"alice": "wrong", "larry": goodPassword, "nopassword": "wrong", "no such name at all!": "wrong", "alice@example.com": ""} {
		if got := answer(name, password); got != want {
			t.Errorf("%s is answered differently:\n%s\n%s", name, got, want)
		}
	}
	t.Run("who guesses too often is told to wait, whether the name exists or not", func(t *testing.T) {
		for _, name := range []string{"alice", "nobody"} {
			s.exec(t, `DELETE FROM throttles`)
			b := s.browser(t)
			var v *view
			for range 8 {
				v = b.signIn(name, "wrong")
			}
			v.says(t, 429, "Too many attempts. Wait")
			if v.header.Get("Retry-After") == "" || s.events.last().Reason != "sign_in_throttled" {
				t.Errorf("%s: %v, event %q", name, v.header, s.events.last().Reason)
			}
		}
	})
}

func TestOpenRedirects(t *testing.T) {
	s := newSite(t, nil)
	s.alice(t)
	b := s.browser(t)
	b.signIn("alice", goodPassword)
	token := fieldsOf(find(b.get("/account").doc, "form", "action", "/account/signout")).Get("csrf")
	for _, q := range []string{
		"to=https://evil.example.org", "to=//evil.example.org", "to=/account", "to=" + token, "request=https://evil.example.org", "request=../x", "continue=//evil.example.org",
		"return_to=https://evil.example.org", "to=%0d%0aLocation:%20https://evil.example.org", "to=x&request=y",
	} {
		for _, path := range []string{"/signin?", "/signin/second?", "/signin?as=other&"} {
			v := b.get(path + q)
			if to := v.to(); to != "" && !strings.HasPrefix(to, "/account") && !strings.HasPrefix(to, "/signin?done=") {
				t.Errorf("%s%s leads to %s", path, q, to)
			}
			for n := range v.doc.Descendants() {
				if u := attr(n, "href") + attr(n, "action"); strings.Contains(u, "evil") && !strings.HasPrefix(u, "/") {
					t.Errorf("%s%s: a link to %s", path, q, u)
				}
			}
		}
	}
	t.Run("a sealed path of ours is followed, one of another key is not", func(t *testing.T) {
		v := s.browser(t).get("/sign-in-first?user_code=BCDF-GHJK").leads(t, "/signin?to=")
		b.get(v.to()).leads(t, "/sign-in-first?user_code=BCDF-GHJK")
		b.get(newSite(t, nil).browser(t).get("/sign-in-first").to()).says(t, 400, "damaged or too old")
	})
	t.Run("a sealed path that is old, or not one of ours, leads nowhere", func(t *testing.T) {
		for path, want := range map[string]int{"/account": 303, "//evil.example.org": 400, "https://evil.example.org/": 400, `/\evil.example.org`: 400, "": 400} {
			for late, want := range map[time.Duration]int{time.Minute: want, -time.Minute: 400} {
				seal, err := json.Marshal(map[string]any{"path": path, "until": time.Now().Add(late)})
				if err != nil {
					t.Fatal(err)
				}
				to, err := s.cfg.Seal.Seal("page after sign-in", seal)
				if err != nil {
					t.Fatal(err)
				}
				if v := b.get("/signin?to=" + to); v.status != want {
					t.Errorf("%q, %v: %d to %q", path, late, v.status, v.to())
				}
			}
		}
	})
	t.Run("the Host of a request is in no link and no cookie", func(t *testing.T) {
		for _, path := range []string{"/signin", "/account", "/account/security"} {
			b.header = http.Header{"X-Forwarded-Host": {"evil.example.org"}, "Forwarded": {"host=evil.example.org"}}
			if v := b.get(path); strings.Contains(v.body+fmt.Sprint(v.header), "evil.example.org") {
				t.Errorf("%s repeats it", path)
			}
		}
	})
}

const bait = `"><script>alert(1)</script><img src=x onerror=alert(1)>'--{{.}}</style></title>`

// TestEverythingIsEscaped puts markup wherever strangers can put text, and looks
// at the pages as a browser would parse them.
func TestEverythingIsEscaped(t *testing.T) {
	evil := pages.Client{Name: bait, URI: "javascript:alert(1)", PolicyURI: "data:text/html,x", TOSURI: `https://x.example.org/"><script>`}
	s := newSite(t, func(c *pages.Config) {
		c.Name = bait
		c.Scopes = map[string]string{`<b>`: bait}
	})
	alice := s.create(t, identity.NewUser{Name: "alice", Email: "alice@example.com", Password: secret(goodPassword), Roles: []string{"<i>role</i>"}, Claims: map[string]any{"name": bait}})
	s.flow.owner = alice.ID
	s.flow.grants = []pages.Grant{{ID: bait, Client: evil, Scopes: []pages.Item{{Name: bait, Text: bait}}}}
	if _, _, err := s.keys.Create(t.Context(), alice.ID, authn.NewKey{Owner: alice.ID, Note: bait[:60], Roles: []string{"<i>role</i>"}}); err != nil {
		t.Fatal(err)
	}
	b := s.browser(t)
	b.header.Set("User-Agent", "Firefox/ "+bait)
	b.signIn("alice", goodPassword).leads(t, "/account")
	s.wait(b, "evil", pages.Waiting{Client: evil, LoginHint: bait, Reauth: true})
	s.wait(b, "evil2", pages.Waiting{Client: evil, LoginHint: bait, ACR: []string{identity.ACRTwo}})

	var seen []*view
	for _, path := range []string{
		"/signin?as=other&request=evil", "/signin?request=evil", "/signin?request=evil2", "/signin?done=" + url.QueryEscape(bait), "/reset?code=" + url.QueryEscape(bait),
		"/verify?code=" + url.QueryEscape(bait), "/account", "/account/security", "/account/sessions", "/account/apps", "/account/keys", "/account/totp", "/account/password",
		"/device?state=ask&problem=" + url.QueryEscape(bait), "/logout", "/formpost?action=" + url.QueryEscape("javascript:alert(1)"),
		"/formpost?action=" + url.QueryEscape(`https://x.example.org/?"><script>alert(1)</script>`), "/signin?to=" + url.QueryEscape(bait), "/signin?request=" + url.QueryEscape(bait),
	} {
		seen = append(seen, b.get(path))
	}
	other := s.browser(t)
	seen = append(seen, other.submit(other.get("/signin"), "/signin", url.Values{"name": {bait}, "password": {"wrong"}}))
	seen = append(seen, respond(t, func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set("Gatehouse-Decision", bait)
		s.pages.Problem(w, r, 400, bait, bait, "")
	}), respond(t, func(w http.ResponseWriter, r *http.Request) {
		s.pages.Consent(w, r, pages.ConsentView{Request: bait, Client: evil, User: bait, Scopes: []pages.Item{{bait, bait}}, Resources: []pages.Item{{bait, bait}}, Details: []pages.Item{{bait, bait}}, RedirectURI: "https://x;script-src *"})
	}), respond(t, func(w http.ResponseWriter, r *http.Request) {
		s.pages.Device(w, r, pages.DeviceView{State: "confirm", Code: bait, Request: bait, User: bait, Client: evil})
	}), respond(t, func(w http.ResponseWriter, r *http.Request) {
		s.pages.Logout(w, r, pages.LogoutView{Client: evil, User: bait, Fields: []pages.Field{{bait, bait}}, RedirectURI: "x'y:z"})
	}))
	shown := 0
	for _, v := range seen {
		harmless(t, v)
		if strings.Contains(text(v.doc), "alert(1)") {
			shown++
		}
	}
	if shown < 15 {
		t.Errorf("only %d pages show what was planted", shown)
	}
}

// harmless fails when a page has anything a template of ours does not.
func harmless(t *testing.T, v *view) {
	t.Helper()
	if policy := v.header.Get("Content-Security-Policy"); strings.Contains(policy, "*") || strings.Count(policy, "script-src") != 1 {
		t.Errorf("%s: policy %s", v.at, policy)
	}
	for n := range v.doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		switch n.Data {
		case "script":
			if !strings.HasPrefix(attr(n, "src"), "/assets/passkey-") || n.FirstChild != nil {
				t.Errorf("%s: a script: %v", v.at, n.Attr)
			}
		case "img", "iframe", "object", "embed", "base", "style", "i", "b":
			t.Errorf("%s: an element %s", v.at, n.Data)
		}
		for _, a := range n.Attr {
			switch {
			case strings.HasPrefix(a.Key, "on"), a.Key == "style", a.Key == "srcdoc", a.Key == "formaction":
				t.Errorf("%s: an attribute %s=%q", v.at, a.Key, a.Val)
			case a.Key == "href" || a.Key == "src" || a.Key == "action":
				if u, err := url.Parse(a.Val); err != nil || !slices.Contains([]string{"", "https", "otpauth"}, u.Scheme) || u.Scheme == "" && a.Val != "" && a.Val[0] != '/' && a.Val[0] != '#' {
					t.Errorf("%s: a link to %q", v.at, a.Val)
				}
			}
		}
	}
}

func TestHeaders(t *testing.T) {
	s := newSite(t, nil)
	s.alice(t)
	b := s.browser(t)
	b.signIn("alice", goodPassword)
	for pattern := range s.pages.Routes() {
		path, ok := strings.CutPrefix(pattern, "GET ")
		if !ok || strings.Contains(path, "{") {
			continue
		}
		v := b.get(path)
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
			"X-Frame-Options":         "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Cache-Control": "no-store", "Cross-Origin-Opener-Policy": "same-origin",
		} {
			if got := v.header.Values(name); len(got) != 1 || got[0] != want {
				t.Errorf("%s: %s: %q", path, name, got)
			}
		}
		if !strings.Contains(v.header.Get("Permissions-Policy"), "publickey-credentials-get=(self)") {
			t.Errorf("%s: %s", path, v.header.Get("Permissions-Policy"))
		}
	}
	t.Run("the place an answer goes to may be the target of a form, and no other", func(t *testing.T) {
		for redirect, want := range map[string]string{
			"https://app.example.net/cb?x=1": "'self' https://app.example.net;", "http://127.0.0.1:8765/cb": "'self' http://127.0.0.1:8765;", "com.example.app:/cb": "'self' com.example.app:;",
			"http://[::1]:99/": "'self' http:;", "https://a;script-src *": "'self';", "https://a b": "'self';", "": "'self';", "x'y:z": "'self';", "https://user@evil'/": "'self';",
		} {
			v := respond(t, func(w http.ResponseWriter, r *http.Request) {
				s.pages.Logout(w, r, pages.LogoutView{RedirectURI: redirect})
			})
			if policy := v.header.Get("Content-Security-Policy"); !strings.Contains(policy, "form-action "+want) {
				t.Errorf("%q: %s", redirect, policy)
			}
		}
	})
	t.Run("assets have the hash of their content in the name and are kept for ever", func(t *testing.T) {
		style := attr(find(b.get("/account").doc, "link", "rel", "stylesheet"), "href")
		v := b.get(style)
		if v.status != 200 || v.header.Get("Cache-Control") != "public, max-age=31536000, immutable" || v.header.Get("Content-Type") != "text/css; charset=utf-8" {
			t.Errorf("%d %v", v.status, v.header)
		}
		b.get("/assets/style-0.css").says(t, 404)
		b.get("/assets/..%2fpages.go").says(t, 404)
	})
}

// TestNothingWorksWithoutTheDatabase closes it: there are errors then, and no session.
func TestNothingWorksWithoutTheDatabase(t *testing.T) {
	s := newSite(t, nil)
	s.alice(t)
	b := s.browser(t)
	b.signIn("alice", goodPassword)
	form := b.get("/signin?as=other")
	if err := s.db.Close(); err != nil {
		t.Fatal(err)
	}
	fresh := b.cookie("__Host-gatehouse")
	b.get("/account").says(t, 503, "Not available at the moment", "01TESTDECISION")
	v := b.submit(form, "/signin", url.Values{"name": {"alice"}, "password": {goodPassword}}).says(t, 503)
	if strings.Contains(v.body, "sql") || strings.Contains(v.body, "database") {
		t.Error("the page tells of the inside")
	}
	if ev := s.events.last(); ev.Reason != "sign_in_unavailable" || ev.Cause == "" {
		t.Errorf("the event says %q, %q", ev.Reason, ev.Cause)
	}
	if b.cookie("__Host-gatehouse") != fresh {
		t.Error("there is another session")
	}
}

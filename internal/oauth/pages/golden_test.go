package pages_test

import (
	"flag"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/oauth/pages"
)

var update = flag.Bool("update", false, "write the golden pages")

// TestGolden compares what pages are sent as with testdata, so that a change of a
// template shows in the review as the change of the pages it is.
func TestGolden(t *testing.T) {
	s := newSite(t, nil)
	alice := s.alice(t)
	s.flow.owner, s.flow.grants = alice.ID, []pages.Grant{{ID: "g1", Client: pages.Client{Name: "Orders", URI: "https://orders.example.net"}, Scopes: []pages.Item{{Name: "orders:read", Text: "See your orders"}}, Offline: true, Created: time.Now()}}
	b, anonymous := s.browser(t), s.browser(t)
	b.signIn("alice", goodPassword)
	s.wait(b, "r1", pages.Waiting{Reauth: true})
	s.wait(anonymous, "r2", pages.Waiting{LoginHint: "alice"})
	made := b.submit(b.get("/account/keys"), "/account/keys", url.Values{"note": {"Nightly report"}, "roles[]": {"viewer"}})
	all := map[string]*view{
		"signin":         anonymous.get("/signin?request=r2"),
		"signin_refused": anonymous.submit(anonymous.get("/signin"), "/signin", url.Values{"name": {"nobody"}, "password": {"x"}}),
		"signin_again":   b.get("/signin?request=r1"),
		"reset":          anonymous.get("/reset"),
		"reset_sent":     anonymous.get("/reset?sent"),
		"reset_new":      anonymous.get("/reset?code=abc"),
		"verify":         anonymous.get("/verify?code=abc"),
		"problem":        anonymous.get("/signin?request=unknown"),
		"account":        b.get("/account"),
		"security":       b.get("/account/security"),
		"password":       b.get("/account/password"),
		"sessions":       b.get("/account/sessions"),
		"apps":           b.get("/account/apps"),
		"key":            made,
		"keys":           b.get("/account/keys"),
		"totp":           b.get("/account/totp"),
		"consent":        b.get("/consent"),
		"device":         b.get("/device?state=ask"),
		"device_confirm": b.get("/device?state=confirm"),
		"logout":         b.get("/logout"),
		"logout_done":    b.get("/logout?done=1"),
		"formpost":       b.get("/formpost?action=https%3A%2F%2Fapp.example.net%2Fcallback"),
		"stranger": respond(t, func(w http.ResponseWriter, r *http.Request) {
			s.pages.Consent(w, r, pages.ConsentView{Request: "q", Client: pages.Client{Name: "Bank", URI: "https://bank.example", Stranger: true}, User: "alice", RedirectURI: "https://mallory.example.org/cb"})
		}),
	}
	enrol(t, b)
	all["security_on"] = b.get("/account/security")
	first := s.browser(t)
	all["second"] = first.follow(first.signIn("alice", goodPassword))
	for name, v := range all {
		file := filepath.Join("testdata", name+".html")
		got := steady(v.body)
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s is another page now (go test -update, and look at the difference):\n%s", file, got)
		}
	}
	files, err := filepath.Glob("testdata/*.html")
	if err != nil || len(files) != len(all) {
		t.Errorf("%d golden pages for %d pages, %v", len(files), len(all), err)
	}
}

// steady replaces what is different each time.
func steady(page string) string {
	for _, r := range []struct{ pattern, by string }{
		{`(name="(?:csrf|enrolment|to)" value=")[^"]+`, `${1}…`},
		{`([?&]to=)[^"&]+`, `${1}…`},
		{`(value=")ses_[^"]+`, `${1}ses_…`},
		{`(/assets/[a-z]+-)[0-9a-f]{16}`, `${1}…`},
		{`\d{1,2} [A-Z][a-z]+ 20\d\d`, `1 January 2026`},
		{`(secret"[^>]*>)[^<]+`, `${1}…`},
		{`otpauth://[^"]+`, `otpauth:…`},
		{`(fill="#000" d=")[^"]+`, `${1}…`},
		{`(<code>|value="|overlap-|key )[0-9A-Za-z]{12}(["<])`, `${1}KEY${2}`},
	} {
		page = regexp.MustCompile(r.pattern).ReplaceAllString(page, r.by)
	}
	return strings.ReplaceAll(page, "\r", "")
}

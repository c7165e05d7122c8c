package server

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/plan"
	"github.com/gatehouse-api/gatehouse/internal/store"
)

const authorityConfig = `gatehouse: 1
data: ./data
waf: {mode: off}
oauth: {issuer: "https://localhost:8443/id", scopes: {"orders:read": Read your orders}}
identity: {scim: {base: /scim/v2}}
roles: {hr: ["gatehouse.scim:read", "gatehouse.scim:write"]}
`

// A route that leads to nothing, or a handler that no route leads to, is a promise
// of the discovery document that nobody keeps.
func TestEveryOperationOfTheHouseHasItsHandler(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "gatehouse.yaml")
	if err := os.WriteFile(path, []byte(authorityConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := plan.Compile(path)
	if err != nil {
		t.Fatal(err)
	}
	h, err := openHouse(t.Context(), p.File, store.SharedConfig{Node: "n1", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}()
	w, err := h.wire(p)
	if err != nil {
		t.Fatal(err)
	}
	h.settle(w)
	seen := map[string]int{}
	for n, route := range p.Snapshot.Routes {
		a := p.Access(n)
		seen[a.API]++
		if route.Strip != 0 || route.Prefix != "" {
			t.Errorf("%s %s is served under another path than it knows of", route.Op.Op().Method, route.Op.Op().Path)
		}
		mux, ok := route.Service.(*http.ServeMux)
		if !ok {
			continue
		}
		op := route.Op.Op()
		target := strings.NewReplacer("{", "", "}", "").Replace(op.Path)
		if a.API == plan.DiscoveryAPI {
			target += "/id"
		}
		if _, pattern := mux.Handler(httptest.NewRequest(op.Method, target, http.NoBody)); pattern == "" {
			t.Errorf("%s %s (%s) leads to nothing", op.Method, target, op.ID)
		}
	}
	if seen[plan.OAuthAPI] < 40 || seen[plan.DiscoveryAPI] != 2 || seen[plan.SCIMAPI] < 15 {
		t.Errorf("operations: %v", seen)
	}
	// Nothing has changed: the server at work is kept, with what it remembers.
	again, err := plan.Compile(path)
	if err != nil {
		t.Fatal(err)
	}
	w2, err := h.wire(again)
	if err != nil {
		t.Fatal(err)
	}
	if w2.authority != w.authority {
		t.Error("a reload that changes nothing made another authorization server")
	}
	h.settle(w2)
	if err := os.WriteFile(path, []byte(strings.Replace(authorityConfig, "Read your", "Look at your", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if again, err = plan.Compile(path); err != nil {
		t.Fatal(err)
	}
	w3, err := h.wire(again)
	if err != nil {
		t.Fatal(err)
	}
	if w3.authority == w.authority {
		t.Error("a changed scope is not at work")
	}
	h.settle(w3)
}

// The door for provisioning must not be a softer one than that for administration.
func TestWhoProvisionsGivesOutNoMoreOfTheHouseThanTheyHave(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gatehouse.yaml")
	text := authorityConfig + `admin: {api: {base: /gatehouse/v1}}
`
	text = strings.Replace(text, "roles: {", `roles: {root: ["*"], desk: ["gatehouse.users:*"], clerk: ["orders:*"], chief: {inherits: [root]}, giver: ["gatehouse.scim:*", "gatehouse.roles:write"], `, 1)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := plan.Compile(path)
	if err != nil {
		t.Fatal(err)
	}
	may, err := p.MayProvision()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		who, given string
		want       bool
	}{
		{"hr", "clerk", true},
		{"hr", "hr", true},
		{"hr", "gone", true},
		{"hr", "root", false},
		{"hr", "chief", false},
		{"hr", "desk", false},
		{"hr", "giver", false},
		{"giver", "root", true},
		{"root", "desk", true},
		{"gone", "hr", false},
	} {
		if got := may(&gatehouse.Principal{Subject: "x", Roles: []string{c.who}}, []string{"clerk", c.given}); got != c.want {
			t.Errorf("%s gives %s: %t", c.who, c.given, got)
		}
	}
}

// A secret that leaked is replaced in its file. The one before must be worth nothing
// then, although the config says the same.
func TestAReplacedSecretIsAtWork(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("token", "leaked-0123456789abcdef-0123456789abcdef\n")
	write("details.json", `{"type":"object"}`)
	write("gatehouse.yaml", strings.Replace(authorityConfig, "oauth: {", `oauth: {registration: {dynamic: token, initial_access_token: "${file:token}"}, authorization_details: {pay: {schema: details.json}}, `, 1))
	compile := func() *plan.Plan {
		p, err := plan.Compile(filepath.Join(dir, "gatehouse.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := compile()
	h, err := openHouse(t.Context(), p.File, store.SharedConfig{Node: "n1", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}()
	from, err := plan.NewSource(filepath.Join(dir, "gatehouse.yaml"), p.File)
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{House: h, o: Options{Config: filepath.Join(dir, "gatehouse.yaml")}, from: from, plan: p}
	if err := r.take(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	for _, change := range []func(){
		func() { write("token", "secret-0123456789abcdef-0123456789abcdef\n") },
		func() { write("details.json", `{"type":"object","maxProperties":3}`) },
	} {
		before := h.authority
		if r.reload(t.Context()); h.authority != before || r.lastErr != nil {
			t.Fatalf("a reload that changes nothing made another authorization server: %v", r.lastErr)
		}
		change()
		if r.reload(t.Context()); h.authority == before || r.lastErr != nil {
			t.Errorf("what stood in the file before is still at work: %v", r.lastErr)
		}
	}
}

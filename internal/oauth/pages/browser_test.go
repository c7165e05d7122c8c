package pages_test

import (
	"bufio"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth/pages"
)

// TestInChromium has a real browser use the pages, see browser/run.mjs: sign-in,
// passkeys with its virtual authenticator, the keyboard, 320 px, the policy, axe.
func TestInChromium(t *testing.T) {
	if testing.Short() {
		t.Skip("short")
	}
	modules, err := filepath.Abs("../../../.testdeps")
	if err != nil {
		t.Fatal(err)
	}
	node, err := exec.LookPath("node")
	chromium := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil && chromium == "" {
			chromium = p
		}
	}
	for _, missing := range []struct {
		what string
		is   bool
	}{
		{"node", err != nil},
		{"chromium", chromium == ""},
		{"playwright-core in .testdeps (tools/test.sh fetches it)", !exists(filepath.Join(modules, "node_modules/playwright-core"))},
		{"axe-core in .testdeps (tools/test.sh fetches it)", !exists(filepath.Join(modules, "node_modules/axe-core"))},
	} {
		if missing.is {
			t.Skip("NOT TESTED in a browser: there is no " + missing.what)
		}
	}

	s := newSite(t, nil)
	alice := s.alice(t)
	for _, name := range []string{"tom", "pia", "cora", "stella", "keith"} {
		s.create(t, identity.NewUser{Name: name, Email: name + "@example.com", Roles: []string{"editor", "viewer"}, Password: secret(goodPassword)})
	}
	long := s.create(t, identity.NewUser{
		Name: strings.Repeat("l", 60), Email: strings.Repeat("m", 60) + "@" + strings.Repeat("n", 60) + ".example.com", Roles: []string{strings.Repeat("role", 20)},
		Claims: map[string]any{"name": strings.Repeat("Wolfeschlegelsteinhausen", 5)}, Password: secret(goodPassword),
	})
	if _, _, err := s.keys.Create(t.Context(), long.ID, authn.NewKey{Owner: long.ID, Roles: long.Roles, Note: strings.Repeat("note", 40)}); err != nil {
		t.Fatal(err)
	}
	s.flow.owner, s.flow.grants = alice.ID, []pages.Grant{
		{ID: "g1", Client: pages.Client{Name: "Orders", URI: "https://orders.example.net"}, Scopes: []pages.Item{{Name: "orders:read", Text: "See your orders"}}, Offline: true, Created: time.Now().AddDate(0, -1, 0), Used: time.Now()},
		{ID: "g2", Client: pages.Client{Name: "Television"}, Created: time.Now()},
	}
	if _, _, err := s.keys.Create(t.Context(), alice.ID, keyOf(alice)); err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(s.server.TLS.Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	spki := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	address := s.server.Listener.Addr().String()

	cmd := exec.CommandContext(t.Context(), node, "browser/run.mjs")
	cmd.Env = append(os.Environ(), "PORT="+address[strings.LastIndexByte(address, ':')+1:],
		"SPKI="+base64.StdEncoding.EncodeToString(spki[:]), "CHROMIUM="+chromium, "MODULES="+modules)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	scenarios := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var r struct {
			Name, Error string
			Seconds     float64
		}
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Errorf("said %q", lines.Text())
			continue
		}
		scenarios++
		t.Run(r.Name, func(t *testing.T) {
			t.Logf("%.1f s", r.Seconds)
			if r.Error != "" {
				t.Error(r.Error)
			}
		})
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("node: %v", err)
	}
	if scenarios < 30 {
		t.Errorf("only %d scenarios were run", scenarios)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// foreign are the pages of other sites that the browser visits.
func foreign(mux *http.ServeMux) {
	page := func(pattern, body string) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			_ = r.ParseForm()
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write([]byte("<!doctype html><title>Elsewhere</title>" + strings.ReplaceAll(body, "FORM", r.PostForm.Encode())))
		})
	}
	page("app.example.net/callback", `<h1>Back at the application</h1><p>FORM</p>`)
	page("evil.example.org/attack", `<form method="post" action="`+origin+`/account/signout"><button id="post">A prize</button></form>`)
	page("evil.example.org/frame", `<iframe src="`+origin+`/signin" width="400" height="400"></iframe>`)
}

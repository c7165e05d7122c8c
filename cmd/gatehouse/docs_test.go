package main_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"html"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var fence = regexp.MustCompile("(?ms)^```([^\n]*)\n(.*?)^```$")

// blocksOf gives the blocks of a document that begin with ```kind.
func blocksOf(t *testing.T, name, kind string) (out []string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range fence.FindAllStringSubmatch(string(b), -1) {
		if m[1] == kind {
			out = append(out, m[2])
		}
	}
	if len(out) == 0 {
		t.Fatalf("%s has no block of %s", name, kind)
	}
	return out
}

// ordersFolder is a folder with the demo's document under the names the documents use.
func ordersFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	spec, err := os.ReadFile("../../internal/demo/orders.openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"openapi.yaml": spec, "orders.openapi.yaml": spec, "jwks.json": []byte(`{"keys":[]}`)} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestConfigsInTheDocumentsPassCheck writes every ```yaml config block into a file
// and checks it, its own tests included.
func TestConfigsInTheDocumentsPassCheck(t *testing.T) {
	for _, block := range blocksOf(t, "../../docs/rules.md", "yaml config") {
		dir := ordersFolder(t)
		if err := os.WriteFile(filepath.Join(dir, "gatehouse.yaml"), []byte(block), 0o600); err != nil {
			t.Fatal(err)
		}
		out, errs, code := gatehouse(t, dir, "check")
		if code != 0 || !strings.Contains(out, " 0 warnings") {
			t.Errorf("check ends with %d\n%s%s", code, out, errs)
		}
	}
}

// TestReadmeCommandsWork does what the README says for the reader's own API, up to
// the gateway that serves.
func TestReadmeCommandsWork(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed: the README is left out")
	}
	var own string
	for _, b := range blocksOf(t, "../../README.md", "sh") {
		if strings.Contains(b, "gatehouse init") {
			own = b
		}
	}
	dir := ordersFolder(t)
	ran := 0
	for line := range strings.Lines(own) {
		for command := range strings.SplitSeq(strings.TrimSpace(line), " && ") {
			words := strings.Fields(command)
			if words[0] != "gatehouse" || words[1] == "serve" {
				continue
			}
			ran++
			if out, errs, code := gatehouse(t, dir, words[1:]...); code != 0 || out == "" {
				t.Errorf("%s ends with %d\n%s%s", command, code, out, errs)
			}
		}
	}
	if ran < 3 {
		t.Errorf("only %d commands of the README were tried:\n%s", ran, own)
	}
	name := filepath.Join(dir, "gatehouse.yaml")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(b), "127.0.0.1:8443", "127.0.0.1:0", 1) + "\nadmin: {address: \"127.0.0.1:0\"}\n"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := launch(t, dir, "trust it with: ", "serve")
	if trust := regexp.MustCompile(`trust it with: (curl .*)`).FindStringSubmatch(r.out.String()); trust == nil {
		t.Errorf("no line that reaches it:\n%s", r.out.String())
	} else if b, err := exec.CommandContext(t.Context(), "bash", "-c", trust[1]).CombinedOutput(); !strings.Contains(string(b), "operation_not_found") {
		t.Errorf("%s\n%v\n%s", trust[1], err, b)
	}
	if code := r.interrupt(); code != 0 {
		t.Errorf("serve ends with %d\n%s", code, r.err.String())
	}
}

// TestInitSaysHowTheFirstCallerGetsIn pastes the command that init prints, for a
// document that asks for scopes, and calls with the key that comes of it.
func TestInitSaysHowTheFirstCallerGetsIn(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "the notes") }))
	defer service.Close()
	for scope, want := range map[string]string{"notes:read": " --scope notes:read ", "$(reboot)": " --role reader  "} {
		dir := t.TempDir()
		document := `{"openapi":"3.1.0","info":{"title":"Notes","version":"1"},"paths":{"/notes":{"get":{"operationId":"listNotes","security":[{"login":["` + scope + `"]}],"responses":{"200":{"description":"ok"}}}}},
			"components":{"securitySchemes":{"login":{"type":"oauth2","flows":{"clientCredentials":{"tokenUrl":"https://localhost/token","scopes":{"` + scope + `":"Read"}}}}}}}`
		if err := os.WriteFile(filepath.Join(dir, "openapi.json"), []byte(document), 0o600); err != nil {
			t.Fatal(err)
		}
		out, errs, code := gatehouse(t, dir, "init", "openapi.json", "--upstream", service.URL)
		if code != 0 || !strings.Contains(out, want) {
			t.Fatalf("init ends with %d and does not say %q\n%s%s", code, want, out, errs)
		}
		if strings.HasPrefix(scope, "$") {
			continue
		}
		line, _, _ := strings.Cut(out[strings.Index(out, "gatehouse keys create")+len("gatehouse "):], "  ")
		key, errs, code := gatehouse(t, dir, strings.Fields(line)...)
		if code != 0 {
			t.Fatal(errs)
		}
		config := filepath.Join(dir, "gatehouse.yaml")
		b, err := os.ReadFile(config)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Replace(string(b), "127.0.0.1:8443", "127.0.0.1:0", 1) + "\nadmin: {address: \"127.0.0.1:0\"}\n"
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r := launch(t, dir, "trust it with: ", "serve")
		base := regexp.MustCompile(`https://localhost:\d+`).FindString(r.out.String())
		pem, err := os.ReadFile(filepath.Join(dir, "data", "ca", "ca.pem"))
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/notes", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-API-Key", strings.TrimSpace(key))
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		client.CloseIdleConnections()
		if err != nil || string(b) != "the notes" {
			t.Errorf("%d %v\n%s", resp.StatusCode, err, b)
		}
	}
}

// TestReadmeTourIsTheDemosTour holds the README's lines to those the demo prints,
// which TestDemoTour holds to the truth.
func TestReadmeTourIsTheDemosTour(t *testing.T) {
	r := launch(t, t.TempDir(), "Ctrl-C ends it.", append([]string{"demo"}, freePorts...)...)
	text := r.out.String()
	bare := regexp.MustCompile(`bare API +(\S+),`).FindStringSubmatch(text)
	if bare == nil {
		t.Fatal(text)
	}
	text = regexp.MustCompile(`https://localhost:\d+`).ReplaceAllString(text, "https://localhost:8443")
	text = strings.ReplaceAll(text, bare[1], "http://127.0.0.1:9001")
	name, _ := binary()
	printed := promisesOf(strings.ReplaceAll(text, name, "gatehouse"))
	found := 0
	for _, b := range blocksOf(t, "../../README.md", "sh") {
		for _, p := range promisesOf(b) {
			found++
			if !slices.Contains(printed, p) {
				t.Errorf("the demo does not print\n%s\n# %s", p.command, p.outcome)
			}
		}
	}
	if found != 10 {
		t.Errorf("the README's tour has %d lines, not ten", found)
	}
}

// TestOperationsCommandsWork runs, in order, what the section on people and clients
// tells the reader to type.
func TestOperationsCommandsWork(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("bash is not installed: docs/operations.md is left out")
	}
	dir := ordersFolder(t)
	if _, errs, code := gatehouse(t, dir, "init", "openapi.yaml", "--upstream", "http://127.0.0.1:8080"); code != 0 {
		t.Fatal(errs)
	}
	config := filepath.Join(dir, "gatehouse.yaml")
	b, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, append(b, "\noauth: {issuer: \"https://auth.example.com\"}\nadmin: {api: {base: /gatehouse/v1}}\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	name, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, block := range blocksOf(t, "../../docs/operations.md", "sh") {
		for line := range strings.Lines(block + "gatehouse effective gatehouse-admin.createUser\n") {
			ran++
			cmd := exec.CommandContext(t.Context(), bash, "-c", `gatehouse() { "$GATEHOUSE" "$@"; }; `+line)
			cmd.Dir, cmd.Env = dir, append(os.Environ(), "GATEHOUSE="+name)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s%v\n%s", line, err, out)
			}
		}
	}
	if ran < 15 {
		t.Errorf("only %d commands were tried", ran)
	}
}

// TestOwnAuthorizationServerCommandsWork follows the section on one's own
// authorization server beside a running gateway: its config, its commands in one
// shell, and in between what a person does in a browser.
func TestOwnAuthorizationServerCommandsWork(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("bash is not installed: docs/operations.md is left out")
	}
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed: docs/operations.md is left out")
	}
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"for":%q}`, r.URL.Path)
	}))
	defer service.Close()
	dir := ordersFolder(t)
	if _, errs, code := gatehouse(t, dir, "init", "openapi.yaml", "--upstream", service.URL); code != 0 {
		t.Fatal(errs)
	}
	base := "https://localhost:" + freePort(t)
	here := func(s string) string { return strings.ReplaceAll(s, "https://localhost:8443", base) }
	config := filepath.Join(dir, "gatehouse.yaml")
	b, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("oauth2: keys", "oauth2: gatehouse", "127.0.0.1:8443", "127.0.0.1:"+base[len("https://localhost:"):]).Replace(string(b))
	text += "\nadmin: {address: \"127.0.0.1:0\"}\n" + here(blocksOf(t, "../../docs/operations.md", "yaml own")[0])
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, errs, code := gatehouse(t, dir, "check"); code != 0 || !strings.Contains(out, " 0 warnings") {
		t.Fatalf("check ends with %d\n%s%s", code, out, errs)
	}
	r := launch(t, dir, "trust it with: ", "serve")
	name, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	shell := func(commands string) string {
		cmd := exec.CommandContext(t.Context(), bash, "-e", "-o", "pipefail", "-c", `gatehouse() { "$GATEHOUSE" "$@"; }; `+here(commands))
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GATEHOUSE="+name)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s\n%v\n%s", commands, err, out)
		}
		return string(out)
	}
	const person = "# open verification_uri_complete"
	before, after, ok := strings.Cut(blocksOf(t, "../../docs/operations.md", "sh own")[0], person)
	if !ok {
		t.Fatalf("no line begins with %s", person)
	}
	first, _, _ := strings.Cut(before, "\n")
	out := shell(before)
	if !strings.Contains(out, `{"for":"/orders"}`) {
		t.Errorf("the service was not reached with the program's token\n%s", out)
	}
	ask := first + "\n#" + after // the rest of the line about the browser is a comment
	if out := shell(ask); !strings.Contains(out, "authorization_pending") {
		t.Errorf("before anybody allowed it\n%s", out)
	}
	page := regexp.MustCompile(`"verification_uri_complete":"([^"]+)"`).FindStringSubmatch(out)
	if page == nil {
		t.Fatal(out)
	}
	allowDevice(t, filepath.Join(dir, "data", "ca", "ca.pem"), page[1], "ada", "a long sentence of your own")
	for deadline := time.Now().Add(30 * time.Second); ; {
		out := shell(ask)
		if strings.Contains(out, `"access_token":"`) {
			break
		}
		if waits := strings.Contains(out, "authorization_pending") || strings.Contains(out, "slow_down"); !waits || time.Now().After(deadline) {
			t.Fatal(out)
		}
		<-time.After(time.Second)
	}
	if code := r.interrupt(); code != 0 {
		t.Errorf("serve ends with %d\n%s", code, r.err.String())
	}
}

// freePort is a port of this machine that nobody listens at.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

var (
	pageForm  = regexp.MustCompile(`(?s)<form[^>]*action="([^"]*)"[^>]*>(.*?)</form>`)
	pageField = regexp.MustCompile(`<input[^>]*name="([^"]+)"[^>]*value="([^"]*)"`)
)

// allowDevice does what a person does at a device's page: signs in, and allows.
func allowDevice(t *testing.T, ca, page, name, password string) {
	t.Helper()
	pem, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}}}
	defer client.CloseIdleConnections()
	send := func(method, to string, fields url.Values) (at *url.URL, answer string) {
		req, err := http.NewRequestWithContext(t.Context(), method, to, strings.NewReader(fields.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		if method == http.MethodPost {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set("Origin", req.URL.Scheme+"://"+req.URL.Host)
			req.Header.Set("Sec-Fetch-Site", "same-origin")
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s %s: %d %v\n%s", method, to, resp.StatusCode, err, b)
		}
		return resp.Request.URL, string(b)
	}
	submit := func(at *url.URL, page, field string, filled url.Values) (*url.URL, string) {
		for _, f := range pageForm.FindAllStringSubmatch(page, -1) {
			if !strings.Contains(f[2], `name="`+field+`"`) {
				continue
			}
			fields := url.Values{}
			for _, in := range pageField.FindAllStringSubmatch(f[2], -1) {
				fields.Set(html.UnescapeString(in[1]), html.UnescapeString(in[2]))
			}
			maps.Copy(fields, filled)
			to, err := at.Parse(html.UnescapeString(f[1]))
			if err != nil {
				t.Fatal(err)
			}
			return send(http.MethodPost, to.String(), fields)
		}
		t.Fatalf("the page at %s has no form with %s\n%s", at, field, page)
		return nil, ""
	}
	at, text := send(http.MethodGet, page, nil)
	for range 4 { // sign in, confirm the code, allow: as the pages ask for it
		switch {
		case strings.Contains(text, "is connected"):
			return
		case strings.Contains(text, `name="password"`):
			at, text = submit(at, text, "password", url.Values{"name": {name}, "password": {password}})
		case strings.Contains(text, `name="decision"`):
			at, text = submit(at, text, "decision", url.Values{"decision": {"allow"}})
		case strings.Contains(text, `name="user_code"`):
			at, text = submit(at, text, "user_code", nil)
		default:
			t.Fatalf("the page at %s\n%s", at, text)
		}
	}
	t.Fatalf("the device is not connected; at last\n%s", text)
}

package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
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

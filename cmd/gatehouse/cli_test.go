package main_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

func TestEveryCommandHasHelpWithAnExample(t *testing.T) {
	out, _, code := gatehouse(t, t.TempDir(), "--help")
	commands := regexp.MustCompile(`(?m)^  ([a-z-]+(?: [a-z-]+)*)  +[A-Z]`).FindAllStringSubmatch(out, -1)
	if code != 0 || len(commands) < 45 {
		t.Fatalf("%d commands\n%s", len(commands), out)
	}
	dir := ordersFolder(t)
	for _, args := range [][]string{{"init", "openapi.yaml", "--upstream", "http://127.0.0.1:8080"}} {
		if _, errs, code := gatehouse(t, dir, args...); code != 0 {
			t.Fatal(errs)
		}
	}
	name := filepath.Join(dir, "gatehouse.yaml")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, append(b, "\noauth: {issuer: \"https://localhost:8443\"}\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	// Examples that need what no test has: a running gateway, a key's or decision's id, the whole machine.
	elsewhere := map[string]bool{
		"serve": true, "demo": true, "explain": true, "completion": true, "init": true, "keys create": true, "keys rotate": true, "keys revoke": true, "access-matrix": true,
		"ddos unban": true, "ddos solve": true, "db restore": true, "db copy": true,
		"users password": true, "users delete": true, "token inspect": true, "token revoke": true, "clients secret revoke": true, "prove oauth": true, "attack": true, "bench": true, "health": true, "fleet status": true, "fleet push": true, "fleet history": true, "fleet rollback": true,
	}
	for _, c := range commands {
		t.Run(c[1], func(t *testing.T) {
			out, errs, code := gatehouse(t, dir, append(strings.Fields(c[1]), "--help")...)
			_, example, ok := strings.Cut(out, "Example:\n")
			if code != 0 || !ok {
				t.Fatalf("no example (exit code %d)\n%s%s", code, out, errs)
			}
			line, _, _ := strings.Cut(strings.TrimSpace(example), "\n")
			if !strings.Contains(line, "gatehouse "+c[1]) {
				t.Errorf("the example is of another command: %s", line)
			}
			if elsewhere[c[1]] {
				return
			}
			line, _, _ = strings.Cut(line, " > ")
			if out, errs, code := gatehouse(t, dir, strings.Fields(line)[1:]...); code != 0 || out+errs == "" {
				t.Errorf("%s ends with %d\n%s%s", line, code, out, errs)
			}
		})
	}
}

func TestErrorsNameTheWayOut(t *testing.T) {
	dir := ordersFolder(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	config := func(more string) string {
		return "gatehouse: 1\nadmin: {address: \"127.0.0.1:0\"}\n" + more +
			"apis:\n  orders:\n    openapi: ./openapi.yaml\n    upstreams: [\"http://127.0.0.1:1\"]\n    authenticate: {oauth2: keys, mutualTLS: keys}\n    operations: {health: {public: true}, greet: {closed: true}}\n"
	}
	for name, text := range map[string]string{
		"taken.yaml":   config("data: ./a\nlisteners: [{address: \"" + taken.Addr().String() + "\"}]\n"),
		"strange.yaml": config("data: ./b\nlisteners: [{address: \"192.0.2.1:0\"}]\n"),
		"free.yaml":    config("data: ./c\nlisteners: [{address: \"127.0.0.1:0\"}]\n"),
		"key.yaml":     config("listener: []\n"),
		"syntax.yaml":  "gatehouse: 1\napis:\n  - [\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	launch(t, dir, "listening on", "serve", "-c", "free.yaml")
	for name, c := range map[string]struct {
		args []string
		says []string
	}{
		"no config":                 {[]string{"serve"}, []string{"gatehouse.yaml", "hint: ", "gatehouse init", "--config", "gatehouse demo"}},
		"no document":               {[]string{"init", "nope.yaml", "--upstream", "http://127.0.0.1:1"}, []string{"nope.yaml", "hint: ", "OpenAPI file"}},
		"no upstream":               {[]string{"init", "openapi.yaml"}, []string{"--upstream", "gatehouse init --help"}},
		"no such command":           {[]string{"sreve"}, []string{"sreve", "--help"}},
		"a port in use":             {[]string{"serve", "-c", "taken.yaml"}, []string{"taken.yaml:4:", taken.Addr().String(), "hint: end what listens there", "taken.yaml"}},
		"an address elsewhere":      {[]string{"serve", "-c", "strange.yaml"}, []string{"192.0.2.1", "hint: this machine does not have that address"}},
		"a data folder in use":      {[]string{"serve", "-c", "free.yaml"}, []string{"c/events", "hint: a data folder has one gateway"}},
		"an unknown key":            {[]string{"check", "-c", "key.yaml"}, []string{"key.yaml:3:1: ", "listener", "listeners"}},
		"what is no YAML":           {[]string{"check", "-c", "syntax.yaml"}, []string{"syntax.yaml:", "not YAML"}},
		"an id that is none":        {[]string{"explain", "-c", "free.yaml", "abc"}, []string{"26 characters"}},
		"an answer without an id":   {[]string{"explain", "-c", "free.yaml", "-"}, []string{"no decision id", "hint: ", "curl -si"}},
		"a role that is none":       {[]string{"keys", "create", "-c", "free.yaml", "--owner", "me", "--role", "boss"}, []string{`no role "boss"`}},
		"an operation that is none": {[]string{"effective", "-c", "free.yaml", "orders.getOrdr"}, []string{"getOrder"}},
		"a config without tests":    {[]string{"test", "-c", "free.yaml"}, []string{"no tests", "hint: "}},
	} {
		t.Run(name, func(t *testing.T) {
			_, errs, code := gatehouse(t, dir, c.args...)
			if code != 2 {
				t.Errorf("exit code %d", code)
			}
			for _, text := range c.says {
				if !strings.Contains(errs, text) {
					t.Errorf("%q does not say %q", errs, text)
				}
			}
			if strings.Contains(errs, "\x1b") {
				t.Errorf("colours, and nobody to see them: %q", errs)
			}
		})
	}
}

func TestColoursAreForTerminalsThatWantThem(t *testing.T) {
	script, err := exec.LookPath("script")
	if err != nil || runtime.GOOS != "linux" {
		t.Skip("no script(1) of util-linux to make a terminal with")
	}
	name, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		env     string
		colours bool
	}{{"NO_COLOR=", true}, {"NO_COLOR=1", false}, {"TERM=dumb", false}} {
		cmd := exec.CommandContext(t.Context(), script, "-qec", name+" check --config none.yaml", "/dev/null")
		cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), "TERM=xterm", c.env)
		out, _ := cmd.CombinedOutput() // the command fails, as it must
		if got := strings.Contains(string(out), "\x1b["); got != c.colours || !strings.Contains(string(out), "hint: ") {
			t.Errorf("with %s colours are %t: %q", c.env, got, out)
		}
	}
}

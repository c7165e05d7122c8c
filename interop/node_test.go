package interop_test

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// nodeWith finds node and the folder under .testdeps with the package want, or
// skips the test.
func nodeWith(t *testing.T, folder, want string) (node, modules string) {
	t.Helper()
	modules, err := filepath.Abs(filepath.Join("..", ".testdeps", folder, "node_modules"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(modules, want)); err != nil {
		t.Skipf("NOT TESTED against %s: it is not in %s (tools/test.sh fetches it)", want, filepath.Join(".testdeps", folder))
	}
	if node, err = exec.LookPath("node"); err != nil {
		t.Skipf("NOT TESTED against %s: there is no node", want)
	}
	out, err := exec.CommandContext(t.Context(), node, "--version").Output()
	major, _, _ := strings.Cut(strings.TrimPrefix(string(out), "v"), ".")
	if n, convErr := strconv.Atoi(major); err != nil || convErr != nil || n < 20 {
		t.Skipf("NOT TESTED against %s: it needs node 20 or later, not %s", want, out)
	}
	return node, modules
}

// scenarios runs a script that says a line of JSON for each scenario, see
// scenarios.mjs. At least want of them there must be.
func (g *gate) scenarios(t *testing.T, node, script string, want int, env ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), node, script)
	cmd.Env = append(os.Environ(), append(env, "NODE_EXTRA_CA_CERTS="+g.ca(), "ISSUER="+g.issuer, "API="+g.api)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var r struct {
			Name, Error string
			Seconds     float64
		}
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Errorf("said %q", lines.Text())
			continue
		}
		n++
		t.Run(r.Name, func(t *testing.T) {
			t.Logf("%.1f s", r.Seconds)
			if r.Error != "" {
				t.Error(r.Error)
			}
		})
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%s: %v", script, err)
	}
	if n < want {
		t.Errorf("only %d scenarios were run, want %d", n, want)
	}
}

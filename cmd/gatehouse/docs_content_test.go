package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gate "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/auditlog"
)

// TestContentCommandsWork writes the config and the rules of docs/content.md into
// files and runs, in order, what the reader is told to type.
func TestContentCommandsWork(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("bash is not installed: docs/content.md is left out")
	}
	const document = "../../docs/content.md"
	dir := ordersFolder(t)
	config := blocksOf(t, document, "yaml config")[0]
	files := map[string]string{"gatehouse.yaml": config}
	for _, name := range []string{"own.conf", "before.conf"} {
		files[name] = blocksOf(t, document, "apache "+name)[0]
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log, err := auditlog.Open(auditlog.Config{Dir: filepath.Join(dir, "data", "events")})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	e := gate.Event{
		ID: auditlog.NewID(now), Time: now, Method: "POST", Host: "localhost:8443", Path: "/orders", API: "orders", Operation: "createOrder",
		Status: 403, Reason: "harmful_input", Score: 5, Matches: []gate.Match{{
			Rule: 942100, Text: "SQL Injection Attack Detected via libinjection", Severity: "critical", Level: 1,
			In: "body", Pointer: "/item", Part: "a' aaaaa aaaaaa aaaaaaaa aaaa aaaaa",
		}},
	}
	if err := log.Append(&e); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	name, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	for line := range strings.Lines(blocksOf(t, document, "sh")[0]) {
		cmd := exec.CommandContext(t.Context(), bash, "-c", `gatehouse() { "$GATEHOUSE" "$@"; }; `+line)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GATEHOUSE="+name, "ID="+e.ID)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s%v\n%s", line, err, out)
		}
		said[strings.Fields(line)[1]] = string(out)
	}
	for command, want := range map[string][]string{
		"check":     {" 0 warnings"},
		"waf":       {"1 events of the last 24h", "orders.createOrder  body/item", "not proposed: seen in 1 requests"},
		"effective": {"do not look at body/note: A note is prose", "do not look at header.Referer", "up to 2 are reported", "excluded by the config"},
	} {
		for _, w := range want {
			if !strings.Contains(said[command], w) {
				t.Errorf("%s does not say %q:\n%s", command, w, said[command])
			}
		}
	}
	// The page shows what explain prints, but for the time and the rest of the record.
	printed := strings.Split(said["explain"], "\n")
	for i, line := range strings.Split(strings.TrimSpace(blocksOf(t, document, "")[0]), "\n") {
		if i > 0 && !slices.Contains(printed, line) {
			t.Errorf("explain does not print %q:\n%s", line, said["explain"])
		}
	}
}

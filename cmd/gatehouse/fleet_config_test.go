package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAConfigIsPushedAndBroughtBack(t *testing.T) {
	dir := ordersFolder(t)
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	whole := "gatehouse: 1\nfleet: {key: \"${file:fleet.key}\"}\napis:\n  orders:\n    openapi: ./openapi.yaml\n    upstreams: [\"http://127.0.0.1:1\"]\n" +
		"    authenticate: {oauth2: keys, mutualTLS: keys}\n    operations: {health: {public: true}, greet: {closed: true}}\n"
	write("fleet.key", strings.Repeat("not very random ", 4))
	write("gatehouse.yaml", whole)
	says := func(code int, text string, args ...string) {
		t.Helper()
		out, errs, got := gatehouse(t, dir, args...)
		if got != code || !strings.Contains(out+errs, text) {
			t.Errorf("%q ends with %d and says\n%s%s", args, got, out, errs)
		}
	}
	says(0, "no config was pushed", "fleet", "history")
	says(0, "it can be pushed: 2 files", "fleet", "push", "--dry-run")
	says(0, "revision 1 is stored: 2 files", "fleet", "push")
	says(0, "nothing to do: revision 1", "fleet", "push")
	write("gatehouse.yaml", "gatehouse: 1\nfleet: {key: \"${file:fleet.key}\", config: database}\n")
	says(2, "hint: gatehouse fleet push FILE", "fleet", "push")
	write("api.yaml", whole+"# more\n")
	says(0, "revision 2 is stored", "fleet", "push", "api.yaml")
	write("api.yaml", whole+"tests: [{name: all may greet, call: orders.health, expect: deny}]\n")
	says(2, "all may greet", "fleet", "push", "api.yaml")
	says(2, "hint: 'gatehouse fleet history'", "fleet", "rollback", "7")
	says(0, "revision 3 is stored", "fleet", "rollback", "1")
	says(0, "revision 1 again", "fleet", "history")
	says(2, "no config of the database is at work here yet", "check")
	says(1, "no node is alive", "fleet", "status")

	var all []struct {
		Revision, Origin int64
		Digest, Author   string
	}
	out, _, code := gatehouse(t, dir, "fleet", "history", "--output", "json")
	if err := json.Unmarshal([]byte(out), &all); err != nil || code != 0 || len(all) != 3 || all[0].Revision != 3 || all[0].Origin != 1 ||
		all[0].Digest != all[2].Digest || !strings.HasPrefix(all[1].Author, "os:") {
		t.Errorf("%s %v", out, err)
	}
	log, err := os.ReadFile(filepath.Join(dir, "data", "events", "changes.jsonl"))
	if err != nil || strings.Count(string(log), `"fleet.config.push"`) != 3 {
		t.Errorf("the changes: %s %v", log, err)
	}
}

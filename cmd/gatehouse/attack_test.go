package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

type attackReport struct {
	Rows []struct {
		Row   string
		Count map[string]int
		Tries []struct{ Name, Variant, Bare, Verdict, Proof, Reason, Decision, Practice, Detail string }
	}
	Ended string
}

// TestAttackOnTheDemo holds the demo to both of its promises: bare it falls to
// every row of the table, and through the gateway to none.
func TestAttackOnTheDemo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	port, service := freePort(t), freePort(t)
	r := launch(t, t.TempDir(), "Ctrl-C ends it.", "demo", "--dir", dir, "--address", "127.0.0.1:"+port, "--service", "127.0.0.1:"+service, "--admin", "127.0.0.1:0")
	if !strings.Contains(r.out.String(), " attack\n") {
		t.Error("the tour does not say how to attack")
	}
	t.Run("every row works bare and is stopped by the gateway", func(t *testing.T) {
		out, errs, code := gatehouse(t, dir, "attack", "-o", "json")
		var report attackReport
		if err := json.Unmarshal([]byte(out), &report); err != nil {
			t.Fatalf("%v\n%s%s", err, out, errs)
		}
		if code != 0 || report.Ended != "" || errs != "" {
			t.Errorf("it ends with %d %s\n%s", code, report.Ended, errs)
		}
		if len(report.Rows) != 9 {
			t.Errorf("%d rows, want the nine of the table", len(report.Rows))
		}
		for _, row := range report.Rows {
			least := map[string]int{"sql-injection": 30, "xss": 30, "remote-code-execution": 20, "injection": 20, "csrf": 3, "authentication": 15, "access-control": 10, "logging": 3, "misconfiguration": 15}[row.Row]
			if len(row.Tries) < least || least == 0 {
				t.Errorf("%s: %d exploits work bare, want %d", row.Row, len(row.Tries), least)
			}
			for _, try := range row.Tries {
				switch try.Verdict {
				case "refused":
					if try.Reason == "" || try.Decision == "" || try.Practice == "" {
						t.Errorf("%s: it is not said what stopped it: %+v", row.Row, try)
					}
				case "harmless", "recorded":
				default:
					t.Errorf("%s: %+v", row.Row, try)
				}
			}
		}
		for place, least := range map[string]int{ // in ways of writing
			"POST /shop/orders/search, body /text: UNION reads what the database computes": 8,
			"POST /shop/reviews/preview, body /text: a script in the page":                 8,
			"POST /shop/tools/label, body /text: the shell computes":                       8,
			"POST /shop/tools/letter, body /text: template":                                2,
			"GET /shop/documents, query file: path to another file":                        5,
			"GET /shop/go, query to: line end into the head of the answer":                 3,
			"GET /shop/directory, query name: LDAP filter":                                 1,
			"POST /shop/login: operators of a document database":                           3,
			"POST /shop/orders/import: external entity of XML":                             2,
			"a name in User-Agent that the log looks up":                                   5,
			"POST /orders, body /note: a script for whoever prints it":                     8,
		} {
			ways := 0
			for _, row := range report.Rows {
				for _, try := range row.Tries {
					if try.Name == place {
						ways++
					}
				}
			}
			if ways < least {
				t.Errorf("%s works bare in %d ways, want %d", place, ways, least)
			}
		}
	})
	t.Run("a row alone, as a table, with the rule from the gateway's own record", func(t *testing.T) {
		out, errs, code := gatehouse(t, dir, "attack", "--row", "xss")
		if code != 0 || !regexp.MustCompile(`(?m)^  POST /shop/reviews/preview, body /text.*refused .*harmful_input.*rules 941\d+.* at body /text; \w{26}$`).MatchString(out) || strings.Contains(out, "SQL") {
			t.Errorf("it ends with %d\n%s%s", code, out, errs)
		}
	})
	t.Run("what stops nothing is found out", func(t *testing.T) {
		bare := "http://127.0.0.1:" + service
		out, _, code := gatehouse(t, dir, "attack", "--bare", bare, "--through", bare, "--openapi", "orders.openapi.yaml", "--row", "sql-injection", "--row", "logging")
		if code != 1 || !strings.Contains(out, "got through") || strings.Contains(out, " 0 got through") {
			t.Errorf("it ends with %d\n%s", code, out)
		}
	})
	t.Run("too few requests prove nothing", func(t *testing.T) {
		out, _, code := gatehouse(t, dir, "attack", "--requests", "60")
		if code != 1 || !strings.Contains(out, "ended early") {
			t.Errorf("it ends with %d\n%s", code, out)
		}
	})
	t.Run("a dead gateway stops attacks, and proves nothing", func(t *testing.T) {
		if code := r.interrupt(); code != 0 {
			t.Fatal(code)
		}
		_, errs, code := gatehouse(t, dir, "attack")
		if code != 2 || !strings.Contains(errs, "does not answer") || !strings.Contains(errs, "hint: ") {
			t.Errorf("it ends with %d\n%s", code, errs)
		}
	})
}

func TestAttackRefusesWithAWayOut(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "empty.yaml"), []byte("openapi: 3.1.0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	here := []string{"attack", "--bare", "http://127.0.0.1:9", "--through", "http://127.0.0.1:9"}
	for name, tt := range map[string]struct {
		args []string
		says string
	}{
		"half of the targets":            {here, "belong together"},
		"a document without operations":  {append(here, "--openapi", "empty.yaml"), "no operation to attack"},
		"a row there is not":             {[]string{"attack", "--row", "sql"}, "--row must be one of"},
		"no config and no targets":       {[]string{"attack"}, "gatehouse.yaml"},
		"a target that is not a web URL": {[]string{"attack", "--bare", "file:///etc", "--through", "http://127.0.0.1:9", "--openapi", "../none.yaml"}, "none.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			out, errs, code := gatehouse(t, dir, tt.args...)
			if code != 2 || !strings.Contains(errs, tt.says) || out != "" {
				t.Errorf("it ends with %d\n%s%s", code, out, errs)
			}
		})
	}
}

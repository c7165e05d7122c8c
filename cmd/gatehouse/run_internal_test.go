package main

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/auditlog"
)

// do runs one command in this process, in front of no terminal.
func do(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, stdio{in: strings.NewReader(""), out: &out, err: &errs})
	for _, text := range []string{out.String(), errs.String()} {
		if strings.Contains(text, "\x1b[") {
			t.Errorf("%q prints colours where nobody sees them", args)
		}
	}
	return out.String(), errs.String(), code
}

// good runs a command that must succeed.
func good(t *testing.T, args ...string) (stdout, stderr string) {
	t.Helper()
	out, errs, code := do(t, args...)
	if code != exitOK {
		t.Fatalf("%q ends with %d\n%s%s", args, code, out, errs)
	}
	return out, errs
}

const shopConfig = `gatehouse: 1
data: ./data
waf: {mode: off}
issuers: {main: {issuer: "https://auth.example", audience: shop, jwks: ./jwks.json, roles: roles}}
api_keys: {enabled: true}
roles: {reader: [shop:read], writer: {inherits: [reader], grants: [shop:write]}}
apis:
  shop:
    openapi: ./shop.yaml
    upstreams: ["http://127.0.0.1:9001"]
    operations: {read: {grant: shop:read}, write: {grant: shop:write, require: {small: body.n < 10}}}
tests:
  - {name: nobody reads, call: shop.read, expect: deny}
  - {name: a writer writes little, as: {roles: [writer]}, call: shop.write, body: {n: 3}, expect: allow}
`

const shopDocument = `openapi: 3.1.0
info: {title: Shop, version: "1"}
security: [any: []]
paths:
  /things:
    get: {operationId: read, responses: {"200": {description: ok}}}
    post:
      operationId: write
      requestBody: {required: true, content: {application/json: {schema: {type: object, required: [n], properties: {n: {type: integer}}}}}}
      responses: {"201": {description: ok}}
components: {securitySchemes: {any: {type: http, scheme: bearer}}}
`

// shop makes a folder with a good config and gives its path.
func shop(t *testing.T, replace ...string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"gatehouse.yaml": strings.NewReplacer(replace...).Replace(shopConfig), "shop.yaml": shopDocument} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "gatehouse.yaml")
}

func decode[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("not JSON: %v\n%s", err, text)
	}
	return v
}

func TestOutputIsJSONEverywhere(t *testing.T) {
	config := shop(t)
	id := recorded(t, config)
	for _, args := range [][]string{
		{"check"},
		{"test"},
		{"access-matrix"},
		{"access-matrix", "--role", "reader"},
		{"effective", "shop.write"},
		{"explain", id},
		{"keys", "create", "--owner", "robot"},
		{"keys", "list"},
		{"keys", "list", "--all"},
		{"ddos", "status"},
		{"schema"},
		{"version"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			out, errs := good(t, append(args, "--config", config, "--output", "json")...)
			decode[any](t, out)
			if errs != "" {
				t.Errorf("and says %s", errs)
			}
		})
	}
}

// recorded puts a decision into the record of a config and gives its id.
func recorded(t *testing.T, config string) string {
	t.Helper()
	log, err := auditlog.Open(auditlog.Config{Dir: filepath.Join(filepath.Dir(config), "data", "events")})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	e := gatehouse.Event{
		ID: auditlog.NewID(now), Time: now, Method: "POST", Host: "shop.example", Path: "/things", API: "shop", Operation: "write",
		Subject: "ann", Issuer: "main", Auth: gatehouse.MethodJWT, Status: 403, Reason: "forbidden",
		Reasons: []gatehouse.Reason{{Rule: "shop/write/require/small", Effect: gatehouse.EffectDeny, Text: "body.n < 10", Saw: "body.n = 70", Needed: "body.n < 10"}},
	}
	if err := log.Append(&e); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	return e.ID
}

func TestExplainSaysWhatDecidedAndWhatWouldHaveAllowedIt(t *testing.T) {
	config := shop(t)
	out, _ := good(t, "explain", recorded(t, config), "-c", config)
	for _, want := range []string{"refused: forbidden", "POST shop.example/things", "shop.write", "ann, by jwt of main", "shop/write/require/small", "body.n = 70", "needed  body.n < 10"} {
		if !strings.Contains(out, want) {
			t.Errorf("does not say %q:\n%s", want, out)
		}
	}
	if _, errs, code := do(t, "explain", auditlog.NewID(time.Now()), "-c", config); code != exitUsage || !strings.Contains(errs, "no such event") || !strings.Contains(errs, "hint: records are kept") {
		t.Errorf("of an id nobody knows: %d %s", code, errs)
	}
}

func TestTheLifeOfAKey(t *testing.T) {
	config := shop(t)
	out, errs := good(t, "keys", "create", "-c", config, "--owner", "billing", "--role", "reader", "--scope", "a", "--scope", "b", "--note", "for tests", "--life", "2160h")
	secret := strings.TrimSuffix(out, "\n")
	if len(secret) < 30 || strings.ContainsAny(secret, " \n") {
		t.Fatalf("standard output holds more than the key: %q", out)
	}
	if strings.Contains(errs, secret) || !strings.Contains(errs, "shown this once") {
		t.Fatalf("standard error says %s", errs)
	}
	out, _ = good(t, "keys", "list", "-c", config, "-o", "json")
	rows := decode[[]keyRow](t, out)
	if len(rows) != 1 || strings.Contains(out, secret) {
		t.Fatal(out)
	}
	first := rows[0]
	if first.State != "live" || first.Owner != "billing" || !slices.Equal(first.Roles, []string{"reader"}) || !slices.Equal(first.Scopes, []string{"a", "b"}) ||
		first.Note != "for tests" || !strings.HasPrefix(first.By, "os:") || time.Until(first.Expires) > 2160*time.Hour || time.Until(first.Expires) < 2159*time.Hour {
		t.Fatalf("%+v", first)
	}

	out, _ = good(t, "keys", "rotate", first.ID, "--overlap", "1h", "-c", config, "-o", "json")
	next := decode[keyView](t, out)
	if next.Key == "" || next.Key == secret || next.ID == first.ID || next.Line != first.Line || next.Owner != "billing" {
		t.Fatalf("%+v", next)
	}
	out, _ = good(t, "keys", "list", "-c", config)
	if strings.Count(out, "live") != 2 || !strings.Contains(out, "OWNER") {
		t.Fatal(out)
	}

	_, errs = good(t, "keys", "revoke", first.ID, next.ID, "-c", config)
	if strings.Count(errs, "is revoked") != 2 {
		t.Fatal(errs)
	}
	if out, _ := good(t, "keys", "list", "-c", config, "-o", "json"); strings.TrimSpace(out) != "[]" {
		t.Fatal(out)
	}
	out, _ = good(t, "keys", "list", "--all", "-c", config, "-o", "json")
	for _, r := range decode[[]keyRow](t, out) {
		if r.State != "revoked" {
			t.Errorf("%+v", r)
		}
	}
	if _, errs, code := do(t, "keys", "revoke", "nosuchkey1", "-c", config); code != exitUsage || !strings.Contains(errs, "nosuchkey1") {
		t.Errorf("%d %s", code, errs)
	}
	if _, errs, code := do(t, "keys", "rotate", first.ID, "-c", config); code != exitUsage || errs == "" {
		t.Errorf("a revoked key has a successor: %d %s", code, errs)
	}

	// What was done is on record; the keys are nowhere but with who asked for them.
	b, err := os.ReadFile(filepath.Join(filepath.Dir(config), "data", "events", "changes.jsonl"))
	if err != nil || strings.Count(string(b), "\n") != 4 {
		t.Fatalf("%v\n%s", err, b)
	}
	err = filepath.WalkDir(filepath.Dir(config), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		for _, key := range []string{secret, next.Key} {
			if bytes.Contains(b, []byte(key)) {
				t.Errorf("a key is in %s", name)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestASavedKeyIsTheOwnersOnly(t *testing.T) {
	config := shop(t)
	file := filepath.Join(t.TempDir(), "key")
	for _, form := range []string{"text", "json"} {
		name := file + "." + form
		out, errs := good(t, "keys", "create", "-c", config, "--owner", "billing", "--save", name, "-o", form)
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(name)
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", st.Mode(), err)
		}
		if key := strings.TrimSpace(string(b)); len(key) < 30 || strings.Contains(out+errs, key) {
			t.Errorf("the key is shown too: %s%s", out, errs)
		}
	}
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, errs, code := do(t, "keys", "create", "-c", config, "--owner", "billing", "--save", file)
	if b, _ := os.ReadFile(file); code != exitUsage || string(b) != "mine" {
		t.Errorf("%d, the file holds %q: %s", code, b, errs)
	}
	before, _ := good(t, "keys", "list", "--all", "-c", config, "-o", "json")
	rows := decode[[]keyRow](t, before)
	if len(rows) != 2 {
		t.Fatalf("%d keys; one was made that nobody has", len(rows))
	}
	if _, errs, code := do(t, "keys", "rotate", "-c", config, rows[0].ID, "--overlap", "0", "--save", file); code != exitUsage {
		t.Errorf("%d: %s", code, errs)
	}
	if after, _ := good(t, "keys", "list", "--all", "-c", config, "-o", "json"); after != before {
		t.Errorf("a rotation without a file for the successor changed the keys:\n%s", after)
	}
	if _, errs, code := do(t, "keys", "rotate", "-c", config, "nosuchkey", "--save", file+".none"); code == 0 {
		t.Errorf("an unknown key was rotated: %s", errs)
	}
	if _, err := os.Stat(file + ".none"); err == nil {
		t.Error("a file without a key is left")
	}
}

func TestCheckAndTestSayWhatFails(t *testing.T) {
	config := shop(t, "n: 3", "n: 30")
	for _, command := range []string{"check", "test"} {
		out, _, code := do(t, command, "-c", config)
		if code != exitFailed || !strings.Contains(out, "FAIL  a writer writes little") || !strings.Contains(out, "shop/write/require/small") {
			t.Errorf("%s: %d\n%s", command, code, out)
		}
		out, _, code = do(t, command, "-c", config, "-o", "json")
		if code != exitFailed || !strings.Contains(out, `"passed": false`) {
			t.Errorf("%s: %d\n%s", command, code, out)
		}
		decode[any](t, out)
	}
	warns := shop(t, "grants: [shop:write]", "grants: [shop:write, shop:delete]")
	if out, _, code := do(t, "check", "-c", warns); code != exitOK || !strings.Contains(out, "shop:delete") {
		t.Errorf("%d %s", code, out)
	}
	if _, _, code := do(t, "check", "--strict", "-c", warns); code != exitFailed {
		t.Errorf("strict: %d", code)
	}
}

func TestTheMatrixCanBeNarrowed(t *testing.T) {
	config := shop(t)
	out, _ := good(t, "access-matrix", "-c", config)
	if !regexp.MustCompile(`(?m)^shop\.write +reader +deny *$`).MatchString(out) || !regexp.MustCompile(`(?m)^shop\.write +writer +allow-if +body\.n < 10`).MatchString(out) {
		t.Error(out)
	}
	if out, _ := good(t, "access-matrix", "-c", config, "--role", "reader"); strings.Contains(out, "writer") {
		t.Error(out)
	}
	for _, args := range [][]string{{"--role", "raeder"}, {"--api", "shopp"}} {
		if _, errs, code := do(t, append([]string{"access-matrix", "-c", config}, args...)...); code != exitUsage || !strings.Contains(errs, args[1]) || !strings.Contains(errs, "did you mean") {
			t.Errorf("%q: %d %s", args, code, errs)
		}
	}
}

func TestUsageErrors(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		see  string
	}{
		"an unknown command":        {[]string{"sreve"}, "gatehouse --help"},
		"an unknown flag":           {[]string{"check", "--strickt"}, "gatehouse check --help"},
		"an unknown flag of a pair": {[]string{"keys", "create", "--expires", "1h"}, "gatehouse keys create --help"},
		"half a pair":               {[]string{"keys"}, "gatehouse keys --help"},
		"an unknown flag of all":    {[]string{"--confg", "x"}, "gatehouse --help"},
		"an unknown shell":          {[]string{"completion", "tcsh"}, "gatehouse completion --help"},
		"a missing argument":        {[]string{"explain"}, "gatehouse explain --help"},
		"a form there is not":       {[]string{"check", "-o", "yaml"}, "gatehouse check --help"},
		"an unknown level":          {[]string{"serve", "--log-level", "loud"}, "gatehouse serve --help"},
	} {
		t.Run(name, func(t *testing.T) {
			out, errs, code := do(t, test.args...)
			if code != exitUsage || out != "" || !strings.Contains(errs, "See: "+test.see+"\n") {
				t.Errorf("%d\n%s%s", code, out, errs)
			}
		})
	}
	if out, _, code := do(t); code != exitOK || !strings.Contains(out, "Usage: gatehouse") {
		t.Errorf("no command at all: %d %s", code, out)
	}
}

func TestCompletionScriptsAreOfTheirShell(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		t.Run(shell, func(t *testing.T) {
			out, _ := good(t, "completion", shell)
			for _, word := range []string{"serve", "access-matrix", "revoke", "overlap", "config"} {
				if !strings.Contains(out, word) {
					t.Errorf("does not complete %s", word)
				}
			}
			if _, err := exec.LookPath(shell); err != nil {
				t.Skip(shell, "is not installed")
			}
			name := filepath.Join(t.TempDir(), "script")
			if err := os.WriteFile(name, []byte(out), 0o600); err != nil {
				t.Fatal(err)
			}
			if b, err := exec.Command(shell, "-n", name).CombinedOutput(); err != nil || len(b) > 0 {
				t.Errorf("%v: %s", err, b)
			}
		})
	}
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("bash is not installed")
	}
	script, _ := good(t, "completion", "bash")
	for line, want := range map[string]string{
		"gatehouse ke": "keys", "gatehouse keys r": "rotate revoke", "gatehouse keys revoke --conf": "--config", "gatehouse -c x check --st": "--strict",
		"gatehouse users set ada --ext": "--external-id", "gatehouse clients secret a": "add", "gatehouse token keys li": "list",
	} {
		words := strings.Fields(line)
		ask := script + "\nCOMP_WORDS=(" + line + "); COMP_CWORD=" + string(rune('0'+len(words)-1)) + "; _gatehouse; echo \"${COMPREPLY[@]}\"\n"
		b, err := exec.Command("bash", "-c", ask).CombinedOutput()
		if got := strings.TrimSpace(string(b)); err != nil || got != want {
			t.Errorf("%s completes to %q, want %q (%v)", line, got, want, err)
		}
	}
}

func TestInitMakesAConfigThatPassesCheck(t *testing.T) {
	for name, spec := range map[string]string{"the demo's": "../../internal/demo/orders.openapi.yaml", "GitHub's": "../../.testdeps/github.json"} {
		t.Run(name, func(t *testing.T) {
			if name == "GitHub's" && testing.Short() {
				t.Skip("takes some seconds")
			}
			b, err := os.ReadFile(spec)
			if err != nil {
				t.Skip("not fetched:", err)
			}
			dir := t.TempDir()
			file, config := filepath.Join(dir, filepath.Base(spec)), filepath.Join(dir, "gatehouse.yaml")
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}
			good(t, "init", file, "--upstream", "http://127.0.0.1:1", "-c", config)
			out, errs := good(t, "check", "-c", config)
			t.Log(out[strings.LastIndex(strings.TrimSpace(out), "\n")+1:])
			if !strings.Contains(out, " 0 failed") {
				t.Errorf("%s%s", out, errs)
			}
			// Nobody gets in without a credential.
			matrix, _ := good(t, "access-matrix", "-c", config, "-o", "json")
			for _, c := range decode[[]struct{ Operation, Role, Verdict string }](t, matrix) {
				if c.Role == "(anonymous)" && c.Verdict != "deny" {
					t.Errorf("%s: anyone may, %s", c.Operation, c.Verdict)
				}
			}
			before, err := os.ReadFile(config)
			if err != nil {
				t.Fatal(err)
			}
			_, errs, code := do(t, "init", file, "--upstream", "http://127.0.0.1:2", "-c", config)
			if after, _ := os.ReadFile(config); code != exitUsage || !strings.Contains(errs, "--force") || !bytes.Equal(before, after) {
				t.Errorf("a second init: %d %s", code, errs)
			}
			if name == "the demo's" {
				good(t, "init", file, "--upstream", "http://127.0.0.1:2", "--force", "-c", config)
			}
		})
	}
}

func TestInitSaysWhichPatternsAreNotChecked(t *testing.T) {
	dir := t.TempDir()
	spec, conf := filepath.Join(dir, "api.yaml"), filepath.Join(dir, "gatehouse.yaml")
	text := "openapi: 3.1.0\ninfo: {title: one, version: \"1\"}\npaths: {/a: {get: {operationId: a, parameters: [{name: q, in: query, schema: {type: string, pattern: \"^(?!admin)\"}}], responses: {}}}}\n"
	if err := os.WriteFile(spec, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	good(t, "init", spec, "--upstream", "http://127.0.0.1:9", "--config", conf)
	b, err := os.ReadFile(conf)
	if err != nil || !strings.Contains(string(b), "unchecked_patterns: skip") {
		t.Errorf("the config does not say it: %v\n%s", err, b)
	}
	if out, _ := good(t, "check", "--config", conf); !strings.Contains(out, "pattern not checked") {
		t.Errorf("check does not say it:\n%s", out)
	}
}

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/posture"
)

const notesDocument = `openapi: 3.1.0
info: {title: Notes, version: "1"}
paths:
  /notes:
    post:
      operationId: write
      parameters:
        - {name: q, in: query, schema: {type: string, maxLength: 64}}
        - {name: sort, in: query, schema: {type: string, enum: [newest, oldest]}}
        - {name: mine, in: query, schema: {type: boolean}}
      requestBody:
        required: true
        content:
          application/json:
            schema:
              type: object
              properties:
                lines: {type: array, items: {type: object, properties: {note: {type: string}}}}
                code: {type: string, pattern: "^[A-Z]{3}[0-9]{4}$"}
      responses: {"201": {description: ok}}
`

// notes makes a folder with a config whose waf is the given YAML, and with files
// of rules.
func notes(t *testing.T, waf string, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("notes.yaml", notesDocument)
	write("gatehouse.yaml", "gatehouse: 1\ndata: ./data\nwaf: {"+waf+"}\napis:\n  notes:\n    openapi: ./notes.yaml\n"+
		"    upstreams: [\"http://127.0.0.1:9001\"]\n    operations:\n      write:\n        public: true\n")
	for name, text := range files {
		write(name, text)
	}
	return filepath.Join(dir, "gatehouse.yaml")
}

// met records requests that a rule matched at one place, by so many callers.
func met(t *testing.T, config string, requests, callers int, pointer string) {
	t.Helper()
	log, err := auditlog.Open(auditlog.Config{Dir: filepath.Join(filepath.Dir(config), "data", "events")})
	if err != nil {
		t.Fatal(err)
	}
	for i := range requests {
		at := time.Now().Add(-time.Duration(i) * time.Minute)
		e := gatehouse.Event{
			ID: auditlog.NewID(at), Time: at, Method: "POST", API: "notes", Operation: "write", Status: 403, Reason: "harmful_input",
			Address: "192.0.2.1", Subject: fmt.Sprint("user", i%callers), Issuer: "main", Score: 5,
			Matches: []gatehouse.Match{{
				Rule: 942100, Text: "SQL Injection Attack Detected via libinjection", Severity: "critical", Level: 1,
				In: "body", Pointer: pointer, Part: "aaaaa AAA",
			}},
		}
		if err := log.Append(&e); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestWhatTuneProposesLoads pastes the proposal into the config it was made for.
func TestWhatTuneProposesLoads(t *testing.T) {
	config := notes(t, "", nil)
	met(t, config, 30, 4, "/lines/0/note")
	met(t, config, 30, 1, "/code")
	out, _ := good(t, "waf", "tune", "-c", config)
	for _, want := range []string{
		"60 events of the last 168h0m0s: rules for content matched at 2 places",
		"notes.write  body/lines/*/note", "942100: SQL Injection", "in 30 of 60 requests, 30 of them refused, from 4 callers, 4 of them proven",
		"risk ", "proposed, under apis.notes.operations.\"write\":",
		"notes.write  body/code", "not proposed: only 1 callers met it",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("does not say %q:\n%s", want, out)
		}
	}
	all := decode[[]posture.Proposal](t, first(good(t, "waf", "tune", "-c", config, "-o", "json")))
	if len(all) != 2 || all[0].Config == "" || all[1].Config != "" || all[1].Doubt == "" {
		t.Fatalf("%+v", all)
	}
	b, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(all[0].Config) {
		b = append(b, "        "+line...)
	}
	if err := os.WriteFile(config, b, 0o600); err != nil {
		t.Fatal(err)
	}
	good(t, "check", "-c", config)
	if out, _ := good(t, "effective", "write", "-c", config); !strings.Contains(out, "do not look at body/lines/*/note: 30 of 60 requests") {
		t.Error(out)
	}
}

func first(out, _ string) string { return out }

func TestTuneTakesWhatItIsTold(t *testing.T) {
	config := notes(t, "", nil)
	if _, errs, code := do(t, "waf", "tune", "-c", config); code != exitUsage || !strings.Contains(errs, "hint: a gateway writes its record") {
		t.Errorf("before any gateway ran: %d %s", code, errs)
	}
	met(t, config, 0, 1, "")
	if out, _ := good(t, "waf", "tune", "-c", config, "-o", "json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("of an empty record: %s", out)
	}
	met(t, config, 6, 2, "/code")
	if out, _ := good(t, "waf", "tune", "-c", config); strings.Contains(out, "proposed, under") {
		t.Errorf("six requests of two callers are enough:\n%s", out)
	}
	if out, _ := good(t, "waf", "tune", "-c", config, "--requests", "5", "--callers", "2"); !strings.Contains(out, "proposed, under") {
		t.Errorf("fewer were asked for:\n%s", out)
	}
	if out, _ := good(t, "waf", "tune", "-c", config, "--since", "150s", "-o", "json"); decode[[]posture.Proposal](t, out)[0].Requests != 3 {
		t.Errorf("of six in six minutes, three are in two and a half:\n%s", out)
	}
	if _, errs, code := do(t, "waf", "tune", "-c", config+".none"); code != exitUsage || errs == "" {
		t.Errorf("without a config: %d %s", code, errs)
	}
}

// TestEffectiveSaysWhichRulesLookAtEachValue: none at what is closed, all at what
// is open, and of the rest which and why.
func TestEffectiveSaysWhichRulesLookAtEachValue(t *testing.T) {
	config := notes(t, `exclude: [{rules: [attack-sqli, 941100-941999], parameter: query.q, because: A note is prose.}]`, nil)
	out, _ := good(t, "effective", "write", "-c", config, "-o", "json")
	said := map[string]string{}
	for _, l := range decode[struct {
		Lines []struct{ Step, Layer, ID, Text, Place string }
	}](t, out).Lines {
		if l.Step == "content" {
			said[l.Layer+" "+l.ID] = l.Text
			if l.Layer == "excluded" && !strings.HasSuffix(l.Place, "gatehouse.yaml:3:17") {
				t.Errorf("the exclusion is at %s", l.Place)
			}
		}
	}
	for name, want := range map[string]string{
		"rules query.sort":                   `one of "newest", "oldest": none of `,
		"rules query.mine":                   `one of "false", "true": none of `,
		"rules query.q":                      "excluded by the config",
		"rules body/code":                    "pattern ^[A-Z]{3}[0-9]{4}$: ",
		"rules body/lines/*/note":            "all ",
		"excluded attack-sqli 941100-941999": "do not look at query.q: A note is prose.",
		"waf ":                               "enforce: a score of 5 and more",
	} {
		if !strings.Contains(said[name], want) {
			t.Errorf("%s: %q, want %q in it", name, said[name], want)
		}
	}
	for _, name := range []string{"rules query.sort", "rules body/code"} {
		if !strings.Contains(said[name], "no text that can stand there matches") {
			t.Errorf("%s: %q does not say why", name, said[name])
		}
	}
	off := notes(t, "mode: off", nil)
	if out, _ := good(t, "effective", "write", "-c", off); !strings.Contains(out, "no rules are asked") || strings.Contains(out, "query.q   at most") {
		t.Error(out)
	}
}

func TestCheckSaysWhatIsWrongWithRulesForContent(t *testing.T) {
	own := func(text string) map[string]string { return map[string]string{"own.conf": text} }
	const rule = `SecRule ARGS "@contains secret" "id:1001,phase:2,deny,t:none"` + "\n"
	for name, test := range map[string]struct {
		waf   string
		files map[string]string
		want  []string
	}{
		"an engine nobody knows":              {"engine: corazza", nil, []string{"gatehouse.yaml:3:", "corazza", "coraza"}},
		"a level that is none":                {"paranoia: 5", nil, []string{"gatehouse.yaml:3:", "paranoia"}},
		"reporting fewer levels than count":   {"paranoia: 3, detect: 2", nil, []string{"gatehouse.yaml:3:", "detect is 2, below paranoia 3"}},
		"no rules at all":                     {"core_rules: false", nil, []string{"no rules of your own"}},
		"an exclusion without a reason":       {"exclude: [{rules: [942100], parameter: query.q, because: Ok}]", nil, []string{"gatehouse.yaml:3:", "because takes the reason as a sentence"}},
		"an exclusion of nothing":             {"exclude: [{parameter: query.q, because: It is prose.}]", nil, []string{"gatehouse.yaml:3:", "rules"}},
		"a range that ends before it begins":  {"exclude: [{rules: [942999-942000], because: It is prose.}]", nil, []string{"gatehouse.yaml:3:", "ends before it begins"}},
		"a place that is none":                {"exclude: [{rules: [942100], parameter: qury.q, because: It is prose.}]", nil, []string{"gatehouse.yaml:3:", "qury"}},
		"an exclusion of a value, by Coraza":  {"engine: coraza, exclude: [{rules: [942100], parameter: query.q, because: It is prose.}]", nil, []string{"SecRuleUpdateTargetById"}},
		"rules that are not there":            {"rules: [own.conf]", nil, []string{"gatehouse.yaml:3:", "cannot read the rules"}},
		"a variable nobody knows":             {"rules: [own.conf]", own(rule + `SecRule ARGZ "@rx x" "id:1002,phase:2,deny"`), []string{"own.conf:2:", "ARGZ", "ARGS"}},
		"an operator nobody knows":            {"rules: [own.conf]", own(`SecRule ARGS "@containss x" "id:1002,phase:2,deny"`), []string{"own.conf:1:", "containss", "contains"}},
		"a transformation nobody knows":       {"rules: [own.conf]", own(`SecRule ARGS "@rx x" "id:1002,phase:2,deny,t:lowercse"`), []string{"own.conf:1:", "lowercse", "lowercase"}},
		"an expression that is none":          {"rules: [own.conf]", own(`SecRule ARGS "@rx (x" "id:1002,phase:2,deny"`), []string{"own.conf:1:"}},
		"an id that is taken":                 {"rules: [own.conf]", own(rule + rule), []string{"own.conf:2:", "1001"}},
		"an id of the Core Rule Set":          {"rules: [own.conf]", own(`SecRule ARGS "@rx x" "id:942100,phase:2,deny"`), []string{"own.conf:1:", "942100"}},
		"a rule without an id":                {"rules: [own.conf]", own(`SecRule ARGS "@rx x" "phase:2,deny"`), []string{"own.conf:1:", "id"}},
		"a directive that gatehouse.yaml has": {"rules: [own.conf]", own("SecRuleEngine DetectionOnly\n"), []string{"own.conf:1:", "gatehouse.yaml"}},
		"a program that is run":               {"rules: [own.conf]", own(`SecRule ARGS "@rx x" "id:1002,phase:2,deny,exec:/bin/true"`), []string{"own.conf:1:", "exec"}},
		"a file of words that is nowhere":     {"rules: [own.conf]", own(`SecRule ARGS "@pmFromFile words.txt" "id:1002,phase:2,deny"`), []string{"own.conf:1:", "words.txt"}},
		"a chain that ends in the air":        {"rules: [own.conf]", own(`SecRule ARGS "@rx x" "id:1002,phase:2,deny,chain"`), []string{"own.conf:1:", "chain"}},
		"a fault in the rules in front":       {"rules_before: [own.conf]", own("SecActoin \"id:1\"\n"), []string{"own.conf:1:", "SecAction"}},
	} {
		t.Run(name, func(t *testing.T) {
			out, errs, code := do(t, "check", "-c", notes(t, test.waf, test.files))
			if code == exitOK {
				t.Fatalf("it passes\n%s%s", out, errs)
			}
			for _, want := range test.want {
				if !strings.Contains(errs, want) {
					t.Errorf("does not say %q:\n%s", want, errs)
				}
			}
		})
	}
	for _, waf := range []string{"rules: [own.conf]", "rules_before: [own.conf]", "core_rules: false, rules: [own.conf]", "engine: coraza, rules: [own.conf]", "engine: coraza, exclude: [{rules: [942100], because: It is prose.}]"} {
		if _, errs, code := do(t, "check", "-c", notes(t, waf, own(rule))); code != exitOK {
			t.Errorf("%s does not pass: %s", waf, errs)
		}
	}
	if out, _ := good(t, "check", "-c", notes(t, "rules: [own.conf]", own("SecRuleRemoveById 949110\n"))); !strings.Contains(out, "rule 949110, which refuses what the others find, is removed") {
		t.Errorf("nobody is warned that nothing is refused any more:\n%s", out)
	}
}

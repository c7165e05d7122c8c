package rx_test

import (
	"fmt"
	"io/fs"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	coreruleset "github.com/corazawaf/coraza-coreruleset/v4"
	"github.com/corazawaf/coraza-coreruleset/v4/tests"
	"go.yaml.in/yaml/v4"

	"github.com/gatehouse-api/gatehouse/internal/validate/rx"
)

// A crsRule is what of a rule concerns its expression.
type crsRule struct {
	targets string
	level   int // of paranoia; 0: a link of a chain
	rx.Pattern
}

var (
	rxDirective = regexp.MustCompile(`(?m)^\s*SecRule\s+(\S+)\s+"!?@rx ((?:[^"\\]|\\.)*)"((?:.*\\\n)*.*)`)
	rxLevel     = regexp.MustCompile(`paranoia-level/(\d)`)
	rxByte      = regexp.MustCompile(`\\x(?:\{[89a-fA-F][0-9a-fA-F]\}|[89a-fA-F][0-9a-fA-F])`)
)

// crsRules reads every @rx of the Core Rule Set out of its files.
func crsRules(t testing.TB) []crsRule {
	t.Helper()
	files, err := fs.Glob(coreruleset.FS, "@owasp_crs/*.conf")
	if err != nil {
		t.Fatal(err)
	}
	var rules []crsRule
	for _, f := range files {
		b, err := fs.ReadFile(coreruleset.FS, f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range rxDirective.FindAllStringSubmatch(string(b), -1) {
			r := crsRule{targets: m[1]}
			if l := rxLevel.FindStringSubmatch(m[3]); l != nil {
				r.level, _ = strconv.Atoi(l[1])
			}
			r.Expr = strings.ReplaceAll(m[2], `\"`, `"`)
			r.Binary = rxByte.MatchString(r.Expr)
			if !r.Binary {
				r.Expr = "(?sm)" + r.Expr
			}
			if strings.Contains(r.Expr, "%{") { // holds a macro: compiled when it is known
				continue
			}
			rules = append(rules, r)
		}
	}
	if len(rules) < 290 {
		t.Fatalf("%d expressions in the Core Rule Set, want about 295", len(rules))
	}
	return rules
}

// argsPatterns are the expressions over ARGS up to a paranoia level.
func argsPatterns(t testing.TB, level int) []rx.Pattern {
	var out []rx.Pattern
	for _, r := range crsRules(t) {
		if r.level > 0 && r.level <= level && slices.Contains(strings.Split(r.targets, "|"), "ARGS") {
			out = append(out, r.Pattern)
		}
	}
	return out
}

func allPatterns(t testing.TB) []rx.Pattern {
	var out []rx.Pattern
	for _, r := range crsRules(t) {
		out = append(out, r.Pattern)
	}
	return out
}

// attacks are the texts of the Core Rule Set's regression tests: URIs, bodies and
// headers, whole and their values decoded.
func attacks(t testing.TB) []string {
	t.Helper()
	seen := map[string]bool{}
	add := func(s string) {
		if s != "" && len(s) <= 20_000 {
			seen[s] = true
		}
	}
	var walk func(key string, v any)
	walk = func(key string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, x := range v {
				if k == "headers" {
					k = "uri"
					if h, ok := x.(map[string]any); ok {
						for _, s := range h {
							walk("uri", s)
						}
						continue
					}
				}
				walk(k, x)
			}
		case []any:
			for _, x := range v {
				walk(key, x)
			}
		case string:
			if key != "uri" && key != "data" {
				return
			}
			add(v)
			_, query, ok := strings.Cut(v, "?")
			if !ok {
				query = v
			}
			for pair := range strings.SplitSeq(query, "&") {
				name, value, _ := strings.Cut(pair, "=")
				for _, s := range []string{name, value} {
					add(s)
					if s, err := url.QueryUnescape(s); err == nil {
						add(s)
					}
				}
			}
		}
	}
	err := fs.WalkDir(tests.FS, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(p, ".yaml") {
			return err
		}
		b, err := fs.ReadFile(tests.FS, p)
		if err != nil {
			return err
		}
		var doc any
		if err := yaml.Unmarshal(b, &doc); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		walk("", doc)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	out := make([]string, 0, len(seen))
	for s := range seen {
		out = append(out, s)
	}
	slices.Sort(out)
	if len(out) < 5000 {
		t.Fatalf("only %d texts", len(out))
	}
	return out
}

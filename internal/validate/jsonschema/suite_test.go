package jsonschema_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/validate/jsonschema"
)

var (
	corpora = flag.String("corpora", "../../../.testdeps/corpora", "folder with json-schema-test-suite, json-test-suite and stripe-fixtures")
	update  = flag.Bool("update", false, "write the golden files anew")
)

// corpus returns the folder of a corpus, or skips the test.
func corpus(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(*corpora, name)
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("left out: the corpus %s is not at %s (tools/test.sh links it; or set -corpora)", name, dir)
	}
	return dir
}

func readTree(t testing.TB, path string) any {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return tree(t, b)
}

// tree decodes JSON with its number literals.
func tree(t testing.TB, b []byte) any {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	return v
}

type suiteGroup struct {
	Description string
	Schema      json.RawMessage
	Tests       []struct {
		Description string
		Data        json.RawMessage
		Valid       bool
	}
}

// generous limits: the suite tests meaning, the hostile tests bounds.
func generous() jsonschema.Limits {
	return jsonschema.Limits{MaxNumberLength: 2000, MaxExponent: 2000}
}

func addPublished(t testing.TB, c *jsonschema.Compiler) {
	t.Helper()
	add := func(uri, file string) {
		if err := c.AddResource(uri, readTree(t, filepath.Join("testdata/metaschema", file))); err != nil {
			t.Fatal(err)
		}
	}
	add("http://json-schema.org/draft-04/schema", "draft4.json")
	for _, name := range []string{"core", "applicator", "unevaluated", "validation", "meta-data", "format-annotation", "format-assertion", "content"} {
		add("https://json-schema.org/draft/2020-12/meta/"+name, "meta/"+name+".json")
	}
	add("https://json-schema.org/draft/2020-12/schema", "draft2020-12.json")
}

func addRemotes(t testing.TB, c *jsonschema.Compiler, dir, draft string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if top, _, nested := strings.Cut(rel, "/"); nested && (strings.HasPrefix(top, "draft") || top == "v1") && top != draft {
			return nil
		}
		return c.AddResource("http://localhost:1234/"+rel, readTree(t, path))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// runSuite returns "file | group | test" of every test that fails, and how many ran.
func runSuite(t *testing.T, draft, sub string, opts jsonschema.Options, files []string) (failed []string, ran int) {
	root := corpus(t, "json-schema-test-suite")
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var groups []suiteGroup
		if err := json.Unmarshal(b, &groups); err != nil {
			t.Fatal(err)
		}
		for _, g := range groups {
			c := jsonschema.NewCompiler(opts)
			addPublished(t, c)
			addRemotes(t, c, filepath.Join(root, "remotes"), draft)
			err := c.AddResource("suite:schema", tree(t, g.Schema))
			var s *jsonschema.Schema
			if err == nil {
				s, err = c.Compile("suite:schema")
			}
			for _, tc := range g.Tests {
				ran++
				id := fmt.Sprintf("%s%s | %s | %s", sub, strings.TrimSuffix(filepath.Base(file), ".json"), g.Description, tc.Description)
				if err != nil {
					failed = append(failed, id)
					t.Logf("%s: %v", id, err)
					continue
				}
				out, verr := s.Append(nil, tc.Data)
				if (verr == nil) != tc.Valid {
					failed = append(failed, id)
					t.Logf("%s: valid %v, got %v for %s", id, tc.Valid, verr, tc.Data)
				}
				if verr == nil {
					again, err := s.Append(nil, out)
					if err != nil || !bytes.Equal(again, out) {
						t.Errorf("%s: %s does not come out as itself: %s, %v", id, out, again, err)
					}
					if l := walk(t, s, string(out)); l.wide != nil {
						t.Errorf("%s: the schema takes %s, its fields do not: %s", id, out, l.wide)
					}
				}
				if e, ok := errors.AsType[*jsonschema.Error](verr); verr != nil && (!ok || len(e.Violations) == 0) {
					t.Errorf("%s: %v has no violation", id, verr)
				}
			}
		}
	}
	return failed, ran
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no files at %s: %v", pattern, err)
	}
	return files
}

// known reads testdata/known_failures.txt: "test: reason" lines, by section.
func known(t *testing.T, section string) map[string]bool {
	t.Helper()
	f, err := os.Open("testdata/known_failures.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := map[string]bool{}
	in := false
	for sc := bufio.NewScanner(f); sc.Scan(); {
		line := sc.Text()
		if strings.HasPrefix(line, "[") {
			in = line == "["+section+"]"
		} else if in && line != "" && !strings.HasPrefix(line, "#") {
			out[line] = true
		}
	}
	return out
}

func compareKnown(t *testing.T, section string, failed []string) {
	t.Helper()
	want := known(t, section)
	for _, id := range failed {
		if !want[id] {
			t.Errorf("fails and is not in known_failures.txt: %s", id)
		}
		delete(want, id)
	}
	for _, id := range slices.Sorted(maps.Keys(want)) {
		t.Errorf("is in known_failures.txt and passes: %s", id)
	}
}

func TestEveryMandatory202012TestPasses(t *testing.T) {
	root := corpus(t, "json-schema-test-suite")
	failed, ran := runSuite(t, "draft2020-12", "", jsonschema.Options{Direction: jsonschema.Undirected, Limits: generous()},
		glob(t, filepath.Join(root, "draft2020-12/*.json")))
	if ran < 1299 {
		t.Errorf("%d tests ran, 1,299 expected", ran)
	}
	compareKnown(t, "draft2020-12", failed)
	t.Logf("%d of %d pass", ran-len(failed), ran)
}

func TestEveryMandatoryDraft4TestPasses(t *testing.T) {
	root := corpus(t, "json-schema-test-suite")
	failed, ran := runSuite(t, "draft4", "", jsonschema.Options{Dialect: jsonschema.Draft4, Direction: jsonschema.Undirected, Limits: generous()},
		glob(t, filepath.Join(root, "draft4/*.json")))
	compareKnown(t, "draft4", failed)
	t.Logf("%d of %d pass", ran-len(failed), ran)
}

func TestFormatsAssertedPassTheOptionalTests(t *testing.T) {
	root := corpus(t, "json-schema-test-suite")
	opts := jsonschema.Options{AssertFormats: true, Direction: jsonschema.Undirected, Limits: generous()}
	failed, ran := runSuite(t, "draft2020-12", "format/", opts, glob(t, filepath.Join(root, "draft2020-12/optional/format/*.json")))
	compareKnown(t, "format", failed)
	t.Logf("%d of %d pass", ran-len(failed), ran)
}

func TestOptionalTests(t *testing.T) {
	root := corpus(t, "json-schema-test-suite")
	opts := jsonschema.Options{Direction: jsonschema.Undirected, Limits: generous()}
	failed, ran := runSuite(t, "draft2020-12", "optional/", opts, glob(t, filepath.Join(root, "draft2020-12/optional/*.json")))
	compareKnown(t, "optional", failed)
	t.Logf("%d of %d pass", ran-len(failed), ran)
}

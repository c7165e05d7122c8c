package validate_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/validate"
)

var (
	update  = flag.Bool("update", false, "write the golden files")
	github  = flag.String("openapi-github", "../../.testdeps/github.json", "api.github.com.json of the npm package @octokit/openapi")
	datadog = flag.String("openapi-datadog", "../../.testdeps/datadog", "folder .generator/schemas of the Go module datadog-api-client-go/v2, with v{1,2}/openapi.yaml")
)

// wantGitHub leaves the test out where GitHub's document was not fetched.
func wantGitHub(tb testing.TB) {
	tb.Helper()
	if _, err := os.Stat(*github); err != nil {
		tb.Skipf("left out: GitHub's document is not at %s (make test fetches it; or set -openapi-github)", *github)
	}
}

// TestGitHub enforces GitHub's published document as it is.
func TestGitHub(t *testing.T) {
	wantGitHub(t)
	realDocument(t, "testdata/github.txt", *github)
}

// TestDatadog does the same with Datadog's two.
func TestDatadog(t *testing.T) {
	if _, err := os.Stat(*datadog); err != nil {
		t.Skipf("left out: Datadog's documents are not at %s (make test fetches them; or set -openapi-datadog)", *datadog)
	}
	for _, v := range []string{"v1", "v2"} {
		t.Run(v, func(t *testing.T) {
			realDocument(t, "testdata/datadog_"+v+".txt", filepath.Join(*datadog, v, "openapi.yaml"))
		})
	}
}

// realDocument loads a document that was not written for us, asks every
// operation for its own path, and compares what is not enforced with a golden
// file.
func realDocument(t *testing.T, golden, file string) {
	t.Helper()
	doc, err := validate.LoadFile(file, validate.Options{API: "real", SkipUnsupportedPatterns: true})
	if err != nil {
		t.Fatal(err)
	}
	// A template may not collide with another once parameters are filled in.
	a := route(t, doc)
	routed, taken, refused := 0, 0, map[string]int{}
	for i, op := range doc.Operations() {
		path := fill(op.Op())
		n, params, err := a.router.Match("h", op.Op().Method, path, nil)
		if err != nil {
			t.Errorf("%s %s: %s: %v", op.Op().Method, op.Op().Path, path, err)
			continue
		}
		if n != i {
			t.Errorf("%s: %s reached %s", op.Op().ID, path, doc.Operations()[n].Op().ID)
		}
		routed++
		var head validate.Head
		r := request(t, op.Op().Method+" "+path, "")
		if _, err := op.Head(r, params, nil, &head); err == nil {
			taken++
		} else if p := gatehouse.AsProblem(err); p.Kind == gatehouse.Internal {
			t.Errorf("%s: %v", op.Op().ID, err)
		} else {
			refused[p.Reason]++
		}
		// What no document declares is refused by every operation.
		if _, err := op.Head(request(t, op.Op().Method+" "+path+"?gatehouse_undeclared=1", ""), params, nil, &head); err == nil {
			t.Errorf("%s: an undeclared parameter passed", op.Op().ID)
		}
		if body := op.Op().Body; body != nil {
			r := request(t, op.Op().Method+" "+path, `{"a":1,"a":2}`, asJSON)
			var b validate.Body
			switch p := gatehouse.AsProblem(op.Body(r, &b)); {
			case p == nil:
				t.Errorf("%s: a body with a duplicate key passed", op.Op().ID)
			case p.Reason == "unsupported_media_type": // it takes no JSON
			case p.Reason != "invalid_body" || len(p.Fields) == 0 || p.Fields[0].Rule != "duplicate_key":
				t.Errorf("%s: a body with a duplicate key was refused for something else: %v %v", op.Op().ID, p, p.Fields)
			}
		}
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "# %s %s: %d operations, each reached by a path made for it.\n", doc.Title(), doc.Version(), routed)
	fmt.Fprintf(&out, "# %d take that path without further parameters; of the others, by reason: %v.\n", taken, refused)
	fmt.Fprintf(&out, "# What is not enforced as written, once for each text:\n")
	seen := map[string]int{}
	for _, w := range doc.Warnings() {
		seen[generic(w.Text)]++
	}
	for _, text := range slices.Sorted(func(yield func(string) bool) {
		for k := range seen {
			if !yield(k) {
				return
			}
		}
	}) {
		fmt.Fprintf(&out, "%d × %s\n", seen[text], text)
	}
	if *update {
		if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, out.Bytes()) {
		t.Errorf("%s differs; run with -update and look at the difference:\n%s", golden, out.String())
	}
}

var (
	ofOperation = regexp.MustCompile(` of \S+: content`)
	overlapping = regexp.MustCompile(`^/.* match the same paths; .*$`)
	schemaPlace = regexp.MustCompile(`^schema \S+: `)
)

// generic takes the place out of a warning, so that equal ones are counted.
func generic(text string) string {
	text = overlapping.ReplaceAllString(text, "two templates match the same paths; the one whose earlier segment is literal is served there")
	return schemaPlace.ReplaceAllString(ofOperation.ReplaceAllString(text, " of …: content"), "schema …: ")
}

// fill writes a path for an operation with a value of each parameter's type.
func fill(op *gatehouse.Operation) string {
	path := op.Path
	for _, p := range op.Params {
		if p.In != "path" {
			continue
		}
		v := "x1"
		switch {
		case len(p.Shape.Enum) > 0:
			v = p.Shape.Enum[0]
		case p.Shape.Kind == gatehouse.IntegerShape, p.Shape.Kind == gatehouse.NumberShape:
			v = "1"
		case p.Shape.Kind == gatehouse.BooleanShape:
			v = "true"
		}
		path = strings.ReplaceAll(path, "{"+p.Name+"}", v)
	}
	return path
}

// tenThousandOperations writes a document with 10,000 operations in 2,500 paths.
func tenThousandOperations(tb testing.TB) []byte {
	tb.Helper()
	paths := map[string]any{}
	ref := func(s string) map[string]any { return map[string]any{"$ref": s} }
	body := map[string]any{"content": map[string]any{"application/json": map[string]any{"schema": ref("#/components/schemas/Thing")}}}
	for i := range 2500 {
		item := map[string]any{"parameters": []any{ref("#/components/parameters/Id")}}
		for _, method := range []string{"get", "put", "patch", "delete"} {
			op := map[string]any{"operationId": fmt.Sprintf("%s%d", method, i), "responses": map[string]any{"200": map[string]any{"description": "ok"}}}
			op["parameters"] = []any{map[string]any{"name": "q", "in": "query", "schema": map[string]any{"type": "integer", "maximum": i}}}
			if method == "put" || method == "patch" {
				op["requestBody"] = body
			}
			item[method] = op
		}
		paths[fmt.Sprintf("/api%d/things%d/{id}", i%50, i)] = item
	}
	doc := map[string]any{
		"openapi": "3.1.0", "info": map[string]any{"title": "big", "version": "1"}, "paths": paths,
		"components": map[string]any{
			"parameters": map[string]any{"Id": map[string]any{"name": "id", "in": "path", "required": true, "schema": map[string]any{"type": "string", "format": "uuid"}}},
			"schemas":    map[string]any{"Thing": map[string]any{"type": "object", "properties": map[string]any{"a": map[string]any{"type": "integer"}}}},
		},
	}
	b, err := json.Marshal(doc)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestTenThousandOperations(t *testing.T) {
	doc, err := validate.Load(fstest.MapFS{"big.json": {Data: tenThousandOperations(t)}}, "big.json", validate.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(doc.Operations()); n != 10_000 {
		t.Fatalf("%d operations", n)
	}
	a := route(t, doc)
	if _, _, _, _, err := a.call(request(t, "GET /api7/things1207/"+orderID+"?q=1207", "")); err != nil {
		t.Fatal(err)
	}
	if _, _, _, _, err := a.call(request(t, "GET /api7/things1207/"+orderID+"?q=1208", "")); !errors.As(err, new(*gatehouse.Problem)) {
		t.Fatal("above the maximum of its own operation passed")
	}
}

func BenchmarkLoad10k(b *testing.B) {
	data := tenThousandOperations(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := validate.Load(fstest.MapFS{"big.json": {Data: data}}, "big.json", validate.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoadGitHub(b *testing.B) {
	wantGitHub(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := validate.LoadFile(*github, validate.Options{SkipUnsupportedPatterns: true}); err != nil {
			b.Fatal(err)
		}
	}
}

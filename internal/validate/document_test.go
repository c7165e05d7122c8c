package validate_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/validate"
)

// spec puts lines under the head of a small document.
func spec(version string, lines ...string) fstest.MapFS {
	text := "openapi: " + version + "\ninfo: {title: t, version: '1'}\n" + strings.Join(lines, "\n") + "\n"
	return fstest.MapFS{"api.yaml": {Data: []byte(text)}}
}

func TestDocument(t *testing.T) {
	a := orders(t, validate.Options{API: "orders"})
	d := a.doc
	if d.Title() != "Orders" || d.Version() != "1.4.0" || d.Base() != "/v1" || !slices.Equal(d.Servers(), []string{"https://eu.orders.example/v1"}) {
		t.Errorf("got %q %q %q %q", d.Title(), d.Version(), d.Base(), d.Servers())
	}
	if !slices.Equal(d.Files(), []string{"orders.yaml"}) || len(d.Digest()) != 64 {
		t.Errorf("files %q digest %q", d.Files(), d.Digest())
	}
	var ids []string
	for _, op := range d.Operations() {
		ids = append(ids, op.Op().ID)
		if op.Op().API != "orders" || !strings.HasPrefix(op.Op().Path, "/v1/") || !strings.HasPrefix(op.Place(), "testdata/orders.yaml:") {
			t.Errorf("%+v at %s", op.Op(), op.Place())
		}
	}
	want := []string{"listOrders", "createOrder", "getOrder", "deleteOrder", "patchOrder", "putPhoto", "GET /reports/{name}.{format}", "sums"}
	if !slices.Equal(ids, want) {
		t.Fatalf("operations %q, want %q", ids, want)
	}
	create, del := d.Operations()[1].Op(), d.Operations()[3].Op()
	if len(create.Security) != 2 || create.Security[0][0].Kind != "oauth2" || create.Security[0][0].Scopes[0] != "orders:write" || len(create.Security[1]) != 2 {
		t.Errorf("security of its own: %+v", create.Security)
	}
	if s := d.Operations()[0].Op().Security; len(s) != 1 || s[0][0].Scopes[0] != "orders:read" {
		t.Errorf("security of the document: %+v", s)
	}
	if del.Security == nil || len(del.Security) != 0 {
		t.Errorf("an empty list of security: %#v", del.Security)
	}
	if f := create.Body.Field("shipping").Field("country"); f == nil || f.Kind != gatehouse.StringShape {
		t.Errorf("shape of a body: %+v", create.Body)
	}
}

func TestDocumentBaseOfTheConfig(t *testing.T) {
	doc, err := validate.LoadFile("testdata/orders.yaml", validate.Options{Base: "/caf%c3%a9/"})
	if err != nil || doc.Base() != "/caf%C3%A9" || doc.Operations()[0].Op().Path != "/caf%C3%A9/orders" {
		t.Fatalf("got %v, %v", doc, err)
	}
}

func TestLoadRefuses(t *testing.T) {
	get := func(more string) []string {
		return []string{"paths:", "  /a/{id}:", "    get:", "      operationId: a", "      parameters:", "        - {name: id, in: path, required: true, schema: {type: string}}", more}
	}
	bomb := []string{"x-0: &a0 {properties: {a: {type: string}}}"} // each level stands for nine of the one before
	for i := range 11 {
		bomb = append(bomb, fmt.Sprintf("x-%d: &a%d [%s]", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i), 9), ",")))
	}
	tests := []struct {
		name string
		fsys fstest.MapFS
		want string
	}{
		{"Swagger 2", fstest.MapFS{"api.yaml": {Data: []byte("swagger: '2.0'\ninfo: {title: t, version: '1'}\npaths: {}\n")}}, "3.0, 3.1 or 3.2"},
		{"no OpenAPI at all", fstest.MapFS{"api.yaml": {Data: []byte("a: 1\n")}}, "api.yaml"},
		{"an empty file", fstest.MapFS{"api.yaml": {}}, "api.yaml"},
		{"a missing file", fstest.MapFS{}, "api.yaml"},
		{"a duplicate key", spec("3.1.0", "paths:", "  /a: {get: {operationId: a}}", "  /a: {}"), "api.yaml:5:3: duplicate key \"/a\""},
		{"an undeclared path parameter", spec("3.1.0", "paths:", "  /a/{id}: {get: {operationId: a}}"), "path parameter {id}"},
		{"an operationId used twice", spec("3.1.0", "paths:", "  /a: {get: {operationId: a}}", "  /b: {get: {operationId: a}}"), "api.yaml:5:13: operationId \"a\" is used twice, first at api.yaml:4:13"},
		{"equal templates", spec("3.1.0", append(get(""), "  /a/{x}: {get: {parameters: [{name: x, in: path, schema: {type: string}}]}}")...), "answer the same requests"},
		{"an unreachable path", spec("3.1.0", "paths:", "  /a/../b: {get: {}}"), "no request can reach it"},
		{"a path without a slash", spec("3.1.0", "paths:", "  a: {get: {}}"), "must start with '/'"},
		{"an undeclared security scheme", spec("3.1.0", "security: [{ghost: []}]", "paths:", "  /a: {get: {}}"), `security scheme "ghost" is not declared`},
		{"a security scheme of an unknown type", spec("3.1.0", "paths: {}", "components: {securitySchemes: {k: {type: magic}}}"), `type "magic"`},
		{"a reference to another host", spec("3.1.0", get("        - {$ref: 'https://evil.example/p.yaml#/x'}")...), "only files beside the document are read"},
		{"a schema on another host", spec("3.1.0", get("        - {name: q, in: query, schema: {$ref: 'https://evil.example/s.json'}}")...), "evil.example"},
		{"a reference out of the folder", spec("3.1.0", get("        - {$ref: '../p.yaml#/x'}")...), "leaves the folder"},
		{"an absolute reference", spec("3.1.0", get("        - {$ref: '/etc/passwd'}")...), "only files beside the document are read"},
		{"a reference to nothing", spec("3.1.0", get("        - {$ref: '#/components/parameters/None'}")...), "names nothing"},
		{"references in a circle", spec("3.1.0", append(get("        - {$ref: '#/components/parameters/A'}"), "components: {parameters: {A: {$ref: '#/components/parameters/B'}, B: {$ref: '#/components/parameters/A'}}}")...), "circle"},
		{"a schema that does not compile", spec("3.1.0", get("        - {name: q, in: query, schema: {type: strange}}")...), "api.yaml:9:"},
		{"a pattern that needs backtracking", spec("3.1.0", get("        - {name: q, in: query, schema: {type: string, pattern: '(?=a)b'}}")...), "api.yaml:9:"},
		{"a matrix parameter", spec("3.1.0", "paths:", "  /a/{id}: {get: {parameters: [{name: id, in: path, style: matrix, schema: {type: string}}]}}"), "matrix"},
		{"a parameter declared twice", spec("3.1.0", get("        - {name: id, in: path, schema: {type: string}}")...), "declared twice"},
		{"a parameter nowhere", spec("3.1.0", get("        - {name: q, in: body, schema: {type: string}}")...), `in "body"`},
		{"required that is no boolean", spec("3.1.0", get("        - {name: q, in: query, required: maybe, schema: {type: string}}")...), "expected true or false"},
		{"a body without content", spec("3.1.0", "paths:", "  /a: {post: {requestBody: {required: true}}}"), "without content"},
		{"an alias in its own anchor", spec("3.1.0", "paths: {}", "x-a: &a [*a]"), "api.yaml"},
		{"a bomb of aliases", spec("3.1.0", append([]string{"paths: {}"}, bomb...)...), "aliases stand for more than"},
		{"a file of too many values", spec("3.1.0", "paths: {}", "x-a: ["+strings.Repeat("a,", 6_000_000)+"a]"), "too many values"},
		{"a crowd of parameters", spec("3.1.0", get(strings.Repeat("        - {name: q, in: query, schema: {}}\n", 1000))...), "more than 1000 parameters"},
	}
	for _, tt := range tests {
		t.Run(tt.name+" is refused", func(t *testing.T) {
			_, err := validate.Load(tt.fsys, "api.yaml", validate.Options{})
			if err == nil {
				t.Fatal("loaded")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %q, want something with %q", err, tt.want)
			}
		})
	}
}

func TestLoadReadsFilesBeside(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("api.yaml", `openapi: 3.0.3
info: {title: t, version: '1'}
paths:
  /a/{id}: {$ref: 'paths/a.yaml#/item'}
`)
	write("paths/a.yaml", `item:
  parameters: [{$ref: '../common.json#/id'}]
  post:
    operationId: a
    requestBody: {content: {application/json: {schema: {$ref: '../common.json#/Thing'}}}}
`)
	write("common.json", `{"id": {"name": "id", "in": "path", "required": true, "schema": {"type": "integer"}},
"Thing": {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer", "nullable": true, "minimum": 0, "exclusiveMinimum": true}}}}`)
	doc, err := validate.LoadFile(filepath.Join(dir, "api.yaml"), validate.Options{})
	if err != nil {
		t.Fatal(err)
	}
	files := doc.Files()
	slices.Sort(files)
	if !slices.Equal(files, []string{"api.yaml", "common.json", "paths/a.yaml"}) {
		t.Fatalf("files %q", files)
	}
	a := route(t, doc)
	for body, good := range map[string]bool{`{"n":1}`: true, `{"n":null}`: true, `{"n":0}`: false, `{}`: false} {
		if _, _, _, _, err := a.call(request(t, "POST /a/5", body, asJSON)); (err == nil) != good {
			t.Errorf("%s: %v", body, err)
		}
	}
	if _, _, _, _, err := a.call(request(t, "POST /a/x", `{"n":1}`, asJSON)); err == nil {
		t.Error("a path parameter of the other file is not checked")
	}
	before := doc.Digest()
	write("common.json", `{"id": {"name": "id", "in": "path", "required": true, "schema": {}}, "Thing": {}}`)
	if doc, err = validate.LoadFile(filepath.Join(dir, "api.yaml"), validate.Options{}); err != nil || doc.Digest() == before {
		t.Errorf("the digest does not tell a change of another file (%v)", err)
	}

	secret := filepath.Join(t.TempDir(), "secret.yaml")
	if err := os.WriteFile(secret, []byte("item: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "paths/a.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, filepath.Join(dir, "paths/a.yaml")); err != nil {
		t.Skip(err)
	}
	if _, err = validate.LoadFile(filepath.Join(dir, "api.yaml"), validate.Options{}); err == nil {
		t.Error("a symbolic link out of the folder was followed")
	}
}

func TestWarnings(t *testing.T) {
	doc, err := validate.Load(spec("3.1.0",
		"paths:",
		"  /{kind}/me: {get: {parameters: [{name: kind, in: path, schema: {type: string}}]}}",
		"  /books/{id}:",
		"    parameters: [{name: id, in: path, schema: {type: string}}, {name: gone, in: path, schema: {type: string}}]",
		"    get: {parameters: [{name: q, in: query, schema: {type: string, pattern: '(?=a)b'}}]}",
		"    post: {requestBody: {content: {image/png: {}}}}",
		"    trace: {}",
	), "api.yaml", validate.Options{SkipUnsupportedPatterns: true})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range doc.Warnings() {
		got = append(got, w.String())
	}
	all := strings.Join(got, "\n")
	for _, want := range []string{
		"/books/{id} and /{kind}/me (api.yaml:4:21) match the same paths", `path parameter "gone" is not in /books/{id}`,
		"pattern", "content of type image/png is bounded in size but not looked into", "trace of /books/{id} is not served",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no warning with %q in:\n%s", want, all)
		}
	}
	for _, w := range got {
		if !strings.HasPrefix(w, "api.yaml:") {
			t.Errorf("a warning without place: %s", w)
		}
	}
}

func TestCleanDocumentHasNoWarnings(t *testing.T) {
	doc, err := validate.Load(spec("3.1.0", "paths: {/a: {get: {}}}"), "api.yaml", validate.Options{})
	if err != nil || len(doc.Warnings()) != 0 {
		t.Fatalf("%v, %v", doc.Warnings(), err)
	}
}

func TestAnAPIKeyIsLookedForInTheHeaderTheDocumentNames(t *testing.T) {
	const text = `openapi: 3.1.0
info: {title: t, version: "1"}
security: [{header: []}, {query: []}]
components:
  securitySchemes:
    header: {type: apiKey, in: header, name: X-Token}
    query: {type: apiKey, in: query, name: api_key}
paths:
  /a: {get: {operationId: a, responses: {"200": {description: ok}}}}
`
	doc, err := validate.Load(fstest.MapFS{"a.yaml": {Data: []byte(text)}}, "a.yaml", validate.Options{API: "a"})
	if err != nil {
		t.Fatal(err)
	}
	security := doc.Operations()[0].Op().Security
	if len(security) != 2 || security[0][0].Header != "X-Token" || security[1][0].Header != "" {
		t.Errorf("%+v", security)
	}
	if w := doc.Warnings(); len(w) != 1 || !strings.Contains(w[0].Text, `"query" wants API keys in the query`) || !strings.HasPrefix(w[0].Place, "a.yaml:7:") {
		t.Errorf("%v", w)
	}
}

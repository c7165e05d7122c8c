package validate_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/validate"
)

func graph(tb testing.TB, g validate.GraphQL) *api {
	tb.Helper()
	doc, err := validate.Load(spec("3.1.0",
		"paths:",
		"  /graphql:",
		"    get:",
		"      operationId: ask",
		"      parameters:",
		"        - {name: query, in: query, schema: {type: string}}",
		"        - {name: variables, in: query, schema: {type: string}}",
		"        - {name: extensions, in: query, schema: {type: string}}",
		"    post:",
		"      operationId: graphql",
		"      parameters: [{name: query, in: query, schema: {type: string}}]",
		"      requestBody: {required: true, content: {application/json: {}, application/graphql: {}, multipart/form-data: {}, text/plain: {}}}",
	), "api.yaml", validate.Options{Settings: validate.Settings{GraphQL: &g}})
	if err != nil {
		tb.Fatal(err)
	}
	return route(tb, doc)
}

func ask(query string) string {
	b, _ := json.Marshal(map[string]any{"query": query})
	return string(b)
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func TestGraphQLCost(t *testing.T) {
	a := graph(t, validate.GraphQL{})
	tests := []struct {
		name, body string
		cost       int
	}{
		{"a field", ask(`{ me { name } }`), 2},
		{"a list", ask(`query { orders(first: 10) { id items(limit: 5) { sku } } }`), 1 + 10*(1+1+5)},
		{"a list within an object", ask(`{ orders(page: {last: 10, after: "x"}) { id } }`), 11},
		{"a variable", `{"query":"query($n: Int){ orders(first: $n) { id } }","variables":{"n":20}}`, 21},
		{"a variable inside an object", `{"query":"query($p: Page){ orders(page: $p) { id } }","variables":{"p":{"limit":20}}}`, 21},
		{"a variable spelled as text", `{"query":"query($n: Int){ orders(first: $n) { id } }","variables":{"n":"20"}}`, 21},
		{"a default", ask(`query($n: Int = 30){ orders(first: $n) { id } }`), 31},
		{"fragments", ask(`{ a { ...F } b { ...F } } fragment F on T { c { d } }`), 6},
		{"inline fragments", ask(`{ a { ... on T { c } ... { d } } }`), 3},
		{"the dearest of several", ask(`query A { a } query B { a { b } }`), 2},
		{"a batch", "[" + ask(`{a}`) + "," + ask(`{a{b}}`) + "]", 3},
		{"a mutation", ask(`mutation { pay(id: 1) { ok } }`), 2},
		{"nothing asked for by a negative number", ask(`{ orders(first: -5) { id } }`), 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, _, body, err := a.call(request(t, "POST /graphql", tt.body, asJSON))
			if err != nil {
				t.Fatalf("refused: %v %+v", err, gatehouse.AsProblem(err).Fields)
			}
			if body.Cost != tt.cost {
				t.Errorf("costs %d, want %d", body.Cost, tt.cost)
			}
		})
	}
}

func TestGraphQLRefuses(t *testing.T) {
	a := graph(t, validate.GraphQL{})
	bomb := "{ ...F0 }"
	for i := range 30 {
		bomb += " fragment F" + string(rune('0'+i/10)) + string(rune('0'+i%10)) + " on T { a "
		if i < 29 {
			next := "F" + string(rune('0'+(i+1)/10)) + string(rune('0'+(i+1)%10))
			bomb += "..." + next + " ..." + next
		}
		bomb += " }"
	}
	bomb = strings.Replace(bomb, "...F0 ", "...F00 ", 1)
	tests := []struct{ name, body, rule string }{
		{"what is no GraphQL", ask(`{`), "graphql_syntax"},
		{"nothing", ask(``), "graphql_member"},
		{"a fragment alone", ask(`fragment F on T { a }`), "graphql_syntax"},
		{"a schema", ask(`type T { a: Int }`), "graphql_syntax"},
		{"a query in another case", `{"query":"{a}","Query":"{b}"}`, "graphql_member"},
		{"a query that is no text", `{"query":["{a}"]}`, "graphql_member"},
		{"variables that are no object", `{"query":"{a}","variables":"{}"}`, "graphql_member"},
		{"text for a request", `"{a}"`, "graphql_member"},
		{"a list in a batch", `[[]]`, "graphql_member"},
		{"too large a batch", "[" + strings.Repeat(ask(`{a}`)+",", 5) + ask(`{a}`) + "]", "graphql_batch"},
		{"a batch that costs too much", "[" + strings.Repeat(ask(`{a(first:300){b}}`)+",", 3) + ask(`{a(first:300){b}}`) + "]", "graphql_cost"},
		{"depth", ask(strings.Repeat("{a", 13) + strings.Repeat("}", 13)), "graphql_depth"},
		{"depth in fragments", ask(`{a{b{c{d{e{f{...F}}}}}}} fragment F on T {g{h{i{j{k{l{m}}}}}}}`), "graphql_depth"},
		{"a fragment in itself", ask(`{...F} fragment F on T { a ...F }`), "graphql_fragment"},
		{"fragments in each other", ask(`{...F} fragment F on T { a { ...G } } fragment G on T { ...F }`), "graphql_fragment"},
		{"a fragment nobody defined", ask(`{...F}`), "graphql_fragment"},
		{"a fragment twice", ask(`{...F} fragment F on T { a } fragment F on T { b }`), "graphql_fragment"},
		{"fragments that double", ask(bomb), "graphql_root_fields"},
		{"fragments that double further down", ask(strings.Replace(bomb, "{ ...F00 }", "{ x { ...F00 } }", 1)), "graphql_cost"},
		{"aliases", ask("{ x { " + strings.Repeat("b: a ", 21) + "} }"), "graphql_aliases"},
		{"aliases in fragments", ask("{ a { ...F } b { ...F } } fragment F on T { " + strings.Repeat("b: a ", 11) + "}"), "graphql_aliases"},
		{"root fields", ask("{ a b c d e f g h i j k }"), "graphql_root_fields"},
		{"cost", ask(`{ a(first: 100) { b(first: 100) { c } } }`), "graphql_cost"},
		{"a huge number", ask(`{ a(first: 99999999999999999999) { b } }`), "graphql_cost"},
		{"cost in a variable", `{"query":"query($n: Int){ orders(first: $n) { id } }","variables":{"n":1e9}}`, "graphql_cost"},
		{"tokens", ask("{" + strings.Repeat("a ", 2001) + "}"), "graphql_tokens"},
		{"comments by the thousand", ask(strings.Repeat("#\n", 3000) + "{a}"), "graphql_tokens"},
		{"directives", ask("{ a " + strings.Repeat("@x ", 21) + "}"), "graphql_directives"},
		{"the schema", ask(`{ __schema { types { name } } }`), "graphql_introspection"},
		{"a type of it, under another name", ask(`{ x: __type(name: "A") { name } }`), "graphql_introspection"},
		{"the schema in a fragment", ask(`{ ...F } fragment F on Query { __schema { types { name } } }`), "graphql_introspection"},
		{"two operations without names", ask(`{a} {b}`), "graphql_syntax"},
		{"two of one name", ask(`query A {a} query A {b}`), "graphql_syntax"},
		{"a lone CR, where comments end for some", ask("{ a # \r b }\n}"), "control_character"},
		{"a byte order mark", ask("\ufeff{a}"), "control_character"},
		{"NUL", ask("{a\x00}"), "control_character"},
		{"a hash alone", `{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"` + digest("{a}") + `"}}}`, "graphql_persisted"},
		{"a hash of another query", `{"query":"{b}","extensions":{"persistedQuery":{"version":1,"sha256Hash":"` + digest("{a}") + `"}}}`, "graphql_persisted"},
		{"a name that is no hash", `{"documentId":"x"}`, "graphql_persisted"},
	}
	for _, tt := range tests {
		t.Run(tt.name+" is refused", func(t *testing.T) {
			_, _, _, body, err := a.call(request(t, "POST /graphql", tt.body, asJSON))
			if err == nil {
				t.Fatalf("passed, cost %d", body.Cost)
			}
			p := gatehouse.AsProblem(err)
			if p.Reason != "invalid_body" || p.Fields[0].Rule != tt.rule {
				t.Fatalf("got %s %+v, want %s", p.Reason, p.Fields, tt.rule)
			}
		})
	}
	for _, typed := range []string{asParts, "Content-Type: text/plain"} {
		if _, _, _, _, err := a.call(request(t, "POST /graphql", "--b--", typed)); gatehouse.AsProblem(err).Reason != "unsupported_media_type" {
			t.Errorf("%s, in which nobody would look for a query: %v", typed, err)
		}
	}
}

func TestGraphQLElsewhereThanInJSON(t *testing.T) {
	a := graph(t, validate.GraphQL{})
	deep := strings.Repeat("%7Ba", 13) + strings.Repeat("%7D", 13)
	tests := []struct{ name, line, body, typed, rule string }{
		{"a document as it is", "POST /graphql", "{ a }", "Content-Type: application/graphql", ""},
		{"a deep one", "POST /graphql", strings.Repeat("{a", 13) + strings.Repeat("}", 13), "Content-Type: application/graphql", "graphql_depth"},
		{"invalid UTF-8", "POST /graphql", "{ a(b: \"\xff\") }", "Content-Type: application/graphql", "utf8"},
		{"a GET", "GET /graphql?query=%7Ba%7D&variables=%7B%7D", "", "", ""},
		{"a deep GET", "GET /graphql?query=" + deep, "", "", "graphql_depth"},
		{"a GET that changes something", "GET /graphql?query=mutation%7Ba%7D", "", "", "graphql_method"},
		{"a GET with cost in a variable", "GET /graphql?query=query($n:Int)%7Ba(first:$n)%7Bb%7D%7D&variables=%7B%22n%22:5000%7D", "", "", "graphql_cost"},
		{"variables that are no JSON", "GET /graphql?query=%7Ba%7D&variables=%7B", "", "", "syntax"},
		{"a query beside the body", "POST /graphql?query=" + deep, ask("{a}"), asJSON, "graphql_depth"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var fields []string
			if tt.typed != "" {
				fields = append(fields, tt.typed)
			}
			_, _, _, body, err := a.call(request(t, tt.line, tt.body, fields...))
			rule := ""
			if err != nil {
				rule = gatehouse.AsProblem(err).Fields[0].Rule
			}
			if rule != tt.rule || err == nil && (body.Cost != 1 || string(body.Bytes) != tt.body) {
				t.Errorf("got %q, cost %d, %q; want %q", rule, body.Cost, body.Bytes, tt.rule)
			}
		})
	}
}

func TestGraphQLPersisted(t *testing.T) {
	byHash := `{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"` + digest("{a}") + `"}}}`
	byID := `{"documentId":"sha256:` + digest("{a}") + `"}`
	tests := []struct {
		name, body string
		g          validate.GraphQL
		cost       int // 0: refused
	}{
		{"a registered document", ask("{a}"), validate.GraphQL{Operations: []string{digest("{a}")}}, 1},
		{"its hash", byHash, validate.GraphQL{Operations: []string{strings.ToUpper(digest("{a}"))}, Cost: 7}, 7},
		{"its id", byID, validate.GraphQL{Operations: []string{digest("{a}")}, Cost: 7}, 7},
		{"another document", ask("{b}"), validate.GraphQL{Operations: []string{digest("{a}")}}, 0},
		{"another hash", byHash, validate.GraphQL{Operations: []string{digest("{b}")}, Persisted: true}, 0},
		{"any document where none is registered", ask("{a}"), validate.GraphQL{Operations: []string{}}, 0},
		{"a hash where services remember", byHash, validate.GraphQL{Persisted: true, Cost: 7}, 7},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, _, body, err := graph(t, tt.g).call(request(t, "POST /graphql", tt.body, asJSON))
			if (err != nil) != (tt.cost == 0) || err == nil && body.Cost != tt.cost {
				t.Errorf("cost %d, %v; want %d", body.Cost, err, tt.cost)
			}
		})
	}
	if _, err := validate.Load(spec("3.1.0", "paths:", "  /a:", "    get: {operationId: a}"), "api.yaml", validate.Options{
		Settings: validate.Settings{GraphQL: &validate.GraphQL{Operations: []string{"zz"}}},
	}); err == nil {
		t.Error("a registered document that is no hash is taken")
	}
}

func TestGraphQLNoneMeansNone(t *testing.T) {
	a := graph(t, validate.GraphQL{Aliases: -1, Directives: -1, Batch: -1, Introspection: true})
	for body, ok := range map[string]bool{
		ask("{a}"): true, ask("{b: a}"): false, ask("{a @x}"): false, "[" + ask("{a}") + "]": false, ask("{__schema{types{name}}}"): true,
	} {
		if _, _, _, _, err := a.call(request(t, http.MethodPost+" /graphql", body, asJSON)); (err == nil) != ok {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// FuzzGraphQL holds that no text makes the measure fail or last, and that what
// passes goes on as it came.
func FuzzGraphQL(f *testing.F) {
	for _, s := range []string{
		`{a}`, `query A($n: Int = 3) @x { a(first: $n) { ...F ... on T { b } } } fragment F on T { c: d }`, `{a(b: """x""", c: [1, {limit: 2}])}`,
		`mutation { a }`, `subscription { a }`, "# c\r\n{a}", `{...F} fragment F on T {...F}`, `"x" query { a }`,
	} {
		f.Add(s)
	}
	a := graph(f, validate.GraphQL{})
	f.Fuzz(func(t *testing.T, text string) {
		if text == "" {
			return
		}
		_, _, _, body, err := a.call(request(t, "POST /graphql", text, "Content-Type: application/graphql"))
		if err == nil && (string(body.Bytes) != text || body.Cost < 1 || body.Cost > 1000) {
			t.Fatalf("%q goes on as %q, cost %d", text, body.Bytes, body.Cost)
		}
	})
}

func BenchmarkGraphQL(b *testing.B) {
	a := graph(b, validate.GraphQL{})
	body := ask(`query Orders($n: Int = 10) { me { id name orders(first: $n) { edges { node { ...F } } } } } fragment F on Order { id total { amount currency } items(first: 5) { sku quantity } }`)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, _, _, err := a.call(request(b, "POST /graphql", body, asJSON)); err != nil {
			b.Fatal(err)
		}
	}
}

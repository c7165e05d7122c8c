package jsonschema_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	oracle "github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/gatehouse-api/gatehouse/internal/validate/jsonschema"
)

// A generator makes schemas and values from a small common vocabulary, so that
// values meet the keywords often enough to tell two validators apart.
type generator struct{ *rand.Rand }

func (g generator) pick(list ...string) string { return list[g.IntN(len(list))] }

func (g generator) name() string { return g.pick("a", "b", "c", "ä", `q\"`, "a/b") }

func (g generator) scalar() string {
	return g.pick("null", "true", "false", "0", "1", "1.0", "-1", "2.5", "10", "1e2", "0.3", "-0", "100",
		"9007199254740993", "123456789012345678901234567890", `""`, `"a"`, `"ab"`, `"abc"`, `"ä\n"`, `"\ud83d\ude00"`, `"1"`, `"x-1"`)
}

func (g generator) value(depth int) string {
	switch n := g.IntN(10); {
	case depth == 0 || n < 4:
		return g.scalar()
	case n < 7:
		parts := make([]string, g.IntN(4))
		for i := range parts {
			parts[i] = g.value(depth - 1)
		}
		return "[" + strings.Join(parts, ",") + "]"
	}
	seen := map[string]bool{}
	var parts []string
	for range g.IntN(5) {
		if name := g.name(); !seen[name] {
			seen[name] = true
			parts = append(parts, `"`+name+`":`+g.value(depth-1))
		}
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func (g generator) list(depth, most int) string {
	parts := make([]string, 1+g.IntN(most))
	for i := range parts {
		parts[i] = g.schema(depth - 1)
	}
	return "[" + strings.Join(parts, ",") + "]"
}

func (g generator) named(depth int) string {
	seen := map[string]bool{}
	var parts []string
	for range 1 + g.IntN(3) {
		if name := g.name(); !seen[name] {
			seen[name] = true
			parts = append(parts, `"`+name+`":`+g.schema(depth-1))
		}
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func (g generator) names() string {
	return g.pick(`["a"]`, `["b","a"]`, `["ä"]`, `["q\""]`, `[]`)
}

func (g generator) schema(depth int) string {
	if depth <= 0 {
		return g.pick("true", "true", "false", `{"type":"integer"}`, `{"type":"string"}`, `{"type":["null","object"]}`, `{"type":"number"}`, `{"$ref":"#/$defs/d"}`)
	}
	seen := map[string]bool{}
	var parts []string
	for range 1 + g.IntN(4) {
		k, v := g.keyword(depth)
		if !seen[k] {
			seen[k] = true
			parts = append(parts, fmt.Sprintf("%q:%s", k, v))
		}
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func (g generator) keyword(depth int) (string, string) {
	sub := func() string { return g.schema(depth - 1) }
	small := func() string { return g.pick("0", "1", "2", "3") }
	number := func() string { return g.pick("0", "1", "2.5", "-1", "10", "1e2", "0.3") }
	switch g.IntN(30) {
	case 0:
		return "type", g.pick(`"object"`, `"array"`, `"string"`, `"number"`, `"integer"`, `"null"`, `"boolean"`, `["array","object","string"]`)
	case 1:
		return "enum", "[" + g.value(2) + "," + g.scalar() + "]"
	case 2:
		return "const", g.value(1)
	case 3:
		return g.pick("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), number()
	case 4:
		return "multipleOf", g.pick("1", "2", "0.1", "0.01", "3", "1e1")
	case 5:
		return g.pick("minLength", "maxLength"), small()
	case 6:
		return "pattern", g.pick(`"^a"`, `"b$"`, `"^[a-c]{2,3}$"`, `"a|b"`, `"^\\w-\\d$"`, `"[^a]"`, `"^.$"`, `"^(a|ab)(c|)$"`, `"\\bab"`, `"ä"`, `""`)
	case 7:
		return g.pick("minItems", "maxItems", "minProperties", "maxProperties"), small()
	case 8:
		return "uniqueItems", "true"
	case 9:
		return "prefixItems", g.list(depth, 2)
	case 10:
		return "items", sub()
	case 11:
		return "contains", sub()
	case 12:
		return g.pick("minContains", "maxContains"), small()
	case 13, 14, 15:
		return "properties", g.named(depth)
	case 16:
		return "patternProperties", `{"^[ab]":` + sub() + `,"ä":` + sub() + `}`
	case 17:
		return "additionalProperties", sub()
	case 18:
		return "propertyNames", `{"maxLength":` + small() + `}`
	case 19:
		return "required", g.names()
	case 20:
		return "dependentRequired", `{"a":` + g.names() + `}`
	case 21:
		return "dependentSchemas", `{"b":` + sub() + `}`
	case 22:
		return "allOf", g.list(depth, 3)
	case 23:
		return "anyOf", g.list(depth, 3)
	case 24:
		return "oneOf", g.list(depth, 3)
	case 25:
		return "not", sub()
	case 26:
		return "if", sub()
	case 27:
		return g.pick("then", "else"), sub()
	case 28:
		return "unevaluatedProperties", sub()
	}
	return "unevaluatedItems", sub()
}

// against compares one schema and one value with the oracle and says whether the value holds.
func against(t *testing.T, schema, value string) (valid bool) {
	t.Helper()
	doc, err := oracle.UnmarshalJSON(strings.NewReader(schema))
	if err != nil {
		t.Fatal(err)
	}
	theirs := oracle.NewCompiler()
	if err := theirs.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	their, err := theirs.Compile("schema.json")
	if err != nil {
		t.Fatalf("the oracle does not compile %s: %v", schema, err)
	}
	our := compile(t, jsonschema.Options{Direction: jsonschema.Undirected}, schema)
	in, err := oracle.UnmarshalJSON(strings.NewReader(value))
	if err != nil {
		t.Fatal(err)
	}
	want := their.Validate(in)
	out, got := our.Append(nil, []byte(value))
	if (want == nil) != (got == nil) {
		t.Fatalf("schema %s\nvalue %s\nours: %v\noracle: %v", schema, value, got, want)
	}
	if typed := our.ValidateValue(in); (typed == nil) != (got == nil) {
		t.Fatalf("schema %s\nvalue %s\nby bytes: %v\nby value: %v", schema, value, got, typed)
	}
	if got != nil {
		return false
	}
	if again, err := our.Append(nil, out); err != nil || !bytes.Equal(again, out) {
		t.Fatalf("%s comes out as %s, then as %s (%v)", value, out, again, err)
	}
	if !sameTree(t, []byte(value), out) {
		t.Fatalf("%s says something else than %s", out, value)
	}
	return true
}

const perSchema = 12

func differential(t *testing.T, seed uint64) (valid int) {
	t.Helper()
	g := generator{rand.New(rand.NewPCG(seed, 1))}
	root := g.schema(3)
	schema := strings.TrimSuffix(root, "}")
	if root == "{}" || root[0] != '{' {
		schema = `{"type":"object"`
	}
	schema += `,"$defs":{"d":` + g.pick(`{"type":"string"}`, `{"maxProperties":1}`, `{"minimum":1}`) + `}}`
	for range perSchema {
		if against(t, schema, g.value(3)) {
			valid++
		}
	}
	return valid
}

func TestAgainstOracle(t *testing.T) {
	n, valid := 1000, 0
	if raceEnabled {
		n = 200
	}
	for seed := range n {
		valid += differential(t, uint64(seed))
	}
	if all := n * perSchema; valid < all/5 || valid > all*4/5 {
		t.Errorf("%d of %d values hold: too one-sided to tell anything", valid, all)
	}
}

func FuzzAgainstOracle(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed + 1<<40)
	}
	f.Fuzz(func(t *testing.T, seed uint64) { differential(t, seed) })
}

func TestTheStripeBodiesPassASchemaMadeForThem(t *testing.T) {
	dir := corpus(t, "stripe-fixtures")
	all, _ := readTree(t, filepath.Join(dir, "fixtures.json")).(map[string]any)
	resources, _ := all["resources"].(map[string]any)
	if len(resources) < 80 {
		t.Fatalf("%d resources, 88 expected", len(resources))
	}
	for name, v := range resources {
		schema, err := json.Marshal(infer(v))
		if err != nil {
			t.Fatal(err)
		}
		body, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		s := compile(t, jsonschema.Options{AssertFormats: true}, string(schema))
		out, err := s.Append(nil, body)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !sameTree(t, body, out) {
			t.Errorf("%s comes out changed", name)
		}
		if m, ok := v.(map[string]any); ok { // the schema is a closed one
			m["undeclared"] = true
			worse, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Append(nil, worse); keyword(err) != "additionalProperties" {
				t.Errorf("%s: an undeclared member gives %v", name, err)
			}
		}
	}
}

// infer makes the closed schema of one value.
func infer(v any) map[string]any {
	switch x := v.(type) {
	case nil:
		return map[string]any{"type": "null"}
	case bool:
		return map[string]any{"type": "boolean"}
	case string:
		return map[string]any{"type": "string", "maxLength": 5000}
	case []any:
		alternatives := []any{}
		for _, it := range x {
			alternatives = append(alternatives, infer(it))
		}
		if len(alternatives) == 0 {
			return map[string]any{"type": "array", "maxItems": 0}
		}
		return map[string]any{"type": "array", "items": map[string]any{"anyOf": alternatives}}
	case map[string]any:
		props, required := map[string]any{}, []any{}
		for k, m := range x {
			props[k] = infer(m)
			required = append(required, k)
		}
		return map[string]any{"type": "object", "properties": props, "required": required, "additionalProperties": false}
	}
	return map[string]any{"type": "number"}
}

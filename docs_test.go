package gatehouse_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/config"
)

var update = flag.Bool("update", false, "write the generated documents anew")

// TestConfigDocumentIsFresh holds docs/config.md to the schema, and so to the
// structs that are decoded: go test -run ConfigDocument . -update
func TestConfigDocumentIsFresh(t *testing.T) {
	want := configDocument(t)
	if *update {
		if err := os.WriteFile("docs/config.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/config.md is not what the config's structs say; run: go test -run ConfigDocument . -update")
	}
}

func configDocument(t *testing.T) string {
	t.Helper()
	var s struct {
		Then map[string]any            `json:"then"`
		Defs map[string]map[string]any `json:"$defs"`
	}
	if err := json.Unmarshal(config.Schema(), &s); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString(`# gatehouse.yaml

Made from the program's own structs; ` + "`gatehouse schema`" + ` prints the same as JSON Schema for editors. Unknown keys, keys given twice,
anchors and tags are errors. Paths are relative to the file. ` + "`gatehouse check`" + ` finds what is wrong with file:line:column.
`)
	seen := map[string]bool{}
	var section func(name string, v map[string]any)
	section = func(name string, v map[string]any) {
		props, _ := v["properties"].(map[string]any)
		if len(props) == 0 || seen[name] {
			return
		}
		seen[name] = true
		required := map[string]bool{}
		if list, ok := v["required"].([]any); ok {
			for _, r := range list {
				required[r.(string)] = true
			}
		}
		fmt.Fprintf(&b, "\n## %s\n| key | type | default | what |\n|---|---|---|---|\n", name)
		var next []string
		for _, key := range slices.Sorted(maps.Keys(props)) {
			p := props[key].(map[string]any)
			def := fmt.Sprint(p["default"])
			if p["default"] == nil {
				def = ""
			}
			if required[key] {
				def = "required"
			}
			doc, _ := p["description"].(string)
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", key, typeOf(p, &next), def, strings.ReplaceAll(doc, "|", "\\|"))
		}
		for _, n := range next {
			section(n, s.Defs[n])
		}
	}
	if ref, ok := s.Then["$ref"].(string); ok {
		name := strings.TrimPrefix(ref, "#/$defs/")
		section(name, s.Defs[name])
	} else {
		section("File", s.Then)
	}
	return b.String()
}

// typeOf names the type of a schema, and notes the structs it refers to.
func typeOf(p map[string]any, refs *[]string) string {
	if ref, ok := p["$ref"].(string); ok {
		name := strings.TrimPrefix(ref, "#/$defs/")
		*refs = append(*refs, name)
		return "[" + name + "](#" + strings.ToLower(name) + ")"
	}
	for _, k := range []string{"anyOf", "oneOf", "allOf"} {
		if list, ok := p[k].([]any); ok {
			var parts []string
			for _, item := range list {
				if part := typeOf(item.(map[string]any), refs); !slices.Contains(parts, part) {
					parts = append(parts, part)
				}
			}
			return strings.Join(parts, " or ")
		}
	}
	if enum, ok := p["enum"].([]any); ok {
		var parts []string
		for _, e := range enum {
			parts = append(parts, fmt.Sprintf("`%v`", e))
		}
		return strings.Join(parts, ", ")
	}
	switch p["type"] {
	case "array":
		if items, ok := p["items"].(map[string]any); ok {
			return "list of " + typeOf(items, refs)
		}
	case "object":
		if values, ok := p["additionalProperties"].(map[string]any); ok {
			return "map of " + typeOf(values, refs)
		}
	case nil:
		return "anything"
	}
	return fmt.Sprint(p["type"])
}

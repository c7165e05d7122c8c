package jsonschema_test

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/validate/jsonschema"
)

// checkPlain holds what is plain to the whole check: a yes that the check does not
// say lets a caller through.
func checkPlain(t *testing.T, schema string, s *jsonschema.Schema, text string, n int64) (plain int) {
	t.Helper()
	said := func(yes bool, v any) {
		if err := s.ValidateValue(v); yes && err != nil {
			t.Errorf("%s plainly takes %#v, and does not: %v", schema, v, err)
		} else if yes {
			plain++
		}
	}
	said(s.TakesString(text), text)
	said(s.TakesInteger(n), n)
	parts := strings.Split(text, ",")
	list, all := make([]any, len(parts)), true
	items, ok := s.TakesItems(len(parts))
	for i, p := range parts {
		list[i] = p
		all = all && items.TakesString(p)
	}
	said(ok && all, list)
	items, ok = s.TakesItems(2)
	said(ok && items.TakesInteger(n), []any{n, n})
	return plain
}

func TestWhatIsPlainlyTakenIsTaken(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(11, 5))}
	texts := []string{"", "a", "ab", "abc", "x-1", "ä", "a\"", "a\\b", "a,b", "ab,ab", "a,b,a", "2026-11-23", "a\n", "AB", "12", "1,2", strings.Repeat("a", 300)}
	numbers := []int64{0, 1, -1, 2, 3, 10, 100, math.MaxInt32, math.MaxInt32 + 1, math.MinInt64, math.MaxInt64, 1 << 53}
	schemas := []string{
		`{"type":"string","pattern":"^[a-z]{1,3}$"}`, `{"enum":["a","ab","x-1","a\"","12"]}`, `{"type":"string","format":"date"}`, `{"type":"string","minLength":2,"maxLength":3}`,
		`{"type":"integer","format":"int32"}`, `{"type":"integer","minimum":1,"maximum":100}`, `{"type":"number","exclusiveMinimum":0,"exclusiveMaximum":9223372036854775807}`,
		`{"type":"integer","minimum":0.5}`, `{"maximum":1e400}`, `{"type":"integer","multipleOf":2}`, `{"type":"array","maxItems":2,"items":{"type":"string","pattern":"^[a-z]*$"}}`,
		`{"type":"array","uniqueItems":true,"items":{"type":"string"}}`, `{"type":"array","minItems":2,"items":{"type":"integer","maximum":3}}`, `{"items":false}`, `{"items":{"$ref":"#/$defs/d"},"$defs":{"d":{"type":"string"}}}`,
		`{"type":"string","not":{"const":"a"}}`, `{"const":"ab","enum":["ab","a"]}`, `{"format":"int64"}`, `false`, `true`,
	}
	for range 3000 {
		schemas = append(schemas, g.schema(2))
	}
	plain := 0
	for _, schema := range schemas {
		s, err := tryCompile(t, jsonschema.Options{AssertFormats: true}, schema)
		if err != nil {
			continue
		}
		for i, text := range texts {
			plain += checkPlain(t, schema, s, text, numbers[i%len(numbers)])
		}
	}
	if plain < 10_000 {
		t.Errorf("only %d were plain: this test shows little", plain)
	}
}

func TestMembersAreFoundByName(t *testing.T) {
	for _, n := range []int{0, 1, 2, 7, 40, 1000, 3000} {
		properties, value := map[string]any{}, map[string]any{}
		for i := range n {
			name := "n" + strconv.Itoa(i*i) + []string{"", "x", "é", `"`}[i%4]
			properties[name], value[name] = map[string]any{"const": i}, i
		}
		schema, _ := json.Marshal(map[string]any{"properties": properties, "additionalProperties": false})
		body, _ := json.Marshal(value)
		s := compile(t, jsonschema.Options{}, string(schema))
		if _, err := s.Append(nil, body); err != nil {
			t.Errorf("%d members: %v", n, err)
		}
		for name := range value {
			value[name] = "another"
			body, _ = json.Marshal(value)
			if _, err := s.Append(nil, body); keyword(err) != "enum" && keyword(err) != "const" {
				t.Errorf("a wrong %q among %d: %v", name, n, err)
			}
			break
		}
		if _, err := s.Append(nil, []byte(`{"nn":1}`)); keyword(err) != "additionalProperties" {
			t.Errorf("an unknown one beside %d: %v", n, err)
		}
	}
}

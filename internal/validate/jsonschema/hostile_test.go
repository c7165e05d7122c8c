package jsonschema_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/validate/jsonschema"
)

func TestHostileCostIsRefusedByCountedWork(t *testing.T) {
	// Every level tries both alternatives on everything below: 2^60 steps if nobody counted.
	bomb := `{"$defs":{"n":{"anyOf":[
		{"type":"array","items":{"$ref":"#/$defs/n"},"contains":{"const":"never"}},
		{"type":"array","items":{"$ref":"#/$defs/n"},"contains":{"const":"nowhere"}}]}},"$ref":"#/$defs/n"}`
	unions := `{"$defs":{"n":{"oneOf":[
		{"properties":{"a":{"$ref":"#/$defs/n"}},"required":["x"]},
		{"properties":{"a":{"$ref":"#/$defs/n"}},"required":["y"]}]}},"not":{"$ref":"#/$defs/n"}}`
	enum := `{"contains":{"enum":[` + strings.TrimSuffix(strings.Repeat(`{"a":1},`, 5000), ",") + `]}}`
	many := `{"anyOf":[` + strings.TrimSuffix(strings.Repeat(`{"minLength":2000000},`, 200), ",") + `]}`
	for name, tc := range map[string]struct{ schema, src, want string }{
		"alternatives inside alternatives run out of budget": {bomb, strings.Repeat("[", 60) + strings.Repeat("]", 60), "too_complex"},
		"a not around the bomb does not turn it into a yes":  {unions, strings.Repeat(`{"a":`, 60) + "1" + strings.Repeat("}", 60), "too_complex"},
		"a long enum of objects on many items is refused":    {enum, "[" + strings.TrimSuffix(strings.Repeat(`{"a":2},`, 500), ",") + "]", "too_complex"},
		"a long escaped text read by many is refused":        {many, `"` + strings.Repeat(`\n`, 1<<19) + `"`, "too_complex"},
		"a hostile expression is parsed, never built":        {`{"format":"regex"}`, `"` + strings.Repeat("(", 4000) + `"`, "format"},
		"sixteen thousand unique objects pass":               {`{"uniqueItems":true}`, objects(16000, ""), ""},
		"one that is there twice is found among them":        {`{"uniqueItems":true}`, objects(16000, `,{"b":[1.0],"k":15999}`), "uniqueItems"},
	} {
		t.Run(name, func(t *testing.T) {
			s := compile(t, jsonschema.Options{AssertFormats: true}, tc.schema)
			if _, err := s.Append(nil, []byte(tc.src)); keyword(err) != tc.want {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func objects(n int, last string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,{"k":%d,"b":[1]}`, i)
	}
	return "[" + b.String()[1:] + last + "]"
}

func TestASchemaThatNeverDescendsDoesNotCompile(t *testing.T) {
	for name, schema := range map[string]string{
		"a reference to itself":    `{"$ref":"#"}`,
		"two that refer in a ring": `{"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"allOf":[{"$ref":"#/$defs/a"}]}},"$ref":"#/$defs/a"}`,
		"an alternative of itself": `{"type":"object","oneOf":[{"type":"string"},{"$ref":"#"}]}`,
		"its own condition":        `{"if":{"$ref":"#"},"then":true}`,
		"its own dependent schema": `{"dependentSchemas":{"a":{"$ref":"#"}}}`,
		"what it must not be":      `{"not":{"$ref":"#"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tryCompile(t, jsonschema.Options{}, schema)
			if err == nil || !strings.Contains(err.Error(), "infinite recursion") {
				t.Errorf("got %v", err)
			}
		})
	}
	dynamic := `{"$dynamicAnchor":"n","$defs":{"x":{"$dynamicAnchor":"m","$dynamicRef":"#n"}},"allOf":[{"$dynamicRef":"#n"}]}`
	s := compile(t, jsonschema.Options{}, dynamic)
	if _, err := s.Append(nil, []byte(`1`)); keyword(err) != "too_complex" {
		t.Errorf("a dynamic ring gives %v", err)
	}
	// Below a member there is an end: the value's own.
	s = compile(t, jsonschema.Options{}, `{"type":"object","properties":{"child":{"$ref":"#"}},"additionalProperties":false}`)
	if _, err := s.Append(nil, []byte(`{"child":{"child":{}}}`)); err != nil {
		t.Error(err)
	}
}

func TestAllocationsOfTheSteadyState(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	s, body := order(t)
	dst := make([]byte, 0, 2*len(body))
	if n := testing.AllocsPerRun(200, func() {
		if _, err := s.Append(dst, body); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations for an order, none expected", n)
	}
	param := compile(t, jsonschema.Options{AssertFormats: true}, `{"type":"string","format":"uuid"}`)
	var v any = "7d1c2f9e-52a4-4c0b-9d6f-0a2b6e5f4c31"
	if n := testing.AllocsPerRun(200, func() {
		if err := param.ValidateValue(v); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations for a parameter, none expected", n)
	}
}

package jsonschema_test

import (
	"reflect"
	"testing"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/validate/jsonschema"
)

func TestKindsSeenThroughCombinations(t *testing.T) {
	for name, tc := range map[string]struct {
		schema string
		want   gatehouse.ShapeKind
	}{
		"a type beside null is that type":         {`{"type":["string","null"]}`, gatehouse.StringShape},
		"an enum of strings is a string":          {`{"enum":["a","b",null]}`, gatehouse.StringShape},
		"an enum of mixed values is anything":     {`{"enum":["a",1]}`, gatehouse.AnyShape},
		"a constant object is an object":          {`{"const":{}}`, gatehouse.ObjectShape},
		"number and integer together are integer": {`{"type":"number","allOf":[{"type":"integer"}]}`, gatehouse.IntegerShape},
		"number is number":                        {`{"type":["number","integer"]}`, gatehouse.NumberShape},
		"a nullable alternative is its type":      {`{"anyOf":[{"type":"boolean"},{"type":"null"}]}`, gatehouse.BooleanShape},
		"alternatives of two types are anything":  {`{"oneOf":[{"type":"array"},{"type":"string"}]}`, gatehouse.AnyShape},
		"no type is anything":                     {`{"minLength":1}`, gatehouse.AnyShape},
	} {
		t.Run(name, func(t *testing.T) {
			s := compile(t, jsonschema.Options{}, tc.schema)
			if got := s.Shape().Kind; got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestMembersOfAlternativesAreOptional(t *testing.T) {
	s := compile(t, jsonschema.Options{}, `{"type":"object","required":["id"],"properties":{"id":{"type":"integer"},"same":{"type":"string"}},
		"oneOf":[{"required":["card"],"properties":{"card":{"type":"string"},"x":{"type":"string"}},"additionalProperties":false},
			{"properties":{"x":{"type":"integer"},"same":{"type":"string"}}}]}`)
	got := s.Shape()
	want := &gatehouse.Shape{Kind: gatehouse.ObjectShape, Open: true, Fields: []gatehouse.Field{
		{Name: "card", Shape: &gatehouse.Shape{Kind: gatehouse.StringShape}},
		{Name: "id", Required: true, Shape: &gatehouse.Shape{Kind: gatehouse.IntegerShape}},
		{Name: "same", Shape: &gatehouse.Shape{}}, // described twice: promised by neither
		{Name: "x", Shape: &gatehouse.Shape{}},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestMembersAreSeenThroughAllOf(t *testing.T) {
	s := compile(t, jsonschema.Options{}, `{"type":"object","allOf":[{"properties":{"b":{"type":"string"}},"required":["b","é\""]},{"$ref":"#/$defs/x"}],
		"$defs":{"x":{"properties":{"a":{"type":"integer"}},"additionalProperties":{"type":"boolean"}}}}`)
	got := s.Shape()
	want := &gatehouse.Shape{Kind: gatehouse.ObjectShape, Open: true, Fields: []gatehouse.Field{
		{Name: "a", Shape: &gatehouse.Shape{Kind: gatehouse.IntegerShape}},
		{Name: "b", Required: true, Shape: &gatehouse.Shape{Kind: gatehouse.StringShape}},
		{Name: `é"`, Required: true, Shape: &gatehouse.Shape{}},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

package jsonschema_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/validate/jsonschema"
)

const pets = `{"openapi":"3.0.3","components":{"schemas":{
	"Cat":{"type":"object","required":["kind","lives"],"properties":{"kind":{"type":"string"},"lives":{"type":"integer","minimum":0,"exclusiveMinimum":true}}},
	"Dog":{"type":"object","required":["kind"],"properties":{"kind":{"type":"string"},"friend":{"$ref":"#/components/schemas/Pet"}},"additionalProperties":false},
	"Pet":{"oneOf":[{"$ref":"#/components/schemas/Cat"},{"$ref":"#/components/schemas/Dog"}],
		"discriminator":{"propertyName":"kind","mapping":{"tom":"#/components/schemas/Cat","rex":"Dog"}}},
	"User":{"type":"object","required":["id","name","password"],"additionalProperties":false,"properties":{
		"id":{"type":"integer","format":"int64","readOnly":true},
		"name":{"type":"string","nullable":true},
		"role":{"allOf":[{"$ref":"#/components/schemas/Role"}]},
		"password":{"type":"string","writeOnly":true}}},
	"Role":{"type":"string","enum":["user","admin"],"readOnly":true},
	"Node":{"type":"object","properties":{"next":{"$ref":"#/components/schemas/Node"},"tags":{"type":"array","items":{"type":"string"}}}},
	"Merged":{"allOf":[{"$ref":"#/components/schemas/Node"},{"type":"object","required":["n"],"properties":{"n":{"type":"integer","nullable":true}},"additionalProperties":true}]}
}}}`

func openAPI(t *testing.T, d jsonschema.Direction, name string) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler(jsonschema.Options{Dialect: jsonschema.OpenAPI30, Direction: d, AssertFormats: true})
	if err := c.AddResource("openapi.json", tree(t, []byte(pets))); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("openapi.json#/components/schemas/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOpenAPI30(t *testing.T) {
	for name, tc := range map[string]struct {
		schema    string
		direction jsonschema.Direction
		src       string
		keyword   string // of the first fault
		pointer   string
	}{
		"the discriminator picks the branch":                  {"Pet", 0, `{"kind":"Cat","lives":9}`, "", ""},
		"the faults are those of the branch it picks":         {"Pet", 0, `{"kind":"Cat","lives":0}`, "exclusiveMinimum", "/lives"},
		"a mapped name picks by reference":                    {"Pet", 0, `{"kind":"tom"}`, "required", ""},
		"a mapped name picks by schema name":                  {"Pet", 0, `{"kind":"rex","x":1}`, "additionalProperties", "/x"},
		"a recursive branch is followed":                      {"Pet", 0, `{"kind":"Dog","friend":{"kind":"Cat","lives":true}}`, "type", "/friend/lives"},
		"a name of no branch is refused":                      {"Pet", 0, `{"kind":"Cow"}`, "discriminator", "/kind"},
		"no name at all is refused":                           {"Pet", 0, `{"lives":1}`, "discriminator", ""},
		"a name that is no string is refused":                 {"Pet", 0, `{"kind":1}`, "discriminator", "/kind"},
		"what is no object fits no branch":                    {"Pet", 0, `[]`, "oneOf", ""},
		"a request does without what is read-only":            {"User", jsonschema.Request, `{"name":"a","password":"p"}`, "", ""},
		"a read-only member in a request is refused":          {"User", jsonschema.Request, `{"id":1,"name":"a","password":"p"}`, "readOnly", "/id"},
		"read-only through a reference is refused":            {"User", jsonschema.Request, `{"name":"a","password":"p","role":"admin"}`, "readOnly", "/role"},
		"a response does without what is write-only":          {"User", jsonschema.Response, `{"id":1,"name":"a","role":"user"}`, "", ""},
		"a write-only member in a response is refused":        {"User", jsonschema.Response, `{"id":1,"name":"a","password":"p"}`, "writeOnly", "/password"},
		"a response must have what is read-only and required": {"User", jsonschema.Response, `{"name":"a"}`, "required", ""},
		"nullable takes null":                                 {"User", jsonschema.Response, `{"id":1,"name":null}`, "", ""},
		"without nullable null is refused":                    {"User", jsonschema.Response, `{"id":null,"name":null}`, "type", "/id"},
		"an integer written with a fraction is refused":       {"User", jsonschema.Response, `{"id":1.0,"name":null}`, "type", "/id"},
		"an integer beyond 64 bits is refused":                {"User", jsonschema.Response, `{"id":9223372036854775808,"name":null}`, "format", "/id"},
		"the largest integer of 64 bits passes":               {"User", jsonschema.Response, `{"id":9223372036854775807,"name":null}`, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := openAPI(t, tc.direction, tc.schema).Append(nil, []byte(tc.src))
			if got := keyword(err); got != tc.keyword {
				t.Fatalf("got %v, want %q", err, tc.keyword)
			}
			if err == nil {
				return
			}
			e, _ := errors.AsType[*jsonschema.Error](err)
			if e.Violations[0].Pointer != tc.pointer || e.Malformed {
				t.Errorf("got %+v, want it at %q", e, tc.pointer)
			}
		})
	}
}

func TestADocumentThatIsWrongDoesNotCompile(t *testing.T) {
	for name, tc := range map[string]struct{ schema, want string }{
		"a type nobody knows":              {`{"type":"strin"}`, "schema.json#/type"},
		"a minimum that is a string":       {`{"properties":{"a":{"minimum":"5"}}}`, "schema.json#/properties/a/minimum"},
		"a length below zero":              {`{"maxLength":-1}`, "schema.json#/maxLength"},
		"a reference into nothing":         {`{"items":{"$ref":"#/$defs/x"}}`, "schema.json#/items/$ref"},
		"a reference over the network":     {`{"$ref":"https://evil.example/s.json"}`, "nothing is loaded from the network"},
		"an anchor nobody set":             {`{"$ref":"#here"}`, `no anchor "here"`},
		"a schema that is a number":        {`{"not":5}`, "schema.json#/not"},
		"properties that are a list":       {`{"properties":[]}`, "schema.json#/properties"},
		"an empty alternative":             {`{"anyOf":[]}`, "schema.json#/anyOf"},
		"a multiple of nothing":            {`{"multipleOf":0}`, "schema.json#/multipleOf"},
		"a bound nobody can compute with":  {`{"maximum":1e99999}`, "schema.json#/maximum"},
		"a pattern that backtracks":        {`{"pattern":"^(?!a)"}`, "schema.json#/pattern"},
		"a member pattern that backtracks": {`{"patternProperties":{"(?=a)":true}}`, "looks around"},
		"a required list with a number":    {`{"required":[1]}`, "schema.json#/required"},
		"a meta-schema nobody gave":        {`{"$schema":"https://example.com/meta"}`, "not known"},
		"an old list of items":             {`{"items":[true]}`, "prefixItems"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tryCompile(t, jsonschema.Options{}, tc.schema)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q in it", err, tc.want)
			}
		})
	}
	c := jsonschema.NewCompiler(jsonschema.Options{SkipUnsupportedPatterns: true})
	if err := c.AddResource("s", tree(t, []byte(`{"properties":{"a":{"pattern":"(?=a)"}},"$defs":{"broken":{"type":"x","not":{"$ref":"#/$defs/broken"}}}}`))); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Compile("s"); err != nil || len(c.Warnings()) != 1 || !strings.Contains(c.Warnings()[0], "s#/properties/a/pattern") {
		t.Errorf("%v, warnings %q", err, c.Warnings())
	}
	for range 2 { // the second time finds nothing half-made
		if _, err := c.Compile("s#/$defs/broken"); err == nil {
			t.Error("a broken schema compiles")
		}
	}
}

func TestOlderDrafts(t *testing.T) {
	for name, tc := range map[string]struct {
		dialect     jsonschema.Dialect
		schema, src string
		want        string
	}{
		"draft 7 has a list of items and additionalItems":  {jsonschema.Draft7, `{"items":[{"type":"string"}],"additionalItems":false}`, `["a",1]`, "false"},
		"draft 7 hides what stands beside $ref":            {jsonschema.Draft7, `{"definitions":{"a":true},"properties":{"x":{"$ref":"#/definitions/a","type":"string"}}}`, `{"x":1}`, ""},
		"draft 7 has if and const":                         {jsonschema.Draft7, `{"if":{"const":1},"then":false}`, `1`, "false"},
		"draft 7 has dependencies":                         {jsonschema.Draft7, `{"dependencies":{"a":["b"]}}`, `{"a":1}`, "dependentRequired"},
		"$schema changes the draft":                        {jsonschema.Draft202012, `{"$schema":"http://json-schema.org/draft-07/schema#","items":[{"type":"string"}]}`, `[1]`, "type"},
		"2019-09 has $recursiveRef":                        {jsonschema.Draft201909, `{"$recursiveAnchor":true,"type":"object","additionalProperties":{"$recursiveRef":"#"}}`, `{"a":{"b":1}}`, "type"},
		"2019-09 has a list of items and unevaluatedItems": {jsonschema.Draft201909, `{"items":[true],"unevaluatedItems":false}`, `[1,2]`, "unevaluatedItems"},
		"draft 4 has a boolean exclusiveMaximum":           {jsonschema.Draft4, `{"maximum":3,"exclusiveMaximum":true}`, `3`, "exclusiveMaximum"},
		"draft 4 does not know const":                      {jsonschema.Draft4, `{"const":1}`, `2`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := compile(t, jsonschema.Options{Dialect: tc.dialect, Direction: jsonschema.Undirected}, tc.schema).Append(nil, []byte(tc.src))
			if keyword(err) != tc.want {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestAFaultIsPlacedAndNeverEchoed(t *testing.T) {
	s := compile(t, jsonschema.Options{}, `{"properties":{"a/b":{"items":{"properties":{"pin":{"pattern":"^[0-9]{4}$","maxLength":4}}}}},"required":["x","y"],"maxProperties":3}`)
	_, err := s.Append(nil, []byte(`{"a/b":[{},{"pin":"hunter2-secret"},{"pin":7},{"pin":"abcd"}],"y":1}`))
	e, ok := errors.AsType[*jsonschema.Error](err)
	if !ok {
		t.Fatal(err)
	}
	want := []jsonschema.Violation{
		{Pointer: "/a~1b/1/pin", Keyword: "maxLength", Detail: "must have at most 4 characters"},
		{Pointer: "/a~1b/3/pin", Keyword: "pattern", Detail: "must match ^[0-9]{4}$"},
		{Pointer: "", Keyword: "required", Detail: `must have the member "x"`},
	}
	if !reflect.DeepEqual(e.Violations, want) {
		t.Errorf("got %+v", e.Violations)
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the value is echoed: %v", err)
	}
	one := compile(t, jsonschema.Options{MaxViolations: 1}, `{"items":{"type":"string"}}`)
	if _, err := one.Append(nil, []byte(`[1,2,3]`)); strings.Count(err.Error(), "type") != 1 {
		t.Errorf("more than one fault: %v", err)
	}
	long := compile(t, jsonschema.Options{}, `{"additionalProperties":false}`)
	_, err = long.Append(nil, []byte(`{"`+strings.Repeat("é", 5000)+`":1}`))
	if len(err.Error()) > 400 {
		t.Errorf("a long name is repeated in %d bytes", len(err.Error()))
	}
}

func TestShape(t *testing.T) {
	str := &gatehouse.Shape{Kind: gatehouse.StringShape}
	got := openAPI(t, jsonschema.Request, "Merged").Shape()
	want := &gatehouse.Shape{Kind: gatehouse.ObjectShape, Open: true, Fields: []gatehouse.Field{
		{Name: "n", Required: true, Shape: &gatehouse.Shape{Kind: gatehouse.IntegerShape}},
		{Name: "next", Shape: &gatehouse.Shape{Kind: gatehouse.ObjectShape, Open: true, Fields: []gatehouse.Field{
			{Name: "next", Shape: &gatehouse.Shape{}},
			{Name: "tags", Shape: &gatehouse.Shape{Kind: gatehouse.ArrayShape, Items: str}},
		}}},
		{Name: "tags", Shape: &gatehouse.Shape{Kind: gatehouse.ArrayShape, Items: str}},
	}}
	if !reflect.DeepEqual(got, want) {
		b, _ := json.MarshalIndent(got, "", " ")
		t.Errorf("got %s", b)
	}
	shape := openAPI(t, jsonschema.Response, "User").Shape()
	if shape.Open || shape.Field("id").Kind != gatehouse.IntegerShape || !reflect.DeepEqual(shape.Field("role").Enum, []string{"user", "admin"}) || shape.Field("password").Kind != gatehouse.StringShape {
		t.Errorf("got %+v", shape)
	}
	// A schema that unfolds into millions of parts ends at a bound.
	wide := `{"$defs":{"a":{"properties":{"p":{"$ref":"#/$defs/b"},"q":{"$ref":"#/$defs/b"},"r":{"$ref":"#/$defs/b"}},"type":"object"},` +
		`"b":{"properties":{"p":{"$ref":"#/$defs/c"},"q":{"$ref":"#/$defs/c"},"r":{"$ref":"#/$defs/c"}},"type":"object"},` +
		`"c":{"properties":{"p":{"type":"array","items":{"$ref":"#/$defs/d"}}},"type":"object"},"d":{"type":"object","properties":{"x":{"$ref":"#/$defs/a"},"y":{"$ref":"#"}}}},"$ref":"#/$defs/a"}`
	if s := compile(t, jsonschema.Options{}, wide).Shape(); s.Field("r").Field("r").Field("p").Kind != gatehouse.ArrayShape {
		t.Errorf("got %+v", s)
	}
}

func TestFormatsAssertedForNumbersAndText(t *testing.T) {
	for _, tc := range []struct {
		format, src string
		ok          bool
	}{
		{"int32", `2147483647`, true},
		{"int32", `2147483648`, false},
		{"int32", `-2147483648`, true},
		{"int32", `1.5`, false},
		{"int32", `"x"`, true},
		{"int64", `-9223372036854775808`, true},
		{"int64", `-9223372036854775809`, false},
		{"int64", `1e3`, true},
		{"int64", `1e300`, false},
		{"float", `3.4e38`, true},
		{"float", `3.5e38`, false},
		{"float", `-3.5e38`, false},
		{"double", `1.7e308`, true},
		{"byte", `"aGk="`, true},
		{"byte", `"aGk"`, false},
		{"byte", `"a=k="`, false},
		{"byte", `""`, true},
		{"byte", `"===="`, false},
		{"password", `"any"`, true},
		{"binary", `"any"`, true},
		{"ipv4", `"010.0.0.1"`, false},
		{"ipv6", `"fe80::1%eth0"`, false},
		{"uri", `"http://a\\b"`, false},
		{"uri", `"/relative"`, false},
		{"date-time", `"2026-02-29T00:00:00Z"`, false},
		{"date-time", `"2024-02-29T00:00:00Z"`, true},
		{"date-time", `"2026-11-20 09:41:07Z"`, false},
		{"email", `"a@b@c"`, false},
		{"email", `"\"a@b\"@example.org"`, true},
		{"uuid", `"7d1c2f9e52a44c0b9d6f0a2b6e5f4c31"`, false},
	} {
		s := compile(t, jsonschema.Options{AssertFormats: true}, `{"format":"`+tc.format+`"}`)
		if _, err := s.Append(nil, []byte(tc.src)); (err == nil) != tc.ok {
			t.Errorf("%s as %s: %v", tc.src, tc.format, err)
		}
	}
}

func TestManyGoroutinesShareASchema(t *testing.T) {
	s, body := order(t)
	bad := strings.Replace(string(body), `"EUR"`, `"XXX"`, 1)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if _, err := s.Append(nil, body); err != nil {
					t.Error(err)
				}
				if _, err := s.Append(nil, []byte(bad)); keyword(err) != "enum" {
					t.Error(err)
				}
				if err := s.ValidateValue("x"); keyword(err) != "type" {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

package jsonschema_test

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/validate/jsonschema"
)

// compile compiles one schema given as JSON.
func compile(t testing.TB, opts jsonschema.Options, schema string) *jsonschema.Schema {
	t.Helper()
	s, err := tryCompile(t, opts, schema)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func tryCompile(t testing.TB, opts jsonschema.Options, schema string) (*jsonschema.Schema, error) {
	t.Helper()
	c := jsonschema.NewCompiler(opts)
	if err := c.AddResource("schema.json", tree(t, []byte(schema))); err != nil {
		return nil, err
	}
	return c.Compile("schema.json")
}

func order(t testing.TB) (*jsonschema.Schema, []byte) {
	t.Helper()
	schema, err := os.ReadFile("testdata/order.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	body, err := os.ReadFile("testdata/order.json")
	if err != nil {
		t.Fatal(err)
	}
	return compile(t, jsonschema.Options{AssertFormats: true}, string(schema)), body
}

// BenchmarkOrder is the 1.3 KB order: 40 values, patterns, formats, a oneOf,
// additionalProperties false everywhere.
func BenchmarkOrder(b *testing.B) {
	s, body := order(b)
	dst := make([]byte, 0, 2*len(body))
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := s.Append(dst, body); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkScan is the same body under a schema that takes anything.
func BenchmarkScan(b *testing.B) {
	_, body := order(b)
	s := compile(b, jsonschema.Options{}, `true`)
	dst := make([]byte, 0, 2*len(body))
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := s.Append(dst, body); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkParameter is one typed query parameter.
func BenchmarkParameter(b *testing.B) {
	s := compile(b, jsonschema.Options{AssertFormats: true}, `{"type":"string","format":"uuid"}`)
	var v any = "7d1c2f9e-52a4-4c0b-9d6f-0a2b6e5f4c31"
	b.ReportAllocs()
	for b.Loop() {
		if err := s.ValidateValue(v); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHostile64K is the most work 64 KiB can ask of plain schemas: many
// tiny values, all compared with one another; one string of escapes.
func BenchmarkHostile64K(b *testing.B) {
	var digits []byte
	for i := range 10000 {
		digits = append(strconv.AppendInt(digits, int64(i), 10), ',')
	}
	for name, tc := range map[string]struct{ schema, body string }{
		"zeros":   {`{"items":{"type":"integer","minimum":0}}`, "[" + strings.Repeat("0,", 32767) + "0]"},
		"unique":  {`{"uniqueItems":true,"items":{"type":"integer"}}`, "[" + string(digits) + `"x"]`},
		"names":   {`{"additionalProperties":{"type":"integer"}}`, manyNames(2000, `"x":1`)},
		"escapes": {`{"maxLength":100000,"pattern":"^[^<>]*$"}`, `"` + strings.Repeat(`\u00e9`, 10900) + `"`},
	} {
		b.Run(name, func(b *testing.B) {
			s := compile(b, jsonschema.Options{}, tc.schema)
			dst := make([]byte, 0, 1<<17)
			src := []byte(tc.body)
			b.ReportAllocs()
			b.SetBytes(int64(len(src)))
			for b.Loop() {
				_, _ = s.Append(dst, src)
			}
		})
	}
}

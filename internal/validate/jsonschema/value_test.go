package jsonschema_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/validate/jsonschema"
)

func TestDecodedValues(t *testing.T) {
	deep := any("end")
	for range 70 {
		deep = []any{deep}
	}
	for name, tc := range map[string]struct {
		schema string
		value  any
		want   string
	}{
		"a string is measured in characters":            {`{"type":"string","maxLength":2}`, "éé", ""},
		"a string with a quote matches unescaped":       {`{"pattern":"^\"\\n$"}`, "\"\n", ""},
		"a string equals a constant with an escape":     {`{"const":"\u0001\\"}`, "\x01\\", ""},
		"invalid UTF-8 is refused":                      {`true`, "a\xff", "invalid_utf8"},
		"invalid UTF-8 in a name is refused":            {`true`, map[string]any{"\xff": 1}, "invalid_utf8"},
		"an int64 is an integer":                        {`{"type":"integer","minimum":3}`, int64(3), ""},
		"an int below the minimum is refused":           {`{"minimum":3}`, 2, "minimum"},
		"a whole float64 is an integer":                 {`{"type":"integer"}`, 1e15, ""},
		"a fraction is no integer":                      {`{"type":"integer"}`, 1.5, "type"},
		"a literal is exact":                            {`{"maximum":9007199254740992}`, json.Number("9007199254740993"), "maximum"},
		"a literal that is no number is refused":        {`true`, json.Number("0x10"), "number"},
		"an empty literal is refused":                   {`true`, json.Number(""), "number"},
		"a literal beyond the bounds is refused":        {`true`, json.Number("1e400"), "number"},
		"NaN is refused":                                {`true`, math.NaN(), "number"},
		"infinity is refused":                           {`true`, math.Inf(-1), "number"},
		"a boolean is one":                              {`{"const":true}`, true, ""},
		"false is not true":                             {`{"const":true}`, false, "enum"},
		"true is not 1":                                 {`{"const":1}`, true, "enum"},
		"null is a value":                               {`{"type":"null"}`, nil, ""},
		"an array is checked item by item":              {`{"items":{"type":"integer"},"uniqueItems":true}`, []any{int64(1), int64(1)}, "uniqueItems"},
		"an object is checked member by member":         {`{"properties":{"a":{"items":{"type":"string"}}}}`, map[string]any{"a": []any{"x", 1}}, "type"},
		"what is no JSON value is refused":              {`true`, struct{}{}, "number"},
		"a tree deeper than the bound is refused":       {`true`, deep, "size"},
		"an array longer than the bound is refused":     {`true`, make([]any, 65537), "size"},
		"an integer is compared with a decimal exactly": {`{"multipleOf":0.01}`, 19.99, ""},
		"a decimal that is no multiple is refused":      {`{"multipleOf":0.01}`, 19.995, "multipleOf"},
	} {
		t.Run(name, func(t *testing.T) {
			s := compile(t, jsonschema.Options{}, tc.schema)
			for range 2 { // a refusal leaves nothing behind for the next value
				if err := s.ValidateValue(tc.value); keyword(err) != tc.want {
					t.Errorf("got %v, want %q", err, tc.want)
				}
			}
		})
	}
}

func TestASchemaNobodyCompiledRefusesEverything(t *testing.T) {
	for _, s := range []*jsonschema.Schema{nil, {}} {
		if out, err := s.Append(nil, []byte(`1`)); err == nil || out != nil {
			t.Errorf("got %s, %v", out, err)
		}
		if err := s.ValidateValue(1); err == nil {
			t.Error("a value is taken")
		}
	}
}

func TestNumbersAreComparedExactly(t *testing.T) {
	for _, tc := range []struct {
		schema, src string
		ok          bool
	}{
		{`{"const":1}`, `1.0`, true},
		{`{"const":1}`, `10e-1`, true},
		{`{"const":100}`, `1E2`, true},
		{`{"const":0}`, `-0.0`, true},
		{`{"const":0.1}`, `0.1000000000000000000001`, false},
		{`{"enum":[9007199254740993]}`, `9007199254740992`, false},
		{`{"maximum":0.3}`, `0.30000000000000004`, false},
		{`{"exclusiveMinimum":1e-300}`, `1e-300`, false},
		{`{"minimum":1e300}`, `1e299`, false},
		{`{"minimum":-1e300}`, `-1e301`, false},
		{`{"maximum":12345678901234567890123}`, `12345678901234567890124`, false},
		{`{"maximum":12345678901234567890123}`, `12345678901234567890123`, true},
		{`{"multipleOf":0.01}`, `4.35`, true},
		{`{"multipleOf":0.0001}`, `0.00751`, false},
		{`{"multipleOf":3}`, `300000000000000000000000000000`, true},
		{`{"multipleOf":7}`, `1e300`, false},
		{`{"uniqueItems":true}`, `[1,1.0]`, false},
		{`{"uniqueItems":true}`, `[1,true,"1",[1],{"a":1}]`, true},
		{`{"uniqueItems":true}`, `[{"a":1,"b":2},{"b":2,"a":1}]`, false},
		{`{"uniqueItems":true}`, `[[1,2],[2,1]]`, true},
		{`{"type":"integer"}`, `1.0`, true},
		{`{"type":"integer"}`, `1e-1`, false},
		{`{"type":"integer"}`, `123456789012345678901234567890.0`, true},
	} {
		s := compile(t, jsonschema.Options{}, tc.schema)
		if _, err := s.Append(nil, []byte(tc.src)); (err == nil) != tc.ok {
			t.Errorf("%s against %s: %v", tc.src, strings.TrimSpace(tc.schema), err)
		}
	}
}

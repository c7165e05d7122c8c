package jsonschema_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/gatehouse-api/gatehouse/internal/validate/jsonschema"
)

func TestTheJSONParsingCorpusIsReadStrictly(t *testing.T) {
	dir := filepath.Join(corpus(t, "json-test-suite"), "test_parsing")
	s := compile(t, jsonschema.Options{}, `true`)
	var either strings.Builder
	for _, file := range glob(t, filepath.Join(dir, "*.json")) {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		out, verr := s.Append(nil, src)
		name := filepath.Base(file)
		// The corpus calls these valid JSON. Two readers take the first kind
		// differently; the second is longer than any number needs to be.
		refused := ""
		switch {
		case strings.HasPrefix(name, "y_object_duplicated_key"):
			refused = "duplicate_key"
		case name == "y_number_double_close_to_zero.json":
			refused = "number"
		}
		switch {
		case refused != "":
			if keyword(verr) != refused {
				t.Errorf("%s: %v, want %s", name, verr, refused)
			}
		case name[0] == 'y' && verr != nil:
			t.Errorf("%s is refused: %v", name, verr)
		case name[0] == 'n' && verr == nil:
			t.Errorf("%s is accepted as %s", name, out)
		case name[0] == 'i':
			verdict := "accepted"
			if verr != nil {
				verdict = "refused: " + keyword(verr)
			}
			either.WriteString(name + ": " + verdict + "\n")
		}
	}
	golden(t, "testdata/parsing_either.txt", either.String())
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (-update writes it):\n%s", file, got)
	}
}

// keyword returns the keyword of the first violation, "" for no error.
func keyword(err error) string {
	if err == nil {
		return ""
	}
	e, ok := errors.AsType[*jsonschema.Error](err)
	if !ok || len(e.Violations) == 0 {
		return "no *Error: " + err.Error()
	}
	return e.Violations[0].Keyword
}

func TestWhatTwoReadersTakeDifferentlyIsRefused(t *testing.T) {
	for name, tc := range map[string]struct{ src, want string }{
		"a duplicate name, the last one harmless, is refused": {`{"role":"admin","role":"user"}`, "duplicate_key"},
		"a duplicate name written with an escape is refused":  {`{"role":1,"\u0072ole":2}`, "duplicate_key"},
		"a duplicate name deep inside is refused":             {`[{"a":{"b":[{"c":1,"c":1}]}}]`, "duplicate_key"},
		"a duplicate among many names is refused":             {manyNames(40, `"n7":1`), "duplicate_key"},
		"a second document is refused":                        {`{"a":1}{"b":2}`, "syntax"},
		"garbage after the value is refused":                  {`{"a":1} x`, "syntax"},
		"a NUL after the value is refused":                    {"{}\x00", "syntax"},
		"a byte order mark is refused":                        {"\ufeff{}", "syntax"},
		"UTF-16 is refused":                                   {"{\x00}\x00", "syntax"},
		"invalid UTF-8 is refused":                            {"\"a\xff\"", "invalid_utf8"},
		"an overlong encoding is refused":                     {"\"\xc0\xaf\"", "invalid_utf8"},
		"a surrogate in UTF-8 is refused":                     {"\"\xed\xa0\x80\"", "invalid_utf8"},
		"a lone high surrogate is refused":                    {`"\ud800"`, "invalid_utf8"},
		"a lone low surrogate is refused":                     {`"\udc00x"`, "invalid_utf8"},
		"two high surrogates are refused":                     {`"\ud800\ud800"`, "invalid_utf8"},
		"a comment is refused":                                {`{"a":1/*x*/}`, "syntax"},
		"a trailing comma is refused":                         {`{"a":1,}`, "syntax"},
		"a single-quoted string is refused":                   {`{'a':1}`, "syntax"},
		"NaN is refused":                                      {`NaN`, "syntax"},
		"a leading zero is refused":                           {`012`, "syntax"},
		"a leading plus is refused":                           {`+1`, "syntax"},
		"a raw newline in a string is refused":                {"\"a\nb\"", "syntax"},
		"nothing at all is refused":                           {``, "syntax"},
		"only space is refused":                               {" \n", "syntax"},
		"a number beyond a double is refused":                 {`1e400`, "number"},
		"fifteen bytes of huge exponent are refused":          {`{"n":1e1000000}`, "number"},
		"an exponent that overflows an int is refused":        {`1e99999999999999999999`, "number"},
		"a tiny number with a huge exponent is refused":       {`1e-1000000`, "number"},
		"zero with a huge exponent is refused":                {`0e1000000`, "number"},
		"a number just above a double is refused":             {`1.8e308`, "number"},
		"a megabyte of digits is refused":                     {strings.Repeat("9", 1<<20), "number"},
		"nesting beyond the bound is refused":                 {strings.Repeat("[", 65) + strings.Repeat("]", 65), "depth"},
		"nesting never closed is refused at the bound":        {strings.Repeat(`{"a":`, 100000), "depth"},
		"an array beyond the bound is refused":                {"[" + strings.Repeat("0,", 65536) + "0]", "size"},
		"an object beyond the bound is refused":               {manyNames(4097, `"x":1`), "size"},
	} {
		t.Run(name, func(t *testing.T) {
			s := compile(t, jsonschema.Options{}, `true`)
			out, err := s.Append([]byte("kept"), []byte(tc.src))
			if got := keyword(err); got != tc.want {
				t.Fatalf("got %q (%v), want %q", got, err, tc.want)
			}
			if string(out) != "kept" {
				t.Errorf("a refusal leaves %q behind", out)
			}
			if e, _ := errors.AsType[*jsonschema.Error](err); !e.Malformed {
				t.Error("it must count as malformed")
			}
		})
	}
}

func manyNames(n int, last string) string {
	var b strings.Builder
	b.WriteByte('{')
	for i := range n {
		b.WriteString(`"n` + strings.Repeat("i", i%3) + itoa(i) + `":0,"n` + itoa(i) + `":0,`)
	}
	b.WriteString(last + "}")
	s := b.String()
	return strings.ReplaceAll(s, `"n`+`0":0,"n0":0,`, `"n0":0,`)
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

func TestTheCanonicalFormIsUnique(t *testing.T) {
	for name, tc := range map[string]struct{ src, want string }{
		"space between tokens goes":                  {" { \"a\" : [ 1 , 2 ] } \n", `{"a":[1,2]}`},
		"the order of members stays":                 {`{"b":1,"a":2}`, `{"b":1,"a":2}`},
		"needless escapes go":                        {`"\u0041\/\u00e9\ud83d\ude00"`, `"A/é😀"`},
		"control characters get their short escapes": {`"\u0008\u000c\u000A\u000d\u0009\u0001\u007f"`, "\"\\b\\f\\n\\r\\t\\u0001\x7f\""},
		"an escaped NUL stays escaped":               {`"\u0000"`, `"\u0000"`},
		"the quote and the backslash stay escaped":   {`"\u0022\u005c"`, `"\"\\"`},
		"a name is rewritten too":                    {`{"\u0061":1}`, `{"a":1}`},
		"a negative zero loses its sign":             {`[-0,-0.0,-0e5,0]`, `[0,0.0,0e5,0]`},
		"a number keeps its literal":                 {`[1.10,1E5,9007199254740993]`, `[1.10,1E5,9007199254740993]`},
	} {
		t.Run(name, func(t *testing.T) {
			s := compile(t, jsonschema.Options{}, `true`)
			out, err := s.Append(nil, []byte(tc.src))
			if err != nil || string(out) != tc.want {
				t.Errorf("got %s, %v; want %s", out, err, tc.want)
			}
		})
	}
}

func FuzzScan(f *testing.F) {
	for _, seed := range []string{
		`{"a":[1,-0,1.5e3,"x\u0041\n",true,false,null],"b":{}}`, `"\ud83d\ude00"`, `[[[[]]]]`, `{"a":1,"a":2}`, "\"\xff\"",
		`"01234567890123456789\\é"`, `-`, `1e`, `{"":0}`, `"` + "abcdefg\x80" + `"`, `1e309`, `[1,]`,
	} {
		f.Add([]byte(seed))
	}
	s := compile(f, jsonschema.Options{Limits: jsonschema.Limits{MaxDepth: 9000, MaxNumberLength: 1 << 20, MaxExponent: 1 << 20}}, `true`)
	f.Fuzz(func(t *testing.T, src []byte) {
		out, err := s.Append(nil, src)
		theirs := jsontext.Value(bytes.Clone(src)).IsValid()
		if (err == nil) != theirs {
			if keyword(err) == "number" || keyword(err) == "size" {
				return // bounds of our own
			}
			t.Fatalf("ours: %v, jsontext valid: %v, for %q", err, theirs, src)
		}
		if err != nil {
			return
		}
		again, err := s.Append(nil, out)
		if err != nil || !bytes.Equal(again, out) {
			t.Fatalf("%q comes out as %q, then as %q (%v)", src, out, again, err)
		}
		if !sameTree(t, src, out) {
			t.Fatalf("%q says something else than %q", out, src)
		}
	})
}

// sameTree reports whether two texts mean the same, a negative zero aside.
func sameTree(t testing.TB, a, b []byte) bool {
	t.Helper()
	return reflect.DeepEqual(dropSign(tree(t, a)), dropSign(tree(t, b)))
}

func dropSign(v any) any {
	switch x := v.(type) {
	case json.Number:
		if s := strings.TrimPrefix(x.String(), "-"); strings.Trim(strings.ToLower(s)[:max(1, strings.IndexAny(strings.ToLower(s)+"e", "e"))], "0.") == "" {
			return json.Number(s)
		}
	case []any:
		for i := range x {
			x[i] = dropSign(x[i])
		}
	case map[string]any:
		for k := range x {
			x[k] = dropSign(x[k])
		}
	}
	return v
}

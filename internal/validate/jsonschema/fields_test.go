package jsonschema_test

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/validate/jsonschema"
)

// leaves collects what a walk shows: name, kind, text and what the schema says.
type leaves struct {
	t    testing.TB
	tree *jsonschema.Tree
	out  string
	got  []string
	wide []string // leaves whose text their field does not allow
}

func (l *leaves) Leaf(leaf *jsonschema.Leaf) {
	f := &l.tree.Fields[leaf.Field]
	says := [...]string{
		jsonschema.Integer: "integer", jsonschema.Number: "number", jsonschema.Bool: "bool", jsonschema.Null: "null", jsonschema.Length: "length",
		jsonschema.String: f.Text.String(),
	}[leaf.Kind]
	if f.Secret {
		says += " secret"
	}
	if !f.Named {
		says += " unnamed"
	}
	l.got = append(l.got, fmt.Sprintf("%s=%s (%s)", leaf.Name, leaf.Text, says))
	if leaf.Start >= 0 && l.out[leaf.Start:leaf.Start+len(leaf.Text)] != string(leaf.Text) {
		l.t.Errorf("%s does not stand at %d", leaf.Name, leaf.Start)
	}
	ok := true
	switch leaf.Kind {
	case jsonschema.String:
		ok = holds(l.t, &f.Text, string(leaf.Text))
	case jsonschema.Integer, jsonschema.Number:
		ok = f.Number
	case jsonschema.Bool:
		ok = f.Bool
	case jsonschema.Null:
		ok = f.Null
	case jsonschema.Length:
		ok = f.Array
	}
	if !ok {
		l.wide = append(l.wide, l.got[len(l.got)-1])
	}
}

// holds asks whether s is in t, as a reader of t would.
func holds(t testing.TB, x *jsonschema.Text, s string) bool {
	t.Helper()
	if x.None || x.Literals != nil && !slices.Contains(x.Literals, s) || x.MaxLength > 0 && len([]rune(s)) > x.MaxLength {
		return false
	}
	if x.Pattern != "" && !regexp.MustCompile(x.Pattern).MatchString(s) {
		return false
	}
	for i := range x.All {
		if !holds(t, &x.All[i], s) {
			return false
		}
	}
	some := len(x.Any) == 0
	for i := range x.Any {
		some = some || holds(t, &x.Any[i], s)
	}
	return some
}

func walk(t testing.TB, s *jsonschema.Schema, src string) *leaves {
	t.Helper()
	var tape jsonschema.Tape
	out, err := s.AppendTape(nil, []byte(src), &tape)
	if err != nil {
		t.Fatal(err)
	}
	l := &leaves{t: t, tree: s.Fields(), out: string(out)}
	tape.Walk(l.tree, out, "json", l)
	return l
}

func TestFields(t *testing.T) {
	tests := []struct {
		name, schema, src string
		want              []string
	}{
		{
			"a closed object", `{"type":"object","additionalProperties":false,"properties":{"id":{"type":"string","format":"uuid"},"n":{"type":"integer"},
				"kind":{"enum":["a","b"]},"note":{"type":"string","maxLength":9},"sku":{"pattern":"^[A-Z]+$","maxLength":4},"free":{"type":"string"}}}`,
			`{"n":1,"kind":"a","note":"x\"y","sku":"A","free":"z","id":"0c1f7f43-5bd2-4b0e-9d5b-6a6f0a3f9b11"}`,
			[]string{
				"json.n=1 (integer)", `json.kind=a (one of "a", "b")`, `json.note=x"y (at most 9 characters)`, "json.sku=A (pattern ^[A-Z]+$, at most 4 characters)",
				"json.free=z (any string)", "json.id=0c1f7f43-5bd2-4b0e-9d5b-6a6f0a3f9b11 (format uuid)",
			},
		},
		{
			"arrays, their lengths, and what no schema names", `{"properties":{"a":{"type":"array","items":{"type":"object","properties":{"x":{"const":"y"}}}}}}`,
			`{"a":[{"x":"y"},{"z":"w"}],"b":{"c":null,"d":[true]}}`,
			[]string{
				`json.a.0.x=y ("y")`, "json.a.1.z=w (any string unnamed)", "json.a=2 (length)", "json.b.c=null (null unnamed)", "json.b.d.0=true (bool unnamed)", "json.b.d=1 (length unnamed)",
			},
		},
		{"a scalar", `{"enum":["x",2]}`, `2`, []string{"json=2 (integer)"}},
		{
			"all of what is included", `{"$ref":"#/$defs/a","allOf":[{"properties":{"k":{"maxLength":3}}}],"$defs":{"a":{"properties":{"k":{"type":"string","pattern":"^x"}}}}}`,
			`{"k":"xy"}`,
			[]string{"json.k=xy (pattern ^x, at most 3 characters)"},
		},
		{
			"alternatives add up", `{"oneOf":[{"type":"null"},{"type":"object","additionalProperties":false,"properties":{"k":{"const":"a"},"v":{"format":"date"}}},
				{"type":"object","additionalProperties":false,"required":["w"],"properties":{"k":{"const":"b"},"w":{"pattern":"^w$"}}}]}`,
			`{"k":"b","w":"w"}`,
			[]string{`json.k=b (one of "a", "b")`, "json.w=w (pattern ^w$)"},
		},
		{
			"an alternative that says nothing frees", `{"anyOf":[{"properties":{"k":{"const":"a"}}},{"required":["z"]}]}`,
			`{"k":"other","z":1}`,
			[]string{"json.k=other (any string)", "json.z=1 (integer)"},
		},
		{
			"unevaluated members are refused", `{"allOf":[{"$ref":"#/$defs/a"}],"properties":{"b":{"type":"integer"}},"unevaluatedProperties":false,"$defs":{"a":{"properties":{"a":{"format":"date"}}}}}`,
			`{"a":"2026-11-23","b":7}`,
			[]string{"json.a=2026-11-23 (format date)", "json.b=7 (integer)"},
		},
		{
			"secrets", `{"properties":{"p":{"type":"string","format":"password"},"w":{"type":"string","writeOnly":true,"maxLength":5}}}`,
			`{"p":"x","w":"y"}`,
			[]string{"json.p=x (any string secret)", "json.w=y (at most 5 characters secret)"},
		},
		{
			"a schema within itself", `{"type":"object","additionalProperties":false,"properties":{"t":{"type":"string","format":"ipv4"},"c":{"type":"array","items":{"$ref":"#"}}}}`,
			`{"t":"1.2.3.4","c":[{"c":[{"t":"5.6.7.8"}]}]}`,
			[]string{"json.t=1.2.3.4 (format ipv4)", "json.c.0.c.0.t=5.6.7.8 (format ipv4)", "json.c.0.c=1 (length)", "json.c=1 (length)"},
		},
		{
			"pattern members", `{"patternProperties":{"^x":{"const":"1"}},"additionalProperties":{"type":"integer"}}`, `{"xa":"1","b":2}`,
			[]string{`json.xa=1 ("1" unnamed)`, "json.b=2 (integer unnamed)"},
		},
		{"tuples", `{"prefixItems":[{"const":"a"}],"items":{"format":"date"}}`, `["a","2026-11-23"]`, []string{
			`json.0=a (either format date or "a")`, `json.1=2026-11-23 (either format date or "a")`, "json=2 (length)",
		}},
		{"names with escapes and dots", `{"properties":{"a.b":{"type":"integer"},"q\"":{"type":"integer"}},"additionalProperties":false}`, `{"a.b":1,"q\u0022":2}`, []string{"json.a.b=1 (integer)", `json.q"=2 (integer)`}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			l := walk(t, compile(t, jsonschema.Options{AssertFormats: true}, tc.schema), tc.src)
			if !reflect.DeepEqual(l.got, tc.want) {
				t.Errorf("leaves\n  %s\nwant\n  %s", strings.Join(l.got, "\n  "), strings.Join(tc.want, "\n  "))
			}
			if l.wide != nil {
				t.Errorf("taken by the schema, not by its field: %s", l.wide)
			}
		})
	}
}

func TestEveryTextOfAFormatMatchesItsExpression(t *testing.T) {
	texts := []string{"", "a", "/", "::", "1/a~0", "0#", "P1Y2M3DT4H5M6S", "P3W", "x y@z"}
	for _, tc := range []string{
		"2026-11-23", "2026-11-23T10:00:00Z", "2026-11-23t10:00:00.123456+01:00", "23:59:60z", "10:00:00-05:30", "a@b", `"a b@\""@[IPv6:::1]`,
		`"\` + "\x01é" + `"@x.org`, "a.b+c/d=e@x-y.org", "x@[1.2.3.4]", "localhost", "xn--mnchen-3ya.de", "255.0.10.1", "fe80::1", "::ffff:1.2.3.4",
		"1111:2222:3333:4444:5555:6666:255.255.255.255", "https://u:p@[::1]:8443/a;b,c/$&'()*!?x=[y]#frag/?", "urn:a:b", "a/b?c#d", "//h/p", "http://é.de/ü?ö#ä",
		"http://x/{+a,b:3}/{?c*}{&d}'()", "{/a.b,c%20d}|", "0c1f7f43-5BD2-4b0e-9d5b-6a6f0a3f9b11", "aGk=", "aGkxMg==", "+/ab",
	} {
		texts = append(texts, tc)
		for i := range tc { // and what is near it
			texts = append(texts, tc[:i], tc[:i]+"x"+tc[i:], tc[:i]+"%41"+tc[i:], tc[:i]+"\n"+tc[i:], tc[i:])
		}
	}
	for _, format := range []string{
		"date-time", "date", "time", "duration", "email", "idn-email", "hostname", "idn-hostname", "ipv4", "ipv6", "uri", "uri-reference", "iri", "iri-reference",
		"uri-template", "uuid", "json-pointer", "relative-json-pointer", "regex", "byte",
	} {
		s := compile(t, jsonschema.Options{AssertFormats: true}, `{"type":"string","format":"`+format+`"}`)
		text := &s.Fields().Fields[0].Text
		taken := 0
		for _, x := range texts {
			if s.ValidateValue(x) != nil {
				continue
			}
			if taken++; !holds(t, text, x) {
				t.Errorf("%s takes %q, and %q does not match it", format, x, text.Pattern)
			}
		}
		if taken == 0 {
			t.Errorf("no text is a %s: this tests nothing", format)
		}
	}
}

func TestAllocsOfTheTape(t *testing.T) {
	if raceEnabled {
		t.Skip("left out: the race detector allocates")
	}
	s, body := order(t)
	tree := s.Fields()
	var tape jsonschema.Tape
	dst := make([]byte, 0, 2*len(body))
	count := &counter{}
	step := func() {
		out, err := s.AppendTape(dst, body, &tape)
		if err != nil {
			t.Fatal(err)
		}
		tape.Walk(tree, out, "json", count)
	}
	step()
	if n := testing.AllocsPerRun(100, step); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

type counter struct{ n int }

func (c *counter) Leaf(*jsonschema.Leaf) { c.n++ }

func BenchmarkWalk(b *testing.B) {
	s, body := order(b)
	tree := s.Fields()
	var tape jsonschema.Tape
	out, err := s.AppendTape(nil, body, &tape)
	if err != nil {
		b.Fatal(err)
	}
	count := &counter{}
	b.ReportAllocs()
	for b.Loop() {
		tape.Walk(tree, out, "json", count)
	}
}

// A document's schemas may unfold without end; their fields do not.
func TestFieldsAreBounded(t *testing.T) {
	many := make([]string, 12)
	for i := range many {
		many[i] = fmt.Sprintf(`{"properties":{"k%d":{"$ref":"#"},"x":{"anyOf":[{"$ref":"#"},{"maxLength":%d}]}},"required":["k%d"]}`, i, i+1, i)
	}
	s := compile(t, jsonschema.Options{}, `{"type":"object","anyOf":[`+strings.Join(many, ",")+`]}`)
	if n := len(s.Fields().Fields); n > 5000 {
		t.Errorf("%d fields", n)
	}
}

package validate_test

import (
	"encoding/xml"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/validate"
)

const (
	asXML   = "Content-Type: application/xml"
	xmlHead = `<?xml version="1.0" encoding="UTF-8"?>`
)

func TestXMLIsWrittenAfresh(t *testing.T) {
	a := media(t, validate.Settings{})
	tests := []struct{ name, in, want string }{
		{"one element", `<a/>`, `<a></a>`},
		{"a declaration", `<?xml version='1.0' encoding="utf-8" standalone='no' ?>` + "\r\n<a/>\n", `<a></a>`},
		{"a declaration without encoding", `<?xml version="1.0"?><a/>`, `<a></a>`},
		{"a byte order mark", "\ufeff<a/>", `<a></a>`},
		{"text", "<a> b\r\nc\rd ]] &lt;&gt;&amp;&apos;&quot;&#65;&#x42;&#13; é</a>", "<a> b\nc\nd ]] &lt;&gt;&amp;'\"AB&#xD; é</a>"},
		{"CDATA", `<a>x<![CDATA[<b>&amp;]]>y<![CDATA[]]></a>`, `<a>x&lt;b&gt;&amp;amp;y</a>`},
		{"comments", `<!-- a --><a>adm<!-- x -->in</a><!---->`, `<a>admin</a>`},
		{"attributes", "<a  b = 'x\"&#10;\ty'\nc=\"'&lt;>\" ></a >", `<a b="x&quot;&#xA; y" c="'&lt;&gt;"></a>`},
		{"namespaces", `<p:a xmlns:p="u" xmlns="v"><b p:c="1" c="2" xml:lang="de"/></p:a>`, `<p:a xmlns:p="u" xmlns="v"><b p:c="1" c="2" xml:lang="de"></b></p:a>`},
		{"letters of other scripts", `<größe ключ="1"><名/></größe>`, `<größe ключ="1"><名></名></größe>`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, _, body, err := a.call(request(t, "POST /xml", tt.in, asXML))
			if err != nil {
				t.Fatalf("refused: %v %+v", err, gatehouse.AsProblem(err).Fields)
			}
			if string(body.Bytes) != xmlHead+tt.want || body.Stream != nil {
				t.Errorf("goes on as %q, want %q", body.Bytes, tt.want)
			}
			if v, err := body.Value(nil); v != nil || err != nil {
				t.Errorf("rules see %v, %v", v, err)
			}
		})
	}
}

func TestXMLRefuses(t *testing.T) {
	a := media(t, validate.Settings{})
	tests := []struct{ name, in, rule string }{
		{"a DTD", `<!DOCTYPE a><a/>`, "dtd"},
		{"an external entity", `<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>`, "dtd"},
		{"a billion laughs", `<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;">]><a>&c;</a>`, "dtd"},
		{"a DTD in the middle", `<a><!DOCTYPE a></a>`, "dtd"},
		{"an entity", `<a>&nbsp;</a>`, "entity"},
		{"an entity without end", `<a>&amp</a>`, "entity"},
		{"a bare ampersand", `<a>&</a>`, "entity"},
		{"an entity in an attribute", `<a b="&x;"/>`, "entity"},
		{"NUL by number", `<a>&#0;</a>`, "entity"},
		{"a surrogate by number", `<a>&#xD800;</a>`, "entity"},
		{"a number beyond Unicode", `<a>&#x110000;</a>`, "entity"},
		{"a number that wraps", `<a>&#4294967361;</a>`, "entity"},
		{"a signed number", `<a>&#+65;</a>`, "entity"},
		{"a capital X", `<a>&#X41;</a>`, "entity"},
		{"a stylesheet", `<?xml-stylesheet href="x"?><a/>`, "processing_instruction"},
		{"PHP", `<a><?php echo 1 ?></a>`, "processing_instruction"},
		{"a second declaration", `<?xml version="1.0"?><?xml version="1.0"?><a/>`, "processing_instruction"},
		{"a late declaration", ` <?xml version="1.0"?><a/>`, "processing_instruction"},
		{"version 1.1", `<?xml version="1.1"?><a/>`, "syntax"},
		{"another encoding", `<?xml version="1.0" encoding="utf-7"?><a/>`, "utf8"},
		{"UTF-16", "\xff\xfe<\x00a\x00/\x00>\x00", "utf8"},
		{"invalid UTF-8", "<a>\xc0\xbc</a>", "utf8"},
		{"a control character", "<a>\x01</a>", "control_character"},
		{"U+FFFE", "<a>\ufffe</a>", "control_character"},
		{"a control character in a comment", "<a><!--\x01--></a>", "control_character"},
		{"nothing", ` `, "syntax"},
		{"text alone", `hello`, "syntax"},
		{"text behind the root", `<a/>x`, "syntax"},
		{"CDATA behind the root", `<a/><![CDATA[x]]>`, "syntax"},
		{"two roots", `<a/><b/>`, "syntax"},
		{"an open element", `<a><b></b>`, "syntax"},
		{"a wrong end", `<a></b>`, "syntax"},
		{"an end too many", `<a/></a>`, "syntax"},
		{"an open tag", `<a b="1"`, "syntax"},
		{"an attribute without quotes", `<a b=1/>`, "syntax"},
		{"an attribute without a value", `<a b/>`, "syntax"},
		{"attributes without space", `<a b="1"c="2"/>`, "syntax"},
		{"< in an attribute", `<a b="<"/>`, "syntax"},
		{"an attribute twice", `<a b="1" b="2"/>`, "duplicate"},
		{"an attribute twice by two prefixes", `<a xmlns:p="u" xmlns:q="u" p:b="1" q:b="2"/>`, "duplicate"},
		{"a prefix nobody declared", `<p:a/>`, "namespace"},
		{"a prefix of an attribute nobody declared", `<a p:b="1"/>`, "namespace"},
		{"a prefix out of its scope", `<a><b xmlns:p="u"/><p:c/></a>`, "namespace"},
		{"xml bound to something else", `<a xmlns:xml="u"/>`, "namespace"},
		{"a prefix unbound", `<a xmlns:p=""/>`, "namespace"},
		{"an xmlns element", `<xmlns:a/>`, "namespace"},
		{"two colons", `<a:b:c xmlns:a="u"/>`, "syntax"},
		{"a colon at the end", `<a: />`, "syntax"},
		{"a digit first", `<1/>`, "syntax"},
		{"-- in a comment", `<a><!-- a -- b --></a>`, "syntax"},
		{"--->", `<a><!-- a ---></a>`, "syntax"},
		{"an open comment", `<a/><!-- `, "syntax"},
		{"an open CDATA section", `<a><![CDATA[x</a>`, "syntax"},
		{"]]> in text", `<a>]]></a>`, "syntax"},
		{"deep nesting", strings.Repeat("<a>", 65) + strings.Repeat("</a>", 65), "depth"},
		{"many attributes", "<a " + func() (s string) {
			for i := range 65 {
				s += " a" + string(rune('a'+i%26)) + strings.Repeat("b", i/26) + `="1"`
			}
			return s
		}() + "/>", "too_many"},
		{"many elements", "<a>" + strings.Repeat("<b/>", 65_536) + "</a>", "too_many"},
		{"a long name", "<" + strings.Repeat("a", 257) + "/>", "max_length"},
	}
	for _, tt := range tests {
		t.Run(tt.name+" is refused", func(t *testing.T) {
			_, _, _, body, err := a.call(request(t, "POST /xml", tt.in, asXML))
			if err == nil {
				t.Fatalf("passed as %q", body.Bytes)
			}
			p := gatehouse.AsProblem(err)
			if p.Kind != gatehouse.Malformed || p.Reason != "invalid_body" || p.Fields[0].Rule != tt.rule {
				t.Fatalf("got %s %+v, want %s", p.Reason, p.Fields, tt.rule)
			}
		})
	}
	if _, _, _, _, err := a.call(request(t, "POST /xml", "<a/>", asXML+"; charset=utf-16")); gatehouse.AsProblem(err).Reason != "unsupported_media_type" {
		t.Errorf("another charset in the header: %v", err)
	}
}

// tokens reads XML as Go does, with runs of text joined.
func tokens(text string) (out []xml.Token, err error) {
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		tok, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		switch tok := tok.(type) {
		case xml.ProcInst, xml.Comment:
		case xml.CharData:
			if last, ok := lastOf(out).(xml.CharData); ok {
				out[len(out)-1] = append(last, tok...)
			} else if len(tok) > 0 {
				out = append(out, tok.Copy())
			}
		default:
			out = append(out, xml.CopyToken(tok))
		}
	}
}

func lastOf(list []xml.Token) xml.Token {
	if len(list) == 0 {
		return nil
	}
	return list[len(list)-1]
}

// FuzzXML holds that what passes is XML for Go, the same before and after, and
// that it passes again unchanged.
func FuzzXML(f *testing.F) {
	for _, s := range []string{
		`<a/>`, xmlHead + `<a b="1">x<!-- -->y<![CDATA[z]]>&#65;</a>`, "<a>\r\n\r</a>", `<p:a xmlns:p="u"><p:b/></p:a>`, `<a b='"'/>`, "<a b='\n\t&#9;'/>", `<!DOCTYPE a><a/>`,
		`<a>]]&gt;</a>`, `<größe/>`, "<a\n/>", `<a xml:b="c"></a >`,
	} {
		f.Add(s)
	}
	a := media(f, validate.Settings{})
	f.Fuzz(func(t *testing.T, text string) {
		if text == "" {
			return
		}
		_, _, _, body, err := a.call(request(t, "POST /xml", text, asXML))
		if err != nil {
			return
		}
		after, err := tokens(string(body.Bytes))
		if err != nil {
			t.Fatalf("%q goes on as %q, which Go refuses: %v", text, body.Bytes, err)
		}
		before, err := tokens(strings.TrimPrefix(text, "\ufeff"))
		if err != nil {
			t.Fatalf("%q passed, Go refuses it: %v", text, err)
		}
		for i := range before { // Go leaves line ends in attributes as they are (XML 1.0 §3.3.3)
			if e, ok := before[i].(xml.StartElement); ok && strings.ContainsAny(text, "\t\r\n") {
				for k := range e.Attr {
					e.Attr[k].Value = "?"
				}
				if other, ok := after[min(i, len(after)-1)].(xml.StartElement); ok {
					for k := range other.Attr {
						other.Attr[k].Value = "?"
					}
				}
			}
		}
		before, after = inRoot(before), inRoot(after)
		if !reflect.DeepEqual(before, after) {
			t.Fatalf("%q goes on as %q: %v became %v", text, body.Bytes, before, after)
		}
		_, _, _, again, err := a.call(request(t, "POST /xml", string(body.Bytes), asXML))
		if err != nil || string(again.Bytes) != string(body.Bytes) {
			t.Fatalf("%q goes on as %q, then as %q (%v)", text, body.Bytes, again.Bytes, err)
		}
	})
}

// inRoot leaves out the space around the root element.
func inRoot(list []xml.Token) []xml.Token {
	for len(list) > 0 {
		if _, ok := list[0].(xml.CharData); !ok {
			break
		}
		list = list[1:]
	}
	for len(list) > 0 {
		if _, ok := lastOf(list).(xml.CharData); !ok {
			break
		}
		list = list[:len(list)-1]
	}
	return list
}

func BenchmarkXML(b *testing.B) {
	a := media(b, validate.Settings{})
	text := "<orders>" + strings.Repeat(`<order id="12345678" state="open"><customer>Alice &amp; Bob</customer><total currency="EUR">12.50</total></order>`, 100) + "</orders>"
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, _, _, err := a.call(request(b, "POST /xml", text, asXML)); err != nil {
			b.Fatal(err)
		}
	}
}

package waf

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/corazawaf/coraza/v3"
	"github.com/corazawaf/coraza/v3/types"
)

// allTransforms are the names that Coraza 3.8.1 registers, but none.
var allTransforms = strings.Fields(`base64Decode base64DecodeExt base64Encode cmdLine compressWhitespace cssDecode
	escapeSeqDecode hexDecode hexEncode htmlEntityDecode jsDecode length lowercase md5 normalisePath normalisePathWin
	normalizePath normalizePathWin removeComments removeCommentsChar removeNulls removeWhitespace replaceComments
	replaceNulls sha1 trim trimLeft trimRight uppercase urlDecode urlDecodeUni urlEncode utf8toUnicode`)

// nastyTexts are texts that stand at the edge of some transformation.
var nastyTexts = []string{
	"", " ", "a", "plain words, nothing more", "\x00", "a\x00b\x00", "UPPER lower ÄÖÜ ß İ K ſ", "\xff\xfe", "a\x80b", "\xc2", "\xc2\xa0x", "\xe3\x80\x80",
	"%", "%4", "%41", "%zz%41%", "%u0041%u", "%u00", "%U0041", "%uff01%uFF1F%uff5e%uff5f%uff00", "%u00a0%u2019%u0131%ud800%ufffd", "+a+%2b", "%25%32%35",
	`\`, `a\`, `\n\t\a\b\f\r\v\q\\`, `\x41\x4\xzz\X41`, `\u0041\u00\uff01\uFF5E\uff00\uff5f`, `\u{41}\u{ff01}\u{0ff01}\u{}\u{1234567}\u{41`, `\101\400\377\8\0\08\1234`, `\0\00\000\61\61 1`,
	`\41 b\41b\000041x\110000 \d800\ff01\0`, "\\\n", "\\\r\n", "\\41\tb\\41\x0bb",
	"&lt;&gt&amp;&#65;&#x41;&#x;&#;&", "&&lt;", "a & b", "&nGt;&NotEqualTilde;", "&#0;&#128;&#xd800;&#1114112;&#99999999999;", "&notit;&notin;", "&#0", "&lt", "&ltx", "&copy;&copycat;&",
	"/* a */ b", "a/*b*/", "a/*b*/c--d", "a--", "a#b", "a/*b", "/*/", "/**//**/", "<!-- a -->b", "<!--", "a-->b", "*/ */", "/*a*//*b*/", "x/*a*/#", "x/*a-->y/*b*/--", "--", "-", "#", "<!--a*/b", "a - b -- c",
	"/", "//", "a/..", "./", ".", "..", "../", "a//b/./c/../d", "/a/../../b/", "a/b/", `a\..\b`, `c:\x\y.txt::$DATA`, "c:", "C:/a:b/", "a:b", "a:/", "file.txt.", "file.txt ", "a /b. /...", ". ", " /", " ./ ", "a/ /b", ":", "/:", "a/b:c/", "..../", "a. .",
	"  a  b  ", "\t\n\v\f\ra", "a\u0085\u0085b\u00a0c", "a\xa0\xa0b", "à\xa0", "a\u2003b\u3000", " \xa0", "\xa0 ", "a b", "a  b",
	`C^:\Win"dows\ 'x' ;,  /  (`, " /", "a /b (c", "a  /", ";(", "A", ", ,", "\t", "a\tb", "a ( b",
	"aGVsbG8=", "aGVsbG8", "aGVs\r\nbG8=x", "a-_b", "=a", "a b", "YWJj.ZGVm", "!!!!", "YQ", "YWI", "Y", "aaa\xffbbbb", "4142", "414", "4g", "ABcd", "0x41",
	"' or 1=1 --", "<script>alert(1)</script>", "../../etc/passwd", "SELECT/**/1", strings.Repeat("a", 70), strings.Repeat("%41", 40), strings.Repeat("é", 40), strings.Repeat("/*a*/", 20),
}

// corazaTransforms answers what Coraza makes of a text: of each transformation
// alone, and with multiMatch the values it asks about.
type corazaTransforms struct {
	waf   coraza.WAF
	names []string
}

func newCorazaTransforms(tb testing.TB, names []string) *corazaTransforms {
	tb.Helper()
	var rules strings.Builder
	rules.WriteString("SecRuleEngine On\n")
	for i, name := range names {
		fmt.Fprintf(&rules, "SecRule ARGS_GET \"@unconditionalMatch\" \"id:%d,phase:1,pass,log,t:none,t:%s\"\n", 1000+i, name)
		fmt.Fprintf(&rules, "SecRule ARGS_GET \"@unconditionalMatch\" \"id:%d,phase:1,pass,log,multiMatch,t:none,t:%s,t:lowercase\"\n", 2000+i, name)
	}
	w, err := coraza.NewWAF(coraza.NewWAFConfig().WithDirectives(rules.String()))
	if err != nil {
		tb.Fatal(err)
	}
	return &corazaTransforms{waf: w, names: names}
}

func (c *corazaTransforms) apply(tb testing.TB, text string) (alone map[string]string, multi map[string][]string) {
	tb.Helper()
	tx := c.waf.NewTransaction()
	defer tx.Close()
	tx.AddGetRequestArgument("a", text)
	tx.ProcessRequestHeaders()
	alone, multi = map[string]string{}, map[string][]string{}
	values := func(m types.MatchedRule) (out []string) {
		for _, d := range m.MatchedDatas() {
			out = append(out, d.Value())
		}
		return out
	}
	for _, m := range tx.MatchedRules() {
		if id := m.Rule().ID(); id < 2000 {
			alone[c.names[id-1000]] = values(m)[0]
		} else {
			multi[c.names[id-2000]] = values(m)
		}
	}
	if len(alone) != len(c.names) || len(multi) != len(c.names) {
		tb.Fatalf("Coraza answered for %d and %d of %d transformations", len(alone), len(multi), len(c.names))
	}
	return alone, multi
}

func compareTransforms(tb testing.TB, c *corazaTransforms, text string) {
	tb.Helper()
	alone, multi := c.apply(tb, text)
	small, _ := transformOf("lowercase")
	set := bytesOf(text)
	for _, name := range c.names {
		tr, ok := transformOf(name)
		if !ok {
			tb.Fatalf("%s is not known", name)
		}
		got := tr.apply(text)
		if got != alone[name] {
			tb.Errorf("%s of %q is %q, in Coraza %q", name, text, got, alone[name])
		}
		if tr.idle(set) && got != text {
			tb.Errorf("%s of %q is %q, though it has none of the trigger's bytes", name, text, got)
		}
		asked := []string{text}
		for _, tr := range []transform{tr, small} {
			last := asked[len(asked)-1]
			if to := tr.apply(last); tr.changes(last, to) {
				asked = append(asked, to)
			}
		}
		if !slices.Equal(asked, multi[name]) {
			tb.Errorf("%s of %q with multiMatch asks about %q, Coraza about %q", name, text, asked, multi[name])
		}
	}
}

func TestTransformationsAreCorazas(t *testing.T) {
	t.Parallel()
	c := newCorazaTransforms(t, allTransforms)
	for _, text := range nastyTexts {
		compareTransforms(t, c, text)
		compareTransforms(t, c, text+text)
		compareTransforms(t, c, "x"+text+" y")
	}
	for a := range 256 { // each byte alone, in a word and twice, and each pair with what starts something
		b := string([]byte{byte(a)})
		for _, text := range []string{b, "a" + b + "b", b + b, " " + b, b + " ", b + "*", "/" + b, `\` + b, "%u00" + b + "1", "&" + b, "-" + b, "\xc2" + b, b + "/"} {
			compareTransforms(t, c, text)
		}
	}
}

func TestEveryBestFitOfCodePage20127IsKnown(t *testing.T) {
	t.Parallel()
	c := newCorazaTransforms(t, []string{"urlDecodeUni"})
	tr, _ := transformOf("urlDecodeUni")
	for from := 0; from < 0x10000; from += 256 {
		var all strings.Builder
		for r := range 256 {
			fmt.Fprintf(&all, "%%u%04x", from+r)
		}
		alone, _ := c.apply(t, all.String())
		if got := tr.apply(all.String()); got != alone["urlDecodeUni"] {
			t.Errorf("%%u%04x to %%u%04x are %q, in Coraza %q", from, from+255, got, alone["urlDecodeUni"])
		}
	}
}

func TestATransformationThatIsNotKnownIsRefused(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "lowercas", "t:lowercase", "sqlHexDecode"} {
		if _, ok := transformOf(name); ok {
			t.Errorf("%q is taken", name)
		}
	}
	for _, name := range []string{"LOWERCASE", "lowerCase", "none", "NormalisePath"} {
		if _, ok := transformOf(name); !ok {
			t.Errorf("%q is refused", name)
		}
	}
}

// quietTexts are texts that look as if there were something to do.
var quietTexts = map[string]string{
	"cmdLine": "a b c/d(e", "compressWhitespace": "a b c é", "htmlEntityDecode": "a & b && c &", "urlDecodeUni": "100% of %zz %u12", "urlDecode": "100%",
	"removeComments": "a/b - c <b>", "removeCommentsChar": "a/b * c - d <b>", "replaceComments": "a/b", "normalizePath": "/a/b.c/", "normalizePathWin": "/a/b.c",
	"lowercase": "äöü", "uppercase": "ÄÖÜ", "trim": "a b", "jsDecode": `a\`, "removeWhitespace": "äöü", "urlEncode": "abc",
}

func TestATransformationWithNothingToDoDoesNotAllocate(t *testing.T) {
	for _, name := range allTransforms {
		tr, _ := transformOf(name)
		texts := []string{quietTexts[name]}
		if !tr.fills && tr.idle(bytesOf("abc")) {
			texts = append(texts, "abcdefghijklmnopqrstuvwxyz")
		}
		for _, text := range texts {
			if got := tr.apply(text); got != text && !tr.fills {
				t.Errorf("%s changes %q to %q", name, text, got)
			}
			if tr.fills {
				continue
			}
			if n := testing.AllocsPerRun(10, func() { tr.apply(text) }); n > 0 {
				t.Errorf("%s of %q allocates %v times", name, text, n)
			}
		}
	}
}

func FuzzTransforms(f *testing.F) {
	for _, text := range nastyTexts {
		f.Add(text)
	}
	c := newCorazaTransforms(f, allTransforms)
	f.Fuzz(func(t *testing.T, text string) { compareTransforms(t, c, text) })
}

func BenchmarkTransforms(b *testing.B) {
	texts := map[string]string{
		"idle":   "The quick brown fox jumps over the lazy dog and runs away",
		"attack": `%27%20OR+1%3D1--%20\x3cscript\u003e &lt;img src=x&gt; /* C */ ../..//etc/./passwd `,
	}
	for _, name := range allTransforms {
		tr, _ := transformOf(name)
		for kind, text := range texts {
			b.Run(name+"/"+kind, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					tr.apply(text)
				}
			})
		}
	}
	b.Run("bytesOf/57", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			bytesOf(texts["idle"])
		}
	})
	long := strings.Repeat(texts["idle"], 100)
	b.Run("bytesOf/5700", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			bytesOf(long)
		}
	})
}

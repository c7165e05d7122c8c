package waf

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/gatehouse-api/gatehouse/internal/validate/seclang"

	"github.com/corazawaf/coraza/v3"
)

// absoluteFS serves files by absolute names, as Coraza asks for them.
type absoluteFS struct{ files fstest.MapFS }

func (a absoluteFS) Open(name string) (fs.File, error) {
	return a.files.Open(strings.TrimPrefix(name, "/"))
}

// corazaOperators answers what operators of Coraza say of a text, and what they
// capture.
type corazaOperators struct {
	waf coraza.WAF
	ops []seclang.Operator
}

const unsetTX = "unset"

func newCorazaOperators(tb testing.TB, ops []seclang.Operator) *corazaOperators {
	tb.Helper()
	var rules strings.Builder
	files := fstest.MapFS{}
	rules.WriteString("SecRuleEngine On\n")
	for i, op := range ops {
		arg := op.Arg
		if op.Data != nil {
			arg = fmt.Sprintf("/%s-%d.data", tb.Name(), i) // Coraza remembers lists by their path, over all WAFs
			files[arg[1:]] = &fstest.MapFile{Data: op.Data}
		}
		fmt.Fprintf(&rules, "SecAction \"id:%d,phase:1,pass,nolog", 10*i+1)
		for n := range 10 {
			fmt.Fprintf(&rules, ",setvar:tx.%d=%s", n, unsetTX)
		}
		ask := strings.ReplaceAll(strings.TrimSpace("@"+op.Name+" "+arg), `"`, `\"`)
		fmt.Fprintf(&rules, "\"\nSecRule ARGS_GET \"%s\" \"id:%d,phase:1,pass,log,t:none,capture,logdata:'", ask, 10*i+2)
		for n := range 10 {
			fmt.Fprintf(&rules, "%%{tx.%d}\x1f", n)
		}
		fmt.Fprintf(&rules, "'\"\nSecRule ARGS_GET \"%s\" \"id:%d,phase:1,pass,log,t:none\"\n", ask, 10*i+3)
	}
	w, err := coraza.NewWAF(coraza.NewWAFConfig().WithRootFS(absoluteFS{files}).WithDirectives(rules.String()))
	if err != nil {
		tb.Fatal(err)
	}
	return &corazaOperators{waf: w, ops: ops}
}

type opAnswer struct {
	captured []string // nil: no match
	plain    bool     // the answer without capture
}

func (c *corazaOperators) ask(tb testing.TB, text string) []opAnswer {
	tb.Helper()
	tx := c.waf.NewTransaction()
	defer tx.Close()
	tx.AddGetRequestArgument("a", text)
	tx.ProcessRequestHeaders()
	out := make([]opAnswer, len(c.ops))
	for _, m := range tx.MatchedRules() {
		switch i := m.Rule().ID() / 10; m.Rule().ID() % 10 {
		case 2:
			out[i].captured = strings.Split(m.MatchedDatas()[0].Data(), "\x1f")[:10]
		case 3:
			out[i].plain = true
		}
	}
	return out
}

func askOurs(op operator, text string) (a opAnswer) {
	var caps captures
	if op.match(text, &caps) {
		a.captured = slices.Repeat([]string{unsetTX}, 10)
		copy(a.captured, caps.field[:caps.n])
	}
	a.plain = op.match(text, nil)
	return a
}

func mustOperators(tb testing.TB, ops []seclang.Operator) (out []operator) {
	tb.Helper()
	for _, op := range ops {
		o, err := newOperator(op)
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, o)
	}
	return out
}

func compareOperators(tb testing.TB, c *corazaOperators, own []operator, text string) {
	tb.Helper()
	if strings.ContainsRune(text, 0x1f) {
		return // parts the captures of the test
	}
	theirs := c.ask(tb, text)
	for i, op := range own {
		a := askOurs(op, text)
		if a.plain != theirs[i].plain || !slices.Equal(a.captured, theirs[i].captured) {
			tb.Errorf("@%s %s of %q: %v %q, Coraza says %v %q", c.ops[i].Name, c.ops[i].Arg, text, a.plain, a.captured, theirs[i].plain, theirs[i].captured)
		}
		if b, ok := op.(byteOperator); ok && b.matchBytes(bytesOf(text)) != a.plain {
			tb.Errorf("@%s %s of %q: the answer by its bytes is another", c.ops[i].Name, c.ops[i].Arg, text)
		}
	}
}

func opOf(name, arg string) seclang.Operator { return seclang.Operator{Name: name, Arg: arg} }

func opFile(name, data string) seclang.Operator {
	return seclang.Operator{Name: name, Arg: "list.data", Data: []byte(data)}
}

var plainOperators = []seclang.Operator{
	opOf("beginsWith", "ab"), opOf("endsWith", "ab"), opOf("contains", "ab"), opOf("strmatch", "ab"), opOf("streq", "ab"), opOf("within", "ab,cd ef"),
	opOf("eq", "5"), opOf("ge", "5"), opOf("gt", "5"), opOf("le", "5"), opOf("lt", "5"), opOf("eq", "0"), opOf("lt", "0"), opOf("gt", "-3"), opOf("eq", "five"), opOf("ge", "99999999999999999999"),
	opOf("ipMatch", "127.0.0.1,::1"), opOf("ipMatch", "10.0.0.0/8, 192.168.1.1 ,2001:db8::/32,,::ffff:1.2.3.0/120"), opOf("ipMatch", "::/0"), opOf("ipMatch", "0.0.0.0/0"), opOf("ipMatch", "::ffff:0:0/90"),
	opFile("ipMatchFromFile", "# private\n10.0.0.0/8\n\n  172.16.0.0/12, ::1 \r\n"),
	opOf("validateByteRange", ""), opOf("validateByteRange", "1-255"), opOf("validateByteRange", "9,10,13,32-126,128-255"), opOf("validateByteRange", "38,44-46,48-58,61,65-90,95,97-122"), opOf("validateByteRange", "5-3"),
	opOf("validateUrlEncoding", ""), opOf("validateUtf8Encoding", ""), opOf("unconditionalMatch", ""), opOf("noMatch", ""), opOf("detectSQLi", ""), opOf("detectXSS", ""),
	opOf("rx", "a(b)?(c)(d*)"), opOf("rx", "^x$"), opOf("rx", "(a)(b)(c)(d)(e)(f)(g)(h)(i)(j)(k)"), opOf("rx", "a.b"), opOf("rx", `[^\x01-\xff]`), opOf("rx", `\xc3(.)`), opOf("rx", `(\x{e4}|\xe4)(.)`), opOf("rx", `\x5cx(\w)`), opOf("rx", `(?i)\xff\xfek|^ab$`), opOf("rx", `ä(.)`),
	opOf("pm", "he she hers his"), opOf("pm", "A  b"), opOf("pm", "a aa aaa ab"), opOf("pm", "( )"), opOf("pm", "?>"), opOf("pm", "Ä ß"), opOf("pm", "abcd bc"),
	opFile("pmFromFile", "# none\nHe\n she \r\n\nhe said\n#x\nabc\nb"), opFile("pmf", "# only a comment\n"),
}

var operatorTexts = append([]string{
	"ab", "abab", "xab", "abx", "a", "b", "ef", ",", "cd ef", "5", "05", "+5", "-5", "- 5", "5 ", "4", "6", "five", "9223372036854775807", "9223372036854775808", "-9223372036854775809", "99999999999999999999", "99999999999999999999x", "9999999999999999999x", "0000000000000000000000005", "1_000", "+", "-",
	"127.0.0.1", "127.0.0.1 ", "127.0.0.2", "::1", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "10.1.2.3", "10.1.2", "192.168.1.1", "2001:db8::5", "fe80::1%eth0", "1.2.3.4", "::ffff:1.2.3.9", "172.20.0.1", "8.8.8.8", "010.0.0.1", "1.2.3.4:80",
	"abc", "acd", "abcddd", "x", "x\ny", "y\nx\nz", "abcdefghijk", "a\nb", "\x00", "ä", "äx", "\xe4z", "\xc3", `\xq`, "\xff\xfeK", "\xff\xfe\u212a",
	"ushers", "hershe", "HE said", "she said he", strings.Repeat("he", 12), strings.Repeat("a", 15), "x ( y", "abcd", "ÄSS ss ß", "xabcbcd",
	"1' or '1'='1", "1 union select 1,2,3--", "<img src=x onerror=alert(1)>", "javascript:alert(1)", "x\" onload=\"y", "admin'--", "1;drop table users", "%41%", "%zz", "%4",
}, nastyTexts...)

func TestOperatorsAnswerAsCorazas(t *testing.T) {
	t.Parallel()
	c, own := newCorazaOperators(t, plainOperators), mustOperators(t, plainOperators)
	for _, text := range operatorTexts {
		compareOperators(t, c, own, text)
	}
}

func FuzzOperators(f *testing.F) {
	for _, text := range operatorTexts {
		f.Add(text)
	}
	c, own := newCorazaOperators(f, plainOperators), mustOperators(f, plainOperators)
	f.Fuzz(func(t *testing.T, text string) { compareOperators(t, c, own, text) })
}

func TestRandomPhrasesAreFoundAsCorazaFindsThem(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	word := func(alphabet string, most int) string {
		var b strings.Builder
		for range 1 + rnd.IntN(most) {
			b.WriteByte(alphabet[rnd.IntN(len(alphabet))])
		}
		return b.String()
	}
	var ops []seclang.Operator
	var all []*phrases
	for i := range 80 {
		var list []string
		for range 1 + rnd.IntN(12) {
			list = append(list, word("abAB.x"[:2+i%5], 1+i%6))
		}
		if i%2 == 0 {
			ops = append(ops, opOf("pm", strings.Join(list, " ")))
		} else {
			ops = append(ops, opFile("pmFromFile", strings.Join(list, "\n")))
		}
	}
	c, own := newCorazaOperators(t, ops), mustOperators(t, ops)
	for _, o := range own {
		all = append(all, o.(*phrases))
	}
	multi := newMultiPM(all)
	for range 300 {
		text := word("abAB.xX-", 1+rnd.IntN(40))
		compareOperators(t, c, own, text)
		hits := make([]uint64, 2)
		multi.scan(text, hits)
		for i, o := range own {
			if got, want := hits[i>>6]>>(i&63)&1 != 0, o.match(text, nil); got != want {
				t.Errorf("one pass over all lists says %v of list %d for %q, alone it says %v", got, i, text, want)
			}
		}
	}
}

func TestAnOperatorThatCanNotBeMadeIsAnError(t *testing.T) {
	t.Parallel()
	for _, o := range []seclang.Operator{
		opOf("", ""), opOf("containz", "a"), opOf("inspectFile", "/bin/sh"), opOf("rbl", "x"), opOf("rx", "("), opOf("rx", `\xe4(`), opOf("streq", ""), opOf("eq", ""),
		opOf("ipMatch", "localhost"), opOf("ipMatch", "10.0.0.0/33"), opOf("ipMatch", "10.0.0.1,10.0.0"), opOf("validateByteRange", "1-256"), opOf("validateByteRange", "a"), opOf("validateByteRange", "1,,2"),
	} {
		if _, err := newOperator(o); err == nil {
			t.Errorf("@%s %s is taken", o.Name, o.Arg)
		}
	}
}

func TestContainsWordWantsTheWordAlone(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{"a cat": true, "cat": true, "cat.": true, "concat": false, "cats": false, "cat_": false, "concat cat": true, "catcat": false, "": false} {
		if got := containsWord(text, "cat"); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

package waf

import (
	"bytes"
	"encoding/binary"
	"flag"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/corazawaf/libinjection-go"
)

var updateSQLi = flag.Bool("update-sqli", false, "write sqli.bin from libinjection's source")

// libinjectionFile reads a source file of the module we are built with.
func libinjectionFile(t *testing.T, name string) *ast.File {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/corazawaf/libinjection-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	f, err := parser.ParseFile(gotoken.NewFileSet(), filepath.Join(strings.TrimSpace(string(dir)), name), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func literalOf(t *testing.T, f *ast.File, name string) *ast.CompositeLit {
	t.Helper()
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, s := range g.Specs {
			if v, ok := s.(*ast.ValueSpec); ok && v.Names[0].Name == name && len(v.Values) == 1 {
				return v.Values[0].(*ast.CompositeLit)
			}
		}
	}
	t.Fatalf("libinjection has no %s any more", name)
	return nil
}

// sqliSource is libinjection's table: the words and what they are, and the
// fingerprints.
func sqliSource(t *testing.T) (words map[string]byte, fingerprints []string) {
	t.Helper()
	words = map[string]byte{}
	for _, e := range literalOf(t, libinjectionFile(t, "sqli_data.go"), "sqlKeywords").Elts {
		kv := e.(*ast.KeyValueExpr)
		word, err := strconv.Unquote(kv.Key.(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		class, _, _, err := strconv.UnquoteChar(strings.Trim(kv.Value.(*ast.BasicLit).Value, "'"), '\'')
		if err != nil {
			t.Fatal(err)
		}
		if class == 'F' {
			fingerprints = append(fingerprints, word[1:])
		} else {
			words[word] = byte(class)
		}
	}
	if len(words) < 500 || len(fingerprints) < 5000 {
		t.Fatalf("%d words and %d fingerprints: the source is not what it was", len(words), len(fingerprints))
	}
	return words, fingerprints
}

func kindOf(t *testing.T, letter byte) kinds {
	t.Helper()
	if letter == 'T' {
		letter = 't'
	}
	i := strings.IndexByte(sqliLetters, letter)
	if i < 0 || letter == 'I' || letter == '/' || letter == 'S' {
		t.Fatalf("a kind of token that we do not know: %q", letter)
	}
	return 1 << i
}

// wordKinds are the kinds that each word of a text can become: what the table
// says of it, what it says of phrases with it, and what the folding makes of it.
func wordKinds(t *testing.T, words map[string]byte) map[string]kinds {
	t.Helper()
	out := map[string]kinds{}
	plain := func(word string) bool {
		return strings.IndexFunc(word, func(r rune) bool { return r >= 0x80 || sqliBytes[r] != sqliWord }) < 0
	}
	becomes := map[string]kinds{
		"USER_ID": sqlFunction, "USER_NAME": sqlFunction, "DATABASE": sqlFunction, "PASSWORD": sqlFunction, "USER": sqlFunction | sqlBareword,
		"CURRENT_USER": sqlFunction, "CURRENT_DATE": sqlFunction, "CURRENT_TIME": sqlFunction, "CURRENT_TIMESTAMP": sqlFunction, "LOCALTIME": sqlFunction, "LOCALTIMESTAMP": sqlFunction,
		"IN": sqlSymbol | sqlBareword, "NOT IN": sqlSymbol | sqlBareword, "LIKE": sqlFunction, "NOT LIKE": sqlFunction,
		"COLLATE": sqlTyped, // the bareword behind it
		"INTO":    sqlIntoWord,
	}
	for word, class := range words {
		if !strings.Contains(word, " ") && plain(word) {
			out[word] |= kindOf(t, class) | sqlBareword
			if class == 'f' && strings.HasPrefix(word, "IF") {
				out[word] |= sqlTyped // behind a semicolon
			}
		}
	}
	maps.DeleteFunc(becomes, func(word string, k kinds) bool {
		if !strings.Contains(word, " ") {
			out[word] |= k | sqlBareword
			return true
		}
		return false
	})
	for _, phrase := range slices.Sorted(maps.Keys(words)) {
		parts := strings.Fields(phrase)
		if len(parts) < 2 {
			continue
		}
		k := kindOf(t, words[phrase]) | becomes[phrase]
		if words[phrase] == 'f' && parts[0] == "IF" {
			k |= sqlTyped
		}
		rarest := parts[0]
		for _, part := range parts {
			if !plain(part) {
				t.Fatalf("%q has a part that is no word", phrase)
			}
			if k&^out[part] == 0 {
				rarest = part
				break
			}
			if len(part) > len(rarest) {
				rarest = part
			}
		}
		out[rarest] |= k | sqlBareword
	}
	return out
}

// needsOf are the kinds without which no fingerprint is, the smallest sets.
func needsOf(t *testing.T, fingerprints []string) (needs []kinds) {
	t.Helper()
	lower := strings.NewReplacer("N", "n", "K", "k", "T", "t", "F", "f", "V", "v", "O", "o", "S", "s", "C", "c")
	all := map[kinds]bool{}
	for _, f := range fingerprints {
		f = lower.Replace(f)
		var k kinds
		for i := range len(f) {
			k |= kindOf(t, f[i])
		}
		if strings.Count(f, "s") > 1 {
			k |= sqlTwoQuoted
		}
		// What libinjection takes back after it has found the fingerprint: a keyword
		// between two values that is not INTO, and a bareword with a comment that
		// is not /*.
		if len(f) == 3 && f[1] == 'k' {
			k |= sqlIntoWord
		}
		if f == "nc" {
			k |= sqlSlashed
		}
		all[k] = true
	}
	for k := range all {
		smaller := false
		for o := range all {
			smaller = smaller || o != k && o&^k == 0
		}
		if !smaller {
			needs = append(needs, k)
		}
	}
	slices.Sort(needs)
	return needs
}

// TestTheQuickTestHasTheModulesTables reads libinjection's source, as the tables
// are no part of its door. With -update-sqli it writes sqli.bin.
func TestTheQuickTestHasTheModulesTables(t *testing.T) {
	t.Parallel()
	words, fingerprints := sqliSource(t)
	known := wordKinds(t, words)
	var slots [sqliSlots]struct{ tag, kinds uint16 }
	for _, word := range slices.Sorted(maps.Keys(known)) {
		h := uint32(2166136261)
		for i := range len(word) {
			h = (h ^ uint32(word[i])) * 16777619
		}
		i := h % sqliSlots
		for slots[i].kinds != 0 && slots[i].tag != uint16(h>>16) {
			i = (i + 1) % sqliSlots
		}
		slots[i].tag = uint16(h >> 16)
		slots[i].kinds |= uint16(known[word])
	}
	var want bytes.Buffer
	for _, s := range slots {
		want.Write(binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(nil, s.tag), s.kinds))
	}
	for _, k := range needsOf(t, fingerprints) {
		want.Write(binary.LittleEndian.AppendUint32(nil, uint32(k)))
	}
	if *updateSQLi {
		if err := os.WriteFile("sqli.bin", want.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(want.Bytes(), sqliTables) {
		t.Error("sqli.bin is of another libinjection: go test -run QuickTestHas -update-sqli")
	}
	d := readSQLi()
	for word, k := range known {
		for _, text := range []string{word, strings.ToLower(word)} {
			if got, ok := d.run(text); !ok || k&^got != 0 {
				t.Errorf("%q can be %b, we think %b", text, k, got)
			}
		}
	}
}

func TestNoOtherLettersBecomeASCIIInCapitals(t *testing.T) {
	t.Parallel()
	for r := rune(0x80); r <= unicode.MaxRune; r++ {
		if up := unicode.ToUpper(r); up < 0x80 && r != 0x131 && r != 0x17f {
			t.Errorf("%U is %q in capitals", r, up)
		}
	}
}

// TestTheQuickTestForXSSHasTheModulesAttributes reads libinjection's source.
func TestTheQuickTestForXSSHasTheModulesAttributes(t *testing.T) {
	t.Parallel()
	f := libinjectionFile(t, "xss_decls.go")
	n := 0
	for list, prefix := range map[string]string{"blacks": "", "blackEvents": "ON"} {
		for _, e := range literalOf(t, f, list).Elts {
			name, err := strconv.Unquote(e.(*ast.CompositeLit).Elts[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			name = prefix + name
			for _, text := range []string{name + "=x", "a " + strings.ToLower(name) + " =x", "a\"" + name + "\x00=", name[:1] + "\x00" + name[1:] + "="} {
				if !canXSS(text) {
					t.Errorf("%q is thought harmless", text)
				}
			}
			n++
		}
	}
	if n < 300 {
		t.Errorf("%d names: the source is not what it was", n)
	}
}

// Words and marks that texts are made of here: benign ones, SQL's and HTML's.
var injectionParts = strings.Fields(`a the house O'Brien and or is in not like user select sqlUnion all into outfile from where sqlGroup by order limit
	1 2 0x1F 1e5 1.5 1e 550e8400 41d4 true null - -- + * / /* */ /*! # ( ) , ; ' " = < > <> := :: ! != || && @ @@version ^ | ~ % ? : . .. ' { } [ ] \ ` + "`" + ` $ $$
	x'41' b'1' q'[a]' n'x' u&'x e'x 1union select.1 sys.database_name if exists sqlCollate utf8_general waitfor delay '0:0:5' sp_password insert delete drop table
	current_user sleep(5) benchmark( char(1) information_schema.tables a.b.c john@example.com 2026-11-23 12:30 it's don't "quoted" (see below) 5% $5.00 #12 AT&T R&D
	ſelect unıon é à 你好 ` + "\x00 \xa0 \x01 \x7f" + ` href= src= style= onload= onerror=alert(1) on= to= = =' <b> <script> < <! </ <a xlink:href=javascript:x javascript: data: > / <= a<b &#x6a; xmlns by values`)

func injectionText(rnd *rand.Rand) string {
	var b strings.Builder
	for range 1 + rnd.IntN(9) {
		b.WriteString(injectionParts[rnd.IntN(len(injectionParts))])
		if rnd.IntN(3) > 0 {
			b.WriteByte(" \t\n "[rnd.IntN(4)])
		}
	}
	return b.String()
}

func compareInjection(tb testing.TB, d *sqliTable, text string) (quickSQLi, quickXSS bool) {
	tb.Helper()
	sqli, _ := libinjection.IsSQLi(text)
	if sqli && !d.can(text) {
		tb.Errorf("%q is SQL injection, the quick test denies it", text)
	}
	xss := libinjection.IsXSS(text)
	if xss && !canXSS(text) {
		tb.Errorf("%q is XSS, the quick test denies it", text)
	}
	return !d.can(text), !canXSS(text)
}

func TestTheQuickTestsDenyNothingThatMatches(t *testing.T) {
	t.Parallel()
	d := readSQLi()
	rnd := rand.New(rand.NewPCG(3, 4))
	sqli, xss, matched := 0, 0, 0
	const n = 200000
	for range n {
		text := injectionText(rnd)
		a, b := compareInjection(t, d, text)
		if a {
			sqli++
		}
		if b {
			xss++
		}
		if found, _ := libinjection.IsSQLi(text); found {
			matched++
		}
	}
	t.Logf("of %d texts made of benign and hostile parts %d need no look for SQL, %d none for XSS; %d match", n, sqli, xss, matched)
	if sqli == 0 || xss == 0 || matched == 0 {
		t.Error("the texts prove nothing")
	}
}

// benignTexts are values as APIs have them.
var benignTexts = []string{
	"Anna", "Anna Maria Schmidt", "Sean O'Brien", "john.doe@example.com", "42", "19.99", "2026-11-23", "2026-11-23T12:30:00Z", "550e8400-e29b-41d4-a716-446655440000",
	"12 High Street, Flat 3", "Königstraße 5, 70173 Stuttgart", "Please leave the parcel at the door", "true", "https://example.com/a/b?c=d&e=f", "en-US", "EUR", "+49 711 123456",
	"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0 Safari/537.36", "application/json", "text/html,application/xhtml+xml;q=0.9", "gzip, deflate, br",
	"a-b-c", "order_123", "ORD-2026-0001", "The best of the house and the garden", "It's a nice day, isn't it?", "50% off (today only)", "dGhpcyBpcyBhIHRlc3Q=", "session=abc123", "#4711", "日本語のテキスト", "R&D department",
}

func TestMostBenignValuesNeedNoLibinjection(t *testing.T) {
	t.Parallel()
	d := readSQLi()
	var look []string
	for _, text := range benignTexts {
		if d.can(text) || canXSS(text) {
			look = append(look, text)
		}
	}
	t.Logf("libinjection is asked about %d of %d: %q", len(look), len(benignTexts), look)
	if 3*len(look) > len(benignTexts) {
		t.Errorf("libinjection is asked about %d of %d values", len(look), len(benignTexts))
	}
}

func FuzzInjection(f *testing.F) {
	d := readSQLi()
	for _, text := range slices.Concat(operatorTexts, benignTexts, injectionParts) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) { compareInjection(t, d, text) })
}

// TestWhatStandsBehindTheStopChangesNothing holds the estimate's claim against
// libinjection itself.
func TestWhatStandsBehindTheStopChangesNothing(t *testing.T) {
	t.Parallel()
	d := readSQLi()
	rnd := rand.New(rand.NewPCG(5, 6))
	behind := []string{" union select 1", " 1+1+1+1", " and 1=1", " /* */ or a", ";drop table x", " = (1)", "(1),(2)", " . a", " :: int", ", ,", " )))", "--", "#"}
	stopped := 0
	for range 60000 {
		text := injectionText(rnd) + " house garden " + injectionText(rnd) + " tree house bird " + injectionText(rnd) + " tree house bird garden lake "
		if strings.ContainsAny(text, `'"`) {
			continue // they open other readings
		}
		_, stop := d.work(text, 0, false)
		if _, other := d.work(text, 0, true); other > stop {
			stop = other
		}
		if stop >= len(strings.TrimSpace(text)) {
			continue
		}
		stopped++
		want, found := libinjection.IsSQLi(text[:stop] + " ")
		for _, rest := range behind {
			if got, p := libinjection.IsSQLi(text[:stop] + rest); strings.Contains(text[:stop], "#") == strings.Contains(text[:stop]+rest, "#") && strings.Contains(text[:stop], "--") == strings.Contains(text[:stop]+rest, "--") && (got != want || p != found) {
				t.Errorf("%q is %v %s, with %q behind it %v %s", text[:stop], want, found, rest, got, p)
			}
		}
	}
	t.Log(stopped, "texts stopped")
	if stopped < 1000 {
		t.Error("the texts prove nothing")
	}
}

func TestProseCostsLittleAndHostileTextsWhatTheyTake(t *testing.T) {
	t.Parallel()
	prose := strings.Repeat("It's a fine day, and the quick brown fox (which isn't lazy) jumps over the dog - for $5 or less. See [the list](#top) and \"more\"! ", 600)
	for _, text := range []string{prose, "# Title\n\n" + prose, prose[:4000]} {
		if c := (detectSQLi{}).cost(text); c > 1_000_000 {
			t.Errorf("prose of %d bytes is thought to take %d ns", len(text), c)
		}
	}
	for _, text := range []string{strings.Repeat("1+", 32<<10), strings.Repeat(" onx=", 13107), strings.Repeat("a,", 32<<10), strings.Repeat("not ", 16<<10), strings.Repeat("' + '", 13107)} {
		if c := (detectSQLi{}).cost(text); c < 5_000_000 {
			t.Errorf("%.20q of 64 KiB is thought to take %d ns only", text, c)
		}
	}
}

func BenchmarkInjection(b *testing.B) {
	long := strings.Repeat("The quick brown fox jumps over the lazy dog. ", 1500)[:64<<10]
	texts := map[string]string{
		"name": "Sean O'Brien", "prose": "Please leave the parcel at the door, we are not at home today", "url": "https://example.com/a/b?c=d&e=f",
		"attack": "1' union select password from users--", "tag": "<img src=x onerror=alert(1)>", "prose 64 KiB": long, "marked prose 64 KiB": "<b>It's</b> #1 --- " + long, "five readings 64 KiB": "1'\"#\n--1\n" + strings.Repeat(" onx=", 13107), "five tags 64 KiB": strings.Repeat("<a b='\"`>", 7281),
		"sums 64 KiB": strings.Repeat("1+", 32<<10), "quotes 64 KiB": strings.Repeat("'\"", 32<<10), "words 64 KiB": strings.Repeat("in a.b ", 9362), "brackets 64 KiB": strings.Repeat("((-", 21845),
		"phrases 64 KiB": strings.Repeat("not ", 16<<10), "attributes 64 KiB": strings.Repeat("a=b ", 16<<10), "tags 64 KiB": strings.Repeat("<a b>", 13107), "slashes 64 KiB": strings.Repeat("/", 64<<10), "events 64 KiB": strings.Repeat(" onx=", 13107),
		"comments 64 KiB": strings.Repeat("/**/", 16<<10), "commas 64 KiB": strings.Repeat("1,", 32<<10), "strings 64 KiB": strings.Repeat("''", 32<<10), "backslashes 64 KiB": strings.Repeat(`\\`, 64<<10), "dots 64 KiB": strings.Repeat("a.", 32<<10), "entities 64 KiB": "<a href=" + strings.Repeat("&#x1", 16<<10),
	}
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		text := texts[name]
		b.Run("SQLi/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				detectSQLi{}.match(text, nil)
			}
			b.ReportMetric(float64(detectSQLi{}.cost(text)), "estimate")
		})
		b.Run("XSS/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				detectXSS{}.match(text, nil)
			}
			b.ReportMetric(float64(detectXSS{}.cost(text)), "estimate")
		})
	}
}

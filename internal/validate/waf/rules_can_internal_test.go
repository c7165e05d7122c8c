package waf

import (
	"bytes"
	"fmt"
	"go/format"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gatehouse-api/gatehouse/internal/validate/rx"
)

// spelled are the kinds that words of certain letters can be: an entry for each
// set of letters, without the kinds that fewer letters suffice for.
func spelled(known map[string]kinds) map[uint32]kinds {
	all := map[uint32]kinds{}
	for word, k := range known {
		var letters uint32
		for _, c := range []byte(word) {
			if c|0x20 >= 'a' && c|0x20 <= 'z' {
				letters |= 1 << (c | 0x20 - 'a')
			}
		}
		all[letters] |= k &^ (sqlBareword | sqlNumeral)
	}
	out := map[uint32]kinds{}
	for letters, k := range all {
		for fewer, also := range all {
			if fewer != letters && fewer&letters == fewer {
				k &^= also
			}
		}
		if k != 0 {
			out[letters] = k
		}
	}
	return out
}

func TestTheTableOfSpellingsIsTheModules(t *testing.T) {
	t.Parallel()
	words, _ := sqliSource(t)
	want := spelled(wordKinds(t, words))
	if *updateSQLi {
		var b bytes.Buffer
		b.WriteString("package waf\n\n// sqliSpelled is which kinds of words libinjection knows that are spelled with\n// certain letters, bit 0 is A, and digits. A test makes it of the module's source.\nvar sqliSpelled = [...]struct {\n\tletters uint32\n\tkinds   kinds\n}{\n")
		for _, letters := range slices.Sorted(maps.Keys(want)) {
			fmt.Fprintf(&b, "\t{%#x, %#x},\n", letters, uint32(want[letters]))
		}
		b.WriteString("}\n")
		text, err := format.Source(b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("operator_sqli_words.go", text, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	got := map[uint32]kinds{}
	for _, s := range sqliSpelled {
		got[s.letters] = s.kinds
	}
	if !maps.Equal(got, want) {
		t.Error("operator_sqli_words.go is of another libinjection: go test -run TableOfSpellings -update-sqli")
	}
}

func TestWhatCanNotMatchNeverDoes(t *testing.T) {
	r, err := Load(Config{Paranoia: 4})
	if err != nil {
		t.Fatal(err)
	}
	fields := []struct{ name, expr string }{
		{"an order", `^ord_[0-9]{4,8}$`},
		{"a slug", `^[a-z][a-z0-9-]*$`},
		{"a uuid", `^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$`},
		{"digits", `^[0-9]{1,12}$`},
		{"a number", `^-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+\-]?[0-9]{1,40})?$`},
		{"a date and time", `^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+\-][0-9]{2}:[0-9]{2})$`},
		{"words", `^[A-Za-z0-9][A-Za-z0-9 _.-]*$`},
		{"one word", `^[A-Za-z_][A-Za-z0-9_]*$`},
		{"hexadecimal", `^[0-9a-f]+$`},
		{"an address", `^[A-Za-z0-9!#$%&'*+\-/=?^_{|}~.]{1,64}@[A-Za-z0-9.\-]+$`},
		{"a name", `^[\p{L}][\p{L} .'-]*$`},
		{"without brackets", `^[^<>(){}\[\]]*$`},
		{"a path", `^[a-z/.]+$`},
		{"any", ``},
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, f := range fields {
		l, err := rx.LanguageOf(f.expr, 0)
		if err != nil {
			t.Fatal(err)
		}
		in := regexp.MustCompile(f.expr)
		begin := time.Now()
		can := r.Can(ArgPost, "", l)
		names := r.CanName(ArgPost, l)
		took := time.Since(begin)
		tried := 0
		for range 20_000 {
			text := textNear(rnd, f.name)
			if !in.MatchString(text) || !utf8.ValidString(text) {
				continue
			}
			if tried++; tried > 300 {
				break
			}
			for _, what := range []struct {
				kind aimKind
				can  Mask
			}{{ofMembers, can}, {ofNames, names}} {
				r.seen(ArgPost, "", what.kind, func(x *rule, k *link) {
					if !what.can.Has(x.n) && !k.always && k.op != nil && k.matches(text) {
						t.Errorf("%s: %q matches rule %d (@%s), which is proven impossible", f.name, text, x.src.ID, k.name)
					}
				})
			}
		}
		if tried < 20 {
			t.Errorf("%s: %d texts tried: this tests little", f.name, tried)
		}
		left, all := 0, 0
		for n := range r.Len() {
			if r.Can(ArgPost, "", nil).Has(n) {
				all++
			}
			if can.Has(n) {
				left++
			}
		}
		t.Logf("%-20s %3d of %d rules can match; proven in %v; %d texts tried", f.name, left, all, took, tried)
	}
}

// textNear makes a text of what attacks and the fields are made of.
func textNear(rnd *rand.Rand, field string) string {
	shapes := map[string][]string{
		"an order": {"ord_1234", "ord_00000001", "ord_99"}, "a uuid": {"0c1f7f43-5bd2-4b0e-9d5b-6a6f0a3f9b11", "00000000-dead-beef-face-123456789abc", "1dec2dec-dec1-dec2-0x12-1e1e1e1e1e1e"},
		"a date and time": {"2026-11-23T10:00:00Z", "2026-11-23t10:00:00.123+01:00"},
	}
	if s := shapes[field]; s != nil && rnd.IntN(2) == 0 {
		b := []byte(s[rnd.IntN(len(s))])
		for range rnd.IntN(4) {
			if i := rnd.IntN(len(b)); b[i] >= '0' && b[i] <= '9' {
				b[i] = "0123456789abcdef"[rnd.IntN(16)]
			}
		}
		return string(b)
	}
	pieces := []string{
		"union", "select", "sleep", "or", "and", "1", "0x31", "1e1", "dec", "md5", "user", "from", "admin", "etc", "passwd", "..", "/", "-", "--", "_", ".", " ", " ", "'", "\"", "(", ")", "<", ">", "=",
		"script", "onload", "exec", "cat", "ls", "php", "eval", "system", "javascript", ":", ";", ",", "#", "@", "a", "b", "Z", "9", "42", "é", "ſ", "K", "%", "%27", "&", "|", "${", "jndi", "}", "{", "\\", "*", "!", "?", "+", "~", "null", "true", "waitfor", "delay", "x.org", "Class", "Runtime", "group by", "like", "in", "not",
	}
	one := ""
	if rnd.IntN(3) == 0 { // digits and letters, as numbers and codes are
		for range 1 + rnd.IntN(12) {
			one += string("0123456789abcdef-.eE+"[rnd.IntN(21)])
		}
		return one
	}
	for range 1 + rnd.IntN(6) {
		one += pieces[rnd.IntN(len(pieces))]
	}
	return one
}

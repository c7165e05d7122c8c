package rx_test

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gatehouse-api/gatehouse/internal/validate/rx"
)

// field is a language of a field and the same as a condition.
type field struct {
	name   string
	expr   string
	maxLen int
}

var fields = []field{
	{"a uuid", `^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`, 0},
	{"digits", `^[0-9]{1,12}$`, 0},
	{"a slug", `^[a-z0-9-]{1,36}$`, 0},
	{"a name", `^[A-Za-z ]+$`, 50},
	{"a date", `^\d{4}-\d{2}-\d{2}$`, 10},
	{"an address", `^[\w.+-]+@[\w-]+\.[\w.-]+$`, 60},
	{"a code", `^[A-Z]{3}$`, 0},
	{"letters of any script", `^\p{L}+$`, 30},
	{"short text", ``, 8},
	{"text without brackets", `^[^<>(){}\[\]]*$`, 0},
	{"not anchored", `abc`, 0},
}

func (f field) language(t testing.TB) *rx.Language {
	t.Helper()
	l, err := rx.LanguageOf(f.expr, f.maxLen)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (f field) has(text string) bool {
	return utf8.ValidString(text) && regexp.MustCompile(f.expr).MatchString(text) && (f.maxLen == 0 || utf8.RuneCountInString(text) <= f.maxLen)
}

func TestWhatIsProvenImpossibleNeverHappens(t *testing.T) {
	patterns := argsPatterns(t, 4)
	ms := matchers(t, patterns)
	s := newSet(t, patterns, 0)
	var texts []string
	for i, a := range append(attacks(t), shortValues...) {
		if i%4 == 0 && len(a) < 300 {
			texts = append(texts, a)
		}
	}
	for word := range strings.FieldsSeq(prose(8_000)) {
		texts = append(texts, word)
	}
	for _, f := range fields {
		l := f.language(t)
		start := cpu(t)
		possible := s.Possible(l)
		took := cpu(t) - start
		n, examples := 0, 0
		for _, text := range texts {
			if !f.has(text) {
				continue
			}
			n++
			for i, m := range ms {
				if !possible.Has(i) && m.MatchString(text) {
					t.Errorf("%s: %q matches %.100q, which is proven impossible", f.name, text, patterns[i].Expr)
				}
			}
		}
		for i := range patterns {
			text, ok := s.Example(i, l)
			if !ok {
				continue
			}
			examples++
			switch {
			case !possible.Has(i):
				t.Errorf("%s: %.100q is impossible but for %q", f.name, patterns[i].Expr, text)
			case !f.has(text):
				t.Errorf("%s: the example %q is none of its texts", f.name, text)
			case !ms[i].MatchString(text):
				t.Errorf("%s: the example %q does not match %.100q", f.name, text, patterns[i].Expr)
			}
		}
		t.Logf("%-22s %3d of %d possible (%3d with an example), %v; %d texts tried", f.name, possible.Count(), len(patterns), examples, took, n)
	}
}

func TestLanguagesAreJoinedAndTold(t *testing.T) {
	must := func(expr string) *rx.Language {
		return field{expr: expr}.language(t)
	}
	for _, c := range []struct {
		name string
		l    *rx.Language
		expr string
		want bool // whether some text of l matches expr
	}{
		{"any text holds a script tag", rx.Any(), `<script`, true},
		{"an enum holds its values", rx.Texts("open", "shut"), `^shut$`, true},
		{"an enum holds nothing else", rx.Texts("open", "shut"), `opens|^s$`, false},
		{"an enum of nothing", rx.Texts(), `^$`, false},
		{"the empty text", rx.Texts(""), `^$`, true},
		{"a number has an exponent", rx.Number(), `e\+1`, true},
		{"a number has no quote", rx.Number(), `'`, false},
		{"a number ends as one", rx.Number(), `-$`, false},
		{"both", must(`^[a-f]+$`).And(must(`^[d-z]+$`)), `^[def]+$`, true},
		{"not one of both", must(`^[a-f]+$`).And(must(`^[d-z]+$`)), `[^def]`, false},
		{"nothing in both", must(`^a$`).And(must(`^b$`)), ``, false},
		{"one of two", must(`^a$`).Or(must(`^b$`)), `b`, true},
		{"none of two", must(`^a$`).Or(must(`^b$`)), `c`, false},
		{"folded", must(`^[A-Z]+$`).Fold(), `^select$`, true},
		{"folded, what was upper case", must(`^[A-Z]+$`).Fold(), `[A-Z]`, false},
		{"folded, and cut", must(`^[A-Z]+$`).Fold().And(must(`^b+$`)), `b`, true},
		{"a word boundary inside", must(`^[a-z]+$`), `a\bb`, false},
		{"a line of several", must(`^a\nb$`), `(?m)^b$`, true},
		{"the end of a text alone", must(`^a\nb$`), `a$`, false},
		{"too short", must(`^x*$`).And(must(`^.{0,3}$`)), `xxxx`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSet(t, []rx.Pattern{{Expr: c.expr}}, 0)
			if got := s.Possible(c.l).Any(); got != c.want {
				t.Errorf("possible: %t, want %t", got, c.want)
			}
			text, ok := s.Example(0, c.l)
			if ok != c.want || ok && !regexp.MustCompile(c.expr).MatchString(text) {
				t.Errorf("example: %q, %t", text, ok)
			}
		})
	}
}

func TestAnAlphabetHoldsTheBytesOfItsTexts(t *testing.T) {
	has := func(l *rx.Language, b byte) bool { a := l.Alphabet(); return a[b>>6]>>(b&63)&1 != 0 }
	l := field{expr: `^[A-Z0-9]{1,4}$`}.language(t)
	for b, want := range map[byte]bool{'A': true, '5': true, 'a': false, '%': false, 0: false, 0xc3: false} {
		if has(l, b) != want {
			t.Errorf("%q: %t", b, !want)
		}
	}
	if folded := l.Fold(); has(folded, 'A') || !has(folded, 'a') {
		t.Error("a folded language has upper case, or no lower case")
	}
	if l := (field{expr: `^é$`}).language(t); !has(l, 0xc3) || !has(l, 0xa9) || has(l, 'e') {
		t.Error("characters beyond ASCII have bytes beyond ASCII")
	}
	if a := rx.Texts().Alphabet(); a != [4]uint64{} {
		t.Error("no text has no bytes")
	}
}

package jsonschema

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// The table and RE2 are two readers of one pattern: this needs the inside.
var tablePatterns = []string{
	`^[A-Z]{3}-[0-9]{6}$`, `^a|b$`, `a`, ``, `^$`, `$`, `^`, `abc`, `(ab)+`, `^(a|ab)(c|bcd)(d*)$`, `[^a]`, `.`, `^.{2,5}$`,
	`^\s*\S+\s*$`, `a$b`, `^a$|^b$`, `(^a|b)c`, `x*$`, `^(?:[a-z0-9-]{1,5}\.)+[a-z]{2,}$`, `(?i)aBc`, `[^\n]`, `^\w+@\w+$`, `a{0}`, `(a*)*b`, `a|^`,
	`^[abx0]{2,4}$`, `^[a-c]*$`, `^[a-c]+$`, `^[a-c]?$`, `^[a-c]$`, `^[a-c]{3}$`, `^[a-c]{2,}$`, `^[^a]{2}$`, `(?i)^[a-k]{2}$`, `^[a-cé]+$`, `(?:^[a-c]+$)`, `^[a-c]+?$`,
}

func checkTable(t *testing.T, source string, text []byte) {
	t.Helper()
	p, err := compilePattern(source)
	if err != nil {
		return
	}
	if want, got := p.re.Match(text), p.match(text); want != got {
		t.Fatalf("%q on %q: table %v, RE2 %v", source, text, got, want)
	}
}

func TestTheTableAgreesWithRE2(t *testing.T) {
	g := rand.New(rand.NewPCG(7, 7))
	const alphabet = "abcABCdx019-@. \n\té"
	letters := []rune(alphabet)
	for _, source := range tablePatterns {
		p, err := compilePattern(source)
		if err != nil {
			t.Fatal(err)
		}
		if p.table == nil {
			t.Errorf("%q has no table", source)
		}
		for range 400 {
			var b strings.Builder
			for range g.IntN(9) {
				b.WriteRune(letters[g.IntN(len(letters))])
			}
			checkTable(t, source, []byte(b.String()))
		}
	}
}

func FuzzPattern(f *testing.F) {
	for _, p := range append(tablePatterns, `\bword\b`, `\p{L}+`, `^[\u0041-\u005a]$`, `[[:alpha:]]`, `\cA`, `(?<n>a)`, `^.{1,2048}$`, `(?m)^[a-c]+$`) {
		f.Add(p, []byte("abc-123"))
	}
	f.Fuzz(func(t *testing.T, source string, text []byte) {
		if len(source) < 200 && len(text) < 200 {
			checkTable(t, source, text)
		}
	})
}

func TestPatternsHaveECMAMeaning(t *testing.T) {
	for name, tc := range map[string]struct {
		pattern, text string
		want          bool
	}{
		"a digit is ASCII":                         {`^\d$`, "٣", false},
		"a space may be wide":                      {`^\s$`, "\u3000", true},
		"a space may be a byte order mark":         {`^[\s]$`, "\ufeff", true},
		"what is no space is the rest":             {`^\S$`, "\u3000", false},
		"the dot stops at a line separator":        {`^.$`, "\u2028", false},
		"the dollar is the end, not a last line":   {`^a$`, "a\n", false},
		"the caret is the start, not a line":       {`^a$`, "b\na", false},
		"a u escape is a character":                {`^\u00e9$`, "é", true},
		"two surrogate escapes are one character":  {`^\ud83d\ude00$`, "😀", true},
		"a braced u escape is a character":         {`^\u{1F600}$`, "😀", true},
		"a property has a long name":               {`^\p{Script=Greek}+$`, "αβγ", true},
		"a POSIX class means nothing":              {`^[[:a]$`, ":", true},
		"an empty class matches nothing":           {`[]`, "a", false},
		"an empty negated class matches anything":  {`^[^]$`, "\n", true},
		"a brace that is no repeat is itself":      {`^{a}$`, "{a}", true},
		"more than a thousand repeats are counted": {`^a{1,2048}$`, strings.Repeat("a", 2048), true},
		"one more than that is refused":            {`^a{1,2048}$`, strings.Repeat("a", 2049), false},
		"a group may repeat that often":            {`^(?:ab){1500}$`, strings.Repeat("ab", 1500), true},
		"a named group is a group":                 {`^(?<year>\d{4})$`, "2026", true},
		"a slash may be escaped":                   {`^\/v1\/$`, "/v1/", true},
		"a control escape is a control character":  {`^\cJ$`, "\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := compilePattern(tc.pattern)
			if err != nil {
				t.Fatal(err)
			}
			if got := p.match([]byte(tc.text)); got != tc.want {
				t.Errorf("%s on %q: %v", tc.pattern, tc.text, got)
			}
		})
	}
	for _, bad := range []string{`(?=a)`, `(?!a)b`, `(?<=a)b`, `(?<!a)b`, `(a)\1`, `(?<n>a)\k<n>`, `a{99999}`, `\Z`, `[`, `(`, `a**`, `\`, `\u12`, `\p{Nope}`} {
		if _, err := compilePattern(bad); err == nil {
			t.Errorf("%s compiles", bad)
		}
	}
}

package rx_test

import (
	"math/rand/v2"
	"regexp"
	"testing"

	"rsc.io/binaryregexp"

	"github.com/gatehouse-api/gatehouse/internal/validate/rx"
)

// A matcher is an expression as Go has it.
type matcher interface{ MatchString(text string) bool }

func matchers(t testing.TB, patterns []rx.Pattern) []matcher {
	t.Helper()
	out := make([]matcher, len(patterns))
	for i, p := range patterns {
		var err error
		if p.Binary {
			out[i], err = binaryregexp.Compile(p.Expr)
		} else {
			out[i], err = regexp.Compile(p.Expr)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// check holds a scan of text against the matchers.
func check(t testing.TB, s *rx.Set, patterns []rx.Pattern, ms []matcher, text string) (hits int) {
	t.Helper()
	got, left := rx.NewBits(s.Len()), forEver
	if !s.Scan(text, got, nil, &left) {
		t.Fatalf("%q: the budget ended", text)
	}
	for i, m := range ms {
		if want := m.MatchString(text); want != got.Has(i) && (want || s.Exact(i)) {
			t.Errorf("%.200q: %.300q: got %t, want %t", text, patterns[i].Expr, got.Has(i), want)
		} else if want {
			hits++
		}
	}
	return hits
}

// mutate changes text at random: pieces doubled, dropped, joined with others',
// bytes of every kind put in.
func mutate(r *rand.Rand, texts []string) string {
	b := []byte(texts[r.IntN(len(texts))])
	if len(b) > 300 {
		at := r.IntN(len(b) - 200)
		b = b[at : at+200]
	}
	for range 1 + r.IntN(4) {
		at := r.IntN(len(b) + 1)
		switch r.IntN(6) {
		case 0:
			b = append(b[:at:at], append([]byte{byte(r.IntN(256))}, b[at:]...)...)
		case 1:
			b = append(b[:at:at], append([]byte(string(rune(r.IntN(0x3000)))), b[at:]...)...)
		case 2:
			other := texts[r.IntN(len(texts))]
			k := r.IntN(len(other) + 1)
			b = append(b[:at:at], other[k:min(len(other), k+30)]...)
		case 3:
			b = b[at:]
		case 4:
			b = append(b[:at:at], b[:at]...)
		case 5:
			b = append(b[:at:at], append([]byte{"\n\r\t '\"();|&$<>\\/"[r.IntN(16)]}, b[at:]...)...)
		}
		if len(b) > 600 {
			b = b[:600]
		}
	}
	return string(b)
}

func TestASetSaysOfEachExpressionOfTheCoreRuleSetWhatGoSays(t *testing.T) {
	patterns := allPatterns(t)
	ms := matchers(t, patterns)
	s := newSet(t, patterns, 0)
	texts := attacks(t)
	every := 7
	if testing.Short() || raceEnabled {
		every = 70
	}
	hits, n := 0, 0
	for i, text := range texts {
		if i%every == 0 && len(text) < 3000 {
			hits += check(t, s, patterns, ms, text)
			n++
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range len(texts) / every {
		hits += check(t, s, patterns, ms, mutate(r, texts))
		n++
	}
	for _, text := range append(shortValues, "", "\n", "\x00", "\xff", "\xc3\xa9\xe9", "a\xff\xfeb", "\u212aelvin \u017felect", prose(1500)) {
		hits += check(t, s, patterns, ms, text)
		n++
	}
	t.Logf("%d texts, %d matches", n, hits)
	if hits < 1000 {
		t.Error("hardly any matches: the texts prove nothing")
	}
}

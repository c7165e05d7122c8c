package rx_test

import (
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/validate/rx"
)

func TestASetAnswersForEachPattern(t *testing.T) {
	patterns := []rx.Pattern{
		{Expr: `(?sm)union\s+select`},
		{Expr: `(?sm)^x$`},
		{Expr: `\xff`, Binary: true},
		{Expr: `\bb\B`},
		{Expr: ``},
		{Expr: `a.{0,40}b`},
		{Expr: `(?i)k`},
		{Expr: `[^a]`},
		{Expr: `\A\z`},
		{Expr: `(?sm)^[^;]*;$`},
		{Expr: `(?sm)union\s+select`},
		{Expr: `[\x80-\xbf]$`, Binary: true},
		{Expr: `\x{fffd}`},
		{Expr: `a.*\bb.*c\z`},
		{Expr: `(?:ab){2,}|(?:a|ab)(?:c|bcd)(?:d*)$`},
		{Expr: `(?sm).$`},
		{Expr: `x{2,5}y{3}?`},
		{Expr: `[a-z ]*9|q[a-z ]{3,30}9`},
	}
	ms, s := matchers(t, patterns), newSet(t, patterns, 0)
	for _, text := range []string{
		"", "1 union  select", "a\nx", "\xff\nx\n", "bb", "ab b", "K", "\u212a", "a", "aa", ";", "b;\n;", "é", "\xe9", "\u00ff", "abcd", "acd", "abab",
		"axxxxb", "a" + strings.Repeat("x", 40) + "b", "a" + strings.Repeat("x", 41) + "b", "a b c", "a b\nc", "a bc\n", "xxyyy", "xyyy", "q ab c9", "q9", "\n",
		strings.Repeat("a x", 50) + "b" + strings.Repeat("\n", 3) + "c",
	} {
		check(t, s, patterns, ms, text)
	}
}

func TestAnExpressionThatDoesNotCompileIsNamed(t *testing.T) {
	_, err := rx.NewSet([]rx.Pattern{{Expr: `a`}, {Expr: `a(`}}, rx.Options{})
	if err == nil || !strings.Contains(err.Error(), "pattern 1") || !strings.Contains(err.Error(), "a(") {
		t.Errorf("error: %v", err)
	}
}

func TestASetOfNothingFindsNothing(t *testing.T) {
	s, left := newSet(t, nil, 0), forEver
	if !s.Scan("text", rx.NewBits(0), nil, &left) || s.Possible(rx.Any()).Any() {
		t.Error("something was found")
	}
}

func TestOnlyWhatIsAskedForIsAnswered(t *testing.T) {
	s := newSet(t, []rx.Pattern{{Expr: `a`}, {Expr: `a`}, {Expr: `a.*b`}, {Expr: `\xe9`, Binary: true}}, 0)
	hits, only, left := rx.NewBits(4), rx.NewBits(4), forEver
	only.Set(1)
	if s.Scan("a b \xe9", hits, only, &left); hits[0] != 1<<1 {
		t.Errorf("%b", hits[0])
	}
	hits.Clear()
	hits.Set(0) // stays
	only.Set(3)
	only.Set(2)
	if s.Scan("a b \xe9", hits, only, &left); hits[0] != 0b1111 {
		t.Errorf("%b", hits[0])
	}
}

func TestAnEndedBudgetIsSaid(t *testing.T) {
	patterns := argsPatterns(t, 1)
	s := newSet(t, patterns, 0)
	hits := rx.NewBits(s.Len())
	text := prose(8 << 10)
	left := int64(100_000)
	for range 200 { // cold, then warm: each time the budget is charged
		left = 100_000
		if s.Scan(text, hits, nil, &left) {
			break
		}
		if left >= 0 {
			t.Fatalf("refused with %d left", left)
		}
	}
	if left < 0 {
		t.Error("100 µs never suffice for 8 KB")
	}
	left = 10
	if s.Scan("twenty characters at least", hits, nil, &left) {
		t.Error("10 ns sufficed")
	}
}

func TestScansShareAFullCacheAndStayRight(t *testing.T) {
	patterns := argsPatterns(t, 1)
	if raceEnabled {
		patterns = patterns[:40]
	}
	texts := attacks(t)
	r := rand.New(rand.NewPCG(3, 4))
	var sample []string
	for range 120 {
		sample = append(sample, mutate(r, texts))
	}
	sample = append(sample, shortValues...)
	want := make([]rx.Bits, len(sample))
	one := newSet(t, patterns, 0)
	for i, text := range sample {
		left := forEver
		want[i] = rx.NewBits(one.Len())
		one.Scan(text, want[i], nil, &left)
	}
	const maxBytes = 1 << 20
	s := newSet(t, patterns, maxBytes) // full at once, begun anew many times
	start := s.Bytes()
	var wg sync.WaitGroup
	for k := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(k), 5))
			hits := rx.NewBits(s.Len())
			for range 400 {
				i := r.IntN(len(sample))
				hits.Clear()
				left := forEver
				if !s.Scan(sample[i], hits, nil, &left) {
					t.Error("the budget ended")
				}
				for w := range hits {
					if hits[w] != want[i][w] {
						t.Errorf("%q: %b, want %b", sample[i], hits, want[i])
						return
					}
				}
			}
		})
	}
	wg.Wait()
	if b := s.Bytes(); b > start+maxBytes {
		t.Errorf("%d bytes, began with %d, want at most %d more", b, start, maxBytes)
	}
}

func TestAllocsOfAWarmScan(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	s := newSet(t, argsPatterns(t, 4), 0)
	hits := rx.NewBits(s.Len())
	for range 3 {
		scanAll(s, shortValues, hits)
	}
	if n := testing.AllocsPerRun(20, func() { scanAll(s, shortValues, hits) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzScan(f *testing.F) {
	patterns := argsPatterns(f, 4)
	ms, s := matchers(f, patterns), newSet(f, patterns, 4<<20)
	for _, text := range append(shortValues, "1' or 1=1--", "<script>alert(1)</script>", "\xff;cat /etc/passwd\n", "${jndi:ldap://x}") {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) < 2000 {
			check(t, s, patterns, ms, text)
		}
	})
}

// FuzzNewSet holds sets of strangers' expressions against Go's regexp.
func FuzzNewSet(f *testing.F) {
	f.Add(`(a|b*)\b[^c]{2,4}.*$`, `(?im)^\W+?x|y\z`, "abcd\nxyz")
	f.Add(`x{0,30}\By`, `.*a.{3,40}b`, "xxy aaab\xff")
	f.Fuzz(func(t *testing.T, a, b, text string) {
		if len(a)+len(b) > 60 || len(text) > 300 {
			return
		}
		patterns := []rx.Pattern{{Expr: a}, {Expr: b}, {Expr: a, Binary: true}}
		s, err := rx.NewSet(patterns, rx.Options{MaxBytes: 64 << 10})
		if err != nil {
			return
		}
		check(t, s, patterns, matchers(t, patterns), text)
	})
}

// What the Core Rule Set costs before the first text: a gateway starts with it,
// and keeps it twice while a changed config is loaded.
func TestAllExpressionsTakeLittleMemory(t *testing.T) {
	patterns := allPatterns(t)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.GC() // what pools held
	runtime.ReadMemStats(&before)
	start := cpu(t)
	s := newSet(t, patterns, 0)
	took := cpu(t) - start
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(s)
	held := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("%d patterns: %v of processor time, %.1f MB", s.Len(), took, float64(held)/1e6)
	if held < 1<<20 || held > 25<<20 {
		t.Errorf("%d bytes, want 1 to 25 MiB", held)
	}
}

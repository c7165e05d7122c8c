package rx_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/validate/rx"
)

const forEver = int64(1) << 60

func newSet(t testing.TB, patterns []rx.Pattern, maxBytes int) *rx.Set {
	t.Helper()
	s, err := rx.NewSet(patterns, rx.Options{MaxBytes: maxBytes})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func scanAll(s *rx.Set, texts []string, hits rx.Bits) {
	left := forEver
	for _, x := range texts {
		s.Scan(x, hits, nil, &left)
	}
}

// BenchmarkScan measures one pass over all expressions over ARGS of a paranoia
// level. "new" are texts never seen before, by a set that has seen others.
func BenchmarkScan(b *testing.B) {
	var seen, fresh []string
	for i := range uint64(64) {
		seen = append(seen, proseOf(8<<10, i))
		fresh = append(fresh, proseOf(8<<10, 1000+i))
	}
	for _, level := range []int{1, 2, 4} {
		patterns := argsPatterns(b, level)
		for _, c := range []struct {
			name       string
			warm, what []string
			texts      int // per operation
		}{
			{"40 short values", shortValues, shortValues, len(shortValues)},
			{"8 KB of one text", []string{prose(8 << 10)}, []string{prose(8 << 10)}, 1},
			{"64 KB of one text", []string{prose(64 << 10)}, []string{prose(64 << 10)}, 1},
			{"8 KB seen before", seen, seen, 1},
			{"8 KB new", seen, fresh, 1},
		} {
			b.Run(fmt.Sprintf("PL%d/%s", level, c.name), func(b *testing.B) {
				s := newSet(b, patterns, 0)
				hits := rx.NewBits(s.Len())
				for range 1 + 200/len(c.warm) { // until the quick way knows a text that comes again
					scanAll(s, c.warm, hits)
				}
				b.ReportAllocs()
				i, start := 0, cpu(b)
				for b.Loop() {
					left := forEver
					for range c.texts {
						s.Scan(c.what[i%len(c.what)], hits, nil, &left)
						i++
					}
				}
				b.ReportMetric(float64((cpu(b)-start).Nanoseconds())/float64(b.N), "cpu-ns/op")
				b.ReportMetric(float64(s.Bytes())/1e6, "MB")
			})
		}
	}
}

// BenchmarkAttacks scans each text of the regression tests once per operation,
// by a set that has seen none or all of them.
func BenchmarkAttacks(b *testing.B) {
	texts := attacks(b)
	for _, level := range []int{1, 4} {
		patterns := argsPatterns(b, level)
		b.Run(fmt.Sprintf("PL%d/cold", level), func(b *testing.B) {
			var spent time.Duration
			for b.Loop() {
				s := newSet(b, patterns, 0)
				hits, start := rx.NewBits(s.Len()), cpu(b)
				scanAll(s, texts, hits)
				spent += cpu(b) - start
				b.ReportMetric(float64(s.Bytes())/1e6, "MB")
			}
			b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N*len(texts)), "cpu-ns/text")
		})
		b.Run(fmt.Sprintf("PL%d/warm", level), func(b *testing.B) {
			s := newSet(b, patterns, 0)
			hits := rx.NewBits(s.Len())
			scanAll(s, texts, hits)
			start := cpu(b)
			for b.Loop() {
				scanAll(s, texts, hits)
			}
			b.ReportMetric(float64((cpu(b)-start).Nanoseconds())/float64(b.N*len(texts)), "cpu-ns/text")
			b.ReportMetric(float64(s.Bytes())/1e6, "MB")
		})
	}
}

func BenchmarkNewSet(b *testing.B) {
	for name, patterns := range map[string][]rx.Pattern{"PL1": argsPatterns(b, 1), "PL4": argsPatterns(b, 4), "every expression": allPatterns(b)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			start := cpu(b)
			for b.Loop() {
				newSet(b, patterns, 0)
			}
			b.ReportMetric(float64((cpu(b)-start).Milliseconds())/float64(b.N), "cpu-ms/op")
		})
	}
}

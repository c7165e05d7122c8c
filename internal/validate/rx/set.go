package rx

import (
	"fmt"
	"regexp"
	"strings"
)

// A Pattern is one expression as its operator compiles it.
type Pattern struct {
	Expr   string // in Go's syntax with its flags: (?sm)...
	Binary bool   // over bytes, each a character of its own (Latin-1), as rsc.io/binaryregexp has it
}

// Options bound a set. The zero value is good.
type Options struct {
	MaxBytes int // of memory for states made while scanning; 0: 16 MiB
}

// A Set answers for many patterns at once. Its methods are safe for concurrent
// use.
type Set struct {
	patterns []Pattern
	slow     []*regexp.Regexp
}

// NewSet compiles patterns. The error names the one that is wrong.
func NewSet(patterns []Pattern, o Options) (*Set, error) {
	s := &Set{patterns: patterns}
	for i, p := range patterns {
		re, err := regexp.Compile(p.Expr)
		if err != nil {
			return nil, fmt.Errorf("pattern %d: %w", i, err)
		}
		s.slow = append(s.slow, re)
	}
	return s, nil
}

// Len is the number of patterns.
func (s *Set) Len() int { return len(s.patterns) }

// Exact reports whether a bit for pattern i means that it matches. Where it is
// false it means "may match", and no bit means that it does not.
func (s *Set) Exact(i int) bool { return true }

// Scan sets in hits the bits of the patterns that match text anywhere, as
// MatchString of Go's regexp has it, and leaves the other bits as they are. Only
// the patterns of only are asked for, nil: all. left is what may be spent, in
// about nanoseconds, and is counted down; false: it did not suffice and hits is
// incomplete.
func (s *Set) Scan(text string, hits, only Bits, left *int64) (complete bool) {
	var latin string
	for i, re := range s.slow {
		if only != nil && !only.Has(i) {
			continue
		}
		if *left -= int64(1000 + 60*len(text)); *left < 0 {
			return false
		}
		t := text
		if s.patterns[i].Binary {
			if latin == "" {
				latin = latin1(text)
			}
			t = latin
		}
		if re.MatchString(t) {
			hits.Set(i)
		}
	}
	return true
}

// latin1 returns text with each byte as the character of that number.
func latin1(text string) string {
	var b strings.Builder
	for i := range len(text) {
		b.WriteRune(rune(text[i]))
	}
	return b.String()
}

// Possible says which patterns can match at least one text of l. What is not in
// it is proven impossible; when the proof would take too long, all are possible.
func (s *Set) Possible(l *Language) Bits {
	all := NewBits(s.Len())
	for i := range s.Len() {
		all.Set(i)
	}
	return all
}

// Example returns a text of l that pattern i matches, if one was found.
func (s *Set) Example(i int, l *Language) (string, bool) { return "", false }

package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Place is where in which file something stands. Line and Column count from 1,
// columns in characters; 0 is unknown.
type Place struct {
	File         string
	Line, Column int
}

// String gives file:line:column, as editors and compilers write it.
func (p Place) String() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.Column == 0:
		return p.File + ":" + strconv.Itoa(p.Line)
	}
	return p.File + ":" + strconv.Itoa(p.Line) + ":" + strconv.Itoa(p.Column)
}

func (p Place) compare(q Place) int {
	return cmp.Or(cmp.Compare(p.File, q.File), cmp.Compare(p.Line, q.Line), cmp.Compare(p.Column, q.Column))
}

// A Text is a string that knows where it was written, for the rooms that compile it.
type Text struct {
	Value string
	Place Place
}

// String gives the value.
func (t Text) String() string { return t.Value }

// Values gives the strings of texts.
func Values(texts []Text) []string {
	if texts == nil {
		return nil
	}
	out := make([]string, len(texts))
	for i, t := range texts {
		out[i] = t.Value
	}
	return out
}

// An Error is one fault in the file.
type Error struct {
	Place Place
	Text  string // what is wrong and, where known, the way out
}

// Error gives "place: text".
func (e *Error) Error() string { return e.Place.String() + ": " + e.Text }

// Errorf makes an [*Error]; rooms that compile a [Text] use it for theirs.
func Errorf(at Place, format string, args ...any) error {
	return &Error{Place: at, Text: fmt.Sprintf(format, args...)}
}

// maxErrors bounds what a hopeless file prints.
const maxErrors = 100

// join sorts the faults by place and makes one error of them; nil if there are none.
func join(errs []*Error) error {
	if len(errs) == 0 {
		return nil
	}
	slices.SortStableFunc(errs, func(a, b *Error) int { return a.Place.compare(b.Place) })
	errs = slices.CompactFunc(errs, func(a, b *Error) bool { return *a == *b })
	all := make([]error, 0, min(len(errs), maxErrors)+1)
	for _, e := range errs[:min(len(errs), maxErrors)] {
		all = append(all, e)
	}
	if more := len(errs) - maxErrors; more > 0 {
		all = append(all, fmt.Errorf("%s: and %d faults more, at least", errs[maxErrors].Place.File, more))
	}
	return errors.Join(all...)
}

// Suggest gives the candidate nearest to word, or "" when none is near: at most
// two edits and a third of its length (Damerau-Levenshtein with adjacent
// transpositions), case ignored. Of equally near ones the first in order wins.
func Suggest(word string, candidates []string) string {
	if len(word) > 128 { // nobody mistypes a paragraph, and the work is quadratic
		return ""
	}
	best, bestDistance := "", 3
	for _, c := range slices.Sorted(slices.Values(candidates)) {
		if len(c) > 128 {
			continue
		}
		limit := min(2, max(1, max(len(word), len(c))/3))
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d <= limit && d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance counts insertions, deletions, substitutions and swaps of neighbours
// between a and b (optimal string alignment).
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	before, last, row := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range last {
		last[j] = j
	}
	for i := range x {
		row[0] = i + 1
		for j := range y {
			change := 1
			if x[i] == y[j] {
				change = 0
			}
			row[j+1] = min(row[j]+1, last[j+1]+1, last[j]+change)
			if i > 0 && j > 0 && x[i] == y[j-1] && x[i-1] == y[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(y)]
}

// DidYouMean is the tail of an error about a word, or "".
func DidYouMean(word string, candidates []string) string {
	if s := Suggest(word, candidates); s != "" {
		return fmt.Sprintf("; did you mean %q?", s)
	}
	return ""
}

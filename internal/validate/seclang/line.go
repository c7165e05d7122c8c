package seclang

import (
	"errors"
	"fmt"
	"strings"
)

// A line is a directive with its continuations put together, and where each part
// of it stands in the file.
type line struct {
	file  string
	text  string
	parts []part
}

// A part is what one line of the file gave: from is where it begins in the text.
type part struct{ from, line, col int }

// at returns the place of the byte at offset off of the text.
func (l *line) at(off int) Place {
	p := l.parts[0]
	for _, q := range l.parts[1:] {
		if q.from > off {
			break
		}
		p = q
	}
	return Place{File: l.file, Line: p.line, Col: p.col + off - p.from}
}

// A word is a piece of a line and its offset there.
type word struct {
	text string
	off  int
}

// from returns the part of w behind its first n bytes.
func (w word) from(n int) word { return word{w.text[n:], w.off + n} }

// trim returns w without the spaces around it.
func (w word) trim() word {
	left := strings.TrimLeft(w.text, spaces)
	return word{strings.TrimRight(left, spaces), w.off + len(w.text) - len(left)}
}

const spaces = " \t"

// unquote takes away a pair of quotes around w.
func (w word) unquote() word {
	if n := len(w.text); n >= 2 && (w.text[0] == '"' || w.text[0] == '\'') && w.text[0] == w.text[n-1] {
		return word{w.text[1 : n-1], w.off + 1}
	}
	return w
}

// A fault is what is wrong at one place of the rules.
type fault struct {
	place Place
	text  string
}

func (f *fault) Error() string { return f.place.String() + ": " + f.text }

// errContinued is told apart from other faults of lines only by its text.
var errContinued = errors.New("the line ends with a backslash, but the file ends here")

// lines gives each directive of a source to do. Comments are left out wherever
// they stand, spaces around a line of the file are no part of it, and a backslash
// at its end continues it: as Coraza reads them.
func lines(s *Source, do func(*line) bool) error {
	var text strings.Builder
	var parts []part
	n := 0
	for raw := range strings.SplitSeq(string(s.Text), "\n") {
		n++
		left := strings.TrimLeft(raw, " \t\r\f\v")
		one := strings.TrimRight(left, " \t\r\f\v")
		if one == "" || one[0] == '#' {
			continue
		}
		parts = append(parts, part{text.Len(), n, len(raw) - len(left) + 1})
		more := one[len(one)-1] == '\\'
		text.WriteString(strings.TrimSuffix(one, `\`))
		if more {
			continue
		}
		if !do(&line{file: s.Name, text: text.String(), parts: parts}) {
			return nil
		}
		text = strings.Builder{}
		parts = nil
	}
	if parts != nil {
		p := parts[len(parts)-1]
		return &fault{Place{s.Name, p.line, p.col}, errContinued.Error()}
	}
	return nil
}

// quoted cuts the double-quoted word at the begin of w. In it \" is a quote and
// no end; everything else, other backslashes too, stays as it is.
func (l *line) quoted(w word, what string) (inner, rest word, err error) {
	if w.text == "" || w.text[0] != '"' {
		return w, w, l.fault(w.off, "%s must stand in double quotes", what)
	}
	backslashes := 0
	for i := 1; i < len(w.text); i++ {
		switch {
		case w.text[i] == '\\':
			backslashes++
			continue
		case w.text[i] == '"' && backslashes%2 == 0:
			return word{w.text[1:i], w.off + 1}, w.from(i + 1), nil
		}
		backslashes = 0
	}
	return w, w, l.fault(w.off, "the quote that opens %s is not closed", what)
}

func (l *line) fault(off int, format string, args ...any) error {
	return &fault{l.at(off), fmt.Sprintf(format, args...)}
}

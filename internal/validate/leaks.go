package validate

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	gatehouse "github.com/gatehouse-api/gatehouse"
)

// leakBytes is how much of an answer is looked at when the settings do not say.
const leakBytes = 64 << 10

// LeakRules lists the names of the rules that look for what answers give away.
func LeakRules() []string {
	names := make([]string, 0, len(leakTable)+1)
	for _, r := range leakTable {
		names = append(names, r.name)
	}
	return append(names, leakCard)
}

// Leaks looks for stack traces, database errors, card numbers, keys and password
// hashes in an answer, or the beginning of one, that is text. It returns what was
// found, each place with its rule and a detail in which letters and digits are
// masked, and whether the answer is to be withheld ([BadResponse]): it is when
// the settings enforce, unless all that was found may be meant to be there.
// With [Settings.Leaks] Off it looks at nothing.
func (o *Operation) Leaks(h http.Header, body []byte) (found []gatehouse.FieldError, withhold bool) {
	if o.leaks == nil || len(body) == 0 {
		return nil, false
	}
	types := h["Content-Type"]
	if len(types) > 0 && !leakyType(types[0]) {
		return nil, false
	}
	isJSON := len(types) > 0 && strings.Contains(types[0], "json")
	text := body[:min(len(body), o.leaks.bytes)]
	var space [maxFaults]leak
	for _, l := range o.leaks.find(space[:0], text, isJSON) {
		f := gatehouse.FieldError{In: inBody, Rule: "leak_" + l.rule, Detail: mask(text[l.from:l.to])}
		if isJSON {
			f.Pointer = pointerAt(text, l.from)
		}
		found = append(found, f)
		withhold = withhold || !l.soft && o.settings.Leaks == Enforce
	}
	return found, withhold
}

// leakyType reports content that people or programs read as text.
func leakyType(contentType string) bool {
	kind, _, _ := strings.Cut(contentType, ";")
	kind = strings.ToLower(strings.Trim(kind, " \t"))
	return strings.HasPrefix(kind, "text/") || strings.HasSuffix(kind, "json") || strings.HasSuffix(kind, "xml") ||
		strings.HasSuffix(kind, "javascript") || strings.HasSuffix(kind, "yaml") || strings.HasSuffix(kind, "x-www-form-urlencoded") ||
		strings.HasSuffix(kind, "graphql") || strings.HasSuffix(kind, "csv") || strings.HasSuffix(kind, "event-stream")
}

// A leak is one place in an answer.
type leak struct {
	rule     string
	from, to int
	soft     bool // reported, never withheld
}

// leaks are the rules one operation asks.
type leaks struct {
	scan  *leakScan
	rules []bool // of leakTable: asked
	card  bool
	bytes int
}

// newLeaks returns nil when nothing is to be looked at; bad is a rule nobody knows.
func newLeaks(s *Settings) (_ *leaks, bad string) {
	if s.Leaks == Off {
		return nil, ""
	}
	l := &leaks{scan: leakScanner(), rules: make([]bool, len(leakTable)), bytes: leakBytes}
	if s.LeakOptions.Bytes > 0 {
		l.bytes = s.LeakOptions.Bytes
	}
	known := LeakRules()
	for _, name := range s.LeakOptions.Without {
		if !slices.Contains(known, name) {
			return nil, name
		}
	}
	for i, r := range leakTable {
		l.rules[i] = !slices.Contains(s.LeakOptions.Without, r.name)
	}
	l.card = !slices.Contains(s.LeakOptions.Without, leakCard)
	return l, ""
}

// find appends the first place of each rule that matches, up to maxFaults.
func (l *leaks) find(dst []leak, b []byte, isJSON bool) []leak {
	if l.card {
		if from, to, ok := findCard(b, isJSON); ok {
			dst = append(dst, leak{rule: leakCard, from: from, to: to})
		}
	}
	var done uint64 // rules that were found; the table has fewer than 64
	s := l.scan
	for i := 0; i+1 < len(b); i += 2 {
		pair := uint(b[i]) | uint(b[i+1])<<8
		if s.rare[pair>>6]>>(pair&63)&1 == 0 {
			continue
		}
		for _, at := range s.places[s.bucket[pair]] {
			t := &s.triggers[at.trigger]
			start := i - at.offset
			if start < 0 || start+len(t.text) > len(b) || string(b[start:start+len(t.text)]) != t.text ||
				!l.rules[t.rule] || done>>t.rule&1 != 0 || len(dst) == maxFaults {
				continue
			}
			if from, to, ok := t.confirm(b, start); ok {
				done |= 1 << t.rule
				dst = append(dst, leak{rule: leakTable[t.rule].name, from: from, to: to, soft: leakTable[t.rule].soft})
			}
		}
	}
	return dst
}

// A leakScan finds all triggers of all rules in one pass that looks at every
// second place only: of each trigger it knows two pairs of bytes beside each
// other, one of which lies at an even place wherever the trigger stands. The
// pairs are those of the trigger that are rarest in text.
type leakScan struct {
	rare     [1 << 10]uint64 // a bit for each pair that is one of these
	bucket   []uint8         // of such a pair, into places
	places   [][]leakPlace
	triggers []leakTrigger
}

type leakPlace struct{ trigger, offset int }

// leakScanner is made once: it is the same for all operations, and read-only.
var leakScanner = sync.OnceValue(func() *leakScan {
	s := &leakScan{bucket: make([]uint8, 1<<16)}
	for i, r := range leakTable {
		for _, t := range r.triggers {
			t.rule = i
			s.triggers = append(s.triggers, t)
			best := 0
			for k := 1; k+2 < len(t.text); k++ {
				if commonness(t.text[k:k+3]) < commonness(t.text[best:best+3]) {
					best = k
				}
			}
			s.place(t.text, leakPlace{len(s.triggers) - 1, best})
			s.place(t.text, leakPlace{len(s.triggers) - 1, best + 1})
		}
	}
	return s
})

func (s *leakScan) place(text string, at leakPlace) {
	pair := uint(text[at.offset]) | uint(text[at.offset+1])<<8
	if s.rare[pair>>6]>>(pair&63)&1 == 0 {
		s.rare[pair>>6] |= 1 << (pair & 63)
		s.bucket[pair] = uint8(len(s.places)) // 256 at most, which a test holds
		s.places = append(s.places, nil)
	}
	s.places[s.bucket[pair]] = append(s.places[s.bucket[pair]], at)
}

// commonness is a guess at how often the two pairs of three bytes stand in text
// and JSON.
func commonness(three string) int {
	of := func(c byte) int {
		switch {
		case strings.IndexByte("etaoinsrhl ", c) >= 0:
			return 12
		case c >= 'a' && c <= 'z', c == '"', c == ',', c == ':':
			return 6
		case digit(c):
			return 5
		case c >= 'A' && c <= 'Z', c == '.', c == '-', c == '_', c == '/':
			return 2
		}
		return 1
	}
	return of(three[0])*of(three[1]) + of(three[1])*of(three[2])
}

// confirm looks whether a trigger that begins at from is what it seems.
func (t *leakTrigger) confirm(b []byte, from int) (_, to int, ok bool) {
	end := from + len(t.text)
	if t.pattern == nil {
		return from, end, true
	}
	start := max(0, from-t.back)
	window := b[start:min(len(b), end+leakAhead)]
	if t.back == 0 { // the pattern begins here
		if from > 0 && (wordByte(b[from-1]) || b[from-1] == '.') && wordByte(t.text[0]) {
			return 0, 0, false // inside a longer word
		}
	}
	at := t.pattern.FindIndex(window)
	if at == nil || t.back == 0 && at[0] != 0 {
		return 0, 0, false
	}
	return start + at[0], start + at[1], true
}

func wordByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
}

// mask keeps what shows the kind of a text, and none of it: letters become a or
// A, digits 9, in 64 characters at most.
func mask(b []byte) string {
	var out strings.Builder
	n := 0
	for _, r := range string(b[:min(len(b), 4*64)]) {
		if n++; n > 64 {
			break
		}
		switch {
		case r >= '0' && r <= '9':
			r = '9'
		case r >= 'A' && r <= 'Z':
			r = 'A'
		case r >= 'a' && r <= 'z', r >= utf8.RuneSelf:
			r = 'a'
		case r < 0x20 || r == 0x7f:
			r = ' '
		}
		out.WriteRune(r)
	}
	return out.String()
}

// pointerAt is the JSON Pointer of the value that holds the byte at offset; ""
// when the text is no JSON up to there.
func pointerAt(text []byte, offset int) string {
	d := jsontext.NewDecoder(bytes.NewBuffer(text), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	for {
		if _, err := d.ReadToken(); err != nil {
			return ""
		}
		if d.InputOffset() > int64(offset) {
			return clip(string(d.StackPointer()))
		}
	}
}

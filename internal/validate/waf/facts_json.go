package waf

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

var (
	errJSONSyntax = errors.New("invalid JSON")
	errJSONDepth  = errors.New("nested too deep")
	errJSONRoom   = errors.New("the names of its values are too long in all")
)

// A flattener walks over a JSON text and adds its leaves: {"a":[1,{"b":null}]}
// are json.a.0 = 1, json.a.1.b = "" and json.a = 2, the length of the array.
// Strings are decoded, other leaves stand as written. A lone leaf is json.0, with
// json = 1.
type flattener struct {
	f    *Facts
	src  []byte
	at   int
	room int // bytes that names and texts may still take

	args, lengths int
	stopped       bool // there were enough leaves: what is left is only read
}

// readJSON adds the leaves of a JSON text. Those in front of an error stay.
func (f *Facts) readJSON(src []byte) error {
	w := flattener{f: f, src: src, room: max(8*len(src), 4096)}
	f.read.path = append(f.read.path[:0], "json"...)
	w.space()
	if w.at == len(src) {
		return errJSONSyntax
	}
	var err error
	if c := src[w.at]; c == '{' || c == '[' {
		err = w.value(0)
	} else {
		f.read.path = append(f.read.path, ".0"...)
		err = w.value(0)
		f.read.path = f.read.path[:len("json")]
		if err == nil {
			err = w.length(1)
		}
	}
	if err != nil {
		return err
	}
	if w.space(); w.at < len(src) {
		return errJSONSyntax
	}
	return nil
}

func (w *flattener) space() {
	for w.at < len(w.src) {
		switch w.src[w.at] {
		case ' ', '\t', '\n', '\r':
			w.at++
		default:
			return
		}
	}
}

// next skips space and takes one byte; 0 at the end.
func (w *flattener) next() byte {
	w.space()
	if w.at == len(w.src) {
		return 0
	}
	w.at++
	return w.src[w.at-1]
}

// value reads the value at w.at, whose name is the path, depth containers deep.
func (w *flattener) value(depth int) error {
	w.space()
	if w.at == len(w.src) {
		return errJSONSyntax
	}
	switch c := w.src[w.at]; c {
	case '{', '[':
		if depth == maxDepth {
			return errJSONDepth
		}
		w.at++
		if c == '{' {
			return w.object(depth + 1)
		}
		return w.array(depth + 1)
	}
	return w.leaf()
}

// enough stops adding when there are as many leaves as rules look at.
func (w *flattener) enough() {
	if w.args >= maxArgs {
		w.stopped, w.f.ArgsCut = true, true
	}
}

func (w *flattener) object(depth int) error {
	r := &w.f.read
	parent := len(r.path)
	c := w.next()
	if c == '}' {
		return nil
	}
	for ; ; c = w.next() {
		if c != '"' {
			return errJSONSyntax
		}
		var err error
		if r.path, err = w.text(append(r.path, '.')); err != nil {
			return err
		}
		if w.next() != ':' {
			return errJSONSyntax
		}
		w.enough()
		if err := w.value(depth); err != nil {
			return err
		}
		r.path = r.path[:parent]
		switch w.next() {
		case ',':
		case '}':
			return nil
		default:
			return errJSONSyntax
		}
	}
}

func (w *flattener) array(depth int) error {
	r := &w.f.read
	parent := len(r.path)
	if w.space(); w.at < len(w.src) && w.src[w.at] == ']' {
		w.at++
		return nil
	}
	for n := 0; ; n++ {
		r.path = strconv.AppendInt(append(r.path, '.'), int64(n), 10)
		w.enough()
		if err := w.value(depth); err != nil {
			return err
		}
		r.path = r.path[:parent]
		switch w.next() {
		case ',':
		case ']':
			return w.length(n + 1)
		default:
			return errJSONSyntax
		}
	}
}

// length adds the length of the array that the path names.
func (w *flattener) length(n int) error {
	if w.stopped {
		return nil
	}
	if w.lengths >= maxArgs {
		w.f.ArgsCut = true
		return nil
	}
	w.lengths++
	lo, text := w.begin()
	w.f.read.arena = strconv.AppendInt(w.f.read.arena, int64(n), 10)
	return w.add(lo, text)
}

// begin puts the path into the arena as the name of a value.
func (w *flattener) begin() (lo, text int) {
	lo = w.f.mark()
	w.f.read.arena = append(w.f.read.arena, w.f.read.path...)
	return lo, w.f.mark()
}

// add ends the value that begin began, if there is room for it.
func (w *flattener) add(lo, text int) error {
	if w.room -= w.f.mark() - lo; w.room < 0 {
		w.f.read.arena = w.f.read.arena[:lo]
		return errJSONRoom
	}
	w.f.addSpan(ArgPost, lo, text)
	return nil
}

// leaf reads a string, number, true, false or null. Once there are enough, not
// even the name is written: a long one in front of many leaves would cost its
// length for each.
func (w *flattener) leaf() error {
	lo, text := w.f.mark(), 0
	if !w.stopped {
		lo, text = w.begin()
	}
	arena, err := w.scalar(w.f.read.arena)
	if err != nil || w.stopped {
		w.f.read.arena = arena[:lo]
		return err
	}
	w.f.read.arena = arena
	w.args++
	return w.add(lo, text)
}

// scalar appends the text of the leaf at w.at to b.
func (w *flattener) scalar(b []byte) ([]byte, error) {
	switch c := w.src[w.at]; c {
	case '"':
		w.at++
		return w.text(b)
	case 't':
		return w.word(b, "true", "true")
	case 'f':
		return w.word(b, "false", "false")
	case 'n':
		return w.word(b, "null", "")
	default:
		n := numberLen(w.src[w.at:])
		if n == 0 {
			return b, errJSONSyntax
		}
		w.at += n
		return append(b, w.src[w.at-n:w.at]...), nil
	}
}

func (w *flattener) word(b []byte, word, text string) ([]byte, error) {
	if len(w.src)-w.at < len(word) || string(w.src[w.at:w.at+len(word)]) != word {
		return b, errJSONSyntax
	}
	w.at += len(word)
	return append(b, text...), nil
}

// numberLen returns the length of the JSON number that begins s, 0 for none.
func numberLen(s []byte) int {
	i := 0
	if i < len(s) && s[i] == '-' {
		i++
	}
	switch {
	case i < len(s) && s[i] == '0':
		i++
	case i < len(s) && s[i] >= '1' && s[i] <= '9':
		i += digits(s[i:])
	default:
		return 0
	}
	if i < len(s) && s[i] == '.' {
		n := digits(s[i+1:])
		if n == 0 {
			return 0
		}
		i += 1 + n
	}
	if i < len(s) && s[i]|0x20 == 'e' {
		i++
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		n := digits(s[i:])
		if n == 0 {
			return 0
		}
		i += n
	}
	return i
}

func digits(s []byte) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// text appends the string behind the quote at w.at-1, decoded, to b. Bytes that
// are not UTF-8 stay as they are.
func (w *flattener) text(b []byte) ([]byte, error) {
	for {
		n := plain(w.src[w.at:])
		b = append(b, w.src[w.at:w.at+n]...)
		w.at += n
		if w.at == len(w.src) || w.src[w.at] < ' ' {
			return b, errJSONSyntax
		}
		w.at++
		if w.src[w.at-1] == '"' {
			return b, nil
		}
		if w.at == len(w.src) {
			return b, errJSONSyntax
		}
		c := w.src[w.at]
		w.at++
		switch c {
		case '"', '\\', '/':
			b = append(b, c)
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'u':
			r, ok := w.unit()
			if !ok {
				return b, errJSONSyntax
			}
			b = utf8.AppendRune(b, r)
		default:
			return b, errJSONSyntax
		}
	}
}

// plain returns how many bytes of s stand in front of a quote, backslash or control
// character: eight at a time, as exact as bytes are for the first that is none.
func plain(s []byte) int {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(s); i += 8 {
		x := binary.LittleEndian.Uint64(s[i:])
		quote, slash := x^ones*'"', x^ones*'\\'
		if odd := ((x-ones*' ') & ^x | (quote-ones) & ^quote | (slash-ones) & ^slash) & high; odd != 0 {
			return i + bits.TrailingZeros64(odd)/8
		}
	}
	for i < len(s) && s[i] >= ' ' && s[i] != '"' && s[i] != '\\' {
		i++
	}
	return i
}

// unit reads the four digits of a \u, and the second half of a pair. Half a pair
// is U+FFFD, together with an escape that follows it and is not its other half.
func (w *flattener) unit() (rune, bool) {
	r, ok := w.hex4()
	if !ok || !utf16.IsSurrogate(r) {
		return r, ok
	}
	if w.at+1 >= len(w.src) || w.src[w.at] != '\\' || w.src[w.at+1] != 'u' {
		return utf8.RuneError, true
	}
	w.at += 2
	low, ok := w.hex4()
	return utf16.DecodeRune(r, low), ok
}

func (w *flattener) hex4() (r rune, ok bool) {
	if len(w.src)-w.at < 4 {
		return 0, false
	}
	for _, c := range w.src[w.at : w.at+4] {
		if !isHex(c) {
			return 0, false
		}
		r = r<<4 | rune(hexValue(c))
	}
	w.at += 4
	return r, true
}

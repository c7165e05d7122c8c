package jsonschema

import (
	"bytes"
	"hash/maphash"
	"math"
	"math/bits"
	"strconv"
)

// The kinds of a cell.
const (
	kindNull uint8 = iota
	kindBool
	kindNumber
	kindString
	kindArray
	kindObject
)

// A cell is one value, or one member's name, on the tape. Cells lie in document
// order: an array is followed by its items, an object by name, value, name,
// value. A walk over the tape needs no tree and no pointers.
type cell struct {
	start, end int32 // in run.out; of a string without its quotes
	next       int32 // the cell after this value and all it holds
	n          int32 // items of an array, members of an object; of a member's name its nameKey
	kind       uint8
	flag       uint8
}

const (
	flagEscaped uint8 = 1 << iota // a string whose canonical form holds a backslash
	flagInteger                   // a number without fraction and exponent
	flagTrue                      // the boolean true
	flagASCII                     // a string of one-byte characters only
)

// A run is the scratch of one validation.
type run struct {
	prog  *program
	out   []byte // canonical bytes
	from  int    // where in the message those begin that are canonical as they are, and not yet in out
	cells []cell
	stack []int32 // open containers
	text  []byte  // unescaped strings
	own   []byte  // out of ValidateValue
	table []int32 // of the duplicate and uniqueness checks
	hash  []uint64
	words []uint64 // bit sets: members seen, members evaluated
	scope []*resource

	work    int
	nest    int
	quiet   int
	aborted bool
	faults  []Violation
}

func (r *run) reset() {
	r.cells, r.stack, r.text = r.cells[:0], r.stack[:0], r.text[:0]
	r.words, r.scope, r.faults = r.words[:0], r.scope[:0], nil
	r.nest, r.quiet, r.aborted = 0, 0, false
}

func malformed(keyword, detail string) *Error {
	return &Error{Malformed: true, Violations: []Violation{{Keyword: keyword, Detail: detail}}}
}

func (r *run) malformedAt(i int32, keyword, detail string) *Error {
	// The containers on the way are still open: close them for pointer.
	for _, p := range r.stack {
		r.cells[p].next = int32(len(r.cells))
		r.cells[p].n++
	}
	return &Error{Malformed: true, Violations: []Violation{{Pointer: r.pointer(i), Keyword: keyword, Detail: detail}}}
}

func syntaxAt(pos int, want string) *Error {
	return malformed("syntax", "byte "+strconv.Itoa(pos)+": expected "+want)
}

func skipSpace(src []byte, i int) int {
	for i < len(src) && (src[i] == ' ' || src[i] == '\n' || src[i] == '\t' || src[i] == '\r') {
		i++
	}
	return i
}

// scan reads the whole of src (RFC 8259), writes it canonically and fills the
// tape. It refuses what readers disagree about.
func (r *run) scan(src []byte) *Error {
	if len(r.out)+len(src) > math.MaxInt32/8 {
		return malformed("size", "the message is larger than can be checked")
	}
	lim := &r.prog.limits
	r.from = 0
	i := r.space(src, 0)
	for {
		// A value is expected at src[i].
		if i >= len(src) {
			return syntaxAt(i, "a value")
		}
		if len(r.cells) >= lim.MaxValues {
			return malformed("size", "at most "+strconv.Itoa(lim.MaxValues)+" values are taken")
		}
		var fault *Error
		switch c := src[i]; c {
		case '{', '[':
			if len(r.stack) >= lim.MaxDepth {
				return malformed("depth", "arrays and objects may be nested "+strconv.Itoa(lim.MaxDepth)+" deep")
			}
			kind, closing := kindObject, byte('}')
			if c == '[' {
				kind, closing = kindArray, ']'
			}
			r.open(kind, r.at(i))
			i = r.space(src, i+1)
			if i < len(src) && src[i] == closing {
				i++
				if fault := r.close(src, i); fault != nil {
					return fault
				}
				break
			}
			if c == '{' {
				if i, fault = r.scanName(src, i); fault != nil {
					return fault
				}
			}
			continue
		case '"':
			i, fault = r.scanString(src, i)
		case 't':
			i, fault = r.scanWord(src, i, "true", kindBool, flagTrue)
		case 'f':
			i, fault = r.scanWord(src, i, "false", kindBool, 0)
		case 'n':
			i, fault = r.scanWord(src, i, "null", kindNull, 0)
		default:
			i, fault = r.scanNumber(src, i)
		}
		if fault != nil {
			return fault
		}
		// A value has ended: close what ends with it.
		for {
			i = r.space(src, i)
			if len(r.stack) == 0 {
				if i != len(src) {
					return syntaxAt(i, "nothing after the value")
				}
				r.flush(src, i)
				return nil
			}
			top := r.stack[len(r.stack)-1]
			p := &r.cells[top]
			p.n++
			if i >= len(src) {
				return syntaxAt(i, "the end of an array or object")
			}
			if src[i] == ',' {
				i = r.space(src, i+1)
				if p.kind == kindArray {
					if int(p.n) >= lim.MaxItems {
						r.flush(src, i)
						return r.malformedAt(top, "size", "an array may hold "+strconv.Itoa(lim.MaxItems)+" items")
					}
					break
				}
				if int(p.n) >= lim.MaxMembers {
					r.flush(src, i)
					return r.malformedAt(top, "size", "an object may hold "+strconv.Itoa(lim.MaxMembers)+" members")
				}
				if i, fault = r.scanName(src, i); fault != nil {
					return fault
				}
				break
			}
			if p.kind == kindArray && src[i] != ']' || p.kind == kindObject && src[i] != '}' {
				return syntaxAt(i, "a comma or the end of the array or object")
			}
			i++
			if fault := r.close(src, i); fault != nil {
				return fault
			}
		}
	}
}

// at is the place in out that byte i of the message will have.
func (r *run) at(i int) int { return len(r.out) + i - r.from }

// flush writes what stands before byte i of the message.
func (r *run) flush(src []byte, i int) {
	r.out = append(r.out, src[r.from:i]...)
	r.from = i
}

// space passes over whitespace, which is not written.
func (r *run) space(src []byte, i int) int {
	if i < len(src) && src[i] <= ' ' {
		return r.gap(src, i)
	}
	return i
}

func (r *run) gap(src []byte, i int) int {
	r.flush(src, i)
	r.from = skipSpace(src, i)
	return r.from
}

func (r *run) open(kind uint8, at int) {
	r.stack = append(r.stack, int32(len(r.cells)))
	r.scalar(kind, 0, at, at)
}

// close ends the innermost container, whose bracket stands before src[i].
func (r *run) close(src []byte, i int) *Error {
	top := r.stack[len(r.stack)-1]
	if c := &r.cells[top]; c.kind == kindObject && c.n > 1 {
		r.flush(src, i) // names are read below
	}
	return r.seal(r.at(i))
}

// seal ends the innermost container, at the place end in out.
func (r *run) seal(end int) *Error {
	top := r.stack[len(r.stack)-1]
	c := &r.cells[top]
	c.end, c.next = int32(end), int32(len(r.cells))
	if c.kind == kindObject && c.n > 1 {
		if dup := r.duplicate(top); dup >= 0 {
			return r.malformedAt(dup, "duplicate_key", "a name may appear once in an object")
		}
	}
	r.stack = r.stack[:len(r.stack)-1]
	return nil
}

func (r *run) scanName(src []byte, i int) (int, *Error) {
	if i >= len(src) || src[i] != '"' {
		return i, syntaxAt(i, "a member's name in quotes")
	}
	begin := i + 1
	i, fault := r.scanString(src, i)
	if fault != nil {
		return i, fault
	}
	if r.from <= begin {
		r.cells[len(r.cells)-1].n = int32(nameKey(src[begin : i-1]))
	} else { // it was not canonical
		r.flush(src, i)
		r.named()
	}
	i = r.space(src, i)
	if i >= len(src) || src[i] != ':' {
		return i, syntaxAt(i, "a colon")
	}
	return r.space(src, i+1), nil
}

// named notes that the last cell, which is in out, is a member's name.
func (r *run) named() {
	c := &r.cells[len(r.cells)-1]
	c.n = int32(nameKey(r.out[c.start:c.end]))
}

func (r *run) scanWord(src []byte, i int, word string, kind, flag uint8) (int, *Error) {
	if len(src)-i < len(word) || string(src[i:i+len(word)]) != word {
		return i, syntaxAt(i, "a value")
	}
	start := r.at(i)
	r.scalar(kind, flag, start, start+len(word))
	return i + len(word), nil
}

// scalar adds a cell. It is written field by field: a literal is made elsewhere
// and copied, which costs as much as all the rest.
func (r *run) scalar(kind, flag uint8, start, end int) {
	n := len(r.cells)
	if n == cap(r.cells) {
		r.cells = append(r.cells, cell{})
	}
	r.cells = r.cells[:n+1]
	c := &r.cells[n]
	c.start, c.end, c.next, c.n, c.kind, c.flag = int32(start), int32(end), int32(n)+1, 0, kind, flag
}

// scanNumber reads a number literal and bounds it before anyone computes with
// it: fifteen bytes like 1e1000000 cost big-number code milliseconds, and a
// number no double holds is infinity to one reader and an error to another.
func (r *run) scanNumber(src []byte, i int) (int, *Error) {
	n := numberLength(src[i:])
	if n == 0 {
		return i, syntaxAt(i, "a value")
	}
	lit := src[i : i+n]
	if lim := &r.prog.limits; n < 19 && n <= min(lim.MaxNumberLength, lim.MaxExponent) && plainInteger(lit) && string(lit) != "-0" {
		start := r.at(i) // short and whole: within every bound
		r.scalar(kindNumber, flagInteger, start, start+n)
		return i + n, nil
	}
	d, fault := r.boundNumber(lit)
	if fault != "" {
		return i, malformed("number", "byte "+strconv.Itoa(i)+": "+fault)
	}
	if lit[0] == '-' && d.zero() {
		r.flush(src, i)
		r.from, lit = i+1, lit[1:]
	}
	var flag uint8
	if bytes.IndexByte(lit, '.') < 0 && d.literalExp == 0 && !d.hasExp {
		flag = flagInteger
	}
	end := r.at(i + n)
	r.scalar(kindNumber, flag, end-len(lit), end)
	return i + n, nil
}

func plainInteger(lit []byte) bool {
	for _, c := range lit {
		if c > '9' || c == '.' || c == '+' {
			return false
		}
	}
	return true
}

func (r *run) boundNumber(lit []byte) (decimalParts, string) {
	lim := &r.prog.limits
	if len(lit) > lim.MaxNumberLength {
		return decimalParts{}, "a number may be " + strconv.Itoa(lim.MaxNumberLength) + " characters long"
	}
	d := splitNumber(lit)
	if mag := d.magnitude(); mag > lim.MaxExponent || -mag > lim.MaxExponent || d.literalExp > lim.MaxExponent || -d.literalExp > lim.MaxExponent {
		return d, "a number's exponent may be " + strconv.Itoa(lim.MaxExponent)
	} else if mag >= 308 && lim.MaxExponent <= 308 {
		if _, err := strconv.ParseFloat(string(lit), 64); err != nil {
			return d, "the number is larger than a double holds"
		}
	}
	return d, ""
}

// numberLength returns the length of the number literal (RFC 8259 §6) that b
// begins with, 0 when there is none.
func numberLength(b []byte) int {
	digits := func(i int) int {
		for i < len(b) && b[i]-'0' <= 9 {
			i++
		}
		return i
	}
	i := 0
	if i < len(b) && b[i] == '-' {
		i++
	}
	switch {
	case i >= len(b):
		return 0
	case b[i] == '0':
		i++
	case b[i]-'1' <= 8:
		i = digits(i)
	default:
		return 0
	}
	if i < len(b) && b[i] == '.' {
		end := digits(i + 1)
		if end == i+1 {
			return 0
		}
		i = end
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		end := digits(i)
		if end == i {
			return 0
		}
		i = end
	}
	return i
}

// duplicate returns the cell of a name that object i has twice, or -1. Names
// are compared in canonical form, so "\u0061" is "a".
func (r *run) duplicate(i int32) int32 {
	n := r.cells[i].n
	if n <= 16 {
		var seen uint64 // a 64-bit filter: most objects never compare two names
		at := i + 1
		for range n {
			c := &r.cells[at]
			bit := uint64(1) << (uint32(c.n) * 0x9e3779b1 >> 26)
			if seen&bit != 0 {
				name := r.out[c.start:c.end]
				for prev := i + 1; prev < at; prev = r.cells[prev+1].next {
					if p := &r.cells[prev]; p.n == c.n && bytes.Equal(r.out[p.start:p.end], name) {
						return at
					}
				}
			}
			seen |= bit
			at = r.cells[at+1].next
		}
		return -1
	}
	// The seed is random per process: a caller cannot choose names that collide.
	size := 1 << bits.Len(uint(n)*2)
	table := r.clearTable(size)
	at := i + 1
	for range n {
		c := &r.cells[at]
		name := r.out[c.start:c.end]
		slot := maphash.Bytes(hashSeed, name) & uint64(size-1)
		for table[slot] != 0 {
			if p := &r.cells[table[slot]]; bytes.Equal(r.out[p.start:p.end], name) {
				return at
			}
			slot = (slot + 1) & uint64(size-1)
		}
		table[slot] = at
		at = r.cells[at+1].next
	}
	return -1
}

var hashSeed = maphash.MakeSeed()

func (r *run) clearTable(size int) []int32 {
	if cap(r.table) < size {
		r.table = make([]int32, size)
	}
	r.table = r.table[:size]
	clear(r.table)
	return r.table
}

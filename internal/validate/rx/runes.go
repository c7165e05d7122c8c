package rx

import (
	"regexp/syntax"
	"slices"
	"sort"
	"unicode"
	"unicode/utf8"
)

// Kinds of character, as far as empty-width assertions can tell them apart. The
// kind of what was read last is part of a state.
const (
	atBegin = iota // nothing was read
	atNewline
	atWord
	atOther
	atEnd = atBegin // as what comes next: nothing
)

// flagsBetween holds which assertions are true between two kinds.
var flagsBetween = func() (t [4][4]syntax.EmptyOp) {
	for prev := range t {
		for next := range t[prev] {
			var f syntax.EmptyOp
			if prev == atBegin {
				f |= syntax.EmptyBeginText
			}
			if prev == atBegin || prev == atNewline {
				f |= syntax.EmptyBeginLine
			}
			if next == atEnd {
				f |= syntax.EmptyEndText
			}
			if next == atEnd || next == atNewline {
				f |= syntax.EmptyEndLine
			}
			if (prev == atWord) != (next == atWord) {
				f |= syntax.EmptyWordBoundary
			} else {
				f |= syntax.EmptyNoWordBoundary
			}
			t[prev][next] = f
		}
	}
	return t
}()

// subsets holds, of each set of assertions, all its subsets as bits.
var subsets = func() (t [64]uint64) {
	for c := range t {
		for s := range t {
			if s&^c == 0 {
				t[c] |= 1 << s
			}
		}
	}
	return t
}()

// ranges are pairs lo, hi of characters, ascending.
type ranges []rune

// rangesOf returns the characters an instruction takes.
func rangesOf(in *syntax.Inst) ranges {
	switch in.Op {
	case syntax.InstRuneAny:
		return ranges{0, unicode.MaxRune}
	case syntax.InstRuneAnyNotNL:
		return ranges{0, '\n' - 1, '\n' + 1, unicode.MaxRune}
	default:
	}
	if len(in.Rune) != 1 {
		return ranges(in.Rune)
	}
	orbit := []rune{in.Rune[0]}
	if in.Op == syntax.InstRune && syntax.Flags(in.Arg)&syntax.FoldCase != 0 {
		for r := unicode.SimpleFold(in.Rune[0]); r != in.Rune[0]; r = unicode.SimpleFold(r) {
			orbit = append(orbit, r)
		}
		slices.Sort(orbit)
	}
	out := make(ranges, 0, 2*len(orbit))
	for _, r := range orbit {
		out = append(out, r, r)
	}
	return out
}

func (x ranges) has(r rune) bool {
	for i := 0; i < len(x); i += 2 {
		if r < x[i] {
			return false
		}
		if r <= x[i+1] {
			return true
		}
	}
	return false
}

// classes divide the characters so that no expression of a group can tell two of
// one class apart.
type classes struct {
	n     int
	ascii [256]uint16 // of a byte; from 0x80 on the class of a byte only when binary
	start []rune      // where intervals from 0x80 on begin
	class []uint16    // and their classes
	kind  []uint8     // class → kind
	first []rune      // class → a character of it
}

var (
	wordRanges    = ranges{'0', '9', 'A', 'Z', '_', '_', 'a', 'z'}
	newlineRanges = ranges{'\n', '\n'}
)

// newClasses divides the characters by sets; member says of each set which
// classes it has.
func newClasses(sets []ranges, binary bool) (c *classes, member []Bits) {
	top := rune(unicode.MaxRune)
	if binary {
		top = 0xff
	}
	all := append(slices.Clone(sets), wordRanges, newlineRanges)
	cuts := []rune{0, utf8.RuneSelf}
	for _, s := range all {
		for i := 0; i < len(s); i += 2 {
			cuts = append(cuts, s[i], s[i+1]+1)
		}
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	for cuts[len(cuts)-1] > top {
		cuts = cuts[:len(cuts)-1]
	}
	width := (len(all) + 63) / 64
	marks := make([]uint64, len(cuts)*width) // interval → the sets it is in
	for k, s := range all {
		for i := 0; i < len(s); i += 2 {
			for at := sort.Search(len(cuts), func(j int) bool { return cuts[j] >= s[i] }); at < len(cuts) && cuts[at] <= s[i+1]; at++ {
				marks[at*width+k>>6] |= 1 << (k & 63)
			}
		}
	}
	c = &classes{}
	known := map[string]uint16{}
	key := make([]byte, 0, width*8)
	for i, lo := range cuts {
		key = key[:0]
		for _, w := range marks[i*width : (i+1)*width] {
			for range 8 {
				key = append(key, byte(w))
				w >>= 8
			}
		}
		id, ok := known[string(key)]
		if !ok {
			id = uint16(c.n)
			known[string(key)] = id
			c.n++
			c.first = append(c.first, lo)
			kind := uint8(atOther)
			if wordRanges.has(lo) {
				kind = atWord
			} else if lo == '\n' {
				kind = atNewline
			}
			c.kind = append(c.kind, kind)
		}
		end := top
		if i+1 < len(cuts) {
			end = cuts[i+1] - 1
		}
		for r := lo; r <= end && r <= 0xff; r++ {
			c.ascii[r] = id
		}
		if lo >= utf8.RuneSelf {
			c.start = append(c.start, lo)
			c.class = append(c.class, id)
		}
	}
	c.sort()
	member = make([]Bits, len(sets))
	for k, s := range sets {
		member[k] = NewBits(c.n)
		for id, r := range c.first {
			if s.has(r) {
				member[k].Set(id)
			}
		}
	}
	return c, member
}

// common holds the characters of ordinary text, the most frequent first.
const common = " etaoinshrdlucmfwypvbgkjqxz0123456789.,-_/:@ETAOINSHRDLUCMFWYPVBGKJQXZ\"'()=&;?!+%#*"

// sort numbers the classes by how common their characters are, so that what a
// text needs of a state lies close together.
func (c *classes) sort() {
	number := make([]int, c.n)
	for i := range number {
		number[i] = -1
	}
	n := 0
	give := func(class uint16) {
		if number[class] < 0 {
			number[class] = n
			n++
		}
	}
	for _, b := range []byte(common) {
		give(c.ascii[b])
	}
	for class := range c.n {
		give(uint16(class))
	}
	for i := range c.ascii {
		c.ascii[i] = uint16(number[c.ascii[i]])
	}
	for i := range c.class {
		c.class[i] = uint16(number[c.class[i]])
	}
	kind, first := slices.Clone(c.kind), slices.Clone(c.first)
	for old, now := range number {
		c.kind[now], c.first[now] = kind[old], first[old]
	}
}

// of returns the class of a character from 0x80 on.
func (c *classes) of(r rune) uint16 {
	lo, hi := 0, len(c.start)
	for hi-lo > 1 {
		mid := int(uint(lo+hi) >> 1)
		if c.start[mid] <= r {
			lo = mid
		} else {
			hi = mid
		}
	}
	return c.class[lo]
}

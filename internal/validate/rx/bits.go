package rx

import "math/bits"

// Bits is a set of small numbers: of patterns, by their index in the set.
type Bits []uint64

// NewBits returns an empty set for the numbers 0 to n-1.
func NewBits(n int) Bits { return make(Bits, (n+63)/64) }

// Has reports whether i is in b.
func (b Bits) Has(i int) bool { return b[i>>6]>>(i&63)&1 != 0 }

// Set puts i in b.
func (b Bits) Set(i int) { b[i>>6] |= 1 << (i & 63) }

// Unset takes i out of b.
func (b Bits) Unset(i int) { b[i>>6] &^= 1 << (i & 63) }

// Clear empties b.
func (b Bits) Clear() { clear(b) }

// Any reports whether b holds a number.
func (b Bits) Any() bool {
	for _, w := range b {
		if w != 0 {
			return true
		}
	}
	return false
}

// Count says how many numbers b holds.
func (b Bits) Count() int {
	n := 0
	for _, w := range b {
		n += bits.OnesCount64(w)
	}
	return n
}

// Next returns the smallest number of b that is i or more, -1 when there is none.
//
//	for i := b.Next(0); i >= 0; i = b.Next(i + 1) { ... }
func (b Bits) Next(i int) int {
	k := i >> 6
	if k >= len(b) {
		return -1
	}
	w := b[k] >> (i & 63) << (i & 63)
	for w == 0 {
		if k++; k == len(b) {
			return -1
		}
		w = b[k]
	}
	return k<<6 + bits.TrailingZeros64(w)
}

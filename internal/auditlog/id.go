package auditlog

import (
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"time"
)

// crockford is Crockford's base32: no I, L, O and U, so that an id survives being read aloud.
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

const idLen = 26

// random hands out blocks of the kernel's randomness, for each processor its own,
// because a request needs ten bytes and a call for ten costs as much as for five hundred.
var random = sync.Pool{New: func() any { return &block{used: len(block{}.b)} }}

// A block also holds the memory of its ids: one allocation for 68 of them. Who
// keeps one id keeps the memory of 68.
type block struct {
	used int
	b    [510]byte
	ids  strings.Builder
}

const idsMemory = 68 * idLen // the most that fits what is allocated for it

// NewID gives the id of a decision made at t: 26 characters of Crockford's base32
// like a ULID, 48 bits of Unix milliseconds and 80 bits of randomness. Ids sort by
// time, and knowing some helps nobody to guess another.
func NewID(t time.Time) string {
	r := random.Get().(*block) //nolint:errcheck,forcetypeassert // the pool holds nothing else
	if r.used+10 > len(r.b) {
		_, _ = rand.Read(r.b[:]) // never fails: it ends the process instead
		r.used = 0
	}
	x := r.b[r.used : r.used+10]
	var id [idLen]byte
	ms := uint64(t.UnixMilli())
	for i := 9; i >= 0; i-- {
		id[i] = crockford[ms&31]
		ms >>= 5
	}
	for half := range 2 {
		var v uint64
		for _, c := range x[half*5 : half*5+5] {
			v = v<<8 | uint64(c)
		}
		for i := 7; i >= 0; i-- {
			id[10+half*8+i] = crockford[v&31]
			v >>= 5
		}
	}
	clear(x) // an id handed out is not kept here
	r.used += 10
	if r.ids.Cap()-r.ids.Len() < idLen {
		r.ids.Reset() // those handed out keep what they stand in
		r.ids.Grow(idsMemory)
	}
	_, _ = r.ids.Write(id[:])
	all := r.ids.String()
	random.Put(r)
	return all[len(all)-idLen:]
}

// ParseTime gives the time in an id of [NewID], to the millisecond. Lower case is
// taken; anything else is an error.
func ParseTime(id string) (time.Time, error) {
	if len(id) != idLen {
		return time.Time{}, fmt.Errorf("a decision id has %d characters, not %d", idLen, len(id))
	}
	var ms uint64
	for i := range id {
		v := digit(id[i])
		if v < 0 {
			return time.Time{}, fmt.Errorf("a decision id holds digits and letters except I, L, O and U; character %d is none of these", i+1)
		}
		if i < 10 {
			ms = ms<<5 | uint64(v)
		}
	}
	if ms >= 1<<48 {
		return time.Time{}, fmt.Errorf("a decision id begins with 0 to 7")
	}
	return time.UnixMilli(int64(ms)).UTC(), nil
}

func digit(c byte) int {
	if c >= 'a' && c <= 'z' {
		c -= 'a' - 'A'
	}
	for i := range len(crockford) {
		if crockford[i] == c {
			return i
		}
	}
	return -1
}

package validate

import (
	"hash/maphash"
	"sync/atomic"
)

// leafNames are the names of leaves in arrays, as strings: they come again with
// every message. A name is kept when it comes a second time: what is sent once
// moves nothing out. They take 256 KiB at most.
type leafNames struct {
	seed  maphash.Seed
	seen  [1024]atomic.Uint32 // what came last, by hash
	slots [1024]atomic.Pointer[string]
}

const longestName = 128

// of returns b as a string; ok false: it has no place, make one.
func (n *leafNames) of(b []byte) (name string, ok bool) {
	if len(b) > longestName {
		return "", false
	}
	h := maphash.Bytes(n.seed, b)
	at, tag := h%uint64(len(n.slots)), uint32(h>>32)|1
	if s := n.slots[at].Load(); s != nil && *s == string(b) {
		return *s, true
	}
	if n.seen[at].Load() != tag {
		n.seen[at].Store(tag)
		return "", false
	}
	s := string(b)
	n.slots[at].Store(&s)
	return s, true
}

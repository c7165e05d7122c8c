package ddos

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"
)

const (
	goodSlots = 1 << 16
	goodFor   = 15 * time.Minute
)

// A goodTable remembers from where good requests with valid credentials came. Each
// place has the hash of one source, upper half, and the minute: a newer one takes
// it, which only who has valid credentials can bring about.
type goodTable struct {
	seed  maphash.Seed
	slots [goodSlots]atomic.Uint64
}

func (g *Guard) vouch(a netip.Addr, now time.Time) {
	minute := uint64(now.Unix()/60) & 0xffffffff
	list, n := sources(a)
	for _, of := range list[:n] {
		h := g.census.hash(of)
		want := h&^0xffffffff | minute
		// A word of a busy source is written once a minute.
		if slot := &g.good.slots[h%goodSlots]; slot.Load() != want {
			slot.Store(want)
		}
	}
}

// vouched reports whether a good request came from s of late.
func (g *Guard) vouched(s source, now time.Time) bool {
	h := g.census.hash(s)
	have := g.good.slots[h%goodSlots].Load()
	if have == 0 || (have^h)&^0xffffffff != 0 {
		return false
	}
	return now.Sub(time.Unix(int64(have&0xffffffff)*60, 0)) < goodFor
}

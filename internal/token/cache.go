package token

import (
	"hash/maphash"
	"math/bits"
	"strings"
	"sync/atomic"
	"time"
)

const (
	ways         = 8
	maxCacheLife = 5 * time.Minute
	maxCached    = 4 << 10 // bytes of a token worth remembering
	hashed       = 64      // bytes at a token's end
	defaultSlots = 16 << 10
)

// A slots is a set-associative table of constant size: a key lives in one of
// the eight slots its hash points at. Reads are loads, writes are stores, and
// nothing is locked; two writers may lose one of two entries, which costs a
// cache one miss. The hash is seeded per table, so that nobody can aim at a slot.
type slots[E any] struct {
	seed  maphash.Seed
	mask  uint64
	slots []atomic.Pointer[E]
}

func newSlots[E any](n int) slots[E] {
	if n <= 0 {
		n = defaultSlots
	}
	groups := uint64(1) << bits.Len64(uint64(max(n/ways, 1)-1))
	return slots[E]{seed: maphash.MakeSeed(), mask: groups - 1, slots: make([]atomic.Pointer[E], groups*ways)}
}

func (t *slots[E]) group(hash uint64) []atomic.Pointer[E] {
	at := (hash & t.mask) * ways
	return t.slots[at : at+ways]
}

// put stores e in the slot that replace values least: it is asked for each
// entry there, and an empty slot or the lowest answer loses.
func (t *slots[E]) put(hash uint64, e *E, worth func(*E) int64) {
	group := t.group(hash)
	worst, least := 0, int64(0)
	for i := range group {
		old := group[i].Load()
		if old == nil {
			worst = i
			break
		}
		if w := worth(old); i == 0 || w < least {
			worst, least = i, w
		}
	}
	group[worst].Store(e)
}

// A Cache remembers what verified tokens were turned into, by the exact token.
// Its memory is bounded by its entries: at most 4 KiB of token and a V each. An
// entry dies with the token, after five minutes, or when the key set that
// vouched for it changes or is flushed. Refusals are not cached.
//
// An entry vouches only for the rules of the [Verifier] behind its Put: share a
// Cache among verifiers only if a token accepted by one is acceptable wherever
// the Cache is asked.
type Cache[V any] struct{ t slots[cached[V]] }

type cached[V any] struct {
	hash    uint64
	raw     string
	expires int64 // Unix nanoseconds
	keys    *KeySet
	epoch   uint64
	value   V
}

// NewCache makes a cache of about the given number of entries; 0: 16,384.
func NewCache[V any](entries int) *Cache[V] {
	return &Cache[V]{newSlots[cached[V]](entries)}
}

// Get returns what raw was turned into. The whole token is compared: a
// collision of hashes is a miss, never another caller's principal.
func (c *Cache[V]) Get(raw string) (v V, ok bool) { return c.GetAt(raw, time.Now()) }

// GetAt is [Cache.Get] for who has asked the clock already.
func (c *Cache[V]) GetAt(raw string, now time.Time) (v V, ok bool) {
	hash := c.hash(raw)
	group := c.t.group(hash)
	for i := range group {
		e := group[i].Load()
		if e == nil || e.hash != hash || e.raw != raw {
			continue
		}
		if e.keys.epoch.Load() != e.epoch || now.UnixNano() >= e.expires {
			continue
		}
		return e.value, true
	}
	return v, false
}

// Put remembers v for raw, whose claims [Verifier.Verify] has just returned.
// Claims from elsewhere are not remembered, nor are tokens about to expire.
func (c *Cache[V]) Put(raw string, claims *Claims, v V) {
	if claims == nil || claims.keys == nil || len(raw) > maxCached {
		return
	}
	now := time.Now()
	expires := now.Add(maxCacheLife)
	if claims.Expires.Before(expires) {
		expires = claims.Expires
	}
	if !now.Before(expires) {
		return
	}
	e := &cached[V]{c.hash(raw), strings.Clone(raw), expires.UnixNano(), claims.keys, claims.epoch, v}
	c.t.put(e.hash, e, func(old *cached[V]) int64 {
		if old.raw == raw || old.keys.epoch.Load() != old.epoch {
			return 0
		}
		return old.expires
	})
}

// hash is of a token's end alone: that is its signature, or its tag, or random, so
// that no two tokens of one issuer have it in common, and it takes a fifth of the time.
func (c *Cache[V]) hash(raw string) uint64 {
	return maphash.String(c.t.seed, raw[max(0, len(raw)-hashed):])
}

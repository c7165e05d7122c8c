package ratelimit

import (
	"fmt"
	"hash/maphash"
	"log/slog"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	shards = 256 // a power of two: the low byte of a hash names the shard
	probes = 24  // slots a key may live in
)

// Config sizes a Limiter.
type Config struct {
	// Entries is how many keys are counted at once, 0 for 262,144. One takes 24
	// bytes, and frees its place as soon as its caller has its whole burst back.
	Entries int
	Engine  Engine       // of the fleet; nil, or one that is not remote: this node counts alone
	Nodes   func() int   // how many there are, as is known without the engine; nil: nobody knows
	Quotas  *Quotas      // nil: quotas are refused
	Log     *slog.Logger // nil: none
}

// A Limiter remembers how far ahead of its schedule each key is. It is safe for
// concurrent use and bounded in memory. With an engine or quotas, [Limiter.Run]
// keeps it supplied.
type Limiter struct {
	seed     [2]maphash.Seed
	start    time.Time
	mask     uint64
	overflow atomic.Uint64
	refused  sync.Map // [Refusals] without its number → *atomic.Uint64
	shared   sync.Map // limit id → *atomic.Int64, the schedule its newcomers share while there is no room
	fleet    *leases  // nil: alone
	quotas   *leases
	book     *Quotas // of quotas
	log      *slog.Logger
	shard    [shards]shard
}

// A shard is a part of the table with its own lock, held for one look through a
// key's slots. A lock and not two compare-and-swaps, because a slot's key and
// schedule must change as one, or an evicted key's debt falls on its successor.
type shard struct {
	mu    sync.Mutex
	slots []slot   // made for the first key: who has few callers does not pay for many
	_     [64]byte // its own cache line
}

// A slot with a schedule in the past is free: its key is as good as new.
type slot struct {
	key [2]uint64
	tat int64
}

// New makes an empty Limiter.
func New(cfg Config) (*Limiter, error) {
	if cfg.Entries == 0 {
		cfg.Entries = 1 << 18
	}
	if cfg.Entries < shards*probes || cfg.Entries > 1<<28 {
		return nil, fmt.Errorf("ratelimit: %d entries: expected between %d and %d", cfg.Entries, shards*probes, 1<<28)
	}
	perShard := 1 << bits.Len(uint(cfg.Entries/shards-1))
	l := &Limiter{seed: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, start: time.Now(), mask: uint64(perShard - 1)}
	l.join(&cfg)
	return l, nil
}

// Now returns the time to pass to Take: nanoseconds that never go back, whatever
// happens to the wall clock.
func (l *Limiter) Now() int64 { return int64(time.Since(l.start)) + 1 }

// At is [Limiter.Now] at t, for who has just asked the clock: t is from time.Now.
func (l *Limiter) At(t time.Time) int64 { return max(0, int64(t.Sub(l.start))) + 1 }

// Overflowed counts the calls that found no room for their key and were counted
// against the bucket all newcomers share. It grows under a flood of fresh keys,
// or when Entries is too small. Keys of quotas that found no room for a row of
// their own count, too.
func (l *Limiter) Overflowed() uint64 {
	n := l.overflow.Load()
	if l.book != nil {
		n += l.book.places.shared.Load()
	}
	return n
}

// A Result is the state of one limit for one key after a call. Times are in
// nanoseconds. The zero Result refuses.
type Result struct {
	OK         bool
	Limit      *Limit
	Remaining  int64 // tokens left
	Reset      int64 // until the whole burst is back
	RetryAfter int64 // until it is worth trying again; 0 if OK

	Unavailable bool // refused because it cannot be counted now
}

// Take spends cost tokens, or none if there are not that many. A cost below one
// or above the burst is refused.
func (l *Limiter) Take(limit *Limit, key Key, cost, now int64) Result {
	if limit == nil || limit.interval == 0 {
		return l.takeQuota(limit, &key, cost, now)
	}
	hash, known := l.hash(limit, &key)
	if !known {
		return limit.result(false, limit.tolerance, limit.window)
	}
	if l.fleet != nil {
		return l.fleet.take(limit, &key, hash, period{}, cost, now)
	}
	s := &l.shard[hash[0]%shards]
	s.mu.Lock()
	entry := s.entry(hash, l.mask, now)
	if entry == nil {
		s.mu.Unlock()
		return l.spill(limit, func(tat int64) (int64, Result) { return limit.take(tat, now, cost) })
	}
	next, r := limit.take(entry.tat, now, cost)
	entry.tat = next
	s.mu.Unlock()
	return r
}

// Charge spends cost tokens for work that a request turned out to be, or all
// there are if there are fewer: the caller's next requests pay for it. Of a limit
// of failures more can be owed. A key the full table does not know pays nothing
// more, but for failures, which count for all newcomers together: a full table
// makes nobody free to guess.
func (l *Limiter) Charge(limit *Limit, key Key, cost, now int64) {
	if limit == nil || limit.interval == 0 || cost < 1 {
		l.chargeQuota(limit, &key, cost, now)
		return
	}
	hash, known := l.hash(limit, &key)
	if !known {
		return
	}
	if l.fleet != nil {
		l.fleet.charge(limit, &key, hash, period{}, cost, now)
		return
	}
	s := &l.shard[hash[0]%shards]
	s.mu.Lock()
	entry := s.entry(hash, l.mask, now)
	if entry != nil {
		entry.tat = limit.charge(entry.tat, now, cost)
	}
	s.mu.Unlock()
	if entry == nil && limit.failures {
		l.spill(limit, func(tat int64) (int64, Result) { return limit.charge(tat, now, cost), Result{} })
	}
}

// entry is the key's slot, an own or a freed one; nil when there is no room.
func (s *shard) entry(hash [2]uint64, mask uint64, now int64) *slot {
	if s.slots == nil {
		s.slots = make([]slot, mask+1)
	}
	at, found := s.find(hash, mask)
	entry := &s.slots[at]
	if !found {
		if entry.tat > now {
			return nil
		}
		*entry = slot{key: hash}
	}
	return entry
}

// find returns the key's slot, or the one that has been free for longest.
func (s *shard) find(hash [2]uint64, mask uint64) (at uint64, found bool) {
	start := hash[0] >> 8
	at = start & mask
	oldest := s.slots[at].tat
	for i := range uint64(probes) {
		j := (start + i) & mask
		if s.slots[j].key == hash {
			return j, true
		}
		if s.slots[j].tat < oldest {
			at, oldest = j, s.slots[j].tat
		}
	}
	return at, false
}

// spill counts a key the table has no room for. All such keys share one
// schedule: an attacker who fills the table with fresh keys gains one burst, not
// one for each key, and resets nobody.
func (l *Limiter) spill(limit *Limit, step func(tat int64) (next int64, r Result)) Result {
	l.overflow.Add(1)
	v, ok := l.shared.Load(limit.id)
	if !ok {
		v, _ = l.shared.LoadOrStore(limit.id, new(atomic.Int64))
	}
	shared, ok := v.(*atomic.Int64)
	if !ok {
		return limit.result(false, limit.tolerance, limit.window)
	}
	for {
		tat := shared.Load()
		next, r := step(tat)
		if shared.CompareAndSwap(tat, next) {
			return r
		}
	}
}

// Refusals is how often a limit has refused, or would have.
type Refusals struct {
	Limit  string // its name
	Shadow bool   // and it was let through
	Number uint64
}

// Refused counts that limit refused a request.
func (l *Limiter) Refused(limit *Limit) {
	key := Refusals{Limit: limit.name, Shadow: limit.shadow}
	v, ok := l.refused.Load(key)
	if !ok {
		v, _ = l.refused.LoadOrStore(key, new(atomic.Uint64))
	}
	if n, ok := v.(*atomic.Uint64); ok {
		n.Add(1)
	}
}

// Refusals lists what was counted by [Limiter.Refused], by name.
func (l *Limiter) Refusals() []Refusals {
	var out []Refusals
	l.refused.Range(func(k, v any) bool {
		if r, ok := k.(Refusals); ok {
			if n, ok := v.(*atomic.Uint64); ok {
				r.Number = n.Load()
				out = append(out, r)
			}
		}
		return true
	})
	slices.SortFunc(out, func(a, b Refusals) int { return strings.Compare(a.Limit, b.Limit) })
	return out
}

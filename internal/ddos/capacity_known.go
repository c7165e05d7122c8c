package ddos

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"
)

const (
	knownSets = 4096
	knownWays = 4
	knownFor  = 10 * time.Minute // after its last good answer a principal is known for so long
	knownStep = 30               // seconds: what is remembered is not written more often

	goodSets = 16384 // of a guard: sources of requests with valid credentials
	goodFor  = 15 * time.Minute
)

// Who names a caller: a hash keyed for this process. 0 is nobody in particular.
type Who uint64

// Known remembers which callers were authenticated and got a good answer lately:
// 16,384 of them at most, in 128 KiB, without a lock. A flood of fresh principals
// pushes out those that were silent for longest. Its methods may be called by many
// at once; those of nil know nobody.
type Known struct {
	seed  maphash.Seed
	start time.Time
	keep  time.Duration
	last  atomic.Int64               // second in which anybody was seen
	sets  [][knownWays]atomic.Uint64 // a power of two: the upper half of who, and the second after start
}

// NewKnown makes one that knows nobody.
func NewKnown() *Known { return newKnown(knownSets, knownFor) }

func newKnown(sets int, keep time.Duration) *Known {
	return &Known{seed: maphash.MakeSeed(), start: time.Now(), keep: keep, sets: make([][knownWays]atomic.Uint64, sets)}
}

// Principal names who was authenticated: the issuer's configured name and what it
// calls the caller.
func (k *Known) Principal(issuer, subject string) Who {
	if subject == "" {
		return 0
	}
	a, b := maphash.String(k.seed, issuer), maphash.String(k.seed, subject)
	return Who(a*0x9e3779b97f4a7c15 ^ b | 1)
}

// Address names a caller of whom nothing else is known; of IPv6 the /64, which is
// one caller's.
func (k *Known) Address(a netip.Addr) Who {
	a = a.Unmap()
	b, n := a.As16(), 16
	if a.Is6() {
		n = 8
	}
	return Who(maphash.Bytes(k.seed, b[:n]) | 1)
}

// Saw notes that who, authenticated, got a good answer at now.
func (k *Known) Saw(who Who, now time.Time) {
	if k == nil || who == 0 {
		return
	}
	s := k.second(now)
	if k.last.Load() < s {
		k.last.Store(s)
	}
	set, tag := k.find(who)
	oldest := &set[0]
	for i := range set {
		v := set[i].Load()
		if uint32(v>>32) == tag {
			if int64(uint32(v))+knownStep <= s {
				set[i].Store(uint64(tag)<<32 | uint64(s))
			}
			return
		}
		if uint32(v) < uint32(oldest.Load()) {
			oldest = &set[i]
		}
	}
	oldest.Store(uint64(tag)<<32 | uint64(s))
}

// Is reports whether who got a good answer within the last ten minutes.
func (k *Known) Is(who Who, now time.Time) bool {
	if k == nil || who == 0 {
		return false
	}
	set, tag := k.find(who)
	for i := range set {
		if v := set[i].Load(); uint32(v>>32) == tag {
			return k.second(now)-int64(uint32(v)) <= int64(k.keep/time.Second)
		}
	}
	return false
}

// Any reports whether somebody known was here within the last minute or so: room
// is kept for those who come, not for those who might.
func (k *Known) Any(now time.Time) bool {
	if k == nil {
		return false
	}
	last := k.last.Load()
	return last != 0 && k.second(now)-last <= 2*knownStep
}

func (k *Known) find(who Who) (set *[knownWays]atomic.Uint64, tag uint32) {
	return &k.sets[int(who)&(len(k.sets)-1)], max(1, uint32(who>>32))
}

// second is never 0, which is an empty place.
func (k *Known) second(now time.Time) int64 { return max(0, int64(now.Sub(k.start)/time.Second)) + 1 }

package gateway

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-api/gatehouse"
)

const (
	defaultHeld = 256 << 20
	heldFree    = 4 << 10  // of each body: small ones are not counted
	heldStep    = 16 << 10 // large ones are, in such steps
	heldShare   = 4        // one address may have the fourth part of all
)

// A ledger bounds what bodies that are held to be checked take of memory. Each
// is bounded by itself, but one address can send thousands at once, all but
// their last bytes, and hold gigabytes by sending one more now and then.
type ledger struct {
	total  atomic.Int64
	shares [64]share
}

type share struct {
	mu sync.Mutex
	by map[netip.Addr]int64
}

// take counts n bytes more for a body that has own already. A body alone is
// never refused: how large one may be is the operation's to say.
func (l *ledger) take(who netip.Addr, own, n, limit int64) bool {
	if before := l.total.Add(n) - n; before > own && before+n > limit {
		l.total.Add(-n)
		return false
	}
	who, s := l.share(who)
	s.mu.Lock()
	defer s.mu.Unlock()
	have := s.by[who]
	if have > own && have+n > limit/heldShare {
		l.total.Add(-n)
		return false
	}
	if s.by == nil {
		s.by = map[netip.Addr]int64{}
	}
	s.by[who] = have + n
	return true
}

func (l *ledger) give(who netip.Addr, n int64) {
	if n == 0 {
		return
	}
	l.total.Add(-n)
	who, s := l.share(who)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by[who] -= n; s.by[who] <= 0 {
		delete(s.by, who)
	}
}

// share finds the part of the ledger for who; an IPv6 /64 is one caller's.
func (l *ledger) share(who netip.Addr) (netip.Addr, *share) {
	if who.Is6() {
		if p, err := who.WithZone("").Prefix(64); err == nil {
			who = p.Addr()
		}
	}
	sum := uint32(2166136261)
	for _, b := range who.As16() {
		sum = (sum ^ uint32(b)) * 16777619
	}
	return who, &l.shares[sum%uint32(len(l.shares))]
}

// A hold is what one body has in the ledger.
type hold struct {
	in    *ledger // nil: nothing is counted
	limit int64
	who   netip.Addr
	kept  int64
}

// upTo counts a body of n bytes.
func (h *hold) upTo(n int64) error {
	if h.in == nil || n <= heldFree {
		return nil
	}
	want := (n + heldStep - 1) / heldStep * heldStep
	if want <= h.kept {
		return nil
	}
	if !h.in.take(h.who, h.kept, want-h.kept, h.limit) {
		return &gatehouse.Problem{
			Kind: gatehouse.Overloaded, Reason: "too_many_bodies", Detail: "Too many large bodies are under way.", RetryAfter: time.Second,
			Err: errors.New("bodies held to be checked take all the memory there is for them, or one address's part of it"),
		}
	}
	h.kept = want
	return nil
}

// end gives back what is held. It may be called again, and does not touch h then:
// who sends a stream on may be reading still.
func (h *hold) end() {
	if h.in == nil {
		return
	}
	h.in.give(h.who, h.kept)
	*h = hold{}
}

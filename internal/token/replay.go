package token

import (
	"encoding/binary"
	"errors"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

const (
	defaultReplays = 512 << 10
	replayShards   = 64
	sweepFull      = time.Second
	nonceLife      = 5 * time.Minute
	nonceEvery     = 5 * time.Second // so long one nonce is handed to everybody
	noncePurpose   = "dpop nonce"
)

var errReplay = errors.New("it was used before")

// replays remembers which proofs were used, in bounded memory. When that is full
// it refuses: to forget one instead would let it be used again.
//
// What is kept is a 64-bit hash under a seed of this process. Two of half a
// million proofs fall together once in 10^8 times that many, and the second is
// refused.
type replays struct {
	seed   maphash.Seed
	every  int64 // nanoseconds between two sweeps of a shard
	most   int   // entries of a shard
	shards [replayShards]replayShard
}

type replayShard struct {
	mu    sync.Mutex
	until map[uint64]int64 // when the proof is too old, Unix nanoseconds
	swept int64            // when this was last cleared of what is too old
	gone  int64            // the latest end of a proof that is forgotten
	_     [64]byte         // shards do not share a cache line
}

func newReplays(entries int, every time.Duration) *replays {
	if entries == 0 {
		entries = defaultReplays
	}
	r := &replays{seed: maphash.MakeSeed(), every: int64(every), most: max(entries/replayShards, 1)}
	for i := range r.shards {
		r.shards[i].until = make(map[uint64]int64)
	}
	return r
}

// add remembers the proof jti of the key jkt until it is too old.
func (r *replays) add(jkt, jti string, now, until time.Time) error {
	var h maphash.Hash
	h.SetSeed(r.seed)
	_, _ = h.WriteString(jkt) // of one length, so that jkt and jti cannot shift
	_, _ = h.WriteString(jti)
	id := h.Sum64()
	at, end := now.UnixNano(), until.UnixNano()
	s := &r.shards[id%replayShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	// A clock set back would bring proofs to life that are forgotten already.
	if end <= s.gone {
		return badProof(errors.New("it is older than what is remembered"))
	}
	if old, used := s.until[id]; used && at < old {
		return badProof(errReplay)
	}
	// When full, too, one sweep serves many: a refusal must stay cheap.
	if since := at - s.swept; since < 0 || since >= r.every || len(s.until) >= r.most && since >= int64(sweepFull) {
		for id, end := range s.until {
			if end <= at {
				s.gone = max(s.gone, end)
				delete(s.until, id)
			}
		}
		s.swept = at
	}
	if len(s.until) >= r.most {
		return ErrProofsFull
	}
	s.until[id] = end
	return nil
}

// nonces are times under the sealer's tag: nothing is kept about them.
type nonces struct {
	seal  *Sealer
	fleet bool // other nodes make them too
	start time.Time
	now   atomic.Pointer[nonce]
}

type nonce struct {
	issued int64 // Unix milliseconds
	text   string
}

func newNonces(seal *Sealer, fleet bool) (*nonces, error) {
	n := &nonces{seal: seal, fleet: fleet, start: time.Now()}
	if n.fresh(n.start) == "" {
		return nil, errors.New("nonces cannot be made: a sealer without keys")
	}
	return n, nil
}

// at is now in Unix milliseconds, by the clock that is never set: otherwise no
// nonce would be good while the other stands before the start.
func (n *nonces) at(now time.Time) int64 {
	return n.start.UnixMilli() + now.Sub(n.start).Milliseconds()
}

// fresh returns a nonce issued at most nonceEvery ago.
func (n *nonces) fresh(now time.Time) string {
	at := n.at(now)
	if last := n.now.Load(); last != nil && at >= last.issued && at-last.issued < nonceEvery.Milliseconds() {
		return last.text
	}
	data := binary.BigEndian.AppendUint64(nil, uint64(at))
	tag, err := n.seal.Sign(noncePurpose, data)
	if err != nil {
		return ""
	}
	text := strict64.EncodeToString(append(data, tag...))
	n.now.Store(&nonce{at, text})
	return text
}

// check reports whether text is a nonce of ours and still good. One from before
// the start is not: the memory of the proofs made with it is gone. That of a fleet
// is not, and another node's clock may be ahead.
func (n *nonces) check(text string, now time.Time) bool {
	var buf [64]byte
	if len(text) > strict64.EncodedLen(len(buf)) {
		return false
	}
	b, err := decode64(buf[:0], text)
	if err != nil || len(b) < 8 || n.seal.Verify(noncePurpose, b[:8], b[8:]) != nil {
		return false
	}
	issued := int64(binary.BigEndian.Uint64(b))
	at := n.at(now)
	if n.fleet {
		return issued <= at+ahead.Milliseconds() && at-issued < nonceLife.Milliseconds()
	}
	return issued >= n.start.UnixMilli() && issued <= at && at-issued < nonceLife.Milliseconds()
}

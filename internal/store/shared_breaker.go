package store

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// parts is how many breakers there are: one for each hash tag, because a shard of a
// Cluster may be away alone, and one for what any server may do.
const (
	parts   = 257
	anyPart = parts - 1
)

// failuresUntilAway is how many calls in a row fail before the next are not tried.
const failuresUntilAway = 3

// breakers keep callers from waiting for a part that is away: after some failures
// in a row only one call at a time goes there to see, the others fail at once.
type breakers struct {
	gap  time.Duration // between two that see: the longest they take
	part [parts]breaker
	open atomic.Int32 // parts that are away
	last atomic.Pointer[error]
}

type breaker struct {
	failures atomic.Int32
	probe    atomic.Int64 // when one may go and see, Unix ns; 0: all may
}

// allow returns why a call to the part is not tried.
func (b *breakers) allow(part int) error {
	p := &b.part[part]
	at := p.probe.Load()
	if at == 0 {
		return nil
	}
	if now := time.Now(); now.UnixNano() < at || !p.probe.CompareAndSwap(at, now.Add(b.gap).UnixNano()) {
		return b.err()
	}
	return nil
}

// done takes what came of a call. What its own caller broke off, or had no time for,
// says nothing.
func (b *breakers) done(ctx context.Context, part int, err error) {
	p := &b.part[part]
	switch {
	case err == nil:
		if p.failures.Load() != 0 {
			p.failures.Store(0)
		}
		if p.probe.Load() != 0 && p.probe.Swap(0) != 0 {
			b.open.Add(-1)
		}
	case ctx.Err() != nil && !errors.Is(context.Cause(ctx), ErrAway):
	default:
		b.last.Store(&err)
		if p.failures.Add(1) >= failuresUntilAway && p.probe.CompareAndSwap(0, time.Now().Add(b.gap).UnixNano()) {
			b.open.Add(1)
		}
	}
}

// err is why a part is away, nil when none is.
func (b *breakers) err() error {
	if b.open.Load() <= 0 {
		return nil
	}
	if last := b.last.Load(); last != nil {
		return *last
	}
	return fmt.Errorf("%w: its last call failed", ErrAway)
}

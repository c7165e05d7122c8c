package gateway

import (
	"sync/atomic"
	"time"
)

// A breaker leaves a failing service alone: after limit failures in a row it is
// open, and once every pause lets a single request try (half-open). A success
// closes it. It counts failures to carry a request, not statuses: a caller who
// can provoke a 500 must not be able to take the service from everybody else.
type breaker struct {
	limit int32
	pause time.Duration

	failures  atomic.Int32
	openUntil atomic.Int64 // unix nanoseconds; 0: closed
}

// usable reports whether a request could go now, without taking the probe's turn.
func (b *breaker) usable() bool { return b.wait() == 0 }

// enter reports whether a request may go. Of an open breaker whose pause is over
// one caller gets true, and the pause starts anew, so that a probe that never
// comes back blocks nothing for ever.
func (b *breaker) enter() bool {
	until := b.openUntil.Load()
	if until == 0 {
		return true
	}
	now := time.Now().UnixNano() // which nobody asks for while all is well
	return now >= until && b.openUntil.CompareAndSwap(until, now+int64(b.pause))
}

func (b *breaker) succeed() {
	if b.failures.Load() != 0 {
		b.failures.Store(0)
	}
	if b.openUntil.Load() != 0 {
		b.openUntil.Store(0)
	}
}

func (b *breaker) fail() {
	if b.failures.Add(1) >= b.limit {
		b.failures.Store(b.limit) // one failed probe is enough to stay open
		b.openUntil.Store(time.Now().UnixNano() + int64(b.pause))
	}
}

// wait is how long until the breaker may let somebody try.
func (b *breaker) wait() time.Duration {
	until := b.openUntil.Load()
	if until == 0 {
		return 0
	}
	return max(0, time.Duration(until-time.Now().UnixNano()))
}

// A retryBudget bounds retries to a fifth of the requests, after a first ten: a
// service in trouble must not get more work for it. Each request pays in 1 up to
// full, each retry costs 5.
type retryBudget struct{ coins atomic.Int32 }

const (
	retryCost = 5
	retryFull = 10 * retryCost
)

func (b *retryBudget) pay() {
	for {
		have := b.coins.Load()
		if have >= retryFull || b.coins.CompareAndSwap(have, have+1) {
			return
		}
	}
}

func (b *retryBudget) spend() bool {
	for {
		have := b.coins.Load()
		if have < retryCost {
			return false
		}
		if b.coins.CompareAndSwap(have, have-retryCost) {
			return true
		}
	}
}

package gateway

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// slots bounds the requests at one service. Its fast way is one atomic add; only
// who finds it full takes the lock and waits in a line that is itself bounded.
type slots struct {
	limit int64
	line  int

	busy    atomic.Int64
	waiting atomic.Int64
	mu      sync.Mutex
	queue   []chan struct{} // guarded by mu; closed by who gives its slot away
}

// take gets a slot within wait, or reports false: the line is full, the time is
// over, or ctx is.
func (s *slots) take(ctx context.Context, wait time.Duration) bool {
	if s.tryTake() {
		return true
	}
	turn := make(chan struct{})
	s.mu.Lock()
	if len(s.queue) >= s.line {
		s.mu.Unlock()
		return false
	}
	s.queue = append(s.queue, turn)
	s.waiting.Add(1)
	s.mu.Unlock()
	s.serveLine() // a slot given back before we stood in line

	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-turn:
		return true
	case <-t.C:
	case <-ctx.Done():
	}
	s.mu.Lock()
	for i, q := range s.queue {
		if q == turn {
			s.queue = append(s.queue[:i], s.queue[i+1:]...)
			s.waiting.Add(-1)
			s.mu.Unlock()
			return false
		}
	}
	s.mu.Unlock()
	s.give() // it was given to us in the meantime
	return false
}

func (s *slots) tryTake() bool {
	if s.busy.Add(1) <= s.limit {
		return true
	}
	s.busy.Add(-1)
	// A slot may have been given back while ours was counted in vain.
	if s.waiting.Load() > 0 {
		s.serveLine()
	}
	return false
}

func (s *slots) give() {
	s.busy.Add(-1)
	if s.waiting.Load() > 0 {
		s.serveLine()
	}
}

func (s *slots) serveLine() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) > 0 {
		if s.busy.Add(1) > s.limit {
			s.busy.Add(-1)
			return
		}
		close(s.queue[0])
		s.queue[0] = nil
		s.queue = s.queue[1:]
		s.waiting.Add(-1)
	}
}

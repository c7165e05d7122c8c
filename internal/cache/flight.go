package cache

import (
	"context"
	"time"
)

// maxWaiting bounds those that wait for the answer to somebody else's request, of
// all keys together. The next go to the service by themselves, which has a bound
// of its own.
const maxWaiting = 20000

// A Flight is one request on its way to the service, for all that ask the same
// meanwhile.
type Flight struct {
	done   chan struct{}
	answer *Answer
	left   bool // its leader's caller left: it says nothing about the service
}

// Join gives the flight under way for a key, or begins one, whose leader the caller
// then is: it must [Cache.Land] it, whatever happens.
func (c *Cache) Join(k Key) (f *Flight, leads bool) {
	s := c.at(k.Bytes)
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.flights[string(k.Bytes)]; f != nil {
		return f, false
	}
	f = &Flight{done: make(chan struct{})}
	s.flights[string(k.Bytes)] = f
	return f, true
}

// Land ends a flight; a is what those who wait may have, nil for nothing. left says
// that there is nothing because the leader's caller went away: one of the others
// should lead. An answer from before its group was forgotten is given to nobody
// who may have come after. Landing once more does nothing.
func (c *Cache) Land(k Key, f *Flight, since Mark, a *Answer, left bool) {
	if f == nil {
		return
	}
	s := c.at(k.Bytes)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flights[string(k.Bytes)] != f {
		return
	}
	delete(s.flights, string(k.Bytes))
	if a != nil && !since.holds() {
		a = nil
	}
	f.answer, f.left = a, left
	close(f.done)
}

// Await waits for the flight's end, for at most so long. a is nil when it brought
// nothing for others; again reports that this is because its leader left.
func (c *Cache) Await(ctx context.Context, f *Flight, most time.Duration) (a *Answer, again bool) {
	if c.waiting.Add(1) > maxWaiting {
		c.waiting.Add(-1)
		return nil, false
	}
	defer c.waiting.Add(-1)
	late := time.NewTimer(most)
	defer late.Stop()
	select {
	case <-f.done:
		return f.answer, f.left
	case <-ctx.Done():
	case <-late.C:
	}
	return nil, false
}

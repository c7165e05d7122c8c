package ddos

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// A line is where requests wait for room: one queue for each level, in which each
// caller has its own, so that who asks most is not served most. Its lock is taken by
// those alone who find no room, and by those who leave while others wait.
type line struct {
	mu     sync.Mutex
	levels [levels]queue // guarded by mu, all of them
}

// A queue holds the waiting requests of one level. Served in turn, oldest first; but
// once waiting was in vain, newest first and not for long: served in turn all would
// wait until nobody cares for the answer any more.
type queue struct {
	flows  []*flow // in the order in which they are served
	by     map[Who]*flow
	n      int
	vain   time.Duration // when somebody waited in vain, or nearly
	failed bool          // whether anybody ever has
}

// A flow is what one caller has in a queue, oldest first.
type flow struct {
	who  Who
	wait []*waiter
}

type waiter struct {
	r     Request
	since time.Duration
	done  chan struct{} // closed when room was given, or the place taken away
	taken bool          // the latter
	left  bool          // in no queue any more
}

// looked bounds how many callers are asked in vain when room is given: those who
// hold too much already.
const looked = 64

// wait puts r into the line.
func (c *Capacity) wait(ctx context.Context, r *Request) (Token, error) {
	if err := ctx.Err(); err != nil {
		return Token{}, err
	}
	c.pace.pressed.Store(true)
	now := c.now()
	c.settle(now)
	w := &waiter{r: *r, since: now, done: make(chan struct{})}
	q := &c.line.levels[r.level()]
	c.line.mu.Lock()
	if int(c.queued.Load()) >= c.cfg.Line {
		// Who goes first has what room there is for all; what is left is kept for
		// the likes of r, or was given back while we looked.
		c.serve(now)
		if c.enter(r) {
			c.line.mu.Unlock()
			return c.token(r), nil
		}
		if int(c.queued.Load()) >= c.cfg.Line && !c.makeRoom(r, now) {
			c.line.mu.Unlock()
			return Token{}, c.refuse(r, errFull)
		}
	}
	hasty := q.hasty(now, c.cfg.Wait)
	q.push(w, hasty)
	c.queued.Add(1)
	c.serve(now)
	c.line.mu.Unlock()

	t := time.NewTimer(c.patience(hasty))
	defer t.Stop()
	select {
	case <-w.done:
	case <-t.C:
	case <-ctx.Done():
	}
	c.line.mu.Lock()
	waiting := !w.left
	if waiting {
		q.remove(w)
		c.queued.Add(-1)
	}
	if now := c.now(); ctx.Err() == nil && (waiting || w.taken || now-w.since > c.cfg.Wait*3/4) {
		q.vain, q.failed = now, true
	}
	c.line.mu.Unlock()
	switch {
	case waiting && ctx.Err() != nil:
		return Token{}, ctx.Err()
	case waiting:
		return Token{}, c.refuse(r, errSlow)
	case w.taken:
		return Token{}, c.refuse(r, errLower)
	}
	token := c.token(r)
	if err := ctx.Err(); err != nil { // nobody is there to hear the answer
		token.Release()
		return Token{}, err
	}
	return token, nil
}

// patience is how long a request may wait.
func (c *Capacity) patience(hasty bool) time.Duration {
	if !hasty {
		return c.cfg.Wait
	}
	return min(c.cfg.Wait, max(c.cfg.Wait/4, 2*time.Duration(c.pace.shownFloor.Load())))
}

// hasty reports whether waiting was in vain lately.
func (q *queue) hasty(now, wait time.Duration) bool {
	return q.failed && now-q.vain < wait
}

// next gives what room there is to those who wait.
func (c *Capacity) next() {
	now := c.now()
	c.line.mu.Lock()
	defer c.line.mu.Unlock()
	c.serve(now)
}

// serve gives room to the highest level first.
func (c *Capacity) serve(now time.Duration) {
	for i := levels - 1; i >= 0; i-- {
		q := &c.line.levels[i]
		for q.n > 0 && c.serveOne(q, now) {
		}
	}
}

// serveOne gives room to the first caller of q who may have it, who then is the last.
func (c *Capacity) serveOne(q *queue, now time.Duration) bool {
	hasty := q.hasty(now, c.cfg.Wait)
	for i, f := range q.flows[:min(len(q.flows), looked)] {
		w := f.wait[0]
		if hasty {
			w = f.wait[len(f.wait)-1]
		}
		if !c.enter(&w.r) {
			continue
		}
		q.remove(w)
		c.queued.Add(-1)
		if len(f.wait) > 0 {
			copy(q.flows[i:], q.flows[i+1:])
			q.flows[len(q.flows)-1] = f
		}
		close(w.done)
		return true
	}
	return false
}

// makeRoom takes a place in the full line from a request of a lower level, or from a
// caller who has more of them there than r's; once waiting is in vain from the one
// who has waited longest.
func (c *Capacity) makeRoom(r *Request, now time.Duration) bool {
	mine := r.level()
	for i := range mine + 1 {
		q := &c.line.levels[i]
		if q.n == 0 {
			continue
		}
		most := q.flows[0]
		for _, f := range q.flows[:min(len(q.flows), looked)] {
			if len(f.wait) > len(most.wait) {
				most = f
			}
		}
		if i == mine {
			have := 0
			if f := q.by[r.Who]; f != nil {
				have = len(f.wait)
			}
			switch {
			case len(most.wait) > have+1:
			case q.hasty(now, c.cfg.Wait):
				most = q.flows[len(q.flows)-1]
			default:
				return false
			}
		}
		w := most.wait[0]
		q.remove(w)
		c.queued.Add(-1)
		w.taken = true
		close(w.done)
		return true
	}
	return false
}

// push lines w up; who has no place yet comes last, or first where haste is.
func (q *queue) push(w *waiter, hasty bool) {
	f := q.by[w.r.Who]
	if f == nil {
		f = &flow{who: w.r.Who}
		if q.by == nil {
			q.by = map[Who]*flow{}
		}
		q.by[f.who] = f
		if hasty {
			q.flows = slices.Insert(q.flows, 0, f)
		} else {
			q.flows = append(q.flows, f)
		}
	}
	f.wait = append(f.wait, w)
	q.n++
}

// remove takes w out of the queue.
func (q *queue) remove(w *waiter) {
	f := q.by[w.r.Who]
	at := slices.Index(f.wait, w)
	f.wait = slices.Delete(f.wait, at, at+1)
	w.left = true
	if q.n--; len(f.wait) == 0 {
		delete(q.by, f.who)
		at = slices.Index(q.flows, f)
		q.flows = slices.Delete(q.flows, at, at+1)
	}
}

// later draws a time from a second on.
func later(spread time.Duration) time.Duration {
	return time.Second + time.Duration(rand.Int64N(int64(max(spread, 1)))) //nolint:gosec // it spreads callers, it hides nothing
}

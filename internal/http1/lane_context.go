package http1

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// laneLook is how often a context looks whether the caller is there, at most.
// It does not look before as much has passed: who sends a request and ends
// sending is still owed the answer most handlers have by then.
const laneLook = 50 * time.Millisecond

// A laneContext is the context of a connection's requests, one after the other.
// It has no goroutine: Err looks at the socket when it is asked, and Done makes
// a context that is looked after by a timer, for those who wait.
type laneContext struct {
	conn  *laneConn
	left  atomic.Bool  // the caller has gone
	ended atomic.Bool  // no request is under way
	next  atomic.Int64 // when to look, unix nanoseconds

	mu     sync.Mutex
	inner  context.Context //nolint:containedctx // what Done hands out
	cancel context.CancelFunc
	timer  *time.Timer
}

func (x *laneContext) begin() {
	x.next.Store(time.Now().UnixNano() + int64(laneLook))
	x.ended.Store(false)
}

// over ends the request's context and reports whether it must not be used again.
func (x *laneContext) over() bool {
	x.ended.Store(true)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.inner == nil {
		return false
	}
	x.timer.Stop()
	x.cancel()
	return true
}

// leave says that the caller has gone.
func (x *laneContext) leave() {
	x.left.Store(true)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.inner != nil {
		x.cancel()
	}
}

// Deadline reports none.
func (x *laneContext) Deadline() (time.Time, bool) { return time.Time{}, false }

// Err looks whether the caller is still there.
func (x *laneContext) Err() error {
	if x.ended.Load() || x.left.Load() {
		return context.Canceled
	}
	now := time.Now().UnixNano()
	switch next := x.next.Load(); {
	case now < next || !x.next.CompareAndSwap(next, now+int64(laneLook)):
		return nil
	case x.conn.callerLeft():
		x.leave()
		return context.Canceled
	}
	return nil
}

// Done has the caller watched from now on.
func (x *laneContext) Done() <-chan struct{} {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.inner == nil {
		x.inner, x.cancel = context.WithCancel(context.Background())
		x.timer = time.AfterFunc(tick, x.watch)
		if x.ended.Load() || x.left.Load() {
			x.timer.Stop()
			x.cancel()
		}
	}
	return x.inner.Done()
}

func (x *laneContext) watch() {
	if x.ended.Load() || x.left.Load() {
		return
	}
	if x.conn.callerLeft() {
		x.leave()
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.ended.Load() {
		x.timer.Reset(tick)
	}
}

// Value gives what net/http promises. The rest is asked of the inner context,
// which is how the context package finds out that it may register with that one
// instead of starting a goroutine for each derived context.
func (x *laneContext) Value(key any) any {
	switch key {
	case http.ServerContextKey:
		return x.conn.lane.server
	case http.LocalAddrContextKey:
		return x.conn.local
	}
	x.mu.Lock()
	inner := x.inner
	x.mu.Unlock()
	if inner == nil {
		return nil
	}
	return inner.Value(key)
}

// callerLeft looks at the socket.
func (c *laneConn) callerLeft() bool {
	if c.raw == nil || c.state.Load() != laneBusy {
		return false
	}
	left := false
	err := c.raw.Control(func(fd uintptr) { left = laneLeft(fd, c.tls != nil) })
	return left || err != nil
}

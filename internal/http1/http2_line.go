package http1

import (
	"runtime"
	"sync/atomic"
	"time"
)

// http2Tick is how long those who have their turn may keep everybody else waiting.
const http2Tick = time.Millisecond

// An http2Line is where the requests of one address wait until they are worked on.
//
// An address may have thousands under way over its connections. Were all of them
// worked on at once, somebody else's request would find them between itself and a
// processor each time it has waited for something, which it does several times; and
// a scheduler that never runs out of work asks the network only every 10 ms who else
// is there. So a few of an address's requests have their turn, and the next frame of
// its connections is read when those before it have had theirs.
//
// A turn is for work: who goes on to wait for a body, a service or the peer gives it
// back. Not all that waits says so: where nobody has given one back for http2Tick,
// one more is lent.
type http2Line struct {
	turns   chan struct{} // one for each who has his; those who wait are served in order
	waiting atomic.Int32
	lent    atomic.Int32  // turns there are beyond those in turns
	given   atomic.Uint32 // back
	ticking atomic.Bool
}

func newHTTP2Line() *http2Line {
	return &http2Line{turns: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
}

// take waits for a turn, or until done is closed; then it reports false.
func (l *http2Line) take(done <-chan struct{}) bool {
	select {
	case l.turns <- struct{}{}:
		return true
	default:
	}
	l.waiting.Add(1)
	defer l.waiting.Add(-1)
	if l.ticking.CompareAndSwap(false, true) {
		l.tick(l.given.Load())
	}
	select {
	case l.turns <- struct{}{}:
		return true
	case <-done:
		return false
	}
}

// give returns a turn.
func (l *http2Line) give() {
	l.given.Add(1)
	for n := l.lent.Load(); n > 0; n = l.lent.Load() {
		if l.lent.CompareAndSwap(n, n-1) {
			return
		}
	}
	<-l.turns
}

// tick looks in a while whether the line has moved, as long as there is one.
func (l *http2Line) tick(given uint32) {
	time.AfterFunc(http2Tick, func() {
		if l.waiting.Load() == 0 {
			l.ticking.Store(false)
			if l.waiting.Load() == 0 || !l.ticking.CompareAndSwap(false, true) {
				return
			}
		}
		now := l.given.Load()
		if now == given {
			l.lent.Add(1)
			select {
			case <-l.turns:
			default: // they are all back
				l.lent.Add(-1)
			}
		}
		l.tick(now)
	})
}

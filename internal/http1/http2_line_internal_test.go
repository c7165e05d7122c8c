package http1

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestALineGivesATurnToThoseInFront(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newHTTP2Line()
		turns := cap(l.turns)
		if turns > max(1, runtime.GOMAXPROCS(0)/2) { // else a flood keeps every processor, and nobody asks the network who else is there
			t.Fatalf("%d turns for %d processors", turns, runtime.GOMAXPROCS(0))
		}
		var in atomic.Int32
		leave := make(chan struct{})
		var all sync.WaitGroup
		enter := func(n int) {
			for range n {
				all.Go(func() {
					if l.take(nil) {
						in.Add(1)
						<-leave
						l.give()
					}
				})
			}
			synctest.Wait()
		}
		look := func(when string, want, waiting int) {
			t.Helper()
			if got, w := int(in.Load()), int(l.waiting.Load()); got != want || w != waiting {
				t.Fatalf("%s: %d have had a turn and %d wait, want %d and %d", when, got, w, want, waiting)
			}
		}
		enter(turns)
		look("as many as there are turns", turns, 0)
		enter(10)
		look("ten more", turns, 10)
		gone := make(chan struct{})
		close(gone)
		if l.take(gone) {
			t.Fatal("who has left was given a turn")
		}
		look("and one who leaves", turns, 10)
		leave <- struct{}{}
		synctest.Wait()
		look("one is through", turns+1, 9)
		for i := range 3 { // the others may wait for something they do not tell of
			time.Sleep(2 * http2Tick)
			synctest.Wait()
			if got := int(in.Load()); got < turns+2+i {
				t.Fatalf("the line has not moved: %d have had a turn", got)
			}
		}
		lent := int(l.lent.Load())
		if lent == 0 || len(l.turns) != turns {
			t.Fatalf("%d turns are lent, %d taken", lent, len(l.turns))
		}
		close(leave)
		all.Wait()
		time.Sleep(2 * http2Tick)
		synctest.Wait()
		look("all are through", turns+10, 0)
		if len(l.turns) != 0 || l.lent.Load() != 0 || l.ticking.Load() {
			t.Errorf("left behind: %d turns, %d lent, ticking %v", len(l.turns), l.lent.Load(), l.ticking.Load())
		}
	})
}

// While those in front are quick nobody is let in beside them.
func TestALineThatMovesLendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newHTTP2Line()
		var most, running atomic.Int32
		var all sync.WaitGroup
		for range 500 {
			all.Go(func() {
				l.take(nil)
				if n := running.Add(1); n > most.Load() {
					most.Store(n)
				}
				time.Sleep(http2Tick / 3)
				running.Add(-1)
				l.give()
			})
		}
		all.Wait()
		if n := int(most.Load()); n > cap(l.turns) {
			t.Errorf("%d had a turn at the same time, want %d", n, cap(l.turns))
		}
	})
}

// Turns are lent, given back and given up at once, and none is lost or made.
func TestALineLosesNoTurn(t *testing.T) {
	l := newHTTP2Line()
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			for n := range 200 {
				done := make(chan struct{})
				if n%3 == 0 {
					go close(done)
				}
				if l.take(done) {
					if (i+n)%50 == 0 {
						<-time.After(2 * http2Tick)
					}
					l.give()
				}
			}
		})
	}
	all.Wait()
	for deadline := time.Now().Add(10 * time.Second); l.ticking.Load() && time.Now().Before(deadline); {
		<-time.After(http2Tick)
	}
	if len(l.turns) != 0 || l.lent.Load() != 0 || l.waiting.Load() != 0 || l.ticking.Load() {
		t.Errorf("left behind: %d turns, %d lent, %d waiting, ticking %v", len(l.turns), l.lent.Load(), l.waiting.Load(), l.ticking.Load())
	}
}

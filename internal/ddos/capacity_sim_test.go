package ddos_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/ddos"
)

// A model is a service in a bubble: workers that take requests in turn, each busy
// for as long as work says.
type model struct {
	workers chan struct{}
	work    func(ddos.Request) time.Duration
	down    atomic.Bool // it hangs until the gateway's patience of a second is over
	within  atomic.Int64
	most    atomic.Int64
}

func newModel(workers int, work func(ddos.Request) time.Duration) *model {
	return &model{workers: make(chan struct{}, workers), work: work}
}

func always(d time.Duration) func(ddos.Request) time.Duration {
	return func(ddos.Request) time.Duration { return d }
}

func (m *model) ask(r ddos.Request) ddos.Heard {
	m.most.Store(max(m.most.Load(), m.within.Add(1)))
	defer m.within.Add(-1)
	if m.down.Load() {
		<-time.After(time.Second)
		return ddos.Dropped
	}
	m.workers <- struct{}{}
	<-time.After(m.work(r))
	<-m.workers
	return ddos.Answered
}

// A tally counts what became of one kind of request.
type tally struct {
	sent, good, refused, other atomic.Int64
	slowest                    atomic.Int64
}

func (y *tally) share() float64 { return float64(y.good.Load()) / float64(max(y.sent.Load(), 1)) }

func (y *tally) reset() {
	y.sent.Store(0)
	y.good.Store(0)
	y.refused.Store(0)
	y.other.Store(0)
	y.slowest.Store(0)
}

// A sim is a room, the service behind it, and who calls.
type sim struct {
	t     *testing.T
	room  *ddos.Capacity
	model *model
	wg    sync.WaitGroup
}

func newSim(t *testing.T, m *model, cfg ddos.CapacityConfig) *sim {
	t.Helper()
	if cfg.Late == nil {
		cfg.Late = func() time.Duration { return 0 }
	}
	if cfg.Line == 0 {
		cfg.Line = 1000
	}
	room, err := ddos.NewCapacity(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &sim{t: t, room: room, model: m}
}

func (s *sim) call(ctx context.Context, r ddos.Request, y *tally) {
	y.sent.Add(1)
	begun := time.Now()
	token, err := s.room.Acquire(ctx, r)
	if err != nil {
		if p := gatehouse.AsProblem(err); p.Reason == "overloaded" {
			y.refused.Add(1)
		} else {
			y.other.Add(1)
		}
		return
	}
	asked := time.Now()
	o := s.model.ask(r)
	token.Heard(o, time.Since(asked))
	token.Release()
	if o == ddos.Answered {
		y.good.Add(1)
	} else {
		y.other.Add(1)
	}
	y.slowest.Store(max(y.slowest.Load(), int64(time.Since(begun))))
}

// flow sends rate requests a second for as long as d, whatever becomes of them, and
// waits for their ends only in done.
func (s *sim) flow(rate int, d time.Duration, y *tally, of func(n int) ddos.Request) {
	s.wg.Go(func() {
		every, ctx := time.NewTicker(time.Second/time.Duration(rate)), s.t.Context()
		defer every.Stop()
		for n := range int(float64(rate) * d.Seconds()) {
			<-every.C
			s.wg.Go(func() { s.call(ctx, of(n), y) })
		}
	})
}

// loop has callers who ask again as soon as they have an answer; one refused rests
// for a moment.
func (s *sim) loop(callers int, d time.Duration, y *tally, of func(n int) ddos.Request) {
	end, ctx := time.Now().Add(d), s.t.Context()
	for n := range callers {
		s.wg.Go(func() {
			for time.Now().Before(end) {
				before := y.refused.Load()
				s.call(ctx, of(n), y)
				if y.refused.Load() != before {
					<-time.After(10 * time.Millisecond)
				}
			}
		})
	}
}

func (s *sim) limit() int { return s.room.Status().Limit }

// done waits for all, and holds that nothing was lost.
func (s *sim) done() {
	s.t.Helper()
	s.wg.Wait()
	if st := s.room.Status(); st.InFlight != 0 || st.Waiting != 0 {
		s.t.Errorf("room was lost: %+v", st)
	}
}

func regular(n int) ddos.Request {
	return ddos.Request{Who: ddos.Who(1_000_003 * (n%50 + 1)), Priority: ddos.Default, Claim: ddos.Regular}
}

func stranger(n int) ddos.Request {
	return ddos.Request{Who: ddos.Who(7_919*(n%5000) + 11), Priority: ddos.Default}
}

func inBubble(name string, t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

// TestOverload: a service of 400 requests a second gets ten times as many.
func TestOverload(t *testing.T) {
	inBubble("known callers hardly notice ten times the load from nobodies", t, func(t *testing.T) {
		s := newSim(t, newModel(8, always(20*time.Millisecond)), ddos.CapacityConfig{Known: someKnown()})
		var known, flood tally
		s.flow(150, 20*time.Second, &known, regular)
		<-time.After(2 * time.Second)
		s.flow(4000, 15*time.Second, &flood, stranger)
		<-time.After(10 * time.Second)
		if n := s.limit(); n > 24 {
			t.Errorf("in the flood %d are let to a service of 8 workers", n)
		}
		s.done()
		t.Logf("known %.3f, slowest %v; flood %.3f; %+v", known.share(), time.Duration(known.slowest.Load()), flood.share(), s.room.Status())
		if known.share() < 0.95 {
			t.Errorf("known callers: %.3f answered", known.share())
		}
		if slow := time.Duration(known.slowest.Load()); slow > 500*time.Millisecond {
			t.Errorf("a known caller waited %v", slow)
		}
	})
	inBubble("critical operations go on while all others are flooded, even by known callers", t, func(t *testing.T) {
		s := newSim(t, newModel(8, always(20*time.Millisecond)), ddos.CapacityConfig{Known: someKnown(), Reserve: true})
		var critical, flood, sheddable tally
		s.flow(60, 15*time.Second, &critical, func(n int) ddos.Request {
			return ddos.Request{Who: ddos.Who(n%20 + 1), Priority: ddos.Critical}
		})
		s.flow(3000, 15*time.Second, &flood, regular)
		s.flow(1000, 15*time.Second, &sheddable, func(n int) ddos.Request {
			return ddos.Request{Who: ddos.Who(n%50 + 1), Priority: ddos.Sheddable, Claim: ddos.Regular}
		})
		s.done()
		t.Logf("critical %.3f, flood %.3f, sheddable %.3f; %+v", critical.share(), flood.share(), sheddable.share(), s.room.Status())
		if critical.share() < 0.95 {
			t.Errorf("critical operations: %.3f answered", critical.share())
		}
		if sheddable.share() > 0.02 {
			t.Errorf("what is sheddable was answered while other requests were refused: %.3f", sheddable.share())
		}
	})
	inBubble("a flood of nobodies at a critical operation does not push out known callers elsewhere", t, func(t *testing.T) {
		s := newSim(t, newModel(8, always(20*time.Millisecond)), ddos.CapacityConfig{Known: someKnown(), Reserve: true})
		var known, flood tally
		s.flow(150, 15*time.Second, &known, regular)
		s.flow(4000, 15*time.Second, &flood, func(n int) ddos.Request {
			r := stranger(n)
			r.Priority = ddos.Critical
			return r
		})
		s.done()
		t.Logf("known %.3f, flood %.3f; %+v", known.share(), flood.share(), s.room.Status())
		if known.share() < 0.95 {
			t.Errorf("known callers: %.3f answered", known.share())
		}
	})
	inBubble("the service is kept busy and answers soon, however many want in", t, func(t *testing.T) {
		s := newSim(t, newModel(8, always(20*time.Millisecond)), ddos.CapacityConfig{})
		var flood tally
		s.flow(4000, 15*time.Second, &flood, stranger)
		s.done()
		t.Logf("flood %.3f, slowest %v; %+v", flood.share(), time.Duration(flood.slowest.Load()), s.room.Status())
		if n := flood.good.Load(); n < 15*400*9/10 {
			t.Errorf("%d of 6000 possible answers", n)
		}
	})
	inBubble("who asks a hundred times as often is not served more often", t, func(t *testing.T) {
		s := newSim(t, newModel(8, always(20*time.Millisecond)), ddos.CapacityConfig{})
		var greedy, modest tally
		s.flow(4000, 15*time.Second, &greedy, func(int) ddos.Request { return ddos.Request{Who: 99, Priority: ddos.Default, Claim: ddos.Regular} })
		s.flow(100, 15*time.Second, &modest, regular)
		s.done()
		t.Logf("greedy %.3f, modest %.3f", greedy.share(), modest.share())
		if modest.share() < 0.95 {
			t.Errorf("the others: %.3f answered", modest.share())
		}
	})
}

// someKnown is a table in which somebody is known now.
func someKnown() *ddos.Known {
	k := ddos.NewKnown()
	k.Saw(k.Principal("main", "ann"), time.Now())
	return k
}

// TestIncidents: what services do, and what the limit must not make of it.
func TestIncidents(t *testing.T) {
	inBubble("a service that dies gets its limit back within seconds of coming back", t, func(t *testing.T) {
		s := newSim(t, newModel(100, always(20*time.Millisecond)), ddos.CapacityConfig{})
		var y tally
		s.loop(80, 30*time.Second, &y, regular)
		<-time.After(10 * time.Second)
		before := s.limit()
		s.model.down.Store(true)
		<-time.After(10 * time.Second)
		if n := s.limit(); n > 16 {
			t.Errorf("a dead service has a limit of %d", n)
		}
		s.model.down.Store(false)
		<-time.After(4 * time.Second)
		if n := s.limit(); n < min(before, 64) {
			t.Errorf("4 s after it came back the limit is %d, before it was %d", n, before)
		}
		s.done()
	})
	inBubble("one slow moment does not lower the limit", t, func(t *testing.T) {
		var slow atomic.Bool
		s := newSim(t, newModel(100, func(ddos.Request) time.Duration {
			if slow.Load() {
				return 220 * time.Millisecond
			}
			return 20 * time.Millisecond
		}), ddos.CapacityConfig{})
		var y tally
		s.loop(60, 12*time.Second, &y, regular)
		<-time.After(8 * time.Second)
		before := s.limit()
		slow.Store(true)
		<-time.After(200 * time.Millisecond)
		slow.Store(false)
		for range 20 {
			<-time.After(50 * time.Millisecond)
			if n := s.limit(); n < before {
				t.Errorf("it fell from %d to %d", before, n)
				break
			}
		}
		s.done()
	})
	inBubble("two kinds of answers, a hundred times apart, do not lower it", t, func(t *testing.T) {
		var n atomic.Int64
		s := newSim(t, newModel(1000, func(ddos.Request) time.Duration {
			if n.Add(1)*2654435761%997 < 500 { // as if at random
				return 500 * time.Millisecond
			}
			return 5 * time.Millisecond
		}), ddos.CapacityConfig{})
		var y tally
		s.loop(100, 60*time.Second, &y, regular)
		least := 1000
		<-time.After(15 * time.Second) // at first nobody knows
		y.reset()
		for range 44 {
			<-time.After(time.Second)
			least = min(least, s.limit())
		}
		s.done()
		t.Logf("least %d, %+v", least, s.room.Status())
		if least < 32 || y.share() < 0.98 {
			t.Errorf("the limit fell to %d; %.3f answered", least, y.share())
		}
	})
	inBubble("an overload of ten minutes does not pass for the usual", t, func(t *testing.T) {
		s := newSim(t, newModel(10, always(50*time.Millisecond)), ddos.CapacityConfig{})
		var y tally
		s.loop(4, 10*time.Second, &y, stranger)
		<-time.After(5 * time.Second)
		s.loop(60, 10*time.Minute, &y, stranger)
		for n := range 19 {
			<-time.After(30 * time.Second)
			if st := s.room.Status(); n > 0 && (st.Floor > 60*time.Millisecond || st.Limit > 25) {
				t.Errorf("after %v: %+v", time.Duration(n+1)*30*time.Second, st)
			}
		}
		s.done()
	})
	inBubble("who begins in the middle of a flood finds out what the service can do", t, func(t *testing.T) {
		s := newSim(t, newModel(8, always(50*time.Millisecond)), ddos.CapacityConfig{})
		var y tally
		s.flow(1600, time.Minute, &y, stranger)
		<-time.After(30 * time.Second)
		if st := s.room.Status(); st.Floor > 75*time.Millisecond || st.Limit > 20 {
			t.Errorf("after half a minute: %+v", st)
		}
		s.done()
		if n := y.good.Load(); n < 60*160*9/10 {
			t.Errorf("%d of 9600 possible answers", n)
		}
	})
	inBubble("a service that is slower from now on is learnt", t, func(t *testing.T) {
		var took atomic.Int64
		took.Store(int64(20 * time.Millisecond))
		s := newSim(t, newModel(1000, func(ddos.Request) time.Duration { return time.Duration(took.Load()) }), ddos.CapacityConfig{})
		var y tally
		s.loop(60, 60*time.Second, &y, regular)
		<-time.After(10 * time.Second)
		took.Store(int64(100 * time.Millisecond))
		<-time.After(20 * time.Second)
		if st := s.room.Status(); st.Limit < 60 || st.Floor < 90*time.Millisecond {
			t.Errorf("after 20 s: %+v", st)
		}
		took.Store(int64(20 * time.Millisecond))
		<-time.After(2 * time.Second)
		if st := s.room.Status(); st.Floor > 25*time.Millisecond {
			t.Errorf("and quick again: %+v", st)
		}
		s.done()
	})
	inBubble("who has slow answers made on purpose lowers nobody's limit", t, func(t *testing.T) {
		s := newSim(t, newModel(1000, func(r ddos.Request) time.Duration {
			if r.Who == 4242 {
				return 5 * time.Second
			}
			return 20 * time.Millisecond
		}), ddos.CapacityConfig{})
		var good, evil tally
		s.flow(500, 45*time.Second, &good, regular)
		<-time.After(5 * time.Second)
		s.loop(200, 40*time.Second, &evil, func(int) ddos.Request {
			return ddos.Request{Who: 4242, Priority: ddos.Default, Claim: ddos.Newcomer}
		})
		least := 1000
		for n := range 38 {
			<-time.After(time.Second)
			if n > 5 {
				least = min(least, s.limit())
			}
		}
		s.done()
		t.Logf("least %d, the others %.4f", least, good.share())
		if least < 40 || good.share() < 0.95 {
			t.Errorf("the limit fell to %d; of the others %.3f were answered", least, good.share())
		}
	})
	inBubble("while our own goroutines run late the limit stays", t, func(t *testing.T) {
		var late, took atomic.Int64
		took.Store(int64(20 * time.Millisecond))
		s := newSim(t, newModel(1000, func(ddos.Request) time.Duration { return time.Duration(took.Load()) }), ddos.CapacityConfig{
			Late: func() time.Duration { return time.Duration(late.Load()) },
		})
		var y tally
		s.loop(40, 20*time.Second, &y, regular)
		<-time.After(8 * time.Second)
		before := s.limit()
		took.Store(int64(120 * time.Millisecond)) // as measured
		late.Store(int64(100 * time.Millisecond))
		<-time.After(8 * time.Second)
		if n := s.limit(); n != before {
			t.Errorf("it went from %d to %d", before, n)
		}
		s.done()
	})
	inBubble("a slow service has all it can do and no more", t, func(t *testing.T) {
		s := newSim(t, newModel(200, always(2*time.Second)), ddos.CapacityConfig{Initial: 64})
		var y tally
		s.flow(80, 60*time.Second, &y, regular)
		<-time.After(12 * time.Second) // at first nobody knows
		y.reset()
		s.done()
		t.Logf("%.3f answered; %+v", y.share(), s.room.Status())
		if y.share() < 0.95 {
			t.Errorf("%.3f answered", y.share())
		}
	})
}

package ratelimit_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/ratelimit"
	"github.com/gatehouse-api/gatehouse/internal/store"
)

// A far engine takes its time, as one behind a network does.
type far struct {
	delay time.Duration

	mu     sync.Mutex
	engine ratelimit.Engine
	calls  int
}

// through puts something between the node and its engine.
func (f *far) through(wrap func(ratelimit.Engine) ratelimit.Engine) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.engine = wrap(f.engine)
}

// cord makes what is between the node and its engine a cord, which fails with err.
func (f *far) cord(err error) (k *cord) {
	f.through(func(e ratelimit.Engine) ratelimit.Engine {
		k = &cord{engine: e, fail: err}
		return k
	})
	return k
}

func (f *far) at(calls int) ratelimit.Engine {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls += calls
	return f.engine
}

func (f *far) Take(ctx context.Context, asks []store.Ask, out []store.Grant) ([]store.Grant, error) {
	engine := f.at(1)
	if f.delay > 0 {
		<-time.After(f.delay / 2)
		defer func() { <-time.After(f.delay / 2) }()
	}
	return engine.Take(ctx, asks, out)
}

func (f *far) Count() int   { return f.at(0).Count() }
func (f *far) Remote() bool { return f.at(0).Remote() }

func (f *far) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// A node is one limiter of a fleet, at work until leave.
type node struct {
	*ratelimit.Limiter

	engine *far
	leave  func()
}

func enter(t testing.TB, cfg store.SharedConfig, delay time.Duration) *node {
	t.Helper()
	return enterAs(t, cfg, delay, func(*far, *ratelimit.Config) {})
}

func enterAs(t testing.TB, cfg store.SharedConfig, delay time.Duration, set func(*far, *ratelimit.Config)) *node {
	t.Helper()
	s, err := store.OpenShared(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	engine := &far{engine: s, delay: delay}
	its := ratelimit.Config{Engine: engine}
	set(engine, &its)
	l, err := ratelimit.New(its)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { l.Run(ctx) })
	n := &node{l, engine, sync.OnceFunc(func() {
		cancel()
		done.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})}
	t.Cleanup(n.leave)
	return n
}

func nodes(t testing.TB, n int, memory *store.SharedMemory, delay time.Duration) (out []*node) {
	t.Helper()
	for i := range n {
		out = append(out, enter(t, store.SharedConfig{Memory: memory, Node: fmt.Sprint("node-", i)}, delay))
	}
	<-time.After(2100 * time.Millisecond) // until each has seen the others
	return out
}

// A tally is what was let through, when, and at what cost.
type tally struct {
	mu          sync.Mutex
	passed      []passing
	refused     int
	unavailable int
	slowest     time.Duration
}

// A passing was let through some time between its begin and its end.
type passing struct {
	began, ended time.Time
	cost         int64
}

func (c *tally) note(began time.Time, cost int64, r ratelimit.Result) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slowest = max(c.slowest, now.Sub(began))
	switch {
	case r.OK:
		c.passed = append(c.passed, passing{began, now, cost})
	case r.Unavailable:
		c.unavailable++
	default:
		c.refused++
	}
}

func (c *tally) admitted() (n int64) {
	for _, p := range c.passed {
		n += p.cost
	}
	return n
}

// most is the largest excess in any window, as a part of what the limit allows there.
// Requests are in a window whose begin and end are in it: however late a busy machine
// let them go on, they were let through there.
func (c *tally) most(burst int, perSecond float64) (worst float64) {
	byEnd := slices.SortedFunc(slices.Values(c.passed), func(a, b passing) int { return a.ended.Compare(b.ended) })
	for from := 0; from < len(byEnd); from += max(1, len(byEnd)/500) {
		sum, first := int64(0), byEnd[from].began
		for _, p := range byEnd {
			if p.began.Before(first) {
				continue
			}
			sum += p.cost
			worst = max(worst, float64(sum)/(float64(burst)+perSecond*p.ended.Sub(first).Seconds()))
		}
	}
	return worst
}

// hammer has callers ask for a key on a node, each every pause, for so long.
func (c *tally) hammer(wg *sync.WaitGroup, n *node, lim *ratelimit.Limit, key ratelimit.Key, callers int, pause, long time.Duration, cost int64) {
	end := time.Now().Add(long)
	for range callers {
		wg.Go(func() {
			for time.Now().Before(end) {
				began := time.Now()
				c.note(began, cost, n.Take(lim, key, cost, n.Now()))
				<-time.After(pause)
			}
		})
	}
}

func strict(t testing.TB, rate string, burst int) *ratelimit.Limit {
	t.Helper()
	l, err := ratelimit.Compile(ratelimit.Spec{Name: "test", By: "principal", Rate: rate, Burst: burst, Strict: true})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

var errCut = errors.New("cut")

func TestFourNodesOneLimit(t *testing.T) {
	long := 20 * time.Second
	if raceEnabled {
		long = 4 * time.Second
	}
	for _, c := range []struct {
		name      string
		rate      string
		perSecond float64
		burst     int
		callers   [4]int // on each node
		cost      int64
		strict    bool
		over      float64 // at most
		under     float64 // of all that the limit gives in the time, at least
	}{
		{"all nodes are asked alike", "1000/s", 1000, 1000, [4]int{8, 8, 8, 8}, 1, false, 1.05, 0.9},
		{"a slow limit with a burst", "60/min", 1, 400, [4]int{4, 4, 4, 4}, 1, false, 1.05, 0.9},
		{"a limit too small to be lent", "5/s", 5, 10, [4]int{4, 4, 4, 4}, 1, false, 1.0, 0.9},
		{"one node is hot, the others have a request now and then", "500/s", 500, 500, [4]int{20, 1, 0, 0}, 1, false, 1.05, 0.9},
		{"one node has it all", "2000/s", 2000, 2000, [4]int{40, 0, 0, 0}, 1, false, 1.05, 0.9},
		{"requests that cost more than one", "100/s", 100, 200, [4]int{6, 6, 6, 6}, 7, false, 1.05, 0.85},
		{"strict", "100/s", 100, 100, [4]int{8, 8, 8, 8}, 1, true, 1.0, 0.9},
		{"strict, and more than one each", "100/s", 100, 20, [4]int{4, 4, 4, 4}, 5, true, 1.0, 0.8},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fleet := nodes(t, 4, &store.SharedMemory{}, 0)
				lim := limit(t, "principal", c.rate, c.burst)
				if c.strict {
					lim = strict(t, c.rate, c.burst)
				}
				var all tally
				var wg sync.WaitGroup
				for i, n := range fleet {
					all.hammer(&wg, n, lim, user("u"), c.callers[i], 7*time.Millisecond+time.Duration(i)*time.Microsecond, long, c.cost)
				}
				wg.Wait()
				over, part := all.most(c.burst, c.perSecond), float64(all.admitted())/(float64(c.burst)+c.perSecond*long.Seconds())
				t.Logf("%d let through, %.3f of the limit; worst window %.3f; slowest %v", all.admitted(), part, over, all.slowest)
				if over > c.over+1e-9 {
					t.Errorf("a window has %.3f times what the limit allows", over)
				}
				if part < c.under {
					t.Errorf("only %.3f of the limit was to be had", part)
				}
				if all.unavailable > 0 {
					t.Errorf("%d could not be counted", all.unavailable)
				}
			})
		})
	}
}

// A cord can be cut: calls hang until their time is over, or fail.
type cord struct {
	mu     sync.Mutex
	engine ratelimit.Engine
	hang   bool
	fail   error
}

func (c *cord) set(engine ratelimit.Engine, hang bool, fail error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if engine != nil {
		c.engine = engine
	}
	c.hang, c.fail = hang, fail
}

func (c *cord) state() (ratelimit.Engine, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.engine, c.hang, c.fail
}

func (c *cord) Take(ctx context.Context, asks []store.Ask, out []store.Grant) ([]store.Grant, error) {
	engine, hang, fail := c.state()
	if hang {
		select {
		case <-time.After(250 * time.Millisecond):
			return nil, context.DeadlineExceeded
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if fail != nil {
		return nil, fail
	}
	return engine.Take(ctx, asks, out)
}

func (c *cord) Count() int {
	engine, _, _ := c.state()
	return engine.Count()
}

func (c *cord) Remote() bool { return true }

func TestTheEngineGoesAndComesBack(t *testing.T) {
	for _, c := range []struct {
		name   string
		strict bool
		hang   bool
		empty  bool // it has forgotten everything
		over   float64
	}{
		{"it fails", false, false, false, 1.05},
		{"it hangs", false, true, false, 1.05},
		{"it comes back empty", false, false, true, 1.05},
		{"it fails, and the limit is strict", true, false, false, 1.0},
		{"it comes back empty, and the limit is strict", true, false, true, 1.0},
		{"it hangs, and the limit is strict", true, true, false, 1.0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fleet := nodes(t, 4, &store.SharedMemory{}, time.Millisecond)
				var cords []*cord
				for _, n := range fleet {
					cords = append(cords, n.engine.cord(nil))
				}
				const burst, perSecond = 400, 40
				lim := limit(t, "principal", "40/s", burst)
				if c.strict {
					lim = strict(t, "40/s", burst)
				}
				var all, during tally
				var wg sync.WaitGroup
				for _, n := range fleet {
					all.hammer(&wg, n, lim, user("u"), 4, 5*time.Millisecond, 20*time.Second, 1)
				}
				<-time.After(5 * time.Second)
				for _, k := range cords {
					k.set(nil, c.hang, errCut)
				}
				<-time.After(time.Second)
				for _, n := range fleet {
					if n.SharedErr() == nil {
						t.Error("nobody is told")
					}
					during.hammer(&wg, n, lim, user("u"), 1, 50*time.Millisecond, 3*time.Second, 1)
				}
				<-time.After(4 * time.Second)
				fresh := &store.SharedMemory{}
				for i, k := range cords {
					var engine ratelimit.Engine
					if c.empty {
						s, err := store.OpenShared(t.Context(), store.SharedConfig{Memory: fresh, Node: fmt.Sprint(i)})
						if err != nil {
							t.Fatal(err)
						}
						defer func() { _ = s.Close() }()
						engine = s
					}
					k.set(engine, false, nil)
				}
				wg.Wait()
				for _, n := range fleet {
					if err := n.SharedErr(); err != nil {
						t.Error(err)
					}
				}
				all.passed = append(all.passed, during.passed...)
				over, part := all.most(burst, perSecond), float64(all.admitted())/(burst+perSecond*20)
				t.Logf("%d let through, %.3f of the limit; worst window %.3f; slowest %v; unavailable %d", all.admitted(), part, over, all.slowest, all.unavailable)
				if over > c.over+1e-9 {
					t.Errorf("a window has %.3f times what the limit allows", over)
				}
				if slowest := max(all.slowest, during.slowest); slowest > 600*time.Millisecond {
					t.Errorf("a request waited for %v", slowest)
				}
				if c.strict != (during.unavailable > 0) || c.strict && len(during.passed) > 0 {
					t.Errorf("meanwhile %d were let through and %d told that it cannot be counted", len(during.passed), during.unavailable)
				}
				if !c.strict && part < 0.9 {
					t.Errorf("only %.3f of the limit was to be had", part)
				}
			})
		})
	}
}

package storetest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/store"
)

// RunShared runs the suite of what a fleet shares. Open returns a new handle on
// the engine for a node of that name; it closes what it opens when its test ends.
// The tests of one engine do not meet: they use keys of their own.
func RunShared(t *testing.T, open func(t *testing.T, node string) *store.Shared) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(*testing.T, func(node string) *store.Shared)
	}{
		{"of many who mark at once exactly one is first", testOnceRace},
		{"a mark ends with its time and spaces are apart", testOnceEnds},
		{"a burst, then as fast as tokens come back", testTakeRefill},
		{"a part of what is wanted, or nothing of it", testTakeWhole},
		{"tokens given back are there again, but not those that came back by themselves", testTakeBack},
		{"what was spent without a grant is paid, up to one more burst", testTakeSpent},
		{"asks for many keys are answered in their order", testTakeMany},
		{"four nodes get no more than the limit", testTakeLimit},
		{"a lease has one holder and its fence grows", testLead},
		{"a lease passes on after its end, and who lost it is told", testLeadLost},
		{"a node that closes gives up its leases and is gone from the list", testLeave},
		{"messages reach every node in order", testPublish},
		{"a slow subscriber is told that it missed messages", testSlow},
		{"nodes are listed with what they tell", testNodes},
		{"what makes no sense is refused", testNonsense},
		{"a call of somebody who has left ends", testLeft},
		{"after Close everything is an error or nothing", testSharedClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.test(t, func(node string) *store.Shared { return open(t, node) })
		})
	}
}

var serial atomic.Uint64

// fresh is a key nobody used before.
func fresh() (key [16]byte) {
	binary.LittleEndian.PutUint64(key[:], serial.Add(1))
	binary.LittleEndian.PutUint64(key[8:], uint64(time.Now().UnixNano()))
	return key
}

func freshName() string { return fmt.Sprintf("n%x", fresh()) }

func take(t *testing.T, s *store.Shared, a store.Ask) store.Grant {
	t.Helper()
	out, err := s.Take(t.Context(), []store.Ask{a}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if out[0].Err != nil {
		t.Fatal(out[0].Err)
	}
	return out[0]
}

func testOnceRace(t *testing.T, open func(string) *store.Shared) {
	handles := []*store.Shared{open("a"), open("b"), open("c"), open("d")}
	for round := range 20 {
		key := freshName()
		var firsts atomic.Int64
		var all sync.WaitGroup
		for i := range 32 {
			all.Go(func() {
				first, err := handles[i%len(handles)].Once(t.Context(), "race", key, time.Minute)
				if err != nil {
					t.Error(err)
				}
				if first {
					firsts.Add(1)
				}
			})
		}
		all.Wait()
		if n := firsts.Load(); n != 1 {
			t.Fatalf("round %d: %d were first", round, n)
		}
	}
}

func testOnceEnds(t *testing.T, open func(string) *store.Shared) {
	a, b := open("a"), open("b")
	key := strings.Repeat("k", 100_000) + freshName() + "\x00\n{x}"
	once := func(s *store.Shared, space string, ttl time.Duration) bool {
		t.Helper()
		first, err := s.Once(t.Context(), space, key, ttl)
		if err != nil {
			t.Fatal(err)
		}
		return first
	}
	start := time.Now()
	if !once(a, "one", 150*time.Millisecond) || !once(b, "two", time.Minute) {
		t.Fatal("the first in its space is not first")
	}
	if once(b, "two", time.Minute) {
		t.Error("the second is first")
	}
	Within(t, 2*time.Second, "the mark ends", func() bool { return once(b, "one", time.Minute) })
	if since := time.Since(start); since < 140*time.Millisecond {
		t.Errorf("a mark of 150ms ended after %s", since)
	}
}

func testTakeRefill(t *testing.T, open func(string) *store.Shared) {
	s := open("a")
	ask := store.Ask{Key: fresh(), Interval: 50 * time.Millisecond, Burst: 10, Want: 100}
	start := time.Now()
	g := take(t, s, ask)
	if g.Tokens != 10 || g.Left != 0 || g.Retry <= 40*time.Millisecond || g.Retry > 50*time.Millisecond || g.Reset != 500*time.Millisecond {
		t.Fatalf("%+v", g)
	}
	if g = take(t, s, ask); g.Tokens > int64(time.Since(start)/ask.Interval) {
		t.Fatalf("%+v after the burst", g)
	}
	ask.Want = 1
	got := g.Tokens
	for got < 8 {
		g := take(t, s, ask)
		got += g.Tokens
		if might := int64(time.Since(start) / ask.Interval); got > might {
			t.Fatalf("%d tokens came back in %s", got, time.Since(start))
		}
		if g.Tokens == 0 {
			<-time.After(g.Retry)
			if g = take(t, s, ask); g.Tokens != 1 {
				t.Fatalf("after the wait that was told: %+v", g)
			}
			got++
		}
	}
	ask.Want = 0
	if g := take(t, s, ask); g.Tokens != 0 || g.Reset > 500*time.Millisecond {
		t.Errorf("a look: %+v", g)
	}
	fast := store.Ask{Key: fresh(), Interval: 700, Burst: 3_000_000, Want: 1000}
	if g := take(t, s, fast); g.Tokens != 1000 || g.Left < 2_999_000 || g.Reset != 700*time.Microsecond {
		t.Errorf("tokens of less than a microsecond: %+v", g)
	}
	slow := store.Ask{Key: fresh(), Interval: 45 * 24 * time.Hour, Burst: 1, Want: 1}
	if g := take(t, s, slow); g.Tokens != 1 || g.Reset != slow.Interval {
		t.Errorf("the slowest limit: %+v", g)
	}
	if g := take(t, s, slow); g.Tokens != 0 || g.Retry < slow.Interval-time.Minute || g.Retry > slow.Interval {
		t.Errorf("the slowest limit: %+v", g)
	}
}

func testTakeWhole(t *testing.T, open func(string) *store.Shared) {
	s := open("a")
	ask := store.Ask{Key: fresh(), Interval: time.Minute, Burst: 10, Want: 7, Whole: true}
	if g := take(t, s, ask); g.Tokens != 7 || g.Left != 3 || g.Retry != 0 {
		t.Fatalf("%+v", g)
	}
	if g := take(t, s, ask); g.Tokens != 0 || g.Left != 3 || g.Retry < 3*time.Minute || g.Retry > 4*time.Minute {
		t.Errorf("%+v", g)
	}
	ask.Want = 11
	if g := take(t, s, ask); g.Tokens != 0 || g.Retry != g.Reset {
		t.Errorf("more than a burst: %+v", g)
	}
	ask.Whole = false
	if g := take(t, s, ask); g.Tokens != 3 || g.Left != 0 {
		t.Errorf("%+v", g)
	}
}

func testTakeBack(t *testing.T, open func(string) *store.Shared) {
	s := open("a")
	ask := store.Ask{Key: fresh(), Interval: time.Minute, Burst: 10, Want: 10}
	take(t, s, ask)
	back := ask
	back.Want, back.Back = 0, 4
	if g := take(t, s, back); g.Left != 4 {
		t.Errorf("4 given back: %+v", g)
	}
	back.Back, back.Held = 4, 3*time.Minute
	if g := take(t, s, back); g.Left != 5 {
		t.Errorf("4 given back after 3 intervals: %+v", g)
	}
	back.Back, back.Held = 1<<40, 0
	if g := take(t, s, back); g.Left != 10 || g.Reset != 0 {
		t.Errorf("more given back than there can be: %+v", g)
	}
	if g := take(t, s, ask); g.Tokens != 10 {
		t.Errorf("%+v", g)
	}
}

func testTakeSpent(t *testing.T, open func(string) *store.Shared) {
	s := open("a")
	ask := store.Ask{Key: fresh(), Interval: time.Minute, Burst: 10, Spent: 4}
	if g := take(t, s, ask); g.Left != 6 {
		t.Fatalf("%+v", g)
	}
	ask.Spent = 8
	if g := take(t, s, ask); g.Left != 0 || g.Retry <= 2*time.Minute || g.Retry > 3*time.Minute {
		t.Errorf("a debt of 2: %+v", g)
	}
	ask.Spent = 1 << 60
	if g := take(t, s, ask); g.Left != 0 || g.Reset > 20*time.Minute || g.Reset < 19*time.Minute {
		t.Errorf("a debt of all the world: %+v", g)
	}
}

func testTakeMany(t *testing.T, open func(string) *store.Shared) {
	s := open("a")
	asks := make([]store.Ask, 3000)
	for i := range asks {
		asks[i] = store.Ask{Key: fresh(), Interval: time.Hour, Burst: int64(i%7 + 1), Want: 100}
		asks[i].Key[0], asks[i].Key[15] = byte(i), byte(i) // of every tag
	}
	out, err := s.Take(t.Context(), asks[:1], nil)
	if err != nil || len(out) != 1 {
		t.Fatal(out, err)
	}
	room := make([]store.Grant, 0, len(asks))
	if out, err = s.Take(t.Context(), asks, room); err != nil || len(out) != len(asks) || &out[0] != &room[:1][0] {
		t.Fatal(len(out), err)
	}
	for i, g := range out {
		if want := asks[i].Burst; i > 0 && g.Tokens != want || g.Err != nil {
			t.Fatalf("ask %d: %+v, want %d", i, g, want)
		}
	}
	twice := []store.Ask{{Key: fresh(), Interval: time.Hour, Burst: 5, Want: 3}, {}}
	twice[1] = twice[0]
	if out, err = s.Take(t.Context(), twice, out); err != nil || out[0].Tokens != 3 || out[1].Tokens != 2 {
		t.Errorf("one key twice: %+v %v", out, err)
	}
	if out, err = s.Take(t.Context(), nil, nil); err != nil || len(out) != 0 {
		t.Errorf("no asks: %v %v", out, err)
	}
}

func testTakeLimit(t *testing.T, open func(string) *store.Shared) {
	const burst, interval = 50, 2 * time.Millisecond
	ask := store.Ask{Key: fresh(), Interval: interval, Burst: burst, Want: 3}
	var all sync.WaitGroup
	var got atomic.Int64
	late, start := Late(t), time.Now()
	for _, node := range []string{"a", "b", "c", "d"} {
		s := open(node)
		for i := range 4 {
			all.Go(func() {
				mine := ask
				mine.Whole = i%2 == 0
				for time.Since(start) < 700*time.Millisecond {
					out, err := s.Take(t.Context(), []store.Ask{mine}, nil)
					if err != nil {
						t.Error(err)
						return
					}
					mine.Back = 0
					if out[0].Tokens == 3 && i == 3 { // gives one back now and then, at once
						mine.Back, out[0].Tokens = 1, 2
					}
					got.Add(out[0].Tokens)
				}
			})
		}
	}
	all.Wait()
	might := burst + int64(time.Since(start)/interval)
	unasked := int64(late() / interval) // tokens nobody may have asked for in time
	if n := got.Load(); n > might || n < might*9/10-8-unasked {
		t.Errorf("%d tokens, the limit gives %d", n, might)
	}
}

func lead(t *testing.T, s *store.Shared, lease string, ttl time.Duration) (bool, int64) {
	t.Helper()
	held, fence, err := s.Lead(t.Context(), lease, ttl)
	if err != nil {
		t.Fatal(err)
	}
	return held, fence
}

func testLead(t *testing.T, open func(string) *store.Shared) {
	handles := []*store.Shared{open("a"), open("b"), open("a")} // a name is no holder: two processes may have one
	last := int64(0)
	for round := range 10 {
		name := "race"
		var holders atomic.Int64
		var holder atomic.Pointer[store.Shared]
		var fence atomic.Int64
		var all sync.WaitGroup
		for _, s := range handles {
			all.Go(func() {
				held, f, err := s.Lead(t.Context(), name, time.Minute)
				if err != nil {
					t.Error(err)
				}
				if held {
					holders.Add(1)
					holder.Store(s)
					fence.Store(f)
				}
			})
		}
		all.Wait()
		if n := holders.Load(); n != 1 {
			t.Fatalf("round %d: %d holders", round, n)
		}
		if f := fence.Load(); f <= last {
			t.Fatalf("fence %d after %d", f, last)
		}
		last = fence.Load()
		if held, f := lead(t, holder.Load(), name, time.Minute); !held || f != last {
			t.Fatalf("it does not stay: %t %d, want %d", held, f, last)
		}
		if err := holder.Load().Resign(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
}

func testLeadLost(t *testing.T, open func(string) *store.Shared) {
	a, b, name := open("a"), open("b"), freshName()
	start := time.Now()
	held, first := lead(t, a, name, 200*time.Millisecond)
	if !held {
		t.Fatal("nobody had it")
	}
	var second int64
	Within(t, 2*time.Second, "the next one has it", func() bool {
		held, second = lead(t, b, name, time.Minute)
		return held
	})
	if since := time.Since(start); since < 190*time.Millisecond || second <= first {
		t.Errorf("after %s, fence %d after %d", since, second, first)
	}
	if held, _ := lead(t, a, name, time.Minute); held {
		t.Error("who lost it still has it")
	}
	if err := a.Resign(t.Context(), name); err != nil {
		t.Error(err)
	}
	if held, f := lead(t, b, name, 50*time.Millisecond); !held || f != second {
		t.Errorf("another one's resignation took it: %t %d", held, f)
	}
	<-time.After(100 * time.Millisecond)
	if held, f := lead(t, b, name, time.Minute); !held || f <= second {
		t.Errorf("who lost it and got it again: %t, fence %d after %d", held, f, second)
	}
}

func testLeave(t *testing.T, open func(string) *store.Shared) {
	a, b, name := open("goes-a"), open("goes-b"), freshName()
	if held, _ := lead(t, a, name, time.Hour); !held {
		t.Fatal("nobody had it")
	}
	listed := func() bool {
		nodes, err := b.Nodes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(nodes, func(n store.Node) bool { return n.Name == "goes-a" })
	}
	Within(t, 3*time.Second, "it is listed", listed)
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if listed() {
		t.Error("who has left is listed")
	}
	if held, _ := lead(t, b, name, time.Minute); !held {
		t.Error("its lease is still held")
	}
}

func testPublish(t *testing.T, open func(string) *store.Shared) {
	a, b, topic := open("a"), open("b"), freshName()
	ctx, cancel := context.WithCancel(t.Context())
	got := [2]chan string{make(chan string, 1000), make(chan string, 1000)}
	for i, s := range []*store.Shared{a, b} {
		s.Subscribe(ctx, topic, func(m []byte) { got[i] <- string(m) })
	}
	for i := range got { // the start of a subscription
		select {
		case m := <-got[i]:
			if m != "" {
				t.Fatalf("first came %q", m)
			}
		case <-time.After(time.Minute):
			t.Fatal("the subscription does not begin")
		}
	}
	for i := range 100 {
		if err := a.Publish(t.Context(), topic, fmt.Appendf(nil, "%d\x00\r\n", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Publish(t.Context(), freshName(), []byte("elsewhere")); err != nil {
		t.Fatal(err)
	}
	for i := range got {
		for n := range 100 {
			select {
			case m := <-got[i]:
				if want := fmt.Sprintf("%d\x00\r\n", n); m != want {
					t.Fatalf("node %d got %q, want %q", i, m, want)
				}
			case <-time.After(time.Minute):
				t.Fatalf("node %d did not get message %d", i, n)
			}
		}
	}
	cancel()
	<-time.After(50 * time.Millisecond)
	if err := a.Publish(t.Context(), topic, []byte("late")); err != nil {
		t.Fatal(err)
	}
	select {
	case m := <-got[0]:
		t.Errorf("%q after the end", m)
	case <-time.After(50 * time.Millisecond):
	}
}

func testSlow(t *testing.T, open func(string) *store.Shared) {
	a, topic := open("a"), freshName()
	begun, on, again := make(chan bool, 1), make(chan bool), make(chan bool, 1)
	var nils, messages int
	a.Subscribe(t.Context(), topic, func(m []byte) {
		switch {
		case m != nil:
			messages++
			return
		case nils == 0:
			begun <- true
			<-on
		case nils == 1:
			again <- true
		}
		nils++
	})
	<-begun
	for range 2000 {
		if err := a.Publish(t.Context(), topic, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	<-time.After(100 * time.Millisecond)
	close(on)
	select {
	case <-again:
	case <-time.After(time.Minute):
		t.Error("it was not told")
	}
}

func testNodes(t *testing.T, open func(string) *store.Shared) {
	a, b := open("list-a"), open("list-b")
	if err := a.Tell(map[string]string{"digest": "d1"}); err != nil {
		t.Fatal(err)
	}
	if err := a.Tell(map[string]string{"digest": strings.Repeat("x", 70_000)}); err == nil {
		t.Error("facts without end were taken")
	}
	var nodes []store.Node
	Within(t, 3*time.Second, "both are listed", func() bool {
		all, err := b.Nodes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		nodes = slices.DeleteFunc(all, func(n store.Node) bool { return !strings.HasPrefix(n.Name, "list-") })
		return len(nodes) == 2 && nodes[0].Facts["digest"] == "d1"
	})
	for i, n := range nodes {
		if n.Self != (i == 1) || n.ID == "" || n.Seen.Before(n.Started) || time.Since(n.Started).Abs() > time.Minute {
			t.Errorf("%+v", n)
		}
	}
	if b.Count() < 2 || !b.Remote() || b.Err() != nil {
		t.Error(b.Count(), b.Remote(), b.Err())
	}
	Within(t, 3*time.Second, "the other one counts, too", func() bool { return a.Count() >= 2 })
}

func testNonsense(t *testing.T, open func(string) *store.Shared) {
	s, ctx := open("a"), t.Context()
	for _, bad := range []store.Ask{
		{},
		{Interval: time.Second, Want: 1},
		{Interval: -1, Burst: 1},
		{Interval: time.Second, Burst: 1, Want: -1},
		{Interval: time.Second, Burst: 1, Back: -1},
		{Interval: time.Second, Burst: 1, Spent: -1},
		{Interval: time.Second, Burst: 1, Back: 1, Held: -1},
		{Interval: time.Second, Burst: 1 << 62},
		{Interval: 46 * 24 * time.Hour, Burst: 1},
	} {
		if out, err := s.Take(ctx, []store.Ask{bad}, nil); err == nil || out != nil {
			t.Errorf("%+v was taken", bad)
		}
	}
	_, e1 := s.Once(ctx, "Space", "k", time.Second)
	_, e2 := s.Once(ctx, "space", "k", 0)
	_, _, e3 := s.Lead(ctx, "a b", time.Second)
	_, _, e4 := s.Lead(ctx, "a", 0)
	e5 := s.Publish(ctx, "", []byte("x"))
	e6 := s.Publish(ctx, "topic", nil)
	e7 := s.Publish(ctx, "topic", make([]byte, 1<<20))
	e8 := s.Resign(ctx, strings.Repeat("x", 129))
	for i, err := range []error{e1, e2, e3, e4, e5, e6, e7, e8} {
		if err == nil {
			t.Errorf("call %d was taken", i+1)
		}
	}
}

func testLeft(t *testing.T, open func(string) *store.Shared) {
	s := open("a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if first, err := s.Once(ctx, "left", freshName(), time.Second); !errors.Is(err, context.Canceled) || first {
		t.Errorf("Once: %v", err)
	}
	if _, err := s.Take(ctx, []store.Ask{{Key: fresh(), Interval: 1, Burst: 1}}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Take: %v", err)
	}
	if s.Err() != nil {
		t.Errorf("the engine is blamed for it: %v", s.Err())
	}
}

func testSharedClosed(t *testing.T, open func(string) *store.Shared) {
	s := open("a")
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	_, e1 := s.Once(ctx, "space", "k", time.Second)
	_, e2 := s.Take(ctx, []store.Ask{{Interval: 1, Burst: 1, Want: 1}}, nil)
	_, _, e3 := s.Lead(ctx, "a", time.Second)
	e4 := s.Publish(ctx, "topic", []byte("x"))
	_, e5 := s.Nodes(ctx)
	e6 := s.Resign(ctx, "a")
	for i, err := range []error{e1, e2, e3, e4, e5, e6} {
		if err == nil {
			t.Errorf("call %d worked", i+1)
		}
	}
	s.Subscribe(ctx, "topic", func([]byte) { t.Error("a message") })
	if s.Count() < 1 {
		t.Error("nobody is here")
	}
}

package ratelimit_test

import (
	"fmt"
	"net/netip"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/ratelimit"
	"github.com/gatehouse-api/gatehouse/internal/store"
)

func TestLeases(t *testing.T) {
	inBubble := func(name string, f func(t *testing.T)) {
		t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
	}
	const rtt = 2 * time.Millisecond

	inBubble("what is hoarded in a calm is not on top of the burst", func(t *testing.T) {
		fleet := nodes(t, 4, &store.SharedMemory{}, rtt)
		lim := limit(t, "principal", "20/s", 2000)
		var calm, all tally
		var wg sync.WaitGroup
		for _, n := range fleet { // all nodes want large leases
			calm.hammer(&wg, n, lim, user("u"), 4, 5*time.Millisecond, 300*time.Millisecond, 1)
		}
		wg.Wait()
		for range 200 { // the bucket fills, and the leases are kept alive
			for _, n := range fleet {
				n.Take(lim, user("u"), 1, n.Now())
			}
			<-time.After(400 * time.Millisecond)
		}
		for _, n := range fleet {
			all.hammer(&wg, n, lim, user("u"), 20, time.Millisecond, 2*time.Second, 1)
		}
		wg.Wait()
		if over := all.most(2000, 20); over > 1.05 || over < 0.9 {
			t.Errorf("%.3f of the limit in a window", over)
		}
	})

	inBubble("a refusal costs no call", func(t *testing.T) {
		n := nodes(t, 2, &store.SharedMemory{}, rtt)[0]
		lim := limit(t, "principal", "2/h", 2)
		for range 2 {
			if r := n.Take(lim, user("u"), 1, n.Now()); !r.OK {
				t.Fatalf("%+v", r)
			}
		}
		n.Take(lim, user("u"), 1, n.Now())
		before := n.engine.count()
		for range 1000 {
			if r := n.Take(lim, user("u"), 1, n.Now()); r.OK || r.RetryAfter < int64(29*time.Minute) || r.Remaining != 0 {
				t.Fatalf("%+v", r)
			}
		}
		if calls := n.engine.count() - before; calls > 0 {
			t.Errorf("%d calls for 1000 refusals", calls)
		}
	})

	inBubble("a key never seen is let through at once where the limit is large, and waits where it is small", func(t *testing.T) {
		n := nodes(t, 4, &store.SharedMemory{}, rtt)[0]
		large, small := limit(t, "principal", "1000/s", 1000), limit(t, "principal", "10/s", 10)
		began := time.Now()
		if r := n.Take(large, user("a"), 1, n.Now()); !r.OK || time.Since(began) > 0 {
			t.Errorf("large: %+v after %v", r, time.Since(began))
		}
		if r := n.Take(small, user("b"), 1, n.Now()); !r.OK || time.Since(began) < rtt {
			t.Errorf("small: %+v after %v", r, time.Since(began))
		}
	})

	inBubble("nodes that start together, and do not know each other yet, lend nothing", func(t *testing.T) {
		memory := &store.SharedMemory{}
		lim := limit(t, "principal", "1/h", 1000)
		var all tally
		var wg sync.WaitGroup
		for i := range 4 {
			n := enter(t, store.SharedConfig{Memory: memory, Node: fmt.Sprint(i)}, rtt)
			all.hammer(&wg, n, lim, user("u"), 8, time.Millisecond, time.Second, 1)
		}
		wg.Wait()
		if got := len(all.passed); got != 1000 {
			t.Errorf("%d of 1000", got)
		}
	})

	inBubble("requests that wait go in one call", func(t *testing.T) {
		n := nodes(t, 4, &store.SharedMemory{}, 20*time.Millisecond)[0]
		lim := limit(t, "principal", "10/s", 10)
		before := n.engine.count()
		var wg sync.WaitGroup
		var all tally
		for i := range 1000 {
			wg.Go(func() {
				began := time.Now()
				all.note(began, 1, n.Take(lim, user(fmt.Sprint(i%100)), 1, n.Now()))
			})
		}
		wg.Wait()
		if calls := n.engine.count() - before; len(all.passed) != 1000 || calls > 6 {
			t.Errorf("%d let through in %d calls", len(all.passed), calls)
		}
	})

	inBubble("a lease nobody uses is given back", func(t *testing.T) {
		fleet := nodes(t, 2, &store.SharedMemory{}, rtt)
		lim := limit(t, "principal", "100/h", 100)
		for range 3 {
			if r := fleet[0].Take(lim, user("u"), 1, fleet[0].Now()); !r.OK {
				t.Fatalf("%+v", r)
			}
		}
		<-time.After(3 * time.Second)
		got := 0
		for fleet[1].Take(lim, user("u"), 1, fleet[1].Now()).OK {
			got++
		}
		if got < 96 || got > 97 { // of the one given back, what came back by itself meanwhile is taken off
			t.Errorf("%d of the 97 that are left were to be had elsewhere", got)
		}
	})

	inBubble("a node that leaves gives back, one that is killed takes no more than its lease along", func(t *testing.T) {
		memory := &store.SharedMemory{}
		fleet := nodes(t, 3, memory, 0)
		lim := limit(t, "principal", "600/h", 600)
		for _, n := range fleet[:2] {
			for range 40 {
				if r := n.Take(lim, user("u"), 1, n.Now()); !r.OK {
					t.Fatalf("%+v", r)
				}
			}
		}
		fleet[0].leave()
		fleet[1].engine.cord(errCut) // killed: nothing of it is heard any more
		got := 0
		for r := (ratelimit.Result{OK: true}); r.OK; got++ {
			r = fleet[2].Take(lim, user("u"), 1, fleet[2].Now())
		}
		if got--; got > 520 || got < 505 {
			t.Errorf("%d of 520 were to be had", got)
		}
	})

	inBubble("nodes come and go while all are asked", func(t *testing.T) {
		memory := &store.SharedMemory{}
		lim := limit(t, "principal", "200/s", 400)
		var all tally
		var wg sync.WaitGroup
		fleet := nodes(t, 2, memory, rtt)
		for _, n := range fleet {
			all.hammer(&wg, n, lim, user("u"), 6, 5*time.Millisecond, 12*time.Second, 1)
		}
		for i := range 4 {
			<-time.After(time.Second)
			n := enter(t, store.SharedConfig{Memory: memory, Node: fmt.Sprint("late-", i)}, rtt)
			all.hammer(&wg, n, lim, user("u"), 6, 5*time.Millisecond, time.Duration(3+i)*time.Second, 1)
			wg.Go(func() {
				<-time.After(time.Duration(3+i) * time.Second)
				n.leave()
			})
		}
		wg.Wait()
		over, part := all.most(400, 200), float64(all.admitted())/(400+200*12)
		if over > 1.05 || part < 0.9 {
			t.Errorf("%.3f in a window, %.3f in all", over, part)
		}
	})

	inBubble("many keys are each counted for themselves", func(t *testing.T) {
		fleet := nodes(t, 4, &store.SharedMemory{}, rtt)
		lim := limit(t, "principal", "1/h", 5)
		got := make([]tally, 500)
		var wg sync.WaitGroup
		for _, n := range fleet {
			for k := range got {
				wg.Go(func() {
					for range 4 {
						got[k].note(time.Now(), 1, n.Take(lim, user(fmt.Sprint(k)), 1, n.Now()))
					}
				})
			}
		}
		wg.Wait()
		for k := range got {
			if len(got[k].passed) != 5 {
				t.Errorf("key %d: %d let through", k, len(got[k].passed))
			}
		}
	})

	inBubble("what a request turned out to cost is paid for on every node", func(t *testing.T) {
		fleet := nodes(t, 2, &store.SharedMemory{}, rtt)
		lim := limit(t, "principal", "1/h", 1000)
		fleet[0].Take(lim, user("u"), 1, fleet[0].Now())
		fleet[0].Charge(lim, user("u"), 989, fleet[0].Now())
		<-time.After(200 * time.Millisecond)
		got := 0
		for got < 100 && fleet[1].Take(lim, user("u"), 1, fleet[1].Now()).OK {
			got++
		}
		if got > 12 || got < 4 {
			t.Errorf("%d more, 10 are left", got)
		}
	})

	inBubble("failures on one node are known on the others", func(t *testing.T) {
		fleet := nodes(t, 3, &store.SharedMemory{}, rtt)
		lim, err := ratelimit.Compile(ratelimit.Spec{Name: "guess", By: "principal", Rate: "6/h", Failures: true})
		if err != nil {
			t.Fatal(err)
		}
		guesses := 0
		for i := range 60 { // one after the other, each on another node
			n := fleet[i%3]
			if n.Take(lim, user("u"), 1, n.Now()).OK {
				guesses++
				n.Charge(lim, user("u"), 1, n.Now())
			}
			<-time.After(100 * time.Millisecond)
		}
		if guesses < 6 || guesses > 9 {
			t.Errorf("%d guesses, 6 are allowed", guesses)
		}
		if !fleet[1].Take(lim, user("v"), 1, fleet[1].Now()).OK {
			t.Error("another is refused")
		}
	})

	inBubble("while the engine is away each node gives its part, and one request at least", func(t *testing.T) {
		memory := &store.SharedMemory{}
		fleet := nodes(t, 4, memory, 0)
		memory.Break(errCut)
		<-time.After(time.Second)
		for _, c := range []struct{ burst, each int }{{100, 25}, {10, 2}, {2, 1}, {1, 1}} {
			lim, err := ratelimit.NewLimit(fmt.Sprint("b", c.burst), "principal", "1/h", c.burst)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range fleet {
				n.Take(lim, user("w"), 1, n.Now()) // learns that the engine is away
				got := 0
				for n.Take(lim, user("u"), 1, n.Now()).OK {
					got++
				}
				if got != c.each {
					t.Errorf("a burst of %d: %d on one of 4 nodes", c.burst, got)
				}
			}
		}
	})

	inBubble("an engine that comes back empty is told what every node knows", func(t *testing.T) {
		fleet := nodes(t, 2, &store.SharedMemory{}, 0)
		lim := limit(t, "principal", "1/h", 5)
		sharp, err := ratelimit.Compile(ratelimit.Spec{Name: "sharp", By: "principal", Rate: "1/h", Burst: 3, Strict: true})
		if err != nil {
			t.Fatal(err)
		}
		var cords []*cord
		for i, n := range fleet {
			key := user(fmt.Sprint("of-node-", i))
			for _, l := range []*ratelimit.Limit{lim, sharp} {
				for n.Take(l, key, 1, n.Now()).OK {
				}
			}
			cords = append(cords, n.engine.cord(errCut))
			n.Take(lim, user("x"), 1, n.Now()) // learns that the engine is away
		}
		fresh := &store.SharedMemory{}
		for i, k := range cords {
			s, err := store.OpenShared(t.Context(), store.SharedConfig{Memory: fresh, Node: fmt.Sprint(i)})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			k.set(s, false, nil)
		}
		<-time.After(4 * time.Second)
		for i, n := range fleet {
			for _, l := range []*ratelimit.Limit{lim, sharp} {
				if r := n.Take(l, user(fmt.Sprint("of-node-", 1-i)), 1, n.Now()); r.OK || r.Unavailable {
					t.Errorf("%s: what the other node knew is forgotten: %+v", l, r)
				}
			}
		}
	})

	inBubble("a full table makes newcomers share a part, and asks nobody", func(t *testing.T) {
		s, err := store.OpenShared(t.Context(), store.SharedConfig{Memory: &store.SharedMemory{}, Node: "a"})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		l, err := ratelimit.New(ratelimit.Config{Entries: 256 * 24, Engine: s})
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * time.Second)
		lim := limit(t, "principal", "10/h", 1000)
		through := 0
		for i := range 30_000 {
			if l.Take(lim, user(fmt.Sprint(i)), 1, l.Now()).OK {
				through++
			}
		}
		if through > 256*32+1000 {
			t.Errorf("%d keys were let through", through)
		}
		if l.Overflowed() == 0 {
			t.Error("nobody is told")
		}
	})

	for name, c := range map[string]struct {
		nodes func() int
		most  int
	}{
		"as many as the database says":                     {func() int { return 4 }, 400},
		"each for itself where nobody knows of the others": {nil, 1600},
	} {
		inBubble("a fleet started while the engine is away divides the limit: "+name, func(t *testing.T) {
			got := 0
			for i := range 4 {
				n := enterAs(t, store.SharedConfig{Memory: &store.SharedMemory{}, Node: fmt.Sprint(i)}, rtt, func(f *far, cfg *ratelimit.Config) {
					f.cord(errCut)
					cfg.Nodes = c.nodes
				})
				lim := limit(t, "principal", "400/h", 400)
				for range 1000 {
					if n.Take(lim, user("u"), 1, n.Now()).OK {
						got++
					}
				}
			}
			if got > c.most || got < c.most*9/10 {
				t.Errorf("%d of %d are let through", got, c.most)
			}
		})
	}

	inBubble("with the memory of its own process a node is alone, and strict is no more than a rate", func(t *testing.T) {
		s, err := store.OpenShared(t.Context(), store.SharedConfig{Node: "a"})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		l, err := ratelimit.New(ratelimit.Config{Engine: s}) // and nobody runs it
		if err != nil {
			t.Fatal(err)
		}
		lim := strict(t, "10/s", 2)
		for i := range 3 {
			if r := l.Take(lim, user("u"), 1, 1); r.OK != (i < 2) || r.Unavailable {
				t.Errorf("%d: %+v", i, r)
			}
		}
	})

	inBubble("no more than some thousand requests wait, the others have the node's part", func(t *testing.T) {
		fleet := nodes(t, 2, &store.SharedMemory{}, 240*time.Millisecond)
		lim, n := limit(t, "principal", "1/h", 10), fleet[0]
		var wg sync.WaitGroup
		var all tally
		for i := range 10_000 {
			wg.Go(func() {
				began := time.Now()
				r := n.Take(lim, user(fmt.Sprint(i)), 1, n.Now())
				if all.note(began, 1, r); r.OK && time.Since(began) == 0 {
					all.note(began, 1, ratelimit.Result{}) // one that did not wait
				}
			})
		}
		wg.Wait()
		if len(all.passed) != 10_000 || all.refused != 10_000-4096 {
			t.Errorf("%d let through, %d of them at once", len(all.passed), all.refused)
		}
	})

	inBubble("without Run a strict limit refuses and another gives the node's part", func(t *testing.T) {
		s, err := store.OpenShared(t.Context(), store.SharedConfig{Memory: &store.SharedMemory{}, Node: "a"})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		l, err := ratelimit.New(ratelimit.Config{Engine: s})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if r := l.Take(strict(t, "10/s", 10), user("u"), 1, l.Now()); r.OK || !r.Unavailable || time.Since(began) > 300*time.Millisecond {
			t.Errorf("%+v after %v", r, time.Since(began))
		}
	})
}

// Two keys that are counted apart on one node are counted apart by the fleet, and
// the other way round.
func TestTheFleetTellsKeysApartAsANodeDoes(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	keys := []ratelimit.Key{
		{Address: v4}, {Address: netip.MustParseAddr("::ffff:192.0.2.1")}, {Address: v6}, {Address: netip.MustParseAddr("2001:db8::2")}, {Address: netip.MustParseAddr("2001:db8:1::1")},
	}
	one := ratelimit.Key{Address: v4}
	of := reflect.ValueOf(&one).Elem()
	for i := range of.NumField() { // each field that there is, so that none to come is forgotten
		for _, text := range []string{"a", "b", "ab"} {
			k := one
			switch f := reflect.ValueOf(&k).Elem().Field(i); f.Kind() {
			case reflect.String:
				f.SetString(text)
			case reflect.Uint32:
				f.SetUint(uint64(len(text)))
			default:
				continue
			}
			keys = append(keys, k)
			k.Issuer += "i"
			keys = append(keys, k)
		}
	}
	keys = append(keys, ratelimit.Key{Address: v4, Issuer: "a", Subject: "bc"}, ratelimit.Key{Address: v4, Issuer: "ab", Subject: "c"}, ratelimit.Key{Address: v4, Subject: "192.0.2.1"})
	l := limiter(t, 0)
	for _, by := range []string{"all", "address", "principal", "key", "client", "tenant", "operation", "network", "asn", "country", "custom", "principal+operation", "address+client", "tenant+network+asn"} {
		lim := limit(t, by, "1/s", 1)
		for i := range keys {
			for j := range i {
				if a, b, known := ratelimit.Same(l, lim, &keys[i], &keys[j]); known && a != b {
					t.Errorf("by %s: %+v and %+v are one for the node: %t, for the fleet: %t", by, keys[i], keys[j], a, b)
				}
			}
		}
	}
}

package ratelimit_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/ratelimit"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
)

func redisNodes(t *testing.T, url string, n int) (out []*node) {
	t.Helper()
	for i := range n {
		out = append(out, enter(t, store.SharedConfig{URL: gatehouse.NewSecret(url), Node: fmt.Sprint("node-", i)}, 0))
	}
	<-time.After(2100 * time.Millisecond) // until each has seen the others
	return out
}

// atMost is how much of a limit a window may have. What a node knows of a caller is
// as old as the machine is busy: no more than a second burst comes of that, see "the
// engine is away" in docs/limits.md. TestTheEngineGoesAndComesBack has the clock for
// itself, and holds nodes to the 5 %.
func atMost(late func() time.Duration) float64 {
	if late() > time.Second {
		return 2
	}
	return 1.05
}

func TestFourNodesOneLimitOnRedis(t *testing.T) {
	const long = 3 * time.Second
	url, _ := storetest.Redis(t)
	fleet := redisNodes(t, url, 4)
	late := storetest.Late(t)
	limits := map[string]*ratelimit.Limit{}
	var wg sync.WaitGroup
	tallies := map[string]*tally{}
	for _, c := range []struct {
		name    string
		strict  bool
		callers [4]int
	}{
		{"even", false, [4]int{8, 8, 8, 8}},
		{"hot", false, [4]int{24, 1, 0, 0}},
		{"strict", true, [4]int{4, 4, 4, 4}},
	} {
		lim, err := ratelimit.Compile(ratelimit.Spec{Name: c.name, By: "principal", Rate: "400/s", Burst: 800, Strict: c.strict})
		if err != nil {
			t.Fatal(err)
		}
		limits[c.name], tallies[c.name] = lim, &tally{}
		for i, n := range fleet {
			tallies[c.name].hammer(&wg, n, lim, user("u"), c.callers[i], 4*time.Millisecond, long, 1)
		}
	}
	wg.Wait()
	for name, all := range tallies {
		over, part := all.most(800, 400), float64(all.admitted())/(800+400*long.Seconds())
		t.Logf("%s: %.3f of the limit; worst window %.3f; slowest %v", name, part, over, all.slowest)
		most := atMost(late)
		if name == "strict" {
			most = 1 + 1./800 // their clock may tick in the middle
		}
		// On a machine so busy that a call takes as long as the engine is given, some
		// requests could not be counted, and there is not as much demand.
		if idle := late() < time.Second; over > most || idle && (part < 0.85 || all.unavailable > 0) {
			t.Errorf("%s: %.3f in a window, %.3f of the limit, %d not counted", name, over, part, all.unavailable)
		}
	}
}

func TestRedisGoesAndComesBack(t *testing.T) {
	for name, c := range map[string]struct{ away, back func(*storetest.RedisServer) }{
		"killed, and started again empty": {(*storetest.RedisServer).Kill, (*storetest.RedisServer).Restart},
		"hung":                            {(*storetest.RedisServer).Stop, (*storetest.RedisServer).Cont},
	} {
		t.Run(name, func(t *testing.T) {
			const burst, perSecond, long = 300, 30, 8 * time.Second
			url, server := storetest.Redis(t)
			fleet := redisNodes(t, url, 4)
			lim := limit(t, "principal", "30/s", burst)
			sharp, err := ratelimit.Compile(ratelimit.Spec{Name: "strict", By: "principal", Rate: "30/s", Burst: burst, Strict: true})
			if err != nil {
				t.Fatal(err)
			}
			late := storetest.Late(t)
			var all, exact tally
			var wg sync.WaitGroup
			for _, n := range fleet {
				all.hammer(&wg, n, lim, user("u"), 4, 10*time.Millisecond, long, 1)
				exact.hammer(&wg, n, sharp, user("u"), 4, 10*time.Millisecond, long, 1)
			}
			<-time.After(2 * time.Second)
			c.away(server)
			<-time.After(2 * time.Second)
			storetest.Within(t, time.Second, "all are told", func() bool {
				return !slices.ContainsFunc(fleet, func(n *node) bool { return n.SharedErr() == nil })
			})
			c.back(server)
			storetest.Within(t, 4*time.Second, "all know that it is back", func() bool {
				return !slices.ContainsFunc(fleet, func(n *node) bool { return n.SharedErr() != nil })
			})
			wg.Wait()
			over, part := all.most(burst, perSecond), float64(all.admitted())/(burst+perSecond*long.Seconds())
			t.Logf("%.3f of the limit; worst window %.3f; slowest %v; strict: worst window %.3f, %d not counted", part, over, all.slowest, exact.most(burst, perSecond), exact.unavailable)
			if over > atMost(late) || part < 0.8 || exact.most(burst, perSecond) > 1+1./burst {
				t.Errorf("%.3f in a window, %.3f of the limit; strict: %.3f in a window", over, part, exact.most(burst, perSecond))
			}
			if all.slowest > time.Second+late() || exact.unavailable == 0 {
				t.Errorf("a request waited for %v; %d were told that they cannot be counted", all.slowest, exact.unavailable)
			}
		})
	}
}

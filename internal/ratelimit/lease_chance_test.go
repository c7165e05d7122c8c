package ratelimit_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/ratelimit"
	"github.com/gatehouse-api/gatehouse/internal/store"
)

// A chance is a sequence that looks like one and is the same each time.
type chance uint64

func (c *chance) upTo(n int) int {
	*c = *c*6364136223846793005 + 1442695040888963407
	return int(uint64(*c>>33) % uint64(n))
}

// Whatever nodes are asked, and whenever: no window has more than 5 % too much.
func TestNoPatternOfDemandGetsMore(t *testing.T) {
	seeds := 60
	if raceEnabled || testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			c := chance(seed*7919 + 1)
			n := 2 + c.upTo(4)
			fleet := nodes(t, n, &store.SharedMemory{}, time.Duration(c.upTo(8))*time.Millisecond)
			count, burst := 1+c.upTo(600), 1+c.upTo(3000)
			lim, err := ratelimit.NewLimit("test", "principal", fmt.Sprint(count, "/", []string{"s", "10s", "min"}[c.upTo(3)]), burst)
			if err != nil {
				t.Fatal(err)
			}
			var all tally
			var wg sync.WaitGroup
			for range 1 + c.upTo(12) { // spells of demand, each at some nodes
				for _, at := range fleet {
					if c.upTo(3) > 0 {
						all.hammer(&wg, at, lim, user("u"), 1+c.upTo(10), time.Duration(1+c.upTo(30))*time.Millisecond, time.Duration(c.upTo(1500))*time.Millisecond, int64(1+c.upTo(1+c.upTo(3))))
					}
				}
				<-time.After(time.Duration(c.upTo(2500)) * time.Millisecond)
			}
			wg.Wait()
			per := float64(count) / ratelimit.Window(lim).Seconds()
			if over := all.most(burst, per); over > 1.05 {
				t.Errorf("seed %d: %d nodes, %s: %.3f of the limit in a window, %d in all", seed, n, lim, over, all.admitted())
			}
		})
	}
}

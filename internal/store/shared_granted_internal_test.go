package store

import (
	"errors"
	"math"
	"testing"
	"time"
)

func TestNumbersTheEngineCannotHaveComeToAreNoGrant(t *testing.T) {
	a := Ask{Interval: time.Second, Burst: 5, Want: 3}
	if g := a.granted([]int64{3, 2, 0, 3_000_000}); g.Err != nil || g.Tokens != 3 || g.Left != 2 || g.Reset != 3*time.Second {
		t.Errorf("a good one: %+v", g)
	}
	for name, v := range map[string][]int64{
		"more than was wanted":        {4, 0, 0, 0},
		"less than nothing":           {-1, 0, 0, 0},
		"more left than the burst":    {0, 6, 0, 0},
		"less than nothing left":      {0, math.MinInt64, 0, 0},
		"a time that has been":        {0, 0, -1, 0},
		"a time that wraps":           {0, 0, 0, math.MaxInt64},
		"what no number is turned to": {math.MinInt64, math.MinInt64, math.MinInt64, math.MinInt64},
	} {
		if g := a.granted(v); !errors.Is(g.Err, ErrAway) || g.Tokens != 0 {
			t.Errorf("%s: %+v", name, g)
		}
	}
}

package waf_test

import (
	"sync"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/validate/coraza"
	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

// ours loads our engine for each level.
func ours(t testing.TB) (levels [5]*waf.Rules) {
	t.Helper()
	for level := 1; level <= 4; level++ {
		r, err := waf.Load(suite(level))
		if err != nil {
			t.Fatal(err)
		}
		levels[level] = r
	}
	return levels
}

// TestSameness is the contract of this package: the rules that match, how many
// values each, the score and the decision are Coraza's, for every message at hand
// and at every paranoia level.
//
// Coraza keeps values in Go maps: where a chain goes on with what the last value
// left behind, its verdict differs from run to run. A difference counts unless it
// says the same as ours in one of some runs.
func TestSameness(t *testing.T) {
	all, want, engines := probes(t), recorded(t), ours(t)
	theirs := sync.OnceValue(func() [5]*coraza.Engine { return corazaEngines(t) })
	step := 1
	if raceEnabled { // thirty times as slow; CI runs it whole without
		step = 31
	}
	each(4*len(all)/step, func(i int, f *waf.Facts) {
		p, level := &all[i*step/4], i*step%4+1
		said, ok := want[p.key(level)]
		if !ok {
			return // TestSamenessOfTheRecord tells
		}
		v := ask(engines[level], &p.m, f)
		s := sayOf(&v)
		if !v.Over && s.equal(said) {
			return
		}
		for range 30 {
			if c := ask(theirs()[level], &p.m, f); !v.Over && s.equal(sayOf(&c)) {
				t.Logf("%s at level %d: Coraza says now one, now the other", p.name, level)
				return
			}
		}
		t.Errorf("%s at level %d:\n ours   %v, over %v\n Coraza %v", p.name, level, s, v.Over, said)
	})
}

func TestOursPassesTheSuite(t *testing.T) {
	if raceEnabled {
		t.Skip("CI runs it without the race detector")
	}
	all := crsTests(t)
	failed := failures(t, ours(t)[4], all)
	for name, why := range failed {
		if overridden[name] == "" {
			t.Errorf("%s: %s", name, why)
		}
	}
	t.Logf("ours passes %d of %d", len(all)-len(failed), len(all))
}

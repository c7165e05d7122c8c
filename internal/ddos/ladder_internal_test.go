package ddos

import (
	"net/netip"
	"testing"
	"time"
)

func TestABotnetThatWasBannedDoesNotKeepTheLadderClosed(t *testing.T) {
	g, err := NewGuard(GuardConfig{Key: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	fill := func(step Step) {
		for i := range mostRungs {
			of := source{hi: uint64(i) << 32, bits: 32, v4: true}
			g.ladder.rungs[of] = &rung{source: of, step: step, times: 1}
		}
	}
	a := netip.MustParseAddr("203.0.113.9")
	list, _ := sources(a)
	g.ladder.forgot = false
	fill(Pass) // their bans are over, and remembered
	if g.heat(list[0], 40, countRequests, 1000); g.ladder.rungs[list[0]] == nil {
		t.Error("there is no room for who stands out now")
	}
	clear(g.ladder.rungs)
	g.ladder.forgot = false
	fill(Ban)
	start := time.Now()
	for i := range mostRungs { // as many stand out in one look
		g.heat(source{hi: uint64(i+mostRungs) << 32, bits: 32, v4: true}, 40, countRequests, 1000)
	}
	if len(g.ladder.rungs) != mostRungs || g.tally.full.Load() != mostRungs {
		t.Errorf("%d on the ladder, %d told of", len(g.ladder.rungs), g.tally.full.Load())
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("a look takes %s when the ladder is full", took)
	}
}

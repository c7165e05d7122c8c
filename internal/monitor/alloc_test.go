//go:build !race

package monitor_test

import "testing"

func TestAllocsOfObserve(t *testing.T) {
	m, e := busy()
	if n := testing.AllocsPerRun(1000, func() { m.Begin(); m.Observe(e) }); n > 0 {
		t.Errorf("Observe allocates %v times, want 0", n)
	}
}

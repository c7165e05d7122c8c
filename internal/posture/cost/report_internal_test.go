package cost

import (
	"math"
	"slices"
	"testing"
	"time"
)

func TestFigureIsTheMedianAndHowFarOffItMayBe(t *testing.T) {
	for _, c := range []struct {
		name           string
		rounds         []float64
		median, spread float64
	}{
		{"no round", nil, 0, 0},
		{"one round says nothing of the noise", []float64{7}, 7, 0},
		{"an even number has a median between two", []float64{4, 1, 2, 3}, 2.5, 2 * 1.2533 * 1.4826 * 1 / 2},
		{"one wild round moves neither", []float64{9, 10, 11, 10, 9, 11, 10, 9, 1000}, 10, 2 * 1.2533 * 1.4826 * 1 / 3},
		{"rounds that agree have no spread", []float64{5, 5, 5}, 5, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if f := figure(c.rounds); f.Median != c.median || math.Abs(f.Spread-c.spread) > 0.001 {
				t.Errorf("%+v, want %v ± %v", f, c.median, c.spread)
			}
		})
	}
}

// TestBreakdownAddsUp compares gateways that cost 50, 40, 39, … µs: a check is the
// difference of two, what is lost in the noise has its own loop's word, and nothing
// that was measured says more than the rounds do.
func TestBreakdownAddsUp(t *testing.T) {
	l := &line{id: "get", broken: true, request: []byte("GET / HTTP/1.1\r\n\r\n")}
	whole := []float64{50, 40, 36, 36, 34, 33, 32, 30}
	noise := []float64{0, 1, -1, 0.5, -0.5}
	for i, us := range whole {
		s := &series{}
		for r := range noise {
			cpu := us
			if i == 3 { // one gateway that scatters
				cpu += 4 * noise[r]
			}
			s.add(&tally{Requests: 100, Seconds: 1, Statuses: map[int]int{200: 100}}, spent{cpu: time.Duration(cpu * 100 * 1e3), pieces: uint64(1000 - 100*i), bytes: 100})
		}
		l.at = append(l.at, s)
	}
	alone := map[string]*Alone{}
	for _, c := range append(slices.Clone(checks), rest) {
		alone[c.id] = &Alone{CPU: Figure{Median: 0.25}, Allocations: 1}
	}
	b := l.breakdown(alone)
	want := map[string]float64{"content": 10, "access": 4, "authentication": 0.25, "limits": 0.25, "record": 1, "metrics": 1, "schema": 2, "proxy": 30}
	for _, c := range b.Checks {
		if c.CPU != want[c.ID] {
			t.Errorf("%s costs %v, want %v", c.ID, c.CPU, want[c.ID])
		}
		if noisy := c.ID == "authentication" || c.ID == "limits"; c.Clear == noisy {
			t.Errorf("%s: beyond the noise is %t", c.ID, c.Clear)
		}
		if want := map[bool]float64{false: 1, true: 10 - 7}[c.ID == "proxy"]; c.Allocations != want {
			t.Errorf("%s: %v allocations, want %v", c.ID, c.Allocations, want)
		}
	}
	l.request = append(l.request, "body"...)
	l.at = l.at[:len(checks)]
	b = l.breakdown(alone)
	schema, proxy := b.Checks[len(checks)-1], b.Checks[len(checks)]
	if schema.LeftOut != nil || schema.CPU != 0.25 || proxy.CPU != 32-0.25 || l.gates() != len(checks) {
		t.Errorf("the schema of a body: %+v, the rest %+v", schema, proxy)
	}
}

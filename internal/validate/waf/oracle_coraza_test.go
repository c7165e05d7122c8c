package waf_test

import (
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

// TestSamenessOfTheRecord asks Coraza again: what testdata says is what it says.
func TestSamenessOfTheRecord(t *testing.T) {
	all := probes(t)
	if *update {
		record(t, all)
	}
	want := recorded(t)
	engines := corazaEngines(t)
	step := 101 // a sample
	switch {
	case *askAll:
		step = 1
	case raceEnabled:
		step = 1001
	}
	each(4*len(all)/step, func(i int, f *waf.Facts) {
		p, level := &all[i*step/4], i*step%4+1
		said, ok := want[p.key(level)]
		if !ok {
			t.Errorf("%s at level %d is not in the record, or its message has changed: run with -update", p.name, level)
			return
		}
		var s [30]string
		for try := range s { // it may say now one, now the other: see TestSameness
			v := ask(engines[level], &p.m, f)
			if sayOf(&v).equal(said) {
				return
			}
			s[try] = sayOf(&v).String()
		}
		t.Errorf("%s at level %d:\n Coraza %v\n record %v", p.name, level, s[0], said)
	})
}

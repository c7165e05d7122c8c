package validate

import "testing"

func TestLeakTriggersFit(t *testing.T) {
	s := leakScanner()
	t.Logf("%d rules, %d triggers, %d pairs of bytes", len(leakTable), len(s.triggers), len(s.places))
	if len(s.places) > 256 || len(leakTable) > 64 {
		t.Errorf("%d pairs of bytes, %d rules", len(s.places), len(leakTable))
	}
	for _, r := range leakTable {
		for _, tr := range r.triggers {
			if len(tr.text) < 3 {
				t.Errorf("%s: %q is too short to have two pairs", r.name, tr.text)
			}
			if tr.back == 0 && tr.pattern != nil && tr.pattern.String()[0] != '^' {
				t.Errorf("%s %q: a pattern that begins at its trigger needs ^", r.name, tr.text)
			}
		}
	}
}

// Every trigger is found at even and odd places, and at both ends of a text.
func TestLeakTriggersAreFoundEverywhere(t *testing.T) {
	s := leakScanner()
	for n := range s.triggers {
		text := s.triggers[n].text
		one := leaks{scan: &leakScan{rare: s.rare, bucket: s.bucket, places: s.places, triggers: append([]leakTrigger{}, s.triggers...)}, rules: make([]bool, len(leakTable))}
		for i := range one.scan.triggers {
			one.scan.triggers[i].pattern = nil
		}
		one.rules[s.triggers[n].rule] = true
		for _, around := range [][2]string{{"", ""}, {"x", ""}, {"", "x"}, {"xy", "z"}, {"x", "yz"}} {
			if found := one.find(nil, []byte(around[0]+text+around[1]), false); len(found) != 1 {
				t.Errorf("%q in %q: %v", text, around, found)
			}
		}
	}
}

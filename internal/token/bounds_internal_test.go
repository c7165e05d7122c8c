package token

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// How much is remembered about strangers' tokens cannot be seen from outside.
func TestWhatStrangersCanFillIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &KeySet{unknown: make(map[string]time.Time)}
		for i := range 10 * maxUnknown {
			s.markUnknown(strconv.Itoa(i))
		}
		if n := len(s.unknown); n != maxUnknown {
			t.Errorf("%d unknown kids remembered, want %d", n, maxUnknown)
		}
		if !s.isUnknown("0") || s.isUnknown(strconv.Itoa(10*maxUnknown-1)) {
			t.Error("later kids drive out earlier ones")
		}
		time.Sleep(unknownFor + time.Second)
		s.markUnknown("new")
		if n := len(s.unknown); n != 1 || !s.isUnknown("new") || s.isUnknown("0") {
			t.Errorf("%d kids remembered after their time, want the new one", n)
		}
	})
	var c headerCache
	for i := range 10 * maxHeaders {
		c.put(strconv.Itoa(i), header{})
	}
	if n := len(*c.m.Load()); n != maxHeaders {
		t.Errorf("%d headers remembered, want %d", n, maxHeaders)
	}
}

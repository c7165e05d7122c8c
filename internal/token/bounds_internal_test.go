package token

import (
	"errors"
	"strconv"
	"sync/atomic"
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

// The clock of a test cannot be set back from outside.
func TestAClockSetBackBringsNoForgottenProofToLife(t *testing.T) {
	r := newReplays(256*replayShards, time.Minute/4)
	start := time.Unix(1e9, 0)
	if err := r.add("k", "a", start, start.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	later := start.Add(2 * time.Minute)
	for i := range 32 * replayShards { // every shard has something to forget
		if err := r.add("k", "old"+strconv.Itoa(i), start, start.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 32 * replayShards { // and forgets it
		if err := r.add("k", strconv.Itoa(i), later, later.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.add("k", "a", start, start.Add(time.Minute)); !errors.Is(err, ErrProof) {
		t.Errorf("a used proof is taken again once the clock is set back: %v", err)
	}
	if err := r.add("k", "new", start, start.Add(time.Minute)); !errors.Is(err, ErrProof) {
		t.Errorf("a proof of which it is not known whether it was used is taken: %v", err)
	}
	// A clock that stood ahead for a moment must not shut everybody out until
	// that moment comes.
	soon := start.Add(2 * time.Second)
	if err := r.add("k", "soon", soon, soon.Add(time.Minute)); err != nil {
		t.Errorf("a proof of after what is forgotten is refused: %v", err)
	}
	if err := r.add("k", "soon", soon, soon.Add(time.Minute)); !errors.Is(err, ErrProof) {
		t.Errorf("a proof is taken twice after the clock was set back: %v", err)
	}
}

func BenchmarkReplays(b *testing.B) {
	r := newReplays(0, defaultWindow/4)
	start := time.Unix(1e9, 0)
	var n atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := n.Add(1)
			now := start.Add(time.Duration(i) * 200 * time.Microsecond) // 5,000 a second
			if err := r.add("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs", strconv.FormatInt(i, 10), now, now.Add(defaultWindow)); err != nil {
				b.Error(err)
			}
		}
	})
}

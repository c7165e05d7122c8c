package ddos_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/ddos"
)

// full is a room in which no more than one request may be, and is; its token is
// given back by leave.
func full(t *testing.T, cfg ddos.CapacityConfig) (room *ddos.Capacity, leave func()) {
	t.Helper()
	cfg.Ceiling, cfg.Late = max(cfg.Ceiling, 1), func() time.Duration { return 0 }
	room, err := ddos.NewCapacity(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var tokens []ddos.Token
	for range cfg.Ceiling {
		token, err := room.Acquire(t.Context(), ddos.Request{Priority: ddos.Critical, Claim: ddos.Regular})
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, token)
	}
	return room, func() {
		for i := range tokens {
			tokens[i].Release()
		}
	}
}

func overloaded(t *testing.T, err error, why string) *gatehouse.Problem {
	t.Helper()
	p := gatehouse.AsProblem(err)
	if p.Reason != "overloaded" || p.Kind != gatehouse.Overloaded {
		t.Fatalf("got %v, want overloaded", err)
	}
	if !strings.Contains(p.Err.Error(), why) {
		t.Errorf("refused because %v, want %q", p.Err, why)
	}
	return p
}

func TestAFullLineGivesThePlaceOfTheLowestToWhoGoesBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room, leave := full(t, ddos.CapacityConfig{Line: 2, Wait: time.Minute})
		type outcome struct {
			token ddos.Token
			err   error
		}
		queue := func(r ddos.Request) chan outcome {
			c := make(chan outcome, 1)
			go func() {
				token, err := room.Acquire(t.Context(), r)
				c <- outcome{token, err}
			}()
			synctest.Wait()
			return c
		}
		nobody := queue(ddos.Request{Who: 1, Priority: ddos.Default})
		fresh := queue(ddos.Request{Who: 2, Priority: ddos.Default, Claim: ddos.Newcomer})
		if n := room.Status().Waiting; n != 2 {
			t.Fatalf("%d wait", n)
		}
		if _, err := room.Acquire(t.Context(), ddos.Request{Who: 3, Priority: ddos.Sheddable}); true {
			overloaded(t, err, "line is full")
		}
		known := queue(ddos.Request{Who: 4, Priority: ddos.Default, Claim: ddos.Regular})
		overloaded(t, (<-nobody).err, "goes before")
		if n := room.Status().Waiting; n != 2 {
			t.Fatalf("%d wait", n)
		}
		leave()
		first := <-known
		if first.err != nil {
			t.Fatal(first.err)
		}
		synctest.Wait()
		select {
		case got := <-fresh:
			t.Fatalf("who goes after was served as well: %v", got.err)
		default:
		}
		first.token.Release()
		second := <-fresh
		if second.err != nil {
			t.Fatal(second.err)
		}
		second.token.Release()
		st := room.Status()
		if st.InFlight != 0 || st.Waiting != 0 || st.Refused() != 2 {
			t.Errorf("in the end %+v", st)
		}
	})
}

func TestACallerWhoLeavesLeavesTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room, leave := full(t, ddos.CapacityConfig{Line: 10, Wait: time.Minute})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			_, err := room.Acquire(ctx, ddos.Request{Who: 1, Priority: ddos.Default})
			ended <- err
		}()
		synctest.Wait()
		if n := room.Status().Waiting; n != 1 {
			t.Fatalf("%d wait", n)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if st := room.Status(); st.Waiting != 0 || st.Refused() != 0 {
			t.Errorf("whoever left is still there, or counts as refused: %+v", st)
		}
		if _, err := room.Acquire(ctx, ddos.Request{Who: 1}); !errors.Is(err, context.Canceled) {
			t.Errorf("whoever was gone before got %v", err)
		}
		leave()
		if st := room.Status(); st.InFlight != 0 {
			t.Errorf("room was given to nobody: %+v", st)
		}
	})
}

func TestADeadlineEndsTheWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room, leave := full(t, ddos.CapacityConfig{Line: 10, Wait: time.Second})
		defer leave()
		begun := time.Now()
		_, err := room.Acquire(t.Context(), ddos.Request{Who: 1, Priority: ddos.Default})
		overloaded(t, err, "too slow")
		if took := time.Since(begun); took != time.Second {
			t.Errorf("it took %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := room.Acquire(ctx, ddos.Request{Who: 1, Priority: ddos.Default}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

func TestAFullLineDoesNotKeepOutWhomRoomIsKeptFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room, err := ddos.NewCapacity(ddos.CapacityConfig{Ceiling: 10, Line: 5, Wait: time.Minute, Reserve: true, Late: func() time.Duration { return 0 }})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var gave atomic.Int64
		for n := range 13 { // eight get in, five wait
			go func() {
				if _, err := room.Acquire(ctx, ddos.Request{Who: ddos.Who(n + 1), Priority: ddos.Default, Claim: ddos.Regular}); err == nil {
					gave.Add(1)
				}
			}()
		}
		synctest.Wait()
		if st := room.Status(); st.InFlight != 8 || st.Waiting != 5 {
			t.Fatalf("%+v", st)
		}
		for n := range 2 {
			if _, err := room.Acquire(t.Context(), ddos.Request{Who: ddos.Who(100 + n), Priority: ddos.Critical}); err != nil {
				t.Errorf("a critical operation: %v", err)
			}
		}
		_, err = room.Acquire(t.Context(), ddos.Request{Who: 200, Priority: ddos.Critical})
		overloaded(t, err, "line is full")
		cancel()
		synctest.Wait()
		if gave.Load() != 8 {
			t.Errorf("%d got in", gave.Load())
		}
	})
}

func TestRefusedCallersAreNotToldToComeBackAtOnce(t *testing.T) {
	room, leave := full(t, ddos.CapacityConfig{Ceiling: 1, Line: 0})
	defer leave()
	after := func(r ddos.Request) (all []time.Duration) {
		for range 200 {
			_, err := room.Acquire(t.Context(), r)
			all = append(all, overloaded(t, err, "line is full").RetryAfter)
		}
		slices.Sort(all)
		return all
	}
	nobody, known := after(ddos.Request{}), after(ddos.Request{Priority: ddos.Critical, Claim: ddos.Regular})
	for name, all := range map[string][]time.Duration{"nobody": nobody, "known": known} {
		if all[0] < time.Second || len(slices.Compact(slices.Clone(all))) < 150 {
			t.Errorf("%s: %v to %v, %d different", name, all[0], all[199], len(slices.Compact(slices.Clone(all))))
		}
	}
	if nobody[100] < 2*known[100] {
		t.Errorf("who would be refused again is to come back after %v, who goes first after %v", nobody[100], known[100])
	}
}

func TestTheZeroRequestIsRefusedFirst(t *testing.T) {
	room, leave := full(t, ddos.CapacityConfig{Line: 0})
	defer leave()
	_, err := room.Acquire(t.Context(), ddos.Request{})
	overloaded(t, err, "sheddable operation, anonymous caller")
	var none ddos.Token
	none.Heard(ddos.Dropped, 0)
	none.Release()
	if st := room.Status(); st.InFlight != 1 {
		t.Errorf("a token without room gave some back: %+v", st)
	}
}

func TestATokenGivesBackOnce(t *testing.T) {
	room, err := ddos.NewCapacity(ddos.CapacityConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []ddos.Request{{Who: 5}, {Who: 5, Streamed: true}, {Who: 5, Priority: ddos.Critical, Claim: ddos.Regular}} {
		token, err := room.Acquire(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		token.Heard(ddos.Answered, time.Millisecond)
		token.Heard(ddos.Dropped, 0)
		token.Release()
		token.Release()
	}
	if st := room.Status(); st.InFlight != 0 {
		t.Errorf("%+v", st)
	}
}

func TestCapacitiesThatCannotBeAreRefused(t *testing.T) {
	for name, cfg := range map[string]ddos.CapacityConfig{
		"least above the beginning":  {Min: 5, Initial: 4},
		"beginning above most":       {Initial: 5, Max: 4},
		"most above the ceiling":     {Max: 5, Ceiling: 4},
		"less than none":             {Min: -1},
		"a line of less than nobody": {Line: -1},
		"more than can be counted":   {Ceiling: 1 << 21},
	} {
		if _, err := ddos.NewCapacity(cfg); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	for _, name := range []string{"", "critical", "default", "sheddable"} {
		if _, err := ddos.ParsePriority(name); err != nil {
			t.Error(err)
		}
	}
	if p, err := ddos.ParsePriority("high"); err == nil || p != ddos.Sheddable {
		t.Errorf("high is %d, %v", p, err)
	}
}

// BenchmarkCapacity is what a request pays while there is room.
func BenchmarkCapacity(b *testing.B) {
	room, err := ddos.NewCapacity(ddos.CapacityConfig{Line: 1000, Known: someKnown()})
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		token, err := room.Acquire(ctx, ddos.Request{Who: ddos.Who(n*7919 + 1), Priority: ddos.Default, Claim: ddos.Newcomer})
		if err != nil {
			b.Fatal(err)
		}
		token.Heard(ddos.Answered, 300*time.Microsecond)
		token.Release()
	}
}

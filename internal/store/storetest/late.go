package storetest

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	lateStep  = 2 * time.Millisecond
	lateTimes = 5 // what is waited for takes a few goroutines and processes, each of them late
)

// Late measures for the rest of the test how late this process runs, and tells how
// much longer than on an idle machine what is bounded in real time may have taken
// since. Where nothing else runs that is nothing: the bound is what it says.
func Late(t testing.TB) func() time.Duration {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	var done sync.WaitGroup
	sum := new(atomic.Int64)
	done.Go(func() { late(ctx, sum) })
	t.Cleanup(func() { stop(); done.Wait() })
	return func() time.Duration { return lateTimes * time.Duration(sum.Load()) }
}

func late(ctx context.Context, sum *atomic.Int64) {
	for {
		asleep := time.Now()
		select {
		case <-ctx.Done():
			return
		case <-time.After(lateStep):
		}
		if over := time.Since(asleep) - lateStep; over > lateStep {
			sum.Add(int64(over))
		}
	}
}

// Within waits until ok holds, and fails the test when it does not in time. On a busy
// machine the time is as much longer as the test runs late.
func Within(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	sum := new(atomic.Int64)
	go late(ctx, sum)
	for begun := time.Now(); !ok(); {
		if time.Since(begun) > limit+lateTimes*time.Duration(sum.Load()) {
			t.Fatalf("not within %s: %s", limit, what)
		}
		<-time.After(lateStep)
	}
}

package fleet_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/fleet"
	"github.com/gatehouse-api/gatehouse/internal/store"
)

// cut is a way to the shared engine that can be lost.
type cut struct {
	*store.Shared
	away atomic.Bool
}

func (c *cut) Lead(ctx context.Context, name string, ttl time.Duration) (bool, int64, error) {
	if c.away.Load() {
		return false, 0, errors.New("no route")
	}
	return c.Shared.Lead(ctx, name, ttl)
}

func shared(t *testing.T, m *store.SharedMemory) *store.Shared {
	t.Helper()
	s := must[*store.Shared](t)(store.OpenShared(t.Context(), store.SharedConfig{Memory: m}))
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func lead(t *testing.T, leases fleet.Leases) (l *fleet.Leader, end func()) {
	t.Helper()
	l = fleet.NewLeader(t.Context(), leases, new(said).logger())
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { l.Run(ctx) })
	end = sync.OnceFunc(func() { stop(); running.Wait() })
	t.Cleanup(end)
	return l, end
}

func leads(l *fleet.Leader) bool {
	ran := false
	_ = l.Do(context.Background(), func(context.Context) error { ran = true; return nil })
	return ran
}

func TestANodeOfItsOwnLeadsFromTheStart(t *testing.T) {
	s := must[*store.Shared](t)(store.OpenShared(t.Context(), store.SharedConfig{}))
	defer s.Close()
	if !leads(fleet.NewLeader(t.Context(), s, new(said).logger())) {
		t.Error("it does not")
	}
}

func TestALeaderThatLosesTheEngineStopsBeforeTheNextOneStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &store.SharedMemory{}
		way := &cut{Shared: shared(t, m)}
		a, endA := lead(t, way)
		b, endB := lead(t, shared(t, m))
		if !leads(a) || leads(b) {
			t.Fatalf("a leads %t, b leads %t", leads(a), leads(b))
		}
		_, term := a.Leads()
		time.Sleep(time.Minute)
		if _, now := a.Leads(); !leads(a) || now != term {
			t.Fatalf("after a minute a is no more the leader, or in term %d after %d", now, term)
		}
		var stopped, started time.Time
		var working sync.WaitGroup
		working.Go(func() {
			_ = a.Do(t.Context(), func(ctx context.Context) error {
				<-ctx.Done()
				stopped = time.Now()
				return ctx.Err()
			})
		})
		synctest.Wait()
		way.away.Store(true)
		cut := time.Now()
		for !leads(b) {
			if leads(a) && time.Since(cut) > 10*time.Second {
				t.Fatal("a works on")
			}
			time.Sleep(100 * time.Millisecond)
		}
		started = time.Now()
		working.Wait()
		if spare := started.Sub(stopped); spare < time.Second {
			t.Errorf("the old leader stopped %v before the new one began", spare)
		}
		if took := started.Sub(cut); took > 14*time.Second {
			t.Errorf("nobody led for %v", took)
		}
		if _, now := b.Leads(); now <= term {
			t.Errorf("the new term is %d, after %d", now, term)
		}
		way.away.Store(false)
		time.Sleep(time.Minute)
		if leads(a) || !leads(b) {
			t.Error("the old leader is back beside the new one")
		}
		endB() // resigns: the next one need not wait for the end of the lease
		time.Sleep(4 * time.Second)
		if !leads(a) {
			t.Error("nobody leads after the leader left")
		}
		endA()
	})
}

func TestWorkOfALeaderThatFailsIsItsError(t *testing.T) {
	l := fleet.NewLeader(t.Context(), shared(t, &store.SharedMemory{}), new(said).logger())
	broken := errors.New("broken")
	if err := l.Do(t.Context(), func(context.Context) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

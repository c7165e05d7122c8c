package store_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
)

func share(t testing.TB, cfg store.SharedConfig) *store.Shared {
	t.Helper()
	s, err := store.OpenShared(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestSharedMemory(t *testing.T) {
	memory := &store.SharedMemory{}
	storetest.RunShared(t, func(t *testing.T, node string) *store.Shared {
		return share(t, store.SharedConfig{Memory: memory, Node: node})
	})
}

func TestSharedOfOneNode(t *testing.T) {
	s := share(t, store.SharedConfig{Node: "alone"})
	nodes, err := s.Nodes(t.Context())
	if err != nil || len(nodes) != 1 || nodes[0].Name != "alone" || !nodes[0].Self {
		t.Errorf("%+v %v", nodes, err)
	}
	if s.Remote() || s.Count() != 1 || s.Err() != nil {
		t.Error(s.Remote(), s.Count(), s.Err())
	}
	if other := share(t, store.SharedConfig{}); true {
		for i, h := range []*store.Shared{s, other} {
			if first, err := h.Once(t.Context(), "space", "k", time.Minute); !first || err != nil {
				t.Errorf("handle %d: %t %v", i, first, err)
			}
		}
	}
}

func TestSharedMemoryThatBreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := &store.SharedMemory{}
		a, err := store.OpenShared(t.Context(), store.SharedConfig{Memory: memory, Node: "a"})
		if err != nil {
			t.Fatal(err)
		}
		b, err := store.OpenShared(t.Context(), store.SharedConfig{Memory: memory, Node: "b"})
		if err != nil {
			t.Fatal(err)
		}
		var gaps atomic.Int64
		a.Subscribe(t.Context(), "topic", func(m []byte) {
			if m == nil {
				gaps.Add(1)
			}
		})
		time.Sleep(2 * time.Second)
		if a.Count() != 2 || gaps.Load() != 1 {
			t.Error(a.Count(), gaps.Load())
		}
		why := errors.New("pulled the plug")
		memory.Break(why)
		if _, err := a.Once(t.Context(), "space", "k", time.Hour); !errors.Is(err, store.ErrAway) || !errors.Is(err, why) || !errors.Is(a.Err(), why) {
			t.Error(err, a.Err())
		}
		time.Sleep(time.Hour)
		if a.Count() != 2 {
			t.Errorf("%d nodes are known while the engine is away", a.Count())
		}
		memory.Break(nil)
		time.Sleep(2 * time.Second)
		if a.Err() != nil || a.Count() != 2 || gaps.Load() != 2 {
			t.Error(a.Err(), a.Count(), gaps.Load())
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Second)
		if a.Count() != 1 {
			t.Errorf("%d nodes, one has left", a.Count())
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
}

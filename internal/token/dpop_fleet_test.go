package token_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/token"
)

// marks are those of a fleet in one process.
type marks struct {
	mu    sync.Mutex
	until map[string]time.Time
	away  error
	asked atomic.Int64
}

func (m *marks) Once(_ context.Context, space, key string, ttl time.Duration) (bool, error) {
	m.asked.Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away != nil {
		return false, m.away
	}
	if time.Now().Before(m.until[space+key]) {
		return false, nil
	}
	m.until[space+key] = time.Now().Add(ttl)
	return true, nil
}

func twoNodes(t *testing.T, change func(*token.ProofsConfig)) (m *marks, a, b *token.Proofs) {
	t.Helper()
	m = &marks{until: map[string]time.Time{}}
	node := func() *token.Proofs {
		return newProofs(t, func(c *token.ProofsConfig) {
			c.Marks, c.Space = m, "dpop.gate"
			if change != nil {
				change(c)
			}
		})
	}
	return m, node(), node()
}

func TestAProofUsedAtOneNodeIsRefusedAtAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, b := twoNodes(t, nil)
		raw := proof(t, token.ES256, nil, nil)
		if _, err := a.Verify(t.Context(), raw, post()); err != nil {
			t.Fatal(err)
		}
		got, err := b.Verify(t.Context(), raw, post())
		notProven(t, got, err, token.ErrProof, "used before")
		before := m.asked.Load()
		got, err = a.Verify(t.Context(), raw, post())
		notProven(t, got, err, token.ErrProof, "used before")
		if m.asked.Load() != before {
			t.Error("a proof this node has seen itself is asked about")
		}
		// A node started anew, whose clock is behind the others'.
		time.Sleep(59 * time.Second)
		got, err = newProofs(t, func(c *token.ProofsConfig) { c.Marks, c.Space = m, "dpop.gate" }).Verify(t.Context(), raw, post())
		notProven(t, got, err, token.ErrProof, "used before")
	})
}

func TestOfManyNodesOneTakesAProof(t *testing.T) {
	m := &marks{until: map[string]time.Time{}}
	raw := proof(t, token.ES256, nil, nil)
	var took atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		p := newProofs(t, func(c *token.ProofsConfig) { c.Marks, c.Space = m, "dpop.gate" })
		all.Go(func() {
			if _, err := p.Verify(t.Context(), raw, post()); err == nil {
				took.Add(1)
			}
		})
	}
	if all.Wait(); took.Load() != 1 {
		t.Errorf("%d nodes took one proof", took.Load())
	}
}

func TestProofsAreRefusedWhileOtherNodesCannotBeAsked(t *testing.T) {
	m, a, _ := twoNodes(t, nil)
	m.away = errors.New("no route")
	got, err := a.Verify(t.Context(), proof(t, token.ES256, nil, nil), post())
	notProven(t, got, err, token.ErrProofsAway, "no route")
	if errors.Is(err, token.ErrProof) {
		t.Error("it is called the client's fault")
	}
	m.away = nil
	if _, err := a.Verify(t.Context(), proof(t, token.ES256, nil, nil), post()); err != nil {
		t.Errorf("after the outage: %v", err)
	}
}

func TestANonceOfOneNodeIsGoodAtAnotherThatStartedLater(t *testing.T) {
	seal, err := token.NewSealer()
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		m := &marks{until: map[string]time.Time{}}
		node := func() *token.Proofs {
			return newProofs(t, func(c *token.ProofsConfig) { c.Marks, c.Space, c.Seal, c.RequireNonce = m, "dpop.gate", seal, true })
		}
		a := node()
		nonce := a.Nonce()
		time.Sleep(time.Second)
		b := node()
		raw := proof(t, token.ES256, nil, edit{"nonce": nonce})
		if _, err := b.Verify(t.Context(), raw, post()); err != nil {
			t.Errorf("a nonce from before the start of this node: %v", err)
		}
		time.Sleep(5 * time.Minute)
		got, err := b.Verify(t.Context(), proof(t, token.ES256, nil, edit{"nonce": nonce}), post())
		notProven(t, got, err, token.ErrUseNonce, "")
	})
}

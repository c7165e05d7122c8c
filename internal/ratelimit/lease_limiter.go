package ratelimit

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/store"
)

// fleet is the engine as a bank.
type fleet struct {
	Engine

	known func() int // nodes somebody else knows of
}

func (e fleet) take(ctx context.Context, _ []order, asks []store.Ask, out []store.Grant) ([]store.Grant, error) {
	return e.Take(ctx, asks, out)
}

// probe asks for nothing, of keys that live on many servers of a cluster: one that
// answers is enough.
func (e fleet) probe(ctx context.Context) error {
	asks := make([]store.Ask, 16)
	for i := range asks {
		asks[i] = store.Ask{Key: [16]byte{byte(i * 16)}, Interval: time.Second, Burst: 1}
	}
	_, err := e.Take(ctx, asks, nil)
	return err
}

// nodes: an engine that was away when this node started knows of nobody.
func (e fleet) nodes() int { return max(1, e.Count(), e.known()) }

// join makes the limiter one of a fleet's, and one that counts quotas.
func (l *Limiter) join(cfg *Config) {
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if cfg.Engine != nil && cfg.Engine.Remote() {
		known := cfg.Nodes
		if known == nil {
			known = func() int { return 1 }
		}
		l.fleet = newLeases(fleet{cfg.Engine, known}, pace{
			wait: leaseWait, tick: leaseTick, gap: time.Millisecond, ahead: 2 * leaseTick,
			idle: 10 * leaseTick, recall: time.Second, sweep: 5 * leaseTick, shy: 2 * time.Second, regroup: 2 * time.Second,
		}, log)
	}
	if cfg.Quotas != nil {
		l.book, l.quotas = cfg.Quotas, newQuotaLeases(cfg.Quotas, log)
	}
	for _, f := range []*leases{l.fleet, l.quotas} {
		if f != nil {
			f.clock, f.spill, f.most = l.Now, l.spill, int(l.mask)+1
		}
	}
	l.log = log
}

// Run renews the leases of rates and quotas until ctx ends, and gives back what is
// in hand then. A limiter that has neither an engine nor quotas need not run.
func (l *Limiter) Run(ctx context.Context) {
	var done sync.WaitGroup
	if l.fleet != nil {
		done.Go(func() { l.fleet.run(ctx) })
	}
	if l.quotas != nil {
		done.Go(func() { l.quotas.run(ctx) })
		done.Go(func() { l.book.tidy(ctx, l.log) })
	}
	done.Wait()
}

// SharedErr is why limits are divided among the nodes instead of shared, QuotaErr
// why quotas cannot be counted; nil when they are, or there are none.
func (l *Limiter) SharedErr() error { return l.fleet.err() }

// QuotaErr is explained at [Limiter.SharedErr].
func (l *Limiter) QuotaErr() error { return l.quotas.err() }

func (f *leases) err() error {
	if f == nil {
		return nil
	}
	if err := f.away.Load(); err != nil {
		return fmt.Errorf("%s: %w", f.instead(), *err)
	}
	return nil
}

// takeQuota spends of a calendar quota. Without quotas, and of no limit at all,
// nothing is given.
func (l *Limiter) takeQuota(limit *Limit, key *Key, cost, now int64) Result {
	if limit == nil || limit.quota == nil {
		return Result{RetryAfter: int64(time.Second)}
	}
	if l.quotas == nil {
		return unavailable(limit)
	}
	p := limit.quota.at(time.Now())
	hash, known := l.hashQuota(limit, key, p)
	if !known {
		return Result{Limit: limit, RetryAfter: p.left}
	}
	return l.quotas.take(limit, key, hash, p, cost, now)
}

func (l *Limiter) chargeQuota(limit *Limit, key *Key, cost, now int64) {
	if limit == nil || limit.quota == nil || l.quotas == nil || cost < 1 {
		return
	}
	p := limit.quota.at(time.Now())
	if hash, known := l.hashQuota(limit, key, p); known {
		l.quotas.charge(limit, key, hash, p, cost, now)
	}
}

// hashQuota makes each period another key.
func (l *Limiter) hashQuota(limit *Limit, key *Key, p period) ([2]uint64, bool) {
	h, known := l.hash(limit, key)
	return [2]uint64{mix(h[0], uint64(p.since)), mix(h[1], uint64(p.since))}, known
}

package fleet

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	termLife  = 10 * time.Second // of a lease: how long the work may rest when a leader dies
	termEvery = 3 * time.Second  // it is renewed
	termSpare = 2 * time.Second  // a leader stops so long before the next one may begin
	leaseName = "leader"
)

// Leases are granted to one holder at a time; *store.Shared does.
type Leases interface {
	Lead(ctx context.Context, name string, ttl time.Duration) (held bool, fence int64, err error)
	Resign(ctx context.Context, name string) error
}

// A Leader knows whether this node does the work of which one is enough: rotating
// keys, removing what has expired. While nobody can be asked nobody leads; that
// work can wait. It is safe for concurrent use.
type Leader struct {
	leases Leases
	log    *slog.Logger

	mu    sync.Mutex
	term  context.Context //nolint:containedctx // is what a Leader is about: it ends with the lease
	end   context.CancelFunc
	timer *time.Timer
	fence int64
}

// NewLeader asks for the lease once, so that a node of its own leads from the start.
func NewLeader(ctx context.Context, leases Leases, log *slog.Logger) *Leader {
	l := &Leader{leases: leases, log: log}
	l.ask(ctx)
	return l
}

// Run asks for the lease, and renews it, until ctx ends; then it is given up.
func (l *Leader) Run(ctx context.Context) {
	tick := time.NewTicker(termEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			l.mu.Lock()
			held := l.leading()
			l.stop()
			l.mu.Unlock()
			if held {
				done, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
				defer cancel()
				if err := l.leases.Resign(done, leaseName); err != nil {
					l.log.Warn("the lease of the leader was not given up; the next one waits for its end", slog.Any("error", err))
				}
			}
			return
		case <-tick.C:
			l.ask(ctx)
		}
	}
}

func (l *Leader) ask(ctx context.Context) {
	asked := time.Now() // the lease began later
	held, fence, err := l.leases.Lead(ctx, leaseName, termLife)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil: // until the term is over it is ours, whatever becomes of the engine
		return
	case !held:
		if l.leading() {
			l.log.Info("this node leads no more")
		}
		l.stop()
		return
	}
	left := termLife - termSpare - time.Since(asked)
	if left <= 0 {
		return // it was so long on its way that it may be over
	}
	if l.leading() && fence == l.fence && l.timer.Reset(left) {
		return
	}
	l.stop()
	l.term, l.end = context.WithCancel(context.WithoutCancel(ctx))
	l.fence, l.timer = fence, time.AfterFunc(left, l.end)
	l.log.Info("this node leads", slog.Int64("term", fence))
}

func (l *Leader) leading() bool { return l.term != nil && l.term.Err() == nil }

func (l *Leader) stop() {
	if l.end != nil {
		l.timer.Stop()
		l.end()
	}
}

// Leads reports whether this node leads now, and the number of its term.
func (l *Leader) Leads() (bool, int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leading(), l.fence
}

// Do runs work if this node leads, and does nothing if not. Work's context ends
// with the term, two seconds before another node can begin with the same.
func (l *Leader) Do(ctx context.Context, work func(context.Context) error) error {
	l.mu.Lock()
	term, leads := l.term, l.leading()
	l.mu.Unlock()
	if !leads {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(term, cancel)()
	err := work(ctx)
	if term.Err() != nil {
		return nil // what was begun is for the next leader
	}
	return err
}

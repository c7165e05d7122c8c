package ratelimit

import (
	"context"
	"encoding/binary"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/store"
)

// An Engine keeps the schedules that the nodes of a fleet share; [*store.Shared]
// is one.
type Engine interface {
	Take(ctx context.Context, asks []store.Ask, out []store.Grant) ([]store.Grant, error)
	Count() int   // nodes of the fleet; while the engine is away, as many as there last were
	Remote() bool // false: it is the memory of this process, and this node is alone
}

const (
	leased     = 20                     // one of so many tokens of a burst may be in the hands of the nodes: 5 %
	leaseTick  = 50 * time.Millisecond  // between two renewals that nobody waits for
	leaseWait  = 250 * time.Millisecond // how long a request waits for the engine's answer
	maxWaiters = 4096                   // requests that wait on this node; what is more decides alone
	maxAsks    = 512                    // in one call
)

// A bank keeps what the nodes' leases are taken from: the fleet's engine, or the
// database with the quotas. Grants are in the order of asks, which are for the
// keys of orders.
type bank interface {
	take(ctx context.Context, orders []order, asks []store.Ask, out []store.Grant) ([]store.Grant, error)
	probe(ctx context.Context) error // nil: it answers again
	nodes() int
}

// A pace is how eagerly one kind of lease is renewed and returned.
type pace struct {
	wait   time.Duration // how long a request waits for its answer
	tick   time.Duration // between two rounds of renewals
	gap    time.Duration // least time between two calls: what comes meanwhile goes in one
	ahead  time.Duration // a lease lasts so long
	idle   time.Duration // one that nobody used for so long is given back
	recall time.Duration // a refusal is remembered for at most so long
	sweep  time.Duration // between two looks for idle ones
	shy    time.Duration // for so long a new node lends nothing: it may not know the others yet, nor they it

	// When the bank is back nothing is taken for so long: what the nodes spent
	// meanwhile is to be charged first.
	regroup time.Duration
}

// leases are what this node may give out without asking. A key's lease is spent
// under its shard's lock and renewed by one goroutine, many in one call.
type leases struct {
	bank  bank
	pace  pace
	quota bool // of calendar quotas: what cannot be counted is refused
	clock func() int64
	spill func(limit *Limit, step func(tat int64) (int64, Result)) Result
	log   *slog.Logger
	most  int // keys in a shard

	wake    chan struct{}
	waiting atomic.Int64
	away    atomic.Pointer[error] // why the bank does not answer; nil: it does
	outages atomic.Uint32         // how often it went away
	crew    atomic.Int64          // how many nodes there were when it did
	ended   atomic.Bool           // nothing more is kept in hand
	pool    sync.Pool             // of waiters
	shard   [shards]leaseShard

	// Of the one goroutine that renews.
	charging bool // the bank is back, and is told what was spent without it
	orders   []order
	asks     []store.Ask
	grants   []store.Grant
}

type leaseShard struct {
	mu  sync.Mutex
	of  map[[2]uint64]*lease
	due []*lease    // that have something to ask or to tell
	any atomic.Bool // there are due ones
	_   [64]byte    // its own cache line
}

// A lease is what this node knows of one key, and has in hand of it. Times are of
// the node's clock.
type lease struct {
	name  [16]byte // at the bank
	place [16]byte // of a key that anybody can make, at the bank of quotas; else zero
	limit *Limit
	since int64 // of a quota: its period, in Unix milliseconds
	until int64

	held  int64 // tokens in hand, granted already
	from  int64 // when the oldest of them came
	size  int64 // how many are worth having
	taken int64 // spent since the last renewal
	at    int64 // when that was

	credit int64 // tokens that may be spent before the bank was ever asked
	spent  int64 // tokens spent without a grant, to be charged
	back   int64 // tokens to be given back

	tat  int64 // the schedule as the bank told it; of a quota, the end of the period
	left int64 // tokens there
	ours int64 // the schedule of this node's share, while the bank is away

	denied int64 // requests of so many tokens, or more, are refused
	barred int64 // until then
	retry  int64 // when it is worth asking again
	alone  int64 // the bank cannot be asked about this key until then
	heard  int64 // when the bank last answered

	standing standing // of the one goroutine that renews

	used    int64 // last time somebody asked for it
	outage  uint32
	due     bool
	look    bool // there is nothing to ask for, but an answer is wanted
	waiters *waiter
	last    *waiter
}

// A waiter is a request that waits for the bank's answer.
type waiter struct {
	cost  int64
	done  chan Result
	timer *time.Timer
	next  *waiter
	over  bool // it was answered
	gone  bool // nobody waits any more
}

func newLeases(b bank, p pace, log *slog.Logger) *leases {
	f := &leases{bank: b, pace: p, log: log, wake: make(chan struct{}, 1)}
	f.pool.New = func() any {
		w := &waiter{done: make(chan Result, 1), timer: time.NewTimer(time.Hour)}
		w.timer.Stop()
		return w
	}
	return f
}

// nodes is how many nodes there are. An engine that comes back empty does not know
// them all at once: until it does, as many as there were.
func (f *leases) nodes() int64 {
	n := int64(f.bank.nodes())
	if f.away.Load() != nil {
		n = max(n, f.crew.Load())
	}
	return n
}

// budget is how many tokens of the limit this node may have in hand at once. It is
// none of a small limit: then every request is asked for.
func (f *leases) budget(limit *Limit, now int64) int64 {
	if now < int64(f.pace.shy) {
		return 0
	}
	return limit.burst / leased / f.nodes()
}

// room is how large a lease may be. Of rates the other half of the budget is what
// may be spent of a key that was never asked about.
func (f *leases) room(e *lease, now int64) int64 {
	n := f.budget(e.limit, now)
	if !f.quota {
		n -= n / 2
	}
	if e.limit.strict || e.limit.failures || e.standing == sharing || f.ended.Load() {
		return 0
	}
	return n
}

// take spends cost tokens of the key, or none.
func (f *leases) take(limit *Limit, key *Key, hash [2]uint64, p period, cost, now int64) Result {
	if cost < 1 || cost > limit.burst {
		return Result{Limit: limit, RetryAfter: limit.window} // no waiting will ever be enough
	}
	s := &f.shard[hash[0]%shards]
	s.mu.Lock()
	e := f.open(s, limit, key, hash, p, now)
	if e == nil {
		s.mu.Unlock()
		return f.full(limit, key, p, cost, now)
	}
	return f.spend(s, e, cost, now)
}

// spend is take of a key that has a lease. It unlocks s.
func (f *leases) spend(s *leaseShard, e *lease, cost, now int64) Result {
	e.used = now
	limit := e.limit
	var r Result
	switch {
	case cost <= e.held && !limit.strict:
		e.held -= cost
		e.taken += cost
		if e.held*4 < e.size && e.barred <= now {
			f.want(s, e, true)
		}
		r = e.result(f, true, now)
	case e.barred > now && cost >= e.denied:
		r = e.refused(f, now)
	case limit.failures:
		r = f.peek(s, e, cost, now)
	case f.lost(e, now):
		r = f.share(s, e, cost, now)
	case cost <= e.credit:
		e.credit -= cost
		e.spent += cost
		e.taken += cost
		f.want(s, e, false)
		r = e.result(f, true, now)
	default:
		return f.wait(s, e, cost)
	}
	s.mu.Unlock()
	return r
}

// charge spends cost tokens for what has been done already.
func (f *leases) charge(limit *Limit, key *Key, hash [2]uint64, p period, cost, now int64) {
	s := &f.shard[hash[0]%shards]
	s.mu.Lock()
	e := f.open(s, limit, key, hash, p, now)
	if e == nil {
		s.mu.Unlock()
		if limit.failures {
			f.spill(limit, func(tat int64) (int64, Result) { return limit.charge(tat, now, cost), Result{} })
		}
		return
	}
	defer s.mu.Unlock()
	e.used = now
	cost = min(cost, limit.burst)
	hand := min(cost, e.held)
	e.held -= hand
	e.taken += hand
	e.spent = min(e.spent+cost-hand, 2*limit.burst)
	e.credit = max(0, e.credit-(cost-hand))
	if limit.failures { // until the bank has answered
		e.tat = limit.charge(e.tat, now, cost)
	}
	if f.lost(e, now) && !f.quota {
		e.ours = limit.charge(e.ours, now, min(limit.burst, cost*f.nodes()))
	}
	f.want(s, e, limit.strict || limit.failures)
}

// open is the key's lease, a new one for a key that is new here; nil when there is
// no room.
func (f *leases) open(s *leaseShard, limit *Limit, key *Key, hash [2]uint64, p period, now int64) *lease {
	e := s.of[hash]
	if e != nil {
		e.limit = limit // a reload may have changed it
		return e
	}
	if len(s.of) >= f.most {
		return nil
	}
	e = &lease{name: limit.digest(key)}
	if f.quota { // who makes keys leaves room for those that were given out
		var open bool
		if e.place, open = limit.place(key); open && len(s.of) >= f.most/4*3 {
			return nil
		}
	}
	return f.enter(s, e, limit, hash, p, now)
}

func (f *leases) enter(s *leaseShard, e *lease, limit *Limit, hash [2]uint64, p period, now int64) *lease {
	if s.of == nil {
		s.of = map[[2]uint64]*lease{}
	}
	e.limit, e.since, e.until, e.at, e.outage = limit, p.since, p.until, now, f.outages.Load()
	switch {
	case f.quota:
		e.tat, e.left = now+p.left, limit.burst
	case limit.failures:
		e.look = true
		f.want(s, e, true)
	case !limit.strict:
		e.credit = f.budget(limit, now) / 2
	}
	s.of[hash] = e
	return e
}

// full answers for a key that there is no room for.
func (f *leases) full(limit *Limit, key *Key, p period, cost, now int64) Result {
	switch {
	case f.quota:
		if place, open := limit.place(key); open {
			return f.takePlace(place, limit, p, cost, now)
		}
		return unavailable(limit)
	case limit.strict:
		return unavailable(limit)
	}
	n := f.nodes()
	return f.spill(limit, func(tat int64) (int64, Result) { return limit.share(tat, now, cost, n) })
}

// takePlace spends of what the newcomers of one place share.
func (f *leases) takePlace(place [16]byte, limit *Limit, p period, cost, now int64) Result {
	hash := [2]uint64{binary.BigEndian.Uint64(place[:]), binary.BigEndian.Uint64(place[8:]) ^ uint64(p.since)}
	s := &f.shard[hash[0]%shards]
	s.mu.Lock()
	e := s.of[hash]
	if e == nil && len(s.of) < f.most {
		e = f.enter(s, &lease{name: place}, limit, hash, p, now)
	}
	if e == nil {
		s.mu.Unlock()
		return unavailable(limit)
	}
	e.limit = limit
	return f.spend(s, e, cost, now)
}

// lost reports whether the bank cannot be asked about e now.
func (f *leases) lost(e *lease, now int64) bool { return f.away.Load() != nil || e.alone > now }

// share decides alone: by this node's part of the limit, from where the schedule
// was when it was last heard of.
func (f *leases) share(s *leaseShard, e *lease, cost, now int64) Result {
	if f.quota || e.limit.strict {
		return unavailable(e.limit)
	}
	next, r := e.limit.share(e.ours, now, cost, f.nodes())
	if r.OK {
		e.ours = next
		e.spent += cost
		f.want(s, e, false)
	}
	return r
}

// peek asks whether a token is left, of a limit that only failures are charged to.
// It waits for nobody: what others were charged is heard of with each charge, and
// once a second.
func (f *leases) peek(s *leaseShard, e *lease, cost, now int64) Result {
	if f.lost(e, now) {
		_, r := e.limit.share(e.ours, now, cost, f.nodes())
		return r
	}
	if now-e.heard > int64(f.pace.recall) {
		e.look = true
		f.want(s, e, false)
	}
	_, r := e.limit.take(e.tat, now, cost)
	return r
}

// want has e renewed: soon, or with the next round.
func (f *leases) want(s *leaseShard, e *lease, soon bool) {
	if !e.due {
		e.due = true
		s.due = append(s.due, e)
		s.any.Store(true)
	} else if e.waiters == nil {
		return
	}
	if soon {
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
}

// wait has the bank asked for cost tokens and waits for the answer. It unlocks s.
func (f *leases) wait(s *leaseShard, e *lease, cost int64) Result {
	defer f.waiting.Add(-1)
	if f.waiting.Add(1) > maxWaiters { // as good as away
		defer s.mu.Unlock()
		return f.share(s, e, cost, f.clock())
	}
	w, _ := f.pool.Get().(*waiter)
	w.cost, w.next, w.over, w.gone = cost, nil, false, false
	if e.last == nil {
		e.waiters = w
	} else {
		e.last.next = w
	}
	e.last = w
	f.want(s, e, true)
	s.mu.Unlock()
	w.timer.Reset(f.pace.wait)
	select {
	case r := <-w.done:
		w.timer.Stop()
		f.pool.Put(w)
		return r
	case <-w.timer.C:
	}
	s.mu.Lock()
	if w.over {
		s.mu.Unlock()
		r := <-w.done
		f.pool.Put(w)
		return r
	}
	w.gone = true // who answers it finds nobody, and keeps what it brought
	defer s.mu.Unlock()
	return f.share(s, e, cost, f.clock())
}

// result is the state of the limit as this node knows it.
func (e *lease) result(f *leases, ok bool, now int64) Result {
	r := Result{OK: ok, Limit: e.limit, Reset: max(0, e.tat-now)}
	if f.quota {
		r.Remaining = e.left + e.held - e.spent
	} else {
		r.Remaining = (e.limit.tolerance-r.Reset)/e.limit.interval + e.held - e.spent
	}
	r.Remaining = max(0, min(r.Remaining, e.limit.burst))
	return r
}

func (e *lease) refused(f *leases, now int64) Result {
	r := e.result(f, false, now)
	r.RetryAfter = max(1, e.retry-now)
	return r
}

// unavailable refuses what cannot be counted now.
func unavailable(limit *Limit) Result {
	return Result{Limit: limit, Unavailable: true, RetryAfter: int64(time.Second)}
}

// share is [Limit.take] for one of n nodes that cannot hear each other: each has
// its part of the rate and of the burst, and at least one request at once. The
// schedule is that of all of them: where it is when they part, the parts together
// have what was left.
func (l *Limit) share(tat, now, cost, n int64) (next int64, r Result) {
	if cost < 1 || cost > l.burst || cost > (1<<62)/l.interval/n {
		return tat, l.result(false, max(tat, now)-now, l.window)
	}
	step := cost * l.interval * n
	ahead := min(max(tat, now)-now, max(l.ceiling, step))
	after := ahead + step
	if late := after - max(l.tolerance, step); late > 0 {
		return tat, l.result(false, ahead, late)
	}
	if l.failures {
		return tat, l.result(true, ahead, 0)
	}
	return now + after, l.result(true, after, 0)
}

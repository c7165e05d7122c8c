package ratelimit

import (
	"context"
	"log/slog"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/store"
)

// An order is what one ask is for.
type order struct {
	shard   *leaseShard
	lease   *lease
	limit   *Limit
	waiters *waiter // of one token each, or one that wants all of its tokens or none
	outage  uint32
}

// run renews leases until ctx ends, then gives back what is in hand.
func (f *leases) run(ctx context.Context) {
	tick, gap := time.NewTicker(f.pace.tick), time.NewTimer(f.pace.gap)
	defer tick.Stop()
	defer gap.Stop()
	var swept, probed, answered int64
	for {
		select {
		case <-ctx.Done():
			f.drain(ctx)
			return
		case <-tick.C:
		case <-f.wake:
		}
		now := f.clock()
		if now-swept >= int64(f.pace.sweep) {
			swept = now
			f.sweep(now)
		}
		switch {
		case f.away.Load() == nil:
			f.round(ctx)
		case f.charging:
			if f.round(ctx); f.charging && now-answered >= int64(f.pace.regroup) {
				f.charging = false
				f.settle(nil)
			}
		case now-probed >= int64(leaseWait):
			probed, answered = now, now
			err := f.bank.probe(ctx)
			if f.charging = err == nil && f.pace.regroup > 0; f.charging {
				f.remind(now)
			} else {
				f.settle(err)
			}
			f.round(ctx)
		}
		gap.Reset(f.pace.gap)
		select {
		case <-ctx.Done():
		case <-gap.C:
		}
	}
}

// settle notes whether the bank answers, and says so when that changes.
func (f *leases) settle(err error) {
	was := f.away.Load()
	switch {
	case err != nil && was == nil:
		f.outages.Add(1)
		f.crew.Store(int64(f.bank.nodes()))
		f.away.Store(&err)
		f.log.Error("requests cannot be counted with the other nodes", slog.String("instead", f.instead()), slog.Any("error", err))
	case err == nil && was != nil:
		f.away.Store(nil)
		f.log.Info("requests are counted with the other nodes again", slog.String("before", f.instead()))
	}
}

// instead is what becomes of limits while the bank is away.
func (f *leases) instead() string {
	if f.quota {
		return "quotas give what is in hand, and refuse then"
	}
	return "limits are divided among the nodes, strict ones refuse"
}

// round asks for all that is due, in calls of bounded size.
func (f *leases) round(ctx context.Context) {
	orders, asks, out := f.orders[:0], f.asks[:0], f.grants
	for i := range f.shard {
		s := &f.shard[i]
		if !s.any.Load() {
			continue
		}
		s.mu.Lock()
		due := s.due
		s.due = nil
		s.any.Store(false)
		for n, e := range due {
			if len(asks) >= maxAsks { // the rest goes with the next call, before what comes meanwhile
				s.mu.Unlock()
				out = f.call(ctx, orders, asks, out)
				orders, asks = orders[:0], asks[:0]
				s.mu.Lock()
			}
			due[n] = nil
			orders, asks = f.gather(s, e, orders, asks)
		}
		s.mu.Unlock()
	}
	if len(asks) > 0 {
		out = f.call(ctx, orders, asks, out)
	}
	f.orders, f.asks, f.grants = orders, asks, out
}

// gather turns what a due lease wants into asks. s is locked.
func (f *leases) gather(s *leaseShard, e *lease, orders []order, asks []store.Ask) ([]order, []store.Ask) {
	now, limit := f.clock(), e.limit
	e.due = false
	queue := e.waiters
	e.waiters, e.last = nil, nil
	ask := store.Ask{Key: e.name, Interval: time.Duration(limit.interval), Burst: limit.burst, Spent: e.spent, Back: e.back}
	if e.back > 0 {
		ask.Held = time.Duration(now - e.from)
	}
	if e.outage != f.outages.Load() && e.tat > now {
		ask.Ahead = time.Duration(e.tat - now)
	}
	if f.lost(e, now) {
		f.abandon(s, e, queue)
		queue, ask.Spent = nil, e.spent
		ask.Back, e.back = 0, 0 // charged it stays: whether it was given back already is not known
		if !f.charging && e.spent > 0 && !e.due {
			e.due = true // to be charged when the bank is back
			s.due = append(s.due, e)
			s.any.Store(true)
		}
		if !f.charging || e.spent == 0 && ask.Ahead == 0 {
			return orders, asks
		}
	}
	e.back = 0
	var ones, rest *waiter
	for w := queue; w != nil; {
		next := w.next
		w.next = nil
		switch {
		case w.gone:
			f.pool.Put(w)
		case e.barred > now && w.cost >= e.denied:
			w.answer(e.refused(f, now))
		case w.cost == 1:
			w.next, ones = ones, w
			ask.Want++
		default:
			w.next, rest = rest, w
		}
		w = next
	}
	if e.barred <= now && !f.charging {
		ask.Want += e.short(f, ask.Want, now)
	}
	first := len(asks)
	if ask.Want > 0 || ask.Spent > 0 || ask.Back > 0 || (e.look || f.charging) && rest == nil {
		orders = append(orders, order{s, e, limit, reversed(ones), f.outages.Load()})
		asks = append(asks, ask)
	}
	e.look = false
	for w := reversed(rest); w != nil; {
		next := w.next
		w.next = nil
		whole := ask
		whole.Want, whole.Whole = w.cost, true
		if len(asks) > first { // once is enough
			whole.Spent, whole.Back, whole.Held, whole.Ahead = 0, 0, 0, 0
		}
		orders = append(orders, order{s, e, limit, w, f.outages.Load()})
		asks = append(asks, whole)
		w = next
	}
	return orders, asks
}

// short is how many tokens more the lease should have: as many as were spent, or
// are waited for, in the time that it is to last, within its room.
func (e *lease) short(f *leases, wanted, now int64) int64 {
	room := f.room(e, now)
	if e.taken += wanted; room < 1 || e.taken == 0 {
		return 0
	}
	passed := max(now-e.at, int64(time.Millisecond))
	e.size = max(1, min(room, int64(float64(e.taken)*float64(f.pace.ahead)/float64(passed))))
	e.at, e.taken = now, 0
	return max(0, e.size-e.held)
}

func reversed(w *waiter) (out *waiter) {
	for w != nil {
		w, w.next, out = w.next, out, w
	}
	return out
}

// call asks the bank and hands out what it gave.
func (f *leases) call(ctx context.Context, orders []order, asks []store.Ask, out []store.Grant) []store.Grant {
	grants, err := f.bank.take(ctx, orders, asks, out)
	if err == nil && len(grants) != len(asks) {
		err = errGrants
	}
	if err != nil {
		f.charging = false
	}
	if ctx.Err() == nil && !f.charging { // who is told to stop does not say that the bank is away
		f.settle(err)
	}
	for i := range orders {
		o := &orders[i]
		o.shard.mu.Lock()
		switch {
		case err != nil:
			f.failed(o)
		case grants[i].Err != nil:
			o.lease.alone = f.clock() + int64(leaseWait)
			f.failed(o)
		default:
			f.apply(o, &asks[i], &grants[i])
		}
		o.shard.mu.Unlock()
		*o = order{}
	}
	return grants
}

// failed answers an order that came to nothing. What was spent is still to be
// charged; what was to be given back may have been, so it is not given again.
func (f *leases) failed(o *order) {
	e := o.lease
	f.abandon(o.shard, e, o.waiters)
	if e.spent > 0 || e.waiters != nil {
		f.want(o.shard, e, false)
	}
}

// abandon decides alone for requests whose answer does not come.
func (f *leases) abandon(s *leaseShard, e *lease, queue *waiter) {
	now := f.clock()
	for w := queue; w != nil; {
		next := w.next
		if w.gone {
			f.pool.Put(w)
		} else {
			w.answer(f.share(s, e, w.cost, now))
		}
		w = next
	}
}

// apply takes note of a grant and gives it to who waits.
func (f *leases) apply(o *order, ask *store.Ask, g *store.Grant) {
	e, now := o.lease, f.clock()
	e.spent -= min(e.spent, ask.Spent)
	e.credit, e.outage, e.heard, e.alone = 0, o.outage, now, 0
	e.tat, e.left = now+int64(g.Reset), g.Left
	if !f.charging { // until all nodes have charged what they spent, each goes on with its part
		e.ours = e.tat + e.spent*o.limit.interval
	}
	if o.limit.failures {
		e.tat += e.spent * o.limit.interval
	}
	tokens := g.Tokens
	switch {
	case tokens >= ask.Want:
		if ask.Want > 0 && g.Left > 0 {
			e.denied, e.barred = 0, 0
		}
	case !ask.Whole:
		e.bar(f, 1, int64(g.Retry), now)
	default:
		e.bar(f, ask.Want, int64(g.Retry), now)
	}
	for w := o.waiters; w != nil; {
		next := w.next
		switch {
		case w.gone: // its token stays here
			f.pool.Put(w)
		case tokens >= w.cost:
			tokens -= w.cost
			w.answer(e.result(f, true, now))
		default:
			w.answer(e.refused(f, now))
		}
		w = next
	}
	if tokens > 0 {
		if e.held == 0 {
			e.from = now
		}
		e.held += tokens
	}
	f.surplus(o.shard, e, now)
	if e.waiters != nil {
		f.want(o.shard, e, true)
	}
}

// bar remembers a refusal, so that the next ones cost no call.
func (e *lease) bar(f *leases, cost, wait, now int64) {
	if e.barred > now && e.denied < cost {
		return // known already
	}
	wait = max(wait, 1)
	e.denied, e.barred, e.retry = cost, now+min(wait, int64(f.pace.recall)), now+wait
}

// surplus gives back what is more than the lease may be.
func (f *leases) surplus(s *leaseShard, e *lease, now int64) {
	if more := e.held - f.room(e, now); more > 0 {
		e.held -= more
		e.back += more
		f.want(s, e, false)
	}
}

func (w *waiter) answer(r Result) {
	w.next, w.over = nil, true
	w.done <- r // has room for the one there is
}

// sweep has idle leases given back and forgets those that say nothing.
func (f *leases) sweep(now int64) {
	for i := range f.shard {
		s := &f.shard[i]
		s.mu.Lock()
		for hash, e := range s.of {
			idle := now-e.used > int64(f.pace.idle)
			switch {
			case e.due:
			case idle && e.held > 0:
				e.back += e.held
				e.held, e.size = 0, 0
				f.want(s, e, false)
			case e.held > 0:
				f.surplus(s, e, now)
			case idle && e.barred <= now && (f.quota || max(e.tat, e.ours) <= now):
				delete(s.of, hash)
			}
		}
		s.mu.Unlock()
	}
}

// remind has the bank told of every key what this node knows: one that has
// forgotten would give each its whole burst again.
func (f *leases) remind(now int64) {
	for i := range f.shard {
		s := &f.shard[i]
		s.mu.Lock()
		for _, e := range s.of {
			if e.tat > now {
				f.want(s, e, false)
			}
		}
		s.mu.Unlock()
	}
}

// drain charges what was spent and gives back what was not.
func (f *leases) drain(ctx context.Context) {
	f.ended.Store(true)
	if f.away.Load() != nil {
		return
	}
	for i := range f.shard {
		s := &f.shard[i]
		s.mu.Lock()
		for _, e := range s.of {
			if e.held > 0 {
				e.back += e.held
				e.held, e.size = 0, 0
				f.want(s, e, false)
			}
		}
		s.mu.Unlock()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseWait)
	defer cancel()
	f.round(ctx)
}

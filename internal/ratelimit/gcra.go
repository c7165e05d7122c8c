package ratelimit

// take is GCRA as arithmetic alone (ITU-T I.371 annex A; the "virtual
// scheduling" form). tat is the theoretical arrival time: the moment at which a
// caller who stays away has its whole burst back. All times are nanoseconds of
// one clock.
//
// A caller may run ahead of its schedule by burst tokens. Whatever the order of
// calls, of any window of length w at most burst + w/interval tokens are given
// out.
func (l *Limit) take(tat, now, cost int64) (next int64, r Result) {
	tat = l.bounded(tat, now)
	ahead := max(tat, now) - now
	if cost < 1 || cost > l.burst {
		return tat, l.result(false, ahead, l.window) // no waiting will ever be enough
	}
	after := ahead + cost*l.interval
	if late := after - l.tolerance; late > 0 {
		return tat, l.result(false, ahead, late)
	}
	if l.failures { // whether this request fails is not known yet
		return tat, l.result(true, ahead, 0)
	}
	return now + after, l.result(true, after, 0)
}

// charge takes cost tokens for what has been done already: as many as there are,
// and of a limit of failures as many as can be owed.
func (l *Limit) charge(tat, now, cost int64) (next int64) {
	ahead := max(l.bounded(tat, now), now) - now
	return now + min(l.ceiling, ahead+min(cost, l.burst)*l.interval)
}

// bounded repairs a schedule that no sequence of calls leads to: it comes of
// another rate before a reload, and must not lock the caller out for longer than
// this limit ever would.
func (l *Limit) bounded(tat, now int64) int64 { return min(tat, now+l.ceiling) }

func (l *Limit) result(ok bool, ahead, wait int64) Result {
	r := Result{OK: ok, Limit: l, Remaining: max(0, (l.tolerance-ahead)/l.interval), Reset: ahead}
	if !ok {
		r.RetryAfter = max(wait, 1)
	}
	return r
}

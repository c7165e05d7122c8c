package ratelimit

import "time"

// Period is the period of a quota that t is in.
func Period(l *Limit, t time.Time) (since, until time.Time) {
	p := l.quota.at(t)
	return time.UnixMilli(p.since), time.UnixMilli(p.until)
}

package ratelimit

import "time"

// NewLimit is [Compile] for a limit that has nothing but these.
func NewLimit(name, by, rate string, burst int) (*Limit, error) {
	return Compile(Spec{Name: name, By: by, Rate: rate, Burst: burst})
}

// Period is the period of a quota that t is in.
func Period(l *Limit, t time.Time) (since, until time.Time) {
	p := l.quota.at(t)
	return time.UnixMilli(p.since), time.UnixMilli(p.until)
}

// Same reports whether two keys are one for a node, and one for the fleet. known is
// false where one of them is nobody.
func Same(l *Limiter, lim *Limit, a, b *Key) (node, fleet, known bool) {
	h, ok1 := l.hash(lim, a)
	g, ok2 := l.hash(lim, b)
	return h == g, lim.digest(a) == lim.digest(b), ok1 && ok2
}

// Window is the window of a rate.
func Window(l *Limit) time.Duration { return time.Duration(l.window) }

// Bound makes q keep rows of so many keys that anybody can make, of one place and
// of all.
func (q *Quotas) Bound(each, all int64) { q.places.each, q.places.all = each, all }

// Only has what is over deleted by only.
func (q *Quotas) Only(only OnlyOne) { q.only = only }

// Package ratelimit counts how often each caller may ask. Practice 9.
//
// It owns the arithmetic (GCRA, the generic cell rate algorithm of ITU-T I.371),
// the bounded table that remembers one number for each caller and limit, and
// the RateLimit headers. It hides where a key is counted and what happens when
// the table is full.
//
// It trusts its caller to say who is asking: an address after trusted hops have
// been resolved, a principal after authentication. What it remembers may be
// lost: after a restart everyone has a full burst again. Whoever could write
// the table could let a key through or lock it out; nobody can, it is memory.
// Keys are stored only as keyed hashes, so a caller cannot choose keys that
// collide, nor can a memory dump be read as a list of users.
//
// It fails closed: a zero [Limit], an unknown key and a cost below one are
// refused; flooding the table with fresh keys moves the newcomers to one shared
// bucket instead of resetting anyone.
//
// Errors of [Parse] name the text and what was expected. What a caller sees is
// the problem rate_limited (429) with Retry-After.
//
//	limit, err := ratelimit.NewLimit("per-user", "principal", "100/min", 20)
//	res := limiter.Take(limit, ratelimit.KeyOf(address, principal, operation), 1, limiter.Now())
//	if !res.OK {
//		return ratelimit.Problem(res)
//	}
package ratelimit

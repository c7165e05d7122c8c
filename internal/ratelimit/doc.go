// Package ratelimit counts how often each caller may ask. Practice 9.
//
// It owns the arithmetic (GCRA, the generic cell rate algorithm of ITU-T I.371),
// the bounded table that remembers one number for each caller and limit, what
// nodes lend of limits they share, calendar quotas, and the RateLimit headers. It
// hides where a key is counted and what happens when the table is full.
//
// It trusts its caller to say who is asking: an address after trusted hops have
// been resolved, a principal after authentication. What it remembers of rates may
// be lost: after a restart everyone has a full burst again. Whoever could write
// the table could let a key through or lock it out; nobody can, it is memory.
// Keys are stored only as keyed hashes, so a caller cannot choose keys that
// collide, nor can a memory dump be read as a list of users.
//
// In a fleet ([Config].Engine) the schedule of a key lives at the engine, and a
// node holds a lease: tokens granted already, which it spends without asking. It
// renews many leases in one call, asks for those in use before they run out, and
// gives back what nobody used for half a second. The bounds, of any window:
//
//   - All nodes together let through at most 5 % of the burst more than burst +
//     rate × window: that is what they may have in hand, or may have spent of keys
//     never seen before they asked. While a node was not heard of for two seconds
//     it has nothing in hand.
//   - Of a limit with burst ÷ 20 ÷ nodes below one, and of one that is strict,
//     nothing is in hand: each request waits for the engine, those that wait
//     together in one call, at most 250 ms. Nothing is let through too much.
//   - A refusal is remembered until a token is there, at most a second: it costs no
//     call.
//   - What is in hand at a node that is killed is lost, 5 % of the burst at most.
//
// While the engine is away each node goes on from the schedule it last heard, by its
// part of the rate and burst (at least one request); a key that only other nodes
// had seen can have its burst once more. When the engine is back each node goes on
// so for two seconds, charges what it spent, and tells every schedule it knows, for
// an engine that was started again empty has forgotten them. A node that never
// reached the engine since it started asks [Config].Nodes, or takes itself for
// alone. A strict limit refuses instead (limit_unavailable, 503): what is strict is
// what must not be guessed, sent or paid once too often, so that an hour without it
// costs less than one time too much.
//
// A calendar quota is counted in the database ([Quotas]), by leases too, which
// count as used when they are taken: nothing is ever given twice. What is in hand,
// at most 5 % of the quota at all nodes, is lost with kill -9 and given back at an
// orderly end. While the database is away what is in hand is spent, then it refuses
// (limit_unavailable). Each key and period is a row until a day after its end. Of
// keys that anybody can make, by address or by an expression, so many have rows for
// each place (who was authenticated, or a wide network) and in all; the newcomers of
// a place that is full share one.
//
// At the engine and in the database keys are SHA-256 digests, which every node
// computes alike: who can read there can test whether a key he guesses was counted,
// who can write there sets the counts.
//
// It fails closed: a zero [Limit], an unknown key and a cost below one are
// refused; flooding the table with fresh keys moves the newcomers to one shared
// bucket instead of resetting anyone.
//
// Errors of [Parse] name the text and what was expected. What a caller sees is
// the problem rate_limited (429) with Retry-After, or limit_unavailable (503).
//
//	limit, err := ratelimit.Compile(ratelimit.Spec{Name: "per-user", By: "principal", Rate: "100/min", Burst: 20})
//	res := limiter.Take(limit, ratelimit.KeyOf(address, principal, operation), 1, limiter.Now())
//	if !res.OK {
//		return ratelimit.Problem(res)
//	}
package ratelimit

// Package ddos answers whether there is room for a request, and who sends too many.
// Practice 10.
//
// It owns [Capacity]: how many requests a service can take at once, found out from
// how long its answers take, and who goes first when more want in; the [Guard]: which
// sources of requests stand out and are to be slowed down or kept out; and the
// [Book]: bans and the switch for attacks, for all nodes and beyond a restart. It
// hides the control loops, the bounded tables behind them, the line in which requests
// wait, and how CrowdSec and the kernel are spoken to.
//
// It trusts its caller to say who is asking and what the operation is worth: an
// address after trusted hops have been resolved, a principal after authentication.
// What it counts is memory and may be lost: after a restart each service is learnt
// anew, and nobody is known. Callers are kept as keyed hashes, so that none can be
// aimed at by a collision, nor a memory dump be read as a list. The book is rows in
// the database: who can write there bans and lifts bans, who can read there can
// pass challenges, too. To lose it forgets the bans.
//
// It fails closed: the zero [Request] is the first to be refused, a line that is
// full refuses, and no table grows with the number of callers.
//
// Errors are [*gatehouse.Problem]: overloaded (503) with a Retry-After that is not
// the same for all, so that they do not all come back at once.
//
//	room, err := ddos.NewCapacity(ddos.CapacityConfig{Max: 1000})
//	token, err := room.Acquire(ctx, ddos.Request{Who: who, Priority: ddos.Critical})
//	took, err := ask(service)          // until the head of its answer
//	token.Heard(ddos.Answered, took)   // streams end much later
//	token.Release()
package ddos

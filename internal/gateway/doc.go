// Package gateway is the enforcement point. Practice 5, and the place where
// practices 1, 2, 8, 9 and 12 meet one request.
//
// It owns the way of a request through the checks to the service and back, the
// [Snapshot] that decides it, and the connections to the services. It hides how
// a request travels to a service (a synchronous lane for HTTP/1.1, an
// http.Transport for HTTP/2, a call for a service in this process) and how
// answers are written.
//
// It trusts its snapshot, which was compiled and tested before it is swapped in,
// and nothing a caller or a service sends. It stores nothing; what it knows
// about a request goes into one [gatehouse.Event].
//
// Errors of the checks are [*gatehouse.Problem]; anything else becomes a bland
// 500. Only close writes them.
//
//	g, err := gateway.New(gateway.Deps{Record: events, Meter: meter, Limiter: limiter, NewID: newID})
//	old := g.Swap(snapshot)                   // requests in flight finish on the old one
//	s := http1.NewServer(conf, g.On(trusted)) // for each listener
package gateway

// Package http1 is the strict edge of Gatehouse's HTTP: the server half reads
// every HTTP/1.1 message's bytes before anybody else does and refuses what two
// implementations could read differently; the upstream half carries requests to
// services. It serves practice 8 (strict input) and practice 10 (a caller may
// not hold the gateway up); the other practices stand on its framing.
//
// It owns the connections of callers: how many, how long, how slow, and where
// one message ends. It hides that it serves HTTP/1.x itself, that net/http does
// for who switches protocols, and that HTTP/2 takes another road: [CheckRequest]
// holds requests of all to the same rules. What a handler gets is lent: request,
// header map and writer are its own until it returns, and nobody may keep them.
//
// It trusts the operating system's word on who the peer is, that of the proxies in
// [Config].Proxy on whom they speak for, and crypto/tls. It
// stores nothing. Losing a connection loses one request; a forged message
// boundary would let one caller's bytes be read as another caller's request
// (request smuggling), which is what the checks are for.
//
// Every refusal is a *gatehouse.Problem: those found in a head are answered
// here (the handler never runs) and told to [Config].OnRefuse, those found in a
// body are what reading the body returns, and [CheckRequest] returns its own.
//
//	s := http1.NewServer(http1.Config{OnRefuse: record}, handler)
//	go func() { served <- s.Serve(listener, tlsConfig) }()
//	...
//	err := s.Shutdown(ctx) // waits for requests under way
package http1

// Package cache remembers answers of services (RFC 9111), for operations that
// declare it; practice 5 and 10.
//
// It owns what may be kept, for how long, and for whom: [Judge] reads an answer's
// head, an [Answer] tells whether it is fresh, may stand in for a service that
// fails, or is what the caller has already. It hides the memory: bounded at every
// moment, split so that requests do not wait for one another, what was asked for
// twice outliving what was asked for once, so that a scan through a thousand
// names does not push out what everybody reads.
//
// It is a shared cache before many callers, and trusts what its caller puts into
// the [Key] to be all that the service could see: the gateway sends a service
// nothing that is not in the key. Who could store an answer under the key of
// another caller would speak in the service's name (cache poisoning), or read what
// was meant for somebody else (cache deception): keys are compared byte for byte,
// never by a hash, and no answer with Set-Cookie, private, no-store or a status
// of refusal is kept. Losing all of it costs requests to the services, nothing else.
//
// There are no errors here: what cannot be kept is not.
//
//	c := cache.New(64 << 20)
//	since := c.Since(key) // before the service is asked
//	if a := cache.Judge(policy, status, fields, asked, time.Now()); a != nil {
//		c.Put(key, since, a.With(body))
//	}
package cache

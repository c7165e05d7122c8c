package config

import (
	"maps"
	"net/http"
	"slices"
	"time"
)

// Cache is what all operations that keep answers share.
type Cache struct {
	Memory Size  `yaml:"memory" default:"64MiB" min:"8MiB" max:"64GiB" doc:"For all answers kept by this node. What was asked for least makes room; one answer may be of 1 MiB."`
	Place  Place `yaml:"-"`
}

// Caching is how one operation keeps answers.
type Caching struct {
	TTL          time.Duration `yaml:"ttl" default:"0s" min:"0s" max:"720h" doc:"How long an answer (200, 203, 204, 300, 301, 308) is fresh that says nothing about it. Default: it is not kept; what Cache-Control and Expires say counts."`
	StaleIfError time.Duration `yaml:"stale_if_error" default:"0s" min:"0s" max:"720h" doc:"How long after that it may be given while the service fails (RFC 5861), unless it says something else itself, or must-revalidate."`
	StaleRefresh time.Duration `yaml:"stale_while_revalidate" default:"0s" min:"0s" max:"720h" doc:"How long after that it is given at once to those who ask while one request, which waits, fetches it anew (RFC 5861), unless it says something else itself, or must-revalidate. Default: all wait for that one."`
	Shared       bool          `yaml:"shared" doc:"Where callers must authenticate, answers are kept for each of them alone. true: those that say public or s-maxage are for all who may ask (RFC 9111 §3.5)."`
	Vary         []Text        `yaml:"vary" format:"header" max:"8" doc:"Fields of the request that answers depend on, beside Accept, Accept-Encoding and the document's parameters, like Accept-Language. The service gets no others."`
	Place        Place         `yaml:"-"`
}

// unkeyed are fields that no answer may depend on: who calls is in the key already,
// the rest is the gateway's to judge or to write.
var unkeyed = []string{
	"Authorization", "Cookie", "Dpop", "Host", "Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range",
	"Connection", "Content-Length", "Content-Type", "Transfer-Encoding", "Te", "Upgrade", "Expect", "Forwarded", "Via", "Accept", "Accept-Encoding",
}

// caching refuses what would keep one caller's answer for another, or nothing.
func (c *checker) caching(o *Operation, at string) {
	k := o.Cache
	if k == nil {
		return
	}
	switch {
	case o.Closed:
		c.errorf(k.Place, "%s is closed: its cache would never be asked", at)
	case o.Upgrade != "":
		c.errorf(k.Place, "%s upgrades to %s; there is no answer to keep", at, o.Upgrade)
	case o.GraphQL != nil:
		c.errorf(k.Place, "%s is a GraphQL endpoint, asked by POST; only answers to GET are kept", at)
	}
	for _, v := range k.Vary {
		if slices.Contains(unkeyed, http.CanonicalHeaderKey(v.Value)) {
			c.errorf(v.Place, "%s.cache: vary: %s is in the key already, or never goes to a service of this operation", at, v.Value)
		}
	}
}

// cachedAPI refuses a cache where the service gets the caller's own credential: what
// it answers then depends on what the gateway does not judge.
func (c *checker) cachedAPI(a *API, at string) {
	if a.Upstream.Token != "pass" {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(a.Operations)) {
		if k := a.Operations[id].Cache; k != nil {
			c.errorf(k.Place, "%s.operations.%s: cache needs upstream.token internal or none; with pass, the service sees credentials that are not in the key", at, id)
		}
	}
}

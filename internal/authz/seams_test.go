package authz_test

import (
	"net/netip"
	"time"
)

var (
	noAddress      netip.Addr
	mappedAddress  = netip.MustParseAddr("::ffff:10.0.0.1")
	outsideAddress = netip.MustParseAddr("192.0.2.1")
	noTime         time.Time
)

// A random is a small generator that gives every run the same policies.
type random struct{ state uint64 }

func newRandom(seed uint64) *random { return &random{seed} }

func (r *random) next(n int) int {
	r.state = r.state*6364136223846793005 + 1442695040888963407
	return int((r.state >> 33) % uint64(n))
}

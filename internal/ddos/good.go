package ddos

import (
	"net/netip"
	"time"
)

// vouch notes that a request with valid credentials came from a, and so from its
// networks. Only who has such credentials can push out what is remembered.
func (g *Guard) vouch(a netip.Addr, now time.Time) {
	list, n := sources(a)
	for _, of := range list[:n] {
		g.good.Saw(Who(g.census.hash(of)), now)
	}
}

// vouched reports whether a good request came from s of late.
func (g *Guard) vouched(s source, now time.Time) bool { return g.good.Is(Who(g.census.hash(s)), now) }

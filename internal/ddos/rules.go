package ddos

import (
	"net/netip"
	"slices"

	"github.com/gatehouse-api/gatehouse/internal/networks"
)

// NetworkRules say what is done about callers of named networks: allow is asked
// first, then deny, then challenge, each about every list the address is in. A zero
// Names fits nobody.
type NetworkRules struct {
	Of                     *networks.Set // nil: no address has a name
	Allow, Deny, Challenge Names
}

// Names are networks by the names the operator's files give them.
type Names struct {
	Lists     []string
	ASNs      []uint32
	Countries []string // ISO 3166-1 alpha-2
}

// A namer is Names to look up.
type namer struct {
	lists     map[string]bool
	asns      map[uint32]bool
	countries map[string]bool
}

func (n *Names) compile() *namer {
	if len(n.Lists)+len(n.ASNs)+len(n.Countries) == 0 {
		return nil
	}
	out := &namer{map[string]bool{}, map[uint32]bool{}, map[string]bool{}}
	for _, v := range n.Lists {
		out.lists[v] = v != ""
	}
	for _, v := range n.ASNs {
		out.asns[v] = v != 0
	}
	for _, v := range n.Countries {
		out.countries[v] = v != ""
	}
	return out
}

// fits asks for every list an address is in: a short prefix that is refused is not
// left by an address that another list names, too.
func (n *namer) fits(of networks.Of, lists []string) bool {
	return n != nil && (n.asns[of.ASN] || n.countries[of.Country] || slices.ContainsFunc(lists, func(l string) bool { return n.lists[l] }))
}

// rules are NetworkRules to ask.
type rules struct {
	of                     *networks.Set
	allow, deny, challenge *namer
}

// compile gives nil when nothing stands in r.
func (r *NetworkRules) compile() *rules {
	out := &rules{r.Of, r.Allow.compile(), r.Deny.compile(), r.Challenge.compile()}
	if r.Of == nil || out.allow == nil && out.deny == nil && out.challenge == nil {
		return nil
	}
	return out
}

// step is what the rules say about a; allowed that they let it pass whatever else
// was found out about it.
func (r *rules) step(a netip.Addr) (step Step, allowed bool) {
	of, lists := r.of.Of(a), r.of.Lists(a)
	switch {
	case r.allow.fits(of, lists):
		return Pass, true
	case r.deny.fits(of, lists):
		return Deny, false
	case r.challenge.fits(of, lists):
		return Challenge, false
	}
	return Pass, false
}

package ddos

import "net/netip"

// A NetworkRule says what is done about callers from a network that has a name.
// Exactly one of List, ASN and Country is given.
type NetworkRule struct {
	Step    Step // Deny, Challenge or Pass, which is asked first
	List    string
	ASN     uint32
	Country string // ISO 3166-1 alpha-2
}

// Package networks tells to which network an address belongs: a named list of
// the operator's, an autonomous system, a country. Practices 9 and 10 count and
// refuse by it.
//
// It owns the reading of the files that say so and the table they become, which
// is immutable and answers without a lock and without allocating. It hides the
// formats: a prefix on each line, CSV with prefixes or ranges, the JSON of Fastly and
// of AWS; and it has the address lists of the CDNs that publish short ones, see [CDN].
//
// It trusts the files: who can write them chooses who is let through, and who
// is counted as whom. They are no secret and are kept nowhere else. What an
// address says about a person is a guess; a country or an AS may be wrong, a list
// of one's own is not.
//
// Errors name file:line and are the operator's. A file with one line that cannot
// be read is refused whole: half a list would let through what the other half
// names. An address in no network gives the zero [Of], as does a nil [Set].
//
//	s, err := networks.Load(networks.Config{
//		Lists: []networks.List{{Name: "office", Prefixes: offices}, {Name: "tor", File: "tor.txt"}},
//		ASN:   "asn.csv", Country: "country.csv",
//	})
//	if of := s.Of(address); slices.Contains(s.Lists(address), "tor") || of.ASN == 64500 { … }
package networks

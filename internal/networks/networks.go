package networks

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
)

// A List is prefixes under a name: those given here and those of a file.
type List struct {
	Name     string
	Prefixes []netip.Prefix
	File     string // a prefix or an address on each line, # begins a comment; "" for none
}

// A Config says what is loaded. Everything may be left out.
type Config struct {
	Lists   []List
	ASN     string // file: CSV "prefix,asn" or "first,last,asn"
	Country string // file: CSV "prefix,country" or "first,last,country"
}

// Of is what is known about an address; zero fields are not known.
type Of struct {
	List    string // the one with the longest prefix; of equally long ones the first in the [Config]. See [Set.Lists]
	ASN     uint32 // autonomous system number
	Country string // ISO 3166-1 alpha-2, in capitals
}

// A Set is a loaded [Config]. It is immutable; nil knows nothing.
type Set struct {
	v4, v6 table
	of     []Of       // what the tables point to; the first is zero
	lists  [][]string // of each of them
	names  []string
	digest string
	size   int
}

// Load reads everything c names. An error names the file and its line.
func Load(c Config) (*Set, error) {
	s := &Set{}
	b := &builder{}
	sum := sha256.New()
	for _, l := range c.Lists {
		if l.Name == "" || slices.Contains(s.names, l.Name) {
			return nil, fmt.Errorf("networks: list %q: a list needs a name of its own", l.Name)
		}
		s.names = append(s.names, l.Name)
		prefixes := l.Prefixes
		if l.File != "" {
			more, err := readList(l.File, sum)
			if err != nil {
				return nil, err
			}
			prefixes = slices.Concat(prefixes, more)
		}
		_, _ = fmt.Fprintf(sum, "\x00list %q %v\x00", l.Name, l.Prefixes)
		for _, p := range prefixes {
			p, err := plain(p)
			if err == nil {
				err = b.add(p, kindList, uint32(len(s.names)))
			}
			if err != nil {
				return nil, fmt.Errorf("networks: list %q: %w", l.Name, err)
			}
		}
	}
	for _, in := range []struct {
		file string
		kind kind
	}{{c.ASN, kindASN}, {c.Country, kindCountry}} {
		_, _ = fmt.Fprintf(sum, "\x00%d %t\x00", in.kind, in.file != "")
		if in.file == "" {
			continue
		}
		if err := b.readTable(in.file, in.kind, sum); err != nil {
			return nil, err
		}
	}
	s.size = len(b.v4) + len(b.v6)
	b.build(s)
	s.digest = hex.EncodeToString(sum.Sum(nil))
	return s, nil
}

// Of tells what is known about a. A mapped address counts as IPv4, a zone does
// not count. It does not allocate.
func (s *Set) Of(a netip.Addr) Of {
	if s == nil {
		return Of{}
	}
	return s.of[s.find(a)]
}

// Lists names every list that a is in: from the longest prefix to the shortest, equally
// long ones as in the [Config]. Who refuses by a list asks for all: an address does
// not leave one by being in another one, too. It does not allocate; do not change it.
func (s *Set) Lists(a netip.Addr) []string {
	if s == nil {
		return nil
	}
	return s.lists[s.find(a)]
}

// find gives the place in of and lists.
func (s *Set) find(a netip.Addr) uint32 {
	if !a.IsValid() {
		return 0
	}
	hi, lo, four := halves(a)
	if four {
		return s.v4.find(hi, 0)
	}
	return s.v6.find(hi, lo)
}

// Digest is a SHA-256 in hex over all that was loaded; "" of nil.
func (s *Set) Digest() string {
	if s == nil {
		return ""
	}
	return s.digest
}

// Len is the number of prefixes loaded.
func (s *Set) Len() int {
	if s == nil {
		return 0
	}
	return s.size
}

// A kind is what a prefix says about its addresses.
type kind int

const (
	kindList kind = iota
	kindASN
	kindCountry
	kinds
)

// plain gives p as it is looked up: IPv4 as IPv4, no bits beyond the mask.
func plain(p netip.Prefix) (netip.Prefix, error) {
	if !p.IsValid() {
		return p, fmt.Errorf("not a network")
	}
	if p != p.Masked() {
		return p, fmt.Errorf("%s has bits beyond its mask; write %s", p, p.Masked())
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return p, fmt.Errorf("%s is a network of mapped addresses; write it as IPv4", p)
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p, nil
}

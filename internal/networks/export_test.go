package networks

import (
	"net/netip"
	"strings"
)

// What Load and ReadRanges read of a file.
var (
	ParseList   = parseList
	ParseRanges = parseRanges
)

// Parsed is Load of what is in no file.
func Parsed(prefixes []netip.Prefix, asn, country string) (*Set, error) {
	s, b := &Set{names: []string{"l"}}, &builder{}
	for _, p := range prefixes {
		if err := b.add(p, kindList, 1); err != nil {
			return nil, err
		}
	}
	if err := b.readCSV("asn", strings.NewReader(asn), kindASN); err != nil {
		return nil, err
	}
	if err := b.readCSV("country", strings.NewReader(country), kindCountry); err != nil {
		return nil, err
	}
	b.build(s)
	return s, nil
}

package config

import (
	"maps"
	"net/netip"
	"slices"
)

// Networks says what is known about addresses.
type Networks struct {
	Lists   map[string]*NetworkList `yaml:"lists" keys:"name" doc:"Networks under names of your own. ddos.networks and request.networks ask for all that an address is in; limits per network, and request.network, for that with the longest prefix, of equal ones the first by name."`
	ASN     *Path                   `yaml:"asn" carried:"true" doc:"File that tells the autonomous system of an address: CSV of prefix,asn or first,last,asn. Read again when it changes."`
	Country *Path                   `yaml:"country" carried:"true" doc:"File that tells the country of an address: CSV of prefix,country or first,last,country with two letters (ISO 3166-1). Read again when it changes."`
	Place   Place                   `yaml:"-"`
}

// A NetworkList is the prefixes given and those of a file.
type NetworkList struct {
	Prefixes []netip.Prefix `yaml:"prefixes" max:"10000" doc:"Networks like 192.0.2.0/24, or addresses."`
	File     *Path          `yaml:"file" carried:"true" doc:"File with a network on each line, # begins a comment. Read again when it changes."`
	Place    Place          `yaml:"-"`
}

func (c *checker) networks() {
	lists := c.f.Networks.Lists
	for _, name := range slices.Sorted(maps.Keys(lists)) {
		if l := lists[name]; len(l.Prefixes) == 0 && l.File == nil {
			c.errorf(l.Place, "networks.lists.%s: has neither prefixes nor a file", name)
		}
	}
}

package networks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
)

// A CDN publishes the addresses from which it fetches, and has a header of its own
// for the caller's.
type CDN struct {
	Name   string
	Ranges []netip.Prefix // nil: too many, or of the operator's own choice
	Header string         // with the caller's address
	Port   bool           // it ends in a port: 192.0.2.7:5000, 2001:db8::7:5000
}

// Profile gives what is known about a CDN, or about none in particular (generic);
// false for other names.
func Profile(name string) (CDN, bool) {
	c := CDN{Name: name}
	var ranges []string
	switch name {
	case "cloudflare":
		c.Header = "CF-Connecting-IP"
		// https://www.cloudflare.com/ips/ of 2023-09-28, as docs/edge.md says; they change, seldom.
		ranges = []string{
			"173.245.48.0/20", "103.21.244.0/22", "103.22.200.0/22", "103.31.4.0/22", "141.101.64.0/18", "108.162.192.0/18",
			"190.93.240.0/20", "188.114.96.0/20", "197.234.240.0/22", "198.41.128.0/17", "162.158.0.0/15", "104.16.0.0/13",
			"104.24.0.0/14", "172.64.0.0/13", "131.0.72.0/22",
			"2400:cb00::/32", "2606:4700::/32", "2803:f800::/32", "2405:b500::/32", "2405:8100::/32", "2a06:98c0::/29", "2c0f:f248::/32",
		}
	case "fastly":
		c.Header = "Fastly-Client-IP"
		// https://api.fastly.com/public-ip-list of 2023-06-06.
		ranges = []string{
			"23.235.32.0/20", "43.249.72.0/22", "103.244.50.0/24", "103.245.222.0/23", "103.245.224.0/24", "104.156.80.0/20",
			"140.248.64.0/18", "140.248.128.0/17", "146.75.0.0/17", "151.101.0.0/16", "157.52.64.0/18", "167.82.0.0/17",
			"167.82.128.0/20", "167.82.160.0/20", "167.82.224.0/20", "172.111.64.0/18", "185.31.16.0/22", "199.27.72.0/21", "199.232.0.0/16",
			"2a04:4e40::/32", "2a04:4e42::/32",
		}
	case "cloudfront":
		c.Header, c.Port = "CloudFront-Viewer-Address", true // its addresses: https://ip-ranges.amazonaws.com/ip-ranges.json
	case "generic":
		c.Header = "X-Forwarded-For"
	default:
		return c, false
	}
	for _, s := range ranges {
		c.Ranges = append(c.Ranges, netip.MustParsePrefix(s))
	}
	return c, true
}

// awsService is who fetches from origins, in ip-ranges.json; CLOUDFRONT has its
// viewers' side too, which never connects to us.
const awsService = "CLOUDFRONT_ORIGIN_FACING"

// ReadRanges reads an operator's own list of a CDN's addresses: a prefix on each
// line, the JSON of Fastly, or the ip-ranges.json of AWS, of which it takes what
// CloudFront fetches from.
func ReadRanges(name string) ([]netip.Prefix, error) {
	b, err := readAll(name)
	if err != nil {
		return nil, err
	}
	return parseRanges(name, b)
}

// parseRanges is [ReadRanges] of bytes; errors call them name. A list of nothing is
// an error: with it nobody could connect.
func parseRanges(name string, b []byte) ([]netip.Prefix, error) {
	var out []netip.Prefix
	var err error
	if text := bytes.TrimLeft(b, " \t\r\n"); len(text) > 0 && text[0] == '{' {
		out, err = parseJSON(name, b)
	} else {
		out, err = parseList(name, b)
	}
	if err == nil && len(out) == 0 {
		err = fmt.Errorf("%s has no ranges", name)
	}
	return out, err
}

func parseJSON(name string, b []byte) (out []netip.Prefix, err error) {
	var doc struct {
		Addresses []string `json:"addresses"` // Fastly
		Six       []string `json:"ipv6_addresses"`
		Prefixes  []struct {
			Prefix  string `json:"ip_prefix"` // AWS
			Service string `json:"service"`
		} `json:"prefixes"`
		Prefixes6 []struct {
			Prefix  string `json:"ipv6_prefix"`
			Service string `json:"service"`
		} `json:"ipv6_prefixes"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		if se, ok := errors.AsType[*json.SyntaxError](err); ok {
			return nil, fmt.Errorf("%s:%d: %w", name, 1+bytes.Count(b[:min(int(se.Offset), len(b))], []byte("\n")), err)
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	texts := append(doc.Addresses, doc.Six...)
	for _, p := range doc.Prefixes {
		if p.Service == awsService {
			texts = append(texts, p.Prefix)
		}
	}
	for _, p := range doc.Prefixes6 {
		if p.Service == awsService {
			texts = append(texts, p.Prefix)
		}
	}
	for _, text := range texts {
		p, err := parsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, p)
	}
	return out, nil
}

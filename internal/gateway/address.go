package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/gatehouse-api/gatehouse/internal/networks"
)

// A Trust knows which hops may say who the caller is. The zero Trust, and nil,
// believe nobody: the caller is whoever opened the connection.
type Trust struct {
	hops   *networks.Set
	header string // the one header read, in canonical form
}

// mostHops bounds the walk through a header whose length the caller chooses.
const mostHops = 32

// NewTrust trusts the networks in cidrs (an address alone means just it) to
// tell the caller's address in header: "x-forwarded-for" or "forwarded" (RFC
// 7239). Only one of them is ever read: a proxy that writes one passes the
// other on as the caller sent it.
func NewTrust(cidrs []string, header string) (*Trust, error) {
	t := &Trust{}
	switch strings.ToLower(header) {
	case "x-forwarded-for":
		t.header = "X-Forwarded-For"
	case "forwarded":
		t.header = "Forwarded"
	default:
		return nil, fmt.Errorf("forwarded header %q: want x-forwarded-for or forwarded", header)
	}
	var hops []netip.Prefix
	for _, s := range cidrs {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			a, err2 := netip.ParseAddr(s)
			if err2 != nil {
				return nil, fmt.Errorf("trusted hop %q: want an address or a network like 10.0.0.0/8", s)
			}
			p = netip.PrefixFrom(a.WithZone(""), a.BitLen())
		}
		if p.Addr().Is4In6() {
			if p.Bits() < 96 {
				return nil, fmt.Errorf("trusted hop %q: a network of mapped addresses; write it as IPv4", s)
			}
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		if p.Bits() == 0 {
			return nil, fmt.Errorf("trusted hop %q: would trust every caller to name its own address", s)
		}
		hops = append(hops, p.Masked())
	}
	var err error
	if t.hops, err = setOf(hops); err != nil {
		return nil, fmt.Errorf("trusted hops: %w", err)
	}
	return t, nil
}

// setOf makes a set of addresses to look up, by contains.
func setOf(prefixes []netip.Prefix) (*networks.Set, error) {
	return networks.Load(networks.Config{Lists: []networks.List{{Name: "one", Prefixes: prefixes}}})
}

// contains reports whether a is in a set that [setOf] made; nobody is in nil.
func contains(s *networks.Set, a netip.Addr) bool { return s.Of(a).List != "" }

// Trusts reports whether a is a trusted hop.
func (t *Trust) Trusts(a netip.Addr) bool { return t != nil && contains(t.hops, a) }

// caller returns the address of r's caller, also as text, and "https" or "http", as
// the caller speaks it: what a trusted hop says of that, else what the connection is.
//
// The address is the first one, walking from the connection's peer towards the left
// of the header, that is no trusted hop. What is left of that was written by the
// caller and is not even read: taking the leftmost entry, as many do, lets anyone
// choose the address that limits and logs see. Where a trusted hop wrote what is no
// address, the peer stands for the caller. Mapped addresses are IPv4. The zero Addr
// means that r did not come over IP.
func (t *Trust) caller(r *http.Request) (address netip.Addr, text, proto string) {
	proto = "http"
	if r.TLS != nil {
		proto = "https"
	}
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return address, address.String(), proto
	}
	peer := ap.Addr().Unmap().WithZone("")
	address = peer
	if t.Trusts(peer) {
		address, proto = t.walk(r, peer), t.said(r, proto)
	}
	if address == peer && ap.Addr().Is4() { // which can be written in one way only
		return address, r.RemoteAddr[:strings.LastIndexByte(r.RemoteAddr, ':')], proto
	}
	return address, address.String(), proto
}

// walk finds the caller behind peer, a trusted hop.
func (t *Trust) walk(r *http.Request, peer netip.Addr) netip.Addr {
	lines := r.Header[t.header]
	addr := peer
	hops := 0
	for _, line := range slices.Backward(lines) {
		for more := true; more; {
			var entry string
			// The last comma is always a separator: no address holds one. A quote
			// left open by the caller can therefore not swallow what a hop added.
			if c := strings.LastIndexByte(line, ','); c >= 0 {
				line, entry = line[:c], line[c+1:]
			} else {
				entry, more = line, false
			}
			entry = strings.Trim(entry, " \t")
			if t.header == "Forwarded" {
				var err error
				if entry, err = forwardedFor(entry); err != nil {
					return peer
				}
			}
			a, ok := parseNode(entry)
			if hops++; !ok || hops > mostHops {
				return peer
			}
			if addr = a; !t.Trusts(addr) {
				return addr
			}
		}
	}
	return addr // everyone on the way is trusted: the caller is the first of them
}

// said is what a trusted hop says that the caller speaks (X-Forwarded-Proto, or
// proto in the last element of Forwarded); own, which is what the connection is,
// where it says nothing, or where hops contradict each other.
func (t *Trust) said(r *http.Request, own string) string {
	said := ""
	if t.header == "Forwarded" {
		lines := r.Header["Forwarded"]
		if len(lines) == 0 {
			return own
		}
		last := lines[len(lines)-1]
		last = last[strings.LastIndexByte(last, ',')+1:]
		for pair := range strings.SplitSeq(last, ";") {
			name, value, _ := strings.Cut(strings.Trim(pair, " \t"), "=")
			switch {
			case !strings.EqualFold(name, "proto"):
			case said != "":
				return own
			default:
				said = strings.Trim(value, `"`)
			}
		}
	} else {
		for _, line := range r.Header["X-Forwarded-Proto"] {
			for v := range strings.SplitSeq(line, ",") {
				if v = strings.Trim(v, " \t"); said != "" && !strings.EqualFold(v, said) {
					return own
				}
				said = v
			}
		}
	}
	switch {
	case strings.EqualFold(said, "https"):
		return "https"
	case strings.EqualFold(said, "http"):
		return "http"
	}
	return own
}

var errForwarded = errors.New("not a forwarded-element")

// forwardedFor returns the node named by the for parameter of one
// forwarded-element (RFC 7239 §4): token or quoted, exactly once.
func forwardedFor(element string) (node string, err error) {
	for rest := element; rest != ""; {
		name, after, ok := strings.Cut(rest, "=")
		if !ok || name == "" {
			return "", errForwarded
		}
		var value string
		if strings.HasPrefix(after, `"`) {
			if value, after, ok = strings.Cut(after[1:], `"`); !ok || strings.IndexByte(value, '\\') >= 0 {
				return "", errForwarded
			}
			if after != "" && after[0] != ';' {
				return "", errForwarded
			}
			rest = strings.TrimPrefix(after, ";")
		} else {
			value, rest, _ = strings.Cut(after, ";")
			// A bracket or a colon outside quotes is no token: an IPv6 address
			// written so could be cut anywhere by the next reader.
			if value == "" || strings.ContainsAny(value, "\"[]: \t") {
				return "", errForwarded
			}
		}
		if strings.EqualFold(name, "for") {
			if node != "" || value == "" {
				return "", errForwarded
			}
			node = value
		}
	}
	if node == "" {
		return "", errForwarded
	}
	return node, nil
}

// parseNode reads an address with or without a port: 192.0.2.1, 192.0.2.1:80,
// 2001:db8::1, [2001:db8::1], [2001:db8::1]:80. Zones mean nothing elsewhere
// and are refused, as are "unknown" and obfuscated names.
func parseNode(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		if ap, err := netip.ParseAddrPort(s); err == nil {
			a = ap.Addr()
		} else if n := len(s); n > 2 && s[0] == '[' && s[n-1] == ']' {
			if a, err = netip.ParseAddr(s[1 : n-1]); err != nil || a.Is4() {
				return netip.Addr{}, false
			}
		} else {
			return netip.Addr{}, false
		}
	}
	if a.Zone() != "" {
		return netip.Addr{}, false
	}
	return a.Unmap(), true
}

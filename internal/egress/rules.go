package egress

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// rules are what may be called although its address is not public.
type rules struct {
	hosts map[string]bool // "host" for all its ports, "host:port" for one
	nets  []netip.Prefix
}

// Origin returns the "host:port" of an https or http URL, in the form that
// [Config].Allow takes: an issuer the operator wrote into the config is allowed
// at exactly the place that was written.
func Origin(rawURL string) (string, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Hostname() == "" || u.User != nil {
		return "", fmt.Errorf("%w: not a URL with a host", ErrRefused)
	}
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "https":
		port = "443"
	case u.Scheme == "http":
		port = "80"
	default:
		return "", fmt.Errorf("%w: the scheme %q", ErrRefused, u.Scheme)
	}
	return net.JoinHostPort(canonical(u.Hostname()), port), nil
}

func parseRules(allow []string) (rules, error) {
	r := rules{hosts: make(map[string]bool, len(allow))}
	for _, s := range allow {
		if p, err := netip.ParsePrefix(s); err == nil {
			r.nets = append(r.nets, p.Masked())
			continue
		}
		host, port := s, ""
		if h, p, err := net.SplitHostPort(s); err == nil {
			n, err := strconv.ParseUint(p, 10, 16)
			if err != nil || n == 0 {
				return rules{}, fmt.Errorf("allow: %q: the port is not a number from 1 to 65535", s)
			}
			host, port = h, p
		}
		host = canonical(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
		if _, err := netip.ParseAddr(host); err != nil && !hostname(host) {
			return rules{}, fmt.Errorf("allow: %q is not a host, host:port, address or CIDR", s)
		}
		if port != "" {
			host = net.JoinHostPort(host, port)
		}
		r.hosts[host] = true
	}
	return r, nil
}

// canonical makes two spellings of one host equal.
func canonical(host string) string {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().String()
	}
	return strings.TrimSuffix(strings.ToLower(host), ".")
}

// hostname takes letters, digits, hyphens and dots; a name of digits and dots
// alone is refused, since some resolvers read 2130706433 as 127.0.0.1.
func hostname(s string) bool {
	letters := false
	for _, c := range s {
		switch {
		case c >= 'a' && c <= 'z':
			letters = true
		case c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_':
		default:
			return false
		}
	}
	return letters && len(s) <= 253
}

// allows reports whether the operator has named this host or address.
func (r *rules) allows(host, port string, a netip.Addr) bool {
	for _, p := range r.nets {
		if p.Contains(a) {
			return true
		}
	}
	host = canonical(host)
	if !r.hosts[host] && !r.hosts[net.JoinHostPort(host, port)] {
		return false
	}
	_, err := netip.ParseAddr(host)
	return err == nil || inside(a)
}

// metadata are the cloud's metadata services that hide among private addresses.
var metadata = [...]netip.Addr{
	netip.MustParseAddr("100.100.100.200"), // Alibaba
	netip.MustParseAddr("fd00:ec2::254"),   // Amazon
	netip.MustParseAddr("fd20:ce::254"),    // Google
}

// inside reports whether a is where an operator's own hosts are. Whoever answers
// for an allowed name in the DNS can pick among these, and nothing worse.
func inside(a netip.Addr) bool {
	if slices.Contains(metadata[:], a) {
		return false
	}
	return a.IsLoopback() || a.IsPrivate() || netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64}), 10).Contains(a)
}

// special are the networks of the IANA special-purpose registries (RFC 6890)
// that netip's predicates do not name, with the ways to write an IPv4 address
// inside an IPv6 one: each leads to somebody's inside.
var special = [...]netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),        // this network; Linux connects 0.0.0.0 to itself
	netip.MustParsePrefix("100.64.0.0/10"),    // carrier-grade NAT; some clouds' metadata (100.100.100.200)
	netip.MustParsePrefix("192.0.0.0/24"),     // IETF protocol assignments; Oracle's metadata (192.0.0.192)
	netip.MustParsePrefix("192.0.2.0/24"),     // documentation
	netip.MustParsePrefix("192.88.99.0/24"),   // 6to4 relay
	netip.MustParsePrefix("198.18.0.0/15"),    // benchmarking
	netip.MustParsePrefix("198.51.100.0/24"),  // documentation
	netip.MustParsePrefix("203.0.113.0/24"),   // documentation
	netip.MustParsePrefix("240.0.0.0/4"),      // reserved, and broadcast
	netip.MustParsePrefix("168.63.129.16/32"), // Azure's wire server: public by its number only
	netip.MustParsePrefix("::/96"),            // IPv4-compatible
	netip.MustParsePrefix("64:ff9b::/96"),     // NAT64
	netip.MustParsePrefix("64:ff9b:1::/48"),   // NAT64, local
	netip.MustParsePrefix("100::/64"),         // discard
	netip.MustParsePrefix("2001::/23"),        // Teredo and other protocol assignments
	netip.MustParsePrefix("2001:db8::/32"),    // documentation
	netip.MustParsePrefix("2002::/16"),        // 6to4
	netip.MustParsePrefix("3fff::/20"),        // documentation
	netip.MustParsePrefix("5f00::/16"),        // segment routing
	netip.MustParsePrefix("fec0::/10"),        // site-local
}

// public reports whether a is an address on the internet.
func public(a netip.Addr) bool {
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.Zone() != "" {
		return false // unspecified, loopback, link-local, multicast, broadcast, RFC 1918, fc00::/7
	}
	for _, p := range special {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// control is asked by the dialer with the very address it is about to connect
// to, after resolving: a name that answers with a public address when checked
// and a private one when used (DNS rebinding) gains nothing.
func (c *Client) control(host, port string, plaintext bool) func(network, address string, _ syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("%w: an address that is none", ErrRefused)
		}
		a := at.Addr().Unmap() // ::ffff:127.0.0.1 is 127.0.0.1
		if plaintext && !a.IsLoopback() {
			return fmt.Errorf("%w: http to an address that is not loopback", ErrRefused)
		}
		if !public(a) && !c.allow.allows(host, port, a) {
			return fmt.Errorf("%w: %s is not a public address; if it is meant, allow %q", ErrRefused, a, net.JoinHostPort(host, port))
		}
		return nil
	}
}

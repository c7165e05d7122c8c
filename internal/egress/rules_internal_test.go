package egress

import (
	"net/netip"
	"testing"
)

// The resolver cannot be replaced from outside, so what a name may resolve to is
// tested here, at the function the dialer asks with the resolved address.
func TestAnAllowedNameMayOnlyLeadInside(t *testing.T) {
	c, err := New(Config{Allow: []string{"idp.example"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	control := c.control("idp.example", "443", false)
	for address, ok := range map[string]bool{
		"10.1.2.3:443":                 true,
		"127.0.0.1:443":                true,
		"[fd12::1]:443":                true,
		"100.64.0.1:443":               true,
		"93.184.216.34:443":            true,
		"169.254.169.254:443":          false,
		"[::ffff:169.254.169.254]:443": false,
		"100.100.100.200:443":          false,
		"[fd00:ec2::254]:443":          false,
		"0.0.0.0:443":                  false,
		"224.0.0.1:443":                false,
		"168.63.129.16:443":            false,
		"[fe80::1%lo]:443":             false,
		"nonsense":                     false,
	} {
		if err := control("tcp", address, nil); (err == nil) != ok {
			t.Errorf("%s: %v, want allowed: %v", address, err, ok)
		}
	}
	other := c.control("rebound.example", "443", false)
	if other("tcp", "10.1.2.3:443", nil) == nil {
		t.Error("a name that is not allowed leads inside")
	}
	for _, address := range []string{"[::ffff:100.64.0.1]:443", "[::ffff:0.1.2.3]:443", "[::ffff:198.18.0.1]:443", "[::ffff:10.1.2.3]:443"} {
		if other("tcp", address, nil) == nil {
			t.Errorf("%s, an IPv4 address in an IPv6 one, is taken for public", address)
		}
	}
	plaintext := c.control("idp.example", "80", true)
	if plaintext("tcp", "10.1.2.3:80", nil) == nil {
		t.Error("http is spoken to an address that is not loopback")
	}
}

func TestPublic(t *testing.T) {
	for _, s := range []string{"8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::1"} {
		if !public(netip.MustParseAddr(s)) {
			t.Errorf("%s is public", s)
		}
	}
	if public(netip.Addr{}) {
		t.Error("the zero address is public")
	}
}

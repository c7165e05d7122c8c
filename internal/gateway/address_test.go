package gateway_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/gateway"
)

func trust(tb testing.TB, header string) *gateway.Trust {
	tb.Helper()
	t, err := gateway.NewTrust([]string{"10.0.0.0/8", "192.0.2.7", "2001:db8::/32"}, header)
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

func TestClientAddr(t *testing.T) {
	for _, tt := range []struct {
		name, header, peer string
		lines              []string
		want               string
	}{
		{"a stranger's header is not read", "x-forwarded-for", "203.0.113.9:1", []string{"1.1.1.1"}, "203.0.113.9"},
		{"a trusted hop's entry counts", "x-forwarded-for", "10.0.0.1:1", []string{"198.51.100.4"}, "198.51.100.4"},
		{"what the caller wrote to the left does not", "x-forwarded-for", "10.0.0.1:1", []string{"1.1.1.1, 198.51.100.4"}, "198.51.100.4"},
		{"garbage to the left does not either", "x-forwarded-for", "10.0.0.1:1", []string{"\", x,, 198.51.100.4"}, "198.51.100.4"},
		{"trusted hops are walked through", "x-forwarded-for", "10.0.0.1:1", []string{"1.1.1.1, 198.51.100.4, 192.0.2.7, 10.9.9.9"}, "198.51.100.4"},
		{"lines are one list", "x-forwarded-for", "10.0.0.1:1", []string{"1.1.1.1", "198.51.100.4", "10.2.2.2"}, "198.51.100.4"},
		{"all trusted gives the first", "x-forwarded-for", "10.0.0.1:1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"no header gives the peer", "x-forwarded-for", "10.0.0.1:1", nil, "10.0.0.1"},
		{"an empty entry gives the peer", "x-forwarded-for", "10.0.0.1:1", []string{"1.1.1.1,"}, "10.0.0.1"},
		{"a name gives the peer", "x-forwarded-for", "10.0.0.1:1", []string{"unknown"}, "10.0.0.1"},
		{"a zone gives the peer", "x-forwarded-for", "10.0.0.1:1", []string{"fe80::1%eth0"}, "10.0.0.1"},
		{"a leading zero gives the peer", "x-forwarded-for", "10.0.0.1:1", []string{"010.1.1.1"}, "10.0.0.1"},
		{"a port is cut", "x-forwarded-for", "10.0.0.1:1", []string{"198.51.100.4:5678"}, "198.51.100.4"},
		{"a mapped address is IPv4", "x-forwarded-for", "[::ffff:10.0.0.1]:1", []string{"::ffff:198.51.100.4"}, "198.51.100.4"},
		{"a mapped hop is trusted", "x-forwarded-for", "10.0.0.1:1", []string{"198.51.100.4, ::ffff:10.1.1.1"}, "198.51.100.4"},
		{"more hops than anyone has give the peer", "x-forwarded-for", "10.0.0.1:1", []string{strings.Repeat("10.0.0.2, ", 40) + "10.0.0.3"}, "10.0.0.1"},
		{"the other header is not read", "x-forwarded-for", "10.0.0.1:1", nil, "10.0.0.1"},

		{"forwarded: a token", "forwarded", "10.0.0.1:1", []string{"for=198.51.100.4"}, "198.51.100.4"},
		{"forwarded: parameters around it", "forwarded", "10.0.0.1:1", []string{`proto=https;For="198.51.100.4:80";by=10.0.0.1`}, "198.51.100.4"},
		{"forwarded: IPv6 quoted with a port", "forwarded", "[2001:db8::1]:1", []string{`for="[2001:4860::88]:4711"`}, "2001:4860::88"},
		{"forwarded: IPv6 without quotes gives the peer", "forwarded", "10.0.0.1:1", []string{`for=[2001:4860::88]`}, "10.0.0.1"},
		{"forwarded: an open quote to the left swallows nothing", "forwarded", "10.0.0.1:1", []string{`for="1.1.1.1, for=198.51.100.4`}, "198.51.100.4"},
		{"forwarded: twice gives the peer", "forwarded", "10.0.0.1:1", []string{"for=1.1.1.1;for=198.51.100.4"}, "10.0.0.1"},
		{"forwarded: none gives the peer", "forwarded", "10.0.0.1:1", []string{"proto=https"}, "10.0.0.1"},
		{"forwarded: unknown gives the peer", "forwarded", "10.0.0.1:1", []string{"for=unknown"}, "10.0.0.1"},
		{"forwarded: obfuscated gives the peer", "forwarded", "10.0.0.1:1", []string{"for=_hidden"}, "10.0.0.1"},
		{"forwarded: an escape gives the peer", "forwarded", "10.0.0.1:1", []string{`for="1.1.1.\1"`}, "10.0.0.1"},
		{"no address at all is none", "forwarded", "@", []string{"for=1.1.1.1"}, "invalid IP"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &http.Request{RemoteAddr: tt.peer, Header: http.Header{}}
			other := "Forwarded"
			if tt.header == "forwarded" {
				other = "X-Forwarded-For"
				r.Header["Forwarded"] = tt.lines
			} else {
				r.Header["X-Forwarded-For"] = tt.lines
			}
			r.Header[other] = []string{"8.8.8.8", "for=8.8.8.8"}
			if got := trust(t, tt.header).ClientAddr(r).String(); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestNobodyIsTrustedByDefault(t *testing.T) {
	r := &http.Request{RemoteAddr: "127.0.0.1:1", Header: http.Header{"X-Forwarded-For": {"1.1.1.1"}}}
	var none *gateway.Trust
	for _, tr := range []*gateway.Trust{none, {}} {
		if got := tr.ClientAddr(r); got != netip.MustParseAddr("127.0.0.1") {
			t.Errorf("got %s", got)
		}
	}
}

func TestTrustThatWouldBelieveAnyoneIsRefused(t *testing.T) {
	for _, tt := range []struct{ cidr, header string }{
		{"0.0.0.0/0", "forwarded"},
		{"::/0", "forwarded"},
		{"::ffff:0.0.0.0/90", "forwarded"},
		{"::ffff:0.0.0.0/96", "forwarded"},
		{"example.com", "forwarded"},
		{"10.0.0.0/33", "forwarded"},
		{"", "forwarded"},
		{"10.0.0.0/8", ""},
		{"10.0.0.0/8", "x-real-ip"},
	} {
		if tr, err := gateway.NewTrust([]string{tt.cidr}, tt.header); err == nil {
			t.Errorf("%q in %q gives %+v", tt.cidr, tt.header, tr)
		}
	}
}

// FuzzClientAddr checks the one promise: whatever stands to the left of what a
// trusted hop has added, that hop's entry decides.
func FuzzClientAddr(f *testing.F) {
	for _, s := range []string{"", "1.1.1.1", `for="[::1]:1";by=x`, `"`, `for="a, b`, "10.0.0.1, 10.0.0.2", "unknown", "for=_x;for=y"} {
		f.Add(s)
	}
	xff, fwd := trust(f, "x-forwarded-for"), trust(f, "forwarded")
	want := netip.MustParseAddr("198.51.100.4")
	f.Fuzz(func(t *testing.T, s string) {
		r := &http.Request{RemoteAddr: "10.0.0.1:1", Header: http.Header{
			"X-Forwarded-For": {s + ", 198.51.100.4, 10.3.3.3"}, "Forwarded": {s + `,for="198.51.100.4";proto=https, for=10.3.3.3`},
		}}
		if a, b := xff.ClientAddr(r), fwd.ClientAddr(r); a != want || b != want {
			t.Fatalf("%q turns the caller into %s and %s", s, a, b)
		}
		r.Header = http.Header{"X-Forwarded-For": {s}, "Forwarded": {s}}
		for _, a := range []netip.Addr{xff.ClientAddr(r), fwd.ClientAddr(r)} {
			if !a.IsValid() || a.Is4In6() || a.Zone() != "" {
				t.Fatalf("%q gives %s", s, a)
			}
		}
	})
}

func BenchmarkClientAddr(b *testing.B) {
	tr := trust(b, "x-forwarded-for")
	r := &http.Request{RemoteAddr: "10.0.0.1:1234", Header: http.Header{"X-Forwarded-For": {"198.51.100.4, 10.0.0.2"}}}
	b.ReportAllocs()
	for b.Loop() {
		tr.ClientAddr(r)
	}
}

func TestTheProtocolIsTheCallers(t *testing.T) {
	const hop, stranger = "10.0.0.1:5", "192.0.2.9:5"
	for _, c := range []struct {
		name, trusted string // header of the trust; "": nobody is trusted
		peer          string
		tls           bool
		header        []string
		want          string
	}{
		{"the connection's, without trust", "", hop, false, []string{"X-Forwarded-Proto", "https"}, "http"},
		{"the connection's, with TLS", "", hop, true, []string{"X-Forwarded-Proto", "http"}, "https"},
		{"a stranger is not believed", "x-forwarded-for", stranger, false, []string{"X-Forwarded-Proto", "https"}, "http"},
		{"a trusted hop is", "x-forwarded-for", hop, false, []string{"X-Forwarded-Proto", "https"}, "https"},
		{"also when it says http behind TLS", "x-forwarded-for", hop, true, []string{"X-Forwarded-Proto", "http"}, "http"},
		{"in any case", "x-forwarded-for", hop, false, []string{"X-Forwarded-Proto", "HTTPS"}, "https"},
		{"hops that agree", "x-forwarded-for", hop, false, []string{"X-Forwarded-Proto", "https, https"}, "https"},
		{"hops that do not", "x-forwarded-for", hop, false, []string{"X-Forwarded-Proto", "https, http"}, "http"},
		{"two lines that do not", "x-forwarded-for", hop, false, []string{"X-Forwarded-Proto", "https", "X-Forwarded-Proto", "http"}, "http"},
		{"another protocol is none", "x-forwarded-for", hop, false, []string{"X-Forwarded-Proto", "ftp"}, "http"},
		{"nothing said", "x-forwarded-for", hop, true, nil, "https"},
		{"the other header is not read", "x-forwarded-for", hop, false, []string{"Forwarded", "proto=https"}, "http"},
		{"Forwarded", "forwarded", hop, false, []string{"Forwarded", "for=1.2.3.4;proto=https"}, "https"},
		{"Forwarded, quoted", "forwarded", hop, false, []string{"Forwarded", `for=1.2.3.4; PROTO="https"`}, "https"},
		{"Forwarded, the last element", "forwarded", hop, false, []string{"Forwarded", "proto=https, for=1.2.3.4;proto=http"}, "http"},
		{"Forwarded, said twice", "forwarded", hop, false, []string{"Forwarded", "proto=https;proto=https"}, "http"},
		{"Forwarded, not said", "forwarded", hop, true, []string{"Forwarded", "for=1.2.3.4"}, "https"},
		{"the other header is not read either", "forwarded", hop, false, []string{"X-Forwarded-Proto", "https"}, "http"},
	} {
		var hops *gateway.Trust
		if c.trusted != "" {
			hops = trust(t, c.trusted)
		}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = c.peer
		if c.tls {
			r.TLS = &tls.ConnectionState{}
		}
		for i := 0; i < len(c.header); i += 2 {
			r.Header.Add(c.header[i], c.header[i+1])
		}
		if got := hops.Proto(r); got != c.want {
			t.Errorf("%s: %s", c.name, got)
		}
	}
}

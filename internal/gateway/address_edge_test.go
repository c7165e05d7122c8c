package gateway_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
	"github.com/gatehouse-api/gatehouse/internal/networks"
)

const edgeSecret = "a secret of the edge"

// edges are one of each kind, in front of which 198.51.100.0/24 stands.
func edges(t testing.TB) map[string]*gateway.Edge {
	t.Helper()
	out := map[string]*gateway.Edge{}
	for _, name := range []string{"cloudflare", "fastly", "cloudfront", "generic", "certificate", "both"} {
		profile := name
		if name == "certificate" || name == "both" {
			profile = "cloudflare"
		}
		cdn, ok := networks.Profile(profile)
		if !ok {
			t.Fatal(profile)
		}
		c := gateway.EdgeConfig{
			Ranges: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8:c::/48")},
			Header: cdn.Header, Port: cdn.Port, Certificate: name != profile,
		}
		if name != "certificate" {
			c.SecretIn = "x-edge"
			c.Secrets = []gatehouse.Secret{gatehouse.NewSecret(edgeSecret), gatehouse.NewSecret("the one before it")}
		}
		var err error
		if out[name], err = gateway.NewEdge(c); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestTheCallerIsWhomAProvenEdgeNames(t *testing.T) {
	all := edges(t)
	shown := []string{edgeSecret}
	certified := &tls.ConnectionState{HandshakeComplete: true, PeerCertificates: make([]*x509.Certificate, 1), VerifiedChains: make([][]*x509.Certificate, 1)}
	presented := &tls.ConnectionState{HandshakeComplete: true, PeerCertificates: make([]*x509.Certificate, 1)}
	for _, tt := range []struct {
		name, edge, peer string
		tls              *tls.ConnectionState
		header           http.Header
		want             string // "": refused
	}{
		{"by Cloudflare's header", "cloudflare", "198.51.100.9:1", nil, http.Header{"X-Edge": shown, "Cf-Connecting-Ip": {"203.0.113.7"}}, "203.0.113.7"},
		{"by Fastly's", "fastly", "[2001:db8:c::1]:1", nil, http.Header{"X-Edge": shown, "Fastly-Client-Ip": {"2001:db8::7"}}, "2001:db8::7"},
		{"by CloudFront's, which ends in a port", "cloudfront", "198.51.100.9:1", nil, http.Header{"X-Edge": shown, "Cloudfront-Viewer-Address": {"203.0.113.7:46532"}}, "203.0.113.7"},
		{"of IPv6, too, without brackets", "cloudfront", "198.51.100.9:1", nil, http.Header{"X-Edge": shown, "Cloudfront-Viewer-Address": {"2001:db8:0:0:0:0:0:7:46532"}}, "2001:db8::7"},
		{"and shortened", "cloudfront", "198.51.100.9:1", nil, http.Header{"X-Edge": shown, "Cloudfront-Viewer-Address": {"2001:db8::7:46532"}}, "2001:db8::7"},
		{"the rightmost of X-Forwarded-For that is not the edge's", "generic", "198.51.100.9:1", nil, http.Header{"X-Edge": shown, "X-Forwarded-For": {"1.1.1.1, 203.0.113.7, 198.51.100.8"}}, "203.0.113.7"},
		{"with the secret before", "cloudflare", "198.51.100.9:1", nil, http.Header{"X-Edge": {"the one before it"}, "Cf-Connecting-Ip": {"203.0.113.7"}}, "203.0.113.7"},
		{"with a certificate", "certificate", "198.51.100.9:1", certified, http.Header{"Cf-Connecting-Ip": {"203.0.113.7"}}, "203.0.113.7"},
		{"with both", "both", "198.51.100.9:1", certified, http.Header{"X-Edge": shown, "Cf-Connecting-Ip": {"203.0.113.7"}}, "203.0.113.7"},
		{"a mapped peer is IPv4", "cloudflare", "[::ffff:198.51.100.9]:1", nil, http.Header{"X-Edge": shown, "Cf-Connecting-Ip": {"203.0.113.7"}}, "203.0.113.7"},

		{"not from elsewhere, whatever it shows", "cloudflare", "203.0.113.9:1", nil, http.Header{"X-Edge": shown, "Cf-Connecting-Ip": {"203.0.113.7"}}, ""},
		{"not without the secret", "cloudflare", "198.51.100.9:1", nil, http.Header{"Cf-Connecting-Ip": {"203.0.113.7"}}, ""},
		{"not with a wrong one", "cloudflare", "198.51.100.9:1", nil, http.Header{"X-Edge": {"a secret of the edgE"}, "Cf-Connecting-Ip": {"203.0.113.7"}}, ""},
		{"not with an empty one", "cloudflare", "198.51.100.9:1", nil, http.Header{"X-Edge": {""}, "Cf-Connecting-Ip": {"203.0.113.7"}}, ""},
		{"not with two, though one is right", "cloudflare", "198.51.100.9:1", nil, http.Header{"X-Edge": {edgeSecret, edgeSecret}, "Cf-Connecting-Ip": {"203.0.113.7"}}, ""},
		{"not with a certificate nobody verified", "certificate", "198.51.100.9:1", presented, http.Header{"Cf-Connecting-Ip": {"203.0.113.7"}}, ""},
		{"not without TLS", "certificate", "198.51.100.9:1", nil, http.Header{"Cf-Connecting-Ip": {"203.0.113.7"}}, ""},
		{"not with the secret alone", "both", "198.51.100.9:1", nil, http.Header{"X-Edge": shown, "Cf-Connecting-Ip": {"203.0.113.7"}}, ""},
		{"not with the certificate alone", "both", "198.51.100.9:1", certified, http.Header{"Cf-Connecting-Ip": {"203.0.113.7"}}, ""},
		{"not without a name", "cloudflare", "198.51.100.9:1", nil, http.Header{"X-Edge": shown}, ""},
		{"not with two", "cloudflare", "198.51.100.9:1", nil, http.Header{"X-Edge": shown, "Cf-Connecting-Ip": {"203.0.113.7", "203.0.113.8"}}, ""},
		{"not with two in one", "cloudflare", "198.51.100.9:1", nil, http.Header{"X-Edge": shown, "Cf-Connecting-Ip": {"203.0.113.7, 203.0.113.8"}}, ""},
		{"not by what is no address", "cloudflare", "198.51.100.9:1", nil, http.Header{"X-Edge": shown, "Cf-Connecting-Ip": {"unknown"}}, ""},
		{"not by another CDN's header", "cloudflare", "198.51.100.9:1", nil, http.Header{"X-Edge": shown, "X-Forwarded-For": {"203.0.113.7"}, "Fastly-Client-Ip": {"203.0.113.7"}}, ""},
		{"not without CloudFront's port", "cloudfront", "198.51.100.9:1", nil, http.Header{"X-Edge": shown, "Cloudfront-Viewer-Address": {"203.0.113.7"}}, ""},
		{"not by the edge's own addresses alone", "generic", "198.51.100.9:1", nil, http.Header{"X-Edge": shown, "X-Forwarded-For": {"198.51.100.7, 198.51.100.8"}}, ""},
		{"not by garbage at the right", "generic", "198.51.100.9:1", nil, http.Header{"X-Edge": shown, "X-Forwarded-For": {"203.0.113.7, x"}}, ""},
		{"not over anything but IP", "cloudflare", "@", nil, http.Header{"X-Edge": shown, "Cf-Connecting-Ip": {"203.0.113.7"}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &http.Request{RemoteAddr: tt.peer, Header: tt.header.Clone(), TLS: tt.tls}
			got, _, err := all[tt.edge].Caller(r)
			if tt.want == "" {
				if p := gatehouse.AsProblem(err); err == nil || p.Reason != "not_from_edge" || p.Kind != gatehouse.Forbidden {
					t.Fatalf("taken for %s: %v", got, err)
				}
				if peer, perr := netip.ParseAddrPort(tt.peer); perr == nil && got != peer.Addr().Unmap() {
					t.Errorf("refused as %s", got)
				}
			} else if err != nil || got.String() != tt.want {
				t.Fatalf("got %s, %v", got, err)
			}
			if r.Header["X-Edge"] != nil || r.TLS != nil && (r.TLS.PeerCertificates != nil || r.TLS.VerifiedChains != nil) {
				t.Error("the proof is left for others to see")
			}
			if tt.tls != nil && len(tt.tls.PeerCertificates) == 0 {
				t.Error("what the connection's other requests need was changed")
			}
		})
	}
	var none *gateway.Edge
	if _, _, err := none.Caller(&http.Request{RemoteAddr: "198.51.100.9:1", Header: http.Header{}}); err == nil || none.From(netip.MustParseAddr("198.51.100.9")) {
		t.Error("without an edge somebody came through it")
	}
}

func TestAnEdgeTellsWhatTheCallerSpeaks(t *testing.T) {
	for said, want := range map[string]string{"": "http", "https": "https", "http": "http", "https, http": "http"} {
		r := &http.Request{RemoteAddr: "198.51.100.9:1", Header: http.Header{"X-Edge": {edgeSecret}, "Cf-Connecting-Ip": {"203.0.113.7"}}}
		if said != "" {
			r.Header.Set("X-Forwarded-Proto", said)
		}
		if _, got, err := edges(t)["cloudflare"].Caller(r); err != nil || got != want {
			t.Errorf("%q: got %s, %v", said, got, err)
		}
	}
}

func TestAnEdgeThatProvesNothingIsNone(t *testing.T) {
	ranges := []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	secrets := []gatehouse.Secret{gatehouse.NewSecret(edgeSecret)}
	for name, c := range map[string]gateway.EdgeConfig{
		"nothing":                 {},
		"no ranges":               {Header: "a", Certificate: true},
		"no header":               {Ranges: ranges, Certificate: true},
		"no proof":                {Ranges: ranges, Header: "a"},
		"a secret in no header":   {Ranges: ranges, Header: "a", Certificate: true, Secrets: secrets},
		"a header without secret": {Ranges: ranges, Header: "a", Certificate: true, SecretIn: "b"},
		"an empty secret":         {Ranges: ranges, Header: "a", SecretIn: "b", Secrets: make([]gatehouse.Secret, 1)},
		"everybody":               {Ranges: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, Header: "a", Certificate: true},
		"not a network":           {Ranges: make([]netip.Prefix, 1), Header: "a", Certificate: true},
	} {
		if e, err := gateway.NewEdge(c); err == nil || e != nil || !strings.HasPrefix(err.Error(), "edge: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatAnOpenListenerCannotChangeIsKept(t *testing.T) {
	all := edges(t)
	before := &gateway.Snapshot{Edges: map[string]*gateway.Edge{"gone": all["cloudflare"], "new secret": all["cloudflare"], "now a certificate": all["cloudflare"]}}
	s := &gateway.Snapshot{Edges: map[string]*gateway.Edge{"new secret": all["fastly"], "now a certificate": all["both"]}}
	s.KeepEdges(before)
	s.KeepEdges(nil)
	for name, want := range map[string]*gateway.Edge{"gone": all["cloudflare"], "new secret": all["fastly"], "now a certificate": all["cloudflare"]} {
		if s.Edges[name] != want {
			t.Errorf("%s: another edge", name)
		}
	}
	none := &gateway.Snapshot{}
	if none.KeepEdges(before); none.Edges["gone"] == nil {
		t.Error("an edge was lost")
	}
}

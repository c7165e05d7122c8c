package plan_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/networks"
	"github.com/gatehouse-api/gatehouse/internal/plan"
)

// What is known about addresses is part of the config: watched, in the digest, and
// refused whole with a file and a line.
func TestNetworksAreOfTheConfig(t *testing.T) {
	dir := ordersFolder(t)
	b, err := os.ReadFile(filepath.Join(dir, "gatehouse.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if p := compile(t, dir); p.Snapshot.Networks != nil {
		t.Error("without networks there is a set of them")
	}
	write(t, dir, "gatehouse.yaml", string(b)+"networks:\n  lists: {office: {prefixes: [203.0.113.0/24]}, tor: {file: ./tor.txt}}\n  asn: ./asn.csv\n")
	write(t, dir, "tor.txt", "203.0.113.7\n")
	write(t, dir, "asn.csv", "203.0.113.0/24,64500\n")
	p := compile(t, dir)
	if got, want := p.Snapshot.Networks.Of(netip.MustParseAddr("203.0.113.7")), (networks.Of{List: "tor", ASN: 64500}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, name := range []string{"tor.txt", "asn.csv"} {
		if !slices.Contains(p.Watch, filepath.Join(dir, name)) {
			t.Errorf("does not watch %s", name)
		}
	}
	write(t, dir, "tor.txt", "203.0.113.8\n")
	changed := compile(t, dir)
	if changed.Digest == p.Digest {
		t.Error("what a file holds does not count")
	}
	write(t, dir, "tor.txt", "203.0.113.8\nx\n")
	_, err = plan.Compile(filepath.Join(dir, "gatehouse.yaml"))
	if err == nil || !strings.Contains(err.Error(), "tor.txt:2: ") || !strings.Contains(err.Error(), "gatehouse.yaml:") {
		t.Errorf("got %v", err)
	}
}

// So is what an edge in front of a listener is: its addresses and its secret.
func TestEdgesAreOfTheConfig(t *testing.T) {
	dir := ordersFolder(t)
	b, err := os.ReadFile(filepath.Join(dir, "gatehouse.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "gatehouse.yaml", string(b)+`listeners:
  - {address: "127.0.0.1:1", edge: {profile: cloudfront, ranges: ./ip-ranges.json, secret: {header: X-Origin-Key, value: "${file:secret}"}}}
  - {address: "127.0.0.1:2", proxy_protocol: {from: [10.0.0.4]}, trusted_hops: [10.0.0.5]}
`)
	ranges := func(prefix string) {
		write(t, dir, "ip-ranges.json", `{"prefixes": [{"ip_prefix": "`+prefix+`", "service": "CLOUDFRONT_ORIGIN_FACING"}, {"ip_prefix": "198.51.100.0/24", "service": "EC2"}]}`)
	}
	ranges("203.0.113.0/24")
	write(t, dir, "secret", "0123456789abcdef")
	p := compile(t, dir)
	e := p.Snapshot.Edges[plan.EdgeName(&p.File.Listeners[0])]
	if !e.From(netip.MustParseAddr("203.0.113.7")) || e.From(netip.MustParseAddr("198.51.100.7")) || len(p.Snapshot.Edges) != 1 {
		t.Errorf("edges: %v", p.Snapshot.Edges)
	}
	for _, name := range []string{"ip-ranges.json", "secret"} {
		if !slices.Contains(p.Watch, filepath.Join(dir, name)) {
			t.Errorf("does not watch %s", name)
		}
	}
	hops := slices.Concat(p.Hops(), p.Snapshot.EdgeRanges())
	for _, want := range []string{"203.0.113.0/24", "10.0.0.4/32", "10.0.0.5/32"} {
		if !slices.Contains(hops, netip.MustParsePrefix(want)) {
			t.Errorf("%s speaks for many, and is not among %v", want, hops)
		}
	}
	ranges("203.0.113.0/25")
	moved := compile(t, dir)
	if got := moved.Snapshot.EdgeRanges(); !slices.Equal(got, []netip.Prefix{netip.MustParsePrefix("203.0.113.0/25")}) {
		t.Errorf("after the file is another one %v speak for many", got)
	}
	write(t, dir, "secret", "fedcba9876543210")
	if other := compile(t, dir); moved.Digest == p.Digest || other.File.Behind() == moved.File.Behind() || other.Digest != moved.Digest {
		t.Error("what the files hold does not count, or the digest tells the secret")
	}
}

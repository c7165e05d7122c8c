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

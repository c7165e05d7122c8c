//go:build linux

package nft_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/ddos/nft"
)

// inNamespace runs the test again in a network of its own, where it may do as it
// likes; there it returns true.
func inNamespace(t *testing.T) bool {
	t.Helper()
	const inside = "GATEHOUSE_TEST_NETNS"
	if slices.Contains(os.Environ(), inside+"=1") {
		return true
	}
	for _, name := range []string{"nft", "ip"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip("needs " + name + " (apt-get install nftables iproute2)")
		}
	}
	if os.Getuid() != 0 {
		t.Skip("needs root, to make a network namespace")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		t.Skip("a network namespace is not permitted here")
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func TestTheKernelDropsWhoIsBannedAtOurPortsOnlyAndForgetsItAtTheEnd(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	run(t, "ip", "link", "set", "lo", "up")
	run(t, "nft", "add", "table", "inet", "theirs")
	listen := func() (net.Listener, uint16) {
		l, err := net.Listen("tcp", "[::]:0")
		if err != nil {
			t.Fatal(err)
		}
		return l, uint16(l.Addr().(*net.TCPAddr).Port)
	}
	ours, port := listen()
	defer ours.Close()
	theirs, ssh := listen()
	defer theirs.Close()
	reach := func(from, to string, port uint16) bool {
		d := net.Dialer{Timeout: 300 * time.Millisecond, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort(to, strconv.Itoa(int(port))))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}
	opens := func(from, to string, port uint16) bool { // however busy the machine is
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
			if reach(from, to, port) {
				return true
			}
		}
		return false
	}
	left, err := nft.Open("node.1", []uint16{port}) // as a process that was killed leaves it
	if err != nil {
		t.Fatal(err)
	}
	if err := left.Ban([]nft.Entry{{Prefix: netip.MustParsePrefix("127.0.0.1/32"), For: time.Hour}}); err != nil {
		t.Fatal(err)
	}
	k, err := nft.Open("node.1", []uint16{port, port})
	if err != nil {
		t.Fatal(err)
	}
	if !opens("127.0.0.1", "127.0.0.1", port) {
		t.Error("what was left behind is still in force")
	}
	bans := []nft.Entry{
		{netip.MustParsePrefix("127.0.0.9/32"), time.Hour},
		{netip.MustParsePrefix("127.0.7.0/24"), time.Hour},
		{netip.MustParsePrefix("127.0.7.9/32"), time.Hour},
		{netip.MustParsePrefix("::/64"), 8 * time.Second},
	}
	if err := k.Ban(bans); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from, to string
		port     uint16
		want     bool
	}{
		{"127.0.0.9", "127.0.0.1", port, false},
		{"127.0.7.200", "127.0.0.1", port, false},
		{"::1", "::1", port, false},
		{"127.0.0.9", "127.0.0.1", ssh, true},
		{"127.0.0.8", "127.0.0.1", port, true},
		{"127.0.8.1", "127.0.0.1", port, true},
	} {
		ask := reach
		if c.want {
			ask = opens
		}
		if got := ask(c.from, c.to, c.port); got != c.want {
			t.Errorf("from %s to port %d: %t, want %t\n%s", c.from, c.port, got, c.want, run(t, "nft", "list", "ruleset"))
		}
	}
	if rules := run(t, "nft", "list", "ruleset"); strings.Contains(rules, "59m") || !strings.Contains(rules, "expires") {
		t.Errorf("an entry has no end, or one too far off:\n%s", rules)
	}
	if err := k.Lift([]netip.Prefix{netip.MustParsePrefix("127.0.0.9/32"), netip.MustParsePrefix("192.0.2.1/32")}); err != nil {
		t.Fatal(err)
	}
	if !opens("127.0.0.9", "127.0.0.1", port) {
		t.Error("still dropped when it was lifted")
	}
	if !opens("::1", "::1", port) {
		t.Fatal("an entry has no end")
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if rules := run(t, "nft", "list", "ruleset"); strings.Contains(rules, "gatehouse") || !strings.Contains(rules, "table inet theirs") {
		t.Errorf("after the end:\n%s", rules)
	}
}

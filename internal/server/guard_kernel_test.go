//go:build linux

package server_test

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/ddos"
	"github.com/gatehouse-api/gatehouse/internal/server"
)

func TestABanIsInTheKernelAndGoneAtTheEnd(t *testing.T) {
	const inside = "GATEHOUSE_TEST_NETNS=1" // in a network of its own: this machine's is not touched
	if !slices.Contains(os.Environ(), inside) {
		if os.Getuid() != 0 {
			t.Skip("needs root, to make a network namespace")
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), inside)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		out, err := cmd.CombinedOutput()
		switch {
		case errors.Is(err, syscall.EPERM):
			t.Skip("a network namespace is not permitted here")
		case err != nil:
			t.Fatalf("%v\n%s", err, out)
		case strings.Contains(string(out), "--- SKIP"):
			t.Skipf("%s", out)
		}
		return
	}
	if out, err := exec.CommandContext(t.Context(), "ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Skipf("needs ip (apt-get install iproute2): %s", out)
	}
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs nft (apt-get install nftables)")
	}
	rules := func() string {
		out, _ := exec.CommandContext(t.Context(), "nft", "list", "ruleset").CombinedOutput()
		return string(out)
	}
	s := newSite(t, nil)
	s.write("gatehouse.yaml", s.config("ddos: {nftables: true}\n"))
	r := s.run(s.path())
	if strings.Contains(r.log.String(), "not in the kernel") {
		if got, _, _ := fetch(t, r.url+"/health"); got != 200 {
			t.Error("without the right it does not serve")
		}
		t.Skip("needs the right to configure the network")
	}
	book := must[*server.GuardBook](t)(server.OpenGuardBook(t.Context(), s.path()))
	defer book.Close()
	p, _ := ddos.ParsePrefix("203.0.113.77")
	if err := book.Ban(t.Context(), "os:ann", p, "", 0); err != nil {
		t.Fatal(err)
	}
	until(t, "the ban in the kernel", 5*time.Second, func() bool { return strings.Contains(rules(), "203.0.113.77") })
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(rules(), "gatehouse-n1") {
		t.Error("the table is left behind")
	}
}

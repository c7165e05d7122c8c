package server_test

import (
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/auditlog"
)

// closed is the config without one operation: a caller can see it at work.
func (s *site) closed() string {
	return s.config("", "health: {public: true}", "health: {closed: true}")
}

// shut waits until what closed says is at work, and open until it is not.
func (r *running) shut() {
	r.t.Helper()
	until(r.t, "the new config at work", 10*time.Second, func() bool { status, _, _ := fetch(r.t, r.url+"/health"); return status == 404 })
}

func (r *running) open() {
	r.t.Helper()
	until(r.t, "the new config at work", 10*time.Second, func() bool { status, _, _ := fetch(r.t, r.url+"/health"); return status == 200 })
}

func TestAChangedFileIsPutToWork(t *testing.T) {
	s := newSite(t, nil)
	r := s.run(s.path())
	r.open()
	before := r.health().Config
	s.write("gatehouse.yaml", s.closed())
	r.shut()
	after := r.health()
	if after.Config == before || after.Status != "ok" || after.ReloadTime.IsZero() {
		t.Fatalf("%+v", after)
	}
	// A document counts as much as the config.
	s.write("orders.yaml", strings.Replace(document, "/orders:", "/sales:", 1))
	until(t, "the new document", 10*time.Second, func() bool { status, _, _ := fetch(t, r.url+"/orders"); return status == 404 })

	changes := must[*auditlog.Changes](t)(auditlog.OpenChanges(filepath.Join(s.dir, "data", "events")))
	var taken []string
	for _, c := range must[[]auditlog.Change](t)(changes.All(t.Context())) {
		taken = append(taken, c.Object)
	}
	if len(taken) != 3 || taken[0] != before || taken[1] != after.Config || taken[2] != r.health().Config {
		t.Fatalf("the record of changes has %q", taken)
	}
}

// TestAConfigMapIsPutToWork swaps a folder as Kubernetes does: files are links
// into ..data, which is a link that is replaced.
func TestAConfigMapIsPutToWork(t *testing.T) {
	s := newSite(t, nil)
	mount := t.TempDir()
	publish := func(version, config string) {
		dir := filepath.Join(mount, version)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		config = strings.Replace(config, "data: ./data", "data: "+filepath.Join(s.dir, "data"), 1)
		for name, text := range map[string]string{"gatehouse.yaml": config, "orders.yaml": document, "jwks.json": string(s.signer.JWKS())} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(version, filepath.Join(mount, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(mount, "..data_tmp"), filepath.Join(mount, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	publish("..v1", s.config(""))
	for _, name := range []string{"gatehouse.yaml", "orders.yaml", "jwks.json"} {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(mount, name)); err != nil {
			t.Fatal(err)
		}
	}
	r := s.run(filepath.Join(mount, "gatehouse.yaml"))
	r.open()
	publish("..v2", s.closed())
	if err := os.RemoveAll(filepath.Join(mount, "..v1")); err != nil {
		t.Fatal(err)
	}
	r.shut()
	publish("..v3", s.config(""))
	r.open()
	if status, _, _ := fetch(t, r.url+"/orders", "Authorization", s.token("ann")); status != 200 {
		t.Fatal(status)
	}
}

// TestSIGHUP changes the file by another name, which no watch of its folder sees.
func TestSIGHUP(t *testing.T) {
	guard := make(chan os.Signal, 16) // a signal nobody waits for yet would end the test
	signal.Notify(guard, syscall.SIGHUP)
	defer signal.Stop(guard)
	s := newSite(t, nil)
	r := s.run(s.path())
	r.open()
	other := filepath.Join(t.TempDir(), "another name")
	if err := os.Link(s.path(), other); err != nil {
		t.Skip("no hard links here:", err)
	}
	for n := range 10 { // the watch looks once more by itself at the start, not ten times
		text, status := s.closed(), 404
		if n%2 == 1 {
			text, status = s.config(""), 200
		}
		if err := os.WriteFile(other, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		until(t, "the new config at work", 10*time.Second, func() bool { got, _, _ := fetch(t, r.url+"/health"); return got == status })
	}
}

func TestABadConfigLeavesTheOneBeforeAtWork(t *testing.T) {
	for _, c := range []struct {
		name string
		bad  func(s *site) string
		want string
	}{
		{"not YAML", func(*site) string { return "gatehouse: [" }, "not YAML"},
		{"a rule that does not compile", func(s *site) string {
			return s.config("guardrails: [{id: x, deny: 'principal.nam == \"x\"'}]\n")
		}, `principal`},
		{"an operation that is not there", func(s *site) string { return s.config("", "health:", "helath:") }, `did you mean "health"`},
		{"a test of its own that fails", func(s *site) string {
			return s.closed() + "tests: [{name: everyone lists, call: orders.listOrders, expect: allow}]\n"
		}, `the test "everyone lists" fails`},
		{"a service's CA that is not there", func(s *site) string {
			return s.config("", "    operations:", "    upstream: {ca: ./gone.pem}\n    operations:")
		}, "gone.pem"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, nil)
			r := s.run(s.path())
			good := r.health()
			s.write("gatehouse.yaml", c.bad(s))
			until(t, "the refusal", 10*time.Second, func() bool { return r.health().Status == "degraded" })
			h := r.health()
			if h.Config != good.Config || !strings.Contains(h.Reload, c.want) || h.ReloadTime.IsZero() {
				t.Errorf("%+v", h)
			}
			if status, _, body := fetch(t, r.url+"/orders", "Authorization", s.token("ann")); status != 200 {
				t.Errorf("%d %s", status, body)
			}
			if status, _, _ := fetch(t, "http://"+s.admin+"/readyz"); status != 200 {
				t.Errorf("readyz: %d; it still serves", status)
			}
			if !strings.Contains(r.log.String(), "the one before stays at work") {
				t.Errorf("logged %s", r.log)
			}
			// Taking it back is enough.
			s.write("gatehouse.yaml", s.config(""))
			until(t, "health again", 10*time.Second, func() bool { return r.health().Status == "ok" })
		})
	}
}

// A config that was refused because of a document nobody watches yet is tried
// again when that document is put right.
func TestAFaultInANewDocumentIsNoticedWhenItIsGone(t *testing.T) {
	s := newSite(t, nil)
	r := s.run(s.path())
	s.write("new.yaml", strings.Replace(document, "operationId: slow", "operationId: health", 1))
	s.write("gatehouse.yaml", strings.Replace(s.closed(), "./orders.yaml", "./new.yaml", 1))
	until(t, "the refusal", 10*time.Second, func() bool { return r.health().Status == "degraded" })
	s.write("new.yaml", document)
	r.shut()
	until(t, "health again", 10*time.Second, func() bool { return r.health().Status == "ok" })
}

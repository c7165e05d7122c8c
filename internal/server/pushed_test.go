package server_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/fleet"
	"github.com/gatehouse-api/gatehouse/internal/plan"
	"github.com/gatehouse-api/gatehouse/internal/server"
	"github.com/gatehouse-api/gatehouse/internal/store"
)

// ownSite is a site of a node of a fleet whose config is in the database at path.
func ownSite(t *testing.T, path string) *site {
	t.Helper()
	s := fleetSite(t, path)
	s.write("gatehouse.yaml", fmt.Sprintf(`gatehouse: 1
listeners: [{address: "127.0.0.1:0", plaintext: The tests speak in the clear}]
admin: {address: %q}
fleet: {key: "${file:fleet.key}", config: database}
`, s.admin))
	return s
}

// A desk is where somebody writes the config for all nodes and pushes it.
type pushDesk struct {
	*site

	at *server.Configs
}

func newPushDesk(t *testing.T, node *site) *pushDesk {
	t.Helper()
	own := must[*config.File](t)(config.LoadOwn(node.path()))
	d := &pushDesk{newSite(t, nil), must[*server.Configs](t)(server.OpenConfigs(t.Context(), own))}
	t.Cleanup(func() { _ = d.at.Close() })
	return d
}

func (d *pushDesk) pusher() *plan.Push {
	return &plan.Push{Own: d.at.Own, Configs: d.at.Configs, Author: "os:me"}
}

// push pushes the site's config with more in it.
func (d *pushDesk) push(more string, replace ...string) (*fleet.Revision, error) {
	d.write("gatehouse.yaml", d.config(more, replace...))
	r, _, err := d.pusher().File(context.Background(), d.path())
	return r, err
}

const (
	guardedOrders = "listOrders: {grant: orders:read}"
	hiddenOrders  = "listOrders: {closed: true}" // as if there were none: 404
)

// anonymous is the status of somebody without credentials who asks for the orders.
func (r *running) anonymous() int {
	status, _, _ := fetch(r.t, r.url+"/orders")
	return status
}

func TestAPushedConfigIsAtWorkOnEveryNode(t *testing.T) {
	engine, path := &store.SharedMemory{}, filepath.Join(t.TempDir(), "house.db")
	sa, sb := ownSite(t, path), ownSite(t, path)
	desk := newPushDesk(t, sa)

	err := server.Run(t.Context(), server.Options{Config: sa.path(), Node: "a", Log: slog.New(slog.DiscardHandler)})
	if !errors.Is(err, fleet.ErrNoConfig) {
		t.Fatalf("a node before the first push: %v", err)
	}
	if _, err := desk.push(""); err != nil {
		t.Fatal(err)
	}
	a, b := sa.run(sa.path(), named("a", engine)), sb.run(sb.path(), named("b", engine))
	all := []*running{a, b}
	becomes := func(what string, status int) {
		t.Helper()
		begun := time.Now()
		for _, r := range all {
			until(t, what, 2*time.Second, func() bool { return r.anonymous() == status })
		}
		t.Logf("%s: after %v", what, time.Since(begun).Round(time.Millisecond))
	}
	becomes("the first one", 401)
	if ha, hb := a.health(), b.health(); ha.Config != hb.Config || ha.Config == "" {
		t.Errorf("the digests differ: %s and %s", ha.Config, hb.Config)
	}

	// A push is at work at all of them, and an older one brought back.
	if _, err := desk.push("", guardedOrders, hiddenOrders); err != nil {
		t.Fatal(err)
	}
	becomes("a push", 404)
	if _, stored, err := desk.pusher().Back(t.Context(), 1); err != nil || !stored {
		t.Fatalf("stored %t, %v", stored, err)
	}
	becomes("a rollback", 401)
	if _, stored, err := desk.pusher().Back(t.Context(), 1); err != nil || stored {
		t.Errorf("the same once more: stored %t, %v", stored, err)
	}

	// What does not hold is not stored.
	history := func() []fleet.Revision { return must[[]fleet.Revision](t)(desk.at.History(t.Context())) }
	before := len(history())
	for name, more := range map[string]string{
		"an unknown key":             "\nlistener: []\n",
		"a failing test of its own":  "\ntests: [{name: nobody reads, call: orders.listOrders, expect: allow}]\n",
		"a secret beside it":         "\nidentity: {mail: {smtp: {address: \"localhost:25\", password: \"${file:fleet.key}\"}}}\n",
		"a list above its folder":    "\nnetworks: {lists: {office: {file: ../office.txt}}}\n",
		"a file that is not there":   "\nnetworks: {lists: {office: {file: ./office.txt}}}\n",
		"a private key for its name": "\nnetworks: {lists: {office: {file: ./private.jwk}}}\n",
	} {
		if _, err := desk.push(more); err == nil {
			t.Errorf("%s: it was pushed", name)
		}
	}
	desk.write("jwks.json", `{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA","d":"AA"}]}`)
	if _, err := desk.push("\n# more\n"); err == nil || !strings.Contains(err.Error(), "private") {
		t.Errorf("private keys: %v", err)
	}
	desk.write("jwks.json", string(desk.signer.JWKS()))
	if got := len(history()); got != before {
		t.Errorf("%d revisions became %d", before, got)
	}
}

// TestANodeThatRefusesAConfigKeepsTheOneItHad has a node miss a file of its own.
func TestANodeThatRefusesAConfigKeepsTheOneItHad(t *testing.T) {
	engine, path := &store.SharedMemory{}, filepath.Join(t.TempDir(), "house.db")
	sa, sb := ownSite(t, path), ownSite(t, path)
	desk := newPushDesk(t, sa)
	sb.write("cdn.secret", "sixteen bytes and more")
	sb.write("cdn.txt", "192.0.2.0/24\n")
	const inClear = `{address: "127.0.0.1:0", plaintext: The tests speak in the clear}`
	sb.write("gatehouse.yaml", strings.Replace(string(must[[]byte](t)(os.ReadFile(sb.path()))), "["+inClear+"]", "\n  - "+inClear+`
  - address: "127.0.0.1:0"
    plaintext: The tests speak in the clear
    edge: {profile: generic, ranges: ./cdn.txt, secret: {header: X-CDN, value: "${file:cdn.secret}"}}`, 1))
	first, err := desk.push("")
	if err != nil {
		t.Fatal(err)
	}
	a, b := sa.run(sa.path(), named("a", engine)), sb.run(sb.path(), named("b", engine))
	if log := b.log.String(); !strings.Contains(log, "data folder is new") || !strings.Contains(log, "revision=1") {
		t.Errorf("a node without a memory does not say which revision it begins with: %s", log)
	}
	if err := os.Remove(filepath.Join(sb.dir, "cdn.txt")); err != nil {
		t.Fatal(err)
	}
	if _, err := desk.push("", guardedOrders, hiddenOrders); err != nil {
		t.Fatal(err)
	}
	until(t, "a has taken it", 2*time.Second, func() bool { return a.anonymous() == 404 })
	refused := func(h healthAnswer) bool { return h.Status == "degraded" && strings.Contains(h.Reload, "cdn.txt") }
	until(t, "b has refused it", 2*time.Second, func() bool { return refused(b.health()) })
	if got := b.anonymous(); got != 401 {
		t.Errorf("at b it is at work: %d", got)
	}
	until(t, "all see who refused it, and what is at work there", 6*time.Second, func() bool {
		nodes := must[[]fleet.Node](t)(server.FleetNodes(t.Context(), sa.path()))
		return len(nodes) == 2 && nodes[0].Revision == 2 && nodes[0].Refused == "" && nodes[1].Revision == first.Number && strings.Contains(nodes[1].Refused, "cdn.txt")
	})
	sb.write("cdn.txt", "192.0.2.0/24\n")
	if !strings.Contains(b.log.String(), "revision 2 of the config") {
		t.Errorf("its log: %s", b.log)
	}
	until(t, "with the file it takes it", 2*time.Second, func() bool { return b.health().Status == "ok" && b.anonymous() == 404 })
}

// TestANodeStartsWithWhatItHadWhenItRefusesTheNewest has the config name a file that
// is at no node any more.
func TestANodeStartsWithWhatItHadWhenItRefusesTheNewest(t *testing.T) {
	s := ownSite(t, filepath.Join(t.TempDir(), "house.db"))
	desk := newPushDesk(t, s)
	if _, err := desk.push(""); err != nil {
		t.Fatal(err)
	}
	r := s.run(s.path())
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	s.write("office.txt", "192.0.2.0/24\n")
	if _, err := desk.push("\nnetworks: {lists: {office: {file: "+filepath.Join(s.dir, "office.txt")+"}}}\n", guardedOrders, hiddenOrders); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(s.dir, "office.txt")); err != nil {
		t.Fatal(err)
	}
	r = s.run(s.path())
	if h := r.health(); h.Status != "degraded" || !strings.Contains(h.Reload, "office.txt") || r.anonymous() != 401 {
		t.Errorf("it started with %+v, %d", h, r.anonymous())
	}
	if f := must[*config.File](t)(config.Load(s.path())); len(f.APIs) != 1 || f.Admin.Address != s.admin {
		t.Error("a command line does not see what is at work")
	}
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	s.write("office.txt", "192.0.2.0/24\n")
	if r = s.run(s.path()); r.anonymous() != 404 || r.health().Status != "ok" {
		t.Errorf("with the file: %+v", r.health())
	}
}

func TestARowThatSomebodyChangedIsTakenByNobody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "house.db")
	s := ownSite(t, path)
	desk := newPushDesk(t, s)
	for _, more := range []string{"\n# one\n", "\n# two\n"} {
		if _, err := desk.push(more); err != nil {
			t.Fatal(err)
		}
	}
	r := s.run(s.path(), named("a", &store.SharedMemory{}))
	db := must[*store.DB](t)(store.Open(t.Context(), store.Config{Path: path}))
	defer db.Close()
	change := func(statement string, args ...any) {
		t.Helper()
		if err := db.Write(t.Context(), func(tx *sql.Tx) error {
			_, err := tx.ExecContext(t.Context(), statement, args...)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(what, why string) {
		t.Helper()
		until(t, what, 5*time.Second, func() bool { return strings.Contains(r.health().Reload, why) })
		if got := r.anonymous(); got != 401 {
			t.Errorf("%s: the orders are open: %d", what, got)
		}
	}
	until(t, "the node has told what it has", 5*time.Second, func() bool {
		nodes := must[[]fleet.Node](t)(server.FleetNodes(t.Context(), s.path()))
		return len(nodes) == 1 && nodes[0].Revision == 2
	})
	good := must[*fleet.Revision](t)(desk.at.Newest(t.Context()))
	sum := sha256.Sum256([]byte("x"))
	change(`INSERT INTO fleet_configs (revision, digest, author, made, origin, files, kek, mac)
		SELECT 3, $1, author, made, origin, files, kek, mac FROM fleet_configs WHERE revision = 2`, hex.EncodeToString(sum[:]))
	refused("a digest that is not its files'", "changed it")
	if _, err := desk.at.Newest(t.Context()); !errors.Is(err, fleet.ErrForged) {
		t.Errorf("it is read: %v", err)
	}
	if all := must[[]fleet.Revision](t)(desk.at.History(t.Context())); !all[0].Forged || all[1].Forged {
		t.Errorf("the history does not tell: %+v", all)
	}
	change(`DELETE FROM fleet_configs WHERE revision = 3`)
	change(`UPDATE fleet_configs SET files = REPLACE(files, $1, $2), revision = 9 WHERE revision = 2`, guardedOrders, hiddenOrders)
	refused("other files under the number 9", "revision 9")
	change(`DELETE FROM fleet_configs WHERE revision = 9`)
	refused("the newest one is gone", "set back")
	if r, err := desk.push("\n# two\n"); err != nil || r.Number <= good.Number {
		t.Fatalf("after the database was set back: %+v, %v", r, err)
	}
	until(t, "it is well again", 5*time.Second, func() bool { return r.health().Status == "ok" })
}

func TestOfTwoPushesAtOnceOneIsRefused(t *testing.T) {
	s := ownSite(t, filepath.Join(t.TempDir(), "house.db"))
	var desks [4]*pushDesk
	for i := range desks {
		desks[i] = newPushDesk(t, s)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	won, lost := 0, 0
	for i, d := range desks {
		all.Go(func() {
			r, err := fleet.NewRevision(map[string][]byte{"gatehouse.yaml": fmt.Append(nil, i)})
			if err == nil {
				err = d.at.Push(t.Context(), 0, "os:me", r)
			}
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				won++
			case errors.Is(err, fleet.ErrPushed):
				lost++
			default:
				t.Error(err)
			}
		})
	}
	if all.Wait(); won != 1 || lost != 3 {
		t.Errorf("%d won, %d lost", won, lost)
	}
}

// TestANodeKilledWhileItTakesAConfigStartsAgain kills a node again and again while
// configs are pushed: it starts each time, with the newest.
func TestANodeKilledWhileItTakesAConfigStartsAgain(t *testing.T) {
	s := ownSite(t, filepath.Join(t.TempDir(), "house.db"))
	desk := newPushDesk(t, s)
	if _, err := desk.push(""); err != nil {
		t.Fatal(err)
	}
	for round := range 6 {
		cmd := exec.Command(must[string](t)(os.Executable()))
		cmd.Env = append(os.Environ(), serveConfig+"="+s.path())
		cmd.Stderr = os.Stderr
		out := must[io.ReadCloser](t)(cmd.StdoutPipe())
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.HasPrefix(line, "http") {
			t.Fatalf("round %d: it does not start: %q %v", round, line, err)
		}
		for i := range 3 {
			if _, err := desk.push(fmt.Sprintf("\n# %d %d\n", round, i)); err != nil {
				t.Fatal(err)
			}
			<-time.After(time.Duration(round*40+i*70) * time.Millisecond)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
	}
	newest := must[*fleet.Revision](t)(desk.at.Newest(t.Context()))
	r := s.run(s.path())
	if h := r.health(); h.Status != "ok" || r.anonymous() != 401 {
		t.Errorf("%+v", h)
	}
	left := must[[]os.DirEntry](t)(os.ReadDir(filepath.Join(s.dir, "data", "config")))
	if len(left) != 2 || !strings.HasPrefix(left[0].Name(), fmt.Sprintf("%d-", newest.Number)) || left[1].Name() != config.PushedTaken {
		t.Errorf("in its folder there are %v", left)
	}
}

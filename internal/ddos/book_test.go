package ddos_test

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/ddos"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
)

func must[T any](t testing.TB) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// until waits for something that another goroutine brings about within a second.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	within(t, 2*time.Second, what, ok)
}

func within(t testing.TB, d time.Duration, what string, ok func() bool) {
	t.Helper()
	storetest.Within(t, d, what, ok)
}

// changes is a log of changes that can be told to fail.
type changes struct {
	mu  sync.Mutex
	all []auditlog.Change
	err error
}

func (c *changes) Append(_ context.Context, ch auditlog.Change) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.all = append(c.all, ch)
	}
	return c.err
}

func (c *changes) has(action string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.all, func(ch auditlog.Change) bool { return ch.Action == action })
}

// A line is one node's book and guard, at work until the test ends.
type line struct {
	book  *ddos.Book
	guard *ddos.Guard
	log   *changes
	stop  func()
}

func node(t testing.TB, name, path string, shared ddos.Broadcast) *line {
	t.Helper()
	db := must[*store.DB](t)(store.Open(t.Context(), storetest.At(path)))
	n := &line{log: &changes{}}
	n.book = must[*ddos.Book](t)(ddos.OpenBook(t.Context(), db, n.log))
	n.guard = must[*ddos.Guard](t)(ddos.NewGuard(ddos.GuardConfig{Key: n.book.Key()}))
	n.guard.Configure(ddos.Settings{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.book.Keep(ctx, ddos.KeepConfig{Guard: n.guard, Node: name, Shared: shared})
	}()
	var once sync.Once
	n.stop = func() { once.Do(func() { cancel(); <-done; _ = db.Close() }) }
	t.Cleanup(n.stop)
	return n
}

func (n *line) banned(address string) bool {
	return !n.guard.Arrive(netip.MustParseAddr(address), false, time.Now())
}

func TestABanByHandHoldsOnAllNodesSurvivesARestartAndIsLifted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "g.db")
	a, b := node(t, "a", path, nil), node(t, "b", path, nil)
	if err := a.book.Ban(t.Context(), "os:ann", must[netip.Prefix](t)(ddos.ParsePrefix("203.0.113.9")), "scraper", 0); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*line{a, b} {
		until(t, "the ban", func() bool { return n.banned("203.0.113.9") })
		if n.banned("203.0.113.8") {
			t.Error("a neighbour is banned")
		}
	}
	b.stop()
	b = node(t, "b", path, nil)
	until(t, "the ban after a restart", func() bool { return b.banned("203.0.113.9") })
	if list := must[[]ddos.Entry](t)(b.book.Bans(t.Context())); len(list) != 1 || !list[0].Hand || list[0].By != "os:ann" || list[0].Reason != "scraper" || !list[0].Until.IsZero() {
		t.Errorf("%+v", list)
	}
	if err := b.book.Unban(t.Context(), "os:bob", netip.MustParsePrefix("203.0.113.9/32")); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*line{a, b} {
		until(t, "its end", func() bool { return !n.banned("203.0.113.9") })
	}
	if err := a.book.Unban(t.Context(), "os:bob", netip.MustParsePrefix("203.0.113.9/32")); !errors.Is(err, ddos.ErrNoBan) {
		t.Errorf("lifted twice: %v", err)
	}
	if !a.log.has("ddos.ban") || !b.log.has("ddos.unban") {
		t.Errorf("logged: %+v %+v", a.log.all, b.log.all)
	}
}

func TestWhatOneGuardFindsOutHoldsOnTheOtherNodesAndIsForgivenByHand(t *testing.T) {
	shared := &broadcast{}
	for name, way := range map[string]ddos.Broadcast{"by the database": nil, "by the shared engine": shared} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "g.db")
			a, b := node(t, "a", path, way), node(t, "b", path, way)
			address := netip.MustParseAddr("203.0.113.9")
			within(t, 10*time.Second, "a ban", func() bool {
				for range 500 {
					a.guard.Observe(address, ddos.Outcome{Refused: true}, time.Now())
				}
				return a.banned("203.0.113.9")
			})
			until(t, "the ban at the other node", func() bool { return b.banned("203.0.113.9") })
			until(t, "its line in the log", func() bool { return a.log.has("ddos.bans") })
			if err := b.book.Unban(t.Context(), "os:bob", netip.MustParsePrefix("203.0.113.9/32")); err != nil {
				t.Fatal(err)
			}
			for _, n := range []*line{a, b} {
				until(t, "its end", func() bool { return !n.banned("203.0.113.9") })
			}
		})
	}
}

// broadcast hands every message to all who listen.
type broadcast struct {
	mu  sync.Mutex
	all []func([]byte)
}

func (b *broadcast) Publish(_ context.Context, _ string, m []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.all {
		f(m)
	}
	return nil
}

func (b *broadcast) Subscribe(ctx context.Context, _ string, f func([]byte)) {
	b.mu.Lock()
	b.all = append(b.all, f)
	b.mu.Unlock()
	<-ctx.Done()
}

func TestTheSwitchChallengesOnAllNodesUntilItsTimeIsOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "g.db")
	a, b := node(t, "a", path, nil), node(t, "b", path, nil)
	const long = 3 * time.Second // for both nodes to see it on a busy machine
	if err := a.book.SwitchAttack(t.Context(), "os:ann", true, long); err != nil {
		t.Fatal(err)
	}
	step := func(n *line) ddos.Step { return n.guard.Admit(netip.MustParseAddr("203.0.113.9"), time.Now()).Step }
	for _, n := range []*line{a, b} {
		until(t, "the challenge", func() bool { return step(n) == ddos.Challenge })
	}
	if at := must[ddos.Attack](t)(b.book.Attack(t.Context())); !at.On || at.By != "os:ann" || at.Until.IsZero() {
		t.Errorf("%+v", at)
	}
	for _, n := range []*line{a, b} {
		within(t, long+2*time.Second, "its end", func() bool { return step(n) == ddos.Pass })
		until(t, "both in the log of changes", func() bool { return n.log.has("ddos.attack.began") && n.log.has("ddos.attack.ended") })
	}
	if !a.log.has("ddos.attack.on") {
		t.Error("who switched it on is not logged")
	}
}

func TestWhatCannotBeLoggedIsNotDone(t *testing.T) {
	n := node(t, "a", filepath.Join(t.TempDir(), "g.db"), nil)
	p := netip.MustParsePrefix("203.0.113.9/32")
	if err := n.book.Ban(t.Context(), "os:ann", p, "", time.Hour); err != nil {
		t.Fatal(err)
	}
	n.log.mu.Lock()
	n.log.err = errors.New("disk full")
	n.log.mu.Unlock()
	if err := n.book.Unban(t.Context(), "os:ann", p); err == nil {
		t.Error("lifted without a line in the log")
	}
	if err := n.book.Ban(t.Context(), "os:ann", netip.MustParsePrefix("203.0.113.8/32"), "", 0); err == nil {
		t.Error("banned without a line in the log")
	}
	if err := n.book.SwitchAttack(t.Context(), "os:ann", true, 0); err == nil {
		t.Error("switched on without a line in the log")
	}
	list, at := must[[]ddos.Entry](t)(n.book.Bans(t.Context())), must[ddos.Attack](t)(n.book.Attack(t.Context()))
	if len(list) != 1 || list[0].Prefix != p || at.On {
		t.Errorf("%+v %+v", list, at)
	}
}

func TestNetworksThatMustBeMeantOtherwiseAreNotBanned(t *testing.T) {
	n := node(t, "a", filepath.Join(t.TempDir(), "g.db"), nil)
	for _, text := range []string{"0.0.0.0/0", "::/0", "10.0.0.0/7", "2000::/3"} {
		if err := n.book.Ban(t.Context(), "os:ann", must[netip.Prefix](t)(ddos.ParsePrefix(text)), "", 0); !errors.Is(err, ddos.ErrTooBig) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for text, want := range map[string]string{
		"2001:db8::1": "2001:db8::/64", "203.0.113.77/24": "203.0.113.0/24", "::ffff:192.0.2.1": "192.0.2.1/32", "fe80::1%eth0": "", "x": "", "1.2.3.4/33": "",
	} {
		p, err := ddos.ParsePrefix(text)
		if got := p.String(); want != "" && got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %s %v, want %q", text, got, err, want)
		}
	}
}

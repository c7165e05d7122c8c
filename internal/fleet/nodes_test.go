package fleet_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/fleet"
)

// beat is slow enough for a busy machine: who misses four of them is taken for dead.
const beat = 300 * time.Millisecond

// said is what nodes log.
type said struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(b)
}

func (s *said) logger() *slog.Logger { return slog.New(slog.NewTextHandler(s, nil)) }

func config(t *testing.T, path, name string, shared bool) fleet.NodesConfig {
	t.Helper()
	return fleet.NodesConfig{DB: database(t, path), Name: name, Home: t.TempDir(), Shared: shared, Log: new(said).logger(), Beat: beat}
}

// run lets a node live; dead ends it as kill -9 does, its row stays.
func run(t *testing.T, cfg fleet.NodesConfig, config string) (n *fleet.Nodes, dead func()) {
	t.Helper()
	n = must[*fleet.Nodes](t)(fleet.Join(t.Context(), cfg))
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { n.Run(ctx, func() fleet.Facts { return fleet.Facts{Config: config} }) })
	dead = sync.OnceFunc(func() { stop(); running.Wait() })
	t.Cleanup(dead)
	return n, dead
}

func TestTwoNodesOfOneNameAreNotLetIn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "house.db")
	_, dead := run(t, config(t, path, "a", true), "1")
	begun := time.Now()
	_, err := fleet.Join(t.Context(), config(t, path, "a", true))
	if !errors.Is(err, fleet.ErrTaken) || !strings.Contains(err.Error(), "--node") {
		t.Fatalf("the second one: %v", err)
	}
	if took := time.Since(begun); took > 4*beat+10*time.Second {
		t.Errorf("it took %v to see that the first one lives", took)
	}
	run(t, config(t, path, "b", true), "1")
	dead()
	if _, err := fleet.Join(t.Context(), config(t, path, "a", true)); err != nil {
		t.Errorf("after the death of the first: %v", err)
	}
}

func TestNodesWithoutASharedEngineMustBeAlone(t *testing.T) {
	for _, tt := range []struct {
		name          string
		first, second bool
	}{
		{"neither has it", false, false},
		{"the first has it", true, false},
		{"the second has it", false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "house.db")
			run(t, config(t, path, "a", tt.first), "1")
			if _, err := fleet.Join(t.Context(), config(t, path, "b", tt.second)); !errors.Is(err, fleet.ErrTaken) || !strings.Contains(err.Error(), "`shared`") {
				t.Errorf("the second one: %v", err)
			}
		})
	}
}

func TestANodeThatWasKilledStartsAgainAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "house.db")
	cfg := config(t, path, "a", true)
	_, dead := run(t, cfg, "1")
	dead()
	cfg.Beat = time.Hour // nothing that waits for a heartbeat ends
	begun := time.Now()
	n := must[*fleet.Nodes](t)(fleet.Join(t.Context(), cfg))
	if took := time.Since(begun); took > time.Minute {
		t.Errorf("it took %v", took)
	}
	if all := must[[]fleet.Node](t)(fleet.List(t.Context(), cfg.DB)); len(all) != 1 {
		t.Errorf("nodes: %+v", all)
	}
	if err := n.Leave(); err != nil {
		t.Fatal(err)
	}
	if all := must[[]fleet.Node](t)(fleet.List(t.Context(), cfg.DB)); len(all) != 0 {
		t.Errorf("nodes after it left: %+v", all)
	}
}

func TestANodeIsToldThatItsClockOrAnothersIsWrong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "house.db")
	cfg := config(t, path, "a", true)
	log := new(said)
	cfg.Log = log.logger()
	run(t, cfg, "1")
	run(t, config(t, path, "b", true), "1")
	const complaint = "clock of this node"
	told := func() bool {
		log.mu.Lock()
		defer log.mu.Unlock()
		return strings.Contains(log.buf.String(), complaint)
	}
	until(t, "both to see each other", 10*time.Second, func() bool { return len(must[[]fleet.Node](t)(fleet.List(t.Context(), cfg.DB))) == 2 })
	if told() {
		t.Error("clocks that agree are called wrong")
	}
	n := 0
	until(t, "the word about the clock of c", 10*time.Second, func() bool { // which is an hour behind
		n++
		err := cfg.DB.Write(t.Context(), func(tx *sql.Tx) error {
			_, err := tx.ExecContext(t.Context(), `INSERT INTO fleet_nodes (instance, name, home, shared, joined, beat, started, seen, facts) VALUES ('zzz', 'c', 'h', 1, 1, $1, 1, $2, '{}')
				ON CONFLICT (instance) DO UPDATE SET beat = $1, seen = $2`, n, time.Now().Add(-time.Hour).UnixMilli())
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return told()
	})
}

func TestAnEmptyNodeIDIsMadeAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "house.db")
	cfg := config(t, path, "a", true)
	name := filepath.Join(cfg.Home, "node-id")
	if err := os.WriteFile(name, nil, 0o600); err != nil { // as a full disk left it
		t.Fatal(err)
	}
	n := must[*fleet.Nodes](t)(fleet.Join(t.Context(), cfg))
	made := must[[]byte](t)(os.ReadFile(name))
	if err := n.Leave(); err != nil || len(made) < 10 {
		t.Fatalf("%q, %v", made, err)
	}
	n = must[*fleet.Nodes](t)(fleet.Join(t.Context(), cfg))
	if again := must[[]byte](t)(os.ReadFile(name)); string(again) != string(made) {
		t.Errorf("%q, then %q", made, again)
	}
	if err := n.Leave(); err != nil {
		t.Error(err)
	}
}

func TestOfTwoThatComeAtOnceOneGetsTheName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "house.db")
	configs := []fleet.NodesConfig{config(t, path, "a", true), config(t, path, "a", true), config(t, path, "a", true)}
	var all sync.WaitGroup
	var mu sync.Mutex
	in := 0
	for _, cfg := range configs {
		all.Go(func() {
			n, err := fleet.Join(t.Context(), cfg)
			if err != nil {
				if !errors.Is(err, fleet.ErrTaken) {
					t.Error(err)
				}
				return
			}
			mu.Lock()
			in++
			mu.Unlock()
			ctx, cancel := context.WithTimeout(t.Context(), 20*beat)
			defer cancel()
			n.Run(ctx, func() fleet.Facts { return fleet.Facts{} })
		})
	}
	if all.Wait(); in != 1 {
		t.Errorf("%d have the name", in)
	}
}

func TestNodesSeeEachOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "house.db")
	a, _ := run(t, config(t, path, "a", true), "one")
	b, dead := run(t, config(t, path, "b", true), "two")
	until(t, "both see both", 20*time.Second, func() bool {
		all := a.Alive()
		return len(all) == 2 && all[1].Config != "" && len(b.Alive()) == 2
	})
	if got := a.Alive(); got[0].Name != "a" || got[1].Name != "b" || got[1].Config != "two" || a.Differ() || a.Err() != nil {
		t.Errorf("a sees %+v", got)
	}
	dead()
	until(t, "a is alone", 20*time.Second, func() bool { return len(a.Alive()) == 1 })
}

func TestANodeAtAnotherEngineIsNotReady(t *testing.T) {
	path := filepath.Join(t.TempDir(), "house.db")
	peers := func(names ...string) func(context.Context) ([]string, error) {
		return func(context.Context) ([]string, error) { return names, nil }
	}
	a, b := config(t, path, "a", true), config(t, path, "b", true)
	a.Peers, b.Peers = peers("a"), peers("b")
	older, _ := run(t, a, "1")
	younger, _ := run(t, b, "1")
	until(t, "the younger one sees it", 20*time.Second, func() bool { return errors.Is(younger.Err(), fleet.ErrTaken) })
	if older.Err() != nil {
		t.Errorf("the older one stops for it: %v", older.Err())
	}
	c := config(t, path, "c", true)
	c.Peers = func(context.Context) ([]string, error) { return nil, errors.New("away") }
	third, dead := run(t, c, "1")
	until(t, "c sees all", 20*time.Second, func() bool { return len(third.Alive()) == 3 })
	if dead(); third.Err() != nil {
		t.Errorf("an engine that is away is taken for another one: %v", third.Err())
	}
}

package fleet

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/store"
)

const (
	beatEvery   = 2 * time.Second
	lifeBeats   = 4                // a node that has missed so many is gone
	differAfter = 30 * time.Second // a deployment takes its time

	clocksApart = 10 * time.Second // what callers' tokens bear

	deadAfter = (lifeBeats + 1) * beatEvery // of silence, for who has not watched
)

// ErrTaken tells that this process may not be a node beside one that is alive.
var ErrTaken = errors.New("this node may not run beside another")

// Facts are what a node says of itself, for people.
type Facts struct {
	Version  string `json:"version,omitempty"`
	Config   string `json:"config,omitempty"`   // digest of the config at work
	Revision int64  `json:"revision,omitempty"` // of the config at work, where it was pushed
	Refused  string `json:"refused,omitempty"`  // why it did not take the last config
	Engine   string `json:"engine,omitempty"`   // why the shared engine is away
	Leads    bool   `json:"leads,omitempty"`
}

// A Node is one process on the database.
type Node struct {
	Name    string    `json:"name"`
	Self    bool      `json:"-"`
	Shared  bool      `json:"shared"` // it has the engine the nodes share
	Alive   bool      `json:"alive"`
	Started time.Time `json:"started"`
	Seen    time.Time `json:"seen"` // by its own clock
	Facts

	instance, home string
	joined         bool
	beat           int64
}

// A NodesConfig says who this process is. DB, Name and Home are required.
type NodesConfig struct {
	DB     *store.DB
	Name   string
	Home   string                                  // the data folder, which no two processes serve from: who starts there again takes its own place
	Shared bool                                    // it has the engine the nodes share. Without, it must be alone: marks and limits are its own
	Peers  func(context.Context) ([]string, error) // names of the nodes at the shared engine; nil: nobody asks
	Log    *slog.Logger
	Beat   time.Duration // between two heartbeats; 0: 2 s
}

// Nodes is this process's place among the nodes of its database. It is safe for
// concurrent use.
type Nodes struct {
	cfg      NodesConfig
	instance string
	started  time.Time

	mu     sync.Mutex
	pulses map[string]pulse // of the others
	alive  []Node           // at the last look
	err    error
	since  time.Time // the digests differ; zero: they do not
	apart  time.Time // since when another one is not at our engine; zero: all are
	told   bool
	clocks bool // said that they differ
}

// A pulse is a heartbeat and when it was seen to be another than before.
type pulse struct {
	beat int64
	at   time.Time
}

// Join brings the tables up to date and enters this process, or fails with
// [ErrTaken]. To tell a node that died from one that lives takes eight seconds;
// nothing has to be told where nobody has the name.
func Join(ctx context.Context, cfg NodesConfig) (*Nodes, error) {
	if cfg.DB == nil || cfg.Name == "" || cfg.Home == "" || cfg.Log == nil {
		return nil, errors.New("fleet: a node needs a database, a name, a data folder and a log")
	}
	if cfg.Beat == 0 {
		cfg.Beat = beatEvery
	}
	if err := cfg.DB.Migrate(ctx, Tables()); err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	home, err := homeOf(cfg.Home)
	if err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	cfg.Home = home
	n := &Nodes{cfg: cfg, instance: rand.Text(), started: time.Now(), pulses: map[string]pulse{}}
	if err := n.join(ctx); err != nil {
		return nil, fmt.Errorf("fleet: %w", errors.Join(err, n.Leave()))
	}
	return n, nil
}

// homeOf is the id of a data folder, made there once. An empty file is none: a full
// disk may have left it.
func homeOf(dir string) (string, error) {
	name := filepath.Join(dir, "node-id")
	b, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	id := strings.TrimSpace(string(b))
	if id != "" {
		return id, nil
	}
	id = rand.Text()
	fresh := name + ".new"
	if err := errors.Join(os.RemoveAll(fresh), writeFile(fresh, id+"\n")); err != nil {
		return "", errors.Join(err, os.RemoveAll(fresh))
	}
	if err := os.Rename(fresh, name); err != nil {
		return "", err
	}
	return id, syncFolder(dir)
}

func (n *Nodes) join(ctx context.Context) error {
	tick := time.NewTicker(n.cfg.Beat / 2)
	defer tick.Stop()
	for {
		if err := n.write(ctx, false, Facts{}); err != nil {
			return err
		}
		others, err := n.others(ctx)
		if err != nil {
			return err
		}
		waiting := false
		for _, o := range others {
			why := n.conflict(o)
			if why == nil {
				continue
			}
			if o.home == n.cfg.Home && o.Name == n.cfg.Name {
				// The folder is ours alone: that process is gone.
				if err := n.remove(ctx, o); err != nil {
					return err
				}
				continue
			}
			switch beating, silent := n.watch(o); {
			case silent > lifeBeats*n.cfg.Beat:
				if err := n.remove(ctx, o); err != nil {
					return err
				}
			case beating && (o.joined || o.instance < n.instance): // of two that come at once one goes
				return why
			default:
				waiting = true
			}
		}
		if !waiting {
			return n.write(ctx, true, Facts{})
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// conflict says why o, if it is alive, and this node must not both run.
func (n *Nodes) conflict(o Node) error {
	switch {
	case o.Name == n.cfg.Name:
		return fmt.Errorf("%w: another one named %q, started at %s, is alive on this database; give this one a name of its own with --node",
			ErrTaken, o.Name, o.Started.UTC().Format(time.RFC3339))
	case !n.cfg.Shared || !o.Shared:
		return fmt.Errorf("%w: %q is alive on this database, and they do not share an engine: what was used at one could be used again at the other; "+
			"give all nodes the same `shared`", ErrTaken, o.Name)
	}
	return nil
}

// watch notes a heartbeat, and tells whether it has ever changed while this process
// looked, and for how long it has not.
func (n *Nodes) watch(o Node) (beating bool, silent time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p, known := n.pulses[o.instance]
	if beating = known && p.beat != o.beat; beating || !known {
		p = pulse{o.beat, time.Now()}
		n.pulses[o.instance] = p
	}
	return beating, time.Since(p.at)
}

// write is a heartbeat.
func (n *Nodes) write(ctx context.Context, joined bool, about Facts) error {
	facts, err := json.Marshal(about)
	if err != nil {
		return err
	}
	is := map[bool]int{true: 1}
	return n.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO fleet_nodes (instance, name, home, shared, joined, beat, started, seen, facts)
			VALUES ($1, $2, $3, $4, $5, 1, $6, $7, $8)
			ON CONFLICT (instance) DO UPDATE SET joined = $5, beat = fleet_nodes.beat + 1, seen = $7, facts = $8`,
			n.instance, n.cfg.Name, n.cfg.Home, is[n.cfg.Shared], is[joined], n.started.UnixMilli(), time.Now().UnixMilli(), string(facts))
		return err
	})
}

func (n *Nodes) remove(ctx context.Context, o Node) error {
	return n.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM fleet_nodes WHERE instance = $1 AND beat = $2`, o.instance, o.beat)
		return err
	})
}

func (n *Nodes) others(ctx context.Context) ([]Node, error) {
	all, err := list(ctx, n.cfg.DB)
	return slices.DeleteFunc(all, func(o Node) bool { return o.instance == n.instance }), err
}

// List gives the processes on a database by name. Alive is by the clock of this
// machine and that of each node.
func List(ctx context.Context, db *store.DB) ([]Node, error) {
	if err := db.Migrate(ctx, Tables()); err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	return list(ctx, db)
}

// Living gives the names of the nodes that are alive, as tx sees them, by the clock of
// this machine and theirs. Tables that are not there yet have none.
func Living(ctx context.Context, tx *sql.Tx) (names []string, err error) {
	var known int
	if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM schema_migrations WHERE room = 'fleet' AND name = '0002_nodes.sql'`).Scan(&known); err != nil || known == 0 {
		return nil, err
	}
	return store.Texts(ctx, tx, `SELECT name FROM fleet_nodes WHERE seen > $1 ORDER BY name`, time.Now().Add(-deadAfter).UnixMilli())
}

func list(ctx context.Context, db *store.DB) (all []Node, err error) {
	err = db.Read(ctx, func(tx *sql.Tx) error {
		all = nil
		rows, err := tx.QueryContext(ctx, `SELECT instance, name, home, shared, joined, beat, started, seen, facts FROM fleet_nodes ORDER BY name, started`)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var n Node
			var shared, joined, started, seen int64
			var facts string
			if err := rows.Scan(&n.instance, &n.Name, &n.home, &shared, &joined, &n.beat, &started, &seen, &facts); err != nil {
				return err
			}
			if err := json.Unmarshal([]byte(facts), &n.Facts); err != nil {
				return fmt.Errorf("the facts of node %s: %w", n.Name, err)
			}
			n.Shared, n.joined, n.Started, n.Seen = shared == 1, joined == 1, store.Moment(started), store.Moment(seen)
			n.Alive = time.Since(n.Seen) < deadAfter
			all = append(all, n)
		}
		return rows.Err()
	})
	return all, err
}

// Run beats until ctx ends. Facts is asked before each.
func (n *Nodes) Run(ctx context.Context, facts func() Facts) {
	tick := time.NewTicker(n.cfg.Beat)
	defer tick.Stop()
	away := false
	for {
		err := n.beat(ctx, facts())
		if ctx.Err() != nil {
			return
		}
		if away != (err != nil) {
			if away = err != nil; away {
				n.cfg.Log.Error("this node cannot tell the others that it lives", slog.Any("error", err))
			} else {
				n.cfg.Log.Info("this node can tell the others again that it lives")
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (n *Nodes) beat(ctx context.Context, about Facts) error {
	ctx, cancel := context.WithTimeout(ctx, answerIn)
	defer cancel()
	if err := n.write(ctx, true, about); err != nil {
		return err
	}
	asked := time.Now()
	others, err := n.others(ctx)
	if err != nil {
		return err
	}
	slow := time.Since(asked) > time.Second // then what it says of clocks is of no worth
	var apart []string
	var taken error
	alive := []Node{{Name: n.cfg.Name, Self: true, Alive: true, Facts: about}}
	for _, o := range others {
		beating, silent := n.watch(o)
		if beating && !slow && time.Since(o.Seen).Abs() > clocksApart+n.cfg.Beat {
			apart = append(apart, o.Name)
		}
		if silent > lifeBeats*n.cfg.Beat {
			if silent > 10*lifeBeats*n.cfg.Beat {
				if err := n.remove(ctx, o); err != nil {
					return err
				}
			}
			continue
		}
		// Two that lost sight of the database, and of each other: one of them goes.
		if why := n.conflict(o); why != nil && o.joined && o.instance < n.instance {
			taken = why
		}
		o.Alive = true
		alive = append(alive, o)
	}
	if taken == nil && n.cfg.Peers != nil {
		taken = n.missing(ctx, alive[1:])
	}
	n.note(alive, taken)
	n.noteClocks(apart)
	return nil
}

// noteClocks says it once when this node's clock is not that of others.
func (n *Nodes) noteClocks(apart []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(apart) > 0 && !n.clocks {
		n.cfg.Log.Warn("the clock of this node, or of these, is wrong: bans, tokens and limits end at another time there; run NTP", slog.Any("nodes", apart))
	}
	n.clocks = len(apart) > 0
}

// missing tells that an older node of this database has not been at our shared
// engine for some beats: it works with another one, and what is used at it is not
// marked at ours. The younger goes, so that one wrong setting stops one node.
func (n *Nodes) missing(ctx context.Context, others []Node) error {
	at, err := n.cfg.Peers(ctx)
	if err != nil {
		return nil //nolint:nilerr // while the engine is away there are no marks, and nothing is taken by them
	}
	older := slices.IndexFunc(others, func(o Node) bool { return o.joined && o.Started.Before(n.started) && !slices.Contains(at, o.Name) })
	if older < 0 {
		n.apart = time.Time{}
		return nil
	}
	if n.apart.IsZero() {
		n.apart = time.Now()
	}
	if time.Since(n.apart) <= lifeBeats*n.cfg.Beat {
		return nil
	}
	return fmt.Errorf("%w: %q is alive on this database, and not at this node's shared engine; give all nodes the same `shared`", ErrTaken, others[older].Name)
}

// note keeps what a look has shown, and says it once when configs differ for long.
func (n *Nodes) note(alive []Node, taken error) {
	differ := slices.ContainsFunc(alive, func(o Node) bool { return o.Config != alive[0].Config })
	n.mu.Lock()
	defer n.mu.Unlock()
	if taken != nil && n.err == nil {
		n.cfg.Log.Error("this node is not ready", slog.Any("error", taken))
	}
	n.alive, n.err = alive, taken
	switch {
	case !differ && n.told:
		n.cfg.Log.Info("all nodes work with one config again")
		n.since, n.told = time.Time{}, false
	case !differ:
		n.since = time.Time{}
	case n.since.IsZero():
		n.since = time.Now()
	case !n.told && time.Since(n.since) > differAfter:
		n.told = true
		var which []string
		for _, o := range alive {
			which = append(which, o.Name+" "+o.Config[:min(12, len(o.Config))])
		}
		n.cfg.Log.Warn("the nodes work with different configs", slog.Any("nodes", which))
	}
}

// Alive gives the nodes at the last look, this one first.
func (n *Nodes) Alive() []Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.alive
}

// Differ reports whether the nodes' configs have differed for over 30 seconds.
func (n *Nodes) Differ() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.since.IsZero() && time.Since(n.since) > differAfter
}

// Err is why this node must not take requests now: [ErrTaken].
func (n *Nodes) Err() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}

// Leave takes this process out of the list.
func (n *Nodes) Leave() error {
	ctx, cancel := context.WithTimeout(context.Background(), answerIn)
	defer cancel()
	return n.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM fleet_nodes WHERE instance = $1`, n.instance)
		return err
	})
}

package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/fleet"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// The documents of keys of a house, in its data folder or in its database.
const (
	internalKeys = "internal-token.jwks"
	ringKeys     = "oauth-keys"
	sealKeys     = "seal.json"
	decryptKey   = "token-decryption.jwk"
)

func ringAlgorithms() []token.Algorithm {
	return []token.Algorithm{token.ES256, token.EdDSA, token.RS256}
}

// keeperOf is who has the keys of the house: its data folder, or in a fleet the
// database, which takes in what the folder has when it has none yet.
func keeperOf(ctx context.Context, f *config.File, db *store.DB, changes *auditlog.Changes, log *slog.Logger) (token.Keeper, error) {
	if f.Fleet == nil {
		return token.Files(f.Data.Value), nil
	}
	keys, err := fleet.OpenKeys(ctx, fleetKeys(f, db, changes))
	if err != nil {
		return nil, config.Errorf(f.Fleet.Place, "%v", err)
	}
	names := []string{internalKeys, sealKeys, decryptKey}
	for _, alg := range ringAlgorithms() {
		names = append(names, path.Join(ringKeys, strings.ToLower(string(alg))+".jwks"))
	}
	taken, err := keys.TakeIn(ctx, token.Files(f.Data.Value), names...)
	if len(taken) > 0 {
		log.Info("the keys of the data folder are in the database now; once it has a backup, remove these files", slog.Any("files", taken))
	}
	return keys, err
}

func fleetKeys(f *config.File, db *store.DB, changes *auditlog.Changes) fleet.KeysConfig {
	cfg := fleet.KeysConfig{DB: db, Key: f.Fleet.Key.Secret, Changes: changes}
	for _, s := range f.Fleet.OtherKeys {
		cfg.Others = append(cfg.Others, s.Secret)
	}
	return cfg
}

// join enters this node among those of its database, where the config says that it
// is one of several, and finds out whether it leads.
func (h *House) join(ctx context.Context, f *config.File, engine store.SharedConfig) (err error) {
	if s := f.Shared; s != nil {
		engine.URL, engine.CA, engine.Prefix = s.URL.Secret, s.CA.Name(), s.Prefix
	}
	if h.shared, err = store.OpenShared(ctx, engine); err != nil {
		if f.Shared != nil {
			err = config.Errorf(f.Shared.Place, "%v", err)
		}
		return err
	}
	h.close = append(h.close, h.shared.Close)
	h.leader = fleet.NewLeader(h.ctx, h.shared, h.log)
	h.workers.Go(func() { h.leader.Run(h.ctx) })
	if f.Fleet == nil {
		return nil
	}
	h.nodes, err = fleet.Join(ctx, fleet.NodesConfig{DB: h.db, Name: engine.Node, Home: f.Data.Value, Shared: h.shared.Remote(), Peers: h.peers, Log: h.log})
	if err != nil {
		return config.Errorf(f.Fleet.Place, "%v", err)
	}
	h.close = append(h.close, h.nodes.Leave)
	h.workers.Go(func() { h.nodes.Run(h.ctx, h.about) })
	h.workers.Go(func() { h.signer.Run(h.ctx, h.reporter("keys of internal tokens")) })
	return nil
}

// peers are the nodes at the shared engine.
func (h *House) peers(ctx context.Context) (names []string, err error) {
	nodes, err := h.shared.Nodes(ctx)
	for _, n := range nodes {
		names = append(names, n.Name)
	}
	return names, err
}

// about is what the other nodes are told of this one.
func (h *House) about() fleet.Facts {
	h.mu.Lock()
	f := h.facts
	h.mu.Unlock()
	f.Leads, _ = h.leader.Leads()
	if err := h.shared.Err(); err != nil {
		f.Engine = err.Error()
	}
	return f
}

// describe sets what about says of the config.
func (h *House) describe(f fleet.Facts) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.facts = f
}

// onlyOne runs what one node does for all; nobody does for a command line.
func (h *House) onlyOne(ctx context.Context, work func(context.Context) error) error {
	if h.leader == nil {
		return nil
	}
	return h.leader.Do(ctx, work)
}

// alive is for the metrics; nil where there is no fleet.
func (h *House) alive() func() (int, bool) {
	if h.nodes == nil {
		return nil
	}
	return func() (int, bool) { return len(h.nodes.Alive()), h.nodes.Differ() }
}

// count is how many nodes there are: an engine away since the start knows none, the database does.
func (h *House) count() int {
	if h.nodes == nil {
		return h.shared.Count()
	}
	return max(h.shared.Count(), len(h.nodes.Alive()))
}

// fleetStatus writes who is alive, and returns why this node is not ready beside them.
func (h *House) fleetStatus(w io.Writer) error {
	if h.nodes == nil {
		return nil
	}
	for _, n := range h.nodes.Alive() {
		_, _ = fmt.Fprintf(w, "node %s: config %.12s, revision %d, leads %t\n", n.Name, n.Config, n.Revision, n.Leads)
	}
	if h.nodes.Differ() {
		_, _ = fmt.Fprintln(w, "fleet: the nodes work with different configs")
	}
	if err := h.nodes.Err(); err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	return nil
}

// marks are those of all nodes. One that must not run beside another may not know
// what that one has marked.
type marks struct{ of *House }

// Once is of [token.Marks].
func (m marks) Once(ctx context.Context, space, key string, ttl time.Duration) (bool, error) {
	if err := m.of.nodes.Err(); err != nil {
		return false, err
	}
	return m.of.shared.Once(ctx, space, key, ttl)
}

// ErrNoFleet tells that a config is of a node of its own.
var ErrNoFleet = errors.New("there is no fleet in it: this node is one of its own")

// FleetNodes lists the nodes on the database of a config.
func FleetNodes(ctx context.Context, file string) (_ []fleet.Node, err error) {
	own, err := config.LoadOwn(file)
	if err != nil {
		return nil, err
	}
	c, err := OpenConfigs(ctx, own)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	return fleet.List(ctx, c.db)
}

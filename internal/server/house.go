package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/cache"
	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/ddos"
	"github.com/gatehouse-api/gatehouse/internal/egress"
	"github.com/gatehouse-api/gatehouse/internal/fleet"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
	"github.com/gatehouse-api/gatehouse/internal/monitor"
	"github.com/gatehouse-api/gatehouse/internal/ratelimit"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// A House is what outlives a reload: stores, counts, keys, connections. Its
// goroutines end with the context of openHouse and are waited for by Close.
type House struct {
	log     *slog.Logger
	ctx     context.Context //nolint:containedctx // the life of the house's own goroutines
	stop    context.CancelFunc
	workers sync.WaitGroup

	db      *store.DB
	keys    *authn.Keys
	record  *auditlog.Log
	changes *auditlog.Changes
	signer  *token.Signer
	keeper  token.Keeper // of the keys
	shared  *store.Shared
	leader  *fleet.Leader
	nodes   *fleet.Nodes // nil: a node of its own
	pools   *gateway.Pools
	limiter *ratelimit.Limiter
	meter   *monitor.Monitor
	gate    *gateway.Gateway
	book    *ddos.Book
	guard   *ddos.Guard
	close   []func() error

	mu        sync.Mutex
	keysets   map[string]*keyset    // by what they are, so that a reload keeps them
	secrets   *secrets              // nil until there is an authorization server
	authority *authority            // at work; nil: the config has none
	proofs    map[string]remembered // DPoP proofs seen
	facts     fleet.Facts           // for the other nodes
}

// A keyset is an issuer's keys and what keeps them fresh.
type keyset struct {
	set  *token.KeySet
	stop func()
}

// internalIssuer is iss of the tokens services get. It is a name, not a URL:
// services are given the keys, they do not discover them.
const internalIssuer = "gatehouse"

// openHouse opens what the config's data folder holds. Engine has the node's name, its
// log, and where nodes of one process share. What it opened before an error it has
// closed again.
func openHouse(ctx context.Context, f *config.File, engine store.SharedConfig) (h *House, err error) {
	node, log := engine.Node, engine.Log
	h = &House{log: log, keysets: map[string]*keyset{}, proofs: map[string]remembered{}}
	h.ctx, h.stop = context.WithCancel(ctx)
	defer func() {
		if err != nil {
			err = errors.Join(err, h.Close())
		}
	}()
	if err := os.MkdirAll(f.Data.Value, 0o700); err != nil {
		return h, fmt.Errorf("%s: data: %w", f.Data.Place, err)
	}
	if h.changes, err = auditlog.OpenChanges(f.Events.Path.Value); err != nil {
		return h, err
	}
	if h.record, err = auditlog.Open(auditlog.Config{
		Dir: f.Events.Path.Value, RotateBytes: int64(f.Events.Rotate), Keep: f.Events.Keep, Sync: f.Events.Sync,
	}); err != nil {
		return h, err
	}
	h.close = append(h.close, h.record.Close)
	if h.db, h.keys, err = openKeys(ctx, f, h.changes); err != nil {
		return h, err
	}
	h.close = append(h.close, h.db.Close)
	h.workers.Go(func() {
		h.keys.Run(h.ctx, func(err error) {
			if err != nil {
				log.Error("the API keys cannot be read", slog.Any("error", err))
			} else {
				log.Info("the API keys can be read again")
			}
		})
	})
	if h.keeper, err = keeperOf(ctx, f, h.db, h.changes, log); err != nil {
		return h, err
	}
	if h.signer, err = token.OpenSigner(h.keeper, internalKeys, token.ES256); err != nil {
		return h, err
	}
	if err := h.join(ctx, f, engine); err != nil {
		return h, err
	}
	h.workers.Go(h.rotateKeys)
	mint, err := token.NewMinter(token.MinterConfig{Issuer: internalIssuer}, h.signer)
	if err != nil {
		return h, err
	}
	h.pools = gateway.NewPools(mint)
	quotas, err := ratelimit.OpenQuotas(ctx, h.db, h.count, h.onlyOne)
	if err != nil {
		return h, err
	}
	if h.limiter, err = ratelimit.New(ratelimit.Config{Engine: h.shared, Nodes: h.count, Quotas: quotas, Log: log}); err != nil {
		return h, err
	}
	h.workers.Go(func() { h.limiter.Run(h.ctx) })
	if err = h.openGuard(ctx, &f.DDoS, node); err != nil {
		return h, err
	}
	h.meter = monitor.New(monitor.Sources{
		Upstreams: h.services, Record: h.record.Depth, RecordErr: h.record.Err, Overflow: h.limiter.Overflowed, Refusals: h.limiter.Refusals,
		LimitsErr: h.limiter.SharedErr, QuotasErr: h.limiter.QuotaErr, Guard: h.guard.Figures, Nodes: h.alive(),
		Cache: func() cache.Figures { return h.gate.CacheFigures() },
	})
	h.gate, err = gateway.New(gateway.Deps{Record: h.record, Meter: h.meter, Limiter: h.limiter, Guard: h.guard, NewID: auditlog.NewID, Node: node})
	return h, err
}

// keyLife is how long a key signs internal tokens. Its successor is published all
// the while, so that services know it before it signs.
const keyLife = 30 * 24 * time.Hour

// rotateKeys gives the internal tokens a new key when the old one has signed for
// long enough, and the authorization server, if this node is the one that does.
func (h *House) rotateKeys() {
	hourly := time.NewTicker(time.Hour)
	defer hourly.Stop()
	for {
		err := h.leader.Do(h.ctx, func(context.Context) error {
			rotated, err := h.signer.Rotate(keyLife)
			if rotated {
				h.log.Info("internal tokens are signed by a new key")
			}
			h.mu.Lock()
			s := h.secrets
			h.mu.Unlock()
			if s != nil {
				_, more := s.keys.Rotate(keyLife)
				err = errors.Join(err, more)
			}
			return err
		})
		if err != nil {
			h.log.Error("keys could not be rotated; the ones before sign on", slog.Any("error", err))
		}
		select {
		case <-h.ctx.Done():
			return
		case <-hourly.C:
		}
	}
}

// openKeys opens the database and the API keys in it.
func openKeys(ctx context.Context, f *config.File, changes *auditlog.Changes) (*store.DB, *authn.Keys, error) {
	db, err := OpenDatabase(ctx, f, store.Open)
	if err != nil {
		return nil, nil, err
	}
	keys, err := authn.NewKeys(ctx, authn.KeysConfig{DB: db, Environment: f.Environment, Log: changes})
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return db, keys, nil
}

// Close ends the house's goroutines and closes what it has open.
func (h *House) Close() error {
	h.stop()
	h.mu.Lock()
	for _, k := range h.keysets {
		k.stop()
	}
	h.mu.Unlock()
	h.workers.Wait()
	if h.gate != nil {
		if s := h.gate.Swap(nil); s != nil {
			release(s)
		}
	}
	var errs []error
	for _, c := range slices.Backward(h.close) {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

// keySetFor gives the key set of an issuer. Equal settings share one: a reload
// must not fetch anew, nor forget keys while the issuer is down.
func (h *House) keySetFor(i *config.Issuer) (*token.KeySet, string, error) {
	cfg := token.KeySetConfig{Issuer: i.Issuer.Value, Logger: h.log}
	for _, a := range i.Algorithms {
		cfg.Algorithms = append(cfg.Algorithms, token.Algorithm(a))
	}
	remote := i.Issuer.Value
	switch jwks := i.JWKS.Value; {
	case jwks == "":
	case strings.Contains(jwks, "://"):
		cfg.URL, remote = jwks, jwks
	default:
		cfg.File, remote = jwks, ""
		if !filepath.IsAbs(jwks) {
			cfg.File = filepath.Join(filepath.Dir(i.JWKS.Place.File), jwks)
		}
	}
	id := fmt.Sprintf("%s\x00%s\x00%s\x00%v", cfg.Issuer, cfg.URL, cfg.File, cfg.Algorithms)
	if k := h.keysets[id]; k != nil {
		return k.set, id, nil
	}
	fail := func(err error) (*token.KeySet, string, error) {
		return nil, "", config.Errorf(i.Issuer.Place, "%v", err)
	}
	var fetch token.Fetcher
	end := func() {}
	if remote != "" {
		origin, err := egress.Origin(remote)
		if err != nil {
			return fail(err)
		}
		client, err := egress.New(egress.Config{Allow: []string{origin}})
		if err != nil {
			return fail(err)
		}
		fetch, end = client, client.Close
	}
	set, err := token.NewKeySet(cfg, fetch)
	if err != nil {
		end()
		return fail(err)
	}
	ctx, stop := context.WithCancel(h.ctx)
	h.keysets[id] = &keyset{set, func() { stop(); end() }}
	h.workers.Go(func() { set.Run(ctx) })
	return set, id, nil
}

// services lists the services of the snapshot at work, for the metrics.
func (h *House) services() (out []monitor.Upstream) {
	s := h.gate.Current()
	if s == nil {
		return nil
	}
	for _, held := range s.Held() {
		for _, st := range held.Status() {
			out = append(out, monitor.Upstream{API: held.API, URL: st.Name, Healthy: st.Healthy && !st.Open, Room: st.CapacityStatus})
		}
	}
	return out
}

// status writes how the parts of the house are and returns why it is not ready.
func (h *House) status(w io.Writer) error {
	var errs []error
	if err := h.record.Err(); err != nil {
		errs = append(errs, fmt.Errorf("record: %w", err))
	}
	s := h.gate.Current()
	if s == nil {
		return errors.Join(append(errs, errors.New("config: none at work"))...)
	}
	for _, u := range s.Held() {
		for _, st := range u.Status() {
			_, _ = fmt.Fprintf(w, "service %s: healthy %t, breaker open %t, in flight %d of %d, in line %d, refused %d\n",
				st.Name, st.Healthy, st.Open, st.InFlight, st.Limit, st.Waiting, st.Refused())
		}
	}
	for _, err := range []error{h.limiter.SharedErr(), h.limiter.QuotaErr()} { // what can be counted is served
		if err != nil {
			_, _ = fmt.Fprintf(w, "limits: %v\n", err)
		}
	}
	if err := h.fleetStatus(w); err != nil {
		errs = append(errs, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if a := h.authority; a != nil {
		if err := a.people.RevocationsErr(); err != nil { // its tokens are refused until they can be asked about
			errs = append(errs, fmt.Errorf("revocations: %w", err))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(h.keysets)) {
		st := h.keysets[id].set.Status()
		issuer, _, _ := strings.Cut(id, "\x00")
		_, _ = fmt.Fprintf(w, "issuer %s: %d keys, fetched %s\n", issuer, st.Keys, st.Fetched.UTC().Format(time.RFC3339))
		if st.Err != nil {
			_, _ = fmt.Fprintf(w, "issuer %s: %v\n", issuer, st.Err)
		}
	}
	return errors.Join(errs...)
}

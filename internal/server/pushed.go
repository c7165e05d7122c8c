package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/fleet"
	"github.com/gatehouse-api/gatehouse/internal/plan"
	"github.com/gatehouse-api/gatehouse/internal/store"
)

// firstPlan finds the config to start with: the newest, or when this node refuses
// that, the one it had, and then why.
func firstPlan(ctx context.Context, o *Options) (from *plan.Source, p *plan.Plan, refused, err error) {
	own, err := config.LoadOwn(o.Config)
	if err != nil {
		return nil, nil, nil, err
	}
	if from, err = plan.NewSource(o.Config, own); err != nil {
		return nil, nil, nil, err
	}
	if from.Pushed() {
		var c *Configs
		if c, err = OpenConfigs(ctx, own); err != nil {
			return nil, nil, nil, err
		}
		defer func() { err = errors.Join(err, c.Close()) }()
		from.Use(c.Configs)
	}
	p, err = from.Load(ctx, nil)
	if err == nil {
		return from, p, nil, nil
	}
	refused = err
	before, ok, again := from.Before(ctx)
	if !ok {
		return nil, nil, nil, refused
	}
	return from, before, refused, again
}

// begin puts the first plan to work, or what was at work here before where this
// node finds only now that it cannot: a service's certificate is not there.
func (r *runner) begin(ctx context.Context, refused error) error {
	err := r.take(ctx, r.plan)
	if err != nil && refused == nil {
		refused = r.from.Refused(err)
		before, ok, again := r.from.Before(ctx)
		if !ok {
			return err
		}
		if err = again; err == nil {
			r.plan = before
			err = r.take(ctx, before)
		}
	}
	if err != nil {
		return err
	}
	if refused != nil {
		r.log.Error("the config was refused; this node starts with the one it had", slog.Any("error", refused))
		r.lastErr, r.lastTime = refused, time.Now()
		r.meter.Reloaded(false)
		r.refuse(refused)
	}
	if taken, loaded := r.from.Revisions(); taken == 0 && loaded > 0 {
		r.log.Warn("this data folder is new, and takes the database's word for which config is the newest: it must be the one that was pushed last", slog.Int64("revision", loaded))
	}
	return r.from.Keep()
}

// refuse tells the other nodes that this one stays with what is at work.
func (r *runner) refuse(why error) {
	taken, _ := r.from.Revisions()
	r.describe(fleet.Facts{Version: r.o.Version, Config: r.plan.Digest, Revision: taken, Refused: why.Error()})
}

// refused reports whether the last config was.
func (r *runner) refused() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lastErr != nil
}

// Configs are the configs in the database of a fleet, for the command line.
type Configs struct {
	*fleet.Configs

	Own *config.File
	db  *store.DB
}

// OpenConfigs opens those of a node's own file. Close ends it.
func OpenConfigs(ctx context.Context, own *config.File) (*Configs, error) {
	if own.Fleet == nil {
		return nil, fmt.Errorf("%s: %w", own.Place.File, ErrNoFleet)
	}
	if err := os.MkdirAll(own.Data.Value, 0o700); err != nil {
		return nil, fmt.Errorf("%s: data: %w", own.Data.Place, err)
	}
	changes, err := auditlog.OpenChanges(own.Events.Path.Value)
	if err != nil {
		return nil, err
	}
	db, err := OpenDatabase(ctx, own, store.Open)
	if err != nil {
		return nil, err
	}
	configs, err := fleet.OpenConfigs(ctx, fleetKeys(own, db, changes))
	if err != nil {
		return nil, errors.Join(config.Errorf(own.Fleet.Place, "%v", err), db.Close())
	}
	return &Configs{configs, own, db}, nil
}

// Close closes the database.
func (c *Configs) Close() error { return c.db.Close() }

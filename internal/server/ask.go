package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/store"
)

// Explain finds a decision in the record.
func Explain(ctx context.Context, path, id string) (*gatehouse.Event, error) {
	f, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	return auditlog.Find(ctx, f.Events.Path.Value, id)
}

// EachEvent visits the recorded events of a config's gateway since a time.
func EachEvent(ctx context.Context, path string, since time.Time, visit func(*gatehouse.Event) bool) error {
	f, err := config.Load(path)
	if err != nil {
		return err
	}
	err = auditlog.Each(ctx, f.Events.Path.Value, since, visit)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: there is no %s", auditlog.ErrNotFound, f.Events.Path.Value)
	}
	return err
}

// A KeyRing is the API keys of a config's database, for the command line. It
// works beside a running gateway.
type KeyRing struct {
	*authn.Keys

	file *config.File
	db   *store.DB
}

// OpenKeyRing opens the API keys. Close ends it.
func OpenKeyRing(ctx context.Context, path string) (*KeyRing, error) {
	f, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	changes, err := auditlog.OpenChanges(f.Events.Path.Value)
	if err != nil {
		return nil, err
	}
	db, keys, err := openKeys(ctx, f, changes)
	if err != nil {
		return nil, err
	}
	if f.OAuth != nil {
		people, err := identity.OpenStandings(ctx, db)
		if err != nil {
			return nil, errors.Join(err, db.Close())
		}
		keys.Follow(ctx, owners{people})
	}
	return &KeyRing{keys, f, db}, nil
}

// Close closes the database.
func (k *KeyRing) Close() error { return k.db.Close() }

// Known refuses roles that the config does not have: such a key would be
// useless today and a surprise the day the role is made.
func (k *KeyRing) Known(roles []string) error {
	var errs []error
	for _, r := range roles {
		if k.file.Roles[r] == nil {
			errs = append(errs, fmt.Errorf("there is no role %q in %s%s", r, k.file.Place.File, config.DidYouMean(r, slices.Collect(maps.Keys(k.file.Roles)))))
		}
	}
	return errors.Join(errs...)
}

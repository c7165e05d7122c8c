package server

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/ddos"
	"github.com/gatehouse-api/gatehouse/internal/fleet"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
	"github.com/gatehouse-api/gatehouse/internal/ratelimit"
	"github.com/gatehouse-api/gatehouse/internal/store"
)

// Database says where the database of a config is: on its server, or in its data folder.
func Database(f *config.File) store.Config {
	if f.Database != nil {
		return store.Config{URL: f.Database.URL.Secret}
	}
	return store.Config{Path: filepath.Join(f.Data.Value, "gatehouse.db")}
}

// OpenDatabase opens it by open, which is [store.Open] or [store.Look]. An error names
// where the config has it.
func OpenDatabase(ctx context.Context, f *config.File, open func(context.Context, store.Config) (*store.DB, error)) (*store.DB, error) {
	db, err := open(ctx, Database(f))
	if err != nil && f.Database != nil {
		return nil, fmt.Errorf("%s: database: %w", f.Database.Place, err)
	}
	return db, err
}

// Rooms are all that have tables in it.
func Rooms() []store.Room {
	return []store.Room{authn.Tables(), ddos.Tables(), fleet.Tables(), identity.Tables(), oauth.Tables(), ratelimit.Tables()}
}

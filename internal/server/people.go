package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"

	"github.com/gatehouse-api/gatehouse/internal/admin"
	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/authz"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
	"github.com/gatehouse-api/gatehouse/internal/plan"
	"github.com/gatehouse-api/gatehouse/internal/store"
)

// ErrNoOAuth tells that a config has no authorization server.
var ErrNoOAuth = errors.New("there is no oauth in it, so there are no users, clients and tokens")

// desk is what administrators of a work with.
func (h *House) desk(p *plan.Plan, a *authority) admin.Desk {
	d := admin.Desk{People: a.people, OAuth: a.as, Keyring: h.secrets.keys, Seal: h.secrets.seal, Log: h.changes, Guard: h.book}
	if p.File.APIKeys.Enabled {
		d.Keys = h.keys
	}
	return d
}

// adminAPI is what answers plan.AdminAPI.
func (h *House) adminAPI(p *plan.Plan, a *authority) (http.Handler, error) {
	roles, err := p.Roles()
	if err != nil {
		return nil, err
	}
	base := p.File.Admin.API.Base
	api, err := admin.New(admin.Config{Desk: h.desk(p, a), Roles: roles, Base: base})
	return http.StripPrefix(base, api), err
}

// An Office is the desk of a config for the command line. It works beside a
// running gateway, which follows what is done here within a second.
type Office struct {
	admin.Desk

	Roles *authz.Roles
	db    *store.DB
}

// OpenOffice opens it. Close ends it.
func OpenOffice(ctx context.Context, path string) (_ *Office, err error) {
	p, err := plan.Outline(path)
	if err != nil {
		return nil, err
	}
	f := p.File
	if f.OAuth == nil {
		return nil, fmt.Errorf("%s: %w", f.Place.File, ErrNoOAuth)
	}
	h := &House{log: slog.New(slog.DiscardHandler), proofs: map[string]remembered{}}
	if h.changes, err = auditlog.OpenChanges(f.Events.Path.Value); err != nil {
		return nil, err
	}
	if h.db, h.keys, err = openKeys(ctx, f, h.changes); err != nil {
		return nil, err
	}
	o, a := &Office{db: h.db}, &authority{}
	if h.keeper, err = keeperOf(ctx, f, h.db, h.changes, h.log); err == nil {
		h.secrets, err = openSecrets(h.keeper)
	}
	if err == nil {
		if err = h.build(ctx, p, a); err == nil {
			h.keys.Follow(ctx, a.owners)
			o.Desk = h.desk(p, a)
			o.Roles, err = p.Roles()
		}
	}
	if err != nil {
		return nil, errors.Join(err, h.db.Close())
	}
	return o, nil
}

// Close closes the database.
func (o *Office) Close() error { return o.db.Close() }

// LintClients holds the clients in the database of a config against its profile,
// and changes nothing there. Where there is no database there are no clients.
func LintClients(ctx context.Context, p *plan.Plan) (found []plan.Finding, err error) {
	if p.File.OAuth == nil {
		return nil, nil
	}
	db, err := OpenDatabase(ctx, p.File, store.Look)
	if p.File.Database == nil && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	clients, err := oauth.Stored(ctx, db)
	if err != nil {
		return nil, err
	}
	for i := range clients {
		c := &clients[i]
		for _, f := range oauth.Lint(oauth.Profile(p.File.OAuth.Profile), &c.Metadata) {
			found = append(found, plan.Finding{Place: p.File.OAuth.Place.String(), Rule: "client", Text: fmt.Sprintf(
				"client %s breaks the profile %s: %s; change it with 'gatehouse clients set %s', or disable it", c.ID, p.File.OAuth.Profile, f, c.ID,
			)})
		}
	}
	return found, nil
}

package oauth

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/store"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/auditlog"
)

// Errors of the methods that keep clients.
var (
	ErrClientUnknown = errors.New("there is no such client")
	ErrClientTaken   = errors.New("the client id is taken, or was once: ids are never used again")
	ErrClientChanged = errors.New("the client was changed meanwhile; read it again")
	ErrClient        = errors.New("the client is refused")
)

const (
	originOperator   = "operator"
	originRegistered = "registered"
	originDocument   = "document"
	originDeleted    = "deleted" // the row stays, so that its id cannot be somebody else's

	revocationClient = "client"
)

var clientID = regexp.MustCompile(`^[A-Za-z0-9._~-]{1,64}$`)

// CreateClient registers a client for an operator. An empty id has one made. The
// secret is empty unless its method is client_secret_basic or _post; this is the
// only time it can be seen. What [Lint] finds is [ErrClient].
func (s *Server) CreateClient(ctx context.Context, actor, id string, m Metadata) (gatehouse.Secret, *Client, error) {
	if id == "" {
		id = "cli_" + randomWord(20)
	}
	// A client called like a user would be one in the sub of its own tokens (RFC 9700 §4.15).
	if !clientID.MatchString(id) || strings.HasPrefix(id, "usr_") || strings.HasPrefix(id, "grp_") {
		return gatehouse.Secret{}, nil, fmt.Errorf("%w: an id has 1 to 64 letters, digits and . _ ~ -, and does not begin like a user's", ErrClient)
	}
	return s.createClient(ctx, actor, id, originOperator, "", m)
}

// createClient inserts a client of any origin; registration is the digest of its
// registration access token.
func (s *Server) createClient(ctx context.Context, actor, id, origin, registration string, m Metadata) (gatehouse.Secret, *Client, error) {
	m.setDefaults()
	if err := s.checkMetadata(&m); err != nil {
		return gatehouse.Secret{}, nil, err
	}
	now := time.UnixMilli(time.Now().UnixMilli()) // as the table will have it
	c := &Client{ID: id, Metadata: m, Origin: origin, Created: now, CreatedBy: actor, Updated: now, Version: 1}
	var secret gatehouse.Secret
	var sum string
	if needsSecret(&m) {
		var sec Secret
		secret, sum, sec = newClientSecret(now)
		c.Secrets = []Secret{sec}
	}
	err := s.change(ctx, actor, "clients.create", id, m.detail(), func(tx *sql.Tx) error {
		doc, err := json.Marshal(&m)
		if err != nil {
			return err
		}
		res, err := tx.ExecContext(ctx, `INSERT INTO clients (id, metadata, origin, registration, disabled, created, created_by, updated, fetched, last_used, version)
			VALUES ($1, $2, $3, $4, 0, $5, $6, $5, 0, 0, 1) ON CONFLICT DO NOTHING`, id, string(doc), origin, registration, now.UnixMilli(), actor)
		if err := oneRow(res, err, fmt.Errorf("%q: %w", id, ErrClientTaken)); err != nil {
			return err
		}
		if origin == originRegistered {
			var n int64
			if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM clients WHERE origin = $1`, originRegistered).Scan(&n); err != nil {
				return err
			}
			if n > maxRegistered {
				return fmt.Errorf("%w: %d clients have registered themselves already; delete some", ErrClient, maxRegistered)
			}
			// Rows of deleted clients stay: who registers and deletes in turn fills the table as well.
			err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM clients WHERE origin = $1 AND created_by = $2 AND updated > $3`,
				originDeleted, registrationActor, now.Add(-24*time.Hour).UnixMilli()).Scan(&n)
			if err != nil {
				return err
			}
			if n > maxGone {
				return fmt.Errorf("%w: %d clients that had registered themselves were deleted within a day; wait", ErrClient, maxGone)
			}
		}
		if sum == "" {
			return nil
		}
		return insertSecret(ctx, tx, id, sum, c.Secrets[0])
	})
	if err != nil {
		return gatehouse.Secret{}, nil, err
	}
	return secret, c, nil
}

// UpdateClient replaces a client's metadata. A version other than 0 must be the
// one it still has, or it is [ErrClientChanged]. Who changes to a method with a
// secret asks [Server.AddSecret] for one.
func (s *Server) UpdateClient(ctx context.Context, actor, id string, version int64, m Metadata) (*Client, error) {
	m.setDefaults()
	if err := s.checkMetadata(&m); err != nil {
		return nil, err
	}
	err := s.change(ctx, actor, "clients.update", id, m.detail(), func(tx *sql.Tx) error {
		doc, err := json.Marshal(&m)
		if err != nil {
			return err
		}
		res, err := tx.ExecContext(ctx, `UPDATE clients SET metadata = $1, updated = $2, version = version + 1
			WHERE id = $3 AND origin <> $4 AND origin <> $5 AND (version = $6 OR $6 = 0)`,
			string(doc), time.Now().UnixMilli(), id, originDeleted, originDocument, version)
		if err := missing(ctx, tx, id, res, err); err != nil || needsSecret(&m) {
			return err
		}
		// Or they would come back to life with the method.
		_, err = tx.ExecContext(ctx, `DELETE FROM client_secrets WHERE client = $1`, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.Client(ctx, id)
}

// missing says why an UPDATE of a client changed nothing.
func missing(ctx context.Context, tx *sql.Tx, id string, res sql.Result, err error) error {
	if err := oneRow(res, err, ErrClientChanged); !errors.Is(err, ErrClientChanged) {
		return err
	}
	var origin string
	err = tx.QueryRowContext(ctx, `SELECT origin FROM clients WHERE id = $1`, id).Scan(&origin)
	switch {
	case errors.Is(err, sql.ErrNoRows), origin == originDeleted:
		return fmt.Errorf("%q: %w", id, ErrClientUnknown)
	case err != nil:
		return err
	case origin == originDocument:
		return fmt.Errorf("%w: %q is described by the document its id leads to; it can be disabled and deleted only", ErrClient, id)
	}
	return fmt.Errorf("%q: %w", id, ErrClientChanged)
}

// DisableClient locks a client down: it proves itself in vain, its grants end,
// its access tokens are refused within a second. To disable it again changes nothing.
func (s *Server) DisableClient(ctx context.Context, actor, id string) error {
	return s.endClient(ctx, actor, "clients.disable", id, `UPDATE clients SET disabled = $1, updated = $1, version = version + 1 WHERE id = $2 AND origin <> $3`)
}

// EnableClient lets a disabled client work again. What was issued to it before
// stays dead.
func (s *Server) EnableClient(ctx context.Context, actor, id string) error {
	return s.change(ctx, actor, "clients.enable", id, nil, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `UPDATE clients SET disabled = 0, updated = $1, version = version + 1 WHERE id = $2 AND origin <> $3`,
			time.Now().UnixMilli(), id, originDeleted)
		return missing(ctx, tx, id, res, err)
	})
}

// DeleteClient ends a client for good, with its secrets, grants and tokens. Its
// id is never given again.
func (s *Server) DeleteClient(ctx context.Context, actor, id string) error {
	return s.endClient(ctx, actor, "clients.delete", id,
		`UPDATE clients SET disabled = $1, updated = $1, version = version + 1, origin = 'deleted', registration = '', metadata = '{}' WHERE id = $2 AND origin <> $3`,
		`DELETE FROM client_secrets WHERE client = $1`,
		`DELETE FROM consents WHERE client = $1`)
}

// endClient runs stmt, then each of more with the client's id, and takes back
// everything that was issued, in one transaction.
func (s *Server) endClient(ctx context.Context, actor, action, id, stmt string, more ...string) error {
	return s.change(ctx, actor, action, id, nil, func(tx *sql.Tx) error {
		now := time.Now()
		res, err := tx.ExecContext(ctx, stmt, now.UnixMilli(), id, originDeleted)
		if err := missing(ctx, tx, id, res, err); err != nil {
			return err
		}
		for _, m := range append(more, `DELETE FROM requests WHERE client = $1`, `DELETE FROM authorization_codes WHERE client = $1`, `DELETE FROM devices WHERE client = $1`) {
			if _, err := tx.ExecContext(ctx, m, id); err != nil {
				return err
			}
		}
		// Each grant, and not the client alone: tokens that others got in exchange are of the grant, too.
		if _, err := s.revokeGrants(ctx, tx, now, `client = $2`, id); err != nil {
			return err
		}
		return s.cfg.People.RevokeTx(ctx, tx, revocationClient, id, now)
	})
}

// Client returns one client, disabled or not, as the database has it.
func (s *Server) Client(ctx context.Context, id string) (*Client, error) {
	var c *liveClient
	err := s.cfg.DB.Read(ctx, func(tx *sql.Tx) (err error) {
		c, err = selectClient(ctx, tx, id)
		return err
	})
	if errors.Is(err, sql.ErrNoRows) || err == nil && c.Origin == originDeleted {
		return nil, fmt.Errorf("%q: %w", id, ErrClientUnknown)
	}
	if err != nil {
		return nil, err
	}
	return &c.Client, nil
}

// Clients returns all clients that are not deleted, by id.
func (s *Server) Clients(ctx context.Context) ([]Client, error) {
	var all []Client
	err := s.cfg.DB.Read(ctx, func(tx *sql.Tx) error {
		ids, err := changedClients(ctx, tx, nil)
		if err != nil {
			return err
		}
		slices.Sort(ids)
		all = make([]Client, 0, len(ids))
		for _, id := range ids {
			c, err := selectClient(ctx, tx, id)
			if err != nil {
				return err
			}
			if c.Origin != originDeleted {
				all = append(all, c.Client)
			}
		}
		return nil
	})
	return all, err
}

// checkMetadata refuses what Lint finds, and names the config does not have.
func (s *Server) checkMetadata(m *Metadata) error {
	found := Lint(s.cfg.Profile, m)
	for scope := range strings.FieldsSeq(m.Scope) {
		if !s.knowsScope(scope) {
			found = append(found, Finding{"scope", "unknown", fmt.Sprintf("%.100q is not configured", scope)})
		}
	}
	for _, r := range m.Resources {
		if !slices.ContainsFunc(s.cfg.Resources, func(k Resource) bool { return k.ID == r }) {
			found = append(found, Finding{"gatehouse_resources", "unknown", fmt.Sprintf("%.100q is not configured", r)})
		}
	}
	for _, t := range m.DetailTypes {
		if !slices.Contains(s.cfg.DetailTypes, t) {
			found = append(found, Finding{"authorization_details_types", "unknown", fmt.Sprintf("%.100q is not configured", t)})
		}
	}
	if len(found) == 0 {
		return nil
	}
	return &metadataError{found}
}

// A metadataError is what a client's metadata was refused for.
type metadataError struct{ found []Finding }

func (e *metadataError) Error() string {
	texts := make([]string, len(e.found))
	for i, f := range e.found {
		texts[i] = f.String()
	}
	return ErrClient.Error() + ": " + strings.Join(texts, "; ")
}

func (e *metadataError) Unwrap() error { return ErrClient }

// detail is what the log of changes says of a client: what it may do and where
// its codes go.
func (m *Metadata) detail() map[string]string {
	d := map[string]string{"name": m.ClientName, "method": m.TokenEndpointAuthMethod, "grants": strings.Join(m.GrantTypes, " ")}
	for k, v := range map[string]string{
		"scope": m.Scope, "redirects": strings.Join(m.RedirectURIs, " "), "resources": strings.Join(m.Resources, " "), "roles": strings.Join(m.Roles, " "),
		"tenant": m.Tenant, "exchange": strings.Join(m.Exchange, " "),
	} {
		if v != "" {
			d[k] = v
		}
	}
	if m.Trusted {
		d["trusted"] = "true"
	}
	return d
}

// change logs what f is about to commit and lets it commit. A change that was
// not logged does not happen; one whose commit failed is logged once more, with
// ".failed".
func (s *Server) change(ctx context.Context, actor, action, object string, detail map[string]string, f func(*sql.Tx) error) error {
	if actor == "" {
		return fmt.Errorf("%w: it must be known who asks", ErrClient)
	}
	err := auditlog.Commit(ctx, s.cfg.DB, s.cfg.Log, actor, action, func(tx *sql.Tx) (string, map[string]string, error) {
		return object, detail, f(tx)
	})
	if err != nil {
		return err
	}
	// The change is committed; should this look fail, the next request's sees it.
	_ = s.refreshClients(ctx, true)
	return nil
}

func selectClient(ctx context.Context, tx *sql.Tx, id string) (*liveClient, error) {
	c := &liveClient{}
	var doc string
	var disabled, created, updated, fetched, used int64
	err := tx.QueryRowContext(ctx, `SELECT id, metadata, origin, disabled, created, created_by, updated, fetched, last_used, version FROM clients WHERE id = $1`, id).
		Scan(&c.ID, &doc, &c.Origin, &disabled, &created, &c.CreatedBy, &updated, &fetched, &used, &c.Version)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal([]byte(doc), &c.Metadata); err != nil {
		return nil, fmt.Errorf("oauth: the metadata of client %s in the database is damaged: %w", id, err)
	}
	c.setDefaults()
	c.Disabled, c.Created, c.Updated, c.LastUsed, c.fetched = disabled != 0, store.Moment(created), store.Moment(updated), store.Moment(used), store.Moment(fetched)
	if c.secrets, err = selectSecrets(ctx, tx, id); err != nil {
		return nil, err
	}
	for _, sec := range c.secrets {
		c.Secrets = append(c.Secrets, sec.Secret)
	}
	return c, nil
}

// oneRow is err, or none when no row was changed.
func oneRow(res sql.Result, err, none error) error {
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err != nil {
		return err
	}
	if n == 0 {
		return none
	}
	return nil
}

// knowsScope reports whether a scope is OpenID Connect's, or somebody configured it.
func (s *Server) knowsScope(scope string) bool { return slices.Contains(s.allScopes(), scope) }

func oidcScopes() []string {
	return []string{"openid", "profile", "email", "address", "phone", "offline_access"}
}

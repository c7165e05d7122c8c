package oauth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/store"
)

// The verbs of storage. Each is one statement, or one transaction whose first
// statement decides: whatever else happens at the same time, one comes first.

const grantPrefix = "grt_"

const grantColumns = `id, client, user_id, sid, scope, resource, details, claims, acr, amr, auth_time, jkt, x5t,
	offline, gen, rotated, created, expires, idle, revoked`

// digest is how codes and other random texts are kept.
func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// newGrant makes a row of g, giving it an id and its times when it has none.
// Until it is used for the first time (Gen 0) it dies with its code.
func (s *Server) newGrant(ctx context.Context, tx *sql.Tx, g *grant) error {
	if g.ID == "" {
		b := make([]byte, grantBytes)
		_, _ = rand.Read(b) // never fails
		g.ID = grantPrefix + grantEncoding.EncodeToString(b)
	}
	if g.Client == "" {
		return errors.New("oauth: a grant of no client")
	}
	if g.Created.IsZero() {
		g.Created = time.Now()
	}
	if g.Expires.IsZero() {
		g.Expires = g.Created.Add(s.cfg.CodeLife + time.Minute)
	}
	if g.Idle.IsZero() {
		g.Idle = g.Expires
	}
	var offline int64
	if g.Offline {
		offline = 1
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO grants (`+grantColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)`,
		g.ID, g.Client, g.User, g.SID, words(g.Scopes), words(g.Resource), string(g.Details), string(g.Claims), g.ACR, words(g.AMR),
		store.Millis(g.AuthTime), g.JKT, g.X5T, offline, g.Gen, store.Millis(g.Rotated), store.Millis(g.Created), store.Millis(g.Expires), store.Millis(g.Idle), store.Millis(g.Revoked))
	return err
}

type scanner interface{ Scan(dest ...any) error }

func scanGrant(row scanner) (*grant, error) {
	var g grant
	var scope, resource, details, claims, amr string
	var authTime, offline, rotated, created, expires, idle, revoked int64
	err := row.Scan(&g.ID, &g.Client, &g.User, &g.SID, &scope, &resource, &details, &claims, &g.ACR, &amr, &authTime, &g.JKT, &g.X5T,
		&offline, &g.Gen, &rotated, &created, &expires, &idle, &revoked)
	if err != nil {
		return nil, err
	}
	g.Scopes, g.Resource, g.AMR = strings.Fields(scope), strings.Fields(resource), strings.Fields(amr)
	g.Details, g.Claims = jsonOrNil(details), jsonOrNil(claims)
	g.Offline = offline != 0
	g.AuthTime, g.Rotated, g.Created = store.Moment(authTime), store.Moment(rotated), store.Moment(created)
	g.Expires, g.Idle, g.Revoked = store.Moment(expires), store.Moment(idle), store.Moment(revoked)
	return &g, nil
}

// errNoGrant: no row has this id. It is not an Error: what a client is told
// depends on what it asked.
var errNoGrant = errors.New("there is no such grant")

// grantByID reads a grant, whatever state it is in; errNoGrant when there is none.
func (s *Server) grantByID(ctx context.Context, id string) (g *grant, err error) {
	err = s.cfg.DB.Read(ctx, func(tx *sql.Tx) error {
		g, err = scanGrant(tx.QueryRowContext(ctx, `SELECT `+grantColumns+` FROM grants WHERE id = $1`, id))
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errNoGrant
	}
	return g, err
}

// live reports whether tokens may come of g now.
func (g *grant) live(now time.Time) bool {
	return g.Revoked.IsZero() && now.Before(g.Expires) && now.Before(g.Idle)
}

// revokeGrant ends a grant: its refresh tokens, and by a revocation its access
// tokens. With an actor it is somebody's act and goes into the log first. A grant
// that has ended already is no error; one that could not be ended is.
func (s *Server) revokeGrant(ctx context.Context, actor, id, why string) error {
	now := time.Now()
	ended := false
	end := func(tx *sql.Tx) error {
		ids, err := s.revokeGrants(ctx, tx, now, `id = $2`, id)
		ended = len(ids) > 0
		return err
	}
	var err error
	if actor != "" {
		err = s.change(ctx, actor, "grants.revoke", id, map[string]string{"why": why}, end)
	} else {
		err = s.cfg.DB.Write(ctx, end)
	}
	if err != nil {
		return fmt.Errorf("oauth: ending grant %s: %w", id, err)
	}
	if ended {
		// It is on disk. This makes our own next answer know it, too, instead of
		// the one after the next look at the table.
		_ = s.cfg.People.Revoke(ctx, "grant", id)
	}
	return nil
}

// revokeGrants ends the grants that match where, in the caller's transaction, and
// returns their ids: of a session that ends, of a client that is locked down.
func (s *Server) revokeGrants(ctx context.Context, tx *sql.Tx, now time.Time, where string, args ...any) ([]string, error) {
	args = append([]any{now.UnixMilli()}, args...)
	ids, err := store.Texts(ctx, tx, `UPDATE grants SET revoked = $1, expires = CASE WHEN expires > $1 THEN $1 ELSE expires END WHERE revoked = 0 AND `+where+` RETURNING id`, args...)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if err := s.cfg.People.RevokeTx(ctx, tx, "grant", id, now); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// newCode writes an authorization code for a request that a user has granted, and
// returns its only plain copy.
func (s *Server) newCode(ctx context.Context, tx *sql.Tx, g *grant, request *authRequest, now time.Time) (string, error) {
	text, err := json.Marshal(request)
	if err != nil {
		return "", err
	}
	code := "ghc_" + random256()
	_, err = tx.ExecContext(ctx, `INSERT INTO authorization_codes (sha256, grant_id, client, request, expires, consumed) VALUES ($1, $2, $3, $4, $5, 0)`,
		digest(code), g.ID, g.Client, string(text), now.Add(s.cfg.CodeLife).UnixMilli())
	return code, err
}

// A consumption is the outcome of showing a code.
type consumption struct {
	Grant    *grant
	Request  *authRequest
	Replayed bool  // it had been consumed before
	Err      error // it was consumed now, but not by whom it was made for
}

// consumeCode uses a code up, in one statement, before anything is minted. Whoever
// is not the client it was made for changes nothing by showing it: to another
// client it does not exist. Once shown by its client it is used up whether check
// agrees or not, so that a thief who can name a public client has one guess at the
// verifier, not many. What check agrees to starts the life of the grant.
func (s *Server) consumeCode(ctx context.Context, c *proven, code string, check func(*authRequest) error) (out consumption, err error) {
	now := time.Now()
	err = s.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
		out = consumption{}
		var id, text string
		err := tx.QueryRowContext(ctx, `UPDATE authorization_codes SET consumed = $1
			WHERE sha256 = $2 AND client = $3 AND consumed = 0 AND expires > $1 RETURNING grant_id, request`,
			now.UnixMilli(), digest(code), c.ID).Scan(&id, &text)
		if errors.Is(err, sql.ErrNoRows) {
			err = tx.QueryRowContext(ctx, `SELECT grant_id FROM authorization_codes WHERE sha256 = $1 AND client = $2 AND consumed <> 0`, digest(code), c.ID).Scan(&id)
			if errors.Is(err, sql.ErrNoRows) {
				return nil // unknown, expired, or another client's
			}
			out.Grant, out.Replayed = &grant{ID: id}, true
			return err
		}
		if err != nil {
			return err
		}
		var request authRequest
		if err := json.Unmarshal([]byte(text), &request); err != nil {
			return err
		}
		out.Request = &request
		out.Grant = &grant{ID: id}
		if out.Err = check(&request); out.Err == nil { // else it is used up all the same
			out.Grant, err = s.startGrant(ctx, tx, c, id, now)
		}
		return err
	})
	return out, err
}

// startGrant gives a grant its life, when its code or device code is redeemed.
func (s *Server) startGrant(ctx context.Context, tx *sql.Tx, c *proven, id string, now time.Time) (*grant, error) {
	jkt, x5t, expires, idle := "", "", now.Add(maxAccessLife), now.Add(maxAccessLife)
	if mayRefresh(c.Client) {
		expires = now.Add(s.cfg.RefreshLife)
		idle = now.Add(min(s.cfg.RefreshIdle, s.cfg.RefreshLife))
	}
	if c.Public() {
		jkt = c.JKT // who has no secret holds its refresh tokens by its key (RFC 9449 §5, RFC 8705 §4)
		if c.TLSBoundTokens {
			x5t = c.X5T
		}
	}
	g, err := scanGrant(tx.QueryRowContext(ctx, `UPDATE grants SET gen = 1, rotated = $1, jkt = $2, x5t = $3, expires = $4, idle = $5
		WHERE id = $6 AND client = $7 AND gen = 0 AND revoked = 0 AND expires > $1 RETURNING `+grantColumns,
		now.UnixMilli(), jkt, x5t, store.Millis(expires), store.Millis(idle), id, c.ID))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil // it ended before it began
	}
	if err != nil {
		return nil, err
	}
	return g, s.joinSession(ctx, tx, c.Client, g.SID, g.User)
}

// A Grant is what a user let a client do, as the account page and exports show it.
type Grant struct {
	ID       string    `json:"id"`
	Client   string    `json:"client_id"`
	User     string    `json:"sub,omitempty"`
	Scopes   []string  `json:"scopes"`
	Resource []string  `json:"resource,omitempty"`
	Offline  bool      `json:"offline,omitempty"`
	Created  time.Time `json:"created"`
	Used     time.Time `json:"used"` // when tokens were last made of it
	Expires  time.Time `json:"expires"`
}

// Grants returns what a user has granted and what still lives, newest first.
func (s *Server) Grants(ctx context.Context, user string) ([]Grant, error) {
	return s.grants(ctx, `user_id = $2`, user)
}

// RevokeGrant ends a grant on behalf of actor: a user who takes an app's access
// away, or an operator. The consent goes with it: the app must ask again.
func (s *Server) RevokeGrant(ctx context.Context, actor, id string) error {
	g, err := s.grantByID(ctx, id)
	if err != nil {
		return fmt.Errorf("oauth: grant %s: %w", id, err)
	}
	if err := s.revokeGrant(ctx, actor, id, "asked for"); err != nil {
		return err
	}
	err = s.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM consents WHERE user_id = $1 AND client = $2`, g.User, g.Client)
		return err
	})
	if err != nil {
		return fmt.Errorf("oauth: forgetting the consent to %s: %w", g.Client, err)
	}
	return nil
}

func (s *Server) grants(ctx context.Context, where string, args ...any) ([]Grant, error) {
	var list []Grant
	args = append([]any{time.Now().UnixMilli()}, args...)
	err := s.cfg.DB.Read(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT `+grantColumns+` FROM grants WHERE gen > 0 AND revoked = 0 AND expires > $1 AND idle > $1 AND `+where+` ORDER BY created DESC, id`, args...) //nolint:gosec // where is a constant of this package, values go in args
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			g, err := scanGrant(rows)
			if err != nil {
				return err
			}
			list = append(list, Grant{
				ID: g.ID, Client: g.Client, User: g.User, Scopes: g.Scopes, Resource: g.Resource, Offline: g.Offline,
				Created: g.Created, Used: g.Rotated, Expires: g.Expires,
			})
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("oauth: grants: %w", err)
	}
	return list, nil
}

// Export writes the clients, without their secrets, and the grants that live as
// one JSON object. Tokens are not in it: they are nowhere.
func (s *Server) Export(ctx context.Context, w io.Writer) error {
	var out struct {
		Clients []Client `json:"clients"`
		Grants  []Grant  `json:"grants"`
	}
	var err error
	if out.Clients, err = s.Clients(ctx); err != nil {
		return err
	}
	if out.Grants, err = s.grants(ctx, `id <> ''`); err != nil {
		return err
	}
	out.Grants = append([]Grant{}, out.Grants...) // a list also when it is empty
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(&out); err != nil {
		return fmt.Errorf("oauth: export: %w", err)
	}
	return nil
}

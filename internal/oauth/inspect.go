package oauth

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// ErrGrantUnknown tells that there is no such grant.
var ErrGrantUnknown = errNoGrant

// ErrTokenUnknown tells that a token is not one of ours, or has expired.
var ErrTokenUnknown = errNotOurs

// An Inspection is what an operator may see of a token: what it says and whether
// it is good, never anything that could be used in its place.
type Inspection struct {
	Active   bool       `json:"active"`
	Why      string     `json:"why,omitempty"`  // it is not active
	Kind     string     `json:"kind,omitempty"` // access_token, refresh_token
	Format   string     `json:"format,omitempty"`
	Issuer   string     `json:"iss,omitempty"`
	Subject  string     `json:"sub,omitempty"`
	Client   string     `json:"client_id,omitempty"`
	Audience []string   `json:"aud,omitempty"`
	Scopes   []string   `json:"scopes,omitempty"`
	Roles    []string   `json:"roles,omitempty"`
	Tenant   string     `json:"tenant,omitempty"`
	IssuedAt *time.Time `json:"issued_at,omitempty"`
	Expires  *time.Time `json:"expires,omitempty"`
	JTI      string     `json:"jti,omitempty"`
	GrantID  string     `json:"grant_id,omitempty"`
	SID      string     `json:"sid,omitempty"`
	ACR      string     `json:"acr,omitempty"`
	AMR      []string   `json:"amr,omitempty"`
	BoundTo  string     `json:"bound_to,omitempty"` // "dpop" or "certificate"
}

// Inspect looks at a token for an operator. One that is not ours or is over is no
// error: its Inspection says why it opens nothing. An error means that nobody can tell.
func (s *Server) Inspect(ctx context.Context, raw string) (*Inspection, error) {
	if strings.HasPrefix(raw, refreshPrefix) {
		return s.inspectRefresh(ctx, raw)
	}
	c, format, err := s.readAccess(ctx, raw)
	if errors.Is(err, errNotOurs) {
		why := "it is no token of ours, or was signed by a key that is gone"
		if errors.Is(err, errExpired) {
			why = "it has expired"
		}
		return &Inspection{Why: why}, nil
	}
	if err != nil {
		return nil, err
	}
	good, err := s.alive(ctx, c)
	if err != nil {
		return nil, err
	}
	out := &Inspection{
		Active: good, Kind: "access_token", Format: format, Issuer: c.Issuer, Subject: c.Subject, Client: c.ClientID, Audience: c.Audience,
		Scopes: c.Scopes, IssuedAt: at(c.IssuedAt), Expires: at(c.Expires), JTI: c.JTI, GrantID: c.GrantID,
		SID: c.SID, ACR: c.ACR, AMR: c.AMR,
	}
	out.Roles, _ = texts(c.Raw["roles"])
	out.Tenant, _ = c.Raw["tenant"].(string)
	if !good {
		out.Why = "it was revoked, or what it came from was: its user, client, grant or session"
	}
	switch {
	case c.Cnf.JKT != "":
		out.BoundTo = "dpop"
	case c.Cnf.X5T != "":
		out.BoundTo = "certificate"
	}
	return out, nil
}

// readAccess reads an access token of ours in any of its formats.
func (s *Server) readAccess(ctx context.Context, raw string) (*token.Claims, string, error) {
	format := formatJWT
	switch {
	case strings.HasPrefix(raw, opaquePrefix):
		format = formatOpaque
	case token.Encrypted(raw) && len(raw) <= maxToken:
		if s.cfg.Decrypter == nil {
			return nil, "", errNotOurs
		}
		jws, err := s.cfg.Decrypter.Decrypt(raw)
		if err != nil {
			return nil, "", errors.Join(errNotOurs, err)
		}
		format, raw = formatEncrypted, jws
	}
	c, err := s.accessClaimsOf(ctx, raw)
	return c, format, err
}

func (s *Server) inspectRefresh(ctx context.Context, raw string) (*Inspection, error) {
	g, gen, err := s.anyRefresh(ctx, raw)
	if errors.Is(err, errNotOurs) {
		return &Inspection{Why: "it is no refresh token of ours, or its grant is long over"}, nil
	}
	if err != nil {
		return nil, err
	}
	out := &Inspection{
		Kind: "refresh_token", Format: formatOpaque, Issuer: s.cfg.Issuer, Subject: orElse(g.User, g.Client), Client: g.Client,
		Audience: g.Resource, Scopes: g.Scopes, IssuedAt: at(g.Rotated), Expires: at(minTime(g.Expires, g.Idle)), GrantID: g.ID, SID: g.SID, ACR: g.ACR, AMR: g.AMR,
	}
	if g.JKT != "" {
		out.BoundTo = "dpop"
	} else if g.X5T != "" {
		out.BoundTo = "certificate"
	}
	switch _, err := s.client(ctx, g.Client); {
	case errors.Is(err, errUnknownClient):
		out.Why = "its client is disabled or deleted"
		return out, nil
	case err != nil:
		return nil, err
	}
	if g.User != "" {
		switch u, err := s.cfg.People.User(ctx, g.User); {
		case errors.Is(err, identity.ErrUnknown) || err == nil && !u.Active:
			out.Why = "its user is locked or deleted"
			return out, nil
		case err != nil:
			return nil, err
		case u.ValidFrom.After(g.AuthTime):
			out.Why = "what its user proved back then counts no more: a lockdown, or a new password"
			return out, nil
		}
	}
	if g.SID != "" && !g.Offline {
		switch err := s.cfg.People.SessionAlive(ctx, g.SID); {
		case errors.Is(err, identity.ErrSession):
			out.Why = "its session is over"
			return out, nil
		case err != nil:
			return nil, err
		}
	}
	switch {
	case !g.Revoked.IsZero():
		out.Why = "its grant was revoked"
	case !g.live(time.Now()):
		out.Why = "its grant has expired"
	case g.Gen != gen:
		out.Why = "it has been used; its successor is out"
	default:
		out.Active = true
	}
	return out, nil
}

// anyRefresh finds the family of a refresh token of whatever client; errNotOurs
// when it is not one.
func (s *Server) anyRefresh(ctx context.Context, raw string) (*grant, int64, error) {
	id, gen, err := splitRefresh(raw)
	if err != nil {
		return nil, 0, err
	}
	g, err := s.grantByID(ctx, id)
	if errors.Is(err, errNoGrant) {
		return nil, 0, errNotOurs
	}
	if err != nil {
		return nil, 0, err
	}
	if _, _, _, ok := s.openRefresh(raw, g.Client, g.JKT); !ok {
		return nil, 0, errNotOurs
	}
	return g, gen, nil
}

// RevokeToken ends a token on behalf of actor, whoever's it is: a refresh token
// with all that came of its grant, an access token alone. [ErrTokenUnknown] when
// there is nothing to end.
func (s *Server) RevokeToken(ctx context.Context, actor, raw string) error {
	if strings.HasPrefix(raw, refreshPrefix) {
		g, _, err := s.anyRefresh(ctx, raw)
		if err != nil {
			return fmt.Errorf("oauth: %w", err)
		}
		return s.revokeGrant(ctx, actor, g.ID, "its refresh token was revoked")
	}
	c, _, err := s.readAccess(ctx, raw)
	if err != nil {
		return fmt.Errorf("oauth: %w", err)
	}
	return s.RevokeJTI(ctx, actor, c.JTI)
}

// RevokeJTI ends the access token of that jti on behalf of actor.
func (s *Server) RevokeJTI(ctx context.Context, actor, jti string) error {
	if jti == "" {
		return fmt.Errorf("oauth: %w", errNotOurs)
	}
	err := s.change(ctx, actor, "tokens.revoke", jti, nil, func(tx *sql.Tx) error {
		return s.cfg.People.RevokeTx(ctx, tx, "token", jti, time.Now())
	})
	if err == nil {
		_ = s.cfg.People.Revoke(ctx, "token", jti) // it is on disk: our own next answer knows it, too
	}
	return err
}

// Stored reads the clients in a database that no server need have open. It changes
// nothing there, and a database without clients has none.
func Stored(ctx context.Context, db *store.DB) ([]Client, error) {
	var all []Client
	err := db.Read(ctx, func(tx *sql.Tx) error {
		all = nil
		var version sql.NullInt64
		err := tx.QueryRowContext(ctx, `SELECT MAX(version) FROM schema_migrations WHERE room = 'oauth'`).Scan(&version)
		if err != nil || version.Int64 < 2 { // before clients were kept
			return err
		}
		ids, err := changedClients(ctx, tx, nil)
		if err != nil {
			return err
		}
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

// at is t as JSON leaves it out when there is none.
func at(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

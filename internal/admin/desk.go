package admin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/ddos"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// A ChangeLog keeps changes for ever; *auditlog.Changes is one. What it can not
// keep must not happen.
type ChangeLog interface {
	Append(ctx context.Context, c auditlog.Change) error
}

// A Desk is what administrators work with, at the API and at the command line.
// Its methods authorise nobody. All parts but Keys and Guard are required.
type Desk struct {
	People  *identity.Directory
	OAuth   *oauth.Server
	Keys    *authn.Keys // nil: API keys are off
	Keyring *token.Keyring
	Seal    *token.Sealer // of opaque and refresh tokens and of cursors; rotates with Keyring
	Log     ChangeLog
	Guard   *ddos.Book // bans and the switch for attacks; nil at the command line, which has its own way
}

// ResetFactors takes the authenticator app, its recovery codes and the passkeys of
// a user, who lost them, out of use, and ends the user's sessions. A passkey that is
// the only way to sign in stays, with identity.ErrLast: give a password first.
func (d *Desk) ResetFactors(ctx context.Context, actor, user string) error {
	f, err := d.People.Factors(ctx, user)
	if err != nil {
		return err
	}
	by := identity.By{Actor: actor, User: user}
	if f.TOTP {
		if err := d.People.RemoveTOTP(ctx, by); err != nil {
			return err
		}
	}
	keys, err := d.People.Passkeys(ctx, user)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if err := d.People.RemovePasskey(ctx, by, k.ID); err != nil {
			return err
		}
	}
	return nil
}

// SignOut ends the sessions of a user; with apps also what the user has granted to
// clients, which then can refresh no token any more.
func (d *Desk) SignOut(ctx context.Context, actor, user string, apps bool) error {
	if _, err := d.People.User(ctx, user); err != nil {
		return err
	}
	if err := d.People.EndOthers(ctx, actor, user, ""); err != nil || !apps {
		return err
	}
	grants, err := d.OAuth.Grants(ctx, user)
	if err != nil {
		return err
	}
	for _, g := range grants {
		if err := d.OAuth.RevokeGrant(ctx, actor, g.ID); err != nil {
			return err
		}
	}
	return nil
}

// Revoke ends what was issued for id, at every gateway within a second: user and
// client are lockdowns, which hold until somebody unlocks or enables them; grant,
// session and token (its jti) end for good.
func (d *Desk) Revoke(ctx context.Context, actor, kind, id string) error {
	switch kind {
	case "user":
		return d.People.Lock(ctx, actor, id, "lockdown")
	case "client":
		return d.OAuth.DisableClient(ctx, actor, id)
	case "grant":
		return d.OAuth.RevokeGrant(ctx, actor, id)
	case "session":
		return d.OAuth.EndSession(ctx, actor, id)
	case "token":
		return d.OAuth.RevokeJTI(ctx, actor, id)
	}
	return fmt.Errorf("%w: there is nothing to revoke of kind %q", identity.ErrInvalid, kind)
}

// RotateSigningKeys makes new keys sign tokens and seal them. The signing keys before
// stay published until what they signed has expired; the sealing keys before go on
// opening, as what they sealed at rest has no end.
func (d *Desk) RotateSigningKeys(ctx context.Context, actor string) error {
	err := d.Log.Append(ctx, auditlog.Change{Actor: actor, Action: "tokens.keys.rotate", Object: "oauth-keys"})
	if err != nil {
		return fmt.Errorf("admin: the keys are not rotated because it could not be logged: %w", err)
	}
	rotated, err := d.Keyring.Rotate(0)
	if err == nil && !rotated {
		err = errors.New("no key was rotated")
	}
	if err == nil {
		err = d.Seal.Rotate()
	}
	if err == nil {
		return nil
	}
	failed := auditlog.Change{Actor: actor, Action: "tokens.keys.rotate.failed", Object: "oauth-keys"}
	return errors.Join(fmt.Errorf("admin: signing keys: %w", err), d.Log.Append(context.WithoutCancel(ctx), failed))
}

// Export writes everything as one JSON object: {"version": 1, "exported": time,
// "people": {users, groups, links}, "oauth": {clients, grants}}. There is no secret
// in it, nor the hash of one. Who takes it along is in the log of changes.
func (d *Desk) Export(ctx context.Context, actor string, w io.Writer) error {
	if err := d.Log.Append(ctx, auditlog.Change{Actor: actor, Action: "export", Object: "all"}); err != nil {
		return fmt.Errorf("admin: nothing is exported because it could not be logged: %w", err)
	}
	out := bufio.NewWriter(w)
	_, _ = fmt.Fprintf(out, "{\"version\": 1, \"exported\": %q,\n\"people\": ", time.Now().UTC().Format(time.RFC3339))
	if err := d.People.Export(ctx, out, identity.ExportOptions{}); err != nil {
		return err
	}
	_, _ = out.WriteString(",\n\"oauth\": ")
	if err := d.OAuth.Export(ctx, out); err != nil {
		return err
	}
	_, _ = out.WriteString("}\n")
	if err := out.Flush(); err != nil { // the first error of all the writes
		return fmt.Errorf("admin: export: %w", err)
	}
	return nil
}

package identity

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/store"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
)

// BeginSignIn asks for a passkey: options are for navigator.credentials.get, state
// comes back to FinishSignIn within five minutes. With login "" the browser offers
// every passkey it has for this house. A name without passkeys, known or not, gets
// options that look like any other's.
func (d *Directory) BeginSignIn(ctx context.Context, login string) (options json.RawMessage, state string, err error) {
	rp, err := d.relyingParty()
	if err != nil {
		return nil, "", err
	}
	var c ceremony
	var ask []webauthn.LoginOption
	if login != "" {
		user, allowed, err := d.decoy(ctx, login) // in any case: known and unknown names cost the same
		if err != nil {
			return nil, "", err
		}
		c.User = user
		list, err := d.passkeys(ctx, `WHERE user_id = (SELECT user_id FROM logins WHERE login = $1)`, canonicalOr(login))
		if err != nil {
			return nil, "", err
		}
		if len(list) > 0 {
			c.User, allowed = list[0].user, webauthn.Credentials(holder{passkeys: list}.WebAuthnCredentials()).CredentialDescriptors()
		}
		ask = append(ask, webauthn.WithAllowedCredentials(allowed))
	}
	assertion, session, err := rp.BeginDiscoverableLogin(ask...)
	if err != nil {
		return nil, "", fmt.Errorf("identity: passkeys: %w", err)
	}
	c.Challenge = session.Challenge
	return d.begin(sealedSignIn, assertion, c)
}

// FinishSignIn is the login of whoever's passkey response (JSON of a
// PublicKeyCredential) proves, once for each state. A passkey that verified its
// user is [ACRPhishing]; one that only was there is one factor. One that says it is
// bound to its device is "hwk", one that can be copied "swk": it signs that, while
// what a browser says of its attachment nobody does. All refusals are
// [ErrCredentials].
func (d *Directory) FinishSignIn(ctx context.Context, state string, response []byte, source netip.Addr) (*Login, error) {
	var c ceremony
	if err := d.open(sealedSignIn, state, &c); err != nil {
		return nil, err
	}
	rp, err := d.relyingParty()
	if err != nil {
		return nil, err
	}
	if len(response) > maxResponse {
		return nil, ErrCredentials
	}
	answer, err := protocol.ParseCredentialRequestResponseBytes(response)
	if err != nil {
		return nil, ErrCredentials
	}
	user := c.User
	if user == "" {
		user = string(answer.Response.UserHandle)
	}
	h, err := d.holder(ctx, user)
	if errors.Is(err, ErrUnknown) || err == nil && !h.user.Active {
		return nil, ErrCredentials
	}
	if err != nil {
		return nil, err
	}
	var proven *webauthn.Credential
	if c.User == "" {
		proven, err = rp.ValidateDiscoverableLogin(func(_, handle []byte) (webauthn.User, error) {
			if string(handle) != user {
				return nil, ErrCredentials
			}
			return h, nil
		}, c.data(), answer)
	} else {
		proven, err = rp.ValidateLogin(h, c.data(), answer)
	}
	if err != nil {
		return nil, ErrCredentials
	}
	at := slices.IndexFunc(h.passkeys, func(p Passkey) bool { return string(p.credential.ID) == string(proven.ID) })
	if at < 0 {
		return nil, ErrCredentials
	}
	if err := d.usePasskey(ctx, &h.passkeys[at], c, answer.Response.AuthenticatorData, ofSource(source)); err != nil {
		return nil, err
	}
	l := &Login{User: user, ACR: ACRPassword, AMR: []string{amrHardware}, AuthTime: time.Now()}
	if proven.Flags.BackupEligible {
		l.AMR[0] = amrSoftware
	}
	if answer.Response.AuthenticatorData.Flags.HasUserVerified() {
		l.ACR, l.AMR = ACRPhishing, append(l.AMR, amrUser, amrMulti)
	}
	return d.withSecond(ctx, l)
}

// usePasskey takes a ceremony and advances the counter of a passkey. A counter
// that does not grow means that a second authenticator has the same key (WebAuthn
// §6.1.1): whose answer this is nobody knows, so it is refused, and recorded for
// its owner and in the log of changes.
func (d *Directory) usePasskey(ctx context.Context, p *Passkey, c ceremony, data protocol.AuthenticatorData, from counter) error {
	copied := false
	err := d.change(ctx, p.user, "users.passkeys.copied", func(tx *sql.Tx) (string, map[string]string, error) {
		copied = false
		first, err := once(ctx, tx, c.Challenge, store.Moment(c.Until))
		if err != nil {
			return "", nil, err
		}
		if !first {
			return "", nil, ErrCredentials
		}
		now := time.Now()
		// Authenticators without a counter say 0 for ever.
		n, err := affected(tx.ExecContext(ctx, `UPDATE passkeys SET sign_count = $1, used = $2, backup_state = $3
			WHERE id = $4 AND (sign_count < $1 OR sign_count = 0 AND $1 = 0)`, int64(data.Counter), now.UnixMilli(), truth(data.Flags.HasBackupState()), p.ID))
		switch {
		case err != nil:
			return "", nil, err
		case n == 0:
			n, err := affected(tx.ExecContext(ctx, `UPDATE passkeys SET copied = $1 WHERE id = $2`, now.UnixMilli(), p.ID))
			if err == nil && n == 0 {
				err = ErrCredentials // removed since it was read
			}
			copied = true
			return p.user, map[string]string{"passkey": p.ID, "counter": strconv.FormatUint(uint64(data.Counter), 10)}, err
		case data.Flags.HasUserVerified(): // who found a stick is not at home where it is plugged in
			err = remember(ctx, tx, p.user, from, now)
		}
		return "", nil, err
	})
	switch {
	case errors.Is(err, ErrCredentials):
		return ErrCredentials
	case err != nil:
		return fmt.Errorf("identity: passkeys: %w", err)
	case copied:
		return ErrCredentials
	}
	return nil
}

package identity

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/go-webauthn/webauthn/protocol"
)

// canonicalOr is the one spelling of a login, or of what can be none as it is: no
// user has that.
func canonicalOr(login string) string {
	if name, err := canonicalName(login); err == nil {
		return name
	}
	return login
}

// decoy makes up a user and passkeys for a login name, the same each time.
func (d *Directory) decoy(ctx context.Context, login string) (user string, allowed []protocol.CredentialDescriptor, err error) {
	secret, err := d.decoySecret(ctx)
	if err != nil {
		return "", nil, fmt.Errorf("identity: passkeys: %w", err)
	}
	name := canonicalOr(login)
	made := func(what string) []byte {
		m := hmac.New(sha256.New, secret)
		m.Write([]byte(what + " " + name))
		return m.Sum(nil)
	}
	// What the makers of phones, browsers and keys give: a synced passkey, one of a
	// device, one of a stick.
	shape := made("shape")
	kind := []struct {
		length     int
		transports []protocol.AuthenticatorTransport
	}{
		{20, []protocol.AuthenticatorTransport{protocol.Internal, protocol.Hybrid}},
		{16, []protocol.AuthenticatorTransport{protocol.Hybrid, protocol.Internal}},
		{32, []protocol.AuthenticatorTransport{protocol.Internal}},
		{48, []protocol.AuthenticatorTransport{protocol.NFC, protocol.USB}},
	}
	for i := range 1 + int(shape[0]&1) {
		k := kind[shape[1+i]&3]
		id := append(made(fmt.Sprint("id ", i)), made(fmt.Sprint("more ", i))...)
		allowed = append(allowed, protocol.CredentialDescriptor{Type: protocol.PublicKeyCredentialType, CredentialID: id[:k.length], Transport: k.transports})
	}
	return "usr_" + hex.EncodeToString(made("user")[:16]), allowed, nil
}

func (d *Directory) decoySecret(ctx context.Context) ([]byte, error) {
	var text string
	read := func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT secret FROM passkey_decoys WHERE one = 1`).Scan(&text)
	}
	err := d.cfg.DB.Read(ctx, read)
	if errors.Is(err, sql.ErrNoRows) {
		var b [32]byte
		_, _ = rand.Read(b[:]) // never fails: it ends the process instead
		err = d.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO passkey_decoys (one, secret) VALUES (1, $1) ON CONFLICT (one) DO NOTHING`, hex.EncodeToString(b[:]))
			if err != nil {
				return err
			}
			return read(tx)
		})
	}
	if err != nil {
		return nil, err
	}
	return hex.DecodeString(text)
}

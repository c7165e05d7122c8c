package identity

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse"
)

const (
	recoveryCodes = 10
	recoveryBytes = 10 // 80 bits each: more than anybody guesses, so SHA-256 keeps them
	recoveryGroup = 4  // letters between dashes
)

// newRecoveryCodes makes codes like ABCD-EFGH-2345-WXYZ.
func newRecoveryCodes() []gatehouse.Secret {
	codes := make([]gatehouse.Secret, recoveryCodes)
	for i := range codes {
		var b [recoveryBytes]byte
		_, _ = rand.Read(b[:]) // never fails: it ends the process instead
		text := base32Plain.EncodeToString(b[:])
		for at := len(text) - recoveryGroup; at > 0; at -= recoveryGroup {
			text = text[:at] + "-" + text[at:]
		}
		codes[i] = gatehouse.NewSecret(text)
	}
	return codes
}

// recoveryDigest is of the code as people copy it; of another user the same code
// would have another.
func recoveryDigest(user, code string) string {
	return digest(user + " " + strings.ToUpper(strings.NewReplacer("-", "", " ", "").Replace(code)))
}

// replaceRecoveryCodes makes codes the only ones of user.
func replaceRecoveryCodes(ctx context.Context, tx *sql.Tx, user string, codes []gatehouse.Secret) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM recovery_codes WHERE user_id = $1`, user); err != nil {
		return err
	}
	for _, c := range codes {
		_, err := tx.ExecContext(ctx, `INSERT INTO recovery_codes (sha256, user_id, created) VALUES ($1, $2, $3)`,
			recoveryDigest(user, c.Reveal()), user, time.Now().UnixMilli())
		if err != nil {
			return err
		}
	}
	return nil
}

// NewRecoveryCodes makes ten codes that stand in for the authenticator app, once
// each, and ends those made before. It is the only time they can be seen.
// [ErrInvalid] when there is no app they could stand in for.
func (d *Directory) NewRecoveryCodes(ctx context.Context, by By) ([]gatehouse.Secret, error) {
	codes := newRecoveryCodes()
	err := d.factor(ctx, by, "users.recovery.new", nil, func(tx *sql.Tx) error {
		enrolled, err := hasSecond(ctx, tx, by.User)
		if err != nil {
			return err
		}
		if !enrolled {
			return fmt.Errorf("%w: recovery codes stand in for an authenticator app, and there is none", ErrInvalid)
		}
		return replaceRecoveryCodes(ctx, tx, by.User, codes)
	})
	if err != nil {
		return nil, err
	}
	return codes, nil
}

// Recovery adds a recovery code to l, as TOTP adds the app's. Its method is "otp"
// too (RFC 8176 has no nearer word: it is a password for one time), and with a
// password it makes aal2: to NIST SP 800-63B-4 §3.1.2 a list of such codes is
// something held. That a code was used is in the log of changes.
func (d *Directory) Recovery(ctx context.Context, l *Login, code string, source netip.Addr) (*Login, error) {
	return d.secondFactor(ctx, l, source, func(time.Time) (used bool, err error) {
		err = d.change(ctx, l.User, "users.recovery.use", func(tx *sql.Tx) (string, map[string]string, error) {
			used = false
			err := tx.QueryRowContext(ctx, `DELETE FROM recovery_codes WHERE sha256 = $1 AND user_id = $2 RETURNING user_id`,
				recoveryDigest(l.User, code), l.User).Scan(new(string))
			if errors.Is(err, sql.ErrNoRows) {
				return "", nil, nil
			}
			used = err == nil
			return l.User, nil, err
		})
		return used && err == nil, err
	})
}

// RecoveryLeft returns how many recovery codes user has left.
func (d *Directory) RecoveryLeft(ctx context.Context, user string) (int, error) {
	f, err := d.Factors(ctx, user)
	return f.Recovery, err
}

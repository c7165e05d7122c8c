package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse"
)

const (
	codeBytes  = 32
	verifyLife = 24 * time.Hour
	resetLife  = 30 * time.Minute
)

// Paths under Config.Issuer that mails lead to, each with ?code=…. A GET there must
// change nothing: programs look at the links of a mail before its reader does.
const (
	VerifyPath = "/verify"
	ResetPath  = "/reset"
)

// SendVerification mails the user a link that proves the address, good for 24
// hours; an older one stops working. Errors: [ErrUnknown], [ErrInvalid] when there
// is no address or no way to send mail, [*Throttled].
func (d *Directory) SendVerification(ctx context.Context, userID string) error {
	if d.cfg.Mail == nil {
		return errNoMail
	}
	code, sum := newCode()
	err := d.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
		u, err := selectUser(ctx, tx, `WHERE id = $1`, userID)
		if err != nil {
			return err
		}
		if u.Email == "" {
			return fmt.Errorf("%w: the user has no address", ErrInvalid)
		}
		now := time.Now()
		if err := take(ctx, tx, counter{"mail", u.ID}, now); err != nil {
			return err
		}
		if err := putCode(ctx, tx, "verify", u, sum, now.Add(verifyLife)); err != nil {
			return err
		}
		return d.queue(ctx, tx, d.verifyMail(u, code), now, now.Add(verifyLife))
	})
	if err == nil {
		d.wakeSender()
		return nil
	}
	if errors.Is(err, ErrUnknown) || errors.Is(err, ErrInvalid) || errors.Is(err, ErrThrottled) {
		return err
	}
	return fmt.Errorf("identity: verification: %w", err)
}

// Verify marks the address verified that the code was sent to, and uses the code
// up. [ErrCode] when it is wrong, used or expired, or the user has another address
// by now.
func (d *Directory) Verify(ctx context.Context, code string) (*User, error) {
	var id string
	err := d.changeByOwner(ctx, code, "verify", "users.verify", func(tx *sql.Tx, user, email string) error {
		id = user
		now := time.Now()
		var version int64
		err := tx.QueryRowContext(ctx, `UPDATE users SET email_verified = $1, updated = $1, version = version + 1
			WHERE id = $2 AND email = $3 RETURNING version`, now.UnixMilli(), user, email).Scan(&version)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrCode
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return d.User(ctx, id)
}

// SendReset mails a link for a new password, good for 30 minutes, to the verified
// address of the user called login, if there is one; an older link stops working.
// Who signs in at an upstream, or by passkeys alone, gets none.
// It writes down what was typed and returns: who that is, is looked up by
// [Directory.Run], so neither the answer nor its time tells whether there is such
// a user. Errors: [*Throttled] by the source, [ErrBusy] when too much mail waits.
func (d *Directory) SendReset(ctx context.Context, login string, source netip.Addr) error {
	if d.cfg.Mail == nil {
		return errNoMail
	}
	if len(login) > 2*maxEmail {
		login = "" // nobody's
	}
	content, err := d.cfg.Seal.Seal(sealedOutbox, []byte(login))
	if err != nil {
		return fmt.Errorf("identity: reset: %w", err)
	}
	err = d.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
		now := time.Now()
		if err := take(ctx, tx, ofSource(source), now); err != nil {
			return err
		}
		return insertOutbox(ctx, tx, "reset", content, now, now.Add(resetLife))
	})
	if err == nil {
		d.wakeSender()
		return nil
	}
	if errors.Is(err, ErrThrottled) || errors.Is(err, ErrBusy) {
		return err
	}
	return fmt.Errorf("identity: reset: %w", err)
}

// resolveReset makes the mail of what SendReset wrote down as id, in its place;
// nil when nobody is to get one.
func (d *Directory) resolveReset(ctx context.Context, id, login string) (*letter, error) {
	canonical, err := canonicalName(login)
	if err != nil {
		canonical = ""
	}
	code, sum := newCode()
	var l *letter
	err = d.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
		l = nil
		now := time.Now()
		u, err := selectUser(ctx, tx, `WHERE id = (SELECT user_id FROM logins WHERE login = $1)`, canonical)
		if err == nil && (u.Email == "" || u.EmailVerified.IsZero() || !u.Active || u.Source != "") {
			err = ErrUnknown
		}
		if err == nil && !u.HasPassword {
			err = noPasskeys(ctx, tx, u.ID)
		}
		if err == nil {
			err = take(ctx, tx, counter{"mail", u.ID}, now)
		}
		if errors.Is(err, ErrUnknown) || errors.Is(err, ErrThrottled) {
			return deleteOutbox(ctx, tx, id)
		}
		if err != nil {
			return err
		}
		if err := putCode(ctx, tx, "reset", u, sum, now.Add(resetLife)); err != nil {
			return err
		}
		l = d.resetMail(u, code)
		content, err := d.sealLetter(l)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE outbox SET kind = 'mail', content = $1, expires = $2 WHERE id = $3`, content, now.Add(resetLife).UnixMilli(), id)
		return err
	})
	return l, err
}

// noPasskeys is [ErrUnknown] for who signs in by passkeys alone: the mailbox must
// not become a weaker way in.
func noPasskeys(ctx context.Context, tx *sql.Tx, user string) error {
	var n int
	err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM passkeys WHERE user_id = $1`, user).Scan(&n)
	if err == nil && n > 0 {
		err = ErrUnknown
	}
	return err
}

// Reset gives the user to whom code was sent a new password, and uses the code up.
// All sessions and grants end; it signs nobody in, and no second factor is taken
// away. Errors: [ErrCode], and [ErrPassword], which leaves the code good.
func (d *Directory) Reset(ctx context.Context, code string, newPassword gatehouse.Secret) (*User, error) {
	id, err := d.redeem(ctx, code, "reset")
	if err != nil {
		return nil, err
	}
	row, err := d.rowFor(ctx, id, newPassword)
	if errors.Is(err, ErrUnknown) || errors.Is(err, ErrInvalid) {
		return nil, ErrCode
	}
	if err != nil {
		return nil, err
	}
	err = d.changeByOwner(ctx, code, "reset", "users.reset", func(tx *sql.Tx, user, email string) error {
		u, err := selectUser(ctx, tx, `WHERE id = $1`, user)
		if errors.Is(err, ErrUnknown) || err == nil && (user != id || u.Email != email || !u.Active) {
			return ErrCode
		}
		if err != nil {
			return err
		}
		if err := d.setPassword(ctx, tx, user, row); err != nil {
			return err
		}
		// Who reads the mail is not made to wait for who guessed.
		for _, login := range []string{u.Name, u.Email} {
			byName, byAccount, err := d.counters(login, login, "", proof{user: user})
			if err != nil {
				return err
			}
			if err := errors.Join(reset(ctx, tx, byName), reset(ctx, tx, byAccount)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return d.User(ctx, id)
}

// redeem tells whose code it is, without using it up.
func (d *Directory) redeem(ctx context.Context, code, kind string) (user string, err error) {
	err = d.cfg.DB.Read(ctx, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT user_id FROM codes WHERE sha256 = $1 AND kind = $2 AND expires > $3`,
			codeSum(code), kind, time.Now().UnixMilli()).Scan(&user)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return "", ErrCode
	}
	if err != nil {
		return "", fmt.Errorf("identity: code: %w", err)
	}
	return user, nil
}

// changeByOwner uses the code up in one statement, and makes the change f in the
// same transaction. Its owner is the actor.
func (d *Directory) changeByOwner(ctx context.Context, code, kind, action string, f func(tx *sql.Tx, user, email string) error) error {
	owner, err := d.redeem(ctx, code, kind)
	if err != nil {
		return err
	}
	return d.change(ctx, owner, action, func(tx *sql.Tx) (string, map[string]string, error) {
		var user, email string
		err := tx.QueryRowContext(ctx, `DELETE FROM codes WHERE sha256 = $1 AND kind = $2 AND expires > $3 RETURNING user_id, email`,
			codeSum(code), kind, time.Now().UnixMilli()).Scan(&user, &email)
		if errors.Is(err, sql.ErrNoRows) {
			return "", nil, ErrCode
		}
		if err != nil {
			return "", nil, err
		}
		return user, nil, f(tx, user, email)
	})
}

func newCode() (code, sum string) {
	var b [codeBytes]byte
	_, _ = rand.Read(b[:]) // never fails
	code = base64.RawURLEncoding.EncodeToString(b[:])
	return code, codeSum(code)
}

// codeSum is what the table has of a code: 256 random bits need no slow hash.
func codeSum(code string) string {
	sum := sha256.Sum256([]byte(code))
	return hex.EncodeToString(sum[:])
}

// putCode takes the place of the older code.
func putCode(ctx context.Context, tx *sql.Tx, kind string, u *User, sum string, expires time.Time) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO codes (kind, user_id, sha256, email, expires) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (kind, user_id) DO UPDATE SET sha256 = excluded.sha256, email = excluded.email, expires = excluded.expires`,
		kind, u.ID, sum, u.Email, expires.UnixMilli())
	return err
}

func (d *Directory) verifyMail(u *User, code string) *letter {
	return &letter{u.Email, "Confirm your address for " + d.host, strings.Join([]string{
		// No name: a stranger may have chosen it for what this reader makes of it.
		"Hello,",
		"open this link to confirm that this address is yours:",
		d.cfg.Issuer + VerifyPath + "?code=" + code,
		"It is good for 24 hours and for one use. If you know nothing of it, do nothing.",
	}, "\n\n") + "\n"}
}

func (d *Directory) resetMail(u *User, code string) *letter {
	return &letter{u.Email, "A new password for " + d.host, strings.Join([]string{
		"Hello " + u.Name + ",",
		"somebody, probably you, wants to set a new password. This link does it:",
		d.cfg.Issuer + ResetPath + "?code=" + code,
		"It is good for 30 minutes and for one use. If it was not you, do nothing: your password stays.",
	}, "\n\n") + "\n"}
}

package identity

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/gatehouse-api/gatehouse"
)

// newPassword checks the rules and returns the row to be written; second tells that
// another factor is asked for as well.
func (d *Directory) newPassword(ctx context.Context, p gatehouse.Secret, u *User, second bool) (string, error) {
	if len(p.Reveal()) > longestBytes {
		return "", fmt.Errorf("%w: it has more than %d characters", ErrPassword, longestPassword)
	}
	password := spelled(p.Reveal())
	if err := d.checkPassword(password, u, second); err != nil {
		return "", err
	}
	free, err := d.hashes.slot(ctx)
	if err != nil {
		return "", err
	}
	defer free()
	return hashed(password).String(), nil
}

// A proof is what the table has to check a password against.
type proof struct {
	user     string // id; "" when nobody has the name
	phc      string
	active   bool
	second   bool
	familiar bool // the user has signed in from that address before
}

// Password checks a name, or an address, and a password. The answers are a
// [*Login], [ErrCredentials], [*Throttled] and [ErrBusy]; every other error means
// that nobody knows. An unknown name, a wrong password and a locked account get
// the same answer after the same work: look up, count, hash.
//
// The attempt is counted before the hash, by address, by what was typed and by the
// account, and taken back when it succeeds. When a stranger has used up the
// account's attempts under its other name, the answer is ErrCredentials and not
// Throttled, which would tell that the two names are one account's.
func (d *Directory) Password(ctx context.Context, login string, password gatehouse.Secret, source netip.Addr) (*Login, error) {
	// The time of the proof: before it is read what it is. A password that is changed
	// while the old one waits for its hash has been proven before the change.
	began := time.Now()
	from := ofSource(source)
	typed, err := canonicalName(login)
	if err != nil {
		typed = "" // nobody's name
	}
	p, err := d.proof(ctx, typed, from.id)
	if err != nil {
		return nil, err
	}
	byName, byAccount, err := d.counters(login, typed, from.id, p)
	if err != nil {
		return nil, err
	}
	if err := d.waiting(ctx, from, byName); err != nil {
		return nil, err
	}
	free, err := d.hashes.slot(ctx)
	if err != nil {
		return nil, err
	}
	defer free()
	shut := false // the account's attempts are used up
	err = d.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
		now := time.Now()
		for _, c := range []counter{from, byName} {
			if err := take(ctx, tx, c, now); err != nil {
				return err
			}
		}
		err := take(ctx, tx, byAccount, now)
		shut = errors.Is(err, ErrThrottled)
		if shut {
			return nil
		}
		return err
	})
	if errors.Is(err, ErrThrottled) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("identity: attempts: %w", err)
	}
	old, candidate := (*phc)(nil), ""
	if len(password.Reveal()) <= longestBytes {
		candidate = spelled(password.Reveal())
		if p.phc != "" {
			if old, err = parsePHC(p.phc); err != nil {
				return nil, fmt.Errorf("identity: user %s: %w", p.user, err)
			}
		}
	}
	if !old.opens(candidate) || !p.active || shut {
		return nil, ErrCredentials
	}
	renewed := ""
	if old.cost != today {
		renewed = hashed(candidate).String()
	}
	err = d.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
		if renewed != "" { // unless the password was changed in between
			if _, err := tx.ExecContext(ctx, `UPDATE users SET password = $1 WHERE id = $2 AND password = $3`, renewed, p.user, p.phc); err != nil {
				return err
			}
		}
		for _, c := range []counter{from, byName, byAccount} {
			if err := reset(ctx, tx, c); err != nil {
				return err
			}
		}
		return remember(ctx, tx, p.user, from, began)
	})
	if err != nil {
		return nil, fmt.Errorf("identity: attempts: %w", err)
	}
	return &Login{User: p.user, AMR: []string{"pwd"}, ACR: ACRPassword, AuthTime: began, Second: p.second}, nil
}

// proof reads what typed, canonical, is checked against. Nobody's is no error.
func (d *Directory) proof(ctx context.Context, typed, source string) (p proof, err error) {
	err = d.cfg.DB.Read(ctx, func(tx *sql.Tx) error {
		var active, familiar int64
		err := tx.QueryRowContext(ctx, `SELECT id, password, active,
			(SELECT COUNT(*) FROM familiar f WHERE f.user_id = users.id AND f.source = $2)
			FROM users WHERE id = (SELECT user_id FROM logins WHERE login = $1)`, typed, source).Scan(&p.user, &p.phc, &active, &familiar)
		if errors.Is(err, sql.ErrNoRows) {
			p = proof{}
		} else if err != nil {
			return err
		}
		p.active, p.familiar = active == 1, familiar == 1
		p.second, err = hasSecond(ctx, tx, p.user)
		return err
	})
	if err != nil {
		return proof{}, fmt.Errorf("identity: %w", err)
	}
	return p, nil
}

// counters says what an attempt counts for besides its address. Nobody's account
// has a counter like everybody's, so that the work is the same.
func (d *Directory) counters(login, typed, source string, p proof) (byName, byAccount counter, err error) {
	if typed == "" {
		typed = "\x00" + login
	}
	place := ""
	if p.familiar {
		place = " " + source
	}
	name, err := d.hidden("login", typed+place)
	if err != nil {
		return byName, byAccount, err
	}
	account := p.user + place
	if p.user == "" {
		if account, err = d.hidden("nobody", typed); err != nil {
			return byName, byAccount, err
		}
	}
	return counter{"login", name}, counter{"account", account}, nil
}

// SetPassword gives a user a new password. Everything issued to the user is dead
// then, all sessions included: sign the user in again with the new one to keep this
// browser. The error is [ErrPassword] with the rule in words, [ErrInvalid] for who
// signs in elsewhere, or [ErrUnknown].
func (d *Directory) SetPassword(ctx context.Context, actor, id string, p gatehouse.Secret) error {
	row, err := d.rowFor(ctx, id, p)
	if err != nil {
		return err
	}
	return d.change(ctx, actor, "users.password", func(tx *sql.Tx) (string, map[string]string, error) {
		return id, nil, d.setPassword(ctx, tx, id, row)
	})
}

// rowFor checks and hashes a new password of the user id.
func (d *Directory) rowFor(ctx context.Context, id string, p gatehouse.Secret) (string, error) {
	var u *User
	var second bool
	err := d.cfg.DB.Read(ctx, func(tx *sql.Tx) (err error) {
		if u, err = selectUser(ctx, tx, `WHERE id = $1`, id); err != nil {
			return err
		}
		second, err = hasSecond(ctx, tx, id)
		return err
	})
	if errors.Is(err, ErrUnknown) {
		return "", err
	}
	if err != nil {
		return "", fmt.Errorf("identity: %w", err)
	}
	if u.Source != "" {
		return "", fmt.Errorf("%w: who signs in by %s has no password here", ErrInvalid, u.Source)
	}
	return d.newPassword(ctx, p, u, second)
}

func (d *Directory) setPassword(ctx context.Context, tx *sql.Tx, id, row string) error {
	now := time.Now()
	var version int64
	err := tx.QueryRowContext(ctx, `UPDATE users SET password = $1, password_changed = $2, updated = $2, version = version + 1
		WHERE id = $3 AND source = '' RETURNING version`, row, now.UnixMilli(), id).Scan(&version)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrUnknown
	}
	if err != nil {
		return err
	}
	return d.expel(ctx, tx, id, now)
}

package identity

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// maxSealed bounds what a stranger may bring back as sealed state.
const maxSealed = 4 << 10

// ErrLast refuses to take from a user the last way to sign in.
var ErrLast = errors.New("this is the last way to sign in")

// By says who changes the factors of whom, and from where. Such a change is a
// change of privilege: all sessions of the user end but the one it is made in,
// which gets another cookie value by [Directory.Rotate].
type By struct {
	Actor string // for the log of changes
	User  string // id of whose factors they are
	Keep  string // sid of the session that goes on; "" for none, as for an administrator
}

// Factors are the ways in which a user can prove who it is.
type Factors struct {
	Password bool
	TOTP     bool // an authenticator app
	Passkeys int
	Recovery int // codes left
}

// Factors returns what user can sign in with.
func (d *Directory) Factors(ctx context.Context, user string) (f Factors, err error) {
	var password, totp int
	err = d.cfg.DB.Read(ctx, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT CASE WHEN password <> '' THEN 1 ELSE 0 END,
			(SELECT COUNT(*) FROM totp WHERE user_id = users.id),
			(SELECT COUNT(*) FROM passkeys WHERE user_id = users.id),
			(SELECT COUNT(*) FROM recovery_codes WHERE user_id = users.id)
			FROM users WHERE id = $1`, user).Scan(&password, &totp, &f.Passkeys, &f.Recovery)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return Factors{}, ErrUnknown
	}
	if err != nil {
		return Factors{}, fmt.Errorf("identity: factors: %w", err)
	}
	f.Password, f.TOTP = password == 1, totp == 1
	return f, nil
}

// UpstreamLogin is the login of a user whom an upstream proved just now, to be
// called after [Directory.Link]. Acr is what the connector's mapping makes of the
// upstream's, "" for one factor. A user with an authenticator app here is asked
// for it unless the upstream proved two factors.
func (d *Directory) UpstreamLogin(ctx context.Context, user, source, acr string, amr []string) (*Login, error) {
	acr = orElse(acr, ACRPassword)
	if user == "" || source == "" || strength(acr) == 0 {
		return nil, fmt.Errorf("%w: an upstream's login needs a user, the upstream's name and one of our ACR values", ErrInvalid)
	}
	l := &Login{User: user, Source: source, ACR: acr, AMR: methods(amr, nil, acr), AuthTime: time.Now()}
	return d.withSecond(ctx, l)
}

// withSecond tells whether another factor must follow l: who has an authenticator
// app signs in by two factors.
func (d *Directory) withSecond(ctx context.Context, l *Login) (*Login, error) {
	if strength(l.ACR) >= strength(ACRTwo) {
		return l, nil
	}
	err := d.cfg.DB.Read(ctx, func(tx *sql.Tx) (err error) {
		l.Second, err = hasSecond(ctx, tx, l.User)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("identity: factors: %w", err)
	}
	return l, nil
}

// hasSecond reports whether a user's password is only one of two factors.
func hasSecond(ctx context.Context, tx *sql.Tx, user string) (bool, error) {
	var n int
	err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM totp WHERE user_id = $1`, user).Scan(&n)
	return n > 0, err
}

// forgetFactors are the statements that remove what a deleted user signed in with;
// $1 is the user's id.
func forgetFactors() []string {
	return []string{
		`DELETE FROM totp WHERE user_id = $1`,
		`DELETE FROM recovery_codes WHERE user_id = $1`,
		`DELETE FROM passkeys WHERE user_id = $1`,
	}
}

// secondFactor counts an attempt, lets check look at the code, and adds it to l.
// Wrong codes of the app and of recovery are counted together, and before they are
// looked at: of a million codes nobody tries many, also not all at once.
func (d *Directory) secondFactor(ctx context.Context, l *Login, source netip.Addr, check func(now time.Time) (bool, error)) (*Login, error) {
	now := time.Now()
	if l == nil || l.User == "" || len(l.AMR) > 0 && !l.fresh(now) {
		return nil, ErrCredentials
	}
	counters := []counter{{"second", l.User}, ofSource(source)}
	if err := d.count(ctx, counters...); err != nil {
		return nil, err
	}
	ok, err := check(now)
	if err != nil {
		return nil, fmt.Errorf("identity: second factor: %w", err)
	}
	if !ok {
		return nil, ErrCredentials
	}
	err = d.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
		for _, c := range counters {
			if err := reset(ctx, tx, c); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("identity: attempts: %w", err)
	}
	return Combine(l, &Login{User: l.User, AMR: []string{amrOTP}, AuthTime: now})
}

// factor makes a change of a user's factors: logged first, and the end of the
// user's other sessions.
func (d *Directory) factor(ctx context.Context, by By, action string, detail map[string]string, f func(*sql.Tx) error) error {
	return d.change(ctx, by.Actor, action, func(tx *sql.Tx) (string, map[string]string, error) {
		var found int
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM users WHERE id = $1`, by.User).Scan(&found); err != nil {
			return "", nil, err
		}
		if found == 0 {
			return "", nil, ErrUnknown
		}
		if err := f(tx); err != nil {
			return "", nil, err
		}
		return by.User, detail, d.endSessions(ctx, tx, by.User, by.Keep, time.Now())
	})
}

// once reports whether sealed state is used for the first time.
func once(ctx context.Context, tx *sql.Tx, state string, until time.Time) (bool, error) {
	n, err := affected(tx.ExecContext(ctx, `INSERT INTO ceremonies (sha256, until) VALUES ($1, $2) ON CONFLICT (sha256) DO NOTHING`, digest(state), until.UnixMilli()))
	return n == 1, err
}

// seal makes state that a stranger brings back.
func (d *Directory) seal(purpose string, v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("identity: %w", err)
	}
	return d.cfg.Seal.Seal(purpose, b)
}

// open opens it. All that seal did not make for that purpose is [ErrCredentials].
func (d *Directory) open(purpose, sealed string, into any) error {
	if len(sealed) > maxSealed {
		return ErrCredentials
	}
	b, err := d.cfg.Seal.Open(purpose, sealed)
	if err != nil {
		return ErrCredentials
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("identity: what was sealed as %q is not what it was: %w", purpose, err)
	}
	return nil
}

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
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/gatehouse-api/gatehouse/internal/store"

	"github.com/gatehouse-api/gatehouse"
)

const (
	cookieBytes = 32 // of randomness; OWASP asks for 16 at least
	seenEvery   = time.Minute
	maxAgent    = 256 // bytes kept of what a browser says of itself
)

// An Origin is where a session is started from, for the list its user sees.
type Origin struct {
	Address string
	Agent   string // User-Agent
}

// Start makes a session of a login and returns the value of its cookie, which is
// always a new one: a value planted in the browser before (session fixation) has
// no way in. [ErrCredentials] is the answer to a login that waits for its second
// factor, is older than ten minutes or than the user's ValidFrom, or whose user is
// not active.
func (d *Directory) Start(ctx context.Context, l *Login, from Origin) (gatehouse.Secret, *Session, error) {
	now := time.UnixMilli(time.Now().UnixMilli()) // as the table will have it
	if !l.complete(now) {
		return gatehouse.Secret{}, nil, ErrCredentials
	}
	cookie := newCookie()
	s := &Session{
		ID: newID("ses_"), User: l.User, AMR: l.AMR, ACR: l.ACR, Source: l.Source, AuthTime: store.Moment(store.Millis(l.AuthTime)),
		Created: now, Seen: now, Expires: now.Add(d.cfg.SessionLife), Address: shown(from.Address), Agent: shown(from.Agent),
	}
	s.Idle = d.idle(s, now)
	// One factor is not enough for who has an authenticator app, also one added
	// since the password was taken.
	alone := 0
	if l.ACR == ACRPassword && !slices.Contains(l.AMR, amrOTP) {
		alone = 1
	}
	var rows int64
	err := d.cfg.DB.Write(ctx, func(tx *sql.Tx) (err error) {
		rows, err = affected(tx.ExecContext(ctx, `INSERT INTO sessions (`+sessionColumns+`, cookie)
			SELECT $1, id, $3, $4, $5, CAST($6 AS BIGINT), CAST($7 AS BIGINT), CAST($8 AS BIGINT), CAST($9 AS BIGINT), CAST($10 AS BIGINT), $11, $12, $13
			FROM users WHERE id = $2 AND active = 1 AND valid_from < $6 AND ($14 = 0 OR NOT EXISTS (SELECT 1 FROM totp WHERE user_id = $2))`,
			s.ID, s.User, strings.Join(s.AMR, " "), s.ACR, s.Source, store.Millis(s.AuthTime), store.Millis(s.Created), store.Millis(s.Seen), store.Millis(s.Idle), store.Millis(s.Expires),
			s.Address, s.Agent, digest(cookie), alone))
		return err
	})
	switch {
	case err != nil:
		return gatehouse.Secret{}, nil, fmt.Errorf("identity: starting a session: %w", err)
	case rows != 1:
		return gatehouse.Secret{}, nil, ErrCredentials
	}
	return gatehouse.NewSecret(cookie), s, nil
}

// Session returns the session of a cookie's value, and its user. [ErrSession] is
// the answer when it ended, idled or expired, when the user is not active, or when
// what the user proved up to ValidFrom counts no more. A request puts off the
// idle end, written at most once a minute.
func (d *Directory) Session(ctx context.Context, cookie string) (*Session, *User, error) {
	if !isCookie(cookie) {
		return nil, nil, ErrSession
	}
	now := time.Now()
	sum := digest(cookie)
	var s *Session
	var u *User
	err := d.cfg.DB.Read(ctx, func(tx *sql.Tx) (err error) {
		if s, err = sessionOf(ctx, tx, sum, now); err != nil {
			return err
		}
		u, err = selectUser(ctx, tx, `WHERE id = $1`, s.User)
		return err
	})
	if err != nil {
		return nil, nil, sessionError("reading a session", err)
	}
	if err := d.seen(ctx, s, now, `cookie = $3`, sum); err != nil {
		return nil, nil, err
	}
	return s, u, nil
}

// SessionAlive says nil of a session that would still be taken with its cookie,
// and [ErrSession] of every other: who refreshes a token asks.
func (d *Directory) SessionAlive(ctx context.Context, sid string) error {
	_, err := d.session(ctx, sid)
	return err
}

// SessionUsed is SessionAlive of a session whose user a client acts for right now:
// who works in an application and never comes back to our pages is not idle.
func (d *Directory) SessionUsed(ctx context.Context, sid string) error {
	s, err := d.session(ctx, sid)
	if err != nil {
		return err
	}
	return d.seen(ctx, s, time.Now(), `id = $3`, sid)
}

func (d *Directory) session(ctx context.Context, sid string) (s *Session, err error) {
	err = d.cfg.DB.Read(ctx, func(tx *sql.Tx) error {
		list, err := selectSessions(ctx, tx, time.Now(), `AND s.id = $2`, sid)
		if err == nil && len(list) != 1 {
			err = ErrSession
		}
		if err == nil {
			s = &list[0]
		}
		return err
	})
	return s, sessionError("reading a session", err)
}

// seen notes once a minute that s is in use, which moves the end it has without.
func (d *Directory) seen(ctx context.Context, s *Session, now time.Time, where string, which any) error {
	if now.Sub(s.Seen) < seenEvery {
		return nil
	}
	s.Seen, s.Idle = now, d.idle(s, now)
	err := d.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
		// It may have ended since it was read, and must not be seen again then.
		return one(tx.ExecContext(ctx, `UPDATE sessions SET seen = $1, idle = $2 WHERE `+where, store.Millis(s.Seen), store.Millis(s.Idle), which))
	})
	return sessionError("keeping a session", err)
}

// Raise adds what the user of a session proved just now, for a step-up or to sign
// in again: same id, more methods, never a lower level; and a new cookie value, as
// who knew the one before must not share what it may now. [ErrCredentials] is the
// answer to another user's login or one that Start would not take, [ErrWeaker] to
// one that adds nothing. A code of [Directory.TOTP] alone is enough to add it.
func (d *Directory) Raise(ctx context.Context, cookie string, l *Login) (gatehouse.Secret, *Session, error) {
	return d.renew(ctx, cookie, func(s Session, now time.Time) (Session, error) {
		next, err := s.raise(l, now)
		if err == nil {
			next.AuthTime = store.Moment(store.Millis(next.AuthTime))
		}
		return next, err
	}, l)
}

// Rotate gives a session another cookie value. Do so after each change of what its
// user may do or how the user signs in.
func (d *Directory) Rotate(ctx context.Context, cookie string) (gatehouse.Secret, *Session, error) {
	return d.renew(ctx, cookie, func(s Session, _ time.Time) (Session, error) { return s, nil }, nil)
}

func (d *Directory) renew(ctx context.Context, cookie string, change func(Session, time.Time) (Session, error), l *Login) (gatehouse.Secret, *Session, error) {
	if !isCookie(cookie) {
		return gatehouse.Secret{}, nil, ErrSession
	}
	fresh := newCookie()
	var next Session
	err := d.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
		now := time.UnixMilli(time.Now().UnixMilli())
		s, err := sessionOf(ctx, tx, digest(cookie), now)
		if err != nil {
			return err
		}
		if next, err = change(*s, now); err != nil {
			return err
		}
		next.Seen, next.Idle = now, d.idle(&next, now)
		from := s.AuthTime
		if l != nil {
			from = l.AuthTime
		}
		// Whatever the decision above was made on is still so: the row has its cookie,
		// the user is active, and ValidFrom is not after the login.
		n, err := affected(tx.ExecContext(ctx, `UPDATE sessions SET cookie = $1, amr = $2, acr = $3, source = $4, auth_time = $5, seen = $6, idle = $7
			WHERE cookie = $8 AND acr = $9 AND idle > $6
			AND EXISTS (SELECT 1 FROM users u WHERE u.id = sessions.user_id AND u.active = 1 AND u.valid_from < $10)`,
			digest(fresh), strings.Join(next.AMR, " "), next.ACR, next.Source, store.Millis(next.AuthTime), store.Millis(next.Seen), store.Millis(next.Idle),
			digest(cookie), s.ACR, store.Millis(from)))
		if err == nil && n != 1 {
			err = ErrCredentials // the session was read a moment ago: it is the login that is older than ValidFrom
		}
		return err
	})
	if err != nil {
		return gatehouse.Secret{}, nil, sessionError("renewing a session", err)
	}
	return gatehouse.NewSecret(fresh), &next, nil
}

// End ends a session and revokes its id: tokens with that sid are refused, and the
// clients that took part are told to log out. [ErrSession] when there is none.
func (d *Directory) End(ctx context.Context, actor, sid string) error {
	return d.change(ctx, actor, "sessions.end", func(tx *sql.Tx) (string, map[string]string, error) {
		var user string
		err := tx.QueryRowContext(ctx, `DELETE FROM sessions WHERE id = $1 RETURNING user_id`, sid).Scan(&user)
		if err != nil {
			return "", nil, sessionError("ending a session", err)
		}
		return sid, map[string]string{"user": user}, d.RevokeTx(ctx, tx, "session", sid, time.Now())
	})
}

// EndOthers ends all sessions of a user but keep, which may be "".
func (d *Directory) EndOthers(ctx context.Context, actor, user, keep string) error {
	return d.change(ctx, actor, "sessions.end_others", func(tx *sql.Tx) (string, map[string]string, error) {
		others, err := store.Texts(ctx, tx, `SELECT id FROM sessions WHERE user_id = $1 AND id <> $2`, user, keep)
		if err != nil || len(others) == 0 {
			return "", nil, err
		}
		return user, map[string]string{"ended": strings.Join(others, " ")}, d.endSessions(ctx, tx, user, keep, time.Now())
	})
}

// SessionsOf returns the living sessions of a user, the latest used first.
func (d *Directory) SessionsOf(ctx context.Context, user string) (list []Session, err error) {
	err = d.cfg.DB.Read(ctx, func(tx *sql.Tx) (err error) {
		list, err = selectSessions(ctx, tx, time.Now(), `AND s.user_id = $2 ORDER BY s.seen DESC, s.id`, user)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("identity: sessions: %w", err)
	}
	return list, nil
}

// endSessions ends all sessions of user but keep, in a transaction in which the
// user lost or changed something.
func (d *Directory) endSessions(ctx context.Context, tx *sql.Tx, user, keep string, now time.Time) error {
	ended, err := store.Texts(ctx, tx, `DELETE FROM sessions WHERE user_id = $1 AND id <> $2 RETURNING id`, user, keep)
	if err != nil {
		return err
	}
	for _, sid := range ended {
		if err := d.RevokeTx(ctx, tx, "session", sid, now); err != nil {
			return err
		}
	}
	return nil
}

func (d *Directory) idle(s *Session, now time.Time) time.Time {
	if end := now.Add(d.cfg.SessionIdle); end.Before(s.Expires) {
		return end
	}
	return s.Expires
}

const sessionColumns = `id, user_id, amr, acr, source, auth_time, created, seen, idle, expires, address, agent`

// living is what makes a session one; $1 is now. Idle is never after expires. A
// proof of the millisecond of ValidFrom is dead: it may be the one before.
const living = ` FROM sessions s JOIN users u ON u.id = s.user_id
	WHERE s.idle > $1 AND u.active = 1 AND u.valid_from < s.auth_time `

func selectSessions(ctx context.Context, tx *sql.Tx, now time.Time, where, arg string) ([]Session, error) {
	rows, err := tx.QueryContext(ctx, `SELECT s.id, s.user_id, s.amr, s.acr, s.source, s.auth_time, s.created, s.seen, s.idle, s.expires, s.address, s.agent`+living+where, now.UnixMilli(), arg) //nolint:gosec // where is a constant of this file, the value goes in arg
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var list []Session
	for rows.Next() {
		var s Session
		var amr string
		var at, created, seen, idle, expires int64
		if err := rows.Scan(&s.ID, &s.User, &amr, &s.ACR, &s.Source, &at, &created, &seen, &idle, &expires, &s.Address, &s.Agent); err != nil {
			return nil, err
		}
		s.AMR = strings.Fields(amr)
		s.AuthTime, s.Created, s.Seen, s.Idle, s.Expires = store.Moment(at), store.Moment(created), store.Moment(seen), store.Moment(idle), store.Moment(expires)
		list = append(list, s)
	}
	return list, rows.Err()
}

func sessionOf(ctx context.Context, tx *sql.Tx, sum string, now time.Time) (*Session, error) {
	list, err := selectSessions(ctx, tx, now, `AND s.cookie = $2`, sum)
	if err != nil {
		return nil, err
	}
	if len(list) != 1 {
		return nil, ErrSession
	}
	return &list[0], nil
}

// sessionError says ErrSession of what is not there, and where any other error came from.
func sessionError(doing string, err error) error {
	switch {
	case err == nil, errors.Is(err, ErrCredentials), errors.Is(err, ErrWeaker):
		return err
	case errors.Is(err, ErrSession), errors.Is(err, sql.ErrNoRows), errors.Is(err, ErrUnknown):
		return ErrSession
	}
	return fmt.Errorf("identity: %s: %w", doing, err)
}

// one makes of a statement that changed no row that there was no session.
func one(r sql.Result, err error) error {
	n, err := affected(r, err)
	if err == nil && n != 1 {
		err = ErrSession
	}
	return err
}

func affected(r sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func newCookie() string {
	var b [cookieBytes]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the process instead
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// isCookie keeps what can not be a value of ours from costing a query.
func isCookie(s string) bool {
	return len(s) == base64.RawURLEncoding.EncodedLen(cookieBytes)
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// shown is what a stranger said of itself, cut and without what could play tricks
// in a list or a terminal.
func shown(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), maxAgent)], "")
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
}

package identity

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

const (
	throttleMemory = 24 * time.Hour      // an account nobody tried for a day starts anew
	throttleIdle   = time.Hour           // or for an hour, before anybody had to wait: no more guesses than the longest wait allows
	familiarFor    = 60 * 24 * time.Hour // an address is forgotten as the owner's after this
)

// Throttled is the error behind [ErrThrottled]. There is no lockout: after the
// fifth failure of an account each further attempt costs a second of waiting, then
// two, up to 15 minutes; twenty failures from one address (of IPv6: one /64)
// within ten minutes make it wait in the same way, up to a minute.
//
// A stranger can so make an owner wait who types a password in a new place. In a
// place where the owner has signed in before there is a count of its own, and a
// passkey is never made to wait.
type Throttled struct{ Wait time.Duration } //nolint:errname // the word of sign-ins, as Problem is of requests

// Error says how long to wait.
func (t *Throttled) Error() string {
	return fmt.Sprintf("too many attempts: wait %v", t.Wait.Round(time.Second))
}

// Unwrap makes it an [ErrThrottled].
func (*Throttled) Unwrap() error { return ErrThrottled }

// A counter counts the attempts of one thing.
type counter struct {
	kind string // "source", "mail"; every other kind has the rule of accounts
	id   string
}

// A rule says how long to wait: first after free failures, twice that after each
// further one, at most longest.
type rule struct {
	from           string // "seen": failures are forgotten that long after the last; "since": after the first
	memory         time.Duration
	free           int
	first, longest time.Duration
}

func (c counter) rule() rule {
	switch c.kind {
	case "source":
		return rule{"since", 10 * time.Minute, 20, time.Second, time.Minute}
	case "mail": // to a user, that nobody signed in asked for
		return rule{"since", time.Hour, 5, 10 * time.Minute, time.Hour}
	}
	return rule{"seen", throttleMemory, 5, time.Second, 15 * time.Minute}
}

// count counts one attempt in each of counters, or in none when one must wait: then
// the error is a [*Throttled]. Count before the attempt is made, so that of a
// hundred at the same time no more get through than of a hundred one after the
// other, and call reset when it succeeded.
func (d *Directory) count(ctx context.Context, counters ...counter) error {
	err := d.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
		now := time.Now()
		for _, c := range counters {
			if err := take(ctx, tx, c, now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, ErrThrottled) {
		return fmt.Errorf("identity: attempts: %w", err)
	}
	return err
}

// waiting returns a [*Throttled] when a counter says so now, and counts nothing:
// who must wait anyway is told so before anything is spent on the answer.
func (d *Directory) waiting(ctx context.Context, counters ...counter) error {
	now := time.Now()
	return d.cfg.DB.Read(ctx, func(tx *sql.Tx) error {
		for _, c := range counters {
			if err := wait(ctx, tx, c, now); err != nil {
				return err
			}
		}
		return nil
	})
}

func wait(ctx context.Context, tx *sql.Tx, c counter, now time.Time) error {
	var free int64
	err := tx.QueryRowContext(ctx, `SELECT free FROM throttles WHERE kind = $1 AND id = $2`, c.kind, c.id).Scan(&free)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("identity: attempts: %w", err)
	case free > now.UnixMilli():
		return &Throttled{time.UnixMilli(free).Sub(now)}
	}
	return nil
}

// takeStatement counts in one statement, and returns nothing when it is not yet
// time. $3 is now; failures before $4 are forgotten; $5 are free; $6 is the first
// wait, $7 the longest, in milliseconds.
const takeStatement = `INSERT INTO throttles (kind, id, failures, since, seen, free) VALUES ($1, $2, 1, $3, $3, 0)
	ON CONFLICT (kind, id) DO UPDATE SET
		failures = CASE WHEN throttles.%[1]s < $4 THEN 1 ELSE throttles.failures + 1 END,
		since    = CASE WHEN throttles.%[1]s < $4 THEN $3 ELSE throttles.since END,
		seen     = $3,
		free     = CASE
			WHEN throttles.%[1]s < $4 OR throttles.failures + 1 < $5 THEN 0
			WHEN throttles.free <= throttles.seen THEN $3 + $6
			WHEN 2 * (throttles.free - throttles.seen) > $7 THEN $3 + $7
			ELSE $3 + 2 * (throttles.free - throttles.seen) END
	WHERE throttles.free <= $3 RETURNING failures`

func take(ctx context.Context, tx *sql.Tx, c counter, now time.Time) error {
	r := c.rule()
	var failures int64
	err := tx.QueryRowContext(ctx, fmt.Sprintf(takeStatement, r.from), c.kind, c.id, now.UnixMilli(), now.Add(-r.memory).UnixMilli(),
		r.free, r.first.Milliseconds(), r.longest.Milliseconds()).Scan(&failures)
	if errors.Is(err, sql.ErrNoRows) {
		if err := wait(ctx, tx, c, now); err != nil {
			return err
		}
		return &Throttled{time.Second} // it became free between the two statements
	}
	return err
}

// reset forgets what was counted. Of an address only this one attempt: else who
// has one account could guess at all others for ever.
func reset(ctx context.Context, tx *sql.Tx, c counter) error {
	statement := `DELETE FROM throttles WHERE kind = $1 AND id = $2`
	if c.kind == "source" {
		statement = `UPDATE throttles SET failures = failures - 1 WHERE kind = $1 AND id = $2 AND failures > 0`
	}
	_, err := tx.ExecContext(ctx, statement, c.kind, c.id)
	return err
}

// ofSource counts an address: of IPv6 the /64, which one subscriber has whole. An
// address that is not known is one like every other.
func ofSource(source netip.Addr) counter {
	source = source.Unmap().WithZone("")
	bits := 32
	if source.Is6() {
		bits = 64
	}
	prefix, err := source.Prefix(bits)
	if err != nil {
		return counter{"source", "unknown"}
	}
	return counter{"source", prefix.Masked().String()}
}

// hidden is a name under which what somebody typed can be counted without being
// kept: people type their password into the wrong field.
func (d *Directory) hidden(what, typed string) (string, error) {
	tag, err := d.cfg.Seal.Sign("identity "+what, []byte(typed))
	if err != nil {
		return "", fmt.Errorf("identity: %w", err)
	}
	return hex.EncodeToString(tag), nil
}

// remember makes an address one from which the user has signed in.
func remember(ctx context.Context, tx *sql.Tx, user string, from counter, now time.Time) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO familiar (user_id, source, seen) VALUES ($1, $2, $3)
		ON CONFLICT (user_id, source) DO UPDATE SET seen = excluded.seen`, user, from.id, now.UnixMilli())
	return err
}

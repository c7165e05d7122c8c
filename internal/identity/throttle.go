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
	familiarFor    = 60 * 24 * time.Hour // an address is forgotten as the owner's after this

	sourceWindow  = 10 * time.Minute
	resetsPerHour = 5 // mails to one user that nobody signed in asked for
)

// [Throttled] is the error behind [ErrThrottled]. There is no lockout: after the
// fifth failure of an account each further attempt costs a second of waiting, then
// two, up to 15 minutes; twenty failures from one address (of IPv6: one /64)
// within ten minutes make it wait in the same way, up to a minute.
//
// A stranger can so make an owner wait who types a password in a new place. In a
// place where the owner has signed in before there is a count of its own, and a
// passkey is never made to wait.
type Throttled struct{ Wait time.Duration }

// Error says how long to wait.
func (t *Throttled) Error() string {
	return fmt.Sprintf("too many attempts: wait %v", t.Wait.Round(time.Second))
}

// Unwrap makes it an [ErrThrottled].
func (*Throttled) Unwrap() error { return ErrThrottled }

// A counter counts the attempts of one thing.
type counter struct {
	kind string // "source": the rules for addresses; every other kind: those for accounts
	id   string
}

// throttle counts an attempt before it is made, so that of a hundred at the same
// time no more get through than of a hundred one after the other. It returns a
// [*Throttled] for one that must wait, which does not count. Call forgive when the
// attempt succeeded.
func (d *Directory) throttle(ctx context.Context, kind, id string) error {
	return d.count(ctx, counter{kind, id})
}

// forgive forgets every failure of an account's counter.
func (d *Directory) forgive(ctx context.Context, kind, id string) error {
	err := d.cfg.DB.Write(ctx, func(tx *sql.Tx) error { return reset(ctx, tx, counter{kind, id}) })
	if err != nil {
		return fmt.Errorf("identity: attempts: %w", err)
	}
	return nil
}

// count counts one attempt in each of counters, or in none when one must wait.
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
// time. $4: the failures before this moment are forgotten. $5: how many are free.
// $6: the longest wait in seconds.
const takeStatement = `INSERT INTO throttles (kind, id, failures, since, seen, free) VALUES ($1, $2, 1, $3, $3, 0)
	ON CONFLICT (kind, id) DO UPDATE SET
		failures = CASE WHEN throttles.%[1]s < $4 THEN 1 ELSE throttles.failures + 1 END,
		since    = CASE WHEN throttles.%[1]s < $4 THEN $3 ELSE throttles.since END,
		seen     = $3,
		free     = CASE
			WHEN throttles.%[1]s < $4 OR throttles.failures + 1 < $5 THEN 0
			WHEN throttles.failures + 1 - $5 >= 10 OR (1 << (throttles.failures + 1 - $5)) > $6 THEN $3 + 1000 * $6
			ELSE $3 + 1000 * (1 << (throttles.failures + 1 - $5)) END
	WHERE throttles.free <= $3 RETURNING failures`

var (
	takeOfAccount = fmt.Sprintf(takeStatement, "seen")
	takeOfSource  = fmt.Sprintf(takeStatement, "since")
)

func take(ctx context.Context, tx *sql.Tx, c counter, now time.Time) error {
	statement, memory, free, longest := takeOfAccount, throttleMemory, 5, 15*60
	if c.kind == "source" {
		statement, memory, free, longest = takeOfSource, sourceWindow, 20, 60
	}
	var failures int64
	err := tx.QueryRowContext(ctx, statement, c.kind, c.id, now.UnixMilli(), now.Add(-memory).UnixMilli(), free, longest).Scan(&failures)
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

package identity

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// keepDeleted is how long a revocation outlives a user that was deleted: longer
// than any token, also one issued when Config.TokenLife was another.
const keepDeleted = 90 * 24 * time.Hour

// What can be revoked. Of a user and a client everything issued up to that second
// is dead, later tokens are not; a grant, a session and a token are dead for good.
var revocable = []string{"user", "client", "grant", "session", "token"}

const (
	ofUser = iota
	ofClient
	ofGrant
	ofSession
	ofToken
	revocableKinds
)

// A revocation is a row as requests need it.
type revocation struct{ at, until int64 } // Unix milliseconds

// revocations is what requests see of the table.
type revocations struct {
	follow *store.Follower // of live

	mu   sync.Mutex // held during a look
	seq  int64      // the newest row seen
	live atomic.Pointer[revoked]
}

// revoked is read-only. Most rows are in old; new ones are added to a copy of
// recent alone, so that one more costs no copy of a hundred thousand.
type revoked struct {
	old, recent [revocableKinds]map[string]revocation
}

// Revoke makes what was issued for id dead: kind is user, client, grant, session
// or token (its jti). Gateways refuse it within a second, this process at once.
// It writes nothing to the log of changes: who ends something has.
func (d *Directory) Revoke(ctx context.Context, kind, id string) error {
	err := d.cfg.DB.Write(ctx, func(tx *sql.Tx) error { return d.RevokeTx(ctx, tx, kind, id, time.Now()) })
	if err != nil {
		return fmt.Errorf("identity: revoking %s %s: %w", kind, id, err)
	}
	_ = d.refresh(ctx) // it is committed; should this look fail, Run's next one sees it
	return nil
}

// RevokeTx is [Directory.Revoke] in a transaction of the caller. What is revoked a
// second time within a second is so from a second later: a token made between the
// two was dated behind the first one. This goes no further than five seconds ahead
// of the clock, and nobody dates a token that far.
func (d *Directory) RevokeTx(ctx context.Context, tx *sql.Tx, kind, id string, now time.Time) error {
	return d.revokeUntil(ctx, tx, kind, id, now, now.Add(d.cfg.TokenLife+time.Minute)) // a minute for clocks
}

func (d *Directory) revokeUntil(ctx context.Context, tx *sql.Tx, kind, id string, now, until time.Time) error {
	if !slices.Contains(revocable, kind) || id == "" {
		return fmt.Errorf("%w: %q %q can not be revoked", ErrInvalid, kind, id)
	}
	var seq int64
	if err := tx.QueryRowContext(ctx, `UPDATE revocations_last SET seq = seq + 1 WHERE one = 1 RETURNING seq`).Scan(&seq); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO revocations (kind, id, at, until, seq) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (kind, id) DO UPDATE SET seq = excluded.seq,
			at = CASE WHEN excluded.at > revocations.at + 1000 THEN excluded.at
				WHEN revocations.at < excluded.at + 4000 THEN revocations.at + 1000
				ELSE revocations.at END,
			until = CASE WHEN excluded.until > revocations.until THEN excluded.until ELSE revocations.until END`,
		kind, id, now.UnixMilli(), until.UnixMilli(), seq)
	return err
}

// Revoked reports whether a token with these claims is dead although its
// signature holds. It does no I/O, takes no lock and allocates nothing. Ask
// [Directory.RevocationsErr] too.
func (d *Directory) Revoked(c *token.Claims) bool {
	live := d.revocations.live.Load()
	if live == nil || c == nil {
		return true
	}
	issued := c.IssuedAt.Unix() // a token without iat was issued in the year 1
	return live.since(ofUser, c.Subject, issued) || live.since(ofClient, c.ClientID, issued) ||
		live.has(ofGrant, c.GrantID) || live.has(ofSession, c.SID) || live.has(ofToken, c.JTI)
}

// RevocationsErr tells that for two seconds nobody could look whether something
// was revoked: then no token can be believed.
func (d *Directory) RevocationsErr() error {
	if time.Since(d.revocations.follow.Since()) > store.TrustFor {
		return errors.New("identity: the database could not be read, so a revocation may have been missed")
	}
	return nil
}

// RevokedAt returns when what was issued for id was last revoked; zero when it
// was not. A new token's iat must lie in a later second.
func (d *Directory) RevokedAt(kind, id string) time.Time {
	live := d.revocations.live.Load()
	if at := slices.Index(revocable, kind); live != nil && at >= 0 {
		if r, ok := live.find(at, id); ok {
			return time.UnixMilli(r.at)
		}
	}
	return time.Time{}
}

func (v *revoked) find(kind int, id string) (revocation, bool) {
	if r, ok := v.recent[kind][id]; ok {
		return r, true
	}
	r, ok := v.old[kind][id]
	return r, ok
}

func (v *revoked) has(kind int, id string) bool {
	if id == "" {
		return false
	}
	_, ok := v.find(kind, id)
	return ok
}

func (v *revoked) since(kind int, id string, issued int64) bool {
	if id == "" {
		return false
	}
	r, ok := v.find(kind, id)
	return ok && issued <= r.at/1000
}

// refresh makes what requests see what the database says.
func (d *Directory) refresh(ctx context.Context) error {
	v := &d.revocations
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.follow.Look(ctx, d.catchUp); err != nil {
		return fmt.Errorf("identity: revocations: %w", err)
	}
	return nil
}

// catchUp adds the rows that are newer than the last look.
func (d *Directory) catchUp(ctx context.Context) error {
	v := &d.revocations
	live := v.live.Load()
	now, seq, found := time.Now().UnixMilli(), v.seq, 0
	var fresh [revocableKinds]map[string]revocation
	err := d.cfg.DB.Read(ctx, func(tx *sql.Tx) error {
		// Numbers go back when an older state is restored into the database. Then what
		// comes gets numbers that were seen, and everything is read again; what was
		// known stays dead.
		var last int64
		if err := tx.QueryRowContext(ctx, `SELECT seq FROM revocations_last WHERE one = 1`).Scan(&last); err != nil {
			return err
		}
		if last < seq {
			seq = -1
		}
		rows, err := tx.QueryContext(ctx, `SELECT kind, id, at, until, seq FROM revocations WHERE seq > $1`, seq)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var kind, id string
			var r revocation
			var n int64
			if err := rows.Scan(&kind, &id, &r.at, &r.until, &n); err != nil {
				return err
			}
			at := slices.Index(revocable, kind)
			if at < 0 {
				return fmt.Errorf("what is revoked as %q is not known here", kind)
			}
			seq = max(seq, n)
			if r.until < now {
				continue
			}
			if live != nil {
				known, _ := live.find(at, id)
				r.at = max(r.at, known.at)
			}
			if fresh[at] == nil {
				fresh[at] = map[string]revocation{}
			}
			fresh[at][id] = r
			found++
		}
		return rows.Err()
	})
	if err != nil {
		return err
	}
	switch {
	case live == nil:
		v.live.Store(&revoked{old: fresh})
	case found > 0:
		v.live.Store(live.with(fresh, now))
	}
	v.seq = seq
	return nil
}

// with returns v and fresh together. Once recent is an eighth of all, everything
// is written anew, without what is over: on average a row is copied a few times.
func (v *revoked) with(fresh [revocableKinds]map[string]revocation, now int64) *revoked {
	next := &revoked{old: v.old}
	olds, recents := 0, 0
	for kind := range fresh {
		next.recent[kind] = merged(v.recent[kind], fresh[kind], 0)
		olds, recents = olds+len(v.old[kind]), recents+len(next.recent[kind])
	}
	if recents < 256+olds/8 {
		return next
	}
	all := &revoked{}
	for kind := range fresh {
		all.old[kind] = merged(next.old[kind], next.recent[kind], now)
	}
	return all
}

func merged(a, b map[string]revocation, now int64) map[string]revocation {
	if len(a)+len(b) == 0 {
		return nil
	}
	m := make(map[string]revocation, len(a)+len(b))
	maps.Copy(m, a)
	maps.Copy(m, b)
	maps.DeleteFunc(m, func(_ string, r revocation) bool { return r.until < now })
	return m
}

package authn

import (
	"context"
	"crypto/subtle"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/store"

	"github.com/gatehouse-api/gatehouse"
)

const (
	usedEvery  = time.Minute // precision of last_used
	keysIssuer = "keys"
)

// A liveKey is a key as requests need it; read-only but for used.
type liveKey struct {
	digest      [32]byte
	environment string
	expires     int64 // Unix milliseconds, 0: never
	revoked     bool
	suspended   bool     // its owner is a user who can not act through it now
	roles       []string // that it was given; the principal has those its owner still has
	principal   gatehouse.Principal
	used        *lastUse
}

// A lastUse outlives the snapshots, in Unix milliseconds.
type lastUse struct{ seen, kept atomic.Int64 }

// Run watches the database until ctx ends, and writes once a minute when keys
// were last used. Report is told the first error of each outage and, with nil,
// its end.
func (k *Keys) Run(ctx context.Context, report func(error)) {
	poll, keep := time.NewTicker(store.LookEvery), time.NewTicker(usedEvery)
	defer poll.Stop()
	defer keep.Stop()
	down := false
	for {
		var err error
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), store.LookLimit)
			defer cancel()
			if err := k.keepUsed(last); err != nil {
				report(err)
			}
			return
		case <-poll.C:
			err = k.look(ctx, k.refresh)
			if err == nil && !down {
				continue
			}
		case <-keep.C:
			if err = k.look(ctx, k.keepUsed); err == nil {
				continue
			}
		}
		if ctx.Err() != nil {
			continue
		}
		if wasDown := down; wasDown != (err != nil) {
			down = err != nil
			report(err)
		}
	}
}

func (k *Keys) look(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, store.LookLimit)
	defer cancel()
	return f(ctx)
}

// refresh makes what requests see what the database says.
func (k *Keys) refresh(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.follow.Look(ctx, k.load); err != nil {
		return fmt.Errorf("authn: API keys: %w", err)
	}
	return nil
}

// load takes over what is new of keys and of their owners: most commits are about
// neither.
func (k *Keys) load(ctx context.Context) error {
	old := k.live.Load()
	keys, seq, all, err := k.changed(ctx, old)
	if err != nil {
		return err
	}
	who, stood, asked, err := k.standings(ctx)
	if err != nil {
		return err
	}
	if old != nil && !all && len(keys) == 0 && !asked {
		return nil
	}
	var next map[string]*liveKey
	if old == nil || all {
		next = make(map[string]*liveKey, len(keys))
	} else {
		next = maps.Clone(*old)
	}
	for i := range keys {
		var before *liveKey
		if old != nil {
			before = (*old)[keys[i].ID]
		}
		next[keys[i].ID] = newLiveKey(&keys[i], before)
	}
	if who, err = k.ask(ctx, next, who); err != nil {
		return err
	}
	for id, l := range next {
		next[id] = l.judged(who)
	}
	k.live.Store(&next)
	k.seq, k.people, k.stood = seq, who, stood
	return nil
}

// changed reads the keys that changed since the last look; all of them when there
// was none, and when the table has another number of rows than it should: a row
// that somebody removed has no newer number.
func (k *Keys) changed(ctx context.Context, old *map[string]*liveKey) (keys []Key, seq int64, all bool, err error) {
	err = k.cfg.DB.Read(ctx, func(tx *sql.Tx) (err error) {
		var rows int
		if err := tx.QueryRowContext(ctx, `SELECT (SELECT seq FROM api_keys_last WHERE one = 1), (SELECT COUNT(*) FROM api_keys)`).Scan(&seq, &rows); err != nil {
			return err
		}
		if old != nil && seq == k.seq && rows == len(*old) {
			return nil
		}
		if old != nil && seq > k.seq {
			keys, err = selectKeys(ctx, tx, `WHERE seq > $1`, k.seq)
			fresh := 0
			for i := range keys {
				if (*old)[keys[i].ID] == nil {
					fresh++
				}
			}
			if err != nil || len(*old)+fresh == rows {
				return err
			}
		}
		all = true
		keys, err = selectKeys(ctx, tx, ``)
		return err
	})
	return keys, seq, all, err
}

func newLiveKey(key *Key, before *liveKey) *liveKey {
	l := &liveKey{
		digest: key.digest, environment: key.Environment, expires: store.Millis(key.Expires), revoked: !key.Revoked.IsZero(),
		roles: key.Roles, suspended: isUser(key.Owner), // until it is judged
		principal: gatehouse.Principal{
			Subject: key.Owner, Issuer: keysIssuer, Tenant: key.Tenant, Roles: key.Roles, Scopes: key.Scopes,
			Method: gatehouse.MethodAPIKey, KeyID: key.ID, Expires: key.Expires,
		},
	}
	if before != nil {
		l.used = before.used
		return l
	}
	l.used = new(lastUse)
	l.used.seen.Store(store.Millis(key.LastUsed))
	l.used.kept.Store(store.Millis(key.LastUsed))
	return l
}

// keepUsed writes when keys were last used, all in one transaction.
func (k *Keys) keepUsed(ctx context.Context) error {
	live := k.live.Load()
	if live == nil {
		return nil
	}
	kept := map[*lastUse]int64{}
	for _, l := range *live {
		if seen := l.used.seen.Load(); seen > l.used.kept.Load() {
			kept[l.used] = seen
		}
	}
	if len(kept) == 0 {
		return nil
	}
	err := k.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
		for id, l := range *live {
			seen, ok := kept[l.used]
			if !ok {
				continue
			}
			// Another gateway may have seen it later.
			if _, err := tx.ExecContext(ctx, `UPDATE api_keys SET last_used = $1 WHERE id = $2 AND last_used < $1`, seen, id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("authn: last use of API keys: %w", err)
	}
	for u, seen := range kept {
		u.kept.Store(seen)
	}
	return nil
}

var (
	errKeyRandom      = errors.New("the id is known, the rest is not its key")
	errKeyNotFound    = errors.New("no key has this id")
	errKeyRevoked     = errors.New("the key is revoked")
	errKeyExpired     = errors.New("the key expired")
	errKeyOwner       = errors.New("its owner is a user who is locked, gone or in another tenant")
	errKeyEnvironment = errors.New("the key is for another environment")
)

// principal returns who the owner of raw is. It does no I/O. The error is a
// *gatehouse.Problem with Kind Unauthenticated (key_invalid) or Overloaded
// (keys_unavailable).
func (k *Keys) principal(raw string, now time.Time) (*gatehouse.Principal, error) {
	if k == nil {
		return nil, keysUnavailable(errors.New("API keys are not configured"))
	}
	environment, id, err := keyForm(raw)
	if err != nil {
		return nil, keyInvalid(err)
	}
	p, err := k.known(raw, environment, id, now)
	if err != nil && !sumHolds(raw) { // a key whose digest is known is right to the last character
		return nil, keyInvalid(errKeySum)
	}
	return p, err
}

// known looks up a key of the right form.
func (k *Keys) known(raw, environment, id string, now time.Time) (_ *gatehouse.Principal, err error) {
	live := k.live.Load()
	if live == nil || now.Sub(k.follow.Since()) > store.TrustFor {
		return nil, keysUnavailable(errors.New("the database could not be read, so a revocation may have been missed"))
	}
	sum := digest(raw)
	l := (*live)[id]
	if l == nil {
		return nil, keyInvalid(fmt.Errorf("%s: %w", id, errKeyNotFound))
	}
	ms := now.UnixMilli()
	switch {
	case subtle.ConstantTimeCompare(sum[:], l.digest[:]) != 1:
		err = errKeyRandom
	case environment != k.cfg.Environment || l.environment != environment:
		err = errKeyEnvironment
	case l.revoked:
		err = errKeyRevoked
	case l.expires != 0 && ms >= l.expires:
		err = errKeyExpired
	case l.suspended:
		err = errKeyOwner
	default:
		// A word shared by all requests of a key is written at most once a minute.
		if ms-l.used.seen.Load() >= int64(usedEvery/time.Millisecond) {
			l.used.seen.Store(ms)
		}
		return &l.principal, nil
	}
	return nil, keyInvalid(fmt.Errorf("%s: %w", id, err))
}

package ratelimit

import (
	"bytes"
	"context"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Tables are those of this room, for who moves or looks after the whole database.
func Tables() store.Room { return store.RoomOf("ratelimit", migrations) }

// Quotas count calendar quotas in the database, for every node that has the same
// one. Pass them to [New].
type Quotas struct {
	db    *store.DB
	count func() int
}

// OpenQuotas brings the table up to date. nodes is how many nodes there are, nil
// for one.
func OpenQuotas(ctx context.Context, db *store.DB, nodes func() int) (*Quotas, error) {
	if err := db.Migrate(ctx, Tables()); err != nil {
		return nil, err
	}
	if nodes == nil {
		nodes = func() int { return 1 }
	}
	return &Quotas{db, nodes}, nil
}

const (
	quotaCall = time.Second    // one call to the database, for which requests wait as long
	quotaKept = 24 * time.Hour // how long a period is kept when it is over: a node's clock may be behind
	quotaTidy = time.Hour      // between two looks for such
)

// A lease of a quota is paid for with a transaction that reaches the disk, so it
// lasts longer, and is kept longer, than one of a rate.
func newQuotaLeases(q *Quotas, log *slog.Logger) *leases {
	f := newLeases(q, pace{
		wait: quotaCall, tick: 250 * time.Millisecond, gap: 5 * time.Millisecond, ahead: 10 * time.Second,
		idle: time.Minute, recall: 5 * time.Second, sweep: 5 * time.Second,
	}, log)
	f.quota = true
	return f
}

func (q *Quotas) nodes() int { return max(1, q.count()) }

func (q *Quotas) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, quotaCall)
	defer cancel()
	return q.db.Write(ctx, func(tx *sql.Tx) error { // reading alone would not tell that the disk is full
		_, err := tx.ExecContext(ctx, `UPDATE limit_quotas SET got = 0 WHERE name = ''`)
		return err
	})
}

const (
	quotaCharge = `INSERT INTO limit_quotas (name, counted, since, until, used, got) VALUES ($1, $2, $3, $4, $5, 0)
		ON CONFLICT (name, counted, since) DO UPDATE SET used = limit_quotas.used + $5`
	quotaReturn = `UPDATE limit_quotas SET used = CASE WHEN used > $4 THEN used - $4 ELSE 0 END
		WHERE name = $1 AND counted = $2 AND since = $3`
	// What is taken is counted in the same statement: of two nodes that want the
	// last token one gets it.
	quotaTakePart = `INSERT INTO limit_quotas (name, counted, since, until, used, got) VALUES ($1, $2, $3, $4, $5, $5)
		ON CONFLICT (name, counted, since) DO UPDATE SET
		got = CASE WHEN limit_quotas.used >= $7 THEN 0 WHEN limit_quotas.used + $6 <= $7 THEN $6 ELSE $7 - limit_quotas.used END,
		used = CASE WHEN limit_quotas.used >= $7 THEN limit_quotas.used WHEN limit_quotas.used + $6 <= $7 THEN limit_quotas.used + $6 ELSE $7 END
		RETURNING got, used`
	quotaTakeWhole = `INSERT INTO limit_quotas (name, counted, since, until, used, got) VALUES ($1, $2, $3, $4, $5, $5)
		ON CONFLICT (name, counted, since) DO UPDATE SET
		got = CASE WHEN limit_quotas.used + $6 <= $7 THEN $6 ELSE 0 END,
		used = CASE WHEN limit_quotas.used + $6 <= $7 THEN limit_quotas.used + $6 ELSE limit_quotas.used END
		RETURNING got, used`
)

// take counts the tokens of every ask in one transaction. It implements bank.
func (q *Quotas) take(ctx context.Context, orders []order, asks []store.Ask, out []store.Grant) ([]store.Grant, error) {
	ctx, cancel := context.WithTimeout(ctx, quotaCall)
	defer cancel()
	now := time.Now().UnixMilli()
	order := make([]int, len(asks)) // two nodes that change the same rows do so in the same order, or they would wait for each other
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return bytes.Compare(asks[a].Key[:], asks[b].Key[:]) })
	out = slices.Grow(out[:0], len(asks))[:len(asks)]
	err := q.db.Write(ctx, func(tx *sql.Tx) error {
		for _, i := range order {
			g, err := takeQuota(ctx, tx, &orders[i], &asks[i], now)
			if err != nil {
				return fmt.Errorf("ratelimit: quota %s: %w", orders[i].limit.name, err)
			}
			out[i] = g
		}
		return nil
	})
	return out, err
}

func takeQuota(ctx context.Context, tx *sql.Tx, o *order, a *store.Ask, now int64) (store.Grant, error) {
	e := o.lease // its period never changes
	end := time.Duration(max(0, e.until-now)) * time.Millisecond
	g := store.Grant{Reset: end}
	name, counted := o.limit.name, hex.EncodeToString(a.Key[:])
	if a.Spent > 0 {
		if _, err := tx.ExecContext(ctx, quotaCharge, name, counted, e.since, e.until, a.Spent); err != nil {
			return g, err
		}
	}
	if a.Back > 0 {
		if _, err := tx.ExecContext(ctx, quotaReturn, name, counted, e.since, a.Back); err != nil {
			return g, err
		}
	}
	query, first := quotaTakePart, min(a.Want, a.Burst)
	if a.Whole {
		if query = quotaTakeWhole; a.Want > a.Burst {
			first = 0
		}
	}
	var used int64
	if err := tx.QueryRowContext(ctx, query, name, counted, e.since, e.until, first, a.Want, a.Burst).Scan(&g.Tokens, &used); err != nil {
		return g, err
	}
	if g.Tokens < 0 || g.Tokens > a.Want {
		return g, errors.New("the database gave more than it was asked for")
	}
	if g.Left = max(0, a.Burst-used); g.Tokens < a.Want {
		g.Retry = end
	}
	return g, nil
}

// tidy deletes the periods that are over, until ctx ends.
func (q *Quotas) tidy(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(quotaTidy)
	defer tick.Stop()
	for {
		before := time.Now().Add(-quotaKept).UnixMilli()
		err := q.db.Write(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `DELETE FROM limit_quotas WHERE until < $1`, before)
			return err
		})
		if err != nil && ctx.Err() == nil {
			log.Error("quotas of periods that are over could not be deleted", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

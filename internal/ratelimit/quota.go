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
	db     *store.DB
	count  func() int
	only   OnlyOne
	places places
}

// An OnlyOne does work if this node is the one of its fleet that does it for all.
type OnlyOne func(ctx context.Context, work func(context.Context) error) error

// OpenQuotas brings the table up to date. nodes is how many nodes there are, nil
// for one; only has what is over deleted, nil: by this node.
func OpenQuotas(ctx context.Context, db *store.DB, nodes func() int, only OnlyOne) (*Quotas, error) {
	if err := db.Migrate(ctx, Tables()); err != nil {
		return nil, err
	}
	if nodes == nil {
		nodes = func() int { return 1 }
	}
	if only == nil {
		only = func(ctx context.Context, work func(context.Context) error) error { return work(ctx) }
	}
	return &Quotas{db: db, count: nodes, only: only, places: newPlaces()}, nil
}

const (
	quotaCall = time.Second           // one call to the database, for which requests wait as long
	quotaKept = 24 * time.Hour        // how long a period is kept when it is over: a node's clock may be behind
	quotaTidy = time.Hour             // between two looks for such
	quotaLump = 1000                  // of them in one transaction
	quotaRest = 20 * time.Millisecond // between two transactions
)

// A lease of a quota is paid for with a transaction that reaches the disk, so it
// lasts longer, and is kept longer, than one of a rate.
func newQuotaLeases(q *Quotas, log *slog.Logger) *leases {
	f := newLeases(q, pace{
		wait: quotaCall, tick: 250 * time.Millisecond, gap: 5 * time.Millisecond, ahead: 10 * time.Second,
		idle: time.Minute, recall: 5 * time.Second, sweep: 5 * time.Second,
	}, log)
	f.quota = true
	q.places.log = log
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

// take counts the tokens of every ask: of those whose row is there in one
// transaction, then of those who are new. It implements bank.
func (q *Quotas) take(ctx context.Context, orders []order, asks []store.Ask, out []store.Grant) ([]store.Grant, error) {
	out = slices.Grow(out[:0], len(asks))[:len(asks)]
	clear(out)
	known, fresh := make([]int, 0, len(asks)), []int(nil)
	for i := range orders {
		if e := orders[i].lease; e.place != [16]byte{} && e.standing == unknown {
			fresh = append(fresh, i)
		} else {
			known = append(known, i)
		}
	}
	if len(known) > 0 {
		if err := q.spend(ctx, known, orders, asks, out); err != nil {
			return out, err
		}
	}
	if len(fresh) == 0 {
		return out, nil
	}
	err := q.admit(ctx, fresh, orders)
	if err == nil {
		err = q.spend(ctx, fresh, orders, asks, out)
	}
	if err == nil {
		return out, nil
	}
	if gone := q.probe(ctx); gone != nil {
		return out, gone
	}
	for _, i := range fresh { // a crowd of newcomers was in its own way, and in nobody else's
		out[i] = store.Grant{Err: err}
	}
	return out, nil
}

// spend counts the tokens of some asks in one transaction.
func (q *Quotas) spend(ctx context.Context, which []int, orders []order, asks []store.Ask, out []store.Grant) error {
	ctx, cancel := context.WithTimeout(ctx, quotaCall)
	defer cancel()
	now := time.Now().UnixMilli()
	row := func(i int) [16]byte { return orders[i].lease.row() }
	slices.SortStableFunc(which, func(a, b int) int { // two nodes that change the same rows do so in the same order, or they would wait for each other
		x, y := row(a), row(b)
		return bytes.Compare(x[:], y[:])
	})
	return q.db.Write(ctx, func(tx *sql.Tx) error {
		for _, i := range which {
			g, err := takeQuota(ctx, tx, &orders[i], &asks[i], now)
			if err != nil {
				return fmt.Errorf("ratelimit: quota %s: %w", orders[i].limit.name, err)
			}
			out[i] = g
		}
		return nil
	})
}

func takeQuota(ctx context.Context, tx *sql.Tx, o *order, a *store.Ask, now int64) (store.Grant, error) {
	e := o.lease // its period never changes
	end := time.Duration(max(0, e.until-now)) * time.Millisecond
	g := store.Grant{Reset: end}
	row := e.row()
	name, counted := o.limit.name, hex.EncodeToString(row[:])
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

package ratelimit

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/store"
)

// A standing is where a key that anybody can make is counted.
type standing uint8

const (
	unknown standing = iota // nobody has looked yet
	own                     // it has a row
	sharing                 // there is no room: at its place, with all who come from there
)

// row is where e is counted. Only the goroutine that renews may ask.
func (e *lease) row() [16]byte {
	if e.standing == sharing {
		return e.place
	}
	return e.name
}

// places bound the rows that strangers make: an IPv6 /48 has 65,536 networks, and
// an expression as many values as a header can hold. Whoever has a row keeps it.
// The bounds are for each limit and period, and apart for each place, so that who
// uses one up does it to his neighbours and not to everybody.
type places struct {
	each, all int64 // keys with rows, of one place and together
	log       *slog.Logger
	shared    atomic.Uint64 // keys that found no room

	// Of the one goroutine that renews.
	known map[quotaPeriod]*tally
}

const (
	placeKeys = 1 << 16 // an IPv4 /16 has no more addresses
	quotaKeys = 1 << 20
	recount   = 10 * time.Second // what the other nodes let in is heard of so often
)

func newPlaces() places {
	return places{each: placeKeys, all: quotaKeys, log: slog.New(slog.DiscardHandler), known: map[quotaPeriod]*tally{}}
}

// A quotaPeriod is one period of one limit.
type quotaPeriod struct {
	name         string
	since, until int64
}

// A tally is how many keys have rows: at the last look, and since then by this node.
type tally struct {
	rows, made int64
	looked     time.Time
	told       bool
}

// admit finds out where newcomers are counted, and makes rows for those that there
// is room for. A crowd of them is a few statements, on the way of nobody else.
func (q *Quotas) admit(ctx context.Context, which []int, orders []order) error {
	ctx, cancel := context.WithTimeout(ctx, quotaCall) // nobody waits for longer
	defer cancel()
	crowds := map[quotaPeriod][]*lease{}
	for _, i := range which {
		e := orders[i].lease
		p := quotaPeriod{orders[i].limit.name, e.since, e.until}
		crowds[p] = append(crowds[p], e)
	}
	for p, crowd := range crowds {
		slices.SortFunc(crowd, func(a, b *lease) int { return bytes.Compare(a.name[:], b.name[:]) })
		if err := q.admitTo(ctx, p, slices.Compact(crowd)); err != nil {
			return fmt.Errorf("ratelimit: quota %s: %w", p.name, err)
		}
	}
	return nil
}

func (q *Quotas) admitTo(ctx context.Context, p quotaPeriod, crowd []*lease) error {
	has, t, err := q.look(ctx, p, crowd)
	if err != nil {
		return err
	}
	from := map[[16]byte][]*lease{} // newcomers, by where they come from
	var order [][16]byte
	for _, e := range crowd {
		if !has[hex.EncodeToString(e.name[:])] {
			if from[e.place] == nil {
				order = append(order, e.place)
			}
			from[e.place] = append(from[e.place], e)
		}
	}
	slices.SortFunc(order, func(a, b [16]byte) int { return bytes.Compare(a[:], b[:]) }) // as at spend
	var in []*lease
	if room := q.places.all - t.rows - t.made; len(order) > 0 && room > 0 {
		err = q.db.Write(ctx, func(tx *sql.Tx) (err error) {
			in, err = q.enter(ctx, tx, p, order, from, room)
			return err
		})
		if err != nil {
			return err
		}
	}
	t.made += int64(len(in))
	for _, e := range crowd {
		e.standing = own
	}
	late := -len(in)
	for _, newcomers := range from {
		for _, e := range newcomers {
			e.standing = sharing
		}
		late += len(newcomers)
	}
	for _, e := range in {
		e.standing = own
	}
	if q.places.shared.Add(uint64(late)); late > 0 && !t.told {
		t.told = true
		q.places.log.Warn("a quota is asked for by more callers than it counts one by one: newcomers of one network, or of one principal, are counted together",
			slog.String("limit", p.name), slog.Time("until", time.UnixMilli(p.until)))
	}
	return nil
}

// look finds out who of the crowd has a row, and how many have one at all.
func (q *Quotas) look(ctx context.Context, p quotaPeriod, crowd []*lease) (has map[string]bool, t *tally, err error) {
	if t = q.places.known[p]; t == nil {
		now := time.Now().UnixMilli()
		for old := range q.places.known {
			if old.until <= now {
				delete(q.places.known, old)
			}
		}
		t = &tally{}
		q.places.known[p] = t
	}
	count := t.made >= q.places.all/64 || time.Since(t.looked) > recount
	var rows int64
	err = q.db.Read(ctx, func(tx *sql.Tx) error {
		if count {
			err := tx.QueryRowContext(ctx, `SELECT CAST(COALESCE(SUM(callers), 0) AS BIGINT) FROM limit_quotas WHERE name = $1 AND since = $2 AND callers > 0`, p.name, p.since).Scan(&rows)
			if err != nil {
				return err
			}
		}
		args, each := []any{p.name, p.since}, make([]string, len(crowd))
		for i, e := range crowd {
			args = append(args, hex.EncodeToString(e.name[:]))
			each[i] = "$" + strconv.Itoa(len(args))
		}
		found, err := store.Texts(ctx, tx, `SELECT counted FROM limit_quotas WHERE name = $1 AND since = $2 AND counted IN (`+strings.Join(each, ", ")+`)`, args...)
		has = make(map[string]bool, len(found))
		for _, counted := range found {
			has[counted] = true
		}
		return err
	})
	if err == nil && count {
		t.rows, t.made, t.looked = rows, 0, time.Now()
	}
	return has, t, err
}

// enter makes rows for as many newcomers as there is room for, and gives those.
func (q *Quotas) enter(ctx context.Context, tx *sql.Tx, p quotaPeriod, order [][16]byte, from map[[16]byte][]*lease, room int64) (in []*lease, err error) {
	for _, place := range order { // all places before all keys, or two nodes would wait for each other
		want := min(int64(len(from[place])), room)
		if want == 0 {
			break
		}
		var got int64
		err := tx.QueryRowContext(ctx, quotaAdmit, p.name, hex.EncodeToString(place[:]), p.since, p.until, min(want, q.places.each), want, q.places.each).Scan(&got)
		if err != nil {
			return nil, err
		}
		in = append(in, from[place][:max(0, min(got, want))]...)
		room -= got
	}
	if len(in) == 0 {
		return nil, nil
	}
	slices.SortFunc(in, func(a, b *lease) int { return bytes.Compare(a.name[:], b.name[:]) })
	args, each := []any{p.name, p.since, p.until}, make([]string, len(in))
	for i, e := range in {
		args = append(args, hex.EncodeToString(e.name[:]))
		each[i] = "($1, $" + strconv.Itoa(len(args)) + ", $2, $3, 0, 0)"
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO limit_quotas (name, counted, since, until, used, got) VALUES `+ //nolint:gosec // numbers of parameters
		strings.Join(each, ", ")+` ON CONFLICT (name, counted, since) DO NOTHING`, args...)
	return in, err
}

// quotaAdmit counts so many keys more at a place; got are those there was room for.
const quotaAdmit = `INSERT INTO limit_quotas (name, counted, since, until, used, got, callers) VALUES ($1, $2, $3, $4, 0, $5, $5)
	ON CONFLICT (name, counted, since) DO UPDATE SET
	got = CASE WHEN limit_quotas.callers >= $7 THEN 0 WHEN limit_quotas.callers + $6 <= $7 THEN $6 ELSE $7 - limit_quotas.callers END,
	callers = CASE WHEN limit_quotas.callers >= $7 THEN limit_quotas.callers WHEN limit_quotas.callers + $6 <= $7 THEN limit_quotas.callers + $6 ELSE $7 END
	RETURNING got`

// tidy deletes the periods that are over, until ctx ends. Little at once: between
// two lumps others may write.
func (q *Quotas) tidy(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(quotaTidy)
	defer tick.Stop()
	for {
		if err := q.only(ctx, q.deleteOver); err != nil && ctx.Err() == nil {
			log.Error("quotas of periods that are over could not be deleted", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (q *Quotas) deleteOver(ctx context.Context) error {
	before := time.Now().Add(-quotaKept).UnixMilli()
	pause := time.NewTicker(quotaRest)
	defer pause.Stop()
	for {
		var gone int64
		err := q.db.Write(ctx, func(tx *sql.Tx) error {
			done, err := tx.ExecContext(ctx, `DELETE FROM limit_quotas WHERE (name, counted, since) IN
				(SELECT name, counted, since FROM limit_quotas WHERE until < $1 LIMIT $2)`, before, quotaLump)
			if err == nil {
				gone, err = done.RowsAffected()
			}
			return err
		})
		if err != nil || gone < quotaLump {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-pause.C:
		}
	}
}

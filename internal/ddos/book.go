package ddos

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Tables are those of this room, for who moves or looks after the whole database.
func Tables() store.Room { return store.RoomOf("ddos", migrations) }

// Errors of a [Book].
var (
	ErrNoBan  = errors.New("there is no such ban; `gatehouse ddos status` lists them")
	ErrTooBig = errors.New("this network is so large that it must be meant otherwise: at most an IPv4 /8 or an IPv6 /16 is banned; for more use networks in the config")
)

// mostBans bounds what is read from the database.
const mostBans = 100_000

// keepOver is how long operators' bans are kept that are over.
const keepOver = 30 * 24 * time.Hour

// A ChangeLog keeps changes for ever; [*auditlog.Changes] is one. What it can not
// keep must not happen.
type ChangeLog interface {
	Append(ctx context.Context, c auditlog.Change) error
}

// A Book is what is written about callers: the bans of operators and of all nodes,
// and whether there is an attack. Its methods authorise nobody, and write each change
// with its actor to the log before it is made.
type Book struct {
	db  *store.DB
	log ChangeLog
	key []byte
}

// OpenBook brings the tables up to date. The key of challenges is made once, for all
// nodes: who can read the database can pass challenges, and no more than that.
func OpenBook(ctx context.Context, db *store.DB, log ChangeLog) (*Book, error) {
	if db == nil || log == nil {
		return nil, errors.New("ddos: a database and a log of changes are required")
	}
	if err := db.Migrate(ctx, Tables()); err != nil {
		return nil, err
	}
	var fresh [32]byte
	_, _ = rand.Read(fresh[:]) // it never fails
	var text string
	read := func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT secret FROM ddos_state WHERE one = 1`).Scan(&text)
	}
	err := db.Read(ctx, read)
	if err == nil && text == "" {
		err = db.Write(ctx, func(tx *sql.Tx) error {
			if _, err := tx.ExecContext(ctx, `UPDATE ddos_state SET secret = $1 WHERE one = 1 AND secret = ''`, hex.EncodeToString(fresh[:])); err != nil {
				return err
			}
			return read(tx)
		})
	}
	if err != nil {
		return nil, fmt.Errorf("ddos: the key of challenges: %w", err)
	}
	key, err := hex.DecodeString(text)
	if err != nil || len(key) != len(fresh) {
		return nil, errors.New("ddos: the key of challenges in the database is damaged")
	}
	return &Book{db, log, key}, nil
}

// Key is what [GuardConfig] takes.
func (b *Book) Key() []byte { return b.key }

// An Entry is one ban in the book; as JSON what operators see of it.
type Entry struct {
	Prefix netip.Prefix `json:"network"`
	By     string       `json:"by"` // operator, or guard and node
	Reason string       `json:"reason,omitempty"`
	Since  time.Time    `json:"since"`
	Until  time.Time    `json:"until,omitzero"` // zero: for good
	Accept bool         `json:"connections"`    // refused, not only requests without credentials

	Hand      bool      `json:"-"` // an operator's; else a guard found it out
	Lifted    time.Time `json:"-"` // zero: it stands
	Challenge bool      `json:"-"` // not shut out, only asked: what others say of it
}

// Ban shuts a network out on all nodes, within a second: no connection of it is
// accepted, and behind trusted hops no request, whatever credentials it has. Life 0
// is for good.
func (b *Book) Ban(ctx context.Context, actor string, p netip.Prefix, reason string, life time.Duration) error {
	s, err := sourceOf(p)
	if err != nil {
		return fmt.Errorf("ddos: %v is %w", p, err)
	}
	if s.vast() {
		return ErrTooBig
	}
	p = s.prefix()
	now := time.Now()
	until := time.Time{}
	if life > 0 {
		until = now.Add(life)
	}
	return auditlog.Commit(ctx, b.db, b.log, actor, "ddos.ban", func(tx *sql.Tx) (string, map[string]string, error) {
		if err := next(ctx, tx); err != nil {
			return "", nil, err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM ddos_bans WHERE until <> 0 AND until < $1`, now.Add(-keepOver).UnixMilli()); err != nil {
			return "", nil, err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO ddos_bans (prefix, origin, accept, reason, by_whom, since, until, lifted) VALUES ($1, 'operator', 1, $2, $3, $4, $5, 0)
			ON CONFLICT (prefix) DO UPDATE SET origin = 'operator', accept = 1, reason = $2, by_whom = $3, since = $4, until = $5, lifted = 0`,
			p.String(), cut(reason), actor, now.UnixMilli(), store.Millis(until))
		return p.String(), map[string]string{"reason": cut(reason), "until": forever(until)}, err
	})
}

func forever(t time.Time) string {
	if t.IsZero() {
		return "for good"
	}
	return t.UTC().Format(time.RFC3339)
}

func cut(text string) string {
	const most = 200
	if len(text) > most {
		text = text[:most]
	}
	return strings.ToValidUTF8(text, "?")
}

// next numbers a change; its row is locked until the commit.
func next(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, `UPDATE ddos_state SET seq = seq + 1 WHERE one = 1`)
	return err
}

// Unban lifts a ban, whoever gave it, and has all nodes forget what the network did.
func (b *Book) Unban(ctx context.Context, actor string, p netip.Prefix) error {
	s, err := sourceOf(p)
	if err != nil {
		return fmt.Errorf("ddos: %v is %w", p, err)
	}
	p = s.prefix()
	return auditlog.Commit(ctx, b.db, b.log, actor, "ddos.unban", func(tx *sql.Tx) (string, map[string]string, error) {
		if err := next(ctx, tx); err != nil {
			return "", nil, err
		}
		now := time.Now().UnixMilli()
		done, err := tx.ExecContext(ctx, `UPDATE ddos_bans SET lifted = $1 WHERE prefix = $2 AND lifted = 0 AND (until = 0 OR until > $1)`, now, p.String())
		if err != nil {
			return "", nil, err
		}
		if n, err := done.RowsAffected(); err != nil || n == 0 {
			return "", nil, errors.Join(err, fmt.Errorf("%s: %w", p, ErrNoBan))
		}
		return p.String(), nil, nil
	})
}

// keep writes down what a guard has found out. A ban by hand is never changed by it.
func (b *Book) keep(ctx context.Context, node string, found []Banned) error {
	actor := "guard@" + node
	return auditlog.Commit(ctx, b.db, b.log, actor, "ddos.bans", func(tx *sql.Tx) (string, map[string]string, error) {
		if err := next(ctx, tx); err != nil {
			return "", nil, err
		}
		now := time.Now().UnixMilli()
		// Those of operators are not a node's to forget: its clock may be wrong.
		if _, err := tx.ExecContext(ctx, `DELETE FROM ddos_bans WHERE origin = 'guard' AND until <> 0 AND until < $1`, now-time.Hour.Milliseconds()); err != nil {
			return "", nil, err
		}
		var names []string
		for i := range found {
			f := &found[i]
			if _, err := tx.ExecContext(ctx, `INSERT INTO ddos_bans (prefix, origin, accept, reason, by_whom, since, until, lifted) VALUES ($1, 'guard', $2, $3, $4, $5, $6, 0)
				ON CONFLICT (prefix) DO UPDATE SET origin = 'guard', accept = $2, reason = $3, by_whom = $4, since = $5, until = $6, lifted = 0
				WHERE ddos_bans.origin = 'guard' OR ddos_bans.lifted <> 0 OR (ddos_bans.until <> 0 AND ddos_bans.until < $5)`,
				f.Prefix.String(), boolInt(f.Accept), cut(f.Why), actor, now, f.Until.UnixMilli()); err != nil {
				return "", nil, err
			}
			if len(names) < 50 {
				names = append(names, f.Prefix.String())
			}
		}
		object, detail := names[0], map[string]string{"why": cut(found[0].Why), "until": forever(found[0].Until)}
		if len(found) > 1 {
			object, detail = strconv.Itoa(len(found))+" networks", map[string]string{"first": strings.Join(names, " ")}
		}
		return object, detail, nil
	})
}

// Bans lists what stands now, the youngest first; it is never nil.
func (b *Book) Bans(ctx context.Context) (list []Entry, err error) {
	err = b.db.Read(ctx, func(tx *sql.Tx) error {
		list, err = readBans(ctx, tx, selectStanding, time.Now().UnixMilli())
		return err
	})
	return list, err
}

const (
	selectStanding = `SELECT prefix, origin, accept, reason, by_whom, since, until, lifted FROM ddos_bans WHERE lifted = 0 AND (until = 0 OR until > $1)`
	selectLifted   = `SELECT prefix, origin, accept, reason, by_whom, since, until, lifted FROM ddos_bans WHERE lifted > $1`
)

func readBans(ctx context.Context, tx *sql.Tx, query string, arg int64) (list []Entry, err error) {
	rows, err := tx.QueryContext(ctx, query+` ORDER BY since DESC, prefix LIMIT `+strconv.Itoa(mostBans), arg)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	list = []Entry{}
	for rows.Next() {
		var prefix, origin string
		var accept, since, until, lifted int64
		var ban Entry
		if err := rows.Scan(&prefix, &origin, &accept, &ban.Reason, &ban.By, &since, &until, &lifted); err != nil {
			return nil, err
		}
		if ban.Prefix, err = netip.ParsePrefix(prefix); err != nil {
			return nil, fmt.Errorf("ddos: the ban of %q in the database is damaged: %w", prefix, err)
		}
		ban.Hand, ban.Accept = origin == "operator", accept == 1
		ban.Since, ban.Until, ban.Lifted = store.Moment(since), store.Moment(until), store.Moment(lifted)
		list = append(list, ban)
	}
	return list, rows.Err()
}

// An Attack is the switch; off is the zero value.
type Attack struct {
	On    bool      `json:"on"`
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"` // zero: until it is switched off
	By    string    `json:"by,omitempty"`
}

// SwitchAttack challenges every caller without credentials on all nodes, within a
// second, and lowers their thresholds; for a time, or with 0 until it is switched off.
func (b *Book) SwitchAttack(ctx context.Context, actor string, on bool, life time.Duration) error {
	action, detail := "ddos.attack.off", map[string]string(nil)
	now := time.Now()
	var until time.Time
	if on {
		if action = "ddos.attack.on"; life > 0 {
			until = now.Add(life)
		}
		detail = map[string]string{"until": forever(until), "changes": "challenges everyone without credentials; thresholds are a fourth"}
	}
	return auditlog.Commit(ctx, b.db, b.log, actor, action, func(tx *sql.Tx) (string, map[string]string, error) {
		_, err := tx.ExecContext(ctx, `UPDATE ddos_state SET seq = seq + 1, attack = $1, attack_until = $2, attack_since = $3, attack_by = $4 WHERE one = 1`,
			boolInt(on), store.Millis(until), now.UnixMilli(), actor)
		return "gateway", detail, err
	})
}

// Attack tells how the switch stands.
func (b *Book) Attack(ctx context.Context) (a Attack, err error) {
	err = b.db.Read(ctx, func(tx *sql.Tx) error {
		a, _, err = readAttack(ctx, tx)
		return err
	})
	return a, err
}

func readAttack(ctx context.Context, tx *sql.Tx) (a Attack, seq int64, err error) {
	var on, until, since int64
	err = tx.QueryRowContext(ctx, `SELECT seq, attack, attack_until, attack_since, attack_by FROM ddos_state WHERE one = 1`).Scan(&seq, &on, &until, &since, &a.By)
	if on != 1 || until != 0 && time.Now().UnixMilli() >= until {
		return Attack{}, seq, err
	}
	a.On, a.Since, a.Until = true, store.Moment(since), store.Moment(until)
	return a, seq, err
}

package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Room is who owns tables: its name and its migrations.
type Room struct {
	Name       string
	Migrations fs.FS
}

// RoomOf is a room whose migrations are embedded in their folder of that name.
func RoomOf(name string, files fs.FS) Room {
	if sub, err := fs.Sub(files, "migrations"); err == nil {
		files = sub // else Migrate refuses what it finds
	}
	return Room{name, files}
}

var (
	// ErrNotEmpty tells that a database has rows, which are not written over.
	ErrNotEmpty = errors.New("the database is not empty")
	// ErrForeign tells that a database has tables which are not Gatehouse's.
	ErrForeign = errors.New("the database has tables that are not Gatehouse's: give it one of its own")
	// ErrDiffers tells that what was read back is not what was written.
	ErrDiffers = errors.New("what is in the database is not what was written; nothing was changed")
)

// rooms are what was migrated, by room; none where nothing ever was.
func (db *DB) rooms(ctx context.Context, tx *sql.Tx) ([]RoomLog, error) {
	for _, table := range []string{"schema_migrations", "schema_additive"} {
		if n, err := db.hasTable(ctx, tx, table); err != nil || n == 0 {
			return nil, err
		}
	}
	return readLogs(ctx, tx, "")
}

// A plannedRoom is what is known here of a room, and how much of it elsewhere.
type plannedRoom struct {
	name  string
	list  []migration
	have  int       // how many of list
	newer []Applied // what is not known here
}

// planned holds what is known here against what was migrated. It fails with
// [ErrMigrationChanged], and when something is missing from the record.
func planned(rooms []Room, logs []RoomLog) (out []plannedRoom, err error) {
	for _, l := range logs {
		if !slices.ContainsFunc(rooms, func(r Room) bool { return r.Name == l.Room }) {
			out = append(out, plannedRoom{name: l.Room, newer: l.Migrations})
		}
	}
	for _, r := range rooms {
		p := plannedRoom{name: r.Name}
		if p.list, err = readMigrations(r.Migrations); err != nil {
			return nil, fmt.Errorf("%s: %w", r.Name, err)
		}
		if i := slices.IndexFunc(logs, func(l RoomLog) bool { return l.Room == r.Name }); i >= 0 {
			if p.have, p.newer, err = recorded(p.list, logs[i].Migrations); err != nil {
				return nil, fmt.Errorf("%s: %w", r.Name, err)
			}
		}
		out = append(out, p)
	}
	return out, nil
}

// A blueprint is what the tables of migrations are and have in them before anybody
// has changed anything.
type blueprint struct {
	tables []Table
	sums   []TableSum
}

// draw makes it, in a database of its own. Full: of all migrations known here, not of
// those that were applied.
func draw(ctx context.Context, plan []plannedRoom, full bool) (b *blueprint, err error) {
	dir, err := os.MkdirTemp("", "gatehouse-db-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	db, err := Open(ctx, Config{Path: filepath.Join(dir, "empty.db")})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	b = &blueprint{}
	sums := &tally{}
	err = db.Write(ctx, func(tx *sql.Tx) error {
		for _, p := range plan {
			list := p.list[:p.have]
			if full {
				list = p.list
			}
			if err := migrate(ctx, tx, p.name, list); err != nil {
				return err
			}
		}
		if b.tables, err = db.own(ctx, tx); err != nil {
			return err
		}
		return feed(ctx, tx, b.tables, sums)
	})
	b.sums = sums.sums
	return b, err
}

// empty: db has no table but those of the blueprint, and in them what is there. Tables
// that are not known here may be of a newer Gatehouse, where one was at work.
func (b *blueprint) empty(ctx context.Context, db *DB, tx *sql.Tx, rooms []Room) (there []Table, err error) {
	logs, err := db.rooms(ctx, tx)
	if err != nil {
		return nil, err
	}
	plan, err := planned(rooms, logs)
	if err != nil {
		return nil, err
	}
	newer := slices.ContainsFunc(plan, func(p plannedRoom) bool { return len(p.newer) > 0 })
	if there, err = db.own(ctx, tx); err != nil {
		return nil, err
	}
	var foreign, filled []string
	for _, t := range there {
		i := slices.IndexFunc(b.sums, func(s TableSum) bool { return s.Name == t.Name })
		if i < 0 {
			if newer {
				filled = append(filled, t.Name+": of a newer Gatehouse")
			} else {
				foreign = append(foreign, t.Name)
			}
			continue
		}
		var rows int64
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM "`+t.Name+`"`).Scan(&rows); err != nil {
			return nil, err
		}
		same := rows == b.sums[i].Rows
		if same && rows > 0 {
			now := &tally{}
			if err := feed(ctx, tx, []Table{t}, now); err != nil {
				return nil, err
			}
			same = now.sums[0] == b.sums[i]
		}
		if !same {
			filled = append(filled, fmt.Sprintf("%s: %d", t.Name, rows))
		}
	}
	switch {
	case len(foreign) > 0:
		return nil, fmt.Errorf("%s: %w", strings.Join(foreign, ", "), ErrForeign)
	case len(filled) > 0:
		return there, fmt.Errorf("%w (%s)", ErrNotEmpty, strings.Join(filled, ", "))
	}
	return there, nil
}

// A Transfer says how content comes into a database.
type Transfer struct {
	Rooms []Room // all there are
	Tell  Progress
	By    string // version of Gatehouse

	// Keep is the file to which a database that is not empty is backed up before it
	// is replaced, in the same transaction. Empty: such a one is refused.
	Keep string

	// Alone is asked, once nobody else can write, whether a gateway is at work; its
	// error ends it. Nil: nobody asks.
	Alone func(ctx context.Context, tx *sql.Tx) error
}

// Restore puts what a backup holds into db, which must be empty unless t.Keep says
// otherwise: tables by the same migrations, the rows, then what is newer here. All of
// it is one transaction, in which everything is read back before it is committed. A
// gateway must not be at work on db: it would go on with what it knows.
func (db *DB) Restore(ctx context.Context, d *DumpFile, t Transfer) (sums []TableSum, err error) {
	sums, err = db.take(ctx, d.Rooms, t, d.read) // the very bytes that were verified, or it fails
	if err != nil {
		return nil, fmt.Errorf("store: restore: %w", err)
	}
	return sums, nil
}

// CopyFrom puts what another database holds into db, as Restore does.
func (db *DB) CopyFrom(ctx context.Context, from *DB, t Transfer) (sums []TableSum, err error) {
	err = transact(ctx, from.reader, from.reading(), func(tx *sql.Tx) error {
		if err := from.linger(ctx, tx); err != nil {
			return err
		}
		logs, err := from.rooms(ctx, tx)
		if err != nil {
			return err
		}
		if len(logs) == 0 {
			return fmt.Errorf("%s is no database of Gatehouse", from.sqlEngine)
		}
		tables, err := from.own(ctx, tx)
		if err != nil {
			return err
		}
		sums, err = db.take(ctx, logs, t, func(ctx context.Context, to sink) error { return feed(ctx, tx, tables, to) })
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("store: copy: %w", err)
	}
	return sums, nil
}

// take loads what content gives, and says what it was.
func (db *DB) take(ctx context.Context, logs []RoomLog, t Transfer, content func(context.Context, sink) error) ([]TableSum, error) {
	plan, err := planned(t.Rooms, logs)
	if err != nil {
		return nil, err
	}
	for _, p := range plan {
		if len(p.newer) > 0 {
			return nil, fmt.Errorf("%s: %s: %w", p.name, p.newer[0].Name, ErrNewer)
		}
	}
	clean, err := draw(ctx, plan, true)
	if err != nil {
		return nil, err
	}
	ctx, beat, stop := patient(ctx, longLoad)
	defer stop()
	var sums []TableSum
	err = db.write(ctx, db.migrating(), func(tx *sql.Tx) error {
		// First of all nobody else writes: what came between the look whether it is
		// empty and the end of its tables would be lost with them.
		if err := db.lockMigrations(ctx, tx); err != nil {
			return err
		}
		if err := clean.lock(ctx, db, tx); err != nil {
			return err
		}
		if t.Alone != nil {
			if err := t.Alone(ctx, tx); err != nil {
				return err
			}
		}
		there, err := clean.empty(ctx, db, tx, t.Rooms)
		if errors.Is(err, ErrNotEmpty) && t.Keep != "" {
			err = writeDump(t.Keep, func(w io.Writer) error {
				_, err := db.dump(ctx, tx, w, t.By, &tally{beat: beat})
				return err
			})
		}
		if err != nil {
			return err
		}
		if err := db.clear(ctx, tx, there); err != nil {
			return err
		}
		if sums, err = db.fill(ctx, tx, plan, &tally{tell: t.Tell, beat: beat}, content); err != nil {
			return err
		}
		for _, p := range plan {
			if err := migrate(ctx, tx, p.name, p.list); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
		}
		return nil
	})
	return sums, err
}

// lock has nobody else write to the tables of b that are there until the end of tx:
// who begins to waits for what the database has in it then.
func (b *blueprint) lock(ctx context.Context, db *DB, tx *sql.Tx) error {
	there, err := db.own(ctx, tx)
	if err != nil {
		return err
	}
	var names []string
	for _, t := range there {
		if slices.ContainsFunc(b.sums, func(s TableSum) bool { return s.Name == t.Name }) {
			names = append(names, `"`+t.Name+`"`)
		}
	}
	return db.lockTables(ctx, tx, names)
}

// clear takes the tables away, and the record of their migrations.
func (db *DB) clear(ctx context.Context, tx *sql.Tx, tables []Table) error {
	for _, t := range slices.Backward(tables) {
		if _, err := tx.ExecContext(ctx, `DROP TABLE "`+t.Name+`"`); err != nil {
			return err
		}
	}
	for _, q := range []string{`DELETE FROM schema_migrations`, `DELETE FROM schema_additive`} {
		if _, err := tx.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

// fill makes the tables anew, as they were where the content is from, puts it in,
// and reads it back.
func (db *DB) fill(ctx context.Context, tx *sql.Tx, plan []plannedRoom, through *tally, content func(context.Context, sink) error) ([]TableSum, error) {
	for _, p := range plan {
		if err := migrate(ctx, tx, p.name, p.list[:p.have]); err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	tables, err := db.own(ctx, tx)
	if err != nil {
		return nil, err
	}
	for _, t := range slices.Backward(tables) { // rows that migrations made
		if _, err := tx.ExecContext(ctx, `DELETE FROM "`+t.Name+`"`); err != nil { //nolint:gosec // names were held against plainName
			return nil, err
		}
	}
	l := &loader{ctx: ctx, tx: tx, tables: tables}
	through.next = l
	if err := content(ctx, through); err != nil {
		return nil, err
	}
	if len(l.fed) != len(tables) {
		return nil, fmt.Errorf("%w: it has %d tables, after the same migrations there are %d", ErrDump, len(l.fed), len(tables))
	}
	back := &tally{beat: through.beat}
	if err := feed(ctx, tx, tables, back); err != nil {
		return nil, err
	}
	return back.sums, same(through.sums, back.sums)
}

// same compares what two databases hold, in whatever order.
func same(want, have []TableSum) error {
	for _, w := range want {
		i := slices.IndexFunc(have, func(s TableSum) bool { return s.Name == w.Name })
		if i < 0 {
			return fmt.Errorf("table %s: %w", w.Name, ErrDiffers)
		}
		if have[i] != w {
			return fmt.Errorf("table %s has %d rows (%.16s), not %d (%.16s): %w", w.Name, have[i].Rows, have[i].Digest, w.Rows, w.Digest, ErrDiffers)
		}
	}
	if len(want) != len(have) {
		return fmt.Errorf("%d tables, not %d: %w", len(have), len(want), ErrDiffers)
	}
	return nil
}

package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Health is what [DB.Check] found.
type Health struct {
	Place   string       `json:"place"`
	Engine  string       `json:"engine"` // with its version
	Rooms   []RoomHealth `json:"rooms"`
	Tables  []TableSum   `json:"tables"`
	Trouble []string     `json:"trouble"` // what is wrong; empty: nothing
}

// RoomHealth is how far a room's tables are.
type RoomHealth struct {
	Room    string      `json:"room"`
	Applied int         `json:"applied"` // of the migrations known here
	New     []Migration `json:"new"`     // known here, and not applied
	Newer   []Migration `json:"newer"`   // applied, and not known here
}

// A Migration is one by its name. Beside an additive one the Gatehouse before it
// goes on working.
type Migration struct {
	Name     string `json:"name"`
	Additive bool   `json:"additive"`
}

// Check looks at all of db and changes nothing: which migrations of rooms it has, the
// engine's own checks, whether the tables are those the migrations make, and every row.
func (db *DB) Check(ctx context.Context, rooms []Room, tell Progress) (*Health, error) {
	ctx, beat, stop := patient(ctx, longLoad)
	defer stop()
	h := &Health{Place: db.String(), Rooms: []RoomHealth{}, Tables: []TableSum{}, Trouble: []string{}}
	err := transact(ctx, db.reader, db.reading(), func(tx *sql.Tx) (err error) {
		if h.Engine, err = db.about(ctx, tx); err != nil {
			return err
		}
		said, err := db.examine(ctx, tx)
		if h.Trouble = append(h.Trouble, said...); err != nil {
			return err
		}
		return db.check(ctx, tx, rooms, h, &tally{tell: tell, beat: beat})
	})
	if damaged(err) {
		h.Trouble, err = append(h.Trouble, err.Error()), nil
	}
	if err != nil {
		return nil, fmt.Errorf("store: check %s: %w", db.sqlEngine, err)
	}
	return h, nil
}

func (db *DB) check(ctx context.Context, tx *sql.Tx, rooms []Room, h *Health, rows *tally) error {
	wrong := func(format string, args ...any) { h.Trouble = append(h.Trouble, fmt.Sprintf(format, args...)) }
	logs, err := db.rooms(ctx, tx)
	if err != nil {
		return err
	}
	plan, err := planned(rooms, logs)
	if err != nil {
		wrong("%v", err)
		return nil
	}
	newer := false
	for _, p := range plan {
		r := roomHealth(p)
		h.Rooms = append(h.Rooms, r)
		newer = newer || len(r.Newer) > 0
		if i := slices.IndexFunc(r.Newer, func(m Migration) bool { return !m.Additive }); i >= 0 {
			wrong("%s: %s: %v", r.Room, r.Newer[i].Name, ErrNewer)
		}
	}
	there, err := db.own(ctx, tx)
	if err != nil {
		wrong("%v", err)
		return nil
	}
	drawn, err := draw(ctx, plan, false)
	if err != nil {
		return err
	}
	for _, t := range drawn.tables {
		i := slices.IndexFunc(there, func(o Table) bool { return o.Name == t.Name })
		if i < 0 {
			wrong("table %s is missing", t.Name)
			continue
		}
		for _, c := range t.Columns {
			if !slices.Contains(there[i].Columns, c) {
				wrong("table %s has no column %s (%s)", t.Name, c.Name, c.Type)
			}
		}
		if n := len(there[i].Columns) - len(t.Columns); n > 0 && !newer {
			wrong("table %s has columns that are not Gatehouse's: %d", t.Name, n)
		}
	}
	for _, t := range there {
		known := slices.ContainsFunc(drawn.tables, func(o Table) bool { return o.Name == t.Name })
		if !known && !newer {
			wrong("table %s: %v", t.Name, ErrForeign)
		}
		if err := feed(ctx, tx, []Table{t}, rows); err != nil {
			if ctx.Err() != nil {
				return err
			}
			wrong("%v", err)
			if _, again := tx.ExecContext(ctx, `SELECT 1`); again != nil { // after an error PostgreSQL answers nothing more
				break
			}
		}
	}
	for _, s := range rows.sums {
		if s.Digest != "" {
			h.Tables = append(h.Tables, s)
		}
	}
	return nil
}

func roomHealth(p plannedRoom) RoomHealth {
	r := RoomHealth{Room: p.name, Applied: p.have, New: []Migration{}, Newer: []Migration{}}
	for _, m := range p.list[p.have:] {
		r.New = append(r.New, Migration{m.name, m.additive})
	}
	for _, m := range p.newer {
		r.Newer = append(r.Newer, Migration{m.Name, m.Additive})
	}
	return r
}

// Rooms says how far the tables of rooms are. It fails with [ErrMigrationChanged].
func (db *DB) Rooms(ctx context.Context, rooms []Room) (all []RoomHealth, err error) {
	err = db.Read(ctx, func(tx *sql.Tx) error {
		logs, err := db.rooms(ctx, tx)
		if err != nil {
			return err
		}
		plan, err := planned(rooms, logs)
		if err != nil {
			return err
		}
		all = nil
		for _, p := range plan {
			all = append(all, roomHealth(p))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("store: %s: %w", db.sqlEngine, err)
	}
	return all, nil
}

const faults = 20 // of a kind that are listed

func (f *sqliteFile) about(ctx context.Context, tx *sql.Tx) (version string, err error) {
	err = tx.QueryRowContext(ctx, `SELECT sqlite_version()`).Scan(&version)
	return "SQLite " + version, err
}

// damaged: SQLite has met what can not be.
func damaged(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && (e.Code()&0xff == sqlite3.SQLITE_CORRUPT || e.Code()&0xff == sqlite3.SQLITE_NOTADB)
}

// examine is what costs a look at every page.
func (f *sqliteFile) examine(ctx context.Context, tx *sql.Tx) (trouble []string, err error) {
	said, err := Texts(ctx, tx, fmt.Sprintf(`PRAGMA integrity_check(%d)`, faults))
	if err != nil {
		return said, err
	}
	for _, s := range said {
		if s != "ok" {
			trouble = append(trouble, "integrity_check: "+s)
		}
	}
	said, err = Texts(ctx, tx, fmt.Sprintf(`SELECT 'a row of ' || "table" || ' refers to one that is not in ' || parent FROM pragma_foreign_key_check LIMIT %d`, faults))
	return append(trouble, said...), err
}

func (p *postgres) about(ctx context.Context, tx *sql.Tx) (version string, err error) {
	err = tx.QueryRowContext(ctx, `SELECT current_setting('server_version')`).Scan(&version)
	return "PostgreSQL " + version, err
}

// examine looks at what can be off without an error: constraints and indexes that
// were never finished, and settings with which commits do not survive a crash.
func (p *postgres) examine(ctx context.Context, tx *sql.Tx) (trouble []string, err error) {
	for query, text := range map[string]string{
		`SELECT conname::text FROM pg_constraint WHERE NOT convalidated AND connamespace = current_schema()::regnamespace`:                                                             "constraint %s was never validated",
		`SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE NOT (i.indisvalid AND i.indisready) AND c.relnamespace = current_schema()::regnamespace`: "index %s is not valid: REINDEX it",
		`SELECT name FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'`:                                                                                 "the server's %s is off: a crash loses what was committed",
	} {
		said, err := Texts(ctx, tx, query)
		if err != nil {
			return nil, err
		}
		for _, s := range said {
			trouble = append(trouble, fmt.Sprintf(text, s))
		}
	}
	slices.Sort(trouble)
	return trouble, nil
}

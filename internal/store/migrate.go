package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const migrationsTable = `CREATE TABLE IF NOT EXISTS schema_migrations (
	room    TEXT   NOT NULL,
	version BIGINT NOT NULL,
	name    TEXT   NOT NULL,
	sha256  TEXT   NOT NULL,
	applied BIGINT NOT NULL,
	PRIMARY KEY (room, version)
)`

// Which of them leave alone what an older Gatehouse works with.
const additiveTable = `CREATE TABLE IF NOT EXISTS schema_additive (
	room    TEXT   NOT NULL,
	version BIGINT NOT NULL,
	PRIMARY KEY (room, version)
)`

var (
	migrationName = regexp.MustCompile(`^([0-9]{4})_[a-z0-9_]+\.sql$`)
	roomName      = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

	// The first line of a migration that is additive, and what may stand in one.
	additiveLine = regexp.MustCompile(`^-- additive: [^\n]+\n`)
	additiveText = regexp.MustCompile(`(?i)^(CREATE TABLE|CREATE INDEX|INSERT INTO|ALTER TABLE \w+ ADD COLUMN \w+ (TEXT|BIGINT) NOT NULL DEFAULT)\s`)
	comment      = regexp.MustCompile(`--[^\n]*`)

	// ErrNewer tells that a newer Gatehouse has written this database. Its
	// tables may mean something else now, so an older one does not touch it.
	ErrNewer = errors.New("the database was written by a newer Gatehouse; use that version, or restore a backup made before the upgrade")
	// ErrMigrationChanged tells that a migration which was already applied has
	// other text now. Migrations are never edited: add a new one.
	ErrMigrationChanged = errors.New("an applied migration was edited; restore its text and add a new migration instead")
)

// migrationWait bounds a room's migrations: new indexes of large tables take their time.
const migrationWait = 10 * time.Minute

type migration struct {
	name, text, sum string
	additive        bool
}

// prepareMigrations makes the tables about migrations. A process that may not make
// tables works in a database where another one has.
func (db *DB) prepareMigrations(ctx context.Context) error {
	have := 0
	err := db.Read(ctx, func(tx *sql.Tx) error {
		have = 0
		for _, name := range []string{"schema_migrations", "schema_additive"} {
			n, err := db.hasTable(ctx, tx, name)
			if err != nil {
				return err
			}
			have += n
		}
		return nil
	})
	if err != nil || have == 2 {
		return err
	}
	return db.write(ctx, db.migrating(), func(tx *sql.Tx) error {
		if err := db.lockMigrations(ctx, tx); err != nil {
			return err
		}
		for _, table := range []string{migrationsTable, additiveTable} {
			if _, err := tx.ExecContext(ctx, table); err != nil {
				return err
			}
		}
		return nil
	})
}

// Migrate brings room's tables up to date. The .sql files at the root of its
// migrations are named 0001_what.sql, 0002_what.sql, … without gaps; those not
// yet applied run in that order, all in one transaction with their record, so
// that a half-migrated room can not exist. It fails with [ErrNewer] and
// [ErrMigrationChanged], and changes nothing then.
//
// A migration whose first line is "-- additive: why" is one beside which the
// Gatehouse before it goes on working: new tables, new columns with a default, new
// indexes, and nothing else may stand in it. Migrations that are not known here are
// no reason for [ErrNewer] when all of them are additive.
func (db *DB) Migrate(ctx context.Context, room Room) error {
	if !roomName.MatchString(room.Name) {
		return fmt.Errorf("store: migrate: %q is no room name (lower-case letters, digits, _)", room.Name)
	}
	list, err := readMigrations(room.Migrations)
	if err != nil {
		return fmt.Errorf("store: migrate %s: %w", room.Name, err)
	}
	// Nearly always there is nothing to do, and then no lock is needed.
	var have int
	err = db.Read(ctx, func(tx *sql.Tx) (err error) {
		have, err = applied(ctx, tx, room.Name, list)
		return err
	})
	if err == nil && have < len(list) {
		ctx, cancel := bounded(ctx, migrationWait)
		defer cancel()
		err = db.write(ctx, db.migrating(), func(tx *sql.Tx) error {
			if err := db.lockMigrations(ctx, tx); err != nil {
				return err
			}
			return migrate(ctx, tx, room.Name, list)
		})
	}
	if err != nil {
		return fmt.Errorf("store: migrate %s: %w", room.Name, err)
	}
	return nil
}

func readMigrations(fsys fs.FS) ([]migration, error) {
	entries, err := fs.ReadDir(fsys, ".") // sorted by name
	if err != nil {
		return nil, err
	}
	var list []migration
	for _, e := range entries {
		m := migrationName.FindStringSubmatch(e.Name())
		if m == nil {
			return nil, fmt.Errorf("%s is not named like 0001_what.sql", e.Name())
		}
		if n, err := strconv.Atoi(m[1]); err != nil || n != len(list)+1 {
			return nil, fmt.Errorf("%s: number %04d was expected", e.Name(), len(list)+1)
		}
		text, err := fs.ReadFile(fsys, e.Name())
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(text)
		additive := additiveLine.Match(text)
		if additive {
			for part := range strings.SplitSeq(comment.ReplaceAllString(string(text), ""), ";") {
				if part = strings.TrimSpace(part); part != "" && !additiveText.MatchString(part) {
					return nil, fmt.Errorf("%s says it is additive, but an older Gatehouse may not work beside %.60q", e.Name(), part)
				}
			}
		}
		list = append(list, migration{e.Name(), string(text), hex.EncodeToString(sum[:]), additive})
	}
	return list, nil
}

// applied returns how many of list are in the database, after checking that they
// are the same and that what is there besides can be worked beside.
func applied(ctx context.Context, tx *sql.Tx, room string, list []migration) (int, error) {
	logs, err := readLogs(ctx, tx, room)
	if err != nil || len(logs) == 0 {
		return 0, err
	}
	n, newer, err := recorded(list, logs[0].Migrations)
	for _, m := range newer {
		if err == nil && !m.Additive {
			err = fmt.Errorf("migration %04d is unknown here, the last one known is %04d: %w", m.Version, len(list), ErrNewer)
		}
	}
	return n, err
}

// recorded holds list against what is on record of its room: how many are, and what
// is not known here. It fails with [ErrMigrationChanged], and when one is missing.
func recorded(list []migration, record []Applied) (n int, newer []Applied, err error) {
	for _, m := range record {
		switch {
		case m.Version > len(list):
			newer = append(newer, m)
		case m.Version != n+1:
			return 0, nil, fmt.Errorf("migration %04d is missing from the record", n+1)
		case m.SHA256 != list[n].sum:
			return 0, nil, fmt.Errorf("%s: %w", m.Name, ErrMigrationChanged)
		default:
			n++
		}
	}
	return n, newer, nil
}

// readLogs reads what was migrated of a room, of all if it is "".
func readLogs(ctx context.Context, tx *sql.Tx, room string) (all []RoomLog, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT m.room, m.version, m.name, m.sha256, m.applied,
		(SELECT COUNT(*) FROM schema_additive a WHERE a.room = m.room AND a.version = m.version) FROM schema_migrations m
		WHERE $1 = '' OR m.room = $1 ORDER BY m.room, m.version`, room)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var whose string
		var m Applied
		var additive int64
		if err := rows.Scan(&whose, &m.Version, &m.Name, &m.SHA256, &m.Applied, &additive); err != nil {
			return nil, err
		}
		m.Additive = additive > 0
		if len(all) == 0 || all[len(all)-1].Room != whose {
			all = append(all, RoomLog{Room: whose})
		}
		at := &all[len(all)-1]
		at.Migrations = append(at.Migrations, m)
	}
	return all, rows.Err()
}

func migrate(ctx context.Context, tx *sql.Tx, room string, list []migration) error {
	have, err := applied(ctx, tx, room, list) // again, now under the lock: another process may have been faster
	if err != nil {
		return err
	}
	for i, m := range list[have:] {
		if _, err := tx.ExecContext(ctx, m.text); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO schema_migrations (room, version, name, sha256, applied) VALUES ($1, $2, $3, $4, $5)`,
			room, have+i+1, m.name, m.sum, time.Now().UnixMilli())
		if err == nil && m.additive {
			_, err = tx.ExecContext(ctx, `INSERT INTO schema_additive (room, version) VALUES ($1, $2)`, room, have+i+1)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return nil
}

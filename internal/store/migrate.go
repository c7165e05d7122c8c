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

var (
	migrationName = regexp.MustCompile(`^([0-9]{4})_[a-z0-9_]+\.sql$`)
	roomName      = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

	// ErrNewer tells that a newer Gatehouse has written this database. Its
	// tables may mean something else now, so an older one does not touch it.
	ErrNewer = errors.New("the database was written by a newer Gatehouse; use that version, or restore a backup made before the upgrade")
	// ErrMigrationChanged tells that a migration which was already applied has
	// other text now. Migrations are never edited: add a new one.
	ErrMigrationChanged = errors.New("an applied migration was edited; restore its text and add a new migration instead")
)

type migration struct {
	name, text, sum string
}

// Migrate brings room's tables up to date. The .sql files at the root of
// migrations are named 0001_what.sql, 0002_what.sql, … without gaps; those not
// yet applied run in that order, all in one transaction with their record, so
// that a half-migrated room can not exist. It fails with [ErrNewer] and
// [ErrMigrationChanged], and changes nothing then.
func (db *DB) Migrate(ctx context.Context, room string, migrations fs.FS) error {
	if !roomName.MatchString(room) {
		return fmt.Errorf("store: migrate: %q is no room name (lower-case letters, digits, _)", room)
	}
	list, err := readMigrations(migrations)
	if err != nil {
		return fmt.Errorf("store: migrate %s: %w", room, err)
	}
	// Nearly always there is nothing to do, and then no lock is needed.
	var have int
	err = db.Read(ctx, func(tx *sql.Tx) (err error) {
		have, err = applied(ctx, tx, room, list)
		return err
	})
	if err == nil && have < len(list) {
		err = db.Write(ctx, func(tx *sql.Tx) error { return migrate(ctx, tx, room, list) })
	}
	if err != nil {
		return fmt.Errorf("store: migrate %s: %w", room, err)
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
		list = append(list, migration{e.Name(), string(text), hex.EncodeToString(sum[:])})
	}
	return list, nil
}

// applied returns how many of list are in the database, after checking that they are the same.
func applied(ctx context.Context, tx *sql.Tx, room string, list []migration) (int, error) {
	rows, err := tx.QueryContext(ctx, `SELECT version, sha256 FROM schema_migrations WHERE room = $1 ORDER BY version`, room)
	if err != nil {
		return 0, err
	}
	defer func() { _ = rows.Close() }()
	n := 0
	for rows.Next() {
		var version int
		var sum string
		if err := rows.Scan(&version, &sum); err != nil {
			return 0, err
		}
		if version > len(list) {
			return 0, fmt.Errorf("migration %04d is unknown here, the last one known is %04d: %w", version, len(list), ErrNewer)
		}
		if n++; version != n {
			return 0, fmt.Errorf("migration %04d is missing from the record", n)
		}
		if m := list[n-1]; m.sum != sum {
			return 0, fmt.Errorf("%s: %w", m.name, ErrMigrationChanged)
		}
	}
	return n, rows.Err()
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
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return nil
}

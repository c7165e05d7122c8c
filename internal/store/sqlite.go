package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// sqliteFile is the database in a file.
type sqliteFile struct {
	path string
	file os.FileInfo // which inode was opened
}

func (f *sqliteFile) String() string { return f.path }

// here: at the path is still the file that was opened.
func (f *sqliteFile) here() error {
	if now, err := os.Stat(f.path); err != nil || !os.SameFile(now, f.file) {
		return ErrReplaced
	}
	return nil
}

// seen is a number that other connections' commits change; it means something to
// one connection only.
func (f *sqliteFile) seen(ctx context.Context, c *sql.Conn) (string, error) {
	var v uint32
	err := c.QueryRowContext(ctx, `PRAGMA data_version`).Scan(&v)
	return strconv.FormatUint(uint64(v), 10), err
}

func (f *sqliteFile) again(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && (e.Code()&0xff == sqlite3.SQLITE_BUSY || e.Code()&0xff == sqlite3.SQLITE_LOCKED)
}

func (f *sqliteFile) reading() *sql.TxOptions   { return &sql.TxOptions{ReadOnly: true} }
func (f *sqliteFile) writing() *sql.TxOptions   { return nil }
func (f *sqliteFile) migrating() *sql.TxOptions { return nil }

// lockMigrations has nothing to do: the transaction holds the lock.
func (f *sqliteFile) lockMigrations(context.Context, *sql.Tx) error { return nil }

func (f *sqliteFile) linger(context.Context, *sql.Tx) error { return nil }

// lockTables likewise.
func (f *sqliteFile) lockTables(context.Context, *sql.Tx, []string) error { return nil }

func (f *sqliteFile) hasTable(ctx context.Context, tx *sql.Tx, name string) (n int, err error) {
	err = tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = $1`, name).Scan(&n)
	return n, err
}

// prepare makes the folder and the file, with modes that keep strangers out
// before the first byte is written. SQLite gives -wal and -shm the mode of the file.
func prepare(path string) (string, os.FileInfo, error) {
	if path == "" {
		return "", nil, errors.New("no database path: set `data` in the config to a folder")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", nil, err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, err
	}
	d, err := os.Stat(dir)
	if err != nil {
		return "", nil, err
	}
	if d.Mode().Perm()&0o002 != 0 && d.Mode()&fs.ModeSticky == 0 {
		return "", nil, fmt.Errorf("%s may be written by every user, who could put another database there: chmod o-w it", dir)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return "", nil, err
	}
	if !info.Mode().IsRegular() {
		return "", nil, fmt.Errorf("%s is not a regular file", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := f.Chmod(0o600); err != nil {
			return "", nil, fmt.Errorf("%s can be read by others and can not be changed to 0600: %w", path, err)
		}
	}
	if info.Size() == 0 { // the name of a new file must survive a power loss too
		if err := syncDir(dir); err != nil {
			return "", nil, err
		}
	}
	return path, info, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// dsn carries every setting, so that no connection of the pool can be without
// them: a pragma run once after Open would hold for one connection only.
func dsn(path string, readOnly bool) string {
	q := url.Values{
		"_busy_timeout": {"2000"},
		"_journal_mode": {"WAL"},
		"_synchronous":  {"FULL"}, // NORMAL would forget the last commits at a power loss: a revoked key would live again
		"_foreign_keys": {"on"},
		"_defensive":    {"1"},
		"_dqs":          {"0"}, // a misspelt "column" is an error, not a string
		"_error_rc":     {"1"},
		"_txlock":       {"immediate"},
		"_pragma":       {"trusted_schema(off)"},
	}
	if readOnly {
		q.Set("_query_only", "1")
	}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String()
}

// pool makes connections with these settings when they are needed.
func pool(dsn string, fault func(string) error) (*sql.DB, error) {
	c, err := sqlite.NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(&connector{c, fault}), nil
}

package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"
)

// Config says where the database is.
type Config struct {
	Path string // the SQLite file; it and its folder are made when missing

	// Fault is for tests of what becomes of others when the database fails: it is
	// asked before each statement with its text and at the Point constants. Its
	// error is what fails. Nil in every other use.
	Fault func(point string) error
}

// writeWait bounds how long a Write waits for other writers when its context
// has no deadline: a process that hangs inside a transaction makes others fail,
// it does not make them hang.
const writeWait = 15 * time.Second

// ErrReplaced tells that the file at the configured path is no longer the one
// that was opened (deleted, or a backup put in its place). What this process
// reads may be outdated, so who caches must stop answering.
var ErrReplaced = errors.New("the database file was replaced or removed while it was open; restart Gatehouse to use the new one")

// A DB is an open database, safe for concurrent use. Its zero value is useless; see [Open].
type DB struct {
	path   string
	file   os.FileInfo // which inode was opened
	writer *sql.DB     // one connection: writers queue here instead of fighting over the file lock
	reader *sql.DB     // query_only connections

	mu    sync.Mutex // guards watch, epoch
	watch *sql.Conn  // data_version is relative to one connection, so Version needs one of its own
	epoch uint64
}

// Open opens or creates the database. It fails when the folder could be written
// by every user of the machine, and when the file is not a database.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	path, file, err := prepare(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	db := &DB{path: path, file: file}
	if db.writer, err = pool(dsn(path, false), cfg.Fault); err != nil {
		return nil, fmt.Errorf("store: open %s: %w", path, err)
	}
	db.writer.SetMaxOpenConns(1)
	if db.reader, err = pool(dsn(path, true), cfg.Fault); err != nil {
		return nil, errors.Join(fmt.Errorf("store: open %s: %w", path, err), db.Close())
	}
	readers := max(4, 2*runtime.GOMAXPROCS(0)) + 1 // one of them is held by Version
	db.reader.SetMaxOpenConns(readers)
	db.reader.SetMaxIdleConns(readers)

	// The writer goes first: it is the one that may turn a new file to WAL.
	err = db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, migrationsTable)
		return err
	})
	if err == nil {
		_, err = db.Version(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("store: open %s: %w", path, err), db.Close())
	}
	return db, nil
}

// Look opens a database that is there, for reading only: what [DB.Write] is asked
// for fails, and nothing is made, migrated or waited for. It works beside a process
// that writes.
func Look(ctx context.Context, cfg Config) (*DB, error) {
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	file, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	db := &DB{path: path, file: file}
	if db.reader, err = pool(dsn(path, true)+"&mode=ro", nil); err == nil {
		err = db.reader.PingContext(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("store: look at %s: %w", path, err), db.Close())
	}
	return db, nil
}

var errLook = errors.New("store: the database is open for reading only")

// Close closes every connection. Transactions still open fail.
func (db *DB) Close() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	var errs []error
	if db.watch != nil {
		errs = append(errs, db.watch.Close())
		db.watch = nil
	}
	if db.reader != nil {
		errs = append(errs, db.reader.Close())
	}
	if db.writer != nil {
		errs = append(errs, db.writer.Close()) // last: it checkpoints the WAL
	}
	return errors.Join(errs...)
}

// Read runs f in a read-only transaction: everything it reads is from one
// moment. Writing in it fails.
func (db *DB) Read(ctx context.Context, f func(*sql.Tx) error) error {
	return transact(ctx, db.reader, &sql.TxOptions{ReadOnly: true}, f)
}

// Write runs f in a transaction that holds the write lock from its first
// statement, so that what f reads is still true when it commits. When Write
// returns nil the change is on disk. When f returns an error or panics nothing
// is changed. Another process holding the lock is waited for, until ctx ends and
// at most 15 s; f may therefore run more than once and must have no effect
// outside its transaction. Write must not be called inside f.
func (db *DB) Write(ctx context.Context, f func(*sql.Tx) error) error {
	if db.writer == nil {
		return errLook
	}
	start := time.Now()
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := transact(ctx, db.writer, nil, f)
		if err == nil || !isBusy(err) || time.Since(start) > writeWait {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(pause):
		}
	}
}

func transact(ctx context.Context, pool *sql.DB, opts *sql.TxOptions, f func(*sql.Tx) error) error {
	tx, err := pool.BeginTx(ctx, opts)
	if err != nil {
		return fmt.Errorf("store: begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after a commit this does nothing; after a panic in f it frees the lock
	if err := f(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("store: commit: %w", err)
	}
	return nil
}

// Version returns a number that differs whenever something was committed since
// the last call, by this process or another one. It costs some microseconds and
// reads no table, so it can be polled a few times a second. Only equality means
// something. It fails with [ErrReplaced] when the file is no longer the one
// opened.
func (db *DB) Version(ctx context.Context) (uint64, error) {
	now, err := os.Stat(db.path)
	if err != nil || !os.SameFile(now, db.file) {
		return 0, fmt.Errorf("store: %s: %w", db.path, ErrReplaced)
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.watch == nil {
		if db.watch, err = db.reader.Conn(ctx); err != nil {
			return 0, fmt.Errorf("store: version: %w", err)
		}
		db.epoch++ // another connection counts differently: what it says must not look like "unchanged"
	}
	var v uint32
	if err := db.watch.QueryRowContext(ctx, versionQuery).Scan(&v); err != nil {
		_ = db.watch.Close()
		db.watch = nil
		return 0, fmt.Errorf("store: version: %w", err)
	}
	return db.epoch<<32 | uint64(v), nil
}

// Millis is t as tables keep it: Unix milliseconds, 0 for never.
func Millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// Moment reads what [Millis] wrote.
func Moment(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// Texts reads the one column of a query.
func Texts(ctx context.Context, tx *sql.Tx, query string, args ...any) (list []string, err error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		list = append(list, text)
	}
	return list, rows.Err()
}

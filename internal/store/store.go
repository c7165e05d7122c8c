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
	"sync/atomic"
	"time"

	"github.com/gatehouse-api/gatehouse"
)

// Config says where the database is.
type Config struct {
	Path string // the SQLite file; it and its folder are made when missing

	// URL of a PostgreSQL database, which is used in place of a file:
	// postgres://user:password@host:5432/name?sslmode=verify-full. Beyond this
	// machine TLS must prove the server's name.
	URL gatehouse.Secret

	// Fault is for tests of what becomes of others when the database fails: it is
	// asked before each statement with its text and at the Point constants. Its
	// error is what fails. Nil in every other use.
	Fault func(point string) error
}

// writeWait bounds how long a Write waits for other writers when its context
// has no deadline: a process that hangs inside a transaction makes others fail,
// it does not make them hang.
const writeWait = 15 * time.Second

// versionWait bounds how long [DB.Version] takes when its context has no deadline.
const versionWait = 3 * time.Second

var (
	// ErrReplaced tells that the database at the configured place is no longer the
	// one that was opened (deleted, or a backup put in its place). What this process
	// reads may be outdated, so who caches must stop answering.
	ErrReplaced = errors.New("the database was replaced or removed while it was open; restart Gatehouse to use the new one")
	// ErrText tells that a parameter of a statement can not be kept as text: it has
	// a NUL byte, or is no UTF-8. A SELECT takes it and finds nothing equal to it.
	ErrText = errors.New("text with a NUL byte or of bytes that are not UTF-8 can not be kept")

	// ErrUnknown tells that the connection was lost while a change was committed:
	// it was made, or it was not.
	ErrUnknown = errors.New("whether the change was made is not known")

	errLook = errors.New("store: the database is open for reading only")
)

// sqlEngine is what differs between SQLite and PostgreSQL.
type sqlEngine interface { //nolint:interfacebloat // two engines, in this package
	String() string                                         // where the database is, for errors; no secrets
	here() error                                            // nil while it is the one opened; asks nobody far away
	seen(ctx context.Context, c *sql.Conn) (string, error)  // differs on one connection whenever something was committed in between
	again(err error) bool                                   // others were at work: the same transaction may succeed when tried again
	reading() *sql.TxOptions                                // of a transaction that sees one moment
	writing() *sql.TxOptions                                // … in which what was read is still true at the commit
	migrating() *sql.TxOptions                              // … in which lockMigrations is the first statement
	lockMigrations(ctx context.Context, tx *sql.Tx) error   // until the end of tx
	hasTable(context.Context, *sql.Tx, string) (int, error) // 1: the table is there
	linger(ctx context.Context, tx *sql.Tx) error           // tx may wait long for what is done elsewhere

	lockTables(ctx context.Context, tx *sql.Tx, quoted []string) error // nobody else reads or writes them until the end of tx

	describe(context.Context, *sql.Tx) (tables []Table, refers [][2]string, err error) // tables by name; refers: this one to that one
	about(context.Context, *sql.Tx) (string, error)                                    // name and version
	examine(context.Context, *sql.Tx) (trouble []string, err error)                    // what the engine itself finds wrong
}

// A DB is an open database, safe for concurrent use. Its zero value is useless; see [Open].
type DB struct {
	sqlEngine
	writer *sql.DB // SQLite: one connection, so that writers queue here instead of fighting over the file's lock
	reader *sql.DB

	looks   atomic.Uint64 // begun, of Version
	mu      sync.Mutex    // guards what follows
	watch   *sql.Conn     // what an engine says it has seen is relative to one connection
	seenAt  string        // what watch said last
	version uint64
	looked  uint64 // the last look that found version
}

// Open opens or creates the database. It fails when the folder of a file could be
// written by every user of the machine, when the file is not a database, and when
// the way to a server is not safe.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	db, err := open(cfg)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	// The writer goes first: it is the one that may turn a new file to WAL.
	if err = db.prepareMigrations(ctx); err == nil {
		_, err = db.Version(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("store: open %s: %w", db.sqlEngine, err), db.Close())
	}
	return db, nil
}

func open(cfg Config) (*DB, error) {
	readers := max(4, 2*runtime.GOMAXPROCS(0)) + 1 // one of them is held by Version
	if !cfg.URL.Empty() {
		pg, err := openPostgres(cfg.URL)
		if err != nil {
			return nil, err
		}
		return &DB{sqlEngine: pg, writer: pg.pool(pgWriters, cfg.Fault), reader: pg.pool(readers, cfg.Fault)}, nil
	}
	path, file, err := prepare(cfg.Path)
	if err != nil {
		return nil, err
	}
	db := &DB{sqlEngine: &sqliteFile{path, file}}
	if db.writer, err = pool(dsn(path, false), cfg.Fault); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db.writer.SetMaxOpenConns(1)
	if db.reader, err = pool(dsn(path, true), cfg.Fault); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), db.Close())
	}
	db.reader.SetMaxOpenConns(readers)
	db.reader.SetMaxIdleConns(readers)
	return db, nil
}

// Look opens a database that is there, for reading only: what [DB.Write] is asked
// for fails, and nothing is made, migrated or waited for. It works beside a process
// that writes. Where there is no file the error is [os.ErrNotExist].
func Look(ctx context.Context, cfg Config) (*DB, error) {
	db := &DB{}
	if !cfg.URL.Empty() {
		pg, err := openPostgres(cfg.URL)
		if err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		db.sqlEngine, db.reader = pg, pg.pool(2, nil)
	} else {
		path, err := filepath.Abs(cfg.Path)
		if err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		file, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		db.sqlEngine = &sqliteFile{path, file}
		if db.reader, err = pool(dsn(path, true)+"&mode=ro", nil); err != nil {
			return nil, fmt.Errorf("store: look at %s: %w", path, err)
		}
	}
	if err := db.reader.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("store: look at %s: %w", db.sqlEngine, err), db.Close())
	}
	return db, nil
}

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
	err := transact(ctx, db.reader, db.reading(), f)
	if err != nil && db.again(err) && ctx.Err() == nil {
		err = transact(ctx, db.reader, db.reading(), f)
	}
	return err
}

// Write runs f in a transaction in which what f reads is still true when it
// commits. When Write returns nil the change is on disk. When f returns an error
// or panics nothing is changed. Others who change the same are waited for, until
// ctx ends and at most 15 s; f may therefore run more than once and must have no
// effect outside its transaction. An error that is [ErrUnknown] leaves open
// whether the change was made. Write must not be called inside f.
func (db *DB) Write(ctx context.Context, f func(*sql.Tx) error) error {
	return db.write(ctx, db.writing(), f)
}

func (db *DB) write(ctx context.Context, opts *sql.TxOptions, f func(*sql.Tx) error) error {
	if db.writer == nil {
		return errLook
	}
	start := time.Now()
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := transact(ctx, db.writer, opts, f)
		if err == nil || !db.again(err) || time.Since(start) > writeWait {
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
// the last call, by this process or another one; it may differ for less. It costs
// some microseconds (PostgreSQL: one exchange with the server, which those share who
// wait for it at once) and reads no table, so it can be polled a few times a second. Only equality means something. It
// fails with [ErrReplaced] when the database is no longer the one opened, and
// while it can not be asked.
func (db *DB) Version(ctx context.Context) (uint64, error) {
	if err := db.here(); err != nil {
		return 0, fmt.Errorf("store: %s: %w", db.sqlEngine, err)
	}
	before := db.looks.Load()
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.looked > before {
		return db.version, nil // of a look that began while this call waited: with a slow server many wait at once
	}
	ctx, cancel := bounded(ctx, versionWait)
	defer cancel()
	number := db.looks.Add(1)
	for {
		v, fresh, err := db.look(ctx)
		if err == nil {
			db.looked = number
			return v, nil
		}
		// A connection that was cut while nobody used it says nothing about the database; a new one does.
		if fresh || ctx.Err() != nil {
			return 0, fmt.Errorf("store: version: %w", err)
		}
	}
}

// look asks the connection that watches. Fresh: it was made just now, or could not
// be.
func (db *DB) look(ctx context.Context) (_ uint64, fresh bool, err error) {
	if db.watch == nil {
		made := db.reader.Stats().Idle == 0
		if db.watch, err = db.reader.Conn(ctx); err != nil {
			db.watch = nil
			return 0, true, err
		}
		fresh = made
		db.version++ // another connection sees differently: what it says must not look like "unchanged"
		db.seenAt = ""
	}
	seen, err := db.seen(ctx, db.watch)
	if err != nil {
		_ = db.watch.Close()
		db.watch = nil
		return 0, fresh, err
	}
	if seen != db.seenAt {
		db.seenAt = seen
		db.version++
	}
	return db.version, fresh, nil
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

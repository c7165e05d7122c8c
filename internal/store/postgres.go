package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/gatehouse-api/gatehouse"
)

const (
	connectWait   = 3 * time.Second // for a connection to one of the hosts
	statementWait = 5 * time.Second // for the answer to a statement whose context has no deadline
	rollbackWait  = time.Second

	pgWriters  = 8
	pgLifetime = 30 * time.Minute // of an unused connection's age: addresses may mean other hosts later
	pgOldest   = 130000           // pg_current_snapshot is of PostgreSQL 13
)

// pgSettings hold in every session, whatever the server's own are.
var pgSettings = map[string]string{
	"application_name":                    "gatehouse",
	"timezone":                            "UTC",
	"client_encoding":                     "UTF8",
	"lock_timeout":                        "3000",  // ms: who waits longer asks again, see DB.Write
	"idle_in_transaction_session_timeout": "15000", // ms: a process that hangs inside a transaction lets its locks go
}

// postgres is the database behind a URL.
type postgres struct {
	config *pgx.ConnConfig
	place  string // host and database, for errors: never the URL

	mu       sync.Mutex
	identity string // of the database first connected to; "" before
}

// openPostgres reads the URL. What it says of a bad one never repeats any of it:
// a password may stand where nobody expects it.
func openPostgres(url gatehouse.Secret) (*postgres, error) {
	config, err := pgx.ParseConfig(url.Reveal())
	if err != nil || misread(url.Reveal()) {
		return nil, errors.New("the database URL can not be read: write postgres://user:password@host:5432/name?sslmode=verify-full&sslrootcert=/path/ca.pem, special characters of the password as %XX, and name files that are there")
	}
	type end struct {
		host string
		safe bool
	}
	ends := []end{{config.Host, verified(&config.Config, -1)}}
	for i, f := range config.Fallbacks {
		ends = append(ends, end{f.Host, verified(&config.Config, i)})
	}
	for _, e := range ends {
		if !e.safe && !nearby(e.host) {
			return nil, fmt.Errorf("the database URL lets the connection to %s be read or taken over on the way: it needs sslmode=verify-full (and sslrootcert for a CA of your own)", e.host)
		}
	}
	if config.ConnectTimeout == 0 || config.ConnectTimeout > connectWait {
		config.ConnectTimeout = connectWait
	}
	maps.Copy(config.RuntimeParams, pgSettings)
	// A standby may be behind: who reads there takes a revoked key for a live one.
	config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	return &postgres{config: config, place: fmt.Sprintf("database %s at %s", config.Database, config.Host)}, nil
}

// misread: an @ or # stands behind the host, as when a password that was not escaped
// ends it early. A part of the password would be called the host, which errors name.
func misread(url string) bool {
	_, rest, ok := strings.Cut(url, "://")
	if !ok {
		return false
	}
	end := strings.IndexAny(rest, "/?#")
	return end >= 0 && strings.ContainsAny(rest[end:], "@#")
}

// verified: the connection is by TLS, and the server must prove its name. The
// index is of a fallback, -1 for the first way to connect.
func verified(c *pgconn.Config, i int) bool {
	tls := c.TLSConfig
	if i >= 0 {
		tls = c.Fallbacks[i].TLSConfig
	}
	return tls != nil && !tls.InsecureSkipVerify && tls.ServerName != ""
}

// nearby: what is said there does not leave the machine.
func nearby(host string) bool {
	return strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || loopback(host) // the first two: sockets
}

func (p *postgres) String() string { return p.place }

func (p *postgres) here() error { return nil } // each new connection is asked, see Connect

// seen is the snapshot: which transactions are visible. After each commit, of
// whichever process and by whichever program, it is another one, and one that was
// seen never comes back. (Notifications would need the word of every writer, and
// a lock all of them share.)
func (p *postgres) seen(ctx context.Context, c *sql.Conn) (s string, err error) {
	err = c.QueryRowContext(ctx, `SELECT pg_current_snapshot()::text`).Scan(&s)
	return s, err
}

// again: nothing was changed because others were at work.
func (p *postgres) again(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	switch e.Code {
	case "40001", "40P01", "55P03": // serialization failure, deadlock, lock not to be had in time
		return true
	case "0A000": // a table has another column since the statement was prepared; pgx has forgotten it now
		return strings.Contains(e.Message, "cached plan")
	}
	return false
}

func (p *postgres) reading() *sql.TxOptions {
	return &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
}

func (p *postgres) writing() *sql.TxOptions { return &sql.TxOptions{Isolation: sql.LevelSerializable} }

// migrating sees what was committed while it waited for the lock.
func (p *postgres) migrating() *sql.TxOptions {
	return &sql.TxOptions{Isolation: sql.LevelReadCommitted}
}

// pgMigrations is the advisory lock of migrations: "gatehous" in bytes.
const pgMigrations = 0x6761746568_6f7573

func (p *postgres) lockMigrations(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(pgMigrations))
	return err
}

func (p *postgres) linger(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, fmt.Sprintf(`SET LOCAL idle_in_transaction_session_timeout = %d`, longLoad.Milliseconds()))
	return err
}

func (p *postgres) lockTables(ctx context.Context, tx *sql.Tx, quoted []string) error {
	if len(quoted) == 0 {
		return nil
	}
	_, err := tx.ExecContext(ctx, `LOCK TABLE `+strings.Join(quoted, ", ")+` IN ACCESS EXCLUSIVE MODE`)
	return err
}

func (p *postgres) hasTable(ctx context.Context, tx *sql.Tx, name string) (n int, err error) {
	err = tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = $1`, name).Scan(&n)
	return n, err
}

// pool makes connections when they are needed, most at once.
func (p *postgres) pool(most int, fault func(string) error) *sql.DB {
	db := sql.OpenDB(&pgConnector{p, stdlib.GetConnector(*p.config), fault})
	db.SetMaxOpenConns(most)
	db.SetMaxIdleConns(most)
	db.SetConnMaxLifetime(pgLifetime)
	return db
}

// A pgConnector makes connections, and looks at what is at their other end.
type pgConnector struct {
	*postgres
	driver.Connector
	fault func(string) error
}

func (c *pgConnector) Connect(ctx context.Context) (driver.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, statementWait)
	defer cancel()
	made, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	plain, ok := made.(*stdlib.Conn)
	if !ok {
		return nil, errors.Join(errors.New("store: the driver lacks what a connection is asked for"), made.Close())
	}
	if err := c.meet(ctx, plain.Conn()); err != nil {
		return nil, errors.Join(err, made.Close())
	}
	out := &pgConn{plain}
	if c.fault == nil {
		return out, nil
	}
	return &faultyConn{out, c.fault}, nil
}

// meet refuses a server that is not what it must be, or not the one of before.
func (p *postgres) meet(ctx context.Context, c *pgx.Conn) error {
	var cluster, database, encoding, commits string
	var version int
	err := c.QueryRow(ctx, `SELECT system_identifier::text,
		(SELECT oid::text FROM pg_database WHERE datname = current_database()),
		current_setting('server_encoding'), current_setting('synchronous_commit'),
		current_setting('server_version_num')::int
		FROM pg_control_system()`).Scan(&cluster, &database, &encoding, &commits, &version)
	switch {
	case err != nil:
		return err
	case version < pgOldest:
		return fmt.Errorf("it is of version %d, and PostgreSQL 13 is the oldest that works", version/10000)
	case encoding != "UTF8":
		return fmt.Errorf("its encoding is %s: make the database with ENCODING 'UTF8'", encoding)
	}
	if commits == "off" || commits == "local" { // "off" may forget the last commits: a revoked key would live again
		if _, err := c.Exec(ctx, `SET synchronous_commit = on`); err != nil {
			return err
		}
	}
	identity := cluster + "/" + database
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.identity == "" {
		p.identity = identity
	}
	if p.identity != identity {
		return ErrReplaced
	}
	return nil
}

// pgConn bounds each exchange with the server in time: one that hangs, or that a
// cut cable hides, is an error.
type pgConn struct{ *stdlib.Conn }

func bounded(ctx context.Context, wait time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, wait)
}

// IsValid lets package sql forget a connection that is lost.
func (c *pgConn) IsValid() bool { return !c.Conn.Conn().IsClosed() }

// CheckNamedValue makes of each value one of those that every engine has.
func (c *pgConn) CheckNamedValue(v *driver.NamedValue) (err error) {
	if v.Value, err = driver.DefaultParameterConverter.ConvertValue(v.Value); err != nil {
		return err
	}
	if b, ok := v.Value.(bool); ok {
		v.Value = int64(0)
		if b {
			v.Value = int64(1)
		}
	}
	return nil
}

// ResetSession looks whether a connection that was not used for a second is still there.
func (c *pgConn) ResetSession(ctx context.Context) error {
	ctx, cancel := bounded(ctx, connectWait)
	defer cancel()
	return c.Conn.ResetSession(ctx)
}

// ExecContext runs a statement that gives no rows.
func (c *pgConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	args, err := keepableArgs(query, args)
	if err != nil {
		return nil, err
	}
	ctx, cancel := bounded(ctx, statementWait)
	defer cancel()
	return c.Conn.ExecContext(ctx, query, args)
}

// QueryContext runs a statement that gives rows.
func (c *pgConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	args, err := keepableArgs(query, args)
	if err != nil {
		return nil, err
	}
	ctx, cancel := bounded(ctx, statementWait)
	rows, err := c.Conn.QueryContext(ctx, query, args)
	if err != nil {
		cancel()
		return nil, err
	}
	return &pgRows{rows, cancel}, nil
}

type pgRows struct {
	driver.Rows
	cancel context.CancelFunc
}

func (r *pgRows) Close() error {
	defer r.cancel()
	return r.Rows.Close()
}

// BeginTx begins a transaction. That a connection is lost is found out here, and
// then package sql takes another one: nothing has happened yet.
func (c *pgConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	bound, cancel := bounded(ctx, statementWait)
	defer cancel()
	begin := `BEGIN ISOLATION LEVEL ` + strings.ToUpper(sql.IsolationLevel(opts.Isolation).String())
	if opts.ReadOnly {
		begin += ` READ ONLY`
	} else {
		begin += ` READ WRITE`
	}
	if _, err := c.Conn.Conn().Exec(bound, begin); err != nil {
		if !c.IsValid() && bound.Err() == nil {
			return nil, driver.ErrBadConn
		}
		return nil, err
	}
	return &pgTx{ctx, c}, nil
}

// Begin is asked for by nobody; package driver wants it.
//
// Deprecated: package driver says so.
func (c *pgConn) Begin() (driver.Tx, error) {
	return nil, errors.New("store: transactions begin with a context")
}

type pgTx struct {
	ctx context.Context //nolint:containedctx // Commit has none of its own
	*pgConn
}

// Commit is an error, too, when the transaction had failed before: the server
// calls its end a success.
func (t *pgTx) Commit() error {
	ctx, cancel := bounded(t.ctx, statementWait)
	defer cancel()
	tag, err := t.Conn.Conn().Exec(ctx, `COMMIT`)
	if err != nil {
		if !t.IsValid() {
			return fmt.Errorf("the connection was lost, %w: %w", ErrUnknown, err)
		}
		return err
	}
	if tag.String() != "COMMIT" {
		return errors.New("a statement had failed, nothing was changed")
	}
	return nil
}

func (t *pgTx) Rollback() error {
	if !t.IsValid() {
		return nil // it ended with the connection
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), rollbackWait)
	defer cancel()
	if _, err := t.Conn.Conn().Exec(ctx, `ROLLBACK`); err != nil {
		return errors.Join(err, t.Conn.Close())
	}
	return nil
}

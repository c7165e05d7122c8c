package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"slices"
	"strings"
)

// Points at which [Config].Fault is asked besides the statements.
const (
	PointBegin     = "BEGIN"
	PointCommit    = "COMMIT"
	PointCommitted = "COMMITTED" // on disk, and nobody knows yet
)

// keepStatements bounds what a connection keeps: more different statements than
// Gatehouse has, and some for the tests.
const keepStatements = 256

// A connector makes connections that keep their statements.
type connector struct {
	driver.Connector
	fault func(string) error
}

func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	made, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	plain, ok := made.(plainConn)
	if !ok {
		return nil, errors.Join(errors.New("store: the driver lacks what a connection is asked for"), made.Close())
	}
	out := &conn{plainConn: plain, kept: map[string]*statement{}}
	if c.fault == nil {
		return out, nil
	}
	return &faultyConn{out, c.fault}, nil
}

// plainConn is what a connection of the driver can do.
type plainConn interface { //nolint:interfacebloat // what package sql looks for in a connection
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

// conn keeps the statements it has run: to understand one takes SQLite longer
// than to run it, and they are always the same. Package sql lets nobody use a
// connection while another does, so that no lock is needed.
type conn struct {
	plainConn
	kept map[string]*statement
}

// A statement is one that was prepared, with its two ways to run.
type statement struct {
	driver.Stmt
	exec  driver.StmtExecContext
	query driver.StmtQueryContext
	busy  bool // its rows are being read
}

// statement returns query prepared, nil when it is better run as it comes: one
// that is being read already, and one that is no plain reading or changing. Some
// pragmas do their work while they are prepared.
func (c *conn) statement(ctx context.Context, query string) (*statement, error) {
	if s := c.kept[query]; s != nil {
		if s.busy {
			return nil, nil
		}
		return s, nil
	}
	if !keepable(query) {
		return nil, nil
	}
	made, err := c.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	s := &statement{Stmt: made}
	var execs, queries bool
	s.exec, execs = made.(driver.StmtExecContext)
	s.query, queries = made.(driver.StmtQueryContext)
	if !execs || !queries {
		return nil, made.Close()
	}
	if len(c.kept) >= keepStatements {
		if err := c.forget(); err != nil {
			return nil, errors.Join(err, made.Close())
		}
	}
	c.kept[query] = s
	return s, nil
}

// keepable: one statement, of those that are run again and again.
func keepable(query string) bool {
	query = strings.TrimSpace(query)
	switch strings.ToUpper(firstWord(query)) {
	case "SELECT", "INSERT", "UPDATE", "DELETE", "WITH":
		return len(query) <= 4096 && !strings.Contains(query, ";")
	}
	return false
}

// forget closes the statements that nobody reads.
func (c *conn) forget() error {
	var errs []error
	for query, s := range c.kept {
		if !s.busy {
			errs = append(errs, s.Close())
			delete(c.kept, query)
		}
	}
	return errors.Join(errs...)
}

// ExecContext runs a statement that gives no rows.
func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	args, err := keepableArgs(query, args)
	if err != nil {
		return nil, err
	}
	s, err := c.statement(ctx, query)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return c.plainConn.ExecContext(ctx, query, args)
	}
	return s.exec.ExecContext(ctx, args)
}

// QueryContext runs a statement that gives rows.
func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	args, err := keepableArgs(query, args)
	if err != nil {
		return nil, err
	}
	s, err := c.statement(ctx, query)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return c.plainConn.QueryContext(ctx, query, args)
	}
	rows, err := s.query.QueryContext(ctx, args)
	if err != nil {
		return nil, err
	}
	s.busy = true
	return &keptRows{rows, s}, nil
}

// CheckNamedValue makes a value one that a statement can have.
func (c *conn) CheckNamedValue(v *driver.NamedValue) (err error) {
	v.Value, err = driver.DefaultParameterConverter.ConvertValue(v.Value)
	return err
}

// keepableArgs refuses what PostgreSQL can not keep as text, on every engine, so
// that no room grows used to it. Nothing that is kept equals it, so that for who
// only asks it is NULL, to which nothing is equal: rooms look up what strangers
// send, and what can not be is not found, like what is not.
func keepableArgs(query string, args []driver.NamedValue) ([]driver.NamedValue, error) {
	copied := false
	for i, v := range args {
		text, ok := v.Value.(string)
		if !ok || checkText(text) == nil {
			continue
		}
		if !strings.EqualFold(firstWord(query), "SELECT") {
			return nil, ErrText
		}
		if !copied {
			args, copied = slices.Clone(args), true
		}
		args[i].Value = nil
	}
	return args, nil
}

func firstWord(query string) string {
	for word := range strings.FieldsSeq(query) {
		return word
	}
	return ""
}

// Close closes the statements, too.
func (c *conn) Close() error {
	var errs []error
	for _, s := range c.kept {
		errs = append(errs, s.Close())
	}
	clear(c.kept)
	return errors.Join(append(errs, c.plainConn.Close())...)
}

// keptRows are those of a kept statement, which is free again once they are closed.
type keptRows struct {
	driver.Rows
	of *statement
}

func (r *keptRows) Close() error {
	err := r.Rows.Close()
	r.of.busy = false
	return err
}

// faultyConn asks before everything whether it shall fail.
type faultyConn struct {
	checkedConn
	fault func(string) error
}

// checkedConn is a connection of either engine.
type checkedConn interface {
	plainConn
	driver.NamedValueChecker
}

func (c *faultyConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.fault(query); err != nil {
		return nil, err
	}
	return c.checkedConn.ExecContext(ctx, query, args)
}

func (c *faultyConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.fault(query); err != nil {
		return nil, err
	}
	return c.checkedConn.QueryContext(ctx, query, args)
}

func (c *faultyConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if err := c.fault(PointBegin); err != nil {
		return nil, err
	}
	tx, err := c.checkedConn.BeginTx(ctx, opts)
	if err != nil || opts.ReadOnly {
		return tx, err
	}
	return &faultyTx{tx, c.fault}, nil
}

type faultyTx struct {
	driver.Tx
	fault func(string) error
}

func (t *faultyTx) Commit() error {
	if err := t.fault(PointCommit); err != nil {
		return errors.Join(err, t.Rollback())
	}
	if err := t.Tx.Commit(); err != nil {
		return err
	}
	return t.fault(PointCommitted)
}

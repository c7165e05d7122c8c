package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// A Column of a table: its name, and "text" or "integer" (64 bits).
type Column struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// A Table is one of a room's tables, with its columns in their order.
type Table struct {
	Name    string   `json:"table"`
	Columns []Column `json:"columns"`
}

// A TableSum says what is in a table: how many rows, and the sum of their SHA-256,
// which is the same on both engines and in whatever order they come.
type TableSum struct {
	Name   string `json:"table"`
	Rows   int64  `json:"rows"`
	Digest string `json:"digest"`
}

// Progress is told now and then how many rows of a table are done. It may be nil.
type Progress func(table string, rows int64)

const (
	columnText    = "text"
	columnInteger = "integer"

	loadRows = 128              // in one statement
	tellRows = 5000             // between two calls of Progress
	stall    = 2 * time.Minute  // without a row: the other end hangs
	longWait = 48 * time.Hour   // statements get this deadline; stall ends what hangs
	longLoad = 30 * time.Minute // without a row, while tables are made and indexed
)

var plainName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// A sink takes tables, each followed by its rows and its end.
type sink interface {
	table(t Table) error
	row(values []any) error // string, int64 or nil; valid until it returns
	end() error
}

// patient gives statements the time a large table takes, and ends them when beat
// was not called for wait.
func patient(ctx context.Context, wait time.Duration) (_ context.Context, beat, stop func()) {
	ctx, done := context.WithTimeout(ctx, longWait)
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(wait, func() { cancel(fmt.Errorf("store: nothing has come for %s", wait)) })
	return ctx, func() { timer.Reset(wait) }, func() { timer.Stop(); cancel(nil); done() }
}

// own are the tables that rooms made, each after those it refers to.
func (db *DB) own(ctx context.Context, tx *sql.Tx) ([]Table, error) {
	all, refs, err := db.describe(ctx, tx)
	if err != nil {
		return nil, err
	}
	var out []Table
	for len(all) > 0 {
		before := len(out)
		all = slices.DeleteFunc(all, func(t Table) bool {
			for _, r := range refs {
				waits := slices.ContainsFunc(all, func(o Table) bool { return o.Name == r[1] })
				if r[0] == t.Name && r[1] != t.Name && waits && !slices.ContainsFunc(out, func(o Table) bool { return o.Name == r[1] }) {
					return false
				}
			}
			out = append(out, t)
			return true
		})
		if len(out) == before {
			return nil, fmt.Errorf("tables refer to each other in a circle: %s", all[0].Name)
		}
	}
	return slices.DeleteFunc(out, func(t Table) bool { return t.Name == "schema_migrations" || t.Name == "schema_additive" }), nil
}

// tableOf makes a Table of what an engine says of its columns.
func tableOf(rows *sql.Rows) (all []Table, err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var table, column, kind string
		if err := rows.Scan(&table, &column, &kind); err != nil {
			return nil, err
		}
		switch strings.ToLower(kind) {
		case "text":
			kind = columnText
		case "bigint":
			kind = columnInteger
		default:
			return nil, fmt.Errorf("column %s of table %s is of the type %s, which Gatehouse does not use: the table is not its own", column, table, kind)
		}
		if !plainName.MatchString(table) || !plainName.MatchString(column) {
			return nil, fmt.Errorf("table %q has a name that Gatehouse does not use", table)
		}
		if len(all) == 0 || all[len(all)-1].Name != table {
			all = append(all, Table{Name: table})
		}
		t := &all[len(all)-1]
		t.Columns = append(t.Columns, Column{column, kind})
	}
	return all, rows.Err()
}

func pairsOf(rows *sql.Rows) (all [][2]string, err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var p [2]string
		if err := rows.Scan(&p[0], &p[1]); err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, rows.Err()
}

func (f *sqliteFile) describe(ctx context.Context, tx *sql.Tx) ([]Table, [][2]string, error) {
	rows, err := tx.QueryContext(ctx, `SELECT m.name, c.name, c.type FROM sqlite_master m JOIN pragma_table_info(m.name) c
		WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY m.name, c.cid`)
	if err != nil {
		return nil, nil, err
	}
	tables, err := tableOf(rows)
	if err != nil {
		return nil, nil, err
	}
	if rows, err = tx.QueryContext(ctx, `SELECT m.name, k."table" FROM sqlite_master m JOIN pragma_foreign_key_list(m.name) k WHERE m.type = 'table'`); err != nil {
		return nil, nil, err
	}
	refs, err := pairsOf(rows)
	return tables, refs, err
}

func (p *postgres) describe(ctx context.Context, tx *sql.Tx) ([]Table, [][2]string, error) {
	rows, err := tx.QueryContext(ctx, `SELECT c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod)
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
		WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
		ORDER BY c.relname COLLATE "C", a.attnum`)
	if err != nil {
		return nil, nil, err
	}
	tables, err := tableOf(rows)
	if err != nil {
		return nil, nil, err
	}
	if rows, err = tx.QueryContext(ctx, `SELECT a.relname::text, b.relname::text FROM pg_constraint k JOIN pg_class a ON a.oid = k.conrelid JOIN pg_class b ON b.oid = k.confrelid
		WHERE k.contype = 'f' AND a.relnamespace = current_schema()::regnamespace`); err != nil {
		return nil, nil, err
	}
	refs, err := pairsOf(rows)
	return tables, refs, err
}

// feed reads all rows of tables, as tx sees them.
func feed(ctx context.Context, tx *sql.Tx, tables []Table, to sink) error {
	for _, t := range tables {
		if err := feedTable(ctx, tx, t, to); err != nil {
			return fmt.Errorf("table %s: %w", t.Name, err)
		}
	}
	return nil
}

func feedTable(ctx context.Context, tx *sql.Tx, t Table, to sink) (err error) {
	if err := to.table(t); err != nil {
		return err
	}
	rows, err := tx.QueryContext(ctx, `SELECT `+t.columns()+` FROM "`+t.Name+`"`) //nolint:gosec // names were held against plainName
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	values, at := make([]any, len(t.Columns)), make([]any, len(t.Columns))
	for i := range at {
		at[i] = &values[i]
	}
	for n := int64(1); rows.Next(); n++ {
		if err := rows.Scan(at...); err != nil {
			return err
		}
		if err := t.fits(values); err != nil {
			return fmt.Errorf("row %d: %w", n, err)
		}
		if err := to.row(values); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	return to.end()
}

func (t *Table) columns() string {
	var names []string
	for _, c := range t.Columns {
		names = append(names, `"`+c.Name+`"`)
	}
	return strings.Join(names, ", ")
}

// fits: the values are of the columns' types. A file of SQLite can hold others.
func (t *Table) fits(values []any) error {
	for i, c := range t.Columns {
		var ok bool
		switch v := values[i].(type) {
		case nil:
			ok = true
		case int64:
			ok = c.Type == columnInteger
		case string:
			ok = c.Type == columnText
			if err := checkText(v); err != nil {
				return fmt.Errorf("column %s: %w", c.Name, err)
			}
		}
		if !ok {
			return fmt.Errorf("column %s has a value that is no %s", c.Name, c.Type)
		}
	}
	return nil
}

// checkText refuses what a file of SQLite may have in it and PostgreSQL can not keep.
func checkText(s string) error {
	if !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
		return ErrText
	}
	return nil
}

// A tally counts and sums what goes through it on its way to next, which may be nil.
type tally struct {
	next   sink
	tell   Progress
	beat   func()
	sums   []TableSum
	lanes  [4]uint64 // sum of the digests modulo 2^256, the least first
	buffer []byte
}

func (y *tally) table(t Table) error {
	y.sums, y.lanes = append(y.sums, TableSum{Name: t.Name}), [4]uint64{}
	if y.next == nil {
		return nil
	}
	return y.next.table(t)
}

func (y *tally) row(values []any) error {
	y.buffer = y.buffer[:0]
	for _, v := range values {
		switch v := v.(type) { // what stands before a text is its length: no two rows look the same
		case string:
			y.buffer = append(binary.BigEndian.AppendUint64(append(y.buffer, 't'), uint64(len(v))), v...)
		case int64:
			y.buffer = binary.BigEndian.AppendUint64(append(y.buffer, 'i'), uint64(v))
		default:
			y.buffer = append(y.buffer, 'n')
		}
	}
	digest := sha256.Sum256(y.buffer)
	var carry uint64
	for i := range y.lanes {
		y.lanes[i], carry = bits.Add64(y.lanes[i], binary.LittleEndian.Uint64(digest[8*i:]), carry)
	}
	at := &y.sums[len(y.sums)-1]
	at.Rows++
	if at.Rows%tellRows == 0 {
		y.report(at)
	}
	if y.next == nil {
		return nil
	}
	return y.next.row(values)
}

func (y *tally) end() error {
	at := &y.sums[len(y.sums)-1]
	var sum []byte
	for _, l := range y.lanes {
		sum = binary.LittleEndian.AppendUint64(sum, l)
	}
	at.Digest = hex.EncodeToString(sum)
	y.report(at)
	if y.next == nil {
		return nil
	}
	return y.next.end()
}

func (y *tally) report(at *TableSum) {
	if y.beat != nil {
		y.beat()
	}
	if y.tell != nil {
		y.tell(at.Name, at.Rows)
	}
}

// total is how many rows there were.
func (y *tally) total() (n int64) {
	for _, s := range y.sums {
		n += s.Rows
	}
	return n
}

// A loader writes rows into tables that are there and empty.
type loader struct {
	ctx    context.Context //nolint:containedctx // of one transaction
	tx     *sql.Tx
	tables []Table // what is there
	fed    []string
	at     Table
	args   []any
	rows   int
}

func (l *loader) table(t Table) error {
	i := slices.IndexFunc(l.tables, func(o Table) bool { return o.Name == t.Name })
	if i < 0 || slices.Contains(l.fed, t.Name) {
		return fmt.Errorf("table %s: there is no such table after the same migrations", t.Name)
	}
	for _, c := range t.Columns {
		if !slices.Contains(l.tables[i].Columns, c) {
			return fmt.Errorf("table %s: there is no column %s (%s) after the same migrations", t.Name, c.Name, c.Type)
		}
	}
	if len(t.Columns) != len(l.tables[i].Columns) {
		return fmt.Errorf("table %s: it has other columns after the same migrations", t.Name)
	}
	l.at, l.fed = t, append(l.fed, t.Name)
	return nil
}

func (l *loader) row(values []any) error {
	l.args = append(l.args, values...)
	if l.rows++; l.rows == loadRows {
		return l.flush()
	}
	return nil
}

func (l *loader) end() error { return l.flush() }

func (l *loader) flush() error {
	if l.rows == 0 {
		return nil
	}
	var b strings.Builder
	b.WriteString(`INSERT INTO "` + l.at.Name + `" (` + l.at.columns() + `) VALUES `)
	for n := range l.args {
		switch {
		case n == 0:
			b.WriteString("(")
		case n%len(l.at.Columns) == 0:
			b.WriteString("), (")
		default:
			b.WriteString(", ")
		}
		b.WriteString("$" + strconv.Itoa(n+1))
	}
	b.WriteString(")")
	if _, err := l.tx.ExecContext(l.ctx, b.String(), l.args...); err != nil {
		return fmt.Errorf("table %s: %w", l.at.Name, err)
	}
	l.args, l.rows = l.args[:0], 0
	return nil
}

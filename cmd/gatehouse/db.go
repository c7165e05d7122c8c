package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/fleet"
	"github.com/gatehouse-api/gatehouse/internal/server"
	"github.com/gatehouse-api/gatehouse/internal/store"
)

type dbCmd struct {
	Migrate dbMigrateCmd `cmd:"" help:"Bring the tables to what this version works with, before it is started."`
	Check   dbCheckCmd   `cmd:"" help:"Look whether the database is whole, and how far its tables are."`
	Backup  dbBackupCmd  `cmd:"" help:"Write all that is in the database to a file, while gateways work."`
	Restore dbRestoreCmd `cmd:"" help:"Put a backup into an empty database, of either engine."`
	Copy    dbCopyCmd    `cmd:"" help:"Move from SQLite in the data folder to the PostgreSQL of the config."`
}

// errAtWork tells that a gateway would go on with what it knows.
var errAtWork = errors.New("a gateway is at work on this database")

// A cellar is where the commands about the database work. close ends what was opened.
type cellar struct {
	file *config.File
	cli  *cli
	std  *stdio
	db   *store.DB // nil before open
	hold io.Closer // nil before alone
}

func openCellar(cli *cli, std *stdio) (*cellar, error) {
	f, err := config.Load(cli.Config)
	return &cellar{file: f, cli: cli, std: std}, err
}

// open opens the config's database by [store.Open] or [store.Look].
func (c *cellar) open(ctx context.Context, how func(context.Context, store.Config) (*store.DB, error)) (err error) {
	c.db, err = server.OpenDatabase(ctx, c.file, how)
	if c.file.Database == nil && errors.Is(err, fs.ErrNotExist) {
		return &hintError{err, "the first start makes the database, or: gatehouse db migrate"}
	}
	return err
}

func (c *cellar) close() (err error) {
	if c.hold != nil {
		err = c.hold.Close()
	}
	if c.db != nil {
		err = errors.Join(err, c.db.Close())
	}
	return err
}

// alone makes sure that no gateway works on the database: none in this data folder,
// until it is closed, and none that beats in the database.
func (c *cellar) alone(ctx context.Context) error {
	hold, err := auditlog.Reserve(c.file.Events.Path.Value)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return &hintError{fmt.Errorf("%w: %w", errAtWork, err), "end it first; its callers are refused meanwhile"}
	}
	if err != nil {
		return err
	}
	c.hold = hold
	return c.db.Read(ctx, func(tx *sql.Tx) error { return noneAlive(ctx, tx) })
}

// noneAlive fails when a node beats in the database.
func noneAlive(ctx context.Context, tx *sql.Tx) error {
	alive, err := fleet.Living(ctx, tx)
	if err == nil && len(alive) > 0 {
		return &hintError{fmt.Errorf("%w: %s", errAtWork, strings.Join(alive, ", ")), "end all nodes first; 'gatehouse fleet status' lists them, and one that was killed is silent after some seconds"}
	}
	return err
}

// record writes a change down before it is made.
func (c *cellar) record(ctx context.Context, action, object string, detail map[string]string) error {
	changes, err := auditlog.OpenChanges(c.file.Events.Path.Value)
	if err != nil {
		return err
	}
	return changes.Append(ctx, auditlog.Change{Actor: actor(), Action: action, Object: object, Detail: detail})
}

// unless writes down, too, that a change which was recorded did not come about, or
// that nobody knows. It returns err.
func (c *cellar) unless(ctx context.Context, err error, action, object string) error {
	suffix := ".failed"
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrUnknown):
		suffix = ".unknown"
	}
	return errors.Join(err, c.record(context.WithoutCancel(ctx), action+suffix, object, nil))
}

// progress shows a terminal what is being done; done takes it away.
func (c *cellar) progress() (tell store.Progress, done func()) {
	f, ok := c.std.err.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil, func() {}
	}
	return func(table string, rows int64) { say(f, "\r\x1b[K%s: %d rows", table, rows) }, func() { say(f, "\r\x1b[K") }
}

// moved is the answer of backup, restore and copy.
type moved struct {
	From   string           `json:"from"`
	To     string           `json:"to"`
	Rows   int64            `json:"rows"`
	Tables []store.TableSum `json:"tables"`
	SHA256 string           `json:"sha256,omitempty"` // of the backup
	Made   *time.Time       `json:"made,omitempty"`
	Kept   string           `json:"kept,omitempty"` // where that is which was there before
}

func (c *cellar) tell(out io.Writer, m moved, format string, args ...any) error {
	for _, t := range m.Tables {
		m.Rows += t.Rows
	}
	if c.cli.Output == "json" && out == c.std.out {
		return printJSON(out, m)
	}
	say(out, format, args...)
	say(out, ": %d rows of %d tables\n", m.Rows, len(m.Tables))
	if m.Kept != "" {
		say(out, "what was there before is in %s\n", m.Kept)
	}
	return nil
}

type dbMigrateCmd struct{}

func (dbMigrateCmd) Help() string {
	return "A gateway does the same when it starts. Done before, with the new program, the nodes of the version before go on working beside it: " +
		"it refuses while they do when a migration is not additive.\n\nExample:\n  gatehouse db migrate"
}

// Run migrates.
func (dbMigrateCmd) Run(ctx context.Context, cli *cli, std *stdio) (err error) {
	c, err := openCellar(cli, std)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.open(ctx, store.Open); err != nil {
		return err
	}
	rooms, err := c.db.Rooms(ctx, server.Rooms())
	if err != nil {
		return err
	}
	if hard := breaking(rooms); hard != "" {
		if err := c.alone(ctx); err != nil {
			return fmt.Errorf("%s is not additive: %w", hard, err)
		}
	}
	for _, r := range server.Rooms() {
		if err := c.db.Migrate(ctx, r); err != nil {
			return err
		}
	}
	if cli.Output == "json" {
		return printJSON(std.out, struct {
			Rooms []store.RoomHealth `json:"rooms"`
		}{rooms})
	}
	printRooms(std, rooms, "applied ")
	return nil
}

// breaking is the first migration to come beside which the version before cannot work.
func breaking(rooms []store.RoomHealth) string {
	for _, r := range rooms {
		for _, m := range r.New {
			if !m.Additive && r.Applied > 0 {
				return r.Room + " " + m.Name
			}
		}
	}
	return ""
}

// printRooms says how far each is, a line for each that matters.
func printRooms(std *stdio, rooms []store.RoomHealth, fresh string) {
	for _, r := range rooms {
		for _, m := range r.New {
			kind := ""
			if m.Additive {
				kind = ", additive"
			}
			say(std.out, "%-10s %s%s%s\n", r.Room, fresh, m.Name, kind)
		}
		for _, m := range r.Newer {
			say(std.out, "%-10s %s is of a newer version\n", r.Room, m.Name)
		}
		if len(r.New)+len(r.Newer) == 0 {
			say(std.out, "%-10s up to date (%d)\n", r.Room, r.Applied)
		}
	}
}

type dbCheckCmd struct{}

func (dbCheckCmd) Help() string {
	return "It changes nothing and works beside gateways: the engine's own checks, whether the tables are those of the migrations, and every row once. " +
		"It ends with 1 when something is off. Migrations that are yet to come are listed, and nothing is off.\n\nExample:\n  gatehouse db check"
}

// Run checks.
func (dbCheckCmd) Run(ctx context.Context, cli *cli, std *stdio) (err error) {
	c, err := openCellar(cli, std)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.open(ctx, store.Look); err != nil {
		return err
	}
	tell, done := c.progress()
	h, err := c.db.Check(ctx, server.Rooms(), tell)
	done()
	if err != nil {
		return err
	}
	if cli.Output == "json" {
		err = printJSON(std.out, struct {
			OK bool `json:"ok"`
			*store.Health
		}{len(h.Trouble) == 0, h})
	} else {
		err = c.printHealth(h)
	}
	if err == nil && len(h.Trouble) > 0 {
		err = errFailed
	}
	return err
}

func (c *cellar) printHealth(h *store.Health) error {
	say(c.std.out, "%s, %s\n\n", h.Place, h.Engine)
	printRooms(c.std, h.Rooms, "to come: ")
	say(c.std.out, "\n")
	t := tabwriter.NewWriter(c.std.out, 0, 4, 2, ' ', 0)
	for _, s := range h.Tables {
		if s.Rows > 0 {
			_, _ = fmt.Fprintf(t, "%s\t%d rows\n", s.Name, s.Rows)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, s := range h.Trouble {
		say(c.std.out, "%s %s\n", paint(*c.std, red, "!"), s)
	}
	if len(h.Trouble) == 0 {
		say(c.std.out, "%s\n", paint(*c.std, green, "nothing is off"))
	}
	return nil
}

type dbBackupCmd struct {
	File string `arg:"" placeholder:"FILE" help:"File to write, made whole or not at all; - is standard output."`
}

func (dbBackupCmd) Help() string {
	return "The file is of one moment, the same for both engines, and readable by its owner only: hashes of passwords and keys are in it, and sealed secrets. " +
		"Not in it: the keys in the data folder, and fleet.key.\n\nExample:\n  gatehouse db backup nightly.jsonl"
}

// Run backs up.
func (b *dbBackupCmd) Run(ctx context.Context, cli *cli, std *stdio) (err error) {
	c, err := openCellar(cli, std)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.open(ctx, store.Look); err != nil {
		return err
	}
	tell, done := c.progress()
	defer done()
	m, out := moved{From: c.db.String(), To: b.File}, std.out
	if b.File == "-" {
		out = std.err
		m.Tables, err = c.db.Dump(ctx, std.out, version, tell)
	} else {
		m.Tables, err = c.db.Backup(ctx, b.File, version, tell)
	}
	done()
	if errors.Is(err, store.ErrTaken) {
		return &hintError{err, "name a file that is not there; only a backup is written over"}
	}
	if err != nil {
		return err
	}
	return c.tell(out, m, "backed up to %s", b.File)
}

type dbRestoreCmd struct {
	File    string `arg:"" placeholder:"FILE" help:"A backup."`
	Replace bool   `help:"Back up what is in the database to a file in the data folder, and replace it."`
}

func (dbRestoreCmd) Help() string {
	return "The whole file is verified before anything is written; then all is one transaction, read back before it is committed. No gateway may be at work. " +
		"What was revoked, locked or banned after the backup is live again: see what changes.jsonl says of the time since.\n\nExample:\n  gatehouse db restore nightly.jsonl"
}

// Run restores.
func (r *dbRestoreCmd) Run(ctx context.Context, cli *cli, std *stdio) (err error) {
	c, err := openCellar(cli, std)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	tell, done := c.progress()
	defer done()
	d, err := store.OpenDump(ctx, r.File, tell)
	if errors.Is(err, store.ErrDump) {
		return &hintError{err, "take another backup; nothing was changed"}
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := c.open(ctx, store.Open); err != nil {
		return err
	}
	if err := c.alone(ctx); err != nil {
		return err
	}
	m := moved{From: r.File, To: c.db.String(), SHA256: d.SHA256, Made: &d.Made}
	keep := ""
	if r.Replace {
		keep = filepath.Join(c.file.Data.Value, "before-restore-"+time.Now().UTC().Format("20060102T150405.000Z")+".jsonl")
	}
	made := d.Made.Format(time.RFC3339)
	if err := c.record(ctx, "db.restore", d.SHA256, map[string]string{"file": r.File, "made": made, "to": m.To}); err != nil {
		return err
	}
	m.Tables, err = c.db.Restore(ctx, d, store.Transfer{Rooms: server.Rooms(), Tell: tell, By: version, Keep: keep, Alone: noneAlive})
	done()
	err = c.unless(ctx, err, "db.restore", d.SHA256)
	if errors.Is(err, store.ErrNotEmpty) {
		return &hintError{err, "--replace backs it up to a file and puts the backup in its place"}
	}
	if err != nil {
		return err
	}
	if _, err := os.Stat(keep); err == nil {
		m.Kept = keep
	}
	if err := c.tell(std.out, m, "restored %s of %s", r.File, made); err != nil || cli.Output == "json" {
		return err
	}
	say(std.err, "what was revoked, locked or banned after %s is live again: see %s\n", made, filepath.Join(c.file.Events.Path.Value, "changes.jsonl"))
	return nil
}

type dbCopyCmd struct{}

func (dbCopyCmd) Help() string {
	return "From gatehouse.db in the data folder to the database of the config, which must be empty. All is one transaction; rows and digests of both are compared " +
		"before it is committed. The file stays as it is. No gateway may be at work.\n\nExample:\n  gatehouse db copy"
}

// Run copies.
func (dbCopyCmd) Run(ctx context.Context, cli *cli, std *stdio) (err error) {
	c, err := openCellar(cli, std)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if c.file.Database == nil {
		return &hintError{fmt.Errorf("%s has no database to copy to", cli.Config), "add it: database: {url: \"${file:database.url}\"}; see \"Database\" in docs/operations.md"}
	}
	from, err := store.Look(ctx, store.Config{Path: filepath.Join(c.file.Data.Value, "gatehouse.db")})
	if errors.Is(err, fs.ErrNotExist) {
		return &hintError{err, "there is nothing to copy: start with the empty database"}
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	if err := c.open(ctx, store.Open); err != nil {
		return err
	}
	if err := c.alone(ctx); err != nil {
		return err
	}
	m := moved{From: from.String(), To: c.db.String()}
	if err := c.record(ctx, "db.copy", m.To, map[string]string{"from": m.From}); err != nil {
		return err
	}
	tell, done := c.progress()
	m.Tables, err = c.db.CopyFrom(ctx, from, store.Transfer{Rooms: server.Rooms(), Tell: tell, By: version, Alone: noneAlive})
	done()
	err = c.unless(ctx, err, "db.copy", m.To)
	if errors.Is(err, store.ErrNotEmpty) {
		return &hintError{err, "give it an empty database, or restore a backup with --replace"}
	}
	if err != nil {
		return err
	}
	return c.tell(std.out, m, "copied %s to %s", m.From, m.To)
}

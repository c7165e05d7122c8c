package main_test

import (
	"bufio"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
)

// A cellar is a folder with a config whose database is SQLite, or the one of a URL.
type cellar struct {
	t   *testing.T
	dir string
}

func newCellar(t *testing.T, url string) *cellar {
	t.Helper()
	c := &cellar{t, ordersFolder(t)}
	text := "gatehouse: 1\ndata: ./data\nroles: {reader: [orders:read]}\noauth: {issuer: \"https://id.example\"}\n" +
		"apis: {orders: {openapi: ./openapi.yaml, upstreams: [\"http://127.0.0.1:1\"], authenticate: {oauth2: keys, mutualTLS: keys}, operations: {health: {public: true}, greet: {closed: true}}}}\n"
	if url != "" {
		text += "database: {url: \"${file:database.url}\"}\nfleet: {key: \"${file:fleet.key}\"}\n"
	}
	for name, text := range map[string]string{"gatehouse.yaml": text, "database.url": url, "fleet.key": strings.Repeat("not very random ", 4)} {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *cellar) path(name string) string { return filepath.Join(c.dir, name) }

// good runs a command that must succeed.
func (c *cellar) good(args ...string) string {
	c.t.Helper()
	out, errs, code := gatehouse(c.t, c.dir, args...)
	if code != 0 {
		c.t.Fatalf("%q ends with %d\n%s%s", args, code, out, errs)
	}
	return out
}

// bad runs one that must end with code and say all of these.
func (c *cellar) bad(code int, args []string, says ...string) {
	c.t.Helper()
	out, errs, got := gatehouse(c.t, c.dir, args...)
	if got != code {
		c.t.Errorf("%q ends with %d\n%s%s", args, got, out, errs)
	}
	for _, text := range says {
		if !strings.Contains(out+errs, text) {
			c.t.Errorf("%q does not say %q:\n%s%s", args, text, out, errs)
		}
	}
}

type health struct {
	OK      bool
	Engine  string
	Rooms   []store.RoomHealth
	Tables  []store.TableSum
	Trouble []string
}

// health is what db check says; that a server of tests does without fsync is no news.
func (c *cellar) health() (h health, err error) {
	out, errs, _ := gatehouse(c.t, c.dir, "db", "check", "--output", "json")
	if err := json.Unmarshal([]byte(out), &h); err != nil {
		return h, fmt.Errorf("%w: %s%s", err, out, errs)
	}
	h.Trouble = slices.DeleteFunc(h.Trouble, func(s string) bool { return strings.Contains(s, "fsync") })
	slices.SortFunc(h.Tables, func(a, b store.TableSum) int { return strings.Compare(a.Name, b.Name) })
	return h, nil
}

func (c *cellar) whole() []store.TableSum {
	c.t.Helper()
	h, err := c.health()
	if err != nil || len(h.Trouble) > 0 {
		c.t.Fatal(h.Trouble, err)
	}
	return h.Tables
}

// holds: that and nothing else is in it.
func (c *cellar) holds(want []store.TableSum) {
	c.t.Helper()
	got := c.whole()
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got) || i >= len(want):
			c.t.Fatalf("%d tables, not %d", len(got), len(want))
		case got[i] != want[i]:
			c.t.Errorf("%v is not %v", got[i], want[i])
		}
	}
}

// people fills what the commands fill.
func (c *cellar) people() {
	c.t.Helper()
	c.good("db", "migrate")
	c.good("users", "create", "ada", "--email", "ada@example.org", "--email-verified", "--role", "reader", "--claim", "given_name=Ådá 𝄞 <\"'\\>\u2028")
	c.good("users", "lock", "ada", "--why", "stolen")
	c.good("groups", "create", "Desk ☎", "--role", "reader", "--member", "ada")
	c.good("clients", "create", "--id", "shop", "--name", "Shop & Søn", "--redirect-uri", "https://shop.example/callback", "--scope", "openid")
	c.good("keys", "create", "--owner", "billing", "--note", "für die Börse; DROP TABLE users")
	c.good("ddos", "ban", "203.0.113.0/24", "--reason", "Ж\tscraper")
}

// lists is what people read.
func (c *cellar) lists() (out []string) {
	c.t.Helper()
	for _, args := range []string{"users list", "users show ada", "groups list", "clients list", "keys list", "ddos status"} {
		out = append(out, c.good(append(strings.Fields(args), "-o", "json")...))
	}
	return out
}

// rest puts rows into all tables in which there are none, and many into one.
func rest(t *testing.T, c *cellar, many int) {
	t.Helper()
	c.good("db", "backup", "tables.jsonl")
	f, err := os.Open(c.path("tables.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	db, err := store.Open(t.Context(), store.Config{Path: c.path("data/gatehouse.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	insert := func(table store.Table, n int) {
		err := db.Write(t.Context(), func(tx *sql.Tx) error {
			var marks []string
			for i := range table.Columns {
				marks = append(marks, fmt.Sprintf("$%d", i+1))
			}
			query := `INSERT INTO "` + table.Name + `" VALUES (` + strings.Join(marks, ", ") + `)`
			for row := range n {
				var args []any
				for i, column := range table.Columns {
					if column.Type == "text" {
						args = append(args, fmt.Sprintf("%s %d %d \"\\' \x01\t\n<&> ß İ 👩‍👧 \ufeff", column.Name, row, i))
					} else {
						args = append(args, int64(1<<62)-int64(row))
					}
				}
				if _, err := tx.ExecContext(t.Context(), query, args...); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	lines := bufio.NewScanner(f)
	tables := 0
	var last store.Table
	for lines.Scan() {
		switch line := lines.Text(); {
		case strings.HasPrefix(line, `{"table"`):
			tables++
			last = store.Table{}
			if err := json.Unmarshal([]byte(line), &last); err != nil {
				t.Fatal(err)
			}
		case line != `{"rows":0}` || strings.HasPrefix(last.Name, "fleet_"): // which a house with a fleet fills itself
		case last.Name == "once":
			insert(last, 3+many)
		default:
			insert(last, 3)
		}
	}
	if tables < 35 {
		t.Errorf("only %d tables", tables)
	}
}

func TestTheWholeHouseMovesFromSQLiteToPostgresAndBack(t *testing.T) {
	url, server := storetest.Postgres(t)
	a := newCellar(t, "")
	a.bad(2, []string{"db", "check"}, "hint: ", "gatehouse db migrate")
	if out := a.good("db", "migrate"); !strings.Contains(out, "oauth      applied 0001_grants.sql") {
		t.Error(out)
	}
	if out := a.good("db", "migrate"); strings.Contains(out, "applied") || !strings.Contains(out, "up to date") {
		t.Error(out)
	}
	a.people()
	rest(t, a, 0)
	was := a.whole()
	for _, s := range was {
		if s.Rows == 0 && !strings.HasPrefix(s.Name, "fleet_") {
			t.Errorf("no rows in %s: nothing is proved about it", s.Name)
		}
	}
	a.good("db", "backup", "all.jsonl")
	a.bad(2, []string{"db", "copy"}, "hint: ", "database: {url")
	a.bad(2, []string{"db", "restore", "all.jsonl"}, "not empty", "--replace")

	b := newCellar(t, url) // restored into PostgreSQL
	b.good("db", "restore", a.path("all.jsonl"))
	b.holds(was)
	if got, want := b.lists(), a.lists(); !slices.Equal(got, want) {
		t.Errorf("people read %s\nand before %s", got, want)
	}
	other, err := server.Database(t.Context(), "other")
	if err != nil {
		t.Fatal(err)
	}
	c := newCellar(t, other) // copied
	c.bad(2, []string{"db", "copy"}, "hint: ", "nothing to copy")
	if err := os.CopyFS(c.path("data"), os.DirFS(a.path("data"))); err != nil {
		t.Fatal(err)
	}
	c.good("db", "copy", "--output", "json")
	c.holds(was)
	c.bad(2, []string{"db", "copy"}, "not empty", "api_keys: ", "hint: ")
	changes, err := os.ReadFile(c.path("data/events/changes.jsonl"))
	if err != nil || !strings.Contains(string(changes), `"action":"db.copy"`) || strings.Contains(string(changes), "postgres://") {
		t.Errorf("%s, %v", changes, err)
	}
	was = b.whole()
	for _, s := range was {
		if s.Rows == 0 && s.Name != "fleet_nodes" && s.Name != "fleet_configs" { // now with the keys that a fleet seals; nobody has pushed a config
			t.Errorf("no rows in %s", s.Name)
		}
	}
	b.good("db", "backup", "back.jsonl")
	d := newCellar(t, "") // and back
	d.good("db", "restore", b.path("back.jsonl"), "--output", "json")
	d.holds(was)
	changes, err = os.ReadFile(d.path("data/events/changes.jsonl"))
	if err != nil || !strings.Contains(string(changes), `"action":"db.restore"`) {
		t.Errorf("%s, %v", changes, err)
	}
}

func TestARestoreThatIsKilledLeavesWhatWasThere(t *testing.T) {
	url, _ := storetest.Postgres(t)
	big := newCellar(t, "")
	big.people()
	rest(t, big, 40_000)
	big.good("db", "backup", "big.jsonl")
	for name, c := range map[string]*cellar{"SQLite": newCellar(t, ""), "PostgreSQL": newCellar(t, url)} {
		t.Run(name, func(t *testing.T) {
			c.t = t
			c.good("db", "migrate")
			c.good("keys", "create", "--owner", "there-before")
			was := c.whole()
			program, err := binary()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(program, "db", "restore", big.path("big.jsonl"), "--replace")
			cmd.Dir = c.dir
			cmd.Stderr = os.Stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			storetest.Within(t, 30*time.Second, "the restore is in the middle of its rows", func() bool { return inserting(t, c, url, name) })
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err == nil {
				t.Fatal("the restore ended by itself")
			}
			storetest.Within(t, 20*time.Second, "what was there is there", func() bool {
				h, err := c.health()
				return err == nil && len(h.Trouble) == 0 && slices.Equal(h.Tables, was)
			})
			c.good("db", "restore", big.path("big.jsonl"), "--replace")
			c.holds(big.whole())
			kept, err := filepath.Glob(c.path("data/before-restore-*.jsonl"))
			if err != nil || len(kept) != 2 { // the killed one's, too
				t.Errorf("kept: %v, %v", kept, err)
			}
		})
	}
}

// inserting: the rows are on their way, and not committed.
func inserting(t *testing.T, c *cellar, url, engine string) bool {
	t.Helper()
	if engine == "SQLite" {
		wal, err := os.Stat(c.path("data/gatehouse.db-wal"))
		return err == nil && wal.Size() > 4<<20
	}
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	var n int
	err = db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM pg_stat_activity WHERE query LIKE 'INSERT INTO "once"%'`).Scan(&n)
	return err == nil && n > 0
}

func TestADatabaseIsNotRestoredUnderAGateway(t *testing.T) {
	url, _ := storetest.Postgres(t)
	for name, c := range map[string]*cellar{"SQLite": newCellar(t, ""), "PostgreSQL": newCellar(t, url)} {
		t.Run(name, func(t *testing.T) {
			c.t = t
			text, err := os.ReadFile(c.path("gatehouse.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			text = append(text, "admin: {address: \"127.0.0.1:0\"}\nlisteners: [{address: \"127.0.0.1:0\"}]\n"...)
			if err := os.WriteFile(c.path("gatehouse.yaml"), text, 0o600); err != nil {
				t.Fatal(err)
			}
			launch(t, c.dir, "listening on", "serve")
			c.people()
			c.good("db", "backup", "online.jsonl")
			c.bad(2, []string{"db", "restore", "online.jsonl", "--replace"}, "a gateway is at work", "hint: ")
			if name == "PostgreSQL" { // it is known from elsewhere, too
				far := newCellar(t, url)
				far.bad(2, []string{"db", "restore", c.path("online.jsonl"), "--replace"}, "a gateway is at work", "fleet status")
			}
			other := newCellar(t, "")
			other.good("db", "restore", c.path("online.jsonl"))
			if out := other.good("keys", "list"); !strings.Contains(out, "billing") {
				t.Error(out)
			}
			if out := c.good("keys", "list"); !strings.Contains(out, "billing") {
				t.Error(out)
			}
		})
	}
}

func TestABackupGoesThroughAPipe(t *testing.T) {
	c := newCellar(t, "")
	c.people()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "db", "backup", "-", "--output", "json")
	cmd.Dir = c.dir
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(pipe)
	if err := errors.Join(err, cmd.Wait(), os.WriteFile(c.path("piped.jsonl"), text, 0o600)); err != nil {
		t.Fatal(err)
	}
	d := newCellar(t, "")
	d.good("db", "restore", c.path("piped.jsonl"))
	d.holds(c.whole())
	text[len(text)/2] ^= 1
	if err := os.WriteFile(c.path("piped.jsonl"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	d.bad(2, []string{"db", "restore", c.path("piped.jsonl"), "--replace"}, "line ", "can not be used", "hint: take another backup")
}

func TestWhatIsOffEndsCheckWithOne(t *testing.T) {
	c := newCellar(t, "")
	c.good("db", "migrate")
	db, err := store.Open(t.Context(), store.Config{Path: c.path("data/gatehouse.db")})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), `DROP TABLE ddos_bans`)
		return err
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	c.bad(1, []string{"db", "check"}, "table ddos_bans is missing")
}

func TestARestoreThatDidNotHappenIsRecordedAsFailed(t *testing.T) {
	c := newCellar(t, "")
	c.good("keys", "create", "--owner", "there-before")
	c.good("db", "backup", "all.jsonl")
	c.bad(2, []string{"db", "restore", "all.jsonl"}, "not empty", "hint: ")
	changes, err := os.ReadFile(c.path("data/events/changes.jsonl"))
	if err != nil || !strings.Contains(string(changes), `"action":"db.restore.failed"`) {
		t.Errorf("%s, %v", changes, err)
	}
}

package store_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
)

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

// library is a room with a reference, a self-reference, and a row its migration makes.
func library(steps int) []store.Room {
	all := fstest.MapFS{
		"0001_books.sql": file(`CREATE TABLE works (id BIGINT PRIMARY KEY, title TEXT NOT NULL, note TEXT);
			CREATE TABLE a_loans (work BIGINT NOT NULL REFERENCES works (id), who TEXT NOT NULL, PRIMARY KEY (work, who));
			CREATE TABLE works_last (one BIGINT NOT NULL PRIMARY KEY, seq BIGINT NOT NULL);
			INSERT INTO works_last (one, seq) VALUES (1, 0);`),
		"0002_titles.sql": file(`CREATE TABLE titles (title TEXT NOT NULL PRIMARY KEY, id BIGINT NOT NULL);
			INSERT INTO titles (title, id) SELECT title, id FROM works;`),
		"0003_shelf.sql": file("-- additive: an older one leaves it alone\nALTER TABLE works ADD COLUMN shelf TEXT NOT NULL DEFAULT 'none'"),
	}
	some := fstest.MapFS{}
	for name, f := range all {
		if name < fmt.Sprintf("%04d", steps+1) {
			some[name] = f
		}
	}
	return []store.Room{{Name: "library", Migrations: some}, {Name: "yard", Migrations: fstest.MapFS{"0001_trees.sql": file(`CREATE TABLE trees (id TEXT NOT NULL PRIMARY KEY)`)}}}
}

func migrateAll(t testing.TB, db *store.DB, rooms []store.Room) {
	t.Helper()
	for _, r := range rooms {
		if err := db.Migrate(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
}

func write(t testing.TB, db *store.DB, f func(tx *sql.Tx) error) {
	t.Helper()
	if err := db.Write(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

var oddTexts = []string{"", " ", "a\tb\r\nc", `"\u0000"`, `\`, "'; DROP TABLE works; --", "<script>&amp;", "\u2028\u2029\ufeff\ufffd", "ÅÅ ﬁ İ 日本 𝄞 👩‍👩‍👧", "null", "0", "[]", "{\"rows\":1}", "\x01\x7f", "$1 %s {{.}}"}

// stock fills the library with books.
func stock(t testing.TB, db *store.DB, books int) {
	t.Helper()
	write(t, db, func(tx *sql.Tx) error {
		for n := range books {
			if _, err := tx.ExecContext(t.Context(), `INSERT INTO works (id, title, note) VALUES ($1, $2, $3)`, n, fmt.Sprintf("%d %s", n, oddTexts[n%len(oddTexts)]), nil); err != nil {
				return err
			}
			if _, err := tx.ExecContext(t.Context(), `INSERT INTO a_loans (work, who) VALUES ($1, $2)`, n, oddTexts[n%len(oddTexts)]); err != nil {
				return err
			}
		}
		for _, n := range []int64{-1 << 63, 1<<63 - 1, 1<<53 + 1} {
			if _, err := tx.ExecContext(t.Context(), `INSERT INTO works (id, title, note) VALUES ($1, 'edge', 'x')`, n); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(t.Context(), `UPDATE works_last SET seq = 77`)
		return err
	})
}

// An engine makes databases.
type engine struct {
	name string
	open func(t testing.TB) store.Config
}

func engines(t *testing.T) []engine {
	t.Helper()
	all := []engine{{"SQLite", func(t testing.TB) store.Config {
		t.Helper()
		return store.Config{Path: filepath.Join(t.TempDir(), "a.db")}
	}}}
	if n := 0; storetest.HasPostgres() {
		_, server := storetest.Postgres(t)
		all = append(all, engine{"PostgreSQL", func(t testing.TB) store.Config {
			t.Helper()
			n++
			url, err := server.Database(t.Context(), fmt.Sprintf("move%d", n))
			if err != nil {
				t.Fatal(err)
			}
			return store.Config{URL: gatehouse.NewSecret(url)}
		}})
	}
	return all
}

func opened(t testing.TB, cfg store.Config) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// trouble is what a check says; the servers of tests do without fsync, and it says so.
func trouble(h *store.Health) string {
	return strings.Join(slices.DeleteFunc(h.Trouble, func(s string) bool { return strings.Contains(s, "fsync") }), "\n")
}

func sums(t testing.TB, db *store.DB, rooms []store.Room) []store.TableSum {
	t.Helper()
	h, err := db.Check(t.Context(), rooms, nil)
	if err != nil {
		t.Fatal(err)
	}
	if said := trouble(h); said != "" {
		t.Fatal(said)
	}
	slices.SortFunc(h.Tables, func(a, b store.TableSum) int { return strings.Compare(a.Name, b.Name) })
	return h.Tables
}

func verified(t testing.TB, path string) *store.DumpFile {
	t.Helper()
	d, err := store.OpenDump(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func TestDatabasesAreMovedAndLookedAfter(t *testing.T) {
	all := engines(t)
	for _, c := range []struct {
		name string
		test func(*testing.T, []engine)
	}{
		{"A backup of either engine is restored into either", testABackupOfEitherEngineIsRestoredIntoEither},
		{"A node that begins during a restore loses nothing", testANodeThatBeginsDuringARestoreLosesNothing},
		{"An older backup is brought forward with its rows", testAnOlderBackupIsBroughtForwardWithItsRows},
		{"An upgrade is taken back by the old program", testAnUpgradeIsTakenBackByTheOldProgram},
		{"A database of somebody else is not touched", testADatabaseOfSomebodyElseIsNotTouched},
		{"A database with rows is replaced only once it is kept", testADatabaseWithRowsIsReplacedOnlyOnceItIsKept},
		{"A backup is of one moment while others write", testABackupIsOfOneMomentWhileOthersWrite},
		{"Check finds what is off", testCheckFindsWhatIsOff},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, all) })
	}
}

func testABackupOfEitherEngineIsRestoredIntoEither(t *testing.T, all []engine) {
	t.Helper()
	for _, from := range all {
		source := opened(t, from.open(t))
		migrateAll(t, source, library(2))
		stock(t, source, 700)
		path := filepath.Join(t.TempDir(), "backup.jsonl")
		if _, err := source.Backup(t.Context(), path, "v1", nil); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		for _, to := range all {
			t.Run(from.name+" to "+to.name, func(t *testing.T) {
				db := opened(t, to.open(t))
				if _, err := db.Restore(t.Context(), verified(t, path), store.Transfer{Rooms: library(2)}); err != nil {
					t.Fatal(err)
				}
				if got, want := sums(t, db, library(2)), sums(t, source, library(2)); !slices.Equal(got, want) || len(got) != 5 {
					t.Errorf("%v\nis not\n%v", got, want)
				}
				again := filepath.Join(t.TempDir(), "again.jsonl")
				if _, err := db.Backup(t.Context(), again, "v1", nil); err != nil {
					t.Fatal(err)
				}
				lines := func(name string) []string {
					b, err := os.ReadFile(name)
					if err != nil {
						t.Fatal(err)
					}
					l := strings.Split(string(b), "\n")
					l = l[1 : len(l)-2] // without what differs: engine, time, digest
					slices.Sort(l)
					return l
				}
				if !slices.Equal(lines(path), lines(again)) {
					t.Error("the backup of what was restored has other lines")
				}
			})
			t.Run("copy of "+from.name+" to "+to.name, func(t *testing.T) {
				db := opened(t, to.open(t))
				if _, err := db.CopyFrom(t.Context(), source, store.Transfer{Rooms: library(2)}); err != nil {
					t.Fatal(err)
				}
				if got, want := sums(t, db, library(2)), sums(t, source, library(2)); !slices.Equal(got, want) {
					t.Errorf("%v\nis not\n%v", got, want)
				}
				if _, err := db.CopyFrom(t.Context(), source, store.Transfer{Rooms: library(2)}); !errors.Is(err, store.ErrNotEmpty) {
					t.Errorf("a second time: %v", err)
				}
			})
		}
	}
}

// oneOfEachTitle makes of what stock has put there what migration 3 takes.
func oneOfEachTitle(t *testing.T, db *store.DB) {
	t.Helper()
	write(t, db, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), `DELETE FROM works WHERE title = 'edge' AND id > 0`)
		return err
	})
}

func testANodeThatBeginsDuringARestoreLosesNothing(t *testing.T, all []engine) {
	t.Helper()
	for _, e := range all {
		t.Run(e.name, func(t *testing.T) {
			source := opened(t, e.open(t))
			migrateAll(t, source, library(2))
			stock(t, source, 10)
			path := filepath.Join(t.TempDir(), "backup.jsonl")
			if _, err := source.Backup(t.Context(), path, "v1", nil); err != nil {
				t.Fatal(err)
			}
			cfg := e.open(t)
			node := opened(t, cfg)
			migrateAll(t, node, library(2))
			done := make(chan error, 1)
			begin := sync.OnceFunc(func() {
				go func() {
					done <- node.Write(t.Context(), func(tx *sql.Tx) error {
						_, err := tx.ExecContext(t.Context(), `INSERT INTO works (id, title) VALUES (424242, 'the first of a node')`)
						return err
					})
				}()
				select {
				case err := <-done:
					done <- err
				case <-time.After(time.Second): // it waits for the restore
				}
			})
			cfg.Fault = func(point string) error {
				if strings.HasPrefix(point, "DROP TABLE") {
					begin()
				}
				return nil
			}
			alone := false
			_, err := opened(t, cfg).Restore(t.Context(), verified(t, path), store.Transfer{Rooms: library(2), Alone: func(ctx context.Context, tx *sql.Tx) error {
				alone = true
				return tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM works`).Scan(new(int))
			}})
			if err != nil || !alone {
				t.Fatal(alone, err)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			rows := 0
			if err := node.Read(t.Context(), func(tx *sql.Tx) error {
				return tx.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM works WHERE id = 424242`).Scan(&rows)
			}); err != nil || rows != 1 {
				t.Errorf("what the node wrote is gone: %d rows, %v", rows, err)
			}
			busy := errors.New("a gateway is at work")
			_, err = node.Restore(t.Context(), verified(t, path), store.Transfer{Rooms: library(2), Keep: path + ".kept", Alone: func(context.Context, *sql.Tx) error { return busy }})
			if _, kept := os.Stat(path + ".kept"); !errors.Is(err, busy) || kept == nil {
				t.Errorf("beside one that is at work: %v, %v", err, kept)
			}
		})
	}
}

func testAnOlderBackupIsBroughtForwardWithItsRows(t *testing.T, all []engine) {
	t.Helper()
	for _, e := range all {
		t.Run(e.name, func(t *testing.T) {
			source := opened(t, e.open(t))
			migrateAll(t, source, library(1))
			stock(t, source, 10)
			path := filepath.Join(t.TempDir(), "backup.jsonl")
			if _, err := source.Backup(t.Context(), path, "v1", nil); err != nil {
				t.Fatal(err)
			}
			db := opened(t, e.open(t))
			migrateAll(t, db, library(3)) // as a gateway's first start leaves it
			write(t, source, func(tx *sql.Tx) error {
				_, err := tx.ExecContext(t.Context(), `DELETE FROM a_loans`)
				return err
			})
			if _, err := db.Restore(t.Context(), verified(t, path), store.Transfer{Rooms: library(1)}); !errors.Is(err, store.ErrNotEmpty) || !strings.Contains(err.Error(), "titles: of a newer") {
				t.Errorf("by one that does not know what is there: %v", err)
			}
			if _, err := db.Restore(t.Context(), verified(t, path), store.Transfer{Rooms: library(3)}); err == nil || !strings.Contains(err.Error(), "duplicate") && !strings.Contains(err.Error(), "UNIQUE") {
				t.Fatal("three works of one title are no error of the migration after it:", err)
			}
			oneOfEachTitle(t, source)
			if _, err := source.Backup(t.Context(), path, "v1", nil); err != nil {
				t.Fatal(err)
			}
			if _, err := db.Restore(t.Context(), verified(t, path), store.Transfer{Rooms: library(3)}); err != nil {
				t.Fatal(err)
			}
			var titles, shelves int
			err := db.Read(t.Context(), func(tx *sql.Tx) error {
				return errors.Join(tx.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM titles`).Scan(&titles),
					tx.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM works WHERE shelf = 'none'`).Scan(&shelves))
			})
			if err != nil || titles != 11 || shelves != 11 {
				t.Errorf("%d titles, %d shelves, %v", titles, shelves, err)
			}
		})
	}
}

func testAnUpgradeIsTakenBackByTheOldProgram(t *testing.T, all []engine) {
	t.Helper()
	for _, e := range all {
		t.Run(e.name, func(t *testing.T) {
			db := opened(t, e.open(t))
			migrateAll(t, db, library(1))
			stock(t, db, 10)
			oneOfEachTitle(t, db)
			before := sums(t, db, library(1))
			dir := t.TempDir()
			path, keep := filepath.Join(dir, "before.jsonl"), filepath.Join(dir, "keep.jsonl")
			if _, err := db.Backup(t.Context(), path, "v1", nil); err != nil {
				t.Fatal(err)
			}
			migrateAll(t, db, library(3))
			after := sums(t, db, library(3))
			if err := db.Migrate(t.Context(), library(1)[0]); !errors.Is(err, store.ErrNewer) {
				t.Fatal("the old program would work:", err)
			}
			if _, err := db.Restore(t.Context(), verified(t, path), store.Transfer{Rooms: library(1), Keep: keep}); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(sums(t, db, library(1)), before) {
				t.Error("it is not what was before the upgrade")
			}
			if _, err := db.Restore(t.Context(), verified(t, keep), store.Transfer{Rooms: library(3), Keep: path}); err != nil {
				t.Fatal("and forward again:", err)
			}
			if !slices.Equal(sums(t, db, library(3)), after) {
				t.Error("what the old program kept is not what the new one had")
			}
		})
	}
}

func testADatabaseOfSomebodyElseIsNotTouched(t *testing.T, all []engine) {
	t.Helper()
	for _, e := range all {
		t.Run(e.name, func(t *testing.T) {
			rooms := library(3)
			source, db := opened(t, e.open(t)), opened(t, e.open(t))
			migrateAll(t, source, rooms)
			write(t, db, func(tx *sql.Tx) error {
				_, err := tx.ExecContext(t.Context(), `CREATE TABLE wordpress (id BIGINT)`)
				return err
			})
			dir := t.TempDir()
			path := filepath.Join(dir, "backup.jsonl")
			if _, err := source.Backup(t.Context(), path, "v1", nil); err != nil {
				t.Fatal(err)
			}
			if _, err := db.Restore(t.Context(), verified(t, path), store.Transfer{Rooms: rooms, Keep: filepath.Join(dir, "keep.jsonl")}); !errors.Is(err, store.ErrForeign) {
				t.Error(err)
			}
			if _, err := db.CopyFrom(t.Context(), source, store.Transfer{Rooms: rooms}); !errors.Is(err, store.ErrForeign) {
				t.Error(err)
			}
		})
	}
}

func TestABackupThatIsNotAsItWasWrittenChangesNothing(t *testing.T) {
	source := opened(t, store.Config{Path: filepath.Join(t.TempDir(), "a.db")})
	migrateAll(t, source, library(3))
	stock(t, source, 30)
	path := filepath.Join(t.TempDir(), "backup.jsonl")
	if _, err := source.Backup(t.Context(), path, "v1", nil); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "bad.jsonl")
	refused := func(what string, b []byte, want error) {
		t.Helper()
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if d, err := store.OpenDump(t.Context(), name, nil); err == nil || !errors.Is(err, want) || !strings.Contains(err.Error(), "line ") {
			if d != nil {
				_ = d.Close()
			}
			t.Errorf("%s: %v", what, err)
		}
	}
	for n := range good {
		if n > 700 && n%17 != 0 && n < len(good)-120 {
			continue
		}
		b := bytes.Clone(good)
		b[n] ^= 1
		refused(fmt.Sprintf("byte %d of another value", n), b, store.ErrDump)
		refused(fmt.Sprintf("cut off after %d bytes", n), good[:n], store.ErrDump)
	}
	refused("a line of rows taken out", bytes.Replace(good, []byte("[1,\"1  \",null,\"none\"]\n"), nil, 1), store.ErrDump)
	refused("more behind the end", append(bytes.Clone(good), '\n'), store.ErrDump)
	refused("twice the same", append(bytes.Clone(good), good...), store.ErrDump)
	refused("a newer format", bytes.Replace(good, []byte(`"version":1`), []byte(`"version":2`), 1), store.ErrNewer)
	refused("nothing", nil, store.ErrDump)
	refused("something else", []byte("gatehouse: 1\n"), store.ErrDump)

	db := opened(t, store.Config{Path: filepath.Join(t.TempDir(), "b.db")})
	for what, tt := range map[string]struct {
		rooms []store.Room
		want  error
	}{
		"of a newer Gatehouse":     {library(2), store.ErrNewer},
		"with a room unknown here": {library(3)[:1], store.ErrNewer},
		"of other migrations": {[]store.Room{{Name: "library", Migrations: fstest.MapFS{
			"0001_books.sql": file("SELECT 1"), "0002_titles.sql": file("SELECT 2"), "0003_shelf.sql": file("SELECT 3"),
		}}, library(3)[1]}, store.ErrMigrationChanged},
	} {
		if _, err := db.Restore(t.Context(), verified(t, path), store.Transfer{Rooms: tt.rooms}); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	d := verified(t, path)
	at := bytes.Index(good, []byte(`"7 `))
	if f, err := os.OpenFile(path, os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	} else if _, err := f.WriteAt([]byte(`"8`), int64(at)); err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	if _, err := db.Restore(t.Context(), d, store.Transfer{Rooms: library(3)}); !errors.Is(err, store.ErrDump) {
		t.Errorf("one that was changed between the look and the reading: %v", err)
	}
	h, err := db.Check(t.Context(), library(3), nil)
	if err != nil || len(h.Tables) != 0 {
		t.Errorf("something was written: %+v, %v", h, err)
	}
}

func testADatabaseWithRowsIsReplacedOnlyOnceItIsKept(t *testing.T, all []engine) {
	t.Helper()
	for _, e := range all {
		t.Run(e.name, func(t *testing.T) {
			rooms := library(3)
			source, db := opened(t, e.open(t)), opened(t, e.open(t))
			migrateAll(t, source, rooms)
			stock(t, source, 5)
			migrateAll(t, db, rooms)
			stock(t, db, 50)
			was := sums(t, db, rooms)
			dir := t.TempDir()
			path, keep := filepath.Join(dir, "backup.jsonl"), filepath.Join(dir, "keep.jsonl")
			if _, err := source.Backup(t.Context(), path, "v1", nil); err != nil {
				t.Fatal(err)
			}
			d := verified(t, path)
			if _, err := db.Restore(t.Context(), d, store.Transfer{Rooms: rooms}); !errors.Is(err, store.ErrNotEmpty) || !strings.Contains(err.Error(), "works: 53") {
				t.Errorf("with rows: %v", err)
			}
			if _, err := db.Restore(t.Context(), d, store.Transfer{Rooms: rooms, Keep: filepath.Join(dir, "no", "such", "folder")}); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("where it can not be kept: %v", err)
			}
			if !slices.Equal(sums(t, db, rooms), was) {
				t.Error("a restore that was refused changed something")
			}
			if _, err := db.Restore(t.Context(), d, store.Transfer{Rooms: rooms, Keep: keep}); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(sums(t, db, rooms), sums(t, source, rooms)) {
				t.Error("it is not what was backed up")
			}
			if _, err := db.Restore(t.Context(), verified(t, keep), store.Transfer{Rooms: rooms, Keep: filepath.Join(dir, "again.jsonl")}); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(sums(t, db, rooms), was) {
				t.Error("what was kept is not what was there")
			}
		})
	}
}

func testABackupIsOfOneMomentWhileOthersWrite(t *testing.T, all []engine) {
	t.Helper()
	for _, e := range all {
		t.Run(e.name, func(t *testing.T) {
			db := opened(t, e.open(t))
			migrateAll(t, db, library(3))
			stock(t, db, 2000)
			ctx, stop := context.WithCancel(t.Context())
			wrote := make(chan int, 1)
			go func() { // a book and its loan together, or neither
				n := 0
				for ; ctx.Err() == nil; n++ {
					_ = db.Write(ctx, func(tx *sql.Tx) error {
						if _, err := tx.ExecContext(ctx, `INSERT INTO works (id, title) VALUES ($1, 'more')`, 10_000+n); err != nil {
							return err
						}
						_, err := tx.ExecContext(ctx, `INSERT INTO a_loans (work, who) VALUES ($1, 'me')`, 10_000+n)
						return err
					})
				}
				wrote <- n
			}()
			path := filepath.Join(t.TempDir(), "backup.jsonl")
			for range 5 {
				if _, err := db.Backup(t.Context(), path, "v1", nil); err != nil {
					t.Fatal(err)
				}
				rows := map[string]int64{}
				for _, s := range verified(t, path).Tables {
					rows[s.Name] = s.Rows
				}
				if rows["works"] != rows["a_loans"]+3 {
					t.Errorf("%d books and %d loans", rows["works"], rows["a_loans"])
				}
			}
			stop()
			if n := <-wrote; n < 5 {
				t.Errorf("only %d writes beside the backups", n)
			}
		})
	}
}

func TestABackupIsNotWrittenOverSomethingElse(t *testing.T) {
	db := opened(t, store.Config{Path: filepath.Join(t.TempDir(), "a.db")})
	migrateAll(t, db, library(3))
	path := filepath.Join(t.TempDir(), "gatehouse.yaml")
	if err := os.WriteFile(path, []byte("gatehouse: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Backup(t.Context(), path, "v1", nil); !errors.Is(err, store.ErrTaken) {
		t.Error(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "gatehouse: 1\n" {
		t.Errorf("%q, %v", b, err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func testCheckFindsWhatIsOff(t *testing.T, all []engine) {
	t.Helper()
	for _, e := range all {
		for name, tt := range map[string]struct {
			do, want string
		}{
			"nothing":                  {`SELECT 1`, ""},
			"a table that is gone":     {`DROP TABLE trees`, "table trees is missing"},
			"a table of somebody else": {`CREATE TABLE wordpress (id BIGINT)`, "wordpress"},
			"a column of another type": {`ALTER TABLE works RENAME COLUMN note TO notes`, "no column note"},
			"a type nobody uses":       {`CREATE TABLE maps (id REAL)`, "maps"},
			"an edited migration":      {`UPDATE schema_migrations SET sha256 = 'x' WHERE room = 'library' AND version = 2`, "edited"},
			"a gap in the record":      {`DELETE FROM schema_migrations WHERE room = 'library' AND version = 1`, "missing from the record"},
			"what a newer one did":     {`INSERT INTO schema_migrations (room, version, name, sha256, applied) VALUES ('library', 4, '0004_x.sql', 'x', 0)`, "newer"},
		} {
			t.Run(e.name+": "+name, func(t *testing.T) {
				cfg := e.open(t)
				db := opened(t, cfg)
				migrateAll(t, db, library(3))
				stock(t, db, 3)
				write(t, db, func(tx *sql.Tx) error { _, err := tx.ExecContext(t.Context(), tt.do); return err })
				look, err := store.Look(t.Context(), cfg)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = look.Close() }()
				h, err := look.Check(t.Context(), library(3), nil)
				if err != nil {
					t.Fatal(err)
				}
				if said := trouble(h); (tt.want == "") != (said == "") || !strings.Contains(said, tt.want) {
					t.Errorf("%q does not say %q", said, tt.want)
				}
			})
		}
	}
}

func TestCheckFindsDamageInAFile(t *testing.T) {
	cfg := store.Config{Path: filepath.Join(t.TempDir(), "a.db")}
	db := opened(t, cfg)
	migrateAll(t, db, library(3))
	stock(t, db, 3000)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(cfg.Path)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(b) / 2; i < len(b)/2+8192; i++ {
		b[i] ^= 0x55
	}
	if err := os.WriteFile(cfg.Path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	db = opened(t, cfg)
	h, err := db.Check(t.Context(), library(3), nil)
	if err != nil || len(h.Trouble) == 0 {
		t.Errorf("%+v, %v", h, err)
	}
	if _, err := db.Backup(t.Context(), filepath.Join(t.TempDir(), "x"), "v1", nil); err == nil {
		t.Error("and a backup of it is a success")
	}
}

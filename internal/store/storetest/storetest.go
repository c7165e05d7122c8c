package storetest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/store"
)

// Run runs the suite. Open returns a new handle on the database called name,
// made when it does not exist; two handles of one name are like two processes.
// It closes what it opens when its test ends.
func Run(t *testing.T, open func(t *testing.T, name string) *store.DB) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(*testing.T, func() *store.DB)
	}{
		{"what is written is read by another handle", testWriteRead},
		{"text that not every engine keeps is refused", testText},
		{"numbers and truth come back as they went", testValues},
		{"a change that failed and was not told is no success", testSwallowed},
		{"a failed write changes nothing", testRollback},
		{"a panic in a write changes nothing and frees the lock", testPanic},
		{"a write in Read is refused", testReadOnly},
		{"a read sees one moment", testSnapshot},
		{"a broken reference is refused", testForeignKeys},
		{"no increment is lost between two handles", testIncrements},
		{"a cancelled context ends the wait for the lock", testCancel},
		{"the version changes with every commit of any handle and only then", testVersion},
		{"parameters may be numbered, repeated and out of order", testParameters},
		{"migrations run once and in order", testMigrate},
		{"two handles migrate at once and each migration runs once", testMigrateRace},
		{"a migration that fails leaves nothing behind", testMigrateFails},
		{"an edited migration is refused", testMigrateEdited},
		{"a database of a newer version is refused", testMigrateNewer},
		{"what is newer and additive is worked beside", testMigrateAdditive},
		{"a migration that says it is additive and is not is refused", testMigrateNotAdditive},
		{"rooms have migrations of their own", testMigrateRooms},
		{"badly named migrations are refused", testMigrateNames},
		{"after Close everything is an error", testClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := strings.ReplaceAll(c.name, " ", "_")
			c.test(t, func() *store.DB { return open(t, name) })
		})
	}
}

var schema = store.Room{Name: "suite", Migrations: fstest.MapFS{
	"0001_start.sql": {Data: []byte(`
		CREATE TABLE parents (id BIGINT PRIMARY KEY, name TEXT NOT NULL);
		CREATE TABLE children (id BIGINT PRIMARY KEY, parent BIGINT NOT NULL REFERENCES parents (id));`)},
}}

func migrated(t *testing.T, open func() *store.DB) *store.DB {
	t.Helper()
	db := open()
	if err := db.Migrate(t.Context(), schema); err != nil {
		t.Fatal(err)
	}
	return db
}

func execute(ctx context.Context, db *store.DB, query string, args ...any) error {
	return db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, query, args...)
		return err
	})
}

func mustExec(t *testing.T, db *store.DB, query string, args ...any) {
	t.Helper()
	if err := execute(t.Context(), db, query, args...); err != nil {
		t.Fatal(err)
	}
}

func text(t *testing.T, db *store.DB, query string, args ...any) string {
	t.Helper()
	var s string
	err := db.Read(t.Context(), func(tx *sql.Tx) error {
		return tx.QueryRowContext(t.Context(), query, args...).Scan(&s)
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func want(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %q, want %q", what, got, want)
	}
}

const countParents = `SELECT COUNT(*) FROM parents`

func testWriteRead(t *testing.T, open func() *store.DB) {
	a := migrated(t, open)
	mustExec(t, a, `INSERT INTO parents (id, name) VALUES ($1, $2)`, 1, "Zoë \t\U0001f511 end")
	want(t, "the name", text(t, open(), `SELECT name FROM parents WHERE id = $1`, 1), "Zoë \t\U0001f511 end")
}

func testRollback(t *testing.T, open func() *store.DB) {
	db, stop := migrated(t, open), errors.New("stop")
	err := db.Write(t.Context(), func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(t.Context(), `INSERT INTO parents (id, name) VALUES (1, 'a')`); err != nil {
			return err
		}
		return stop
	})
	if !errors.Is(err, stop) {
		t.Errorf("error %v, want %v", err, stop)
	}
	want(t, "the count", text(t, db, countParents), "0")
}

func testPanic(t *testing.T, open func() *store.DB) {
	db := migrated(t, open)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = db.Write(t.Context(), func(tx *sql.Tx) error {
			if _, err := tx.ExecContext(t.Context(), `INSERT INTO parents (id, name) VALUES (1, 'a')`); err != nil {
				return err
			}
			panic("boom")
		})
	}()
	want(t, "the count", text(t, db, countParents), "0")
	mustExec(t, open(), `INSERT INTO parents (id, name) VALUES (1, 'b')`)
}

func testReadOnly(t *testing.T, open func() *store.DB) {
	db := migrated(t, open)
	err := db.Read(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), `INSERT INTO parents (id, name) VALUES (1, 'a')`)
		return err
	})
	if err == nil {
		t.Error("a write in Read succeeded")
	}
	want(t, "the count", text(t, db, countParents), "0")
}

func testSnapshot(t *testing.T, open func() *store.DB) {
	db, other := migrated(t, open), open()
	err := db.Read(t.Context(), func(tx *sql.Tx) error {
		for range 2 {
			var n int
			if err := tx.QueryRowContext(t.Context(), countParents).Scan(&n); err != nil {
				return err
			}
			if n != 0 {
				t.Errorf("a commit of another handle appeared inside a read: %d rows", n)
			}
			mustExec(t, other, `INSERT INTO parents (id, name) VALUES ((SELECT COUNT(*) FROM parents), 'a')`)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	want(t, "the count afterwards", text(t, db, countParents), "2")
}

func testForeignKeys(t *testing.T, open func() *store.DB) {
	db := migrated(t, open)
	mustExec(t, db, `INSERT INTO parents (id, name) VALUES (1, 'a')`)
	mustExec(t, db, `INSERT INTO children (id, parent) VALUES (1, 1)`)
	for what, query := range map[string]string{
		"a child without a parent": `INSERT INTO children (id, parent) VALUES (2, 99)`,
		"a parent taken away":      `DELETE FROM parents WHERE id = 1`,
	} {
		if execute(t.Context(), open(), query) == nil {
			t.Errorf("%s was accepted", what)
		}
	}
}

func testIncrements(t *testing.T, open func() *store.DB) {
	const handles, each = 3, 20
	db := migrated(t, open)
	mustExec(t, db, `INSERT INTO parents (id, name) VALUES (0, '0')`)
	var wg sync.WaitGroup
	for range handles {
		h := open()
		for range 2 {
			wg.Go(func() {
				for range each {
					err := h.Write(t.Context(), func(tx *sql.Tx) error {
						var n int
						if err := tx.QueryRowContext(t.Context(), `SELECT name FROM parents WHERE id = 0`).Scan(&n); err != nil {
							return err
						}
						_, err := tx.ExecContext(t.Context(), `UPDATE parents SET name = $1 WHERE id = 0`, fmt.Sprint(n+1))
						return err
					})
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	want(t, "the counter", text(t, db, `SELECT name FROM parents WHERE id = 0`), fmt.Sprint(handles*2*each))
}

func testText(t *testing.T, open func() *store.DB) {
	db := migrated(t, open)
	mustExec(t, db, `INSERT INTO parents (id, name) VALUES (7, 'caf')`)
	for _, bad := range []string{"a\x00b", "\x00", "caf\xe9", "\xff"} {
		if err := execute(t.Context(), db, `INSERT INTO parents (id, name) VALUES (1, $1)`, bad); !errors.Is(err, store.ErrText) {
			t.Errorf("%q: error %v, want ErrText", bad, err)
		}
		if err := execute(t.Context(), db, `UPDATE parents SET name = 'x' WHERE name = $1`, bad); !errors.Is(err, store.ErrText) {
			t.Errorf("an update where there is %q: error %v, want ErrText", bad, err)
		}
		want(t, "who has this name", text(t, db, `SELECT COUNT(*) FROM parents WHERE name = $1 OR id = $2`, bad, 7), "1")
	}
	want(t, "the count", text(t, db, countParents), "1")
}

func testValues(t *testing.T, open func() *store.DB) {
	db := migrated(t, open)
	mustExec(t, db, `INSERT INTO parents (id, name) VALUES ($1, $2)`, int64(1)<<62, "")
	mustExec(t, db, `INSERT INTO parents (id, name) VALUES ($1, $2)`, true, "t")
	mustExec(t, db, `INSERT INTO parents (id, name) VALUES ($1, $2)`, -5, "x")
	var n, small, there int64
	var found bool
	err := db.Read(t.Context(), func(tx *sql.Tx) error {
		return errors.Join(
			tx.QueryRowContext(t.Context(), `SELECT MAX(id), MIN(id) FROM parents`).Scan(&n, &small),
			tx.QueryRowContext(t.Context(), `SELECT EXISTS (SELECT 1 FROM parents WHERE id = $1)`, true).Scan(&found),
			tx.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM parents WHERE name = ''`).Scan(&there),
		)
	})
	if err != nil || n != 1<<62 || small != -5 || !found || there != 1 {
		t.Errorf("%d %d %t %d %v", n, small, found, there, err)
	}
}

func testSwallowed(t *testing.T, open func() *store.DB) {
	db := migrated(t, open)
	mustExec(t, db, `INSERT INTO parents (id, name) VALUES (1, 'a')`)
	err := db.Write(t.Context(), func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(t.Context(), `INSERT INTO parents (id, name) VALUES (2, 'b')`); err != nil {
			return err
		}
		if _, err := tx.ExecContext(t.Context(), `INSERT INTO parents (id, name) VALUES (1, 'c')`); err == nil {
			t.Error("the same key twice")
		}
		return nil
	})
	if n := text(t, db, countParents); err == nil && n != "2" || err != nil && n != "1" {
		t.Errorf("%s rows, and the error is %v", n, err)
	}
}

func testCancel(t *testing.T, open func() *store.DB) {
	db, other := migrated(t, open), open()
	err := db.Write(t.Context(), func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(t.Context(), `INSERT INTO parents (id, name) VALUES (1, 'a')`); err != nil {
			return err
		}
		for what, h := range map[string]*store.DB{"another handle": other, "the same handle": db} {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			err := execute(ctx, h, `INSERT INTO parents (id, name) VALUES (1, 'b')`)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: error %v, want the deadline", what, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	mustExec(t, other, `INSERT INTO parents (id, name) VALUES (2, 'a')`)
}

func testVersion(t *testing.T, open func() *store.DB) {
	db, other := migrated(t, open), open()
	version := func() uint64 {
		v, err := db.Version(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	last := version()
	for i, h := range []*store.DB{db, other, db, other} {
		if v := version(); v != last {
			t.Errorf("the version changed without a commit: %d, was %d", v, last)
		}
		mustExec(t, h, `INSERT INTO parents (id, name) VALUES ($1, 'a')`, i)
		if v := version(); v == last {
			t.Errorf("commit %d did not change the version", i)
		} else {
			last = v
		}
	}
}

func testParameters(t *testing.T, open func() *store.DB) {
	db := migrated(t, open)
	want(t, "the answer", text(t, db, `SELECT $2 || '-' || $1 || '-' || $2`, "a", "b"), "b-a-b")
}

func migrations(texts ...string) store.Room {
	m := fstest.MapFS{}
	for i, s := range texts {
		m[fmt.Sprintf("%04d_step.sql", i+1)] = &fstest.MapFile{Data: []byte(s)}
	}
	return store.Room{Name: "steps", Migrations: m}
}

var (
	step1 = `CREATE TABLE steps (n BIGINT PRIMARY KEY)`
	step2 = `INSERT INTO steps (n) VALUES (2)`
	step3 = `INSERT INTO steps (n) VALUES (3); INSERT INTO steps (n) VALUES (4);`
)

const sumSteps = `SELECT SUM(n) FROM steps`

func testMigrate(t *testing.T, open func() *store.DB) {
	for i, m := range []store.Room{migrations(step1, step2), migrations(step1, step2), migrations(step1, step2, step3), migrations(step1, step2, step3)} {
		if err := open().Migrate(t.Context(), m); err != nil {
			t.Fatalf("run %d: %v", i, err)
		}
	}
	want(t, "the sum", text(t, open(), sumSteps), "9")
}

func testMigrateRace(t *testing.T, open func() *store.DB) {
	var wg sync.WaitGroup
	for range 4 {
		db := open()
		wg.Go(func() {
			if err := db.Migrate(t.Context(), migrations(step1, step2, step3)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	want(t, "the sum", text(t, open(), sumSteps), "9")
}

func testMigrateFails(t *testing.T, open func() *store.DB) {
	db := open()
	if err := db.Migrate(t.Context(), migrations(step1, step2, `INSERT INTO nowhere VALUES (1)`)); err == nil || !strings.Contains(err.Error(), "0003_step.sql") {
		t.Errorf("error %v, want one that names 0003_step.sql", err)
	}
	if err := db.Migrate(t.Context(), migrations(step1, step2)); err != nil {
		t.Errorf("after a failed attempt: %v", err) // would fail if the table had stayed
	}
}

func testMigrateEdited(t *testing.T, open func() *store.DB) {
	db := open()
	if err := db.Migrate(t.Context(), migrations(step1, step2)); err != nil {
		t.Fatal(err)
	}
	err := db.Migrate(t.Context(), migrations(step1, step2+" ", step3))
	if !errors.Is(err, store.ErrMigrationChanged) {
		t.Errorf("error %v, want ErrMigrationChanged", err)
	}
	want(t, "the sum", text(t, db, sumSteps), "2")
}

func testMigrateNewer(t *testing.T, open func() *store.DB) {
	db := open()
	if err := db.Migrate(t.Context(), migrations(step1, step2)); err != nil {
		t.Fatal(err)
	}
	if err := db.Migrate(t.Context(), migrations(step1)); !errors.Is(err, store.ErrNewer) {
		t.Errorf("error %v, want ErrNewer", err)
	}
}

const additive = "-- additive: the suite says so\n"

func testMigrateAdditive(t *testing.T, open func() *store.DB) {
	db := open()
	more := additive + "ALTER TABLE steps ADD COLUMN note TEXT NOT NULL DEFAULT 'x'; CREATE TABLE others (n BIGINT PRIMARY KEY); -- new\nCREATE INDEX steps_note ON steps (note);"
	if err := db.Migrate(t.Context(), migrations(step1, step2, more, additive+step3)); err != nil {
		t.Fatal(err)
	}
	older := open()
	for range 2 {
		if err := older.Migrate(t.Context(), migrations(step1, step2)); err != nil {
			t.Fatalf("the version before does not go on: %v", err)
		}
	}
	mustExec(t, older, `INSERT INTO steps (n) VALUES (10)`)
	want(t, "the sum", text(t, db, `SELECT SUM(n) FROM steps WHERE note = 'x'`), "19")
	if err := older.Migrate(t.Context(), migrations(step1, step2+" ")); !errors.Is(err, store.ErrMigrationChanged) {
		t.Errorf("error %v, want ErrMigrationChanged", err)
	}
	if err := db.Migrate(t.Context(), migrations(step1, step2, more, additive+step3, `DROP TABLE others`)); err != nil {
		t.Fatal(err)
	}
	if err := older.Migrate(t.Context(), migrations(step1, step2)); !errors.Is(err, store.ErrNewer) {
		t.Errorf("error %v, want ErrNewer", err)
	}
}

func testMigrateNotAdditive(t *testing.T, open func() *store.DB) {
	db := open()
	for _, text := range []string{
		`DROP TABLE steps`, `CREATE UNIQUE INDEX a ON steps (n)`, `ALTER TABLE steps ADD COLUMN a TEXT`, `ALTER TABLE steps RENAME TO stairs`,
		`CREATE TABLE a (n BIGINT); DELETE FROM steps`, `UPDATE steps SET n = 1`,
	} {
		if err := db.Migrate(t.Context(), migrations(step1, additive+text)); err == nil {
			t.Errorf("%s was accepted", text)
		}
	}
	if err := db.Migrate(t.Context(), migrations(step1)); err != nil {
		t.Error(err)
	}
}

func testMigrateRooms(t *testing.T, open func() *store.DB) {
	db := open()
	for _, room := range []store.Room{migrations(step1, step2), schema} {
		if err := db.Migrate(t.Context(), room); err != nil {
			t.Errorf("%s: %v", room.Name, err)
		}
	}
}

func testMigrateNames(t *testing.T, open func() *store.DB) {
	db := open()
	for name, m := range map[string]fstest.MapFS{
		"a gap":          {"0001_a.sql": {}, "0003_c.sql": {}},
		"a double":       {"0001_a.sql": {}, "0001_b.sql": {}},
		"another ending": {"0001_a.txt": {}},
		"no number":      {"a.sql": {}},
		"starts at zero": {"0000_a.sql": {}},
	} {
		if err := db.Migrate(t.Context(), store.Room{Name: "steps", Migrations: m}); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	for _, room := range []string{"", "Steps", "a b", "1a"} {
		if err := db.Migrate(t.Context(), store.Room{Name: room, Migrations: migrations(step1).Migrations}); err == nil {
			t.Errorf("room name %q was accepted", room)
		}
	}
}

func testClosed(t *testing.T, open func() *store.DB) {
	db := migrated(t, open)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	nothing := func(*sql.Tx) error { return nil }
	_, versionErr := db.Version(t.Context())
	for what, err := range map[string]error{"Read": db.Read(t.Context(), nothing), "Write": db.Write(t.Context(), nothing), "Version": versionErr} {
		if err == nil {
			t.Errorf("%s succeeded on a closed database", what)
		}
	}
}

package store_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
)

const childVariable = "GATEHOUSE_STORE_TEST_WRITER"

func TestMain(m *testing.M) {
	if path := os.Getenv(childVariable); path != "" {
		fmt.Fprintln(os.Stderr, writeForever(path)) // until killed
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func open(t testing.TB, path string) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func TestSQLite(t *testing.T) {
	dir := t.TempDir()
	storetest.Run(t, func(t *testing.T, name string) *store.DB { return open(t, filepath.Join(dir, name+".db")) })
}

var pairs = store.Room{Name: "pairs", Migrations: fstest.MapFS{"0001_pairs.sql": {Data: []byte(`
	CREATE TABLE lefts  (n BIGINT PRIMARY KEY, filler TEXT NOT NULL);
	CREATE TABLE rights (n BIGINT PRIMARY KEY REFERENCES lefts (n), filler TEXT NOT NULL);`)}}}

// writeForever writes pairs of rows and says each number once it is committed.
func writeForever(path string) error {
	ctx := context.Background()
	db, err := store.Open(ctx, store.Config{Path: path})
	if err != nil {
		return err
	}
	if err := db.Migrate(ctx, pairs); err != nil {
		return err
	}
	for {
		var n int64
		err := db.Write(ctx, func(tx *sql.Tx) error {
			if err := tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(n), 0) + 1 FROM lefts`).Scan(&n); err != nil {
				return err
			}
			for _, table := range []string{"lefts", "rights"} {
				_, err := tx.ExecContext(ctx, `INSERT INTO `+table+` (n, filler) VALUES ($1, $2)`, n, strings.Repeat("x", int(n*37%9000)))
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if _, err := fmt.Println(n); err != nil {
			return err
		}
	}
}

func TestEveryCommitReportedBeforeKill9IsThereAfterwards(t *testing.T) {
	path := filepath.Join(t.TempDir(), "killed.db")
	for round := range 4 {
		reported := killWriter(t, path, 5+round*17)
		db, err := store.Open(t.Context(), store.Config{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		var lefts, rights, most int64
		var check string
		err = db.Read(t.Context(), func(tx *sql.Tx) error {
			return errors.Join(
				tx.QueryRowContext(t.Context(), `SELECT COUNT(*), COALESCE(MAX(n), 0) FROM lefts`).Scan(&lefts, &most),
				tx.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM rights`).Scan(&rights),
				tx.QueryRowContext(t.Context(), `PRAGMA integrity_check`).Scan(&check),
			)
		})
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case check != "ok":
			t.Fatalf("round %d: integrity check: %s", round, check)
		case most < reported:
			t.Fatalf("round %d: commit %d was reported, the last one found is %d", round, reported, most)
		case lefts != most || rights != most:
			t.Fatalf("round %d: %d lefts and %d rights up to %d: a transaction is half there", round, lefts, rights, most)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// killWriter runs a writer until it reported some commits, kills it and returns the last number it said.
func killWriter(t *testing.T, path string, commits int) int64 {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var last int64
	lines := bufio.NewScanner(out)
	for i := 0; lines.Scan(); i++ {
		if i == commits { // it goes on writing while it is killed, and what it still says counts
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := strconv.ParseInt(lines.Text(), 10, 64); err == nil {
			last = n
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the writer ended by itself")
	}
	if last == 0 {
		t.Fatal("the writer reported nothing")
	}
	return last
}

func TestEveryConnectionHasTheSettings(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "a.db"))
	for pragma, want := range map[string]string{
		"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "2000", "trusted_schema": "0",
	} {
		check := func(depth string) func(*sql.Tx) error {
			return func(tx *sql.Tx) error {
				var got string
				if err := tx.QueryRowContext(t.Context(), `PRAGMA `+pragma).Scan(&got); err != nil || got != want {
					t.Errorf("%s of %s is %q (%v), want %q", pragma, depth, got, err, want)
				}
				return nil
			}
		}
		if err := db.Write(t.Context(), check("the writer")); err != nil {
			t.Error(err)
		}
		// Nested reads hold one connection each, so every one of them is looked at.
		err := db.Read(t.Context(), func(tx *sql.Tx) error {
			return errors.Join(check("reader 1")(tx), db.Read(t.Context(), func(tx *sql.Tx) error {
				return errors.Join(check("reader 2")(tx), db.Read(t.Context(), check("reader 3")))
			}))
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestFilesAreForTheirOwnerOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	db := open(t, filepath.Join(dir, "a.db"))
	if err := db.Migrate(t.Context(), pairs); err != nil {
		t.Fatal(err)
	}
	wantMode(t, dir, 0o700)
	for _, name := range []string{"a.db", "a.db-wal", "a.db-shm"} {
		wantMode(t, filepath.Join(dir, name), 0o600)
	}
}

func wantMode(t *testing.T, path string, want fs.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Error(err)
	} else if info.Mode().Perm() != want {
		t.Errorf("mode of %s is %o, want %o", filepath.Base(path), info.Mode().Perm(), want)
	}
}

func TestAFileOthersCouldReadIsClosedToThem(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o664); err != nil {
		t.Fatal(err)
	}
	open(t, path)
	wantMode(t, path, 0o600)
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	garbage, loose := filepath.Join(dir, "garbage.db"), filepath.Join(dir, "loose")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("not a database ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(loose, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(loose, 0o777); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"no path":                            "",
		"a folder":                           dir,
		"a file that is not a database":      garbage,
		"a folder every user may write to":   filepath.Join(loose, "a.db"),
		"a folder that can not be made":      filepath.Join(garbage, "data", "a.db"),
		"a device":                           "/dev/null",
		"a folder that is really a database": filepath.Join(garbage, "a.db"),
	} {
		if db, err := store.Open(t.Context(), store.Config{Path: path}); err == nil {
			t.Errorf("%s was opened", name)
			_ = db.Close()
		}
	}
}

func TestOddPathsAreTakenAsTheyAre(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?mode=memory#c%20d;é.db")
	open(t, path)
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), filepath.Base(path)) {
			t.Errorf("unexpected file %q", e.Name())
		}
	}
}

func TestAReplacedFileIsNoticed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.db")
	db := open(t, path)
	if err := os.Rename(path, filepath.Join(dir, "away.db")); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Version(t.Context()); !errors.Is(err, store.ErrReplaced) {
		t.Errorf("removed: error %v, want ErrReplaced", err)
	}
	open(t, path) // a new, empty one
	if _, err := db.Version(t.Context()); !errors.Is(err, store.ErrReplaced) {
		t.Errorf("replaced: error %v, want ErrReplaced", err)
	}
}

func TestWhoAsksForTheVersionAtOnceAsksOnce(t *testing.T) {
	const callers, slow = 32, 20 * time.Millisecond
	var looks atomic.Int64
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "a.db"), Fault: func(point string) error {
		if strings.Contains(point, "data_version") {
			looks.Add(1)
			<-time.After(slow)
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := db.Migrate(t.Context(), pairs); err != nil {
		t.Fatal(err)
	}
	looks.Store(0)
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			if _, err := db.Version(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := looks.Load(); n > callers/2 {
		t.Errorf("%d callers at once made %d looks", callers, n)
	}
}

func TestTheVersionIsNoOlderThanWhoAsksForIt(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "a.db"))
	if err := db.Migrate(t.Context(), pairs); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for caller := range 8 {
		all.Go(func() {
			for n := range 20 {
				before, err := db.Version(t.Context())
				if err == nil {
					err = db.Write(t.Context(), func(tx *sql.Tx) error {
						_, err := tx.ExecContext(t.Context(), `INSERT INTO lefts (n, filler) VALUES ($1, 'x')`, 100*caller+n)
						return err
					})
				}
				after, again := db.Version(t.Context())
				if err := errors.Join(err, again); err != nil {
					t.Error(err)
				} else if before == after {
					t.Errorf("%d is the version before and after a commit", after)
				}
			}
		})
	}
	all.Wait()
}

func TestAFullDiskIsAnErrorAndLosesNothing(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "a.db"))
	if err := db.Migrate(t.Context(), pairs); err != nil {
		t.Fatal(err)
	}
	add := func(n, size int) error {
		return db.Write(t.Context(), func(tx *sql.Tx) error {
			_, err := tx.ExecContext(t.Context(), `INSERT INTO lefts (n, filler) VALUES ($1, $2)`, n, strings.Repeat("x", size))
			return err
		})
	}
	if err := add(1, 10); err != nil {
		t.Fatal(err)
	}
	// SQLite's own limit stands for the disk's: it fails in the same place, with the same code.
	limit := func(pages int) {
		err := db.Write(t.Context(), func(tx *sql.Tx) error {
			_, err := tx.ExecContext(t.Context(), fmt.Sprintf(`PRAGMA max_page_count = %d`, pages))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	limit(1) // never below what is there
	if err := add(2, 1<<20); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("error %v, want one about a full disk", err)
	}
	limit(1 << 20)
	if err := add(3, 1<<20); err != nil {
		t.Errorf("with room again: %v", err)
	}
	var sum int
	err := db.Read(t.Context(), func(tx *sql.Tx) error {
		return tx.QueryRowContext(t.Context(), `SELECT SUM(n) FROM lefts`).Scan(&sum)
	})
	if err != nil || sum != 4 {
		t.Errorf("rows 1 and 3 are expected, the sum is %d (%v)", sum, err)
	}
}

func BenchmarkVersion(b *testing.B) {
	db := open(b, filepath.Join(b.TempDir(), "a.db"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := db.Version(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	db := open(b, filepath.Join(b.TempDir(), "a.db"))
	if err := db.Migrate(b.Context(), pairs); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		err := db.Write(b.Context(), func(tx *sql.Tx) error {
			_, err := tx.ExecContext(b.Context(), `INSERT INTO lefts (n, filler) VALUES ($1, 'x')`, n)
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

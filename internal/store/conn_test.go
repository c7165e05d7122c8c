package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/store"
)

func execute(t testing.TB, db *store.DB, statement string, args ...any) error {
	t.Helper()
	return db.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), statement, args...)
		return err
	})
}

func one(t testing.TB, db *store.DB, query string, args ...any) (n int64) {
	t.Helper()
	err := db.Read(t.Context(), func(tx *sql.Tx) error { return tx.QueryRowContext(t.Context(), query, args...).Scan(&n) })
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

func TestStatementsAreKept(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "a.db"))
	if err := db.Migrate(t.Context(), pairs); err != nil {
		t.Fatal(err)
	}
	const insert, count = `INSERT INTO lefts (n, filler) VALUES ($1, $2)`, `SELECT COUNT(*) FROM lefts`
	t.Run("one that failed works with other values", func(t *testing.T) {
		for i := range 3 {
			if err := execute(t, db, insert, i, "x"); err != nil {
				t.Fatal(err)
			}
			if err := execute(t, db, insert, i, "x"); err == nil {
				t.Fatal("the same key twice")
			}
		}
		if n := one(t, db, count); n != 3 {
			t.Errorf("%d rows", n)
		}
	})
	t.Run("no value of the time before is left in it", func(t *testing.T) {
		var a, b sql.NullString
		err := db.Read(t.Context(), func(tx *sql.Tx) error {
			const q = `SELECT $1`
			return errors.Join(tx.QueryRowContext(t.Context(), q, "secret").Scan(&a), tx.QueryRowContext(t.Context(), q, nil).Scan(&b))
		})
		if err != nil || a.String != "secret" || b.Valid {
			t.Errorf("%v %v %v", a, b, err)
		}
	})
	t.Run("one whose rows are still read runs beside itself", func(t *testing.T) {
		const q = `SELECT n FROM lefts ORDER BY n`
		var seen []string
		err := db.Read(t.Context(), func(tx *sql.Tx) error {
			outer, err := tx.QueryContext(t.Context(), q)
			if err != nil {
				return err
			}
			defer func() { _ = outer.Close() }()
			for outer.Next() {
				var a, b int
				if err := outer.Scan(&a); err != nil {
					return err
				}
				err := func() error {
					inner, err := tx.QueryContext(t.Context(), q)
					if err != nil {
						return err
					}
					defer func() { _ = inner.Close() }()
					for inner.Next() {
						if err := inner.Scan(&b); err != nil {
							return err
						}
						seen = append(seen, fmt.Sprint(a, b))
					}
					return inner.Err()
				}()
				if err != nil {
					return err
				}
			}
			return outer.Err()
		})
		if got := strings.Join(seen, ","); err != nil || got != "0 0,0 1,0 2,1 0,1 1,1 2,2 0,2 1,2 2" {
			t.Errorf("%s %v", got, err)
		}
	})
	t.Run("one whose rows were left unread gives all of them the next time", func(t *testing.T) {
		for range 3 {
			if n := one(t, db, `SELECT n FROM lefts ORDER BY n`); n != 0 {
				t.Errorf("began at %d", n)
			}
		}
	})
	t.Run("one that was cancelled works again", func(t *testing.T) {
		const slow = `WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < $1) SELECT COUNT(*) FROM c`
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- db.Read(ctx, func(tx *sql.Tx) error {
				var n int64
				return tx.QueryRowContext(ctx, slow, int64(1)<<40).Scan(&n)
			})
		}()
		cancel()
		if err := <-done; err == nil {
			t.Fatal("it ended")
		}
		for range 10 { // on whichever connection
			if n := one(t, db, slow, 10); n != 10 {
				t.Errorf("%d", n)
			}
		}
	})
	t.Run("tables may change under it", func(t *testing.T) {
		const q = `SELECT * FROM rights`
		columns := func() (names []string) {
			err := db.Read(t.Context(), func(tx *sql.Tx) error {
				rows, err := tx.QueryContext(t.Context(), q)
				if err != nil {
					return err
				}
				defer func() { _ = rows.Close() }()
				names, err = rows.Columns()
				return errors.Join(err, rows.Err())
			})
			if err != nil {
				t.Fatal(err)
			}
			return names
		}
		if len(columns()) != 2 {
			t.Fatal(columns())
		}
		if err := execute(t, db, `ALTER TABLE rights ADD COLUMN more TEXT NOT NULL DEFAULT 'x'`); err != nil {
			t.Fatal(err)
		}
		if len(columns()) != 3 {
			t.Error(columns())
		}
		if err := execute(t, db, `DROP TABLE rights`); err != nil {
			t.Error(err)
		}
		if err := db.Read(t.Context(), func(tx *sql.Tx) error { return tx.QueryRowContext(t.Context(), q).Scan() }); err == nil {
			t.Error("a table that is gone was read")
		}
	})
	t.Run("more different ones than are kept", func(t *testing.T) {
		for round := range 2 {
			for i := range 600 {
				if n := one(t, db, fmt.Sprintf(`SELECT %d`, i)); n != int64(i) {
					t.Fatalf("round %d: %d", round, n)
				}
			}
		}
	})
	t.Run("pragmas do their work each time", func(t *testing.T) {
		for _, pages := range []int64{1000, 2000, 1000} {
			var n int64
			err := db.Write(t.Context(), func(tx *sql.Tx) error {
				return tx.QueryRowContext(t.Context(), fmt.Sprintf(`PRAGMA max_page_count = %d`, pages)).Scan(&n)
			})
			if err != nil || n != pages {
				t.Errorf("%d %v", n, err)
			}
		}
	})
}

func TestManyAtOnceShareStatements(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "a.db"))
	if err := db.Migrate(t.Context(), pairs); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 25 {
				n := int64(i*100 + j)
				if err := execute(t, db, `INSERT INTO lefts (n, filler) VALUES ($1, $2)`, n, "x"); err != nil {
					t.Error(err)
				}
				var got int64
				err := db.Read(t.Context(), func(tx *sql.Tx) error {
					return tx.QueryRowContext(t.Context(), `SELECT n FROM lefts WHERE n = $1`, n).Scan(&got)
				})
				if err != nil || got != n {
					t.Errorf("%d, want %d (%v)", got, n, err)
				}
			}
		})
	}
	all.Wait()
	if n := one(t, db, `SELECT COUNT(*) FROM lefts`); n != 200 {
		t.Errorf("%d rows", n)
	}
}

func TestAFaultAtEachPointOfAWrite(t *testing.T) {
	faultPoints(t, store.Config{Path: filepath.Join(t.TempDir(), "a.db")})
}

func faultPoints(t *testing.T, cfg store.Config) {
	t.Helper()
	var countdown atomic.Int64
	full := errors.New("the disk is full")
	var points []string
	cfg.Fault = func(point string) error {
		points = append(points, point)
		if countdown.Add(-1) == 0 {
			return full
		}
		return nil
	}
	db, err := store.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := db.Migrate(t.Context(), pairs); err != nil {
		t.Fatal(err)
	}
	const insert = `INSERT INTO lefts (n, filler) VALUES (1, 'x')`
	for i, point := range []string{store.PointBegin, insert, store.PointCommit, store.PointCommitted} {
		points = nil
		countdown.Store(int64(i + 1))
		if err := execute(t, db, insert); !errors.Is(err, full) {
			t.Errorf("%s: %v", point, err)
		}
		countdown.Store(0)
		if last := points[len(points)-1]; last != point {
			t.Errorf("point %d is %q, want %q", i, last, point)
		}
		want := int64(0)
		if point == store.PointCommitted {
			want = 1
		}
		if n := one(t, db, `SELECT COUNT(*) FROM lefts`); n != want {
			t.Errorf("after a fault at %s there are %d rows", point, n)
		}
	}
}

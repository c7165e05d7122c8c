package store_test

import (
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/store"
)

func TestALookChangesNothing(t *testing.T) {
	cfg := store.Config{Path: filepath.Join(t.TempDir(), "gatehouse.db")}
	if _, err := store.Look(t.Context(), cfg); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("it looks at what is not there: %v", err)
	}
	if _, err := os.Stat(cfg.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal("it has made a database")
	}
	db, err := store.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), `CREATE TABLE things (n BIGINT)`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	count := func(look *store.DB) (n int) {
		t.Helper()
		err := look.Read(t.Context(), func(tx *sql.Tx) error {
			return tx.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM things`).Scan(&n)
		})
		if err != nil {
			t.Error(err)
		}
		return n
	}
	add := func(db *store.DB) error {
		return db.Write(t.Context(), func(tx *sql.Tx) error {
			_, err := tx.ExecContext(t.Context(), `INSERT INTO things VALUES (1)`)
			return err
		})
	}
	look, err := store.Look(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(add(db)); err != nil || count(look) != 1 {
		t.Errorf("it does not see what another writes: %v", err)
	}
	if err := add(look); err == nil {
		t.Error("it writes")
	}
	err = db.Write(t.Context(), func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(t.Context(), `INSERT INTO things VALUES (2)`); err != nil {
			return err
		}
		if n := count(look); n != 1 { // somebody who holds the lock does not keep it waiting
			t.Errorf("%d", n)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if err := errors.Join(look.Close(), db.Close()); err != nil {
		t.Error(err)
	}
	at := must(t, cfg)
	if look, err = store.Look(t.Context(), cfg); err != nil || count(look) != 2 {
		t.Fatal(err)
	}
	if err := look.Close(); err != nil {
		t.Error(err)
	}
	if after := must(t, cfg); !at.ModTime().Equal(after.ModTime()) || at.Size() != after.Size() || at.Mode() != after.Mode() {
		t.Errorf("%v, then %v", at, after)
	}
}

func must(t *testing.T, cfg store.Config) os.FileInfo {
	t.Helper()
	info, err := os.Stat(cfg.Path)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

package store_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"
	"time"
)

func TestAFollowerReadsWhenItMustAndSaysSinceWhenItKnows(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "a.db"))
	if err := db.Migrate(t.Context(), pairs); err != nil {
		t.Fatal(err)
	}
	f, n, refused := db.Follow(), 0, errors.New("refused")
	commit := func() {
		t.Helper()
		n++
		err := db.Write(t.Context(), func(tx *sql.Tx) error {
			_, err := tx.ExecContext(t.Context(), `INSERT INTO lefts (n, filler) VALUES ($1, 'x')`, n)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name  string
		first func()
		fails error
		reads bool
	}{
		{"a first look that fails", func() {}, refused, true},
		{"a look after one that failed", func() {}, nil, true},
		{"a look when nothing has changed", func() {}, nil, false},
		{"a look after a commit, which fails", commit, refused, true},
		{"a look after that", func() {}, nil, true},
		{"a look that was asked to read", f.Again, nil, true},
		{"a look after one that was asked to", func() {}, nil, false},
	} {
		c.first()
		before, began, read := f.Since(), time.Now(), false
		err := f.Look(t.Context(), func(context.Context) error {
			read = true
			return c.fails
		})
		if !errors.Is(err, c.fails) || read != c.reads {
			t.Errorf("%s: %v, it reads: %t", c.name, err, read)
		}
		if since := f.Since(); c.fails != nil && !since.Equal(before) || c.fails == nil && (since.Before(began) || since.After(time.Now())) {
			t.Errorf("%s: it is known since %v, which began at %v", c.name, since, began)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Look(t.Context(), func(context.Context) error { return nil }); err == nil {
		t.Error("a look at a database that is closed")
	}
}

func TestWhatIsAskedForDuringALookIsReadByTheNext(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "a.db"))
	f := db.Follow()
	for _, want := range []int{1, 2} {
		reads := 0
		for range want {
			err := f.Look(t.Context(), func(context.Context) error {
				if reads++; want == 2 && reads == 1 {
					f.Again()
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if f.Again(); reads != want {
			t.Errorf("%d looks read %d times", want, reads)
		}
	}
}

package auditlog_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/store"
)

func TestChangesOfManyWritersAreAllKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "events")
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			changes, err := auditlog.OpenChanges(dir) // as another process would
			if err != nil {
				t.Error(err)
				return
			}
			for i := range 10 {
				ch := auditlog.Change{Actor: fmt.Sprint("admin-", w), Action: "keys.create", Object: fmt.Sprint("key-", i), Detail: map[string]string{"note": "a\nb"}}
				if err := changes.Append(t.Context(), ch); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	changes, err := auditlog.OpenChanges(dir)
	if err != nil {
		t.Fatal(err)
	}
	got, err := changes.All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 40 {
		t.Errorf("%d changes, want 40", len(got))
	}
	for _, ch := range got {
		if time.Since(ch.Time) > time.Minute || ch.Detail["note"] != "a\nb" {
			t.Errorf("got %+v", ch)
		}
	}
}

func TestATornChangeIsWrittenOver(t *testing.T) {
	dir := t.TempDir()
	changes, err := auditlog.OpenChanges(dir)
	if err != nil {
		t.Fatal(err)
	}
	if none, err := changes.All(t.Context()); err != nil || none != nil {
		t.Fatal(none, err)
	}
	first := auditlog.Change{Actor: "root", Action: "keys.revoke", Object: "k1"}
	if err := changes.Append(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "changes.jsonl")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, append(b, `{"time":"2026-`...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := changes.Append(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if got, err := changes.All(t.Context()); err != nil || len(got) != 2 {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestAChangeThatCannotBeRecordedIsAnError(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "events")
	changes, err := auditlog.OpenChanges(dir)
	if err != nil {
		t.Fatal(err)
	}
	whole := auditlog.Change{Actor: "root", Action: "keys.revoke", Object: "k1"}
	for name, ch := range map[string]auditlog.Change{
		"nobody":  {Action: "keys.revoke", Object: "k1"},
		"nothing": {Actor: "root", Object: "k1"},
		"to none": {Actor: "root", Action: "keys.revoke"},
	} {
		if changes.Append(t.Context(), ch) == nil {
			t.Errorf("a change by/of/to %s is taken", name)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if changes.Append(cancelled, whole) == nil {
		t.Error("a cancelled change is taken")
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if changes.Append(t.Context(), whole) == nil {
		t.Error("a change is acknowledged without a folder")
	}
	if _, err := auditlog.OpenChanges(""); err == nil {
		t.Error("no folder is taken")
	}
}

// A record that calls failed what may be in force would be believed.
func TestWhatBecameOfACommitIsSaidAsItIsKnown(t *testing.T) {
	fails := errors.New("the disk is full")
	for _, c := range []struct {
		name, point string
		fault       error
		want        []string
	}{
		{"one that is done", "", nil, []string{"keys.revoke"}},
		{"one that failed", store.PointCommit, fails, []string{"keys.revoke", "keys.revoke.failed"}},
		{"one of which nobody heard the end", store.PointCommitted, fmt.Errorf("%w: %w", store.ErrUnknown, fails), []string{"keys.revoke", "keys.revoke.unknown"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			armed := false
			db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "g.db"), Fault: func(point string) error {
				if armed && point == c.point {
					return c.fault
				}
				return nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = db.Close() }()
			changes, err := auditlog.OpenChanges(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			armed = true
			err = auditlog.Commit(t.Context(), db, changes, "ann", "keys.revoke", func(*sql.Tx) (string, map[string]string, error) { return "k1", nil, nil })
			if !errors.Is(err, c.fault) {
				t.Errorf("error %v", err)
			}
			all, err := changes.All(t.Context())
			if err != nil || len(all) != len(c.want) {
				t.Fatalf("%+v %v", all, err)
			}
			for i, want := range c.want {
				if all[i].Action != want {
					t.Errorf("the record says %q, want %q", all[i].Action, want)
				}
			}
		})
	}
}

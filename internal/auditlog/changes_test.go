package auditlog_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/auditlog"
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

package fleet_test

import (
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/fleet"
)

func revision(t *testing.T, text string) *fleet.Revision {
	t.Helper()
	return must[*fleet.Revision](t)(fleet.NewRevision(map[string][]byte{"gatehouse.yaml": []byte(text)}))
}

func TestAPushThatCameTooLateIsNotRecorded(t *testing.T) {
	db, log := database(t, filepath.Join(t.TempDir(), "g.db")), changes(t)
	c := must[*fleet.Configs](t)(fleet.OpenConfigs(t.Context(), fleet.KeysConfig{DB: db, Key: first, Changes: log}))
	if err := c.Push(t.Context(), 0, "ann", revision(t, "a")); err != nil {
		t.Fatal(err)
	}
	if err := c.Push(t.Context(), 0, "bob", revision(t, "b")); !errors.Is(err, fleet.ErrPushed) {
		t.Errorf("error %v", err)
	}
	all, err := log.All(t.Context())
	if err != nil || len(all) != 1 || all[0].Actor != "ann" {
		t.Errorf("the record has %+v, %v", all, err)
	}
}

func TestARowOfANodeDoesNotUseUpTheNumbers(t *testing.T) {
	db := database(t, filepath.Join(t.TempDir(), "g.db"))
	c := must[*fleet.Configs](t)(fleet.OpenConfigs(t.Context(), fleet.KeysConfig{DB: db, Key: first, Changes: changes(t)}))
	if err := db.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), `INSERT INTO fleet_nodes (instance, name, home, shared, joined, beat, started, seen, facts)
			VALUES ('x', 'evil', 'h', 0, 1, 1, 0, 0, '{"revision":9223372036854775806}')`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := c.Push(t.Context(), 0, "ann", revision(t, "a")); err == nil || !strings.Contains(err.Error(), "evil") {
		t.Errorf("error %v", err)
	}
}

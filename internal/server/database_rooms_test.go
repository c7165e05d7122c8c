package server_test

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/server"
	"github.com/gatehouse-api/gatehouse/internal/store"
)

func TestEveryRoomWithTablesIsInABackup(t *testing.T) {
	folders, err := filepath.Glob("../*/migrations")
	if err != nil || len(folders) < 6 {
		t.Fatal(folders, err)
	}
	rooms := server.Rooms()
	for _, folder := range folders {
		name := filepath.Base(filepath.Dir(folder))
		if name == "demo" { // its orders are in a database of their own
			continue
		}
		if !slices.ContainsFunc(rooms, func(r store.Room) bool { return r.Name == name }) {
			t.Errorf("%s has tables, and db backup does not know it", name)
		}
	}
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "a.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for _, r := range rooms {
		if err := db.Migrate(t.Context(), r); err != nil {
			t.Error(err)
		}
	}
}

package storetest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/store"
)

// Variable of the environment that says which engine tests of rooms use: postgres,
// or SQLite when it is empty.
const Variable = "GATEHOUSE_TEST_DATABASE"

// private is the server of this process's tests; it ends with the process.
var private = sync.OnceValues(func() (*PostgresServer, error) { return startPostgres(context.Background()) })

// OnPostgres reports whether [At] means PostgreSQL.
func OnPostgres() bool {
	return os.Getenv(Variable) == "postgres" //nolint:forbidigo // a test's own setting, which children inherit
}

// At is the database that tests of a room name by a path: the SQLite file there,
// or one of PostgreSQL, the same for who asks with the same path, from a child
// process, too. It panics where there is no server though one was asked for.
func At(path string) store.Config {
	if !OnPostgres() {
		return store.Config{Path: path}
	}
	note := path + ".url"
	text, err := os.ReadFile(note)
	if err == nil {
		return store.Config{URL: gatehouse.NewSecret(string(text))}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		panic(err)
	}
	s, err := private()
	if err != nil {
		panic(err)
	}
	sum := sha256.Sum256([]byte(path))
	url, err := s.Database(context.Background(), "t"+hex.EncodeToString(sum[:12]))
	if err == nil {
		err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(note, []byte(url), 0o600))
	}
	if err != nil {
		panic(err)
	}
	return store.Config{URL: gatehouse.NewSecret(url)}
}

// OnlyAFile skips a test that looks at, or moves, the file of the database, and one
// whose clock is not the server's.
func OnlyAFile(t testing.TB, why string) {
	t.Helper()
	if OnPostgres() {
		t.Skip("not on PostgreSQL: " + why)
	}
}

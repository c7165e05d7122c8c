package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
)

func openURL(t testing.TB, url string) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{URL: gatehouse.NewSecret(url)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func TestPostgres(t *testing.T) {
	_, server := storetest.Postgres(t)
	names := map[string]string{}
	storetest.Run(t, func(t *testing.T, name string) *store.DB {
		if names[name] == "" {
			names[name] = fmt.Sprintf("db%d", len(names))
		}
		url, err := server.Database(t.Context(), names[name])
		if err != nil {
			t.Fatal(err)
		}
		return openURL(t, url)
	})
}

func TestTheURLOfADatabase(t *testing.T) {
	const password = "hunter2hunter2"
	for name, tt := range map[string]struct {
		url, want string // of the error; "": what follows is that nobody answers
	}{
		"plain beyond this machine":            {"postgres://u:" + password + "@db.example/x?sslmode=disable", "verify-full"},
		"what is tried when nothing is said":   {"postgres://u:" + password + "@db.example/x", "verify-full"},
		"TLS that anybody may speak":           {"postgres://u:" + password + "@db.example/x?sslmode=require", "verify-full"},
		"the first host safe, the second not":  {"postgres://u:" + password + "@127.0.0.1:1,db.example:5432/x?sslmode=disable", "verify-full"},
		"no URL":                               {"hello " + password, "postgres://"},
		"another scheme":                       {"mysql://u:" + password + "@127.0.0.1/x", "postgres://"},
		"a setting there is not":               {"postgres://u:" + password + "@127.0.0.1/x?sslmode=never", "postgres://"},
		"a password that was not escaped":      {"postgres://u:" + password + "/%zz@127.0.0.1/x", "postgres://"},
		"a password that ends like a host":     {"postgres://u:x@" + password + "/y@db.example/x?sslmode=disable", "postgres://"},
		"a password that ends like a name":     {"postgres://u:1/" + password + "@127.0.0.1:1/x", "postgres://"},
		"a password that becomes a query":      {"postgres://u:x@" + password + "?a=b@db.example/x", "postgres://"},
		"a password that becomes a fragment":   {"postgres://u:x@" + password + "#a@db.example/x", "postgres://"},
		"a loopback address where nobody is":   {"postgres://u:" + password + "@127.0.0.1:1/x", ""},
		"a socket that is not there":           {"postgres://u:" + password + "@/x?host=" + t.TempDir(), ""},
		"a name that must be proved":           {"postgres://u:" + password + "@127.0.0.1:1/x?sslmode=verify-full", ""},
		"a CA's certificate that is not there": {"postgres://u:" + password + "@db.example/x?sslmode=verify-full&sslrootcert=/nowhere.pem", "postgres://"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := store.Open(t.Context(), store.Config{URL: gatehouse.NewSecret(tt.url)})
			_, looked := store.Look(t.Context(), store.Config{URL: gatehouse.NewSecret(tt.url)})
			for _, err := range []error{err, looked} {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("error %v, want one with %q", err, tt.want)
				} else if strings.Contains(fmt.Sprintf("%v %+v %q", err, err, err.Error()), "hunter2") {
					t.Error("the error tells the password")
				}
			}
		})
	}
}

// TestNoCommitIsLostWithTheServer kills the server while four write.
func TestNoCommitIsLostWithTheServer(t *testing.T) {
	url, server := storetest.Postgres(t)
	db := openURL(t, url)
	if err := db.Migrate(t.Context(), pairs); err != nil {
		t.Fatal(err)
	}
	late := storetest.Late(t)
	var said [4]atomic.Int64 // the last number each was told is kept
	for round := range 3 {
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, len(said))
		for i := range said {
			go func() {
				for ctx.Err() == nil {
					n := said[i].Load() + 1
					at := time.Now()
					err := db.Write(ctx, func(tx *sql.Tx) error {
						for _, table := range []string{"lefts", "rights"} {
							// That the commit before was kept and not told is possible: then it is made again.
							if _, err := tx.ExecContext(ctx, `INSERT INTO `+table+` (n, filler) VALUES ($1, 'x') ON CONFLICT DO NOTHING`, int64(i)*1_000_000+n); err != nil {
								return err
							}
						}
						return nil
					})
					if took := time.Since(at); took > 8*time.Second+late() {
						t.Errorf("a write took %v", took)
					}
					if err != nil {
						done <- err
						return
					}
					said[i].Store(n)
				}
				done <- nil
			}()
		}
		enough := time.Now().Add(time.Minute)
		for start := said[0].Load(); said[0].Load() < start+20+int64(round)*13; time.Sleep(time.Millisecond) {
			if time.Now().After(enough) {
				t.Fatal("nothing is written")
			}
		}
		server.Kill()
		for range said {
			if err := <-done; err == nil {
				t.Error("a write succeeded without a server")
			}
		}
		stop()
		if _, err := db.Version(t.Context()); err == nil {
			t.Error("there is a version without a server")
		}
		if err := db.Read(t.Context(), func(*sql.Tx) error { return nil }); err == nil {
			t.Error("a read succeeded without a server")
		}
		server.Restart(t)
		if _, err := db.Version(t.Context()); err != nil {
			t.Errorf("the server is there again: %v", err)
		}
		if lefts, rights := one(t, db, `SELECT COUNT(*) FROM lefts`), one(t, db, `SELECT COUNT(*) FROM rights`); lefts != rights {
			t.Errorf("%d lefts and %d rights: a transaction is half there", lefts, rights)
		}
		for i := range said {
			from, told := int64(i)*1_000_000, said[i].Load()
			if n := one(t, db, `SELECT COUNT(*) FROM rights WHERE n > $1 AND n <= $2`, from, from+told); n != told {
				t.Errorf("round %d: of %d commits that were told %d are there", round, told, n)
			}
		}
	}
}

func TestAServerThatHangsIsAnError(t *testing.T) {
	url, server := storetest.Postgres(t)
	db := openURL(t, url)
	if err := db.Migrate(t.Context(), pairs); err != nil {
		t.Fatal(err)
	}
	before, err := db.Version(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	server.Stop()
	done := make(chan error, 3)
	late, start := storetest.Late(t), time.Now()
	go func() { _, err := db.Version(t.Context()); done <- err }()
	go func() { done <- execute(t, db, `INSERT INTO lefts (n, filler) VALUES (1, 'x')`) }()
	go func() {
		done <- db.Read(t.Context(), func(tx *sql.Tx) error {
			var n int
			return tx.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM lefts`).Scan(&n)
		})
	}()
	for range cap(done) {
		if err := <-done; err == nil {
			t.Error("something succeeded while the server hung")
		}
	}
	if took := time.Since(start); took > 15*time.Second+late() {
		t.Errorf("it took %v", took)
	}
	server.Cont()
	if after, err := db.Version(t.Context()); err != nil || after == before {
		t.Errorf("version %d, was %d: %v", after, before, err)
	}
	if err := execute(t, db, `INSERT INTO lefts (n, filler) VALUES (2, 'x')`); err != nil {
		t.Error(err)
	}
}

func TestAnotherDatabaseOfTheSameNameIsNoticed(t *testing.T) {
	url, server := storetest.Postgres(t)
	db := openURL(t, url)
	other, err := server.Database(t.Context(), "other")
	if err != nil {
		t.Fatal(err)
	}
	admin, err := sql.Open("pgx", other)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.Close() }()
	if _, err := admin.ExecContext(t.Context(), `DROP DATABASE gatehouse WITH (FORCE)`); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Version(t.Context()); err == nil {
		t.Error("a database that is gone has a version")
	}
	if _, err := server.Database(t.Context(), "gatehouse"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Version(t.Context()); !errors.Is(err, store.ErrReplaced) {
		t.Errorf("error %v, want ErrReplaced", err)
	}
	if err := db.Read(t.Context(), func(*sql.Tx) error { return nil }); !errors.Is(err, store.ErrReplaced) {
		t.Errorf("error %v, want ErrReplaced", err)
	}
}

func TestCommitsAreKeptWhateverTheServerSays(t *testing.T) {
	url, _ := storetest.Postgres(t)
	db := openURL(t, url+"&synchronous_commit=off&target_session_attrs=any")
	for setting, want := range map[string]string{"synchronous_commit": "on", "transaction_isolation": "serializable", "TimeZone": "UTC"} {
		err := db.Write(t.Context(), func(tx *sql.Tx) error {
			var got string
			if err := tx.QueryRowContext(t.Context(), `SHOW `+setting).Scan(&got); err != nil || got != want {
				t.Errorf("%s is %q (%v), want %q", setting, got, err, want)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestAFaultAtEachPointOfAWriteToPostgres(t *testing.T) {
	url, _ := storetest.Postgres(t)
	faultPoints(t, store.Config{URL: gatehouse.NewSecret(url)})
}

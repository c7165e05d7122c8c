package authn_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
)

// A roster is users whose standing a test changes.
type roster struct {
	mu      sync.Mutex
	version int64
	users   map[string]authn.Owner
	err     error
	asked   int // for how many ids
}

func (r *roster) OwnersVersion(context.Context) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.version, r.err
}

func (r *roster) Owners(_ context.Context, ids []string) (map[string]authn.Owner, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked += len(ids)
	all := map[string]authn.Owner{}
	for _, id := range ids {
		if u, ok := r.users[id]; ok {
			all[id] = u
		}
	}
	return all, r.err
}

// set makes id o; none deletes it.
func (r *roster) set(id string, o *authn.Owner) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.version++
	r.users = maps.Clone(r.users)
	if delete(r.users, id); o != nil {
		if r.users == nil {
			r.users = map[string]authn.Owner{}
		}
		r.users[id] = *o
	}
}

func (r *roster) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func active(roles ...string) *authn.Owner { return &authn.Owner{Active: true, Roles: roles} }

// commit makes the database another version, as any room's change does.
func (w *world) commit(t testing.TB) {
	t.Helper()
	db := must[*store.DB](t)(store.Open(t.Context(), storetest.At(w.path)))
	defer db.Close()
	execute(t, db, `CREATE TABLE IF NOT EXISTS other (n BIGINT)`)
	execute(t, db, `INSERT INTO other (n) VALUES (1)`)
}

func execute(t testing.TB, db *store.DB, statement string, args ...any) {
	t.Helper()
	err := db.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), statement, args...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAKeyFollowsItsOwner(t *testing.T) {
	for _, c := range []struct {
		name  string
		then  *authn.Owner
		opens bool
		roles []string
	}{
		{"who keeps everything keeps the key as it is", active("manager", "support", "more"), true, []string{"support", "manager"}},
		{"a role lost is lost to the key", active("manager"), true, []string{"manager"}},
		{"with all roles lost the key still says who it is", active(), true, nil},
		{"the key of a locked user is refused", &authn.Owner{Roles: []string{"support", "manager"}}, false, nil},
		{"the key of a deleted user is refused", nil, false, nil},
		{"the key of a user who moved to another tenant is refused", &authn.Owner{Active: true, Roles: []string{"support"}, Tenant: "t2"}, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, users := newWorld(t), &roster{}
			before := active("support", "manager")
			users.set("usr_1", before)
			w.keys.Follow(t.Context(), users)
			key, k := w.key(t, authn.NewKey{Owner: "usr_1", Roles: []string{"support", "manager"}})
			service, _ := w.key(t, authn.NewKey{Owner: "robot", Roles: []string{"support"}})
			run(t, w.keys)
			accept := w.accept(t, ways(byKey))
			has := func(key string) (roles []string, ok bool) {
				who, err := w.Authenticate(t.Context(), bearer(key), accept)
				if err != nil {
					wantProblem(t, who, err, gatehouse.Unauthenticated, "key_invalid")
					return nil, false
				}
				return who.Roles, true
			}
			if roles, ok := has(key); !ok || len(roles) != 2 {
				t.Fatalf("at first: %v %q", ok, roles)
			}
			users.set("usr_1", c.then)
			w.commit(t)
			within(t, time.Second, "the key follows", func() bool {
				roles, ok := has(key)
				return ok == c.opens && slices.Equal(roles, c.roles)
			})
			for _, listed := range must[[]authn.Key](t)(w.keys.List(t.Context())) {
				if want := listed.ID == k.ID && !c.opens; listed.Suspended != want || listed.Live(time.Now()) == want || listed.Ended(time.Now()) {
					t.Errorf("listed as %+v", listed)
				}
			}
			if roles, ok := has(service); !ok || len(roles) != 1 {
				t.Errorf("a service's key: %v %q", ok, roles)
			}
			users.set("usr_1", before)
			w.commit(t)
			within(t, time.Second, "the key has everything again", func() bool { roles, ok := has(key); return ok && len(roles) == 2 })
		})
	}
}

func TestWithoutOwnersTheKeyOfAUserIsRefused(t *testing.T) {
	w, users := newWorld(t), &roster{}
	users.set("usr_1", active())
	w.keys.Follow(t.Context(), users)
	key, _ := w.key(t, authn.NewKey{Owner: "usr_1"})
	accept := w.accept(t, ways(byKey))
	must[*gatehouse.Principal](t)(w.Authenticate(t.Context(), bearer(key), accept))
	w.keys.Follow(t.Context(), nil)
	who, err := w.Authenticate(t.Context(), bearer(key), accept)
	if p := wantProblem(t, who, err, gatehouse.Unauthenticated, "key_invalid"); !strings.Contains(p.Error(), "owner") {
		t.Errorf("cause %v", p)
	}
	w.keys.Follow(t.Context(), users)
	must[*gatehouse.Principal](t)(w.Authenticate(t.Context(), bearer(key), accept))
	// A house that was just opened knows nobody.
	w.Authenticator = must[*authn.Authenticator](t)(authn.New(authn.Config{Realm: "orders", Keys: openKeys(t, w.path, w.changes)}))
	who, err = w.Authenticate(t.Context(), bearer(key), w.accept(t, ways(byKey)))
	wantProblem(t, who, err, gatehouse.Unauthenticated, "key_invalid")
}

func TestOwnersWhoCanNotBeAskedRefuseAllKeysAfterFiveSeconds(t *testing.T) {
	w, users := newWorld(t), &roster{}
	users.set("usr_1", active())
	w.keys.Follow(t.Context(), users)
	key, _ := w.key(t, authn.NewKey{Owner: "usr_1"})
	service, _ := w.key(t, authn.NewKey{Owner: "robot"})
	reports, _ := run(t, w.keys)
	accept := w.accept(t, ways(byKey))
	down := errors.New("the table of users is gone")
	users.fail(down)
	w.commit(t)
	if err := <-reports; !errors.Is(err, down) {
		t.Fatalf("reported %v", err)
	}
	for _, key := range []string{key, service} {
		within(t, 7*time.Second, "the refusal", func() bool {
			who, err := w.Authenticate(t.Context(), bearer(key), accept)
			if err == nil {
				return false
			}
			wantProblem(t, who, err, gatehouse.Overloaded, "keys_unavailable")
			return true
		})
	}
	users.fail(nil)
	if err := <-reports; err != nil {
		t.Fatal(err)
	}
	must[*gatehouse.Principal](t)(w.Authenticate(t.Context(), bearer(key), accept))
}

func TestAKeyThatWouldOpenNothingIsNotMade(t *testing.T) {
	w, users := newWorld(t), &roster{}
	create := func(n authn.NewKey) error { _, _, err := w.keys.Create(t.Context(), "tester", n); return err }
	if err := create(authn.NewKey{Owner: "usr_1"}); !errors.Is(err, authn.ErrKeyRequest) {
		t.Errorf("for a user where there are none: %v", err)
	}
	users.set("usr_1", &authn.Owner{Active: true, Tenant: "t1"})
	users.set("usr_2", &authn.Owner{})
	w.keys.Follow(t.Context(), users)
	for what, n := range map[string]authn.NewKey{
		"of nobody": {Owner: "usr_3"}, "of a locked user": {Owner: "usr_2"}, "of another tenant": {Owner: "usr_1", Tenant: "t2"}, "of no tenant": {Owner: "usr_1"},
	} {
		if err := create(n); !errors.Is(err, authn.ErrKeyRequest) {
			t.Errorf("%s: %v", what, err)
		}
	}
	users.fail(errors.New("down"))
	if err := create(authn.NewKey{Owner: "usr_1", Tenant: "t1"}); err == nil || errors.Is(err, authn.ErrKeyRequest) {
		t.Errorf("while nobody can be asked: %v", err)
	}
	if n := len(must[[]authn.Key](t)(w.keys.List(t.Context()))); n != 0 {
		t.Errorf("%d keys were made", n)
	}
	users.fail(nil)
	if err := create(authn.NewKey{Owner: "usr_1", Tenant: "t1"}); err != nil {
		t.Error(err)
	}
}

func TestOwnersAreAskedOnlyWhenSomethingOfThemChanged(t *testing.T) {
	w, users := newWorld(t), &roster{}
	users.set("usr_1", active())
	users.set("usr_2", active())
	w.keys.Follow(t.Context(), users)
	w.key(t, authn.NewKey{Owner: "usr_1"})
	w.key(t, authn.NewKey{Owner: "usr_1"})
	look := func() {
		t.Helper()
		if err := w.keys.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	before := users.asked
	w.key(t, authn.NewKey{Owner: "robot"})
	w.commit(t)
	look()
	if users.asked != before {
		t.Errorf("asked for %d users for nothing", users.asked-before)
	}
	w.key(t, authn.NewKey{Owner: "usr_2"})
	if got := users.asked - before; got != 2 { // to make it, and to let it in
		t.Errorf("asked for %d users about one", got)
	}
	users.set("usr_1", active("support"))
	w.commit(t)
	look()
	if got := users.asked - before; got != 4 {
		t.Errorf("asked for %d users", got)
	}
}

func TestARemovedRowIsNoKeyAnyMore(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(t, authn.NewKey{})
	other, _ := w.key(t, authn.NewKey{})
	run(t, w.keys)
	accept := w.accept(t, ways(byKey))
	db := must[*store.DB](t)(store.Open(t.Context(), storetest.At(w.path)))
	t.Cleanup(func() { _ = db.Close() })
	execute(t, db, `DELETE FROM api_keys WHERE id = $1`, k.ID)
	within(t, time.Second, "the key is refused", func() bool {
		_, err := w.Authenticate(t.Context(), bearer(key), accept)
		return err != nil
	})
	must[*gatehouse.Principal](t)(w.Authenticate(t.Context(), bearer(other), accept))
}

// What 250 ms cost with 10,000 keys of as many users, by what was committed.
func BenchmarkLook(b *testing.B) {
	const n = 10_000
	w, users := newWorld(b), &roster{users: map[string]authn.Owner{}}
	for i := range n {
		users.users[fmt.Sprint("usr_", i)] = authn.Owner{Active: true, Roles: []string{"support"}}
	}
	db := must[*store.DB](b)(store.Open(b.Context(), storetest.At(filepath.Clean(w.path))))
	b.Cleanup(func() { _ = db.Close() })
	execute(b, db, `CREATE TABLE other (n BIGINT)`)
	err := db.Write(b.Context(), func(tx *sql.Tx) error {
		for i := range n {
			_, err := tx.ExecContext(b.Context(), `INSERT INTO api_keys (id, lineage, environment, sha256, owner, tenant, roles, scopes, note, created, created_by, expires,
				revoked, revoked_by, last_used, seq) VALUES ($1, $1, 'live', $2, $3, '', 'support', 'a b', 'n', 1, 'x', 0, 0, '', 0, $4)`,
				fmt.Sprintf("%012d", i), fmt.Sprintf("%064x", i), fmt.Sprint("usr_", i), i+1)
			if err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(b.Context(), `UPDATE api_keys_last SET seq = $1`, n)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	w.keys.Follow(b.Context(), users)
	if w.keys.Count() != n {
		b.Fatal(w.keys.Count())
	}
	for _, c := range []struct {
		name   string
		change func()
	}{
		{"nothing", func() {}},
		{"something else", func() { execute(b, db, `INSERT INTO other (n) VALUES (1)`) }},
		{"one key", func() {
			execute(b, db, `UPDATE api_keys SET note = 'm', seq = (SELECT seq + 1 FROM api_keys_last) WHERE id = '000000000007'`)
			execute(b, db, `UPDATE api_keys_last SET seq = seq + 1`)
		}},
		{"a user", func() { users.set("usr_7", active()); execute(b, db, `INSERT INTO other (n) VALUES (1)`) }},
		{"everything anew", func() { execute(b, db, `UPDATE api_keys_last SET seq = seq - 1`) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N { // not b.Loop: the commit is made beside
				b.StopTimer()
				c.change()
				b.StartTimer()
				if err := w.keys.Look(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

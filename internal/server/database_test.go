package server_test

import (
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
	"github.com/gatehouse-api/gatehouse/internal/server"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
)

// fleetOf are running nodes over one PostgreSQL and one Redis, with a key for the
// admin API.
func fleetOf(t *testing.T, n int) (nodes []*running, key string, engine *storetest.PostgresServer) {
	t.Helper()
	database, engine := storetest.Postgres(t)
	shared, _ := storetest.Redis(t)
	for i := range n {
		s := newSite(t, nil)
		s.write("fleet.key", strings.Repeat("not very random ", 4))
		s.write("database-url", database+"\n")
		s.write("shared-url", shared+"\n")
		s.write("gatehouse.yaml", s.config(withAdminAPI+
			"fleet: {key: \"${file:fleet.key}\"}\ndatabase: {url: \"${file:database-url}\"}\nshared: {url: \"${file:shared-url}\"}\n",
			`admin: {`, `admin: {api: {base: /gatehouse/v1}, `, `roles: {`, `roles: {root: ["*"], `))
		nodes = append(nodes, s.run(s.path(), func(o *server.Options) { o.Node = "n" + strconv.Itoa(i+1) }))
	}
	k := must[*server.KeyRing](t)(server.OpenKeyRing(t.Context(), nodes[0].path()))
	defer k.Close()
	secret, _, err := k.Create(t.Context(), "test", authn.NewKey{Owner: "root", Roles: []string{"root"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range nodes {
		until(t, "the key is known", 2*time.Second, func() bool { return r.manage(secret.Reveal(), "GET", "/users", "").StatusCode == 200 })
	}
	return nodes, secret.Reveal(), engine
}

func TestTwoNodesOverPostgresAreOneHouse(t *testing.T) {
	nodes, root, _ := fleetOf(t, 2)
	a, b := nodes[0], nodes[1]
	becomes := func(what string, status int, ask func() int) {
		t.Helper()
		begun := time.Now()
		until(t, what, time.Second, func() bool { return ask() == status })
		t.Logf("%s: %d after %v", what, status, time.Since(begun).Round(time.Millisecond))
	}
	user, _ := a.manage(root, "POST", "/users", `{"name":"ada","roles":["support"]}`).body["id"].(string)
	ring := must[*server.KeyRing](t)(server.OpenKeyRing(t.Context(), b.path()))
	defer ring.Close()
	create := func() (key, id string) {
		t.Helper()
		secret, k, err := ring.Create(t.Context(), "test", authn.NewKey{Owner: user, Roles: []string{"support"}})
		if err != nil {
			t.Fatal(err)
		}
		return secret.Reveal(), k.ID
	}
	at := func(r *running, key string) func() int {
		return func() int {
			status, _, _ := fetch(t, r.url+"/orders", "X-API-Key", key)
			return status
		}
	}
	one, id := create()
	two, _ := create()
	becomes("a key made beside b, at a", 200, at(a, one))
	becomes("the other, at b", 200, at(b, two))
	if err := ring.Revoke(t.Context(), "test", id); err != nil {
		t.Fatal(err)
	}
	becomes("a revoked key at a", 401, at(a, one))
	becomes("a revoked key at b", 401, at(b, one))
	if got := a.manage(root, "POST", "/users/"+user+"/lock", ""); got.StatusCode != 200 {
		t.Fatalf("lock: %d %s", got.StatusCode, got.text)
	}
	becomes("the key of a user locked at a, at b", 401, at(b, two))

	// Signing keys: what one signs the other takes, at once after a rotation, too.
	office := must[*server.Office](t)(server.OpenOffice(t.Context(), a.path()))
	defer office.Close()
	secret, _, err := office.OAuth.CreateClient(t.Context(), "test", "robot", oauth.Metadata{GrantTypes: []string{"client_credentials"}, Roles: []string{"support"}})
	if err != nil {
		t.Fatal(err)
	}
	until(t, "b knows the client", 2*time.Second, func() bool { return b.robot(secret.Reveal(), "") != "" })
	for range 2 {
		for _, pair := range [][2]*running{{a, b}, {b, a}} {
			if got := pair[1].orders("Bearer "+pair[0].robot(secret.Reveal(), ""), ""); got != 200 {
				t.Errorf("a token of the other node: %d", got)
			}
		}
		if err := office.RotateSigningKeys(t.Context(), "os:me"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKill9OfTheDatabaseLosesNothingThatWasAcknowledged kills PostgreSQL while both
// nodes take changes.
func TestKill9OfTheDatabaseLosesNothingThatWasAcknowledged(t *testing.T) {
	nodes, root, engine := fleetOf(t, 2)
	var mu sync.Mutex
	made := map[string]bool{}
	var stop atomic.Bool
	var work sync.WaitGroup
	for i, r := range nodes {
		for j := range 2 {
			work.Go(func() {
				for n := 0; !stop.Load(); n++ {
					name := "u" + strconv.Itoa(i) + "-" + strconv.Itoa(j) + "-" + strconv.Itoa(n)
					if a := r.manage(root, "POST", "/users", `{"name":"`+name+`"}`); a.StatusCode == http.StatusCreated {
						id, _ := a.body["id"].(string)
						mu.Lock()
						made[id] = true
						mu.Unlock()
					}
				}
			})
		}
	}
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(made) }
	until(t, "twenty are made", 20*time.Second, func() bool { return count() >= 20 })
	engine.Kill()
	before := count()
	for _, r := range nodes {
		until(t, "node refuses while the database is away", 10*time.Second, func() bool {
			status, _, _ := fetch(t, r.url+"/orders", "X-API-Key", root)
			return status == http.StatusServiceUnavailable
		})
		if status, _, _ := fetch(t, r.url+"/health"); status != http.StatusOK {
			t.Errorf("what asks for nobody: %d", status)
		}
	}
	engine.Restart(t)
	for i, r := range nodes { // without hands
		until(t, "a node takes changes again", 20*time.Second, func() bool {
			return r.manage(root, "POST", "/users", `{"name":"after-`+strconv.Itoa(i)+`"}`).StatusCode == http.StatusCreated
		})
	}
	until(t, "the others go on", 20*time.Second, func() bool { return count() >= before+8 })
	stop.Store(true)
	work.Wait()
	for id := range made {
		for _, r := range nodes {
			if a := r.manage(root, "GET", "/users/"+id, ""); a.StatusCode != http.StatusOK {
				t.Fatalf("%s was acknowledged and is not there: %d %s", id, a.StatusCode, a.text)
			}
		}
	}
	t.Logf("%d changes, %d of them before", len(made), before)
	for _, r := range nodes {
		if log := r.log.String(); strings.Contains(log, "postgres://") {
			t.Error("the URL is in the log")
		}
	}
}

func TestADatabaseThatCanNotBeHadIsAnErrorWithItsPlace(t *testing.T) {
	for name, c := range map[string]struct{ url, want string }{
		"beyond this machine without TLS": {"postgres://user:s3cret-word@db.example/gatehouse?sslmode=disable", "verify-full"},
		"no URL":                          {"s3cret-word", "can not be read"},
		"nobody is there":                 {"postgres://user:s3cret-word@127.0.0.1:1/gatehouse?sslmode=disable", "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, nil)
			s.write("fleet.key", strings.Repeat("not very random ", 4))
			s.write("database-url", c.url)
			s.write("gatehouse.yaml", s.config("fleet: {key: \"${file:fleet.key}\"}\ndatabase: {url: \"${file:./database-url}\"}\n"))
			err := server.Run(t.Context(), server.Options{Config: s.path(), Log: slog.New(slog.DiscardHandler)})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "gatehouse.yaml:") || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("said %v", err)
			}
		})
	}
}

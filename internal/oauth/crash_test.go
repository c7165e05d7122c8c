package oauth_test

import (
	"bufio"
	"crypto/rand"
	"database/sql"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// The test binary starts itself again to be killed.
const (
	crashDir     = "OAUTH_TEST_CRASH"         // where
	crashPoint   = "OAUTH_TEST_CRASH_POINT"   // at which write it kills itself; 0: others do it
	crashWorkers = "OAUTH_TEST_CRASH_WORKERS" // how many at once
)

// crashHouse is a house whose data is all in dir.
func crashHouse(t *testing.T, dir string, fault func(string) error) *house {
	t.Helper()
	at := storetest.At(filepath.Join(dir, "gatehouse.db"))
	at.Fault = fault
	db, err := store.Open(t.Context(), at)
	ok(t, err)
	t.Cleanup(func() { _ = db.Close() })
	seal, err := token.OpenSealer(token.Files(dir), "seal.json")
	ok(t, err)
	keys, err := token.OpenKeyring(token.Files(dir), "keys", token.ES256)
	ok(t, err)
	changes, err := auditlog.OpenChanges(filepath.Join(dir, "log"))
	ok(t, err)
	people, err := identity.Open(t.Context(), identity.Config{DB: db, Seal: seal, Log: changes, Issuer: issuer})
	ok(t, err)
	s, err := oauth.New(t.Context(), oauth.Config{
		Issuer: issuer, DB: db, Keys: keys, Seal: seal, People: people, Log: changes, RefreshGrace: time.Hour, CodeLife: 5 * time.Minute,
		Scopes:    map[string]string{"orders:read": "See your orders"},
		Resources: []oauth.Resource{{ID: orders, Name: "Orders", Scopes: []string{"orders:read"}}},
	})
	ok(t, err)
	return &house{Server: s, t: t, db: db, people: people, keys: keys, seal: seal, handler: s.Handler(), secrets: map[string]string{}}
}

// TestKilledAtWork is no test but what the tests below kill: it makes clients,
// users, codes and tokens, ends some of them, and says each once it was answered.
func TestKilledAtWork(t *testing.T) {
	dir := os.Getenv(crashDir)
	if dir == "" {
		t.Skip("only for the tests that kill it")
	}
	point, err1 := strconv.ParseInt(os.Getenv(crashPoint), 10, 64)
	workers, err2 := strconv.Atoi(os.Getenv(crashWorkers))
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	var working atomic.Bool
	var done atomic.Int64
	h := crashHouse(t, dir, func(what string) error {
		if point > 0 && working.Load() && !strings.HasPrefix(what, "SELECT") && !strings.HasPrefix(what, "PRAGMA") && what != store.PointBegin && done.Add(1) == point {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return nil
	})
	working.Store(true)
	client := "app" + strings.ToLower(rand.Text()[:10])
	h.client(client, func(m *oauth.Metadata) { m.Scope = "orders:read" })
	fmt.Println("client", client, h.secrets[client])
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for i := 0; ; i++ {
				h.journey(client, i)
				if point > 0 && i == 1 {
					fmt.Println("end") // of both kinds of journey: there is no further point
					_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				}
			}
		})
	}
	all.Wait()
}

// journey is one user's, from its making to its end.
func (h *house) journey(client string, i int) {
	ctx := h.t.Context()
	id := strings.ToLower(rand.Text()[:16])
	u, err := h.people.Create(ctx, "child", identity.NewUser{Name: id, Email: id + "@example.org", Roles: []string{"clerk"}})
	if err != nil {
		panic(err)
	}
	fmt.Println("user", id, u.ID)
	<-time.After(2 * time.Millisecond)
	cookie, _, err := h.people.Start(ctx, &identity.Login{User: u.ID, ACR: identity.ACRPassword, AMR: []string{"pwd"}, AuthTime: time.Now()}, identity.Origin{})
	if err != nil {
		panic(err)
	}
	b := h.browser()
	b.cookies["__Host-gatehouse"] = cookie.Reveal()
	code := b.authorize(request(client, "scope", "orders:read")).back().Get("code")
	if code == "" {
		panic("no code")
	}
	fmt.Println("code", id, code)
	a := h.token(client, redeem(code))
	if a.text("refresh_token") == "" {
		panic(a.Body.String())
	}
	fmt.Println("token", id, a.text("refresh_token"))
	for range 2 {
		if a = h.token(client, refresh(a.text("refresh_token"))); a.text("refresh_token") == "" {
			panic(a.Body.String())
		}
		fmt.Println("token", id, a.text("refresh_token"))
	}
	if i%2 == 0 {
		err = h.people.Lock(ctx, "child", u.ID, "because")
	} else {
		var list []oauth.Grant
		if list, err = h.Grants(ctx, u.ID); err == nil {
			err = h.RevokeGrant(ctx, "child", list[0].ID)
		}
	}
	if err != nil {
		panic(err)
	}
	fmt.Println("ended", id, "-")
}

// A life is what was said of one journey.
type life struct {
	user, code, token string
	ended             bool
}

// killed runs the child until it dies, by its own hand at point or by ours after
// it said lines, and returns its client and what it said. over is true when it
// came to the end of its work.
func killed(t *testing.T, dir string, point, workers, lines int) (client, secret string, lives map[string]*life, over bool) {
	t.Helper()
	storetest.At(filepath.Join(dir, "gatehouse.db")) // before the child, whose server would end with it
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledAtWork$")
	child.Env = append(os.Environ(), crashDir+"="+dir, crashPoint+"="+strconv.Itoa(point), crashWorkers+"="+strconv.Itoa(workers))
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	ok(t, err)
	ok(t, child.Start())
	lives = map[string]*life{}
	said := bufio.NewScanner(out)
	for n := 1; said.Scan(); n++ {
		if n == lines { // it goes on while it is killed, and what it still says counts
			ok(t, child.Process.Kill())
		}
		words := strings.Fields(said.Text())
		switch {
		case len(words) == 1 && words[0] == "end":
			over = true
		case len(words) != 3:
		case words[0] == "client":
			client, secret = words[1], words[2]
		case words[0] == "user":
			lives[words[1]] = &life{user: words[2]}
		case lives[words[1]] == nil:
			t.Fatalf("%q of nobody", said.Text())
		case words[0] == "code":
			lives[words[1]].code = words[2]
		case words[0] == "token":
			lives[words[1]].token = words[2]
		case words[0] == "ended":
			lives[words[1]].ended = true
		}
	}
	_ = child.Wait()
	if status, is := child.ProcessState.Sys().(syscall.WaitStatus); !is || status.Signal() != syscall.SIGKILL {
		t.Fatalf("the child was not killed: %v", child.ProcessState)
	}
	return client, secret, lives, over
}

// verify opens what a killed process left, and wants all of what it had said, no
// more than one living successor in any family, and every code used once.
func verify(t *testing.T, dir, client, secret string, lives map[string]*life) {
	t.Helper()
	h := crashHouse(t, dir, nil)
	changes, err := auditlog.OpenChanges(filepath.Join(dir, "log"))
	ok(t, err)
	list, err := changes.All(t.Context())
	ok(t, err)
	logged := map[string]bool{}
	for _, c := range list {
		logged[c.Action+" "+c.Object] = true
	}
	clients, err := h.Clients(t.Context())
	ok(t, err)
	for _, c := range clients { // also one nobody was told of
		if !logged["clients.create "+c.ID] {
			t.Errorf("client %s is there and not in the log", c.ID)
		}
	}
	users, _, err := h.people.Users(t.Context(), identity.Query{Limit: 1000})
	ok(t, err)
	for _, u := range users {
		if !logged["users.create "+u.ID] || !u.Active && !logged["users.lock "+u.ID] {
			t.Errorf("user %s, active: %v, is not so in the log", u.ID, u.Active)
		}
	}
	var check string
	ok(t, h.db.Read(t.Context(), func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(t.Context(), `SELECT id FROM grants WHERE revoked <> 0 AND client = $1`, client)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				return err
			}
			if !logged["grants.revoke "+id] {
				t.Errorf("grant %s has ended and the log does not say so", id)
			}
		}
		if err := rows.Err(); err != nil || storetest.OnPostgres() {
			check = "ok"
			return err
		}
		return tx.QueryRowContext(t.Context(), `PRAGMA integrity_check`).Scan(&check)
	}))
	if check != "ok" {
		t.Errorf("the database: %s", check)
	}
	if client == "" {
		return // nothing was made with a client nobody knows
	}
	h.secrets[client] = secret
	for id, l := range lives {
		u, err := h.people.User(t.Context(), l.user)
		if err != nil {
			t.Errorf("user %s is lost: %v", id, err)
			continue
		}
		switch {
		case l.ended:
			if u.Active && !logged["grants.revoke "+h.grantOf(l.user)] {
				t.Errorf("%s: its end is not in the log", id)
			}
			wantError(t, h.token(client, refresh(l.token)), 400, "invalid_grant")
			wantError(t, h.token(client, redeem(l.code)), 400, "invalid_grant")
		case l.token != "":
			h.oneSuccessor(client, id, l, u.Active)
		case l.code != "":
			first := h.token(client, redeem(l.code))
			if first.Code != 200 {
				wantError(t, first, 400, "invalid_grant") // it was used up, and nobody heard the answer
			}
			wantError(t, h.token(client, redeem(l.code)), 400, "invalid_grant")
			if first.Code == 200 {
				wantError(t, h.token(client, refresh(first.text("refresh_token"))), 400, "invalid_grant")
			}
		}
	}
}

// oneSuccessor shows the last token that was heard of twice.
func (h *house) oneSuccessor(client, id string, l *life, active bool) {
	h.t.Helper()
	a := h.token(client, refresh(l.token))
	if a.Code != 200 {
		// Only if its end was written, and not heard of.
		wantError(h.t, a, 400, "invalid_grant")
		if active && h.count(`SELECT COUNT(*) FROM grants WHERE id = $1 AND revoked <> 0`, h.grantOf(l.user)) != 1 {
			h.t.Errorf("%s: the token it was given is lost: %s", id, a.Body)
		}
		return
	}
	b := h.token(client, refresh(l.token))
	if b.text("refresh_token") != a.text("refresh_token") {
		h.t.Errorf("%s: two successors", id)
	}
	next := h.token(client, refresh(a.text("refresh_token")))
	if next.Code != 200 {
		h.t.Errorf("%s: its successor is not good: %s", id, next.Body)
	}
	wantError(h.t, h.token(client, redeem(l.code)), 400, "invalid_grant") // and ends the family
	wantError(h.t, h.token(client, refresh(next.text("refresh_token"))), 400, "invalid_grant")
}

func (h *house) grantOf(user string) (id string) {
	h.t.Helper()
	ok(h.t, h.db.Read(h.t.Context(), func(tx *sql.Tx) error {
		return tx.QueryRowContext(h.t.Context(), `SELECT id FROM grants WHERE user_id = $1`, user).Scan(&id)
	}))
	return id
}

// TestKill9BeforeEachWrite kills a process before its first, its second, its third
// … statement that changes something, and before and after each commit.
func TestKill9BeforeEachWrite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for point, over := 1, false; !over; point++ {
		t.Run("write "+strconv.Itoa(point), func(t *testing.T) {
			var lives map[string]*life
			var client, secret string
			client, secret, lives, over = killed(t, dir, point, 1, 0)
			verify(t, dir, client, secret, lives)
		})
		if t.Failed() || point > 200 {
			t.Fatal("enough")
		}
	}
}

// TestKill9AtAnyTime kills a process whose eight workers share transactions, after
// some work and anywhere in it.
func TestKill9AtAnyTime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for range 5 {
		n, err := rand.Int(rand.Reader, big.NewInt(150))
		ok(t, err)
		t.Run("after "+n.String()+" answers", func(t *testing.T) {
			client, secret, lives, _ := killed(t, dir, 0, 8, 2+int(n.Int64()))
			verify(t, dir, client, secret, lives)
		})
	}
}

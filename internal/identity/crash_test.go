package identity_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// The test binary starts itself again to be killed.
const crashVariable = "IDENTITY_TEST_CRASH"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashVariable); dir != "" {
		changeUntilKilled(dir)
		return
	}
	os.Exit(m.Run())
}

// changeUntilKilled makes users, queues a mail for each, locks every second one,
// and says the name of each user after that was acknowledged.
func changeUntilKilled(dir string) {
	ctx := context.Background()
	d := must(identity.Open(ctx, crashConfig(ctx, dir)))
	begin := time.Now().UnixNano()
	for i := 0; ; i++ {
		name := fmt.Sprintf("user%d.%d", begin, i)
		u := must(d.Create(ctx, "child", identity.NewUser{Name: name, Email: name + "@example.com"}))
		if err := d.SendVerification(ctx, u.ID); err != nil {
			panic(err)
		}
		if i%2 == 1 {
			if err := d.Lock(ctx, "child", u.ID, "because"); err != nil {
				panic(err)
			}
		}
		if _, err := fmt.Println(u.ID, u.Email, i%2 == 1); err != nil {
			return // the reader is gone
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func crashConfig(ctx context.Context, dir string) identity.Config {
	return identity.Config{
		DB:     must(store.Open(ctx, storetest.At(filepath.Join(dir, "gatehouse.db")))),
		Log:    must(auditlog.OpenChanges(filepath.Join(dir, "events"))),
		Seal:   must(token.OpenSealer(token.Files(dir), "seal.json")),
		Issuer: "https://id.example.com",
		Mail:   must(identity.NewOutbox(filepath.Join(dir, "outbox"))),
	}
}

func TestWhatWasAcknowledgedOutlivesKill9(t *testing.T) {
	dir := t.TempDir()
	storetest.At(filepath.Join(dir, "gatehouse.db")) // before the child, whose server would end with it
	locked := map[string]bool{}                      // by id
	waiting := map[string]bool{}                     // addresses
	for round := range 3 {
		child := exec.CommandContext(t.Context(), os.Args[0])
		child.Env = append(os.Environ(), crashVariable+"="+dir)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		said := bufio.NewScanner(out)
		for i := 0; i < 15+7*round && said.Scan(); i++ {
			remember(t, said.Text(), locked, waiting)
		}
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for said.Scan() { // what it said before it died
			remember(t, said.Text(), locked, waiting)
		}
		_ = child.Wait()
	}
	if len(locked) < 60 {
		t.Fatalf("only %d users were acknowledged", len(locked))
	}

	cfg := crashConfig(t.Context(), dir)
	t.Cleanup(func() { _ = cfg.DB.Close() })
	d, err := identity.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	logged := map[string]string{}
	for _, c := range must(must(auditlog.OpenChanges(filepath.Join(dir, "events"))).All(t.Context())) {
		logged[c.Object] += c.Action + " "
	}
	for id, locked := range locked {
		u, err := d.User(t.Context(), id)
		if err != nil {
			t.Errorf("%s is lost: %v", id, err)
			continue
		}
		if u.Active == locked || locked != d.Revoked(&token.Claims{Subject: id, IssuedAt: u.Created}) {
			t.Errorf("%s: locked %v, got %+v", id, locked, u)
		}
		want := "users.create "
		if locked {
			want += "users.lock "
		}
		if logged[id] != want {
			t.Errorf("%s: logged %q", id, logged[id])
		}
	}
	users, total, err := d.Users(t.Context(), identity.Query{Limit: 1000})
	if err != nil || total != len(users) {
		t.Fatalf("%d of %d users, %v", len(users), total, err)
	}
	for _, u := range users { // also one nobody was told of
		if logged[u.ID] == "" {
			t.Errorf("%s exists and is not logged", u.ID)
		}
	}

	run(t, d, nil)
	until(t, "every mail is sent", 20*time.Second, func() bool {
		files, err := filepath.Glob(filepath.Join(dir, "outbox", "*.eml"))
		if err != nil || len(files) < len(waiting) {
			return false
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			header, _ := read(t, string(b))
			delete(waiting, strings.Trim(header.Get("To"), "<>"))
		}
		return len(waiting) == 0
	})
}

func remember(t *testing.T, said string, locked, waiting map[string]bool) {
	t.Helper()
	words := strings.Fields(said)
	if len(words) != 3 {
		return // cut by the kill
	}
	locked[words[0]] = words[2] == "true"
	waiting[words[1]] = true
}

// TestAMailTakenOnByADeadSenderIsSent: the row says that somebody sends it, and
// nobody does.
func TestAMailTakenOnByADeadSenderIsSent(t *testing.T) {
	h, box := postedHouse(t)
	u := h.create(t, identity.NewUser{Name: "bob", Email: "bob@example.com"})
	box.set(errors.New("the server is away"))
	wantErr(t, h.SendVerification(t.Context(), u.ID), nil)
	until(t, "it is tried", 5*time.Second, func() bool { _, tries := box.counts(); return tries == 1 })
	until(t, "it waits", 5*time.Second, func() bool {
		return h.count(t, `SELECT COUNT(*) FROM outbox WHERE due < $1`, time.Now().Add(time.Minute).UnixMilli()) == 1
	})
	box.set(nil)
	h.exec(t, `UPDATE outbox SET due = $1, tries = tries + 1`, time.Now().Add(1500*time.Millisecond).UnixMilli()) // the rest of a lease
	if to, _, _ := box.code(t, 1); to != "bob@example.com" {
		t.Errorf("to %s", to)
	}
}

package authn_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
)

const childVariable = "GATEHOUSE_AUTHN_TEST_MAKER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		fmt.Fprintln(os.Stderr, makeKeysForever(dir)) // until killed
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func makeKeysForever(dir string) error {
	ctx := context.Background()
	db, err := store.Open(ctx, storetest.At(filepath.Join(dir, "gatehouse.db")))
	if err != nil {
		return err
	}
	changes, err := auditlog.OpenChanges(dir)
	if err != nil {
		return err
	}
	keys, err := authn.NewKeys(ctx, authn.KeysConfig{DB: db, Environment: "live", Log: changes})
	if err != nil {
		return err
	}
	for {
		_, key, err := keys.Create(ctx, "tester", authn.NewKey{Owner: "robot", Scopes: []string{"orders:read"}, Life: time.Hour})
		if err == nil {
			_, key, err = keys.Rotate(ctx, "tester", key.ID, time.Minute)
		}
		if err == nil {
			err = keys.Revoke(ctx, "tester", key.ID)
		}
		if err != nil {
			return err
		}
		fmt.Println(key.ID)
	}
}

func TestKill9WhileKeysAreMadeLeavesNothingHalfDone(t *testing.T) {
	dir := t.TempDir()
	storetest.At(filepath.Join(dir, "gatehouse.db")) // before the child, whose server would end with it
	for round := range 2 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env, cmd.Stderr = append(os.Environ(), childVariable+"="+dir), os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var said []string
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if said = append(said, lines.Text()); len(said) == 7+round*4 {
				_ = cmd.Process.Kill()
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}
		changes := must[*auditlog.Changes](t)(auditlog.OpenChanges(dir))
		logged := map[string][]string{}
		for _, c := range must[[]auditlog.Change](t)(changes.All(t.Context())) {
			logged[c.Object] = append(logged[c.Object], c.Action)
		}
		rows := map[string]authn.Key{}
		for _, k := range must[[]authn.Key](t)(openKeys(t, filepath.Join(dir, "gatehouse.db"), changes).List(t.Context())) {
			rows[k.ID] = k
		}
		for _, id := range said {
			if rows[id].Revoked.IsZero() {
				t.Errorf("round %d: key %s was said to be revoked and is not", round, id)
			}
		}
		for id, k := range rows {
			if len(logged[id]) == 0 || !k.Revoked.IsZero() && !slices.Contains(logged[id], "keys.revoke") {
				t.Errorf("round %d: key %s was changed without a record: %q", round, id, logged[id])
			}
			if k.Owner != "robot" || len(k.Scopes) != 1 || k.Expires.IsZero() {
				t.Errorf("round %d: half a key: %+v", round, k)
			}
		}
	}
}

var keyPattern = regexp.MustCompile(`^` + authn.KeyPattern + `$`)

func TestTheFormOfAKey(t *testing.T) {
	w := newWorld(t)
	seen := map[string]bool{}
	for range 20 {
		key, k := w.key(t, authn.NewKey{})
		if !keyPattern.MatchString(key) || !authn.WellFormedKey(key) || !strings.HasPrefix(key, "gk_live_"+k.ID+"_") || seen[key] {
			t.Errorf("key %q of %s", key, k.ID)
		}
		seen[key] = true
	}
	// Computed apart (zlib.crc32 of all before the last underscore, base62).
	const known = "gk_test_0123456789AB_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg_"
	const knownSum = "3KgAYO"
	for key, ok := range map[string]bool{
		known + knownSum: true, known + "000000": false, known + strings.ToLower(knownSum): false, known: false, " " + known + knownSum: false,
		known + knownSum + "\n": false, strings.Replace(known, "gk_", "GK_", 1) + knownSum: false, "": false, "gk_": false,
	} {
		if authn.WellFormedKey(key) != ok {
			t.Errorf("%q: well formed is %v, want %v", key, !ok, ok)
		}
	}
}

func TestEveryChangeOfAKeyIsRefused(t *testing.T) {
	w := newWorld(t)
	key, _ := w.key(t, authn.NewKey{})
	accept := w.accept(t, ways(byKey))
	for i := range len(key) {
		for _, c := range []byte("0zA_ \x00\xff") {
			if key[i] == c {
				continue
			}
			changed := key[:i] + string(c) + key[i+1:]
			who, err := w.Authenticate(t.Context(), request("X-API-Key", changed), accept)
			wantProblem(t, who, err, gatehouse.Unauthenticated, "key_invalid")
		}
		who, err := w.Authenticate(t.Context(), request("X-API-Key", key[:i]), accept)
		wantProblem(t, who, err, gatehouse.Unauthenticated, "key_invalid")
	}
}

func TestTheDatabaseDoesNotHoldTheKey(t *testing.T) {
	storetest.OnlyAFile(t, "it reads the file")
	w := newWorld(t)
	key, _ := w.key(t, authn.NewKey{})
	random := strings.Split(key, "_")[3]
	for _, name := range []string{w.path, w.path + "-wal", filepath.Join(filepath.Dir(w.path), "changes.jsonl")} {
		if strings.Contains(string(must[[]byte](t)(os.ReadFile(name))), random) {
			t.Errorf("%s holds the key", filepath.Base(name))
		}
	}
}

func TestThePrincipalOfAKey(t *testing.T) {
	w := newWorld(t)
	key, k := w.key(t, authn.NewKey{Owner: "robot", Tenant: "t1", Roles: []string{"support"}, Scopes: []string{"a", "b"}, Note: "nightly", Life: time.Hour})
	who := must[*gatehouse.Principal](t)(w.Authenticate(t.Context(), bearer(key), w.accept(t, ways(byKey))))
	if who.Subject != "robot" || who.Issuer != "keys" || who.Tenant != "t1" || !slices.Equal(who.Roles, []string{"support"}) ||
		!slices.Equal(who.Scopes, []string{"a", "b"}) || who.Method != gatehouse.MethodAPIKey || who.KeyID != k.ID || !who.Expires.Equal(k.Expires) {
		t.Errorf("got %+v", who)
	}
	listed := must[[]authn.Key](t)(w.keys.List(t.Context()))
	if len(listed) != 1 || listed[0].Note != "nightly" || listed[0].CreatedBy != "tester" || !listed[0].Live(time.Now()) || listed[0].Live(time.Now().Add(2*time.Hour)) {
		t.Errorf("listed %+v", listed)
	}
}

func TestCreateRefuses(t *testing.T) {
	w := newWorld(t)
	for name, n := range map[string]authn.NewKey{
		"an owner read backwards":     {Owner: "billing\u202egnp"},
		"an escape for a terminal":    {Owner: "a", Note: "\u009b2J"},
		"nobody as owner":             {},
		"an owner with a line break":  {Owner: "a\nb"},
		"an owner that is not UTF-8":  {Owner: "a\xff"},
		"a scope with a space":        {Owner: "a", Scopes: []string{"a b"}},
		"an empty scope":              {Owner: "a", Scopes: []string{""}},
		"a scope twice":               {Owner: "a", Scopes: []string{"a", "a"}},
		"a role with a space":         {Owner: "a", Roles: []string{"a b"}},
		"a life that is over":         {Owner: "a", Life: -time.Second},
		"a note longer than a tweet ": {Owner: "a", Note: strings.Repeat("x", 300)},
	} {
		if _, _, err := w.keys.Create(t.Context(), "tester", n); !errors.Is(err, authn.ErrKeyRequest) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if _, _, err := w.keys.Create(t.Context(), "", authn.NewKey{Owner: "a"}); !errors.Is(err, authn.ErrKeyRequest) {
		t.Errorf("nobody as actor: error %v", err)
	}
	if n := len(must[[]authn.Key](t)(w.keys.List(t.Context()))); n != 0 {
		t.Errorf("%d keys were made", n)
	}
}

func TestRotate(t *testing.T) {
	w := newWorld(t)
	accept := w.accept(t, ways(byKey))
	opens := func(key string) bool {
		_, err := w.Authenticate(t.Context(), bearer(key), accept)
		return err == nil
	}
	first, k1 := w.key(t, authn.NewKey{Owner: "robot", Tenant: "t1", Roles: []string{"support"}, Scopes: []string{"a"}, Note: "n", Life: 48 * time.Hour})
	secret, k2, err := w.keys.Rotate(t.Context(), "tester", k1.ID, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if !opens(first) || !opens(secret.Reveal()) {
		t.Error("during the overlap both keys must open")
	}
	if k2.Lineage != k1.ID || k2.Owner != "robot" || k2.Tenant != "t1" || !slices.Equal(k2.Scopes, k1.Scopes) || !slices.Equal(k2.Roles, k1.Roles) ||
		k2.Note != "n" || k2.Expires.Sub(k2.Created) != 48*time.Hour {
		t.Errorf("the second key is %+v", k2)
	}
	for _, id := range []string{k1.ID, k2.ID} {
		if _, _, err := w.keys.Rotate(t.Context(), "tester", id, time.Hour); !errors.Is(err, authn.ErrKeyTwoLive) {
			t.Errorf("a third live key: error %v", err)
		}
	}
	if err := w.keys.Revoke(t.Context(), "tester", k1.ID); err != nil {
		t.Fatal(err)
	}
	third, k3, err := w.keys.Rotate(t.Context(), "tester", k2.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	if opens(first) || opens(secret.Reveal()) || !opens(third.Reveal()) {
		t.Error("without an overlap only the newest key opens")
	}
	if k3.Lineage != k1.ID {
		t.Errorf("lineage %s, want %s", k3.Lineage, k1.ID)
	}
	if _, _, err := w.keys.Rotate(t.Context(), "tester", k1.ID, 0); !errors.Is(err, authn.ErrKeyDead) {
		t.Errorf("a revoked key: error %v", err)
	}
	if _, _, err := w.keys.Rotate(t.Context(), "tester", "nobody", 0); !errors.Is(err, authn.ErrKeyUnknown) {
		t.Errorf("an unknown key: error %v", err)
	}
	for _, overlap := range []time.Duration{-1, 91 * 24 * time.Hour} {
		if _, _, err := w.keys.Rotate(t.Context(), "tester", k3.ID, overlap); !errors.Is(err, authn.ErrKeyRequest) {
			t.Errorf("overlap %v: error %v", overlap, err)
		}
	}
}

func TestTwoRotationsAtOnceMakeOneKey(t *testing.T) {
	w := newWorld(t)
	other := openKeys(t, w.path, w.changes)
	_, k := w.key(t, authn.NewKey{})
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i, keys := range []*authn.Keys{w.keys, other, w.keys, other} {
		wg.Go(func() { _, _, errs[i] = keys.Rotate(t.Context(), "tester", k.ID, time.Hour) })
	}
	wg.Wait()
	done := 0
	for _, err := range errs {
		if err == nil {
			done++
		} else if !errors.Is(err, authn.ErrKeyTwoLive) {
			t.Error(err)
		}
	}
	if n := len(must[[]authn.Key](t)(w.keys.List(t.Context()))); done != 1 || n != 2 {
		t.Errorf("%d rotations succeeded, %d keys", done, n)
	}
}

func TestChangesAreLoggedOrNotDone(t *testing.T) {
	log := &failingLog{}
	keys := openKeys(t, filepath.Join(t.TempDir(), "a.db"), log)
	_, k, err := keys.Create(t.Context(), "ann", authn.NewKey{Owner: "robot", Scopes: []string{"a"}})
	if err != nil {
		t.Fatal(err)
	}
	log.err = errors.New("disk full")
	if _, _, err := keys.Create(t.Context(), "ann", authn.NewKey{Owner: "robot"}); !errors.Is(err, log.err) {
		t.Errorf("Create: error %v", err)
	}
	if _, _, err := keys.Rotate(t.Context(), "ann", k.ID, time.Hour); !errors.Is(err, log.err) {
		t.Errorf("Rotate: error %v", err)
	}
	if err := keys.Revoke(t.Context(), "ann", k.ID); !errors.Is(err, log.err) {
		t.Errorf("Revoke: error %v", err)
	}
	if list := must[[]authn.Key](t)(keys.List(t.Context())); len(list) != 1 || !list[0].Revoked.IsZero() || !list[0].Expires.IsZero() {
		t.Errorf("something was changed without a record: %+v", list)
	}
	log.err = nil
	for range 2 { // the second time nothing changes
		if err := keys.Revoke(t.Context(), "ann", k.ID); err != nil {
			t.Error(err)
		}
	}
	if err := keys.Revoke(t.Context(), "ann", "nobody"); !errors.Is(err, authn.ErrKeyUnknown) {
		t.Errorf("an unknown key: error %v", err)
	}
	var said []string
	for _, c := range log.changes {
		said = append(said, c.Actor+" "+c.Action+" "+c.Object+" "+c.Detail["owner"])
	}
	if want := []string{"ann keys.create " + k.ID + " robot", "ann keys.revoke " + k.ID + " robot"}; !slices.Equal(said, want) {
		t.Errorf("log is %q, want %q", said, want)
	}
}

func TestNewKeysRefuses(t *testing.T) {
	db := must[*store.DB](t)(store.Open(t.Context(), storetest.At(filepath.Join(t.TempDir(), "a.db"))))
	t.Cleanup(func() { _ = db.Close() })
	for name, cfg := range map[string]authn.KeysConfig{
		"no database":                 {Environment: "live", Log: &failingLog{}},
		"no log":                      {DB: db, Environment: "live"},
		"no environment":              {DB: db, Log: &failingLog{}},
		"an environment with a score": {DB: db, Environment: "li_ve", Log: &failingLog{}},
	} {
		if _, err := authn.NewKeys(t.Context(), cfg); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestAKeyOfAnotherEnvironmentIsRefused(t *testing.T) {
	w := newWorld(t)
	db := must[*store.DB](t)(store.Open(t.Context(), storetest.At(w.path)))
	t.Cleanup(func() { _ = db.Close() })
	test := must[*authn.Keys](t)(authn.NewKeys(t.Context(), authn.KeysConfig{DB: db, Environment: "test", Log: w.changes}))
	secret, _, err := test.Create(t.Context(), "tester", authn.NewKey{Owner: "robot"})
	if err != nil {
		t.Fatal(err)
	}
	w.key(t, authn.NewKey{}) // makes the first handle look at the table
	who, err := w.Authenticate(t.Context(), bearer(secret.Reveal()), w.accept(t, ways(byKey)))
	if p := wantProblem(t, who, err, gatehouse.Unauthenticated, "key_invalid"); !strings.Contains(p.Error(), "environment") {
		t.Errorf("cause %v", p)
	}
}

// run starts Run and returns what it reports.
func run(t *testing.T, keys *authn.Keys) (reports chan error, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	reports, done := make(chan error, 16), make(chan struct{})
	go func() {
		defer close(done)
		keys.Run(ctx, func(err error) { reports <- err })
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return reports, stop
}

// within polls until f holds; it fails the test after d.
func within(t *testing.T, d time.Duration, what string, f func() bool) {
	t.Helper()
	deadline := time.After(d)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-deadline:
			t.Fatalf("not within %v: %s", d, what)
		case <-tick.C:
		}
	}
}

func TestAnotherProcessRevokesWithinASecond(t *testing.T) {
	w := newWorld(t)
	run(t, w.keys)
	cli := openKeys(t, w.path, w.changes)
	accept := w.accept(t, ways(byKey))
	secret, k, err := cli.Create(t.Context(), "tester", authn.NewKey{Owner: "robot"})
	if err != nil {
		t.Fatal(err)
	}
	opens := func() bool {
		_, err := w.Authenticate(t.Context(), bearer(secret.Reveal()), accept)
		return err == nil
	}
	within(t, time.Second, "a key made by another process opens", opens)
	if err := cli.Revoke(t.Context(), "tester", k.ID); err != nil {
		t.Fatal(err)
	}
	within(t, time.Second, "a key revoked by another process is refused", func() bool { return !opens() })
}

func TestADamagedTableIsNotHalfBelieved(t *testing.T) {
	w := newWorld(t)
	w.key(t, authn.NewKey{})
	db := must[*store.DB](t)(store.Open(t.Context(), storetest.At(w.path)))
	t.Cleanup(func() { _ = db.Close() })
	for _, sum := range []string{"", "abc", strings.Repeat("z", 64), strings.Repeat("a", 66)} {
		err := db.Write(t.Context(), func(tx *sql.Tx) error {
			_, err := tx.ExecContext(t.Context(), `UPDATE api_keys SET sha256 = $1`, sum)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := authn.NewKeys(t.Context(), authn.KeysConfig{DB: db, Environment: "live", Log: w.changes}); err == nil {
			t.Errorf("digest %q was accepted", sum)
		}
	}
}

func TestLastUseIsKeptWhenRunEnds(t *testing.T) {
	w := newWorld(t)
	key, _ := w.key(t, authn.NewKey{})
	unused, u := w.key(t, authn.NewKey{})
	_, stop := run(t, w.keys)
	accept := w.accept(t, ways(byKey))
	for range 3 {
		must[*gatehouse.Principal](t)(w.Authenticate(t.Context(), bearer(key), accept))
	}
	_, _ = w.Authenticate(t.Context(), bearer(unused[:len(unused)-1]), accept)
	stop()
	for _, k := range must[[]authn.Key](t)(w.keys.List(t.Context())) {
		if used := !k.LastUsed.IsZero() && time.Since(k.LastUsed) < time.Minute; used == (k.ID == u.ID) {
			t.Errorf("key %s: last used %v", k.ID, k.LastUsed)
		}
	}
}

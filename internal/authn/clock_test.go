package authn_test

import (
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
)

// clocked runs f in a bubble whose clock stands still until everybody waits.
func clocked(t *testing.T, f func(t *testing.T, w *world, reports chan error)) {
	t.Helper()
	storetest.OnlyAFile(t, "a server has its own clock")
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		reports, _ := run(t, w.keys)
		f(t, w, reports)
	})
}

func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestKeysThatCanNotBeAskedForAreRefused(t *testing.T) {
	clocked(t, func(t *testing.T, w *world, reports chan error) {
		key, _ := w.key(t, authn.NewKey{})
		accept := w.accept(t, ways(byKey))
		check := func() (*gatehouse.Principal, error) { return w.Authenticate(t.Context(), bearer(key), accept) }
		pass(time.Hour)
		must[*gatehouse.Principal](t)(check())
		if err := os.Rename(w.path, w.path+".away"); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		must[*gatehouse.Principal](t)(check()) // a short outage refuses nobody
		if err := <-reports; !errors.Is(err, store.ErrReplaced) {
			t.Errorf("reported %v", err)
		}
		pass(2 * time.Second)
		who, err := check()
		if p := wantProblem(t, who, err, gatehouse.Overloaded, "keys_unavailable"); p.RetryAfter <= 0 {
			t.Error("no Retry-After")
		}
		pass(time.Hour)
		who, err = check()
		wantProblem(t, who, err, gatehouse.Overloaded, "keys_unavailable")
		if err := os.Rename(w.path+".away", w.path); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		must[*gatehouse.Principal](t)(check())
		if err := <-reports; err != nil || len(reports) > 0 {
			t.Errorf("reported %v and %d more", err, len(reports))
		}
	})
}

func TestWithoutRunKeysAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		key, _ := w.key(t, authn.NewKey{})
		accept := w.accept(t, ways(byKey))
		must[*gatehouse.Principal](t)(w.Authenticate(t.Context(), bearer(key), accept))
		pass(6 * time.Second)
		who, err := w.Authenticate(t.Context(), bearer(key), accept)
		wantProblem(t, who, err, gatehouse.Overloaded, "keys_unavailable")
	})
}

func TestAKeyEndsWhenItExpires(t *testing.T) {
	clocked(t, func(t *testing.T, w *world, _ chan error) {
		key, k := w.key(t, authn.NewKey{Life: time.Hour})
		accept := w.accept(t, ways(byKey))
		pass(time.Hour - time.Millisecond)
		must[*gatehouse.Principal](t)(w.Authenticate(t.Context(), bearer(key), accept))
		pass(time.Millisecond)
		who, err := w.Authenticate(t.Context(), bearer(key), accept)
		wantProblem(t, who, err, gatehouse.Unauthenticated, "key_invalid")
		if _, _, err := w.keys.Rotate(t.Context(), "tester", k.ID, 0); !errors.Is(err, authn.ErrKeyDead) {
			t.Errorf("an expired key was rotated: %v", err)
		}
	})
}

func TestTheOldKeyEndsWithTheOverlap(t *testing.T) {
	clocked(t, func(t *testing.T, w *world, _ chan error) {
		forever, k := w.key(t, authn.NewKey{})
		accept := w.accept(t, ways(byKey))
		secret, k2, err := w.keys.Rotate(t.Context(), "tester", k.ID, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		pass(59 * time.Minute)
		must[*gatehouse.Principal](t)(w.Authenticate(t.Context(), bearer(forever), accept))
		pass(time.Minute)
		who, err := w.Authenticate(t.Context(), bearer(forever), accept)
		wantProblem(t, who, err, gatehouse.Unauthenticated, "key_invalid")
		must[*gatehouse.Principal](t)(w.Authenticate(t.Context(), bearer(secret.Reveal()), accept))
		if !k2.Expires.IsZero() {
			t.Errorf("the new key expires at %v, the old one was made for ever", k2.Expires)
		}
		if _, _, err := w.keys.Rotate(t.Context(), "tester", k2.ID, time.Hour); err != nil {
			t.Errorf("with one live key left: %v", err)
		}
	})
}

func TestTheRotatedKeyDoesNotOutliveItsOwnEnd(t *testing.T) {
	clocked(t, func(t *testing.T, w *world, _ chan error) {
		short, k := w.key(t, authn.NewKey{Life: time.Minute})
		if _, _, err := w.keys.Rotate(t.Context(), "tester", k.ID, time.Hour); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		who, err := w.Authenticate(t.Context(), bearer(short), w.accept(t, ways(byKey)))
		wantProblem(t, who, err, gatehouse.Unauthenticated, "key_invalid")
	})
}

func TestLastUseIsWrittenOnceAMinute(t *testing.T) {
	clocked(t, func(t *testing.T, w *world, _ chan error) {
		key, _ := w.key(t, authn.NewKey{})
		watcher := must[*store.DB](t)(store.Open(t.Context(), storetest.At(w.path)))
		defer func() { _ = watcher.Close() }()
		accept := w.accept(t, ways(byKey))
		version, writes := must[uint64](t)(watcher.Version(t.Context())), 0
		for range 1200 { // ten minutes, two requests a second
			must[*gatehouse.Principal](t)(w.Authenticate(t.Context(), bearer(key), accept))
			pass(500 * time.Millisecond)
			if v := must[uint64](t)(watcher.Version(t.Context())); v != version {
				version, writes = v, writes+1
			}
		}
		if writes < 5 || writes > 10 {
			t.Errorf("%d writes in ten minutes", writes)
		}
		if used := must[[]authn.Key](t)(w.keys.List(t.Context()))[0].LastUsed; time.Since(used) > 3*time.Minute {
			t.Errorf("last use was %v ago", time.Since(used))
		}
	})
}

package token_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-api/gatehouse/internal/token"
)

func issue(t testing.TB, k *token.Keyring, alg token.Algorithm) string {
	t.Helper()
	raw, err := k.Sign(alg, "at+jwt", []byte(claims(nil)))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestKeyring(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	all := []token.Algorithm{token.ES256, token.RS256, token.EdDSA}
	k, err := token.OpenKeyring(token.Files(dir), "", all...)
	if err != nil {
		t.Fatal(err)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(k.JWKS(), &set); err != nil || len(set.Keys) != 6 {
		t.Fatalf("%d keys published (%v), want current and next of three algorithms", len(set.Keys), err)
	}
	v := newVerifier(t, staticKeys(t, k.JWKS()), nil)
	own := newVerifier(t, k.KeySet(), nil)
	for _, alg := range append(all, "") {
		raw := issue(t, k, alg)
		for _, v := range []*token.Verifier{v, own} {
			if _, err := v.Verify(t.Context(), raw); err != nil {
				t.Errorf("%q: %v", alg, err)
			}
		}
		parsed, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.ES256, jose.RS256, jose.EdDSA})
		if err != nil {
			t.Fatal(err)
		}
		want := string(alg)
		if alg == "" {
			want = "ES256"
		}
		if got := parsed.Signatures[0].Header.Algorithm; got != want {
			t.Errorf("%q signs with %s", alg, got)
		}
		if _, err := parsed.Verify(set); err != nil {
			t.Errorf("go-jose refuses %q: %v", alg, err)
		}
	}
	for _, alg := range []token.Algorithm{token.PS256, "none", "es256"} {
		if raw, err := k.Sign(alg, "at+jwt", []byte(`{}`)); err == nil || raw != "" {
			t.Errorf("%q signs", alg)
		}
	}
	again, err := token.OpenKeyring(token.Files(dir), "", all...)
	if err != nil || !bytes.Equal(again.JWKS(), k.JWKS()) {
		t.Fatalf("a second load has other keys: %v", err)
	}
	info, err := os.Stat(filepath.Join(dir, "rs256.jwks"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file of RS256: %v, %v", info, err)
	}
	for name, algs := range map[string][]token.Algorithm{
		"an algorithm twice": {token.ES256, token.ES256}, "an empty one": {""}, "one that does not sign here": {token.PS256}, "one that is a path": {"../x"},
	} {
		if k, err := token.OpenKeyring(token.Files(t.TempDir()), "", algs...); err == nil || k != nil {
			t.Errorf("a keyring with %s is made", name)
		}
	}
	var none token.Keyring
	if raw, err := none.Sign("", "at+jwt", []byte(`{}`)); err == nil || raw != "" || string(none.JWKS()) != `{"keys":[]}` {
		t.Error("the zero keyring signs")
	}
	if done, err := none.Rotate(0); done || err == nil {
		t.Error("the zero keyring rotates")
	}
	if raw, err := new(token.Signer).AccessToken(access(nil)); err == nil || raw != "" {
		t.Error("the zero signer signs")
	}
	if err := os.Rename(filepath.Join(dir, "eddsa.jwks"), filepath.Join(dir, "es256.jwks")); err != nil {
		t.Fatal(err)
	}
	mixed, err := token.OpenKeyring(token.Files(dir), "", token.ES256)
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := mixed.Sign(token.ES256, "at+jwt", []byte(`{}`)); err == nil || raw != "" {
		t.Error("an EdDSA key in the place of an ES256 key signs")
	}
}

func TestAKeyringsOwnKeySetFollowsRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, err := token.NewKeyring(token.ES256, token.EdDSA)
		if err != nil {
			t.Fatal(err)
		}
		v := newVerifier(t, k.KeySet(), nil)
		cache := token.NewCache[string](0)
		for range 4 { // each time the key after the next: nobody has seen it before
			raw := issue(t, k, token.ES256)
			c, err := v.Verify(t.Context(), raw)
			if err != nil {
				t.Fatal(err)
			}
			cache.Put(raw, c, "x")
			if done, err := k.Rotate(time.Hour); done || err != nil {
				t.Fatalf("fresh keys rotate: %v, %v", done, err)
			}
			if _, ok := cache.Get(raw); !ok {
				t.Error("a rotation that was none empties the cache")
			}
			time.Sleep(time.Hour)
			if done, err := k.Rotate(time.Hour); !done || err != nil {
				t.Fatalf("keys of an hour do not rotate: %v, %v", done, err)
			}
		}
	})
}

// within polls, as what is waited for happens in a goroutine that looks at files.
func within(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within ten seconds", what)
		}
		<-tick.C
	}
}

// reports keeps what Run says.
type reports struct {
	mu   sync.Mutex
	said []string
}

func (r *reports) add(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, err.Error())
}

func (r *reports) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.said...)
}

// runs starts run and ends it with the test.
func runs(t *testing.T, run func(ctx context.Context, report func(error))) *reports {
	t.Helper()
	r := &reports{}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { run(ctx, r.add) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return r
}

func TestAKeyringFollowsTheRotationOfAnotherProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func() *token.Keyring {
		k, err := token.OpenKeyring(token.Files(dir), "", token.ES256, token.EdDSA)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	server, cli := open(), open()
	r := runs(t, server.Run)
	if done, err := cli.Rotate(0); !done || err != nil {
		t.Fatalf("%v, %v", done, err)
	}
	within(t, "the rotation", func() bool { return bytes.Equal(server.JWKS(), cli.JWKS()) })
	if _, err := newVerifier(t, cli.KeySet(), nil).Verify(t.Context(), issue(t, server, token.EdDSA)); err != nil {
		t.Error(err)
	}

	path := filepath.Join(dir, "es256.jwks")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before := server.JWKS()
	for name, spoil := range map[string]func() error{
		"a broken file": func() error { return os.WriteFile(path, []byte("{"), 0o600) },
		"no file":       func() error { return os.Remove(path) },
		"a file others can read": func() error {
			return errors.Join(os.WriteFile(path, good, 0o600), os.Chmod(path, 0o644))
		},
	} {
		n := len(r.all())
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		within(t, name+" is reported", func() bool { return len(r.all()) > n })
		if said := r.all(); !strings.Contains(said[n], path) || strings.Contains(said[n], `"d"`) {
			t.Errorf("%s: %q", name, said[n])
		}
		if !bytes.Equal(server.JWKS(), before) {
			t.Fatalf("%s takes the keys at work away", name)
		}
		issue(t, server, token.ES256)
		if done, err := server.Rotate(0); err == nil {
			t.Errorf("%s: a rotation over it is reported as done (%v)", name, done)
		}
		if err := errors.Join(os.RemoveAll(path), os.WriteFile(path, good, 0o600)); err != nil {
			t.Fatal(err)
		}
		fresh := open()
		if done, err := fresh.Rotate(0); !done || err != nil {
			t.Fatal(err)
		}
		if good, err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
		within(t, "the mended file", func() bool { return bytes.Equal(server.JWKS(), fresh.JWKS()) })
		before = server.JWKS()
	}
}

func TestRotationsOfTwoProcessesLoseNoKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "signing.json")
	var signers [2]*token.Signer
	for i := range signers {
		var err error
		if signers[i], err = token.LoadOrCreateSigner(path, token.ES256); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for _, s := range signers {
		wg.Go(func() {
			for range 4 {
				if _, err := s.Rotate(0); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	last, err := token.LoadOrCreateSigner(path, token.ES256)
	if err != nil {
		t.Fatal(err)
	}
	keys := staticKeys(t, last.JWKS())
	if n := keys.Status().Keys; n != 10 {
		t.Errorf("%d keys after eight rotations, want eight retired, the current and the next", n)
	}
	for _, s := range signers {
		raw, err := s.AccessToken(access(nil))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := newVerifier(t, keys, nil).Verify(t.Context(), raw); err != nil {
			t.Errorf("one process signs with a key that is lost: %v", err)
		}
	}
}

func TestSealersShareAFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "seal.json")
	var sealers [2]*token.Sealer
	for i := range sealers {
		var err error
		if sealers[i], err = token.OpenSealer(at(path)); err != nil {
			t.Fatal(err)
		}
	}
	server, cli := sealers[0], sealers[1]
	r := runs(t, server.Run)
	if err := cli.Rotate(); err != nil {
		t.Fatal(err)
	}
	sealed, err := cli.Seal("p", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	within(t, "the new key", func() bool { _, err := server.Open("p", sealed); return err == nil })

	third, err := token.OpenSealer(at(path))
	if err != nil {
		t.Fatal(err)
	}
	if err := cli.Rotate(); err != nil {
		t.Fatal(err)
	}
	if sealed, err = cli.Seal("p", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := third.Rotate(); err != nil { // which has not seen that key
		t.Fatal(err)
	}
	if _, err := third.Open("p", sealed); err != nil {
		t.Errorf("a rotation throws away the key of another process: %v", err)
	}
	within(t, "the second new key", func() bool { _, err := server.Open("p", sealed); return err == nil })
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	within(t, "the report", func() bool { return len(r.all()) > 0 })
	if _, err := server.Open("p", sealed); err != nil {
		t.Errorf("the keys at work are gone with the file: %v", err)
	}
	if err := server.Rotate(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a rotation makes a file without the older keys: %v", err)
	}
	for _, spelling := range []string{sealed + "\n", "\n" + sealed, sealed[:5] + "\r" + sealed[5:]} {
		if _, err := third.Open("p", spelling); !errors.Is(err, token.ErrSealed) {
			t.Errorf("%q opens: one token has two spellings", spelling)
		}
	}
}

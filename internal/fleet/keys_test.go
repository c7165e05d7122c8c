package fleet_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/fleet"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

var (
	first  = gatehouse.NewSecret(strings.Repeat("first secret ", 4))
	second = gatehouse.NewSecret(strings.Repeat("second secret ", 4))
)

func must[T any](t testing.TB) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func until(t testing.TB, what string, within time.Duration, ok func() bool) {
	t.Helper()
	storetest.Within(t, within, what, ok)
}

// database opens the database at path once more, as another node would.
func database(t testing.TB, path string) *store.DB {
	t.Helper()
	db := must[*store.DB](t)(store.Open(t.Context(), storetest.At(path)))
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func changes(t testing.TB) *auditlog.Changes {
	t.Helper()
	return must[*auditlog.Changes](t)(auditlog.OpenChanges(t.TempDir()))
}

func open(t testing.TB, path string, key gatehouse.Secret, others ...gatehouse.Secret) *fleet.Keys {
	t.Helper()
	return must[*fleet.Keys](t)(fleet.OpenKeys(t.Context(), fleet.KeysConfig{DB: database(t, path), Key: key, Others: others, Changes: changes(t)}))
}

func TestNodesThatOpenAtOnceHaveTheSameKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "house.db")
	var all sync.WaitGroup
	var sets [4]string
	for n := range sets {
		k := open(t, path, first)
		all.Go(func() {
			ring, err := token.OpenKeyring(k, "oauth-keys", token.ES256, token.EdDSA)
			if err != nil {
				t.Error(err)
				return
			}
			sets[n] = string(ring.JWKS())
		})
	}
	all.Wait()
	for _, s := range sets {
		if s == "" || s != sets[0] {
			t.Errorf("two nodes publish different keys:\n%s\n%s", s, sets[0])
		}
	}
}

// The rotation of one node must not undo that of another: the key it made would be
// signing there, and published nowhere.
func TestRotationsOfTwoNodesLoseNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "house.db")
	a := must[*token.Signer](t)(token.OpenSigner(open(t, path, first), "k", token.ES256))
	b := must[*token.Signer](t)(token.OpenSigner(open(t, path, first), "k", token.ES256))
	sa := must[*token.Sealer](t)(token.OpenSealer(open(t, path, first), "s"))
	sb := must[*token.Sealer](t)(token.OpenSealer(open(t, path, first), "s"))
	var rotated atomic.Int64
	var all sync.WaitGroup
	const times = 4
	for n, s := range []*token.Signer{a, b} {
		all.Go(func() {
			for range times {
				if done, err := s.Rotate(0); err != nil || !done {
					t.Errorf("a rotation: %t, %v", done, err)
					return
				}
				rotated.Add(1)
				if err := []*token.Sealer{sa, sb}[n].Rotate(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	late := must[*token.Signer](t)(token.OpenSigner(open(t, path, first), "k", token.ES256))
	if got, want := bytes.Count(late.JWKS(), []byte(`"kid"`)), 2+2*times; got != want || rotated.Load() != 2*times {
		t.Errorf("%d keys are published after %d rotations, not %d", got, rotated.Load(), want)
	}
	text := string(must[token.Document](t)(open(t, path, first).Load("s")).Text)
	if got, want := strings.Count(text, `"id"`), 1+2*times; got != want {
		t.Errorf("%d sealing keys are kept, not %d", got, want)
	}
}

func TestANodeFollowsTheRotationOfAnotherWithinASecond(t *testing.T) {
	path := filepath.Join(t.TempDir(), "house.db")
	algs := []token.Algorithm{token.ES256, token.EdDSA}
	a := must[*token.Keyring](t)(token.OpenKeyring(open(t, path, first), "k", algs...))
	b := must[*token.Keyring](t)(token.OpenKeyring(open(t, path, first), "k", algs...))
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { b.Run(ctx, func(err error) { t.Error(err) }) })
	defer running.Wait()
	defer stop()
	v := must[*token.Verifier](t)(token.NewVerifier(token.VerifierConfig{Issuer: "https://us", Audiences: []string{"orders"}}, b.KeySet()))
	for n := range 2 {
		if done, err := a.Rotate(0); err != nil || !done {
			t.Fatal(done, err)
		}
		if n > 0 { // the successor was published long ago, or here a moment ago
			until(t, "the keys of the other node", time.Second, func() bool { return bytes.Equal(a.JWKS(), b.JWKS()) })
		}
		raw := must[string](t)(a.Sign(token.ES256, "at+jwt", []byte(`{"iss":"https://us","sub":"x","aud":"orders","client_id":"c","jti":"1","iat":`+
			strconv.FormatInt(time.Now().Unix(), 10)+`,"exp":99999999999}`)))
		if _, err := v.Verify(t.Context(), raw); err != nil {
			t.Errorf("rotation %d: a token of the other node is refused: %v", n, err)
		}
	}
}

func TestKeysAreTakenInFromTheFolderOnce(t *testing.T) {
	dir, path := t.TempDir(), filepath.Join(t.TempDir(), "house.db")
	files := token.Files(dir)
	signer := must[*token.Signer](t)(token.OpenSigner(files, "oauth-keys/es256.jwks", token.ES256))
	seal := must[*token.Sealer](t)(token.OpenSealer(files, "seal.json"))
	sealed := must[string](t)(seal.Seal("totp", []byte("x")))
	names := []string{"oauth-keys/es256.jwks", "seal.json", "token-decryption.jwk"}
	k := open(t, path, first)
	if taken := must[[]string](t)(k.TakeIn(t.Context(), files, names...)); len(taken) != 2 {
		t.Errorf("taken in: %v", taken)
	}
	if got := must[*token.Signer](t)(token.OpenSigner(k, names[0], token.ES256)); !bytes.Equal(got.JWKS(), signer.JWKS()) {
		t.Error("the house signs with other keys than before")
	}
	other := token.Files(t.TempDir())
	must[*token.Sealer](t)(token.OpenSealer(other, "seal.json"))
	must[*token.Decrypter](t)(token.OpenDecrypter(other, "token-decryption.jwk"))
	if taken := must[[]string](t)(open(t, path, first).TakeIn(t.Context(), other, names...)); taken != nil {
		t.Errorf("keys of another house are mixed in: %v", taken)
	}
	if _, err := must[*token.Sealer](t)(token.OpenSealer(open(t, path, first), "seal.json")).Open("totp", sealed); err != nil {
		t.Errorf("what was sealed before the move: %v", err)
	}
	if storetest.OnPostgres() {
		return
	}
	for _, end := range []string{"", "-wal"} {
		if b := must[[]byte](t)(os.ReadFile(path + end)); bytes.Contains(b, []byte(`"d":`)) || bytes.Contains(b, []byte("kty")) {
			t.Error("a private key is in the database as it is")
		}
	}
}

func TestTheFleetsKeyRotates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "house.db")
	a := open(t, path, first)
	signer := must[*token.Signer](t)(token.OpenSigner(a, "k", token.ES256))
	if _, err := fleet.OpenKeys(t.Context(), fleet.KeysConfig{DB: database(t, path), Key: second, Changes: changes(t)}); !errors.Is(err, fleet.ErrFleetKey) {
		t.Fatalf("a node without the key starts: %v", err)
	}
	a = open(t, path, first, second) // knows the one to come
	open(t, path, second, first)     // seals under it
	if _, err := a.Load("k"); err != nil {
		t.Errorf("a node that has both: %v", err)
	}
	again := must[*token.Signer](t)(token.OpenSigner(open(t, path, second), "k", token.ES256))
	if !bytes.Equal(again.JWKS(), signer.JWKS()) {
		t.Error("the keys are other ones")
	}
	if _, err := fleet.OpenKeys(t.Context(), fleet.KeysConfig{DB: database(t, path), Key: first, Changes: changes(t)}); !errors.Is(err, fleet.ErrFleetKey) {
		t.Errorf("the old key still opens: %v", err)
	}
}

// Who can write the database alone must not be able to choose the keys.
func TestRowsSomebodyChangedAreRefused(t *testing.T) {
	const ruin = "restore it"
	for name, statements := range map[string]string{
		"a document under another name":        `UPDATE fleet_keys SET name = 'c' WHERE name = 'a'; UPDATE fleet_keys SET name = 'a' WHERE name = 'b'; UPDATE fleet_keys SET name = 'b' WHERE name = 'c'`,
		"a document under another revision":    `UPDATE fleet_keys SET revision = revision + 1`,
		"a document with other bytes":          `UPDATE fleet_keys SET sealed = 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'`,
		"a document that is hardly a document": `UPDATE fleet_keys SET sealed = '"'`,
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "house.db")
			k := open(t, path, first)
			must[*token.Sealer](t)(token.OpenSealer(k, "a"))
			s := must[*token.Sealer](t)(token.OpenSealer(k, "b"))
			sealed := must[string](t)(s.Seal("x", nil))
			ctx, stop := context.WithCancel(t.Context())
			var running sync.WaitGroup
			told := make(chan error, 1)
			running.Go(func() { s.Run(ctx, func(err error) { told <- err }) })
			defer running.Wait()
			defer stop()
			err := database(t, path).Write(t.Context(), func(tx *sql.Tx) error {
				for one := range strings.SplitSeq(statements, ";") {
					if _, err := tx.ExecContext(t.Context(), one); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := <-told; !strings.Contains(err.Error(), ruin) {
				t.Errorf("the running node is told %v", err)
			}
			if _, err := s.Open("x", sealed); err != nil {
				t.Errorf("the keys at work are gone: %v", err)
			}
			_, err = fleet.OpenKeys(t.Context(), fleet.KeysConfig{DB: database(t, path), Key: first, Changes: changes(t)})
			if err == nil || !strings.Contains(err.Error(), ruin) {
				t.Errorf("a node starts on it: %v", err)
			}
		})
	}
}

// An older row is genuine, but a key that was taken out of use must not come back.
func TestADocumentThatWasSetBackIsNotTakenByANodeThatKnowsBetter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "house.db")
	k := open(t, path, first)
	must[*token.Sealer](t)(token.OpenSealer(k, "a"))
	old := must[token.Document](t)(k.Load("a"))
	db := database(t, path)
	var revision int64
	var sealed string
	err := db.Read(t.Context(), func(tx *sql.Tx) error {
		return tx.QueryRowContext(t.Context(), `SELECT revision, sealed FROM fleet_keys WHERE name = 'a'`).Scan(&revision, &sealed)
	})
	if err != nil {
		t.Fatal(err)
	}
	if done, err := k.Swap("a", old.Revision, []byte(`{"later": true}`)); !done || err != nil {
		t.Fatal(done, err)
	}
	setBack := func() {
		t.Helper()
		err := db.Write(t.Context(), func(tx *sql.Tx) error {
			_, err := tx.ExecContext(t.Context(), `UPDATE fleet_keys SET revision = $1, sealed = $2 WHERE name = 'a'`, revision, sealed)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	other := open(t, path, first)
	must[token.Document](t)(other.Load("a"))
	setBack()
	for name, node := range map[string]*fleet.Keys{"the node that made the later one": k, "a node that has read it": other} {
		if doc, err := node.Load("a"); !errors.Is(err, fleet.ErrSetBack) || len(doc.Text) > 0 {
			t.Errorf("%s: %v, %q", name, err, doc.Text)
		}
	}
	if doc, err := open(t, path, first).Load("a"); err != nil || string(doc.Text) != string(old.Text) {
		t.Errorf("a node that has seen nothing: %v", err) // as after a restore from a backup
	}
}

func TestAShortKeyIsNone(t *testing.T) {
	for _, text := range []string{"", "short", strings.Repeat("x", 31), strings.Repeat(" ", 64)} {
		_, err := fleet.OpenKeys(t.Context(), fleet.KeysConfig{DB: database(t, filepath.Join(t.TempDir(), "h.db")), Key: gatehouse.NewSecret(text), Changes: changes(t)})
		if err == nil || !strings.Contains(err.Error(), "at least 32") {
			t.Errorf("a key of %d bytes: %v", len(text), err)
		}
	}
}

// Keys that cannot be had are not made anew: two houses would sign.
func TestADatabaseThatIsAwayMakesNoKeys(t *testing.T) {
	db := database(t, filepath.Join(t.TempDir(), "house.db"))
	k := must[*fleet.Keys](t)(fleet.OpenKeys(t.Context(), fleet.KeysConfig{DB: db, Key: first, Changes: changes(t)}))
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := token.OpenSigner(k, "k", token.ES256); err == nil {
		t.Error("a signer was made")
	}
}

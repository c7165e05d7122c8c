package token_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

func newSigner(t testing.TB, alg token.Algorithm) *token.Signer {
	t.Helper()
	s, err := token.NewSigner(alg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func access(changes func(*token.AccessToken)) *token.AccessToken {
	now := time.Now()
	a := &token.AccessToken{Issuer: issuerURL, Subject: "alice", Audience: audience, IssuedAt: now, Expires: now.Add(time.Minute)}
	if changes != nil {
		changes(a)
	}
	return a
}

func TestSignedTokensVerify(t *testing.T) {
	for _, alg := range []token.Algorithm{token.ES256, token.EdDSA, token.RS256} {
		t.Run(string(alg), func(t *testing.T) {
			s := newSigner(t, alg)
			auth := time.Now().Add(-time.Hour).Truncate(time.Second)
			raw, err := s.AccessToken(access(func(a *token.AccessToken) {
				a.ClientID, a.Tenant, a.Provider = `we"b`, "münchen", "okta"
				a.Scopes, a.Roles, a.AuthTime = []string{"a", "b"}, []string{"ops", "dev"}, auth
			}))
			if err != nil {
				t.Fatal(err)
			}
			c, err := newVerifier(t, staticKeys(t, s.JWKS()), nil).Verify(t.Context(), raw)
			if err != nil {
				t.Fatal(err)
			}
			if c.Subject != "alice" || c.ClientID != `we"b` || c.Raw["tenant"] != "münchen" || c.Raw["idp"] != "okta" ||
				!slices.Equal(c.Scopes, []string{"a", "b"}) || !c.AuthTime.Equal(auth) || len(c.JTI) < 22 {
				t.Fatalf("claims %+v", c)
			}
			if roles, _ := c.Raw["roles"].([]any); len(roles) != 2 || roles[0] != "ops" || roles[1] != "dev" {
				t.Fatalf("roles %v", c.Raw["roles"])
			}

			// And for somebody who shares no code with us.
			var set jose.JSONWebKeySet
			if err := json.Unmarshal(s.JWKS(), &set); err != nil {
				t.Fatal(err)
			}
			parsed, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
			if err != nil {
				t.Fatal(err)
			}
			var theirs jwt.Claims
			if err := parsed.Claims(set, &theirs); err != nil {
				t.Fatal(err)
			}
			if err := theirs.Validate(jwt.Expected{Issuer: issuerURL, AnyAudience: jwt.Audience{audience}, Time: time.Now()}); err != nil {
				t.Fatal(err)
			}
			if typ := parsed.Headers[0].ExtraHeaders[jose.HeaderType]; typ != "at+jwt" {
				t.Fatalf("typ %v", typ)
			}
		})
	}
}

func TestPublishedKeysArePublic(t *testing.T) {
	for _, alg := range []token.Algorithm{token.ES256, token.EdDSA, token.RS256} {
		if doc := newSigner(t, alg).JWKS(); bytes.Contains(doc, []byte(`"d"`)) {
			t.Errorf("%s: the key set holds a private key", alg)
		}
	}
}

func TestBadTokensAreNotSigned(t *testing.T) {
	s := newSigner(t, token.ES256)
	for name, change := range map[string]func(*token.AccessToken){
		"no issuer":             func(a *token.AccessToken) { a.Issuer = "" },
		"no subject":            func(a *token.AccessToken) { a.Subject = "" },
		"no audience":           func(a *token.AccessToken) { a.Audience = "" },
		"no exp":                func(a *token.AccessToken) { a.Expires = time.Time{} },
		"exp before iat":        func(a *token.AccessToken) { a.Expires = a.IssuedAt },
		"a scope that is two":   func(a *token.AccessToken) { a.Scopes = []string{"a admin"} },
		"an empty scope":        func(a *token.AccessToken) { a.Scopes = []string{""} },
		"a subject not in text": func(a *token.AccessToken) { a.Subject = "a\xff" },
		"a role not in text":    func(a *token.AccessToken) { a.Roles = []string{"\xff"} },
	} {
		if raw, err := s.AccessToken(access(change)); err == nil || raw != "" {
			t.Errorf("%s is signed", name)
		}
	}
	for _, alg := range []token.Algorithm{token.PS256, token.ES384, "HS256", "none"} {
		if _, err := token.NewSigner(alg); err == nil {
			t.Errorf("a signer for %s is made", alg)
		}
	}
}

func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigner(t, token.ES256)
		before := s.JWKS()
		old, err := s.AccessToken(access(func(a *token.AccessToken) { a.Expires = a.IssuedAt.Add(100 * time.Hour) }))
		if err != nil {
			t.Fatal(err)
		}
		if done, err := s.Rotate(time.Hour); done || err != nil {
			t.Fatalf("a fresh key rotates: %v, %v", done, err)
		}
		time.Sleep(time.Hour)
		if done, err := s.Rotate(time.Hour); !done || err != nil {
			t.Fatalf("a key of an hour does not rotate: %v, %v", done, err)
		}
		fresh, err := s.AccessToken(access(nil))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := newVerifier(t, staticKeys(t, before), nil).Verify(t.Context(), fresh); err != nil {
			t.Errorf("who cached the key set before the rotation cannot verify: %v", err)
		}
		after := newVerifier(t, staticKeys(t, s.JWKS()), nil)
		for name, raw := range map[string]string{"a token from before the rotation": old, "a token from after it": fresh} {
			if _, err := after.Verify(t.Context(), raw); err != nil {
				t.Errorf("%s does not verify: %v", name, err)
			}
		}
		time.Sleep(49 * time.Hour)
		if _, err := s.Rotate(0); err != nil {
			t.Fatal(err)
		}
		c, err := newVerifier(t, staticKeys(t, s.JWKS()), nil).Verify(t.Context(), old)
		refused(t, c, err, "token_invalid", "no key of this kid")
	})
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "signing.json")
	s, err := token.LoadOrCreateSigner(path, "")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want mode %v", filepath.Base(name), info.Mode().Perm(), err, want)
		}
	}
	again, err := token.LoadOrCreateSigner(path, token.ES256)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(s.JWKS(), again.JWKS()) {
		t.Error("a second load has other keys")
	}
	if _, err := again.Rotate(0); err != nil {
		t.Fatal(err)
	}
	third, err := token.LoadOrCreateSigner(path, token.ES256)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(third.JWKS(), again.JWKS()) {
		t.Error("the rotation is not on disk")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(b, []byte(`"d"`)); n != 2 {
		t.Errorf("%d private keys in the file, want the current and the next", n)
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}

	t.Run("another algorithm comes with the next rotation", func(t *testing.T) {
		ed, err := token.LoadOrCreateSigner(path, token.EdDSA)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := ed.AccessToken(access(nil))
		if err != nil || !strings.HasPrefix(raw, b64.EncodeToString([]byte(`{"alg":"ES256"`))[:16]) {
			t.Fatalf("the current key does not sign on: %v", err)
		}
		published := ed.JWKS()
		if _, err := ed.Rotate(0); err != nil {
			t.Fatal(err)
		}
		if raw, err = ed.AccessToken(access(nil)); err != nil {
			t.Fatal(err)
		}
		if _, err := newVerifier(t, staticKeys(t, published), nil).Verify(t.Context(), raw); err != nil {
			t.Fatalf("the new key was not published before it signed: %v", err)
		}
	})
}

func TestBadKeyFilesAreRefused(t *testing.T) {
	good := filepath.Join(t.TempDir(), "good.json")
	if _, err := token.LoadOrCreateSigner(good, token.ES256); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, words string
		content     []byte
		mode        fs.FileMode
	}{
		{"a file others can read", "chmod 600", b, 0o644},
		{"a file the group can read", "chmod 600", b, 0o640},
		{"a cut file", "move it away", b[:len(b)/2], 0o600},
		{"an empty file", "move it away", nil, 0o600},
		{"an empty object", "move it away", []byte(`{}`), 0o600},
		{"a file with only public keys", "move it away", bytes.ReplaceAll(b, []byte(`"d"`), []byte(`"x-d"`)), 0o600},
		{"a key under another algorithm", "move it away", bytes.ReplaceAll(b, []byte(`"ES256"`), []byte(`"HS256"`)), 0o600},
	} {
		t.Run(tt.name+" is refused", func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "signing.json")
			if err := os.WriteFile(path, tt.content, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, tt.mode); err != nil {
				t.Fatal(err)
			}
			_, err := token.LoadOrCreateSigner(path, token.ES256)
			if err == nil || !strings.Contains(err.Error(), tt.words) || !strings.Contains(err.Error(), path) {
				t.Fatalf("error %v, want one naming the file and %q", err, tt.words)
			}
			if now, _ := os.ReadFile(path); !bytes.Equal(now, tt.content) {
				t.Fatal("the file was changed")
			}
		})
	}
}

func TestLeftoversOfAKillAreSwept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "signing.json")
	old, young, other := path+".1.tmp", path+".2.tmp", path+".bak"
	for _, name := range []string{old, young, other} {
		if err := os.WriteFile(name, []byte("private"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(old, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := token.LoadOrCreateSigner(path, token.ES256); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Error("an old file with private keys is left")
	}
	for _, name := range []string{young, other} {
		if _, err := os.Stat(name); err != nil {
			t.Errorf("swept: %v", err)
		}
	}
}

// rotateForever is the environment variable that turns this test binary into a
// process which does nothing but rotate the keys in the file it names.
const rotateForever = "GATEHOUSE_TEST_ROTATE"

func TestRotateForever(t *testing.T) {
	path := os.Getenv(rotateForever)
	if path == "" {
		t.Skip("only run by TestKillNineWhileRotating")
	}
	s, err := token.LoadOrCreateSigner(path, token.ES256)
	for err == nil {
		if _, err = s.Rotate(0); err == nil {
			_, err = os.Stdout.WriteString("rotated\n")
		}
	}
	t.Fatal(err)
}

func TestKillNineWhileRotating(t *testing.T) {
	path := filepath.Join(t.TempDir(), "signing.json")
	for range 5 {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRotateForever$")
		child.Env = append(os.Environ(), rotateForever+"="+path)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for range 8 {
			if !lines.Scan() || lines.Text() != "rotated" {
				t.Errorf("the child says %q", lines.Text())
				break
			}
		}
		if err := child.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = child.Wait() // killed: always an error
		if t.Failed() {
			return
		}
		s, err := token.LoadOrCreateSigner(path, token.ES256)
		if err != nil {
			t.Fatalf("after kill -9: %v", err)
		}
		raw, err := s.AccessToken(access(nil))
		if err != nil {
			t.Fatal(err)
		}
		keys := staticKeys(t, s.JWKS())
		if _, err := newVerifier(t, keys, nil).Verify(t.Context(), raw); err != nil {
			t.Fatal(err)
		}
		if n := keys.Status().Keys; n < 4 || n > 18 {
			t.Fatalf("%d keys published, want the current, the next and at most 16 retired", n)
		}
	}
}

func TestManyCreatorsAgree(t *testing.T) {
	path := filepath.Join(t.TempDir(), "signing.json")
	var wg sync.WaitGroup
	sets := make([][]byte, 16)
	for i := range sets {
		wg.Go(func() {
			s, err := token.LoadOrCreateSigner(path, token.ES256)
			if err != nil {
				t.Error(err)
				return
			}
			sets[i] = s.JWKS()
		})
	}
	wg.Wait()
	for i := range sets {
		if !bytes.Equal(sets[0], sets[i]) {
			t.Fatal("two processes have different keys")
		}
	}
}

func TestAFailedSaveKeepsTheKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	s, err := token.LoadOrCreateSigner(filepath.Join(dir, "signing.json"), token.ES256)
	if err != nil {
		t.Fatal(err)
	}
	before := s.JWKS()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if done, err := s.Rotate(0); done || err == nil {
		t.Fatal("a rotation that is not on disk is reported")
	}
	if !bytes.Equal(s.JWKS(), before) {
		t.Fatal("keys that are not on disk are used")
	}
}

func newMinter(t testing.TB, s *token.Signer) *token.Minter {
	t.Helper()
	m, err := token.NewMinter(token.MinterConfig{Issuer: issuerURL}, s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMinter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSigner(t, token.ES256)
		m := newMinter(t, s)
		v := newVerifier(t, staticKeys(t, s.JWKS()), nil)
		p := &gatehouse.Principal{Subject: "alice", Issuer: "okta", Client: "web", Method: gatehouse.MethodJWT, Roles: []string{"ops"}, Scopes: []string{"a"}}
		mint := func(p *gatehouse.Principal, aud string) string {
			t.Helper()
			raw, err := m.Mint(p, aud)
			if err != nil {
				t.Fatal(err)
			}
			return raw
		}
		first := mint(p, audience)
		c, err := v.Verify(t.Context(), first)
		if err != nil {
			t.Fatal(err)
		}
		if c.Subject != "alice" || c.Raw["idp"] != "okta" || c.Expires.Sub(c.IssuedAt) != time.Minute {
			t.Fatalf("claims %+v", c)
		}
		same := *p
		if mint(p, audience) != first || mint(&same, audience) != first {
			t.Error("a token is not used again")
		}
		for name, change := range map[string]func(*gatehouse.Principal){
			"subject": func(p *gatehouse.Principal) { p.Subject = "bob" },
			"issuer":  func(p *gatehouse.Principal) { p.Issuer = "entra" },
			"client":  func(p *gatehouse.Principal) { p.Client = "spa" },
			"tenant":  func(p *gatehouse.Principal) { p.Tenant = "t" },
			"roles":   func(p *gatehouse.Principal) { p.Roles = []string{"dev"} },
			"scopes":  func(p *gatehouse.Principal) { p.Scopes = nil },
			"method":  func(p *gatehouse.Principal) { p.Method = gatehouse.MethodAPIKey },
			"key":     func(p *gatehouse.Principal) { p.KeyID = "k" },
			"expiry":  func(p *gatehouse.Principal) { p.Expires = time.Now().Add(time.Hour) },
			"login":   func(p *gatehouse.Principal) { p.AuthTime = time.Now() },
		} {
			other := *p
			change(&other)
			if mint(&other, audience) == first {
				t.Errorf("a principal with another %s gets the same token", name)
			}
		}
		if mint(p, "other") == first {
			t.Error("another audience gets the same token")
		}
		time.Sleep(29 * time.Second)
		if mint(p, audience) != first {
			t.Error("a token is not used for half its life")
		}
		time.Sleep(time.Second)
		second := mint(p, audience)
		if second == first {
			t.Error("a token is used for more than half its life")
		}
		if _, err := s.Rotate(0); err != nil {
			t.Fatal(err)
		}
		if mint(p, audience) == second {
			t.Error("a token of a rotated key is handed on")
		}

		brief := *p
		brief.Expires = time.Now().Add(10 * time.Second)
		if c, err = v.Verify(t.Context(), mint(&brief, audience)); err != nil || c.Expires.After(brief.Expires) {
			t.Errorf("the token outlives its principal's proof: %v, %v", c.Expires, err)
		}
	})
}

func TestNobodyGetsAToken(t *testing.T) {
	m := newMinter(t, newSigner(t, token.ES256))
	for name, p := range map[string]*gatehouse.Principal{
		"no principal":          nil,
		"the zero principal":    {},
		"an anonymous caller":   {Subject: "alice"},
		"no subject":            {Method: gatehouse.MethodJWT},
		"an expired proof":      {Subject: "alice", Method: gatehouse.MethodJWT, Expires: time.Now().Add(-time.Second)},
		"a scope that is two":   {Subject: "alice", Method: gatehouse.MethodJWT, Scopes: []string{"a b"}},
		"a subject not in text": {Subject: "\xff", Method: gatehouse.MethodMTLS},
	} {
		if raw, err := m.Mint(p, audience); err == nil || raw != "" {
			t.Errorf("%s gets a token", name)
		}
	}
	if _, err := m.Mint(&gatehouse.Principal{Subject: "a", Method: gatehouse.MethodJWT}, ""); err == nil {
		t.Error("a token without audience is minted")
	}
	s := newSigner(t, token.ES256)
	for name, cfg := range map[string]token.MinterConfig{"the zero config": {}, "a life of a day": {Issuer: "i", Life: 24 * time.Hour}, "a negative life": {Issuer: "i", Life: -1}} {
		if _, err := token.NewMinter(cfg, s); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if _, err := token.NewMinter(token.MinterConfig{Issuer: "i"}, nil); err == nil {
		t.Error("no signer is accepted")
	}
	if _, err := token.NewMinter(token.MinterConfig{Issuer: "i"}, newSigner(t, token.RS256)); err == nil {
		t.Error("a slow signer is accepted")
	}
}

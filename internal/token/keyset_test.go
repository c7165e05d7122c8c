package token_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// An upstream is an issuer's web server as a Fetcher, for tests with a fake clock.
type upstream struct {
	mu      sync.Mutex
	doc     []byte
	header  http.Header
	err     error
	delay   time.Duration
	fetches int
}

func (u *upstream) Fetch(ctx context.Context, _ string) ([]byte, http.Header, error) {
	u.mu.Lock()
	u.fetches++
	doc, header, err, delay := u.doc, u.header, u.err, u.delay
	u.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	return doc, header, err
}

func (u *upstream) set(doc []byte, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.doc, u.err = doc, err
}

func (u *upstream) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.fetches
}

func remoteKeys(t testing.TB, u token.Fetcher, change func(*token.KeySetConfig)) *token.KeySet {
	t.Helper()
	cfg := token.KeySetConfig{Issuer: issuerURL, URL: issuerURL + "/jwks"}
	if change != nil {
		change(&cfg)
	}
	keys, err := token.NewKeySet(cfg, u)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// longLived is a token that outlives every test in its bubble.
func longLived(t testing.TB, alg token.Algorithm, kid string) string {
	t.Helper()
	header := fmt.Sprintf(`{"alg":%q,"typ":"at+jwt","kid":%q}`, alg, kid)
	return sign(t, alg, privateKeys()[alg], header, claims(map[string]any{"exp": time.Now().Add(1000 * time.Hour).Unix()}))
}

func TestKeysAreFetchedOnceAndRefreshed(t *testing.T) {
	doc := jwks(t, token.ES256)
	for _, tt := range []struct {
		name    string
		control string
		refresh time.Duration
		after   time.Duration
	}{
		{"an hour without a word", "", 0, time.Hour},
		{"as configured without a word", "", 2 * time.Hour, 2 * time.Hour},
		{"as the issuer says", "public, max-age=1800", 0, 30 * time.Minute},
		{"never sooner than five minutes", "max-age=1", 0, 5 * time.Minute},
		{"never later than a day", "max-age=9999999", 0, 24 * time.Hour},
		{"five minutes where caching is forbidden", "no-store", 0, 5 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := &upstream{doc: doc, header: http.Header{}}
				if tt.control != "" {
					u.header.Set("Cache-Control", tt.control)
				}
				v := newVerifier(t, remoteKeys(t, u, func(c *token.KeySetConfig) { c.Refresh = tt.refresh; c.MaxStale = 48 * time.Hour }), nil)
				raw := longLived(t, token.ES256, "ES256")
				verify := func() {
					t.Helper()
					if _, err := v.Verify(t.Context(), raw); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
				}
				verify()
				time.Sleep(tt.after)
				verify()
				if n := u.count(); n != 1 {
					t.Fatalf("%d fetches before the time is over, want 1", n)
				}
				time.Sleep(time.Second)
				verify()
				if n := u.count(); n != 2 {
					t.Fatalf("%d fetches after it, want 2", n)
				}
			})
		})
	}
}

func TestRunKeepsKeysFreshWithoutTraffic(t *testing.T) {
	doc := jwks(t, token.ES256)
	synctest.Test(t, func(t *testing.T) {
		u := &upstream{doc: doc}
		keys := remoteKeys(t, u, nil)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { keys.Run(ctx); close(ended) }()
		synctest.Wait()
		if st := keys.Status(); st.Keys != 1 || st.Err != nil || st.Fetched.IsZero() {
			t.Fatalf("status %+v", st)
		}
		time.Sleep(10*time.Hour + time.Minute)
		if n := u.count(); n != 11 {
			t.Errorf("%d fetches in ten hours, want 11", n)
		}
		// An outage: tried again soon, then less and less often.
		u.set(nil, errors.New("down"))
		time.Sleep(2 * time.Hour)
		if n := u.count() - 11; n < 15 || n > 40 {
			t.Errorf("%d attempts in an outage of about two hours", n)
		}
		if keys.Status().Err == nil {
			t.Error("the status hides the outage")
		}
		u.set(doc, nil)
		time.Sleep(6 * time.Minute)
		if st := keys.Status(); st.Err != nil || time.Since(st.Fetched) > 6*time.Minute {
			t.Errorf("status after the outage %+v", st)
		}
		cancel()
		<-ended
	})
}

func TestAnIssuerThatCannotBeReached(t *testing.T) {
	doc := jwks(t, token.ES256)
	t.Run("is 503 from the start and not 401", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			u := &upstream{err: errors.New("connection refused")}
			v := newVerifier(t, remoteKeys(t, u, nil), nil)
			raw := longLived(t, token.ES256, "ES256")
			for range 100 {
				c, err := v.Verify(t.Context(), raw)
				refused(t, c, err, "issuer_unavailable", "connection refused")
				if gatehouse.AsProblem(err).RetryAfter <= 0 {
					t.Fatal("no Retry-After")
				}
			}
			if n := u.count(); n != 1 {
				t.Errorf("%d fetches within ten seconds, want 1", n)
			}
			u.set(doc, nil)
			time.Sleep(10 * time.Second)
			if _, err := v.Verify(t.Context(), raw); err != nil {
				t.Errorf("still refused when the issuer is back: %v", err)
			}
		})
	})
	t.Run("is served from old keys, but not for ever", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			u := &upstream{doc: doc}
			v := newVerifier(t, remoteKeys(t, u, nil), nil)
			raw := longLived(t, token.ES256, "ES256")
			if _, err := v.Verify(t.Context(), raw); err != nil {
				t.Fatal(err)
			}
			u.set(nil, errors.New("connection refused"))
			for range 23 {
				time.Sleep(time.Hour)
				if _, err := v.Verify(t.Context(), raw); err != nil {
					t.Fatalf("refused in an outage: %v", err)
				}
			}
			time.Sleep(time.Hour + time.Second)
			c, err := v.Verify(t.Context(), raw)
			refused(t, c, err, "issuer_unavailable", "connection refused")
		})
	})
	t.Run("makes an unknown kid 503, since it may be a new key", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			u := &upstream{doc: doc}
			v := newVerifier(t, remoteKeys(t, u, nil), nil)
			if _, err := v.Verify(t.Context(), longLived(t, token.ES256, "ES256")); err != nil {
				t.Fatal(err)
			}
			u.set(nil, errors.New("connection refused"))
			time.Sleep(time.Minute)
			c, err := v.Verify(t.Context(), longLived(t, token.ES256, "new"))
			refused(t, c, err, "issuer_unavailable", "connection refused")
		})
	})
	t.Run("makes nobody wait longer than two seconds", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			u := &upstream{doc: doc, delay: 5 * time.Second}
			v := newVerifier(t, remoteKeys(t, u, nil), nil)
			raw := longLived(t, token.ES256, "ES256")
			var wg sync.WaitGroup
			for range 50 {
				wg.Go(func() {
					began := time.Now()
					c, err := v.Verify(t.Context(), raw)
					refused(t, c, err, "issuer_unavailable", "did not answer")
					if d := time.Since(began); d != 2*time.Second {
						t.Errorf("waited %v", d)
					}
				})
			}
			wg.Wait()
			time.Sleep(4 * time.Second)
			if _, err := v.Verify(t.Context(), raw); err != nil {
				t.Errorf("the slow answer is not used: %v", err)
			}
			if n := u.count(); n != 1 {
				t.Errorf("%d fetches for fifty requests, want 1", n)
			}
		})
	})
	t.Run("a caller who hangs up does not stop the fetch", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			u := &upstream{doc: doc, delay: time.Second}
			v := newVerifier(t, remoteKeys(t, u, nil), nil)
			raw := longLived(t, token.ES256, "ES256")
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			c, err := v.Verify(ctx, raw)
			refused(t, c, err, "issuer_unavailable", "deadline")
			time.Sleep(time.Second)
			if _, err := v.Verify(t.Context(), raw); err != nil {
				t.Error(err)
			}
		})
	})
}

func TestRotationAtTheIssuer(t *testing.T) {
	old, both, fresh := jwks(t, token.ES256), jwks(t, token.ES256, token.EdDSA), jwks(t, token.EdDSA)
	synctest.Test(t, func(t *testing.T) {
		u := &upstream{doc: old}
		keys := remoteKeys(t, u, nil)
		v := newVerifier(t, keys, nil)
		first, second := longLived(t, token.ES256, "ES256"), longLived(t, token.EdDSA, "EdDSA")
		if _, err := v.Verify(t.Context(), first); err != nil {
			t.Fatal(err)
		}

		u.set(both, nil)
		time.Sleep(time.Minute)
		if _, err := v.Verify(t.Context(), second); err != nil {
			t.Fatalf("a new key is not fetched when it is met: %v", err)
		}
		if _, err := v.Verify(t.Context(), first); err != nil {
			t.Fatalf("the old key is gone too early: %v", err)
		}

		u.set(fresh, nil)
		time.Sleep(time.Hour + time.Second)
		_, _ = v.Verify(t.Context(), second) // is past due: starts the refresh
		synctest.Wait()
		c, err := v.Verify(t.Context(), first)
		refused(t, c, err, "token_invalid", "no key of this kid")

		u.set([]byte(`{"keys":[]}`), nil)
		time.Sleep(time.Hour + time.Second)
		_, _ = v.Verify(t.Context(), second)
		synctest.Wait()
		c, err = v.Verify(t.Context(), second)
		refused(t, c, err, "token_invalid", "no key of this kid")
	})
}

// Some issuers put a new key under the old kid, or have no kid at all.
func TestANewKeyUnderAnOldName(t *testing.T) {
	old := jwks(t, token.ES256)
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	next, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: stranger.Public(), KeyID: "ES256", Algorithm: "ES256"}}})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		u := &upstream{doc: old}
		v := newVerifier(t, remoteKeys(t, u, nil), nil)
		if _, err := v.Verify(t.Context(), longLived(t, token.ES256, "ES256")); err != nil {
			t.Fatal(err)
		}
		u.set(next, nil)
		raw := sign(t, token.ES256, stranger, head(token.ES256), claims(nil))
		for range 100 {
			c, err := v.Verify(t.Context(), raw)
			refused(t, c, err, "token_invalid", "signature")
		}
		synctest.Wait()
		if n := u.count(); n != 1 {
			t.Fatalf("%d fetches: bad signatures make us ask for fresh keys", n)
		}
		time.Sleep(5 * time.Minute)
		c, err := v.Verify(t.Context(), raw)
		refused(t, c, err, "token_invalid", "signature")
		synctest.Wait()
		if _, err := v.Verify(t.Context(), raw); err != nil {
			t.Fatalf("the new key is not fetched: %v", err)
		}
		c, err = v.Verify(t.Context(), longLived(t, token.ES256, "ES256"))
		refused(t, c, err, "token_invalid", "signature")
		synctest.Wait()
		if n := u.count(); n != 2 {
			t.Errorf("%d fetches, want 2", n)
		}
	})
}

func TestAStormOfUnknownKeys(t *testing.T) {
	doc := jwks(t, token.ES256)
	synctest.Test(t, func(t *testing.T) {
		u := &upstream{doc: doc, delay: 100 * time.Millisecond}
		v := newVerifier(t, remoteKeys(t, u, nil), nil)
		if _, err := v.Verify(t.Context(), longLived(t, token.ES256, "ES256")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		base := strings.Split(longLived(t, token.ES256, "ES256"), ".")
		var wg sync.WaitGroup
		for i := range 1000 {
			header := b64.EncodeToString(fmt.Appendf(nil, `{"alg":"ES256","typ":"at+jwt","kid":"storm-%d"}`, i))
			wg.Go(func() {
				c, err := v.Verify(t.Context(), header+"."+base[1]+"."+base[2])
				refused(t, c, err, "token_invalid", "no key of this kid")
			})
		}
		wg.Wait()
		if n := u.count(); n != 2 {
			t.Errorf("%d fetches, want 2: the first one, and one for the whole storm", n)
		}
		if _, err := v.Verify(t.Context(), longLived(t, token.ES256, "ES256")); err != nil {
			t.Errorf("the storm keeps others out: %v", err)
		}
	})
	t.Run("one kid asked for in vain is not asked for again for a minute", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			u := &upstream{doc: doc}
			v := newVerifier(t, remoteKeys(t, u, nil), nil)
			raw := longLived(t, token.ES256, "gone")
			_, _ = v.Verify(t.Context(), raw) // fetches the set
			for range 61 {
				time.Sleep(time.Second)
				c, err := v.Verify(t.Context(), raw)
				refused(t, c, err, "token_invalid", "no key of this kid")
			}
			if n := u.count(); n != 2 {
				t.Errorf("%d fetches in a minute, want 2", n)
			}
		})
	})
}

func TestGarbageFromTheIssuerKeepsTheOldKeys(t *testing.T) {
	doc := jwks(t, token.ES256)
	for name, garbage := range map[string]string{
		"an HTML page":        "<html>",
		"nothing":             "",
		"a list":              "[]",
		"no keys":             `{}`,
		"keys that are text":  `{"keys":"none"}`,
		"two sets":            `{"keys":[]}{"keys":[]}`,
		"keys twice":          `{"keys":[],"keys":[]}`,
		"a key's name twice":  `{"keys":[{"kty":"EC","kty":"EC"}]}`,
		"too many keys":       `{"keys":[` + strings.Repeat("{},", 100) + `{}]}`,
		"a huge document":     `{"keys":[],"x":"` + strings.Repeat("x", 1<<20) + `"}`,
		"a bottomless nest":   `{"keys":` + strings.Repeat("[", 100000),
		"a document cut off":  string(doc[:len(doc)-2]),
		"invalid UTF-8 in it": "{\"keys\":[],\"\xff\":1}",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := &upstream{doc: doc}
				keys := remoteKeys(t, u, nil)
				v := newVerifier(t, keys, nil)
				raw := longLived(t, token.ES256, "ES256")
				if _, err := v.Verify(t.Context(), raw); err != nil {
					t.Fatal(err)
				}
				u.set([]byte(garbage), nil)
				time.Sleep(2 * time.Hour)
				_, _ = v.Verify(t.Context(), raw)
				synctest.Wait()
				if keys.Status().Err == nil {
					t.Fatal("the garbage is taken for a key set")
				}
				if _, err := v.Verify(t.Context(), raw); err != nil {
					t.Fatalf("the old keys are gone: %v", err)
				}
			})
		})
	}
}

// get is a plain Fetcher over the network; the real one is internal/egress.
type get struct{ client *http.Client }

func (g get) Fetch(ctx context.Context, url string) ([]byte, http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, nil, err
	}
	res, err := g.client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("status %d", res.StatusCode)
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, 2<<20))
	return b, res.Header, err
}

func TestDiscovery(t *testing.T) {
	doc := jwks(t, token.ES256)
	type answers map[string]string
	for _, tt := range []struct {
		name   string
		issuer string // behind the server's URL
		pages  answers
		cause  string // "" when the token is accepted
	}{
		{"OpenID Connect Discovery is asked", "", answers{"/.well-known/openid-configuration": `{"issuer":"BASE","jwks_uri":"BASE/keys"}`}, ""},
		{"an issuer with a path has its document below it", "/realms/a", answers{"/realms/a/.well-known/openid-configuration": `{"issuer":"BASE/realms/a","jwks_uri":"BASE/keys"}`}, ""},
		{"an issuer that ends in a slash keeps it", "/a/", answers{"/a/.well-known/openid-configuration": `{"issuer":"BASE/a/","jwks_uri":"BASE/keys"}`}, ""},
		{"RFC 8414 is asked then", "/realms/a", answers{"/.well-known/oauth-authorization-server/realms/a": `{"issuer":"BASE/realms/a","jwks_uri":"BASE/keys"}`}, ""},
		{"another issuer's document is refused", "", answers{"/.well-known/openid-configuration": `{"issuer":"https://evil.example","jwks_uri":"BASE/keys"}`}, "it is the document of"},
		{"an issuer with a slash more is another", "", answers{"/.well-known/openid-configuration": `{"issuer":"BASE/","jwks_uri":"BASE/keys"}`}, "it is the document of"},
		{"a document without issuer is refused", "", answers{"/.well-known/openid-configuration": `{"jwks_uri":"BASE/keys"}`}, "it is the document of"},
		{"a document without jwks_uri is refused", "", answers{"/.well-known/openid-configuration": `{"issuer":"BASE"}`}, "jwks_uri"},
		{"keys over plain http are refused", "", answers{"/.well-known/openid-configuration": `{"issuer":"BASE","jwks_uri":"http://keys.example/"}`}, "must be https"},
		{"keys in a file are refused", "", answers{"/.well-known/openid-configuration": `{"issuer":"BASE","jwks_uri":"file:///etc/passwd"}`}, "jwks_uri"},
		{"a doubled jwks_uri is refused", "", answers{"/.well-known/openid-configuration": `{"issuer":"BASE","jwks_uri":"BASE/keys","jwks_uri":"BASE/keys"}`}, "duplicate"},
		{"no document is an error", "", answers{}, "404"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var base string
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/keys" {
					_, _ = w.Write(doc)
				} else if page, ok := tt.pages[r.URL.Path]; ok {
					_, _ = io.WriteString(w, strings.ReplaceAll(page, "BASE", base))
				} else {
					http.NotFound(w, r)
				}
			}))
			defer s.Close()
			base = s.URL
			keys := remoteKeys(t, get{s.Client()}, func(c *token.KeySetConfig) { c.Issuer, c.URL = base+tt.issuer, "" })
			v := newVerifier(t, keys, func(c *token.VerifierConfig) { c.Issuer = base + tt.issuer })
			raw := sign(t, token.ES256, privateKeys()[token.ES256], head(token.ES256), claims(map[string]any{"iss": base + tt.issuer}))
			c, err := v.Verify(t.Context(), raw)
			if tt.cause == "" && err != nil {
				t.Fatal(err)
			}
			if tt.cause != "" {
				refused(t, c, err, "issuer_unavailable", tt.cause)
			}
		})
	}
}

// Rotation over a real connection, with many requests at once under -race.
func TestRotationUnderLoad(t *testing.T) {
	var doc atomic.Pointer[[]byte]
	first := jwks(t, token.ES256)
	doc.Store(&first)
	var fetches atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fetches.Add(1)
		_, _ = w.Write(*doc.Load())
	}))
	defer s.Close()
	keys := remoteKeys(t, get{s.Client()}, func(c *token.KeySetConfig) { c.URL = s.URL })
	v := newVerifier(t, keys, nil)
	raw, unknown := good(t, token.ES256), good(t, token.EdDSA)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if _, err := v.Verify(t.Context(), raw); err != nil {
					t.Error(err)
				}
				if _, err := v.Verify(t.Context(), unknown); err == nil {
					t.Error("a token of an unknown key is accepted")
				}
				keys.Status()
				keys.Flush()
			}
		})
	}
	wg.Wait()
	if n := fetches.Load(); n != 1 {
		t.Errorf("%d fetches, want 1", n)
	}
}

func TestKeysInAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jwks.json")
	first, second := jwks(t, token.ES256), jwks(t, token.EdDSA)
	if err := os.WriteFile(path, first, 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		keys, err := token.NewKeySet(token.KeySetConfig{Issuer: issuerURL, File: path}, nil)
		if err != nil {
			t.Fatal(err)
		}
		v := newVerifier(t, keys, nil)
		if _, err := v.Verify(t.Context(), longLived(t, token.ES256, "ES256")); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, second, 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if _, err := v.Verify(t.Context(), longLived(t, token.EdDSA, "EdDSA")); err != nil {
			t.Fatalf("the new file is not read: %v", err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(25 * time.Hour)
		c, err := v.Verify(t.Context(), longLived(t, token.EdDSA, "EdDSA"))
		refused(t, c, err, "issuer_unavailable", "no such file")
	})
}

func TestKeySetConfig(t *testing.T) {
	for name, cfg := range map[string]token.KeySetConfig{
		"the zero config":       {},
		"a url and a file":      {URL: issuerURL, File: "x"},
		"a url over http":       {URL: "http://login.example.com/jwks"},
		"a url with a user":     {URL: "https://u:hunter2@login.example.com/jwks"},
		"a relative url":        {URL: "/jwks"},
		"an issuer over http":   {Issuer: "http://login.example.com"},
		"an unknown algorithm":  {URL: issuerURL, Algorithms: []token.Algorithm{"HS256"}},
		"a negative refresh":    {URL: issuerURL, Refresh: -1},
		"static keys not JSON":  {Static: []byte("x")},
		"static keys with a d":  {Static: []byte(`{"keys":[{"kty":"EC","d":"x"}]}`)},
		"an empty static value": {Static: []byte{}},
	} {
		_, err := token.NewKeySet(cfg, &upstream{})
		if err == nil {
			t.Errorf("%s is accepted", name)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error holds the password: %v", name, err)
		}
	}
	if _, err := token.NewKeySet(token.KeySetConfig{URL: issuerURL}, nil); err == nil {
		t.Error("a url without a fetcher is accepted")
	}
}

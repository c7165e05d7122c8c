package oauth_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/oauth"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

func newSigner(t testing.TB) *token.Signer {
	t.Helper()
	s, err := token.NewSigner(token.ES256)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// assertion is what client id says of itself, changed by changes; a nil value
// takes a claim away.
func assertion(t testing.TB, s *token.Signer, id string, changes map[string]any) string {
	t.Helper()
	now := time.Now().Unix()
	claims := map[string]any{"iss": id, "sub": id, "aud": shopIssuer, "jti": rand.Text(), "iat": now, "exp": now + 50}
	maps.Copy(claims, changes)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	b, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := s.Sign("JWT", b)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func asserted(form url.Values, raw string) url.Values {
	return with(form, "client_assertion_type", assertionType, "client_assertion", raw)
}

// A prover makes DPoP proofs with one key.
type prover struct {
	key *ecdsa.PrivateKey
	jwk map[string]any
	jkt string
}

func newProver(t testing.TB) *prover {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := k.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	x, y := base64.RawURLEncoding.EncodeToString(pub[1:33]), base64.RawURLEncoding.EncodeToString(pub[33:])
	sum := sha256.Sum256([]byte(`{"crv":"P-256","kty":"EC","x":"` + x + `","y":"` + y + `"}`))
	return &prover{k, map[string]any{"kty": "EC", "crv": "P-256", "x": x, "y": y}, base64.RawURLEncoding.EncodeToString(sum[:])}
}

// proof is for a POST to path, changed by changes.
func (p *prover) proof(t testing.TB, path string, changes map[string]any) string {
	t.Helper()
	claims := map[string]any{"jti": rand.Text(), "htm": "POST", "htu": shopIssuer + path, "iat": time.Now().Unix()}
	maps.Copy(claims, changes)
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	message := part(map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": p.jwk}) + "." + part(claims)
	sum := sha256.Sum256([]byte(message))
	r, s, err := ecdsa.Sign(rand.Reader, p.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return message + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func dpop(proof string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Add("DPoP", proof) }
}

// certificate is a self-signed one; over, when true, has expired.
func certificate(t testing.TB, over bool) *x509.Certificate {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse("spiffe://example/robot")
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "robot", Organization: []string{"Example, Inc."}},
		DNSNames: []string{"robot.example"}, URIs: []*url.URL{u}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	if over {
		tmpl.NotAfter = time.Now().Add(-time.Minute)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func overTLS(c *x509.Certificate, verified bool) func(*http.Request) {
	return func(r *http.Request) {
		r.TLS = &tls.ConnectionState{HandshakeComplete: true, PeerCertificates: []*x509.Certificate{c}}
		if verified {
			r.TLS.VerifiedChains = [][]*x509.Certificate{{c}}
		}
	}
}

func TestSecretsProveClients(t *testing.T) {
	s := newShop(t, nil)
	secret, _ := s.client("robot", robot())
	m := robot()
	m.TokenEndpointAuthMethod = "client_secret_post"
	posted, _ := s.client("poster", m)
	m = webApp()
	m.TokenEndpointAuthMethod = "none"
	s.client("app", m)
	right, wrong := secret.Reveal(), "gcs_"+strings.Repeat("0", 49)
	for _, tt := range []struct {
		name   string
		form   url.Values
		with   []func(*http.Request)
		status int
		code   string
	}{
		{"the secret in the header is proof", asRobot(), []func(*http.Request){basic("robot", right)}, 200, ""},
		{"and its client_id may be in the form as well", with(asRobot(), "client_id", "robot"), []func(*http.Request){basic("robot", right)}, 200, ""},
		{"the secret in the form is proof for a client registered so", with(asRobot(), "client_id", "poster", "client_secret", posted.Reveal()), nil, 200, ""},
		{"a wrong secret is not", asRobot(), []func(*http.Request){basic("robot", wrong)}, 401, "invalid_client"},
		{"nor is an empty one", asRobot(), []func(*http.Request){basic("robot", "")}, 401, "invalid_client"},
		{"nor half of it", asRobot(), []func(*http.Request){basic("robot", right[:30])}, 401, "invalid_client"},
		{"nor it and more", asRobot(), []func(*http.Request){basic("robot", right+"0")}, 401, "invalid_client"},
		{"nor another client's", asRobot(), []func(*http.Request){basic("robot", posted.Reveal())}, 401, "invalid_client"},
		{"an unknown client is answered like a wrong secret", asRobot(), []func(*http.Request){basic("nobody", wrong)}, 401, "invalid_client"},
		{"a client that shows nothing is refused", with(asRobot(), "client_id", "robot"), nil, 401, "invalid_client"},
		{"no client at all is refused", asRobot(), nil, 401, "invalid_client"},
		{"another client_id in the form is refused", with(asRobot(), "client_id", "poster"), []func(*http.Request){basic("robot", right)}, 401, "invalid_client"},
		{"the method that is not registered is refused: post for basic", with(asRobot(), "client_id", "robot", "client_secret", right), nil, 401, "invalid_client"},
		{"the method that is not registered is refused: basic for post", asRobot(), []func(*http.Request){basic("poster", posted.Reveal())}, 401, "invalid_client"},
		{"two methods at once are refused", with(asRobot(), "client_secret", right), []func(*http.Request){basic("robot", right)}, 400, "invalid_request"},
		{"an assertion beside a secret is refused", asserted(asRobot(), assertion(t, newSigner(t), "robot", nil)), []func(*http.Request){basic("robot", right)}, 400, "invalid_request"},
		{"a bearer token proves no client", asRobot(), []func(*http.Request){func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+right) }}, 401, "invalid_client"},
		{"two headers are refused", asRobot(), []func(*http.Request){basic("robot", right), func(r *http.Request) { r.Header.Add("Authorization", "Basic x") }}, 401, "invalid_client"},
		{"a secret in the query is refused", with(asRobot(), "client_id", "poster"), []func(*http.Request){func(r *http.Request) { r.URL.RawQuery = "client_secret=" + posted.Reveal() }}, 400, "invalid_request"},
		{"a public client with a secret is refused", with(asRobot(), "client_id", "app", "client_secret", wrong), nil, 401, "invalid_client"},
		{"a public client gets no tokens of its own", with(asRobot(), "client_id", "app"), nil, 400, "unauthorized_client"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := s.post("/token", tt.form, tt.with...)
			if a.Status != tt.status || a.code() != tt.code {
				t.Fatalf("%d %s", a.Status, a.Text)
			}
			usedHeader := len(tt.with) > 0 && strings.Contains(a.Header.Get("WWW-Authenticate"), "Basic")
			if a.Status == 401 && a.Header.Get("WWW-Authenticate") != "" != usedHeader {
				t.Fatal(a.Header)
			}
			if a.Header.Get("Cache-Control") != "no-store" {
				t.Fatal("it may be kept")
			}
		})
	}
	t.Run("an unknown client's answer is the same to the byte", func(t *testing.T) {
		known, unknown := s.post("/token", asRobot(), basic("robot", wrong)), s.post("/token", asRobot(), basic("nobody", wrong))
		if known.Status != unknown.Status || known.Text != unknown.Text || known.Header.Get("WWW-Authenticate") != unknown.Header.Get("WWW-Authenticate") {
			t.Fatal(known, unknown)
		}
		if known.Header.Get("WWW-Authenticate") == "" {
			t.Fatal("no challenge for who used the header")
		}
	})
}

func FuzzBasic(f *testing.F) {
	s := newShop(f, nil)
	secret, _ := s.client("robot", robot())
	right := secret.Reveal()
	for _, h := range []string{"Basic", "Basic ", "basic cm9ib3Q6eA==", "Basic cm9ib3Q=", "Basic %%%", "Bearer x", "Basic cm9ib3Q6JXo="} {
		f.Add(h)
	}
	f.Fuzz(func(t *testing.T, header string) {
		r := formRequest(t, "/token", asRobot())
		r.Header["Authorization"] = []string{header}
		a := s.do(r)
		if a.Status == http.StatusOK && !strings.Contains(header, base64.StdEncoding.EncodeToString([]byte("robot:"+right))) {
			t.Fatalf("%q is taken for robot", header)
		}
		if a.Status != http.StatusOK && a.Status != http.StatusUnauthorized {
			t.Fatalf("%q: status %d %s", header, a.Status, a.Text)
		}
	})
}

func TestAssertionsProveClients(t *testing.T) {
	s := newShop(t, nil)
	mine, other := newSigner(t), newSigner(t)
	m := robot()
	m.TokenEndpointAuthMethod, m.JWKS = "private_key_jwt", mine.JWKS()
	s.client("robot", m)
	secret, _ := s.client("plain", robot())
	now := time.Now()
	for _, tt := range []struct {
		name string
		raw  string
		ok   bool
	}{
		{"its own assertion is proof", assertion(t, mine, "robot", nil), true},
		{"another key's is not", assertion(t, other, "robot", nil), false},
		{"the token endpoint as audience is refused", assertion(t, mine, "robot", map[string]any{"aud": shopIssuer + "/token"}), false},
		{"the pushed request endpoint as audience is refused", assertion(t, mine, "robot", map[string]any{"aud": shopIssuer + "/par"}), false},
		{"an array as audience is refused", assertion(t, mine, "robot", map[string]any{"aud": []string{shopIssuer}}), false},
		{"an array of two audiences is refused", assertion(t, mine, "robot", map[string]any{"aud": []string{shopIssuer, "https://other.example"}}), false},
		{"another server's assertion is refused", assertion(t, mine, "robot", map[string]any{"aud": "https://other.example"}), false},
		{"no audience is refused", assertion(t, mine, "robot", map[string]any{"aud": nil}), false},
		{"no jti is refused", assertion(t, mine, "robot", map[string]any{"jti": nil}), false},
		{"no exp is refused", assertion(t, mine, "robot", map[string]any{"exp": nil}), false},
		{"an expired one is refused", assertion(t, mine, "robot", map[string]any{"exp": now.Unix() - 30, "iat": now.Unix() - 60}), false},
		{"one that lives for an hour is refused", assertion(t, mine, "robot", map[string]any{"exp": now.Unix() + 3600}), false},
		{"one of the future is refused", assertion(t, mine, "robot", map[string]any{"nbf": now.Unix() + 120}), false},
		{"another subject is refused", assertion(t, mine, "robot", map[string]any{"sub": "plain"}), false},
		{"another client's name is refused", assertion(t, mine, "plain", nil), false},
		{"an unknown client's is refused", assertion(t, mine, "nobody", nil), false},
		{"what is no JWT is refused", "x.y.z", false},
		{"an unsigned one is refused", base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + ".e30.", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := s.post("/token", asserted(asRobot(), tt.raw))
			if tt.ok && a.Status != 200 || !tt.ok && (a.Status != 401 || a.code() != "invalid_client") {
				t.Fatalf("%d %s", a.Status, a.Text)
			}
		})
	}
	t.Run("an assertion is used once, also when client_id is there", func(t *testing.T) {
		raw := assertion(t, mine, "robot", nil)
		first, second := s.post("/token", asserted(with(asRobot(), "client_id", "robot"), raw)), s.post("/token", asserted(asRobot(), raw))
		if first.Status != 200 || second.code() != "invalid_client" {
			t.Fatal(first.Text, second.Text)
		}
	})
	t.Run("another assertion type is refused", func(t *testing.T) {
		a := s.post("/token", with(asRobot(), "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer", "client_assertion", assertion(t, mine, "robot", nil)))
		if a.code() != "invalid_client" {
			t.Fatal(a.Text)
		}
	})
	t.Run("a client with a secret is not proven by an assertion, nor this one by a secret", func(t *testing.T) {
		if a := s.post("/token", asserted(asRobot(), assertion(t, mine, "plain", nil))); a.code() != "invalid_client" {
			t.Fatal(a.Text)
		}
		if a := s.post("/token", asRobot(), basic("robot", secret.Reveal())); a.code() != "invalid_client" {
			t.Fatal(a.Text)
		}
	})
	t.Run("of fifty uses of one assertion at once exactly one succeeds", func(t *testing.T) {
		raw := assertion(t, mine, "robot", nil)
		if n := parallel(50, func() bool { return s.post("/token", asserted(asRobot(), raw)).Status == 200 }); n != 1 {
			t.Fatalf("%d succeeded", n)
		}
	})
	t.Run("what cannot be remembered is not taken", func(t *testing.T) {
		raw := assertion(t, mine, "robot", nil)
		_ = s.db.Close()
		if a := s.post("/token", asserted(asRobot(), raw)); a.Status != http.StatusServiceUnavailable {
			t.Fatalf("%d %s", a.Status, a.Text)
		}
	})
}

// parallel runs f n times at once and counts how often it says true.
func parallel(n int, f func() bool) int {
	var wg sync.WaitGroup
	var count atomic.Int64
	start := make(chan struct{})
	for range n {
		wg.Go(func() {
			<-start
			if f() {
				count.Add(1)
			}
		})
	}
	close(start)
	wg.Wait()
	return int(count.Load())
}

// A fetcher is a web of its own: what is at a URL, and how often it was asked.
type fetcher struct {
	mu    sync.Mutex
	at    map[string]string
	calls int
	head  http.Header
}

func (f *fetcher) set(url, body string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at == nil {
		f.at = map[string]string{}
	}
	f.at[url] = body
}

func (f *fetcher) drop(url string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.at, url)
}

// Fetch implements token.Fetcher.
func (f *fetcher) Fetch(_ context.Context, url string) ([]byte, http.Header, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	body, ok := f.at[url]
	if !ok {
		return nil, nil, errors.New("status 404")
	}
	h := http.Header{"Content-Type": {"application/json"}}
	maps.Copy(h, f.head)
	return []byte(body), h, nil
}

func (f *fetcher) asked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

func TestKeysOfClientsAreFetched(t *testing.T) {
	web := &fetcher{}
	s := newShop(t, func(c *oauth.Config) { c.Fetch = web })
	first, second := newSigner(t), newSigner(t)
	const at = "https://robot.example/jwks"
	m := robot()
	m.TokenEndpointAuthMethod, m.JWKSURI = "private_key_jwt", at
	s.client("robot", m)
	if a := s.post("/token", asserted(asRobot(), assertion(t, first, "robot", nil))); a.code() != "invalid_client" {
		t.Fatal("without keys:", a.Text)
	}
	if web.asked() != 1 {
		t.Fatal("fetched", web.asked())
	}
	web.set(at, string(first.JWKS()))
	if a := s.post("/token", asserted(asRobot(), assertion(t, first, "robot", nil))); a.code() != "invalid_client" || web.asked() != 1 {
		t.Fatal("a failed fetch is not repeated at once:", a.Text, web.asked())
	}
	m.ClientName = "Other"
	m.JWKSURI = at + "/2"
	web.set(m.JWKSURI, string(first.JWKS()))
	if _, err := s.UpdateClient(t.Context(), "test", "robot", 0, m); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if a := s.post("/token", asserted(asRobot(), assertion(t, first, "robot", nil))); a.Status != 200 {
			t.Fatal(a.Text)
		}
	}
	if web.asked() != 2 {
		t.Fatal("fetched once for three, but", web.asked())
	}
	if a := s.post("/token", asserted(asRobot(), assertion(t, second, "robot", nil))); a.code() != "invalid_client" || web.asked() != 2 {
		t.Fatal("an unknown key does not make us fetch without end:", a.Text, web.asked())
	}
}

func TestCertificatesProveClients(t *testing.T) {
	s := newShop(t, nil)
	cert, stranger, over := certificate(t, false), certificate(t, false), certificate(t, true)
	stranger.DNSNames, stranger.URIs, stranger.RawSubject = nil, nil, []byte{0x30, 0}
	byName := func(id string, change func(*oauth.Metadata)) {
		m := robot()
		m.TokenEndpointAuthMethod = "tls_client_auth"
		change(&m)
		s.client(id, m)
	}
	byName("dn", func(m *oauth.Metadata) { m.TLSSubjectDN = `CN=robot,O=Example\, Inc.` })
	byName("dns", func(m *oauth.Metadata) { m.TLSSANDNS = "robot.example" })
	byName("uri", func(m *oauth.Metadata) { m.TLSSANURI = "spiffe://example/robot" })
	byName("almost", func(m *oauth.Metadata) { m.TLSSubjectDN = "CN=robot" })
	byName("suffix", func(m *oauth.Metadata) { m.TLSSANDNS = "example" })
	byName("bound", func(m *oauth.Metadata) { m.TLSSANDNS, m.TLSBoundTokens = "robot.example", true })
	self := robot()
	self.TokenEndpointAuthMethod = "self_signed_tls_client_auth"
	self.JWKS = withCertificate(t, newSigner(t).JWKS(), cert)
	s.client("self", self)
	m := robot()
	m.TLSBoundTokens = true
	secret, _ := s.client("secret", m)
	for _, tt := range []struct {
		name, id string
		with     []func(*http.Request)
		ok       bool
	}{
		{"its subject is proof", "dn", []func(*http.Request){overTLS(cert, true)}, true},
		{"its host name is proof", "dns", []func(*http.Request){overTLS(cert, true)}, true},
		{"its URI is proof", "uri", []func(*http.Request){overTLS(cert, true)}, true},
		{"a part of its subject is not", "almost", []func(*http.Request){overTLS(cert, true)}, false},
		{"a part of its host name is not", "suffix", []func(*http.Request){overTLS(cert, true)}, false},
		{"a certificate nobody verified is not", "dns", []func(*http.Request){overTLS(cert, false)}, false},
		{"a stranger's is not", "dns", []func(*http.Request){overTLS(stranger, true)}, false},
		{"an expired one on an old connection is not", "dns", []func(*http.Request){overTLS(over, true)}, false},
		{"no certificate is not", "dns", nil, false},
		{"a header with it is not", "dns", []func(*http.Request){func(r *http.Request) { r.Header.Set("X-Client-Cert", "x") }}, false},
		{"a registered self-signed one is proof", "self", []func(*http.Request){overTLS(cert, false)}, true},
		{"another self-signed one is not", "self", []func(*http.Request){overTLS(stranger, false)}, false},
		{"a client with bound tokens gets some over its connection", "bound", []func(*http.Request){overTLS(cert, true)}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := s.post("/token", with(asRobot(), "client_id", tt.id), tt.with...)
			if tt.ok && a.Status != 200 || !tt.ok && (a.Status != 401 || a.code() != "invalid_client") {
				t.Fatalf("%d %s", a.Status, a.Text)
			}
		})
	}
	t.Run("who is proven otherwise gets no bound token without a certificate", func(t *testing.T) {
		if a := s.post("/token", asRobot(), basic("secret", secret.Reveal())); a.code() != "invalid_request" {
			t.Fatal(a.Text)
		}
		if a := s.post("/token", asRobot(), basic("secret", secret.Reveal()), overTLS(cert, false)); a.Status != 200 {
			t.Fatal(a.Text)
		}
	})
}

// withCertificate adds c as x5c to the one key of jwks.
func withCertificate(t testing.TB, jwks []byte, c *x509.Certificate) json.RawMessage {
	t.Helper()
	var set struct {
		Keys []map[string]any `json:"keys"`
	}
	if err := json.Unmarshal(jwks, &set); err != nil || len(set.Keys) == 0 {
		t.Fatal(err)
	}
	set.Keys[0]["x5c"] = []string{base64.StdEncoding.EncodeToString(c.Raw)}
	b, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestProofsAtTheTokenEndpoint(t *testing.T) {
	for _, nonces := range []bool{false, true} {
		s := newShop(t, func(c *oauth.Config) { c.RequireNonce = nonces })
		m := robot()
		m.DPoPBoundTokens = true
		secret, _ := s.client("robot", m)
		auth, key := basic("robot", secret.Reveal()), newProver(t)
		extra := map[string]any{}
		if nonces {
			a := s.post("/token", asRobot(), auth, dpop(key.proof(t, "/token", nil)))
			if a.Status != 400 || a.code() != "use_dpop_nonce" || a.Header.Get("DPoP-Nonce") == "" {
				t.Fatal("a proof without the nonce:", a)
			}
			extra["nonce"] = a.Header.Get("DPoP-Nonce")
		}
		proof := func(path string, changes map[string]any) string {
			all := maps.Clone(extra)
			maps.Copy(all, changes)
			return key.proof(t, path, all)
		}
		used := proof("/token", nil)
		a := s.post("/token", asRobot(), auth, dpop(used))
		if a.Status != 200 || a.text("token_type") != "DPoP" {
			t.Fatal(a.Text)
		}
		if nonces && a.Header.Get("DPoP-Nonce") == "" {
			t.Fatal("no nonce for the next proof")
		}
		for name, with := range map[string][]func(*http.Request){
			"no proof is refused":                    {auth},
			"a proof that was used is refused":       {auth, dpop(used)},
			"two proofs are refused":                 {auth, dpop(proof("/token", nil)), dpop(proof("/token", nil))},
			"a proof for another path is refused":    {auth, dpop(proof("/par", nil))},
			"a proof for another method is refused":  {auth, dpop(proof("/token", map[string]any{"htm": "GET"}))},
			"a proof for another server is refused":  {auth, dpop(proof("/token", map[string]any{"htu": "https://other.example/token"}))},
			"a Host header does not choose the URL":  {auth, dpop(proof("/token", map[string]any{"htu": "https://evil.example/token"})), func(r *http.Request) { r.Host = "evil.example" }},
			"an old proof is refused":                {auth, dpop(proof("/token", map[string]any{"iat": time.Now().Unix() - 300}))},
			"a proof of the future is refused":       {auth, dpop(proof("/token", map[string]any{"iat": time.Now().Unix() + 60}))},
			"something that is no proof is refused":  {auth, dpop("x")},
			"an empty proof is refused":              {auth, dpop("")},
			"the proof of a client that is not seen": {dpop(proof("/token", nil))},
		} {
			want := "invalid_dpop_proof"
			if len(with) == 1 && name != "no proof is refused" {
				want = "invalid_client"
			}
			if a := s.post("/token", asRobot(), with...); a.code() != want {
				t.Errorf("%s: %d %s", name, a.Status, a.Text)
			}
		}
	}
}

func TestProfileFAPI2AtTheTokenEndpoint(t *testing.T) {
	s := newShop(t, func(c *oauth.Config) { c.Profile = oauth.FAPI2 })
	if _, _, err := s.CreateClient(t.Context(), "test", "", robot()); !errors.Is(err, oauth.ErrClient) {
		t.Fatal("a client with a secret is registered:", err)
	}
	mine, key := newSigner(t), newProver(t)
	m := robot()
	m.TokenEndpointAuthMethod, m.JWKS, m.DPoPBoundTokens = "private_key_jwt", mine.JWKS(), true
	s.client("robot", m)
	if a := s.post("/token", asserted(asRobot(), assertion(t, mine, "robot", nil))); a.code() != "invalid_dpop_proof" {
		t.Fatal("a bearer token is given:", a.Text)
	}
	if a := s.post("/token", asserted(asRobot(), assertion(t, mine, "robot", nil)), dpop(key.proof(t, "/token", nil))); a.Status != 200 {
		t.Fatal(a.Text)
	}
	long := assertion(t, mine, "robot", map[string]any{"exp": time.Now().Unix() + 90})
	if a := s.post("/token", asserted(asRobot(), long), dpop(key.proof(t, "/token", nil))); a.code() != "invalid_client" {
		t.Fatal("an assertion of 90 s is taken:", a.Text)
	}
}

func TestAClientFromBeforeTheProfileIsRefused(t *testing.T) {
	s := newShop(t, nil)
	secret, _ := s.client("robot", robot())
	strict, err := oauth.New(t.Context(), oauth.Config{
		Issuer: shopIssuer, Profile: oauth.FAPI2, DB: s.db, Keys: s.keys, Seal: s.seal, People: s.people, Log: s.changes,
		Resources: []oauth.Resource{{ID: shopOrders}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.web = strict.Handler()
	if a := s.post("/token", asRobot(), basic("robot", secret.Reveal())); a.code() != "invalid_client" {
		t.Fatal(a.Text)
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	s := newShop(b, nil)
	secret, _ := s.client("robot", robot())
	auth := basic("robot", secret.Reveal())
	// A refusal behind the proof: what is measured is the form, the client and its secret.
	form := values("grant_type", "urn:none")
	b.ReportAllocs()
	for b.Loop() {
		if a := s.post("/token", form, auth); a.code() != "unsupported_grant_type" {
			b.Fatal(a.Text)
		}
	}
}

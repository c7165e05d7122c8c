package authn_test

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
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

const (
	mainIssuer  = "https://auth.example"
	otherIssuer = "https://other.example"
	audience    = "orders"
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

// A world is an Authenticator with real issuers, a real database and a real log.
type world struct {
	*authn.Authenticator
	keys       *authn.Keys
	path       string
	changes    *auditlog.Changes
	main       *token.Signer
	other      *token.Signer
	mainKeySet *token.KeySet
}

// Authenticate asks for a caller who came by https.
func (w *world) Authenticate(ctx context.Context, r *http.Request, acc *authn.Accept) (*gatehouse.Principal, error) {
	return w.Authenticator.Authenticate(ctx, r, "https", acc)
}

var roles = []string{"support", "manager"}

func openKeys(t testing.TB, path string, log authn.ChangeLog) *authn.Keys {
	t.Helper()
	db := must[*store.DB](t)(store.Open(t.Context(), storetest.At(path)))
	t.Cleanup(func() { _ = db.Close() })
	return must[*authn.Keys](t)(authn.NewKeys(t.Context(), authn.KeysConfig{DB: db, Environment: "live", Log: log}))
}

func newWorld(t testing.TB) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{path: filepath.Join(dir, "gatehouse.db"), changes: must[*auditlog.Changes](t)(auditlog.OpenChanges(dir))}
	w.keys = openKeys(t, w.path, w.changes)
	w.main, w.other = must[*token.Signer](t)(token.NewSigner(token.ES256)), must[*token.Signer](t)(token.NewSigner(token.EdDSA))
	w.mainKeySet = must[*token.KeySet](t)(token.NewKeySet(token.KeySetConfig{Static: w.main.JWKS()}, nil))
	otherKeySet := must[*token.KeySet](t)(token.NewKeySet(token.KeySetConfig{Static: w.other.JWKS()}, nil))
	w.Authenticator = must[*authn.Authenticator](t)(authn.New(authn.Config{
		Realm: "orders",
		Issuers: []authn.Issuer{
			{
				Name: "main", Keys: w.mainKeySet, Token: token.VerifierConfig{Issuer: mainIssuer, Audiences: []string{audience}},
				RolesClaim: "realm_access.roles", TenantClaim: "tenant",
			},
			{
				Name: "other", Keys: otherKeySet, Token: token.VerifierConfig{Issuer: otherIssuer, Audiences: []string{audience}},
				RolesClaim: "https://other.example/roles", RoleMap: map[string][]string{"boss": {"manager"}, "chief": {"support", "manager"}}, TenantClaim: "org.id",
			},
		},
		Keys: w.keys,
		Certificates: map[string]authn.Identity{
			"spiffe://example/billing": {Roles: []string{"support"}, Scopes: []string{"orders:read"}, Tenant: "t1"},
			"billing.internal":         {Subject: "billing"},
			"ann@example.org":          {},
			"cn:Legacy":                {},
		},
		Roles: roles,
	}))
	return w
}

func (w *world) accept(t testing.TB, ways authn.Ways) *authn.Accept {
	t.Helper()
	return must[*authn.Accept](t)(w.Accept(ways))
}

// claims returns good claims of the main issuer, changed.
func claims(change map[string]any) map[string]any {
	c := map[string]any{
		"iss": mainIssuer, "sub": "alice", "aud": audience, "client_id": "shop", "scope": "orders:read orders:write", "tenant": "t1",
		"exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(), "realm_access": map[string]any{"roles": []string{"support", "unknown"}},
	}
	maps.Copy(c, change)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

func sign(t testing.TB, s *token.Signer, c map[string]any) string {
	t.Helper()
	return must[string](t)(s.Sign("at+jwt", must[[]byte](t)(json.Marshal(c))))
}

func (w *world) token(t testing.TB, change map[string]any) string {
	t.Helper()
	return sign(t, w.main, claims(change))
}

func (w *world) key(t testing.TB, n authn.NewKey) (string, *authn.Key) {
	t.Helper()
	if n.Owner == "" {
		n.Owner = "robot"
	}
	secret, key, err := w.keys.Create(t.Context(), "tester", n)
	if err != nil {
		t.Fatal(err)
	}
	return secret.Reveal(), key
}

// request makes a request with header lines given in pairs.
func request(lines ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "https://orders.example/orders", nil)
	r.TLS = nil
	for i := 0; i < len(lines); i += 2 {
		r.Header.Add(lines[i], lines[i+1])
	}
	return r
}

func bearer(tok string) *http.Request { return request("Authorization", "Bearer "+tok) }

// over lets r come over a connection whose client certificate was verified.
func over(r *http.Request, cert *x509.Certificate) *http.Request {
	r.TLS = &tls.ConnectionState{HandshakeComplete: true, PeerCertificates: []*x509.Certificate{cert}, VerifiedChains: [][]*x509.Certificate{{cert}}}
	return r
}

// certificate makes a self-signed one; the listener's verification is not authn's matter.
func certificate(t testing.TB, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	return pairOf(t, change).Leaf
}

func pairOf(t testing.TB, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"x"}}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true, IsCA: true,
	}
	change(c)
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, c, c, key.Public(), key))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: must[*x509.Certificate](t)(x509.ParseCertificate(der))}
}

func named(t testing.TB, uris ...string) *x509.Certificate {
	t.Helper()
	return certificate(t, func(c *x509.Certificate) {
		for _, u := range uris {
			c.URIs = append(c.URIs, must[*url.URL](t)(url.Parse(u)))
		}
	})
}

func x5t(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// wantProblem checks an error and returns it.
func wantProblem(t *testing.T, who *gatehouse.Principal, err error, kind gatehouse.Kind, reason string) *gatehouse.Problem {
	t.Helper()
	if err == nil {
		t.Fatalf("accepted as %+v, want %s", who, reason)
	}
	p := gatehouse.AsProblem(err)
	if who != nil || p.Kind != kind || p.Reason != reason {
		t.Fatalf("got %d %v, want %d %s", p.Kind.Status(), err, kind.Status(), reason)
	}
	return p
}

// A failingLog refuses once it is told to.
type failingLog struct {
	err     error
	changes []auditlog.Change
}

func (l *failingLog) Append(_ context.Context, c auditlog.Change) error {
	if l.err != nil {
		return l.err
	}
	l.changes = append(l.changes, c)
	return nil
}

// Package interop_test has clients that nobody here wrote work with a whole
// Gatehouse: the real binary, real listeners, TLS, the real sign-in pages. What a
// test needs and this machine has not, tools/test.sh fetches; without it the test
// is skipped and says so.
package interop_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
	"github.com/gatehouse-api/gatehouse/internal/server"
)

const (
	password = "correct horse battery staple"
	patience = 60 * time.Second // of waits that a busy machine may make long
	app      = "https://app.example/callback"
)

const document = `openapi: 3.1.0
info: {title: Orders, version: "1"}
security: [{oauth: ["orders:read"]}]
paths:
  /orders:
    get: {operationId: listOrders, responses: {"200": {description: what was received}}}
components:
  securitySchemes:
    oauth: {type: oauth2, flows: {}}
`

const configuration = `gatehouse: 1
data: ./data
waf: {mode: off}
environment: test
listeners: [{address: "127.0.0.1:%[1]s", client_certificates: {mode: optional, ca: ./callers.pem}}]
admin: {address: "127.0.0.1:%[2]s"}
roles: {reader: [orders:read]}
oauth:
  issuer: "https://localhost:%[1]s/id"
  profile: %[3]s
  scopes: {"orders:read": Read your orders, "orders:write": Place orders for you}
  dpop: {nonce: true}
  authorization_details: {payment: {}}
  registration: {dynamic: open}
  internal_hosts: ["127.0.0.1", localhost]
  look: {name: Interop}
apis:
  orders:
    openapi: ./orders.yaml
    upstreams: [%[4]q]
    base: /api
    operations: {listOrders: {grant: orders:read}}
`

// binary builds the program once, the way a user gets it.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "gatehouse-interop")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "gatehouse"), "../cmd/gatehouse").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return filepath.Join(dir, "gatehouse"), nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := binary(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// A gate is a running Gatehouse and what one needs to know of it.
type gate struct {
	dir    string
	issuer string         // https://localhost:port/id
	api    string         // resource indicator and base of the API behind it
	office *server.Office // its people and clients, as the command line reaches them beside it
	pool   *x509.CertPool
	cert   tls.Certificate // of a caller, signed by the CA the listener asks for
	log    *buffer
}

// startGate starts one of profile, with a service that answers every call. Replace
// are pairs of old and new text of its configuration.
func startGate(t *testing.T, profile string, replace ...string) *gate {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"authorization": r.Header.Get("Authorization")})
	}))
	t.Cleanup(service.Close)
	port, admin := freePort(t), freePort(t)
	g := &gate{dir: t.TempDir(), issuer: "https://localhost:" + port + "/id", api: "https://localhost:" + port + "/api", log: &buffer{}}
	g.cert = g.callers(t)
	config := filepath.Join(g.dir, "gatehouse.yaml")
	g.write(t, "orders.yaml", document)
	g.write(t, "gatehouse.yaml", fmt.Sprintf(strings.NewReplacer(replace...).Replace(configuration), port, admin, profile, service.URL))

	cmd := exec.Command(bin, "serve", "--config", config)
	cmd.Dir, cmd.Stdout, cmd.Stderr = g.dir, g.log, g.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		select {
		case <-ended:
		case <-time.After(patience):
		}
		if bytes.Contains(g.log.bytes(), []byte("panic")) {
			t.Errorf("the gateway panicked:\n%s", g.log.bytes())
		}
	})
	until(t, "the gateway is ready", func() bool {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("gatehouse serve ended: %v\n%s", err, g.log.bytes())
		default:
		}
		resp, err := http.Get("http://127.0.0.1:" + admin + "/readyz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	if g.office, err = server.OpenOffice(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.office.Close() })
	ca, err := os.ReadFile(g.ca())
	if err != nil {
		t.Fatal(err)
	}
	g.pool = x509.NewCertPool()
	g.pool.AppendCertsFromPEM(ca)
	return g
}

func (g *gate) ca() string { return filepath.Join(g.dir, "data", "ca", "ca.pem") }

func (g *gate) write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(g.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// user makes somebody who signs in with the password.
func (g *gate) user(t *testing.T, name string) *identity.User {
	t.Helper()
	u, err := g.office.People.Create(t.Context(), "test", identity.NewUser{
		Name: name, Email: name + "@example.com", EmailVerified: true, Roles: []string{"reader"},
		Password: gatehouse.NewSecret(password), Claims: map[string]any{"name": "Somebody called " + name},
	})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// client registers one and gives its secret.
func (g *gate) client(t *testing.T, id string, m oauth.Metadata) string {
	t.Helper()
	secret, _, err := g.office.OAuth.CreateClient(t.Context(), "test", id, m)
	if err != nil {
		t.Fatal(err)
	}
	return secret.Reveal()
}

// http is a client that trusts the gateway, follows no redirect, and shows cert
// when it is given one.
func (g *gate) http(cert ...tls.Certificate) *http.Client {
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: g.pool, Certificates: cert}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       patience,
	}
}

// callers makes the CA that the listener asks callers' certificates of, and one
// certificate of it: partner.pem and partner.key.
func (g *gate) callers(t *testing.T) tls.Certificate {
	t.Helper()
	caKey, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	key, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "callers"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "partner"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		URIs: []*url.URL{{Scheme: "spiffe", Host: "example", Path: "/partner"}}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	caDER, err3 := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	der, err4 := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	keyDER, err5 := x509.MarshalPKCS8PrivateKey(key)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		t.Fatal(err)
	}
	g.write(t, "callers.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})))
	g.write(t, "partner.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	g.write(t, "partner.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// freePort finds a port for a process that cannot take port 0, and keeps it until
// the test ends: a socket bound alone that lets others in afterwards (SO_REUSEADDR)
// makes the kernel give it to nobody who does not name it.
func freePort(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	err1 := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	err2 := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	a, err3 := unix.Getsockname(fd)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(a.(*unix.SockaddrInet4).Port)
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain until %s", what)
		case <-tick.C:
		}
	}
}

// A buffer is what a process writes while others read.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.buf.Bytes())
}

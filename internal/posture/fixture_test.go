package posture_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/oauth"
	"github.com/gatehouse-api/gatehouse/internal/posture"
	"github.com/gatehouse-api/gatehouse/internal/server"
)

const issuer = "https://example.com" // the name in the certificates of httptest

const document = `openapi: 3.1.0
info: {title: API, version: "1"}
security: [oauth2: []]
paths:
  /%[1]s:
    get: {operationId: list, responses: {"200": {description: ok}}}
components: {securitySchemes: {oauth2: {type: oauth2, flows: {}}}}
`

// A world is a whole gateway, and a proxy in front of it that can break one rule.
type world struct {
	t      testing.TB
	office *server.Office
	config posture.ProofConfig
	breach atomic.Pointer[breach]
	mu     sync.Mutex
	shown  map[string]bool // tokens and codes that were handed out
}

// A breach is what a hostile server does otherwise. Its memory is of one proof.
type breach struct {
	before func(m *memory, w http.ResponseWriter, r *http.Request, form url.Values) bool // true: it has answered
	after  func(m *memory, a *http.Response, form url.Values)
	memory
}

// A memory is what a breach keeps.
type memory struct {
	mu    sync.Mutex
	texts map[string]string
}

func (m *memory) get(key string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.texts[key]
}

func (m *memory) put(key, value string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.texts == nil {
		m.texts = map[string]string{}
	}
	m.texts[key] = value
}

type formKey struct{}

func newWorld(t testing.TB, profile string) *world {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"orders.yaml": fmt.Sprintf(document, "orders"), "mail.yaml": fmt.Sprintf(document, "mail"),
		"gatehouse.yaml": `gatehouse: 1
data: ./data
listeners: [{address: "127.0.0.1:0", tls: {self: [example.com]}}]
admin: {address: "127.0.0.1:0"}
oauth: {issuer: "` + issuer + `", profile: ` + profile + `}
apis:
  orders: {openapi: ./orders.yaml, resource: "` + issuer + `/orders", upstreams: ["http://127.0.0.1:1"], authenticate: {oauth2: gatehouse}, operations: {list: {grant: "orders:read"}}}
  mail: {openapi: ./mail.yaml, resource: "` + issuer + `/mail", upstreams: ["http://127.0.0.1:1"], authenticate: {oauth2: gatehouse}, operations: {list: {grant: "mail:read"}}}
roles: {clerk: ["orders:read", "mail:read"]}
`,
	} {
		ok(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	path := filepath.Join(dir, "gatehouse.yaml")
	ctx, stop := context.WithCancel(context.Background())
	ready, done := make(chan []server.Bound, 1), make(chan error, 1)
	go func() {
		done <- server.Run(ctx, server.Options{Config: path, Node: "n1", Log: slog.New(slog.DiscardHandler), Ready: func(b []server.Bound) { ready <- b }})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	var gateway *url.URL
	select {
	case b := <-ready:
		var err error
		gateway, err = url.Parse(b[0].URL)
		ok(t, err)
	case err := <-done:
		done <- nil
		t.Fatal(err)
	}
	w := &world{t: t, shown: map[string]bool{}}
	proxy := httptest.NewUnstartedServer(w.proxy(gateway))
	proxy.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	proxy.StartTLS()
	t.Cleanup(proxy.Close)
	var err error
	w.office, err = server.OpenOffice(t.Context(), path)
	ok(t, err)
	t.Cleanup(func() { _ = w.office.Close() })
	pool := x509.NewCertPool()
	pool.AddCert(proxy.Certificate())
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
		MaxIdleConnsPerHost: 32,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, proxy.Listener.Addr().String())
		},
	}}
	t.Cleanup(client.CloseIdleConnections)
	w.config = posture.ProofConfig{
		Issuer: issuer, HTTP: client, Profile: oauth.Profile(profile), Actor: "test", OAuth: w.office.OAuth, People: w.office.People,
		Routes:    []posture.Route{{Method: "GET", URL: issuer + "/orders", Operation: "orders.list", Resource: issuer + "/orders"}},
		Resources: []string{issuer + "/orders", issuer + "/mail"}, Outbox: filepath.Join(dir, "data", "outbox"),
	}
	return w
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// proxy passes everything on as it is, unless a breach says otherwise.
func (w *world) proxy(gateway *url.URL) http.Handler {
	pass := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = gateway.Scheme, gateway.Host
			for _, name := range []string{"Forwarded", "X-Forwarded-Host", "X-Forwarded-Proto"} { // Rewrite has removed them
				if v := r.In.Header.Values(name); len(v) > 0 {
					r.Out.Header[name] = v
				}
			}
		},
		Transport: &http.Transport{
			TLSClientConfig:     &tls.Config{InsecureSkipVerify: true, ServerName: "example.com"},
			MaxIdleConnsPerHost: 32,
		},
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		ModifyResponse: func(a *http.Response) error {
			b, err := io.ReadAll(a.Body)
			if err != nil {
				return err
			}
			_ = a.Body.Close()
			a.Body = io.NopCloser(bytes.NewReader(b))
			w.note(a, b)
			form, _ := a.Request.Context().Value(formKey{}).(url.Values)
			if br := w.breach.Load(); br != nil && br.after != nil {
				br.after(&br.memory, a, form)
			}
			return nil
		},
	}
	w.t.Cleanup(func() { pass.Transport.(*http.Transport).CloseIdleConnections() })
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		form, _ := url.ParseQuery(string(b))
		if br := w.breach.Load(); br != nil && br.before != nil {
			if br.before(&br.memory, rw, r, form) {
				return
			}
			if r.Header.Get("Content-Type") == "application/x-www-form-urlencoded" {
				b = []byte(form.Encode())
			}
		}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
		pass.ServeHTTP(rw, r.WithContext(context.WithValue(r.Context(), formKey{}, form)))
	})
}

// note remembers what nobody may find in a report.
func (w *world) note(a *http.Response, b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range []string{"access_token", "refresh_token", "id_token"} {
		if v := field(b, name); v != "" {
			w.shown[v] = true
		}
	}
	if u, err := url.Parse(a.Header.Get("Location")); err == nil && u.Query().Get("code") != "" {
		w.shown[u.Query().Get("code")] = true
	}
}

// prove runs the probes whose id begins with only.
func (w *world) prove(only string) *posture.Proof {
	w.t.Helper()
	cfg := w.config
	cfg.Only = only
	p, err := posture.ProveOAuth(w.t.Context(), cfg)
	ok(w.t, err)
	w.nothingLeft()
	return p
}

// nothingLeft looks for what a proof should have removed.
func (w *world) nothingLeft() {
	w.t.Helper()
	clients, err := w.office.OAuth.Clients(w.t.Context())
	ok(w.t, err)
	for i := range clients {
		if strings.HasPrefix(clients[i].ID, "prove-") {
			w.t.Errorf("client %s is left", clients[i].ID)
		}
	}
	if _, n, err := w.office.People.Users(w.t.Context(), usersCalled("prove-")); err != nil || n > 0 {
		w.t.Errorf("%d users are left, %v", n, err)
	}
}

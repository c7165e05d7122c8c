package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/server"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

const document = `openapi: 3.1.0
info: {title: Orders, version: "1"}
security: [oauth2: [], apiKey: []]
paths:
  /orders:
    get: {operationId: listOrders, responses: {"200": {description: ok}}}
  /slow:
    get: {operationId: slow, security: [], responses: {"200": {description: ok}}}
  /health:
    get: {operationId: health, security: [], responses: {"200": {description: ok}}}
components:
  securitySchemes:
    oauth2: {type: oauth2, flows: {}}
    apiKey: {type: apiKey, in: header, name: X-API-Key}
`

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

func freeAddress(t testing.TB) string {
	t.Helper()
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer l.Close()
	return l.Addr().String()
}

// A site is a folder with a config and everything it names, and a service.
type site struct {
	t       testing.TB
	dir     string
	admin   string
	service *httptest.Server
	signer  *token.Signer
}

func newSite(t testing.TB, answer http.HandlerFunc) *site {
	t.Helper()
	if answer == nil {
		answer = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "served") }
	}
	s := &site{t: t, dir: t.TempDir(), admin: freeAddress(t), service: httptest.NewServer(answer)}
	t.Cleanup(s.service.Close)
	s.signer = must[*token.Signer](t)(token.NewSigner(token.ES256))
	s.write("jwks.json", string(s.signer.JWKS()))
	s.write("orders.yaml", document)
	s.write("gatehouse.yaml", s.config(""))
	return s
}

// config is a good config; more is added to it, and replaces what it names.
func (s *site) config(more string, replace ...string) string {
	text := fmt.Sprintf(`gatehouse: 1
data: ./data
environment: test
waf: {mode: off}
listeners: [{address: "127.0.0.1:0", plaintext: The tests speak in the clear}]
admin: {address: %q}
issuers:
  main: {issuer: "https://auth.example", audience: orders, jwks: ./jwks.json, roles: roles}
api_keys: {enabled: true}
roles: {support: [orders:read], nothing: []}
apis:
  orders:
    openapi: ./orders.yaml
    upstreams: [%s]
    operations: {listOrders: {grant: orders:read}, slow: {public: true}, health: {public: true}}
`, s.admin, s.service.URL) + more
	return strings.NewReplacer(replace...).Replace(text)
}

// write replaces a file as deployments do, by renaming.
func (s *site) write(name, text string) {
	s.t.Helper()
	tmp := filepath.Join(s.dir, "."+name+".new")
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(s.dir, name)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) path() string { return filepath.Join(s.dir, "gatehouse.yaml") }

func (s *site) token(subject string) string {
	now := time.Now()
	return "Bearer " + must[string](s.t)(s.signer.AccessToken(&token.AccessToken{
		Issuer: "https://auth.example", Subject: subject, Audience: "orders", ClientID: "shop", Roles: []string{"support"},
		IssuedAt: now, Expires: now.Add(time.Hour),
	}))
}

// running is a gateway that serves.
type running struct {
	*site
	url  string
	log  *logged
	end  func() error // stops it and gives what Run returned
	once sync.Once
}

// logged is what a gateway logs.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (s *site) run(path string, change ...func(*server.Options)) *running {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{site: s, log: &logged{}}
	ready, done := make(chan []server.Bound, 1), make(chan error, 1)
	o := server.Options{
		Config: path, Node: "n1", Version: "v0", Log: slog.New(slog.NewTextHandler(r.log, nil)), Ready: func(b []server.Bound) { ready <- b },
	}
	for _, f := range change {
		f(&o)
	}
	go func() { done <- server.Run(ctx, o) }()
	select {
	case b := <-ready:
		r.url = b[0].URL
	case err := <-done:
		cancel()
		s.t.Fatalf("it did not start: %v", err)
	}
	var result error
	r.end = func() error {
		r.once.Do(func() { cancel(); result = <-done })
		return result
	}
	s.t.Cleanup(func() {
		if err := r.end(); err != nil {
			s.t.Errorf("it ended with %v", err)
		}
	})
	return r
}

func fetch(t testing.TB, url string, header ...string) (status int, h http.Header, body string) {
	t.Helper()
	r := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), "GET", url, nil))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res := must[*http.Response](t)(http.DefaultTransport.RoundTrip(r))
	defer res.Body.Close()
	return res.StatusCode, res.Header, string(must[[]byte](t)(io.ReadAll(res.Body)))
}

type healthAnswer struct {
	Status, Config, Version, Node, Reload, Error string
	Parts                                        []string
	ReloadTime                                   time.Time `json:"reload_time"`
}

func (r *running) health() (h healthAnswer) {
	r.t.Helper()
	_, _, body := fetch(r.t, "http://"+r.admin+"/healthz")
	if err := json.Unmarshal([]byte(body), &h); err != nil {
		r.t.Fatalf("%s: %v", body, err)
	}
	return h
}

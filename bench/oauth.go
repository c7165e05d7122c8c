package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
	"github.com/gatehouse-api/gatehouse/internal/plan"
	"github.com/gatehouse-api/gatehouse/internal/store"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

const (
	oauthVerifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	oauthCallback = "https://app.example/callback"
)

const oauthConfig = `gatehouse: 1
data: ./data
environment: bench
listeners: [{address: "127.0.0.1:%[1]d", limits: {connections_per_address: 10000}}]
admin: {address: "127.0.0.1:%[2]d"}
roles: {reader: [orders:read]}
oauth:
  issuer: "https://localhost:%[1]d/id"
  scopes: {"orders:read": Read your orders}
apis:
  orders:
    openapi: ./orders.yaml
    upstreams: ["http://127.0.0.1:%[3]d"]
    base: /api
    operations: {listOrders: {grant: orders:read}}
  stock:
    openapi: ./orders.yaml
    upstreams: ["http://127.0.0.1:%[3]d"]
    base: /stock
    access_token: {format: opaque}
    operations: {listOrders: {grant: orders:read}}
`

const oauthDocument = `openapi: 3.1.0
info: {title: Orders, version: "1"}
security: [{oauth: ["orders:read"]}]
paths:
  /orders:
    get: {operationId: listOrders, responses: {"200": {description: ok}}}
components:
  securitySchemes:
    oauth: {type: oauth2, flows: {}}
`

// An authority is a Gatehouse with its authorization server, a client of it, and
// what the load sends.
type authority struct {
	port   int
	issuer string
	home   string
	cmd    *exec.Cmd
	as     *oauth.Server // the same data, opened beside the running one like the command line does
	people *identity.Directory
	close  func()
	user   string
	basic  string
	tls    *tls.Config
}

// A load is what the connections ask, again and again. next is given the body of
// the answer before (nil at first) and returns the whole request.
type load struct {
	name string
	goal int // requests a second; 0: none was set
	next func(connection int, before []byte) ([]byte, error)

	rates, server, client []float64
	p50, p99              []time.Duration
}

// oauthMode measures the authorization server, whole: the binary with events on,
// over TLS on kept connections, on loopback.
func oauthMode(ctx context.Context, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "gatehouse-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	bin := filepath.Join(dir, "gatehouse")
	if o, err := exec.CommandContext(ctx, "go", "build", "-o", bin, "./cmd/gatehouse").CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, o)
	}
	service, err := startService()
	if err != nil {
		return err
	}
	defer func() { _ = service.Close() }()
	a, err := startAuthority(ctx, bin, dir, service.Addr().(*net.TCPAddr).Port)
	if a != nil {
		defer a.stop()
	}
	if err != nil {
		return err
	}
	loads, err := a.loads(ctx, *conns)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "load average before: %s; %d connections, %d turns of %d s; the load takes its part of the same processors\n", loadAverage(), *conns, *rounds, *seconds)
	for range *rounds {
		for _, l := range loads {
			if err := a.turn(ctx, l, time.Duration(*seconds)*time.Second, *conns); err != nil {
				return fmt.Errorf("%s: %w", l.name, err)
			}
		}
	}
	_, _ = fmt.Fprintf(out, "load average after: %s; the database has %d KB, its log %d KB\n\n", loadAverage(), size(filepath.Join(a.home, "data", "gatehouse.db")), size(filepath.Join(a.home, "data", "gatehouse.db-wal")))
	_, _ = fmt.Fprint(out, "| request | goal/s | median/s | best/s | µs of CPU, server | µs of CPU, load | p50 | p99 |\n|---|---|---|---|---|---|---|---|\n")
	for _, l := range loads {
		goal := "–"
		if l.goal > 0 {
			goal = strconv.Itoa(l.goal)
		}
		slices.Sort(l.p50)
		slices.Sort(l.p99)
		_, _ = fmt.Fprintf(out, "| %s | %s | %.0f | %.0f | %.0f | %.0f | %v | %v |\n", l.name, goal, median(l.rates), slices.Max(l.rates), median(l.server), median(l.client),
			l.p50[len(l.p50)/2].Round(10*time.Microsecond), l.p99[len(l.p99)/2].Round(10*time.Microsecond))
	}
	return nil
}

// startService answers every request on loopback with 2 bytes, as cheaply as can be.
func startService() (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				in := bufio.NewReader(c)
				for {
					for {
						line, err := in.ReadSlice('\n')
						if err != nil {
							return
						}
						if len(line) <= 2 {
							break
						}
					}
					if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l, nil
}

func startAuthority(ctx context.Context, bin, dir string, service int) (*authority, error) {
	a := &authority{port: free(), home: filepath.Join(dir, "authority")}
	a.issuer = fmt.Sprintf("https://localhost:%d/id", a.port)
	if err := os.MkdirAll(a.home, 0o700); err != nil {
		return nil, err
	}
	config := filepath.Join(a.home, "gatehouse.yaml")
	if err := errors.Join(write(a.home, "orders.yaml", oauthDocument), write(a.home, "gatehouse.yaml", fmt.Sprintf(oauthConfig, a.port, free(), service))); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "authority.log"))
	if err != nil {
		return nil, err
	}
	a.cmd = exec.CommandContext(ctx, bin, "serve", "--config", config, "--log-level", "warn")
	a.cmd.Dir, a.cmd.Stdout, a.cmd.Stderr = a.home, log, log
	if err := a.cmd.Start(); err != nil {
		return nil, err
	}
	if err := listening(ctx, a.port); err != nil {
		said, _ := os.ReadFile(log.Name())
		return a, fmt.Errorf("%w\n%s", err, said)
	}
	ca, err := os.ReadFile(filepath.Join(a.home, "data", "ca", "ca.pem"))
	if err != nil {
		return a, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	a.tls = &tls.Config{RootCAs: pool, ServerName: "localhost", NextProtos: []string{"http/1.1"}}
	return a, a.open(ctx, config)
}

func (a *authority) stop() {
	if a.close != nil {
		a.close()
	}
	_ = a.cmd.Process.Signal(syscall.SIGTERM)
	_ = a.cmd.Wait()
}

// open makes a user and a client in the data of the running server.
func (a *authority) open(ctx context.Context, config string) error {
	p, err := plan.Compile(config)
	if err != nil {
		return err
	}
	data := p.File.Data.Value
	db, err := store.Open(ctx, store.Config{Path: filepath.Join(data, "gatehouse.db")})
	if err != nil {
		return err
	}
	a.close = func() { _ = db.Close() }
	changes, err1 := auditlog.OpenChanges(p.File.Events.Path.Value)
	seal, err2 := token.OpenSealer(token.Files(data), "seal.json")
	keys, err3 := token.OpenKeyring(token.Files(data), "oauth-keys", token.ES256, token.EdDSA, token.RS256)
	who, err4 := p.People()
	cfg, err5 := p.OAuth()
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return err
	}
	who.DB, who.Seal, who.Log = db, seal, changes
	if a.people, err = identity.Open(ctx, who); err != nil {
		return err
	}
	cfg.DB, cfg.Seal, cfg.Keys, cfg.People, cfg.Log = db, seal, keys, a.people, changes
	if a.as, err = oauth.New(ctx, *cfg); err != nil {
		return err
	}
	u, err := a.people.Create(ctx, "bench", identity.NewUser{Name: "ada", Email: "ada@example.org", EmailVerified: true, Roles: []string{"reader"}})
	if err != nil {
		return err
	}
	a.user = u.ID
	secret, _, err := a.as.CreateClient(ctx, "bench", "app", oauth.Metadata{
		ClientName: "App", RedirectURIs: []string{oauthCallback}, Scope: "openid orders:read", Roles: []string{"reader"}, Trusted: true,
		GrantTypes: []string{"authorization_code", "refresh_token", "client_credentials"},
	})
	a.basic = "Basic " + base64.StdEncoding.EncodeToString([]byte("app:"+secret.Reveal()))
	return err
}

// request is a POST of a form by the client.
func (a *authority) request(path, form string) []byte {
	return fmt.Appendf(nil, "POST /id%s HTTP/1.1\r\nHost: localhost:%d\r\nAuthorization: %s\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s",
		path, a.port, a.basic, len(form), form)
}

// call is a GET of an API with a token.
func (a *authority) call(path, token string) []byte {
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: localhost:%d\r\nAccept: application/json\r\nAuthorization: Bearer %s\r\n\r\n", path, a.port, token)
}

func (a *authority) loads(ctx context.Context, conns int) ([]*load, error) {
	web := &http.Client{
		Transport:     &http.Transport{TLSClientConfig: a.tls.Clone()},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Timeout: 10 * time.Second,
	}
	defer web.CloseIdleConnections()
	api := func(path string) string { return fmt.Sprintf("https://localhost:%d%s", a.port, path) }
	ours, err := a.token(ctx, web, url.Values{"grant_type": {"client_credentials"}, "resource": {api("/api")}})
	if err != nil {
		return nil, err
	}
	opaque, err := a.token(ctx, web, url.Values{"grant_type": {"client_credentials"}, "resource": {api("/stock")}})
	if err != nil {
		return nil, err
	}
	families := make([]string, conns)
	for i := range families {
		if families[i], err = a.family(ctx, web); err != nil {
			return nil, fmt.Errorf("signing in: %w", err)
		}
	}
	always := func(request []byte) func(int, []byte) ([]byte, error) {
		return func(int, []byte) ([]byte, error) { return request, nil }
	}
	return []*load{
		{name: "client_credentials, a JWT (ES256)", goal: 3000, next: always(a.request("/token", "grant_type=client_credentials&resource="+url.QueryEscape(api("/api"))))},
		{name: "client_credentials, opaque", next: always(a.request("/token", "grant_type=client_credentials&resource="+url.QueryEscape(api("/stock"))))},
		{name: "refresh, a family for each connection", goal: 1500, next: func(i int, before []byte) ([]byte, error) {
			if before != nil {
				_, rest, _ := strings.Cut(string(before), `"refresh_token":"`)
				next, _, found := strings.Cut(rest, `"`)
				if !found {
					return nil, errors.New("an answer without a refresh token")
				}
				families[i] = next
			}
			return a.request("/token", "grant_type=refresh_token&refresh_token="+families[i]), nil
		}},
		{name: "introspection of a JWT", goal: 10000, next: always(a.request("/introspect", "token="+ours))},
		{name: "introspection of an opaque token", next: always(a.request("/introspect", "token="+opaque))},
		{name: "a call through the gateway with a JWT", next: always(a.call("/api/orders", ours))},
		{name: "a call with an opaque token, a JWT to the service", next: always(a.call("/stock/orders", opaque))},
	}, nil
}

func (a *authority) token(ctx context.Context, web *http.Client, form url.Values) (string, error) {
	m, err := a.tokens(ctx, web, form)
	return m["access_token"], err
}

// family signs the user in, without a password, and goes through the code flow.
func (a *authority) family(ctx context.Context, web *http.Client) (string, error) {
	cookie, _, err := a.people.Start(ctx, &identity.Login{User: a.user, ACR: identity.ACRPassword, AMR: []string{"pwd"}, AuthTime: time.Now()}, identity.Origin{})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(oauthVerifier))
	query := url.Values{
		"client_id": {"app"}, "redirect_uri": {oauthCallback}, "response_type": {"code"}, "scope": {"orders:read"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, a.issuer+"/authorize?"+query.Encode(), http.NoBody)
	if err != nil {
		return "", err
	}
	r.Header.Set("Cookie", "__Host-gatehouse="+cookie.Reveal())
	resp, err := web.Do(r)
	if err != nil {
		return "", err
	}
	_ = resp.Body.Close()
	back, err := resp.Location()
	if err != nil {
		return "", fmt.Errorf("%s: %w", resp.Status, err)
	}
	m, err := a.tokens(ctx, web, url.Values{"grant_type": {"authorization_code"}, "code": {back.Query().Get("code")}, "redirect_uri": {oauthCallback}, "code_verifier": {oauthVerifier}})
	return m["refresh_token"], err
}

func (a *authority) tokens(ctx context.Context, web *http.Client, form url.Values) (map[string]string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, a.issuer+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", a.basic)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := web.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	var m map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&m); err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %v", resp.Status, m)
	}
	out := map[string]string{}
	for name, v := range m {
		out[name], _ = v.(string)
	}
	return out, nil
}

// turn has every connection ask l again and again for a while. Anything but 200 is
// an error: a fast refusal is no speed.
func (a *authority) turn(ctx context.Context, l *load, life time.Duration, conns int) error {
	ctx, cancel := context.WithTimeout(ctx, life+20*time.Second)
	defer cancel()
	peers := make([]*peer, conns)
	for i := range peers {
		p, err := a.dial(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = p.conn.Close() }()
		peers[i] = p
	}
	before, err := cpu(a.cmd.Process.Pid)
	if err != nil {
		return err
	}
	own := ownCPU()
	start := time.Now()
	end := start.Add(life)
	errs := make([]error, conns)
	var all sync.WaitGroup
	for i, p := range peers {
		all.Go(func() { errs[i] = p.run(i, l, end) })
	}
	all.Wait()
	took := time.Since(start)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	own = ownCPU() - own
	after, err := cpu(a.cmd.Process.Pid)
	if err != nil {
		return err
	}
	var waits []time.Duration
	for _, p := range peers {
		waits = append(waits, p.waits...)
	}
	slices.Sort(waits)
	n := float64(len(waits))
	l.rates = append(l.rates, n/took.Seconds())
	l.server = append(l.server, float64((after-before).Microseconds())/n)
	l.client = append(l.client, float64(own.Microseconds())/n)
	l.p50, l.p99 = append(l.p50, waits[len(waits)/2]), append(l.p99, waits[len(waits)*99/100])
	return nil
}

// A peer is one connection. It speaks just enough HTTP/1.1, so that little of the
// machine goes to the load.
type peer struct {
	conn  net.Conn
	in    *bufio.Reader
	body  []byte
	waits []time.Duration
}

func (a *authority) dial(ctx context.Context) (*peer, error) {
	c, err := (&tls.Dialer{Config: a.tls}).DialContext(ctx, "tcp", "127.0.0.1:"+strconv.Itoa(a.port))
	if err != nil {
		return nil, err
	}
	return &peer{conn: c, in: bufio.NewReaderSize(c, 16<<10)}, nil
}

func (p *peer) run(i int, l *load, end time.Time) error {
	if err := p.conn.SetDeadline(end.Add(10 * time.Second)); err != nil {
		return err
	}
	var before []byte
	for {
		request, err := l.next(i, before)
		if err != nil {
			return err
		}
		asked := time.Now()
		if asked.After(end) {
			return nil
		}
		if _, err := p.conn.Write(request); err != nil {
			return err
		}
		if before, err = p.answer(); err != nil {
			return err
		}
		p.waits = append(p.waits, time.Since(asked))
	}
}

// answer reads one, whose body it returns until the next.
func (p *peer) answer() ([]byte, error) {
	length, first := -1, ""
	for {
		line, err := p.in.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		if first == "" {
			first = string(line)
			continue
		}
		if len(line) <= 2 {
			break
		}
		const field = "content-length:"
		if len(line) > len(field) && strings.EqualFold(string(line[:len(field)]), field) {
			if length, err = strconv.Atoi(strings.TrimSpace(string(line[len(field):]))); err != nil {
				return nil, err
			}
		}
	}
	if length < 0 || length > 1<<20 {
		return nil, fmt.Errorf("an answer without a length: %s", first)
	}
	p.body = slices.Grow(p.body[:0], length)[:length]
	if _, err := io.ReadFull(p.in, p.body); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(first, "HTTP/1.1 200 ") {
		return nil, fmt.Errorf("%s%s", first, p.body)
	}
	return p.body, nil
}

// ownCPU is what this process has used.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(b))[:3], " ")
}

// size is that of a file in KB.
func size(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size() >> 10
}

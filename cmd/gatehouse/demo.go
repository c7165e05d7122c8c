package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/demo"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
	"github.com/gatehouse-api/gatehouse/internal/pki"
	"github.com/gatehouse-api/gatehouse/internal/server"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

type demoCmd struct {
	Dir     string `placeholder:"DIR" help:"Folder for everything the demo makes. Default: a temporary one, removed at the end."`
	Address string `default:"127.0.0.1:8443" help:"Where the gateway listens; port 0 takes a free one."`
	Service string `default:"127.0.0.1:9001" help:"Where the bare API listens; port 0 takes a free one."`
	Admin   string `default:"127.0.0.1:9443" help:"Where health and metrics are; port 0 takes a free one."`
}

func (demoCmd) Help() string {
	return "A small order API, written as carelessly as real ones are, and the gateway in front of it. Every line of the tour can be pasted into another terminal. Everything listens on loopback and ends with Ctrl-C.\n\nExample:\n  gatehouse demo --address 127.0.0.1:0 --service 127.0.0.1:0 --admin 127.0.0.1:0"
}

// demoUsers are the callers whose tokens the demo hands out.
var demoUsers = []struct {
	name, role, scopes, about string
}{
	{"alice", "customer", "orders:read orders:write", "a customer"},
	{"bob", "customer", "orders:read orders:write", "another customer"},
	{"sam", "support", "orders:read orders:refund", "support, may refund up to 500"},
	{"tom", "support", "orders:read orders:refund", "support, in a hurry"},
	{"mia", "manager", "orders:read orders:write orders:refund admin:export", "a manager"},
}

// Run starts the API and the gateway and prints the tour once both answer.
func (c *demoCmd) Run(ctx context.Context, _ *cli, std *stdio) (err error) {
	dir := c.Dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "gatehouse-demo-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := c.takePorts(ctx); err != nil {
		return err
	}
	lock, err := lockFolder(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	service, end, err := serveBare(ctx, filepath.Join(dir, "service"), c.Service)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	if err := c.furnish(ctx, dir, service); err != nil {
		return err
	}
	people, err := seedPeople(ctx, dir)
	if err != nil {
		return err
	}
	return server.Run(ctx, server.Options{
		Config: filepath.Join(dir, "gatehouse.yaml"), Node: "demo", Version: version,
		Log: slog.New(slog.NewTextHandler(std.err, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Ready: func(bound []server.Bound) {
			tour(*std, dir, bound[0].URL, "http://"+service, "http://"+c.Admin, people)
		},
	})
}

// takePorts finds ports for zeros, and refuses ports in use before anything is
// written.
func (c *demoCmd) takePorts(ctx context.Context) error {
	for _, address := range []*string{&c.Address, &c.Service, &c.Admin} {
		if err := loopbackOnly(*address); err != nil {
			return err
		}
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", *address)
		if errors.Is(err, syscall.EADDRINUSE) {
			return &hintError{
				fmt.Errorf("%s is in use", *address),
				"is another demo running? End it, or take free ports: gatehouse demo --address 127.0.0.1:0 --service 127.0.0.1:0 --admin 127.0.0.1:0",
			}
		}
		if err != nil {
			return err
		}
		defer func() { _ = l.Close() }() // all are held until all are found
		*address = l.Addr().String()
	}
	return nil
}

// lockFolder keeps a second demo from writing its config over that of a running one.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(&hintError{fmt.Errorf("another demo runs in %s", dir), "end it, or choose another folder with --dir"}, f.Close())
	}
	return f, nil
}

// loopbackOnly keeps an API that is broken on purpose on this machine.
func loopbackOnly(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is no host:port", address)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return &hintError{fmt.Errorf("the demo does not listen on %s", address), "it is vulnerable on purpose: use 127.0.0.1"}
	}
	return nil
}

// serveBare starts the careless API.
func serveBare(ctx context.Context, dir, address string) (bound string, end func() error, err error) {
	api, err := demo.New(ctx, dir)
	if err != nil {
		return "", nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return "", nil, errors.Join(err, api.Close())
	}
	srv := &http.Server{Handler: api.Handler(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	return l.Addr().String(), func() error {
		err := srv.Close()
		if e := <-done; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
		return errors.Join(err, api.Close())
	}, nil
}

// furnish writes what the demo needs into its folder: config, document, the key
// set of an issuer, the users' tokens, a partner's API key and certificate. What
// is there from an earlier run is kept or made anew.
func (c *demoCmd) furnish(ctx context.Context, dir, service string) error {
	spec, err := demo.OpenAPI.ReadFile("orders.openapi.yaml")
	if err != nil {
		return err
	}
	shop, err := demo.OpenAPI.ReadFile("shop.openapi.yaml")
	if err != nil {
		return err
	}
	issuer, err := token.LoadOrCreateSigner(filepath.Join(dir, "issuer", "signing.jwks"), token.ES256)
	if err != nil {
		return err
	}
	ca, err := pki.LocalCA(filepath.Join(dir, "data", "ca"), []string{"localhost", "127.0.0.1", "::1"})
	if err != nil {
		return err
	}
	partner, err := ca.IssueClient(pki.ClientRequest{URIs: []string{"spiffe://gatehouse.demo/partner"}, Life: 30 * 24 * time.Hour})
	if err != nil {
		return err
	}
	if err := partner.Save(filepath.Join(dir, "partner.pem")); err != nil {
		return err
	}
	root, err := os.ReadFile(ca.TrustPath())
	if err != nil {
		return err
	}
	files := map[string][]byte{
		"ca.pem":              root,
		"orders.openapi.yaml": spec,
		"shop.openapi.yaml":   shop,
		"issuer/jwks.json":    issuer.JWKS(),
		"gatehouse.yaml":      []byte(demoConfig(c.Address, c.Admin, "http://"+service, "https://localhost:"+portOf("https://"+c.Address))),
	}
	now := time.Now()
	for _, u := range demoUsers {
		t := &token.AccessToken{
			Issuer: demoIssuer, Subject: u.name, Audience: "orders", ClientID: "demo", Roles: []string{u.role},
			IssuedAt: now, Expires: now.Add(12 * time.Hour), AuthTime: now,
		}
		t.Scopes = strings.Fields(u.scopes)
		raw, err := issuer.AccessToken(t)
		if err != nil {
			return err
		}
		files[u.name+".header"] = []byte("Authorization: Bearer " + raw + "\n")
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return err
		}
	}
	return seedKey(ctx, dir)
}

// seedKey makes an API key for the partner: a new one each time, as with tokens.
func seedKey(ctx context.Context, dir string) error {
	ring, err := server.OpenKeyRing(ctx, filepath.Join(dir, "gatehouse.yaml"))
	if err != nil {
		return err
	}
	secret, _, err := ring.Create(ctx, "demo", authn.NewKey{
		Owner: "partner", Roles: []string{"reader"}, Note: "the demo's partner", Life: 12 * time.Hour,
	})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "partner.header"), []byte("X-API-Key: "+secret.Reveal()+"\n"), 0o600)
	}
	return errors.Join(err, ring.Close())
}

// demoPeople can sign in at the demo's authorization server.
var demoPeople = []struct{ name, role string }{
	{"alice", "customer"},
	{"olga", "operator"},
}

// demoClients are the programs it knows.
var demoClients = []struct {
	id   string
	what oauth.Metadata
}{
	{"robot", oauth.Metadata{ClientName: "Night robot", GrantTypes: []string{"client_credentials"}, Scope: "orders:read", Roles: []string{"reader"}}},
	{"console", oauth.Metadata{ClientName: "Console", GrantTypes: []string{"client_credentials"}, Roles: []string{"operator"}}},
	{"television", oauth.Metadata{
		ClientName: "Television", TokenEndpointAuthMethod: "none", Scope: "openid profile orders:read",
		GrantTypes: []string{"urn:ietf:params:oauth:grant-type:device_code", "refresh_token"},
	}},
}

// A demoPerson is somebody to sign in as. The password is shown once, on the
// terminal of who started the demo; what is kept is its hash.
type demoPerson struct{ name, role, password string }

// seedPeople makes the people and the clients of the demo's authorization server, or
// new passwords and secrets for those of an earlier run.
func seedPeople(ctx context.Context, dir string) (people []demoPerson, err error) {
	office, err := server.OpenOffice(ctx, filepath.Join(dir, "gatehouse.yaml"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, office.Close()) }()
	for _, p := range demoPeople {
		word := strings.ToLower(rand.Text())
		password := strings.Join([]string{word[:4], word[4:8], word[8:12], word[12:16]}, "-") // 80 bits
		_, err := office.People.Create(ctx, "demo", identity.NewUser{Name: p.name, Roles: []string{p.role}, Password: gatehouse.NewSecret(password)})
		if errors.Is(err, identity.ErrTaken) {
			var u *identity.User
			if u, err = office.People.FindUser(ctx, p.name); err == nil {
				err = office.People.SetPassword(ctx, "demo", u.ID, gatehouse.NewSecret(password))
			}
		}
		if err != nil {
			return nil, err
		}
		people = append(people, demoPerson{p.name, p.role, password})
	}
	for _, c := range demoClients {
		secret, _, err := office.OAuth.CreateClient(ctx, "demo", c.id, c.what)
		if errors.Is(err, oauth.ErrClientTaken) && c.what.TokenEndpointAuthMethod != "none" {
			secret, _, err = office.OAuth.AddSecret(ctx, "demo", c.id, 0)
		}
		if err != nil && !errors.Is(err, oauth.ErrClientTaken) {
			return nil, err
		}
		if secret.Reveal() == "" {
			continue
		}
		// A file for curl -K: on the command line everybody on this machine could read it.
		err = os.WriteFile(filepath.Join(dir, c.id+".curl"), []byte("user = \""+c.id+":"+secret.Reveal()+"\"\n"), 0o600)
		if err != nil {
			return nil, err
		}
	}
	return people, nil
}

func portOf(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return ""
	}
	return u.Port()
}

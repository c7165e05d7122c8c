package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/plan"
	"github.com/gatehouse-api/gatehouse/internal/posture/attack"
	"github.com/gatehouse-api/gatehouse/internal/server"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

type attackCmd struct {
	Bare     string        `placeholder:"URL" help:"The service itself. Default: the first upstream of the config's APIs."`
	Through  string        `placeholder:"URL" help:"The gateway. Default: the config's first listener."`
	OpenAPI  []string      `name:"openapi" placeholder:"FILE" help:"OpenAPI document of what to attack, for --bare and --through. Default: those of the config."`
	API      []string      `name:"api" placeholder:"NAME" help:"Only these APIs of the config. Default: all with the first one's upstream."`
	As       []string      `placeholder:"FILE" help:"File with the header lines of a caller who may call, as for curl -H @FILE; several for several callers. Default: the demo's."`
	CA       string        `name:"ca" placeholder:"FILE" help:"PEM file with the CA certificates to trust. Default: the system's, and that of the data folder."`
	Row      []string      `enum:"sql-injection,xss,authentication,csrf,remote-code-execution,injection,access-control,logging,misconfiguration" help:"Only these rows of the table: ${enum}."`
	Requests int           `default:"8000" help:"Requests at most, both targets together."`
	Time     time.Duration `default:"3m" help:"Time at most."`
	Wait     time.Duration `default:"5m" help:"How long a target that is not on this machine has to prove whose it is."`
}

func (attackCmd) Help() string {
	return "Tries each exploit on the bare API first. What works there is tried through the gateway, and must not. " +
		"The exploits are real: they read, change and compute what they should not, so use a service and data that may suffer; the demo's do. DELETE is never sent.\n\n" +
		"Without --bare and --through the running gateway of the config is attacked, and the record of requests says which rule stopped what. " +
		"Targets are on this machine, or prove that they are yours: the command prints a word, and the target answers GET " + attack.ProofPath + " with it; redirects are not followed. " +
		"Ends with 1 when one exploit got through or could not be tried.\n\nExample:\n  gatehouse attack --row sql-injection --row xss"
}

// Run attacks and prints.
func (c *attackCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	cfg, err := c.config(cli, std)
	if err != nil {
		return err
	}
	cfg.Ask = func(target, word string) {
		say(std.err, "%s is not on this machine. To prove that it is yours, let it answer GET %s with exactly\n\n  %s\n\nwithin %s; attacks begin once it does.\n", target, attack.ProofPath, word, c.Wait)
	}
	if std.errColour { // a person waits at a terminal
		cfg.Progress = func(row string, worked int) {
			say(std.err, "\r\x1b[K%d exploits work bare; %s", worked, cut(row, 80))
		}
	}
	report, err := attack.Run(ctx, *cfg)
	if std.errColour {
		say(std.err, "\r\x1b[K")
	}
	if err != nil {
		return err
	}
	if cli.Output == "json" {
		err = printJSON(std.out, report)
	} else {
		err = printAttack(std, report)
	}
	if err == nil && report.Failed() {
		return errFailed
	}
	return err
}

// config finds out what to attack: what the flags say, or the gateway of the config.
func (c *attackCmd) config(cli *cli, std *stdio) (*attack.Config, error) {
	out := &attack.Config{
		Bare: c.Bare, Through: c.Through, Rows: c.Row, Requests: c.Requests, Time: c.Time, Wait: c.Wait,
		Agent: "gatehouse-attack/" + version, Issuer: demoIssuer,
	}
	as, roots := c.As, []string{c.CA}
	switch {
	case c.Bare != "" && c.Through != "" && len(c.OpenAPI) > 0:
		for _, file := range c.OpenAPI {
			out.Documents = append(out.Documents, attack.Document{File: file})
		}
	case c.Bare == "" && c.Through == "" && len(c.OpenAPI) == 0:
		p, err := plan.Compile(cli.Config)
		if err != nil {
			return nil, err
		}
		if out.Through, out.At, err = gatewayOf(p.File, c.API); err != nil {
			return nil, err
		}
		if out.Bare, out.Documents, err = c.behind(p.File, std); err != nil {
			return nil, err
		}
		out.Record = func(ctx context.Context, since time.Time, visit func(*gatehouse.Event) bool) error {
			return server.EachEvent(ctx, cli.Config, since, visit)
		}
		roots = append(roots, filepath.Join(p.File.Data.Value, "ca", "ca.pem"))
		if dir := filepath.Dir(p.File.Place.File); p.File.Environment == "demo" && len(as) == 0 {
			as = []string{filepath.Join(dir, "mia.header"), filepath.Join(dir, "alice.header"), filepath.Join(dir, "sam.header")}
			out.Mint = demoMint(filepath.Join(dir, "issuer", "signing.jwks"))
		}
	default:
		return nil, &hintError{errors.New("--bare, --through and --openapi belong together"), "name all three, or none to attack the gateway of the config and its upstream"}
	}
	var err error
	if out.Roots, err = c.trusted(roots); err != nil {
		return nil, err
	}
	for _, name := range as {
		caller, err := readCaller(name)
		if err != nil {
			return nil, err
		}
		out.Callers = append(out.Callers, caller)
	}
	return out, nil
}

// trusted are the system's CA certificates and those of files.
func (c *attackCmd) trusted(files []string) (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	for _, name := range files {
		if name == "" {
			continue
		}
		b, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) && name != c.CA {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !pool.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("%s: there is no certificate in it", name)
		}
	}
	return pool, nil
}

// behind gives the service behind the config's APIs and their documents.
func (c *attackCmd) behind(f *config.File, std *stdio) (bare string, documents []attack.Document, err error) {
	names := slices.Sorted(maps.Keys(f.APIs))
	for _, name := range c.API {
		if !slices.Contains(names, name) {
			return "", nil, fmt.Errorf("there is no API %q%s", name, config.DidYouMean(name, names))
		}
	}
	if len(c.API) > 0 {
		names = c.API
	}
	for _, name := range names {
		api := f.APIs[name]
		upstream := strings.Replace(api.Upstreams[0].Value, "h2c://", "http://", 1)
		if bare == "" {
			bare = upstream
		}
		if upstream != bare {
			say(std.err, "%s: not attacked: another service than %s; choose it with --api %s\n", api.Place, names[0], name)
			continue
		}
		documents = append(documents, attack.Document{File: api.OpenAPI.Value, Base: api.Base})
	}
	if len(documents) == 0 {
		return "", nil, &hintError{fmt.Errorf("%s has no API to attack", f.Place.File), "name targets with --bare, --through and --openapi"}
	}
	return bare, documents, nil
}

// gatewayOf is the URL of the config's first listener, and where it is reached
// from this machine.
func gatewayOf(f *config.File, apis []string) (base, at string, err error) {
	address, scheme := "127.0.0.1:8443", "https"
	if len(f.Listeners) > 0 {
		address = f.Listeners[0].Address
		if f.Listeners[0].Plaintext != "" {
			scheme = "http"
		}
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", "", err
	}
	if port == "0" {
		return "", "", &hintError{errors.New("the gateway takes a free port, which the config does not say"), "name the targets: --bare, --through and --openapi"}
	}
	name := "localhost"
	for _, api := range slices.Sorted(maps.Keys(f.APIs)) {
		if hosts := f.APIs[api].Hosts; len(hosts) > 0 && (len(apis) == 0 || slices.Contains(apis, api)) {
			name = hosts[0]
			break
		}
	}
	return scheme + "://" + net.JoinHostPort(name, port), net.JoinHostPort(reached(host), port), nil
}

// readCaller reads header lines.
func readCaller(name string) (*attack.Caller, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	c := &attack.Caller{Name: strings.TrimSuffix(filepath.Base(name), ".header"), Header: http.Header{}}
	for line := range bytes.Lines(b) {
		key, value, ok := strings.Cut(strings.TrimSpace(string(line)), ":")
		if ok {
			c.Header.Add(key, strings.TrimSpace(value))
		}
	}
	if len(c.Header) == 0 {
		return nil, &hintError{fmt.Errorf("%s: there is no header in it", name), "its lines are like Authorization: Bearer …"}
	}
	return c, nil
}

// demoMint makes tokens of the demo's issuer that are right but for one thing.
func demoMint(keys string) func(edit string) (string, error) {
	return func(edit string) (string, error) {
		if _, err := os.Stat(keys); err != nil {
			return "", err // none are made
		}
		s, err := token.LoadOrCreateSigner(keys, token.ES256)
		if err != nil {
			return "", err
		}
		now := time.Now()
		t := &token.AccessToken{
			Issuer: demoIssuer, Subject: "mia", Audience: "orders", ClientID: "demo", Roles: []string{"manager"}, Scopes: []string{"orders:read", "orders:write", "admin:export"},
			IssuedAt: now, Expires: now.Add(time.Hour), AuthTime: now,
		}
		switch edit {
		case "expired":
			t.IssuedAt, t.Expires = now.Add(-2*time.Hour), now.Add(-time.Hour)
		case "for another audience":
			t.Audience = "payments"
		}
		return s.AccessToken(t)
	}
}

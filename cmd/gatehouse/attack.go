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

	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/plan"
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
		"Targets are on this machine, or prove that they are yours: the command prints a word, and the target answers GET " + proofPath + " with it; redirects are not followed. " +
		"Ends with 1 when one exploit got through or could not be tried.\n\nExample:\n  gatehouse attack --row sql-injection --row xss"
}

// Run attacks and prints.
func (c *attackCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	began := time.Now()
	run, err := c.prepare(ctx, cli, std)
	if err != nil {
		return err
	}
	left := c.Requests
	run.bare.left, run.through.left = &left, &left
	if run.listen != nil {
		defer func() { _ = run.listen.l.Close() }()
	}
	run.progress = func(row string, done int) {
		if std.errColour { // a person waits at a terminal
			say(std.err, "\r\x1b[K%d exploits work bare; %s", done, cut(row, 80))
		}
	}
	timed, cancel := context.WithTimeout(ctx, c.Time)
	defer cancel()
	run.run(timed)
	if std.errColour {
		say(std.err, "\r\x1b[K")
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	report := newAttackReport(run, c.Requests-max(left, 0), time.Since(began))
	record := ""
	if c.Through == "" {
		record = cli.Config
	}
	if err := report.consult(ctx, run, record, began); err != nil {
		return err
	}
	if cli.Output == "json" {
		err = printJSON(std.out, report)
	} else {
		err = report.print(std)
	}
	if err == nil && report.failed() {
		return errFailed
	}
	return err
}

// prepare finds out what to attack, and whether it may be.
func (c *attackCmd) prepare(ctx context.Context, cli *cli, std *stdio) (*attackRun, error) {
	run := &attackRun{rows: c.Row}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	through, at, as := c.Through, "", c.As
	roots := []string{c.CA}
	var bare string
	switch {
	case c.Bare != "" && c.Through != "" && len(c.OpenAPI) > 0:
		bare = c.Bare
		for _, file := range c.OpenAPI {
			ops, err := readAttackDocument(file, "")
			if err != nil {
				return nil, err
			}
			run.ops = append(run.ops, ops...)
		}
	case c.Bare == "" && c.Through == "" && len(c.OpenAPI) == 0:
		p, err := plan.Compile(cli.Config)
		if err != nil {
			return nil, err
		}
		if through, at, err = gatewayOf(p.File, c.API); err != nil {
			return nil, err
		}
		if bare, run.ops, err = c.behind(p.File, std); err != nil {
			return nil, err
		}
		roots = append(roots, filepath.Join(p.File.Data.Value, "ca", "ca.pem"))
		if dir := filepath.Dir(p.File.Place.File); p.File.Environment == "demo" && len(as) == 0 {
			as = []string{filepath.Join(dir, "mia.header"), filepath.Join(dir, "alice.header"), filepath.Join(dir, "sam.header")}
			run.mint = demoMint(filepath.Join(dir, "issuer", "signing.jwks"))
		}
	default:
		return nil, &hintError{errors.New("--bare, --through and --openapi belong together"), "name all three, or none to attack the gateway of the config and its upstream"}
	}
	for _, name := range roots {
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
	for _, name := range as {
		caller, err := readCaller(name)
		if err != nil {
			return nil, err
		}
		run.callers = append(run.callers, caller)
	}
	unlimited := 1 << 10 // for the proofs of ownership
	own, local := [2]bool{}, true
	if run.bare, own[0], err = newAttackTarget(ctx, bare, "", pool, &unlimited); err != nil {
		return nil, err
	}
	if run.through, own[1], err = newAttackTarget(ctx, through, at, pool, &unlimited); err != nil {
		return nil, err
	}
	for i, t := range []*attackTarget{run.bare, run.through} {
		if own[i] {
			continue
		}
		local = false
		if err := t.owned(ctx, std, c.Wait); err != nil {
			return nil, err
		}
	}
	run.through.pace = true
	if local {
		if run.listen, err = listenForCallbacks(ctx); err != nil {
			return nil, err
		}
	}
	return run, c.alive(ctx, run)
}

// alive wants an answer of both before anything is attacked.
func (*attackCmd) alive(ctx context.Context, run *attackRun) error {
	for what, t := range map[string]*attackTarget{"the service": run.bare, "the gateway": run.through} {
		if _, err := t.once(ctx, attackRequest{method: http.MethodGet, target: "/", header: http.Header{}}); err != nil {
			return &hintError{fmt.Errorf("%s does not answer: %w", what, err), "start it first: gatehouse serve, or gatehouse demo; --config says which one"}
		}
	}
	return nil
}

// behind gives the service behind the config's APIs and their operations.
func (c *attackCmd) behind(f *config.File, std *stdio) (bare string, ops []*attackOp, err error) {
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
		more, err := readAttackDocument(api.OpenAPI.Value, api.Base)
		if err != nil {
			return "", nil, err
		}
		ops = append(ops, more...)
	}
	if len(ops) == 0 {
		return "", nil, &hintError{fmt.Errorf("%s has no API to attack", f.Place.File), "name targets with --bare, --through and --openapi"}
	}
	return bare, ops, nil
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
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	name := "localhost"
	for _, api := range slices.Sorted(maps.Keys(f.APIs)) {
		if hosts := f.APIs[api].Hosts; len(hosts) > 0 && (len(apis) == 0 || slices.Contains(apis, api)) {
			name = hosts[0]
			break
		}
	}
	return scheme + "://" + net.JoinHostPort(name, port), net.JoinHostPort(host, port), nil
}

// readCaller reads header lines.
func readCaller(name string) (*attackCaller, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	c := &attackCaller{name: strings.TrimSuffix(filepath.Base(name), ".header"), header: http.Header{}}
	for line := range bytes.Lines(b) {
		key, value, ok := strings.Cut(strings.TrimSpace(string(line)), ":")
		if ok {
			c.header.Add(key, strings.TrimSpace(value))
		}
	}
	if len(c.header) == 0 {
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

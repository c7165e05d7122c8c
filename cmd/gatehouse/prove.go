package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
	"github.com/gatehouse-api/gatehouse/internal/plan"
	"github.com/gatehouse-api/gatehouse/internal/posture"
	"github.com/gatehouse-api/gatehouse/internal/server"
	"github.com/gatehouse-api/gatehouse/internal/store"
)

type proveCmd struct {
	OAuth proveOAuthCmd `cmd:"" name:"oauth" help:"Try the checklist of RFC 9700 and what broke other servers on the live authorization server."`
}

type proveOAuthCmd struct {
	Issuer  string        `placeholder:"URL" help:"Another server's issuer: only what a stranger can try is tried. Default: the config's."`
	At      string        `placeholder:"HOST:PORT" help:"Connect here, whatever the issuer's name resolves to."`
	CA      string        `name:"ca" placeholder:"FILE" help:"PEM file with the CA certificates to trust. Default: the system's, and that of the data folder."`
	Outside bool          `help:"Touch no data: only what a stranger can try."`
	Client  string        `placeholder:"FILE" help:"JSON file with client_id, client_secret and redirect_uri of a client there is, for more probes from outside."`
	Only    string        `placeholder:"ID" help:"Only the probes whose id begins so."`
	Unused  time.Duration `default:"2160h" help:"Report scopes, clients and secrets not used for so long."`
}

func (proveOAuthCmd) Help() string {
	return "Sends at most 600 requests in at most 30 seconds to the running server. On the machine with its data folder a user and some clients named prove-… are made for that time, and removed at the end. Ends with 1 when a probe fails.\n\nExample:\n  gatehouse prove oauth --output json"
}

// Run proves and prints.
func (c *proveOAuthCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	cfg, done, err := c.config(ctx, cli, std)
	if err != nil {
		return err
	}
	proof, err := posture.ProveOAuth(ctx, *cfg)
	err = errors.Join(err, done())
	if err != nil {
		if proof != nil {
			for _, left := range proof.Left {
				err = errors.Join(err, fmt.Errorf("left behind: %s", left))
			}
		}
		return err
	}
	if len(proof.Results) == 0 {
		return fmt.Errorf("there is no probe whose id begins with %q", c.Only)
	}
	if cli.Output == "json" {
		err = printJSON(std.out, proof)
	} else {
		err = printProof(std, proof)
	}
	if err == nil && proof.Failed() {
		return errFailed
	}
	return err
}

// config says what to prove with; done gives back what it opened.
func (c *proveOAuthCmd) config(ctx context.Context, cli *cli, std *stdio) (cfg *posture.ProofConfig, done func() error, err error) {
	done = func() error { return nil }
	cfg = &posture.ProofConfig{Issuer: strings.TrimSuffix(c.Issuer, "/"), Only: c.Only, Actor: actor(), Unused: c.Unused, Profile: oauth.OAuth21}
	roots := []string{c.CA}
	if c.Client != "" {
		if cfg.Client, err = readClient(c.Client); err != nil {
			return nil, nil, err
		}
	}
	if c.Issuer == "" {
		p, err := plan.Compile(cli.Config)
		if err != nil {
			return nil, nil, err
		}
		f := p.File
		if f.OAuth == nil {
			return nil, nil, fmt.Errorf("%s: %w", f.Place.File, server.ErrNoOAuth)
		}
		cfg.Issuer, cfg.Profile = f.OAuth.Issuer.Value, oauth.Profile(f.OAuth.Profile)
		cfg.Routes, cfg.Resources = tryable(p)
		if f.Identity.Mail.SMTP == nil {
			cfg.Outbox = f.Identity.Mail.Outbox.Value
		}
		if c.CA == "" {
			roots = []string{filepath.Join(f.Data.Value, "ca", "ca.pem")}
		}
		if !c.Outside && c.Client == "" {
			err := writable(server.Database(f))
			switch {
			case err == nil:
				o, err := server.OpenOffice(ctx, cli.Config)
				if err != nil {
					return nil, nil, err
				}
				cfg.OAuth, cfg.People, done = o.OAuth, o.People, o.Close
			case errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission):
				say(std.err, "%s: %v; only what a stranger can try is tried\n", f.Data.Place, err)
			default:
				return nil, nil, err
			}
		}
	}
	if cfg.HTTP, err = c.transport(roots); err != nil {
		return nil, nil, errors.Join(err, done())
	}
	return cfg, done, nil
}

// writable finds out whether this user may write to a database that is a file; a
// server says so itself.
func writable(at store.Config) error {
	if at.Path == "" {
		return nil
	}
	file, err := os.OpenFile(at.Path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return file.Close()
}

// transport trusts the system's CAs and those of the files there are.
func (c *proveOAuthCmd) transport(files []string) (*http.Client, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	for _, name := range files {
		if name == "" {
			continue
		}
		b, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) && c.CA == "" {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !pool.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("%s: there is no certificate in it", name)
		}
	}
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if c.At != "" {
				address = c.At
			}
			return dialer.DialContext(ctx, network, address)
		},
		MaxIdleConnsPerHost: 32, ForceAttemptHTTP2: true,
	}}, nil
}

func readClient(name string) (*posture.KnownClient, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var k posture.KnownClient
	if err := json.Unmarshal(b, &k); err != nil || k.ID == "" || k.RedirectURI == "" {
		return nil, &hintError{fmt.Errorf("%s: not a client", name), `it is like {"client_id": "shop", "client_secret": "…", "redirect_uri": "https://shop.example/callback"}`}
	}
	return &k, nil
}

var pathParameter = regexp.MustCompile(`\{[^}]*\}`)

// tryable are the operations behind the gateway where tokens of our own server can
// be shown without changing anything, those without parameters first; and what
// tokens can be for.
func tryable(p *plan.Plan) (routes []posture.Route, resources []string) {
	own := map[string]plan.Resource{}
	for _, r := range p.Resources() {
		if r.Own {
			own[r.API] = r
			resources = append(resources, r.ID)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.File.OAuth.Resources)) {
		resources = append(resources, p.File.OAuth.Resources[name].ID.Value)
	}
	issuer, err := url.Parse(p.File.OAuth.Issuer.Value)
	if err != nil {
		return nil, resources
	}
	for n, route := range p.Snapshot.Routes {
		a, op := p.Access(n), route.Op.Op()
		r, ok := own[a.API]
		if !ok || a.House() || op.Method != http.MethodGet {
			continue
		}
		host := issuer.Host
		if hosts := hostsOf(p.File, a.API); len(hosts) > 0 {
			if host = hosts[0]; issuer.Port() != "" {
				host = net.JoinHostPort(host, issuer.Port())
			}
		}
		routes = append(routes, posture.Route{
			Method: op.Method, URL: "https://" + host + pathParameter.ReplaceAllString(op.Path, "1"), Operation: a.API + "." + op.ID, Resource: r.ID, Scopes: r.Scopes,
		})
	}
	slices.SortStableFunc(routes, func(a, b posture.Route) int { return strings.Count(a.URL, "/1") - strings.Count(b.URL, "/1") })
	return routes, resources
}

func hostsOf(f *config.File, api string) []string {
	if a := f.APIs[api]; a != nil {
		return a.Hosts
	}
	return nil
}

func printProof(std *stdio, p *posture.Proof) error {
	count := map[posture.Verdict]int{}
	colour := map[posture.Verdict]string{posture.Pass: green, posture.Fail: red, posture.LeftOut: yellow}
	for _, r := range p.Results {
		count[r.Verdict]++
		say(std.out, "%s  %-28s %s (%s)\n", paint(*std, colour[r.Verdict], fmt.Sprintf("%-8s", r.Verdict)), r.ID, r.Says, r.Section)
		if r.Why != "" {
			say(std.out, "          %s\n", r.Why)
		}
		if r.Verdict == posture.Fail {
			say(std.out, "          %s\n", paint(*std, bold, string(r.Severity)))
			for _, e := range r.Evidence {
				say(std.out, "          %s\n", e)
			}
			say(std.out, "          %s %s\n", paint(*std, bold, "way out:"), r.Fix)
		}
	}
	for _, left := range p.Left {
		say(std.out, "%s  left behind: %s\n", paint(*std, red, "FAIL    "), left)
	}
	if len(p.Clients) > 0 {
		say(std.out, "\n")
		t := tabwriter.NewWriter(std.out, 0, 4, 2, ' ', 0)
		_, _ = fmt.Fprintln(t, "CLIENT\tSTATE\tPROVES ITSELF BY\tTO THINK ABOUT")
		for _, c := range p.Clients {
			id, state, method := c.ID, c.State, c.Method
			if len(c.Notes) == 0 {
				_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", id, state, method, "nothing")
			}
			for _, n := range c.Notes {
				_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s: %s\n", id, state, method, n.Severity, n.Text)
				id, state, method = "", "", ""
			}
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	say(std.out, "\n%s: %d pass, %d fail, %d left out; %d requests in %.1f s\n", p.Issuer, count[posture.Pass], count[posture.Fail], count[posture.LeftOut], p.Requests, p.Seconds)
	return nil
}

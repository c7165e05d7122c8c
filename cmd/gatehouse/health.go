package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/pki"
)

type healthCmd struct {
	Timeout time.Duration `default:"3s" help:"How long to wait for the answer."`
}

func (healthCmd) Help() string {
	return "Asks the running gateway on this machine, at admin.address of the config, whether it is ready. Ends with 1 when it is not or does not answer: as the health check of a container, or before a load balancer sends traffic.\n\nExample:\n  gatehouse health --output json"
}

// Run asks and prints.
func (c *healthCmd) Run(ctx context.Context, cli *cli, std *stdio) error {
	f, err := config.Load(cli.Config)
	if err != nil {
		return err
	}
	a, err := askOperator(ctx, f, "/healthz", c.Timeout)
	if err != nil {
		say(std.err, "%s\n", paint(stdio{colour: std.errColour}, red, err.Error()))
		return errFailed
	}
	var h struct {
		Status, Config, Error, Reload string
		Parts                         []string
	}
	if err := json.Unmarshal(a.body, &h); err != nil || h.Status == "" {
		return &hintError{fmt.Errorf("what answers at %s is no gateway: %d", a.at, a.status), "look at admin.address in " + cli.Config}
	}
	if cli.Output == "json" {
		_, err = std.out.Write(a.body)
	} else {
		colour := map[string]string{"ok": green, "degraded": yellow}[h.Status]
		if colour == "" {
			colour = red
		}
		say(std.out, "%s, config %.12s\n", paint(*std, colour, h.Status), h.Config)
		for _, line := range []string{h.Error, h.Reload} {
			if line != "" {
				say(std.out, "  %s\n", line)
			}
		}
		for _, part := range h.Parts {
			say(std.out, "  %s\n", part)
		}
	}
	if err == nil && a.status != http.StatusOK {
		return errFailed
	}
	return err
}

// An operatorAnswer is what the operator's listener says.
type operatorAnswer struct {
	at     string
	status int
	body   []byte
}

// askOperator asks the running gateway of this machine, with the operator's token.
func askOperator(ctx context.Context, f *config.File, path string, within time.Duration) (*operatorAnswer, error) {
	base, trust, err := operatorDoor(f)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	if f.Admin.Token != nil {
		req.Header.Set("Authorization", "Bearer "+f.Admin.Token.Reveal())
	}
	res, err := (&http.Transport{TLSClientConfig: trust, DisableKeepAlives: true}).RoundTrip(req) // no proxy: the token goes to this machine
	if err != nil {
		return nil, fmt.Errorf("no answer at %s: %w", base, err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, 8<<20))
	return &operatorAnswer{base, res.StatusCode, body}, err
}

// operatorDoor is the URL of the operator's listener as seen from this machine, and
// whom to believe there: the certificate in the config's own file, or the local CA.
func operatorDoor(f *config.File) (base string, trust *tls.Config, err error) {
	host, port, err := net.SplitHostPort(f.Admin.Address)
	if err != nil {
		return "", nil, err
	}
	if port == "0" {
		return "", nil, errors.New("admin.address says port 0: nobody knows where that is")
	}
	base = "http://" + net.JoinHostPort(reached(host), port)
	t := f.Admin.TLS
	if t == nil {
		return base, nil, nil
	}
	base = "https" + base[len("http"):]
	pem, name := filepath.Join(f.Data.Value, "ca", "ca.pem"), ""
	if t.Certificate != nil {
		files, err := pki.LoadFiles(t.Certificate.Value, t.Key.Value)
		if err != nil {
			return "", nil, err
		}
		return base, &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true, VerifyConnection: pinned(files)}, nil //nolint:gosec // the very certificate of the file is asked for
	}
	if len(t.Self) > 0 {
		name = t.Self[0]
	}
	text, err := os.ReadFile(pem)
	if err != nil {
		return "", nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return "", nil, fmt.Errorf("%s holds no certificate", pem)
	}
	return base, &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, ServerName: name}, nil
}

// reached is the host of an address that somebody listens at, as seen from this
// machine.
func reached(host string) string {
	a, err := netip.ParseAddr(host)
	switch {
	case host != "" && (err != nil || !a.IsUnspecified()):
		return host
	case a.Is6():
		return "::1"
	}
	return "127.0.0.1"
}

// pinned takes the server that shows the certificate in our own files, and no other.
func pinned(files pki.Source) func(tls.ConnectionState) error {
	return func(s tls.ConnectionState) error {
		own, err := files.GetCertificate(&tls.ClientHelloInfo{})
		if err != nil {
			return err
		}
		if len(s.PeerCertificates) == 0 || string(s.PeerCertificates[0].Raw) != string(own.Certificate[0]) {
			return errors.New("it shows another certificate than the one in admin.tls")
		}
		return nil
	}
}

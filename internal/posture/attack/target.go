package attack

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// ProofPath is where a target that is not on this machine proves whose it is.
const ProofPath = "/.well-known/gatehouse-attack"

const (
	maxAnswer     = 1 << 20          // bytes of an answer that are looked at
	maxPause      = 10 * time.Second // for a rate limit, each time
	proofInterval = 2 * time.Second
)

// A target is a server that is attacked: one address, found once, so that
// its name cannot lead elsewhere later.
type target struct {
	base   string // scheme://host[:port]
	client *http.Client
	left   *int // requests there may still be, of both targets
	asked  int  // requests it was sent
	pace   bool // waits where a limit says so
	agent  string
	at     []netip.AddrPort // of its name; the first that takes a connection is asked
}

// newTarget resolves the target's name. own says that it is on this machine.
func newTarget(ctx context.Context, base, at string, pool *x509.CertPool, left *int) (t *target, own bool, err error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, false, fmt.Errorf("%q %w", base, ErrNotURL)
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	host := u.Hostname()
	if at != "" {
		if host, port, err = net.SplitHostPort(at); err != nil {
			return nil, false, err
		}
	}
	addresses, err := (&net.Resolver{}).LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, false, err
	}
	own = true
	for _, a := range addresses {
		own = own && a.Unmap().IsLoopback()
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || len(addresses) == 0 {
		return nil, false, fmt.Errorf("%s has no address", base)
	}
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	places := make([]netip.AddrPort, len(addresses))
	for i, a := range addresses {
		places[i] = netip.AddrPortFrom(a.Unmap(), uint16(n))
	}
	t = &target{base: strings.TrimSuffix(u.Scheme+"://"+u.Host+u.Path, "/"), left: left, at: places}
	dial := func(ctx context.Context, network, _ string) (c net.Conn, err error) {
		for _, a := range t.at {
			if c, err = dialer.DialContext(ctx, network, a.String()); err == nil {
				return c, nil
			}
		}
		return nil, err
	}
	t.client = &http.Client{
		Transport: &http.Transport{
			DialContext: dial, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
			MaxIdleConnsPerHost: 4, DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       10 * time.Second,
	}
	return t, own, nil
}

// Own finds out whether base, a URL, is the asker's to load or to attack: it is on
// this machine, or answers [ProofPath] with the word that ask is told, within wait.
// It gives the one address this was found out of: the name's others, and what it
// stands for later, may be another's.
func Own(ctx context.Context, base, agent string, roots *x509.CertPool, ask func(target, word string), wait time.Duration) (netip.AddrPort, error) {
	left := 1 << 10
	t, own, err := newTarget(ctx, base, "", roots, &left)
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer t.client.CloseIdleConnections()
	if own {
		return open(ctx, t.at), nil
	}
	t.agent, t.at = agent, t.at[:1]
	return t.at[0], t.owned(ctx, ask, wait)
}

// open gives the first of some addresses of this machine at which somebody listens:
// localhost may be two. Where nobody does it is the first.
func open(ctx context.Context, places []netip.AddrPort) netip.AddrPort {
	for _, a := range places {
		if c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", a.String()); err == nil {
			_ = c.Close()
			return a
		}
	}
	return places[0]
}

// owned waits until the target answers with a word that only this run knows. A
// redirect proves nothing: it could lead from one's own server to another's.
func (t *target) owned(ctx context.Context, ask func(target, word string), wait time.Duration) error {
	word := "gatehouse-attack-" + strings.ToLower(rand.Text())
	if ask != nil {
		ask(t.base, word)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(proofInterval)
	defer tick.Stop()
	for {
		a, err := t.once(ctx, request{method: http.MethodGet, target: ProofPath, header: http.Header{}})
		if err == nil && a.status == http.StatusOK && strings.TrimSpace(a.body) == word {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s %w", t.base, ErrNotProved)
		case <-tick.C:
		}
	}
}

// An answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string

	reason, decision, detail string // of a refusal of the gateway
}

func (a *answer) refused() bool { return a.reason != "" }
func (a *answer) ok() bool      { return a.status >= 200 && a.status < 300 }

var errRequests = errors.New("the number of requests is used up")

// once sends one request.
func (t *target) once(ctx context.Context, r request) (*answer, error) {
	if *t.left--; *t.left < 0 {
		return nil, errRequests
	}
	req, err := http.NewRequestWithContext(ctx, r.method, t.base, strings.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	path, query, _ := strings.Cut(r.target, "?")
	req.URL.Opaque = req.URL.Path + path // as it is written, encodings included
	req.URL.RawQuery = query
	req.Header = r.header
	if r.header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", t.agent)
	}
	resp, err := t.client.Do(req)
	if e, ok := errors.AsType[*url.Error](err); ok {
		return nil, e.Err // its URL is not the one asked for
	}
	if err != nil {
		return nil, err
	}
	t.asked++
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil && len(b) == 0 {
		return nil, err
	}
	a := &answer{status: resp.StatusCode, header: resp.Header, body: string(b)}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/problem+json") {
		var p struct {
			Reason, Decision, Detail string
			Errors                   []struct{ In, Name, Pointer, Rule string }
		}
		if json.NewDecoder(bytes.NewReader(b)).Decode(&p) == nil && p.Decision != "" {
			a.reason, a.decision = p.Reason, p.Decision
			if len(p.Errors) > 0 {
				e := p.Errors[0]
				a.detail = strings.TrimSpace(e.In+" "+e.Name+e.Pointer) + ": " + e.Rule
			}
		}
	} else if d := resp.Header.Get("Gatehouse-Decision"); d != "" {
		a.decision = d
	}
	return a, nil
}

// send sends one request, and again where a rate limit makes it wait: what is
// asked is whether something else stops it.
func (t *target) send(ctx context.Context, r request) (*answer, error) {
	for range 4 {
		a, err := t.once(ctx, r)
		if err != nil || !t.pace || a.reason != "rate_limited" {
			return a, err
		}
		wait, err := time.ParseDuration(a.header.Get("Retry-After") + "s")
		if err != nil || wait > maxPause {
			return a, nil //nolint:nilerr // the refusal is the answer
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
	}
	return t.once(ctx, r)
}

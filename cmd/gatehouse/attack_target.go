package main

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

const (
	attackAnswer  = 1 << 20                         // bytes of an answer that are looked at
	attackWait    = 10 * time.Second                // for a rate limit, each time
	proofPath     = "/.well-known/gatehouse-attack" // where a target proves whose it is
	proofInterval = 2 * time.Second
)

// An attackTarget is a server that is attacked: one address, found once, so that
// its name cannot lead elsewhere later.
type attackTarget struct {
	base   string // scheme://host[:port]
	client *http.Client
	left   *int // requests there may still be, of both targets
	asked  int  // requests it was sent
	pace   bool // waits where a limit says so
}

// newAttackTarget resolves the target's name. own says that it is on this machine.
func newAttackTarget(ctx context.Context, base, at string, pool *x509.CertPool, left *int) (t *attackTarget, own bool, err error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, false, &hintError{fmt.Errorf("%q is not the URL of a target", base), "it is like http://127.0.0.1:8080"}
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
	dial := func(ctx context.Context, network, _ string) (c net.Conn, err error) {
		for _, a := range addresses {
			if c, err = dialer.DialContext(ctx, network, netip.AddrPortFrom(a, uint16(n)).String()); err == nil {
				return c, nil
			}
		}
		return nil, err
	}
	return &attackTarget{
		base: strings.TrimSuffix(u.Scheme+"://"+u.Host+u.Path, "/"), left: left,
		client: &http.Client{
			Transport: &http.Transport{
				DialContext: dial, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
				MaxIdleConnsPerHost: 4, DisableCompression: true,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Timeout:       10 * time.Second,
		},
	}, own, nil
}

// owned waits until the target answers with a word that only this run knows. A
// redirect proves nothing: it could lead from one's own server to another's.
func (t *attackTarget) owned(ctx context.Context, std *stdio, wait time.Duration) error {
	word := "gatehouse-attack-" + strings.ToLower(rand.Text())
	say(std.err, "%s is not on this machine. To prove that it is yours, let it answer GET %s with exactly\n\n  %s\n\nwithin %s; attacks begin once it does.\n", t.base, proofPath, word, wait)
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(proofInterval)
	defer tick.Stop()
	for {
		a, err := t.once(ctx, attackRequest{method: http.MethodGet, target: proofPath, header: http.Header{}})
		if err == nil && a.status == http.StatusOK && strings.TrimSpace(a.body) == word {
			return nil
		}
		select {
		case <-ctx.Done():
			return &hintError{
				fmt.Errorf("%s did not prove that it is yours: nothing was attacked", t.base),
				"the word is a new one each time; behind a gateway declare GET " + proofPath + " as a public operation",
			}
		case <-tick.C:
		}
	}
}

// An attackAnswerOf is what came back.
type attackAnswerOf struct {
	status int
	header http.Header
	body   string

	reason, decision, detail string // of a refusal of the gateway
}

func (a *attackAnswerOf) refused() bool { return a.reason != "" }
func (a *attackAnswerOf) ok() bool      { return a.status >= 200 && a.status < 300 }

var errAttackRequests = errors.New("the number of requests is used up")

// once sends one request.
func (t *attackTarget) once(ctx context.Context, r attackRequest) (*attackAnswerOf, error) {
	if *t.left--; *t.left < 0 {
		return nil, errAttackRequests
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
		req.Header.Set("User-Agent", "gatehouse-attack/"+version)
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
	b, err := io.ReadAll(io.LimitReader(resp.Body, attackAnswer))
	if err != nil && len(b) == 0 {
		return nil, err
	}
	a := &attackAnswerOf{status: resp.StatusCode, header: resp.Header, body: string(b)}
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
func (t *attackTarget) send(ctx context.Context, r attackRequest) (*attackAnswerOf, error) {
	for range 4 {
		a, err := t.once(ctx, r)
		if err != nil || !t.pace || a.reason != "rate_limited" {
			return a, err
		}
		wait, err := time.ParseDuration(a.header.Get("Retry-After") + "s")
		if err != nil || wait > attackWait {
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

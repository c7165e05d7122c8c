package egress

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	defaultDial    = 3 * time.Second
	defaultTotal   = 10 * time.Second
	defaultMaxBody = 1 << 20
)

// ErrRefused is wrapped by the error of a call that the rules forbid: a scheme,
// a host or an address that is not allowed.
var ErrRefused = errors.New("refused by the egress rules")

// A Config says how and where to call. The zero value is good: public https only.
type Config struct {
	// Allow lists what may be called although its address is not public: "host",
	// "host:port", an IP address with or without port, or a CIDR. A host allows
	// every port unless one is given. A name allows private and loopback addresses
	// only: link-local and metadata addresses must be written as addresses. The
	// operator's issuer URLs belong here: see [Origin].
	Allow   []string
	Dial    time.Duration  // for a connection; 0: 3 s
	Total   time.Duration  // for a whole call; 0: 10 s
	MaxBody int64          // bytes of an answer; 0: 1 MiB
	Roots   *x509.CertPool // nil: the system's
}

// A Client calls third parties. It is safe for concurrent use.
type Client struct {
	cfg   Config
	allow rules
	http  http.Client
	idle  func()
}

// New checks cfg. It refuses an Allow entry that it cannot read, naming it.
func New(cfg Config) (*Client, error) {
	allow, err := parseRules(cfg.Allow)
	if err != nil {
		return nil, fmt.Errorf("egress: %w", err)
	}
	if cfg.Dial < 0 || cfg.Total < 0 || cfg.MaxBody < 0 {
		return nil, errors.New("egress: a negative limit")
	}
	if cfg.Dial == 0 {
		cfg.Dial = defaultDial
	}
	if cfg.Total == 0 {
		cfg.Total = defaultTotal
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = defaultMaxBody
	}
	c := &Client{cfg: cfg, allow: allow}
	transport := &http.Transport{
		Proxy:                  nil, // HTTP_PROXY would route around the address check
		DialContext:            c.dial,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.Roots},
		TLSHandshakeTimeout:    cfg.Dial,
		ResponseHeaderTimeout:  cfg.Total,
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConns:           16,
		MaxIdleConnsPerHost:    2,
		IdleConnTimeout:        90 * time.Second,
		DisableCompression:     true, // a small answer must not unpack into a large one
		ForceAttemptHTTP2:      true,
	}
	c.idle = transport.CloseIdleConnections
	c.http = http.Client{Transport: guarded{transport, cfg.MaxBody}, Timeout: cfg.Total, CheckRedirect: redirect}
	return c, nil
}

// HTTP returns a client for libraries that speak HTTP themselves. The same rules
// hold for each of its requests, whatever the method: addresses, no redirects, no
// proxies, Total, and MaxBody, past which reading an answer fails.
func (c *Client) HTTP() *http.Client {
	out := c.http // a copy: who is given it can not loosen ours
	return &out
}

// Close drops idle connections.
func (c *Client) Close() { c.idle() }

// Fetch gets the document at rawURL. It returns body and header of a 200
// answer; any other status, a larger body, or an address that is not allowed is
// an error. It implements token.Fetcher.
func (c *Client) Fetch(ctx context.Context, rawURL string) (body []byte, header http.Header, err error) {
	res, err := c.call(ctx, http.MethodGet, rawURL, nil, func(h http.Header) {
		h.Set("Accept", "application/json, application/jwk-set+json")
	})
	if err != nil {
		return nil, nil, fmt.Errorf("fetch from %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("fetch from %s: status %d", res.Request.URL.Host, res.StatusCode)
	}
	body, err = io.ReadAll(res.Body)
	if err != nil {
		return nil, nil, fmt.Errorf("fetch from %s: %w", res.Request.URL.Host, err)
	}
	return body, res.Header, nil
}

// Post sends body to rawURL, once, and returns the status of the answer, whose
// content is not looked at.
func (c *Client) Post(ctx context.Context, rawURL, contentType string, body []byte) (status int, err error) {
	res, err := c.call(ctx, http.MethodPost, rawURL, bytes.NewReader(body), func(h http.Header) {
		h.Set("Content-Type", contentType)
	})
	if err != nil {
		return 0, fmt.Errorf("post to %w", err)
	}
	return res.StatusCode, res.Body.Close()
}

// call makes one request; its error begins with the host.
func (c *Client) call(ctx context.Context, method, rawURL string, body io.Reader, fields func(http.Header)) (*http.Response, error) {
	u, err := parse(rawURL)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("%s: not a request", u.Host)
	}
	req.Header.Set("User-Agent", "gatehouse")
	fields(req.Header)
	res, err := c.http.Do(req)
	if err != nil {
		// url.Error quotes the whole URL, and with it a secret somebody put in its query.
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return nil, fmt.Errorf("%s: %w", u.Host, err)
	}
	return res, nil
}

// guarded is the transport of every request: it judges the URL before, and bounds
// the answer after.
type guarded struct {
	next *http.Transport
	max  int64
}

func (g guarded) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := judge(req.URL); err != nil {
		if req.Body != nil {
			_ = req.Body.Close() // RoundTrip must, also when it refuses
		}
		return nil, err
	}
	res, err := g.next.RoundTrip(req.WithContext(context.WithValue(req.Context(), plain{}, req.URL.Scheme == "http")))
	if err != nil {
		return nil, err
	}
	res.Body = &bounded{res.Body, g.max, g.max}
	return res, nil
}

// A bounded body ends in an error where it is too large: a silent end would be
// taken for the whole answer.
type bounded struct {
	io.ReadCloser
	left, max int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if int64(n) > b.left {
		n, err = int(b.left), fmt.Errorf("the answer is larger than %d bytes", b.max)
	}
	b.left -= int64(n)
	return n, err
}

// parse reads a URL that may be called. The address behind its host is checked
// when it is dialled.
func parse(rawURL string) (*url.URL, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("%w: not a URL", ErrRefused)
	}
	return u, judge(u)
}

func judge(u *url.URL) error {
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("%w: the scheme %q", ErrRefused, u.Scheme)
	case u.Opaque != "" || u.Hostname() == "":
		return fmt.Errorf("%w: the URL has no host", ErrRefused)
	case u.User != nil:
		// https://trusted@evil/ is read differently by people and programs.
		return fmt.Errorf("%w: the URL has user information", ErrRefused)
	}
	return nil
}

// redirect refuses: to be sent elsewhere is how a public host makes us call
// another on its behalf. What moved for good is moved in the config.
func redirect(*http.Request, []*http.Request) error {
	return fmt.Errorf("%w: a redirect", ErrRefused)
}

// A plain in a context marks a dial for an http URL.
type plain struct{}

// dial connects to the host of a request, whose addresses are checked one by
// one as they are tried.
func (c *Client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	plaintext, _ := ctx.Value(plain{}).(bool)
	d := net.Dialer{
		Timeout: c.cfg.Dial,
		Control: c.control(host, port, plaintext),
	}
	return d.DialContext(ctx, network, address)
}

package token

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// A source gives a JWK Set and how long it may be kept; negative: it did not say.
type source interface {
	fetch(ctx context.Context) (body []byte, maxAge time.Duration, err error)
}

type fileSource struct{ path string }

func (f fileSource) fetch(context.Context) ([]byte, time.Duration, error) {
	file, err := os.Open(f.path)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = file.Close() }()
	b, err := io.ReadAll(io.LimitReader(file, maxJWKS+1))
	return b, -1, err
}

type urlSource struct {
	fetcher Fetcher
	url     string
}

func (u *urlSource) fetch(ctx context.Context) ([]byte, time.Duration, error) {
	body, h, err := u.fetcher.Fetch(ctx, u.url)
	if err != nil {
		return nil, 0, fmt.Errorf("keys at %s: %w", u.url, err)
	}
	return body, maxAge(h), nil
}

// rediscover bounds how long a jwks_uri is believed without asking again.
const rediscover = 24 * time.Hour

// discovery finds the jwks_uri first, and again after a failure. It is used by
// one fetch at a time.
type discovery struct {
	fetcher Fetcher
	issuer  string
	keys    *urlSource
	found   time.Time
}

func (d *discovery) fetch(ctx context.Context) ([]byte, time.Duration, error) {
	if d.keys == nil || time.Since(d.found) > rediscover {
		uri, err := d.discover(ctx)
		if err != nil {
			return nil, 0, err
		}
		d.keys, d.found = &urlSource{d.fetcher, uri}, time.Now()
	}
	body, age, err := d.keys.fetch(ctx)
	if err != nil {
		d.keys = nil
	}
	return body, age, err
}

// discover asks OpenID Connect Discovery §4 first, which nearly every issuer
// has, then RFC 8414 §3.1, which puts the well-known part before the path.
func (d *discovery) discover(ctx context.Context) (string, error) {
	u, err := url.Parse(d.issuer)
	if err != nil {
		return "", err
	}
	oauth := *u
	oauth.Path = "/.well-known/oauth-authorization-server" + strings.TrimSuffix(u.Path, "/")
	var errs []error
	for _, at := range []string{strings.TrimSuffix(d.issuer, "/") + "/.well-known/openid-configuration", oauth.String()} {
		body, _, err := d.fetcher.Fetch(ctx, at)
		if err == nil {
			var uri string
			if uri, err = d.jwksURI(body); err == nil {
				return uri, nil
			}
		}
		errs = append(errs, fmt.Errorf("discovery at %s: %w", at, err))
	}
	return "", errors.Join(errs...)
}

// jwksURI reads a metadata document. One that names another issuer is refused:
// otherwise who serves one path of a host speaks for all of it (RFC 8414 §3.3).
func (d *discovery) jwksURI(doc []byte) (string, error) {
	if len(doc) > maxJWKS {
		return "", fmt.Errorf("larger than %d bytes", maxJWKS)
	}
	m := make(map[string]any)
	err := readObject(doc, func(r *reader, name string) (err error) {
		m[name], err = r.value()
		return err
	})
	if err != nil {
		return "", err
	}
	var issuer, uri string
	if err := errors.Join(textClaim(m, "issuer", &issuer), textClaim(m, "jwks_uri", &uri)); err != nil {
		return "", err
	}
	if issuer != d.issuer {
		return "", fmt.Errorf("it is the document of %q, not of %q", issuer, d.issuer)
	}
	if err := checkURL(uri); err != nil {
		return "", fmt.Errorf("jwks_uri: %w", err)
	}
	return uri, nil
}

// checkURL takes https, and http where nobody on the way can change the keys.
func checkURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return errors.New("not a URL")
	case u.Host == "" || u.User != nil || u.Fragment != "":
		return fmt.Errorf("%q is not an absolute URL without user and fragment", u.Redacted())
	case u.Scheme == "https" || u.Scheme == "http" && loopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("%q must be https", u.Redacted())
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// maxAge reads Cache-Control (RFC 9111 §5.2.2); negative when it says nothing.
func maxAge(h http.Header) time.Duration {
	age := time.Duration(-1)
	for _, line := range h.Values("Cache-Control") {
		for d := range strings.SplitSeq(line, ",") {
			name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(d)), "=")
			switch name {
			case "no-store", "no-cache":
				return 0
			case "max-age":
				if sec, err := strconv.ParseInt(strings.Trim(value, `"`), 10, 32); err == nil && sec >= 0 {
					age = time.Duration(sec) * time.Second
				}
			}
		}
	}
	return age
}

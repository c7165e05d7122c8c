package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
)

// A sharedAddress is where the servers are.
type sharedAddress struct {
	hosts            []string // host:port, or the path of a Unix socket
	unix             bool
	tls              *tls.Config // nil: only for this machine
	user, password   string
	db               int
	master           string // name of the set that Sentinels watch; "": none
	sentinelUser     string
	sentinelPassword string
}

// SharedURLForm is how the URL of a shared engine is written.
const SharedURLForm = "redis[s]://[user:password@]host[:port][,host…][/db], redis[s]-sentinel://[user:password@]host[:port],…/master[?db=N&sentinel_user=…&sentinel_password=…] or unix://[user:password@]/path[?db=N]"

// parseSharedURL reads a URL of [SharedURLForm]. With several hosts they are nodes of a
// Cluster; a single one may be, too. Beyond loopback the scheme must be rediss:
// anyone on the way could forge every answer. Errors never repeat the URL.
func parseSharedURL(secret, ca string) (*sharedAddress, error) {
	fail := func(why string) (*sharedAddress, error) {
		return nil, fmt.Errorf("store: shared: the url %s; want %s", why, SharedURLForm)
	}
	scheme, rest, ok := strings.Cut(strings.TrimSpace(secret), "://")
	if !ok {
		return fail("has no scheme")
	}
	rest, query, _ := strings.Cut(rest, "?")
	params, err := url.ParseQuery(query)
	if err != nil {
		return fail("has a query that cannot be read")
	}
	a := &sharedAddress{}
	authority, path, _ := strings.Cut(rest, "/")
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		user, password, _ := strings.Cut(authority[:at], ":")
		authority = authority[at+1:]
		var e1, e2 error
		a.user, e1 = url.PathUnescape(user)
		a.password, e2 = url.PathUnescape(password)
		if e1 != nil || e2 != nil || a.user != "" && a.password == "" {
			return fail("has a user or password that is not percent-encoded, or a user without password")
		}
	}
	secured, known := map[string]bool{"redis": false, "rediss": true, "valkey": false, "valkeys": true}[strings.TrimSuffix(scheme, "-sentinel")]
	db := path
	allowed := []string{}
	switch {
	case scheme == "unix":
		if authority != "" || path == "" {
			return fail("of a socket has no path of its own")
		}
		a.unix, a.hosts, db, allowed = true, []string{"/" + path}, params.Get("db"), []string{"db"}
	case !known:
		return fail("has an unknown scheme")
	case strings.HasSuffix(scheme, "-sentinel"):
		a.master, db, allowed = path, params.Get("db"), []string{"db", "sentinel_user", "sentinel_password"}
		a.sentinelUser, a.sentinelPassword = params.Get("sentinel_user"), params.Get("sentinel_password")
		if a.master == "" || strings.ContainsAny(a.master, "/%@") {
			return fail("names no master that the Sentinels watch")
		}
	}
	for name := range params {
		if !slices.Contains(allowed, name) {
			return fail("has an unknown parameter")
		}
	}
	if db != "" {
		if a.db, err = strconv.Atoi(db); err != nil || a.db < 0 || a.db > 1<<16 {
			return fail("has a database that is no number")
		}
	}
	if !a.unix {
		port := "6379"
		if a.master != "" {
			port = "26379"
		}
		for host := range strings.SplitSeq(authority, ",") {
			h, p, err := net.SplitHostPort(host)
			if err != nil {
				if h, p, err = net.SplitHostPort(host + ":" + port); err != nil {
					return fail("has a host that cannot be read")
				}
			}
			if n, err := strconv.ParseUint(p, 10, 16); h == "" || err != nil || n == 0 {
				return fail("lacks a host, or has a port that is none")
			}
			if !secured && !loopback(h) {
				return fail("names a host beyond this machine without TLS")
			}
			a.hosts = append(a.hosts, net.JoinHostPort(h, p))
		}
	}
	if !secured {
		if ca != "" {
			return nil, errors.New("store: shared: a ca is of use only with rediss://")
		}
		return a, nil
	}
	a.tls = &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("store: shared: ca: %w", err)
		}
		if a.tls.RootCAs = x509.NewCertPool(); !a.tls.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("store: shared: ca: %s holds no certificate in PEM", ca)
		}
	}
	return a, nil
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// dial connects to one server. Members of a Cluster and masters that Sentinels name
// are no more believed than the config: without TLS only this machine is called.
func (a *sharedAddress) dial(ctx context.Context, to string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
	if a.unix {
		return d.DialContext(ctx, "unix", a.hosts[0])
	}
	host, _, err := net.SplitHostPort(to)
	if err != nil {
		return nil, err
	}
	if a.tls != nil {
		return (&tls.Dialer{NetDialer: d, Config: a.tls}).DialContext(ctx, "tcp", to)
	}
	if !loopback(host) {
		return nil, fmt.Errorf("%s is beyond this machine, and the url is one without TLS: use rediss://", to)
	}
	return d.DialContext(ctx, "tcp", to)
}

// clean takes secrets out of a text that a server or a library has written.
func (a *sharedAddress) clean(s string) string {
	for _, secret := range []string{a.password, a.sentinelPassword} {
		if secret != "" {
			s = strings.ReplaceAll(s, secret, "[secret]")
		}
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

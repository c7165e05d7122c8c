package demo

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"regexp"
	"strings"
	"time"
)

// environment shows the settings.
//
// INTENTIONALLY VULNERABLE: a developer's page that went into production. What it
// shows is made up.
func (a *API) environment(w http.ResponseWriter, _ *http.Request) error {
	answer(w, http.StatusOK, map[string]any{"DB_PASSWORD": "orders-db-password-7731", "PAYMENT_KEY": "pk_demo_0000", "DEBUG": "1"}) //nolint:gosec // made up
	return nil
}

// trace answers TRACE.
//
// INTENTIONALLY VULNERABLE: every header is told, those a script may not see
// included (cross-site tracing).
func (a *API) trace(w http.ResponseWriter, r *http.Request) error {
	b, err := httputil.DumpRequest(r, false)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "message/http")
	_, _ = w.Write(b)
	return nil
}

// talkative adds what a server out of the box says of itself, and keeps a log.
//
// INTENTIONALLY VULNERABLE: name and version in every answer; a log that says
// neither who nor what was refused, and that looks names up which callers write
// into their User-Agent, as Log4j 2.14 did.
func talkative(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "Orders/1.0.3 (careless)")
		w.Header().Set("X-Powered-By", "Go net/http")
		_ = lookup(r.Context(), fmt.Sprintf("%s %s", r.Method, r.UserAgent())) // a log nobody reads
		next.ServeHTTP(w, r)
	})
}

var (
	innermost = regexp.MustCompile(`\$\{([^${}]*)\}`)
	remote    = regexp.MustCompile(`^jndi:(?:ldap|ldaps|rmi|dns)://([^/]+)`)
)

// lookup replaces ${…} from the inside out, as Log4j does. It calls nobody but on
// this machine, and says no more there than one line.
func lookup(ctx context.Context, line string) string {
	for range 64 {
		m := innermost.FindStringSubmatchIndex(line)
		if m == nil {
			break
		}
		name, value := line[m[2]:m[3]], ""
		lower := strings.ToLower(name)
		if _, fallback, ok := strings.Cut(name, ":-"); ok {
			value = fallback
		} else if strings.HasPrefix(lower, "lower:") {
			value = lower[len("lower:"):]
		} else if strings.HasPrefix(lower, "upper:") {
			value = name[len("upper:"):]
		} else if to := remote.FindStringSubmatch(lower); to != nil {
			value = knock(ctx, to[1])
		}
		line = line[:m[0]] + value + line[m[1]:]
	}
	return line
}

func knock(ctx context.Context, address string) string {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !at.Addr().IsLoopback() {
		return ""
	}
	c, err := (&net.Dialer{Timeout: 300 * time.Millisecond}).DialContext(ctx, "tcp", at.String())
	if err != nil {
		return ""
	}
	_, _ = fmt.Fprintln(c, "lookup")
	_ = c.Close()
	return "found"
}

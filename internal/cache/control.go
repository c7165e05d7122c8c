package cache

import (
	"net/http"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// control is what an answer's head says about keeping it.
type control struct {
	noStore, private, public, noCache, revalidate bool

	maxAge, sMaxAge           time.Duration // -1: not said
	staleError, staleRefresh  time.Duration // -1: not said (RFC 5861)
	expires, date, modified   time.Time
	hasExpires, said, vary    bool // said: something about how long; vary: by *
	cookie, trailer, isStream bool
	etag, lastModified        string
	age                       time.Duration
}

// longest is as long as anything is kept: 2^31 seconds and more mean "for ever"
// (RFC 9111 §1.2.2), which a restart ends long before.
const longest = 365 * 24 * time.Hour

func readControl(fields []http1.Field) control {
	c := control{maxAge: -1, sMaxAge: -1, staleError: -1, staleRefresh: -1}
	dates := 0
	for i := range fields {
		v := fields[i].Value
		switch fields[i].Name {
		case "Cache-Control":
			c.directives(v)
		case "Expires":
			c.said = true
			t, err := http.ParseTime(v)
			if err != nil || c.hasExpires { // "0" and what says two things: it has expired (RFC 9111 §5.3)
				t = time.Time{}
			}
			c.expires, c.hasExpires = t, true
		case "Date":
			if t, err := http.ParseTime(v); err == nil && dates == 0 {
				c.date = t
			}
			dates++
		case "Age":
			if n, ok := seconds(firstOf(v)); ok {
				c.age = max(c.age, n)
			}
		case "Etag":
			c.etag = v
		case "Last-Modified":
			if t, err := http.ParseTime(v); err == nil {
				c.modified, c.lastModified = t, v
			}
		case "Vary":
			for name := range strings.SplitSeq(v, ",") {
				c.vary = c.vary || strings.Trim(name, " \t") == "*"
			}
		case "Set-Cookie", "Dpop-Nonce", "Authentication-Info", "Www-Authenticate", "Clear-Site-Data": // said to one caller
			c.cookie = true
		case "Trailer":
			c.trailer = true
		case "Content-Type":
			const t = "text/event-stream"
			c.isStream = len(v) >= len(t) && strings.EqualFold(v[:len(t)], t)
		}
	}
	return c
}

// directives reads one Cache-Control field (RFC 9111 §5.2). What is said twice in
// two ways counts as the stricter of them.
func (c *control) directives(v string) {
	for v != "" {
		var name, arg string
		name, arg, v = directive(v)
		switch strings.ToLower(name) {
		case "no-store":
			c.noStore, c.said = true, true
		case "private": // of some fields only: we do not take answers apart
			c.private, c.said = true, true
		case "no-cache":
			c.noCache, c.said = true, true
		case "must-revalidate", "proxy-revalidate":
			c.revalidate = true
		case "public":
			c.public = true
		case "max-age":
			c.said = true
			shorter(&c.maxAge, arg)
		case "s-maxage":
			c.said = true
			shorter(&c.sMaxAge, arg)
		case "stale-if-error":
			shorter(&c.staleError, arg)
		case "stale-while-revalidate":
			shorter(&c.staleRefresh, arg)
		}
	}
}

// shorter takes a time that is given in seconds; one that cannot be read is none
// (RFC 9111 §4.2.1).
func shorter(d *time.Duration, arg string) {
	n, ok := seconds(arg)
	if !ok {
		n = 0
	}
	if *d < 0 || n < *d {
		*d = n
	}
}

// directive cuts the first of a list off. A comma within quotes is none.
func directive(v string) (name, arg, rest string) {
	quoted, end := false, len(v)
scan:
	for i := 0; i < len(v); i++ {
		switch {
		case quoted && v[i] == '\\':
			i++
		case v[i] == '"':
			quoted = !quoted
		case v[i] == ',' && !quoted:
			end = i
			break scan
		}
	}
	one := v[:end]
	if end < len(v) {
		rest = v[end+1:]
	}
	name, arg, _ = strings.Cut(one, "=")
	return strings.Trim(name, " \t"), strings.Trim(strings.Trim(arg, " \t"), `"`), rest
}

func firstOf(v string) string {
	v, _, _ = strings.Cut(v, ",")
	return strings.Trim(v, " \t")
}

// seconds reads a delta-seconds (RFC 9111 §1.2.2).
func seconds(s string) (time.Duration, bool) {
	if s == "" {
		return 0, false
	}
	var n time.Duration
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		if n < longest {
			n = n*10 + time.Duration(s[i]-'0')*time.Second
		}
	}
	return min(n, longest), true
}

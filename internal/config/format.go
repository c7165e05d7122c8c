package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"unicode"
)

// A format is a shape of text: the pattern is for the schema and for us, the
// check for what a pattern cannot say.
type format struct {
	pattern *regexp.Regexp
	says    string // "expected …"
	check   func(string) error
}

// formats are looked up by the tags in shape.go; nobody writes to them.
var formats = map[string]format{
	"environment": {regexp.MustCompile(`^[a-z][a-z0-9]{0,15}$`), "a short lower-case word like live or test", nil},
	"name":        {regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,63}$`), "a name of letters, digits, - and _ that starts with a letter", nil},
	"claim":       {regexp.MustCompile(`^[^\x00-\x20\x7f"'\x60\\]{1,128}$`), "the name of a claim, like sub or realm_access.roles", nil},
	"grant":       {regexp.MustCompile(`^(\*|[A-Za-z][A-Za-z0-9_.-]{0,63}:(\*|[A-Za-z][A-Za-z0-9_.-]{0,63}))$`), "a grant like orders:read, orders:* or *", nil},
	"scope":       {regexp.MustCompile(`^[\x21\x23-\x5B\x5D-\x7E]{1,256}$`), "an OAuth scope (RFC 6749 §3.3): printable ASCII without space, quote and backslash", nil},
	"object":      {regexp.MustCompile(`^(path|query|header|cookie|body)\.[A-Za-z0-9_$.-]{1,128}$`), "a value of the request like path.customerId", nil},
	"owner":       {regexp.MustCompile(`^(claims|principal)\.[A-Za-z0-9_$.-]{1,128}$`), "a value of the caller like claims.sub or principal.tenant", nil},
	"operation":   {regexp.MustCompile(`^[^\x00-\x20\x7f][^\x00-\x1f\x7f]{0,255}$`), "an operationId, or 'GET /path'", nil},
	"header":      {regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`), "a header's name of letters, digits and -", nil},
	"network":     {regexp.MustCompile(`^(asn:[1-9][0-9]{0,9}|country:[A-Z]{2}|[A-Za-z][A-Za-z0-9_-]{0,63})$`), "the name of a list under networks, asn:64500 or country:XX", nil},
	"reason":      {regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`), "a reason like forbidden or token_expired", nil},
	"rate":        {regexp.MustCompile(`^[1-9][0-9]{0,8}/(s|sec|second|m|min|minute|h|hour|d|day)$`), "a rate like 100/min, 10/s or 5000/h", nil},
	"quota":       {regexp.MustCompile(`^[1-9][0-9]{0,12}/(day|week|month|year)$`), "a quota like 10000/month (day, week, month, year)", nil},
	"base":        {regexp.MustCompile(`^/([A-Za-z0-9._~!$&'()*+,;=:@/-]*)$`), "a path like /v1", checkBase},
	"host":        {regexp.MustCompile(`^[A-Za-z0-9.:_-]{1,253}$`), "a host name or an IP address, without port", checkHost},
	"ip":          {regexp.MustCompile(`^[0-9A-Fa-f.:]{2,45}$`), "an IP address", checkIP},
	"address":     {regexp.MustCompile(`^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]*):[0-9]{1,5}$`), "host:port", checkAddress},
	"issuer":      {regexp.MustCompile(`^https?://[^\s?#]+$`), "an https URL without query and fragment (RFC 8414 §2)", checkIssuer},
	"jwks":        {regexp.MustCompile(`^[^\x00-\x1f\x7f]+$`), "an https URL or a file", checkJWKS},
	"metadata":    {regexp.MustCompile(`^https://[\x21\x23-\x5B\x5D-\x7E]+$`), "an https URL (RFC 9728 §3)", checkMetadata},
	"resource":    {regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*:[\x21\x24-\x5B\x5D-\x7E]+$`), "an absolute URI without fragment (RFC 8707 §2)", nil},
	"detail":      {regexp.MustCompile(`^[\x21-\x7E]{1,128}$`), "a type of authorization_details (RFC 9396 §2.1)", nil},
	"anyhost":     {regexp.MustCompile(`^(\*|[A-Za-z0-9.:_-]{1,253})$`), "a host name, or *", nil},
	"color":       {regexp.MustCompile(`^#[0-9A-Fa-f]{6}$`), "a colour like #1f6feb", nil},
	"ldap":        {regexp.MustCompile(`^ldaps?://[^\s?#@/]+/?$`), "a URL like ldaps://directory.example.com:636", nil},
	"rules":       {regexp.MustCompile(`^([1-9][0-9]{0,8}(-[1-9][0-9]{0,8})?|[A-Za-z][A-Za-z0-9_./-]{0,127})$`), "a rule's id, a range like 942000-942999, or a tag like attack-sqli", nil},
	"parameter":   {regexp.MustCompile(`^((query|path|header|cookie|body)\.[^\x00-\x20\x7f/]+|body(/[^\x00-\x20\x7f/]+)*)$`), "a value like query.q, header.Referer, body.q or body/items/*/note", nil},
	"sha256":      {regexp.MustCompile(`^[0-9a-f]{64}$`), "a SHA-256 of 64 hex digits, like the output of sha256sum", nil},
	"upstream":    {regexp.MustCompile(`^(http|https|h2c)://[^\s?#@]+$`), "a URL like http://127.0.0.1:9001, with http, https or h2c", checkUpstream},
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f || unicode.Is(unicode.Cf, r) }

func checkBase(s string) error {
	for seg := range strings.SplitSeq(s, "/") {
		if seg == "." || seg == ".." {
			return fmt.Errorf("has a dot segment")
		}
	}
	if strings.Contains(s, "//") {
		return fmt.Errorf("has an empty segment")
	}
	return nil
}

func checkHost(s string) error {
	if _, err := netip.ParseAddr(s); err == nil {
		return nil
	}
	if strings.Contains(s, ":") {
		return fmt.Errorf("has a port, or is no IPv6 address")
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return fmt.Errorf("has an impossible label")
		}
	}
	return nil
}

func checkIP(s string) error {
	if _, err := netip.ParseAddr(s); err != nil {
		return fmt.Errorf("does not parse")
	}
	return nil
}

func checkAddress(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("does not parse")
	}
	if n := 0; len(port) > 0 {
		for _, c := range port {
			n = n*10 + int(c-'0')
		}
		if n > 65535 {
			return fmt.Errorf("has a port over 65535")
		}
	}
	if host == "" {
		return nil // every interface
	}
	return checkHost(host)
}

func checkURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("does not parse")
	}
	if u.User != nil {
		return nil, fmt.Errorf("holds a user or password")
	}
	if err := checkHost(u.Hostname()); u.Hostname() == "" || err != nil {
		return nil, fmt.Errorf("has no usable host")
	}
	if p := u.Port(); p != "" {
		if err := checkAddress("h:" + p); err != nil {
			return nil, err
		}
	}
	return u, nil
}

// checkIssuer lets http through on loopback only: whoever sits between could
// otherwise hand us keys of their own.
func checkIssuer(s string) error {
	u, err := checkURL(s)
	if err != nil {
		return err
	}
	if u.Scheme == "http" && !loopback(u.Hostname()) {
		return fmt.Errorf("is not https, and not on this machine")
	}
	return nil
}

func checkMetadata(s string) error {
	_, err := checkURL(s)
	return err
}

func checkJWKS(s string) error {
	if !strings.Contains(s, "://") {
		return nil // a file
	}
	return checkIssuer(s)
}

func checkUpstream(s string) error {
	u, err := checkURL(s)
	if err != nil {
		return err
	}
	return checkBase("/" + strings.TrimPrefix(u.Path, "/"))
}

// loopback reports whether host can only be this machine.
func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

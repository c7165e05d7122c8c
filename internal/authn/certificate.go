package authn

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse"
)

const mtlsIssuer = "mtls"

// An Identity is who the holder of a certificate is.
type Identity struct {
	Subject string // "": the name in the table
	Tenant  string
	Roles   []string
	Scopes  []string
}

// checkName says what names the table of certificates takes: a URI as it is
// ("spiffe://example/billing"), or "dns:", "email:" or "cn:" and a name. The
// kind is written out because a CA that checks one kind of name may let anybody
// choose another; the common name counts only where "cn:" says so (RFC 6125 §6.4.4).
func checkName(name string) error {
	kind, rest, ok := strings.Cut(name, ":")
	switch {
	case !ok || rest == "":
	case kind == "dns" || kind == "email" || kind == "cn":
		return nil
	case strings.HasPrefix(rest, "//") && len(rest) > 2:
		// crypto/x509 gives URIs parsed; written otherwise than it prints them
		// a name would never match.
		if u, err := url.Parse(name); err == nil && u.String() == name && u.Host != "" {
			return nil
		}
	}
	return fmt.Errorf("certificate name %q must be a URI like spiffe://example/billing, or dns:…, email:… or cn:…", name)
}

// leaf returns the client's certificate if the listener has verified it. No
// header can bring one: who reaches us past a proxy could write it.
func leaf(state *tls.ConnectionState) *x509.Certificate {
	if state == nil || !state.HandshakeComplete || len(state.VerifiedChains) == 0 || len(state.VerifiedChains[0]) == 0 {
		return nil
	}
	return state.VerifiedChains[0][0]
}

// thumbprint is x5t#S256 (RFC 8705 §3.1).
func thumbprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func holds(c *x509.Certificate, x5t string) bool {
	return c != nil && subtle.ConstantTimeCompare([]byte(thumbprint(c)), []byte(x5t)) == 1
}

// identity finds the one name of c that is in the table. Two are refused: which
// of them acts could only be guessed.
func (a *Authenticator) identity(c *x509.Certificate) (name string, id *Identity, err error) {
	// A connection may outlive its certificate, by days with HTTP/2.
	if time.Now().After(c.NotAfter) {
		return "", nil, errors.New("the certificate expired while the connection was open")
	}
	try := func(n string) {
		if found, ok := a.names[n]; ok && n != name {
			if id != nil {
				err = fmt.Errorf("the certificate has two configured names, %q and %q", name, n)
			}
			name, id = n, found
		}
	}
	for _, u := range c.URIs {
		try(u.String())
	}
	for _, n := range c.DNSNames {
		try("dns:" + n)
	}
	for _, n := range c.EmailAddresses {
		try("email:" + n)
	}
	if c.Subject.CommonName != "" {
		try("cn:" + c.Subject.CommonName)
	}
	if err != nil {
		return "", nil, err
	}
	if id == nil {
		return "", nil, errors.New("none of the certificate's names is configured")
	}
	return name, id, nil
}

func (a *Authenticator) certificatePrincipal(c *x509.Certificate) (*gatehouse.Principal, error) {
	name, id, err := a.identity(c)
	if err != nil {
		return nil, err
	}
	p := &gatehouse.Principal{
		Subject: id.Subject, Issuer: mtlsIssuer, Tenant: id.Tenant, Roles: id.Roles, Scopes: id.Scopes,
		Method: gatehouse.MethodMTLS, KeyID: thumbprint(c), Expires: c.NotAfter,
	}
	if p.Subject == "" {
		p.Subject = name
	}
	return p, nil
}

// sameOrigin refuses what a browser sends for another site's page. A browser
// shows a certificate without being asked, like a cookie: where it is the only
// proof, any page could act as its owner (CSRF, cross-site WebSocket hijacking).
// Who is no browser sends neither header.
func sameOrigin(r *http.Request) error {
	switch site := r.Header.Get("Sec-Fetch-Site"); site {
	case "":
	case "same-origin", "none":
		return nil
	default:
		return fmt.Errorf("the browser says that the request comes from another origin (Sec-Fetch-Site: %.20q)", site)
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return nil
	}
	if u, err := url.Parse(origin); err != nil || u.Scheme != "https" || !strings.EqualFold(u.Host, r.Host) {
		return errors.New("the Origin is not this host")
	}
	return nil
}

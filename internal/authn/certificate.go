package authn

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/maphash"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
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

// certificateName takes a name of the table apart by its form, and returns it as
// identity looks it up: a URI ("spiffe://example/billing"), an e-mail address, a
// host name, or "cn:" and a common name. The kinds are kept apart because a CA
// that checks one kind of name may let anybody choose another; a common name
// counts only where "cn:" is written (RFC 9525 §2).
func certificateName(name string) (string, error) {
	switch local, domain, email := strings.Cut(name, "@"); {
	case strings.HasPrefix(name, "cn:") && len(name) > len("cn:"):
		return name, nil
	case strings.Contains(name, "://"):
		// crypto/x509 gives URIs parsed; written otherwise than it prints them
		// a name would never match.
		if u, err := url.Parse(name); err == nil && u.String() == name && u.Scheme != "" && u.Host != "" {
			return name, nil
		}
	case email && local != "" && isHostName(domain):
		return "email:" + name, nil
	case isHostName(name):
		return "dns:" + name, nil
	}
	return "", fmt.Errorf("certificate name %q must be a URI like spiffe://example/billing, a host name, an e-mail address, or cn: and a common name", name)
}

func isHostName(s string) bool {
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_') {
			return false
		}
	}
	return s != ""
}

// leaf returns the client's certificate if the listener has verified it. No
// header can bring one: who reaches us past a proxy could write it.
func leaf(state *tls.ConnectionState) *x509.Certificate {
	if state == nil || !state.HandshakeComplete || len(state.VerifiedChains) == 0 || len(state.VerifiedChains[0]) == 0 {
		return nil
	}
	return state.VerifiedChains[0][0]
}

// presented returns the certificate whose key the connection has proven, whoever
// signed it: enough for a token that is bound to this very certificate, self-signed
// or not (RFC 8705 §3), and for nothing else.
func presented(state *tls.ConnectionState) *x509.Certificate {
	if state == nil || !state.HandshakeComplete || len(state.PeerCertificates) == 0 {
		return nil
	}
	return state.PeerCertificates[0]
}

// thumbprint is x5t#S256 (RFC 8705 §3.1).
func thumbprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// certificates remember what was computed of the certificates of connections,
// each of which brings the same one with every request. A place is taken over by
// whoever comes later: nothing but time is lost.
type certificates struct {
	seed   maphash.Seed
	places [rememberedCertificates]atomic.Pointer[certificate]
}

const rememberedCertificates = 1024 // some megabytes at most

type certificate struct {
	cert       *x509.Certificate
	thumbprint string
	principal  *gatehouse.Principal // nil: not known here, or not asked yet
}

func newCertificates() *certificates { return &certificates{seed: maphash.MakeSeed()} }

func (s *certificates) place(c *x509.Certificate) *atomic.Pointer[certificate] {
	return &s.places[maphash.Comparable(s.seed, c)%rememberedCertificates]
}

// of gives what is remembered of c, which is this very certificate and not one
// that looks like it.
func (s *certificates) of(c *x509.Certificate) *certificate {
	place := s.place(c)
	if known := place.Load(); known != nil && known.cert == c {
		return known
	}
	known := &certificate{cert: c, thumbprint: thumbprint(c)}
	place.Store(known)
	return known
}

func (s *certificates) holds(c *x509.Certificate, x5t string) bool {
	if c == nil {
		return false
	}
	var have, want [64]byte // base64 of SHA-256 has 43 bytes
	n := copy(have[:], s.of(c).thumbprint)
	return len(x5t) <= len(want) && subtle.ConstantTimeCompare(have[:n], want[:copy(want[:], x5t)]) == 1
}

// identity finds the one name of c that is in the table. Two are refused: which
// of them acts could only be guessed.
func (a *Authenticator) identity(c *x509.Certificate) (id *Identity, err error) {
	try := func(n string) {
		if found := a.names[n]; found != nil && found != id {
			if id != nil {
				err = fmt.Errorf("the certificate has two configured names, of %q and %q", id.Subject, found.Subject)
			}
			id = found
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
		return nil, err
	}
	if id == nil {
		return nil, errors.New("none of the certificate's names is configured")
	}
	return id, nil
}

func (a *Authenticator) certificatePrincipal(c *x509.Certificate, now time.Time) (*gatehouse.Principal, error) {
	// A connection may outlive its certificate, by days with HTTP/2.
	if now.After(c.NotAfter) {
		return nil, errors.New("the certificate expired while the connection was open")
	}
	known := a.certs.of(c)
	if known.principal != nil {
		return known.principal, nil
	}
	id, err := a.identity(c)
	if err != nil {
		return nil, err
	}
	p := &gatehouse.Principal{
		Subject: id.Subject, Issuer: mtlsIssuer, Tenant: id.Tenant, Roles: id.Roles, Scopes: id.Scopes,
		Method: gatehouse.MethodMTLS, KeyID: known.thumbprint, Expires: c.NotAfter,
	}
	a.certs.place(c).Store(&certificate{c, known.thumbprint, p})
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

package authn

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// Config says who is known. It is read once; a changed config makes a new Authenticator.
type Config struct {
	Realm        string              // named in challenges; required
	Issuers      []Issuer            // of tokens
	Keys         *Keys               // API keys; nil: none are accepted
	KeyHeader    string              // where they stand; "": DefaultKeyHeader. Authorization: Bearer always works too.
	Certificates map[string]Identity // who holds a certificate, by its name: a URI (spiffe://…), a host name, an e-mail address, or cn:NAME
	Roles        []string            // the roles the config defines; a token's others are dropped
	CacheEntries int                 // checked tokens remembered for each issuer; 0: 16,384

	Proofs      *token.Proofs    // DPoP (RFC 9449); nil: tokens bound so are refused. It outlives reloads, or replays are forgotten.
	Opaque      Opener           // opens tokens of our own that are no JWTs; nil: they are refused
	Decrypter   *token.Decrypter // opens encrypted tokens of our own; nil: they are refused
	Revocations Revocations      // of our own tokens; required with an issuer that is Own
}

// An Opener knows what our own opaque tokens (gha_…) stand for. A token it does
// not know is a *gatehouse.Problem of kind Unauthenticated; any other error means
// that it cannot tell, and refuses with 503.
type Opener interface {
	OpenToken(ctx context.Context, raw string) (*token.Claims, error)
}

// Revocations knows which of our own tokens no longer count. It is asked for
// every request that brings one, remembered or not, and must not lock.
type Revocations interface {
	Revoked(c *token.Claims) bool
	RevocationsErr() error // why it cannot be known; every token of ours is refused then
}

// An Authenticator tells who is calling. It is safe for concurrent use; the zero
// Authenticator accepts nobody.
type Authenticator struct {
	realm   string
	header  string // of API keys
	issuers map[string]*issuer
	keys    *Keys
	names   map[string]*Identity
	certs   *certificates
	roles   map[string]bool
	nobody  gatehouse.Principal

	proofs      *token.Proofs
	opaque      Opener
	decrypter   *token.Decrypter
	revocations Revocations
}

// New checks cfg and makes an Authenticator. It does no I/O: keys of issuers are
// fetched by their own Run.
func New(cfg Config) (*Authenticator, error) {
	a := &Authenticator{
		realm: cfg.Realm, header: cmp.Or(cfg.KeyHeader, DefaultKeyHeader), issuers: map[string]*issuer{}, keys: cfg.Keys,
		names: map[string]*Identity{}, certs: newCertificates(), roles: map[string]bool{},
		proofs: cfg.Proofs, opaque: cfg.Opaque, decrypter: cfg.Decrypter, revocations: cfg.Revocations,
	}
	var errs []error
	if cfg.Realm == "" {
		errs = append(errs, errors.New("a realm is required"))
	}
	errs = append(errs, KeyPlace("header", a.header))
	for _, r := range cfg.Roles {
		a.roles[r] = r != ""
	}
	for i := range cfg.Issuers {
		errs = append(errs, a.addIssuer(&cfg.Issuers[i], cfg.CacheEntries))
	}
	for name, id := range cfg.Certificates {
		full, err := certificateName(name)
		errs = append(errs, err)
		for _, r := range id.Roles {
			if !a.roles[r] {
				errs = append(errs, fmt.Errorf("certificate name %q has the role %q, which is not configured", name, r))
			}
		}
		id.Roles, id.Scopes = slices.Clone(id.Roles), slices.Clone(id.Scopes)
		id.Subject = cmp.Or(id.Subject, name)
		a.names[full] = &id
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("authn: %w", err)
	}
	return a, nil
}

// Authenticate returns who r acts for, by one of the ways acc accepts. proto is
// "https" or "http", as the caller speaks it: a DPoP proof names the whole URL.
// The Principal is shared and read-only; on a public operation without credentials
// it is the anonymous one. Every error is a *gatehouse.Problem.
//
// On a public operation a credential is checked if acc has any way, and a bad
// one is refused; if acc has none, credentials are not looked at and are the
// service's own matter.
func (a *Authenticator) Authenticate(ctx context.Context, r *http.Request, proto string, acc *Accept) (*gatehouse.Principal, error) {
	return a.AuthenticateAt(ctx, time.Now(), r, proto, acc)
}

// AuthenticateAt is [Authenticator.Authenticate] for who has just asked the clock,
// which costs as much as the rest of it. Now is when the request came.
func (a *Authenticator) AuthenticateAt(ctx context.Context, now time.Time, r *http.Request, proto string, acc *Accept) (*gatehouse.Principal, error) {
	if acc == nil || acc.owner != a {
		return nil, &gatehouse.Problem{
			Kind: gatehouse.Internal, Reason: "internal", Err: errors.New("authn: the operation was not compiled by this Authenticator"),
		}
	}
	if acc.anonymous && !acc.bearer && !acc.cert {
		return &a.nobody, nil
	}
	cred, kind, err := acc.credential(r)
	if err != nil {
		return nil, err
	}
	switch kind {
	case bearerToken, dpopToken:
		return a.byToken(ctx, r, acc, shown{cred, kind, proto, now})
	case apiKey:
		return a.byKey(r, acc, cred, now)
	case none:
	}
	return a.byConnection(r, acc, now)
}

type kind uint8

const (
	none kind = iota
	bearerToken
	dpopToken
	apiKey
)

// credential finds the one credential in r's header. Any API key header counts
// as a credential, also where none is taken: the service might believe it.
func (acc *Accept) credential(r *http.Request) (string, kind, error) {
	auth, keys := r.Header["Authorization"], r.Header[acc.keyHeader]
	if acc.keyHeader == "Authorization" { // an apiKey scheme of that name; it is read below
		keys = nil
	}
	switch {
	case len(auth) == 0 && len(keys) == 0:
		return "", none, nil
	case len(auth) > 1 || len(keys) > 1:
		// Which of two lines counts, a service may decide otherwise than we do.
		return "", none, ambiguous("a credential header is there more than once")
	case len(auth) == 1 && len(keys) == 1:
		return "", none, ambiguous("an Authorization and an API key header")
	case len(keys) == 1:
		return keys[0], apiKey, nil
	}
	value := auth[0]
	if acc.keyHeader == "Authorization" && strings.HasPrefix(value, keyPrefix) {
		return value, apiKey, nil
	}
	scheme, cred, _ := strings.Cut(value, " ")
	switch {
	case strings.EqualFold(scheme, "Bearer"):
	case strings.EqualFold(scheme, "DPoP"):
		if acc.owner.proofs == nil {
			return "", none, acc.dpopUnsupported(errors.New("the scheme of Authorization is DPoP"))
		}
		return strings.TrimLeft(cred, " "), dpopToken, nil
	default:
		return "", none, acc.notAccepted(none, noCode, errors.New("the scheme of Authorization is not Bearer"))
	}
	cred = strings.TrimLeft(cred, " ")
	if strings.HasPrefix(cred, keyPrefix) { // no JWT begins so: its first character would have to encode '{'
		return cred, apiKey, nil
	}
	return cred, bearerToken, nil
}

func (a *Authenticator) byKey(r *http.Request, acc *Accept, raw string, now time.Time) (*gatehouse.Principal, error) {
	if !acc.key {
		return nil, acc.notAccepted(apiKey, invalidToken, errors.New("an API key, where none is taken"))
	}
	p, err := a.keys.principal(raw, now)
	if err != nil {
		return nil, acc.complete(apiKey, err)
	}
	if acc.keyWithCert {
		if err := a.beside(acc, leaf(r.TLS), now); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// beside checks a certificate that is asked for in addition to a credential.
func (a *Authenticator) beside(acc *Accept, cert *x509.Certificate, now time.Time) error {
	if cert == nil {
		return acc.denial(none, noCode, gatehouse.Problem{
			Reason: "certificate_required", Detail: "This operation needs a client certificate too.", Err: errNoCertificate,
		})
	}
	if _, err := a.certificatePrincipal(cert, now); err != nil {
		return acc.certificateUnknown(err)
	}
	return nil
}

func (acc *Accept) certificateUnknown(cause error) *gatehouse.Problem {
	return acc.denial(none, noCode, gatehouse.Problem{Reason: "certificate_unknown", Detail: "The client certificate is not known here.", Err: cause})
}

// byConnection is for requests that carry no credential themselves.
func (a *Authenticator) byConnection(r *http.Request, acc *Accept, now time.Time) (*gatehouse.Principal, error) {
	cert := leaf(r.TLS)
	if cert == nil || !acc.cert {
		if acc.anonymous {
			return &a.nobody, nil
		}
		return nil, acc.missing()
	}
	p, err := a.certificatePrincipal(cert, now)
	switch {
	case err == nil:
	case acc.anonymous: // a certificate belongs to the connection; it was not shown for this request
		return &a.nobody, nil
	default:
		return nil, acc.certificateUnknown(err)
	}
	if err := sameOrigin(r); err != nil {
		if acc.anonymous {
			return &a.nobody, nil
		}
		return nil, &gatehouse.Problem{
			Kind: gatehouse.Forbidden, Reason: "cross_origin", Detail: "A client certificate alone is not accepted from another site's page.", Err: err,
		}
	}
	return p, nil
}

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
}

// An Authenticator tells who is calling. It is safe for concurrent use; the zero
// Authenticator accepts nobody.
type Authenticator struct {
	realm   string
	header  string // of API keys
	issuers map[string]*issuer
	keys    *Keys
	names   map[string]*Identity
	roles   map[string]bool
	nobody  gatehouse.Principal
}

// New checks cfg and makes an Authenticator. It does no I/O: keys of issuers are
// fetched by their own Run.
func New(cfg Config) (*Authenticator, error) {
	a := &Authenticator{
		realm: cfg.Realm, header: cmp.Or(cfg.KeyHeader, DefaultKeyHeader), issuers: map[string]*issuer{}, keys: cfg.Keys,
		names: map[string]*Identity{}, roles: map[string]bool{},
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

// Authenticate returns who r acts for, by one of the ways acc accepts. The
// Principal is shared and read-only; on a public operation without credentials
// it is the anonymous one. Every error is a *gatehouse.Problem.
//
// On a public operation a credential is checked if acc has any way, and a bad
// one is refused; if acc has none, credentials are not looked at and are the
// service's own matter.
func (a *Authenticator) Authenticate(ctx context.Context, r *http.Request, acc *Accept) (*gatehouse.Principal, error) {
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
	case bearerToken:
		return a.byToken(ctx, r, acc, cred)
	case apiKey:
		return a.byKey(r, acc, cred)
	case none:
	}
	return a.byConnection(r, acc)
}

type kind uint8

const (
	none kind = iota
	bearerToken
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
		return "", none, acc.dpop(errors.New("the scheme of Authorization is DPoP"))
	default:
		return "", none, acc.notAccepted(noCode, errors.New("the scheme of Authorization is not Bearer"))
	}
	cred = strings.TrimLeft(cred, " ")
	if strings.HasPrefix(cred, keyPrefix) { // no JWT begins so: its first character would have to encode '{'
		return cred, apiKey, nil
	}
	return cred, bearerToken, nil
}

func (acc *Accept) dpop(cause error) *gatehouse.Problem {
	return acc.denial(invalidToken, gatehouse.Problem{Reason: "dpop_unsupported", Detail: "Tokens bound to a DPoP key are not accepted.", Err: cause})
}

func (a *Authenticator) byToken(ctx context.Context, r *http.Request, acc *Accept, raw string) (*gatehouse.Principal, error) {
	for i := range acc.issuers {
		is := &acc.issuers[i]
		if t, ok := is.cache.Get(raw); ok {
			return a.onConnection(r, acc, is, t)
		}
	}
	if len(acc.issuers) == 0 {
		return nil, acc.notAccepted(invalidToken, errors.New("a token, where none is taken"))
	}
	iss, err := token.UnverifiedIssuer(raw)
	if err != nil {
		return nil, acc.complete(err)
	}
	at := slices.IndexFunc(acc.issuers, func(is acceptIssuer) bool { return is.iss == iss })
	if at < 0 {
		return nil, acc.denial(invalidToken, gatehouse.Problem{
			Reason: "token_issuer_unknown", Detail: "The access token is of an issuer that is not accepted here.",
			Err: fmt.Errorf("iss is %.200q", iss),
		})
	}
	is := &acc.issuers[at]
	claims, err := is.verifier.Verify(ctx, raw)
	switch {
	case err != nil:
		return nil, acc.complete(err)
	case claims.Cnf.JKT != "":
		return nil, acc.dpop(errDPoP)
	case claims.Cnf.Unknown || claims.Cnf.Bound() && claims.Cnf.X5T == "":
		return nil, acc.denial(invalidToken, gatehouse.Problem{Reason: "token_invalid", Detail: "The access token is not valid here.", Err: errUnknown})
	}
	t := &checkedToken{is.principal(claims), claims.Cnf.X5T}
	is.cache.Put(raw, claims, t)
	return a.onConnection(r, acc, is, t)
}

// onConnection checks what a good token asks of the connection it came over.
func (a *Authenticator) onConnection(r *http.Request, acc *Accept, is *acceptIssuer, t *checkedToken) (*gatehouse.Principal, error) {
	if t.x5t != "" && !holds(leaf(r.TLS), t.x5t) {
		return nil, acc.denial(invalidToken, gatehouse.Problem{
			Reason: "certificate_mismatch", Detail: "The access token is bound to another client certificate.",
			Err: errors.New("cnf.x5t#S256 is not the connection's certificate (RFC 8705 §3)"),
		})
	}
	if is.withCert {
		if err := a.beside(acc, leaf(r.TLS)); err != nil {
			return nil, err
		}
	}
	return t.principal, nil
}

func (a *Authenticator) byKey(r *http.Request, acc *Accept, raw string) (*gatehouse.Principal, error) {
	if !acc.key {
		return nil, acc.notAccepted(invalidToken, errors.New("an API key, where none is taken"))
	}
	p, err := a.keys.principal(raw)
	if err != nil {
		return nil, acc.complete(err)
	}
	if acc.keyWithCert {
		if err := a.beside(acc, leaf(r.TLS)); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// beside checks a certificate that is asked for in addition to a credential.
func (a *Authenticator) beside(acc *Accept, cert *x509.Certificate) error {
	if cert == nil {
		return acc.denial(noCode, gatehouse.Problem{
			Reason: "certificate_required", Detail: "This operation needs a client certificate too.", Err: errNoCertificate,
		})
	}
	if _, err := a.identity(cert); err != nil {
		return acc.certificateUnknown(err)
	}
	return nil
}

func (acc *Accept) certificateUnknown(cause error) *gatehouse.Problem {
	return acc.denial(noCode, gatehouse.Problem{Reason: "certificate_unknown", Detail: "The client certificate is not known here.", Err: cause})
}

// byConnection is for requests that carry no credential themselves.
func (a *Authenticator) byConnection(r *http.Request, acc *Accept) (*gatehouse.Principal, error) {
	cert := leaf(r.TLS)
	if cert == nil || !acc.cert {
		if acc.anonymous {
			return &a.nobody, nil
		}
		return nil, acc.missing()
	}
	p, err := a.certificatePrincipal(cert)
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

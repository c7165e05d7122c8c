package authn

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// DefaultKeyHeader is where API keys stand unless the document names another header.
const DefaultKeyHeader = "X-API-Key"

// Ways says how callers of one operation may authenticate. The zero Ways is refused.
type Ways struct {
	Any              []Way  // one of them is enough
	Anonymous        bool   // nobody may call too (public operation)
	KeyHeader        string // of API keys; "": Config.KeyHeader
	ResourceMetadata string // URL of the RFC 9728 metadata to name in challenges; "": none

	// What a token must say besides being good. Only a token can say it: where any
	// of the last four is asked for, API keys are not accepted, nor, but for Bound,
	// a certificate alone.
	Audience []string      // resource identifiers of this API (RFC 8707): a token of our own issuer must name one; required where it is accepted
	ACR      []string      // how well the user must be authenticated: one of these acr values (RFC 9470)
	MaxAge   time.Duration // how long ago at most, in whole seconds; 0: any time
	Details  []string      // types of authorization_details (RFC 9396 §2), of which the token must carry one
	Bound    bool          // only tokens bound to a key of the client's (RFC 9449, RFC 8705)
}

// A Way is what one request must show, all of it. Issuers and Key exclude each
// other: a request carries one credential besides its connection's certificate.
type Way struct {
	Issuers     []string // a token of one of these issuers, by name
	Key         bool     // an API key
	Certificate bool     // a client certificate that is in the table of names
}

// An Accept is a compiled [Ways], made by [Authenticator.Accept]. The nil Accept
// refuses everybody.
type Accept struct {
	owner       *Authenticator
	issuers     []acceptIssuer
	key         bool // API keys are taken
	keyWithCert bool // but only beside a certificate
	cert        bool // a certificate alone is enough
	anonymous   bool
	bearer      bool   // some way uses Authorization: Bearer
	keyHeader   string // canonical
	judged      []string
	realm       string // `realm="…"`
	metadata    string // `, resource_metadata="…"` or nothing
	algs        string // `, algs="…"` where DPoP is taken, or nothing

	own      *acceptIssuer // the one of issuers that is our own; nil: none
	audience []string
	acr      []string
	maxAge   time.Duration
	details  []string
	bound    bool
	asks     bool   // for acr, maxAge or details
	stepUp   string // `, acr_values="…", max_age="…"`, or what of it is asked for
}

type acceptIssuer struct {
	*issuer
	withCert bool
}

// Accept compiles how callers of one operation may authenticate. It fails on
// names that are not configured and on ways nobody could ever go.
func (a *Authenticator) Accept(w Ways) (*Accept, error) {
	acc := &Accept{owner: a, anonymous: w.Anonymous, keyHeader: http.CanonicalHeaderKey(cmp.Or(w.KeyHeader, a.header))}
	if err := KeyPlace("header", acc.keyHeader); err != nil {
		return nil, err
	}
	var err error
	if acc.realm, err = quoted(a.realm); err != nil {
		return nil, fmt.Errorf("authn: realm: %w", err)
	}
	acc.realm = "realm=" + acc.realm
	if w.ResourceMetadata != "" {
		u, err := url.Parse(w.ResourceMetadata)
		if err != nil || u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("authn: resource metadata %q must be an https URL (RFC 9728 §3)", w.ResourceMetadata)
		}
		q, err := quoted(w.ResourceMetadata)
		if err != nil {
			return nil, fmt.Errorf("authn: resource metadata: %w", err)
		}
		acc.metadata = ", resource_metadata=" + q
	}
	if len(w.Any) == 0 && !w.Anonymous {
		return nil, errors.New("authn: no way to authenticate; name one, or make the operation public")
	}
	for _, way := range w.Any {
		if err := acc.add(way); err != nil {
			return nil, fmt.Errorf("authn: %w", err)
		}
	}
	if err := acc.ask(w); err != nil {
		return nil, fmt.Errorf("authn: %w", err)
	}
	acc.judged = acc.credentialHeaders()
	return acc, nil
}

// CredentialHeaders returns the header fields (canonical) whose content
// Authenticate has judged, and which a service must therefore not see and judge
// again; none for a public operation that accepts no way.
// The slice is shared and read-only.
func (acc *Accept) CredentialHeaders() []string {
	if acc == nil {
		return nil
	}
	return acc.judged
}

func (acc *Accept) credentialHeaders() []string {
	switch {
	case !acc.bearer && !acc.cert:
		return nil
	case acc.keyHeader == "Authorization":
		return []string{"Authorization"}
	}
	return []string{"Authorization", acc.keyHeader}
}

func (acc *Accept) add(w Way) error {
	a := acc.owner
	if w.Certificate && len(a.names) == 0 {
		return errors.New("a client certificate is asked for, but no certificate name is configured")
	}
	switch {
	case w.Key && len(w.Issuers) > 0:
		return errors.New("one way can not ask for a token and an API key: a request carries one of them; make them two ways")
	case w.Key:
		if a.keys == nil {
			return errors.New("API keys are asked for, but not configured")
		}
		if acc.key && acc.keyWithCert != w.Certificate {
			return errMixed("API keys")
		}
		acc.keyWithCert = w.Certificate
		acc.key, acc.bearer = true, true
	case len(w.Issuers) > 0:
		acc.bearer = true
		for _, name := range w.Issuers {
			if err := acc.addIssuer(name, w.Certificate); err != nil {
				return err
			}
		}
	case w.Certificate:
		acc.cert = true
	default:
		return errors.New("a way that asks for nothing; make the operation public instead")
	}
	return nil
}

func (acc *Accept) addIssuer(name string, withCert bool) error {
	is := acc.owner.issuers[name]
	if is == nil {
		known := make([]string, 0, len(acc.owner.issuers))
		for n := range acc.owner.issuers {
			known = append(known, n)
		}
		slices.Sort(known)
		return fmt.Errorf("issuer %q is not configured; there are: %s", name, strings.Join(known, ", "))
	}
	for i := range acc.issuers {
		have := &acc.issuers[i]
		switch {
		case have.issuer == is:
			if have.withCert != withCert {
				return errMixed("tokens of " + name)
			}
			return nil
		case have.iss == is.iss:
			return fmt.Errorf("issuers %s and %s have the same iss %q; which of them a token is for could not be told", have.name, is.name, is.iss)
		}
	}
	acc.issuers = append(acc.issuers, acceptIssuer{is, withCert})
	return nil
}

// errMixed refuses two ways of which only one wants a certificate beside the same
// credential. The scopes of the ways may differ, and who decides about scopes no
// longer sees whether there was a certificate: the stricter way would be worth
// nothing.
func errMixed(what string) error {
	return fmt.Errorf("%s are taken with a client certificate in one alternative and without in another; ask for it in both, or split the operation", what)
}

// KeyPlace says whether API keys may stand where an OpenAPI apiKey scheme wants
// them (its `in` and `name`); the error says why not.
func KeyPlace(in, name string) error {
	switch in {
	case "header":
	case "query":
		return fmt.Errorf("authn: API keys in the query (%q) are not accepted: URLs end up in logs, histories and Referer headers; use a header", name)
	case "cookie":
		return fmt.Errorf("authn: API keys in a cookie (%q) are not accepted: browsers send cookies along with requests other sites make; use a header", name)
	default:
		return fmt.Errorf("authn: an API key can not stand in %q", in)
	}
	for _, c := range []byte(name) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-') {
			return fmt.Errorf("authn: %q is no name for an API key header: letters, digits and - only", name)
		}
	}
	switch http.CanonicalHeaderKey(name) {
	case "", "Cookie", "Host", "Proxy-Authorization", "Forwarded", "Connection", "Te", "Trailer", "Upgrade", "Content-Length", "Transfer-Encoding", "Content-Type":
		return fmt.Errorf("authn: %q is no name for an API key header", name)
	}
	return nil
}

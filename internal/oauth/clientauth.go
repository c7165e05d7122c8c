package oauth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

const (
	assertionType     = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	maxCredential     = 4096 // bytes of a Basic header: longer ones are no client's
	assertionLife     = 5 * time.Minute
	assertionLifeFAPI = time.Minute
	onceAssertion     = "assertion"
)

// credentials are what a request brings as proof of who its client is.
type credentials struct {
	method string // of the proof; "" when there is none in the request itself
	id     string
	secret string // of client_secret_basic and _post, or the assertion
	basic  bool
}

// readCredentials finds the one proof in a request (RFC 6749 §2.3: a client must
// not use more than one).
func readCredentials(r *http.Request, form url.Values) (c credentials, err error) {
	c.id = form.Get("client_id")
	proofs := 0
	if values := r.Header.Values("Authorization"); len(values) > 0 {
		c.basic = true
		if len(values) > 1 {
			return c, errors.New("more than one Authorization header")
		}
		id, secret, err := parseBasic(values[0])
		if err != nil {
			return c, err
		}
		if c.id != "" && c.id != id {
			return c, errors.New("client_id is not the client of the Authorization header")
		}
		c.method, c.id, c.secret = methodBasic, id, secret
		proofs++
	}
	if form.Has("client_secret") {
		c.method, c.secret = methodPost, form.Get("client_secret")
		proofs++
	}
	if form.Has("client_assertion") || form.Has("client_assertion_type") {
		if form.Get("client_assertion_type") != assertionType {
			return c, errors.New("client_assertion_type is not jwt-bearer")
		}
		c.method, c.secret = methodJWT, form.Get("client_assertion")
		iss, err := token.UnverifiedIssuer(c.secret)
		if err != nil {
			return c, fmt.Errorf("client_assertion: %w", err)
		}
		// Only to know whose keys to try: the signature is over the same iss.
		if c.id == "" {
			c.id = iss
		}
		proofs++
	}
	if proofs > 1 {
		return c, refuse("invalid_request", "The client must prove itself in one way, not in several.")
	}
	if c.id == "" {
		return c, errors.New("the request names no client")
	}
	return c, nil
}

// parseBasic reads the credentials of client_secret_basic: both halves are
// form-encoded before they are joined by a colon (RFC 6749 §2.3.1).
func parseBasic(header string) (id, secret string, err error) {
	scheme, encoded, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Basic") || len(header) > maxCredential {
		return "", "", errors.New("the Authorization header is not Basic")
	}
	b, err := base64.StdEncoding.Strict().DecodeString(strings.TrimLeft(encoded, " "))
	if err != nil {
		return "", "", errors.New("the Basic credentials are not base64")
	}
	first, rest, ok := strings.Cut(string(b), ":")
	if !ok {
		return "", "", errors.New("the Basic credentials have no colon")
	}
	// A secret of ours has nothing to decode, so that clients which forget to encode are understood as well.
	if id, err = url.QueryUnescape(first); err == nil {
		secret, err = url.QueryUnescape(rest)
	}
	if err != nil {
		return "", "", errors.New("the Basic credentials are not form-encoded")
	}
	return id, secret, nil
}

// authenticate proves which client sent r, whose form has been read: by the
// method it is registered for and no other. It also verifies a DPoP proof and
// notes the certificate of the connection. A client that is not known is
// answered like one whose secret is wrong.
func (s *Server) authenticate(r *http.Request, form url.Values) (*proven, error) {
	if r.URL.RawQuery != "" {
		// What is in a URL is in logs and histories (RFC 6749 §2.3.1).
		return nil, refuse("invalid_request", "Parameters belong in the body.")
	}
	cred, err := readCredentials(r, form)
	if err != nil {
		if e, ok := errors.AsType[*Error](err); ok {
			return nil, e
		}
		return nil, notProven(cred, err)
	}
	now := time.Now()
	if _, err := s.find(r.Context(), cred.id); err != nil { // brings the snapshot up to date
		return nil, err
	}
	since := s.registry.Since() // before the look that counts, which is therefore not older
	c, err := s.known(r.Context(), cred.id)
	if err != nil && !errors.Is(err, errUnknownClient) {
		return nil, err
	}
	p := &proven{X5T: peerThumbprint(r), Since: since}
	if err := s.prove(r, c, cred, p, now); err != nil {
		return nil, err
	}
	p.Client = &c.Client
	if s.cfg.Profile == FAPI2 && !strongMethod(p.Method) {
		return nil, notProven(cred, errors.New("the profile fapi2 does not take "+p.Method))
	}
	c.used.touch(now)
	gatehouse.EventOf(r.Context()).Client = c.ID
	if p.JKT, err = s.proofKey(r); err != nil {
		return nil, err
	}
	return p, nil
}

// prove checks cred against what c, which may be nil, is registered with.
func (s *Server) prove(r *http.Request, c *liveClient, cred credentials, p *proven, now time.Time) error {
	registered := ""
	if c != nil {
		registered = c.TokenEndpointAuthMethod
	}
	if cred.method == methodBasic || cred.method == methodPost {
		hit := c.matches(sha256.Sum256([]byte(cred.secret)), now)
		switch {
		case c == nil:
			return notProven(cred, errUnknownClient)
		case registered != cred.method:
			return notProven(cred, fmt.Errorf("%s proves itself by %s, not by %s", c.ID, registered, cred.method))
		case hit == nil:
			return notProven(cred, fmt.Errorf("the secret of %s is wrong or has ended", c.ID))
		}
		hit.used.touch(now)
		p.Method = registered
		return nil
	}
	if c == nil {
		return notProven(cred, errUnknownClient)
	}
	if cred.method == methodJWT {
		if registered != methodJWT {
			return notProven(cred, fmt.Errorf("%s proves itself by %s, not by an assertion", c.ID, registered))
		}
		if err := s.checkAssertion(r.Context(), c, cred.secret, now); err != nil {
			return notProven(cred, err)
		}
		p.Method = methodJWT
		return nil
	}
	var err error
	switch registered {
	case methodNone:
	case methodTLS:
		err = c.checkCertificate(r, now)
	case methodSelfSigned:
		err = s.checkSelfSigned(r, c, now)
	default:
		err = fmt.Errorf("%s did not prove itself; it is registered for %s", c.ID, registered)
	}
	if err != nil {
		return notProven(cred, err)
	}
	p.Method = registered
	return nil
}

// notProven is invalid_client, the same for every cause but one: what is broken
// here is not the client's fault.
func notProven(cred credentials, cause error) error {
	if e, ok := errors.AsType[*unavailable](cause); ok {
		return e.err
	}
	e := &Error{Code: "invalid_client", Description: "The client could not be authenticated.", Status: http.StatusUnauthorized, Err: cause}
	if cred.basic {
		e.Challenge = `Basic realm="clients", charset="UTF-8"`
	}
	return e
}

// unavailable marks an error that is ours.
type unavailable struct{ err error }

func (u *unavailable) Error() string { return u.err.Error() }

// checkAssertion verifies a client assertion (RFC 7523 §3, OpenID Connect Core
// §9). Its aud is our issuer as one string: another server's assertion, or one
// that several servers take, could be replayed by whoever received it first.
func (s *Server) checkAssertion(ctx context.Context, c *liveClient, raw string, now time.Time) error {
	check := token.AssertionCheck{Client: c.ID, Audiences: []string{s.cfg.Issuer}, Algorithms: assertionAlgorithms(), MaxLife: assertionLife, Now: now}
	if s.cfg.Profile == FAPI2 {
		check.Algorithms, check.MaxLife = fapiAlgorithms(), assertionLifeFAPI
	}
	if c.TokenEndpointAuthAlg != "" {
		check.Algorithms = []token.Algorithm{token.Algorithm(c.TokenEndpointAuthAlg)}
	}
	var a *token.Assertion
	err := c.keys.try(ctx, s.cfg.Fetch, func(jwks []byte) (err error) {
		a, err = token.VerifyAssertion(raw, jwks, check)
		return err
	})
	if err != nil {
		return err
	}
	first, err := s.once(ctx, onceAssertion, c.ID+"\x00"+a.JTI, a.Expires.Add(time.Minute))
	if err != nil {
		return &unavailable{err}
	}
	if !first {
		return fmt.Errorf("the assertion %.64q of %s was used before", a.JTI, c.ID)
	}
	return nil
}

// once reports whether value is seen for the first time, and remembers it until
// expires. It is the table's primary key that decides, for all processes.
func (s *Server) once(ctx context.Context, kind, value string, expires time.Time) (bool, error) {
	var n int64
	err := s.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `INSERT INTO once (kind, sha256, expires) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, kind, digest(value), expires.UnixMilli())
		if err != nil {
			return err
		}
		n, err = res.RowsAffected()
		return err
	})
	return err == nil && n == 1, err
}

// checkCertificate is tls_client_auth (RFC 8705 §2.1): the listener has verified
// the chain, the certificate has the one name that is registered.
func (c *liveClient) checkCertificate(r *http.Request, now time.Time) error {
	if r.TLS == nil || !r.TLS.HandshakeComplete || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.VerifiedChains[0]) == 0 {
		return errors.New("the connection has no verified client certificate")
	}
	leaf := r.TLS.VerifiedChains[0][0]
	if now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) { // a connection may outlive its certificate
		return errors.New("the client certificate has expired")
	}
	ok := false
	switch {
	case c.TLSSubjectDN != "":
		dn, err := subjectDN(leaf)
		ok = err == nil && dn == c.TLSSubjectDN
	case c.TLSSANDNS != "":
		ok = slices.Contains(leaf.DNSNames, c.TLSSANDNS)
	case c.TLSSANURI != "":
		ok = slices.ContainsFunc(leaf.URIs, func(u *url.URL) bool { return u.String() == c.TLSSANURI })
	}
	if !ok {
		return fmt.Errorf("the client certificate is not %s's", c.ID)
	}
	return nil
}

// subjectDN is the subject as RFC 4514 writes it, in the order of the certificate
// itself: pkix.Name sorts what it knows and drops what it does not.
func subjectDN(c *x509.Certificate) (string, error) {
	var dn pkix.RDNSequence
	if rest, err := asn1.Unmarshal(c.RawSubject, &dn); err != nil || len(rest) > 0 {
		return "", errors.New("the subject of the certificate cannot be read")
	}
	return dn.String(), nil
}

// checkSelfSigned is self_signed_tls_client_auth (RFC 8705 §2.2): the certificate
// is one of the client's keys. The handshake has proved that its key is there.
func (s *Server) checkSelfSigned(r *http.Request, c *liveClient, now time.Time) error {
	if r.TLS == nil || !r.TLS.HandshakeComplete || len(r.TLS.PeerCertificates) == 0 {
		return errors.New("the connection has no client certificate")
	}
	leaf := r.TLS.PeerCertificates[0]
	if now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
		return errors.New("the client certificate has expired")
	}
	return c.keys.try(r.Context(), s.cfg.Fetch, func(jwks []byte) error {
		var set struct {
			Keys []struct {
				X5C []string `json:"x5c"`
			} `json:"keys"`
		}
		if err := json.Unmarshal(jwks, &set); err != nil {
			return fmt.Errorf("the jwks of %s: not a JWK Set", c.ID)
		}
		for _, k := range set.Keys {
			if len(k.X5C) == 0 {
				continue
			}
			// x5c is base64, not base64url (RFC 7517 §4.7).
			if der, err := base64.StdEncoding.DecodeString(k.X5C[0]); err == nil && subtle.ConstantTimeCompare(der, leaf.Raw) == 1 {
				return nil
			}
		}
		return fmt.Errorf("the client certificate is not in the jwks of %s", c.ID)
	})
}

// peerThumbprint is x5t#S256 of the connection's certificate (RFC 8705 §3.1), ""
// without one. The handshake proved its key, so a public client's may be
// self-signed.
func peerThumbprint(r *http.Request) string {
	if r.TLS == nil || !r.TLS.HandshakeComplete || len(r.TLS.PeerCertificates) == 0 {
		return ""
	}
	sum := sha256.Sum256(r.TLS.PeerCertificates[0].Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// proofKey verifies the DPoP header and returns the thumbprint of its key, "" when
// there is no header.
func (s *Server) proofKey(r *http.Request) (string, error) {
	values := r.Header.Values("DPoP")
	if len(values) == 0 {
		return "", nil
	}
	if len(values) > 1 {
		return "", refuse("invalid_dpop_proof", "There is more than one DPoP header.")
	}
	// The issuer is configuration: a Host header must not choose what a proof is for.
	proof, err := s.proofs.Verify(r.Context(), values[0], token.ProofCheck{Method: r.Method, URL: strings.TrimSuffix(s.cfg.Issuer, s.base) + r.URL.EscapedPath()})
	switch {
	case err == nil:
		return proof.JKT, nil
	case errors.Is(err, token.ErrUseNonce):
		return "", &Error{Code: "use_dpop_nonce", Description: "The DPoP proof needs the nonce of the DPoP-Nonce header.", Nonce: s.proofs.Nonce(), Err: err}
	case errors.Is(err, token.ErrProof):
		return "", refuse("invalid_dpop_proof", "The DPoP proof is not valid.").because(err)
	}
	return "", err // ErrProofsFull, ErrProofsAway: 503
}

// freshNonce gives the client a nonce for its next proof, so that it need not be
// refused first (RFC 9449 §8.2).
func (s *Server) freshNonce(h http.Header) {
	if !s.cfg.RequireNonce {
		return
	}
	if n := s.proofs.Nonce(); n != "" {
		h.Set("DPoP-Nonce", n)
	}
}

// clientKeys are the public keys of one client: written in its metadata, or
// fetched when they are needed and kept for a while.
type clientKeys struct {
	uri    string
	inline []byte

	mu      sync.Mutex // held during a fetch: others of the client wait for the same answer
	doc     []byte
	fetched time.Time
	tried   time.Time
}

const (
	clientKeysFor  = 10 * time.Minute // fetched keys are used
	clientKeysGap  = 30 * time.Second // between two fetches, whatever assertions say
	clientKeysWait = 3 * time.Second
)

func newClientKeys(c *Client) *clientKeys { return &clientKeys{uri: c.JWKSURI, inline: c.JWKS} }

// try calls verify with the client's keys, and once more with fresh ones when it
// fails and they may have been rotated.
func (k *clientKeys) try(ctx context.Context, fetch token.Fetcher, verify func(jwks []byte) error) error {
	if k.uri == "" {
		return verify(k.inline)
	}
	doc, when, err := k.get(ctx, fetch, time.Time{})
	if err != nil {
		return err
	}
	if err = verify(doc); err == nil {
		return nil
	}
	fresh, again, fetchErr := k.get(ctx, fetch, when)
	if fetchErr != nil || again.Equal(when) {
		return err
	}
	return verify(fresh)
}

// get returns the fetched keys; those fetched at stale are not good enough, if
// the gap allows to ask again.
func (k *clientKeys) get(ctx context.Context, fetch token.Fetcher, stale time.Time) ([]byte, time.Time, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	good := k.doc != nil && now.Sub(k.fetched) < clientKeysFor
	if good && !k.fetched.Equal(stale) || now.Sub(k.tried) < clientKeysGap {
		if !good {
			return nil, k.fetched, errors.New("the client's keys could not be fetched a moment ago")
		}
		return k.doc, k.fetched, nil
	}
	k.tried = now
	if fetch == nil {
		return nil, k.fetched, errors.New("nothing is configured to fetch the client's keys with")
	}
	// Others wait meanwhile, and not for ever; nor does it end because the first of them left.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), clientKeysWait)
	defer cancel()
	doc, _, err := fetch.Fetch(ctx, k.uri)
	if err == nil {
		err = checkClientKeys(doc)
	}
	if err != nil {
		if good {
			return k.doc, k.fetched, nil
		}
		return nil, k.fetched, fmt.Errorf("the client's keys: %w", err)
	}
	k.doc, k.fetched = doc, now
	return k.doc, k.fetched, nil
}

package token

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

const defaultAssertionLife = 5 * time.Minute

// An Assertion is what a verified client assertion says. Who takes it remembers
// the JTI of the client until Expires, and refuses it the second time.
type Assertion struct {
	Issuer   string    // iss, the client
	Subject  string    // sub, the client
	JTI      string    // jti, 1 to 256 bytes
	Expires  time.Time // exp
	IssuedAt time.Time // iat; zero when absent
}

// An AssertionCheck says what a client assertion must look like. Client and
// Audiences are required.
type AssertionCheck struct {
	Client     string        // client_id, which iss and sub must both be
	Audiences  []string      // aud must be exactly one string, and one of these
	Algorithms []Algorithm   // nil: every one in [Algorithms]; otherwise none but these
	MaxLife    time.Duration // how far ahead exp may lie, and how far after iat; 0: 5 min
	Now        time.Time     // zero: now
}

// VerifyAssertion checks raw, a client_assertion of the type jwt-bearer (RFC
// 7523 §3, OpenID Connect Core §9 private_key_jwt), with the client's own key
// set. What is wrong is for the operator: every error is invalid_client.
//
// An aud that is a list is refused (FAPI 2.0, RFC 7523bis): a server that is
// named beside us could use the assertion here. exp and jti are required, as
// replay could not be told otherwise. Client and server clocks may differ by
// ten seconds.
func VerifyAssertion(raw string, jwks []byte, check AssertionCheck) (*Assertion, error) {
	a, err := verifyAssertion(raw, jwks, &check)
	if err != nil {
		return nil, fmt.Errorf("client assertion: %w", err)
	}
	return a, nil
}

func verifyAssertion(raw string, jwks []byte, check *AssertionCheck) (*Assertion, error) {
	if check.Client == "" || len(check.Audiences) == 0 || slices.Contains(check.Audiences, "") || check.MaxLife < 0 {
		return nil, errors.New("nothing to check it against")
	}
	algs := check.Algorithms
	if algs == nil {
		algs = Algorithms()
	}
	parts, err := split(raw, defaultMaxSize)
	if err != nil {
		return nil, err
	}
	h, err := parseHeader(parts.header)
	if err != nil {
		return nil, err
	}
	// RFC 8725 §3.11: an access token or a proof of the same key authenticates nobody.
	if h.typ != "" && !strings.EqualFold(h.typ, "JWT") && !strings.EqualFold(h.typ, "client-authentication+jwt") {
		return nil, errors.New("header: typ is not that of a client assertion")
	}
	if !slices.Contains(algs, h.alg) {
		return nil, errors.New("header: alg is not accepted from this client")
	}
	payload, err := assertedBy(jwks, algs, h, parts)
	if err != nil {
		return nil, err
	}
	c, err := parseClaims(payload)
	if err != nil {
		return nil, err
	}
	if err := check.claims(c); err != nil {
		return nil, err
	}
	return &Assertion{Issuer: c.Issuer, Subject: c.Subject, JTI: c.JTI, Expires: c.Expires, IssuedAt: c.IssuedAt}, nil
}

// assertedBy returns the payload once one of the client's keys has signed it.
func assertedBy(jwks []byte, algs []Algorithm, h header, parts segments) ([]byte, error) {
	t, warnings, err := parseJWKS(jwks, algs)
	if err != nil {
		return nil, err
	}
	if len(parts.signature) > strict64.EncodedLen(maxSigSize) {
		return nil, errSignature
	}
	var buf [maxSigSize]byte
	sig, err := decode64(buf[:0], parts.signature)
	if err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	keys := t.find(h.kid, h.alg) // at most maxSameName
	if len(keys) == 0 {
		return nil, errors.Join(append([]error{errors.New("the client has no key of this kid and alg")}, warnings...)...)
	}
	message := []byte(parts.message)
	if !slices.ContainsFunc(keys, func(k *key) bool { return k.verify(message, sig) == nil }) {
		return nil, errSignature
	}
	payload, err := decode64(make([]byte, 0, len(parts.payload)), parts.payload)
	if err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	return payload, nil
}

func (check *AssertionCheck) claims(c *Claims) error {
	now, life := check.Now, check.MaxLife
	if now.IsZero() {
		now = time.Now()
	}
	if life == 0 {
		life = defaultAssertionLife
	}
	aud, one := c.Raw["aud"].(string)
	switch {
	case c.Issuer != check.Client || c.Subject != check.Client:
		return errors.New("iss and sub are not both the client")
	case !one:
		return errors.New("aud is not one string")
	case !slices.Contains(check.Audiences, aud):
		return errors.New("aud is not this server")
	case c.JTI == "" || len(c.JTI) > maxJTI:
		return fmt.Errorf("jti is missing, or longer than %d bytes", maxJTI)
	case c.Expires.IsZero():
		return errors.New("exp is missing")
	// No leeway here: the caller forgets the jti at exp.
	case !now.Before(c.Expires):
		return fmt.Errorf("exp was %v ago", now.Sub(c.Expires).Round(time.Second))
	case c.Expires.After(now.Add(life + ahead)):
		return fmt.Errorf("exp is more than %v ahead", life)
	case c.NotBefore.After(now.Add(ahead)):
		return errors.New("nbf is ahead")
	case c.IssuedAt.After(now.Add(ahead)):
		return errors.New("iat is ahead")
	case !c.IssuedAt.IsZero() && c.Expires.After(c.IssuedAt.Add(life+ahead)):
		return fmt.Errorf("it lives longer than %v", life)
	}
	return nil
}

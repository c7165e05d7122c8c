package token

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

const (
	defaultMaxSize = 8 << 10
	maxHeader      = 1 << 10 // bytes of the decoded JOSE header
	maxKeyID       = 256
	defaultLeeway  = 30 * time.Second
	maxLeeway      = 5 * time.Minute
	maxHeaders     = 32 // header spellings remembered for one key set
)

// A Fetcher gets a document from an issuer. internal/egress is the real one: it
// bounds time and size and keeps redirects and private addresses out.
type Fetcher interface {
	// Fetch returns body and header of a 200 answer to GET url; anything else is an error.
	Fetch(ctx context.Context, url string) (body []byte, header http.Header, err error)
}

// A VerifierConfig is what one issuer's tokens must look like. The zero value is refused.
type VerifierConfig struct {
	Issuer      string        // iss, compared byte for byte; required
	Audiences   []string      // aud must contain one of them; required
	Algorithms  []Algorithm   // narrows what the keys allow; nil: whatever algorithm each key is for
	TypAny      bool          // also accept typ "JWT" and none at all, for issuers that do not follow RFC 9068 §2.1
	Leeway      time.Duration // for exp, nbf and iat; 0: 30 s, at most 5 min; negative: none
	MaxSize     int           // of the token in bytes; 0: 8 KiB
	MaxLifetime time.Duration // longest exp − iat accepted, which makes iat required; 0: no limit
}

// A Verifier checks the access tokens of one issuer (RFC 9068 §4, RFC 8725). It
// is safe for use by many requests at once. The nil Verifier refuses.
type Verifier struct {
	cfg  VerifierConfig
	keys *KeySet
}

// NewVerifier checks cfg. It does not touch the network: keys are fetched by
// [KeySet.Run] or when the first token arrives.
func NewVerifier(cfg VerifierConfig, keys *KeySet) (*Verifier, error) {
	var errs []error
	if cfg.Issuer == "" {
		errs = append(errs, errors.New("an issuer is required"))
	}
	if len(cfg.Audiences) == 0 || slices.Contains(cfg.Audiences, "") {
		errs = append(errs, errors.New("at least one audience is required, and none may be empty: without it a token for any API would do"))
	}
	if keys == nil {
		errs = append(errs, errors.New("a key set is required"))
	}
	errs = append(errs, checkAlgorithms(cfg.Algorithms))
	if cfg.Leeway > maxLeeway {
		errs = append(errs, fmt.Errorf("a leeway of %v; at most %v", cfg.Leeway, maxLeeway))
	}
	if cfg.MaxSize < 0 || cfg.MaxLifetime < 0 {
		errs = append(errs, errors.New("a negative limit"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("token verifier: %w", err)
	}
	switch {
	case cfg.Leeway == 0:
		cfg.Leeway = defaultLeeway
	case cfg.Leeway < 0:
		cfg.Leeway = 0
	}
	if cfg.MaxSize == 0 {
		cfg.MaxSize = defaultMaxSize
	}
	cfg.Audiences = slices.Clone(cfg.Audiences)
	cfg.Algorithms = slices.Clone(cfg.Algorithms)
	return &Verifier{cfg: cfg, keys: keys}, nil
}

// Verify checks raw, a compact JWS, and returns its claims. Every error is a
// [*gatehouse.Problem]: token_invalid, token_expired and token_audience are
// Unauthenticated, issuer_unavailable is Overloaded. Nothing in raw is believed
// before its signature holds, but for kid and alg, which choose the key.
func (v *Verifier) Verify(ctx context.Context, raw string) (*Claims, error) {
	if v == nil {
		return nil, invalid(errors.New("no verifier"))
	}
	// Read before the keys: a key withdrawn meanwhile makes the claims uncacheable.
	epoch := v.keys.epoch.Load()
	payload, err := v.signed(ctx, raw)
	if err != nil {
		return nil, err
	}
	c, err := parseClaims(payload)
	if err != nil {
		return nil, invalid(err)
	}
	c.keys, c.epoch = v.keys, epoch
	if err := v.check(c, time.Now()); err != nil {
		return nil, err
	}
	return c, nil
}

// signed returns the payload of raw once its signature holds.
func (v *Verifier) signed(ctx context.Context, raw string) ([]byte, error) {
	parts, err := split(raw, v.cfg.MaxSize)
	if err != nil {
		return nil, invalid(err)
	}
	t, err := v.keys.table(ctx)
	if err != nil {
		return nil, err
	}
	h, cached := t.headers.get(parts.header)
	if !cached {
		if h, err = parseHeader(parts.header); err != nil {
			return nil, invalid(err)
		}
	}
	if err := v.checkHeader(&h); err != nil {
		return nil, invalid(err)
	}
	if !cached {
		if t, h.keys, err = v.keys.find(ctx, t, h.kid, h.alg); err != nil {
			return nil, err
		}
	}
	// Which of several keys a token without kid means, only trying tells; that
	// would multiply the work of refusing a forged one.
	if h.kid == "" && t.jwks > 1 {
		return nil, invalid(errors.New("the header has no kid, and the issuer has several keys"))
	}
	var buf [maxSigSize]byte
	if len(parts.signature) > strict64.EncodedLen(maxSigSize) {
		return nil, invalid(errSignature)
	}
	sig, err := decode64(buf[:0], parts.signature)
	if err != nil {
		return nil, invalid(fmt.Errorf("signature: %w", err))
	}
	message := []byte(parts.message)
	if !slices.ContainsFunc(h.keys, func(k *key) bool { return k.verify(message, sig) == nil }) {
		v.keys.suspect(ctx)
		return nil, invalid(errSignature)
	}
	if !cached {
		// Only headers the issuer has signed get in: a stranger cannot fill it.
		t.headers.put(parts.header, h)
	}
	payload, err := decode64(make([]byte, 0, len(parts.payload)), parts.payload)
	if err != nil {
		return nil, invalid(fmt.Errorf("payload: %w", err))
	}
	return payload, nil
}

// checkHeader applies this issuer's rules to a header.
func (v *Verifier) checkHeader(h *header) error {
	if len(v.cfg.Algorithms) > 0 && !slices.Contains(v.cfg.Algorithms, h.alg) {
		return errors.New("the header's alg is not configured for this issuer")
	}
	// RFC 8725 §3.11: the type tells an access token from an ID token, a logout
	// token or a DPoP proof signed by the same key.
	typ := h.typ
	if len(typ) > len("application/") && strings.EqualFold(typ[:len("application/")], "application/") {
		typ = typ[len("application/"):]
	}
	switch {
	case strings.EqualFold(typ, "at+jwt"):
	case v.cfg.TypAny && (h.typ == "" || strings.EqualFold(typ, "JWT")):
	default:
		return errors.New("the header's typ is not that of an access token")
	}
	return nil
}

// Check applies this issuer's rules to claims that did not come signed: of an
// opaque token its issuer has opened (see [ParseClaims]). Whoever gives them here
// vouches for them; those it accepts can be remembered in a [Cache].
func (v *Verifier) Check(c *Claims) error {
	if v == nil || c == nil {
		return invalid(errors.New("no verifier, or no claims"))
	}
	epoch := v.keys.epoch.Load()
	if err := v.check(c, time.Now()); err != nil {
		return err
	}
	c.keys, c.epoch = v.keys, epoch
	return nil
}

// check applies this issuer's rules to verified claims.
func (v *Verifier) check(c *Claims, now time.Time) error {
	leeway := v.cfg.Leeway
	switch {
	case c.Issuer != v.cfg.Issuer:
		return invalid(errors.New("iss is another issuer"))
	case !c.hasAudience(v.cfg.Audiences):
		return wrongAudience(errors.New("aud names none of the configured audiences"))
	case c.Subject == "":
		return invalid(errors.New("sub is missing"))
	case c.Expires.IsZero():
		return invalid(errors.New("exp is missing"))
	case !now.Before(c.Expires.Add(leeway)):
		return expired(fmt.Errorf("exp was %v ago", now.Sub(c.Expires).Round(time.Second)))
	case now.Add(leeway).Before(c.NotBefore):
		return invalid(fmt.Errorf("nbf is %v ahead", c.NotBefore.Sub(now).Round(time.Second)))
	case now.Add(leeway).Before(c.IssuedAt):
		return invalid(fmt.Errorf("iat is %v ahead", c.IssuedAt.Sub(now).Round(time.Second)))
	case v.cfg.MaxLifetime > 0 && c.IssuedAt.IsZero():
		return invalid(errors.New("iat is missing, and the issuer's tokens have a longest life"))
	case v.cfg.MaxLifetime > 0 && c.Expires.Sub(c.IssuedAt) > v.cfg.MaxLifetime:
		return invalid(errors.New("the token lives longer than this issuer's may"))
	}
	return nil
}

// segments are the parts of a compact JWS (RFC 7515 §7.1), still encoded.
type segments struct{ header, payload, signature, message string }

// split cuts raw at its two dots. The size is checked before anything else
// looks at the bytes: a megabyte of dots costs a length comparison.
func split(raw string, maxSize int) (s segments, err error) {
	if len(raw) > maxSize {
		return s, fmt.Errorf("the token is longer than %d bytes", maxSize)
	}
	dot := strings.IndexByte(raw, '.')
	last := strings.LastIndexByte(raw, '.')
	if dot < 1 || last <= dot+1 || last == len(raw)-1 || strings.IndexByte(raw[dot+1:last], '.') >= 0 {
		return s, errors.New("not three parts between two dots")
	}
	return segments{raw[:dot], raw[dot+1 : last], raw[last+1:], raw[:last]}, nil
}

// UnverifiedIssuer returns the iss of a token nobody has checked, to choose the
// [Verifier] that will. It is bounded by 8 KiB and as strict as Verify about
// grammar; the error is a token_invalid Problem.
func UnverifiedIssuer(raw string) (string, error) {
	parts, err := split(raw, defaultMaxSize)
	if err != nil {
		return "", invalid(err)
	}
	payload, err := decode64(make([]byte, 0, len(parts.payload)), parts.payload)
	if err != nil {
		return "", invalid(fmt.Errorf("payload: %w", err))
	}
	iss := ""
	err = readObject(payload, func(r *reader, name string) (err error) {
		if name != "iss" {
			return r.dec.SkipValue()
		}
		iss, err = r.text(name)
		return err
	})
	if err != nil {
		return "", invalid(fmt.Errorf("claims: %w", err))
	}
	if iss == "" {
		return "", invalid(errors.New("iss is missing"))
	}
	return iss, nil
}

// A header is a JOSE header and the keys it chose.
type header struct {
	alg  Algorithm
	kid  string
	typ  string
	keys []*key
}

// parseHeader reads the JOSE header (RFC 7515 §4.1) of a token whose key we
// know already.
func parseHeader(encoded string) (header, error) { return readHeader(encoded, nil) }

// readHeader reads a JOSE header. The member jwk, which brings the key, goes to
// jwk; where that is nil it is refused.
func readHeader(encoded string, jwk func(v any) error) (header, error) {
	var h header
	if len(encoded) > strict64.EncodedLen(maxHeader) {
		return h, fmt.Errorf("the header is longer than %d bytes", maxHeader)
	}
	var buf [maxHeader]byte
	b, err := decode64(buf[:0], encoded)
	if err != nil {
		return h, fmt.Errorf("header: %w", err)
	}
	err = readObject(b, func(r *reader, name string) (err error) {
		switch name {
		case "alg":
			var alg string
			alg, err = r.text(name)
			h.alg = algorithmOf(alg)
		case "kid":
			h.kid, err = r.text(name)
		case "typ":
			h.typ, err = r.text(name)
		case "jwk":
			if jwk == nil {
				return errors.New("the member jwk is not accepted")
			}
			var v any
			if v, err = r.value(); err == nil {
				err = jwk(v)
			}
		case "crit", "b64", "jku", "x5u", "x5c", "zip", "cty", "enc", "epk", "p2c", "p2s":
			// crit and b64 change what the signature means (RFC 7515 §4.1.11, RFC
			// 7797); jwk, jku, x5u and x5c let the token bring its own key (RFC 8725
			// §2.9 f.); cty announces a token in a token; the rest belongs to JWE.
			err = fmt.Errorf("the member %s is not accepted", name)
		default:
			_, err = r.value()
		}
		return err
	})
	switch {
	case err != nil:
		return h, fmt.Errorf("header: %w", err)
	case !slices.Contains(Algorithms(), h.alg):
		return h, errors.New("header: alg is missing or not accepted")
	case len(h.kid) > maxKeyID:
		return h, fmt.Errorf("header: kid is longer than %d bytes", maxKeyID)
	}
	return h, nil
}

// A headerCache remembers headers by their exact bytes: all tokens that one key
// signs share them. It lives and dies with its table. Reads take no lock.
type headerCache struct {
	m atomic.Pointer[map[string]header]
}

func (c *headerCache) get(encoded string) (header, bool) {
	m := c.m.Load()
	if m == nil {
		return header{}, false
	}
	h, ok := (*m)[encoded]
	return h, ok
}

func (c *headerCache) put(encoded string, h header) {
	old := c.m.Load()
	next := make(map[string]header, 1)
	if old != nil {
		if len(*old) >= maxHeaders {
			return
		}
		next = maps.Clone(*old)
	}
	next[strings.Clone(encoded)] = h
	c.m.CompareAndSwap(old, &next) // who loses the race parses once more
}

package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	// retain is how long a retired key stays in the published set: as long as
	// anybody may still hold a token it signed, or a set without its successor.
	retain = 48 * time.Hour
	// maxRetired keeps the set readable for everybody, us included, however
	// often somebody rotates in that time.
	maxRetired = 16
)

// A Signer signs what Gatehouse itself issues. It holds three generations of
// keys: the next one is published before it is used, so that everybody who
// caches the set knows it in time; the current one signs; the retired ones only
// verify, and their private halves are gone. It is safe for concurrent use.
type Signer struct {
	alg  Algorithm
	kept kept // zero: in memory

	mu   sync.Mutex // held while rotating
	ring atomic.Pointer[ring]
}

// A ring is the keys at one time, read-only.
type ring struct {
	current, next signingKey
	retired       []jwk
	published     []byte
}

type signingKey struct {
	jwk
	alg     Algorithm
	private crypto.Signer
	size    int    // bytes of a signature
	access  string // the encoded header of access tokens
}

// A jwk is a key with the time its present role began, as kept in the file.
type jwk struct {
	Key   jose.JSONWebKey `json:"key"`
	Since time.Time       `json:"since"`
}

// NewSigner makes a Signer whose keys live in memory only, for tests and the
// demo. The algorithm is ES256, EdDSA or RS256; "" is ES256.
func NewSigner(alg Algorithm) (*Signer, error) {
	r, err := newRing(alg)
	if err != nil {
		return nil, err
	}
	s := &Signer{alg: r.current.alg}
	s.ring.Store(r)
	return s, nil
}

func newRing(alg Algorithm) (*ring, error) {
	current, err := newKey(alg)
	if err != nil {
		return nil, err
	}
	next, err := newKey(alg)
	if err != nil {
		return nil, err
	}
	return makeRing(current, next, nil)
}

func newKey(alg Algorithm) (jwk, error) {
	var private crypto.Signer
	var err error
	switch alg {
	case ES256, "":
		alg = ES256
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case EdDSA:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	case RS256:
		private, err = rsa.GenerateKey(rand.Reader, minRSABits)
	default:
		err = fmt.Errorf("tokens are signed with %s, %s or %s, not %q", ES256, EdDSA, RS256, string(alg))
	}
	if err != nil {
		return jwk{}, fmt.Errorf("signing key: %w", err)
	}
	k := jose.JSONWebKey{Key: private, Algorithm: string(alg), Use: "sig"}
	sum, err := k.Thumbprint(crypto.SHA256)
	if err != nil {
		return jwk{}, fmt.Errorf("signing key: %w", err)
	}
	k.KeyID = base64.RawURLEncoding.EncodeToString(sum)
	return jwk{Key: k, Since: time.Now().UTC().Truncate(time.Second)}, nil
}

// makeRing checks the keys, which may come from a file, and prepares what each
// signature needs.
func makeRing(current, next jwk, retired []jwk) (*ring, error) {
	r := &ring{retired: retired}
	var err error
	if r.current, err = prepare(current); err != nil {
		return nil, fmt.Errorf("the current key: %w", err)
	}
	if r.next, err = prepare(next); err != nil {
		return nil, fmt.Errorf("the next key: %w", err)
	}
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{current.Key.Public(), next.Key.Public()}}
	for _, k := range retired {
		if !k.Key.Valid() || !k.Key.IsPublic() {
			return nil, errors.New("a retired key is not a public key")
		}
		set.Keys = append(set.Keys, k.Key)
	}
	if r.published, err = json.Marshal(set); err != nil {
		return nil, err
	}
	return r, nil
}

func prepare(k jwk) (signingKey, error) {
	s := signingKey{jwk: k, alg: Algorithm(k.Key.Algorithm)}
	switch private := k.Key.Key.(type) {
	case *ecdsa.PrivateKey:
		s.private = private
	case ed25519.PrivateKey:
		s.private = private
	case *rsa.PrivateKey:
		private.Precompute()
		s.private = private
	default:
		return s, fmt.Errorf("of type %T, which does not sign tokens here", k.Key.Key)
	}
	algs, err := fits(s.private.Public())
	if err != nil {
		return s, err
	}
	// The first is ES256, EdDSA or RS256: of P-384 keys and the like none is made here.
	if algs[0] != s.alg || s.alg != ES256 && s.alg != EdDSA && s.alg != RS256 {
		return s, fmt.Errorf("its alg %q does not fit its type", k.Key.Algorithm)
	}
	if k.Key.KeyID == "" {
		return s, errors.New("it has no kid")
	}
	s.size = ed25519.SignatureSize
	if private, ok := s.private.(*rsa.PrivateKey); ok {
		s.size = private.Size()
	}
	s.access = s.header("at+jwt")
	return s, nil
}

// header encodes a JOSE header with its dot.
func (k *signingKey) header(typ string) string {
	var w writer
	w.text(`{"alg":`, string(k.alg))
	w.text(`,"typ":`, typ)
	w.text(`,"kid":`, k.Key.KeyID)
	return strict64.EncodeToString(append(w.b, '}')) + "."
}

// JWKS returns the public keys as a JWK Set document (RFC 7517 §5): current,
// next and retired. The caller must not change it.
func (s *Signer) JWKS() []byte { return s.ring.Load().published }

// Sign returns claims, a JSON object, as a compact JWS of the given typ.
func (s *Signer) Sign(typ string, claims []byte) (string, error) {
	r := s.ring.Load()
	if r == nil {
		return "", errors.New("sign: a signer without keys")
	}
	return r.current.signAs(typ, claims)
}

func (k *signingKey) signAs(typ string, claims []byte) (string, error) {
	header := k.access
	if typ != "at+jwt" {
		header = k.header(typ)
	}
	return k.sign(header, claims)
}

func (k *signingKey) sign(header string, claims []byte) (string, error) {
	b := make([]byte, 0, len(header)+strict64.EncodedLen(len(claims))+1+strict64.EncodedLen(k.size))
	b = append(b, header...)
	b = strict64.AppendEncode(b, claims)
	var made [64]byte // ES256 and EdDSA
	sig := made[:]
	switch private := k.private.(type) {
	case *ecdsa.PrivateKey:
		var buf [64]byte
		_, sum := digest(k.alg, b, &buf)
		r, v, err := ecdsa.Sign(rand.Reader, private, sum)
		if err != nil {
			return "", fmt.Errorf("sign: %w", err)
		}
		r.FillBytes(sig[:32])
		v.FillBytes(sig[32:])
	case ed25519.PrivateKey:
		copy(sig, ed25519.Sign(private, b))
	case *rsa.PrivateKey:
		var buf [64]byte
		hash, sum := digest(k.alg, b, &buf)
		var err error
		if sig, err = rsa.SignPKCS1v15(nil, private, hash, sum); err != nil {
			return "", fmt.Errorf("sign: %w", err)
		}
	default:
		return "", errors.New("sign: no key")
	}
	b = append(b, '.')
	return string(strict64.AppendEncode(b, sig)), nil
}

// An AccessToken is what a token says (RFC 9068 §2.2). Issuer, Subject,
// Audience and Expires are required; of the rest, what is empty is left out.
type AccessToken struct {
	Issuer   string
	Subject  string
	Audience string
	ClientID string
	Scopes   []string
	Roles    []string // roles (RFC 9068 §2.2.3.1)
	Tenant   string   // tenant
	Provider string   // idp: who authenticated the subject; subjects of two providers may be spelled alike
	IssuedAt time.Time
	Expires  time.Time
	AuthTime time.Time
}

// AccessToken signs t with a fresh random jti.
func (s *Signer) AccessToken(t *AccessToken) (string, error) {
	if t.Issuer == "" || t.Subject == "" || t.Audience == "" || t.Expires.IsZero() || !t.Expires.After(t.IssuedAt) {
		return "", errors.New("access token: iss, sub, aud and an exp after iat are required")
	}
	w := writer{b: make([]byte, 0, 512)}
	w.claims(t)
	if w.err != nil {
		return "", fmt.Errorf("access token: %w", w.err)
	}
	return s.Sign("at+jwt", w.b)
}

// A writer appends JSON. It is written by hand because a token is minted for
// every new principal on the way of its request.
type writer struct {
	b   []byte
	err error
}

func (w *writer) claims(t *AccessToken) {
	w.text(`{"iss":`, t.Issuer)
	w.text(`,"sub":`, t.Subject)
	w.text(`,"aud":`, t.Audience)
	w.date(`,"exp":`, t.Expires)
	if !t.IssuedAt.IsZero() {
		w.date(`,"iat":`, t.IssuedAt)
	}
	if !t.AuthTime.IsZero() {
		w.date(`,"auth_time":`, t.AuthTime)
	}
	if t.ClientID != "" {
		w.text(`,"client_id":`, t.ClientID)
	}
	if t.Tenant != "" {
		w.text(`,"tenant":`, t.Tenant)
	}
	if t.Provider != "" {
		w.text(`,"idp":`, t.Provider)
	}
	if len(t.Scopes) > 0 {
		for _, s := range t.Scopes {
			// A space would make two scopes of one, the second of the caller's choice.
			if s == "" || strings.Contains(s, " ") {
				w.err = errors.New("a scope is empty or has a space")
			}
		}
		w.text(`,"scope":`, strings.Join(t.Scopes, " "))
	}
	for i, r := range t.Roles {
		if i == 0 {
			w.text(`,"roles":[`, r)
		} else {
			w.text(`,`, r)
		}
	}
	if len(t.Roles) > 0 {
		w.b = append(w.b, ']')
	}
	w.text(`,"jti":`, rand.Text())
	w.b = append(w.b, '}')
}

// text appends a JSON string. Invalid UTF-8 is refused, not replaced: two
// subjects must not become one.
func (w *writer) text(before, s string) {
	w.b = append(w.b, before...)
	b, err := jsontext.AppendQuote(w.b, s)
	if w.b = b; err != nil {
		w.err = err
	}
}

func (w *writer) date(before string, t time.Time) {
	w.b = strconv.AppendInt(append(w.b, before...), t.Unix(), 10)
}

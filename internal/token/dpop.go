package token

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// What [Proofs.Verify] answers. The precise cause is wrapped beside ErrProof and
// is for the operator: telling a client more than the error code helps forgers.
var (
	ErrProof      = errors.New("the DPoP proof is not valid")        // invalid_dpop_proof (RFC 9449 §5)
	ErrUseNonce   = errors.New("the DPoP proof needs a fresh nonce") // use_dpop_nonce (RFC 9449 §8, §9)
	ErrProofsFull = errors.New("no more DPoP proofs can be remembered at the moment")
	ErrProofsAway = errors.New("whether the DPoP proof was used at another node cannot be asked at the moment")
)

// Marks remember what was used for all nodes of a fleet. Once marks key in space for
// ttl and reports whether it was the first of all nodes to do so; an error leaves
// that open.
type Marks interface {
	Once(ctx context.Context, space, key string, ttl time.Duration) (first bool, err error)
}

// skew is how far the clocks of two nodes may lie apart: a proof that is too old for
// one of them must not be new for another that has lost its mark.
const skew = time.Minute

const (
	defaultWindow = time.Minute
	maxWindow     = 5 * time.Minute
	ahead         = 10 * time.Second // how far iat may lie in the future; FAPI 2.0 asks for 10 s
	maxProof      = 8 << 10
	maxJTI        = 256
	proofKeys     = 4 << 10 // clients' keys kept parsed
	touchEvery    = time.Second
)

// A ProofsConfig says which DPoP proofs are taken. The zero value takes proofs
// of the last minute, without nonces.
type ProofsConfig struct {
	Algorithms   []Algorithm   // nil: ES256, ES384, EdDSA and PS256
	Window       time.Duration // how old iat may be; 0: 60 s, at most 5 min; up to 10 s in the future is always allowed
	Seal         *Sealer       // makes and knows nonces; nil: there are none
	RequireNonce bool          // every proof must have one; needs Seal
	Entries      int           // proofs remembered until they are too old; 0: 524,288, which is 8,700 a second
	Marks        Marks         // what other nodes have seen; nil: there are none
	Space        string        // of Marks
	Before       *Proofs       // whose memory goes on under the new settings: what was seen is not fresh again; nil: an empty one
}

// Proofs checks DPoP proofs (RFC 9449 §4.3) and remembers them against replay.
// It must live as long as the process, also across reloads: what is forgotten
// can be used again. After a restart a proof of the last Window could be; with
// RequireNonce it cannot, as nonces from before the start are not taken. With Marks
// the memory is that of all nodes: each proof is asked about there, and while they
// do not answer every proof is refused. It is safe for concurrent use; the nil and
// the zero Proofs refuse.
//
// Where any key will do, at a token endpoint, strangers can fill the memory: give
// it Proofs of its own, lest the callers of APIs be refused for it.
type Proofs struct {
	algorithms []Algorithm
	window     time.Duration
	nonces     *nonces
	require    bool
	keys       slots[proofKey]
	seen       *replays
	marks      Marks
	space      string
}

// A ProofCheck is the request a proof came with. Method and URL are required.
type ProofCheck struct {
	Method string // as the caller sent it
	URL    string // absolute, as the caller sees it, path still escaped; query and fragment do not count
	// AccessToken is the token presented with the proof, whose hash must be in
	// ath; "" where none is: at the token endpoint.
	AccessToken string
	// JKT is the thumbprint the proof's key must have: cnf.jkt of the access
	// token, dpop_jkt of the code. "": any key. Give it where it is known: a
	// proof of another key is then refused before it takes room in memory.
	JKT string
}

// A Proof is what a verified proof says.
type Proof struct {
	JKT      string    // RFC 7638 thumbprint of its key
	JTI      string    // jti
	IssuedAt time.Time // iat
}

// A proofKey is what a proof's header said. A client's header is the same in all
// its proofs, so that a key seen before costs no parsing.
type proofKey struct {
	hash   uint64
	header string
	key    *key
	jkt    string
	used   atomic.Int64 // Unix nanoseconds, not exact
}

// NewProofs checks cfg.
func NewProofs(cfg ProofsConfig) (*Proofs, error) {
	if cfg.Algorithms == nil {
		cfg.Algorithms = []Algorithm{ES256, ES384, EdDSA, PS256}
	}
	if cfg.Window == 0 {
		cfg.Window = defaultWindow
	}
	err := checkAlgorithms(cfg.Algorithms)
	switch {
	case len(cfg.Algorithms) == 0:
		err = errors.New("no algorithm is left")
	case cfg.Window < 0 || cfg.Window > maxWindow:
		err = fmt.Errorf("a window of %v; at most %v", cfg.Window, maxWindow)
	case cfg.Entries < 0:
		err = errors.New("a negative limit")
	case cfg.RequireNonce && cfg.Seal == nil:
		err = errors.New("nonces are required, and nothing can make them")
	}
	p := &Proofs{
		algorithms: slices.Clone(cfg.Algorithms),
		window:     cfg.Window,
		require:    cfg.RequireNonce,
		keys:       newSlots[proofKey](proofKeys),
		seen:       newReplays(cfg.Entries, cfg.Window/4),
		marks:      cfg.Marks,
		space:      cfg.Space,
	}
	if b := cfg.Before; b != nil {
		if b.seen == nil || b.window != p.window {
			err = errors.New("the memory to go on with is of another window")
		}
		p.keys, p.seen = b.keys, b.seen
	}
	if err == nil && cfg.Seal != nil {
		p.nonces, err = newNonces(cfg.Seal, cfg.Marks != nil)
	}
	if err != nil {
		return nil, fmt.Errorf("DPoP proofs: %w", err)
	}
	return p, nil
}

// Algorithms returns what proofs may be signed with, for challenges and
// metadata (dpop_signing_alg_values_supported). The caller must not change it.
func (p *Proofs) Algorithms() []Algorithm { return p.algorithms }

// Nonce returns a value for the DPoP-Nonce header (RFC 9449 §8), good for about
// five minutes. It is "" where nonces are not configured.
func (p *Proofs) Nonce() string {
	if p == nil || p.nonces == nil {
		return ""
	}
	return p.nonces.fresh(time.Now())
}

// Verify checks proof, the value of the one DPoP header field of a request, and
// uses it up: a second call with the same proof is refused. The caller has made
// sure that there is one such field (RFC 9449 §4.3 step 1). Errors are
// [ErrProof], [ErrUseNonce], [ErrProofsFull] and [ErrProofsAway]; the last two are
// no fault of the client's, and the request must still be refused.
func (p *Proofs) Verify(ctx context.Context, proof string, c ProofCheck) (*Proof, error) {
	if p == nil || p.seen == nil || c.Method == "" || c.URL == "" {
		return nil, badProof(errors.New("nothing to check it against"))
	}
	parts, err := split(proof, maxProof)
	if err != nil {
		return nil, badProof(err)
	}
	now := time.Now()
	hash := maphash.String(p.keys.seed, parts.header)
	k := p.known(hash, parts.header)
	fresh := k == nil
	if fresh {
		if k, err = p.parseKey(parts.header); err != nil {
			return nil, badProof(err)
		}
	}
	if c.JKT != "" && c.JKT != k.jkt {
		return nil, badProof(errors.New("its key is not the one the token or code is bound to"))
	}
	claims, err := parseProof(parts.payload)
	if err == nil {
		err = claims.check(&c, now, p.window)
	}
	if err != nil {
		return nil, badProof(err)
	}
	// What was looked at so far could only refuse. Only now is any of it believed.
	if err := k.verify(parts); err != nil {
		return nil, badProof(err)
	}
	if fresh {
		// Only keys whose holder has shown up get in.
		k.hash, k.header = hash, strings.Clone(parts.header)
		p.keys.put(hash, k, func(old *proofKey) int64 { return old.used.Load() })
	}
	if last := k.used.Load(); now.UnixNano()-last > int64(touchEvery) {
		k.used.Store(now.UnixNano())
	}
	if err := p.checkNonce(claims.nonce, now); err != nil {
		return nil, err
	}
	until := claims.iat.Add(p.window)
	if err := p.seen.add(k.jkt, claims.jti, now, until); err != nil {
		return nil, err
	}
	if p.marks != nil { // what this node has seen costs no question
		first, err := p.marks.Once(ctx, p.space, k.jkt+claims.jti, until.Sub(now)+skew)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrProofsAway, err)
		}
		if !first {
			return nil, badProof(errReplay)
		}
	}
	return &Proof{JKT: k.jkt, JTI: claims.jti, IssuedAt: claims.iat}, nil
}

// checkNonce applies RFC 9449 §4.3 step 10. A nonce that came unasked is judged
// too: a client that sends one relies on it.
func (p *Proofs) checkNonce(text string, now time.Time) error {
	if p.nonces == nil || text == "" && !p.require {
		return nil
	}
	if !p.nonces.check(text, now) {
		return ErrUseNonce
	}
	return nil
}

func badProof(cause error) error { return fmt.Errorf("%w: %w", ErrProof, cause) }

// known returns the parsed header, if a proof with the same one was good before.
func (p *Proofs) known(hash uint64, header string) *proofKey {
	group := p.keys.group(hash)
	for i := range group {
		if k := group[i].Load(); k != nil && k.hash == hash && k.header == header {
			return k
		}
	}
	return nil
}

// parseKey reads a proof's header (RFC 9449 §4.2): typ, alg and a public jwk.
func (p *Proofs) parseKey(encoded string) (*proofKey, error) {
	var m map[string]any
	h, err := readHeader(encoded, func(v any) error {
		var ok bool
		if m, ok = v.(map[string]any); !ok {
			return errors.New("jwk is not an object")
		}
		return noSecrets(m)
	})
	switch {
	case err != nil:
		return nil, err
	case h.typ != "dpop+jwt":
		// RFC 8725 §3.11: any other JWT of that key is no proof.
		return nil, errors.New("header: typ is not dpop+jwt")
	case !slices.Contains(p.algorithms, h.alg):
		return nil, errors.New("header: alg is not accepted in proofs")
	case m == nil:
		return nil, errors.New("header: jwk is missing")
	}
	pub, sum, err := publicKey(m)
	if err != nil {
		return nil, fmt.Errorf("jwk: %w", err)
	}
	algs, err := fits(pub)
	if err != nil {
		return nil, fmt.Errorf("jwk: %w", err)
	}
	if !slices.Contains(algs, h.alg) {
		return nil, errors.New("jwk: its type does not fit alg")
	}
	if alg, has := m["alg"]; has && alg != string(h.alg) {
		return nil, errors.New("jwk: it is for another alg")
	}
	if use, has := m["use"]; has && use != "sig" {
		return nil, errors.New("jwk: it is for another use")
	}
	return &proofKey{key: &key{alg: h.alg, public: pub, print: sum}, jkt: strict64.EncodeToString([]byte(sum))}, nil
}

func (k *proofKey) verify(parts segments) error {
	if len(parts.signature) > strict64.EncodedLen(maxSigSize) {
		return errSignature
	}
	var buf [maxSigSize]byte
	sig, err := decode64(buf[:0], parts.signature)
	if err != nil {
		return fmt.Errorf("signature: %w", err)
	}
	return k.key.verify([]byte(parts.message), sig)
}

// proofClaims are the claims of a proof (RFC 9449 §4.2); others are ignored.
type proofClaims struct {
	jti, htm, htu, ath, nonce string
	iat, nbf, exp             time.Time
}

func parseProof(encoded string) (*proofClaims, error) {
	b, err := decode64(make([]byte, 0, len(encoded)), encoded)
	if err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	c := &proofClaims{}
	date := func(r *reader, name string, dst *time.Time) error {
		v, err := r.value()
		if err == nil {
			*dst, err = numericDate(name, v)
		}
		return err
	}
	err = readObject(b, func(r *reader, name string) (err error) {
		switch name {
		case "jti":
			c.jti, err = r.text(name)
		case "htm":
			c.htm, err = r.text(name)
		case "htu":
			c.htu, err = r.text(name)
		case "ath":
			c.ath, err = r.text(name)
		case "nonce":
			c.nonce, err = r.text(name)
		case "iat":
			err = date(r, name, &c.iat)
		case "nbf":
			err = date(r, name, &c.nbf)
		case "exp":
			err = date(r, name, &c.exp)
		default:
			_, err = r.value()
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	return c, nil
}

// check compares the claims with the request and the clock. A nonce does not
// stand in for iat, as RFC 9449 §4.3 step 11 would allow: each proof would have
// to be remembered for as long as its nonce is good.
func (c *proofClaims) check(want *ProofCheck, now time.Time, window time.Duration) error {
	switch {
	case c.jti == "" || len(c.jti) > maxJTI:
		return fmt.Errorf("jti is missing, or longer than %d bytes", maxJTI)
	case c.iat.IsZero():
		return errors.New("iat is missing")
	case !now.Before(c.iat.Add(window)) || c.iat.After(now.Add(ahead)):
		return fmt.Errorf("iat is %v ago", now.Sub(c.iat).Round(time.Second))
	case c.htm != want.Method:
		return errors.New("htm is not the request's method")
	case !sameURL(c.htu, want.URL):
		return errors.New("htu is not the request's URL")
	case !c.exp.IsZero() && !now.Before(c.exp):
		return errors.New("exp has passed")
	case c.nbf.After(now.Add(ahead)):
		return errors.New("nbf is ahead")
	}
	if want.AccessToken != "" {
		sum := sha256.Sum256([]byte(want.AccessToken))
		var ath [43]byte
		strict64.Encode(ath[:], sum[:])
		if subtle.ConstantTimeCompare(ath[:], []byte(c.ath)) != 1 {
			return errors.New("ath is not the hash of the access token")
		}
	}
	return nil
}

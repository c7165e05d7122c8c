package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"slices"
)

// An Algorithm is a JWS signature algorithm by its registered name (RFC 7518
// §3.1, RFC 8037 §3.1). Only asymmetric ones exist here: "none" and the HS
// family cannot be spelled, so that no configuration can admit them.
type Algorithm string

// The algorithms a token may be signed with.
const (
	RS256 Algorithm = "RS256"
	RS384 Algorithm = "RS384"
	RS512 Algorithm = "RS512"
	PS256 Algorithm = "PS256"
	PS384 Algorithm = "PS384"
	PS512 Algorithm = "PS512"
	ES256 Algorithm = "ES256"
	ES384 Algorithm = "ES384"
	ES512 Algorithm = "ES512"
	EdDSA Algorithm = "EdDSA" // with Ed25519 keys only
)

// Algorithms returns every algorithm that may be configured.
func Algorithms() []Algorithm {
	return []Algorithm{RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA}
}

// algorithmOf reads an alg of a header or a key. Ed25519 is what RFC 9864 §2.2 calls
// EdDSA with the one curve that is known here; newer libraries write it.
func algorithmOf(name string) Algorithm {
	if name == "Ed25519" {
		return EdDSA
	}
	return Algorithm(name)
}

const (
	minRSABits = 2048 // RFC 7518 §3.3
	maxRSABits = 4096 // above it one verification costs more than a stranger should be able to order
	maxSigSize = maxRSABits / 8
)

var errSignature = errors.New("the signature does not verify")

// checkAlgorithms refuses names that are not in [Algorithms].
func checkAlgorithms(algs []Algorithm) error {
	for _, a := range algs {
		if !slices.Contains(Algorithms(), a) {
			return fmt.Errorf("algorithm %q is not one of %v", string(a), Algorithms())
		}
	}
	return nil
}

// fits returns the algorithms that pub can verify, the customary one first.
// A key says nothing about its hash when it is RSA, and everything when it is
// not: a P-256 key under ES384 is refused here, before any token is seen.
func fits(pub crypto.PublicKey) ([]Algorithm, error) {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		bits := k.N.BitLen()
		if bits < minRSABits || bits > maxRSABits {
			return nil, fmt.Errorf("an RSA key of %d bits; %d to %d are accepted", bits, minRSABits, maxRSABits)
		}
		// e = 1 makes every signature its own message; even ones are no keys at all.
		if k.E < 3 || k.E%2 == 0 {
			return nil, fmt.Errorf("an RSA key with the public exponent %d", k.E)
		}
		return []Algorithm{RS256, RS384, RS512, PS256, PS384, PS512}, nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return []Algorithm{ES256}, nil
		case elliptic.P384():
			return []Algorithm{ES384}, nil
		case elliptic.P521():
			return []Algorithm{ES512}, nil
		}
		return nil, fmt.Errorf("the curve %s", k.Curve.Params().Name)
	case ed25519.PublicKey:
		if len(k) != ed25519.PublicKeySize {
			return nil, errors.New("an Ed25519 key of the wrong length")
		}
		return []Algorithm{EdDSA}, nil
	}
	return nil, fmt.Errorf("a key of type %T", pub)
}

// digest hashes message as alg wants it; EdDSA takes the message itself.
func digest(alg Algorithm, message []byte, buf *[64]byte) (crypto.Hash, []byte) {
	switch alg {
	case RS256, PS256, ES256:
		h := sha256.Sum256(message)
		return crypto.SHA256, buf[:copy(buf[:], h[:])]
	case RS384, PS384, ES384:
		h := sha512.Sum384(message)
		return crypto.SHA384, buf[:copy(buf[:], h[:])]
	case RS512, PS512, ES512:
		h := sha512.Sum512(message)
		return crypto.SHA512, buf[:copy(buf[:], h[:])]
	case EdDSA:
	}
	return 0, nil
}

// verify checks sig over message. The algorithm is the key record's, never the
// token's word, and the type of the key was checked against it by fits.
func (k *key) verify(message, sig []byte) error {
	var buf [64]byte
	hash, sum := digest(k.alg, message, &buf)
	ok := false
	switch k.alg {
	case RS256, RS384, RS512:
		pub, is := k.public.(*rsa.PublicKey)
		ok = is && rsa.VerifyPKCS1v15(pub, hash, sum, sig) == nil
	case PS256, PS384, PS512:
		// RFC 7518 §3.5: the salt is as long as the hash; PSSSaltLengthAuto would accept any.
		pub, is := k.public.(*rsa.PublicKey)
		ok = is && rsa.VerifyPSS(pub, hash, sum, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
	case ES256, ES384, ES512:
		pub, is := k.public.(*ecdsa.PublicKey)
		if !is {
			return errSignature
		}
		var der [160]byte
		asn1 := appendDER(der[:0], sig, (pub.Curve.Params().BitSize+7)/8)
		ok = asn1 != nil && ecdsa.VerifyASN1(pub, sum, asn1)
	case EdDSA:
		pub, is := k.public.(ed25519.PublicKey)
		ok = is && len(sig) == ed25519.SignatureSize && ed25519.Verify(pub, message, sig)
	}
	if !ok {
		return errSignature
	}
	return nil
}

// appendDER turns the fixed-length R || S of RFC 7518 §3.4 into the ASN.1 form
// that crypto/ecdsa takes; nil when sig is not exactly two integers of size
// bytes, so that a signature has one spelling only.
func appendDER(dst, sig []byte, size int) []byte {
	if len(sig) != 2*size {
		return nil
	}
	r, s := trimInt(sig[:size]), trimInt(sig[size:])
	body := derLen(r) + derLen(s)
	dst = append(dst, 0x30)
	if body > 127 {
		dst = append(dst, 0x81)
	}
	dst = append(dst, byte(body))
	for _, n := range [2][]byte{r, s} {
		dst = append(dst, 0x02, byte(derLen(n)-2))
		if n[0]&0x80 != 0 {
			dst = append(dst, 0)
		}
		dst = append(dst, n...)
	}
	return dst
}

func trimInt(b []byte) []byte {
	for len(b) > 1 && b[0] == 0 {
		b = b[1:]
	}
	return b
}

// derLen is the size of the INTEGER b, tag and length included.
func derLen(b []byte) int {
	n := len(b) + 2
	if b[0]&0x80 != 0 {
		n++
	}
	return n
}

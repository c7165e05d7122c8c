package posture

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/token"
)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// random is n random bytes as text.
func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return b64(b)
}

func digestOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return b64(sum[:])
}

// A signingKey is one of ours, with its public half as a JWK.
type signingKey struct {
	private *ecdsa.PrivateKey
	jwk     map[string]any
	jkt     string
}

func newKey() (*signingKey, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	point, err := k.PublicKey.Bytes() // 4 ‖ x ‖ y (SEC 1 §2.3.3)
	if err != nil {
		return nil, err
	}
	jwk := map[string]any{"kty": "EC", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])}
	text, err := json.Marshal(jwk)
	if err != nil {
		return nil, err
	}
	jkt, err := token.Thumbprint(text)
	return &signingKey{k, jwk, jkt}, err
}

// set is the key as a client's jwks.
func (k *signingKey) set() json.RawMessage {
	jwk := maps.Clone(k.jwk)
	maps.Copy(jwk, map[string]any{"kid": "prove", "alg": "ES256", "use": "sig"})
	b, _ := json.Marshal(map[string]any{"keys": []any{jwk}}) // text only
	return b
}

// private is the key with what nobody may ever send.
func (k *signingKey) leaked() map[string]any {
	d, err := k.private.Bytes()
	out := maps.Clone(k.jwk)
	if err == nil {
		out["d"] = b64(d)
	}
	return out
}

// unsigned is the part of a JWS that a signature is over.
func unsigned(head, claims map[string]any) string {
	h, _ := json.Marshal(head) // ours
	c, _ := json.Marshal(claims)
	return b64(h) + "." + b64(c)
}

// sign makes a JWS whose signature is by k, ES256, whatever its header says.
func (k *signingKey) sign(head, claims map[string]any) (string, error) {
	input := unsigned(head, claims)
	sum := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, k.private, sum[:])
	if err != nil {
		return "", err
	}
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return input + "." + b64(sig), nil
}

// hmacSigned is a JWS signed with HS256 by a secret, like a public key.
func hmacSigned(head, claims map[string]any, secret []byte) string {
	input := unsigned(head, claims)
	m := hmac.New(sha256.New, secret)
	m.Write([]byte(input))
	return input + "." + b64(m.Sum(nil))
}

// proof is a DPoP proof (RFC 9449 §4.2). change may bend it; nil leaves it good.
func (k *signingKey) proof(method, target, nonce, access string, change func(head, claims map[string]any)) (string, error) {
	target, _, _ = strings.Cut(target, "?")
	head := map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": k.jwk}
	claims := map[string]any{"jti": random(16), "htm": method, "htu": target, "iat": time.Now().Unix()}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	if access != "" {
		claims["ath"] = digestOf(access)
	}
	if change != nil {
		change(head, claims)
	}
	return k.sign(head, claims)
}

// assertion is a client assertion (RFC 7523 §3) for a server.
func (k *signingKey) assertion(client, audience string, change func(head, claims map[string]any)) (string, error) {
	now := time.Now().Unix()
	head := map[string]any{"typ": "JWT", "alg": "ES256", "kid": "prove"}
	claims := map[string]any{"iss": client, "sub": client, "aud": audience, "jti": random(16), "iat": now, "exp": now + 50}
	if change != nil {
		change(head, claims)
	}
	return k.sign(head, claims)
}

// A forgery is a token that nobody may take, and how it was made.
type forgery struct{ how, raw string }

// publicKeyTexts are the ways to read a published key as a secret for HS256.
func publicKeyTexts(jwk map[string]any) [][]byte {
	var out [][]byte
	if b, err := json.Marshal(jwk); err == nil {
		out = append(out, b)
	}
	for _, name := range []string{"x", "n"} {
		if s, _ := jwk[name].(string); s != "" {
			out = append(out, []byte(s))
			if b, err := base64.RawURLEncoding.DecodeString(s); err == nil {
				out = append(out, b)
			}
		}
	}
	return out
}

// forge makes tokens with the claims of a good one, which are all wrong in their
// signature or its header (RFC 8725 §2, CVE lists of JOSE libraries).
func forge(claims map[string]any, published []map[string]any) ([]forgery, error) {
	mine, err := newKey()
	if err != nil {
		return nil, err
	}
	var kid any = "prove"
	var known map[string]any
	for _, jwk := range published {
		if known == nil || jwk["alg"] == "ES256" {
			known, kid = jwk, jwk["kid"]
		}
	}
	head := func(alg string, more ...any) map[string]any {
		h := map[string]any{"alg": alg, "typ": "at+jwt", "kid": kid}
		for i := 0; i+1 < len(more); i += 2 {
			name, _ := more[i].(string)
			h[name] = more[i+1]
		}
		return h
	}
	var out []forgery
	for _, alg := range []string{"none", "nOnE"} {
		raw := unsigned(head(alg), claims) + "."
		out = append(out, forgery{fmt.Sprintf("alg %q without a signature", alg), raw})
	}
	for i, secret := range publicKeyTexts(known) {
		out = append(out, forgery{fmt.Sprintf("HS256 with the public key as its secret (%d)", i), hmacSigned(head("HS256"), claims, secret)})
	}
	zero := unsigned(head("ES256"), claims) + "." + b64(make([]byte, 64)) // CVE-2022-21449
	out = append(out, forgery{"ES256 with a signature of zeros", zero})
	for _, f := range []struct {
		how  string
		head map[string]any
	}{
		{"ES256 by another key under the name of a real one", head("ES256")},
		{"RS256 in the header, ES256 inside", head("RS256")},
		{"a kid that is a path", head("ES256", "kid", "../../../../../../dev/null")},
		{"a crit nobody knows", head("ES256", "crit", []string{"prove"}, "prove", true)},
		{"a jku of our own", head("ES256", "jku", "https://prove.invalid/jwks.json")},
		{"an x5u of our own", head("ES256", "x5u", "https://prove.invalid/cert.pem")},
		{"a jwk of its own in the header", head("ES256", "jwk", mine.jwk)},
	} {
		raw, err := mine.sign(f.head, claims)
		if err != nil {
			return nil, err
		}
		out = append(out, forgery{f.how, raw})
	}
	return out, nil
}

// damaged are versions of a token that lost or changed a little: cut off, longer,
// one character another. Somebody's table of prefixes must not be the check.
func damaged(raw string) []forgery {
	out := []forgery{{"with a character more", raw + "A"}}
	for _, cut := range []int{1, 8, len(raw) / 2} {
		if cut < len(raw) {
			out = append(out, forgery{fmt.Sprintf("without its last %d characters", cut), raw[:len(raw)-cut]})
		}
	}
	for _, at := range []int{5, len(raw) / 2, len(raw) * 3 / 4, len(raw) - 1} {
		// The neighbour in the alphabet: of a last character it may change only bits
		// that decoders forget to look at.
		b := []byte(raw)
		if b[at] == '.' {
			at++
		}
		const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
		b[at] = alphabet[(strings.IndexByte(alphabet, b[at])^1)&63]
		out = append(out, forgery{fmt.Sprintf("with character %d of %d changed", at+1, len(raw)), string(b)})
	}
	return out
}

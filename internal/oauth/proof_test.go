package oauth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/token"
)

// A signingKey is a key of a client's: it signs DPoP proofs and assertions.
type signingKey struct {
	t       testing.TB
	private *ecdsa.PrivateKey
	jwk     map[string]string
}

func newSigningKey(t testing.TB) *signingKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	pub, err := k.PublicKey.Bytes()
	ok(t, err)
	b64 := base64.RawURLEncoding.EncodeToString
	return &signingKey{t, k, map[string]string{"kty": "EC", "crv": "P-256", "x": b64(pub[1:33]), "y": b64(pub[33:])}}
}

func (k *signingKey) jwks() json.RawMessage {
	b, err := json.Marshal(map[string]any{"keys": []any{map[string]string{"kty": "EC", "crv": "P-256", "x": k.jwk["x"], "y": k.jwk["y"], "alg": "ES256", "kid": "k1"}}})
	ok(k.t, err)
	return b
}

func (k *signingKey) thumbprint() string {
	b, err := json.Marshal(k.jwk)
	ok(k.t, err)
	sum, err := token.Thumbprint(b)
	ok(k.t, err)
	return sum
}

func (k *signingKey) sign(header, claims map[string]any) string {
	k.t.Helper()
	b64 := base64.RawURLEncoding.EncodeToString
	h, err := json.Marshal(header)
	ok(k.t, err)
	c, err := json.Marshal(claims)
	ok(k.t, err)
	message := b64(h) + "." + b64(c)
	sum := sha256.Sum256([]byte(message))
	r, s, err := ecdsa.Sign(rand.Reader, k.private, sum[:])
	ok(k.t, err)
	var sig [64]byte
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return message + "." + b64(sig[:])
}

// proof is a DPoP proof for method and url; access may be "".
func (k *signingKey) proof(method, url, access string) string {
	claims := map[string]any{"jti": rand.Text(), "htm": method, "htu": url, "iat": time.Now().Unix()}
	if access != "" {
		sum := sha256.Sum256([]byte(access))
		claims["ath"] = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	return k.sign(map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": k.jwk}, claims)
}

// assertion is a client assertion for our issuer.
func (k *signingKey) assertion(client string) string {
	now := time.Now().Unix()
	return k.sign(map[string]any{"alg": "ES256", "kid": "k1"}, map[string]any{
		"iss": client, "sub": client, "aud": issuer, "jti": rand.Text(), "iat": now, "exp": now + 30,
	})
}

// proving adds a proof for the token endpoint to a request.
func (k *signingKey) proving(r *http.Request) {
	r.Header.Set("DPoP", k.proof(r.Method, issuer+"/token", ""))
}

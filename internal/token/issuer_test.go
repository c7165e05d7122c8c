package token_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

const (
	issuerURL = "https://login.example.com"
	audience  = "https://api.example.com"
)

var b64 = base64.RawURLEncoding

// privateKeys holds one key for each algorithm; making RSA keys is slow.
var privateKeys = sync.OnceValue(func() map[token.Algorithm]crypto.Signer {
	m := make(map[token.Algorithm]crypto.Signer)
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	for _, alg := range []token.Algorithm{token.RS256, token.RS384, token.RS512, token.PS256, token.PS384, token.PS512} {
		m[alg] = r
	}
	for alg, curve := range map[token.Algorithm]elliptic.Curve{token.ES256: elliptic.P256(), token.ES384: elliptic.P384(), token.ES512: elliptic.P521()} {
		if k, e := ecdsa.GenerateKey(curve, rand.Reader); e != nil {
			err = e
		} else {
			m[alg] = k
		}
	}
	_, ed, e := ed25519.GenerateKey(rand.Reader)
	if err != nil || e != nil {
		panic(fmt.Sprint(err, e))
	}
	m[token.EdDSA] = ed
	return m
})

// sign makes a compact JWS of exactly these bytes, so that a hostile header or
// payload is refused for itself and not for its signature.
func sign(t testing.TB, alg token.Algorithm, k crypto.Signer, header, payload string) string {
	t.Helper()
	return signRaw(t, alg, k, b64.EncodeToString([]byte(header)), b64.EncodeToString([]byte(payload)))
}

func signRaw(t testing.TB, alg token.Algorithm, k crypto.Signer, header, payload string) string {
	t.Helper()
	message := header + "." + payload
	hash := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512, "DSA": 0}[string(alg[2:])]
	sum := []byte(message)
	if hash != 0 {
		h := hash.New()
		h.Write(sum)
		sum = h.Sum(nil)
	}
	var sig []byte
	var err error
	switch alg[:2] {
	case "RS", "Ed":
		sig, err = k.Sign(rand.Reader, sum, hash)
	case "PS":
		sig, err = k.Sign(rand.Reader, sum, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash})
	case "ES":
		priv := k.(*ecdsa.PrivateKey)
		r, s, e := ecdsa.Sign(rand.Reader, priv, sum)
		if err = e; err == nil {
			size := (priv.Params().BitSize + 7) / 8
			sig = append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return message + "." + b64.EncodeToString(sig)
}

// jwks is the key set of the given algorithms' keys, each kid the algorithm's name.
func jwks(t testing.TB, algs ...token.Algorithm) []byte {
	t.Helper()
	var set jose.JSONWebKeySet
	for _, alg := range algs {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: privateKeys()[alg].Public(), KeyID: string(alg), Algorithm: string(alg), Use: "sig"})
	}
	doc, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func staticKeys(t testing.TB, doc []byte) *token.KeySet {
	t.Helper()
	keys, err := token.NewKeySet(token.KeySetConfig{Issuer: issuerURL, Static: doc}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func newVerifier(t testing.TB, keys *token.KeySet, change func(*token.VerifierConfig)) *token.Verifier {
	t.Helper()
	cfg := token.VerifierConfig{Issuer: issuerURL, Audiences: []string{audience}}
	if change != nil {
		change(&cfg)
	}
	v, err := token.NewVerifier(cfg, keys)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// claims is a good claims set with changes; a nil value removes a claim.
func claims(changes map[string]any) string {
	m := map[string]any{
		"iss": issuerURL, "aud": audience, "sub": "alice", "client_id": "web", "scope": "orders:read orders:write",
		"exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(), "jti": "7Zb",
	}
	maps.Copy(m, changes)
	maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func head(alg token.Algorithm) string {
	return fmt.Sprintf(`{"alg":%q,"typ":"at+jwt","kid":%q}`, alg, alg)
}

func good(t testing.TB, alg token.Algorithm) string {
	t.Helper()
	return sign(t, alg, privateKeys()[alg], head(alg), claims(nil))
}

// refused checks that err is a Problem of this reason whose hidden cause, and
// only that, has the words.
func refused(t *testing.T, c *token.Claims, err error, reason, cause string) {
	t.Helper()
	if err == nil || c != nil {
		t.Fatalf("accepted: %+v", c)
	}
	p := gatehouse.AsProblem(err)
	if p.Reason != reason {
		t.Fatalf("reason %s (%v), want %s", p.Reason, err, reason)
	}
	want := gatehouse.Unauthenticated
	if reason == "issuer_unavailable" {
		want = gatehouse.Overloaded
	}
	if p.Kind != want {
		t.Fatalf("kind %v, want %v", p.Kind, want)
	}
	if p.Err == nil || !strings.Contains(p.Err.Error(), cause) {
		t.Fatalf("cause %v, want one with %q", p.Err, cause)
	}
	if strings.Contains(p.Detail, p.Err.Error()) {
		t.Fatalf("the cause is in the detail: %s", p.Detail)
	}
}

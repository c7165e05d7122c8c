package token_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-api/gatehouse/internal/token"
)

// member returns the one JWK of jwks(alg) with changes, as JSON.
func member(t *testing.T, alg token.Algorithm, changes map[string]any) string {
	t.Helper()
	var doc struct{ Keys []map[string]any }
	if err := json.Unmarshal(jwks(t, alg), &doc); err != nil {
		t.Fatal(err)
	}
	k := doc.Keys[0]
	for name, v := range changes {
		if k[name] = v; v == nil {
			delete(k, name)
		}
	}
	b, err := json.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestKeysThatAreLeftOut(t *testing.T) {
	small, err := json.Marshal(jose.JSONWebKey{Key: &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(3), 1020), E: 65537}, KeyID: "x"})
	if err != nil {
		t.Fatal(err)
	}
	large, err := json.Marshal(jose.JSONWebKey{Key: &rsa.PublicKey{N: new(big.Int).Add(new(big.Int).Lsh(big.NewInt(3), 8190), big.NewInt(1)), E: 65537}, KeyID: "x"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, jwk, words string }{
		{"a private EC key", member(t, token.ES256, map[string]any{"d": "AA"}), "private or symmetric"},
		{"a private RSA key", member(t, token.RS256, map[string]any{"p": "AA"}), "private or symmetric"},
		{"a private key of another kind", member(t, token.ES256, map[string]any{"priv": "AA"}), "private or symmetric"},
		{"a private key whose value is null", member(t, token.ES256, map[string]any{"d": json.RawMessage("null")}), "private or symmetric"},
		{"a symmetric key", `{"kty":"oct","k":"c2VjcmV0","kid":"x"}`, "private or symmetric"},
		{"a key for encryption", member(t, token.RS256, map[string]any{"use": "enc"}), `use "enc"`},
		{"a key whose operations do not include verify", member(t, token.ES256, map[string]any{"key_ops": []string{"sign"}}), "key_ops"},
		{"a key whose operations are text", member(t, token.ES256, map[string]any{"key_ops": "verify"}), "key_ops"},
		{"an RSA key of 1022 bits", string(small), "bits"},
		{"an RSA key of 8192 bits", string(large), ""},
		{"an RSA key with the exponent 1", member(t, token.RS256, map[string]any{"e": "AQ"}), "e value"},
		{"an RSA key with an even exponent", member(t, token.RS256, map[string]any{"e": "AQAA"}), "exponent"},
		{"a curve that does not fit its alg", member(t, token.ES256, map[string]any{"alg": "ES384"}), "does not fit"},
		{"an RSA key under an EC algorithm", member(t, token.RS256, map[string]any{"alg": "ES256"}), "does not fit"},
		{"an RSA key under HS256", member(t, token.RS256, map[string]any{"alg": "HS256"}), "does not fit"},
		{"an RSA key under none", member(t, token.RS256, map[string]any{"alg": "none"}), "does not fit"},
		{"a point that is not on its curve", member(t, token.ES256, map[string]any{"x": strings.Repeat("A", 43)}), ""},
		{"a key of an unknown type", `{"kty":"AKP","alg":"ML-DSA-44","pub":"AA","kid":"x"}`, ""},
		{"an Ed448 key", `{"kty":"OKP","crv":"Ed448","x":"AA","kid":"x"}`, ""},
		{"a short Ed25519 key", `{"kty":"OKP","crv":"Ed25519","x":"AA","kid":"x"}`, ""},
		{"an X25519 key", `{"kty":"OKP","crv":"X25519","x":"` + strings.Repeat("A", 43) + `","kid":"x"}`, ""},
		{"a secp256k1 key", `{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA","kid":"x"}`, ""},
		{"a kid that is a number", member(t, token.ES256, map[string]any{"kid": 1}), "kid"},
		{"a key that is text", `"key"`, "not an object"},
	} {
		t.Run(tt.name+" is left out, with a warning, and spoils nothing", func(t *testing.T) {
			good := member(t, token.EdDSA, nil)
			var log bytes.Buffer
			u := &upstream{doc: []byte(`{"keys":[` + tt.jwk + `,` + good + `]}`)}
			keys := remoteKeys(t, u, func(c *token.KeySetConfig) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
			if _, err := newVerifier(t, keys, nil).Verify(t.Context(), goodToken(t)); err != nil {
				t.Fatal(err)
			}
			if n := keys.Status().Keys; n != 1 {
				t.Fatalf("%d keys, want 1", n)
			}
			if !strings.Contains(log.String(), "key 0 left out") || !strings.Contains(strings.ReplaceAll(log.String(), `\"`, `"`), tt.words) {
				t.Fatalf("log: %s", log.String())
			}
			if _, err := token.NewKeySet(token.KeySetConfig{Static: []byte(`{"keys":[` + tt.jwk + `]}`)}, nil); err == nil {
				t.Fatal("a static set with it is accepted")
			}
		})
	}
}

func goodToken(t *testing.T) string {
	t.Helper()
	return good(t, token.EdDSA)
}

func TestKeysWithoutAlg(t *testing.T) {
	bare := []byte(`{"keys":[` + member(t, token.RS256, map[string]any{"alg": nil, "use": nil, "kid": "k"}) + `]}`)
	raw := func(alg token.Algorithm) string {
		return sign(t, alg, privateKeys()[alg], fmt.Sprintf(`{"alg":%q,"typ":"at+jwt","kid":"k"}`, alg), claims(nil))
	}
	for _, tt := range []struct {
		name     string
		config   []token.Algorithm
		yes, not []token.Algorithm
	}{
		{"an RSA key is for RS256", nil, []token.Algorithm{token.RS256}, []token.Algorithm{token.RS512, token.PS256}},
		{"an RSA key is for what is configured", []token.Algorithm{token.PS256, token.ES256}, []token.Algorithm{token.PS256}, []token.Algorithm{token.RS256, token.PS384}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			keys, err := token.NewKeySet(token.KeySetConfig{Static: bare, Algorithms: tt.config}, nil)
			if err != nil {
				t.Fatal(err)
			}
			v := newVerifier(t, keys, nil)
			for _, alg := range tt.yes {
				if _, err := v.Verify(t.Context(), raw(alg)); err != nil {
					t.Errorf("%s: %v", alg, err)
				}
			}
			for _, alg := range tt.not {
				if _, err := v.Verify(t.Context(), raw(alg)); err == nil {
					t.Errorf("%s is accepted", alg)
				}
			}
		})
	}
	t.Run("certificates beside a key are not looked at", func(t *testing.T) {
		doc := []byte(`{"keys":[` + member(t, token.ES256, map[string]any{"x5c": []string{"not a certificate"}, "x5t": "?"}) + `]}`)
		if _, err := newVerifier(t, staticKeys(t, doc), nil).Verify(t.Context(), good(t, token.ES256)); err != nil {
			t.Fatal(err)
		}
	})
}

func TestKeysThatShareAKid(t *testing.T) {
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(jose.JSONWebKey{Key: &other.PublicKey, KeyID: "RS256", Algorithm: "RS256"})
	if err != nil {
		t.Fatal(err)
	}
	same := member(t, token.RS256, nil)
	keys := staticKeys(t, []byte(`{"keys":[`+string(b)+`,`+same+`,`+same+`]}`))
	v := newVerifier(t, keys, nil)
	for name, k := range map[string]*rsa.PrivateKey{"the first": other, "the second": privateKeys()[token.RS256].(*rsa.PrivateKey)} {
		if _, err := v.Verify(t.Context(), sign(t, token.RS256, k, head(token.RS256), claims(nil))); err != nil {
			t.Errorf("%s key of one kid: %v", name, err)
		}
	}
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	c, err := v.Verify(t.Context(), sign(t, token.RS256, stranger, head(token.RS256), claims(nil)))
	refused(t, c, err, "token_invalid", "signature")
}

func TestASingleKeyNeedsNoKid(t *testing.T) {
	v := newVerifier(t, staticKeys(t, jwks(t, token.ES256)), nil)
	if _, err := v.Verify(t.Context(), sign(t, token.ES256, privateKeys()[token.ES256], `{"alg":"ES256","typ":"at+jwt"}`, claims(nil))); err != nil {
		t.Fatal(err)
	}
}

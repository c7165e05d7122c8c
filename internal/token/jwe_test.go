package token_test

import (
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-api/gatehouse/internal/token"
)

func newDecrypter(t testing.TB) *token.Decrypter {
	t.Helper()
	d, err := token.NewDecrypter()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func encryptTo(t testing.TB, publicJWK []byte, jws string) string {
	t.Helper()
	e, err := token.NewEncrypter(publicJWK)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := e.Encrypt(jws)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// rsaDecrypter is one whose key file the operator has written.
func rsaDecrypter(t testing.TB) *token.Decrypter {
	t.Helper()
	path := filepath.Join(t.TempDir(), "decrypt.jwk")
	writeKey(t, path, jose.JSONWebKey{Key: privateKeys()[token.RS256], KeyID: "rsa", Algorithm: "RSA-OAEP-256", Use: "enc"})
	d, err := token.OpenDecrypter(at(path))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func writeKey(t testing.TB, path string, k jose.JSONWebKey) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text(t, map[string]any{"key": k})), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestEncryptedTokens(t *testing.T) {
	jws := good(t, token.ES256)
	for name, d := range map[string]*token.Decrypter{"ECDH-ES": newDecrypter(t), "RSA-OAEP-256": rsaDecrypter(t)} {
		t.Run(name, func(t *testing.T) {
			raw := encryptTo(t, d.PublicJWK(), jws)
			if !token.Encrypted(raw) || token.Encrypted(jws) {
				t.Error("five parts are not told from three")
			}
			if encryptTo(t, d.PublicJWK(), jws) == raw {
				t.Error("two encryptions are the same")
			}
			got, err := d.Decrypt(raw)
			if err != nil || got != jws {
				t.Fatalf("%q, %v", got, err)
			}
			if _, err := newVerifier(t, staticKeys(t, jwks(t, token.ES256)), nil).Verify(t.Context(), got); err != nil {
				t.Fatal(err)
			}
			object, err := jose.ParseEncryptedCompact(raw, []jose.KeyAlgorithm{jose.KeyAlgorithm(name)}, []jose.ContentEncryption{jose.A256GCM})
			if err != nil {
				t.Fatal(err)
			}
			if object.Header.ExtraHeaders[jose.HeaderContentType] != "JWT" || object.Header.KeyID == "" {
				t.Errorf("header %+v", object.Header)
			}
			if strings.Contains(string(d.PublicJWK()), `"d"`) {
				t.Error("the private key is published")
			}
			got, err = newDecrypter(t).Decrypt(raw)
			refusedJWE(t, got, err, "")
			for i := range len(raw) {
				c := byte('A')
				if raw[i] == c {
					c = 'B'
				}
				if i%7 == 0 || i > len(raw)-24 { // each costs a key agreement
					got, err := d.Decrypt(raw[:i] + string(c) + raw[i+1:])
					refusedJWE(t, got, err, "")
				}
			}
			for _, other := range []string{raw + "=", raw + "\n", "\n" + raw, raw + "A", raw[:len(raw)-1], raw + ".", raw[:len(raw)-1] + string(raw[len(raw)-1]+1)} {
				got, err := d.Decrypt(other)
				refusedJWE(t, got, err, "")
			}
		})
	}
}

func refusedJWE(t *testing.T, got string, err error, cause string) {
	t.Helper()
	if got != "" {
		t.Fatalf("decrypted: %q", got)
	}
	refused(t, nil, err, "token_invalid", cause)
}

// jweFor encrypts with any header, which the library would not let us write:
// the header is changed after encryption, so that the tag is wrong too, and each
// refusal before it is told by its cause.
func jweFor(t *testing.T, raw string, changes map[string]any) string {
	t.Helper()
	header, rest, _ := strings.Cut(raw, ".")
	b, err := b64.DecodeString(header)
	if err != nil {
		t.Fatal(err)
	}
	m := make(map[string]any)
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return b64.EncodeToString([]byte(text(t, with(m, changes)))) + "." + rest
}

func TestHostileEncryptedTokens(t *testing.T) {
	d, jws := newDecrypter(t), good(t, token.ES256)
	raw := encryptTo(t, d.PublicJWK(), jws)
	var pub jose.JSONWebKey
	if err := json.Unmarshal(d.PublicJWK(), &pub); err != nil {
		t.Fatal(err)
	}
	by := func(alg jose.KeyAlgorithm, enc jose.ContentEncryption, key any, zip jose.CompressionAlgorithm, cty jose.ContentType, plain string) string {
		t.Helper()
		e, err := jose.NewEncrypter(enc, jose.Recipient{Algorithm: alg, Key: key}, (&jose.EncrypterOptions{Compression: zip}).WithContentType(cty))
		if err != nil {
			t.Fatal(err)
		}
		o, err := e.Encrypt([]byte(plain))
		if err != nil {
			t.Fatal(err)
		}
		s, err := o.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	ec, rsaKey := pub.Key.(*ecdsa.PublicKey), privateKeys()[token.RS256].Public()
	parts := strings.Split(raw, ".")
	dup := func(member string) string {
		b, _ := b64.DecodeString(parts[0])
		return b64.EncodeToString([]byte(strings.Replace(string(b), "{", "{"+member+",", 1))) + raw[len(parts[0]):]
	}
	for _, cty := range []jose.ContentType{"JWT", "jwt"} { // by another's hand, without kid
		if got, err := d.Decrypt(by(jose.ECDH_ES, jose.A256GCM, ec, jose.NONE, cty, jws)); err != nil || got != jws {
			t.Fatalf("%q, %v", got, err)
		}
	}
	for _, tt := range []struct{ name, raw, cause string }{
		{"nothing", "", "five parts"},
		{"a signed token", jws, "five parts"},
		{"six parts", raw + ".x", "five parts"},
		{"a megabyte of dots", strings.Repeat(".", 1<<20), "longer than"},
		{"a token of 16 KiB and one byte", strings.Repeat("a", 16<<10+1), "longer than"},
		{"a header of 2 KiB", jweFor(t, raw, map[string]any{"pad": strings.Repeat("x", 2<<10)}), "longer than"},
		{"compression", by(jose.ECDH_ES, jose.A256GCM, ec, jose.DEFLATE, "JWT", jws), "zip"},
		{"a zip bomb", by(jose.ECDH_ES, jose.A256GCM, ec, jose.DEFLATE, "JWT", strings.Repeat("a", 1<<20)), "zip"},
		{"alg dir", by(jose.DIRECT, jose.A256GCM, make([]byte, 32), jose.NONE, "JWT", jws), "alg"},
		{"alg A256KW", by(jose.A256KW, jose.A256GCM, make([]byte, 32), jose.NONE, "JWT", jws), "alg"},
		{"alg PBES2", by(jose.PBES2_HS256_A128KW, jose.A256GCM, []byte("secret password"), jose.NONE, "JWT", jws), "p2"},
		{"alg ECDH-ES+A256KW", by(jose.ECDH_ES_A256KW, jose.A256GCM, ec, jose.NONE, "JWT", jws), "alg"},
		{"alg RSA1_5", by(jose.RSA1_5, jose.A256GCM, rsaKey, jose.NONE, "JWT", jws), "alg"},
		{"alg RSA-OAEP-256 to an EC key", by(jose.RSA_OAEP_256, jose.A256GCM, rsaKey, jose.NONE, "JWT", jws), "alg"},
		{"enc A128CBC-HS256", by(jose.ECDH_ES, jose.A128CBC_HS256, ec, jose.NONE, "JWT", jws), "enc"},
		{"enc A128GCM", by(jose.ECDH_ES, jose.A128GCM, ec, jose.NONE, "JWT", jws), "enc"},
		{"no cty", by(jose.ECDH_ES, jose.A256GCM, ec, jose.NONE, "", jws), "cty"},
		{"another cty", by(jose.ECDH_ES, jose.A256GCM, ec, jose.NONE, "text", jws), "cty"},
		{"claims without a signature", by(jose.ECDH_ES, jose.A256GCM, ec, jose.NONE, "JWT", claims(nil)), "no signed token"},
		{"an encrypted token in an encrypted token", by(jose.ECDH_ES, jose.A256GCM, ec, jose.NONE, "JWT", raw), "no signed token"},
		{"a signed token of more than 8 KiB", by(jose.ECDH_ES, jose.A256GCM, ec, jose.NONE, "JWT", jws+strings.Repeat("a", 8<<10)), "no signed token"},
		{"another key by kid", jweFor(t, raw, map[string]any{"kid": "x"}), "kid"},
		{"no kid under the same tag", jweFor(t, raw, map[string]any{"kid": nil}), ""},
		{"crit", jweFor(t, raw, map[string]any{"crit": []string{"exp"}}), "crit"},
		{"jwk", jweFor(t, raw, map[string]any{"jwk": map[string]any{}}), "jwk"},
		{"p2c", jweFor(t, raw, map[string]any{"p2c": 1 << 30}), "p2c"},
		{"epk missing", jweFor(t, raw, map[string]any{"epk": nil}), "epk"},
		{"epk a text", jweFor(t, raw, map[string]any{"epk": "x"}), "epk"},
		{"epk private", jweFor(t, raw, map[string]any{"epk": map[string]any{"d": "AA"}}), "private"},
		{"epk off the curve", jweFor(t, raw, map[string]any{"epk": map[string]any{"kty": "EC", "crv": "P-256", "x": strings.Repeat("A", 42) + "E", "y": strings.Repeat("A", 42) + "E"}}), ""},
		{"alg twice", dup(`"alg":"dir"`), "duplicate"},
		{"an encrypted key nobody sent", strings.Join([]string{parts[0], "AAAA", parts[2], parts[3], parts[4]}, "."), "encrypted key"},
		{"no tag", strings.Join([]string{parts[0], "", parts[2], parts[3], ""}, "."), ""},
		{"a short tag", strings.Join([]string{parts[0], "", parts[2], parts[3], parts[4][:16]}, "."), ""},
		{"a nonce too short", strings.Join([]string{parts[0], "", "AAAA", parts[3], parts[4]}, "."), ""},
		{"no nonce", strings.Join([]string{parts[0], "", "", parts[3], parts[4]}, "."), ""},
	} {
		t.Run(tt.name+" is refused", func(t *testing.T) {
			got, err := d.Decrypt(tt.raw)
			refusedJWE(t, got, err, tt.cause)
		})
	}
	for _, none := range []*token.Decrypter{nil, {}} {
		for _, raw := range []string{raw, jweFor(t, raw, map[string]any{"alg": nil, "epk": nil, "kid": nil})} {
			got, err := none.Decrypt(raw)
			refusedJWE(t, got, err, "no key")
		}
	}
	for _, none := range []*token.Encrypter{nil, {}} {
		if got, err := none.Encrypt(jws); err == nil || got != "" {
			t.Error("nobody encrypts")
		}
	}
}

func TestBadEncryptionKeysAreRefused(t *testing.T) {
	jwk := func(alg token.Algorithm, changes map[string]any) string { return text(t, publicJWK(t, alg, changes)) }
	for name, doc := range map[string]string{
		"nothing":                "",
		"a signing key":          jwk(token.ES256, map[string]any{"use": "sig"}),
		"a key for ES256":        jwk(token.ES256, map[string]any{"alg": "ES256"}),
		"a key for RSA1_5":       jwk(token.RS256, map[string]any{"alg": "RSA1_5"}),
		"a key that only signs":  jwk(token.ES256, map[string]any{"key_ops": []string{"verify"}}),
		"a private key":          jwk(token.ES256, map[string]any{"d": "AA"}),
		"a symmetric key":        `{"kty":"oct","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`,
		"a P-384 key":            jwk(token.ES384, nil),
		"an Ed25519 key":         jwk(token.EdDSA, nil),
		"a kid that is no text":  jwk(token.ES256, map[string]any{"kid": 1}),
		"a kid of 257 bytes":     jwk(token.ES256, map[string]any{"kid": strings.Repeat("x", 257)}),
		"a short RSA key":        text(t, map[string]any{"kty": "RSA", "e": "AQAB", "n": b64.EncodeToString([]byte(strings.Repeat("\xff", 128)))}),
		"an exponent of one":     jwk(token.RS256, map[string]any{"e": "AQ"}),
		"a key set, not one key": string(jwks(t, token.ES256)),
	} {
		if e, err := token.NewEncrypter([]byte(doc)); err == nil || e != nil {
			t.Errorf("%s is taken", name)
		}
	}
	e, err := token.NewEncrypter([]byte(jwk(token.ES256, map[string]any{"use": "enc", "alg": "ECDH-ES", "key_ops": []string{"deriveKey"}})))
	if err != nil {
		t.Fatal(err)
	}
	for name, jws := range map[string]string{"nothing": "", "claims without a signature": claims(nil), "too long a token": good(t, token.ES256) + strings.Repeat("a", 8<<10)} {
		if raw, err := e.Encrypt(jws); err == nil || raw != "" {
			t.Errorf("%s is encrypted", name)
		}
	}
}

func TestEncryptersAreShared(t *testing.T) {
	jws := good(t, token.ES256)
	for _, d := range []*token.Decrypter{newDecrypter(t), rsaDecrypter(t)} {
		e, err := token.NewEncrypter(d.PublicJWK())
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 4 {
					raw, err := e.Encrypt(jws)
					if err != nil {
						t.Error(err)
						return
					}
					if got, err := d.Decrypt(raw); err != nil || got != jws {
						t.Errorf("%q, %v", got, err)
					}
				}
			})
		}
		wg.Wait()
	}
}

func TestDecryptionKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "decrypt.jwk")
	d, err := token.OpenDecrypter(at(path))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	again, err := token.OpenDecrypter(at(path))
	if err != nil {
		t.Fatal(err)
	}
	jws := good(t, token.ES256)
	if got, err := again.Decrypt(encryptTo(t, d.PublicJWK(), jws)); err != nil || got != jws {
		t.Errorf("a second load has another key: %v", err)
	}
	bad := filepath.Join(t.TempDir(), "bad")
	p256 := privateKeys()[token.ES256]
	for name, k := range map[string]jose.JSONWebKey{
		"a public key":          {Key: p256.Public(), KeyID: "a", Algorithm: "ECDH-ES", Use: "enc"},
		"a signing key":         {Key: p256, KeyID: "a", Algorithm: "ES256", Use: "sig"},
		"a key without a name":  {Key: p256, Algorithm: "ECDH-ES", Use: "enc"},
		"an Ed25519 key":        {Key: privateKeys()[token.EdDSA], KeyID: "a", Algorithm: "ECDH-ES", Use: "enc"},
		"a symmetric key":       {Key: []byte("0123456789abcdef0123456789abcdef"), KeyID: "a", Algorithm: "dir", Use: "enc"},
		"another key algorithm": {Key: privateKeys()[token.RS256], KeyID: "a", Algorithm: "RSA1_5", Use: "enc"},
	} {
		writeKey(t, bad, k)
		if d, err := token.OpenDecrypter(at(bad)); err == nil || d != nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s is taken: %v", name, err)
		}
	}
	for name, spoil := range map[string]func() error{
		"a file others can read": func() error { return os.Chmod(bad, 0o644) },
		"a broken file":          func() error { return errors.Join(os.Chmod(bad, 0o600), os.WriteFile(bad, []byte("{"), 0o600)) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if d, err := token.OpenDecrypter(at(bad)); err == nil || d != nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is taken", name)
		}
	}
}

func FuzzDecrypt(f *testing.F) {
	jws := good(f, token.ES256)
	ds := []*token.Decrypter{newDecrypter(f), rsaDecrypter(f)}
	good := make(map[string]bool)
	for _, d := range ds {
		raw := encryptTo(f, d.PublicJWK(), jws)
		good[raw] = true
		f.Add(raw)
		f.Add(raw + "=")
		f.Add(strings.Replace(raw, ".", "..", 1))
	}
	f.Add("....")
	f.Add("eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0....")
	f.Add(b64.EncodeToString([]byte(`{"alg":"ECDH-ES","enc":"A256GCM","cty":"JWT","epk":{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}}`)) + "..AAAAAAAAAAAAAAAA.AA.AAAAAAAAAAAAAAAAAAAAAA")
	f.Add(b64.EncodeToString([]byte(`{"alg":"RSA-OAEP-256","enc":"A256GCM","cty":"JWT"}`)) + ".AA.AAAAAAAAAAAAAAAA.AA.AAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, raw string) {
		for _, d := range ds {
			// Nobody else encrypts here: what opens is what was made above, byte for byte.
			if got, err := d.Decrypt(raw); err == nil && (!good[raw] || got != jws) {
				t.Fatalf("%q opens as %q", raw, got)
			}
		}
	})
}

func BenchmarkJWE(b *testing.B) {
	jws := good(b, token.ES256)
	for name, d := range map[string]*token.Decrypter{"ECDH-ES": newDecrypter(b), "RSA-OAEP-256": rsaDecrypter(b)} {
		e, err := token.NewEncrypter(d.PublicJWK())
		if err != nil {
			b.Fatal(err)
		}
		raw, err := e.Encrypt(jws)
		if err != nil {
			b.Fatal(err)
		}
		b.Run("encrypt/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := e.Encrypt(jws); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("decrypt/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.Decrypt(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// maxJWE bounds an encrypted token in bytes: a token of the usual size, as
// base64url once more, with a header and an encrypted key of 4096 bits.
const maxJWE = 16 << 10

// Encrypted reports whether raw has the five parts of a compact JWE (RFC 7516
// §7.1) and is thus for a [Decrypter].
func Encrypted(raw string) bool { return strings.Count(raw, ".") == 4 }

// An Encrypter wraps signed tokens for the one service that may read them: a
// nested JWT (RFC 7519 §11.2), signed and then encrypted. It is safe for
// concurrent use.
type Encrypter struct{ enc jose.Encrypter }

// NewEncrypter takes the service's public JWK (RFC 7517), of at most 16 KiB: a
// P-256 key is used with ECDH-ES, an RSA key of 2048 to 4096 bits with
// RSA-OAEP-256, both with A256GCM. A key that is for something else or holds a
// private part is an error.
func NewEncrypter(publicJWK []byte) (*Encrypter, error) {
	m, err := readJWK(publicJWK)
	if err != nil {
		return nil, fmt.Errorf("encryption key: %w", err)
	}
	pub, _, err := publicKey(m)
	if err != nil {
		return nil, fmt.Errorf("encryption key: %w", err)
	}
	alg, err := wraps(pub)
	if err != nil {
		return nil, fmt.Errorf("encryption key: %w", err)
	}
	var id, use, named string
	if err := errors.Join(textClaim(m, "kid", &id), textClaim(m, "use", &use), textClaim(m, "alg", &named)); err != nil {
		return nil, fmt.Errorf("encryption key: %w", err)
	}
	switch {
	case len(id) > maxKeyID:
		return nil, fmt.Errorf("encryption key: its kid is longer than %d bytes", maxKeyID)
	case use != "" && use != "enc":
		return nil, fmt.Errorf("encryption key: it is for the use %q, not enc", use)
	case named != "" && named != string(alg):
		return nil, fmt.Errorf("encryption key: it is for the alg %q; only %s is used with its type", named, alg)
	}
	if ops, has := m["key_ops"]; has {
		list, _ := ops.([]any)
		if !slices.ContainsFunc(list, func(op any) bool {
			return op == "deriveKey" || op == "deriveBits" || op == "wrapKey" || op == "encrypt"
		}) {
			return nil, errors.New("encryption key: its key_ops do not include encryption")
		}
	}
	enc, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: alg, Key: pub, KeyID: id}, (&jose.EncrypterOptions{}).WithContentType("JWT"))
	if err != nil {
		return nil, fmt.Errorf("encryption key: %w", err)
	}
	return &Encrypter{enc}, nil
}

// wraps returns the one key management algorithm that a key is used with here.
func wraps(pub crypto.PublicKey) (jose.KeyAlgorithm, error) {
	if _, err := fits(pub); err != nil {
		return "", err
	}
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return jose.ECDH_ES, nil
		}
	case *rsa.PublicKey:
		return jose.RSA_OAEP_256, nil
	}
	return "", errors.New("only P-256 and RSA keys encrypt")
}

// Encrypt returns jws, a token of at most 8 KiB that has just been signed, as a
// compact JWE.
func (e *Encrypter) Encrypt(jws string) (string, error) {
	if e == nil || e.enc == nil {
		return "", errors.New("encrypt: no key")
	}
	if _, err := split(jws, defaultMaxSize); err != nil {
		return "", fmt.Errorf("encrypt: %w", err)
	}
	object, err := e.enc.Encrypt([]byte(jws))
	if err != nil {
		return "", fmt.Errorf("encrypt: %w", err)
	}
	return object.CompactSerialize()
}

// A Decrypter opens tokens that were encrypted to this gateway. What it gives
// back is not to be trusted before a [Verifier] has: anybody can encrypt to a
// public key. It is safe for concurrent use; the nil and the
// zero Decrypter refuse.
type Decrypter struct {
	private   any // *ecdsa.PrivateKey or *rsa.PrivateKey
	alg       jose.KeyAlgorithm
	id        string
	published []byte
}

// NewDecrypter makes a Decrypter with a P-256 key that lives in memory only.
func NewDecrypter() (*Decrypter, error) {
	k, err := newDecryptKey()
	if err != nil {
		return nil, err
	}
	return openDecrypter(k)
}

// OpenDecrypter reads the key that a keeper has under a name, or makes one there. Who
// has read it reads the tokens.
func OpenDecrypter(k Keeper, name string) (d *Decrypter, err error) {
	err = kept{k, name}.open(func(doc Document) error {
		var key jwk
		if err := json.Unmarshal(doc.Text, &key); err != nil {
			// The cause could quote the file; the place is enough.
			return fmt.Errorf("%s is not a decryption key file; restore it, or move it away to have a new one made", doc.Place)
		}
		var err error
		if d, err = openDecrypter(key); err != nil {
			return fmt.Errorf("%s: %w; restore it, or move it away to have a new one made", doc.Place, err)
		}
		return nil
	}, func() (any, error) { return newDecryptKey() })
	if err != nil {
		return nil, fmt.Errorf("decryption key: %w", err)
	}
	return d, nil
}

func newDecryptKey() (jwk, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return jwk{}, fmt.Errorf("decryption key: %w", err)
	}
	k := jose.JSONWebKey{Key: private, Algorithm: string(jose.ECDH_ES), Use: "enc"}
	sum, err := k.Thumbprint(crypto.SHA256)
	if err != nil {
		return jwk{}, fmt.Errorf("decryption key: %w", err)
	}
	k.KeyID = strict64.EncodeToString(sum)
	return jwk{Key: k, Since: time.Now().UTC().Truncate(time.Second)}, nil
}

func openDecrypter(k jwk) (*Decrypter, error) {
	private, ok := k.Key.Key.(interface{ Public() crypto.PublicKey })
	if !ok || k.Key.IsPublic() {
		return nil, errors.New("it holds no private key")
	}
	alg, err := wraps(private.Public())
	if err != nil {
		return nil, err
	}
	if k.Key.KeyID == "" || k.Key.Algorithm != string(alg) || k.Key.Use != "enc" {
		return nil, fmt.Errorf("a kid, the use enc and the alg %s are required", alg)
	}
	public, err := k.Key.Public().MarshalJSON()
	if err != nil {
		return nil, err
	}
	return &Decrypter{private: k.Key.Key, alg: alg, id: k.Key.KeyID, published: public}, nil
}

// PublicJWK returns the public key as a JWK, for the JWK Set in which issuers
// look for it. The caller must not change it.
func (d *Decrypter) PublicJWK() []byte { return d.published }

// Decrypt returns the signed token in raw, a compact JWE of at most 16 KiB. The
// key management is the one its own key is for, the content encryption A256GCM;
// compression, critical headers and keys from the token are refused, and so is
// content that does not call itself a JWT (cty, RFC 7519 §5.2). The error is a
// token_invalid Problem, whatever was wrong.
func (d *Decrypter) Decrypt(raw string) (string, error) {
	jws, err := d.decrypt(raw)
	if err != nil {
		return "", invalid(fmt.Errorf("encrypted token: %w", err))
	}
	return jws, nil
}

func (d *Decrypter) decrypt(raw string) (string, error) {
	switch {
	case d == nil || d.private == nil:
		return "", errors.New("no key")
	case len(raw) > maxJWE:
		return "", fmt.Errorf("it is longer than %d bytes", maxJWE)
	case !Encrypted(raw):
		return "", errors.New("not five parts between four dots")
	}
	header, rest, _ := strings.Cut(raw, ".")
	if err := d.checkHeader(header); err != nil {
		return "", err
	}
	// All of it must have one spelling: what a cache or a list of revoked tokens
	// knows by its bytes must not come back under others.
	buf := make([]byte, 0, len(rest))
	wrapped := true
	for part := range strings.SplitSeq(rest, ".") {
		if _, err := decode64(buf, part); err != nil {
			return "", err
		}
		// With ECDH-ES the key is agreed upon, not sent (RFC 7516 §5.1 step 5).
		if wrapped && (part == "") != (d.alg == jose.ECDH_ES) {
			return "", errors.New("the encrypted key does not fit alg")
		}
		wrapped = false
	}
	object, err := jose.ParseEncryptedCompact(raw, []jose.KeyAlgorithm{d.alg}, []jose.ContentEncryption{jose.A256GCM})
	if err != nil {
		return "", err
	}
	plain, err := object.Decrypt(d.private)
	if err != nil {
		return "", err
	}
	jws := string(plain)
	if _, err := split(jws, defaultMaxSize); err != nil {
		return "", fmt.Errorf("its content is no signed token: %w", err)
	}
	return jws, nil
}

// checkHeader reads the JOSE header (RFC 7516 §4.1) before the library does.
func (d *Decrypter) checkHeader(encoded string) error {
	if len(encoded) > strict64.EncodedLen(maxHeader) {
		return fmt.Errorf("the header is longer than %d bytes", maxHeader)
	}
	var buf [maxHeader]byte
	b, err := decode64(buf[:0], encoded)
	if err != nil {
		return fmt.Errorf("header: %w", err)
	}
	var alg, enc, cty, kid string
	epk := false
	err = readObject(b, func(r *reader, name string) (err error) {
		switch name {
		case "alg":
			alg, err = r.text(name)
		case "enc":
			enc, err = r.text(name)
		case "cty":
			cty, err = r.text(name)
		case "kid":
			kid, err = r.text(name)
		case "typ", "apu", "apv":
			_, err = r.text(name)
		case "epk":
			var v any
			if v, err = r.value(); err == nil {
				var m map[string]any
				if m, epk = v.(map[string]any); epk {
					err = noSecrets(m)
				}
			}
		case "zip", "crit", "b64", "jwk", "jku", "x5u", "x5c", "p2c", "p2s", "iv", "tag":
			// zip makes a small token large (CVE-2024-28180) and its length tell of
			// its content; p2c orders work (CVE-2023-50658); the rest as in a JWS.
			err = fmt.Errorf("the member %s is not accepted", name)
		default:
			_, err = r.value()
		}
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("header: %w", err)
	case alg != string(d.alg):
		return fmt.Errorf("header: alg is not %s", d.alg)
	case enc != string(jose.A256GCM):
		return errors.New("header: enc is not A256GCM")
	case !strings.EqualFold(cty, "JWT"):
		return errors.New("header: cty is not JWT")
	case kid != "" && kid != d.id:
		return errors.New("header: kid names another key")
	case epk != (d.alg == jose.ECDH_ES):
		return errors.New("header: epk does not fit alg")
	}
	return nil
}

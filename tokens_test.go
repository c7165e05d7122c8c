package gatehouse_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/rogpeppe/go-internal/testscript"
)

// issuer makes the key of an authorization server that is not ours, with a
// library that is not ours.
func issuer(ts *testscript.TestScript, _ bool, _ []string) {
	w := worldOf(ts)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	w.key = &jose.JSONWebKey{Key: key, KeyID: "script-1", Algorithm: "ES256", Use: "sig"}
	b, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{w.key.Public()}})
	ts.Check(err)
	ts.Check(os.WriteFile(filepath.Join(w.dir, "jwks.json"), b, 0o600))
}

// mintToken is the script command token: token alice roles=support,manager scope='orders:read'.
// Some names are not claims: exp=-60 makes a token that expired a minute ago,
// typ=JWT changes the header's type, alg=none leaves the signature out, alg=HS256
// signs with our public key as the secret, key=other with a key nobody published.
func mintToken(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	now := time.Now()
	claims := map[string]any{
		"iss": "https://issuer.example", "aud": "orders", "sub": args[0], "client_id": "script",
		"iat": now.Unix(), "exp": now.Add(10 * time.Minute).Unix(), "jti": args[0],
	}
	alg, typ, key := "ES256", "at+jwt", *w.key
	for _, a := range args[1:] {
		k, v, ok := strings.Cut(a, "=")
		if !ok {
			ts.Fatalf("token: %q is not CLAIM=VALUE", a)
		}
		switch k {
		case "alg":
			alg = v
		case "typ":
			typ = v
		case "key":
			other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			ts.Check(err)
			key.Key = other
		case "exp":
			d, err := time.ParseDuration(v + "s")
			ts.Check(err)
			claims["exp"] = now.Add(d).Unix()
		case "roles":
			claims[k] = strings.Split(v, ",")
		default:
			var parsed any
			if json.Unmarshal([]byte(v), &parsed) == nil {
				claims[k] = parsed
			} else {
				claims[k] = v
			}
		}
	}
	payload, err := json.Marshal(claims)
	ts.Check(err)
	compact, err := sign(alg, typ, &key, payload)
	ts.Check(err)
	w.tokens = append(w.tokens, compact)
	ts.Check(os.WriteFile(filepath.Join(w.dir, args[0]+".header"), []byte("Authorization: Bearer "+compact), 0o600))
	ts.Check(os.WriteFile(filepath.Join(w.dir, args[0]+".jwt"), []byte(compact), 0o600))
}

func sign(alg, typ string, key *jose.JSONWebKey, payload []byte) (string, error) {
	if alg == "none" {
		b := base64.RawURLEncoding
		return b.EncodeToString([]byte(`{"alg":"none","typ":"`+typ+`"}`)) + "." + b.EncodeToString(payload) + ".", nil
	}
	with := jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: key}
	if alg == "HS256" {
		public, err := x509.MarshalPKIXPublicKey(key.Public().Key)
		if err != nil {
			return "", err
		}
		secret := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
		with.Key = jose.JSONWebKey{Key: secret, KeyID: key.KeyID}
	}
	signer, err := jose.NewSigner(with, (&jose.SignerOptions{}).WithType(jose.ContentType(typ)))
	if err != nil {
		return "", err
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return jws.CompactSerialize()
}

// verifyToken is what a service does with the token it is given, by the keys the
// gateway publishes and a library that is not ours.
func verifyToken(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: verify TOKEN AUDIENCE")
	}
	resp, err := http.Get(ts.Getenv("ADMIN") + "/jwks.json")
	ts.Check(err)
	defer func() { _ = resp.Body.Close() }()
	var keys jose.JSONWebKeySet
	ts.Check(json.NewDecoder(resp.Body).Decode(&keys))
	t, err := jwt.ParseSigned(args[0], []jose.SignatureAlgorithm{jose.ES256})
	ts.Check(err)
	var std jwt.Claims
	var all map[string]any
	err = t.Claims(keys, &std, &all)
	if err == nil {
		err = std.ValidateWithLeeway(jwt.Expected{Issuer: "gatehouse", AnyAudience: jwt.Audience{args[1]}, Time: time.Now()}, 0)
	}
	if neg {
		if err == nil {
			ts.Fatalf("the token is good, and should not be")
		}
		return
	}
	ts.Check(err)
	if typ := t.Headers[0].ExtraHeaders["typ"]; typ != "at+jwt" {
		ts.Fatalf("typ is %v", typ)
	}
	b, err := json.Marshal(all)
	ts.Check(err)
	_, _ = ts.Stdout().Write(append(b, '\n'))
}

// An authority signs callers' certificates; it is not the gateway's own.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// certificate is the script command certificate: certificate partner spiffe://example/partner.
func certificate(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 || len(args) == 3 && args[2] != "own" {
		ts.Fatalf("usage: certificate NAME URI [own]")
	}
	w := worldOf(ts)
	if w.ca == nil {
		w.ca = newAuthority(ts)
		ts.Check(os.WriteFile(filepath.Join(w.dir, "callers-ca.pem"), pemOf(w.ca.cert.Raw), 0o600))
	}
	ca := w.ca
	if len(args) == 3 {
		ca = newAuthority(ts)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	uri, err := url.Parse(args[1])
	ts.Check(err)
	raw, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: args[0]}, URIs: []*url.URL{uri},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, ca.cert, &key.PublicKey, ca.key)
	ts.Check(err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	both := append(pemOf(raw), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...)
	ts.Check(os.WriteFile(filepath.Join(w.dir, args[0]+".pem"), both, 0o600))
}

func newAuthority(ts *testscript.TestScript) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "callers"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	ts.Check(err)
	cert, err := x509.ParseCertificate(raw)
	ts.Check(err)
	return &authority{cert, key}
}

func pemOf(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// proof is the script command proof: proof bot POST /token token=… nonce=… sets what
// RFC 9449 §4.2 wants in a DPoP proof; iat=-600 dates it ten minutes back.
func proof(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: proof NAME METHOD PATH [token=TOKEN] [nonce=NONCE] [iat=SECONDS]")
	}
	w := worldOf(ts)
	if w.proofs == nil {
		w.proofs = map[string]*ecdsa.PrivateKey{}
	}
	key := w.proofs[args[0]]
	if key == nil {
		var err error
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		ts.Check(err)
		w.proofs[args[0]] = key
	}
	claims := map[string]any{"htm": args[1], "htu": absolute(ts, args[2]).String(), "jti": rand.Text(), "iat": time.Now().Unix()}
	for _, a := range args[3:] {
		switch k, v, _ := strings.Cut(a, "="); k {
		case "token":
			sum := sha256.Sum256([]byte(v))
			claims["ath"] = base64.RawURLEncoding.EncodeToString(sum[:])
		case "nonce":
			claims["nonce"] = v
		case "iat":
			d, err := time.ParseDuration(v + "s")
			ts.Check(err)
			claims["iat"] = time.Now().Add(d).Unix()
		default:
			ts.Fatalf("proof: what is %s?", a)
		}
	}
	payload, err := json.Marshal(claims)
	ts.Check(err)
	compact, err := signed(key, (&jose.SignerOptions{EmbedJWK: true}).WithType("dpop+jwt"), payload)
	ts.Check(err)
	ts.Check(os.WriteFile(filepath.Join(w.dir, args[0]+".dpop"), []byte("DPoP: "+compact), 0o600))
}

// tamper is the script command tamper: tamper FORGED $TOKEN none. What it makes of a
// good token of the gateway's has its claims, and a signature that is not the
// gateway's: none at all; an HMAC with the public key as its secret (hs256); one of a
// key that the header points to as a file (kid) or brings along (jwk). With roles the
// claims are changed below the good signature, with cut a byte is missing.
func tamper(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: tamper NAME TOKEN none|hs256|kid|jwk|roles|cut")
	}
	parts := strings.Split(args[1], ".")
	if len(parts) != 3 {
		ts.Fatalf("no JWT: %d parts", len(parts))
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	ts.Check(err)
	public := gateKey(ts, parts[0])
	var out string
	switch args[2] {
	case "none":
		out, err = sign("none", "at+jwt", nil, payload)
	case "hs256":
		out, err = sign("HS256", "at+jwt", public, payload)
	case "kid":
		// The library refuses so short a secret as an empty file's, an attacker's does not.
		b := base64.RawURLEncoding
		out = b.EncodeToString([]byte(`{"alg":"HS256","typ":"at+jwt","kid":"../../../../dev/null"}`)) + "." + parts[1]
		mac := hmac.New(sha256.New, nil)
		_, _ = mac.Write([]byte(out))
		out += "." + b.EncodeToString(mac.Sum(nil))
	case "jwk":
		var own *ecdsa.PrivateKey
		own, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		ts.Check(err)
		out, err = signed(own, (&jose.SignerOptions{EmbedJWK: true}).WithType("at+jwt"), payload)
	case "roles":
		var claims map[string]any
		ts.Check(json.Unmarshal(payload, &claims))
		claims["roles"] = []string{"manager"}
		payload, err = json.Marshal(claims)
		out = parts[0] + "." + base64.RawURLEncoding.EncodeToString(payload) + "." + parts[2]
	case "cut":
		out = args[1][:len(args[1])-1]
	default:
		ts.Fatalf("tamper: what is %s?", args[2])
	}
	ts.Check(err)
	ts.Setenv(args[0], out)
}

func signed(key *ecdsa.PrivateKey, o *jose.SignerOptions, payload []byte) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, o)
	if err != nil {
		return "", err
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return jws.CompactSerialize()
}

// gateKey is the public key that the header of a token names.
func gateKey(ts *testscript.TestScript, head string) *jose.JSONWebKey {
	b, err := base64.RawURLEncoding.DecodeString(head)
	ts.Check(err)
	var h struct{ Kid string }
	ts.Check(json.Unmarshal(b, &h))
	resp, err := browserOf(ts, "anybody").client.Get(ts.Getenv("GATE") + "/jwks.json")
	ts.Check(err)
	defer func() { _ = resp.Body.Close() }()
	var keys jose.JSONWebKeySet
	ts.Check(json.NewDecoder(resp.Body).Decode(&keys))
	found := keys.Key(h.Kid)
	if len(found) != 1 {
		ts.Fatalf("%d keys of id %q", len(found), h.Kid)
	}
	return &found[0]
}

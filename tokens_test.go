package gatehouse_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
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

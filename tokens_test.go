package gatehouse_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
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

// mintToken is the script command token: token alice sub=alice roles=support,manager scope='orders:read'.
// exp=-60 makes one that expired a minute ago, typ=JWT changes the header's type.
func mintToken(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	now := time.Now()
	claims := map[string]any{
		"iss": "https://issuer.example", "aud": "orders", "sub": args[0], "client_id": "script",
		"iat": now.Unix(), "exp": now.Add(10 * time.Minute).Unix(), "jti": args[0],
	}
	opts := (&jose.SignerOptions{}).WithType("at+jwt")
	for _, a := range args[1:] {
		k, v, ok := strings.Cut(a, "=")
		if !ok {
			ts.Fatalf("token: %q is not CLAIM=VALUE", a)
		}
		switch k {
		case "typ":
			opts = opts.WithType(jose.ContentType(v))
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
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: w.key}, opts)
	ts.Check(err)
	jws, err := signer.Sign(payload)
	ts.Check(err)
	compact, err := jws.CompactSerialize()
	ts.Check(err)
	ts.Check(os.WriteFile(filepath.Join(w.dir, args[0]+".header"), []byte("Authorization: Bearer "+compact), 0o600))
	ts.Check(os.WriteFile(filepath.Join(w.dir, args[0]+".jwt"), []byte(compact), 0o600))
}

package token_test

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/gatehouse-api/gatehouse/internal/token"
)

func seeds(f *testing.F) {
	for _, header := range []string{
		`{"alg":"ES256","typ":"at+jwt","kid":"ES256"}`,
		`{"alg":"ES256","kid":"ES256"}`,
		`{"alg":"EdDSA","typ":"application/at+jwt","kid":"EdDSA","x":[1,{"a":null}]}`,
		`{"alg":"none"}`, `{"alg":"HS256","kid":"ES256"}`, `{"alg":"ES256","alg":"none","kid":"ES256"}`,
		`{"alg":"ES256","crit":["b64"],"b64":false,"kid":"ES256"}`, `{"alg":"ES256","\u0061lg":"none","kid":"ES256"}`,
		`{"ALG":"none","alg":"ES256","kid":"ES256"}`, ` {"alg":"ES256","kid":"ES256"} `, `{"alg":"ES256","kid":"ES256"}x`,
	} {
		f.Add(header, claims(nil))
	}
	h := head(token.ES256)
	for _, payload := range []string{
		claims(map[string]any{"aud": []string{audience, "x"}, "scp": []string{"a"}, "cnf": map[string]any{"jkt": "x"}, "deep": []any{map[string]any{"a": 1.5}}}),
		strings.Replace(claims(nil), `"sub":`, `"sub":"root","sub":`, 1),
		strings.Replace(claims(nil), `"sub":`, `"SUB":"root","sub":`, 1),
		strings.Replace(claims(nil), `"exp":`, `"exp":1e10,"x":`, 1),
		strings.Replace(claims(nil), `"exp":`, `"exp":4102444800.75,"x":`, 1),
		strings.Replace(claims(nil), `"sub":`, `"n":[9007199254740993,-0,1E+2,18446744073709551616],"sub":`, 1),
		strings.Replace(claims(nil), "alice", `al\u0000\ud83d\ude00\/"`, 1), strings.Replace(claims(nil), "alice", "al\xc3\x28", 1),
		`{}`, `[]`, `null`, ``, "\ufeff{}", `{"iss":{}}`, claims(nil) + " ", claims(nil) + "{}", "\t" + claims(nil),
	} {
		f.Add(h, payload)
	}
}

// FuzzVerify signs header and payload rightly, so that everything past the
// signature is reached, and compares with go-jose: what we accept it must
// accept, reading the same claims. What it rejects we must reject.
func FuzzVerify(f *testing.F) {
	seeds(f)
	doc := jwks(f, token.ES256, token.EdDSA)
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(doc, &set); err != nil {
		f.Fatal(err)
	}
	v := newVerifier(f, staticKeys(f, doc), func(c *token.VerifierConfig) { c.TypAny = true })
	f.Fuzz(func(t *testing.T, header, payload string) {
		alg := token.ES256
		if strings.Contains(header, "EdDSA") {
			alg = token.EdDSA
		}
		raw := sign(t, alg, privateKeys()[alg], header, payload)
		ours, err := v.Verify(t.Context(), raw)
		if iss, e := token.UnverifiedIssuer(raw); err == nil && (e != nil || iss != ours.Issuer) {
			t.Fatalf("UnverifiedIssuer %q, %v; Verify %q", iss, e, ours.Issuer)
		}
		if err != nil {
			return
		}
		parsed, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA})
		if err != nil {
			t.Fatalf("go-jose does not parse what we accept: %v", err)
		}
		var theirs jwt.Claims
		all := make(map[string]any)
		if err := parsed.Claims(set, &theirs, &all); err != nil {
			t.Fatalf("go-jose refuses what we accept: %v", err)
		}
		if err := theirs.ValidateWithLeeway(jwt.Expected{Issuer: issuerURL, AnyAudience: jwt.Audience{audience}, Time: time.Now()}, 31*time.Second); err != nil {
			t.Fatalf("go-jose refuses the claims we accept: %v", err)
		}
		if theirs.Subject != ours.Subject || theirs.Issuer != ours.Issuer || theirs.ID != ours.JTI ||
			fmt.Sprint([]string(theirs.Audience)) != fmt.Sprint(ours.Audience) || theirs.Expiry.Time().Unix() != ours.Expires.Unix() {
			t.Fatalf("claims differ:\nours   %+v\ntheirs %+v", ours, theirs)
		}
		if !reflect.DeepEqual(floats(ours.Raw), floats(all)) {
			t.Fatalf("claims differ:\nours   %#v\ntheirs %#v", ours.Raw, all)
		}
	})
}

// floats makes all numbers float64, as go-jose has them.
func floats(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(v))
		for name := range v {
			m[name] = floats(v[name])
		}
		return m
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = floats(v[i])
		}
		return list
	case int64:
		return float64(v)
	case float64:
		if v == 0 {
			return math.Abs(v)
		}
	}
	return v
}

// FuzzToken feeds strangers' bytes: nothing may panic, and nothing may be
// accepted that the issuer did not sign byte for byte.
func FuzzToken(f *testing.F) {
	raw := good(f, token.ES256)
	for _, s := range []string{raw, raw + "=", "..", "a.b.c", "e30.e30.AA", "eyJhbGciOiJub25lIn0.e30.AA", strings.Replace(raw, ".", "\n.", 1), "a.b.c.d.e"} {
		f.Add(s)
	}
	v := newVerifier(f, staticKeys(f, jwks(f, token.ES256)), nil)
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := v.Verify(t.Context(), s); err == nil && s != raw {
			t.Fatalf("accepted %q", s)
		}
		_, _ = token.UnverifiedIssuer(s)
	})
}

// FuzzJWKS feeds what a broken or hostile issuer may publish.
func FuzzJWKS(f *testing.F) {
	f.Add(jwks(f, token.Algorithms()...))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AA"},{"kty":"EC","crv":"P-256","x":"AA","y":"AA"},{"kty":"RSA","n":"AQ","e":"AQ"},7]}`))
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","key_ops":["verify"]}]}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		keys, err := token.NewKeySet(token.KeySetConfig{Static: doc}, nil)
		if err != nil || doc == nil {
			return
		}
		if n := keys.Status().Keys; n > 100 {
			t.Fatalf("%d keys", n)
		}
	})
}

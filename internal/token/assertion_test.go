package token_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/gatehouse-api/gatehouse/internal/token"
)

const asURL = "https://as.example"

func assertionClaims(changes edit) string {
	now := time.Now().Unix()
	c := edit{"iss": "c1", "sub": "c1", "aud": asURL, "jti": "j1", "iat": now, "exp": now + 60, "client_id": nil, "scope": nil}
	maps.Copy(c, changes)
	return claims(c)
}

func assertion(t testing.TB, alg token.Algorithm, header, changes edit) string {
	t.Helper()
	h := with(edit{"alg": string(alg), "kid": string(alg)}, header)
	return sign(t, alg, privateKeys()[alg], text(t, h), assertionClaims(changes))
}

func assertionCheck() token.AssertionCheck {
	return token.AssertionCheck{Client: "c1", Audiences: []string{asURL, asURL + "/token"}}
}

func TestAssertions(t *testing.T) {
	for _, alg := range token.Algorithms() {
		a, err := token.VerifyAssertion(assertion(t, alg, nil, nil), jwks(t, token.Algorithms()...), assertionCheck())
		if err != nil {
			t.Errorf("%s: %v", alg, err)
		} else if a.Issuer != "c1" || a.Subject != "c1" || a.JTI != "j1" || a.Expires.Sub(a.IssuedAt) != time.Minute {
			t.Errorf("%s: %+v", alg, a)
		}
	}
	now := time.Now().Unix()
	bare := func(algs ...token.Algorithm) []byte { // keys without kid, alg and use
		var list []any
		for _, alg := range algs {
			list = append(list, publicJWK(t, alg, nil))
		}
		return []byte(text(t, edit{"keys": list}))
	}
	keys := jwks(t, token.ES256, token.RS256, token.PS256)
	for _, tt := range []struct {
		name   string
		raw    string
		jwks   []byte
		change func(*token.AssertionCheck)
		cause  string // "" is accepted
	}{
		{"typ JWT", assertion(t, token.ES256, edit{"typ": "JWT"}, nil), keys, nil, ""},
		{"typ client-authentication+jwt", assertion(t, token.ES256, edit{"typ": "client-authentication+jwt"}, nil), keys, nil, ""},
		{"the other audience", assertion(t, token.ES256, nil, edit{"aud": asURL + "/token"}), keys, nil, ""},
		{"iat and nbf 8 s ahead", assertion(t, token.ES256, nil, edit{"iat": now + 8, "nbf": now + 8}), keys, nil, ""},
		{"keys without names", assertion(t, token.PS256, edit{"kid": nil}, nil), bare(token.ES256, token.PS256), nil, ""},
		{"EdDSA by its name of RFC 9864, in the key, too", assertion(t, token.EdDSA, edit{"alg": "Ed25519", "kid": nil}, nil), []byte(text(t, edit{"keys": []any{publicJWK(t, token.EdDSA, edit{"alg": "Ed25519"})}})), nil, ""},
		{"Ed25519 with a P-256 key", assertion(t, token.ES256, edit{"alg": "Ed25519"}, nil), keys, nil, "no key"},
		{"no iat", assertion(t, token.ES256, nil, edit{"iat": nil}), keys, nil, ""},

		{"typ at+jwt", assertion(t, token.ES256, edit{"typ": "at+jwt"}, nil), keys, nil, "typ"},
		{"typ dpop+jwt", assertion(t, token.ES256, edit{"typ": "dpop+jwt"}, nil), keys, nil, "typ"},
		{"alg none", assertion(t, token.ES256, edit{"alg": "none"}, nil), keys, nil, "alg"},
		{"alg HS256", assertion(t, token.ES256, edit{"alg": "HS256"}, nil), keys, nil, "alg"},
		{"RS256 where FAPI 2.0 holds [EnsureSignedClientAssertionWithRS256Fails]", assertion(t, token.RS256, nil, nil), keys, func(c *token.AssertionCheck) {
			c.Algorithms = []token.Algorithm{token.PS256, token.ES256, token.EdDSA}
		}, "alg"},
		{"no algorithm allowed", assertion(t, token.ES256, nil, nil), keys, func(c *token.AssertionCheck) { c.Algorithms = []token.Algorithm{} }, "alg"},
		{"a key the client has not", assertion(t, token.EdDSA, nil, nil), keys, nil, "no key"},
		{"a key named like another", assertion(t, token.ES256, edit{"kid": "PS256"}, nil), keys, nil, "no key"},
		{"a key of its own", assertion(t, token.ES256, edit{"jwk": publicJWK(t, token.ES256, nil)}, nil), keys, nil, "jwk"},
		{"crit", assertion(t, token.ES256, edit{"crit": []string{"exp"}}, nil), keys, nil, "crit"},
		{"a signature of another payload", strings.Join(append(strings.Split(assertion(t, token.ES256, nil, edit{"jti": "j2"}), ".")[:2], strings.Split(assertion(t, token.ES256, nil, nil), ".")[2]), "."), keys, nil, "signature"},
		{"iss another client", assertion(t, token.ES256, nil, edit{"iss": "c2"}), keys, nil, "iss"},
		{"sub another client", assertion(t, token.ES256, nil, edit{"sub": "c2"}), keys, nil, "sub"},
		{"sub missing [EnsureClientAssertionWithNoSubFails]", assertion(t, token.ES256, nil, edit{"sub": nil}), keys, nil, "sub"},
		{"aud wrong [EnsureClientAssertionWithWrongAudFails]", assertion(t, token.ES256, nil, edit{"aud": "https://other.example"}), keys, nil, "aud"},
		{"aud a list [PARArrayAsAudienceForClientAssertionFails]", assertion(t, token.ES256, nil, edit{"aud": []string{asURL}}), keys, nil, "aud"},
		{"aud missing", assertion(t, token.ES256, nil, edit{"aud": nil}), keys, nil, "aud"},
		{"aud with a slash more", assertion(t, token.ES256, nil, edit{"aud": asURL + "/"}), keys, nil, "aud"},
		{"jti missing", assertion(t, token.ES256, nil, edit{"jti": nil}), keys, nil, "jti"},
		{"jti of 257 bytes", assertion(t, token.ES256, nil, edit{"jti": strings.Repeat("x", 257)}), keys, nil, "jti"},
		{"exp missing", assertion(t, token.ES256, nil, edit{"exp": nil}), keys, nil, "exp"},
		{"exp 5 min ago [EnsureClientAssertionWithExpIs5MinutesInPastFails]", assertion(t, token.ES256, nil, edit{"iat": now - 360, "exp": now - 300}), keys, nil, "exp"},
		{"exp now", assertion(t, token.ES256, nil, edit{"exp": now}), keys, nil, "exp"},
		{"exp an hour ahead", assertion(t, token.ES256, nil, edit{"exp": now + 3600}), keys, nil, "ahead"},
		{"a life of an hour", assertion(t, token.ES256, nil, edit{"iat": now - 3500, "exp": now + 100}), keys, nil, "longer"},
		{"nbf over 60 s ahead", assertion(t, token.ES256, nil, edit{"nbf": now + 70}), keys, nil, "nbf"},
		{"iat over 60 s ahead", assertion(t, token.ES256, nil, edit{"iat": now + 70}), keys, nil, "iat"},
		{"a claim twice", sign(t, token.ES256, privateKeys()[token.ES256], `{"alg":"ES256","kid":"ES256"}`, strings.Replace(assertionClaims(nil), `"sub"`, `"sub":"c2","sub"`, 1)), keys, nil, "duplicate"},
		{"too long", assertion(t, token.ES256, nil, edit{"pad": strings.Repeat("x", 8<<10)}), keys, nil, "longer"},
		{"no key set", assertion(t, token.ES256, nil, nil), nil, nil, "JWK Set"},
		{"an empty key set", assertion(t, token.ES256, nil, nil), []byte(`{"keys":[]}`), nil, "no key"},
		{"a key set with a private key", assertion(t, token.ES256, nil, nil), []byte(text(t, edit{"keys": []any{publicJWK(t, token.ES256, edit{"d": "AA", "kid": "ES256"})}})), nil, "private"},
		{"no client", assertion(t, token.ES256, nil, edit{"iss": "", "sub": ""}), keys, func(c *token.AssertionCheck) { c.Client = "" }, "nothing"},
		{"no audience", assertion(t, token.ES256, nil, edit{"aud": ""}), keys, func(c *token.AssertionCheck) { c.Audiences = []string{""} }, "nothing"},
		{"nothing", "", keys, nil, "three parts"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			check := assertionCheck()
			if tt.change != nil {
				tt.change(&check)
			}
			a, err := token.VerifyAssertion(tt.raw, tt.jwks, check)
			switch {
			case tt.cause == "" && err != nil:
				t.Fatal(err)
			case tt.cause != "" && (err == nil || a != nil || !strings.Contains(err.Error(), tt.cause)):
				t.Fatalf("%+v, %v; want a refusal for %q", a, err, tt.cause)
			}
		})
	}
	late := assertionCheck()
	late.Now = time.Now().Add(time.Hour)
	if _, err := token.VerifyAssertion(assertion(t, token.ES256, nil, nil), keys, late); err == nil {
		t.Error("the clock given is not looked at")
	}
}

func FuzzVerifyAssertion(f *testing.F) {
	f.Add(`{"alg":"ES256","kid":"ES256"}`, assertionClaims(nil))
	f.Add(`{"alg":"ES256"}`, assertionClaims(edit{"aud": []string{asURL}}))
	f.Add(`{"alg":"ES256","typ":"JWT","kid":"x"}`, strings.Replace(assertionClaims(nil), `"sub"`, `"SUB":"x","sub"`, 1))
	f.Add(`{"alg":"ES256","crit":["x"]}`, `{}`)
	f.Add(`{"alg":"none"}`, ``)
	doc := jwks(f, token.ES256)
	f.Fuzz(func(t *testing.T, header, payload string) {
		raw := sign(t, token.ES256, privateKeys()[token.ES256], header, payload)
		a, err := token.VerifyAssertion(raw, doc, assertionCheck())
		_, _ = token.VerifyAssertion(header+"."+payload, []byte(payload), assertionCheck())
		if err != nil {
			return
		}
		parsed, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			t.Fatalf("go-jose does not parse what we accept: %v", err)
		}
		var theirs jwt.Claims
		if err := parsed.Claims(privateKeys()[token.ES256].Public(), &theirs); err != nil {
			t.Fatalf("go-jose refuses what we accept: %v", err)
		}
		if theirs.Issuer != "c1" || theirs.Subject != "c1" || theirs.ID != a.JTI || theirs.Expiry.Time().Unix() != a.Expires.Unix() || len(theirs.Audience) != 1 {
			t.Fatalf("claims differ: ours %+v, theirs %+v", a, theirs)
		}
	})
}

func BenchmarkVerifyAssertion(b *testing.B) {
	raw, doc := assertion(b, token.ES256, nil, edit{"exp": time.Now().Unix() + 299}), jwks(b, token.ES256)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := token.VerifyAssertion(raw, doc, assertionCheck()); err != nil {
			b.Fatal(err)
		}
	}
}

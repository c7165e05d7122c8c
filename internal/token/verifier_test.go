package token_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/token"
)

func TestEveryAlgorithmVerifies(t *testing.T) {
	v := newVerifier(t, staticKeys(t, jwks(t, token.Algorithms()...)), nil)
	for _, alg := range token.Algorithms() {
		t.Run(string(alg), func(t *testing.T) {
			raw := good(t, alg)
			for range 2 { // the second time with a remembered header
				c, err := v.Verify(t.Context(), raw)
				if err != nil {
					t.Fatal(err)
				}
				if c.Subject != "alice" || c.ClientID != "web" || !slices.Equal(c.Scopes, []string{"orders:read", "orders:write"}) {
					t.Fatalf("claims %+v", c)
				}
			}
			for _, other := range token.Algorithms() {
				if other == alg {
					continue
				}
				// Algorithm confusion: the right key, the token naming another algorithm.
				forged := sign(t, alg, privateKeys()[alg], fmt.Sprintf(`{"alg":%q,"typ":"at+jwt","kid":%q}`, other, alg), claims(nil))
				c, err := v.Verify(t.Context(), forged)
				refused(t, c, err, "token_invalid", "no key of the issuer is for the header's alg")
			}
		})
	}
}

func TestHostileTokens(t *testing.T) {
	key := privateKeys()[token.ES256]
	signed := func(header, payload string) string { return sign(t, token.ES256, key, header, payload) }
	withHeader := func(header string) string { return signed(header, claims(nil)) }
	with := func(name string, value any) string {
		return signed(head(token.ES256), claims(map[string]any{name: value}))
	}
	raw := good(t, token.ES256)
	parts := strings.Split(raw, ".")
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }

	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	doc := jwks(t, token.ES256, token.RS256)
	hs := func() string {
		message := b64.EncodeToString([]byte(`{"alg":"HS256","typ":"at+jwt","kid":"RS256"}`)) + "." + b64.EncodeToString([]byte(claims(nil)))
		mac := hmac.New(sha256.New, doc)
		mac.Write([]byte(message))
		return message + "." + b64.EncodeToString(mac.Sum(nil))
	}

	for _, tt := range []struct{ name, raw, reason, cause string }{
		// grammar
		{"the empty token is refused", "", "token_invalid", "two dots"},
		{"one part is refused", parts[0], "token_invalid", "two dots"},
		{"two parts are refused", parts[0] + "." + parts[1], "token_invalid", "two dots"},
		{"four parts are refused", raw + ".x", "token_invalid", "two dots"},
		{"five parts, a JWE, are refused", "a.b.c.d.e", "token_invalid", "two dots"},
		{"an empty header is refused", "." + parts[1] + "." + parts[2], "token_invalid", "two dots"},
		{"an empty payload, detached, is refused", parts[0] + ".." + parts[2], "token_invalid", "two dots"},
		{"an empty signature is refused", parts[0] + "." + parts[1] + ".", "token_invalid", "two dots"},
		{"dots alone are refused", strings.Repeat(".", 5000), "token_invalid", "two dots"},
		{"a token over 8 KiB is refused", raw + strings.Repeat("A", 8192), "token_invalid", "longer than"},
		{"a megabyte of dots is refused", strings.Repeat(".", 1<<20), "token_invalid", "longer than"},
		{"the JSON serialization is refused", `{"payload":"` + parts[1] + `"}`, "token_invalid", "two dots"},
		{"a leading space is refused", " " + raw, "token_invalid", "base64url"},
		{"a trailing space is refused", raw + " ", "token_invalid", "base64url"},
		{"a trailing line feed is refused", raw + "\n", "token_invalid", "base64url"},
		{"a line feed in the signature is refused", raw[:len(raw)-5] + "\n" + raw[len(raw)-5:], "token_invalid", "base64url"},
		{"a carriage return in the header is refused", raw[:5] + "\r\n" + raw[5:], "token_invalid", "base64url"},
		{"a line feed in the payload, signed, is refused", signRaw(t, token.ES256, key, parts[0], parts[1][:8]+"\n"+parts[1][8:]), "token_invalid", "base64url"},
		{"padding is refused", raw + "==", "token_invalid", "base64url"},
		{"the alphabet of standard base64 is refused", parts[0] + "." + parts[1] + ".+/" + parts[2][2:], "token_invalid", "base64url"},
		{"trailing bits in the header are refused", signRaw(t, token.ES256, key, looseBits(head(token.ES256)+" "), parts[1]), "token_invalid", "header: base64url"},
		{"trailing bits in the payload are refused", signRaw(t, token.ES256, key, parts[0], looseBits(claims(nil))), "token_invalid", "payload: base64url"},

		// header
		{"alg none is refused", withHeader(`{"alg":"none","typ":"at+jwt","kid":"ES256"}`), "token_invalid", "alg is missing or not accepted"},
		{"alg nOnE is refused", withHeader(`{"alg":"nOnE","typ":"at+jwt","kid":"ES256"}`), "token_invalid", "alg is missing or not accepted"},
		{"alg none without signature is refused", b64.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".", "token_invalid", "two dots"},
		{"HS256 with the public key as secret is refused", hs(), "token_invalid", "alg is missing or not accepted"},
		{"no alg is refused", withHeader(`{"typ":"at+jwt","kid":"ES256"}`), "token_invalid", "alg is missing or not accepted"},
		{"an alg in small letters is refused", withHeader(`{"alg":"es256","typ":"at+jwt","kid":"ES256"}`), "token_invalid", "alg is missing or not accepted"},
		{"an alg that is a list is refused", withHeader(`{"alg":["ES256"],"typ":"at+jwt","kid":"ES256"}`), "token_invalid", "alg is not a string"},
		{"an alg the key is not for is refused", withHeader(`{"alg":"ES256","typ":"at+jwt","kid":"RS256"}`), "token_invalid", "no key of the issuer is for"},
		{"no kid with two keys is refused", withHeader(`{"alg":"ES256","typ":"at+jwt"}`), "token_invalid", "no kid"},
		{"an unknown kid is refused", withHeader(`{"alg":"ES256","typ":"at+jwt","kid":"other"}`), "token_invalid", "no key of this kid"},
		{"a kid that is a path is just unknown", withHeader(`{"alg":"ES256","typ":"at+jwt","kid":"../../dev/null"}`), "token_invalid", "no key of this kid"},
		{"a kid that is a number is refused", withHeader(`{"alg":"ES256","typ":"at+jwt","kid":1}`), "token_invalid", "kid is not a string"},
		{"a long kid is refused", withHeader(`{"alg":"ES256","typ":"at+jwt","kid":"` + strings.Repeat("k", 300) + `"}`), "token_invalid", "kid is longer"},
		{"crit is refused", withHeader(`{"alg":"ES256","typ":"at+jwt","kid":"ES256","crit":["exp"],"exp":1}`), "token_invalid", "crit"},
		{"an empty crit is refused", withHeader(`{"alg":"ES256","typ":"at+jwt","kid":"ES256","crit":[]}`), "token_invalid", "crit"},
		{"b64 is refused", withHeader(`{"alg":"ES256","typ":"at+jwt","kid":"ES256","b64":false}`), "token_invalid", "b64"},
		{"jwk is refused", withHeader(`{"alg":"ES256","typ":"at+jwt","kid":"ES256","jwk":{}}`), "token_invalid", "jwk"},
		{"jku is refused", withHeader(`{"alg":"ES256","typ":"at+jwt","kid":"ES256","jku":"https://evil.example"}`), "token_invalid", "jku"},
		{"x5u is refused", withHeader(`{"alg":"ES256","typ":"at+jwt","kid":"ES256","x5u":"https://evil.example"}`), "token_invalid", "x5u"},
		{"x5c is refused", withHeader(`{"alg":"ES256","typ":"at+jwt","kid":"ES256","x5c":["MII"]}`), "token_invalid", "x5c"},
		{"zip is refused", withHeader(`{"alg":"ES256","typ":"at+jwt","kid":"ES256","zip":"DEF"}`), "token_invalid", "zip"},
		{"a nested token is refused", withHeader(`{"alg":"ES256","typ":"at+jwt","kid":"ES256","cty":"JWT"}`), "token_invalid", "cty"},
		{"a crit spelled with an escape is refused", withHeader(`{"alg":"ES256","typ":"at+jwt","kid":"ES256","\u0063rit":["b64"]}`), "token_invalid", "crit"},
		{"a doubled alg is refused", withHeader(`{"alg":"none","alg":"ES256","typ":"at+jwt","kid":"ES256"}`), "token_invalid", "duplicate"},
		{"an alg doubled by an escape is refused", withHeader(`{"alg":"ES256","typ":"at+jwt","kid":"ES256","\u0061lg":"ES256"}`), "token_invalid", "duplicate"},
		{"a name doubled deep in the header is refused", withHeader(`{"alg":"ES256","typ":"at+jwt","kid":"ES256","x":{"a":1,"a":2}}`), "token_invalid", "duplicate"},
		{"a large header is refused", withHeader(`{"alg":"ES256","typ":"at+jwt","kid":"ES256","x":"` + strings.Repeat("x", 1024) + `"}`), "token_invalid", "header is longer"},
		{"a header that is a list is refused", withHeader(`["alg","ES256"]`), "token_invalid", "not a JSON object"},
		{"a header that is not JSON is refused", withHeader(`alg=ES256`), "token_invalid", "header"},
		{"two headers are refused", withHeader(head(token.ES256) + `{}`), "token_invalid", "something follows"},
		{"no typ is refused", withHeader(`{"alg":"ES256","kid":"ES256"}`), "token_invalid", "typ"},
		{"typ JWT, an ID token, is refused", withHeader(`{"alg":"ES256","typ":"JWT","kid":"ES256"}`), "token_invalid", "typ"},
		{"typ dpop+jwt is refused", withHeader(`{"alg":"ES256","typ":"dpop+jwt","kid":"ES256"}`), "token_invalid", "typ"},
		{"typ logout+jwt is refused", withHeader(`{"alg":"ES256","typ":"logout+jwt","kid":"ES256"}`), "token_invalid", "typ"},
		{"typ x/at+jwt is refused", withHeader(`{"alg":"ES256","typ":"x/at+jwt","kid":"ES256"}`), "token_invalid", "typ"},

		// signature
		{"another key's signature is refused", sign(t, token.ES256, other, head(token.ES256), claims(nil)), "token_invalid", "signature"},
		{"a signature of zeros is refused", parts[0] + "." + parts[1] + "." + b64.EncodeToString(make([]byte, 64)), "token_invalid", "signature"},
		{"a short signature is refused", parts[0] + "." + parts[1] + "." + b64.EncodeToString(make([]byte, 63)), "token_invalid", "signature"},
		{"a long signature is refused", parts[0] + "." + parts[1] + "." + b64.EncodeToString(make([]byte, 2048)), "token_invalid", "signature"},
		{"an ASN.1 signature is refused", parts[0] + "." + parts[1] + "." + derSignature(t, parts[0]+"."+parts[1]), "token_invalid", "signature"},
		{"another token's payload is refused", parts[0] + "." + b64.EncodeToString([]byte(claims(map[string]any{"sub": "root"}))) + "." + parts[2], "token_invalid", "signature"},

		// claims
		{"another issuer is refused", with("iss", "https://evil.example"), "token_invalid", "iss"},
		{"an issuer with a slash more is another", with("iss", issuerURL+"/"), "token_invalid", "iss"},
		{"no issuer is refused", with("iss", nil), "token_invalid", "iss"},
		{"an issuer that is a list is refused", with("iss", []string{issuerURL}), "token_invalid", "iss is not a string"},
		{"another audience is refused", with("aud", "https://other.example"), "token_audience", "aud"},
		{"no audience is refused", with("aud", nil), "token_audience", "aud"},
		{"an empty list of audiences is refused", with("aud", []string{}), "token_audience", "aud"},
		{"an audience in capitals is another", with("aud", strings.ToUpper(audience)), "token_audience", "aud"},
		{"an audience that is a prefix is another", with("aud", audience[:len(audience)-1]), "token_audience", "aud"},
		{"an audience that is an object is refused", with("aud", map[string]any{audience: true}), "token_invalid", "aud"},
		{"a list of audiences with a number is refused", with("aud", []any{audience, 1}), "token_invalid", "aud"},
		{"no subject is refused", with("sub", nil), "token_invalid", "sub is missing"},
		{"an empty subject is refused", with("sub", ""), "token_invalid", "sub is missing"},
		{"a subject that is a number is refused", with("sub", 7), "token_invalid", "sub is not a string"},
		{"no exp is refused", with("exp", nil), "token_invalid", "exp is missing"},
		{"an exp of zero is refused", with("exp", 0), "token_invalid", "exp is out of range"},
		{"a negative exp is refused", with("exp", -1), "token_invalid", "exp is out of range"},
		{"an exp that is a string is refused", with("exp", "9999999999"), "token_invalid", "exp is not a number"},
		{"an exp past the calendar is refused", with("exp", int64(1)<<62), "token_invalid", "exp is out of range"},
		{"an exp of 1e300 is refused", with("exp", 1e300), "token_invalid", "exp is out of range"},
		{"an exp that is no finite number is refused", signed(head(token.ES256), strings.Replace(claims(nil), `"exp":`, `"exp":1e400,"x":`, 1)), "token_invalid", "out of range"},
		{"a number of a million digits' worth is refused", signed(head(token.ES256), strings.Replace(claims(nil), `"exp":`, `"n":1`+strings.Repeat("0", 100)+`,"exp":`, 1)), "token_invalid", "digits"},
		{"an expired token is refused", with("exp", in(-31*time.Second)), "token_expired", "ago"},
		{"nbf in the future is refused", with("nbf", in(time.Minute)), "token_invalid", "nbf"},
		{"nbf that is a bool is refused", with("nbf", true), "token_invalid", "nbf"},
		{"iat in the future is refused", with("iat", in(time.Minute)), "token_invalid", "iat"},
		{"a scope that is a number is refused", with("scope", 1), "token_invalid", "scope"},
		{"a scope list that hides a space is refused", with("scp", []string{"a admin"}), "token_invalid", "space"},
		{"cnf that is a string is refused", with("cnf", "x"), "token_invalid", "cnf"},
		{"a cnf.jkt that is a number is refused", with("cnf", map[string]any{"jkt": 1}), "token_invalid", "cnf.jkt"},
		{"an empty cnf.x5t#S256 is refused", with("cnf", map[string]any{"x5t#S256": ""}), "token_invalid", "cnf.x5t#S256"},
		{"a doubled sub is refused", signed(head(token.ES256), strings.Replace(claims(nil), `"sub":`, `"sub":"root","sub":`, 1)), "token_invalid", "duplicate"},
		{"a sub doubled by an escape is refused", signed(head(token.ES256), strings.Replace(claims(nil), `"sub":`, `"\u0073ub":"root","sub":`, 1)), "token_invalid", "duplicate"},
		{"a name doubled deep in a claim is refused", signed(head(token.ES256), strings.Replace(claims(nil), `"sub":`, `"r":[{"a":1,"a":2}],"sub":`, 1)), "token_invalid", "duplicate"},
		{"invalid UTF-8 is refused", signed(head(token.ES256), strings.Replace(claims(nil), "alice", "ali\xffce", 1)), "token_invalid", "UTF-8"},
		{"a lone surrogate is refused", signed(head(token.ES256), strings.Replace(claims(nil), "alice", `ali\ud800ce`, 1)), "token_invalid", "claims"},
		{"deep nesting is refused", signed(head(token.ES256), strings.Replace(claims(nil), `"sub":`, `"d":`+strings.Repeat("[", 40)+strings.Repeat("]", 40)+`,"sub":`, 1)), "token_invalid", "nested"},
		{"claims that are a list are refused", signed(head(token.ES256), `[]`), "token_invalid", "not a JSON object"},
		{"claims that are null are refused", signed(head(token.ES256), `null`), "token_invalid", "not a JSON object"},
		{"two claims sets are refused", signed(head(token.ES256), claims(nil)+claims(nil)), "token_invalid", "something follows"},
		{"a byte order mark is refused", signed(head(token.ES256), "\ufeff"+claims(nil)), "token_invalid", "claims"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := newVerifier(t, staticKeys(t, doc), nil)
			c, err := v.Verify(t.Context(), tt.raw)
			refused(t, c, err, tt.reason, tt.cause)
			// Once more where a good token has left its header in the cache.
			if _, err := v.Verify(t.Context(), raw); err != nil {
				t.Fatal(err)
			}
			c, err = v.Verify(t.Context(), tt.raw)
			refused(t, c, err, tt.reason, tt.cause)
		})
	}
}

// A signature has one spelling: other salts and other lengths of the same
// signature verify in lenient libraries.
func TestASignatureHasOneForm(t *testing.T) {
	v := newVerifier(t, staticKeys(t, jwks(t, token.ES256, token.PS256)), nil)
	message := b64.EncodeToString([]byte(head(token.PS256))) + "." + b64.EncodeToString([]byte(claims(nil)))
	sum := sha256.Sum256([]byte(message))
	for _, salt := range []int{rsa.PSSSaltLengthAuto, 0, 20} {
		opts := &rsa.PSSOptions{SaltLength: salt, Hash: crypto.SHA256}
		if salt == 0 {
			opts.SaltLength = 1 // 0 means auto
		}
		sig, err := privateKeys()[token.PS256].Sign(rand.Reader, sum[:], opts)
		if err != nil {
			t.Fatal(err)
		}
		c, err := v.Verify(t.Context(), message+"."+b64.EncodeToString(sig))
		refused(t, c, err, "token_invalid", "signature")
	}
	raw := good(t, token.ES256)
	cut := strings.LastIndexByte(raw, '.') + 1
	sig, err := b64.DecodeString(raw[cut:])
	if err != nil {
		t.Fatal(err)
	}
	for name, other := range map[string][]byte{
		"a zero before r":   slices.Concat([]byte{0}, sig),
		"a zero before s":   slices.Concat(sig[:32], []byte{0}, sig[32:]),
		"a zero after s":    slices.Concat(sig, []byte{0}),
		"zeros before both": slices.Concat([]byte{0}, sig[:32], []byte{0}, sig[32:]),
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			c, err := v.Verify(t.Context(), raw[:cut]+b64.EncodeToString(other))
			refused(t, c, err, "token_invalid", "signature")
		})
	}
}

func TestAcceptedTokens(t *testing.T) {
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	es := func(header string, changes map[string]any) string {
		return sign(t, token.ES256, privateKeys()[token.ES256], header, claims(changes))
	}
	h := head(token.ES256)
	for _, tt := range []struct {
		name   string
		raw    string
		change func(*token.VerifierConfig)
	}{
		{"the long form of the type", es(`{"alg":"ES256","typ":"application/at+jwt","kid":"ES256"}`, nil), nil},
		{"the type in capitals", es(`{"alg":"ES256","typ":"AT+JWT","kid":"ES256"}`, nil), nil},
		{"header members that mean nothing here", es(`{"alg":"ES256","typ":"at+jwt","kid":"ES256","x5t":"a","nonce":{"a":[1]}}`, nil), nil},
		{"typ JWT where any is written", es(`{"alg":"ES256","typ":"JWT","kid":"ES256"}`, nil), func(c *token.VerifierConfig) { c.TypAny = true }},
		{"no typ where any is written", es(`{"alg":"ES256","kid":"ES256"}`, nil), func(c *token.VerifierConfig) { c.TypAny = true }},
		{"a list of audiences", es(h, map[string]any{"aud": []string{"x", audience}}), nil},
		{"expired within the leeway", es(h, map[string]any{"exp": in(-20 * time.Second)}), nil},
		{"not yet valid within the leeway", es(h, map[string]any{"nbf": in(20 * time.Second), "iat": in(20 * time.Second)}), nil},
		{"a date with a fraction", es(h, map[string]any{"exp": float64(in(time.Hour)) + 0.5}), nil},
		{"a life within the limit", es(h, nil), func(c *token.VerifierConfig) { c.MaxLifetime = time.Hour }},
		{"an algorithm that is configured", es(h, nil), func(c *token.VerifierConfig) { c.Algorithms = []token.Algorithm{token.ES256} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := newVerifier(t, staticKeys(t, jwks(t, token.ES256, token.RS256)), tt.change).Verify(t.Context(), tt.raw); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestConfiguredRules(t *testing.T) {
	es := func(header string, changes map[string]any) string {
		return sign(t, token.ES256, privateKeys()[token.ES256], header, claims(changes))
	}
	for _, tt := range []struct {
		name   string
		raw    string
		change func(*token.VerifierConfig)
		cause  string
	}{
		{"any type is not every type", es(`{"alg":"ES256","typ":"dpop+jwt","kid":"ES256"}`, nil), func(c *token.VerifierConfig) { c.TypAny = true }, "typ"},
		{"an algorithm that is not configured", good(t, token.ES256), func(c *token.VerifierConfig) { c.Algorithms = []token.Algorithm{token.RS256} }, "alg"},
		{"a life beyond the limit", good(t, token.ES256), func(c *token.VerifierConfig) { c.MaxLifetime = time.Minute }, "lives longer"},
		{"no iat where lives are limited", es(head(token.ES256), map[string]any{"iat": nil}), func(c *token.VerifierConfig) { c.MaxLifetime = time.Minute }, "iat is missing"},
		{"a token over the configured size", good(t, token.ES256), func(c *token.VerifierConfig) { c.MaxSize = 100 }, "longer than 100"},
		{"nbf ahead without leeway", es(head(token.ES256), map[string]any{"nbf": time.Now().Add(10 * time.Second).Unix()}), func(c *token.VerifierConfig) { c.Leeway = -1 }, "nbf"},
	} {
		t.Run(tt.name+" is refused", func(t *testing.T) {
			c, err := newVerifier(t, staticKeys(t, jwks(t, token.ES256, token.RS256)), tt.change).Verify(t.Context(), tt.raw)
			refused(t, c, err, "token_invalid", tt.cause)
		})
	}
}

// One header may be good for one verifier and bad for another on the same keys:
// what the key set remembers must not carry the first one's permission over.
func TestRememberedHeadersKeepEachVerifiersRules(t *testing.T) {
	keys := staticKeys(t, jwks(t, token.ES256, token.RS256))
	raw := sign(t, token.ES256, privateKeys()[token.ES256], `{"alg":"ES256","kid":"ES256"}`, claims(nil))
	lax := newVerifier(t, keys, func(c *token.VerifierConfig) { c.TypAny = true })
	if _, err := lax.Verify(t.Context(), raw); err != nil {
		t.Fatal(err)
	}
	c, err := newVerifier(t, keys, nil).Verify(t.Context(), raw)
	refused(t, c, err, "token_invalid", "typ")
	c, err = newVerifier(t, keys, func(c *token.VerifierConfig) {
		c.TypAny, c.Algorithms = true, []token.Algorithm{token.RS256}
	}).Verify(t.Context(), raw)
	refused(t, c, err, "token_invalid", "alg")
}

// A token has one spelling: whoever can change a bit of it and have it accepted
// can dodge a revocation list (Zitadel CVE-2026-27840 took truncated ones).
func TestEveryMutationIsRefused(t *testing.T) {
	for _, alg := range []token.Algorithm{token.ES256, token.EdDSA, token.RS256, token.PS256} {
		t.Run(string(alg), func(t *testing.T) {
			v := newVerifier(t, staticKeys(t, jwks(t, alg)), nil)
			raw := good(t, alg)
			if _, err := v.Verify(t.Context(), raw); err != nil {
				t.Fatal(err)
			}
			for i := range raw {
				for _, mutant := range []string{raw[:i], raw[i+1:], raw[:i] + raw[i+1:], raw[:i] + raw[i:i+1] + raw[i:]} {
					if _, err := v.Verify(t.Context(), mutant); err == nil && mutant != raw {
						t.Fatalf("accepted with a change at byte %d", i)
					}
				}
				for bit := range 8 {
					b := []byte(raw)
					b[i] ^= 1 << bit
					if _, err := v.Verify(t.Context(), string(b)); err == nil {
						t.Fatalf("accepted with bit %d of byte %d flipped", bit, i)
					}
				}
			}
		})
	}
}

func TestTheZeroVerifierRefuses(t *testing.T) {
	var v *token.Verifier
	c, err := v.Verify(t.Context(), good(t, token.ES256))
	refused(t, c, err, "token_invalid", "no verifier")
	keys := staticKeys(t, jwks(t, token.ES256))
	for name, cfg := range map[string]token.VerifierConfig{
		"the zero config":           {},
		"no issuer":                 {Audiences: []string{"a"}},
		"no audience":               {Issuer: "i"},
		"an empty audience":         {Issuer: "i", Audiences: []string{""}},
		"an unknown algorithm":      {Issuer: "i", Audiences: []string{"a"}, Algorithms: []token.Algorithm{"HS256"}},
		"none":                      {Issuer: "i", Audiences: []string{"a"}, Algorithms: []token.Algorithm{"none"}},
		"a leeway of six minutes":   {Issuer: "i", Audiences: []string{"a"}, Leeway: 6 * time.Minute},
		"a negative longest life":   {Issuer: "i", Audiences: []string{"a"}, MaxLifetime: -1},
		"a negative size of tokens": {Issuer: "i", Audiences: []string{"a"}, MaxSize: -1},
	} {
		if _, err := token.NewVerifier(cfg, keys); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if _, err := token.NewVerifier(token.VerifierConfig{Issuer: "i", Audiences: []string{"a"}}, nil); err == nil {
		t.Error("no key set is accepted")
	}
}

func TestUnverifiedIssuer(t *testing.T) {
	if iss, err := token.UnverifiedIssuer(good(t, token.ES256)); err != nil || iss != issuerURL {
		t.Errorf("got %q, %v", iss, err)
	}
	for name, payload := range map[string]string{
		"no iss": `{}`, "a number": `{"iss":1}`, "two": `{"iss":"a","iss":"b"}`, "an empty one": `{"iss":""}`,
		"a doubled name": `{"iss":"a","x":{"b":1,"b":2}}`, "a list": `["iss"]`, "two objects": `{"iss":"a"}{"iss":"b"}`,
	} {
		if iss, err := token.UnverifiedIssuer("e30." + b64.EncodeToString([]byte(payload)) + ".AA"); err == nil {
			t.Errorf("%s: got %q", name, iss)
		}
	}
	for _, raw := range []string{"", "a.b", "gk_live_x", strings.Repeat("a", 9000) + ".e30.a"} {
		if iss, err := token.UnverifiedIssuer(raw); err == nil {
			t.Errorf("%.20s: got %q", raw, iss)
		}
	}
}

// looseBits encodes s so that the last character has a bit set that no byte needs.
func looseBits(s string) string {
	for len(s)%3 == 0 {
		s += " "
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	e := []byte(b64.EncodeToString([]byte(s)))
	e[len(e)-1] = alphabet[strings.IndexByte(alphabet, e[len(e)-1])|1]
	return string(e)
}

func derSignature(t *testing.T, message string) string {
	t.Helper()
	sum := sha256.Sum256([]byte(message))
	sig, err := privateKeys()[token.ES256].Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return b64.EncodeToString(sig)
}

package token_test

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/gatehouse-api/gatehouse/internal/token"
)

const (
	proofURL    = "https://server.example.com/token"
	accessToken = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
)

func newProofs(t testing.TB, change func(*token.ProofsConfig)) *token.Proofs {
	t.Helper()
	cfg := token.ProofsConfig{}
	if change != nil {
		change(&cfg)
	}
	p, err := token.NewProofs(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// publicJWK returns the public JWK of the test key for alg with changes made to
// it; nil removes a member.
func publicJWK(t testing.TB, alg token.Algorithm, changes map[string]any) map[string]any {
	t.Helper()
	b, err := (&jose.JSONWebKey{Key: privateKeys()[alg].Public()}).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	m := make(map[string]any)
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return with(m, changes)
}

func with(m, changes map[string]any) map[string]any {
	for name, v := range changes {
		if v == nil {
			delete(m, name)
		} else {
			m[name] = v
		}
	}
	return m
}

func text(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func hashOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return b64.EncodeToString(sum[:])
}

// proof returns a good proof for a POST to proofURL with changes made to its
// header and claims.
func proof(t testing.TB, alg token.Algorithm, header, changes map[string]any) string {
	t.Helper()
	h := with(map[string]any{"typ": "dpop+jwt", "alg": string(alg), "jwk": publicJWK(t, alg, nil)}, header)
	c := with(map[string]any{"jti": rand.Text(), "htm": "POST", "htu": proofURL, "iat": time.Now().Unix()}, changes)
	return sign(t, alg, privateKeys()[alg], text(t, h), text(t, c))
}

func post() token.ProofCheck { return token.ProofCheck{Method: "POST", URL: proofURL} }

func notProven(t *testing.T, got *token.Proof, err, want error, words string) {
	t.Helper()
	if got != nil || !errors.Is(err, want) {
		t.Fatalf("got %+v, %v; want %v", got, err, want)
	}
	if !strings.Contains(err.Error(), words) {
		t.Fatalf("refused for %q, want a cause with %q", err, words)
	}
}

// The first proof is RFC 9449 §4.1, the second §7.1; both were signed in 2019.
func TestPublishedProofs(t *testing.T) {
	const header = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19."
	for _, tt := range []struct {
		name, proof string
		check       token.ProofCheck
		iat         int64
	}{
		{
			"at the token endpoint",
			header + "eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ." +
				"2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg",
			token.ProofCheck{Method: "POST", URL: "https://server.example.com/token"},
			1562262616,
		},
		{
			"at a protected resource",
			header + "eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9." +
				"2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA",
			token.ProofCheck{Method: "GET", URL: "https://resource.example.org/protectedresource", AccessToken: accessToken, JKT: "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"},
			1562262618,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(time.Unix(tt.iat+1, 0)))
				p := newProofs(t, nil)
				got, err := p.Verify(t.Context(), tt.proof, tt.check)
				if err != nil {
					t.Fatal(err)
				}
				if got.JKT != "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" || got.IssuedAt.Unix() != tt.iat || got.JTI == "" {
					t.Errorf("proof %+v", got)
				}
				_, err = p.Verify(t.Context(), tt.proof, tt.check)
				notProven(t, nil, err, token.ErrProof, "used before")
				bad := tt.proof[:len(tt.proof)-3] + "AAA"
				_, err = newProofs(t, nil).Verify(t.Context(), bad, tt.check)
				notProven(t, nil, err, token.ErrProof, "signature")
			})
		})
	}
}

func TestPublishedThumbprint(t *testing.T) {
	got, err := token.Thumbprint([]byte(`{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}`))
	if want := "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"; err != nil || got != want {
		t.Fatalf("RFC 7638 §3.1: %q, %v; want %q", got, err, want)
	}
	for name, doc := range map[string]string{
		"nothing": ``, "no object": `[]`, "a symmetric key": `{"kty":"oct","k":"AA"}`, "a key without its point": `{"kty":"EC","crv":"P-256"}`,
		"a private key":         text(t, publicJWK(t, token.ES256, map[string]any{"d": "AA"})),
		"a member twice":        strings.Replace(text(t, publicJWK(t, token.ES256, nil)), `{`, `{"kty":"EC",`, 1),
		"something behind it":   text(t, publicJWK(t, token.ES256, nil)) + "x",
		"a point off its curve": `{"kty":"EC","crv":"P-256","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE","y":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE"}`,
		"a document too large":  text(t, publicJWK(t, token.ES256, map[string]any{"x": strings.Repeat("A", 17<<10)})),
	} {
		if got, err := token.Thumbprint([]byte(doc)); err == nil || got != "" {
			t.Errorf("%s has the thumbprint %q", name, got)
		}
	}
}

// FuzzProof signs header and payload rightly and compares with go-jose: what we
// accept it must accept under the key in the header, with the same claims.
func FuzzProof(f *testing.F) {
	jwk := text(f, publicJWK(f, token.ES256, nil))
	h := `{"typ":"dpop+jwt","alg":"ES256","jwk":` + jwk + `}`
	payload := func(changes edit) string {
		return text(f, with(edit{"jti": "a", "htm": "POST", "htu": proofURL, "iat": time.Now().Unix()}, changes))
	}
	f.Add(h, payload(nil))
	f.Add(h, payload(edit{"htu": "HTTPS://Server.example.com:443/%74oken?x#y", "x": []any{1.5, nil}}))
	f.Add(h, payload(edit{"iat": 1e300}))
	f.Add(h, strings.Replace(payload(nil), `"htm"`, `"HTM":"GET","htm"`, 1))
	f.Add(h, strings.Replace(payload(nil), `"htm"`, `"htm":"GET","htm"`, 1))
	f.Add(strings.Replace(h, `"alg"`, `"alg":"none","alg"`, 1), payload(nil))
	f.Add(strings.Replace(h, `"jwk"`, `"crit":["b64"],"b64":false,"jwk"`, 1), payload(nil))
	f.Add(strings.Replace(h, `"kty"`, `"d":"AA","kty"`, 1), payload(nil))
	f.Add(`{"alg":"none"}`, ``)
	set, err := token.Thumbprint([]byte(jwk))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, header, payload string) {
		p := newProofs(t, nil)
		_, _ = p.Verify(t.Context(), header+"."+payload, post())
		raw := sign(t, token.ES256, privateKeys()[token.ES256], header, payload)
		ours, err := p.Verify(t.Context(), raw, post())
		if err != nil {
			return
		}
		if _, err := p.Verify(t.Context(), raw, post()); err == nil {
			t.Fatal("a proof is accepted twice")
		}
		parsed, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			t.Fatalf("go-jose does not parse what we accept: %v", err)
		}
		key := parsed.Headers[0].JSONWebKey
		if key == nil || !key.IsPublic() || ours.JKT != set || parsed.Headers[0].ExtraHeaders[jose.HeaderType] != "dpop+jwt" {
			t.Fatalf("header %+v, thumbprint %s", parsed.Headers[0], ours.JKT)
		}
		var theirs struct {
			JTI string          `json:"jti"`
			HTM string          `json:"htm"`
			HTU string          `json:"htu"`
			IAT jwt.NumericDate `json:"iat"`
		}
		if err := parsed.Claims(key.Key, &theirs); err != nil {
			t.Fatalf("go-jose refuses what we accept: %v", err)
		}
		if theirs.JTI != ours.JTI || theirs.IAT.Time().Unix() != ours.IssuedAt.Unix() || theirs.HTM != "POST" {
			t.Fatalf("claims differ: ours %+v, theirs %+v", ours, theirs)
		}
		// The normal forms come from another parser.
		a, err := url.Parse(theirs.HTU)
		if err != nil || !strings.EqualFold(a.Hostname(), "server.example.com") || a.Path != "/token" || a.User != nil {
			t.Fatalf("htu %q is taken for %s (%v)", theirs.HTU, proofURL, err)
		}
	})
}

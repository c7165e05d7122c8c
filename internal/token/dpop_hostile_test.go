package token_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/token"
)

type edit = map[string]any

// The names in brackets are the blocks of the OIDF module FAPI2…DpopNegativeTests;
// those about the HTTP header fields themselves are the gateway's.
func TestHostileProofs(t *testing.T) {
	now := time.Now().Unix()
	long := strings.Repeat("x", 257)
	es := func(h, c edit) string { return proof(t, token.ES256, h, c) }
	resign := func(header string) string {
		return sign(t, token.ES256, privateKeys()[token.ES256], header, text(t, edit{"jti": "a", "htm": "POST", "htu": proofURL, "iat": now}))
	}
	good := es(nil, nil)
	parts := strings.Split(good, ".")
	key := text(t, publicJWK(t, token.ES256, nil))
	jwk := func(changes edit) edit { return edit{"jwk": publicJWK(t, token.ES256, changes)} }
	for _, tt := range []struct{ name, proof, cause string }{
		{"no proof at all", "", "three parts"},
		{"not a well-formed JWT [NotWellformedDPoP]", strings.Replace(good, ".", "", 1), "three parts"},
		{"two proofs in one value [MultipleProofs]", good + "," + good, "three parts"},
		{"a proof with a space", good + " ", "base64url"},
		{"a proof too long", es(nil, edit{"pad": strings.Repeat("x", 8<<10)}), "longer than"},
		{"a header too long", es(edit{"pad": strings.Repeat("x", 1<<10)}, nil), "longer than"},

		{"typ missing [RemoveTypFromDpopProof]", es(edit{"typ": nil}, nil), "typ"},
		{"typ wrong [SetDpopHeaderTypToInvalidValue]", es(edit{"typ": "wrong"}, nil), "typ"},
		{"an access token as a proof", es(edit{"typ": "at+jwt"}, nil), "typ"},
		{"alg missing [SignDpopAndRemoveAlg]", es(edit{"alg": nil}, nil), "alg"},
		{"alg none [SignDpopProofWithNone]", es(edit{"alg": "none"}, nil), "alg"},
		{"alg none without a signature", strings.Join([]string{b64.EncodeToString([]byte(`{"typ":"dpop+jwt","alg":"none","jwk":` + key + `}`)), parts[1], ""}, "."), "three parts"},
		{"alg HS256", es(edit{"alg": "HS256"}, nil), "alg"},
		{"alg RS256 [ChangeSignAlgorithm]", proof(t, token.RS256, nil, nil), "alg"},
		{"alg of another curve", es(edit{"alg": "ES384"}, nil), "does not fit"},
		{"alg of another family", es(edit{"alg": "EdDSA"}, nil), "does not fit"},
		{"jwk missing [RemoveJwkFromDpopProof]", es(edit{"jwk": nil}, nil), "jwk is missing"},
		{"jwk no object", es(edit{"jwk": "x"}, nil), "not an object"},
		{"a private key in jwk [SetDpopHeaderJwkToPrivateKey]", es(jwk(edit{"d": "AA"}), nil), "private"},
		{"an empty private member in jwk", es(jwk(edit{"d": ""}), nil), "private"},
		{"a symmetric key in jwk", es(edit{"jwk": edit{"kty": "oct", "k": "AA"}}, nil), "symmetric"},
		{"a point off the curve in jwk", es(jwk(edit{"x": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE"}), nil), "jwk"},
		{"a jwk for another alg", es(jwk(edit{"alg": "ES384"}), nil), "another alg"},
		{"a jwk for encryption", es(jwk(edit{"use": "enc"}), nil), "another use"},
		{"a short RSA key", es(edit{"alg": "PS256", "jwk": edit{"kty": "RSA", "e": "AQAB", "n": b64.EncodeToString([]byte(strings.Repeat("\xff", 128)))}}, nil), "1024 bits"},
		{"another key in jwk than signed [GenerateNewSignKey]", es(edit{"alg": "EdDSA", "jwk": publicJWK(t, token.EdDSA, nil)}, nil), "signature"},
		{"crit", es(edit{"crit": []string{"exp"}}, nil), "crit"},
		{"b64", es(edit{"b64": false}, nil), "b64"},
		{"jku", es(edit{"jku": "https://evil.example"}, nil), "jku"},
		{"x5c", es(edit{"x5c": []string{}}, nil), "x5c"},
		{"alg twice", resign(`{"typ":"dpop+jwt","alg":"none","alg":"ES256","jwk":` + key + `}`), "duplicate"},
		{"jwk twice", resign(`{"typ":"dpop+jwt","alg":"ES256","jwk":{},"jwk":` + key + `}`), "duplicate"},
		{"kty twice in jwk", resign(`{"typ":"dpop+jwt","alg":"ES256","jwk":{"kty":"oct",` + key[1:] + `}`), "duplicate"},
		{"a header deeply nested", resign(`{"typ":"dpop+jwt","alg":"ES256","x":` + strings.Repeat("[", 99) + strings.Repeat("]", 99) + `}`), "nested"},

		{"a signature changed [InvalidateDpopProofSignature]", parts[0] + "." + parts[1] + "." + strings.Repeat("A", 86), "signature"},
		{"a signature cut", good[:len(good)-4], "signature"},
		{"a signature padded", good + "AAAA", "signature"},
		{"a signature longer than any", good + strings.Repeat("AAAA", 200), "signature"},

		{"jti missing [RemoveJtiFromDpopProof]", es(nil, edit{"jti": nil}), "jti"},
		{"jti empty", es(nil, edit{"jti": ""}), "jti"},
		{"jti a number", es(nil, edit{"jti": 1}), "jti"},
		{"jti of 257 bytes", es(nil, edit{"jti": long}), "jti"},
		{"htm missing [RemoveHtmFromDpopProof]", es(nil, edit{"htm": nil}), "htm"},
		{"htm wrong [SetDpopHtmToPut]", es(nil, edit{"htm": "PUT"}), "htm"},
		{"htm in small letters", es(nil, edit{"htm": "post"}), "htm"},
		{"htu missing [RemoveHtuFromDpopProof]", es(nil, edit{"htu": nil}), "htu"},
		{"htu another path [SetDpopHtuToDifferentUrl]", es(nil, edit{"htu": proofURL + "/x"}), "htu"},
		{"htu a list", es(nil, edit{"htu": []string{proofURL}}), "htu"},
		{"iat missing [RemoveIatFromDpopProof]", es(nil, edit{"iat": nil}), "iat"},
		{"iat a text", es(nil, edit{"iat": fmt.Sprint(now)}), "iat"},
		{"iat an hour ahead [SetDpopIatToOneHourInFuture]", es(nil, edit{"iat": now + 3600}), "iat"},
		{"iat an hour ago [SetDpopIatToOneHourInPast]", es(nil, edit{"iat": now - 3600}), "iat"},
		{"iat zero", es(nil, edit{"iat": 0}), "iat"},
		{"iat negative", es(nil, edit{"iat": -1}), "iat"},
		{"iat beyond every calendar", es(nil, edit{"iat": 1e300}), "iat"},
		{"exp passed", es(nil, edit{"exp": now - 1}), "exp"},
		{"nbf ahead", es(nil, edit{"nbf": now + 60}), "nbf"},
		{"claims that are no object", sign(t, token.ES256, privateKeys()[token.ES256], text(t, edit{"typ": "dpop+jwt", "alg": "ES256", "jwk": publicJWK(t, token.ES256, nil)}), `[]`), "claims"},
	} {
		t.Run(tt.name+" is refused", func(t *testing.T) {
			got, err := newProofs(t, nil).Verify(t.Context(), tt.proof, post())
			notProven(t, got, err, token.ErrProof, tt.cause)
		})
	}
}

func TestProofsAreForOneTokenAndOneKey(t *testing.T) {
	jkt, err := token.Thumbprint([]byte(text(t, publicJWK(t, token.ES256, nil))))
	if err != nil {
		t.Fatal(err)
	}
	check := post()
	check.AccessToken, check.JKT = accessToken, jkt
	p := newProofs(t, nil)
	for name, changes := range map[string]edit{
		"ath missing [SetDpopAccessTokenHash skipped]":       {},
		"ath wrong [SetDpopAccessTokenHashToIncorrectValue]": {"ath": hashOf("other")},
		"ath padded": {"ath": hashOf(accessToken) + "="},
		"ath empty":  {"ath": ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := p.Verify(t.Context(), proof(t, token.ES256, nil, changes), check)
			notProven(t, got, err, token.ErrProof, "ath")
		})
	}
	got, err := p.Verify(t.Context(), proof(t, token.ES384, nil, edit{"ath": hashOf(accessToken)}), check)
	notProven(t, got, err, token.ErrProof, "bound")
	if got, err := p.Verify(t.Context(), proof(t, token.ES256, nil, edit{"ath": hashOf(accessToken)}), check); err != nil || got.JKT != jkt {
		t.Fatalf("the right token and key are refused: %v", err)
	}
	for name, c := range map[string]token.ProofCheck{"the zero check": {}, "no URL": {Method: "POST"}, "no method": {URL: proofURL}} {
		got, err := p.Verify(t.Context(), proof(t, token.ES256, nil, nil), c)
		if got != nil || err == nil {
			t.Errorf("%s lets a proof through", name)
		}
	}
	for _, none := range []*token.Proofs{nil, {}} {
		if got, err := none.Verify(t.Context(), proof(t, token.ES256, nil, nil), post()); got != nil || err == nil || none.Nonce() != "" {
			t.Error("Proofs that were not made let a proof through")
		}
	}
}

func TestAcceptedProofs(t *testing.T) {
	now := time.Now().Unix()
	for _, alg := range []token.Algorithm{token.ES256, token.ES384, token.EdDSA, token.PS256} {
		p := newProofs(t, nil)
		for range 2 { // the second time the key is known
			if got, err := p.Verify(t.Context(), proof(t, alg, nil, nil), post()); err != nil || got.JTI == "" {
				t.Errorf("%s: %v", alg, err)
			}
		}
	}
	for name, tt := range map[string]struct{ header, claims edit }{
		"iat 10 s ago [EnsureDpopProofWithIat10SecondsBeforeSucceeds]":  {nil, edit{"iat": now - 10}},
		"iat 10 s ahead [EnsureDpopProofWithIat10SecondsAfterSucceeds]": {nil, edit{"iat": now + 10}},
		"nbf and exp that hold [CheckDpopProofNbfExp]":                  {nil, edit{"nbf": now, "exp": now + 300}},
		"a fraction in iat": {nil, edit{"iat": float64(now) + 0.5}},
		"members nobody knows [AddExtraClaimsToHeader, AddExtraClaimsToClaims]": {edit{"x": edit{"y": []int{1}}}, edit{"x": edit{"y": nil}}},
		"htu with query and fragment [AddQueryAndFragmentToDpopHtu]":            {nil, edit{"htu": proofURL + "?a=b#c"}},
		"htu in capitals [DpopHtuUpperCase]":                                    {nil, edit{"htu": "HTTPS://SERVER.example.COM/token"}},
		"htu with the default port [DpopHtuWithPort]":                           {nil, edit{"htu": "https://server.example.com:443/token"}},
		"a jti of 256 bytes":      {nil, edit{"jti": strings.Repeat("x", 256)}},
		"an ath nobody asked for": {nil, edit{"ath": "x"}},
		"a nonce nobody gave out": {nil, edit{"nonce": "x"}},
	} {
		t.Run(name+" is accepted", func(t *testing.T) {
			if _, err := newProofs(t, nil).Verify(t.Context(), proof(t, token.ES256, tt.header, tt.claims), post()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestHTU(t *testing.T) {
	for _, tt := range []struct {
		htu, url string
		same     bool
	}{
		{"https://a.example/x", "https://a.example/x?q=1", true},
		{"https://a.example", "https://a.example/", true},
		{"https://a.example:/x", "https://a.example/x", true},
		{"http://a.example:80/x", "http://a.example/x", true},
		{"https://a.example:8443/x", "https://A.example:8443/x", true},
		{"https://[2001:DB8::1]:443/x", "https://[2001:db8::1]/x", true},
		{"https://a.example/%7euser/%2f", "https://a.example/~user/%2F", true},
		{"https://a.example/a/../x", "https://a.example/a/../x", true},
		{"https://a.example/X", "https://a.example/x", false},
		{"https://a.example/x/", "https://a.example/x", false},
		{"https://a.example//x", "https://a.example/x", false},
		{"https://a.example/a%2fx", "https://a.example/a/x", false},
		{"https://a.example/a/../x", "https://a.example/x", false},
		{"https://a.example/a/%2e%2e/x", "https://a.example/x", false},
		{"http://a.example/x", "https://a.example/x", false},
		{"https://a.example:80/x", "https://a.example/x", false},
		{"https://a.example:8443/x", "https://a.example/x", false},
		{"https://b.example/x", "https://a.example/x", false},
		{"https://a.example.evil.example/x", "https://a.example/x", false},
		{"https://a.example@evil.example/x", "https://evil.example/x", false},
		{`https://a.example\@evil.example/x`, "https://evil.example/x", false},
		{"https://a.ex%61mple/x", "https://a.example/x", false},
		{"//a.example/x", "https://a.example/x", false},
		{"/x", "https://a.example/x", false},
		{"", "https://a.example/", false},
		{"https://", "https://", true}, // byte for byte what the request is said to be
		{"https:///x", "https://a.example/x", false},
		{"https://a.example/x%", "https://a.example/x", false},
		{"https://a.example/x%zz", "https://a.example/x", false},
		{"https://a.example/x ", "https://a.example/x", false},
		{" https://a.example/x", "https://a.example/x", false},
		{"https://ä.example/x", "https://Ä.example/x", false},
	} {
		_, err := newProofs(t, nil).Verify(t.Context(), proof(t, token.ES256, nil, edit{"htu": tt.htu}), token.ProofCheck{Method: "POST", URL: tt.url})
		if (err == nil) != tt.same {
			t.Errorf("htu %q at %q: %v", tt.htu, tt.url, err)
		}
	}
}

func TestProofsAreUsedOnceUntilTheyAreTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProofs(t, nil)
		time.Sleep(500 * time.Millisecond)
		iat := time.Now().Truncate(time.Second)
		first := proof(t, token.ES256, nil, edit{"jti": "a", "iat": iat.Unix()})
		verify := func(raw, cause string) {
			t.Helper()
			got, err := p.Verify(t.Context(), raw, post())
			if cause != "" {
				notProven(t, got, err, token.ErrProof, cause)
			} else if err != nil {
				t.Fatal(err)
			}
		}
		verify(first, "")
		verify(first, "used before")
		verify(proof(t, token.ES256, edit{"x": 1}, edit{"jti": "a"}), "used before")
		verify(proof(t, token.ES256, nil, edit{"jti": "b"}), "")
		verify(proof(t, token.EdDSA, nil, edit{"jti": "a"}), "")
		time.Sleep(time.Until(iat.Add(time.Minute - time.Nanosecond)))
		verify(first, "used before")
		verify(proof(t, token.ES256, nil, edit{"jti": "c", "iat": iat.Unix()}), "")
		time.Sleep(time.Nanosecond)
		verify(first, "iat")
		verify(proof(t, token.ES256, nil, edit{"jti": "d", "iat": iat.Unix()}), "iat")
		verify(proof(t, token.ES256, nil, edit{"jti": "a"}), "")
		verify(proof(t, token.ES256, nil, edit{"jti": "e", "iat": time.Now().Unix() + 10}), "")
		verify(proof(t, token.ES256, nil, edit{"jti": "f", "iat": time.Now().Unix() + 11}), "iat")
	})
}

func TestWhatWasSeenUnderOtherSettingsIsNotFresh(t *testing.T) {
	before := newProofs(t, nil)
	raw := proof(t, token.ES256, nil, nil)
	if _, err := before.Verify(t.Context(), raw, post()); err != nil {
		t.Fatal(err)
	}
	after, err := token.NewProofs(token.ProofsConfig{Algorithms: []token.Algorithm{token.ES256}, Before: before})
	if err != nil {
		t.Fatal(err)
	}
	got, err := after.Verify(t.Context(), raw, post())
	notProven(t, got, err, token.ErrProof, "used before")
	if _, err := after.Verify(t.Context(), proof(t, token.ES256, nil, edit{"jti": "another"}), post()); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string]token.ProofsConfig{
		"another window":   {Window: time.Minute + time.Second, Before: before},
		"no memory at all": {Before: new(token.Proofs)},
	} {
		if _, err := token.NewProofs(bad); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestAReplayAtTheSameMomentHasOneWinner(t *testing.T) {
	p := newProofs(t, nil)
	raw := proof(t, token.ES256, nil, nil)
	var good atomic.Int32
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := p.Verify(t.Context(), raw, post()); err == nil {
				good.Add(1)
			}
		})
	}
	wg.Wait()
	if n := good.Load(); n != 1 {
		t.Fatalf("%d of 50 uses of one proof succeed", n)
	}
}

func TestFullMemoryOfProofsRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProofs(t, func(c *token.ProofsConfig) { c.Entries = 64 }) // one a shard
		var kept []string
		full := 0
		for i := range 200 {
			raw := proof(t, token.EdDSA, nil, edit{"jti": fmt.Sprint(i)})
			got, err := p.Verify(t.Context(), raw, post())
			if err == nil {
				kept = append(kept, raw)
				continue
			}
			notProven(t, got, err, token.ErrProofsFull, "")
			full++
		}
		if len(kept) > 64 || full == 0 {
			t.Fatalf("%d proofs kept in room for 64, %d refused", len(kept), full)
		}
		for _, raw := range kept {
			got, err := p.Verify(t.Context(), raw, post())
			notProven(t, got, err, token.ErrProof, "used before")
		}
		time.Sleep(time.Minute)
		if _, err := p.Verify(t.Context(), proof(t, token.EdDSA, nil, nil), post()); err != nil {
			t.Fatalf("old proofs keep their room: %v", err)
		}
	})
}

func TestNonces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seal, err := token.NewSealer()
		if err != nil {
			t.Fatal(err)
		}
		config := func(c *token.ProofsConfig) { c.Seal, c.RequireNonce = seal, true }
		before := newProofs(t, config).Nonce()
		time.Sleep(time.Second)
		p := newProofs(t, config)
		n := p.Nonce()
		other, err := token.NewSealer()
		if err != nil {
			t.Fatal(err)
		}
		foreign := newProofs(t, func(c *token.ProofsConfig) { c.Seal = other }).Nonce()
		i := 0
		verify := func(p *token.Proofs, claims edit, want error) {
			t.Helper()
			i++
			c := maps.Clone(claims)
			c["jti"] = fmt.Sprint(i)
			got, err := p.Verify(t.Context(), proof(t, token.ES256, nil, c), post())
			if want != nil {
				notProven(t, got, err, want, "")
			} else if err != nil {
				t.Fatal(err)
			}
		}
		verify(p, edit{"nonce": n}, nil)
		verify(p, edit{"nonce": n}, nil)
		if p.Nonce() != n {
			t.Error("a nonce is made for every caller")
		}
		for name, bad := range map[string]any{"none": nil, "an empty one": "", "an older one under its tag": "AAAA" + "B" + n[5:], "a cut one": n[:len(n)-1], "one with a newline": n + "\n", "a long one": strings.Repeat(n, 50), "another house's": foreign, "one from before the start": before} {
			i++
			got, err := p.Verify(t.Context(), proof(t, token.ES256, nil, edit{"nonce": bad, "jti": fmt.Sprint(i)}), post())
			if got != nil || !errors.Is(err, token.ErrUseNonce) {
				t.Errorf("with %s: %+v, %v", name, got, err)
			}
		}
		verify(p, edit{"nonce": 7}, token.ErrProof)
		verify(p, edit{"nonce": n, "iat": time.Now().Unix() - 3600}, token.ErrProof)
		asked := newProofs(t, func(c *token.ProofsConfig) { c.Seal = seal })
		verify(asked, edit{}, nil)
		verify(asked, edit{"nonce": foreign}, token.ErrUseNonce)
		time.Sleep(5*time.Minute - time.Millisecond)
		verify(p, edit{"nonce": n}, nil)
		if p.Nonce() == n {
			t.Error("the nonce never changes")
		}
		time.Sleep(time.Millisecond)
		verify(p, edit{"nonce": n}, token.ErrUseNonce)
		verify(p, edit{"nonce": p.Nonce()}, nil)
		if err := seal.Rotate(); err != nil {
			t.Fatal(err)
		}
		verify(p, edit{"nonce": p.Nonce()}, nil)
	})
	if newProofs(t, nil).Nonce() != "" {
		t.Error("a nonce without a sealer")
	}
}

func TestProofsConfig(t *testing.T) {
	seal, err := token.NewSealer()
	if err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]token.ProofsConfig{
		"an unknown algorithm":    {Algorithms: []token.Algorithm{"HS256"}},
		"no algorithm":            {Algorithms: []token.Algorithm{}},
		"a negative window":       {Window: -1},
		"a window of an hour":     {Window: time.Hour},
		"negative room":           {Entries: -1},
		"nonces without a sealer": {RequireNonce: true},
		"a sealer without keys":   {Seal: &token.Sealer{}},
	} {
		if p, err := token.NewProofs(cfg); err == nil || p != nil {
			t.Errorf("%s is accepted", name)
		}
	}
	p := newProofs(t, func(c *token.ProofsConfig) { c.Algorithms, c.Seal = []token.Algorithm{token.EdDSA}, seal })
	got, err := p.Verify(t.Context(), proof(t, token.ES256, nil, nil), post())
	notProven(t, got, err, token.ErrProof, "alg")
}

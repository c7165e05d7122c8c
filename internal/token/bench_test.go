package token_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

func BenchmarkVerify(b *testing.B) {
	for _, alg := range []token.Algorithm{token.RS256, token.ES256, token.EdDSA} {
		b.Run(string(alg), func(b *testing.B) {
			v := newVerifier(b, staticKeys(b, jwks(b, alg)), nil)
			raw := good(b, alg)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(b.Context(), raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRefuse(b *testing.B) {
	v := newVerifier(b, staticKeys(b, jwks(b, token.ES256)), nil)
	raw := good(b, token.ES256)
	for name, s := range map[string]string{"grammar": raw + ".x", "kid": sign(b, token.ES256, privateKeys()[token.ES256], `{"alg":"ES256","typ":"at+jwt","kid":"x"}`, `{}`)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(b.Context(), s); err == nil {
					b.Fatal("accepted")
				}
			}
		})
	}
}

func cachedToken(tb testing.TB) (*token.Cache[*gatehouse.Principal], string) {
	tb.Helper()
	v := newVerifier(tb, staticKeys(tb, jwks(tb, token.ES256)), nil)
	raw := sign(tb, token.ES256, privateKeys()[token.ES256], head(token.ES256), claims(map[string]any{"pad": fmt.Sprintf("%0400d", 0)}))
	c, err := v.Verify(tb.Context(), raw)
	if err != nil {
		tb.Fatal(err)
	}
	cache := token.NewCache[*gatehouse.Principal](0)
	cache.Put(raw, c, &gatehouse.Principal{})
	return cache, raw
}

func BenchmarkCacheHit(b *testing.B) {
	cache, raw := cachedToken(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := cache.Get(raw); !ok {
			b.Fatal("a miss")
		}
	}
}

func BenchmarkCacheHitParallel(b *testing.B) {
	cache, raw := cachedToken(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, ok := cache.Get(raw); !ok {
				b.Error("a miss")
			}
		}
	})
}

func someone() *gatehouse.Principal {
	return &gatehouse.Principal{
		Subject: "auth0|5f7c8ec7c33c6c004bbafe82", Issuer: "okta", Client: "web", Tenant: "acme", Method: gatehouse.MethodJWT,
		Roles: []string{"support", "manager"}, Scopes: []string{"orders:read", "orders:write"}, Expires: time.Now().Add(time.Hour),
	}
}

func BenchmarkMint(b *testing.B) {
	for _, alg := range []token.Algorithm{token.ES256, token.EdDSA, token.RS256} {
		s := newSigner(b, alg)
		b.Run("cold/"+string(alg), func(b *testing.B) {
			a := access(func(a *token.AccessToken) {
				a.ClientID, a.Scopes, a.Roles = "web", []string{"orders:read", "orders:write"}, []string{"support"}
			})
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.AccessToken(a); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("cached", func(b *testing.B) {
		m := newMinter(b, newSigner(b, token.ES256))
		p := someone()
		b.ReportAllocs()
		for b.Loop() {
			if _, err := m.Mint(p, audience); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func TestAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	cache, raw := cachedToken(t)
	m := newMinter(t, newSigner(t, token.ES256))
	p, same := someone(), someone()
	same.Expires = p.Expires
	v := newVerifier(t, staticKeys(t, jwks(t, token.EdDSA)), nil)
	signed := good(t, token.EdDSA)
	for _, tt := range []struct {
		name   string
		budget float64
		do     func() error
	}{
		{"a cache hit", 0, func() error {
			if _, ok := cache.Get(raw); !ok {
				return fmt.Errorf("a miss")
			}
			return nil
		}},
		{"a minted token used again", 0, func() error { _, err := m.Mint(p, audience); return err }},
		{"a minted token used again for an equal principal", 0, func() error { _, err := m.Mint(same, audience); return err }},
		{"a full check", 60, func() error { _, err := v.Verify(t.Context(), signed); return err }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var err error
			n := testing.AllocsPerRun(100, func() { err = tt.do() })
			if err != nil {
				t.Fatal(err)
			}
			if n > tt.budget {
				t.Errorf("%v allocations, want at most %v", n, tt.budget)
			}
		})
	}
}

func BenchmarkProof(b *testing.B) {
	for _, alg := range []token.Algorithm{token.ES256, token.EdDSA, token.PS256} {
		b.Run(string(alg), func(b *testing.B) {
			p := newProofs(b, nil)
			// Each proof once: as many as the loop might ask for, made beforehand.
			raws := make([]string, 2000)
			for i := range raws {
				raws[i] = proof(b, alg, nil, map[string]any{"ath": hashOf(accessToken)})
			}
			check := post()
			check.AccessToken = accessToken
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				if i == len(raws) {
					b.StopTimer()
					p, i = newProofs(b, nil), 0
					b.StartTimer()
				}
				if _, err := p.Verify(b.Context(), raws[i], check); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}

func BenchmarkSeal(b *testing.B) {
	s, err := token.NewSealer()
	if err != nil {
		b.Fatal(err)
	}
	plain := []byte(claims(nil))
	sealed, err := s.Seal("p", plain)
	if err != nil {
		b.Fatal(err)
	}
	tag, err := s.Sign("p", plain)
	if err != nil {
		b.Fatal(err)
	}
	for name, do := range map[string]func() error{
		"seal":   func() error { _, err := s.Seal("p", plain); return err },
		"open":   func() error { _, err := s.Open("p", sealed); return err },
		"sign":   func() error { _, err := s.Sign("p", plain); return err },
		"verify": func() error { return s.Verify("p", plain, tag) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

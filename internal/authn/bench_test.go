package authn_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// stages are the ways a request is authenticated once everything is warm, with
// the allocations each may make.
func stages(t testing.TB) map[string]struct {
	w      *world
	accept *authn.Accept
	r      *http.Request
	allocs float64
} {
	t.Helper()
	w := newWorld(t)
	key, _ := w.key(t, authn.NewKey{Scopes: []string{"orders:read"}})
	billing := named(t, "spiffe://example/billing")
	all := w.accept(t, ways(authn.Way{Issuers: []string{"main", "other"}}, byKey, byCert))
	return map[string]struct {
		w      *world
		accept *authn.Accept
		r      *http.Request
		allocs float64
	}{
		"JWT cached":       {w, all, bearer(w.token(t, nil)), 0},
		"JWT bound cached": {w, all, over(bearer(w.token(t, map[string]any{"cnf": map[string]any{"x5t#S256": x5t(billing)}})), billing), 0},
		"API key":          {w, all, request("X-Api-Key", key), 0},
		"certificate":      {w, all, over(request(), billing), 0},
		"public":           {w, w.accept(t, public(byMain)), request(), 0},
	}
}

func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for name, s := range stages(t) {
		got := testing.AllocsPerRun(200, func() {
			if _, err := s.w.Authenticate(t.Context(), s.r, s.accept); err != nil {
				t.Fatal(err)
			}
		})
		if got > s.allocs {
			t.Errorf("%s: %v allocations, want at most %v", name, got, s.allocs)
		}
	}
}

// ownStages are our own tokens, for which revocations and the audience are asked
// each time, once they are remembered.
func ownStages(t testing.TB) (*ownWorld, map[string]*http.Request, *authn.Accept) {
	t.Helper()
	key := must[*token.Decrypter](t)(token.NewDecrypter())
	w := newOwn(t, func(c *authn.Config) { c.Decrypter = key })
	strong := ownClaims(map[string]any{"acr": "phr", "auth_time": time.Now().Unix(), "authorization_details": []any{map[string]any{"type": "payment"}}})
	w.opener.known = map[string]map[string]any{opaque: strong}
	acc := w.accept(func(w *authn.Ways) {
		w.ACR, w.MaxAge, w.Details = []string{"aal2", "phr"}, time.Hour, []string{"payment"}
	})
	encrypted := must[string](t)(must[*token.Encrypter](t)(token.NewEncrypter(key.PublicJWK())).Encrypt(w.token(strong)))
	return w, map[string]*http.Request{"JWT": bearer(w.token(strong)), "opaque": bearer(opaque), "encrypted": bearer(encrypted)}, acc
}

func TestAllocsOfOwnTokens(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	w, requests, acc := ownStages(t)
	for name, r := range requests {
		got := testing.AllocsPerRun(200, func() {
			if _, err := w.ask(r, acc); err != nil {
				t.Fatal(err)
			}
		})
		if got > 0 {
			t.Errorf("%s: %v allocations, want none", name, got)
		}
	}
	client := newProver(t)
	tok, easy := w.token(client.cnf()), w.accept(nil)
	proofs := make(chan *http.Request, 202)
	for range cap(proofs) {
		proofs <- client.proven(tok)
	}
	const most = 48
	if got := testing.AllocsPerRun(200, func() {
		if _, err := w.ask(<-proofs, easy); err != nil {
			t.Fatal(err)
		}
	}); got > most {
		t.Errorf("DPoP: %v allocations, want at most %d", got, most)
	}
}

func BenchmarkOwn(b *testing.B) {
	w, requests, acc := ownStages(b)
	for name, r := range requests {
		b.Run(name+" cached, all asked", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.ask(r, acc); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	easy := w.accept(nil)
	b.Run("JWT cached, revocation and audience", func(b *testing.B) {
		r := requests["JWT"]
		b.ReportAllocs()
		for b.Loop() {
			if _, err := w.ask(r, easy); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("DPoP", func(b *testing.B) {
		client := newProver(b)
		tok := w.token(client.cnf())
		b.ReportAllocs()
		for range b.N { // not b.Loop: each proof is good once, and made beside
			b.StopTimer()
			r := client.proven(tok)
			b.StartTimer()
			if _, err := w.ask(r, easy); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkPhantom is an opaque token that was seen before: believed, asked whether
// it was revoked, and exchanged for the JWT its service gets.
func BenchmarkPhantom(b *testing.B) {
	w, requests, acc := ownStages(b)
	signer, err := token.NewSigner(token.ES256)
	if err != nil {
		b.Fatal(err)
	}
	mint, err := token.NewMinter(token.MinterConfig{Issuer: "gatehouse"}, signer)
	if err != nil {
		b.Fatal(err)
	}
	r := requests["opaque"]
	b.ReportAllocs()
	for b.Loop() {
		who, err := w.ask(r, acc)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := mint.Mint(who, "orders"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	now := time.Now() // as the gateway asks it
	for name, s := range stages(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.w.AuthenticateAt(b.Context(), now, s.r, "https", s.accept); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// What a stranger can make us do.
func BenchmarkRefuse(b *testing.B) {
	w := newWorld(b)
	all := w.accept(b, ways(byMain, byKey))
	key, _ := newWorld(b).key(b, authn.NewKey{})
	tok := w.token(b, nil)
	for name, r := range map[string]*http.Request{
		"nothing": request(), "unknown key": bearer(key), "malformed key": bearer(key[:20]), "forged token": bearer(tok[:len(tok)-4] + "AAAA"),
		"unknown issuer": bearer(w.token(b, map[string]any{"iss": "https://evil.example"})), "8 KiB of dots": bearer(strings.Repeat(".", 8<<10)),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.Authenticate(b.Context(), r, all); err == nil {
					b.Fatal("accepted")
				}
			}
		})
	}
}

func FuzzAuthenticate(f *testing.F) {
	w := newWorld(f)
	go w.keys.Run(f.Context(), func(error) {}) // without it keys are refused after two seconds
	key, _ := w.key(f, authn.NewKey{})
	tok := w.token(f, nil)
	for _, s := range []string{"", "Bearer", "Bearer ", "Bearer " + tok, "Bearer " + key, "bearer  " + tok, "Basic YTpi", "DPoP " + tok, key, "Bearer " + tok + "," + tok, "Bearer a.b.c", "Bearer gk_"} {
		f.Add(s, s == "")
	}
	all := must[*authn.Accept](f)(w.Accept(public(byMain, byKey)))
	f.Fuzz(func(t *testing.T, value string, header bool) {
		r := request()
		if header {
			r.Header["X-Api-Key"] = []string{value}
		} else {
			r.Header["Authorization"] = []string{value}
		}
		who, err := w.Authenticate(t.Context(), r, all)
		if err == nil {
			// Whoever is let in has shown the token or the key, to the byte.
			if who.Anonymous() || !strings.HasSuffix(value, tok) && !strings.HasSuffix(value, key) {
				t.Fatalf("%q was accepted as %+v", value, who)
			}
			return
		}
		p := gatehouse.AsProblem(err)
		if s := p.Kind.Status(); s != 401 && s != 400 {
			t.Fatalf("%q: %d %v", value, s, err)
		}
		for _, c := range p.Challenges {
			if strings.ContainsFunc(c, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Fatalf("%q: challenge %q", value, c)
			}
		}
	})
}

func FuzzWellFormedKey(f *testing.F) {
	key, _ := newWorld(f).key(f, authn.NewKey{})
	f.Add(key)
	f.Add(key[:len(key)-1])
	f.Add("gk__" + key)
	f.Add(strings.Repeat("_", len(key)))
	f.Fuzz(func(t *testing.T, s string) {
		if authn.WellFormedKey(s) && !keyPattern.MatchString(s) {
			t.Fatalf("%q is said to be well formed and does not match the published pattern", s)
		}
	})
}

package authn_test

import (
	"crypto/x509"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/authn"
)

// What is remembered of a certificate must not outlive it, and be nobody else's.
func TestARememberedCertificate(t *testing.T) {
	w := newWorld(t)
	acc := w.accept(t, ways(byCert))
	billing := named(t, "spiffe://example/billing")
	ask := func(c *x509.Certificate, now time.Time) (*gatehouse.Principal, error) {
		return w.AuthenticateAt(t.Context(), now, over(request(), c), "https", acc)
	}
	first, err := ask(billing, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := ask(billing, time.Now()); err != nil || again != first {
		t.Errorf("it is not remembered: %v", err)
	}
	who, err := ask(billing, billing.NotAfter.Add(time.Second))
	wantProblem(t, who, err, gatehouse.Unauthenticated, "certificate_unknown")
	stranger := named(t, "spiffe://example/stranger")
	for range 3 {
		who, err = ask(stranger, time.Now())
		wantProblem(t, who, err, gatehouse.Unauthenticated, "certificate_unknown")
	}
	// More certificates than are remembered, from many connections at once.
	copies := make([]*x509.Certificate, 3000)
	for i := range copies {
		c := *billing
		if i%3 == 0 {
			c = *stranger
		}
		copies[i] = &c
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 2 {
				for i, c := range copies {
					who, err := ask(c, time.Now())
					if i%3 == 0 && err == nil || i%3 != 0 && (err != nil || who.Subject != first.Subject || who.KeyID != x5t(billing)) {
						t.Errorf("certificate %d: %+v, %v", i, who, err)
						return
					}
				}
			}
		})
	}
	all.Wait()
}

// The thumbprint that is remembered is of this connection's certificate.
func TestABoundTokenIsHeldAgainstTheCertificateOfItsConnection(t *testing.T) {
	w := newWorld(t)
	acc := w.accept(t, ways(authn.Way{Issuers: []string{"main"}}))
	billing, other := named(t, "spiffe://example/billing"), named(t, "spiffe://example/billing")
	for _, bound := range []string{x5t(billing), x5t(billing)[:42], x5t(billing) + "A", x5t(other)} {
		raw := w.token(t, map[string]any{"cnf": map[string]any{"x5t#S256": bound}})
		for range 3 {
			for _, c := range []*x509.Certificate{billing, other} {
				_, err := w.AuthenticateAt(t.Context(), time.Now(), over(bearer(raw), c), "https", acc)
				if (err == nil) != (bound == x5t(c)) {
					t.Errorf("a token bound to %s is taken from %s: %v", bound, x5t(c), err)
				}
			}
		}
	}
}

func TestAMistypedKeyIsToldAsSuch(t *testing.T) {
	w := newWorld(t)
	acc := w.accept(t, ways(byKey))
	key, _ := w.key(t, authn.NewKey{})
	for at := range len(key) {
		c := byte('A')
		if key[at] == 'A' {
			c = 'B'
		}
		if key[at] == '_' || at < len("gk_live_") {
			continue
		}
		wrong := key[:at] + string(c) + key[at+1:]
		if authn.WellFormedKey(wrong) {
			t.Errorf("%s is said to be well formed", wrong)
		}
		who, err := w.Authenticate(t.Context(), request("X-Api-Key", wrong), acc)
		if p := wantProblem(t, who, err, gatehouse.Unauthenticated, "key_invalid"); p.Err == nil || p.Err.Error() != "the checksum does not hold: mistyped or cut" {
			t.Errorf("character %d: %v", at, p.Err)
		}
	}
}

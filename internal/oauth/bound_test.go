package oauth_test

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

func TestNoncesOfProofs(t *testing.T) {
	h := newHouse(t, func(c *oauth.Config) { c.RequireNonce = true })
	h.client("spa", public)
	key := newSigningKey(t)
	code := h.code("spa")
	first := h.token("spa", redeem(code), key.proving)
	wantError(t, first, 400, "use_dpop_nonce")
	nonce := first.Header().Get("DPoP-Nonce")
	with := func(nonce string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("DPoP", key.sign(map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": key.jwk},
				map[string]any{"jti": rand.Text(), "htm": "POST", "htu": issuer + "/token", "iat": time.Now().Unix(), "nonce": nonce}))
		}
	}
	wantError(t, h.token("spa", redeem(code), with("made-up")), 400, "use_dpop_nonce")
	a := h.token("spa", redeem(code), with(nonce))
	if a.Code != http.StatusOK || a.Header().Get("DPoP-Nonce") == "" {
		t.Fatalf("the code was used up by a proof without nonce, or there is no nonce for the next one: %d %s", a.Code, a.Body)
	}
	if a = h.token("spa", refresh(a.text("refresh_token")), with(a.Header().Get("DPoP-Nonce"))); a.Code != http.StatusOK {
		t.Errorf("%s", a.Body)
	}
}

func TestTokensBoundToACertificate(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", func(m *oauth.Metadata) { m.TLSBoundTokens = true })
	h.client("spa", func(m *oauth.Metadata) { public(m); m.TLSBoundTokens = true })
	mine, other := newCertificate(t), newCertificate(t)
	wantError(t, h.token("app", redeem(h.code("app"))), 400, "invalid_request")
	a := h.token("app", redeem(h.code("app")), mine.connect)
	cnf, _ := h.claims(a.text("access_token"), "at+jwt")["cnf"].(map[string]any)
	if a.text("token_type") != "Bearer" || cnf["x5t#S256"] != mine.thumbprint() {
		t.Fatalf("%s %v", a.Body, cnf)
	}
	if seen := h.post("/introspect", "app", form("token", a.text("access_token"))); seen.json["cnf"] == nil {
		t.Errorf("%s", seen.Body)
	}
	for name, c := range map[string]struct {
		with *certificateKey
		want int
	}{"its own": {mine, 200}, "another": {other, 401}, "none": {nil, 401}} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, issuer+"/userinfo", nil)
		r.Header.Set("Authorization", "Bearer "+a.text("access_token"))
		if c.with != nil {
			c.with.connect(r)
		}
		if got := h.do(r); got.Code != c.want {
			t.Errorf("with %s certificate: %d, want %d", name, got.Code, c.want)
		}
	}
	t.Run("a public client's refresh token is bound to it, too", func(t *testing.T) {
		a := h.token("spa", redeem(h.code("spa")), mine.connect)
		wantError(t, h.token("spa", refresh(a.text("refresh_token")), other.connect), 400, "invalid_grant")
		if a = h.token("spa", refresh(a.text("refresh_token")), mine.connect); a.Code != http.StatusOK {
			t.Errorf("%s", a.Body)
		}
	})
}

type certificateKey struct{ cert *x509.Certificate }

func newCertificate(t *testing.T) *certificateKey {
	t.Helper()
	key := newSigningKey(t).private
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "app"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	ok(t, err)
	cert, err := x509.ParseCertificate(der)
	ok(t, err)
	return &certificateKey{cert}
}

// connect makes r one that came over a connection with the certificate.
func (c *certificateKey) connect(r *http.Request) {
	r.TLS = &tls.ConnectionState{HandshakeComplete: true, PeerCertificates: []*x509.Certificate{c.cert}}
}

func (c *certificateKey) thumbprint() string {
	sum := sha256.Sum256(c.cert.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func TestDetailsOfATokenAreThoseOfItsAPI(t *testing.T) {
	h := newHouse(t, func(c *oauth.Config) {
		c.DetailTypes = []string{"payment"}
		c.Resources[1].Format = "jwt"
	})
	h.client("app", func(m *oauth.Metadata) { m.DetailTypes = []string{"payment"} })
	h.client("robot", func(m *oauth.Metadata) { machine(m); m.DetailTypes = []string{"payment"} })
	entry := func(at, amount string) string {
		return `{"amount":"` + amount + `","locations":["` + at + `"],"type":"payment"}`
	}
	list := func(entries ...string) string {
		b, err := json.Marshal(raws(entries))
		ok(t, err)
		return string(b)
	}
	of := func(a *reply) string {
		b, err := json.Marshal(h.claims(a.text("access_token"), "at+jwt")["authorization_details"])
		ok(t, err)
		return string(b)
	}
	both := list(entry(orders, "1"), entry(mail, "2"))
	authorize := func() string {
		b := h.browser()
		b.signIn(h.user.ID, identity.ACRPassword)
		v := request("app", "scope", "openid orders:read mail", "authorization_details", both)
		v["resource"] = []string{orders, mail}
		back := b.follow(b.authorize(v)).back()
		if back.Get("code") == "" {
			t.Fatalf("%v", back)
		}
		return back.Get("code")
	}
	a := h.token("app", redeem(authorize(), "resource", orders))
	if got := of(a); got != list(entry(orders, "1")) {
		t.Errorf("%s: what is for another API is in it", got)
	}
	tok := a.text("refresh_token")
	wantError(t, h.token("app", refresh(tok, "authorization_details", list(entry(orders, "100")))), 400, "invalid_authorization_details")
	a = h.token("app", refresh(tok, "resource", mail, "authorization_details", list(entry(mail, "2"))))
	if got := of(a); got != list(entry(mail, "2")) {
		t.Errorf("%s", got)
	}
	if got := of(h.token("app", refresh(a.text("refresh_token")))); got != both {
		t.Errorf("%s: a token that was narrower has narrowed the grant", got)
	}
	if got := of(h.token("robot", form("grant_type", "client_credentials", "resource", orders, "authorization_details", list(entry(orders, "5"))))); got != list(entry(orders, "5")) {
		t.Errorf("%s", got)
	}
	wantError(t, h.token("robot", form("grant_type", "client_credentials", "authorization_details", `[{"type":"other"}]`)), 400, "invalid_authorization_details")
}

func raws(entries []string) (out []json.RawMessage) {
	for _, e := range entries {
		out = append(out, json.RawMessage(e))
	}
	return out
}

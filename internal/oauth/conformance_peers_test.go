package oauth_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/egress"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

// The tests of this file are the classes of holes that the advisories of other
// authorization servers are about, where no test of one part has them already.

// CVE-2026-27840 and its like: a token of which a part is missing or changed.
func TestNoTokenIsGoodInPart(t *testing.T) {
	h := newHouse(t, open)
	h.client("app", nil)
	h.client("service", func(m *oauth.Metadata) { service(m); m.Resources = []string{mail} })
	opaque := h.tokens("app", "scope", "openid mail", "resource", mail)
	reg := h.register(`{"redirect_uris":["https://app.example/callback"]}`)
	get := func(path, access string) *reply {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, issuer+path, nil)
		r.Header.Set("Authorization", "Bearer "+access)
		return h.do(r)
	}
	code, pushed := h.code("app"), h.push("app")
	b := h.browser()
	b.signIn(h.user.ID, identity.ACRPassword)
	for _, tt := range []struct {
		name, value string
		good        func(value string) bool
	}{
		{"an opaque token at userinfo", opaque.text("access_token"), func(v string) bool { return get("/userinfo", v).Code == http.StatusOK }},
		{"an opaque token in an exchange", opaque.text("access_token"), func(v string) bool { return h.token("service", exchangeForm(v)).Code == http.StatusOK }},
		{"a refresh token", opaque.text("refresh_token"), func(v string) bool { return h.token("app", refresh(v)).Code == http.StatusOK }},
		{"a registration access token", reg.text("registration_access_token"), func(v string) bool { return get("/register/"+reg.text("client_id"), v).Code == http.StatusOK }},
		{"a client secret", h.secrets["app"], func(v string) bool {
			return h.post("/introspect", "", form("token", "x"), func(r *http.Request) { r.SetBasicAuth("app", v) }).Code == http.StatusOK
		}},
		{"a code", code, func(v string) bool { return h.token("app", redeem(v)).Code == http.StatusOK }},
		{"a request_uri", pushed, func(v string) bool { return b.authorize(byReference("app", v)).back().Get("code") != "" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			raw := tt.value
			for i := 1; i < len(raw); i += 1 + len(raw)/40 {
				flipped := []byte(raw)
				flipped[i] ^= 1
				for _, v := range []string{raw[:i], raw[i:], string(flipped), raw[:i] + raw[i+1:]} {
					if tt.good(v) {
						t.Fatalf("good with a part of it, at %d of %d: %.12s…", i, len(raw), v)
					}
				}
			}
			for _, v := range []string{raw + "A", raw + "=", raw + "\n", "x" + raw, raw + "." + raw, raw + raw, strings.ToUpper(raw), raw + "\x00"} {
				if tt.good(v) {
					t.Errorf("good with more than it: %q", v[max(len(v)-8, 0):])
				}
			}
			if !tt.good(raw) {
				t.Error("it is not good as a whole: what was tried shows nothing")
			}
		})
	}
}

// CVE-2025-64101 and its like: what is built from Host or X-Forwarded-*.
func TestTheRequestDoesNotNameTheIssuer(t *testing.T) {
	h := newHouse(t, open)
	h.client("app", func(m *oauth.Metadata) { m.Trusted = false })
	h.client("ours", nil)
	h.client("tv", tv)
	poison := func(r *http.Request) {
		r.Host = "evil.example"
		r.Header.Set("Forwarded", "host=evil.example;proto=http")
		r.Header.Set("X-Forwarded-Proto", "http")
		for _, name := range []string{"X-Forwarded-Host", "X-Forwarded-Server", "X-Forwarded-Prefix", "X-Original-Host", "X-Host", "X-Original-URL", "X-Rewrite-URL"} {
			r.Header.Set(name, "evil.example")
		}
	}
	clean := func(name string, a *reply) {
		t.Helper()
		if a.Code >= 500 || strings.Contains(a.Body.String(), "evil.example") || strings.Contains(fmt.Sprint(a.Header()), "evil.example") {
			t.Errorf("%s: %d %v %s", name, a.Code, a.Header(), a.Body)
		}
	}
	send := func(method, path, contentType, body string, with ...func(*http.Request)) *reply {
		r := httptest.NewRequestWithContext(t.Context(), method, issuer+path, strings.NewReader(body))
		r.Header.Set("Content-Type", contentType)
		for _, f := range append(with, poison) {
			f(r)
		}
		return h.do(r)
	}
	const aForm = "application/x-www-form-urlencoded"
	clean("metadata", send("GET", "/.well-known/openid-configuration", "", ""))
	registered := send("POST", "/register", "application/json", goodRegistration)
	clean("registration", registered)
	if uri := registered.text("registration_client_uri"); !strings.HasPrefix(uri, issuer+"/register/") {
		t.Error(uri)
	}
	begun := send("POST", "/device_authorization", aForm, "client_id=tv&scope=openid")
	clean("a device", begun)
	if uri := begun.text("verification_uri"); uri != issuer+"/device" {
		t.Error(uri, begun.Body)
	}
	toSignIn := send("GET", "/authorize?"+request("app").Encode(), "", "")
	clean("the way to the sign-in page", toSignIn)
	if to := toSignIn.Header().Get("Location"); !strings.HasPrefix(to, "/auth/signin?") {
		t.Error(to)
	}
	clean("a reset", send("GET", "/reset", "", ""))
	tokens := send("POST", "/token", aForm, redeem(h.code("ours")).Encode(), func(r *http.Request) { r.SetBasicAuth("ours", h.secrets["ours"]) })
	clean("tokens", tokens)
	if c := h.claims(tokens.text("id_token"), "JWT"); c["iss"] != issuer {
		t.Error(c)
	}
	clean("a challenge", send("GET", "/userinfo", "", ""))
}

// CVE-2026-27945, CVE-2025-67494 and their like: a URL of a client's that leads
// inside. The same egress rules as in the gateway stand before all of them.
func TestNoURLOfAClientLeadsInside(t *testing.T) {
	var reached atomic.Int32
	inside := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer inside.Close()
	out, err := egress.New(egress.Config{})
	ok(t, err)
	defer out.Close()
	h := newHouse(t, func(c *oauth.Config) { open(c); c.Fetch, c.Post, c.MetadataDocs = out, out, []string{"*"} })
	_, port, _ := strings.Cut(inside.Listener.Addr().String(), ":")
	key := newSigningKey(t)
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "0.0.0.0", "127.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "169.254.169.254", "127.0.0.1.nip.io"} {
		base := "https://" + host + ":" + port
		sector, err := json.Marshal(map[string]any{"redirect_uris": []string{callback}, "sector_identifier_uri": base + "/sector"})
		ok(t, err)
		if a := h.register(string(sector)); a.Code == http.StatusCreated {
			t.Errorf("sector_identifier_uri %s: %s", base, a.Body)
		}
		keys, err := json.Marshal(map[string]any{"redirect_uris": []string{callback}, "token_endpoint_auth_method": "private_key_jwt", "jwks_uri": base + "/jwks"})
		ok(t, err)
		if a := h.register(string(keys)); a.Code == http.StatusCreated {
			id := a.text("client_id")
			wantError(t, h.post("/token", "", with(redeem("ghc_x"), "client_assertion_type", assertionType, "client_assertion", key.assertion(id))), 401, "invalid_client")
		}
		b := h.browser()
		if a := b.authorize(request(base+"/client", "redirect_uri", base+"/callback")); a.back() != nil || a.Code < 400 || a.Code >= 500 {
			t.Errorf("a metadata document at %s: %d %s", base, a.Code, a.Header().Get("Location"))
		}
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("the inside was reached %d times", n)
	}
}

// CVE-2026-55670 and its like: what comes after something that was deleted is
// something else.
func TestIDsAreNotRecycled(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", func(m *oauth.Metadata) { m.Trusted = false })
	b := h.browser()
	session := b.signIn(h.user.ID, identity.ACRPassword)
	page := b.follow(b.authorize(request("app", "scope", "openid orders:read")))
	tokens := h.token("app", redeem(b.submit(page, "/consent", "decision", "allow").back().Get("code")))
	if tokens.Code != http.StatusOK {
		t.Fatal(tokens.Body)
	}
	waiting := b.authorize(request("app", "prompt", "login")).Header().Get("Location")
	ok(t, h.people.Delete(t.Context(), "test", h.user.ID))
	again, err := h.people.Create(t.Context(), "test", identity.NewUser{Name: "ada", Email: "ada@example.org", EmailVerified: true})
	ok(t, err)
	if again.ID == h.user.ID {
		t.Fatal("the id was given again")
	}
	wantError(t, h.token("app", refresh(tokens.text("refresh_token"))), 400, "invalid_grant")
	eventually(t, "a deleted user's token lives on in who has the name now", func() bool { return !h.active("app", tokens.text("access_token")) })
	if a := b.authorize(request("app", "prompt", "none")); a.back().Get("error") != "login_required" {
		t.Error("a deleted user's session lives on:", a.back(), session.ID)
	}
	_ = b.follow(b.get(waiting))
	fresh := h.browser()
	fresh.signIn(again.ID, identity.ACRPassword)
	if a := fresh.authorize(request("app", "prompt", "none", "scope", "openid orders:read")); a.back().Get("error") != "consent_required" {
		t.Error("a deleted user's consent counts for who has the name now:", a.back())
	}
	if list, err := h.Grants(t.Context(), again.ID); err != nil || len(list) != 0 {
		t.Error(list, err)
	}
	old := h.secrets["app"]
	ok(t, h.DeleteClient(t.Context(), "test", "app"))
	if _, _, err := h.CreateClient(t.Context(), "test", "app", webApp()); err == nil {
		t.Error("a deleted client's id was given again")
	}
	wantError(t, h.post("/introspect", "", form("token", "x"), func(r *http.Request) { r.SetBasicAuth("app", old) }), 401, "invalid_client")
}

// GO-2021-0110 and its like: an assertion is good once, for all endpoints, all
// processes on the same database, and after a restart.
func TestAnAssertionIsUsedOnceEverywhere(t *testing.T) {
	h := newHouse(t, nil)
	key := newSigningKey(t)
	h.client("app", func(m *oauth.Metadata) { m.TokenEndpointAuthMethod, m.JWKS = "private_key_jwt", key.jwks() })
	second := *h
	var err error
	second.Server, err = oauth.New(t.Context(), oauth.Config{Issuer: issuer, DB: h.db, Keys: h.keys, Seal: h.seal, People: h.people, Log: discard{}})
	ok(t, err)
	second.handler = second.Handler()
	bodies := map[string]url.Values{
		"/par": request("app"), "/token": refresh("ghr_x"), "/introspect": form("token", "x"), "/revoke": form("token", "x"), "/device_authorization": form("scope", "openid"),
	}
	for first, body := range bodies {
		raw := key.assertion("app")
		use := func(h *house, path string, v url.Values) *reply {
			return h.post(path, "", with(v, "client_id", "app", "client_assertion_type", assertionType, "client_assertion", raw))
		}
		if a := use(h, first, body); a.Code == http.StatusUnauthorized {
			t.Errorf("%s: %d %s", first, a.Code, a.Body)
		}
		for path, v := range bodies {
			wantError(t, use(h, path, v), 401, "invalid_client")
			wantError(t, use(&second, path, v), 401, "invalid_client")
		}
	}
}

// GO-2023-2334, CVE-2025-27144 and their like: tokens made to cost more to read than
// to send.
func TestHostileTokensCostLittle(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", nil)
	key := newSigningKey(t)
	h.client("jwt", func(m *oauth.Metadata) { m.TokenEndpointAuthMethod, m.JWKS = "private_key_jwt", key.jwks() })
	for name, raw := range map[string]string{
		"dots":                                 strings.Repeat(".", 60000),
		"a header of dots":                     strings.Repeat("a.", 30000),
		"a PBES2 with ten rounds of a million": base64url(`{"alg":"PBES2-HS256+A128KW","enc":"A128GCM","p2c":10000000,"p2s":"AAAA"}`) + ".AAAA.AAAA.AAAA.AAAA",
		"a zip":                                base64url(`{"alg":"dir","enc":"A128GCM","zip":"DEF"}`) + "..AAAA." + strings.Repeat("A", 50000) + ".AAAA",
		"a header that is deep":                base64url(strings.Repeat(`{"a":`, 5000)+"1"+strings.Repeat("}", 5000)) + ".e30.AAAA",
		"a JWE of nothing":                     "....",
		"a key of a megabit":                   base64url(`{"alg":"RS256","typ":"dpop+jwt","jwk":{"kty":"RSA","e":"AQAB","n":"`+strings.Repeat("A", 40000)+`"}}`) + ".e30.AAAA",
		"a jku":                                base64url(`{"alg":"ES256","jku":"https://127.0.0.1/keys"}`) + ".e30.AAAA",
		"crit":                                 base64url(`{"alg":"ES256","crit":["b64"],"b64":false}`) + ".e30.AAAA",
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			if a := h.post("/introspect", "app", form("token", raw)); a.Code != http.StatusOK || a.json["active"] != false {
				t.Errorf("introspection: %d %s", a.Code, a.Body)
			}
			if a := h.post("/revoke", "app", form("token", raw)); a.Code != http.StatusOK && a.text("error") != "unsupported_token_type" {
				t.Errorf("revocation: %d %s", a.Code, a.Body)
			}
			wantError(t, h.post("/token", "", with(refresh("ghr_x"), "client_id", "jwt", "client_assertion_type", assertionType, "client_assertion", raw)), 401, "invalid_client")
			a := h.token("app", refresh("ghr_x"), func(r *http.Request) { r.Header.Set("DPoP", raw) })
			wantError(t, a, 400, "invalid_dpop_proof")
			b := h.browser()
			b.signIn(h.user.ID, identity.ACRPassword)
			if a := b.authorize(request("app", "id_token_hint", raw)); a.back().Get("error") != "invalid_request" {
				t.Errorf("a hint: %d %v", a.Code, a.back())
			}
			if a := b.get(issuer + "/logout?" + form("id_token_hint", raw).Encode()); a.Code < 400 || a.Code >= 500 {
				t.Errorf("a hint at logout: %d", a.Code)
			}
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, issuer+"/userinfo", nil)
			r.Header.Set("Authorization", "Bearer "+raw)
			if a := h.do(r); a.Code != http.StatusUnauthorized && a.Code != http.StatusBadRequest {
				t.Errorf("userinfo: %d %s", a.Code, a.Body)
			}
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

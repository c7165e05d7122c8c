package oauth_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

func TestTheCodeFlow(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", nil)
	a := h.tokens("app", "scope", "openid profile orders:read", "claims", `{"id_token":{"email":{"essential":true},"name":null,"sid":null}}`)
	if a.text("token_type") != "Bearer" || a.json["expires_in"] != 600.0 || a.text("scope") != "openid profile orders:read" {
		t.Errorf("%v", a.json)
	}
	if a.Header().Get("Cache-Control") != "no-store" || a.Header().Get("Pragma") != "no-cache" {
		t.Error("tokens that a cache may keep")
	}
	access := h.claims(a.text("access_token"), "at+jwt")
	for name, want := range map[string]any{
		"iss": issuer, "sub": h.user.ID, "aud": orders, "client_id": "app", "scope": "openid profile orders:read", "acr": "aal1",
	} {
		if access[name] != want {
			t.Errorf("access token: %s is %v, want %v", name, access[name], want)
		}
	}
	for _, name := range []string{"exp", "iat", "jti", "sid", "grant_id", "auth_time", "roles", "amr"} {
		if access[name] == nil {
			t.Errorf("access token without %s", name)
		}
	}
	for _, name := range []string{"email", "name", "nonce"} {
		if access[name] != nil {
			t.Errorf("access token with %s", name)
		}
	}
	id := h.claims(a.text("id_token"), "JWT")
	for name, want := range map[string]any{
		"iss": issuer, "sub": h.user.ID, "aud": "app", "azp": "app", "nonce": "n-1", "acr": "aal1", "email": "ada@example.org", "email_verified": nil, "name": "Ada L.",
		"sid": access["sid"], "auth_time": access["auth_time"], "given_name": nil, "roles": nil,
	} {
		if id[name] != want {
			t.Errorf("ID token: %s is %v, want %v", name, id[name], want)
		}
	}
	if id["at_hash"] == nil {
		t.Error("ID token without at_hash")
	}
}

func TestTokensHaveTheFormOfTheirAPI(t *testing.T) {
	open, err := token.NewDecrypter()
	ok(t, err)
	const sealed = "https://api.example/sealed"
	h := newHouse(t, func(c *oauth.Config) {
		c.Resources = append(c.Resources,
			oauth.Resource{ID: sealed, Format: "encrypted", Key: open.PublicJWK(), Life: time.Hour},
			oauth.Resource{ID: "https://api.example/rsa", Algorithm: token.RS256})
	})
	h.client("robot", machine)
	ask := func(resource string) *reply {
		return h.token("robot", form("grant_type", "client_credentials", "resource", resource))
	}
	t.Run("a JWT", func(t *testing.T) {
		c := h.claims(ask(orders).text("access_token"), "at+jwt")
		if c["sub"] != "robot" || c["aud"] != orders || c["scope"] != "orders:read orders:write" || fmt.Sprint(c["roles"]) != "[robot]" || c["grant_id"] != nil {
			t.Errorf("%v", c)
		}
	})
	t.Run("an opaque token", func(t *testing.T) {
		raw := ask(mail).text("access_token")
		c, err := h.OpenToken(t.Context(), raw)
		if err != nil || !strings.HasPrefix(raw, "gha_") || c.Subject != "robot" || !slices.Equal(c.Audience, []string{mail}) || !slices.Equal(c.Scopes, []string{"mail"}) {
			t.Errorf("%v %v", c, err)
		}
		for _, other := range []string{raw[:len(raw)-4] + "AAAA", "gha_", "gha_x", "x" + raw} { // no fault of ours: a 401, not a 503
			c, err := h.OpenToken(t.Context(), other)
			if p := gatehouse.AsProblem(err); c != nil || p == nil || p.Kind != gatehouse.Unauthenticated || p.Reason != "token_invalid" {
				t.Errorf("%v %v", c, err)
			}
		}
	})
	t.Run("an encrypted token, which only its service can read", func(t *testing.T) {
		a := ask(sealed)
		raw := a.text("access_token")
		if !token.Encrypted(raw) || a.json["expires_in"] != 3600.0 {
			t.Fatalf("%v", a.json)
		}
		inner, err := open.Decrypt(raw)
		ok(t, err)
		if h.claims(inner, "at+jwt")["aud"] != sealed {
			t.Error("for another audience")
		}
		if !h.active("robot", inner) || h.active("robot", raw) {
			t.Error("its service asks with what it has decrypted")
		}
		wantError(t, h.post("/revoke", "robot", form("token", raw)), 400, "unsupported_token_type")
	})
	t.Run("one of another algorithm", func(t *testing.T) {
		raw := ask("https://api.example/rsa").text("access_token")
		h.claims(raw, "at+jwt")
		if !strings.Contains(decodeHeader(t, raw), `"RS256"`) {
			t.Error(decodeHeader(t, raw))
		}
	})
	for _, alg := range []string{"RS256", "EdDSA"} {
		t.Run("a client whose tokens are signed by "+alg, func(t *testing.T) {
			h.client("robot-"+alg, func(m *oauth.Metadata) { machine(m); m.AccessTokenAlg = alg })
			raw := h.token("robot-"+alg, form("grant_type", "client_credentials", "resource", orders)).text("access_token")
			h.claims(raw, "at+jwt")
			if !strings.Contains(decodeHeader(t, raw), `"`+alg+`"`) {
				t.Error(decodeHeader(t, raw))
			}
		})
	}
	t.Run("two APIs whose tokens have different forms need two tokens", func(t *testing.T) {
		wantError(t, h.token("robot", form("grant_type", "client_credentials", "resource", orders, "resource", mail)), 400, "invalid_target")
	})
	t.Run("an API that is not named and not clear from the scope gets no token", func(t *testing.T) {
		if c := h.claims(h.token("robot", form("grant_type", "client_credentials")).text("access_token"), "at+jwt"); c["aud"] != issuer {
			t.Errorf("aud %v", c["aud"])
		}
	})
}

func TestGrantTypes(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", nil)
	h.client("robot", machine)
	h.client("spa", public)
	for _, c := range []struct {
		name, client string
		form         url.Values
		code         string
	}{
		{"a missing grant type", "app", form("x", "y"), "invalid_request"},
		{"the password grant does not exist", "app", form("grant_type", "password", "username", "ada", "password", "x"), "unsupported_grant_type"},
		{"the implicit grant does not exist", "app", form("grant_type", "implicit"), "unsupported_grant_type"},
		{"a grant type the client is not registered for", "app", form("grant_type", "client_credentials"), "unauthorized_client"},
		{"a public client acts for nobody", "spa", form("grant_type", "client_credentials"), "unauthorized_client"},
		{"a repeated parameter", "robot", form("grant_type", "client_credentials", "scope", "mail", "scope", "mail"), "invalid_request"},
		{"a scope the client may not have", "robot", form("grant_type", "client_credentials", "scope", "root"), "invalid_scope"},
		{"a scope that is about users", "robot", form("grant_type", "client_credentials", "scope", "openid"), "invalid_scope"},
		{"a resource nobody knows", "robot", form("grant_type", "client_credentials", "resource", "https://x.example"), "invalid_target"},
		{"a code that is missing", "app", form("grant_type", "authorization_code"), "invalid_request"},
		{"a refresh token that is missing", "app", form("grant_type", "refresh_token"), "invalid_request"},
	} {
		t.Run(c.name, func(t *testing.T) { wantError(t, h.token(c.client, c.form), 400, c.code) })
	}
	t.Run("parameters in the URL are refused", func(t *testing.T) {
		wantError(t, h.post("/token?grant_type=client_credentials", "robot", form()), 400, "invalid_request")
	})
	t.Run("JSON is refused", func(t *testing.T) {
		a := h.post("/token", "robot", form(), func(r *http.Request) { r.Header.Set("Content-Type", "application/json") })
		wantError(t, a, 400, "invalid_request")
	})
	t.Run("a body without end is refused", func(t *testing.T) {
		wantError(t, h.token("robot", form("scope", strings.Repeat("x", 70000))), 413, "invalid_request")
	})
}

func TestCodesAreBound(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", nil)
	h.client("other", nil)
	for mask := range 8 {
		client, uri, secret := "app", callback, verifier
		if mask&1 != 0 {
			client = "other"
		}
		if mask&2 != 0 {
			uri = callback + "x"
		}
		if mask&4 != 0 {
			secret = strings.Repeat("a", 43)
		}
		code := h.code("app")
		a := h.token(client, redeem(code, "redirect_uri", uri, "code_verifier", secret))
		if mask == 0 {
			if a.Code != http.StatusOK {
				t.Errorf("the right one is refused: %s", a.Body)
			}
			continue
		}
		wantError(t, a, 400, "invalid_grant")
		again := h.token("app", redeem(code))
		if mask&1 != 0 && again.Code != http.StatusOK {
			t.Errorf("%03b: a code redeemed by another client is refused and kills nothing: %s", mask, again.Body)
		}
		if mask&1 == 0 {
			wantError(t, again, 400, "invalid_grant") // its client had its one try
		}
	}
	for name, verifier := range map[string]string{
		"missing": "", "too short": strings.Repeat("a", 42), "too long": strings.Repeat("a", 129), "of other characters": strings.Repeat("a", 42) + "=",
	} {
		t.Run("a verifier that is "+name, func(t *testing.T) {
			wantError(t, h.token("app", redeem(h.code("app"), "code_verifier", verifier)), 400, "invalid_grant")
		})
	}
	wantError(t, h.token("app", redeem(h.code("app", "resource", orders), "resource", mail)), 400, "invalid_target")
	if a := h.token("app", redeem(h.code("app"), "redirect_uri", "")); a.Code != http.StatusOK {
		t.Errorf("redirect_uri is not needed here (OAuth 2.1): %s", a.Body)
	}
	code := h.code("app")
	for i := range len(code) {
		b := []byte(code)
		b[i] ^= 1
		wantError(t, h.token("app", redeem(string(b))), 400, "invalid_grant")
	}
	for _, cut := range []string{code[:len(code)-1], code[1:], code + "A", strings.ToUpper(code), strings.Repeat("A", 5000)} {
		wantError(t, h.token("app", redeem(cut)), 400, "invalid_grant")
	}
	if a := h.token("app", redeem(code)); a.Code != http.StatusOK {
		t.Errorf("guesses used a code up: %s", a.Body)
	}
}

func TestACodeIsGoodOnce(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", nil)
	code := h.code("app")
	first := h.token("app", redeem(code))
	if !h.active("app", first.text("access_token")) {
		t.Fatalf("no tokens: %s", first.Body)
	}
	wantError(t, h.token("other", redeem(code)), 401, "invalid_client")
	wantError(t, h.token("app", redeem(code)), 400, "invalid_grant")
	if h.active("app", first.text("access_token")) || h.active("app", first.text("refresh_token")) {
		t.Error("a code was shown again and its tokens live")
	}
	wantError(t, h.token("app", refresh(first.text("refresh_token"))), 400, "invalid_grant")
}

func TestFiftyRedemptionsOfOneCode(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", nil)
	code := h.code("app")
	answers := inParallel(50, func() *reply { return h.token("app", redeem(code)) })
	var good *reply
	for _, a := range answers {
		if a.Code == http.StatusOK {
			if good != nil {
				t.Fatal("two of fifty had tokens")
			}
			good = a
			continue
		}
		wantError(t, a, 400, "invalid_grant")
	}
	if good == nil {
		t.Fatal("none of fifty had tokens")
	}
	// RFC 6749 §4.1.2: what came of a code that was shown twice is revoked.
	eventually(t, "the tokens of a code that was shown fifty times live", func() bool { return !h.active("app", good.text("access_token")) })
	wantError(t, h.token("app", refresh(good.text("refresh_token"))), 400, "invalid_grant")
}

func inParallel(n int, f func() *reply) []*reply {
	out := make([]*reply, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { <-start; out[i] = f() })
	}
	close(start)
	wg.Wait()
	return out
}

func TestAnExpiredCodeIsRefused(t *testing.T) {
	h := newHouse(t, func(c *oauth.Config) { c.CodeLife = time.Millisecond })
	h.client("app", nil)
	code := h.code("app")
	<-time.After(5 * time.Millisecond)
	wantError(t, h.token("app", redeem(code)), 400, "invalid_grant")
}

func TestCodesAndKeys(t *testing.T) {
	h := newHouse(t, nil)
	h.client("spa", public)
	h.client("bound", func(m *oauth.Metadata) { m.DPoPBoundTokens = true })
	mine, other := newSigningKey(t), newSigningKey(t)
	t.Run("a code bound by dpop_jkt is refused to another key, and to none", func(t *testing.T) {
		for _, with := range [][]func(*http.Request){{other.proving}, nil} {
			wantError(t, h.token("spa", redeem(h.code("spa", "dpop_jkt", mine.thumbprint())), with...), 400, "invalid_grant")
		}
	})
	t.Run("tokens of a proof are bound to its key", func(t *testing.T) {
		a := h.token("spa", redeem(h.code("spa", "dpop_jkt", mine.thumbprint())), mine.proving)
		cnf, _ := h.claims(a.text("access_token"), "at+jwt")["cnf"].(map[string]any)
		if a.text("token_type") != "DPoP" || cnf["jkt"] != mine.thumbprint() {
			t.Fatalf("%s %v", a.Body, cnf)
		}
		old := a.text("refresh_token")
		wantError(t, h.token("spa", refresh(old)), 400, "invalid_grant")
		wantError(t, h.token("spa", refresh(old), other.proving), 400, "invalid_grant")
		if a := h.token("spa", refresh(old), mine.proving); a.Code != http.StatusOK || a.text("token_type") != "DPoP" {
			t.Errorf("%s", a.Body)
		}
	})
	t.Run("a client that must bind gets nothing without, and keeps its code", func(t *testing.T) {
		code := h.code("bound")
		wantError(t, h.token("bound", redeem(code)), 400, "invalid_dpop_proof")
		if a := h.token("bound", redeem(code), mine.proving); a.Code != http.StatusOK {
			t.Errorf("%s", a.Body)
		}
	})
	t.Run("a confidential client may refresh with another key", func(t *testing.T) {
		a := h.token("bound", redeem(h.code("bound")), mine.proving)
		a = h.token("bound", refresh(a.text("refresh_token")), other.proving)
		cnf, _ := h.claims(a.text("access_token"), "at+jwt")["cnf"].(map[string]any)
		if cnf["jkt"] != other.thumbprint() {
			t.Errorf("%v", cnf)
		}
	})
}

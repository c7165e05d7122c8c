package oauth_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

const (
	exchangeGrant = "urn:ietf:params:oauth:grant-type:token-exchange"
	accessType    = "urn:ietf:params:oauth:token-type:access_token"
	jwtType       = "urn:ietf:params:oauth:token-type:jwt"
)

// service may exchange tokens of the client app.
func service(m *oauth.Metadata) {
	m.GrantTypes, m.RedirectURIs, m.Scope = []string{exchangeGrant, "client_credentials"}, nil, "orders:read mail"
	m.Exchange = []string{"app"}
}

func exchangeForm(subject string, pairs ...string) url.Values {
	v := form("grant_type", exchangeGrant, "subject_token", subject, "subject_token_type", accessType)
	for i := 0; i < len(pairs); i += 2 {
		if v.Del(pairs[i]); pairs[i+1] != "" {
			v.Set(pairs[i], pairs[i+1])
		}
	}
	return v
}

func TestExchange(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", nil)
	h.client("stranger", nil)
	h.client("service", service)
	h.client("mailer", func(m *oauth.Metadata) { service(m); m.Resources = []string{mail, orders} })
	h.client("second", func(m *oauth.Metadata) { service(m); m.Exchange = []string{"service", "second"} })
	h.client("any", func(m *oauth.Metadata) { service(m); m.Exchange = []string{"*"} })
	h.client("tenant", func(m *oauth.Metadata) { service(m); m.Tenant = "acme" })
	given := h.tokens("app", "scope", "openid orders:read orders:write", "resource", orders)
	subject := given.text("access_token")

	t.Run("a service gets a token for the user, with itself as actor", func(t *testing.T) {
		a := h.token("service", exchangeForm(subject))
		if a.Code != 200 || a.text("issued_token_type") != accessType || a.text("token_type") != "Bearer" || a.json["refresh_token"] != nil || a.json["id_token"] != nil {
			t.Fatal(a.Code, a.Body)
		}
		before, c := h.claims(subject, "at+jwt"), h.claims(a.text("access_token"), "at+jwt")
		act, _ := c["act"].(map[string]any)
		if c["sub"] != h.user.ID || c["client_id"] != "service" || act["sub"] != "service" || c["aud"] != orders || c["grant_id"] != before["grant_id"] {
			t.Fatal(c)
		}
		if c["scope"] != "orders:read" {
			t.Fatal("the scope is not what both may have:", c["scope"])
		}
		if c["exp"].(int64) > before["exp"].(int64) {
			t.Fatal("it lives longer than the subject token")
		}
	})
	for _, tt := range []struct {
		name, client string
		pairs        []string
		code         string // "": it is given
	}{
		{"fewer scopes may be asked for", "service", []string{"scope", "orders:read"}, ""},
		{"a scope the subject token lacks is refused", "service", []string{"scope", "mail"}, "invalid_scope"},
		{"a scope the service may not have is refused", "service", []string{"scope", "orders:write"}, "invalid_scope"},
		{"identity is not handed on", "service", []string{"scope", "openid"}, "invalid_scope"},
		{"the subject token's resource may be asked for", "service", []string{"resource", orders}, ""},
		{"and by its name as audience", "service", []string{"audience", orders}, ""},
		{"another resource is refused", "service", []string{"resource", mail}, "invalid_target"},
		{"unless an operator has written it into the client's list", "mailer", []string{"resource", mail}, ""},
		{"an unknown resource is refused", "mailer", []string{"resource", "https://other.example"}, "invalid_target"},
		{"a JWT may be asked for", "service", []string{"requested_token_type", jwtType}, ""},
		{"a JWT of a resource with opaque tokens is refused", "mailer", []string{"resource", mail, "requested_token_type", jwtType}, "invalid_request"},
		{"a refresh token is not given", "service", []string{"requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token"}, "invalid_request"},
		{"an ID token is not given", "service", []string{"requested_token_type", "urn:ietf:params:oauth:token-type:id_token"}, "invalid_request"},
		{"a service that may exchange any client's tokens may this one's", "any", nil, ""},
		{"a service of other clients may not", "second", nil, "invalid_request"},
		{"a service of another tenant may not", "tenant", nil, "invalid_request"},
		{"a client without the grant may not", "stranger", nil, "unauthorized_client"},
		{"no subject token is refused", "service", []string{"subject_token", ""}, "invalid_request"},
		{"no type of it is refused", "service", []string{"subject_token_type", ""}, "invalid_request"},
		{"a SAML assertion is refused", "service", []string{"subject_token_type", "urn:ietf:params:oauth:token-type:saml2"}, "invalid_request"},
		{"an ID token as subject is refused", "service", []string{"subject_token", given.text("id_token")}, "invalid_request"},
		{"a refresh token as subject is refused", "service", []string{"subject_token", given.text("refresh_token")}, "invalid_request"},
		{"a cut token is refused", "service", []string{"subject_token", subject[:len(subject)-1]}, "invalid_request"},
		{"another issuer's token is refused", "service", []string{"subject_token", assertion(t, newSigner(t), "app", nil)}, "invalid_request"},
		{"an actor type without a token is refused", "service", []string{"actor_token_type", accessType}, "invalid_request"},
		{"an actor token of the subject's client is refused", "service", []string{"actor_token", subject, "actor_token_type", accessType}, "invalid_request"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := h.token(tt.client, exchangeForm(subject, tt.pairs...))
			if tt.code == "" && a.Code != 200 || tt.code != "" && a.text("error") != tt.code || tt.code != "" && a.text("access_token") != "" {
				t.Fatal(a.Code, a.Body)
			}
		})
	}
	t.Run("an opaque token is exchanged, too", func(t *testing.T) {
		opaque := h.tokens("app", "scope", "mail", "resource", mail).text("access_token")
		if !strings.HasPrefix(opaque, "gha_") {
			t.Fatal(opaque)
		}
		if a := h.token("mailer", exchangeForm(opaque)); a.Code != 200 || !strings.HasPrefix(a.text("access_token"), "gha_") {
			t.Fatal(a.Code, a.Body)
		}
		for i := 5; i < len(opaque); i += 7 {
			flipped := []byte(opaque)
			flipped[i] ^= 1
			wantError(t, h.token("mailer", exchangeForm(string(flipped))), 400, "invalid_request")
		}
	})
	t.Run("an own token of the service says who acts", func(t *testing.T) {
		own := h.token("service", form("grant_type", "client_credentials", "scope", "orders:read")).text("access_token")
		a := h.token("service", exchangeForm(subject, "actor_token", own, "actor_token_type", accessType))
		if a.Code != 200 {
			t.Fatal(a.Code, a.Body)
		}
		wantError(t, h.token("any", exchangeForm(subject, "actor_token", own, "actor_token_type", accessType)), 400, "invalid_request")
	})
	t.Run("a client's own token is not exchanged", func(t *testing.T) {
		own := h.token("service", form("grant_type", "client_credentials")).text("access_token")
		wantError(t, h.token("any", exchangeForm(own)), 400, "invalid_request")
	})
	t.Run("each hand adds itself, four at most, and the scope never grows", func(t *testing.T) {
		tok := h.token("service", exchangeForm(subject)).text("access_token")
		var hands []string
		for range 3 {
			a := h.token("second", exchangeForm(tok))
			if a.Code != 200 {
				t.Fatal(a.Code, a.Body)
			}
			tok = a.text("access_token")
		}
		for act, is := h.claims(tok, "at+jwt")["act"].(map[string]any); is; act, is = act["act"].(map[string]any) {
			hands = append(hands, act["sub"].(string))
		}
		if !slices.Equal(hands, []string{"second", "second", "second", "service"}) {
			t.Fatal(hands)
		}
		wantError(t, h.token("second", exchangeForm(tok)), 400, "invalid_request")
	})
	t.Run("a bound token needs its key", func(t *testing.T) {
		h.client("bound", func(m *oauth.Metadata) { m.DPoPBoundTokens = true })
		key, thief := newProver(t), newProver(t)
		proof := func(k *prover) func(*http.Request) {
			return dpop(k.proof(t, "", map[string]any{"htu": issuer + "/token"}))
		}
		as := func(client string, v url.Values, with ...func(*http.Request)) *reply {
			r := formRequest(t, "/token", v)
			r.URL.Path = "/auth/token"
			r.SetBasicAuth(client, h.secrets[client])
			for _, f := range with {
				f(r)
			}
			return h.do(r)
		}
		tok := as("bound", redeem(h.code("bound", "scope", "orders:read")), proof(key)).text("access_token")
		if tok == "" {
			t.Fatal("no token")
		}
		wantError(t, as("any", exchangeForm(tok)), 400, "invalid_request")
		wantError(t, as("any", exchangeForm(tok), proof(thief)), 400, "invalid_request")
		a := as("any", exchangeForm(tok), proof(key))
		if a.Code != 200 || a.text("token_type") != "DPoP" {
			t.Fatal(a.Code, a.Body)
		}
	})
}

// What ends a token ends what could be made of it (CVE-2026-9097 of a peer).
func TestExchangeOfWhatHasEnded(t *testing.T) {
	type world struct {
		*house
		subject *reply
		grant   string
		sid     string
	}
	for name, end := range map[string]func(t *testing.T, w *world){
		"a revoked token is refused":      func(t *testing.T, w *world) { w.post("/revoke", "app", form("token", w.subject.text("access_token"))) },
		"a token of a revoked grant is":   func(t *testing.T, w *world) { ok(t, w.RevokeGrant(t.Context(), "test", w.grant)) },
		"a token of a locked user is":     func(t *testing.T, w *world) { ok(t, w.people.Lock(t.Context(), "test", w.user.ID, "test")) },
		"a token of a deleted user is":    func(t *testing.T, w *world) { ok(t, w.people.Delete(t.Context(), "test", w.user.ID)) },
		"a token of an ended session is":  func(t *testing.T, w *world) { ok(t, w.people.End(t.Context(), "test", w.sid)) },
		"a token of a disabled client is": func(t *testing.T, w *world) { ok(t, w.DisableClient(t.Context(), "test", "app")) },
		"a token of a deleted client is":  func(t *testing.T, w *world) { ok(t, w.DeleteClient(t.Context(), "test", "app")) },
		"a token of a client taken off the list is": func(t *testing.T, w *world) {
			c, err := w.Client(t.Context(), "service")
			ok(t, err)
			m := c.Metadata
			m.Exchange = []string{"other"}
			_, err = w.UpdateClient(t.Context(), "test", "service", 0, m)
			ok(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, nil)
			h.client("app", nil)
			h.client("service", service)
			w := &world{house: h, subject: h.tokens("app", "scope", "openid orders:read")}
			claims := h.claims(w.subject.text("access_token"), "at+jwt")
			w.grant, _ = claims["grant_id"].(string)
			w.sid, _ = claims["sid"].(string)
			made := h.token("service", exchangeForm(w.subject.text("access_token")))
			if made.Code != 200 {
				t.Fatal("before:", made.Body)
			}
			end(t, w)
			eventually(t, "it is still exchanged", func() bool {
				a := h.token("service", exchangeForm(w.subject.text("access_token")))
				return a.Code == 400 && a.text("error") == "invalid_request"
			})
			if strings.Contains(name, "list") || strings.Contains(name, "revoked token") {
				return
			}
			eventually(t, "what was made of it lives on", func() bool { return !h.active("service", made.text("access_token")) })
		})
	}
	t.Run("without a database nothing is exchanged", func(t *testing.T) {
		h := newHouse(t, nil)
		h.client("app", nil)
		h.client("service", service)
		tok := h.tokens("app", "scope", "orders:read").text("access_token")
		_ = h.db.Close()
		if a := h.token("service", exchangeForm(tok)); a.Code != http.StatusServiceUnavailable {
			t.Fatal(a.Code, a.Body)
		}
	})
}

func TestExchangedDetailsStayWhereTheyWereGranted(t *testing.T) {
	h := newHouse(t, func(c *oauth.Config) { c.DetailTypes = []string{"note"} })
	h.client("app", func(m *oauth.Metadata) { m.DetailTypes = []string{"note"} })
	h.client("mailer", func(m *oauth.Metadata) { service(m); m.Resources = []string{mail, orders}; m.Scope = "orders:read" })
	details, _ := json.Marshal([]map[string]any{{"type": "note", "n": 1}, {"type": "note", "n": 2, "locations": []string{orders, mail}}, {"type": "note", "n": 3, "locations": []string{orders}}})
	h.client("plain", func(m *oauth.Metadata) { service(m); m.Resources = []string{orders} })
	v := request("app", "scope", "orders:read", "authorization_details", string(details))
	v["resource"] = []string{orders, mail}
	b := h.browser()
	b.signIn(h.user.ID, identity.ACRPassword)
	tok := h.token("app", redeem(b.authorize(v).back().Get("code"), "resource", orders)).text("access_token")
	got := func(client string, pairs ...string) []any {
		a := h.token(client, exchangeForm(tok, pairs...))
		if a.Code != 200 {
			t.Fatal(a.Code, a.Body)
		}
		list, _ := a.json["authorization_details"].([]any)
		return list
	}
	if list := got("plain"); len(list) != 3 {
		t.Error("at the same resource:", list)
	}
	if list := got("mailer", "resource", mail); len(list) != 1 || list[0].(map[string]any)["n"] != 2.0 {
		t.Error("at another resource:", list)
	}
}

func TestADevicesTokenIsExchangedLikeAnother(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", tv)
	h.client("service", service)
	b := h.browser()
	b.signIn(h.user.ID, identity.ACRPassword)
	begun := h.start("app")
	b.allow(begun.text("user_code"))
	if a := h.token("service", exchangeForm(h.poll("app", begun).text("access_token"))); a.Code != 200 {
		t.Fatal(a.Code, a.Body)
	}
}

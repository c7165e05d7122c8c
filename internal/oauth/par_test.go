package oauth_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

const pushedURN = "urn:ietf:params:oauth:request_uri:"

// push hands in a request of client and returns its request_uri.
func (h *house) push(client string, pairs ...string) string {
	h.t.Helper()
	a := h.post("/par", client, request(client, pairs...))
	uri := a.text("request_uri")
	if a.Code != http.StatusCreated || uri == "" {
		h.t.Fatalf("not pushed: %d %s", a.Code, a.Body)
	}
	return uri
}

func byReference(client, uri string) url.Values { return form("client_id", client, "request_uri", uri) }

// The names in brackets are the modules of the OpenID Foundation's FAPI 2.0 suite
// that check the same.
func TestPushedRequests(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", nil)
	h.client("other", nil)
	b := h.browser()
	b.signIn(h.user.ID, identity.ACRPassword)

	t.Run("a pushed request has its code, once [PARAttemptReuseRequestUri]", func(t *testing.T) {
		uri := h.push("app")
		if !strings.HasPrefix(uri, pushedURN) || len(uri) != len(pushedURN)+43 {
			t.Fatal(uri)
		}
		if a := b.authorize(byReference("app", uri)); a.back().Get("code") == "" {
			t.Fatal(a.Code, a.Body)
		}
		if a := b.authorize(byReference("app", uri)); a.back() != nil || a.Code != http.StatusBadRequest {
			t.Fatal("used twice:", a.Code, a.Header())
		}
	})
	t.Run("it says for how long it is good", func(t *testing.T) {
		a := h.post("/par", "app", request("app"))
		if a.Code != http.StatusCreated || a.json["expires_in"] != 60.0 || a.Header().Get("Cache-Control") != "no-store" {
			t.Fatal(a.Code, a.Body, a.Header())
		}
	})
	t.Run("an expired one is refused [PARExpiredRequestUri]", func(t *testing.T) {
		uri := h.push("app")
		h.exec(`UPDATE requests SET expires = 1 WHERE kind = 'pushed' AND consumed = 0`)
		if a := b.authorize(byReference("app", uri)); a.back() != nil || a.Code != http.StatusBadRequest {
			t.Fatal(a.Code, a.Header())
		}
	})
	t.Run("another client cannot use it, nor use it up [PARAttemptToUseRequestUriForDifferentClient]", func(t *testing.T) {
		uri := h.push("app")
		if a := b.authorize(byReference("other", uri)); a.back() != nil || a.Code != http.StatusBadRequest {
			t.Fatal(a.Code, a.Header())
		}
		if a := b.authorize(byReference("app", uri)); a.back().Get("code") == "" {
			t.Fatal("it was used up:", a.Code, a.Body)
		}
	})
	t.Run("of fifty browsers with one request_uri exactly one goes on", func(t *testing.T) {
		uri := h.push("app")
		cookie := b.cookies["__Host-gatehouse"]
		n := parallel(50, func() bool {
			own := h.browser()
			own.cookies["__Host-gatehouse"] = cookie
			return own.authorize(byReference("app", uri)).back().Get("code") != ""
		})
		if n != 1 {
			t.Fatalf("%d went on", n)
		}
	})
	for _, tt := range []struct {
		name  string
		pairs []string
		code  string
	}{
		{"a request_uri inside is refused [PARRejectRequestUriInParAuthorizationFormParams]", []string{"request_uri", pushedURN + "x"}, "invalid_request"},
		{"a request object inside is refused", []string{"request", "e30.e30."}, "request_not_supported"},
		{"PKCE is required [PARPKCERequired]", []string{"code_challenge", ""}, "invalid_request"},
		{"a plain challenge is refused [PARPlainPKCERejected]", []string{"code_challenge_method", "plain"}, "invalid_request"},
		{"a redirect_uri that is not registered is refused", []string{"redirect_uri", "https://evil.example/cb"}, "invalid_request"},
		{"a scope the client may not have is refused", []string{"scope", "openid admin"}, "invalid_scope"},
		{"implicit is refused", []string{"response_type", "token"}, "unsupported_response_type"},
		{"another client_id than the one proven is refused", []string{"client_id", "other"}, "invalid_client"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := h.post("/par", "app", request("app", tt.pairs...))
			if a.text("error") != tt.code || a.text("request_uri") != "" {
				t.Fatal(a.Code, a.Body)
			}
		})
	}
	t.Run("a client that is not proven pushes nothing", func(t *testing.T) {
		if a := h.post("/par", "", request("app")); a.Code != http.StatusUnauthorized {
			t.Fatal(a.Code, a.Body)
		}
	})
	t.Run("a repeated parameter is refused [PARWithoutDuplicateParameters]", func(t *testing.T) {
		v := request("app")
		v.Add("scope", "openid")
		if a := h.post("/par", "app", v); a.text("error") != "invalid_request" {
			t.Fatal(a.Code, a.Body)
		}
	})
	t.Run("only POST pushes [PARRejectInvalidHttpVerb]", func(t *testing.T) {
		for _, method := range []string{"GET", "PUT", "DELETE", "PATCH"} {
			if a := h.do(httptest.NewRequestWithContext(t.Context(), method, issuer+"/par", nil)); a.Code != http.StatusMethodNotAllowed {
				t.Errorf("%s: %d", method, a.Code)
			}
		}
	})
	t.Run("what else is in the URL does not change what was pushed", func(t *testing.T) {
		v := byReference("app", h.push("app"))
		v.Set("scope", "openid orders:write")
		v.Set("state", "other")
		a := b.authorize(v)
		if got := a.back(); got.Get("code") == "" || got.Get("state") == "other" {
			t.Fatal(a.Code, a.Header())
		}
	})
	t.Run("what cannot be kept is not promised", func(t *testing.T) {
		_ = h.db.Close()
		if a := h.post("/par", "app", request("app")); a.Code != http.StatusServiceUnavailable || a.text("request_uri") != "" {
			t.Fatal(a.Code, a.Body)
		}
	})
}

func TestAPushedProofBindsTheCode(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", nil)
	b := h.browser()
	b.signIn(h.user.ID, identity.ACRPassword)
	key, other := newProver(t), newProver(t)
	// As the house has its own issuer, so have its proofs.
	proof := func(p *prover, path string) string { return p.proof(t, "", map[string]any{"htu": issuer + path}) }
	push := func(pairs ...string) *reply {
		r := formRequest(t, "/par", request("app", pairs...))
		r.URL.Path = "/auth/par"
		r.SetBasicAuth("app", h.secrets["app"])
		r.Header.Set("DPoP", proof(key, "/par"))
		return h.do(r)
	}
	redeemWith := func(code string, p *prover) *reply {
		r := formRequest(t, "/token", redeem(code))
		r.URL.Path = "/auth/token"
		r.SetBasicAuth("app", h.secrets["app"])
		if p != nil {
			r.Header.Set("DPoP", proof(p, "/token"))
		}
		return h.do(r)
	}
	code := func() string {
		a := push()
		return b.authorize(byReference("app", a.text("request_uri"))).back().Get("code")
	}
	t.Run("the key that pushed redeems [DpopAuthCodeBinding]", func(t *testing.T) {
		if a := redeemWith(code(), key); a.Code != http.StatusOK || a.text("token_type") != "DPoP" {
			t.Fatal(a.Code, a.Body)
		}
	})
	t.Run("another key does not [MismatchedDpopJkt]", func(t *testing.T) { wantError(t, redeemWith(code(), other), 400, "invalid_grant") })
	t.Run("nor does no key", func(t *testing.T) { wantError(t, redeemWith(code(), nil), 400, "invalid_grant") })
	t.Run("dpop_jkt must say the same as the proof", func(t *testing.T) {
		if a := push("dpop_jkt", key.jkt); a.Code != http.StatusCreated {
			t.Fatal(a.Body)
		}
		wantError(t, push("dpop_jkt", other.jkt), 400, "invalid_dpop_proof")
	})
}

func TestFAPI2TakesPushedRequestsOnly(t *testing.T) {
	h := newHouse(t, func(c *oauth.Config) { c.Profile = oauth.FAPI2 })
	mine := newSigner(t)
	h.client("app", func(m *oauth.Metadata) {
		m.TokenEndpointAuthMethod, m.JWKS, m.DPoPBoundTokens = "private_key_jwt", mine.JWKS(), true
	})
	b := h.browser()
	b.signIn(h.user.ID, identity.ACRPassword)
	if a := b.authorize(request("app")); a.back().Get("error") != "invalid_request" {
		t.Fatal(a.Code, a.Header())
	}
	v := asserted(request("app"), assertion(t, mine, "app", map[string]any{"aud": issuer}))
	a := h.post("/par", "", v)
	if a.Code != http.StatusCreated {
		t.Fatal(a.Body)
	}
	if got := b.authorize(byReference("app", a.text("request_uri"))).back(); got.Get("code") == "" || got.Get("iss") != issuer {
		t.Fatal(got)
	}
}

func TestAuthorizationDetails(t *testing.T) {
	const stock = "https://api.example/stock"
	h := newHouse(t, func(c *oauth.Config) {
		c.Resources = append(c.Resources, oauth.Resource{ID: stock, Scopes: []string{"stock"}})
		c.DetailTypes = []string{"payment", "note"}
		c.DetailSchemas = map[string]json.RawMessage{"payment": json.RawMessage(`{
			"type":"object","required":["type","amount"],"additionalProperties":false,
			"properties":{"type":{"const":"payment"},"amount":{"type":"integer","minimum":1,"maximum":100},"locations":{}}}`)}
	})
	h.client("app", func(m *oauth.Metadata) { m.DetailTypes, m.Resources = []string{"payment", "note"}, []string{orders} })
	h.client("notes", func(m *oauth.Metadata) { m.DetailTypes = []string{"note"} })
	deep := strings.Repeat(`{"a":`, 12) + "1" + strings.Repeat("}", 12)
	for _, tt := range []struct {
		name, client, details string
		ok                    bool
	}{
		{"what the schema takes is taken", "app", `[{"type":"payment","amount":5}]`, true},
		{"a type without schema may have any members", "notes", `[{"type":"note","text":"x","actions":["read"]}]`, true},
		{"a location of the client's is taken", "app", `[{"type":"payment","amount":5,"locations":["` + orders + `"]}]`, true},
		{"two entries are taken", "app", `[{"type":"payment","amount":5},{"type":"note"}]`, true},
		{"another resource as location is refused", "app", `[{"type":"payment","amount":5,"locations":["` + mail + `"]}]`, false},
		{"what the schema refuses is refused", "app", `[{"type":"payment","amount":500}]`, false},
		{"a member the schema does not know is refused", "app", `[{"type":"payment","amount":5,"to":"me"}]`, false},
		{"a type the client is not registered for is refused", "notes", `[{"type":"payment","amount":5}]`, false},
		{"a type nobody configured is refused", "app", `[{"type":"root"}]`, false},
		{"an entry without type is refused", "app", `[{"amount":5}]`, false},
		{"a type that is no string is refused", "app", `[{"type":["payment"]}]`, false},
		{"an object instead of a list is refused", "app", `{"type":"payment","amount":5}`, false},
		{"an empty list is refused", "app", `[]`, false},
		{"an entry that is no object is refused", "app", `["payment"]`, false},
		{"actions that are no list are refused", "notes", `[{"type":"note","actions":"read"}]`, false},
		{"locations of numbers are refused", "notes", `[{"type":"note","locations":[1]}]`, false},
		{"an identifier that is no string is refused", "notes", `[{"type":"note","identifier":1}]`, false},
		{"a name that is there twice is refused", "notes", `[{"type":"note","text":"a","text":"b"}]`, false},
		{"something behind it is refused", "notes", `[{"type":"note"}] []`, false},
		{"what is nested without end is refused", "notes", `[{"type":"note","x":` + deep + `}]`, false},
		{"what is too large is refused", "notes", `[{"type":"note","x":"` + strings.Repeat("a", 17<<10) + `"}]`, false},
		{"too many entries are refused", "notes", `[` + strings.Repeat(`{"type":"note"},`, 32) + `{"type":"note"}]`, false},
		{"what is no JSON is refused", "notes", `[{`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := h.post("/par", tt.client, request(tt.client, "authorization_details", tt.details))
			if tt.ok && a.Code != http.StatusCreated || !tt.ok && a.text("error") != "invalid_authorization_details" {
				t.Fatal(a.Code, a.Body)
			}
		})
	}
	t.Run("what was granted is in the answer and in the token", func(t *testing.T) {
		a := h.tokens("app", "authorization_details", `[ {"amount":5, "type":"payment"} ]`)
		if list, _ := a.json["authorization_details"].([]any); len(list) != 1 {
			t.Fatal(a.Body)
		}
		if list, _ := h.claims(a.text("access_token"), "at+jwt")["authorization_details"].([]any); len(list) != 1 {
			t.Fatal(list)
		}
	})
	t.Run("a location outside the resources asked for is refused", func(t *testing.T) {
		h.client("both", func(m *oauth.Metadata) { m.DetailTypes = []string{"note"} })
		there := `[{"type":"note","locations":["` + mail + `"]}]`
		if a := h.post("/par", "both", request("both", "resource", orders, "authorization_details", there)); a.text("error") != "invalid_authorization_details" {
			t.Fatal(a.Code, a.Body)
		}
		if a := h.post("/par", "both", request("both", "resource", mail, "authorization_details", there, "scope", "openid mail")); a.Code != http.StatusCreated {
			t.Fatal(a.Code, a.Body)
		}
	})
	t.Run("each API's token has its own details only", func(t *testing.T) {
		h.client("two", func(m *oauth.Metadata) { m.DetailTypes = []string{"note"} })
		v := request("two", "scope", "openid orders:read", "authorization_details", `[{"type":"note","n":1,"locations":["`+orders+`"]},{"type":"note","n":2,"locations":["`+stock+`"]},{"type":"note","n":3}]`)
		v["resource"] = []string{orders, stock}
		b := h.browser()
		b.signIn(h.user.ID, identity.ACRPassword)
		a := h.token("two", redeem(b.authorize(v).back().Get("code"), "resource", orders))
		list, _ := h.claims(a.text("access_token"), "at+jwt")["authorization_details"].([]any)
		var got []any
		for _, d := range list {
			got = append(got, d.(map[string]any)["n"])
		}
		if !slices.Equal(got, []any{int64(1), int64(3)}) {
			t.Fatal(got, a.Body)
		}
		a = h.token("two", refresh(a.text("refresh_token"), "resource", stock))
		if list, _ := a.json["authorization_details"].([]any); len(list) != 2 || list[0].(map[string]any)["n"] != 2.0 {
			t.Fatal(a.Body)
		}
	})
	for name, c := range map[string]oauth.Config{
		"a schema that reaches for files is refused":        {DetailTypes: []string{"x"}, DetailSchemas: map[string]json.RawMessage{"x": json.RawMessage(`{"$ref":"file:///etc/passwd"}`)}},
		"a schema that reaches for the network is refused":  {DetailTypes: []string{"x"}, DetailSchemas: map[string]json.RawMessage{"x": json.RawMessage(`{"$ref":"https://evil.example/s"}`)}},
		"a schema that is none is refused":                  {DetailTypes: []string{"x"}, DetailSchemas: map[string]json.RawMessage{"x": json.RawMessage(`{"type":"x"}`)}},
		"a schema of a type nobody configured is refused":   {DetailSchemas: map[string]json.RawMessage{"x": json.RawMessage(`{}`)}},
		"registration by token without a token is refused":  {Registration: "token"},
		"registration of a kind nobody knows it is refused": {Registration: "maybe"},
	} {
		t.Run(name, func(t *testing.T) {
			c.Issuer, c.DB, c.Keys, c.Seal, c.People, c.Log = issuer, h.db, h.keys, h.seal, h.people, brokenLog{}
			if _, err := oauth.New(t.Context(), c); err == nil {
				t.Fatal("taken")
			}
		})
	}
}

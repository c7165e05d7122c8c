package oauth_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

// send is one request about a registration: by whom with which token.
func (s *shop) send(method, path, bearer, body string) *answer {
	s.t.Helper()
	r := httptest.NewRequestWithContext(s.t.Context(), method, shopIssuer+path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	return s.do(r)
}

func open(c *oauth.Config) { c.Registration = "open" }

const goodRegistration = `{"client_name":"App","redirect_uris":["https://app.example/cb"]}`

func TestRegistration(t *testing.T) {
	web := &fetcher{}
	web.set("https://app.example/sector", `["https://app.example/cb"]`)
	web.set("https://app.example/bad", `["https://app.example/other"]`)
	s := newShop(t, func(c *oauth.Config) { open(c); c.Fetch = web })
	t.Run("a client registers itself, and may act for users", func(t *testing.T) {
		a := s.send("POST", "/register", "", goodRegistration)
		if a.Status != http.StatusCreated || !strings.HasPrefix(a.text("client_id"), "dyn_") || !strings.HasPrefix(a.text("client_secret"), "gcs_") {
			t.Fatal(a.Status, a.Text)
		}
		if a.JSON["client_secret_expires_at"] != 0.0 || a.text("registration_client_uri") != shopIssuer+"/register/"+a.text("client_id") || a.Header.Get("Cache-Control") != "no-store" {
			t.Fatal(a.Text, a.Header)
		}
		if a.text("token_endpoint_auth_method") != "client_secret_basic" || a.text("application_type") != "web" || !strings.Contains(a.text("scope"), "openid") {
			t.Fatal("defaults:", a.Text)
		}
		if p := s.post("/token", values("grant_type", "authorization_code", "code", "x", "code_verifier", strings.Repeat("a", 43)), basic(a.text("client_id"), a.text("client_secret"))); p.code() != "invalid_grant" {
			t.Fatal("it is not proven:", p.Text)
		}
	})
	t.Run("what is the operator's to give is not taken", func(t *testing.T) {
		a := s.send("POST", "/register", "", `{"redirect_uris":["https://app.example/cb"],"gatehouse_trusted":true,"gatehouse_roles":["admin"],"gatehouse_tenant":"x",
			"gatehouse_resources":["`+shopOrders+`"],"gatehouse_exchange":["*"],"gatehouse_access_token_alg":"RS256"}`)
		if a.Status != http.StatusCreated || strings.Contains(a.Text, "gatehouse_") {
			t.Fatal(a.Status, a.Text)
		}
		c, err := s.Client(t.Context(), a.text("client_id"))
		if err != nil || c.Trusted || c.Roles != nil || c.Tenant != "" || c.Resources != nil || c.Exchange != nil || c.AccessTokenAlg != "" || c.Origin != "registered" {
			t.Fatalf("%+v %v", c, err)
		}
	})
	for _, tt := range []struct{ name, body, code string }{
		{"a redirect URI with a query is taken [RedirectUriQueryOK]", `{"redirect_uris":["https://app.example/cb?a=b"]}`, ""},
		{"a redirect URI with a fragment is refused [RedirectUriRegFrag]", `{"redirect_uris":["https://app.example/cb#x"]}`, "invalid_redirect_uri"},
		{"a redirect URI over http is refused", `{"redirect_uris":["http://app.example/cb"]}`, "invalid_redirect_uri"},
		{"a redirect URI that is a script is refused", `{"redirect_uris":["javascript:alert(1)"]}`, "invalid_redirect_uri"},
		{"a redirect URI with a wildcard is refused", `{"redirect_uris":["https://*.app.example/cb"]}`, "invalid_redirect_uri"},
		{"no redirect URI is refused", `{}`, "invalid_redirect_uri"},
		{"loopback of a native app is taken", `{"redirect_uris":["http://127.0.0.1/cb"],"application_type":"native","token_endpoint_auth_method":"none"}`, ""},
		{"loopback of an app that does not say it is native is taken", `{"redirect_uris":["http://127.0.0.1:33418/","http://localhost:33418/"],"token_endpoint_auth_method":"none"}`, ""},
		{"loopback beside a site is not", `{"redirect_uris":["http://127.0.0.1/cb","https://app.example/cb"],"token_endpoint_auth_method":"none"}`, "invalid_redirect_uri"},
		{"a scheme of a native app is taken", `{"redirect_uris":["com.example.app:/cb"],"application_type":"native","token_endpoint_auth_method":"none"}`, ""},
		{"logo, policy and terms are taken [RegistrationLogoUri, PolicyUri, TosUri]", `{"redirect_uris":["https://app.example/cb"],"logo_uri":"https://app.example/l.png","policy_uri":"https://app.example/p","tos_uri":"https://app.example/t"}`, ""},
		{"a logo that is a script is refused", `{"redirect_uris":["https://app.example/cb"],"logo_uri":"javascript:x"}`, "invalid_client_metadata"},
		{"a jwks_uri is taken and not fetched yet [RegistrationJwksUri]", `{"redirect_uris":["https://app.example/cb"],"jwks_uri":"https://app.example/jwks","token_endpoint_auth_method":"private_key_jwt"}`, ""},
		{"a jwks_uri inside is refused", `{"redirect_uris":["https://app.example/cb"],"jwks_uri":"http://169.254.169.254/","token_endpoint_auth_method":"private_key_jwt"}`, "invalid_client_metadata"},
		{"a sector that lists the redirect URI is taken [RegistrationSectorUri]", `{"redirect_uris":["https://app.example/cb"],"sector_identifier_uri":"https://app.example/sector"}`, ""},
		{"a sector that does not is refused [RegistrationSectorBad]", `{"redirect_uris":["https://app.example/cb"],"sector_identifier_uri":"https://app.example/bad"}`, "invalid_client_metadata"},
		{"a sector that is not there is refused", `{"redirect_uris":["https://app.example/cb"],"sector_identifier_uri":"https://app.example/none"}`, "invalid_client_metadata"},
		{"implicit is refused", `{"redirect_uris":["https://app.example/cb"],"response_types":["id_token token"],"grant_types":["implicit"]}`, "invalid_client_metadata"},
		{"client_credentials are an operator's to give", `{"redirect_uris":["https://app.example/cb"],"grant_types":["authorization_code","client_credentials"]}`, "invalid_client_metadata"},
		{"token exchange is an operator's to give", `{"redirect_uris":["https://app.example/cb"],"grant_types":["authorization_code","` + exchangeGrant + `"]}`, "invalid_client_metadata"},
		{"the device flow is an operator's to give", `{"redirect_uris":["https://app.example/cb"],"grant_types":["authorization_code","` + deviceGrant + `"]}`, "invalid_client_metadata"},
		{"a scope nobody configured is refused", `{"redirect_uris":["https://app.example/cb"],"scope":"root"}`, "invalid_client_metadata"},
		{"a software statement is refused", `{"redirect_uris":["https://app.example/cb"],"software_statement":"e30.e30."}`, "unapproved_software_statement"},
		{"a client_id of one's own is refused", `{"redirect_uris":["https://app.example/cb"],"client_id":"admin"}`, "invalid_client_metadata"},
		{"a client_secret of one's own is refused", `{"redirect_uris":["https://app.example/cb"],"client_secret":"1234"}`, "invalid_client_metadata"},
		{"a name that is there twice is refused", `{"redirect_uris":["https://app.example/cb"],"redirect_uris":["https://evil.example/cb"]}`, "invalid_client_metadata"},
		{"a wrong type is refused", `{"redirect_uris":"https://app.example/cb"}`, "invalid_client_metadata"},
		{"a list is refused", `[]`, "invalid_client_metadata"},
		{"what is no JSON is refused", `{`, "invalid_client_metadata"},
		{"what is too large is refused", `{"client_name":"` + strings.Repeat("a", 17<<10) + `"}`, "invalid_client_metadata"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := s.send("POST", "/register", "", tt.body)
			if tt.code == "" && a.Status != http.StatusCreated || tt.code != "" && (a.code() != tt.code || a.Status < 400 || a.Status > 499) {
				t.Fatal(a.Status, a.Text)
			}
		})
	}
	t.Run("the error says what is wrong in safe characters", func(t *testing.T) {
		a := s.send("POST", "/register", "", `{"redirect_uris":["https://app.example/\"\\\u00e9"]}`)
		if d := a.text("error_description"); d == "" || strings.ContainsAny(d, "\"\\") || strings.ContainsFunc(d, func(r rune) bool { return r > '~' }) {
			t.Fatalf("%q", d)
		}
	})
	t.Run("a form is refused", func(t *testing.T) {
		if a := s.post("/register", values("redirect_uris", "x")); a.code() != "invalid_client_metadata" {
			t.Fatal(a.Text)
		}
	})
}

func TestWhoMayRegister(t *testing.T) {
	sum := sha256.Sum256([]byte("initial-token"))
	byToken := newShop(t, func(c *oauth.Config) { c.Registration, c.InitialAccess = "token", hex.EncodeToString(sum[:]) })
	off := newShop(t, nil)
	for _, tt := range []struct {
		name   string
		s      *shop
		token  string
		status int
	}{
		{"nobody where it is off", off, "", 403},
		{"nobody where it is off, with whatever token", off, "initial-token", 403},
		{"who has the initial access token", byToken, "initial-token", 201},
		{"not who has another", byToken, "initial-tokem", 401},
		{"not who has its digest", byToken, hex.EncodeToString(sum[:]), 401},
		{"not who has none", byToken, "", 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if a := tt.s.send("POST", "/register", tt.token, goodRegistration); a.Status != tt.status {
				t.Fatal(a.Status, a.Text)
			}
		})
	}
	if a := off.send("GET", "/register/x", "y", ""); a.Status != 403 {
		t.Fatal(a.Status, a.Text)
	}
}

func TestRegistrationIsManagedByItsClient(t *testing.T) {
	s := newShop(t, open)
	secret, _ := s.client("robot", robot())
	begun := s.send("POST", "/register", "", goodRegistration)
	id, access := begun.text("client_id"), begun.text("registration_access_token")
	path := "/register/" + id
	update := func(changes map[string]any) string {
		m := map[string]any{"client_id": id, "client_name": "App 2", "redirect_uris": []string{"https://app.example/cb2"}}
		maps.Copy(m, changes)
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	t.Run("it reads itself, without its secret", func(t *testing.T) {
		a := s.send("GET", path, access, "")
		if a.Status != 200 || a.text("client_name") != "App" || a.text("client_secret") != "" || a.text("registration_access_token") != access {
			t.Fatal(a.Status, a.Text)
		}
	})
	for _, tt := range []struct{ name, path, token string }{
		{"without a token nobody does", path, ""},
		{"with another token nobody does", path, "gcr_" + strings.Repeat("0", 49)},
		{"a client secret is no such token", path, begun.text("client_secret")},
		{"an unknown client is answered the same", "/register/dyn_nobody", access},
		{"an operator's client has no such token", "/register/robot", access},
		{"nor is its secret one", "/register/robot", secret.Reveal()},
	} {
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			t.Run(tt.name+": "+method, func(t *testing.T) {
				body := ""
				if method == "PUT" {
					body = update(nil)
				}
				if a := s.send(method, tt.path, tt.token, body); a.Status != 401 || a.code() != "invalid_token" || a.Header.Get("WWW-Authenticate") == "" {
					t.Fatal(a.Status, a.Text)
				}
			})
		}
	}
	t.Run("an empty registration column opens nothing", func(t *testing.T) {
		if a := s.send("GET", "/register/robot", "x", ""); a.Status != 401 {
			t.Fatal(a.Status)
		}
	})
	t.Run("it changes itself, and its token with it", func(t *testing.T) {
		a := s.send("PUT", path, access, update(map[string]any{"gatehouse_trusted": true}))
		if a.Status != 200 || a.text("client_name") != "App 2" || a.text("registration_access_token") == access || strings.Contains(a.Text, "gatehouse_") {
			t.Fatal(a.Status, a.Text)
		}
		if old := s.send("GET", path, access, ""); old.Status != 401 {
			t.Fatal("the old token still works")
		}
		access = a.text("registration_access_token")
		if c, err := s.Client(t.Context(), id); err != nil || c.Trusted || !slices.Equal(c.RedirectURIs, []string{"https://app.example/cb2"}) {
			t.Fatal(c, err)
		}
	})
	t.Run("another client_id in the body is refused", func(t *testing.T) {
		if a := s.send("PUT", path, access, update(map[string]any{"client_id": "robot"})); a.code() != "invalid_client_metadata" {
			t.Fatal(a.Status, a.Text)
		}
	})
	t.Run("what may not be registered may not be changed to either", func(t *testing.T) {
		for _, c := range []map[string]any{{"grant_types": []string{"client_credentials"}}, {"redirect_uris": []string{"http://evil.example/"}}, {"software_statement": "x"}} {
			if a := s.send("PUT", path, access, update(c)); a.Status != 400 {
				t.Fatal(c, a.Status, a.Text)
			}
		}
	})
	t.Run("of twenty changes with one token exactly one happens", func(t *testing.T) {
		var won *answer
		got := make(chan *answer, 20)
		n := parallel(20, func() bool {
			a := s.send("PUT", path, access, update(nil))
			got <- a
			return a.Status == 200
		})
		if n != 1 {
			t.Fatalf("%d happened", n)
		}
		for range 20 {
			if a := <-got; a.Status == 200 {
				won = a
			}
		}
		access = won.text("registration_access_token")
	})
	t.Run("it deletes itself", func(t *testing.T) {
		if a := s.send("DELETE", path, access, ""); a.Status != http.StatusNoContent {
			t.Fatal(a.Status, a.Text)
		}
		if a := s.send("GET", path, access, ""); a.Status != 401 {
			t.Fatal(a.Status)
		}
		if a := s.post("/token", asRobot(), basic(id, begun.text("client_secret"))); a.code() != "invalid_client" {
			t.Fatal(a.Text)
		}
	})
	t.Run("a disabled client does not manage itself", func(t *testing.T) {
		a := s.send("POST", "/register", "", goodRegistration)
		if err := s.DisableClient(t.Context(), "test", a.text("client_id")); err != nil {
			t.Fatal(err)
		}
		if got := s.send("GET", "/register/"+a.text("client_id"), a.text("registration_access_token"), ""); got.Status != 401 {
			t.Fatal(got.Status)
		}
	})
}

const docID = "https://app.example/oauth/client.json"

func document(changes map[string]any) string {
	m := map[string]any{"client_id": docID, "client_name": "Editor", "redirect_uris": []string{"https://app.example/cb", "http://127.0.0.1/cb"}, "scope": "openid orders.read"}
	maps.Copy(m, changes)
	maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// known asks the token endpoint whether a public client is known: then it is only
// the code that is wrong.
func (s *shop) known(id string) bool {
	s.t.Helper()
	a := s.post("/token", values("grant_type", "authorization_code", "code", "x", "code_verifier", strings.Repeat("a", 43), "client_id", id))
	switch a.code() {
	case "invalid_grant":
		return true
	case "invalid_client":
		return false
	}
	s.t.Fatal(a.Status, a.Text)
	return false
}

func TestMetadataDocuments(t *testing.T) {
	docs := func(hosts ...string) (*shop, *fetcher) {
		web := &fetcher{}
		return newShop(t, func(c *oauth.Config) { c.Fetch, c.MetadataDocs = web, hosts }), web
	}
	t.Run("a client is what its document says, fetched once", func(t *testing.T) {
		s, web := docs("app.example")
		web.set(docID, document(nil))
		for range 3 {
			if !s.known(docID) {
				t.Fatal("not known")
			}
		}
		if web.asked() != 1 {
			t.Fatal("fetched", web.asked())
		}
		c, err := s.Client(t.Context(), docID)
		if err != nil || c.Origin != "document" || c.Trusted || c.ApplicationType != "native" || !c.Public() {
			t.Fatalf("%+v %v", c, err)
		}
	})
	t.Run("of fifty requests at once one fetches", func(t *testing.T) {
		s, web := docs("*")
		web.set(docID, document(nil))
		if n := parallel(50, func() bool { return s.known(docID) }); n != 50 || web.asked() != 1 {
			t.Fatal(n, web.asked())
		}
	})
	t.Run("where it is off nothing is fetched", func(t *testing.T) {
		s, web := docs()
		web.set(docID, document(nil))
		if s.known(docID) || web.asked() != 0 {
			t.Fatal(web.asked())
		}
	})
	t.Run("another host's is not fetched", func(t *testing.T) {
		s, web := docs("other.example")
		web.set(docID, document(nil))
		if s.known(docID) || web.asked() != 0 {
			t.Fatal(web.asked())
		}
	})
	t.Run("an id with a second spelling is not fetched", func(t *testing.T) {
		s, web := docs("*")
		for _, id := range []string{
			"http://app.example/oauth/client.json", "https://app.example", "https://app.example/", "https://APP.example/c", "https://app.example/c?x=1", "https://app.example/c#x",
			"https://user@app.example/c", "https://app.example/a/../c", "https://app.example/%2e%2e/c", "https:app.example", "https://app.example/c?", "https:///c", "https://app.example/" + strings.Repeat("a", 600),
		} {
			if s.known(id) || web.asked() != 0 {
				t.Errorf("%.60q is fetched", id)
			}
		}
	})
	for i, tt := range []struct {
		name    string
		changes map[string]any
	}{
		{"a document of another id is refused", map[string]any{"client_id": "https://app.example/other.json"}},
		{"a document without id is refused", map[string]any{"client_id": nil}},
		{"a document with a secret is refused", map[string]any{"client_secret": "x"}},
		{"a document with a date of a secret is refused", map[string]any{"client_secret_expires_at": 0}},
		{"a document that wants a secret is refused", map[string]any{"token_endpoint_auth_method": "client_secret_basic"}},
		{"a document that posts a secret is refused", map[string]any{"token_endpoint_auth_method": "client_secret_post"}},
		{"a redirect URI at another origin is refused", map[string]any{"redirect_uris": []string{"https://evil.example/cb"}}},
		{"a redirect URI at another port is refused", map[string]any{"redirect_uris": []string{"https://app.example:8443/cb"}}},
		{"a redirect URI below the own domain is refused", map[string]any{"redirect_uris": []string{"https://x.app.example/cb"}}},
		{"a scheme of its own is refused", map[string]any{"redirect_uris": []string{"com.example.app:/cb"}}},
		{"keys at another host are refused", map[string]any{"jwks_uri": "https://evil.example/jwks", "token_endpoint_auth_method": "private_key_jwt"}},
		{"a back channel at another host is refused", map[string]any{"backchannel_logout_uri": "https://evil.example/out"}},
		{"a client's own grant is refused", map[string]any{"grant_types": []string{"authorization_code", "client_credentials"}}},
		{"a document that is too large is refused", map[string]any{"client_name": strings.Repeat("a", 6<<10)}},
		{"a scope nobody configured is refused", map[string]any{"scope": "root"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, web := docs("app.example")
			web.set(docID, document(tt.changes))
			if s.known(docID) {
				t.Fatal("taken")
			}
			if s.known(docID) || web.asked() != 1 {
				t.Fatal("a document that was refused is fetched again at once:", web.asked())
			}
			if _, err := s.Client(t.Context(), docID); err == nil {
				t.Fatal("kept", i)
			}
		})
	}
	t.Run("what is the operator's to give is not taken", func(t *testing.T) {
		s, web := docs("app.example")
		web.set(docID, document(map[string]any{"gatehouse_trusted": true, "gatehouse_roles": []string{"admin"}, "gatehouse_exchange": []string{"*"}}))
		if !s.known(docID) {
			t.Fatal("not known")
		}
		if c, err := s.Client(t.Context(), docID); err != nil || c.Trusted || c.Roles != nil || c.Exchange != nil {
			t.Fatalf("%+v %v", c, err)
		}
	})
	t.Run("what is not JSON is refused", func(t *testing.T) {
		s, web := docs("app.example")
		web.head = http.Header{"Content-Type": {"text/html"}}
		web.set(docID, document(nil))
		if s.known(docID) {
			t.Fatal("taken")
		}
	})
	t.Run("a disabled or deleted one stays so, and is not fetched", func(t *testing.T) {
		s, web := docs("app.example")
		web.set(docID, document(nil))
		s.known(docID)
		if err := s.DisableClient(t.Context(), "test", docID); err != nil {
			t.Fatal(err)
		}
		if s.known(docID) || web.asked() != 1 {
			t.Fatal("a disabled client is known", web.asked())
		}
		if err := s.DeleteClient(t.Context(), "test", docID); err != nil {
			t.Fatal(err)
		}
		if s.known(docID) || web.asked() != 1 {
			t.Fatal("a deleted client is known", web.asked())
		}
	})
	t.Run("an operator cannot write into it", func(t *testing.T) {
		s, web := docs("app.example")
		web.set(docID, document(nil))
		s.known(docID)
		m := webApp()
		m.Trusted = true
		if _, err := s.UpdateClient(t.Context(), "test", docID, 0, m); err == nil {
			t.Fatal("changed")
		}
	})
	t.Run("an old one is fetched again, and what has changed is taken", func(t *testing.T) {
		s, web := docs("app.example")
		web.set(docID, document(nil))
		s.known(docID)
		// Another process, which does not know for how long the document is good.
		again, err := oauth.New(t.Context(), oauth.Config{
			Issuer: shopIssuer, DB: s.db, Keys: s.keys, Seal: s.seal, People: s.people, Log: s.changes, Fetch: web, MetadataDocs: []string{"app.example"},
			Scopes: map[string]string{"orders.read": ""},
		})
		if err != nil {
			t.Fatal(err)
		}
		s.web = again.Handler()
		if !s.known(docID) || web.asked() != 1 {
			t.Fatal("a fresh one is fetched again:", web.asked())
		}
		(&house{t: t, db: s.db}).exec(`UPDATE clients SET fetched = 1, version = version + 1`)
		web.set(docID, document(map[string]any{"client_name": "New name"}))
		within(t, "it is fetched again", 2e9, func() bool { return s.known(docID) && web.asked() == 2 })
		if c, err := s.Client(t.Context(), docID); err != nil || c.ClientName != "New name" {
			t.Fatal(c, err)
		}
	})
	t.Run("while its host is away it goes on for a day, and a document that is not good any more ends it", func(t *testing.T) {
		s, web := docs("app.example")
		web.set(docID, document(nil))
		s.known(docID)
		old := func(ago time.Duration) {
			again, err := oauth.New(t.Context(), oauth.Config{
				Issuer: shopIssuer, DB: s.db, Keys: s.keys, Seal: s.seal, People: s.people, Log: s.changes, Fetch: web, MetadataDocs: []string{"app.example"},
				Scopes: map[string]string{"orders.read": ""},
			})
			if err != nil {
				t.Fatal(err)
			}
			s.web = again.Handler()
			(&house{t: t, db: s.db}).exec(`UPDATE clients SET fetched = $1, version = version + 1`, time.Now().Add(-ago).UnixMilli())
		}
		web.drop(docID)
		old(2 * time.Hour)
		for range 2 {
			if !s.known(docID) {
				t.Fatal("an hour of outage ends it")
			}
		}
		old(25 * time.Hour)
		if s.known(docID) {
			t.Fatal("it is believed for ever")
		}
		web.set(docID, document(map[string]any{"client_secret": "x"}))
		old(2 * time.Hour)
		if s.known(docID) {
			t.Fatal("a document that is not good is believed")
		}
	})
	t.Run("what cannot be kept is not known", func(t *testing.T) {
		s, web := docs("app.example")
		web.set(docID, document(nil))
		_ = s.db.Close()
		if a := s.post("/token", values("grant_type", "authorization_code", "code", "x", "client_id", docID)); a.Status != http.StatusServiceUnavailable {
			t.Fatal(a.Status, a.Text)
		}
	})
}

func TestWithoutADatabaseNothingIsRegistered(t *testing.T) {
	s := newShop(t, open)
	begun := s.send("POST", "/register", "", goodRegistration)
	if err := s.db.Close(); err != nil {
		t.Fatal(err)
	}
	path, access := "/register/"+begun.text("client_id"), begun.text("registration_access_token")
	for name, a := range map[string]*answer{
		"a new client": s.send("POST", "/register", "", goodRegistration),
		"its reading":  s.send("GET", path, access, ""),
		"its change":   s.send("PUT", path, access, goodRegistration),
		"its end":      s.send("DELETE", path, access, ""),
	} {
		if a.Status != http.StatusServiceUnavailable || a.code() != "server_error" {
			t.Errorf("%s: %d %s", name, a.Status, a.Text)
		}
	}
}

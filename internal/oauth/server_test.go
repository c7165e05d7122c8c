package oauth_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/oauth"
	"github.com/gatehouse-api/gatehouse/internal/store/storetest"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

func TestDiscovery(t *testing.T) {
	h := newHouse(t, func(c *oauth.Config) { c.Registration = "open" })
	var first *reply
	for _, path := range []string{
		"/auth/.well-known/openid-configuration", "/auth/.well-known/oauth-authorization-server",
		"/.well-known/oauth-authorization-server/auth", "/.well-known/openid-configuration/auth",
	} {
		// What Host the request names makes no difference.
		a := h.do(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "https://evil.example"+path, nil))
		if a.Code != http.StatusOK || a.text("issuer") != issuer || strings.Contains(a.Body.String(), "evil") {
			t.Errorf("%s: %d %s", path, a.Code, a.Body)
		}
		if a.Header().Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: no CORS", path)
		}
		first = a
	}
	for name, v := range first.json {
		path, endpoint := strings.CutPrefix(first.text(name), issuer)
		if !strings.HasSuffix(name, "_endpoint") && name != "jwks_uri" {
			continue
		}
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			a := h.do(httptest.NewRequestWithContext(t.Context(), method, issuer+path, nil))
			if endpoint = endpoint && a.Code != http.StatusNotFound; !endpoint {
				t.Errorf("%s is %v, which is not there", name, v)
			}
		}
	}
	list := func(name string) (out []string) {
		all, _ := first.json[name].([]any)
		for _, v := range all {
			s, _ := v.(string)
			out = append(out, s)
		}
		return out
	}
	for name, want := range map[string]string{
		"response_types_supported": "code", "code_challenge_methods_supported": "S256", "response_modes_supported": "query form_post",
		"id_token_signing_alg_values_supported": "ES256 RS256 EdDSA",
	} {
		if got := strings.Join(list(name), " "); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	for _, name := range []string{"token_endpoint_auth_signing_alg_values_supported", "id_token_signing_alg_values_supported", "dpop_signing_alg_values_supported"} {
		if slices.Contains(list(name), "none") || len(list(name)) == 0 {
			t.Errorf("%s: %v", name, list(name))
		}
	}
	jwks := h.do(httptest.NewRequestWithContext(t.Context(), http.MethodGet, issuer+"/jwks.json", nil))
	if bytes.Contains(jwks.Body.Bytes(), []byte(`"d"`)) || jwks.Header().Get("Access-Control-Allow-Origin") != "*" {
		t.Error("the key set has private members, or no CORS")
	}
}

func TestScriptsOfOtherOrigins(t *testing.T) {
	h := newHouse(t, nil)
	for path, may := range map[string]bool{
		"/token": true, "/userinfo": true, "/jwks.json": true, "/register": true, "/par": true, "/revoke": true,
		"/authorize": false, "/consent": false, "/introspect": false, "/logout": false, "/signin": false, "/device": false,
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodOptions, issuer+path, nil)
		r.Header.Set("Origin", "https://app.example")
		r.Header.Set("Access-Control-Request-Method", "POST")
		a := h.do(r)
		if got := a.Header().Get("Access-Control-Allow-Origin") == "*"; got != may || a.Header().Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: allowed is %v, want %v", path, got, may)
		}
	}
}

func TestAConfigThatCannotWorkIsRefused(t *testing.T) {
	h := newHouse(t, nil)
	for name, change := range map[string]func(*oauth.Config){
		"an issuer without https":                func(c *oauth.Config) { c.Issuer = "http://id.example" },
		"an issuer with a query":                 func(c *oauth.Config) { c.Issuer += "?x" },
		"an issuer with a fragment":              func(c *oauth.Config) { c.Issuer += "#x" },
		"an issuer that ends with a slash":       func(c *oauth.Config) { c.Issuer += "/" },
		"an unknown profile":                     func(c *oauth.Config) { c.Profile = "easy" },
		"no database":                            func(c *oauth.Config) { c.DB = nil },
		"no log of changes":                      func(c *oauth.Config) { c.Log = nil },
		"access tokens that live for a day":      func(c *oauth.Config) { c.AccessLife = 24 * time.Hour },
		"a negative life":                        func(c *oauth.Config) { c.CodeLife = -1 },
		"codes that live for an hour":            func(c *oauth.Config) { c.CodeLife = time.Hour },
		"a resource that is no URI":              func(c *oauth.Config) { c.Resources[0].ID = "orders" },
		"a resource twice":                       func(c *oauth.Config) { c.Resources[1].ID = c.Resources[0].ID },
		"a resource called like the issuer":      func(c *oauth.Config) { c.Resources[0].ID = c.Issuer },
		"a resource of an unknown format":        func(c *oauth.Config) { c.Resources[0].Format = "paper" },
		"a resource encrypted to nobody":         func(c *oauth.Config) { c.Resources[0].Format = "encrypted" },
		"a resource of an algorithm without key": func(c *oauth.Config) { c.Resources[0].Algorithm = token.PS512 },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := oauth.Config{
				Issuer: issuer, DB: h.db, Keys: h.keys, Seal: h.seal, People: h.people, Log: discard{},
				Resources: []oauth.Resource{{ID: orders}, {ID: mail}},
			}
			if _, err := oauth.New(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			change(&cfg)
			if _, err := oauth.New(t.Context(), cfg); err == nil {
				t.Error("taken")
			}
		})
	}
}

func TestWhatIsOverIsRemoved(t *testing.T) {
	storetest.OnlyAFile(t, "a server has its own clock")
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, func(c *oauth.Config) { c.RefreshLife = 40 * time.Minute })
		h.client("app", nil)
		go h.Run(t.Context(), func(err error) { t.Error(err) })
		h.browser().authorize(request("app"))
		h.code("app")
		first := h.tokens("app")
		count := func() (n int64) {
			ok(t, h.db.Read(t.Context(), func(tx *sql.Tx) error {
				return tx.QueryRowContext(t.Context(), `SELECT (SELECT COUNT(*) FROM grants) + (SELECT COUNT(*) FROM authorization_codes) + (SELECT COUNT(*) FROM requests)`).Scan(&n)
			}))
			return n
		}
		if n := count(); n != 5 {
			t.Fatalf("%d rows, want 5", n)
		}
		time.Sleep(30 * time.Minute)
		wantError(t, h.token("app", redeem("ghc_x")), 400, "invalid_grant")
		if n := count(); n < 3 {
			t.Errorf("%d rows: what is still needed is gone", n)
		}
		if a := h.token("app", refresh(first.text("refresh_token"))); a.Code == http.StatusServiceUnavailable {
			t.Errorf("%s", a.Body)
		}
		time.Sleep(90 * time.Minute)
		if n := count(); n != 0 {
			t.Errorf("%d rows are left", n)
		}
	})
}

func TestExport(t *testing.T) {
	h := newHouse(t, nil)
	h.client("app", nil)
	tokens := h.tokens("app")
	var b bytes.Buffer
	ok(t, h.Export(t.Context(), &b))
	var out struct {
		Clients []oauth.Client
		Grants  []oauth.Grant
	}
	ok(t, json.Unmarshal(b.Bytes(), &out))
	if len(out.Clients) != 1 || out.Clients[0].ID != "app" || len(out.Grants) != 1 || out.Grants[0].User != h.user.ID {
		t.Errorf("%s", b.String())
	}
	for _, secret := range []string{h.secrets["app"], tokens.text("refresh_token"), tokens.text("access_token")} {
		if strings.Contains(b.String(), secret) {
			t.Error("a secret is in it")
		}
	}
}

func FuzzTokenEndpoint(f *testing.F) {
	h := newHouse(f, nil)
	h.client("app", nil)
	h.client("spa", public)
	tokens := h.tokens("app")
	for _, s := range []string{
		"grant_type=client_credentials", "grant_type=refresh_token&refresh_token=ghr_AAAA", "grant_type=authorization_code&code=x&code_verifier=" + verifier,
		"a=%zz", "a=1;b=2", "=&=&", "grant_type=refresh_token&refresh_token=" + tokens.text("refresh_token")[:20], "scope=%00", "scope=%22",
	} {
		f.Add(s, "spa")
		f.Add(s, "app")
	}
	f.Fuzz(func(t *testing.T, body, client string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, issuer+"/token", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.SetBasicAuth(client, "wrong")
		a := h.do(r)
		if a.Code == http.StatusOK || a.Code >= 500 || a.text("error") == "" {
			t.Errorf("%d %s", a.Code, a.Body)
		}
		b := h.browser()
		if a := b.get(issuer + "/authorize?" + strings.NewReplacer("#", "", " ", "", "\n", "", "\r", "").Replace(clean(body))); a.back() != nil && !strings.HasPrefix(a.Header().Get("Location"), callback) {
			t.Errorf("redirected to %q", a.Header().Get("Location"))
		}
	})
}

// clean leaves what can stand in a request line.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f {
			return -1
		}
		return r
	}, s)
}

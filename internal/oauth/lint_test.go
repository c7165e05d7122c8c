package oauth_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/oauth"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// publicKeys is the key set of a client that signs with ES256.
func publicKeys(t testing.TB) json.RawMessage {
	t.Helper()
	s, err := token.NewSigner(token.ES256)
	if err != nil {
		t.Fatal(err)
	}
	return s.JWKS()
}

func webApp() oauth.Metadata {
	return oauth.Metadata{ClientName: "Orders", RedirectURIs: []string{"https://app.example/cb"}, Scope: "openid"}
}

func TestLint(t *testing.T) {
	jwks := publicKeys(t)
	negative := int64(-1)
	for _, tt := range []struct {
		name    string
		profile oauth.Profile
		change  func(*oauth.Metadata)
		rule    string // "field/rule"; "": nothing is found
	}{
		{"a web application with one redirect URI is fine", oauth.OAuth21, func(*oauth.Metadata) {}, ""},
		{"a public client is fine", oauth.OAuth21, func(m *oauth.Metadata) { m.TokenEndpointAuthMethod = "none" }, ""},
		{"a public client is fine for MCP", oauth.MCP, func(m *oauth.Metadata) { m.TokenEndpointAuthMethod = "none" }, ""},
		{"a service that acts for itself needs no redirect URI", oauth.OAuth21, func(m *oauth.Metadata) {
			m.GrantTypes, m.RedirectURIs = []string{"client_credentials"}, nil
		}, ""},
		{"the code flow without redirect URI is found", oauth.OAuth21, func(m *oauth.Metadata) { m.RedirectURIs = nil }, "redirect_uris/missing"},
		{"a redirect URI nothing uses is found", oauth.OAuth21, func(m *oauth.Metadata) { m.GrantTypes = []string{"client_credentials"} }, "redirect_uris/unused"},
		{"implicit is found", oauth.OAuth21, func(m *oauth.Metadata) { m.GrantTypes = []string{"authorization_code", "implicit"} }, "grant_types/implicit"},
		{"the password grant is found", oauth.OAuth21, func(m *oauth.Metadata) { m.GrantTypes = []string{"authorization_code", "password"} }, "grant_types/password"},
		{"an unknown grant is found", oauth.OAuth21, func(m *oauth.Metadata) { m.GrantTypes = []string{"authorization_code", "x"} }, "grant_types/unknown"},
		{"a response type of tokens is found", oauth.OAuth21, func(m *oauth.Metadata) { m.ResponseTypes = []string{"code", "code id_token"} }, "response_types/code"},
		{"a refresh token that nothing gives is found", oauth.OAuth21, func(m *oauth.Metadata) {
			m.GrantTypes, m.RedirectURIs = []string{"client_credentials", "refresh_token"}, nil
		}, "grant_types/refresh"},
		{"client_credentials without a proof is found", oauth.OAuth21, func(m *oauth.Metadata) {
			m.GrantTypes, m.RedirectURIs, m.TokenEndpointAuthMethod = []string{"client_credentials"}, nil, "none"
		}, "grant_types/public"},
		{"exchange without the grant is found", oauth.OAuth21, func(m *oauth.Metadata) { m.Exchange = []string{"*"} }, "gatehouse_exchange/unused"},
		{"client_secret_jwt is found", oauth.OAuth21, func(m *oauth.Metadata) { m.TokenEndpointAuthMethod = "client_secret_jwt" }, "token_endpoint_auth_method/unknown"},
		{"private_key_jwt without keys is found", oauth.OAuth21, func(m *oauth.Metadata) { m.TokenEndpointAuthMethod = "private_key_jwt" }, "jwks/missing"},
		{"private_key_jwt with keys is fine", oauth.OAuth21, func(m *oauth.Metadata) { m.TokenEndpointAuthMethod, m.JWKS = "private_key_jwt", jwks }, ""},
		{"keys in two places are found", oauth.OAuth21, func(m *oauth.Metadata) { m.JWKS, m.JWKSURI = jwks, "https://app.example/jwks" }, "jwks_uri/one"},
		{"a private key is found", oauth.OAuth21, func(m *oauth.Metadata) {
			m.JWKS = json.RawMessage(strings.Replace(string(jwks), `"kty"`, `"d":"AAAA","kty"`, 1))
		}, "jwks/keys"},
		{"keys that are none are found", oauth.OAuth21, func(m *oauth.Metadata) { m.JWKS = json.RawMessage(`{"keys":[]}`) }, "jwks/keys"},
		{"a symmetric key is found", oauth.OAuth21, func(m *oauth.Metadata) { m.JWKS = json.RawMessage(`{"keys":[{"kty":"oct","k":"AAAA"}]}`) }, "jwks/keys"},
		{"keys fetched over http are found", oauth.OAuth21, func(m *oauth.Metadata) { m.JWKSURI = "http://app.example/jwks" }, "jwks_uri/https"},
		{"tls_client_auth without a name is found", oauth.OAuth21, func(m *oauth.Metadata) { m.TokenEndpointAuthMethod = "tls_client_auth" }, "token_endpoint_auth_method/tls_name"},
		{"tls_client_auth with two names is found", oauth.OAuth21, func(m *oauth.Metadata) {
			m.TokenEndpointAuthMethod, m.TLSSANDNS, m.TLSSubjectDN = "tls_client_auth", "a.example", "CN=a"
		}, "token_endpoint_auth_method/tls_name"},
		{"a certificate's name without its method is found", oauth.OAuth21, func(m *oauth.Metadata) { m.TLSSANDNS = "a.example" }, "tls_client_auth_subject_dn/unused"},
		{"none is no algorithm", oauth.OAuth21, func(m *oauth.Metadata) { m.IDTokenAlg = "none" }, "id_token_signed_response_alg/algorithm"},
		{"HS256 is no algorithm", oauth.OAuth21, func(m *oauth.Metadata) { m.IDTokenAlg = "HS256" }, "id_token_signed_response_alg/algorithm"},
		{"pairwise is found", oauth.OAuth21, func(m *oauth.Metadata) { m.SubjectType = "pairwise" }, "subject_type/unknown"},
		{"a negative age is found", oauth.OAuth21, func(m *oauth.Metadata) { m.DefaultMaxAge = &negative }, "default_max_age/negative"},
		{"a name that reads backwards is found", oauth.OAuth21, func(m *oauth.Metadata) { m.ClientName = "\u202Enalp" }, "client_name/text"},
		{"a name with a line end is found", oauth.OAuth21, func(m *oauth.Metadata) { m.ClientName = "a\nb" }, "client_name/text"},
		{"a home page that is a script is found", oauth.OAuth21, func(m *oauth.Metadata) { m.ClientURI = "javascript:alert(1)" }, "client_uri/https"},
		{"a back channel over http is found", oauth.OAuth21, func(m *oauth.Metadata) { m.BackchannelLogoutURI = "http://app.example/out" }, "backchannel_logout_uri/https"},
		{"a scope with two spaces is found", oauth.OAuth21, func(m *oauth.Metadata) { m.Scope = "a  b" }, "scope/word"},
		{"a role that is there twice is found", oauth.OAuth21, func(m *oauth.Metadata) { m.Roles = []string{"a", "a"} }, "gatehouse_roles/twice"},
		{"a resource that is no URI is found", oauth.OAuth21, func(m *oauth.Metadata) { m.Resources = []string{"orders"} }, "gatehouse_resources/uri"},
		{"an application type of its own is found", oauth.OAuth21, func(m *oauth.Metadata) { m.ApplicationType = "x" }, "application_type/unknown"},
		{"a secret is not enough for FAPI", oauth.FAPI2, func(m *oauth.Metadata) { m.DPoPBoundTokens = true }, "token_endpoint_auth_method/fapi2"},
		{"nor is no proof at all", oauth.FAPI2, func(m *oauth.Metadata) { m.TokenEndpointAuthMethod, m.DPoPBoundTokens = "none", true }, "token_endpoint_auth_method/fapi2"},
		{"bearer tokens are not enough for FAPI", oauth.FAPI2, func(m *oauth.Metadata) { m.TokenEndpointAuthMethod, m.JWKS = "private_key_jwt", jwks }, "dpop_bound_access_tokens/fapi2"},
		{"RS256 is not enough for FAPI", oauth.FAPI2, func(m *oauth.Metadata) {
			m.TokenEndpointAuthMethod, m.JWKS, m.DPoPBoundTokens, m.TokenEndpointAuthAlg = "private_key_jwt", jwks, true, "RS256"
		}, "token_endpoint_auth_signing_alg/fapi2"},
		{"a client as FAPI wants it is fine", oauth.FAPI2, func(m *oauth.Metadata) {
			m.TokenEndpointAuthMethod, m.JWKS, m.DPoPBoundTokens = "private_key_jwt", jwks, true
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := webApp()
			tt.change(&m)
			found := oauth.Lint(tt.profile, &m)
			if tt.rule == "" {
				if len(found) != 0 {
					t.Fatalf("found %v", found)
				}
				return
			}
			if !slices.ContainsFunc(found, func(f oauth.Finding) bool { return f.Field+"/"+f.Rule == tt.rule }) {
				t.Fatalf("found %v, want %s", found, tt.rule)
			}
		})
	}
}

func TestRedirectURIs(t *testing.T) {
	for _, tt := range []struct {
		uri  string
		web  bool
		apps bool // of application_type native
	}{
		{"https://app.example/cb", true, true},
		{"https://app.example/cb?tenant=1", true, true},
		{"https://app.example:8443/cb", true, true},
		{"https://xn--bcher-kva.example/cb", true, true},
		{"http://127.0.0.1/cb", false, true},
		{"http://127.0.0.1:4711/cb", false, true},
		{"http://[::1]/cb", false, true},
		{"http://localhost:8080/cb", false, true},
		{"com.example.app:/cb", false, true},
		{"com.example.app://cb", false, true},
		{"http://app.example/cb", false, false},
		{"http://localhost.evil.example/cb", false, false},
		{"http://127.0.0.1.evil.example/cb", false, false},
		{"http://127.0.0.1@evil.example/cb", false, false},
		{"https://app.example@evil.example/cb", false, false},
		{"https://app.example/cb#f", false, false},
		{"https://app.example/cb#", false, false},
		{"https://*.app.example/cb", false, false},
		{"https://app.example/*", false, false},
		{"https://app.example/a/../cb", false, false},
		{"https://app.example/a/%2e%2e/cb", false, false},
		{"https://app.example/a/.%2E/cb", false, false},
		{"https://app.example\\@evil.example/cb", false, false},
		{"https://bücher.example/cb", false, false},
		{"https://app.example/cb ", false, false},
		{"https://app.example/c b", false, false},
		{"https://app.example/\tcb", false, false},
		{"https:///cb", false, false},
		{"https:app.example", false, false},
		{"//app.example/cb", false, false},
		{"/cb", false, false},
		{"", false, false},
		{"myapp:/cb", false, false},
		{"javascript:alert(1)", false, false},
		{"data:text/html,x", false, false},
		{"file:///etc/passwd", false, false},
		{"ftp://app.example/cb", false, false},
		{"https://" + strings.Repeat("a", 2000) + ".example/", false, false},
	} {
		for kind, want := range map[string]bool{"web": tt.web, "native": tt.apps} {
			verb := map[bool]string{true: "may", false: "may not"}[want]
			t.Run(fmt.Sprintf("a %s application %s have %.40q", kind, verb, tt.uri), func(t *testing.T) {
				m := webApp()
				m.ApplicationType, m.RedirectURIs = kind, []string{tt.uri}
				if found := oauth.Lint(oauth.OAuth21, &m); (len(found) == 0) != want {
					t.Fatalf("found %v", found)
				}
			})
		}
	}
}

func FuzzLintRedirect(f *testing.F) {
	for _, s := range []string{"https://app.example/cb", "http://127.0.0.1:1/", "com.example:/x", "https://a@b/", "https://a/%2e%2e/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		m := webApp()
		m.ApplicationType, m.RedirectURIs = "web", []string{uri}
		if len(oauth.Lint(oauth.OAuth21, &m)) > 0 {
			return
		}
		// What is left has one reading only.
		rest, ok := strings.CutPrefix(strings.ToLower(uri), "https://")
		if !ok || rest == "" || rest[0] == '/' || strings.ContainsAny(uri, "@#*\\ \t\r\n\x00") && !strings.Contains(uri, "/") {
			t.Fatalf("%q is taken", uri)
		}
		host, _, _ := strings.Cut(rest, "/")
		if host, _, _ = strings.Cut(host, "?"); strings.ContainsAny(host, "@\\#%") {
			t.Fatalf("%q is taken with the host %q", uri, host)
		}
	})
}

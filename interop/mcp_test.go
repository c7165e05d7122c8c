package interop_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

// TestModelContextProtocol is the authorization of the official Go SDK of MCP: from
// a 401 by way of the metadata of the API (RFC 9728) and of the server (RFC 8414)
// to a token for that API alone (RFC 8707), by every way a client may be known.
func TestModelContextProtocol(t *testing.T) {
	const callback = "http://127.0.0.1:3000/callback"
	// A client-id metadata document, as the MCP specification prints it.
	var site *httptest.Server
	site = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"client_id": site.URL + "/client.json", "client_name": "Example MCP Client", "client_uri": "https://app.example.com", "logo_uri": "https://app.example.com/logo.png",
			"redirect_uris": []string{callback, "http://localhost:3000/callback"}, "grant_types": []string{"authorization_code"}, "response_types": []string{"code"}, "token_endpoint_auth_method": "none",
		})
	}))
	t.Cleanup(site.Close)
	roots := &gate{dir: t.TempDir()}
	t.Setenv("SSL_CERT_FILE", roots.write(t, "site.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: site.Certificate().Raw}))))
	host := strings.TrimPrefix(site.URL, "https://")
	g := startGate(t, "mcp", "dynamic: open", `dynamic: open, metadata_documents: ["`+host+`"]`, "    base: /api\n", "    base: /api\n    resource: \"https://localhost:%[1]s/api/orders\"\n")
	g.user(t, "mike")
	g.client(t, "known", oauth.Metadata{
		ClientName: "Known", RedirectURIs: []string{callback}, ApplicationType: "native", TokenEndpointAuthMethod: "none", Scope: "orders:read",
	})
	for _, way := range []struct {
		name string
		cfg  auth.AuthorizationCodeHandlerConfig
	}{
		{"a client-id metadata document", auth.AuthorizationCodeHandlerConfig{ClientIDMetadataDocumentConfig: &auth.ClientIDMetadataDocumentConfig{URL: site.URL + "/client.json"}}},
		{"dynamic registration", auth.AuthorizationCodeHandlerConfig{DynamicClientRegistrationConfig: &auth.DynamicClientRegistrationConfig{Metadata: &oauthex.ClientRegistrationMetadata{
			ClientName: "Newcomer", RedirectURIs: []string{callback}, Scope: "orders:read", TokenEndpointAuthMethod: "none",
		}}}},
		{"a client that is registered", auth.AuthorizationCodeHandlerConfig{PreregisteredClient: &oauthex.ClientCredentials{ClientID: "known"}}},
	} {
		t.Run(way.name, func(t *testing.T) {
			cfg := way.cfg
			cfg.RedirectURL, cfg.Client = callback, g.http()
			cfg.AuthorizationCodeFetcher = func(_ context.Context, a *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
				p, err := g.browser("mike").visit(a.URL, callback)
				if err != nil {
					return nil, err
				}
				if p.Status != 0 {
					t.Errorf("the browser got no further than %s: %s", p.URL, p.Body)
				}
				q := query(t, p.URL)
				if q.Get("error") != "" {
					t.Errorf("came back with %v", q)
				}
				return &auth.AuthorizationResult{Code: q.Get("code"), State: q.Get("state"), Iss: q.Get("iss")}, nil
			}
			handler, err := auth.NewAuthorizationCodeHandler(&cfg)
			if err != nil {
				t.Fatal(err)
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.api+"/orders", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := cfg.Client.Do(req)
			if err != nil || resp.StatusCode != http.StatusUnauthorized {
				t.Fatalf("without a token: %v %v", resp, err)
			}
			if err := handler.Authorize(t.Context(), req, resp); err != nil {
				t.Fatal(err)
			}
			source, err := handler.TokenSource(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			tok, err := source.Token()
			if err != nil {
				t.Fatal(err)
			}
			tok.SetAuthHeader(req)
			if resp, err = cfg.Client.Do(req); err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Errorf("with the token: %d %s", resp.StatusCode, resp.Header.Get("WWW-Authenticate"))
			}
		})
	}
}

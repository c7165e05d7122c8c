package interop_test

import (
	"path/filepath"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

// TestOpenIDClient is npm openid-client, see openid-client.mjs.
func TestOpenIDClient(t *testing.T) {
	node, modules := nodeWith(t, "openid-client", "openid-client")
	g := startGate(t, "oauth21")
	g.user(t, "nora")
	g.user(t, "olga")
	web := g.client(t, "web", oauth.Metadata{
		ClientName: "Web", RedirectURIs: []string{app}, PostLogoutRedirectURIs: []string{"https://app.example/bye"}, Scope: "openid profile email offline_access orders:read",
		GrantTypes: []string{"authorization_code", "refresh_token"}, DetailTypes: []string{"payment"},
	})
	g.client(t, "television", oauth.Metadata{
		ClientName: "Television", TokenEndpointAuthMethod: "none", ApplicationType: "native", Scope: "openid orders:read", GrantTypes: []string{"urn:ietf:params:oauth:grant-type:device_code"},
	})
	g.client(t, "partner", oauth.Metadata{
		ClientName: "Partner", TokenEndpointAuthMethod: "tls_client_auth", TLSSANURI: "spiffe://example/partner", TLSBoundTokens: true, Scope: "orders:read",
		GrantTypes: []string{"client_credentials"}, Roles: []string{"reader"},
	})
	relay := g.client(t, "relay", oauth.Metadata{
		ClientName: "Relay", Scope: "orders:read", GrantTypes: []string{"urn:ietf:params:oauth:grant-type:token-exchange"}, Exchange: []string{"web"},
	})
	g.scenarios(t, node, "openid-client.mjs", 13, "MODULES="+modules, "USERS="+g.users(t), "SECRET="+web, "RELAY="+relay,
		"CERT="+filepath.Join(g.dir, "partner.pem"), "KEY="+filepath.Join(g.dir, "partner.key"))
}

// TestOpenIDClientFAPI2 is the same client under the profile fapi2.
func TestOpenIDClientFAPI2(t *testing.T) {
	node, modules := nodeWith(t, "openid-client", "openid-client")
	g := startGate(t, "fapi2")
	g.user(t, "nora")
	g.scenarios(t, node, "openid-client.mjs", 3, "MODULES="+modules, "USERS="+g.users(t), "PROFILE=fapi2")
}

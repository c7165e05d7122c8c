package plan_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/plan"
)

const withOAuth = `gatehouse: 1
oauth: {issuer: "https://auth.example.com/id"}
identity: {scim: {base: /scim/v2}}
roles: {provisioner: ["gatehouse.scim:write", "gatehouse.scim:read"]}
apis:
  orders:
    openapi: ./openapi.yaml
    upstreams: ["http://127.0.0.1:1"]
    hosts: [api.example.com]
    access_token: {sender_constrained: true}
    operations:
      refund: {acr: [aal2, phr], max_age: 5m, authorization_details: [refund]}
`

const ordersDocument = `openapi: 3.1.0
info: {title: Orders, version: "1"}
servers: [{url: /v1}]
components: {securitySchemes: {oidc: {type: openIdConnect, openIdConnectUrl: "https://auth.example.com/id/.well-known/openid-configuration"}}}
paths:
  /refunds:
    post: {operationId: refund, security: [{oidc: ["orders:refund"]}], responses: {"200": {description: done}}}
`

func compiled(t *testing.T, config string) *plan.Plan {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"gatehouse.yaml": config, "openapi.yaml": ordersDocument} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := plan.Compile(filepath.Join(dir, "gatehouse.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTheHouseIsServedThroughItsOwnGateway(t *testing.T) {
	p := compiled(t, withOAuth)
	nobody := &gatehouse.Principal{}
	provisioner := &gatehouse.Principal{Subject: "hr", Roles: []string{"provisioner"}, Method: gatehouse.MethodAPIKey}
	for _, c := range []struct {
		name, method, url string
		who               *gatehouse.Principal
		api, reason       string
	}{
		{"tokens are asked for under the issuer's path", "POST", "https://auth.example.com/id/token", nobody, plan.OAuthAPI, ""},
		{"and nowhere else", "POST", "https://auth.example.com/token", nobody, "", "operation_not_found"},
		{"nor under another host's name", "POST", "https://api.example.com/id/token", nobody, "", "operation_not_found"},
		{"OpenID Connect looks for discovery under the path", "GET", "https://auth.example.com/id/.well-known/openid-configuration", nobody, plan.OAuthAPI, ""},
		{"RFC 8414 in front of it", "GET", "https://auth.example.com/.well-known/oauth-authorization-server/id", nobody, plan.DiscoveryAPI, ""},
		{"an API's metadata is in front of its path", "GET", "https://api.example.com/.well-known/oauth-protected-resource/v1", nobody, plan.MetadataAPI, ""},
		{"strangers do not read the directory", "GET", "https://auth.example.com/scim/v2/Users", nobody, plan.SCIMAPI, "authentication_required"},
		{"who provisions does", "POST", "https://auth.example.com/scim/v2/Users", provisioner, plan.SCIMAPI, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest(c.method, c.url, http.NoBody)
			r.RequestURI = strings.TrimPrefix(c.url, "https://"+r.Host)
			route, err := p.Snapshot.Try(r, c.who, netip.MustParseAddr("192.0.2.1"))
			reason := ""
			if err != nil {
				reason = gatehouse.AsProblem(err).Reason
			}
			if reason != c.reason {
				t.Fatalf("reason %q, want %q", reason, c.reason)
			}
			if c.api != "" && route.Op.Op().API != c.api {
				t.Errorf("answered by %s, want %s", route.Op.Op().API, c.api)
			}
		})
	}
}

func TestAnAPISaysWhereItsTokensComeFrom(t *testing.T) {
	p := compiled(t, withOAuth)
	if r := p.Resources(); len(r) != 2 || r[1].ID != "https://auth.example.com/scim/v2" || !r[1].Own || r[0].ID != "https://api.example.com/v1" || !r[0].Own || strings.Join(r[0].Scopes, " ") != "orders:refund" {
		t.Fatalf("resources: %+v", r)
	}
	found := false
	for n, route := range p.Snapshot.Routes {
		a := p.Access(n)
		switch a.API {
		case "orders":
			w := a.Ways
			if w.ResourceMetadata != "https://api.example.com/.well-known/oauth-protected-resource/v1" || len(w.Audience) != 1 || w.Audience[0] != "https://api.example.com/v1" {
				t.Errorf("metadata %q, audience %q", w.ResourceMetadata, w.Audience)
			}
			if strings.Join(w.ACR, " ") != "aal2 phr" || w.MaxAge.Minutes() != 5 || strings.Join(w.Details, " ") != "refund" || !w.Bound {
				t.Errorf("the operation's wishes are lost: %+v", w)
			}
		case plan.MetadataAPI:
			if route.Op.Op().ID != "orders" {
				continue
			}
			found = true
			w := httptest.NewRecorder()
			route.Service.ServeHTTP(w, httptest.NewRequest("GET", "/", http.NoBody))
			var doc struct {
				Resource string   `json:"resource"`
				Servers  []string `json:"authorization_servers"`
				Bound    bool     `json:"dpop_bound_access_tokens_required"`
			}
			if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(doc.Resource, "/scim/v2") {
				continue
			}
			if doc.Resource != "https://api.example.com/v1" || len(doc.Servers) != 1 || doc.Servers[0] != "https://auth.example.com/id" || !doc.Bound {
				t.Errorf("metadata: %s", w.Body)
			}
		}
	}
	if !found {
		t.Error("no metadata is served")
	}
}

package plan

import (
	"bytes"
	"embed"
	"encoding/json"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/authz"
	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/validate"
)

// The APIs that are this house's own. They are served through the gateway like any
// other: there is no second, softer door.
const (
	OAuthAPI     = "gatehouse-oauth"     // the authorization server and its pages
	DiscoveryAPI = "gatehouse-discovery" // its metadata at the root of its host
	MetadataAPI  = "gatehouse-resources" // metadata of the APIs (RFC 9728)
	AdminAPI     = "gatehouse-admin"     // management of users, clients, keys
	SCIMAPI      = "gatehouse-scim"      // users and groups for another system
)

//go:embed builtin/*.yaml
var builtin embed.FS

// addHouse compiles the APIs of the house itself.
func (p *Plan) addHouse(c *authz.Compiler) error {
	f := p.File
	if f.OAuth == nil {
		return nil
	}
	issuer, err := url.Parse(f.OAuth.Issuer.Value)
	if err != nil {
		return config.Errorf(f.OAuth.Issuer.Place, "oauth.issuer: %v", err)
	}
	base := config.API{Base: issuer.EscapedPath(), Hosts: []string{issuer.Hostname()}, MaxBody: 64 << 10, Limits: f.OAuth.Limits, Place: f.OAuth.Place}
	root := base
	root.Base, root.Limits = "", nil
	houses := []planAPI{
		{name: OAuthAPI, cfg: &base, file: "builtin/oauth.openapi.yaml", raw: true},
		{name: DiscoveryAPI, cfg: &root, file: "builtin/discovery.openapi.yaml", raw: true, suffix: issuer.EscapedPath()},
	}
	if b := f.Identity.SCIM.Base; b != "" {
		houses = append(houses, planAPI{name: SCIMAPI, file: "builtin/scim.openapi.yaml", raw: true, grants: true, cfg: &config.API{
			Base: b, Hosts: base.Hosts, MaxBody: 1 << 20, Place: f.Identity.Place, UnknownQuery: "drop",
		}})
	}
	if a := f.Admin.API; a.Base != "" {
		houses = append(houses, planAPI{name: AdminAPI, file: "builtin/admin.openapi.yaml", grants: true, cfg: &config.API{
			Base: a.Base, Hosts: a.Hosts, MaxBody: 1 << 20, Place: f.Admin.Place,
		}})
	}
	for i := range houses {
		api := &houses[i]
		api.fsys, api.unmet = builtin, map[string][]string{}
		if err := p.addAPI(c, api); err != nil {
			return err
		}
		if n := len(api.idle); api.grants && n > 0 && n == len(api.doc.Operations()) {
			p.warn(api.cfg.Place.String(), "rule", "nobody may call anything under %s: %s", api.cfg.Base, api.idle[0])
		}
	}
	return nil
}

// ownAccess is who may call an operation of the house itself. The documents name
// the grants; the endpoints of OAuth judge who calls by themselves.
func ownAccess(doc *validate.Document, grants bool) map[string]*config.Operation {
	out := map[string]*config.Operation{}
	for _, checks := range doc.Operations() {
		op := checks.Op()
		if !grants {
			out[op.ID] = &config.Operation{Public: true}
			continue
		}
		o := &config.Operation{Closed: true} // a document that forgets to say opens nothing
		for _, tag := range op.Tags {
			if grant, ok := strings.CutPrefix(tag, "grant "); ok {
				o.Closed = false
				o.Grant = append(o.Grant, config.Text{Value: grant})
			}
		}
		out[op.ID] = o
	}
	return out
}

// resource is the resource indicator of an API (RFC 8707): what the aud of its
// tokens says. "" where no authorization server of ours gives any.
func (p *Plan) resource(api *planAPI) string {
	if r := api.cfg.Resource.Value; r != "" {
		return r
	}
	if p.File.OAuth == nil {
		return ""
	}
	u, err := url.Parse(p.File.OAuth.Issuer.Value)
	if err != nil {
		return ""
	}
	host := u.Host
	if len(api.cfg.Hosts) > 0 {
		if host = api.cfg.Hosts[0]; u.Port() != "" {
			host += ":" + u.Port()
		}
	}
	base := api.doc.Base()
	if base == "" {
		base = "/"
	}
	return "https://" + host + base
}

// A Resource is an API behind this gateway, as an authorization server knows it.
type Resource struct {
	API    string
	ID     string // resource indicator
	Title  string
	Scopes []string // that its document asks for
	Own    bool     // takes tokens of our own authorization server
}

// Resources lists the APIs that tokens can be for.
func (p *Plan) Resources() []Resource { return p.resources }

// addResource notes what kind of tokens an API takes, and serves its metadata
// (RFC 9728), so that a client which is refused finds out where to go.
func (p *Plan) addResource(c *authz.Compiler, api *planAPI) error {
	api.metadata = api.cfg.Metadata
	id := p.resource(api)
	if id == "" {
		return nil
	}
	api.resource = id
	r := Resource{API: api.name, ID: id, Title: api.doc.Title()}
	var servers []string
	for _, checks := range api.doc.Operations() {
		ways, err := authn.WaysOf(checks.Op().Security, api.serve, api.all)
		if err != nil {
			continue // said where the operation is compiled
		}
		for _, name := range issuersOf(ways) {
			servers = append(servers, p.File.Issuers[name].Issuer.Value)
			r.Own = r.Own || p.File.Issuers[name].Own
		}
		for _, requirement := range checks.Op().Security {
			for _, use := range requirement {
				r.Scopes = append(r.Scopes, use.Scopes...)
			}
		}
	}
	slices.Sort(servers)
	slices.Sort(r.Scopes)
	servers, r.Scopes = slices.Compact(servers), slices.Compact(r.Scopes)
	p.resources = append(p.resources, r)
	u, err := url.Parse(id)
	if err != nil {
		return config.Errorf(api.cfg.Resource.Place, "apis.%s.resource: %v", api.name, err)
	}
	if api.cfg.Metadata != "" || u.Scheme != "https" || u.RawQuery != "" || len(servers) == 0 {
		return nil
	}
	doc := map[string]any{
		"resource": id, "resource_name": r.Title, "authorization_servers": servers, "bearer_methods_supported": []string{"header"},
		"dpop_signing_alg_values_supported": []string{"ES256", "ES384", "EdDSA", "PS256"},
	}
	if len(r.Scopes) > 0 {
		doc["scopes_supported"] = r.Scopes
	}
	if t := api.cfg.AccessToken; t != nil && t.Bound {
		doc["dpop_bound_access_tokens_required"] = true
	}
	body, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	path := "/.well-known/oauth-protected-resource" + strings.TrimSuffix(u.EscapedPath(), "/")
	api.metadata = u.Scheme + "://" + u.Host + path
	return p.serveStatic(c, api.name, u.Hostname(), path, body)
}

// serveStatic lays a route to a document that anybody may read.
func (p *Plan) serveStatic(c *authz.Compiler, of, host, path string, body []byte) error {
	text, err := json.Marshal(map[string]any{
		"openapi": "3.1.0", "info": map[string]any{"title": "Metadata", "version": "1"},
		"paths": map[string]any{path: map[string]any{"get": map[string]any{
			"operationId": of, "responses": map[string]any{"200": map[string]any{"description": "RFC 9728."}},
		}}},
	})
	if err != nil {
		return err
	}
	api := &planAPI{
		name: MetadataAPI, fsys: oneFile(text), file: "openapi.json", raw: true, unmet: map[string][]string{}, suffix: "",
		cfg: &config.API{Hosts: []string{host}, MaxBody: 0, UnknownQuery: "drop", Place: p.File.Place},
		service: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Cache-Control", "public, max-age=300")
			w.Header().Set("Access-Control-Allow-Origin", "*") // clients in browsers look here first (RFC 9728 §3)
			_, _ = w.Write(body)
		}),
	}
	return p.addAPI(c, api)
}

// oneFile is a folder that has one file, whatever it is asked for.
type oneFile []byte

func (f oneFile) Open(name string) (fs.File, error) {
	return &openFile{bytes.NewReader(f), name}, nil
}

type openFile struct {
	*bytes.Reader

	name string
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f, nil }
func (f *openFile) Close() error               { return nil }
func (f *openFile) Name() string               { return f.name }
func (f *openFile) Mode() fs.FileMode          { return 0o400 }
func (f *openFile) ModTime() time.Time         { return time.Time{} }
func (f *openFile) IsDir() bool                { return false }
func (f *openFile) Sys() any                   { return nil }

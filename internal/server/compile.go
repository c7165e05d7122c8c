package server

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/authz"
	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
	"github.com/gatehouse-api/gatehouse/internal/ratelimit"
	"github.com/gatehouse-api/gatehouse/internal/validate"
)

// A Plan is a config compiled as far as it can be without touching the network
// or a database: what check, test and access-matrix look at, and what a snapshot
// is made of.
type Plan struct {
	File     *config.File
	Digest   string // SHA-256 over the config and every document it names
	Watch    []string
	Snapshot *gateway.Snapshot // without Authn, its routes without Accept and Upstreams
	Warnings []Finding

	apis   []planAPI
	access []routeAccess // by route
}

type planAPI struct {
	name string
	cfg  *config.API
	doc  *validate.Document
}

// routeAccess is what wiring a route needs beside what is in it.
type routeAccess struct {
	api  *planAPI
	op   *gatehouse.Operation
	cfg  *config.Operation // nil when the config does not mention it
	ways authn.Ways
}

// A Finding is something in a config that is allowed but probably not meant.
type Finding struct {
	Place string `json:"place"`
	Rule  string `json:"rule"` // stable name of the check
	Text  string `json:"text"`
}

// Compile reads and compiles the config at path. Its error joins every fault
// with its place; the warnings are in the plan.
func Compile(path string) (*Plan, error) {
	f, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	c, err := policies(f)
	if err != nil {
		return nil, err
	}
	p := &Plan{File: f, Watch: slices.Clone(f.Files), Snapshot: &gateway.Snapshot{Router: new(validate.Router)}}
	sum := sha256.New()
	_, _ = io.WriteString(sum, f.Digest)
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(f.APIs)) {
		api := planAPI{name: name, cfg: f.APIs[name]}
		if err := p.addAPI(c, &api); err != nil {
			errs = append(errs, err)
			continue
		}
		_, _ = io.WriteString(sum, api.doc.Digest())
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	p.Digest = hex.EncodeToString(sum.Sum(nil))
	p.Snapshot.Digest = p.Digest
	for _, o := range p.Snapshot.Router.Overlaps() {
		p.warn(p.Snapshot.Routes[o.First].Op.Place(), "ambiguous_route", "%s and %s match the same requests; %s is served", o.FirstPath, o.SecondPath, o.FirstPath)
	}
	p.unusedRoles()
	return p, nil
}

func (p *Plan) warn(place, rule, text string, args ...any) {
	p.Warnings = append(p.Warnings, Finding{place, rule, fmt.Sprintf(text, args...)})
}

// addAPI compiles one API: its document, and for each operation its policy,
// limits and settings.
func (p *Plan) addAPI(c *authz.Compiler, api *planAPI) error {
	cfg := api.cfg
	opts := validate.Options{
		API: api.name, Base: cfg.Base, SkipUnsupportedPatterns: true,
		Settings: settings(cfg, nil), Operations: map[string]validate.Settings{},
	}
	for id, op := range cfg.Operations {
		opts.Operations[id] = settings(cfg, op)
	}
	doc, err := validate.LoadFile(cfg.OpenAPI.Value, opts)
	if err != nil {
		return fmt.Errorf("apis.%s: %w", api.name, err)
	}
	api.doc = doc
	p.apis = append(p.apis, *api)
	p.Watch = append(p.Watch, cfg.OpenAPI.Value)
	for _, w := range doc.Warnings() {
		p.warn(w.Place, "document", "%s", w.Text)
	}
	known := map[string]bool{}
	var errs []error
	for _, checks := range doc.Operations() {
		known[checks.Op().ID] = true
		if err := p.addOperation(c, api, checks); err != nil {
			errs = append(errs, err)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(cfg.Operations)) {
		if !known[id] {
			errs = append(errs, config.Errorf(cfg.Operations[id].Place, "apis.%s.operations: %s has no operation %q%s",
				api.name, cfg.OpenAPI.Value, id, suggest(id, slices.Collect(maps.Keys(known)))))
		}
	}
	return errors.Join(errs...)
}

func (p *Plan) addOperation(c *authz.Compiler, api *planAPI, checks *validate.Operation) error {
	op := checks.Op()
	cfg := api.cfg.Operations[op.ID]
	if cfg != nil && cfg.Closed {
		return nil // no route: answered as if it were not in the document
	}
	schemes := methods(op.Security)
	policy, err := c.Compile(op, access(api.cfg, cfg, schemes))
	if err != nil {
		return err
	}
	ways, err := waysOf(p.File, api.cfg, op, cfg != nil && cfg.Public)
	if err != nil {
		return err
	}
	route := &gateway.Route{Op: checks, Policy: policy, Audience: orElse(api.cfg.Upstream.Audience, api.name)}
	limits := slices.Clone(api.cfg.Limits)
	for i := range limits {
		limits[i].ID = api.name + "." + limitID(&limits[i])
	}
	if cfg != nil {
		for _, l := range cfg.Limits {
			l.ID = api.name + "." + strings.ReplaceAll(op.ID, " ", ".") + "." + limitID(&l)
			limits = append(limits, l)
		}
		route.Upgrade = cfg.Upgrade != ""
		if cfg.Timeout != nil {
			route.Timeout = *cfg.Timeout
		}
	}
	for i := range limits {
		l, err := ratelimit.NewLimit(limitName(limits[i].ID), limitBy(limits[i].Per), limits[i].Rate.Value, limits[i].Burst)
		if err != nil {
			return config.Errorf(limits[i].Rate.Place, "%v", err)
		}
		if l.NeedsPrincipal() {
			route.After = append(route.After, l)
		} else {
			route.Before = append(route.Before, l)
		}
	}
	if api.cfg.Base != "" {
		route.Strip, route.Prefix = len(api.doc.Base()), serverPath(api.doc)
	}
	hosts := api.cfg.Hosts
	if len(hosts) == 0 {
		hosts = []string{""}
	}
	for _, host := range hosts {
		if err := p.Snapshot.Router.Add(host, op.Method, op.Path, len(p.Snapshot.Routes)); err != nil {
			return fmt.Errorf("%s: apis.%s: %w", checks.Place(), api.name, err)
		}
	}
	for _, w := range authz.Analyse(policy) {
		p.warn(w.Place, "rule", "%s: %s", w.Rule, w.Text)
	}
	p.Snapshot.Routes = append(p.Snapshot.Routes, route)
	p.access = append(p.access, routeAccess{api: api, op: op, cfg: cfg, ways: ways})
	return nil
}

// settings are how strictly an operation's input and answers are checked.
func settings(api *config.API, op *config.Operation) validate.Settings {
	s := validate.Settings{MaxBody: int64(api.MaxBody), DropUnknownQuery: api.UnknownQuery == "drop"}
	mode := api.Responses
	if op != nil {
		if op.MaxBody != nil {
			s.MaxBody = int64(*op.MaxBody)
		}
		mode = orElse(op.Responses, mode)
	}
	if s.MaxBody == 0 {
		s.MaxBody = -1 // written out: no body at all
	}
	s.Responses = map[string]validate.Mode{"report": validate.Report, "enforce": validate.Enforce}[mode]
	return s
}

// methods says which method of authentication serves each scheme of a document.
func methods(security []gatehouse.Requirement) map[string]gatehouse.Method {
	out := map[string]gatehouse.Method{}
	for _, r := range security {
		for _, use := range r {
			switch use.Kind {
			case "oauth2", "openIdConnect", "http:bearer":
				out[use.Scheme] = gatehouse.MethodJWT
			case "apiKey":
				out[use.Scheme] = gatehouse.MethodAPIKey
			case "mutualTLS":
				out[use.Scheme] = gatehouse.MethodMTLS
			}
		}
	}
	return out
}

// waysOf says how callers of op may prove who they are: by the document's
// security where it names some, by everything configured where it does not.
func waysOf(f *config.File, api *config.API, op *gatehouse.Operation, public bool) (authn.Ways, error) {
	w := authn.Ways{Anonymous: public, KeyHeader: f.APIKeys.Header}
	all := slices.Sorted(maps.Keys(f.Issuers))
	if len(op.Security) == 0 {
		if len(all) > 0 {
			w.Any = append(w.Any, authn.Way{Issuers: all})
		}
		if f.APIKeys.Enabled {
			w.Any = append(w.Any, authn.Way{Key: true})
		}
		if len(f.ClientCertificates.Subjects) > 0 {
			w.Any = append(w.Any, authn.Way{Certificate: true})
		}
		if len(w.Any) == 0 && !public {
			return w, config.Errorf(api.Place, "apis.%s: operation %s needs a caller, but no issuer, API keys or client certificates are configured", op.API, op.ID)
		}
		return w, nil
	}
	for _, requirement := range op.Security {
		ways := []authn.Way{{}}
		for _, use := range requirement {
			issuers, key, cert := serves(f, api, use, all)
			var next []authn.Way
			for _, way := range ways {
				if len(issuers) > 0 {
					with := way
					with.Issuers = issuers
					next = append(next, with)
				}
				if key {
					with := way
					with.Key = true
					next = append(next, with)
				}
				if cert {
					with := way
					with.Certificate = true
					next = append(next, with)
				}
			}
			ways = next
		}
		if len(requirement) == 0 {
			w.Anonymous = true // the document's own "or nobody"; authz decides
			continue
		}
		w.Any = append(w.Any, ways...)
	}
	if len(w.Any) == 0 && !w.Anonymous {
		return w, config.Errorf(api.Place, "apis.%s: operation %s asks for %s, which nothing in this config serves; configure issuers, api_keys or client_certificates, or say in authenticate who serves it",
			op.API, op.ID, schemeNames(op.Security))
	}
	return w, nil
}

// serves says who serves a security scheme: by authenticate, or by its kind.
func serves(f *config.File, api *config.API, use gatehouse.SchemeUse, all []string) (issuers []string, key, cert bool) {
	if with := api.Authenticate[use.Scheme]; with != nil {
		return config.Values(with.Issuers), with.Keys, with.Certificates
	}
	switch use.Kind {
	case "oauth2", "openIdConnect", "http:bearer":
		return all, false, false
	case "apiKey":
		return nil, f.APIKeys.Enabled, false
	case "mutualTLS":
		return nil, false, len(f.ClientCertificates.Subjects) > 0
	}
	return nil, false, false
}

func schemeNames(security []gatehouse.Requirement) string {
	var names []string
	for _, r := range security {
		for _, use := range r {
			names = append(names, fmt.Sprintf("%s (%s)", use.Scheme, use.Kind))
		}
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

// serverPath is the path under which the service itself serves its document.
func serverPath(doc *validate.Document) string {
	servers := doc.Servers()
	if len(servers) == 0 {
		return ""
	}
	u, err := url.Parse(servers[0])
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(u.EscapedPath(), "/")
}

// unusedRoles warns of grants no operation asks for: mostly a typing error that
// locks somebody out.
func (p *Plan) unusedRoles() {
	asked := map[string]bool{}
	for _, a := range p.access {
		if a.cfg == nil {
			continue
		}
		for _, g := range slices.Concat(a.cfg.Grant, a.cfg.Unless) {
			asked[g.Value] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.File.Roles)) {
		for _, g := range p.File.Roles[name].Grants {
			if !asked[g.Value] && !strings.HasSuffix(g.Value, "*") {
				p.warn(g.Place.String(), "unused_grant", "no operation asks for %s, which role %s grants%s", g.Value, name, suggest(g.Value, slices.Collect(maps.Keys(asked))))
			}
		}
	}
}

func suggest(word string, known []string) string {
	if s := config.Suggest(word, known); s != "" {
		return fmt.Sprintf("; did you mean %q?", s)
	}
	return ""
}

func limitID(l *config.Limit) string {
	if l.ID != "" {
		return l.ID
	}
	return "per-" + strings.Join(config.Values(l.Per), "-")
}

// limitName keeps a limit's name to what a header may hold, and unique.
func limitName(id string) string {
	name := strings.Map(func(r rune) rune {
		if r == '_' || r == '.' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, id)
	if len(name) > 64 {
		sum := sha256.Sum256([]byte(id))
		name = name[:55] + "-" + hex.EncodeToString(sum[:4])
	}
	return name
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

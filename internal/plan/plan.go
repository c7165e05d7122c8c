package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/authz"
	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/ddos"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
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

	waf       *validate.WAF // nil: nothing asks for it
	wafMade   string        // digest of what it was made of
	access    []Access      // by route
	resources []Resource
	carried   []string // files of documents that go along when the config is pushed
	warned    map[Finding]bool
	whole     sharedLimits // of all APIs together
}

// Access is what wiring a route needs beside what is in it.
type Access struct {
	API  string
	Ways authn.Ways

	api *config.API
	op  *gatehouse.Operation
	cfg *config.Operation // nil when the config does not mention it
}

// Place is where the API is written.
func (a Access) Place() config.Place { return a.api.Place }

// House reports whether the API is one of the house itself, see [OAuthAPI].
func (a Access) House() bool { return strings.HasPrefix(a.API, "gatehouse-") }

// Access tells how callers of a route may authenticate.
func (p *Plan) Access(route int) Access { return p.access[route] }

// planAPI is an API on its way into the plan.
type planAPI struct {
	name string
	cfg  *config.API
	doc  *validate.Document

	serve   map[string]authn.Scheme       // who serves the document's security schemes
	methods map[string][]gatehouse.Method // and how callers then prove who they are
	all     authn.Scheme                  // everything there is to authenticate with
	limits  sharedLimits                  // of every operation
	unmet   map[string][]string           // operations whose security nothing configured meets, by why

	resource string // indicator (RFC 8707), "" for none
	metadata string // URL of its metadata (RFC 9728), "" for none

	// of the APIs of the house itself
	fsys    fs.FS        // where its document is; nil: the config names it
	file    string       // in fsys
	raw     bool         // its service judges its input itself
	grants  bool         // its document names the grants its operations want
	suffix  string       // behind each of its paths
	service http.Handler // nil: wired later
	idle    []string     // why nobody may call an operation, for each of which that is so
}

func (api *planAPI) load(o validate.Options) (*validate.Document, error) {
	if api.fsys != nil {
		return validate.Load(api.fsys, api.file, o)
	}
	return validate.LoadFile(api.cfg.OpenAPI.Value, o)
}

// A Finding is something in a config that is allowed but probably not meant.
type Finding struct {
	Place string `json:"place"`
	Rule  string `json:"rule"` // stable name of the check
	Text  string `json:"text"`
}

// Compile reads and compiles the config at path. Its error joins every fault
// with its place; the warnings are in the plan.
func Compile(path string) (*Plan, error) { return compile(file(path), true, nil, nil) }

// Again is Compile beside a plan at work: what takes long and has not changed, the
// rules for content, is taken from it.
func Again(path string, at *Plan) (*Plan, error) { return compile(file(path), true, at, nil) }

// Outline is Compile without the rules for content, which take the most of its
// time: for who asks about people and clients. What it gives serves no requests:
// operations that would have rules asked refuse them.
func Outline(path string) (*Plan, error) { return compile(file(path), false, nil, nil) }

// Edited is Again with the file changed by edit before anything of it is compiled:
// for who measures what a config costs without a part of it. What edit leaves must
// be what Load could have given; the digest is that of what was written.
func Edited(path string, at *Plan, edit func(*config.File)) (*Plan, error) {
	return compile(file(path), true, at, edit)
}

func file(path string) func() (*config.File, error) {
	return func() (*config.File, error) { return config.Load(path) }
}

func compile(load func() (*config.File, error), rules bool, at *Plan, edit func(*config.File)) (*Plan, error) {
	f, err := load()
	if err != nil {
		return nil, err
	}
	if edit != nil {
		edit(f)
	}
	c, err := policies(f)
	if err != nil {
		return nil, err
	}
	p := &Plan{File: f, Watch: slices.Clone(f.Files), Snapshot: &gateway.Snapshot{Router: new(validate.Router)}, warned: map[Finding]bool{}}
	sum := sha256.New()
	_, _ = io.WriteString(sum, f.Digest)
	if err := leakNames(f); err != nil {
		return nil, err
	}
	if rules {
		if err := p.loadWAF(sum, at); err != nil {
			return nil, err
		}
	}
	var errs []error
	if err := errors.Join(p.loadNetworks(sum), p.loadEdges(sum)); err != nil {
		errs = append(errs, err)
	}
	if p.whole, err = p.wholeLimits(c); err != nil {
		errs = append(errs, err)
	}
	for _, name := range slices.Sorted(maps.Keys(f.APIs)) {
		api := planAPI{name: name, cfg: f.APIs[name], unmet: map[string][]string{}}
		if err := p.addAPI(c, &api); err != nil {
			errs = append(errs, err)
			continue
		}
		_, _ = io.WriteString(sum, api.doc.Digest())
	}
	if err := p.addHouse(c); err != nil {
		errs = append(errs, err)
	}
	if err := once(errs); err != nil {
		return nil, err
	}
	if p.waf != nil {
		p.waf.Settle()
	}
	p.Digest = hex.EncodeToString(sum.Sum(nil))
	p.Snapshot.Digest = p.Digest
	p.Snapshot.CacheMemory = int64(f.Cache.Memory)
	for _, o := range p.Snapshot.Router.Overlaps() {
		if p.access[o.First].API == p.access[o.Second].API {
			continue // the document's own warning
		}
		p.warn(p.Snapshot.Routes[o.First].Op.Place(), "ambiguous_route", "%s and %s match the same requests; %s is served", o.FirstPath, o.SecondPath, o.FirstPath)
	}
	p.unusedGrants()
	return p, nil
}

// once joins errs without repeating any: what is wrong with an API is wrong for
// each of its operations.
func once(errs []error) error {
	var out []error
	said := map[string]bool{}
	var say func([]error)
	say = func(errs []error) {
		for _, err := range errs {
			if joined, ok := err.(interface{ Unwrap() []error }); ok { // only this very layer
				say(joined.Unwrap())
			} else if text := err.Error(); !said[text] {
				said[text] = true
				out = append(out, err)
			}
		}
	}
	say(errs)
	return errors.Join(out...)
}

// warn notes a finding, once: a guardrail's or an API's is that of each operation.
func (p *Plan) warn(place, rule, text string, args ...any) {
	f := Finding{place, rule, fmt.Sprintf(text, args...)}
	if !p.warned[f] {
		p.warned[f] = true
		p.Warnings = append(p.Warnings, f)
	}
}

// addAPI compiles one API: its document, and for each operation its policy,
// limits and settings.
func (p *Plan) addAPI(c *authz.Compiler, api *planAPI) error {
	cfg := api.cfg
	opts := validate.Options{
		API: api.name, Base: cfg.Base, SkipUnsupportedPatterns: cfg.Unchecked == "skip",
		Settings: settings(cfg, nil), Operations: map[string]validate.Settings{},
	}
	if api.fsys == nil {
		opts.WAF = p.waf
		content(&opts.Settings, p.File, cfg, nil)
	}
	for id, op := range cfg.Operations {
		s := settings(cfg, op)
		if api.fsys == nil {
			content(&s, p.File, cfg, op)
		}
		opts.Operations[id] = s
	}
	doc, err := api.load(opts)
	if _, unread := errors.AsType[*fs.PathError](err); unread {
		return config.Errorf(cfg.OpenAPI.Place, "apis.%s.openapi: %v", api.name, err)
	}
	if err != nil && api.fsys == nil {
		opts.SkipUnsupportedPatterns = true
		if _, rest := validate.LoadFile(cfg.OpenAPI.Value, opts); rest == nil { // its patterns are all that is wrong
			err = errors.Join(err, config.Errorf(cfg.OpenAPI.Place, "apis.%s: what the pattern forbids would pass; write it so that RE2 can run it, or unchecked_patterns: skip", api.name))
		}
	}
	if err != nil {
		return err // each fault has its place in the document
	}
	api.doc = doc
	if api.fsys != nil {
		cfg.Operations = ownAccess(doc, api.grants)
	}
	api.serve, api.methods = schemes(cfg)
	api.all = everything(p.File)
	var errs []error
	if api.limits, err = p.shareLimits(c, api.name, cfg.Limits); err != nil {
		errs = append(errs, err)
	}
	if api.fsys == nil || api.grants {
		if err := p.addResource(c, api); err != nil {
			errs = append(errs, err)
		}
	}
	if api.fsys == nil {
		for _, name := range doc.Files() {
			path := filepath.Join(filepath.Dir(cfg.OpenAPI.Value), filepath.FromSlash(name))
			p.Watch = append(p.Watch, path)
			if slices.Contains(p.File.Carried, cfg.OpenAPI.Value) {
				p.carried = append(p.carried, path)
			}
		}
	}
	for _, w := range doc.Warnings() {
		p.warn(w.Place, "document", "%s", w.Text)
	}
	known := map[string]bool{}
	for _, checks := range doc.Operations() {
		known[checks.Op().ID] = true
		p.ownTokens(api, checks.Op())
		p.warnToothless(checks)
		if err := p.addOperation(c, api, checks); err != nil {
			errs = append(errs, err)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(cfg.Operations)) {
		if !known[id] {
			errs = append(errs, config.Errorf(cfg.Operations[id].Place, "apis.%s.operations: %s has no operation %q%s",
				api.name, cfg.OpenAPI.Value, id, config.DidYouMean(id, slices.Collect(maps.Keys(known)))))
		}
	}
	p.forgets(api.name)
	if err := api.nobody(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// ownTokens warns where the document asks for OAuth tokens and the config takes
// those of nobody, although it has an authorization server.
func (p *Plan) ownTokens(api *planAPI, op *gatehouse.Operation) {
	if p.File.OAuth == nil || api.fsys != nil {
		return
	}
	for _, r := range op.Security {
		for _, use := range r {
			with := api.cfg.Authenticate[use.Scheme]
			if with != nil && len(with.Issuers) == 0 && (use.Kind == "oauth2" || use.Kind == "openIdConnect") {
				p.warn(with.Place.String(), "own_tokens", "apis.%s.authenticate.%s: the document asks for OAuth tokens, and those of your own authorization server are not taken; its name is %s",
					api.name, use.Scheme, config.OwnIssuer)
			}
		}
	}
}

// nobody tells of the operations that nobody could call: one line for each
// cause, since a document of a thousand operations has them all for one.
func (api *planAPI) nobody() error {
	var errs []error
	for _, why := range slices.Sorted(maps.Keys(api.unmet)) {
		ops := api.unmet[why]
		text := "operation " + ops[0]
		if more := len(ops) - 1; more > 0 {
			text = fmt.Sprintf("operation %s and %d more", ops[0], more)
		}
		errs = append(errs, config.Errorf(api.cfg.Place, "apis.%s: %s: %s", api.name, text, why))
	}
	return errors.Join(errs...)
}

// taken explains why a route of api could not be laid.
func (p *Plan) taken(api *planAPI, checks *validate.Operation, err error) error {
	c, ok := errors.AsType[*validate.Conflict](err)
	if !ok || c.First < 0 || p.access[c.First].API == api.name {
		return fmt.Errorf("%s: apis.%s: %w", checks.Place(), api.name, err)
	}
	first := p.Snapshot.Routes[c.First].Op
	return config.Errorf(api.cfg.Place, "apis.%s: %s %s (%s) is answered by apis.%s already (%s); give the two other hosts, or another base",
		api.name, c.Method, c.SecondPath, checks.Place(), first.Op().API, first.Place())
}

func (p *Plan) addOperation(c *authz.Compiler, api *planAPI, checks *validate.Operation) error {
	op := checks.Op()
	cfg := api.cfg.Operations[op.ID]
	hosts := api.cfg.Hosts
	if len(hosts) == 0 {
		hosts = []string{""}
	}
	if cfg != nil && cfg.Closed { // answered as if it were not in the document
		for _, host := range hosts {
			if err := p.Snapshot.Router.Close(host, op.Method, op.Path+api.suffix); err != nil {
				return p.taken(api, checks, err)
			}
		}
		return nil
	}
	policy, err := c.Compile(op, access(api.cfg, cfg, api.methods))
	if err != nil {
		return err
	}
	ways, err := authn.WaysOf(op.Security, api.serve, api.all)
	if err != nil && !policy.Public() {
		api.unmet[err.Error()] = append(api.unmet[err.Error()], op.ID)
		return nil
	}
	ways.Anonymous = policy.Public()
	ways.ResourceMetadata = api.metadata
	if api.raw && policy.Public() {
		ways.Any = nil // its service judges who calls, and needs to see the proof
	}
	if api.resource != "" {
		ways.Audience = []string{api.resource}
	}
	if cfg != nil {
		ways.ACR, ways.Details, ways.Bound = config.Values(cfg.ACR), config.Values(cfg.Details), cfg.Bound
		if cfg.MaxAge != nil {
			ways.MaxAge = *cfg.MaxAge
		}
	}
	if t := api.cfg.AccessToken; t != nil && t.Bound {
		ways.Bound = true
	}
	if ways.KeyHeader, err = p.keyHeader(op); err != nil {
		return config.Errorf(api.cfg.Place, "apis.%s: operation %s: %v", api.name, op.ID, err)
	}
	route := &gateway.Route{Op: checks, Policy: policy, Fields: policy.BodyFields(), Params: policy.Params(), Audience: orElse(api.cfg.Upstream.Audience, api.name), Raw: api.raw, Service: api.service}
	if route.Priority, err = ddos.ParsePriority(api.cfg.PriorityOf(cfg)); err != nil {
		return config.Errorf(api.cfg.Place, "apis.%s: operation %s: %v", api.name, op.ID, err)
	}
	if api.fsys == nil {
		route.Charge = p.File.WAF.Charge
	}
	taken, err := p.limitsOf(c, op, p.whole)
	if err != nil {
		return err
	}
	more, err := p.limitsOf(c, op, api.limits)
	if err != nil {
		return err
	}
	taken = slices.Concat(taken, more)
	if cfg != nil {
		own, err := p.limits(c, op, api.name+"."+strings.ReplaceAll(op.ID, " ", "."), cfg.Limits)
		if err != nil {
			return err
		}
		taken = slices.Concat(taken, own)
		route.Upgrade = cfg.Upgrade != ""
		if cfg.GraphQL != nil {
			route.ChargeFields = cfg.GraphQL.Charge
		}
		if cfg.Timeout != nil {
			route.Timeout = *cfg.Timeout
		}
	}
	if cfg != nil && cfg.Cache != nil {
		if route.Cache, err = caching(checks, cfg.Cache); err != nil {
			return config.Errorf(cfg.Cache.Place, "apis.%s.operations.%s: %v", api.name, op.ID, err)
		}
	}
	route.SetLimits(p.Snapshot, taken)
	if api.cfg.Base != "" && api.fsys == nil { // the house's own services know where they are
		route.Strip, route.Prefix = len(api.doc.Base()), serverPath(api.doc)
	}
	for _, host := range hosts {
		if err := p.Snapshot.Router.Add(host, op.Method, op.Path+api.suffix, len(p.Snapshot.Routes)); err != nil {
			return p.taken(api, checks, err)
		}
	}
	if cfg != nil && len(cfg.Own) > 0 && len(issuersOf(ways)) > 1 {
		p.warn(cfg.Place.String(), "ambiguous_owner", "%s.%s: own compares names that %s give to different people; add a rule on principal.issuer, or let one issuer serve it",
			api.name, op.ID, strings.Join(issuersOf(ways), " and "))
	}
	findings := authz.Analyse(policy)
	if api.fsys != nil && len(findings) > 0 { // which grants of the house's APIs to give is a choice
		api.idle = append(api.idle, findings[0].Text)
		findings = nil
	}
	for _, w := range findings {
		p.warn(w.Place, "rule", "%s: %s", w.Rule, w.Text)
	}
	p.Snapshot.Routes = append(p.Snapshot.Routes, route)
	p.access = append(p.access, Access{API: api.name, Ways: ways, api: api.cfg, op: op, cfg: cfg})
	return nil
}

// keyHeader is where the document wants the API keys of op; "" where it does not
// say, or wants them where none are taken: then api_keys.header counts.
func (p *Plan) keyHeader(op *gatehouse.Operation) (string, error) {
	var names []string
	for _, r := range op.Security {
		for _, use := range r {
			if name := http.CanonicalHeaderKey(use.Header); name != "" && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	switch len(names) {
	case 0:
		return "", nil
	case 1:
		return names[0], authn.KeyPlace("header", names[0])
	}
	p.warn(p.File.APIKeys.Place.String(), "key_header", "the document of %s wants keys in %s; one is taken, in %s", op.API, strings.Join(names, " and "), p.File.APIKeys.Header)
	return "", nil
}

// issuersOf lists whose tokens some way takes.
func issuersOf(w authn.Ways) (names []string) {
	for _, way := range w.Any {
		names = append(names, way.Issuers...)
	}
	slices.Sort(names)
	return slices.Compact(names)
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
	s.Responses = modes[mode]
	bodies(&s, api, op)
	return s
}

// schemes says who serves the security schemes of a document, as authenticate has
// it: what is left out is served by its kind.
func schemes(api *config.API) (ways map[string]authn.Scheme, methods map[string][]gatehouse.Method) {
	ways, methods = map[string]authn.Scheme{}, map[string][]gatehouse.Method{}
	for name, with := range api.Authenticate {
		ways[name] = authn.Scheme{Issuers: config.Values(with.Issuers), Key: with.Keys, Certificate: with.Certificates}
		methods[name] = []gatehouse.Method{}
		if len(with.Issuers) > 0 {
			methods[name] = append(methods[name], gatehouse.MethodJWT)
		}
		if with.Keys {
			methods[name] = append(methods[name], gatehouse.MethodAPIKey)
		}
		if with.Certificates {
			methods[name] = append(methods[name], gatehouse.MethodMTLS)
		}
	}
	return ways, methods
}

// everything is all the config has to authenticate callers with.
func everything(f *config.File) authn.Scheme {
	return authn.Scheme{
		Issuers: slices.Sorted(maps.Keys(f.Issuers)), Key: f.APIKeys.Enabled, Certificate: len(f.ClientCertificates.Subjects) > 0,
	}
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

// grantInRule finds the grants a rule asks for; authz has compiled it, so the
// argument is a plain text.
var grantInRule = regexp.MustCompile(`\bgrant\(\s*["']([^"']+)["']`)

// unusedGrants warns of grants no operation asks for: mostly a typing error that
// locks somebody out.
func (p *Plan) unusedGrants() {
	asked := map[string]bool{}
	inRule := func(expr string) {
		for _, m := range grantInRule.FindAllStringSubmatch(expr, -1) {
			asked[m[1]] = true
		}
	}
	for _, a := range p.access {
		if a.cfg == nil {
			continue
		}
		for _, g := range slices.Concat(a.cfg.Grant, a.cfg.Unless) {
			asked[g.Value] = true
		}
		for _, r := range slices.Concat(a.cfg.Require, a.cfg.Deny) {
			inRule(r.Expr.Value)
		}
	}
	for _, api := range p.File.APIs {
		for _, r := range slices.Concat(api.Require, api.Deny) {
			inRule(r.Expr.Value)
		}
	}
	for _, g := range p.File.Guardrails {
		if g.Require != nil {
			inRule(g.Require.Value)
		} else {
			inRule(g.Deny.Value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.File.Roles)) {
		for _, g := range p.File.Roles[name].Grants {
			if !asked[g.Value] && !strings.HasSuffix(g.Value, "*") {
				p.warn(g.Place.String(), "unused_grant", "no operation asks for %s, which role %s grants%s", g.Value, name, config.DidYouMean(g.Value, slices.Collect(maps.Keys(asked))))
			}
		}
	}
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// Operations lists the operations that are served.
func (p *Plan) Operations() []*gatehouse.Operation {
	out := make([]*gatehouse.Operation, len(p.access))
	for i, a := range p.access {
		out[i] = a.op
	}
	return out
}

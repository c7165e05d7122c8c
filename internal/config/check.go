package config

import (
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
)

// A checker finds what is wrong between settings, in values that each are right.
type checker struct {
	f    *File
	errs []*Error
}

func (c *checker) errorf(at Place, text string, args ...any) {
	c.errs = append(c.errs, &Error{at, fmt.Sprintf(text, args...)})
}

// check completes f and gives what does not fit together.
func (f *File) check() []*Error {
	c := &checker{f: f}
	f.eventsPath()
	c.listeners()
	c.admin()
	c.networks()
	c.ddos()
	c.wholeLimits()
	c.oauth()
	c.issuers()
	c.roles()
	c.certificates()
	c.guardrails()
	c.waf()
	c.database()
	c.fleet()
	if len(f.APIs) == 0 && f.OAuth == nil {
		c.errorf(f.Place, "there are neither apis nor oauth; a gateway needs something to guard")
	}
	for _, name := range slices.Sorted(maps.Keys(f.APIs)) {
		c.api(name, f.APIs[name])
	}
	c.tests()
	return c.errs
}

func (f *File) eventsPath() {
	if f.Events.Path.Value == "" && f.Data.Value != "" {
		f.Events.Path = Path{filepath.Join(f.Data.Value, "events"), f.Data.Place}
	}
}

// checkFleet is check for a node's own file, which has nothing to guard.
func (f *File) checkFleet() []*Error {
	c := &checker{f: f}
	c.fleet()
	return c.errs
}

func (c *checker) listeners() {
	f := c.f
	if len(f.Listeners) == 0 {
		d := &decoder{file: f.Place.File}
		l := Listener{Address: "127.0.0.1:8443"}
		d.leftOutFields(&l, f.Place)
		f.Listeners = []Listener{l}
	}
	seen := map[string]Place{}
	for i := range f.Listeners {
		l := &f.Listeners[i]
		host, port, _ := net.SplitHostPort(l.Address)
		if first, ok := seen[l.Address]; ok && port != "0" {
			c.errorf(l.Place, "listeners: %s is already listened on, see %s", l.Address, first)
		}
		seen[l.Address] = l.Place
		switch {
		case l.TLS != nil && l.Plaintext != "":
			c.errorf(l.Place, "listeners: %s has both tls and plaintext; choose one", l.Address)
		case l.Plaintext != "" && len(strings.Fields(l.Plaintext)) < 3:
			c.errorf(l.Place, "listeners: plaintext of %s takes the reason as a sentence, like %q", l.Address, "TLS ends at the load balancer on this host")
		case l.TLS == nil && l.Plaintext == "":
			l.TLS = selfSigned(host)
		}
		c.tls(l.TLS, "listeners: "+l.Address)
		if l.ClientCertificates != nil && l.Plaintext != "" {
			c.errorf(l.ClientCertificates.Place, "listeners: %s asks for client certificates without tls", l.Address)
		}
		c.edge(l)
		if cc := l.ClientCertificates; cc != nil && (cc.Mode == "any") != (cc.CA == nil) {
			c.errorf(cc.Place, "listeners: %s: client_certificates needs a ca, or mode: any and none", l.Address)
		}
	}
}

// selfSigned is the certificate of our own CA for a listener that names none.
func selfSigned(host string) *TLS {
	names := []string{"localhost", "127.0.0.1", "::1"}
	if checkHost(host) == nil && host != "" && host != "0.0.0.0" && host != "::" && !slices.Contains(names, host) {
		names = append(names, host)
	}
	return &TLS{Self: names}
}

func (c *checker) tls(t *TLS, of string) {
	if t == nil {
		return
	}
	files := t.Certificate != nil || t.Key != nil
	switch {
	case files && len(t.Self) > 0:
		c.errorf(t.Place, "%s: tls has both self and certificate files; choose one", of)
	case !files && len(t.Self) == 0:
		c.errorf(t.Place, "%s: tls needs self: [names], or certificate and key", of)
	case files && (t.Certificate == nil || t.Key == nil):
		c.errorf(t.Place, "%s: tls needs certificate and key together", of)
	}
}

func (c *checker) admin() {
	a := &c.f.Admin
	c.tls(a.TLS, "admin")
	host, port, _ := net.SplitHostPort(a.Address)
	if a.Address != "" && !loopback(host) && (a.TLS == nil || a.Token == nil) {
		c.errorf(a.Place, "admin: %s is not only this machine; it needs tls and token there, or an address like 127.0.0.1:9443", a.Address)
	}
	for _, l := range c.f.Listeners {
		if l.Address == a.Address && port != "0" {
			c.errorf(a.Place, "admin: %s is already listened on, see %s", a.Address, l.Place)
		}
	}
}

func (c *checker) issuers() {
	seen := map[string]string{}
	inFile := func(a, b string) int { return c.f.Issuers[a].Place.compare(c.f.Issuers[b].Place) }
	for _, name := range slices.SortedFunc(maps.Keys(c.f.Issuers), inFile) {
		i := c.f.Issuers[name]
		if name == withKeys || name == withCertificates {
			c.errorf(i.Place, "issuers.%s: the name is taken; in authenticate it means %s", name,
				map[string]string{withKeys: "API keys", withCertificates: "client certificates"}[name])
		}
		// Two configs for one iss would let a token choose the softer of them.
		if first, ok := seen[i.Issuer.Value]; ok && i.Issuer.Value != "" {
			c.errorf(i.Issuer.Place, "issuers.%s: the issuer %s is already issuers.%s", name, i.Issuer.Value, first)
		}
		seen[i.Issuer.Value] = name
		for _, external := range slices.Sorted(maps.Keys(i.RoleMap)) {
			c.knownRoles(i.RoleMap[external], "issuers."+name+".role_map")
		}
	}
}

func (c *checker) knownRoles(roles []Text, of string) {
	for _, r := range roles {
		if _, ok := c.f.Roles[r.Value]; !ok {
			c.errorf(r.Place, "%s: there is no role %q%s", of, r.Value, DidYouMean(r.Value, slices.Collect(maps.Keys(c.f.Roles))))
		}
	}
}

func (c *checker) roles() {
	done := map[string]bool{}
	var walk func(name string, path []string)
	walk = func(name string, path []string) {
		if i := slices.Index(path, name); i >= 0 {
			c.errorf(c.f.Roles[name].Place, "roles: %s inherits itself: %s", name, strings.Join(append(path[i:], name), " → "))
			return
		}
		if done[name] {
			return
		}
		for _, parent := range c.f.Roles[name].Inherits {
			if c.f.Roles[parent.Value] != nil {
				walk(parent.Value, append(slices.Clone(path), name))
			}
		}
		done[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(c.f.Roles)) {
		c.knownRoles(c.f.Roles[name].Inherits, "roles."+name+".inherits")
		walk(name, nil)
	}
}

func (c *checker) certificates() {
	for _, name := range slices.Sorted(maps.Keys(c.f.ClientCertificates.Subjects)) {
		s := c.f.ClientCertificates.Subjects[name]
		c.knownRoles(s.Roles, "client_certificates.subjects."+name)
		c.asked(s.Place, "client_certificates.subjects."+name)
	}
}

// asked refuses certificates that no caller could ever show.
func (c *checker) asked(at Place, of string) {
	if !slices.ContainsFunc(c.f.Listeners, func(l Listener) bool {
		return l.ClientCertificates != nil && l.ClientCertificates.CA != nil
	}) {
		c.errorf(at, "%s: no listener asks for client certificates; give one client_certificates: {ca: file}", of)
	}
}

func (c *checker) guardrails() {
	seen := map[string]Place{}
	for _, g := range c.f.Guardrails {
		if g.ID == "" {
			continue // said already
		}
		if first, ok := seen[g.ID]; ok {
			c.errorf(g.Place, "guardrails: the id %s is already taken, see %s", g.ID, first)
		}
		seen[g.ID] = g.Place
		if (g.Deny == nil) == (g.Require == nil) {
			c.errorf(g.Place, "guardrails: %s needs exactly one of deny and require", g.ID)
		}
	}
}

func (c *checker) api(name string, a *API) {
	at := "apis." + name
	if (a.Upstream.Certificate == nil) != (a.Upstream.Key == nil) {
		c.errorf(a.Upstream.Place, "%s.upstream needs certificate and key together", at)
	}
	if a.Upstream.Audience != "" && a.Upstream.Token != "internal" {
		c.errorf(a.Upstream.Place, "%s.upstream: audience is of the internal token, but token is %s", at, a.Upstream.Token)
	}
	c.concurrency(&a.Upstream, at)
	for _, scheme := range slices.Sorted(maps.Keys(a.Authenticate)) {
		w := a.Authenticate[scheme]
		for _, i := range w.Issuers {
			if _, ok := c.f.Issuers[i.Value]; !ok {
				known := append(slices.Sorted(maps.Keys(c.f.Issuers)), withKeys, withCertificates)
				hint := DidYouMean(i.Value, known)
				switch {
				case i.Value == OwnIssuer:
					hint = "; it is our own authorization server: add oauth"
				case hint == "":
					hint = "; there are " + strings.Join(known, ", ")
				}
				c.errorf(i.Place, "%s.authenticate.%s: there is no issuer %q%s", at, scheme, i.Value, hint)
			}
		}
		if w.Keys && !c.f.APIKeys.Enabled {
			c.errorf(w.Place, "%s.authenticate.%s: keys, but api_keys.enabled is false", at, scheme)
		}
		if w.Certificates {
			c.asked(w.Place, at+".authenticate."+scheme)
		}
	}
	c.limits(a.Limits, at)
	c.exclusions(at+".waf", a.WAF.Exclude)
	c.rules(a.Require, a.Deny, at)
	c.cachedAPI(a, at)
	for _, id := range slices.Sorted(maps.Keys(a.Operations)) {
		c.operation(at+".operations."+id, a.Operations[id])
	}
}

func (c *checker) operation(at string, o *Operation) {
	access := len(o.Grant) > 0 || len(o.Own) > 0 || len(o.Require) > 0
	switch {
	case o.Public && o.Closed:
		c.errorf(o.Place, "%s is both public and closed", at)
	case o.Public && (len(o.Grant) > 0 || len(o.Own) > 0):
		c.errorf(o.Place, "%s is public: grant and own would never be asked; deny and require are", at)
	case o.Closed && access:
		c.errorf(o.Place, "%s is closed: its grant, own and require would never be asked", at)
	case len(o.Unless) > 0 && len(o.Own) == 0:
		c.errorf(o.Place, "%s has unless without own; it frees from nothing", at)
	}
	c.caching(o, at)
	c.limits(o.Limits, at)
	c.exclusions(at+".waf", o.WAF.Exclude)
	c.rules(o.Require, o.Deny, at)
}

// waf completes the settings of the rules for content.
func (c *checker) waf() {
	w := &c.f.WAF
	if w.Detect == 0 {
		w.Detect = w.Paranoia
	}
	if w.Detect < w.Paranoia {
		c.errorf(w.Place, "waf: detect is %d, below paranoia %d: rules that count must be asked", w.Detect, w.Paranoia)
	}
	if !w.CoreRules && len(w.Rules)+len(w.Before) == 0 && w.Mode != "off" {
		c.errorf(w.Place, "waf: core_rules is false and there are no rules of your own; write mode: off if nothing is to be asked")
	}
	c.exclusions("waf", w.Exclude)
	if w.Engine != "coraza" {
		return
	}
	const instead = "%s.exclude: Coraza leaves out values by SecLang only, like SecRuleUpdateTargetById in waf.rules, or engine: compiled"
	for _, e := range w.Exclude {
		if e.Parameter.Value != "" {
			c.errorf(e.Place, instead, "waf")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.f.APIs)) {
		api := c.f.APIs[name]
		if len(api.WAF.Exclude) > 0 {
			c.errorf(api.WAF.Exclude[0].Place, instead, "apis."+name+".waf")
		}
		for _, id := range slices.Sorted(maps.Keys(api.Operations)) {
			if here := &api.Operations[id].WAF; len(here.Exclude) > 0 {
				c.errorf(here.Exclude[0].Place, instead, "apis."+name+".operations."+id+".waf")
			}
		}
	}
}

func (c *checker) exclusions(at string, list []WAFExclusion) {
	for i, e := range list {
		if len(strings.Fields(e.Because)) < 2 {
			c.errorf(e.Place, "%s.exclude[%d]: because takes the reason as a sentence, like %q", at, i, "a note is prose and may speak of SQL")
		}
		for _, r := range e.Rules {
			if from, to, ok := strings.Cut(r.Value, "-"); ok && r.Value[0] <= '9' && (len(from) > len(to) || len(from) == len(to) && from > to) {
				c.errorf(r.Place, "%s.exclude[%d]: the range %s ends before it begins", at, i, r.Value)
			}
		}
	}
}

// rules refuses one id for two rules: a decision could not say which one denied.
func (c *checker) rules(require, deny Rules, at string) {
	for _, r := range deny {
		if slices.ContainsFunc(require, func(q Rule) bool { return q.ID == r.ID }) {
			c.errorf(r.Expr.Place, "%s: the id %s is in both require and deny", at, r.ID)
		}
	}
}

func (c *checker) tests() {
	seen := map[string]Place{}
	for i := range c.f.Tests {
		t := &c.f.Tests[i]
		if first, ok := seen[t.Name]; ok && t.Name != "" {
			c.errorf(t.Place, "tests: the name %q is already taken, see %s", cut(t.Name), first)
		}
		seen[t.Name] = t.Place
		if t.Expect.Allow && (t.Reason != "" || t.Rule != "") {
			c.errorf(t.Place, "tests: %q expects allow; reason and rule belong to a denial", cut(t.Name))
		}
		c.call(t)
		if t.As != nil {
			c.caller(t)
		}
	}
}

func (c *checker) call(t *Test) {
	if t.Call.Value == "" {
		return
	}
	api, op, ok := strings.Cut(t.Call.Value, ".")
	if !ok || op == "" {
		c.errorf(t.Call.Place, "tests: call takes api.operation, like orders.getOrder; found %q", cut(t.Call.Value))
		return
	}
	if c.f.APIs[api] == nil {
		c.errorf(t.Call.Place, "tests: there is no API %q%s", cut(api), DidYouMean(api, slices.Collect(maps.Keys(c.f.APIs))))
	}
}

func (c *checker) caller(t *Test) {
	c.knownRoles(t.As.Roles, "tests")
	switch {
	case t.As.Issuer == "" && t.As.Method == "jwt" && len(c.f.Issuers) == 1:
		t.As.Issuer = slices.Collect(maps.Keys(c.f.Issuers))[0]
	case t.As.Issuer == "" && t.As.Method == "apikey":
		t.As.Issuer = withKeys
	case t.As.Issuer == "" && t.As.Method == "mtls":
		t.As.Issuer = withCertificates
	}
	known := append(slices.Sorted(maps.Keys(c.f.Issuers)), withKeys, withCertificates)
	if i := t.As.Issuer; i != "" && !slices.Contains(known, i) {
		c.errorf(t.As.Place, "tests: there is no issuer %q%s", cut(i), DidYouMean(i, known))
	}
}

package authz

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-api/gatehouse"
)

// An alternative is one Security Requirement Object that a single principal can
// satisfy: how it must have authenticated, and with which scopes.
type alternative struct {
	method  gatehouse.Method
	issuers []string // of the token; nil: any
	scopes  []string
}

// setSecurity compiles the document's security. A requirement that no method of
// ours serves is dropped: it can never hold. If none is left, nobody could ever
// call, which is an error and not a closed door nobody understands.
func (p *Policy) setSecurity(schemes map[string][]gatehouse.Method, issuers map[string][]string) error {
	if !documentNeedsCaller(p.op.Security) {
		return nil
	}
	p.secured = true
	for _, requirement := range p.op.Security {
		alts, problem := alternativesOf(requirement, schemes, issuers)
		if problem != "" {
			p.unserved = append(p.unserved, problem)
		}
		p.alternatives = append(p.alternatives, alts...)
	}
	if len(p.alternatives) == 0 {
		return fmt.Errorf("nobody can satisfy the document's security: %s", strings.Join(p.unserved, "; "))
	}
	return nil
}

// alternativesOf gives the ways to meet one requirement: every method of each
// scheme with every method of the others, as far as one caller can have both.
//
// The issuers stay with the scopes: a partner's issuer that serves one scheme
// must not open the other by writing its scopes into a token.
func alternativesOf(requirement gatehouse.Requirement, schemes map[string][]gatehouse.Method, issuers map[string][]string) (alts []alternative, problem string) {
	alts = []alternative{{}}
	for _, use := range requirement {
		methods, ok := schemes[use.Scheme]
		if !ok {
			methods = []gatehouse.Method{methodOf(use.Kind)}
		}
		var next []alternative
		for _, m := range methods {
			if m == gatehouse.MethodNone {
				problem = fmt.Sprintf("no method of authentication serves scheme %q (%s)", use.Scheme, use.Kind)
				continue
			}
			for _, a := range alts {
				both, ok := together(a.method, m)
				if !ok {
					problem = fmt.Sprintf("one caller cannot be authenticated by %s and %s at once", a.method, m)
					continue
				}
				with := alternative{both, a.issuers, slices.Clone(a.scopes)}
				if own, ok := issuers[use.Scheme]; ok && m == gatehouse.MethodJWT {
					if with.issuers = common(a.issuers, own); len(with.issuers) == 0 {
						problem = fmt.Sprintf("no issuer serves scheme %q and those beside it", use.Scheme)
						continue
					}
				}
				for _, s := range use.Scopes {
					if !slices.Contains(with.scopes, s) {
						with.scopes = append(with.scopes, s)
					}
				}
				next = append(next, with)
			}
		}
		if alts = next; len(alts) == 0 {
			if problem == "" {
				problem = fmt.Sprintf("no method of authentication serves scheme %q (%s)", use.Scheme, use.Kind)
			}
			return nil, problem
		}
	}
	return alts, ""
}

// common gives the issuers in both; nil stands for all of them.
func common(a, b []string) []string {
	if a == nil {
		return b
	}
	return slices.DeleteFunc(slices.Clone(a), func(i string) bool { return !slices.Contains(b, i) })
}

// together is the method of a principal that shows both. A client certificate goes
// with a token or key, and the principal is then the token's: authn has looked
// at the certificate as well.
func together(a, b gatehouse.Method) (gatehouse.Method, bool) {
	switch {
	case a == gatehouse.MethodNone || a == b:
		return b, true
	case a == gatehouse.MethodMTLS:
		return b, true
	case b == gatehouse.MethodMTLS:
		return a, true
	}
	return gatehouse.MethodNone, false
}

// methodOf says which method serves a kind of scheme when the config does not.
func methodOf(kind string) gatehouse.Method {
	switch kind {
	case "oauth2", "openIdConnect", "http:bearer":
		return gatehouse.MethodJWT
	case "apiKey":
		return gatehouse.MethodAPIKey
	case "mutualTLS":
		return gatehouse.MethodMTLS
	}
	return gatehouse.MethodNone
}

// documentNeedsCaller reports whether the document's security keeps anybody
// out. An empty requirement among the alternatives means "or nobody".
func documentNeedsCaller(security []gatehouse.Requirement) bool {
	return len(security) > 0 && !slices.ContainsFunc(security, func(r gatehouse.Requirement) bool { return len(r) == 0 })
}

func (p *Policy) scoped(who *gatehouse.Principal) bool {
	if !p.secured {
		return true
	}
	for i := range p.alternatives {
		if p.alternatives[i].holds(who) {
			return true
		}
	}
	return false
}

func (a *alternative) holds(who *gatehouse.Principal) bool {
	if who.Method != a.method || a.issuers != nil && !slices.Contains(a.issuers, who.Issuer) {
		return false
	}
	for _, s := range a.scopes {
		if !who.HasScope(s) {
			return false
		}
	}
	return true
}

// Scopes returns the scopes of the first alternative that a caller
// authenticated by method could satisfy, for a challenge (RFC 6750 §3).
func (p *Policy) Scopes(method gatehouse.Method) []string {
	if p == nil {
		return nil
	}
	for _, a := range p.alternatives {
		if a.method == method {
			return a.scopes
		}
	}
	return nil
}

func (p *Policy) neededSecurity(who *gatehouse.Principal) string {
	var out []string
	for _, a := range p.alternatives {
		var parts []string
		if who.Method != a.method {
			parts = append(parts, "method "+string(a.method))
		} else if a.issuers != nil && !slices.Contains(a.issuers, who.Issuer) {
			parts = append(parts, "a token of "+strings.Join(a.issuers, " or "))
		}
		for _, s := range a.scopes {
			if !who.HasScope(s) {
				parts = append(parts, fmt.Sprintf("scope %q", s))
			}
		}
		out = append(out, strings.Join(parts, " and "))
	}
	return strings.Join(out, " or ")
}

func describeSecurity(security []gatehouse.Requirement) string {
	var out []string
	for _, r := range security {
		var parts []string
		for _, use := range r {
			parts = append(parts, use.Scheme)
		}
		out = append(out, strings.Join(parts, " and "))
	}
	return strings.Join(out, " or ")
}

package plan

import (
	"maps"
	"slices"
	"strings"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/authz"
	"github.com/gatehouse-api/gatehouse/internal/config"
)

// policies turns what all operations share into authz's words.
func policies(f *config.File) (*authz.Compiler, error) {
	cfg := authz.Config{Roles: roles(f), Claims: claimTypes(f)}
	for _, g := range f.Guardrails {
		if g.Deny != nil {
			cfg.Guardrails.Deny = append(cfg.Guardrails.Deny, rule(g.ID, *g.Deny, g.Because))
		} else {
			cfg.Guardrails.Require = append(cfg.Guardrails.Require, rule(g.ID, *g.Require, g.Because))
		}
	}
	return authz.New(cfg)
}

// Roles answers what the config's roles hold, for those who hand them out.
func (p *Plan) Roles() (*authz.Roles, error) { return authz.NewRoles(roles(p.File)) }

// grantRoles is the permission to hand out what one does not have oneself.
const grantRoles = "gatehouse.roles:write"

// MayProvision reports whether who may give these roles out by SCIM. The roles of
// the services are what provisioning is for, but not a role that opens more of this
// house than the caller's own.
func (p *Plan) MayProvision() (func(who *gatehouse.Principal, given []string) bool, error) {
	roles, err := p.Roles()
	if err != nil {
		return nil, err
	}
	grants := []string{grantRoles}
	for n, route := range p.Snapshot.Routes {
		if !p.Access(n).House() {
			continue
		}
		for _, tag := range route.Op.Op().Tags {
			if grant, ok := strings.CutPrefix(tag, "grant "); ok && !slices.Contains(grants, grant) {
				grants = append(grants, grant)
			}
		}
	}
	return func(who *gatehouse.Principal, given []string) bool {
		return roles.Grant(who.Roles, grantRoles) || !slices.ContainsFunc(grants, func(grant string) bool {
			return roles.Grant(given, grant) && !roles.Grant(who.Roles, grant)
		})
	}, nil
}

func roles(f *config.File) map[string]authz.Role {
	out := map[string]authz.Role{}
	for name, r := range f.Roles {
		out[name] = authz.Role{Inherits: config.Values(r.Inherits), Grants: config.Values(r.Grants)}
	}
	return out
}

func rule(id string, expr config.Text, because string) authz.Rule {
	return authz.Rule{ID: id, Expr: expr.Value, Because: because, Place: expr.Place.String()}
}

func rules(require, deny config.Rules) (out authz.Rules) {
	for _, r := range require {
		out.Require = append(out.Require, rule(r.ID, r.Expr, r.Because))
	}
	for _, r := range deny {
		out.Deny = append(out.Deny, rule(r.ID, r.Expr, r.Because))
	}
	return out
}

// access is what the config asks of the callers of one operation. An operation
// the config does not mention has only what its document says.
func access(api *config.API, op *config.Operation, schemes map[string][]gatehouse.Method) authz.Access {
	a := authz.Access{API: rules(api.Require, api.Deny), Schemes: schemes, Issuers: map[string][]string{}, Place: api.Place.String()}
	for name, with := range api.Authenticate {
		if len(with.Issuers) > 0 {
			a.Issuers[name] = config.Values(with.Issuers)
		}
	}
	if op == nil {
		return a
	}
	a.Public, a.Grant, a.Rules, a.Place = op.Public, config.Values(op.Grant), rules(op.Require, op.Deny), op.Place.String()
	a.Unless = config.Values(op.Unless)
	if len(op.Own) > 0 {
		a.Own = map[string]string{}
		for _, o := range op.Own {
			a.Own[o.Object.Value] = o.Owner.Value
		}
	}
	return a
}

// claimTypes gives the type of every claim that some issuer promises. Where two
// issuers differ, a rule can rely on neither.
func claimTypes(f *config.File) map[string]string {
	out := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(f.Issuers)) {
		for claim, c := range f.Issuers[name].Claims {
			t := typeName(c.Shape)
			if old, ok := out[claim]; ok && old != t {
				t = "any"
			}
			out[claim] = t
		}
	}
	return out
}

func typeName(s *gatehouse.Shape) string {
	if s == nil {
		return "any"
	}
	switch s.Kind {
	case gatehouse.StringShape:
		return "string"
	case gatehouse.IntegerShape:
		return "int"
	case gatehouse.NumberShape:
		return "number"
	case gatehouse.BooleanShape:
		return "bool"
	case gatehouse.ArrayShape:
		return "[" + typeName(s.Items) + "]"
	case gatehouse.ObjectShape:
		return "object"
	case gatehouse.AnyShape:
		return "any"
	}
	return "any"
}

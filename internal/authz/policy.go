package authz

import (
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/gatehouse-api/gatehouse"
)

// A Layer is who wrote a rule. All layers must allow.
type Layer string

// The layers, outermost first.
const (
	LayerGuardrail Layer = "guardrail"
	LayerAPI       Layer = "api"
	LayerDocument  Layer = "document"
	LayerOperation Layer = "operation"
)

const (
	kindDeny    = "deny"
	kindRequire = "require"
	kindOwn     = "own"
)

// The ids of the reasons that come from no rule.
const (
	ruleAuthenticated = "authenticated"
	ruleScope         = "scope"
	ruleGrant         = "grant"
	rulePolicy        = "policy"
)

// A Policy decides about one operation. The zero Policy denies. It is read-only
// and safe for concurrent use.
type Policy struct {
	op       *gatehouse.Operation
	place    string
	compiled bool
	public   bool
	roles    *roleTable

	alternatives []alternative // of the document's security; one must hold
	unserved     []string      // why the document's other alternatives can never hold
	secured      bool          // the document names security, so that no alternative denies
	grants       []string      // all needed
	holders      []roleSet     // of each of grants
	rules        [phases][]*rule
}

// A rule is a program in its layer.
type rule struct {
	Rule
	*program
	id    string
	layer Layer
	kind  string
	want  bool // the value that allows
}

func (p *Policy) add(r *rule) { p.rules[r.Phase] = append(p.rules[r.Phase], r) }

// Has reports whether Decide has anything to look at in the phase. Caller always
// has: whether there is a caller at all.
func (p *Policy) Has(phase Phase) bool {
	return p == nil || !p.compiled || phase >= phases || phase == Caller || len(p.rules[phase]) > 0
}

// BodyFields lists the members of the body that the rules name, sorted. Nil means
// all of them: some rule looks at the body as a whole.
func (p *Policy) BodyFields() []string {
	if p == nil || p.op.Body == nil || p.op.Body.Kind != gatehouse.ObjectShape {
		return nil
	}
	fields := []string{}
	for _, r := range p.rules[Body] {
		named, whole := fieldsOf(r.ast, "body")
		if whole {
			return nil
		}
		fields = append(fields, named...)
	}
	slices.Sort(fields)
	return slices.Compact(fields)
}

// Params says of each parameter of the operation whether any rule looks at it:
// the values of the others need not be made. Nil means all of them.
func (p *Policy) Params() []bool {
	if p == nil || !p.compiled {
		return nil
	}
	out := make([]bool, len(p.op.Params))
	for _, rules := range p.rules {
		for _, r := range rules {
			for i, named := range paramsOf(r.ast, p.op) {
				out[i] = out[i] || named
			}
		}
	}
	return out
}

// paramsOf says of each parameter of op whether an expression names it.
func paramsOf(a *cel.Ast, op *gatehouse.Operation) []bool {
	if op == nil {
		return nil
	}
	out := make([]bool, len(op.Params))
	for _, in := range [...]string{"path", "query", "header", "cookie"} {
		named, whole := fieldsOf(a, in)
		for i, param := range op.Params {
			out[i] = out[i] || param.In == in &&
				(whole || slices.ContainsFunc(named, func(field string) bool { return sameParam(param, field) }))
		}
	}
	return out
}

// Public reports whether the operation is open to anyone.
func (p *Policy) Public() bool { return p != nil && p.compiled && p.public }

// Decide answers for one phase. A request is allowed when every phase allows it.
// On allow the reasons are left out; on deny they name every rule that denied,
// what it saw and what would have allowed it.
func (p *Policy) Decide(phase Phase, in *Input) gatehouse.Decision {
	if p == nil || !p.compiled || in == nil || phase >= phases {
		return gatehouse.Decision{Reasons: []gatehouse.Reason{{Rule: rulePolicy, Effect: gatehouse.EffectError, Text: "there is no policy to decide with"}}}
	}
	if phase == Body && p.op.Body != nil && p.op.Body.Kind != gatehouse.ObjectShape {
		in = withTypedBody(in, p.op.Body)
	}
	if phase == Caller && !p.knowsCaller(in.Principal) {
		return p.deny(phase, in, nil, outcome{})
	}
	for _, r := range p.rules[phase] {
		if r.quick.gives(r.want, in) {
			continue
		}
		if out := r.eval(in); !out.allows(r.want) {
			return p.deny(phase, in, r, out)
		}
	}
	return gatehouse.Decision{Allow: true}
}

// withTypedBody checks a body that is no object once, as fields are checked when
// they are read.
func withTypedBody(in *Input, shape *gatehouse.Shape) *Input {
	typed := *in
	body, err := coerce(shape, in.Body)
	if err != nil {
		body = types.NewErr("body %s", err.Error())
	}
	typed.Body = body
	return &typed
}

func (p *Policy) knowsCaller(who *gatehouse.Principal) bool {
	if p.public {
		return true
	}
	if who.Anonymous() || !p.scoped(who) {
		return false
	}
	for _, h := range p.holders {
		if !h.holds(who) {
			return false
		}
	}
	return true
}

// An outcome is what an expression gave. The zero outcome allows nothing.
type outcome struct {
	value ref.Val
	err   error
}

func (r *rule) eval(in *Input) outcome {
	value, _, err := r.prog.Eval((*activation)(in))
	return outcome{value, err}
}

func (o outcome) allows(want bool) bool {
	b, ok := o.value.(types.Bool)
	return o.err == nil && ok && bool(b) == want
}

// deny explains. It looks at everything in the phase, with recording on: a
// denial may cost more than an allow, but not without bound. failed, if any, is
// the rule that has been found to deny, and how.
func (p *Policy) deny(phase Phase, in *Input, failed *rule, found outcome) gatehouse.Decision {
	var d gatehouse.Decision
	if phase == Caller && !p.public {
		d.Reasons = p.explainCaller(in.Principal)
	}
	for _, r := range p.rules[phase] {
		out := found
		if r != failed {
			out = r.eval(in)
		}
		if !out.allows(r.want) {
			d.Reasons = append(d.Reasons, r.explainTo(in, out))
		}
	}
	return d
}

func (p *Policy) explainCaller(who *gatehouse.Principal) []gatehouse.Reason {
	if who.Anonymous() {
		return []gatehouse.Reason{{Rule: ruleAuthenticated, Effect: gatehouse.EffectDeny, Text: "The operation is not public.", Saw: "nobody", Needed: "a caller who proves who it is"}}
	}
	var out []gatehouse.Reason
	if !p.scoped(who) {
		out = append(out, gatehouse.Reason{
			Rule: ruleScope, Effect: gatehouse.EffectDeny, Text: "The OpenAPI document's security does not hold.",
			Saw: fmt.Sprintf("method %s, scopes %s", who.Method, list(who.Scopes)), Needed: p.neededSecurity(who),
		})
	}
	for i, h := range p.holders {
		if !h.holds(who) {
			out = append(out, gatehouse.Reason{
				Rule: ruleGrant, Effect: gatehouse.EffectDeny, Text: fmt.Sprintf("No role of the caller grants %s.", p.grants[i]),
				Saw: "roles " + list(who.Roles), Needed: neededRole(p.grants[i], h),
			})
		}
	}
	return out
}

func neededRole(grant string, h roleSet) string {
	if len(h) == 0 {
		return fmt.Sprintf("a role that grants %s; none is configured", grant)
	}
	names := sortedKeys(h)
	for i, n := range names {
		names[i] = fmt.Sprintf("role(%q)", n)
	}
	return strings.Join(names, " or ")
}

func list(s []string) string {
	if len(s) == 0 {
		return "none"
	}
	if len(s) > 16 {
		return cut(strings.Join(s[:16], " "), 256) + fmt.Sprintf(" and %d more", len(s)-16)
	}
	return cut(strings.Join(s, " "), 256)
}

// Problem gives what the caller may see of a denial: who it must be, or that it
// may not, never which rule said so. d must come from the same policy.
//
// Reasons: authentication_required (401), insufficient_scope (403, with the
// challenge of RFC 6750 §3.1), forbidden (403), policy_unavailable (503).
func (p *Policy) Problem(d gatehouse.Decision, who *gatehouse.Principal) *gatehouse.Problem {
	if p == nil || !p.compiled || d.Allow {
		return &gatehouse.Problem{Kind: gatehouse.Overloaded, Reason: "policy_unavailable", Detail: "The request could not be decided about.", Decision: &d}
	}
	has := func(id string) bool {
		return slices.ContainsFunc(d.Reasons, func(r gatehouse.Reason) bool { return r.Rule == id })
	}
	switch {
	case who.Anonymous():
		return &gatehouse.Problem{Kind: gatehouse.Unauthenticated, Reason: "authentication_required", Detail: "This operation needs to know who calls.", Decision: &d}
	case has(ruleScope):
		problem := &gatehouse.Problem{Kind: gatehouse.Forbidden, Reason: "insufficient_scope", Detail: "The credentials presented do not carry what this operation asks for.", Decision: &d}
		if scopes := p.Scopes(who.Method); len(scopes) > 0 && who.Method == gatehouse.MethodJWT {
			problem.Challenges = []string{fmt.Sprintf("Bearer error=%q, scope=%q", "insufficient_scope", strings.Join(scopes, " "))}
		}
		return problem
	}
	return &gatehouse.Problem{Kind: gatehouse.Forbidden, Reason: "forbidden", Detail: "The caller may not do this.", Decision: &d}
}

package authz

import (
	"fmt"
	"slices"

	"cel.dev/cel-go/cel"

	"github.com/gatehouse-api/gatehouse"
)

// A Verdict is what a policy answers to a role, whatever the request.
type Verdict string

// The verdicts.
const (
	Allow   Verdict = "allow"
	Deny    Verdict = "deny"
	AllowIf Verdict = "allow-if"
)

// The callers of a matrix that are no role.
const (
	Anonymous = "(anonymous)"
	NoRole    = "(no role)"
)

// A Row is one operation of the access matrix.
type Row struct {
	API, Operation string
	Cells          []Cell
}

// A Cell is what one role may do with an operation. If is the residual
// condition of [AllowIf]: "body.amount <= 500 and scope \"orders:refund\"".
type Cell struct {
	Role    string // a configured role, Anonymous or NoRole
	Verdict Verdict
	If      string
}

// Matrix evaluates every policy for every role as far as the role alone
// decides: roles and grants are known; claims, scopes, parameters, body and
// connection are not. Cells come in the order anonymous, no role, roles by
// name. It is exhaustive: a cell says deny only if no request of a caller with
// that role alone is let through.
func Matrix(policies []*Policy) []Row {
	policies = slices.DeleteFunc(slices.Clone(policies), func(p *Policy) bool { return p == nil || !p.compiled })
	methods := map[gatehouse.Method]bool{}
	for _, p := range policies {
		for _, a := range p.alternatives {
			methods[a.method] = true
		}
	}
	var rows []Row
	for _, p := range policies {
		row := Row{API: p.op.API, Operation: p.op.ID}
		for _, role := range append([]string{Anonymous, NoRole}, p.roles.names...) {
			row.Cells = append(row.Cells, p.cell(role, len(methods) > 1))
		}
		rows = append(rows, row)
	}
	return rows
}

func (p *Policy) cell(role string, showMethod bool) Cell {
	in := &Input{}
	if role != Anonymous {
		in.Principal = &gatehouse.Principal{Method: gatehouse.MethodJWT}
		if role != NoRole {
			in.Principal.Roles = []string{role}
		}
	}
	parts := []residual{p.securityFor(in.Principal, showMethod)}
	for phase := range p.rules {
		for _, r := range p.rules[phase] {
			parts = append(parts, r.residualFor(in))
		}
	}
	all := allOf(parts...)
	if all.state == holds {
		return Cell{Role: role, Verdict: Allow}
	}
	if all.state == open {
		return Cell{Role: role, Verdict: AllowIf, If: all.String()}
	}
	return Cell{Role: role, Verdict: Deny}
}

// securityFor is knowsCaller for a caller of whom only the role is known.
func (p *Policy) securityFor(who *gatehouse.Principal, showMethod bool) residual {
	if p.public {
		return residual{state: holds}
	}
	if who.Anonymous() {
		return residual{}
	}
	for _, h := range p.holders {
		if !h.holds(who) {
			return residual{}
		}
	}
	if !p.secured {
		return residual{state: holds}
	}
	var alternatives []residual
	for _, a := range p.alternatives {
		var parts []residual
		if showMethod {
			parts = append(parts, residual{state: open, parts: []string{"method " + string(a.method)}})
		}
		for _, s := range a.scopes {
			parts = append(parts, residual{state: open, parts: []string{fmt.Sprintf("scope %q", s)}})
		}
		alternatives = append(alternatives, allOf(parts...))
	}
	return anyOf(alternatives...)
}

// residualFor is what the rule still asks of a request of in's principal.
func (r *rule) residualFor(in *Input) residual {
	w := walker{info: r.ast.NativeRep().SourceInfo(), fixed: true}
	vars, err := cel.PartialVars((*activation)(in), unknownTo(in.Principal)...)
	if explainer := r.explain(); explainer != nil && err == nil {
		if _, details, _ := explainer.Eval(vars); details != nil {
			w.state = details.State()
		}
	}
	return w.until(r.ast.NativeRep().Expr(), r.want)
}

// unknownTo lists what a role does not tell. Of nobody all is known: there are
// no claims, and no name.
func unknownTo(who *gatehouse.Principal) []*cel.AttributePatternType {
	var out []*cel.AttributePatternType
	for _, name := range []string{"request", "path", "query", "header", "cookie", "body"} {
		out = append(out, cel.AttributePattern(name))
	}
	if who.Anonymous() {
		return out
	}
	out = append(out, cel.AttributePattern("claims"))
	for _, field := range sortedKeys(principalFields) {
		if field != "roles" && field != "anonymous" {
			out = append(out, cel.AttributePattern("principal").QualString(field))
		}
	}
	return out
}

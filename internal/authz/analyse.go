package authz

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/config"
)

// A Warning is something in a policy that compiles and is probably not meant.
type Warning struct {
	Place string // of the rule in the config
	Rule  string // its id; "grant" for an operation's grants, "scope" for the document's security
	Text  string // one sentence
}

// maxTerms bounds the analysis of one rule; beyond it nothing is claimed.
const maxTerms = 256

// Analyse finds rules that decide nothing or everything: never true, always
// true, comparing with values the schema does not have, and grants that no role
// gives. It claims only what it can show, so silence is no proof.
func Analyse(p *Policy) []Warning {
	if p == nil || !p.compiled {
		return nil
	}
	var out []Warning
	for i, h := range p.holders {
		if len(h) == 0 {
			out = append(out, Warning{Place: p.place, Rule: ruleGrant, Text: fmt.Sprintf("no role gives %s: nobody may call %s%s", p.grants[i], p.op.ID, config.DidYouMean(p.grants[i], p.roles.grants()))})
		}
	}
	for _, why := range p.unserved {
		out = append(out, Warning{Place: p.place, Rule: ruleScope, Text: "one of the document's security alternatives can never hold: " + why})
	}
	for _, rules := range p.rules {
		for _, r := range rules {
			for _, text := range r.analyse() {
				out = append(out, Warning{Place: r.Place, Rule: r.id, Text: text})
			}
		}
	}
	return out
}

func (r *rule) analyse() []string {
	a := analysis{table: r.env.table, ast: r.env.folded(r.ast)}
	root := a.ast.NativeRep().Expr()
	out := a.strayValues(r.ast)
	switch {
	case a.never(root, true):
		if r.want {
			return append(out, "it can never be true, so it denies every request")
		}
		return append(out, "it can never be true, so it never denies")
	case a.never(root, false):
		if r.want {
			return append(out, "it is always true where it can be evaluated, so it decides nothing")
		}
		return append(out, "it is always true where it can be evaluated, so it denies every request")
	}
	return out
}

// folded puts constants together: 1 < 2 becomes true. What cannot be folded is
// analysed as it is.
func (e *typeEnv) folded(a *cel.Ast) *cel.Ast {
	fold, err := cel.NewConstantFoldingOptimizer()
	if err != nil {
		return a
	}
	optimizer, err := cel.NewStaticOptimizer(fold)
	if err != nil {
		return a
	}
	out := a
	e.with(func(env *cel.Env) {
		if folded, iss := optimizer.Optimize(env, a); iss.Err() == nil {
			out = folded
		}
	})
	return out
}

type analysis struct {
	table *typeTable
	ast   *cel.Ast
}

// A literal is a part without boolean structure, or its negation.
type literal struct {
	expr ast.Expr
	want bool
}

// never reports whether e cannot give want: each term of its disjunctive normal
// form contradicts itself.
func (a analysis) never(e ast.Expr, want bool) bool {
	terms, ok := a.terms(e, want)
	return ok && !slices.ContainsFunc(terms, func(t []literal) bool { return !a.contradicts(t) })
}

// terms gives the disjunctive normal form; not ok if it is too large.
func (a analysis) terms(e ast.Expr, want bool) (terms [][]literal, ok bool) {
	if e.Kind() == ast.LiteralKind {
		if b, isBool := e.AsLiteral().(types.Bool); isBool {
			if bool(b) == want {
				return [][]literal{{}}, true
			}
			return nil, true
		}
	}
	if e.Kind() != ast.CallKind {
		return [][]literal{{{e, want}}}, true
	}
	args := e.AsCall().Args()
	switch fn := e.AsCall().FunctionName(); {
	case fn == operators.LogicalNot:
		return a.terms(args[0], !want)
	case fn == operators.LogicalAnd && want, fn == operators.LogicalOr && !want:
		terms = [][]literal{{}}
		for _, arg := range args {
			more, ok := a.terms(arg, want)
			if !ok {
				return nil, false
			}
			if terms, ok = product(terms, more); !ok {
				return nil, false
			}
		}
		return terms, true
	case fn == operators.LogicalAnd, fn == operators.LogicalOr:
		for _, arg := range args {
			more, ok := a.terms(arg, want)
			if !ok || len(terms)+len(more) > maxTerms {
				return nil, false
			}
			terms = append(terms, more...)
		}
		return terms, true
	case fn == operators.Conditional:
		for i, branch := range args[1:] {
			condition, ok := a.terms(args[0], i == 0)
			if !ok {
				return nil, false
			}
			result, ok := a.terms(branch, want)
			if !ok {
				return nil, false
			}
			both, ok := product(condition, result)
			if !ok {
				return nil, false
			}
			terms = append(terms, both...)
		}
		return terms, true
	}
	return [][]literal{{{e, want}}}, true
}

func product(a, b [][]literal) ([][]literal, bool) {
	if len(a)*len(b) > maxTerms {
		return nil, false
	}
	var out [][]literal
	for _, x := range a {
		for _, y := range b {
			out = append(out, slices.Concat(x, y))
		}
	}
	return out, true
}

// contradicts reports whether the literals cannot all hold.
func (a analysis) contradicts(term []literal) bool {
	domains := map[string]*domain{}
	signs := map[string]bool{}
	for _, l := range term {
		if a.impossible(l) {
			return true
		}
		if about, op, values, ok := comparison(l); ok {
			key := a.text(about)
			d := domains[key]
			if d == nil {
				d = newDomain(a.isInt(about))
				if shape, _ := a.table.lookup(about); shape != nil && len(shape.Enum) > 0 {
					d.only(stringsToAny(shape.Enum))
				}
				domains[key] = d
			}
			d.restrict(op, values)
			if d.empty() {
				return true
			}
			continue
		}
		key := a.text(l.expr)
		if sign, seen := signs[key]; seen && sign != l.want {
			return true
		}
		signs[key] = l.want
	}
	return a.rolesContradict(term)
}

// impossible knows that what the document requires is there.
func (a analysis) impossible(l literal) bool {
	if l.want || l.expr.Kind() != ast.SelectKind || !l.expr.AsSelect().IsTestOnly() {
		return false
	}
	_, always := a.table.lookup(l.expr)
	return always
}

// rolesContradict knows inheritance: whoever is a manager and thereby support
// cannot be the one and not the other.
func (a analysis) rolesContradict(term []literal) bool {
	set := func(e ast.Expr) roleSet {
		if e.Kind() != ast.SelectKind {
			return nil
		}
		switch name := e.AsSelect().FieldName(); rootOf(e) {
		case varRoles:
			return a.table.roles.thatAre(name)
		case varGrants:
			return a.table.roles.grantedBy(name)
		}
		return nil
	}
	for _, yes := range term {
		for _, no := range term {
			if !yes.want || no.want {
				continue
			}
			has, hasNot := set(yes.expr), set(no.expr)
			if has == nil || hasNot == nil {
				continue
			}
			within := true
			for role := range has {
				_, ok := hasNot[role]
				within = within && ok
			}
			if within {
				return true
			}
		}
	}
	return false
}

func (a analysis) text(e ast.Expr) string { return exprText(e, a.ast.NativeRep().SourceInfo()) }

func (a analysis) isInt(e ast.Expr) bool {
	return a.ast.NativeRep().GetType(e.ID()).IsExactType(types.IntType)
}

// strayValues finds comparisons with strings that the schema's enum does not have.
func (a analysis) strayValues(original *cel.Ast) []string {
	var out []string
	ast.PreOrderVisit(original.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		about, _, values, ok := comparison(literal{e, true})
		if !ok {
			return
		}
		shape, _ := a.table.lookup(about)
		if shape == nil || len(shape.Enum) == 0 {
			return
		}
		for _, v := range values {
			if s, ok := v.(string); ok && !slices.Contains(shape.Enum, s) {
				out = append(out, fmt.Sprintf("%s is never %q; the schema has %s", exprText(about, original.NativeRep().SourceInfo()), s, quoteAll(shape.Enum)))
			}
		}
	}))
	return out
}

// comparison splits x op literal, either way round, and x in [literals]. op is
// of the operators package, "in" or "not in".
func comparison(l literal) (about ast.Expr, op string, values []any, ok bool) {
	if l.expr.Kind() != ast.CallKind || len(l.expr.AsCall().Args()) != 2 {
		return nil, "", nil, false
	}
	fn := l.expr.AsCall().FunctionName()
	left, right := l.expr.AsCall().Args()[0], l.expr.AsCall().Args()[1]
	if fn == operators.In && right.Kind() == ast.ListKind {
		for _, e := range right.AsList().Elements() {
			v, ok := constant(e)
			if !ok {
				return nil, "", nil, false
			}
			values = append(values, v)
		}
		if l.want {
			return left, operators.In, values, true
		}
		return left, notIn, values, true
	}
	opp := opposite(fn)
	if opp == "" {
		return nil, "", nil, false
	}
	v, isConst := constant(right)
	if !isConst {
		if v, isConst = constant(left); !isConst {
			return nil, "", nil, false
		}
		left, fn = right, mirrored(fn)
		opp = opposite(fn)
	}
	if _, leftToo := constant(left); leftToo {
		return nil, "", nil, false
	}
	if !l.want {
		fn = opp
	}
	return left, fn, []any{v}, true
}

const notIn = "not in"

func mirrored(op string) string {
	switch op {
	case operators.Less:
		return operators.Greater
	case operators.LessEquals:
		return operators.GreaterEquals
	case operators.Greater:
		return operators.Less
	case operators.GreaterEquals:
		return operators.LessEquals
	}
	return op
}

// constant gives a literal as string, float64 or bool.
func constant(e ast.Expr) (any, bool) {
	if e.Kind() != ast.LiteralKind {
		return nil, false
	}
	return plain(e.AsLiteral())
}

func plain(v ref.Val) (any, bool) {
	switch v := v.(type) {
	case types.String:
		return string(v), true
	case types.Bool:
		return bool(v), true
	case types.Int:
		// A float64 no longer tells large neighbours apart, and a wrong claim is
		// worse than none.
		if v > 1<<53 || v < -1<<53 {
			return nil, false
		}
		return float64(v), true
	case types.Double:
		return float64(v), !math.IsNaN(float64(v))
	}
	return nil, false
}

// A domain is what one value may still be.
type domain struct {
	integer       bool
	low, high     float64
	lowOut, hiOut bool  // the bound itself is out
	allowed       []any // nil: anything
	bounded       bool  // allowed counts
	excluded      []any
}

func newDomain(integer bool) *domain {
	return &domain{integer: integer, low: math.Inf(-1), high: math.Inf(1)}
}

func (d *domain) only(values []any) {
	if !d.bounded {
		d.allowed, d.bounded = slices.Clone(values), true
		return
	}
	d.allowed = slices.DeleteFunc(d.allowed, func(v any) bool { return !slices.Contains(values, v) })
}

func (d *domain) restrict(op string, values []any) {
	switch op {
	case operators.Equals, operators.In:
		d.only(values)
		return
	case operators.NotEquals, notIn:
		d.excluded = append(d.excluded, values...)
		if len(values) == 1 {
			if b, ok := values[0].(bool); ok {
				d.only([]any{!b})
			}
		}
		return
	}
	n, ok := values[0].(float64)
	if !ok {
		return // an order of strings says nothing here
	}
	switch op {
	case operators.Less:
		d.below(n, true)
	case operators.LessEquals:
		d.below(n, false)
	case operators.Greater:
		d.above(n, true)
	case operators.GreaterEquals:
		d.above(n, false)
	}
}

func (d *domain) below(n float64, out bool) {
	if n < d.high || (n == d.high && out) {
		d.high, d.hiOut = n, out
	}
}

func (d *domain) above(n float64, out bool) {
	if n > d.low || (n == d.low && out) {
		d.low, d.lowOut = n, out
	}
}

func (d *domain) empty() bool {
	low, high := d.low, d.high
	if d.integer {
		low, high = math.Ceil(low), math.Floor(high)
		if d.lowOut && low == d.low {
			low++
		}
		if d.hiOut && high == d.high {
			high--
		}
	}
	if low > high || (low == high && !d.integer && (d.lowOut || d.hiOut)) {
		return true
	}
	if d.bounded {
		return !slices.ContainsFunc(d.allowed, func(v any) bool {
			n, isNumber := v.(float64)
			inside := !isNumber || (n > d.low || (n == d.low && !d.lowOut)) && (n < d.high || (n == d.high && !d.hiOut))
			return inside && !slices.Contains(d.excluded, v)
		})
	}
	return low == high && slices.Contains(d.excluded, any(low))
}

// lookup resolves a chain of fields to its shape, and whether the document
// promises that it is always there.
func (t *typeTable) lookup(e ast.Expr) (shape *gatehouse.Shape, always bool) {
	var fields []string
	for e.Kind() == ast.SelectKind {
		fields = append(fields, e.AsSelect().FieldName())
		e = e.AsSelect().Operand()
	}
	if e.Kind() != ast.IdentKind || t.op == nil || len(fields) == 0 {
		return nil, false
	}
	slices.Reverse(fields)
	switch root := e.AsIdent(); root {
	case "path", "query", "header", "cookie":
		for _, p := range t.op.Params {
			if p.In == root && sameParam(p, fields[0]) {
				shape, always = p.Shape, p.Required
				fields = fields[1:]
				break
			}
		}
	case "body":
		shape, always = t.op.Body, true
	}
	for _, name := range fields {
		next := shape.Field(name)
		if next == nil {
			return nil, false
		}
		always = always && slices.ContainsFunc(shape.Fields, func(f gatehouse.Field) bool { return f.Name == name && f.Required })
		shape = next
	}
	return shape, always
}

func stringsToAny(s []string) []any {
	out := make([]any, len(s))
	for i, v := range s {
		out[i] = v
	}
	return out
}

func quoteAll(s []string) string {
	out := make([]string, len(s))
	for i, v := range s {
		out[i] = strconv.Quote(v)
	}
	return cut(strings.Join(out, ", "), 200)
}

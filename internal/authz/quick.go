package authz

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"github.com/gatehouse-api/gatehouse"
)

// A quick answers most rules as people write them without the evaluator, which
// makes an object of every value it compares. It is sure only where the evaluator
// gives this very value. About all else, what is absent, of another type or an
// error, it is not, and the evaluator decides: so a mistake of the evaluator's
// language cannot be made twice, and what errs denies as ever.
//
// It reads fields with the typeTable's own getters, and is held against the
// evaluator over random rules and requests in its test.
type quick func(in *activation) (value, sure bool)

// gives reports whether the rule is sure to be want.
func (q quick) gives(want bool, in *Input) bool {
	if q == nil {
		return false
	}
	value, sure := q((*activation)(in))
	return sure && value == want
}

// quicken compiles a checked rule; nil when nothing can be said quickly.
func quicken(checked *cel.Ast, table *typeTable) quick {
	return quickener{checked.NativeRep(), table}.truth(checked.NativeRep().Expr())
}

type quickener struct {
	ast   *ast.AST
	table *typeTable
}

func unsure(*activation) (value, sure bool) { return false, false }

// truth compiles an expression that is true or false.
func (q quickener) truth(e ast.Expr) quick {
	switch e.Kind() {
	case ast.LiteralKind:
		if b, ok := e.AsLiteral().(types.Bool); ok {
			return func(*activation) (bool, bool) { return bool(b), true }
		}
	case ast.SelectKind:
		return q.field(e.AsSelect())
	case ast.CallKind:
		return q.call(e.AsCall())
	case ast.ComprehensionKind, ast.IdentKind, ast.ListKind, ast.MapKind, ast.StructKind, ast.UnspecifiedExprKind:
	}
	return nil
}

// field compiles role("x"), has(a.b), and a field that is a bool.
func (q quickener) field(sel ast.SelectExpr) quick {
	owner := q.typeName(sel.Operand())
	if owner == typeRoles || owner == typeGrants {
		set := q.table.holders(owner, sel.FieldName())
		return func(in *activation) (bool, bool) { return set.holds(in.Principal), true }
	}
	m, target, ok := q.member(sel)
	if !ok {
		return nil
	}
	if sel.IsTestOnly() {
		return func(in *activation) (value, sure bool) {
			of, sure := target(in)
			if m.text != nil {
				_, value = m.text(in)
			} else if sure {
				_, value = m.get(of)
			}
			return value, sure
		}
	}
	if m.shape.Kind != gatehouse.BooleanShape {
		return nil
	}
	return func(in *activation) (value, sure bool) {
		value, sure = read(m, target, in).(bool)
		return value, sure
	}
}

func (q quickener) call(call ast.CallExpr) quick {
	args := call.Args()
	switch call.FunctionName() {
	case operators.LogicalAnd:
		return q.joined(args, false)
	case operators.LogicalOr:
		return q.joined(args, true)
	case operators.LogicalNot:
		if not := q.truth(args[0]); not != nil {
			return func(in *activation) (value, sure bool) {
				value, sure = not(in)
				return !value, sure
			}
		}
	case operators.Equals, operators.NotEquals, operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		return q.comparison(call.FunctionName(), args[0], args[1])
	case operators.In:
		return q.within(args[0], args[1])
	case "startsWith":
		return q.affix(call, strings.HasPrefix)
	case "endsWith":
		return q.affix(call, strings.HasSuffix)
	case "contains":
		return q.affix(call, strings.Contains)
	case "in_cidr":
		return q.inCIDR(call)
	}
	return nil
}

// joined compiles && and ||; end is the value of one part that settles it. The
// evaluator may still find that value in a part behind one that errs: it is asked.
func (q quickener) joined(args []ast.Expr, end bool) quick {
	left, right := q.truth(args[0]), q.truth(args[1])
	if left == nil {
		return nil // never sure
	}
	if right == nil {
		right = unsure
	}
	return func(in *activation) (value, sure bool) {
		if value, sure = left(in); !sure || value == end {
			return value, sure
		}
		return right(in)
	}
}

func (q quickener) comparison(op string, a, b ast.Expr) quick {
	if x, y := q.text(a), q.text(b); x != nil && y != nil {
		return compared(op, x, y)
	}
	x, xFloat := q.integer(a), q.float(a)
	y, yFloat := q.integer(b), q.float(b)
	switch {
	case x != nil && y != nil:
		return compared(op, x, y)
	case xFloat != nil && yFloat != nil:
		return compared(op, xFloat, yFloat)
	case op == operators.Equals || op == operators.NotEquals:
		return q.alike(op == operators.Equals, q.truth(a), q.truth(b))
	}
	return nil
}

// alike compares what is true or false.
func (quickener) alike(equal bool, x, y quick) quick {
	if x == nil || y == nil {
		return nil
	}
	return func(in *activation) (value, sure bool) {
		a, sure := x(in)
		if !sure {
			return false, false
		}
		b, sure := y(in)
		return (a == b) == equal, sure
	}
}

func compared[T cmp.Ordered](op string, x, y func(*activation) (T, bool)) quick {
	pair := func(in *activation) (a, b T, ok bool) {
		if a, ok = x(in); ok {
			b, ok = y(in)
		}
		return a, b, ok && a == a && b == b // NaN is the evaluator's: it has no order there
	}
	switch op {
	case operators.Equals:
		return func(in *activation) (bool, bool) { a, b, ok := pair(in); return a == b, ok }
	case operators.NotEquals:
		return func(in *activation) (bool, bool) { a, b, ok := pair(in); return a != b, ok }
	case operators.Less:
		return func(in *activation) (bool, bool) { a, b, ok := pair(in); return a < b, ok }
	case operators.LessEquals:
		return func(in *activation) (bool, bool) { a, b, ok := pair(in); return a <= b, ok }
	case operators.Greater:
		return func(in *activation) (bool, bool) { a, b, ok := pair(in); return a > b, ok }
	case operators.GreaterEquals:
		return func(in *activation) (bool, bool) { a, b, ok := pair(in); return a >= b, ok }
	}
	return nil
}

// within compiles `x in ["a", "b"]` and `x in principal.roles`.
func (q quickener) within(element, list ast.Expr) quick {
	x, xs := q.text(element), q.texts(list)
	if x == nil || xs == nil {
		return nil
	}
	return func(in *activation) (value, sure bool) {
		if s, ok := x(in); ok {
			return xs(in, s)
		}
		return false, false
	}
}

// texts compiles a list of strings to the question whether one is in it.
func (q quickener) texts(e ast.Expr) func(in *activation, s string) (there, sure bool) {
	if e.Kind() == ast.ListKind {
		var all []string
		for _, item := range e.AsList().Elements() {
			s, ok := literalOf[types.String](item)
			if !ok {
				return nil
			}
			all = append(all, string(s))
		}
		return func(_ *activation, s string) (bool, bool) { return slices.Contains(all, s), true }
	}
	m, target, ok := q.selected(e, gatehouse.ArrayShape)
	if !ok || m.shape.Items == nil || m.shape.Items.Kind != gatehouse.StringShape {
		return nil
	}
	if m.texts != nil {
		return func(in *activation, s string) (bool, bool) { return slices.Contains(m.texts(in), s), true }
	}
	return func(in *activation, s string) (there, sure bool) {
		switch list := read(m, target, in).(type) {
		case []string:
			return slices.Contains(list, s), true
		case []any:
			for _, item := range list { // all of it, as the evaluator does: another type in it is an error
				text, ok := item.(string)
				if !ok {
					return false, false
				}
				there = there || text == s
			}
			return there, true
		}
		return false, false
	}
}

func (q quickener) affix(call ast.CallExpr, has func(s, part string) bool) quick {
	if !call.IsMemberFunction() || len(call.Args()) != 1 {
		return nil
	}
	x, y := q.text(call.Target()), q.text(call.Args()[0])
	if x == nil || y == nil {
		return nil
	}
	return func(in *activation) (value, sure bool) {
		if s, ok := x(in); ok {
			if part, ok := y(in); ok {
				return has(s, part), true
			}
		}
		return false, false
	}
}

// inCIDR compiles request.address.in_cidr("10.0.0.0/8"), without a text of the
// address.
func (q quickener) inCIDR(call ast.CallExpr) quick {
	of := call.Target()
	if of.Kind() != ast.SelectKind || of.AsSelect().IsTestOnly() || of.AsSelect().FieldName() != "address" || q.typeName(of.AsSelect().Operand()) != typeRequest {
		return nil
	}
	s, _ := literalOf[types.String](call.Args()[0])
	prefix, err := netip.ParsePrefix(string(s))
	if err != nil {
		return nil
	}
	return func(in *activation) (value, sure bool) {
		return prefix.Contains(in.Address.Unmap().WithZone("")), in.Address.IsValid()
	}
}

// text compiles an expression that is a string.
func (q quickener) text(e ast.Expr) func(*activation) (string, bool) {
	if s, ok := literalOf[types.String](e); ok {
		return func(*activation) (string, bool) { return string(s), true }
	}
	m, target, ok := q.selected(e, gatehouse.StringShape)
	switch {
	case !ok:
		return nil
	case m.text != nil:
		return m.text
	}
	return func(in *activation) (string, bool) {
		s, ok := read(m, target, in).(string)
		return s, ok
	}
}

func (q quickener) integer(e ast.Expr) func(*activation) (int64, bool) {
	if n, ok := literalOf[types.Int](e); ok {
		return func(*activation) (int64, bool) { return int64(n), true }
	}
	m, target, ok := q.selected(e, gatehouse.IntegerShape)
	if !ok {
		return nil
	}
	return func(in *activation) (int64, bool) {
		return integer(read(m, target, in))
	}
}

// float compiles any number to compare with one that may have a fraction. An
// integer that a float64 does not hold is left to the evaluator.
func (q quickener) float(e ast.Expr) func(*activation) (float64, bool) {
	if f, ok := literalOf[types.Double](e); ok {
		return func(*activation) (float64, bool) { return float64(f), true }
	}
	if n := q.integer(e); n != nil {
		return func(in *activation) (float64, bool) {
			i, ok := n(in)
			return float64(i), ok && i >= -1<<53 && i <= 1<<53
		}
	}
	m, target, ok := q.selected(e, gatehouse.NumberShape)
	if !ok {
		return nil
	}
	return func(in *activation) (float64, bool) {
		return number(read(m, target, in))
	}
}

func literalOf[T any](e ast.Expr) (v T, ok bool) {
	if e.Kind() == ast.LiteralKind {
		v, ok = e.AsLiteral().(T)
	}
	return v, ok
}

// An object finds what a field is read from.
type object func(*activation) (any, bool)

// read gives nil for what is absent: it has no type, so nobody is sure of it.
func read(m member, from object, in *activation) any {
	target, ok := from(in)
	if !ok {
		return nil
	}
	v, ok := m.get(target)
	if !ok {
		return nil
	}
	return v
}

// selected finds a field of that kind.
func (q quickener) selected(e ast.Expr, kind gatehouse.ShapeKind) (member, object, bool) {
	if e.Kind() != ast.SelectKind || e.AsSelect().IsTestOnly() {
		return member{}, nil, false
	}
	m, from, ok := q.member(e.AsSelect())
	return m, from, ok && m.shape != nil && m.shape.Kind == kind
}

// member finds how a field is read, and off what.
func (q quickener) member(sel ast.SelectExpr) (member, object, bool) {
	of := sel.Operand()
	m, ok := q.table.member(q.typeName(of), sel.FieldName())
	if !ok || m.shape == nil {
		return member{}, nil, false
	}
	switch {
	case of.Kind() == ast.IdentKind && of.AsIdent() == "body":
		return m, func(in *activation) (any, bool) { return in.Body, isObject(in.Body) }, true
	case of.Kind() == ast.IdentKind && slices.Contains(variables, of.AsIdent()):
		return m, func(in *activation) (any, bool) { return in, true }, true
	}
	outer, from, ok := q.selected(of, gatehouse.ObjectShape)
	return m, func(in *activation) (any, bool) {
		v := read(outer, from, in)
		return v, isObject(v)
	}, ok
}

func isObject(v any) bool {
	_, ok := v.(map[string]any)
	return ok
}

// typeName is the object type of an expression, "" for any other type.
func (q quickener) typeName(e ast.Expr) string {
	if t := q.ast.GetType(e.ID()); t != nil && t.Kind() == types.StructKind {
		return t.TypeName()
	}
	return ""
}

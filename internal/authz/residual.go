package authz

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"

	"github.com/gatehouse-api/gatehouse"
)

// A residual is what is left of a condition once what is known has been put in.
type residual struct {
	state  residualState
	either bool     // parts are alternatives; otherwise all are needed
	parts  []string // sorted as written
}

type residualState uint8

const (
	never residualState = iota // cannot hold
	holds                      // holds already
	open                       // holds if parts do
)

func (r residual) String() string {
	switch {
	case r.state == never:
		return "false"
	case r.state == holds:
		return "true"
	case r.either:
		return strings.Join(r.parts, " or ")
	}
	return strings.Join(r.parts, " and ")
}

// inside gives r's text as a part of a larger condition.
func (r residual) inside(isEither bool) []string {
	switch {
	case len(r.parts) < 2 || r.either == isEither:
		return r.parts
	default:
		return []string{"(" + r.String() + ")"}
	}
}

func allOf(rs ...residual) residual {
	out := residual{state: holds}
	for _, r := range rs {
		switch r.state {
		case never:
			return residual{}
		case holds:
		case open:
			out.state = open
			out.parts = appendNew(out.parts, r.inside(false))
		}
	}
	return flat(out, rs)
}

func anyOf(rs ...residual) residual {
	out := residual{either: true}
	for _, r := range rs {
		switch r.state {
		case holds:
			return residual{state: holds}
		case never:
		case open:
			out.state = open
			out.parts = appendNew(out.parts, r.inside(true))
		}
	}
	return flat(out, rs)
}

// flat keeps the shape of a lone open part, so that its "or" is not taken for a
// part of an "and".
func flat(out residual, rs []residual) residual {
	var lone *residual
	for i := range rs {
		if rs[i].state == open {
			if lone != nil {
				return out
			}
			lone = &rs[i]
		}
	}
	if lone != nil {
		return *lone
	}
	return out
}

func appendNew(to, parts []string) []string {
	for _, p := range parts {
		if !slices.Contains(to, p) {
			to = append(to, p)
		}
	}
	return to
}

// A walker reads the recorded values of an evaluation along the expression's
// boolean skeleton.
type walker struct {
	state interpreter.EvalState // nil: nothing is known
	info  *ast.SourceInfo
	fixed bool // what is known cannot be otherwise; unset, a false part is listed as what is needed
}

// until says under which condition e gives want.
func (w *walker) until(e ast.Expr, want bool) residual {
	if e.Kind() == ast.LiteralKind {
		if b, ok := e.AsLiteral().(types.Bool); ok {
			return known(bool(b) == want)
		}
	}
	if e.Kind() == ast.CallKind {
		args := e.AsCall().Args()
		each := func(want bool) []residual {
			rs := make([]residual, len(args))
			for i, a := range args {
				rs[i] = w.until(a, want)
			}
			return rs
		}
		switch fn := e.AsCall().FunctionName(); {
		case fn == operators.LogicalNot:
			return w.until(args[0], !want)
		case fn == operators.LogicalAnd && want, fn == operators.LogicalOr && !want:
			return allOf(each(want)...)
		case fn == operators.LogicalAnd, fn == operators.LogicalOr:
			return anyOf(each(want)...)
		case fn == operators.Conditional:
			return anyOf(allOf(w.until(args[0], true), w.until(args[1], want)), allOf(w.until(args[0], false), w.until(args[2], want)))
		}
	}
	if w.state != nil {
		if v, ok := w.state.Value(e.ID()); ok {
			b, isBool := v.(types.Bool)
			switch {
			case isBool && bool(b) == want:
				return residual{state: holds}
			case w.fixed && !types.IsUnknown(v):
				return residual{} // the other value, or an error: this can never hold
			}
		}
	}
	return residual{state: open, parts: []string{w.text(e, want)}}
}

func known(b bool) residual {
	if b {
		return residual{state: holds}
	}
	return residual{}
}

func opposite(function string) string {
	switch function {
	case operators.Equals:
		return operators.NotEquals
	case operators.NotEquals:
		return operators.Equals
	case operators.Less:
		return operators.GreaterEquals
	case operators.LessEquals:
		return operators.Greater
	case operators.Greater:
		return operators.LessEquals
	case operators.GreaterEquals:
		return operators.Less
	}
	return ""
}

func (w *walker) text(e ast.Expr, want bool) string {
	if want {
		return exprText(e, w.info)
	}
	if e.Kind() == ast.CallKind && len(e.AsCall().Args()) == 2 {
		call := e.AsCall()
		if op := opposite(call.FunctionName()); op != "" {
			symbol, _ := operators.FindReverseBinaryOperator(op)
			return exprText(call.Args()[0], w.info) + " " + symbol + " " + exprText(call.Args()[1], w.info)
		}
		if call.FunctionName() == operators.In {
			return "!(" + exprText(e, w.info) + ")"
		}
	}
	return "!" + exprText(e, w.info)
}

// explainTo says what the rule did with in, having given out.
func (r *rule) explainTo(in *Input, out outcome) gatehouse.Reason {
	reason := gatehouse.Reason{Rule: r.id, Effect: gatehouse.EffectDeny, Text: orElse(r.Because, cut(r.Expr, 200))}
	if !out.allows(!r.want) {
		reason.Effect = gatehouse.EffectError
		reason.Text = fmt.Sprintf("%s (cannot be evaluated: %s)", reason.Text, r.failure(out.err))
	}
	// What ran past its cost is not run again for the sake of an explanation.
	if _, cancelled := errors.AsType[interpreter.EvalCancelledError](out.err); cancelled {
		return reason
	}
	w := walker{info: r.ast.NativeRep().SourceInfo()}
	if explainer := r.explain(); explainer != nil {
		// Its own error is that of the rule, reported above.
		if _, details, _ := explainer.Eval((*activation)(in)); details != nil {
			w.state = details.State()
		}
	}
	reason.Saw = r.saw(w.state)
	if needed := w.until(r.ast.NativeRep().Expr(), r.want); needed.state == open {
		reason.Needed = cut(needed.String(), 512)
	}
	return reason
}

// failure tells why an evaluation failed. A conversion's error quotes its input,
// so a rule that names a secret gets no details.
func (r *rule) failure(err error) string {
	if err == nil {
		return "it gave neither true nor false"
	}
	if slices.ContainsFunc(r.attrs, func(a attribute) bool { return a.secret }) {
		return "details are left out, it names a secret"
	}
	return cut(err.Error(), 200)
}

func (r *rule) saw(state interpreter.EvalState) string {
	if state == nil {
		return ""
	}
	var out []string
	for _, a := range r.attrs {
		v, ok := state.Value(a.id)
		switch {
		case !ok || types.IsError(v):
			out = append(out, a.text+" absent or unreadable")
		case a.secret:
			out = append(out, a.text+" = [secret]")
		default:
			out = append(out, a.text+" = "+show(v))
		}
	}
	return cut(strings.Join(out, ", "), 1024)
}

const shownLength = 64

func show(v ref.Val) string {
	switch v := v.(type) {
	case types.String:
		return strconv.Quote(cut(string(v), shownLength))
	case types.Int, types.Uint, types.Double, types.Bool:
		return fmt.Sprint(v.Value())
	case types.Timestamp:
		return v.Format(time.RFC3339)
	case traits.Mapper:
		return "{…}"
	case traits.Lister:
		return fmt.Sprintf("[%v items]", v.Size())
	}
	return "…"
}

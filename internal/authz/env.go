package authz

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"

	"github.com/gatehouse-api/gatehouse/internal/config"
)

// Bounds of a rule. They are far above any rule a person can read.
const (
	maxRuleLength = 4096
	maxRuleNodes  = 1000
	maxRuleDepth  = 50
	maxLoops      = 2      // loops within loops
	maxCost       = 30_000 // of a rule with a loop, in CEL's units: one to two milliseconds, some thousand items
)

// A dialect is the rule language for all operations whose variables have the
// same types. Which fields Path, Query or Body have it asks of the operation at
// hand: an environment of its own for each of ten thousand operations would take
// 13 KB of memory each.
type dialect struct {
	mu   sync.Mutex // held while rules are checked or planned, never while a request is decided
	env  *cel.Env
	hand *hand
}

// A hand is the types.Provider that passes questions to the table at hand.
type hand struct{ *typeTable }

func newDialect(parent *cel.Env, operation bool, body *cel.Type) (*dialect, error) {
	d := &dialect{hand: &hand{}}
	opts := []cel.EnvOption{cel.CustomTypeProvider(d.hand)}
	if operation {
		for name, typ := range map[string]string{"path": typePath, "query": typeQuery, "header": typeHeader, "cookie": typeCookie} {
			opts = append(opts, cel.Variable(name, types.NewObjectType(typ)))
		}
	}
	if body != nil {
		opts = append(opts, cel.Variable("body", body))
	}
	var err error
	if parent == nil {
		d.env, err = cel.NewCustomEnv(append(opts, baseOptions()...)...)
	} else {
		d.env, err = parent.Extend(opts...)
	}
	if err != nil {
		return nil, fmt.Errorf("authz: rule environment: %w", err)
	}
	return d, nil
}

// A typeEnv checks and plans rules against one typeTable.
type typeEnv struct {
	*dialect
	table *typeTable
}

// with lends the environment with the table in it.
func (e *typeEnv) with(f func(*cel.Env)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hand.typeTable = e.table
	f(e.env)
}

func baseOptions() []cel.EnvOption {
	return []cel.EnvOption{
		cel.StdLib(),
		ext.Strings(),
		cel.CustomTypeAdapter(adapter{}),
		cel.EnableMacroCallTracking(),
		cel.EnableIdentifierEscapeSyntax(),
		cel.DefaultUTCTimeZone(true),
		cel.CrossTypeNumericComparisons(true),
		cel.ParserExpressionSizeLimit(maxRuleLength),
		cel.ExpressionNodeLimit(maxRuleNodes),
		cel.ExpressionNestingDepthLimit(maxRuleDepth),
		cel.ParserRecursionLimit(maxRuleDepth),
		cel.RegexProgramSizeLimit(2000),
		cel.ASTValidators(cel.ValidateRegexLiterals(), cel.ValidateTimestampLiterals(),
			cel.ValidateDurationLiterals(), cel.ValidateComprehensionNestingLimit(maxLoops)),
		cel.Variable("claims", types.NewObjectType(typeClaims)),
		cel.Variable("principal", types.NewObjectType(typePrincipal)),
		cel.Variable("request", types.NewObjectType(typeRequest)),
		cel.Variable(varRoles, types.NewObjectType(typeRoles)),
		cel.Variable(varGrants, types.NewObjectType(typeGrants)),
		cel.Macros(heldMacro("role", varRoles), heldMacro("grant", varGrants)),
		cel.Function("in_cidr", cel.MemberOverload("string_in_cidr", []*cel.Type{cel.StringType, cel.StringType}, cel.BoolType,
			cel.BinaryBinding(inCIDR))),
	}
}

// heldMacro expands role("x") to a field of a hidden variable: the checker then
// finds a role that does not exist, and the evaluator has only a set to ask.
func heldMacro(function, variable string) cel.Macro {
	return cel.GlobalMacro(function, 1, func(h cel.MacroExprFactory, _ ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
		if args[0].Kind() == ast.LiteralKind {
			if name, ok := args[0].AsLiteral().(types.String); ok {
				return h.NewSelect(h.NewIdent(variable), string(name)), nil
			}
		}
		return nil, h.NewError(args[0].ID(), function+"() takes a name in quotes")
	})
}

// inCIDR matches an address against a prefix; v4-mapped v6 addresses count as v4
// (RFC 4291 §2.5.5.2), or ::ffff:10.0.0.1 would slip past a rule about 10.0.0.0/8.
func inCIDR(address, cidr ref.Val) ref.Val {
	a, aok := address.(types.String)
	c, cok := cidr.(types.String)
	if !aok || !cok {
		return types.NewErr("in_cidr takes strings")
	}
	ip, err := netip.ParseAddr(string(a))
	if err != nil {
		return types.NewErr("in_cidr: not an address")
	}
	prefix, err := netip.ParsePrefix(string(c))
	if err != nil {
		return types.NewErr("in_cidr: not a prefix like 10.0.0.0/8")
	}
	return types.Bool(prefix.Contains(ip.Unmap().WithZone("")))
}

// A program is a compiled expression, shared by every operation it fits.
type program struct {
	Phase Phase
	ast   *cel.Ast
	prog  cel.Program
	quick quick       // tells without prog that the rule is true, or false; nil for most loops
	attrs []attribute // the fields it names, for explanations
	env   *typeEnv

	explainOnce sync.Once
	explainer   cel.Program // records every part's value; planned at the first denial
}

// An attribute is one field a rule names, by the id of its expression.
type attribute struct {
	id     int64
	text   string
	secret bool
}

func (e *typeEnv) parse(r Rule) (*cel.Ast, error) {
	if strings.TrimSpace(r.Expr) == "" {
		return nil, fmt.Errorf("%s: rule %q is empty", orElse(r.Place, "config"), r.ID)
	}
	parsed, iss := e.env.Parse(r.Expr)
	if err := e.translate(r, iss); err != nil {
		return nil, err
	}
	return parsed, nil
}

// check types an expression and refuses what a caller could make expensive.
func (e *typeEnv) check(r Rule, parsed *cel.Ast) (checked *cel.Ast, err error) {
	clear(e.table.missing)
	var iss *cel.Issues
	e.with(func(env *cel.Env) { checked, iss = env.Check(parsed) })
	if err := e.translate(r, iss); err != nil {
		return nil, err
	}
	if err := refuseUnbounded(checked); err != nil {
		return nil, fmt.Errorf("%s: rule %q: %w", orElse(r.Place, "config"), r.ID, err)
	}
	return checked, nil
}

func (e *typeEnv) compile(r Rule, parsed *cel.Ast, phase Phase) (*program, error) {
	checked, err := e.check(r, parsed)
	if err != nil {
		return nil, err
	}
	place := orElse(r.Place, "config")
	if !checked.OutputType().IsExactType(cel.BoolType) {
		return nil, fmt.Errorf("%s: rule %q gives %s, not true or false", place, r.ID, checked.OutputType())
	}
	prog, err := e.plan(checked, cel.OptOptimize)
	if err != nil {
		return nil, fmt.Errorf("%s: rule %q: %w", place, r.ID, err)
	}
	return &program{Phase: phase, ast: checked, prog: prog, quick: quicken(checked, e.table), env: e, attrs: attributesOf(checked)}, nil
}

// plan makes a program. It limits the cost where cost depends on the request in
// more than its length: without a loop each part runs once. Counting is not free,
// so rules without a loop do not pay it.
func (e *typeEnv) plan(a *cel.Ast, o cel.EvalOption) (prog cel.Program, err error) {
	opts := []cel.ProgramOption{cel.EvalOptions(o)}
	if hasLoop(a) {
		opts = append(opts, cel.EvalOptions(o|cel.OptTrackCost), cel.CostLimit(maxCost))
	}
	e.with(func(env *cel.Env) { prog, err = env.Program(a, opts...) })
	return prog, err
}

// explain returns the program that records the value of every part.
func (p *program) explain() cel.Program {
	p.explainOnce.Do(func() {
		if prog, err := p.env.plan(p.ast, cel.OptExhaustiveEval|cel.OptTrackState|cel.OptPartialEval); err == nil {
			p.explainer = prog
		}
	})
	return p.explainer
}

func hasLoop(a *cel.Ast) bool {
	found := false
	ast.PreOrderVisit(a.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		found = found || e.Kind() == ast.ComprehensionKind
	}))
	return found
}

// refuseUnbounded refuses what a caller could make expensive or what cannot be
// checked: a regular expression out of the request, text whose size is the
// product of two inputs, a prefix that is none, and objects made in a rule.
func refuseUnbounded(a *cel.Ast) error {
	var errs []error
	ast.PreOrderVisit(a.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.StructKind {
			errs = append(errs, errors.New("rules do not make objects"))
		}
		if e.Kind() == ast.ComprehensionKind {
			// A loop variable named path would be taken for the parameters.
			for _, name := range []string{e.AsComprehension().IterVar(), e.AsComprehension().IterVar2()} {
				if slices.Contains(variables, name) {
					errs = append(errs, fmt.Errorf("a loop variable cannot be named %s", name))
				}
			}
		}
		if e.Kind() == ast.CallKind {
			errs = append(errs, refuseCall(e.AsCall()))
		}
	}))
	return errors.Join(errs...)
}

func refuseCall(call ast.CallExpr) error {
	literal, isLiteral := "", false
	if args := call.Args(); len(args) > 0 && args[len(args)-1].Kind() == ast.LiteralKind {
		s, ok := args[len(args)-1].AsLiteral().(types.String)
		literal, isLiteral = string(s), ok
	}
	switch call.FunctionName() {
	case "matches":
		if !isLiteral {
			return errors.New("matches() takes a pattern in quotes")
		}
	case "replace", "join", "format":
		return fmt.Errorf("%s() is not for rules: they compare text, they do not build it", call.FunctionName())
	case "in_cidr":
		if _, err := netip.ParsePrefix(literal); !isLiteral || err != nil {
			return errors.New(`in_cidr() takes a prefix in quotes, like "10.0.0.0/8"`)
		}
	}
	return nil
}

// rootsOf gives the variables an expression names, loop variables included.
func rootsOf(a *cel.Ast) map[string]bool {
	roots := map[string]bool{}
	ast.PreOrderVisit(a.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.IdentKind {
			roots[e.AsIdent()] = true
		}
	}))
	return roots
}

// fieldsOf lists the members of a variable that a rule names. whole says that it
// looks at the variable in another way than by a member's name.
func fieldsOf(a *cel.Ast, variable string) (fields []string, whole bool) {
	var walk func(e ast.NavigableExpr)
	walk = func(e ast.NavigableExpr) {
		switch {
		case e.Kind() == ast.IdentKind:
			whole = whole || e.AsIdent() == variable
		case e.Kind() == ast.SelectKind && e.AsSelect().Operand().Kind() == ast.IdentKind && e.AsSelect().Operand().AsIdent() == variable:
			fields = append(fields, e.AsSelect().FieldName())
		default:
			for _, child := range e.Children() {
				walk(child)
			}
		}
	}
	walk(ast.NavigateAST(a.NativeRep()))
	return fields, whole
}

func attributesOf(a *cel.Ast) []attribute {
	var out []attribute
	info := a.NativeRep().SourceInfo()
	var walk func(e ast.NavigableExpr)
	walk = func(e ast.NavigableExpr) {
		if e.Kind() == ast.SelectKind {
			if root := rootOf(e); root != "" {
				text := exprText(e, info)
				if root != varRoles && root != varGrants && !slices.ContainsFunc(out, func(a attribute) bool { return a.text == text }) {
					out = append(out, attribute{id: e.ID(), text: text, secret: root == "cookie" || secretName(text)})
				}
				return
			}
		}
		for _, child := range e.Children() {
			walk(child)
		}
	}
	walk(ast.NavigateAST(a.NativeRep()))
	return out
}

var variables = []string{"claims", "principal", "request", "path", "query", "header", "cookie", "body", varRoles, varGrants}

// rootOf returns the variable at the bottom of a chain of selections, or "".
func rootOf(e ast.Expr) string {
	for e.Kind() == ast.SelectKind {
		e = e.AsSelect().Operand()
	}
	if e.Kind() == ast.IdentKind && slices.Contains(variables, e.AsIdent()) {
		return e.AsIdent()
	}
	return ""
}

func exprText(e ast.Expr, info *ast.SourceInfo) string {
	s, err := cel.ExprToString(e, info)
	if err != nil {
		return "(expression)"
	}
	return strings.Join(strings.Fields(s), " ")
}

// translate turns the checker's messages into ours: place first, then what is
// wrong and what would be right.
func (e *typeEnv) translate(r Rule, iss *cel.Issues) error {
	if iss == nil || iss.Err() == nil {
		return nil
	}
	var errs []error
	for _, ce := range iss.Errors() {
		message := ce.Message
		if field, ok := quoted(message, "undefined field '"); ok && e.table.missing[field] != "" {
			message = e.table.missing[field]
		}
		if name, ok := quoted(message, "undeclared reference to '"); ok {
			message = e.undeclared(name)
		}
		message = friendly(message)
		at := ""
		if ce.Location != nil && ce.Location.Line() >= 1 {
			at = fmt.Sprintf(" (at column %d of %q)", ce.Location.Column()+1, cut(line(r.Expr, ce.Location.Line()), 120))
		}
		errs = append(errs, fmt.Errorf("%s: rule %q: %s%s", orElse(r.Place, "config"), r.ID, message, at))
	}
	if len(errs) == 0 {
		errs = append(errs, fmt.Errorf("%s: rule %q: %w", orElse(r.Place, "config"), r.ID, iss.Err()))
	}
	return errors.Join(errs...)
}

// line gives the nth line of an expression, counting from 1.
func line(expr string, n int) string {
	lines := strings.Split(expr, "\n")
	return lines[min(n, len(lines))-1]
}

func (e *typeEnv) undeclared(name string) string {
	switch name {
	case "body":
		return fmt.Sprintf("operation %s has no JSON or form body that a rule could name", e.operation())
	case "path", "query", "header", "cookie":
		return fmt.Sprintf("%s is known only within an operation", name)
	}
	return fmt.Sprintf("unknown name %q%s", name, config.DidYouMean(name, []string{
		"claims", "principal", "request", "path", "query", "header", "cookie", "body", "role", "grant",
		"startsWith", "endsWith", "contains", "matches", "in_cidr", "size", "exists", "all", "has",
	}))
}

func (e *typeEnv) operation() string {
	if e.table.op == nil {
		return "(any)"
	}
	return e.table.op.ID
}

// friendly says "cannot compare int with string" for the checker's overload talk.
func friendly(message string) string {
	op, ok := quoted(message, "found no matching overload for '")
	if !ok {
		return message
	}
	types, ok := quoted(message, "applied to '(")
	types = strings.TrimSuffix(types, ")")
	symbol, isOperator := operators.FindReverseBinaryOperator(op)
	if !ok || !isOperator || symbol == "" {
		return message
	}
	left, right, ok := strings.Cut(types, ", ")
	if !ok {
		return message
	}
	hint := ""
	switch {
	case (left == "string") != (right == "string") && (isNumber(left) || isNumber(right)):
		hint = "; string(…) makes text of a number"
	case isNumber(left) && isNumber(right):
		hint = "; a number with a fraction is written with a point, as in 5.0"
	}
	return fmt.Sprintf("cannot write %s %s %s: the two sides differ in type%s", left, symbol, right, hint)
}

func isNumber(celType string) bool { return celType == "int" || celType == "double" }

func quoted(message, before string) (string, bool) {
	_, rest, ok := strings.Cut(message, before)
	if !ok {
		return "", false
	}
	word, _, ok := strings.Cut(rest, "'")
	return word, ok
}

func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// secretName reports whether a field's name says that its value is not to be
// shown. Short words count only as whole words: "company" is no PAN.
func secretName(name string) bool {
	letters := strings.Map(func(r rune) rune {
		if r == '-' || r == '_' {
			return -1 // X-Api-Key, api_key and apiKey are one
		}
		return r
	}, strings.ToLower(name))
	for _, word := range []string{"password", "passwd", "secret", "token", "card", "credential", "authorization", "apikey", "private"} {
		if strings.Contains(letters, word) {
			return true
		}
	}
	words := strings.FieldsFunc(splitCamel(name), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	})
	return slices.ContainsFunc(words, func(w string) bool {
		return slices.Contains([]string{"pan", "ssn", "pin", "cvv", "cvc", "otp", "iban", "jwt"}, strings.ToLower(w))
	})
}

func splitCamel(s string) string {
	var b strings.Builder
	for i, r := range s {
		if i > 0 && r >= 'A' && r <= 'Z' && s[i-1] >= 'a' && s[i-1] <= 'z' {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return b.String()
}

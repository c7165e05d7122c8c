package authz

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"

	"github.com/gatehouse-api/gatehouse"
)

// A Want is the type of the value an [Expr] must have.
type Want uint8

// What an expression can be asked for. The zero Want takes nothing.
const (
	WantText   Want = iota + 1 // a string, a number or true or false, written out
	WantNumber                 // an int
	WantTruth                  // true or false
)

// An Expr is a typed expression that is no rule: what a limit counts by, what a
// request costs. It speaks of callers and inputs as rules do, but not of the body.
// It is read-only and safe for concurrent use.
type Expr struct {
	phase   Phase
	caller  bool
	text    string
	params  []bool
	program cel.Program
	read    func(*activation) (string, bool)   // a plain text field, without the evaluator; or nil
	truth   quick                              // likewise
	number  func(in *activation) (int64, bool) // likewise
}

// CompileExpr compiles r, an expression of the operation, to give what is wanted.
// Its errors begin with r's place.
func (c *Compiler) CompileExpr(op *gatehouse.Operation, r Rule, want Want) (*Expr, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	parsed, err := c.caller.parse(r)
	if err != nil {
		return nil, err
	}
	phase, env := phaseOf(parsed), c.caller
	fail := func(err error) (*Expr, error) {
		return nil, fmt.Errorf("%s: rule %q: %w", orElse(r.Place, "config"), r.ID, err)
	}
	switch phase {
	case Body:
		return fail(errors.New("it names the body, which has not been read when it is asked"))
	case Head:
		if env, err = (&opEnv{c: c, op: op}).get(); err != nil {
			return fail(err)
		}
	case Caller, phases:
	}
	checked, err := env.check(r, parsed)
	if err != nil {
		return nil, err
	}
	if types := wanted[want]; !slices.ContainsFunc(types, checked.OutputType().IsExactType) {
		return fail(fmt.Errorf("it gives %s, not %s", checked.OutputType(), says[want]))
	}
	prog, err := env.plan(checked, cel.OptOptimize)
	if err != nil {
		return fail(err)
	}
	e := &Expr{phase: phase, text: r.Expr, program: prog, params: paramsOf(checked, op)}
	for name := range rootsOf(checked) {
		e.caller = e.caller || slices.Contains([]string{"claims", "principal", varRoles, varGrants}, name)
	}
	q := quickener{checked.NativeRep(), env.table}
	root := checked.NativeRep().Expr()
	e.read, e.number, e.truth = q.text(root), q.integer(root), q.truth(root)
	return e, nil
}

var (
	wanted = [...][]*cel.Type{
		WantText:   {cel.StringType, cel.IntType, cel.UintType, cel.DoubleType, cel.BoolType, cel.DynType},
		WantNumber: {cel.IntType, cel.DynType},
		WantTruth:  {cel.BoolType, cel.DynType},
	}
	says = [...]string{WantText: "a text", WantNumber: "a whole number", WantTruth: "true or false"}
)

// Phase is the moment from which the expression has everything it names.
func (e *Expr) Phase() Phase { return e.phase }

// NeedsCaller reports whether it looks at who calls.
func (e *Expr) NeedsCaller() bool { return e.caller }

// Params says of each parameter of the operation whether the expression looks at
// it, like [Policy.Params].
func (e *Expr) Params() []bool { return e.params }

// String is the expression as it was written.
func (e *Expr) String() string { return e.text }

// Text gives the value as text; false where the expression fails, as it does when
// something it names is absent.
func (e *Expr) Text(in *Input) (string, bool) {
	if e.read != nil {
		if s, ok := e.read((*activation)(in)); ok {
			return s, true
		}
	}
	v, _, err := e.program.Eval((*activation)(in))
	if err != nil {
		return "", false
	}
	switch v := v.(type) {
	case types.String:
		return string(v), true
	case types.Int:
		return strconv.FormatInt(int64(v), 10), true
	case types.Uint:
		return strconv.FormatUint(uint64(v), 10), true
	case types.Double:
		return strconv.FormatFloat(float64(v), 'g', -1, 64), true
	case types.Bool:
		return strconv.FormatBool(bool(v)), true
	}
	return "", false
}

// Number gives the value; false where the expression fails or gives no int.
func (e *Expr) Number(in *Input) (int64, bool) {
	if e.number != nil {
		if n, ok := e.number((*activation)(in)); ok {
			return n, true
		}
	}
	v, _, err := e.program.Eval((*activation)(in))
	n, ok := v.(types.Int)
	return int64(n), ok && err == nil
}

// True gives the value; false, false where the expression fails or gives no bool.
func (e *Expr) True(in *Input) (value, ok bool) {
	if e.truth != nil {
		if value, ok = e.truth((*activation)(in)); ok {
			return value, true
		}
	}
	v, _, err := e.program.Eval((*activation)(in))
	b, ok := v.(types.Bool)
	return bool(b) && err == nil, ok && err == nil
}

package authz

import "cel.dev/cel-go/common/types"

// An Answer is what a rule gave in both ways of asking it.
type Answer struct {
	Rule        string
	Value, Sure bool // of the quick way
	Agrees      bool // the evaluator gives that value
	Quick       bool // there is a quick way
}

// Answers asks every rule of p in both ways.
func Answers(p *Policy, in *Input) (out []Answer) {
	for phase := range phases {
		for _, r := range p.rules[phase] {
			a := Answer{Rule: r.Expr, Quick: r.quick != nil}
			if a.Quick {
				a.Value, a.Sure = r.quick((*activation)(in))
			}
			given := r.eval(in)
			a.Agrees = given.err == nil && given.value == types.Bool(a.Value)
			out = append(out, a)
		}
	}
	return out
}

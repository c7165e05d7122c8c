// Package authz answers "may they?": roles, scopes and typed rules in one fixed
// combiner that denies by default. Practice 2, deny-by-default part of practice 12.
//
// It owns roles and what they grant, the rule language (CEL, typed for one
// operation), the order of layers and the explanation of a denial. It hides the
// CEL engine: no other room sees an expression tree.
//
// Most rules are answered without that engine, in some ten nanoseconds and without
// an allocation; what of a request it is not sure of, the engine decides.
//
// The combiner cannot be configured. Organisation guardrails, API-wide rules,
// the OpenAPI document's security and the operation's own access must each
// allow; no layer can widen another. A deny rule that is true denies, a require
// rule that is not true denies, and a rule of either kind that cannot be
// evaluated denies. An operation that names no access and is not public does
// not compile; the zero [Policy] denies.
//
// What is absent is an error too: an optional parameter, a null field, a claim
// that this caller's credentials do not carry (an API key has none), an empty
// claim. A rule about such a thing begins with has(claims.suspended).
//
// It trusts the [gatehouse.Principal] that authn made and the parameters and
// body that validate checked, though a value of another type than the schema
// promised is an error and denies. It keeps no data: whoever can write the
// config decides who may do what.
//
// Errors of [New] and [Compiler.Compile] begin with the place of the rule in the
// config and say what was expected. A denial is a [gatehouse.Decision] whose
// reasons are for the operator; [Policy.Problem] is what the caller may see.
//
//	c, err := authz.New(authz.Config{Roles: roles, Claims: claims, Guardrails: guardrails})
//	policy, err := c.Compile(operation, authz.Access{Grant: []string{"orders:refund"}, Require: rules})
//	if d := policy.Decide(authz.Caller, &authz.Input{Principal: p}); !d.Allow {
//		return policy.Problem(d, p)
//	}
package authz

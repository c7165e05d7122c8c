package authz_test

import (
	"fmt"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/authz"
)

func Example() {
	c, err := authz.New(authz.Config{
		Roles: map[string]authz.Role{
			"support": {Grants: []string{"orders:refund"}},
			"manager": {Inherits: []string{"support"}},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	policy, err := c.Compile(refund(), authz.Access{
		Grant: []string{"orders:refund"},
		Rules: authz.Rules{Require: []authz.Rule{
			{ID: "amount", Expr: `body.amount <= 500 || role("manager")`, Because: "Large refunds need a manager."},
		}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	d := policy.Decide(authz.Body, &authz.Input{
		Principal: &gatehouse.Principal{Method: gatehouse.MethodJWT, Roles: []string{"support"}},
		Body:      map[string]any{"amount": int64(700)},
	})
	fmt.Println(d.Allow, d.Reasons[0].Text)
	fmt.Println("saw", d.Reasons[0].Saw)
	fmt.Println("needed", d.Reasons[0].Needed)
	// Output:
	// false Large refunds need a manager.
	// saw body.amount = 700
	// needed body.amount <= 500 or role("manager")
}

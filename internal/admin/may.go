package admin

import (
	"fmt"
	"slices"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

// grantRoles is the permission to hand out what one does not have oneself.
const grantRoles = "gatehouse.roles:write"

// may refuses to hand out, or to take over, roles that the caller does not have:
// administration of some must not become administration of everything.
func (a *api) may(c *call, roles ...string) error {
	if a.Roles.Grant(c.who.Roles, grantRoles) {
		return nil
	}
	for _, r := range roles {
		if !a.Roles.Hold(c.who.Roles, r) {
			return notYours(fmt.Sprintf("The role %s is not yours: only who has a role, or the grant %s, may give it or change who has it.", r, grantRoles))
		}
	}
	return nil
}

// mayTenant refuses to reach into another tenant than the caller's own.
func (a *api) mayTenant(c *call, tenants ...string) error {
	if c.who.Tenant == "" || a.Roles.Grant(c.who.Roles, grantRoles) {
		return nil
	}
	for _, t := range tenants {
		if t != c.who.Tenant {
			return notYours("It would be of another tenant than yours.")
		}
	}
	return nil
}

// mayClient refuses to hand out, or to change, what goes beyond what users consent
// to: roles of its own, no consent at all, others' tokens.
func (a *api) mayClient(c *call, m *oauth.Metadata) error {
	if err := a.may(c, m.Roles...); err != nil {
		return err
	}
	if err := a.mayTenant(c, m.Tenant); err != nil {
		return err
	}
	if (m.Trusted || len(m.Exchange) > 0) && !a.Roles.Grant(c.who.Roles, grantRoles) {
		return notYours("A client that is trusted or exchanges tokens needs the grant " + grantRoles + ".")
	}
	return nil
}

func notYours(detail string) error {
	return &gatehouse.Problem{Kind: gatehouse.Forbidden, Reason: "role_not_held", Detail: detail}
}

// known refuses roles that the config does not have: they would be useless today
// and a surprise the day somebody configures one.
func (a *api) known(roles []string) error {
	names := a.Roles.Names()
	for _, r := range roles {
		if !slices.Contains(names, r) {
			return &gatehouse.Problem{
				Kind: gatehouse.Unprocessable, Reason: "role_unknown", Detail: fmt.Sprintf("There is no role %q%s", r, config.DidYouMean(r, names)),
			}
		}
	}
	return nil
}

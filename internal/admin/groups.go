package admin

import (
	"net/http"
	"slices"

	"github.com/gatehouse-api/gatehouse/internal/identity"
)

func (a *api) listGroups(c *call) (answer, error) {
	after, err := a.after(c)
	if err != nil {
		return answer{}, err
	}
	q, limit := c.URL.Query(), c.limit()
	groups, total, err := a.People.Groups(c.Context(), identity.Query{
		Search: q.Get("search"), Name: q.Get("name"), ExternalID: q.Get("external_id"), After: after, Limit: limit,
	})
	if err != nil {
		return answer{}, err
	}
	items := make([]Group, len(groups))
	for i := range groups {
		items[i] = ViewGroup(&groups[i])
		items[i].Members = nil // there may be a hundred thousand of them
	}
	p := page{Items: items, Total: total}
	if len(groups) == limit {
		p.Next, err = a.next(c, groups[limit-1].Name)
	}
	return answer{body: p}, err
}

// A GroupChange says what is to become of a group; what is nil stays as it is.
type GroupChange struct {
	Name       *string   `json:"name"`
	Roles      *[]string `json:"roles"`
	Members    *[]string `json:"members"` // ids of all of them
	Add        []string  `json:"add_members"`
	Remove     []string  `json:"remove_members"`
	ExternalID *string   `json:"external_id"`
}

// Apply changes g, within [identity.Directory.UpdateGroup].
func (n *GroupChange) Apply(g *identity.Group) {
	set(&g.Name, n.Name)
	set(&g.Roles, n.Roles)
	set(&g.Members, n.Members)
	set(&g.ExternalID, n.ExternalID)
	g.Members = slices.DeleteFunc(slices.Concat(g.Members, n.Add), func(id string) bool { return slices.Contains(n.Remove, id) })
}

func (a *api) createGroup(c *call) (answer, error) {
	var in GroupChange
	if err := c.read(&in); err != nil {
		return answer{}, err
	}
	n := identity.NewGroup{
		Name: value(in.Name), Roles: value(in.Roles), Members: slices.Concat(value(in.Members), in.Add), ExternalID: value(in.ExternalID),
	}
	if err := a.known(n.Roles); err != nil {
		return answer{}, err
	}
	if err := a.may(c, n.Roles...); err != nil {
		return answer{}, err
	}
	if err := a.mayMembers(c, n.Members); err != nil {
		return answer{}, err
	}
	g, err := a.People.CreateGroup(c.Context(), c.actor, n)
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusCreated, body: ViewGroup(g), version: g.Version, location: "/groups/" + g.ID}, nil
}

func (a *api) getGroup(c *call) (answer, error) {
	g, err := a.People.Group(c.Context(), c.PathValue("id"))
	if err != nil {
		return answer{}, err
	}
	return answer{body: ViewGroup(g), version: g.Version}, nil
}

func (a *api) updateGroup(c *call) (answer, error) {
	var in GroupChange
	if err := c.read(&in); err != nil {
		return answer{}, err
	}
	version, err := c.version()
	if err != nil {
		return answer{}, err
	}
	g, err := retried(version, func() (*identity.Group, error) {
		old, err := a.group(c, version)
		if err != nil {
			return nil, err
		}
		given := slices.DeleteFunc(slices.Clone(value(in.Roles)), func(r string) bool { return slices.Contains(old.Roles, r) })
		if err := a.known(given); err != nil {
			return nil, err
		}
		if err := a.may(c, given...); err != nil {
			return nil, err
		}
		if err := a.mayMembers(c, slices.Concat(value(in.Members), in.Add)); err != nil {
			return nil, err
		}
		return a.People.UpdateGroup(c.Context(), c.actor, old.ID, old.Version, func(g *identity.Group) error {
			in.Apply(g)
			return nil
		})
	})
	if err != nil {
		return answer{}, err
	}
	return answer{body: ViewGroup(g), version: g.Version}, nil
}

// mayMembers refuses to change what people of another tenant may.
func (a *api) mayMembers(c *call, ids []string) error {
	if a.mayTenant(c, "") == nil {
		return nil // the caller is of no tenant, or above them: nobody has to be looked up
	}
	for _, id := range ids {
		u, err := a.People.User(c.Context(), id)
		if err != nil {
			return err
		}
		if err := a.mayTenant(c, u.Tenant); err != nil {
			return err
		}
	}
	return nil
}

// group is a group that the caller may change: one that gives no more than the
// caller has, and has no members of other tenants.
func (a *api) group(c *call, version int64) (*identity.Group, error) {
	g, err := a.People.Group(c.Context(), c.PathValue("id"))
	if err != nil {
		return nil, err
	}
	if version != 0 && version != g.Version {
		return nil, identity.ErrChanged
	}
	if err := a.may(c, g.Roles...); err != nil {
		return nil, err
	}
	return g, a.mayMembers(c, g.Members)
}

func (a *api) deleteGroup(c *call) (answer, error) {
	version, err := c.version()
	if err != nil {
		return answer{}, err
	}
	g, err := a.group(c, version)
	if err != nil {
		return answer{}, err
	}
	return answer{}, a.People.DeleteGroup(c.Context(), c.actor, g.ID)
}

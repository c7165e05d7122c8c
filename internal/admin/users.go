package admin

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

// A page is a part of a list.
type page struct {
	Items any    `json:"items"`
	Total int    `json:"total"`
	Next  string `json:"next,omitempty"` // cursor of the page after; none: this was the last
}

func (a *api) listUsers(c *call) (answer, error) {
	after, err := a.after(c)
	if err != nil {
		return answer{}, err
	}
	q, limit := c.URL.Query(), c.limit()
	users, total, err := a.People.Users(c.Context(), identity.Query{
		Search: q.Get("search"), Name: q.Get("name"), Email: q.Get("email"), ExternalID: q.Get("external_id"), Group: q.Get("group"), After: after, Limit: limit,
	})
	if err != nil {
		return answer{}, err
	}
	items := make([]User, len(users))
	for i := range users {
		items[i] = ViewUser(&users[i])
	}
	p := page{Items: items, Total: total}
	if len(users) == limit {
		p.Next, err = a.next(c, users[limit-1].Name)
	}
	return answer{body: p}, err
}

// A UserChange says what is to become of a user; what is nil stays as it is.
type UserChange struct {
	Name          *string         `json:"name"`
	Email         *string         `json:"email"` // "": none
	EmailVerified *bool           `json:"email_verified"`
	Roles         *[]string       `json:"roles"`
	Groups        *[]string       `json:"groups"` // names
	Tenant        *string         `json:"tenant"`
	ExternalID    *string         `json:"external_id"`
	Claims        *map[string]any `json:"claims"`
}

// Apply changes u, within [identity.Directory.Update].
func (n *UserChange) Apply(u *identity.User) {
	set(&u.Name, n.Name)
	set(&u.Email, n.Email)
	set(&u.Roles, n.Roles)
	set(&u.Groups, n.Groups)
	set(&u.Tenant, n.Tenant)
	set(&u.ExternalID, n.ExternalID)
	set(&u.Claims, n.Claims)
	switch {
	case n.EmailVerified == nil:
	case !*n.EmailVerified:
		u.EmailVerified = time.Time{}
	case n.Email != nil || u.EmailVerified.IsZero():
		u.EmailVerified = time.Now()
	}
}

// newUser is a user to be made, as it comes in.
type newUser struct {
	UserChange

	Password string `json:"password"`
	Source   string `json:"source"`
	Active   *bool  `json:"active"`
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func (a *api) createUser(c *call) (answer, error) {
	var in newUser
	if err := c.read(&in); err != nil {
		return answer{}, err
	}
	n := identity.NewUser{
		Name: value(in.Name), Email: value(in.Email), EmailVerified: value(in.EmailVerified), Roles: value(in.Roles), Groups: value(in.Groups),
		Tenant: value(in.Tenant), ExternalID: value(in.ExternalID), Claims: value(in.Claims), Source: in.Source,
		Password: gatehouse.NewSecret(in.Password), Inactive: in.Active != nil && !*in.Active,
	}
	if err := a.mayGive(c, n.Roles, n.Groups, n.Tenant); err != nil {
		return answer{}, err
	}
	u, err := a.People.Create(c.Context(), c.actor, n)
	if err != nil {
		return answer{}, err
	}
	return shown(http.StatusCreated, u, "/users/"+u.ID), nil
}

func shown(status int, u *identity.User, location string) answer {
	return answer{status: status, body: ViewUser(u), version: u.Version, location: location}
}

// mayGive checks what somebody would get: roles, those of groups, a tenant.
func (a *api) mayGive(c *call, roles, groups []string, tenant string) error {
	if err := a.known(roles); err != nil {
		return err
	}
	for _, name := range groups {
		g, err := a.People.FindGroup(c.Context(), name)
		if err != nil {
			return err
		}
		roles = slices.Concat(roles, g.Roles)
	}
	if err := a.may(c, roles...); err != nil {
		return err
	}
	return a.mayTenant(c, tenant)
}

func (a *api) getUser(c *call) (answer, error) {
	u, err := a.People.User(c.Context(), c.PathValue("id"))
	if err != nil {
		return answer{}, err
	}
	return shown(0, u, ""), nil
}

// another is a user whom the caller may change: one who has no more than the
// caller.
func (a *api) another(c *call) (*identity.User, error) {
	u, err := a.People.User(c.Context(), c.PathValue("id"))
	if err != nil {
		return nil, err
	}
	if err := a.may(c, u.Effective...); err != nil {
		return nil, err
	}
	return u, a.mayTenant(c, u.Tenant)
}

// retries is how often a change is tried again when somebody else was faster, for
// a caller who did not name a version.
const retries = 5

func (a *api) updateUser(c *call) (answer, error) {
	var in UserChange
	if err := c.read(&in); err != nil {
		return answer{}, err
	}
	version, err := c.version()
	if err != nil {
		return answer{}, err
	}
	u, err := retried(version, func() (*identity.User, error) {
		old, err := a.another(c)
		if err != nil {
			return nil, err
		}
		if version != 0 && version != old.Version {
			return nil, identity.ErrChanged
		}
		given := slices.DeleteFunc(slices.Clone(value(in.Roles)), func(r string) bool { return slices.Contains(old.Roles, r) })
		tenant := old.Tenant
		if in.Tenant != nil {
			tenant = *in.Tenant
		}
		if err := a.mayGive(c, given, value(in.Groups), tenant); err != nil {
			return nil, err
		}
		// The version that was judged, and no other.
		return a.People.Update(c.Context(), c.actor, old.ID, old.Version, func(u *identity.User) error {
			in.Apply(u)
			return nil
		})
	})
	if err != nil {
		return answer{}, err
	}
	return shown(0, u, ""), nil
}

// retried does it again when it met a version that is gone, unless the caller named it.
func retried[T any](version int64, do func() (T, error)) (v T, err error) {
	for range retries {
		if v, err = do(); version != 0 || !errors.Is(err, identity.ErrChanged) {
			break
		}
	}
	return v, err
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

func (a *api) deleteUser(c *call) (answer, error) {
	version, err := c.version()
	if err != nil {
		return answer{}, err
	}
	u, err := a.another(c)
	if err != nil {
		return answer{}, err
	}
	if version != 0 && version != u.Version {
		return answer{}, identity.ErrChanged
	}
	return answer{}, a.People.Delete(c.Context(), c.actor, u.ID)
}

func (a *api) lockUser(c *call) (answer, error) {
	var in struct {
		Why string `json:"why"`
	}
	if err := c.read(&in); err != nil {
		return answer{}, err
	}
	if err := a.People.Lock(c.Context(), c.actor, c.PathValue("id"), in.Why); err != nil {
		return answer{}, err
	}
	return a.getUser(c)
}

func (a *api) unlockUser(c *call) (answer, error) {
	u, err := a.another(c)
	if err != nil {
		return answer{}, err
	}
	if err := a.People.Unlock(c.Context(), c.actor, u.ID); err != nil {
		return answer{}, err
	}
	return a.getUser(c)
}

func (a *api) setPassword(c *call) (answer, error) {
	var in struct {
		Password string `json:"password"`
	}
	if err := c.read(&in); err != nil {
		return answer{}, err
	}
	u, err := a.another(c)
	if err != nil {
		return answer{}, err
	}
	return answer{}, a.People.SetPassword(c.Context(), c.actor, u.ID, gatehouse.NewSecret(in.Password))
}

func (a *api) sendMail(c *call) (answer, error) {
	var in struct {
		Kind string `json:"kind"`
	}
	if err := c.read(&in); err != nil {
		return answer{}, err
	}
	u, err := a.People.User(c.Context(), c.PathValue("id"))
	if err != nil {
		return answer{}, err
	}
	switch in.Kind {
	case "reset":
		err = a.sendReset(c, u)
	case "verification":
		err = a.People.SendVerification(c.Context(), u.ID)
	default:
		return answer{}, &gatehouse.Problem{Kind: gatehouse.Unprocessable, Reason: "invalid_body", Detail: "There are mails of kind reset and verification."}
	}
	return answer{status: http.StatusAccepted}, err
}

func (a *api) sendReset(c *call, u *identity.User) error {
	if u.Email == "" || u.EmailVerified.IsZero() {
		return &gatehouse.Problem{Kind: gatehouse.Conflict, Reason: "object_state", Detail: "The user has no verified address; a verification comes first."}
	}
	from, _ := netip.ParseAddrPort(c.RemoteAddr)
	return a.People.SendReset(c.Context(), u.Name, from.Addr())
}

func (a *api) getFactors(c *call) (answer, error) {
	f, err := a.People.Factors(c.Context(), c.PathValue("id"))
	return answer{body: Factors(f)}, err
}

func (a *api) resetFactors(c *call) (answer, error) {
	u, err := a.another(c)
	if err != nil {
		return answer{}, err
	}
	return answer{}, a.ResetFactors(c.Context(), c.actor, u.ID)
}

func (a *api) listSessions(c *call) (answer, error) {
	sessions, err := a.sessions(c.Context(), c.PathValue("id"))
	if err != nil {
		return answer{}, err
	}
	items := make([]Session, len(sessions))
	for i := range sessions {
		items[i] = ViewSession(&sessions[i])
	}
	return answer{body: page{Items: items, Total: len(items)}}, nil
}

func (a *api) sessions(ctx context.Context, user string) ([]identity.Session, error) {
	if _, err := a.People.User(ctx, user); err != nil {
		return nil, err
	}
	return a.People.SessionsOf(ctx, user)
}

func (a *api) endSessions(c *call) (answer, error) {
	return answer{}, a.SignOut(c.Context(), c.actor, c.PathValue("id"), c.URL.Query().Get("apps") == "true")
}

func (a *api) endSession(c *call) (answer, error) {
	sessions, err := a.sessions(c.Context(), c.PathValue("id"))
	if err != nil {
		return answer{}, err
	}
	sid := c.PathValue("sid")
	if !slices.ContainsFunc(sessions, func(s identity.Session) bool { return s.ID == sid }) {
		return answer{}, unknown("session of this user")
	}
	return answer{}, a.OAuth.EndSession(c.Context(), c.actor, sid)
}

func (a *api) listGrants(c *call) (answer, error) {
	if _, err := a.People.User(c.Context(), c.PathValue("id")); err != nil {
		return answer{}, err
	}
	grants, err := a.OAuth.Grants(c.Context(), c.PathValue("id"))
	if err != nil {
		return answer{}, err
	}
	return answer{body: page{Items: append([]oauth.Grant{}, grants...), Total: len(grants)}}, nil
}

func (a *api) revokeGrant(c *call) (answer, error) {
	grants, err := a.OAuth.Grants(c.Context(), c.PathValue("id"))
	if err != nil {
		return answer{}, err
	}
	id := c.PathValue("grant")
	for i := range grants {
		if grants[i].ID == id {
			return answer{}, a.OAuth.RevokeGrant(c.Context(), c.actor, id)
		}
	}
	return answer{}, unknown("grant of this user")
}

package admin

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

var errKeysOff = errors.New("API keys are switched off in the config: api_keys.enabled")

func (a *api) listKeys(c *call) (answer, error) {
	after, err := a.after(c)
	if err != nil {
		return answer{}, err
	}
	all, err := a.keys(c)
	if err != nil {
		return answer{}, err
	}
	q, now := c.URL.Query(), time.Now()
	owner, state := q.Get("owner"), q.Get("state")
	p, items, limit, past := page{}, []Key{}, c.limit(), after == ""
	for i := range all {
		k := viewKey(&all[i], now)
		if owner != "" && k.Owner != owner || state != "" && k.State != state {
			past = past || k.ID == after
			continue
		}
		p.Total++
		switch {
		case !past:
			past = k.ID == after
		case len(items) < limit:
			items = append(items, k)
		case p.Next == "":
			if p.Next, err = a.next(c, items[limit-1].ID); err != nil {
				return answer{}, err
			}
		}
	}
	p.Items = items
	return answer{body: p}, nil
}

func (a *api) keys(c *call) ([]authn.Key, error) {
	if a.Keys == nil {
		return nil, errKeysOff
	}
	return a.Keys.List(c.Context())
}

func (a *api) key(c *call) (*authn.Key, error) {
	all, err := a.keys(c)
	if err != nil {
		return nil, err
	}
	id := c.PathValue("id")
	at := slices.IndexFunc(all, func(k authn.Key) bool { return k.ID == id })
	if at < 0 {
		return nil, unknown("key")
	}
	return &all[at], nil
}

func (a *api) getKey(c *call) (answer, error) {
	k, err := a.key(c)
	if err != nil {
		return answer{}, err
	}
	return answer{body: viewKey(k, time.Now())}, nil
}

// A newKey is an API key with the key itself, which is shown this once.
type newKey struct {
	Key

	Text string `json:"key"`
}

func (a *api) createKey(c *call) (answer, error) {
	var in struct {
		Owner  string   `json:"owner"`
		Tenant string   `json:"tenant"`
		Roles  []string `json:"roles"`
		Scopes []string `json:"scopes"`
		Note   string   `json:"note"`
		Life   int64    `json:"life"` // seconds; 0: until it is revoked
	}
	if err := c.read(&in); err != nil {
		return answer{}, err
	}
	if a.Keys == nil {
		return answer{}, errKeysOff
	}
	n := authn.NewKey{Owner: in.Owner, Tenant: in.Tenant, Roles: in.Roles, Scopes: in.Scopes, Note: in.Note}
	const most = 100 * 366 * 24 * 60 * 60
	n.Life = time.Duration(min(in.Life, most)) * time.Second
	if err := a.known(n.Roles); err != nil {
		return answer{}, err
	}
	if err := a.mayKey(c, n.Owner, n.Tenant, n.Roles, n.Scopes); err != nil {
		return answer{}, err
	}
	secret, k, err := a.Keys.Create(c.Context(), c.actor, n)
	if err != nil {
		return answer{}, err
	}
	return handed(k, secret), nil
}

func handed(k *authn.Key, secret gatehouse.Secret) answer {
	return answer{status: http.StatusCreated, body: newKey{viewKey(k, time.Now()), secret.Reveal()}, location: "/keys/" + k.ID}
}

// mayKey refuses a key that opens more than the caller can: by its roles, its
// scopes, its tenant, or by acting as somebody who has more.
func (a *api) mayKey(c *call, owner, tenant string, roles, scopes []string) error {
	if err := a.may(c, roles...); err != nil {
		return err
	}
	if err := a.mayTenant(c, tenant); err != nil {
		return err
	}
	if !a.Roles.Grant(c.who.Roles, grantRoles) {
		for _, s := range scopes {
			if !c.who.HasScope(s) {
				return notYours("The scope " + s + " is not yours: only who has it, or the grant " + grantRoles + ", may give it.")
			}
		}
	}
	u, err := a.People.User(c.Context(), owner)
	if err == nil {
		if err := a.mayTenant(c, u.Tenant); err != nil {
			return err
		}
		return a.may(c, u.Effective...)
	}
	if !errors.Is(err, identity.ErrUnknown) {
		return err
	}
	client, err := a.OAuth.Client(c.Context(), owner)
	if err == nil {
		return a.mayClient(c, &client.Metadata)
	}
	if !errors.Is(err, oauth.ErrClientUnknown) {
		return err
	}
	return nil // a service's that is known nowhere else
}

func (a *api) rotateKey(c *call) (answer, error) {
	var in overlap
	if err := c.read(&in); err != nil {
		return answer{}, err
	}
	k, err := a.key(c)
	if err != nil {
		return answer{}, err
	}
	if err := a.mayKey(c, k.Owner, k.Tenant, k.Roles, k.Scopes); err != nil {
		return answer{}, err
	}
	secret, next, err := a.Keys.Rotate(c.Context(), c.actor, k.ID, in.life())
	if err != nil {
		return answer{}, err
	}
	return handed(next, secret), nil
}

func (a *api) revokeKey(c *call) (answer, error) {
	k, err := a.key(c)
	if err != nil {
		return answer{}, err
	}
	return answer{}, a.Keys.Revoke(c.Context(), c.actor, k.ID)
}

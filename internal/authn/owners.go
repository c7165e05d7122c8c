package authn

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// userPrefix begins the subject of every user. Other owners are services, of which
// nobody knows more than the key says.
const userPrefix = "usr_"

// Owners know the users who own keys. An error of theirs is an outage: nobody is
// let in by a key once it has lasted two seconds.
type Owners interface {
	// OwnersVersion returns a number that is another one when an answer of Owners may be.
	OwnersVersion(ctx context.Context) (int64, error)
	// Owners returns what the users with these ids may do now. Who is missing is gone.
	Owners(ctx context.Context, ids []string) (map[string]Owner, error)
}

// An Owner is a user as keys follow one: what the owner lost, the key has lost. The
// zero value opens nothing.
type Owner struct {
	Active bool
	Roles  []string // in effect
	Tenant string   // a key for another one is refused
}

// people are owners that were asked about; who is gone is there with the zero Owner.
type people map[string]Owner

func isUser(owner string) bool { return strings.HasPrefix(owner, userPrefix) }

// Follow makes the keys of users follow what o says of them, from now on. With nil,
// and before the first call, there are no users and their keys are refused.
func (k *Keys) Follow(ctx context.Context, o Owners) {
	k.mu.Lock()
	k.owners, k.people = o, nil
	k.follow.Again()
	k.mu.Unlock()
	// Should this look fail, Run's next one does it, or keys are refused as in any outage.
	_ = k.look(ctx, k.refresh)
}

// standings returns what is known of owners and still true. Fresh reports that
// it is not what the snapshot was made of.
func (k *Keys) standings(ctx context.Context) (who people, stood int64, fresh bool, err error) {
	if k.owners != nil {
		if stood, err = k.owners.OwnersVersion(ctx); err != nil { // before the answers: a change in between is seen by the next look
			return nil, 0, false, fmt.Errorf("owners: %w", err)
		}
	}
	if k.people == nil || stood != k.stood {
		return people{}, stood, true, nil
	}
	return k.people, stood, false, nil
}

// ask adds to who the owners in keys it does not have.
func (k *Keys) ask(ctx context.Context, keys map[string]*liveKey, who people) (people, error) {
	missing := map[string]bool{}
	now := time.Now().UnixMilli()
	for _, l := range keys {
		if _, known := who[l.principal.Subject]; !known && isUser(l.principal.Subject) && !l.revoked && (l.expires == 0 || now < l.expires) {
			missing[l.principal.Subject] = true
		}
	}
	if len(missing) == 0 || k.owners == nil {
		return who, nil
	}
	ids := slices.Collect(maps.Keys(missing))
	found, err := k.owners.Owners(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("owners: %w", err)
	}
	next := maps.Clone(who)
	for _, id := range ids {
		next[id] = found[id]
	}
	return next, nil
}

// judged returns l as its owner's standing makes it: l itself when nothing differs.
func (l *liveKey) judged(who people) *liveKey {
	if !isUser(l.principal.Subject) {
		return l
	}
	owner := who[l.principal.Subject]
	suspended := !owner.Active || owner.Tenant != l.principal.Tenant
	var roles []string
	if !suspended {
		for _, r := range l.roles {
			if slices.Contains(owner.Roles, r) {
				roles = append(roles, r)
			}
		}
	}
	if suspended == l.suspended && slices.Equal(roles, l.principal.Roles) {
		return l
	}
	next := *l
	next.suspended, next.principal.Roles = suspended, roles
	return &next
}

// checkOwner refuses a key that would open nothing from the start.
func (k *Keys) checkOwner(ctx context.Context, n *NewKey) error {
	if !isUser(n.Owner) {
		return nil
	}
	k.mu.Lock()
	owners := k.owners
	k.mu.Unlock()
	if owners == nil {
		return fmt.Errorf("%w: %s… is the name of a user, and there are none here; give a service another name", ErrKeyRequest, userPrefix)
	}
	found, err := owners.Owners(ctx, []string{n.Owner})
	if err != nil {
		return fmt.Errorf("authn: the owner of an API key: %w", err)
	}
	switch o, ok := found[n.Owner]; {
	case !ok:
		return fmt.Errorf("%w: there is no user %s; `gatehouse users list` shows them, and a service has a name without %s", ErrKeyRequest, n.Owner, userPrefix)
	case !o.Active:
		return fmt.Errorf("%w: the user %s is locked", ErrKeyRequest, n.Owner)
	case o.Tenant != n.Tenant:
		return fmt.Errorf("%w: the user %s is in the tenant %q, the key is for %q", ErrKeyRequest, n.Owner, o.Tenant, n.Tenant)
	}
	return nil
}

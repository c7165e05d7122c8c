package server

import (
	"context"

	"github.com/gatehouse-api/gatehouse/internal/authn"
	"github.com/gatehouse-api/gatehouse/internal/identity"
)

// owners tell API keys what the users who own them may do. They read the database
// themselves, so that a reload which makes another authorization server does not
// concern them.
type owners struct{ people *identity.Standings }

// OwnersVersion is of [authn.Owners].
func (o owners) OwnersVersion(ctx context.Context) (int64, error) { return o.people.Version(ctx) }

// Owners is of [authn.Owners].
func (o owners) Owners(ctx context.Context, ids []string) (map[string]authn.Owner, error) {
	found, err := o.people.Of(ctx, ids)
	if err != nil {
		return nil, err
	}
	all := make(map[string]authn.Owner, len(found))
	for id, s := range found {
		all[id] = authn.Owner(s)
	}
	return all, nil
}

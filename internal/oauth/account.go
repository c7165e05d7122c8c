package oauth

import (
	"context"

	"github.com/gatehouse-api/gatehouse/internal/oauth/pages"
)

// flowPages is the Server as its pages see it: grants with the names of clients
// and the sentences of scopes in them.
type flowPages struct{ *Server }

// Grants returns what a user let clients do.
func (f flowPages) Grants(ctx context.Context, user string) ([]pages.Grant, error) {
	list, err := f.Server.Grants(ctx, user)
	if err != nil {
		return nil, err
	}
	out := make([]pages.Grant, 0, len(list))
	for _, g := range list {
		p := pages.Grant{ID: g.ID, Client: pages.Client{Name: g.Client}, Offline: g.Offline, Created: g.Created, Used: g.Used}
		if c, err := f.client(ctx, g.Client); err == nil {
			p.Client = shown(c) // of one that is gone the id is all there is
		}
		for _, w := range g.Scopes {
			p.Scopes = append(p.Scopes, f.scopeItem(w))
		}
		out = append(out, p)
	}
	return out, nil
}

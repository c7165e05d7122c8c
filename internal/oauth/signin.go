package oauth

import (
	"context"

	"github.com/gatehouse-api/gatehouse/internal/identity/upstream"
	"github.com/gatehouse-api/gatehouse/internal/oauth/pages"
)

// elsewhere is the connectors in the pages' words.
func elsewhere(in []SignIn) (out []pages.Upstream) {
	for _, s := range in {
		u := pages.Upstream{Name: s.Name, Title: s.Title}
		switch {
		case s.OIDC != nil:
			u.Finish = s.OIDC.Finish
			u.Begin = func(ctx context.Context, a pages.Ask) (to, cookie string, err error) {
				return s.OIDC.Begin(ctx, upstream.Ask(a))
			}
		case s.LDAP != nil:
			u.Check = s.LDAP.Check
		}
		out = append(out, u)
	}
	return out
}

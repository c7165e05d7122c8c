package oauth

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// revoke ends a token for the client it was made for (RFC 7009): a refresh token
// with all that came of its grant, an access token alone. A token that is unknown,
// over, or another client's is answered like one that was ended, and left as it
// is. A token that could not be ended is never answered so: 503, try again.
func (s *Server) revoke(w http.ResponseWriter, r *http.Request) error {
	form, err := parseForm(r)
	if err != nil {
		return err
	}
	c, err := s.authenticate(r, form)
	if err != nil {
		return err
	}
	raw := form.Get("token")
	if raw == "" {
		return refuse("invalid_request", "token is missing.")
	}
	if strings.HasPrefix(raw, refreshPrefix) {
		err = s.endRefresh(r.Context(), c, raw)
	} else {
		err = s.endAccess(r.Context(), c, raw)
	}
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) endRefresh(ctx context.Context, c *proven, raw string) error {
	g, _, err := s.refreshGrant(ctx, c, raw)
	if err != nil || g == nil {
		return err
	}
	return s.revokeGrant(ctx, "", g.ID, "the client asked for it")
}

func (s *Server) endAccess(ctx context.Context, c *proven, raw string) error {
	if token.Encrypted(raw) {
		// Only its service can read which token it is. To say that it has ended would
		// be a lie (RFC 7009 §2.2.1).
		return refuse("unsupported_token_type", "An encrypted token cannot be revoked by itself; revoke the refresh token.")
	}
	claims, err := s.accessClaimsOf(ctx, raw)
	if errors.Is(err, errNotOurs) {
		gatehouse.EventOf(ctx).Cause = err.Error()
		return nil
	}
	if err != nil {
		return err
	}
	if claims.ClientID != c.ID || claims.JTI == "" {
		gatehouse.EventOf(ctx).Cause = "the token is another client's"
		return nil
	}
	return s.cfg.People.Revoke(ctx, "token", claims.JTI)
}

package oauth

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// introspection is the answer of RFC 7662 §2.2.
type introspection struct {
	Active    bool              `json:"active"`
	Scope     string            `json:"scope,omitempty"`
	Client    string            `json:"client_id,omitempty"`
	TokenType string            `json:"token_type,omitempty"`
	Expires   int64             `json:"exp,omitempty"`
	IssuedAt  int64             `json:"iat,omitempty"`
	Subject   string            `json:"sub,omitempty"`
	Audience  any               `json:"aud,omitempty"`
	Issuer    string            `json:"iss,omitempty"`
	JTI       string            `json:"jti,omitempty"`
	Cnf       map[string]string `json:"cnf,omitempty"`
	ACR       string            `json:"acr,omitempty"`
	AMR       []string          `json:"amr,omitempty"`
	AuthTime  int64             `json:"auth_time,omitempty"`
	Details   []any             `json:"authorization_details,omitempty"`
	Roles     any               `json:"roles,omitempty"`
	Tenant    any               `json:"tenant,omitempty"`
	SID       string            `json:"sid,omitempty"`
	GrantID   string            `json:"grant_id,omitempty"`
	Act       any               `json:"act,omitempty"`
}

// introspect tells the service a token is for, and the client it was made for,
// whether it is good (RFC 7662). Everybody else, and every token that is not good
// for whatever reason, gets the same answer. What cannot be known is an error, and
// never an answer.
func (s *Server) introspect(w http.ResponseWriter, r *http.Request) error {
	form, err := parseForm(r)
	if err != nil {
		return err
	}
	c, err := s.authenticate(r, form)
	if err != nil {
		return err
	}
	if c.Public() {
		// Anybody could ask, and try out what was found somewhere (RFC 7662 §2.1).
		return &Error{Code: "invalid_client", Description: "This client cannot prove who it is.", Status: http.StatusUnauthorized}
	}
	raw := form.Get("token")
	if raw == "" {
		return refuse("invalid_request", "token is missing.")
	}
	out := &introspection{}
	if strings.HasPrefix(raw, refreshPrefix) {
		err = s.introspectRefresh(r.Context(), c, raw, out)
	} else {
		err = s.introspectAccess(r.Context(), c, raw, out)
	}
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, out)
	return nil
}

func (s *Server) introspectAccess(ctx context.Context, c *proven, raw string, out *introspection) error {
	claims, err := s.accessClaimsOf(ctx, raw)
	if errors.Is(err, errNotOurs) {
		gatehouse.EventOf(ctx).Cause = err.Error()
		return nil
	}
	if err != nil {
		return err
	}
	if !s.mayIntrospect(c, claims) {
		gatehouse.EventOf(ctx).Cause = "the token is for others"
		return nil
	}
	good, err := s.alive(ctx, claims)
	if err != nil || !good {
		return err
	}
	*out = introspection{
		Active: true, Scope: words(claims.Scopes), Client: claims.ClientID, TokenType: bearerType,
		Expires: claims.Expires.Unix(), IssuedAt: claims.IssuedAt.Unix(), Subject: claims.Subject, Issuer: claims.Issuer, JTI: claims.JTI,
		ACR: claims.ACR, AMR: claims.AMR, AuthTime: seconds(claims.AuthTime), Details: claims.AuthorizationDetails,
		Roles: claims.Raw["roles"], Tenant: claims.Raw["tenant"], SID: claims.SID, GrantID: claims.GrantID, Act: claims.Raw["act"], Audience: claims.Raw["aud"],
	}
	switch {
	case claims.Cnf.JKT != "":
		out.TokenType, out.Cnf = dpopType, map[string]string{"jkt": claims.Cnf.JKT}
	case claims.Cnf.X5T != "":
		out.Cnf = map[string]string{"x5t#S256": claims.Cnf.X5T}
	}
	return nil
}

// mayIntrospect: those a resource names, for its tokens, and a token's own client.
func (s *Server) mayIntrospect(c *proven, claims *token.Claims) bool {
	if claims.ClientID == c.ID {
		return true
	}
	return slices.ContainsFunc(claims.Audience, func(id string) bool {
		t := s.resources[id]
		return t != nil && slices.Contains(t.Introspect, c.ID)
	})
}

// introspectRefresh looks a refresh token up for its own client; nobody else has
// any business with it.
func (s *Server) introspectRefresh(ctx context.Context, c *proven, raw string, out *introspection) error {
	g, gen, err := s.refreshGrant(ctx, c, raw)
	if err != nil || g == nil {
		return err
	}
	if g.Gen != gen {
		return nil // used: what comes next is the token endpoint's business
	}
	if _, err := s.grantor(ctx, c, g, s.cfg.People.SessionAlive); err != nil {
		if e, ok := errors.AsType[*Error](err); ok && e.Code == "invalid_grant" {
			return nil
		}
		return err
	}
	*out = introspection{
		Active: true, Scope: words(g.Scopes), Client: g.Client, TokenType: "refresh_token", Issuer: s.cfg.Issuer,
		Expires: minTime(g.Expires, g.Idle).Unix(), IssuedAt: seconds(g.Rotated), Subject: orElse(g.User, g.Client), GrantID: g.ID, SID: g.SID,
	}
	if g.JKT != "" {
		out.Cnf = map[string]string{"jkt": g.JKT}
	}
	return nil
}

// refreshGrant finds the family of a refresh token of c's, whatever key it is
// bound to; nil when it is not one.
func (s *Server) refreshGrant(ctx context.Context, c *proven, raw string) (*grant, int64, error) {
	id, gen, err := splitRefresh(raw)
	if err != nil {
		return nil, 0, nil //nolint:nilerr // not a token of ours, which is no error here
	}
	g, err := s.grantByID(ctx, id)
	if errors.Is(err, errNoGrant) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	if _, _, _, ok := s.openRefresh(raw, c.ID, g.JKT); !ok || g.Client != c.ID {
		return nil, 0, nil
	}
	return g, gen, nil
}

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

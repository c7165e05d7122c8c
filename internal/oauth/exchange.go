package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"

	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// Token types (RFC 8693 §3).
const (
	tokenTypeAccess = "urn:ietf:params:oauth:token-type:access_token" //nolint:gosec // a name, not a credential
	tokenTypeJWT    = "urn:ietf:params:oauth:token-type:jwt"          //nolint:gosec // likewise
)

// notExchangeable is what is said of every token that cannot be exchanged (RFC 8693
// §2.2.2 wants invalid_request); why is for the operator.
func notExchangeable(which string, cause error) *Error {
	return refuse("invalid_request", "The "+which+" is not valid, or this client may not exchange it.").because(cause)
}

// grantExchange gives a service that was called with a user's token one of its
// own to call on with (RFC 8693): never for more, never for longer, with the
// service as actor. Only access tokens of ours are taken, of clients that the
// operator has named, while everything they stand on still holds.
//
// A client's own token is not exchanged: it has no user to act for, and whoever
// it is can ask itself.
func (s *Server) grantExchange(ctx context.Context, c *proven, form url.Values) (*tokenResponse, error) {
	if c.Public() {
		return nil, refuse("unauthorized_client", "Anybody could be this client.")
	}
	requested := form.Get("requested_token_type")
	if requested != "" && requested != tokenTypeAccess && requested != tokenTypeJWT {
		return nil, refuse("invalid_request", "requested_token_type is not one that is given here.")
	}
	if err := s.bindable(c); err != nil {
		return nil, err
	}
	subject, user, err := s.subjectToken(ctx, c, form)
	if err != nil {
		return nil, err
	}
	act, err := s.actors(ctx, c, form, subject)
	if err != nil {
		return nil, err
	}
	scopes, err := exchangeScopes(c.Client, subject, form.Get("scope"))
	if err != nil {
		return nil, err
	}
	asked := slices.Clone(form["resource"])
	if a := form.Get("audience"); a != "" && !slices.Contains(asked, a) {
		asked = append(asked, a) // a name of a service here is its resource indicator
	}
	resource, err := s.exchangeResources(c.Client, subject, asked)
	if err != nil {
		return nil, err
	}
	if requested == tokenTypeJWT && slices.ContainsFunc(resource, func(id string) bool { return s.resources[id].Format != formatJWT }) {
		return nil, refuse("invalid_request", "The tokens of this resource are not JWTs that the client could read.")
	}
	details, err := exchangeDetails(subject, resource)
	if err != nil {
		return nil, err
	}
	// The subject's grant, as far as it goes into the new token: who ends that one, its
	// session or its user, ends this one.
	g := &grant{
		ID: subject.GrantID, Client: c.ID, User: user.ID, SID: subject.SID, Offline: subject.SID == "", Scopes: scopes, Resource: resource, Details: details,
		ACR: subject.ACR, AMR: subject.AMR, AuthTime: subject.AuthTime, Created: subject.IssuedAt, Expires: subject.Expires,
	}
	out, err := s.issue(ctx, c, g, issueOptions{Scopes: scopes, Resource: resource, Act: act, User: user})
	if err != nil {
		return nil, err
	}
	if out.IssuedTokenType = tokenTypeAccess; requested != "" {
		out.IssuedTokenType = requested
	}
	return out, nil
}

// ownToken reads a token of ours that is alive, with its user when it has one.
func (s *Server) ownToken(ctx context.Context, which, raw, kind string) (*token.Claims, *identity.User, error) {
	if raw == "" || kind != tokenTypeAccess && kind != tokenTypeJWT {
		return nil, nil, refuse("invalid_request", "The "+which+" and its type are needed, and must be of an access token.")
	}
	claims, err := s.accessClaimsOf(ctx, raw)
	if errors.Is(err, errNotOurs) {
		return nil, nil, notExchangeable(which, err)
	}
	if err != nil {
		return nil, nil, err
	}
	// What was revoked must not come back as a fresh token (CVE-2026-9097 of a peer).
	ok, err := s.alive(ctx, claims)
	if err != nil {
		return nil, nil, err
	}
	if !ok {
		return nil, nil, notExchangeable(which, errors.New("it was revoked, or its client is disabled"))
	}
	if claims.Subject == claims.ClientID {
		return claims, nil, nil
	}
	user, err := s.cfg.People.User(ctx, claims.Subject)
	switch {
	case errors.Is(err, identity.ErrUnknown):
		return nil, nil, notExchangeable(which, err)
	case err != nil:
		return nil, nil, err
	case !user.Active || user.ValidFrom.After(claims.IssuedAt):
		return nil, nil, notExchangeable(which, errors.New("its user is locked, or has a new password since"))
	}
	if claims.SID != "" {
		err := s.cfg.People.SessionAlive(ctx, claims.SID)
		if errors.Is(err, identity.ErrSession) {
			return nil, nil, notExchangeable(which, err)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	if claims.GrantID != "" {
		g, err := s.grantByID(ctx, claims.GrantID)
		switch {
		case errors.Is(err, errNoGrant):
			return nil, nil, notExchangeable(which, err)
		case err != nil:
			return nil, nil, err
		case !g.Revoked.IsZero():
			return nil, nil, notExchangeable(which, errors.New("its grant was revoked"))
		}
	}
	return claims, user, nil
}

func (s *Server) subjectToken(ctx context.Context, c *proven, form url.Values) (*token.Claims, *identity.User, error) {
	claims, user, err := s.ownToken(ctx, "subject_token", form.Get("subject_token"), form.Get("subject_token_type"))
	switch {
	case err != nil:
		return nil, nil, err
	case user == nil:
		return nil, nil, notExchangeable("subject_token", errors.New("it is a client's own, of no user"))
	case !slices.Contains(c.Exchange, "*") && !slices.Contains(c.Exchange, claims.ClientID):
		return nil, nil, notExchangeable("subject_token", fmt.Errorf("%s may not exchange tokens of %s", c.ID, claims.ClientID))
	case c.Tenant != "" && c.Tenant != user.Tenant:
		return nil, nil, notExchangeable("subject_token", errors.New("its user is of another tenant"))
	}
	if err := holdsKey(c, claims); err != nil {
		return nil, nil, notExchangeable("subject_token", err)
	}
	return claims, user, nil
}

// holdsKey wants the proof a bound token needs everywhere: else a thief could
// exchange it for one that is not bound to a key he lacks.
func holdsKey(c *proven, claims *token.Claims) error {
	switch {
	case !claims.Cnf.Bound():
		return nil
	case claims.Cnf.Unknown,
		claims.Cnf.JKT != "" && claims.Cnf.JKT != c.JKT,
		claims.Cnf.X5T != "" && claims.Cnf.X5T != c.X5T:
		return errors.New("it is bound to a key that the request does not prove")
	}
	return nil
}

// actors is the act claim of the new token (RFC 8693 §4.1): who acts now, and
// inside who acted before.
func (s *Server) actors(ctx context.Context, c *proven, form url.Values, subject *token.Claims) (map[string]any, error) {
	act := map[string]any{"sub": c.ID, "client_id": c.ID}
	if form.Has("actor_token") || form.Has("actor_token_type") {
		actor, _, err := s.ownToken(ctx, "actor_token", form.Get("actor_token"), form.Get("actor_token_type"))
		if err != nil {
			return nil, err
		}
		// A token somebody else was given does not make this client that somebody.
		if actor.ClientID != c.ID {
			return nil, notExchangeable("actor_token", errors.New("it was issued to another client"))
		}
		if err := holdsKey(c, actor); err != nil {
			return nil, notExchangeable("actor_token", err)
		}
		act["sub"] = actor.Subject
	}
	before, has := subject.Raw["act"]
	if !has {
		return act, nil
	}
	chain, ok := before.(map[string]any)
	depth := 1
	for next := chain; ok && next["act"] != nil; depth++ {
		next, ok = next["act"].(map[string]any)
	}
	if !ok || depth >= maxActors {
		return nil, notExchangeable("subject_token", fmt.Errorf("it has passed through %d hands already", depth))
	}
	act["act"] = chain
	return act, nil
}

// exchangeScopes are those asked for, which both the subject token and this
// client must have; none asked is what both have. Identity stays where it was
// given: no ID token and no refresh token comes of an exchange.
func exchangeScopes(c *Client, subject *token.Claims, text string) ([]string, error) {
	asked, err := scopesOf(text)
	if err != nil {
		return nil, err
	}
	may, err := scopesOf(c.Scope)
	if err != nil {
		return nil, err
	}
	may = slices.DeleteFunc(may, func(w string) bool { return oidcScope(w) || !slices.Contains(subject.Scopes, w) })
	if len(asked) == 0 {
		return may, nil
	}
	if !subset(asked, may) {
		return nil, refuse("invalid_scope", "The subject_token does not have all of that scope, or this client may not.")
	}
	return asked, nil
}

// exchangeResources are the APIs the new token is for: those of the subject
// token, or one that the operator has written into this client's list. That a
// client may use every API in its own name does not make it free to take users
// there.
func (s *Server) exchangeResources(c *Client, subject *token.Claims, asked []string) ([]string, error) {
	own := slices.DeleteFunc(slices.Clone(subject.Audience), func(id string) bool { return s.resources[id] == nil || !c.mayTarget(id) })
	if len(asked) == 0 {
		if len(own) == 0 {
			return nil, refuse("invalid_target", "Say with resource which API the token is for.")
		}
		return own, nil
	}
	for _, id := range asked {
		if s.resources[id] == nil || !slices.Contains(own, id) && !slices.Contains(c.Resources, id) {
			return nil, refuse("invalid_target", "This client gets no tokens of users for that resource.")
		}
	}
	return asked, nil
}

// exchangeDetails are the authorization_details that mean the same at the new
// token's resources: those that name one of them as location, and those without
// any when the resources are the subject token's.
func exchangeDetails(subject *token.Claims, resource []string) (json.RawMessage, error) {
	var keep []any
	for _, v := range subject.AuthorizationDetails {
		d, ok := v.(map[string]any)
		if !ok {
			continue
		}
		at := detailLocations(d)
		if len(at) == 0 && subset(resource, subject.Audience) || slices.ContainsFunc(at, func(id string) bool { return slices.Contains(resource, id) }) {
			keep = append(keep, d)
		}
	}
	if len(keep) == 0 {
		return nil, nil
	}
	return json.Marshal(keep)
}

package oauth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
)

// token is the token endpoint (RFC 6749 §3.2).
func (s *Server) token(w http.ResponseWriter, r *http.Request) error {
	form, err := parseForm(r)
	if err != nil {
		return err
	}
	c, err := s.authenticate(r, form)
	if err != nil {
		return err
	}
	ctx := r.Context()
	gatehouse.EventOf(ctx).Client = c.ID
	s.freshNonce(w.Header())
	grantType := form.Get("grant_type")
	use := s.grantHandler(grantType)
	switch {
	case grantType == "":
		return refuse("invalid_request", "grant_type is missing.")
	case use == nil:
		return refuse("unsupported_grant_type", "There is no such grant type here.")
	case !slices.Contains(c.GrantTypes, grantType):
		return refuse("unauthorized_client", "This client is not registered for that grant type.")
	}
	out, err := use(ctx, c, form)
	if err != nil {
		return err
	}
	w.Header().Set("Pragma", "no-cache") // RFC 6749 §5.1
	answer(w, http.StatusOK, out)
	return nil
}

// grantHandler returns what serves a grant type. The implicit grant, the password
// grant and hybrids have none.
func (s *Server) grantHandler(grantType string) func(context.Context, *proven, url.Values) (*tokenResponse, error) {
	switch grantType {
	case grantTypeCode:
		return s.grantCode
	case grantTypeRefresh:
		return s.grantRefresh
	case grantTypeClient:
		return s.grantClient
	case grantTypeDevice:
		return s.grantDevice
	case grantTypeExchange:
		return s.grantExchange
	}
	return nil
}

var errCode = refuse("invalid_grant", "The code is wrong, used, expired or not this client's.")

// grantCode redeems an authorization code (RFC 6749 §4.1.3, RFC 7636 §4.6). A code
// that is shown again ends what came of it (RFC 6749 §4.1.2): also when it comes
// from fifty requests at the same time, of which exactly one was answered with
// tokens, which are dead then.
func (s *Server) grantCode(ctx context.Context, c *proven, form url.Values) (*tokenResponse, error) {
	code := form.Get("code")
	if code == "" {
		return nil, refuse("invalid_request", "code is missing.")
	}
	if len(code) > 256 {
		return nil, errCode
	}
	if err := s.bindable(c); err != nil {
		return nil, err // before the code is used up: a nonce may be all that is missing
	}
	verifier := form.Get("code_verifier")
	if !isVerifier(verifier) {
		return nil, refuse("invalid_grant", "code_verifier must be 43 to 128 characters of A-Z a-z 0-9 - . _ ~ (RFC 7636).")
	}
	used, err := s.consumeCode(ctx, c, code, func(a *authRequest) error { return redeemable(a, c, form, verifier) })
	switch {
	case err != nil:
		return nil, err
	case used.Replayed:
		if err := s.revokeGrant(ctx, "", used.Grant.ID, "code shown again"); err != nil {
			return nil, err
		}
		e := errCode.again("the code was shown before, its grant has ended")
		e.Event = "code_reuse"
		return nil, e
	case used.Err != nil:
		return nil, used.Err
	case used.Grant == nil:
		return nil, errCode
	}
	out, err := s.issueFirst(ctx, c, used.Grant, used.Request.Nonce, form["resource"], form.Get("authorization_details"))
	if err != nil {
		// The code is used up, so nothing can come of this grant any more.
		if endErr := s.revokeGrant(context.WithoutCancel(ctx), "", used.Grant.ID, "no token could be made"); endErr != nil {
			return nil, endErr
		}
		return nil, err
	}
	return out, nil
}

// issueFirst mints the first tokens of a grant that has just begun to live.
func (s *Server) issueFirst(ctx context.Context, c *proven, g *grant, nonce string, asked []string, wanted string) (*tokenResponse, error) {
	user, err := s.grantor(ctx, c, g, s.cfg.People.SessionUsed)
	if err != nil {
		return nil, err
	}
	resource, err := narrow(g.Resource, asked)
	if err != nil {
		return nil, err
	}
	details, err := s.narrowDetails(c.Client, g.Details, wanted)
	if err != nil {
		return nil, err
	}
	return s.issue(ctx, c, g, issueOptions{
		Scopes: g.Scopes, Resource: resource, Details: details, Nonce: nonce,
		IDToken: user != nil && slices.Contains(g.Scopes, scopeOpenID), Refresh: mayRefresh(c.Client), User: user,
	})
}

// redeemable says whether who shows a code is who asked for it.
func redeemable(a *authRequest, c *proven, form url.Values, verifier string) error {
	sum := sha256.Sum256([]byte(verifier))
	ok := subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(a.Challenge))
	// OAuth 2.1 no longer has redirect_uri here; who sends it must mean the same.
	if given := form.Get("redirect_uri"); given != "" && given != a.RedirectURI {
		ok = 0
	}
	if a.JKT != "" && a.JKT != c.JKT { // RFC 9449 §10
		ok = 0
	}
	if ok != 1 || a.Client != c.ID {
		return errCode.again("redirect_uri, verifier or key is not that of the request")
	}
	_, err := narrow(a.Resource, form["resource"])
	return err
}

// isVerifier checks the grammar of RFC 7636 §4.1.
func isVerifier(v string) bool {
	if len(v) < 43 || len(v) > 128 {
		return false
	}
	for i := range len(v) {
		switch c := v[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_', c == '~':
		default:
			return false
		}
	}
	return true
}

// again is a copy of e with a cause of its own, only for the operator.
func (e *Error) again(cause string) *Error {
	out := *e
	out.Err = errors.New(cause)
	return &out
}

// grantor returns the user of g, a grant to c, as it is now: see granted.
func (s *Server) grantor(ctx context.Context, c *proven, g *grant, session func(ctx context.Context, sid string) error) (*identity.User, error) {
	if g.Client != c.ID {
		return nil, errEnded.again("it is another client's")
	}
	return s.granted(ctx, g, session)
}

var errEnded = refuse("invalid_grant", "The grant has ended.")

// granted returns the user of g as it is now, nil when g is of a client alone, and
// refuses what somebody has put an end to: the user, the client, the session, a new
// password, a lockdown. How its session is asked is the caller's: tokens that are
// made keep it from being idle, a look at them does not.
func (s *Server) granted(ctx context.Context, g *grant, session func(ctx context.Context, sid string) error) (*identity.User, error) {
	if !g.live(time.Now()) {
		return nil, errEnded.again("revoked or expired")
	}
	if g.User == "" {
		return nil, nil
	}
	u, err := s.cfg.People.User(ctx, g.User)
	switch {
	case errors.Is(err, identity.ErrUnknown):
		return nil, errEnded.again("the user was deleted")
	case err != nil:
		return nil, err
	case !u.Active:
		return nil, errEnded.again("the user is locked")
	case u.ValidFrom.After(g.Created), u.ValidFrom.After(g.AuthTime):
		// The second is for a grant on its way while the password was changed: made after
		// that, out of a session that had ended by it.
		return nil, errEnded.again("the user has a new password or was locked since")
	}
	if !g.Offline && g.SID != "" {
		switch err := session(ctx, g.SID); {
		case errors.Is(err, identity.ErrSession):
			return nil, errEnded.again("its session has ended")
		case err != nil:
			return nil, err
		}
	}
	return u, nil
}

// narrow picks what is asked for out of what was granted; nothing asked is all.
func narrow(granted, asked []string) ([]string, error) {
	if len(asked) == 0 {
		return granted, nil
	}
	if !subset(asked, granted) {
		return nil, refuse("invalid_target", "That resource was not granted.")
	}
	return asked, nil
}

// grantClient gives a client a token for itself (RFC 6749 §4.4). It writes nothing
// and reads nothing but what is in memory.
func (s *Server) grantClient(ctx context.Context, c *proven, form url.Values) (*tokenResponse, error) {
	if c.Public() {
		return nil, refuse("unauthorized_client", "Anybody could be this client.")
	}
	scopes, err := clientScopes(c.Client, form.Get("scope"))
	if err != nil {
		return nil, err
	}
	details, err := s.judgeDetails(c.Client, form.Get("authorization_details"))
	if err != nil {
		return nil, err
	}
	return s.issue(ctx, c, nil, issueOptions{Scopes: scopes, Resource: form["resource"], Details: details})
}

// clientScopes reads the scope a client asks for itself; none is all it may have,
// but for those that are about a user.
func clientScopes(c *Client, text string) ([]string, error) {
	asked, err := scopesOf(text)
	if err != nil {
		return nil, err
	}
	may, err := scopesOf(c.Scope)
	if err != nil {
		return nil, err
	}
	may = slices.DeleteFunc(may, oidcScope)
	if len(asked) == 0 {
		return may, nil
	}
	if !subset(asked, may) {
		return nil, refuse("invalid_scope", "This client may not ask for all of that scope.")
	}
	return asked, nil
}

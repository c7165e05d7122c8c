package oauth

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth/pages"
)

// authorize is the authorization endpoint (RFC 6749 §3.1, OpenID Connect Core
// §3.1.2.1). Until the redirect URI is known to be the client's, errors are pages.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) error {
	v, repeated, err := authorizeFields(w, r)
	if err != nil {
		return err
	}
	ctx := r.Context()
	if repeated == "client_id" || repeated == "redirect_uri" {
		return refuse("invalid_request", "The application sent "+repeated+" twice.")
	}
	c, err := s.client(ctx, v.Get("client_id"))
	if errors.Is(err, errUnknownClient) {
		return refuse("invalid_client", "No application of this name is registered here.").because(err)
	}
	if err != nil {
		return err
	}
	gatehouse.EventOf(ctx).Client = c.ID
	var a *authRequest
	var where *redirect
	if uri := v.Get("request_uri"); strings.HasPrefix(uri, requestURN) {
		// RFC 9126 §4: what else is in the query counts for nothing.
		if a, err = s.pushed(ctx, uri, c.ID); err != nil {
			return err
		}
		if !c.mayRedirect(a.RedirectURI) {
			return refuse("invalid_request", "The redirect_uri is not one of this application.") // any more
		}
	} else if a, where, err = s.judge(ctx, c, v, false); err == nil && repeated != "" {
		err = refuse("invalid_request", "The parameter "+repeated+" is repeated.")
	}
	if err != nil {
		if where == nil {
			return err
		}
		return s.answerError(w, r, c, where, err)
	}
	if r.Method == http.MethodPost {
		// A POST from another site comes without our cookies, its answer's redirect
		// with them: it goes on as a GET.
		id, err := s.wait(ctx, a, "")
		if err != nil {
			return err
		}
		to(w, s.Continue(id))
		return nil
	}
	return s.proceed(w, r, &flow{client: c, request: a})
}

// authorizeFields reads the parameters of GET and POST.
func authorizeFields(w http.ResponseWriter, r *http.Request) (url.Values, string, error) {
	if r.Method != http.MethodPost {
		return parseFields(r.URL.RawQuery)
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/x-www-form-urlencoded" || r.URL.RawQuery != "" {
		return nil, "", refuse("invalid_request", "The request is not a form.")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	if err != nil {
		return nil, "", refuse("invalid_request", "The form could not be read, or is too long.").because(err)
	}
	return parseFields(string(body))
}

// freshFor is how long a sign-in counts as made for the request that asked for it.
const freshFor = 10 * time.Minute

// A flow is one authorization request on its way: fresh from the client, or back
// after its user has signed in or was asked.
type flow struct {
	client  *Client
	request *authRequest
	id      string    // of the waiting request; "" when it has not had to wait
	began   time.Time // of the wait
	allowed bool      // the user has just said yes
}

// proceed takes a request one step on: to the sign-in page, to the question, or
// back to its client with a code or an error.
func (s *Server) proceed(w http.ResponseWriter, r *http.Request, f *flow) error {
	session, user, _, err := s.pages.Session(r)
	if errors.Is(err, identity.ErrSession) {
		session, user, err = nil, nil, nil
	}
	if err != nil {
		return err
	}
	need, err := s.missing(r.Context(), f, session)
	switch {
	case err != nil:
		return s.answerError(w, r, f.client, f.request.to(), err)
	case need.login:
		return s.ask(w, r, f, "/signin")
	}
	if !f.allowed {
		asks, err := s.mustAsk(r.Context(), f, user.ID)
		switch {
		case err != nil:
			return err
		case asks && slices.Contains(f.request.Prompt, promptNone):
			return s.answerError(w, r, f.client, f.request.to(), refuse("consent_required", "The user has to be asked."))
		case asks && f.id == "":
			return s.ask(w, r, f, "/authorize/continue")
		case asks:
			return s.showConsent(w, r, f, session, user)
		}
	}
	return s.complete(w, r, f, session)
}

// needs is what a request lacks before it can be answered.
type needs struct {
	login  bool
	reauth bool     // the session there is will not do
	choose bool     // of accounts
	acr    []string // of which one must be reached
}

// missing says what the session lacks for what was asked. An Error is for the
// client.
func (s *Server) missing(ctx context.Context, f *flow, session *identity.Session) (needs, error) {
	a := f.request
	none := slices.Contains(a.Prompt, promptNone)
	if session == nil {
		if none {
			return needs{}, refuse("login_required", "Nobody is signed in.")
		}
		// An upstream, which may have a session of its own, must ask again, too.
		fresh := a.MaxAge != nil || slices.Contains(a.Prompt, "login")
		return needs{login: true, reauth: fresh, choose: slices.Contains(a.Prompt, "select_account")}, nil
	}
	// Proved since the request began: every demand for a fresh proof is met. Not in the same
	// millisecond: that may have been just before.
	// Nor long ago: a question left open on a screen is answered by whoever passes.
	fresh := f.id != "" && session.AuthTime.After(f.began) && time.Since(session.AuthTime) < freshFor
	if a.IDTokenHint != "" && a.IDTokenHint != session.User {
		if none || fresh {
			return needs{}, refuse("login_required", "Another user is signed in.")
		}
		return needs{login: true, reauth: true, choose: true}, nil
	}
	if !fresh {
		switch {
		case slices.Contains(a.Prompt, "select_account"):
			return needs{login: true, reauth: true, choose: true}, nil
		case slices.Contains(a.Prompt, "login"):
			return needs{login: true, reauth: true}, nil
		case a.MaxAge != nil && (*a.MaxAge == 0 || int64(time.Since(session.AuthTime)/time.Second) >= *a.MaxAge):
			if none {
				return needs{}, refuse("login_required", "The user signed in too long ago.")
			}
			return needs{login: true, reauth: true}, nil
		}
	}
	return s.stepUp(ctx, a, session, none)
}

// stepUp asks for a stronger proof when one was asked for (RFC 9470). A wish is
// asked for only if the user has what it takes; a demand that cannot be met is an
// error.
func (s *Server) stepUp(ctx context.Context, a *authRequest, session *identity.Session, none bool) (needs, error) {
	if len(a.ACR) == 0 || reached(a.ACR, session.ACR) != "" {
		return needs{}, nil
	}
	unmet := &Error{Code: "unmet_authentication_requirements", Description: "The user cannot sign in as strongly as that."}
	if none {
		if a.ACREssential {
			return needs{}, unmet
		}
		return needs{}, nil
	}
	have, err := s.cfg.People.Factors(ctx, session.User)
	if err != nil {
		return needs{}, err
	}
	can := identity.ACRPassword
	switch {
	case have.Passkeys > 0:
		can = identity.ACRPhishing
	case have.TOTP:
		can = identity.ACRTwo
	}
	switch {
	case reached(a.ACR, can) != "":
		return needs{login: true, acr: a.ACR}, nil
	case a.ACREssential:
		return needs{}, unmet
	}
	return needs{}, nil
}

// reached is the strongest of the classes asked for that have comprises, or "".
func reached(asked []string, have string) string {
	best, rank := "", slices.Index(knownACR, have)
	for i, class := range knownACR {
		if i <= rank && slices.Contains(asked, class) {
			best = class
		}
	}
	return best
}

// ask lets a request wait, bound to the browser, and sends that browser to a page.
func (s *Server) ask(w http.ResponseWriter, r *http.Request, f *flow, path string) error {
	if f.id == "" {
		id, err := s.wait(r.Context(), f.request, s.pages.Browser(w, r))
		if err != nil {
			return err
		}
		f.id = id
	}
	to(w, s.base+path+"?request="+url.QueryEscape(f.id))
	return nil
}

// proceedWaiting goes on with a request that waited: GET /authorize/continue.
func (s *Server) proceedWaiting(w http.ResponseWriter, r *http.Request) error {
	f, err := s.waiting(w, r, r.URL.Query().Get("request"))
	if err != nil {
		return err
	}
	return s.proceed(w, r, f)
}

// errWaiting: the request is unknown, over, or another browser's.
var errWaiting = refuse("invalid_request", "This sign-in has expired, was finished, or began in another browser. Go back to the application and start again.").because(pages.ErrWaiting)

// waiting finds the request that waits for this browser.
func (s *Server) waiting(w http.ResponseWriter, r *http.Request, id string) (*flow, error) {
	browser := s.pages.Browser(w, r)
	a, began, err := s.waitingRequest(r.Context(), id, browser)
	if err != nil {
		return nil, err
	}
	c, err := s.client(r.Context(), a.Client)
	if errors.Is(err, errUnknownClient) {
		return nil, errWaiting
	}
	if err != nil {
		return nil, err
	}
	if !c.mayRedirect(a.RedirectURI) {
		return nil, errWaiting // taken from the client while the request waited
	}
	gatehouse.EventOf(r.Context()).Client = c.ID
	return &flow{client: c, request: a, id: id, began: began}, nil
}

// Continue is the path that goes on with a waiting request.
func (s *Server) Continue(id string) string {
	return s.base + "/authorize/continue?request=" + url.QueryEscape(id)
}

// Waiting tells the sign-in page what the request id waits for.
func (s *Server) Waiting(ctx context.Context, r *http.Request, id string) (*pages.Waiting, error) {
	browser := r.CookiesNamed("__Host-gatehouse-flow")
	if len(browser) != 1 {
		return nil, pages.ErrWaiting
	}
	a, began, err := s.waitingRequest(ctx, id, browser[0].Value)
	if err != nil {
		return nil, err
	}
	c, err := s.client(ctx, a.Client)
	if errors.Is(err, errUnknownClient) {
		return nil, pages.ErrWaiting
	}
	if err != nil {
		return nil, err
	}
	session, _, _, err := s.pages.Session(r)
	if errors.Is(err, identity.ErrSession) {
		session, err = nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := &pages.Waiting{Client: shown(c), LoginHint: a.LoginHint, RedirectURI: a.RedirectURI}
	// An error is the client's to hear, at the next step; here nothing more is asked.
	need, err := s.missing(ctx, &flow{client: c, request: a, id: id, began: began}, session)
	if e, ok := errors.AsType[*Error](err); err != nil && (!ok || e.Status >= 500) {
		return nil, err
	}
	out.ACR, out.Reauth, out.Select = need.acr, need.reauth, need.choose
	return out, nil
}

// shown is a client as people see it.
func shown(c *Client) pages.Client {
	return pages.Client{Name: orElse(c.ClientName, c.ID), URI: c.ClientURI, PolicyURI: c.PolicyURI, TOSURI: c.TOSURI, Stranger: !vetted(c)}
}

// vetted reports whether an operator has looked at a client's redirect URIs.
func vetted(c *Client) bool { return c.Origin == originOperator }

package oauth

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth/pages"
)

// A logoutRequest is what a client asks (OpenID Connect RP-Initiated Logout §2).
type logoutRequest struct {
	client *Client // nil: unknown
	sub    string  // of the hint
	sid    string
	back   string // where to go then; "" when it is not the client's
	state  string
}

var logoutFields = []string{"id_token_hint", "client_id", "post_logout_redirect_uri", "state", "logout_hint", "ui_locales"}

// logout signs a user out because a client asks: GET and POST /logout. An ID token
// of this very session is proof enough that it was its user who asked the client;
// without one the user is asked here, as else any page could sign people out.
func (s *Server) logout(w http.ResponseWriter, r *http.Request) error {
	var body bytes.Buffer
	if r.Method == http.MethodPost {
		r.Body = io.NopCloser(io.TeeReader(r.Body, &body))
	}
	v, repeated, err := authorizeFields(w, r)
	if err != nil {
		return err
	}
	if r.Method == http.MethodPost && v.Has("csrf") {
		r.Body = io.NopCloser(&body) // of our own page, which checks its forms itself
		return s.logoutAnswer(w, r)
	}
	if repeated != "" {
		return refuse("invalid_request", "The application sent "+repeated+" twice.")
	}
	q, err := s.judgeLogout(r.Context(), v)
	if err != nil {
		return err
	}
	if r.Method == http.MethodPost {
		// From another site it comes without our cookie; as a GET it has it.
		again := url.Values{}
		for _, name := range logoutFields {
			if v.Has(name) {
				again.Set(name, v.Get(name))
			}
		}
		to(w, s.base+"/logout?"+again.Encode())
		return nil
	}
	session, user, _, err := s.pages.Session(r)
	switch {
	case errors.Is(err, identity.ErrSession):
		if q.client != nil && !vetted(q.client) {
			// Nobody has seen a page: a client that registered itself would make a
			// redirector of us (RFC 9700 §4.11.2).
			q.back = ""
		}
		return s.loggedOut(w, r, q)
	case err != nil:
		return err
	case q.sid == session.ID && q.sub == session.User:
		return s.endHere(w, r, q, session)
	}
	view := pages.LogoutView{User: user.Name, RedirectURI: q.back}
	if q.client != nil {
		view.Client = shown(q.client)
	}
	for _, name := range logoutFields {
		if v.Has(name) {
			view.Fields = append(view.Fields, pages.Field{Name: name, Value: v.Get(name)})
		}
	}
	s.pages.Logout(w, r, view)
	return nil
}

// logoutAnswer takes what the user said on our page.
func (s *Server) logoutAnswer(w http.ResponseWriter, r *http.Request) error {
	form, err := s.pages.Form(w, r, append([]string{"decision"}, logoutFields...)...)
	if err != nil {
		return err
	}
	q, err := s.judgeLogout(r.Context(), form)
	if err != nil {
		return err
	}
	if form.Get("decision") != "logout" {
		to(w, s.base+"/account")
		return nil
	}
	session, _, _, err := s.pages.Session(r)
	if errors.Is(err, identity.ErrSession) {
		return s.loggedOut(w, r, q)
	}
	if err != nil {
		return err
	}
	return s.endHere(w, r, q, session)
}

// judgeLogout reads the request. A redirect URI that is not registered for the
// client is refused, not left out: the user would be stranded without a word.
func (s *Server) judgeLogout(ctx context.Context, v url.Values) (*logoutRequest, error) {
	q := &logoutRequest{state: v.Get("state")}
	id := v.Get("client_id")
	if hint := v.Get("id_token_hint"); hint != "" {
		claims, err := s.hintOf(ctx, hint)
		if errors.Is(err, errNotOurs) {
			return nil, refuse("invalid_request", "The id_token_hint is not an ID token of ours.").because(err)
		}
		if err != nil {
			return nil, err
		}
		if id != "" && id != claims.Audience[0] {
			return nil, refuse("invalid_request", "The id_token_hint is another application's.")
		}
		id, q.sub, q.sid = claims.Audience[0], claims.Subject, claims.SID
	}
	if id != "" {
		c, err := s.client(ctx, id)
		if errors.Is(err, errUnknownClient) {
			return nil, refuse("invalid_request", "No application of this name is registered here.")
		}
		if err != nil {
			return nil, err
		}
		q.client = c
		gatehouse.EventOf(ctx).Client = c.ID
	}
	q.back = v.Get("post_logout_redirect_uri")
	if q.back != "" && (q.client == nil || !slices.Contains(q.client.PostLogoutRedirectURIs, q.back)) {
		return nil, refuse("invalid_request", "The post_logout_redirect_uri is not one of this application.")
	}
	return q, nil
}

func (s *Server) endHere(w http.ResponseWriter, r *http.Request, q *logoutRequest, session *identity.Session) error {
	if err := s.EndSession(r.Context(), session.User, session.ID); err != nil {
		return err
	}
	return s.loggedOut(w, r, q)
}

// loggedOut goes back to the client, or says that it is done.
func (s *Server) loggedOut(w http.ResponseWriter, r *http.Request, q *logoutRequest) error {
	s.pages.SignedOut(w)
	if q.back == "" {
		s.pages.Logout(w, r, pages.LogoutView{Done: true})
		return nil
	}
	target := q.back
	if q.state != "" {
		sep := "?"
		if strings.Contains(target, "?") {
			sep = "&"
		}
		target += sep + url.Values{"state": {q.state}}.Encode()
	}
	to(w, target)
	return nil
}

// EndSession ends a session on behalf of actor, with every grant that was not to
// outlive it. Its revocation is what tells the clients of it (back-channel logout).
func (s *Server) EndSession(ctx context.Context, actor, sid string) error {
	err := s.cfg.People.End(ctx, actor, sid)
	if err != nil && !errors.Is(err, identity.ErrSession) {
		return fmt.Errorf("oauth: %w", err)
	}
	// The session is over, and refresh asks for it: what follows keeps the tables
	// and the lists tidy, it is not what refuses.
	err = s.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
		_, err := s.revokeGrants(ctx, tx, time.Now(), `sid = $2 AND offline = 0`, sid)
		return err
	})
	if err != nil {
		return fmt.Errorf("oauth: ending the grants of session %s: %w", sid, err)
	}
	return nil
}

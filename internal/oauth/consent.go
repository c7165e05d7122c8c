package oauth

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/gatehouse-api/gatehouse/internal/store"

	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth/pages"
)

const (
	kindWaiting   = "waiting"
	waitingLife   = 30 * time.Minute // a mail with a code may have to arrive meanwhile
	signedConsent = "consent question"
	maxRequests   = 50_000 // that wait, or were pushed
)

// wait keeps a request until its user has done what is needed. browser is the
// cookie of who alone may go on; "" binds it to the first that does.
func (s *Server) wait(ctx context.Context, a *authRequest, browser string) (string, error) {
	text, err := json.Marshal(a)
	if err != nil {
		return "", err
	}
	id, now := random256(), time.Now()
	bound := ""
	if browser != "" {
		bound = digest(browser)
	}
	return id, s.keepRequest(ctx, keptRequest{id, kindWaiting, a.Client, bound, string(text), now, now.Add(waitingLife)})
}

// A keptRequest is a row of requests.
type keptRequest struct {
	id, kind, client, browser, request string
	created, expires                   time.Time
}

// keepRequest writes a request that waits. Strangers can begin as many as they
// like: there is an end, and it is an error before the disk is full.
func (s *Server) keepRequest(ctx context.Context, k keptRequest) error {
	return s.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
		var waiting int64
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM requests WHERE expires > $1`, k.created.UnixMilli()).Scan(&waiting); err != nil {
			return err
		}
		if waiting >= maxRequests {
			return fmt.Errorf("oauth: %d authorization requests wait already", waiting)
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO requests (sha256, kind, client, browser, request, created, expires, consumed) VALUES ($1, $2, $3, $4, $5, $6, $7, 0)`,
			digest(k.id), k.kind, k.client, k.browser, k.request, k.created.UnixMilli(), k.expires.UnixMilli())
		return err
	})
}

// waitingRequest reads a request that waits for this browser; errWaiting when
// there is none.
func (s *Server) waitingRequest(ctx context.Context, id, browser string) (*authRequest, time.Time, error) {
	var text, bound string
	var created int64
	if len(id) != 43 || browser == "" {
		return nil, time.Time{}, errWaiting
	}
	read := func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT request, browser, created FROM requests WHERE sha256 = $1 AND kind = $2 AND consumed = 0 AND expires > $3`,
			digest(id), kindWaiting, time.Now().UnixMilli()).Scan(&text, &bound, &created)
	}
	err := s.cfg.DB.Read(ctx, read)
	if err == nil && bound == "" {
		err = s.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
			// Of two browsers one is first, and the request is its own.
			_, err := tx.ExecContext(ctx, `UPDATE requests SET browser = $1 WHERE sha256 = $2 AND browser = ''`, digest(browser), digest(id))
			if err != nil {
				return err
			}
			return read(tx)
		})
	}
	switch {
	case errors.Is(err, sql.ErrNoRows) || err == nil && bound != digest(browser):
		return nil, time.Time{}, errWaiting
	case err != nil:
		return nil, time.Time{}, err
	}
	var a authRequest
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		return nil, time.Time{}, err
	}
	return &a, store.Moment(created), nil
}

// mustAsk reports whether the user has to be asked before a code is made.
func (s *Server) mustAsk(ctx context.Context, f *flow, user string) (bool, error) {
	a, c := f.request, f.client
	switch {
	case slices.Contains(a.Prompt, "consent"):
		return true, nil
	case c.Trusted:
		return false, nil
	case slices.Contains(a.Scopes, scopeOffline), len(a.Details) > 0:
		return true, nil // OpenID Connect Core §11; details are of one occasion
	case c.Public() && !strings.HasPrefix(a.RedirectURI, "https://"):
		return true, nil // any app of the machine can be this one (RFC 8252 §8.6)
	}
	var scope, resource string
	err := s.cfg.DB.Read(ctx, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT scope, resource FROM consents WHERE user_id = $1 AND client = $2`, user, c.ID).Scan(&scope, &resource)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return true, nil
	}
	return !subset(a.agreed(), strings.Fields(scope)) || !subset(a.Resource, strings.Fields(resource)), err
}

// asked is the scope of a, and those that its claims parameter asks for parts of.
func (a *authRequest) asked() []string {
	return union(a.Scopes, parseClaimsParameter(a.Claims).scopes())
}

// agreed is what a user agrees to with a: each scope at each resource. Kept apart,
// a scope allowed at one API and another one allowed at a second would make both
// allowed at both. No scope has a backslash, so a pair has one meaning.
func (a *authRequest) agreed() (pairs []string) {
	for _, w := range a.asked() {
		at := a.Resource
		if oidcScope(w) || len(at) == 0 { // at userinfo, whatever the token is for
			at = []string{""}
		}
		for _, id := range at {
			pairs = append(pairs, w+`\`+id)
		}
	}
	return pairs
}

// showConsent asks. The question names the session it is asked in: an answer that
// comes after somebody else has signed in is an answer to nothing.
func (s *Server) showConsent(w http.ResponseWriter, r *http.Request, f *flow, session *identity.Session, user *identity.User) error {
	question, err := s.question(f.id, session.ID)
	if err != nil {
		return err
	}
	v := pages.ConsentView{
		Request: question, Client: shown(f.client), User: user.Name, RedirectURI: f.request.RedirectURI,
		Offline: slices.Contains(f.request.Scopes, scopeOffline),
	}
	for _, w := range f.request.asked() {
		if w != scopeOffline {
			v.Scopes = append(v.Scopes, s.scopeItem(w))
		}
	}
	for _, id := range f.request.Resource {
		if t := s.resources[id]; t != nil {
			v.Resources = append(v.Resources, pages.Item{Name: orElse(t.Name, id), Text: id})
		}
	}
	v.Details = detailItems(f.request.Details)
	s.pages.Consent(w, r, v)
	return nil
}

// question is the one-time id of a consent form: the waiting request, which an
// answer uses up, and a tag that binds it to the session.
func (s *Server) question(id, sid string) (string, error) {
	tag, err := s.cfg.Seal.Sign(signedConsent, []byte(id+" "+sid))
	if err != nil {
		return "", err
	}
	return id + "." + base64.RawURLEncoding.EncodeToString(tag), nil
}

var scopeSentences = map[string]string{
	scopeOpenID:  "Know who you are here",
	"profile":    "See your profile: your name, groups and roles",
	"email":      "See your e-mail address",
	"address":    "See your postal address",
	"phone":      "See your phone number",
	scopeOffline: "Keep this access when you are signed out",
}

func (s *Server) scopeItem(scope string) pages.Item {
	text := s.cfg.Scopes[scope]
	if text == "" {
		text = scopeSentences[scope]
	}
	return pages.Item{Name: scope, Text: text}
}

// detailItems shows authorization_details whole: people agree to what they see.
func detailItems(details json.RawMessage) []pages.Item {
	var list []map[string]any
	dec := json.NewDecoder(bytes.NewReader(details))
	dec.UseNumber() // an amount is shown to its last digit
	if len(details) == 0 || dec.Decode(&list) != nil {
		return nil
	}
	items := make([]pages.Item, 0, len(list))
	for _, d := range list {
		kind, _ := d["type"].(string)
		delete(d, "type")
		rest, err := json.MarshalIndent(d, "", "  ")
		if err != nil || len(d) == 0 {
			rest = nil
		}
		text := kind
		if len(rest) > 0 {
			text += ": " + plainText(string(rest))
		}
		items = append(items, pages.Item{Name: kind, Text: text})
	}
	return items
}

// plainText spells out what has no shape of its own: a mark that turns the text
// around would have people agree to something else than they read.
func plainText(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r == '\n' || unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// consent takes the answer: POST /consent.
func (s *Server) consent(w http.ResponseWriter, r *http.Request) error {
	form, err := s.pages.Form(w, r, "request", "decision")
	if err != nil {
		return err
	}
	id, _, _ := strings.Cut(form.Get("request"), ".")
	f, err := s.waiting(w, r, id)
	if err != nil {
		return err
	}
	session, _, _, err := s.pages.Session(r)
	switch {
	case errors.Is(err, identity.ErrSession):
		to(w, s.Continue(id)) // it ended while the page was open
		return nil
	case err != nil:
		return err
	}
	want, err := s.question(id, session.ID)
	if err != nil {
		return err
	}
	if form.Get("request") != want {
		to(w, s.Continue(id)) // another user's answer, or the key rotated: ask again
		return nil
	}
	switch form.Get("decision") {
	case "allow":
		f.allowed = true
		return s.proceed(w, r, f)
	case "deny":
		if err := s.refuseRequest(r.Context(), f); err != nil {
			return err
		}
		return s.answerError(w, r, f.client, f.request.to(), refuse("access_denied", "The user said no."))
	}
	return refuse("invalid_request", "The answer is neither yes nor no.")
}

// refuseRequest uses a request up that its user has said no to.
func (s *Server) refuseRequest(ctx context.Context, f *flow) error {
	return s.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
		now := time.Now()
		if err := s.consume(ctx, tx, f.id, now); err != nil {
			return err
		}
		return s.answered(ctx, tx, f.request, now)
	})
}

// consume uses a waiting request up; errWaiting when somebody was faster.
func (s *Server) consume(ctx context.Context, tx *sql.Tx, id string, now time.Time) error {
	res, err := tx.ExecContext(ctx, `UPDATE requests SET consumed = $1 WHERE sha256 = $2 AND kind = $3 AND consumed = 0 AND expires > $1`,
		now.UnixMilli(), digest(id), kindWaiting)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return errors.Join(errWaiting, err)
	}
	return nil
}

// complete makes the grant and its code, all in one transaction with the request
// it uses up and the consent it remembers, and sends the code to the client.
func (s *Server) complete(w http.ResponseWriter, r *http.Request, f *flow, session *identity.Session) error {
	ctx, a := r.Context(), f.request
	acr := session.ACR
	if class := reached(a.ACR, acr); class != "" {
		acr = class // one of those that were asked for (OpenID Connect Core §5.5.1.1)
	}
	var code string
	err := s.cfg.DB.Write(ctx, func(tx *sql.Tx) error {
		now := time.UnixMilli(time.Now().UnixMilli())
		if f.id != "" {
			if err := s.consume(ctx, tx, f.id, now); err != nil {
				return err
			}
		}
		if err := s.answered(ctx, tx, a, now); err != nil {
			return err
		}
		if f.allowed {
			if err := s.rememberConsent(ctx, tx, session.User, a, now); err != nil {
				return err
			}
		}
		g := &grant{
			Client: a.Client, User: session.User, SID: session.ID, Scopes: a.Scopes, Resource: a.Resource, Details: a.Details, Claims: a.Claims,
			ACR: acr, AMR: session.AMR, AuthTime: session.AuthTime, Offline: slices.Contains(a.Scopes, scopeOffline), Created: now,
		}
		if err := s.newGrant(ctx, tx, g); err != nil {
			return err
		}
		var err error
		code, err = s.newCode(ctx, tx, g, a, now)
		return err
	})
	if err != nil {
		return err
	}
	return s.answerClient(w, r, a.to(), url.Values{"code": {code}})
}

// rememberConsent adds what was allowed to what is remembered.
func (s *Server) rememberConsent(ctx context.Context, tx *sql.Tx, user string, a *authRequest, now time.Time) error {
	var scope, resource string
	err := tx.QueryRowContext(ctx, `SELECT scope, resource FROM consents WHERE user_id = $1 AND client = $2`, user, a.Client).Scan(&scope, &resource)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO consents (user_id, client, scope, resource, granted) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (user_id, client) DO UPDATE SET scope = excluded.scope, resource = excluded.resource, granted = excluded.granted`,
		user, a.Client, words(union(strings.Fields(scope), a.agreed())), words(union(strings.Fields(resource), a.Resource)), now.UnixMilli())
	return err
}

func union(a, b []string) []string {
	out := slices.Clone(a)
	for _, w := range b {
		if !slices.Contains(out, w) {
			out = append(out, w)
		}
	}
	return out
}

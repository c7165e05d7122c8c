package pages

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
)

// signInView is the first page: who are you? With Again, prove it once more.
type signInView struct {
	*next
	Client    Client // that waits; its name is "" when none does
	Again     bool
	Login     string // in the field for the name
	Password  bool
	Step      string // of the passkey form: "" whoever, "up" the session's user
	Passkey   bool
	Upstreams []link
	Other     string // link to sign in as somebody else; ""
}

type link struct{ Text, URL string }

// notices are what a page may say first; a link can choose one, but not write one.
var notices = map[string]string{
	"reset":    "Your new password is set. Sign in with it.",
	"password": "Your password is changed and you were signed out everywhere. Sign in with the new one.",
	"expired":  "That took too long. Please sign in again.",
	"signout":  "You are signed out.",
	"again":    "Thank you. Please do once more what you wanted to do.",
	"saved":    "Saved.",
	"mail":     "A mail is on its way. Open the link in it.",
	"passkey":  "Your passkey is added.",
	"removed":  "Removed.",
	"totp":     "The authenticator app is removed.",
	"ended":    "Signed out there.",
	"others":   "Signed out everywhere else.",
	"app":      "Its access is taken back.",
	"revoked":  "The key is revoked.",
}

func (p *Pages) getSignIn(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	n, err := p.next(r, q.Get("request"), q.Get("to"))
	if err != nil {
		return err
	}
	s, u, _, err := p.Session(r)
	switch {
	case errors.Is(err, identity.ErrSession):
	case err != nil:
		return err
	case q.Get("as") == "other":
	case n.again(s):
	case n.lacks(s) != nil:
		return p.showStepUp(w, r, n, s, u, page{})
	default:
		p.see(w, r, n.path, n.target())
		return nil
	}
	if q.Get("as") == "other" {
		u = nil
	}
	login := ""
	if n.waiting != nil {
		login = n.waiting.LoginHint
	}
	return p.showSignIn(w, r, n, u, login, page{Notice: notices[q.Get("done")]})
}

// showSignIn asks u to prove once more who it is, or with nil anybody.
func (p *Pages) showSignIn(w http.ResponseWriter, r *http.Request, n *next, u *identity.User, login string, pg page) error {
	v := signInView{next: n, Login: login, Password: true, Passkey: true}
	pg.Title, pg.Script, pg.Target = "Sign in", true, n.target()
	if n.waiting != nil {
		v.Client = n.waiting.Client
	}
	only := ""
	if u != nil {
		f, err := p.cfg.People.Factors(r.Context(), u.ID)
		if err != nil {
			return err
		}
		pg.Title = "Confirm that it is you"
		v.Again, v.Login, v.Other = true, u.Name, p.base+"/signin"+n.query("as", "other")
		only = u.Source
		directory := slices.ContainsFunc(p.cfg.Upstreams, func(up Upstream) bool { return up.Check != nil && up.Name == only })
		v.Password, v.Passkey, v.Step = f.Password || directory, f.Passkeys > 0, "up"
	}
	for _, up := range p.cfg.Upstreams {
		if up.Begin != nil && (!v.Again || up.Name == only) {
			v.Upstreams = append(v.Upstreams, link{up.title(), p.base + "/signin/upstream/" + up.Name + n.query()})
		}
	}
	pg.V = v
	p.render(w, r, "signin", pg)
	return nil
}

func (p *Pages) postSignIn(w http.ResponseWriter, r *http.Request) error {
	form, err := p.Form(w, r, "name", "password", "request", "to")
	if err != nil {
		return err
	}
	n, err := p.next(r, form.Get("request"), form.Get("to"))
	if err != nil {
		return err
	}
	name := strings.TrimSpace(form.Get("name"))
	l, err := p.password(r, name, gatehouse.NewSecret(form.Get("password")))
	if err == nil {
		err = p.finish(w, r, l, n)
	}
	if err == nil {
		return nil
	}
	pg, err := p.refused(w, r, err, "The name or the password is not right.", "password")
	if err != nil {
		return err
	}
	_, u, _, err := p.Session(r)
	if err != nil && !errors.Is(err, identity.ErrSession) {
		return err
	}
	if u != nil && !strings.EqualFold(u.Name, name) { // who is signed in already tried another name
		u = nil
	}
	return p.showSignIn(w, r, n, u, name, pg)
}

// refused is the page on which a proof that was not right is tried again. An error
// that is no refusal is given back. It is the same, with the same status, whether
// the name is unknown, the password wrong or the account locked.
func (p *Pages) refused(w http.ResponseWriter, r *http.Request, err error, text, field string) (page, error) {
	ev := gatehouse.EventOf(r.Context())
	if t, ok := errors.AsType[*identity.Throttled](err); ok {
		wait := t.Wait.Round(time.Second)
		ev.Reason = "sign_in_throttled"
		w.Header().Set("Retry-After", fmt.Sprint(max(1, int(wait/time.Second))))
		return page{Status: http.StatusTooManyRequests, Error: "Too many attempts. Wait " + span(t.Wait) + ", then try again."}, nil
	}
	if errors.Is(err, identity.ErrCredentials) {
		ev.Reason = "sign_in_refused"
		return page{Status: http.StatusForbidden, Error: text, Fields: map[string]string{field: text}}, nil
	}
	return page{}, err
}

// span is a wait in words, rounded up.
func span(d time.Duration) string {
	if d > time.Minute {
		return fmt.Sprintf("%d minutes", (d+time.Minute-1)/time.Minute)
	}
	n := max(1, int((d+time.Second-1)/time.Second))
	if n == 1 {
		return "a second"
	}
	return fmt.Sprintf("%d seconds", n)
}

// secondView is the page of the second factor, and with Up of a step-up.
type secondView struct {
	*next
	Client   Client
	Up       bool
	Step     string // comes back with the forms: second, up
	TOTP     bool
	Recovery bool
	Passkey  bool
	Password bool // the session was started with something held: add something known
	Login    string
	Setup    string // where a missing factor can be set up; "" when there is one
}

// Away is the query with which somebody else signs in.
func (v secondView) Away() string { return v.query("as", "other") }

func (p *Pages) getSecond(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	n, err := p.next(r, q.Get("request"), q.Get("to"))
	if err != nil {
		return err
	}
	l, err := p.cfg.People.OpenLogin(cookie(r, cookieLogin))
	if errors.Is(err, identity.ErrCredentials) {
		p.see(w, r, p.base+"/signin"+n.query("done", "expired"), n.target())
		return nil
	}
	if err != nil {
		return err
	}
	return p.showSecond(w, r, n, l, page{})
}

func (p *Pages) showSecond(w http.ResponseWriter, r *http.Request, n *next, l *identity.Login, pg page) error {
	f, err := p.cfg.People.Factors(r.Context(), l.User)
	if errors.Is(err, identity.ErrUnknown) { // deleted since the password
		p.see(w, r, p.base+"/signin"+n.query("done", "expired"), n.target())
		return nil
	}
	if err != nil {
		return err
	}
	v := secondView{next: n, Step: "second", TOTP: f.TOTP, Recovery: f.Recovery > 0, Passkey: f.Passkeys > 0}
	pg.Title, pg.Script, pg.Target, pg.V = "Enter your code", true, n.target(), v
	p.render(w, r, "second", pg)
	return nil
}

// showStepUp asks for just what the session lacks (RFC 9470).
func (p *Pages) showStepUp(w http.ResponseWriter, r *http.Request, n *next, s *identity.Session, u *identity.User, pg page) error {
	f, err := p.cfg.People.Factors(r.Context(), s.User)
	if err != nil {
		return err
	}
	two := slices.ContainsFunc(n.lacks(s), func(acr string) bool { return rank(acr) <= rank(identity.ACRTwo) })
	v := secondView{next: n, Up: true, Step: "up", Login: u.Name, Client: n.waiting.Client, Passkey: f.Passkeys > 0}
	if two {
		v.TOTP = f.TOTP && !slices.Contains(s.AMR, "otp")
		v.Recovery = v.TOTP && f.Recovery > 0
		v.Password = f.Password && !slices.Contains(s.AMR, "pwd")
	}
	if !v.TOTP && !v.Passkey && !v.Password {
		v.Setup = p.base + "/account/security"
	}
	pg.Title, pg.Script, pg.Target, pg.V = "One more step", true, n.target(), v
	p.render(w, r, "second", pg)
	return nil
}

func (p *Pages) postSecond(w http.ResponseWriter, r *http.Request) error {
	form, err := p.Form(w, r, "code", "kind", "step", "request", "to")
	if err != nil {
		return err
	}
	n, err := p.next(r, form.Get("request"), form.Get("to"))
	if err != nil {
		return err
	}
	first, s, u, err := p.first(r, form.Get("step"))
	if errors.Is(err, identity.ErrCredentials) {
		p.see(w, r, p.base+"/signin"+n.query("done", "expired"), n.target())
		return nil
	}
	if err != nil {
		return err
	}
	code := strings.TrimSpace(form.Get("code"))
	prove, text := p.cfg.People.TOTP, "The code is not right, or was used already. Wait for the next one."
	if form.Get("kind") == "recovery" {
		prove, text = p.cfg.People.Recovery, "The recovery code is not right, or was used already."
	}
	l, err := prove(r.Context(), first, code, source(r))
	if err == nil {
		err = p.finish(w, r, l, n)
	}
	if err == nil {
		return nil
	}
	field := "code"
	if form.Get("kind") == "recovery" {
		field = "recovery"
	}
	pg, err := p.refused(w, r, err, text, field)
	if err != nil {
		return err
	}
	if s != nil {
		if n.lacks(s) == nil { // raised in another tab meanwhile
			p.see(w, r, n.path, n.target())
			return nil
		}
		return p.showStepUp(w, r, n, s, u, pg)
	}
	return p.showSecond(w, r, n, first, pg)
}

// first is the login a second proof is added to: the one in the cookie, or at a
// step-up the session's user, whose session is then returned as well.
// [identity.ErrCredentials] when there is none any more.
func (p *Pages) first(r *http.Request, step string) (*identity.Login, *identity.Session, *identity.User, error) {
	switch step {
	case "second":
		l, err := p.cfg.People.OpenLogin(cookie(r, cookieLogin))
		return l, nil, nil, err
	case "up":
		s, u, _, err := p.Session(r)
		if errors.Is(err, identity.ErrSession) {
			return nil, nil, nil, identity.ErrCredentials
		}
		if err != nil {
			return nil, nil, nil, err
		}
		return &identity.Login{User: s.User}, s, u, nil
	}
	return nil, nil, nil, formProblem("The form has a step this page does not have.", nil)
}

// passkeyOptions starts a ceremony: the script asks for it, and gives the answer
// to navigator.credentials.get.
func (p *Pages) passkeyOptions(w http.ResponseWriter, r *http.Request) error {
	form, err := p.Form(w, r, "step")
	if err != nil {
		return err
	}
	name := "" // whichever passkey the browser has for us
	if step := form.Get("step"); step != "" {
		l, _, u, err := p.first(r, step)
		if errors.Is(err, identity.ErrCredentials) {
			return p.passkeyOver(w)
		}
		if err != nil {
			return err
		}
		if u == nil {
			u, err = p.cfg.People.User(r.Context(), l.User)
			if errors.Is(err, identity.ErrUnknown) {
				return p.passkeyOver(w)
			}
			if err != nil {
				return err
			}
		}
		name = u.Name
	}
	options, state, err := p.cfg.People.BeginSignIn(r.Context(), name)
	if errors.Is(err, identity.ErrNoPasskeys) {
		return p.answer(w, map[string]any{"error": sentence(err)})
	}
	if err != nil {
		return err
	}
	return p.answer(w, map[string]any{"options": options, "state": state})
}

// passkeyOver tells the script to load the page again.
func (p *Pages) passkeyOver(w http.ResponseWriter) error {
	return p.answer(w, map[string]any{"location": p.base + "/signin?done=expired"})
}

// answer writes JSON for the script.
func (p *Pages) answer(w http.ResponseWriter, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	p.headers(w, "")
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b) // the browser may be gone
	return nil
}

func (p *Pages) postPasskey(w http.ResponseWriter, r *http.Request) error {
	form, err := p.Form(w, r, "step", "state", "response", "request", "to")
	if err != nil {
		return err
	}
	n, err := p.next(r, form.Get("request"), form.Get("to"))
	if err != nil {
		return err
	}
	step := form.Get("step")
	var first *identity.Login
	var s *identity.Session
	var u *identity.User
	if step != "" {
		if first, s, u, err = p.first(r, step); errors.Is(err, identity.ErrCredentials) {
			p.see(w, r, p.base+"/signin"+n.query("done", "expired"), n.target())
			return nil
		} else if err != nil {
			return err
		}
	}
	l, err := p.cfg.People.FinishSignIn(r.Context(), form.Get("state"), []byte(form.Get("response")), source(r))
	switch {
	case err != nil:
	case first != nil && first.User != l.User:
		err = identity.ErrCredentials // somebody else's passkey proves nothing here
	case step == "second":
		l, err = identity.Combine(first, l)
	}
	if err == nil {
		if step == "up" {
			l.Second = false // the session has what came first; Raise adds the two up
		}
		err = p.finish(w, r, l, n)
	}
	if err == nil {
		return nil
	}
	pg, err := p.refused(w, r, err, "The passkey was not accepted. Try again, or sign in another way.", "passkey")
	switch {
	case err != nil:
		return err
	case step == "second":
		return p.showSecond(w, r, n, first, pg)
	case s != nil && !n.again(s) && n.lacks(s) != nil:
		return p.showStepUp(w, r, n, s, u, pg)
	}
	return p.showSignIn(w, r, n, u, "", pg)
}

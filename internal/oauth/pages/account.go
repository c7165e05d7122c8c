package pages

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
)

// me is whose account page it is.
type me struct {
	session *identity.Session
	user    *identity.User
	cookie  string
}

// by says that the user changes its own factors, and that this session goes on.
func (m *me) by() identity.By {
	return identity.By{Actor: m.user.ID, User: m.user.ID, Keep: m.session.ID}
}

// old reports whether the sign-in is too old for a change of how one signs in.
func (m *me) old() bool { return time.Since(m.session.AuthTime) > recent }

// account serves who is signed in, and sends everybody else to sign in.
func (p *Pages) account(h func(w http.ResponseWriter, r *http.Request, m *me) error) http.Handler {
	return p.handle(func(w http.ResponseWriter, r *http.Request) error {
		s, u, value, err := p.Session(r)
		if errors.Is(err, identity.ErrSession) {
			return p.SignIn(w, r, p.base+"/account")
		}
		if err != nil {
			return err
		}
		return h(w, r, &me{s, u, value})
	})
}

// stale sends who signed in too long ago to prove again who it is, and then to
// path: a browser left alone for a minute, or a stolen cookie, must not be enough
// to change how its owner signs in.
func (p *Pages) stale(w http.ResponseWriter, r *http.Request, m *me, path string) (bool, error) {
	if !m.old() {
		return false, nil
	}
	return true, p.askAgain(w, r, after{Path: p.base + path, Fresh: true})
}

// change reads the form of a change, which needs a recent sign-in. Its values are
// nil when the browser was sent to do that first.
func (p *Pages) change(w http.ResponseWriter, r *http.Request, m *me, back string, fields ...string) (formValues, error) {
	form, err := p.Form(w, r, fields...)
	if err != nil {
		return nil, err
	}
	if stale, err := p.stale(w, r, m, back+"?done=again"); stale || err != nil {
		return nil, err
	}
	return formValues(form), nil
}

type formValues map[string][]string

func (f formValues) get(name string) string {
	if len(f[name]) == 0 {
		return ""
	}
	return f[name][0]
}

// rotate gives the session another cookie after a change of how its user signs in.
func (p *Pages) rotate(w http.ResponseWriter, r *http.Request, m *me) error {
	fresh, _, err := p.cfg.People.Rotate(r.Context(), m.cookie)
	if err != nil {
		return err
	}
	setCookie(w, cookieSession, fresh.Reveal(), 0)
	return nil
}

// show renders a page of the account.
func (p *Pages) show(w http.ResponseWriter, r *http.Request, m *me, view, section, title string, pg page) error {
	pg.Title, pg.Section, pg.User = title, section, m.user
	if pg.Notice == "" {
		pg.Notice = notices[r.URL.Query().Get("done")]
	}
	p.render(w, r, view, pg)
	return nil
}

func (p *Pages) done(w http.ResponseWriter, r *http.Request, path, word string) error {
	p.see(w, r, p.base+path+"?done="+word, "")
	return nil
}

func (p *Pages) profile(w http.ResponseWriter, r *http.Request, m *me) error {
	return p.showProfile(w, r, m, page{})
}

func (p *Pages) showProfile(w http.ResponseWriter, r *http.Request, m *me, pg page) error {
	name, _ := m.user.Claims["name"].(string)
	pg.V = struct {
		Full     string
		Verified bool
	}{name, !m.user.EmailVerified.IsZero()}
	return p.show(w, r, m, "account", "profile", "Your account", pg)
}

func (p *Pages) sendVerification(w http.ResponseWriter, r *http.Request, m *me) error {
	if _, err := p.Form(w, r); err != nil {
		return err
	}
	if m.user.Email == "" || !m.user.EmailVerified.IsZero() {
		return p.done(w, r, "/account", "saved")
	}
	err := p.cfg.People.SendVerification(r.Context(), m.user.ID)
	if errors.Is(err, identity.ErrThrottled) {
		pg, err := p.refused(w, r, err, "", "")
		if err != nil {
			return err
		}
		return p.showProfile(w, r, m, pg)
	}
	if err != nil {
		return p.noMail(err)
	}
	return p.done(w, r, "/account", "mail")
}

// signOut ends the session of this browser. It needs no recent sign-in: leaving is
// always allowed.
func (p *Pages) signOut(w http.ResponseWriter, r *http.Request) error {
	if _, err := p.Form(w, r); err != nil {
		return err
	}
	s, _, _, err := p.Session(r)
	if err == nil {
		err = p.endSession(r.Context(), s)
	}
	if err != nil && !errors.Is(err, identity.ErrSession) {
		return err
	}
	p.SignedOut(w)
	p.see(w, r, p.base+"/signin?done=signout", "")
	return nil
}

type sessionLine struct {
	identity.Session
	This bool
}

func (p *Pages) sessions(w http.ResponseWriter, r *http.Request, m *me) error {
	all, err := p.cfg.People.SessionsOf(r.Context(), m.user.ID)
	if err != nil {
		return err
	}
	lines := make([]sessionLine, len(all))
	for i, s := range all {
		lines[i] = sessionLine{s, s.ID == m.session.ID}
	}
	return p.show(w, r, m, "sessions", "sessions", "Where you are signed in", page{V: lines})
}

func (p *Pages) endOne(w http.ResponseWriter, r *http.Request, m *me) error {
	form, err := p.change(w, r, m, "/account/sessions", "id")
	if form == nil {
		return err
	}
	all, err := p.cfg.People.SessionsOf(r.Context(), m.user.ID)
	if err != nil {
		return err
	}
	// An id that somebody else knows must not end that somebody's session.
	at := slices.IndexFunc(all, func(s identity.Session) bool { return s.ID == form.get("id") })
	if at >= 0 {
		if err := p.endSession(r.Context(), &all[at]); err != nil {
			return err
		}
		if all[at].ID == m.session.ID {
			p.SignedOut(w)
			p.see(w, r, p.base+"/signin?done=signout", "")
			return nil
		}
	}
	return p.done(w, r, "/account/sessions", "ended")
}

func (p *Pages) endOthers(w http.ResponseWriter, r *http.Request, m *me) error {
	form, err := p.change(w, r, m, "/account/sessions")
	if form == nil {
		return err
	}
	if err := p.cfg.People.EndOthers(r.Context(), m.user.ID, m.user.ID, m.session.ID); err != nil {
		return err
	}
	return p.done(w, r, "/account/sessions", "others")
}

func (p *Pages) apps(w http.ResponseWriter, r *http.Request, m *me) error {
	grants, err := p.cfg.Flow.Grants(r.Context(), m.user.ID)
	if err != nil {
		return err
	}
	return p.show(w, r, m, "apps", "apps", "Apps with access to your account", page{V: grants})
}

func (p *Pages) revokeApp(w http.ResponseWriter, r *http.Request, m *me) error {
	form, err := p.change(w, r, m, "/account/apps", "id")
	if form == nil {
		return err
	}
	grants, err := p.cfg.Flow.Grants(r.Context(), m.user.ID)
	if err != nil {
		return err
	}
	id := form.get("id")
	if !slices.ContainsFunc(grants, func(g Grant) bool { return g.ID == id }) {
		return &gatehouse.Problem{Kind: gatehouse.NotFound, Reason: "page_not_found", Detail: "There is no such access, or it was taken back already."}
	}
	if err := p.cfg.Flow.RevokeGrant(r.Context(), m.user.ID, id); err != nil {
		return err
	}
	return p.done(w, r, "/account/apps", "app")
}

package pages

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
)

const (
	// recent is how old a sign-in may be for a change of how one signs in.
	recent = 10 * time.Minute

	purposeNext = "page after sign-in"
)

// Session returns the session of the request's cookie, its user and the cookie's
// value. Without one, or when it has ended, the error is [identity.ErrSession].
func (p *Pages) Session(r *http.Request) (*identity.Session, *identity.User, string, error) {
	value := cookie(r, cookieSession)
	if value == "" {
		return nil, nil, "", identity.ErrSession
	}
	s, u, err := p.cfg.People.Session(r.Context(), value)
	if err != nil {
		return nil, nil, "", err
	}
	gatehouse.EventOf(r.Context()).Subject = u.ID
	return s, u, value, nil
}

// SignedOut removes the cookie of a session that has been ended.
func (p *Pages) SignedOut(w http.ResponseWriter) { setCookie(w, cookieSession, "", -1) }

// SignIn sends the browser to sign in, and then back to the page it asked for, or
// for a POST to path. It is for pages of ours only.
func (p *Pages) SignIn(w http.ResponseWriter, r *http.Request, path string) error {
	if r.Method == http.MethodGet {
		path = r.URL.RequestURI()
	}
	return p.askAgain(w, r, after{Path: path})
}

// after is where a sign-in leads that no client waits for. It is sealed, so that
// nobody can write a link to our sign-in that ends elsewhere (open redirect).
type after struct {
	Path  string    `json:"path"`
	Fresh bool      `json:"fresh,omitempty"` // a session is not enough: the sign-in must be recent
	Until time.Time `json:"until"`
}

func (p *Pages) askAgain(w http.ResponseWriter, r *http.Request, a after) error {
	to, err := p.sealAfter(a)
	if err != nil {
		return err
	}
	p.see(w, r, p.base+"/signin?to="+to, "")
	return nil
}

func (p *Pages) sealAfter(a after) (string, error) {
	a.Until = time.Now().Add(time.Hour)
	b, err := json.Marshal(a)
	if err != nil {
		return "", err
	}
	return p.cfg.Seal.Seal(purposeNext, b)
}

// next is what follows when somebody has signed in.
type next struct {
	Request, To string   // as they stand in URLs and forms; at most one is not ""
	waiting     *Waiting // what a client waits for; nil
	path        string
	fresh       bool
}

// next reads what a sign-in page was opened for. There are three ways only: an
// authorization request that waits for this browser, a path sealed by us, and the
// account.
func (p *Pages) next(r *http.Request, request, to string) (*next, error) {
	n := &next{Request: request, To: to, path: p.base + "/account"}
	switch {
	case request != "" && to != "":
		return nil, formProblem("This link leads to two places.", nil)
	case request != "":
		var err error
		if n.waiting, err = p.cfg.Flow.Waiting(r.Context(), r, request); err != nil {
			if errors.Is(err, ErrWaiting) {
				return nil, &gatehouse.Problem{
					Kind: gatehouse.NotFound, Reason: "page_not_found", Err: err,
					Detail: "This sign-in is over, or was started in another browser. Go back to the application and start again.",
				}
			}
			return nil, err
		}
		n.path = p.cfg.Flow.Continue(request)
	case to != "":
		var a after
		b, err := p.cfg.Seal.Open(purposeNext, to)
		if err == nil {
			err = json.Unmarshal(b, &a)
		}
		if err != nil || time.Now().After(a.Until) || !strings.HasPrefix(a.Path, p.base+"/") || strings.HasPrefix(a.Path, "//") || strings.Contains(a.Path, "\\") {
			return nil, formProblem("This link is damaged or too old. Start again from your account.", err)
		}
		n.path, n.fresh = a.Path, a.Fresh
	}
	return n, nil
}

// query is n as the query of a sign-in page, with "?" or "".
func (n *next) query(more ...string) string {
	q := url.Values{}
	if n.Request != "" {
		q.Set("request", n.Request)
	}
	if n.To != "" {
		q.Set("to", n.To)
	}
	for i := 0; i+1 < len(more); i += 2 {
		q.Set(more[i], more[i+1])
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

func (n *next) target() string {
	if n.waiting == nil {
		return ""
	}
	return n.waiting.RedirectURI
}

// again reports whether the session s is too old for what follows.
func (n *next) again(s *identity.Session) bool {
	return n.fresh && time.Since(s.AuthTime) > recent || n.waiting != nil && (n.waiting.Reauth || n.waiting.Select)
}

// lacks returns the classes of which s must reach one, or nil when it has.
func (n *next) lacks(s *identity.Session) []string {
	if n.waiting == nil || len(n.waiting.ACR) == 0 || slices.ContainsFunc(n.waiting.ACR, func(acr string) bool { return rank(s.ACR) >= rank(acr) }) {
		return nil
	}
	return n.waiting.ACR
}

// rank orders the classes; one that is not ours is above all, so that nothing reaches it.
func rank(acr string) int {
	switch acr {
	case identity.ACRPassword:
		return 1
	case identity.ACRTwo:
		return 2
	case identity.ACRPhishing:
		return 3
	case "":
		return 0
	}
	return 4
}

// finish makes a session of a login, or asks for the second factor it waits for.
// The same user's session is raised, another's is ended: in one browser there is one.
func (p *Pages) finish(w http.ResponseWriter, r *http.Request, l *identity.Login, n *next) error {
	ctx := r.Context()
	if l.Second {
		sealed, err := p.cfg.People.SealLogin(l)
		if err != nil {
			return err
		}
		setCookie(w, cookieLogin, sealed, 5*60)
		p.see(w, r, p.base+"/signin/second"+n.query(), n.target())
		return nil
	}
	old, _, value, err := p.Session(r)
	if err != nil && !errors.Is(err, identity.ErrSession) {
		return err
	}
	var fresh gatehouse.Secret
	raised := false
	if old != nil && old.User == l.User {
		fresh, _, err = p.cfg.People.Raise(ctx, value, l)
		// A weaker proof can not renew a stronger session, but is a sign-in of its own.
		if raised = !errors.Is(err, identity.ErrWeaker) && !errors.Is(err, identity.ErrSession); raised && err != nil {
			return err
		}
	}
	if !raised {
		if fresh, _, err = p.cfg.People.Start(ctx, l, identity.Origin{Address: source(r).String(), Agent: r.UserAgent()}); err != nil {
			return err
		}
		if old != nil {
			if err := p.endSession(ctx, old); err != nil {
				return err
			}
		}
	}
	gatehouse.EventOf(ctx).Subject = l.User
	setCookie(w, cookieSession, fresh.Reveal(), 0)
	setCookie(w, cookieLogin, "", -1)
	p.see(w, r, n.path, n.target())
	return nil
}

// endSession ends a session by its own user's will; one that has ended is ended.
func (p *Pages) endSession(ctx context.Context, s *identity.Session) error {
	if err := p.cfg.Flow.EndSession(ctx, s.User, s.ID); err != nil && !errors.Is(err, identity.ErrSession) {
		return err
	}
	return nil
}

// source is the caller's address, as the gateway resolved it.
func source(r *http.Request) netip.Addr {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{} // counted as one like every other that is not known
	}
	return a.Addr()
}

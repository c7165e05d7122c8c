package pages

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"slices"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
)

// cookieUpstream holds the sealed state of a sign-in elsewhere: only the browser
// that began it can end it here (login CSRF).
const cookieUpstream = "__Host-gatehouse-upstream"

func (u *Upstream) title() string {
	if u.Title == "" {
		return u.Name
	}
	return u.Title
}

func (p *Pages) upstream(r *http.Request) (*Upstream, error) {
	at := slices.IndexFunc(p.cfg.Upstreams, func(u Upstream) bool { return u.Begin != nil && u.Name == r.PathValue("name") })
	if at < 0 {
		return nil, notFound()
	}
	return &p.cfg.Upstreams[at], nil
}

// beginUpstream is a GET and no form: Chromium would hold the redirect to the
// upstream against form-action.
func (p *Pages) beginUpstream(w http.ResponseWriter, r *http.Request) error {
	up, err := p.upstream(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	n, err := p.next(r, q.Get("request"), q.Get("to"))
	if err != nil {
		return err
	}
	ask := Ask{Then: n.query()}
	if n.waiting != nil {
		ask.LoginHint = n.waiting.LoginHint
	}
	s, _, _, err := p.Session(r)
	if err != nil && !errors.Is(err, identity.ErrSession) {
		return err
	}
	ask.Fresh = n.fresh || n.waiting != nil && n.waiting.Reauth || s != nil && n.again(s)
	to, state, err := up.Begin(r.Context(), ask)
	if err != nil {
		return err
	}
	setCookie(w, cookieUpstream, state, 10*60)
	p.see(w, r, to, "")
	return nil
}

func (p *Pages) finishUpstream(w http.ResponseWriter, r *http.Request) error {
	up, err := p.upstream(r)
	if err != nil {
		return err
	}
	who, then, err := up.Finish(r.Context(), r.URL.Query(), cookie(r, cookieUpstream))
	setCookie(w, cookieUpstream, "", -1)
	if err != nil {
		return &gatehouse.Problem{
			Kind: gatehouse.Forbidden, Reason: "sign_in_refused", Err: err,
			Detail: "The sign-in at " + up.title() + " did not succeed. Go back and try again.",
		}
	}
	user, err := p.cfg.People.Link(r.Context(), who)
	if err != nil {
		if errors.Is(err, identity.ErrCredentials) || errors.Is(err, identity.ErrUnknown) || errors.Is(err, identity.ErrTaken) || errors.Is(err, identity.ErrInvalid) {
			return &gatehouse.Problem{
				Kind: gatehouse.Forbidden, Reason: "sign_in_refused", Err: err,
				Detail: "You are known at " + up.title() + ", but there is no account for you here. Ask the people who run " + p.cfg.Name + ".",
			}
		}
		return err
	}
	l, err := p.cfg.People.UpstreamLogin(r.Context(), user.ID, up.Name, who.ACR, who.AMR)
	if err != nil {
		return err
	}
	q, err := url.ParseQuery(trimQuestion(then))
	if err != nil {
		return err
	}
	n, err := p.next(r, q.Get("request"), q.Get("to"))
	if err != nil {
		return err
	}
	if err := p.finish(w, r, l, n); errors.Is(err, identity.ErrCredentials) { // locked here
		return &gatehouse.Problem{Kind: gatehouse.Forbidden, Reason: "sign_in_refused", Err: err, Detail: "This account cannot sign in at the moment."}
	} else if err != nil {
		return err
	}
	return nil
}

func trimQuestion(q string) string {
	if q != "" && q[0] == '?' {
		return q[1:]
	}
	return q
}

// password checks a name and a password: here, and where the config has
// directories that know more people, there. Who is not let in was refused by all of
// them, whoever it is, so that the time tells nothing; the one that is likely to
// know the user is asked first, because an attempt that fails counts against
// address and account also when the next one succeeds.
func (p *Pages) password(r *http.Request, login string, password gatehouse.Secret) (*identity.Login, error) {
	ctx, from := r.Context(), source(r)
	here := func() (*identity.Login, error) { return p.cfg.People.Password(ctx, login, password, from) }
	var ways []func() (*identity.Login, error)
	for _, up := range p.cfg.Upstreams {
		if up.Check != nil {
			ways = append(ways, func() (*identity.Login, error) { return p.directory(ctx, &up, login, password, from) })
		}
	}
	if len(ways) == 0 {
		return here()
	}
	u, err := p.cfg.People.FindUser(ctx, login)
	switch {
	case err == nil && u.Source == "":
		ways = slices.Insert(ways, 0, here)
	case err == nil, errors.Is(err, identity.ErrUnknown), errors.Is(err, identity.ErrInvalid):
		ways = append(ways, here)
	default:
		return nil, err
	}
	var refusal, broken error
	for _, way := range ways {
		l, err := way()
		switch {
		case err == nil:
			return l, nil
		case errors.Is(err, identity.ErrThrottled):
			refusal = err
		case !errors.Is(err, identity.ErrCredentials):
			broken = err
		case refusal == nil:
			refusal = err
		}
	}
	if broken != nil { // perhaps it would have known the user
		return nil, broken
	}
	return nil, refusal
}

func (p *Pages) directory(ctx context.Context, up *Upstream, login string, password gatehouse.Secret, from netip.Addr) (*identity.Login, error) {
	who, err := up.Check(ctx, login, password, from)
	if err != nil {
		return nil, err
	}
	user, err := p.cfg.People.Link(ctx, who)
	if errors.Is(err, identity.ErrTaken) || errors.Is(err, identity.ErrInvalid) { // right, but nobody here
		gatehouse.EventOf(ctx).Cause = err.Error()
		return nil, identity.ErrCredentials
	}
	if err != nil {
		return nil, err
	}
	return p.cfg.People.UpstreamLogin(ctx, user.ID, up.Name, who.ACR, who.AMR)
}

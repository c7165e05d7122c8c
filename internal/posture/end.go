package posture

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"time"
)

var (
	decisionWord = regexp.MustCompile(`\b[0-9A-HJKMNP-TV-Z]{26}\b`) // ids of decisions, which differ each time
	linkWord     = regexp.MustCompile(`https?://[^\s"<>]+`)
)

// endProbes end things and measure how long that takes to be true. They come last:
// the user does not survive them.
func endProbes() []probe {
	const fix = "push revocations to every gateway, or ask for them at least every second; refuse while they are not known"
	return []probe{
		{
			"revoke-token", "RFC 7009, RFC 9700 §4.14", "a revoked token is refused within a second, at introspection and behind the gateway", High, theHouse, fix,
			func(ctx context.Context, t *trial) error {
				return t.ended(ctx, "a revoked token", func(_, raw, _ string) error {
					return t.revoke(ctx, raw)
				})
			},
		},
		{
			"revoke-refresh", "RFC 7009 §2.1", "revoking a refresh token ends the access tokens of its grant within a second", High, theHouse, fix,
			func(ctx context.Context, t *trial) error {
				return t.ended(ctx, "tokens of a revoked refresh token", func(_, _, refresh string) error {
					return t.revoke(ctx, refresh)
				})
			},
		},
		{
			"revoke-foreign", "RFC 7009 §2.1", "a client cannot revoke the tokens of another", Medium, theHouse,
			"check whose token it is before it is ended", foreignCannotRevoke,
		},
		{
			"end-grant", "advisories: refresh ignores revoked consent", "a grant its user takes back ends its tokens within a second", High, theHouse, fix,
			func(ctx context.Context, t *trial) error {
				return t.ended(ctx, "tokens of a grant taken back", func(grant, _, _ string) error {
					return t.cfg.OAuth.RevokeGrant(ctx, t.cfg.Actor, grant)
				})
			},
		},
		{
			"end-client", "advisories: refresh ignores disabled client", "the tokens of a disabled client are refused within a second", High, theHouse, fix,
			clientEnds,
		},
		{
			"user-enumeration", "advisories: user enumeration", "an unknown name is answered like a wrong password, in the same words and about the same time", Medium, theHouse,
			"answer both alike, and hash a password for names nobody has", usersAreNotTold,
		},
		{
			"end-user", "advisories: refresh ignores disabled user", "the tokens of a locked user are refused within a second, and nobody signs in as the user", Critical, theHouse, fix,
			userEnds,
		},
	}
}

func (t *trial) revoke(ctx context.Context, raw string) error {
	a, err := t.post(ctx, "revocation_endpoint", t.main, url.Values{"token": {raw}})
	if err != nil {
		return err
	}
	if a.status != http.StatusOK {
		return errors.New(a.line())
	}
	return nil
}

// ended gets tokens, lets end end them, and measures.
func (t *trial) ended(ctx context.Context, what string, end func(grant, access, refresh string) error) error {
	access, refresh, err := t.refreshable(ctx, t.main)
	if err != nil {
		return err
	}
	claims, err := t.claimsOf(ctx, t.main, access)
	if err != nil {
		return err
	}
	if t.route != nil {
		a, opens, err := t.opens(ctx, t.main, access)
		if err != nil {
			return err
		}
		t.wants(opens, a, "a good token is refused at %s, so that the refusals prove nothing", t.route.Operation)
	}
	grant, _ := claims["grant_id"].(string)
	if err := end(grant, access, refresh); err != nil {
		return err
	}
	return t.ends(ctx, t.main, access, what)
}

func foreignCannotRevoke(ctx context.Context, t *trial) error {
	access, refresh, err := t.refreshable(ctx, t.main)
	if err != nil {
		return err
	}
	for _, raw := range []string{access, refresh} {
		a, err := t.post(ctx, "revocation_endpoint", t.other, url.Values{"token": {raw}})
		if err != nil {
			return err
		}
		t.wants(a.status < 500, a, "the endpoint fails")
		if a, err = t.post(ctx, "revocation_endpoint", nil, url.Values{"token": {raw}}); err != nil {
			return err
		}
		t.wants(a.status == http.StatusUnauthorized || a.status == http.StatusBadRequest, a, "anybody can revoke")
	}
	if err := wait(ctx, revoked/2); err != nil { // it would take a moment to be known
		return err
	}
	a, active, err := t.introspected(ctx, t.main, access)
	if err != nil {
		return err
	}
	t.wants(active, a, "another client has ended a token")
	if a, err = t.refresh(ctx, t.main, refresh); err != nil {
		return err
	}
	t.wants(a.text("access_token") != "", a, "another client has ended a refresh token")
	return nil
}

func clientEnds(ctx context.Context, t *trial) error {
	access, refresh, err := t.refreshable(ctx, t.other)
	if err != nil {
		return err
	}
	if err := t.cfg.OAuth.DisableClient(ctx, t.cfg.Actor, t.other.id); err != nil {
		return err
	}
	began := time.Now()
	// Its own introspection is refused from now on, so that only refusals can be seen.
	_, ok, err := within(ctx, 3*revoked, func() (bool, error) {
		a, err := t.refresh(ctx, t.other, refresh)
		return err == nil && a.text("access_token") == "" && a.status >= 400, err
	})
	if err != nil {
		return err
	}
	t.note("refused at the token endpoint after %v", time.Since(began).Round(time.Millisecond))
	t.wants(ok && time.Since(began) <= revoked, nil, "a disabled client still gets tokens")
	if t.route == nil {
		return nil
	}
	_, ok, err = within(ctx, 3*revoked, func() (bool, error) {
		_, opens, err := t.opens(ctx, t.other, access)
		return !opens, err
	})
	if err != nil {
		return err
	}
	took := time.Since(began)
	t.note("refused at the gateway after %v", took.Round(time.Millisecond))
	t.wants(ok && took <= revoked, nil, "at the gateway the token was good for %v more", took.Round(time.Millisecond))
	return nil
}

func userEnds(ctx context.Context, t *trial) error {
	var kept string
	err := t.ended(ctx, "tokens of a locked user", func(_, _, refresh string) error {
		kept = refresh
		return t.cfg.People.Lock(ctx, t.cfg.Actor, t.user.ID, "the proof locks its own user")
	})
	if err != nil {
		return err
	}
	a, err := t.refresh(ctx, t.main, kept)
	if err != nil {
		return err
	}
	t.refused(a, "a refresh token of a locked user still works")
	v, _ := t.request(t.main, "prompt", "none")
	o, err := t.ask(ctx, t.in, t.main, v)
	if err != nil {
		return err
	}
	t.wants(o.back.Get("code") == "", o.answer, "the session of a locked user goes on")
	v, _ = t.request(t.main)
	if o, err = t.flow(ctx, newBrowser(), t.main, v); err == nil {
		t.wants(o.back.Get("code") == "", o.answer, "a locked user can sign in")
	}
	return nil
}

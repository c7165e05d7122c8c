package posture

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

// tokenProbes are about access tokens nobody issued.
func tokenProbes() []probe {
	return []probe{
		{
			"forged", "RFC 8725 §2, §3; advisories: JOSE", "no forged JWT is taken: none, key confusion, kid, crit, jku, x5u, embedded keys", Critical, theHouse,
			"take the algorithm from the key and never from the token; refuse headers that bring keys", forgedAreRefused,
		},
		{
			"damaged", "advisories: truncated token accepted", "a token that is cut, longer or changed in one character is refused everywhere", Critical, theHouse,
			"verify tokens whole, and refuse base64url that is not canonical", damagedAreRefused,
		},
		{
			"confused", "RFC 9068 §4, RFC 8725 §3.11", "a JWT of another kind is no access token, nor is a refresh token", High, theHouse,
			"demand typ at+jwt where access tokens are taken", kindsAreNotConfused,
		},
		{
			"url-tokens", "RFC 6750 §2.3, RFC 9700 §4.3.2", "a good token in a URL is refused, at userinfo and behind the gateway", Medium, theHouse,
			"take tokens from the Authorization header only", urlTokensAreRefused,
		},
		{
			"exchange", "advisories: token exchange ignores revocation; RFC 8693", "nobody exchanges a token without the right to, nor one that is no token", High, theHouse,
			"check grant type, client, revocation and binding of every subject token", exchangeIsClosed,
		},
	}
}

// nowhere checks that a token is taken at no place.
//
// Userinfo is asked for all of them only where there is no operation to ask.
func (t *trial) nowhere(ctx context.Context, p *party, n int, f forgery) error {
	a, active, err := t.introspected(ctx, p, f.raw)
	if err != nil {
		return err
	}
	t.wants(!active && a.status < 500, a, "%s: active at introspection", f.how)
	if t.route == nil || n < 3 {
		if a, err = t.present(ctx, p, http.MethodGet, t.at("userinfo_endpoint"), f.raw); err != nil {
			return err
		}
		t.wants(a.status == http.StatusUnauthorized || a.status == http.StatusBadRequest, a, "%s: taken at userinfo", f.how)
	}
	if t.route == nil {
		return nil
	}
	if a, err = t.present(ctx, p, t.route.Method, t.route.URL, f.raw); err != nil {
		return err
	}
	t.wants(a.status == http.StatusUnauthorized || a.status == http.StatusBadRequest, a, "%s: opens %s", f.how, t.route.Operation)
	return nil
}

// good gets tokens that nothing is going to end, once for all who look at some.
func (t *trial) good(ctx context.Context) (*answer, error) {
	if t.shared != nil {
		return t.shared, nil
	}
	a, err := t.tokens(ctx, t.main)
	if err != nil {
		return nil, err
	}
	if err := t.everywhere(ctx, t.main, a.text("access_token")); err != nil {
		return nil, err
	}
	if len(t.wrong) == 0 {
		t.shared = a
	}
	return a, nil
}

// everywhere checks that a good token is taken, without which refusals mean nothing.
func (t *trial) everywhere(ctx context.Context, p *party, access string) error {
	a, active, err := t.introspected(ctx, p, access)
	if err != nil {
		return err
	}
	t.wants(active, a, "a good token is not active, so that the refusals prove nothing")
	if a, err = t.present(ctx, p, http.MethodGet, t.at("userinfo_endpoint"), access); err != nil {
		return err
	}
	t.wants(a.status == http.StatusOK, a, "a good token is refused at userinfo, so that the refusals prove nothing")
	if t.route == nil {
		t.note("no operation behind the gateway takes tokens of this server, so none was tried")
		return nil
	}
	a, opens, err := t.opens(ctx, p, access)
	if err != nil {
		return err
	}
	t.wants(opens, a, "a good token is refused at %s, so that the refusals prove nothing", t.route.Operation)
	return nil
}

func forgedAreRefused(ctx context.Context, t *trial) error {
	good, err := t.good(ctx)
	if err != nil {
		return err
	}
	access := good.text("access_token")
	claims, err := t.claimsOf(ctx, t.main, access)
	if err != nil {
		return err
	}
	claims["jti"] = random(12)
	list, err := forge(claims, t.keys)
	if err != nil {
		return err
	}
	for n, f := range list {
		if err := t.nowhere(ctx, t.main, n, f); err != nil {
			return err
		}
	}
	return nil
}

func damagedAreRefused(ctx context.Context, t *trial) error {
	good, err := t.good(ctx)
	if err != nil {
		return err
	}
	access := good.text("access_token")
	for n, f := range damaged(access) {
		if err := t.nowhere(ctx, t.main, n, f); err != nil {
			return err
		}
	}
	return nil
}

func kindsAreNotConfused(ctx context.Context, t *trial) error {
	good, err := t.good(ctx)
	if err != nil {
		return err
	}
	list := []forgery{{"an ID token", good.text("id_token")}}
	if raw := good.text("refresh_token"); raw != "" {
		list = append(list, forgery{"a refresh token", raw})
	}
	for _, f := range list {
		places := [][2]string{{http.MethodGet, t.at("userinfo_endpoint")}}
		if t.route != nil {
			places = append(places, [2]string{t.route.Method, t.route.URL})
		}
		for _, place := range places {
			a, err := t.present(ctx, t.main, place[0], place[1], f.raw)
			if err != nil {
				return err
			}
			t.wants(a.status == http.StatusUnauthorized || a.status == http.StatusBadRequest, a, "%s is taken", f.how)
		}
		if f.how == "a refresh token" {
			continue // which is introspected as what it is
		}
		a, active, err := t.introspected(ctx, t.main, f.raw)
		if err != nil {
			return err
		}
		t.wants(!active, a, "%s is active at introspection", f.how)
	}
	access := good.text("access_token")
	a, err := t.refresh(ctx, t.main, access)
	if err != nil {
		return err
	}
	t.refused(a, "an access token is taken as a refresh token")
	if a, err = t.redeem(ctx, t.main, access, random(32)); err != nil {
		return err
	}
	t.refused(a, "an access token is taken as a code")
	return nil
}

func urlTokensAreRefused(ctx context.Context, t *trial) error {
	good, err := t.good(ctx)
	if err != nil {
		return err
	}
	query := url.Values{"access_token": {good.text("access_token")}}.Encode()
	targets := []string{t.at("userinfo_endpoint")}
	if t.route != nil {
		targets = append(targets, t.route.URL)
	}
	for _, target := range targets {
		sep := "?"
		if strings.Contains(target, "?") {
			sep = "&"
		}
		a, err := t.get(ctx, target+sep+query)
		if err != nil {
			return err
		}
		t.wants(a.status >= 400 && a.status < 500, a, "it is taken")
	}
	inURL := url.Values{"token": {good.text("access_token")}}.Encode()
	a, err := t.send(ctx, http.MethodPost, t.at("introspection_endpoint")+"?"+inURL, url.Values{})
	if err != nil {
		return err
	}
	t.wants(a.status >= 400 && a.status < 500, a, "introspection takes it from the URL")
	return nil
}

func exchangeIsClosed(ctx context.Context, t *trial) error {
	good, err := t.good(ctx)
	if err != nil {
		return err
	}
	const kind = "urn:ietf:params:oauth:grant-type:token-exchange"
	for _, c := range []struct {
		what, raw string
		p         *party
	}{
		{"a client without the grant type exchanges a token of another", good.text("access_token"), t.other},
		{"a client without the grant type exchanges its own", good.text("access_token"), t.main},
		{"what is no token is exchanged", "prove", t.robot},
	} {
		a, err := t.grant(ctx, c.p, "grant_type", kind, "subject_token", c.raw, "subject_token_type", "urn:ietf:params:oauth:token-type:access_token")
		if err != nil {
			return err
		}
		t.refused(a, c.what)
	}
	return t.exchangeRights(ctx, kind)
}

// exchangeRights tries a client that may exchange, but neither this client's
// tokens nor any that has ended.
func (t *trial) exchangeRights(ctx context.Context, kind string) error {
	p := &party{id: prefix + "other-" + random(9), method: "private_key_jwt", key: t.other.key, bound: t.other.bound}
	meta := oauth.Metadata{
		ClientName: "Proof", GrantTypes: []string{kind}, TokenEndpointAuthMethod: p.method, JWKS: p.key.set(), DPoPBoundTokens: p.bound, Exchange: []string{t.main.id},
		Scope: "openid",
	}
	if _, _, err := t.cfg.OAuth.CreateClient(ctx, t.cfg.Actor, p.id, meta); err != nil {
		return err
	}
	err := t.exchangeAs(ctx, p, kind)
	return errors.Join(err, t.cfg.OAuth.DeleteClient(context.WithoutCancel(ctx), t.cfg.Actor, p.id))
}

func (t *trial) exchangeAs(ctx context.Context, p *party, kind string) error {
	try := func(raw string) (*answer, error) {
		return t.grant(ctx, p, "grant_type", kind, "subject_token", raw, "subject_token_type", "urn:ietf:params:oauth:token-type:access_token", "resource", t.someResource())
	}
	good, err := t.tokens(ctx, t.main)
	if err != nil {
		return err
	}
	access := good.text("access_token")
	if !t.main.bound && t.someResource() != "" {
		a, err := try(access)
		if _, _, waitErr := within(ctx, 2*time.Second, func() (bool, error) { // the server may not know the new client yet
			if err == nil && a.code() == "invalid_client" {
				a, err = try(access)
			}
			return err != nil || a.code() != "invalid_client", err
		}); waitErr != nil {
			return waitErr
		}
		t.wants(a.text("access_token") != "", a, "a good token is not exchanged, so that the refusals prove nothing")
		t.wants(a.text("refresh_token") == "" && a.text("id_token") == "", a, "an exchange gives more than an access token")
	}
	foreign, err := t.tokens(ctx, t.other)
	if err != nil {
		return err
	}
	a, err := try(foreign.text("access_token"))
	if err != nil {
		return err
	}
	t.refused(a, "the token of a client it may not exchange for")
	if a, err = t.post(ctx, "revocation_endpoint", t.main, url.Values{"token": {access}}); err != nil {
		return err
	}
	t.wants(a.status == http.StatusOK, a, "a token cannot be revoked")
	_, ok, err := within(ctx, 3*revoked, func() (bool, error) {
		a, err = try(access)
		return err == nil && a.text("access_token") == "", err
	})
	if err != nil {
		return err
	}
	t.wants(ok, a, "a revoked token is exchanged")
	return nil
}

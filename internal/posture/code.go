package posture

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

const races = 20 // requests at the same time

// codeProbes are about authorization codes and what they become.
func codeProbes() []probe {
	return []probe{
		{
			"iss-in-answers", "RFC 9700 §4.4, RFC 9207", "answers carry iss and the state of their request, in the query", Medium, theHouse,
			"add iss to every authorization response", issInAnswers,
		},
		{
			"verifier", "RFC 9700 §2.1.1, RFC 7636 §4.1", "a code is redeemed by its verifier only: 43 to 128 characters, never missing, never another", Critical, theHouse,
			"check the verifier's grammar and its digest before a code is anything", verifierIsChecked,
		},
		{
			"code-bound", "RFC 9700 §4.5; advisories: code not bound to its client", "a code is worth nothing to another client, redirect URI or verifier, in no combination", Critical, theHouse,
			"demand all three to match, with and, never with or", codeIsBound,
		},
		{
			"code-once", "RFC 6749 §4.1.2, RFC 9700 §4.5", "a code shown twice is refused, and what came of it ends", High, theHouse,
			"keep used codes until they expire and revoke their grant when one comes again", codeOnce,
		},
		{
			"code-race", "RFC 6749 §4.1.2", fmt.Sprintf("of %d redemptions of one code at the same time at most one succeeds, and its tokens end", races), Critical, theHouse,
			"consume a code in one atomic statement before anything is made of it", codeRace,
		},
		{
			"pushed-once", "RFC 9126 §4, §7", "a pushed request belongs to its client and is good once", Medium, theHouse,
			"bind request_uri to its client and consume it", pushedOnce,
		},
		{
			"audience", "RFC 9700 §2.3, RFC 8707", "tokens are for the resource asked for and no other, and unknown ones are refused", High, theHouse,
			"set aud from resource, and refuse resources you do not know", audienceIsAsked,
		},
		{
			"id-token", "OpenID Connect Core §3.1.3.7, RFC 9700 §4.6", "ID tokens are signed, for this client, with its nonce and at_hash, and are no access tokens", High, theHouse,
			"sign ID tokens, set aud, nonce and at_hash, and take at+jwt only where access tokens are taken", idTokenHolds,
		},
		{
			"token-answers", "RFC 6749 §5.1, RFC 9700 §4.2", "token answers are JSON that nobody may keep; errors name no secret", Medium, theHouse,
			"send Cache-Control: no-store with every answer of the token endpoint", tokenAnswers,
		},
		{
			"subjects", "RFC 9700 §4.15", "a client cannot be called like a user, and its own tokens have its own sub", High, theHouse,
			"keep the ids of clients and users in different name spaces", subjectsDiffer,
		},
		{
			"consent-csrf", "RFC 9700 §4.16; advisories: consent", "the answer to the consent page counts only from that page, once, in that browser", High, theHouse,
			"bind the question to session and browser, and use it up", consentIsBound,
		},
	}
}

func issInAnswers(ctx context.Context, t *trial) error {
	b, err := t.browser(ctx)
	if err != nil {
		return err
	}
	v, _ := t.request(t.main)
	o, err := t.flow(ctx, b, t.main, v)
	if err != nil {
		return err
	}
	t.wants(o.back.Get("code") != "", o.answer, "there is no code")
	t.wants(slices.Equal(o.back["iss"], []string{t.cfg.Issuer}), o.answer, "iss is not the issuer")
	t.wants(slices.Equal(o.back["state"], v["state"]), o.answer, "state is not that of the request")
	to := o.to()
	t.wants(to == nil || to.Fragment == "", o.answer, "the answer is in a fragment")
	t.wants(o.status == http.StatusSeeOther || o.status == http.StatusFound, o.answer, "the redirect would repeat a POST")
	t.closedPage(o.answer)
	for _, name := range []string{"access_token", "id_token", "refresh_token"} {
		t.wants(!o.back.Has(name), o.answer, "%s is in the URL", name)
	}
	t.wants(o.head.Get("Access-Control-Allow-Origin") == "", o.answer, "scripts may read it")
	return nil
}

// refused checks that a redemption got nothing.
func (t *trial) refused(a *answer, what string) {
	t.wants(a.status >= 400 && a.status < 500 && a.text("access_token") == "" && a.text("refresh_token") == "" && a.text("id_token") == "", a, "%s", what)
}

func verifierIsChecked(ctx context.Context, t *trial) error {
	code, verifier, err := t.code(ctx, t.main)
	if err != nil {
		return err
	}
	for _, c := range []struct{ what, verifier string }{
		{"no verifier", ""},
		{"42 characters", verifier[:42]},
		{"129 characters", strings.Repeat("a", 129)},
		{"the challenge itself", digestOf(verifier)},
	} {
		a, err := t.redeem(ctx, t.main, code, verifier, "code_verifier", c.verifier)
		if err != nil {
			return err
		}
		t.refused(a, "the verifier is "+c.what)
	}
	code, _, err = t.code(ctx, t.main)
	if err != nil {
		return err
	}
	a, err := t.redeem(ctx, t.main, code, random(32))
	if err != nil {
		return err
	}
	t.refused(a, "the verifier is another one")
	return nil
}

// codeIsBound tries all eight combinations of what can be wrong.
func codeIsBound(ctx context.Context, t *trial) error {
	code, verifier, err := t.code(ctx, t.main)
	if err != nil {
		return err
	}
	a, err := t.redeem(ctx, t.main, code, verifier)
	if err != nil {
		return err
	}
	t.wants(a.text("access_token") != "", a, "with everything right there is no token, so that the refusals prove nothing")
	for mask := 1; mask < 8; mask++ {
		code, verifier, err := t.code(ctx, t.main)
		if err != nil {
			return err
		}
		p, wrong := t.main, []string{}
		var list []string
		if mask&1 != 0 {
			p, wrong = t.other, append(wrong, "client")
			list = append(list, "redirect_uri", t.main.redirect)
		}
		if mask&2 != 0 {
			list, wrong = append(list, "redirect_uri", "https://prove.invalid/other"), append(wrong, "redirect_uri")
		}
		if mask&4 != 0 {
			list, wrong = append(list, "code_verifier", random(32)), append(wrong, "verifier")
		}
		a, err := t.redeem(ctx, p, code, verifier, list...)
		if err != nil {
			return err
		}
		t.refused(a, "with another "+strings.Join(wrong, ", "))
	}
	return nil
}

// ends checks that tokens are refused within a second, at introspection and, if an
// operation takes them, at the gateway.
func (t *trial) ends(ctx context.Context, p *party, access, what string) error {
	took, ok, err := within(ctx, 3*revoked, func() (bool, error) {
		_, active, err := t.introspected(ctx, p, access)
		return !active, err
	})
	if err != nil {
		return err
	}
	if t.wants(ok && took <= revoked, nil, "%s: at introspection the token was good for %v more", what, took.Round(time.Millisecond)) {
		t.note("%s: refused at introspection after %v", what, took.Round(time.Millisecond))
	}
	if t.route == nil {
		return nil
	}
	began := time.Now().Add(-took)
	_, ok, err = within(ctx, 3*revoked, func() (bool, error) {
		_, opens, err := t.opens(ctx, p, access)
		return !opens, err
	})
	if err != nil {
		return err
	}
	took = time.Since(began)
	if t.wants(ok && took <= revoked, nil, "%s: at the gateway the token was good for %v more", what, took.Round(time.Millisecond)) {
		t.note("%s: refused at the gateway after %v", what, took.Round(time.Millisecond))
	}
	return nil
}

func codeOnce(ctx context.Context, t *trial) error {
	code, verifier, err := t.code(ctx, t.main)
	if err != nil {
		return err
	}
	first, err := t.redeem(ctx, t.main, code, verifier)
	if err != nil {
		return err
	}
	access := first.text("access_token")
	if access == "" {
		return fmt.Errorf("a good code got no token: %s", first.line())
	}
	again, err := t.redeem(ctx, t.main, code, verifier)
	if err != nil {
		return err
	}
	t.refused(again, "the code is taken a second time")
	if raw := first.text("refresh_token"); raw != "" {
		a, err := t.refresh(ctx, t.main, raw)
		if err != nil {
			return err
		}
		t.refused(a, "the refresh token outlives the replay")
	}
	return t.ends(ctx, t.main, access, "tokens of a replayed code")
}

func codeRace(ctx context.Context, t *trial) error {
	code, verifier, err := t.code(ctx, t.main)
	if err != nil {
		return err
	}
	answers, errs := make([]*answer, races), make([]error, races)
	start := make(chan struct{})
	var all sync.WaitGroup
	for i := range races {
		all.Go(func() {
			<-start
			answers[i], errs[i] = t.redeem(ctx, t.main, code, verifier)
		})
	}
	close(start)
	all.Wait()
	access := ""
	won := 0
	for i, a := range answers {
		if errs[i] != nil {
			return errs[i]
		}
		if a.text("access_token") != "" {
			won++
			access = a.text("access_token")
		} else {
			t.refused(a, "a loser was not refused as such")
		}
	}
	t.note("%d of %d succeeded", won, races)
	// None is possible: the replay may have been seen before the winner was answered.
	if !t.wants(won <= 1, nil, "%d redemptions succeeded", won) || won == 0 {
		return nil
	}
	return t.ends(ctx, t.main, access, "tokens of the winner")
}

func pushedOnce(ctx context.Context, t *trial) error {
	if !t.announced("pushed_authorization_request_endpoint") {
		return t.leaveOut("there are no pushed requests here")
	}
	b, err := t.browser(ctx)
	if err != nil {
		return err
	}
	v, _ := t.request(t.main)
	form := url.Values{}
	for name, values := range v {
		if name != "client_id" {
			form[name] = values
		}
	}
	a, err := t.post(ctx, "pushed_authorization_request_endpoint", t.main, form)
	if err != nil {
		return err
	}
	uri := a.text("request_uri")
	if a.status != http.StatusCreated || uri == "" {
		return fmt.Errorf("a request could not be pushed: %s", a.line())
	}
	t.wants(strings.Contains(a.head.Get("Cache-Control"), "no-store"), a, "the answer may be kept")
	try := func(p *party) (*outcome, error) {
		return t.ask(ctx, b, p, url.Values{"client_id": {p.id}, "request_uri": {uri}, "redirect_uri": {t.main.redirect}})
	}
	o, err := try(t.other)
	if err != nil {
		return err
	}
	t.wants(o.back.Get("code") == "", o.answer, "another client can use it")
	if o, err = try(t.main); err != nil {
		return err
	}
	t.wants(o.back.Get("code") != "", o.answer, "its own client cannot use it")
	if o, err = try(t.main); err != nil {
		return err
	}
	t.wants(o.back.Get("code") == "", o.answer, "it can be used twice")
	form.Set("request_uri", uri)
	if a, err = t.post(ctx, "pushed_authorization_request_endpoint", t.main, form); err != nil {
		return err
	}
	t.wants(a.status == http.StatusBadRequest, a, "a pushed request can refer to another")
	if a, err = t.post(ctx, "pushed_authorization_request_endpoint", nil, v); err != nil {
		return err
	}
	t.wants(a.status == http.StatusUnauthorized || a.status == http.StatusBadRequest, a, "anybody can push in the name of a confidential client")
	return nil
}

func audienceIsAsked(ctx context.Context, t *trial) error {
	for _, r := range []string{"https://" + evil + "/", t.cfg.Issuer + "#x"} {
		if err := t.told(ctx, t.main, "resource="+r, "invalid_target", "resource", r); err != nil {
			return err
		}
		a, err := t.grant(ctx, t.robot, "grant_type", "client_credentials", "resource", r)
		if err != nil {
			return err
		}
		t.wants(a.code() == "invalid_target", a, "client_credentials with resource=%s", r)
	}
	known := append([]string{}, t.cfg.Resources...)
	if len(known) > 6 {
		known = known[:6]
	}
	for _, r := range known {
		a, err := t.grant(ctx, t.robot, "grant_type", "client_credentials", "resource", r)
		if err != nil {
			return err
		}
		access := a.text("access_token")
		if access == "" {
			continue // a resource may want other clients
		}
		claims, err := t.claimsOf(ctx, t.robot, access)
		if err != nil {
			return err
		}
		aud, ok := claims["aud"].(string)
		if list, is := claims["aud"].([]any); is && len(list) == 1 {
			aud, ok = list[0].(string)
		}
		t.wants(ok && aud == r, a, "the token for %s is for others, too", r)
		if t.route != nil && r != t.route.Resource {
			got, opens, err := t.opens(ctx, t.robot, access)
			if err != nil {
				return err
			}
			t.wants(!opens, got, "a token for %s opens %s", r, t.route.Operation)
		}
	}
	if t.route == nil {
		t.note("no operation behind the gateway takes tokens of this server, so none was tried")
	}
	return nil
}

func idTokenHolds(ctx context.Context, t *trial) error {
	nonce := random(12)
	a, err := t.tokens(ctx, t.main, "nonce", nonce)
	if err != nil {
		return err
	}
	raw := a.text("id_token")
	parts := strings.Split(raw, ".")
	if !t.wants(len(parts) == 3, a, "there is no ID token, or it is not signed") {
		return nil
	}
	var head, claims map[string]any
	for i, to := range []*map[string]any{&head, &claims} {
		b, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			return err
		}
		if err := json.Unmarshal(b, to); err != nil {
			return err
		}
	}
	alg, _ := head["alg"].(string)
	t.wants(alg != "" && !strings.EqualFold(alg, "none") && !strings.HasPrefix(alg, "HS"), a, "its alg is %.20q", alg)
	t.wants(claims["iss"] == t.cfg.Issuer, a, "iss is another")
	t.wants(claims["aud"] == t.main.id || fmt.Sprint(claims["aud"]) == "["+t.main.id+"]", a, "aud is not this client alone")
	t.wants(claims["nonce"] == nonce, a, "nonce is not that of the request")
	t.wants(claims["at_hash"] != nil, a, "at_hash is missing: an access token can be exchanged for another")
	t.wants(claims["exp"] != nil && claims["iat"] != nil && claims["sub"] == t.user.ID, a, "exp, iat or sub is not there")
	_, active, err := t.introspected(ctx, t.main, raw)
	if err != nil {
		return err
	}
	t.wants(!active, nil, "an ID token is active at introspection")
	if a, err = t.present(ctx, nil, http.MethodGet, t.at("userinfo_endpoint"), raw); err != nil {
		return err
	}
	t.wants(a.status == http.StatusUnauthorized, a, "an ID token is taken as an access token")
	if t.route == nil {
		return nil
	}
	got, opens, err := t.opens(ctx, nil, raw)
	if err != nil {
		return err
	}
	t.wants(!opens, got, "an ID token opens %s", t.route.Operation)
	return nil
}

func tokenAnswers(ctx context.Context, t *trial) error {
	a, err := t.tokens(ctx, t.main)
	if err != nil {
		return err
	}
	bad, err := t.redeem(ctx, t.main, "x"+random(8), random(32))
	if err != nil {
		return err
	}
	for _, a := range []*answer{a, bad} {
		t.wants(strings.Contains(a.head.Get("Cache-Control"), "no-store"), a, "the answer may be kept")
		t.wants(strings.HasPrefix(a.head.Get("Content-Type"), "application/json"), a, "the answer is not JSON")
		t.wants(a.head.Get("Set-Cookie") == "", a, "the token endpoint sets a cookie")
		t.wants(t.main.secret == "" || !a.says(t.main.secret), a, "the client's secret is in the answer")
	}
	want := "Bearer"
	if t.main.bound {
		want = "DPoP"
	}
	t.wants(a.text("token_type") == want, a, "token_type is not %s", want)
	seconds, _ := a.doc["expires_in"].(float64)
	t.wants(seconds > 0 && seconds <= 3600, a, "the access token lives for %v s", seconds)
	return nil
}

func subjectsDiffer(ctx context.Context, t *trial) error {
	a, err := t.grant(ctx, t.robot, "grant_type", "client_credentials", "resource", t.someResource())
	if err != nil {
		return err
	}
	claims, err := t.claimsOf(ctx, t.robot, a.text("access_token"))
	if err != nil {
		return err
	}
	t.wants(claims["sub"] == t.robot.id && claims["client_id"] == t.robot.id, a, "a client's own token is of somebody else")
	return t.cannotBe(ctx, t.user.ID)
}

func consentIsBound(ctx context.Context, t *trial) error {
	b, err := t.browser(ctx)
	if err != nil {
		return err
	}
	v, _ := t.request(t.main, "prompt", "consent")
	o, err := t.flow(ctx, b, t.main, v)
	if err != nil {
		return err
	}
	action, form := o.formOf("decision")
	if !t.wants(form != nil, o.answer, "prompt=consent shows no question") {
		return nil
	}
	t.closedPage(o.answer)
	form.Set("decision", "allow")
	for _, c := range []struct {
		how     string
		b       *browser
		drop    string
		headers []string
	}{
		{"of another site", b, "", []string{"Origin", "https://" + evil, "Sec-Fetch-Site", "cross-site"}},
		{"without its token", b, "csrf", nil},
		{"of another browser", newBrowser(), "", nil},
	} {
		send := url.Values{}
		for name, values := range form {
			if name != c.drop {
				send[name] = values
			}
		}
		a, err := t.visit(ctx, c.b, http.MethodPost, action, send, c.headers...)
		if err != nil {
			return err
		}
		t.wants(a.to() == nil && a.status >= 400 && a.status < 500, a, "an answer %s counts", c.how)
	}
	a, err := t.visit(ctx, b, http.MethodPost, action, form)
	if err != nil {
		return err
	}
	t.wants(backOf(a, t.main.redirect).Get("code") != "", a, "a good answer counts for nothing, so that the refusals prove nothing")
	if a, err = t.visit(ctx, b, http.MethodPost, action, form); err != nil {
		return err
	}
	t.wants(backOf(a, t.main.redirect).Get("code") == "", a, "the answer counts twice")
	return nil
}

package posture

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

// post sends a form to an endpoint as p proves itself: nil for nobody.
func (t *trial) post(ctx context.Context, endpoint string, p *party, form url.Values, headers ...string) (*answer, error) {
	target := t.at(endpoint)
	bindable := endpoint == "token_endpoint" || endpoint == "pushed_authorization_request_endpoint"
	for try := 0; ; try++ {
		send, head := url.Values{}, slices.Clone(headers)
		maps.Copy(send, form)
		if p != nil {
			more, err := t.prove(p, send)
			if err != nil {
				return nil, err
			}
			head = append(head, more...)
		}
		if p != nil && p.bound && bindable && !slices.Contains(headers, "DPoP") {
			proof, err := p.key.proof(http.MethodPost, target, t.lastNonce(), "", nil)
			if err != nil {
				return nil, err
			}
			head = append(head, "DPoP", proof)
		}
		a, err := t.send(ctx, http.MethodPost, target, send, head...)
		if err != nil || a.code() != "use_dpop_nonce" || try > 0 || slices.Contains(headers, "DPoP") {
			return a, err
		}
	}
}

func (l *lab) lastNonce() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.nonce
}

// prove adds what proves p to a form, or to its headers.
func (t *trial) prove(p *party, form url.Values) ([]string, error) {
	switch p.method {
	case "client_secret_basic":
		r := &http.Request{Header: http.Header{}}
		r.SetBasicAuth(url.QueryEscape(p.id), url.QueryEscape(p.secret))
		return []string{"Authorization", r.Header.Get("Authorization")}, nil
	case "private_key_jwt":
		if form.Has("client_assertion") {
			return nil, nil
		}
		raw, err := p.key.assertion(p.id, t.cfg.Issuer, nil)
		form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		form.Set("client_assertion", raw)
		return nil, err
	}
	form.Set("client_id", p.id)
	return nil, nil
}

// grant asks the token endpoint; list are names and values, "" for none.
func (t *trial) grant(ctx context.Context, p *party, list ...string) (*answer, error) {
	return t.post(ctx, "token_endpoint", p, pairs(url.Values{}, list))
}

// introspected asks as p whether a token is good.
func (t *trial) introspected(ctx context.Context, p *party, raw string) (*answer, bool, error) {
	a, err := t.post(ctx, "introspection_endpoint", p, url.Values{"token": {raw}})
	if err != nil {
		return nil, false, err
	}
	active, _ := a.doc["active"].(bool)
	return a, a.status == http.StatusOK && active, nil
}

// present shows an access token to a protected resource, with the proof of its key
// when it is bound to one.
func (t *trial) present(ctx context.Context, p *party, method, target, access string) (*answer, error) {
	for try := 0; ; try++ {
		headers := []string{"Authorization", "Bearer " + access}
		if p != nil && p.bound {
			proof, err := p.key.proof(method, target, t.lastNonce(), access, nil)
			if err != nil {
				return nil, err
			}
			headers = []string{"Authorization", "DPoP " + access, "DPoP", proof}
		}
		a, err := t.send(ctx, method, target, nil, headers...)
		if err != nil || a.code() != "use_dpop_nonce" || try > 0 {
			return a, err
		}
	}
}

// opens reports whether a token gets past the authentication of the operation.
func (t *trial) opens(ctx context.Context, p *party, access string) (*answer, bool, error) {
	a, err := t.present(ctx, p, t.route.Method, t.route.URL, access)
	return a, err == nil && a.status != http.StatusUnauthorized, err
}

// A request is a good authorization request of p, and the verifier of its
// challenge. list overrides.
func (t *trial) request(p *party, list ...string) (v url.Values, verifier string) {
	verifier = random(32)
	scope := "" // of a client we did not make we do not know what it may ask for
	if t.user != nil {
		scope = "openid"
	}
	if t.user != nil && t.route != nil {
		scope = strings.Join(append([]string{"openid"}, t.route.Scopes...), " ")
	}
	v = url.Values{
		"client_id": {p.id}, "redirect_uri": {p.redirect}, "response_type": {"code"}, "scope": {scope}, "state": {random(8)}, "nonce": {random(8)},
		"code_challenge": {digestOf(verifier)}, "code_challenge_method": {"S256"},
	}
	if r := t.someResource(); r != "" && t.user != nil {
		v.Set("resource", r)
	}
	return pairs(v, list), verifier
}

// An outcome is how an authorization request ended.
type outcome struct {
	*answer
	back url.Values // what came to the client's redirect URI; nil: nothing did
}

// said is the error the client was told, by redirect or when it pushed.
func (o *outcome) said() string {
	if o.back != nil {
		return o.back.Get("error")
	}
	return o.code()
}

// pushes reports whether requests go through the back channel.
func (t *trial) pushes() bool {
	return t.cfg.Profile == oauth.FAPI2 && t.main != nil && t.main.key != nil
}

// ask sends an authorization request and no more: b may be nil.
func (t *trial) ask(ctx context.Context, b *browser, p *party, v url.Values) (*outcome, error) {
	if b == nil {
		b = newBrowser()
	}
	redirect := v.Get("redirect_uri")
	if t.pushes() && !strings.HasPrefix(v.Get("request_uri"), "urn:ietf:params:oauth:request_uri:") {
		pushed := url.Values{}
		for name, values := range v {
			if name != "client_id" {
				pushed[name] = values
			}
		}
		a, err := t.post(ctx, "pushed_authorization_request_endpoint", p, pushed)
		if err != nil || a.status != http.StatusCreated {
			return &outcome{answer: a}, err
		}
		v = url.Values{"client_id": {p.id}, "request_uri": {a.text("request_uri")}}
	}
	a, err := t.visit(ctx, b, http.MethodGet, t.at("authorization_endpoint")+"?"+v.Encode(), nil)
	if err != nil {
		return nil, err
	}
	return &outcome{a, backOf(a, redirect)}, nil
}

// backOf reads what a redirect brings to the client; nil when it does not go there.
func backOf(a *answer, redirect string) url.Values {
	to := a.to()
	if to == nil || redirect == "" {
		return nil
	}
	want, err := url.Parse(redirect)
	if err != nil || to.Scheme != want.Scheme || to.Host != want.Host || to.Path != want.Path {
		return nil
	}
	return to.Query()
}

// flow goes all the way: signs in where that is asked for, and comes back to the
// client.
func (t *trial) flow(ctx context.Context, b *browser, p *party, v url.Values) (*outcome, error) {
	o, err := t.ask(ctx, b, p, v)
	for hop := 0; err == nil && o.back == nil && hop < 8; hop++ {
		var a *answer
		switch to := o.to(); {
		case to != nil && to.Scheme+"://"+to.Host == t.origin:
			a, err = t.visit(ctx, b, http.MethodGet, to.String(), nil)
		case to != nil:
			return o, errors.New("the server sends the browser to another host")
		default:
			action, form := o.formOf("password")
			if form == nil {
				return o, nil
			}
			form.Set("name", t.user.Name)
			form.Set("password", t.pass)
			a, err = t.visit(ctx, b, http.MethodPost, action, form)
			t.entry = a
		}
		if err == nil {
			o = &outcome{a, backOf(a, v.Get("redirect_uri"))}
		}
	}
	return o, err
}

// The cookie that is planted before a sign-in, see sessionFixation.
const sessionCookie = "__Host-gatehouse"

// browser is one whose user is signed in.
func (t *trial) browser(ctx context.Context) (*browser, error) {
	if t.in != nil {
		return t.in, nil
	}
	b := newBrowser()
	t.before = random(32)
	b.cookies[sessionCookie] = &http.Cookie{Name: sessionCookie, Value: t.before} //nolint:gosec // of a request: it has no attributes
	v, _ := t.request(t.main)
	o, err := t.flow(ctx, b, t.main, v)
	if err != nil {
		return nil, err
	}
	if o.back.Get("code") == "" {
		return nil, fmt.Errorf("nobody can sign in: %s", o.line())
	}
	t.in = b
	return b, nil
}

// code gets one, with the verifier it can be redeemed by.
func (t *trial) code(ctx context.Context, p *party, list ...string) (code, verifier string, err error) {
	b, err := t.browser(ctx)
	if err != nil {
		return "", "", err
	}
	v, verifier := t.request(p, list...)
	o, err := t.flow(ctx, b, p, v)
	if err != nil {
		return "", "", err
	}
	if code = o.back.Get("code"); code == "" {
		if o.says(`value="allow"`) {
			return "", "", errors.New("a trusted client's user was asked")
		}
		return "", "", fmt.Errorf("there was no code: %s", o.line())
	}
	return code, verifier, nil
}

// redeem exchanges a code; list overrides.
func (t *trial) redeem(ctx context.Context, p *party, code, verifier string, list ...string) (*answer, error) {
	form := []string{"grant_type", "authorization_code", "code", code, "redirect_uri", p.redirect, "code_verifier", verifier}
	return t.grant(ctx, p, append(form, list...)...)
}

// tokens goes through the whole code flow.
func (t *trial) tokens(ctx context.Context, p *party, list ...string) (*answer, error) {
	code, verifier, err := t.code(ctx, p, list...)
	if err != nil {
		return nil, err
	}
	a, err := t.redeem(ctx, p, code, verifier)
	if err == nil && a.text("access_token") == "" {
		err = fmt.Errorf("a good code got no token: %s", a.line())
	}
	return a, err
}

func (t *trial) refresh(ctx context.Context, p *party, raw string, list ...string) (*answer, error) {
	return t.grant(ctx, p, append([]string{"grant_type", "refresh_token", "refresh_token", raw}, list...)...)
}

// claimsOf are those of a good access token as the server tells its client.
func (t *trial) claimsOf(ctx context.Context, p *party, access string) (map[string]any, error) {
	a, active, err := t.introspected(ctx, p, access)
	if err != nil {
		return nil, err
	}
	if !active {
		return nil, fmt.Errorf("a good token is not active: %s", a.line())
	}
	claims := map[string]any{}
	for name, v := range a.doc {
		if name != "active" && name != "token_type" {
			claims[name] = v
		}
	}
	return claims, nil
}

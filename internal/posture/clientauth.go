package posture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

// clientProbes are about how clients prove who they are.
func clientProbes() []probe {
	return []probe{
		{
			"one-method", "RFC 6749 §2.3, RFC 9700 §2.5", "a client proves itself in one way, the one it is registered for", High, theHouse,
			"refuse requests with two proofs, and every method but the registered one", oneMethod,
		},
		{
			"client-enumeration", "RFC 9700 §2.5; advisories: enumeration", "an unknown client is answered like one whose secret is wrong", Low, theHouse,
			"answer both invalid_client with the same words", clientsAreNotTold,
		},
		{
			"assertions", "RFC 9700 §2.5, RFC 7523 §3", "a client assertion is for this server alone, short-lived, good once, and signed by the client", Critical, theHouse,
			"demand aud to be the issuer as one string, a jti that is new, a near exp, and the registered key", assertionsAreChecked,
		},
		{
			"introspection-closed", "RFC 7662 §2.1, §4", "introspection answers clients that prove themselves, about tokens that are theirs to know", High, theHouse,
			"authenticate the caller, and answer active=false for tokens of others", introspectionIsClosed,
		},
		{
			"jwks-uri-ssrf", "advisories: SSRF", "a client's jwks_uri and logout URI lead the server to no address inside", High, theHouse,
			"filter addresses when they are dialled", clientURIsLeadNowhere,
		},
		{
			"device-bound", "RFC 8628 §5", "the device flow is for clients registered for it", Low, theHouse,
			"check the client's grant types at both endpoints", deviceIsClosed,
		},
		{
			"mtls", "RFC 8705", "client certificates bind tokens", Medium, outside, "", mtlsNote,
		},
	}
}

func mtlsNote(_ context.Context, t *trial) error {
	said, _ := t.meta["tls_client_certificate_bound_access_tokens"].(bool)
	if !said {
		return t.leaveOut("the server does not offer them")
	}
	return t.leaveOut("it needs a client certificate of a CA that the listener trusts, and the proof has none; 'gatehouse check' tells which listeners ask for one")
}

// cannotBe tries to make a client called like a user.
func (t *trial) cannotBe(ctx context.Context, user string) error {
	for _, id := range []string{user, "usr_prove"} {
		_, _, err := t.cfg.OAuth.CreateClient(ctx, t.cfg.Actor, id, oauth.Metadata{ClientName: "Proof", GrantTypes: []string{"client_credentials"}})
		if err != nil {
			continue
		}
		t.wants(false, nil, "a client can be called like a user")
		if err := t.cfg.OAuth.DeleteClient(context.WithoutCancel(ctx), t.cfg.Actor, id); err != nil {
			return err
		}
	}
	return nil
}

// unproven checks that a request was refused for who sent it.
func (t *trial) unproven(a *answer, what string) {
	t.refused(a, what)
	// These are said to clients only that were believed.
	t.wants(!slices.Contains([]string{"invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope", "invalid_target"}, a.code()), a, "%s", what)
}

func oneMethod(ctx context.Context, t *trial) error {
	assertion, err := t.robot.key.assertion(t.robot.id, t.cfg.Issuer, nil)
	if err != nil {
		return err
	}
	form := func(list ...string) url.Values {
		return pairs(url.Values{"grant_type": {"client_credentials"}}, list)
	}
	const kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	basic := func(id, secret string) string {
		r := &http.Request{Header: http.Header{}}
		r.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
		return r.Header.Get("Authorization")
	}
	for _, c := range []struct {
		what    string
		form    url.Values
		headers []string
	}{
		{"an assertion and a secret", form("client_assertion_type", kind, "client_assertion", assertion, "client_secret", "x"), nil},
		{"an assertion and a header", form("client_assertion_type", kind, "client_assertion", assertion), []string{"Authorization", basic(t.robot.id, "x")}},
		{"a client_id that is not the assertion's", form("client_assertion_type", kind, "client_assertion", assertion, "client_id", t.main.id), nil},
		{"no proof at all", form("client_id", t.robot.id), nil},
		{"a secret where an assertion is registered", form("client_id", t.robot.id, "client_secret", random(16)), nil},
	} {
		a, err := t.post(ctx, "token_endpoint", nil, c.form, c.headers...)
		if err != nil {
			return err
		}
		t.unproven(a, c.what)
	}
	if t.main.secret == "" {
		return nil
	}
	for _, c := range []struct {
		what    string
		form    url.Values
		headers []string
	}{
		{"a secret in the body where the header is registered", form("client_id", t.main.id, "client_secret", t.main.secret), nil},
		{"a secret in both places", form("client_id", t.main.id, "client_secret", t.main.secret), []string{"Authorization", basic(t.main.id, t.main.secret)}},
		{"a secret with a character less", form(), []string{"Authorization", basic(t.main.id, t.main.secret[:len(t.main.secret)-1])}},
		{"another client's secret", form(), []string{"Authorization", basic(t.other.id, t.main.secret)}},
		{"two headers", form(), []string{"Authorization", basic(t.main.id, t.main.secret), "Authorization", basic(t.other.id, t.other.secret)}},
	} {
		a, err := t.post(ctx, "token_endpoint", nil, c.form, c.headers...)
		if err != nil {
			return err
		}
		t.unproven(a, c.what)
	}
	a, err := t.send(ctx, http.MethodPost, t.at("token_endpoint")+"?"+url.Values{"client_id": {t.main.id}, "client_secret": {t.main.secret}}.Encode(), form())
	if err != nil {
		return err
	}
	t.unproven(a, "the right secret in the URL")
	return nil
}

func clientsAreNotTold(ctx context.Context, t *trial) error {
	form := url.Values{"grant_type": {"client_credentials"}}
	known := &party{id: t.main.id, secret: random(24), method: "client_secret_basic"}
	nobody := &party{id: prefix + "main-" + random(9), secret: known.secret, method: "client_secret_basic"}
	a, err := t.post(ctx, "token_endpoint", known, form)
	if err != nil {
		return err
	}
	b, err := t.post(ctx, "token_endpoint", nobody, form)
	if err != nil {
		return err
	}
	t.wants(a.status == b.status && string(a.body) == string(b.body), b, "the answers differ")
	t.wants(a.status == http.StatusUnauthorized && a.head.Get("Www-Authenticate") != "", a, "it is not 401 with WWW-Authenticate")
	return nil
}

func assertionsAreChecked(ctx context.Context, t *trial) error {
	now := time.Now()
	stranger, err := newKey()
	if err != nil {
		return err
	}
	try := func(raw string) (*answer, error) {
		return t.post(ctx, "token_endpoint", nil, url.Values{
			"grant_type": {"client_credentials"}, "client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {raw},
			"resource": []string{t.someResource()},
		})
	}
	for _, c := range []struct {
		what   string
		key    *signingKey
		change func(head, claims map[string]any)
	}{
		{"aud is a list", t.robot.key, func(_, c map[string]any) { c["aud"] = []string{t.cfg.Issuer} }},
		{"aud is another server", t.robot.key, func(_, c map[string]any) { c["aud"] = "https://" + evil }},
		{"aud is missing", t.robot.key, func(_, c map[string]any) { delete(c, "aud") }},
		{"it has expired", t.robot.key, func(_, c map[string]any) { c["iat"], c["exp"] = now.Unix()-600, now.Unix()-300 }},
		{"it lives for a day", t.robot.key, func(_, c map[string]any) { c["exp"] = now.Unix() + 86400 }},
		{"exp is missing", t.robot.key, func(_, c map[string]any) { delete(c, "exp") }},
		{"jti is missing", t.robot.key, func(_, c map[string]any) { delete(c, "jti") }},
		{"it is from the future", t.robot.key, func(_, c map[string]any) { c["nbf"] = now.Unix() + 300 }},
		{"it is by another key", stranger, nil},
		{"it brings its own key", stranger, func(h, _ map[string]any) { h["jwk"] = stranger.jwk; delete(h, "kid") }},
	} {
		raw, err := c.key.assertion(t.robot.id, t.cfg.Issuer, c.change)
		if err != nil {
			return err
		}
		a, err := try(raw)
		if err != nil {
			return err
		}
		t.unproven(a, c.what)
	}
	claims := map[string]any{"iss": t.robot.id, "sub": t.robot.id, "aud": t.cfg.Issuer, "jti": random(16), "iat": now.Unix(), "exp": now.Unix() + 50}
	public, err := json.Marshal(t.robot.key.jwk)
	if err != nil {
		return err
	}
	for what, raw := range map[string]string{
		"alg none": unsigned(map[string]any{"alg": "none"}, claims) + ".",
		"HS256 with the public key as its secret": hmacSigned(map[string]any{"alg": "HS256", "kid": "prove"}, claims, public),
	} {
		a, err := try(raw)
		if err != nil {
			return err
		}
		t.unproven(a, what)
	}
	good, err := t.robot.key.assertion(t.robot.id, t.cfg.Issuer, nil)
	if err != nil {
		return err
	}
	var seen []*answer
	for range 2 {
		a, err := t.grantWith(ctx, good)
		if err != nil {
			return err
		}
		seen = append(seen, a)
	}
	t.wants(seen[0].text("access_token") != "", seen[0], "a good assertion is refused, so that the refusals prove nothing")
	t.unproven(seen[1], "it was used before")
	return nil
}

// grantWith asks for a token of the robot's own by this assertion.
func (t *trial) grantWith(ctx context.Context, assertion string) (*answer, error) {
	form := pairs(url.Values{}, []string{
		"grant_type", "client_credentials", "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
		"client_assertion", assertion, "resource", t.someResource(),
	})
	return t.post(ctx, "token_endpoint", t.robot, form)
}

func introspectionIsClosed(ctx context.Context, t *trial) error {
	good, err := t.good(ctx)
	if err != nil {
		return err
	}
	access, refresh := good.text("access_token"), good.text("refresh_token")
	if _, err := t.claimsOf(ctx, t.main, access); err != nil {
		return err
	}
	for _, raw := range []string{access, refresh} {
		if raw == "" {
			continue
		}
		a, active, err := t.introspected(ctx, t.other, raw)
		if err != nil {
			return err
		}
		t.wants(!active, a, "another client learns about a token")
		t.wants(len(a.doc) <= 1 || active, a, "it says more than active=false about a token")
		if a, active, err = t.introspected(ctx, nil, raw); err != nil {
			return err
		}
		t.wants(a.status == http.StatusUnauthorized && !active, a, "anybody can introspect")
		if t.native == nil {
			continue
		}
		if a, active, err = t.introspected(ctx, t.native, raw); err != nil {
			return err
		}
		t.wants(a.status >= 400 && !active, a, "a client that proves nothing can introspect")
	}
	a, err := t.post(ctx, "introspection_endpoint", t.main, url.Values{"token": {access}}, "Accept", "application/json")
	if err != nil {
		return err
	}
	t.wants(strings.Contains(a.head.Get("Cache-Control"), "no-store"), a, "the answer may be kept")
	t.wants(a.head.Get("Access-Control-Allow-Origin") == "", a, "scripts may introspect")
	return nil
}

func clientURIsLeadNowhere(ctx context.Context, t *trial) error {
	before := t.canary.knocks.Load()
	for i, at := range []string{"https://" + t.canary.address(), "https://localhost:" + strings.TrimPrefix(t.canary.address(), "127.0.0.1:"), "https://169.254.169.254"} {
		p := &party{id: fmt.Sprintf("%srobot-%d%s", prefix, i, random(9)), method: "private_key_jwt", key: t.robot.key}
		_, _, err := t.cfg.OAuth.CreateClient(ctx, t.cfg.Actor, p.id, oauth.Metadata{
			ClientName: "Proof", GrantTypes: []string{"client_credentials"}, TokenEndpointAuthMethod: p.method, JWKSURI: at + "/jwks.json", BackchannelLogoutURI: at + "/logout",
			DPoPBoundTokens: t.robot.bound,
		})
		if err != nil {
			continue // it cannot even be written down
		}
		err = t.knock(ctx, p)
		if err = errors.Join(err, t.cfg.OAuth.DeleteClient(context.WithoutCancel(ctx), t.cfg.Actor, p.id)); err != nil {
			return err
		}
	}
	knocks := t.canary.knocks.Load() - before
	t.wants(knocks == 0, nil, "the server connected %d times to an address of this machine", knocks)
	return nil
}

// knock makes the server look for the keys of p. It may not know p at once.
func (t *trial) knock(ctx context.Context, p *party) error {
	for range 2 {
		a, err := t.grant(ctx, p, "grant_type", "client_credentials")
		if err != nil {
			return err
		}
		t.refused(a, "a client whose keys are at an inner address")
		if err := wait(ctx, pollEvery); err != nil {
			return err
		}
	}
	return nil
}

func deviceIsClosed(ctx context.Context, t *trial) error {
	if !t.announced("device_authorization_endpoint") {
		return t.leaveOut("there is no device flow here")
	}
	a, err := t.post(ctx, "device_authorization_endpoint", t.main, url.Values{"scope": {"openid"}})
	if err != nil {
		return err
	}
	t.wants(a.status >= 400 && a.text("device_code") == "", a, "a client without the grant type gets a code")
	if a, err = t.grant(ctx, t.main, "grant_type", "urn:ietf:params:oauth:grant-type:device_code", "device_code", random(24)); err != nil {
		return err
	}
	t.refused(a, "a device code of nobody's")
	return nil
}

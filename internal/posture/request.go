package posture

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"strings"

	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

// requestProbes are about authorization requests: nobody has to sign in for them.
func requestProbes() []probe {
	return []probe{
		{
			"redirect-exact", "RFC 9700 §2.1, §4.1", "a redirect_uri is compared byte by byte, and nothing else is ever redirected to", Critical, aClient,
			"compare redirect URIs as text, with those registered for this very client; show a page when none is equal", redirectsAreExact,
		},
		{
			"redirect-loopback", "RFC 9700 §2.1, RFC 8252 §7.3", "http redirect URIs are those of the own machine, whose port alone may differ", High, theHouse,
			"refuse http redirect URIs of other hosts; compare loopback ones without their port", loopbackOnly,
		},
		{
			"iss-in-errors", "RFC 9700 §4.4, RFC 9207", "errors at the client carry iss and its state", Medium, aClient,
			"add iss to every authorization response, errors as well", issInErrors,
		},
		{
			"pkce-required", "RFC 9700 §2.1.1", "PKCE with S256 is required of every client; plain and downgrades are refused", Critical, aClient,
			"refuse requests without code_challenge and with any other method than S256", pkceRequired,
		},
		{
			"no-implicit", "RFC 9700 §2.1.2, §2.4", "implicit, hybrid and password flows do not exist", Critical, aClient,
			"take response_type=code only, and have no password grant", noImplicit,
		},
		{
			"no-post-message", "RFC 9700 §4.17, §4.3", "answers come by query or form, never in a fragment or by postMessage", Medium, aClient,
			"take response_mode query and form_post only", modesAreClosed,
		},
		{
			"no-request-uri", "advisories: SSRF; RFC 9101 §10.4", "a request_uri or request object of a stranger's is neither fetched nor taken", High, aClient,
			"take only request URIs of your own making (RFC 9126)", noRequestURI,
		},
		{
			"repeated-parameters", "RFC 6749 §3.1", "a repeated parameter is refused", Medium, aClient,
			"refuse what is there twice: which one was meant, nobody knows", repeatedAreRefused,
		},
	}
}

// bend makes URIs that some parser takes for uri.
func bend(uri string) map[string]string {
	u, err := url.Parse(uri)
	if err != nil {
		return nil
	}
	host, path := u.Host, u.EscapedPath()
	at := u.Scheme + "://"
	last := path
	if i := strings.LastIndexByte(path, '/'); i >= 0 && i+1 < len(path) {
		last = path[:i+1] + strings.ToUpper(path[i+1:])
	}
	all := map[string]string{
		"with capitals in its path":    at + host + last,
		"with its host in capitals":    at + strings.ToUpper(host) + path,
		"with its scheme in capitals":  strings.ToUpper(u.Scheme) + "://" + host + path,
		"with %2f":                     at + host + "%2f" + strings.TrimPrefix(path, "/"),
		"with ..":                      at + host + path + "/../" + strings.TrimPrefix(path, "/"),
		"with a slash at its end":      uri + "/",
		"with user information":        at + host + "@" + evil + path,
		"with a backslash":             at + evil + `\@` + host + path,
		"with another query":           uri + "?next=https://" + evil,
		"with a fragment":              uri + "#x",
		"with its port written":        at + host + ":443" + path,
		"with a dot behind its host":   at + host + "." + path,
		"with a host behind it":        at + host + "." + evil + path,
		"with a host of other letters": at + strings.Replace(host, "o", "о", 1) + path, // Cyrillic
		"of a stranger's":              at + evil + path,
		"in the clear":                 "http://" + host + path,
		"with a space behind":          uri + " ",
		"with a NUL":                   uri + "\x00",
		"as javascript":                "javascript:alert(1)//" + uri,
		"without scheme":               "//" + host + path,
		"of two, with a comma between": uri + "," + at + evil,
	}
	maps.DeleteFunc(all, func(_, bent string) bool { return bent == uri })
	return all
}

func redirectsAreExact(ctx context.Context, t *trial) error {
	for how, uri := range bend(t.main.redirect) {
		v, _ := t.request(t.main, "redirect_uri", uri, "prompt", "none")
		o, err := t.ask(ctx, nil, t.main, v)
		if err != nil {
			return err
		}
		t.wants(o.to() == nil && o.status >= 400 && o.status < 500, o.answer, "a redirect_uri %s is taken", how)
		t.wants(o.head.Get("Refresh") == "" && !o.says(`http-equiv="refresh"`), o.answer, "a redirect_uri %s is followed by the page", how)
	}
	return nil
}

func loopbackOnly(ctx context.Context, t *trial) error {
	for _, uri := range []string{"http://prove.invalid/callback", "http://127.0.0.1.prove.invalid/callback", "http://localhost@prove.invalid/", "https://prove.invalid/*", "javascript:alert(1)", "https://a@prove.invalid/"} {
		id := prefix + "main-" + random(9)
		_, _, err := t.cfg.OAuth.CreateClient(ctx, t.cfg.Actor, id, oauth.Metadata{
			ClientName: "Proof", ApplicationType: "native", TokenEndpointAuthMethod: "none", RedirectURIs: []string{uri},
		})
		if err == nil {
			err = t.cfg.OAuth.DeleteClient(context.WithoutCancel(ctx), t.cfg.Actor, id)
			t.wants(false, nil, "a client could be registered with %q", uri)
			if err != nil {
				return err
			}
		}
	}
	if t.native == nil {
		t.note("the profile has no native clients")
		return nil
	}
	for _, c := range []struct {
		uri  string
		good bool
	}{
		{"http://127.0.0.1:51004/callback", true},
		{"http://127.0.0.1:51004/other", false},
		{"http://localhost:51004/callback", false},
		{"http://127.0.0.2:51004/callback", false},
		{"https://127.0.0.1:51004/callback", false},
		{"http://127.0.0.1:51004@prove.invalid/callback", false},
	} {
		v, _ := t.request(t.native, "redirect_uri", c.uri, "prompt", "none")
		o, err := t.ask(ctx, nil, t.native, v)
		if err != nil {
			return err
		}
		t.wants((o.back != nil) == c.good && (c.good || o.to() == nil), o.answer, "%s", c.uri)
	}
	return nil
}

// told checks that a request ends in this error, told to the client or, where it
// pushes, to who pushed.
func (t *trial) told(ctx context.Context, p *party, what, want string, list ...string) error {
	v, _ := t.request(p, list...)
	o, err := t.ask(ctx, nil, p, v)
	if err != nil {
		return err
	}
	said := o.said()
	ok := o.back.Get("code") == "" && said != "" && o.back.Get("access_token") == "" && (want == "" || strings.Contains(want, said))
	// A request nobody may answer could also have been let through to the sign-in page.
	t.wants(ok && o.status < 500, o.answer, "%s: wanted %s, got %q", what, want, said)
	if to := o.to(); to != nil {
		t.wants(to.Fragment == "", o.answer, "%s: the answer is in a fragment", what)
	}
	return nil
}

func issInErrors(ctx context.Context, t *trial) error {
	if t.pushes() {
		return t.leaveOut("with the profile fapi2 these errors are told to who pushes, not by redirect")
	}
	for _, list := range [][]string{
		{"response_type", "token"}, {"scope", "openid prove-nobody-has-this"}, {"prompt", "none"}, {"max_age", "x"},
	} {
		v, _ := t.request(t.main, list...)
		o, err := t.ask(ctx, nil, t.main, v)
		if err != nil {
			return err
		}
		if !t.wants(o.back != nil, o.answer, "%s=%q was not answered to the client", list[0], list[1]) {
			continue
		}
		t.wants(o.back.Get("iss") == t.cfg.Issuer, o.answer, "%s=%q: no iss", list[0], list[1])
		t.wants(o.back.Get("state") == v.Get("state"), o.answer, "%s=%q: another state", list[0], list[1])
		t.wants(len(o.back["iss"]) == 1 && len(o.back["state"]) == 1, o.answer, "%s=%q: iss or state is there twice", list[0], list[1])
	}
	return nil
}

func pkceRequired(ctx context.Context, t *trial) error {
	parties := []*party{t.main}
	if t.native != nil {
		parties = append(parties, t.native)
	}
	for _, p := range parties {
		for i, c := range []struct {
			what string
			list []string
		}{
			{"no challenge", []string{"code_challenge", "", "code_challenge_method", ""}},
			{"plain", []string{"code_challenge_method", "plain"}},
			{"a challenge without method, which means plain", []string{"code_challenge_method", ""}},
			{"a method nobody knows", []string{"code_challenge_method", "S512"}},
			{"s256 in small letters", []string{"code_challenge_method", "s256"}},
			{"a challenge too short", []string{"code_challenge", "abc"}},
			{"a challenge too long", []string{"code_challenge", strings.Repeat("a", 129)}},
			{"a challenge of other characters", []string{"code_challenge", strings.Repeat("=", 43)}},
		} {
			if p == t.native && i > 1 {
				break // the rest is about words, which are the same for all
			}
			if err := t.told(ctx, p, c.what, "invalid_request", c.list...); err != nil {
				return err
			}
		}
	}
	return nil
}

func noImplicit(ctx context.Context, t *trial) error {
	for _, kind := range []string{"token", "id_token", "id_token token", "code token", "code id_token"} {
		if err := t.told(ctx, t.main, "response_type="+kind, "unsupported_response_type invalid_request unauthorized_client", "response_type", kind); err != nil {
			return err
		}
	}
	a, err := t.grant(ctx, t.main, "grant_type", "password", "username", "prove", "password", random(12))
	if err != nil {
		return err
	}
	t.wants(a.status == http.StatusBadRequest && (a.code() == "unsupported_grant_type" || a.code() == "unauthorized_client"), a, "the password grant")
	return nil
}

func modesAreClosed(ctx context.Context, t *trial) error {
	for _, mode := range []string{"fragment", "web_message", "okta_post_message"} {
		if err := t.told(ctx, t.main, "response_mode="+mode, "invalid_request unsupported_response_mode", "response_mode", mode); err != nil {
			return err
		}
	}
	return nil
}

func noRequestURI(ctx context.Context, t *trial) error {
	before := t.canary.knocks.Load()
	for _, uri := range []string{"http://" + t.canary.address() + "/r", "https://" + t.canary.address() + "/r", "file:///etc/passwd"} {
		if err := t.told(ctx, t.main, "a request_uri", "request_uri_not_supported invalid_request_uri invalid_request", "request_uri", uri); err != nil {
			return err
		}
	}
	claims := map[string]any{"iss": t.main.id, "aud": t.cfg.Issuer, "client_id": t.main.id, "redirect_uri": "https://" + evil + "/"}
	raw := unsigned(map[string]any{"alg": "none"}, claims) + "."
	if err := t.told(ctx, t.main, "a request object without signature", "request_not_supported invalid_request_object invalid_request", "request", raw); err != nil {
		return err
	}
	t.wants(t.canary.knocks.Load() == before, nil, "the server fetched what a stranger named")
	return nil
}

func repeatedAreRefused(ctx context.Context, t *trial) error {
	for _, name := range []string{"client_id", "redirect_uri", "code_challenge", "state"} {
		v, _ := t.request(t.main)
		value := v.Get(name)
		if name == "redirect_uri" {
			value = "https://" + evil + "/callback"
		}
		v.Add(name, value)
		if name == "client_id" && t.pushes() {
			continue // it is told by how the client proves itself
		}
		o, err := t.ask(ctx, nil, t.main, v)
		if err != nil {
			return err
		}
		leads := o.to() != nil && o.to().Host == evil
		t.wants(!leads && o.back.Get("code") == "" && (o.status >= 400 && o.status < 500 || o.said() == "invalid_request"), o.answer, "%s twice", name)
	}
	a, err := t.post(ctx, "token_endpoint", t.main, url.Values{"grant_type": {"authorization_code", "client_credentials"}, "code": {"x"}})
	if err != nil {
		return err
	}
	t.wants(a.status == http.StatusBadRequest && a.code() == "invalid_request", a, "grant_type twice")
	return nil
}

package posture

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

const evil = "evil.invalid" // a name that nobody can own (RFC 2606)

// frontProbes need nobody's account: they are about the door.
func frontProbes() []probe {
	return []probe{
		{
			"metadata", "RFC 9700 §2.6, RFC 8414", "the metadata is complete and promises nothing that RFC 9700 forbids", High, outside,
			"serve one document, made from what the server really does; take out what it must not offer", metadataHolds,
		},
		{
			"metadata-answers", "RFC 8414 §2", "every endpoint of the metadata answers", Medium, outside,
			"route every endpoint the metadata names, or do not name it", endpointsAnswer,
		},
		{
			"keys-public", "RFC 7517 §4", "the published keys are public ones for signatures, each with a name", Critical, outside,
			"rotate the keys at once and publish public halves only", keysArePublic,
		},
		{
			"host-poisoning", "advisories: Host poisoning", "Host and X-Forwarded-* change nothing the server says", High, outside,
			"make every URL from the configured issuer, none from the request", hostIsIgnored,
		},
		{
			"tls-only", "RFC 9700 §2.6", "the server answers over TLS only", High, outside,
			"serve the issuer over https and nothing on its port in the clear", tlsOnly,
		},
		{
			"cors", "RFC 9700 §2.6", "scripts of other origins reach the token endpoint, keys and metadata, and never the authorization endpoint", Medium, outside,
			"send Access-Control-Allow-Origin where no cookie counts and nowhere else", corsIsRight,
		},
		{
			"page-headers", "RFC 9700 §4.16, §4.2", "pages cannot be framed, kept, sniffed, or told to the next site, and load nothing of others", High, outside,
			"send frame-ancestors 'none', X-Frame-Options, no-store, nosniff and Referrer-Policy: no-referrer on every page", pagesAreClosed,
		},
		{
			"no-redirector", "RFC 9700 §4.11", "a request of an unknown client is answered by a page and never by a redirect", High, outside,
			"redirect only to a URI that is registered for a client that is known", noRedirector,
		},
		{
			"login-csrf", "RFC 9700 §4.7", "a form of the sign-in pages that another site sends is refused and sets no session", High, outside,
			"bind forms to the browser by a token, and check Origin and Sec-Fetch-Site", loginCSRF,
		},
		{
			"token-in-url", "RFC 9700 §2.1.2, RFC 6750 §2.3", "credentials in a URL are refused", Medium, outside,
			"take tokens from the Authorization header, secrets from the header or the body", credentialsInURLs,
		},
		{
			"methods", "RFC 6749 §3.2", "the token endpoint takes POST only, and forms only", Low, outside,
			"answer every other method 405 and every other body 4xx", onlyForms,
		},
		{
			"registration-ssrf", "advisories: SSRF", "registration and metadata documents lead the server to no address inside", High, outside,
			"filter addresses when they are dialled, not when the URL is read", noCallsInside,
		},
	}
}

func metadataHolds(ctx context.Context, t *trial) error {
	a, err := t.get(ctx, t.cfg.Issuer+"/.well-known/openid-configuration")
	if err != nil {
		return err
	}
	u, err := url.Parse(t.cfg.Issuer)
	if err != nil {
		return err
	}
	as, err := t.get(ctx, t.origin+"/.well-known/oauth-authorization-server"+strings.TrimSuffix(u.EscapedPath(), "/"))
	if err != nil {
		return err
	}
	t.wants(as.status == http.StatusOK && bytes.Equal(a.body, as.body), as, "the document of RFC 8414 is not that of OpenID Connect Discovery")
	t.wants(a.text("issuer") == t.cfg.Issuer, a, "issuer is not the URL the document was found at")
	for name, v := range a.doc {
		if !strings.HasSuffix(name, "_endpoint") && name != "jwks_uri" {
			continue
		}
		at, _ := v.(string)
		t.wants(strings.HasPrefix(at, "https://"), a, "%s is not https", name)
	}
	for _, name := range []string{"authorization_endpoint", "token_endpoint", "jwks_uri", "introspection_endpoint", "revocation_endpoint"} {
		t.wants(t.announced(name), a, "%s is missing", name)
	}
	only := func(name string, may ...string) {
		list, _ := a.doc[name].([]any)
		if !t.wants(len(list) > 0, a, "%s is missing", name) {
			return
		}
		for _, v := range list {
			s, _ := v.(string)
			t.wants(slices.Contains(may, s), a, "%s offers %.40q", name, s)
		}
	}
	only("response_types_supported", "code")
	only("code_challenge_methods_supported", "S256")
	only("response_modes_supported", "query", "form_post", "query.jwt", "form_post.jwt")
	t.wants(a.doc["authorization_response_iss_parameter_supported"] == true, a, "it does not say that answers have iss (RFC 9207)")
	grants, _ := a.doc["grant_types_supported"].([]any)
	t.wants(len(grants) > 0, a, "grant_types_supported is missing, which means that implicit exists")
	for _, g := range grants {
		t.wants(g != "implicit" && g != "password", a, "there is the grant type %v", g)
	}
	for name, v := range a.doc {
		list, _ := v.([]any)
		if !strings.Contains(name, "_alg_values_supported") {
			continue
		}
		for _, alg := range list {
			s, _ := alg.(string)
			t.wants(!strings.EqualFold(s, "none") && !strings.HasPrefix(s, "HS"), a, "%s has %.20q", name, s)
		}
	}
	return nil
}

func endpointsAnswer(ctx context.Context, t *trial) error {
	tried := 0
	for name, v := range t.meta {
		at, _ := v.(string)
		if !strings.HasSuffix(name, "_endpoint") && name != "jwks_uri" || at == "" {
			continue
		}
		if !t.wants(strings.HasPrefix(at, t.cfg.Issuer+"/"), nil, "%s is not below the issuer", name) {
			continue
		}
		method := http.MethodGet
		form := url.Values(nil)
		if !slices.Contains([]string{"authorization_endpoint", "end_session_endpoint", "userinfo_endpoint", "jwks_uri", "check_session_iframe"}, name) {
			method, form = http.MethodPost, url.Values{}
		}
		a, err := t.send(ctx, method, at, form)
		if err != nil {
			return err
		}
		tried++
		t.wants(a.status != http.StatusNotFound && a.status != http.StatusMethodNotAllowed && a.status < 500, a, "%s does not answer", name)
	}
	t.wants(tried > 0, nil, "the metadata names no endpoint")
	return nil
}

func keysArePublic(ctx context.Context, t *trial) error {
	a, err := t.get(ctx, t.at("jwks_uri"))
	if err != nil {
		return err
	}
	seen := map[any]bool{}
	for _, k := range t.keys {
		for _, secret := range []string{"d", "p", "q", "dp", "dq", "qi", "k", "oth", "priv"} {
			t.wants(k[secret] == nil, a, "a key shows its private part %s", secret)
		}
		t.wants(k["kty"] != "oct", a, "a key is a shared secret")
		kid, _ := k["kid"].(string)
		t.wants(kid != "" && !seen[kid], a, "a key has no name of its own")
		seen[kid] = true
		alg, _ := k["alg"].(string)
		t.wants(!strings.HasPrefix(alg, "HS") && alg != "none", a, "a key is for %.20q", alg)
		if n, _ := k["n"].(string); n != "" {
			t.wants(len(n) >= 342, a, "an RSA key has less than 2048 bits")
		}
	}
	return nil
}

// spoofs are the headers by which a stranger can claim another host.
var spoofs = [][]string{
	{"X-Forwarded-Host", evil},
	{"Host", evil},
	{"X-Forwarded-Proto", "http"},
	{"X-Forwarded-Prefix", "/" + evil},
	{"Forwarded", "host=" + evil + ";proto=http"},
	{"X-Original-Host", evil},
	{"X-Original-URL", "/" + evil},
}

func hostIsIgnored(ctx context.Context, t *trial) error {
	document := t.cfg.Issuer + "/.well-known/openid-configuration"
	good, err := t.get(ctx, document)
	if err != nil {
		return err
	}
	for i, s := range spoofs {
		targets := []string{document}
		if i < 2 {
			targets = append(targets, t.cfg.Issuer+"/account") // which redirects
		}
		for _, target := range targets {
			a, err := t.get(ctx, target, s...)
			if err != nil {
				return err
			}
			said := a.says(evil) || strings.Contains(fmt.Sprint(a.head), evil)
			t.wants(!said, a, "with %s the answer names that host", s[0])
			if target == document && a.status < 400 { // to be refused is as good
				t.wants(bytes.Equal(a.body, good.body), a, "with %s the metadata is another", s[0])
			}
		}
	}
	return nil
}

func tlsOnly(ctx context.Context, t *trial) error {
	if !t.wants(strings.HasPrefix(t.cfg.Issuer, "https://"), nil, "the issuer is not https") {
		return nil
	}
	inClear := "http" + strings.TrimPrefix(t.cfg.Issuer, "https") + "/.well-known/openid-configuration"
	a, err := t.get(ctx, inClear)
	if err != nil {
		t.note("in the clear there is no answer")
		return ctx.Err()
	}
	to := a.to()
	t.wants(a.status >= 400 || to != nil && to.Scheme == "https", a, "it answers in the clear")
	return nil
}

func corsIsRight(ctx context.Context, t *trial) error {
	origin := "https://" + evil
	a, err := t.get(ctx, t.at("authorization_endpoint")+"?client_id=none", "Origin", origin)
	if err != nil {
		return err
	}
	t.wants(a.head.Get("Access-Control-Allow-Origin") == "", a, "scripts may read the authorization endpoint")
	if a, err = t.send(ctx, http.MethodOptions, t.at("authorization_endpoint"), nil, "Origin", origin, "Access-Control-Request-Method", "GET"); err != nil {
		return err
	}
	t.wants(a.head.Get("Access-Control-Allow-Origin") == "", a, "a preflight of the authorization endpoint is allowed")
	for _, at := range []struct{ name, method, wants string }{
		{"token_endpoint", http.MethodOptions, "POST"},
		{"jwks_uri", http.MethodGet, ""},
		{"issuer", http.MethodGet, ""},
	} {
		target, headers := t.at(at.name), []string{"Origin", origin}
		if at.name == "issuer" {
			target = t.cfg.Issuer + "/.well-known/openid-configuration"
		}
		if at.wants != "" {
			headers = append(headers, "Access-Control-Request-Method", at.wants, "Access-Control-Request-Headers", "authorization,content-type,dpop")
		}
		if a, err = t.send(ctx, at.method, target, nil, headers...); err != nil {
			return err
		}
		allow := a.head.Get("Access-Control-Allow-Origin")
		t.wants(a.status < 300 && (allow == "*" || allow == origin), a, "scripts cannot reach %s", at.name)
		t.wants(a.head.Get("Access-Control-Allow-Credentials") == "", a, "scripts reach %s with the user's cookies", at.name)
	}
	return nil
}

var (
	foreign  = regexp.MustCompile(`(?i)\s(?:src|href|action)="((?:https?:)?//[^"]+)"`)
	inlineJS = regexp.MustCompile(`(?i)<script(?:\s[^>]*)?>[^<\s]`)
)

func pagesAreClosed(ctx context.Context, t *trial) error {
	for _, target := range []string{
		t.cfg.Issuer + "/signin", t.cfg.Issuer + "/reset", t.at("authorization_endpoint") + "?client_id=" + evil, t.at("end_session_endpoint"), t.cfg.Issuer + "/device",
	} {
		a, err := t.get(ctx, target)
		if err != nil {
			return err
		}
		if a.status == http.StatusNotFound {
			continue
		}
		t.closedPage(a)
	}
	return nil
}

// closedPage checks what every page must have.
func (t *trial) closedPage(a *answer) {
	policy := a.head.Get("Content-Security-Policy")
	t.wants(strings.Contains(a.head.Get("Cache-Control"), "no-store"), a, "it may be kept")
	referrer := a.head.Get("Referrer-Policy") // same-origin tells other sites nothing either
	t.wants(referrer == "no-referrer" || referrer == "same-origin", a, "its URL is told to the next site")
	if a.to() != nil {
		return
	}
	t.wants(strings.Contains(policy, "frame-ancestors 'none'"), a, "it can be framed (Content-Security-Policy)")
	t.wants(strings.EqualFold(a.head.Get("X-Frame-Options"), "DENY"), a, "it can be framed (X-Frame-Options)")
	t.wants(a.head.Get("X-Content-Type-Options") == "nosniff", a, "its type can be guessed")
	t.wants(!strings.Contains(policy, "'unsafe-inline'") && !strings.Contains(policy, "'unsafe-eval'"), a, "its policy allows scripts of others' words")
	t.wants(!inlineJS.Match(a.body), a, "it has a script in it")
	for _, m := range foreign.FindAllSubmatch(a.body, -1) {
		t.wants(strings.HasPrefix(string(m[1]), t.origin+"/"), a, "it loads or links to another site")
	}
}

func noRedirector(ctx context.Context, t *trial) error {
	for _, id := range []string{"no-such-client", "", "https://" + evil + "/client.json"} {
		v := url.Values{
			"client_id": {id}, "redirect_uri": {"https://" + evil + "/callback"}, "response_type": {"code"}, "code_challenge": {digestOf("x")},
			"code_challenge_method": {"S256"}, "scope": {"openid"}, "state": {"s"}, "prompt": {"none"},
		}
		a, err := t.get(ctx, t.at("authorization_endpoint")+"?"+v.Encode())
		if err != nil {
			return err
		}
		t.wants(a.to() == nil && a.status >= 400 && a.status < 500, a, "client_id %.40q", id)
		t.wants(!strings.Contains(a.head.Get("Refresh"), evil), a, "a Refresh header leads away")
	}
	for _, target := range []string{"/signin?to=https://" + evil + "/", "/signin?to=//" + evil, "/signin?request=//" + evil, "/logout?post_logout_redirect_uri=https://" + evil + "/"} {
		a, err := t.get(ctx, t.cfg.Issuer+target)
		if err != nil {
			return err
		}
		to := a.to()
		t.wants(to == nil || to.Scheme+"://"+to.Host == t.origin, a, "it leads away")
	}
	return nil
}

func loginCSRF(ctx context.Context, t *trial) error {
	b := newBrowser()
	page, err := t.visit(ctx, b, http.MethodGet, t.cfg.Issuer+"/signin", nil)
	if err != nil {
		return err
	}
	action, form := page.formOf("password")
	if form == nil {
		return t.leaveOut("the sign-in page has no field for a password")
	}
	name, password := "prove-nobody", random(16)
	if t.user != nil {
		name, password = t.user.Name, t.pass // whoever takes the form signs somebody in
	}
	form.Set("name", name)
	form.Set("password", password)
	bare := pairs(url.Values{}, []string{"name", name, "password", password})
	ours := []string{"Origin", t.origin, "Sec-Fetch-Site", "same-origin"}
	stranger := newBrowser()
	for _, c := range []struct {
		how     string
		b       *browser
		form    url.Values
		headers []string
	}{
		{"of another origin", b, form, []string{"Origin", "https://" + evil, "Sec-Fetch-Site", "cross-site"}},
		{"of a sibling site", b, form, []string{"Origin", t.origin, "Sec-Fetch-Site", "same-site"}},
		{"without a token", b, bare, ours},
		{"with another browser's token", stranger, form, ours},
	} {
		a, err := t.visit(ctx, c.b, http.MethodPost, action, c.form, c.headers...)
		if err != nil {
			return err
		}
		_, again := a.formOf("password") // asked once more: somebody has looked at the password
		t.wants((a.status == http.StatusForbidden || a.status == http.StatusBadRequest) && again == nil, a, "a form %s is taken", c.how)
		t.wants(!c.b.has(sessionCookie), a, "a form %s gets a session", c.how)
	}
	return nil
}

func credentialsInURLs(ctx context.Context, t *trial) error {
	for _, c := range []struct {
		method, target string
		form           url.Values
	}{
		{http.MethodPost, t.at("token_endpoint") + "?client_id=prove&client_secret=x&grant_type=client_credentials", url.Values{}},
		{http.MethodPost, t.at("token_endpoint") + "?client_secret=x", url.Values{"client_id": {"prove"}, "grant_type": {"client_credentials"}}},
		{http.MethodPost, t.at("introspection_endpoint") + "?token=x", url.Values{"client_id": {"prove"}, "client_secret": {"x"}}},
		{http.MethodGet, t.at("userinfo_endpoint") + "?access_token=x", nil},
	} {
		a, err := t.send(ctx, c.method, c.target, c.form)
		if err != nil {
			return err
		}
		t.wants(a.status >= 400 && a.status < 500, a, "it is not refused")
	}
	return nil
}

func onlyForms(ctx context.Context, t *trial) error {
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodTrace} {
		a, err := t.send(ctx, method, t.at("token_endpoint"), nil)
		if err != nil {
			return err
		}
		t.wants(a.status >= 400 && a.status < 500 || a.status == http.StatusNotImplemented, a, "it is taken")
	}
	for _, kind := range []string{"application/json", "text/plain"} {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, t.at("token_endpoint"), strings.NewReader(`{"grant_type":"client_credentials"}`))
		if err != nil {
			return err
		}
		r.Header.Set("Content-Type", kind)
		a, err := t.do(r)
		if err != nil {
			return err
		}
		t.wants(a.status >= 400 && a.status < 500, a, "a body of %s is taken", kind)
	}
	return nil
}

// noCallsInside lets a stranger name addresses of this machine and of a cloud's
// metadata service, and looks whether anybody came.
func noCallsInside(ctx context.Context, t *trial) error {
	before := t.canary.knocks.Load()
	local := "https://" + t.canary.address()
	_, port, _ := strings.Cut(t.canary.address(), ":")
	inside := []string{local, "https://localhost:" + port, "https://2130706433:" + port, "https://[::ffff:127.0.0.1]:" + port, "https://169.254.169.254"}
	for _, at := range inside {
		v := url.Values{
			"client_id": {at + "/client.json"}, "redirect_uri": {at + "/callback"}, "response_type": {"code"}, "code_challenge": {digestOf("x")}, "code_challenge_method": {"S256"},
			"request_uri": {at + "/request.jwt"},
		}
		a, err := t.get(ctx, t.at("authorization_endpoint")+"?"+v.Encode())
		if err != nil {
			return err
		}
		t.wants(a.to() == nil, a, "a client at an inner address is redirected to")
	}
	if !t.announced("registration_endpoint") {
		t.note("clients cannot register themselves here")
	} else {
		for _, at := range inside {
			body := fmt.Sprintf(`{"client_name":"prove-ssrf","redirect_uris":["https://%s/cb"],"token_endpoint_auth_method":"private_key_jwt","jwks_uri":%q,"backchannel_logout_uri":%q,"sector_identifier_uri":%q,"logo_uri":%q}`,
				evil, at+"/jwks.json", at+"/logout", at+"/sector.json", at+"/logo.png")
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, t.at("registration_endpoint"), strings.NewReader(body))
			if err != nil {
				return err
			}
			r.Header.Set("Content-Type", "application/json")
			a, err := t.do(r)
			if err != nil {
				return err
			}
			if a.status != http.StatusCreated {
				continue
			}
			if err := t.unregister(ctx, a); err != nil {
				return err
			}
		}
	}
	knocks := t.canary.knocks.Load() - before
	t.wants(knocks == 0, nil, "the server connected %d times to an address of this machine", knocks)
	return nil
}

// unregister shows an assertion, for which the keys would be fetched, and removes
// a client that registered itself.
func (t *trial) unregister(ctx context.Context, a *answer) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	if _, err := t.grant(ctx, &party{id: a.text("client_id"), method: "private_key_jwt", key: key}, "grant_type", "client_credentials"); err != nil {
		return err
	}
	if at := a.text("registration_client_uri"); strings.HasPrefix(at, t.origin+"/") {
		gone, err := t.send(ctx, http.MethodDelete, at, nil, "Authorization", "Bearer "+a.text("registration_access_token"))
		if err != nil {
			return err
		}
		t.wants(gone.status == http.StatusNoContent, gone, "a registered client could not be removed again")
	}
	return nil
}

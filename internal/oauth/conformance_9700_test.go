package oauth_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

// TestRFC9700 is what the Best Current Practice for OAuth 2.0 Security asks of a
// server, by its sections, where no module and no test of one part says it
// already. Those of one part: §2.1 and §4.1 TestRedirectURIsAreComparedByteByByte and
// TestRedirectURIs, §4.11 TestStrangersAreNotRedirectedTo, §2.1.1 TestCodesAreBound,
// §2.1.2 and §2.4 TestGrantTypes, §2.2.2 and §4.14 TestAUsedRefreshTokenEndsItsFamily
// and TestRefreshTokensEnd, §2.5 TestAssertionsProveClients, §2.6
// TestScriptsOfOtherOrigins, §4.7 TestLoginCSRF of the pages, and of RFC 6749
// TestFiftyRedemptionsOfOneCode.
func TestRFC9700(t *testing.T) {
	p := newProvider(t, nil)
	t.Run("4.2 4.3 4.16 what a browser is shown leaks nothing, is kept nowhere and framed by nobody", func(t *testing.T) { pagesAreTight(t, p) })
	t.Run("4.4 every answer names the issuer, errors too, in both response modes", func(t *testing.T) {
		for name, pairs := range map[string][]string{
			"a code":              nil,
			"a wrong scope":       {"scope", "openid root"},
			"a wrong type":        {"response_type", "token"},
			"no PKCE":             {"code_challenge", ""},
			"nobody is signed in": {"prompt", "none"},
			"a request object":    {"request", "x"},
			"an unknown resource": {"resource", "https://other.example"},
		} {
			c, a := p.party(t, nil), p.agent(t)
			if back := c.authorize(a, pairs...); back.Get("iss") != issuer || back.Get("state") == "" {
				t.Errorf("%s: %v", name, back)
			}
			c, a = p.party(t, nil), p.agent(t)
			posted := a.answer(c.begin(a, append([]string{"response_mode", "form_post"}, pairs...)...))
			if posted.away != nil || posted.to != callback || posted.form.Get("iss") != issuer || posted.form.Get("code") == "" && posted.form.Get("error") == "" {
				t.Errorf("%s, by a form: %d to %q %v", name, posted.Code, posted.to, posted.form)
			}
		}
		c, a := p.party(t, nil), p.agent(t)
		a.refuse = true
		if back := c.authorize(a); back.Get("error") != "access_denied" || back.Get("iss") != issuer {
			t.Error("a no:", back)
		}
	})
	t.Run("4.4.2 a code that was mixed up between two issuers is worth nothing at the other", func(t *testing.T) {
		other := newProvider(t, nil)
		c := p.party(t, nil)
		code := c.code(p.agent(t))
		twin := other.party(t, nil)
		wantError(t, twin.redeem(code), 400, "invalid_grant")
		c.tokens(code)
	})
	t.Run("4.5 a stolen code in the thief's own session at the same client is refused", func(t *testing.T) {
		c := p.party(t, nil)
		own := strings.Repeat("thief", 10)
		code := c.code(p.agent(t))
		wantError(t, c.redeem(code, func(v url.Values, _ http.Header) { v.Set("code_verifier", own) }), 400, "invalid_grant")
	})
	t.Run("4.8 a verifier saves no code of a request that had no challenge: there is none such", func(t *testing.T) {
		c, a := p.party(t, nil), p.agent(t)
		for _, pairs := range [][]string{{"code_challenge", ""}, {"code_challenge", "", "code_challenge_method", ""}, {"code_challenge_method", "plain"}, {"code_challenge_method", ""}} {
			if back := c.authorize(a, pairs...); back.Has("code") || back.Get("error") != "invalid_request" {
				t.Error(pairs, back)
			}
		}
	})
	t.Run("4.6 an access token is tied to the ID token it came with", func(t *testing.T) {
		c, a := p.party(t, nil), p.agent(t)
		first, second := c.tokens(c.code(a)), c.tokens(c.code(a))
		sum := sha256.Sum256([]byte(first.text("access_token")))
		mine, theirs := c.identity(first)["at_hash"], c.identity(second)["at_hash"]
		if mine != base64.RawURLEncoding.EncodeToString(sum[:16]) || mine == theirs {
			t.Error(mine, theirs)
		}
	})
	t.Run("2.2.1 4.10.1 a bearer token is no DPoP token and the other way round", func(t *testing.T) {
		plain := p.party(t, nil)
		bearer := plain.tokens(plain.code(p.agent(t))).text("access_token")
		plain.proofs = newSigningKey(t)
		if a := plain.userinfo(bearer); a.Code != http.StatusUnauthorized {
			t.Error("a bearer token as DPoP:", a.Code, a.Body)
		}
		bound := p.party(t, func(m *oauth.Metadata) { m.DPoPBoundTokens = true })
		bound.proofs = newSigningKey(t)
		raw := bound.tokens(bound.code(p.agent(t))).text("access_token")
		if a := bound.userinfo(raw, func(h http.Header) { h.Set("Authorization", "Bearer "+raw) }); a.Code != http.StatusUnauthorized {
			t.Error("a DPoP token as bearer token:", a.Code, a.Body)
		}
		wantError(t, bound.redeem(bound.code(p.agent(t)), func(_ url.Values, h http.Header) { h.Del("DPoP") }), 400, "invalid_dpop_proof")
	})
	t.Run("2.5 a client proves itself in one way, and not in the URL", func(t *testing.T) {
		c := p.party(t, nil)
		code := c.code(p.agent(t))
		wantError(t, c.redeem(code, func(v url.Values, _ http.Header) { v.Set("client_secret", c.secret) }), 400, "invalid_request")
		r := wants(t, http.MethodPost, issuer+"/token?"+form("client_id", c.id, "client_secret", c.secret).Encode(), redeem(code))
		if a := wire(t, c.http, r); a.Code != http.StatusBadRequest || a.json["access_token"] != nil {
			t.Error(a.Code, a.Body)
		}
		c.tokens(code)
	})
	t.Run("4.13 a certificate in a header is nobody's", func(t *testing.T) {
		c := p.withCertificates(t)
		der := c.http.Transport.(*http.Transport).TLSClientConfig.Certificates[0].Certificate[0]
		code := c.code(p.agent(t))
		c.http = p.http()
		for _, name := range []string{"Client-Cert", "Client-Cert-Chain", "X-Client-Cert", "X-SSL-Cert", "X-SSL-Client-Cert", "X-Forwarded-Client-Cert", "SSL-Client-Cert", "X-Amzn-Mtls-Clientcert"} {
			for _, value := range []string{":" + base64.StdEncoding.EncodeToString(der) + ":", base64.StdEncoding.EncodeToString(der)} {
				a := c.redeem(code, func(_ url.Values, h http.Header) { h.Set(name, value); h.Set("X-SSL-Client-Verify", "SUCCESS") })
				wantError(t, a, 401, "invalid_client")
			}
		}
	})
	t.Run("4.17 answers are posted to no window", func(t *testing.T) {
		c, a := p.party(t, nil), p.agent(t)
		for _, mode := range []string{"web_message", "fragment", "jwt", "query.jwt", "okta_post_message"} {
			if back := c.authorize(a, "response_mode", mode); back.Get("error") != "invalid_request" || back.Has("code") {
				t.Error(mode, back)
			}
		}
	})
}

// pagesAreTight takes a browser through sign-in, consent, an error, a device and
// logout, and looks at everything it was sent.
func pagesAreTight(t *testing.T, p *provider) {
	t.Helper()
	c, a := p.party(t, func(m *oauth.Metadata) {
		m.PostLogoutRedirectURIs = []string{loggedOut}
	}), p.agent(t)
	tokens := c.tokens(c.code(a))
	c.begin(a, "redirect_uri", "https://other.example/")
	a.visit(issuer + "/device")
	a.visit(issuer + "/account")
	(&logoutModule{t, c, a, tokens}).leave("state", "s")
	secrets := []string{password, c.secret, tokens.text("access_token"), tokens.text("refresh_token"), tokens.text("id_token")}
	pages := 0
	for _, s := range a.trail {
		head := s.Header()
		where := s.method + " " + s.at.Path
		if head.Get("Referrer-Policy") != "no-referrer" && head.Get("Referrer-Policy") != "same-origin" || !strings.Contains(head.Get("Cache-Control"), "no-store") {
			t.Errorf("%s: %d %v", where, s.Code, head)
		}
		if head.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: scripts of others read it", where)
		}
		for _, secret := range secrets {
			if secret != "" && (strings.Contains(s.at.String(), secret) || strings.Contains(head.Get("Location"), secret) || strings.Contains(s.Body.String(), secret)) {
				t.Errorf("%s: a secret in a URL or a page", where)
			}
		}
		if !strings.HasPrefix(head.Get("Content-Type"), "text/html") {
			continue
		}
		pages++
		csp := head.Get("Content-Security-Policy")
		if !strings.Contains(csp, "frame-ancestors 'none'") || !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") ||
			head.Get("X-Frame-Options") != "DENY" || head.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", where, head)
		}
		doc, err := html.Parse(strings.NewReader(s.Body.String()))
		ok(t, err)
		for n := range doc.Descendants() {
			loads := slices.Contains([]string{"script", "img", "link", "iframe", "video", "audio", "object", "embed", "source"}, n.Data)
			for _, name := range []string{"src", "href", "data", "srcset"} {
				if v := attribute(n, name); n.Type == html.ElementNode && loads && v != "" && !strings.HasPrefix(v, "/auth/assets/") {
					t.Errorf("%s: it loads %s", where, v)
				}
			}
		}
	}
	if pages < 5 {
		t.Errorf("only %d pages were seen", pages)
	}
}

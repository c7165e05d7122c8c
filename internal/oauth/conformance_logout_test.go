package oauth_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

const loggedOut = "https://app.example/post_logout_redirect"

// A logoutModule is signed in at a client, and about to be sent to the
// end_session_endpoint.
type logoutModule struct {
	*testing.T
	c      *party
	a      *agent
	tokens *reply
}

func logoutTest(p *provider, name string, run func(m *logoutModule)) module {
	return module{name: name, run: func(t *testing.T) {
		c, a := p.party(t, func(m *oauth.Metadata) { m.PostLogoutRedirectURIs = []string{loggedOut} }), p.agent(t)
		run(&logoutModule{t, c, a, c.tokens(c.code(a))})
	}}
}

// leave goes to the end_session_endpoint; pairs are of the request.
func (m *logoutModule) leave(pairs ...string) *screen {
	m.Helper()
	end, _ := m.c.p.metadata(m.T)["end_session_endpoint"].(string)
	return m.a.visit(end + "?" + form(pairs...).Encode())
}

func (m *logoutModule) hint() string { return m.tokens.text("id_token") }

// over wants that the user has been signed out: prompt=none must fail.
func (m *logoutModule) over() {
	m.Helper()
	if back := m.c.authorize(m.a, "prompt", "none"); back.Get("error") != "login_required" {
		m.Error("still signed in:", back)
	}
}

// here wants that the browser was not sent back, and that a question, where there
// is one, leads nowhere else either.
func (m *logoutModule) here(s *screen) {
	m.Helper()
	if s.away != nil || s.Code >= http.StatusInternalServerError {
		m.Fatalf("%d, away at %v", s.Code, s.away)
	}
	if s.to == "" {
		return
	}
	if s = m.a.submit(s, "decision", "logout"); s.away != nil {
		m.Error("away at", s.away)
	}
}

// signsOut wants that the user is asked, signed out, and told so.
func (m *logoutModule) signsOut(s *screen) {
	m.Helper()
	if s.away == nil && s.to == "/auth/logout" {
		s = m.a.submit(s, "decision", "logout")
	}
	if s.away != nil || s.Code != http.StatusOK || !strings.Contains(s.Body.String(), "igned out") {
		m.Errorf("%d, away at %v: %s", s.Code, s.away, s.Body)
	}
	m.over()
}

// TestLogoutModules are those of the plans for RP-Initiated and Back-Channel
// Logout.
func TestLogoutModules(t *testing.T) {
	told := newRelying(t)
	p := newProvider(t, func(c *oauth.Config) { c.Post = told.out(t, "127.0.0.1") })
	run(t, p.Server)
	conform(t, "RP-Initiated Logout OP", []module{
		{name: "OIDCCRpInitiatedLogoutDiscoveryEndpointVerification", run: func(t *testing.T) {
			if end, _ := p.metadata(t)["end_session_endpoint"].(string); !strings.HasPrefix(end, "https://") {
				t.Error(end)
			}
		}},
		logoutTest(p, "OIDCCRpInitiatedLogout", func(m *logoutModule) {
			s := m.leave("id_token_hint", m.hint(), "post_logout_redirect_uri", loggedOut, "state", "s&1")
			if s.away == nil || s.away.String() != loggedOut+"?state=s%261" {
				m.Errorf("%d, away at %v", s.Code, s.away)
			}
			m.over()
		}),
		logoutTest(p, "OIDCCRpInitiatedLogoutBadLogoutRedirectUri", func(m *logoutModule) {
			m.here(m.leave("id_token_hint", m.hint(), "post_logout_redirect_uri", "https://app.example/other"))
		}),
		logoutTest(p, "OIDCCRpInitiatedLogoutModifiedIdTokenHint", func(m *logoutModule) {
			parts := strings.Split(m.hint(), ".")
			unsigned := base64url(`{"alg":"none"}`) + "." + parts[1] + "."
			m.here(m.leave("id_token_hint", unsigned, "post_logout_redirect_uri", loggedOut))
		}),
		logoutTest(p, "OIDCCRpInitiatedLogoutNoIdTokenHint", func(m *logoutModule) {
			m.here(m.leave("post_logout_redirect_uri", loggedOut))
		}),
		logoutTest(p, "OIDCCRpInitiatedLogoutNoParams", func(m *logoutModule) { m.signsOut(m.leave()) }),
		logoutTest(p, "OIDCCRpInitiatedLogoutNoPostLogoutRedirectUri", func(m *logoutModule) {
			m.signsOut(m.leave("id_token_hint", m.hint()))
		}),
		logoutTest(p, "OIDCCRpInitiatedLogoutNoState", func(m *logoutModule) {
			s := m.leave("id_token_hint", m.hint(), "post_logout_redirect_uri", loggedOut)
			if s.away == nil || s.away.String() != loggedOut {
				m.Errorf("%d, away at %v", s.Code, s.away)
			}
			m.over()
		}),
		logoutTest(p, "OIDCCRpInitiatedLogoutOnlyState", func(m *logoutModule) { m.signsOut(m.leave("state", "s")) }),
		logoutTest(p, "OIDCCRpInitiatedLogoutQueryAddedToLogoutRedirectUri", func(m *logoutModule) {
			m.here(m.leave("id_token_hint", m.hint(), "post_logout_redirect_uri", loggedOut+"?foo=bar"))
		}),
		logoutTest(p, "OIDCCRpInitiatedLogoutBadIdTokenHint", func(m *logoutModule) {
			claims, _ := m.c.signed(m.hint())
			foreign := newSigningKey(m).sign(map[string]any{"alg": "ES256", "kid": "k1"}, claims)
			m.here(m.leave("id_token_hint", foreign, "post_logout_redirect_uri", loggedOut))
		}),
	})
	conform(t, "Back-Channel Logout OP", []module{
		{name: "OIDCCBackchannelLogoutDiscoveryEndpointVerification", run: func(t *testing.T) {
			m := p.metadata(t)
			if m["backchannel_logout_supported"] != true || m["backchannel_logout_session_supported"] != true || m["end_session_endpoint"] == nil {
				t.Error(m)
			}
		}},
		{name: "OIDCCBackChannelRpInitiatedLogout", run: func(t *testing.T) {
			c, a := p.party(t, func(m *oauth.Metadata) {
				m.PostLogoutRedirectURIs, m.BackchannelLogoutURI, m.BackchannelLogoutSID = []string{loggedOut}, told.URL+"/backchannel_logout", true
			}), p.agent(t)
			m := &logoutModule{t, c, a, c.tokens(c.code(a))}
			was := c.identity(m.tokens)
			s := m.leave("id_token_hint", m.hint(), "post_logout_redirect_uri", loggedOut, "state", "s")
			if s.away == nil || s.away.Query().Get("state") != "s" {
				t.Errorf("%d, away at %v", s.Code, s.away)
			}
			eventually(t, "nobody was told", func() bool { return len(told.got()) == 1 })
			claims, head := c.signed(told.got()[0])
			events, _ := claims["events"].(map[string]any)
			aud, _ := claims["aud"].(string)
			if claims["iss"] != issuer || aud != c.id || claims["sub"] != was["sub"] || claims["sid"] != was["sid"] || claims["jti"] == nil || claims["iat"] == nil {
				t.Error(claims)
			}
			if _, is := events["http://schemas.openid.net/event/backchannel-logout"].(map[string]any); !is || claims["nonce"] != nil {
				t.Error(claims)
			}
			if !slices.Contains(lists(p.metadata(t), "id_token_signing_alg_values_supported"), head.Algorithm) {
				t.Error(head.Algorithm)
			}
			m.over()
		}},
	})
}

package oauth_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-api/gatehouse/internal/egress"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

// A relying is a client's server: it keeps the logout tokens it is sent.
type relying struct {
	*httptest.Server
	mu     sync.Mutex
	tokens []string
	status int
}

func newRelying(t *testing.T) *relying {
	p := &relying{status: http.StatusOK}
	p.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" || r.ParseForm() != nil || len(r.PostForm) != 1 {
			t.Errorf("a request of another form: %s %v", r.Method, r.Header)
		}
		p.tokens = append(p.tokens, r.PostForm.Get("logout_token"))
		w.WriteHeader(p.status)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *relying) got() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.tokens...)
}

func (p *relying) answer(status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status = status
}

// out calls anything on this machine, over TLS that p's certificate proves; none
// allowed: it calls the public internet only.
func (p *relying) out(t *testing.T, allow ...string) *egress.Client {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(p.Certificate())
	c, err := egress.New(egress.Config{Allow: allow, Roots: roots})
	ok(t, err)
	t.Cleanup(c.Close)
	return c
}

// run lets s work until the test ends; what it reports is kept.
func run(t *testing.T, s *oauth.Server) func() []string {
	t.Helper()
	var mu sync.Mutex
	var said []string
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	wg.Go(func() {
		s.Run(ctx, func(err error) {
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				said = append(said, err.Error())
			}
		})
	})
	t.Cleanup(func() { stop(); wg.Wait() })
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), said...)
	}
}

// sid signs the user in at client and returns the session's id.
func (h *house) sid(client string) string {
	sid, _ := h.claims(h.tokens(client).text("id_token"), "JWT")["sid"].(string)
	if sid == "" {
		h.t.Fatal("no sid")
	}
	return sid
}

// logoutClaims reads a logout token with a library nobody here wrote.
func (h *house) logoutClaims(raw string) map[string]any {
	h.t.Helper()
	var set jose.JSONWebKeySet
	ok(h.t, json.Unmarshal(h.keys.JWKS(), &set))
	signed, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.RS256})
	ok(h.t, err)
	if typ := signed.Signatures[0].Header.ExtraHeaders["typ"]; typ != "logout+jwt" {
		h.t.Error("typ:", typ)
	}
	body, err := signed.Verify(set)
	ok(h.t, err)
	var c map[string]any
	ok(h.t, json.Unmarshal(body, &c))
	return c
}

func TestBackchannelLogout(t *testing.T) {
	t.Parallel() // it waits most of the time
	p := newRelying(t)
	h := newHouse(t, func(c *oauth.Config) { c.Post = p.out(t, "127.0.0.1") })
	h.client("told", func(m *oauth.Metadata) { m.BackchannelLogoutURI = p.URL + "/out"; m.IDTokenAlg = "RS256" })
	h.client("quiet", nil)
	said := run(t, h.Server)

	t.Run("a client learns that a session has ended, whoever ended it", func(t *testing.T) {
		sid := h.sid("told")
		h.tokens("quiet")
		before := time.Now().Add(-time.Second).Unix()
		ok(t, h.people.End(t.Context(), "test", sid))
		eventually(t, "nothing came", func() bool { return len(p.got()) == 1 })
		c := h.logoutClaims(p.got()[0])
		events, _ := c["events"].(map[string]any)
		if _, is := events["http://schemas.openid.net/event/backchannel-logout"].(map[string]any); !is || len(events) != 1 {
			t.Error("events:", c["events"])
		}
		if c["iss"] != issuer || c["aud"] != "told" || c["sub"] != h.user.ID || c["sid"] != sid || c["jti"] == "" || c["nonce"] != nil {
			t.Error(c)
		}
		if iat, exp := c["iat"].(float64), c["exp"].(float64); iat < float64(before) || exp-iat > 120 {
			t.Error("iat and exp:", iat, exp)
		}
	})
	t.Run("once, though it had tokens twice and the session is ended twice", func(t *testing.T) {
		n := len(p.got())
		b := h.browser()
		session := b.signIn(h.user.ID, identity.ACRPassword)
		for range 2 {
			if a := h.token("told", redeem(b.authorize(request("told")).back().Get("code"))); a.Code != 200 {
				t.Fatal(a.Body)
			}
		}
		ok(t, h.EndSession(t.Context(), "test", session.ID))
		_ = h.EndSession(t.Context(), "test", session.ID)
		eventually(t, "nothing came", func() bool { return len(p.got()) > n })
		<-time.After(2500 * time.Millisecond) // two more turns
		if got := len(p.got()); got != n+1 {
			t.Fatalf("%d tokens", got-n)
		}
	})
	t.Run("a user who is locked is signed out everywhere", func(t *testing.T) {
		n := len(p.got())
		u, err := h.people.Create(t.Context(), "test", identity.NewUser{Name: "eve"})
		ok(t, err)
		b := h.browser()
		b.signIn(u.ID, identity.ACRPassword)
		if a := h.token("told", redeem(b.authorize(request("told")).back().Get("code"))); a.Code != 200 {
			t.Fatal(a.Body)
		}
		ok(t, h.people.Lock(t.Context(), "test", u.ID, "test"))
		eventually(t, "nothing came", func() bool { return len(p.got()) == n+1 })
	})
	t.Run("a session that goes on is told to nobody", func(t *testing.T) {
		n := len(p.got())
		h.sid("told")
		<-time.After(1500 * time.Millisecond)
		if got := len(p.got()); got != n {
			t.Fatalf("%d tokens", got-n)
		}
	})
	t.Run("who does not answer well is told again, five times at most, and the operator too", func(t *testing.T) {
		n := len(p.got())
		p.answer(http.StatusInternalServerError)
		ok(t, h.people.End(t.Context(), "test", h.sid("told")))
		for attempt := 1; attempt <= 5; attempt++ {
			eventually(t, "no attempt", func() bool { return len(p.got()) == n+attempt })
			eventually(t, "it is not reported", func() bool { return strings.Contains(strings.Join(said(), "\n"), "status 500") })
			h.exec(`UPDATE logouts SET due = 1 WHERE due > 0`)
		}
		eventually(t, "it is tried without end", func() bool { return strings.Contains(strings.Join(said(), "\n"), "given up after 5 attempts") })
		<-time.After(1500 * time.Millisecond)
		if got := len(p.got()); got != n+5 {
			t.Fatalf("%d attempts", got-n)
		}
	})
	t.Run("a client that is gone is not told", func(t *testing.T) {
		p.answer(http.StatusOK)
		n := len(p.got())
		sid := h.sid("told")
		ok(t, h.DisableClient(t.Context(), "test", "told"))
		ok(t, h.people.End(t.Context(), "test", sid))
		<-time.After(2500 * time.Millisecond)
		if got := len(p.got()); got != n {
			t.Fatalf("%d tokens", got-n)
		}
	})
}

func TestBackchannelLogoutStaysOutside(t *testing.T) {
	t.Parallel() // it waits most of the time
	p := newRelying(t)
	h := newHouse(t, func(c *oauth.Config) { c.Post = p.out(t) }) // nothing inside is allowed
	h.client("told", func(m *oauth.Metadata) { m.BackchannelLogoutURI = p.URL + "/out" })
	said := run(t, h.Server)
	ok(t, h.people.End(t.Context(), "test", h.sid("told")))
	eventually(t, "it is not refused", func() bool { return strings.Contains(strings.Join(said(), "\n"), "refused by the egress rules") })
	if len(p.got()) != 0 {
		t.Fatal("the inside was reached")
	}
}

func TestTwoProcessesTellOnce(t *testing.T) {
	t.Parallel() // it waits most of the time
	p := newRelying(t)
	h := newHouse(t, func(c *oauth.Config) { c.Post = p.out(t, "127.0.0.1") })
	h.client("told", func(m *oauth.Metadata) { m.BackchannelLogoutURI = p.URL + "/out" })
	other, err := oauth.New(t.Context(), oauth.Config{Issuer: issuer, DB: h.db, Keys: h.keys, Seal: h.seal, People: h.people, Log: brokenLog{}, Post: p.out(t, "127.0.0.1"), Scopes: map[string]string{}})
	ok(t, err)
	sids := make([]string, 10)
	for i := range sids {
		sids[i] = h.sid("told")
	}
	run(t, h.Server)
	run(t, other)
	for _, sid := range sids {
		ok(t, h.people.End(t.Context(), "test", sid))
	}
	eventually(t, "not all came", func() bool { return len(p.got()) >= len(sids) })
	<-time.After(2500 * time.Millisecond)
	if got := len(p.got()); got != len(sids) {
		t.Fatalf("%d tokens for %d sessions", got, len(sids))
	}
}

func TestLastUseIsKept(t *testing.T) {
	h := newHouse(t, nil)
	h.client("robot", machine)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.Run(ctx, func(err error) { t.Error(err) })
	}()
	if a := h.token("robot", form("grant_type", "client_credentials")); a.Code != 200 {
		t.Fatal(a.Body)
	}
	c, err := h.Client(t.Context(), "robot")
	ok(t, err)
	if !c.LastUsed.IsZero() {
		t.Fatal("a request has written")
	}
	stop() // what is not yet written is written at the end
	<-ended
	c, err = h.Client(t.Context(), "robot")
	ok(t, err)
	if time.Since(c.LastUsed) > time.Minute || time.Since(c.Secrets[0].LastUsed) > time.Minute {
		t.Fatal(c.LastUsed, c.Secrets[0].LastUsed)
	}
}

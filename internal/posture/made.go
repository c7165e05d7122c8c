package posture

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

const (
	prefix    = "prove-"
	abandoned = 10 * time.Minute // what a proof that was killed left behind
	callback  = "https://prove.invalid/callback"
	byKey     = "private_key_jwt"
)

// made is what exists for the proof only.
type made struct {
	*lab

	clients []string
	users   []string
}

// create makes the clients and the user.
func (m *made) create(ctx context.Context) (err error) {
	if err := m.sweep(ctx); err != nil {
		return err
	}
	scope := []string{"openid", "profile", "offline_access"}
	for _, r := range m.cfg.Routes {
		for _, s := range r.Scopes {
			if !slices.Contains(scope, s) {
				scope = append(scope, s)
			}
		}
	}
	code := oauth.Metadata{
		ClientName: "Proof", Trusted: true, RedirectURIs: []string{callback}, PostLogoutRedirectURIs: []string{callback},
		GrantTypes: []string{"authorization_code", "refresh_token"}, Scope: strings.Join(scope, " "),
	}
	if m.main, err = m.client(ctx, "main", code); err != nil {
		return err
	}
	if m.other, err = m.client(ctx, "other", code); err != nil {
		return err
	}
	if m.cfg.Profile != oauth.FAPI2 {
		app := code
		app.TokenEndpointAuthMethod, app.ApplicationType, app.RedirectURIs, app.PostLogoutRedirectURIs = "none", "native", []string{"http://127.0.0.1/callback"}, nil
		if m.native, err = m.client(ctx, "native", app); err != nil {
			return err
		}
	}
	if m.robot, err = m.client(ctx, "robot", oauth.Metadata{
		ClientName: "Proof", GrantTypes: []string{"client_credentials"}, TokenEndpointAuthMethod: byKey, Scope: strings.Join(scope[3:], " "),
	}); err != nil {
		return err
	}
	m.pass = random(24)
	name := prefix + strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(random(12)))
	m.user, err = m.cfg.People.Create(ctx, m.cfg.Actor, identity.NewUser{
		Name: name, Email: name + "@prove.invalid", EmailVerified: true, Password: gatehouse.NewSecret(m.pass),
	})
	if err != nil {
		return fmt.Errorf("making a user for the proof: %w", err)
	}
	m.users = append(m.users, m.user.ID)
	return nil
}

// client makes one, by the strictest method the profile wants of it.
func (m *made) client(ctx context.Context, what string, meta oauth.Metadata) (*party, error) {
	p := &party{method: meta.TokenEndpointAuthMethod}
	if len(meta.RedirectURIs) > 0 {
		p.redirect = meta.RedirectURIs[0]
	}
	var err error
	if p.key, err = newKey(); err != nil {
		return nil, err
	}
	if m.cfg.Profile == oauth.FAPI2 {
		meta.TokenEndpointAuthMethod, meta.DPoPBoundTokens, p.bound = byKey, true, true
	}
	if p.method = meta.TokenEndpointAuthMethod; p.method == "" {
		p.method = "client_secret_basic"
	}
	if p.method == byKey {
		meta.JWKS = p.key.set()
	}
	p.id = prefix + what + "-" + random(9)
	secret, _, err := m.cfg.OAuth.CreateClient(ctx, m.cfg.Actor, p.id, meta)
	if err != nil {
		return nil, fmt.Errorf("making a client for the proof: %w", err)
	}
	m.clients = append(m.clients, p.id)
	p.secret = secret.Reveal()
	return p, nil
}

// remove takes everything back and returns what it could not.
func (m *made) remove(ctx context.Context) (left []string) {
	for _, id := range m.clients {
		if err := m.cfg.OAuth.DeleteClient(ctx, m.cfg.Actor, id); err != nil {
			left = append(left, fmt.Sprintf("client %s: %v", id, err))
		}
	}
	for _, id := range m.users {
		if err := m.cfg.People.Delete(ctx, m.cfg.Actor, id); err != nil {
			left = append(left, fmt.Sprintf("user %s: %v", id, err))
		}
	}
	return left
}

// sweep removes what a proof that was killed has left.
func (m *made) sweep(ctx context.Context) error {
	all, err := m.cfg.OAuth.Clients(ctx)
	if err != nil {
		return err
	}
	old := time.Now().Add(-abandoned)
	var errs []error
	for i := range all {
		if c := &all[i]; isOurs(c.ID) && c.Created.Before(old) {
			errs = append(errs, m.cfg.OAuth.DeleteClient(ctx, m.cfg.Actor, c.ID))
		}
	}
	users, _, err := m.cfg.People.Users(ctx, identity.Query{Search: prefix, Limit: 100})
	if err != nil {
		return err
	}
	for i := range users {
		if u := &users[i]; strings.HasPrefix(u.Name, prefix) && strings.HasSuffix(u.Email, "@prove.invalid") && u.Created.Before(old) {
			errs = append(errs, m.cfg.People.Delete(ctx, m.cfg.Actor, u.ID))
		}
	}
	return errors.Join(errs...)
}

// isOurs reports whether a client was made by a proof.
func isOurs(id string) bool {
	for _, what := range []string{"main-", "other-", "native-", "robot-"} {
		if strings.HasPrefix(id, prefix+what) {
			return true
		}
	}
	return false
}

// settle waits until the running server knows what was made, and finds an
// operation that its tokens open.
func (t *trial) settle(ctx context.Context) error {
	var last *answer
	_, ok, err := within(ctx, 3*time.Second, func() (bool, error) {
		a, err := t.grant(ctx, t.robot, "grant_type", "client_credentials", "resource", t.someResource())
		last = a
		return err == nil && a.status == http.StatusOK, err
	})
	if err != nil {
		return err
	}
	if !ok {
		return errors.New(last.line())
	}
	for i, r := range t.cfg.Routes {
		if i == 8 {
			break
		}
		bare, err := t.send(ctx, r.Method, r.URL, nil)
		if err != nil || bare.status != http.StatusUnauthorized {
			continue // another host that cannot be reached from here, or open to everybody
		}
		a, err := t.grant(ctx, t.robot, "grant_type", "client_credentials", "resource", r.Resource)
		if err != nil || a.text("access_token") == "" {
			continue
		}
		if a, err = t.present(ctx, t.robot, r.Method, r.URL, a.text("access_token")); err != nil {
			return err
		}
		if a.status != http.StatusUnauthorized {
			t.route = &r
			break
		}
	}
	return nil
}

// someResource is what tokens of the proof are for, where there is a choice.
func (l *lab) someResource() string {
	switch {
	case l.route != nil:
		return l.route.Resource
	case len(l.cfg.Routes) > 0:
		return l.cfg.Routes[0].Resource
	case len(l.cfg.Resources) > 0:
		return l.cfg.Resources[0]
	}
	return ""
}

// A canary is a door of this machine at which no server has business: who knocks
// there was led by what a stranger wrote (SSRF).
type canary struct {
	listener net.Listener
	knocks   atomic.Int64
	done     chan struct{}
}

func newCanary(ctx context.Context) (*canary, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &canary{listener: l, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.knocks.Add(1)
			_ = conn.Close()
		}
	}()
	return c, nil
}

func (c *canary) address() string { return c.listener.Addr().String() }

func (c *canary) close() {
	_ = c.listener.Close()
	<-c.done
}

package interop_test

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

// TestGoClients is coreos/go-oidc and golang.org/x/oauth2.
func TestGoClients(t *testing.T) {
	g := startGate(t, "oauth21")
	gina := g.user(t, "gina")
	secret := g.client(t, "go", oauth.Metadata{
		ClientName: "Go", RedirectURIs: []string{app}, Scope: "openid email profile offline_access orders:read", Roles: []string{"reader"},
		GrantTypes: []string{"authorization_code", "refresh_token", "client_credentials"},
	})
	g.client(t, "television", oauth.Metadata{ // this library sends no secret there
		ClientName: "Television", TokenEndpointAuthMethod: "none", ApplicationType: "native", Scope: "orders:read", GrantTypes: []string{"urn:ietf:params:oauth:grant-type:device_code"},
	})
	ctx := oidc.ClientContext(t.Context(), g.http())
	provider, err := oidc.NewProvider(ctx, g.issuer)
	if err != nil {
		t.Fatal(err)
	}
	cfg := &oauth2.Config{
		ClientID: "go", ClientSecret: secret, Endpoint: provider.Endpoint(), RedirectURL: app, Scopes: []string{oidc.ScopeOpenID, "email", oidc.ScopeOfflineAccess, "orders:read"},
	}

	t.Run("code with PKCE, ID token, userinfo, a call, refresh and rotation", func(t *testing.T) {
		verifier := oauth2.GenerateVerifier()
		back, err := g.browser("gina").visit(cfg.AuthCodeURL("st", oidc.Nonce("n-1"), oauth2.S256ChallengeOption(verifier), oauth2.SetAuthURLParam("prompt", "consent")), app)
		if err != nil {
			t.Fatal(err)
		}
		answer := query(t, back.URL)
		if answer.Get("state") != "st" || answer.Get("iss") != g.issuer || answer.Get("code") == "" {
			t.Fatalf("came back with %v (%s)", answer, back.Body)
		}
		if _, err := cfg.Exchange(ctx, "gho_wrong", oauth2.VerifierOption(verifier)); err == nil {
			t.Error("another code was redeemed")
		}
		tok, err := cfg.Exchange(ctx, answer.Get("code"), oauth2.VerifierOption(verifier))
		if err != nil {
			t.Fatal(err)
		}
		raw, _ := tok.Extra("id_token").(string)
		id, err := provider.Verifier(&oidc.Config{ClientID: "go"}).Verify(ctx, raw)
		if err != nil {
			t.Fatal(err)
		}
		if id.Subject != gina.ID || id.Nonce != "n-1" || id.VerifyAccessToken(tok.AccessToken) != nil {
			t.Errorf("the ID token is %+v", id)
		}
		if _, err := provider.Verifier(&oidc.Config{ClientID: "other"}).Verify(ctx, raw); err == nil {
			t.Error("the ID token is for others, too")
		}
		info, err := provider.UserInfo(ctx, oauth2.StaticTokenSource(tok))
		if err != nil {
			t.Fatal(err)
		}
		if info.Subject != gina.ID || info.Email != "gina@example.com" || !info.EmailVerified {
			t.Errorf("userinfo is %+v", info)
		}
		if status := g.call(ctx, t, cfg.Client(ctx, tok)); status != http.StatusOK {
			t.Errorf("the API answered %d", status)
		}
		stale := *tok
		stale.AccessToken, stale.Expiry = "", stale.Expiry.AddDate(-1, 0, 0)
		next, err := cfg.TokenSource(ctx, &stale).Token()
		if err != nil {
			t.Fatal(err)
		}
		if next.AccessToken == tok.AccessToken || next.RefreshToken == tok.RefreshToken || next.RefreshToken == "" {
			t.Error("the refresh gave no new tokens")
		}
	})
	t.Run("device flow", func(t *testing.T) {
		cfg := &oauth2.Config{ClientID: "television", Endpoint: provider.Endpoint(), Scopes: []string{"orders:read"}}
		auth, err := cfg.DeviceAuth(ctx)
		if err != nil {
			t.Fatal(err)
		}
		done, err := g.browser("gina").visit(auth.VerificationURIComplete, "none:")
		if err != nil || done.Status != http.StatusOK || !strings.Contains(done.Body, "is connected") {
			t.Fatalf("the user's part: %+v %v", done, err)
		}
		tok, err := cfg.DeviceAccessToken(ctx, auth)
		if err != nil {
			t.Fatal(err)
		}
		if status := g.call(ctx, t, cfg.Client(ctx, tok)); status != http.StatusOK {
			t.Errorf("the API answered %d", status)
		}
	})
	t.Run("client credentials, with each way to send the secret", func(t *testing.T) {
		cc := clientcredentials.Config{ClientID: "go", ClientSecret: secret, TokenURL: cfg.Endpoint.TokenURL, Scopes: []string{"orders:read"}, EndpointParams: url.Values{"resource": {g.api}}}
		for style, ok := range map[oauth2.AuthStyle]bool{oauth2.AuthStyleAutoDetect: true, oauth2.AuthStyleInHeader: true, oauth2.AuthStyleInParams: false} {
			cc.AuthStyle = style // it is registered for client_secret_basic and nothing else
			tok, err := cc.Token(ctx)
			if (err == nil) != ok {
				t.Errorf("style %d: %v", style, err)
			}
			if err != nil {
				continue
			}
			if status := g.call(ctx, t, oauth2.NewClient(ctx, oauth2.StaticTokenSource(tok))); status != http.StatusOK {
				t.Errorf("the API answered %d", status)
			}
		}
	})
}

// call asks the API behind the gateway.
func (g *gate) call(ctx context.Context, t *testing.T, c *http.Client) int {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.api+"/orders", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Logf("%s %s", body, resp.Header.Get("WWW-Authenticate"))
	}
	return resp.StatusCode
}

func query(t *testing.T, address string) url.Values {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query()
}

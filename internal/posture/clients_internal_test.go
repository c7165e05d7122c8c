package posture

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

func TestAClientsReportSaysWhatToThinkAbout(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	good := oauth.Client{ID: "good", Origin: "operator", Created: now.Add(-200 * day), LastUsed: now.Add(-day), Metadata: oauth.Metadata{
		TokenEndpointAuthMethod: "private_key_jwt", JWKS: mustKey(t).set(), DPoPBoundTokens: true, RequirePAR: true,
		GrantTypes: []string{"authorization_code"}, RedirectURIs: []string{"https://app.example/cb"}, Scope: "openid orders",
	}}
	used := []string{"openid", "orders"}
	for _, c := range []struct {
		name    string
		profile oauth.Profile
		change  func(c *oauth.Client)
		used    []string
		says    []string // none: no note at all
	}{
		{"a good client has no notes", oauth.OAuth21, func(*oauth.Client) {}, used, nil},
		{"a bearer client is named", oauth.OAuth21, func(c *oauth.Client) { c.DPoPBoundTokens = false }, used, []string{"bearer tokens only"}},
		{"a client bound to certificates is none", oauth.OAuth21, func(c *oauth.Client) { c.DPoPBoundTokens, c.TLSBoundTokens = false, true }, used, nil},
		{"a client that does not push is named", oauth.OAuth21, func(c *oauth.Client) { c.RequirePAR = false }, used, []string{"require_pushed"}},
		{"a public client is named", oauth.OAuth21, func(c *oauth.Client) { c.TokenEndpointAuthMethod, c.JWKS = "none", nil }, used, []string{"anybody can say"}},
		{"an old secret is named", oauth.OAuth21, func(c *oauth.Client) {
			c.TokenEndpointAuthMethod, c.JWKS = "client_secret_basic", nil
			c.Secrets = []oauth.Secret{{ID: "sec_1", Created: now.Add(-400 * day), LastUsed: now}}
		}, used, []string{"shows its secret", "is 400 days old"}},
		{"a secret nobody used is named, one of today is not", oauth.OAuth21, func(c *oauth.Client) {
			c.Secrets = []oauth.Secret{{ID: "sec_1", Created: now.Add(-3 * day)}, {ID: "sec_2", Created: now.Add(-time.Hour)}}
		}, used, []string{"sec_1 has never been used", "2 live secrets"}},
		{"a secret that has ended is not", oauth.OAuth21, func(c *oauth.Client) {
			c.Secrets = []oauth.Secret{{ID: "sec_1", Created: now.Add(-400 * day), NotAfter: now.Add(-day)}}
		}, used, nil},
		{"a redirect to localhost is named", oauth.OAuth21, func(c *oauth.Client) { c.RedirectURIs = []string{"https://localhost/cb"} }, used, []string{"not for production"}},
		{"http redirects are named", oauth.OAuth21, func(c *oauth.Client) {
			c.ApplicationType, c.RedirectURIs = "native", []string{"http://127.0.0.1/cb"}
		}, used, []string{"in the clear"}},
		{"a trusted client is named", oauth.OAuth21, func(c *oauth.Client) { c.Trusted = true }, used, []string{"never asked"}},
		{"a disabled client is named", oauth.OAuth21, func(c *oauth.Client) { c.Disabled = true }, used, []string{"disabled"}},
		{"a client that registered itself is named", oauth.OAuth21, func(c *oauth.Client) { c.Origin = "registered" }, used, []string{"nobody has looked"}},
		{"a scope not used is named", oauth.OAuth21, func(*oauth.Client) {}, []string{"openid"}, []string{"not used in 90 days: orders"}},
		{"a scope of a new client is not", oauth.OAuth21, func(c *oauth.Client) { c.Created = now.Add(-day) }, nil, nil},
		{"what a client gets for itself leaves no trace", oauth.OAuth21, func(c *oauth.Client) {
			c.GrantTypes = append(c.GrantTypes, "client_credentials")
		}, nil, nil},
		{"a client not used is named", oauth.OAuth21, func(c *oauth.Client) { c.LastUsed = now.Add(-100 * day) }, used, []string{"not used since 2026-08-15"}},
		{"a client never used is named", oauth.OAuth21, func(c *oauth.Client) { c.LastUsed = time.Time{} }, used, []string{"never used since"}},
		{"a client that exchanges everything is named", oauth.OAuth21, func(c *oauth.Client) {
			c.GrantTypes, c.Exchange = append(c.GrantTypes, "urn:ietf:params:oauth:grant-type:token-exchange"), []string{"*"}
		}, used, []string{"every client"}},
		{"what breaks the profile is named", oauth.FAPI2, func(c *oauth.Client) { c.DPoPBoundTokens = false }, used, []string{"breaks the profile fapi2", "bearer"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := good
			client.GrantTypes = slices.Clone(good.GrantTypes)
			c.change(&client)
			r := reportOf(c.profile, &client, c.used, unusedTime, now)
			if len(r.Notes) != len(c.says) {
				t.Errorf("%d notes: %+v", len(r.Notes), r.Notes)
			}
			for i := range min(len(c.says), len(r.Notes)) {
				if !strings.Contains(r.Notes[i].Text, c.says[i]) {
					t.Errorf("note %d is %q, want %q", i, r.Notes[i].Text, c.says[i])
				}
			}
		})
	}
}

func mustKey(t *testing.T) *signingKey {
	t.Helper()
	k, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

package posture

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/oauth"
)

const (
	oldSecret  = 365 * 24 * time.Hour
	unusedTime = 90 * 24 * time.Hour
)

// A ClientReport is what an operator should know of one client. Nothing in it fails
// a proof: whether it is right, only its owner knows.
type ClientReport struct {
	ID     string   `json:"client_id"`
	Name   string   `json:"client_name,omitempty"`
	State  string   `json:"state"`       // live, disabled
	Method string   `json:"auth_method"` // token_endpoint_auth_method
	Notes  []Note   `json:"notes"`
	Unused []string `json:"unused_scopes,omitempty"`
}

// A Note is one thing to think about.
type Note struct {
	Severity Severity `json:"severity"`
	Text     string   `json:"text"`
}

func reportClients(ctx context.Context, cfg ProofConfig, now time.Time) ([]ClientReport, error) {
	all, err := cfg.OAuth.Clients(ctx)
	if err != nil {
		return nil, err
	}
	unused := cfg.Unused
	if unused == 0 {
		unused = unusedTime
	}
	used, err := cfg.OAuth.ScopesUsed(ctx, now.Add(-unused))
	if err != nil {
		return nil, err
	}
	reports := []ClientReport{}
	for i := range all {
		if c := &all[i]; !isOurs(c.ID) {
			reports = append(reports, reportOf(cfg.Profile, c, used[c.ID], unused, now))
		}
	}
	return reports, nil
}

// reportOf looks at one client; used are the scopes of its grants in the last time.
func reportOf(profile oauth.Profile, c *oauth.Client, used []string, unused time.Duration, now time.Time) ClientReport {
	r := ClientReport{ID: c.ID, Name: c.ClientName, State: "live", Method: c.TokenEndpointAuthMethod, Notes: []Note{}}
	say := func(s Severity, format string, args ...any) {
		r.Notes = append(r.Notes, Note{s, fmt.Sprintf(format, args...)})
	}
	for _, f := range oauth.Lint(profile, &c.Metadata) {
		say(High, "breaks the profile %s: %s", profile, f)
	}
	if c.Disabled {
		r.State = "disabled"
		say(Low, "disabled: delete it if nobody will want it back")
	}
	code := slices.Contains(c.GrantTypes, "authorization_code")
	switch c.TokenEndpointAuthMethod {
	case "none":
		say(Medium, "anybody can say to be this client: it proves itself by nothing but its redirect URIs")
	case "client_secret_post":
		say(Medium, "shows its secret in the body of every request: private_key_jwt shows none")
	case "client_secret_basic":
		say(Low, "shows its secret with every request: private_key_jwt or tls_client_auth show none")
	}
	if !c.DPoPBoundTokens && !c.TLSBoundTokens {
		say(Medium, "bearer tokens only: who finds one can use it; dpop_bound_access_tokens binds them to a key")
	}
	if code && !c.RequirePAR && profile != oauth.FAPI2 {
		say(Low, "its requests come through the browser, where they can be changed: require_pushed_authorization_requests")
	}
	secrets(c, now, say)
	for _, u := range c.RedirectURIs {
		switch {
		case strings.HasPrefix(u, "http://"):
			say(Medium, "answers go to the user's own machine in the clear, where every program can listen: %s", u)
		case strings.HasPrefix(u, "https://localhost") || strings.HasPrefix(u, "https://127."):
			say(Medium, "a redirect URI of somebody's own machine is not for production: %s", u)
		}
	}
	if c.Trusted {
		say(Low, "trusted: its users are never asked for consent")
	}
	if c.Origin == "registered" {
		say(Medium, "registered itself: nobody has looked at it")
	}
	if slices.Contains(c.Exchange, "*") {
		say(High, "may exchange the tokens of every client: name those it must")
	}
	switch idle := now.Sub(c.LastUsed); {
	case c.LastUsed.IsZero() && now.Sub(c.Created) > unused:
		say(Medium, "never used since %s: delete it", c.Created.UTC().Format(time.DateOnly))
	case !c.LastUsed.IsZero() && idle > unused:
		say(Medium, "not used since %s: disable it", c.LastUsed.UTC().Format(time.DateOnly))
	}
	// What a client gets for itself leaves no grant to look at.
	onlyUsers := !slices.Contains(c.GrantTypes, "client_credentials") && !slices.Contains(c.GrantTypes, "urn:ietf:params:oauth:grant-type:token-exchange")
	if onlyUsers && now.Sub(c.Created) > unused {
		for w := range strings.FieldsSeq(c.Scope) {
			if !slices.Contains(used, w) {
				r.Unused = append(r.Unused, w)
			}
		}
		if len(r.Unused) > 0 {
			say(Low, "may ask for what it has not used in %d days: %s", int(unused.Hours()/24), strings.Join(r.Unused, " "))
		}
	}
	return r
}

func secrets(c *oauth.Client, now time.Time, say func(Severity, string, ...any)) {
	live := 0
	for _, s := range c.Secrets {
		if !s.NotAfter.IsZero() && now.After(s.NotAfter) {
			continue
		}
		live++
		age := now.Sub(s.Created)
		if age > oldSecret {
			say(Medium, "its secret %s is %d days old: 'gatehouse clients secret add %s'", s.ID, int(age.Hours()/24), c.ID)
		}
		if s.LastUsed.IsZero() && age > 24*time.Hour {
			say(Low, "its secret %s has never been used: 'gatehouse clients secret revoke %s %s'", s.ID, c.ID, s.ID)
		}
	}
	if live > 1 {
		say(Low, "has %d live secrets: end the old one when its successor is in use", live)
	}
}

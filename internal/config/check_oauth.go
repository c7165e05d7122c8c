package config

import (
	"maps"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// oauth checks the authorization server and the people, and makes its tokens those
// of an issuer like any other.
func (c *checker) oauth() {
	f := c.f
	c.identity()
	if f.OAuth == nil {
		c.withoutOAuth()
		return
	}
	o := f.OAuth
	if u, err := url.Parse(o.Issuer.Value); err == nil && u.Scheme == "http" {
		c.errorf(o.Issuer.Place, "oauth: the issuer must be https: its cookies and passkeys work nowhere else; TLS may end at a proxy in front of us")
	}
	if strings.HasSuffix(o.Issuer.Value, "/") {
		c.errorf(o.Issuer.Place, "oauth: the issuer ends with /; write it without: clients compare it byte for byte")
	}
	if i := f.Issuers[OwnIssuer]; i != nil {
		c.errorf(i.Place, "issuers.%s: the name is taken by oauth, our own authorization server", OwnIssuer)
	}
	for _, name := range slices.Sorted(maps.Keys(o.Resources)) {
		r := o.Resources[name]
		if (r.Format == "encrypted") != (r.Key != nil) {
			c.errorf(r.Place, "oauth.resources.%s: encrypted and key belong together", name)
		}
	}
	if r := o.Registration; (r.Dynamic == "token") != (r.InitialAccess != nil) {
		c.errorf(r.Place, "oauth.registration: dynamic: token and initial_access_token belong together")
	}
	if o.AccessToken.Format == "encrypted" && len(o.Resources) > 0 {
		for _, name := range slices.Sorted(maps.Keys(o.Resources)) {
			if r := o.Resources[name]; r.Format == "" {
				c.errorf(r.Place, "oauth.resources.%s: its tokens would be encrypted, but there is no key; give it one, or another format", name)
			}
		}
	}
	c.limits(o.Limits, "oauth")
	if f.Issuers == nil {
		f.Issuers = map[string]*Issuer{}
	}
	if f.Issuers[OwnIssuer] == nil {
		f.Issuers[OwnIssuer] = &Issuer{
			Issuer: o.Issuer, Type: "at+jwt", Roles: "roles", Tenant: "tenant", Algorithms: []string{"ES256", "EdDSA", "RS256"}, Own: true, Place: o.Place,
			Leeway: 30 * time.Second, // the clock is one, but a token issued right after a revocation is dated a second later
			Claims: map[string]*Claim{},
		}
	}
}

// withoutOAuth refuses what only our own authorization server could give.
func (c *checker) withoutOAuth() {
	f := c.f
	if f.Identity.SCIM.Base != "" {
		c.errorf(f.Identity.Place, "identity.scim: there are no users without oauth")
	}
	if f.Admin.API.Base != "" {
		c.errorf(f.Admin.Place, "admin.api: there is nothing to administer without oauth")
	}
	for _, name := range slices.Sorted(maps.Keys(f.APIs)) {
		if a := f.APIs[name]; a.AccessToken != nil {
			c.errorf(a.Place, "apis.%s: access_token is of our own authorization server, but there is no oauth", name)
		}
	}
}

func (c *checker) identity() {
	f := c.f
	id := &f.Identity
	if id.Mail.SMTP == nil && id.Mail.Outbox.Value == "" && f.Data.Value != "" {
		id.Mail.Outbox = Path{filepath.Join(f.Data.Value, "outbox"), f.Data.Place}
	}
	if s := id.Mail.SMTP; s != nil {
		host, _, _ := net.SplitHostPort(s.Address)
		if s.TLS == "none" && !loopback(host) {
			c.errorf(s.Place, "identity.mail.smtp: tls: none, and %s is not this machine: codes would pass in the clear", s.Address)
		}
		if (s.User == "") != (s.Password == nil) {
			c.errorf(s.Place, "identity.mail.smtp needs user and password together")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(id.Upstreams)) {
		u := id.Upstreams[name]
		at := "identity.upstreams." + name
		if (u.OIDC == nil) == (u.LDAP == nil) {
			c.errorf(u.Place, "%s needs exactly one of oidc and ldap", at)
		}
		var roles map[string]OneOrMany
		if u.OIDC != nil {
			roles = u.OIDC.Roles
			if u.OIDC.Issuer.Value == "" && u.OIDC.Preset == "" {
				c.errorf(u.OIDC.Place, "%s.oidc needs an issuer or a preset", at)
			}
		}
		if u.LDAP != nil {
			roles = u.LDAP.Roles
			if !strings.Contains(u.LDAP.Filter, "{login}") {
				c.errorf(u.LDAP.Place, "%s.ldap: filter takes what was typed as {login}, like (uid={login})", at)
			}
		}
		for _, there := range slices.Sorted(maps.Keys(roles)) {
			c.knownRoles(roles[there], at+".roles")
		}
	}
}

package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/egress"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/identity/upstream"
	"github.com/gatehouse-api/gatehouse/internal/oauth"
	"github.com/gatehouse-api/gatehouse/internal/pki"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// OAuth is the config in the authorization server's words; what it works with is
// the caller's to add. There is none without oauth in the config.
func (p *Plan) OAuth() (*oauth.Config, error) {
	f, o := p.File, p.File.OAuth
	cfg := &oauth.Config{
		Issuer: o.Issuer.Value, Profile: oauth.Profile(o.Profile), Scopes: o.Scopes, AccessLife: o.AccessToken.Life, CodeLife: o.Code,
		RefreshIdle: o.RefreshToken.Idle, RefreshLife: o.RefreshToken.Life, RefreshGrace: o.RefreshToken.Grace,
		MetadataDocs: config.Values(o.Registration.Documents), RequireNonce: o.DPoP.Nonce, Pages: oauth.Look{Name: o.Look.Name, Color: o.Look.Color},
		DetailSchemas: map[string]json.RawMessage{},
	}
	if cfg.RefreshGrace == 0 {
		cfg.RefreshGrace = -1 // 0s was written: none
	}
	if r := o.Registration; r.Dynamic != "off" {
		cfg.Registration = r.Dynamic
		if r.InitialAccess != nil {
			sum := sha256.Sum256([]byte(r.InitialAccess.Reveal()))
			cfg.InitialAccess = hex.EncodeToString(sum[:])
		}
	}
	if o.Look.Logo != nil {
		var err error
		if cfg.Pages.Logo, err = os.ReadFile(o.Look.Logo.Value); err != nil {
			return nil, fmt.Errorf("look.logo: %w", err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.Details)) {
		cfg.DetailTypes = append(cfg.DetailTypes, name)
		if s := o.Details[name].Schema; s != nil {
			b, err := os.ReadFile(s.Value)
			if err != nil {
				return nil, fmt.Errorf("authorization_details.%s: %w", name, err)
			}
			cfg.DetailSchemas[name] = b
		}
	}
	for _, r := range p.resources {
		if !r.Own {
			continue
		}
		res := oauth.Resource{ID: r.ID, Name: r.Title, Scopes: r.Scopes, Format: o.AccessToken.Format}
		if api := f.APIs[r.API]; api != nil && api.AccessToken != nil { // not an API of the house itself
			t := api.AccessToken
			if t.Format != "" {
				res.Format = t.Format
			}
			if t.Life != nil {
				res.Life = *t.Life
			}
		}
		cfg.Resources = append(cfg.Resources, res)
	}
	for _, name := range slices.Sorted(maps.Keys(o.Resources)) {
		r := o.Resources[name]
		res := oauth.Resource{
			ID: r.ID.Value, Name: name, Scopes: config.Values(r.Scopes), Format: r.Format, Algorithm: token.Algorithm(r.Algorithm),
			Introspect: config.Values(r.Introspect),
		}
		if res.Format == "" {
			res.Format = o.AccessToken.Format
		}
		if r.Life != nil {
			res.Life = *r.Life
		}
		if r.Key != nil {
			b, err := os.ReadFile(r.Key.Value)
			if err != nil {
				return nil, fmt.Errorf("resources.%s.key: %w", name, err)
			}
			res.Key = b
		}
		cfg.Resources = append(cfg.Resources, res)
	}
	return cfg, nil
}

// SignIns are the places where people can sign in elsewhere.
func (p *Plan) SignIns(people *identity.Directory, seal *token.Sealer) (out []oauth.SignIn, err error) {
	f := p.File
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(f.Identity.Upstreams)) {
		u := f.Identity.Upstreams[name]
		in := oauth.SignIn{Name: name}
		if c := u.OIDC; c != nil {
			in.Title = c.Title
			in.OIDC, err = oidcSignIn(name, f, c, seal)
		} else {
			in.LDAP, err = ldapSignIn(name, u.LDAP, people)
		}
		if err != nil {
			errs = append(errs, config.Errorf(u.Place, "identity.upstreams.%s: %v", name, err))
		}
		out = append(out, in)
	}
	return out, errors.Join(errs...)
}

func oidcSignIn(name string, f *config.File, c *config.UpstreamOIDC, seal *token.Sealer) (*upstream.OIDC, error) {
	var allow []string
	if c.Issuer.Value != "" {
		origin, err := egress.Origin(c.Issuer.Value)
		if err != nil {
			return nil, err
		}
		allow = []string{origin}
	}
	out, err := egress.New(egress.Config{Allow: allow})
	if err != nil {
		return nil, err
	}
	cfg := upstream.OIDCConfig{
		Name: name, Preset: c.Preset, Tenant: c.Tenant, Issuer: c.Issuer.Value, Gatehouse: f.OAuth.Issuer.Value, ClientID: c.ClientID,
		Scopes: config.Values(c.Scopes), Seal: seal, HTTP: out.HTTP(), GroupsClaim: c.Groups, ACR: c.ACR, Require: map[string][]string{},
		Rules: upstream.Rules{Create: c.Create, LinkEmail: c.Link, TrustEmail: c.Believe, Roles: mapped(c.Roles)},
	}
	if c.Secret != nil {
		cfg.Secret = c.Secret.Secret
	}
	for claim, values := range c.Require {
		cfg.Require[claim] = config.Values(values)
	}
	return upstream.NewOIDC(cfg)
}

func ldapSignIn(name string, c *config.UpstreamLDAP, people *identity.Directory) (*upstream.LDAP, error) {
	cfg := upstream.LDAPConfig{
		Name: name, URL: c.URL.Value, StartTLS: strings.HasPrefix(c.URL.Value, "ldap:"), BindDN: c.BindDN, Base: c.Base, Filter: c.Filter,
		SubjectAttribute: c.Subject, NameAttribute: c.Name, EmailAttribute: c.Mail, GroupsAttribute: c.Groups, GroupBase: c.GroupsIn,
		Rules: upstream.Rules{Create: c.Create, LinkEmail: c.Link, TrustEmail: c.Believe, Roles: mapped(c.Roles)}, Throttle: people,
	}
	if c.Password != nil {
		cfg.BindPassword = c.Password.Secret
	}
	if c.CA != nil {
		var err error
		if cfg.Roots, err = pki.ReadPool(c.CA.Value); err != nil {
			return nil, err
		}
	}
	return upstream.NewLDAP(cfg)
}

// People is the config in the directory's words; what it works with is the
// caller's to add.
func (p *Plan) People() (identity.Config, error) {
	f := p.File
	id := &f.Identity
	cfg := identity.Config{
		Issuer: f.OAuth.Issuer.Value, MinPassword: id.Passwords.Minimum, MinPasswordSecond: id.Passwords.Second, HashSlots: id.Passwords.Hashes,
		SessionIdle: id.Sessions.Idle, SessionLife: id.Sessions.Life, TokenLife: time.Hour,
	}
	if id.Passwords.Breached != nil {
		cfg.Breached = id.Passwords.Breached.Value
	}
	m := id.Mail
	if m.SMTP == nil {
		var err error
		cfg.Mail, err = identity.NewOutbox(m.Outbox.Value)
		return cfg, err
	}
	smtp := identity.SMTPConfig{Address: m.SMTP.Address, User: m.SMTP.User, From: m.SMTP.From, TLS: map[string]identity.TLSMode{
		"starttls": identity.StartTLS, "implicit": identity.ImplicitTLS, "none": identity.NoTLS,
	}[m.SMTP.TLS]}
	if m.SMTP.Password != nil {
		smtp.Password = m.SMTP.Password.Secret
	}
	var err error
	if m.SMTP.CA != nil {
		if smtp.Roots, err = pki.ReadPool(m.SMTP.CA.Value); err != nil {
			return cfg, config.Errorf(m.SMTP.Place, "identity.mail.smtp.ca: %v", err)
		}
	}
	cfg.Mail, err = identity.NewSMTP(smtp)
	return cfg, err
}

func mapped(in map[string]config.OneOrMany) map[string][]string {
	out := map[string][]string{}
	for there, here := range in {
		out[there] = config.Values(here)
	}
	return out
}

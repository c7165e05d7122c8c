package upstream

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gatehouse-api/gatehouse/internal/identity"
)

const (
	maxClaim  = 1 << 10 // bytes
	maxGroups = 1 << 12
	maxAMR    = 32 // bytes of one, and
	maxAMRs   = 8  // of them: they go into every token
)

// Presets returns the names of the providers whose settings are known. GitHub is
// not among them: it signs people in by an OAuth 2 of its own without ID tokens.
func Presets() []string { return []string{"gitlab", "google", "microsoft"} }

// preset fills in what is known of a provider.
func (c *OIDCConfig) preset() error {
	var issuer string
	switch c.Preset {
	case "":
		return nil
	case "google":
		issuer = "https://accounts.google.com"
		if c.NameClaim == "" {
			c.NameClaim = "email"
		}
	case "microsoft":
		// Of one directory: under "common" and "organizations" anybody's directory
		// may say anything, and the issuer differs with each.
		if c.Tenant == "" || strings.ContainsAny(c.Tenant, "/?#%") || slices.Contains([]string{"common", "organizations", "consumers"}, c.Tenant) {
			return fmt.Errorf("the preset microsoft needs the id of one directory as tenant, not %q", c.Tenant)
		}
		if c.TrustEmail || c.LinkEmail {
			// The directory's users may set the claim email to any address.
			return fmt.Errorf("the preset microsoft has no verified addresses: leave trustEmail and linkEmail off")
		}
		issuer = "https://login.microsoftonline.com/" + c.Tenant + "/v2.0"
	case "gitlab":
		issuer = "https://gitlab.com"
		if c.GroupsClaim == "" {
			c.GroupsClaim = "groups_direct"
		}
	case "github":
		return fmt.Errorf("GitHub is no OpenID provider (it has no ID tokens for people); put one that speaks to it in between")
	default:
		return fmt.Errorf("there is no preset %q, only %s", c.Preset, strings.Join(Presets(), ", "))
	}
	if c.Issuer == "" {
		c.Issuer = issuer
	}
	return nil
}

// external makes what we say of a user out of verified claims.
func (o *OIDC) external(claims map[string]any) (*identity.External, error) {
	for name, want := range o.cfg.Require {
		if !slices.ContainsFunc(texts(claims[name]), func(s string) bool { return slices.Contains(want, s) }) {
			return nil, o.refuse(fmt.Sprintf("the claim %q is not one the config lets in", name))
		}
	}
	e := &identity.External{
		Source: o.cfg.Name, Subject: text(claims["sub"]),
		Name: text(claims[o.cfg.NameClaim]), Email: text(claims["email"]),
		Claims: standard(claims), Groups: texts(claims[o.cfg.GroupsClaim]),
		ACR: o.cfg.ACR[text(claims["acr"])],
	}
	e.EmailVerified = e.Email != "" && o.cfg.TrustEmail && (claims["email_verified"] == true || claims["email_verified"] == "true") // Cognito's is a string
	if o.cfg.TrustAMR {
		e.AMR = slices.DeleteFunc(texts(claims["amr"]), func(m string) bool { return len(m) > maxAMR || strings.ContainsFunc(m, unprintable) })
		e.AMR = e.AMR[:min(len(e.AMR), maxAMRs)]
	}
	o.cfg.apply(e)
	return e, nil
}

// apply gives e what the connector's config says its users get.
func (r *Rules) apply(e *identity.External) {
	e.Create, e.LinkEmail = r.Create, r.LinkEmail
	roles := map[string]bool{}
	for _, g := range e.Groups {
		for _, role := range r.Roles[g] {
			roles[role] = true
		}
	}
	e.Roles = slices.Sorted(maps.Keys(roles))
}

// standard takes over the claims of OpenID Connect Core §5.1 about the person, in
// the types they should have. Addresses of pages must be https: a service may make
// links of them.
func standard(claims map[string]any) map[string]any {
	out := map[string]any{}
	for _, name := range []string{"name", "given_name", "family_name", "middle_name", "nickname", "gender", "birthdate", "zoneinfo", "locale"} {
		if s := text(claims[name]); s != "" {
			out[name] = s
		}
	}
	for _, name := range []string{"profile", "picture", "website"} {
		s := text(claims[name])
		if u, err := url.Parse(s); err == nil && u.Scheme == "https" && u.Host != "" {
			out[name] = s
		}
	}
	if address, ok := claims["address"].(map[string]any); ok {
		kept := map[string]any{}
		for _, name := range []string{"formatted", "street_address", "locality", "region", "postal_code", "country"} {
			if s := text(address[name]); s != "" {
				kept[name] = s
			}
		}
		if len(kept) > 0 {
			out["address"] = kept
		}
	}
	return out
}

func unprintable(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }

// text returns v when it is a string fit to keep.
func text(v any) string {
	s, ok := v.(string)
	if !ok || len(s) > maxClaim || !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
		return ""
	}
	return s
}

// texts returns the strings of v: one, or an array's.
func texts(v any) []string {
	var out []string
	switch v := v.(type) {
	case []any:
		for _, e := range v[:min(len(v), maxGroups)] {
			if s := text(e); s != "" {
				out = append(out, s)
			}
		}
	case bool:
		out = []string{strconv.FormatBool(v)}
	default:
		if s := text(v); s != "" {
			out = []string{s}
		}
	}
	return out
}

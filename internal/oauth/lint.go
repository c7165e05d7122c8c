package oauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/gatehouse-api/gatehouse/internal/token"
)

// Grant types a client may be registered for.
const (
	grantTypeCode     = "authorization_code"
	grantTypeRefresh  = "refresh_token"
	grantTypeClient   = "client_credentials"
	grantTypeDevice   = "urn:ietf:params:oauth:grant-type:device_code"
	grantTypeExchange = "urn:ietf:params:oauth:grant-type:token-exchange"
)

// How a client proves itself (token_endpoint_auth_method).
const (
	methodBasic      = "client_secret_basic"
	methodPost       = "client_secret_post"
	methodJWT        = "private_key_jwt"
	methodTLS        = "tls_client_auth"
	methodSelfSigned = "self_signed_tls_client_auth"
	methodNone       = "none"
)

const (
	native       = "native"
	maxURI       = 2000
	maxURIs      = 32
	maxClientKey = 64 << 10 // of jwks
)

// A Finding is one rule that a client's metadata breaks.
type Finding struct {
	Field string // the metadata's name: "redirect_uris"
	Rule  string // stable: "redirect_https"
	Text  string // what is wrong and the way out
}

// String is what people read.
func (f Finding) String() string { return f.Field + ": " + f.Text }

type linter struct {
	profile Profile
	m       *Metadata
	found   []Finding
}

func (l *linter) say(field, rule, format string, args ...any) {
	l.found = append(l.found, Finding{field, rule, fmt.Sprintf(format, args...)})
}

// Lint checks a client's metadata against the rules of OAuth 2.1, RFC 9700 and p.
// A client with any Finding is refused, by whomever it is brought.
func Lint(p Profile, m *Metadata) []Finding {
	n := *m
	n.setDefaults()
	l := &linter{profile: p, m: &n}
	l.texts()
	l.redirects()
	l.grants()
	l.authentication()
	l.algorithms()
	l.words()
	l.profileRules()
	return l.found
}

// setDefaults fills in what RFC 7591 §2 says a missing member means.
func (m *Metadata) setDefaults() {
	if m.ApplicationType == "" {
		m.ApplicationType = "web"
		if len(m.RedirectURIs) > 0 && !slices.ContainsFunc(m.RedirectURIs, func(u string) bool { return !loopbackURI.MatchString(u) }) {
			m.ApplicationType = native // many such clients, of MCP above all, do not say so
		}
	}
	if m.TokenEndpointAuthMethod == "" {
		m.TokenEndpointAuthMethod = methodBasic
	}
	if len(m.GrantTypes) == 0 {
		m.GrantTypes = []string{grantTypeCode}
	}
	if len(m.ResponseTypes) == 0 && slices.Contains(m.GrantTypes, grantTypeCode) {
		m.ResponseTypes = []string{"code"}
	}
	if m.SubjectType == "" {
		m.SubjectType = "public"
	}
	if m.TokenEndpointAuthAlg == "Ed25519" {
		m.TokenEndpointAuthAlg = string(token.EdDSA) // the same, by its name of RFC 9864
	}
}

func (l *linter) texts() {
	m := l.m
	for _, t := range []struct{ field, text string }{
		{"client_name", m.ClientName},
		{"software_id", m.SoftwareID},
		{"software_version", m.SoftwareVersion},
		{"gatehouse_tenant", m.Tenant},
		{"tls_client_auth_subject_dn", m.TLSSubjectDN},
		{"tls_client_auth_san_dns", m.TLSSANDNS},
		{"tls_client_auth_san_uri", m.TLSSANURI},
		{"contacts", strings.Join(m.Contacts, "")},
	} {
		// A name that reads backwards or has line ends would deceive on the consent page and in lists.
		if len(t.text) > 1024 || strings.ContainsFunc(t.text, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
			l.say(t.field, "text", "must be at most 1024 bytes of printable characters")
		}
	}
	if len(m.ClientName) > 128 {
		l.say("client_name", "text", "must be at most 128 bytes long")
	}
	if len(m.Contacts) > 10 {
		l.say("contacts", "count", "there are more than 10")
	}
	for _, u := range []struct{ field, uri string }{
		{"client_uri", m.ClientURI},
		{"logo_uri", m.LogoURI},
		{"policy_uri", m.PolicyURI},
		{"tos_uri", m.TOSURI},
		{"jwks_uri", m.JWKSURI},
	} {
		if u.uri == "" {
			continue
		}
		if why := webURI(u.uri, false); why != "" {
			l.say(u.field, "https", "%s", why)
		}
	}
	if m.BackchannelLogoutURI != "" {
		if why := webURI(m.BackchannelLogoutURI, true); why != "" {
			l.say("backchannel_logout_uri", "https", "%s", why)
		}
	}
}

func (l *linter) redirects() {
	m := l.m
	if !slices.Contains([]string{"web", native}, m.ApplicationType) {
		l.say("application_type", "unknown", "must be web or native")
	}
	for _, list := range []struct {
		field string
		uris  []string
	}{{"redirect_uris", m.RedirectURIs}, {"post_logout_redirect_uris", m.PostLogoutRedirectURIs}} {
		if len(list.uris) > maxURIs {
			l.say(list.field, "count", "there are more than %d", maxURIs)
			continue
		}
		for i, u := range list.uris {
			if rule, why := lintRedirect(u, m.ApplicationType == native); rule != "" {
				l.say(list.field, rule, "%.100q: %s", u, why)
			}
			if slices.Contains(list.uris[:i], u) {
				l.say(list.field, "twice", "%.100q is there twice", u)
			}
		}
	}
	code := slices.Contains(m.GrantTypes, grantTypeCode)
	if code && len(m.RedirectURIs) == 0 {
		l.say("redirect_uris", "missing", "a client with the grant type authorization_code needs one")
	}
	if !code && len(m.RedirectURIs) > 0 {
		l.say("redirect_uris", "unused", "they are of no use without the grant type authorization_code")
	}
}

// lintRedirect says which rule a redirect URI breaks, "" for none (RFC 9700 §2.1,
// RFC 8252 §7 and §8.4). Requests are compared with it byte by byte, so what is
// refused here is what a browser would read otherwise than we do.
func lintRedirect(raw string, isNative bool) (rule, why string) {
	if len(raw) == 0 || len(raw) > maxURI {
		return "redirect_length", fmt.Sprintf("must have 1 to %d bytes", maxURI)
	}
	for _, c := range []byte(raw) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}", c) >= 0 {
			return "redirect_characters", "has characters that no URI has; write them percent-encoded, host names in punycode"
		}
	}
	if strings.Contains(raw, "*") {
		return "redirect_wildcard", "wildcards do not exist: register each URI"
	}
	if strings.Contains(raw, "#") {
		return "redirect_fragment", "must have no fragment"
	}
	u, err := url.Parse(raw)
	if err != nil || u.Scheme == "" {
		return "redirect_absolute", "is not an absolute URI"
	}
	if u.User != nil || strings.Contains(u.Host, "@") {
		// https://bank.example@evil.example/ leads to evil.example.
		return "redirect_userinfo", "must have no user information"
	}
	for segment := range strings.SplitSeq(strings.ReplaceAll(strings.ToLower(u.EscapedPath()), "%2e", "."), "/") {
		if segment == "." || segment == ".." {
			return "redirect_dots", "must have no . or .. in its path: browsers remove them"
		}
	}
	switch {
	case u.Scheme == "https":
		if u.Opaque != "" || u.Hostname() == "" {
			return "redirect_absolute", "has no host"
		}
		return "", ""
	case u.Scheme == "http":
		if !isLoopback(u.Hostname()) || u.Opaque != "" {
			return "redirect_https", "must be https: over http anybody on the way reads the code"
		}
		if !isNative {
			return "redirect_loopback", "http to the own machine is for the application_type native"
		}
		return "", ""
	case !isNative:
		return "redirect_https", "must be https; other schemes are for the application_type native"
	case !strings.Contains(u.Scheme, "."):
		// RFC 8252 §7.1; keeps javascript:, data: and every other app's short name out.
		return "redirect_scheme", "a scheme of one's own is a domain in reverse, like com.example.app"
	}
	return "", ""
}

// webURI says why raw is not an https URL as metadata may have them.
func webURI(raw string, loopback bool) string {
	u, err := url.Parse(raw)
	switch {
	case err != nil || len(raw) > maxURI || u.Opaque != "" || u.Hostname() == "":
		return "is not an absolute URL"
	case u.User != nil || strings.Contains(raw, "#"):
		return "must have neither user information nor fragment"
	case u.Scheme == "https", loopback && u.Scheme == "http" && isLoopback(u.Hostname()):
		return ""
	}
	return "must be https"
}

// isLoopback tells the own machine by its address, or by the name that no resolver is asked for.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback() && a.Zone() == ""
}

func (l *linter) grants() {
	m := l.m
	for _, g := range m.GrantTypes {
		switch g {
		case grantTypeCode, grantTypeRefresh:
		case grantTypeClient, grantTypeExchange:
			if m.TokenEndpointAuthMethod == methodNone {
				l.say("grant_types", "public", "%s needs a client that proves itself: anybody could be this one", g)
			}
		case grantTypeDevice:
		case "implicit":
			l.say("grant_types", "implicit", "implicit does not exist here: tokens in URLs leak (RFC 9700 §2.1.2); use authorization_code with PKCE")
		case "password":
			l.say("grant_types", "password", "password does not exist here: the client would see it (RFC 9700 §2.4); use authorization_code with PKCE")
		default:
			l.say("grant_types", "unknown", "%.100q is not known", g)
		}
	}
	for _, t := range m.ResponseTypes {
		if t != "code" {
			l.say("response_types", "code", "%.100q does not exist here, only code (RFC 9700 §2.1.2)", t)
		}
	}
	code, response := slices.Contains(m.GrantTypes, grantTypeCode), slices.Contains(m.ResponseTypes, "code")
	if code != response {
		l.say("response_types", "code", "code and the grant type authorization_code go together (RFC 7591 §2.1)")
	}
	if slices.Contains(m.GrantTypes, grantTypeRefresh) && !code && !slices.Contains(m.GrantTypes, grantTypeDevice) {
		l.say("grant_types", "refresh", "refresh_token needs authorization_code or the device grant: nothing else gives refresh tokens")
	}
	if len(m.Exchange) > 0 && !slices.Contains(m.GrantTypes, grantTypeExchange) {
		l.say("gatehouse_exchange", "unused", "is of no use without the grant type %s", grantTypeExchange)
	}
}

func (l *linter) authentication() {
	m := l.m
	if m.JWKSURI != "" && len(m.JWKS) > 0 {
		l.say("jwks_uri", "one", "jwks and jwks_uri must not both be there (RFC 7591 §2)")
	}
	if len(m.JWKS) > 0 {
		if err := checkClientKeys(m.JWKS); err != nil {
			l.say("jwks", "keys", "%v", err)
		}
	}
	names := 0
	for _, n := range []string{m.TLSSubjectDN, m.TLSSANDNS, m.TLSSANURI} {
		if n != "" {
			names++
		}
	}
	switch m.TokenEndpointAuthMethod {
	case methodBasic, methodPost, methodNone:
	case methodJWT:
		if len(m.JWKS) == 0 && m.JWKSURI == "" {
			l.say("jwks", "missing", "private_key_jwt needs jwks or jwks_uri")
		}
	case methodTLS:
		if names != 1 {
			l.say("token_endpoint_auth_method", "tls_name", "tls_client_auth needs exactly one of tls_client_auth_subject_dn, tls_client_auth_san_dns and tls_client_auth_san_uri (RFC 8705 §2.1.2)")
		}
	case methodSelfSigned:
		if len(m.JWKS) == 0 && m.JWKSURI == "" {
			l.say("jwks", "missing", "self_signed_tls_client_auth needs jwks or jwks_uri with the certificate in x5c (RFC 8705 §2.2)")
		}
	case "client_secret_jwt":
		l.say("token_endpoint_auth_method", "unknown", "client_secret_jwt does not exist here: who can verify it can forge it; use private_key_jwt")
	default:
		l.say("token_endpoint_auth_method", "unknown", "%.100q is not known", m.TokenEndpointAuthMethod)
	}
	if names > 0 && m.TokenEndpointAuthMethod != methodTLS {
		l.say("tls_client_auth_subject_dn", "unused", "names of certificates are for tls_client_auth")
	}
}

// checkClientKeys reads a client's key set: public keys, of which one can verify.
func checkClientKeys(jwks []byte) error {
	if len(jwks) > maxClientKey {
		return fmt.Errorf("is larger than %d bytes", maxClientKey)
	}
	set, err := token.NewKeySet(token.KeySetConfig{Static: jwks, Algorithms: assertionAlgorithms()}, nil)
	if err != nil {
		return fmt.Errorf("has no key that can be used: %w", err)
	}
	if set.Status().Keys == 0 {
		return fmt.Errorf("has no key that can be used with %v", assertionAlgorithms())
	}
	var doc struct {
		Keys []map[string]json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(jwks, &doc); err != nil {
		return errors.New("is not a JWK Set")
	}
	for i, k := range doc.Keys {
		// One private key beside good ones is still lost to whoever has read this.
		for _, name := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"} {
			if _, has := k[name]; has {
				return fmt.Errorf("key %d has its private part (%s); make a new pair and register the public half", i, name)
			}
		}
	}
	return nil
}

// assertionAlgorithms are those of client assertions.
func assertionAlgorithms() []token.Algorithm {
	return []token.Algorithm{token.ES256, token.ES384, token.ES512, token.EdDSA, token.PS256, token.PS384, token.PS512, token.RS256}
}

func (l *linter) algorithms() {
	m := l.m
	for _, a := range []struct {
		field, alg string
		may        []token.Algorithm
	}{
		{"id_token_signed_response_alg", m.IDTokenAlg, []token.Algorithm{token.ES256, token.RS256, token.EdDSA}},
		{"gatehouse_access_token_alg", m.AccessTokenAlg, []token.Algorithm{token.ES256, token.RS256, token.EdDSA}},
		{"token_endpoint_auth_signing_alg", m.TokenEndpointAuthAlg, assertionAlgorithms()},
	} {
		if a.alg == "" {
			continue
		}
		if !slices.Contains(a.may, token.Algorithm(a.alg)) {
			l.say(a.field, "algorithm", "%.100q is not one of %v", a.alg, a.may)
		}
	}
	if m.SubjectType != "public" {
		l.say("subject_type", "unknown", "only public exists here")
	}
	if m.DefaultMaxAge != nil && *m.DefaultMaxAge < 0 {
		l.say("default_max_age", "negative", "must not be negative")
	}
}

func (l *linter) words() {
	m := l.m
	for _, w := range []struct {
		field string
		words []string
	}{
		{"scope", strings.Split(m.Scope, " ")},
		{"default_acr_values", m.DefaultACR},
		{"authorization_details_types", m.DetailTypes},
		{"gatehouse_roles", m.Roles},
		{"gatehouse_resources", m.Resources},
		{"gatehouse_exchange", m.Exchange},
	} {
		if w.field == "scope" && m.Scope == "" {
			continue
		}
		if len(w.words) > 256 {
			l.say(w.field, "count", "there are more than 256")
			continue
		}
		for i, word := range w.words {
			if !isWord(word) {
				l.say(w.field, "word", "%.100q must have printable ASCII characters without spaces, quotes and backslashes", word)
			} else if slices.Contains(w.words[:i], word) {
				l.say(w.field, "twice", "%.100q is there twice", word)
			}
		}
	}
	for _, r := range m.Resources {
		if u, err := url.Parse(r); err != nil || u.Scheme == "" || strings.Contains(r, "#") {
			l.say("gatehouse_resources", "uri", "%.100q is not an absolute URI without fragment (RFC 8707 §2)", r)
		}
	}
}

// isWord is the grammar of a scope token (RFC 6749 §3.3).
func isWord(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return s != "" && len(s) <= 256
}

func (l *linter) profileRules() {
	m := l.m
	if l.profile != FAPI2 {
		return
	}
	if !strongMethod(m.TokenEndpointAuthMethod) {
		l.say("token_endpoint_auth_method", "fapi2", "the profile fapi2 takes private_key_jwt, tls_client_auth and self_signed_tls_client_auth only")
	}
	if !m.DPoPBoundTokens && !m.TLSBoundTokens {
		l.say("dpop_bound_access_tokens", "fapi2", "the profile fapi2 wants tokens bound to a key: set dpop_bound_access_tokens or tls_client_certificate_bound_access_tokens")
	}
	for _, a := range []struct{ field, alg string }{
		{"id_token_signed_response_alg", m.IDTokenAlg},
		{"gatehouse_access_token_alg", m.AccessTokenAlg},
		{"token_endpoint_auth_signing_alg", m.TokenEndpointAuthAlg},
	} {
		if a.alg != "" && !slices.Contains(fapiAlgorithms(), token.Algorithm(a.alg)) {
			l.say(a.field, "fapi2", "the profile fapi2 takes PS256, ES256 and EdDSA only")
		}
	}
}

// strongMethod reports whether a method shows no secret to anybody.
func strongMethod(method string) bool {
	return method == methodJWT || method == methodTLS || method == methodSelfSigned
}

// ProofAlgorithms are those of DPoP proofs in a profile; nil: the usual ones.
func ProofAlgorithms(p Profile) []token.Algorithm {
	if p == FAPI2 {
		return fapiAlgorithms()
	}
	return nil
}

// fapiAlgorithms are those of FAPI 2.0 Security Profile §5.4.1.
func fapiAlgorithms() []token.Algorithm {
	return []token.Algorithm{token.PS256, token.ES256, token.EdDSA}
}

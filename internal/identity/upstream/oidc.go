package upstream

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// ErrRefused is wrapped by the error of a sign-in that an upstream, or what came
// back from it through the browser, did not prove.
var ErrRefused = errors.New("the sign-in is refused")

const (
	attemptLife  = 10 * time.Minute // between leaving for the upstream and coming back
	tokenAge     = 10 * time.Minute // an ID token comes fresh from the token endpoint
	skew         = time.Minute
	metadataLife = time.Hour
	maxIDToken   = 64 << 10
	maxThen      = 2 << 10 // a cookie holds 4 KiB
)

var connectorName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// asymmetric are the algorithms an ID token may be signed with. HS256 is not one
// of them: whoever reads the client's secret could sign, and an RSA key's public
// half could be passed off as an HMAC key.
var asymmetric = []string{oidc.RS256, oidc.ES256, oidc.EdDSA, oidc.PS256, oidc.RS384, oidc.RS512, oidc.ES384, oidc.ES512, oidc.PS384, oidc.PS512}

// OIDCConfig is one OpenID provider. Name, ClientID, Gatehouse, Seal and HTTP are
// required, and Issuer or a Preset that has one.
type OIDCConfig struct {
	Name      string // of the connector, and the Source of its users; a path segment of the redirect URI
	Preset    string // "google", "microsoft", "gitlab": fills in what is empty; see [Presets]
	Tenant    string // for the preset "microsoft": the directory's id
	Issuer    string // exactly as its discovery document has it
	Gatehouse string // our issuer URL, in front of the redirect URI
	ClientID  string
	Secret    gatehouse.Secret // empty: a public client
	Scopes    []string         // besides openid; none: profile, email

	Seal *token.Sealer
	HTTP *http.Client // egress.Client.HTTP(): every call goes out through it

	Rules
	NameClaim   string // wish for the login name; "": preferred_username
	GroupsClaim string // "": groups
	// Require names claims which must have one of the values: {"hd": {"example.com"}}
	// lets one Google Workspace in and not everybody with a Google account.
	Require map[string][]string

	ACRValues []string          // asked for (acr_values)
	ACR       map[string]string // the upstream's acr → ours; what is not named is one factor
	TrustAMR  bool              // pass the upstream's amr on
}

// Rules are what a connector's users get here. The zero value gives nothing: who
// has no account is refused.
type Rules struct {
	Create     bool                // make an account for who has none
	LinkEmail  bool                // an account here with the same verified address is theirs
	TrustEmail bool                // an address this upstream calls verified is; LDAP: every address it has
	Roles      map[string][]string // group of the upstream → roles here; others give nothing
}

// An OIDC signs people in at one OpenID provider, by the authorization code flow
// with PKCE. It is safe for concurrent use.
type OIDC struct {
	cfg      OIDCConfig
	redirect string
	found    atomic.Pointer[provider]
	finding  chan struct{} // of one place: who discovers
}

type provider struct {
	*oidc.Provider
	endpoint oauth2.Endpoint
	iss      bool // announces RFC 9207
	when     time.Time
}

// NewOIDC checks cfg. It calls nobody: an upstream that is down at the start
// keeps its own users out, and no others.
func NewOIDC(cfg OIDCConfig) (*OIDC, error) {
	if err := cfg.preset(); err != nil {
		return nil, fmt.Errorf("upstream %q: %w", cfg.Name, err)
	}
	switch {
	case !connectorName.MatchString(cfg.Name):
		return nil, fmt.Errorf("upstream %q: the name is not made of a-z, 0-9 and - (32 at most)", cfg.Name)
	case cfg.ClientID == "":
		return nil, fmt.Errorf("upstream %q: the client id is missing", cfg.Name)
	case cfg.Seal == nil || cfg.HTTP == nil:
		return nil, fmt.Errorf("upstream %q: a sealer and an HTTP client are needed", cfg.Name)
	}
	for what, u := range map[string]string{"issuer": cfg.Issuer, "URL of Gatehouse": cfg.Gatehouse} {
		if err := checkURL(u); err != nil {
			return nil, fmt.Errorf("upstream %q: the %s %w", cfg.Name, what, err)
		}
	}
	for _, acr := range cfg.ACR {
		if acr != identity.ACRPassword && acr != identity.ACRTwo && acr != identity.ACRPhishing {
			return nil, fmt.Errorf("upstream %q: acr %q is none of ours: %s, %s, %s", cfg.Name, acr, identity.ACRPassword, identity.ACRTwo, identity.ACRPhishing)
		}
	}
	if len(cfg.Scopes) == 0 {
		cfg.Scopes = []string{"profile", "email"}
	}
	if cfg.NameClaim == "" {
		cfg.NameClaim = "preferred_username"
	}
	if cfg.GroupsClaim == "" {
		cfg.GroupsClaim = "groups"
	}
	return &OIDC{
		cfg: cfg,
		// Of its own for each connector (RFC 9700 §4.4.2.2): an answer of one
		// upstream is never handed to another.
		redirect: strings.TrimSuffix(cfg.Gatehouse, "/") + "/signin/upstream/" + cfg.Name + "/callback",
		finding:  make(chan struct{}, 1),
	}, nil
}

// Redirect returns the redirect URI to register at the upstream.
func (o *OIDC) Redirect() string { return o.redirect }

// An Ask is what a sign-in is asked for with.
type Ask struct {
	Then      string // given back by Finish; at most 2 KiB. Nobody can read or change it on the way
	LoginHint string
	Fresh     bool // the upstream must ask again (prompt=login, max_age=0) and say when it did
}

// An attempt is what the browser carries, sealed, while it is away: it binds the
// answer to the browser that asked (login CSRF) and to this connector (mix-up).
type attempt struct {
	State    string `json:"s"`
	Nonce    string `json:"n"`
	Verifier string `json:"v"`
	Then     string `json:"t,omitempty"`
	Fresh    bool   `json:"f,omitempty"`
	Began    int64  `json:"b"` // Unix seconds
}

// Begin returns where to send the browser, and the value of a cookie for it to
// keep: __Host-, HttpOnly, Secure, SameSite=Lax, for 10 minutes.
func (o *OIDC) Begin(ctx context.Context, ask Ask) (to, cookie string, err error) {
	if len(ask.Then) > maxThen {
		return "", "", fmt.Errorf("upstream %s: what comes then is over %d bytes", o.cfg.Name, maxThen)
	}
	p, err := o.discover(ctx)
	if err != nil {
		return "", "", err
	}
	a := attempt{State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier(), Then: ask.Then, Fresh: ask.Fresh, Began: time.Now().Unix()}
	plain, err := json.Marshal(a)
	if err != nil {
		return "", "", err
	}
	cookie, err = o.cfg.Seal.Seal(o.purpose(), plain)
	if err != nil {
		return "", "", fmt.Errorf("upstream %s: %w", o.cfg.Name, err)
	}
	opts := []oauth2.AuthCodeOption{oidc.Nonce(a.Nonce), oauth2.S256ChallengeOption(a.Verifier)}
	if len(o.cfg.ACRValues) > 0 {
		opts = append(opts, oauth2.SetAuthURLParam("acr_values", strings.Join(o.cfg.ACRValues, " ")))
	}
	if ask.LoginHint != "" && len(ask.LoginHint) <= 256 {
		opts = append(opts, oauth2.SetAuthURLParam("login_hint", ask.LoginHint))
	}
	if ask.Fresh {
		opts = append(opts, oauth2.SetAuthURLParam("prompt", "login"), oauth2.SetAuthURLParam("max_age", "0"))
	}
	return o.client(p).AuthCodeURL(a.State, opts...), cookie, nil
}

// Finish checks what the browser brought back: the query of the callback and the
// cookie of Begin, which the caller deletes whatever the outcome. It returns who
// signed in, and Then of Begin as soon as the cookie is known to be ours.
func (o *OIDC) Finish(ctx context.Context, q url.Values, cookie string) (who *identity.External, then string, err error) {
	a, err := o.attempt(q, cookie)
	if err != nil {
		return nil, "", err
	}
	p, err := o.discover(ctx)
	if err != nil {
		return nil, a.Then, err
	}
	if err := o.answer(q, p); err != nil {
		return nil, a.Then, err
	}
	ctx = oidc.ClientContext(ctx, o.cfg.HTTP)
	t, err := o.client(p).Exchange(ctx, q.Get("code"), oauth2.VerifierOption(a.Verifier))
	if err != nil {
		return nil, a.Then, o.exchangeError(err)
	}
	claims, err := o.verify(ctx, p, t, a)
	if err != nil {
		return nil, a.Then, err
	}
	if p.UserInfoEndpoint() != "" && o.lacks(claims) {
		if err := o.userInfo(ctx, p, t, claims); err != nil {
			return nil, a.Then, err
		}
	}
	who, err = o.external(claims)
	return who, a.Then, err
}

// attempt opens the cookie and compares its state with the answer's, before
// anything of the answer is looked at.
func (o *OIDC) attempt(q url.Values, cookie string) (*attempt, error) {
	plain, err := o.cfg.Seal.Open(o.purpose(), cookie)
	if err != nil {
		return nil, o.refuse("it was not begun in this browser")
	}
	var a attempt
	if err := json.Unmarshal(plain, &a); err != nil {
		return nil, o.refuse("it was not begun in this browser")
	}
	if age := time.Since(time.Unix(a.Began, 0)); age > attemptLife || age < -skew {
		return nil, o.refuse("it took longer than 10 minutes")
	}
	for name, values := range q {
		if len(values) != 1 { // two parsers might pick two
			return nil, o.refuse(fmt.Sprintf("the answer has %.32q twice", name))
		}
	}
	if a.State == "" || subtle.ConstantTimeCompare([]byte(a.State), []byte(q.Get("state"))) != 1 {
		return nil, o.refuse("the answer is to another question (state)")
	}
	return &a, nil
}

// answer judges the authorization response (RFC 6749 §4.1.2, RFC 9207 §2.4).
func (o *OIDC) answer(q url.Values, p *provider) error {
	if iss := q.Get("iss"); (p.iss || q.Has("iss")) && iss != o.cfg.Issuer {
		return o.refuse("another issuer answered (iss)")
	}
	if e := q.Get("error"); e != "" {
		return o.refuse(fmt.Sprintf("the upstream says %.64q", e))
	}
	if code := q.Get("code"); code == "" || len(code) > 4<<10 {
		return o.refuse("the answer has no code")
	}
	return nil
}

// exchangeError tells a refused code from an upstream that failed. The answer's
// text is left out: it may quote the request.
func (o *OIDC) exchangeError(err error) error {
	if e, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		if e.ErrorCode == "invalid_grant" {
			return o.refuse("the code is wrong, used or expired (invalid_grant)")
		}
		status := 0
		if e.Response != nil {
			status = e.Response.StatusCode
		}
		return fmt.Errorf("upstream %s: the token endpoint answered %d %.64q", o.cfg.Name, status, e.ErrorCode)
	}
	return fmt.Errorf("upstream %s: the token endpoint: %w", o.cfg.Name, plainly(err))
}

// verify checks the ID token (OpenID Connect Core §3.1.3.7) and returns its claims.
func (o *OIDC) verify(ctx context.Context, p *provider, t *oauth2.Token, a *attempt) (map[string]any, error) {
	raw, ok := t.Extra("id_token").(string)
	if !ok || raw == "" || len(raw) > maxIDToken {
		return nil, o.refuse("the upstream sent no ID token")
	}
	now := time.Now()
	id, err := p.VerifierContext(ctx, &oidc.Config{
		ClientID: o.cfg.ClientID, SupportedSigningAlgs: asymmetric, Now: func() time.Time { return now },
	}).Verify(ctx, raw)
	if err != nil {
		return nil, fmt.Errorf("upstream %s: %w: the ID token: %w", o.cfg.Name, ErrRefused, plainly(err))
	}
	var claims map[string]any
	if err := id.Claims(&claims); err != nil {
		return nil, o.refuse("the ID token has no claims")
	}
	azp, hasParty := claims["azp"]
	switch {
	case id.Issuer != o.cfg.Issuer: // go-oidc takes another spelling from Google
		return nil, o.refuse("the ID token is of another issuer")
	case id.Subject == "" || len(id.Subject) > 255 || strings.ContainsFunc(id.Subject, control):
		return nil, o.refuse("the ID token has no good sub")
	case subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(a.Nonce)) != 1:
		return nil, o.refuse("the ID token is of another sign-in (nonce)")
	case len(id.Audience) > 1 && !hasParty:
		return nil, o.refuse("the ID token is for several and does not say who asked (azp)")
	case hasParty && azp != o.cfg.ClientID:
		return nil, o.refuse("the ID token was asked for by another client (azp)")
	case id.IssuedAt.Unix() <= 0 || id.IssuedAt.After(now.Add(skew)) || now.Sub(id.IssuedAt) > tokenAge:
		return nil, o.refuse("the ID token is not fresh (iat)")
	case id.AccessTokenHash != "" && id.VerifyAccessToken(t.AccessToken) != nil:
		return nil, o.refuse("the access token is not the ID token's (at_hash)")
	}
	if a.Fresh {
		at, ok := claims["auth_time"].(float64)
		if !ok || int64(at) < a.Began-int64(skew/time.Second) {
			return nil, o.refuse("the upstream did not ask again (auth_time)")
		}
	}
	return claims, nil
}

// lacks reports whether claims say less than the connector could use: some providers
// keep all but sub for the userinfo endpoint.
func (o *OIDC) lacks(claims map[string]any) bool {
	return claims[o.cfg.NameClaim] == nil || claims["email"] == nil || len(o.cfg.Roles) > 0 && claims[o.cfg.GroupsClaim] == nil
}

// userInfo adds the claims that the ID token lacks. What is signed wins.
func (o *OIDC) userInfo(ctx context.Context, p *provider, t *oauth2.Token, claims map[string]any) error {
	info, err := p.UserInfo(ctx, oauth2.StaticTokenSource(t))
	if err != nil {
		return fmt.Errorf("upstream %s: the userinfo endpoint: %w", o.cfg.Name, plainly(err))
	}
	if info.Subject != claims["sub"] { // token substitution, Core §5.3.4
		return o.refuse("userinfo is about somebody else (sub)")
	}
	var more map[string]any
	if err := info.Claims(&more); err != nil {
		return fmt.Errorf("upstream %s: the userinfo endpoint sent no claims", o.cfg.Name)
	}
	if _, ok := claims["email"]; ok {
		delete(more, "email_verified") // of its own address
	}
	for name, value := range more {
		if _, ok := claims[name]; !ok && !slices.Contains([]string{"acr", "amr", "auth_time"}, name) {
			claims[name] = value
		}
	}
	return nil
}

func (o *OIDC) refuse(why string) error {
	return fmt.Errorf("upstream %s: %w: %s", o.cfg.Name, ErrRefused, why)
}

func (o *OIDC) purpose() string { return "upstream sign-in " + o.cfg.Name }

func (o *OIDC) client(p *provider) *oauth2.Config {
	return &oauth2.Config{
		ClientID: o.cfg.ClientID, ClientSecret: o.cfg.Secret.Reveal(), Endpoint: p.endpoint,
		RedirectURL: o.redirect, Scopes: append([]string{oidc.ScopeOpenID}, o.cfg.Scopes...),
	}
}

// discover returns the provider's metadata (OpenID Connect Discovery §4), at most
// an hour old while it can be had. Only one caller fetches, the others wait.
func (o *OIDC) discover(ctx context.Context) (*provider, error) {
	if p := o.found.Load(); p != nil && time.Since(p.when) < metadataLife {
		return p, nil
	}
	select {
	case o.finding <- struct{}{}:
		defer func() { <-o.finding }()
	case <-ctx.Done():
		return nil, fmt.Errorf("upstream %s: %w", o.cfg.Name, ctx.Err())
	}
	if p := o.found.Load(); p != nil && time.Since(p.when) < metadataLife {
		return p, nil
	}
	found, err := oidc.NewProvider(oidc.ClientContext(ctx, o.cfg.HTTP), o.cfg.Issuer)
	if err != nil {
		return nil, fmt.Errorf("upstream %s: discovery: %w", o.cfg.Name, plainly(err))
	}
	var more struct {
		JWKS string   `json:"jwks_uri"`
		ISS  bool     `json:"authorization_response_iss_parameter_supported"`
		Auth []string `json:"token_endpoint_auth_methods_supported"`
		PKCE []string `json:"code_challenge_methods_supported"`
	}
	if err := found.Claims(&more); err != nil {
		return nil, fmt.Errorf("upstream %s: discovery: the document is not as it should be", o.cfg.Name)
	}
	p := &provider{Provider: found, endpoint: found.Endpoint(), iss: more.ISS, when: time.Now()}
	for what, u := range map[string]string{"authorization_endpoint": p.endpoint.AuthURL, "token_endpoint": p.endpoint.TokenURL, "jwks_uri": more.JWKS} {
		if err := checkURL(u); err != nil {
			return nil, fmt.Errorf("upstream %s: discovery: the %s %w", o.cfg.Name, what, err)
		}
	}
	// Said rather than tried out: a code that was sent twice is a code used twice.
	switch {
	case o.cfg.Secret.Empty() || more.Auth != nil && !slices.Contains(more.Auth, "client_secret_basic") && slices.Contains(more.Auth, "client_secret_post"):
		p.endpoint.AuthStyle = oauth2.AuthStyleInParams
	case more.Auth == nil || slices.Contains(more.Auth, "client_secret_basic"):
		p.endpoint.AuthStyle = oauth2.AuthStyleInHeader
	default:
		return nil, fmt.Errorf("upstream %s: discovery: the token endpoint takes no client secret", o.cfg.Name)
	}
	o.found.Store(p)
	return p, nil
}

// checkURL takes https, and http to loopback only.
func checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
		return errors.New("is not an absolute URL without user and fragment")
	}
	if u.Scheme == "https" || u.Scheme == "http" && loopback(u.Hostname()) {
		return nil
	}
	return errors.New("is not https")
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

func control(r rune) bool { return r < ' ' || r == 0x7f }

// plainly takes the URL out of an error, which may hold a code, and cuts what an
// upstream could have made long.
func plainly(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	if s := err.Error(); len(s) > 200 {
		return fmt.Errorf("%.200s…", s)
	}
	return err
}

package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-api/gatehouse/internal/identity"
)

const (
	maxState   = 4096
	maxHint    = 320 // an e-mail address
	modeQuery  = "query"
	modePost   = "form_post"
	promptNone = "none"
)

// knownACR are the authentication context classes, weakest first.
var knownACR = []string{identity.ACRPassword, identity.ACRTwo, identity.ACRPhishing}

// A redirect is where the answer to a request goes, once it is known to be the
// client's.
type redirect struct {
	URI   string
	State string
	Mode  string
}

// redirectOf finds where answers to v may go. Its errors are shown to the user:
// there is nobody else to whom they could safely be told (RFC 9700 §4.11).
func (s *Server) redirectOf(c *Client, v url.Values) (*redirect, error) {
	uri := v.Get("redirect_uri")
	switch {
	case uri == "" && len(c.RedirectURIs) == 1 && s.cfg.Profile != FAPI2 && !slices.Contains(strings.Fields(v.Get("scope")), scopeOpenID):
		uri = c.RedirectURIs[0]
	case uri == "":
		return nil, refuse("invalid_request", "redirect_uri is missing.")
	case !c.mayRedirect(uri):
		return nil, refuse("invalid_request", "The redirect_uri is not one of this application.")
	}
	out := &redirect{URI: uri, State: v.Get("state")}
	if v.Get("response_mode") == modePost && strings.HasPrefix(uri, "http") {
		out.Mode = modePost
	}
	return out, nil
}

// loopbackURI is a redirect URI of a native app on the user's own machine: its
// port is what the system gave the app this time (RFC 8252 §7.3).
var loopbackURI = regexp.MustCompile(`^http://(127\.0\.0\.1|\[::1\]|localhost)(:[0-9]{1,5})?([/?][^#\s]*)?$`)

// mayRedirect compares as text, byte for byte (RFC 9700 §4.1): every cleverer way
// to compare URLs has been tricked. Only the port of a native app's loopback
// address is free.
func (c *Client) mayRedirect(uri string) bool {
	if slices.Contains(c.RedirectURIs, uri) {
		return true
	}
	m := loopbackURI.FindStringSubmatch(uri)
	if m == nil || c.ApplicationType != native {
		return false
	}
	return slices.ContainsFunc(c.RedirectURIs, func(have string) bool {
		h := loopbackURI.FindStringSubmatch(have)
		return h != nil && h[1] == m[1] && h[3] == m[3]
	})
}

// judge checks every part of an authorization request (RFC 6749 §4.1.1 and what
// came after it); pushed tells that its client has proved itself (RFC 9126). With
// an error comes the redirect when the client may be told, nil when only the user.
func (s *Server) judge(ctx context.Context, c *Client, v url.Values, pushed bool) (*authRequest, *redirect, error) {
	to, err := s.redirectOf(c, v)
	if err != nil {
		return nil, nil, err
	}
	a := &authRequest{Client: c.ID, RedirectURI: to.URI, ResponseMode: to.Mode, Pushed: pushed}
	for _, check := range []func(context.Context, *Client, url.Values, *authRequest) error{
		s.judgeForm, s.judgeState, s.judgePKCE, s.judgeScope, s.judgeTarget, s.judgeUser, s.judgeClaims,
	} {
		if err := check(ctx, c, v, a); err != nil {
			return nil, to, err
		}
	}
	return a, to, nil
}

// judgeForm is about what kind of request it is.
func (s *Server) judgeForm(_ context.Context, c *Client, v url.Values, a *authRequest) error {
	switch {
	case v.Has("request"):
		return refuse("request_not_supported", "Request objects are not taken; push the request instead (RFC 9126).")
	case v.Has("request_uri"):
		return refuse("request_uri_not_supported", "Only request URIs of our own making are taken (RFC 9126).")
	case v.Has("registration"):
		return refuse("registration_not_supported", "Clients do not describe themselves in a request.")
	case v.Get("client_id") != "" && v.Get("client_id") != c.ID:
		return refuse("invalid_request", "client_id is another client's.")
	case !slices.Contains(c.GrantTypes, grantTypeCode):
		return refuse("unauthorized_client", "This client is not registered for the code flow.")
	case (s.cfg.Profile == FAPI2 || c.RequirePAR) && !a.Pushed:
		return refuse("invalid_request", "This client must push its requests (RFC 9126).")
	case v.Get("response_type") == "":
		return refuse("invalid_request", "response_type is missing.")
	case v.Get("response_type") != "code":
		return refuse("unsupported_response_type", "code is the only response_type.")
	}
	switch v.Get("response_mode") {
	case "", modeQuery:
		return nil
	case modePost:
		if strings.HasPrefix(a.RedirectURI, "https://") || strings.HasPrefix(a.RedirectURI, "http://") {
			return nil
		}
		return refuse("invalid_request", "No form can be posted to that redirect_uri.")
	}
	return refuse("invalid_request", "response_mode is query or form_post.")
}

func (s *Server) judgeState(_ context.Context, _ *Client, v url.Values, a *authRequest) error {
	a.State, a.Nonce = v.Get("state"), v.Get("nonce")
	if len(a.State) > maxState || len(a.Nonce) > maxState {
		return refuse("invalid_request", "state or nonce is too long.")
	}
	return nil
}

var (
	challengeGrammar = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`) // SHA-256 in base64url
	wordGrammar      = regexp.MustCompile(`^[\x21-\x7e]{1,128}$`)
)

func (s *Server) judgePKCE(_ context.Context, _ *Client, v url.Values, a *authRequest) error {
	switch {
	case v.Get("code_challenge") == "":
		return refuse("invalid_request", "code_challenge is missing: PKCE is required of every client.")
	case v.Get("code_challenge_method") != "S256":
		return refuse("invalid_request", "code_challenge_method must be S256.")
	case !challengeGrammar.MatchString(v.Get("code_challenge")):
		return refuse("invalid_request", "code_challenge is not a SHA-256 in base64url.")
	}
	a.Challenge = v.Get("code_challenge")
	if a.JKT = v.Get("dpop_jkt"); a.JKT != "" && !challengeGrammar.MatchString(a.JKT) {
		return refuse("invalid_request", "dpop_jkt is not a SHA-256 in base64url.")
	}
	return nil
}

func (s *Server) judgeScope(_ context.Context, c *Client, v url.Values, a *authRequest) error {
	asked, err := scopesOf(v.Get("scope"))
	if err != nil {
		return err
	}
	may, err := scopesOf(c.Scope)
	if err != nil {
		return err
	}
	if len(asked) == 0 {
		// No more than a plain OAuth client means: no identity, no life after the session.
		asked = slices.DeleteFunc(slices.Clone(may), oidcScope)
	}
	if !subset(asked, may) {
		return refuse("invalid_scope", "This client may not ask for all of that scope.")
	}
	if !mayRefresh(c) {
		// What only a refresh token could use (OpenID Connect Core §11).
		asked = slices.DeleteFunc(asked, func(w string) bool { return w == scopeOffline })
	}
	a.Scopes = asked
	return nil
}

func (s *Server) judgeTarget(_ context.Context, c *Client, v url.Values, a *authRequest) error {
	list := v["resource"]
	if len(list) > 16 {
		return refuse("invalid_target", "There are too many resources.")
	}
	for _, id := range list {
		if checkResource(id) != nil {
			return refuse("invalid_target", "resource must be an absolute URI without fragment.")
		}
		if s.resources[id] == nil || !c.mayTarget(id) {
			return refuse("invalid_target", "This client gets no tokens for that resource.")
		}
		if !slices.Contains(a.Resource, id) {
			a.Resource = append(a.Resource, id)
		}
	}
	if len(list) > 0 {
		return nil
	}
	// What is not asked for is settled now: another config must not make more of
	// what a user has agreed to.
	targets, err := s.targets(c, nil, a.Scopes)
	for _, t := range targets {
		a.Resource = append(a.Resource, t.ID)
	}
	return err
}

// judgeUser reads what is said about how and who should sign in.
func (s *Server) judgeUser(ctx context.Context, c *Client, v url.Values, a *authRequest) error {
	for p := range strings.FieldsSeq(v.Get("prompt")) {
		switch p {
		case promptNone, "login", "consent", "select_account":
			a.Prompt = append(a.Prompt, p)
		default:
			return refuse("invalid_request", "prompt is none, login, consent or select_account.")
		}
	}
	if len(a.Prompt) > 1 && slices.Contains(a.Prompt, promptNone) {
		return refuse("invalid_request", "prompt=none goes with no other prompt.")
	}
	if text := v.Get("max_age"); text != "" {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || n < 0 || text[0] == '+' {
			return refuse("invalid_request", "max_age is a number of seconds.")
		}
		a.MaxAge = &n
	} else if c.DefaultMaxAge != nil {
		a.MaxAge = c.DefaultMaxAge
	}
	a.ACR = strings.Fields(v.Get("acr_values"))
	if len(a.ACR) == 0 {
		a.ACR = slices.Clone(c.DefaultACR)
	}
	if len(a.ACR) > 16 || slices.ContainsFunc(a.ACR, func(w string) bool { return !wordGrammar.MatchString(w) }) {
		return refuse("invalid_request", "acr_values are words of printable ASCII.")
	}
	if a.LoginHint = v.Get("login_hint"); len(a.LoginHint) > maxHint {
		a.LoginHint = "" // a hint one cannot use is none
	}
	a.UILocales = v.Get("ui_locales")
	if len(a.UILocales) > 256 {
		a.UILocales = ""
	}
	hint := v.Get("id_token_hint")
	if hint == "" {
		return nil
	}
	claims, err := s.hintOf(ctx, hint)
	if errors.Is(err, errNotOurs) {
		return refuse("invalid_request", "id_token_hint is not an ID token of ours.").because(err)
	}
	if err != nil {
		return err
	}
	a.IDTokenHint = claims.Subject
	return nil
}

// judgeClaims reads claims (OpenID Connect Core §5.5) and authorization_details
// (RFC 9396).
func (s *Server) judgeClaims(_ context.Context, c *Client, v url.Values, a *authRequest) error {
	if text := v.Get("claims"); text != "" {
		p, err := readClaimsParameter(text)
		if err != nil {
			return refuse("invalid_request", "claims is not what OpenID Connect Core 5.5 describes.").because(err)
		}
		p.within(strings.Fields(c.Scope))
		if a.Claims, err = json.Marshal(p); err != nil {
			return err
		}
		if acr := p.IDToken["acr"]; acr != nil {
			if list := acr.texts(); len(list) > 0 {
				a.ACR, a.ACREssential = list, acr.Essential
			}
		}
		for _, asked := range []*claimRequest{p.IDToken["sub"], p.UserInfo["sub"]} {
			if asked == nil || asked.Value == nil {
				continue
			}
			sub, ok := asked.Value.(string)
			if !ok || a.IDTokenHint != "" && a.IDTokenHint != sub {
				return refuse("invalid_request", "claims asks for another sub.")
			}
			a.IDTokenHint = sub
		}
	}
	if text := v.Get("authorization_details"); text != "" {
		details, err := s.judgeDetails(c, text)
		if err != nil {
			return err
		}
		if err := placedWithin(details, a.Resource); err != nil {
			return err
		}
		a.Details = details
	}
	return nil
}

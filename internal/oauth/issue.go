package oauth

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// Formats of access tokens.
const (
	formatJWT       = "jwt"
	formatOpaque    = "opaque"
	formatEncrypted = "encrypted"
)

const (
	opaquePrefix = "gha_" // secret scanners know a token by it
	sealedAccess = "access token"
	typeAccess   = "at+jwt" // RFC 9068 §2.1
	typeID       = "JWT"
	bearerType   = "Bearer"
	dpopType     = "DPoP"
	scopeOpenID  = "openid"
	scopeOffline = "offline_access"
	maxActors    = 4
	maxAhead     = 3 * time.Second // of our clock: how late a token may be dated because of a revocation
	underWay     = 2 * time.Second // how long a revocation may take from its date until others can read it
)

// issueOptions say what tokens are made, and what they are good for.
type issueOptions struct {
	Scopes   []string // granted
	Resource []string // resource indicators granted; none: the default of the client
	Nonce    string   // of the ID token
	IDToken  bool
	Refresh  bool // a refresh token of g at its Gen
	Act      map[string]any
	Details  json.RawMessage // authorization_details; nil: those of g
	User     *identity.User  // as it is now; required when g has one
}

// accessClaims are those of RFC 9068 §2.2, RFC 8693 §4.1 and ours.
type accessClaims struct {
	Issuer   string            `json:"iss"`
	Subject  string            `json:"sub"`
	Audience any               `json:"aud"` // a string when there is one (RFC 7519 §4.1.3)
	Expires  int64             `json:"exp"`
	IssuedAt int64             `json:"iat"`
	JTI      string            `json:"jti"`
	Client   string            `json:"client_id"`
	Scope    string            `json:"scope,omitempty"`
	Roles    []string          `json:"roles,omitempty"`
	Tenant   string            `json:"tenant,omitempty"`
	AuthTime int64             `json:"auth_time,omitempty"`
	ACR      string            `json:"acr,omitempty"`
	AMR      []string          `json:"amr,omitempty"`
	SID      string            `json:"sid,omitempty"`
	GrantID  string            `json:"grant_id,omitempty"`
	Details  json.RawMessage   `json:"authorization_details,omitempty"`
	Cnf      map[string]string `json:"cnf,omitempty"`
	Act      map[string]any    `json:"act,omitempty"`
}

// issue mints what o asks for: an access token, and with it an ID token and a
// refresh token. g is nil when a client acts for itself. It judges no more than
// who may be named in a token now; that the client may have it was judged before.
func (s *Server) issue(ctx context.Context, c *proven, g *grant, o issueOptions) (*tokenResponse, error) {
	if err := s.bindable(c); err != nil {
		return nil, err
	}
	var targets []*resource
	if g == nil || len(o.Resource) > 0 {
		// What a user did not grant is not made up for later by a default: the
		// config may be another one by then.
		var err error
		if targets, err = s.targets(c.Client, o.Resource, o.Scopes); err != nil {
			return nil, err
		}
	}
	sub := c.ID
	if g != nil && g.User != "" {
		if o.User == nil || o.User.ID != g.User || !o.User.Active {
			return nil, refuse("invalid_grant", "The user this was granted by is not there any more.")
		}
		sub = g.User
	}
	issued, err := s.issuedAt(ctx, c, g, sub)
	if err != nil {
		return nil, err
	}
	now := time.Now().Truncate(time.Second)
	// What an operator has taken from a client since is in no new token of an old grant.
	may := strings.Fields(c.Scope)
	scopes := meant(targets, slices.DeleteFunc(slices.Clone(o.Scopes), func(w string) bool { return !slices.Contains(may, w) }))
	life := s.cfg.AccessLife
	for i, t := range targets {
		if l := orElse(t.Life, s.cfg.AccessLife); i == 0 || l < life {
			life = l
		}
	}
	if g != nil {
		// No token outlives what it is of.
		life = min(life, g.Expires.Sub(now).Truncate(time.Second))
		if life <= 0 {
			return nil, refuse("invalid_grant", "The grant has expired.")
		}
	}
	a := accessClaims{
		Issuer: s.cfg.Issuer, Subject: sub, Audience: audience(s.cfg.Issuer, targets), IssuedAt: issued.Unix(), Expires: now.Add(life).Unix(),
		JTI: rand.Text(), Client: c.ID, Scope: words(scopes), Act: o.Act,
	}
	if g != nil && g.User != "" {
		a.Roles, a.Tenant = o.User.Effective, o.User.Tenant
		a.ACR, a.AMR, a.AuthTime = g.ACR, g.AMR, seconds(g.AuthTime)
	} else {
		a.Roles, a.Tenant = c.Roles, c.Tenant
	}
	if g != nil {
		a.GrantID = g.ID
		if o.Details == nil {
			o.Details = g.Details
		}
		if !g.Offline {
			a.SID = g.SID // what was granted for longer than the session must not end with it
		}
	}
	if a.Details, err = detailsAt(o.Details, targets); err != nil {
		return nil, err
	}
	out := &tokenResponse{TokenType: bearerType, ExpiresIn: int64(life / time.Second), Details: a.Details, Scope: a.Scope}
	switch {
	case c.JKT != "":
		a.Cnf, out.TokenType = map[string]string{"jkt": c.JKT}, dpopType
	case c.TLSBoundTokens:
		a.Cnf = map[string]string{"x5t#S256": c.X5T}
	}
	if out.AccessToken, err = s.accessToken(c.Client, targets, &a); err != nil {
		return nil, err
	}
	if o.IDToken && slices.Contains(scopes, scopeOpenID) {
		if out.IDToken, err = s.idToken(c.Client, g, &o, out.AccessToken, now); err != nil {
			return nil, err
		}
	}
	if o.Refresh && g != nil {
		if out.RefreshToken, err = s.refreshToken(g); err != nil {
			return nil, err
		}
	}
	ev := gatehouse.EventOf(ctx)
	ev.Subject, ev.Issuer, ev.Client = sub, s.cfg.Issuer, c.ID
	return out, nil
}

// bindable refuses a request that must end in a sender-constrained token and has
// shown nothing to bind it to.
func (s *Server) bindable(c *proven) error {
	switch {
	case c.DPoPBoundTokens && c.JKT == "":
		return refuse("invalid_dpop_proof", "This client gets tokens only with a DPoP proof.")
	case c.TLSBoundTokens && c.X5T == "":
		return refuse("invalid_request", "This client gets tokens only with its certificate on the connection.")
	case s.cfg.Profile == FAPI2 && c.JKT == "" && !c.TLSBoundTokens:
		return refuse("invalid_dpop_proof", "Tokens are sender-constrained here: a DPoP proof is needed.")
	}
	return nil
}

// accessToken writes a in the format of the API it is for.
func (s *Server) accessToken(c *Client, targets []*resource, a *accessClaims) (string, error) {
	body, err := json.Marshal(a)
	if err != nil {
		return "", err
	}
	format, alg := formatJWT, token.Algorithm(c.AccessTokenAlg)
	if len(targets) > 0 {
		format = targets[0].Format
		if targets[0].Algorithm != "" {
			alg = targets[0].Algorithm
		}
	}
	if format == formatOpaque {
		sealed, err := s.cfg.Seal.Seal(sealedAccess, body)
		return opaquePrefix + sealed, err
	}
	signed, err := s.cfg.Keys.Sign(alg, typeAccess, body)
	if err != nil || format == formatJWT {
		return signed, err
	}
	return targets[0].encrypter.Encrypt(signed)
}

// issuedAt is the iat of an access token: the moment up to which this request knows
// that nobody has put an end to client or user. Everything issued up to the second
// of a revocation is dead, so what ends them after that moment takes the token
// along, however long the request takes from here. Who was revoked about then is
// looked at again: what this process knows of a revocation it can see the cause of.
// A token that is right all the same is dated behind the revocation.
func (s *Server) issuedAt(ctx context.Context, c *proven, g *grant, sub string) (time.Time, error) {
	if err := s.cfg.People.RevocationsErr(); err != nil {
		return time.Time{}, err // what cannot be known may have been revoked
	}
	since, revoked := c.Since.Add(-underWay), s.revokedAt(sub, c.ID)
	if revoked.After(since) {
		since = time.Now().Add(-underWay)
		if err := s.refreshClients(ctx, true); err != nil {
			return time.Time{}, err
		}
		if _, err := s.known(ctx, c.ID); err != nil {
			return time.Time{}, err
		}
		if g != nil {
			row, err := s.grantByID(ctx, g.ID) // in an exchange it is another client's, and g only a part of it
			if errors.Is(err, errNoGrant) {
				err = errEnded.again("it is not there any more")
			}
			if err != nil {
				return time.Time{}, err
			}
			if _, err := s.granted(ctx, row, s.cfg.People.SessionAlive); err != nil {
				return time.Time{}, err
			}
		}
	}
	issued := since.Truncate(time.Second)
	if !revoked.Before(issued) {
		issued = revoked.Truncate(time.Second).Add(time.Second)
	}
	if time.Until(issued) > maxAhead {
		return time.Time{}, fmt.Errorf("a revocation of %s or %s lies ahead of the clock, at %v", sub, c.ID, revoked)
	}
	return issued, nil
}

// revokedAt is the later of the revocations of a token's user and client.
func (s *Server) revokedAt(sub, client string) time.Time {
	at, other := s.cfg.People.RevokedAt("user", sub), s.cfg.People.RevokedAt("client", client)
	if other.After(at) {
		return other
	}
	return at
}

// targets are the APIs a token is for. With none asked for it is the one the
// client may use, or the one whose scopes are asked for; when that is not one API,
// the token is good for nothing but our own userinfo (RFC 9068 §3, RFC 8707 §2).
func (s *Server) targets(c *Client, asked, scopes []string) ([]*resource, error) {
	if len(asked) == 0 {
		if s.cfg.Profile == MCP && len(s.resources) > 0 {
			return nil, refuse("invalid_target", "Say with resource which API the token is for.")
		}
		var fitting, named []*resource
		for _, r := range s.resources {
			if !c.mayTarget(r.ID) {
				continue
			}
			fitting = append(fitting, r)
			if slices.ContainsFunc(scopes, func(w string) bool { return slices.Contains(r.Scopes, w) }) {
				named = append(named, r)
			}
		}
		switch {
		case len(named) == 1:
			return named, nil
		case len(fitting) == 1:
			return fitting, nil
		}
		return nil, nil
	}
	list := make([]*resource, 0, len(asked))
	for _, id := range asked {
		r := s.resources[id]
		if r == nil || !c.mayTarget(id) {
			return nil, refuse("invalid_target", "This client gets no tokens for that resource.")
		}
		if !slices.Contains(list, r) {
			list = append(list, r)
		}
	}
	for _, r := range list[1:] {
		// One token has one form: a JWT for one API must not be what another one
		// was promised to get sealed.
		if r.Format != formatJWT || list[0].Format != formatJWT || r.Algorithm != list[0].Algorithm {
			return nil, refuse("invalid_target", "These resources need a token each: ask for one at a time.")
		}
	}
	return list, nil
}

// mayTarget reports whether c may ask for tokens for that resource.
func (c *Client) mayTarget(id string) bool {
	return len(c.Resources) == 0 || slices.Contains(c.Resources, id)
}

// meant leaves those scopes that mean something at the targets; those of OpenID
// Connect mean something at userinfo whatever the token is for.
func meant(targets []*resource, scopes []string) []string {
	if len(targets) == 0 || slices.ContainsFunc(targets, func(r *resource) bool { return len(r.Scopes) == 0 }) {
		return scopes
	}
	return slices.DeleteFunc(slices.Clone(scopes), func(w string) bool {
		return !oidcScope(w) && !slices.ContainsFunc(targets, func(r *resource) bool { return slices.Contains(r.Scopes, w) })
	})
}

func oidcScope(w string) bool {
	switch w {
	case scopeOpenID, "profile", "email", "address", "phone", scopeOffline:
		return true
	}
	return false
}

func audience(issuer string, targets []*resource) any {
	switch len(targets) {
	case 0:
		return issuer
	case 1:
		return targets[0].ID
	}
	list := make([]string, len(targets))
	for i, t := range targets {
		list[i] = t.ID
	}
	return list
}

func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// random256 is 256 random bits in base64url.
func random256() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// mayRefresh reports whether a client gets refresh tokens.
func mayRefresh(c *Client) bool { return slices.Contains(c.GrantTypes, grantTypeRefresh) }

// OpenToken gives the claims of an opaque access token that we made and that has
// not expired. Whether it was revoked is for the caller to ask. Every error is a
// [gatehouse.Problem] of kind Unauthenticated: what is sealed in the token needs
// nobody who could be unreachable.
func (s *Server) OpenToken(_ context.Context, raw string) (*token.Claims, error) {
	bad := func(err error) error {
		return &gatehouse.Problem{Kind: gatehouse.Unauthenticated, Reason: "token_invalid", Detail: "The access token is not valid here.", Err: err}
	}
	if len(raw) < len(opaquePrefix) || raw[:len(opaquePrefix)] != opaquePrefix || len(raw) > maxToken {
		return nil, bad(errNotOurs)
	}
	body, err := s.cfg.Seal.Open(sealedAccess, raw[len(opaquePrefix):])
	if err != nil {
		return nil, bad(fmt.Errorf("opaque token: %w", err))
	}
	c, err := token.ParseClaims(body)
	if err != nil {
		return nil, bad(fmt.Errorf("opaque token: %w", err))
	}
	if c.Issuer != s.cfg.Issuer {
		return nil, bad(errExpired)
	}
	if !time.Now().Before(c.Expires) {
		return nil, &gatehouse.Problem{Kind: gatehouse.Unauthenticated, Reason: "token_expired", Detail: "The access token has expired.", Err: errExpired}
	}
	return c, nil
}

var (
	errNotOurs = errors.New("not a token of ours")
	errExpired = errors.New("the token has expired, or was made under another issuer's name")
)

const maxToken = 16 << 10

// claimsOf makes a map of what is asked for out of what there is.
func claimsOf(have map[string]any, names map[string]bool) map[string]any {
	out := maps.Clone(have)
	maps.DeleteFunc(out, func(name string, _ any) bool { return !names[name] })
	return out
}

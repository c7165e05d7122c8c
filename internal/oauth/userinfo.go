package oauth

import (
	"context"
	"crypto/subtle"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// userinfo tells who an access token is of (OpenID Connect Core §5.3). The token
// comes in the Authorization header or in a form (RFC 6750 §2.1, §2.2), never in a
// URL; one that is bound to a key comes with the proof.
func (s *Server) userinfo(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	raw, scheme, err := bearerOf(w, r)
	if err != nil {
		return err
	}
	claims, err := s.accessClaimsOf(ctx, raw)
	if errors.Is(err, errNotOurs) {
		return badToken(scheme, "invalid_token", "The access token is not valid.", err)
	}
	if err != nil {
		return err
	}
	good, err := s.alive(ctx, claims)
	if err != nil {
		return err
	}
	if !good {
		return badToken(scheme, "invalid_token", "The access token was revoked.", nil)
	}
	if err := s.possessed(r, raw, scheme, claims); err != nil {
		return err
	}
	ev := gatehouse.EventOf(ctx)
	ev.Subject, ev.Client, ev.Issuer = claims.Subject, claims.ClientID, s.cfg.Issuer
	if !slices.Contains(claims.Scopes, scopeOpenID) {
		e := badToken(scheme, "insufficient_scope", "The access token lacks the scope openid.", nil)
		e.Status, e.Challenge = http.StatusForbidden, e.Challenge+`, scope="openid"`
		return e
	}
	u, err := s.cfg.People.User(ctx, claims.Subject)
	if errors.Is(err, identity.ErrUnknown) || err == nil && !u.Active {
		return badToken(scheme, "invalid_token", "The user is not there any more.", nil)
	}
	if err != nil {
		return err
	}
	out, err := s.userinfoClaims(ctx, claims, u)
	if err != nil {
		return err
	}
	s.freshNonce(w.Header())
	answer(w, http.StatusOK, out)
	return nil
}

// userinfoClaims are those of the token's scopes, and those that the claims
// parameter asked for.
func (s *Server) userinfoClaims(ctx context.Context, claims *token.Claims, u *identity.User) (map[string]any, error) {
	names := map[string]bool{}
	for _, w := range claims.Scopes {
		for _, name := range scopeClaims[w] {
			names[name] = true
		}
	}
	if claims.GrantID != "" {
		g, err := s.grantByID(ctx, claims.GrantID)
		if err != nil && !errors.Is(err, errNoGrant) {
			return nil, err
		}
		if g != nil {
			if asked := parseClaimsParameter(g.Claims); asked != nil {
				for name := range asked.UserInfo {
					names[name] = true
				}
			}
		}
	}
	out := claimsOf(userClaims(u), names)
	maps.Copy(out, map[string]any{"sub": u.ID})
	return out, nil
}

// bearerOf finds the one access token in r.
func bearerOf(w http.ResponseWriter, r *http.Request) (raw, scheme string, err error) {
	missing := badToken(bearerType, "", "", nil)
	if r.URL.Query().Has("access_token") {
		return "", "", badToken(bearerType, "invalid_request", "An access token does not belong in a URL.", nil)
	}
	values := r.Header.Values("Authorization")
	media, _, mediaErr := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if r.Method == http.MethodPost && mediaErr == nil && media == "application/x-www-form-urlencoded" {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
		if err != nil {
			return "", "", badToken(bearerType, "invalid_request", "The form could not be read.", err)
		}
		form, repeated, err := parseFields(string(body))
		switch {
		case err != nil || repeated != "":
			return "", "", badToken(bearerType, "invalid_request", "The form is not one with each parameter once.", err)
		case form.Has("access_token") && len(values) > 0:
			return "", "", badToken(bearerType, "invalid_request", "There is more than one access token.", nil)
		case form.Has("access_token"):
			return form.Get("access_token"), bearerType, nil
		}
	}
	if len(values) == 0 {
		return "", "", missing
	}
	scheme, raw, ok := strings.Cut(values[0], " ")
	if raw = strings.TrimLeft(raw, " "); !ok || raw == "" || len(values) > 1 || strings.ContainsAny(raw, " ,") {
		return "", "", badToken(bearerType, "invalid_request", "The Authorization header is not one access token.", nil)
	}
	switch {
	case strings.EqualFold(scheme, bearerType):
		return raw, bearerType, nil
	case strings.EqualFold(scheme, dpopType):
		return raw, dpopType, nil
	}
	return "", "", missing
}

// possessed checks that who brings a bound token holds the key it is bound to, and
// that no token is used by another scheme than its own (RFC 9449 §7.2).
func (s *Server) possessed(r *http.Request, raw, scheme string, claims *token.Claims) error {
	cnf := claims.Cnf
	if (cnf.JKT != "") != (scheme == dpopType) {
		return badToken(scheme, "invalid_token", "The access token is of the other scheme.", nil)
	}
	if cnf.X5T != "" && subtle.ConstantTimeCompare([]byte(cnf.X5T), []byte(peerThumbprint(r))) != 1 {
		return badToken(scheme, "invalid_token", "The access token is bound to another certificate.", nil)
	}
	if cnf.Unknown {
		return badToken(scheme, "invalid_token", "The access token is bound in a way not known here.", nil)
	}
	if cnf.JKT == "" {
		return nil
	}
	proofs := r.Header.Values("DPoP")
	if len(proofs) != 1 {
		return badToken(scheme, "invalid_dpop_proof", "One DPoP proof is needed.", nil)
	}
	// The URL of the proof is that of the configuration, whatever Host says.
	p, err := s.proofs.Verify(r.Context(), proofs[0], token.ProofCheck{Method: r.Method, URL: s.url("/userinfo"), AccessToken: raw})
	switch {
	case errors.Is(err, token.ErrUseNonce):
		e := badToken(scheme, "use_dpop_nonce", "The DPoP proof needs our nonce.", err)
		e.Nonce = s.proofs.Nonce()
		return e
	case errors.Is(err, token.ErrProof):
		return badToken(scheme, "invalid_dpop_proof", "The DPoP proof is not valid.", err)
	case err != nil:
		return err
	case subtle.ConstantTimeCompare([]byte(p.JKT), []byte(cnf.JKT)) != 1:
		return badToken(scheme, "invalid_token", "The access token is bound to another key.", nil)
	}
	return nil
}

// badToken is the refusal of a protected resource (RFC 6750 §3.1, RFC 9449 §7.1).
func badToken(scheme, code, description string, cause error) *Error {
	challenge := scheme + ` realm="userinfo"`
	if code != "" {
		challenge += `, error="` + code + `", error_description="` + description + `"`
	}
	status := http.StatusUnauthorized
	if code == "invalid_request" {
		status = http.StatusBadRequest
	}
	if code == "" {
		code = "invalid_token"
	}
	return &Error{Code: code, Description: description, Status: status, Challenge: challenge, Err: cause}
}

package oauth

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"maps"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/identity"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// idToken makes the ID token of a grant (OpenID Connect Core §2). Claims about the
// user are in it only as far as the claims parameter asked for them there; who
// wants more asks userinfo.
func (s *Server) idToken(c *Client, g *grant, o *issueOptions, access string, issued time.Time) (string, error) {
	alg := token.Algorithm(c.IDTokenAlg)
	claims := map[string]any{}
	if asked := parseClaimsParameter(g.Claims); asked != nil {
		names := map[string]bool{}
		for name := range asked.IDToken {
			names[name] = true
		}
		maps.Copy(claims, claimsOf(userClaims(o.User), names))
	}
	// After the user's own, so that none of these can be spoken over.
	maps.Copy(claims, map[string]any{
		"iss": s.cfg.Issuer, "sub": g.User, "aud": c.ID, "azp": c.ID,
		"iat": issued.Unix(), "exp": issued.Add(s.cfg.AccessLife).Unix(),
		"at_hash": leftHalf(alg, access),
	})
	if !g.AuthTime.IsZero() {
		claims["auth_time"] = g.AuthTime.Unix()
	}
	if g.ACR != "" {
		claims["acr"] = g.ACR
	}
	if len(g.AMR) > 0 {
		claims["amr"] = g.AMR
	}
	if g.SID != "" {
		claims["sid"] = g.SID
	}
	if o.Nonce != "" {
		claims["nonce"] = o.Nonce
	}
	body, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	return s.cfg.Keys.Sign(alg, typeID, body)
}

// leftHalf is at_hash (OpenID Connect Core §3.1.3.6): half of the digest that the
// signature algorithm uses, which for Ed25519 is SHA-512.
func leftHalf(alg token.Algorithm, text string) string {
	if alg == token.EdDSA {
		sum := sha512.Sum512([]byte(text))
		return base64.RawURLEncoding.EncodeToString(sum[:32])
	}
	sum := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// userClaims are the standard claims of a user (OpenID Connect Core §5.1), with
// roles and groups beside them. What is empty is not there.
func userClaims(u *identity.User) map[string]any {
	claims := map[string]any{}
	if u == nil {
		return claims
	}
	for name, v := range u.Claims {
		if standardClaims[name] {
			claims[name] = v
		}
	}
	claims["preferred_username"] = u.Name
	if !u.Updated.IsZero() {
		claims["updated_at"] = u.Updated.Unix()
	}
	if u.Email != "" {
		claims["email"], claims["email_verified"] = u.Email, !u.EmailVerified.IsZero()
	}
	if len(u.Effective) > 0 {
		claims["roles"] = u.Effective
	}
	if len(u.Groups) > 0 {
		claims["groups"] = u.Groups
	}
	return claims
}

// standardClaims are what a user's own claims may say. Everything else a token
// has is said by us alone.
var standardClaims = map[string]bool{
	"name": true, "given_name": true, "family_name": true, "middle_name": true, "nickname": true, "profile": true, "picture": true,
	"website": true, "gender": true, "birthdate": true, "zoneinfo": true, "locale": true,
	"phone_number": true, "phone_number_verified": true, "address": true,
}

// scopeClaims are the claims that each scope stands for (OpenID Connect Core
// §5.4). groups and roles come with profile, as they do elsewhere.
var scopeClaims = map[string][]string{
	"profile": {
		"name", "given_name", "family_name", "middle_name", "nickname", "preferred_username", "profile", "picture",
		"website", "gender", "birthdate", "zoneinfo", "locale", "updated_at", "groups", "roles",
	},
	"email":   {"email", "email_verified"},
	"address": {"address"},
	"phone":   {"phone_number", "phone_number_verified"},
}

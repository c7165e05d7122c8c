package authn

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/token"
)

// ahead is how far in the future another server's clock may place a sign-in.
const ahead = 30 * time.Second

// ask compiles what a token must say besides being good.
func (acc *Accept) ask(w Ways) error {
	for _, list := range [][]string{w.Audience, w.ACR, w.Details} {
		if slices.Contains(list, "") {
			return errors.New("an empty audience, acr or type of authorization_details")
		}
	}
	for i := range acc.issuers {
		if is := &acc.issuers[i]; is.own {
			acc.own = is
		}
	}
	if acc.own != nil && len(w.Audience) == 0 {
		return errors.New("tokens of our own issuer are accepted, but no audience: one for any API would do")
	}
	if w.MaxAge < 0 || w.MaxAge%time.Second != 0 {
		return fmt.Errorf("a max_age of %v; whole seconds only", w.MaxAge)
	}
	acc.audience, acc.acr, acc.details = slices.Clone(w.Audience), slices.Clone(w.ACR), slices.Clone(w.Details)
	acc.maxAge, acc.bound = w.MaxAge, w.Bound
	acc.asks = len(w.ACR) > 0 || w.MaxAge > 0 || len(w.Details) > 0
	if acc.asks || acc.bound {
		if acc.anonymous && acc.asks {
			return errors.New("a public operation can not ask how its callers signed in")
		}
		// An API key says nothing of a user, and is nobody's who can be asked again:
		// taken here it would be the way around the step-up.
		acc.key, acc.cert = false, acc.cert && !acc.asks
		if len(acc.issuers) == 0 && !acc.cert && !acc.anonymous {
			return errors.New("an acr, a max_age, authorization_details or a bound token is asked for, and no tokens are accepted")
		}
	}
	if len(w.ACR) > 0 {
		for _, v := range w.ACR {
			if strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) {
				return fmt.Errorf("acr %q can not stand in a challenge", v)
			}
		}
		acc.stepUp = `, acr_values="` + strings.Join(w.ACR, " ") + `"`
	}
	if w.MaxAge > 0 {
		acc.stepUp += `, max_age="` + strconv.FormatInt(int64(w.MaxAge/time.Second), 10) + `"`
	}
	if p := acc.owner.proofs; p != nil && len(acc.issuers) > 0 {
		algs := make([]string, 0, 4)
		for _, alg := range p.Algorithms() {
			algs = append(algs, string(alg))
		}
		acc.algs = `, algs="` + strings.Join(algs, " ") + `"`
	}
	return nil
}

// forUs refuses a token that names another API than this one, though it is of
// our own issuer: a service must not be able to use its callers' tokens elsewhere
// (RFC 9700 §4.10.2).
func (acc *Accept) forUs(k kind, c *token.Claims) error {
	for _, aud := range c.Audience {
		if slices.Contains(acc.audience, aud) {
			return nil
		}
	}
	return acc.denial(k, invalidToken, gatehouse.Problem{
		Reason: "token_audience", Detail: "The access token is meant for another audience.",
		Err: fmt.Errorf("aud is %.200q, and this API is %q", c.Audience, acc.audience),
	})
}

// enough checks how the user signed in (RFC 9470) and what the token is for (RFC 9396).
func (acc *Accept) enough(k kind, c *token.Claims) error {
	if len(acc.acr) > 0 && !slices.Contains(acc.acr, c.ACR) {
		return acc.tooLittle(k, fmt.Errorf("acr is %.100q, and one of %q is needed", c.ACR, acc.acr))
	}
	if acc.maxAge > 0 {
		switch age := time.Since(c.AuthTime); {
		case c.AuthTime.IsZero():
			return acc.tooLittle(k, errors.New("auth_time is missing"))
		case age > acc.maxAge, age < -ahead:
			return acc.tooLittle(k, fmt.Errorf("auth_time was %v ago, at most %v is allowed", age.Round(time.Second), acc.maxAge))
		}
	}
	if len(acc.details) == 0 {
		return nil
	}
	for _, d := range c.AuthorizationDetails {
		if m, ok := d.(map[string]any); ok {
			if t, ok := m["type"].(string); ok && slices.Contains(acc.details, t) {
				return nil
			}
		}
	}
	// RFC 9396 has no error for this side. RFC 6750's for a token that is good and
	// grants too little is what clients know.
	const detail = "The access token does not carry the authorization details this operation needs."
	return &gatehouse.Problem{
		Kind: gatehouse.Forbidden, Reason: "insufficient_authorization_details", Detail: detail,
		Challenges: acc.challenges(k, insufficientScope, detail, ""),
		Err:        fmt.Errorf("none of the token's authorization_details is of a type in %q", acc.details),
	}
}

func (acc *Accept) tooLittle(k kind, cause error) error {
	const detail = "A stronger or more recent sign-in is needed."
	return &gatehouse.Problem{
		Kind: gatehouse.Unauthenticated, Reason: "insufficient_user_authentication", Detail: detail,
		Challenges: acc.challenges(k, insufficientUser, detail, acc.stepUp), Err: cause,
	}
}

package authn

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse"
)

// The error codes of RFC 6750 §3.1, RFC 9449 §7.1 and RFC 9470 §3.
const (
	noCode            = "" // RFC 6750 §3: a request without credentials learns nothing but that they are needed
	invalidToken      = "invalid_token"
	insufficientScope = "insufficient_scope"
	invalidProof      = "invalid_dpop_proof"
	useNonce          = "use_dpop_nonce"
	insufficientUser  = "insufficient_user_authentication"
)

var (
	errNoCertificate = errors.New("the connection has no certificate that was verified")
	errNoCredentials = errors.New("no credentials in the request")
)

// denial completes p to a 401. What the caller reads depends on the reason
// alone, so that trying keys and tokens tells nothing; the cause is for the operator.
func (acc *Accept) denial(k kind, code string, p gatehouse.Problem) *gatehouse.Problem {
	p.Kind = gatehouse.Unauthenticated
	p.Challenges = acc.challenges(k, code, p.Detail, "")
	return &p
}

// challenges renders WWW-Authenticate (RFC 9110 §11.6.1) for who has shown k. API
// keys travel in the same Authorization: Bearer, so the challenge is the same for
// them. Where DPoP is taken it is named too, with its algorithms (RFC 9449 §7.1).
func (acc *Accept) challenges(k kind, code, description, more string) []string {
	if !acc.bearer {
		return []string{"ClientCertificate " + acc.realm}
	}
	fault := ""
	if code != noCode {
		fault = `, error="` + code + `", error_description="` + description + `"` + more
	}
	switch {
	case k == dpopToken:
		return []string{"DPoP " + acc.realm + fault + acc.algs + acc.metadata}
	case acc.algs != "":
		return []string{"Bearer " + acc.realm + fault + acc.metadata, "DPoP " + acc.realm + acc.algs + acc.metadata}
	}
	return []string{"Bearer " + acc.realm + fault + acc.metadata}
}

// complete adds what only the operation knows to a problem from deeper inside.
func (acc *Accept) complete(k kind, err error) error {
	p := gatehouse.AsProblem(err)
	if p.Kind != gatehouse.Unauthenticated || len(p.Challenges) > 0 {
		return p
	}
	q := *p
	q.Challenges = acc.challenges(k, invalidToken, p.Detail, "")
	return &q
}

// Challenge completes the Bearer challenges of p, the refusal of r by somebody who
// knows only what the caller lacks: they name the scheme the caller has used (RFC
// 9449 §7.1) and where this API's metadata is.
func (acc *Accept) Challenge(r *http.Request, p *gatehouse.Problem) {
	if acc == nil {
		return
	}
	for i, c := range p.Challenges {
		rest, ok := strings.CutPrefix(c, "Bearer ")
		if !ok {
			continue
		}
		c += acc.metadata
		if auth := r.Header["Authorization"]; len(auth) == 1 && len(auth[0]) > 5 && strings.EqualFold(auth[0][:5], "DPoP ") {
			c = "DPoP " + rest + acc.algs + acc.metadata
		}
		p.Challenges[i] = c
	}
}

func (acc *Accept) missing() *gatehouse.Problem {
	if !acc.bearer {
		return acc.denial(none, noCode, gatehouse.Problem{
			Reason: "certificate_required", Detail: "This operation needs a client certificate.", Err: errNoCertificate,
		})
	}
	return acc.denial(none, noCode, gatehouse.Problem{
		Reason: "credentials_missing", Detail: "This operation needs credentials.", Err: errNoCredentials,
	})
}

func (acc *Accept) notAccepted(k kind, code string, cause error) *gatehouse.Problem {
	return acc.denial(k, code, gatehouse.Problem{Reason: "credentials_not_accepted", Detail: "This operation takes other credentials.", Err: cause})
}

func ambiguous(cause string) *gatehouse.Problem {
	return &gatehouse.Problem{
		Kind:   gatehouse.Malformed,
		Reason: "ambiguous_credentials",
		Detail: "Send exactly one credential.",
		Err:    errors.New(cause),
	}
}

func keyInvalid(cause error) *gatehouse.Problem {
	return &gatehouse.Problem{Kind: gatehouse.Unauthenticated, Reason: "key_invalid", Detail: "The API key is not valid here.", Err: cause}
}

func keysUnavailable(cause error) *gatehouse.Problem {
	return &gatehouse.Problem{
		Kind: gatehouse.Overloaded, Reason: "keys_unavailable", Detail: "API keys cannot be checked at the moment.",
		RetryAfter: 5 * time.Second, Err: cause,
	}
}

// quoted renders an RFC 9110 §5.6.4 quoted-string. Configured values only come
// here, and what could end a header or a string is refused when they are loaded.
func quoted(s string) (string, error) {
	for _, c := range []byte(s) {
		if c < ' ' || c >= 0x7f {
			return "", fmt.Errorf("%q has characters a challenge can not carry", s)
		}
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`, nil
}

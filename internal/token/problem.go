package token

import (
	"time"

	"github.com/gatehouse-api/gatehouse"
)

// invalid is the one answer to a token that is wrong in any way a caller cannot
// mend by asking for a new one: what exactly was wrong helps only a forger.
func invalid(cause error) *gatehouse.Problem {
	return &gatehouse.Problem{
		Kind:   gatehouse.Unauthenticated,
		Reason: "token_invalid",
		Detail: "The access token is not valid here.",
		Err:    cause,
	}
}

func expired(cause error) *gatehouse.Problem {
	return &gatehouse.Problem{
		Kind:   gatehouse.Unauthenticated,
		Reason: "token_expired",
		Detail: "The access token has expired.",
		Err:    cause,
	}
}

func wrongAudience(cause error) *gatehouse.Problem {
	return &gatehouse.Problem{
		Kind:   gatehouse.Unauthenticated,
		Reason: "token_audience",
		Detail: "The access token is meant for another audience.",
		Err:    cause,
	}
}

// unavailable is 503 and not 401: the token may be good, we cannot know.
func unavailable(retry time.Duration, cause error) *gatehouse.Problem {
	return &gatehouse.Problem{
		Kind:       gatehouse.Overloaded,
		Reason:     "issuer_unavailable",
		Detail:     "The keys of the token's issuer cannot be fetched at the moment.",
		RetryAfter: retry,
		Err:        cause,
	}
}

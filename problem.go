package gatehouse

import (
	"errors"
	"time"
)

// A Kind is the class of a [Problem]; it fixes the HTTP status.
type Kind uint8

// The kinds. The zero Kind is an internal error: what was never classified is never shown.
const (
	Internal           Kind = iota // 500, detail withheld
	Malformed                      // 400
	Unauthenticated                // 401
	Forbidden                      // 403
	NotFound                       // 404
	MethodNotAllowed               // 405
	NotAcceptable                  // 406
	Conflict                       // 409
	LengthRequired                 // 411
	TooLarge                       // 413
	URITooLong                     // 414
	UnsupportedMedia               // 415
	MisdirectedRequest             // 421
	Unprocessable                  // 422: well-formed, but not what the schema takes
	RateLimited                    // 429
	HeadersTooLarge                // 431
	NotImplemented                 // 501
	BadUpstream                    // 502
	Overloaded                     // 503
	UpstreamTimeout                // 504
	VersionUnsupported             // 505
	PreconditionFailed             // 412: another version than If-Match names
)

var statusOf = [...]int{
	Internal: 500, Malformed: 400, Unauthenticated: 401, Forbidden: 403, NotFound: 404, MethodNotAllowed: 405,
	NotAcceptable: 406, Conflict: 409, LengthRequired: 411, TooLarge: 413, URITooLong: 414, UnsupportedMedia: 415,
	MisdirectedRequest: 421, Unprocessable: 422, RateLimited: 429, HeadersTooLarge: 431, NotImplemented: 501,
	BadUpstream: 502, Overloaded: 503, UpstreamTimeout: 504, VersionUnsupported: 505, PreconditionFailed: 412,
}

// Status returns the HTTP status of k; 500 for a kind it does not know.
func (k Kind) Status() int {
	if int(k) < len(statusOf) && statusOf[k] != 0 {
		return statusOf[k]
	}
	return 500
}

// A Problem is the one error type that may reach a caller (RFC 9457). Rooms
// return it; gateway's close renders it, in one place.
type Problem struct {
	Kind       Kind
	Reason     string        // stable snake_case code for logs, metrics and tests, like "token_expired"; listed in docs/problems.md
	Detail     string        // one safe sentence for the caller; never a secret, never another principal's data
	Fields     []FieldError  // which parts of the input were refused, for Malformed and Unprocessable
	Challenges []string      // WWW-Authenticate values (RFC 9110 §11.6.1) for Unauthenticated and Forbidden
	Nonce      string        // DPoP-Nonce value (RFC 9449 §9) for Unauthenticated; "" for none
	Allow      []string      // methods for MethodNotAllowed
	RetryAfter time.Duration // set for RateLimited and Overloaded
	Policies   []string      // names of the limits that refused, for RateLimited
	Decision   *Decision     // the reasons, for the operator's event only
	Err        error         // the cause; never shown to the caller
}

// A FieldError places one fault in the input.
type FieldError struct {
	In      string `json:"in"`                // "path", "query", "header", "cookie", "body"
	Name    string `json:"name,omitempty"`    // the parameter's name
	Pointer string `json:"pointer,omitempty"` // JSON Pointer (RFC 6901) into the body
	Rule    string `json:"rule"`              // the schema keyword or the strictness rule: "maximum", "duplicate_key"
	Detail  string `json:"detail"`            // what was expected; never echoes the value
}

// Error gives the operator's view: reason and cause.
func (p *Problem) Error() string {
	switch {
	case p.Err != nil:
		return p.Reason + ": " + p.Err.Error()
	case p.Detail != "":
		return p.Reason + ": " + p.Detail
	}
	return p.Reason
}

// Unwrap returns the hidden cause.
func (p *Problem) Unwrap() error { return p.Err }

// AsProblem finds the Problem in err's chain. An error that is none becomes an
// Internal one: unclassified errors are never shown.
func AsProblem(err error) *Problem {
	if err == nil {
		return nil
	}
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	return &Problem{Kind: Internal, Reason: "internal", Err: err}
}

package gateway

import (
	"encoding/json"
	"maps"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse"
)

// problemBody is application/problem+json (RFC 9457 §3) as callers see it.
type problemBody struct {
	Type     string                 `json:"type"`
	Title    string                 `json:"title"`
	Status   int                    `json:"status"`
	Detail   string                 `json:"detail,omitempty"`
	Reason   string                 `json:"reason"`
	Decision string                 `json:"decision,omitempty"`
	Errors   []gatehouse.FieldError `json:"errors,omitempty"`
	Violated []string               `json:"violated-policies,omitempty"` // draft-ietf-httpapi-ratelimit-headers §6
}

// typeBase names problem types: stable, and the same in every installation.
// docs/problems.md has a line for each.
const typeBase = "urn:gatehouse:problem:"

// quotaExceeded is the type of a refusal by a limit, whose violated-policies are
// those of the RateLimit-Policy field (draft-ietf-httpapi-ratelimit-headers).
const quotaExceeded = "https://iana.org/assignments/http-problem-types#quota-exceeded"

const headerDecision = "Gatehouse-Decision"

// renderProblem gives the body for p. Reasons of decisions and causes stay
// inside: the caller learns a class, a stable reason and the id to ask about.
func renderProblem(p *gatehouse.Problem, decision string) []byte {
	status := p.Kind.Status()
	body := problemBody{
		Type: typeBase + p.Reason, Title: http.StatusText(status), Status: status,
		Detail: p.Detail, Reason: p.Reason, Decision: decision, Errors: p.Fields,
	}
	if p.Kind == gatehouse.RateLimited && len(p.Policies) > 0 {
		body.Type, body.Title, body.Violated = quotaExceeded, "Request cannot be satisfied as assigned quota has been exceeded", p.Policies
	}
	if p.Kind == gatehouse.Internal {
		body.Type, body.Reason, body.Detail, body.Errors = typeBase+"internal", "internal", "", nil
	}
	b, err := json.Marshal(&body)
	if err != nil { // cannot be: strings and ints only
		b = []byte(`{"type":"` + typeBase + `internal","status":500,"reason":"internal"}`)
	}
	return append(b, '\n') // a shell's prompt does not stick to it
}

// keptOnProblems are fields set for the caller before the walk ended; anything
// else was meant for the service's answer and has no business on ours.
var keptOnProblems = map[string]bool{
	"Ratelimit": true, "Ratelimit-Policy": true, legacyLimit: true, legacyRemaining: true, legacyReset: true, "Connection": true, "Date": true,
}

// sendProblem answers with the body renderProblem gave, or with another, which own
// are the fields of.
func sendProblem(w http.ResponseWriter, r *http.Request, p *gatehouse.Problem, decision string, body []byte, own http.Header) {
	h := w.Header()
	for name := range h {
		if !keptOnProblems[name] {
			delete(h, name)
		}
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set(headerDecision, decision)
	h["Www-Authenticate"] = p.Challenges
	if p.Nonce != "" {
		h["Dpop-Nonce"] = []string{p.Nonce}
	}
	if len(p.Allow) > 0 {
		h.Set("Allow", strings.Join(p.Allow, ", "))
	}
	if p.RetryAfter > 0 {
		h.Set("Retry-After", retryAfter(p.RetryAfter))
	}
	maps.Copy(h, own)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(p.Kind.Status())
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the caller may be gone; the event says what was meant
	}
}

// retryAfter rounds up to whole seconds (RFC 9110 §10.2.3), so that a caller who
// obeys is not refused again.
func retryAfter(d time.Duration) string {
	return strconv.FormatInt(max(1, int64(math.Ceil(d.Seconds()))), 10)
}

package attack

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"slices"
	"strings"
)

// The rows of the table, in its order.
const (
	rowSQL      = "sql-injection"
	rowXSS      = "xss"
	rowAuthn    = "authentication"
	rowCSRF     = "csrf"
	rowRCE      = "remote-code-execution"
	rowInject   = "injection"
	rowAccess   = "access-control"
	rowLogging  = "logging"
	rowSettings = "misconfiguration"
)

var tableRows = []struct{ id, title string }{
	{rowSQL, "SQL injection"},
	{rowXSS, "Cross-site scripting (XSS)"},
	{rowAuthn, "Broken authentication and session management"},
	{rowCSRF, "Cross-site request forgery (CSRF)"},
	{rowRCE, "Remote code execution"},
	{rowInject, "Injection flaws"},
	{rowAccess, "Broken access control"},
	{rowLogging, "Insufficient logging and monitoring"},
	{rowSettings, "Server misconfiguration"},
}

// An exploit is tried against one target. It returns the proof that it worked,
// "" if it did not.
type exploit func(ctx context.Context, s *session) (proof string, err error)

// A session is one exploit against one target.
type session struct {
	run     *runner
	target  *target
	refusal *answer // the last one of the gateway
	last    *answer
	hurries bool // does not wait where a limit says so
}

// send sends r with the credential that opens its operation.
func (s *session) send(ctx context.Context, r request) (*answer, error) {
	if r.op != nil {
		if c := s.run.credential[r.op]; c != nil {
			r = r.as(c)
		}
	}
	return s.raw(ctx, r)
}

// raw sends r as it is.
func (s *session) raw(ctx context.Context, r request) (*answer, error) {
	if r.header == nil {
		r.header = http.Header{}
	}
	send := s.target.send
	if s.hurries {
		send = s.target.once
	}
	a, err := send(ctx, r)
	if err != nil {
		return nil, err
	}
	s.last = a
	if a.refused() {
		s.refusal = a
	}
	return a, nil
}

// as adds a caller's credentials.
func (r request) as(c *Caller) request {
	h := r.header.Clone()
	if h == nil {
		h = http.Header{}
	}
	if c != nil {
		maps.Copy(h, c.Header)
	}
	r.header = h
	return r
}

// A runner is one run of the whole table.
type runner struct {
	bare, through *target
	ops           []*operation
	callers       []*Caller
	credential    map[*operation]*Caller
	rows          []string
	issuer        string
	mint          func(edit string) (string, error) // tokens with one thing wrong; may be nil
	listen        *callbacks                        // nil where the targets cannot call here
	progress      func(row string, done int)

	tries     []*Try
	decisions []string // of every request through the gateway
	sent      int      // exploits sent through the gateway
	stopped   error    // what ended the run early
}

func (r *runner) wants(row string) bool { return len(r.rows) == 0 || slices.Contains(r.rows, row) }

func (r *runner) op(id string) *operation {
	for _, o := range r.ops {
		if o.id == id {
			return o
		}
	}
	return nil
}

// caller is one by name, or the first.
func (r *runner) caller(name string) *Caller {
	for _, c := range r.callers {
		if c.Name == name {
			return c
		}
	}
	if len(r.callers) > 0 {
		return r.callers[0]
	}
	return nil
}

// run tries everything. It ends early, and says so, when its requests or its time
// are used up.
func (r *runner) run(ctx context.Context) {
	if err := r.findCredentials(ctx); err != nil {
		r.stopped = err
		return
	}
	for _, row := range tableRows {
		if r.wants(row.id) && r.stopped == nil {
			r.progress(row.title, len(r.tries))
			map[string]func(context.Context){
				rowSQL: r.sqlInjection, rowXSS: r.scripting, rowAuthn: r.authentication, rowCSRF: r.forgery, rowRCE: r.commands,
				rowInject: r.injection, rowAccess: r.accessControl, rowLogging: func(context.Context) {}, rowSettings: r.settings,
			}[row.id](ctx)
		}
	}
}

// findCredentials finds for each operation the first caller whom the gateway lets
// call it: an attack that ends at the door proves nothing about the house.
func (r *runner) findCredentials(ctx context.Context) error {
	r.credential = map[*operation]*Caller{}
	for _, o := range r.ops {
		if o.public || len(r.callers) == 0 || strings.HasSuffix(o.path, "/events") {
			continue
		}
		r.credential[o] = r.callers[0]
		for _, c := range r.callers {
			a, err := r.through.send(ctx, o.request(nil, "", "").as(c))
			if err != nil {
				return fmt.Errorf("through the gateway: %w", err)
			}
			if !a.refused() || a.status != http.StatusUnauthorized && a.status != http.StatusForbidden {
				r.credential[o] = c
				break
			}
		}
	}
	return nil
}

// try runs an exploit bare and, where it works, through the gateway. It reports
// whether it works bare.
func (r *runner) try(ctx context.Context, row, name, variant string, e exploit) bool {
	if r.stopped != nil {
		return false
	}
	proof, err := e(ctx, &session{run: r, target: r.bare})
	if r.ended(ctx, err) || proof == "" {
		return false
	}
	t := &Try{Row: row, Name: name, Variant: variant, Bare: proof}
	r.tries = append(r.tries, t)
	r.progress(name, len(r.tries))
	s := &session{run: r, target: r.through}
	proof, err = e(ctx, s)
	r.sent++
	switch a := s.last; {
	case r.ended(ctx, err), err != nil || a == nil:
		t.Verdict, t.Detail = Undecided, "no answer from the gateway"
		if err != nil {
			t.Detail = err.Error()
		}
	case proof != "":
		t.Verdict, t.Proof, t.Status, t.Decision = GotThrough, proof, a.status, a.decision
	case s.refusal != nil:
		f := s.refusal
		t.Verdict, t.Status, t.Reason, t.Detail, t.Decision = Refused, f.status, f.reason, f.detail, f.decision
		t.Practice = practiceOf(f.reason)
		if t.Practice == "" {
			t.Verdict = Undecided
		}
		if f.decision != "" {
			r.decisions = append(r.decisions, f.decision)
		}
	default:
		t.Verdict, t.Status, t.Practice = Harmless, a.status, "5 gateway"
	}
	return true
}

// ended notes what ends the whole run.
func (r *runner) ended(ctx context.Context, err error) bool {
	if err == nil {
		return false
	}
	if errors.Is(err, errRequests) || ctx.Err() != nil {
		r.stopped = err
		if ctx.Err() != nil {
			r.stopped = errors.New("the time is over")
		}
		return true
	}
	return false
}

// practiceOf names the practice of the article that stopped a request, "" where
// the reason says that nothing was decided: a dead service stops attacks, too.
func practiceOf(reason string) string {
	switch {
	case strings.HasPrefix(reason, "invalid_dpop"), strings.HasPrefix(reason, "credentials_"), strings.HasPrefix(reason, "token_"), strings.HasPrefix(reason, "dpop_"),
		strings.HasPrefix(reason, "certificate_"), reason == "authentication_required", reason == "ambiguous_credentials", reason == "key_invalid", reason == "cross_origin",
		reason == "insufficient_user_authentication", reason == "use_dpop_nonce":
		return "1 authentication"
	case reason == "forbidden", strings.HasPrefix(reason, "insufficient_"):
		return "2 access control"
	case reason == "rate_limited":
		return "9 rate limiting"
	case reason == "challenge", reason == "throttled", reason == "banned", reason == "network_denied":
		return "10 DDoS protection"
	case strings.HasPrefix(reason, "upstream_") && reason != "upstream_unchecked", strings.HasSuffix(reason, "_unavailable"),
		reason == "starting", reason == "internal", reason == "overloaded", reason == "too_many_bodies", reason == "internal_token_failed":
		return ""
	case strings.HasPrefix(reason, "invalid_"), strings.HasPrefix(reason, "unsupported_"), reason == "harmful_input", reason == "bad_response",
		reason == "unknown_parameter", reason == "missing_body", reason == "unexpected_body", reason == "body_too_large", reason == "malformed_request", reason == "upstream_unchecked":
		return "8 input validation"
	}
	return "5 gateway"
}

// numbers are two factors and their product: what an answer holds that nobody
// wrote into the request has been computed.
func numbers() (a, b int64, product string) {
	draw := func() int64 {
		n, err := rand.Int(rand.Reader, big.NewInt(8999))
		if err != nil {
			return 7919 // crypto/rand does not fail
		}
		return n.Int64() + 1001
	}
	a, b = draw(), draw()
	return a, b, fmt.Sprint(a * b)
}

// without removes a payload from an answer, in the ways pages and JSON write it,
// so that an echo is no difference.
func without(body, payload string) string {
	quoted, _ := json.Marshal(payload)
	for _, text := range []string{payload, strings.Trim(jsonText(payload), `"`), strings.Trim(string(quoted), `"`)} {
		if text != "" {
			body = strings.ReplaceAll(body, text, "")
		}
	}
	return body
}

// cut shortens what an answer shows, for the table.
func cut(s string, n int) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

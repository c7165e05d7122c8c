package gatehouse

import (
	"context"
	"time"
)

// An Event is the one record of one request: opened first, filled in by whoever
// learns something, written once by gateway's close. It never holds a token, a
// key, a header's or a body's content.
type Event struct {
	ID        string        // decision id, sortable by time: see auditlog.NewID
	Time      time.Time     // when the request's head had been read
	Node      string        // this gateway's name
	Config    string        // digest of the config that decided
	Address   string        // the caller's address, trusted hops resolved
	Host      string        // authority asked for
	Method    string        // HTTP method, as received
	Path      string        // the operation's template; of an unmatched request the raw path, cut at 256 bytes
	Protocol  string        // "HTTP/1.1", "HTTP/2.0"
	TLS       string        // version and cipher suite; "" without
	API       string        // "" when nothing matched
	Operation string        // "" when nothing matched
	Subject   string        // of the principal
	Issuer    string        // of the principal
	Client    string        // of the principal
	Auth      Method        // how the principal was authenticated
	KeyID     string        // of the principal
	Allow     bool          // let through to the service
	Status    int           // sent to the caller
	Reason    string        // of the problem; "" when there was none
	Cause     string        // the hidden error, for the operator
	Reasons   []Reason      // of the decision
	Fields    []FieldError  // what the input check refused
	Reported  []FieldError  // what a check in report mode would have refused
	Score     int           // anomaly score of the content; of what matched see Matches
	Matches   []Match       // rules for content that matched, whether they led to a refusal or not
	Upstream  string        // which upstream answered
	Duration  time.Duration // whole
	Service   time.Duration // of it, waiting for the service
	In, Out   int64         // body bytes received and sent
	Cache     string        // what became of it where answers are kept: hit, miss, refreshed, stale or bypass; "" elsewhere
	TraceID   string        // W3C traceparent's trace-id, if sent or made
}

// A Match is one rule of the WAF that matched one value of a request or answer.
type Match struct {
	Rule     int    `json:"rule"`              // its id: 942100
	Text     string `json:"text"`              // its sentence
	Severity string `json:"severity"`          // critical, error, warning or notice
	Level    int    `json:"level"`             // paranoia level of the rule
	In       string `json:"in"`                // query, path, header, cookie, body, request or answer
	Name     string `json:"name,omitempty"`    // of the value
	Pointer  string `json:"pointer,omitempty"` // into a JSON body
	Part     string `json:"part,omitempty"`    // what matched, masked: letters as a, digits as 9
	Decoded  string `json:"decoded,omitempty"` // how the value was decoded before the rule saw it: base64, hex ...
}

type eventKey struct{}

// WithEvent gives ctx the event of the request it belongs to, so that a service
// inside this process can add who was proven and why it refused.
func WithEvent(ctx context.Context, e *Event) context.Context {
	return context.WithValue(ctx, eventKey{}, e)
}

// EventOf returns the event of ctx's request, or one that nobody reads.
func EventOf(ctx context.Context) *Event {
	if e, ok := ctx.Value(eventKey{}).(*Event); ok {
		return e
	}
	return new(Event)
}

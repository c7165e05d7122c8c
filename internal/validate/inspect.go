package validate

import (
	"net/http"
	"time"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

// An Engine asks the rules about one message: ours, or Coraza.
type Engine interface {
	Request(f *waf.Facts, v *waf.Verdict)
	Answer(f *waf.Facts, v *waf.Verdict)
}

// A WAF is one engine with its rules, for all operations of a config. It is safe
// for concurrent use.
type WAF struct {
	engine Engine
}

// An Inspection is what the rules found in one request or answer, for its record,
// and room to write it in: keep one and pass it again after [Inspection.Reset].
type Inspection struct {
	Score    int
	Matches  []gatehouse.Match
	Reported []gatehouse.FieldError // what leaked, or would be refused, in report mode
	Over     bool                   // the budget ended before everything was looked at
	Cost     time.Duration          // of the rules' work, estimated
}

// Reset empties i and keeps the room.
func (i *Inspection) Reset() {
	*i = Inspection{Matches: i.Matches[:0], Reported: i.Reported[:0]}
}

// Inspect asks the rules about a request whose head and body were checked.
func (o *Operation) Inspect(r *http.Request, address string, path []string, head *Head, body *Body, out *Inspection) error {
	out.Reset()
	return nil
}

// InspectAnswer asks them about an answer, or the beginning of one.
func (o *Operation) InspectAnswer(status int, h http.Header, body []byte, out *Inspection) error {
	return nil
}

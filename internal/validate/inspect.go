package validate

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	gatehouse "github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

// An Inspection is what the rules found in one request or answer, for its record,
// and room to write it in: keep one and pass it again after [Inspection.Reset].
type Inspection struct {
	Score    int
	Matches  []gatehouse.Match      // at most [maxMatches]
	Reported []gatehouse.FieldError // what leaked, or would be refused, in report mode
	Over     bool                   // the budget ended before everything was looked at
	Cost     time.Duration          // of the rules' work, estimated
}

// Reset empties i and keeps the room.
func (i *Inspection) Reset() {
	*i = Inspection{Matches: i.Matches[:0], Reported: i.Reported[:0]}
}

// Inspect asks the rules about a request whose head and body were checked by
// [Operation.Head] and [Operation.Body]: about what goes on, not what came. path
// holds the values that [Router.Match] found, address the caller's. It fills out.
//
// Errors are [*gatehouse.Problem], when the operation enforces: harmful_input,
// 403, and input_not_inspected, 403, when the budget ended first.
func (o *Operation) Inspect(r *http.Request, address string, path []string, head *Head, body *Body, out *Inspection) error {
	out.Reset()
	if o.settings.Rules == Off {
		return nil
	}
	if o.plan == nil {
		return noRules()
	}
	m := o.plan.waf.room()
	defer o.plan.waf.put(m)
	o.fill(m, r, address, path, head, body)
	o.plan.waf.engine.Request(&m.facts, &m.verdict)
	m.verdict.Over = m.verdict.Over || m.named > maxNamed
	if err := o.judge(m, body, out); err != nil {
		return err
	}
	if o.settings.Deeper == Off || m.verdict.Block {
		return nil
	}
	return o.lookDeeper(m, body, out)
}

// noRules is the fault of an operation whose rules were never given: it refuses.
func noRules() error {
	return &gatehouse.Problem{Kind: gatehouse.Internal, Reason: "internal", Err: errNoRules}
}

// judge turns the verdict into what is recorded and what is done.
func (o *Operation) judge(m *room, body *Body, out *Inspection) error {
	v := &m.verdict
	out.Score, out.Over, out.Cost = v.Score, v.Over, time.Duration(v.Cost)
	for i := range v.Hits {
		if len(out.Matches) == maxMatches {
			break
		}
		if v.Hits[i].Target == "TX" { // the rules' sums, which Score says
			continue
		}
		out.Matches = append(out.Matches, m.match(&v.Hits[i], body))
	}
	var p *gatehouse.Problem
	switch {
	case v.Block:
		p = harmful()
	case v.Over && !o.settings.PassOverBudget:
		p = uninspected()
	case v.Over:
		out.report("input_not_inspected", "The budget ended before everything was looked at.")
		return nil
	default:
		return nil
	}
	if o.settings.Rules == Enforce {
		return p
	}
	out.report(p.Reason, p.Detail)
	return nil
}

// lookDeeper decodes the free text of a request and asks the rules again, about
// what came of it alone.
func (o *Operation) lookDeeper(m *room, body *Body, out *Inspection) error {
	if !m.decode() {
		return nil
	}
	o.plan.waf.engine.Request(&m.deep, &m.verdict)
	v := &m.verdict
	out.Cost += time.Duration(v.Cost)
	out.Over = out.Over || v.Over
	found := false
	for i := range v.Hits {
		kind, decoded := m.decoded(&v.Hits[i])
		if !decoded {
			continue
		}
		found = true
		if len(out.Matches) < maxMatches {
			x := m.match(&v.Hits[i], body)
			x.Decoded = kind
			out.Matches = append(out.Matches, x)
		}
	}
	if !found || !v.Block {
		if !v.Over {
			return nil
		}
		// Who makes decoding dear would hide behind it.
		if o.settings.Deeper == Enforce && o.settings.Rules == Enforce && !o.settings.PassOverBudget {
			return uninspected()
		}
		out.report("input_not_inspected", "The budget ended before all that was decoded was looked at.")
		return nil
	}
	out.Score = max(out.Score, v.Score)
	if p := harmful(); o.settings.Deeper == Enforce && o.settings.Rules == Enforce {
		return p
	}
	out.report("harmful_input", "Decoded, a text of the request looks like an attack.")
	return nil
}

func harmful() *gatehouse.Problem {
	return &gatehouse.Problem{Kind: gatehouse.Forbidden, Reason: "harmful_input", Detail: "The request looks like an attack and was not passed on."}
}

func uninspected() *gatehouse.Problem {
	return &gatehouse.Problem{Kind: gatehouse.Forbidden, Reason: "input_not_inspected", Detail: "The request would take too long to look through."}
}

func (i *Inspection) report(rule, detail string) {
	i.Reported = append(i.Reported, gatehouse.FieldError{In: "request", Rule: rule, Detail: detail})
}

// InspectAnswer looks for leaks in an answer, or the beginning of one, asks the
// rules about it, and adds what they say to out. Its error is [BadResponse], when the operation enforces.
func (o *Operation) InspectAnswer(status int, h http.Header, body []byte, out *Inspection) error {
	plain, readable := plainAnswer(h, body)
	if !readable && o.WatchesAnswers() == Enforce {
		return BadResponse([]gatehouse.FieldError{{In: inHeader, Name: "Content-Encoding", Rule: "answer_not_inspected", Detail: "Only gzip can be looked into."}})
	}
	body = plain
	found, withhold := o.Leaks(h, body)
	out.Reported = append(out.Reported, found...)
	if withhold {
		return BadResponse(found)
	}
	if o.settings.AnswerRules == Off {
		return nil
	}
	if o.plan == nil {
		return noRules()
	}
	m := o.plan.waf.room()
	defer o.plan.waf.put(m)
	m.fields = appendFields(m.fields[:0], h)
	m.facts.ReadAnswer(&waf.Message{
		Method: o.op.Method, Target: "/", Protocol: "HTTP/1.1",
		Status: status, Answer: m.fields, AnswerBody: body,
	})
	o.plan.waf.engine.Answer(&m.facts, &m.verdict)
	v := &m.verdict
	out.Score += v.Score
	out.Cost += time.Duration(v.Cost)
	out.Over = out.Over || v.Over
	for i := range v.Hits {
		if len(out.Matches) < maxMatches && v.Hits[i].Target != "TX" {
			x := m.match(&v.Hits[i], nil)
			x.In = "answer"
			out.Matches = append(out.Matches, x)
		}
	}
	fault := gatehouse.FieldError{In: "answer", Rule: "harmful_answer", Detail: "The answer shows what it should not."}
	switch {
	case v.Block:
	case v.Over && !o.settings.PassOverBudget:
		fault.Rule, fault.Detail = "answer_not_inspected", "The budget ended before everything was looked at."
	default:
		return nil
	}
	if o.settings.AnswerRules == Enforce {
		return BadResponse([]gatehouse.FieldError{fault})
	}
	out.Reported = append(out.Reported, fault)
	return nil
}

func appendFields(dst []waf.Field, h http.Header) []waf.Field {
	for name, values := range h {
		for _, value := range values {
			dst = append(dst, waf.Field{Name: name, Value: value})
		}
	}
	return dst
}

// plainAnswer opens an answer that came in gzip, as far as it is looked at. What
// has another encoding cannot be read.
func plainAnswer(h http.Header, body []byte) (plain []byte, readable bool) {
	coding := strings.ToLower(strings.Join(h["Content-Encoding"], ","))
	switch {
	case coding == "" || coding == "identity" || len(body) == 0:
		return body, true
	case coding != "gzip" && coding != "x-gzip":
		return nil, false
	}
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, false
	}
	plain, err = io.ReadAll(io.LimitReader(z, leakBytes))
	return plain, err == nil || errors.Is(err, io.ErrUnexpectedEOF) // the beginning of a longer one
}

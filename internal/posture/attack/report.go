package attack

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse"
)

// What became of a try at the gateway.
const (
	Refused    = "refused"     // with a reason and a decision id
	Harmless   = "harmless"    // let in, and without effect
	GotThrough = "got through" // the same exploit worked
	Undecided  = "undecided"   // it could not be tried; nothing is proven
	Recorded   = "recorded"    // in the row about logging
)

// A Report is the whole table, and what it took.
type Report struct {
	Bare     string  `json:"bare"`
	Through  string  `json:"through"`
	Rows     []*Row  `json:"rows"`
	Requests int     `json:"requests"`
	Seconds  float64 `json:"seconds"`
	Ended    string  `json:"ended,omitempty"` // why early
}

// A Row is a row of the table.
type Row struct {
	Row    string         `json:"row"`
	Title  string         `json:"title"`
	Count  map[string]int `json:"count"` // of tries by verdict
	Tries  []*Try         `json:"tries"`
	Wanted bool           `json:"-"`
}

// A Try is one exploit: what it did to the bare API, and what became of it at the
// gateway. What does not work bare is not tried further and not listed.
type Try struct {
	Row      string `json:"row"`
	Name     string `json:"name"`    // what was tried, and where
	Variant  string `json:"variant"` // how it was written
	Bare     string `json:"bare"`    // the proof that it worked
	Verdict  string `json:"verdict"`
	Proof    string `json:"proof,omitempty"` // that it got through
	Status   int    `json:"status,omitempty"`
	Reason   string `json:"reason,omitempty"`
	Detail   string `json:"detail,omitempty"`
	Decision string `json:"decision,omitempty"`
	Practice string `json:"practice,omitempty"`
	Rules    []int  `json:"rules,omitempty"` // of the WAF, from the gateway's own record
	Where    string `json:"where,omitempty"` // they matched
}

func newReport(r *runner, requests int, took time.Duration) *Report {
	out := &Report{Bare: r.bare.base, Through: r.through.base, Requests: requests, Seconds: took.Seconds()}
	if r.stopped != nil {
		out.Ended = r.stopped.Error()
	}
	for _, row := range tableRows {
		sum := &Row{Row: row.id, Title: row.title, Count: map[string]int{}, Tries: []*Try{}, Wanted: r.wants(row.id)}
		for _, t := range r.tries {
			if t.Row == row.id {
				sum.Tries = append(sum.Tries, t)
			}
		}
		out.Rows = append(out.Rows, sum)
	}
	return out
}

// consult looks the decisions up in the gateway's own record, where it is on this
// machine: what stopped each, and whether each is there.
func (r *Report) consult(ctx context.Context, run *runner, record Record, since time.Time) error {
	events, all := map[string]*gatehouse.Event{}, 0
	if record != nil {
		for range 20 { // the record is written behind the answers
			all = 0
			err := record(ctx, since.Add(-time.Second), func(e *gatehouse.Event) bool {
				all++
				if slices.Contains(run.decisions, e.ID) {
					events[e.ID] = e
				}
				return true
			})
			if err != nil {
				return err
			}
			if len(events) == len(run.decisions) && all >= run.through.asked {
				break
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(200 * time.Millisecond):
			}
		}
	}
	for _, t := range run.tries {
		if e := events[t.Decision]; e != nil {
			t.learn(e)
		}
	}
	if run.wants(rowLogging) && run.sent > 0 {
		r.logging(run, record != nil, events, all)
	}
	for _, row := range r.Rows {
		for _, t := range row.Tries {
			row.Count[t.Verdict]++
		}
	}
	return nil
}

// learn adds what only the gateway knows.
func (t *Try) learn(e *gatehouse.Event) {
	for _, m := range e.Matches {
		if !slices.Contains(t.Rules, m.Rule) {
			t.Rules = append(t.Rules, m.Rule)
		}
		if t.Where == "" {
			t.Where = strings.TrimRight(m.In+" "+m.Name+m.Pointer, " ")
		}
	}
	for _, reason := range e.Reasons {
		if t.Detail == "" && reason.Effect != "allow" {
			t.Detail = reason.Rule
		}
	}
}

// logging holds what was sent against what is on record.
func (r *Report) logging(run *runner, local bool, events map[string]*gatehouse.Event, all int) {
	try := func(name, variant string, ok bool, proof string) {
		t := &Try{
			Row: rowLogging, Name: name, Variant: variant, Bare: "nothing: no answer names a record, and there is none",
			Verdict: Recorded, Practice: "7 monitoring and logging", Detail: proof,
		}
		if !ok {
			t.Verdict, t.Proof, t.Practice = GotThrough, proof, ""
		}
		if len(run.decisions) > 0 {
			t.Decision = run.decisions[0]
		}
		for _, row := range r.Rows {
			if row.Row == rowLogging {
				row.Tries = append(row.Tries, t)
			}
		}
	}
	refused := 0
	for _, t := range run.tries {
		if t.Verdict == Refused {
			refused++
		}
	}
	try("attacks that nobody notices", "decision ids", refused == len(run.decisions), fmt.Sprintf("%d of %d refusals name a decision", len(run.decisions), refused))
	if !local {
		return
	}
	told := 0
	for _, e := range events {
		if e.Reason != "" && !e.Allow || e.Reason != "" && e.Status >= 400 {
			told++
		}
	}
	try("attacks that nobody notices", "the record of refusals", told == len(run.decisions), fmt.Sprintf("%d of %d are on record with their reason", told, len(run.decisions)))
	try("attacks that nobody notices", "the record of requests", all >= run.through.asked, fmt.Sprintf("%d requests sent, %d on record", run.through.asked, all))
}

// Failed reports whether anything got through, or is not proven.
func (r *Report) Failed() bool {
	tries := 0
	for _, row := range r.Rows {
		tries += len(row.Tries)
		if row.Count[GotThrough]+row.Count[Undecided] > 0 {
			return true
		}
	}
	return r.Ended != "" || tries == 0
}

package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/gatehouse-api/gatehouse"
	"github.com/gatehouse-api/gatehouse/internal/server"
)

// verdictRecorded is what becomes of attacks in the row about logging.
const verdictRecorded = "recorded"

// An attackReport is what the command prints.
type attackReport struct {
	Bare     string          `json:"bare"`
	Through  string          `json:"through"`
	Rows     []*attackRowSum `json:"rows"`
	Requests int             `json:"requests"`
	Seconds  float64         `json:"seconds"`
	Ended    string          `json:"ended,omitempty"` // why early
}

// An attackRowSum is a row of the table.
type attackRowSum struct {
	Row    string         `json:"row"`
	Title  string         `json:"title"`
	Count  map[string]int `json:"count"` // of tries by verdict
	Tries  []*attackTry   `json:"tries"`
	Wanted bool           `json:"-"`
}

func newAttackReport(r *attackRun, requests int, took time.Duration) *attackReport {
	out := &attackReport{Bare: r.bare.base, Through: r.through.base, Requests: requests, Seconds: took.Seconds()}
	if r.stopped != nil {
		out.Ended = r.stopped.Error()
	}
	for _, row := range attackRows {
		sum := &attackRowSum{Row: row.id, Title: row.title, Count: map[string]int{}, Tries: []*attackTry{}, Wanted: r.wants(row.id)}
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
func (r *attackReport) consult(ctx context.Context, run *attackRun, record string, since time.Time) error {
	events, all := map[string]*gatehouse.Event{}, 0
	if record != "" {
		for range 20 { // the record is written behind the answers
			all = 0
			err := server.EachEvent(ctx, record, since.Add(-time.Second), func(e *gatehouse.Event) bool {
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
		r.logging(run, record != "", events, all)
	}
	for _, row := range r.Rows {
		for _, t := range row.Tries {
			row.Count[t.Verdict]++
		}
	}
	return nil
}

// learn adds what only the gateway knows.
func (t *attackTry) learn(e *gatehouse.Event) {
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
func (r *attackReport) logging(run *attackRun, local bool, events map[string]*gatehouse.Event, all int) {
	try := func(name, variant string, ok bool, proof string) {
		t := &attackTry{
			Row: rowLogging, Name: name, Variant: variant, Bare: "nothing: no answer names a record, and there is none",
			Verdict: verdictRecorded, Practice: "7 monitoring and logging", Detail: proof,
		}
		if !ok {
			t.Verdict, t.Proof, t.Practice = verdictThrough, proof, ""
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
		if t.Verdict == verdictRefused {
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

// failed reports whether anything got through, or is not proven.
func (r *attackReport) failed() bool {
	tries := 0
	for _, row := range r.Rows {
		tries += len(row.Tries)
		if row.Count[verdictThrough]+row.Count[verdictUndecided] > 0 {
			return true
		}
	}
	return r.Ended != "" || tries == 0
}

var verdictColour = map[string]string{verdictRefused: green, verdictHarmless: green, verdictRecorded: green, verdictThrough: red, verdictUndecided: yellow}

// print prints the table: tries of one name in one line, unless their ends differ.
func (r *attackReport) print(std *stdio) error {
	const plain = "00" // as long as a colour, so that columns stay in line
	t := tabwriter.NewWriter(std.out, 0, 4, 2, ' ', 0)
	line := func(tried, bare, colour, verdict, by string) {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", tried, bare, paint(*std, colour, verdict), by)
	}
	line("ATTACK", "BARE", plain, "PROTECTED", "STOPPED BY")
	for _, row := range r.Rows {
		if !row.Wanted {
			continue
		}
		line(row.Title, "", plain, "", "")
		if len(row.Tries) == 0 {
			line("  nothing worked bare", "-", plain, "-", "nothing is proven here")
		}
		for _, g := range grouped(row.Tries) {
			ways := ""
			if len(g) > 1 {
				ways = fmt.Sprintf(" (%d ways)", len(g))
			}
			line("  "+cut(g[0].Name, 84)+ways, cut(g[0].Bare, 64), verdictColour[g[0].Verdict], g[0].Verdict, stoppedBy(g))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	total := map[string]int{}
	for _, row := range r.Rows {
		for v, n := range row.Count {
			total[v] += n
		}
	}
	say(std.out, "\n%d refused, %d harmless, %d recorded, %d got through, %d undecided; %d requests in %.1f s\nbare %s, protected %s\n",
		total[verdictRefused], total[verdictHarmless], total[verdictRecorded], total[verdictThrough], total[verdictUndecided], r.Requests, r.Seconds, r.Bare, r.Through)
	if r.Ended != "" {
		say(std.out, "%s: %s\n", paint(*std, red, "ended early"), r.Ended)
	}
	return nil
}

// grouped are the tries that one line can tell.
func grouped(tries []*attackTry) (out [][]*attackTry) {
	at := map[string]int{}
	for _, t := range tries {
		key := t.Name + "\x00" + t.Verdict
		n, ok := at[key]
		if !ok {
			n = len(out)
			at[key], out = n, append(out, nil)
		}
		out[n] = append(out[n], t)
	}
	return out
}

// stoppedBy names the checks that stopped a group, and one decision to look up.
func stoppedBy(g []*attackTry) string {
	if g[0].Verdict == verdictThrough || g[0].Verdict == verdictUndecided {
		out := cut(g[0].Variant+": "+g[0].Proof+g[0].Detail+" "+g[0].Reason, 80)
		if g[0].Decision != "" {
			out += "; gatehouse explain " + g[0].Decision
		}
		return out
	}
	var checks []string
	var rules []string
	for _, t := range g {
		check := t.Practice
		if t.Reason != "" {
			check += ": " + t.Reason
		}
		if t.Detail != "" {
			check += " (" + t.Detail + ")"
		}
		if !slices.Contains(checks, check) {
			checks = append(checks, check)
		}
		for _, rule := range t.Rules {
			if id := strconv.Itoa(rule); !slices.Contains(rules, id) {
				rules = append(rules, id)
			}
		}
	}
	out := strings.Join(checks[:min(len(checks), 2)], ", ")
	if len(checks) > 2 {
		out += fmt.Sprintf(" and %d more", len(checks)-2)
	}
	if len(rules) > 0 {
		out += "; rules " + strings.Join(rules[:min(len(rules), 4)], " ") + " at " + g[0].Where
	}
	if g[0].Decision != "" {
		out += "; " + g[0].Decision
	}
	return out
}

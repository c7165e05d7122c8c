package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/gatehouse-api/gatehouse/internal/posture/attack"
)

var verdictColour = map[string]string{attack.Refused: green, attack.Harmless: green, attack.Recorded: green, attack.GotThrough: red, attack.Undecided: yellow}

// printAttack prints the table: tries of one name in one line, unless their ends differ.
func printAttack(std *stdio, r *attack.Report) error {
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
		total[attack.Refused], total[attack.Harmless], total[attack.Recorded], total[attack.GotThrough], total[attack.Undecided], r.Requests, r.Seconds, r.Bare, r.Through)
	if r.Ended != "" {
		say(std.out, "%s: %s\n", paint(*std, red, "ended early"), r.Ended)
	}
	return nil
}

// grouped are the tries that one line can tell.
func grouped(tries []*attack.Try) (out [][]*attack.Try) {
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
func stoppedBy(g []*attack.Try) string {
	if g[0].Verdict == attack.GotThrough || g[0].Verdict == attack.Undecided {
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

// cut shortens what an answer shows, for the table.
func cut(s string, n int) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

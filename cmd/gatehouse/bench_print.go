package main

import (
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/gatehouse-api/gatehouse/internal/posture/cost"
)

// printBench prints the tables, with bars.
func printBench(std *stdio, r *cost.Report) error {
	say(std.out, "%s\n%s, %d processors, gatehouse %s; %d rounds of %g s, %d connections\n\n", r.Subject, r.System, r.CPUs, r.Version, r.Rounds, r.Turn, r.Connections)
	most := 0.0
	for _, l := range r.Lines {
		most = max(most, l.CPU.Median)
	}
	t := tabwriter.NewWriter(std.out, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "REQUEST\tCPU µs\t±\tALLOCATIONS\tBYTES\tREQUESTS/s\tp50 µs\tp99 µs\t")
	for _, l := range r.Lines {
		_, _ = fmt.Fprintf(t, "%s\t%.1f\t%s\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%s\n", l.Name, l.CPU.Median, spread(l.CPU), l.Allocations, l.Bytes, l.PerSecond, l.P50, l.P99, bar(std, l.CPU.Median/most))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, b := range r.Breakdowns {
		if err := printBreakdown(std, r, &b); err != nil {
			return err
		}
	}
	if err := printPeers(std, r); err != nil {
		return err
	}
	say(std.out, "\nCPU is the gateway's own, user and system. LEFT OUT: by how much a request is cheaper without the check. ALONE: the check in a loop, its data at hand.\n"+
		"SHARE and bar follow LEFT OUT where it is beyond the noise (±), ALONE where it is not; allocations are exact, of the check alone.%s %.0f s.\n", fewRounds(r), r.Seconds)
	return nil
}

func fewRounds(r *cost.Report) string {
	if r.Rounds < 3 {
		return " Fewer than three rounds say nothing about the noise."
	}
	return ""
}

func printBreakdown(std *stdio, r *cost.Report, b *cost.Breakdown) error {
	for _, l := range r.Lines {
		if l.ID == b.Line {
			say(std.out, "\n%s: %.1f µs\n", paint(*std, bold, l.Name), l.CPU.Median)
		}
	}
	t := tabwriter.NewWriter(std.out, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "CHECK\tPRACTICE\tLEFT OUT µs\t±\tALONE µs\tSHARE\tALLOCATIONS\tBYTES\t")
	for _, c := range b.Checks {
		var practice []string
		for _, p := range c.Practice {
			practice = append(practice, strconv.Itoa(p))
		}
		left, off := "-", "-"
		if c.LeftOut != nil {
			left, off = "< noise", spread(*c.LeftOut)
		}
		if c.LeftOut != nil && (c.Clear || c.ID == b.Checks[len(b.Checks)-1].ID) {
			left = fmt.Sprintf("%.2f", c.LeftOut.Median)
		}
		alone := "-"
		if c.Alone != nil {
			alone = fmt.Sprintf("%.2f", c.Alone.CPU.Median)
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%.1f %%\t%.1f\t%.0f\t%s\n", c.Name, strings.Join(practice, ", "), left, off, alone, 100*c.Share, c.Allocations, c.Bytes, bar(std, c.Share))
	}
	return t.Flush()
}

func printPeers(std *stdio, r *cost.Report) error {
	if len(r.Peers) == 0 {
		return nil
	}
	say(std.out, "\n")
	t := tabwriter.NewWriter(std.out, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "PEER\tREQUEST\tCPU µs\t±\tGATEHOUSE IS\tREQUESTS/s\tp50 µs\tp99 µs\tNOT 2xx")
	for _, p := range r.Peers {
		cpu, off, times := "-", "-", "-"
		if p.CPU != nil {
			cpu, off, times = fmt.Sprintf("%.1f", p.CPU.Median), spread(*p.CPU), fmt.Sprintf("%.2f ×", p.Times)
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%.0f\t%.0f\t%.0f\t%d\n", p.URL, p.Line, cpu, off, times, p.PerSecond, p.P50, p.P99, p.Other)
	}
	return t.Flush()
}

// spread writes how far off a figure may be.
func spread(f cost.Figure) string {
	if f.Spread == 0 {
		return "?"
	}
	return fmt.Sprintf("%.2f", f.Spread)
}

// barWidth is how many characters the whole has.
const barWidth = 24

// bar draws a share: in eighths of a character on a terminal that shows colours, in
// number signs elsewhere.
func bar(std *stdio, share float64) string {
	eighths := int(min(max(share, 0), 1)*barWidth*8 + 0.5)
	if !std.colour {
		return strings.Repeat("#", (eighths+4)/8)
	}
	out := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		out += string([]rune(" ▏▎▍▌▋▊▉")[rest])
	}
	return out
}

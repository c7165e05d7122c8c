package cost

import (
	"encoding/xml"
	"fmt"
	"strings"
)

// SVG draws the report: a bar for each request, and for each that is broken down
// what it is made of. Text says what the bars do; it takes the reader's colours.
func (r *Report) SVG() []byte {
	const row, left, wide, width = 22, 320, 380, 960
	var b strings.Builder
	y := 30
	text := func(x, y int, class, s string) {
		_, _ = fmt.Fprintf(&b, "<text x=\"%d\" y=\"%d\" class=\"%s\">%s</text>\n", x, y, class, escaped(s))
	}
	bar := func(name, value, class string, share float64) {
		if r := []rune(name); len(r) > 44 {
			name = string(r[:43]) + "…"
		}
		text(left-8, y+14, "end", name)
		long := max(1, share*wide)
		_, _ = fmt.Fprintf(&b, "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" class=\"%s\"/>\n", left, y+3, long, row-6, class)
		text(left+int(long)+6, y+14, "", value)
		y += row
	}
	most := 0.0
	for _, l := range r.Lines {
		most = max(most, l.CPU.Median)
	}
	for _, p := range r.Peers {
		if p.CPU != nil {
			most = max(most, p.CPU.Median)
		}
	}
	text(10, y, "head", "µs of CPU a request")
	y += 12
	for _, l := range r.Lines {
		bar(l.Name, microseconds(l.CPU), "whole", l.CPU.Median/max(most, 1e-9))
	}
	for _, p := range r.Peers {
		if p.CPU != nil {
			bar(p.URL+", "+p.Line, microseconds(*p.CPU), "peer", p.CPU.Median/max(most, 1e-9))
		}
	}
	for _, d := range r.Breakdowns {
		for _, l := range r.Lines {
			if l.ID == d.Line {
				y += 30
				text(10, y, "head", l.Name+": what it is made of")
				y += 12
			}
		}
		for _, c := range d.Checks {
			bar(c.Name, fmt.Sprintf("%.2f µs, %.1f %%, %.1f allocations", c.CPU, 100*c.Share, c.Allocations), "part", c.Share)
		}
	}
	y += 28
	text(10, y, "small", fmt.Sprintf("%s; %s, %d processors; %d rounds of %g s, %d connections", r.Subject, r.System, r.CPUs, r.Rounds, r.Turn, r.Connections))
	y += 14
	return fmt.Appendf(nil, `<svg xmlns="http://www.w3.org/2000/svg" width="%[1]d" height="%[2]d" viewBox="0 0 %[1]d %[2]d" role="img" aria-labelledby="title desc">
<title id="title">What a request costs at the gateway</title>
<desc id="desc">%[3]s</desc>
<style>
svg { color-scheme: light dark; font: 13px system-ui, sans-serif; background: #ffffff }
text { fill: #1a1a1a } .end { text-anchor: end } .head { font-weight: 600 } .small { font-size: 11px }
.whole { fill: #2f6db5 } .part { fill: #3d7f4f } .peer { fill: #8a6d1f }
@media (prefers-color-scheme: dark) { svg { background: #16181c } text { fill: #e8e8e8 } .whole { fill: #7db3f2 } .part { fill: #7fc795 } .peer { fill: #d9b95c } }
</style>
%[4]s</svg>
`, width, y, escaped(r.description()), b.String())
}

// description says in words what the bars show.
func (r *Report) description() string {
	var parts []string
	for _, l := range r.Lines {
		parts = append(parts, fmt.Sprintf("%s: %s", l.Name, microseconds(l.CPU)))
	}
	return "Bars of CPU time. " + strings.Join(parts, "; ") + "."
}

func microseconds(f Figure) string {
	if f.Spread == 0 {
		return fmt.Sprintf("%.1f µs", f.Median)
	}
	return fmt.Sprintf("%.1f µs ± %.1f", f.Median, f.Spread)
}

func escaped(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // into memory
	return b.String()
}

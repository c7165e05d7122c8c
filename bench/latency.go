package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// latencyMode has callers wait at half of what a proxy can do, and at one rate that is
// the same for all. The load of wrk cannot tell: it asks only when it was answered.
func latencyMode(ctx context.Context, out io.Writer) (err error) {
	s, all, err := theatre(ctx, out, quiet, full)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	loads := records(all)
	if err := s.rounds(ctx, loads, turn{path: customer, conns: *conns, seconds: *seconds}); err != nil {
		return err
	}
	same := 0
	for _, r := range loads {
		if r.ours {
			same = int(r.rps() / 2) // the last Gatehouse has all checks on
		}
	}
	half, level := map[*proxy][]pace{}, map[*proxy][]pace{}
	for round := range *rounds {
		for _, r := range loads {
			p, err := s.pace(ctx, r.proxy, int(r.rps()/2))
			if err != nil {
				return fmt.Errorf("round %d: %s: %w", round, r.name, err)
			}
			half[r.proxy] = append(half[r.proxy], p)
			if r.rps() < 1.25*float64(same) {
				continue // it cannot keep up
			}
			if p, err = s.pace(ctx, r.proxy, same); err != nil {
				return fmt.Errorf("round %d: %s: %w", round, r.name, err)
			}
			level[r.proxy] = append(level[r.proxy], p)
		}
	}
	_, _ = fmt.Fprintf(out, "\n| proxy | full load | half | p50 | p99 (least – most) | × nginx | p99.9 | at %d/s: p50 | p99 | × nginx | load late, p99 | not 200 |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n", same)
	base := loads[0].proxy
	for _, r := range loads {
		h, l := half[r.proxy], level[r.proxy]
		tail := spreadOf(h, func(p pace) time.Duration { return p.P99 })
		bad := 0
		for _, p := range append(h, l...) {
			bad += p.Bad
		}
		cells := "– | – | –"
		if len(l) > 0 {
			cells = fmt.Sprintf("%s | %s | %.2f", short(middle(l, p50)), short(middle(l, p99)), float64(middle(l, p99))/float64(middle(level[base], p99)))
		}
		_, _ = fmt.Fprintf(out, "| %s | %.0f/s | %.0f/s | %s | %s | %.2f | %s | %s | %s | %d |\n", r.name, r.rps(), r.rps()/2, short(middle(h, p50)), tail,
			float64(middle(h, p99))/float64(middle(half[base], p99)), short(middle(h, func(p pace) time.Duration { return p.P999 })), cells,
			short(middle(h, func(p pace) time.Duration { return p.Late })), bad)
	}
	_, _ = fmt.Fprintln(out)
	for _, r := range loads {
		if r.ours {
			goal(out, "p99 at half of its own load, × nginx at half of its own, "+r.name, float64(middle(half[r.proxy], p99))/float64(middle(half[base], p99)), 1.5)
			if len(level[r.proxy]) == 0 || len(level[base]) == 0 {
				_, _ = fmt.Fprintf(out, "- p99 at %d/s, × nginx, %s: **not measured**, one of them cannot keep up.\n", same, r.name)
				continue
			}
			goal(out, fmt.Sprintf("p99 at %d/s, × nginx, %s", same, r.name), float64(middle(level[r.proxy], p99))/float64(middle(level[base], p99)), 1.5)
		}
	}
	return nil
}

func p50(p pace) time.Duration { return p.P50 }
func p99(p pace) time.Duration { return p.P99 }

// middle is the median of a figure.
func middle(all []pace, pick func(pace) time.Duration) time.Duration {
	var x []float64
	for _, p := range all {
		x = append(x, float64(pick(p)))
	}
	return time.Duration(median(x))
}

func spreadOf(all []pace, pick func(pace) time.Duration) string {
	least, most := pick(all[0]), pick(all[0])
	for _, p := range all {
		least, most = min(least, pick(p)), max(most, pick(p))
	}
	return fmt.Sprintf("%s (%s – %s)", short(middle(all, pick)), strings.TrimSuffix(short(least), " ms"), strings.TrimSuffix(short(most), " ms"))
}

// pace runs the open-loop load against p, in a process of its own.
func (s *stage) pace(ctx context.Context, p *proxy, rate int) (found pace, err error) {
	self, err := os.Executable()
	if err != nil {
		return found, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(*seconds+15)*time.Second)
	defer cancel()
	request := "GET " + customer + " HTTP/1.1\r\nHost: api.bench\r\nAccept: application/json\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) bench/1.0\r\nX-Request-Id: 0123456789abcdef0123456789abcdef\r\n"
	if p.token != "" {
		request += "Authorization: Bearer " + p.token + "\r\n"
	}
	c := exec.CommandContext(ctx, self, "rate", "-rate", strconv.Itoa(rate), "-connections", strconv.Itoa(*conns), "-seconds", strconv.Itoa(*seconds), "-to", "127.0.0.1:"+strconv.Itoa(p.plain))
	c.Stdin = strings.NewReader(request + "\r\n")
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var complaint strings.Builder
	c.Stderr = &complaint
	o, err := c.Output()
	if err != nil {
		return found, fmt.Errorf("%w: %s", err, complaint.String())
	}
	return found, json.Unmarshal(o, &found)
}

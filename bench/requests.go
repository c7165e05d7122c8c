package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// requestsMode is the whole of a request: what it costs in every check and in plain
// proxies.
func requestsMode(ctx context.Context, out io.Writer) error { return requests(ctx, out, false) }

// tlsMode is the same over TLS 1.3, on kept connections.
func tlsMode(ctx context.Context, out io.Writer) error { return requests(ctx, out, true) }

func requests(ctx context.Context, out io.Writer, secure bool) (err error) {
	s, all, err := theatre(ctx, out, quiet, full, public)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	t := turn{path: customer, tls: secure, conns: *conns, seconds: *seconds}
	if *post {
		t.script = "post.lua"
		if err := write(s.dir, t.script, postLua); err != nil {
			return err
		}
	}
	r := records(all)
	if err := s.rounds(ctx, r, t); err != nil {
		return err
	}
	requestsTable(out, r)
	requestGoals(out, r, secure)
	return nil
}

// requestsTable has a column of ratios for each peer.
func requestsTable(out io.Writer, all []*record) {
	head, rule := "| proxy | µs of CPU (least – most) |", "|---|---|"
	var peers []*record
	for _, r := range all {
		if !r.ours {
			peers = append(peers, r)
			head, rule = head+" × "+strings.Split(r.name, ",")[0]+" |", rule+"---|"
		}
	}
	_, _ = fmt.Fprintf(out, "\n%s requests/s | p50 | p99, median | p99, worst | not 2xx | MB |\n%s---|---|---|---|---|---|\n", head, rule)
	for _, r := range all {
		_, _ = fmt.Fprintf(out, "| %s | %s |", r.name, spread(r.costs()))
		for _, p := range peers {
			_, _ = fmt.Fprintf(out, " %.2f |", median(r.costs())/median(p.costs()))
		}
		worst := time.Duration(slices.Max(r.of(func(d done) float64 { return float64(d.p99) })))
		_, _ = fmt.Fprintf(out, " %.0f | %s | %s | %s | %d | %d |\n", r.rps(), short(r.p50()), short(r.p99()), short(worst), r.bad(), r.rss())
	}
}

// spread is the median of x with the least and the most.
func spread(x []float64) string {
	return fmt.Sprintf("%.1f (%.1f – %.1f)", median(x), slices.Min(x), slices.Max(x))
}

// short is a time in milliseconds with what can be told apart.
func short(d time.Duration) string {
	if ms := float64(d) / float64(time.Millisecond); ms < 10 {
		return fmt.Sprintf("%.2f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", float64(d)/float64(time.Millisecond))
}

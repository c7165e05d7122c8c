package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A body is a size of what goes down or up.
type body struct {
	name  string
	bytes int
}

// sizesMode measures how much goes through, down and up, by the size of the body.
func sizesMode(ctx context.Context, out io.Writer) (err error) {
	s, all, err := theatre(ctx, out, full)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	down := []body{{"0 B", 0}, {"1 KB", 1000}, {"100 KB", 100_000}, {"10 MB", 10_000_000}}
	files := filepath.Join(s.dir, "v1", "files")
	if err := s.open(files); err != nil {
		return err
	}
	for _, b := range down {
		if err := os.WriteFile(filepath.Join(files, fmt.Sprintf("f%d", b.bytes)), bytes.Repeat([]byte("0123456789abcdef"), b.bytes/16+1)[:b.bytes], 0o644); err != nil { //nolint:gosec // nginx's worker, another user, reads it
			return err
		}
		if err := write(s.dir, fmt.Sprintf("up%d.lua", b.bytes), fmt.Sprintf("wrk.method=\"POST\"\nwrk.body=string.rep(\"0123456789\", %d)\nwrk.headers[\"Content-Type\"]=\"application/octet-stream\"\n", b.bytes/10)); err != nil {
			return err
		}
	}
	head, rule := "", ""
	for _, p := range all {
		head, rule = head+" "+p.name+" |", rule+"---|"
	}
	_, _ = fmt.Fprintf(out, "\n| body | |%s\n|---|---|%s\n", head, rule)
	var goals strings.Builder
	for _, up := range []bool{false, true} {
		for _, b := range down {
			if up && b.bytes == 0 {
				continue
			}
			for _, secure := range []bool{false, true} {
				if err := s.sizes(ctx, out, &goals, all, b, up, secure); err != nil {
					return err
				}
			}
		}
	}
	_, _ = fmt.Fprintf(out, "\n%s", goals.String())
	return nil
}

// sizes is a line of the table.
func (s *stage) sizes(ctx context.Context, out, goals io.Writer, all []*proxy, b body, up, secure bool) error {
	t, name := turn{path: fmt.Sprintf("/v1/files/f%d", b.bytes), tls: secure, conns: *conns, seconds: *seconds}, "answer of "+b.name
	if up {
		t.path, t.script, name = "/v1/files/a", fmt.Sprintf("up%d.lua", b.bytes), "upload of "+b.name
	}
	if b.bytes > 1_000_000 {
		t.conns = min(t.conns, 8)
	}
	r := records(all)
	if err := s.rounds(ctx, r, t); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	_, _ = fmt.Fprintf(out, "| %s | %s |", name, layer(secure))
	for _, p := range r {
		_, _ = fmt.Fprintf(out, " %s |", p.volume(b.bytes, r[0]))
		if p.ours && b.bytes > 1_000_000 {
			goal(goals, fmt.Sprintf("time for an %s, %s, × nginx", name, layer(secure)), r[0].rps()/p.rps(), 1/0.8)
		}
	}
	_, _ = fmt.Fprintln(out)
	return nil
}

// volume is a cell: how much came through and what a MB of it cost, or, where the
// body is so small that the request is what costs, requests a second and µs of each.
// The ratio after the times sign is the throughput's, to base.
func (r *record) volume(size int, base *record) string {
	cost, bad := median(r.costs()), ""
	if n := r.bad(); n > 0 {
		bad = fmt.Sprintf(", **%d bad**", n)
	}
	all := r.of(func(d done) float64 { return d.rps })
	if size < 10_000 {
		return fmt.Sprintf("%.0f/s ×%.2f, %.1f µs%s", r.rps(), r.rps()/base.rps(), cost, bad)
	}
	mb := float64(size) / 1e6
	return fmt.Sprintf("%.0f MB/s (%.0f – %.0f) ×%.2f, %.0f µs/MB%s", r.rps()*mb, slices.Min(all)*mb, slices.Max(all)*mb, r.rps()/base.rps(), cost/mb, bad)
}

// open makes a folder that nginx's worker, another user, may look into.
func (s *stage) open(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // see above
		return err
	}
	return os.Chmod(s.dir, 0o711) //nolint:gosec // see above
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
)

// connectionsMode measures the same request from more and more connections at once.
func connectionsMode(ctx context.Context, out io.Writer) (err error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	s, all, err := theatre(ctx, out, quiet, full)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	_, _ = fmt.Fprint(out, "\n| connections | proxy | requests/s | µs of CPU (least – most) | p50 | p99 | not 2xx | MB |\n|---|---|---|---|---|---|---|---|\n")
	for _, n := range []int{32, 256, 1024, 4096} {
		if uint64(2*n+200) > limit.Cur { // to callers and to the service
			_, _ = fmt.Fprintf(out, "| %d | left out: ulimit -n is %d | | | | | | |\n", n, limit.Cur)
			continue
		}
		r := records(all)
		long := *seconds
		if n > 1000 {
			long = max(long, 3) // opening them takes a part of it
		}
		if err := s.rounds(ctx, r, turn{path: customer, conns: n, seconds: long}); err != nil {
			return err
		}
		for _, p := range r {
			_, _ = fmt.Fprintf(out, "| %d | %s | %.0f | %s | %s | %s | %d | %d |\n", n, p.name, p.rps(), spread(p.costs()), short(p.p50()), short(p.p99()), p.bad(), p.rss())
		}
	}
	return nil
}

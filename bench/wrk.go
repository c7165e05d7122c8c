package main

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A turn is a load for wrk.
type turn struct {
	path    string
	script  string // file in the stage; "": GET
	tls     bool
	conns   int
	seconds int
}

// What a proxy did in a turn.
type done struct {
	cost     float64 // µs of the proxy's CPU a request
	rps      float64
	p50, p99 time.Duration
	bad      int // answers that were not 2xx, and what broke
	rss      int // MB, at the end of the load
}

// A record is what one proxy did in all turns of a kind.
type record struct {
	*proxy
	turns []done
}

func records(all []*proxy) (out []*record) {
	for _, p := range all {
		out = append(out, &record{proxy: p})
	}
	return out
}

// of is a figure of all turns.
func (r *record) of(pick func(done) float64) (out []float64) {
	for _, d := range r.turns {
		out = append(out, pick(d))
	}
	return out
}

func (r *record) costs() []float64 { return r.of(func(d done) float64 { return d.cost }) }
func (r *record) rps() float64     { return median(r.of(func(d done) float64 { return d.rps })) }
func (r *record) rss() int {
	return int(slices.Max(r.of(func(d done) float64 { return float64(d.rss) })))
}

func (r *record) bad() (n int) {
	for _, d := range r.turns {
		n += d.bad
	}
	return n
}

func (r *record) p50() time.Duration {
	return time.Duration(median(r.of(func(d done) float64 { return float64(d.p50) })))
}

func (r *record) p99() time.Duration {
	return time.Duration(median(r.of(func(d done) float64 { return float64(d.p99) })))
}

// customer is what a GET asks for: two query parameters, two headers with a shape.
const customer = "/v1/customers/42?fields=name,email&limit=20"

// wrk loads p and says what it cost.
func (s *stage) wrk(ctx context.Context, p *proxy, t turn) (d done, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(t.seconds+30)*time.Second)
	defer cancel()
	before, err := cpu(p.cmd.Process.Pid)
	if err != nil {
		return d, err
	}
	args := []string{"-t1", "-c" + strconv.Itoa(t.conns), "-d" + strconv.Itoa(t.seconds) + "s", "--latency", "--timeout", "10s"}
	if t.script != "" {
		args = append(args, "-s", t.script)
	}
	if p.token != "" {
		args = append(args, "-H", "Authorization: Bearer "+p.token)
	}
	args = append(args, "-H", "Accept: application/json", "-H", "User-Agent: Mozilla/5.0 (X11; Linux x86_64) bench/1.0",
		"-H", "X-Request-Id: 0123456789abcdef0123456789abcdef", p.url(t.tls, t.path))
	c := exec.CommandContext(ctx, "wrk", args...)
	c.Dir = s.dir
	o, err := c.CombinedOutput()
	if err != nil {
		return d, fmt.Errorf("wrk: %w\n%s", err, o)
	}
	d.rss = rss(p.cmd.Process.Pid)
	after, err := cpu(p.cmd.Process.Pid)
	if err != nil {
		return d, err
	}
	text := string(o)
	n, err := strconv.ParseFloat(find(text, `(\d+) requests in`), 64)
	if err != nil || n == 0 {
		return d, fmt.Errorf("wrk counted no request:\n%s", o)
	}
	d.cost = float64((after - before).Microseconds()) / n
	d.rps, _ = strconv.ParseFloat(find(text, `Requests/sec:\s+([\d.]+)`), 64)
	d.bad, _ = strconv.Atoi(find(text, `Non-2xx or 3xx responses: (\d+)`))
	for f := range strings.FieldsSeq(strings.NewReplacer("Socket errors:", "", ",", "").Replace(find(text, `(Socket errors: .*)`))) {
		n, _ := strconv.Atoi(f)
		d.bad += n
	}
	d.p50, _ = time.ParseDuration(find(text, `\n\s+50%\s+(\S+)`))
	d.p99, _ = time.ParseDuration(find(text, `\n\s+99%\s+(\S+)`))
	return d, nil
}

// rounds has each take its turn, again and again.
func (s *stage) rounds(ctx context.Context, all []*record, t turn) error {
	for round := range *rounds {
		for _, r := range all {
			d, err := s.wrk(ctx, r.proxy, t)
			if err != nil {
				return fmt.Errorf("round %d: %s: %w", round, r.name, err)
			}
			r.turns = append(r.turns, d)
		}
	}
	return nil
}

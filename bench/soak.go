package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// What is looked at while a Gatehouse soaks, by its name in the CSV. The columns
// in between say how the load went.
var soakColumns = []string{"seconds", "rss_kb", "own_kb", "goroutines", "fds", "heap_kb", "live_kb", "sent", "as_expected", "away", "wrong"}

// A soakSample is one line of the CSV, in the order of soakColumns.
type soakSample [11]float64

// What must not grow, and what a growth of may be: 2 %, or so many of them, which
// is what one moment differs from another by.
var soakFlat = []struct {
	column int
	name   string
	slack  float64
}{
	{1, "resident memory, KB", 1024},
	{2, "its own memory, KB", 1024},
	{3, "goroutines", 8},
	{4, "file descriptors", 8},
	{6, "live heap, KB", 512},
}

// soakLong is how long the second half must be for memory to be judged by it.
const soakLong = 5 * time.Minute

// soakMode has mixed traffic go through one Gatehouse for long, and says whether
// its memory, goroutines and file descriptors stay what they were.
func soakMode(ctx context.Context, out io.Writer) (err error) {
	life := time.Duration(*minutes * float64(time.Minute))
	if life < 10*time.Second {
		return errors.New("soak: at least 10 seconds (-minutes 0.2)")
	}
	ctx, cancel := context.WithTimeout(ctx, life+3*time.Minute)
	defer cancel()
	s, err := newStage(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	service, err := newSoakService()
	if err != nil {
		return err
	}
	defer service.stop()
	h := &house{
		home: filepath.Join(s.dir, "soak"), kind: full, plain: free(), tls: free(), admin: free(), service: service.port, cert: s.cert, key: s.key, idle: 20 * time.Second,
		extra: "    upstream: {idle: 5s, timeout: 5s, breaker: {failures: 5, open: 1s}}\n",
	}
	token, err := h.furnish()
	if err != nil {
		return err
	}
	conditions(ctx, out)
	config := filepath.Join(h.home, "gatehouse.yaml")
	process, err := s.start(ctx, h.plain, s.gatehouse, "serve", "--config", config, "--log-level", "error")
	if err != nil {
		return err
	}
	if err := listening(ctx, h.tls); err != nil {
		return err
	}
	l := newSoakLoad(s, h, service, token)
	defer l.close()
	look := func() (soakSample, error) { return l.sample(ctx, process.Process.Pid) }
	if err := l.once(ctx); err != nil { // all kinds work, and what is made at a first request is there
		return err
	}
	if err := l.calm(ctx); err != nil {
		return err
	}
	before, err := look()
	if err != nil {
		return err
	}

	if err := os.MkdirAll(filepath.Dir(*csvPath), 0o700); err != nil {
		return err
	}
	file, err := os.Create(*csvPath)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	rows := csv.NewWriter(file)
	if err := rows.Write(soakColumns); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "%s of %d requests/s; each line also goes to %s\n%s\n", life, *rate, *csvPath, strings.Join(soakColumns, "\t"))
	work, stop := context.WithTimeout(ctx, life)
	defer stop()
	done := make(chan struct{})
	go func() { defer close(done); l.run(work, *rate) }()
	go service.dies(work, min(47*time.Second, life/4))
	go l.reload(work, config, process.Process, min(time.Minute, life/4))
	samples, err := soakWatch(work, out, rows, look, min(10*time.Second, life/20))
	stop()
	<-done
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := service.back(); err != nil {
		return err
	}
	if err := l.calm(ctx); err != nil {
		return err
	}
	after, err := look()
	if err != nil {
		return err
	}
	return soakReport(out, l, samples, before, after)
}

// soakWatch samples until ctx ends.
func soakWatch(ctx context.Context, out io.Writer, rows *csv.Writer, look func() (soakSample, error), every time.Duration) (samples []soakSample, err error) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return samples, nil
		case <-tick.C:
		}
		x, err := look()
		if ctx.Err() != nil {
			return samples, nil
		}
		if err != nil {
			return nil, err
		}
		samples = append(samples, x)
		cells := make([]string, len(x))
		for i, v := range x {
			cells[i] = strconv.FormatFloat(v, 'f', 0, 64)
		}
		_, _ = fmt.Fprintln(out, strings.Join(cells, "\t"))
		rows.Write(cells)
		rows.Flush()
		if err := rows.Error(); err != nil {
			return nil, err
		}
	}
}

// sample reads the gateway's own metrics and what the kernel says of it.
func (l *soakLoad) sample(ctx context.Context, pid int) (x soakSample, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/metrics", l.house.admin), http.NoBody)
	if err != nil {
		return x, err
	}
	resp, err := l.admin.Do(r)
	if err != nil {
		return x, fmt.Errorf("the gateway's metrics: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return x, err
	}
	metric := func(name string) float64 {
		v, perr := strconv.ParseFloat(find(string(b), `(?m)^`+name+` (\S+)$`), 64)
		if perr != nil {
			err = errors.Join(err, fmt.Errorf("the gateway's metrics have no %s", name))
		}
		return v
	}
	resident, own := memory(pid)
	sent, good, away, wrong := l.counts()
	x = soakSample{
		time.Since(l.begun).Seconds(), float64(resident), float64(own), metric("go_goroutines"), metric("process_open_fds"),
		metric("go_memstats_heap_alloc_bytes") / 1024,
		metric("go_memstats_next_gc_bytes") / 2 / 1024, // with GOGC=100 the next collection comes at twice what lived at the last
		float64(sent), float64(good), float64(away), float64(wrong),
	}
	return x, err
}

// soakReport prints what was asked and whether anything grew; that it did, or that
// an answer was not the one expected, is an error.
func soakReport(out io.Writer, l *soakLoad, samples []soakSample, before, after soakSample) error {
	_, _ = fmt.Fprint(out, "\n| asked | times | as expected | while the service was away | wrong |\n|---|---|---|---|---|\n")
	var faults []error
	for _, k := range l.kinds {
		k.mu.Lock()
		_, _ = fmt.Fprintf(out, "| %s | %d | %d | %d | %d |\n", k.name, k.sent, k.good, k.away, k.wrong)
		if k.wrong > 0 {
			faults = append(faults, fmt.Errorf("%s: %d wrong answers, the first: %s", k.name, k.wrong, k.first))
		}
		if k.good == 0 {
			faults = append(faults, fmt.Errorf("%s: none was answered as expected", k.name))
		}
		k.mu.Unlock()
	}
	_, _ = fmt.Fprintf(out, "\nThe service died %d times, %d reloads were made, %d requests were left out because too many were under way.\n", l.service.deaths.Load(), l.reloads.Load(), l.skipped.Load())
	if l.service.deaths.Load() == 0 || l.reloads.Load() == 0 {
		faults = append(faults, errors.New("the service has not died, or no config was reloaded: what was soaked is not what is said"))
	}
	second := samples[len(samples)/2:]
	if len(second) < 4 {
		return errors.Join(append(faults, errors.New("too few samples to judge by"))...)
	}
	_, _ = fmt.Fprintf(out, "\n| second half: %.0f s, %d samples | least – most | median | growth by slope | |\n|---|---|---|---|---|\n", second[len(second)-1][0]-second[0][0], len(second))
	for _, f := range soakFlat {
		var x, y []float64
		for _, s := range second {
			x, y = append(x, s[0]), append(y, s[f.column])
		}
		growth := slope(x, y) * (x[len(x)-1] - x[0])
		share, word := 100*growth/median(y), "flat"
		switch {
		case share < 2 || growth <= f.slack:
		case f.column < 3 && x[len(x)-1]-x[0] < soakLong.Seconds():
			word = "too short to say: a config read or a collection is a tooth of a saw"
		default:
			word = "**GROWS**"
			faults = append(faults, fmt.Errorf("%s grew by %.1f %%", f.name, share))
		}
		_, _ = fmt.Fprintf(out, "| %s | %.0f – %.0f | %.0f | %+.1f (%+.2f %%) | %s |\n", f.name, slices.Min(y), slices.Max(y), median(y), growth, share, word)
	}
	_, _ = fmt.Fprint(out, "\n| at rest | before | after |\n|---|---|---|\n")
	for _, f := range soakFlat {
		_, _ = fmt.Fprintf(out, "| %s | %.0f | %.0f |\n", f.name, before[f.column], after[f.column])
		if (f.column == 3 || f.column == 4) && after[f.column] > before[f.column]+f.slack {
			faults = append(faults, fmt.Errorf("%s at rest: %.0f before, %.0f after", f.name, before[f.column], after[f.column]))
		}
	}
	if len(faults) > 0 {
		_, _ = fmt.Fprintln(out, "\nVerdict: **failed**.")
		return errors.Join(faults...)
	}
	_, _ = fmt.Fprintln(out, "\nVerdict: flat; every answer as expected.")
	return nil
}

// slope is the median of the slopes between any two points (Theil and Sen): a few
// samples taken just before a collection do not move it.
func slope(x, y []float64) float64 {
	var all []float64
	for i := range x {
		for j := range i {
			if d := x[i] - x[j]; d > 0 && !math.IsNaN(y[i]-y[j]) {
				all = append(all, (y[i]-y[j])/d)
			}
		}
	}
	return median(all)
}

// reload has the gateway take another config again and again, by its watch over the
// files and by SIGHUP in turn.
func (l *soakLoad) reload(ctx context.Context, config string, process *os.Process, every time.Duration) {
	first, err := os.ReadFile(config)
	if err != nil {
		return
	}
	for n := 1; wait(ctx, every) == nil; n++ {
		if err := write(l.house.home, "gatehouse.yaml", fmt.Sprintf("%s# %d\n", first, n)); err != nil {
			return
		}
		if n%2 == 0 && process.Signal(syscall.SIGHUP) != nil {
			return
		}
		l.reloads.Add(1)
	}
}

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// What the attacks mode holds a gateway to while it is attacked.
const (
	attackSuccess = 0.95 // of the requests of those who do nothing wrong
	attackTail    = 5    // times their p99 in calm
	goodCallers   = 24
	goodTimeout   = 5 * time.Second
)

// attacksMode has callers who do nothing wrong go on at a constant rate while one
// attack after the other runs from other addresses, and says how they fared.
func attacksMode(ctx context.Context, out io.Writer) (err error) {
	s, err := newStage(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	conditions(ctx, out)
	if err := s.serve(ctx); err != nil {
		return err
	}
	rate := min(*rate, 200)
	_, _ = fmt.Fprintf(out, "\n%d callers at 127.0.1.x ask %d times a second in all, each with a token, over TLS; every tenth request makes a connection of its own. Each attack takes %d s. A wait of %s is a failure.\n\n",
		goodCallers, rate, *seconds, goodTimeout)
	_, _ = fmt.Fprintf(out, "| attack | made | good callers served | p50 | p99 | × calm | most memory | |\n|---|---|---|---|---|---|---|---|\n")
	var faults []error
	for _, a := range attacks() {
		if *attackName != "" && a.name != *attackName {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		line, fault, err := s.attacked(ctx, a, rate)
		if err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
		_, _ = fmt.Fprintln(out, line)
		if fault != nil {
			faults = append(faults, fmt.Errorf("%s: %w", a.name, fault))
		}
	}
	_, _ = fmt.Fprintf(out, "\nload average after: %s\n", loadAverage())
	return errors.Join(faults...)
}

// attacked runs one attack against a Gatehouse of its own: what an attack has left
// behind, such as a ban, is not the next one's.
func (s *stage) attacked(ctx context.Context, a attack, rate int) (line string, fault, err error) {
	h := &house{
		home: filepath.Join(s.dir, strings.ReplaceAll(a.name, " ", "-")), kind: full, plain: free(), tls: free(), admin: free(), service: s.service, cert: s.cert, key: s.key,
		idle: time.Minute, limits: "{}", each: "rate: 50/s, burst: 100",
		top: "ddos: {allow: [192.0.2.0/24]}\n", // by default this machine's own addresses are not counted
	}
	token, err := h.furnish()
	if err != nil {
		return "", nil, err
	}
	process, err := s.start(ctx, h.plain, s.gatehouse, "serve", "--config", filepath.Join(h.home, "gatehouse.yaml"), "--log-level", "error")
	if err != nil {
		return "", nil, err
	}
	defer s.end(process)
	if err := listening(ctx, h.tls); err != nil {
		return "", nil, err
	}
	g := newGoodLoad(s, h, token)
	defer g.close()
	life := time.Duration(*seconds) * time.Second
	g.run(ctx, rate, time.Second) // connections are made, caches are filled
	calm := g.run(ctx, rate, max(3*time.Second, life/3))
	peak := atomic.Int64{}
	watching, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	all.Go(func() {
		for wait(watching, 100*time.Millisecond) == nil {
			peak.Store(max(peak.Load(), int64(rss(process.Process.Pid))))
		}
	})
	attacking, end := context.WithTimeout(ctx, life+500*time.Millisecond)
	made := make(chan string, 1)
	go func() { made <- s.attack(attacking, a, h) }()
	_ = wait(ctx, 500*time.Millisecond)
	under := g.run(ctx, rate, life)
	end()
	what := <-made
	stop()
	all.Wait()
	verdict := "holds"
	switch {
	case calm.served() < 1:
		fault = fmt.Errorf("in calm only %.1f %% were served: %s", 100*calm.served(), calm.first)
	case under.served() < attackSuccess:
		fault = fmt.Errorf("%.1f %% were served: %s", 100*under.served(), under.first)
	case under.at(0.99) > attackTail*calm.at(0.99):
		fault = fmt.Errorf("p99 %s after %s", short(under.at(0.99)), short(calm.at(0.99)))
	}
	if fault != nil {
		verdict = "**missed**"
	}
	return fmt.Sprintf("| %s | %s | %.2f %% | %s | %s | %.1f | %d MB | %s |", a.name, what, 100*under.served(), short(under.at(0.5)), short(under.at(0.99)),
		float64(under.at(0.99))/float64(calm.at(0.99)), peak.Load(), verdict), fault, nil
}

// attack runs a in processes of the lowest priority: in the world attackers bring
// machines of their own, and do not take the gateway's.
func (s *stage) attack(ctx context.Context, a attack, h *house) string {
	if a.tool != nil {
		name, args := a.tool(h)
		return tool(ctx, a.report, name, args...)
	}
	self, err := os.Executable()
	if err != nil {
		return err.Error()
	}
	return tool(ctx, `.+`, self, "attacker", "-attack", a.name, "-seconds", strconv.Itoa(*seconds), "-to", strconv.Itoa(h.plain), "-tls", strconv.Itoa(h.tls))
}

// attackerMode is one attack of ours, in a process of its own.
func attackerMode(ctx context.Context, out io.Writer) error {
	i := slices.IndexFunc(attacks(), func(a attack) bool { return a.name == *attackName && a.make != nil })
	plain, err := strconv.Atoi(*target)
	if i < 0 || err != nil {
		return fmt.Errorf("no attack %q at %q", *attackName, *target)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(*seconds)*time.Second)
	defer cancel()
	_, err = fmt.Fprintln(out, attacks()[i].make(ctx, plain, *tlsPort))
	return err
}

// A goodLoad is callers at addresses of their own who do nothing wrong.
type goodLoad struct {
	url, token string
	kept, anew []*http.Client // by caller
}

func newGoodLoad(s *stage, h *house, token string) *goodLoad {
	g := &goodLoad{url: fmt.Sprintf("https://localhost:%d%s", h.tls, customer), token: token}
	for i := range goodCallers {
		d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i))}, Timeout: goodTimeout}
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "tcp4", fmt.Sprintf("127.0.0.1:%d", h.tls))
		}
		client := func(keep bool) *http.Client {
			conf := s.tls()
			conf.ClientSessionCache = tls.NewLRUClientSessionCache(4)
			return &http.Client{Timeout: goodTimeout, Transport: &http.Transport{DialContext: dial, TLSClientConfig: conf, DisableKeepAlives: !keep, MaxIdleConnsPerHost: 8}}
		}
		g.kept, g.anew = append(g.kept, client(true)), append(g.anew, client(false))
	}
	return g
}

func (g *goodLoad) close() {
	for _, c := range g.kept {
		c.CloseIdleConnections()
	}
}

// A fare is how they fared.
type fare struct {
	waits []time.Duration // of those served, sorted
	asked int
	first string // that went wrong
}

func (f *fare) served() float64 { return float64(len(f.waits)) / float64(max(1, f.asked)) }

func (f *fare) at(share float64) time.Duration {
	if len(f.waits) == 0 {
		return goodTimeout
	}
	return f.waits[min(len(f.waits)-1, int(share*float64(len(f.waits))))]
}

// run asks at a constant rate for so long, whether or not those before were answered.
func (g *goodLoad) run(ctx context.Context, rate int, life time.Duration) *fare {
	f := &fare{}
	var mu sync.Mutex
	var all sync.WaitGroup
	begun := time.Now()
	for n := range int(life.Seconds() * float64(rate)) {
		due := begun.Add(time.Duration(n) * time.Second / time.Duration(rate))
		if wait(ctx, time.Until(due)) != nil {
			break
		}
		all.Go(func() {
			c := g.kept[n%goodCallers]
			if n%10 == 0 {
				c = g.anew[n%goodCallers]
			}
			err := g.ask(ctx, c)
			took := time.Since(due)
			mu.Lock()
			defer mu.Unlock()
			if f.asked++; err == nil {
				f.waits = append(f.waits, took)
			} else if f.first == "" {
				f.first = err.Error()
			}
		})
	}
	all.Wait()
	slices.Sort(f.waits)
	return f
}

func (g *goodLoad) ask(ctx context.Context, c *http.Client) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, g.url, http.NoBody)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+g.token)
	r.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) bench/1.0")
	resp, err := c.Do(r)
	if err != nil {
		if os.IsTimeout(err) {
			return errors.New("no answer in time")
		}
		return err
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%d %.120s", resp.StatusCode, b)
	}
	return err
}

package cost

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/plan"
	"github.com/gatehouse-api/gatehouse/internal/posture/attack"
)

const maxConnections = 1024

// A Config says what to measure.
type Config struct {
	File      string // the gateway's config; "" for the sample
	Operation string // of it: api.operation, or the operation alone

	Rounds      int           // how often everything takes a turn
	Turn        time.Duration // how long one takes
	Connections int           // of the load, at most 1,024

	Peers   []Peer
	Agent   string                           // User-Agent where a peer is asked for a proof
	Ask     func(target, word string)        // tells the owner of a peer elsewhere which word it must answer; may be nil
	Wait    time.Duration                    // for that
	Version string                           // of the program, for the report
	Service string                           // host:port for the service, so that a peer can stand before it; "": any port
	Report  func(what string, done, all int) // which turn has begun, and of how many; all is 0 before the first; may be nil

	// Child makes the process of a part, which calls [Service] with address, or [Load].
	Child func(ctx context.Context, part, address string) *exec.Cmd
}

// A Peer is another proxy that gets the same load.
type Peer struct {
	URL   string
	PID   int    // of its process, whose children count, too; 0: its CPU is not measured
	Roots []byte // PEM of the CAs to trust beside the system's
}

// ErrBounds is an error of [Config]'s numbers.
var ErrBounds = errors.New("is out of bounds")

// A line is one request, and what was seen of it at each gateway.
type line struct {
	id, name, method string
	request          []byte
	status           int
	broken           bool // down into its checks
	at               []*series
}

// gates is at how many gateways l is measured. A body that nobody checks is passed
// on as a stream, which costs more than to check a small one: the last check is not
// left out then, or the others would pay for it.
func (l *line) gates() int {
	switch {
	case !l.broken:
		return 1
	case bytes.HasSuffix(l.request, []byte("\r\n\r\n")):
		return len(checks) + 1
	}
	return len(checks)
}

// A stand is a peer on its way through the rounds.
type stand struct {
	Peer

	order order
	line  *line
	seen  series
}

// Run measures.
func Run(ctx context.Context, cfg Config) (_ *Report, err error) {
	began := time.Now()
	switch {
	case cfg.Rounds < 1 || cfg.Rounds > 1000:
		return nil, fmt.Errorf("%d rounds %w: expected 1 to 1000", cfg.Rounds, ErrBounds)
	case cfg.Turn < 10*time.Millisecond || cfg.Turn > 10*time.Minute:
		return nil, fmt.Errorf("a turn of %s %w: expected 10ms to 10m", cfg.Turn, ErrBounds)
	case cfg.Connections < 1 || cfg.Connections > maxConnections:
		return nil, fmt.Errorf("%d connections %w: expected 1 to %d", cfg.Connections, ErrBounds, maxConnections)
	}
	service := cfg.Service
	if service == "" {
		service = "127.0.0.1:0"
	}
	if at, err := netip.ParseAddrPort(service); err != nil || !at.Addr().IsLoopback() {
		return nil, fmt.Errorf("the service's address %s %w: expected one of this machine alone, like 127.0.0.1:9001", service, ErrBounds)
	}
	if cfg.Report == nil {
		cfg.Report = func(string, int, int) {}
	}
	where, err := peers(ctx, &cfg)
	if err != nil {
		return nil, err
	}
	cfg.Report("getting ready", 0, 0)
	dir, err := os.MkdirTemp("", "gatehouse-bench-")
	if err != nil {
		return nil, err
	}
	g := &rig{dir: dir, path: cfg.File}
	defer func() { err = errors.Join(err, g.end()) }()
	load, at, end, err := children(ctx, cfg.Child, service)
	if err != nil {
		return nil, err
	}
	g.service = at
	g.close = append(g.close, end)
	lines, subject, err := g.prepare(ctx, &cfg)
	if err != nil {
		return nil, err
	}
	m := &measurement{cfg: &cfg, g: g, load: load, lines: lines, stands: stands(&cfg, where, lines)}
	alone, err := m.run(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	r := &Report{
		Version: cfg.Version, System: system(), CPUs: runtime.NumCPU(), Subject: subject, Service: at, Rounds: cfg.Rounds, Turn: cfg.Turn.Seconds(), Connections: cfg.Connections,
	}
	for _, l := range lines {
		r.Lines = append(r.Lines, l.report())
		if l.broken {
			r.Breakdowns = append(r.Breakdowns, l.breakdown(alone[l]))
		}
	}
	for _, s := range m.stands {
		r.Peers = append(r.Peers, s.report())
	}
	r.Seconds = round(time.Since(began).Seconds(), 1)
	return r, nil
}

// prepare builds the gateways and finds what to send.
func (g *rig) prepare(ctx context.Context, cfg *Config) (lines []*line, subject string, err error) {
	if cfg.File == "" {
		g.sample, g.api = true, "customers"
		if g.path, err = writeSample(g.dir); err != nil {
			return nil, "", err
		}
		if err := newRig(ctx, g); err != nil {
			return nil, "", err
		}
		lines, err = sampleLines(g)
		return lines, "the sample: two operations of a busy API", err
	}
	if g.tested, err = plan.Outline(cfg.File); err != nil {
		return nil, "", err
	}
	e, err := g.tested.Effective(cfg.Operation)
	if err != nil {
		return nil, "", err
	}
	g.api, _, _ = strings.Cut(e.Operation, ".")
	if err := newRig(ctx, g); err != nil {
		return nil, "", err
	}
	lines, err = g.operationLines(ctx, e.Operation)
	return lines, e.Operation + " of " + cfg.File, err
}

// A measurement takes turns.
type measurement struct {
	cfg    *Config
	g      *rig
	load   *child
	lines  []*line
	stands []*stand

	done, all int // turns
}

// run warms up, measures each check alone, and then lets everything take turns:
// forwards in one round, backwards in the next, so that what drifts hits all alike.
func (m *measurement) run(ctx context.Context) (map[*line]map[string]*Alone, error) {
	walks := map[*line]*walk{}
	for _, l := range m.lines {
		if l.broken {
			w, err := newWalk(ctx, m.g, l) // says why, where it is refused
			if err != nil {
				return nil, err
			}
			walks[l] = w
		}
	}
	var turns []func() error
	for _, l := range m.lines {
		for i := range l.gates() {
			l.at = append(l.at, &series{})
			turns = append(turns, func() error { return m.turn(l, i, m.cfg.Turn, true) })
			if err := m.turn(l, i, warm(m.cfg.Turn), false); err != nil {
				return nil, err
			}
		}
	}
	for _, s := range m.stands {
		turns = append(turns, func() error { return m.visit(s, m.cfg.Turn, true) })
		if err := m.visit(s, warm(m.cfg.Turn), false); err != nil {
			return nil, err
		}
	}
	alone := map[*line]map[string]*Alone{}
	for l, w := range walks {
		m.cfg.Report("each check alone", 0, 0)
		var err error
		if alone[l], err = w.alone(ctx); err != nil {
			return nil, err
		}
	}
	m.all = len(turns) * m.cfg.Rounds
	for r := range m.cfg.Rounds {
		for i := range turns {
			if r%2 == 1 {
				i = len(turns) - 1 - i
			}
			if err := turns[i](); err != nil {
				return nil, err
			}
		}
	}
	return alone, nil
}

// warm is how long something runs before it counts.
func warm(turn time.Duration) time.Duration { return min(turn, 150*time.Millisecond) }

// turn loads one gateway with one line.
func (m *measurement) turn(l *line, gate int, long time.Duration, counts bool) error {
	what := l.name
	if gate > 0 {
		what += ", without " + checks[gate-1].name
	}
	m.progress(what, counts)
	o := order{Address: m.g.gates[gate], Request: l.request, Method: l.method, Connections: m.cfg.Connections, For: long}
	before, err := spentNow()
	if err != nil {
		return err
	}
	t, err := m.load.ask(&o)
	if err != nil {
		return err
	}
	after, err := spentNow()
	if err != nil {
		return err
	}
	if !counts && l.status == 429 { // it begins with one that is not refused
		t.Statuses = map[int]int{429: t.Requests}
	}
	if err := t.only(l.status); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if counts {
		l.at[gate].add(&t, spent{after.cpu - before.cpu, after.pieces - before.pieces, after.bytes - before.bytes})
	}
	return nil
}

func (m *measurement) progress(what string, counts bool) {
	if counts {
		m.done++
	}
	m.cfg.Report(what, m.done, m.all)
}

// visit loads a peer.
func (m *measurement) visit(s *stand, long time.Duration, counts bool) error {
	m.progress(s.line.name+", "+s.URL, counts)
	o := s.order
	o.For = long
	var used spent
	var before, after time.Duration
	var err error
	if s.PID != 0 {
		if before, err = cpuOf(s.PID); err != nil {
			return fmt.Errorf("%s: its process: %w", s.URL, err)
		}
	}
	t, err := m.load.ask(&o)
	if err != nil {
		return err
	}
	if s.PID != 0 {
		if after, err = cpuOf(s.PID); err != nil {
			return fmt.Errorf("%s: its process: %w", s.URL, err)
		}
		used.cpu = after - before
	}
	if t.Err != "" || t.Requests == 0 {
		return fmt.Errorf("%s: %w: %s", s.URL, attack.ErrNoAnswer, t.Err)
	}
	if counts {
		s.seen.add(&t, used)
	}
	return nil
}

func (s *stand) report() PeerLine {
	p := PeerLine{
		URL: s.URL, Line: s.line.id, PerSecond: round(median(s.seen.rate), 0), P50: round(median(s.seen.p50), 0), P99: round(median(s.seen.p99), 0),
		Requests: s.seen.requests, Other: s.seen.other,
	}
	if s.PID != 0 {
		f := figure(s.seen.cpu)
		p.CPU = &f
		if f.Median > 0 {
			p.Times = round(median(s.line.at[0].cpu)/f.Median, 2)
		}
	}
	return p
}

// peers finds out whose they are, before anything else.
func peers(ctx context.Context, cfg *Config) ([]netip.AddrPort, error) {
	var out []netip.AddrPort
	for _, p := range cfg.Peers {
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool()
		}
		roots.AppendCertsFromPEM(p.Roots)
		at, err := attack.Own(ctx, p.URL, cfg.Agent, roots, cfg.Ask, cfg.Wait)
		if err != nil {
			return nil, err
		}
		if p.PID != 0 {
			if _, err := cpuOf(p.PID); err != nil {
				return nil, fmt.Errorf("the process %d of %s: %w", p.PID, p.URL, err)
			}
		}
		out = append(out, at)
	}
	return out, nil
}

// stands gives each peer each line that is broken down.
func stands(cfg *Config, at []netip.AddrPort, lines []*line) (out []*stand) {
	for i, p := range cfg.Peers {
		u, err := url.Parse(p.URL)
		if err != nil {
			continue // it has been parsed before
		}
		for _, l := range lines {
			if !l.broken {
				continue
			}
			s := &stand{Peer: p, line: l, order: order{Address: at[i].String(), Request: readdressed(l.request, u), Method: l.method, Connections: cfg.Connections, Roots: p.Roots}}
			if u.Scheme == "https" {
				s.order.TLS = u.Hostname()
			}
			out = append(out, s)
		}
	}
	return out
}

// readdressed is request for u: with its host, and with its path where it has one.
func readdressed(request []byte, u *url.URL) []byte {
	head, body, _ := strings.Cut(string(request), "\r\n\r\n")
	rows := strings.Split(head, "\r\n")
	if words := strings.Split(rows[0], " "); u.Path != "" && u.Path != "/" && len(words) == 3 {
		rows[0] = words[0] + " " + u.RequestURI() + " " + words[2]
	}
	for i, row := range rows[1:] {
		if strings.HasPrefix(row, "Host: ") {
			rows[i+1] = "Host: " + u.Host
		}
	}
	return []byte(strings.Join(rows, "\r\n") + "\r\n\r\n" + body)
}

package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/auditlog"
	"github.com/gatehouse-api/gatehouse/internal/config"
	"github.com/gatehouse-api/gatehouse/internal/fleet"
	"github.com/gatehouse-api/gatehouse/internal/gateway"
	"github.com/gatehouse-api/gatehouse/internal/http1"
	"github.com/gatehouse-api/gatehouse/internal/pki"
	"github.com/gatehouse-api/gatehouse/internal/plan"
	"github.com/gatehouse-api/gatehouse/internal/store"
)

// Options say what to run.
type Options struct {
	Config  string        // path of gatehouse.yaml
	Node    string        // name of this gateway in events; "": the host's
	Version string        // shown in /healthz
	Log     *slog.Logger  // required
	Out     io.Writer     // where people read how to reach it; nil: nowhere
	Ready   func([]Bound) // called once every listener accepts; may be nil

	memory *store.SharedMemory // where nodes of one process are a fleet; nil: elsewhere

	// Supervisor is told what becomes of the gateway in the words of sd_notify(3);
	// may be nil. Watchdog is how often it wants to hear that all is well, 0: never.
	Supervisor func(state string)
	Watchdog   time.Duration
}

// A Bound is a listener and the address it really has.
type Bound struct {
	URL   string // https://127.0.0.1:8443
	Trust string // shell command that reaches it trusting only its own CA; "" when not self-made
	CA    string // PEM file callers must trust; "" when not self-made
}

// Run serves until ctx ends, then lets requests under way finish. A config that
// does not load, or whose own tests fail, is an error here and only a refusal
// at a reload.
func Run(ctx context.Context, o Options) (err error) {
	reread, stop := hup() // from the start: until somebody listens, the signal ends the program
	defer stop()
	from, first, refused, err := firstPlan(ctx, &o)
	if err != nil {
		return err
	}
	if o.Node == "" {
		if o.Node, err = os.Hostname(); err != nil {
			return fmt.Errorf("the name of this host: %w; give one with --node", err)
		}
	}
	// What is under way when ctx ends still needs the house.
	h, err := openHouse(context.WithoutCancel(ctx), first.File, store.SharedConfig{Node: o.Node, Log: o.Log, Memory: o.memory})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	if from.Pushed() {
		c, err := fleet.OpenConfigs(ctx, fleetKeys(first.File, h.db, h.changes))
		if err != nil {
			return err
		}
		from.Use(c)
	}
	r := &runner{House: h, o: o, hup: reread, from: from, plan: first, started: time.Now(), token: first.File.Admin.Token}
	if err := r.begin(ctx, refused); err != nil {
		return err
	}
	return r.run(ctx)
}

// runner is a running gateway.
type runner struct {
	*House

	o       Options
	started time.Time
	token   *config.Secret // of the admin listener
	hup     <-chan os.Signal
	from    *plan.Source // touched by one goroutine at a time: the start, then watch
	servers []*http1.Server
	ending  atomic.Bool // traffic shall go elsewhere

	mu       sync.Mutex
	plan     *plan.Plan // at work
	lastErr  error      // of the last reload; nil when it was taken
	lastTime time.Time
}

func (r *runner) run(ctx context.Context) error {
	serving, stop := context.WithCancel(ctx)
	defer stop()
	bound, serve, err := r.listen(serving)
	if err != nil {
		return err
	}
	failed := make(chan error, len(serve))
	var done sync.WaitGroup
	for _, s := range serve {
		done.Go(func() {
			if err := s(); err != nil {
				failed <- err
			}
		})
	}
	r.announce(bound)
	defer r.openKernel(serving, bound)()
	r.tell("READY=1")
	drain := r.plan.File.Drain // before anybody may put another plan there
	done.Go(func() { r.watch(serving) })
	done.Go(func() { r.beat(serving) })
	done.Go(func() { r.from.Look(serving, r.db, r.refused) })
	select {
	case <-ctx.Done():
		r.tell("STOPPING=1")
		r.ending.Store(true)
		if drain.Delay > 0 {
			r.log.Info("stopping: not ready from now on, and serving those who have not seen it", slog.Duration("for", drain.Delay))
			select {
			case <-time.After(drain.Delay):
			case err = <-failed:
			}
		}
		r.log.Info("stopping: requests under way may finish", slog.Duration("within", drain.Within))
	case err = <-failed:
	}
	stop()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain.Within)
	defer cancel()
	for _, s := range r.servers {
		if shut := s.Shutdown(grace); shut != nil {
			err = errors.Join(err, shut, s.Close())
		}
	}
	done.Wait()
	return err
}

// tell tells the supervisor.
func (r *runner) tell(state string) {
	if r.o.Supervisor != nil {
		r.o.Supervisor(state)
	}
}

// beat keeps the supervisor's watchdog quiet for as long as this process can still
// take a config: one that hangs with its lock held is ended and started anew.
func (r *runner) beat(ctx context.Context) {
	if r.o.Watchdog <= 0 {
		return
	}
	t := time.NewTicker(r.o.Watchdog)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			r.mu.Lock()
			r.mu.Unlock() // to have had it is all
			r.tell("WATCHDOG=1")
		}
	}
}

// take puts a plan to work: wired, recorded, swapped in.
func (r *runner) take(ctx context.Context, p *plan.Plan) error {
	w, err := r.wire(p)
	if err != nil {
		return err
	}
	// A config in force that nobody can find in the record must not exist.
	_, revision := r.from.Revisions()
	by := map[bool]string{false: "file", true: "fleet"}[revision > 0]
	if err := r.changes.Append(ctx, auditlog.Change{Actor: by, Action: "config.take", Object: p.Digest}); err != nil {
		r.drop(w)
		return err
	}
	r.meter.Configure(p.Digest, p.Operations())
	r.guard.Configure(p.Guard())
	r.describe(fleet.Facts{Version: r.o.Version, Config: p.Digest, Revision: revision})
	p.Snapshot.KeepEdges(r.gate.Current())
	if old := r.gate.Swap(p.Snapshot); old != nil {
		release(old)
	}
	r.settle(w)          // not before: a config that is refused must not cost the one at work its issuers' keys
	debug.FreeOSMemory() // loading leaves ten times as much as is kept
	return nil
}

// reload tries the config again. Whatever is wrong with it, what is at work
// goes on.
func (r *runner) reload(ctx context.Context) {
	r.mu.Lock()
	at := r.plan
	r.mu.Unlock()
	p, err := r.from.Load(ctx, at)
	r.mu.Lock()
	defer r.mu.Unlock()
	taken, loaded := r.from.Revisions()
	if err == nil && p.Digest == r.plan.Digest && p.File.Behind() == r.plan.File.Behind() && r.lastErr == nil && taken == loaded {
		return // touched, not changed
	}
	if err == nil {
		if text := r.plan.File.Fixed(p.File); text != "" {
			r.log.Warn("some settings take effect at the next start only", slog.String("settings", text))
		}
		err = r.take(ctx, p)
	}
	r.lastErr, r.lastTime = err, time.Now()
	r.meter.Reloaded(err == nil)
	if err != nil {
		r.refuse(err)
		r.log.Error("the config was refused; the one before stays at work", slog.Any("error", err))
		return
	}
	r.plan = p
	if err := r.from.Keep(); err != nil {
		r.log.Error("should this node start while the database's config is refused, it will be with an older one", slog.Any("error", err))
	}
	r.log.Info("the config is at work", slog.String("digest", p.Digest[:12]), slog.Int("operations", len(p.Snapshot.Routes)))
}

// listen opens every listener before any of them serves.
func (r *runner) listen(ctx context.Context) (bound []Bound, serve []func() error, err error) {
	var open []net.Listener
	defer func() {
		if err != nil {
			for _, l := range open {
				_ = l.Close()
			}
		}
	}()
	f := r.plan.File
	for i := range f.Listeners {
		l := &f.Listeners[i]
		conf, ca, err := r.tls(ctx, l)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: listeners: %s: %w", l.Place, l.Address, err)
		}
		trust, err := gateway.NewTrust(prefixes(l.TrustedHops), l.ForwardedHeader)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", l.Place, err)
		}
		nl, err := (&net.ListenConfig{}).Listen(ctx, "tcp", l.Address)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", l.Place, err)
		}
		open = append(open, nl)
		entry := r.gate.On(trust)
		if l.Edge != nil {
			entry = r.gate.OnEdge(plan.EdgeName(l))
		}
		bounds := frontBounds(l)
		bounds.Trusted, bounds.From, bounds.Refuse, bounds.OnRefuse, bounds.Log = entry.Trusts, entry.From, entry.Refuse(conf != nil), entry.Refused, r.log
		bounds.Proxy = announcers(l)
		front := http1.NewServer(bounds, entry)
		r.servers = append(r.servers, front)
		serve = append(serve, served(front, nl, conf))
		b := Bound{URL: "http://" + nl.Addr().String()}
		if conf != nil {
			b.URL = "https://" + nl.Addr().String()
		}
		if ca != nil {
			_, port, _ := net.SplitHostPort(nl.Addr().String()) // the config may say 0
			b.Trust, b.CA = ca.TrustLine("https://"+net.JoinHostPort(l.TLS.Self[0], port)+"/"), ca.TrustPath()
		}
		bound = append(bound, b)
	}
	nl, err := (&net.ListenConfig{}).Listen(ctx, "tcp", f.Admin.Address)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: admin: %w", f.Admin.Place, err)
	}
	open = append(open, nl)
	var conf *tls.Config
	if f.Admin.TLS != nil {
		source, _, err := r.source(ctx, f.Admin.TLS)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: admin: %w", f.Admin.Place, err)
		}
		if conf, err = pki.ServerConfig(source, pki.Clients{Mode: pki.ClientsOff}); err != nil {
			return nil, nil, fmt.Errorf("%s: admin: %w", f.Admin.Place, err)
		}
	}
	admin := http1.NewServer(http1.Config{MaxConns: 256, Log: r.log}, r.admin())
	r.servers = append(r.servers, admin)
	serve = append(serve, served(admin, nl, conf))
	return bound, serve, nil
}

// frontBounds is what a caller of l can occupy.
func frontBounds(l *config.Listener) http1.Config {
	return http1.Config{
		MaxConns: l.Limits.Connections, MaxConnsPerAddress: l.Limits.ConnectionsPerAddress, MaxHandshakes: l.Limits.Handshakes, HandshakeTimeout: l.Timeouts.Shake,
		HeadTimeout: l.Timeouts.Head, IdleTimeout: l.Timeouts.Idle, BodyIdle: l.Timeouts.BodyIdle, MinBodyRate: int(l.Limits.BodyRate), WriteIdle: l.Timeouts.TakeIdle,
		MaxHeadBytes: int(l.Limits.HeaderBytes), MaxStreams: l.Limits.Streams, MaxResets: l.Limits.Resets, MaxOverhead: l.Limits.Overhead,
	}
}

func served(s *http1.Server, l net.Listener, conf *tls.Config) func() error {
	return func() error {
		if err := s.Serve(l, conf); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("listener %s: %w", l.Addr(), err)
		}
		return nil
	}
}

// announcers tells who speaks the PROXY protocol to l; nil: nobody does.
func announcers(l *config.Listener) func(netip.Addr) bool {
	if l.ProxyProtocol == nil {
		return nil
	}
	return func(a netip.Addr) bool {
		return slices.ContainsFunc(l.ProxyProtocol.From, func(p netip.Prefix) bool { return p.Contains(a) })
	}
}

func prefixes(in []netip.Prefix) (out []string) {
	for _, p := range in {
		out = append(out, p.String())
	}
	return out
}

// tls makes the TLS settings of a listener, and gives our CA where it signs them; nil where plaintext was written out.
func (r *runner) tls(ctx context.Context, l *config.Listener) (*tls.Config, *pki.CA, error) {
	if l.TLS == nil {
		return nil, nil, nil
	}
	source, ca, err := r.source(ctx, l.TLS)
	if err != nil {
		return nil, nil, err
	}
	clients := pki.Clients{Mode: pki.ClientsOff}
	if c := l.ClientCertificates; c != nil {
		clients.Mode = pki.ClientMode(c.Mode)
		if c.CA != nil {
			if clients.Pool, err = pki.ReadPool(c.CA.Value); err != nil {
				return nil, nil, err
			}
		}
	}
	if e := l.Edge; e != nil && e.ClientCertificate != nil {
		clients.Mode = pki.ClientsRequired
		if clients.Pool, err = pki.ReadPool(e.ClientCertificate.CA.Value); err != nil {
			return nil, nil, err
		}
	}
	conf, err := pki.ServerConfig(source, clients)
	return conf, ca, err
}

func (r *runner) source(ctx context.Context, t *config.TLS) (pki.Source, *pki.CA, error) {
	if t.Certificate != nil {
		files, err := pki.LoadFiles(t.Certificate.Value, t.Key.Value)
		if err != nil {
			return nil, nil, err
		}
		r.workers.Go(func() {
			files.Run(ctx, func(err error) {
				if err != nil {
					r.log.Error("the certificate could not be renewed; the one before stays in use", slog.Any("error", err))
				} else {
					r.log.Info("a new certificate is in use", slog.Time("expires", files.Expires()))
				}
			})
		})
		return files, nil, nil
	}
	ca, err := pki.LocalCA(filepath.Join(r.plan.File.Data.Value, "ca"), t.Self)
	if err != nil {
		return nil, nil, err
	}
	self, err := ca.Server(t.Self)
	return self, ca, err
}

func (r *runner) announce(bound []Bound) {
	for _, b := range bound {
		r.log.Info("listening", slog.String("url", b.URL))
		if r.o.Out != nil {
			_, _ = fmt.Fprintf(r.o.Out, "listening on %s\n", b.URL)
			if b.Trust != "" {
				_, _ = fmt.Fprintf(r.o.Out, "  trust it with: %s\n", b.Trust)
			}
		}
	}
	if r.o.Ready != nil {
		r.o.Ready(bound)
	}
}

// hup is the classic way to say "read your config again".
func hup() (<-chan os.Signal, func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c, func() { signal.Stop(c) }
}

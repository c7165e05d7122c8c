package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	gatehouse "github.com/gatehouse-api/gatehouse"
)

// SharedConfig says where a fleet keeps what it shares for a short time.
type SharedConfig struct {
	URL     gatehouse.Secret // of Valkey or Redis, as [SharedURLForm] says; "": a memory of this process
	CA      string           // PEM file of who signs the servers' certificates; "": the system's
	Prefix  string           // of all keys and channels; "": gatehouse:
	Node    string           // the name of this node
	Timeout time.Duration    // of one call; 0: 250 ms
	Log     *slog.Logger     // nil: none

	// Memory is for tests: handles with the same one are nodes of one fleet, in one process.
	Memory *SharedMemory
}

const (
	defaultPrefix  = "gatehouse:"
	defaultTimeout = 250 * time.Millisecond

	beatEvery = time.Second
	nodeLife  = 5 * beatEvery // a node that was silent for so long is gone

	maxMessage  = 64 << 10             // bytes of a message, and of a node's facts
	maxSchedule = 45 * 24 * time.Hour  // Burst × Interval: nanoseconds stay exact in the engine's numbers
	maxMark     = 366 * 24 * time.Hour // life of a mark
)

// ErrAway tells that the shared engine cannot be asked now. What it wraps says why.
var ErrAway = errors.New("store: the shared engine is away")

// An engine keeps what is shared. Every method ends when its context does.
type engine interface { //nolint:interfacebloat // two engines, in this package
	once(ctx context.Context, space string, id markID, ttl time.Duration) (bool, error)
	take(ctx context.Context, asks []Ask, out []Grant) error
	lead(ctx context.Context, name, holder string, ttl time.Duration) (bool, int64, error) // ttl 0: resign
	publish(ctx context.Context, topic string, message []byte) error
	listen(ctx context.Context, topic string, to *mailbox) error                          // until ctx ends or messages may be missed
	beat(ctx context.Context, id string, up time.Duration, about []byte) ([]pulse, error) // about nil: leave
	err() error
	close() error
}

// markID is what is kept of a mark's key: strangers choose keys, at any length.
type markID [16]byte

// A pulse is a heartbeat as the engine has it, in microseconds of its own clock.
type pulse struct {
	id            string
	started, seen int64
	about         []byte
}

// Shared is what the nodes of a fleet share for a short time: marks, budgets,
// leases, messages. It is safe for concurrent use. Every call ends within
// [SharedConfig].Timeout, with an error when the engine has not answered by then;
// what to do without it is the caller's to decide, and it is never "let through".
type Shared struct {
	engine  engine
	remote  bool
	node    string
	id      string // of this process: a node that was started again is another holder
	timeout time.Duration
	started time.Time
	log     *slog.Logger
	ctx     context.Context //nolint:containedctx // the life of its own goroutines
	stop    context.CancelFunc
	workers sync.WaitGroup
	count   atomic.Int64
	told    chan struct{}

	mu     sync.Mutex
	closed bool
	facts  map[string]string
	leads  map[string]bool // names held, to be given up by Close
}

// OpenShared opens the engine. A server that cannot be reached is no error: it is
// looked for in the background, and until it answers every call fails with
// [ErrAway]. One that refuses us, or is not who it should be, is.
func OpenShared(ctx context.Context, cfg SharedConfig) (*Shared, error) {
	if cfg.Prefix == "" {
		cfg.Prefix = defaultPrefix
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Shared{
		node: cfg.Node, id: rand.Text(), timeout: cfg.Timeout, started: time.Now(), log: cfg.Log,
		told: make(chan struct{}, 1), leads: map[string]bool{}, remote: true,
	}
	s.count.Store(1)
	switch {
	case !cfg.URL.Empty():
		r, err := openServers(ctx, cfg)
		if err != nil {
			return nil, err
		}
		s.engine = r
	case cfg.Memory != nil:
		s.engine = cfg.Memory
	default:
		s.engine, s.remote = &SharedMemory{}, false
	}
	s.ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	if s.remote {
		s.workers.Go(s.live)
	}
	return s, nil
}

// Close gives up the leases held here, signs off, ends the subscriptions and
// closes the connections.
func (s *Shared) Close() error {
	s.mu.Lock()
	done, names := s.closed, slices.Sorted(maps.Keys(s.leads))
	s.closed = true
	s.mu.Unlock()
	if done {
		return nil
	}
	s.stop()
	s.workers.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	for _, name := range names { // in vain when the engine is away: then they run out
		_, _, _ = s.engine.lead(ctx, name, s.id, 0)
	}
	if s.remote {
		_, _ = s.engine.beat(ctx, s.id, 0, nil)
	}
	return s.engine.close()
}

// Remote reports whether other nodes may share the engine. When not, it is the
// memory of this process, and never away.
func (s *Shared) Remote() bool { return s.remote }

// Err is why the engine, or a part of it, is away now; nil: it answers.
func (s *Shared) Err() error { return s.engine.err() }

// begin gives a call its time, unless it is over already.
func (s *Shared) begin(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if s.ctx.Err() != nil {
		return nil, nil, errClosed
	}
	if ctx.Err() != nil {
		return nil, nil, fmt.Errorf("store: shared: %w", context.Cause(ctx))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.timeout, ErrAway) // only then the engine is to blame
	return ctx, cancel, nil
}

// Once marks key in space for ttl and reports whether it was the first to do so,
// of all nodes. After an error it may be marked or not: who asks again may be told
// that it was used. Keys may be of any length, only a digest of them is kept.
func (s *Shared) Once(ctx context.Context, space, key string, ttl time.Duration) (first bool, err error) {
	if err := name("space", space); err != nil {
		return false, err
	}
	if ttl <= 0 || ttl > maxMark {
		return false, fmt.Errorf("store: a mark for %s: want more than nothing and at most %s", ttl, maxMark)
	}
	sum := sha256.Sum256([]byte(space + "\x00" + key))
	ctx, cancel, err := s.begin(ctx)
	if err != nil {
		return false, err
	}
	defer cancel()
	return s.engine.once(ctx, space, markID(sum[:16]), ttl)
}

// An Ask is for tokens of one key. The schedule of a key is one moment at the
// engine, its theoretical arrival time (GCRA, ITU-T I.371): what is granted moves
// it ahead, so that grants alone never exceed the limit.
type Ask struct {
	Key      [16]byte      // a digest of what is limited: evenly spread
	Interval time.Duration // in which one token comes back
	Burst    int64         // tokens at once; at least 1. Burst × Interval is at most 45 days.
	Want     int64         // tokens wanted now: all of them or fewer; 0: none
	Whole    bool          // Want or nothing
	// Back are unspent tokens of grants before, returned; Held is how long the oldest
	// of them was held: what came back by itself meanwhile does not come back twice.
	Back int64
	Held time.Duration
	// Spent are tokens spent without a grant, while the engine was away. They are
	// charged, up to one more burst of debt.
	Spent int64
	// Ahead is what the asker knows of the schedule: that it is at least so far
	// ahead. An engine that has forgotten learns it again, from many nodes once.
	Ahead time.Duration
}

// A Grant answers an Ask.
type Grant struct {
	Tokens int64         // granted
	Left   int64         // at the engine after this
	Retry  time.Duration // until one more is there, or Want when all of it was refused as a whole; 0: now
	Reset  time.Duration // until the whole burst is back
	Err    error         // why this key could not be asked about (its server is away): Tokens is 0
}

// Take asks for tokens of many keys in one call, and answers in the order of asks;
// out is used when it is large enough. The error is of all of them; when only some
// keys could not be asked about, their grants say so. After an error tokens may
// have been taken, given back or charged, or not: Back and Spent must not be sent
// again.
func (s *Shared) Take(ctx context.Context, asks []Ask, out []Grant) ([]Grant, error) {
	out = slices.Grow(out[:0], len(asks))[:len(asks)]
	clear(out)
	for i := range asks {
		if err := asks[i].check(); err != nil {
			return nil, fmt.Errorf("store: ask %d: %w", i, err)
		}
	}
	if len(asks) == 0 {
		return out, nil
	}
	ctx, cancel, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	if err := s.engine.take(ctx, asks, out); err != nil {
		return nil, err
	}
	return out, nil
}

func (a *Ask) check() error {
	switch {
	case a.Interval <= 0 || a.Burst < 1 || a.Burst > int64(maxSchedule/a.Interval):
		return fmt.Errorf("a burst of %d at one in %s: want at least 1, and all back within %s", a.Burst, a.Interval, maxSchedule)
	case a.Want < 0 || a.Back < 0 || a.Spent < 0 || a.Held < 0:
		return errors.New("a number below 0")
	}
	return nil
}

// Lead tries to be, or to stay, the one holder of name for ttl from now. Fence
// grows with every change of holder, also when this process has lost the lease and
// got it again. Who holds it asks again well before ttl is over, counted from
// before the last call that said so, and stops when that time has come.
func (s *Shared) Lead(ctx context.Context, lease string, ttl time.Duration) (held bool, fence int64, err error) {
	if err := name("lease", lease); err != nil {
		return false, 0, err
	}
	if ttl < time.Millisecond || ttl > 24*time.Hour {
		return false, 0, fmt.Errorf("store: a lease for %s: want 1ms to 24h", ttl)
	}
	s.mu.Lock()
	s.leads[lease] = true // before: after an error it may be ours
	s.mu.Unlock()
	ctx, cancel, err := s.begin(ctx)
	if err != nil {
		return false, 0, err
	}
	defer cancel()
	return s.engine.lead(ctx, lease, s.id, ttl)
}

// Resign gives up a lease, so that the next need not wait for its end.
func (s *Shared) Resign(ctx context.Context, lease string) error {
	if err := name("lease", lease); err != nil {
		return err
	}
	ctx, cancel, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	if _, _, err := s.engine.lead(ctx, lease, s.id, 0); err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.leads, lease)
	s.mu.Unlock()
	return nil
}

// A Node is a member of the fleet.
type Node struct {
	Name    string
	ID      string // of its process: two of one name are two processes
	Self    bool
	Started time.Time // both by the engine's clock
	Seen    time.Time
	Facts   map[string]string
}

// about is what a heartbeat carries.
type about struct {
	Name  string            `json:"name"`
	Facts map[string]string `json:"facts,omitempty"`
}

// Nodes lists who has a heartbeat, itself too, by name.
func (s *Shared) Nodes(ctx context.Context) ([]Node, error) {
	s.mu.Lock()
	doc, err := json.Marshal(about{s.node, s.facts})
	s.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	ctx, cancel, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	pulses, err := s.engine.beat(ctx, s.id, time.Since(s.started), doc)
	if err != nil {
		return nil, err
	}
	out := make([]Node, 0, len(pulses))
	for _, p := range pulses {
		var is about
		if json.Unmarshal(p.about, &is) != nil {
			continue // of a version to come
		}
		out = append(out, Node{Name: is.Name, ID: p.id, Self: p.id == s.id, Started: time.UnixMicro(p.started), Seen: time.UnixMicro(p.seen), Facts: is.Facts})
	}
	slices.SortFunc(out, func(a, b Node) int { return strings.Compare(a.Name+"\x00"+a.ID, b.Name+"\x00"+b.ID) })
	s.count.Store(int64(max(1, len(out))))
	return out, nil
}

// Count is the number of nodes, kept up to date without asking: at least 1, and
// while the engine is away as many as there last were.
func (s *Shared) Count() int { return int(s.count.Load()) }

// Tell sets what this node's heartbeat carries, 64 KiB at most.
func (s *Shared) Tell(facts map[string]string) error {
	facts = maps.Clone(facts)
	doc, err := json.Marshal(facts)
	if err != nil || len(doc) > maxMessage {
		return fmt.Errorf("store: facts of %d bytes: at most %d", len(doc), maxMessage)
	}
	s.mu.Lock()
	s.facts = facts
	s.mu.Unlock()
	select {
	case s.told <- struct{}{}:
	default:
	}
	return nil
}

// live beats, and says once when the engine goes and when it comes back.
func (s *Shared) live() {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	away := false
	for {
		_, err := s.Nodes(s.ctx)
		switch {
		case s.ctx.Err() != nil:
			return
		case err != nil && !away:
			s.log.Error("the shared engine is away", slog.Any("error", err))
		case err == nil && away:
			s.log.Info("the shared engine is back")
		}
		away = err != nil
		again := tick.C
		if away {
			again = time.After(s.timeout)
		}
		select {
		case <-s.ctx.Done():
			return
		case <-again:
		case <-s.told:
		}
	}
}

var errClosed = errors.New("store: shared: closed")

// name refuses what has no place in a key.
func name(what, s string) error {
	if s == "" || len(s) > 128 || strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '.' && r != '-' && r != '_'
	}) {
		return fmt.Errorf("store: %s %q: want 1 to 128 of a-z 0-9 . - _", what, s)
	}
	return nil
}

// advance is GCRA: what the ask gets, and the backlog (of microseconds, from now to
// the theoretical arrival time) before and after. takeScript says the same in Lua.
// Rounding is never in favour of who asks; a backlog beyond two bursts comes from a
// clock that was set back, and is cut.
func (a *Ask) advance(backlog int64) (Grant, int64) {
	t := int64(a.Interval)
	whole := micros(a.Burst * t)
	backlog = min(max(backlog, min(int64(a.Ahead/time.Microsecond), whole), 0), 2*whole)
	backlog = min(backlog+micros(min(a.Spent, 2*a.Burst)*t), 2*whole)
	if back := min(a.Back, a.Burst)*t/1000 - int64(a.Held/time.Microsecond); back > 0 {
		backlog = max(0, backlog-back)
	}
	left := func() int64 { return min(a.Burst, max(0, whole-backlog)*1000/t) }
	n, need := min(a.Want, left()), int64(1)
	if a.Whole && n < a.Want {
		n, need = 0, min(a.Want, a.Burst)
	}
	backlog += micros(n * t)
	return Grant{
		Tokens: n,
		Left:   left(),
		Retry:  time.Duration(max(0, backlog+micros(need*t)-whole)) * time.Microsecond,
		Reset:  time.Duration(backlog) * time.Microsecond,
	}, backlog
}

// micros are nanoseconds as whole microseconds, rounded up.
func micros(ns int64) int64 { return (ns + 999) / 1000 }

// hexKey spreads a key over 256 hash tags: a Cluster keeps what has the same one
// together, so that one script may serve it, and the tags in many places.
func hexKey(prefix, kind string, id [16]byte) string {
	s := hex.EncodeToString(id[:])
	return prefix + kind + "{" + s[:2] + "}" + s[2:]
}

// millis is d in whole milliseconds, rounded up.
func millis(d time.Duration) int64 { return int64(math.Ceil(float64(d) / float64(time.Millisecond))) }

package ddos

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// A Mode says what becomes of what the guard finds out by itself.
type Mode uint8

// The modes. Bans and rules of the operator hold in all but Off.
const (
	Enforce Mode = iota // the zero Mode
	Report              // who would have been refused is in the record
	Off                 // nothing is counted, nobody is refused
)

// String is the word of the config.
func (m Mode) String() string {
	switch m {
	case Report:
		return "report"
	case Off:
		return "off"
	case Enforce:
	}
	return "enforce"
}

// ModeOf reads a word of the config; what is none enforces.
func ModeOf(word string) Mode {
	for _, m := range []Mode{Report, Off} {
		if m.String() == word {
			return m
		}
	}
	return Enforce
}

// Settings are what a config says to the guard. They may change while it works.
type Settings struct {
	Mode        Mode
	UnderAttack bool           // everyone without credentials is challenged, thresholds are a fourth
	Allow       []netip.Prefix // of whom nothing is ever refused or counted
	Thresholds  Thresholds
	HalfLife    time.Duration // in which what a source did is half forgotten; 2 min
	FirstBan    time.Duration // each further one is four times as long; 1 min
	LongestBan  time.Duration // 24 h
	Difficulty  int           // of a challenge, in bits; 16
	PassLife    time.Duration // of a solved one; 10 min
	Networks    NetworkRules
}

// Thresholds are what one address may do in a second before it stands out. A network
// may do a few times as much. Zero means the number beside it.
type Thresholds struct {
	Requests    float64       // without valid credentials; 200
	Refused     float64       // 400, 401, 403, 404, 429 and their like; 20
	Cost        time.Duration // processor time of looking through content; 300 ms
	Connections float64       // 50
	Handshakes  float64       // of TLS; 30
}

func (s *Settings) withDefaults() Settings {
	out := *s
	span := func(d *time.Duration, to time.Duration) {
		if *d <= 0 {
			*d = to
		}
	}
	number := func(n *float64, to float64) {
		if !(*n > 0) {
			*n = to
		}
	}
	number(&out.Thresholds.Requests, 200)
	number(&out.Thresholds.Refused, 20)
	span(&out.Thresholds.Cost, 300*time.Millisecond)
	number(&out.Thresholds.Connections, 50)
	number(&out.Thresholds.Handshakes, 30)
	span(&out.HalfLife, 2*time.Minute)
	span(&out.FirstBan, time.Minute)
	span(&out.LongestBan, 24*time.Hour)
	out.LongestBan = max(out.LongestBan, out.FirstBan)
	span(&out.PassLife, 10*time.Minute)
	if out.Difficulty <= 0 {
		out.Difficulty = 16
	}
	return out
}

func (t *Thresholds) list() counts {
	return counts{
		countRequests: t.Requests, countRefused: t.Refused, countCost: float64(t.Cost.Milliseconds()),
		countConns: t.Connections, countShakes: t.Handshakes,
	}
}

// A GuardConfig is what a guard works with for as long as it lives.
type GuardConfig struct {
	Key []byte // of challenges, the same on all nodes; at least 32 bytes
}

// A Guard knows who takes more than others, and what is to be done about it. Its
// methods may be called by many at once. What it counts is memory of a fixed size,
// and is lost with the process; bans are kept by a [Book].
type Guard struct {
	cfg    GuardConfig
	state  atomic.Pointer[state]
	census *census
	good   *Known   // sources of requests with valid credentials
	rest   *Service // what is asked for and is no API's
	tally  tally

	mu       sync.Mutex // guards what follows, and who replaces state
	ladder   ladder
	services map[string]*Service
}

// state is what a look-up needs; read-only.
type state struct {
	settings Settings
	allow    *set
	book     *set // bans of the operator
	fleet    *set // of other nodes
	imported *set // of others
	ladder   *set
	rules    *rules
	attack   bool     // settings or switch, or found out
	attacked []string // APIs of which it was found out
	switched bool     // by the operator, until it is switched off
	bits     int      // of challenges now
	quiet    bool     // nothing stands against anybody
	floors   [countKinds]uint32
}

// window is over which a source's rates are taken.
const window = 10 * time.Second

// NewGuard makes a guard that lets everyone pass until it has counted; Configure it,
// and call Tick, or Run, for it to see anything.
func NewGuard(cfg GuardConfig) (*Guard, error) {
	if len(cfg.Key) < 32 {
		return nil, errors.New("ddos: the key of challenges has fewer than 32 bytes")
	}
	g := &Guard{cfg: cfg, census: newCensus(window), good: newKnown(goodSets, goodFor), rest: newService()}
	g.ladder.rungs = map[source]*rung{}
	g.state.Store(new(state).complete())
	return g, nil
}

// complete works out what follows from the rest.
func (s *state) complete() *state {
	s.settings = s.settings.withDefaults()
	s.attack = s.attack || s.switched || s.settings.UnderAttack
	if s.settings.Mode == Off {
		s.attack, s.attacked, s.book, s.fleet, s.imported, s.ladder, s.rules = false, nil, nil, nil, nil, nil, nil
	}
	s.quiet = !s.attack && s.attacked == nil && s.book == nil && s.fleet == nil && s.imported == nil && s.ladder == nil && s.rules == nil
	s.bits = min(mostBits, s.settings.Difficulty+boolInt(s.attack)*2)
	list := s.settings.Thresholds.list()
	for i := range s.floors { // a fourth of what stands out under attack
		s.floors[i] = uint32(max(1, quarters*list[i]*window.Seconds()/16))
	}
	return s
}

// Configure puts new settings to work; what was counted and who is banned stays.
func (g *Guard) Configure(s Settings) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s.Mode == Off {
		clear(g.ladder.rungs)
		g.ladder.set = nil
	}
	g.put(s, setOf(s.Allow, &ruling{step: Pass}), s.Networks.compile())
}

// renew puts what the ladder says now before requests; g.mu is held.
func (g *Guard) renew() {
	s := g.state.Load()
	g.put(s.settings, s.allow, s.rules)
}

func (g *Guard) put(settings Settings, allow *set, r *rules) {
	l := &g.ladder
	s := &state{
		settings: settings, allow: allow, book: l.book, fleet: l.fleet, imported: l.imported, ladder: l.set, rules: r, switched: l.switched, attack: l.attack, attacked: l.attacked,
	}
	g.state.Store(s.complete())
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Switch puts all callers without credentials to the challenge, or stops it: the
// operator's word, beside that of the config and what the guard finds out.
func (g *Guard) Switch(on bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ladder.switched != on {
		g.ladder.switched = on
		g.renew()
	}
}

// A Verdict is what stands about an address now. The zero Verdict denies.
type Verdict struct {
	Step   Step
	Report bool          // it would, but the mode is report
	Until  time.Duration // until a Ban ends; 0: it has no end
	Why    Why

	bucket *buckets
}

// Why says whose word a [Verdict] is.
type Why uint8

// The origins.
const (
	WhyNobody  Why = iota
	WhyBan         // of the operator
	WhyList        // imported
	WhyLadder      // found out, here or by another node
	WhyNetwork     // a rule about lists, ASNs, countries
	WhyAttack      // everyone is challenged, or everyone who asks for the same
)

// Admit tells what stands about an address at a request for no API.
func (g *Guard) Admit(a netip.Addr, now time.Time) Verdict { return g.AdmitTo(nil, a, now) }

// AdmitTo tells what stands about an address at a request for an API; nil: for none.
// Where nothing stands about anybody it is one load.
func (g *Guard) AdmitTo(to *Service, a netip.Addr, now time.Time) Verdict {
	s := g.state.Load()
	if s.quiet {
		return Verdict{Step: Pass}
	}
	if to == nil {
		to = g.rest
	}
	return s.about(a, now, s.attack || s.attacked != nil && to.attack.Load(), false)
}

// about looks a up: everybody may be challenged, and at accept only what holds there
// counts.
func (s *state) about(a netip.Addr, now time.Time, everybody, accept bool) Verdict {
	hi, v4, ok := split(a)
	if !ok {
		return Verdict{Step: Pass} // not over IP: this very machine
	}
	ms := now.UnixMilli()
	if s.allow.of(hi, v4, ms, false) != nil {
		return Verdict{Step: Pass}
	}
	out := Verdict{Step: Pass}
	take := func(r *ruling, why Why) {
		if r == nil || r.step >= out.Step {
			return
		}
		out = Verdict{Step: r.step, Why: why, bucket: r.bucket}
		if r.until > 0 {
			out.Until = time.Duration(r.until-ms) * time.Millisecond
		}
	}
	take(s.book.of(hi, v4, ms, accept), WhyBan)
	if s.settings.Mode == Enforce {
		take(s.imported.of(hi, v4, ms, accept), WhyList)
		take(s.fleet.of(hi, v4, ms, accept), WhyLadder)
		take(s.ladder.of(hi, v4, ms, accept), WhyLadder)
	}
	if s.rules != nil && out.Step > Deny {
		step, allowed := s.rules.step(a)
		switch {
		case allowed && out.Why != WhyBan: // a ban the operator gave is meant, too
			return Verdict{Step: Pass, Why: WhyNetwork}
		case step < out.Step && (!accept || step == Deny):
			out = Verdict{Step: step, Why: WhyNetwork}
		}
	}
	if out.Step > Challenge && everybody && !accept {
		out = Verdict{Step: Challenge, Why: WhyAttack, Report: s.settings.Mode == Report && !s.switched && !s.settings.UnderAttack}
	}
	if out.Step >= Watch && s.settings.Mode == Report {
		before := out.Step
		take(s.imported.of(hi, v4, ms, accept), WhyList)
		take(s.ladder.of(hi, v4, ms, accept), WhyLadder)
		out.Report = out.Report || out.Step < before
	}
	return out
}

// Arrive counts a connection from a, which costs a handshake or not, and reports
// whether it may stay. Who speaks for many callers, such as a trusted hop, is not
// asked about.
func (g *Guard) Arrive(a netip.Addr, shake bool, now time.Time) bool {
	s := g.state.Load()
	if !s.quiet {
		if v := s.about(a, now, false, true); v.Step <= Ban && !v.Report {
			g.tally.refused[v.Step].Add(1)
			return false // and is not counted: it costs little, and its ban must come to an end
		}
	}
	if s.settings.Mode != Off {
		g.count(s, a, added{countConns: quarters, countShakes: uint32(quarters * boolInt(shake))})
	}
	return true
}

// An Outcome is what a request came to.
type Outcome struct {
	For     *Service      // which it was for; nil: none
	Proven  bool          // its caller has valid credentials
	Refused bool          // by us or the service: 400, 401, 403, 404, 429 and their like
	Cost    time.Duration // of processor time, beyond the ordinary
	Shed    bool          // it was refused because the service has no room
	Times   uint32        // how many requests it stands for; 0: one
}

// Observe counts a request that is over. Proven callers are the limits' business:
// one good request vouches for its address for a while, and none counts against it.
func (g *Guard) Observe(a netip.Addr, o Outcome, now time.Time) {
	s := g.state.Load()
	if s.settings.Mode == Off {
		return
	}
	to := o.For
	if to == nil {
		to = g.rest
	}
	hi, _, _ := split(a)
	to.total(hi, o.Refused)
	if o.Shed {
		to.shed.Add(1)
	}
	if o.Proven {
		if !o.Refused {
			g.vouch(a, now)
		}
		return
	}
	weight := to.weight.Load()
	n := added{countRequests: max(1, o.Times) * weight, countCost: uint32(min(max(0, o.Cost.Milliseconds()), 60_000)) * weight}
	if o.Refused {
		n[countRefused] = n[countRequests]
	}
	g.count(s, a, n)
}

// added is what one request or connection adds to the numbers of its source, in
// quarters.
type added [countKinds]uint32

// count adds to all networks of a.
func (g *Guard) count(s *state, a netip.Addr, n added) {
	if s.allow.has(a) {
		return
	}
	k := g.census.now.Load()
	list, levels := sources(a)
	for _, of := range list[:levels] {
		h := g.census.hash(of)
		for kind, more := range n {
			if more > 0 && k.add(h, kind, more) >= s.floors[kind] {
				g.census.note(of, h)
			}
		}
	}
}

// Totals are kept in several places, so that processors do not wait for one another.
const totalStripes = 16

type totalStripe struct {
	requests, refused atomic.Uint64
	_                 [112]byte
}

// A tally is for the metrics.
type tally struct {
	refused [Watch + 1]atomic.Uint64 // by step
	solved  atomic.Uint64            // requests with a pass
	full    atomic.Uint64            // sources the ladder had no room for
	caps    atomic.Uint64            // connections refused because there were too many
}

// NoRoom tells that a connection was refused because there were too many.
func (g *Guard) NoRoom() { g.tally.caps.Add(1) }

// Figures are what there is to see of a guard.
type Figures struct {
	Mode     Mode
	Attack   bool              // everyone without credentials is challenged
	Attacked []string          // who has none and asks for one of these APIs is; "": for none
	Switched bool              // by the operator
	Pressure float64           // 0 to 1, of the node or the API that is shortest of room
	Sources  map[string]int    // on the ladder, by step
	Bans     int               // of the operator and the fleet
	Imported int               // of others
	Refused  map[string]uint64 // connections and requests, by step
	Solved   uint64            // requests that came with a solved challenge
	Overflow uint64            // sources there was no room for
}

// Figures tells how things stand.
func (g *Guard) Figures() Figures {
	s := g.state.Load()
	f := Figures{
		Mode: s.settings.Mode, Attack: s.attack, Attacked: s.attacked, Switched: s.switched || s.settings.UnderAttack, Sources: map[string]int{}, Refused: map[string]uint64{},
		Solved: g.tally.solved.Load(), Overflow: g.tally.full.Load(),
	}
	for step := Deny; step <= Challenge; step++ {
		f.Refused[step.String()] = g.tally.refused[step].Load()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	f.Pressure = max(g.ladder.pressure, g.ladder.shortest)
	for _, l := range []*set{g.ladder.book, g.ladder.fleet} {
		if l != nil {
			f.Bans += l.n
		}
	}
	if l := g.ladder.imported; l != nil {
		f.Imported = l.n
	}
	for _, step := range []Step{Ban, Throttle, Challenge, Watch} {
		f.Sources[step.String()] = 0
	}
	for _, r := range g.ladder.rungs {
		f.Sources[r.step.String()]++
	}
	delete(f.Sources, Pass.String())
	return f
}

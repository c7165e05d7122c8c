package ddos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/gatehouse-api/gatehouse"
)

// A Priority is what an operation is worth when there is no room for all. The zero
// Priority goes first.
type Priority uint8

// The priorities.
const (
	Sheddable Priority = iota
	Default
	Critical
)

var priorityNames = [...]string{Sheddable: "sheddable", Default: "default", Critical: "critical"}

// ParsePriority reads sheddable, default or critical; "" is default.
func ParsePriority(s string) (Priority, error) {
	if s == "" {
		return Default, nil
	}
	for p, name := range priorityNames {
		if s == name {
			return Priority(p), nil
		}
	}
	return Sheddable, fmt.Errorf("priority %q is none of sheddable, default, critical", s)
}

// A Claim is what is known of who calls. The zero Claim goes first.
type Claim uint8

// The standings.
const (
	Anonymous Claim = iota
	Newcomer        // authenticated
	Regular         // authenticated, and [Known]
)

var standingNames = [...]string{Anonymous: "anonymous", Newcomer: "new", Regular: "known"}

// A Request is what a [Capacity] needs to know of one.
type Request struct {
	Who      Who
	Priority Priority
	Claim    Claim
	// Streamed says that the caller sends while the service reads: how long that
	// takes is the caller's doing and tells nothing about the service.
	Streamed bool
}

// ranks is the order in which classes are served. Neither an operation's worth nor a
// caller's standing is all: a flood of nobodies at a critical operation, the sign-in
// say, must not push out known callers at any other.
var ranks = [...][3]int{
	Sheddable: {Anonymous: 0, Newcomer: 1, Regular: 3},
	Default:   {Anonymous: 2, Newcomer: 4, Regular: 7},
	Critical:  {Anonymous: 5, Newcomer: 6, Regular: 8},
}

const levels = 9

func (r *Request) level() int { return ranks[min(r.Priority, Critical)][min(r.Claim, Regular)] }

// unit is what r adds to a [places].
func (r *Request) unit() uint64 {
	u := uint64(1)
	if r.Priority != Critical {
		u |= 1 << plainShift
	}
	if r.Claim != Regular {
		u |= 1 << strangeShift
	}
	return u
}

// CapacityConfig sizes a [Capacity]. What is 0 gets the default.
type CapacityConfig struct {
	Ceiling int           // requests at once, bodies and streams of answers included; 1000
	Min     int           // the limit of requests waiting for the head of their answer is never below; 8
	Max     int           // nor above; the ceiling
	Initial int           // and begins at; 64
	Line    int           // requests waiting for room; none if 0
	Wait    time.Duration // for how long; 1 s

	Reserve bool   // a fifth is kept for critical operations
	Known   *Known // who is; nil: nobody, and nothing is kept for them

	// Late tells how late goroutines of ours ran since the last call: of a measured
	// latency that much is our own fault. nil: what the runtime says.
	Late func() time.Duration
}

// A Capacity finds out how many requests one service can take at once, and lets no
// more to it. Its methods may be called by many at once; as long as there is room
// none waits for another, and nothing is allocated.
type Capacity struct {
	cfg   CapacityConfig
	start time.Time

	waits  places        // who waits for the head of an answer
	open   places        // and those whose answer is still under way
	limit  atomic.Uint64 // what waits may be: see caps
	most   atomic.Uint64 // what open may be
	queued atomic.Int64  // in the line
	crowd  atomic.Bool   // more than one caller was there in the last window
	_      [64]byte

	held [heldPlaces]atomic.Uint64 // by caller: open in the upper half, waiting for a head in the lower

	pace pace
	line line
	shed [len(priorityNames)][len(standingNames)]atomic.Uint64
}

// heldPlaces: two callers in one place are taken for one. Which two nobody outside
// can know.
const (
	heldPlaces = 4096
	heldOpen   = 1 << 32
)

// NewCapacity makes one that knows nothing of the service yet.
func NewCapacity(cfg CapacityConfig) (*Capacity, error) {
	cfg.Ceiling = cmp.Or(cfg.Ceiling, 1000)
	cfg.Max = cmp.Or(cfg.Max, cfg.Ceiling)
	cfg.Min = cmp.Or(cfg.Min, min(8, cfg.Max))
	cfg.Initial = cmp.Or(cfg.Initial, max(cfg.Min, min(64, cfg.Max)))
	cfg.Wait = cmp.Or(cfg.Wait, time.Second)
	if cfg.Min < 1 || cfg.Initial < cfg.Min || cfg.Max < cfg.Initial || cfg.Ceiling < cfg.Max || cfg.Ceiling > maxCount || cfg.Line < 0 || cfg.Wait < 0 {
		return nil, fmt.Errorf("ddos: capacity: min %d, initial %d, max %d and the ceiling %d must be in this order, between 1 and %d",
			cfg.Min, cfg.Initial, cfg.Max, cfg.Ceiling, maxCount)
	}
	if cfg.Late == nil {
		cfg.Late = newLateness()
	}
	c := &Capacity{cfg: cfg, start: time.Now()}
	c.pace.init(&c.cfg)
	c.crowd.Store(true)
	c.setLimit(cfg.Initial, false)
	return c, nil
}

// A Token is the room one request has. The zero Token has none, and its methods do
// nothing. It is not to be copied once [Token.Heard] was called.
type Token struct {
	in      *Capacity
	unit    uint64
	who     Who
	waiting bool // counted among those who wait for a head
	timed   bool // its latency tells something
}

// Acquire gives r room, at once or after waiting in line. Its error is the problem
// overloaded, or ctx's error if that ends first.
func (c *Capacity) Acquire(ctx context.Context, r Request) (Token, error) {
	if c.queued.Load() == 0 && c.enter(&r) {
		return c.token(&r), nil
	}
	return c.wait(ctx, &r)
}

// enter places r if there is room for it.
func (c *Capacity) enter(r *Request) bool {
	unit, place := r.unit(), &c.held[r.Who%heldPlaces]
	most := c.most.Load()
	before, ok := c.open.add(unit, most)
	if !ok {
		return false
	}
	limit := c.limit.Load()
	waits, ok := c.waits.add(unit, limit)
	if ok && r.Who != 0 {
		held, crowd := place.Load(), c.crowd.Load()
		ok = !hogs(held/heldOpen, total(before), total(most), crowd) && !hogs(held%heldOpen, total(waits), total(limit), crowd)
		if !ok {
			c.waits.sub(unit)
		}
	}
	if !ok {
		c.open.sub(unit)
		return false
	}
	if r.Streamed {
		c.waits.sub(unit)
		place.Add(heldOpen)
	} else {
		place.Add(heldOpen + 1)
	}
	return true
}

// hogs reports that a caller who holds half of all that is permitted wants of the
// last quarter too: that is left to the others. Where nobody else was seen lately the
// others' part is small, but there, so that they can be seen.
func hogs(held, busy, permitted uint64, crowd bool) bool {
	left := permitted / 16
	if crowd {
		left = permitted / 4
	}
	return permitted >= 8 && busy+max(left, 1) >= permitted && held*2 >= permitted
}

func (c *Capacity) token(r *Request) Token {
	return Token{in: c, unit: r.unit(), who: r.Who, waiting: !r.Streamed, timed: !r.Streamed}
}

// Heard is what a service did with a request, as far as it tells of its load.
type Heard uint8

// The outcomes. The zero Heard tells nothing.
const (
	Untold   Heard = iota // the caller left, or what went wrong was not the service's
	Answered              // with whatever status but one that says it has too much to do
	Dropped               // no answer in time, none at all, or one that says so
)

// Heard says what the service did, and how long after the request it was. From then
// on the request, whose answer may be a stream without end, takes no room among
// those the service works at. Only the first call places.
func (t *Token) Heard(o Heard, took time.Duration) {
	if t.in == nil || !t.waiting && !t.timed && o != Dropped {
		return
	}
	c := t.in
	if t.waiting {
		busy := total(c.waits.sub(t.unit)) + 1
		c.held[t.who%heldPlaces].Add(^uint64(0))
		t.waiting = false
		if busy > c.pace.peak.Load() {
			c.pace.peak.Store(busy)
		}
	}
	if o == Answered && t.timed || o == Dropped {
		c.note(t.who, o, took)
	}
	t.timed = false
	if c.queued.Load() > 0 {
		c.next()
	}
}

// Release gives the room back. It may be called again.
func (t *Token) Release() {
	c := t.in
	if c == nil {
		return
	}
	if t.waiting {
		c.waits.sub(t.unit)
		c.held[t.who%heldPlaces].Add(^uint64(0))
	}
	c.open.sub(t.unit)
	c.held[t.who%heldPlaces].Add(^uint64(heldOpen - 1))
	*t = Token{}
	if c.queued.Load() > 0 {
		c.next()
	}
}

// InFlight is how many requests are under way, their answers' bodies included.
func (c *Capacity) InFlight() int { return int(total(c.open.Load())) }

// A CapacityStatus is how a [Capacity] stands.
type CapacityStatus struct {
	InFlight int           // requests under way
	Waiting  int           // for room
	Limit    int           // of requests waiting for the head of their answer
	Floor    time.Duration // to the head of an answer while the service is at ease; 0: not known yet
	Latency  time.Duration // and lately
	Shed     []ShedCount   // the classes of which some were refused
}

// A ShedCount tells how many requests of one class were refused.
type ShedCount struct {
	Priority string // sheddable, default, critical
	Claim    string // anonymous, new, known
	Requests uint64
}

// Status tells how c stands, for health and metrics.
func (c *Capacity) Status() CapacityStatus {
	s := CapacityStatus{
		InFlight: c.InFlight(), Waiting: int(c.queued.Load()), Limit: int(total(c.limit.Load())),
		Floor: time.Duration(c.pace.shownFloor.Load()), Latency: time.Duration(c.pace.shownLatency.Load()),
	}
	for p := range c.shed {
		for st := range c.shed[p] {
			if n := c.shed[p][st].Load(); n > 0 {
				s.Shed = append(s.Shed, ShedCount{priorityNames[p], standingNames[st], n})
			}
		}
	}
	return s
}

// Refused is how many requests found no room, of all classes.
func (s *CapacityStatus) Refused() (n uint64) {
	for _, of := range s.Shed {
		n += of.Requests
	}
	return n
}

// Pressure is 0 while nobody waits for room, and 1 when as many do as can be let in.
func (s *CapacityStatus) Pressure() float64 {
	return min(1, float64(s.Waiting)/float64(max(s.Limit, 1)))
}

var (
	errFull  = errors.New("the service is at its limit, and the line is full")
	errSlow  = errors.New("the service is at its limit, and the line too slow")
	errLower = errors.New("the service is at its limit, and the place in the line was given to a request that goes before")
)

// refuse places a request that finds no room, and says so. Retry-After is drawn, and
// longer for those who would be refused again.
func (c *Capacity) refuse(r *Request, why error) error {
	c.pace.refused.Store(true)
	c.shed[min(r.Priority, Critical)][min(r.Claim, Regular)].Add(1)
	return &gatehouse.Problem{
		Kind: gatehouse.Overloaded, Reason: "overloaded", Detail: "There is no room for this request at the moment.",
		RetryAfter: later(time.Duration(levels-r.level()) * time.Second),
		Err:        fmt.Errorf("%s operation, %s caller: %w", priorityNames[min(r.Priority, Critical)], standingNames[min(r.Claim, Regular)], why),
	}
}

// A places holds three numbers that change as one: requests in all, those that are
// not critical, and those whose callers are not known.
type places struct{ atomic.Uint64 }

const (
	countBits    = 21
	maxCount     = 1_000_000
	countMask    = 1<<countBits - 1
	plainShift   = countBits
	strangeShift = 2 * countBits
)

func total(v uint64) uint64 { return v & countMask }

// add places a unit unless a number it adds to would be above most's. It returns
// what was there before.
func (n *places) add(unit, most uint64) (before uint64, ok bool) {
	for {
		v := n.Load()
		after := v + unit
		if after&countMask > most&countMask ||
			unit>>plainShift&1 == 1 && after>>plainShift&countMask > most>>plainShift&countMask ||
			unit>>strangeShift&1 == 1 && after>>strangeShift&countMask > most>>strangeShift&countMask {
			return v, false
		}
		if n.CompareAndSwap(v, after) {
			return v, true
		}
	}
}

// sub takes a unit off and returns what is left.
func (n *places) sub(unit uint64) uint64 { return n.Add(-unit) }

// caps is what a [places] may be at a limit: a fifth of it is for critical
// operations, where there are any, and a tenth for known callers, when some were
// here lately. Both may be in use by requests that hold on for long: who goes first
// in the line would not help.
func caps(limit int, reserve, keep bool) uint64 {
	plain, strange := limit, limit
	if reserve && limit > 1 {
		plain -= (limit + 4) / 5
	}
	if keep && limit > 3 {
		strange -= (limit + 9) / 10
	}
	return uint64(limit) | uint64(plain)<<plainShift | uint64(strange)<<strangeShift
}

// setLimit puts a limit to work.
func (c *Capacity) setLimit(n int, keep bool) {
	c.limit.Store(caps(n, c.cfg.Reserve, keep))
	c.most.Store(caps(c.cfg.Ceiling, c.cfg.Reserve, keep))
}

// now is how old c is: monotonic.
func (c *Capacity) now() time.Duration { return time.Since(c.start) }

package ddos

import (
	"math"
	"runtime/metrics"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	paceParts   = 64                   // callers are told apart in so many groups
	floorOf     = 10                   // windows
	atEase      = 5 * time.Millisecond // nobody is refused for a latency of less than twice this
	lower       = 2.0                  // times the floor: the limit falls
	raise       = 1.5                  // times the floor: up to there it may rise
	dropped     = 0.1                  // of the requests
	shortWindow = 250 * time.Millisecond
	longWindow  = time.Second
	warmUp      = time.Second // from the first answer on: of those who came together the quick ones return first
	surely      = 0.2         // of a base 2 logarithm: how sure a window's latency must be
	logScale    = 256         // of a base 2 logarithm in a part
	sumShift    = 24          // a part: the sum of the logarithms above the number of samples
)

// A pace is the control loop that finds the limit out. Each window gives one
// latency: of each group of callers the mean of the logarithms, of the groups the
// mean of the middle half. So two kinds of answers, quick and slow ones, give a
// steady figure, and who asks for slow ones on purpose is one of many.
type pace struct {
	parts   [paceParts]atomic.Uint64 // sums of logarithms, and how many
	squares [paceParts]atomic.Uint64 // sums of their squares
	drops   [paceParts]atomic.Uint32
	due     atomic.Int64  // age of the Capacity at which the window may end
	peak    atomic.Uint64 // most requests at once in this window
	pressed atomic.Bool   // somebody found no room in it
	refused atomic.Bool   // nor by waiting

	shownFloor, shownLatency atomic.Int64

	mu     sync.Mutex // of who ends a window; guards the rest
	limit  float64
	good   float64       // the limit before it fell the last time
	since  time.Duration // of the first answer
	floor  float64       // seconds; 0: not known
	last   [3]float64    // latencies of the last windows
	calm   []float64     // latencies of the last windows with few requests
	bad    int           // windows in a row
	falls  bool          // the limit has fallen and not risen since
	strong bool          // nothing bad was met yet: the limit doubles

	ended time.Duration // the last window
	trial trial
}

func (p *pace) init(cfg *CapacityConfig) {
	p.limit, p.strong = float64(cfg.Initial), true
	p.due.Store(int64(shortWindow))
}

// note takes a sample. The clock is asked only now and then while answers are quick.
func (c *Capacity) note(who Who, o Heard, took time.Duration) {
	p := &c.pace
	part := who % paceParts
	var n uint64
	if o == Dropped {
		n = uint64(p.drops[part].Add(1))
	} else {
		log := math.Log2(float64(max(took, 1)))
		n = p.parts[part].Add(uint64(log*logScale)<<sumShift|1) & (1<<sumShift - 1)
		p.squares[part].Add(uint64(log * log * logScale))
	}
	if n%8 == 0 || took > time.Millisecond {
		c.settle(c.now())
	}
}

// settle ends the window if it is due and nobody else is about to.
func (c *Capacity) settle(now time.Duration) {
	p := &c.pace
	if int64(now) < p.due.Load() || !p.mu.TryLock() {
		return
	}
	defer p.mu.Unlock()
	if int64(now) < p.due.Load() {
		return
	}
	w := p.window()
	if w.samples > 0 && p.since == 0 {
		p.since = now
	}
	enough := max(min(2*p.limit, 64), min(w.spread/(surely*surely), 400), 16)
	if w.dropShare >= dropped {
		enough = min(p.limit, 8) // a service that is not there gives few answers
	}
	if float64(w.samples+w.dropped) < enough || p.floor == 0 && w.dropShare < dropped && now-p.since < warmUp {
		p.due.Store(int64(now + shortWindow)) // too few to tell anything
	} else {
		p.take()
		w.end, w.rate = now, float64(w.samples)/max(now-p.ended, time.Millisecond).Seconds()
		p.ended = now
		p.judge(&w, &c.cfg)
		p.due.Store(int64(now + min(max(time.Duration(w.latency*float64(time.Second)), shortWindow), longWindow)))
		c.crowd.Store(w.callers > 1)
	}
	c.setLimit(int(p.limit), c.cfg.Known.Any(time.Now()))
}

// A window is what was seen in one.
type paceWindow struct {
	latency   float64 // seconds; 0: no answers
	spread    float64 // variance of the base 2 logarithms
	dropShare float64
	samples   int
	dropped   int
	callers   int // groups of them
	peak      uint64
	pressed   bool
	refused   bool
	end       time.Duration
	rate      float64 // answers a second
}

// window reads what was seen so far.
func (p *pace) window() paceWindow {
	w := paceWindow{peak: p.peak.Load(), pressed: p.pressed.Load(), refused: p.refused.Load()}
	var logs, shares [paceParts]float64
	answered, sum, squares := 0, 0.0, 0.0
	for i := range p.parts {
		v, d := p.parts[i].Load(), int(p.drops[i].Load())
		n := int(v & (1<<sumShift - 1))
		if n+d == 0 {
			continue
		}
		w.samples += n
		w.dropped += d
		shares[w.callers] = float64(d) / float64(n+d)
		w.callers++
		if n > 0 {
			logs[answered] = float64(v>>sumShift) / float64(n) / logScale
			answered++
			sum += float64(v>>sumShift) / logScale
			squares += float64(p.squares[i].Load()) / logScale
		}
	}
	if answered > 0 {
		w.latency = math.Exp2(middle(logs[:answered])) / float64(time.Second)
		mean := sum / float64(w.samples)
		w.spread = max(0, squares/float64(w.samples)-mean*mean)
	}
	if w.callers > 0 {
		w.dropShare = middle(shares[:w.callers])
	}
	return w
}

// take begins a new window.
func (p *pace) take() {
	for i := range p.parts {
		p.parts[i].Store(0) // a sample that comes this instant may be lost
		p.squares[i].Store(0)
		p.drops[i].Store(0)
	}
	p.peak.Store(0)
	p.pressed.Store(false)
	p.refused.Store(false)
}

// middle is the mean of the middle half of v: of what three in four agree on.
func middle(v []float64) float64 {
	slices.Sort(v)
	if cut := len(v) / 4; cut > 0 {
		v = v[cut : len(v)-cut]
	}
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}

// judge moves the limit by what was seen in a window.
func (p *pace) judge(w *paceWindow, cfg *CapacityConfig) {
	defer func() {
		p.shownFloor.Store(int64(p.floor * float64(time.Second)))
		p.shownLatency.Store(int64(w.latency * float64(time.Second)))
	}()
	late := cfg.Late().Seconds()
	ours := late*2 > w.latency // most of what was measured is our own doing
	ratio := 0.0               // of latency and floor
	if w.latency > 0 && !ours {
		w.latency -= late
		p.learn(w, cfg)
		ratio = w.latency / max(p.floor, atEase.Seconds())
	}
	switch {
	case w.dropShare >= dropped:
		p.fall(0.7, cfg)
	case ratio > lower:
		if p.bad++; p.bad > 1 { // one slow window is a pause of the service, or of the network
			p.fall(min(max(lower/ratio, 0.5), 0.9), cfg)
		}
	case ratio == 0:
	case p.try(w, ratio, cfg):
		p.bad = 0
	default:
		p.bad = 0
		if ratio > raise {
			p.strong = false
			break
		}
		p.rise(w, cfg)
	}
}

// learn holds the floor to what was measured. Three quicker windows lower it: one may
// have seen only the quick answers of a mixture. Nothing raises it but windows with so
// few requests at once that the service cannot have been slow on their account: as the
// limit falls to its least in an incident that is not ours, such windows come. While
// the service is only as slow as we make it, none comes, however long that lasts.
func (p *pace) learn(w *paceWindow, cfg *CapacityConfig) {
	if p.floor == 0 {
		p.floor = w.latency
		p.last = [3]float64{w.latency, w.latency, w.latency}
	}
	p.last[0], p.last[1], p.last[2] = p.last[1], p.last[2], w.latency
	p.floor = min(p.floor, slices.Max(p.last[:]))
	if w.peak > uint64(cfg.Min) {
		return
	}
	if p.calm = append(p.calm, w.latency); len(p.calm) > floorOf {
		p.calm = slices.Delete(p.calm, 0, 1)
	}
	if len(p.calm) == floorOf {
		p.floor = max(p.floor, slices.Min(p.calm))
	}
}

// A trial lowers the limit for a moment to see whether fewer requests at once give as
// many answers, and goes on while they do. A floor that was measured in the middle of
// a flood is what the flood made of it; the rate of answers shows that without it.
type trial struct {
	next   time.Duration // when one may begin
	before float64       // the limit; 0: there is none
	rate   float64       // and the answers a second
	until  time.Duration // what is answered before tells of the limit before
}

const (
	trialEvery = 30 * time.Second
	trialStep  = 0.8
	trialLoss  = 0.92 // of the rate: less is noise
)

// try reports whether there is a trial. One begins now and then, while answers take
// longer than they might and requests are refused: at other times it could only harm.
func (p *pace) try(w *paceWindow, ratio float64, cfg *CapacityConfig) bool {
	t := &p.trial
	switch {
	case t.before == 0 && (ratio <= raise || !w.refused || w.end < t.next || p.limit <= float64(cfg.Min)):
		return false
	case t.before > 0 && w.end < t.until:
		return true
	case t.before > 0 && (w.rate < t.rate*trialLoss || !w.refused || p.limit <= float64(cfg.Min)):
		if w.rate < t.rate*trialLoss {
			p.limit = t.before
		}
		*t = trial{next: w.end + trialEvery}
		return true
	}
	p.strong = false
	*t = trial{before: p.limit, rate: max(w.rate, t.rate), until: w.end + time.Duration(2*w.latency*float64(time.Second))}
	p.limit = max(p.limit*trialStep, float64(cfg.Min))
	return true
}

func (p *pace) fall(by float64, cfg *CapacityConfig) {
	p.trial = trial{next: p.trial.next}
	if !p.falls {
		p.good = p.limit
	}
	p.falls, p.strong = true, false
	p.limit = max(p.limit*by, float64(cfg.Min))
}

// rise lets the limit grow while it is what keeps requests waiting, or lower than it
// began: quickly where it has been before.
func (p *pace) rise(w *paceWindow, cfg *CapacityConfig) {
	used := w.pressed || float64(w.peak)*2 >= p.limit
	p.falls = false
	switch {
	case !used && p.limit >= float64(cfg.Initial):
		return
	case p.strong:
		p.limit *= 2
	case p.limit < p.good*0.7 || p.limit < float64(cfg.Initial):
		p.limit *= 1.5
	default:
		p.limit += max(1, p.limit/10)
		p.good = p.limit
	}
	p.limit = min(p.limit, float64(cfg.Max))
}

// newLateness reads how late the runtime runs goroutines: of ten that were ready
// since the last call nine ran within it.
func newLateness() func() time.Duration {
	sample := []metrics.Sample{{Name: "/sched/latencies:seconds"}}
	var seen []uint64
	return func() time.Duration {
		metrics.Read(sample)
		if sample[0].Value.Kind() != metrics.KindFloat64Histogram {
			return 0
		}
		h := sample[0].Value.Float64Histogram()
		if len(seen) != len(h.Counts) {
			seen = make([]uint64, len(h.Counts))
		}
		all := uint64(0)
		for i, n := range h.Counts {
			all += n - seen[i]
		}
		at, sum := 0.0, uint64(0)
		for i, n := range h.Counts {
			if sum += n - seen[i]; sum*10 >= all*9 && at == 0 && all > 0 {
				at = max(h.Buckets[i], 1e-9)
			}
			seen[i] = n
		}
		if math.IsInf(at, 0) {
			return 0
		}
		return time.Duration(at * float64(time.Second))
	}
}

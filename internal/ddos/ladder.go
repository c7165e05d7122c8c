package ddos

import (
	"fmt"
	"math"
	"net/netip"
	"time"
)

// What a source does above its thresholds heats it up, a degree for each second and
// each time the threshold, at most ten; half of it is gone after each half-life. It
// climbs at these degrees, and comes down at half of them.
const (
	heatWatch     = 1.0
	heatChallenge = 3.0
	heatThrottle  = 10.0
	heatBan       = 30.0
	heatMost      = 60.0
	heatCold      = 0.1  // nothing to remember; what is warm has just begun to stand out, or has nearly ceased to
	heatRate      = 10.0 // of one second, at most

	mostRungs   = 1 << 14
	timesHalf   = 2 * time.Hour // in which half of the bans there were are forgotten
	mostOffence = 12

	throttleEvery  = 500 * time.Millisecond // one request without credentials, behind
	throttleBurst  = 10
	uncertainEvery = 20 * time.Millisecond // one with credentials nobody has checked
	uncertainBurst = 100

	underPressure = 4.0 // how much lower thresholds are when there is no room left
	attackHolds   = time.Minute
)

// A ladder is who stands out. It is one goroutine's at a time.
type ladder struct {
	rungs    map[source]*rung
	fresh    []Banned // not yet told
	set      *set
	book     *set
	fleet    *set
	imported *set
	switched bool
	attack   bool     // found out
	attacked []string // APIs of which it was

	last     time.Time
	forgot   bool // room was made since the last look, or could not be
	heavies  []heavy
	crowd    crowd
	caps     uint64  // connections there was no room for, at the last look
	pressure float64 // of the node: how short it is of room for connections
	shortest float64 // and of the API that is shortest of room
}

// A rung is one source on the ladder.
type rung struct {
	source source
	heat   float64
	step   Step
	until  time.Time // of a ban
	began  time.Time // of it
	times  float64   // it was banned, those of long ago forgotten
	shared bool      // good callers come from there, too
	why    string
	bucket buckets
}

// A Banned is a ban that the guard has decided by itself.
type Banned struct {
	Prefix netip.Prefix
	Until  time.Time
	Why    string
	Accept bool // nobody good comes from there: connections are refused
}

// Tick looks at what was counted since the last time, and decides. It is called a
// few times a second, by one goroutine.
func (g *Guard) Tick(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s, l := g.state.Load(), &g.ladder
	dt := now.Sub(l.last)
	if l.last.IsZero() || dt <= 0 {
		l.last = now
		return
	}
	l.last = now
	if s.settings.Mode == Off {
		return
	}
	g.census.turn(now)
	g.crowdLook(s, now, dt)
	g.climb(&s.settings, now, min(dt, 5*time.Second))
	l.set = l.rulings()
	g.renew()
}

// climb heats up who stands out, and lets the others cool down.
func (g *Guard) climb(s *Settings, now time.Time, dt time.Duration) {
	l := &g.ladder
	l.heavies = g.census.candidates(l.heavies[:0], now)
	l.forgot = false
	limits := s.Thresholds.list()
	scale := strictness(l.pressure)
	taken := map[source]counts{} // what of a network is already held against parts of it
	hot := map[source]bool{}
	for level := range mostLevels {
		for i := range l.heavies {
			h := &l.heavies[i]
			if h.level() != level {
				continue
			}
			rates, part := h.rates, taken[h.source]
			score, worst := 0.0, 0
			for k := range rates {
				if v := max(0, rates[k]-part[k]) * scale / (limits[k] * coarser[h.family()][level]); v > score {
					score, worst = v, k
				}
			}
			// Over what is left of a network when its worst parts are gone, not over
			// neighbours of one who was banned.
			if score >= 1 && (part == counts{} || score >= 2) {
				g.heat(h.source, min(score, heatRate)*dt.Seconds(), worst, rates[worst])
				hot[h.source] = true
				part = rates
			}
			if up, ok := h.parent(); ok && part != (counts{}) {
				sum := taken[up]
				for k := range sum {
					sum[k] += part[k]
				}
				taken[up] = sum
			}
		}
	}
	cool, forget := math.Exp2(-dt.Seconds()/s.HalfLife.Seconds()), math.Exp2(-dt.Seconds()/timesHalf.Seconds())
	for of, r := range l.rungs {
		if !hot[of] && r.step != Ban {
			r.heat *= cool
		}
		g.move(r, s, now)
		if r.step == Pass && r.heat < heatCold && r.times < 0.5 {
			delete(l.rungs, of)
		}
		if r.step != Ban {
			r.times *= forget
		}
	}
}

var whyNames = [countKinds]string{"requests", "refusals", "processor time", "connections", "TLS handshakes"}

// heat finds or makes the rung of a source that stands out.
func (g *Guard) heat(of source, by float64, worst int, rate float64) {
	l := &g.ladder
	r := l.rungs[of]
	if r == nil {
		if len(l.rungs) >= mostRungs && !l.forget() {
			g.tally.full.Add(1)
			return
		}
		r = &rung{source: of, step: Pass}
		l.rungs[of] = r
	}
	r.heat = min(heatMost, r.heat+by)
	if worst == countCost {
		r.why = fmt.Sprintf("%.0f ms/s of %s", rate, whyNames[worst])
	} else {
		r.why = fmt.Sprintf("%.0f/s %s", rate, whyNames[worst])
	}
}

// forget makes room: those who are only watched go first, then those against whom
// nothing stands any more but that they were banned once. Else a botnet that was
// banned keeps the ladder closed to the next one for hours. It is tried once in each
// look, whatever stands out then.
func (l *ladder) forget() bool {
	if l.forgot {
		return false
	}
	l.forgot = true
	for _, least := range []float64{0.5, math.Inf(1)} {
		for of, r := range l.rungs {
			if r.step >= Watch && r.times < least {
				delete(l.rungs, of)
			}
		}
		if len(l.rungs) < mostRungs {
			return true
		}
	}
	return false
}

// move takes r to the step its heat is worth.
func (g *Guard) move(r *rung, s *Settings, now time.Time) {
	if r.step == Ban {
		if now.Before(r.until) {
			if !r.shared && g.vouched(r.source, now) {
				r.shared = true // seen by another way: who is good there must not suffer
			}
			return
		}
		r.step, r.heat = Throttle, min(r.heat, heatBan*0.6) // the next one comes quickly, should it go on
		return
	}
	up := func(degree float64, step Step) bool {
		return r.heat >= degree || r.step <= step && r.heat >= degree/2
	}
	switch {
	case r.heat >= heatBan:
		r.step, r.began, r.shared = Ban, now, g.vouched(r.source, now)
		r.until = now.Add(s.banFor(r.times))
		r.times = min(mostOffence, r.times+1)
		g.ladder.fresh = append(g.ladder.fresh, Banned{r.source.prefix(), r.until, r.why, !r.shared})
	case up(heatThrottle, Throttle):
		r.step = Throttle
	case up(heatChallenge, Challenge):
		r.step = Challenge
	case up(heatWatch, Watch):
		r.step = Watch
	default:
		r.step = Pass
	}
}

// banFor grows with each ban that is remembered.
func (s *Settings) banFor(times float64) time.Duration {
	d := s.FirstBan
	for range int(times + 0.5) {
		if d *= 4; d >= s.LongestBan {
			return s.LongestBan
		}
	}
	return min(d, s.LongestBan)
}

// rulings is what the ladder says, for requests to look at.
func (l *ladder) rulings() *set {
	out := new(set)
	for of, r := range l.rungs {
		if r.step > Challenge {
			continue
		}
		rule := &ruling{step: r.step, accept: r.step == Ban && !r.shared, bucket: &r.bucket}
		if r.step == Ban {
			rule.until = r.until.UnixMilli()
		}
		out.add(of, rule)
	}
	return out.orNil()
}

// Fresh gives the bans decided since the last call, whether the mode enforces them
// or not.
func (g *Guard) Fresh() []Banned {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := g.ladder.fresh
	g.ladder.fresh = nil
	return out
}

// Forgive takes what was found out about p, and parts of it, back: an operator has
// lifted its ban. What began after since stays.
func (g *Guard) Forgive(p netip.Prefix, since time.Time) {
	of, err := sourceOf(p)
	if err != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for s, r := range g.ladder.rungs {
		if of.holds(s) && !r.began.After(since) {
			delete(g.ladder.rungs, s)
		}
	}
	g.census.forgive(of) // else it is banned again for what it did before
	g.ladder.set = g.ladder.rulings()
	g.renew()
}

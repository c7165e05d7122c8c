package ddos

import (
	"maps"
	"slices"
	"sync/atomic"
	"time"
)

// A Service is one API as a guard sees it: what comes for it, and whether there is
// room. That one is without room is no business of who asks for another: else whoever
// can keep the slowest API busy has everybody else judged more strictly.
type Service struct {
	totals [totalStripes]totalStripe
	shed   atomic.Uint64 // requests there was no room for
	weight atomic.Uint32 // of a request for it, in quarters
	attack atomic.Bool   // who has no credentials is challenged here

	// Of who holds the guard's mu.
	room              func() float64 // how short of it the API is, 0 to 1; nil: nobody knows
	requests, refused uint64         // at the last look
	before            uint64         // shed then
	crowd             crowd
}

// quarters is what everything counts fourfold, so that a request to a service that is
// short of room can count a little more than another one.
const quarters = 4

func newService() *Service {
	s := new(Service)
	s.weight.Store(quarters)
	return s
}

// Serve tells the guard which APIs there are, and for each how short of room it is,
// from 0 to 1, where somebody knows. What is known of one that was there stays.
func (g *Guard) Serve(rooms map[string]func() float64) map[string]*Service {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make(map[string]*Service, len(rooms))
	for name, room := range rooms {
		s := g.services[name]
		if s == nil {
			s = newService()
		}
		s.room = room
		all[name] = s
	}
	g.services = all
	return maps.Clone(all)
}

func (s *Service) total(hi uint64, refused bool) {
	t := &s.totals[(hi>>32^hi>>16&0xffff^hi)*0x9e3779b97f4a7c15>>60%totalStripes]
	t.requests.Add(1)
	if refused {
		t.refused.Add(1)
	}
}

// since tells what came since the last look.
func (s *Service) since() (requests, refused, shed uint64) {
	for i := range s.totals {
		requests += s.totals[i].requests.Load()
		refused += s.totals[i].refused.Load()
	}
	shed = s.shed.Load()
	r, f, n := requests-s.requests, refused-s.refused, shed-s.before
	s.requests, s.refused, s.before = requests, refused, shed
	return r, f, n
}

// A crowd is all who ask for the same together, second by second.
type crowd struct {
	rate, share         baseline
	sampled             time.Time
	sumRate, sumRefused float64
	looks               int
	oddFor              time.Duration
	until               time.Time // an attack lasts at least
}

// look takes in what came in a second lately. Surge: it is far more than is usual.
// Faults: far more of it than is usual is refused.
func (c *crowd) look(t *Thresholds, rate, refused float64, now time.Time) (surge, faults bool) {
	c.sumRate += rate
	c.sumRefused += refused
	c.looks++
	surge = c.rate.odd(rate, t.Requests)
	faults = c.share.odd(refused/max(rate, 1), 0.2) && refused > t.Refused
	if now.Sub(c.sampled) >= baselineEvery {
		if !c.sampled.IsZero() {
			c.rate.learn(c.sumRate / float64(c.looks))
			c.share.learn(c.sumRefused / max(1, c.sumRate))
		}
		c.sampled, c.sumRate, c.sumRefused, c.looks = now, 0, 0, 0
	}
	return surge, faults
}

// holds reports whether it is an attack: once it was one for three seconds, until a
// minute after.
func (c *crowd) holds(harm bool, now time.Time, dt time.Duration) bool {
	if harm {
		c.oddFor += dt
	} else {
		c.oddFor = 0
	}
	if c.oddFor >= 3*time.Second {
		c.until = now.Add(attackHolds)
	}
	return now.Before(c.until)
}

// crowdLook judges the whole, and each API for itself: how much comes, which share of
// it is refused, and how short of room it is. A crowd alone is no attack: all callers
// of an API are challenged only when they also do it harm, and those of all APIs only
// when there is no room for connections.
func (g *Guard) crowdLook(s *state, now time.Time, dt time.Duration) {
	l := &g.ladder
	type seen struct {
		name          string
		of            *Service
		room          float64
		surge, faults bool
	}
	all := make([]seen, 0, len(g.services)+1)
	var sumRate, sumRefused float64
	look := func(name string, of *Service) {
		requests, refused, shed := of.since()
		rate, bad := float64(requests)/dt.Seconds(), float64(refused)/dt.Seconds()
		sumRate += rate
		sumRefused += bad
		v := seen{name: name, of: of}
		if of.room != nil {
			v.room = min(1, max(0, of.room()))
		}
		v.room = max(v.room, min(1, 10*float64(shed)/max(1, float64(requests)))) // a tenth of all is an outage
		v.surge, v.faults = of.crowd.look(&s.settings.Thresholds, rate, bad, now)
		all = append(all, v)
	}
	look("", g.rest)
	for _, name := range slices.Sorted(maps.Keys(g.services)) {
		look(name, g.services[name])
	}

	surge, _ := l.crowd.look(&s.settings.Thresholds, sumRate, sumRefused, now)
	l.pressure = 0
	caps := g.tally.caps.Load()
	if caps > l.caps { // they are told of ten times a second at most
		l.pressure = 1
	}
	l.caps = caps
	l.attack = l.crowd.holds(surge && l.pressure > 0, now, dt)
	if l.attack || s.switched || s.settings.UnderAttack {
		l.pressure = 1
	}

	scale := strictness(l.pressure)
	l.shortest, l.attacked = 0, nil
	for _, v := range all {
		p := v.room
		if v.surge {
			p = max(p, 0.25)
		}
		if v.faults {
			p = max(p, 0.5)
		}
		attack := v.of.crowd.holds((surge || v.surge) && (v.room >= 0.5 || v.faults), now, dt)
		if attack {
			p = 1
			l.attacked = append(l.attacked, v.name)
		}
		v.of.attack.Store(attack)
		v.of.weight.Store(uint32(quarters*max(1, strictness(p)/scale) + 0.5))
		l.shortest = max(l.shortest, p)
	}
}

// strictness is how much lower thresholds are under a pressure of 0 to 1.
func strictness(pressure float64) float64 { return 1 + (underPressure-1)*pressure }

package ddos_test

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/gatehouse-api/gatehouse/internal/ddos"
)

var someKey = []byte("0123456789abcdef0123456789abcdef")

// A street is a guard, a clock, and callers.
type street struct {
	t       testing.TB
	guard   *ddos.Guard
	now     time.Time
	callers []*passer
	room    float64 // how short of room the shop is; the library has all it needs
	apis    map[string]*ddos.Service
}

// A passer asks for so many requests a second.
type passer struct {
	address func(n int) netip.Addr // of its n-th request
	perSec  int
	api     string // the shop, unless it says
	keeps   bool   // its connection
	proven  bool   // it has valid credentials
	refused bool   // and what it asks for is not there
	cost    time.Duration
	from    time.Duration // since the start
	to      time.Duration // 0: to the end

	n, served, challenged, throttled, banned, turned int // turned away at accept
}

func one(text string) func(int) netip.Addr {
	a := netip.MustParseAddr(text)
	return func(int) netip.Addr { return a }
}

func newStreet(t testing.TB, s ddos.Settings, callers ...*passer) *street {
	t.Helper()
	if underRace {
		t.Skip("one goroutine and a million requests: the race detector finds nothing here, slowly")
	}
	w := &street{t: t, now: time.UnixMilli(1_800_000_000_000), callers: callers}
	g, err := ddos.NewGuard(ddos.GuardConfig{Key: someKey})
	if err != nil {
		t.Fatal(err)
	}
	w.apis = g.Serve(map[string]func() float64{"shop": func() float64 { return w.room }, "library": nil})
	g.Configure(s)
	w.guard = g
	return w
}

// run lets time pass, four looks a second.
func (w *street) run(d time.Duration) {
	w.t.Helper()
	start, end := w.now, w.now.Add(d)
	const steps = 4
	for ; w.now.Before(end); w.now = w.now.Add(time.Second / steps) {
		for _, c := range w.callers {
			at := w.now.Sub(start)
			if at < c.from || c.to > 0 && at >= c.to {
				continue
			}
			k := int(at / (time.Second / steps))
			for range c.perSec*(k+1)/steps - c.perSec*k/steps {
				w.ask(c)
			}
		}
		w.guard.Tick(w.now)
	}
}

// ask is one request as the gateway serves it, on a connection of its own unless it keeps one.
func (w *street) ask(c *passer) {
	a := c.address(c.n)
	c.n++
	if !c.keeps && !w.guard.Arrive(a, true, w.now) {
		c.turned++
		return
	}
	to := w.apis[cmp.Or(c.api, "shop")]
	v := w.guard.AdmitTo(to, a, w.now)
	o := ddos.Outcome{For: to, Proven: c.proven, Refused: c.refused, Cost: c.cost}
	if p := w.guard.Judge(v, &ddos.Caller{Address: a, Claims: c.proven, Now: w.now}); p != nil {
		switch p.Reason {
		case "challenge":
			c.challenged++
		case "throttled":
			c.throttled++
		default:
			c.banned++
		}
		o.Refused, o.Proven = true, false
	} else {
		if c.proven {
			w.guard.Proven(v)
		}
		c.served++
	}
	w.guard.Observe(a, o, w.now)
}

func (w *street) step(address string) ddos.Step {
	return w.guard.Admit(netip.MustParseAddr(address), w.now).Step
}

func (c *passer) String() string {
	return fmt.Sprintf("of %d: %d served, %d challenged, %d throttled, %d banned, %d turned away", c.n, c.served, c.challenged, c.throttled, c.banned, c.turned)
}

func TestAFloodOfOneAddressClimbsTheLadderAndTheOthersDoNot(t *testing.T) {
	flood := &passer{address: one("203.0.113.9"), perSec: 2000}
	busy := &passer{address: one("198.51.100.7"), perSec: 20}
	w := newStreet(t, ddos.Settings{}, flood, busy)
	w.run(time.Minute)
	t.Log("flood", flood)
	if flood.served > 12_000 || flood.turned < 90_000 {
		t.Errorf("the flood: %s", flood)
	}
	if busy.served != busy.n {
		t.Errorf("somebody else: %s", busy)
	}
	if got := w.step("203.0.113.9"); got != ddos.Ban {
		t.Errorf("the flood's address: %s, want ban", got)
	}
	if got := w.step("203.0.113.10"); got != ddos.Pass {
		t.Errorf("its neighbour: %s, want pass", got)
	}
	fresh := w.guard.Fresh()
	if len(fresh) != 1 || fresh[0].Prefix.String() != "203.0.113.9/32" || !fresh[0].Accept {
		t.Errorf("told: %+v", fresh)
	}
}

func TestWhoIsALittleAboveTheThresholdClimbsSlowly(t *testing.T) {
	above := &passer{address: one("203.0.113.9"), perSec: 300, keeps: true}
	below := &passer{address: one("198.51.100.7"), perSec: 180, keeps: true}
	w := newStreet(t, ddos.Settings{}, above, below)
	if w.run(6 * time.Second); w.step("203.0.113.9") != ddos.Pass {
		t.Errorf("before ten seconds' mean is above it: %s", above)
	}
	if w.run(30 * time.Second); w.step("203.0.113.9") != ddos.Ban || above.challenged == 0 || above.served < 2000 {
		t.Errorf("half a minute later: %s; %s", w.step("203.0.113.9"), above)
	}
	if below.served != below.n {
		t.Errorf("below it: %s", below)
	}
}

func TestOneSiteOfIPv6IsBannedAsAWhole(t *testing.T) {
	flood := &passer{perSec: 4000, address: func(n int) netip.Addr { // of a /48: each from another /64
		return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 7, byte(n >> 8), byte(n), 8: byte(n)})
	}}
	other := &passer{address: one("2001:db8:8::1"), perSec: 10}
	w := newStreet(t, ddos.Settings{}, flood, other)
	w.run(time.Minute)
	t.Log("flood", flood)
	if flood.turned < flood.n*3/4 {
		t.Errorf("the site: %s", flood)
	}
	if other.served != other.n {
		t.Errorf("the next site: %s", other)
	}
}

func TestABotnetOfTenThousandIsChallengedWhenItDoesHarm(t *testing.T) {
	calm := &passer{perSec: 400, address: func(n int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, byte(n % 100), 1}) }}
	known := &passer{perSec: 100, proven: true, address: func(n int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(n % 50)}) }}
	botnet := &passer{perSec: 10_000, from: 5 * time.Minute, address: func(n int) netip.Addr {
		n %= 10_000
		return netip.AddrFrom4([4]byte{11, byte(n), byte(n >> 8), byte(n * 7)})
	}}
	w := newStreet(t, ddos.Settings{}, calm, known, botnet)
	w.run(5 * time.Minute)
	if calm.served != calm.n {
		t.Errorf("before it: %s", calm)
	}
	before := botnet.n
	w.room = 1 // services are overrun
	botnet.from = 0
	w.run(time.Minute)
	if botnet.n-before < 500_000 {
		t.Fatal("there was no botnet")
	}
	t.Log("botnet", botnet)
	if botnet.served > botnet.n/10 {
		t.Errorf("the botnet: %s", botnet)
	}
	if known.served != known.n {
		t.Errorf("callers with credentials: %s", known)
	}
	w.room, botnet.to = 0, 1
	w.run(3 * time.Minute)
	if f := w.guard.Figures(); f.Attack || f.Attacked != nil {
		t.Error("everyone is still challenged three minutes after it")
	}
}

func TestAnAPIWithoutRoomIsNoReasonToJudgeCallersOfAnotherMoreStrictly(t *testing.T) {
	shop := &passer{address: one("203.0.113.9"), perSec: 100, keeps: true}
	library := &passer{address: one("198.51.100.7"), perSec: 100, keeps: true, api: "library"}
	nowhere := &passer{address: one("192.0.2.7"), perSec: 100, keeps: true, api: "none there"}
	w := newStreet(t, ddos.Settings{}, shop, library, nowhere)
	w.run(time.Minute)
	for _, c := range w.callers {
		if c.served != c.n {
			t.Fatalf("while there is room for all: %s", c)
		}
	}
	w.room = 1
	w.run(time.Minute)
	if library.served != library.n || nowhere.served != nowhere.n {
		t.Errorf("who asks for what has room: the library's %s; nobody's %s", library, nowhere)
	}
	if shop.served == shop.n {
		t.Errorf("who asks for twice a fourth of the threshold of what has no room: %s", shop)
	}
	if f := w.guard.Figures(); f.Pressure != 1 || f.Attack || f.Attacked != nil {
		t.Errorf("%+v", f)
	}
	w.room = 0
	later := &passer{address: one("203.0.113.77"), perSec: 100, keeps: true}
	w.callers = []*passer{later}
	w.run(time.Minute)
	if later.served != later.n {
		t.Errorf("when it has room again: %s", later)
	}
}

func TestAnAttackOnOneAPIChallengesNobodyAtAnother(t *testing.T) {
	calm := func(api string) *passer {
		return &passer{perSec: 200, api: api, address: func(n int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, byte(n % 100), api[0]}) }}
	}
	shop, library := calm("shop"), calm("library")
	w := newStreet(t, ddos.Settings{}, shop, library)
	w.run(5 * time.Minute)
	botnet := &passer{perSec: 5000, address: func(n int) netip.Addr {
		n %= 10_000
		return netip.AddrFrom4([4]byte{11, byte(n), byte(n >> 8), byte(n * 7)})
	}}
	w.callers, w.room = append(w.callers, botnet), 1
	w.run(time.Minute)
	if botnet.served > botnet.n/5 || shop.challenged == 0 {
		t.Errorf("the attacked API: the botnet's %s; others' %s", botnet, shop)
	}
	if library.served != library.n {
		t.Errorf("the other one: %s", library)
	}
	if f := w.guard.Figures(); f.Attack || !slices.Equal(f.Attacked, []string{"shop"}) || !slices.Equal(w.guard.View(1).Attacked, f.Attacked) {
		t.Errorf("what is told of it: %+v", f)
	}
	// The same crowd takes all connections there may be: that is everybody's harm.
	w.room = 0
	full := func(d time.Duration) {
		for end := w.now.Add(d); w.now.Before(end); {
			w.guard.NoRoom()
			w.run(250 * time.Millisecond)
		}
	}
	full(10 * time.Second)
	library.n, library.challenged = 0, 0
	full(10 * time.Second)
	if f := w.guard.Figures(); !f.Attack || library.challenged != library.n {
		t.Errorf("without room for connections: %+v, the library's %s", f, library)
	}
}

func TestACrowdThatDoesNoHarmIsLeftAlone(t *testing.T) {
	calm := &passer{perSec: 100, address: func(n int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, byte(n % 100), 1}) }}
	w := newStreet(t, ddos.Settings{}, calm)
	w.run(3 * time.Minute)
	crowd := &passer{perSec: 5000, address: func(n int) netip.Addr { return netip.AddrFrom4([4]byte{11, byte(n % 5000), byte(n % 5000 >> 8), 1}) }}
	w.callers = append(w.callers, crowd)
	w.run(time.Minute)
	if crowd.served != crowd.n {
		t.Errorf("a crowd: %s", crowd)
	}
}

func TestGoodCallersBehindTheAddressOfAnAttackerAreServed(t *testing.T) {
	attacker := &passer{address: one("203.0.113.9"), perSec: 1000, refused: true}
	neighbour := &passer{address: one("203.0.113.9"), perSec: 20, proven: true}
	w := newStreet(t, ddos.Settings{}, attacker, neighbour)
	w.run(2 * time.Minute)
	t.Log("attacker", attacker)
	if neighbour.served != neighbour.n {
		t.Errorf("the neighbour: %s", neighbour)
	}
	if attacker.turned > 0 || attacker.banned < attacker.n/2 {
		t.Errorf("the attacker, refused at the request and not at accept: %s", attacker)
	}
	if fresh := w.guard.Fresh(); len(fresh) == 0 || fresh[0].Accept {
		t.Errorf("told as a ban at accept: %+v", fresh)
	}
}

func TestASlowDripAndABrokenClientAreLeftAlone(t *testing.T) {
	broken := &passer{address: one("198.51.100.7"), perSec: 1, refused: true}
	drip := &passer{address: one("198.51.100.8"), perSec: 4}
	w := newStreet(t, ddos.Settings{}, broken, drip)
	w.run(time.Hour)
	for _, c := range w.callers {
		if c.served != c.n {
			t.Errorf("%s", c)
		}
	}
}

func TestWhatASourceDidIsForgottenAndBansGrowWhileItIsNot(t *testing.T) {
	flood := &passer{address: one("203.0.113.9"), perSec: 2000}
	w := newStreet(t, ddos.Settings{FirstBan: time.Minute, LongestBan: time.Hour}, flood)
	w.run(10 * time.Second)
	if w.step("203.0.113.9") != ddos.Ban {
		t.Fatal("it is not banned")
	}
	w.run(10 * time.Minute)
	var lengths []time.Duration
	last := w.now.Add(-10*time.Minute - 10*time.Second)
	for _, b := range w.guard.Fresh() {
		lengths = append(lengths, b.Until.Sub(last).Round(time.Minute))
		last = b.Until
	}
	if len(lengths) != 3 || lengths[0] != time.Minute || lengths[1] != 4*time.Minute || lengths[2] != 16*time.Minute {
		t.Errorf("it was banned for %v, want a minute, four, sixteen", lengths)
	}
	flood.perSec = 1
	w.run(40 * time.Minute)
	flood.served, flood.n = 0, 0
	w.run(time.Minute)
	if flood.served != flood.n {
		t.Errorf("after half an hour of peace: %s", flood)
	}
	if f := w.guard.Figures(); f.Sources["ban"]+f.Sources["throttle"]+f.Sources["challenge"]+f.Sources["watch"] != 0 {
		t.Errorf("still on the ladder: %v", f.Sources)
	}
}

func TestAllowedNetworksAreNeitherCountedNorRefused(t *testing.T) {
	flood := &passer{address: one("10.1.2.3"), perSec: 2000, refused: true}
	w := newStreet(t, ddos.Settings{UnderAttack: true, Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, flood)
	w.run(time.Minute)
	if flood.served != flood.n {
		t.Errorf("it was touched: %s", flood)
	}
}

func TestInReportNobodyIsRefusedAndOffCountsNothing(t *testing.T) {
	for _, mode := range []ddos.Mode{ddos.Report, ddos.Off} {
		flood := &passer{address: one("203.0.113.9"), perSec: 2000}
		w := newStreet(t, ddos.Settings{Mode: mode}, flood)
		w.run(time.Minute)
		if flood.served != flood.n {
			t.Errorf("mode %d: %s", mode, flood)
		}
		v := w.guard.Admit(netip.MustParseAddr("203.0.113.9"), w.now)
		if mode == ddos.Report && (!v.Report || v.Step != ddos.Ban) || mode == ddos.Off && v.Step != ddos.Pass {
			t.Errorf("mode %d: %+v", mode, v)
		}
	}
}

func TestTheCostOfContentCounts(t *testing.T) {
	heavy := &passer{address: one("203.0.113.9"), perSec: 20, cost: 100 * time.Millisecond}
	light := &passer{address: one("203.0.113.8"), perSec: 20, cost: time.Millisecond}
	w := newStreet(t, ddos.Settings{}, heavy, light)
	w.run(30 * time.Second)
	if heavy.served > heavy.n/2 || light.served != light.n {
		t.Errorf("heavy %s; light %s", heavy, light)
	}
}

func TestAnAttackOfManyAddressesDoesNotPushTheLoudestOut(t *testing.T) {
	flood := &passer{address: one("203.0.113.9"), perSec: 1000}
	noise := &passer{perSec: 20_000, address: func(n int) netip.Addr {
		return netip.AddrFrom4([4]byte{byte(11 + n%60), byte(n >> 3), byte(n >> 11), byte(n * 13)})
	}}
	w := newStreet(t, ddos.Settings{}, flood, noise)
	w.run(20 * time.Second)
	if got := w.step("203.0.113.9"); got != ddos.Ban {
		t.Errorf("the loudest among half a million addresses: %s, want ban", got)
	}
}

func TestAFloodForWhichServicesHaveNoRoomIsFoundOutWithoutBeingTold(t *testing.T) {
	g := must[*ddos.Guard](t)(ddos.NewGuard(ddos.GuardConfig{Key: someKey}))
	shop := g.Serve(map[string]func() float64{"shop": nil})["shop"]
	now := time.UnixMilli(1_800_000_000_000)
	second := func(n int, shed bool) {
		for i := range n {
			g.Observe(netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}), ddos.Outcome{For: shop, Shed: shed && i%4 == 0}, now)
		}
		now = now.Add(time.Second)
		g.Tick(now)
	}
	for range 120 {
		second(300, false)
	}
	for range 10 {
		second(5000, false)
	}
	if f := g.Figures(); f.Attack || f.Attacked != nil {
		t.Error("a crowd for which there is room is taken for an attack")
	}
	for range 5 {
		second(5000, true)
	}
	if f := g.Figures(); !slices.Equal(f.Attacked, []string{"shop"}) || f.Attack || f.Pressure != 1 {
		t.Errorf("a fourth is refused for want of room: %+v", f)
	}
	for range 90 {
		second(300, false)
	}
	if f := g.Figures(); f.Attack || f.Attacked != nil || f.Pressure > 0 {
		t.Errorf("when it is over: %+v", f)
	}
}

package ratelimit

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

// Bounds of a limit.
const (
	MaxCount  = 1_000_000           // tokens a window, and of a burst
	MaxWindow = 31 * 24 * time.Hour // of a rate
	minToken  = time.Microsecond    // the shortest interval between tokens
	maxAhead  = 45 * 24 * time.Hour // burst × interval, as a fleet's engine keeps it
)

// A Spec says what a limit counts and how much it lets through. The zero Spec
// gives no limit.
type Spec struct {
	// Name goes into headers that callers see, and is what a count is kept by,
	// across reloads too: limits that share a name share their counts. Letters,
	// digits and _ . - : only.
	Name string
	// By is what it counts by: address, network, asn, country, principal, key,
	// client, tenant, operation, custom ([Key.Custom]), several joined by +, or all
	// for one count for everyone. A caller who lacks the thing is counted by its
	// address instead: nobody escapes a limit by being nobody.
	By         string
	IPv6Prefix int    // bits of an IPv6 address that are one caller: 48, 56 or 64; 0 is 64
	Rate       string // "100/min", see [Parse]
	Burst      int    // how many tokens may be taken at once; 0 for a whole window's
	Cost       int    // tokens of one request; 0 is 1
	Failures   bool   // requests only ask whether a token is left; [Limiter.Charge] takes it from those that failed
	Shadow     bool   // what is refused is to be let through all the same
	Strict     bool   // in a fleet, each request asks the engine: nothing is ever let through too much, and what cannot be asked is refused

	Quota    string // "10000/month", see [ParseQuota]; in the place of Rate and Burst
	Timezone string // of Quota, as the IANA database names it; "": UTC
}

// A Limit is how much each key may have. The zero Limit gives nothing. Make one
// with [Compile]; it is read-only.
type Limit struct {
	name      string
	id        [2]uint64 // of the name
	by        []dimension
	ipv6      int   // bytes of an IPv6 address that count
	count     int64 // of the rate
	window    int64 // ns
	interval  int64 // ns between tokens, rounded up: a limit is never exceeded by rounding
	burst     int64
	tolerance int64 // burst × interval
	ceiling   int64 // how far ahead of its schedule a key may be at all: tolerance, or more where it can owe
	cost      int64
	failures  bool
	shadow    bool
	strict    bool
	quota     *calendar // nil: a rate. Else count and burst are the quota, interval and tolerance 0.
}

// debt is how many bursts a key may owe for failures. They are counted when they
// are over, so that who sends a thousand at once gets as many answers: it pays for
// them by waiting longer.
const debt = 10

// Compile makes a limit.
func Compile(s Spec) (*Limit, error) {
	if s.Quota != "" {
		return compileQuota(s)
	}
	count, window, err := Parse(s.Rate)
	if err != nil {
		return nil, err
	}
	l, err := s.limit()
	if err != nil {
		return nil, err
	}
	l.count, l.window = int64(count), int64(window)
	if l.burst == 0 {
		l.burst = l.count
	}
	l.interval = (l.window + l.count - 1) / l.count
	switch {
	case l.interval < int64(minToken):
		return nil, fmt.Errorf("limit %q: %s is more than one each microsecond", s.Name, s.Rate)
	case l.interval > int64(maxAhead)/l.burst:
		return nil, fmt.Errorf("limit %q: a burst of %d at %s takes more than 45 days to come back", s.Name, l.burst, s.Rate)
	case l.cost > l.burst:
		return nil, fmt.Errorf("limit %q: a request costs %d and only %d may come at once: none would ever be let through", s.Name, s.Cost, l.burst)
	case l.strict && l.failures:
		return nil, fmt.Errorf("limit %q: whether a request fails is known when it is over, so a limit of failures cannot be strict", s.Name)
	}
	l.tolerance = l.burst * l.interval
	l.ceiling = l.tolerance
	if l.failures {
		l.ceiling *= debt
	}
	return l, nil
}

// limit is what a limit has whatever it counts in.
func (s *Spec) limit() (*Limit, error) {
	if s.Name == "" || len(s.Name) > 64 || strings.ContainsFunc(s.Name, func(r rune) bool {
		return r != '_' && r != '.' && r != '-' && r != ':' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) {
		return nil, fmt.Errorf("limit name %q: expected 1 to 64 letters, digits, _ . : -", s.Name)
	}
	if s.Burst < 0 || s.Burst > MaxCount {
		return nil, fmt.Errorf("limit %q: burst %d is not between 0 and %d", s.Name, s.Burst, MaxCount)
	}
	if s.Cost < 0 {
		return nil, fmt.Errorf("limit %q: cost %d is below 0", s.Name, s.Cost)
	}
	l := &Limit{
		name: s.Name, burst: int64(s.Burst), cost: int64(max(1, s.Cost)), failures: s.Failures, shadow: s.Shadow, strict: s.Strict,
	}
	switch s.IPv6Prefix {
	case 0:
		l.ipv6 = 8
	case 48, 56, 64:
		l.ipv6 = s.IPv6Prefix / 8
	default:
		return nil, fmt.Errorf("limit %q: an IPv6 caller is a /48, /56 or /64, not a /%d", s.Name, s.IPv6Prefix)
	}
	sum := sha256.Sum256([]byte(s.Name))
	l.id = [2]uint64{binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:])}
	by, err := parseBy(s.By)
	if err != nil {
		return nil, fmt.Errorf("limit %q: %w", s.Name, err)
	}
	l.by = by
	return l, nil
}

// Name returns the limit's name.
func (l *Limit) Name() string { return l.name }

// Cost is how many tokens a request takes.
func (l *Limit) Cost() int64 { return l.cost }

// Burst is how many tokens may be taken at once.
func (l *Limit) Burst() int64 { return l.burst }

// Failures reports whether only requests that fail are counted: [Limiter.Take]
// then takes nothing.
func (l *Limit) Failures() bool { return l.failures }

// Shadow reports whether a refusal is to be told to the operator alone.
func (l *Limit) Shadow() bool { return l.shadow }

// String describes the limit: "100 in 1m0s, 20 at once, by principal+operation".
func (l *Limit) String() string {
	by := make([]string, len(l.by))
	for i, d := range l.by {
		by[i] = names[d]
	}
	if len(by) == 0 {
		by = []string{"all"}
	}
	out := fmt.Sprintf("%d in %s, %d at once, by %s", l.count, time.Duration(l.window), l.burst, strings.Join(by, "+"))
	if l.quota != nil {
		out = fmt.Sprintf("%d a %s (%s), by %s", l.count, l.quota.unit, l.quota.where, strings.Join(by, "+"))
	}
	if l.strict {
		out += ", strict"
	}
	if l.ipv6 != 8 && l.Counts("address") {
		out += fmt.Sprintf(" (an IPv6 /%d is one)", l.ipv6*8)
	}
	if l.cost > 1 {
		out += fmt.Sprintf(", a request costs %d", l.cost)
	}
	if l.failures {
		out += ", only what fails is counted"
	}
	if l.shadow {
		out += ", shadow: nothing is refused"
	}
	return out
}

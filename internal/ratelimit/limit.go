package ratelimit

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A dimension is one of the things a limit counts by.
type dimension uint8

const (
	byAddress   dimension = iota + 1 // the IPv4 address, or the /64 of an IPv6 one
	byPrincipal                      // issuer and subject
	byKey                            // API key or client certificate
	byClient                         // OAuth client, within its issuer
	byTenant
	byOperation // API and operation
)

var dimensions = map[string]dimension{
	"address": byAddress, "principal": byPrincipal, "key": byKey, "client": byClient, "tenant": byTenant, "operation": byOperation,
}

// Bounds of a limit.
const (
	MaxCount  = 1_000_000            // tokens a window, and of a burst
	MaxWindow = 31 * 24 * time.Hour  // of a rate
	minToken  = time.Microsecond     // the shortest interval between tokens
	maxAhead  = 366 * 24 * time.Hour // burst × interval
)

// A Limit is how much each key may have. The zero Limit gives nothing. Make one
// with [NewLimit]; it is read-only.
type Limit struct {
	name      string
	id        [2]uint64 // of the name
	by        []dimension
	count     int64
	window    int64 // ns
	interval  int64 // ns between tokens, rounded up: a limit is never exceeded by rounding
	burst     int64
	tolerance int64 // burst × interval
}

// NewLimit makes a limit of the rate ("100/min", see [Parse]). burst is how many
// tokens may be taken at once, 0 for a whole window's.
//
// by is what it counts by: address (of IPv6 the /64), principal, key, client,
// tenant, operation, several joined by +, or all for one count for everyone. A
// caller who lacks the thing is counted by its address instead: nobody escapes
// a limit by being nobody.
//
// The name goes into headers that callers see, and is what a count is kept by,
// across reloads too, so limits that share a name share their counts: letters,
// digits and _ . - only.
func NewLimit(name, by, rate string, burst int) (*Limit, error) {
	count, window, err := Parse(rate)
	if err != nil {
		return nil, err
	}
	if name == "" || len(name) > 64 || strings.ContainsFunc(name, func(r rune) bool {
		return r != '_' && r != '.' && r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) {
		return nil, fmt.Errorf("limit name %q: expected 1 to 64 letters, digits, _ . -", name)
	}
	if burst < 0 || burst > MaxCount {
		return nil, fmt.Errorf("limit %q: burst %d is not between 0 and %d", name, burst, MaxCount)
	}
	l := &Limit{name: name, count: int64(count), window: int64(window), burst: int64(burst)}
	if burst == 0 {
		l.burst = l.count
	}
	l.interval = (l.window + l.count - 1) / l.count
	if l.interval < int64(minToken) {
		return nil, fmt.Errorf("limit %q: %s is more than one each microsecond", name, rate)
	}
	if l.interval > int64(maxAhead)/l.burst {
		return nil, fmt.Errorf("limit %q: a burst of %d at %s takes more than a year to come back", name, l.burst, rate)
	}
	l.tolerance = l.burst * l.interval
	sum := sha256.Sum256([]byte(name))
	l.id = [2]uint64{binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:])}
	if l.by, err = parseBy(by); err != nil {
		return nil, fmt.Errorf("limit %q: %w", name, err)
	}
	return l, nil
}

func parseBy(by string) ([]dimension, error) {
	if by == "all" {
		return nil, nil
	}
	var out []dimension
	for part := range strings.SplitSeq(by, "+") {
		d, ok := dimensions[part]
		if !ok {
			return nil, fmt.Errorf("cannot count by %q: expected address, principal, key, client, tenant, operation, several joined by +, or all", part)
		}
		if slices.Contains(out, d) {
			return nil, fmt.Errorf("counts by %q twice", part)
		}
		out = append(out, d)
	}
	return out, nil
}

// Name returns the limit's name.
func (l *Limit) Name() string { return l.name }

// String describes the limit: "100 in 1m0s, 20 at once, by principal+operation".
func (l *Limit) String() string {
	by := make([]string, len(l.by))
	for i, d := range l.by {
		for name, known := range dimensions {
			if d == known {
				by[i] = name
			}
		}
	}
	if len(by) == 0 {
		by = []string{"all"}
	}
	return fmt.Sprintf("%d in %s, %d at once, by %s", l.count, time.Duration(l.window), l.burst, strings.Join(by, "+"))
}

// NeedsPrincipal reports whether the limit can be taken only after
// authentication.
func (l *Limit) NeedsPrincipal() bool {
	return slices.ContainsFunc(l.by, func(d dimension) bool { return d != byAddress && d != byOperation })
}

// Parse reads a rate: a count, a slash and a window, as in "100/min", "10/s",
// "1000/h", "5/15min". Units are s, min, h and d.
func Parse(rate string) (count int, window time.Duration, err error) {
	fail := func(why string) (int, time.Duration, error) {
		return 0, 0, fmt.Errorf("rate %q: %s; expected a count and a window, like 100/min (units s, min, h, d)", shorten(rate), why)
	}
	left, right, ok := strings.Cut(rate, "/")
	if !ok {
		return fail("no slash")
	}
	if count, err = number(left); err != nil {
		return fail(err.Error())
	}
	digits := len(right) - len(strings.TrimLeft(right, "0123456789"))
	many := 1
	if digits > 0 {
		if many, err = number(right[:digits]); err != nil {
			return fail(err.Error())
		}
	}
	unit := map[string]time.Duration{
		"s": time.Second, "sec": time.Second, "second": time.Second,
		"m": time.Minute, "min": time.Minute, "minute": time.Minute,
		"h": time.Hour, "hour": time.Hour, "d": 24 * time.Hour, "day": 24 * time.Hour,
	}[right[digits:]]
	if unit == 0 {
		return fail("unknown unit")
	}
	if time.Duration(many) > MaxWindow/unit {
		return fail("the window is longer than 31 days")
	}
	return count, time.Duration(many) * unit, nil
}

func number(s string) (int, error) {
	if s == "" || len(s) > 7 || s[0] == '+' || s[0] == '-' {
		return 0, fmt.Errorf("the number is not between 1 and %d", MaxCount)
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, errors.New("not a number")
	}
	if n < 1 || n > MaxCount {
		return 0, fmt.Errorf("the number is not between 1 and %d", MaxCount)
	}
	return n, nil
}

func shorten(s string) string {
	if len(s) > 32 {
		return s[:32] + "…"
	}
	return s
}

package ratelimit

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	_ "time/tzdata" // an image made from scratch has no time zones
)

// MaxQuota is the largest quota.
const MaxQuota = 1_000_000_000_000

// A calendar cuts time into days, weeks (from Monday, ISO 8601), months or years
// of one place.
type calendar struct {
	unit  string
	where *time.Location
	last  atomic.Pointer[period] // the period that was asked about last
}

// A period is one of them, in Unix milliseconds: since is in it, until is not.
type period struct {
	since, until int64
	left         int64 // nanoseconds until its end
}

// nominal is a unit's length as headers have it.
func nominal(unit string) time.Duration {
	const day = 24 * time.Hour
	switch unit {
	case "day":
		return day
	case "week":
		return 7 * day
	case "month":
		return 31 * day
	}
	return 365 * day
}

// ParseQuota reads a quota: a count, a slash and day, week, month or year, as in
// "10000/month".
func ParseQuota(quota string) (count int64, unit string, err error) {
	left, unit, ok := strings.Cut(quota, "/")
	count, err = strconv.ParseInt(left, 10, 64)
	switch {
	case !ok || unit != "day" && unit != "week" && unit != "month" && unit != "year":
		err = errors.New("no period of the calendar")
	case err != nil || left[0] < '0' || left[0] > '9' || count < 1 || count > MaxQuota:
		err = fmt.Errorf("the number is not between 1 and %d", int64(MaxQuota))
	}
	if err != nil {
		return 0, "", fmt.Errorf("quota %q: %w; expected a count and a period, like 10000/month (day, week, month, year)", shorten(quota), err)
	}
	return count, unit, nil
}

// compileQuota makes a limit of a quota.
func compileQuota(s Spec) (*Limit, error) {
	count, unit, err := ParseQuota(s.Quota)
	if err != nil {
		return nil, fmt.Errorf("limit %q: %w", s.Name, err)
	}
	l, err := s.limit()
	switch {
	case err != nil:
		return nil, err
	case s.Rate != "" || s.Burst != 0:
		return nil, fmt.Errorf("limit %q: a quota has neither rate nor burst; write a second limit", s.Name)
	case s.Failures:
		return nil, fmt.Errorf("limit %q: a quota counts requests, not failures", s.Name)
	case l.cost > count:
		return nil, fmt.Errorf("limit %q: a request costs %d of a quota of %d: none would ever be let through", s.Name, l.cost, count)
	}
	if l.quota, err = newCalendar(unit, s.Timezone); err != nil {
		return nil, fmt.Errorf("limit %q: %w", s.Name, err)
	}
	l.count, l.burst, l.window = count, count, int64(nominal(unit))
	return l, nil
}

// newCalendar makes the calendar of a place, as the IANA time zone database names
// it; "" is UTC.
func newCalendar(unit, zone string) (*calendar, error) {
	if zone == "Local" { // the machine's: two nodes may disagree
		return nil, errors.New(`timezone "Local": expected a name of the IANA database, like Europe/Berlin`)
	}
	where, err := time.LoadLocation(zone)
	if err != nil {
		return nil, fmt.Errorf("timezone %q: expected a name of the IANA database, like Europe/Berlin", shorten(zone))
	}
	return &calendar{unit: unit, where: where}, nil
}

// at is the period that t is in.
func (c *calendar) at(t time.Time) period {
	ms := t.UnixMilli()
	p := c.last.Load()
	if p == nil || ms < p.since || ms >= p.until {
		p = c.cut(t)
		c.last.Store(p)
	}
	return period{p.since, p.until, (p.until - ms) * int64(time.Millisecond)}
}

// cut finds the midnights around t. time.Date is right on days of 23 and 25 hours;
// where there is no midnight, because the clock is set forward over it, the day
// begins when the clock has been set.
func (c *calendar) cut(t time.Time) *period {
	year, month, day := t.In(c.where).Date()
	midnight := func(y int, m time.Month, d int) int64 {
		at := time.Date(y, m, d, 0, 0, 0, 0, c.where)
		if at.Day() != time.Date(y, m, d, 12, 0, 0, 0, c.where).Day() { // normalised to the evening before
			_, end := at.ZoneBounds()
			at = end
		}
		return at.UnixMilli()
	}
	switch c.unit {
	case "day":
		return &period{since: midnight(year, month, day), until: midnight(year, month, day+1)}
	case "week":
		day -= (int(t.In(c.where).Weekday()) + 6) % 7
		return &period{since: midnight(year, month, day), until: midnight(year, month, day+7)}
	case "month":
		return &period{since: midnight(year, month, 1), until: midnight(year, month+1, 1)}
	}
	return &period{since: midnight(year, 1, 1), until: midnight(year+1, 1, 1)}
}

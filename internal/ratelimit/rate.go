package ratelimit

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

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

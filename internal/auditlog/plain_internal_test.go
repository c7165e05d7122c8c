package auditlog

import (
	"strings"
	"testing"
	"time"
)

// Eight bytes at a time must say what the table says of each, wherever it stands
// and whatever stands beside it.
func TestPlainTextIsToldEightBytesAtATime(t *testing.T) {
	for at := range 19 {
		for c := range 256 {
			for _, beside := range []byte{' ', '~', '!', '#', '[', ']', 'a'} {
				b := []byte(strings.Repeat(string(beside), 19))
				b[at] = byte(c)
				if got := isPlain(b); got != plain[c] {
					t.Fatalf("byte %#x at %d among %q: %v, want %v", c, at, beside, got, plain[c])
				}
			}
		}
	}
}

func TestTimesAreWrittenAsRFC3339(t *testing.T) {
	const nine = "2006-01-02T15:04:05.000000000Z"
	for _, at := range []time.Time{
		{},
		time.Unix(0, 0), time.Unix(1_795_434_604, 999_999_999), time.Date(9999, 12, 31, 23, 59, 59, 1, time.UTC),
		time.Date(0, 1, 1, 0, 0, 0, 10, time.UTC), time.Date(2026, 11, 23, 1, 2, 3, 120_304_056, time.FixedZone("", -7200)),
		time.Date(2000, 2, 29, 10, 20, 30, 100_000_000, time.UTC), time.Date(1905, 10, 9, 8, 7, 6, 90_000_000, time.UTC),
	} {
		if got, want := string(appendTime(nil, at)), at.UTC().Format(nine); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	for _, year := range []int{-1, 10_000} {
		if got := string(appendTime(nil, time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC))); got != "0001-01-01T00:00:00.000000000Z" {
			t.Errorf("the year %d is %s", year, got)
		}
	}
}

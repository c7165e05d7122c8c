package rx_test

import (
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/validate/rx"
)

func TestASetAnswersForEachPattern(t *testing.T) {
	s, err := rx.NewSet([]rx.Pattern{{Expr: `(?sm)union\s+select`}, {Expr: `(?sm)^x$`}, {Expr: `\xff`, Binary: true}}, rx.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]uint64{"": 0, "1 union  select": 1, "a\nx": 2, "\xff\nx\n": 6} {
		hits, left := rx.NewBits(s.Len()), int64(1e6)
		if !s.Scan(text, hits, nil, &left) || hits[0] != want {
			t.Errorf("%q: %b, want %b", text, hits[0], want)
		}
	}
}

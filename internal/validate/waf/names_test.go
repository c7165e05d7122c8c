package waf_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

// Rules leave out some cookies by name, so that a name that was never seen takes
// work: five thousand of them in one head took a tenth of a second, and one
// thirtieth of it was charged.
func TestNamesThatWereNeverSeenArePaidFor(t *testing.T) {
	r, err := waf.Load(waf.Config{Paranoia: 4})
	if err != nil {
		t.Fatal(err)
	}
	const count = 5000
	cost := func(name func(i int) string) int64 {
		var b strings.Builder
		for i := range count {
			b.WriteString(name(i) + "=1; ")
		}
		var f waf.Facts
		var v waf.Verdict
		f.Read(&waf.Message{Method: "GET", Target: "/", Protocol: "HTTP/1.1", Header: []waf.Field{{Name: "Host", Value: "a"}, {Name: "Cookie", Value: b.String()}}})
		r.Request(&f, &v)
		return v.Cost
	}
	cost(func(int) string { return "session00000" })
	known := cost(func(int) string { return "session00000" })
	if fresh := cost(func(i int) string { return fmt.Sprintf("session%05d", i) }); fresh < known+count*300 {
		t.Errorf("%d new names cost %d, one known %d", count, fresh, known)
	}
}

package waf_test

import (
	"fmt"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

func TestWhatOneRuleMatchedIsNotToldOfAnother(t *testing.T) {
	r, err := waf.Load(waf.Config{Paranoia: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{8 << 10, 64 << 10} {
		m := posted(fmt.Sprintf(`{"text":%q}`, text(n)))
		var f waf.Facts
		f.Read(&m)
		var v waf.Verdict
		r.Request(&f, &v)
		for _, h := range v.Hits {
			if h.Rule == 949110 && h.Match != "" {
				t.Errorf("%d bytes: 949110 is told to have matched %q", n, h.Match)
			}
		}
	}
}

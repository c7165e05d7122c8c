package validate_test

import (
	"strings"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/validate"
	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

// talker is an engine whose one rule quotes what it matched.
type talker struct{ hit waf.Hit }

func (e *talker) Request(_ *waf.Facts, v *waf.Verdict) { v.Hits = append(v.Hits, e.hit) }
func (*talker) Answer(*waf.Facts, *waf.Verdict)        {}

func TestASentenceThatQuotesAValueDoesNotGiveItAway(t *testing.T) {
	const key = "eyJhbGciOiJFUzI1NiJ9"
	long := "Bearer " + key + strings.Repeat("abcdefgh", 60)
	for _, test := range []struct{ name, msg string }{
		{"whole, and longer than a sentence may be", "Found " + long + " in a header"},
		{"whole, behind a long sentence", strings.Repeat("so ", 40) + long},
		{"in pieces", "Found '" + key + "', which is odd"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := &talker{waf.Hit{Rule: 1, Msg: test.msg, Target: "REQUEST_HEADERS", Name: "Authorization", Text: long, Match: long}}
			doc, err := validate.LoadFile("testdata/orders.yaml", validate.Options{API: "demo", Settings: validate.Settings{Rules: validate.Report}, WAF: validate.NewWAF(e)})
			if err != nil {
				t.Fatal(err)
			}
			var found validate.Inspection
			var head validate.Head
			var body validate.Body
			r := request(t, "GET /v1/orders", "", "Authorization: "+long)
			if err := doc.Operations()[0].Inspect(r, "192.0.2.1", nil, &head, &body, &found); err != nil || len(found.Matches) != 1 {
				t.Fatalf("%v, %+v", err, found)
			}
			if m := found.Matches[0]; strings.Contains(m.Text, key[:8]) || m.Part != "(secret)" || !strings.Contains(m.Text, "(secret)") {
				t.Errorf("the record says %+v", m)
			}
		})
	}
}

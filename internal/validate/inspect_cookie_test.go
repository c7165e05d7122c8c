package validate_test

import (
	"slices"
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/validate"
	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

// reader is an engine that notes the header fields it is shown.
type reader struct{ fields []waf.Field }

func (e *reader) Request(f *waf.Facts, _ *waf.Verdict) { e.fields = slices.Clone(f.Header) }
func (*reader) Answer(*waf.Facts, *waf.Verdict)        {}

func TestCookiesInPiecesAreShownAsTheServiceReadsThem(t *testing.T) {
	e := new(reader)
	doc, err := validate.LoadFile("testdata/orders.yaml", validate.Options{API: "demo", Settings: validate.Settings{Rules: validate.Report}, WAF: validate.NewWAF(e)})
	if err != nil {
		t.Fatal(err)
	}
	var found validate.Inspection
	var head validate.Head
	var body validate.Body
	r := request(t, "GET /v1/orders", "", "Cookie: a=1", "Cookie: b=2")
	if err := doc.Operations()[0].Inspect(r, "192.0.2.1", nil, &head, &body, &found); err != nil {
		t.Fatal(err)
	}
	if want := (waf.Field{Name: "Cookie", Value: "a=1; b=2"}); !slices.Contains(e.fields, want) {
		t.Errorf("the rules see %v, want %v among them", e.fields, want)
	}
}

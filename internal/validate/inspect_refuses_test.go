package validate_test

import (
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/validate"
)

// Who removes the rule that all refusals go through has rules that only look so.
func TestWithoutTheRuleThatRefusesAnOperationSaysSo(t *testing.T) {
	remove := []validate.RuleSource{{Name: "own", Text: []byte("SecRuleRemoveById 949110\n")}}
	for _, test := range []struct {
		name    string
		after   []validate.RuleSource
		exclude []string
		want    bool
	}{
		{"as it comes it refuses", nil, nil, true},
		{"another rule's exclusion changes nothing", nil, []string{"942000-942999"}, true},
		{"removed by SecRuleRemoveById", remove, nil, false},
		{"removed by an exclusion's range", nil, []string{"900000-999999"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, err := validate.LoadWAF("compiled", validate.RulesConfig{After: test.after})
			if err != nil {
				t.Fatal(err)
			}
			s := validate.Settings{Rules: validate.Enforce}
			if test.exclude != nil {
				s.Exclude = []validate.Exclusion{{Rules: test.exclude}}
			}
			doc, err := validate.LoadFile("testdata/orders.yaml", validate.Options{API: "demo", Settings: s, WAF: w})
			if err != nil {
				t.Fatal(err)
			}
			if got := doc.Operations()[0].Refuses(); got != test.want {
				t.Errorf("it refuses: %v", got)
			}
		})
	}
}

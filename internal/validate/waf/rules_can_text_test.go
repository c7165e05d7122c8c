package waf_test

import (
	"testing"

	"github.com/gatehouse-api/gatehouse/internal/validate/rx"
	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

// A proof that is wrong is a hole: whatever a transformation can make of a text
// that the language has, the rule stays.
func TestARuleStaysWhenATransformationMakesWhatItLooksFor(t *testing.T) {
	for _, test := range []struct{ name, rule, language, text string }{
		{"a Kelvin sign becomes a small k", `SecRule ARGS "@contains k" "id:1,phase:2,deny,t:lowercase"`, `^[^a-zK]*$`, "ON\u212aEY"},
		{"a capital i with its dot becomes a small i", `SecRule ARGS "@contains union" "id:1,phase:2,deny,t:lowercase"`, `^[^iI]*$`, "UN\u0130ON"},
		{"a comment without end becomes a space", `SecRule ARGS "@rx union\s" "id:1,phase:2,deny,t:removeComments"`, `^[a-z/*]+$`, "union/*x"},
		{"behind a comment at the end stands a zero byte", `SecRule ARGS "@rx \x00" "id:1,phase:2,deny,t:removeComments"`, `^[a-z/*]+$`, "a/**/"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := waf.Load(waf.Config{NoCRS: true, After: []waf.Source{{Name: "own", Text: []byte(test.rule)}}})
			if err != nil {
				t.Fatal(err)
			}
			own := r.Len() - 1
			l, err := rx.LanguageOf(test.language, 0)
			if err != nil {
				t.Fatal(err)
			}
			if !r.Text(waf.ArgGet, "q", test.text).Has(own) {
				t.Fatalf("the rule does not match %q", test.text)
			}
			if !r.Can(waf.ArgGet, "q", l).Has(own) {
				t.Errorf("the rule can not match a text of %s, it says; it matches %q", test.language, test.text)
			}
		})
	}
}

package validate

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/gatehouse-api/gatehouse/internal/validate/coraza"
	"github.com/gatehouse-api/gatehouse/internal/validate/waf"
)

// RulesConfig says which rules a [WAF] has.
type RulesConfig = waf.Config

// RuleSource is one file of rules.
type RuleSource = waf.Source

// RulesExclusion names rules that do not run.
type RulesExclusion = waf.Exclusion

// LoadWAF makes the engine that asks the rules of c: "compiled", ours, or
// "coraza", the reference. Errors name file, line and column of the rules.
func LoadWAF(engine string, c RulesConfig) (*WAF, error) {
	c.Without = slices.Clone(c.Without)
	if !c.NoCRS {
		// Whoever seems to call from this very host and says he is Apache talking to
		// itself would have all rules off: 905100 and 905110 are for Apache.
		c.Without = append(c.Without, waf.Exclusion{Rules: []string{"905100-905199"}})
	}
	switch engine {
	case "compiled":
		r, err := waf.Load(c)
		if err != nil {
			return nil, err
		}
		return newWAF(r), nil
	case "coraza":
		// What the document decides, no list of the rules decides again.
		c.Without = append(c.Without, waf.Exclusion{Rules: []string{strconv.Itoa(ruleMethods), strconv.Itoa(ruleTypes)}})
		e, err := coraza.Load(c)
		if err != nil {
			return nil, err
		}
		return newWAF(e), nil
	}
	return nil, fmt.Errorf("validate: there is no engine %q", engine)
}

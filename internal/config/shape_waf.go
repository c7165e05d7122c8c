package config

import "time"

// A WAF says which rules look for attacks in the content of requests and answers.
type WAF struct {
	Engine     string         `yaml:"engine" default:"compiled" enum:"compiled coraza" doc:"compiled: our own, the rules turned into a plan; coraza: the reference engine, a hundred times as slow, with the same verdicts."`
	Mode       string         `yaml:"mode" default:"enforce" enum:"enforce report off" doc:"enforce refuses what reaches the threshold; report writes in the event what would be refused."`
	Paranoia   int            `yaml:"paranoia" default:"1" min:"1" max:"4" doc:"Paranoia level of the Core Rule Set up to which rules count: higher finds more, and more that is harmless."`
	Detect     int            `yaml:"detect" min:"1" max:"4" doc:"Level up to which rules are asked and written in the event, without counting. Default: paranoia."`
	Threshold  int            `yaml:"threshold" default:"5" min:"1" max:"1000" doc:"Anomaly score that is refused; one critical rule has 5."`
	Answers    string         `yaml:"answers" default:"off" enum:"off report enforce" doc:"Ask the Core Rule Set's rules about answers, too; leaks, below, is the quicker half of them."`
	Outbound   int            `yaml:"answer_threshold" default:"4" min:"1" max:"1000" doc:"Anomaly score of an answer that is held back."`
	Leaks      string         `yaml:"leaks" default:"report" enum:"off report enforce" doc:"Look for stack traces, database errors, card numbers and keys in answers."`
	NotLeaks   []Text         `yaml:"not_leaks" max:"100" format:"reason" doc:"Names of leak rules that are not asked, like jwt at an API whose answers are tokens."`
	Deeper     string         `yaml:"deeper" default:"report" enum:"off report enforce" doc:"Decode free text that is Base64, hex, JSON or encoded twice, and ask the rules again."`
	Before     []Path         `yaml:"rules_before" carried:"true" max:"64" doc:"SecLang files of your own that run before the Core Rule Set: its settings, exclusions by ctl."`
	Rules      []Path         `yaml:"rules" carried:"true" max:"64" doc:"SecLang files of your own that run behind it: more rules, SecRuleRemoveById, SecRuleUpdateTargetById."`
	CoreRules  bool           `yaml:"core_rules" default:"true" doc:"The OWASP Core Rule Set; false: your own rules only."`
	Exclude    []WAFExclusion `yaml:"exclude" max:"4096" doc:"What rules do not look at, at every operation."`
	Budget     time.Duration  `yaml:"budget" default:"20ms" min:"100us" max:"10s" doc:"Work of the rules for one request, in about the time it takes on one core."`
	OverBudget string         `yaml:"over_budget" default:"refuse" enum:"refuse pass" doc:"What happens to a request whose content is not looked through when the budget ends; pass is written in the event."`
	Charge     time.Duration  `yaml:"charge" default:"1ms" min:"0s" max:"10s" doc:"Each such piece of work, the first excepted, counts as one more request against the caller's limits; 0s: none does."`
	Place      Place          `yaml:"-"`
}

// WAFHere is what an API or an operation has of its own.
type WAFHere struct {
	Mode     string         `yaml:"mode" enum:"enforce report off" doc:"Default: the API's, or waf.mode. It is never stricter than waf.mode off."`
	Answers  string         `yaml:"answers" enum:"off report enforce" doc:"Default: the API's, or waf.answers."`
	Leaks    string         `yaml:"leaks" enum:"off report enforce" doc:"Default: the API's, or waf.leaks."`
	NotLeaks []Text         `yaml:"not_leaks" max:"100" format:"reason" doc:"Names of leak rules that are not asked here, beside waf.not_leaks."`
	Deeper   string         `yaml:"deeper" enum:"off report enforce" doc:"Default: the API's, or waf.deeper."`
	Exclude  []WAFExclusion `yaml:"exclude" max:"1024" doc:"What rules do not look at here, beside waf.exclude."`
	Place    Place          `yaml:"-"`
}

// A WAFExclusion keeps rules from one value. 'gatehouse waf tune' proposes them.
type WAFExclusion struct {
	Rules     RuleNames `yaml:"rules" required:"true" min:"1" max:"256" format:"rules" doc:"Ids (942100), ranges (942000-942999) or tags (attack-sqli)."`
	Parameter Text      `yaml:"parameter" format:"parameter" doc:"The value they do not look at: query.q, path.id, header.Referer, cookie.theme, body.q of a form, body/items/*/note of JSON. Default: none, the rules do not run at all."`
	Because   string    `yaml:"because" required:"true" doc:"Why it is harmless there, in a sentence: the next reader decides by it whether it still is."`
	Place     Place     `yaml:"-"`
}

package waf

// A Config says which rules run and how.
type Config struct {
	Paranoia  int // level up to which matches count against the message, 1 to 4; 0: 1
	Detect    int // level up to which rules are asked and reported; 0: Paranoia
	Threshold int // inbound anomaly score that blocks; 0: 5
	Outbound  int // outbound anomaly score that blocks; 0: 4

	Methods      []string // that operations have: rule 911100 refuses others; nil: CRS's own, without PUT, PATCH and DELETE
	ContentTypes []string // that they take: rule 920420; nil: CRS's own list

	Before []Source // a user's own rules that run before the Core Rule Set: settings, exclusions by ctl
	After  []Source // and behind it: more rules, SecRuleRemoveById, SecRuleUpdateTargetById
	NoCRS  bool     // only the user's own

	Without []Exclusion // rules that do not look at certain values, at any operation

	Budget int64 // work for one message, in about nanoseconds; 0: 20,000,000
}

// A Source is one file of SecLang.
type Source struct {
	Name string // for errors
	Text []byte
}

// An Exclusion keeps rules from looking at some values, or from running at all.
type Exclusion struct {
	Rules []string // ids ("942100"), ranges ("942000-942999") and tags ("attack-sqli")
	In    In       // place of the values; 0: everything, the rules do not run
	Name  string   // of the value: "q", "json.note"; a trailing * stands for any rest; "" all of that place
}

package seclang

import (
	"fmt"
	"regexp"
)

// A Program is rules and markers in the order in which they run.
type Program struct {
	Items []Item
}

// An Item is one rule, with its chain, or a marker: exactly one is set.
type Item struct {
	Rule   *Rule
	Marker string // SecMarker: where skipAfter goes on
}

// A Rule is a SecRule or a SecAction, with the directives that change rules
// already applied.
type Rule struct {
	ID    int
	Phase int // 1 request head, 2 request body, 3 answer head, 4 answer body, 5 logging

	Targets    []Target
	Op         Operator // Name is "" of a SecAction, which always matches
	Transforms []string // in order, those before t:none dropped; names as SecLang writes them: urlDecodeUni
	MultiMatch bool     // the operator is asked after each transformation, not only after the last
	Capture    bool     // what the expression's groups caught becomes TX:0 to TX:9

	SetVars   []SetVar
	Controls  []Control
	Action    string // pass, block, deny, drop, allow, allow:phase or allow:request; "" none, which passes
	Blocks    string // of block: the default action of the phase (SecDefaultAction): pass in anomaly scoring; "" none, which passes
	Status    int    // of deny; 0: 403
	Skip      int    // rules to skip after a match
	SkipAfter string // marker to go on at after a match
	Log       bool   // a match is reported

	Severity string // CRITICAL, ERROR, WARNING, NOTICE ...; "" when the rule has none
	Msg      string // with %{} macros
	LogData  string // with %{} macros
	Tags     []string
	Version  string // ver

	Chain []*Rule // the rest of the chain, in order; their ID is 0 and their Chain empty
	Place Place
}

// A Place is where a rule was written.
type Place struct {
	File string
	Line int
	Col  int
}

func (p Place) String() string { return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col) }

// A Target is what of a message a rule looks at.
type Target struct {
	Collection string         // upper case: ARGS, REQUEST_HEADERS, XML ...
	Key        string         // one member; "" all. As written of ARGS and its kin, else in lower case. Of XML the path: /* or //@*
	KeyRx      *regexp.Regexp // members whose name in lower case matches, instead of Key
	Count      bool           // &ARGS: their number
	Except     []Except       // members that are not looked at
}

// An Except is a member that a target leaves out: !ARGS:password. Names are
// compared in lower case, whatever the collection. With neither it is all members.
type Except struct {
	Key   string         // in lower case
	KeyRx *regexp.Regexp // instead of Key, about names in lower case
}

// An Operator is the question a rule asks about a value.
type Operator struct {
	Name   string // without @, as SecLang writes it: rx, pmFromFile, detectSQLi
	Arg    string // may hold %{} macros
	Negate bool   // !@rx
	Data   []byte // of the *FromFile operators: the file's content
}

// A SetVar changes a variable of the transaction, TX:Name.
type SetVar struct {
	Name   string // lower case; may hold %{} macros
	Value  string // with %{} macros; of '+' and '-' what stands behind the sign
	Op     byte   // '=' set, '+' add, '-' subtract; where Value is no number, '+' and '-' set it with its sign
	Delete bool   // !TX.Name
}

// A Control is a ctl action: it changes how the rest of this transaction runs.
type Control struct {
	Name   string // ruleRemoveById, ruleRemoveByTag, ruleRemoveByMsg, ruleRemoveTargetById, -ByTag, -ByMsg, requestBodyProcessor, forceRequestBodyVariable, ruleEngine, auditEngine, auditLogParts
	Value  string // of ById an id or a range "942100-942199"; of requestBodyProcessor in upper case
	Target Target // of ruleRemoveTarget*; Key in lower case, KeyRx as written, both about names in lower case
}

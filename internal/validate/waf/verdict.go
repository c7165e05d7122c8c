package waf

// A Verdict is what the rules say about a message.
type Verdict struct {
	Score int   // the anomaly score of the rules up to the blocking paranoia level
	Hits  []Hit // in the order in which the rules run
	Block bool  // the score reached the threshold, or a rule denied by itself
	Over  bool  // the budget ended before every rule had been asked
	Cut   bool  // the message blocks by what half of the budget has shown; the rest was not asked
	Cost  int64 // work done, in the budget's unit: about a nanosecond
}

// Reset empties v and keeps the room.
func (v *Verdict) Reset() { *v = Verdict{Hits: v.Hits[:0]} }

// A Hit is one rule that matched one value.
type Hit struct {
	Rule     int    // its id: 942100
	Msg      string // the rule's sentence, macros expanded
	Severity string // CRITICAL, ERROR, WARNING, NOTICE
	Level    int    // paranoia level of the rule, 0 when it has none
	Target   string // the collection as rules write it: ARGS, ARGS_NAMES, REQUEST_HEADERS, REQUEST_LINE ...
	Name     string // the member: "q", "json.note"
	Text     string // what the operator was asked about, transformed; may be secret: mask before it is written anywhere
	Match    string // the part that matched; "" when the operator knows none
}

package gatehouse

// A Decision is the answer of a policy. The zero Decision denies.
type Decision struct {
	Allow   bool
	Reasons []Reason // what decided, in the order of evaluation, for the operator only
}

// A Reason is one rule's part in a [Decision].
type Reason struct {
	Rule   string `json:"rule"`             // id: "guardrail/suspended", "orders/refundOrder/require/amount", "grant", "scope"
	Effect Effect `json:"effect"`           // what this rule said
	Text   string `json:"text,omitempty"`   // its sentence, or the error that made it deny
	Saw    string `json:"saw,omitempty"`    // the values it looked at, secrets left out
	Needed string `json:"needed,omitempty"` // what would have allowed it
}

// An Effect is what one rule contributed.
type Effect string

// The effects. A rule that fails to evaluate has EffectError, which denies.
const (
	EffectAllow Effect = "allow"
	EffectDeny  Effect = "deny"
	EffectError Effect = "error"
)

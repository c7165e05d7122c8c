// Package waf asks rules about the content of messages: the OWASP Core Rule Set
// and a user's own. Practice 8; the attack table's SQL injection, XSS, remote
// code execution and injection.
//
// It owns the compiled engine. Rules are read once and turned into a plan: what
// is known at load is decided at load, each chain of transformations is computed
// once for a value, one pass over a value finds the few rules that can match, and
// only those run their operator. It hides all of that: what goes in are [Facts],
// what comes out is a [Verdict], the one Coraza gives for the same message.
//
// Its work is bounded: a message has a budget, and a value that would go beyond
// it is reported as [Verdict.Over], never silently let through.
//
// It trusts the rules, which the operator chose, and nothing in a message. It
// keeps no text of messages but in a bounded memory of values that no rule
// matched. A forged or lost rule file opens the gate or closes it.
//
// Errors while loading name file, line and column.
//
//	rules, err := waf.Load(waf.Config{Paranoia: 1})
//	facts.Read(&message)              // or filled by who has decoded it already
//	rules.Request(facts, &verdict)
package waf

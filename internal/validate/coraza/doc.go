// Package coraza asks OWASP Coraza, the reference engine, about the content of
// messages. Practice 8.
//
// It owns how the house's settings become Coraza's directives, and how what
// Coraza matched becomes a [waf.Verdict]. It hides Coraza. It is the engine for
// who wants the reference itself (`waf: {engine: coraza}`), at hundreds of times
// the cost, and the oracle that package waf is held against in tests.
//
// A message is one transaction, which ends with it: nothing of a message is kept.
// What Coraza could not read or finish is a verdict that is Over, never a clean one.
//
// It trusts the rules, which the operator chose, and nothing in a message.
// Coraza puts uploaded files into the system's folder for temporary files while
// their message is looked at, and wants that folder writable.
//
// Errors while loading name the file, and line and column where the fault is in
// the rules' syntax.
//
//	engine, err := coraza.Load(waf.Config{Paranoia: 1})
//	facts.Message = message           // nothing else is looked at
//	engine.Request(facts, &verdict)
package coraza

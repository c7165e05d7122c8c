// Package seclang reads rules in SecLang, the language of ModSecurity, Coraza
// and the OWASP Core Rule Set (CRS). Practice 8.
//
// It owns the text of rules and what their words mean: lines, quotes and
// continuations, targets, operators, transformations, actions, chains, markers,
// and the directives that change rules read before. It hides the syntax: what
// leaves it is a [Program] of [Rule] values in the order they run. It reads the
// subset CRS uses. What it does not know is an error, never passed over: a rule
// that is silently left out is a hole nobody sees.
//
// It trusts nothing but the files it is given. Rules decide what is let through,
// so who can change the files can open the gate.
//
// Errors name file, line and column, and the nearest word that is known.
//
//	sources, err := seclang.CRS(seclang.Setup{Paranoia: 1})
//	p, err := seclang.Parse(append(sources, seclang.Source{Name: "own.conf", Text: text}))
//	// own.conf:3:9: unknown variable "REQUEST_HEADER"; did you mean "REQUEST_HEADERS"?
//	for _, item := range p.Items { ... }
package seclang

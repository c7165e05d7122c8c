// Package attack tries real exploits on an API twice: on the bare service, and
// through the gateway that guards it. What works bare must not work there.
//
// It owns the rows of the table, their payloads and the words of their proofs. It
// hides how places for them are found, from an OpenAPI document; how each is
// written, in many ways; and how a limit is waited for. It sends DELETE never, and
// puts back what it changed as well as it can.
//
// Whose a target is, and a request that an operation takes, it tells other audits
// as well: [Own] and [Right].
//
// It trusts nobody about whose a target is: one that is not on this machine has to
// answer [ProofPath] with a word of this run, names are resolved once, redirects
// are not followed. A gateway that does not answer protects nothing: such a try is
// [Undecided]. Errors are [ErrNotURL], [ErrNoOperation], [ErrNotProved] and
// [ErrNoAnswer], before anything was attacked, and the context's; what ends a run
// early is in its report.
//
//	report, err := attack.Run(ctx, attack.Config{Bare: service, Through: gateway, Documents: documents, Requests: 8000, Time: time.Minute})
//	for _, row := range report.Rows {
//		for _, t := range row.Tries {
//			if t.Verdict == attack.GotThrough {
//				fmt.Fprintln(w, t.Name, t.Variant, t.Bare, t.Proof)
package attack

// Package posture audits the house while it runs. Its first audit is the OAuth
// proof: the checklist of RFC 9700 and the classes of the advisories that other
// authorization servers had, tried over plain HTTP against the live server, and a
// report for each of its clients; practices 1 and 6.
//
// Its second is the [Tuner], which learns from the record which rules of the WAF
// meet what is harmless; practice 8. It proposes and never changes anything.
//
// It owns the probes and their words. It hides how each is tried: by requests of
// its own making, one at a time but where a race is what is tried, at most 600 of
// them in at most 30 seconds. With the server's data it makes a user and some
// clients named prove-…, and removes them at the end, whatever happened.
//
// It trusts nothing the server says of itself. It holds the credentials of what it
// made, in memory; evidence names requests, states and error codes, never a token.
// A probe that could not be tried as planned has failed: only what is out of reach
// by configuration is left out, and the report says so.
//
//	proof, err := posture.ProveOAuth(ctx, posture.ProofConfig{Issuer: issuer, HTTP: client, OAuth: as, People: people})
//	for _, r := range proof.Results {
//		if r.Verdict == posture.Fail {
//			fmt.Fprintln(w, r.ID, r.Says, r.Evidence, r.Fix)
package posture

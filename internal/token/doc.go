// Package token is JWTs in and out: strict verification of access tokens, DPoP
// proofs and client assertions, the key sets that verify them, and the keys
// with which Gatehouse itself signs, seals and opens; practices 1 and 12.
//
// It owns the grammar of a token (RFC 7515 compact serialization, RFC 7519
// claims, RFC 9068 access tokens, RFC 7516 around them), the life of a key set
// (fetched, cached, refreshed, stale, gone), the memory of used proofs and the
// key files. It hides every JOSE library: nobody else chooses an algorithm or
// splits a token at its dots.
//
// It trusts the operator's issuer URL, the TLS connection to it ([Fetcher]),
// the clock within the leeway, and the key files. Who can write an
// issuer's key set, or read the signing key file, can be anybody at every API
// of that issuer. To lose the signing key file costs one rotation: services
// refuse internal tokens until they have fetched the new key set. The caches
// may be lost at any time and cost one signature check a token to refill. The
// sealing key file must be in the backup: what it sealed at rest is lost with
// it. The memory of used proofs is no cache: while it is empty after a restart,
// a proof of the last minute could be used again ([Proofs] says when not).
//
// What a caller did wrong is a [gatehouse.Problem] of kind Unauthenticated
// (reasons token_invalid, token_expired, token_audience); the precise cause is
// in its Err, for the operator only. An issuer whose keys cannot be had is kind
// Overloaded, reason issuer_unavailable: never a 401 and never a pass. Proofs
// answer with [ErrProof], [ErrUseNonce], [ErrProofsFull] and [ErrProofsAway], as what those mean
// on the wire differs between an API and the token endpoint.
// Challenges are left to authn, which knows the realm.
//
//	keys, err := token.NewKeySet(token.KeySetConfig{Issuer: iss}, egressClient)
//	go keys.Run(ctx)
//	v, err := token.NewVerifier(token.VerifierConfig{Issuer: iss, Audiences: []string{"orders"}}, keys)
//	claims, err := v.Verify(ctx, raw)
//	cache.Put(raw, claims, principal)
package token

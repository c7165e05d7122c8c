// Package authn answers who is calling; practices 1 and 12.
//
// It owns the ways a caller proves who it is (a JWT of a configured issuer, an
// API key, a client certificate), where such a proof may stand in a request,
// the API keys themselves, and the challenges of a 401. It hides how a proof is
// checked and that checked tokens are remembered.
//
// A proof stands in exactly one place: one Authorization header, or one API key
// header; never in a query, a cookie or a forwarded X-Client-Cert. Two proofs
// are refused, because a service behind might believe the other one. On a public
// operation a proof of a kind it accepts is checked all the same, so that nobody
// who believes to act as himself is served as a stranger.
//
// A token of our own server may also be opaque or encrypted; once checked it is
// remembered like any other. What depends on the request is asked each time: is
// it revoked (our own), for this API, bound to this certificate or to the key of
// this DPoP proof, is the sign-in strong and recent enough, does it carry the
// authorization details. Who asks for these of an operation takes no API keys there.
//
// A key that belongs to a user (its owner begins with usr_) can do what that user
// can: it loses the roles the owner loses, and is refused while the owner is locked,
// in another tenant, or gone. Who the users are is asked of [Owners].
//
// It trusts the issuers' key sets (token), the listener's verification of
// certificates (pki) and the table api_keys (store). Who can write the table can
// be anybody; who can only read it learns owners and scopes, not keys: each is
// 256 random bits of which only the SHA-256 is kept (a slow hash protects
// guessable passwords and would only slow these down). Losing the table refuses
// all keys. A database that can not be read for two seconds does, too: a
// revoked key must not live on because nobody could ask. So do owners that can not
// be asked. Of our own server's
// opener and revocations it believes every word, and refuses while they fail; the
// memory of DPoP proofs is bounded, and refuses when it is full.
//
// Every error of Authenticate is a gatehouse.Problem: Unauthenticated with
// challenges after RFC 6750 §3, RFC 9449 §7.1, RFC 9470 §3 and RFC 9728 §5.1, Malformed for two proofs,
// Overloaded when it can not be known. The caller reads the same for an unknown,
// a revoked and an expired key; the cause is in Err, for the operator.
//
//	keys, err := authn.NewKeys(ctx, authn.KeysConfig{DB: db, Environment: "live", Log: log})
//	keys.Follow(ctx, owners)
//	go keys.Run(ctx, report)
//	a, err := authn.New(authn.Config{Realm: "orders", Issuers: issuers, Keys: keys, Roles: roles})
//	ways, err := authn.WaysOf(operation.Security, schemes, configured)
//	accept, err := a.Accept(ways)
//	who, err := a.Authenticate(ctx, r, "https", accept)
package authn

// Package egress is the one way out: every call Gatehouse makes to a third party
// on its own account (issuers' keys, discovery, webhooks, vendors) goes through
// its [Client]; practice 12.
//
// It owns timeouts, TLS, the size of answers and which addresses may be dialled.
// It hides net/http's defaults, none of which is right here: proxies from the
// environment, redirects, unlimited bodies, no deadline. Upstreams of protected
// APIs are not its business: gateway owns those.
//
// It trusts the operator's list of allowed hosts and the system's certificate
// roots. A name server is not trusted: addresses are checked when they are
// dialled, so an answer that changes between check and use changes nothing.
// It stores nothing. Who could write its allow list could make Gatehouse read
// the cloud's metadata service (server-side request forgery, OWASP API7).
//
// Errors name the URL's host, never its query or the answer's content; a refused
// address wraps [ErrRefused]. Nothing here is a Problem: what a failed call means
// to a caller is known only where it was made.
//
//	out, err := egress.New(egress.Config{Allow: []string{"login.internal.example:8443"}})
//	keys, err := token.NewKeySet(token.KeySetConfig{Issuer: issuer}, out)
//	body, header, err := out.Fetch(ctx, "https://login.internal.example:8443/jwks")
package egress

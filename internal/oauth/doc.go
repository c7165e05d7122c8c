// Package oauth is the central authorization server (OAuth 2.1, OpenID Connect
// Core): who may act for whom, at which API, for how long; practices 1 and 6.
//
// It owns the clients, grants, codes, refresh tokens, consents and the endpoints
// under the issuer's URL; the sign-in pages are its inner room. It hides the
// formats of what it issues. Only the code flow with PKCE S256 exists here:
// implicit, hybrid and password grants, plain challenges and alg none have no code.
//
// It trusts identity for who a browser is, the signing keys (who reads them is
// every user at every API), and the sealing key (who reads it can make refresh and
// opaque tokens of grants that live). Who can write its tables can be any client.
// Of codes and secrets the tables hold digests only, of refresh tokens nothing:
// they are computed. Losing the tables signs every client out.
//
// Every step of the protocol that must happen once is one statement of SQL: a code
// is consumed before anything is minted, a refresh token advances its family by
// compare-and-swap. What is broken is server_error or 503, never a token.
//
//	as, err := oauth.New(ctx, oauth.Config{Issuer: issuer, DB: db, Keys: keyring, Seal: seal, People: people, Log: changes})
//	go as.Run(ctx, report)
//	route.Service = as.Handler()      // all endpoints, served through the gateway
//	authnConfig.Opaque = as           // opaque tokens at the gateway
//	secret, client, err := as.CreateClient(ctx, actor, oauth.Metadata{ClientName: "Orders", …})
package oauth

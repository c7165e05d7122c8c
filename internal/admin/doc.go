// Package admin is the management of users, groups, clients, API keys and tokens,
// for programs: practices 1 and 6. The API is one of the house itself, served
// through the gateway like any other.
//
// It owns how those things look as JSON, what an administrator may hand out, and
// the acts that need several rooms at once (see [Desk]). It hides the paging. Its
// OpenAPI document, with the grant each operation wants, is
// internal/plan/builtin/admin.openapi.yaml: the gateway authenticates, authorises,
// validates and records by it before a request comes here.
//
// Nobody hands out more than they have: roles are given, and whoever has them is
// changed, by callers who hold them too, or who have the grant
// gatehouse.roles:write. Without that rule a helpdesk could set the password of an
// administrator and be one. To lock out, sign out and revoke is always allowed.
//
// It keeps no data. It trusts the principal in the request's context, which only
// the gateway puts there; a request without one is refused. Who can make that up,
// or run code here, can be anybody.
//
// Refusals are [gatehouse.Problem]s, which the gateway renders. What is broken or
// unreachable is a 500 or 503, and then nothing was changed that the log of
// changes does not have.
//
//	desk := admin.Desk{People: people, OAuth: as, Keys: keys, Keyring: keyring, Seal: sealer, Log: changes}
//	api, err := admin.New(admin.Config{Desk: desk, Roles: roles, Base: "/gatehouse/v1"})
//	route.Service = api
package admin

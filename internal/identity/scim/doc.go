// Package scim lets an identity provider keep users and groups here in step with
// its own: SCIM 2.0 (RFC 7643, RFC 7644), with the dialects of Okta and Microsoft
// Entra ID; practices 1 and 2.
//
// It owns the resources' schemas, filters, paths and patches, and hides that users
// and groups are rows. It keeps nothing itself: what has no column of its own lies
// in the user's claim "scim".
//
// It trusts its caller with every user and group: it decides nothing about who may
// call, the gateway in front does. Who may call can make anybody a member of any
// group, with the roles that it has, and where the config says so set anybody's
// password; give roles otherwise, or read a password, it can not. A user made
// inactive is locked: the sessions end and the tokens die.
//
// Refusals are SCIM errors (RFC 7644 §3.12) with scimType; what the caller sent is
// not echoed. What is broken is 500 and changes nothing.
//
//	handler, err := scim.New(scim.Config{Directory: people, Base: "https://id.example.com/scim/v2"})
//	// GET    /scim/v2/Users?filter=userName eq "alice"
//	// PATCH  /scim/v2/Users/usr_… {"Operations": [{"op": "replace", "path": "active", "value": false}], …}
//	// DELETE /scim/v2/Groups/grp_…
package scim

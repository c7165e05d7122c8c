// Package crowdsec speaks with the local API of CrowdSec (LAPI, version 1.4 and
// later): it follows the decisions there are, as a bouncer does, and hands in alerts
// with decisions of ours, as a machine does. Practice 10.
//
// It owns the protocol; what becomes of a decision is the guard's to say. It trusts
// the LAPI: who controls it can shut out anyone whom the config does not allow.
// Decisions are kept in memory, bounded, and read whole again at each start; while
// the LAPI is away those known stand until they expire.
//
// Errors are for the operator and name the LAPI's host, never the key or the password.
//
//	c, err := crowdsec.New(crowdsec.Config{URL: "http://127.0.0.1:8080", Key: key, HTTP: client})
//	list, err := c.Decisions(ctx)
//	err = c.Alert(ctx, []crowdsec.Decision{{Prefix: prefix, Until: until, Scenario: "gatehouse/requests"}})
package crowdsec

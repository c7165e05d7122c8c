// Package gatehouse holds the nouns every room speaks in: [Principal],
// [Operation], [Decision], [Problem], [Event] and [Secret].
//
// It imports only the standard library and does no I/O. The zero value of each
// noun is the safe one: nobody, an operation without access, a denial, an
// internal error whose cause is withheld, an empty secret.
package gatehouse

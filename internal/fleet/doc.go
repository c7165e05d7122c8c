// Package fleet makes one house of several nodes that share a database: the same
// keys on all of them, who they are, and which one does what only one may do.
//
// It owns the keys of the house where they are in the database ([Keys], a
// token.Keeper), sealed under a secret that never is. It hides revisions: of two
// nodes that change a document at once one is told to begin anew with the other's.
//
// It trusts the database for order and durability, never for secrecy: who reads it
// all has ciphertext, who writes it can make nodes refuse keys and cannot give them
// his own; older rows, which are genuine, he can give to a process that has not had
// later ones. Who has the fleet's key and the database can be anybody at every API.
// To lose the fleet's key costs all keys of the house, and with the sealing keys
// everything at rest they sealed: it must be in a backup, and not beside the
// database's. A node that cannot read the database goes on with the keys it has.
//
// Errors are for the operator and name the document and the way out; no key is in
// one.
//
//	keys, err := fleet.OpenKeys(ctx, fleet.KeysConfig{DB: db, Key: secret, Changes: changes})
//	taken, err := keys.TakeIn(ctx, token.Files("data"), names)
//	signer, err := token.OpenSigner(keys, "internal-token.jwks", token.ES256)
package fleet

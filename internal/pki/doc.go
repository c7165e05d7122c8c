// Package pki holds the certificates Gatehouse shows and the ones it believes:
// practices 3 and 12.
//
// It owns the server certificate of a listener (operator's files, or a
// self-made local CA that renews its leaf in memory), the rules every TLS
// listener follows, and client certificates for tests and demo. It hides
// renewal, reloading and the file format.
//
// It trusts the folder of the local CA: who reads local-ca.pem can pretend to be
// this gateway, and any client, to everybody who trusts ca.pem. To keep that
// harmless for the rest of the web the CA is name-constrained (RFC 5280
// §4.2.1.10) to private names and addresses and the names it was made for. To
// lose the folder costs one round of handing out the new ca.pem. Key files are
// 0600 and appear whole or not at all.
//
// Errors are for the operator and name the file. A listener without a usable
// certificate does not start; a reload that fails keeps the old certificate and
// says why. A stranger gets a TLS alert and nothing else.
//
//	ca, err := pki.LocalCA("data/ca", []string{"localhost"})
//	source, err := ca.Server([]string{"localhost"})
//	conf, err := pki.ServerConfig(source, pki.Clients{Mode: pki.ClientsOptional, Pool: ca.Pool()})
//	fmt.Fprintln(w, ca.TrustLine("https://localhost:8443/"))
package pki

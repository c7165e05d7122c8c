// Package demo is an order API that is INTENTIONALLY VULNERABLE. Never give it
// real data, never let it listen beyond loopback. It serves no practice: it is
// what the twelve practices are shown on. `gatehouse demo` puts the gateway in
// front of it and prints what the bare API does and what is left of it behind.
//
// It is written as carelessly as real ones are: SQL, HTML, shell lines, templates,
// LDAP filters, paths and heads of answers from strings, object ids without an
// owner check, sessions anybody can make, every field of a body into the table,
// every column of the table into the answer, an export without login, errors with
// stack traces. Each handler says which; `gatehouse attack` tries them all. Its
// OpenAPI documents are honest: they name every operation that is meant to be there,
// what inputs are meant to look like, and what answers are meant to hold.
//
// It owns one SQLite file and a folder of documents, and hides nothing. It trusts
// everyone, which is the point; losing or forging its data costs nothing. Only the
// reader's machine is guarded, not the API: callers that are not on loopback,
// other host names and what web pages of other origins send are refused with 403,
// no file outside the folder is read, nobody beyond loopback is called, and the
// shell can write no file and dies after two seconds. Errors look like a stack trace.
//
//	api, err := demo.New(ctx, dir)
//	defer api.Close()
//	srv := httptest.NewServer(api.Handler()) // or any server on 127.0.0.1
//	resp, err := http.Get(srv.URL + "/customers/bob") // card number included
package demo

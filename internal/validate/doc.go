// Package validate decides whether the input is right. Practice 8.
//
// It owns OpenAPI documents compiled into operations: the [Router] that finds
// one, the strict parsers of paths, queries, headers, cookies, forms, uploads, XML
// and media types, the measure of GraphQL documents, the check of bodies and
// answers, and the search for what answers give away. It hides how schemas are compiled
// (the inner package jsonschema) and which library reads the file.
//
// What is not in the document is refused: undeclared operations, parameters and
// content types, bodies nobody asked for. What could be read in two ways is
// refused before any schema is asked: doubled scalars and keys, bad escapes,
// invalid UTF-8, ';' in a query, charset=utf-16, a second document behind the
// first. What passes is written afresh ([Head.Path], [Head.Query], [Body.Bytes]) so
// that the service cannot read another message than the gateway did. A file too
// long to hold streams; what is wrong behind it ends [Body.Stream] in an error, so
// that the service never takes for whole what was not.
//
// It trusts the document, which the operator wrote; local files it refers to
// must lie beside or below it, and references to other hosts are refused. It
// keeps nothing about requests. Who can change the document decides what the
// gateway lets through.
// A document may come from another team: a file may have 64 MiB and about four
// million values, its aliases stand for one million, an operation take a thousand
// parameters. What is larger is refused before it costs memory.
//
// Errors while loading name file, line and column. Errors of requests are
// [*gatehouse.Problem]: 400 for a fault of form, 422 for one of the schema, 413
// and 415 for the body's size and type, 502 bad_response for an answer, 503
// when a check could not finish.
//
//	doc, err := validate.LoadFile("orders.yaml", validate.Options{API: "orders"})
//	route, path, err := router.Match(r.Host, r.Method, r.URL.EscapedPath(), nil)
//	op := doc.Operations()[route]
//	values, err := op.Head(r, path, nil, &head) // head.Path, head.Query go on
//	err = op.Body(r, &body)                     // body.Bytes or body.Stream go on, with body.Header
package validate

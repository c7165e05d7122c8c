// Package jsonschema checks JSON against compiled JSON Schemas and writes it
// anew in the same go. It is the heart of practice 8 (validate input).
//
// It owns the reading of JSON that strangers send: one strict scan turns the
// bytes into canonical bytes and a flat tape of values; the schema, compiled
// when the document is loaded, walks the tape. What a service gets are the
// canonical bytes, never the caller's, so that it cannot read another message
// than the one that was checked: a duplicate name, invalid UTF-8, a lone
// surrogate, a second document, an escape written two ways, a number no double
// can hold are refused or gone.
//
// It hides the tape, the compiled nodes and the decimal arithmetic. It trusts
// the schema's author for meaning but not for cost: patterns run in linear
// time, nested alternatives share one budget of work, a schema that refers to
// itself without descending does not compile. Whoever can forge a schema can
// let any input through: documents come from the operator's disk.
//
// A refusal is an [*Error]: its Violations carry a JSON Pointer (RFC 6901), the
// keyword and what was expected; they never hold the value. A schema that does
// not compile gives an error that names its place.
//
//	c := jsonschema.NewCompiler(jsonschema.Options{AssertFormats: true})
//	err := c.AddResource("orders.json", tree)
//	order, err := c.Compile("orders.json#/components/schemas/Order")
//	clean, err := order.Append(nil, body)
//
// Sources: JSON RFC 8259, I-JSON RFC 7493, JSON Schema 2020-12, 2019-09,
// draft 7 and draft 4, OpenAPI 3.0.4 §4.7.24 and 3.1.1 §4.8.24.
package jsonschema

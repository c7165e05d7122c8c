// Package config owns the one gatehouse.yaml: its shape, its strict reading, its
// JSON Schema and the text `gatehouse init` writes; practice 5.
//
// It owns what a setting is called, which values it takes and what it is worth
// when left out. It hides YAML: nothing outside sees a node. It knows neither CEL
// nor OpenAPI: what another room compiles leaves here as a [Text], a string that
// knows its [Place], so that the room's own error can point into the file.
//
// It trusts the file as the owner's word, but not as well-formed: unknown keys,
// keys given twice, anchors, aliases, merge keys, tags, several documents, files
// over 4 MiB and nesting over 64 levels are errors, because each of them is a way
// in which what a person reads and what the gateway obeys can differ. Whoever can
// write the file owns the gateway. Secrets are never in it: a [Secret] is read
// from a file of its own, named as ${file:/path}.
//
// All errors come at once, as errors.Join of [*Error] in the order of the file:
//
//	gatehouse.yaml:12:5: unknown key "upstrem" in apis.orders; did you mean "upstreams"?
//
// Zero settings refuse: an API without upstreams, a listener without TLS or a
// written reason, an issuer without audience do not load.
//
//	f, err := config.Load("gatehouse.yaml")
//	if err != nil {
//		return err // names every fault with its place
//	}
//	for name, api := range f.APIs { … }
package config

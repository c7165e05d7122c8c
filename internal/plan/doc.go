// Package plan is a config compiled as far as it can be without touching the
// network or a database: documents loaded, rules typed and compiled, limits
// parsed, routes laid. Practices 2, 5, 11 and 12.
//
// It owns what check, test, access-matrix and effective answer, and the snapshot
// that server makes ready to serve. It hides how the rooms' own configs follow
// from the file.
//
// It trusts the config and the documents it names, as their owner's word. It
// stores nothing. A plan that has an error does not exist: nothing of a config
// is put to work unless all of it is right.
//
// Errors are joined, each with file, line and column.
//
//	p, err := plan.Compile("gatehouse.yaml")
//	for _, t := range p.RunTests() { … }
//	rows := p.Matrix()
package plan

//go:build !race

package http1

const lentIsPoisoned = false

func lentBytes([]byte) {}

func lentFields(f []Field) []Field { return f }

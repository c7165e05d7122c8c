//go:build race

package http1

// lentIsPoisoned: under the race detector what a [Conn] or a handler's request lent
// is filled with nonsense when its exchange is over, and never used again, so that
// whoever kept it is found out.
const lentIsPoisoned = true

const lentPoison = "POISONED"

func lentBytes(b []byte) {
	for i := range b {
		b[i] = lentPoison[i%len(lentPoison)]
	}
}

func lentFields(f []Field) []Field {
	f = f[:cap(f)]
	for i := range f {
		f[i] = Field{lentPoison, lentPoison}
	}
	return nil
}

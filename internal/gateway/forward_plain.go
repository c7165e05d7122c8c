package gateway

import (
	"net/http"
	"strings"

	"github.com/gatehouse-api/gatehouse/internal/http1"
)

// A headWriter writes an answer's head from fields in order, without the map of
// net/http. It keeps nothing of fields. length is the body's; -1: not known, which
// the writer says in its own way. Names are canonical; Connection,
// Transfer-Encoding and Content-Length are the writer's to say, and Date where the
// service said none.
type headWriter interface {
	WriteHead(status int, fields []http1.Field, length int64)
}

// answerPlain sends the head of an answer without anything unusual to a caller
// whose writer takes it as it is. It gives what writeFields and WriteHeader would
// have given, without a map between; where it does nothing they have to.
func (f *flight) answerPlain(a *answer) bool {
	w, ok := f.w.(headWriter)
	if !ok || f.x.Watch != nil || len(f.w.Header()) > 0 {
		return false
	}
	out := append(f.fields[:0], f.own...)
	guessed := true // by browsers, which know better than a service what it sent
	for i := range a.fields {
		switch n := &a.fields[i]; n.Name {
		case "Trailer":
			return false
		case "Content-Type":
			if isEventStreamType(n.Value) {
				return false
			}
			out = append(out, *n)
		case "Connection":
			if !strings.EqualFold(n.Value, "keep-alive") && !strings.EqualFold(n.Value, "close") {
				return false
			}
		default:
			if answerFieldStays(n.Name) && !f.isOwn(n.Name) {
				out = append(out, *n)
				guessed = guessed && n.Name != "X-Content-Type-Options"
			}
		}
	}
	if guessed {
		out = append(out, http1.Field{Name: "X-Content-Type-Options", Value: "nosniff"})
	}
	f.fields = out
	length := a.length
	if !f.lengthTold(a) || length == 0 && (a.status == http.StatusNoContent || a.status == http.StatusNotModified) {
		length = -1
	}
	f.res.Committed, f.x.begun = true, true
	w.WriteHead(a.status, out, length)
	return true
}

// isOwn reports whether the answer has such a field of ours, which a service does
// not change.
func (f *flight) isOwn(name string) bool {
	for i := range f.own {
		if f.own[i].Name == name {
			return true
		}
	}
	return false
}

// tell puts our own fields into the map, for an answer that is not plain.
func (f *flight) tell() {
	if len(f.own) == 0 {
		return
	}
	h := f.w.Header()
	for i := range f.own {
		h[f.own[i].Name] = []string{f.own[i].Value}
	}
	f.own = nil
}
